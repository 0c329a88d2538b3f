"""Compressed tiles of a TIFF file, moved as they are: found in one file, entered into another."""

from __future__ import annotations

import dataclasses
import struct
from typing import BinaryIO

import numpy as np

_OFFSETS, _COUNTS = 324, 325
#: Type codes of TIFF 6.0 and BigTIFF for whole numbers: short, long, long8.
_KINDS = {3: "u2", 4: "u4", 16: "u8"}


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a tag's numbers lie."""

    place: int
    kind: np.dtype
    count: int


class TileTable:
    """Offsets and sizes of the tiles of an open TIFF file, its first directory.

    Parameters
    ----------
    stream : binary file
        A TIFF or BigTIFF file, tiled; open for writing too if `enter` is used.

    Attributes
    ----------
    count : int
        Number of tiles: row by row, one plane after the other.

    Raises
    ------
    ValueError
        If it is no tiled TIFF file.

    References
    ----------
    .. [1] TIFF revision 6.0, Adobe 1992, sections 2 and 15; BigTIFF has offsets of 8 bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.seek(0)
        head = stream.read(16)
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(f"{self._order or '<'}H", head[2:4])[0] if len(head) == 16 else 0
        if not self._order or version not in (42, 43):
            raise ValueError("no TIFF file")
        self._big = version == 43
        try:
            entries = self._directory(head)
        except struct.error:
            raise ValueError("a TIFF file without its directory") from None
        if not {_OFFSETS, _COUNTS} <= set(entries):
            raise ValueError("a TIFF file without tiles")
        self._offsets, self._counts = entries[_OFFSETS], entries[_COUNTS]
        self.count = self._offsets.count

    def _directory(self, head: bytes) -> dict[int, _Entry]:
        order = self._order
        if self._big:
            start, number, size, inline = struct.unpack(f"{order}Q", head[8:16])[0], "Q", 20, 8
        else:
            start, number, size, inline = struct.unpack(f"{order}L", head[4:8])[0], "H", 12, 4
        self._stream.seek(start)
        width = struct.calcsize(f"{order}{number}")
        length = struct.unpack(f"{order}{number}", self._stream.read(width))[0]
        raw = self._stream.read(length * size)
        found = {}
        for place in range(0, length * size, size):
            tag, code = struct.unpack_from(f"{order}HH", raw, place)
            if tag not in (_OFFSETS, _COUNTS) or code not in _KINDS:
                continue
            word = "Q" if self._big else "L"
            count, value = struct.unpack_from(f"{order}{word}{word}", raw, place + 4)
            kind = np.dtype(f"{order}{_KINDS[code]}")
            at = start + width + place + size - inline
            found[tag] = _Entry(at if kind.itemsize * count <= inline else value, kind, count)
        return found

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and size in bytes of every tile, 0 where there is none."""
        return self._numbers(self._offsets), self._numbers(self._counts)

    def _numbers(self, entry: _Entry) -> np.ndarray:
        self._stream.seek(entry.place)
        raw = self._stream.read(entry.kind.itemsize * entry.count)
        return np.frombuffer(raw, entry.kind).astype(np.uint64)

    def enter(self, first: int, offsets: np.ndarray, sizes: np.ndarray) -> None:
        """Write offsets and sizes of neighbouring tiles, from number `first` on."""
        for entry, values in ((self._offsets, offsets), (self._counts, sizes)):
            if len(values) and int(np.max(values)) > np.iinfo(entry.kind).max:
                raise ValueError(f"{int(np.max(values))} is too large for {entry.kind}")
            self._stream.seek(entry.place + first * entry.kind.itemsize)
            self._stream.write(np.asarray(values).astype(entry.kind).tobytes())
