"""The plan of an enlarged map: its shape, data type and gaps, and how values are stored.

Every writer follows it: :mod:`toolbox.io.map_writers` and :mod:`toolbox.io.growing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.maps import ArrayReader, MapReader, Transform
from toolbox.io.provenance import Provenance

#: What marks a missing pixel in a BAG.
BAG_NODATA = 1_000_000.0
#: Side of the blocks of a large map, in pixels.
BLOCK = 512
#: Names of the bands that hold the ends of an interval around the first band.
LIMITS = ("lower", "upper")
#: Kinds that can hold scale, offset and nodata.
_PACKED = (".tif", ".tiff", ".nc", ".zarr")
#: Data types that pictures can hold.
PICTURE_DTYPES = {".png": ("u1", "u2"), ".jpg": ("u1",), ".jpeg": ("u1",), ".bmp": ("u1",)}
#: All kinds that can be written.
OUTPUT_SUFFIXES = (".bag", ".npy", ".pkl", *_PACKED, *PICTURE_DTYPES)


def plan_output(
    final: Path, like: MapReader, scale: int, bands: tuple[str, ...], dtype: Any, cog: bool
) -> MapOutput:
    """Plan a result, or refuse what no file of its kind can hold.

    Parameters
    ----------
    final : pathlib.Path
        The result; the suffix decides the kind.
    like : MapReader
        The input, still open.
    scale : int
        How many times finer the result is.
    bands : tuple of str
        Names of all bands, or none.
    dtype : dtype-like or None
        Data type of the stored values; None for that of the input.
    cog : bool
        Whether a cloud-optimised GeoTIFF is wanted.

    Returns
    -------
    MapOutput
        What the writers follow.

    Raises
    ------
    DataError
        If that kind of file cannot hold such a map.
    """
    suffix = final.suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise DataError(
            f"{final}: cannot write {final.suffix!r}. Name a file ending in one of "
            f"{', '.join(sorted(OUTPUT_SUFFIXES))}."
        )
    if cog and suffix not in (".tif", ".tiff"):
        raise DataError(f"{final}: only a GeoTIFF can be cloud-optimised. Name a .tif file.")
    return MapOutput(final, like, scale, bands, dtype)


class MapOutput:
    """The result: its shape, and the conversion of physical to stored values.

    Parameters
    ----------
    path : pathlib.Path
        The result.
    like : MapReader
        The input, still open; what cannot be kept is reported in its notes.
    scale : int
        How many times finer the result is.
    names : tuple of str
        Names of all bands, or none.
    dtype : dtype-like or None
        Data type of the stored values; None for that of the input.

    Attributes
    ----------
    suffix : str
        The kind of file, in lower case.
    bands : int
        Number of bands.
    shape : (int, int, int)
        Rows, columns and bands.
    dtype : numpy.dtype
        Data type of the stored values.
    packing : (float, float)
        Scale and offset of the stored values.
    turned : bool
        Whether heights change their sign when they are stored.
    unit_m : float
        The unit of the file in metres.
    nodata : float or None
        What the file declares as missing.
    fill : float
        What is stored for a missing pixel.
    gaps, cut : int
        Missing values, and pixels outside the range of the data type, so far.
    limits : (float, float)
        Least and greatest stored value so far, in NetCDF files.
    provenance : Provenance or None
        How the map was made.
    """

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
        """Whether stored values are floating-point numbers."""
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
        if self.bands == self.like.channels or apart or self.suffix in PICTURE_DTYPES:
            return True
        self.like.notes.append(
            f"{self.path}: is float32 instead of {dtype}, because of its band {self.names[-1]}."
        )
        return False

    def _check_picture(self, dtype: np.dtype) -> None:
        allowed = PICTURE_DTYPES.get(self.suffix)
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
        cure = "name a .tif or .npy file and use" if self.suffix in PICTURE_DTYPES else "use"
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


def regroup(strips: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Regroup strips into multiples of `height` rows, so that each block is written once.

    Parameters
    ----------
    strips : iterable of numpy.ndarray, shape (rows, ...)
        Strips of any height, from top to bottom.
    height : int
        Rows of a block.

    Yields
    ------
    numpy.ndarray
        As many whole blocks as there are; the last strip holds the rest.
    """
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


def refined_transform(transform: Transform, scale: int) -> Transform:
    """Return the transform of the finer pixels; the outer edges stay in place.

    Parameters
    ----------
    transform : tuple of six floats
        From (column, row) to map coordinates, as in rasterio.
    scale : int
        How many times finer the pixels are.

    Returns
    -------
    tuple of six floats
        The same for the finer pixels.
    """
    a, b, c, d, e, f = transform
    return a / scale, b / scale, c, d / scale, e / scale, f


def known_sign(output: MapOutput) -> str | None:
    """Return the sign to declare in a file of another kind; None if it is only assumed.

    Parameters
    ----------
    output : MapOutput
        The plan of the result.

    Returns
    -------
    {"up", "down"} or None
        The direction in which stored values grow.
    """
    like = output.like
    if like.is_image or like.positive_reason.startswith("assumed"):
        return None
    return "down" if output.turned else "up"


def squeezed_shape(output: MapOutput) -> tuple[int, ...]:
    """Return the shape of an array: one band has two axes unless its input had three.

    Parameters
    ----------
    output : MapOutput
        The plan of the result.

    Returns
    -------
    tuple of int
        Two or three lengths.
    """
    three = isinstance(output.like, ArrayReader) and output.like.array.ndim == 3
    return output.shape if output.bands > 1 or three else output.shape[:2]
