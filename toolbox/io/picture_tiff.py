"""TIFF pictures: read 16-bit samples, which Pillow would reduce to 8, and write any in strips."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from toolbox.errors import DataError

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNSIGNED, _UNTYPED = 1, 4
_DEFLATED = (8, 32946)
_UNSPECIFIED, _MULTIPLIED, _UNMULTIPLIED = 0, 1, 2
_CLASSIC_BYTES = 4_000_000_000
_DEFLATE_LEVEL = 4
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 2, 3, 4, 5, 7, 16
_TYPES = {_SHORT: "<u2", _LONG: "<u4", _LONG8: "<u8"}
_SIZES = {_BYTE: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1, _LONG8: 8}
#: Type and bytes of a tag.
_Entry = tuple[int, bytes]

# Without a handler, Python would print what tifffile logs in addition to the error it raises.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
_ONE_NOTE = "a TIFF library reports a problem; the file may be damaged: {}"


class _Doubts(logging.Handler):
    """Collects what tifffile logs in the thread that created this handler."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._thread = notes, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Note the first problem."""
        if record.thread == self._thread and not self._notes:
            words = record.getMessage().splitlines()[0]
            inner = re.search(r"Error\(['\"](.*)['\"]\)", words)
            self._notes.append(_ONE_NOTE.format(inner[1] if inner else words))


@contextlib.contextmanager
def doubts_noted(notes: list[str]) -> Iterator[None]:
    """Add a note if tifffile reports a problem with a file that is read within this block.

    tifffile skips an unreadable tag and continues, e.g. as if nothing were compressed.
    """
    own: list[str] = []
    doubts, logger = _Doubts(own), logging.getLogger("tifffile")
    logger.addHandler(doubts)
    try:
        yield
    finally:
        logger.removeHandler(doubts)
        notes += own


def check_deflated(page: tifffile.TiffPage) -> None:
    """Verify the checksums of a page compressed with Deflate, which libtiff ignores.

    Raises
    ------
    zlib.error
        If a checksum does not agree.
    """
    if page.compression not in _DEFLATED:
        return
    handle = page.parent.filehandle
    for content, *_ in handle.read_segments(page.dataoffsets, page.databytecounts, lock=None):
        if isinstance(content, bytes):
            zlib.decompress(content)


def is_deep(path: Path, page: tifffile.TiffPage) -> bool:
    """Whether the samples have 16 bits rather than 8 or fewer.

    Raises
    ------
    DataError
        If the values are not those of a picture: floating point, signed, or of 32 bits.
    """
    bits = np.ravel(page.bitspersample)
    if page.sampleformat not in (_UNSIGNED, _UNTYPED) or bits.max() > 16:
        kind = page.dtype if page.dtype is not None else f"{bits.max()} bits"
        raise DataError(
            f"{path}: a map or a scientific image with values of type {kind}; expected a picture "
            f"with 8 or 16 bits, unsigned. Convert it, or use a task for maps."
        )
    if bits.max() <= 8:
        return False
    if bits.min() != 16:
        raise DataError(
            f"{path}: TIFF with {bits.min()} bits per sample is not supported. Convert it to 8 or "
            f"16 bits."
        )
    return True


def deep_samples(path: Path, page: tifffile.TiffPage, notes: list[str]) -> tuple[np.ndarray, bool]:
    """Return the 16-bit samples of a page as stored.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    page : tifffile.TiffPage
        Its first page.
    notes : list of str
        Receives what a user should know.

    Returns
    -------
    samples : numpy.ndarray, shape (H, W, C) or (H, W, C + 1), uint16
        Grey (black is 0) or RGB, in native byte order.
    clear : bool
        Whether the last sample is alpha.

    Raises
    ------
    DataError
        If the colours are neither grey nor RGB, or the compression is not supported.
    """
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        name = getattr(page.photometric, "name", page.photometric)
        raise DataError(
            f"{path}: 16-bit colours of the kind {name} are not supported. Convert it to grey or "
            f"RGB in an image editor."
        )
    samples = _decoded(path, page)
    colours = 3 if page.photometric == _RGB else 1
    values = samples[..., :colours]
    if page.photometric == _WHITE_IS_ZERO:
        values = ~values
    if samples.shape[-1] == colours:
        return values, False
    # An undeclared fourth sample is alpha.
    kind = page.extrasamples[0] if page.extrasamples else None
    note_left_out(samples.shape[-1] - colours - (kind != _UNSPECIFIED), notes)
    if kind == _UNSPECIFIED:
        return values, False
    alpha = samples[..., colours : colours + 1]
    if kind == _MULTIPLIED:
        values = _divided(values, alpha)
    return np.concatenate([values, alpha], axis=-1), True


def note_left_out(count: int, notes: list[str]) -> None:
    """Note the samples of a pixel that are left out, being neither colour nor alpha, if any."""
    if count > 0:
        samples = "1 sample" if count == 1 else f"{count} samples"
        notes.append(f"{samples} per pixel beyond colours and alpha left out")


def _decoded(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    try:
        stored = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _decoded_by_opencv(path, page).reshape(shape)
    if page.planarconfig == 2:
        stored = np.moveaxis(stored.reshape(shape[2], *shape[:2]), 0, -1)
    return stored.reshape(shape).astype(np.uint16, copy=False)


def _decoded_by_opencv(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Decode LZW and other compressions for which tifffile needs a further library."""
    from toolbox.opencv import cv2

    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        name = getattr(page.compression, "name", page.compression)
        raise DataError(
            f"{path}: 16-bit TIFF with {name} compression is not supported. Save it with ZIP "
            f"or without compression."
        )
    if decoded.ndim == 3:
        decoded[..., :3] = decoded[..., 2::-1].copy()
    return decoded


def _divided(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divide colours by alpha, by which they were multiplied."""
    wide = values.astype(np.uint32) * np.uint32(65535)
    half = alpha // np.uint32(2)
    quotient = (wide + half) // np.maximum(alpha, 1)
    return np.minimum(quotient, 65535).astype(np.uint16)


# -- Writing -------------------------------------------------------------------------------------


def write_tiff(
    path: Path,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    rows: int,
    icc: bytes | None = None,
    exif: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write a TIFF block by block: deflate with predictor, BigTIFF if it may exceed 4 GB.

    tifffile needs complete pictures and omits the EXIF directories.

    Parameters
    ----------
    path : pathlib.Path
        The file to write.
    blocks : iterable of numpy.ndarray, shape (rows, W, S), uint8 or uint16
        Blocks from the top; the last one may have fewer rows.
    shape : (int, int, int)
        Rows, columns and samples S of the picture; 2 and 4 samples end with alpha.
    dtype : numpy.dtype
        Data type of the blocks.
    rows : int
        Rows of a block.
    icc, exif : bytes or None
        ICC profile and EXIF block.
    dpi : (float, float) or None
        Pixels per inch.
    """
    big = math.prod(shape) * dtype.itemsize > _CLASSIC_BYTES
    starts, sizes = [], []
    with path.open("wb") as stream:
        stream.write(b"II+\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4))
        for block in blocks:
            packed = _packed(block)
            starts.append(stream.tell())
            sizes.append(stream.write(packed))
        entries = {} if exif is None else _exif_entries(stream, exif, big)
        entries |= _picture_entries(shape, 8 * dtype.itemsize, rows)
        long = _LONG8 if big else _LONG
        entries |= {273: _entry(long, starts), 279: _entry(long, sizes)}
        if icc is not None:
            entries[34675] = (_UNDEFINED, icc)
        if dpi is not None:
            entries |= {282: _rational(dpi[0]), 283: _rational(dpi[1]), 296: _entry(_SHORT, 2)}
        start = _even_end(stream)
        stream.write(_directory(entries, start, big))
        stream.seek(8 if big else 4)
        stream.write(struct.pack("<Q" if big else "<I", start))


def _packed(block: np.ndarray) -> bytes:
    """Apply the horizontal predictor and deflate; TIFF 6.0, section 14."""
    differences = block.copy()
    differences[:, 1:] -= block[:, :-1]
    little = differences.astype(block.dtype.newbyteorder("<"), copy=False)
    return zlib.compress(little.data, _DEFLATE_LEVEL)


def _entry(kind: int, values: Any) -> _Entry:
    return kind, np.ravel(values).astype(_TYPES[kind]).tobytes()


def _rational(value: float) -> _Entry:
    fraction = Fraction(value).limit_denominator(10_000)
    return _RATIONAL, struct.pack("<2I", fraction.numerator, fraction.denominator)


def _picture_entries(shape: tuple[int, int, int], bits: int, rows: int) -> dict[int, _Entry]:
    """Return the required tags of a picture; TIFF 6.0, sections 4, 6, 14 and 18."""
    height, width, samples = shape
    entries = {256: _entry(_LONG, width), 257: _entry(_LONG, height), 278: _entry(_LONG, rows)}
    short = {
        258: [bits] * samples,
        259: 8,  # deflate
        262: _RGB if samples > 2 else _BLACK_IS_ZERO,
        277: samples,
        284: 1,  # samples of a pixel are stored together
        317: 2,  # horizontal predictor
    }
    if samples in (2, 4):
        short[338] = _UNMULTIPLIED
    return entries | {tag: _entry(_SHORT, values) for tag, values in short.items()}


def _exif_entries(stream: BinaryIO, exif: bytes, big: bool) -> dict[int, _Entry]:
    """Write the inner directories of an EXIF block; return its tags for the main directory."""
    block = Image.Exif()
    block.load(exif)
    entries: dict[int, _Entry] = {}
    for tag, value in block.items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries[tag] = _entry(
                _LONG8 if big else _LONG, _append_directory(stream, tag, block, big)
            )
        elif isinstance(value, str):
            entries[tag] = (_ASCII, value.encode("latin-1", "replace") + b"\0")
        elif isinstance(value, bytes):
            entries[tag] = (_BYTE, value)
        elif isinstance(value, int):
            entries[tag] = _entry(_SHORT, value)
    return entries


def _append_directory(stream: BinaryIO, tag: int, block: Image.Exif, big: bool) -> int:
    """Write the directory `tag` of an EXIF block; return its offset."""
    head = b"II+\0" + bytes(12) if big else b"II*\0" + bytes(4)
    directory = TiffImagePlugin.ImageFileDirectory_v2(head, group=tag)
    for inner, value in block.get_ifd(tag).items():
        is_directory = inner == ExifTags.IFD.Interop
        directory[inner] = block.get_ifd(inner) if is_directory else value
    start = _even_end(stream)
    stream.write(directory.tobytes(start))
    return start


def _even_end(stream: BinaryIO) -> int:
    stream.write(bytes(stream.tell() % 2))
    return stream.tell()


def _directory(entries: dict[int, _Entry], start: int, big: bool) -> bytes:
    """Lay out a directory that begins at `start`; TIFF 6.0, section 2, and BigTIFF."""
    count, entry, offset = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    room = struct.calcsize(offset)
    behind = start + struct.calcsize(count) + len(entries) * (struct.calcsize(entry) + room) + room
    listed, values = struct.pack(count, len(entries)), b""
    for tag, (kind, content) in sorted(entries.items()):
        number = len(content) // _SIZES[kind]
        field = content.ljust(room, b"\0")
        if len(content) > room:
            field = struct.pack(offset, behind + len(values))
            values += content + bytes(len(content) % 2)
        listed += struct.pack(entry, tag, kind, number) + field
    return listed + bytes(room) + values
