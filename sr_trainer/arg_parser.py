"""The command line: settings file, mode and options."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from toolbox import __version__
from toolbox.config import Settings
from toolbox.predict_settings import PredictParams
from toolbox.task import inspecting_tasks, measuring_task

MODES = ("train", "test", "predict", "export", "inspect", "measure", "doctor")
#: The modes as usage and help show them; the last three need no settings file.
_SHOWN = "{train,test,predict,export}|inspect|measure|doctor"
_NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)
FORMATS = ("saved_model", "onnx", "keras", "tflite", "safetensors")
#: Command lines and what they do; the marked ones are shown if there are no arguments.
_EXAMPLES = (
    ("*", "input.yml train", "train the network of input.yml"),
    ("*", "input.yml test", "test it: tables and pictures of its errors"),
    ("", "input.yml train --algo edsr", "train another network, into input_edsr_log"),
    ("*", "input.yml predict map.tif", "enlarge a map or image, or a folder of them"),
    ("", "log/ predict map.tif", "the same, from a log folder alone"),
    ("", "predict --pretrained bathymetry_x4 map.tif", "the same, with a model that ships"),
    ("*", "inspect map.tif", "report how far a map can be trusted"),
    ("", "log/ inspect map.tif -o page.html", "compare it with a model's training data"),
    ("*", "measure picture.tif", "widths and roughness of lines in SEM pictures"),
    ("", "measure pictures/ -o measured/", "the same for a folder, with tables and a page"),
    ("", "input.yml export --format onnx", "write the network for other programs"),
    ("*", "doctor", "versions, devices and folders, for a bug report"),
)


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
        ``format``, ``algo`` (None: as in the file), and the options of `PredictParams` and
        ``measure``.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description="Train, test or use a super-resolution network.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.epilog = _examples(parser.prog)
        parser.set_defaults(yml_fname=None)
        version = f"sr-toolbox {__version__}"
        parser.add_argument("--version", action="version", version=version, help="show the version")
        # Before Python 3.14, argparse takes -3.4e38 for an option.
        parser._negative_number_matcher = _NEGATIVE
        words, unknown = self._words(arguments)
        if not words or words[0] not in MODES[2:]:
            parser.add_argument(
                "yml_fname",
                metavar="[yml_fname]",
                help="settings file (.yml), or the log folder of a run; train and test require it",
            )
        parser.add_argument("mode", choices=MODES, metavar=_SHOWN, help="what to do")
        parser.add_argument(
            "input", nargs="?", help="predict, inspect, measure: map, image, or folder"
        )
        self._add_shared(parser)
        self._add_options(parser)
        if not words and not {"-h", "--help", "--version"} & set(unknown):
            _end_with_examples(parser)
        self.args = parser.parse_intermixed_args(arguments)
        self._check(parser)

    def _words(self, arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """Return the words, of which a mode is the first if it has no file, and unknown options."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        self._add_shared(first)
        self._add_options(first)
        first.add_argument("words", nargs="*")
        first._negative_number_matcher = _NEGATIVE
        known, unknown = first.parse_known_intermixed_args(arguments)
        return list(known.words), unknown

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
            help="replace an existing run in log_dir, or an existing result",
        )
        former.add_argument(
            "--resume",
            action="store_true",
            help="train: resume the run in log_dir from its last saved state, if there is one",
        )
        parser.add_argument(
            "--pretrained", help="predict, export, inspect: a model that ships, e.g. bathymetry_x4"
        )
        parser.add_argument(
            "--baselines",
            action="store_true",
            help="train: also train the plain networks that the task compares with",
        )
        parser.add_argument("--algo", metavar="NAME", help="train, test: use this network")
        parser.add_argument("--format", choices=FORMATS, help="export: file format")

    def _check(self, parser: argparse.ArgumentParser) -> None:
        """Refuse options and files that the mode does not accept."""
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
            parser.error(f"{args.mode} accepts no further file; received {args.input}")
        if args.mode == "doctor" and (args.yml_fname or args.pretrained):
            parser.error("doctor checks the installation, not a network: main.py doctor")
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
            parser.error("--resume is for train; an interrupted predict resumes without it")
        if args.baselines and args.mode != "train":
            parser.error("--baselines is for train; a test compares with those already trained")
        if args.algo and using:
            parser.error(
                f"--algo is for train and test; {args.mode} "
                + (
                    "uses no network"
                    if args.mode == "measure"
                    else "needs the log folder of the network"
                )
            )
        if args.format and args.mode != "export":
            parser.error(f"--format is for export; received {args.mode}")
        if args.mode == "doctor" and args.output:
            parser.error("doctor accepts no --output; use main.py doctor > doctor.txt")
        if args.output and not using:
            parser.error(f"{args.mode} accepts no --output; set log_dir in the settings")
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
        """Return the settings of ``predict`` or ``measure`` given on the command line."""
        names = {**PredictParams.model_fields, **measuring_task().measure_options.model_fields}
        given = {name: getattr(self.args, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def get_fname(self) -> str:
        """Return the name of the settings file, or of the log folder."""
        return str(self.args.yml_fname)

    def get_mode(self) -> str:
        """Return the mode: train, test, predict, export, inspect, measure or doctor."""
        return str(self.args.mode)


def _examples(prog: str, mark: str = "") -> str:
    """Return the examples whose mark begins with `mark`, one per line."""
    shown = [(f"{prog} {words}", text) for own, words, text in _EXAMPLES if own.startswith(mark)]
    width = max(len(command) for command, _ in shown)
    return "\n".join(f"  {command:{width}}   {text}" for command, text in shown)


def _end_with_examples(parser: argparse.ArgumentParser) -> NoReturn:
    """Print a short usage with examples, instead of all options, and exit with code 2."""
    print(
        f"usage: {parser.prog} [yml_fname] {_SHOWN} [input] [options]\n\n"
        f"{_examples(parser.prog, '*')}\n\n"
        f"{parser.prog}: error: no mode given; {parser.prog} --help lists all options",
        file=sys.stderr,
    )
    raise SystemExit(2)


def _add_settings(group: Any, settings: type[Settings], others: Collection[str] = ()) -> None:
    """Add an option for every setting that is not in `others`."""
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
