"""The page of an inspected map: verdict, findings, and pictures that show the reasons."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from toolbox.pages import (
    Chart,
    Facts,
    Page,
    Picture,
    Row,
    Ruler,
    Text,
    chart,
    number,
    round_length,
)
from toolbox.tasks.bathymetry.inspection import (
    CONTOURS_M,
    MOST,
    Finding,
    Grade,
    Survey,
    contour_column,
    cutoff,
    mean_spectrum,
    verdict,
)
from toolbox.tasks.bathymetry.relief import colours_of, exaggeration_of, spacing

_GRADES: dict[Grade, Literal["good", "neutral", "bad"]] = {
    "fine": "good",
    "note": "neutral",
    "warning": "bad",
}
#: Colours of the frames, distinct for every kind of colour vision (Okabe and Ito 2008).
_FRAMES = {
    "vermilion": (213, 94, 0),
    "yellow": (240, 228, 66),
    "purple": (204, 121, 167),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "green": (0, 158, 115),
}
_CAVEAT = (
    "These are signs, not proof: a flat spectrum or a straight ridge can be real. Check the "
    "pictures."
)


@dataclasses.dataclass(frozen=True)
class Overview:
    """A map thinned for a picture.

    Attributes
    ----------
    heights : numpy.ndarray, shape (h, w)
        Every `step`-th pixel, metres, NaN missing.
    step : int
        Step between the pixels used, in pixels of the map.
    delta_m : (float, float) or None
        Grid spacing of the whole map (between rows, between columns), metres.
    """

    heights: np.ndarray
    step: int
    delta_m: tuple[float, float] | None


def write_inspection(
    path: str | os.PathLike[str],
    title: str,
    findings: Sequence[Finding],
    survey: Survey | None,
    overview: Overview,
    facts: Mapping[str, str],
) -> None:
    """Write the page of an inspected map; one self-contained file, complete or not written.

    Parameters
    ----------
    path : path-like
        HTML file.
    title : str
        Heading.
    findings : sequence of Finding
        Findings, most serious first.
    survey : Survey or None
        Measurements; None if no window was complete.
    overview : Overview
        The map.
    facts : dict of str to str
        Details of the inspection.
    """
    grade, line = verdict(findings)
    page = Page(title)
    advice = [finding.advice for finding in findings if finding.grade == "warning"]
    page.verdict(_GRADES[grade], f"{line[:1].upper()}{line[1:]}", advice[:1])
    page.section("Findings", Facts(_table(findings)))
    page.section("Where", _map_picture(overview, findings, survey))
    if survey is not None:
        page.section("Why", Row([[_spectrum_chart(survey, findings)], [_depth_chart(survey)]]))
    page.section("How it was inspected", Facts(facts), Text(_CAVEAT, quiet=True))
    page.write(path)


def _table(findings: Sequence[Finding]) -> dict[str, str]:
    """Return a row for every finding; findings with the same name share one row."""
    rows: dict[str, str] = {}
    for f in findings:
        told = " ".join(f"{part.rstrip('.')}." for part in (f.figure, f.advice) if part)
        grade = f.grade.upper() if f.grade == "warning" else f.grade
        rows[f.name] = f"{rows.get(f.name, '')} {grade}: {told}".strip()
    return rows


def _map_picture(overview: Overview, findings: Sequence[Finding], survey: Survey | None) -> Picture:
    """Show the relief with a frame around every doubtful window, one colour per finding."""
    heights, delta = overview.heights, spacing(overview.delta_m, overview.step)
    colours = colours_of([heights])
    pixels = colours.shade(heights, delta, exaggeration_of(heights, delta))
    doubtful = [f for f in findings if f.grade != "fine" and f.windows is not None]
    told = []
    for index, (finding, colour) in enumerate(zip(doubtful, _FRAMES, strict=False)):
        told.append(f"{colour}: {finding.name}")
        if survey is not None and finding.windows is not None:
            _frame(pixels, survey, finding.windows, overview.step, index, _FRAMES[colour])
    ratio = heights.shape[1] * delta[1] / (heights.shape[0] * delta[0])
    sampled = " The map is large, so equally spaced windows were inspected."
    sampled = sampled if survey is not None and _is_sampled(survey) else ""
    return Picture(
        pixels,
        "Shaded relief of the map, doubtful windows framed",
        caption="Shaded relief."
        + (f" Framed, {'; '.join(told)}." if told else " No window is in doubt.")
        + sampled,
        ratio=ratio,
        ruler=_ruler(overview),
        width_rem=44 * min(ratio, 1.4),
        scale=colours.bar("m"),
    )


def _is_sampled(survey: Survey) -> bool:
    """Whether parts of the map are between the windows."""
    return any(n > MOST * survey.side for n in survey.shape)


def _frame(
    pixels: np.ndarray,
    survey: Survey,
    windows: np.ndarray,
    step: int,
    inset: int,
    colour: tuple[int, int, int],
) -> None:
    """Draw frames into the picture; those of later findings are inside the earlier ones."""
    line = max(1, max(pixels.shape) // 400)
    for row, column in survey.places[windows]:
        top, left = int(row) // step + inset * line, int(column) // step + inset * line
        bottom = (int(row) + survey.side) // step - inset * line
        right = (int(column) + survey.side) // step - inset * line
        frame = pixels[top:bottom, left:right]
        frame[:line], frame[-line:], frame[:, :line], frame[:, -line:] = (colour,) * 4


def _ruler(overview: Overview) -> Ruler | None:
    if overview.delta_m is None:
        return None
    width_m = overview.heights.shape[1] * overview.step * overview.delta_m[1]
    length_m = round_length(width_m / 4)
    return Ruler(
        f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m", length_m / width_m
    )


def _spectrum_chart(survey: Survey, findings: Sequence[Finding]) -> Chart:
    """Show the mean spectrum of the interpolated or all windows, with power law and cutoff."""
    windows = next((f.windows for f in findings if f.name == "interpolated before"), None)
    f, power, law = mean_spectrum(survey, windows)
    limit = None if windows is None else cutoff(survey, windows)
    floor = survey.step_m**2 / 12

    def draw(ax: Axes) -> None:
        ax.loglog(f, power, color="#0072b2", label="this map")
        ax.loglog(f, law, color="0.4", linestyle="--", linewidth=1, label="power law")
        if floor:
            ax.axhline(floor, color="#e69f00", linestyle=":", label="rounding")
        if limit:
            ax.axvline(limit, color="#d55e00", label=f"cutoff, {1 / limit:.2g} pixels")
        ax.set(xlabel="frequency (cycles per pixel)", ylabel="power (m² per (cycle/pixel)²)")
        ticks = [1 / 2**n for n in range(1, 8) if 2**n <= survey.side]
        ax.set_xticks(ticks, [f"1/{1 / tick:.0f}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_ylim(bottom=max(1e-6, 0.3 * float(min(power.min(), law.min()))))

    which = "all windows" if windows is None else "the doubtful windows"
    return chart(
        draw,
        "Radial power spectrum with its power law",
        f"Radial power spectrum, geometric mean of {which}. Natural relief follows the power law "
        f"to the right end; an interpolated map falls below it, noise and rounding are flat.",
    )


def _depth_chart(survey: Survey) -> Chart:
    """Show the histogram of depths; for contour lines, the bins are a tenth of their step."""
    column = contour_column(survey)[0]
    depths = survey.depths.ravel()
    low, high = (float(v) for v in np.percentile(depths, [1, 99]))
    width = max(high - low, 1e-3) / 120
    if column is not None:
        step = CONTOURS_M[column]
        middle = step * round(float(np.median(depths)) / step)
        low, high = max(low, middle - 10 * step), min(high, middle + 10 * step)
        low, width = step * (np.floor(low / step) - 0.05), step / 10
    elif survey.step_m:
        width = survey.step_m * max(1, round(width / survey.step_m))
        low = survey.step_m * (np.floor(low / survey.step_m) - 0.5)
    edges = np.arange(low, high + 1.5 * width, width)
    counts = np.histogram(depths, edges)[0]

    def draw(ax: Axes) -> None:
        ax.stairs(100 * counts / max(1, counts.sum()), edges, fill=True, color="#0072b2")
        ax.set(xlabel="elevation (m)", ylabel="share of the pixels (%)")
        ax.xaxis.set_major_locator(MaxNLocator(5))

    return chart(
        draw,
        "Histogram of depths",
        f"Depths in steps of {number(width)} m"
        + ("." if column is None else f": peaks at multiples of {CONTOURS_M[column]:g} m."),
    )
