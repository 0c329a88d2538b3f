"""Measurements of a picture as lines for the terminal and cells of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolbox.tasks.sem.measure import Field, precision_of_one

#: Largest number of lines or discs that are printed; the table has all of them.
_MOST_PRINTED = 16
#: Smallest evaluation length and largest sampling interval that the ITRS asked for, nm.
_ITRS_NM = (2000.0, 10.0)
#: Headings of the columns about averages of frames.
_FRAME_COLUMNS = {
    "cd": "CD",
    "cd_precision": "precision of CD",
    "edge_precision": "precision of edges",
    "lwr_biased": "LWR biased",
    "lwr_unbiased": "LWR unbiased",
}


def measured_text(field: Field, precision: float | None = None) -> str:
    """Return the results of a picture as lines for the terminal.

    Parameters
    ----------
    field : Field
        The picture.
    precision : float, optional
        Standard deviation of the CD that an average of frames should reach, in its unit.
    """
    facts = facts_of(field)
    wide = max(len(name) for name in facts)
    lines = [f"{field.name}: {headline(field)}"]
    lines += [f"  {name:{wide}}  {value}" for name, value in facts.items()]
    lines += [f"  NOTE: {note}" for note in field.notes]
    rows = object_rows(field)
    shown = rows[: _MOST_PRINTED + 1]
    lines += _aligned(shown)
    needed = needed_text(field, precision)
    if len(rows) > len(shown):
        lines.append(f"  … and {len(rows) - len(shown)} more; -o writes all of them into a table")
    lines += _aligned(frame_rows(field))
    return "\n".join([*lines, *([f"  {needed}"] if needed else [])])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table with columns of equal width."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def headline(field: Field) -> str:
    """Return what was found, the pixel size and its source, as one line."""
    figures = field.measured.figures
    size = "pixel size not known, so lengths are in pixels"
    if field.size is not None:
        x, y = field.size.x_nm, field.size.y_nm or field.size.x_nm
        sides = f"{x:.4g}" if math.isclose(x, y, rel_tol=1e-3) else f"{x:.4g} × {y:.4g}"
        size = f"a pixel is {sides} nm, by {field.size.source}"
    frames = f"average of {field.count} frames; " if field.count > 1 else ""
    bar = f"; a data bar of {field.data_bar_px} rows is cut off" if field.data_bar_px else ""
    what = [str(figures["n"]), figures["polarity"], figures.get("direction", "")]
    kind = "line" if "direction" in figures else "disc"
    plural = "" if figures["n"] == 1 else "s"
    return f"{frames}{' '.join(w for w in what if w)} {kind}{plural}; {size}{bar}"


def facts_of(field: Field) -> dict[str, str]:
    """Return the figures of a picture: a line of text for each, by name."""
    f, unit = field.measured.figures, field.unit
    kind = "lines" if "direction" in f else "discs"
    cd = with_ci(f, "cd", unit) + ("" if f["n"] == 1 else f" (95 % over {f['n']} {kind})")
    if kind == "discs":
        roundness = f"{_number(f[f'roundness_{unit}'])} {unit} (3σ of the radius, mean)"
        return {"diameter": cd, "roundness": roundness}
    facts = {"CD": cd}
    if f["n"] > 1:
        facts["pitch"] = with_ci(f, "pitch", unit)
    facts["LWR (3σ)"] = _both(f, "lwr", unit)
    sides = "; ".join(f"{side} {_both(f, f'ler_{side}', unit)}" for side in ("left", "right"))
    facts["LER (3σ)"] = f"{_both(f, 'ler', unit)} ({sides})"
    length, step, xi = f[f"length_{unit}"], f[f"sampling_{unit}"], f[f"psd_xi_{unit}"]
    facts["PSD of widths"] = (
        f"σ {_number(f[f'psd_sigma_{unit}'])} {unit}, ξ "
        f"{f'{_number(xi)} {unit}' if xi < length else 'longer than the picture'}, "
        f"α {_number(f['psd_alpha'])}, floor {f[f'psd_floor_{unit}3']:.3g} {unit}³"
    )
    asked = ""
    if unit == "nm" and (length < _ITRS_NM[0] or step > _ITRS_NM[1]):
        asked = " (the ITRS asked for at least 2 µm, every 10 nm or less)"
    facts["evaluated"] = f"{length:.4g} {unit} along the lines, every {step:.4g} {unit}{asked}"
    facts["rows lost"] = f"{f['lost_share']:.2%}"
    return facts


def _number(value: float) -> str:
    """Return a length with about three significant digits; less than a millionth is 0."""
    value = 0.0 if abs(value) < 1e-6 else value
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def with_ci(figures: Mapping[str, Any], name: str, unit: str) -> str:
    """Return a length with half the width of its 95 % confidence interval, if known."""
    value, ci95 = figures[f"{name}_{unit}"], figures[f"{name}_ci95_{unit}"]
    return f"{_number(value)} {'' if ci95 is None else f'± {_number(ci95)} '}{unit}"


def _both(figures: Mapping[str, Any], name: str, unit: str) -> str:
    biased, unbiased = (figures[f"{name}_{which}_{unit}"] for which in ("biased", "unbiased"))
    return f"{_number(biased)} {unit} biased, {_number(unbiased)} unbiased"


def object_rows(field: Field) -> list[list[str]]:
    """Return the headings and the cells of the lines or discs."""
    rows = field.measured.objects
    names = [_heading(name, field.unit) for name in rows[0]]
    return [names, *([_cell(name, value) for name, value in row.items()] for row in rows)]


def _heading(name: str, unit: str) -> str:
    words = name.removesuffix(f"_{unit}")
    words = words.replace("lost_share", "lost").replace("_", " ")
    words = words.replace("cd", "CD").replace("lwr", "LWR").replace("ler", "LER")
    return f"{words} ({unit})" if name.endswith(f"_{unit}") else words


def _cell(name: str, value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.2%}" if name.endswith("_share") else _number(value)


def frame_rows(field: Field) -> list[list[str]]:
    """Return the headings and the cells of the averages of frames; empty for a single frame."""
    table, unit = field.frames, field.unit
    if table.empty:
        return []
    names = [name for name in _FRAME_COLUMNS if f"{name}_{unit}" in table]
    rows = [["frames", "averages", *(f"{_FRAME_COLUMNS[name]} ({unit})" for name in names)]]
    for row in table.to_dict("records"):
        cells = [row[f"{name}_{unit}"] for name in names]
        shown = [_number(value) if np.isfinite(value) else "–" for value in cells]
        rows.append([str(row["frames"]), f"{row['measured']} of {row['averages']}", *shown])
    return rows


def needed_text(field: Field, precision: float | None) -> str:
    """Return how many frames reach a precision of the CD, as one line; empty if unknown."""
    one = precision_of_one(field.frames, field.unit)
    if one is None or field.drifts:
        return ""
    unit = field.unit
    text = (
        f"One frame measures the CD to {_number(one)} {unit} (standard deviation), N frames to "
        f"that ÷ √N"
    )
    if precision is None:
        return f"{text}."
    count = max(1, math.ceil((one / precision) ** 2 - 1e-9))
    beyond = ", more than there are" if count > field.count else ""
    reach = "1 frame reaches" if count == 1 else f"{count} frames reach"
    return f"{text}: {reach} {precision:g} {unit}{beyond}."
