"""Charts of a test on SEM pictures: spectra, widths, precision as a number of averaged frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from toolbox.tasks.sem.evaluate import (
    CHANGED,
    LEAST_DENSITY,
    METHODS,
    SemResults,
    smooth_density,
)
from toolbox.tasks.sem.figures import (
    by_method,
    known,
    methods_of,
    part_by_method,
    reference_name,
    width_name,
)
from toolbox.tasks.sem.verdict import MAIN_GROUP

COLOURS = {
    "raw": "0.55",
    "gaussian": "tab:orange",
    "non_local_means": "tab:green",
    "restored": "tab:blue",
}
_TRUTH_COLOUR = "black"
#: Points of a spectrum per octave of the wavelength.
_PER_OCTAVE = 6


def set_up(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Label both axes and draw a light grid."""
    ax.set_xlabel(xlabel, fontsize=9)
    ax.set_ylabel(ylabel, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


_Place = Literal["outside upper left", "outside right upper"]


def add_legend(figure: Figure, place: _Place, columns: int) -> None:
    """Place one legend of all axes next to them, if there is anything to list."""
    if any(ax.get_legend_handles_labels()[1] for ax in figure.axes):
        figure.legend(loc=place, frameon=False, fontsize=9, ncols=columns)


def round_ticks(ax: Axes, which: str) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis with plain numbers."""
    for axis in (getattr(ax, f"{name}axis") for name in which):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def draw_spectra(figure: Figure, results: SemResults, unit: str) -> str:
    """Plot spectra of widths, and below them the ratio of each method to the reference."""
    spectra, ideal = results.spectra, reference_name(results.summary)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    wavelength = 1 / spectra["frequency_per_nm"].to_numpy(float)
    names = [name for name in ("truth", *METHODS) if name in spectra]
    smooth = {name: smooth_density(spectra[name].to_numpy(float)) for name in names}
    groups = np.floor(np.log2(wavelength[0] / wavelength) * _PER_OCTAVE)
    binned = spectra.groupby(groups).mean()
    for name in names:
        colour = COLOURS.get(name, _TRUTH_COLOUR)
        style: dict[str, Any] = {"color": colour, "linewidth": 2.4 if name == "truth" else 1.5}
        density = np.maximum(binned[name], LEAST_DENSITY)
        top.plot(1 / binned["frequency_per_nm"], density, **style, label=METHODS.get(name, ideal))
        if "truth" in smooth and name != "truth":
            bottom.plot(wavelength, smooth[name] / smooth["truth"], **style)
    for ax in (top, bottom):
        ax.set_xscale("log")
        ax.set_yscale("log")
    set_up(top, "", f"spectrum of the width ({unit}³)")
    set_up(bottom, f"wavelength along the line ({unit})", f"method ÷ {ideal}")
    bottom.axhline(1, color="0.3", linewidth=1)
    for limit in CHANGED:
        bottom.axhline(limit, color="0.3", linewidth=1, linestyle="--")
    round_ticks(bottom, "x")
    bottom.set_ylim(*_transfer_limits(smooth))
    bottom.yaxis.set_major_formatter("{x:g}")
    _mark_limits(bottom, results.summary)
    add_legend(figure, "outside upper left", 5)
    return (
        "Top: power of the roughness of widths at each wavelength. Bottom: its ratio to that of "
        f"the {ideal} (dashed: half and twice; triangles: where a method first falls below half "
        "or rises above twice)."
    )


def _transfer_limits(smooth: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return axis limits that show both thresholds and at most two decades either way."""
    ratios = [smooth[n] / smooth["truth"] for n in smooth if "truth" in smooth and n != "truth"]
    values = np.concatenate(ratios) if ratios else np.ones(1)
    low, high = float(values.min()), float(values.max())
    return min(0.3, max(0.8 * low, 0.01)), max(3.0, min(1.25 * high, 100.0))


def _mark_limits(ax: Axes, summary: Mapping[str, Any]) -> None:
    marks = zip(("erased_below_nm", "invented_below_nm"), CHANGED, ("v", "^"), strict=True)
    for part, limit, marker in marks:
        for name, wavelength in part_by_method(summary, "psd_transfer", part).items():
            style: dict[str, Any] = {
                "color": COLOURS[name],
                "markeredgecolor": "white",
                "markersize": 9,
            }
            ax.plot([wavelength], [limit], marker, **style, zorder=5)


def draw_widths(figure: Figure, results: SemResults, unit: str) -> str:
    """Plot errors of widths against the true width, and the bias with interval and tolerance."""
    over, bias = figure.subplots(1, 2, width_ratios=(3, 2))
    summary = results.summary
    grouped = _draw_widths_over(over, results)
    what = width_name(summary)
    kind = "true" if reference_name(summary) == "truth" else "reference"
    set_up(over, f"{kind} {what} ({unit})", f"measured − reference {what} ({unit})")
    over.axhline(0, color="0.3", linewidth=1)
    methods = methods_of(summary)
    tolerance = (summary.get("do_no_harm") or {}).get("tolerance_nm")
    if tolerance is not None and known(tolerance):
        bias.axvspan(-tolerance, tolerance, color="tab:green", alpha=0.13, linewidth=0)
        bias.set_title(f"green: tolerance ± {tolerance:g} {unit}", fontsize=9)
    bias.axvline(0, color="0.3", linewidth=1)
    intervals = by_method(summary, "cd_bias_ci95_nm")
    for name, value in by_method(summary, "cd_bias_nm").items():
        style: dict[str, Any] = {
            "color": COLOURS[name],
            "markersize": 7,
            "capsize": 4,
            "linewidth": 1.8,
        }
        row = methods.index(name)
        bias.errorbar([value], [row], xerr=[intervals.get(name, 0.0)], fmt="o", **style)
    bias.set_yticks(range(len(methods)), [METHODS[name] for name in methods])
    bias.set_ylim(max(len(methods), 1) - 0.5, -0.5)
    set_up(bias, f"bias of the {what} ({unit})", "")
    add_legend(figure, "outside upper left", 2)
    shown = "means of groups ± one standard deviation" if grouped else "each measurement"
    return (
        f"Left: error of the {what} ({shown}). Right: its mean with the 95 % confidence interval "
        "and the tolerance."
    )


def _draw_widths_over(ax: Axes, results: SemResults) -> bool:
    """Plot errors by group of a sweep, or all errors without one; return whether grouped."""
    table, summary = results.per_picture, results.summary
    column = "true_cd_nm" if "true_cd_nm" in table else "reference_cd_nm"
    table = table.assign(group=table.get("group", MAIN_GROUP)).dropna(subset=["cd_bias_nm", column])
    grouped = table["group"].nunique() > 1
    slopes, intervals = by_method(summary, "cd_slope"), by_method(summary, "cd_slope_ci95")
    methods = [name for name in methods_of(summary) if (table["method"] == name).any()]
    reach = float(np.ptp(table[column].astype(float))) if len(table) else 0.0
    for i, name in enumerate(methods):
        own = table[table["method"] == name].astype({column: float, "cd_bias_nm": float})
        label = METHODS[name]
        if name in slopes:
            label += f", slope {slopes[name]:.3f}"
            label += f" ± {intervals[name]:.3f}" if name in intervals else ""
        style: dict[str, Any] = {"color": COLOURS[name], "label": label}
        if not grouped:
            ax.plot(own[column], own["cd_bias_nm"], "o", markersize=4.5, alpha=0.75, **style)
            continue
        # A small offset separates the bars of the methods.
        aside = 0.006 * reach * (i - (len(methods) - 1) / 2)
        groups = own.groupby("group")
        x = groups[column].mean().sort_values()
        errors = groups["cd_bias_nm"].std()[x.index].fillna(0.0)
        ax.errorbar(
            x + aside,
            groups["cd_bias_nm"].mean()[x.index],
            yerr=errors,
            fmt="o-",
            markersize=4.5,
            capsize=3,
            linewidth=1.2,
            **style,
        )
    return grouped


def draw_frames(figure: Figure, results: SemResults, unit: str) -> str:
    """Plot the edge error of averages, and the number of frames that each method reaches."""
    ax = figure.subplots()
    errors = by_method(results.summary, "edge_error_nm")
    frames = results.frames["frames"].to_numpy(float)
    measured = results.frames["edge_error_nm"].to_numpy(float)
    if "raw" in errors and not (frames == 1).any():
        frames, measured = np.r_[1.0, frames], np.r_[errors["raw"], measured]
    ax.plot(frames, measured, "o-", color="black", linewidth=1.4, label="average of N frames")
    law = measured[0] * np.sqrt(frames[0] / frames)
    ax.plot(frames, law, ":", color="0.4", linewidth=1.2, label="square-root law")
    equivalent = by_method(results.summary, "equivalent_frames")
    for name in (name for name in METHODS if name in errors and name != "raw"):
        count, colour = equivalent.get(name), COLOURS[name]
        bound = "at least " if count and count >= 0.999 * frames.max() else ""
        label = METHODS[name] + (f": {bound}{count:.1f} frames" if count else "")
        ax.axhline(errors[name], color=colour, linewidth=1.5, label=label)
        if count:
            ax.plot([count], [errors[name]], "D", color=colour, markeredgecolor="white", zorder=5)
            ax.axvline(count, color=colour, linewidth=1, linestyle="--", alpha=0.7)
    ax.set_xscale("log")
    ax.set_yscale("log")
    set_up(ax, "averaged frames N", f"edge error ({unit})")
    round_ticks(ax, "xy")
    add_legend(figure, "outside right upper", 1)
    return (
        "Edge error of averages of N frames. A method is worth the number of frames at which its "
        "line meets their curve."
    )
