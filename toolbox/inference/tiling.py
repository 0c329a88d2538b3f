"""Overlapping tiles: a map of any size in bounded memory, same result as undivided (NumPy)."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from toolbox.errors import ConfigError

#: ``read(rows, columns) -> (h, w, C)``, low-resolution pixels.
Read = Callable[[slice, slice], np.ndarray]
#: ``enhance(window) -> (h * scale, w * scale, B)`` for a window (h, w, C), in any thread.
Enhance = Callable[[np.ndarray], np.ndarray]
#: ``empty(shape, dtype)``: an array of any content.
Empty = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class Part(NamedTuple):
    """One side of a tile, in low-resolution pixels of the map.

    Attributes
    ----------
    core : slice
        The pixels that the tile contributes to the result.
    window : slice
        The pixels that are read: the core and its surroundings, within the map.
    """

    core: slice
    window: slice

    def inner(self, scale: int) -> slice:
        """Return the position of the core inside the enlarged window."""
        start = (self.core.start - self.window.start) * scale
        return slice(start, start + (self.core.stop - self.core.start) * scale)


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Division of a map into tiles.

    Every window has the same size, so that one compiled network serves them all. A window that
    would extend beyond the map is shifted inside, where it sees more of the map. The margins
    of the map are margins of a window, like those of a training patch.

    Parameters
    ----------
    shape : (int, int)
        Size of the low-resolution map (h, w).
    scale : int
        Enlargement factor.
    tile : int
        Side of a core in low-resolution pixels.
    halo : int
        Low-resolution pixels around a core on which its result depends.
    blend : bool
        Whether windows are faded into each other over twice the halo: for a network whose reach
        is unknown or too large.
    multiple : int
        Windows start at multiples of this number of pixels, from either end of the map. For a
        network that pools; tile and halo must be multiples of it too.
    trim : int
        Outermost pixels of a window that have no weight in a blend, at most the halo.
    """

    shape: tuple[int, int]
    scale: int
    tile: int
    halo: int
    blend: bool = False
    multiple: int = 1
    trim: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.tile, (int, np.integer)) or self.tile < 1:
            raise ConfigError(f"tile must be 1 pixel or more; received {self.tile!r}. Use 256.")

    def rows(self) -> list[Part]:
        """Return the vertical sides of the tiles, top to bottom."""
        return self._parts(self.shape[0])

    def columns(self) -> list[Part]:
        """Return the horizontal sides of the tiles, left to right."""
        return self._parts(self.shape[1])

    def rows_read(self, number: int) -> slice:
        """Return the rows of the map that the strip of a row of tiles is made of."""
        rows = self.rows()
        core = rows[number].core
        used = [row for row in rows if self.blend and _overlap(core, row.window)] or [rows[number]]
        return slice(min(r.window.start for r in used), max(r.window.stop for r in used))

    def _parts(self, size: int) -> list[Part]:
        reach = self.tile + 2 * self.halo
        reach = min(size, reach + (size - reach) % self.multiple)
        parts = []
        for start in range(0, size, self.tile):
            stop = min(start + self.tile, size)
            first = min(max(0, start - self.halo), size - reach)
            parts.append(Part(slice(start, stop), slice(first, first + reach)))
        return parts

    def strips(
        self,
        read: Read,
        enhance: Enhance,
        first: int = 0,
        done: Callable[[int], None] | None = None,
        empty: Empty = np.empty,
    ) -> Iterator[np.ndarray]:
        """Enhance a map, one row of tiles after another.

        Parameters
        ----------
        read : callable
            ``read(rows, columns) -> (h, w, C)``.
        enhance : callable
            ``enhance(window) -> (h * scale, w * scale, B)``.
        first : int
            Number of rows of tiles to skip, finished by an interrupted run.
        done : callable, optional
            Called with the number of low-resolution pixels after each tile.
        empty : callable
            Gives the memory of a strip, as ``numpy.empty`` does; unless tiles are blended.

        Yields
        ------
        numpy.ndarray, shape (tile * scale, w * scale, B)
            A row of tiles. The last one may have fewer rows.
        """
        if self.blend:
            yield from self._blended(read, enhance, first, done)
            return
        for row in self.rows()[first:]:
            yield self._joined(read, enhance, row, done, empty)

    def _enlarged(
        self, read: Read, enhance: Enhance, row: Part
    ) -> Iterator[tuple[Part, np.ndarray]]:
        """Enhance the windows of a row of tiles, the next one while the caller has one.

        Gaps of a window are filled while the network is at work on the one before.
        """
        pool = ThreadPoolExecutor(2)
        begun: deque[tuple[Part, Future[np.ndarray]]] = deque()
        try:
            for column in self.columns():
                window = read(row.window, column.window)
                begun.append((column, pool.submit(enhance, window)))
                if len(begun) == 2:
                    first, large = begun.popleft()
                    yield first, large.result()
            for last, large in begun:
                yield last, large.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _joined(
        self,
        read: Read,
        enhance: Enhance,
        row: Part,
        done: Callable[[int], None] | None,
        empty: Empty,
    ) -> np.ndarray:
        """Join the cores of a row of tiles."""
        strip: np.ndarray | None = None
        for column, large in self._enlarged(read, enhance, row):
            if strip is None:
                shape = _length(row.core), self.shape[1]
                height, width = shape[0] * self.scale, shape[1] * self.scale
                strip = empty((height, width, large.shape[2]), large.dtype)
            place = slice(column.core.start * self.scale, column.core.stop * self.scale)
            strip[:, place] = large[row.inner(self.scale), column.inner(self.scale)]
            if done is not None:
                done(_length(row.core) * _length(column.core))
        assert strip is not None
        return strip

    def _blended(
        self, read: Read, enhance: Enhance, first: int, done: Callable[[int], None] | None
    ) -> Iterator[np.ndarray]:
        """Fade neighbouring windows into each other, first across, then down."""
        rows, bands = self.rows(), {}
        for i, row in enumerate(rows[first:], first):
            near = [j for j, other in enumerate(rows) if _overlap(row.core, other.window)]
            for j in near:
                if j not in bands:
                    bands[j] = self._band(read, enhance, rows[j], done if j >= i else None)
            total, weights = np.zeros(1), np.zeros(1)
            for j in near:
                place = Part(row.core, rows[j].window)
                inside, offset = _clipped(place, self.scale)
                weight = self._weight(rows[j], self.shape[0])[inside][:, None, None]
                part = np.zeros((_length(row.core) * self.scale, *bands[j].shape[1:]))
                share = np.zeros((len(part), 1, 1))
                part[offset], share[offset] = bands[j][inside] * weight, weight
                total, weights = total + part, weights + share
            yield (total / weights).astype(np.float32)
            below = rows[i + 1].core if i + 1 < len(rows) else slice(0, 0)
            bands = {j: band for j, band in bands.items() if _overlap(below, rows[j].window)}

    def _band(
        self, read: Read, enhance: Enhance, row: Part, done: Callable[[int], None] | None
    ) -> np.ndarray:
        """Fade the windows of a row of tiles into each other."""
        total: np.ndarray | None = None
        weights = np.zeros((1, self.shape[1] * self.scale, 1))
        for column, large in self._enlarged(read, enhance, row):
            if total is None:
                total = np.zeros((large.shape[0], weights.shape[1], large.shape[2]))
            weight = self._weight(column, self.shape[1])[:, None]
            place = slice(column.window.start * self.scale, column.window.stop * self.scale)
            total[:, place] += large * weight
            weights[:, place] += weight
            if done is not None:
                done(_length(row.core) * _length(column.core))
        assert total is not None
        return total / weights

    def _weight(self, part: Part, size: int) -> np.ndarray:
        """Return weights of 1 that fall towards a neighbouring window over the overlap."""
        length, ramp = _length(part.window), 2 * (self.halo - self.trim) + 1
        place = np.maximum(np.arange(1, length + 1) - self.trim, 0)
        rising = place if part.window.start else np.full(length, ramp)
        falling = place[::-1] if part.window.stop < size else np.full(length, ramp)
        # The same for all pixels of a block, so that blending preserves its mean.
        return (np.minimum(np.minimum(rising, falling), ramp) / ramp).repeat(self.scale)


def _length(part: slice) -> int:
    return part.stop - part.start


def _overlap(a: slice, b: slice) -> bool:
    return a.start < b.stop and b.start < a.stop


def _clipped(part: Part, scale: int) -> tuple[slice, slice]:
    """Return where core and window overlap, counted in the window and in the core."""
    start = max(part.core.start, part.window.start)
    stop = min(part.core.stop, part.window.stop)
    inside = slice((start - part.window.start) * scale, (stop - part.window.start) * scale)
    return inside, slice((start - part.core.start) * scale, (stop - part.core.start) * scale)
