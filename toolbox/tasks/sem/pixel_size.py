"""Pixel size from the file of a microscope and the files next to it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

#: Pixel sizes that differ by less count as equal, because tags are rounded.
PIXEL_TOLERANCE = 0.01
#: nm per unit, as microscopes and ImageJ write them; the micro sign has two code points.
_UNIT_NM = {
    "fm": 1e-6,
    "pm": 1e-3,
    "Å": 0.1,
    "A": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00B5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
}
#: A resolution coarser than this, 5080 dots per inch, is that of a screen or of paper.
_PRINT_NM = 5e3
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296
_RESOLUTION_NM = {2: _UNIT_NM["inch"], 3: _UNIT_NM["cm"]}
_FEI, _ZEISS, _TESCAN, _OLYMPUS = ("FEI_HELIOS", "FEI_SFEG"), "CZ_SEM", 50431, 33560
#: Units and sizes of a pixel along x and y, Digital Micrograph.
_MICROGRAPH = ((65003, 65009), (65004, 65010))
#: A longer text file next to a picture is not from a microscope.
_LARGEST_TEXT = 2**20


class PixelSize(NamedTuple):
    """Pixel size from one source.

    Attributes
    ----------
    source : str
        Name of the source, for messages.
    x_nm : float
        Width of a pixel in nm.
    y_nm : float or None
        Its height; None if the source does not state it.
    """

    source: str
    x_nm: float
    y_nm: float | None = None


def choose_size(sizes: Sequence[PixelSize]) -> tuple[PixelSize | None, dict[str, str]]:
    """Choose the first of several sources, with notes on its name and on disagreements.

    Parameters
    ----------
    sizes : sequence of PixelSize
        The most trusted one first, as from `pixel_sizes`.

    Returns
    -------
    (PixelSize or None, dict)
        The chosen size, and notes by kind. ``size``: its source, if not this program; ``sizes``
        instead, if others differ by more than 1 %; ``not square``: width and height differ.
    """
    if not sizes:
        return None, {}
    chosen, notes = sizes[0], {}
    others = [size for size in sizes[1:] if _differ(size.x_nm, chosen.x_nm)]
    if others:
        said = ", ".join(f"{size.x_nm:.4g} nm by {size.source}" for size in others)
        notes["sizes"] = (
            f"a pixel is taken to be {chosen.x_nm:.4g} nm, by {chosen.source}; but it is "
            f"{said}. Set pixel_nm if the first is wrong."
        )
    elif chosen.source != _OWN:
        notes["size"] = f"a pixel is {chosen.x_nm:.4g} nm, by {chosen.source}."
    if chosen.y_nm is not None and _differ(chosen.y_nm, chosen.x_nm):
        notes["not square"] = (
            f"a pixel is {chosen.x_nm:.4g} nm wide but {chosen.y_nm:.4g} nm high, by "
            f"{chosen.source}; lengths are measured with the width. If lines are not vertical, "
            f"resample the picture to square pixels."
        )
    return chosen, notes


def stated_size(
    stated_nm: float | None, own: PixelSize | None, notes: Mapping[str, str]
) -> tuple[PixelSize | None, dict[str, str]]:
    """Replace the size from a file by the one that the user states.

    Parameters
    ----------
    stated_nm : float or None
        Width of a pixel; None changes nothing.
    own : PixelSize or None
        Size from the file.
    notes : dict
        Notes on the file, as from `choose_size`.

    Returns
    -------
    (PixelSize or None, dict)
        The size, with the ratio of height to width from the file; the notes, with ``sizes`` if the
        two differ by more than 1 %.
    """
    if stated_nm is None:
        return own, dict(notes)
    kept = {kind: text for kind, text in notes.items() if kind not in ("size", "sizes")}
    if own is not None and not math.isclose(own.x_nm, stated_nm, rel_tol=PIXEL_TOLERANCE):
        kept["sizes"] = (
            f"a pixel is taken to be {stated_nm:g} nm, by pixel_nm; but it is {own.x_nm:.4g} nm by "
            f"{own.source}."
        )
    ratio = 1.0 if own is None or own.y_nm is None else own.y_nm / own.x_nm
    return PixelSize("pixel_nm", stated_nm, ratio * stated_nm), kept


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > PIXEL_TOLERANCE * other


def pixel_sizes(path: str | os.PathLike[str], columns: int) -> list[PixelSize]:
    """Return all pixel sizes of a picture and the files next to it, the most trusted one first.

    Sources about the current pixels (this program, OME, ImageJ, Digital Micrograph) come before
    the tags of a microscope (FEI, Zeiss, Tescan, Olympus). Then follow text files next to the
    picture (Tescan ``.hdr``, Hitachi ``.txt``), and last the resolution of the TIFF, which counts
    only if it is finer than any print.

    Parameters
    ----------
    path : path-like
        The picture; only a TIFF has tags.
    columns : int
        Pixels in a row, by which widths of the field are divided.

    Returns
    -------
    list of PixelSize
        Without sources that cannot be read.
    """
    path = Path(path)
    sizes: list[PixelSize] = []
    if path.suffix.lower() in (".tif", ".tiff"):
        sizes += _in_tiff(path, columns)
    sizes += _tescan_header(path) + _hitachi_text(path, columns)
    # The resolution of a TIFF is least reliable; a stable sort keeps the order of the others.
    return sorted(sizes, key=lambda size: size.source == _BY_RESOLUTION)


_OWN, _BY_RESOLUTION = "its description", "the resolution of the TIFF"


def _in_tiff(path: Path, columns: int) -> list[PixelSize]:
    import tifffile

    found: list[PixelSize] = []
    try:
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            readers: list[Callable[[], list[PixelSize]]] = [
                lambda: _own(tags.valueof(_DESCRIPTION)),
                lambda: _ome(file.ome_metadata),
                lambda: _imagej(file.imagej_metadata, _resolution(tags)),
                lambda: _micrograph(tags),
                lambda: [size for name in _FEI for size in _fei(tags.valueof(name), columns)],
                lambda: _zeiss(tags.valueof(_ZEISS), columns),
                lambda: _tescan(tags.valueof(_TESCAN), "the tag of Tescan"),
                lambda: _olympus(tags.valueof(_OLYMPUS)),
                lambda: _printed(tags),
            ]
            for reader in readers:
                found += _whole(reader)
    except Exception:  # a damaged directory may raise any error
        return found
    return found


def _whole(reader: Callable[[], list[PixelSize]]) -> list[PixelSize]:
    """Return what a reader finds; nothing if the tag is damaged, because the pixels are good."""
    try:
        return reader()
    except Exception:
        return []


def _size(source: str, x_nm: Any, y_nm: Any = None) -> list[PixelSize]:
    """Return the size if it is valid."""
    if not is_size(x_nm):
        return []
    return [PixelSize(source, float(x_nm), float(y_nm) if is_size(y_nm) else None)]


def is_size(value: Any) -> bool:
    """Return whether a value is a finite number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


# -- Tags ----------------------------------------------------------------------------------------


def _own(description: Any) -> list[PixelSize]:
    content = json.loads(description)
    return _size(_OWN, content.get("pixel_nm"), content.get("pixel_y_nm"))


def _ome(text: Any) -> list[PixelSize]:
    """Read the attributes of Pixels in OME-XML; https://docs.openmicroscopy.org/ome-model."""
    if not text:
        return []
    root = ElementTree.fromstring(text)
    pixels = next(item for item in root.iter() if item.tag.rpartition("}")[2] == "Pixels")
    x_nm, y_nm = (
        float(pixels.attrib.get(f"PhysicalSize{axis}", "nan"))
        * _UNIT_NM.get(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"), math.nan)
        for axis in "XY"
    )
    return _size("its OME-XML", x_nm, y_nm)


def _resolution(tags: Any) -> tuple[float, float]:
    """Return pixels per unit along x and y."""
    ratios = (tags.valueof(_X_RESOLUTION), tags.valueof(_Y_RESOLUTION))
    x, y = (ratio[0] / ratio[1] if ratio and ratio[1] else math.nan for ratio in ratios)
    return x, y


def _imagej(content: Any, per_unit: tuple[float, float]) -> list[PixelSize]:
    unit_nm = _UNIT_NM.get(str((content or {}).get("unit", "")).strip(), math.nan)
    x_nm, y_nm = (unit_nm / number if number > 0 else math.nan for number in per_unit)
    # ImageJ takes over the inches of a screen from files without a better size.
    coarse = unit_nm >= _UNIT_NM["cm"] and x_nm > _PRINT_NM
    return [] if coarse else _size("ImageJ", x_nm, y_nm)


def _micrograph(tags: Any) -> list[PixelSize]:
    x_nm, y_nm = (
        tags.valueof(size, default=math.nan) * _UNIT_NM.get(str(tags.valueof(unit)), math.nan)
        for unit, size in _MICROGRAPH
    )
    return _size("Digital Micrograph", x_nm, y_nm)


def _fei(tag: Any, columns: int) -> list[PixelSize]:
    if not isinstance(tag, dict):
        return []
    scan = tag.get("Scan", {})
    x_nm, y_nm, field_nm = (
        1e9 * value if is_size(value := scan.get(key)) else None
        for key in ("PixelWidth", "PixelHeight", "HorFieldsize")
    )
    stored = tag.get("Image", {}).get("ResolutionX")
    return _size("PixelWidth of FEI", x_nm, y_nm) + _field(
        "HorFieldsize", field_nm, columns, stored
    )


def _zeiss(tag: Any, columns: int) -> list[PixelSize]:
    if not isinstance(tag, dict):
        return []
    image_nm, field_nm, screen_nm = (
        _with_unit(tag.get(key)) for key in ("ap_image_pixel_size", "ap_width", "ap_pixel_size")
    )
    stored = re.match(r"\d+", str((*tag.get("dp_image_store", ("", "")),)[1]))
    sizes = _size("AP_IMAGE_PIXEL_SIZE", image_nm)
    sizes += _field("AP_WIDTH", field_nm, columns, int(stored[0]) if stored else None)
    # This one is of the screen; the picture may be stored with more pixels.
    return sizes if image_nm else sizes + _size("AP_PIXEL_SIZE", screen_nm)


def _with_unit(entry: Any) -> float | None:
    if entry is None or len(entry) != 3 or entry[2] not in _UNIT_NM or not is_size(entry[1]):
        return None
    return float(entry[1]) * _UNIT_NM[entry[2]]


def _field(name: str, field_nm: Any, columns: int, stored: Any) -> list[PixelSize]:
    """Divide the width of the field by the columns that were stored, and by the current ones."""
    if not is_size(field_nm):
        return []
    counts = dict.fromkeys([int(stored) if is_size(stored) else columns, columns])
    return [PixelSize(f"{name} ÷ {count} columns", field_nm / count) for count in counts]


def _olympus(tag: Any) -> list[PixelSize]:
    content = tag if isinstance(tag, dict) else {}
    x_nm, y_nm = (float(content.get(f"pixelsize{axis}", "nan")) * 1e9 for axis in "xy")
    return _size("the tag of Olympus", x_nm, y_nm)


def _tescan(content: Any, source: str) -> list[PixelSize]:
    text = content.decode("latin-1") if isinstance(content, bytes) else str(content or "")
    # A header of bytes comes before the lines.
    found = dict(re.findall(r"(PixelSize[XY])[ \t]*=[ \t]*([-+.\deE]+)", text))
    x_nm, y_nm = (float(found.get(f"PixelSize{axis}", "nan")) * 1e9 for axis in "XY")
    return _size(source, x_nm, y_nm)


def _printed(tags: Any) -> list[PixelSize]:
    unit_nm = _RESOLUTION_NM.get(tags.valueof(_RESOLUTION_UNIT), math.nan)
    x_nm, y_nm = (unit_nm / number if number > 0 else math.nan for number in _resolution(tags))
    return _size(_BY_RESOLUTION, x_nm, y_nm) if x_nm < _PRINT_NM else []


# -- Files next to the picture -------------------------------------------------------------------


def _tescan_header(path: Path) -> list[PixelSize]:
    """Read ``NAME-tif.hdr`` or ``NAME.hdr``, sizes in metres."""
    stems = (f"{path.stem}-{path.suffix.lower()[1:]}", path.stem)
    for text, name in _texts(path, [f"{stem}.hdr" for stem in stems]):
        if sizes := _whole(partial(_tescan, text, name)):
            return sizes
    return []


def _hitachi_text(path: Path, columns: int) -> list[PixelSize]:
    """Read ``NAME.txt`` of a Hitachi, sizes in nm."""
    for text, name in _texts(path, [f"{path.stem}.txt"]):
        if "[semimagefile]" in text.lower():
            return _whole(partial(_hitachi, _entries(text), name, columns))
    return []


def _hitachi(entries: Mapping[str, str], name: str, columns: int) -> list[PixelSize]:
    x_nm = float(entries.get("pixelsize", "nan"))
    stored = re.match(r"\d+", entries.get("datasize", ""))
    sizes = _size(name, x_nm)
    if not sizes or stored is None or int(stored[0]) == columns:
        return sizes
    return sizes + _size(f"its {stored[0]} ÷ {columns} columns", x_nm * int(stored[0]) / columns)


def _texts(path: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield content and name of each file next to a picture."""
    for name in names:
        stem, suffix = name[:-4], name[-4:]
        for other in (path.with_name(stem + suffix), path.with_name(stem + suffix.upper())):
            try:
                is_text = other.is_file() and other.stat().st_size <= _LARGEST_TEXT
                content = other.read_bytes() if is_text else b""
            except OSError:
                continue
            code = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
            yield content.decode(code, "replace"), other.name


def _entries(text: str) -> dict[str, str]:
    lines = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, value in lines}
