"""Rows of an unfinished result on disk, from which interrupted work resumes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from toolbox.errors import DataError
from toolbox.io.atomic import replacing

_STRIP_BYTES = 2**25


class Growing(Protocol):
    """Where rows of a result are written; `toolbox.io.growing` has the results themselves."""

    path: Path

    @property
    def row_bytes(self) -> int:
        """Bytes of a row before it is compressed."""

    @property
    def exact(self) -> bool:
        """Whether rows can be read back unchanged before the result is finished."""

    def begin(self) -> None:
        """Start again; remove what exists."""

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Return to the state after so many rows; False if that cannot be."""

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Write rows from number `first` on, and return the state (JSON types)."""

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return finished rows and columns, float32; a step leaves some out."""

    def former_rows(self, rows: slice) -> np.ndarray:
        """Return rows as they were given to `put`; only if `exact`."""

    def set_aside(self) -> None:
        """Take another name, so that a new file can start; this one can still be read."""

    def finish(self) -> None:
        """Turn it into the result."""

    def remove(self) -> None:
        """Delete it, unless it is finished."""


class RowFile:
    """Rows of float32 in a plain file, for a kind of result that is written as a whole.

    Parameters
    ----------
    final : pathlib.Path
        The final file.
    shape : (int, int, int)
        Rows, columns and bands.
    """

    exact = True

    def __init__(self, final: Path, shape: tuple[int, int, int]) -> None:
        self.path = final.with_name(f".{final.name}.partial")
        self.shape = shape
        self.row_bytes = shape[1] * shape[2] * 4

    def begin(self) -> None:
        """Start again; remove what exists."""
        self.path.write_bytes(b"")

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Cut off what came after these rows; False if there are fewer."""
        size = rows * self.row_bytes
        if not self.path.is_file() or self.path.stat().st_size < size:
            return False
        os.truncate(self.path, size)
        return True

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Append rows."""
        with open(self.path, "r+b") as stream:
            stream.seek(first * self.row_bytes)
            stream.write(np.ascontiguousarray(strip, np.float32).data)
            stream.flush()
            os.fsync(stream.fileno())  # the journal must not list rows that a power cut destroyed
        return {}

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return rows and columns (n, m, B); a step leaves some out."""
        start, stop, step = rows.indices(self.shape[0])
        width, bands = self.shape[1:]
        with open(self.path, "rb") as stream:
            if step == 1:
                stream.seek(start * self.row_bytes)
                values = np.fromfile(stream, np.float32, max(0, stop - start) * width * bands)
                return values.reshape(-1, width, bands)[:, columns]
            chosen = []
            for row in range(start, stop, step):
                stream.seek(row * self.row_bytes)
                line = np.fromfile(stream, np.float32, width * bands).reshape(width, bands)
                chosen.append(line[columns].copy())
        kept = len(range(*columns.indices(width)))
        return np.array(chosen, np.float32).reshape(len(chosen), kept, bands)

    def former_rows(self, rows: slice) -> np.ndarray:
        """Return rows as they were given to `put`."""
        return self.read(rows)

    def set_aside(self) -> None:
        """Take another name."""
        self.path = self.path.replace(self.path.with_name(f"{self.path.name}.former"))

    def finish(self) -> None:
        """Do nothing: the result is written from the rows."""

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


class Claim:
    """The lock of a result that only one process may write, and its journal.

    Parameters
    ----------
    final : pathlib.Path
        The final file; its folder is created if missing.
    """

    def __init__(self, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        self._journal = final.with_name(f".{final.name}.partial.json")
        self._lock = final.with_name(f".{final.name}.partial.lock")
        self._take_lock(final)

    def _take_lock(self, final: Path) -> None:
        """Refuse a second process that writes the same result; take over the lock of a dead one."""
        while True:
            try:
                with open(self._lock, "x") as stream:
                    stream.write(str(os.getpid()))
                return
            except FileExistsError:
                owner = self._lock.read_text().strip()
                if owner.isdigit() and int(owner) != os.getpid() and _is_alive(int(owner)):
                    raise DataError(
                        f"{final}: process {owner} is writing this file. Wait for it, or name "
                        f"another output."
                    ) from None
                self._lock.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock, so that another process can resume the work."""
        self._lock.unlink(missing_ok=True)

    def _read_journal(self) -> dict[str, Any]:
        """Return what the journal holds; ValueError if it is torn, nothing if there is none."""
        if not self._journal.is_file():
            return {}
        return dict(json.loads(self._journal.read_text(encoding="utf-8")))

    def _write_journal(self, content: dict[str, Any]) -> None:
        with replacing(self._journal) as beside:
            beside.write_text(json.dumps(content), encoding="utf-8")


class WorkFile(Claim):
    """An image (H, W, B) that grows from the top, with a journal of its progress.

    Parameters
    ----------
    final : path-like
        The final file. The work file is next to it, under a hidden name.
    shape : (int, int, int)
        Rows, columns and bands.
    job : dict
        Description of the work (JSON types). Existing work is resumed if its job is the same;
        otherwise it starts again.
    form : dict, optional
        How the rows are stored (JSON types): the arguments of `grow`. Existing work in another
        form is converted if that loses nothing; otherwise it starts again.
    grow : callable, optional
        Returns the result itself, to be written strip by strip, or None for a kind that cannot
        be. Then, and by default, the rows are kept as float32 in a separate file.

    Attributes
    ----------
    pieces : int
        Number of finished strips.
    rows : int
        Number of finished rows.
    figures : dict
        What the caller stores alongside the rows (JSON types).
    grows : bool
        Whether the rows are written to the result itself.

    Raises
    ------
    OSError
        If the disk has no room for the complete image.
    """

    def __init__(
        self,
        final: str | os.PathLike[str],
        shape: tuple[int, int, int],
        job: dict[str, Any],
        form: dict[str, Any] | None = None,
        grow: Callable[..., Growing | None] = lambda **form: None,
    ) -> None:
        final = Path(final)
        self.shape = shape
        self._job, self._form = json.loads(json.dumps([job, form or {}]))
        self._make = lambda form: grow(**form) or RowFile(final, shape)
        self._store: Growing = self._make(self._form)
        self.grows = not isinstance(self._store, RowFile)
        self.pieces, self.rows = 0, 0
        self.figures: dict[str, Any] = {}
        self._state: dict[str, Any] = {}
        super().__init__(final)
        try:
            self._find_former()
            if shutil.disk_usage(final.parent).free < (shape[0] - self.rows) * self._row_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(final))
            if not self.rows:  # a journal of other work must not apply to the new rows
                self._journal.unlink(missing_ok=True)
                self._store.begin()
        except BaseException:
            self.release()
            raise

    @property
    def _row_bytes(self) -> int:
        return self._store.row_bytes

    def _find_former(self) -> None:
        try:
            found = self._read_journal()
            same = found["job"] == self._job
            rows, pieces, figures = int(found["rows"]), int(found["pieces"]), found["figures"]
            state, form = dict(found["state"]), dict(found["form"])
            if not same or not rows:
                return
            if form != self._form:
                state = self._turn(form, rows, state)
            elif not self._store.resume(rows, state):
                return
        except (ValueError, KeyError, TypeError):
            return  # no journal, or a torn one: the work starts again
        self.rows, self.pieces, self.figures, self._state = rows, pieces, figures, state
        if form != self._form:
            self._record()

    def _turn(self, form: dict[str, Any], rows: int, state: dict[str, Any]) -> dict[str, Any]:
        """Convert finished rows from another form to this one."""
        former = self._make(form)
        if not (former.exact and former.resume(rows, state)):
            raise ValueError(form)
        former.set_aside()
        self._journal.unlink()
        self._store.begin()
        count = max(1, _STRIP_BYTES // former.row_bytes)
        for start in range(0, rows, count):
            state = self._store.put(
                start, former.former_rows(slice(start, min(start + count, rows)))
            )
        former.remove()
        return state

    def append(self, strip: np.ndarray, figures: dict[str, Any]) -> None:
        """Write the next rows (n, W, B) and the figures up to them; the strip may be changed."""
        self._state = self._store.put(self.rows, strip)
        self.rows += len(strip)
        self.pieces += 1
        self.figures = figures
        self._record()

    def _record(self) -> None:
        content = {
            "job": self._job,
            "form": self._form,
            "rows": self.rows,
            "pieces": self.pieces,
            "figures": self.figures,
            "state": self._state,
        }
        self._write_journal(content)

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return finished rows and columns (n, m, B); slices may have a step.

        If the result `grows`: only after `finish`, and the channels of the map alone.
        """
        start, stop, step = rows.indices(self.rows)
        return self._store.read(slice(start, max(start, stop), step), columns)

    def finish(self) -> None:
        """Complete the result and give it its name, if it `grows`."""
        self._store.finish()

    def strips(self) -> Iterator[np.ndarray]:
        """Yield all finished rows from the top, in strips of bounded size."""
        count = max(1, _STRIP_BYTES // self._row_bytes)
        for start in range(0, self.rows, count):
            yield self.read(slice(start, min(start + count, self.rows)))

    def remove(self) -> None:
        """Delete the work file and its journal."""
        self._journal.unlink(missing_ok=True)
        self._store.remove()
        self.release()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # on Windows, signal 0 would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
