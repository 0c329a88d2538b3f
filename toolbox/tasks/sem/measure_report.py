"""The page about measured pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from toolbox.pages import Cell, Chart, Column, Facts, Page, Table, TableRow, Text, figure_png
from toolbox.pages.kit import Block
from toolbox.tasks.sem.charts import add_legend, round_ticks, set_up
from toolbox.tasks.sem.details import MEASURED_LINE, circle, draw_ruler, edge_curves, window_about
from toolbox.tasks.sem.discs import Disc
from toolbox.tasks.sem.evaluate import LEAST_DENSITY
from toolbox.tasks.sem.measure import Field, precision_of_one
from toolbox.tasks.sem.measure_text import (
    facts_of,
    frame_rows,
    headline,
    needed_text,
    object_rows,
    with_ci,
)
from toolbox.tasks.sem.metrology import SIGMAS, roughness_psd
from toolbox.tasks.sem.settings import MeasureOptions

_DPI = 130
_NOT_CERTIFIED = (
    "Terms are those of SEMI P35 and P47; nothing here is certified against them. Widths depend "
    "on the criterion: their offset from the resist is unknown without a reference."
)


class Section(NamedTuple):
    """The section of the page about one picture."""

    heading: str
    blocks: list[Block]


def _draw_picture(field: Field) -> Figure:
    """Draw the picture with its edges: complete and in close-up."""
    image, measured = np.asarray(field.image, float), field.measured
    turned = measured.figures.get("direction") == "horizontal"
    top, left, rows, columns = window_about(
        image.T.shape if turned else image.shape, measured.places
    )
    if turned:
        top, left, rows, columns = left, top, columns, rows
    whole, curves = (0, 0, *image.shape), _curves(field)
    figure = Figure(figsize=(10.4, 5.0), layout="constrained")
    for ax, window in zip(figure.subplots(1, 2), (whole, (top, left, rows, columns)), strict=True):
        first, start, height, width = window
        box = (start - 0.5, start + width - 0.5, first + height - 0.5, first - 0.5)
        part = image[first : first + height, start : start + width]
        low, high = np.percentile(part, [0.5, 99.5])
        ax.imshow(part, cmap="gray", vmin=low, vmax=high, extent=box)
        ax.set(xticks=[], yticks=[], autoscale_on=False)
        for x, y in curves:
            ax.plot(x, y, **MEASURED_LINE | ({"linewidth": 0.6} if window == whole else {}))
        pixel = 1.0 if field.size is None else field.size.x_nm
        draw_ruler(ax, window, pixel, field.unit)
    return figure


def _curves(field: Field) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the edges in the picture: columns and rows of each."""
    measured = field.measured
    if measured.edges_px is None:
        return [circle(place) for place in measured.places if isinstance(place, Disc)]
    curves = edge_curves(*measured.edges_px)
    if measured.figures["direction"] == "horizontal":
        return [(rows, columns) for columns, rows in curves]
    return curves


def _draw_spectrum(field: Field) -> Figure:
    """Draw the spectrum of the widths, its fit and its noise floor."""
    assert field.measured.spectrum is not None
    frequency, density = field.measured.spectrum
    fit, unit = field.measured.rough["width"].fit, field.unit
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    ax = figure.subplots()
    ax.plot(frequency, np.maximum(density, LEAST_DENSITY), color="0.6", lw=1, label="measured")
    rough = roughness_psd(frequency, fit.sigma_nm, max(fit.xi_nm, 1e-12), max(fit.alpha, 0.05))
    ax.plot(frequency, rough + fit.floor_nm3, color="tab:blue", lw=1.8, label="fit")
    ax.plot(
        frequency, rough, color="tab:green", lw=1.5, ls="--", label="fit without noise (unbiased)"
    )
    if fit.floor_nm3 > 0:
        ax.axhline(fit.floor_nm3, color="tab:red", lw=1.2, ls=":", label="noise floor")
    ax.set_xscale("log")
    ax.set_yscale("log")
    known = density[density > 0]
    if len(known):
        ax.set_ylim(0.1 * float(np.percentile(known, 1)), 10 * float(known.max()))
    set_up(ax, f"spatial frequency along the line (1/{unit})", f"spectrum of the width ({unit}³)")
    add_legend(figure, "outside upper left", 4)
    return figure


def _draw_frames(field: Field, precision: float | None) -> Figure:
    """Plot LWR and precision against the number of averaged frames."""
    table, unit = field.frames, field.unit
    figure = Figure(figsize=(10.4, 3.8), layout="constrained")
    axes = list(figure.subplots(1, 2)) if f"lwr_biased_{unit}" in table else [figure.subplots()]
    if len(axes) == 2:
        for name, style in (("biased", "o-"), ("unbiased", "s-")):
            axes[0].plot(table["frames"], table[f"lwr_{name}_{unit}"], style, label=name)
        axes[0].set_ylim(bottom=0)
        axes[0].legend(frameon=False, fontsize=9)
        set_up(axes[0], "averaged frames N", f"LWR, 3σ ({unit})")
    ax = axes[-1]
    for name, style in (("cd", "o"), ("edge", "s")):
        column = f"{name}_precision_{unit}"
        if column in table:
            label = {"cd": "mean CD", "edge": "one edge in one row"}[name]
            ax.plot(table["frames"], table[column], style, label=label)
    one = None if field.drifts else precision_of_one(table, unit)
    if one:
        ax.plot(
            table["frames"], one / np.sqrt(table["frames"]), ":", color="0.3", label="CD, law 1/√N"
        )
    if precision is not None:
        ax.axhline(precision, color="tab:red", lw=1.2, label="required")
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9)
    set_up(ax, "averaged frames N", f"standard deviation ({unit})")
    for each in axes:
        each.set_xscale("log")
        round_ticks(each, "x")
    round_ticks(ax, "y")
    return figure


def section_of(field: Field, precision: float | None) -> Section:
    """Return the section about one picture: drawings, figures, lines, frames.

    Parameters
    ----------
    field : Field
        The picture.
    precision : float or None
        Standard deviation of the CD that an average should reach.
    """
    blocks: list[Block] = [Text(headline(field), quiet=True)]
    blocks += [Text(note, lead="Note.") for note in field.notes]
    blocks.append(Facts(facts_of(field)))
    blocks.append(_chart(_draw_picture(field), "The picture and a detail, with measured edges."))
    if field.measured.spectrum is not None:
        caption = "Roughness spectrum of the widths, mean over the lines."
        blocks.append(_chart(_draw_spectrum(field), caption))
    if not field.frames.empty:
        caption = f"Averages of frames. {needed_text(field, precision)}".strip()
        blocks += [_chart(_draw_frames(field, precision), caption), _table(frame_rows(field))]
    blocks.append(_table(object_rows(field)))
    return Section(field.name, blocks)


def _chart(figure: Figure, caption: str) -> Chart:
    return Chart(figure_png(figure, _DPI), caption, caption, dpi=_DPI)


def _table(rows: Sequence[Sequence[str]]) -> Table:
    names, *others = rows
    columns = [
        Column((name.partition(" (")[0],), name.partition(" (")[2].rstrip(")")) for name in names
    ]
    return Table(columns, [TableRow(row[0], [Cell(cell) for cell in row[1:]]) for row in others])


def measured_page(
    rows: Sequence[dict[str, Any]], sections: Sequence[Section], options: MeasureOptions
) -> Page:
    """Return the page about all pictures.

    Parameters
    ----------
    rows : sequence of dict
        The rows of ``pictures.csv``.
    sections : sequence of Section
        Those of the pictures that are drawn.
    options : MeasureOptions
        What was measured.
    """
    count = len(rows)
    page = Page("Measured SEM pictures", f"{count} picture{'' if count == 1 else 's'}")
    if count > 1:
        page.section("All pictures", _overview(rows))
    for heading, blocks in sections:
        page.section(heading, *blocks)
    if len(sections) < count:
        page.section(
            "Further pictures",
            Text(f"{count - len(sections)} more are in the tables and are not drawn here."),
        )
    page.section("How it was measured", Facts(_method(options)))
    page.caveat(_NOT_CERTIFIED)
    return page


def _overview(rows: Sequence[dict[str, Any]]) -> Table:
    """Tabulate the main figures of all pictures, in nm, or in pixels where the size is unknown."""
    names = {"cd": "CD", "lwr_unbiased": "LWR unbiased", "ler_unbiased": "LER unbiased"}
    shown = {}
    for row in rows:
        unit = "nm" if "cd_nm" in row else "px"
        cells = [Cell(str(row["n"])), Cell(with_ci(row, "cd", unit))]
        for name in ("lwr_unbiased", "ler_unbiased"):
            value = row.get(f"{name}_{unit}")
            cells.append(Cell("–" if value is None else f"{value:.2f} {unit}"))
        shown[row["picture"]] = cells
    columns = [Column((name,)) for name in ("picture", "found", *names.values())]
    return Table(columns, [TableRow(name, cells) for name, cells in shown.items()])


def _method(options: MeasureOptions) -> dict[str, str]:
    facts = {
        "edge": f"where a row crosses {options.threshold:.0%} between the dark side and the bright "
        f"rim of the mean profile of that edge; linear interpolation between pixels, no smoothing"
    }
    if options.shape == "discs":
        return facts | {"diameter": "that of the circle fitted to the edge in 180 directions"}
    return facts | {
        "CD": "mean distance of the two edges; ± half the 95 % confidence interval over the lines",
        "LWR, LER": f"{SIGMAS:g} standard deviations of the widths or the edges of each line about "
        f"their mean; root mean square over the lines; lost rows are interpolated",
        "unbiased": "minus the white floor of the spectrum, fitted together with the roughness by "
        "Whittle's likelihood",
    }
