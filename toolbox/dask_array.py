"""A DataArray enlarged lazily: one task of Dask for each row of tiles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from toolbox.errors import DataError
from toolbox.inference.dask_cluster import dask_library
from toolbox.inference.super_resolver import Consistency, SuperResolver
from toolbox.inference.tiling import Tiling
from toolbox.io.data_array import enlarged_like, metres_factor
from toolbox.run import load_model

if TYPE_CHECKING:
    import xarray


def predict_dask(
    data: xarray.DataArray,
    model: SuperResolver | str | os.PathLike[str],
    tile: int | None = None,
    self_ensemble: bool = False,
    lr_consistency: Consistency = "report",
) -> xarray.DataArray:
    """Enlarge a DataArray lazily, row of tiles by row of tiles.

    Nothing is read or computed until the result is needed; then the active scheduler of Dask does
    it. The numbers equal those of `SuperResolver.predict` to rounding: tiles are placed as for a
    map with gaps. Every worker of a cluster must have this package and see the weights files.

    Parameters
    ----------
    data : xarray.DataArray, shape (..., h, w)
        In metres or in the unit of its attribute ``units``, NaN where missing; see
        `SuperResolver.predict`. With chunks of Dask only what a row of tiles needs is loaded.
    model : SuperResolver, str or path-like
        A loaded network, or what `toolbox.load_model` takes.
    tile : int, optional
        Side of a tile in low-resolution pixels; chosen by memory if left out.
    self_ensemble : bool
        Mean over the eight mirrored and turned copies of the input.
    lr_consistency : {'report', 'project'}
        ``project`` corrects the result so that its block means are the input.

    Returns
    -------
    xarray.DataArray, shape (..., h * scale, w * scale), float32
        Chunks are whole rows of tiles.

    Raises
    ------
    DataError
        If `data` is no DataArray with rows and columns of one channel.
    MissingLibraryError
        If Dask is not installed.

    Examples
    --------
    >>> fine = predict_dask(xarray.open_zarr("map.zarr").z, "bathymetry_x4")  # doctest: +SKIP
    >>> fine.to_dataset(name="z").to_zarr("fine.zarr")                       # doctest: +SKIP
    """
    dask_library()
    import dask.array

    if not (hasattr(data, "dims") and hasattr(data, "coords")) or hasattr(data, "data_vars"):
        raise DataError(
            f"predict_dask takes an xarray.DataArray; received {type(data).__name__}. Choose a "
            f"variable of a Dataset, or use predict for other arrays."
        )
    resolver = model if isinstance(model, SuperResolver) else load_model(model)
    if resolver.channels != 1:
        raise DataError(
            f"predict_dask is for maps of one channel; the network has {resolver.channels}. Use "
            f"predict."
        )
    factor = metres_factor(data)
    options = (self_ensemble, lr_consistency, factor)
    resolver.enhancer(self_ensemble, lr_consistency=lr_consistency)  # refuses now, not later
    planes = dask.array.asarray(data.data).reshape((-1, *data.shape[-2:]))
    large = dask.array.stack([_enlarged(plane, resolver, tile, options) for plane in planes])
    return enlarged_like(data, large, resolver.scale)


def _enlarged(plane: Any, resolver: SuperResolver, tile: int | None, options: tuple) -> Any:
    """Return the lazy enlargement of a lazy plane (h, w)."""
    import dask
    import dask.array

    project = options[1] == "project"
    tiling = resolver.tiling(plane.shape, tile, True, project)
    strip = dask.delayed(_strip, pure=True)
    network = dask.delayed(resolver)
    parts = []
    for number, row in enumerate(tiling.rows()):
        needed = tiling.rows_read(number)
        shape = (row.core.stop - row.core.start) * tiling.scale, plane.shape[1] * tiling.scale
        lazy = strip(network, plane[needed], tiling, number, needed.start, options)
        parts.append(dask.array.from_delayed(lazy, shape, np.float32))
    return dask.array.concatenate(parts)


def _strip(
    resolver: SuperResolver,
    values: np.ndarray,
    tiling: Tiling,
    number: int,
    first: int,
    options: tuple,
) -> np.ndarray:
    """Enlarge a row of tiles of the rows (n, w) of a plane from number `first` on."""
    self_ensemble, consistency, factor = options
    with np.errstate(over="ignore"):
        lr = np.ma.filled(values.astype(np.float32), np.nan) * np.float32(factor)
    lr[np.isinf(lr)] = np.nan
    enhance = resolver.enhancer(self_ensemble, lr_consistency=consistency)

    def read(rows: slice, columns: slice) -> np.ndarray:
        return lr[rows.start - first : rows.stop - first, columns, None]

    return next(tiling.strips(read, enhance, number))[..., 0] / np.float32(factor)
