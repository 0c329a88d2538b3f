"""Pictures written strip by strip with what belongs to them: PNG and TIFF hold a few rows only."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from toolbox.errors import ConfigError
from toolbox.io.atomic import replacing
from toolbox.io.picture_exif import exif_with_dpi
from toolbox.io.picture_tiff import write_tiff

if TYPE_CHECKING:
    from toolbox.io.picture import Picture

_BLOCK_BYTES = 1 << 20
_DEFLATE_LEVEL = 4
_METRE_IN_INCHES = 1 / 0.0254
_LONGEST_JPEG_EXIF = 65_533
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_WHAT = {"icc": "ICC profile", "exif": "EXIF", "dpi": "DPI"}


def check_picture(target: str | os.PathLike[str], like: Picture, scale: int) -> None:
    """Refuse a result that its format cannot hold, before the work.

    Parameters
    ----------
    target : path-like
        Where the result would be written.
    like : Picture
        The picture to be enlarged.
    scale : int
        How many times.

    Raises
    ------
    ConfigError
        If the ending is unknown, or its format holds no 16 bits, no transparency or no such size.
    """
    height, width = like.pixels.shape[:2]
    _format_for(Path(target), like, (height * scale, width * scale))


def picture_suffix(path: str | os.PathLike[str]) -> str:
    """Return the ending of the result if the user names none: that of the input where possible.

    Parameters
    ----------
    path : path-like
        The input.

    Returns
    -------
    str
        The same ending in lower case, else ``.png``.
    """
    suffix = Path(path).suffix.lower()
    known = _FORMATS.get(suffix)
    return suffix if known is not None and known.can_be_written() else ".png"


def write_picture(
    target: str | os.PathLike[str],
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    like: Picture,
    quality: int | None = None,
) -> None:
    """Write a picture with the profile, EXIF and resolution of another one.

    PNG and TIFF hold about a megabyte of rows in memory, the other formats hold the whole result.
    What the format cannot hold is added to ``like.notes``.

    Parameters
    ----------
    target : path-like
        Where to; the ending names the format. The file appears whole or not at all.
    strips : iterable of numpy.ndarray, shape (h, W, C) or (h, W, C + 1)
        Rows from the top in the type of ``like.pixels``; the last sample is alpha if `like` has it.
    shape : (int, int)
        Rows and columns of the whole.
    like : Picture
        What the result takes after.
    quality : int, optional
        1 to 100 for JPEG (95 by default), WebP and AVIF (90).

    Raises
    ------
    ConfigError
        As `check_picture`; if `quality` is out of range or means nothing to the format.
    ValueError
        If the strips do not make up such a picture.
    """
    target = Path(target)
    kind = _format_for(target, like, shape)
    quality = _checked_quality(target, kind, quality)
    samples = like.pixels.shape[-1] + (like.alpha is not None)
    result = _Result((*shape, samples), like.pixels.dtype, _kept(target, kind, like), quality)
    with replacing(target) as beside:
        kind.write(beside, _blocks(strips, result), result)


class _Belongings(NamedTuple):
    icc: bytes | None
    exif: bytes | None
    dpi: tuple[float, float] | None


class _Result(NamedTuple):
    shape: tuple[int, int, int]
    dtype: np.dtype
    belongings: _Belongings
    quality: int | None

    @property
    def rows(self) -> int:
        """Rows of a block."""
        row_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        return min(self.shape[0], max(1, _BLOCK_BYTES // row_bytes))


class _Format(NamedTuple):
    write: Callable[[Path, Iterator[np.ndarray], _Result], None]
    name: str
    side: int
    pixels: int | None = None
    deep: bool = False
    alpha: bool = True
    quality: int | None = None
    holds: tuple[str, ...] = ("icc", "exif", "dpi")
    grey: bool = True

    def can_be_written(self) -> bool:
        """Whether this Pillow can, which may have been built without WebP or AVIF."""
        Image.init()
        return self.deep or self.name.upper() in Image.SAVE


def _format_for(target: Path, like: Picture, shape: tuple[int, int]) -> _Format:
    suffix = target.suffix.lower()
    kind = _FORMATS.get(suffix)
    if kind is None or not kind.can_be_written():
        known = [ending for ending, other in _FORMATS.items() if other.can_be_written()]
        raise ConfigError(
            f"{target}: no picture can be written as {suffix!r}. Use one of {', '.join(known)}."
        )
    if like.bits == 16 and not kind.deep:
        raise ConfigError(f"{target}: {kind.name} holds 8 bits, the picture has 16. {_REMEDY}")
    if like.alpha is not None and not kind.alpha:
        raise ConfigError(f"{target}: {kind.name} holds no transparency. {_REMEDY}")
    height, width = shape
    if max(shape) > kind.side or (kind.pixels and height * width > kind.pixels):
        limit = f"{kind.side} pixels a side" + (f", {kind.pixels} in all" if kind.pixels else "")
        raise ConfigError(
            f"{target}: {kind.name} holds at most {limit}; the result has {width} x {height}. "
            f"{_REMEDY}"
        )
    return kind


def _checked_quality(target: Path, kind: _Format, quality: int | None) -> int | None:
    if quality is None:
        return kind.quality
    if kind.quality is None:
        raise ConfigError(
            f"{target}: quality has no meaning for {kind.name}, which loses nothing. Leave quality "
            f"out, or use .jpg, .webp or .avif."
        )
    if not 1 <= quality <= 100:
        raise ConfigError(f"{target}: quality must be 1 to 100; received {quality}.")
    return quality


def _kept(target: Path, kind: _Format, like: Picture) -> _Belongings:
    """Return what the format can hold, and note what it cannot."""
    kept = {what: getattr(like, what) if what in kind.holds else None for what in _WHAT}
    if not kind.grey and like.pixels.shape[-1] == 1:
        kept["icc"] = None  # grey becomes RGB, to which a profile of greys does not belong
    if kind.name in ("WebP", "AVIF"):
        kept["exif"] = exif_with_dpi(like.exif, like.dpi)
    if kind.name == "JPEG" and len(kept["exif"] or b"") > _LONGEST_JPEG_EXIF:
        kept["exif"] = None
    lost = [name for what, name in _WHAT.items() if getattr(like, what) and not kept[what]]
    if lost:
        like.notes.append(f"{target.name}: {kind.name} cannot hold {' and '.join(lost)} of this")
    return _Belongings(**kept)


def _blocks(strips: Iterable[np.ndarray], result: _Result) -> Iterator[np.ndarray]:
    """Cut strips anew into blocks of one height; each is overwritten by the next one."""
    height, *across = result.shape
    block = np.empty((result.rows, *across), result.dtype)
    seen = filled = 0
    for strip in strips:
        if list(strip.shape[1:]) != across or strip.dtype != result.dtype:
            raise ValueError(
                f"expected strips (rows, {across[0]}, {across[1]}) of {result.dtype}; received "
                f"{strip.shape} of {strip.dtype}"
            )
        seen += len(strip)
        while len(strip):
            taken = min(len(block) - filled, len(strip))
            block[filled : filled + taken] = strip[:taken]
            strip, filled = strip[taken:], filled + taken
            if filled == len(block):
                yield block
                filled = 0
    if seen != height:
        raise ValueError(f"expected strips of {height} rows in all; received {seen}")
    if filled:
        yield block[:filled]


# -- PNG -----------------------------------------------------------------------------------------


def _write_png(path: Path, blocks: Iterator[np.ndarray], result: _Result) -> None:
    """Write a PNG without ever holding it; W3C PNG, third edition."""
    height, width, samples = result.shape
    bits = 8 * result.dtype.itemsize
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    icc, exif, dpi = result.belongings
    with path.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        _chunk(stream, b"IHDR", struct.pack(">2I5B", width, height, bits, kind, 0, 0, 0))
        if icc is not None:
            _chunk(stream, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
        if dpi is not None:
            metres = [round(value * _METRE_IN_INCHES) for value in dpi]
            _chunk(stream, b"pHYs", struct.pack(">2IB", *metres, 1))
        if exif is not None:
            _chunk(stream, b"eXIf", exif.removeprefix(b"Exif\0\0"))
        for packed in _deflated(blocks, samples * bits // 8):
            if packed:
                _chunk(stream, b"IDAT", packed)
        _chunk(stream, b"IEND", b"")


def _chunk(stream: BinaryIO, name: bytes, content: bytes) -> None:
    check = zlib.crc32(content, zlib.crc32(name))
    stream.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", check))


def _deflated(blocks: Iterator[np.ndarray], pixel_bytes: int) -> Iterator[bytes]:
    packer = zlib.compressobj(_DEFLATE_LEVEL, strategy=zlib.Z_FILTERED)
    above = None
    for block in blocks:
        rows = block.astype(block.dtype.newbyteorder(">")).view(np.uint8).reshape(len(block), -1)
        if above is None:
            above = np.zeros_like(rows[:1])
        yield packer.compress(_filtered(rows, above, pixel_bytes).data)
        above = rows[-1:]
    yield packer.flush()


def _filtered(rows: np.ndarray, above: np.ndarray, pixel_bytes: int) -> np.ndarray:
    """Subtract the pixel on the left (1) or above (2), in each row what leaves less."""
    left = rows.copy()
    left[:, pixel_bytes:] -= rows[:, :-pixel_bytes]
    up = rows - np.concatenate([above, rows[:-1]])
    use_left = _magnitude(left) < _magnitude(up)
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = np.where(use_left, 1, 2)
    filtered[:, 1:] = np.where(use_left[:, np.newaxis], left, up)
    return filtered


def _magnitude(differences: np.ndarray) -> np.ndarray:
    """Sum of each row, bytes taken as signed."""
    return np.minimum(differences, -differences).sum(axis=1, dtype=np.int64)


# -- The others ----------------------------------------------------------------------------------


def _write_tiff(path: Path, blocks: Iterator[np.ndarray], result: _Result) -> None:
    write_tiff(path, blocks, result.shape, result.dtype, result.rows, *result.belongings)


def _write_by_pillow(path: Path, blocks: Iterator[np.ndarray], result: _Result) -> None:
    height, width, samples = result.shape
    image = Image.new(_MODES[samples], (width, height))
    row = 0
    for block in blocks:
        image.paste(Image.fromarray(block[..., 0] if samples == 1 else block), (0, row))
        row += len(block)
    icc, exif, dpi = result.belongings
    options: dict[str, Any] = {"quality": result.quality, "icc_profile": icc, "dpi": dpi}
    options |= {"exif": exif} if exif else {}
    kind = _FORMATS[path.suffix.lower()].name
    options |= _OPTIONS.get(kind, {}) if samples > 1 else {}
    image.save(
        path, kind.upper(), **{key: value for key, value in options.items() if value is not None}
    )


#: Full colour resolution; colours kept where nothing can be seen.
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"subsampling": 0},
    "AVIF": {"subsampling": "4:4:4"},
    "WebP": {"exact": True},
}
_REMEDY = "Use .png or .tif."
_JPEG = _Format(_write_by_pillow, "JPEG", 65_500, alpha=False, quality=95)
_TIFF = _Format(_write_tiff, "TIFF", 2**32 - 1, deep=True)
_FORMATS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".png": _Format(_write_png, "PNG", 2**31 - 1, deep=True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _Format(_write_by_pillow, "WebP", 16_383, quality=90, grey=False),
    # Sizes beyond which libavif itself refuses to read.
    ".avif": _Format(_write_by_pillow, "AVIF", 32_768, 2**28, quality=90),
    ".bmp": _Format(_write_by_pillow, "BMP", 2**31 - 1, 2**30, alpha=False, holds=("dpi",)),
}
