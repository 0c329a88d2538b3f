"""Enlarged maps as NetCDF with CF conventions, and the layout that Zarr shares with them."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.crs import degrees_per_unit, in_degrees_itself, plane_unit_name
from toolbox.io.extras import install_command
from toolbox.io.map_gdal import rasterio_library
from toolbox.io.map_output import BLOCK, MapOutput, known_sign, refined_transform, regroup
from toolbox.io.maps import MapReader, NetcdfReader
from toolbox.io.spacing import refined


def write_netcdf(path: Path, output: MapOutput, strips: Iterable[np.ndarray]) -> None:
    """Write coordinates and attributes through xarray, then the planes strip by strip.

    Parameters
    ----------
    path : pathlib.Path
        The file to write.
    output : MapOutput
        The plan of the result.
    strips : iterable of numpy.ndarray
        As for `toolbox.io.map_writers.write_map`.
    """
    like = output.like
    if like.channels != 1:
        raise DataError(
            f"{output.path}: a NetCDF file holds maps, not RGB images. Name a .tif file."
        )
    try:
        import h5netcdf
        import xarray  # noqa: F401
    except ImportError:
        raise MissingLibraryError(
            f"{output.path}: writing NetCDF needs xarray and h5netcdf. Run: "
            f"{install_command('geo')}"
        ) from None
    layout = netcdf_layout(output)
    layout.skeleton.to_netcdf(path, engine="h5netcdf")
    with h5netcdf.File(path, "a") as file:
        planes = _create_planes(file, output, layout)
        first = 0
        for strip in regroup(output.checked(strips), layout.chunks[layout.dims.index(layout.rows)]):
            _put_planes(planes, output, layout, strip, first)
            first += len(strip)
        _finish_plane(planes[0], output)


@dataclasses.dataclass
class NetcdfLayout:
    """Layout of a NetCDF file: dimensions in stored order, and everything around the planes.

    Attributes
    ----------
    skeleton : xarray.Dataset
        Everything except the planes.
    name : str
        Name of the first plane.
    dims : tuple of str
        Dimensions of a plane in stored order.
    rows, columns : str
        The dimensions along which rows and columns are counted.
    attrs : dict
        Attributes of the first plane.
    chunks : tuple of int
        Lengths of a chunk along `dims`.
    filters : dict
        How h5netcdf compresses the planes.
    """

    skeleton: Any
    name: str
    dims: tuple[str, ...]
    rows: str
    columns: str
    attrs: dict[str, Any]
    chunks: tuple[int, ...]
    filters: dict[str, Any]

    def index(self, rows: slice) -> tuple[Any, ...]:
        """Return the index of full rows in a plane as it is stored."""
        return tuple(rows if dim == self.rows else slice(None) for dim in self.dims)

    def arranged(self, plane: np.ndarray) -> np.ndarray:
        """Arrange rows and columns (h, w) in stored order, with axes of length one."""
        if self.dims.index(self.rows) > self.dims.index(self.columns):
            plane = plane.T
        lengths = iter(plane.shape)
        shape = [next(lengths) if dim in (self.rows, self.columns) else 1 for dim in self.dims]
        return plane.reshape(shape)


def _create_planes(file: Any, output: MapOutput, layout: NetcdfLayout) -> list[Any]:
    for dim, size in zip((layout.rows, layout.columns), output.shape[:2], strict=True):
        if dim not in file.dimensions:
            file.dimensions[dim] = size
    options = {"chunks": layout.chunks, **layout.filters}
    nodata = None if output.nodata is None else output.dtype.type(output.nodata)
    planes = [
        file.create_variable(layout.name, layout.dims, output.dtype, fillvalue=nodata, **options)
    ]
    planes[0].attrs.update(layout.attrs)
    for name in output.names[1:]:
        extra = file.create_variable(
            identifier(name), layout.dims, np.float32, fillvalue=np.float32(np.nan), **options
        )
        shared = ("units", "grid_mapping", "coordinates")
        extra.attrs.update({key: layout.attrs[key] for key in shared if key in layout.attrs})
        extra.attrs["long_name"] = name.replace("_", " ")
        planes.append(extra)
    if planes[1:]:
        planes[0].attrs["ancillary_variables"] = " ".join(map(identifier, output.names[1:]))
    return planes


def _put_planes(
    planes: list[Any], output: MapOutput, layout: NetcdfLayout, strip: np.ndarray, first: int
) -> None:
    index = layout.index(slice(first, first + len(strip)))
    planes[0][index] = layout.arranged(output.encode(strip[..., :1])[..., 0])
    for band, plane in enumerate(planes[1:], start=1):
        plane[index] = layout.arranged(strip[..., band].astype(np.float32))


def _finish_plane(plane: Any, output: MapOutput) -> None:
    if output.nodata is None and output.found_nodata is not None:
        plane.attrs["_FillValue"] = output.dtype.type(output.found_nodata)
    if "actual_range" in plane.attrs and (limits := output.actual_range()) is not None:
        plane.attrs["actual_range"] = limits


def netcdf_layout(output: MapOutput) -> NetcdfLayout:
    """Return the layout of a result: that of its input where it is NetCDF too.

    Parameters
    ----------
    output : MapOutput
        The plan of the result.

    Returns
    -------
    NetcdfLayout
        Made anew by each call, which notes what is not copied from the input.
    """
    like = output.like
    layout = _kept_layout(output, like) if isinstance(like, NetcdfReader) else _new_layout(output)
    # The values have changed; the old limits would make some of them "missing".
    for key in ("valid_min", "valid_max", "valid_range"):
        layout.attrs.pop(key, None)
    layout.attrs |= _packing_attrs(output)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    line = f"{now} sr-toolbox: {like.path.name} enlarged {output.scale} times"
    attrs = layout.skeleton.attrs
    if output.provenance is not None:
        line += f" by {output.provenance.network}"
        _add_line(attrs, "comment", output.provenance.comment(output.scale, like.path.name))
    _add_line(attrs, "history", line)
    return layout


def _add_line(attrs: dict[str, Any], name: str, line: str) -> None:
    attrs[name] = "\n".join(filter(None, [str(attrs.get(name, "")), line]))


def _packing_attrs(output: MapOutput) -> dict[str, Any]:
    scale, offset = output.packing
    packed = {"scale_factor": scale, "add_offset": offset} if output.packing != (1.0, 0.0) else {}
    if isinstance(output.like, NetcdfReader):
        # Keep the type of the input: it decides the type to which readers unpack.
        coded = output.like.array.encoding
        packed = {key: coded.get(key, value) for key, value in packed.items() if key in coded}
        if "missing_value" in coded and output.nodata is not None:
            packed["missing_value"] = output.dtype.type(output.nodata)
    return packed


def _kept_layout(output: MapOutput, like: NetcdfReader) -> NetcdfLayout:
    import xarray

    source, dims = like.dataset, tuple(map(str, like.array.dims))
    singles = {dim for dim in dims if dim not in like.dims}
    helpers = {
        name: xarray.Variable(variable.dims, variable.values, variable.attrs, {"_FillValue": None})
        for name, variable in source.variables.items()
        if set(variable.dims) <= singles and name != like.name
    }
    own = [dim for dim in like.dims if dim in source.coords]
    for axis in dict.fromkeys((*(like.axes or ()), *own)):
        helpers[axis] = _refined_coordinate(source[axis], output.scale)
    for name in like.curvilinear or ():
        helpers[name] = _refined_plane(source[name], output.scale)
    _refine_geotransforms(helpers, like, output.scale)
    _note_dropped(like, set(map(str, source.variables)) - set(map(str, helpers)) - {like.name})
    attrs = dict(source.attrs)
    if like.gridline or "node_offset" in attrs:
        attrs["node_offset"] = np.int32(1)
    coded = like.array.encoding
    plane_attrs = dict(like.array.attrs)
    if kept := [name for name in coded.get("coordinates", "").split() if name in helpers]:
        plane_attrs["coordinates"] = " ".join(kept)
    if "grid_mapping" in coded:
        plane_attrs["grid_mapping"] = coded["grid_mapping"]
    # xarray would list coordinates that are not dimensions in a global attribute.
    skeleton = xarray.Dataset(helpers, attrs=attrs).reset_coords()
    return NetcdfLayout(
        skeleton,
        str(like.name),
        dims,
        *like.dims,
        plane_attrs,
        _chunks(dims, like, output),
        _filters(coded),
    )


def _refined_coordinate(coordinate: Any, scale: int) -> Any:
    """Return the centres of the finer pixels; the outer edges stay in place."""
    import xarray

    centres = refined(coordinate.values, scale)
    attrs = dict(coordinate.attrs)
    for key in ("valid_min", "valid_max", "valid_range", "bounds"):
        attrs.pop(key, None)
    if "actual_range" in attrs:
        half = np.abs(centres[[0, -1]] - centres[[1, -2]]) / 2
        outward = np.sign(centres[[0, -1]] - centres[[-1, 0]])
        attrs["actual_range"] = np.sort(centres[[0, -1]] + outward * half)
    return xarray.Variable(coordinate.dims, centres, attrs, {"_FillValue": None})


def _refined_plane(coordinate: Any, scale: int) -> Any:
    """Return the positions of the finer pixels of a curvilinear grid, interpolated linearly."""
    import xarray

    fine = coordinate.values.astype(np.float64)
    for axis in (0, 1):
        fine = np.apply_along_axis(refined, axis, fine, scale)
    attrs = {key: value for key, value in coordinate.attrs.items() if key != "bounds"}
    return xarray.Variable(coordinate.dims, fine, attrs, {"_FillValue": None})


def _refine_geotransforms(helpers: dict[Any, Any], like: MapReader, scale: int) -> None:
    """Update GDAL's attribute ``GeoTransform`` of a grid mapping."""
    if like.transform is None:
        return
    a, b, c, d, e, f = refined_transform(like.transform, scale)
    for variable in helpers.values():
        if "GeoTransform" in variable.attrs:
            variable.attrs["GeoTransform"] = " ".join(map(repr, (c, a, b, f, d, e)))


def _note_dropped(like: MapReader, names: set[str]) -> None:
    if names:
        like.notes.append(f"{like.path}: not copied to the result: {', '.join(sorted(names))}.")


def _chunks(dims: tuple[str, ...], like: NetcdfReader, output: MapOutput) -> tuple[int, ...]:
    sizes = dict(zip(like.dims, output.shape[:2], strict=True))
    wanted = like.array.encoding.get("chunksizes") or (256,) * len(dims)
    # Several chunks must fit in memory, however large those of the input are.
    return tuple(
        max(1, min(chunk, BLOCK, sizes.get(dim, 1)))
        for chunk, dim in zip(wanted, dims, strict=True)
    )


def _filters(coded: dict[str, Any]) -> dict[str, Any]:
    if not coded.get("zlib", True):
        return {}
    level = coded.get("complevel") or 4
    return {"compression": "gzip", "compression_opts": level, "shuffle": coded.get("shuffle", True)}


def _new_layout(output: MapOutput) -> NetcdfLayout:
    import xarray

    like = output.like
    title = output.names[0] if output.names else like.description or like.name
    attrs = {"long_name": like.description, "units": like.units}
    attrs = {key: value for key, value in attrs.items() if value}
    if (sign := known_sign(output)) is not None:
        attrs["positive"] = sign
    dims: tuple[str, str] = ("y", "x")
    helpers: dict[str, Any] = {}
    if like.transform is not None:
        dims, helpers = _coordinates(output)
        attrs |= {"grid_mapping": "spatial_ref"} if "spatial_ref" in helpers else {}
    skeleton = xarray.Dataset(helpers, attrs={"Conventions": "CF-1.8"})
    chunks = (min(256, output.shape[0]), min(256, output.shape[1]))
    name = identifier(title or "z")
    return NetcdfLayout(skeleton, name, dims, *dims, attrs, chunks, _filters({}))


def check_upright(output: MapOutput) -> None:
    """Refuse a rotated grid, which coordinates along its axes cannot express.

    Parameters
    ----------
    output : MapOutput
        The plan of the result.

    Raises
    ------
    DataError
        If the input is rotated.
    """
    like = output.like
    if like.transform is not None and (like.transform[1] or like.transform[3]):
        raise DataError(
            f"{output.path}: {like.path} is rotated, which NetCDF coordinates cannot express. "
            f"Name a .tif file."
        )


def _coordinates(output: MapOutput) -> tuple[tuple[str, str], dict[str, Any]]:
    """Return coordinates and grid mapping from a transform and a reference system."""
    import xarray

    check_upright(output)
    a, _, c, _, e, f = refined_transform(output.like.transform or (), output.scale)  # type: ignore[arg-type]
    crs = (
        rasterio_library(output.path).crs.CRS.from_user_input(output.like.crs)
        if output.like.crs
        else None
    )
    dims, attrs = _axis_attrs(crs)
    unit = degrees_per_unit(crs) or 1.0  # CF requires latitudes and longitudes in degrees
    y = (f + e * (np.arange(output.shape[0]) + 0.5)) * unit
    x = (c + a * (np.arange(output.shape[1]) + 0.5)) * unit
    crs = crs if unit == 1.0 else in_degrees_itself(crs)
    axes = zip(dims, (y, x), attrs, strict=True)
    helpers = {dim: xarray.Variable(dim, v, at, {"_FillValue": None}) for dim, v, at in axes}
    if crs is not None:
        mapping = {"crs_wkt": crs.to_wkt(), "spatial_ref": crs.to_wkt()}
        mapping |= {"grid_mapping_name": "latitude_longitude"} if crs.is_geographic else {}
        helpers["spatial_ref"] = xarray.Variable((), np.int32(0), mapping)
    return dims, helpers


def _axis_attrs(crs: Any) -> tuple[tuple[str, str], tuple[dict[str, str], dict[str, str]]]:
    if crs is not None and crs.is_geographic:
        return ("lat", "lon"), (
            {"standard_name": "latitude", "units": "degrees_north"},
            {"standard_name": "longitude", "units": "degrees_east"},
        )
    units = "m" if crs is None else plane_unit_name(crs)
    kind = "projection_{}_coordinate"
    both = tuple({"standard_name": kind.format(axis), "units": units} for axis in "yx")
    return ("y", "x"), (both if crs is not None else ({}, {}))  # type: ignore[return-value]


def identifier(name: str) -> str:
    """Convert a description to the name of a variable.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        Letters, digits and underscores; no digit first.
    """
    word = re.sub(r"\W+", "_", name).strip("_") or "z"
    return f"v_{word}" if word[0].isdigit() else word
