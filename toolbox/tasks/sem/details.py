"""Close-ups of SEM pictures with measured edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolbox.errors import DataError
from toolbox.pages import round_length
from toolbox.tasks.sem.discs import Disc, find_discs, measure_disc
from toolbox.tasks.sem.evaluate import METHODS, Picture
from toolbox.tasks.sem.metrology import find_lines, spaces_of

# Visible on any grey, and distinguishable with any kind of colour vision.
MEASURED_LINE: dict[str, Any] = {"color": "#ffb000", "linewidth": 1.1}
_REFERENCE_LINE: dict[str, Any] = {"color": "#00c8ff", "linewidth": 1.0, "linestyle": (0, (3, 2))}
#: Smallest and, for lines, largest side of the detail, pixels.
_DETAIL_PX = (96, 160)
#: Nominal lines (left, right) or discs of a picture.
Places = list[tuple[float, float]] | list[Disc]
#: Columns and rows of a curve, pixels.
Curve = tuple[np.ndarray, np.ndarray]


def biases_of(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Return the CD bias of each method in one picture."""
    own = table[table["name"] == name].astype({"cd_bias_nm": float})
    means = own.groupby("method")["cd_bias_nm"].mean().dropna()
    return {str(name): float(value) for name, value in means.items()}


def choose_pictures(names: Sequence[str], table: pd.DataFrame, count: int) -> list[tuple[str, str]]:
    """Choose pictures from the most to the least changed by restoring, and describe their rank."""
    changes = [biases_of(table, name).get("restored", math.nan) for name in names]
    sizes = [math.inf if math.isnan(change) else abs(change) for change in changes]
    order = sorted(range(len(names)), key=lambda i: -sizes[i])
    total = len(order)
    ranks = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    return [(names[order[rank]], _rank_text(rank, total, sizes[order[rank]])) for rank in ranks]


def _rank_text(rank: int, total: int, size: float) -> str:
    if not math.isfinite(size):
        return "in which no restored CD could be measured"
    if total == 1:
        return "the only picture"
    if rank in (0, total - 1):
        return f"of {total} pictures, the one that restoring changed {'least' if rank else 'most'}"
    return f"of {total} pictures, number {rank + 1} by the change of widths"


def places_of(picture: Picture, discs: bool, threshold: float, dark: bool = False) -> Places:
    """Find lines or discs as the evaluation does; dark ones if `dark`."""
    if discs:
        return find_discs(picture.high, dark=dark)
    if picture.truth is not None:
        left, right = spaces_of(*picture.truth) if dark else picture.truth
        return [(float(a.mean()), float(b.mean())) for a, b in zip(left, right, strict=True)]
    clean = picture.high if picture.noise_free is None else picture.noise_free
    try:
        edges = find_lines(clean, threshold, polarity="dark" if dark else "bright")
    except DataError:
        return []
    pairs = zip(edges.left_px[edges.clear], edges.right_px[edges.clear], strict=True)
    return [(float(np.nanmean(a)), float(np.nanmean(b))) for a, b in pairs]


def curves_of(
    image: np.ndarray, places: Places, threshold: float, dark: bool = False
) -> list[Curve]:
    """Measure the edges of an image; return them as curves for drawing."""
    discs = [place for place in places if isinstance(place, Disc)]
    if discs:
        found = [measure_disc(image, disc, threshold) for disc in discs]
        return [circle(disc) for disc in found if disc is not None]
    lines = [(place[0], place[1]) for place in places]
    if not lines:
        return []
    try:
        edges = find_lines(image, threshold, lines, polarity="dark" if dark else "bright")
    except DataError:
        return []
    return edge_curves(edges.left_px, edges.right_px)


def edge_curves(left_px: np.ndarray, right_px: np.ndarray) -> list[Curve]:
    """Return edges (lines, H) of vertical lines as curves for drawing."""
    rows = np.arange(left_px.shape[1], dtype=float)
    return [(edge, rows) for edge in (*left_px, *right_px)]


def circle(disc: Disc) -> Curve:
    """Return a disc as a curve for drawing."""
    angle = np.linspace(0, 2 * np.pi, 361)
    return disc.column + disc.radius_px * np.cos(angle), disc.row + disc.radius_px * np.sin(angle)


class Detail:
    """A close-up of a picture with its edges.

    Attributes
    ----------
    text : str
        Description for the caption.
    """

    def __init__(
        self,
        picture: Picture,
        places: Places,
        threshold: float,
        pixel: float,
        unit: str,
        dark: bool = False,
    ) -> None:
        self.picture, self.places, self.threshold, self.dark = picture, places, threshold, dark
        self.pixel, self.unit = pixel, unit
        self.top, self.left, self.rows, self.columns = window_about(picture.high.shape, places)
        self.part = (
            slice(self.top, self.top + self.rows),
            slice(self.left, self.left + self.columns),
        )
        self.known = "true edge" if picture.truth is not None else "edge in the long exposure"
        self.text = (
            f"a detail of {self.rows} × {self.columns} pixels with measured edges (amber) and the "
            f"{self.known} (blue); the same grey scale throughout, Δ relative to the reference"
        )

    def draw(self, notes: Mapping[str, str]) -> Figure:
        """Draw all methods with notes, the long exposure and the difference from it."""
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
        box = self.top, self.left, self.rows, self.columns
        draw_ruler(axes[0], box, self.pixel, self.unit)
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
        """Return the grey levels that contain almost all pixels, common to all panels."""
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
        found = curves_of(image, self.places, self.threshold, self.dark)
        if self.picture.truth is not None:
            known = edge_curves(*self.picture.truth)
        else:
            known = curves_of(self.picture.high, self.places, self.threshold, self.dark)
        for curves, style, label in (
            (found, MEASURED_LINE, "measured edge"),
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


def draw_ruler(ax: Axes, window: tuple[int, int, int, int], pixel: float, unit: str) -> None:
    """Draw a scale bar of a round length into a corner of a window from `window_about`."""
    top, left, rows, columns = window
    length = round_length(0.35 * columns * pixel)
    right = left + columns - 0.5 - 0.05 * columns
    row = top + 0.94 * rows
    x = [right - length / pixel, right]
    ax.plot(x, [row, row], color="black", linewidth=5, solid_capstyle="butt", zorder=6)
    ax.plot(x, [row, row], color="white", linewidth=3, solid_capstyle="butt", zorder=7)
    ax.text(
        sum(x) / 2,
        row - 0.025 * rows,
        f"{length:g} {unit}",
        color="white",
        fontsize=9,
        ha="center",
        va="bottom",
        zorder=7,
        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.2},
    )


def window_about(shape: tuple[int, ...], places: Places) -> tuple[int, int, int, int]:
    """Return first row, first column, rows and columns around the object nearest to the middle."""
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
    """Return a side that shows a line with its neighbours, or a complete disc."""
    if isinstance(place, Disc):
        return max(2.6 * place.radius_px, _DETAIL_PX[0])
    return float(np.clip(4.5 * (place[1] - place[0]), *_DETAIL_PX))
