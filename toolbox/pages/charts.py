"""Matplotlib charts for pages, with a narrow form for phones."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolbox.pages.kit import Chart
from toolbox.pages.pictures import METADATA

_NARROW_INCHES, _WIDE_INCHES = (4.9, 3.7), (9.6, 3.6)


def chart(draw: Callable[[Axes], None], alt: str, caption: str, wide: bool = False) -> Chart:
    """Draw a chart with one pair of axes.

    Parameters
    ----------
    draw : callable
        Draws into the given axes; called once for each form.
    alt, caption : str
        Text alternative, and the line below the chart.
    wide : bool
        Whether the chart is as wide as the page; phones then show the narrow form.

    Returns
    -------
    toolbox.pages.Chart
        Block for a section.
    """
    narrow = _drawn(draw, _NARROW_INCHES)
    if not wide:
        return Chart(narrow, alt, caption)
    return Chart(_drawn(draw, _WIDE_INCHES), alt, caption, narrow=narrow)


def verdict_chart(history: pd.DataFrame) -> Chart | None:
    """Chart the mean verdicts of a discriminator by epoch; None without a discriminator.

    Parameters
    ----------
    history : pandas.DataFrame
        History of a training run: ``epoch``, ``d_real``, ``d_fake``.
    """
    if not {"d_real", "d_fake"} <= set(history.columns) or history["d_real"].isna().all():
        return None

    def draw(ax: Axes) -> None:
        for name, label in (("d_real", "D(real)"), ("d_fake", "D(fake)")):
            ax.plot(history["epoch"], history[name], label=label)
        ax.axhline(0.5, color="0.6", linestyle="--", linewidth=1)
        ax.set(xlabel="epoch", ylabel="mean verdict", ylim=(0, 1))

    return chart(
        draw,
        "Verdicts of the discriminator by epoch",
        "Mean verdict on true and on generated training images: 1 means true. If both are near "
        "0.5, the discriminator cannot distinguish them. At 1 and 0 it has won, and the generator "
        "learns nothing from it.",
        wide=True,
    )


def confusion_chart(matrix: np.ndarray, names: Sequence[str], caption: str) -> Chart:
    """Chart the predicted classes of each true class, in per cent of the true class.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (rows, columns)
        Counts, truth in rows; classes that never occur are omitted.
    names : sequence of str
        Names of the columns; the first ones also name the rows.
    caption : str
        The line below the chart.
    """
    present = np.flatnonzero(matrix.sum(axis=1))
    found = np.union1d(present, np.flatnonzero(matrix.sum(axis=0)))
    rows, columns = ([names[int(i)] for i in part] for part in (present, found))
    shares = 100 * matrix[np.ix_(present, found)] / matrix[present].sum(axis=1, keepdims=True)

    def draw(ax: Axes) -> None:
        ax.grid(False)
        drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        size = 8 if len(found) < 12 else 6
        ax.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(labelsize=size)
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            value = shares[row, column]
            colour = "white" if value > 55 else "black"
            ax.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=colour
            )
        ax.set(xlabel="found", ylabel="truth")
        ax.figure.colorbar(drawn, ax=ax, label="% of the class")

    return chart(draw, "Confusion matrix", caption, wide=True)


def figure_png(figure: Figure, dpi: int = 200, tight: bool = False) -> bytes:
    """Return a figure as a reproducible PNG file; `tight` crops its margins."""
    target = io.BytesIO()
    box = "tight" if tight else None
    figure.savefig(target, format="png", dpi=dpi, metadata=METADATA, bbox_inches=box)
    return target.getvalue()


def _drawn(draw: Callable[[Axes], None], inches: tuple[float, float]) -> bytes:
    figure = Figure(figsize=inches, layout="constrained")
    ax = figure.subplots()
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    draw(ax)
    names = ax.get_legend_handles_labels()[1]
    if names:
        long = sum(map(len, names)) > 10 * inches[0]
        figure.legend(loc="outside upper left", frameon=False, fontsize=9, ncols=1 if long else 3)
    return figure_png(figure)
