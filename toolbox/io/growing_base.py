"""What grows: an enlarged map of which the first rows are written, whatever its kind."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from toolbox.io.map_gdal import tell_system, with_side_file
from toolbox.io.map_output import MapOutput

#: Bytes of a finished map that are read at a time.
_READ_BYTES = 2**25


class GrowingMap(ABC):
    """A map of which the first rows are written.

    Parameters
    ----------
    output : MapOutput
        The shape of the result, and how values are stored.

    Attributes
    ----------
    path : pathlib.Path
        Where it grows: a hidden name beside the result.
    shape : (int, int, int)
        Rows, columns and bands of the whole.
    """

    def __init__(self, output: MapOutput) -> None:
        self.output, self.shape = output, output.shape
        final = output.path
        self.path = final.with_name(f".{final.name}.partial")
        self._final = self._where = final

    @property
    def row_bytes(self) -> int:
        """Bytes of a row before it is compressed."""
        return self.shape[1] * self.shape[2] * self.output.dtype.itemsize

    #: Whether an unfinished map can be read.
    readable: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """Whether the rows that were put can be read back unchanged before the map is finished."""
        return self.readable and self.output.dtype == np.float32 and self.output.plain

    @abstractmethod
    def begin(self) -> None:
        """Make the empty map; what is there is removed."""

    @abstractmethod
    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Return to the state after so many rows; False if that cannot be."""

    @abstractmethod
    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Write rows from number `first` on, which follow those written before.

        Parameters
        ----------
        first : int
            Number of the first row.
        strip : numpy.ndarray, shape (n, W, B), float32
            Metres, heights positive up, NaN where missing; it may be changed.

        Returns
        -------
        dict
            The state, JSON types; everything it speaks of is on the disk.
        """

    def finish(self) -> None:
        """Give the map its name; everything is written."""
        with with_side_file(self.path, self._final):
            self._complete()
            tell_system(self.path, self.output)
            self._rename()
        self._where = self._final
        self.output.tell()

    def _complete(self) -> None:  # noqa: B027, most have nothing
        """Write what can be written at the end alone."""

    def _rename(self) -> None:
        os.replace(self.path, self._final)

    @abstractmethod
    def _stored(self, rows: slice, columns: slice, bands: int) -> np.ndarray:
        """Return stored values (n, m, bands) of the map at `_where`."""

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return rows and columns (n, m, C) of the finished map, float32; a step leaves some out.

        Metres, heights positive up, NaN where missing: what the file says, rounded if it is.
        """
        start, stop, step = rows.indices(self.shape[0])
        count = self.output.like.channels
        parts = [self._stored(slice(0, 0), columns, count)]
        for a, b in self._bounded(start, stop):
            parts.append(self._stored(slice(a, b), columns, count)[(start - a) % step :: step])
        return self.output.decode(np.concatenate(parts))

    def former_rows(self, rows: slice) -> np.ndarray:
        """Return rows (n, W, B) of an unfinished map that is `exact`, as they were put."""
        self._where = self.path
        return self.output.decode(self._stored(rows, slice(None), self.shape[2]))

    def set_aside(self) -> None:
        """Take another name, so that a new map can begin; what comes before is still read."""
        aside = self.path.with_name(f"{self.path.name}.former")
        remove_tree(aside)
        self.path = self.path.rename(aside)

    def _bounded(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut rows into pieces that begin with a block of the file."""
        height = self._height()
        height *= max(1, _READ_BYTES // (self.row_bytes * height))
        while start < stop:
            end = min(stop, (start // height + 1) * height)
            yield start, end
            start = end

    def _height(self) -> int:
        """Rows that are read together."""
        return 1

    def remove(self) -> None:
        """Delete the unfinished map."""
        remove_tree(self.path)

    def _figures(self) -> dict[str, Any]:
        return {"gaps": self.output.gaps, "cut": self.output.cut}

    def _restore_figures(self, state: dict[str, Any]) -> None:
        self.output.gaps, self.output.cut = int(state["gaps"]), int(state["cut"])


def thread_count() -> int:
    """Return how many threads compress at a time.

    Returns
    -------
    int
        At most eight.
    """
    return max(1, min(8, os.cpu_count() or 1))


def remove_tree(path: Path) -> None:
    """Delete a file, or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
