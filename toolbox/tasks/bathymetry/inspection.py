"""How a map was made, judged from its relief: enlarged, striped, terraced, noisy, rounded (NumPy).

The map is read in square windows. `take_survey` keeps a few hundred numbers of each window, and
the `judge_...` functions turn them into findings. No truth is needed. Relief is self-affine: its
power spectral density falls as a power of the frequency [1]_. Processing breaks this law in
recognisable ways:

- Interpolation leaves no energy above the Nyquist frequency of the original grid, and none at
  multiples of that grid's sampling frequency, where every kernel that preserves constants is
  zero [2]_, [3]_.
- Ship tracks put the energy of fine scales into one direction.
- Contour lines turned into a grid cluster depths at multiples of a step, which a circular mean
  shows [4]_.
- White noise has the same power at all frequencies. Rounding to a step s has the power of a
  variance of s² / 12 [5]_.

The limits below were chosen on half of 150 tiles of the GEBCO grid and tested on the other half.
``docs/inspect.md`` lists the rates.

References
----------
.. [1] Turcotte (1997), Fractals and Chaos in Geology and Geophysics, 2nd ed., Cambridge.
.. [2] Keys (1981), Cubic Convolution Interpolation for Digital Image Processing, IEEE Transactions
   on Acoustics, Speech, and Signal Processing 29 (6), 1153-1160.
.. [3] Gallagher (2005), Detection of Linear and Cubic Interpolation in JPEG Compressed Images,
   Canadian Conference on Computer and Robot Vision, 65-72.
.. [4] Mardia and Jupp (2000), Directional Statistics, Wiley.
.. [5] Bennett (1948), Spectra of Quantized Signals, Bell System Technical Journal 27, 446-472.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from toolbox.io.maps import MapReader
from toolbox.resample import fill_gaps, local_mean
from toolbox.spectrum import power_spectrum, radial_spectrum
from toolbox.tasks.bathymetry.detail import noise_sigma_m, rounding_step_m
from toolbox.tasks.bathymetry.terrain import slope, spacing_text
from toolbox.tasks.bathymetry.validity import Validity

Grade = Literal["fine", "note", "warning"]
#: Reads rows and columns of a map as (rows, columns, C), metres; NaN is missing.
Read = Callable[[slice, slice], np.ndarray]

#: Sides of the windows in pixels; the first one that fits the map and its gaps is used.
SIDES = (128, 64, 32)
#: Enlargement factors that are distinguished.
FACTORS = (2, 3, 4, 6, 8)
#: Steps of contour lines, metres.
CONTOURS_M = (1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0, 250.0, 500.0, 1000.0)
#: Maximum number of windows that a survey reads along each axis.
MOST = 32
#: Share of a window that may be missing; it is filled.
_GAP = 0.02
#: Spacing of the spectrum's directions in degrees, and its band in cycles per pixel.
_DEGREES, _FINE = 5, (0.1, 0.45)
#: Number of depths, slopes and roughnesses kept from each window.
_KEPT = 256
#: Decades of power that a window must lack to count as interpolated.
LOST = 1.25
#: Depth of the notches that identify an enlargement, decades; for k = 2 only one side is visible.
_NOTCH = {2: 0.6}
_ANY_NOTCH = 0.5
#: log10 of the power in one direction ÷ the power 15° to 25° away.
_STRIPE = (0.27, 0.35)
#: Mean cosine of depths at the step of contour lines, and at half that step.
_TERRACE = (0.08, 0.12)
_ROUNDED = 0.95
#: Step of terraces ÷ median roughness, from which terraces are visible.
_VISIBLE = 2.0
#: Power at 0.4-0.5 ÷ at 0.2-0.3 cycles per pixel (1 for noise), and noise ÷ relief.
_FLAT, _NOISY = 0.3, 0.025
#: Share of equal neighbours above which rounding hides the fine relief of a window.
_EVEN = 0.5
#: Share of usable windows below which stripes are not searched for.
_FEW = 0.25
#: Shares of the windows that give a note and a warning.
_SOME, _MANY = 0.15, 0.3


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    name : str
        Name of the check, such as ``interpolated before``.
    grade : {'fine', 'note', 'warning'}
        How serious it is for a network that adds detail.
    figure : str
        Measured value, with its unit.
    advice : str
        What to do; empty if the grade is ``fine``.
    windows : numpy.ndarray of bool, optional
        Windows of the survey in which it was found.
    """

    name: str
    grade: Grade
    figure: str
    advice: str = ""
    windows: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Survey:
    """Measurements in n windows of a map, each `side` pixels wide.

    Attributes
    ----------
    side : int
        Side of a window, pixels.
    shape : (int, int)
        Rows and columns of the map.
    places : numpy.ndarray, shape (n, 2), int
        First row and column of each window.
    missing : float
        Share of missing pixels in all windows that were read, including unused ones.
    depths : numpy.ndarray, shape (n, d)
        Sample of the valid pixels of each window, metres.
    radial : numpy.ndarray, shape (n, side / 2)
        `toolbox.spectrum.radial_spectrum` for a spacing of 1: m² per (cycle/pixel)², at
        k / side cycles per pixel for k = 1, 2, ...
    axial : numpy.ndarray, shape (n, side / 2)
        Mean log10 of the power at each frequency along the rows, and along the columns.
    directions : numpy.ndarray, shape (n, 36)
        Power of the fine scales by direction, 1 on average.
    even : numpy.ndarray, shape (n,)
        Share of neighbours with the same value.
    noise_m : numpy.ndarray, shape (n,)
        `noise_sigma_m`, metres.
    relief_m : numpy.ndarray, shape (n,)
        Standard deviation, metres.
    slopes : numpy.ndarray, shape (n, d)
        Sample of the slopes, m/m; per pixel if the spacing is unknown.
    rough_m : numpy.ndarray, shape (n, d)
        Sample of ``|depth - mean of 3 × 3 pixels|``, metres.
    concentration : numpy.ndarray, shape (n, 2, len(CONTOURS_M))
        Mean cos(2π depth / step) and mean cos(4π depth / step). Both are 1 if all depths are
        multiples of the step, and about 0 if no step is preferred. NaN if the window has less
        relief than three steps.
    """

    side: int
    shape: tuple[int, int]
    places: np.ndarray
    missing: float
    depths: np.ndarray
    radial: np.ndarray
    axial: np.ndarray
    directions: np.ndarray
    even: np.ndarray
    noise_m: np.ndarray
    relief_m: np.ndarray
    slopes: np.ndarray
    rough_m: np.ndarray
    concentration: np.ndarray

    @property
    def frequency(self) -> np.ndarray:
        """Frequencies of `radial` and `axial`, cycles per pixel."""
        return np.arange(1, self.side // 2 + 1) / self.side

    @property
    def step_m(self) -> float:
        """Step to which the depths are rounded, metres; 0 if they are not rounded."""
        return rounding_step_m(self.depths)


# --- reading --------------------------------------------------------------------------------


def take_survey(
    read: Read,
    shape: tuple[int, int],
    delta_m: tuple[float, float] | None = None,
    most: int = MOST,
    tell: Callable[[int], object] = lambda count: None,
) -> Survey | None:
    """Measure a map in windows spread over it, one band of rows at a time.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns (rows, columns, C) in metres; NaN is missing. Only the
        first channel is used.
    shape : (int, int)
        Rows and columns of the map.
    delta_m : (float, float), optional
        Grid spacing (between rows, between columns), metres.
    most : int
        Maximum number of windows along each axis; a larger map is sampled.
    tell : callable
        Called with the number of windows after each band.

    Returns
    -------
    Survey or None
        None if no window of 32 pixels has relief and at most 2 % missing pixels.
    """
    for side in SIDES:
        if min(shape) < side or (min(shape) < 2 * side and side != SIDES[-1]):
            continue
        survey = _survey_of(read, shape, side, delta_m or (1.0, 1.0), most, tell)
        if survey is not None:
            return survey
    return None


def _survey_of(
    read: Read,
    shape: tuple[int, int],
    side: int,
    delta_m: tuple[float, float],
    most: int,
    tell: Callable[[int], object],
) -> Survey | None:
    places, measured, missing, count, seen = [], [], 0.0, 0, 0
    for row, column, z in _windows(read, shape, side, most, tell):
        gaps = float(np.isnan(z).mean())
        missing, count = missing + gaps, count + 1
        seen += gaps < 1
        if gaps > _GAP:
            continue
        known = z[~np.isnan(z)]
        if np.ptp(known) > 0:
            z = fill_gaps(z[..., None], side)[..., 0] if gaps else z
            places.append((row, column))
            # Filled pixels are not rounded like the others.
            measured.append(_measured(z.astype(np.float64), delta_m) | {"depths": _some(known)})
    # Where gaps leave few windows, smaller windows cover more of the map.
    if not places or (len(places) < max(4, seen / 10) and side > SIDES[-1]):
        return None
    columns = {name: np.array([part[name] for part in measured]) for name in measured[0]}
    return Survey(side, shape, np.array(places), missing / count, **columns)


def _windows(
    read: Read, shape: tuple[int, int], side: int, most: int, tell: Callable[[int], object]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the windows band by band, which limits memory to `side` rows."""
    firsts = [np.linspace(0, n - side, min(most, -(-n // side))).astype(int) for n in shape]
    for row in firsts[0]:
        band = read(slice(int(row), int(row) + side), slice(0, shape[1]))
        for column in firsts[1]:
            yield int(row), int(column), band[:, column : column + side, 0]
        tell(len(firsts[1]))


def _measured(z: np.ndarray, delta_m: tuple[float, float]) -> dict[str, np.ndarray | float]:
    """Return the entries of `Survey` for a window (side, side) without gaps."""
    power = power_spectrum(z[None, ..., None])
    # Nothing remains of a window that is a plane except for rounding.
    power = np.maximum(power, 1e-12 * max(float(power.max()), 1e-6))
    low, high = np.percentile(z, [5, 95])
    steps = np.array(CONTOURS_M)
    angles = 2 * np.pi * z.ravel()[:: max(1, z.size // 4096), None] / steps
    concentration = np.stack([np.cos(angles).mean(axis=0), np.cos(2 * angles).mean(axis=0)])
    equal = [float((np.diff(z, axis=axis) == 0).mean()) for axis in (0, 1)]
    return {
        "radial": radial_spectrum(power, 1.0)[1],
        "axial": _axial(power),
        "directions": _directions(power),
        "even": sum(equal) / 2,
        "noise_m": noise_sigma_m(z[None]),
        "relief_m": float(z.std()),
        "slopes": _some(slope(z, delta_m)),
        "rough_m": _some(np.abs(z - local_mean(z, 3))),
        "concentration": np.where(high - low >= 3 * steps, concentration, np.nan),
    }


def _some(values: np.ndarray) -> np.ndarray:
    """Return `_KEPT` values spread over a window."""
    return values.ravel()[np.linspace(0, values.size - 1, _KEPT).astype(int)]


def _axial(power: np.ndarray) -> np.ndarray:
    """Return the mean log10 power at each frequency along rows and columns, without zero."""
    half = len(power) // 2
    logs = np.log10(power)
    return (logs[1:, 1 : half + 1].mean(axis=0) + logs[1 : half + 1, 1:].mean(axis=1)) / 2


def _directions(power: np.ndarray) -> np.ndarray:
    """Return the power of the fine scales by direction, relative to each annulus's mean."""
    side = len(power)
    fy, fx = np.meshgrid(*(np.fft.fftfreq(side),) * 2, indexing="ij")
    annulus = np.floor(np.hypot(fy, fx) * side + 0.5).astype(int)
    relative = (
        power
        / (np.bincount(annulus.ravel(), power.ravel()) / np.bincount(annulus.ravel()))[annulus]
    )
    band = (annulus >= _FINE[0] * side) & (annulus <= _FINE[1] * side)
    count = 180 // _DEGREES
    which = np.floor(np.degrees(np.arctan2(fy, fx)) / _DEGREES + 0.5).astype(int)[band] % count
    return np.bincount(which, relative[band], count) / np.bincount(which, minlength=count)


# --- figures of windows ---------------------------------------------------------------------


def energy_lost(survey: Survey) -> np.ndarray:
    """Return the decades of power missing above the Nyquist frequency of a coarser grid.

    A power law is fitted between 0.25 and 0.8 f_N / k, with an exponent held between -2 and -4.5.
    It is compared with the power between 1.6 and 2.4 f_N / k, where an interpolated map has the
    zero of its kernel. The power of the rounding is subtracted first.

    Returns
    -------
    numpy.ndarray, shape (n, len(FACTORS))
        log10(expected ÷ found) for each k; NaN where rounding would hide it, because the expected
        power is less than five times that of the rounding.
    """
    f, floor = survey.frequency, survey.step_m**2 / 12
    x, y = np.log10(f), np.log10(_above(survey.radial, floor))
    lost = np.full((len(y), len(FACTORS)), np.nan)
    for column, k in enumerate(FACTORS):
        limit = 0.5 / k
        low = (f >= max(limit / 4, 1.5 / survey.side)) & (f <= 0.8 * limit)
        high = (f >= 1.6 * limit) & (f <= min(2.4 * limit, 0.5))
        if low.sum() < 3:
            continue
        centred = x[low] - x[low].mean()
        exponent = np.clip(y[:, low] @ centred / (centred @ centred), -4.5, -2)
        expected = y[:, low].mean(axis=1) + exponent * (x[high].mean() - x[low].mean())
        seen = expected > np.log10(5 * floor) if floor else np.ones(len(y), bool)
        lost[:, column] = np.where(seen, expected - y[:, high].mean(axis=1), np.nan)
    return lost


def _above(power: np.ndarray, floor: float) -> np.ndarray:
    """Subtract the power of the rounding; where that hides the rest, return a tenth of it."""
    return np.maximum(power - floor, 0.1 * floor + 1e-12)


def notch_depth(survey: Survey) -> np.ndarray:
    """Return by how many decades the power dips at a coarser grid's sampling frequency 1 / k.

    Returns
    -------
    numpy.ndarray, shape (n, len(FACTORS))
        Mean log10 power at 0.7 and 1.3 of the frequency (for k = 2, at 0.75) minus that at it.
    """
    side, last = survey.side, survey.side // 2

    def level(position: float, k: int) -> np.ndarray:
        half = max(1, side // (16 * k))
        low, high = max(1, int(position - half)), min(last, int(position + half))
        return survey.axial[:, low - 1 : high].mean(axis=1)

    depth = []
    for k in FACTORS:
        at = round(side / k)
        beside = (0.75,) if 1.3 * at >= last else (0.7, 1.3)
        around = sum(level(share * at, k) for share in beside) / len(beside)
        depth.append(around - level(at, k))
    return np.stack(depth, axis=1)


def cutoff(survey: Survey, windows: np.ndarray) -> float | None:
    """Return the frequency, cycles per pixel, above which windows have lost their energy.

    It is the lowest frequency at which the mean log spectrum is a decade below the power law of
    the lower half of all lower frequencies, and stays below it at all higher frequencies.

    Parameters
    ----------
    survey : Survey
        Survey of the map.
    windows : numpy.ndarray of bool, shape (n,)
        Windows to use.
    """
    if not windows.any():
        return None
    f = survey.frequency
    y = np.log10(_above(survey.radial[windows], survey.step_m**2 / 12)).mean(axis=0)
    missing = np.array([_law(f, y, f[i] / 2)[i] - y[i] for i in range(len(f))])
    lost = (missing > 1) & (f > 6 / survey.side)
    return float(f[np.flatnonzero(lost)[0]]) if lost.any() else None


def _law(f: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """Fit a power law to log10 powers `y` below a limit; return it at all frequencies `f`."""
    low = f <= max(limit, f[2])
    x = np.log10(f)
    centred = x[low] - x[low].mean()
    exponent = np.clip(y[low] @ centred / (centred @ centred), -4.5, -2)
    law: np.ndarray = y[low].mean() + exponent * (x - x[low].mean())
    return law


def mean_spectrum(survey: Survey, windows: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Return frequencies, the mean spectrum of the windows and its power law, for a chart.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray, numpy.ndarray), each shape (side / 2,)
        Cycles per pixel; the geometric mean over the windows, m² per (cycle/pixel)²; and the law
        fitted to the lower quarter of the frequencies.
    """
    chosen = survey.radial if windows is None or not windows.any() else survey.radial[windows]
    f, y = survey.frequency, np.log10(np.maximum(chosen, 1e-12)).mean(axis=0)
    return f, 10**y, 10 ** _law(f, y, 0.06)


# --- findings of the relief -----------------------------------------------------------------


def judge_relief(survey: Survey, delta_m: tuple[float, float] | None) -> list[Finding]:
    """Judge from a map's relief how the map was made.

    Parameters
    ----------
    survey : Survey
        Survey of the map.
    delta_m : (float, float) or None
        Grid spacing of the map, metres.

    Returns
    -------
    list of Finding
        Most serious first: interpolation, contour lines, stripes, noise, rounding.
    """
    lost = energy_lost(survey)
    interpolated = (np.nan_to_num(lost, nan=-np.inf) > LOST).any(axis=1)
    known = interpolated | ~np.isnan(lost[:, 0])
    return [
        judge_interpolation(survey, interpolated, known, delta_m),
        judge_terraces(survey),
        judge_stripes(survey, known & ~interpolated),
        judge_noise(survey),
        judge_rounding(survey),
    ]


def judge_interpolation(
    survey: Survey,
    interpolated: np.ndarray,
    known: np.ndarray,
    delta_m: tuple[float, float] | None,
) -> Finding:
    """Judge whether all or part of the map was enlarged or interpolated from fewer points.

    Parameters
    ----------
    survey : Survey
        Survey of the map.
    interpolated, known : numpy.ndarray of bool, shape (n,)
        Windows that lost energy according to `energy_lost`, and those where that is measurable.
    delta_m : (float, float) or None
        Grid spacing, metres.
    """
    name = "interpolated before"
    if known.sum() < max(1, _SOME * known.size):
        return Finding(
            name,
            "note",
            f"cannot be determined: rounding to {survey.step_m:g} m hides the fine relief",
            "Use the map from before it was rounded.",
        )
    share = float(interpolated.sum() / known.sum())
    if share < _SOME:
        figure = f"relief down to the finest scale in {_percent(1 - share)} of the map"
        return Finding(name, "fine", figure)
    frequency = cutoff(survey, interpolated) or 0.25
    pixels = 1 / frequency
    ground = "" if delta_m is None else f" ({_length(pixels * float(np.mean(delta_m)))})"
    factor = _factor(survey, interpolated)
    how = f"; enlarged {factor} times" if factor else ""
    less = factor or max(2, round(pixels / 2))
    return Finding(
        name,
        _grade(share, _SOME, _MANY),
        f"{_percent(share)} of the map has no relief finer than {pixels:.2g} pixels{ground}{how}; "
        f"{_place(survey, interpolated)}",
        f"A network cannot add true detail to it. Enlarge the original map, or the means of "
        f"{less} × {less} pixels.",
        interpolated,
    )


def _factor(survey: Survey, windows: np.ndarray) -> int | None:
    """Return the enlargement factor whose sampling frequency is a notch in most windows."""
    depth = np.median(notch_depth(survey)[windows], axis=0)
    found = [k for k, d in zip(FACTORS, depth, strict=True) if d > _NOTCH.get(k, _ANY_NOTCH)]
    return max(found, default=None)


def contour_column(survey: Survey) -> tuple[int | None, float]:
    """Find the step of contour lines.

    It is the largest of `CONTOURS_M` above the step of rounding at which both the depths and the
    doubled depths are concentrated. With few windows, stronger concentration is required.

    Returns
    -------
    (int or None, float)
        Index in `CONTOURS_M` or None, and the concentration, 0 to 1.
    """
    rounding, best, found = survey.step_m, 0.0, None
    for column, step in enumerate(CONTOURS_M):
        both = survey.concentration[:, :, column]
        # A part of the map in which all depths are multiples was rounded. Halves are rounded to
        # even multiples.
        both = both[both[:, 0] < _ROUNDED]
        if step <= 2 * rounding or len(both) < 2:
            continue
        size = float(both.mean(axis=0).min())
        if size > _TERRACE[0] + 0.2 / np.sqrt(len(both)):
            best, found = size, column
    return found, best


def judge_terraces(survey: Survey) -> Finding:
    """Judge whether depths cluster at multiples of a step, as in a grid made from contours."""
    found, size = contour_column(survey)
    if found is None:
        return Finding("terraces", "fine", "depths do not cluster at multiples of any step")
    both = survey.concentration[:, :, found]
    here = (np.nan_to_num(both).min(axis=1) > _TERRACE[0]) & ~(both[:, 0] >= _ROUNDED)
    # Steps smaller than the roughness of the ground come from recorded numbers and are harmless.
    visible = CONTOURS_M[found] > _VISIBLE * float(np.median(survey.rough_m))
    return Finding(
        "terraces",
        "warning" if size > _TERRACE[1] and visible else "note",
        f"depths cluster at multiples of {CONTOURS_M[found]:g} m (concentration {size:.2f} of 1); "
        f"{_place(survey, here)}",
        "Contour lines or rounded depths were interpolated, and a network mistakes the terraces "
        "for relief. Use soundings, or a grid made from them.",
        here if here.any() else None,
    )


def judge_stripes(survey: Survey, usable: np.ndarray) -> Finding:
    """Judge whether the energy of the fine scales is in one direction, the same everywhere.

    Parameters
    ----------
    survey : Survey
        Survey of the map.
    usable : numpy.ndarray of bool, shape (n,)
        Windows that still have fine relief.
    """
    name, count = "stripes", 180 // _DEGREES
    if usable.mean() < _FEW:
        return Finding(name, "fine", "cannot be determined: too little of the map has fine relief")
    logs = np.log10(survey.directions)
    excess = logs - sum(np.roll(logs, d, axis=1) for d in (-5, -4, -3, 3, 4, 5)) / 6
    mean = excess[usable].mean(axis=0)
    peak = int(mean.argmax())
    # The power of a direction is a mean over this many independent waves in each window.
    waves = np.pi * (_FINE[1] ** 2 - _FINE[0] ** 2) * survey.side**2 / (2 * count)
    chance = 4 * 0.43 / np.sqrt(waves * usable.sum())
    size = float(mean[peak])
    near = excess[:, [(peak + d) % count for d in (-1, 0, 1)]].max(axis=1)
    here = usable & (near > _STRIPE[1])
    if size < max(_STRIPE[0], chance) or not here.any():
        figure = f"no direction has more than {10**size:.2g} times the power of its neighbours"
        return Finding(name, "fine", figure)
    # The waves run across the stripes: stripes along the rows have the frequency of the rows.
    runs = (_DEGREES * peak + 90) % 180
    along = min(runs % 90, -runs % 90) <= _DEGREES
    cause = "the lattice of a coarser grid, or seams" if along else "ship tracks"
    return Finding(
        name,
        "warning" if size > max(_STRIPE[1], chance) else "note",
        f"{10**size:.2g} times as much fine relief across lines at {runs}° to the rows as in "
        f"directions 15° to 25° away; {_place(survey, here)}",
        f"The likely cause is {cause}, unless ridges run in that direction. Use soundings, level "
        f"the tracks or smooth across them.",
        here,
    )


def judge_noise(survey: Survey) -> Finding:
    """Judge whether the finest scales hold noise: a flat spectrum that is not due to rounding."""
    f, floor = survey.frequency, survey.step_m**2 / 12
    last = survey.radial[:, f >= 0.4].mean(axis=1) - floor
    middle = survey.radial[:, (f >= 0.2) & (f <= 0.3)].mean(axis=1) - floor
    sigma = np.sqrt(np.maximum(survey.noise_m**2 - floor, 0))
    noisy = (last > floor) & (last > _FLAT * np.maximum(middle, 0))
    noisy &= sigma > _NOISY * survey.relief_m
    share = float(noisy.mean())
    of = noisy if noisy.any() else np.ones_like(noisy)
    figure = (
        f"standard deviation at most {_length(float(np.median(sigma[of])))}, "
        f"{_percent(float(np.median((sigma / survey.relief_m)[of])))} of the relief within "
        f"{survey.side} pixels"
    )
    if share < _SOME:
        return Finding("noise", "fine", figure)
    return Finding(
        "noise",
        _grade(share, _SOME, _MANY),
        f"{figure}, in {_percent(share)} of the map; {_place(survey, noisy)}",
        "A network also sharpens noise. Smooth the map, or average it to a coarser grid.",
        noisy,
    )


def judge_rounding(survey: Survey) -> Finding:
    """Judge whether rounding hides the fine relief, so that most neighbours are equal."""
    step = survey.step_m
    if not step:
        return Finding("rounding", "fine", "depths are not rounded")
    hidden = survey.even > _EVEN
    share = float(hidden.mean())
    grade = _grade(share, _SOME, _MANY)
    figure = f"depths are multiples of {step:g} m"
    if grade == "fine":
        return Finding("rounding", grade, figure)
    return Finding(
        "rounding",
        grade,
        f"{figure}, and in {_percent(share)} of the map most neighbours are equal; "
        f"{_place(survey, hidden)}",
        "A network turns the steps into edges. Use the map from before it was rounded.",
        hidden,
    )


# --- findings of the file -------------------------------------------------------------------


def judge_file(reader: MapReader, survey: Survey | None) -> list[Finding]:
    """Report how a file is read: its spacing, sign, unit, gaps and fill values.

    Parameters
    ----------
    reader : toolbox.io.maps.MapReader
        The opened map.
    survey : Survey or None
        Survey of the map; None if no window was complete.
    """
    return [
        *_readings(reader),
        _gaps_of(reader, survey),
        _spacing_of(reader),
        _sign_of(reader, survey),
    ]


def _readings(reader: MapReader) -> list[Finding]:
    """Return the reader's remarks about unit and fill values, without the file name."""
    findings = []
    for line in reader.checks:
        grade: Grade = "warning" if line.startswith("WARNING: ") else "note"
        said = line.removeprefix("WARNING: ").removeprefix(f"{reader.path}: ").rstrip(".")
        findings.append(Finding("how it is read", grade, said))
    if not findings:
        unit = reader.units or "metres assumed, as the file states no unit"
        findings.append(Finding("unit and fills", "fine", f"{unit}; no undeclared fill value"))
    return findings


def _spacing_of(reader: MapReader) -> Finding:
    delta = reader.delta_m
    if delta is None:
        return Finding(
            "spacing",
            "note",
            "unknown: the file has no georeference",
            "Slopes cannot be compared with those of the training data. Use a georeferenced file.",
        )
    told = f"{spacing_text(delta)} per pixel"
    if max(delta) / min(delta) <= _OBLONG:
        return Finding("spacing", "fine", told)
    return Finding(
        "spacing",
        "note",
        f"{told}: pixels are {max(delta) / min(delta):.2g} times as long as wide",
        "Project the map to square pixels, like those of the training data.",
    )


def _sign_of(reader: MapReader, survey: Survey | None) -> Finding:
    told = f"positive {reader.positive} ({reader.positive_reason})"
    if survey is not None:
        above = float((survey.depths > 0).mean())
        told = f"{told}; {_percent(above)} above sea level"
        if "assumed" in reader.positive_reason and above == 1:
            return Finding("sign", "note", told, "If these are depths, add --positive down.")
    return Finding("sign", "fine", told)


def _gaps_of(reader: MapReader, survey: Survey | None) -> Finding:
    if min(reader.shape) < SIDES[-1]:
        return Finding(
            "size",
            "note",
            f"{reader.shape[1]} × {reader.shape[0]} pixels are too few to judge the relief",
            f"Give a map of at least {SIDES[-1]} × {SIDES[-1]} pixels.",
        )
    if survey is None:
        return Finding(
            "gaps",
            "warning",
            "no square of 32 × 32 pixels is complete and has relief, so nothing else can be judged",
            "Values next to gaps are extrapolated from few pixels. Use a denser grid.",
        )
    share = survey.missing
    return Finding(
        "gaps",
        "note" if share > 0.01 else "fine",
        f"{_percent(share)} of the pixels are missing",
        "Missing pixels stay missing in the result, and pixels next to gaps are less certain."
        if share > 0.01
        else "",
    )


# --- findings compared with a model's training data ------------------------------------------


def judge_range(
    survey: Survey, delta_m: tuple[float, float] | None, validity: Validity
) -> list[Finding]:
    """Compare depth, slope, roughness and spacing of a map with a model's training data.

    Parameters
    ----------
    survey : Survey
        Survey of the map.
    delta_m : (float, float) or None
        Grid spacing of the map, metres; None assumes that of the training data.
    validity : Validity
        Range of the training data.
    """
    low, high = validity.depth_m
    # Land is judged on its own: a network for sea floors was not trained on it.
    land = (survey.depths > 0) & (high <= 0)
    findings = []
    if not land.all():
        sea = survey.depths[~land]
        told = f"{sea.min():.5g} to {sea.max():.5g} m; trained on {low:.5g} to {high:.5g} m"
        margin = _MARGIN * (high - low)
        beyond = ((survey.depths < low - margin) | (survey.depths > high + margin)) & ~land
        findings.append(_outside("depth and training", beyond, told, survey))
    findings += _land(land)
    slopes = survey.slopes
    if delta_m is None:
        slopes = slopes / float(np.mean(validity.delta_lr_m))
    top = float(np.quantile(slopes, 0.999))
    told = f"99.9 % below {top:.2g} m/m; trained on up to {validity.slope:.2g} m/m"
    findings.append(_outside("slope and training", slopes > validity.slope, told, survey))
    if validity.roughness_m is not None:
        top = float(np.quantile(survey.rough_m, 0.999))
        told = f"99.9 % below {_length(top)}; trained on up to {_length(validity.roughness_m)}"
        beyond = survey.rough_m > validity.roughness_m
        findings.append(_outside("roughness and training", beyond, told, survey))
    if delta_m is not None:
        findings.append(_spacing_against(validity, delta_m))
    return findings


def _spacing_against(validity: Validity, delta_m: tuple[float, float]) -> Finding:
    """Compare the spacing with the finest and the coarsest of the training data."""
    name, finest = "spacing and training", validity.delta_lr_m
    coarsest = validity.coarsest_lr_m or finest
    own, low, high = (float(np.sqrt(np.prod(pair))) for pair in (delta_m, finest, coarsest))
    upto = f" to {spacing_text(coarsest)}" if high > low else ""
    told = f"{spacing_text(delta_m)}; trained on {spacing_text(finest)}{upto}"
    if low / _SPACINGS <= own <= high * _SPACINGS:
        return Finding(name, "fine", told)
    how = f"{low / own:.2g} times finer" if own < low else f"{own / high:.2g} times coarser"
    return Finding(
        name,
        "note",
        f"{told}: {how}",
        "Slopes and relief differ with the spacing. Test the model on an area of which you have "
        "a finer map.",
    )


#: Length ÷ width of a pixel above which there is a note.
_OBLONG = 2.0
#: Ratio of spacings above which there is a note.
_SPACINGS = 4.0
#: Shares of the pixels outside the training range that give a note and a warning. By definition
#: of the range, 0.1 % of the training data itself is steeper.
_OUTSIDE = (0.005, 0.1)
#: Depths beyond the training range by less than this share of it count as inside.
_MARGIN = 0.001
#: Share of land above which the sign of a map of the sea is in doubt.
_MOSTLY = 0.9


def _land(land: np.ndarray) -> list[Finding]:
    """Report land if the training data had none."""
    share = float(land.mean())
    if share <= _OUTSIDE[0]:
        return []
    figure = f"{_percent(share)} is above sea level; trained on sea floors only"
    grade: Grade = "warning" if share > _MOSTLY else "note"
    sign = "If these are depths, set positive: down. " if grade == "warning" else ""
    advice = f"{sign}Detail that the model adds on land is a guess. Use the sea only."
    return [Finding("land", grade, figure, advice, land.mean(axis=1) > _OUTSIDE[0])]


def _outside(name: str, beyond: np.ndarray, told: str, survey: Survey) -> Finding:
    share = float(beyond.mean())
    grade = _grade(share, *_OUTSIDE)
    if grade == "fine":
        return Finding(name, grade, told)
    here = beyond.mean(axis=1) > _OUTSIDE[0]
    return Finding(
        name,
        grade,
        f"{_percent(share)} of the map outside: {told}; {_place(survey, here)}",
        "Detail that the model adds there is a guess. Train on similar ground, or mark these "
        "places with --range-mask.",
        here,
    )


# --- words ----------------------------------------------------------------------------------


def verdict(findings: Sequence[Finding]) -> tuple[Grade, str]:
    """Return the worst grade and one line with its meaning and reason.

    Parameters
    ----------
    findings : sequence of Finding
        The first finding of the worst grade is the reason.
    """
    for grade, words in (("warning", "doubtful"), ("note", "usable with care")):
        named = [finding for finding in findings if finding.grade == grade]
        if named:
            more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
            return named[0].grade, f"{words}: {named[0].name}: {named[0].figure}{more}"
    return "fine", "fit to be enlarged: no problem found"


def _grade(share: float, note: float, warning: float) -> Grade:
    return "warning" if share >= warning else "note" if share >= note else "fine"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.02 or not share else f"{100 * share:.1g} %"


def _length(metres: float) -> str:
    return f"{metres / 1000:.3g} km" if metres >= 1000 else f"{metres:.3g} m"


def _place(survey: Survey, windows: np.ndarray) -> str:
    """Describe where windows are: all over the map, or in which rectangle of it."""
    if windows.mean() > 0.9:
        return "throughout the map"
    first, last = survey.places[windows].min(axis=0), survey.places[windows].max(axis=0)
    rows, columns = (f"{a}-{b + survey.side - 1}" for a, b in zip(first, last, strict=True))
    return f"within rows {rows}, columns {columns}"
