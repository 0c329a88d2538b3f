"""Read maps and images window by window: heights positive up, NaN where missing, with geodata.

:mod:`toolbox.io.map_writers` writes the enlarged map as the same kind of file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from toolbox.errors import (
    DataError,
    MissingLibraryError,
    ToolboxError,
    did_you_mean,
    not_found,
)
from toolbox.io.array_files import damaged_archive, mapped_array
from toolbox.io.cf import axis_of, curvilinear_of, geotransform_of, runs_east, system_of_plane
from toolbox.io.content import is_netcdf, unreadable
from toolbox.io.crs import vertical_axis
from toolbox.io.esri_ascii import fault_of
from toolbox.io.extras import install_command
from toolbox.io.netcdf import further_axes, one_step, open_netcdf, stacks
from toolbox.io.plausible import Census, judge
from toolbox.io.safe_pickle import load_array
from toolbox.io.spacing import (
    affine_spacing,
    archive_spacing,
    coordinate_spacing,
    curvilinear_spacing,
    even_step,
    in_degrees,
    unit_factor,
    unrolled,
)
from toolbox.io.units import UNSAID, metres_per_unit
from toolbox.io.zarr_store import is_zarr
from toolbox.progress import progress

#: a, b, c, d, e, f of ``x = a·column + b·row + c``, ``y = d·column + e·row + f``; outer edges.
Transform = tuple[float, float, float, float, float, float]

SAMPLE_PREFIX = "sample:"
IMAGE_KINDS = ("png", "jpg", "bmp")
GRID_SUFFIXES = (".asc", ".grd")
S102_SUFFIXES = (".h5", ".hdf5", ".s102")
_ESRI_WORDS = (b"ncols", b"nrows", b"xll", b"yll", b"cellsize", b"nodata")
_SAMPLED_ROWS = 9
#: Limits of a plausible grid spacing, in metres.
_SPACINGS_M = (1e-6, 1e8)
_COUNTED_VALUES = 2**20
#: The squares of larger values overflow float32.
_LARGEST = 1e18
#: Surveys in a system of depths often hold heights, as those of a BAG do.
_VERTICAL = "the vertical reference system"
_NO_PLANES = ("crs", "spatial_ref", "grid_mapping")


@dataclasses.dataclass(kw_only=True, eq=False)
class MapReader(ABC):
    """A map or an image that is open for reading. Use it in one thread, inside ``with``.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    kind : str
        ``'geotiff'``, ``'tiff'`` (no georeference), ``'bag'``, ``'grid'`` (ESRI, Surfer),
        ``'netcdf'``, ``'zarr'``, ``'s102'``, ``'npy'``, ``'npz'``, ``'pkl'``, ``'png'``,
        ``'jpg'`` or ``'bmp'``.
    shape : (int, int)
        Rows and columns.
    channels : int
        1 for a map, 3 for an RGB image.
    dtype : numpy.dtype
        Data type of the stored values, before `packing` is undone.
    packing : (float, float)
        Scale and offset: a value is ``stored * scale + offset``.
    nodata : float or None
        Stored value with which the file marks missing pixels.
    missing : float or None
        Further unpacked value that means "missing", as given by the user.
    fills : tuple of float
        Unpacked values that certainly mean "missing", although they are not declared.
    unit_m : float
        Unit of the unpacked values in metres; `read` always returns metres.
    masked : bool
        Whether the file has a mask in addition to its bands.
    complete : bool
        Whether the whole map was read and no pixel is missing.
    positive : {'up', 'down'}
        Whether the file counts heights or depths from zero; `read` always returns heights.
    positive_reason : str
        How `positive` was determined.
    declared_sign : (str, str) or None
        Sign that the file itself declares, regardless of the user's choice, and where.
    transform : tuple of six floats or None
        From (column, row) to map coordinates of outer pixel edges, as in rasterio.
    crs : object or None
        Coordinate reference system, in any form rasterio accepts.
    delta_m : (float, float) or None
        Grid spacing in metres (between rows, between columns); None if unknown.
    spacing_remark : str
        How the spacing was found, if that is not obvious.
    unplaced : str
        Why there is no transform although there are coordinates.
    name, units, description : str or None
        Name, unit and description of the variable or band.
    notes : list of str
        Lines that a program should print when it writes a map like this one; writing may add some.
    checks : list of str
        The lines that every program should print, because they state how the map is understood.
    """

    path: Path
    kind: str
    shape: tuple[int, int]
    dtype: np.dtype
    channels: int = 1
    packing: tuple[float, float] = (1.0, 0.0)
    nodata: float | None = None
    missing: float | None = None
    fills: tuple[float, ...] = ()
    unit_m: float = 1.0
    masked: bool = False
    complete: bool = False
    positive: str = "up"
    positive_reason: str = "an image"
    declared_sign: tuple[str, str] | None = None
    transform: Transform | None = None
    crs: Any = None
    delta_m: tuple[float, float] | None = None
    spacing_remark: str = ""
    unplaced: str = "is not evenly spaced"
    name: str | None = None
    units: str | None = None
    description: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    checks: list[str] = dataclasses.field(default_factory=list)

    #: Whether the values may cast doubt on the sign even if it is declared.
    _doubts_declared: ClassVar[bool] = False

    @property
    def georeferenced(self) -> bool:
        """Whether the file states the position of its pixels."""
        return self.transform is not None

    @property
    def is_image(self) -> bool:
        """Whether the values are brightness rather than height."""
        bare = self.kind == "tiff" and self.dtype.kind == "u"
        return self.channels > 1 or self.kind in IMAGE_KINDS or bare

    @property
    def stored_rows(self) -> int:
        """Number of rows that the file holds together, and that are best read together."""
        return 1

    @property
    def gappy(self) -> bool:
        """Whether a pixel can be missing at all."""
        marked = self.nodata is not None or self.missing is not None or bool(self.fills)
        return marked or self.masked or self.dtype.kind == "f"

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a window.

        Parameters
        ----------
        rows, columns : slice
            Pixels counted from the first stored row and column, without a step.

        Returns
        -------
        numpy.ndarray, shape (rows, columns, C), float32
            Unpacked values in metres, heights positive up. NaN where missing, infinite, or so
            large that their squares overflow float32.
        """
        values = self._own_values(rows, columns)
        values[np.abs(values) > _LARGEST] = np.nan
        if self.unit_m != 1.0:
            values *= np.float32(self.unit_m)
        return -values if self.positive == "down" else values

    def _own_values(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a window (rows, columns, C), float32, in the unit and sign of the file."""
        bounds = [
            part.indices(size) for part, size in zip((rows, columns), self.shape, strict=True)
        ]
        if any(step != 1 for _, _, step in bounds):
            raise ValueError(f"a window must have no steps; received {rows}, {columns}")
        # A value that means missing may be too large for float32, or a NaN of any kind.
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(self._unpacked(*(slice(*part) for part in bounds)), np.float32)
        values = values.reshape(*values.shape[:2], self.channels)
        for mark in (self.missing, *self.fills):
            if mark is not None:
                values[values == np.float32(mark)] = np.nan
        values[~np.isfinite(values)] = np.nan
        return values

    def _settle_unit(self) -> None:
        """Find the unit of the values, and note it if it is not the metre."""
        said = str(self.units or "").strip()
        if self.is_image or said.lower() in UNSAID:
            return
        metres = metres_per_unit(said)
        if metres is None:
            self.checks.append(
                f"WARNING: {self.path}: its unit {said!r} is not a known unit of length, so the "
                f"numbers are taken as metres. Convert the map first if they are not."
            )
        elif metres != 1.0:
            self.unit_m = metres
            self.checks.append(
                f"{self.path}: its unit is {said!r}; 1 is {metres:.7g} m, and all lengths "
                f"printed here are in metres."
            )

    def _settle_gaps(self) -> None:
        """Search the complete map for undeclared values that mean "missing"."""
        if self.is_image:
            return
        census, huge, gaps, pixels = Census(self.unit_m), 0, 0, 0
        rows = rows_at_once(self, _COUNTED_VALUES)
        with contextlib.suppress(DataError):  # reading the damaged part reports it
            starts = range(0, self.shape[0], rows)
            for first in progress(starts, f"checking {self.path.name}", delay=2, leave=False):
                values = self._own_values(slice(first, first + rows), slice(None))
                census.add(values)
                gaps += int(np.count_nonzero(np.isnan(values)))
                pixels += values[..., 0].size
                huge += int(np.count_nonzero(np.abs(values) > _LARGEST))
        self.fills, notes = judge(census, str(self.path))
        self.checks += notes
        whole = pixels == self.shape[0] * self.shape[1]
        self.complete = whole and not (gaps or huge or self.fills)
        huge -= sum(census.fills.get(value, 0) for value in self.fills if abs(value) > _LARGEST)
        if huge > 0:
            self.checks.append(
                f"WARNING: {self.path}: {huge} pixel{'s are' if huge > 1 else ' is'} beyond "
                f"±{_LARGEST:g} and taken as missing. Check whether the file is damaged."
            )

    def close(self) -> None:  # noqa: B027, in-memory readers have nothing to close
        """Close the file; the reader cannot be used afterwards."""

    def __enter__(self) -> MapReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def _unpacked(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the values of a window in the sign of the file, NaN where it marks a gap."""

    def _settle_sign(self, positive: str | None, hints: Mapping[str, str]) -> None:
        self.declared_sign = None if self.is_image else declared_sign(hints)
        if positive is not None:
            self.positive, self.positive_reason = positive, "declared by the user"
        elif not self.is_image:
            found = self.declared_sign or _named_sign(hints, self._sample)
            self.positive, self.positive_reason = found or self._assumed_sign()
            self._doubt_sign(hints)
        if not self.is_image and self.declared_sign is None and self.positive == "up":
            self._hint_at_depths(hints)

    def _hint_at_depths(self, hints: Mapping[str, str]) -> None:
        """Warn if names suggest depths and all values are above 0, but heights were assumed."""
        named = _speaking(hints, r"depth|bathym|^h$")
        values = self._sample() if named else np.empty(0)
        if values.size and (values > 0).all():
            self.checks.append(
                f"WARNING: {self.path}: all sampled values are above 0, and {named} may mean "
                f"depths. If so, use 'positive: down' (predict: --positive down)."
            )

    def _sample(self) -> np.ndarray:
        """Return finite values of a few rows, in the sign of the file."""
        rows = np.unique(np.linspace(0, self.shape[0] - 1, _SAMPLED_ROWS).astype(int))
        parts = [self.read(slice(int(r), int(r) + 1), slice(None)).ravel() for r in rows]
        values = np.concatenate(parts) * (-1 if self.positive == "down" else 1)
        return values[np.isfinite(values)]

    def _assumed_sign(self) -> tuple[str, str]:
        values = self._sample()
        if self.georeferenced and values.size and (values > 0).all():
            return "up", (
                "assumed, as the file does not say; all sampled values are above 0, so if they are "
                "depths, declare positive down"
            )
        return "up", "assumed, as the file does not say"

    def _doubt_sign(self, hints: Mapping[str, str]) -> None:
        plain = (
            re.search("positive", self.positive_reason) and _VERTICAL not in self.positive_reason
        )
        certain = plain and not self._doubts_declared
        if self.positive == "down" and not certain and _mostly_negative(self._sample()):
            self.checks.append(
                f"WARNING: {self.path}: counts downwards ({self.positive_reason}), but most of its "
                f"values are negative. If they are elevations, declare positive up."
            )


def rows_at_once(reader: MapReader, pixels: int) -> int:
    """Return how many rows are best read at once.

    Parameters
    ----------
    reader : MapReader
        The map.
    pixels : int
        Pixels that are wanted at most, unless the file holds more rows together; then up to eight
        times as many.
    """
    rows, stored = max(1, pixels // reader.shape[1]), reader.stored_rows
    if stored <= rows:
        return rows // stored * stored
    return stored if stored <= 8 * rows else rows


@contextmanager
def _closing_on_error(close: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        close()
        raise


def open_map(
    path: str | os.PathLike[str],
    variable: str | int | None = None,
    nodata: float | None = None,
    positive: str | None = None,
    time: str | None = None,
    group: str | None = None,
    fills: tuple[float, ...] | None = None,
) -> MapReader:
    """Open a map or an image for reading in windows.

    Parameters
    ----------
    path : path-like
        ``.tif .tiff .bag .asc`` (rasterio), ``.nc .zarr`` (xarray), ``.grd`` (either), ``.h5 .hdf5
        .s102`` (S-102, h5py), ``.npy .npz .pkl`` (NumPy), ``.png .jpg .jpeg .bmp`` (OpenCV), or
        ``sample:NAME.npz`` inside Matplotlib.
    variable : str or int, optional
        Variable of a NetCDF or npz file, band number of a GeoTIFF, or ``uncertainty`` of S-102.
        Not needed if there is only one candidate.
    nodata : float, optional
        Further unpacked value that means "missing", in addition to that of the file, NaN and
        infinities.
    positive : {'up', 'down'}, optional
        Whether the file counts heights or depths from zero. Default: what the file indicates.
    time : str, optional
        Step of the axis that a NetCDF variable has in addition to rows and columns: its number,
        counted from 1, or its date or value.
    group : str, optional
        Group of a NetCDF file, or coverage of S-102.
    fills : tuple of float, optional
        `MapReader.fills` of the same map, opened before: it is not searched for them again.

    Returns
    -------
    MapReader
        Use it in a ``with`` statement.

    Raises
    ------
    DataError
        If the file is missing, unreadable, of an unknown kind, or not a single map or image.

    Examples
    --------
    >>> with open_map("sample:jacksboro_fault_dem.npz") as reader:
    ...     reader.read(slice(0, 2), slice(0, 3)).shape
    (2, 3, 1)
    """
    if positive not in (None, "up", "down"):
        raise DataError(f"{path}: positive must be 'up' or 'down'; received {positive!r}.")
    found = find_raster(path)
    opener = _OPENERS.get(found.suffix.lower())
    if opener is None:
        raise DataError(
            f"{path}: unknown kind of map {found.suffix!r}; "
            f"expected one of {', '.join(sorted(_OPENERS))}."
        )
    chosen = None if variable is None else str(variable)
    if opener in (_open_netcdf, _open_grid, _open_s102):
        opener = functools.partial(opener, time=time, group=group)
    else:
        _refuse_steps(found, time, group)
    reader, hints = opener(found, chosen)
    with _closing_on_error(reader.close):
        if reader.delta_m is not None:
            rows, columns = float(reader.delta_m[0]), float(reader.delta_m[1])
            reader.delta_m = (rows, columns)
            if not all(_SPACINGS_M[0] < step < _SPACINGS_M[1] for step in (rows, columns)):
                reader.delta_m = None
                reader.spacing_remark = (
                    f"its grid spacing would be {rows:g} × {columns:g} m, which is impossible; its "
                    f"coordinates may be damaged"
                )
        if 0 in reader.shape:
            raise DataError(f"{path}: expected pixels; received shape {reader.shape}.")
        reader.missing = nodata
        if reader.spacing_remark and not reader.is_image:
            mark = "WARNING: " if reader.delta_m is None else ""
            reader.checks.append(f"{mark}{path}: {reader.spacing_remark}.")
        reader._settle_unit()
        if fills is None:
            reader._settle_gaps()
        else:
            reader.fills = fills
        reader._settle_sign(positive, hints)
        reader.notes[:0] = reader.checks
    return reader


def find_raster(fname: str | os.PathLike[str]) -> Path:
    """Return the path of a raster file, or of an elevation model inside Matplotlib."""
    name = os.fspath(fname)
    if not name.startswith(SAMPLE_PREFIX):
        if not Path(name).is_file() and not is_zarr(name):
            raise DataError(f"{not_found(name, 'file')}. Name an existing raster.")
        return Path(name)
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "sample_data"
    path = folder / name.removeprefix(SAMPLE_PREFIX)
    if path.parent != folder or not path.is_file():
        known = [p.name for p in folder.glob("*.npz")]
        raise DataError(f"{name}: no such sample. {did_you_mean(path.name, known)}")
    return path


def choose_variable(path: Path, names: list[str], variable: str | None) -> str:
    """Return the requested variable, or the only one in the file.

    Raises
    ------
    DataError
        If there are several, or none with that name.
    """
    if variable is None and len(names) == 1:
        return names[0]
    if variable in names:
        return variable  # type: ignore[return-value]
    if not names:
        raise DataError(
            f"{path}: holds no variable with rows and columns, whose dimensions have names. Is it "
            f"the right file, and complete?"
        )
    received = "none" if variable is None else repr(variable)
    raise DataError(
        f"{path}: variable must be one of {', '.join(names)}; received {received}. "
        f"Choose one with --variable, or with 'variable: ...' in a settings "
        f"file."
    )


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error for pixels that cannot be read although the file could be opened."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path}: pixels cannot be read; the file may be damaged ({first}).")


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn an HDF5 error about unreadable coordinates or attributes into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise unreadable(path, "NetCDF", error) from None


# -- Sign ----------------------------------------------------------------------------------------


def declared_sign(hints: Mapping[str, str]) -> tuple[str, str] | None:
    """Find an explicitly declared sign: CF attributes, or the words 'positive up'."""
    if (value := hints.get("positive", "").lower()) in ("up", "down"):
        return value, f"declared by the attribute positive = {value!r}"
    standard = hints.get("standard_name", "")
    if re.search("height|altitude|elevation", standard):
        return "up", f"declared by standard_name {standard!r}"
    if "depth" in standard:
        return "down", f"declared by standard_name {standard!r}"
    for label, text in hints.items():
        if match := re.search(r"positive[\s:=_-]*(up|down)", text, re.IGNORECASE):
            return match[1].lower(), f"declared by {label} {text!r}"
    return None


def _depths_by_system(crs: Any) -> dict[str, str]:
    """Return the hint given by a reference system whose vertical axis points down."""
    axis = vertical_axis(crs)
    return {_VERTICAL: f"{axis[0]}, positive down"} if axis and axis[1] == "down" else {}


def _named_sign(
    hints: Mapping[str, str], sample: Callable[[], np.ndarray]
) -> tuple[str, str] | None:
    """Find the sign from names; 'depth' counts only if the values agree."""
    heights = _speaking(hints, r"elevation|altitude|height|topograph")
    depths = _speaking(hints, r"depth")
    if heights and depths:
        return "up", f"assumed, as {heights} and {depths} contradict one another"
    if heights:
        return "up", f"named so by {heights}"
    if not depths:
        return None
    if _mostly_negative(-sample()):
        return "down", f"named so by {depths}, and most values are above 0"
    return "up", f"assumed, as most values are not above 0, in spite of {depths}"


def _speaking(hints: Mapping[str, str], words: str) -> str | None:
    found = (f"{k} {v!r}" for k, v in hints.items() if re.search(words, v, re.IGNORECASE))
    return next(found, None)


def _mostly_negative(values: np.ndarray) -> bool:
    return bool(values.size and np.median(values) < 0)


# -- GeoTIFF and BAG -----------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True, eq=False)
class RasterioReader(MapReader):
    """Bands of a file that rasterio reads.

    Attributes
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.
    bands : tuple of int
        The bands that are read, counted from 1.
    """

    dataset: Any
    bands: tuple[int, ...]

    @property
    def stored_rows(self) -> int:
        """Rows of a tile or strip."""
        return int(self.dataset.block_shapes[self.bands[0] - 1][0])

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()

    def read_band(self, band: int, rows: slice, columns: slice) -> np.ndarray:
        """Read a window (rows, columns) of any band, unpacked; NaN where missing."""
        return self._masked([band], rows, columns)[..., 0]

    def _unpacked(self, rows: slice, columns: slice) -> np.ndarray:
        return self._masked(list(self.bands), rows, columns)

    def _masked(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        from rasterio.errors import RasterioIOError

        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        flags = self.dataset.mask_flag_enums[bands[0] - 1]
        # A dropped alpha channel would be taken for a mask.
        opaque = any(flag.name == "alpha" for flag in flags)
        # A file that marks gaps by NaN needs no mask.
        nodata = self.dataset.nodatavals[bands[0] - 1]
        marked = {flag.name for flag in flags} == {"nodata"} and np.isnan(float(nodata or 0))
        try:
            stored = self.dataset.read(bands, window=window, masked=not (opaque or marked))
        except RasterioIOError as error:
            raise damaged(self.path, error) from None
        scales = [self.dataset.scales[band - 1] for band in bands]
        offsets = [self.dataset.offsets[band - 1] for band in bands]
        if set(scales) == {1.0} and set(offsets) == {0.0} and stored.dtype == np.float32:
            return np.moveaxis(np.ma.filled(stored, np.nan), 0, -1)
        values = np.ma.filled(stored.astype(np.float64), np.nan)
        return np.moveaxis(values, 0, -1) * scales + offsets


def _open_rasterio(path: Path, variable: str | None) -> tuple[MapReader, dict[str, str]]:
    try:
        import rasterio
    except ImportError:
        raise MissingLibraryError(
            f"{path}: reading {path.suffix} needs rasterio. Run: {install_command('geo')}"
        ) from None
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    options = _open_options(path)
    if options and (fault := fault_of(path)):
        raise damaged(path, ValueError(fault))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the reader's notes report it
            dataset = rasterio.open(path, **options)
    except RasterioIOError as error:
        raise unreadable(path, "a raster", error) from None
    with _closing_on_error(dataset.close):
        reader = _rasterio_reader(path, dataset, variable)
        reader.notes += _rasterio_notes(reader, variable)
        return reader, _rasterio_hints(reader)


def _open_options(path: Path) -> dict[str, str]:
    """Read an ESRI ASCII grid as floats; GDAL would judge by the first values."""
    if path.suffix.lower() not in GRID_SUFFIXES:
        return {}
    with open(path, "rb") as stream:
        word = stream.read(64).lstrip().lower()
    return {"DATATYPE": "Float32"} if word.startswith(_ESRI_WORDS) else {}


def _open_grid(
    path: Path, variable: str | None, time: str | None = None, group: str | None = None
) -> tuple[MapReader, dict[str, str]]:
    """Open a ``.grd``: a NetCDF file of GMT, or a grid of Surfer or ESRI."""
    if is_netcdf(path):
        return _open_netcdf(path, variable, time, group)
    _refuse_steps(path, time, group)
    return _open_rasterio(path, variable)


def _refuse_steps(path: Path, time: str | None, group: str | None) -> None:
    for name, value in (("time", time), ("group", group)):
        if value is not None:
            raise DataError(
                f"{path}: {name} is for NetCDF files; received {value!r}. Leave out {name}."
            )


def _rasterio_reader(path: Path, dataset: Any, variable: str | None) -> RasterioReader:
    bands = _bands(path, dataset, variable)
    first, identity = bands[0] - 1, dataset.transform.is_identity
    dtype = np.dtype(dataset.dtypes[first])
    if dtype.kind not in "biuf":
        raise DataError(f"{path}: expected numbers; received {dtype}.")
    if dataset.colorinterp[first].name == "palette":
        raise DataError(f"{path}: holds palette colours. Convert it to grey or RGB.")
    kinds = {"BAG": "bag", "GTiff": "tiff" if identity else "geotiff"}
    plain = "grid" if path.suffix.lower() in GRID_SUFFIXES else kinds["GTiff"]
    transform = None if identity else tuple(dataset.transform)[:6]
    spacing, remark = None, ""
    if transform is not None:
        spacing, remark = affine_spacing(transform, dataset.crs, dataset.shape)
    return RasterioReader(
        path=path,
        kind=kinds.get(dataset.driver, plain),
        shape=dataset.shape,
        dtype=dtype,
        channels=len(bands),
        packing=(dataset.scales[first], dataset.offsets[first]),
        nodata=dataset.nodatavals[first],
        masked={flag.name for flag in dataset.mask_flag_enums[first]} == {"per_dataset"},
        transform=transform,
        crs=dataset.crs,
        delta_m=spacing,
        spacing_remark=remark,
        units=dataset.units[first] or dataset.tags(bands[0]).get("units") or _unit_of(dataset),
        description=dataset.descriptions[first],
        dataset=dataset,
        bands=bands,
    )


def _unit_of(dataset: Any) -> str | None:
    """Return the unit of the vertical axis of the reference system; None if it is the metre."""
    axis = None if dataset.driver == "BAG" else vertical_axis(dataset.crs)
    return axis[2] if axis and metres_per_unit(axis[2]) not in (None, 1.0) else None


def _bands(path: Path, dataset: Any, variable: str | None) -> tuple[int, ...]:
    colours = [colour.name for colour in dataset.colorinterp]
    if variable is not None:
        return (_band_number(path, dataset.count, variable),)
    if dataset.count == 1 or dataset.driver == "BAG" or colours == ["gray", "alpha"]:
        return (1,)
    brightness = {np.dtype(dtype).str[1:] for dtype in dataset.dtypes} <= {"u1", "u2"}
    rgb = colours in (["red", "green", "blue"], ["red", "green", "blue", "alpha"])
    if rgb and brightness:
        return 1, 2, 3
    raise DataError(
        f"{path}: has {dataset.count} bands ({', '.join(colours)}); expected one, or RGB of 8 or "
        f"16 bits. Choose a band with variable: 1 to {dataset.count}."
    )


def _band_number(path: Path, count: int, variable: str) -> int:
    if not re.fullmatch(r"\d+", variable):
        raise DataError(f"{path}: variable must be a band number; received {variable!r}.")
    if not 1 <= int(variable) <= count:
        bands, cure = (
            ("only band 1", "Leave out variable.") if count == 1 else (f"bands 1 to {count}", "")
        )
        raise DataError(f"{path}: has {bands}; received {variable}. {cure}".rstrip())
    return int(variable)


def _rasterio_notes(reader: RasterioReader, variable: str | None) -> list[str]:
    dataset, name = reader.dataset, reader.path
    colours = [colour.name for colour in dataset.colorinterp]
    told = {
        f"{name}: only band {variable} of {dataset.count} is read and written.": (
            variable is not None and dataset.count > 1
        ),
        f"{name}: the alpha channel is dropped.": variable is None and "alpha" in colours,
        f"{name}: ground control points are not copied to the result.": bool(dataset.gcps[0]),
        f"{name}: rational polynomial coefficients are not copied to the result.": bool(
            dataset.rpcs
        ),
        f"{name}: has several pages or layers; only the first is read.": (
            reader.kind in ("geotiff", "tiff") and len(dataset.subdatasets) > 1
        ),
        f"{name}: a BAG of varying resolution; only its coarse grid is read.": (
            dataset.tags().get("HAS_SUPERGRIDS") == "TRUE"
        ),
        _no_reference(reader): not reader.georeferenced,
        f"WARNING: {name} has a transform but no coordinate reference system; the result will "
        f"have none either.": reader.georeferenced and reader.crs is None,
    }
    return [line for line, holds in told.items() if holds]


def _no_reference(reader: MapReader) -> str:
    if reader.is_image:
        return f"{reader.path} has no georeference; it is treated as an image."
    return f"WARNING: {reader.path} has no georeference; the result will have none either."


def _rasterio_hints(reader: RasterioReader) -> dict[str, str]:
    tags, band_tags = reader.dataset.tags(), reader.dataset.tags(reader.bands[0])
    both = {key.lower(): str(value) for key, value in (tags | band_tags).items()}
    hints = {key: both[key] for key in ("positive", "standard_name", "long_name") if key in both}
    hints |= {f"the tag {key}": both[key] for key in ("units",) if key in both}
    spoken = {"the band's units": reader.units, "the band's description": reader.description}
    hints |= {key: text for key, text in spoken.items() if text}
    # A BAG holds heights, whatever the name of its datum.
    return hints if reader.kind == "bag" else hints | _depths_by_system(reader.crs)


# -- S-102 ---------------------------------------------------------------------------------------


def _open_s102(
    path: Path, variable: str | None, time: str | None = None, group: str | None = None
) -> tuple[MapReader, dict[str, str]]:
    from toolbox.io.s102 import open_s102  # imports this module

    _refuse_steps(path, time, None)
    return open_s102(path, variable, group)


# -- NetCDF --------------------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True, eq=False)
class NetcdfReader(MapReader):
    """One variable of a NetCDF file.

    Attributes
    ----------
    dataset : xarray.Dataset
        The open file, times not decoded.
    array : xarray.DataArray
        The variable with its dimensions in the order stored, not loaded.
    dims : (str, str)
        Names of the dimensions of rows and columns.
    axes : (str, str) or None
        Names of the coordinates of rows and columns, usually those of the dimensions.
    curvilinear : (str, str) or None
        Names of the coordinates given for every pixel: latitudes or y, longitudes or x.
    gridline : bool
        Whether the first and last coordinates are declared as the ends of the region.
    limits : (float, float) or None
        Least and greatest unpacked value that the file declares as valid; others are missing.
    outside : int
        Number of values outside `limits` that were read.
    """

    dataset: Any
    array: Any
    dims: tuple[str, str]
    axes: tuple[str, str] | None = None
    curvilinear: tuple[str, str] | None = None
    gridline: bool = False
    limits: tuple[float, float] | None = None
    outside: int = 0

    @property
    def stored_rows(self) -> int:
        """Rows of a chunk."""
        chunks = self.array.encoding.get("preferred_chunks") or {}
        return max(1, int(chunks.get(self.dims[0], 1)))

    @property
    def gappy(self) -> bool:
        """Whether a pixel can be missing at all, limits included."""
        return self.limits is not None or super().gappy

    @property
    def georeferenced(self) -> bool:
        """Whether the file has coordinates of rows and columns, or of every pixel."""
        return (self.axes or self.curvilinear or self.transform) is not None

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()

    def _unpacked(self, rows: slice, columns: slice) -> np.ndarray:
        # Index first and transpose last: a transposed lazy array would be read completely.
        window = dict.fromkeys(self.array.dims, 0) | {self.dims[0]: rows, self.dims[1]: columns}
        try:
            values = self.array.isel(window).transpose(*self.dims).values
        except MemoryError:
            raise
        except Exception as error:  # a damaged file may raise anything, such as RuntimeError
            raise damaged(self.path, error) from None
        if self.limits is None:
            return values
        beyond = (values < self.limits[0]) | (values > self.limits[1])
        self.outside += int(np.count_nonzero(beyond))
        return np.where(beyond, np.float32(np.nan), values)

    def _settle_gaps(self) -> None:
        """Also count the values outside the limits of the file."""
        self.outside = 0
        super()._settle_gaps()
        if self.outside and self.limits is not None:
            low, high = self.limits
            pixels = "pixels are" if self.outside > 1 else "pixel is"
            self.checks.append(
                f"{self.path}: {self.outside} {pixels} outside the range {low:g} to {high:g} that "
                f"the file declares valid (valid_min, valid_max, valid_range), and taken as "
                f"missing."
            )


def _open_netcdf(
    path: Path, variable: str | None, time: str | None = None, group: str | None = None
) -> tuple[MapReader, dict[str, str]]:
    dataset, notes = open_netcdf(path, group)
    with _closing_on_error(dataset.close), _one_line(path):
        helpers = _helper_names(dataset)
        names = [name for name in stacks(dataset) if name not in helpers]
        names = [name for name in names if not in_degrees(dataset[name])] or names
        if variable is None:
            # With `time`, a variable with a time axis is meant; otherwise a single plane is likely.
            fitting = [n for n in names if bool(further_axes(dataset[n])) == (time is not None)]
            names = fitting or names
        name = choose_variable(path, names, variable)
        dataset, step = one_step(path, dataset, name, time)
        reader = _netcdf_reader(path, dataset, name)
        reader.kind = "zarr" if is_zarr(path) else reader.kind
        reader.notes += notes + step + _netcdf_notes(reader)
        return reader, _netcdf_hints(reader)


def _helper_names(dataset: Any) -> set[str]:
    """Return names of variables that only describe others: grid mappings and cell bounds."""
    found = set(_NO_PLANES)
    for variable in dataset.variables.values():
        for key in ("grid_mapping", "bounds"):
            found.add(str({**variable.encoding, **variable.attrs}.get(key, "")))
    return found


def _packing(path: Path, coded: Mapping[str, Any], key: str, default: float) -> float:
    try:
        return float(coded.get(key, default))
    except (TypeError, ValueError):
        raise DataError(
            f"{path}: {key} must be a number; received {coded[key]!r}. Correct this attribute."
        ) from None


def _netcdf_reader(path: Path, dataset: Any, name: str) -> NetcdfReader:
    array = dataset[name]
    plane = array.squeeze()
    dtype, nodata = _stored_type(array)
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: expected numbers in {name}; received {dtype}.")
    dims = (str(plane.dims[0]), str(plane.dims[1]))
    found = tuple(axis_of(dataset, array, dim) for dim in dims)
    if runs_east(dims[0], None if found[0] is None else dataset[found[0]]):
        dims, found, plane = dims[::-1], found[::-1], plane.transpose()
    coded, attrs = array.encoding, array.attrs
    reader = NetcdfReader(
        path=path,
        kind="netcdf",
        shape=plane.shape,
        dtype=dtype,
        packing=(_packing(path, coded, "scale_factor", 1), _packing(path, coded, "add_offset", 0)),
        nodata=nodata,
        name=name,
        units=attrs.get("units"),
        description=attrs.get("long_name"),
        dataset=dataset,
        array=array,
        dims=dims,
    )
    reader.limits, remark = _valid_limits(array, dtype)
    if remark:
        reader.checks.append(f"WARNING: {path}: {remark}")
    if found[0] is not None and found[1] is not None:
        _place_on_axes(reader, (found[0], found[1]))
    elif (both := curvilinear_of(dataset, array, dims)) is not None:
        reader.curvilinear = both
        reader.unplaced = f"has a curvilinear grid ({' and '.join(both)} of every pixel)"
        reader.crs, _ = system_of_plane(dataset, array, both)
        reader.delta_m = curvilinear_spacing(dataset[both[0]], dataset[both[1]], dims)
    elif (numbers := geotransform_of(dataset, array)) is not None:
        _place_by_gdal(reader, numbers)
    return reader


def _place_by_gdal(reader: NetcdfReader, numbers: tuple[float, ...]) -> None:
    """Take the position from GDAL's attribute if there are no coordinates."""
    c, a, b, f, d, e = numbers
    reader.transform = (a, b, c, d, e, f)
    reader.crs, remark = system_of_plane(reader.dataset, reader.array, ())
    if remark:
        reader.notes.append(f"WARNING: {reader.path}: {remark}")
    spacing = affine_spacing(reader.transform, reader.crs, reader.shape)
    reader.delta_m, reader.spacing_remark = spacing


def _place_on_axes(reader: NetcdfReader, axes: tuple[str, str]) -> None:
    """Take the position from the coordinates of rows and columns."""
    dataset = reader.dataset
    reader.axes = axes
    reader.crs, remark = system_of_plane(dataset, reader.array, axes)
    if remark:
        reader.notes.append(f"WARNING: {reader.path}: {remark}")
    y, x = dataset[axes[0]], dataset[axes[1]]
    _settle_system(reader, y, x)
    reader.delta_m, reader.spacing_remark = coordinate_spacing(y, x, reader.crs)
    reader.transform = _coordinate_transform(y, x, reader.crs)
    reader.gridline = _is_gridline(dataset, axes)


def _settle_system(reader: NetcdfReader, y: Any, x: Any) -> None:
    """Drop a reference system if the coordinates cannot be converted to its unit."""
    misfits = [c for c in (y, x) if unit_factor(c, reader.crs) is None]
    if reader.crs is None or not misfits:
        return
    globe = in_degrees(y) and in_degrees(x)
    reader.crs = "EPSG:4326" if globe else None
    cure = (
        "they are taken as latitudes and longitudes of WGS 84"
        if globe
        else "a GeoTIFF or BAG made from it has none, and its pixels are in that unit"
    )
    reader.notes.append(
        f"WARNING: {reader.path}: {' and '.join(str(c.name) for c in misfits)} have the unit "
        f"{str(misfits[0].attrs.get('units', 'degrees'))!r}, which does not fit the file's "
        f"coordinate reference system; {cure}."
    )


def _valid_limits(array: Any, dtype: np.dtype) -> tuple[tuple[float, float] | None, str]:
    """Return the least and largest valid value, unpacked, and a remark if they are unclear.

    References
    ----------
    CF conventions 1.11, sections 2.5.1 and 8.1: limits of packed data have the same type and are
    packed as well. According to the NetCDF User's Guide, limits that are fractions are not.
    """
    attrs, coded = array.attrs, array.encoding
    both = np.ravel(attrs.get("valid_range", ()))
    ends = list(both) if both.size == 2 else [attrs.get("valid_min"), attrs.get("valid_max")]
    ends = [None if end is None else np.ravel(end)[0] for end in ends]
    given = [end for end in ends if end is not None]
    if not given:
        return None, ""
    if any(np.asarray(end).dtype.kind not in "iuf" or np.isnan(end) for end in given):
        return None, "valid_min, valid_max or valid_range is not a number and is ignored."
    scale, offset = float(coded.get("scale_factor", 1.0)), float(coded.get("add_offset", 0.0))
    kinds = {np.asarray(end).dtype for end in given}
    plain = (scale, offset) == (1.0, 0.0)
    packed = not plain and all(
        kind.itemsize == dtype.itemsize and (kind.kind == "f") == (dtype.kind == "f")
        for kind in kinds
    )
    if not (plain or packed or all(kind.kind == "f" for kind in kinds)):
        return None, (
            f"valid_min, valid_max or valid_range has another type than the packed {dtype}, so "
            f"its unit is unclear and it is ignored. Fix the file if values beyond it are missing."
        )
    low = -np.inf if ends[0] is None else float(ends[0])
    high = np.inf if ends[1] is None else float(ends[1])
    if str(coded.get("_Unsigned")).lower() == "true":
        size = 2.0 ** (8 * dtype.itemsize)
        low, high = (end % size if np.isfinite(end) else end for end in (low, high))
    if packed:
        low, high = sorted((low * scale + offset, high * scale + offset))
        # Half a step of margin, so that rounding does not matter.
        low, high = low - abs(scale) / 2, high + abs(scale) / 2
    elif array.dtype == np.float32:
        low, high = float(np.float32(low)), float(np.float32(high))
    return (low, high), ""


def _stored_type(array: Any) -> tuple[np.dtype, float | None]:
    """Return data type and fill value; the old attribute for "unsigned" gives an unsigned type."""
    coded = array.encoding
    dtype = np.dtype(coded.get("dtype", array.dtype))
    mark = coded.get("_FillValue", coded.get("missing_value"))
    nodata = None if mark is None else float(np.ravel(mark)[0])
    if dtype.kind == "i" and str(coded.get("_Unsigned")).lower() == "true":
        dtype = np.dtype(f"u{dtype.itemsize}")
        nodata = None if nodata is None else nodata % 2 ** (8 * dtype.itemsize)
    return dtype, nodata


def _coordinate_transform(y: Any, x: Any, crs: Any) -> Transform | None:
    """Return the transform of outer edges, in the unit of the system; None if uneven."""
    steps, starts = [], []
    for coordinate in (y, x):
        centres = coordinate.values.astype(np.float64)
        centres = unrolled(centres) if in_degrees(coordinate) else centres
        centres = centres * (unit_factor(coordinate, crs) or 1.0)
        step = even_step(centres)
        if step is None:
            return None
        steps.append(step)
        starts.append(float(centres[0]) - step / 2)
    return steps[1], 0.0, starts[1], 0.0, steps[0], starts[0]


def _is_gridline(dataset: Any, dims: tuple[str, str]) -> bool:
    """Whether GMT's gridline registration is used: nodes on the ends of the region."""
    if "node_offset" in dataset.attrs:
        return int(np.ravel(dataset.attrs["node_offset"])[0]) == 0
    return all(_ends_on_nodes(dataset[dim]) for dim in dims)


def _ends_on_nodes(coordinate: Any) -> bool:
    limits = np.ravel(coordinate.attrs.get("actual_range", ()))
    first, second, last = (float(coordinate.values[i]) for i in (0, 1, -1))
    near = 1e-3 * abs(second - first)
    return limits.size == 2 and np.allclose(limits, sorted((first, last)), rtol=0, atol=near)


def _netcdf_notes(reader: NetcdfReader) -> list[str]:
    uneven = reader.georeferenced and reader.transform is None
    warned = any("coordinate reference system" in note for note in reader.notes)
    told = {
        f"WARNING: {reader.path}: does not name its coordinate reference system, so a GeoTIFF or "
        f"BAG made from it has none.": reader.georeferenced and reader.crs is None and not warned,
        _no_reference(reader): not reader.georeferenced,
        f"{reader.path}: {' and '.join(reader.axes or reader.dims)} are not evenly spaced; those "
        f"of the result are interpolated between them.": uneven and reader.axes is not None,
        f"{reader.path}: {reader.unplaced}; that of the result is interpolated. Only a .nc file "
        f"can hold such a grid.": reader.curvilinear is not None,
        f"{reader.path}: gridline registration (nodes on the ends of the region). The result has "
        f"pixel registration (node_offset = 1) and covers the cells around the nodes, half a "
        f"spacing beyond the outer ones.": reader.gridline,
    }
    return [line for line, holds in told.items() if holds]


def _netcdf_hints(reader: NetcdfReader) -> dict[str, str]:
    keys = ("positive", "standard_name", "units", "long_name", "comment", "description")
    attrs = {key: str(reader.array.attrs[key]) for key in keys if key in reader.array.attrs}
    return attrs | {"the variable's name": str(reader.name)} | _depths_by_system(reader.crs)


# -- Arrays and images ---------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True, eq=False)
class ArrayReader(MapReader):
    """An array (H, W) or (H, W, C), in memory or mapped from a file.

    Attributes
    ----------
    array : numpy.ndarray
        The values.
    """

    array: np.ndarray

    def close(self) -> None:
        """Release the array."""
        self.array = self.array[:0, :0].copy()

    def _unpacked(self, rows: slice, columns: slice) -> np.ndarray:
        return self.array[rows, columns]


def _array_reader(
    path: Path, kind: str, array: np.ndarray, variable: str | None
) -> tuple[ArrayReader, dict[str, str]]:
    if variable is not None and kind != "npz":
        raise DataError(
            f"{path}: a .{kind} file has no variables; received {variable!r}. Leave out variable."
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected numbers; received {array.dtype}.")
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] > 4:
        array = array[0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise DataError(
            f"{path}: expected one map (H, W) or image (H, W, C) with at most 4 channels; received "
            f"shape {array.shape}. Save each map or image of a stack (N, H, W) as its own file."
        )
    shape, channels = (array.shape[0], array.shape[1]), 1 if array.ndim == 2 else array.shape[2]
    reader = ArrayReader(
        path=path, kind=kind, shape=shape, dtype=array.dtype, channels=channels, array=array
    )
    return reader, {}


def _open_npy(path: Path, variable: str | None) -> tuple[MapReader, dict[str, str]]:
    return _array_reader(path, "npy", mapped_array(path), variable)


def _open_npz(path: Path, variable: str | None) -> tuple[MapReader, dict[str, str]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = [name for name in archive.files if archive[name].ndim == 2]
            name = choose_variable(path, names, variable)
            array = archive[name]
            delta_m = archive_spacing(archive)
    except (ToolboxError, MemoryError):
        raise
    except Exception as error:  # a damaged archive may raise anything, such as zlib.error
        raise damaged_archive(path, ".npz archive", error) from None
    reader, _ = _array_reader(path, "npz", array, variable)
    reader.delta_m = delta_m
    return reader, {"the array's name": name}


def _open_pickle(path: Path, variable: str | None) -> tuple[MapReader, dict[str, str]]:
    return _array_reader(path, "pkl", load_array(path), variable)


def _open_image(path: Path, variable: str | None) -> tuple[MapReader, dict[str, str]]:
    from toolbox.opencv import cv2

    content = np.fromfile(path, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None:
        raise unreadable(path, "an image")
    alpha = image.ndim == 3 and image.shape[2] == 4
    if image.ndim == 3:
        image = image[..., 2::-1] if image.shape[2] >= 3 else image[..., :1]
    kind = path.suffix.lower().lstrip(".").replace("jpeg", "jpg")
    reader, hints = _array_reader(path, kind, image, variable)
    if alpha:
        reader.notes.append(f"{path}: the alpha channel is dropped.")
    return reader, hints


_OPENERS: dict[str, Callable[[Path, str | None], tuple[MapReader, dict[str, str]]]] = {
    ".tif": _open_rasterio,
    ".tiff": _open_rasterio,
    ".bag": _open_rasterio,
    ".asc": _open_rasterio,
    ".grd": _open_grid,
    ".nc": _open_netcdf,
    ".zarr": _open_netcdf,
    **dict.fromkeys(S102_SUFFIXES, _open_s102),
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".pkl": _open_pickle,
    ".png": _open_image,
    ".jpg": _open_image,
    ".jpeg": _open_image,
    ".bmp": _open_image,
}

#: Suffixes of the files that `open_map` reads.
SUFFIXES = tuple(_OPENERS)
#: Those of them that are not pictures.
MAP_SUFFIXES = tuple(suffix for suffix, opener in _OPENERS.items() if opener is not _open_image)
