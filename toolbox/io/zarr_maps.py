"""Enlarged maps as Zarr: CF coordinates, chunks that strips fill independently of one another."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.growing_base import GrowingMap, remove_tree, thread_count
from toolbox.io.map_netcdf import NetcdfLayout, check_upright, identifier, netcdf_layout
from toolbox.io.map_output import MapOutput
from toolbox.io.maps import NetcdfReader
from toolbox.io.zarr_store import zarr_library

#: Longest side of a chunk, unless the strips leave no choice, and pixels of a chunk.
_SIDE, _PIXELS = 1024, 2**20
#: Attributes of files of other kinds that mean nothing here, or would no longer be true.
_FOREIGN = ("actual_range", "_FillValue", "missing_value")


class GrowingZarr(GrowingMap):
    """A folder of chunks in Zarr format 2, with consolidated metadata.

    Any process may fill the strips of its own; each is a whole number of rows of chunks.

    Parameters
    ----------
    output : MapOutput
        See `GrowingMap`.
    strip_rows : int
        Rows of every strip but the last.
    """

    def __init__(self, output: MapOutput, strip_rows: int) -> None:
        super().__init__(output)
        self._chunk_rows = _divisor(strip_rows)
        self._arranged: NetcdfLayout | None = None

    @property
    def _layout(self) -> NetcdfLayout:
        """Names, dimensions and attributes; made once, as it notes what is not carried over."""
        if self._arranged is None:
            self._arranged = netcdf_layout(self.output)
        return self._arranged

    def begin(self) -> None:
        """Write coordinates and the description of all arrays, without chunks."""
        zarr, output = zarr_library(self.output.path), self.output
        if output.like.channels != 1:
            raise DataError(f"{output.path}: a Zarr holds maps, not RGB images. Name a .tif file.")
        self.remove()
        layout = self._layout
        skeleton = layout.skeleton.copy()
        for name, variable in list(skeleton.variables.items()):
            if variable.dtype.kind == "O":  # texts would be objects of Python
                skeleton[name] = variable.astype(str)
            skeleton[name].encoding = {}
        history = str(skeleton.attrs.get("history", "")).splitlines()
        skeleton.attrs["history"] = "\n".join([*history[:-1], _dateless(history[-1])])
        skeleton.to_zarr(self.path, mode="w", zarr_format=2, consolidated=False)
        group = zarr.open_group(self.path, mode="r+", zarr_format=2)
        for band in range(self.shape[2]):
            self._create(group, band)
        zarr.consolidate_metadata(self.path, zarr_format=2)

    def _create(self, group: Any, band: int) -> None:
        output, layout = self.output, self._layout
        attrs = {key: value for key, value in layout.attrs.items() if key not in _FOREIGN}
        if "spatial_ref" in layout.skeleton.variables:  # as rioxarray keeps it
            attrs.setdefault("coordinates", "spatial_ref")
        if band:
            shared = ("units", "grid_mapping", "coordinates")
            attrs = {key: attrs[key] for key in shared if key in attrs}
            attrs["long_name"] = output.names[band].replace("_", " ")
        elif self.shape[2] > 1:
            attrs["ancillary_variables"] = " ".join(map(identifier, output.names[1:]))
        lengths = {layout.rows: self.shape[0], layout.columns: self.shape[1]}
        chunks = {layout.rows: min(self._chunk_rows, self.shape[0]), layout.columns: self._width()}
        group.create_array(
            self._names()[band],
            shape=tuple(lengths.get(dim, 1) for dim in layout.dims),
            chunks=tuple(chunks.get(dim, 1) for dim in layout.dims),
            dtype=np.float32 if band else output.dtype,
            fill_value=self._fill(band),
            compressors=_codec(),
            attributes={"_ARRAY_DIMENSIONS": list(layout.dims), **_as_json(attrs)},
        )

    def _width(self) -> int:
        side = self._chunk_rows if self._chunk_rows >= _SIDE // 2 else _PIXELS // self._chunk_rows
        return min(side, self.shape[1])

    def _names(self) -> list[str]:
        return [self._layout.name, *map(identifier, self.output.names[1:])]

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Open the folder again; chunks of later strips are replaced one by one."""
        names = [*self._names(), "."]
        described = [self.path / n / (".zgroup" if n == "." else ".zarray") for n in names]
        if not all(path.is_file() for path in described):
            return False
        self._restore_figures(state)
        return True

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Write the chunks of a strip."""
        output, layout = self.output, self._layout
        own = output.in_own_terms(strip)
        rows = slice(first, first + len(strip))
        aligned = first % self._chunk_rows == 0
        aligned &= rows.stop % self._chunk_rows == 0 or rows.stop == self.shape[0]
        for band, name in enumerate(self._names()):
            values = own[..., band].astype(np.float32, copy=False)
            if band == 0:
                values = output.encode(own[..., :1])[..., 0]
            if aligned:
                self._write_chunks(name, first, values, self._fill(band))
            else:
                plane = self._opened(self.path, "r+")[band]
                plane[layout.index(rows)] = layout.arranged(values)
        self._sync(rows)
        return self._figures()

    def _write_chunks(self, name: str, first: int, values: np.ndarray, fill: Any) -> None:
        """Write whole chunks as zarr does, with half of its work: nothing is read or merged."""
        layout, side, width = self._layout, min(self._chunk_rows, self.shape[0]), self._width()
        turned = layout.dims.index(layout.rows) > layout.dims.index(layout.columns)

        def write(place: tuple[int, int]) -> None:
            top, left = place
            block = values[top : top + side, left : left + width]
            if block.shape != (side, width):
                rest = ((0, side - block.shape[0]), (0, width - block.shape[1]))
                block = np.pad(block, rest, constant_values=0 if fill is None else fill)
            numbers = {layout.rows: (first + top) // side, layout.columns: left // width}
            key = ".".join(str(numbers.get(dim, 0)) for dim in layout.dims)
            path = self.path / name / key
            if fill is not None and np.array_equal(block, np.full_like(block, fill), True):
                path.unlink(missing_ok=True)  # zarr reads a chunk that is not there as gaps
                return
            beside = path.with_name(f"{key}.{os.getpid()}.partial")
            beside.write_bytes(_codec().encode(np.ascontiguousarray(block.T if turned else block)))
            os.replace(beside, path)

        places = itertools.product(range(0, len(values), side), range(0, values.shape[1], width))
        with ThreadPoolExecutor(thread_count()) as pool:
            list(pool.map(write, places))

    def _fill(self, band: int) -> Any:
        """Return what a missing pixel is stored as, None if nothing is missing."""
        output = self.output
        if band:
            return np.float32(np.nan)
        marks = output.nodata is not None or output.reserved or output.floating
        return output.dtype.type(output.fill) if marks else None

    def _opened(self, folder: Path, mode: str) -> list[Any]:
        zarr = zarr_library(self.output.path)
        group = zarr.open_group(folder, mode=mode, zarr_format=2, use_consolidated=False)
        return [group[name] for name in self._names()]

    def _sync(self, rows: slice) -> None:
        """Have the chunks of rows on the disk, before a journal speaks of them."""
        layout, size = self._layout, self._chunk_rows
        width = self._width()
        places = {
            layout.rows: range(rows.start // size, -(-rows.stop // size)),
            layout.columns: range(-(-self.shape[1] // width)),
        }
        for name in self._names():
            keys = [""]
            for dim in layout.dims:
                keys = [f"{k}.{i}" for k in keys for i in places.get(dim, range(1))]
            for key in keys:
                _fsync(self.path / name / key[1:])
            _fsync(self.path / name)

    def _complete(self) -> None:
        # What zarr leaves of a chunk whose process was killed.
        for path in self.path.glob("*/*.partial"):
            path.unlink()

    def _rename(self) -> None:
        remove_tree(self._final)
        self.path.rename(self._final)

    def remove(self) -> None:
        """Delete the unfinished folder."""
        remove_tree(self.path)

    def _height(self) -> int:
        return self._chunk_rows

    def _stored(self, rows: slice, columns: slice, bands: int) -> np.ndarray:
        layout = self._layout
        index = tuple(
            rows if dim == layout.rows else columns if dim == layout.columns else 0
            for dim in layout.dims
        )
        planes = [np.asarray(plane[index]) for plane in self._opened(self._where, "r")[:bands]]
        if layout.dims.index(layout.rows) > layout.dims.index(layout.columns):
            planes = [plane.T for plane in planes]
        return np.stack(planes, axis=-1)


class ZarrRows:
    """Rows of float32 (H, W, B) in chunks, for results of other kinds that many processes fill.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    shape : (int, int, int)
        Rows, columns and bands.
    strip_rows : int
        Rows of every strip but the last.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], strip_rows: int) -> None:
        self.path, self.shape, self._strip_rows = path, shape, strip_rows

    def begin(self) -> None:
        """Describe the rows, without chunks; what is there is removed."""
        self.remove()
        height, width, bands = self.shape
        zarr_library(self.path).create_array(
            self.path,
            shape=self.shape,
            chunks=(min(_divisor(self._strip_rows), height), min(_SIDE, width), bands),
            dtype=np.float32,
            fill_value=np.nan,
            compressors=_codec(),
            zarr_format=2,
        )

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Whether it is there."""
        return (self.path / ".zarray").is_file()

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Write a strip."""
        array = zarr_library(self.path).open_array(self.path, mode="r+")
        array[first : first + len(strip)] = strip
        rows, columns, _ = array.chunks
        for i in range(first // rows, -(-(first + len(strip)) // rows)):
            for j in range(-(-self.shape[1] // columns)):
                _fsync(self.path / f"{i}.{j}.0")
        _fsync(self.path)
        return {}

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Return rows and columns (n, m, B); a step leaves some out."""
        array = zarr_library(self.path).open_array(self.path, mode="r")
        return np.asarray(array[rows, columns])

    def remove(self) -> None:
        """Delete the folder."""
        remove_tree(self.path)


def _codec() -> Any:
    from numcodecs import Blosc

    return Blosc("lz4", 5, Blosc.BITSHUFFLE)


def check_zarr_output(output: MapOutput) -> None:
    """Refuse, before the work, a map that no Zarr can hold."""
    zarr_library(output.path)
    if output.like.channels != 1:
        raise DataError(f"{output.path}: a Zarr holds maps, not RGB images. Name a .tif file.")
    if not isinstance(output.like, NetcdfReader):
        check_upright(output)


def _divisor(rows: int) -> int:
    """Return the largest part of a strip that is not higher than a chunk should be."""
    found = [part for part in range(1, _SIDE + 1) if rows % part == 0]
    best = max(found, default=rows)
    return best if best >= min(rows, 128) else rows


def _dateless(line: str) -> str:
    """Leave the time out, so that the bytes tell the work and not the day."""
    return line.split(" ", 1)[-1]


def _as_json(attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in attrs.items()}


def _fsync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # a chunk of nothing but gaps is not written
        return
    except PermissionError:  # Windows opens no folder
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
