"""Georeference of the planes of a NetCDF file, by the CF conventions and by common habit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from toolbox.io.crs import names_a_system, system_of
from toolbox.io.spacing import in_degrees


def axis_of(dataset: Any, array: Any, dim: str) -> str | None:
    """Name the coordinate of one axis of a plane.

    Parameters
    ----------
    dataset : xarray.Dataset
        The file.
    array : xarray.DataArray
        The plane.
    dim : str
        One of its dimensions.

    Returns
    -------
    str or None
        The coordinate with the name of the dimension; otherwise the one that CF attributes, units
        or the attribute ``coordinates`` of the plane name. None if there is none, or several.
    """
    if dataset.sizes[dim] < 2:
        return None
    if dim in dataset.coords:
        return dim
    beside = [
        str(name)
        for name, variable in dataset.variables.items()
        if variable.dims == (dim,) and variable.dtype.kind in "iuf"
    ]
    named = [name for name in beside if name in array.coords]
    for found in (_of_place(dataset, beside), named):
        if len(found) == 1:
            return found[0]
    return None


def curvilinear_of(dataset: Any, array: Any, dims: tuple[str, str]) -> tuple[str, str] | None:
    """Name the two coordinates that give the position of every pixel, latitudes or y first."""
    planes = [
        str(name)
        for name, variable in dataset.variables.items()
        if set(variable.dims) == set(dims) and name != array.name and variable.dtype.kind == "f"
    ]
    found = _of_place(dataset, planes)
    found = found if len(found) == 2 else [name for name in planes if name in array.coords]
    if len(found) != 2:
        return None
    first, second = found
    return (second, first) if runs_east(first, dataset[first]) else (first, second)


def runs_east(name: str, coordinate: Any = None) -> bool:
    """Whether an axis with this name, or with this coordinate, counts columns."""
    if coordinate is None or re.match("lat|lon", name, re.IGNORECASE):
        return name.lower().startswith(("lon", "x", "east"))
    attrs = {key: str(value).lower() for key, value in coordinate.attrs.items()}
    if (axis := attrs.get("axis", "")) in ("x", "y"):
        return axis == "x"
    standard = attrs.get("standard_name", "")
    if re.search("latitude|longitude|projection_[xy]", standard):
        return "longitude" in standard or "projection_x" in standard
    if match := re.fullmatch(r"degrees?_?([ne])(orth|ast)?", attrs.get("units", "")):
        return match[1] == "e"
    return str(coordinate.name).lower().startswith(("lon", "x", "east"))


def _of_place(dataset: Any, names: list[str]) -> list[str]:
    """Return those of `names` that are positions, by CF attributes or by plain names."""
    found = {name for name in names if in_degrees(dataset[name])}
    try:
        import cf_xarray  # noqa: F401
    except ImportError:
        return [name for name in names if name in found]
    guessed = dataset[names].reset_coords().set_coords(names).cf.guess_coord_axis()
    for kinds in (guessed.cf.axes, guessed.cf.coordinates):
        for kind in ("X", "Y", "latitude", "longitude"):
            found |= set(kinds.get(kind, ()))
    return [name for name in names if name in found]


def system_of_plane(dataset: Any, array: Any, axes: tuple[str, ...]) -> tuple[str | None, str]:
    """Find the coordinate reference system of a plane.

    Parameters
    ----------
    dataset : xarray.Dataset
        The file.
    array : xarray.DataArray
        The plane.
    axes : (str, str) or ()
        Names of its coordinates, if it has any.

    Returns
    -------
    crs : str or None
        Text that rasterio accepts.
    remark : str
        Why there is none although the file names one; otherwise empty.
    """
    mapping = _grid_mapping(dataset, array)
    if mapping is not None:
        attrs = dataset[mapping].attrs
        if (found := system_of(attrs)) is not None:
            return found, ""
        if names_a_system(attrs):
            said = attrs.get("grid_mapping_name") or next(iter(attrs.values()))
            return None, (
                f"its grid mapping {mapping} ({str(said)[:60]!r}) is not a known coordinate "
                f"reference system, so a GeoTIFF or BAG made from it has none."
            )
    whole = {"epsg_code": dataset.attrs.get("geospatial_bounds_crs", "")}
    if (found := system_of(whole)) is not None:
        return found, ""
    degrees = bool(axes) and all(in_degrees(dataset[axis]) for axis in axes)
    return ("EPSG:4326" if degrees else None), ""


def geotransform_of(dataset: Any, array: Any) -> tuple[float, ...] | None:
    """Return the six numbers of GDAL's attribute ``GeoTransform`` of a grid mapping.

    Returns
    -------
    tuple of six float or None
        x of the outer corner of the first pixel and its steps to the next column and row, then
        the same for y. None if there is none, or if it does not describe a grid.
    """
    mapping = _grid_mapping(dataset, array)
    said = "" if mapping is None else dataset[mapping].attrs.get("GeoTransform", "")
    try:
        words = said.split() if isinstance(said, str) else np.ravel(said)
        numbers = tuple(float(word) for word in words)
    except (TypeError, ValueError):
        return None
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        return None
    _, a, b, _, d, e = numbers
    return numbers if a * e != b * d else None


def _grid_mapping(dataset: Any, array: Any) -> str | None:
    """Name the variable that holds the system: that of the plane, or the only one in the file."""
    said = str({**array.encoding, **array.attrs}.get("grid_mapping", ""))
    name = said.split(":")[0].split(" ")[0]
    if name in dataset.variables:
        return name
    others = [
        str(key)
        for key, variable in dataset.variables.items()
        if variable.ndim == 0
        and (names_a_system(variable.attrs) or "GeoTransform" in variable.attrs)
    ]
    return others[0] if len(others) == 1 else None
