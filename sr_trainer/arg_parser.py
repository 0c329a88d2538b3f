"""The command line: which file of settings, which mode, which options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from typing import Any, get_args

from toolbox import __version__
from toolbox.config import Settings
from toolbox.predict_settings import PredictParams
from toolbox.settings import Distributions
from toolbox.task import inspecting_tasks, measuring_task

MODES = ("train", "test", "predict", "export", "inspect", "measure", "doctor")
#: How they are shown: the last three need no settings file.
_SHOWN = "{train,test,predict,export}|inspect|measure|doctor"
_NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)
FORMATS = ("saved_model", "onnx", "keras", "tflite", "safetensors")
_EPILOG = """\
  main.py input.yml train                     train the network of input.yml
  main.py input.yml test                      test it: tables and pictures of its errors
  main.py input.yml train --algo edsr         train another network, into input_edsr_log
  main.py input.yml predict map.tif           enlarge a map or image, or a folder of them
  main.py log/ predict map.tif                the same, from a log folder alone
  main.py predict --pretrained bathymetry_x4 map.tif     with a model that ships
  main.py inspect map.tif                     say how far a map can be trusted, before that
  main.py log/ inspect map.tif -o page.html   the same against a model's training, with pictures
  main.py measure picture.tif                 widths and roughness of lines in SEM pictures
  main.py measure pictures/ -o measured/      the same of a folder, with tables and a page
  main.py input.yml export --format onnx      write the network for other programs
  main.py doctor                              versions, devices and folders, for a report of a bug
"""


class ArgParser:
    """Parses ``[yml_fname] {train,test,predict,export}|inspect|measure|doctor [input] [options]``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.

    Attributes
    ----------
    args : argparse.Namespace
        ``yml_fname`` (None with ``--pretrained``, for ``inspect`` without a model, and for
        ``measure`` and ``doctor``), ``mode``,
        ``input``, ``output``, ``overwrite``, ``resume``, ``baselines``, ``pretrained``,
        ``format``, ``algo`` (None: as in the file) and the options of `PredictParams`.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description="Train, test or use a super-resolution network.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(yml_fname=None)
        version = f"sr-toolbox {__version__}"
        parser.add_argument("--version", action="version", version=version, help="show the version")
        # Before Python 3.14, -3.4e38 passes for an option.
        parser._negative_number_matcher = _NEGATIVE
        if not self._has_no_file(arguments):
            parser.add_argument(
                "yml_fname",
                help="filename including input parameters (.yml), or the log folder of a run",
            )
        parser.add_argument("mode", choices=MODES, metavar=_SHOWN, help="execution mode")
        parser.add_argument(
            "input", nargs="?", help="predict, inspect, measure: map, image, or folder"
        )
        self._add_shared(parser)
        self._add_options(parser)
        self.args = parser.parse_intermixed_args(arguments)
        self._check(parser)

    def _has_no_file(self, arguments: Sequence[str] | None) -> bool:
        """Tell whether the mode comes first: ``predict --pretrained NAME map.tif``."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        self._add_shared(first)
        self._add_options(first)
        first.add_argument("words", nargs="*")
        first._negative_number_matcher = _NEGATIVE
        known, _ = first.parse_known_intermixed_args(arguments)
        return bool(known.words and known.words[0] in MODES[2:])

    def _add_options(self, parser: argparse.ArgumentParser) -> None:
        _add_settings(parser.add_argument_group("predict"), PredictParams)
        others = PredictParams.model_fields
        _add_settings(
            parser.add_argument_group("measure"), measuring_task().measure_options, others
        )

    def _add_shared(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "-o", "--output", help="predict, export, inspect, measure: file or folder to write"
        )
        former = parser.add_mutually_exclusive_group()
        former.add_argument(
            "--overwrite",
            action="store_true",
            help="replace the run that log_dir already holds, or a former result",
        )
        former.add_argument(
            "--resume",
            action="store_true",
            help="train: go on with that run from its last saved state, if there is one",
        )
        parser.add_argument(
            "--pretrained", help="predict, export, inspect: a model that ships, e.g. bathymetry_x4"
        )
        parser.add_argument(
            "--baselines",
            action="store_true",
            help="train: afterwards the plain networks that the task compares with, too",
        )
        parser.add_argument(
            "--distribution",
            choices=get_args(Distributions),
            help="train: devices, instead of distribution in the settings",
        )
        parser.add_argument("--algo", metavar="NAME", help="train, test: network, instead of model")
        parser.add_argument("--format", choices=FORMATS, help="export: kind of file")

    def _check(self, parser: argparse.ArgumentParser) -> None:
        """Refuse what does not belong to the mode."""
        args = self.args
        using = args.mode in MODES[2:]
        if args.mode == "predict" and args.input is None:
            parser.error("predict needs a map or image: main.py input.yml predict map.tif")
        if args.mode == "inspect" and args.input is None:
            parser.error("inspect needs a map or a folder of maps: main.py inspect map.tif")
        if args.mode == "measure" and args.input is None:
            parser.error("measure needs a picture or a folder: main.py measure picture.tif")
        if args.mode == "measure" and (args.yml_fname or args.pretrained):
            parser.error("measure works without a network: main.py measure picture.tif")
        if args.mode not in ("predict", "inspect", "measure") and args.input is not None:
            parser.error(f"{args.mode} takes no further file; received {args.input}")
        if args.mode == "doctor" and (args.yml_fname or args.pretrained):
            parser.error("doctor looks at the installation, at no network: main.py doctor")
        alone = args.mode in ("inspect", "measure", "doctor")
        if args.yml_fname is None and not args.pretrained and not alone:
            parser.error(f"{args.mode} needs a settings file, a log folder, or --pretrained NAME")
        if args.pretrained and (not using or args.yml_fname):
            parser.error(
                "--pretrained is for predict and export, or inspect, without a settings file"
            )
        if args.mode == "export" and args.format is None:
            parser.error(f"export needs --format, one of {', '.join(FORMATS)}")
        if args.resume and args.mode != "train":
            parser.error("--resume is for train; an interrupted predict resumes by itself")
        if args.baselines and args.mode != "train":
            parser.error("--baselines is for train; a test compares with those that are there")
        if args.distribution and args.mode != "train":
            parser.error(f"--distribution is for train; {args.mode} uses one device")
        if args.algo and using:
            parser.error(
                f"--algo is for train and test; {args.mode} "
                + (
                    "uses no network"
                    if args.mode == "measure"
                    else "takes the log folder of the network"
                )
            )
        if args.format and args.mode != "export":
            parser.error(f"--format is for export; received {args.mode}")
        if args.mode == "doctor" and args.output:
            parser.error("doctor prints: main.py doctor > doctor.txt")
        if args.output and not using:
            parser.error(f"{args.mode} takes no --output; set log_dir in the settings")
        known = {
            "predict": set(PredictParams.model_fields),
            "inspect": {name for task in inspecting_tasks() for name in task.inspect_options},
            "measure": set(measuring_task().measure_options.model_fields),
        }
        foreign = [name for name in self.settings() if name not in known.get(args.mode, ())]
        if foreign:
            owner = "predict" if foreign[0] in known["predict"] else "measure"
            parser.error(f"--{foreign[0].replace('_', '-')} is for {owner}")

    def settings(self) -> dict[str, Any]:
        """Return the settings of ``predict`` or ``measure`` that the command line gives."""
        names = {**PredictParams.model_fields, **measuring_task().measure_options.model_fields}
        given = {name: getattr(self.args, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def get_fname(self) -> str:
        """Return the name of the settings file, or of the log folder."""
        return str(self.args.yml_fname)

    def get_mode(self) -> str:
        """Return the mode: train, test, predict, export, inspect, measure or doctor."""
        return str(self.args.mode)


def _add_settings(group: Any, settings: type[Settings], others: Collection[str] = ()) -> None:
    """Add an option for every setting that `others` does not hold."""
    for name in (name for name in settings.model_fields if name not in others):
        field = settings.model_fields[name]
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            action = argparse.BooleanOptionalAction
            group.add_argument(option, action=action, default=None, help=field.description)
        elif name == "weights":
            group.add_argument(option, nargs="+", metavar="FILE", help=field.description)
        else:
            group.add_argument(option, help=field.description)
