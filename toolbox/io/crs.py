"""Coordinate reference systems: what their axes measure, and how NetCDF files state them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from toolbox.errors import MissingLibraryError
from toolbox.io.extras import install_command

#: Attributes that hold a complete system as text, the most trusted first.
_TEXTS = ("crs_wkt", "spatial_ref", "epsg_code", "epsg", "EPSG", "EPSG_code", "esri_pe_string")
_PROJ4 = ("proj4", "proj4text", "proj4_params", "proj4_string", "proj4string")
_KEYS = (*_TEXTS, *_PROJ4, "grid_mapping_name")
_ELLIPSOID = ("semi_m", "inverse_f", "earth_r", "reference_e", "horizontal_d", "geographic_crs")
_DEGREE = np.pi / 180
#: Allowed error of the conversion to the ellipsoid and back, as a fraction of half a step.
_BACK = 0.01


def as_rasterio(crs: Any) -> Any:
    """Return a system as a rasterio object; None if there is none or it cannot be understood."""
    if crs is None or hasattr(crs, "units_factor"):
        return crs
    try:
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
    except ImportError:
        return None
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        return None


def plane_unit_m(crs: Any) -> float | None:
    """Return the unit of the axes in metres, also for a local grid; None if they are angles."""
    known = as_rasterio(crs)
    if known is None or known.is_geographic:
        return None
    return float(known.units_factor[1]) or None


def plane_unit_name(crs: Any) -> str:
    """Return the unit of the axes of a projected or local system, as NetCDF spells it."""
    name = str(as_rasterio(crs).units_factor[0])
    return "m" if name.lower().startswith("met") else name


def degrees_per_unit(crs: Any) -> float | None:
    """Return the unit of a geographic system in degrees; None if there are no angles."""
    known = as_rasterio(crs)
    if known is None or not known.is_geographic:
        return None
    unit = float(known.units_factor[1]) / _DEGREE or 1.0
    return 1.0 if abs(unit - 1) < 1e-9 else unit


def satellite_height_m(crs: Any) -> float | None:
    """Return the height that converts CF scanning angles (radians) to metres.

    Returns
    -------
    float or None
        None if the system is not that of a geostationary satellite.
    """
    known = as_rasterio(crs)
    if known is None or not known.is_projected:
        return None
    said = known.to_dict()
    return float(said["h"]) if said.get("proj") == "geos" and "h" in said else None


def in_degrees_itself(crs: Any) -> Any:
    """Return a geographic system with axes in degrees and the same prime meridian.

    Parameters
    ----------
    crs : object
        Geographic system in any angular unit, such as the grads of NTF (Paris).

    Returns
    -------
    rasterio.crs.CRS

    Raises
    ------
    MissingLibraryError
        If the unit is not degrees and pyproj is not installed.
    """
    known = as_rasterio(crs)
    if degrees_per_unit(known) == 1.0:
        return known
    try:
        from pyproj import CRS
    except ImportError:
        raise MissingLibraryError(
            f"angles in units other than degrees need pyproj. Run: {install_command('geo')}"
        ) from None
    said = CRS.from_wkt(known.to_wkt()).to_json_dict()
    plane = said.get("components", [said])[0]
    for axis in plane["coordinate_system"]["axis"][:2]:
        axis["unit"] = "degree"
    for part in (said, plane):
        part.pop("id", None)
    return as_rasterio(CRS.from_json_dict(said).to_wkt())


def vertical_axis(crs: Any) -> tuple[str, str, str] | None:
    """Return what a system states about heights or depths.

    Parameters
    ----------
    crs : object
        Compound, vertical or three-dimensional system, in any form that rasterio accepts.

    Returns
    -------
    (str, str, str) or None
        Name of the vertical system, ``'up'`` or ``'down'``, and name of the unit. None without
        pyproj or without a vertical axis.
    """
    known = as_rasterio(crs)
    try:
        from pyproj import CRS
        from pyproj.exceptions import CRSError
    except ImportError:
        return None
    if known is None:
        return None
    try:
        system = CRS.from_user_input(known.to_wkt())
    except CRSError:
        return None
    part = [system, *system.sub_crs_list][-1]
    for axis in part.axis_info:
        if axis.direction in ("up", "down"):
            return part.name, axis.direction, axis.unit_name
    return None


def spacing_on_earth_m(
    crs: Any, place: tuple[float, float], steps: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[float, float] | None:
    """Measure steps of a projected grid on the ellipsoid.

    Parameters
    ----------
    crs : object
        Projected system, in any form that rasterio accepts.
    place : (float, float)
        x and y of the middle of the steps, in the unit of the system.
    steps : two pairs of float
        x and y of the step to the next row and to the next column.

    Returns
    -------
    (float, float) or None
        Metres. None without pyproj, without a projection, or where its formulas fail, that is,
        where the conversion to the ellipsoid and back does not return to the same point.
    """
    known = as_rasterio(crs)
    try:
        from pyproj import CRS, Transformer
        from pyproj.exceptions import ProjError
    except ImportError:
        return None
    if known is None or not known.is_projected:
        return None
    # The middle, then half a step back and half a step forward, for rows and for columns.
    halves = np.array(steps).repeat(2, axis=0) * [[-0.5], [0.5], [-0.5], [0.5]]
    points = np.array(place) + np.concatenate([np.zeros((1, 2)), halves])
    code = known.to_epsg()
    try:
        system = CRS.from_epsg(code) if code else CRS.from_wkt(known.to_wkt())
        turn = Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
        east, north = turn.transform(points[:, 0], points[:, 1])
        again = turn.transform(east, north, direction="INVERSE")
        geod = system.get_geod()
    except ProjError:
        return None
    if geod is None or not (np.isfinite(east).all() and np.isfinite(north).all()):
        return None
    # Relative to the middle and modulo full turns: once around the earth is not an error.
    back, circle = np.transpose(again), 2 * np.pi * geod.a / (plane_unit_m(known) or 1.0)
    off = (back - back[0]) - (points - points[0])
    off -= np.round(off / circle) * circle
    if not np.abs(off).max() <= _BACK * np.hypot(*halves.T).max():
        return None
    lengths = geod.inv(east[1::2], north[1::2], east[2::2], north[2::2])[2]
    return float(lengths[0]), float(lengths[1])


# -- In NetCDF files -----------------------------------------------------------------------------


def names_a_system(attrs: Mapping[str, Any]) -> bool:
    """Whether attributes of a variable describe a coordinate reference system."""
    return any(attrs.get(key) not in (None, "") for key in _KEYS)


def system_of(attrs: Mapping[str, Any]) -> str | None:
    """Read a grid mapping: well-known text, EPSG code, PROJ string or CF parameters.

    Parameters
    ----------
    attrs : mapping
        Attributes of the grid mapping variable.

    Returns
    -------
    str or None
        Text that rasterio accepts; None if the mapping cannot be understood.

    References
    ----------
    CF conventions 1.11, section 5.6 and appendix F; read by pyproj's ``CRS.from_cf``.
    """
    for key in (*_TEXTS, *_PROJ4):
        text = str(attrs.get(key, "")).strip()
        if re.fullmatch(r"\d+(\.0)?", text):
            text = f"EPSG:{int(float(text))}"
        if text and as_rasterio(text) is not None:
            return text
    name = str(attrs.get("grid_mapping_name", ""))
    if name == "latitude_longitude" and not any(key.startswith(_ELLIPSOID) for key in attrs):
        return "EPSG:4326"
    return _from_cf({k: v for k, v in attrs.items() if k not in (*_TEXTS, *_PROJ4)})


def _from_cf(attrs: dict[str, Any]) -> str | None:
    try:
        from pyproj import CRS
        from pyproj.exceptions import CRSError
    except ImportError:
        return None
    if not attrs.get("grid_mapping_name"):
        return None
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in attrs.items()}
    try:
        system = CRS.from_cf(plain)
    except (CRSError, KeyError, TypeError, ValueError):
        return None
    shape = system.ellipsoid
    unnamed = "unknown" in str(system.datum).lower() or "undefined" in str(system.datum).lower()
    wgs84 = shape is not None and (
        abs(shape.semi_major_metre - 6378137) < 0.01
        and abs(shape.inverse_flattening - 298.257223563) < 1e-6
    )
    if system.is_geographic and unnamed and wgs84:
        return "EPSG:4326"
    text = system.to_wkt()
    return text if as_rasterio(text) is not None else None
