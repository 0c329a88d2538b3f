"""Enlarged maps as BAG: elevation and uncertainty."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from toolbox.errors import DataError
from toolbox.io.map_gdal import copy_raster, quiet, rasterio_library
from toolbox.io.map_output import BAG_NODATA, MapOutput, regroup
from toolbox.io.map_tiff import block_side, placement, put_rows, southern_first, tiff_profile
from toolbox.io.maps import MapReader, RasterioReader

#: Names of the bands that a BAG can hold as its uncertainty.
UNCERTAINTIES = ("standard_deviation", "interval_half_width")


def can_write_bag(path: str | os.PathLike[str]) -> bool:
    """Whether the result of a BAG can be a BAG: GDAL writes them if they have a reference system.

    Parameters
    ----------
    path : path-like
        The input, a BAG.

    Returns
    -------
    bool
        False if the installed GDAL writes no BAG, or the file has no reference system.
    """
    return _writes_bag() and _has_system(path)


def _has_system(path: str | os.PathLike[str]) -> bool:
    """Whether a BAG has a coordinate reference system; its reader reports a damaged file."""
    import rasterio
    from rasterio.errors import RasterioIOError

    with contextlib.suppress(RasterioIOError), quiet(), rasterio.open(path) as file:
        return file.crs is not None
    return True


@functools.cache
def _writes_bag() -> bool:
    try:
        import rasterio
    except ImportError:
        return False
    with rasterio.Env() as environment:  # GDAL 3.2 and later can also write BAG
        return "BAG" in environment.drivers()


def check_bag_output(output: MapOutput) -> None:
    """Refuse, before the work, a map that no BAG can hold.

    Parameters
    ----------
    output : MapOutput
        The plan of the result.

    Raises
    ------
    DataError
        If a BAG cannot hold such bands, or GDAL refuses the reference system.
    """
    _check_bag(output)
    _try_bag(output)


def write_bag(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    """Write elevation (always positive up) and uncertainty, via a GeoTIFF of both.

    Parameters
    ----------
    path : pathlib.Path
        The file to write.
    output : MapOutput
        The plan of the result.
    strips : iterable of numpy.ndarray
        As for `toolbox.io.map_writers.write_map`.
    """
    like, rasterio = output.like, rasterio_library(output.path)
    _check_bag(output)
    flip = southern_first(like)
    profile = tiff_profile(output, flip) | {"count": 2, "compress": "deflate", "predictor": "2"}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
        whole = Path(folder) / "both.tif"
        with rasterio.open(whole, "w", **profile) as file:
            first = 0
            for block in regroup(map(output.encode, output.checked(strips)), block_side(output)):
                rows = slice(first, first + len(block))
                put_rows(file, _with_uncertainty(block, output, rows), first, flip)
                first = rows.stop
        made = output.provenance
        said = {} if made is None else {"VAR_ABSTRACT": made.comment(output.scale, like.path.name)}
        copy_raster(whole, path, output, driver="BAG", **said)
    like.notes.append(f"{output.path}: the descriptive XML of the BAG is GDAL's own template.")


def _try_bag(output: MapOutput) -> None:
    """Write a BAG of a few pixels, because GDAL refuses some reference systems."""
    rasterio = rasterio_library(output.path)
    size = {"width": 4, "height": 4, "count": 2, "dtype": "float32", "driver": "GTiff"}
    place = placement(output, southern_first(output.like))
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.tif"
        with rasterio.open(small, "w", crs=output.like.crs, **size, **place) as file:
            file.write(np.ones((2, 4, 4), np.float32))
        copy_raster(small, Path(folder) / "small.bag", output, driver="BAG")


def _check_bag(output: MapOutput) -> None:
    like = output.like
    rotated = like.transform is not None and (like.transform[1] or like.transform[3])
    if like.transform is None or like.crs is None or rotated:
        raise DataError(
            f"{output.path}: a BAG needs a coordinate reference system and an unrotated grid; "
            f"{like.path} lacks one of them. Name a .tif file."
        )
    if like.channels != 1 or output.bands > 2 or _other_bag_band(like):
        raise DataError(
            f"{output.path}: a BAG holds elevation and at most one band of uncertainty; received "
            f"{output.bands} band{'' if output.bands == 1 else 's'}. Name a .tif file."
        )
    if output.bands == 2:
        if output.names[1] not in UNCERTAINTIES:
            raise DataError(
                f"{output.path}: the second band of a BAG must be 'standard_deviation', its "
                f"uncertainty; received {output.names[1]!r}. Name a .tif file."
            )
        like.notes.append(f"{output.path}: {output.names[1]} is written as the uncertainty.")


def _other_bag_band(like: MapReader) -> bool:
    return isinstance(like, RasterioReader) and like.kind == "bag" and like.bands != (1,)


def _with_uncertainty(block: np.ndarray, output: MapOutput, rows: slice) -> np.ndarray:
    if block.shape[2] == 2:
        return block
    repeated = _repeated_uncertainty(output, rows)
    repeated[np.isnan(repeated) | (block[..., 0] == BAG_NODATA)] = BAG_NODATA
    return np.concatenate([block, repeated[..., None]], axis=2)


def _repeated_uncertainty(output: MapOutput, rows: slice) -> np.ndarray:
    """Return the uncertainty of the coarse pixel around each finer one; NaN if there is none."""
    like, scale = output.like, output.scale
    if not isinstance(like, RasterioReader) or like.kind != "bag" or like.dataset.count < 2:
        return np.full((rows.stop - rows.start, output.shape[1]), np.nan, np.float32)
    top, bottom = rows.start // scale, -(-rows.stop // scale)
    coarse = like.read_band(2, slice(top, bottom), slice(0, like.shape[1])).astype(np.float32)
    fine = coarse.repeat(scale, 0).repeat(scale, 1)
    return fine[rows.start - top * scale : rows.stop - top * scale]
