"""CD, LER, LWR and their spectra from pictures of lines. No TensorFlow.

Lines run down the picture and are measured across. Positions are in pixels, with the centre of
pixel j at j; widths and roughness are in nanometres.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage, optimize, special

from toolbox.errors import DataError

#: Threshold of an edge between the local minimum (0) and maximum (1) of the mean profile.
THRESHOLD = 0.5
#: LER and LWR are three standard deviations, as the field reports them.
SIGMAS = 3.0
#: Smallest and largest roughness exponent of a fitted spectrum.
ALPHA_BOUNDS = (0.05, 1.5)
#: Largest share of rows without a crossing; an edge with more of them is left out.
_MOST_MISSING = 0.3
#: Smallest difference between turning points of the mean profile, as a share of its range.
_LEAST_TURN = 0.12
#: A change next to the border that is wider than this share of the frame is shading, not an edge.
_SLOW = 1 / 16
#: Least step from a space up to the middle of a line, as a share of the height of its rims: between
#: two spaces, and where one of them is not seen.
_LEAST_STEP, _CLEAR_STEP = 0.04, 0.12
#: Distance from a line at which the grey value of a space without another end is read, pixels.
_NEAR_PX = 12
#: Number of bands of rows that show shading along the lines, and the fewest rows of each.
_BANDS, _BAND_ROWS = 8, 8
#: Smallest shading that is corrected, as a share of the contrast, and in standard errors.
_LEAST_SHADE, _BEYOND_CHANCE = 0.05, 5.0
#: Smallest share of the contrast that the correction assumes where it is darkest.
_LEAST_GAIN = 0.05
#: Smallest range of the mean profile of a picture with lines, in standard errors of that mean.
_LEAST_SIGNAL = 8.0

Polarity = Literal["bright", "dark", "auto"]


class LineEdges(NamedTuple):
    """Edges of all whole lines of a picture.

    Attributes
    ----------
    left_px, right_px : numpy.ndarray, shape (lines, H)
        Positions across the lines, NaN in rows without a crossing; all NaN for a line with too many
        such rows.
    clear : numpy.ndarray of bool, shape (lines,)
        Lines with enough crossings.
    threshold : float
        Level of the crossing between local minimum and maximum.
    polarity : {'bright', 'dark'}
        Whether bright or dark lines were measured.
    note : str
        Note for the user: on the choice of polarity, on shading along the lines.
    """

    left_px: np.ndarray
    right_px: np.ndarray
    clear: np.ndarray
    threshold: float
    polarity: Polarity = "bright"
    note: str = ""

    @property
    def width_px(self) -> np.ndarray:
        """Widths (lines, H), pixels."""
        return self.right_px - self.left_px


class PSDFit(NamedTuple):
    """A roughness spectrum on a floor of white noise.

    Attributes
    ----------
    sigma_nm : float
        Standard deviation of the edge or width, nm.
    xi_nm : float
        Correlation length, nm.
    alpha : float
        Roughness (Hurst) exponent.
    floor_nm3 : float
        Two-sided density of the white noise, nm³.
    """

    sigma_nm: float
    xi_nm: float
    alpha: float
    floor_nm3: float


def roughness_psd(frequency: np.ndarray, sigma_nm: float, xi_nm: float, alpha: float) -> np.ndarray:
    """Return the two-sided power spectral density of a rough edge.

    Parameters
    ----------
    frequency : numpy.ndarray
        Spatial frequencies, 1/nm.
    sigma_nm, xi_nm, alpha : float
        Standard deviation, correlation length, roughness exponent.

    Returns
    -------
    numpy.ndarray
        Density, nm³; its integral over all frequencies, positive and negative, is
        ``sigma_nm ** 2``.

    References
    ----------
    Palasantzas 1993, doi:10.1103/PhysRevB.48.14472; Mack 2013, doi:10.1117/1.JMM.12.3.033016.
    """
    ratio = special.gamma(alpha + 0.5) / special.gamma(alpha)
    zero = 2 * np.sqrt(np.pi) * ratio * sigma_nm**2 * xi_nm
    return np.asarray(zero / (1 + (2 * np.pi * frequency * xi_nm) ** 2) ** (alpha + 0.5))


def periodogram(traces: np.ndarray, step_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean two-sided power spectral density of traces about their own means.

    Parameters
    ----------
    traces : numpy.ndarray, shape (n, H)
        Positions or widths in nm, without NaN.
    step_nm : float
        Distance between rows.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Frequencies in 1/nm from one period per trace to half the sampling rate, and densities in
        nm³. Their integral over all frequencies, positive and negative, is the variance.
    """
    count = traces.shape[1]
    centred = traces - traces.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, axis=1)) ** 2 * (step_nm / count)
    return np.fft.rfftfreq(count, step_nm)[1:], power.mean(axis=0)[1:]


def fit_psd(frequency: np.ndarray, density: np.ndarray) -> PSDFit:
    """Fit a roughness spectrum on a white floor (Whittle's likelihood).

    Parameters
    ----------
    frequency : numpy.ndarray
        Spatial frequencies, 1/nm, as from `periodogram`; the last one is half the sampling rate.
    density : numpy.ndarray
        Two-sided density, nm³.

    Returns
    -------
    PSDFit
        All zero for a spectrum without power.

    References
    ----------
    Whittle 1953, doi:10.1007/BF02590998. Mack 2018, doi:10.1117/1.JMM.17.4.041006, on subtracting
    the floor.
    """
    if not density.max() > 0:
        return PSDFit(0.0, 0.0, 0.0, 0.0)
    rate = 2 * frequency[-1]
    density = np.maximum(density, 1e-9 * density.max())
    length = 1 / frequency[0]

    def misfit(logs: np.ndarray) -> tuple[float, np.ndarray]:
        (sigma, xi, floor), alpha = np.exp(logs[[0, 1, 3]]), logs[2]
        rough = roughness_psd(frequency, sigma, xi, alpha)
        expected = rough + floor
        square = (2 * np.pi * frequency * xi) ** 2
        slope = special.digamma(alpha + 0.5) - special.digamma(alpha)
        # Derivatives of the spectrum by log(sigma), log(xi), alpha, log(floor).
        changes = np.stack(
            [
                2 * rough,
                rough * (1 - (2 * alpha + 1) * square / (1 + square)),
                rough * (slope - np.log1p(square)),
                np.full_like(rough, floor),
            ]
        )
        value = float(np.sum(np.log(expected) + density / expected))
        return value, (changes * ((1 - density / expected) / expected)).sum(axis=1)

    total = 2 * density.sum() * frequency[0]
    tail = float(np.mean(density[-max(1, len(density) // 8) :]))
    bounds = [
        (0.5 * np.log(total) - 7, 0.5 * np.log(total) + 2),
        # Roughness shorter than two rows cannot be distinguished from noise.
        (np.log(2 / rate), np.log(2 * length)),
        ALPHA_BOUNDS,
        (np.log(tail) - 12, np.log(tail) + 1),
    ]
    # TNC, because L-BFGS-B starts threads for its matrices that cost more than the fit.
    best = None
    for xi in (0.02 * length, 0.1 * length):
        for alpha in (0.4, 0.9):
            for floor in (0.9 * tail, 0.01 * tail):
                start = [0.5 * np.log(total), np.log(xi), alpha, np.log(floor)]
                found = optimize.minimize(
                    misfit, start, jac=True, method="TNC", bounds=bounds, options={"maxfun": 300}
                )
                if best is None or found.fun < best.fun:
                    best = found
    assert best is not None
    sigma, xi, floor = np.exp(best.x[[0, 1, 3]])
    return PSDFit(float(sigma), float(xi), float(best.x[2]), float(floor))


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter1d(values, sigma, axis=-1, mode="nearest"))


def _grey_levels(profile: np.ndarray) -> tuple[float, float]:
    """Return the grey values of spaces and lines in a mean profile."""
    # Percentiles ignore the bright rims of wide lines; a single narrow line needs the extremes.
    for share in (5.0, 1.0):
        low, high = np.percentile(profile, [share, 100 - share])
        if high - low > 0.2 * np.ptp(profile):
            return float(low), float(high)
    return float(profile.min()), float(profile.max())


def direction_of(image: np.ndarray) -> Literal["vertical", "horizontal"]:
    """Return the direction of the lines of a picture (H, W), across which its mean varies more."""
    spread = []
    for axis in (0, 1):
        profile = image.mean(axis=axis)
        # Shading varies slowly.
        spread.append(np.std(_smooth(profile, 1.0) - _smooth(profile, len(profile) / 8)))
    return "vertical" if spread[0] >= spread[1] else "horizontal"


def _nominal_lines(image: np.ndarray) -> dict[str, list[tuple[float, float]]]:
    """Find bright and dark lines that are completely inside, from the mean over all rows."""
    bright = _bright_places(image)
    dark = [(before[1], after[0]) for before, after in pairwise(bright)]
    found = {}
    for polarity, lines in (("bright", bright), ("dark", dark)):
        starts = [a for a, _ in lines if np.isfinite(a)]
        margin = max(2.0, 0.1 * float(np.median(np.diff(starts)))) if len(starts) > 1 else 2.0
        last = image.shape[1] - 1 - margin
        found[polarity] = [(a, b) for a, b in lines if a >= margin and b <= last]
    return found


def _bright_places(image: np.ndarray) -> list[tuple[float, float]]:
    """Return the bright intervals of the mean profile; infinite where the frame cuts a line."""
    profile = _smooth(image.mean(axis=0), 1.0)
    # Without lines, the mean over all rows still varies by its standard error.
    chance = np.median(image.std(axis=0)) / np.sqrt(len(image))
    low, high = _grey_levels(profile)
    if np.ptp(profile) < _LEAST_SIGNAL * chance or not high > low:
        return []
    # The means of even and odd rows differ by twice the error of the mean of all.
    others = image[min(1, len(image) - 1) :: 2]
    noise = 0.5 * _smooth(image[::2].mean(axis=0) - others.mean(axis=0), 1.0)
    loudest = float(np.sqrt(_smooth(noise**2, 6.0).max()))
    turns = _turning_points(profile, max(_LEAST_TURN * (high - low), 5 * loudest))
    edges = [_half_way(profile, a, b) for a, b in pairwise(turns)]
    # Slow changes towards the border of the frame are shading.
    while edges and edges[0][1] > _SLOW * len(profile):
        del turns[0], edges[0]
    while edges and edges[-1][1] > _SLOW * len(profile):
        del turns[-1], edges[-1]
    if not edges:
        return []
    bounds = [place for place, _ in edges]
    if profile[turns[0]] > profile[turns[1]]:
        bounds.insert(0, -np.inf)
    if len(bounds) % 2:
        bounds.append(np.inf)
    places = list(zip(bounds[::2], bounds[1::2], strict=True))
    return _without_middles(profile, places, float(noise.std()))


def _turning_points(profile: np.ndarray, least: float) -> list[int]:
    """Return alternating minima and maxima, neighbours of which differ by at least `least`."""
    turns: list[int] = []
    lowest = highest = 0
    rising = falling = True
    for i, value in enumerate(profile):
        lowest = i if value < profile[lowest] else lowest
        highest = i if value > profile[highest] else highest
        if rising and profile[highest] - value >= least:
            turns.append(highest)
            rising, falling, lowest = False, True, i
        elif falling and value - profile[lowest] >= least:
            turns.append(lowest)
            rising, falling, highest = True, False, i
    return [*turns, highest if rising else lowest] if turns else []


def _half_way(profile: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """Return place and width of the edge between two turning points, pixels."""
    part = profile[start : stop + 1]
    share = (part - part.min()) / np.ptp(part)
    share = 1 - share if part[0] > part[-1] else share
    # Noise may cross the half level elsewhere: the steepest place counts.
    crossings = np.flatnonzero((share[:-1] < 0.5) & (share[1:] >= 0.5))
    rise = np.pad(share, 3, mode="edge")
    half = crossings[np.argmax((rise[7:] - rise[:-7])[crossings])]
    before, after = np.flatnonzero(share[: half + 1] <= 0.25), np.flatnonzero(share[half:] >= 0.75)
    return start + half + 0.5, float(half + after[0] - before[-1])


def _without_middles(
    profile: np.ndarray, bright: list[tuple[float, float]], noise: float
) -> list[tuple[float, float]]:
    """Join bright rims across the dim middle of their line.

    The region between two rims is a middle if it is brighter than the regions beyond them, on both
    sides. Neighbours are compared, so slow shading does no harm.
    """
    ends = np.array([-np.inf, *np.ravel(bright), np.inf])
    levels = np.array([_grey_between(profile, a, b) for a, b in ends.reshape(-1, 2)])
    peaks = [profile[int(max(a, 0)) : int(min(b, len(profile))) + 1].max() for a, b in bright]
    scale = float(np.median(peaks) - np.nanmin(levels))
    beyond = np.array([levels[:-2], levels[2:]])
    unseen = np.isnan(beyond)
    highest = np.where(unseen, -np.inf, beyond).max(axis=0)
    widths = np.diff(np.clip(ends, 0, len(profile)))
    narrow = widths[2:-2:2] < np.maximum(widths[1:-3:2], widths[3:-1:2])
    # Roughness fills narrow spaces; shading may look like a middle if one side is not seen.
    least = scale * np.where(narrow | unseen.any(axis=0), _CLEAR_STEP, _LEAST_STEP)
    inside = np.full(len(levels), False)
    inside[1:-1] = np.isfinite(highest) & (levels[1:-1] - highest > np.maximum(least, 4 * noise))
    middles, spaces = (np.flatnonzero(inside[1:-1] == kind) + 1 for kind in (True, False))
    for end, beside in ((0, 1), (-1, -2)):
        level = levels[beside] + max(_CLEAR_STEP * scale, 4 * noise)
        if len(middles) and len(spaces):
            level = 0.5 * (levels[middles[end]] + levels[spaces[end]])
        inside[end] = not inside[beside] and levels[end] > level
    kept = list(ends[1:-1][~np.repeat(inside, 2)[1:-1]])
    kept = [-np.inf] * int(inside[0]) + kept + [np.inf] * int(inside[-1])
    return list(zip(kept[::2], kept[1::2], strict=True))


def _grey_between(profile: np.ndarray, a: float, b: float) -> float:
    """Return the grey value half-way between two places, or near one if the other is infinite."""
    if a == b:  # nothing is beyond a line that the frame cuts
        return np.nan
    if np.isinf(a):
        return float(profile[max(int(np.ceil(b)) - _NEAR_PX, 0) : int(np.ceil(b))].min())
    if np.isinf(b):
        return float(profile[int(a) + 1 : int(a) + 1 + _NEAR_PX].min())
    quarter = 0.25 * (b - a)
    return float(profile[int(a + quarter) : int(np.ceil(b - quarter)) + 1].mean())


def _crossings(
    image: np.ndarray, expected: np.ndarray, reach: float, level: np.ndarray, sign: int
) -> np.ndarray:
    """Return the crossing nearest to the expected place, in each row.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.
    expected : numpy.ndarray, shape (lines, H)
        Expected places, pixels.
    reach : float
        Largest distance from there, pixels.
    level : numpy.ndarray, shape (lines, 1)
        Grey values of the crossing.
    sign : {1, -1}
        1 if brighter to the right, -1 if brighter to the left.

    Returns
    -------
    numpy.ndarray, shape (lines, H)
        Places, pixels; NaN without a crossing.
    """
    height, width = image.shape
    half = int(np.ceil(reach)) + 1
    start = np.rint(expected).astype(int) - half
    columns = start[..., None] + np.arange(2 * half + 1)
    values = image[np.arange(height)[:, None], np.clip(columns, 0, width - 1)] - level[..., None]
    values = values * sign
    before, after = values[..., :-1], values[..., 1:]
    found = (before < 0) & (after >= 0)
    found &= (columns[..., :-1] >= 0) & (columns[..., 1:] < width)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = columns[..., :-1] + before / (before - after)
    distance = np.where(found, np.abs(places - expected[..., None]), np.inf)
    nearest = distance.argmin(axis=-1)[..., None]
    best = np.take_along_axis(places, nearest, axis=-1)[..., 0]
    missing = np.take_along_axis(distance, nearest, axis=-1)[..., 0] > reach
    return np.where(missing, np.nan, best)


def _mean_profile(image: np.ndarray, edges: np.ndarray, half: int) -> np.ndarray:
    """Return the mean profile of each edge over its rows, aligned: (lines, 2 half + 1)."""
    filled = np.where(np.isfinite(edges), edges, np.nanmedian(edges, axis=1, keepdims=True))
    columns = filled[..., None] + np.arange(-half, half + 1)
    rows = np.broadcast_to(np.arange(image.shape[0])[:, None], columns.shape)
    values = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")
    return np.asarray(values.mean(axis=1))


def spaces_of(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of the spaces between neighbouring lines, (lines − 1, H) each.

    Parameters
    ----------
    left, right : numpy.ndarray, shape (lines, H)
        Edges of lines, from left to right.
    """
    return right[:-1], left[1:]


def find_lines(
    image: np.ndarray,
    threshold: float = THRESHOLD,
    lines: list[tuple[float, float]] | None = None,
    smooth_px: float = 0.0,
    polarity: Polarity = "bright",
) -> LineEdges:
    """Locate both edges of every line in every row, to a fraction of a pixel.

    The criterion: an edge is where the picture crosses ``minimum + threshold * (maximum -
    minimum)``. Minimum and maximum are those of the mean profile of that edge, on its dark side
    and on the bright rim, over the rows that have the edge. Rows are not smoothed by default.
    Shading along the lines of at least 5 % of the contrast is subtracted first.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values of vertical lines.
    threshold : float
        Between 0, the dark side, and 1, the bright side, for either polarity.
    lines : list of (float, float), optional
        Where to look for lines (left, right), pixels; default where the picture shows them.
    smooth_px : float
        Standard deviation of a Gaussian filter across the lines, pixels.
    polarity : {'bright', 'dark', 'auto'}
        Bright lines on a dark ground, or dark ones (trenches), whose rims are outside. With auto,
        bright ones if a complete one is found (or `lines` are given), otherwise dark ones.

    Returns
    -------
    LineEdges

    Raises
    ------
    DataError
        If there is no complete line.
    """
    if not 0 < threshold < 1:
        raise DataError(f"threshold must be between 0 and 1; received {threshold}. Use 0.5.")
    image = np.asarray(image, np.float64)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim != 2 or not np.isfinite(image).all():
        raise DataError(
            f"a picture of lines must be (H, W) of finite grey values; received {image.shape}. "
            f"Measure one channel of one picture at a time."
        )
    sought, note = polarity, ""
    if lines is None:
        found = _nominal_lines(image)
        if polarity == "auto":
            polarity, note = _polarity_of(found)
        lines = found[polarity]
    if not lines:
        other = ", nor a dark one" if sought == "auto" else ""
        raise DataError(
            f"no whole {'dark' if sought == 'dark' else 'bright'} vertical line was found in the "
            f"picture{other}. Turn the picture so that the lines are vertical, measure the other "
            f"polarity, invert the picture, or crop it."
        )
    polarity = "dark" if polarity == "dark" else "bright"
    if smooth_px:
        image = _smooth(image, smooth_px)
    nominal = np.asarray(lines, np.float64)
    edges = _edges(image, nominal, threshold, polarity)
    evened, change = _evened(image, edges)
    if change:
        edges = _edges(evened, nominal, threshold, polarity)
        told = f"brightness changes by {change:.0%} along the lines; this is corrected."
        note = f"{note} {told}".strip()
    traces = [np.concatenate([edge.places for edge in side]) for side in edges]
    keep = np.all([np.isnan(t).mean(axis=1) <= _MOST_MISSING for t in traces], axis=0)
    if not keep.any():
        raise DataError(
            f"no line has a clear edge: in each, more than {_MOST_MISSING:.0%} of the rows never "
            f"cross the threshold. Use a less noisy picture, or measure discs if it shows discs "
            f"or holes."
        )
    left_px, right_px = (np.where(keep[:, None], trace, np.nan) for trace in traces)
    return LineEdges(left_px, right_px, keep, threshold, polarity, note)


class _Edge(NamedTuple):
    """One edge in all rows.

    Attributes
    ----------
    places, rough : numpy.ndarray, shape (1, H)
        Its places, NaN where it is lost, and its approximate places.
    seen : numpy.ndarray of bool, shape (1, H)
        Rows in which the blurred picture shows it.
    low_at, high_at : int
        Where its mean profile is lowest and highest, pixels from the edge.
    """

    places: np.ndarray
    rough: np.ndarray
    seen: np.ndarray
    low_at: int
    high_at: int


def _edges(
    image: np.ndarray, nominal: np.ndarray, threshold: float, polarity: Polarity
) -> list[list[_Edge]]:
    """Locate the left and the right edges of lines."""
    blurred = ndimage.gaussian_filter(image, (2.0, 1.0), mode="nearest")
    signs = (-1, 1) if polarity == "dark" else (1, -1)
    reaches = _reach_of(nominal, image.shape[1])
    return [
        # One by one, because a wide line is sought in more columns than narrow ones.
        [_trace(image, blurred, a, b, threshold, sign) for a, b in zip(*ends, strict=True)]
        for sign, *ends in zip(signs, nominal.T, reaches, strict=True)
    ]


def _trace(
    image: np.ndarray,
    blurred: np.ndarray,
    place: float,
    reach: float,
    threshold: float,
    sign: int,
) -> _Edge:
    """Locate one edge in every row."""
    expected, half = np.full((1, len(image)), place), int(np.ceil(reach))
    # First on a blurred copy, to follow a wandering edge; then on the picture itself.
    level, _ = _level(_mean_profile(blurred, expected, half), threshold, sign, half)
    found = _crossings(blurred, expected, reach, level, sign)
    rough, seen = _repaired(found, expected), np.isfinite(found)
    # Rows beyond the end of a line must not count in the level of its edge.
    rows = seen[0] if seen.any() else slice(None)
    profile = _mean_profile(image[rows], rough[:, rows], half)
    level, (low_at, high_at) = _level(profile, threshold, sign, half)
    places = _crossings(image, rough, 0.5 * reach, level, sign)
    return _Edge(places, rough, seen, low_at, high_at)


def _evened(image: np.ndarray, edges: list[list[_Edge]]) -> tuple[np.ndarray, float]:
    """Subtract shading along the lines.

    Grey values on both sides of the edges are averaged over bands of rows and over all edges. A
    parabola through the dark values and one through the bright ones give the shading.

    Returns
    -------
    (numpy.ndarray, float)
        The picture, and the largest change as a share of the contrast; 0 if nothing is subtracted,
        because the change is small or not beyond chance.
    """
    rows = np.arange(len(image))
    bands = np.array_split(rows, max(1, min(_BANDS, len(image) // _BAND_ROWS)))
    traced = [edge for side in edges for edge in side if edge.seen.mean() > 0.5]
    if len(bands) < _BANDS // 2 or not traced:
        return image, 0.0
    values = np.array(
        [
            [
                ndimage.map_coordinates(image, [rows, e.rough[0] + at], order=1, mode="nearest")
                for at in (e.low_at, e.high_at)
            ]
            for e in traced
        ]
    )
    known = np.array([edge.seen[0] for edge in traced])
    weights = np.array([known[:, band].sum(axis=1) for band in bands])
    if not weights.all():
        return image, 0.0
    values = np.where(known[:, None], values, 0.0)
    # (bands, edges, dark and bright)
    means = np.array([values[..., band].sum(axis=2) for band in bands]) / weights[..., None]
    usual = means.mean(axis=0)
    contrast = np.maximum(usual[:, 1] - usual[:, 0], 1e-9)
    changes = (means - usual) / contrast[:, None]
    middles = np.array([band.mean() for band in bands]) / len(image) - 0.5
    curves = np.polynomial.polynomial.polyfit(middles, changes.mean(axis=1), 2)
    fitted = np.polynomial.polynomial.polyval(middles, curves).T
    chance = (changes - fitted[:, None]).std(axis=(0, 1)) / np.sqrt(len(traced))
    size = np.ptp(fitted, axis=0)
    change = float(size.max())
    if change < _LEAST_SHADE or not (size > _BEYOND_CHANCE * chance).any():
        return image, 0.0
    dark, bright = np.polynomial.polynomial.polyval(rows / len(image) - 0.5, curves)[..., None]
    low, span = float(usual[:, 0].mean()), float(contrast.mean())
    gain = np.maximum(1 + bright - dark, _LEAST_GAIN)
    return low + (image - low - dark * span) / gain, change


def _polarity_of(found: dict[str, list[tuple[float, float]]]) -> tuple[Polarity, str]:
    """Choose bright lines if there is a complete one; add a note if dark ones may be meant."""
    bright, dark = (np.ptp(np.reshape(found[kind], (-1, 2)), axis=1) for kind in ("bright", "dark"))
    if not len(bright):
        return "dark", ""
    if len(dark) and np.median(dark) < 0.5 * np.median(bright):
        return "bright", (
            "bright lines are measured, although the dark ones are much narrower. If these are "
            "trenches, set polarity to dark."
        )
    return "bright", ""


def _reach_of(nominal: np.ndarray, width: int) -> np.ndarray:
    """Return half the width of line or space, the narrower, for both edges (2, lines)."""
    order = np.argsort(nominal[:, 0])
    left, right = nominal[order].T
    spaces = left[1:] - right[:-1]
    outer = np.min(spaces, initial=np.inf)
    beside = np.array([[outer, *spaces], [*spaces, outer]])
    reach = np.empty_like(beside)
    reach[:, order] = 0.5 * np.minimum(beside, right - left)
    return np.clip(reach, 2.0, 0.25 * width)


def _level(
    profile: np.ndarray, threshold: float, sign: int, half: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the level of the crossing (1, 1), and the places of dark and bright, pixels."""
    profile = profile[0, ::sign]
    first = max(half - 2, 0)
    low_at, high_at = int(profile[: half + 1].argmin()), first + int(profile[first:].argmax())
    low, high = profile[low_at], profile[high_at]
    level = np.full((1, 1), low + threshold * (high - low))
    return level, (sign * (low_at - half), sign * (high_at - half))


def _repaired(trace: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Replace missing rows by their neighbours and outliers by the local median."""
    filled = interpolate_missing(np.where(np.isnan(trace).all(axis=1)[:, None], expected, trace))
    return np.asarray(ndimage.median_filter(filled, size=(1, 5), mode="nearest"))


def interpolate_missing(traces: np.ndarray) -> np.ndarray:
    """Fill NaN in each trace (n, H) by linear interpolation."""
    filled = traces.copy()
    rows = np.arange(traces.shape[1])
    for index in np.flatnonzero(np.isnan(filled).any(axis=1)):
        trace = filled[index]
        known = np.isfinite(trace)
        filled[index, ~known] = (
            np.interp(rows[~known], rows[known], trace[known]) if known.any() else 0.0
        )
    return filled


class Roughness(NamedTuple):
    """LER or LWR of a set of traces, three standard deviations, nm.

    Attributes
    ----------
    biased_nm : float
        As measured, including noise.
    unbiased_nm : float
        Without the white floor of the spectrum.
    fit : PSDFit
        The fitted spectrum.
    """

    biased_nm: float
    unbiased_nm: float
    fit: PSDFit


def roughness(traces_nm: np.ndarray, step_nm: float) -> Roughness:
    """Measure the roughness of edges (LER) or widths (LWR).

    Parameters
    ----------
    traces_nm : numpy.ndarray, shape (n, H)
        Positions or widths, nm; NaN are interpolated.
    step_nm : float
        Distance between rows.

    Returns
    -------
    Roughness
    """
    traces = interpolate_missing(np.asarray(traces_nm, np.float64))
    frequency, density = periodogram(traces, step_nm)
    fit = fit_psd(frequency, density)
    return roughness_of(traces.var(axis=1).mean(), fit, step_nm, traces.shape[1])


def roughness_of(variance_nm2: float, fit: PSDFit, step_nm: float, count: int) -> Roughness:
    """Subtract the fitted floor from a variance of traces with `count` rows."""
    noise = fit.floor_nm3 / step_nm * (1 - 1 / count)
    unbiased = max(float(variance_nm2) - noise, 0.0)
    return Roughness(SIGMAS * float(np.sqrt(variance_nm2)), SIGMAS * float(np.sqrt(unbiased)), fit)


class TracePool:
    """Mean spectrum and variance of traces, accumulated without keeping the traces.

    Parameters
    ----------
    rows : int
        Traces are cut to this many rows.
    step_nm : float
        Distance between rows.
    """

    def __init__(self, rows: int, step_nm: float) -> None:
        self.rows, self.step_nm = rows, step_nm
        self._count, self._variance = 0, 0.0
        self._frequency, self._power = np.empty(0), np.zeros(rows // 2)

    def add(self, traces: np.ndarray) -> None:
        """Add traces (n, H) in nm, without those that are all NaN."""
        traces = traces[:, : self.rows]
        clear = interpolate_missing(traces[np.isfinite(traces).any(axis=1)])
        if len(clear):
            self._frequency, density = periodogram(clear, self.step_nm)
            self._power += len(clear) * density
            self._variance += float(clear.var(axis=1).sum())
            self._count += len(clear)

    def spectrum(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return frequencies in 1/nm and mean densities in nm³; None without traces."""
        return (self._frequency, self._power / self._count) if self._count else None

    def roughness(self) -> Roughness | None:
        """Fit the spectrum; return None without traces."""
        spectrum = self.spectrum()
        if spectrum is None:
            return None
        variance = self._variance / self._count
        return roughness_of(variance, fit_psd(*spectrum), self.step_nm, self.rows)
