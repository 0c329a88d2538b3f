"""Write beside, then rename: a file appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], suffix: str | None = None) -> Iterator[Path]:
    """Give a temporary path in the same folder that becomes `path` if the block ends well.

    Parameters
    ----------
    path : path-like
        The final name; its folder is made if missing.
    suffix : str, optional
        Ending of the temporary name, for writers that insist on one; default that of `path`.

    Yields
    ------
    pathlib.Path
        Where to write.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    ending = final.suffix if suffix is None else suffix
    beside = final.with_name(f".{final.name}.{os.getpid()}.tmp{ending}")
    try:
        yield beside
        os.replace(beside, final)
    finally:
        beside.unlink(missing_ok=True)
