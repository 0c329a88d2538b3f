"""Measure the lines or discs of a picture, without a network. No TensorFlow."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from toolbox.errors import DataError
from toolbox.tasks.sem.discs import Disc, edge_reach, find_discs, measure_disc, trace_disc
from toolbox.tasks.sem.evaluate import mean_and_ci95
from toolbox.tasks.sem.metrology import (
    ALPHA_BOUNDS,
    SIGMAS,
    Roughness,
    TracePool,
    direction_of,
    find_lines,
    interpolate_missing,
)
from toolbox.tasks.sem.pixel_size import PIXEL_TOLERANCE, PixelSize
from toolbox.tasks.sem.settings import MeasureOptions

#: Widths that differ by more than this factor are a mixture.
_ONE_KIND = 1.3
#: Fewest frames for finding a change of the CD in the mean of all lines, and in the changes of
#: single lines; fewest such lines; probability of chance below which a change is reported.
_LEAST_TREND, _SHORT_TREND, _LEAST_LINES, _CHANCE = 8, 3, 4, 1e-3
#: Smallest change over all frames that single lines can show: aligning frames blurs them a little.
_LEAST_CHANGE_PX = 0.1
#: A slant that moves edges by more than this over the height of the picture is reported, pixels.
_MOST_SLANT_PX = 1.0
#: A slant of more than this is refused, in widths of the narrowest line or space.
_MOST_SLANT = 2.0
#: Distance of the rows from which a slant is computed, as a share of the height.
_SLANT_STEP = 1 / 16
#: Largest difference between two estimates of a slant, as a share of it.
_SAME_SLANT = 0.25
#: Fewest rows from which roughness is measured.
_LEAST_ROWS = 16
#: Share of lost rows above which they are reported.
_MOST_LOST = 0.05
#: A roughness exponent this near to a bound of its fit is reported.
_AT_BOUND = 0.005
#: Noise of an edge in a row above which it is reported, pixels: crossings are no longer linear.
_MOST_NOISE_PX = 0.7


class Traced(NamedTuple):
    """Measurements that are compared between pictures of one field, in the unit of the picture.

    Attributes
    ----------
    cd : numpy.ndarray, shape (n,)
        Width or diameter of each line or disc, NaN if it is not clear.
    edges : numpy.ndarray, shape (m, k)
        Positions of edges, NaN where they are lost.
    widths : numpy.ndarray, shape (n, k)
        Widths along the lines; no rows for discs.
    """

    cd: np.ndarray
    edges: np.ndarray
    widths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Measured:
    """All results of one picture.

    Attributes
    ----------
    figures : dict
        Figures of the picture; the names of lengths end in their unit.
    objects : list of dict
        Figures of each line or disc.
    notes : list of str
        Notes for the user.
    places : list
        Places of lines (left, right) or discs, pixels; for horizontal lines, in the turned picture.
    edges_px : (numpy.ndarray, numpy.ndarray) or None
        Both edges of the lines, shape (lines, H) each, pixels.
    rough : dict of str to Roughness
        Roughness of ``width``, ``edges``, ``left`` and ``right``; empty for discs.
    spectrum : (numpy.ndarray, numpy.ndarray) or None
        Frequencies and densities of the spectrum of line widths.
    """

    figures: dict[str, Any]
    objects: list[dict[str, Any]]
    notes: list[str]
    places: list[tuple[float, float]] | list[Disc]
    edges_px: tuple[np.ndarray, np.ndarray] | None = None
    rough: Mapping[str, Roughness] = dataclasses.field(default_factory=dict)
    spectrum: tuple[np.ndarray, np.ndarray] | None = None


class Meter(ABC):
    """Finds the lines or discs of a field, and measures them in any picture of it.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        The picture in which they are found.
    size : (float, float)
        Width and height of a pixel.
    unit : str
        Unit of `size`: nm, or px if the size is unknown and set to 1.
    options : MeasureOptions
        What to look for, and the threshold.

    Attributes
    ----------
    along : float
        Distance between neighbouring widths along a line, in the unit of the picture.

    Raises
    ------
    DataError
        If no line or disc is found.
    """

    along: float

    @abstractmethod
    def __init__(
        self, image: np.ndarray, size: tuple[float, float], unit: str, options: MeasureOptions
    ) -> None: ...

    @abstractmethod
    def measured(self) -> Measured:
        """Return the results of the picture in which the lines or discs were found."""

    @abstractmethod
    def trace(self, image: np.ndarray) -> Traced | None:
        """Measure another picture of the field; return None if it shows no clear edge."""


class LineMeter(Meter):
    """Measures lines."""

    def __init__(
        self, image: np.ndarray, size: tuple[float, float], unit: str, options: MeasureOptions
    ) -> None:
        self.unit, self.threshold = unit, options.threshold
        self.direction = direction_of(image) if options.lines == "auto" else options.lines
        self.across, self.along = size if self.direction == "vertical" else size[::-1]
        rows = len(self._turned(image))
        if rows < _LEAST_ROWS:
            raise DataError(
                f"lines must be at least {_LEAST_ROWS} pixels long to be measured; received "
                f"{rows}. Use a larger part of the picture."
            )
        try:
            found = find_lines(self._turned(image), options.threshold, polarity=options.polarity)
        except DataError as error:
            turned = "" if self.direction == "vertical" else " in the picture turned by 90°"
            raise DataError(
                f"{error} The search was for {self.direction} lines{turned}; change it with "
                f"--lines, --polarity or --shape."
            ) from None
        self.polarity, self.note = found.polarity, found.note
        self.unclear = int((~found.clear).sum())
        self.left_px, self.right_px = found.left_px[found.clear], found.right_px[found.clear]
        ends = zip(self.left_px, self.right_px, strict=True)
        self.lines = [(float(np.nanmean(a)), float(np.nanmean(b))) for a, b in ends]
        self._refuse_slant()

    def _refuse_slant(self) -> None:
        """Refuse lines so slanted that parts of two neighbours would be mixed."""
        moved, _ = self._slant_px()
        nominal = np.ravel(self.lines)
        narrowest = float(np.diff(np.sort(nominal)).min())
        if abs(moved) > _MOST_SLANT * narrowest:
            slant = moved / self.left_px.shape[1] * self.across / self.along
            raise DataError(
                f"the lines are slanted by about {abs(np.degrees(np.arctan(slant))):.1f}°, "
                f"{abs(moved):.0f} pixels over the picture, but lines or spaces are only "
                f"{narrowest:.0f} pixels wide, so neighbours would be mixed. Turn the picture, or "
                f"use a shorter part of it."
            )

    def _turned(self, image: np.ndarray) -> np.ndarray:
        """Return the picture, transposed if its lines are horizontal."""
        return image if self.direction == "vertical" else image.T

    def trace(self, image: np.ndarray) -> Traced | None:
        """Measure the same lines in another picture."""
        try:
            found = find_lines(
                self._turned(image), self.threshold, self.lines, polarity=self.polarity
            )
        except DataError:
            return None
        left, right = found.left_px * self.across, found.right_px * self.across
        return Traced(_means(right - left), np.concatenate([left, right]), right - left)

    def measured(self) -> Measured:
        """Return widths, roughness and pitch."""
        left, right = self.left_px * self.across, self.right_px * self.across
        width = right - left
        pools: dict[str, TracePool] = {}
        parts = {"width": width, "edges": np.concatenate([left, right])}
        for name, traces in {**parts, "left": left, "right": right}.items():
            pools[name] = TracePool(traces.shape[1], self.along)
            pools[name].add(traces)
        rough = {name: found for name, pool in pools.items() if (found := pool.roughness())}
        figures, objects = self._figures(width, rough), self._objects(left, right)
        spectrum = pools["width"].spectrum()
        edges = self.left_px, self.right_px
        notes = self._notes(width, rough["width"])
        return Measured(figures, objects, notes, self.lines, edges, rough, spectrum)

    def _objects(self, left: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
        unit = self.unit
        return [
            {
                "line": number,
                f"centre_{unit}": float(np.nanmean(a + b) / 2),
                f"cd_{unit}": float(np.nanmean(b - a)),
                f"lwr_biased_{unit}": SIGMAS * float(np.nanstd(b - a)),
                f"ler_left_biased_{unit}": SIGMAS * float(np.nanstd(a)),
                f"ler_right_biased_{unit}": SIGMAS * float(np.nanstd(b)),
                "lost_share": float(np.isnan(b - a).mean()),
            }
            for number, (a, b) in enumerate(zip(left, right, strict=True), 1)
        ]

    def _figures(self, width: np.ndarray, rough: Mapping[str, Roughness]) -> dict[str, Any]:
        unit, fit = self.unit, rough["width"].fit
        cd, ci95 = mean_and_ci95(_means(width))
        centres = np.mean(self.lines, axis=1) * self.across
        pitch, pitch_ci95 = mean_and_ci95(np.diff(centres))
        figures: dict[str, Any] = {
            "n": len(width),
            "unclear": self.unclear,
            "polarity": self.polarity,
            "direction": self.direction,
            f"cd_{unit}": cd,
            f"cd_ci95_{unit}": ci95,
            f"pitch_{unit}": pitch,
            f"pitch_ci95_{unit}": pitch_ci95,
        }
        names = {"width": "lwr", "edges": "ler", "left": "ler_left", "right": "ler_right"}
        for kind, name in names.items():
            figures[f"{name}_biased_{unit}"] = rough[kind].biased_nm
            figures[f"{name}_unbiased_{unit}"] = rough[kind].unbiased_nm
        return figures | {
            f"psd_sigma_{unit}": fit.sigma_nm,
            f"psd_xi_{unit}": fit.xi_nm,
            "psd_alpha": fit.alpha,
            f"psd_floor_{unit}3": fit.floor_nm3,
            f"length_{unit}": width.shape[1] * self.along,
            f"sampling_{unit}": self.along,
            "lost_share": float(np.isnan(width).mean()),
        }

    def _notes(self, width: np.ndarray, rough: Roughness) -> list[str]:
        """Return notes about what makes the figures less reliable."""
        notes = [self.note] if self.note else []
        cd, unit = _means(width), self.unit
        lost = float(np.isnan(width).mean())
        if lost > _MOST_LOST:
            notes.append(
                f"{lost:.0%} of the rows have no clear edge, for instance where a line ends, is "
                f"bridged or is lost in noise; they are left out."
            )
        noise = np.sqrt(max(rough.biased_nm**2 - rough.unbiased_nm**2, 0.0) / 2) / SIGMAS
        if noise > _MOST_NOISE_PX * self.across:
            notes.append(
                f"noise displaces edges by {noise / self.across:.1f} pixels in each row, which "
                f"makes the unbiased LWR and LER too large. Average more frames."
            )
        notes += _alpha_at_bound(rough)
        if self.unclear:
            lines = "1 line is" if self.unclear == 1 else f"{self.unclear} lines are"
            notes.append(f"{lines} left out: no clear edges.")
        notes += _mixture(cd, unit)
        moved, error = self._slant_px()
        if abs(moved) > max(_MOST_SLANT_PX, 3 * error):
            slant = moved * self.across / (width.shape[1] * self.along)
            notes.append(
                f"the lines are slanted by {abs(np.degrees(np.arctan(slant))):.2f}°, "
                f"{abs(moved) * self.across:.3g} {unit} over the picture; the LER includes this "
                f"slant, CD and LWR do not."
            )
        return notes

    def _slant_px(self) -> tuple[float, float]:
        """Return how far a slant moves edges over the picture, and the standard error.

        A jump, or an edge that wanders to its neighbour, looks like a slant over the whole
        picture, but not between most rows and those a little below.
        """
        edges = np.concatenate([self.left_px, self.right_px])
        count = edges.shape[1]
        step = max(1, round(_SLANT_STEP * count))
        near = float(np.nanmedian(edges[:, step:] - edges[:, :-step])) * count / step
        rows = np.arange(count) - (count - 1) / 2
        moved = interpolate_missing(edges) @ rows / max(float(rows @ rows), 1.0) * count
        if abs(moved.mean() - near) > max(_MOST_SLANT_PX, _SAME_SLANT * abs(near)):
            return near, np.inf
        return float(moved.mean()), float(moved.std(ddof=1) / np.sqrt(len(moved)))


class DiscMeter(Meter):
    """Measures discs, and holes, which are dark."""

    def __init__(
        self, image: np.ndarray, size: tuple[float, float], unit: str, options: MeasureOptions
    ) -> None:
        if not np.isclose(*size, rtol=PIXEL_TOLERANCE):
            raise DataError(
                f"pixels must be square to measure discs; received {size[0]:.4g} × {size[1]:.4g} "
                f"nm. Resample the picture to square pixels."
            )
        self.along, self.unit, self.threshold = size[0], unit, options.threshold
        kinds = ("bright", "dark") if options.polarity == "auto" else (options.polarity,)
        found = {}
        for kind in kinds:
            traced = [
                trace_disc(image, disc, options.threshold)
                for disc in find_discs(image, dark=kind == "dark")
            ]
            found[kind] = [each for each in traced if each is not None]
        self.polarity = max(found, key=lambda kind: len(found[kind]))
        self.traced = found[self.polarity]
        self.others = {kind: len(every) for kind, every in found.items() if kind != self.polarity}
        if not self.traced:
            raise DataError(
                f"no whole {' or '.join(kinds)} disc with a radius of at least 12 pixels was found "
                f"in the picture. Search for something else with --polarity or --shape."
            )

    def trace(self, image: np.ndarray) -> Traced | None:
        """Measure the same discs in another picture."""
        found = [measure_disc(image, disc, self.threshold) for disc, _ in self.traced]
        cd = [np.nan if disc is None else 2 * disc.radius_px * self.along for disc in found]
        empty = np.empty((0, 0))
        return Traced(np.array(cd), empty, empty) if np.isfinite(cd).any() else None

    def measured(self) -> Measured:
        """Return diameters, roundness and places."""
        unit, scale = self.unit, self.along
        objects: list[dict[str, Any]] = [
            {
                "disc": number,
                f"cd_{unit}": 2 * disc.radius_px * scale,
                f"roundness_{unit}": SIGMAS * float(distances.std()) * scale,
                f"x_{unit}": disc.column * scale,
                f"y_{unit}": disc.row * scale,
            }
            for number, (disc, distances) in enumerate(self.traced, 1)
        ]
        cds = np.array([row[f"cd_{unit}"] for row in objects])
        cd, ci95 = mean_and_ci95(cds)
        figures = {
            "n": len(objects),
            "polarity": self.polarity,
            f"cd_{unit}": cd,
            f"cd_ci95_{unit}": ci95,
            f"roundness_{unit}": float(np.mean([row[f"roundness_{unit}"] for row in objects])),
        }
        notes = (
            _mixture(cds, unit)
            + self._touching()
            + [
                f"{count} {kind} discs are not measured; --polarity {kind} measures them."
                for kind, count in self.others.items()
                if count
            ]
        )
        return Measured(figures, objects, notes, [disc for disc, _ in self.traced])

    def _touching(self) -> list[str]:
        """Return a note if discs are so near to others that their edges are mixed."""
        discs = np.array([disc for disc, _ in self.traced])
        centres, radii = discs[:, :2], discs[:, 2]
        apart = np.hypot(*np.moveaxis(centres[:, None] - centres, 2, 0)) - radii[:, None] - radii
        np.fill_diagonal(apart, np.inf)
        count = int((apart.min(axis=1) < edge_reach(radii)).sum())
        if not count:
            return []
        return [f"{count} discs almost touch others, so their diameters come out too small."]


def _alpha_at_bound(rough: Roughness) -> list[str]:
    """Return a note if the roughness exponent is at a bound of its fit."""
    alpha, (low, high) = rough.fit.alpha, ALPHA_BOUNDS
    at_bound = f"α = {alpha:.2f} is at the bound of its fit, so α and ξ are not reliable."
    if alpha > high - _AT_BOUND:
        return [f"{at_bound} Blur makes α too large and ξ too small."]
    # Of a spectrum without power α is 0.
    return [at_bound] if 0 < alpha < low + _AT_BOUND else []


def _mixture(cd: np.ndarray, unit: str) -> list[str]:
    """Return a note if lines or discs have different widths."""
    if cd.max() <= _ONE_KIND * cd.min():
        return []
    return [
        f"the CDs are between {cd.min():.4g} and {cd.max():.4g} {unit}, so their mean and its "
        f"interval describe a mixture; see the single CDs."
    ]


def _means(traces: np.ndarray) -> np.ndarray:
    """Return the mean of each trace (n, H), NaN if it is all NaN."""
    known = np.isfinite(traces)
    count = known.sum(axis=1)
    total = np.where(known, traces, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


class FrameCurve:
    """Measurements of averages of more and more frames of one field.

    Frames are added one by one. Averages of 1, 2, 4, … consecutive frames are measured as soon as
    they are complete, so only a few sums are kept.

    Parameters
    ----------
    meter : Meter
        Measures the field.
    unit : str
        Unit of its lengths.
    """

    def __init__(self, meter: Meter, unit: str) -> None:
        self.meter, self.unit = meter, unit
        self._sums: list[np.ndarray | None] = []
        #: By the number of frames; None where no edge is clear.
        self._traced: dict[int, list[Traced | None]] = {}

    def add(self, frame: np.ndarray) -> None:
        """Add the next frame (H, W), aligned with the others."""
        total, count = frame.astype(np.float64), 1
        self._measure(total, count)
        for level, half in enumerate(self._sums):
            if half is None:
                self._sums[level] = total
                return
            total, count, self._sums[level] = total + half, 2 * count, None
            self._measure(total, count)
        self._sums.append(total)

    def _measure(self, total: np.ndarray, count: int) -> None:
        self._traced.setdefault(count, []).append(self.meter.trace(total / count))

    def table(self) -> pd.DataFrame:
        """Return a row for each number of frames; the last row is for all frames.

        Returns
        -------
        pandas.DataFrame
            ``frames``, ``averages`` (their number), ``measured`` (the number with clear edges),
            ``cd``, ``cd_precision`` and ``edge_precision`` (standard deviations over the
            averages), ``lwr_biased``, ``lwr_unbiased``, ``lost_share``; lengths with their unit.
        """
        count = len(self._traced.get(1, []))
        left = [total for total in self._sums if total is not None]
        if len(left) > 1:
            self._traced[count] = [self.meter.trace(np.sum(left, axis=0) / count)]
        return pd.DataFrame([self._row(count, every) for count, every in self._traced.items()])

    def _row(self, count: int, every: list[Traced | None]) -> dict[str, Any]:
        found, unit = [traced for traced in every if traced is not None], self.unit
        row: dict[str, Any] = {"frames": count, "averages": len(every), "measured": len(found)}
        if not found:
            return row
        cds = np.array([traced.cd for traced in found])
        usual = _means(cds.T)
        row[f"cd_{unit}"] = float(np.nanmean(usual))
        if len(found) > 1:
            # Relative to the mean of each line: a lost line would change the mean of all.
            row[f"cd_precision_{unit}"] = float(np.nanstd(_means(cds - usual), ddof=1))
        widths = np.array([traced.widths for traced in found])
        if not widths.size:
            return row
        if len(found) > 1:
            edges = np.array([traced.edges for traced in found])
            row[f"edge_precision_{unit}"] = _edge_precision(edges)
        pool = TracePool(widths.shape[2], self.meter.along)
        for traces in widths:
            pool.add(traces)
        rough = pool.roughness()
        assert rough is not None
        row[f"lwr_biased_{unit}"] = rough.biased_nm
        row[f"lwr_unbiased_{unit}"] = rough.unbiased_nm
        row["lost_share"] = float(np.isnan(widths).mean())
        return row

    @property
    def notes(self) -> list[str]:
        """Notes for the user: whether the CD changes from frame to frame."""
        slope = self.trend
        if slope is None:
            return []
        return [
            f"the CD changes by {slope:+.2g} {self.unit} per frame, for instance by charging, "
            f"contamination or shrinking; the precision includes this change, which averages do "
            f"not reduce."
        ]

    @property
    def trend(self) -> float | None:
        """Change of the CD per frame; None if it may be chance."""
        every = [traced.cd for traced in self._traced.get(1, []) if traced is not None]
        if len(every) < _SHORT_TREND:
            return None
        cds = np.array(every)
        change = cds - _means(cds.T)
        steps = np.arange(len(cds)) - (len(cds) - 1) / 2
        if len(cds) >= _LEAST_TREND:
            trend = stats.linregress(steps, _means(change))
            return float(trend.slope) if trend.pvalue < _CHANCE else None
        # Too few frames to know how frames differ by chance, but the lines show it too.
        slopes = (steps @ change / (steps @ steps))[np.isfinite(change).all(axis=0)]
        if len(slopes) < _LEAST_LINES or not np.ptp(slopes) > 0:
            return None
        slope = float(slopes.mean())
        small = abs(slope) * (len(cds) - 1) < _LEAST_CHANGE_PX * self.meter.along
        return None if small or stats.ttest_1samp(slopes, 0.0).pvalue >= _CHANCE else slope


def _edge_precision(edges: np.ndarray) -> float:
    """Return the standard deviation of an edge in a row over averages (n, edges, rows).

    A shift, which moves all edges of an average alike, is left out.
    """
    known = np.isfinite(edges)
    count = known.sum(axis=0)
    change = edges - np.where(known, edges, 0.0).sum(axis=0) / np.maximum(count, 1)
    shift = _means(change.reshape(len(edges), -1))
    change = np.where(known, change - shift[:, None, None], 0.0)
    return float(np.sqrt((change**2).sum() / np.maximum(count - 1, 0).sum()))


def precision_of_one(frames: pd.DataFrame, unit: str) -> float | None:
    """Return the standard deviation of the CD of one frame, None if it is unknown.

    It is fitted to all averages, weighted by their degrees of freedom, assuming that it falls with
    the square root of the number of frames.
    """
    column = f"cd_precision_{unit}"
    known = frames.dropna(subset=[column]) if column in frames else frames[:0]
    if known.empty:
        return None
    weight = known["measured"] - 1
    variance = (weight * known["frames"] * known[column] ** 2).sum() / weight.sum()
    return float(np.sqrt(variance))


@dataclasses.dataclass
class Field:
    """One measured file.

    Attributes
    ----------
    name : str
        Its name in tables.
    image : numpy.ndarray, shape (H, W)
        The picture, or the average of aligned frames, without a data bar.
    size : PixelSize or None
        Size of a pixel and its source.
    data_bar_px : int
        Rows that were cut off.
    count : int
        Number of averaged frames.
    measured : Measured
        The results.
    frames : pandas.DataFrame
        The table of `FrameCurve.table`; empty for a single frame.
    notes : list of str
        Notes for the user.
    drifts : bool
        Whether the CD changes from frame to frame, so averages do not make it more precise.
    """

    name: str
    image: np.ndarray
    size: PixelSize | None
    data_bar_px: int
    count: int
    measured: Measured
    frames: pd.DataFrame
    notes: list[str]
    drifts: bool = False

    @property
    def unit(self) -> str:
        """The unit of lengths."""
        return "px" if self.size is None else "nm"

    @property
    def figures(self) -> dict[str, Any]:
        """The row of ``pictures.csv``."""
        size = self.size
        return {
            "pixel_nm": None if size is None else size.x_nm,
            "pixel_y_nm": None if size is None else size.y_nm or size.x_nm,
            "pixel_source": None if size is None else size.source,
            "data_bar_px": self.data_bar_px,
            "frames": self.count,
            **self.measured.figures,
        }
