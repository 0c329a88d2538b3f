"""Read and write photographs and other pictures together with their metadata.

Colour profile, EXIF, resolution, transparency and 16 bits are kept. The writers are in
:mod:`toolbox.io.picture_writers`; their names can be imported from here too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from toolbox.errors import DataError, ToolboxError, not_found
from toolbox.io.picture_exif import (
    ORIENTATION,
    dpi_of,
    kept_exif,
    quiet_pillow,
    read_tags,
    sound_dpi,
)
from toolbox.io.picture_tiff import (
    TIFF_HEADS,
    check_deflated,
    deep_samples,
    doubts_noted,
    is_deep,
    note_left_out,
)
from toolbox.io.picture_writers import check_picture, picture_suffix, write_picture

__all__ = [
    "LOSSY",
    "SUFFIXES",
    "Picture",
    "check_picture",
    "picture_suffix",
    "read_indices",
    "read_picture",
    "write_picture",
]

#: Formats with a quality setting.
LOSSY = (".jpg", ".jpeg", ".webp", ".avif")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".bmp")

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_ON_THE_SIDE = (5, 6, 7, 8)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(eq=False)
class Picture:
    r"""A picture with its metadata.

    Attributes
    ----------
    pixels : numpy.ndarray, shape (H, W, 1) or (H, W, 3), uint8 or uint16
        Grey or RGB, upright: the EXIF orientation is applied.
    alpha : numpy.ndarray, shape (H, W), or None
        Opacity in the type of the pixels. The pixels are not multiplied by it.
    bits : int
        8 or 16.
    icc : bytes or None
        ICC profile of `pixels`.
    exif : bytes or None
        EXIF block that starts with ``Exif\0\0``: orientation 1, no thumbnail, no size in pixels.
    dpi : (float, float) or None
        Pixels per inch, along the rows and along the columns.
    notes : list of str
        What a user should know about the conversion; writing may add notes.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int = 8
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)


def read_picture(path: str | os.PathLike[str], largest: int = 200_000_000) -> Picture:
    """Read a picture by its content, regardless of its ending.

    Parameters
    ----------
    path : path-like
        JPEG, PNG, TIFF, WebP, AVIF, BMP or GIF. Only the first page or frame is read.
    largest : int
        Larger numbers of pixels are refused before decoding.

    Returns
    -------
    Picture
        The picture. Palettes and CMYK are converted to RGB, and 1 bit to 8 bits of grey.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, too large, not a picture, a map or a scientific
        image, or has undefined colours.
    """
    path = Path(path)
    head = _head(path)
    reader = _read_tiff if head[:4] in TIFF_HEADS else _read_other
    with _one_line(path):
        return reader(path, largest)


def read_indices(
    path: str | os.PathLike[str], largest: int = 200_000_000
) -> tuple[np.ndarray, np.ndarray] | None:
    """Read the palette indices of a picture, e.g. class numbers.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray) or None
        Indices (H, W) and the colours of the palette (n, 3), both uint8. None for a picture
        without a palette. With 1 bit, 0 is black and 1 is white.

    Raises
    ------
    DataError
        As for `read_picture`.
    """
    path = Path(path)
    _head(path)
    with _one_line(path), _opened(path) as image:
        if image.mode not in ("P", "1"):
            return None
        _check_size(path, image.size, largest)
        image.load()
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8), np.array([[0] * 3, [255] * 3], np.uint8)
        palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return np.asarray(image), palette


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn any error of a decoder into one line."""
    try:
        yield
    except (ToolboxError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not a picture, or damaged at its start. Expected one of "
            f"{', '.join(SUFFIXES)}."
        ) from None
    except Exception as error:  # decoders of damaged files may raise anything
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}: pixels cannot be read: the file is damaged or truncated ({first})."
        ) from None


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{not_found(path, 'file')}. Name an existing picture.")
    with path.open("rb") as stream:
        head = stream.read(32)
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy or export it again.")
    return head


def _read_other(path: Path, largest: int) -> Picture:
    notes: list[str] = []
    with _opened(path) as image:
        _check_size(path, image.size, largest)
        _note_frames(getattr(image, "n_frames", 1), "picture", notes)
        # Read the pixels before the metadata: a PNG may store them after its pixels.
        image.load()
        icc = image.info.get("icc_profile")
        exif = read_tags(lambda: _tags(image), notes)
        if _is_deep_png(path):
            samples, clear = _deep_png_samples(path, image.info.get("transparency"))
        else:
            samples, clear, icc = _plain_samples(path, image, icc, notes)
        return _picture(samples, clear, icc, exif, image.info.get("dpi"), notes)


def _tags(image: Image.Image) -> Image.Exif:
    if block := image.info.get("exif"):
        # Raises an error about damaged tags, which opening a JPEG ignores.
        Image.Exif().load(block)
    return image.getexif()


def _read_tiff(path: Path, largest: int) -> Picture:
    notes: list[str] = []
    with doubts_noted(notes), path.open("rb") as stream, tifffile.TiffFile(stream) as file:
        page = file.pages.first
        _check_size(path, (page.imagewidth, page.imagelength), largest)
        _note_frames(len(file.pages), "page", notes)
        exif = read_tags(lambda: _tiff_tags(file, stream), notes)
        icc = page.tags.valueof(34675)
        if is_deep(path, page):
            return _picture(*deep_samples(path, page, notes), icc, exif, None, notes)
        check_deflated(page)
    with _opened(path) as image:
        with quiet_pillow():
            image.load()
        # Newer versions of Pillow have already turned a TIFF upright, older ones have not.
        turned = read_tags(image.getexif, []).get(ORIENTATION, 1) == 1
        samples, clear, icc = _plain_samples(path, image, icc, notes)
    if image.mode in ("1", "L", "LA", "RGB", "RGBA", "RGBX"):
        note_left_out(page.samplesperpixel - samples.shape[-1], notes)
    return _picture(samples, clear, icc, exif, None, notes, turned)


def _tiff_tags(file: tifffile.TiffFile, stream: BinaryIO) -> Image.Exif:
    """Return the tags of the first page, even if Pillow cannot read its pixels."""
    exif = Image.Exif()
    exif.endian, exif.bigtiff = file.byteorder, file.is_bigtiff
    exif.load_from_fp(stream, file.pages.first.offset)
    return exif


def _picture(
    samples: np.ndarray,
    clear: bool,
    icc: bytes | None,
    exif: Image.Exif,
    dpi: tuple[float, float] | None,
    notes: list[str],
    turned: bool = False,
) -> Picture:
    """Build a picture from samples (H, W, C or C + 1) as stored, and their metadata."""
    orientation = exif.get(ORIENTATION, 1)
    samples = samples if turned else _upright(samples, orientation)
    colours = samples.shape[-1] - clear
    dpi = sound_dpi(dpi) or sound_dpi(dpi_of(exif))
    if dpi is not None and orientation in _ON_THE_SIDE:
        dpi = dpi[1], dpi[0]
    return Picture(
        pixels=np.ascontiguousarray(samples[..., :colours]),
        alpha=np.ascontiguousarray(samples[..., -1]) if clear else None,
        bits=8 * samples.dtype.itemsize,
        icc=_fitting_profile(icc, colours, notes),
        exif=kept_exif(exif, notes),
        dpi=dpi,
        notes=notes,
    )


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8; EXIF 2.32, tag 274."""
    if orientation in _ON_THE_SIDE:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples[:, ::-1] if orientation in (2, 3, 6, 7) else samples


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with quiet_pillow():
        image = Image.open(path, formats=_FORMATS)
    with image:
        yield image


def _check_size(path: Path, size: tuple[int, int], largest: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DataError(
            f"{path}: declares {width} x {height} pixels. Check whether the file is damaged."
        )
    if width * height > largest:
        raise DataError(
            f"{path}: has {width} x {height} = {width * height} pixels; at most {largest} are "
            f"allowed. Make it smaller or cut it into parts."
        )


def _note_frames(count: int, word: str, notes: list[str]) -> None:
    if count > 1:
        notes.append(f"the first {word} of {count} is read")


# -- Pixels --------------------------------------------------------------------------------------


def _plain_samples(
    path: Path, image: Image.Image, icc: bytes | None, notes: list[str]
) -> tuple[np.ndarray, bool, bytes | None]:
    """Return 8-bit samples (H, W, C or C + 1), whether the last is alpha, and their profile."""
    if image.mode == "CMYK":
        image, icc = _cmyk_to_srgb(path, image, icc)
        notes.append("CMYK converted to RGB (sRGB) through its profile")
    elif image.mode == "1":
        notes.append("1 bit converted to 8 bits of grey")
    elif image.mode in ("P", "PA"):
        notes.append("palette converted to RGB")
    elif image.mode not in _GREY + _COLOUR:
        raise DataError(
            f"{path}: colours of the kind {image.mode} are not supported. Convert it to grey or "
            f"RGB of 8 or 16 bits in an image editor."
        )
    clear = image.has_transparency_data
    mode = ("L" if image.mode in _GREY else "RGB") + ("A" if clear else "")
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return samples.reshape(*samples.shape[:2], -1), clear, icc


def _cmyk_to_srgb(path: Path, image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes]:
    if icc is None:
        raise DataError(
            f"{path}: CMYK without an ICC profile, so its colours are unknown. Convert it to RGB "
            f"in an image editor."
        )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise DataError(
            f"{path}: CMYK with an ICC profile that cannot be used ({error}). Convert it to RGB in "
            f"an image editor."
        ) from None
    assert converted is not None
    converted.info.pop("transparency", None)
    return converted, srgb.tobytes()


def _is_deep_png(path: Path) -> bool:
    head = _head(path)
    return head.startswith(_PNG) and head[24] == 16


def _deep_png_samples(path: Path, key: Any) -> tuple[np.ndarray, bool]:
    """Return 16-bit samples, which Pillow would reduce to 8, and whether the last is alpha."""
    from toolbox.opencv import cv2

    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise DataError(f"{path}: OpenCV cannot read its 16-bit pixels; the file may be damaged.")
    decoded = decoded.reshape(*decoded.shape[:2], -1)
    kind = _head(path)[25]
    colours = decoded[..., 2::-1] if kind & 2 else decoded[..., :1]
    if kind & 4:
        return np.concatenate([colours, decoded[..., 3:]], axis=-1), True
    if key is None:
        return colours, False
    # One colour means "transparent".
    alpha = np.any(colours != np.asarray(key, np.uint16), axis=-1, keepdims=True)
    return np.concatenate([colours, alpha * np.uint16(65535)], axis=-1), True


def _fitting_profile(icc: bytes | None, colours: int, notes: list[str]) -> bytes | None:
    """Drop a profile for colours other than those of the pixels; ICC.1, header byte 16."""
    if not icc:
        return None
    if icc[16:20] != (b"GRAY" if colours == 1 else b"RGB "):
        notes.append("an ICC profile for other colours than those of the pixels is left out")
        return None
    return bytes(icc)
