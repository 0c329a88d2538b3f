"""Phases as text, one frame per line, in the format of public evaluators.

This is the format of Cholec80 and of the M2CAI 2016 workflow challenge: a line ``Frame<TAB>Phase``,
then a frame number, a tab and a phase for each frame.
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
#: Marks a frame without a phase.
NO_PHASE = str(UNLABELLED)


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """Phases of the frames of a video, as named in a file.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    frames : numpy.ndarray, shape (n,), int64
        Frame numbers, increasing.
    phases : tuple of str
        Phase of each frame: a name or an id; ``-1`` for a frame without one.
    lines : tuple of int
        Line of each frame in the file, for messages.
    """

    path: Path
    frames: np.ndarray
    phases: tuple[str, ...]
    lines: tuple[int, ...]

    @property
    def step(self) -> int:
        """Smallest distance between two frames; 1 if there is only one frame."""
        return int(np.diff(self.frames).min(initial=2**60)) if len(self.frames) > 1 else 1

    def ids(self, names: Sequence[str]) -> np.ndarray:
        """Return the id of the phase of each frame.

        Parameters
        ----------
        names : sequence of str
            Name of each phase, id 0 first. If no name is a number, numbers are ids.

        Returns
        -------
        numpy.ndarray, shape (n,), int64
            Ids; -1 for a frame without a phase.

        Raises
        ------
        DataError
            If a phase is unknown; the message gives file, line and phase.
        """
        known = {name: number for number, name in enumerate(names)} | {NO_PHASE: UNLABELLED}
        # If names are numbers themselves, an id would be ambiguous.
        if not any(name.isdecimal() for name in names):
            known |= {str(number): number for number in range(len(names))}
        for phase, line in zip(self.phases, self.lines, strict=True):
            if phase not in known:
                raise DataError(
                    f"{self.path}, line {line}: expected a phase of {', '.join(names)}, or "
                    f"{NO_PHASE} for none; received {phase!r}.{nearest_name(phase, names)} Correct "
                    f"the phase, or name all phases."
                )
        return np.array([known[phase] for phase in self.phases], np.int64)


def read_timeline(path: str | os.PathLike[str], gaps: bool = False) -> Timeline:
    """Read the phases of a video.

    A byte-order mark, Windows line ends, blank lines, spaces around the columns and a missing first
    line are accepted.

    Parameters
    ----------
    path : path-like
        A text file, UTF-8: a frame number, a tab and a phase on each line.
    gaps : bool
        Accept missing frames.

    Returns
    -------
    Timeline

    Raises
    ------
    DataError
        If the file is missing, empty, not text or has other columns, or if frame numbers are
        invalid, do not increase, or skip a frame although `gaps` is False.
    """
    path = Path(path)
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path}: no frames. Expected one line per frame: number, tab, phase.")
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
            f"{path}: expected UTF-8 text; byte {error.start} is not UTF-8. Save the file as UTF-8."
        ) from None


def _is_header(columns: Sequence[str]) -> bool:
    return [column.casefold() for column in columns] == [name.casefold() for name in HEADER]


def _frame(text: str, path: Path, line: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise DataError(
            f"{path}, line {line}: expected a frame number of 0 or more; received {text!r}. "
            f"Correct this line."
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
    # A second at 29.97 Hz has 29 or 30 frames; at twice the distance a frame is missing.
    wide = np.flatnonzero(np.diff(timeline.frames) >= 2 * timeline.step)
    if len(wide):
        place = wide[0] + 1
        former = timeline.frames[place - 1]
        raise DataError(
            f"{timeline.path}, line {timeline.lines[place]}: expected frame "
            f"{former + timeline.step} after {former}; received {timeline.frames[place]}. Add the "
            f"frames in between, with phase {NO_PHASE} if unlabelled, or accept gaps (--gaps)."
        )


def write_timeline(
    path: str | os.PathLike[str],
    phases_per_frame: Sequence[str | int],
    frames: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Write the phases of a video; the file appears complete or not at all.

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
        If there is no frame, the numbers of frames and phases differ, frame numbers do not
        increase, or a phase could not be read back: empty, several lines, a tab, or spaces around
        it.
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
            f"{path}: expected at least one phase, and as many frame numbers; received "
            f"{len(phases)} and {len(numbers)}. Give one phase per frame."
        )
    if numbers[0] < 0 or np.any(np.diff(numbers) <= 0):
        raise DataError(f"{path}: frame numbers must be 0 or more and increase. Sort them.")
    for phase in set(phases):
        if phase.splitlines() != [phase.strip()] or "\t" in phase:
            raise DataError(
                f"{path}: a phase must be one line of text without a tab; received {phase!r}. "
                f"Rename the phase."
            )
