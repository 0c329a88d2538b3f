"""Terrain features of depth maps: slope, mean slope gradient (MSG), relief, and tables of them."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from toolbox.io.tables import write_table
from toolbox.spectrum import Spacing, pair_of

#: Limits of the slope classes of the manual, m/m.
SLOPE_CLASSES: tuple[tuple[float, float], ...] = ((0.0, 0.05), (0.05, 0.1), (0.1, np.inf))


def spacing_text(delta_m: Spacing) -> str:
    """Format a grid spacing: ``50 m`` or ``92.77 × 74.48 m``."""
    if isinstance(delta_m, tuple):
        return f"{delta_m[0]:.4g} × {delta_m[1]:.4g} m"
    return f"{delta_m:.4g} m"


def class_name(low: float, high: float) -> str:
    """Name a slope class as the manual's files do: ``0-0.05``, ``0.05-0.1``, ``0.1-``."""
    return f"{low:g}-" + ("" if np.isinf(high) else f"{high:g}")


def slope(imgs: np.ndarray, delta_m: Spacing) -> np.ndarray:
    """Return the slope of every pixel that has all its neighbours.

    ``sx = (sum of the row below - sum of the row above) / (6 delta)``, ``sy`` the same over
    columns, ``s = sqrt(sx² + sy²)``: the plane fitted to 3 × 3 pixels.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1) or (H, W)
        Elevation in metres.
    delta_m : float or (float, float)
        Grid spacing in metres; a pair is (between rows, between columns).

    Returns
    -------
    numpy.ndarray, shape (..., H - 2, W - 2), float64
        Slope in m/m, never negative; NaN next to missing pixels.
    """
    h = np.asarray(imgs, dtype=np.float64)
    if h.ndim == 4:
        h = h[..., 0]
    sx, sy = gradient(*row_sums(h), delta_m)
    return np.hypot(sx, sy)


def row_sums(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of three neighbours along rows (..., H, W - 2) and columns (..., H - 2, W)."""
    across = h[..., :, :-2] + h[..., :, 1:-1] + h[..., :, 2:]
    down = h[..., :-2, :] + h[..., 1:-1, :] + h[..., 2:, :]
    return across, down


def gradient(
    across: np.ndarray, down: np.ndarray, delta_m: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of the plane fitted to 3 × 3 pixels: along rows, along columns, m/m.

    Parameters
    ----------
    across, down : numpy.ndarray
        `row_sums` of elevation, metres.
    delta_m : float or (float, float)
        Grid spacing in metres (rows, columns).
    """
    row_m, column_m = pair_of(delta_m)
    return (
        (across[..., 2:, :] - across[..., :-2, :]) / (6 * row_m),
        (down[..., :, 2:] - down[..., :, :-2]) / (6 * column_m),
    )


def mean_slope_gradient(
    imgs: np.ndarray, delta_m: Spacing, count_border: bool = False
) -> np.ndarray:
    """Return the mean slope gradient (MSG) of each image.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1) or (H, W)
        Elevation in metres.
    delta_m : float or (float, float)
        Grid spacing in metres (rows, columns).
    count_border : bool
        Count the border pixels, which have no slope, as 0. The mean of a 64² image is then
        multiplied by 0.938, and that of a 16² image by 0.766. Only for comparison with old tables.

    Returns
    -------
    numpy.ndarray, shape (N,) or ()
        MSG in m/m. LR and HR values of the same place are not interchangeable.
    """
    slopes = slope(imgs, delta_m)
    mean = slopes.mean(axis=(-2, -1))
    if count_border:
        inner_h, inner_w = slopes.shape[-2:]
        mean = mean * (inner_h * inner_w) / ((inner_h + 2) * (inner_w + 2))
    return mean


def feature_table(imgs: np.ndarray, delta_m: Spacing, normalized_column: bool) -> pd.DataFrame:
    """Tabulate the manual's features of a stack of images.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1)
        Elevation in metres, negative below sea level.
    delta_m : float or (float, float)
        Grid spacing in metres.
    normalized_column : bool
        Add ``normalized_mean_slope_gradient``, the MSG scaled to 0..1 (the LR table has it).

    Returns
    -------
    pandas.DataFrame
        Columns ``index, mean_slope_gradient`` (m/m), ``altitude_difference`` (m),
        ``mean_altitude`` (m), ``mean_slope_gradient_norm_data`` (MSG of the images scaled to 0..1
        by their common minimum and maximum).
    """
    stack = imgs[..., 0] if imgs.ndim == 4 else imgs
    low, high = float(np.nanmin(stack)), float(np.nanmax(stack))
    span = (high - low) or 1.0
    msg = mean_slope_gradient(stack, delta_m)
    table = pd.DataFrame(
        {
            "index": np.arange(len(stack)),
            "mean_slope_gradient": msg,
            "altitude_difference": stack.max(axis=(1, 2)) - stack.min(axis=(1, 2)),
            "mean_altitude": stack.mean(axis=(1, 2), dtype=np.float64),
            # Slope is linear in height, so scaling the data scales it.
            "mean_slope_gradient_norm_data": msg / span,
        }
    )
    if normalized_column:
        reach = (np.nanmax(msg) - np.nanmin(msg)) or 1.0
        table["normalized_mean_slope_gradient"] = (msg - np.nanmin(msg)) / reach
    return table


def write_feature_csv(
    imgs: np.ndarray, delta_m: Spacing, path: str | os.PathLike[str], normalized_column: bool
) -> pd.DataFrame:
    """Write `feature_table` as CSV; parameters as in `feature_table`.

    Returns
    -------
    pandas.DataFrame
        The table that was written.
    """
    table = feature_table(imgs, delta_m, normalized_column)
    write_table(table, path)
    return table
