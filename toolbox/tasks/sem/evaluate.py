"""Restored pictures judged in nanometres: CD, roughness and its spectrum, beside plain filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from toolbox.errors import DataError
from toolbox.tasks.sem.discs import Disc, find_discs, measure_disc
from toolbox.tasks.sem.metrology import (
    Roughness,
    find_lines,
    fit_psd,
    interpolate_missing,
    periodogram,
    roughness_of,
)
from toolbox.tasks.sem.verdict import MAIN_GROUP, Judgement

#: What is compared, in the order of tables and pictures.
METHODS = {
    "raw": "raw image",
    "gaussian": "Gaussian filter",
    "non_local_means": "non-local means",
    "restored": "restored",
}
#: Transfer of roughness below which, and above which, a wavelength counts as changed.
CHANGED = (0.5, 2.0)
#: Smallest density that a logarithm is taken of, nm³.
LEAST_DENSITY = 1e-12
#: Standard deviation, in steps of the frequency, of the smoothing of spectra.
_SMOOTHING = 3

Shape = Literal["lines", "discs"]


@dataclasses.dataclass
class Picture:
    """One test picture with all that is known of it; all arrays (H, W), grey values.

    Attributes
    ----------
    name, group : str
        File name; `MAIN_GROUP`, or the sweep that it belongs to.
    high : numpy.ndarray
        The picture of the long exposure, aligned.
    images : dict of str to numpy.ndarray
        The short exposure (``raw``) and what was made of it, by method.
    noise_free : numpy.ndarray, optional
        What a picture without noise looks like; only simulations know it.
    truth : (numpy.ndarray, numpy.ndarray), optional
        True left and right edges, (lines, H) pixels each.
    averages : dict of int to numpy.ndarray
        Averages of N frames of the same field.
    """

    name: str
    high: np.ndarray
    images: dict[str, np.ndarray]
    group: str = MAIN_GROUP
    noise_free: np.ndarray | None = None
    truth: tuple[np.ndarray, np.ndarray] | None = None
    averages: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)


class Traces(NamedTuple):
    """Edges of the lines of one picture, NaN where not found; (lines, H) in nm."""

    left_nm: np.ndarray
    right_nm: np.ndarray

    @property
    def width_nm(self) -> np.ndarray:
        """Widths (lines, H)."""
        return self.right_nm - self.left_nm

    @property
    def edges_nm(self) -> np.ndarray:
        """All edges (2 * lines, H)."""
        return np.concatenate([self.left_nm, self.right_nm])


@dataclasses.dataclass
class SemResults:
    """Everything that the report shows.

    Attributes
    ----------
    summary : dict
        What ``summary.json`` holds.
    per_picture : pandas.DataFrame
        A row for each picture and method.
    spectra : pandas.DataFrame
        Width spectra: ``frequency_per_nm``, ``truth`` and a column for each method, nm³.
    frames : pandas.DataFrame
        ``frames`` and ``edge_error_nm`` of averages of N frames; empty without such pictures.
    """

    summary: dict[str, Any]
    per_picture: pd.DataFrame
    spectra: pd.DataFrame
    frames: pd.DataFrame


class SemEvaluator:
    """Measures lines or discs in pictures, and compares methods.

    The reference of a width is the picture without noise, measured by the same criterion, if there
    is one, else the long exposure. The reference of roughness and of edges are the true edges if
    they are known, else those of the long exposure (whose own noise is taken off).

    Parameters
    ----------
    pixel_nm : float
        Size of a pixel; 1 if it is not known, and every nm is a pixel then.
    shape : {'lines', 'discs'}
        What is measured.
    threshold : float
        Edge criterion between local minimum (0) and maximum (1).
    tolerance_nm : float
        Largest change of CD that counts as harmless.
    unit : str
        What lengths are called in sentences: ``px`` if the size of a pixel is not known.
    """

    def __init__(
        self,
        pixel_nm: float,
        shape: Shape = "lines",
        threshold: float = 0.5,
        tolerance_nm: float = 0.5,
        unit: str = "nm",
    ) -> None:
        self.pixel_nm = pixel_nm
        self.shape = shape
        self.threshold = threshold
        self.tolerance_nm = tolerance_nm
        self.unit = unit

    def evaluate(self, pictures: Sequence[Picture]) -> SemResults:
        """Measure all pictures.

        Raises
        ------
        DataError
            If nothing can be measured in the references.
        """
        if self.shape == "discs":
            return self._discs(pictures)
        return self._lines(pictures)

    # -- lines -------------------------------------------------------------------------------------

    def _lines(self, pictures: Sequence[Picture]) -> SemResults:
        measured = [_LineMeasurement(self, picture) for picture in pictures]
        main = [m for m in measured if m.picture.group == MAIN_GROUP] or measured
        names = [name for name in METHODS if name in pictures[0].images]
        rows = [row for m in measured for row in m.rows(names)]
        per_picture = pd.DataFrame(rows)
        spectra = self._spectra(main, names)
        floor = 0.0
        truth = _pooled([m.reference for m in main], self.pixel_nm)
        found = {n: _pooled([m.traces.get(n) for m in main], self.pixel_nm) for n in names}
        noisy = main[0].picture.truth is None
        summary: dict[str, Any] = {f"true_{k}_nm": _figure(truth[k], noisy) for k in truth}
        if noisy and truth["lwr"] is not None and "truth" in spectra:
            floor = truth["lwr"].fit.floor_nm3
            spectra["truth"] = np.maximum(spectra["truth"] - floor, 1e-3 * floor)
        summary |= _roughness_figures(found, summary)
        summary["psd_fit"] = {
            n: None if (lwr := found[n]["lwr"]) is None else lwr.fit._asdict() for n in names
        }
        summary["psd_transfer"] = {n: _changed_wavelengths(spectra, n, floor) for n in names}
        errors = {n: _root_mean_square([m.edge_error(n) for m in main]) for n in names}
        if noisy and truth["ler"] is not None:
            # The long exposure has noise of its own, which is not the method's fault.
            own = truth["ler"].fit.floor_nm3 / self.pixel_nm
            errors = {n: _without(error, own) for n, error in errors.items()}
        summary["edge_error_nm"] = errors
        correlations = {n: [m.width_correlation(n) for m in main] for n in names}
        summary["width_correlation"] = {
            n: _mean([v for v in values if v is not None]) for n, values in correlations.items()
        }
        frames = self._frames(main)
        summary["equivalent_frames"] = {
            n: _equivalent_frames(errors[n], errors["raw"], frames) for n in names
        }
        known = per_picture["name"].isin(
            {m.picture.name for m in main if m.picture.truth is not None}
        )
        drawn = (per_picture["cd_nm"] - per_picture["true_cd_nm"])[known]
        summary["cd_bias_to_true_edges_nm"] = {
            n: _mean(drawn[per_picture["method"] == n].to_list()) for n in names
        }
        summary["criterion_offset_nm"] = _mean([m.criterion_offset() for m in main])
        return self._finished(summary, per_picture, spectra, frames, names)

    def traces(self, image: np.ndarray, lines: list[tuple[float, float]]) -> Traces | None:
        """Measure the lines of one image, None if it shows no clear edge."""
        try:
            edges = find_lines(image, self.threshold, lines)
        except DataError:
            return None
        return Traces(edges.left_px * self.pixel_nm, edges.right_px * self.pixel_nm)

    def _spectra(self, main: Sequence[_LineMeasurement], names: Sequence[str]) -> pd.DataFrame:
        rows = min(m.reference.left_nm.shape[1] for m in main)
        columns: dict[str, np.ndarray] = {}
        for name in ["truth", *names]:
            traces = [m.reference if name == "truth" else m.traces.get(name) for m in main]
            clear = _clear_rows([t.width_nm for t in traces if t is not None], rows)
            if len(clear):
                frequency, columns[name] = periodogram(clear, self.pixel_nm)
                columns["frequency_per_nm"] = frequency
        order = ["frequency_per_nm", "truth", *names]
        return pd.DataFrame({name: columns[name] for name in order if name in columns})

    def _frames(self, main: Sequence[_LineMeasurement]) -> pd.DataFrame:
        counts = sorted({count for m in main for count in m.picture.averages})
        rows = []
        for count in counts:
            errors = [
                m.edge_error_of(m.picture.averages[count])
                for m in main
                if count in m.picture.averages
            ]
            rows.append({"frames": count, "edge_error_nm": _root_mean_square(errors)})
        return pd.DataFrame(rows, columns=["frames", "edge_error_nm"]).dropna()

    # -- discs -------------------------------------------------------------------------------------

    def _discs(self, pictures: Sequence[Picture]) -> SemResults:
        names = [name for name in METHODS if name in pictures[0].images]
        rows: list[dict[str, Any]] = []
        for picture in pictures:
            for number, disc in enumerate(find_discs(picture.high)):
                reference = measure_disc(picture.high, disc, self.threshold)
                if reference is None:
                    continue
                for name in names:
                    found = measure_disc(picture.images[name], disc, self.threshold)
                    rows.append(self._disc_row(picture, number, name, reference, found))
        if not rows:
            raise DataError(
                "no disc of at least 12 pixels radius was found in the pictures of the long "
                "exposure. Measure lines (metrology: {shape: lines}) or use other pictures."
            )
        table = pd.DataFrame(rows)
        summary: dict[str, Any] = {}
        spread = {
            n: float(t["cd_bias_nm"].std())
            for n, t in table.groupby("method")
            if t["cd_bias_nm"].count() > 1
        }
        summary["edge_error_nm"] = {n: spread.get(n) for n in names}
        summary["equivalent_frames"] = {
            n: _equivalent_frames(spread.get(n), spread.get("raw"), pd.DataFrame()) for n in names
        }
        return self._finished(summary, table, pd.DataFrame(), pd.DataFrame(), names)

    def _disc_row(
        self, picture: Picture, number: int, method: str, reference: Disc, found: Disc | None
    ) -> dict[str, Any]:
        true = 2 * reference.radius_px * self.pixel_nm
        measured = np.nan if found is None else 2 * found.radius_px * self.pixel_nm
        return {
            "name": picture.name,
            "group": picture.group,
            "object": number,
            "method": method,
            "reference_cd_nm": true,
            "cd_nm": measured,
            "cd_bias_nm": measured - true,
        }

    # -- both --------------------------------------------------------------------------------------

    def _finished(
        self,
        summary: dict[str, Any],
        table: pd.DataFrame,
        spectra: pd.DataFrame,
        frames: pd.DataFrame,
        names: Sequence[str],
    ) -> SemResults:
        figures: dict[str, Any] = {"measured": self.shape, "n": int(table["name"].nunique())}
        figures |= {key: {} for key in ("cd_bias_nm", "cd_bias_ci95_nm", "cd_slope")}
        figures["cd_slope_ci95"] = {}
        for name in names:
            own = table[table["method"] == name]
            main = own[own["group"] == MAIN_GROUP] if (own["group"] == MAIN_GROUP).any() else own
            # Objects of one picture share its faults, so pictures are what is counted.
            by_picture = main.groupby("name")["cd_bias_nm"].mean()
            bias, ci95 = mean_and_ci95(by_picture.to_numpy(float))
            figures["cd_bias_nm"][name], figures["cd_bias_ci95_nm"][name] = bias, ci95
            slope, slope_ci95 = _slope(own, "true_cd_nm" if "true_cd_nm" in own else None)
            figures["cd_slope"][name], figures["cd_slope_ci95"][name] = slope, slope_ci95
        figures |= summary
        judgement = Judgement(figures, table, spectra, self.tolerance_nm, METHODS, self.unit)
        figures |= judgement.summary()
        return SemResults(figures, table, spectra, frames)


class _LineMeasurement:
    """All that is measured in one picture of lines."""

    def __init__(self, evaluator: SemEvaluator, picture: Picture) -> None:
        self.evaluator, self.picture = evaluator, picture
        clean = picture.high if picture.noise_free is None else picture.noise_free
        if picture.truth is not None:
            left, right = (edges * evaluator.pixel_nm for edges in picture.truth)
            self.reference = Traces(left, right)
            self.lines = [
                (float(a.mean()), float(b.mean())) for a, b in zip(*picture.truth, strict=True)
            ]
            self.clean = evaluator.traces(clean, self.lines)
        else:
            try:
                edges = find_lines(clean, evaluator.threshold)
            except DataError as error:
                raise DataError(
                    f"{picture.name}: {error} Set metrology.lines: horizontal or metrology.shape: "
                    f"discs if that is what it shows."
                ) from None
            left, right = edges.left_px[edges.clear], edges.right_px[edges.clear]
            self.lines = [
                (float(np.nanmean(a)), float(np.nanmean(b)))
                for a, b in zip(left, right, strict=True)
            ]
            scale = evaluator.pixel_nm
            self.reference = self.clean = Traces(left * scale, right * scale)
        if self.clean is None:
            raise DataError(
                f"{picture.name}: the reference picture shows no whole line with clear edges. "
                f"Lines must be bright and vertical: take a larger crop, invert the pictures, set "
                f"metrology.lines: horizontal, or metrology.shape: discs."
            )
        self.traces = {
            name: found
            for name, image in picture.images.items()
            if (found := evaluator.traces(image, self.lines)) is not None
        }

    def rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return a row of figures for each method."""
        return [self._row(name) for name in names]

    def _row(self, name: str) -> dict[str, Any]:
        assert self.clean is not None
        reference = float(np.nanmean(self.clean.width_nm))
        row: dict[str, Any] = {
            "name": self.picture.name,
            "group": self.picture.group,
            "method": name,
            "true_cd_nm": float(np.nanmean(self.reference.width_nm)),
            "reference_cd_nm": reference,
        }
        traces = self.traces.get(name)
        if traces is None:
            return {**row, "cd_nm": np.nan, "cd_bias_nm": np.nan, "lost_share": 1.0}
        known = np.isfinite(self.clean.width_nm)
        row["lost_share"] = float((known & ~np.isfinite(traces.width_nm)).sum() / known.sum())
        # A line that one of the two lacks would be compared with another.
        both = np.isfinite(traces.width_nm) & np.isfinite(self.clean.width_nm)
        if not both.any():
            return {**row, "cd_nm": np.nan, "cd_bias_nm": np.nan}
        bias = float(np.mean((traces.width_nm - self.clean.width_nm)[both]))
        figures = _pooled([traces], self.evaluator.pixel_nm)
        return {
            **row,
            "cd_nm": reference + bias,
            "cd_bias_nm": bias,
            "biased_lwr_nm": _figure(figures["lwr"], False),
            "unbiased_lwr_nm": _figure(figures["lwr"], True),
            "biased_ler_nm": _figure(figures["ler"], False),
            "unbiased_ler_nm": _figure(figures["ler"], True),
            "edge_error_nm": self.edge_error(name),
            "width_correlation": self.width_correlation(name),
        }

    def edge_error(self, name: str) -> float | None:
        """Return the root mean square distance of edges from the true ones, nm."""
        return self._error(self.traces.get(name))

    def edge_error_of(self, image: np.ndarray) -> float | None:
        """Return the same for another image of the field."""
        return self._error(self.evaluator.traces(image, self.lines))

    def _error(self, traces: Traces | None) -> float | None:
        if traces is None:
            return None
        error = traces.edges_nm - self.reference.edges_nm
        known = np.isfinite(error).any(axis=1)
        # The mean of an edge is the criterion's matter, not that of precision.
        error = error[known] - np.nanmean(error[known], axis=1, keepdims=True)
        return float(np.sqrt(np.nanmean(np.square(error)))) if known.any() else None

    def width_correlation(self, name: str) -> float | None:
        """Return how far the widths along a line follow the true ones, 1 if they do.

        Roughness of the right size but in other places, which a network may invent, has 0.
        """
        if name not in self.traces:
            return None
        measured, true = self.traces[name].width_nm, self.reference.width_nm
        both = np.isfinite(measured) & np.isfinite(true)
        found = []
        for a, b, known in zip(measured, true, both, strict=True):
            if known.sum() > 2 and np.std(a[known]) > 0 and np.std(b[known]) > 0:
                found.append(float(np.corrcoef(a[known], b[known])[0, 1]))
        return float(np.mean(found)) if found else None

    def criterion_offset(self) -> float:
        """Return CD by the criterion, without noise, minus CD as drawn, nm."""
        assert self.clean is not None
        return float(np.nanmean(self.clean.width_nm) - np.nanmean(self.reference.width_nm))


def _clear_rows(traces: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Join traces (lines, H), cut to the same number of rows; without those that are all NaN."""
    joined = np.concatenate([trace[:, :rows] for trace in traces]) if traces else np.empty((0, 0))
    return interpolate_missing(joined[np.isfinite(joined).any(axis=1)]) if joined.size else joined


def _pooled(traces: Sequence[Traces | None], step_nm: float) -> dict[str, Roughness | None]:
    """Measure LWR and LER over several pictures: mean spectrum, one fit."""
    known = [t for t in traces if t is not None]
    if not known:
        return {"lwr": None, "ler": None}
    rows = min(t.left_nm.shape[1] for t in known)
    result: dict[str, Roughness | None] = {}
    for kind in ("lwr", "ler"):
        clear = _clear_rows([t.width_nm if kind == "lwr" else t.edges_nm for t in known], rows)
        if not len(clear):
            result[kind] = None
            continue
        fit = fit_psd(*periodogram(clear, step_nm))
        result[kind] = roughness_of(clear.var(axis=1).mean(), fit, step_nm, rows)
    return result


def _roughness_figures(
    found: Mapping[str, Mapping[str, Roughness | None]], true: Mapping[str, Any]
) -> dict[str, Any]:
    """Return LWR and LER of each method, biased and unbiased, and their errors."""
    figures: dict[str, Any] = {}
    for kind in ("lwr", "ler"):
        for which in ("biased", "unbiased"):
            values = {n: _figure(r[kind], which == "unbiased") for n, r in found.items()}
            figures[f"{which}_{kind}_nm"] = values
            figures[f"{which}_{kind}_error_percent"] = {
                n: _percent(value, true[f"true_{kind}_nm"]) for n, value in values.items()
            }
    return figures


def _figure(roughness: Roughness | None, unbiased: bool) -> float | None:
    if roughness is None:
        return None
    return roughness.unbiased_nm if unbiased else roughness.biased_nm


def _percent(value: float | None, true: float | None) -> float | None:
    # Straight lines have a roughness of rounding errors, to which nothing can be compared.
    return None if value is None or not true or true < 1e-6 else 100 * (value / true - 1)


def _mean(values: Sequence[float]) -> float | None:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else None


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None


def mean_and_ci95(values: np.ndarray) -> tuple[float | None, float | None]:
    """Return the mean and half the width of its 95 % confidence interval (Student's t)."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    if len(values) == 1:
        return float(values[0]), None
    spread = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * spread)


def _slope(table: pd.DataFrame, column: str | None) -> tuple[float | None, float | None]:
    """Regress measured on true CD; None unless the true ones differ."""
    known = table.dropna(subset=["cd_nm"])
    true = known[column or "reference_cd_nm"].to_numpy(float)
    if len(true) < 3 or np.ptp(true) < 0.02 * np.mean(true):
        return None, None
    line = stats.linregress(true, known["cd_nm"].to_numpy(float))
    return float(line.slope), float(stats.t.ppf(0.975, len(true) - 2) * line.stderr)


def _equivalent_frames(
    error: float | None, raw: float | None, frames: pd.DataFrame
) -> float | None:
    """Return how many frames must be averaged for edges as precise as these.

    From measured averages where there are any (straight lines between the logarithms), else from
    the law that the error falls with the square root.
    """
    if error is None or raw is None or not error > 0:
        return None
    # Worse than the short exposure itself: less than one frame.
    if len(frames) < 2 or error > raw:
        return float((raw / error) ** 2)
    counts = np.log([1.0, *frames["frames"]])
    errors = np.log([raw, *frames["edge_error_nm"]])
    order = np.argsort(errors)
    # Beyond the best average nothing is known: its number is a lower bound.
    return float(np.exp(np.interp(np.log(error), errors[order], counts[order])))


def _without(error: float | None, variance: float) -> float | None:
    """Take the variance of the reference's own noise off an error."""
    return None if error is None else float(np.sqrt(max(error**2 - variance, 0.0)))


def smooth_density(density: np.ndarray) -> np.ndarray:
    """Smooth a spectral density over neighbouring frequencies, on a logarithmic scale."""
    logs = np.log(np.maximum(density, LEAST_DENSITY))
    return np.asarray(np.exp(ndimage.gaussian_filter1d(logs, _SMOOTHING)))


def _changed_wavelengths(
    spectra: pd.DataFrame, name: str, floor: float = 0.0
) -> dict[str, float | None]:
    """Return the longest wavelengths, nm, that a method erased or invented by a factor of two.

    Where the reference has more noise (`floor`) than roughness, nothing is known.
    """
    if name not in spectra or "truth" not in spectra:
        return {"erased_below_nm": None, "invented_below_nm": None}
    smooth = [smooth_density(spectra[column].to_numpy(float)) for column in (name, "truth")]
    known = spectra["truth"].to_numpy() > max(floor, 1e-12)
    transfer = np.where(known, smooth[0] / smooth[1], 1.0)
    wavelength = 1 / spectra["frequency_per_nm"].to_numpy()

    def first(mask: np.ndarray) -> float | None:
        return float(wavelength[np.argmax(mask)]) if mask.any() else None

    return {
        "erased_below_nm": first(transfer < CHANGED[0]),
        "invented_below_nm": first(transfer > CHANGED[1]),
    }
