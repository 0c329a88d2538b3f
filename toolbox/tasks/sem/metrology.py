"""CD, LER, LWR and their spectra from pictures of lines. No TensorFlow.

Lines run along the rows' axis (vertical in the picture) and are measured across it. Positions are
in pixels with the centre of pixel j at j; widths and roughness are in nanometres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, optimize, special

from toolbox.errors import DataError

#: Threshold of an edge between the local minimum (0) and maximum (1) of the mean profile.
THRESHOLD = 0.5
#: LER and LWR are three standard deviations, as the field reports them.
SIGMAS = 3.0
#: Rows of an edge that may lack a crossing before the edge is left out.
_MOST_MISSING = 0.3
#: Least range of the mean profile of a picture with lines, in standard errors of that mean.
_LEAST_SIGNAL = 8.0


class LineEdges(NamedTuple):
    """Edges of all whole lines of a picture.

    Attributes
    ----------
    left_px, right_px : numpy.ndarray, shape (lines, H)
        Positions across the lines, NaN in rows without a crossing; all NaN for a line that lacks
        one in too many rows.
    clear : numpy.ndarray of bool, shape (lines,)
        Lines that do not.
    threshold : float
        Level of the crossing between local minimum and maximum.
    """

    left_px: np.ndarray
    right_px: np.ndarray
    clear: np.ndarray
    threshold: float

    @property
    def width_px(self) -> np.ndarray:
        """Widths (lines, H), pixels."""
        return self.right_px - self.left_px


class PSDFit(NamedTuple):
    """A roughness spectrum, with white noise below it.

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
    """Two-sided power spectral density of a rough edge.

    Parameters
    ----------
    frequency : numpy.ndarray
        1/nm.
    sigma_nm, xi_nm, alpha : float
        Standard deviation, correlation length, roughness exponent.

    Returns
    -------
    numpy.ndarray
        nm³; its integral over all frequencies, negative ones too, is ``sigma_nm ** 2``.

    References
    ----------
    Palasantzas 1993, doi:10.1103/PhysRevB.48.14472; Mack 2013, doi:10.1117/1.JMM.12.3.033016.
    """
    ratio = special.gamma(alpha + 0.5) / special.gamma(alpha)
    zero = 2 * np.sqrt(np.pi) * ratio * sigma_nm**2 * xi_nm
    return np.asarray(zero / (1 + (2 * np.pi * frequency * xi_nm) ** 2) ** (alpha + 0.5))


def periodogram(traces: np.ndarray, step_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean two-sided power spectral density of traces about their own means.

    Parameters
    ----------
    traces : numpy.ndarray, shape (n, H)
        Positions or widths in nm, no NaN.
    step_nm : float
        Distance between rows.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Frequencies in 1/nm from one period per trace to half the sampling rate, and densities in
        nm³. The sum over all frequencies, negative ones too, is the variance of the traces.
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
        1/nm, as from `periodogram`; the last one is half the sampling rate.
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
        # Shorter than two rows, roughness cannot be told from noise.
        (np.log(2 / rate), np.log(2 * length)),
        (0.05, 1.5),
        (np.log(tail) - 12, np.log(tail) + 1),
    ]
    # TNC, because the matrices of L-BFGS-B start threads that cost more than the fit.
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
    # Percentiles pass over bright rims of wide lines; a single narrow line needs the extremes.
    for share in (5.0, 1.0):
        low, high = np.percentile(profile, [share, 100 - share])
        if high - low > 0.2 * np.ptp(profile):
            return float(low), float(high)
    return float(profile.min()), float(profile.max())


def _nominal_lines(image: np.ndarray) -> list[tuple[float, float]]:
    """Find the bright lines that lie wholly inside, from the mean over all rows."""
    profile = _smooth(image.mean(axis=0), 1.0)
    # Without lines, the mean over all rows still varies by its own standard error.
    chance = np.median(image.std(axis=0)) / np.sqrt(len(image))
    if np.ptp(profile) < _LEAST_SIGNAL * chance:
        return []
    low, high = _grey_levels(profile)
    # Bright edges make the middle of a line dim: the valley inside may dip below the half.
    level = low + 0.3 * (high - low)
    above = profile > level
    steps = np.diff(above.astype(np.int8))
    rising, falling = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
    if not len(rising) or not len(falling) or not high > low:
        return []
    falling = falling[falling > rising[0]]
    pairs = list(zip(rising[: len(falling)], falling, strict=False))
    spacing = np.median(np.diff(rising)) if len(rising) > 1 else 0.0
    margin = max(2.0, 0.1 * spacing)
    lines = [(a + 0.5, b + 0.5) for a, b in pairs]
    inside = [(a, b) for a, b in lines if a >= margin and b <= image.shape[1] - 1 - margin]
    if not inside:
        return []
    usual = float(np.median([b - a for a, b in inside]))
    return [(a, b) for a, b in inside if 0.5 * usual < b - a < 1.6 * usual]


def _crossings(
    image: np.ndarray, expected: np.ndarray, reach: float, level: np.ndarray, sign: int
) -> np.ndarray:
    """Return the crossing nearest to where it is expected, in every row.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.
    expected : numpy.ndarray, shape (lines, H)
        Pixels.
    reach : float
        Largest distance, pixels.
    level : numpy.ndarray, shape (lines, 1)
        Grey values of the crossing.
    sign : {1, -1}
        Brighter to the right, or to the left.

    Returns
    -------
    numpy.ndarray, shape (lines, H)
        Pixels, NaN where there is none.
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
    """Average the rows of each edge, laid one upon the other: (lines, 2 half + 1)."""
    filled = np.where(np.isfinite(edges), edges, np.nanmedian(edges, axis=1, keepdims=True))
    columns = filled[..., None] + np.arange(-half, half + 1)
    rows = np.broadcast_to(np.arange(image.shape[0])[:, None], columns.shape)
    values = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")
    return np.asarray(values.mean(axis=1))


def find_lines(
    image: np.ndarray,
    threshold: float = THRESHOLD,
    lines: list[tuple[float, float]] | None = None,
    smooth_px: float = 0.0,
) -> LineEdges:
    """Locate both edges of every bright line in every row, to a fraction of a pixel.

    The criterion: an edge lies where the picture crosses ``minimum + threshold * (maximum -
    minimum)``, minimum and maximum being those of the mean profile of that edge, in the dark space
    and on the bright rim. The rows are not smoothed unless asked for.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values; bright vertical lines on a dark ground.
    threshold : float
        Between 0 and 1.
    lines : list of (float, float), optional
        Where the lines are to be looked for (left, right), pixels; default found in the picture.
    smooth_px : float
        Standard deviation of a Gaussian across the lines, pixels.

    Returns
    -------
    LineEdges

    Raises
    ------
    DataError
        If there is no whole line.
    """
    if not 0 < threshold < 1:
        raise DataError(f"threshold must lie between 0 and 1; received {threshold}. Use 0.5.")
    image = np.asarray(image, np.float64)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim != 2 or not np.isfinite(image).all():
        raise DataError(
            f"a picture of lines must be (H, W) of finite grey values; received {image.shape}. "
            f"Measure one channel of one picture at a time."
        )
    lines = _nominal_lines(image) if lines is None else lines
    if not lines:
        raise DataError(
            "no whole bright vertical line was found in the picture. Turn the picture so that the "
            "lines are vertical, invert it if they are dark, or crop it."
        )
    if smooth_px:
        image = _smooth(image, smooth_px)
    nominal = np.asarray(lines, np.float64)
    left = np.repeat(nominal[:, :1], image.shape[0], axis=1)
    right = np.repeat(nominal[:, 1:], image.shape[0], axis=1)
    reach = _reach_of(nominal, image.shape[1])
    half = int(np.ceil(reach))
    blurred = ndimage.gaussian_filter(image, (2.0, 1.0), mode="nearest")
    traces = []
    for sign, expected in ((1, left), (-1, right)):
        # First on a blurred copy, to know where the edge wanders; then on the picture itself.
        level = _level(_mean_profile(blurred, expected, half), threshold, sign, half)
        rough = _repaired(_crossings(blurred, expected, reach, level, sign), expected)
        level = _level(_mean_profile(image, rough, half), threshold, sign, half)
        traces.append(_crossings(image, rough, 0.5 * reach, level, sign))
    keep = np.all([np.isnan(t).mean(axis=1) <= _MOST_MISSING for t in traces], axis=0)
    if not keep.any():
        raise DataError(
            "no line has a clear edge: in every one more than "
            f"{_MOST_MISSING:.0%} of the rows never cross the threshold. Use a less noisy picture."
        )
    left_px, right_px = (np.where(keep[:, None], trace, np.nan) for trace in traces)
    return LineEdges(left_px, right_px, keep, threshold)


def _reach_of(nominal: np.ndarray, width: int) -> float:
    """Half of the narrower of line and space, pixels."""
    ordered = np.sort(nominal, axis=0)
    gaps = [*(ordered[:, 1] - ordered[:, 0]), *(ordered[1:, 0] - ordered[:-1, 1])]
    return float(np.clip(0.5 * np.min(gaps), 2.0, 0.25 * width))


def _level(profile: np.ndarray, threshold: float, sign: int, half: int) -> np.ndarray:
    """Return the grey value of the crossing for each edge, (lines, 1)."""
    profile = profile[:, ::sign]
    low = profile[:, : half + 1].min(axis=1)
    high = profile[:, max(half - 2, 0) :].max(axis=1)
    return np.asarray((low + threshold * (high - low))[:, None])


def _repaired(trace: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Replace missing rows by their neighbours and strays by the local median."""
    filled = interpolate_missing(np.where(np.isnan(trace).all(axis=1)[:, None], expected, trace))
    return np.asarray(ndimage.median_filter(filled, size=(1, 5), mode="nearest"))


def interpolate_missing(traces: np.ndarray) -> np.ndarray:
    """Fill NaN in each trace (n, H) by a straight line between its neighbours."""
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
        As measured, noise included.
    unbiased_nm : float
        Without the white floor of the spectrum.
    fit : PSDFit
        The spectrum.
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
    """Take the fitted floor off a variance of traces of `count` rows."""
    noise = fit.floor_nm3 / step_nm * (1 - 1 / count)
    unbiased = max(float(variance_nm2) - noise, 0.0)
    return Roughness(SIGMAS * float(np.sqrt(variance_nm2)), SIGMAS * float(np.sqrt(unbiased)), fit)
