"""The one-page HTML report of an enhanced map: one file that opens anywhere, without a network.

Other reports share its page and its style: `html_page`, `table_section`, `warnings_section`,
`embedded` and `round_length`.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import os
import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave
from scipy import ndimage

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.plotter import METHODS
from toolbox.resample import local_mean
from toolbox.tasks.bathymetry.terrain import slope, spacing_text

#: First row, first column, rows, columns: a rectangle in pixels of the input map.
Window = tuple[int, int, int, int]

_CAVEAT = "Detail was added that is likely, not measured; do not use for navigation."
_MISSING = (184, 184, 184)
_LINES = {"input": ("input", "black"), "bicubic": METHODS["bicubic"], "sr": METHODS["sr"]}
# Blue against brown is told apart by every kind of colour vision.
_SEA = ("#1b1b4b", "#1f4e9c", "#2a8fbd", "#7cc8cf", "#e0f3ee")
_LAND = ("#e6d9ae", "#b5905a", "#6b4a2b")
# At 30° flat ground has an intensity of 0.5, which leaves its colour as it is.
_LIGHT = LightSource(azdeg=315, altdeg=30)
# Slope after exaggeration of the steepest tenth of the map.
_STEEP = 0.5
_MAX_EXAGGERATION = 1000.0
# High-pass of the relief: what differs from the mean of so many input pixels squared.
_HIGH_PASS = 5
_SMALLEST_SIDE, _LARGEST_SIDE = 600, 1600
_METADATA = {"Software": "sr-toolbox"}
_NARROW_INCHES, _WIDE_INCHES = (4.9, 3.7), (9.6, 3.6)
# Pixels that are enough for limits of colours and slopes; also of a strip of a large picture.
_SAMPLE = 2_000_000

_PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: #fff; color: #222;
  font: 0.875rem/1.5 Verdana, "DejaVu Sans", sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.25rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid #ccc;
  font-size: 1.0625rem; line-height: 1.3; }
p { margin: 0 0 .75rem; max-width: 46rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { margin-top: .35rem; color: #444; font-size: .8125rem; overflow-wrap: anywhere; }
figcaption b { color: #222; }
img { display: block; width: 100%; height: 100%; }
.quiet { color: #555; overflow-wrap: anywhere; }
.row + .quiet { margin-top: .75rem; }
.frame { position: relative; width: 100%; overflow: hidden; background: #eee; }
.chart img { height: auto; }
.row > div > .scale:first-child { margin-top: 0; }
.row { display: grid; gap: 1.25rem 1rem; align-items: start; }
.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.scale { display: flex; align-items: center; gap: .6rem; max-width: 34rem; margin: .75rem 0 1rem;
  font-size: .8125rem; white-space: nowrap; }
.scale span { flex: 1; height: .8rem; border: 1px solid #888; }
.ruler { margin-top: .5rem; border: solid #222; border-width: 0 1px 2px; padding-bottom: .1rem;
  font-size: .75rem; line-height: 1.2; text-align: center; white-space: nowrap; }
.box { position: absolute; min-width: 8px; min-height: 8px; border: 2px solid #fff;
  outline: 2px solid #111; }
.line { position: absolute; border: 0 dashed #111; }
.warnings { margin: 1rem 0; padding: .75rem 1rem; border: 2px solid #d55e00;
  border-left-width: .6rem; background: #fff4e8; break-inside: avoid; }
.warnings h2 { margin: 0 0 .25rem; padding: 0; border: 0; }
.warnings ul { margin: 0; padding-left: 1.2rem; }
.caveat { margin: 2.25rem 0 0; padding: .75rem 1rem; max-width: none; border: 2px solid #222;
  font-weight: bold; break-inside: avoid; }
table { width: 100%; max-width: 46rem; border-collapse: collapse; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #ddd; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { width: 45%; font-weight: normal; color: #444; }
tr { break-inside: avoid; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 2rem; font-size: .9375rem; }
  .three, .two { grid-template-columns: minmax(0, 1fr); }
}
@media print {
  @page { size: A4; margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  h2 { break-after: avoid; }
  .three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="quiet">$place</p>
</header>
<main>
$body
</main>
</body>
</html>
""")


@dataclasses.dataclass(frozen=True)
class MapView:
    """One rectangle of a map at both resolutions.

    Attributes
    ----------
    before : numpy.ndarray, shape (h, w) or (h, w, 3)
        The input, in metres (elevation, negative below sea level) or grey values; NaN is missing.
    bicubic, after : numpy.ndarray, shape (h * scale, w * scale) or (h * scale, w * scale, 3)
        The plain enlargement and the network's, same unit; of an overview, any size.
    delta_m : (float, float) or None
        Spacing of `after` in metres (between rows, between columns); None counts in pixels.
    place : str
        Where it lies, for people: ``rows 512-767, columns 0-255 of the input``.
    window : (int, int, int, int) or None
        Where it lies, for the box in the overview: first row, first column, rows and columns in
        pixels of the input. Of an overview, None is the whole of `before`; of a detail, None
        draws no box.
    """

    before: np.ndarray
    bicubic: np.ndarray
    after: np.ndarray
    delta_m: tuple[float, float] | None
    place: str
    window: Window | None = None


def choose_detail(before: np.ndarray, size: int) -> tuple[int, int]:
    """Find the square of a map that has the most fine relief, for a picture in close-up.

    Of the squares with the fewest missing pixels it is the one with the largest standard
    deviation of the high-passed map: what differs from the mean of 5 × 5 pixels. The first one,
    from the top left, if several are equal.

    Parameters
    ----------
    before : numpy.ndarray, shape (h, w) or (h, w, 3)
        The low-resolution map, any unit; NaN is missing.
    size : int
        Side of the square in pixels; a side of the map that is shorter is taken whole.

    Returns
    -------
    (int, int)
        First row and first column of the square.
    """
    signal = _signal(_finite(before))
    valid = ~np.isnan(signal)
    # Beside gaps and margins the mean lies to one side, and plain slopes would look like relief.
    share = ndimage.uniform_filter(valid.astype(np.float64), _HIGH_PASS, mode="constant")
    inner = share > 1 - 0.5 / _HIGH_PASS**2
    high = np.where(inner, signal - local_mean(signal, _HIGH_PASS), 0.0)
    side = min(size, signal.shape[0]), min(size, signal.shape[1])
    missing = np.rint(_window_sums(~valid, side))
    count = np.maximum(_window_sums(inner, side), 1)
    variance = _window_sums(high**2, side) / count - (_window_sums(high, side) / count) ** 2
    # Running sums differ in their last digits where the relief is the same.
    floor = 1e-12 * max(1.0, float(np.nanmax(np.abs(signal), initial=0))) ** 2
    variance = np.round(variance / max(float(variance.max()), floor), 6)
    score = np.where(missing == missing.min(), variance, -np.inf)
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(row), int(column)


def write_hillshade(
    path: str | os.PathLike[str],
    elevation: np.ndarray,
    delta_m: tuple[float, float] | None,
    *,
    limits: tuple[float, float] | None = None,
    exaggeration: float | None = None,
    max_pixels: int = 40_000_000,
) -> None:
    """Write a map as shaded relief in colours: blue below sea level, brown above, lit from NW.

    One pixel of the map is one pixel of the PNG, unless the map has more than `max_pixels`: then
    every second, third … row and column is drawn. Missing pixels are transparent.

    Parameters
    ----------
    path : path-like
        PNG file; it appears whole or not at all.
    elevation : numpy.ndarray, shape (H, W)
        Metres, negative below sea level, NaN missing; first row in the north. May be
        memory-mapped: it is read in strips.
    delta_m : (float, float) or None
        Grid spacing in metres (between rows, between columns); None counts in pixels.
    limits : (float, float), optional
        Elevation of the first and the last colour; default the 1st and 99th percentile.
    exaggeration : float, optional
        Factor on the slopes; by default the steepest tenth of the map has a slope above 0.5.
    max_pixels : int
        Largest picture.

    Raises
    ------
    DataError
        If `elevation` is not a plane with at least one pixel.
    """
    if elevation.ndim != 2 or not elevation.size:
        raise DataError(
            f"{path}: elevation must be a plane (H, W); received shape {elevation.shape}."
        )
    step = math.ceil(math.sqrt(elevation.size / max_pixels))
    heights = elevation[::step, ::step]
    delta = _spacing(delta_m, step)
    thin = math.ceil(math.sqrt(heights.size / _SAMPLE))
    colours = _colours([_finite(heights[::thin, ::thin])], limits)
    factor = exaggeration or _exaggeration(heights, delta, thin)
    picture = np.empty((*heights.shape, 4), np.uint8)
    strip = max(1, _SAMPLE // heights.shape[1])
    for top in range(0, len(heights), strip):
        above = min(top, 1)
        part = _finite(heights[top - above : top + strip + 1])
        lit = colours.shade(part, delta, factor)[above : above + strip]
        picture[top : top + strip, :, :3] = lit
        picture[top : top + strip, :, 3] = 255 * ~np.isnan(part[above : above + strip])
    with replacing(path) as beside:
        imsave(beside, picture, format="png", metadata=_METADATA)


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
    """Write the report of an enhanced map as one HTML page that needs nothing else.

    Pictures lie in the page; nothing is fetched and no script runs. Shaded relief and slopes are
    drawn only for one channel in metres; other images are shown as they are.

    Parameters
    ----------
    path : path-like
        HTML file; it appears whole or not at all.
    overview : MapView
        The whole map; only its `after` is drawn, and it may be reduced in size.
    detail : MapView
        A small part, where `bicubic` and `after` are a whole multiple of `before`. The slopes are
        counted here, where no pixel was left out.
    title : str
        Heading of the page.
    facts : dict of str to str
        How the map was made: input file, model, scale, settings, coordinates, date.
    figures : dict of str to str
        Key figures with their units.
    warnings : sequence of str
        What a reader must know before trusting the map.
    unit : str
        Unit of the values; only ``m`` is taken for elevation.

    Raises
    ------
    DataError
        If a view holds no image, or the sizes of the detail do not fit.
    """
    overview, detail = _checked(overview, "overview"), _checked(detail, "detail")
    scale = _scale_of(detail)
    relief = unit == "m" and detail.after.ndim == 2 and overview.after.ndim == 2
    line = _profile_line(_signal(detail.before))
    y_label = f"elevation ({unit})" if relief else f"value ({unit})"
    sections = [
        warnings_section("Before you use this map", warnings),
        table_section("Key figures", figures),
        _overview_section(overview, detail, unit, relief),
        _detail_section(detail, scale, unit, relief),
        _difference_section(detail, unit, line),
        _profile_section(detail, scale, y_label, line),
        _slopes_section(detail, scale) if relief else "",
        table_section("How this map was made", facts),
        f'<p class="caveat">{_CAVEAT}</p>',
    ]
    with replacing(path) as beside:
        beside.write_text(html_page(title, overview.place, sections), encoding="utf-8")


# --- what other reports share ---------------------------------------------------------------


def html_page(title: str, place: str, sections: Sequence[str], style: str = "") -> str:
    """Return a whole page that needs nothing else.

    Parameters
    ----------
    title, place : str
        Heading and the quiet line below it; plain text.
    sections : sequence of str
        HTML, in order; whatever came from outside must be escaped in it.
    style : str
        Rules of CSS that this page needs besides the common ones.

    Returns
    -------
    str
        HTML.
    """
    return _PAGE.substitute(
        title=html.escape(title),
        place=html.escape(place),
        body="\n".join(sections),
        style=style,
    )


def warnings_section(heading: str, warnings: Sequence[str]) -> str:
    """Return a box with a plain line for each warning, nothing if there is none."""
    if not warnings:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in warnings)
    return (
        f'<section class="warnings" role="note"><h2>{html.escape(heading)}</h2>'
        f"<ul>{items}</ul></section>"
    )


def table_section(heading: str, rows: Mapping[str, str]) -> str:
    """Return a table of names and values, plain text, under a heading; nothing if it is empty."""
    if not rows:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<section><h2>{html.escape(heading)}</h2><table>{lines}</table></section>"


def embedded(png: bytes, alt: str) -> str:
    """Return an image that lies in the page itself, with the words that stand for it."""
    return f'<img alt="{html.escape(alt)}" src="{_data(png)}">'


def round_length(limit: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above `limit`."""
    decade = 10.0 ** math.floor(math.log10(limit))
    return max(step * decade for step in (1, 2, 5) if step * decade <= limit)


# --- what goes in ---------------------------------------------------------------------------


def _finite(img: np.ndarray) -> np.ndarray:
    """Return floats in which all that is missing is NaN, (h, w, 1) as (h, w)."""
    kind = np.float32 if img.dtype == np.float32 else np.float64
    values = np.asarray(img, kind)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return np.where(np.isfinite(values), values, np.asarray(np.nan, kind))


def _signal(img: np.ndarray) -> np.ndarray:
    """Mean of the channels, (h, w) float64."""
    plane = img.mean(axis=2, dtype=np.float64) if img.ndim == 3 else img
    return np.asarray(plane, np.float64)


def _checked(view: MapView, name: str) -> MapView:
    """Return the view as floats with NaN gaps, or say what is wrong with it."""
    images = [_finite(np.asarray(img)) for img in (view.before, view.bicubic, view.after)]
    for part, img in zip(("before", "bicubic", "after"), images, strict=True):
        if not img.size or img.ndim not in (2, 3) or img.shape[2:] not in ((), (3,)):
            raise DataError(
                f"report: {name}.{part} must be an image (h, w) or (h, w, 3); "
                f"received shape {img.shape}."
            )
    if len({img.ndim for img in images}) > 1:
        raise DataError(f"report: {name} must be grey or coloured throughout; received both.")
    before, bicubic, after = images
    return dataclasses.replace(view, before=before, bicubic=bicubic, after=after)


def _scale_of(detail: MapView) -> int:
    """Enlargement of the detail, which must be the same whole number everywhere."""
    rows, columns = detail.before.shape[:2]
    scale = detail.after.shape[0] // rows
    wanted = (rows * scale, columns * scale)
    if not scale or detail.after.shape[:2] != wanted or detail.bicubic.shape[:2] != wanted:
        raise DataError(
            f"report: detail.bicubic and detail.after must be a whole multiple of detail.before; "
            f"received {detail.bicubic.shape[:2]} and {detail.after.shape[:2]} for "
            f"{(rows, columns)}. Cut all three from the same rectangle of the input."
        )
    return scale


def _window_sums(values: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Sum of every window of `side` pixels that lies inside, (h - side + 1, w - side + 1)."""
    total = np.pad(np.asarray(values, np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = side
    return (
        total[rows:, columns:]
        - total[:-rows, columns:]
        - total[rows:, :-columns]
        + total[:-rows, :-columns]
    )


def _spacing(delta_m: tuple[float, float] | None, step: float = 1) -> tuple[float, float]:
    """Spacing of every `step`-th pixel, metres or pixels."""
    rows, columns = delta_m or (1.0, 1.0)
    return float(rows) * step, float(columns) * step


# --- values become colours ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Colours:
    """A scale of colours.

    `table` (256, 3) of 0..1 is None for images that have colours; `coast` is the first of its
    rows that is land, if it has a shore.
    """

    low: float
    high: float
    table: np.ndarray | None
    coast: int | None = None

    def flat(self, img: np.ndarray) -> np.ndarray:
        """Return colours (h, w, 3) of 0..1, without light."""
        part = np.clip((np.nan_to_num(img) - self.low) / (self.high - self.low), 0, 1)
        if self.table is None:
            return part
        index = np.rint(255 * part).astype(np.int16)
        if self.coast is not None:
            # Low coasts and shallow reefs keep their side of the shore, however few the colours.
            wet, dry = np.minimum(index, self.coast - 1), np.maximum(index, self.coast)
            index = np.where(img < 0, wet, dry)
        return self.table[index]

    def paint(self, img: np.ndarray) -> np.ndarray:
        """Return colours (h, w, 3) uint8, grey where missing."""
        return _bytes(self.flat(img), img)

    def shade(self, heights: np.ndarray, delta: tuple[float, float], factor: float) -> np.ndarray:
        """Return colours (h, w, 3) uint8 of a relief lit from the upper left, gaps grey."""
        down = factor * _gradient(heights, 0) / delta[0]
        across = factor * _gradient(heights, 1) / delta[1]
        east, north, up = _LIGHT.direction
        # Not LightSource.hillshade: it stretches each picture by its own extremes, and a NaN
        # leaves none of them. Rows run to the south, so north is against `down`.
        lit = (up - across * east + down * north) / np.sqrt(1 + across**2 + down**2)
        lit = np.clip(lit, 0, 1)[..., None]
        return _bytes(_LIGHT.blend_overlay(self.flat(heights), lit), heights)


def _bytes(rgb: np.ndarray, img: np.ndarray) -> np.ndarray:
    picture = np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
    picture[np.isnan(_signal(img))] = _MISSING
    return picture


def _gradient(heights: np.ndarray, axis: int) -> np.ndarray:
    """Central difference per pixel; one-sided beside gaps and margins, 0 between two of them."""
    step = np.diff(heights, axis=axis)
    gap = np.full_like(np.take(heights, [0], axis), np.nan)
    after, before = np.concatenate([step, gap], axis), np.concatenate([gap, step], axis)
    one_sided = np.where(np.isnan(after), before, after)
    return np.nan_to_num(np.where(np.isnan(before), one_sided, (one_sided + before) / 2))


def _exaggeration(heights: np.ndarray, delta: tuple[float, float], thin: int = 1) -> float:
    """Factor that makes the steepest tenth of a map steeper than `_STEEP`, two digits."""
    corner = _finite(heights[:-1:thin, :-1:thin])
    down = (_finite(heights[1::thin, :-1:thin]) - corner) / delta[0]
    across = (_finite(heights[:-1:thin, 1::thin]) - corner) / delta[1]
    slopes = np.hypot(down, across)
    slopes = slopes[slopes > 0]
    if not slopes.size:
        return 1.0
    steep = max(float(np.percentile(slopes, 90)), _STEEP / _MAX_EXAGGERATION)
    return float(f"{_STEEP / steep:.2g}")


def _colours(
    images: Sequence[np.ndarray], limits: tuple[float, float] | None = None, unit: str = "m"
) -> _Colours:
    """Scale of colours that the images share; the measured one comes first."""
    if images[0].ndim == 3:
        brightest = float(np.nanmax(images[0], initial=0))
        top = next((top for top in (1.0, 255.0, 65535.0) if brightest <= top), brightest)
        return _Colours(0.0, top, None)
    low, high = limits or _robust(images)
    if unit != "m":
        return _Colours(low, high, colormaps["gray"](np.arange(256))[:, :3])
    return _relief_colours(low, high)


def _robust(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """1st and 99th percentile of all valid pixels, never equal."""
    values = np.concatenate([img[~np.isnan(img)] for img in images])
    if not values.size:
        return -0.5, 0.5
    low, high = (float(limit) for limit in np.percentile(values, [1, 99]))
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return low, high
    # One value but for a few pixels: all of them, or a metre about it.
    low, high = float(values.min()), float(values.max())
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return low, high
    return low - 0.5, high + 0.5


def _relief_colours(low: float, high: float) -> _Colours:
    """Colours of elevations: sea below zero, land above, one step of either as many metres."""
    sea, land = (LinearSegmentedColormap.from_list("relief", ramp) for ramp in (_SEA, _LAND))
    if not low < 0 < high:
        ramp = sea if high <= 0 else land
        return _Colours(low, high, ramp(np.linspace(0, 1, 256))[:, :3])
    coast = int(np.clip(math.ceil(255 * -low / (high - low)), 1, 255))
    reach = max(-low, high)
    wet, dry = (
        sea(np.linspace(1 + low / reach, 1, coast)),
        land(np.linspace(0, high / reach, 256 - coast)),
    )
    return _Colours(low, high, np.concatenate([wet, dry])[:, :3], coast)


# --- sections of the page -------------------------------------------------------------------


def _overview_section(overview: MapView, detail: MapView, unit: str, relief: bool) -> str:
    """Show the whole map with a box where the detail is, a scale of colours and a ruler."""
    after, delta = overview.after, _spacing(overview.delta_m)
    colours = _colours([after], unit=unit)
    if relief:
        factor = _exaggeration(after, delta)
        picture = colours.shade(after, delta, factor)
        how = f"Shaded relief, {_light_text(factor, overview)}."
    else:
        picture = colours.paint(after)
        how = "The enlarged image."
    box, note = _box(overview, detail)
    ratio = _ratio(after, delta)
    span = f"{_number(colours.low)} to {_number(colours.high)} {unit}"
    alt = f"{how[:-1]}, of the whole map after super-resolution; {span}."
    figure = (
        f'<figure><div style="max-width: {44 * ratio:.2f}rem">{_image(picture, alt, ratio, box)}'
        f"{_ruler(overview)}</div>{_scale_bar(colours, unit)}"
        f"<figcaption>{how}{note} "
        f"{'Colours end at the 1st and 99th percentile. ' * (colours.table is not None)}"
        f"{_missing_text(after)}</figcaption></figure>"
    )
    return f"<section><h2>The whole map after super-resolution</h2>{figure}</section>"


def _detail_section(detail: MapView, scale: int, unit: str, relief: bool) -> str:
    """Show input, bicubic and super-resolution side by side, plain and shaded."""
    images = _three(detail, scale)
    colours = _colours([detail.before, detail.bicubic, detail.after], unit=unit)
    delta = _spacing(detail.delta_m)
    ratio = _ratio(detail.after, delta)
    plain = [
        _panel(colours.paint(_repeat(img, step)), f"<b>{label}</b>{grid}", ratio, f"{label}{grid}")
        for label, grid, img, step, _ in images
    ]
    body = f'<div class="row three">{"".join(plain)}</div>{_scale_bar(colours, unit)}'
    if relief:
        factor = _exaggeration(detail.after, delta)
        shaded = [
            _panel(
                _repeat(colours.shade(img, spacing, factor), step),
                f"<b>{label}</b>, shaded",
                ratio,
                f"Shaded relief: {label}{grid}",
            )
            for label, grid, img, step, spacing in images
        ]
        how = f"The shaded pictures are {_light_text(factor, detail)}, the same for all three."
        body += f'<div class="row three">{"".join(shaded)}</div><p class="quiet">{how}</p>'
    return (
        f'<section><h2>Detail</h2><p class="quiet">{html.escape(_sentence(detail.place))}. '
        f"{_missing_text(detail.after)}</p>{body}</section>"
    )


def _difference_section(detail: MapView, unit: str, line: tuple[int, int]) -> str:
    """Show what the network changed against bicubic, and where the profile lies."""
    change = _signal(detail.after) - _signal(detail.bicubic)
    size = np.abs(change[~np.isnan(change)])
    reach = float(np.percentile(size, 99)) if size.size else 0.0
    reach = reach or float(size.max(initial=0)) or 1.0
    colours = _Colours(-reach, reach, colormaps["RdBu_r"](np.arange(256))[:, :3])
    told = "no valid pixels"
    if size.size:
        rms, most = _number(float(np.sqrt(np.mean(size**2)))), _number(float(size.max()))
        told = f"root mean square {rms} {unit}, at most {most} {unit}"
    what = "super-resolution − bicubic" + ", mean of the channels" * (detail.after.ndim == 3)
    picture = _image(
        colours.paint(change),
        f"Difference {what}: {told}",
        _ratio(change, _spacing(detail.delta_m)),
        _profile_mark(detail, line),
    )
    return (
        f'<section><h2>Difference</h2><div class="row two"><figure>{picture}</figure>'
        f"<div>{_scale_bar(colours, unit)}<p><b>{what}</b>: {html.escape(told)}.</p>"
        "<p>Red: the network lies above bicubic; blue: below. None of it was measured. "
        f"{_missing_text(change)}</p><p>Dashed: the profile below.</p></div></div></section>"
    )


def _profile_section(detail: MapView, scale: int, y_label: str, line: tuple[int, int]) -> str:
    """Show a profile through the detail."""
    first = detail.window[line[0]] if detail.window else 0
    along = f"{('row', 'column')[line[0]]} {first + line[1]} of the input"
    along += "" if detail.window else " detail"
    chart = _chart(
        lambda ax: _draw_profile(ax, detail, scale, line, y_label),
        f"Profile along {along}: input as steps, bicubic and super-resolution",
        f"Along {along} (the first is 0), the line with the largest relief of the detail.",
        wide=True,
    )
    return f"<section><h2>Profile</h2>{chart}</section>"


def _slopes_section(detail: MapView, scale: int) -> str:
    """Show the histogram of slopes, and say why its curves must not be read as one quantity."""
    per = "m/m" if detail.delta_m else "m per pixel of the enlarged map"
    chart = _chart(
        lambda ax: _draw_slopes(ax, detail, scale, per),
        "Histogram of slopes of input, bicubic and super-resolution; the share is logarithmic",
        "In the detail. The steepest 0.1 % are not drawn.",
    )
    note = (
        "<p>Slopes of the low-resolution input and of the enlarged maps are <b>not "
        "interchangeable</b>: a coarse grid averages over a longer distance, so the same ground "
        "has gentler slopes on it. Compare bicubic with super-resolution, which share a grid; "
        "the input is drawn for reference.</p>"
    )
    return f'<section><h2>Slopes</h2><div class="row two">{chart}<div>{note}</div></div></section>'


# --- parts of a section ---------------------------------------------------------------------

#: Label, grid, image, how often each pixel is repeated, spacing.
_Panel = tuple[str, str, np.ndarray, int, tuple[float, float]]


def _three(detail: MapView, scale: int) -> list[_Panel]:
    """List what is compared, from the input to the network."""
    fine, coarse = _spacing(detail.delta_m), _spacing(detail.delta_m, scale)
    known = detail.delta_m is not None
    grids = [f", grid {_grid_text(delta)}" if known else "" for delta in (coarse, fine)]
    return [
        ("Input", grids[0], detail.before, scale, coarse),
        (_LINES["bicubic"][0].capitalize(), grids[1], detail.bicubic, 1, fine),
        (_LINES["sr"][0].capitalize(), grids[1], detail.after, 1, fine),
    ]


def _panel(picture: np.ndarray, caption: str, ratio: float, alt: str) -> str:
    return f"<figure>{_image(picture, alt, ratio)}<figcaption>{caption}</figcaption></figure>"


def _sentence(place: str) -> str:
    return place[:1].upper() + place[1:].rstrip(".")


def _box(overview: MapView, detail: MapView) -> tuple[str, str]:
    """Frame around the detail in per cent of the overview, and the words for it."""
    if detail.window is None:
        return "", ""
    top, left, rows, columns = overview.window or (0, 0, *overview.before.shape[:2])
    row, column, height, width = detail.window
    style = (
        f"top: {100 * (row - top) / rows:.3f}%; left: {100 * (column - left) / columns:.3f}%; "
        f"height: {100 * height / rows:.3f}%; width: {100 * width / columns:.3f}%"
    )
    note = f" The box is the detail below: {html.escape(detail.place)}."
    return f'<span class="box" style="{style}"></span>', note


def _profile_mark(detail: MapView, line: tuple[int, int]) -> str:
    """Draw a dashed line over a picture of the detail."""
    axis, index = line
    place = f"{100 * (index + 0.5) / detail.before.shape[axis]:.3f}%"
    style = (
        f"left: 0; width: 100%; top: {place}; border-top-width: 2px",
        f"top: 0; height: 100%; left: {place}; border-left-width: 2px",
    )[axis]
    return f'<span class="line" style="{style}"></span>'


def _ruler(view: MapView) -> str:
    """Draw a bar of a round number of metres or kilometres, at most a quarter of the picture."""
    if view.delta_m is None:
        return ""
    width_m = view.after.shape[1] * _spacing(view.delta_m)[1]
    length_m = round_length(width_m / 4)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    return f'<div class="ruler" style="width: {100 * length_m / width_m:.3f}%">{text}</div>'


def _scale_bar(colours: _Colours, unit: str) -> str:
    """Colours from low to high with their values; empty for coloured images."""
    if colours.table is None:
        return ""
    stops = ", ".join(
        f"rgb({red} {green} {blue})"
        for red, green, blue in np.rint(255 * colours.table).astype(int)[::5]
    )
    low, high = _number(colours.low), f"{_number(colours.high)} {html.escape(unit)}"
    return (
        f'<div class="scale">{low}<span style="background: linear-gradient(to right, {stops})">'
        f"</span>{high}</div>"
    )


def _image(picture: np.ndarray, alt: str, ratio: float, over: str = "") -> str:
    """Put a picture (h, w, 3) uint8 in a frame `ratio` times as wide as high, under marks."""
    target = io.BytesIO()
    imsave(target, _fit(picture), format="png", metadata=_METADATA)
    image = embedded(target.getvalue(), alt)
    return f'<div class="frame" style="aspect-ratio: {ratio:.5f}">{image}{over}</div>'


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _fit(picture: np.ndarray) -> np.ndarray:
    """Repeat pixels or average them until a picture suits a screen and a printer."""
    side = max(picture.shape[:2])
    if side <= _LARGEST_SIDE:
        return _repeat(picture, math.ceil(_SMALLEST_SIDE / side))
    step = math.ceil(side / _LARGEST_SIDE)
    return ndimage.uniform_filter(picture, (step, step, 1))[::step, ::step]


def _repeat(img: np.ndarray, times: int) -> np.ndarray:
    return img.repeat(times, axis=0).repeat(times, axis=1)


def _ratio(img: np.ndarray, delta: tuple[float, float]) -> float:
    """Width ÷ height on the ground."""
    return img.shape[1] * delta[1] / (img.shape[0] * delta[0])


def _number(value: float) -> str:
    """Write a value for people, with three digits or all before the point."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def _grid_text(delta: tuple[float, float]) -> str:
    """Write the spacing once if rows and columns are equally far apart."""
    return spacing_text(delta[0] if math.isclose(*delta, rel_tol=1e-4) else delta)


def _light_text(factor: float, view: MapView) -> str:
    if view.delta_m is None:
        return "lit from the upper left"
    return f"lit from the upper left, slopes exaggerated {_number(factor)} times"


def _missing_text(img: np.ndarray) -> str:
    share = float(np.isnan(_signal(img)).mean())
    return f"Grey: missing ({_number(100 * share)} % of the pixels)." if share else ""


# --- charts ---------------------------------------------------------------------------------


def _chart(draw: Callable[[Axes], None], alt: str, caption: str, wide: bool = False) -> str:
    """Draw a chart with its caption; a wide one has a narrow form for telephones."""
    narrow = _chart_png(draw, _NARROW_INCHES)
    image = embedded(narrow, alt)
    if wide:
        source = f'<source media="(max-width: 40rem)" srcset="{_data(narrow)}">'
        image = f"<picture>{source}{embedded(_chart_png(draw, _WIDE_INCHES), alt)}</picture>"
    return f'<figure><div class="chart">{image}</div><figcaption>{caption}</figcaption></figure>'


def _chart_png(draw: Callable[[Axes], None], inches: tuple[float, float]) -> bytes:
    figure = Figure(figsize=inches, layout="constrained")
    ax = figure.subplots()
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    draw(ax)
    names = ax.get_legend_handles_labels()[1]
    if names:
        long = sum(map(len, names)) > 10 * inches[0]
        figure.legend(loc="outside upper left", frameon=False, fontsize=9, ncols=1 if long else 3)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=200, metadata=_METADATA)
    return target.getvalue()


def _profile_line(before: np.ndarray) -> tuple[int, int]:
    """Axis (0: a row, 1: a column) and index of the line with the largest relief."""
    valid = ~np.isnan(before)
    best = (0.0, 0, before.shape[0] // 2)
    for axis in (0, 1):
        high = np.where(valid, before, -np.inf).max(axis=1 - axis)
        low = np.where(valid, before, np.inf).min(axis=1 - axis)
        # A line that is mostly gap shows little, however high its rest.
        score = np.where(high >= low, high - low, 0) * valid.mean(axis=1 - axis)
        if score.max() > best[0]:
            best = (float(score.max()), axis, int(score.argmax()))
    return best[1], best[2]


def _draw_profile(
    ax: Axes, detail: MapView, scale: int, line: tuple[int, int], y_label: str
) -> None:
    """Input as steps, bicubic and super-resolution along one line of pixels."""
    axis, index = line
    fine = index * scale + scale // 2
    before = np.take(_signal(detail.before), index, axis)
    step = _spacing(detail.delta_m)[1 - axis]
    length = step * scale * len(before)
    unit, per = ("km", 1000) if length >= 5000 else ("m", 1)
    if detail.delta_m is None:
        unit, per = "pixels of the enlarged map", 1
    label, colour = _LINES["input"]
    edges = np.arange(len(before) + 1) * scale * step / per
    ax.stairs(before, edges, baseline=None, color=colour, label=label, linewidth=0.9)
    for name, img in (("bicubic", detail.bicubic), ("sr", detail.after)):
        values = np.take(_signal(img), fine, axis)
        label, colour = _LINES[name]
        x = (np.arange(len(values)) + 0.5) * step / per
        ax.plot(x, values, color=colour, label=label, linewidth=1.6)
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel(f"distance ({unit})")
    ax.set_ylabel(y_label.replace("$", r"\$"))
    if np.isnan(before).all():
        ax.text(0.5, 0.5, "no valid pixels", transform=ax.transAxes, ha="center")


def _draw_slopes(ax: Axes, detail: MapView, scale: int, per: str) -> None:
    """Share of the pixels in each of 50 classes of slope, logarithmic."""
    slopes = {}
    images = zip(("input", "bicubic", "sr"), _three(detail, scale), strict=True)
    for name, (_, _, img, step, spacing) in images:
        # In pixels, those of the enlarged map are the unit for all three.
        values = slope(img, spacing if detail.delta_m else (float(step), float(step)))
        slopes[name] = values[~np.isnan(values)]
    everything = np.concatenate(list(slopes.values()))
    top = float(np.percentile(everything, 99.9)) if everything.size else 0.0
    edges = np.linspace(0, top or 1.0, 51)
    for name, values in slopes.items():
        if values.size:
            label, colour = _LINES[name]
            share = 100 * np.histogram(values, edges)[0] / values.size
            label = f"{label} (mean {_number(float(values.mean()))})"
            ax.stairs(share, edges, color=colour, label=label, linewidth=1.4)
    if everything.size:
        ax.set_yscale("log")
        ax.set_ylim(50 / max(len(values) for values in slopes.values()), 150)
    else:
        ax.text(0.5, 0.5, "no valid pixels", transform=ax.transAxes, ha="center")
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel(f"slope ({per})")
    ax.set_ylabel("share of the pixels (%)")
