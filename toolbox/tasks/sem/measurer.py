"""Measure picture files one at a time, and write tables and a page about all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from toolbox.errors import DataError
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.task import MeasuredImage
from toolbox.tasks.sem.alignment import Shift, apply_shift, data_bar_rows, valid_region
from toolbox.tasks.sem.measure import DiscMeter, Field, FrameCurve, LineMeter, Meter
from toolbox.tasks.sem.measure_text import facts_of, headline, measured_text, object_rows
from toolbox.tasks.sem.pixel_size import PixelSize, stated_size
from toolbox.tasks.sem.sem_image import SUFFIXES, SEMStack, open_sem_stack
from toolbox.tasks.sem.settings import MeasureOptions
from toolbox.tasks.sem.stacks import align_frames, copies_in

if TYPE_CHECKING:
    from toolbox.tasks.sem.measure_report import Section

#: Largest number of pictures that are drawn on a page; it has the figures of all.
_MOST_DRAWN = 24
#: Largest number of lost rows that the outline of an edge bridges.
_MOST_BRIDGED = 8
#: Largest shift between frames of a stack, pixels.
_MOST_SHIFT = 8.0


class SemMeasurer:
    """Measures SEM pictures: a `toolbox.task.FileMeasurer` and a `toolbox.task.ImageMeasurer`.

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
        """Measure one picture or stack of frames; see `toolbox.task.FileMeasurer`."""
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path}: not a picture. Expected one of {', '.join(SUFFIXES)}.")
        stack = open_sem_stack(path)
        try:
            field = self._field(stack, name)
        except DataError as error:
            # Messages of the reader name the file already.
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
        """Write the tables and the page about all measured pictures."""
        for name, rows in self._rows.items():
            if rows:
                write_table(pd.DataFrame(rows), folder / name)
        from toolbox.tasks.sem.measure_report import measured_page

        page = measured_page(self._rows["pictures.csv"], self._sections, self.options)
        page.write(folder / self.written[-1])

    def measure_image(
        self, pixels: np.ndarray, pixel_nm: tuple[float, float] | None = None
    ) -> MeasuredImage:
        """Measure one picture in memory; see `toolbox.task.ImageMeasurer`."""
        if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
            raise DataError(
                f"SEM pictures must have one channel of numbers; received shape {pixels.shape} of "
                f"{pixels.dtype}. Select one channel."
            )
        if not np.isfinite(pixels).all():
            raise DataError(
                "the picture must have no missing pixels, where edges could lie. Crop it."
            )
        size = None if pixel_nm is None else PixelSize("the image", *pixel_nm)
        bar = data_bar_rows(pixels)
        frame = pixels[: len(pixels) - bar].astype(np.float32)
        field = self._measured([frame], size, bar, "image", [])
        lines = [headline(field), *(f"{name}: {text}" for name, text in facts_of(field).items())]
        return MeasuredImage("\n".join(lines), object_rows(field), field.notes, outlines_of(field))

    def _field(self, stack: SEMStack, name: str) -> Field:
        size, notes = stated_size(self.options.pixel_nm, stack.size, stack.notes)
        notes.pop("size", None)  # the headline of every picture states it
        if self.options.shape == "lines":
            notes.pop("not square", None)  # widths and lengths use the two sides of a pixel
        first = stack.image(0).pixels
        bar = data_bar_rows(first)
        frames = StackFrames(stack, len(first) - bar)
        return self._measured(frames, size, bar, name, list(notes.values()))

    def _measured(
        self,
        pictures: Sequence[np.ndarray],
        size: PixelSize | None,
        bar: int,
        name: str,
        notes: list[str],
    ) -> Field:
        """Measure the average of frames without a data bar, and its precision."""
        frames = AlignedFrames(pictures)
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
        said = [*notes, *frames.notes, *measured.notes, *curve.notes]
        drifts = curve.trend is not None
        return Field(
            name, frames.mean, size, bar, frames.count, measured, curve.table(), said, drifts
        )


def outlines_of(field: Field) -> list[tuple[str, np.ndarray]]:
    """Return the edges of lines as paths, interrupted where many rows have no edge.

    Returns
    -------
    list of (str, numpy.ndarray)
        Names such as ``line 3 left``, and rows and columns of shape (n, 2), pixels.
    """
    if field.measured.edges_px is None:
        return []
    vertical = field.measured.figures["direction"] == "vertical"
    found = []
    for side, edges in zip(("left", "right"), field.measured.edges_px, strict=True):
        for number, edge in enumerate(edges, 1):
            rows = np.flatnonzero(np.isfinite(edge))
            for part in np.split(rows, np.flatnonzero(np.diff(rows) - 1 > _MOST_BRIDGED) + 1):
                path = np.stack([part, edge[part]], axis=1)
                if len(path) > 1:
                    found.append((f"line {number} {side}", path if vertical else path[:, ::-1]))
    return found


class StackFrames(Sequence[np.ndarray]):
    """The frames of a file without their data bar, read on access.

    Parameters
    ----------
    stack : SEMStack
        The file.
    rows : int
        Height of a frame without the data bar.
    """

    def __init__(self, stack: SEMStack, rows: int) -> None:
        self._stack, self._rows = stack, rows

    def __len__(self) -> int:
        return self._stack.count

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        return self._stack.image(number).pixels[: self._rows].astype(np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in progress(range(len(self)), "aligning frames", unit="frame", delay=2):
            yield self[number]


class AlignedFrames:
    """The aligned frames of one field.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Frames; they are read again whenever they are needed.

    Attributes
    ----------
    mean : numpy.ndarray, shape (H, W)
        Their average, in the region that all of them cover.
    count : int
        Number of aligned frames.
    notes : list of str
        Notes for the user.
    """

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self._frames = frames
        self.notes: list[str] = []
        #: Shift of each frame onto the common grid, by its number.
        self._shifts = {0: Shift(0.0, 0.0)}
        if len(frames) > 1:
            self._align()
        self.count = len(self._shifts)
        self.mean = np.asarray(sum(frame.astype(np.float64) for frame in self) / self.count)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        shape = self._frames[0].shape
        regions = [valid_region(shift, shape) for shift in self._shifts.values()]
        known = tuple(
            slice(max(r[axis].start for r in regions), min(r[axis].stop for r in regions))
            for axis in (0, 1)
        )
        for number, shift in self._shifts.items():
            yield apply_shift(self._frames[number], shift)[known]

    def _align(self) -> None:
        copied = copies_in(self._frames)
        if any(copied):
            # A copy has the noise of its original, so averages would seem too precise.
            self.notes.append(
                f"{sum(copied)} of {len(copied)} frames are copies of others and left out."
            )
            self._frames = [self._frames[n] for n, copy in enumerate(copied) if not copy]
        if len(self._frames) < 2:
            return
        # Frames must be four times as high and wide as the largest shift.
        limit = min(_MOST_SHIFT, max(1.0, (min(self._frames[0].shape) - 4) // 4))
        found = align_frames(self._frames, limit)
        aligned = {n: Shift(-s.dy, -s.dx) for n, s in enumerate(found) if s.aligned}
        total = len(found)
        if not aligned:
            self.notes.append(
                f"no two of the {total} frames could be aligned; only the first one is measured."
            )
            return
        self._shifts = aligned
        if len(aligned) < total:
            self.notes.append(
                f"{total - len(aligned)} of {total} frames are left out, because they could not "
                f"be aligned with the others."
            )
