"""The page of a test on drawings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from toolbox.pages import (
    Cell,
    Chart,
    Column,
    Facts,
    Page,
    Table,
    TableRow,
    Text,
    chart,
    confusion_chart,
    figure_png,
    verdict_chart,
)
from toolbox.pages.kit import Block, Grade
from toolbox.tasks.pix2pix.classes import Classes
from toolbox.tasks.pix2pix.sheet import Stack, sheet

OWN = "network"
_CAVEAT = (
    "These figures apply to pictures like those of the test. A drawing looks equally convincing "
    "where it is wrong: inspect the samples, and the classes with few pixels."
)
_CLASSES = (
    "Each picture is drawn at the size used in training. Every pixel is decoded to the class with "
    "the nearest colour, and the class map is resized to the size of the picture by nearest "
    "neighbour, as predict --decode does. Void is not evaluated. IoU of a class is hits ÷ "
    "(truth + found - hits); the means are over the classes that occur in the truth. Far off: "
    "pixels more than {tolerance:g} grey levels, in RGB, from the colour of any class. The "
    "difference from the network has a 95 % interval over the choice of pictures (bootstrap)."
)
_PICTURES = (
    "L1 in grey levels of 0 to 255, PSNR for a peak of 255, SSIM with a Gaussian window of 11 "
    "pixels, of the rounded picture that predict writes; means over all pictures."
)
_BUDGET = (
    "The baselines were trained on the same pictures in the same order, for as many steps, with "
    "the same settings. A step without a discriminator takes less time."
)
_NO_BASELINES = (
    "No plain network was trained alongside this one, so the benefit of the discriminator is "
    "unknown. To measure it, train with --baselines --resume."
)
_HEADINGS = {
    "pixel_accuracy": ("Pixels right", "%"),
    "mean_iou": ("Mean IoU", ""),
    "mean_accuracy": ("Mean over classes", "% right"),
}
#: Pictures in the table of the page; ``pictures.csv`` lists all.
_ROWS = 40


@dataclasses.dataclass(frozen=True)
class Example:
    """Pictures (H, W, C) of one sample by heading, whole numbers."""

    name: str
    images: Mapping[str, np.ndarray]


def drawing_page(
    summary: Mapping[str, Any],
    table: pd.DataFrame,
    titles: Mapping[str, str],
    classes: Classes | None,
    examples: Sequence[Example],
    history: pd.DataFrame | None,
    facts: Mapping[str, str],
) -> Page:
    """Return the page ``report.html``.

    Parameters
    ----------
    summary : dict
        The contents of ``summary.json``.
    table : pandas.DataFrame
        One row per picture and method.
    titles : dict of str to str
        Titles of the methods.
    classes : Classes or None
        The classes, if the drawings are class maps.
    examples : sequence of Example
        Samples to show.
    history : pandas.DataFrame or None
        The history of the training run.
    facts : dict
        How the results were made.
    """
    page = Page("Pictures from pictures", f"{summary['n']} pictures, {titles[OWN]}")
    page.verdict(*verdict(summary, titles))
    page.warnings("Baselines", list(summary["warnings"]))
    page.warnings("Left out", list(summary["left_out"].values()))
    if classes is None:
        page.section("Quality", _picture_table(summary, titles), Text(_PICTURES, quiet=True))
    else:
        how = Text(_CLASSES.format(tolerance=summary["tolerance"]), quiet=True)
        page.section("Quality", _class_table(summary, titles), how, _budget(summary))
    page.section("Samples", _samples(examples))
    if classes is not None:
        page.section("By class", _bars(summary, titles), _confusion(summary, classes))
    page.section("By picture", *_by_picture(table, titles, classes is not None))
    if history is not None:
        page.section("Discriminator", verdict_chart(history))
    page.section("How this was made", Facts(dict(facts)))
    page.caveat(_CAVEAT)
    return page


def verdict(summary: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[Grade, str, list[str]]:
    """Return the grade of a test, its title, and the reasons."""
    if "mean_iou" not in summary:
        return _picture_verdict(summary, titles)
    own, others = summary["mean_iou"][OWN], summary["difference"]
    title = f"Mean IoU {own:.3f}, {100 * summary['pixel_accuracy'][OWN]:.1f} % of pixels right"
    said: list[str] = []
    worse: list[str] = []
    unsure: list[str] = []
    for name, found in others.items():
        low, high = found["mean_iou"]
        change = own - summary["mean_iou"][name]
        said.append(f"{change:+.3f} against {titles[name]} ({low:+.3f} to {high:+.3f}).")
        (worse if high < 0 else unsure if low <= 0 else []).append(name)
    if summary["drawn_void"] > 0.01:
        said.append(f"{100 * summary['drawn_void']:.1f} % of evaluated pixels are drawn as void.")
    grade: Grade = "bad" if {"majority", "l1"} & set(worse) else "good"
    if grade == "good" and ("softmax" in worse or unsure):
        grade = "neutral"
    if "softmax" in worse:
        said.append("For class maps alone, the softmax head is the better tool.")
    if not {"l1", "softmax"} & set(others):
        said.append(_NO_BASELINES)
        grade = "neutral" if grade == "good" else grade
    return grade, title, said


def _picture_verdict(
    summary: Mapping[str, Any], titles: Mapping[str, str]
) -> tuple[Grade, str, list[str]]:
    l1, said = summary["l1"], []
    grade: Grade = "good"
    for name in l1:
        if name != OWN:
            change = l1[OWN] - l1[name]
            ssim = summary["ssim"][OWN] - summary["ssim"][name]
            said.append(f"L1 {change:+.2f}, SSIM {ssim:+.3f} against {titles[name]}.")
    if "input" in l1 and l1[OWN] >= l1["input"]:
        grade = "bad"
    elif "l1" not in l1:
        grade = "neutral"
        said.append(_NO_BASELINES)
    elif l1[OWN] > l1["l1"]:
        grade = "neutral"
        said.append("The discriminator raises L1: check whether the samples justify it.")
    return grade, f"L1 {l1[OWN]:.2f} grey levels, SSIM {summary['ssim'][OWN]:.3f}", said


def _budget(summary: Mapping[str, Any]) -> Text | None:
    trained = {"l1", "softmax"} & set(summary["mean_iou"])
    return Text(_BUDGET, quiet=True) if trained else None


def _class_table(summary: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    columns = [
        Column(("Method",)),
        *(Column((heading,), unit) for heading, unit in _HEADINGS.values()),
        Column(("Far off",), "%"),
        Column(("Network minus this",), "mean IoU"),
    ]
    rows = []
    for method in summary["mean_iou"]:
        cells = []
        for name, (_, unit) in _HEADINGS.items():
            value = summary[name][method]
            cells.append(Cell(f"{100 * value:.2f}" if unit else f"{value:.4f}"))
        cells.append(Cell(f"{100 * summary['far_from_palette'][method]:.2f}"))
        if method == OWN:
            cells.append(Cell("–"))
        else:
            low, high = summary["difference"][method]["mean_iou"]
            change = summary["mean_iou"][OWN] - summary["mean_iou"][method]
            cells.append(Cell(f"{change:+.4f}", f"{low:+.3f} to {high:+.3f}"))
        rows.append(TableRow(titles[method], cells, own=method == OWN))
    return Table(columns, rows)


def _picture_table(summary: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    columns = [
        Column(("Method",)),
        Column(("L1",), "grey levels"),
        Column(("PSNR",), "dB"),
        Column(("SSIM",)),
    ]
    rows = [
        TableRow(
            titles[method],
            [
                Cell(f"{value:.2f}"),
                Cell(f"{summary['psnr'][method]:.2f}"),
                Cell(f"{summary['ssim'][method]:.4f}"),
            ],
            own=method == OWN,
        )
        for method, value in summary["l1"].items()
    ]
    return Table(columns, rows)


def _samples(examples: Sequence[Example]) -> Chart | None:
    if not examples:
        return None
    headings = list(examples[0].images)
    columns: dict[str, Stack] = {h: [example.images[h] for example in examples] for h in headings}
    narrow = [h for h in ("Input", "Decoded", "Output", "Truth") if h in columns]
    few: dict[str, Stack] = {h: columns[h] for h in narrow}
    if len(few) > 3:
        del few["Output"]
    names = [example.name for example in examples]
    return Chart(
        figure_png(sheet(columns, names), dpi=160),
        "Samples: " + ", ".join(headings),
        "Spread evenly over the test, not selected by result.",
        narrow=figure_png(sheet(few), dpi=160),
    )


def _bars(summary: Mapping[str, Any], titles: Mapping[str, str]) -> Chart:
    """Chart the IoU of every class and method."""
    iou = pd.DataFrame(summary["class_iou"]).T
    methods = [name for name in titles if name in iou.columns and name != "majority"]

    def draw(ax: Axes) -> None:
        place, width = np.arange(len(iou)), 0.8 / len(methods)
        for i, name in enumerate(methods):
            left = place + (i - len(methods) / 2 + 0.5) * width
            ax.bar(left, iou[name], width, label=titles[name])
        ax.set_xticks(place, iou.index, rotation=45, ha="right", fontsize=8)
        ax.set(ylabel="IoU", ylim=(0, 1))

    return chart(draw, "IoU of every class", "IoU of each class that occurs in the truth.", True)


def _confusion(summary: Mapping[str, Any], classes: Classes) -> Chart:
    """Chart the confusion matrix."""
    names = [*classes.names, "void"]
    caption = "Percentage of the pixels of each class (row) that were drawn as each class (column)."
    return confusion_chart(np.array(summary["confusion"]), names, caption)


def _by_picture(table: pd.DataFrame, titles: Mapping[str, str], ids: bool) -> list[Block]:
    """Return the main figure of every picture and method, worst first."""
    figure, heading = ("pixel_accuracy", "pixels right, %") if ids else ("l1", "L1, grey levels")
    wide = table.pivot(index="picture", columns="method", values=figure)
    wide = wide.sort_values(OWN, ascending=ids)
    methods = [name for name in titles if name in wide.columns]
    factor = 100 if ids else 1
    rows = [
        TableRow(str(name), [Cell(f"{factor * row[m]:.2f}") for m in methods])
        for name, row in wide.head(_ROWS).iterrows()
    ]
    more = len(wide) - _ROWS
    left = f" The other {more} are in pictures.csv." if more > 0 else ""
    columns = [Column(("Picture",)), *(Column((titles[name],)) for name in methods)]
    return [
        Table(columns, rows),
        Text(f"{heading.capitalize()}, worst first.{left}", quiet=True),
    ]
