"""Rasters in: GeoTIFF, BAG, NetCDF, .npy, .npz and .pkl become metres with NaN gaps."""

from __future__ import annotations

import dataclasses
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError, did_you_mean
from toolbox.io.safe_pickle import load_array

METRES_PER_DEGREE = 111_319.49  # WGS 84, along the equator
SAMPLE_PREFIX = "sample:"


@dataclasses.dataclass
class Raster:
    """One band of a map.

    Attributes
    ----------
    values : numpy.ndarray, shape (H, W), float32
        Elevation in metres, negative below sea level; NaN where missing.
    delta_m : (float, float) or None
        Grid spacing in metres (between rows, between columns); None if the file does not say.
    """

    values: np.ndarray
    delta_m: tuple[float, float] | None = None


def read_raster(
    fname: str | os.PathLike[str],
    variable: str | None = None,
    nodata: float | None = None,
    positive: str = "up",
) -> Raster:
    """Read a map from any supported file.

    Parameters
    ----------
    fname : path-like
        ``.tif .tiff .bag`` (rasterio), ``.nc`` (xarray), ``.npy .npz .pkl`` (NumPy), or
        ``sample:NAME.npz`` for an elevation model that ships inside Matplotlib.
    variable : str, optional
        Variable of a NetCDF or npz file, or band number of a GeoTIFF; detected if there is only
        one candidate.
    nodata : float, optional
        Value that means "missing", besides the file's own and NaN.
    positive : {'up', 'down'}
        Whether the file counts heights (elevation) or depths upwards from zero.

    Returns
    -------
    Raster
        Elevation, positive up.

    Raises
    ------
    DataError
        If the file is missing, unreadable, not a plane of numbers, or all missing.
    """
    path = _find(fname)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{fname}: unknown kind of raster {path.suffix!r}. "
            f"Expected one of {', '.join(sorted(_READERS))}."
        )
    raster = reader(path, variable)
    values = np.squeeze(raster.values)
    if values.ndim != 2:
        raise DataError(f"{fname}: expected one plane (H, W); received shape {values.shape}.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{fname}: expected numbers; received {values.dtype}.")
    values = values.astype(np.float32)
    if nodata is not None:
        values[values == np.float32(nodata)] = np.nan
    values[np.isinf(values)] = np.nan
    if np.isnan(values).all():
        raise DataError(
            f"{fname}: every pixel is missing (NaN or nodata); there is nothing to use."
        )
    if positive == "down":
        values = -values
    return Raster(values, raster.delta_m)


def _find(fname: str | os.PathLike[str]) -> Path:
    name = os.fspath(fname)
    if not name.startswith(SAMPLE_PREFIX):
        if not Path(name).is_file():
            raise DataError(f"{name}: no such file. Name an existing raster.")
        return Path(name)
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "sample_data"
    path = folder / name.removeprefix(SAMPLE_PREFIX)
    if path.parent != folder or not path.is_file():
        known = [p.name for p in folder.glob("*.npz")]
        raise DataError(f"{name}: no such sample. {did_you_mean(path.name, known)}")
    return path


def spacing_m(rows_deg: float, columns_deg: float, latitude_deg: float) -> tuple[float, float]:
    """Convert a spacing in degrees to metres at a latitude (sphere, 0.5 % accurate)."""
    return (
        abs(rows_deg) * METRES_PER_DEGREE,
        abs(columns_deg) * METRES_PER_DEGREE * float(np.cos(np.radians(latitude_deg))),
    )


def _read_rasterio(path: Path, variable: str | None) -> Raster:
    try:
        import rasterio
    except ImportError:
        raise MissingLibraryError(
            f"{path}: reading {path.suffix} needs rasterio. Run: pip install 'sr-toolbox[geo]' "
            f"(or pip install rasterio)."
        ) from None
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    try:
        with warnings.catch_warnings():
            # Without a georeference the spacing is unknown, which is no fault of the pixels.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return _read_band(path, rasterio.open(path), variable)
    except ValueError:
        raise DataError(f"{path}: variable must be a band number; received {variable!r}.") from None
    except RasterioIOError as error:
        raise DataError(f"{path}: cannot be read as a raster ({error}).") from None


def _read_band(path: Path, opened: Any, variable: str | None) -> Raster:
    with opened as dataset:
        band = int(variable) if variable else 1
        if not 1 <= band <= dataset.count:
            raise DataError(f"{path}: has bands 1 to {dataset.count}; received {band}.")
        with np.errstate(over="ignore"):  # nodata may be too large for float32
            values = dataset.read(band, masked=True).astype(np.float32).filled(np.nan)
        values = values * dataset.scales[band - 1] + dataset.offsets[band - 1]
        return Raster(values, _affine_spacing(dataset))


def _affine_spacing(dataset: Any) -> tuple[float, float] | None:
    matrix = dataset.transform  # a rotated grid has its spacing in both columns of the matrix
    columns, rows = np.hypot(matrix.a, matrix.d), np.hypot(matrix.b, matrix.e)
    if dataset.crs is None:
        return None
    if dataset.crs.is_geographic:
        return spacing_m(rows, columns, (dataset.bounds.top + dataset.bounds.bottom) / 2)
    metres = dataset.crs.linear_units_factor[1]
    return rows * metres, columns * metres


def _read_netcdf(path: Path, variable: str | None) -> Raster:
    try:
        import xarray
    except ImportError:
        raise MissingLibraryError(
            f"{path}: reading NetCDF needs xarray and h5netcdf. Run: pip install 'sr-toolbox[geo]'."
        ) from None
    try:
        with xarray.open_dataset(path) as dataset:
            array = _rows_first(dataset[_choose(path, _planes(dataset), variable)].load())
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as NetCDF ({first}).") from None
    return Raster(array.values, _coordinate_spacing(array))


def _rows_first(array: Any) -> Any:
    """Turn a plane stored as (longitude, latitude) or (x, y) round."""
    plane = array.squeeze()
    first = str(plane.dims[0]).lower()
    return plane.transpose() if first.startswith(("lon", "x", "east")) else plane


def _planes(dataset: Any) -> list[str]:
    return [str(name) for name in dataset.data_vars if dataset[name].squeeze().ndim == 2]


def _choose(path: Path, names: list[str], variable: str | None) -> str:
    if variable is None and len(names) == 1:
        return names[0]
    if variable in names:
        return variable  # type: ignore[return-value]
    received = "none" if variable is None else repr(variable)
    raise DataError(
        f"{path}: variable must be one of {', '.join(names) or '(it holds no plane)'}; "
        f"received {received}. Add a line 'variable: ...'."
    )


def _coordinate_spacing(array: Any) -> tuple[float, float] | None:
    rows, columns = array.squeeze().dims
    if rows not in array.coords or columns not in array.coords:
        return None
    y, x = array[rows].values, array[columns].values
    dy, dx = float(np.median(np.diff(y))), float(np.median(np.diff(x)))
    units = str(array[rows].attrs.get("units", "")).lower()
    plausible_degrees = np.abs(y).max() <= 90 and np.abs(x).max() <= 360 and abs(dy) < 1
    if units.startswith("degree") or (not units and plausible_degrees):
        return spacing_m(dy, dx, float(y.mean()))
    metres = 1000.0 if units in ("km", "kilometre", "kilometres", "kilometer") else 1.0
    return abs(dy) * metres, abs(dx) * metres


def _read_npz(path: Path, variable: str | None) -> Raster:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            planes = [name for name in archive.files if archive[name].ndim == 2]
            values = archive[_choose(path, planes, variable)]
            return Raster(values, _npz_spacing(archive))
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a plain .npz archive ({error}).") from None


def _npz_spacing(archive: Any) -> tuple[float, float] | None:
    if {"dx", "dy", "ymin", "ymax"} <= set(archive.files):
        latitude = (float(archive["ymin"]) + float(archive["ymax"])) / 2
        return spacing_m(float(archive["dy"]), float(archive["dx"]), latitude)
    if {"longitude", "latitude"} <= set(archive.files):
        latitudes, longitudes = archive["latitude"], archive["longitude"]
        dy, dx = np.diff(latitudes).mean(), np.diff(longitudes).mean()
        return spacing_m(float(dy), float(dx), float(latitudes.mean()))
    return None


def _read_npy(path: Path, variable: str | None) -> Raster:
    try:
        with open(path, "rb") as stream:
            return Raster(np.lib.format.read_array(stream, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a plain .npy array ({error}).") from None


def _read_pickle(path: Path, variable: str | None) -> Raster:
    return Raster(load_array(path))


_READERS = {
    ".tif": _read_rasterio,
    ".tiff": _read_rasterio,
    ".bag": _read_rasterio,
    ".nc": _read_netcdf,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pkl": _read_pickle,
}
