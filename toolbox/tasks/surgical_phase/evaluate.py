"""Comparison of predicted phases with the truth, for timelines from any program.

``python -m toolbox.tasks.surgical_phase.evaluate predictions/ truth/ --fps 25 -o figures/``

Both folders hold one text file per video (see `toolbox.tasks.surgical_phase.timeline`) with the
same name: ``video41.txt``, or with a suffix as in ``video41-phase.txt`` and ``video41_pred.txt``.
The frames of the truth are judged; each needs a prediction with the same frame number. Nothing is
cut off, shifted or resampled.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, DataError, not_found, program
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.tasks.surgical_phase.measure import (
    ABSENT,
    FIGURES,
    RELAXED,
    Measured,
    Video,
    definitions,
    measure,
)
from toolbox.tasks.surgical_phase.timeline import NO_PHASE, Timeline, read_timeline

#: What may follow the name of the video in a file name.
_ENDING = re.compile(r"[-_](phases?|pred|predictions?|truth|gt)$", re.IGNORECASE)
#: Columns of a table of frame rates.
_RATE_COLUMNS = ("video", "fps")
#: Largest number of names in a message.
_NAMED = 5
#: Orders of averaging: title, mean and standard deviation in the summary.
_ORDERS = (
    ("phases, then videos", "phases_then_videos", "std"),
    ("videos, then phases", "videos_then_phases", "phase_std"),
)
#: Columns of a confusion matrix that fit a terminal.
_WIDE = 14


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The timelines of two folders, joined.

    Attributes
    ----------
    videos : list of Video
        One per pair of files, sorted by name.
    names : list of str
        Name of each phase, id 0 first.
    notes : list of str
        Notes for readers of the figures.
    """

    videos: list[Video]
    names: list[str]
    notes: list[str]


def compare_folders(
    predictions: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    fps: str | os.PathLike[str] | float | None = None,
    names: Sequence[str] | None = None,
    gaps: bool = False,
) -> Comparison:
    """Read two folders of timelines and join them on frame numbers.

    Parameters
    ----------
    predictions, truth : path-like
        Folders with one ``.txt`` file per video.
    fps : float or path-like, optional
        Frame numbers per second: one rate, or a CSV file with columns ``video`` and ``fps``.
    names : sequence of str, optional
        Name of each phase, id 0 first; default those that occur in the truth, sorted.
    gaps : bool
        Accept missing frames, in the truth too.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If a file has no partner or cannot be read, a frame of the truth has no prediction,
        predictions have frames that the truth lacks, a phase is unknown or a rate is missing.
    """
    pairs = pair_files(Path(predictions), Path(truth))
    rates = _rates(fps, list(pairs))
    notes = []
    joined = []
    for name, (prediction_file, truth_file) in pairs.items():
        prediction, real = read_timeline(prediction_file, gaps), read_timeline(truth_file, gaps)
        rows, note = _join(prediction, real, gaps)
        notes += note
        joined.append((name, prediction, real, rows))
    phases = _phase_names(real for _, _, real, _ in joined) if names is None else list(names)
    videos = [
        Video(name, real.frames, real.ids(phases), prediction.ids(phases)[rows], rates[name])
        for name, prediction, real, rows in joined
    ]
    return Comparison(videos, phases, notes)


def pair_files(predictions: Path, truth: Path) -> dict[str, tuple[Path, Path]]:
    """Return the files of prediction and truth of each video, by name.

    Raises
    ------
    DataError
        If a folder is missing or empty, or a file has no partner.
    """
    found, real = _files(predictions), _files(truth)
    for folder, lonely in (
        (predictions, sorted(set(real) - set(found))),
        (truth, sorted(set(found) - set(real))),
    ):
        if lonely:
            raise DataError(
                f"{folder}: no file for {len(lonely)} video{'s' * (len(lonely) > 1)} of the other "
                f"folder: {_some(lonely)}. Every video needs a prediction and the truth; add "
                f"NAME.txt, or remove its partner."
            )
    return {name: (found[name], real[name]) for name in sorted(real)}


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{not_found(folder, 'folder')}. Expected a folder with a NAME.txt for each video."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")):
        name = _ENDING.sub("", path.stem)
        if name in files:
            raise DataError(
                f"{folder}: {files[name].name} and {path.name} are both for {name!r}. Expected "
                f"one file per video; remove one of them."
            )
        files[name] = path
    if not files:
        raise DataError(f"{folder}: no .txt file. Expected a NAME.txt for each video.")
    return files


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _join(prediction: Timeline, truth: Timeline, gaps: bool) -> tuple[np.ndarray, list[str]]:
    """Return the row of the prediction for each frame of the truth, and notes."""
    missing = np.setdiff1d(truth.frames, prediction.frames)
    if len(missing):
        raise DataError(
            f"{prediction.path}: no prediction for {len(missing)} of the {len(truth.frames)} "
            f"frames of {truth.path} (the first is {missing[0]}); received "
            f"{len(prediction.frames)} frames, {_span(prediction)}. Predict every frame of the "
            f"truth, with the same frame numbers."
        )
    surplus = len(prediction.frames) - len(truth.frames)
    rows = np.searchsorted(prediction.frames, truth.frames)
    if not surplus:
        return rows, []
    if not gaps and not _between(prediction, truth):
        raise DataError(
            f"{prediction.path}: {len(prediction.frames)} frames, {_span(prediction)}; the truth "
            f"{truth.path} has {len(truth.frames)}, {_span(truth)}. Expected the same frames; "
            f"label the others, with phase {NO_PHASE} if they should not be judged."
        )
    return rows, [
        f"{truth.path.name}: joined on frame numbers; {len(truth.frames)} frames of the truth, "
        f"about one in {truth.step}, are judged; {surplus} other predictions are not used"
    ]


def _span(timeline: Timeline) -> str:
    return f"{timeline.frames[0]} to {timeline.frames[-1]}"


def _between(prediction: Timeline, truth: Timeline) -> bool:
    """Return whether the truth covers the same span with fewer frames."""
    before = truth.frames[0] - prediction.frames[0]
    after = prediction.frames[-1] - truth.frames[-1]
    return truth.step > prediction.step and max(before, after) < truth.step


def _phase_names(timelines: Iterable[Timeline]) -> list[str]:
    """Return the phases that occur: numbers in numerical order, then names."""
    found = {phase for timeline in timelines for phase in timeline.phases} - {NO_PHASE}
    if not found:
        raise DataError(f"the truth labels no frame: all have phase {NO_PHASE}. Add phases.")
    numbers = {phase for phase in found if phase.isdecimal()}
    return sorted(numbers, key=int) + sorted(found - numbers)


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Read the names of all phases, one per line, id 0 first.

    Raises
    ------
    DataError
        If the file is missing, empty, not text, or names a phase twice.
    """
    lines = _text(Path(path)).splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: no phases. Expected one name per line, id 0 first.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: lists {twice[0]!r} twice. List every phase once.")
    return names


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{not_found(path, 'file')}. Check the path.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected UTF-8 text. Save it as UTF-8.") from None


def _rates(
    fps: str | os.PathLike[str] | float | None, videos: Sequence[str]
) -> Mapping[str, float | None]:
    """Return the frame rate of each video, Hz."""
    if fps is None:
        return dict.fromkeys(videos)
    number = _positive(str(fps))
    if number is not None:
        return dict.fromkeys(videos, number)
    path = Path(fps if isinstance(fps, os.PathLike) else str(fps))
    if path.suffix.lower() != ".csv":
        raise ConfigError(
            f"--fps must be a positive number, or a .csv with columns "
            f"{' and '.join(_RATE_COLUMNS)}; received {fps}. Give the true rate."
        )
    table = _rate_table(path)
    missing = [name for name in videos if name not in table]
    if missing:
        raise DataError(
            f"{path}: no frame rate for {len(missing)} of {len(videos)} videos: {_some(missing)}. "
            f"Add a row for each of them."
        )
    return {name: table[name] for name in videos}


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or 0)
    except ValueError:
        return None
    return number if 0 < number < np.inf else None


def _rate_table(path: Path) -> dict[str, float]:
    reader = csv.DictReader(_text(path).splitlines(), skipinitialspace=True)
    if not set(_RATE_COLUMNS) <= set(reader.fieldnames or ()):
        raise DataError(
            f"{path}: expected columns {' and '.join(_RATE_COLUMNS)}; received "
            f"{', '.join(reader.fieldnames or ()) or 'none'}. Correct the first line."
        )
    table = {}
    for row in reader:
        rate = _positive(row["fps"])
        if rate is None:
            raise DataError(
                f"{path}, line {reader.line_num}: fps must be a positive number; received "
                f"{row['fps']!r}. Correct the rate."
            )
        table[_ENDING.sub("", Path((row["video"] or "").strip()).stem)] = rate
    return table


def report_text(measured: Measured, names: Sequence[str]) -> str:
    """Return all figures and the definition of every average as text for the terminal.

    Parameters
    ----------
    measured : Measured
        The figures.
    names : sequence of str
        Name of each phase, id 0 first.
    """
    summary = measured.summary
    lines = [
        f"{summary['n']} videos, {summary['judged']} of {summary['frames']} frames judged, "
        f"{len(names)} phases",
        "",
        *_summary_lines(summary),
        "",
        *_phase_lines(measured.phases, names, "", "strict"),
    ]
    if summary["relaxed"]:
        title = f"relaxed by {summary['boundary_s']:g} s"
        lines += ["", *_phase_lines(measured.phases, names, RELAXED, title)]
    lines += ["", *_confusion_lines(measured.confusion, names), "", "Definitions"]
    return "\n".join([*lines, *(f"- {line}" for line in _definitions(summary))])


def _definitions(summary: Mapping[str, Any]) -> list[str]:
    return definitions(summary["absent"], summary["boundary_s"])


def _summary_lines(summary: Mapping[str, Any]) -> list[str]:
    blocks = [part for part in (summary, summary["relaxed"]) if part]
    rows = [("%", ["strict", "relaxed"][: len(blocks)])]
    rows.append(("accuracy, mean ± std", [_spread(b["accuracy"], "mean", "std") for b in blocks]))
    rows.append(("accuracy, all frames", [_percent(b["accuracy"]["pooled"]) for b in blocks]))
    for name in FIGURES:
        for title, mean, std in _ORDERS:
            cells = [_spread(block[name], mean, std) for block in blocks]
            rows.append((f"{name}: {title}", cells))
    rows.append(("macro F1, all frames", [_percent(block["macro_f1"]) for block in blocks]))
    for name in ("accuracy", "jaccard"):
        cells = [f"{_percent(b[name]['low'])} to {_percent(b[name]['high'])}" for b in blocks]
        rows.append((f"{name}, 95 % interval", cells))
    return [f"{title:<34}" + "".join(f"{cell:>20}" for cell in cells) for title, cells in rows]


def _spread(values: Mapping[Any, Any], mean: str, std: str) -> str:
    return f"{_percent(values[mean])} ± {_percent(values[std])}"


def _percent(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.2f}"


def _phase_lines(phases: pd.DataFrame, names: Sequence[str], prefix: str, title: str) -> list[str]:
    wide = max(20, *(len(name) + 2 for name in names))
    heads = "".join(f"{name:>18}" for name in FIGURES)
    lines = [
        f"Each phase, %, {title}: mean ± std over videos",
        f"{'phase':<{wide}}{'videos':>7}{'frames':>9}{heads}",
    ]
    for row in phases.to_dict("records"):
        cells = [_spread(row, prefix + name, f"{prefix}{name}_std") for name in FIGURES]
        lines.append(
            f"{names[row['phase']]:<{wide}}{row['videos']:>7}{row['frames']:>9}"
            + "".join(f"{cell:>18}" for cell in cells)
        )
    return lines


def _confusion_lines(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
    if len(names) > _WIDE:
        return [f"Confusion: {len(names)} phases are too many for a terminal; see summary.json"]
    wide = max(20, *(len(name) + 2 for name in names))
    heads = [*(str(number) for number in range(len(names))), "none"]
    lines = [
        "Confusion, frames: the truth in rows, predictions in columns",
        " " * (wide + 4) + "".join(f"{head:>8}" for head in heads),
    ]
    for number, (name, row) in enumerate(zip(names, matrix, strict=True)):
        lines.append(f"{number:>3} {name:<{wide}}" + "".join(f"{count:>8}" for count in row))
    return lines


def write_report(folder: str | os.PathLike[str], measured: Measured, names: Sequence[str]) -> None:
    """Write ``summary.json``, ``phases.csv`` (one row per phase) and ``videos.csv`` (per video).

    Parameters
    ----------
    folder : path-like
        Output folder; created if missing. Files with these names are replaced.
    measured : Measured
        The figures, as shares of 0 to 1.
    names : sequence of str
        Name of each phase, id 0 first.
    """
    folder = Path(folder)
    phases = measured.phases.copy()
    phases.insert(1, "name", [names[number] for number in phases["phase"]])
    write_table(phases, folder / "phases.csv")
    write_table(measured.videos, folder / "videos.csv")
    content = {
        **measured.summary,
        "phases": list(names),
        "confusion": measured.confusion.tolist(),
        "definitions": _definitions(measured.summary),
    }
    with replacing(folder / "summary.json") as beside:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")


@program
def main(arguments: list[str] | None = None) -> None:
    """Run the command line of this module."""
    args = _parser().parse_args(arguments)
    names = read_names(args.phases) if args.phases else None
    compared = compare_folders(args.predictions, args.truth, args.fps, names, args.gaps)
    measured = measure(
        compared.videos, len(compared.names), args.absent, args.boundary_seconds, args.seed
    )
    for note in compared.notes:
        print(f"note: {note}")
    print(report_text(measured, compared.names))
    if args.output:
        write_report(args.output, measured, compared.names)
        print(f"{args.output}: summary.json, phases.csv, videos.csv")


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m toolbox.tasks.surgical_phase.evaluate",
        description="Compare predicted surgical phases with the truth, video by video.",
    )
    parser.add_argument("predictions", help="folder with one NAME.txt per video: frame, tab, phase")
    parser.add_argument("truth", help="folder with the true phases, under the same names")
    parser.add_argument(
        "--fps",
        help="frame numbers per second, for the relaxed figures: one rate, or a CSV with columns "
        "video and fps; default: no relaxed figures",
    )
    parser.add_argument(
        "--phases",
        help="text file with the name of every phase, one per line; default: those of the truth",
    )
    parser.add_argument(
        "--absent",
        default="skip",
        choices=list(ABSENT),
        help="how a video counts in the mean of a phase that it lacks (default: skip)",
    )
    parser.add_argument(
        "--boundary_seconds",
        type=float,
        default=10.0,
        help="tolerance of the relaxed figures on either side of a boundary (default: 10)",
    )
    parser.add_argument("--gaps", action="store_true", help="accept missing frames")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("-o", "--output", help="folder for summary.json, phases.csv, videos.csv")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
