"""IHO S-102, bathymetric surfaces in HDF5, editions 2 and 3: one coverage, read window by window.

References
----------
IHO S-102, Bathymetric Surface Product Specification, editions 2.0.0, 2.1.0, 2.2.0 and 3.0.0, clause
10 and the annex on the HDF5 encoding.

IHO S-100, Universal Hydrographic Data Model, edition 5, part 10c.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.content import unreadable
from toolbox.io.crs import system_of
from toolbox.io.extras import install_command
from toolbox.io.maps import MapReader, Transform, choose_variable, damaged
from toolbox.io.netcdf import CHOOSE_GROUP
from toolbox.io.spacing import affine_spacing

FILL = 1_000_000.0
_CONTAINER = "BathymetryCoverage"
_STANDARD_SCAN = "Longitude, Latitude"
_EAST, _NORTH = ("longitude", "easting", "x"), ("latitude", "northing", "y")
#: Position of a node in its cell, as fractions from the south-west, by dataOffsetCode.
_NODES = {1: (0.0, 0.0), 2: (1.0, 1.0), 3: (1.0, 0.0), 4: (0.0, 1.0), 5: (0.5, 0.5)}
_CENTRE = 5
_DOWN, _UP = 6498, 6499  # EPSG codes of vertical coordinate systems in metres
#: What other kinds of HDF5 files have in their root, and what to do with such a file.
_OTHERS = (
    ("_NCProperties", "It is NetCDF: give it the ending .nc."),
    ("BAG_root", "It is a BAG: give it the ending .bag."),
)
#: What h5py raises if a file contradicts itself or HDF5.
_TORN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


@dataclasses.dataclass(kw_only=True, eq=False)
class S102Reader(MapReader):
    """Depth or uncertainty of one coverage of an S-102 cell.

    Attributes
    ----------
    file : h5py.File
        The open file.
    records : h5py.Dataset, shape (H, W)
        Depths and uncertainties of the nodes.
    marks : tuple of float
        Stored values that mean "missing".
    """

    file: Any
    records: Any
    marks: tuple[float, ...] = (FILL,)

    # The sign comes from the standard, not from the producer, who may have copied elevations.
    _doubts_declared: ClassVar[bool] = True

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _unpacked(self, rows: slice, columns: slice) -> np.ndarray:
        try:
            stored = self.records.fields(self.name)[rows, columns]
        except _TORN as error:
            raise damaged(self.path, error) from None
        values = stored.astype(np.float64)
        for mark in self.marks:
            values[stored == mark] = np.nan
        return values


def open_s102(
    path: Path, variable: str | None = None, group: str | None = None
) -> tuple[S102Reader, dict[str, str]]:
    """Open one coverage of an S-102 cell.

    Parameters
    ----------
    path : pathlib.Path
        An HDF5 file with any ending.
    variable : str, optional
        ``depth`` (the default) or ``uncertainty``.
    group : str, optional
        Coverage such as ``BathymetryCoverage.02``; required if there are several.

    Returns
    -------
    (S102Reader, dict of str to str)
        The reader, and the hints at its sign. Rows are in stored order, usually from the south.

    Raises
    ------
    DataError
        If the file is not S-102, lacks what the standard requires or contradicts itself, or if a
        coverage must be chosen.
    """
    h5py = _library(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, "S-102", error) from None
    with contextlib.ExitStack() as stack:
        stack.callback(file.close)
        try:
            opened = _cell(path, file, variable, group)
        except _TORN as error:
            raise unreadable(path, "S-102", error) from None
        stack.pop_all()
        return opened


def is_other_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file is sound HDF5 of another kind, such as weights; a torn one may be S-102."""
    with contextlib.suppress(ImportError, *_TORN):
        import h5py

        with h5py.File(path, "r") as file:
            return not _product(file).startswith("INT.IHO.S-102.")
    return False


def _library(path: Path) -> Any:
    try:
        import h5py
        import rasterio  # noqa: F401, for coordinate reference systems
    except ImportError:
        raise MissingLibraryError(
            f"{path}: reading S-102 needs h5py and rasterio. Run: {install_command('geo')}"
        ) from None
    return h5py


def _cell(
    path: Path, file: Any, variable: str | None, group: str | None
) -> tuple[S102Reader, dict[str, str]]:
    edition = _edition(path, file)
    container = _member(path, file, _CONTAINER)
    coverages = _coverages(path, container)
    coverage = _chosen(path, file, container, coverages, group)
    records = _records(path, coverage)
    name = variable or ("depth" if "depth" in records.dtype.names else None)
    name = choose_variable(path, list(records.dtype.names), name)
    rows = records.shape[0]
    transform = _transform(path, container, coverage, rows, _runs_south(path, container, coverage))
    crs, unplaced = _system(path, file)
    spacing, remark = affine_spacing(transform, crs, records.shape)
    fill, units = _said_of(file, name)
    reader = S102Reader(
        path=path,
        kind="s102",
        shape=records.shape,
        dtype=records.dtype[name].newbyteorder("="),
        nodata=fill,
        transform=transform,
        crs=crs,
        delta_m=spacing,
        spacing_remark=remark,
        name=name,
        units=units,
        file=file,
        records=records,
        marks=tuple({fill, FILL}),
    )
    if reader.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected numbers in {name}; received {reader.dtype}.")
    reader.notes += unplaced + _notes(path, file, container, coverage, name)
    return reader, _hints(file, coverage, name, edition)


# -- What is in a file ---------------------------------------------------------------------------


def _said(name: str, *places: Any) -> Any:
    """Return an attribute of the first place that has it, as a plain value; None if none has."""
    for place in places:
        value = place.attrs.get(name)
        # In h5py, an attribute that has a type but no value has the shape None.
        if value is None or getattr(value, "shape", ()) is None or not np.size(value):
            continue
        first = np.ravel(value)[0]
        if isinstance(first, bytes | str):
            return _text(first)
        return first.item() if isinstance(first, np.generic) else first
    return None


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")


def _number(path: Path, name: str, *places: Any) -> float:
    """Return a number that every S-102 cell must have."""
    value = _said(name, *places)
    with contextlib.suppress(TypeError, ValueError):
        if np.isfinite(float(value)):
            return float(value)
    received = "none" if value is None else repr(value)
    raise _incomplete(path, f"{places[0].name} needs a number as {name}; received {received}")


def _incomplete(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. It is incomplete or damaged; download it again.")


def _product(file: Any) -> str:
    return str(_said("productSpecification", file) or "")


def _edition(path: Path, file: Any) -> tuple[int, int]:
    """Return the edition of the standard; refuse a file that is not S-102."""
    product = _product(file)
    match = re.fullmatch(r"INT\.IHO\.S-102\.(\d+)\.(\d+)[\d.]*", product)
    if match is None:
        received = f"received {product!r}" if product else "received none"
        cure = next((cure for sign, cure in _OTHERS if sign in file or sign in file.attrs), "")
        raise DataError(
            f"{path}: is HDF5, but not S-102, whose productSpecification begins with "
            f"'INT.IHO.S-102.'; {received}. {cure or 'Give it the correct ending.'}"
        )
    if match[1] not in ("2", "3"):
        raise DataError(
            f"{path}: has edition {match[1]}.{match[2]} of S-102; expected edition 2 or 3. Ask "
            f"its producer for one of these, or convert it to GeoTIFF."
        )
    return int(match[1]), int(match[2])


def _member(path: Path, place: Any, name: str) -> Any:
    found = place.get(name)
    if found is None or not hasattr(found, "keys"):
        raise _incomplete(path, f"has no group {name}")
    return found


def _coverages(path: Path, container: Any) -> dict[str, Any]:
    """Return the coverages by name, in the order of their numbers."""
    names = [name for name in container if re.fullmatch(rf"{_CONTAINER}[._]\d+", name)]
    if not names:
        raise _incomplete(path, f"has no group {_CONTAINER}.01 in {_CONTAINER}")
    return {name: _member(path, container, name) for name in sorted(names)}


def _chosen(
    path: Path, file: Any, container: Any, coverages: dict[str, Any], group: str | None
) -> Any:
    if group is None and len(coverages) == 1:
        return next(iter(coverages.values()))
    wanted = None if group is None else group.strip("/").removeprefix(f"{_CONTAINER}/")
    if wanted in coverages:
        return coverages[wanted]
    if wanted is not None:
        raise DataError(f"{path}: group must be one of {', '.join(coverages)}; received {group!r}.")
    known = [f"{name} ({_extent(path, file, container, part)})" for name, part in coverages.items()]
    raise DataError(
        f"{path}: has depths in the coverages {', '.join(known)}; received no group. {CHOOSE_GROUP}"
    )


def _extent(path: Path, file: Any, container: Any, coverage: Any) -> str:
    """Describe the size and spacing of a coverage, and its vertical datum if it has its own."""
    shape = _records(path, coverage).shape
    transform = _transform(path, container, coverage, shape[0], False)
    spacing, _ = affine_spacing(transform, _system(path, file)[0], shape)
    rows, columns = spacing or (transform[4], transform[0])
    unit = " m" if spacing else ""
    datum = _said("verticalDatum", coverage)
    own = "" if datum is None else f", vertical datum {datum}"
    return f"{shape[1]} × {shape[0]} pixels of {columns:.4g} × {rows:.4g}{unit}{own}"


def _records(path: Path, coverage: Any) -> Any:
    """Return the records of a coverage; refuse a number other than the coverage states."""
    groups = [name for name in coverage if re.fullmatch(r"Group[._]\d+", name)]
    if len(groups) != 1:
        raise _incomplete(path, f"{coverage.name} needs one group of values; it has {len(groups)}")
    records = _member(path, coverage, groups[0]).get("values")
    if records is None or not records.dtype.names or len(records.shape) != 2:
        raise _incomplete(path, f"{coverage.name} has no plane of values with named fields")
    said = [
        int(_number(path, f"numPoints{axis}", coverage)) for axis in ("Latitudinal", "Longitudinal")
    ]
    if tuple(said) != records.shape:
        held = " × ".join(map(str, records.shape[::-1]))
        raise _incomplete(
            path,
            f"{coverage.name} declares {said[1]} × {said[0]} nodes "
            f"(numPointsLongitudinal, numPointsLatitudinal), but holds {held}",
        )
    return records


def _said_of(file: Any, name: str) -> tuple[float, str | None]:
    """Return fill value and unit of a field from Group_F; by default the fill of the standard."""
    for row in _features(file):
        if _text(row["code"]).lower() == name.lower():
            told = {key: _text(row[key]) for key in row.dtype.names}
            with contextlib.suppress(KeyError, ValueError):
                return float(told["fillValue"]), told.get("uom.name")
            return FILL, told.get("uom.name")
    return FILL, None


def _features(file: Any) -> Iterator[Any]:
    table = file.get(f"Group_F/{_CONTAINER}")
    if table is not None and "code" in (getattr(table, "dtype", np.dtype("f4")).names or ()):
        yield from np.ravel(table[()])


# -- Place ---------------------------------------------------------------------------------------


def _runs_south(path: Path, container: Any, coverage: Any) -> bool:
    """Whether row 0 is the northernmost, not the southernmost as in the order of the standard.

    Refuses any order other than rows of nodes from west to east.
    """
    scan = str(_said("sequencingRule.scanDirection", coverage, container) or _STANDARD_SCAN)
    start = str(_said("startSequence", coverage, container) or "0,0")
    rule = _said("sequencingRule.type", coverage, container)
    last = int(_number(path, "numPointsLatitudinal", coverage)) - 1
    axes = [axis.strip().lower() for axis in scan.split(",")]
    south = len(axes) == 2 and axes[1].startswith("-")
    known = len(axes) == 2 and axes[0] in _EAST and axes[1].removeprefix("-") in _NORTH
    begins = [int(number) for number in re.findall(r"-?\d+", start)]
    linear = rule is None or str(rule).lower() in ("1", "linear")
    if known and linear and begins[:2] == [0, last if south else 0]:
        return south
    told = "" if linear else f"sequencingRule.type {rule}, "
    raise DataError(
        f"{path}: the order of its values ({told}scanDirection {scan!r} from {start!r}) is not "
        f"supported; expected '{_STANDARD_SCAN}' from '0,0', or 'Longitude, -Latitude' from "
        f"'0,{last}'. Ask its producer for such a cell, or convert it to GeoTIFF."
    )


def _transform(path: Path, container: Any, coverage: Any, rows: int, south: bool) -> Transform:
    """Return the transform of outer edges from the south-western node, usually a cell centre."""
    x, y = (_number(path, f"gridOrigin{axis}", coverage) for axis in ("Longitude", "Latitude"))
    dx, dy = (
        _number(path, f"gridSpacing{axis}", coverage) for axis in ("Longitudinal", "Latitudinal")
    )
    if min(dx, dy) <= 0:
        raise _incomplete(path, f"{coverage.name} needs spacings above 0; received {dx:g}, {dy:g}")
    east, north = _NODES[_offset_code(path, container, coverage)]
    x, y = x - east * dx, y - north * dy
    return (dx, 0.0, x, 0.0, -dy, y + rows * dy) if south else (dx, 0.0, x, 0.0, dy, y)


def _offset_code(path: Path, container: Any, coverage: Any) -> int:
    code = _said("dataOffsetCode", coverage, container)
    if code is None:
        return _CENTRE  # edition 2 has none: its nodes are centres
    if code not in _NODES:
        raise DataError(
            f"{path}: dataOffsetCode must be {_CENTRE} (nodes in the centres of cells) or 1 to 4 "
            f"(in a corner); received {code!r}. Ask its producer where the nodes are."
        )
    return int(code)


def _system(path: Path, file: Any) -> tuple[str | None, list[str]]:
    """Return the coordinate reference system, and lines about an unknown one."""
    name, code = "horizontalCRS", _said("horizontalCRS", file)
    register = "EPSG"
    if code is None:  # before edition 2.2
        name, code = "horizontalDatumValue", _said("horizontalDatumValue", file)
        register = str(_said("horizontalDatumReference", file) or register)
    if code is None:
        why = "it names no horizontalCRS or horizontalDatumValue"
    elif register.upper() != "EPSG":
        why = f"its {name} {code} is one of {register!r}, not of EPSG"
    elif (crs := system_of({"epsg_code": code})) is not None:
        return crs, []
    else:
        why = f"its {name} {code} is not a known EPSG code"
    return None, [
        f"WARNING: {path} has no usable coordinate reference system, as {why}; the result will "
        f"have none either."
    ]


# -- Notes and hints -----------------------------------------------------------------------------


def _notes(path: Path, file: Any, container: Any, coverage: Any, name: str) -> list[str]:
    fields = [field for field in _records(path, coverage).dtype.names if field != name]
    known = (_CONTAINER, "Group_F")
    others = [other for other in file if other not in known]
    left = ", ".join((*fields, *others))
    code = _offset_code(path, container, coverage)
    corner = f"{path}: its nodes are in a corner of their cells (dataOffsetCode {code})."
    told = {f"{path}: not copied to the result: {left}.": bool(left), corner: code != _CENTRE}
    return [line for line, holds in told.items() if holds]


def _hints(file: Any, coverage: Any, name: str, edition: tuple[int, int]) -> dict[str, str]:
    """Return the hints at the sign of depths, which edition 2.0 left unclear.

    In its clause 5.2 the vertical axis points up, while its depths are positive down. Producers
    followed either, so the values decide. From edition 2.1 on, the axis points down.
    """
    named = {"the variable's name": name}
    if name != "depth":
        return named
    system = _said("verticalCS", coverage, file)
    if system in (_DOWN, _UP):
        return named | {"verticalCS": f"{system}, positive {'down' if system == _DOWN else 'up'}"}
    return named if edition == (2, 0) else named | {"the S-102 standard": "depth, positive down"}
