"""Check of ESRI ASCII grids before GDAL reads them, as GDAL reads a word as 0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_CHUNK_BYTES = 2**20
_LONGEST_TOKEN = 100
_HEADER_PAIRS = 16
_KEY = re.compile(rb"(?!nan|inf)[a-z]", re.IGNORECASE)
#: How C libraries on Windows write NaN; GDAL understands it.
_NOT_FINITE = re.compile(rb"[+-]?1\.#(qnan|snan|ind|inf)\d*", re.IGNORECASE)


def fault_of(path: Path) -> str:
    """Return what is wrong with the values of an ASCII grid, using a few MB of memory.

    Parameters
    ----------
    path : pathlib.Path
        File that begins with ``ncols`` or another keyword of such a grid.

    Returns
    -------
    str
        Empty if every value is a number and there are ``ncols`` × ``nrows`` of them. Also empty
        if the header lacks these keys, because GDAL refuses such a file.
    """
    chunks = _chunks(path)
    tokens = next(chunks, [])
    sizes: dict[bytes, bytes] = {}
    while len(sizes) < _HEADER_PAIRS and tokens[1:] and _KEY.match(tokens[0]):
        sizes[tokens[0].lower()] = tokens[1]
        tokens = tokens[2:]
    columns, rows = (sizes.get(key, b"") for key in (b"ncols", b"nrows"))
    if not (columns.isdigit() and rows.isdigit()):
        return ""
    count = 0
    while True:
        wrong = _first_wrong(tokens)
        if wrong is not None:
            row, column = divmod(count + wrong, max(1, int(columns)))
            shown = tokens[wrong][:20].decode("ascii", "replace")
            return f"row {row + 1}, column {column + 1} holds {shown!r}, which is not a number"
        count += len(tokens)
        following = next(chunks, None)
        if following is None:
            break
        tokens = following
    wanted = int(columns) * int(rows)
    if count == wanted:
        return ""
    return f"{int(columns)} × {int(rows)} values are {wanted}, but it has {count}"


def _chunks(path: Path) -> Iterator[list[bytes]]:
    """Yield the words of a text, in lists of many words."""
    rest = b""
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            text = rest + chunk
            # The last word may continue in the next chunk.
            cut = max(text.rfind(end) for end in (b" ", b"\n", b"\t", b"\r")) + 1
            rest = text[cut:]
            if len(rest) > _LONGEST_TOKEN:
                cut, rest = len(text), b""
            yield text[:cut].split()
    yield rest.strip(b"\0\x1a").split()


def _first_wrong(tokens: list[bytes]) -> int | None:
    """Return the position of the first word that is not a number."""
    try:
        # GDAL also accepts a decimal comma.
        np.array([token.replace(b",", b".") for token in tokens], bytes).astype(np.float64)
    except ValueError:
        return next((i for i, token in enumerate(tokens) if not _is_number(token)), None)
    return None


def _is_number(token: bytes) -> bool:
    try:
        float(token.replace(b",", b"."))
    except ValueError:
        return _NOT_FINITE.fullmatch(token) is not None
    return True
