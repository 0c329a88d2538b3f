"""Files of pictures measured alone, one at a time, and the tables and the page of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from toolbox.errors import DataError
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.tasks.sem.alignment import (
    Shift,
    apply_shift,
    data_bar_rows,
    estimate_shift,
    valid_region,
)
from toolbox.tasks.sem.measure import DiscMeter, Field, FrameCurve, LineMeter, Meter
from toolbox.tasks.sem.measure_text import measured_text
from toolbox.tasks.sem.pixel_size import stated_size
from toolbox.tasks.sem.sem_image import SUFFIXES, SEMStack, open_sem_stack
from toolbox.tasks.sem.settings import MeasureOptions

if TYPE_CHECKING:
    from toolbox.tasks.sem.measure_report import Section

#: Pictures that are drawn on a page; of all others it has the figures.
_MOST_DRAWN = 24
#: Farthest that frames of a stack lie from each other, pixels.
_MOST_SHIFT = 8.0
#: What an aligned frame may differ from the average by, in medians of what they do.
_MOST_RESIDUAL = 1.25


class SemMeasurer:
    """Measures SEM pictures: a `toolbox.task.FileMeasurer`.

    Parameters
    ----------
    options : MeasureOptions
        What is measured.
    """

    suffixes = SUFFIXES
    what = "no picture"
    written = ("pictures.csv", "measurements.csv", "frames.csv", "report.html")

    def __init__(self, options: MeasureOptions) -> None:
        self.options = options
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self.written[:3]}
        self._sections: list[Section] = []

    def measure(self, path: Path, name: str, draw: bool) -> None:
        """Measure one picture, or stack of frames; see `toolbox.task.FileMeasurer`."""
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path}: is no picture. Expected one of {', '.join(SUFFIXES)}.")
        stack = open_sem_stack(path)
        try:
            field = self._field(stack, name)
        except DataError as error:
            # What the reader says names the file already.
            known = str(error).startswith(str(path))
            raise DataError(f"{error}" if known else f"{path}: {error}") from None
        print(measured_text(field, self.options.precision_nm), flush=True)
        frames: list[Any] = field.frames.to_dict("records")
        tables = [[field.figures], field.measured.objects, frames]
        for rows, new in zip(self._rows.values(), tables, strict=True):
            rows += [{"picture": name, **row} for row in new]
        if draw and len(self._sections) < _MOST_DRAWN:
            from toolbox.tasks.sem.measure_report import section_of

            self._sections.append(section_of(field, self.options.precision_nm))

    def write(self, folder: Path) -> None:
        """Write the tables and the page of all that was measured."""
        for name, rows in self._rows.items():
            if rows:
                write_table(pd.DataFrame(rows), folder / name)
        from toolbox.tasks.sem.measure_report import measured_page

        page = measured_page(self._rows["pictures.csv"], self._sections, self.options)
        page.write(folder / self.written[-1])

    def _field(self, stack: SEMStack, name: str) -> Field:
        size, notes = stated_size(self.options.pixel_nm, stack.size, stack.notes)
        notes.pop("size", None)  # it is told of every picture
        first = stack.image(0).pixels
        bar = data_bar_rows(first)
        frames = AlignedFrames(stack, len(first) - bar)
        pixel, unit = (1.0, 1.0), "px"
        if size is not None:
            pixel, unit = (size.x_nm, size.y_nm or size.x_nm), "nm"
        kind: type[Meter] = DiscMeter if self.options.shape == "discs" else LineMeter
        meter = kind(frames.mean, pixel, unit, self.options)
        curve = FrameCurve(meter, unit)
        if frames.count > 1:
            for frame in progress(frames, "measuring frames", unit="frame", delay=2):
                curve.add(frame)
        measured = meter.measured()
        said = [*notes.values(), *frames.notes, *measured.notes, *curve.notes]
        return Field(name, frames.mean, size, bar, frames.count, measured, curve.table(), said)


class AlignedFrames:
    """The frames of a stack moved onto each other, read anew whenever they are asked for.

    Parameters
    ----------
    stack : SEMStack
        The frames.
    rows : int
        Without the data bar.

    Attributes
    ----------
    mean : numpy.ndarray, shape (H, W)
        Their average, where all of them are known.
    count : int
        How many could be aligned.
    notes : list of str
        What a user should know.
    """

    def __init__(self, stack: SEMStack, rows: int) -> None:
        self._stack, self._rows = stack, rows
        self.notes: list[str] = []
        self._shifts: dict[int, Shift] = {0: Shift(0.0, 0.0)}
        if stack.count > 1:
            self._align()
        self.count = len(self._shifts)
        self.mean = self._mean()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        shape = self._frame(0).shape
        regions = [valid_region(shift, shape) for shift in self._shifts.values()]
        known = tuple(
            slice(max(r[axis].start for r in regions), min(r[axis].stop for r in regions))
            for axis in (0, 1)
        )
        for number, shift in self._shifts.items():
            yield apply_shift(self._frame(number), shift)[known]

    def _frame(self, number: int) -> np.ndarray:
        return self._stack.image(number).pixels[: self._rows].astype(np.float32)

    def _align(self) -> None:
        """Find the shifts of all frames: first onto the first one, then onto their average."""
        reference = self._frame(0)
        limit = min(_MOST_SHIFT, (min(reference.shape) - 4) // 4)
        if limit < 1:
            raise DataError(
                f"frames must be at least 8 pixels high and wide; received {reference.shape}."
            )
        for _ in range(2):
            found = {
                number: estimate_shift(self._frame(number), reference, max_shift=limit)
                for number in progress(range(self._stack.count), "aligning", unit="frame", delay=2)
            }
            # Two that lie on each other are no nearer after a shift by next to nothing.
            left = {n: s.rms_after if s.aligned else s.rms_before for n, s in found.items()}
            most = _MOST_RESIDUAL * float(np.median(list(left.values())))
            self._shifts = {n: found[n] for n, rest in left.items() if rest <= most}
            total = sum(apply_shift(self._frame(n), s) for n, s in self._shifts.items())
            reference = np.asarray(total / len(self._shifts))
        lost = self._stack.count - len(self._shifts)
        if lost:
            self.notes.append(
                f"{lost} of {self._stack.count} frames are left out, as they do not lie on the "
                f"others."
            )

    def _mean(self) -> np.ndarray:
        total = np.zeros(())
        for frame in self:
            total = total + frame
        return np.asarray(total / self.count)
