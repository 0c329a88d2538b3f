"""Maps read from top to bottom, a few rows at a time: metres, gaps filled, reduced if needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sr_dataset_builder.resize import resize
from toolbox.errors import DataError
from toolbox.io.maps import rows_at_once
from toolbox.io.raster import Raster, open_plane

if TYPE_CHECKING:
    from sr_dataset_builder.dataset import MapParams

#: Pixels that are read at once.
PIXELS = 2**22
#: Widths of pieces that are read are multiples of this, as those of most tiles.
_PIECE = 1024
#: LR rows beyond those asked for that interpolation looks at; Lanczos reaches four HR pixels.
_REACH = 4
#: Megabytes that GDAL may keep of decoded tiles; by default it takes a twentieth of all memory.
_GDAL_CACHE_MB = "512"


class Rows(Protocol):
    """A map of which rows can be had, from top to bottom."""

    shape: tuple[int, int]
    #: Rows above and below those asked for that are kept.
    behind: int

    def rows(self, first: int, last: int, columns: slice = slice(None)) -> np.ndarray:
        """Return rows from `first` to `last`, metres, float32; NaN where missing."""


def filled(img: np.ndarray, kernel_size: Sequence[int] = (5, 5)) -> np.ndarray:
    """Fill missing pixels with the mean of the valid ones around them: `Dataset.cleansing`."""
    img = np.asarray(img, np.float32)
    missing = np.isnan(img)
    if not missing.any():
        return img
    result, window = img.copy(), (kernel_size[0], kernel_size[1])
    rows, columns = np.nonzero(missing)
    padded = np.pad(img, [(side // 2, side // 2) for side in window], constant_values=np.nan)
    # Sums of float32 are exact in float64: neither way depends on where the rows begin.
    if len(rows) * window[0] * window[1] < img.size:
        around = sliding_window_view(padded, window)[rows, columns].astype(np.float64)  # type: ignore[call-overload]
        count = np.count_nonzero(~np.isnan(around), axis=(1, 2))
        total = np.nansum(around, axis=(1, 2))
    else:
        count = _window_sums(~np.isnan(padded), window)[missing]
        total = _window_sums(np.nan_to_num(padded).astype(np.float64), window)[missing]
    means = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    result[missing] = means
    return result


def _window_sums(padded: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return the sums over a window around each pixel of an image that was padded by half of it."""
    height, width = padded.shape[0] - window[0] + 1, padded.shape[1] - window[1] + 1
    kind = np.float64 if padded.dtype.kind == "f" else np.int32
    down = np.zeros((height, padded.shape[1]), kind)
    for row in range(window[0]):
        down += padded[row : row + height]
    found = np.zeros((height, width), kind)
    for column in range(window[1]):
        found += down[:, column : column + width]
    return found


class MapRows:
    """A map that is read from top to bottom and never held whole, unless its file has to be.

    Parameters
    ----------
    fname : str
        Raster file; a ``.pkl`` or ``.npz`` is held in memory.
    params : MapParams
        How it is read: gaps are filled; what valid_range excludes stays missing.
    notes : list of str
        Gets a line for every suspicious value.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    behind : int
        Rows above and below those asked for that are kept.
    delta_m, georeferenced, transform, crs, notes
        As of `toolbox.io.raster.Raster`.

    Raises
    ------
    DataError
        If it cannot be read.
    """

    def __init__(self, fname: str, params: MapParams, notes: list[str]) -> None:
        os.environ.setdefault("GDAL_CACHEMAX", _GDAL_CACHE_MB)
        # A declared zero needs no warning.
        zero = 0.0 if params.zero_is_missing else None
        nodata = zero if params.nodata is None else params.nodata
        self._reader, self.notes = open_plane(
            fname, params.variable, nodata, params.positive, params.time, params.group
        )
        notes += self.notes
        self.fname, self.params = fname, params
        self.shape = self._reader.shape
        self.delta_m = self._reader.delta_m
        self.georeferenced = self._reader.georeferenced
        self.transform, self.crs = self._reader.transform, self._reader.crs
        self.behind = 0
        self._step = rows_at_once(self._reader, PIXELS)
        self._parts: dict[int, np.ndarray] = {}
        self._turned = (False, False)
        self._stored = self._valid = False

    def close(self) -> None:
        """Close the file."""
        self._parts = {}
        self._reader.close()

    def turn(self, rows: bool, columns: bool) -> None:
        """Let rows or columns run the other way from now on."""
        self._turned, self._parts = (rows, columns), {}

    def rows(self, first: int, last: int, columns: slice = slice(None)) -> np.ndarray:
        """Return rows from `first` to `last`, metres, float32; NaN where missing.

        Parameters
        ----------
        first, last : int
            Rows; what lies more than `behind` rows away is forgotten.
        columns : slice
            Part of the columns.
        """
        numbers = range(first // self._step, -(-last // self._step))
        above, below = first - self.behind, last + self.behind
        for number in list(self._parts):
            if (number + 1) * self._step <= above or number * self._step >= below:
                del self._parts[number]
        for number in numbers:
            if number not in self._parts:
                start = number * self._step
                self._parts[number] = self._read(start, min(self.shape[0], start + self._step))
        found = []
        for number in numbers:
            start = number * self._step
            found.append(self._parts[number][max(0, first - start) : last - start, columns])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def raster(self) -> Raster:
        """Return the whole map, which is then held in memory."""
        values = np.empty(self.shape, np.float32)
        for first in range(0, self.shape[0], self._step):
            last = min(self.shape[0], first + self._step)
            values[first:last] = self.rows(first, last)
        self.refuse_empty()
        return Raster(
            values,
            self.delta_m,
            self.notes,
            self.fname,
            self.transform,
            self.crs,
            self.georeferenced,
        )

    def refuse_empty(self) -> None:
        """Refuse a map of which no row that was read has a valid pixel."""
        if not self._stored:
            raise DataError(
                f"{self.fname}: every pixel is missing (NaN or nodata). Check the file and nodata."
            )
        if not self._valid:
            raise DataError(
                f"{self.fname}: every pixel is missing after zero_is_missing and valid_range "
                f"{self.params.valid_range} are applied. Widen valid_range."
            )

    def _read(self, first: int, last: int) -> np.ndarray:
        """Read rows with those around them from which their gaps are filled."""
        p, half = self.params, self.params.kernel_size[0] // 2
        top, bottom = max(0, first - half), min(self.shape[0], last + half)
        height = self.shape[0]
        stored = slice(height - bottom, height - top) if self._turned[0] else slice(top, bottom)
        values = np.empty((bottom - top, self.shape[1]), np.float32)
        # Pieces, as a reader takes several times the memory of what it reads.
        across = max(_PIECE, PIXELS // (4 * len(values)) // _PIECE * _PIECE)
        for left in range(0, self.shape[1], across):
            piece = slice(left, min(self.shape[1], left + across))
            values[:, piece] = self._reader.read(stored, piece)[..., 0]
        self._stored = self._stored or not np.isnan(values).all()
        if p.zero_is_missing:
            values[values == 0] = np.nan
        outside = None
        if p.valid_range is not None:
            low, high = sorted(p.valid_range)
            outside = (values < low) | (values > high)
            values[outside] = np.nan
        self._valid = self._valid or not np.isnan(values).all()
        clean = filled(values, p.kernel_size)
        if outside is not None:
            clean[outside] = np.nan
        clean = clean[:: -1 if self._turned[0] else 1, :: -1 if self._turned[1] else 1]
        return np.ascontiguousarray(clean[first - top : last - top])


class ReducedRows:
    """The low-resolution map that is made from a high-resolution one, read along with it.

    Parameters
    ----------
    hr : Rows
        The high-resolution map.
    scale : int
        Reduction factor.
    method : str
        See `sr_dataset_builder.resize.resize`.
    """

    def __init__(self, hr: Rows, scale: int, method: str) -> None:
        self._hr, self._scale, self._method = hr, scale, method
        self.behind = 0
        self.shape = (hr.shape[0] // scale, hr.shape[1] // scale)
        self._reach = 0 if method in ("area", "nearest") else _REACH
        self._first = 0
        self._held = np.empty((0, self.shape[1]), np.float32)

    def rows(self, first: int, last: int, columns: slice = slice(None)) -> np.ndarray:
        """Return rows from `first` to `last`, metres, float32; NaN where missing."""
        end = self._first + len(self._held)
        if not self._first <= first <= end:
            self._first, self._held, end = first, self._held[:0], first
        self._held = self._held[first - self._first :]
        self._first = first
        if last > end:
            self._held = np.concatenate([self._held, self._made(end, last)])
        return self._held[: last - first, columns]

    def _made(self, first: int, last: int) -> np.ndarray:
        top, bottom = max(0, first - self._reach), min(self.shape[0], last + self._reach)
        self._hr.behind = max(self._hr.behind, (bottom - top) * self._scale)
        fine = self._hr.rows(top * self._scale, bottom * self._scale)
        return resize(fine, self._scale, self._method)[first - top : last - top]
