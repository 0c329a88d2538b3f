"""The page of a test on photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from toolbox.pages import (
    Box,
    Cell,
    Column,
    Facts,
    Page,
    Picture,
    Row,
    Slider,
    Table,
    TableRow,
    Text,
    verdict_chart,
)
from toolbox.pages.kit import Block, Grade
from toolbox.picture_set import as_counts, in_channels, to_pixels
from toolbox.resample import block_mean
from toolbox.resize import resized, whole_blocks
from toolbox.tasks.photo.measure import FIGURES, HEADINGS, below_bicubic

_CAVEAT = (
    "These figures apply to these photographs, and to low-resolution versions made in the same "
    "way. Added detail is likely, not recorded by the camera: do not read text, faces or evidence "
    "from it."
)
_HOW = (
    "PSNR for a peak of 255, and SSIM with a Gaussian window of 11 pixels, of the rounded result. "
    "As many pixels as the enlargement factor are left out at each side. Y is the brightness of "
    "ITU-R BT.601, 16 to 235, as in published tables; RGB includes all three channels. Fine energy "
    "is the power above the low-resolution Nyquist frequency, as a share of the truth's. Bicubic "
    "and Lanczos are Pillow's."
)
#: Longest side of an overview, and side of a detail, in pixels.
_OVERVIEW, _DETAIL = 640, 320
#: Photographs in the table of the page; ``photos.csv`` lists all.
_ROWS = 60


@dataclasses.dataclass(frozen=True)
class Example:
    """A photograph of a test, whole numbers: input (h, w, C), the others (H, W, C)."""

    name: str
    gain_db: float
    low: np.ndarray
    high: np.ndarray
    bicubic: np.ndarray
    sr: np.ndarray
    title: str = ""


def photo_page(
    summary: Mapping[str, Any],
    table: pd.DataFrame,
    titles: Mapping[str, str],
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
        One row per photograph and method.
    titles : dict of str to str
        Titles of the methods.
    examples : sequence of Example
        Photographs to show.
    history : pandas.DataFrame or None
        The history of the training run.
    facts : dict
        How the results were made.
    """
    page = Page("Photographs", f"{summary['n']} photographs at ×{summary['scale']}")
    page.verdict(*_verdict(summary))
    page.warnings("Left out", list(summary["left_out"].values()))
    page.section("Quality", _means(summary, titles), Text(_HOW, quiet=True))
    for example in examples:
        page.section(f"{example.title}: {example.name}", *_shown(example))
    page.section("By photograph", *_by_photo(table, titles))
    if history is not None:
        page.section("Discriminator", verdict_chart(history))
    page.section("How this was made", Facts(dict(facts)))
    page.caveat(_CAVEAT)
    return page


def _verdict(summary: Mapping[str, Any]) -> tuple[Grade, str, list[str]]:
    gain, worse = summary["gain_over_bicubic_db"], summary["worse_than_bicubic"]
    below = below_bicubic(summary)
    grade: Grade = "bad" if gain["mean"] <= 0 else "neutral" if worse or below else "good"
    said = [
        f"Single photographs: {gain['least']:+.2f} to {gain['most']:+.2f} dB.",
        f"{len(worse)} of {summary['n']} are worse than bicubic." if worse else "None is worse.",
    ]
    if below:
        said.append(f"Below bicubic on average: {', '.join(below)}.")
    if "pixel_stage" in summary["psnr_y"]:
        said.append(_cost(summary))
    return grade, f"{gain['mean']:+.2f} dB against bicubic on average (PSNR of Y)", said


def _cost(summary: Mapping[str, Any]) -> str:
    """Describe what the adversarial stage gains in fine energy and costs in dB."""
    psnr, energy = summary["psnr_y"], summary["high_frequency_energy"]
    change = psnr["sr"] - psnr["pixel_stage"]
    text = f"The adversarial stage changes PSNR by {change:+.2f} dB"
    if energy["sr"] is None or energy["pixel_stage"] is None:
        return f"{text}."
    before, after = (100 * energy[name] for name in ("pixel_stage", "sr"))
    return f"{text} and fine energy from {before:.0f} % to {after:.0f} % of the truth's."


def _means(summary: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    columns = [
        Column(("Method",)),
        *(Column((name,), "dB" if "PSNR" in name else "") for name in HEADINGS.values()),
        Column(("Fine energy",), "% of truth"),
        Column(("Against bicubic",), "dB, Y"),
    ]
    reference = summary["psnr_y"]["bicubic"]
    rows = []
    for method, value in summary["psnr_y"].items():
        energy = summary["high_frequency_energy"][method]
        figures = [_figure(name, summary[name][method]) for name in FIGURES]
        share = "–" if energy is None else f"{100 * energy:.0f}"
        cells = [*figures, share, f"{value - reference:+.2f}"]
        rows.append(TableRow(titles[method], [Cell(c) for c in cells], own=method == "sr"))
    return Table(columns, rows)


def _figure(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith("psnr") else f"{value:.4f}"


def _by_photo(table: pd.DataFrame, titles: Mapping[str, str]) -> list[Block]:
    """Return the PSNR of Y for every photograph and method, least gain first."""
    wide = table.pivot(index="photo", columns="method", values="psnr_y")
    methods = [name for name in titles if name in wide.columns]
    wide = wide.assign(gain=wide["sr"] - wide["bicubic"]).sort_values("gain")
    columns = [Column(("Photograph",)), *(Column((titles[name],), "dB") for name in methods)]
    rows = [
        TableRow(
            str(name),
            [*(Cell(f"{row[m]:.2f}") for m in methods), Cell(f"{row['gain']:+.2f}")],
        )
        for name, row in wide.head(_ROWS).iterrows()
    ]
    more = len(wide) - _ROWS
    left = f" The other {more} are in photos.csv." if more > 0 else ""
    return [
        Table([*columns, Column(("Gain",), "dB")], rows),
        Text(f"PSNR of Y, least gain over bicubic first.{left}", quiet=True),
    ]


def _shown(example: Example) -> list[Block]:
    """Return an overview that marks a detail, and this detail for every method."""
    height, width = example.high.shape[:2]
    side = min(_DETAIL, height, width)
    top, left = _busiest(example, side)
    window = (slice(top, top + side), slice(left, left + side))
    box = Box(top / height, left / width, side / height, side / width)
    scale = height // example.low.shape[0]

    def detail(pixels: np.ndarray, label: str) -> Picture:
        return Picture(_rgb(pixels), f"{label}, detail of {example.name}", label)

    nearest = example.low.repeat(scale, axis=0).repeat(scale, axis=1)
    slider = Slider(
        detail(example.bicubic[window], "Bicubic"),
        detail(example.sr[window], "Super-resolution"),
        f"Left bicubic, right super-resolution; {example.gain_db:+.2f} dB.",
    )
    overview = Picture(_overview(example.high), example.name, "Whole photograph", box=box)
    return [
        Row([[slider], [detail(example.high[window], "Truth")]]),
        Row([[detail(nearest[window], "Input")], [overview]]),
    ]


def _busiest(example: Example, side: int) -> tuple[int, int]:
    """Return the upper left corner of the square with the largest error of bicubic."""
    error = np.square(as_counts(example.bicubic) - as_counts(example.high)).sum(axis=2)
    step = max(1, side // 4)
    blocks = block_mean(whole_blocks(error, step)[None, ..., None], step)[0, ..., 0]
    sums = np.lib.stride_tricks.sliding_window_view(
        blocks, (min(4, blocks.shape[0]), min(4, blocks.shape[1]))
    ).sum(axis=(2, 3))
    row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return (
        min(int(row) * step, error.shape[0] - side),
        min(int(column) * step, error.shape[1] - side),
    )


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return to_pixels(as_counts(in_channels(pixels, 3)), np.dtype(np.uint8))


def _overview(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    ratio = min(1.0, _OVERVIEW / max(height, width))
    return _rgb(resized(pixels, (round(height * ratio), round(width * ratio)), "bicubic"))
