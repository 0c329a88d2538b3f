"""Rows of an unfinished result on disk, from which interrupted work resumes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.atomic import replacing

_STRIP_BYTES = 2**25


class WorkFile:
    """A float32 image (H, W, B) that grows from the top, with a journal of its progress.

    Parameters
    ----------
    final : path-like
        The final file. The work file is next to it, under a hidden name.
    shape : (int, int, int)
        Rows, columns and bands.
    job : dict
        Description of the work (JSON types). Existing work is resumed if its job is the same;
        otherwise it starts again.

    Attributes
    ----------
    pieces : int
        Number of finished strips.
    rows : int
        Number of finished rows.
    figures : dict
        What the caller stores alongside the rows (JSON types).

    Raises
    ------
    OSError
        If the disk has no room for the complete image.
    """

    def __init__(
        self, final: str | os.PathLike[str], shape: tuple[int, int, int], job: dict[str, Any]
    ) -> None:
        final = Path(final)
        self.shape = shape
        self._path = final.with_name(f".{final.name}.partial")
        self._journal = final.with_name(f".{final.name}.partial.json")
        self._job = json.loads(json.dumps(job))
        self._row_bytes = shape[1] * shape[2] * 4
        self.pieces, self.rows = 0, 0
        self.figures: dict[str, Any] = {}
        final.parent.mkdir(parents=True, exist_ok=True)
        self._lock = final.with_name(f".{final.name}.partial.lock")
        self._take_lock(final)
        self._find_former()
        left = (shape[0] - self.rows) * self._row_bytes
        if shutil.disk_usage(final.parent).free < left:
            self.release()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(final))
        if not self.rows:  # a journal of other work must not apply to the new rows
            self._journal.unlink(missing_ok=True)
        with open(self._path, "ab") as stream:
            stream.truncate(self.rows * self._row_bytes)

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

    def _find_former(self) -> None:
        if not (self._journal.is_file() and self._path.is_file()):
            return
        try:
            found = json.loads(self._journal.read_text(encoding="utf-8"))
            same = found["job"] == self._job
            rows, pieces, figures = int(found["rows"]), int(found["pieces"]), found["figures"]
        except (ValueError, KeyError, TypeError):
            return  # a torn journal: the work starts again
        if same and self._path.stat().st_size >= rows * self._row_bytes:
            self.rows, self.pieces, self.figures = rows, pieces, figures

    def append(self, strip: np.ndarray, figures: dict[str, Any]) -> None:
        """Write the next rows (n, W, B) and the figures up to them."""
        with open(self._path, "r+b") as stream:
            stream.seek(self.rows * self._row_bytes)
            stream.write(np.ascontiguousarray(strip, np.float32).data)
            stream.flush()
            os.fsync(stream.fileno())  # the journal must not list rows that a power cut destroyed
        self.rows += len(strip)
        self.pieces += 1
        self.figures = figures
        content = {
            "job": self._job,
            "rows": self.rows,
            "pieces": self.pieces,
            "figures": figures,
        }
        with replacing(self._journal) as beside:
            beside.write_text(json.dumps(content), encoding="utf-8")

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return finished rows and columns (n, m, B); slices may have a step."""
        start, stop, step = rows.indices(self.rows)
        width, bands = self.shape[1:]
        with open(self._path, "rb") as stream:
            if step == 1:
                stream.seek(start * self._row_bytes)
                values = np.fromfile(stream, np.float32, (stop - start) * width * bands)
                return values.reshape(-1, width, bands)[:, columns]
            chosen = []
            for row in range(start, stop, step):
                stream.seek(row * self._row_bytes)
                line = np.fromfile(stream, np.float32, width * bands).reshape(width, bands)
                chosen.append(line[columns].copy())
        kept = len(range(*columns.indices(width)))
        return np.array(chosen, np.float32).reshape(len(chosen), kept, bands)

    def strips(self) -> Iterator[np.ndarray]:
        """Yield all finished rows from the top, in strips of bounded size."""
        count = max(1, _STRIP_BYTES // self._row_bytes)
        for start in range(0, self.rows, count):
            yield self.read(slice(start, min(start + count, self.rows)))

    def remove(self) -> None:
        """Delete the work file and its journal."""
        self._journal.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
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
