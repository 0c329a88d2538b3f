"""Phases as text, a frame a line, in the form that public evaluators read.

The form of Cholec80 and of the M2CAI 2016 workflow challenge: a line ``Frame<TAB>Phase``, then a
frame number, a tab and a phase for each frame.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from toolbox.errors import DataError, nearest_name, not_found
from toolbox.io.atomic import replacing
from toolbox.tasks.surgical_phase.annotations import UNLABELLED

#: Columns of the first line.
HEADER = ("Frame", "Phase")
#: Stands for the phase of a frame that has none.
NO_PHASE = str(UNLABELLED)


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """Phases of the frames of a video, as a file names them.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    frames : numpy.ndarray, shape (n,), int64
        Frame numbers, increasing.
    phases : tuple of str
        The phase of each: a name or an id; ``-1`` for a frame without one.
    lines : tuple of int
        Line of each in the file, for messages.
    """

    path: Path
    frames: np.ndarray
    phases: tuple[str, ...]
    lines: tuple[int, ...]

    @property
    def step(self) -> int:
        """Smallest distance of two frames; 1 if there is one frame only."""
        return int(np.diff(self.frames).min(initial=2**60)) if len(self.frames) > 1 else 1

    def ids(self, names: Sequence[str]) -> np.ndarray:
        """Return the id of the phase of each frame.

        Parameters
        ----------
        names : sequence of str
            Name of each phase, id 0 first. Where no name is a number, a number is an id.

        Returns
        -------
        numpy.ndarray, shape (n,), int64
            -1 for a frame without a phase.

        Raises
        ------
        DataError
            If a phase is unknown: the file, the line and the phase.
        """
        known = {name: number for number, name in enumerate(names)} | {NO_PHASE: UNLABELLED}
        # Among names that are numbers themselves an id would be ambiguous.
        if not any(name.isdecimal() for name in names):
            known |= {str(number): number for number in range(len(names))}
        for phase, line in zip(self.phases, self.lines, strict=True):
            if phase not in known:
                raise DataError(
                    f"{self.path}, line {line}: expected a phase of {', '.join(names)}, or "
                    f"{NO_PHASE} for none; received {phase!r}.{nearest_name(phase, names)} Correct "
                    f"it, or name all phases."
                )
        return np.array([known[phase] for phase in self.phases], np.int64)


def read_timeline(path: str | os.PathLike[str], gaps: bool = False) -> Timeline:
    """Read the phases of a video.

    A byte-order mark, Windows line ends, blank lines, spaces round the columns and a missing first
    line are accepted.

    Parameters
    ----------
    path : path-like
        A text file, UTF-8: a frame number, a tab and a phase on each line.
    gaps : bool
        Accept frames that are missing between others.

    Returns
    -------
    Timeline

    Raises
    ------
    DataError
        If the file is missing, empty, not text, has other columns, frame numbers that are none, do
        not increase, or leave a frame out although `gaps` is False.
    """
    path = Path(path)
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path}: no frames. Expected a line for each: number, tab, phase.")
    lines, frames, phases = zip(*rows, strict=True)
    timeline = Timeline(path, np.array(frames, np.int64), phases, lines)
    _check_order(timeline)
    if not gaps:
        _check_gaps(timeline)
    return timeline


def _rows(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield line number, frame number and phase of each frame."""
    first = True
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 2 or not columns[1]:
            raise DataError(
                f"{path}, line {number}: expected a frame number, a tab and a phase; received "
                f"{line!r}. Correct this line."
            )
        if not (first and _is_header(columns)):
            yield number, _frame(columns[0], path, number), columns[1]
        first = False


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{not_found(path, 'file')}. Expected a text file of frames and phases.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text; received byte {error.start} that is none. Save it as "
            f"UTF-8."
        ) from None


def _is_header(columns: Sequence[str]) -> bool:
    return [column.casefold() for column in columns] == [name.casefold() for name in HEADER]


def _frame(text: str, path: Path, line: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise DataError(
            f"{path}, line {line}: expected a frame number of 0 or more; received {text!r}. "
            f"Correct it."
        )
    return int(text)


def _check_order(timeline: Timeline) -> None:
    back = np.flatnonzero(np.diff(timeline.frames) <= 0)
    if len(back):
        place = back[0] + 1
        raise DataError(
            f"{timeline.path}, line {timeline.lines[place]}: expected a frame number above "
            f"{timeline.frames[place - 1]}; received {timeline.frames[place]}. Sort the lines, "
            f"each frame once."
        )


def _check_gaps(timeline: Timeline) -> None:
    # Every second of 29.97 Hz is 30 or 29 frames long; twice as far is a frame that is missing.
    wide = np.flatnonzero(np.diff(timeline.frames) >= 2 * timeline.step)
    if len(wide):
        place = wide[0] + 1
        former = timeline.frames[place - 1]
        raise DataError(
            f"{timeline.path}, line {timeline.lines[place]}: expected frame "
            f"{former + timeline.step} after {former}; received {timeline.frames[place]}. Add the "
            f"frames between, with phase {NO_PHASE} if unlabelled, or declare gaps."
        )


def write_timeline(
    path: str | os.PathLike[str],
    phases_per_frame: Sequence[str | int],
    frames: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Write the phases of a video; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The file.
    phases_per_frame : sequence of str or int
        Name or id of the phase of each frame; -1 for none.
    frames : sequence of int, optional
        Frame numbers, increasing; default 0, 1, 2 and so on.

    Raises
    ------
    DataError
        If there is no frame, numbers and phases differ in count, numbers do not increase, or a
        phase cannot be read back: empty, of several lines, or with a tab or spaces round it.
    """
    numbers = range(len(phases_per_frame)) if frames is None else [int(n) for n in frames]
    phases = [str(phase) for phase in phases_per_frame]
    _check_written(Path(path), numbers, phases)
    rows = ["\t".join(HEADER), *(f"{n}\t{phase}" for n, phase in zip(numbers, phases, strict=True))]
    with replacing(path) as beside:
        beside.write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")


def _check_written(path: Path, numbers: Sequence[int], phases: Sequence[str]) -> None:
    if not phases or len(numbers) != len(phases):
        raise DataError(
            f"{path}: expected one phase or more, and as many frame numbers; received "
            f"{len(phases)} and {len(numbers)}. Give a phase for every frame."
        )
    if numbers[0] < 0 or np.any(np.diff(numbers) <= 0):
        raise DataError(f"{path}: frame numbers must be 0 or more and increase. Sort them.")
    for phase in set(phases):
        if phase.splitlines() != [phase.strip()] or "\t" in phase:
            raise DataError(
                f"{path}: a phase must be one line of text without a tab; received {phase!r}. "
                f"Rename it."
            )
