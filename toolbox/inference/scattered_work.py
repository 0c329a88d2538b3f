"""Rows of an unfinished result that many processes fill, and a journal of those that are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.inference.work_file import Claim, Growing
from toolbox.io.zarr_maps import ZarrRows


class ScatteredWork(Claim):
    """An image (H, W, B) whose strips are put there in any order, by any process.

    A Zarr is filled itself. For other kinds of results the rows are kept in one, and the result
    is made of them at the end.

    Parameters
    ----------
    final : path-like
        The file that will be made of it.
    shape : (int, int, int)
        Rows, columns and bands.
    strip_rows : int
        Rows of every strip but the last.
    job : dict
        What the work is (JSON types); see `toolbox.inference.work_file.WorkFile`.
    growing : Growing or None
        The result, if it can grow; None for a kind that is written as a whole.

    Attributes
    ----------
    done : dict of int to dict
        What is known of the strips that are complete, by their numbers.
    grows : bool
        Whether `finish` makes the result, rather than the caller of `strips`.
    """

    def __init__(
        self,
        final: Path,
        shape: tuple[int, int, int],
        strip_rows: int,
        job: dict[str, Any],
        growing: Growing | None,
    ) -> None:
        self.shape, self._strip_rows, self._growing = shape, strip_rows, growing
        self.grows = growing is not None
        self.direct = final.suffix.lower() == ".zarr"
        self.path = final.with_name(f".{final.name}.partial.zarr")
        self._job = json.loads(json.dumps({**job, "scattered": strip_rows}))
        self.done: dict[int, dict[str, Any]] = {}
        super().__init__(final)
        try:
            self._find_former()
            if not self.done:
                self._journal.unlink(missing_ok=True)
                self._store.begin()
        except BaseException:
            self.release()
            raise

    @property
    def _store(self) -> Any:
        """What the strips are put into."""
        if self.direct:
            return self._growing
        return ZarrRows(self.path, self.shape, self._strip_rows)

    @property
    def count(self) -> int:
        """Number of all strips."""
        return -(-self.shape[0] // self._strip_rows)

    def _find_former(self) -> None:
        try:
            found = self._read_journal()
            done = {int(number): dict(known) for number, known in found["done"].items()}
            if found["job"] == self._job and self._store.resume(0, {"gaps": 0, "cut": 0}):
                self.done = done
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # no journal, or a torn one: the work starts again

    def missing(self) -> list[int]:
        """Return the numbers of the strips that are to be done."""
        return [number for number in range(self.count) if number not in self.done]

    def record(self, number: int, known: dict[str, Any]) -> None:
        """Note that a strip is on the disk, and what is known of it."""
        self.done[number] = known
        self._write_journal({"job": self._job, "done": self.done})

    def finish(self) -> None:
        """Make the result, if it is of a kind that grows; all strips are there."""
        assert self._growing is not None
        if self.direct:
            for name in ("gaps", "cut"):
                total = sum(known["state"][name] for known in self.done.values())
                setattr(self._growing.output, name, total)  # type: ignore[attr-defined]
        else:
            self._growing.begin()
            first = 0
            for strip in self.strips():
                self._growing.put(first, strip)
                first += len(strip)
        self._growing.finish()

    def strips(self) -> Iterator[np.ndarray]:
        """Yield all rows from the top, strip by strip."""
        for start in range(0, self.shape[0], self._strip_rows):
            yield self._store.read(slice(start, min(start + self._strip_rows, self.shape[0])))

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return rows and columns of the result, float32; a step leaves some out."""
        store: Callable[..., np.ndarray]
        store = self._store.read if self._growing is None else self._growing.read
        return store(rows, columns)

    def remove(self) -> None:
        """Delete the work and its journal."""
        self._journal.unlink(missing_ok=True)
        if self._growing is not None:
            self._growing.remove()
        if not self.direct:
            self._store.remove()
        self.release()
