"""Where a network may be trusted: how its training pictures were taken. No TensorFlow.

Dose, noise, contrast and widths are measured in the picture itself, so nothing needs to be known
about the microscope. Noise is measured in the differences between rows, where vertical lines
cancel. The counts of a detector are correlated along a row, but hardly between rows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

from toolbox.errors import DataError
from toolbox.tasks.sem.metrology import find_lines

FILE_NAME = "validity.json"
#: Largest number of training pictures that are measured, and the side of the measured part, pixels.
MOST_PICTURES = 128
_PART_PX = 512
#: Quantiles of the training pictures that limit the range.
_RANGE = (0.01, 0.99)
#: A value this far outside the range is still a note, as a share of the width of the range.
_SLACK = 0.1
#: Rows or columns that are averaged to find the direction of the lines.
_BAND_PX = 64
#: Grey levels at which the noise is measured, and the least number of pixels of a level.
_LEVELS, _LEAST_PIXELS = 12, 200
#: Half the width of the window about an edge, pixels.
_EDGE_PX = 8


class Conditions(NamedTuple):
    """How a picture was taken, as far as the picture shows it; None where it does not.

    Attributes
    ----------
    pixel_nm : float or None
        Size of a pixel, from the file.
    counts : float or None
        Electrons per pixel that would cause the noise of the brightest parts, if it is counting
        noise alone.
    noise_rise : float or None
        (variance at the bright level - at the dark level) / their sum: positive if brighter parts
        are noisier, as with counts; negative in an inverted picture.
    correlation_x, correlation_y : float or None
        Correlation of the noise of neighbours in a row and in a column.
    direction : float
        1 for vertical lines, 0 for horizontal ones, about 0.5 for neither.
    contrast : float
        Bright minus dark, as a share of the range of the file.
    brightness : float
        Mean grey value, as a share of that range.
    shade : float
        Share by which the bright parts of one quarter of the picture are dimmer than those of
        another.
    line_px, space_px : float or None
        Median widths of bright lines and of the spaces between them, pixels; None without lines.
    edge_px : float or None
        Rise of the mean edge ÷ its steepest slope, pixels: blur and rims.
    jumps_px : float or None
        Standard deviation of the shift of a whole row against its neighbours, pixels.
    """

    pixel_nm: float | None
    counts: float | None
    noise_rise: float | None
    correlation_x: float | None
    correlation_y: float | None
    direction: float
    contrast: float
    brightness: float
    shade: float
    line_px: float | None
    space_px: float | None
    edge_px: float | None
    jumps_px: float | None


def measure_conditions(
    image: np.ndarray, pixel_nm: float | None = None, top: float | None = None
) -> Conditions:
    """Measure how a picture was taken.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values; only the middle of a large picture is measured.
    pixel_nm : float, optional
        Size of a pixel.
    top : float, optional
        Largest grey value of the file; default that of the type, 255 or 65535.

    Returns
    -------
    Conditions
    """
    if top is None:
        top = float(np.iinfo(image.dtype).max) if image.dtype.kind in "ui" else 255.0
    part = _middle(np.asarray(image, np.float64))
    direction = _direction(part)
    upright = part.T if direction < 0.5 else part
    noise = _noise(part)
    line_px, space_px, edge_px = _lines(upright)
    calm = ndimage.gaussian_filter(part, 2.0)
    dark, bright = np.percentile(calm, (5, 95))
    return Conditions(
        pixel_nm,
        *noise,
        direction,
        float(bright - dark) / top,
        float(part.mean()) / top,
        _shade(calm, float(dark)),
        line_px,
        space_px,
        edge_px,
        _jumps(part),
    )


def _middle(image: np.ndarray) -> np.ndarray:
    rows, columns = (max(0, (size - _PART_PX) // 2) for size in image.shape)
    return image[rows : rows + _PART_PX, columns : columns + _PART_PX]


def _direction(image: np.ndarray) -> float:
    """Return the share of vertical structure, from means over bands of rows and columns."""
    across, along = (_band_variance(plane) for plane in (image, image.T))
    return float(across / (across + along)) if across + along > 0 else 0.5


def _band_variance(image: np.ndarray) -> float:
    """Return the variance of band means between columns, without that of the noise."""
    size = min(_BAND_PX, len(image))
    if size < 2:
        return 0.0
    bands = image[: len(image) // size * size].reshape(-1, size, image.shape[1])
    means = bands.mean(axis=1)
    # Differences of neighbouring rows contain little but noise.
    noise = np.diff(bands, axis=1).var() / 2 / size
    return float(max(means.var(axis=1).mean() - noise, 0.0))


def _shade(calm: np.ndarray, dark: float) -> float:
    """Return the share by which one quarter of a smoothed picture is dimmer than another."""
    quarters = [
        part for half in np.array_split(calm, 2) for part in np.array_split(half, 2, axis=1)
    ]
    bright = [float(np.percentile(part, 95)) - dark for part in quarters if part.size]
    return 1 - max(min(bright), 0.0) / max(bright) if max(bright) > 0 else 0.0


def _noise(
    image: np.ndarray,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Return counts, noise rise, and the correlation of the noise along x and y."""
    if min(image.shape) < 16:
        return None, None, None, None
    near, far = image[1:-1] - image[:-2], image[2:] - image[:-2]
    # Differences of whole rows are not counting noise.
    near, far = (step - np.median(step, axis=1, keepdims=True) for step in (near, far))
    calm = ndimage.gaussian_filter(image, (3.0, 1.0))[1:-1]
    even = _even(calm)
    if not even.sum() >= _LEAST_PIXELS:
        return None, None, None, None
    squares = [np.square(step) for step in (near, far)]
    variance = float(squares[0][even].mean())
    if not variance > 0:
        return None, None, None, None
    # Neighbours in a column: near = 2 σ² (1 - ρ), far = 2 σ² (1 - ρ²).
    down = float(np.clip(squares[1][even].mean() / variance - 1, -0.9, 0.9))
    both = even[:, 1:] & even[:, :-1]
    one, next_one = near[:, :-1][both], near[:, 1:][both]
    row = float(2 * (one @ next_one) / (one @ one + next_one @ next_one))
    levels, variances = _levels(calm, squares[0] / (2 * (1 - down)), even)
    if len(levels) < 2:
        return None, None, row, down
    low, high = variances[0], variances[-1]
    rise = float((high - low) / (high + low))
    slope, offset = np.polyfit(levels, variances, 1)
    fitted = slope * levels[-1] + offset
    # Counting noise would be zero at black. Black is below all levels, if it can be found.
    black = -offset / slope if slope > 0 else levels[0]
    black = float(np.clip(black, levels[0] - (levels[-1] - levels[0]), levels[0]))
    return float((levels[-1] - black) ** 2 / max(fitted, 1e-9)), rise, row, down


def _even(calm: np.ndarray) -> np.ndarray:
    """Return a mask of where a smoothed picture has little slope: away from edges."""
    slope = np.hypot(*(ndimage.sobel(calm, axis) for axis in (0, 1)))
    return np.asarray(slope <= np.median(slope))


def _levels(
    calm: np.ndarray, variance: np.ndarray, even: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return grey levels in ascending order and the noise variance at each."""
    grey, square = calm[even], variance[even]
    count = min(_LEVELS, len(grey) // _LEAST_PIXELS)
    parts = np.array_split(np.argsort(grey), max(count, 1))
    return (
        np.array([grey[part].mean() for part in parts]),
        np.array([square[part].mean() for part in parts]),
    )


def _lines(image: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Return the widths of lines, spaces and edges, pixels."""
    try:
        edges = find_lines(ndimage.gaussian_filter1d(image, 4.0, axis=0, mode="nearest"))
    except DataError:
        return None, None, None
    clear = np.flatnonzero(edges.clear)
    left, right = edges.left_px[clear], edges.right_px[clear]
    line = float(np.nanmedian(right - left))
    gaps = left[1:] - right[:-1]
    space = float(np.nanmedian(gaps)) if len(clear) > 1 else None
    profiles = [_edge_profile(image, left, 1), _edge_profile(image, right, -1)]
    profile = np.mean(profiles, axis=0)
    steepest = float(np.diff(profile).max())
    width = float(np.ptp(profile)) / steepest if steepest > 0 else None
    return line, space, width


def _jumps(image: np.ndarray) -> float | None:
    """Return how far rows jump, pixels: the shift that both halves of a row have in common.

    Noise and roughness move the edges of each half independently.
    """
    if min(image.shape) < 16:
        return None
    calm = ndimage.gaussian_filter1d(image, 4.0, axis=0)
    slope = ndimage.gaussian_filter1d(calm, 1.0, axis=1, order=1)
    weight, moved = np.square(slope), (calm - image) * slope
    half = image.shape[1] // 2
    halves = [slice(None, half), slice(half, None)]
    if not min(weight[:, part].sum(axis=1).min() for part in halves) > 0:
        return None
    shifts = [moved[:, part].sum(axis=1) / weight[:, part].sum(axis=1) for part in halves]
    # The jumps are measured about smoothed rows, which contain a part of them.
    kernel = ndimage.gaussian_filter1d(np.eye(1, 65, 32)[0], 4.0)
    seen = 1 - 2 * kernel[32] + np.square(kernel).sum()
    return float(np.sqrt(max(np.cov(*shifts)[0, 1] / seen, 0.0)))


def _edge_profile(image: np.ndarray, edges: np.ndarray, sign: int) -> np.ndarray:
    """Return the mean grey values across edges (lines, H), from dark to bright."""
    places = np.where(np.isfinite(edges), edges, np.nanmedian(edges, axis=1, keepdims=True))
    columns = places[..., None] + sign * np.arange(-_EDGE_PX, _EDGE_PX + 1)
    rows = np.broadcast_to(np.arange(len(image))[:, None], columns.shape)
    values = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")
    return np.asarray(values.mean(axis=(0, 1)))


# --- what the network knows -----------------------------------------------------------------


class Finding(NamedTuple):
    """One condition of a picture, compared with those of the training pictures.

    Attributes
    ----------
    name : str
        Name of the condition, such as ``dose``.
    grade : {'fine', 'note', 'warning'}
        In the accepted range, a little outside, or well outside.
    figure : str
        The measured value and the accepted range.
    advice : str
        What to do; empty if it is fine.
    """

    name: str
    grade: Literal["fine", "note", "warning"]
    figure: str
    advice: str = ""


class Validity(NamedTuple):
    """Conditions of the training pictures of a run.

    Attributes
    ----------
    pictures : int
        Number of pictures measured.
    ranges : dict of str to (float, float)
        The 1 % and 99 % quantiles by name of `Conditions`; without conditions that fewer than half
        of the pictures show.
    """

    pictures: int
    ranges: dict[str, tuple[float, float]]


class _Quantity(NamedTuple):
    """How a condition is compared, by its logarithm or directly, and reported.

    A measured value is not exact, so it is fine up to half of `slack` outside the range of the
    training pictures; for a logarithm, `slack` is a ratio. `limits` are those of the quantity.
    """

    name: str
    unit: str
    log: bool
    slack: float
    below: str
    above: str
    limits: tuple[float, float] = (-math.inf, math.inf)

    def accepted(self, low: float, high: float) -> tuple[float, float]:
        """Return the range in which a value is fine, rounded as it is printed."""
        extra = self.slack / 2
        if not self.log:
            low, high = max(low - extra, self.limits[0]), min(high + extra, self.limits[1])
        elif low > 0:
            low, high = low * math.exp(-extra), high * math.exp(extra)
        return _rounded(low), _rounded(high)


_AVERAGE = "Average more frames, or the lines may be invented."
_KEEP = "It may be better as it is: restoring may mistake real detail for noise."
_SIZE = "The network knows lengths in pixels: take the pictures at a magnification in that range."
_OTHER_NOISE = "The network mistakes other noise for detail. Train on such pictures."
_SCALE = "Set contrast and brightness of the microscope as for the training pictures."
_QUANTITIES = {
    "pixel_nm": _Quantity("size of a pixel", " nm", True, 0.1, _SIZE, _SIZE),
    "counts": _Quantity("dose", " counts", True, 0.2, _AVERAGE, _KEEP),
    "noise_rise": _Quantity(
        "polarity",
        "",
        False,
        0.1,
        "Brighter parts are not noisier, although counts would be. If lines and spaces are "
        "inverted, or the picture was filtered, use the original.",
        _OTHER_NOISE,
        (-1.0, 1.0),
    ),
    "correlation_x": _Quantity(
        "noise along rows",
        "",
        False,
        0.1,
        _OTHER_NOISE,
        "Use pictures that were not filtered.",
        (-1.0, 1.0),
    ),
    "correlation_y": _Quantity(
        "noise along columns",
        "",
        False,
        0.1,
        _OTHER_NOISE,
        "Use pictures that were neither filtered nor turned.",
        (-1.0, 1.0),
    ),
    "direction": _Quantity(
        "direction of lines",
        "",
        False,
        0.1,
        "Turn the scan so that lines run as in the training pictures; the network does not know "
        "other shapes.",
        "Turn the scan so that lines run as in the training pictures.",
        (0.0, 1.0),
    ),
    "contrast": _Quantity("contrast", " of the range", True, 0.2, _SCALE, _SCALE),
    "brightness": _Quantity("brightness", " of the range", False, 0.05, _SCALE, _SCALE, (0.0, 1.0)),
    "shade": _Quantity(
        "shade",
        "",
        False,
        0.05,
        "",
        "Charging, or a detector on one side: reduce it, or crop the picture.",
        (0.0, 1.0),
    ),
    "line_px": _Quantity("width of lines", " px", True, 0.2, _SIZE, _SIZE),
    "space_px": _Quantity("width of spaces", " px", True, 0.2, _SIZE, _SIZE),
    "edge_px": _Quantity("width of edges", " px", True, 0.2, _SIZE, _SIZE),
    "jumps_px": _Quantity(
        "jumps of rows",
        " px",
        False,
        0.2,
        "",
        "Rows that jump look like roughness. Steady the scan, or average frames.",
        (0.0, math.inf),
    ),
}
_NOT_SEEN = {
    "pixel_nm": "The size of a pixel is not known: state it with --pixel-nm.",
    "counts": "No counting noise was found. Use the picture as it was measured.",
    "line_px": "No bright lines were found. Turn or invert the picture; the network does not know "
    "other shapes.",
    "space_px": "There is only one line, or none.",
}
#: Conditions that cause only a note if they are unknown.
_MINOR = ("pixel_nm", "space_px")


def validity_of(pictures: Iterable[Conditions]) -> Validity:
    """Return the ranges of the conditions of training pictures."""
    table = list(pictures)
    ranges = {}
    for name in Conditions._fields:
        known = [value for row in table if (value := getattr(row, name)) is not None]
        if known and 2 * len(known) >= len(table):
            low, high = np.quantile(known, _RANGE)
            ranges[name] = (float(low), float(high))
    return Validity(len(table), ranges)


def findings_of(conditions: Conditions, validity: Validity) -> list[Finding]:
    """Compare a picture with the training pictures of a run.

    Parameters
    ----------
    conditions : Conditions
        Conditions of the picture.
    validity : Validity
        Those of the training pictures.

    Returns
    -------
    list of Finding
        In the order of `Conditions`, without conditions that the training pictures do not show.
    """
    found = []
    for key, (low, high) in validity.ranges.items():
        quantity, value = _QUANTITIES[key], getattr(conditions, key)
        known = "accepted {} to {}{}".format(
            *map(_text, quantity.accepted(low, high)), quantity.unit
        )
        if value is None:
            if key in _NOT_SEEN:
                grade: Literal["note", "warning"] = "note" if key in _MINOR else "warning"
                found.append(Finding(quantity.name, grade, f"unknown; {known}", _NOT_SEEN[key]))
            continue
        figure = f"{_text(value)}{quantity.unit}; {known}"
        beyond = _beyond(value, low, high, quantity)
        if not beyond:
            found.append(Finding(quantity.name, "fine", figure))
        else:
            advice = quantity.below if value < low else quantity.above
            found.append(Finding(quantity.name, beyond, figure, advice))
    return found


def _beyond(
    value: float, low: float, high: float, quantity: _Quantity
) -> Literal["note", "warning"] | None:
    """Return how far a value lies outside the accepted range, None if it lies inside."""
    least, most = quantity.accepted(low, high)
    if least <= _rounded(value) <= most:
        return None
    if quantity.log:
        if min(low, value) <= 0:
            return "warning"
        value, low, high = math.log(value), math.log(low), math.log(high)
    distance = max(low - value, value - high)
    return "note" if distance <= max(_SLACK * (high - low), quantity.slack) else "warning"


def _rounded(value: float) -> float:
    """Round a value as `_text` prints it, so that grade and printed range agree."""
    return float(f"{value:.3g}")


def _text(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def conditions_text(conditions: Conditions) -> dict[str, str]:
    """Return the measured conditions by name, with their units."""
    return {
        quantity.name: f"{_text(value)}{quantity.unit}"
        for key, quantity in _QUANTITIES.items()
        if (value := getattr(conditions, key)) is not None
    }


def ranges_text(ranges: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return the ranges of a `Validity` by name, with their units."""
    return {
        quantity.name: f"{_text(ranges[key][0])} to {_text(ranges[key][1])}{quantity.unit}"
        for key, quantity in _QUANTITIES.items()
        if key in ranges
    }


def verdict(findings: Sequence[Finding]) -> tuple[str, str]:
    """Return the worst grade and a line with the reason."""
    words = {
        "warning": "outside of what the network knows",
        "note": "at the limits of what the network knows",
    }
    for grade, text in words.items():
        reasons = [f"{f.name} {f.figure}" for f in findings if f.grade == grade]
        if reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            return grade, f"{text}: {reasons[0]}{more}"
    return "fine", "like the pictures that the network was trained on"


def validity_text(validity: Validity) -> str:
    """Return the content of ``validity.json``."""
    return json.dumps(validity._asdict(), indent=2) + "\n"


def load_validity(folder: str | os.PathLike[str]) -> Validity | None:
    """Read ``validity.json`` of a run; return None if there is none.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = Path(folder, FILE_NAME)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ranges = {
            name: (float(content["ranges"][name][0]), float(content["ranges"][name][1]))
            for name in Conditions._fields
            if name in content["ranges"]
        }
        return Validity(int(content["pictures"]), ranges)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise DataError(f"{path}: not a range of validity ({error}). Remove the file.") from None
