"""Enlarged maps that grow from the top in their final form, so that nothing is written twice.

`growing_map` returns what takes strips of a result: ``.npy``, GeoTIFF and Zarr. After each strip
it says in a few numbers how far the file is; from these an interrupted file is continued.
:mod:`toolbox.io.map_writers` writes the other kinds as a whole.
"""

from __future__ import annotations

import contextlib
import glob
import io
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.io.atomic import replacing
from toolbox.io.growing_base import GrowingMap, thread_count
from toolbox.io.map_gdal import quiet, rasterio_library
from toolbox.io.map_output import MapOutput, plan_output, squeezed_shape
from toolbox.io.map_tiff import block_side, copy_cog, describe, southern_first, tiff_profile
from toolbox.io.maps import MapReader
from toolbox.io.provenance import Provenance
from toolbox.io.tiff_tiles import TileTable
from toolbox.io.zarr_maps import GrowingZarr

#: What the file of a few tiles, compressed in memory, has in common with the whole.
_TILE_PROFILE = ("driver", "count", "dtype", "tiled", "blockxsize", "blockysize", "interleave")


def growing_map(
    path: str | os.PathLike[str],
    like: MapReader,
    scale: int,
    *,
    bands: Sequence[str] = (),
    dtype: Any = None,
    cog: bool = False,
    strip_rows: int = 512,
    provenance: Provenance | None = None,
) -> GrowingMap | None:
    """Return an enlarged map to be written from the top, or None for a kind that cannot grow.

    Parameters
    ----------
    path, like, scale, bands, dtype, cog, provenance
        As for `toolbox.io.map_writers.write_map`.
    strip_rows : int
        Rows of every strip but the last.
    """
    final = Path(path)
    suffix = final.suffix.lower()
    if suffix not in _KINDS and suffix != ".zarr":
        return None
    output = plan_output(final, like, scale, tuple(bands), dtype, cog)
    output.provenance = provenance
    if suffix == ".zarr":
        return GrowingZarr(output, strip_rows)
    kind = _KINDS[suffix]
    return GrowingCog(output) if cog else kind(output)


class GrowingNpy(GrowingMap):
    """A NumPy file: a header and rows."""

    def _header(self) -> bytes:
        stream = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.output.dtype)
        shape = squeezed_shape(self.output)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(stream, header)
        return stream.getvalue()

    def begin(self) -> None:
        """Write the header alone."""
        self.path.write_bytes(self._header())

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Cut off what came after these rows."""
        size = len(self._header()) + rows * self.row_bytes
        if not self.path.is_file() or self.path.stat().st_size < size:
            return False
        os.truncate(self.path, size)
        self._restore_figures(state)
        return True

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Append rows."""
        stored = self.output.stored(strip)
        with open(self.path, "r+b") as stream:
            stream.seek(len(self._header()) + first * self.row_bytes)
            stream.write(np.ascontiguousarray(stored).data)
            stream.flush()
            os.fsync(stream.fileno())
        return self._figures()

    def _stored(self, rows: slice, columns: slice, bands: int) -> np.ndarray:
        kind, start = self.output.dtype, len(self._header())
        if rows.stop <= rows.start:
            return np.empty((0, self.shape[1], bands), kind)[:, columns]
        shape = (rows.stop - rows.start, *self.shape[1:])
        start += rows.start * self.row_bytes
        array = np.memmap(self._where, kind, "r", start, shape)
        return np.array(array[:, columns, :bands])


class GrowingTiff(GrowingMap):
    """A tiled GeoTIFF whose tiles GDAL compresses in memory, in several threads.

    GDAL writes the file without tiles first. Whole rows of tiles are then compressed and
    appended, and entered into the file's table of tiles; rows that fill no row of tiles yet lie
    in a file of their own. What was appended after the last strip is cut off when the work is
    continued, so the bytes do not depend on interruptions.
    """

    readable = False

    def __init__(self, output: MapOutput, **profile: Any) -> None:
        super().__init__(output)
        self._flip, self._side = southern_first(output.like), block_side(output)
        self._given = profile
        self._across = -(-self.shape[1] // self._side)
        self._down = -(-self.shape[0] // self._side)
        self._planes = 1
        self._held = self._no_rows()
        self._tops: list[int] = []
        self._size = 0

    def _no_rows(self) -> np.ndarray:
        """Return rows, none of them."""
        return np.empty((0, *self.shape[1:]), self.output.dtype)

    def begin(self) -> None:
        """Let GDAL write everything but tiles."""
        self.remove()
        self._profile = tiff_profile(self.output, self._flip) | self._given
        rasterio = rasterio_library(self.output.path)
        with quiet():
            file = rasterio.open(self.path, "w", **self._profile, sparse_ok=True)
        with file:
            describe(file, self.output)
        self._size = self.path.stat().st_size
        self._held = self._no_rows()

    def resume(self, rows: int, state: dict[str, Any]) -> bool:
        """Cut off tiles appended since, and take them out of the table."""
        self._profile = tiff_profile(self.output, self._flip) | self._given
        size, held = int(state["size"]), int(state["held"])
        if not self.path.is_file() or self.path.stat().st_size < size:
            return False
        self._held = self._no_rows()
        if held:
            try:
                self._held = np.load(self._beside(rows - held), allow_pickle=False)[:held]
            except (OSError, ValueError):
                return False
        if self._held.shape != (held, *self.shape[1:]) or self._held.dtype != self.output.dtype:
            return False
        os.truncate(self.path, size)
        self._size = size
        try:
            with open(self.path, "r+b") as stream:
                table = TileTable(stream)
                offsets, sizes = table.read()
                late = offsets >= size
                offsets[late] = sizes[late] = 0
                table.enter(0, offsets, sizes)
        except ValueError:  # killed while the last tags were written
            return False
        self._restore_figures(state)
        return True

    def put(self, first: int, strip: np.ndarray) -> dict[str, Any]:
        """Compress and append the rows of tiles that are complete, and keep the other rows."""
        last = first + len(strip) == self.shape[0]
        begin = first - len(self._held)
        stored = self.output.stored(strip)
        cuts = self._cuts(begin, first + len(stored), last)
        groups = list(itertools.pairwise(cuts))
        with ThreadPoolExecutor(thread_count()) as pool, open(self.path, "r+b") as stream:
            table = TileTable(stream)
            packed = [pool.submit(self._pack, self._rows(stored, first, *g)) for g in groups]
            for (top, bottom), tiles in zip(groups, packed, strict=True):
                self._append(stream, table, top, bottom, tiles.result())
            stream.flush()
            os.fsync(stream.fileno())
        stop = first + len(stored)
        self._hold(self._rows(stored, first, cuts[-1], stop), cuts[-1])
        return {**self._figures(), "size": self._size, "held": len(self._held)}

    def _cuts(self, start: int, stop: int, last: bool) -> list[int]:
        """Return where rows of tiles begin and end, of those complete between two rows."""
        edges = range(0, self.shape[0] + self._side, self._side)
        if self._flip:
            edges = range(self.shape[0] % self._side, self.shape[0] + 1, self._side)
        return sorted({start, *(e for e in edges if start < e <= stop), *([stop] if last else [])})

    def _rows(self, stored: np.ndarray, first: int, top: int, bottom: int) -> np.ndarray:
        """Return rows of those held and of a new strip."""
        held = self._held[max(0, top - first + len(self._held)) :][: max(0, first - top)]
        fresh = stored[max(0, top - first) : max(0, bottom - first)]
        held = held[: bottom - top]
        return np.concatenate([held, fresh]) if len(held) else fresh

    def _pack(self, rows: np.ndarray) -> list[bytes]:
        """Compress a row of tiles; band by band unless they are interleaved."""
        rasterio = rasterio_library(self.output.path)
        profile = {key: self._profile[key] for key in _TILE_PROFILE}
        for key in ("compress", "predictor", "zlevel"):
            if key in self._profile:
                profile[key] = self._profile[key]
        profile |= {"height": len(rows), "width": self.shape[1]}
        rows = rows[::-1] if self._flip else rows
        with quiet(), rasterio.MemoryFile() as memory:
            with memory.open(**profile) as file:
                file.write(np.moveaxis(rows, -1, 0))
            content = memory.getbuffer()
            offsets, sizes = TileTable(io.BytesIO(content)).read()
            return [
                bytes(content[int(at) : int(at + size)])
                for at, size in zip(offsets, sizes, strict=True)
            ]

    def _append(
        self, stream: Any, table: TileTable, top: int, bottom: int, tiles: list[bytes]
    ) -> None:
        down = (self.shape[0] - bottom if self._flip else top) // self._side
        sizes = np.array([len(tile) for tile in tiles], np.uint64)
        offsets = self._size + np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64)
        stream.seek(self._size)
        stream.write(b"".join(tiles))
        for plane in range(len(tiles) // self._across):
            part = slice(plane * self._across, (plane + 1) * self._across)
            table.enter((plane * self._down + down) * self._across, offsets[part], sizes[part])
        self._size += int(sizes.sum())

    def _beside(self, top: int) -> Path:
        """Return the file of rows from number `top` on that fill no row of tiles yet."""
        return self.path.with_name(f"{self.path.name}.{top}.npy")

    def _hold(self, rows: np.ndarray, top: int) -> None:
        """Keep rows for the next strip, on the disk too; those of the last state stay as well."""
        self._held, older = np.array(rows), self._tops[-1:]
        if len(rows):
            with replacing(self._beside(top)) as beside, open(beside, "wb") as stream:
                np.save(stream, self._held)
                stream.flush()
                os.fsync(stream.fileno())
        for former in set(self._tops) - {*older, top}:
            self._beside(former).unlink(missing_ok=True)
        self._tops = [*older, top]

    def _complete(self) -> None:
        if self._profile.get("nodata") is None and self.output.found_nodata is not None:
            with quiet(), rasterio_library(self.output.path).open(self.path, "r+") as file:
                file.nodata = self.output.found_nodata

    def _rename(self) -> None:
        super()._rename()
        self._remove_rows()

    def _remove_rows(self) -> None:
        for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.npy"):
            path.unlink()

    def remove(self) -> None:
        """Delete the unfinished file and its rows."""
        super().remove()
        self._remove_rows()
        self.path.with_name(f"{self.path.name}.aux.xml").unlink(missing_ok=True)

    def _height(self) -> int:
        return self._side

    def _stored(self, rows: slice, columns: slice, bands: int) -> np.ndarray:
        start, stop, step = columns.indices(self.shape[1])
        first, last, height = rows.start, rows.stop, self.shape[0]
        if last <= first:
            return np.empty((0, self.shape[1], bands), self.output.dtype)[:, columns]
        if self._flip:
            first, last = height - last, height - first
        with quiet(), rasterio_library(self.output.path).open(self._where) as file:
            window = ((first, last), (start, stop))
            values = np.moveaxis(file.read(list(range(1, bands + 1)), window=window), 0, -1)
        return values[:: -1 if self._flip else 1, ::step]


class GrowingCog(GrowingTiff):
    """A cloud-optimised GeoTIFF: a plain one grows, and GDAL makes the result of it at the end."""

    def __init__(self, output: MapOutput) -> None:
        # GDAL makes no overviews of a source that is neither packed nor interleaved by pixel.
        super().__init__(output, interleave="pixel")

    def _complete(self) -> None:
        super()._complete()
        whole, self.path = self.path, self.path.with_name(f"{self.path.name}.cog")
        with contextlib.ExitStack() as undo:
            undo.callback(self.path.unlink, missing_ok=True)
            copy_cog(whole, self.path, self.output)
            undo.pop_all()
        self._whole = whole

    def _rename(self) -> None:
        super()._rename()
        self.path = self._whole
        self.remove()


_KINDS: dict[str, type[GrowingMap]] = {
    ".npy": GrowingNpy,
    ".tif": GrowingTiff,
    ".tiff": GrowingTiff,
}
