"""Spacing of a grid in metres, and the coordinates of a finer grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolbox.io.crs import degrees_per_unit, plane_unit_m, satellite_height_m, spacing_on_earth_m
from toolbox.io.units import UNSAID, degrees_per_angle, is_degrees, metres_per_unit

Spacing = tuple[float, float]

METRES_PER_DEGREE = 111_319.49  # WGS 84, along the equator
#: From this deviation on, the true spacing is used instead of that of the projected plane.
_STRETCH = 0.01
#: Numbers beyond two full turns are not longitudes.
_TURNS = 720.0


def spacing_m(rows_deg: float, columns_deg: float, latitude_deg: float) -> tuple[float, float]:
    """Convert a spacing in degrees to metres at a latitude (sphere, 0.5 % accurate)."""
    return (
        abs(rows_deg) * METRES_PER_DEGREE,
        abs(columns_deg) * METRES_PER_DEGREE * float(np.cos(np.radians(latitude_deg))),
    )


def affine_spacing(
    transform: Sequence[float], crs: Any, shape: tuple[int, int]
) -> tuple[Spacing | None, str]:
    """Find the spacing of a grid from its transform.

    Parameters
    ----------
    transform : six floats
        As in rasterio, in the unit of `crs`; may be rotated or sheared.
    crs : object or None
        Coordinate reference system.
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    spacing : (float, float) or None
        Metres (rows, columns); None if the unit may be degrees or metres.
    remark : str
        What a user should know about how it was found; empty if the file is explicit.
    """
    a, b, c, d, e, f = transform[:6]
    columns, rows = float(np.hypot(a, d)), float(np.hypot(b, e))
    middle = shape[1] / 2, shape[0] / 2
    x, y = a * middle[0] + b * middle[1] + c, d * middle[0] + e * middle[1] + f
    if (degrees := degrees_per_unit(crs)) is not None:
        ends = (f + d * i + e * j for i in (0, shape[1]) for j in (0, shape[0]))
        latitudes = (y * degrees, *(end * degrees for end in ends))
        if no_degrees := _no_degrees(latitudes, x * degrees, rows * degrees):
            return None, no_degrees
        return spacing_m(rows * degrees, columns * degrees, y * degrees), ""
    if crs is None or (unit := plane_unit_m(crs)) is None:
        corners = np.abs([c, c + a * shape[1] + b * shape[0], f, f + d * shape[1] + e * shape[0]])
        if corners[:2].max() <= 360 and corners[2:].max() <= 90:
            return None, "has no coordinate reference system and may be in degrees or in metres"
        return (rows, columns), "has no coordinate reference system; its grid is taken as metres"
    nominal = rows * unit, columns * unit
    true = spacing_on_earth_m(crs, (x, y), ((b, e), (a, d)))
    if true is None or np.allclose(true, nominal, rtol=_STRETCH):
        return nominal, ""
    return true, (
        f"its projection stretches: a pixel of {nominal[0]:.4g} × {nominal[1]:.4g} m is "
        f"{true[0]:.4g} × {true[1]:.4g} m of ground in the middle of the map"
    )


def coordinate_spacing(y: Any, x: Any, crs: Any) -> tuple[Spacing | None, str]:
    """Find the spacing of a grid from its coordinates.

    Parameters
    ----------
    y, x : xarray.DataArray
        Coordinates of rows and columns.
    crs : object or None
        Coordinate reference system.

    Returns
    -------
    spacing : (float, float) or None
        Metres (rows, columns); None if the coordinates have another unit.
    remark : str
        What a user should know about how it was found; empty if the file is explicit.
    """
    rows, columns = y.values.astype(np.float64), x.values.astype(np.float64)
    columns = unrolled(columns) if in_degrees(x) else columns
    dy, dx = float(np.median(np.diff(rows))), float(np.median(np.diff(columns)))
    silent = not y.attrs.get("units") and not x.attrs.get("units")
    unit_y, unit_x = _degrees_each(y, crs), _degrees_each(x, crs)
    if unit_y is not None and unit_x is not None:
        middle = float(rows.mean()) * unit_y
        ends = (middle, *(rows[[0, -1]] * unit_y))
        if no_degrees := _no_degrees(ends, float(columns.mean()) * unit_x, abs(dy) * unit_y):
            return None, no_degrees
        return spacing_m(dy * unit_y, dx * unit_x, middle), ""
    if silent and crs is None and _like_degrees(rows, columns):
        return spacing_m(dy, dx, float(rows.mean())), (
            f"{y.name} and {x.name} have no unit; they are taken as degrees, because they are "
            f"within ±90 and ±360 and do not begin at 0. Give them an attribute units"
        )
    units = coordinate_unit_m(y, crs), coordinate_unit_m(x, crs)
    if units[0] is None or units[1] is None:
        said = str(y.attrs.get("units", "")) or str(x.attrs.get("units", ""))
        return None, f"its coordinates are in {said!r}, which is not a known unit of length"
    remark = ""
    if crs is None and silent:
        remark = f"{y.name} and {x.name} have no unit; they are taken as metres"
    if (factor := plane_unit_m(crs)) is None:
        return (abs(dy) * units[0], abs(dx) * units[1]), remark
    scale_y, scale_x = units[0] / factor, units[1] / factor
    transform = (dx * scale_x, 0.0, columns[0] * scale_x, 0.0, dy * scale_y, rows[0] * scale_y)
    return affine_spacing(transform, crs, (rows.size, columns.size))


def _degrees_each(coordinate: Any, crs: Any) -> float | None:
    """Return the unit of a latitude or longitude in degrees; None for other coordinates."""
    system, said = degrees_per_unit(crs), str(coordinate.attrs.get("units", "")).strip()
    if in_degrees(coordinate):
        return 1.0 if said else system or 1.0
    factor = unit_factor(coordinate, crs)
    return None if system is None or factor is None else factor * system


def unit_factor(coordinate: Any, crs: Any) -> float | None:
    """Return the factor from the unit of a coordinate to that of its system; None if none fits.

    Parameters
    ----------
    coordinate : xarray.DataArray
        Coordinate of rows or columns.
    crs : object or None
        Coordinate reference system. Without one, degrees are kept and lengths become metres.
    """
    said = str(coordinate.attrs.get("units", "")).strip()
    if (system := degrees_per_unit(crs)) is not None:
        angle = system if said.lower() in UNSAID else degrees_per_angle(said)
        return None if angle is None else angle / system
    plane = plane_unit_m(crs)
    if in_degrees(coordinate):
        return 1.0 if plane is None else None
    unit = coordinate_unit_m(coordinate, crs)
    return None if unit is None else unit / (plane or 1.0)


def _no_degrees(latitudes: Sequence[float], longitude: float, pixel: float) -> str:
    """Return why positions cannot be degrees; empty if they can.

    Parameters
    ----------
    latitudes : sequence of float
        First that of the middle, then those of the ends, which may be one pixel beyond a pole.
    longitude : float
        Longitude of the middle.
    pixel : float
        Height of a pixel in degrees.
    """
    middle, farthest = latitudes[0], max(latitudes, key=abs)
    if abs(middle) > 90 - 1e-6 or abs(farthest) > 90 + pixel or abs(longitude) > _TURNS:
        return (
            f"its coordinates are declared as degrees, but reach latitude {farthest:.7g} and "
            f"longitude {longitude:.7g}, so they are not degrees and the spacing is unknown; set "
            f"their coordinate reference system"
        )
    return ""


def curvilinear_spacing(y: Any, x: Any, dims: tuple[str, str]) -> Spacing | None:
    """Return the spacing (rows, columns), metres, in the middle of a curvilinear grid.

    Parameters
    ----------
    y, x : xarray.DataArray, shape (h, w) or (w, h)
        Latitudes and longitudes, or y and x in one unit of length.
    dims : (str, str)
        Names of the dimensions of rows and columns.
    """
    rows, columns = (c.transpose(*dims).values.astype(np.float64) for c in (y, x))
    i, j = rows.shape[0] // 2, rows.shape[1] // 2
    steps = [
        (rows[k, m] - rows[i, j], (columns[k, m] - columns[i, j] + 180) % 360 - 180)
        if in_degrees(y)
        else (rows[k, m] - rows[i, j], columns[k, m] - columns[i, j])
        for k, m in ((i - 1, j), (i, j - 1))
    ]
    if in_degrees(y):
        lengths = [float(np.hypot(*spacing_m(dy, dx, rows[i, j]))) for dy, dx in steps]
    elif (unit := coordinate_unit_m(y, None)) is not None:
        lengths = [float(np.hypot(dy, dx)) * unit for dy, dx in steps]
    else:
        return None
    return (lengths[0], lengths[1]) if np.isfinite(lengths).all() else None


def _like_degrees(rows: np.ndarray, columns: np.ndarray) -> bool:
    """Whether numbers look like positions on the globe: a local grid begins at or surrounds 0."""
    far = any(np.abs(c).min() > c.size * abs(c[1] - c[0]) for c in (rows, columns))
    fits = np.abs(rows).max() <= 90 and np.abs(columns).max() <= 360
    return bool(far and fits and abs(rows[1] - rows[0]) < 0.1)


def in_degrees(coordinate: Any) -> bool:
    """Whether a coordinate (xarray.DataArray) is declared as a latitude or a longitude."""
    attrs = coordinate.attrs
    if units := str(attrs.get("units", "")).strip():
        return is_degrees(units)
    names = (coordinate.name, attrs.get("standard_name", ""), attrs.get("long_name", ""))
    return any(re.match(r"(grid_)?(lat|lon)(itude|gitude)?s?\b", str(n).lower()) for n in names)


def coordinate_unit_m(coordinate: Any, crs: Any) -> float | None:
    """Return the unit, in metres, of a coordinate of lengths: its own, else the system's."""
    units = str(coordinate.attrs.get("units", "")).strip()
    if units.lower() in UNSAID:
        return plane_unit_m(crs) or 1.0
    if (angle := degrees_per_angle(units)) is not None:
        height = satellite_height_m(crs)  # scanning angles
        return None if height is None else float(np.radians(angle)) * height
    return metres_per_unit(units)


def archive_spacing(archive: Any) -> tuple[float, float] | None:
    """Return the spacing (rows, columns), metres, stored in an open ``.npz`` file; else None."""
    if {"dx", "dy", "ymin", "ymax"} <= set(archive.files):
        latitude = (float(archive["ymin"]) + float(archive["ymax"])) / 2
        return spacing_m(float(archive["dy"]), float(archive["dx"]), latitude)
    if {"longitude", "latitude"} <= set(archive.files):
        latitudes, longitudes = archive["latitude"], archive["longitude"]
        dy, dx = np.diff(latitudes).mean(), np.diff(longitudes).mean()
        return spacing_m(float(dy), float(dx), float(latitudes.mean()))
    return None


def even_step(centres: np.ndarray) -> float | None:
    """Return the spacing of coordinates (N,), or None if they are not evenly spaced."""
    step = float(centres[-1] - centres[0]) / (centres.size - 1)
    even = centres[0] + step * np.arange(centres.size)
    # Coordinates in float32 may be wrong by several hundredths of a fine spacing.
    return step if step and np.abs(centres - even).max() <= 0.05 * abs(step) else None


def unrolled(centres: np.ndarray) -> np.ndarray:
    """Continue longitudes (N,), degrees, that restart at 0 or -180; return others unchanged."""
    jumps = centres.size > 1 and np.abs(np.diff(centres)).max() > 180
    if not jumps or np.abs(centres).max() > 360:
        return centres
    return np.unwrap(centres, period=360)


def refined(coordinate: np.ndarray, scale: int) -> np.ndarray:
    """Return the centres of pixels that are `scale` times finer.

    Parameters
    ----------
    coordinate : numpy.ndarray, shape (n,)
        Centres of two or more pixels, ascending or descending. Evenly spaced centres give
        ``x0 + dx ((i + 1/2) / scale - 1/2)``; others are interpolated.
    scale : int
        Enlargement factor.

    Returns
    -------
    numpy.ndarray, shape (n * scale,), float64
        The finer centres. The outer edges of the first and the last pixel stay in place.
    """
    centres = np.asarray(coordinate, np.float64)
    if centres.ndim != 1 or centres.size < 2:
        raise ValueError(f"expected two or more centres to divide; received {centres.shape}")
    going_on = unrolled(centres)
    if going_on is not centres:  # divided as continuous longitudes, then wrapped again
        low = -180.0 if centres.min() < 0 else 0.0
        return (refined(going_on, scale) - low) % 360 + low
    place = (np.arange(centres.size * scale) + 0.5) / scale - 0.5
    if (step := even_step(centres)) is not None:
        return centres[0] + step * place
    left = np.clip(np.floor(place).astype(int), 0, centres.size - 2)
    return centres[left] + (place - left) * (centres[left + 1] - centres[left])
