"""Timelines as pictures: one ribbon of colours for the truth, one for the phases found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

#: Colour of frames without a label.
_NONE = (0.93, 0.93, 0.93, 1.0)
#: Largest number of columns of a ribbon; shorter phases could not be seen anyway.
_COLUMNS = 2000
_MINUTE_S = 120


def phase_colours(count: int) -> np.ndarray:
    """Return a colour (red, green, blue, alpha of 0 to 1) for each phase."""
    if count <= 10:
        return colormaps["tab10"](np.arange(count))
    if count <= 20:
        return colormaps["tab20"](np.arange(count))
    return colormaps["turbo"](np.linspace(0.02, 0.98, count))


def draw_ribbons(
    ax: Axes, times_s: np.ndarray, ribbons: Mapping[str, np.ndarray], phases: Sequence[str]
) -> None:
    """Draw ribbons below one another, over the time of a video.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes to draw on.
    times_s : numpy.ndarray, shape (frames,)
        Time of each frame.
    ribbons : dict of str to numpy.ndarray
        Phase numbers of the frames by title; -1 for none.
    phases : sequence of str
        Names of the phases.
    """
    colours = ListedColormap([_NONE, *phase_colours(len(phases))])
    end = float(times_s[-1]) or 1.0
    ticks = np.linspace(0, end, min(_COLUMNS, len(times_s)))
    frames = np.searchsorted(times_s, ticks, side="right") - 1
    rows = np.stack([ids[frames] for ids in ribbons.values()])
    unit, name = (60.0, "min") if end > _MINUTE_S else (1.0, "s")
    ax.imshow(
        rows + 1,
        cmap=colours,
        vmin=-0.5,
        vmax=len(phases) + 0.5,
        aspect="auto",
        interpolation="nearest",
        extent=(0, end / unit, len(rows) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(rows)), list(ribbons))
    ax.set_xlabel(f"time, {name}")
    ax.hlines(np.arange(len(rows) - 1) + 0.5, 0, end / unit, color="white", linewidth=3)
    shown = sorted({int(i) for ids in ribbons.values() for i in np.unique(ids) if i >= 0})
    handles = [Patch(color=colours(i + 1), label=phases[i]) for i in shown]
    if any((ids < 0).any() for ids in ribbons.values()):
        handles.append(Patch(color=_NONE, label="no label"))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.35),
        ncols=min(6, len(handles)),
        frameon=False,
        fontsize="small",
    )


def ribbon_figure(
    times_s: np.ndarray,
    ribbons: Mapping[str, np.ndarray],
    phases: Sequence[str],
    title: str,
) -> Figure:
    """Return a figure with the ribbons of one video."""
    legend = -(-len({int(i) for ids in ribbons.values() for i in np.unique(ids)}) // 6)
    figure = Figure(figsize=(9.6, 1.2 + 0.45 * len(ribbons) + 0.25 * legend), layout="constrained")
    ax = figure.add_subplot()
    ax.set_title(title, loc="left", fontsize="medium")
    draw_ribbons(ax, times_s, ribbons, phases)
    return figure
