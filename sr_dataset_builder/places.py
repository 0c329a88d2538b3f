"""Where a map has room for complete patches, found without holding the map."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np

from sr_dataset_builder.map_rows import PIXELS, MapRows

Size = tuple[int, int]
#: Is given the share of the work that was done since it was last called.
Advance = Callable[[float], object]
#: Tells which of the complete places in some rows belong to which split: first row, (n, W) of bool.
Select = Callable[[int, np.ndarray], dict[str, np.ndarray]]


class GapMap:
    """Which pixels of a map are missing, packed: a few bytes where none is.

    Parameters
    ----------
    rows : MapRows
        The map, which is read once.
    advance : callable
        Is given the share of the map that was read since it was last called.
    """

    def __init__(self, rows: MapRows, advance: Advance) -> None:
        self.shape = rows.shape
        self._step = max(1, PIXELS // rows.shape[1])
        self._packed: list[bytes | None] = []
        for first in range(0, rows.shape[0], self._step):
            missing = np.isnan(rows.rows(first, min(rows.shape[0], first + self._step)))
            packed = zlib.compress(np.packbits(missing, axis=1).data, 1) if missing.any() else None
            self._packed.append(packed)
            advance(len(missing) / rows.shape[0])

    def missing(self, first: int, last: int) -> np.ndarray:
        """Return the missing pixels of some rows, (last - first, W) of bool."""
        found = []
        width = -(-self.shape[1] // 8)
        for number in range(first // self._step, -(-last // self._step)):
            start, content = number * self._step, self._packed[number]
            begin, end = max(0, first - start), min(self._step, last - start)
            if content is None:
                found.append(np.zeros((end - begin, self.shape[1]), np.uint8))
                continue
            packed = np.frombuffer(zlib.decompress(content), np.uint8).reshape(-1, width)
            found.append(np.unpackbits(packed[begin:end], axis=1, count=self.shape[1]))
        return np.concatenate(found).view(bool)

    def _gappy(self, first: int, last: int) -> bool:
        """Tell whether a pixel may be missing in some rows."""
        parts = self._packed[first // self._step : -(-last // self._step)]
        return any(part is not None for part in parts)

    def complete(self, size: Size, factor: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """Yield where a patch holds no missing pixel, some rows at a time.

        Parameters
        ----------
        size : (int, int)
            Rows and columns of a patch.
        factor : int
            Of the map averaged over so many pixels in both directions.

        Yields
        ------
        (int, numpy.ndarray)
            First row, and for it and the rows below whether a patch may begin at each column.
        """
        (height, width), (h, w) = (side // factor for side in self.shape), size
        if height < h or width < w:
            return
        step = max(h, PIXELS // (factor**2 * width))
        for first in range(0, height - h + 1, step):
            last = min(height - h + 1, first + step)
            bottom = last + h - 1
            if not self._gappy(first * factor, bottom * factor):
                yield first, np.ones((last - first, width - w + 1), bool)
                continue
            fine = self.missing(first * factor, bottom * factor)[:, : width * factor]
            blocks = fine.reshape(bottom - first, factor, width, factor)
            missing = blocks.any(axis=(1, 3)) if factor > 1 else fine
            below = np.pad(missing, ((1, 0), (0, 0))).cumsum(0, np.int32)
            across = np.pad(below[h:] - below[:-h], ((0, 0), (1, 0))).cumsum(1, np.int32)
            yield first, across[:, w:] == across[:, :-w]


class Places:
    """The places of complete patches of a map, dealt to splits, by their rank from top left.

    Parameters
    ----------
    gaps : GapMap
        What is missing.
    size : (int, int)
        Rows and columns of a patch.
    factor : int
        Of the map averaged over so many pixels.
    select : callable
        Chooses among complete places, by split.

    Attributes
    ----------
    counts : dict of str to numpy.ndarray, shape (rows,)
        Places in each row, by split.
    """

    def __init__(self, gaps: GapMap, size: Size, factor: int, select: Select) -> None:
        self._gaps, self._size, self._factor, self._select = gaps, size, factor, select
        rows = max(0, gaps.shape[0] // factor - size[0] + 1)
        self.counts: dict[str, np.ndarray] = {}
        for first, places in gaps.complete(size, factor):
            for split, mine in select(first, places).items():
                counts = self.counts.setdefault(split, np.zeros(rows, int))
                counts[first : first + len(mine)] = mine.sum(axis=1)

    def total(self, split: str) -> int:
        """Return the number of places of a split."""
        return int(self.counts[split].sum()) if split in self.counts else 0

    def corners(self, ranks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return (row, column) of some places of each split.

        Parameters
        ----------
        ranks : dict of str to numpy.ndarray of int
            Numbers of places, counted from top left row by row, ascending.
        """
        found = {}
        for split, chosen in ranks.items():
            row = np.searchsorted(np.cumsum(self.counts[split]), chosen, side="right")
            found[split] = np.stack([row, chosen - self._before(split)[row]], axis=1)
        for first, places in self._gaps.complete(self._size, self._factor):
            ends = (first, first + len(places))
            parts = {split: np.searchsorted(mine[:, 0], ends) for split, mine in found.items()}
            if all(start == stop for start, stop in parts.values()):
                continue
            selected = self._select(first, places)
            for split, (start, stop) in parts.items():
                for corner in found[split][start:stop]:
                    corner[1] = np.flatnonzero(selected[split][corner[0] - first])[corner[1]]
        return found

    def _before(self, split: str) -> np.ndarray:
        """Return the number of places in the rows above each row."""
        return np.cumsum(self.counts[split]) - self.counts[split]
