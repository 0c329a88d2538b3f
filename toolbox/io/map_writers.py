"""Write enlarged maps strip by strip, with the kind, data type and sign of their input.

:mod:`toolbox.io.map_output` plans the result. GeoTIFF, BAG, NetCDF and Zarr have a module each;
arrays and pictures are written here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.io.content import is_netcdf
from toolbox.io.map_bag import can_write_bag, check_bag_output, write_bag
from toolbox.io.map_gdal import tell_system, with_side_file
from toolbox.io.map_netcdf import check_upright, write_netcdf
from toolbox.io.map_output import (
    BLOCK,
    PICTURE_DTYPES,
    MapOutput,
    plan_output,
    regroup,
    squeezed_shape,
)
from toolbox.io.map_tiff import placement, southern_first, write_cog, write_tiff
from toolbox.io.maps import GRID_SUFFIXES, S102_SUFFIXES, MapReader, NetcdfReader
from toolbox.io.provenance import Provenance
from toolbox.io.safe_pickle import save_array
from toolbox.io.zarr_maps import GrowingZarr, check_zarr_output

JPEG_QUALITY = 95


def default_output_suffix(path: str | os.PathLike[str]) -> str:
    """Return the suffix of the result if the user names none: that of the input where possible.

    Parameters
    ----------
    path : path-like
        The input.

    Returns
    -------
    str
        The same suffix, with these exceptions: ``.npy`` for ``.npz``; ``.tif`` for ``.bag`` if
        the installed GDAL writes no BAG or the file has no coordinate reference system, which
        GDAL needs; ``.tif`` for ``.asc``, ``.grd`` and S-102, which are only read, or ``.nc`` for
        the NetCDF files of GMT.
    """
    suffix = Path(path).suffix.lower()
    if suffix in S102_SUFFIXES:
        return ".tif"
    if suffix in GRID_SUFFIXES:
        return ".nc" if Path(path).is_file() and is_netcdf(path) else ".tif"
    if suffix == ".npz":
        return ".npy"
    if suffix == ".bag" and not can_write_bag(path):
        return ".tif"
    return suffix


def write_map(
    path: str | os.PathLike[str],
    like: MapReader,
    scale: int,
    strips: Iterable[np.ndarray],
    *,
    bands: Sequence[str] = (),
    dtype: Any = None,
    cog: bool = False,
    provenance: Provenance | None = None,
) -> None:
    """Write an enlarged map with the geodata, sign, data type and gaps of its input.

    GeoTIFF, NetCDF and ``.npy`` keep a few strips in memory; the other kinds keep all of them.
    Anything that could not be kept is reported in ``like.notes``.

    Parameters
    ----------
    path : path-like
        ``.tif .tiff .nc .zarr .bag .npy .pkl .png .jpg .jpeg .bmp``; the suffix decides the kind.
        A missing folder is created. The file appears complete or not at all.
    like : MapReader
        The input, still open.
    scale : int
        How many times finer the result is.
    strips : iterable of numpy.ndarray, shape (rows, W * scale, B), float32
        Strips from top to bottom, together (H * scale, W * scale, B). Metres, heights positive
        up, NaN where missing; they are converted to the unit and sign of the file. Bands after
        ``like.channels`` keep their sign, and also their unit unless they are named
        ``...deviation`` or ``...width``. Those named in `toolbox.io.map_output.LIMITS` are
        treated as heights.
    bands : sequence of str
        Names of all B bands; required if B differs from ``like.channels``.
    dtype : dtype-like, optional
        Data type of the stored values. Default: that of the input.
    cog : bool
        Whether to write a cloud-optimised GeoTIFF: tiled, with overviews.
    provenance : Provenance, optional
        How the map was made: written to the tags of a GeoTIFF, to ``comment`` and ``history`` of a
        NetCDF file, and to the abstract of a BAG. The other kinds cannot hold it.

    Raises
    ------
    DataError
        If that kind of file cannot hold such a map.
    """
    final = Path(path)
    output = plan_output(final, like, scale, tuple(bands), dtype, cog)
    writer = write_cog if cog else _WRITERS[output.suffix]
    output.provenance = provenance
    if writer is _write_zarr:  # a folder
        writer(final, output, strips)
        return
    with replacing(final) as beside, with_side_file(beside, final):
        writer(beside, output, strips)
        tell_system(beside, output)
    output.tell()


def check_output(
    path: str | os.PathLike[str],
    like: MapReader,
    scale: int,
    *,
    bands: Sequence[str] = (),
    dtype: Any = None,
    cog: bool = False,
) -> None:
    """Refuse, before any work, what `write_map` would refuse; same parameters."""
    notes = list(like.notes)
    output = plan_output(Path(path), like, scale, tuple(bands), dtype, cog)
    if output.path.suffix.lower() == ".bag":
        check_bag_output(output)
    if output.path.suffix.lower() in (".tif", ".tiff"):
        placement(output, southern_first(like))
    if output.path.suffix.lower() == ".nc" and not isinstance(like, NetcdfReader):
        check_upright(output)
    if output.path.suffix.lower() == ".zarr":
        check_zarr_output(output)
    like.notes[:] = notes  # they are reported when the map is written


def _write_zarr(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    growing = GrowingZarr(output, BLOCK)
    growing.begin()
    try:
        first = 0
        for strip in regroup(strips, BLOCK):
            growing.put(first, strip)
            first += len(strip)
        growing.finish()
    finally:
        growing.remove()


def _write_npy(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(output.dtype),
        "fortran_order": False,
        "shape": squeezed_shape(output),
    }
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for strip in output.checked(strips):
            stream.write(np.ascontiguousarray(output.encode(strip)).data)


def _whole(output: MapOutput, strips: Iterable[np.ndarray]) -> np.ndarray:
    stored = np.concatenate([output.encode(strip) for strip in output.checked(strips)])
    return stored.reshape(squeezed_shape(output))


def _write_pickle(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    save_array(_whole(output, strips), path)


def _write_picture(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    from toolbox.opencv import cv2

    image = _whole(output, strips)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if output.suffix in (".jpg", ".jpeg") else []
    colours = image[..., ::-1] if output.bands == 3 else image
    done, content = cv2.imencode(output.suffix, np.ascontiguousarray(colours), options)
    if not done:
        raise DataError(f"{output.path}: OpenCV cannot write {image.shape} as {output.suffix}.")
    path.write_bytes(content.tobytes())


_WRITERS: dict[str, Callable[[Path, MapOutput, Iterable[np.ndarray]], None]] = {
    ".tif": write_tiff,
    ".tiff": write_tiff,
    ".nc": write_netcdf,
    ".zarr": _write_zarr,
    ".bag": write_bag,
    ".npy": _write_npy,
    ".pkl": _write_pickle,
    **dict.fromkeys(PICTURE_DTYPES, _write_picture),
}
