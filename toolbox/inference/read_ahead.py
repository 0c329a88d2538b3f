"""Rows of a map read in a thread of their own while the network is at work on those before."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from toolbox.inference.tiling import Part, Read


class ReadAhead:
    """The windows of a map for `toolbox.inference.tiling.Tiling.strips`, read one row ahead.

    Everything is read in one thread, so the map need not be safe for several. Use it in ``with``;
    inside it nothing else may read the map.

    Parameters
    ----------
    read : callable
        ``read(rows, columns) -> (h, w, C)``.
    rows : list of Part
        The vertical sides of the tiles, top to bottom.
    width : int
        Columns of the map.
    """

    def __init__(self, read: Read, rows: list[Part], width: int) -> None:
        self._read, self._rows, self._width = read, rows, width
        self._pool = ThreadPoolExecutor(1)
        self._found: dict[int, Future[np.ndarray]] = {}
        self._number = {(row.window.start, row.window.stop): i for i, row in enumerate(rows)}

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _window(self, number: int) -> np.ndarray:
        for i in (number, number + 1):
            if i < len(self._rows) and i not in self._found:
                whole = slice(0, self._width)
                self._found[i] = self._pool.submit(self._read, self._rows[i].window, whole)
        return self._found[number].result()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window (h, w, C) of a tile, a view."""
        return self._window(self._number[rows.start, rows.stop])[:, columns]

    def core(self, number: int) -> np.ndarray:
        """Return the rows that a row of tiles is responsible for, and forget those above."""
        part = self._rows[number]
        start = part.core.start - part.window.start
        core = self._window(number)[start : start + part.core.stop - part.core.start]
        for i in [i for i in self._found if i <= number]:
            del self._found[i]
        return core


class TurnedMemory:
    """Two arrays by turns, so that the memory of strips is asked for twice and no more.

    A strip may be used until the next but one is begun.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array of any content; see ``numpy.empty``."""
        array = self._arrays.pop(0) if len(self._arrays) == 2 else np.empty(0, dtype)
        if array.dtype != dtype or array[0:1].shape[1:] != shape[1:] or len(array) < shape[0]:
            array = np.empty(shape, dtype)
        self._arrays.append(array)
        return array[: shape[0]]
