"""Find and measure discs and holes. No TensorFlow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from toolbox.tasks.sem.metrology import THRESHOLD


class Disc(NamedTuple):
    """A round particle.

    Attributes
    ----------
    row, column : float
        Centre, pixels.
    radius_px : float
        Mean distance of its edge from the centre, pixels.
    """

    row: float
    column: float
    radius_px: float


class Hole(Disc):
    """A disc that is darker than its surroundings."""


#: Number of directions in which the edge of a disc is sought.
_ANGLES = 180
#: Smallest share of the directions that must show an edge.
_LEAST_SEEN = 0.75
#: Largest standard deviation of the radius of a disc, as a share of the radius.
_MOST_UNROUND = 0.06
#: The same for means over 30 degrees, which contain little noise.
_MOST_UNROUND_SECTORS = 0.04


def find_discs(image: np.ndarray, least_radius_px: float = 12.0, dark: bool = False) -> list[Disc]:
    """Find discs that are completely inside a picture with little noise.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.
    least_radius_px : float
        Smaller discs are left out.
    dark : bool
        Find holes, which are darker than their surroundings, instead of bright discs.

    Returns
    -------
    list of Disc
        From top to bottom; `Hole` objects if `dark`.
    """
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu

    calm = ndimage.gaussian_filter(np.asarray(image, np.float64), 2)
    if not np.ptp(calm) > 0:
        return []
    # Otsu's level depends on the picture, so a hole is the same disc in the negative.
    depth = ndimage.distance_transform_edt((calm > threshold_otsu(calm)) != dark)
    peaks = peak_local_max(depth, min_distance=int(least_radius_px), threshold_abs=least_radius_px)
    kind = Hole if dark else Disc
    found = [kind(float(r), float(c), float(depth[r, c])) for r, c in peaks]
    inside = [d for d in found if _is_inside(d, calm.shape)]
    measured = [measure_disc(calm, disc) for disc in inside]
    return sorted(disc for disc in measured if disc is not None)


def edge_reach(radius_px: float | np.ndarray) -> np.ndarray:
    """Return how far from the edge of a disc profiles reach, pixels."""
    return np.clip(0.35 * np.asarray(radius_px), 3, 12)


def _is_inside(disc: Disc, shape: tuple[int, ...]) -> bool:
    room = disc.radius_px + 4
    return room <= disc.row < shape[0] - room and room <= disc.column < shape[1] - room


def measure_disc(image: np.ndarray, disc: Disc, threshold: float = THRESHOLD) -> Disc | None:
    """Measure a disc at its known place, like `trace_disc`, without returning its edge."""
    traced = trace_disc(image, disc, threshold)
    return None if traced is None else traced[0]


def trace_disc(
    image: np.ndarray, disc: Disc, threshold: float = THRESHOLD
) -> tuple[Disc, np.ndarray] | None:
    """Measure a disc and its edge at its known place.

    In each of 180 directions, the edge is where the picture falls through the threshold between
    the minimum outside and the maximum inside of the mean radial profile. For a hole, it is where
    the picture rises through the threshold between minimum inside and maximum outside. A circle is
    fitted to these places (Kåsa 1976, doi:10.1109/TIM.1976.6312298).

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.
    disc : Disc
        Approximate place and radius.
    threshold : float
        Between 0, the minimum, and 1, the maximum.

    Returns
    -------
    (Disc, numpy.ndarray) or None
        The disc, of the same class as `disc`, and the distances of its edge from its centre in the
        directions that show it, pixels. None if it has no clear edge or is not round.
    """
    image = np.asarray(image, np.float64)
    if isinstance(disc, Hole):
        # In the negative, the threshold is at the same distance from the other end.
        image, threshold = -image, 1 - threshold
    angles = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    step = 0.25
    reach = float(edge_reach(disc.radius_px))
    radii = disc.radius_px + np.arange(-reach, reach + step, step)
    rows = disc.row + np.sin(angles)[:, None] * radii
    columns = disc.column + np.cos(angles)[:, None] * radii
    values = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")
    profile = values.mean(axis=0)
    middle = len(radii) // 2
    low, high = profile[middle:].min(), profile[: middle + 1].max()
    if not high > low:
        return None
    level = low + threshold * (high - low)
    before, after = values[:, :-1] - level, values[:, 1:] - level
    falls = (before > 0) & (after <= 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = radii[:-1] + step * before / (before - after)
    # Noise causes several crossings; the one nearest to that of the mean profile counts.
    usual = radii[np.argmax((profile[:-1] > level) & (profile[1:] <= level))]
    distance = np.where(falls, np.abs(places - usual), np.inf)
    nearest = distance.argmin(axis=1)
    seen = np.isfinite(distance[np.arange(_ANGLES), nearest])
    if seen.mean() < _LEAST_SEEN:
        return None
    radius = places[np.arange(_ANGLES), nearest]
    x, y = radius * np.cos(angles), radius * np.sin(angles)
    keep = seen & (np.abs(radius - np.median(radius[seen])) < 0.15 * disc.radius_px + 1)
    matrix = np.stack([2 * x[keep], 2 * y[keep], np.ones(keep.sum())], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(matrix, x[keep] ** 2 + y[keep] ** 2, rcond=None)
    fitted = float(np.sqrt(c + a * a + b * b))
    distances = np.hypot(x[keep] - a, y[keep] - b)
    if not _is_round(np.flatnonzero(keep), distances, fitted):
        return None
    return type(disc)(disc.row + float(b), disc.column + float(a), fitted), distances


def _is_round(directions: np.ndarray, distances: np.ndarray, radius: float) -> bool:
    """Tell whether an edge is a circle, in single directions and in means of twelve sectors."""
    sectors = directions * 12 // _ANGLES
    count = np.maximum(np.bincount(sectors, minlength=12), 1)
    means = np.bincount(sectors, distances - radius, minlength=12) / count
    together = np.std(distances) <= _MOST_UNROUND * radius + 2
    return bool(together and np.std(means) <= _MOST_UNROUND_SECTORS * radius)
