"""Pictures of a prediction: the shaded relief and the one-page report next to the result."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from toolbox.inference.scattered_work import ScatteredWork
from toolbox.inference.work_file import WorkFile
from toolbox.io.maps import MapReader
from toolbox.resample import enlarge, fill_gaps
from toolbox.tasks.bathymetry.relief import write_hillshade
from toolbox.tasks.bathymetry.report import MapView, choose_detail, write_map_report

#: Longest side of an overview, and side of the detail, in low-resolution pixels.
_OVERVIEW, _DETAIL = 360, 64
#: Longest side of a hillshade picture, pixels.
_HILLSHADE = 4000


class PredictionReport:
    """Reads a finished prediction back in bounded parts and draws it.

    Parameters
    ----------
    reader : toolbox.io.maps.MapReader
        The opened input.
    work : toolbox.inference.work_file.WorkFile or ScatteredWork
        The result.
    scale : int
        Enlargement factor.
    """

    def __init__(self, reader: MapReader, work: WorkFile | ScatteredWork, scale: int) -> None:
        self.reader, self.work, self.scale = reader, work, scale
        self.channels = reader.channels
        delta = reader.delta_m
        self.delta_m = None if delta is None else (delta[0] / scale, delta[1] / scale)

    def write_hillshade(self, target: Path) -> Path:
        """Write ``NAME.tif_hillshade.png`` next to `target`; a large map is thinned."""
        path = target.with_name(f"{target.name}_hillshade.png")
        step = -(-max(self.work.shape[:2]) // _HILLSHADE)
        after = self._plane(self.work.read(slice(None, None, step), slice(None, None, step)))
        write_hillshade(path, after, self._thinned(step))
        return path

    def write_page(
        self,
        target: Path,
        facts: Mapping[str, str],
        figures: Mapping[str, str],
        warnings: Sequence[str],
    ) -> Path:
        """Write ``NAME.tif.html`` next to `target`.

        Parameters
        ----------
        target : pathlib.Path
            The result.
        facts, figures : dict of str to str
            Tables of how the result was made and what was measured.
        warnings : sequence of str
            Warnings for the top of the page.
        """
        path = target.with_name(f"{target.name}.html")
        step = -(-max(self.reader.shape) // _OVERVIEW)
        overview = self._overview(step)
        write_map_report(
            path,
            overview,
            self._detail(overview.before, step),
            f"{self.reader.path.name}, enlarged {self.scale} times",
            {**facts, "date": datetime.date.today().isoformat()},
            figures,
            warnings,
            unit="grey value" if self.reader.is_image else "m",
        )
        return path

    def _overview(self, step: int) -> MapView:
        h, w = self.reader.shape
        lines = [
            self.reader.read(slice(row, row + 1), slice(0, w))[:, ::step]
            for row in range(0, h, step)
        ]
        after = self.work.read(slice(None, None, step), slice(None, None, step))
        h, w = after.shape[0] // self.scale, after.shape[1] // self.scale
        after = self._plane(after[: h * self.scale, : w * self.scale])
        before = self._plane(np.concatenate(lines))[:h, :w]
        thinned = f", one pixel in {step}" if step > 1 else ""
        return MapView(
            before,
            after,
            after,
            self._thinned(step),
            f"the whole map{thinned}",
            (0, 0, *self.reader.shape),
        )

    def _detail(self, before: np.ndarray, step: int) -> MapView:
        h, w = self.reader.shape
        side = min(_DETAIL, h, w)
        row, column = (step * i for i in choose_detail(before, max(1, side // step)))
        row, column = min(row, h - side), min(column, w - side)
        # Two more pixels on each side keep the margin of bicubic out of the detail.
        top, left = max(0, row - 2), max(0, column - 2)
        around = self.reader.read(
            slice(top, min(h, row + side + 2)), slice(left, min(w, column + side + 2))
        )
        lr = around[row - top :, column - left :][:side, :side]
        rows = slice((row - top) * self.scale, (row - top + side) * self.scale)
        columns = slice((column - left) * self.scale, (column - left + side) * self.scale)
        after = self.work.read(slice(row * self.scale, (row + side) * self.scale))
        after = after[:, column * self.scale : (column + side) * self.scale]
        gaps = np.isnan(after[..., : self.channels])
        bicubic = np.full(gaps.shape, np.nan)
        if not gaps.all():
            bicubic = enlarge(fill_gaps(around, 4)[None], self.scale)[0, rows, columns]
        return MapView(
            self._plane(lr),
            self._plane(np.where(gaps, np.nan, bicubic)),
            self._plane(after),
            self.delta_m,
            f"rows {row}-{row + side - 1}, columns {column}-{column + side - 1} of the input",
            (row, column, side, side),
        )

    def _plane(self, imgs: np.ndarray) -> np.ndarray:
        """Remove extra bands, and the last axis of a map."""
        return imgs[..., 0] if self.channels == 1 else imgs[..., : self.channels]

    def _thinned(self, step: int) -> tuple[float, float] | None:
        return None if self.delta_m is None else (self.delta_m[0] * step, self.delta_m[1] * step)
