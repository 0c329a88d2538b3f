"""Texts of a test on SEM pictures: values, verdict, warnings, methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from toolbox.tasks.sem.evaluate import METHODS, SemResults
from toolbox.tasks.sem.metrology import THRESHOLD
from toolbox.tasks.sem.verdict import Grade

#: Largest number of names that are listed; the rest is counted.
_MOST_NAMES = 12


class Measure(NamedTuple):
    """One figure of all methods, as text.

    Attributes
    ----------
    name : str
        Name; ``|`` marks line breaks in the heading of a column.
    unit : str
        Unit, may be empty.
    values : dict of str to str
        Values by method, and ``truth`` if known; methods without a value are missing.
    notes : dict of str to str
        Error or interval shown after or below a value.
    """

    name: str
    unit: str
    values: dict[str, str]
    notes: dict[str, str]

    @property
    def heading(self) -> str:
        """Name and unit on one line."""
        return self.name.replace("|", " ") + (f" ({self.unit})" if self.unit else "")


def known(value: Any) -> bool:
    """Return whether a figure is a finite number."""
    return value is not None and math.isfinite(value)


def by_method(summary: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a figure by method, without unknown ones."""
    return {name: value for name, value in (summary.get(key) or {}).items() if known(value)}


def part_by_method(summary: Mapping[str, Any], key: str, part: str) -> dict[str, Any]:
    """Return a part of a nested figure by method."""
    nested = {name: (parts or {}).get(part) for name, parts in (summary.get(key) or {}).items()}
    return {name: value for name, value in nested.items() if known(value)}


def methods_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the compared methods in their usual order."""
    seen = [set(summary.get(key) or ()) for key in ("cd_bias_nm", "psnr", "edge_error_nm")]
    return [name for name in METHODS if any(name in names for names in seen)]


def unit_of(summary: Mapping[str, Any], nm: bool = True) -> str:
    """Return the unit of lengths: pixels if the pixel size is unknown."""
    return "nm" if nm and known(summary.get("pixel_nm")) else "px"


def is_discs(summary: Mapping[str, Any]) -> bool:
    """Return whether discs were measured, not lines."""
    return summary.get("measured") == "discs"


def width_name(summary: Mapping[str, Any]) -> str:
    """Return the name of the measured width."""
    return "diameter" if is_discs(summary) else "CD"


def reference_name(summary: Mapping[str, Any]) -> str:
    """Return the name of the reference; only true edges have an offset of the criterion."""
    return "truth" if summary.get("criterion_offset_nm") else "reference"


def counted(summary: Mapping[str, Any]) -> str:
    """Return number, shape, fields and pixel size of the pictures as a phrase."""
    count, shape = summary.get("n"), summary.get("measured") or "lines"
    pixel = summary.get("pixel_nm")
    size = f"{pixel:.4g} nm per pixel" if known(pixel) else "pixel size not known"
    fields = summary.get("fields") or count
    shown = "" if fields == count else f" in {fields} field{'s' * (fields != 1)}"
    return f"{count or 0} picture{'s' * (count != 1)} of {shape}{shown}, {size}"


def _texts(values: Mapping[str, float], pattern: str) -> dict[str, str]:
    return {name: format(value, pattern) for name, value in values.items()}


def _percent_text(value: float) -> str:
    return f"{value:+.1f} %" if abs(value) < 99.95 else f"{value:+.0f} %"


def quality(summary: Mapping[str, Any], unit: str) -> list[Measure]:
    """Return the figures of the main table, without those that are unknown."""
    discs = is_discs(summary)
    # Name, unit, key, pattern and key of the interval of each.
    before = [
        ("PSNR", "dB", "psnr", ".2f", ""),
        ("SSIM", "", "ssim", ".3f", ""),
        ("Diameter|bias ± 95 %" if discs else "CD bias|± 95 %", unit, "cd_bias_nm", "+.3f",
         "cd_bias_ci95_nm"),
        ("CD bias|to true edges", unit, "cd_bias_to_true_edges_nm", "+.3f", ""),
        ("Diameter|slope" if discs else "CD slope", "", "cd_slope", ".3f", "cd_slope_ci95"),
    ]  # fmt: skip
    after = [
        ("Spread of|the bias" if discs else "Edge|error", unit, "edge_error_nm", ".3f", ""),
        ("Width|correlation", "", "width_correlation", ".3f", ""),
        ("Equivalent|frames", "", "equivalent_frames", ".1f", ""),
    ]

    def measure(name: str, symbol: str, key: str, pattern: str, interval: str) -> Measure:
        notes = {n: f"± {v:.3f}" for n, v in by_method(summary, interval).items()}
        return Measure(name, symbol, _texts(by_method(summary, key), pattern), notes)

    figures = [
        *(measure(*spec) for spec in before),
        *(
            _roughness(summary, kind, which, unit)
            for kind in ("lwr", "ler")
            for which in ("biased", "unbiased")
        ),
        *(measure(*spec) for spec in after),
    ]
    return [figure for figure in figures if figure.values]


def _roughness(summary: Mapping[str, Any], kind: str, which: str, unit: str) -> Measure:
    """Return LWR or LER of each method with its error, and the true value."""
    values = _texts(by_method(summary, f"{which}_{kind}_nm"), ".2f")
    true = summary.get(f"true_{kind}_nm")
    if values and true is not None and known(true):
        values = {"truth": f"{true:.2f}", **values}
    errors = by_method(summary, f"{which}_{kind}_error_percent")
    notes = {name: _percent_text(value) for name, value in errors.items()}
    return Measure(f"{kind.upper()}|{which}", unit, values, notes)


def spectrum(summary: Mapping[str, Any], unit: str) -> list[Measure]:
    """Return the figures of the spectrum of widths."""
    parts = [
        ("Erased|below", unit, "psd_transfer", "erased_below_nm", ".1f"),
        ("Invented|below", unit, "psd_transfer", "invented_below_nm", ".1f"),
        ("Correlation|length", unit, "psd_fit", "xi_nm", ".1f"),
        ("Roughness|exponent", "", "psd_fit", "alpha", ".2f"),
        ("Noise|floor", f"{unit}³", "psd_fit", "floor_nm3", ".3f"),
    ]
    figures = [
        Measure(name, symbol, _texts(part_by_method(summary, key, part), pattern), {})
        for name, symbol, key, part, pattern in parts
    ]
    return [figure for figure in figures if figure.values]


class Verdict(NamedTuple):
    """Whether restoring helps, is neutral or harms, in words.

    Attributes
    ----------
    grade : {'helps', 'neutral', 'harms'}
        The grade.
    title : str
        The grade as a heading.
    sentences : list of str
        Reasons, and the do-no-harm test.
    """

    grade: Grade
    title: str
    sentences: list[str]


def verdict_of(summary: Mapping[str, Any], unit: str) -> Verdict | None:
    """Return the verdict in words; None if there is none."""
    gate = summary.get("do_no_harm")
    if not gate:
        return None
    passed = gate.get("verdict") == "pass"
    said = f"Do no harm: {'PASS' if passed else 'FAIL'}"
    weighed = summary.get("verdict") or {}
    reasons = because(weighed)
    further = [str(reason) for reason in gate.get("reasons") or () if str(reason) not in reasons]
    sentences = [reasons] if reasons else []
    sentences.append(f"{said}. {_change_sentence(gate, passed, width_name(summary), unit)}")
    if further and not passed:
        sentences.append(f"Because: {'; '.join(further)}.")
    flagged = [str(name) for name in gate.get("flagged") or ()]
    if flagged:
        sentences.append(
            f"Flagged individually, because changed by more than {_limit(gate, unit)} or not "
            f"measurable: {len(flagged)} of {summary.get('n') or len(flagged)} "
            f"({_listed(flagged)})."
        )
    grade: Grade = weighed.get("grade") or ("helps" if passed else "harms")
    return Verdict(grade, str(weighed.get("title") or said), sentences)


def because(verdict: Mapping[str, Any]) -> str:
    """Return the reasons for a verdict as a sentence; empty without reasons."""
    reasons = [str(reason) for reason in verdict.get("reasons") or ()]
    return f"Because: {'; '.join(reasons)}." if reasons else ""


def _change_sentence(gate: Mapping[str, Any], passed: bool, what: str, unit: str) -> str:
    largest, tolerance = gate.get("largest_likely_cd_change_nm"), gate.get("tolerance_nm")
    if largest is None or not known(largest):
        return f"The change of the {what} by restoring cannot be judged."
    by = f"the mean {what} by {{}} {largest:.3f} {unit} (95 % confidence)"
    if passed or (known(tolerance) and largest <= tolerance):
        return f"Restoring changes {by.format('at most')}, within {_limit(gate, unit)}."
    return f"Restoring may change {by.format('as much as')}, more than {_limit(gate, unit)}."


def _limit(gate: Mapping[str, Any], unit: str) -> str:
    tolerance = gate.get("tolerance_nm")
    return f"the tolerance of {tolerance:g} {unit}" if known(tolerance) else "the tolerance"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def warnings_of(summary: Mapping[str, Any], unit: str) -> list[str]:
    """Return warnings that a reader needs before trusting the figures."""
    found = [str(line) for line in summary.get("warnings") or ()]
    if unit == "px":
        found.append("The pixel size is not known: all lengths are in pixels.")
    left = [str(name) for name in summary.get("left_out") or ()]
    if left:
        what = "disc" if is_discs(summary) else "line"
        found.append(
            f"{len(left)} of {len(left) + (summary.get('n') or 0)} pictures are left out of all "
            f"figures, because their references show no measurable {what}: {_listed(left)}."
        )
    bias = summary.get("cd_bias_nm") or {}
    lost = [METHODS[name] for name in methods_of(summary) if not known(bias.get(name))]
    if lost:
        found.append(f"No width could be measured in: {', '.join(lost)}.")
    intervals = summary.get("cd_bias_ci95_nm") or {}
    if known(bias.get("restored")) and not known(intervals.get("restored")):
        single = "measurement" if (summary.get("n") or 1) == 1 else "field"
        found.append(f"A single {single} has no confidence interval: test pictures of more fields.")
    return [*found, *_slope_warning(summary, unit), *_precision_warnings(summary, unit)]


def _slope_warning(summary: Mapping[str, Any], unit: str) -> list[str]:
    slope = by_method(summary, "cd_slope").get("restored")
    interval = by_method(summary, "cd_slope_ci95").get("restored", 0.0)
    if slope is None or abs(slope - 1) <= max(interval, 0.05):
        return []
    return [
        f"Restored widths follow the true ones with a slope of {slope:.3f}, not 1: for each "
        f"{unit} of true change they change by {slope:.3f} {unit}."
    ]


def _precision_warnings(summary: Mapping[str, Any], unit: str) -> list[str]:
    found = []
    what = "diameters" if is_discs(summary) else "edges"
    errors = by_method(summary, "edge_error_nm")
    own = errors.pop("restored", None)
    better = [METHODS[name] for name, error in errors.items() if own is not None and error < own]
    if better:
        found.append(
            f"The {what} are more precise in: {', '.join(better)}. Restoring adds no precision."
        )
    erased = part_by_method(summary, "psd_transfer", "erased_below_nm").get("restored")
    if erased is not None:
        found.append(
            f"Restoring erased more than half of the roughness at wavelengths near and below "
            f"{erased:.1f} {unit}; that roughness cannot be measured in restored pictures."
        )
    invented = part_by_method(summary, "psd_transfer", "invented_below_nm").get("restored")
    if invented is not None:
        found.append(
            f"Restoring invented roughness: at wavelengths near or below {invented:.1f} {unit}, "
            f"it is more than twice the true one."
        )
    return found


def how_measured(results: SemResults, unit: str) -> dict[str, str]:
    """Return how everything was measured: definitions by name."""
    summary, discs = results.summary, is_discs(results.summary)
    threshold, ideal = summary.get("threshold") or THRESHOLD, reference_name(summary)
    dark = summary.get("polarity") == "dark"
    rows = {
        "Pictures": counted(summary),
        "Edge": f"where the picture crosses {100 * threshold:g} % between the local minimum and "
        "maximum of the mean profile, to a fraction of a pixel, without smoothing",
        "CD": f"diameter of the circle fitted to the edge of a {'hole' if dark else 'disc'}"
        if discs
        else f"mean distance of the two edges of a {'dark' if dark else 'bright'} line",
        "Bias": "mean over the fields of measured minus reference, ± half its 95 % confidence "
        "interval",
    }
    counts = summary.get("discs_found") or {}
    if counts:
        rows["Polarity"] = " and ".join(f"{n} {name}" for name, n in counts.items()) + " discs"
        rows["Polarity"] += " were found in the long exposures"
        rows["Polarity"] += f"; the {summary['polarity']} ones were measured" * (len(counts) > 1)
    if summary.get("reference"):
        rows["Reference"] = str(summary["reference"])
    offset = summary.get("criterion_offset_nm")
    if offset and known(offset):
        rows["Offset of the criterion"] = (
            f"{offset:+.3f} {unit}".replace("-", "−")
            + ": CD by this criterion, without noise, minus CD as drawn; common to all methods "
            "and not part of the bias"
        )
    if by_method(summary, "cd_slope"):
        rows["Slope"] = "change of the measured CD for each change of the true one; 1 is faithful"
    if not discs:
        rows["LWR, LER"] = (
            "three standard deviations of widths and edges; unbiased: without the white floor of "
            f"the spectrum, which is noise; below each value, its error against the {ideal}"
        )
        rows["Edge error"] = (
            f"root mean square distance of each edge from that of the {ideal}, minus its mean"
        )
    else:
        rows["Spread of the bias"] = "standard deviation over all discs"
    if by_method(summary, "width_correlation"):
        rows["Width correlation"] = (
            f"of the widths along a line with those of the {ideal}: 1 if they agree, 0 if the "
            "roughness was invented, whatever its size"
        )
    if by_method(summary, "equivalent_frames"):
        rows["Equivalent frames"] = (
            "number of frames whose average is as precise, from measured averages; a value at the "
            "largest number is a lower bound"
            if len(results.frames) > 1
            else "number of frames whose average would be as precise if the error fell with its "
            "square root"
        )
    if by_method(summary, "psnr") or by_method(summary, "ssim"):
        rows["PSNR, SSIM"] = "against the long exposure, mean over the pictures"
    return rows
