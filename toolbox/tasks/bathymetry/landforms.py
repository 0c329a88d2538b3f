"""Errors of the landforms of an enlarged map: slope, aspect, curvature, ridges and channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from toolbox.spectrum import Spacing, pair_of
from toolbox.tasks.bathymetry.terrain import gradient, row_sums

#: Columns of `landform_table`.
SUMS = ("slope", "aspect", "curvature", "line", "pixels", "weight", "line_pixels")
#: Columns of `landform_figures`.
LANDFORMS = ("slope_rmse", "aspect_error_deg", "curvature_rmse_per_m", "line_error_m")
#: Share of a map's pixels whose curvature is too weak for a line.
_WEAK = 0.9
_CHUNK = 256


class Surface(NamedTuple):
    """Derivatives of the quadratic surface fitted to 3 × 3 pixels, each (N, H - 2, W - 2).

    Attributes
    ----------
    y, x : numpy.ndarray
        First derivatives, downwards across the rows and to the right across the columns, m/m.
    yy, xx, xy : numpy.ndarray
        Second derivatives, 1/m.
    """

    y: np.ndarray
    x: np.ndarray
    yy: np.ndarray
    xx: np.ndarray
    xy: np.ndarray


def surface(imgs: np.ndarray, delta_m: Spacing) -> Surface:
    """Fit a quadratic surface to the 3 × 3 pixels around every inner pixel, by least squares.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W)
        Elevation, metres.
    delta_m : float or (float, float)
        Grid spacing in metres (rows, columns).

    References
    ----------
    .. [1] Evans (1980), An integrated system of terrain analysis and slope mapping, Zeitschrift
       für Geomorphologie, Supplement 36, 274-295.
    """
    z = imgs.astype(np.float64)
    dy, dx = pair_of(delta_m)
    across, down = row_sums(z)
    along_y, along_x = gradient(across, down, delta_m)
    corners = z[:, 2:, 2:] - z[:, 2:, :-2] - z[:, :-2, 2:] + z[:, :-2, :-2]
    return Surface(
        y=along_y,
        x=along_x,
        yy=(across[:, 2:] - 2 * across[:, 1:-1] + across[:, :-2]) / (3 * dy**2),
        xx=(down[..., 2:] - 2 * down[..., 1:-1] + down[..., :-2]) / (3 * dx**2),
        xy=corners / (4 * dy * dx),
    )


def _across(s: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the strongest curvature (1/m) and its direction (y, x), each (N, H, W)."""
    mean, half = (s.yy + s.xx) / 2, (s.yy - s.xx) / 2
    reach = np.hypot(half, s.xy)
    strongest = mean + np.where(mean < 0, -reach, reach)
    # Eigenvector of [[yy, xy], [xy, xx]], by the half angle.
    angle = np.arctan2(s.xy, half) / 2 + np.where(mean < 0, np.pi / 2, 0)
    return strongest, np.cos(angle), np.sin(angle)


def line_strength_per_m(imgs: np.ndarray, delta_m: Spacing) -> float:
    """Return the curvature, 1/m, that a tenth of the pixels of maps (N, H, W) exceed."""
    step = max(1, len(imgs) // _CHUNK)
    strongest = np.abs(_across(surface(imgs[::step], delta_m))[0])
    return float(np.quantile(strongest, _WEAK)) if strongest.size else 0.0


def lines(s: Surface, delta_m: Spacing, strength_per_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Find ridge and channel lines.

    A pixel is on a ridge if the crest of the surface is inside the pixel: the first derivative
    along the strongest curvature vanishes within half a pixel, and that curvature is negative and
    stronger than `strength_per_m` [1]_. Channels are ridges of the inverted map.

    Parameters
    ----------
    s : Surface
        Surfaces of the maps.
    delta_m : float or (float, float)
        Grid spacing in metres (rows, columns).
    strength_per_m : float
        `line_strength_per_m` of the maps.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray), shape (N, H, W), bool
        Ridges and channels.

    References
    ----------
    .. [1] Steger (1998), An Unbiased Detector of Curvilinear Structures, IEEE Transactions on
       Pattern Analysis and Machine Intelligence 20 (2), 113-125.
    """
    dy, dx = pair_of(delta_m)
    curvature, along_y, along_x = _across(s)
    strong = np.abs(curvature) > strength_per_m
    way = np.zeros_like(curvature)
    np.divide(-(s.y * along_y + s.x * along_x), curvature, out=way, where=strong)
    crest = strong & (np.abs(way * along_y) <= dy / 2) & (np.abs(way * along_x) <= dx / 2)
    return crest & (curvature < 0), crest & (curvature > 0)


def landform_table(
    truth: np.ndarray, result: np.ndarray, delta_m: Spacing, far_m: float
) -> pd.DataFrame:
    """Sum the errors of form of each image.

    Parameters
    ----------
    truth, result : numpy.ndarray, shape (N, H, W)
        Elevation, metres.
    delta_m : float or (float, float)
        Grid spacing in metres (rows, columns).
    far_m : float
        Largest distance between lines, metres; it is also used where an image has no line.

    Returns
    -------
    pandas.DataFrame
        `SUMS` of each image: squared errors of slope and Laplacian over ``pixels``; angles between
        the directions of slope, degrees, times the truth's slope, over ``weight``; distances in
        metres from each pixel of a line to the nearest one of the same kind in the other map, in
        both directions, over ``line_pixels``.
    """
    # Each map has its own limit: a smooth map has the same lines, but flatter ones.
    strengths = [line_strength_per_m(imgs, delta_m) for imgs in (truth, result)]
    parts = []
    for start in range(0, len(truth), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        true, own = surface(truth[chunk], delta_m), surface(result[chunk], delta_m)
        steep, found = np.hypot(true.y, true.x), np.hypot(own.y, own.x)
        turn = np.arctan2(true.y * own.x - true.x * own.y, true.y * own.y + true.x * own.x)
        marked = [
            lines(s, delta_m, strength) for s, strength in zip((true, own), strengths, strict=True)
        ]
        distance, count = _line_distances(marked[0], marked[1], delta_m, far_m)
        columns = (
            (found - steep) ** 2,
            np.degrees(np.abs(turn)) * steep,
            (own.yy + own.xx - true.yy - true.xx) ** 2,
            distance,
            np.ones_like(steep),
            steep,
            count,
        )
        parts.append(np.stack([c.sum(axis=(1, 2)) for c in columns], axis=1))
    return pd.DataFrame(np.concatenate(parts), columns=list(SUMS))


def _line_distances(
    true: tuple[np.ndarray, np.ndarray],
    own: tuple[np.ndarray, np.ndarray],
    delta_m: Spacing,
    far_m: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum over both kinds of lines and both directions; return metres and pixels of lines."""
    distance, count = np.zeros(true[0].shape), np.zeros(true[0].shape)
    for first, second in zip(true, own, strict=True):
        for here, there in ((first, second), (second, first)):
            distance += np.where(here, _distance_m(there, delta_m, far_m), 0.0)
            count += here
    return distance, count


def _distance_m(marked: np.ndarray, delta_m: Spacing, far_m: float) -> np.ndarray:
    """Return the distance to the nearest marked pixel of the same image, metres, at most `far_m`.

    The images are stacked with enough distance between them that one transform serves all.
    """
    dy, dx = pair_of(delta_m)
    count, rows, columns = marked.shape
    apart = int(far_m / dy) + 1
    free = np.ones((count, rows + apart, columns), bool)
    free[:, :rows] = ~marked
    # Without a marked pixel the transform has nothing to measure from.
    if free.all():
        return np.full(marked.shape, far_m)
    far = ndimage.distance_transform_edt(free.reshape(-1, columns), sampling=(dy, dx))
    return np.minimum(far.reshape(free.shape)[:, :rows], far_m)


def landform_figures(table: pd.DataFrame) -> pd.DataFrame:
    """Convert sums into mean errors.

    Parameters
    ----------
    table : pandas.DataFrame
        `SUMS` of one image, or summed over images, in every row.

    Returns
    -------
    pandas.DataFrame
        `LANDFORMS`: RMSE of the slope (m/m), mean angle between the directions of slope (degrees,
        weighted by the truth's slope), RMSE of the Laplacian (1/m), mean distance between ridge
        and channel lines (m); NaN without pixels, slope or lines.
    """
    pixels, weight, count = (table[n].where(table[n] > 0) for n in SUMS[4:])
    columns = (
        np.sqrt(table["slope"] / pixels),
        table["aspect"] / weight,
        np.sqrt(table["curvature"] / pixels),
        table["line"] / count,
    )
    return pd.DataFrame(dict(zip(LANDFORMS, columns, strict=True)))
