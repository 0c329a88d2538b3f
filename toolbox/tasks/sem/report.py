"""One-page report of a test on SEM pictures, and the same figures as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from toolbox.pages import Cell, Chart, Column, Facts, Page, Table, TableRow
from toolbox.pages.kit import Grade as Colour
from toolbox.plotter import save_figure
from toolbox.tasks.sem.charts import draw_frames, draw_spectra, draw_widths
from toolbox.tasks.sem.details import Detail, biases_of, choose_pictures, places_of
from toolbox.tasks.sem.evaluate import METHODS, Picture, SemResults
from toolbox.tasks.sem.figures import (
    Measure,
    counted,
    how_measured,
    is_discs,
    methods_of,
    quality,
    reference_name,
    spectrum,
    unit_of,
    verdict_of,
    warnings_of,
    width_name,
)
from toolbox.tasks.sem.metrology import THRESHOLD

_DPI = 160
_TEXT_WIDTH = 100
_COLOURS: dict[str, Colour] = {"helps": "good", "neutral": "neutral", "harms": "bad"}
#: By name, a function that returns the picture.
Pictures = Mapping[str, Callable[[], Picture]]


def sem_page(
    results: SemResults,
    pictures: Pictures,
    folder: Path,
    facts: Mapping[str, str],
    nm: bool = True,
    num_pictures: int = 3,
) -> Page:
    """Write the charts and pictures of a test on SEM pictures; return the page.

    Parameters
    ----------
    results : toolbox.tasks.sem.evaluate.SemResults
        The results. In addition to the content from `SemEvaluator`, the summary may hold ``psnr``
        and ``ssim`` (by method), ``pixel_nm``, ``threshold``, ``reference`` (text) and ``warnings``
        (list of text); every value may be None.
    pictures : dict of str to callable
        By name, a function that returns the measured `toolbox.tasks.sem.evaluate.Picture`. It is
        called only for pictures that are shown, one at a time.
    folder : pathlib.Path
        Folder for the files; created if missing.
    facts : dict of str to str
        How the pictures were made: model, weights, data, filters.
    nm : bool
        Whether lengths are in nanometres; otherwise, or if the summary has no ``pixel_nm``, they
        are in pixels.
    num_pictures : int
        Number of pictures shown, from the one whose CD restoring changed most to the least.

    Returns
    -------
    toolbox.pages.Page
        The page, not yet written. The files are ``comparison_NNNN.png``, ``psd.png`` (with
        spectra), ``cd.png`` and ``frames.png`` (with averages of frames); each appears complete or
        not at all.
    """
    summary, unit = results.summary, unit_of(results.summary, nm)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def saved(figure: Figure, name: str, caption: str) -> Chart:
        save_figure(figure, folder / name, _DPI)
        return Chart((folder / name).read_bytes(), caption, caption, dpi=_DPI)

    page = Page("Test on SEM pictures", counted(summary))
    verdict = verdict_of(summary, unit)
    if verdict:
        page.verdict(_COLOURS[verdict.grade], verdict.title, verdict.sentences)
    page.warnings("Before you trust these figures", warnings_of(summary, unit))
    page.section("Figures", _table(quality(summary, unit), summary))
    what = width_name(summary)
    charts = [("cd", f"{what[0].upper()}{what[1:]}", draw_widths, (9.2, 4.0))]
    if len(results.spectra.columns) > 1:
        charts.append(("psd", "Roughness by wavelength", draw_spectra, (9.2, 6.2)))
    if len(results.frames):
        charts.append(("frames", "Precision in averaged frames", draw_frames, (7.2, 4.0)))
    for name, heading, draw, inches in charts:
        figure = Figure(figsize=inches, layout="constrained")
        caption = draw(figure, results, unit)
        table = _table(spectrum(summary, unit), summary) if name == "psd" else None
        page.section(heading, saved(figure, f"{name}.png", caption), table)
    details = _details(results, pictures, num_pictures, unit)
    page.section(
        "Pictures",
        *(
            saved(figure, f"comparison_{number:04d}.png", caption)
            for number, (figure, caption) in enumerate(details, 1)
        ),
    )
    page.section("How it was measured", Facts(how_measured(results, unit)))
    page.section("How the pictures were made", Facts(facts))
    return page


def print_sem_report(results_summary: Mapping[str, Any]) -> str:
    """Return the figures of a test on SEM pictures as a table for the terminal.

    Parameters
    ----------
    results_summary : dict
        ``SemResults.summary`` with the additions named in `sem_page`; every value may be None.

    Returns
    -------
    str
        Lines of at most about 105 characters, without a final line end.
    """
    summary, unit = results_summary, unit_of(results_summary)
    methods = methods_of(summary)
    figures = [*quality(summary, unit), *spectrum(summary, unit)]
    columns = ["truth"] if any("truth" in figure.values for figure in figures) else []
    columns += methods
    labels = {"truth": reference_name(summary), **METHODS}
    rows = [["", *(labels[name] for name in columns)]]
    rows += [[figure.heading, *(_plain(figure, name) for name in columns)] for figure in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    lines = ["", counted(summary), *(line.rstrip() for line in table)]
    verdict = verdict_of(summary, unit)
    if verdict:
        lines += [_filled(" ".join([f"{verdict.title}.", *verdict.sentences]))]
    lines += [_filled(f"WARNING: {warning}") for warning in warnings_of(summary, unit)]
    return "\n".join(lines)


def _filled(text: str) -> str:
    """Wrap a paragraph for the terminal, without breaking file names."""
    return textwrap.fill(
        text,
        _TEXT_WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(figure: Measure, name: str) -> str:
    """Return the value and the note of a method as one cell."""
    if name not in figure.values:
        return "-"
    note = figure.notes.get(name)
    if not note:
        return figure.values[name]
    return f"{figure.values[name]} {note}" if note[0] == "±" else f"{figure.values[name]} ({note})"


def _table(measures: Sequence[Measure], summary: Mapping[str, Any]) -> Table:
    """Return a table with a row for each method and, if known, one for the truth."""
    rows = ["truth"] if any("truth" in measure.values for measure in measures) else []

    def cell(measure: Measure, name: str) -> Cell:
        if name not in measure.values:
            return Cell("–")
        value, note = measure.values[name], measure.notes.get(name, "")
        return Cell(value.replace("-", "−"), note.replace("-", "−"))

    columns = [Column(tuple(measure.name.split("|")), measure.unit) for measure in measures]
    return Table(
        [Column(("method",)), *columns],
        [
            TableRow(
                METHODS.get(name, reference_name(summary)),
                [cell(measure, name) for measure in measures],
                own=name == "restored",
            )
            for name in rows + methods_of(summary)
        ],
    )


def _details(
    results: SemResults, pictures: Pictures, count: int, unit: str
) -> Iterator[tuple[Figure, str]]:
    """Yield close-ups of some pictures, each with its caption."""
    summary, table = results.summary, results.per_picture
    threshold = summary.get("threshold") or THRESHOLD
    pixel = float(summary["pixel_nm"]) if unit == "nm" else 1.0
    dark = summary.get("polarity") == "dark"
    for name, rank in choose_pictures(list(pictures), table, count):
        picture = pictures[name]()
        places = places_of(picture, is_discs(summary), threshold, dark)
        detail = Detail(picture, places, threshold, pixel, unit, dark)
        notes = {
            # Matplotlib replaces the minus sign only on axes.
            method: f"Δ {width_name(summary)} {bias:+.2f} {unit}".replace("-", "−")
            for method, bias in biases_of(table, name).items()
        }
        yield detail.draw(notes), f"{name}, {rank}; {detail.text}."
