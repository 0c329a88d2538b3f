"""One picture of a scanning electron microscope: grey pixels as stored, and their size in nm."""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing

#: Endings of the pictures that `read_sem_image` reads, in any case.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_WRITTEN = (".tif", ".tiff", ".png")
_TIFF = (".tif", ".tiff")
_DESCRIPTION, _FEI, _ZEISS = 270, ("FEI_HELIOS", "FEI_SFEG"), "CZ_SEM"
#: nm per unit, as Zeiss writes them; the micro sign has two code points.
_UNIT_NM = {"pm": 1e-3, "nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9}
#: Share of coloured pixels from which a picture is one in colour (frame and logo of KRISS: 0.008).
_COLOUR_SHARE = 0.05


class SEMImage(NamedTuple):
    """A picture as it is stored.

    Attributes
    ----------
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Grey counts.
    pixel_nm : float or None
        Size of a pixel in nm; None if the file does not say.
    bits : int
        8 or 16, those of the stored type.
    was_colour : bool
        Whether the grey was mixed from channels that differ, in more than a drawn frame or logo.
    """

    pixels: np.ndarray
    pixel_nm: float | None
    bits: int
    was_colour: bool = False


def read_sem_image(path: str | os.PathLike[str]) -> SEMImage:
    """Read a TIFF, PNG, JPEG or BMP picture of 8 or 16 bits.

    Colour pictures with equal channels, as microscopes save them, are taken as grey; others are
    mixed by the weights of luminance (0.299 red, 0.587 green, 0.114 blue). Transparency is
    dropped. Of a TIFF with several pages the first counts.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    SEMImage
        The pixel size is that of `write_sem_image`, of the tag of FEI or of that of Zeiss.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, or holds numbers other than 8 or 16 bits.
    """
    pixels, was_colour = _grey(_decode(Path(path)))
    pixel_nm = _tiff_pixel_nm(Path(path)) if Path(path).suffix.lower() in _TIFF else None
    return SEMImage(np.ascontiguousarray(pixels), pixel_nm, 8 * pixels.itemsize, was_colour)


def write_sem_image(
    path: str | os.PathLike[str], pixels: np.ndarray, pixel_nm: float | None = None
) -> None:
    """Write a grey picture without loss; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        ``.tif``, ``.tiff`` or ``.png``.
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Counts; the type is kept.
    pixel_nm : float, optional
        Size of a pixel in nm. A TIFF keeps it, as JSON in its description and as its resolution;
        a PNG has no place for it.

    Raises
    ------
    DataError
        If the picture is of another shape or type, or the ending is none of these.
    """
    final = Path(path)
    if final.suffix.lower() not in _WRITTEN:
        raise DataError(
            f"{final}: ending must be one of {', '.join(_WRITTEN)}; received {final.suffix!r}. "
            f"Name such a file."
        )
    if pixels.ndim != 2 or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{final}: pixels must be (H, W) of uint8 or uint16; received {pixels.shape} of "
            f"{pixels.dtype}. Round and clip them first."
        )
    if pixel_nm is not None and not _is_size(pixel_nm):
        raise DataError(f"{final}: pixel_nm must be above 0; received {pixel_nm!r}. Mend it.")
    with replacing(final) as beside:
        if final.suffix.lower() in _TIFF:
            _write_tiff(beside, pixels, pixel_nm)
        else:
            _write_png(beside, pixels)


def _decode(path: Path) -> np.ndarray:
    cv2 = _quiet_opencv()
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Mend the path.") from None
    if not content.size:
        raise DataError(f"{path}: is empty. Copy it again from where it comes.")
    try:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # more pixels than OpenCV takes, a header that contradicts itself
        image = None
    if image is None:
        raise DataError(f"{path}: cannot be read as an image. Is the file damaged?")
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path}: expected pixels of 8 or 16 bits without sign; received {image.dtype}. Save "
            f"the picture as 16-bit grey."
        )
    return np.asarray(image)


@functools.cache
def _quiet_opencv() -> Any:
    """Return OpenCV without its two lines about every tag that only a microscope knows."""
    from toolbox.opencv import cv2

    # Once and for all: the level belongs to the process, and pictures are read by threads.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def _grey(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the grey picture, and whether it was mixed from different channels."""
    from toolbox.opencv import cv2

    if image.ndim == 2 or image.shape[2] < 3:
        return image.reshape(*image.shape[:2], -1)[..., 0], False
    blue, green, red = (image[..., channel] for channel in range(3))
    coloured = float(((blue != green) | (green != red)).mean())
    # Where the channels are equal the mixture is exactly their count.
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
    return grey, coloured > _COLOUR_SHARE


def _tiff_pixel_nm(path: Path) -> float | None:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            candidates = [_own_pixel_nm(tags.valueof(_DESCRIPTION))]
            candidates += [_fei_pixel_nm(tags.valueof(name)) for name in _FEI]
            candidates.append(_zeiss_pixel_nm(tags.valueof(_ZEISS)))
    except Exception:  # a damaged tag raises whatever its reader meets; the pixels are good
        return None
    return next((size for size in candidates if _is_size(size)), None)


def _is_size(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _own_pixel_nm(description: Any) -> Any:
    try:
        content = json.loads(description)
    except (ValueError, TypeError, RecursionError):
        return None
    return content.get("pixel_nm") if isinstance(content, dict) else None


def _fei_pixel_nm(tag: Any) -> float | None:
    scan = tag.get("Scan") if isinstance(tag, dict) else None
    width_m = scan.get("PixelWidth") if isinstance(scan, dict) else None
    return width_m * 1e9 if isinstance(width_m, (int, float)) else None


def _zeiss_pixel_nm(tag: Any) -> float | None:
    for name in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = tag.get(name) if isinstance(tag, dict) else None
        if entry is not None and len(entry) == 3 and entry[2] in _UNIT_NM:
            return float(entry[1]) * _UNIT_NM[entry[2]]
    return None


def _write_tiff(path: Path, pixels: np.ndarray, pixel_nm: float | None) -> None:
    import tifffile

    options: dict[str, Any] = {}
    if pixel_nm is not None:
        per_cm = 1e7 / pixel_nm
        options["description"] = json.dumps({"pixel_nm": float(pixel_nm)})
        options |= {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path, pixels, photometric="minisblack", metadata=None, software="sr-toolbox", **options
    )


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from toolbox.opencv import cv2

    written, content = cv2.imencode(".png", pixels)
    if not written:
        raise DataError(f"{path}: OpenCV could not write the picture.")
    path.write_bytes(content.tobytes())
