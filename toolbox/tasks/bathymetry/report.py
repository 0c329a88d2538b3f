"""The one-page HTML report of an enhanced map: one file that opens anywhere and offline."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy import ndimage

from toolbox.errors import DataError
from toolbox.pages import (
    Box,
    Chart,
    Facts,
    Line,
    Page,
    Picture,
    Row,
    Ruler,
    Slider,
    Text,
    chart,
    number,
    repeat,
    round_length,
)
from toolbox.plotter import METHODS
from toolbox.resample import local_mean
from toolbox.tasks.bathymetry.relief import (
    colours_of,
    difference_colours,
    exaggeration_of,
    finite,
    signal,
    spacing,
)
from toolbox.tasks.bathymetry.terrain import slope, spacing_text

#: First row, first column, rows, columns: a rectangle in pixels of the input map.
Window = tuple[int, int, int, int]

_CAVEAT = "Detail was added that is likely, not measured; do not use for navigation."
_LINES = {"input": ("input", "black"), "bicubic": METHODS["bicubic"], "sr": METHODS["sr"]}
# High-pass of the relief: difference from the mean of a square with this side, input pixels.
_HIGH_PASS = 5


@dataclasses.dataclass(frozen=True)
class MapView:
    """A rectangle of a map at both resolutions.

    Attributes
    ----------
    before : numpy.ndarray, shape (h, w) or (h, w, 3)
        The input, in metres (elevation, negative below sea level) or grey values; NaN is missing.
    bicubic, after : numpy.ndarray, shape (h * scale, w * scale) or (h * scale, w * scale, 3)
        The plain enlargement and that of the network, in the same unit. An overview may have any
        size.
    delta_m : (float, float) or None
        Spacing of `after` in metres (between rows, between columns); None counts in pixels.
    place : str
        Readable position: ``rows 512-767, columns 0-255 of the input``.
    window : (int, int, int, int) or None
        Position of the box in the overview: first row, first column, number of rows and of
        columns, in pixels of the input. None means all of `before` for an overview, and no box
        for a detail.
    """

    before: np.ndarray
    bicubic: np.ndarray
    after: np.ndarray
    delta_m: tuple[float, float] | None
    place: str
    window: Window | None = None


def choose_detail(before: np.ndarray, size: int) -> tuple[int, int]:
    """Find the square of a map with the most fine relief, for a close-up picture.

    Of the squares with the fewest missing pixels, it is the one with the largest standard
    deviation of the high-passed map, its difference from the mean of 5 × 5 pixels. If several are
    equal, it is the first from the top left.

    Parameters
    ----------
    before : numpy.ndarray, shape (h, w) or (h, w, 3)
        The low-resolution map, any unit; NaN is missing.
    size : int
        Side of the square in pixels; a shorter side of the map is used in full.

    Returns
    -------
    (int, int)
        First row and first column of the square.
    """
    plane = signal(finite(before))
    valid = ~np.isnan(plane)
    # Next to gaps and margins the mean is one-sided, and plain slopes would look like relief.
    share = ndimage.uniform_filter(valid.astype(np.float64), _HIGH_PASS, mode="constant")
    inner = share > 1 - 0.5 / _HIGH_PASS**2
    high = np.where(inner, plane - local_mean(plane, _HIGH_PASS), 0.0)
    side = min(size, plane.shape[0]), min(size, plane.shape[1])
    missing = np.rint(_window_sums(~valid, side))
    count = np.maximum(_window_sums(inner, side), 1)
    variance = _window_sums(high**2, side) / count - (_window_sums(high, side) / count) ** 2
    # Running sums differ in their last digits where the relief is the same.
    floor = 1e-12 * max(1.0, float(np.nanmax(np.abs(plane), initial=0))) ** 2
    variance = np.round(variance / max(float(variance.max()), floor), 6)
    score = np.where(missing == missing.min(), variance, -np.inf)
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(row), int(column)


def write_map_report(
    path: str | os.PathLike[str],
    overview: MapView,
    detail: MapView,
    title: str,
    facts: Mapping[str, str],
    figures: Mapping[str, str],
    warnings: Sequence[str] = (),
    unit: str = "m",
) -> None:
    """Write the report of an enhanced map as one self-contained HTML page.

    The pictures are part of the page. Shaded relief and slopes are drawn only for one channel in
    metres; other images are shown unchanged.

    Parameters
    ----------
    path : path-like
        HTML file; it appears complete or not at all.
    overview : MapView
        The whole map; only its `after` is drawn, and it may be reduced in size.
    detail : MapView
        A small part, where `bicubic` and `after` are an integer multiple of `before`. It has all
        pixels, so the slopes are counted here.
    title : str
        Heading of the page.
    facts : dict of str to str
        How the map was made: input file, model, scale, settings, coordinates, date.
    figures : dict of str to str
        Key figures with their units.
    warnings : sequence of str
        Warnings for the top of the page.
    unit : str
        Unit of the values; only ``m`` is treated as elevation.

    Raises
    ------
    DataError
        If a view holds no image, or the sizes of the detail do not match.
    """
    overview, detail = _checked(overview, "overview"), _checked(detail, "detail")
    scale = _scale_of(detail)
    relief = unit == "m" and detail.after.ndim == 2 and overview.after.ndim == 2
    line = _profile_line(signal(detail.before))
    page = Page(title, overview.place)
    page.warnings("Before you use this map", warnings)
    page.section("Key figures", Facts(figures))
    page.section(
        "The whole map after super-resolution", _overview_picture(overview, detail, unit, relief)
    )
    _add_detail(page, detail, scale, unit, relief)
    page.section("Difference", _difference_row(detail, unit, line))
    y_label = f"elevation ({unit})" if relief else f"value ({unit})"
    page.section("Profile", _profile_chart(detail, scale, y_label, line))
    if relief:
        page.section("Slopes", _slopes_row(detail, scale))
    page.section("How this map was made", Facts(facts))
    page.caveat(_CAVEAT)
    page.write(path)


# --- input ----------------------------------------------------------------------------------


def _checked(view: MapView, name: str) -> MapView:
    """Return the view as floats with NaN gaps, or raise an error."""
    images = [finite(np.asarray(img)) for img in (view.before, view.bicubic, view.after)]
    for part, img in zip(("before", "bicubic", "after"), images, strict=True):
        if not img.size or img.ndim not in (2, 3) or img.shape[2:] not in ((), (3,)):
            raise DataError(
                f"report: {name}.{part} must be an image (h, w) or (h, w, 3); "
                f"received shape {img.shape}."
            )
    if len({img.ndim for img in images}) > 1:
        raise DataError(f"report: {name} must be all grey or all coloured; received both.")
    before, bicubic, after = images
    return dataclasses.replace(view, before=before, bicubic=bicubic, after=after)


def _scale_of(detail: MapView) -> int:
    """Return the enlargement factor of the detail, which must be one integer."""
    rows, columns = detail.before.shape[:2]
    scale = detail.after.shape[0] // rows
    wanted = (rows * scale, columns * scale)
    if not scale or detail.after.shape[:2] != wanted or detail.bicubic.shape[:2] != wanted:
        raise DataError(
            f"report: detail.bicubic and detail.after must be an integer multiple of "
            f"detail.before; "
            f"received {detail.bicubic.shape[:2]} and {detail.after.shape[:2]} for "
            f"{(rows, columns)}. Cut all three from the same rectangle of the input."
        )
    return scale


def _window_sums(values: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Return the sum of every inner window of `side` pixels, (h - side + 1, w - side + 1)."""
    total = np.pad(np.asarray(values, np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = side
    return (
        total[rows:, columns:]
        - total[:-rows, columns:]
        - total[rows:, :-columns]
        + total[:-rows, :-columns]
    )


# --- sections of the page -------------------------------------------------------------------


def _overview_picture(overview: MapView, detail: MapView, unit: str, relief: bool) -> Picture:
    """Show the whole map with a box around the detail, a colour scale and a ruler."""
    after, delta = overview.after, spacing(overview.delta_m)
    colours = colours_of([after], unit=unit)
    if relief:
        factor = exaggeration_of(after, delta)
        pixels = colours.shade(after, delta, factor)
        how = f"Shaded relief, {_light_text(factor, overview)}."
    else:
        pixels, how = colours.paint(after), "The enlarged image."
    caption, box = how, None
    if detail.window is not None:
        top, left, rows, columns = overview.window or (0, 0, *overview.before.shape[:2])
        row, column, height, width = detail.window
        box = Box((row - top) / rows, (column - left) / columns, height / rows, width / columns)
        caption += f" The box marks the detail below: {detail.place}."
    if colours.table is not None:
        caption += " The colour scale ends at the 1st and 99th percentile."
    ratio = _ratio(after, delta)
    return Picture(
        pixels,
        f"{how[:-1]}, of the whole map after super-resolution; "
        f"{number(colours.low)} to {number(colours.high)} {unit}.",
        caption=f"{caption} {_missing_text(after)}",
        ratio=ratio,
        box=box,
        ruler=_ruler(overview),
        width_rem=44 * ratio,
        scale=colours.bar(unit),
    )


def _add_detail(page: Page, detail: MapView, scale: int, unit: str, relief: bool) -> None:
    """Show input, bicubic and super-resolution side by side, plain and shaded, and a slider."""
    colours = colours_of([detail.before, detail.bicubic, detail.after], unit=unit)
    delta = spacing(detail.delta_m)
    ratio = _ratio(detail.after, delta)
    factor = exaggeration_of(detail.after, delta) if relief else 1.0
    plain, shaded = [], []
    for label, grid, img, step, own in _three(detail, scale):
        pixels = repeat(colours.paint(img), step)
        plain.append(Picture(pixels, f"{label}{grid}", label, grid, ratio))
        if relief:
            pixels = repeat(colours.shade(img, own, factor), step)
            alt = f"Shaded relief: {label}{grid}"
            shaded.append(Picture(pixels, alt, label, ", shaded", ratio))
    light = f"The shaded pictures are {_light_text(factor, detail)}, the same for all three."
    _, before, after = shaded or plain
    page.section(
        "Detail",
        Text(
            f"{detail.place[:1].upper()}{detail.place[1:].rstrip('.')}. "
            f"{_missing_text(detail.after)}",
            quiet=True,
        ),
        Row([[picture] for picture in plain]),
        colours.bar(unit),
        Row([[picture] for picture in shaded]),
        Text(light, quiet=True) if relief else None,
        Slider(
            before,
            after,
            "Left: bicubic. Right: super-resolution.",
            width_rem=min(44 * ratio, 44),
        ),
    )


def _difference_row(detail: MapView, unit: str, line: tuple[int, int]) -> Row:
    """Show what the network changed compared with bicubic, and the position of the profile."""
    change = signal(detail.after) - signal(detail.bicubic)
    size = np.abs(change[~np.isnan(change)])
    colours = difference_colours([change])
    told = "no valid pixels"
    if size.size:
        rms, most = number(float(np.sqrt(np.mean(size**2)))), number(float(size.max()))
        told = f"root mean square {rms} {unit}, at most {most} {unit}"
    what = "super-resolution − bicubic" + ", mean of the channels" * (detail.after.ndim == 3)
    axis, index = line
    picture = Picture(
        colours.paint(change),
        f"Difference {what}: {told}",
        ratio=_ratio(change, spacing(detail.delta_m)),
        line=Line(axis, (index + 0.5) / detail.before.shape[axis]),
    )
    words = [
        Text(f"{told}.", lead=f"{what}:"),
        Text(
            "Red: the network is above bicubic; blue: below. None of it was measured. "
            f"{_missing_text(change)}"
        ),
        Text("Dashed line: the profile below."),
    ]
    bar = colours.bar(unit)
    return Row([[picture], [bar, *words] if bar else words])


def _profile_chart(detail: MapView, scale: int, y_label: str, line: tuple[int, int]) -> Chart:
    """Show a profile through the detail."""
    first = detail.window[line[0]] if detail.window else 0
    along = f"{('row', 'column')[line[0]]} {first + line[1]} of the input"
    along += "" if detail.window else " detail"
    return chart(
        lambda ax: _draw_profile(ax, detail, scale, line, y_label),
        f"Profile along {along}: input as steps, bicubic and super-resolution",
        f"Along {along} (the first is 0), the line with the largest relief of the detail.",
        wide=True,
    )


def _slopes_row(detail: MapView, scale: int) -> Row:
    """Show the histogram of slopes, and explain why its curves are not one quantity."""
    per = "m/m" if detail.delta_m else "m per pixel of the enlarged map"
    histogram = chart(
        lambda ax: _draw_slopes(ax, detail, scale, per),
        "Histogram of slopes of input, bicubic and super-resolution; the share is logarithmic",
        "In the detail. The steepest 0.1 % are not drawn.",
    )
    note = Text(
        "A coarse grid averages over a longer distance, so the same ground has gentler slopes on "
        "it. Compare bicubic with super-resolution, which share a grid; the input is drawn for "
        "reference.",
        lead="Slopes of the low-resolution input and of the enlarged maps are not interchangeable.",
    )
    return Row([[histogram], [note]])


# --- parts of a section ---------------------------------------------------------------------

#: Label, grid, image, repetitions of each pixel, spacing.
_Panel = tuple[str, str, np.ndarray, int, tuple[float, float]]


def _three(detail: MapView, scale: int) -> list[_Panel]:
    """Return the images that are compared, from the input to the network."""
    fine, coarse = spacing(detail.delta_m), spacing(detail.delta_m, scale)
    known = detail.delta_m is not None
    grids = [f", grid {_grid_text(delta)}" if known else "" for delta in (coarse, fine)]
    return [
        ("Input", grids[0], detail.before, scale, coarse),
        (_LINES["bicubic"][0].capitalize(), grids[1], detail.bicubic, 1, fine),
        (_LINES["sr"][0].capitalize(), grids[1], detail.after, 1, fine),
    ]


def _ruler(view: MapView) -> Ruler | None:
    """Return a bar of a round number of metres or kilometres, at most a quarter of the picture."""
    if view.delta_m is None:
        return None
    width_m = view.after.shape[1] * spacing(view.delta_m)[1]
    length_m = round_length(width_m / 4)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    return Ruler(text, length_m / width_m)


def _ratio(img: np.ndarray, delta: tuple[float, float]) -> float:
    """Return width ÷ height on the ground."""
    return img.shape[1] * delta[1] / (img.shape[0] * delta[0])


def _grid_text(delta: tuple[float, float]) -> str:
    """Write the spacing; once if rows and columns have the same."""
    return spacing_text(delta[0] if math.isclose(*delta, rel_tol=1e-4) else delta)


def _light_text(factor: float, view: MapView) -> str:
    if view.delta_m is None:
        return "lit from the upper left"
    return f"lit from the upper left, slopes exaggerated {number(factor)} times"


def _missing_text(img: np.ndarray) -> str:
    share = float(np.isnan(signal(img)).mean())
    return f"Grey: missing ({number(100 * share)} % of the pixels)." if share else ""


# --- charts ---------------------------------------------------------------------------------


def _profile_line(before: np.ndarray) -> tuple[int, int]:
    """Return axis (0: a row, 1: a column) and index of the line with the largest relief."""
    valid = ~np.isnan(before)
    best = (0.0, 0, before.shape[0] // 2)
    for axis in (0, 1):
        high = np.where(valid, before, -np.inf).max(axis=1 - axis)
        low = np.where(valid, before, np.inf).min(axis=1 - axis)
        # A line that is mostly missing shows little, however high the rest of it is.
        score = np.where(high >= low, high - low, 0) * valid.mean(axis=1 - axis)
        if score.max() > best[0]:
            best = (float(score.max()), axis, int(score.argmax()))
    return best[1], best[2]


def _draw_profile(
    ax: Axes, detail: MapView, scale: int, line: tuple[int, int], y_label: str
) -> None:
    """Draw the input as steps, bicubic and super-resolution along one line of pixels."""
    axis, index = line
    fine = index * scale + scale // 2
    before = np.take(signal(detail.before), index, axis)
    step = spacing(detail.delta_m)[1 - axis]
    length = step * scale * len(before)
    unit, per = ("km", 1000) if length >= 5000 else ("m", 1)
    if detail.delta_m is None:
        unit, per = "pixels of the enlarged map", 1
    label, colour = _LINES["input"]
    edges = np.arange(len(before) + 1) * scale * step / per
    ax.stairs(before, edges, baseline=None, color=colour, label=label, linewidth=0.9)
    for name, img in (("bicubic", detail.bicubic), ("sr", detail.after)):
        values = np.take(signal(img), fine, axis)
        label, colour = _LINES[name]
        x = (np.arange(len(values)) + 0.5) * step / per
        ax.plot(x, values, color=colour, label=label, linewidth=1.6)
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel(f"distance ({unit})")
    ax.set_ylabel(y_label.replace("$", r"\$"))
    if np.isnan(before).all():
        ax.text(0.5, 0.5, "no valid pixels", transform=ax.transAxes, ha="center")


def _draw_slopes(ax: Axes, detail: MapView, scale: int, per: str) -> None:
    """Draw the share of the pixels in each of 50 classes of slope, logarithmic."""
    slopes = {}
    images = zip(("input", "bicubic", "sr"), _three(detail, scale), strict=True)
    for name, (_, _, img, step, own) in images:
        # Without a spacing, a pixel of the enlarged map is the unit of all three.
        values = slope(img, own if detail.delta_m else (float(step), float(step)))
        slopes[name] = values[~np.isnan(values)]
    everything = np.concatenate(list(slopes.values()))
    top = float(np.percentile(everything, 99.9)) if everything.size else 0.0
    edges = np.linspace(0, top or 1.0, 51)
    for name, values in slopes.items():
        if values.size:
            label, colour = _LINES[name]
            share = 100 * np.histogram(values, edges)[0] / values.size
            label = f"{label} (mean {number(float(values.mean()))})"
            ax.stairs(share, edges, color=colour, label=label, linewidth=1.4)
    if everything.size:
        ax.set_yscale("log")
        ax.set_ylim(50 / max(len(values) for values in slopes.values()), 150)
    else:
        ax.text(0.5, 0.5, "no valid pixels", transform=ax.transAxes, ha="center")
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel(f"slope ({per})")
    ax.set_ylabel("share of the pixels (%)")
