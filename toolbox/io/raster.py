"""Read a complete map in metres with NaN gaps: GeoTIFF, BAG, S-102, NetCDF, grids and arrays.

:mod:`toolbox.io.maps` reads the files.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.maps import (
    GRID_SUFFIXES,
    MAP_SUFFIXES,
    MapReader,
    RasterioReader,
    Transform,
    find_raster,
    open_map,
)
from toolbox.io.spacing import METRES_PER_DEGREE, spacing_m

__all__ = ["METRES_PER_DEGREE", "Raster", "read_raster", "spacing_m"]


@dataclasses.dataclass
class Raster:
    """One band of a map.

    Attributes
    ----------
    values : numpy.ndarray, shape (H, W), float32
        Elevation in metres, negative below sea level; NaN where missing.
    delta_m : (float, float) or None
        Grid spacing in metres (between rows, between columns); None if unknown.
    notes : list of str
        Lines that a program should print: how the file was understood, and contradictions.
    fname : str
        The file, for messages.
    transform : tuple of six floats or None
        From (column, row) to map coordinates of outer pixel edges, as in rasterio.
    crs : object or None
        Coordinate reference system, in any form rasterio accepts.
    georeferenced : bool
        Whether the file states the position of its pixels.
    """

    values: np.ndarray
    delta_m: tuple[float, float] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    fname: str = ""
    transform: Transform | None = None
    crs: Any = None
    georeferenced: bool = False


def read_raster(
    fname: str | os.PathLike[str],
    variable: str | int | None = None,
    nodata: float | None = None,
    positive: str = "up",
    time: str | None = None,
    group: str | None = None,
) -> Raster:
    """Read a map from any supported file.

    Parameters
    ----------
    fname : path-like
        ``.tif .tiff .bag .asc`` (rasterio), ``.nc`` (xarray), ``.grd`` (either), ``.h5 .hdf5
        .s102`` (S-102, h5py), ``.npy .npz .pkl`` (NumPy), or ``sample:NAME.npz`` for an elevation
        model that ships with Matplotlib.
    variable : str or int, optional
        Variable of a NetCDF or npz file, not needed if there is only one candidate; band number
        of a GeoTIFF or BAG, by default 1; or ``uncertainty`` of S-102. Ignored for files that hold
        one array.
    nodata : float, optional
        Further value that means "missing", in addition to that of the file and NaN.
    positive : {'up', 'down'}
        Whether the file counts heights (elevation) or depths upwards from zero. If the file
        declares the opposite, `positive` takes precedence and a note says so.
    time, group : str, optional
        Step of a further axis, and group, of a NetCDF file; coverage of S-102; see
        `toolbox.io.maps.open_map`.

    Returns
    -------
    Raster
        Elevation, positive up.

    Raises
    ------
    DataError
        If the file is missing, unreadable, not a plane of numbers, or all missing.
    """
    suffix = find_raster(fname).suffix.lower()
    if suffix not in MAP_SUFFIXES:
        raise DataError(
            f"{fname}: unknown kind of raster {suffix!r}; "
            f"expected one of {', '.join(sorted(MAP_SUFFIXES, key=_rare_last))}."
        )
    chosen = None if suffix in (".npy", ".pkl") else variable
    if suffix in (".tif", ".tiff", ".bag"):
        chosen = variable or 1
    with open_map(fname, chosen, nodata, positive, time, group) as reader:
        values = np.squeeze(reader.read(slice(None), slice(None)))
        raster = Raster(
            values,
            reader.delta_m,
            _notes(reader, variable),
            os.fspath(fname),
            reader.transform,
            reader.crs,
            reader.georeferenced,
        )
    if values.ndim != 2:
        raise DataError(f"{fname}: expected one plane (H, W); received shape {values.shape}.")
    if np.isnan(values).all():
        raise DataError(
            f"{fname}: every pixel is missing (NaN or nodata). Check the file and nodata."
        )
    return raster


def _rare_last(suffix: str) -> tuple[bool, str]:
    return suffix in GRID_SUFFIXES, suffix


def _notes(reader: MapReader, variable: str | int | None) -> list[str]:
    notes = list(reader.checks)
    if reader.declared_sign is not None and reader.declared_sign[0] != reader.positive:
        sign, reason = reader.declared_sign
        notes.append(
            f"WARNING: {reader.path}: positive {sign} is {reason}, but it is read as positive "
            f"{reader.positive}. If the file is right, use 'positive: {sign}'."
        )
    if isinstance(reader, RasterioReader) and reader.kind != "bag" and not variable:
        count = reader.dataset.count
        if count > 1:
            notes.append(
                f"{reader.path}: only band 1 of {count} is read. For another, use 'variable: ...'."
            )
    return notes
