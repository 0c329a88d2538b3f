"""Pictures and a one-page report of a test on SEM pictures, and the same figures as text."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.plotter import save_figure
from toolbox.report import embedded, html_page, round_length, table_section, warnings_section
from toolbox.tasks.sem.evaluate import (
    CHANGED,
    LEAST_DENSITY,
    MAIN_GROUP,
    METHODS,
    Picture,
    SemResults,
    smooth_density,
)
from toolbox.tasks.sem.metrology import THRESHOLD, Disc, find_discs, find_lines, measure_disc

REPORT_NAME = "report.html"
_COLOURS = {
    "raw": "0.55",
    "gaussian": "tab:orange",
    "non_local_means": "tab:green",
    "restored": "tab:blue",
}
_TRUTH_COLOUR = "black"
# Both are seen on grey of any depth, and told apart by every kind of colour vision.
_MEASURED_LINE: dict[str, Any] = {"color": "#ffb000", "linewidth": 1.1}
_REFERENCE_LINE: dict[str, Any] = {"color": "#00c8ff", "linewidth": 1.0, "linestyle": (0, (3, 2))}
_DPI = 160
#: Least and, for lines, largest side of the detail that is shown, pixels.
_DETAIL_PX = (96, 160)
#: Points of a spectrum for each doubling of the wavelength.
_PER_OCTAVE = 6
#: Names that are listed before the rest is only counted.
_MOST_NAMES = 12
_TEXT_WIDTH = 100

_STYLE = """.verdict { margin: 1rem 0; padding: .75rem 1rem; border: 2px solid;
  border-left-width: .6rem; break-inside: avoid; }
.verdict h2 { margin: 0 0 .25rem; padding: 0; border: 0; }
.verdict p { margin: 0; max-width: none; }
.verdict p + p { margin-top: .35rem; overflow-wrap: anywhere; }
.pass { border-color: #1b7a3d; background: #e9f6ed; }
.pass h2 { color: #14602f; }
.fail { border-color: #b3261e; background: #fdecea; }
.fail h2 { color: #96201a; }
th { width: 24%; }
table { max-width: none; }
.wide { overflow-x: auto; }
.wide table { font-size: .75rem; }
.wide th, .wide td { width: auto; padding: .35rem .7rem .35rem 0; white-space: nowrap;
  text-align: right; }
.wide th:first-child { text-align: left; }
.wide thead th { line-height: 1.3; vertical-align: bottom; }
.wide small { display: block; color: #555; font-size: .6875rem; }
.wide .own th, .wide .own td { background: #eef4fb; font-weight: bold; color: #222; }
figure + .wide { margin-top: 1rem; }
figure + figure { margin-top: 1.5rem; }
"""


class _Figure(NamedTuple):
    """One figure of every method, ready to be read.

    Attributes
    ----------
    name : str
        What it is; for a column, lines may be broken at ``|``.
    unit : str
        Unit, or nothing.
    values : dict of str to str
        By method, and ``truth`` where there is one; methods without a value are missing.
    notes : dict of str to str
        What stands behind or below a value: its error or interval.
    """

    name: str
    unit: str
    values: dict[str, str]
    notes: dict[str, str]

    @property
    def heading(self) -> str:
        """Name and unit on one line."""
        return self.name.replace("|", " ") + (f" ({self.unit})" if self.unit else "")


def write_sem_report(
    results: SemResults,
    pictures: Sequence[Picture],
    folder: Path,
    facts: Mapping[str, str],
    nm: bool = True,
    num_pictures: int = 3,
) -> list[Path]:
    """Write the pictures of a test on SEM pictures, and a page that shows all of it offline.

    Parameters
    ----------
    results : toolbox.tasks.sem.evaluate.SemResults
        What was measured. The summary may hold, besides what `SemEvaluator` puts into it, ``psnr``
        and ``ssim`` (by method), ``pixel_nm``, ``threshold``, ``reference`` (text) and ``warnings``
        (list of text); every value may be None.
    pictures : sequence of toolbox.tasks.sem.evaluate.Picture
        The pictures that were measured.
    folder : pathlib.Path
        Where the files go; it is made if missing.
    facts : dict of str to str
        How the pictures were made: model, weights, data, filters.
    nm : bool
        Whether lengths are nanometres; otherwise, and if the summary knows no ``pixel_nm``, they
        are pixels.
    num_pictures : int
        How many pictures are shown, from the one whose CD restoring changed most to the least.

    Returns
    -------
    list of pathlib.Path
        ``comparison_NNNN.png``, ``psd.png`` (with spectra), ``cd.png``, ``frames.png`` (with
        averages of frames) and ``report.html``. Each appears whole or not at all.
    """
    report = _Report(results, folder, nm)
    what = _what(results.summary)
    report.draw("cd", f"{what[0].upper()}{what[1:]}", _draw_widths, (9.2, 4.0))
    if len(results.spectra.columns) > 1:
        report.draw("psd", "Roughness by wavelength", _draw_spectra, (9.2, 6.2))
    if len(results.frames):
        report.draw("frames", "Precision in averaged frames", _draw_frames, (7.2, 4.0))
    report.compare(pictures, num_pictures)
    return report.finish(facts)


def print_sem_report(results_summary: Mapping[str, Any]) -> str:
    """Return the figures of a test on SEM pictures as a table for the terminal.

    Parameters
    ----------
    results_summary : dict
        ``SemResults.summary``, with what `write_sem_report` names; every value may be None.

    Returns
    -------
    str
        Lines of at most about 105 characters, without a line end behind the last; the caller
        prints them.
    """
    summary, unit = results_summary, _unit(results_summary)
    methods = _methods(summary)
    figures = [*_quality(summary, unit), *_spectrum(summary, unit)]
    columns = ["truth"] if any("truth" in figure.values for figure in figures) else []
    columns += methods
    labels = {"truth": _ideal(summary), **METHODS}
    rows = [["", *(labels[name] for name in columns)]]
    rows += [[figure.heading, *(_plain(figure, name) for name in columns)] for figure in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    lines = ["", _counted(summary), *(line.rstrip() for line in table)]
    verdict = _verdict(summary, unit)
    if verdict:
        lines += [_filled(" ".join([f"{verdict.title}.", *verdict.sentences]))]
    lines += [_filled(f"WARNING: {warning}") for warning in _warnings(summary, unit)]
    return "\n".join(lines)


def _filled(text: str) -> str:
    """Break a paragraph for the terminal, but no file name."""
    return textwrap.fill(
        text,
        _TEXT_WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(figure: _Figure, name: str) -> str:
    """Return value and note of a method in one cell."""
    if name not in figure.values:
        return "-"
    note = figure.notes.get(name)
    if not note:
        return figure.values[name]
    return f"{figure.values[name]} {note}" if note[0] == "±" else f"{figure.values[name]} ({note})"


# --- figures --------------------------------------------------------------------------------


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _of(summary: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a figure by method, without those that are unknown."""
    return {name: value for name, value in (summary.get(key) or {}).items() if _known(value)}


def _part_of(summary: Mapping[str, Any], key: str, part: str) -> dict[str, Any]:
    """Return a part of a nested figure by method."""
    nested = {name: (parts or {}).get(part) for name, parts in (summary.get(key) or {}).items()}
    return {name: value for name, value in nested.items() if _known(value)}


def _methods(summary: Mapping[str, Any]) -> list[str]:
    """Return the methods that were compared, in their usual order."""
    seen = [set(summary.get(key) or ()) for key in ("cd_bias_nm", "psnr", "edge_error_nm")]
    return [name for name in METHODS if any(name in names for names in seen)]


def _unit(summary: Mapping[str, Any], nm: bool = True) -> str:
    return "nm" if nm and _known(summary.get("pixel_nm")) else "px"


def _is_discs(summary: Mapping[str, Any]) -> bool:
    return summary.get("measured") == "discs"


def _what(summary: Mapping[str, Any]) -> str:
    return "diameter" if _is_discs(summary) else "CD"


def _ideal(summary: Mapping[str, Any]) -> str:
    """Name what the methods are compared with; its criterion is offset only from true edges."""
    return "truth" if summary.get("criterion_offset_nm") else "reference"


def _counted(summary: Mapping[str, Any]) -> str:
    """Say what was measured."""
    count, shape = summary.get("n"), summary.get("measured") or "lines"
    known = _known(summary.get("pixel_nm"))
    size = f"{summary['pixel_nm']:.4g} nm per pixel" if known else "pixel size not known"
    return f"{count or 0} picture{'s' * (count != 1)} of {shape}, {size}"


def _texts(values: Mapping[str, float], pattern: str) -> dict[str, str]:
    return {name: format(value, pattern) for name, value in values.items()}


def _percent_text(value: float) -> str:
    return f"{value:+.1f} %" if abs(value) < 99.95 else f"{value:+.0f} %"


def _quality(summary: Mapping[str, Any], unit: str) -> list[_Figure]:
    """List the figures of the main table; those that nothing is known of are left out."""
    discs = _is_discs(summary)
    intervals = {n: f"± {v:.3f}" for n, v in _of(summary, "cd_bias_ci95_nm").items()}
    slopes = {n: f"± {v:.3f}" for n, v in _of(summary, "cd_slope_ci95").items()}
    figures = [
        _Figure("PSNR", "dB", _texts(_of(summary, "psnr"), ".2f"), {}),
        _Figure("SSIM", "", _texts(_of(summary, "ssim"), ".3f"), {}),
        _Figure(
            "Diameter|bias ± 95 %" if discs else "CD bias|± 95 %",
            unit,
            _texts(_of(summary, "cd_bias_nm"), "+.3f"),
            intervals,
        ),
        _Figure(
            "CD bias|to true edges",
            unit,
            _texts(_of(summary, "cd_bias_to_true_edges_nm"), "+.3f"),
            {},
        ),
        _Figure(
            "Diameter|slope" if discs else "CD slope",
            "",
            _texts(_of(summary, "cd_slope"), ".3f"),
            slopes,
        ),
        *(
            _roughness(summary, kind, which, unit)
            for kind in ("lwr", "ler")
            for which in ("biased", "unbiased")
        ),
        _Figure(
            "Spread of|the bias" if discs else "Edge|error",
            unit,
            _texts(_of(summary, "edge_error_nm"), ".3f"),
            {},
        ),
        _Figure("Width|correlation", "", _texts(_of(summary, "width_correlation"), ".3f"), {}),
        _Figure("Equivalent|frames", "", _texts(_of(summary, "equivalent_frames"), ".1f"), {}),
    ]
    return [figure for figure in figures if figure.values]


def _roughness(summary: Mapping[str, Any], kind: str, which: str, unit: str) -> _Figure:
    """Return LWR or LER with its error, and the true one."""
    values = _texts(_of(summary, f"{which}_{kind}_nm"), ".2f")
    true = summary.get(f"true_{kind}_nm")
    if values and true is not None and _known(true):
        values = {"truth": f"{true:.2f}", **values}
    errors = _of(summary, f"{which}_{kind}_error_percent")
    notes = {name: _percent_text(value) for name, value in errors.items()}
    return _Figure(f"{kind.upper()}|{which}", unit, values, notes)


def _spectrum(summary: Mapping[str, Any], unit: str) -> list[_Figure]:
    """List the figures of the spectrum of widths."""
    parts = [
        ("Erased|below", unit, "psd_transfer", "erased_below_nm", ".1f"),
        ("Invented|below", unit, "psd_transfer", "invented_below_nm", ".1f"),
        ("Correlation|length", unit, "psd_fit", "xi_nm", ".1f"),
        ("Roughness|exponent", "", "psd_fit", "alpha", ".2f"),
        ("Noise|floor", f"{unit}³", "psd_fit", "floor_nm3", ".3f"),
    ]
    figures = [
        _Figure(name, symbol, _texts(_part_of(summary, key, part), pattern), {})
        for name, symbol, key, part, pattern in parts
    ]
    return [figure for figure in figures if figure.values]


class _Verdict(NamedTuple):
    """Whether restoring does no harm, in words."""

    passed: bool
    title: str
    sentences: list[str]


def _verdict(summary: Mapping[str, Any], unit: str) -> _Verdict | None:
    gate = summary.get("do_no_harm")
    if not gate:
        return None
    passed, largest = gate.get("verdict") == "pass", gate.get("largest_likely_cd_change_nm")
    tolerance = gate.get("tolerance_nm")
    limit = f"the tolerance of {tolerance:g} {unit}" if _known(tolerance) else "the tolerance"
    what = _what(summary)
    reasons = [str(reason) for reason in gate.get("reasons") or ()]
    said = f"The change of the {what} by restoring cannot be judged"
    if largest is not None and _known(largest):
        by = f"the mean {what} by {{}} {largest:.3f} {unit} (95 % confidence)"
        said = f"Restoring may change {by.format('as much as')}, more than {limit}"
        if passed or (_known(tolerance) and largest <= tolerance):
            said = f"Restoring changes {by.format('at most')}, within {limit}"
    sentences = [f"{said}."]
    if reasons and not passed:
        sentences.append(f"Because: {'; '.join(reasons)}.")
    flagged = [str(name) for name in gate.get("flagged") or ()]
    if flagged:
        sentences.append(
            f"Flagged, one by one, as changed by more than {limit} or not measurable: "
            f"{len(flagged)} of {summary.get('n') or len(flagged)} ({_listed(flagged)})."
        )
    return _Verdict(passed, f"Do no harm: {'PASS' if passed else 'FAIL'}", sentences)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _warnings(summary: Mapping[str, Any], unit: str) -> list[str]:
    """Say what a reader must know before the figures are trusted."""
    found = [str(line) for line in summary.get("warnings") or ()]
    if unit == "px":
        found.append("The size of a pixel is not known: all lengths are in pixels.")
    bias = summary.get("cd_bias_nm") or {}
    lost = [METHODS[name] for name in _methods(summary) if not _known(bias.get(name))]
    if lost:
        found.append(f"No width could be measured in: {', '.join(lost)}.")
    intervals = summary.get("cd_bias_ci95_nm") or {}
    if _known(bias.get("restored")) and not _known(intervals.get("restored")):
        found.append("A single measurement has no confidence interval: test on more pictures.")
    return [*found, *_slope_warning(summary, unit), *_precision_warnings(summary, unit)]


def _slope_warning(summary: Mapping[str, Any], unit: str) -> list[str]:
    slope = _of(summary, "cd_slope").get("restored")
    interval = _of(summary, "cd_slope_ci95").get("restored", 0.0)
    if slope is None or abs(slope - 1) <= max(interval, 0.05):
        return []
    return [
        f"Restored widths follow the true ones with a slope of {slope:.3f}, not 1: for each "
        f"{unit} of true change they change by {slope:.3f} {unit}."
    ]


def _precision_warnings(summary: Mapping[str, Any], unit: str) -> list[str]:
    found = []
    what = "diameters" if _is_discs(summary) else "edges"
    errors = _of(summary, "edge_error_nm")
    own = errors.pop("restored", None)
    better = [METHODS[name] for name, error in errors.items() if own is not None and error < own]
    if better:
        found.append(f"The {what} are more precise in: {', '.join(better)}. Restoring adds none.")
    erased = _part_of(summary, "psd_transfer", "erased_below_nm").get("restored")
    if erased is not None:
        found.append(
            f"Restoring erased more than half of the roughness at wavelengths near and below "
            f"{erased:.1f} {unit}; it cannot be measured in restored pictures."
        )
    invented = _part_of(summary, "psd_transfer", "invented_below_nm").get("restored")
    if invented is not None:
        found.append(
            f"Restoring invented roughness: at wavelengths near or below {invented:.1f} {unit} "
            f"there is more than twice the true one."
        )
    return found


# --- the page -------------------------------------------------------------------------------


class _Report:
    """Draws into a folder and gathers the page."""

    def __init__(self, results: SemResults, folder: Path, nm: bool) -> None:
        self.results, self.summary, self.folder = results, results.summary, Path(folder)
        self.unit = _unit(self.summary, nm)
        self.pixel = float(self.summary["pixel_nm"]) if self.unit == "nm" else 1.0
        self.written: list[Path] = []
        self.sections: list[str] = []

    def draw(
        self,
        name: str,
        heading: str,
        draw: Callable[[Figure, SemResults, str], str],
        inches: tuple[float, float],
    ) -> None:
        """Draw a chart into a file and into the page."""
        figure = Figure(figsize=inches, layout="constrained")
        caption = draw(figure, self.results, self.unit)
        body = self._saved(figure, f"{name}.png", caption, inches[0])
        if name == "psd":
            body += _by_method(_spectrum(self.summary, self.unit), _methods(self.summary))
        self.sections.append(f"<section><h2>{html.escape(heading)}</h2>{body}</section>")

    def compare(self, pictures: Sequence[Picture], count: int) -> None:
        """Draw some pictures beside each other."""
        threshold = self.summary.get("threshold") or THRESHOLD
        body = ""
        chosen = _choose(pictures, self.results.per_picture, count)
        for number, (picture, rank) in enumerate(chosen, 1):
            places = _places(picture, _is_discs(self.summary), threshold)
            detail = _Detail(picture, places, threshold, self.pixel, self.unit)
            biases = _biases(self.results.per_picture, picture.name)
            figure = detail.draw(
                {
                    # Matplotlib sets its own minus only on axes.
                    name: f"Δ {_what(self.summary)} {bias:+.2f} {self.unit}".replace("-", "−")
                    for name, bias in biases.items()
                }
            )
            caption = f"{picture.name}, {rank}; {detail.text}."
            body += self._saved(figure, f"comparison_{number:04d}.png", caption, 9.2)
        if body:
            self.sections.append(f"<section><h2>Pictures</h2>{body}</section>")

    def finish(self, facts: Mapping[str, str]) -> list[Path]:
        """Write the page; return all that was written."""
        figures, ideal = _quality(self.summary, self.unit), _ideal(self.summary)
        table = _by_method(figures, _methods(self.summary), ideal)
        page = html_page(
            "Test on SEM pictures",
            _counted(self.summary),
            [
                _verdict_section(self.summary, self.unit),
                warnings_section(
                    "Before you trust these figures", _warnings(self.summary, self.unit)
                ),
                f"<section><h2>Figures</h2>{table}</section>" if table else "",
                *self.sections,
                table_section("How it was measured", _how(self.results, self.unit)),
                table_section("How the pictures were made", facts),
            ],
            _STYLE,
        )
        self.written.append(self.folder / REPORT_NAME)
        with replacing(self.written[-1]) as beside:
            beside.write_text(page, encoding="utf-8")
        return self.written

    def _saved(self, figure: Figure, name: str, caption: str, inches: float) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path, _DPI)
        self.written.append(path)
        image = embedded(path.read_bytes(), caption)
        return (
            f'<figure><div class="chart" style="max-width: {6.7 * inches:.1f}rem">{image}</div>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )


def _verdict_section(summary: Mapping[str, Any], unit: str) -> str:
    verdict = _verdict(summary, unit)
    if verdict is None:
        return ""
    kind = "pass" if verdict.passed else "fail"
    sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in verdict.sentences)
    return (
        f'<section class="verdict {kind}"><h2>{html.escape(verdict.title)}</h2>'
        f"{sentences}</section>"
    )


def _by_method(figures: Sequence[_Figure], methods: Sequence[str], ideal: str = "truth") -> str:
    """Return a table with a row for each method and, if it is known, one for the truth."""
    if not figures:
        return ""
    rows = ["truth"] if any("truth" in figure.values for figure in figures) else []
    rows += methods
    head = "".join(f'<th scope="col">{_heading(figure)}</th>' for figure in figures)
    body = ""
    for name in rows:
        cells = "".join(f"<td>{_cell(figure, name)}</td>" for figure in figures)
        mark = ' class="own"' if name == "restored" else ""
        label = html.escape(METHODS.get(name, ideal))
        body += f'<tr{mark}><th scope="row">{label}</th>{cells}</tr>'
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">method</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _heading(figure: _Figure) -> str:
    unit = f"<small>{html.escape(figure.unit)}</small>" if figure.unit else ""
    return "<br>".join(html.escape(part) for part in figure.name.split("|")) + unit


def _cell(figure: _Figure, name: str) -> str:
    if name not in figure.values:
        return "–"
    note = figure.notes.get(name)
    text = html.escape(figure.values[name]) + (
        f"<small>{html.escape(note)}</small>" if note else ""
    )
    return text.replace("-", "−")


def _how(results: SemResults, unit: str) -> dict[str, str]:
    """Say how everything was measured."""
    summary, discs = results.summary, _is_discs(results.summary)
    threshold, ideal = summary.get("threshold") or THRESHOLD, _ideal(summary)
    rows = {
        "Pictures": _counted(summary),
        "Edge": f"where the picture crosses {100 * threshold:g} % between the local minimum and "
        "maximum of the mean profile, to a fraction of a pixel, without smoothing first",
        "CD": "diameter of the circle fitted to the edge of a disc"
        if discs
        else "mean distance of the two edges of a line",
        "Bias": "mean of measured minus reference, ± half of its 95 % confidence interval",
    }
    if summary.get("reference"):
        rows["Reference"] = str(summary["reference"])
    offset = summary.get("criterion_offset_nm")
    if offset and _known(offset):
        rows["Offset of the criterion"] = (
            f"{offset:+.3f} {unit}".replace("-", "−")
            + ": CD by this criterion, without noise, minus CD as drawn; common to all methods "
            "and no part of the bias"
        )
    if _of(summary, "cd_slope"):
        rows["Slope"] = "change of the measured CD for each change of the true one; 1 is faithful"
    if not discs:
        rows["LWR, LER"] = (
            "three standard deviations of widths and edges; unbiased: without the white floor of "
            f"the spectrum, which is noise; below it the error against the {ideal}"
        )
        rows["Edge error"] = (
            f"root mean square distance of each edge from that of the {ideal}, without its mean"
        )
    else:
        rows["Spread of the bias"] = "standard deviation over all discs"
    if _of(summary, "width_correlation"):
        rows["Width correlation"] = (
            f"of the widths along a line with those of the {ideal}: 1 if they follow, 0 if the "
            "roughness was invented, whatever its size"
        )
    if _of(summary, "equivalent_frames"):
        rows["Equivalent frames"] = (
            "frames whose average is as precise, read from measured averages; a figure at the "
            "largest of them is a lower bound"
            if len(results.frames) > 1
            else "frames whose average would be as precise if the error fell with their root"
        )
    if _of(summary, "psnr") or _of(summary, "ssim"):
        rows["PSNR, SSIM"] = "against the long exposure, mean over the pictures"
    return rows


# --- charts ---------------------------------------------------------------------------------


def _set_up(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlabel(xlabel, fontsize=9)
    ax.set_ylabel(ylabel, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


_Place = Literal["outside upper left", "outside right upper"]


def _add_legend(figure: Figure, place: _Place, columns: int) -> None:
    if any(ax.get_legend_handles_labels()[1] for ax in figure.axes):
        figure.legend(loc=place, frameon=False, fontsize=9, ncols=columns)


def _round_ticks(ax: Axes, which: str) -> None:
    """Label 1, 2 and 5 of every decade of a logarithmic axis in plain numbers."""
    for axis in (getattr(ax, f"{name}axis") for name in which):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _draw_spectra(figure: Figure, results: SemResults, unit: str) -> str:
    """Draw spectra of widths, and below them what each method made of them."""
    spectra, ideal = results.spectra, _ideal(results.summary)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    wavelength = 1 / spectra["frequency_per_nm"].to_numpy(float)
    names = [name for name in ("truth", *METHODS) if name in spectra]
    smooth = {name: smooth_density(spectra[name].to_numpy(float)) for name in names}
    groups = np.floor(np.log2(wavelength[0] / wavelength) * _PER_OCTAVE)
    binned = spectra.groupby(groups).mean()
    for name in names:
        colour = _COLOURS.get(name, _TRUTH_COLOUR)
        style: dict[str, Any] = {"color": colour, "linewidth": 2.4 if name == "truth" else 1.5}
        density = np.maximum(binned[name], LEAST_DENSITY)
        top.plot(1 / binned["frequency_per_nm"], density, **style, label=METHODS.get(name, ideal))
        if "truth" in smooth and name != "truth":
            bottom.plot(wavelength, smooth[name] / smooth["truth"], **style)
    for ax in (top, bottom):
        ax.set_xscale("log")
        ax.set_yscale("log")
    _set_up(top, "", f"spectrum of the width ({unit}³)")
    _set_up(bottom, f"wavelength along the line ({unit})", f"method ÷ {ideal}")
    bottom.axhline(1, color="0.3", linewidth=1)
    for limit in CHANGED:
        bottom.axhline(limit, color="0.3", linewidth=1, linestyle="--")
    _round_ticks(bottom, "x")
    bottom.set_ylim(*_transfer_limits(smooth))
    bottom.yaxis.set_major_formatter("{x:g}")
    _mark_limits(bottom, results.summary)
    _add_legend(figure, "outside upper left", 5)
    return (
        "Above the power of the roughness of widths at each wavelength, below its share of that "
        f"of the {ideal} (dashed: half and twice; triangles: where a method first falls below or "
        "rises above)."
    )


def _transfer_limits(smooth: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Show both limits, and of extremes no more than two decades either way."""
    ratios = [smooth[n] / smooth["truth"] for n in smooth if "truth" in smooth and n != "truth"]
    values = np.concatenate(ratios) if ratios else np.ones(1)
    low, high = float(values.min()), float(values.max())
    return min(0.3, max(0.8 * low, 0.01)), max(3.0, min(1.25 * high, 100.0))


def _mark_limits(ax: Axes, summary: Mapping[str, Any]) -> None:
    marks = zip(("erased_below_nm", "invented_below_nm"), CHANGED, ("v", "^"), strict=True)
    for part, limit, marker in marks:
        for name, wavelength in _part_of(summary, "psd_transfer", part).items():
            style: dict[str, Any] = {
                "color": _COLOURS[name],
                "markeredgecolor": "white",
                "markersize": 9,
            }
            ax.plot([wavelength], [limit], marker, **style, zorder=5)


def _draw_widths(figure: Figure, results: SemResults, unit: str) -> str:
    """Draw the error of widths over the true width, and bias with interval and tolerance."""
    over, bias = figure.subplots(1, 2, width_ratios=(3, 2))
    summary = results.summary
    grouped = _draw_widths_over(over, results)
    what = _what(summary)
    kind = "true" if _ideal(summary) == "truth" else "reference"
    _set_up(over, f"{kind} {what} ({unit})", f"measured − reference {what} ({unit})")
    over.axhline(0, color="0.3", linewidth=1)
    methods = _methods(summary)
    tolerance = (summary.get("do_no_harm") or {}).get("tolerance_nm")
    if tolerance is not None and _known(tolerance):
        bias.axvspan(-tolerance, tolerance, color="tab:green", alpha=0.13, linewidth=0)
        bias.set_title(f"green: tolerance ± {tolerance:g} {unit}", fontsize=9)
    bias.axvline(0, color="0.3", linewidth=1)
    intervals = _of(summary, "cd_bias_ci95_nm")
    for name, value in _of(summary, "cd_bias_nm").items():
        style: dict[str, Any] = {
            "color": _COLOURS[name],
            "markersize": 7,
            "capsize": 4,
            "linewidth": 1.8,
        }
        row = methods.index(name)
        bias.errorbar([value], [row], xerr=[intervals.get(name, 0.0)], fmt="o", **style)
    bias.set_yticks(range(len(methods)), [METHODS[name] for name in methods])
    bias.set_ylim(max(len(methods), 1) - 0.5, -0.5)
    _set_up(bias, f"bias of the {what} ({unit})", "")
    _add_legend(figure, "outside upper left", 2)
    shown = "means of groups ± one standard deviation" if grouped else "each measurement"
    return (
        f"Left the error of the {what} ({shown}), right its mean with the 95 % confidence "
        "interval and the tolerance."
    )


def _draw_widths_over(ax: Axes, results: SemResults) -> bool:
    """Draw errors by group of a sweep, or every one if there is no sweep; tell which."""
    table, summary = results.per_picture, results.summary
    column = "true_cd_nm" if "true_cd_nm" in table else "reference_cd_nm"
    table = table.assign(group=table.get("group", MAIN_GROUP)).dropna(subset=["cd_bias_nm", column])
    grouped = table["group"].nunique() > 1
    slopes, intervals = _of(summary, "cd_slope"), _of(summary, "cd_slope_ci95")
    methods = [name for name in _methods(summary) if (table["method"] == name).any()]
    reach = float(np.ptp(table[column].astype(float))) if len(table) else 0.0
    for i, name in enumerate(methods):
        own = table[table["method"] == name].astype({column: float, "cd_bias_nm": float})
        label = METHODS[name]
        if name in slopes:
            label += f", slope {slopes[name]:.3f}"
            label += f" ± {intervals[name]:.3f}" if name in intervals else ""
        style: dict[str, Any] = {"color": _COLOURS[name], "label": label}
        if not grouped:
            ax.plot(own[column], own["cd_bias_nm"], "o", markersize=4.5, alpha=0.75, **style)
            continue
        # A step aside, so that the bars of several methods can be told apart.
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


def _draw_frames(figure: Figure, results: SemResults, unit: str) -> str:
    """Draw the edge error of averages, and which of them the methods reach."""
    ax = figure.subplots()
    errors = _of(results.summary, "edge_error_nm")
    frames = results.frames["frames"].to_numpy(float)
    measured = results.frames["edge_error_nm"].to_numpy(float)
    if "raw" in errors and not (frames == 1).any():
        frames, measured = np.r_[1.0, frames], np.r_[errors["raw"], measured]
    ax.plot(frames, measured, "o-", color="black", linewidth=1.4, label="average of N frames")
    law = measured[0] * np.sqrt(frames[0] / frames)
    ax.plot(frames, law, ":", color="0.4", linewidth=1.2, label="falling with √N")
    equivalent = _of(results.summary, "equivalent_frames")
    for name in (name for name in METHODS if name in errors and name != "raw"):
        count, colour = equivalent.get(name), _COLOURS[name]
        bound = "at least " if count and count >= 0.999 * frames.max() else ""
        label = METHODS[name] + (f": {bound}{count:.1f} frames" if count else "")
        ax.axhline(errors[name], color=colour, linewidth=1.5, label=label)
        if count:
            ax.plot([count], [errors[name]], "D", color=colour, markeredgecolor="white", zorder=5)
            ax.axvline(count, color=colour, linewidth=1, linestyle="--", alpha=0.7)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _set_up(ax, "averaged frames N", f"edge error ({unit})")
    _round_ticks(ax, "xy")
    _add_legend(figure, "outside right upper", 1)
    return (
        "Edge error of averages of N frames; a method is worth as many frames as the place where "
        "its line meets their curve."
    )


# --- details of pictures --------------------------------------------------------------------

#: Nominal lines (left, right) or discs of a picture.
_Places = list[tuple[float, float]] | list[Disc]
#: Columns and rows of a curve, pixels.
_Curve = tuple[np.ndarray, np.ndarray]


def _biases(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Return the CD bias of each method in one picture."""
    own = table[table["name"] == name].astype({"cd_bias_nm": float})
    means = own.groupby("method")["cd_bias_nm"].mean().dropna()
    return {str(name): float(value) for name, value in means.items()}


def _choose(
    pictures: Sequence[Picture], table: pd.DataFrame, count: int
) -> list[tuple[Picture, str]]:
    """Choose from the picture that restoring changed most to the least, and say which it is."""
    changes = [_biases(table, picture.name).get("restored", math.nan) for picture in pictures]
    sizes = [math.inf if math.isnan(change) else abs(change) for change in changes]
    order = sorted(range(len(pictures)), key=lambda i: -sizes[i])
    total = len(order)
    ranks = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    return [(pictures[order[rank]], _rank_text(rank, total, sizes[order[rank]])) for rank in ranks]


def _rank_text(rank: int, total: int, size: float) -> str:
    if not math.isfinite(size):
        return "in which no restored CD could be measured"
    if total == 1:
        return "the only picture"
    if rank in (0, total - 1):
        return f"of {total} pictures the one that restoring changed {'least' if rank else 'most'}"
    return f"of {total} pictures number {rank + 1} by the change of widths"


def _places(picture: Picture, discs: bool, threshold: float) -> _Places:
    """Find what is measured, as the evaluation does."""
    if discs:
        return find_discs(picture.high)
    if picture.truth is not None:
        left, right = picture.truth
        return [(float(a.mean()), float(b.mean())) for a, b in zip(left, right, strict=True)]
    clean = picture.high if picture.noise_free is None else picture.noise_free
    try:
        edges = find_lines(clean, threshold)
    except DataError:
        return []
    pairs = zip(edges.left_px[edges.clear], edges.right_px[edges.clear], strict=True)
    return [(float(np.nanmean(a)), float(np.nanmean(b))) for a, b in pairs]


def _curves(image: np.ndarray, places: _Places, threshold: float) -> list[_Curve]:
    """Measure the edges of an image, as curves to be drawn."""
    discs = [place for place in places if isinstance(place, Disc)]
    if discs:
        found = [measure_disc(image, disc, threshold) for disc in discs]
        return [_circle(disc) for disc in found if disc is not None]
    lines = [(place[0], place[1]) for place in places]
    if not lines:
        return []
    try:
        edges = find_lines(image, threshold, lines)
    except DataError:
        return []
    return _edge_curves(edges.left_px, edges.right_px)


def _edge_curves(left_px: np.ndarray, right_px: np.ndarray) -> list[_Curve]:
    rows = np.arange(left_px.shape[1], dtype=float)
    return [(edge, rows) for edge in (*left_px, *right_px)]


def _circle(disc: Disc) -> _Curve:
    angle = np.linspace(0, 2 * np.pi, 361)
    return disc.column + disc.radius_px * np.cos(angle), disc.row + disc.radius_px * np.sin(angle)


class _Detail:
    """A part of a picture in close-up, with edges over it.

    Attributes
    ----------
    text : str
        What the picture shows.
    """

    def __init__(
        self, picture: Picture, places: _Places, threshold: float, pixel: float, unit: str
    ) -> None:
        self.picture, self.places, self.threshold = picture, places, threshold
        self.pixel, self.unit = pixel, unit
        self.top, self.left, self.rows, self.columns = _window(picture.high.shape, places)
        self.part = (
            slice(self.top, self.top + self.rows),
            slice(self.left, self.left + self.columns),
        )
        self.known = "true edge" if picture.truth is not None else "edge in the long exposure"
        self.text = (
            f"a detail of {self.rows} × {self.columns} pixels with measured edges (amber) and the "
            f"{self.known} (blue), grey levels equal throughout, Δ against the reference"
        )

    def draw(self, notes: Mapping[str, str]) -> Figure:
        """Draw all methods with a note each, the long exposure and what differs from it."""
        images = {
            name: self.picture.images[name] for name in METHODS if name in self.picture.images
        }
        panels = len(images) + 1 + ("restored" in images)
        columns = min(3, panels)
        rows = math.ceil(panels / columns)
        figure = Figure(figsize=(9.2, 3.0 * rows + 0.35), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        shown = {**images, "high": self.picture.high}
        limits = self._limits(list(shown.values()))
        for ax, (name, image) in zip(axes, shown.items(), strict=False):
            self._show(ax, image, "gray", limits)
            title = METHODS.get(name, "long exposure")
            ax.set_title(f"{title}: {notes[name]}" if name in notes else title, fontsize=9)
            if name in ("raw", "restored"):
                self._draw_edges(ax, image)
        if "restored" in images:
            self._draw_difference(figure, axes[panels - 1])
        for ax in axes[panels:]:
            ax.set_axis_off()
        self._draw_ruler(axes[0])
        handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
        if handles:
            figure.legend(
                handles=list(handles.values()),
                loc="outside upper left",
                frameon=True,
                facecolor="0.45",
                labelcolor="white",
                fontsize=9,
                ncols=2,
            )
        return figure

    def _limits(self, images: Sequence[np.ndarray]) -> tuple[float, float]:
        """Return grey levels that noise hardly leaves, the same for all panels."""
        values = np.concatenate([np.asarray(image, float)[self.part].ravel() for image in images])
        low, high = np.percentile(values[np.isfinite(values)], [0.5, 99.5])
        return float(low), float(max(high, low + 1e-9))

    def _show(self, ax: Axes, image: np.ndarray, cmap: str, limits: tuple[float, float]) -> Any:
        box = (
            self.left - 0.5,
            self.left + self.columns - 0.5,
            self.top + self.rows - 0.5,
            self.top - 0.5,
        )
        drawn = ax.imshow(
            np.asarray(image, float)[self.part],
            cmap=cmap,
            vmin=limits[0],
            vmax=limits[1],
            extent=box,
            interpolation="nearest",
        )
        ax.set(xticks=[], yticks=[], autoscale_on=False)
        return drawn

    def _draw_edges(self, ax: Axes, image: np.ndarray) -> None:
        found = _curves(image, self.places, self.threshold)
        if self.picture.truth is not None:
            known = _edge_curves(*self.picture.truth)
        else:
            known = _curves(self.picture.high, self.places, self.threshold)
        for curves, style, label in (
            (found, _MEASURED_LINE, "measured edge"),
            (known, _REFERENCE_LINE, self.known),
        ):
            for i, (x, y) in enumerate(curves):
                ax.plot(x, y, **style, label="_" if i else label)

    def _draw_difference(self, figure: Figure, ax: Axes) -> None:
        change = np.asarray(self.picture.images["restored"], float) - self.picture.high
        reach = float(np.percentile(np.abs(change[self.part]), 99)) or 1.0
        drawn = self._show(ax, change, "RdBu_r", (-reach, reach))
        ax.set_title("restored − long exposure", fontsize=9)
        bar = figure.colorbar(drawn, ax=ax, shrink=0.85, pad=0.02, aspect=25)
        bar.ax.tick_params(labelsize=8)
        bar.set_label("grey levels", fontsize=8)

    def _draw_ruler(self, ax: Axes) -> None:
        """Draw a bar of a round length into a corner."""
        length = round_length(0.35 * self.columns * self.pixel)
        right = self.left + self.columns - 0.5 - 0.05 * self.columns
        row = self.top + 0.94 * self.rows
        x = [right - length / self.pixel, right]
        ax.plot(x, [row, row], color="black", linewidth=5, solid_capstyle="butt", zorder=6)
        ax.plot(x, [row, row], color="white", linewidth=3, solid_capstyle="butt", zorder=7)
        ax.text(
            sum(x) / 2,
            row - 0.025 * self.rows,
            f"{length:g} {self.unit}",
            color="white",
            fontsize=9,
            ha="center",
            va="bottom",
            zorder=7,
            bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.2},
        )


def _window(shape: tuple[int, ...], places: _Places) -> tuple[int, int, int, int]:
    """Return first row, first column, rows and columns about what lies nearest to the middle."""
    middle = [0.5 * (shape[0] - 1), 0.5 * (shape[1] - 1)]
    centres = [_centre_of(place, middle[0]) for place in places]
    side = float(_DETAIL_PX[0])
    if places:
        nearest = int(np.argmin([math.dist(centre, middle) for centre in centres]))
        middle = list(centres[nearest])
        side = _side_of(places[nearest])
    rows, columns = min(round(side), shape[0]), min(round(side), shape[1])
    top = int(np.clip(round(middle[0] - rows / 2), 0, shape[0] - rows))
    left = int(np.clip(round(middle[1] - columns / 2), 0, shape[1] - columns))
    return top, left, rows, columns


def _centre_of(place: tuple[float, float] | Disc, row: float) -> tuple[float, float]:
    if isinstance(place, Disc):
        return place.row, place.column
    return row, 0.5 * (place[0] + place[1])


def _side_of(place: tuple[float, float] | Disc) -> float:
    """Show a line with its neighbours, and a disc as a whole."""
    if isinstance(place, Disc):
        return max(2.6 * place.radius_px, _DETAIL_PX[0])
    return float(np.clip(4.5 * (place[1] - place[0]), *_DETAIL_PX))
