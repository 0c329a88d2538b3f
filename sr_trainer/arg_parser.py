"""The command line: settings file, mode and options."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from toolbox import __version__
from toolbox.command_line import OneLineParser
from toolbox.config import Settings
from toolbox.errors import did_you_mean, nearest_name
from toolbox.predict_settings import PredictParams
from toolbox.pretrained import pretrained_names
from toolbox.settings import Distributions
from toolbox.task import inspecting_tasks, measuring_task

MODES = ("train", "test", "predict", "export", "inspect", "measure", "doctor")
#: The modes as usage and help show them; the last three need no settings file.
_SHOWN = "{train,test,predict,export}|inspect|measure|doctor"
_NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)
#: Options that show the help or the version, whatever else is given.
_SHOWING = {"-h", "--help", "--version"}
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
        parser = OneLineParser(
            description="Train, test, use or export a super-resolution network; inspect maps, "
            "measure SEM pictures, or check the installation (doctor).",
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
        if not _SHOWING & set(unknown):
            _check_unknown(parser, unknown)
            if not words:
                _end_with_examples(parser)
            _check_mode(parser, words)
        self.args = parser.parse_intermixed_args(arguments)
        self._check(parser)

    def _words(self, arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """Return the words, of which a mode is the first if it has no file, and unknown options."""
        first = OneLineParser(add_help=False, allow_abbrev=False)
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
        parser.add_argument(
            "--distribution",
            choices=get_args(Distributions),
            help="train: devices, instead of distribution in the settings",
        )
        parser.add_argument("--algo", metavar="NAME", help="train, test: use this network")
        parser.add_argument("--format", choices=FORMATS, help="export: file format")

    def _check(self, parser: argparse.ArgumentParser) -> None:
        """Refuse options and files that the mode does not accept."""
        self._check_files(parser)
        self._check_options(parser)
        self._check_settings(parser)

    def _check_files(self, parser: argparse.ArgumentParser) -> None:
        """Refuse files and networks that are missing or too many."""
        args, mode, prog = self.args, self.args.mode, parser.prog
        network = args.yml_fname
        if mode == "predict" and args.input is None:
            given = f"{network} predict" if network else "predict --pretrained bathymetry_x4"
            parser.error(f"predict needs a map or image: {prog} {given} map.tif")
        if mode == "inspect" and args.input is None:
            parser.error(f"inspect needs a map or a folder of maps: {prog} inspect map.tif")
        if mode == "measure" and args.input is None:
            parser.error(f"measure needs a picture or a folder: {prog} measure picture.tif")
        if mode == "measure" and (network or args.pretrained):
            parser.error(f"measure works without a network: {prog} measure picture.tif")
        if mode not in ("predict", "inspect", "measure") and args.input is not None:
            parser.error(f"{mode} accepts no further file; received {args.input}. Leave it out.")
        if mode == "doctor" and (network or args.pretrained):
            parser.error(f"doctor checks the installation, not a network: {prog} doctor")
        if network is None and not args.pretrained and mode in ("predict", "export"):
            rest = "map.tif" if mode == "predict" else "--format onnx"
            parser.error(
                f"{mode} needs a settings file, a log folder, or --pretrained with one of "
                f"{', '.join(pretrained_names())}: "
                f"{prog} {mode} --pretrained bathymetry_x4 {args.input or rest}"
            )
        if args.pretrained and (mode not in MODES[2:] or network):
            parser.error(
                "--pretrained is for predict and export, or inspect, without a settings file; "
                f"received with {network} {mode}. Leave out one of them."
            )

    def _check_options(self, parser: argparse.ArgumentParser) -> None:
        """Refuse options of another mode."""
        args, mode = self.args, self.args.mode
        if mode == "export" and args.format is None:
            parser.error(f"export needs --format, one of {', '.join(FORMATS)}")
        if args.resume and mode != "train":
            parser.error("--resume is for train; an interrupted predict resumes without it")
        if args.baselines and mode != "train":
            parser.error("--baselines is for train; a test compares with those already trained")
        if args.distribution and mode != "train":
            parser.error(f"--distribution is for train; {mode} uses one device")
        if args.algo and mode in MODES[2:]:
            networkless = mode in ("measure", "doctor")
            instead = "uses no network" if networkless else "needs the log folder of the network"
            parser.error(f"--algo is for train and test; {mode} {instead}")
        if args.format and mode != "export":
            parser.error(f"--format is for export; received with {mode}. Leave it out.")
        if mode == "doctor" and args.output:
            parser.error(f"doctor accepts no --output; use {parser.prog} doctor > doctor.txt")
        if args.output and mode not in MODES[2:]:
            parser.error(f"{mode} accepts no --output; set log_dir in the settings")

    def _check_settings(self, parser: argparse.ArgumentParser) -> None:
        """Refuse settings of `predict` or `measure` that the mode does not know."""
        mode = self.args.mode
        known = {
            "predict": set(PredictParams.model_fields),
            "inspect": {name for task in inspecting_tasks() for name in task.inspect_options},
            "measure": set(measuring_task().measure_options.model_fields),
        }
        foreign = [name for name in self.settings() if name not in known.get(mode, ())]
        if not foreign:
            return
        owners = [owner for owner, names in known.items() if foreign[0] in names]
        listed = " and ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
        start = f"--{foreign[0].replace('_', '-')} is for {listed}"
        if foreign[0] == "report" and mode in ("inspect", "measure"):
            target = "a page with -o report.html" if mode == "inspect" else "one with -o FOLDER"
            parser.error(f"{start}; {mode} writes {target}")
        parser.error(f"{start}; received with {mode}. Leave it out.")

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


def _check_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """Refuse the first unknown option; the words after it may be its value."""
    given = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    if given is None:
        return
    known = [option for option in parser._option_string_actions if option.startswith("--")]
    longer = [option for option in known if option.startswith(f"{given}-")]
    hint = f" Did you mean {longer[0]}?" if longer else nearest_name(given, known).replace("'", "")
    parser.error(f"unknown option {given}.{hint}")


def _check_mode(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Refuse words without a known mode in its place, and words after the input."""
    first, *rest = words
    if first in MODES[:5] and rest and Path(rest[0]).suffix in (".yml", ".yaml"):
        example = " ".join([parser.prog, rest[0], first, *rest[1:2]])
        parser.error(f"the settings file comes first: {example}")
    if first in MODES[:2] and not (rest and rest[0] in MODES):
        parser.error(f"{first} needs a settings file: {parser.prog} input.yml {first}")
    if first in MODES[2:] or (rest and rest[0] in MODES):
        further = rest[1:] if first in MODES[2:] else rest[2:]
        if further:
            parser.error(f"expected one input; received also {further[0]}. Name a folder instead.")
        return
    is_file = Path(first).exists() or Path(first).name != first or Path(first).suffix
    if not is_file and (nearest_name(first, MODES) or not (rest and nearest_name(rest[0], MODES))):
        parser.error(f"unknown mode {first!r}. {did_you_mean(first, MODES)}")
    modes = f"mode must be one of {', '.join(MODES)}"
    if not rest:
        parser.error(f"no mode given: {modes}; received only {first}")
    parser.error(f"{modes}; received {rest[0]!r}.{nearest_name(rest[0], MODES)}")


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
            choices = _choices(field.annotation)
            shown = f"{{{','.join(choices)}}}" if choices else None
            group.add_argument(option, metavar=shown, help=field.description)


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the fixed choices of a setting; empty if there are none."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_choices, get_args(annotation))), ())
