"""Spacing of a grid in metres, and the coordinates of a finer one."""

from __future__ import annotations

from typing import Any

import numpy as np

METRES_PER_DEGREE = 111_319.49  # WGS 84, along the equator


def spacing_m(rows_deg: float, columns_deg: float, latitude_deg: float) -> tuple[float, float]:
    """Convert a spacing in degrees to metres at a latitude (sphere, 0.5 % accurate)."""
    return (
        abs(rows_deg) * METRES_PER_DEGREE,
        abs(columns_deg) * METRES_PER_DEGREE * float(np.cos(np.radians(latitude_deg))),
    )


def affine_spacing(dataset: Any) -> tuple[float, float] | None:
    """Return the spacing of a rasterio dataset (rows, columns), metres; None without a CRS."""
    matrix = dataset.transform  # a rotated grid has its spacing in both columns of the matrix
    columns, rows = np.hypot(matrix.a, matrix.d), np.hypot(matrix.b, matrix.e)
    if dataset.crs is None:
        return None
    if dataset.crs.is_geographic:
        return spacing_m(rows, columns, (dataset.bounds.top + dataset.bounds.bottom) / 2)
    metres = dataset.crs.linear_units_factor[1]
    return rows * metres, columns * metres


def coordinate_spacing(array: Any) -> tuple[float, float] | None:
    """Return the spacing of a DataArray (rows, columns), metres; None without coordinates."""
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


def archive_spacing(archive: Any) -> tuple[float, float] | None:
    """Return the spacing of an open ``.npz`` file (rows, columns), metres; None if not in it."""
    if {"dx", "dy", "ymin", "ymax"} <= set(archive.files):
        latitude = (float(archive["ymin"]) + float(archive["ymax"])) / 2
        return spacing_m(float(archive["dy"]), float(archive["dx"]), latitude)
    if {"longitude", "latitude"} <= set(archive.files):
        latitudes, longitudes = archive["latitude"], archive["longitude"]
        dy, dx = np.diff(latitudes).mean(), np.diff(longitudes).mean()
        return spacing_m(float(dy), float(dx), float(latitudes.mean()))
    return None


def even_step(centres: np.ndarray) -> float | None:
    """Return the spacing of coordinates (N,), or None if they are not evenly spaced."""
    step = float(centres[-1] - centres[0]) / (centres.size - 1)
    even = centres[0] + step * np.arange(centres.size)
    # Coordinates in float32 are off by some hundredths of a fine spacing.
    return step if step and np.abs(centres - even).max() <= 0.05 * abs(step) else None


def refined(coordinate: np.ndarray, scale: int) -> np.ndarray:
    """Return the centres of pixels `scale` times as fine.

    Parameters
    ----------
    coordinate : numpy.ndarray, shape (n,)
        Centres of two pixels or more, ascending or descending. Evenly spaced ones give
        ``x0 + dx ((i + 1/2) / scale - 1/2)``; between others the finer ones are interpolated.
    scale : int
        Enlargement factor.

    Returns
    -------
    numpy.ndarray, shape (n * scale,), float64
        The outer edges of the first and the last pixel stay where they are.
    """
    centres = np.asarray(coordinate, np.float64)
    if centres.ndim != 1 or centres.size < 2:
        raise ValueError(f"two centres or more are needed to divide; received {centres.shape}")
    if np.abs(np.diff(centres)).max() > 180 and np.abs(centres).max() <= 360:
        # Longitudes that start anew at 0 or -180: divided as if they went on, then turned back.
        low = -180.0 if centres.min() < 0 else 0.0
        return (refined(np.unwrap(centres, period=360), scale) - low) % 360 + low
    place = (np.arange(centres.size * scale) + 0.5) / scale - 0.5
    if (step := even_step(centres)) is not None:
        return centres[0] + step * place
    left = np.clip(np.floor(place).astype(int), 0, centres.size - 2)
    return centres[left] + (place - left) * (centres[left + 1] - centres[left])
