"""The page of a test on surgical phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
)
from toolbox.pages.kit import Grade
from toolbox.tasks.surgical_phase.follow import Timeline
from toolbox.tasks.surgical_phase.measure import FIGURES, Measured, definitions
from toolbox.tasks.surgical_phase.ribbon import ribbon_figure

_CAVEAT = (
    "These figures apply to videos like those of the test: the same operation, camera and teams. "
    "This is not a medical device."
)
_TITLES = {"precision": "Precision", "recall": "Recall", "jaccard": "Jaccard", "f1": "F1"}
#: Videos in the table of the page; ``videos.csv`` lists all.
_ROWS = 40


@dataclasses.dataclass(frozen=True)
class Shown:
    """A video whose timeline is on the page.

    Attributes
    ----------
    name : str
        Name of the video.
    timeline : Timeline
        The phases found.
    truth : numpy.ndarray, shape (frames,)
        Numbers of the true phases; -1 for none.
    accuracy : float
        Share of the labelled frames that are right.
    """

    name: str
    timeline: Timeline
    truth: np.ndarray
    accuracy: float


def phase_page(
    summary: Mapping[str, Any],
    measured: Measured,
    phases: Sequence[str],
    shown: Sequence[Shown],
    facts: Mapping[str, str],
) -> Page:
    """Return the page ``report.html``.

    Parameters
    ----------
    summary : dict
        The contents of ``summary.json``.
    measured : Measured
        Figures of videos and phases.
    phases : sequence of str
        Names of the phases.
    shown : sequence of Shown
        Videos whose timelines are drawn.
    facts : dict
        How the results were made.
    """
    page = Page("Surgical phases", f"{summary['n']} videos, {len(phases)} phases")
    page.verdict(*_verdict(summary))
    page.warnings("Left out", list(summary["left_out"].values()))
    page.section("Quality", _averages(measured.summary), _relaxed(measured.summary))
    page.section("Timelines", *(_ribbons(each, phases) for each in shown))
    page.section(
        "By phase",
        _bars(measured, phases),
        _by_phase(measured, phases, summary["class_weights"]),
        _confusion(measured, phases),
    )
    page.section("By video", _by_video(measured), _more(measured))
    told = definitions(measured.summary["absent"], measured.summary["boundary_s"])
    page.section("What the figures mean", *(Text(line, quiet=True) for line in told))
    page.section("How this was made", Facts(dict(facts)))
    page.caveat(_CAVEAT)
    return page


def _verdict(summary: Mapping[str, Any]) -> tuple[Grade, str, list[str]]:
    found = summary["measured"]["accuracy"]
    said = []
    if found["low"] is not None and summary["n"] > 1:
        said.append(
            f"95 % interval over the choice of videos: {_percent(found['low'])} to "
            f"{_percent(found['high'])}."
        )
    guess = summary.get("guess")
    grade: Grade = "neutral"
    if guess:
        said.append(
            f"Always guessing {guess['phase']}, the most frequent phase of the training data: "
            f"{_percent(guess['accuracy'])}."
        )
        low = found["mean"] if found["low"] is None else found["low"]
        if found["mean"] <= guess["accuracy"]:
            grade = "bad"
        elif low > guess["accuracy"]:
            grade = "good"
    said.append(f"{summary['frames_a_second']:.0f} frames per second, decoding included.")
    return grade, f"{_percent(found['mean'])} of frames right, mean over videos", said


def _percent(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.1f} %"


def _averages(summary: Mapping[str, Any]) -> Table:
    columns = [
        Column(("Figure",)),
        Column(("Strict",), "mean ± std"),
        Column(("Other order",), "mean ± std"),
        Column(("All frames",)),
    ]
    accuracy = summary["accuracy"]
    rows = [
        TableRow(
            "Accuracy",
            [
                Cell(_spread(accuracy["mean"], accuracy["std"]), "over videos"),
                Cell("–"),
                Cell(_percent(accuracy["pooled"])),
            ],
            own=True,
        )
    ]
    for name in FIGURES:
        found = summary[name]
        pooled = _percent(summary["macro_f1"]) if name == "f1" else "–"
        rows.append(
            TableRow(
                _TITLES[name],
                [
                    Cell(_spread(found["phases_then_videos"], found["std"]), "phases, then videos"),
                    Cell(
                        _spread(found["videos_then_phases"], found["phase_std"]),
                        "videos, then phases",
                    ),
                    Cell(pooled),
                ],
            )
        )
    return Table(columns, rows)


def _spread(mean: float | None, std: float | None) -> str:
    return _percent(mean) if std is None else f"{_percent(mean)} ± {100 * std:.1f}"


def _relaxed(summary: Mapping[str, Any]) -> Text | None:
    found = summary["relaxed"]
    if found is None:
        return None
    figures = [f"accuracy {_percent(found['accuracy']['mean'])}"]
    figures += [f"{_TITLES[n]} {_percent(found[n]['phases_then_videos'])}" for n in FIGURES]
    return Text(
        f"Relaxed by {summary['boundary_s']:g} s at each boundary: {', '.join(figures)}. Do not "
        f"compare these with strict figures.",
        quiet=True,
    )


def _ribbons(each: Shown, phases: Sequence[str]) -> Chart:
    ribbons = {"truth": each.truth, "found": each.timeline.ids}
    title = f"{each.name}: {_percent(each.accuracy)} of the labelled frames right"
    figure = ribbon_figure(each.timeline.times_s, ribbons, phases, title)
    return Chart(figure_png(figure, dpi=120), f"Timelines of {each.name}, {title}")


def _bars(measured: Measured, phases: Sequence[str]) -> Chart:
    table = measured.phases[measured.phases["videos"] > 0]
    names = [phases[i] for i in table["phase"]]

    def draw(ax: Axes) -> None:
        place, width = np.arange(len(table)), 0.8 / len(FIGURES)
        for i, name in enumerate(FIGURES):
            left = place + (i - len(FIGURES) / 2 + 0.5) * width
            ax.bar(left, 100 * table[name], width, label=_TITLES[name])
        turned = len(names) > 6 or max(map(len, names), default=0) > 12
        ax.set_xticks(
            place, names, rotation=45 if turned else 0, ha="right" if turned else "center"
        )
        ax.set(ylabel="%, mean over videos", ylim=(0, 100))

    return chart(draw, "Figures by phase", "Strict, phases that occur in the truth.", wide=True)


def _by_phase(measured: Measured, phases: Sequence[str], weights: Any) -> Table:
    columns = [
        Column(("Phase",)),
        Column(("Videos",)),
        Column(("Frames",)),
        Column(("Weight",), "in the loss"),
        *(Column((title,), "%") for title in _TITLES.values()),
    ]
    rows = []
    for row in measured.phases.to_dict("records"):
        if not row["videos"]:
            continue
        weight = "–" if weights is None else f"{weights[row['phase']]:.3f}"
        figures = [_percent(row[name]).removesuffix(" %") for name in FIGURES]
        cells = [str(row["videos"]), str(row["frames"]), weight, *figures]
        rows.append(TableRow(phases[row["phase"]], [Cell(cell) for cell in cells]))
    return Table(columns, rows)


def _confusion(measured: Measured, phases: Sequence[str]) -> Chart:
    caption = "Percentage of the frames of each phase (row) that were found as each phase (column)."
    return confusion_chart(measured.confusion, [*phases, "none"], caption)


def _by_video(measured: Measured) -> Table:
    columns = [
        Column(("Video",)),
        Column(("Frames",), "with a label"),
        Column(("Rate",), "Hz"),
        Column(("Accuracy",), "%"),
        *(Column((title,), "%") for title in _TITLES.values()),
    ]
    table = measured.videos.sort_values("accuracy").head(_ROWS)
    rows = [
        TableRow(
            str(row["video"]),
            [
                Cell(str(row["judged"])),
                Cell(f"{row['rate_hz']:.4g}"),
                *(Cell(_percent(row[name]).removesuffix(" %")) for name in ("accuracy", *FIGURES)),
            ],
        )
        for row in table.to_dict("records")
    ]
    return Table(columns, rows)


def _more(measured: Measured) -> Text:
    more = len(measured.videos) - _ROWS
    left = f" The other {more} are in videos.csv." if more > 0 else ""
    return Text(f"Worst first; figures are means over the phases of a video.{left}", quiet=True)
