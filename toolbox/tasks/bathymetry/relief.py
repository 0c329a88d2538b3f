"""Colours for values: shaded relief, grey values and differences, as arrays, bars and files."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LightSource, LinearSegmentedColormap
from matplotlib.image import imsave

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.pages import ScaleBar, number
from toolbox.pages.pictures import METADATA

_MISSING = (184, 184, 184)
# Blue and brown are distinct for every kind of colour vision.
_SEA = ("#1b1b4b", "#1f4e9c", "#2a8fbd", "#7cc8cf", "#e0f3ee")
_LAND = ("#e6d9ae", "#b5905a", "#6b4a2b")
# At 30°, flat ground has an intensity of 0.5, which does not change its colour.
_LIGHT = LightSource(azdeg=315, altdeg=30)
# Slope of the steepest tenth of the map after exaggeration.
_STEEP = 0.5
_MAX_EXAGGERATION = 1000.0
# Pixels used for the limits of colours and slopes; also those of a strip of a large picture.
_SAMPLE = 2_000_000


@dataclasses.dataclass(frozen=True)
class Colours:
    """A colour scale.

    Attributes
    ----------
    low, high : float
        Values of the first and the last colour.
    table : numpy.ndarray, shape (256, 3), or None
        Red, green and blue, 0 to 1; None for colour images.
    coast : int or None
        First row of `table` that is land, if there is a shore.
    """

    low: float
    high: float
    table: np.ndarray | None
    coast: int | None = None

    def flat(self, img: np.ndarray) -> np.ndarray:
        """Return unshaded colours (h, w, 3), 0 to 1."""
        part = np.clip((np.nan_to_num(img) - self.low) / (self.high - self.low), 0, 1)
        if self.table is None:
            return part
        index = np.rint(255 * part).astype(np.int16)
        if self.coast is not None:
            # Low coasts and shallow reefs stay on their side of the shore, however few the colours.
            wet, dry = np.minimum(index, self.coast - 1), np.maximum(index, self.coast)
            index = np.where(img < 0, wet, dry)
        return self.table[index]

    def paint(self, img: np.ndarray) -> np.ndarray:
        """Return colours (h, w, 3), uint8; missing pixels are grey."""
        return _bytes(self.flat(img), img)

    def shade(self, heights: np.ndarray, delta: tuple[float, float], factor: float) -> np.ndarray:
        """Return the colours of a relief lit from the upper left, (h, w, 3) uint8; gaps are grey.

        Parameters
        ----------
        heights : numpy.ndarray, shape (h, w)
            Elevation; NaN is missing.
        delta : (float, float)
            Spacing between rows and between columns, in the unit of `heights`.
        factor : float
            Exaggeration of the slopes.
        """
        down = factor * _gradient(heights, 0) / delta[0]
        across = factor * _gradient(heights, 1) / delta[1]
        east, north, up = _LIGHT.direction
        # LightSource.hillshade stretches each picture by its own extremes, and fails with NaN.
        # Rows run to the south, so north is opposite to `down`.
        lit = (up - across * east + down * north) / np.sqrt(1 + across**2 + down**2)
        lit = np.clip(lit, 0, 1)[..., None]
        return _bytes(_LIGHT.blend_overlay(self.flat(heights), lit), heights)

    def bar(self, unit: str) -> ScaleBar | None:
        """Return the bar that explains the colours; None for colour images."""
        if self.table is None:
            return None
        return ScaleBar(number(self.low), f"{number(self.high)} {unit}", self.table)


def colours_of(
    images: Sequence[np.ndarray], limits: tuple[float, float] | None = None, unit: str = "m"
) -> Colours:
    """Return a colour scale that several images share.

    Parameters
    ----------
    images : sequence of numpy.ndarray, each (h, w) or (h, w, 3)
        Images, the measured one first; NaN is missing. Three channels are not changed.
    limits : (float, float), optional
        Values of the first and the last colour; default the 1st and 99th percentile.
    unit : str
        ``m`` is elevation, blue below zero and brown above; any other unit is grey.

    Returns
    -------
    Colours
        The scale; its limits are never equal.
    """
    if images[0].ndim == 3:
        brightest = float(np.nanmax(images[0], initial=0))
        top = next((top for top in (1.0, 255.0, 65535.0) if brightest <= top), brightest)
        return Colours(0.0, top, None)
    low, high = limits or _robust(images)
    if unit != "m":
        return Colours(low, high, colormaps["gray"](np.arange(256))[:, :3])
    return _relief_colours(low, high)


def difference_colours(changes: Sequence[np.ndarray]) -> Colours:
    """Return a colour scale for differences (h, w): red above zero, blue below, white at zero."""
    size = np.concatenate([np.abs(change[~np.isnan(change)]) for change in changes])
    reach = float(np.percentile(size, 99)) if size.size else 0.0
    reach = reach or float(size.max(initial=0)) or 1.0
    return Colours(-reach, reach, colormaps["RdBu_r"](np.arange(256))[:, :3])


def exaggeration_of(heights: np.ndarray, delta: tuple[float, float], thin: int = 1) -> float:
    """Return the factor that makes the steepest tenth of a map steeper than 0.5, to two digits.

    Parameters
    ----------
    heights : numpy.ndarray, shape (h, w)
        Elevation; NaN is missing.
    delta : (float, float)
        Spacing between rows and between columns, in the unit of `heights`.
    thin : int
        Use only every `thin`-th pixel.
    """
    corner = finite(heights[:-1:thin, :-1:thin])
    down = (finite(heights[1::thin, :-1:thin]) - corner) / delta[0]
    across = (finite(heights[:-1:thin, 1::thin]) - corner) / delta[1]
    slopes = np.hypot(down, across)
    slopes = slopes[slopes > 0]
    if not slopes.size:
        return 1.0
    steep = max(float(np.percentile(slopes, 90)), _STEEP / _MAX_EXAGGERATION)
    return float(f"{_STEEP / steep:.2g}")


def finite(img: np.ndarray) -> np.ndarray:
    """Return floats with NaN for all missing values; (h, w, 1) becomes (h, w)."""
    kind = np.float32 if img.dtype == np.float32 else np.float64
    values = np.asarray(img, kind)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return np.where(np.isfinite(values), values, np.asarray(np.nan, kind))


def signal(img: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, (h, w) float64."""
    plane = img.mean(axis=2, dtype=np.float64) if img.ndim == 3 else img
    return np.asarray(plane, np.float64)


def spacing(delta_m: tuple[float, float] | None, step: float = 1) -> tuple[float, float]:
    """Return the spacing of every `step`-th pixel, metres; in pixels if it is unknown."""
    rows, columns = delta_m or (1.0, 1.0)
    return float(rows) * step, float(columns) * step


def write_hillshade(
    path: str | os.PathLike[str],
    elevation: np.ndarray,
    delta_m: tuple[float, float] | None,
    *,
    limits: tuple[float, float] | None = None,
    exaggeration: float | None = None,
    max_pixels: int = 40_000_000,
) -> None:
    """Write a map as coloured shaded relief: blue below sea level, brown above, lit from NW.

    One pixel of the map is one pixel of the PNG. If the map has more than `max_pixels`, only every
    second, third … row and column is drawn. Missing pixels are transparent.

    Parameters
    ----------
    path : path-like
        PNG file; it appears complete or not at all.
    elevation : numpy.ndarray, shape (H, W)
        Metres, negative below sea level; NaN is missing; the first row is in the north. It is read
        in strips, so it may be memory-mapped.
    delta_m : (float, float) or None
        Grid spacing in metres (between rows, between columns); None counts in pixels.
    limits : (float, float), optional
        Elevation of the first and the last colour; default the 1st and 99th percentile.
    exaggeration : float, optional
        Factor of the slopes; by default the steepest tenth of the map has a slope above 0.5.
    max_pixels : int
        Maximum number of pixels of the picture.

    Raises
    ------
    DataError
        If `elevation` is not two-dimensional with at least one pixel.
    """
    if elevation.ndim != 2 or not elevation.size:
        raise DataError(
            f"{path}: elevation must be an array (H, W); received shape {elevation.shape}."
        )
    step = math.ceil(math.sqrt(elevation.size / max_pixels))
    heights = elevation[::step, ::step]
    delta = spacing(delta_m, step)
    thin = math.ceil(math.sqrt(heights.size / _SAMPLE))
    colours = colours_of([finite(heights[::thin, ::thin])], limits)
    factor = exaggeration or exaggeration_of(heights, delta, thin)
    picture = np.empty((*heights.shape, 4), np.uint8)
    strip = max(1, _SAMPLE // heights.shape[1])
    for top in range(0, len(heights), strip):
        above = min(top, 1)
        part = finite(heights[top - above : top + strip + 1])
        lit = colours.shade(part, delta, factor)[above : above + strip]
        picture[top : top + strip, :, :3] = lit
        picture[top : top + strip, :, 3] = 255 * ~np.isnan(part[above : above + strip])
    with replacing(path) as beside:
        imsave(beside, picture, format="png", metadata=METADATA)


def _bytes(rgb: np.ndarray, img: np.ndarray) -> np.ndarray:
    picture = np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
    picture[np.isnan(signal(img))] = _MISSING
    return picture


def _gradient(heights: np.ndarray, axis: int) -> np.ndarray:
    """Return central differences per pixel; one-sided next to a gap or margin, 0 between two."""
    step = np.diff(heights, axis=axis)
    gap = np.full_like(np.take(heights, [0], axis), np.nan)
    after, before = np.concatenate([step, gap], axis), np.concatenate([gap, step], axis)
    one_sided = np.where(np.isnan(after), before, after)
    return np.nan_to_num(np.where(np.isnan(before), one_sided, (one_sided + before) / 2))


def _robust(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of all valid pixels, never equal."""
    values = np.concatenate([img[~np.isnan(img)] for img in images])
    if not values.size:
        return -0.5, 0.5
    # If nearly all pixels have one value: the full range, or a metre about the value.
    for share in (1, 0):
        low, high = (float(limit) for limit in np.percentile(values, [share, 100 - share]))
        if high - low > 1e-6 * max(abs(low), abs(high)):
            return low, high
    return low - 0.5, high + 0.5


def _relief_colours(low: float, high: float) -> Colours:
    """Return the colours of elevations: sea below zero, land above, in equal steps of metres."""
    sea, land = (LinearSegmentedColormap.from_list("relief", ramp) for ramp in (_SEA, _LAND))
    if not low < 0 < high:
        ramp = sea if high <= 0 else land
        return Colours(low, high, ramp(np.linspace(0, 1, 256))[:, :3])
    coast = int(np.clip(math.ceil(255 * -low / (high - low)), 1, 255))
    reach = max(-low, high)
    wet, dry = (
        sea(np.linspace(1 + low / reach, 1, coast)),
        land(np.linspace(0, high / reach, 256 - coast)),
    )
    return Colours(low, high, np.concatenate([wet, dry])[:, :3], coast)
