"""The one-page HTML report of a test on sea floors: where the network is better than bicubic.

It accepts images with one channel in any unit, and with three channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from toolbox.errors import DataError
from toolbox.pages import (
    Cell,
    Chart,
    Column,
    Facts,
    Page,
    Picture,
    Row,
    Slider,
    Table,
    TableRow,
    Text,
    number,
    repeat,
)
from toolbox.pages.charts import chart
from toolbox.pages.kit import Block, Grade
from toolbox.plotter import METHODS
from toolbox.tasks.bathymetry.relief import (
    colours_of,
    difference_colours,
    exaggeration_of,
    finite,
    signal,
)

#: Title, input (h, w, C) and bicubic, super-resolution and truth (H, W, C) of a test image.
Example = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_CAVEAT = (
    "These figures hold for the test images only. Added detail is likely, not measured. Results "
    "may be worse for other places, depths and instruments."
)
#: Dots per inch of the pictures in the report.
_DPI = 100
#: A slope class with fewer images is named as uncertain.
_FEW_IMAGES = 20
#: Heading and caption of each picture.
_CAPTIONS = {
    "summary.png": (
        "Errors by slope and by image",
        "Left: the RMSE of each method by slope class. Right: the RMSE of every image; below the "
        "line, super-resolution is better than bicubic.",
    ),
    "spectrum.png": (
        "Power by wavelength",
        "Power spectra of the truth and of every method. The detail to the right of the dashed "
        "line is missing in the input.",
    ),
}


def map_test_page(
    summary: Mapping[str, Any],
    per_image: pd.DataFrame,
    pictures: Mapping[str, Path],
    examples: Sequence[Example],
    facts: Mapping[str, str],
    unit: str = "m",
    left: Mapping[str, np.ndarray] | None = None,
) -> Page:
    """Return the report of a test as one self-contained HTML page.

    Parameters
    ----------
    summary : dict
        Contents of ``summary.json``: ``model``, ``scale``, ``n``, ``data_range_m``,
        ``high_frequency_energy``, and ``all``, ``slope_classes`` and ``regions`` with the errors
        of each method in `unit`. There may be no slope classes and no regions, and any figure may
        be None.
    per_image : pandas.DataFrame
        Contents of ``test_results.csv``: ``bicubic_rmse_m`` and ``sr_rmse_m`` of each image.
    pictures : dict of str to pathlib.Path
        Existing PNG files by name: ``summary.png``, ``spectrum.png``.
    examples : sequence of (str, numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray)
        Title, input (h, w, C), bicubic, super-resolution and truth (H, W, C) of some test images.
        C is 1 or 3; NaN is missing.
    facts : dict of str to str
        How the network was trained and tested.
    unit : str
        Unit of the values; only ``m`` is treated as elevation and drawn as shaded relief.
    left : dict of str to numpy.ndarray, shape (H, W), optional
        By title of a test image, where the truth is above (1) or below (-1) the interval.

    Raises
    ------
    DataError
        If the sizes of the images of an example do not match.
    """
    page = Page(
        f"Test of {summary['model']}, {summary['scale']} times finer",
        f"{_images(summary['n'])} of {summary['data_dir']}; PSNR for {summary['data_range_m']:g} "
        f"{unit}",
    )
    page.verdict(*_verdict(summary, per_image))
    page.warnings("Before you use this network", _warnings(summary))
    page.section("Errors", *_errors(summary, unit))
    energy = summary.get("high_frequency_energy") or {}
    shares = {
        METHODS[name][0]: f"{number(100 * energy[name])} % of the truth's"
        for name in METHODS
        if _known(energy.get(name))
    }
    page.section(
        "Energy above the Nyquist frequency of the input",
        Facts(shares),
        Text(
            "Detail finer than two pixels of the input. At 100 %, a method has as much of it as "
            "the truth, but not necessarily in the right places: see the errors above.",
            quiet=True,
        )
        if shares
        else None,
    )
    page.section("What was added, left out and invented", *_detail(summary))
    page.section("Landforms", *_landforms(summary))
    page.section("Intervals", *_intervals(summary, left or {}))
    for name, file in pictures.items():
        heading, caption = _CAPTIONS.get(name, (name, ""))
        page.section(heading, Chart(file.read_bytes(), caption or name, caption, dpi=_DPI))
    for example in examples:
        page.section(f"Example: {example[0]}", *_example(example, unit))
    page.section("How it was tested", Facts(facts))
    page.caveat(_CAVEAT + " Do not use for navigation." * (unit == "m"))
    return page


# --- figures --------------------------------------------------------------------------------


def _known(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _images(count: int) -> str:
    return f"{count} test image{'s' * (count != 1)}"


def _change(group: Mapping[str, Any], method: str = "sr") -> float | None:
    """Return by how many per cent the RMSE of a method exceeds that of bicubic."""
    own, reference = ((group.get(name) or {}).get("rmse_m") for name in (method, "bicubic"))
    if not _known(own) or not _known(reference) or not reference:
        return None
    return 100 * (own / reference - 1)


def whole_regions(groups: Mapping[str, Any] | None) -> dict[str, Any]:
    """Remove single maps of a region of several maps, and a region that is the only one.

    Parameters
    ----------
    groups : dict of str to object, or None
        Keys are the name of a region, or of a region and a map, ``REGION/MAP``.
    """
    whole = {name: group for name, group in (groups or {}).items() if "/" not in name}
    return whole if len(whole) > 1 else {}


def _readable(slope_class: str) -> str:
    """Write ``0.05-0.1`` and ``0.1-`` in readable form, ``0.05–0.1`` and ``≥ 0.1``."""
    return f"≥ {slope_class[:-1]}" if slope_class.endswith("-") else slope_class.replace("-", "–")


def _verdict(summary: Mapping[str, Any], per_image: pd.DataFrame) -> tuple[Grade, str, list[str]]:
    """Return grade, title and text of the verdict on the network."""
    change = _change(summary["all"])
    if change is None:
        return "neutral", "Not compared with bicubic", ["There is no RMSE to compare."]
    errors = per_image[["bicubic_rmse_m", "sr_rmse_m"]].astype(float).dropna()
    better = int((errors["sr_rmse_m"] < errors["bicubic_rmse_m"]).sum())
    said = f"Super-resolution is better in {better} of {_images(len(errors))}."
    if change >= 0:
        worse = f" (RMSE {change:.1f} % larger)" if change >= 0.05 else ""
        return "bad", f"No better than bicubic{worse}: do not use this network", [said]
    if change > -0.05:
        return "neutral", "Hardly better than bicubic: by less than 0.1 % RMSE", [said]
    title = f"Better than bicubic by {-change:.1f} % RMSE"
    if better <= len(errors) / 2:
        return "neutral", title, [f"{said} Few images with large errors determine the mean."]
    return "good", title, [said]


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    """List where the network must not be trusted, and which figures are uncertain."""
    found, classes = [], summary.get("slope_classes") or {}
    worse = [
        f"{_readable(name)} m/m"
        for name, group in classes.items()
        if (change := _change(group)) is not None and change >= 0
    ]
    poor = [
        name
        for name, group in whole_regions(summary.get("regions")).items()
        if (change := _change(group)) is not None and change >= 0
    ]
    if poor:
        found.append(f"Super-resolution is no better than bicubic in {_listed(poor)}.")
    if worse:
        found.append(f"Super-resolution is no better than bicubic at slopes of {_listed(worse)}.")
    own, plain = (_change(summary["all"], name) for name in ("sr", "back_projection"))
    if own is not None and plain is not None and plain <= own < 0:
        found.append("Back-projected bicubic, which needs no network, has no larger error.")
    few = [
        f"{_readable(name)} m/m ({group['n']})"
        for name, group in classes.items()
        if 0 < group["n"] < _FEW_IMAGES
    ]
    if summary["n"] < _FEW_IMAGES:
        found.append(f"Only {_images(summary['n'])}: the figures may be due to chance.")
    elif few:
        found.append(
            f"Slope classes with fewer than {_FEW_IMAGES} images, whose figures may be due to "
            f"chance: {_listed(few)}."
        )
    return found


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _errors(summary: Mapping[str, Any], unit: str) -> Iterator[Block]:
    """Tabulate the errors of all methods, over all images and by slope class."""
    measures = {
        "rmse_m": ("RMSE", unit, "{:.3f}"),
        "mae_m": ("MAE", unit, "{:.3f}"),
        "bias_m": ("bias", unit, "{:+.3f}"),
        "p95_abs_m": ("95 %", unit, "{:.3f}"),
        "psnr": ("PSNR", "dB", "{:.2f}"),
        "dssim": ("DSSIM", "", "{:.5f}"),
    }

    def cell(value: float | None, pattern: str) -> Cell:
        return Cell(pattern.format(value).replace("-", "−") if _known(value) else "–")

    classes = summary.get("slope_classes") or {}
    groups = {f"all, {_images(summary['n'])}": summary["all"]} | {
        f"slope {_readable(name)} m/m, {_images(group['n'])}": group
        for name, group in classes.items()
        if group["n"]
    }
    groups |= {
        f"{name}, {_images(group['n'])}": group
        for name, group in whole_regions(summary.get("regions")).items()
    }
    rows = [
        TableRow(
            METHODS[method][0],
            [
                *(cell(group[method].get(key), p) for key, (_, _, p) in measures.items()),
                cell(None if method == "bicubic" else _change(group, method), "{:+.1f} %"),
            ],
            own=method == "sr",
            group=label,
        )
        for label, group in groups.items()
        for method in METHODS
        if group.get(method)
    ]
    columns = [Column((name,), symbol) for name, symbol, _ in measures.values()]
    yield Table([Column(("method",)), *columns, Column(("RMSE against", "bicubic"))], rows)
    yield Text(
        "RMSE, MAE, bias (method − truth) and the 95th percentile of the absolute error are "
        "pooled over all pixels; PSNR and DSSIM are means over the images. Small values are good, "
        "except for PSNR.",
        quiet=True,
    )


def _groups(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the terrain figures by label of all images, slope classes and regions."""
    terrain = summary.get("terrain") or {"all": {}, "slope_classes": {}}
    classes = {
        f"slope {_readable(name)} m/m": group
        for name, group in terrain["slope_classes"].items()
        if summary["slope_classes"][name]["n"]
    }
    return {"all": terrain["all"], **classes, **whole_regions(terrain.get("regions"))}


def _figures_table(
    summary: Mapping[str, Any], measures: Mapping[str, tuple[Column, str, float]]
) -> Table | None:
    """Tabulate terrain figures by `measures`: column, pattern, factor; None if there are none."""
    rows = []
    for label, group in _groups(summary).items():
        for method in METHODS:
            figures = group.get(method) or {}
            cells = [
                Cell(pattern.format(factor * value) if _known(value) else "–")
                for value, (_, pattern, factor) in (
                    (figures.get(key), form) for key, form in measures.items()
                )
            ]
            if any(_known(figures.get(key)) for key in measures):
                rows.append(TableRow(METHODS[method][0], cells, own=method == "sr", group=label))
    columns = [column for column, _, _ in measures.values()]
    return Table([Column(("method",)), *columns], rows) if rows else None


def _detail(summary: Mapping[str, Any]) -> Iterator[Block | None]:
    """Show which share of the detail was restored, omitted or invented."""
    measures = {
        f"{key}_{end}": (Column((name,), unit), pattern, factor)
        for end, unit, pattern, factor in (("share", "%", "{:.1f}", 100), ("m", "m", "{:.3f}", 1))
        for key, name in (
            ("improved", "improved"),
            ("omitted", "omitted"),
            ("hallucinated", "invented"),
        )
    }
    table = _figures_table(summary, measures)
    if table is None:
        return
    yield _shares_chart(summary)
    yield table
    limit = number(summary["terrain"]["noise_limit_m"])
    yield Text(
        f"Pixels where the truth differs from back-projected bicubic by more than its noise "
        f"({limit} m). Improved: nearer to the truth. Omitted: unchanged from bicubic. Invented: "
        f"moved elsewhere. Metres per such pixel: the decrease of the error, the remaining error, "
        f"and the increase of the error. After opensr-test (Aybar et al. 2024).",
        quiet=True,
    )


def _shares_chart(summary: Mapping[str, Any]) -> Chart:
    """Draw the three shares of super-resolution as one bar for each slope class."""
    groups = {
        name: group["sr"]
        for name, group in _groups(summary).items()
        if _known((group.get("sr") or {}).get("improved_share"))
    }

    def draw(ax: Axes) -> None:
        left = np.zeros(len(groups))
        for key, name, colour in (
            ("improved_share", "improved", "tab:green"),
            ("omitted_share", "omitted", "0.8"),
            ("hallucinated_share", "invented", "tab:red"),
        ):
            shares = np.array([100 * figures[key] for figures in groups.values()])
            ax.barh(list(groups), shares, left=left, label=name, color=colour)
            left += shares
        ax.set(xlabel="% of the pixels with detail", xlim=(0, 100))
        ax.invert_yaxis()

    return chart(
        draw,
        "Shares of the detail that super-resolution improved, omitted and invented",
        "Result of super-resolution where the truth has detail that bicubic lacks.",
        wide=True,
    )


def _landforms(summary: Mapping[str, Any]) -> Iterator[Block | None]:
    """Tabulate the errors of slope, aspect, curvature and lines."""
    table = _figures_table(
        summary,
        {
            "slope_rmse": (Column(("slope",), "m/m"), "{:.4f}", 1),
            "aspect_error_deg": (Column(("aspect",), "°"), "{:.1f}", 1),
            "curvature_rmse_per_m": (Column(("curvature",), "1/m"), "{:.3g}", 1),
            "line_error_m": (Column(("ridges and", "channels"), "m"), "{:.4g}", 1),
        },
    )
    if table is None:
        return
    yield table
    yield Text(
        "RMSE of the slope; mean angle between the directions of steepest slope, weighted by the "
        "truth's slope; RMSE of the Laplacian; mean distance between ridge and channel lines of "
        "the truth and of the method. Small values are good.",
        quiet=True,
    )


def _intervals(
    summary: Mapping[str, Any], left: Mapping[str, np.ndarray]
) -> Iterator[Block | None]:
    """Show whether intervals contain the share of the truth that they should."""
    found = summary.get("intervals")
    if not found:
        return
    level = 100 * found["level"]
    groups = {
        "all": found["all"],
        **{f"slope {_readable(name)} m/m": row for name, row in found["slope_classes"].items()},
        **whole_regions(found["regions"]),
    }
    yield Row([[_reliability_chart(found)], *([_left_picture(*item)] for item in left.items())])
    yield Table(
        [
            Column(("test images",)),
            Column(("number",)),
            Column(("coverage",), "%"),
            Column(("mean width",), "m"),
            Column(("interval", "score"), "m"),
            Column(("score of the best", "constant width"), "m"),
            Column(("calibration", "error")),
        ],
        [
            TableRow(
                name,
                [
                    Cell(str(row["n"])),
                    Cell(f"{100 * row['coverage']:.1f}"),
                    Cell(f"{row['mean_width_m']:.3f}"),
                    Cell(f"{row['interval_score_m']:.3f}"),
                    Cell(f"{row['constant_score_m']:.3f}"),
                    Cell(f"{row['calibration_error']:.4f}"),
                ],
                own=name == "all",
            )
            for name, row in groups.items()
            if row["n"]
        ],
    )
    yield Text(
        f"Each interval is the result ± a half-width that should contain {level:g} % of the truth. "
        f"The intervals were calibrated on {found['images_calibrated_on']} validation images; "
        f"predict --interval writes them. The interval score (Gneiting and Raftery 2007) is the "
        f"width plus a penalty for truth outside. The best constant width is fitted to these test "
        f"images. The calibration error is the mean difference between coverage and level. Small "
        f"values are good.",
        quiet=True,
    )


def _left_picture(title: str, left: np.ndarray) -> Picture:
    """Show where the truth is outside the interval: red above it, blue below."""
    colours = np.array([[33, 102, 172], [235, 235, 235], [178, 24, 43]], np.uint8)
    pixels = colours[left.astype(int) + 1]
    return Picture(
        repeat(pixels, max(1, 320 // len(pixels))),
        f"Where the truth is outside the interval, {title}",
        f"Truth above (red) and below (blue) the interval, {title}",
        f", {100 * float((left != 0).mean()):.1f} % of the pixels",
    )


def _reliability_chart(found: Mapping[str, Any]) -> Chart:
    """Chart the coverage of every level."""
    levels, shares = (100 * np.array(column) for column in zip(*found["reliability"], strict=True))

    def draw(ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color="0.6", linestyle="--", linewidth=1, label="ideal")
        ax.plot(levels, shares, marker=".", label="test images")
        ax.set(xlabel="level of the interval (%)", ylabel="truth inside (%)")

    return chart(
        draw,
        "Share of the truth inside intervals of every level",
        "Reliability: below the dashed line, intervals are too narrow; above it, too wide.",
    )


# --- examples -------------------------------------------------------------------------------


def _example(example: Example, unit: str) -> Iterator[Block | None]:
    """Show a test image: a slider from bicubic to super-resolution, truth, input and errors."""
    title = example[0]
    lr, bicubic, sr, hr = (finite(np.asarray(img)) for img in example[1:])
    scale = len(hr) // len(lr)
    if not bicubic.shape == sr.shape == hr.shape or lr.shape[1] * scale != hr.shape[1]:
        raise DataError(
            f"example {title}: bicubic, super-resolution and truth must have the same size, an "
            f"integer multiple of the input; received {bicubic.shape}, {sr.shape} and {hr.shape} "
            f"for {lr.shape}."
        )
    relief = unit == "m" and hr.ndim == 2
    colours = colours_of([hr, bicubic, sr], unit=unit)
    factor = exaggeration_of(hr, (1.0, 1.0)) if relief else 1.0

    def picture(img: np.ndarray, label: str, step: int = 1) -> Picture:
        shown = colours.shade(img, (step, step), factor) if relief else colours.paint(img)
        return Picture(repeat(shown, step), f"{label}, {title}", label)

    errors = {"bicubic": bicubic - hr, "super-resolution": sr - hr}
    signs = difference_colours([signal(error) for error in errors.values()])
    wrong = [
        Picture(
            signs.paint(signal(error)),
            f"Error of {name}, {title}",
            f"{name.capitalize()} − truth",
            f", {_rmse_text(error, unit)}",
        )
        for name, error in errors.items()
    ]
    yield Row(
        [
            [
                Slider(
                    picture(bicubic, "Bicubic"),
                    picture(sr, "Super-resolution"),
                    "Left: bicubic. Right: super-resolution.",
                )
            ],
            [picture(hr, "Truth")],
        ]
    )
    yield colours.bar(unit)
    yield Row([[picture(lr, "Input", scale)], *([error] for error in wrong)])
    yield signs.bar(unit)
    light = "Shaded relief, lit from the upper left; colours and light are the same throughout. "
    mean = ", in the mean of the channels" * (hr.ndim == 3)
    yield Text(
        f"{light * relief}Errors are red where the image is above the truth{mean}, blue where "
        "below.",
        quiet=True,
    )


def _rmse_text(error: np.ndarray, unit: str) -> str:
    valid = error[~np.isnan(error)]
    return f"RMSE {number(float(np.sqrt(np.mean(valid**2))))} {unit}" if valid.size else "missing"
