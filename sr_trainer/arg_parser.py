"""The command line: which file of settings, which mode, which options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from toolbox.predict_settings import PredictParams
from toolbox.task import inspecting_tasks

MODES = ("train", "test", "predict", "export", "inspect")
#: How they are shown: the last one needs no settings file.
_SHOWN = "{train,test,predict,export}|inspect"
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
  main.py input.yml export --format onnx      write the network for other programs
"""


class ArgParser:
    """Parses ``[-h] yml_fname {train,test,predict,export}|inspect [input] [options]``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.

    Attributes
    ----------
    args : argparse.Namespace
        ``yml_fname`` (None with ``--pretrained``, and for ``inspect`` without a model), ``mode``,
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
        # Before Python 3.14, -3.4e38 passes for an option.
        parser._negative_number_matcher = _NEGATIVE
        if not self._has_no_file(arguments):
            parser.add_argument(
                "yml_fname",
                help="filename including input parameters (.yml), or the log folder of a run",
            )
        parser.add_argument("mode", choices=MODES, metavar=_SHOWN, help="execution mode")
        parser.add_argument(
            "input", nargs="?", help="predict, inspect: map, image, or folder of them"
        )
        self._add_shared(parser)
        _add_settings(parser.add_argument_group("predict"))
        self.args = parser.parse_intermixed_args(arguments)
        self._check(parser)

    def _has_no_file(self, arguments: Sequence[str] | None) -> bool:
        """Tell whether the mode comes first: ``predict --pretrained NAME map.tif``."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        self._add_shared(first)
        _add_settings(first)
        first.add_argument("words", nargs="*")
        first._negative_number_matcher = _NEGATIVE
        known, _ = first.parse_known_intermixed_args(arguments)
        return bool(known.words and known.words[0] in MODES[2:])

    def _add_shared(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "-o", "--output", help="predict, export, inspect: file or folder to write"
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
        if args.mode not in ("predict", "inspect") and args.input is not None:
            parser.error(f"{args.mode} takes no further file; received {args.input}")
        if args.yml_fname is None and not args.pretrained and args.mode != "inspect":
            parser.error(f"{args.mode} needs a settings file, a log folder, or --pretrained NAME")
        if args.pretrained and (not using or args.yml_fname):
            parser.error(
                "--pretrained is for predict and export, or inspect, without a settings file"
            )
        if args.mode == "export" and args.format is None:
            parser.error(f"export needs --format, one of {', '.join(FORMATS)}")
        if args.resume and args.mode != "train":
            parser.error("--resume is for train; predict goes on by itself")
        if args.baselines and args.mode != "train":
            parser.error("--baselines is for train; a test compares with those that are there")
        if args.algo and using:
            parser.error(
                f"--algo is for train and test; {args.mode} takes the log folder of the network"
            )
        if args.output and not using:
            parser.error(f"{args.mode} takes no --output; set log_dir in the settings")
        known = {name for task in inspecting_tasks() for name in task.inspect_options}
        foreign = [name for name in self.settings() if args.mode != "inspect" or name not in known]
        if args.mode != "predict" and foreign:
            parser.error(f"--{foreign[0].replace('_', '-')} is for predict")

    def settings(self) -> dict[str, Any]:
        """Return the settings of `PredictParams` that the command line gives."""
        given = {name: getattr(self.args, name) for name in PredictParams.model_fields}
        return {name: value for name, value in given.items() if value is not None}

    def get_fname(self) -> str:
        """Return the name of the settings file, or of the log folder."""
        return str(self.args.yml_fname)

    def get_mode(self) -> str:
        """Return the mode: train, test, predict, export or inspect."""
        return str(self.args.mode)


def _add_settings(group: Any) -> None:
    """Add an option for every setting of `PredictParams`."""
    for name, field in PredictParams.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            action = argparse.BooleanOptionalAction
            group.add_argument(option, action=action, default=None, help=field.description)
        elif name == "weights":
            group.add_argument(option, nargs="+", metavar="FILE", help=field.description)
        else:
            group.add_argument(option, help=field.description)
