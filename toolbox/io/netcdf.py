"""Selection of one plane of a NetCDF file: groups, further axes such as time, old GMT grids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.content import content_of, unreadable
from toolbox.io.extras import install_command
from toolbox.io.zarr_store import SUFFIX, check_zarr, is_zarr, zarr_library

#: Names of axes of the plane.
_IN_PLANE = re.compile(r"r?(lat|lon)|east|north|row|col|line|[xy]c?\d*$|n[ij]$", re.IGNORECASE)
CHOOSE_GROUP = "Choose one with --group, or with 'group: ...' in a settings file."


def open_netcdf(path: Path, group: str | None = None) -> tuple[Any, list[str]]:
    """Open a NetCDF file, or one group of it; times are not decoded.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    group : str, optional
        Group such as ``survey/coarse``; required if several groups hold planes and the root none.

    Returns
    -------
    (xarray.Dataset, list of str)
        The open file, and lines that a program should print. A group inherits the coordinates
        and grid mappings of the groups around it. A grid of GMT 3, which stores its heights as
        one long row, is converted to a plane with coordinates, in memory.

    Raises
    ------
    DataError
        If the file cannot be read, or `group` is not in it.
    """
    dataset = _opened(path)
    names = _groups(path)
    if group is not None:
        return _group(path, dataset, names, group.strip("/")), []
    if _is_gmt3(dataset):
        return _unrolled(path, dataset), []
    if stacks(dataset):
        return dataset, []
    holding = [name for name in names if _holds_planes(path, name)]
    if not holding:
        return dataset, []
    if len(holding) > 1:
        dataset.close()
        raise DataError(
            f"{path}: has planes in the groups {', '.join(holding)}; received no group. "
            f"{CHOOSE_GROUP}"
        )
    return _group(path, dataset, names, holding[0]), [f"{path}: the group {holding[0]} is read."]


def stacks(dataset: Any) -> list[str]:
    """Return the names of the variables of a dataset that hold one plane or several."""
    return [str(name) for name in dataset.data_vars if dataset[name].squeeze().ndim >= 2]


def further_axes(array: Any) -> list[str]:
    """Return the dimensions of a DataArray, longer than one, that do not belong to its plane.

    The dimensions of the plane are found by the attribute ``axis``, units in degrees and names;
    without these, the last two are used.
    """
    dims = [str(dim) for dim in array.squeeze().dims]
    if len(dims) <= 2:
        return []
    lying = [dim for dim in dims if _lies_in_plane(array, dim)]
    plane = lying if len(lying) == 2 else dims[-2:]
    return [dim for dim in dims if dim not in plane]


def one_step(path: Path, dataset: Any, name: str, time: str | None) -> tuple[Any, list[str]]:
    """Select one step of the axis that a variable has in addition to rows and columns.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    dataset : xarray.Dataset
        The open file.
    name : str
        The variable.
    time : str or None
        Number of the step, counted from 1, or the beginning of its date or other value.

    Returns
    -------
    (xarray.Dataset, list of str)
        The dataset with that axis of length 1, and lines that a program should print.

    Raises
    ------
    DataError
        If a step must be chosen, cannot be chosen, or does not exist.
    """
    axes = further_axes(dataset[name])
    if not axes:
        if time is not None:
            raise DataError(
                f"{path}: {name} has no axis other than rows and columns; received time {time!r}. "
                f"Leave out time."
            )
        return dataset, []
    if len(axes) > 1:
        sizes = ", ".join(f"{axis} ({dataset.sizes[axis]})" for axis in axes)
        raise DataError(
            f"{path}: {name} has several axes other than rows and columns: {sizes}; expected at "
            f"most one. First write a file with one step of the others, e.g. with xarray: "
            f"ds.isel({axes[-1]}=0).to_netcdf('plane.nc')."
        )
    [axis] = axes
    labels = _labels(dataset, axis)
    number = _step(path, name, axis, labels, time)
    said = "" if labels[number] == str(number + 1) else f" ({labels[number]})"
    note = f"{path}: only step {number + 1} of {len(labels)} of {axis}{said} is read and written."
    chosen = dataset.isel({axis: [number]})
    chosen.set_close(dataset.close)
    return chosen, [note]


def _opened(path: Path, group: str | None = None) -> Any:
    try:
        import xarray
    except ImportError:
        raise MissingLibraryError(
            f"{path}: reading NetCDF needs xarray and h5netcdf. Run: {install_command('geo')}"
        ) from None
    options: dict[str, Any] = {"decode_times": False, "decode_timedelta": False}
    if path.suffix.lower() == SUFFIX:
        zarr_library(path)
        check_zarr(path)
        options |= {"engine": "zarr", "consolidated": False, "chunks": None}
    try:
        if not is_zarr(path):
            _visit(path)
        dataset = xarray.open_dataset(path, **options, **({"group": group} if group else {}))
        _without_nul(dataset)
        return dataset
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file may raise anything, such as KeyError
        raise unreadable(path, "Zarr" if is_zarr(path) else "NetCDF", error) from None


def _without_nul(dataset: Any) -> None:
    """Remove NUL characters from the attributes, which HDF5 cannot store.

    Raises
    ------
    ValueError
        If a name contains one.
    """
    for name in (*dataset.variables, *dataset.sizes):
        if "\0" in str(name):
            raise ValueError(f"a name contains a NUL character: {name!r}")
    for attrs in (dataset.attrs, *(variable.attrs for variable in dataset.variables.values())):
        for key, value in list(attrs.items()):
            if "\0" in key or (isinstance(value, str) and "\0" in value):
                clean = value.replace("\0", "") if isinstance(value, str) else value
                del attrs[key]
                attrs[key.replace("\0", "") or "unnamed"] = clean


def _visit(path: Path) -> None:
    """Read every name and attribute of an HDF5 file once, to find damage before h5netcdf does.

    When h5netcdf fails, it drops a half-built object, for which Python prints a traceback.
    """
    content = content_of(path)
    if content is not None and content.what == "HDF5":
        import h5py

        with h5py.File(path, "r") as stored:
            stored.attrs.get("_nc3_strict")  # the first one that h5netcdf reads
            stored.visit(lambda name: None)


# -- Groups --------------------------------------------------------------------------------------


def _groups(path: Path) -> list[str]:
    """Return the names of all groups, such as ``a`` and ``a/b``."""
    if is_zarr(path):
        return check_zarr(path)
    content = content_of(path)
    if content is None or content.what != "HDF5":
        return []  # the classic format has none
    import h5netcdf

    def names(group: Any, before: str) -> list[str]:
        found = []
        for name, inner in group.groups.items():
            found += [before + name, *names(inner, f"{before}{name}/")]
        return found

    with h5netcdf.File(path, "r") as file:
        return names(file, "")


def _holds_planes(path: Path, group: str) -> bool:
    with _opened(path, group) as dataset:
        return bool(stacks(dataset))


def _group(path: Path, outermost: Any, names: list[str], group: str) -> Any:
    """Open a group, and add what the groups around it state about its axes."""
    outermost.close()
    if group not in names:
        known = f"one of {', '.join(names)}" if names else "left out, as the file has no groups"
        raise DataError(f"{path}: group must be {known}; received {group!r}.")
    dataset = _opened(path, group)
    parts = group.split("/")
    for depth in range(len(parts) - 1, -1, -1):
        with _opened(path, "/".join(parts[:depth]) or None) as around:
            for name, variable in around.variables.items():
                known_dims = all(dataset.sizes.get(d) == around.sizes[d] for d in variable.dims)
                if variable.ndim <= 1 and known_dims and name not in dataset.variables:
                    dataset[name] = variable.load()
    return dataset


# -- GMT 3 ---------------------------------------------------------------------------------------


def _is_gmt3(dataset: Any) -> bool:
    known = {"x_range", "y_range", "dimension", "z"} <= set(dataset.variables)
    return known and dataset["z"].ndim == 1


def _unrolled(path: Path, dataset: Any) -> Any:
    """Convert a grid of GMT 3, a row of heights starting in the north-west, to a plane.

    References
    ----------
    .. [1] Wessel and Smith (1999), The Generic Mapping Tools, version 3, Technical Reference and
       Cookbook, appendix B.
    """
    import xarray

    row = dataset["z"]
    columns, rows = (int(size) for size in dataset["dimension"].values)
    if min(rows, columns) < 1 or row.size != rows * columns:
        dataset.close()
        raise DataError(
            f"{path}: declares {columns} × {rows} nodes, but holds {row.size}. It is "
            f"damaged; download it again."
        )
    cells = int(np.ravel(row.attrs.get("node_offset", 0))[0])
    axes = {}
    for name, size, ends in (("y", rows, "y_range"), ("x", columns, "x_range")):
        low, high = (float(end) for end in dataset[ends].values)
        half = (high - low) / size / 2 * cells
        centres = np.linspace(low + half, high - half, size)
        units = dataset[ends].attrs.get("units")
        attrs = {} if units in (None, "", f"user_{name}_unit") else {"units": units}
        axes[name] = (name, centres[::-1] if name == "y" else centres, attrs)
    attrs = {key: value for key, value in row.attrs.items() if key != "node_offset"}
    units = dataset["z_range"].attrs.get("units") if "z_range" in dataset else None
    if units not in (None, "", "user_z_unit"):
        attrs.setdefault("units", units)
    plane = xarray.Variable(("y", "x"), row.values.reshape(rows, columns), attrs, row.encoding)
    plane.encoding.pop("chunksizes", None)
    dataset.close()
    return xarray.Dataset({"z": plane}, axes, {**dataset.attrs, "node_offset": np.int32(cells)})


# -- Further axes --------------------------------------------------------------------------------


def _lies_in_plane(array: Any, dim: str) -> bool:
    attrs = array[dim].attrs if dim in array.coords else {}
    if "axis" in attrs:
        return str(attrs["axis"]).upper() in ("X", "Y")
    units = str(attrs.get("units", ""))
    return units.startswith("degree") or _IN_PLANE.match(dim) is not None


def _labels(dataset: Any, axis: str) -> list[str]:
    """Return the labels of the steps of an axis: dates, values, or numbers from 1."""
    if axis not in dataset.coords:
        return [str(number) for number in range(1, dataset.sizes[axis] + 1)]
    import xarray

    values = dataset[axis].values
    try:
        decoded = xarray.decode_cf(dataset[[axis]], decode_timedelta=False)[axis].values
    except (ValueError, ImportError, OverflowError):
        decoded = values  # an unknown calendar
    if decoded.dtype.kind == "M":
        return [text.removesuffix("T00:00:00") for text in np.datetime_as_string(decoded, unit="s")]
    return [str(value) for value in decoded]


def _step(path: Path, name: str, axis: str, labels: list[str], time: str | None) -> int:
    """Return the index, counted from 0, of the requested step."""
    if time is not None and re.fullmatch(r"\d+", time) and 1 <= int(time) <= len(labels):
        return int(time) - 1
    found = [] if time is None else [i for i, label in enumerate(labels) if label == time]
    found = found or [i for i, label in enumerate(labels) if time and label.startswith(time)]
    if len(found) == 1:
        return found[0]
    plain = labels == [str(number) for number in range(1, len(labels) + 1)]
    named = "" if plain else f" ({', '.join(_ends(labels))})"
    received = "none" if time is None else f"{time!r}, which fits {len(found)}"
    ways = f"1 to {len(labels)}" + ("" if plain else ", or with its label")
    raise DataError(
        f"{path}: {name} has {len(labels)} steps of {axis}{named}; received {received}. Choose "
        f"one with --time {ways}, or with 'time: ...' in a settings file."
    )


def _ends(labels: list[str]) -> list[str]:
    return labels if len(labels) <= 3 else [labels[0], labels[1], "...", labels[-1]]
