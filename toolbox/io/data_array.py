"""Enlargement of an ``xarray.DataArray`` together with its coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.maps import declared_sign
from toolbox.io.spacing import refined
from toolbox.io.units import metres_per_unit


def enlarged_array(data: Any, scale: int, predict: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Enlarge the last two axes of a DataArray.

    Parameters
    ----------
    data : xarray.DataArray, shape (..., h, w)
        Metres, or the unit of length in the attribute ``units``; NaN where missing. Positive up
        unless the attributes (``positive``, ``standard_name``) declare depths.
    scale : int
        Enlargement factor.
    predict : callable
        From (h, w) to (h * scale, w * scale), metres.

    Returns
    -------
    xarray.DataArray, shape (..., h * scale, w * scale)
        Name, attributes and coordinates are kept; those of rows and columns are refined.
        Coordinates that cannot be refined are left out: those of rows and columns together (a
        curvilinear grid), and those of a single pixel.

    Raises
    ------
    DataError
        If there are fewer than two axes.
    """
    import xarray

    if data.ndim < 2 or not data.size or (data.ndim > 2 and data.shape[-1] == 1):
        raise DataError(
            f"expected a DataArray with rows and columns; received the axes {dict(data.sizes)}."
        )
    declared = declared_sign({key: str(value) for key, value in data.attrs.items()})
    factor = metres_per_unit(str(data.attrs.get("units", "m"))) or 1.0
    if declared is not None and declared[0] == "down":
        factor = -factor
    planes = np.asarray(data.values, np.float32).reshape(-1, *data.shape[-2:])
    large = np.stack([predict(plane * np.float32(factor)) / np.float32(factor) for plane in planes])
    sides = data.dims[-2:]
    coordinates = {}
    for name, coordinate in data.coords.items():
        if scale == 1 or not set(coordinate.dims) & set(sides):
            coordinates[name] = coordinate
        elif coordinate.ndim == 1 and coordinate.size > 1 and coordinate.dtype.kind in "iuf":
            fine = refined(coordinate.values, scale)
            coordinates[name] = (coordinate.dims, fine, coordinate.attrs)
    shape = (*data.shape[:-2], *large.shape[-2:])
    return xarray.DataArray(
        large.reshape(shape), coordinates, data.dims, name=data.name, attrs=data.attrs
    )
