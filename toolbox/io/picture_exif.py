"""EXIF of a picture: tags that describe the photograph are kept, those of the file are not."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from PIL import ExifTags, Image

# Without a handler, Python would print what Pillow logs in addition to the error it raises.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TAG = ExifTags.Base
_INSIDE = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
ORIENTATION = int(_TAG.Orientation)
#: First words of descriptions in which tifffile and ImageJ keep the size of the pixels.
_SHAPES = ('{"shape"', "ImageJ=")
#: Kept tags of the main directory; the others state how the file stores its pixels.
_KEPT = (
    *(_TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.Software, _TAG.DateTime, _TAG.Artist),
    *(_TAG.HostComputer, _TAG.Copyright, _TAG.Rating, _TAG.RatingPercent),
    *(_TAG.XPTitle, _TAG.XPComment, _TAG.XPAuthor, _TAG.XPKeywords, _TAG.XPSubject),
)
_STALE = (_TAG.ExifImageWidth, _TAG.ExifImageHeight)
_INCH, _CENTIMETRE = 2, 3
_MOST_DPI = 65_535  # of JPEG
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings and its size limit; both are global, so one thread at a time."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_tags(load: Callable[[], Image.Exif], notes: list[str]) -> Image.Exif:
    """Read EXIF and its inner directories while the file is open.

    Parameters
    ----------
    load : callable
        Returns the tags.
    notes : list of str
        Receives a note if the tags are damaged.

    Returns
    -------
    PIL.Image.Exif
        All tags; none if they are damaged.
    """
    with quiet_pillow():
        try:
            exif = load()
            exif.update(dict(exif))  # decodes all tags
            for part in _INSIDE:
                exif.get_ifd(part)
            with contextlib.suppress(KeyError):  # Pillow before 13 if there is no such part
                exif.get_ifd(ExifTags.IFD.Interop)
            return exif
        except Exception:  # damaged tags may raise anything
            notes.append("EXIF left out: it is damaged")
            return Image.Exif()


def kept_exif(exif: Image.Exif, notes: list[str]) -> bytes | None:
    """Return the tags that remain valid for upright pixels of any size.

    Parameters
    ----------
    exif : PIL.Image.Exif
        All tags of a file.
    notes : list of str
        Receives a note about tags that are left out.

    Returns
    -------
    bytes or None
        EXIF block with orientation 1, without thumbnail, sizes in pixels and resolution; None if
        there is nothing to keep.
    """
    kept: dict[int, Any] = {tag: exif[tag] for tag in _KEPT if tag in exif}
    if str(kept.get(ExifTags.Base.ImageDescription, "")).startswith(_SHAPES):
        del kept[ExifTags.Base.ImageDescription]
    for part in _INSIDE:
        inner = {tag: value for tag, value in exif.get_ifd(part).items() if tag not in _STALE}
        if ExifTags.IFD.Interop in inner:
            inner[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
        if inner:
            kept[part] = inner
    if not kept and ORIENTATION not in exif:
        return None
    sound, damaged = _sound_tags(kept)
    if damaged:
        notes.append(f"EXIF tags left out, as they are damaged: {', '.join(map(str, damaged))}")
    return _block(sound | {ORIENTATION: 1})


def _sound_tags(
    tags: dict[int, Any], inside: int | None = None
) -> tuple[dict[int, Any], list[int]]:
    """Return the tags that can be written, and the numbers of those that cannot."""
    sound: dict[int, Any] = {}
    damaged = []
    for tag, value in tags.items():
        if tag in _INSIDE:
            inner, lost = _sound_tags(value, tag)
            damaged += lost
            sound |= {tag: inner} if inner else {}
            continue
        plain = _undecoded(value)
        try:
            _block({tag: plain} if inside is None else {inside: {tag: plain}})
            sound[tag] = plain
        except Exception:  # as above
            damaged.append(tag)
    return sound, damaged


def _block(tags: dict[int, Any]) -> bytes:
    exif = Image.Exif()
    exif.update(tags)
    with quiet_pillow():
        return exif.tobytes()


def _undecoded(value: Any) -> Any:
    """Return non-ASCII text as its bytes; Pillow would write it as question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def dpi_of(exif: Image.Exif) -> tuple[float, float] | None:
    """Return the pixels per inch stated by EXIF or TIFF tags, or None."""
    unit = exif.get(_TAG.ResolutionUnit, _INCH)
    both = exif.get(_TAG.XResolution), exif.get(_TAG.YResolution)
    if unit not in (_INCH, _CENTIMETRE) or None in both:
        return None
    to_inches = 2.54 if unit == _CENTIMETRE else 1.0
    return float(both[0] or 0) * to_inches, float(both[1] or 0) * to_inches


def sound_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return pixels per inch if they are finite and every format can hold them, else None."""
    if dpi is None or not all(math.isfinite(value) and 1 <= value <= _MOST_DPI for value in dpi):
        return None
    return float(dpi[0]), float(dpi[1])


def exif_with_dpi(block: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """Add the resolution to an EXIF block, for formats that have no other place for it."""
    if dpi is None:
        return block
    exif = Image.Exif()
    exif.load(block or b"")
    tags = {tag: _undecoded(value) for tag, value in exif.items() if tag not in _INSIDE}
    for part in _INSIDE:
        if inner := exif.get_ifd(part):
            tags[part] = {tag: _undecoded(value) for tag, value in inner.items()}
            if ExifTags.IFD.Interop in inner:
                tags[part][ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    tags |= {_TAG.XResolution: dpi[0], _TAG.YResolution: dpi[1], _TAG.ResolutionUnit: _INCH}
    # Pillow's AVIF writer would remove the orientation, and so damage non-ASCII text.
    tags.pop(ORIENTATION, None)
    return _block(tags)
