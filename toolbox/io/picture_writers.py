"""Write pictures with their metadata strip by strip; PNG and TIFF keep few rows in memory."""

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
    """Refuse a result that its format cannot hold, before any work.

    Parameters
    ----------
    target : path-like
        Path of the result.
    like : Picture
        The picture to be enlarged.
    scale : int
        Enlargement factor.

    Raises
    ------
    ConfigError
        If the ending is unknown, or its format cannot hold the bits, transparency or size.
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
        The same ending in lower case, otherwise ``.png``.
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

    PNG and TIFF keep about a megabyte of rows in memory; the other formats keep the full result.
    What the format cannot hold is reported in ``like.notes``.

    Parameters
    ----------
    target : path-like
        Path of the result; its ending decides the format. The file appears complete or not at all.
    strips : iterable of numpy.ndarray, shape (h, W, C) or (h, W, C + 1)
        Rows from the top, in the type of ``like.pixels``. The last sample is alpha if `like` has
        it.
    shape : (int, int)
        Rows and columns of the picture.
    like : Picture
        Picture whose metadata the result inherits.
    quality : int, optional
        1 to 100 for JPEG (95 by default), WebP and AVIF (90).

    Raises
    ------
    ConfigError
        As `check_picture`, or if `quality` is out of range or has no meaning for the format.
    ValueError
        If the strips do not add up to such a picture.
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
        """Return the number of rows of a block."""
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
        """Whether the installed Pillow writes it; Pillow may be built without WebP or AVIF."""
        Image.init()
        return self.deep or self.name.upper() in Image.SAVE


def _format_for(target: Path, like: Picture, shape: tuple[int, int]) -> _Format:
    suffix = target.suffix.lower()
    kind = _FORMATS.get(suffix)
    if kind is None or not kind.can_be_written():
        known = [ending for ending, other in _FORMATS.items() if other.can_be_written()]
        raise ConfigError(
            f"{target}: a picture cannot be written as {suffix!r}. Use one of {', '.join(known)}."
        )
    if like.bits == 16 and not kind.deep:
        raise ConfigError(f"{target}: {kind.name} can hold 8 bits; the picture has 16. {_REMEDY}")
    if like.alpha is not None and not kind.alpha:
        raise ConfigError(f"{target}: {kind.name} cannot hold transparency. {_REMEDY}")
    height, width = shape
    if max(shape) > kind.side or (kind.pixels and height * width > kind.pixels):
        limit = f"{kind.side} pixels a side" + (f", {kind.pixels} in all" if kind.pixels else "")
        raise ConfigError(
            f"{target}: {kind.name} can hold at most {limit}; the result has {width} x {height}. "
            f"{_REMEDY}"
        )
    return kind


def _checked_quality(target: Path, kind: _Format, quality: int | None) -> int | None:
    if quality is None:
        return kind.quality
    if kind.quality is None:
        raise ConfigError(
            f"{target}: quality has no meaning for {kind.name}, which is lossless. Leave out "
            f"quality, or use .jpg, .webp or .avif."
        )
    if not 1 <= quality <= 100:
        raise ConfigError(f"{target}: quality must be 1 to 100; received {quality}.")
    return quality


def _kept(target: Path, kind: _Format, like: Picture) -> _Belongings:
    """Return what the format can hold, and note what it cannot."""
    kept = {what: getattr(like, what) if what in kind.holds else None for what in _WHAT}
    if not kind.grey and like.pixels.shape[-1] == 1:
        kept["icc"] = None  # grey becomes RGB, to which a grey profile does not apply
    if kind.name in ("WebP", "AVIF"):
        kept["exif"] = exif_with_dpi(like.exif, like.dpi)
    if kind.name == "JPEG" and len(kept["exif"] or b"") > _LONGEST_JPEG_EXIF:
        kept["exif"] = None
    lost = [name for what, name in _WHAT.items() if getattr(like, what) and not kept[what]]
    if lost:
        like.notes.append(f"{target.name}: {kind.name} cannot hold {' and '.join(lost)} of this")
    return _Belongings(**kept)


def _blocks(strips: Iterable[np.ndarray], result: _Result) -> Iterator[np.ndarray]:
    """Regroup strips into blocks of one height; each block is overwritten by the next one."""
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
    """Write a PNG without keeping it in memory; W3C PNG, third edition."""
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
    """Subtract the pixel on the left (1) or above (2), in each row whichever leaves less."""
    left = rows.copy()
    left[:, pixel_bytes:] -= rows[:, :-pixel_bytes]
    up = rows - np.concatenate([above, rows[:-1]])
    use_left = _magnitude(left) < _magnitude(up)
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = np.where(use_left, 1, 2)
    filtered[:, 1:] = np.where(use_left[:, np.newaxis], left, up)
    return filtered


def _magnitude(differences: np.ndarray) -> np.ndarray:
    """Return the sum of absolute values of each row, bytes taken as signed."""
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


#: Full colour resolution; colours of transparent pixels are kept.
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
    # Larger sizes are refused by libavif when reading.
    ".avif": _Format(_write_by_pillow, "AVIF", 32_768, 2**28, quality=90),
    ".bmp": _Format(_write_by_pillow, "BMP", 2**31 - 1, 2**30, alpha=False, holds=("dpi",)),
}
