"""Write enlarged maps strip by strip, with the kind, data type and sign of their input."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.atomic import replacing
from toolbox.io.content import is_netcdf
from toolbox.io.crs import as_rasterio, degrees_per_unit, in_degrees_itself, plane_unit_name
from toolbox.io.extras import install_command
from toolbox.io.maps import (
    GRID_SUFFIXES,
    S102_SUFFIXES,
    ArrayReader,
    MapReader,
    NetcdfReader,
    RasterioReader,
    Transform,
)
from toolbox.io.provenance import Provenance
from toolbox.io.safe_pickle import save_array
from toolbox.io.spacing import refined

JPEG_QUALITY = 95
BAG_NODATA = 1_000_000.0
_BLOCK = 512
_LOSSLESS = ("deflate", "lzw", "zstd", "lzma", "packbits")
_PACKED = (".tif", ".tiff", ".nc", ".zarr")  # these can hold scale, offset and nodata
_GDAL = (".tif", ".tiff", ".bag")
_PICTURES = {".png": ("u1", "u2"), ".jpg": ("u1",), ".jpeg": ("u1",), ".bmp": ("u1",)}
_FOREIGN_TAGS = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "GEOLOCATION", "RPC")

#: Names of the bands that hold the ends of an interval around the first band.
LIMITS = ("lower", "upper")
#: Names of the bands that a BAG can hold as its uncertainty.
UNCERTAINTIES = ("standard_deviation", "interval_half_width")


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
    if suffix == ".bag" and not (_writes_bag() and _has_system(path)):
        return ".tif"
    return suffix


def _has_system(path: str | os.PathLike[str]) -> bool:
    """Whether a BAG has a coordinate reference system; its reader reports a damaged file."""
    import rasterio
    from rasterio.errors import RasterioIOError

    with contextlib.suppress(RasterioIOError), _quiet(), rasterio.open(path) as file:
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
        ``.tif .tiff .nc .bag .npy .pkl .png .jpg .jpeg .bmp``; the suffix decides the kind. A
        missing folder is created. The file appears complete or not at all.
    like : MapReader
        The input, still open.
    scale : int
        How many times finer the result is.
    strips : iterable of numpy.ndarray, shape (rows, W * scale, B), float32
        Strips from top to bottom, together (H * scale, W * scale, B). Metres, heights positive
        up, NaN where missing; they are converted to the unit and sign of the file. Bands after
        ``like.channels`` keep their sign, and also their unit unless they are named
        ``...deviation`` or ``...width``. Those named in `LIMITS` are treated as heights.
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
    output, writer = _planned(final, like, scale, tuple(bands), dtype, cog)
    output.provenance = provenance
    if writer is _write_zarr:  # a folder
        writer(final, output, strips)
        return
    with replacing(final) as beside, _with_side_file(beside, final):
        writer(beside, output, strips)
        _tell_system(beside, output)
    output.tell()


@contextlib.contextmanager
def _with_side_file(beside: Path, final: Path) -> Iterator[None]:
    """Rename the side file of GDAL together with the raster, and remove an outdated one."""
    made, kept = (path.with_name(f"{path.name}.aux.xml") for path in (beside, final))
    try:
        yield
        if made.exists():
            os.replace(made, kept)
        elif final.suffix.lower() in _GDAL:  # it belongs to an earlier result
            kept.unlink(missing_ok=True)
    finally:
        made.unlink(missing_ok=True)


def _tell_system(path: Path, output: _Output) -> None:
    """Read the reference system back, and note where it is stored or that it is lost."""
    like = output.like
    if output.suffix not in _GDAL or as_rasterio(like.crs) is None or like.transform is None:
        return
    with _quiet(), _rasterio(output.path).open(path) as file:
        kept = file.crs is not None and _same_place(like, file.crs)
    side = f"{output.path.name}.aux.xml"
    if not kept:
        like.notes.append(
            f"WARNING: {output.path}: {output.suffix} does not keep the coordinate reference "
            f"system of {like.path} unchanged. Set it again, or name a .nc file."
        )
    elif path.with_name(f"{path.name}.aux.xml").exists():
        like.notes.append(
            f"{output.path}: GDAL stores part of its metadata in {side}; move the two together."
        )


def _same_place(like: MapReader, crs: Any) -> bool:
    """Whether a system gives the same positions as that of the input, to 0.01 pixel."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    a, b, c, d, e, f = like.transform  # type: ignore[misc]
    rows, columns = like.shape
    corners = [(0, 0), (columns, 0), (0, rows), (columns, rows)]
    x, y = ([p * i + q * j + r for i, j in corners] for p, q, r in ((a, b, c), (d, e, f)))
    known = as_rasterio(like.crs)
    if known == crs:
        return True
    try:
        found = transform(known, crs, x, y)[:2]
    except (RasterioError, CPLE_BaseError):  # no transformation is possible
        return bool(known.is_projected == crs.is_projected)
    return bool(np.allclose(found, (x, y), rtol=0, atol=0.01 * min(np.hypot(a, d), np.hypot(b, e))))


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
    output, _ = _planned(Path(path), like, scale, tuple(bands), dtype, cog)
    if output.path.suffix.lower() == ".bag":
        _check_bag(output)
        _try_bag(output)
    if output.path.suffix.lower() in (".tif", ".tiff"):
        _place(output, _southern_first(like))
    if output.path.suffix.lower() == ".nc" and not isinstance(like, NetcdfReader):
        _check_upright(output)
    if output.path.suffix.lower() == ".zarr":
        from toolbox.io.zarr_maps import check_zarr_output  # built on this module

        check_zarr_output(output)
    like.notes[:] = notes  # they are reported when the map is written


def _planned(
    final: Path, like: MapReader, scale: int, bands: tuple[str, ...], dtype: Any, cog: bool
) -> tuple[_Output, Callable[[Path, _Output, Iterable[np.ndarray]], None]]:
    """Return the output and the function that writes it."""
    suffix = final.suffix.lower()
    writer = _WRITERS.get(suffix)
    if writer is None:
        raise DataError(
            f"{final}: cannot write {final.suffix!r}. Name a file ending in one of "
            f"{', '.join(sorted(_WRITERS))}."
        )
    if cog and suffix not in (".tif", ".tiff"):
        raise DataError(f"{final}: only a GeoTIFF can be cloud-optimised. Name a .tif file.")
    output = _Output(final, like, scale, bands, dtype)
    return output, _write_cog if cog else writer


# -- Values --------------------------------------------------------------------------------------


class _Output:
    """The result: its shape, and the conversion of physical to stored values."""

    provenance: Provenance | None = None

    def __init__(
        self, path: Path, like: MapReader, scale: int, names: tuple[str, ...], dtype: Any
    ) -> None:
        self.path, self.like, self.scale, self.names = path, like, scale, names
        self.suffix = path.suffix.lower()
        self.bands = len(names) or like.channels
        self.shape = (like.shape[0] * scale, like.shape[1] * scale, self.bands)
        if self.bands < like.channels:
            raise ValueError(f"{like.channels} channels need names; received {names}")
        self.dtype = self._choose_dtype(dtype)
        keeps = self.suffix in _PACKED and not (self.floating and like.dtype.kind in "iu")
        self.packing = like.packing if keeps else (1.0, 0.0)
        self.turned = like.positive == "down" and self.suffix != ".bag"
        self.unit_m = 1.0 if self.suffix == ".bag" else like.unit_m
        self.nodata = self._keep_nodata()
        self.fill = self._choose_fill()
        self.gaps = self.cut = 0
        self.limits = (np.inf, -np.inf)

    @property
    def floating(self) -> bool:
        return self.dtype.kind == "f"

    @property
    def reserved(self) -> bool:
        """Whether `fill` is reserved for missing pixels, so that no other may have this value."""
        like = self.like
        wide = like.georeferenced and not like.is_image and self.dtype.itemsize > 1
        return not self.floating and (self.nodata is not None or like.gappy or wide)

    @property
    def found_nodata(self) -> float | None:
        """Nodata to record, known once everything is written."""
        chosen = self.gaps > 0 and self.reserved
        return self.fill if self.nodata is None and chosen else self.nodata

    def _choose_dtype(self, wanted: Any) -> np.dtype:
        if self.suffix == ".bag":
            return np.dtype(np.float32)
        dtype = np.dtype(self.like.dtype if wanted is None else wanted).newbyteorder("=")
        if wanted is None and dtype.kind in "iu" and not self._holds(dtype):
            dtype = np.dtype(np.float32)
        if dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        if dtype == np.float16 and self.suffix in _PACKED:
            dtype = np.dtype(np.float32)
        if dtype.kind not in "iuf":
            raise DataError(f"{self.path}: dtype must be numeric; received {dtype}.")
        self._check_picture(dtype)
        return dtype

    def _holds(self, dtype: np.dtype) -> bool:
        """Whether the integer dtype of the input can hold all bands of the result."""
        if self.like.packing != (1.0, 0.0) and self.suffix not in _PACKED:
            return False
        # A rounded height may lie outside its own interval.
        apart = self.suffix in (".nc", ".zarr") and not set(LIMITS) <= set(self.names)
        if self.bands == self.like.channels or apart or self.suffix in _PICTURES:
            return True
        self.like.notes.append(
            f"{self.path}: is float32 instead of {dtype}, because of its band {self.names[-1]}."
        )
        return False

    def _check_picture(self, dtype: np.dtype) -> None:
        allowed = _PICTURES.get(self.suffix)
        if allowed and dtype.str[1:] not in allowed:
            kinds = " or ".join(str(np.dtype(name)) for name in allowed)
            raise DataError(
                f"{self.path}: {self.suffix} can hold {kinds}; received {dtype}. Choose that "
                f"dtype, or name a .tif or .npy file."
            )
        if allowed and self.bands not in (1, 3):
            raise DataError(
                f"{self.path}: {self.suffix} can hold 1 or 3 channels; received {self.bands}. "
                f"Name a .tif or .npy file."
            )

    def _keep_nodata(self) -> float | None:
        like = self.like
        if self.suffix == ".bag":
            return BAG_NODATA
        other_kind = like.path.suffix.lower() != self.suffix
        if other_kind and self.suffix not in _PACKED and self.floating:
            return None  # such a file cannot declare nodata, and NaN needs no declaration
        scale, offset = self.packing
        said = like.missing if like.missing is not None or not like.fills else like.fills[0]
        given = None if said is None else (said - offset) / scale
        own = like.nodata if self.packing == like.packing else None
        kept = given if own is None else own
        return kept if kept is not None and _fits(kept, self.dtype) else None

    def _choose_fill(self) -> float:
        if self.nodata is not None:
            return self.nodata
        if self.floating:
            return np.nan
        if self.like.is_image and not self.like.gappy:
            return 0
        limits = np.iinfo(self.dtype)
        return limits.min if self.dtype.kind == "i" else limits.max

    def checked(self, strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the strips in the unit of the file, and check their shapes."""
        rows = 0
        for strip in strips:
            rows += len(strip)
            if strip.ndim != 3 or strip.shape[1:] != self.shape[1:] or rows > self.shape[0]:
                raise ValueError(f"expected strips of {self.shape}; received {strip.shape}")
            yield self.in_own_terms(strip)
        if rows != self.shape[0]:
            raise ValueError(f"strips must have {self.shape[0]} rows in total; received {rows}")

    def measures_depth(self, band: int) -> bool:
        """Whether a band (counted from 0) is in the unit of the map: heights or their spread."""
        own = band < self.like.channels or self.names[band] in LIMITS
        return own or self.names[band].endswith(("deviation", "width"))

    def in_own_terms(self, strip: np.ndarray) -> np.ndarray:
        """Convert metres to the unit of the file, and the ends of intervals to its sign."""
        if self.unit_m != 1.0:
            units = [self.unit_m if self.measures_depth(i) else 1.0 for i in range(self.bands)]
            strip = (strip / np.array(units)).astype(np.float32)
        if self.turned and set(LIMITS) <= set(self.names):
            low, high = (self.names.index(name) for name in LIMITS)
            strip = strip.copy()
            strip[..., [low, high]] = -strip[..., [high, low]]
        return strip

    @property
    def plain(self) -> bool:
        """Whether stored values are metres, heights positive up."""
        return self.packing == (1.0, 0.0) and self.unit_m == 1.0 and not self.turned

    def stored(self, strip: np.ndarray) -> np.ndarray:
        """Turn metres (rows, W, B), heights positive up, into stored values."""
        return self.encode(self.in_own_terms(strip))

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Turn stored values of the map's own channels back into metres, NaN where missing."""
        marked = self.nodata is not None or self.reserved
        wide = np.float32 if self.plain and self.floating else np.float64
        values: np.ndarray = stored.astype(wide)
        gaps = ~np.isfinite(values)
        if marked and not np.isnan(self.fill):
            gaps |= stored == np.asarray(self.fill).astype(self.dtype)
        if not self.plain:
            scale, offset = self.packing
            values = (values * scale + offset) * (-self.unit_m if self.turned else self.unit_m)
        values = values.astype(np.float32, copy=False)
        values[gaps] = np.nan
        return values

    def encode(self, strip: np.ndarray) -> np.ndarray:
        """Convert physical values (rows, W, B or C) to stored ones."""
        if self.dtype == np.float32 and self.packing == (1.0, 0.0) and not self.turned:
            return self._as_it_is(strip)
        scale, offset = self.packing
        values = strip.astype(np.float64)
        own = values[..., : self.like.channels]
        if self.turned:
            np.negative(own, out=own)
        own -= offset
        values /= scale
        gaps = ~np.isfinite(values)
        self._remember(own)
        self.gaps += int(gaps.sum())
        if not self.floating:
            self._round(values, gaps)
        with np.errstate(over="ignore", invalid="ignore"):
            stored = values.astype(self.dtype)
        stored[gaps] = np.asarray(self.fill).astype(self.dtype)
        return stored

    def _as_it_is(self, strip: np.ndarray) -> np.ndarray:
        """Mark the gaps of values that are stored unchanged."""
        gaps = ~np.isfinite(strip)
        count = int(np.count_nonzero(gaps))
        self.gaps += count
        self._remember(strip[..., : self.like.channels])
        if not count or np.isnan(self.fill):
            return strip
        return np.where(gaps, np.float32(self.fill), strip)

    def _round(self, values: np.ndarray, gaps: np.ndarray) -> None:
        limits = np.iinfo(self.dtype)
        exact = 2**53  # beyond it float64 cannot represent every integer
        low, high = max(limits.min, -exact), min(limits.max, exact)
        values[gaps] = low
        np.rint(values, out=values)
        self.cut += int(((values < low) | (values > high)).any(axis=-1).sum())
        np.clip(values, low, high, out=values)
        if self.reserved:
            values[values == self.fill] += 1 if self.fill < high else -1

    def _remember(self, own: np.ndarray) -> None:
        if self.suffix != ".nc":  # no other kind records its range
            return
        finite = own[np.isfinite(own)]
        if finite.size:
            low, high = self.limits
            self.limits = (min(low, float(finite.min())), max(high, float(finite.max())))

    def actual_range(self) -> np.ndarray | None:
        """Return the least and greatest unpacked value in the sign of the file."""
        scale, offset = self.packing
        if self.limits[0] > self.limits[1]:
            return None
        return np.sort(np.array(self.limits) * scale + offset)

    def tell(self) -> None:
        """Note what could not be written unchanged."""
        self._tell_cut()
        self._tell_gaps()

    def _tell_cut(self) -> None:
        """Note pixels outside the range of an integer dtype; images may overshoot freely."""
        if not self.cut or self.like.is_image:
            return
        cure = "name a .tif or .npy file and use" if self.suffix in _PICTURES else "use"
        self.like.notes.append(
            f"WARNING: {self.path}: {self.cut} pixels are outside the range of {self.dtype} and "
            f"were clipped; {cure} --dtype float32."
        )

    def _tell_gaps(self) -> None:
        """Note how missing pixels are marked, if the input marked them otherwise."""
        records = self.suffix in _PACKED
        known = self.nodata is not None and (records or self.like.nodata is None)
        if not self.gaps or self.floating or known:
            return
        recorded = self.reserved and records
        mark = "recorded as its nodata" if recorded else "which the file cannot mark as missing"
        self.like.notes.append(
            f"{'' if recorded else 'WARNING: '}{self.path}: {self.gaps} missing values are "
            f"written as {self.fill:g}, {mark}."
        )


def _fits(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return not np.isfinite(value) or abs(value) <= np.finfo(dtype).max
    limits = np.iinfo(dtype)
    return bool(np.isfinite(value)) and value == round(value) and limits.min <= value <= limits.max


def _regroup(strips: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Regroup strips into multiples of `height` rows, so that each block is written once."""
    held: list[np.ndarray] = []
    for strip in strips:
        held.append(strip)
        rows = sum(map(len, held))
        if rows >= height:
            joined, whole = np.concatenate(held), rows // height * height
            yield joined[:whole]
            held = [joined[whole:]]
    if held and sum(map(len, held)):
        yield np.concatenate(held)


def _refined_transform(transform: Transform, scale: int) -> Transform:
    """Return the transform of the finer pixels; the outer edges stay in place."""
    a, b, c, d, e, f = transform
    return a / scale, b / scale, c, d / scale, e / scale, f


# -- GeoTIFF -------------------------------------------------------------------------------------


def _write_tiff(path: Path, output: _Output, strips: Iterable[np.ndarray], **profile: Any) -> None:
    rasterio = _rasterio(output.path)
    stored = _regroup(map(output.encode, output.checked(strips)), _block(output))
    flip = _southern_first(output.like)
    with _quiet():
        file = rasterio.open(path, "w", **(_tiff_profile(output, flip) | profile))
    with file:
        _describe(file, output)
        first = 0
        for block in stored:
            _put(file, block, first, flip)
            first += len(block)
        if file.nodata is None and output.found_nodata is not None:
            file.nodata = output.found_nodata


def _put(file: Any, block: np.ndarray, first: int, flip: bool) -> None:
    rows, columns = block.shape[:2]
    if flip:
        block, first = block[::-1], file.height - first - rows
    file.write(np.moveaxis(block, -1, 0), window=((first, first + rows), (0, columns)))


def _southern_first(like: MapReader) -> bool:
    """Whether rows run north; a GeoTIFF from another kind of file is written north up."""
    transform = like.transform
    return not isinstance(like, RasterioReader) and transform is not None and transform[4] > 0


def _block(output: _Output) -> int:
    return _BLOCK if min(output.shape[:2]) >= _BLOCK else 256


def _tiff_profile(output: _Output, flip: bool) -> dict[str, Any]:
    like, block = output.like, _block(output)
    profile = {
        "driver": "GTiff",
        "height": output.shape[0],
        "width": output.shape[1],
        "count": output.bands,
        "dtype": output.dtype,
        "nodata": output.nodata,
        "crs": like.crs,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "interleave": "pixel" if like.channels > 1 else "band",
        "BIGTIFF": "IF_SAFER",
    }
    if like.channels == 3:
        profile |= {"photometric": "RGB"} | ({"ALPHA": "NO"} if output.bands > 3 else {})
    return profile | _place(output, flip) | _compression(output)


def _place(output: _Output, flip: bool) -> dict[str, Any]:
    like = output.like
    if like.transform is None:
        if like.georeferenced:
            raise DataError(
                f"{output.path}: {like.path} {like.unplaced}, which a GeoTIFF cannot hold. Name a "
                f".nc file."
            )
        return {}
    a, b, c, d, e, f = _refined_transform(like.transform, output.scale)
    if flip:
        e, f = -e, f + e * output.shape[0]
    return {"transform": _rasterio(output.path).Affine(a, b, c, d, e, f)}


def _compression(output: _Output) -> dict[str, Any]:
    """Choose the compression of the input; deflate if that is lossy, or for another kind."""
    best = "3" if output.floating else "2"
    like, method, predictor = output.like, "deflate", best
    if isinstance(like, RasterioReader) and like.kind != "grid":
        tags = like.dataset.tags(ns="IMAGE_STRUCTURE")
        predictor = tags.get("PREDICTOR", "1" if like.kind != "bag" else "2")
        method = str(like.dataset.profile.get("compress", "none")).lower()
        if method == "none":
            return {}
        if method not in _LOSSLESS:
            like.notes.append(f"{output.path}: compressed with deflate instead of {method}.")
            method, predictor = "deflate", best
    if method not in ("deflate", "lzw", "zstd"):
        return {"compress": method}
    if predictor == "3" and not output.floating:
        predictor = "2"
    # For floats level 6 takes 1.7 times as long and saves 2 to 4 %; whole numbers it makes 20 %
    # smaller.
    level = {"zlevel": "1"} if method == "deflate" and output.floating else {}
    return {"compress": method, "predictor": predictor, **level}


def _describe(file: Any, output: _Output) -> None:
    """Copy tags, names, units, packing and colours, and add the provenance."""
    like = output.like
    own = like.channels
    if isinstance(like, RasterioReader):
        _copy_tags(file, like, output.scale)
    elif (sign := _known_sign(output)) is not None:
        file.update_tags(1, positive=sign)
    if output.provenance is not None:
        file.update_tags(**output.provenance.metadata(output.scale, like.path.name))
    scale, offset = output.packing
    if (scale, offset) != (1.0, 0.0):
        file.scales = [scale] * output.bands
        file.offsets = [offset] * own + [0.0] * (output.bands - own)
    for band, name in enumerate(output.names or _descriptions(like), start=1):
        if name:
            file.set_band_description(band, name)
    if like.units:
        file.units = [like.units if output.measures_depth(i) else "" for i in range(output.bands)]


def _known_sign(output: _Output) -> str | None:
    """Return the sign to declare in a file of another kind; None if it is only assumed."""
    like = output.like
    if like.is_image or like.positive_reason.startswith("assumed"):
        return None
    return "down" if output.turned else "up"


def _descriptions(like: MapReader) -> list[str | None]:
    if isinstance(like, RasterioReader):
        return [like.dataset.descriptions[band - 1] for band in like.bands]
    return [like.description or like.name]


def _copy_tags(file: Any, like: RasterioReader, scale: int) -> None:
    source = like.dataset
    spaces = [ns for ns in source.tag_namespaces() if ns not in _FOREIGN_TAGS and ":" not in ns]
    for space in (None, *spaces):
        file.update_tags(ns=space, **_still_true(source.tags(ns=space), scale))
    for to, band in enumerate(like.bands, start=1):
        file.update_tags(to, **_still_true(source.tags(band), scale))
    colours = [source.colorinterp[band - 1] for band in like.bands]
    if like.kind != "bag":
        file.colorinterp = colours + list(file.colorinterp[len(colours) :])


def _still_true(tags: dict[str, str], scale: int) -> dict[str, str]:
    """Drop statistics, and multiply the print resolution by `scale`."""
    kept = {key: value for key, value in tags.items() if not key.startswith("STATISTICS_")}
    for key in ("TIFFTAG_XRESOLUTION", "TIFFTAG_YRESOLUTION"):
        with contextlib.suppress(KeyError):
            kept[key] = repr(float(kept[key]) * scale)
    return kept


def _write_cog(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
        whole = Path(folder) / "strips.tif"
        # GDAL makes no overviews of a source that is neither packed nor interleaved by pixel.
        _write_tiff(whole, output, strips, interleave="pixel")
        _copy_cog(whole, path, output)


def _copy_cog(whole: Path, path: Path, output: _Output) -> None:
    """Make a cloud-optimised GeoTIFF of a plain one."""
    options = {key.upper(): value for key, value in _compression(output).items()}
    if "PREDICTOR" in options:
        options["PREDICTOR"] = {"1": "NO", "2": "STANDARD", "3": "FLOATING_POINT"}[
            options["PREDICTOR"]
        ]
    if "ZLEVEL" in options:
        options["LEVEL"] = options.pop("ZLEVEL")
    options |= {"COMPRESS": options.get("COMPRESS", "NONE"), "BLOCKSIZE": str(_BLOCK)}
    options |= {"OVERVIEW_RESAMPLING": "AVERAGE", "BIGTIFF": "IF_SAFER", "NUM_THREADS": "ALL_CPUS"}
    _copy(whole, path, output, driver="COG", **options)


def _copy(source: Path, path: Path, output: _Output, **options: str) -> None:
    rasterio = _rasterio(output.path)
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with _quiet():
            rasterio.shutil.copy(source, path, **options)
    except (RasterioError, CPLE_BaseError) as error:
        # PROJ quotes the complete coordinate system as JSON.
        said = re.sub(r"'?\{.*\}'?", "its coordinate reference system", str(error), flags=re.DOTALL)
        raise DataError(
            f"{output.path}: GDAL cannot write it as {options['driver']} ({said[:200]}). Name a "
            f".tif file."
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence rasterio's warning about a missing georeference: the reader's notes report it."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _rasterio(path: Path) -> Any:
    try:
        import rasterio
        import rasterio.shutil
    except ImportError:
        raise MissingLibraryError(
            f"{path}: writing {path.suffix} needs rasterio. Run: {install_command('geo')}"
        ) from None
    return rasterio


# -- BAG -----------------------------------------------------------------------------------------


def _write_bag(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    """Write elevation (always positive up) and uncertainty, via a GeoTIFF of both."""
    like, rasterio = output.like, _rasterio(output.path)
    _check_bag(output)
    flip = _southern_first(like)
    profile = _tiff_profile(output, flip) | {"count": 2, "compress": "deflate", "predictor": "2"}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
        whole = Path(folder) / "both.tif"
        with rasterio.open(whole, "w", **profile) as file:
            first = 0
            for block in _regroup(map(output.encode, output.checked(strips)), _block(output)):
                rows = slice(first, first + len(block))
                _put(file, _with_uncertainty(block, output, rows), first, flip)
                first = rows.stop
        made = output.provenance
        said = {} if made is None else {"VAR_ABSTRACT": made.comment(output.scale, like.path.name)}
        _copy(whole, path, output, driver="BAG", **said)
    like.notes.append(f"{output.path}: the descriptive XML of the BAG is GDAL's own template.")


def _try_bag(output: _Output) -> None:
    """Write a BAG of a few pixels, because GDAL refuses some reference systems."""
    rasterio = _rasterio(output.path)
    size = {"width": 4, "height": 4, "count": 2, "dtype": "float32", "driver": "GTiff"}
    place = _place(output, _southern_first(output.like))
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.tif"
        with rasterio.open(small, "w", crs=output.like.crs, **size, **place) as file:
            file.write(np.ones((2, 4, 4), np.float32))
        _copy(small, Path(folder) / "small.bag", output, driver="BAG")


def _check_bag(output: _Output) -> None:
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


def _with_uncertainty(block: np.ndarray, output: _Output, rows: slice) -> np.ndarray:
    if block.shape[2] == 2:
        return block
    repeated = _repeated_uncertainty(output, rows)
    repeated[np.isnan(repeated) | (block[..., 0] == BAG_NODATA)] = BAG_NODATA
    return np.concatenate([block, repeated[..., None]], axis=2)


def _repeated_uncertainty(output: _Output, rows: slice) -> np.ndarray:
    """Return the uncertainty of the coarse pixel around each finer one; NaN if there is none."""
    like, scale = output.like, output.scale
    if not isinstance(like, RasterioReader) or like.kind != "bag" or like.dataset.count < 2:
        return np.full((rows.stop - rows.start, output.shape[1]), np.nan, np.float32)
    top, bottom = rows.start // scale, -(-rows.stop // scale)
    coarse = like.read_band(2, slice(top, bottom), slice(0, like.shape[1])).astype(np.float32)
    fine = coarse.repeat(scale, 0).repeat(scale, 1)
    return fine[rows.start - top * scale : rows.stop - top * scale]


# -- NetCDF --------------------------------------------------------------------------------------


def _write_netcdf(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    """Write coordinates and attributes through xarray, then the planes strip by strip."""
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
    layout = _layout(output)
    layout.skeleton.to_netcdf(path, engine="h5netcdf")
    with h5netcdf.File(path, "a") as file:
        planes = _create_planes(file, output, layout)
        first = 0
        for strip in _regroup(
            output.checked(strips), layout.chunks[layout.dims.index(layout.rows)]
        ):
            _put_planes(planes, output, layout, strip, first)
            first += len(strip)
        _finish_plane(planes[0], output)


@dataclasses.dataclass
class _Layout:
    """Layout of a NetCDF file: dimensions in stored order, and everything around the planes.

    `skeleton` is an xarray.Dataset of everything except the planes.
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


def _create_planes(file: Any, output: _Output, layout: _Layout) -> list[Any]:
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
            _identifier(name), layout.dims, np.float32, fillvalue=np.float32(np.nan), **options
        )
        shared = ("units", "grid_mapping", "coordinates")
        extra.attrs.update({key: layout.attrs[key] for key in shared if key in layout.attrs})
        extra.attrs["long_name"] = name.replace("_", " ")
        planes.append(extra)
    if planes[1:]:
        planes[0].attrs["ancillary_variables"] = " ".join(map(_identifier, output.names[1:]))
    return planes


def _put_planes(
    planes: list[Any], output: _Output, layout: _Layout, strip: np.ndarray, first: int
) -> None:
    index = layout.index(slice(first, first + len(strip)))
    planes[0][index] = layout.arranged(output.encode(strip[..., :1])[..., 0])
    for band, plane in enumerate(planes[1:], start=1):
        plane[index] = layout.arranged(strip[..., band].astype(np.float32))


def _finish_plane(plane: Any, output: _Output) -> None:
    if output.nodata is None and output.found_nodata is not None:
        plane.attrs["_FillValue"] = output.dtype.type(output.found_nodata)
    if "actual_range" in plane.attrs and (limits := output.actual_range()) is not None:
        plane.attrs["actual_range"] = limits


def _layout(output: _Output) -> _Layout:
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


def _packing_attrs(output: _Output) -> dict[str, Any]:
    scale, offset = output.packing
    packed = {"scale_factor": scale, "add_offset": offset} if output.packing != (1.0, 0.0) else {}
    if isinstance(output.like, NetcdfReader):
        # Keep the type of the input: it decides the type to which readers unpack.
        coded = output.like.array.encoding
        packed = {key: coded.get(key, value) for key, value in packed.items() if key in coded}
        if "missing_value" in coded and output.nodata is not None:
            packed["missing_value"] = output.dtype.type(output.nodata)
    return packed


def _kept_layout(output: _Output, like: NetcdfReader) -> _Layout:
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
    return _Layout(
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
    a, b, c, d, e, f = _refined_transform(like.transform, scale)
    for variable in helpers.values():
        if "GeoTransform" in variable.attrs:
            variable.attrs["GeoTransform"] = " ".join(map(repr, (c, a, b, f, d, e)))


def _note_dropped(like: MapReader, names: set[str]) -> None:
    if names:
        like.notes.append(f"{like.path}: not copied to the result: {', '.join(sorted(names))}.")


def _chunks(dims: tuple[str, ...], like: NetcdfReader, output: _Output) -> tuple[int, ...]:
    sizes = dict(zip(like.dims, output.shape[:2], strict=True))
    wanted = like.array.encoding.get("chunksizes") or (256,) * len(dims)
    # Several chunks must fit in memory, however large those of the input are.
    return tuple(
        max(1, min(chunk, _BLOCK, sizes.get(dim, 1)))
        for chunk, dim in zip(wanted, dims, strict=True)
    )


def _filters(coded: dict[str, Any]) -> dict[str, Any]:
    if not coded.get("zlib", True):
        return {}
    level = coded.get("complevel") or 4
    return {"compression": "gzip", "compression_opts": level, "shuffle": coded.get("shuffle", True)}


def _new_layout(output: _Output) -> _Layout:
    import xarray

    like = output.like
    title = output.names[0] if output.names else like.description or like.name
    attrs = {"long_name": like.description, "units": like.units}
    attrs = {key: value for key, value in attrs.items() if value}
    if (sign := _known_sign(output)) is not None:
        attrs["positive"] = sign
    dims: tuple[str, str] = ("y", "x")
    helpers: dict[str, Any] = {}
    if like.transform is not None:
        dims, helpers = _coordinates(output)
        attrs |= {"grid_mapping": "spatial_ref"} if "spatial_ref" in helpers else {}
    skeleton = xarray.Dataset(helpers, attrs={"Conventions": "CF-1.8"})
    chunks = (min(256, output.shape[0]), min(256, output.shape[1]))
    name = _identifier(title or "z")
    return _Layout(skeleton, name, dims, *dims, attrs, chunks, _filters({}))


def _check_upright(output: _Output) -> None:
    like = output.like
    if like.transform is not None and (like.transform[1] or like.transform[3]):
        raise DataError(
            f"{output.path}: {like.path} is rotated, which NetCDF coordinates cannot express. "
            f"Name a .tif file."
        )


def _coordinates(output: _Output) -> tuple[tuple[str, str], dict[str, Any]]:
    """Return coordinates and grid mapping from a transform and a reference system."""
    import xarray

    _check_upright(output)
    a, _, c, _, e, f = _refined_transform(output.like.transform or (), output.scale)  # type: ignore[arg-type]
    crs = (
        _rasterio(output.path).crs.CRS.from_user_input(output.like.crs) if output.like.crs else None
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


def _identifier(name: str) -> str:
    """Convert a description to the name of a variable."""
    word = re.sub(r"\W+", "_", name).strip("_") or "z"
    return f"v_{word}" if word[0].isdigit() else word


def _write_zarr(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    from toolbox.io.zarr_maps import GrowingZarr  # built on this module

    growing = GrowingZarr(output, _BLOCK)
    growing.begin()
    try:
        first = 0
        for strip in _regroup(strips, _BLOCK):
            growing.put(first, strip)
            first += len(strip)
        growing.finish()
    finally:
        growing.remove()


# -- Arrays and images ---------------------------------------------------------------------------


def _write_npy(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(output.dtype),
        "fortran_order": False,
        "shape": _squeezed(output),
    }
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for strip in output.checked(strips):
            stream.write(np.ascontiguousarray(output.encode(strip)).data)


def _squeezed(output: _Output) -> tuple[int, ...]:
    """Return the shape of an array: one band has two axes unless its input had three."""
    three = isinstance(output.like, ArrayReader) and output.like.array.ndim == 3
    return output.shape if output.bands > 1 or three else output.shape[:2]


def _whole(output: _Output, strips: Iterable[np.ndarray]) -> np.ndarray:
    stored = np.concatenate([output.encode(strip) for strip in output.checked(strips)])
    return stored.reshape(_squeezed(output))


def _write_pickle(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    save_array(_whole(output, strips), path)


def _write_picture(path: Path, output: _Output, strips: Iterable[np.ndarray]) -> None:
    from toolbox.opencv import cv2

    image = _whole(output, strips)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if output.suffix in (".jpg", ".jpeg") else []
    colours = image[..., ::-1] if output.bands == 3 else image
    done, content = cv2.imencode(output.suffix, np.ascontiguousarray(colours), options)
    if not done:
        raise DataError(f"{output.path}: OpenCV cannot write {image.shape} as {output.suffix}.")
    path.write_bytes(content.tobytes())


_WRITERS: dict[str, Callable[[Path, _Output, Iterable[np.ndarray]], None]] = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".nc": _write_netcdf,
    ".zarr": _write_zarr,
    ".bag": _write_bag,
    ".npy": _write_npy,
    ".pkl": _write_pickle,
    **dict.fromkeys(_PICTURES, _write_picture),
}
