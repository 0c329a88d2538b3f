"""Evaluate restored pictures in nanometres: CD, roughness, spectrum; compare plain filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from toolbox.errors import DataError
from toolbox.tasks.sem.discs import Disc, find_discs, measure_disc
from toolbox.tasks.sem.metrology import Polarity, Roughness, TracePool, find_lines, spaces_of
from toolbox.tasks.sem.verdict import MAIN_GROUP, Judgement

#: The compared methods, in the order of tables and pictures.
METHODS = {
    "raw": "raw image",
    "gaussian": "Gaussian filter",
    "non_local_means": "non-local means",
    "restored": "restored",
}
#: Transfer of roughness below and above which a wavelength counts as changed.
CHANGED = (0.5, 2.0)
#: Smallest density before a logarithm is taken, nm³.
LEAST_DENSITY = 1e-12
#: Standard deviation of the smoothing of spectra, in frequency steps.
_SMOOTHING = 3

Shape = Literal["lines", "discs"]


class NothingToMeasure(DataError):
    """Raised if the reference of a picture shows nothing measurable."""


@dataclasses.dataclass
class Picture:
    """One test picture with its references; all images are grey values of shape (H, W).

    Attributes
    ----------
    name, group : str
        File name; `MAIN_GROUP`, or the sweep to which it belongs.
    high : numpy.ndarray
        The long exposure, aligned.
    images : dict of str to numpy.ndarray
        The short exposure (``raw``) and the results of the methods.
    noise_free : numpy.ndarray, optional
        The picture without noise; only simulations provide it.
    truth : (numpy.ndarray, numpy.ndarray), optional
        True left and right edges, (lines, H) pixels each.
    averages : dict of int to numpy.ndarray
        Averages of N frames of the same field.
    field : str
        Identifier of the place, equal for pictures of the same place; if empty, the name.
    """

    name: str
    high: np.ndarray
    images: dict[str, np.ndarray]
    group: str = MAIN_GROUP
    noise_free: np.ndarray | None = None
    truth: tuple[np.ndarray, np.ndarray] | None = None
    averages: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    field: str = ""


class Traces(NamedTuple):
    """Edges of the lines of one picture, shape (lines, H), nm; NaN where not found."""

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
        Content of ``summary.json``.
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

    The reference for widths is the picture without noise, measured by the same criterion, if there
    is one, otherwise the long exposure. The reference for roughness and edges are the true edges if
    known, otherwise those of the long exposure (minus its own noise).

    Parameters
    ----------
    pixel_nm : float
        Size of a pixel; 1 if unknown, and then all lengths in nm are in pixels.
    shape : {'lines', 'discs'}
        What is measured.
    threshold : float
        Edge criterion between local minimum (0) and maximum (1).
    tolerance_nm : float
        Largest change of CD that counts as harmless.
    unit : str
        Unit of lengths in sentences: ``px`` if the pixel size is unknown.
    polarity : {'auto', 'bright', 'dark'}
        Whether bright or dark lines or discs are measured. ``auto`` takes the kind of discs that
        the long exposures show more often.
    """

    def __init__(
        self,
        pixel_nm: float,
        shape: Shape = "lines",
        threshold: float = 0.5,
        tolerance_nm: float = 0.5,
        unit: str = "nm",
        polarity: Polarity = "auto",
    ) -> None:
        self.pixel_nm = pixel_nm
        self.shape = shape
        self.threshold = threshold
        self.tolerance_nm = tolerance_nm
        self.unit = unit
        self.polarity = polarity
        #: Polarity of the measured lines: with auto, that of the first picture.
        self.taken = polarity
        #: Field of each picture, by name.
        self._fields: dict[str, str] = {}
        #: Pictures whose references show nothing measurable.
        self._left_out: list[str] = []

    def evaluate(self, pictures: Iterable[Picture], rows: int | None = None) -> SemResults:
        """Measure all pictures one by one, without keeping them.

        Parameters
        ----------
        pictures : iterable of Picture
            Pictures, all with the same methods.
        rows : int, optional
            Height of the lowest picture of the main group, or of all pictures if there is no main
            group: spectra use this many rows of each picture. By default it is determined first,
            for which all pictures of lines are kept in memory.

        Raises
        ------
        DataError
            If nothing is measurable in any reference. Single pictures whose references show nothing
            measurable are left out (``left_out`` in the summary).
        """
        self._fields, self._left_out = {}, []
        if self.shape == "discs":
            return self._discs(pictures)
        if rows is None:
            pictures = list(pictures)
            main = [p for p in pictures if p.group == MAIN_GROUP] or pictures
            rows = min(len(picture.high) for picture in main)
        return self._lines(pictures, rows)

    # -- lines -------------------------------------------------------------------------------------

    def _lines(self, pictures: Iterable[Picture], rows: int) -> SemResults:
        self.taken = self.polarity
        every: list[_LineFigures] = []
        first_error: str | None = None
        # By whether pictures are of the main group.
        pools: dict[bool, _PoolsByMethod] = {True: {}, False: {}}
        for picture in pictures:
            self._fields[picture.name] = picture.field or picture.name
            try:
                every.append(self._line_figures(picture, pools[picture.group == MAIN_GROUP], rows))
            except NothingToMeasure as error:
                self._left_out.append(picture.name)
                first_error = first_error or str(error)
            del picture  # before the next one is made
        if not every:
            raise DataError(first_error or "there is no picture to measure")
        main = [figures for figures in every if figures.group == MAIN_GROUP] or every
        names = [name for name in METHODS if name in every[0].rows]
        per_picture = pd.DataFrame([row for figures in every for row in figures.rows.values()])
        pooled = pools[True] or pools[False]
        spectra = _spectra(pooled, names)
        floor = 0.0
        found = {
            n: {kind: pool.roughness() for kind, pool in pooled[n].items()}
            if n in pooled
            else dict.fromkeys(_KINDS)
            for n in ("truth", *names)
        }
        truth = found.pop("truth")
        noisy = not main[0].is_simulated
        summary: dict[str, Any] = {f"true_{k}_nm": _figure(truth[k], noisy) for k in truth}
        if noisy and truth["lwr"] is not None and "truth" in spectra:
            floor = truth["lwr"].fit.floor_nm3
            spectra["truth"] = np.maximum(spectra["truth"] - floor, 1e-3 * floor)
        summary["polarity"] = self.taken
        summary |= _roughness_figures(found, summary)
        summary["psd_fit"] = {
            n: None if (lwr := found[n]["lwr"]) is None else lwr.fit._asdict() for n in names
        }
        summary["psd_transfer"] = {n: _changed_wavelengths(spectra, n, floor) for n in names}
        errors = {n: _root_mean_square([m.edge_errors[n] for m in main]) for n in names}
        if noisy and truth["ler"] is not None:
            # The noise of the long exposure is not an error of the method.
            own = truth["ler"].fit.floor_nm3 / self.pixel_nm
            errors = {n: _without(error, own) for n, error in errors.items()}
        summary["edge_error_nm"] = errors
        correlations = {n: [m.correlations[n] for m in main] for n in names}
        summary["width_correlation"] = {
            n: _mean([v for v in values if v is not None]) for n, values in correlations.items()
        }
        frames = _frames(main)
        summary["equivalent_frames"] = {
            n: _equivalent_frames(errors[n], errors["raw"], frames) for n in names
        }
        known = per_picture["name"].isin({m.name for m in main if m.is_simulated})
        drawn = (per_picture["cd_nm"] - per_picture["true_cd_nm"])[known]
        summary["cd_bias_to_true_edges_nm"] = {
            n: _mean(drawn[per_picture["method"] == n].to_list()) for n in names
        }
        summary["criterion_offset_nm"] = _mean([m.criterion_offset_nm for m in main])
        return self._finished(summary, per_picture, spectra, frames, names)

    def _line_figures(self, picture: Picture, pools: _PoolsByMethod, rows: int) -> _LineFigures:
        """Measure one picture; add its edges to `pools` if it has at least `rows` rows."""
        measured = _LineMeasurement(self, picture)
        for name, traces in {"truth": measured.reference, **measured.traces}.items():
            pools.setdefault(name, _pools(rows, self.pixel_nm))
            # A lower picture belongs to a sweep; only the main group is pooled then.
            if traces.left_nm.shape[1] >= rows:
                for kind, pool in pools[name].items():
                    pool.add(_KINDS[kind](traces))
        return measured.figures([name for name in METHODS if name in picture.images])

    def traces(self, image: np.ndarray, lines: list[tuple[float, float]]) -> Traces | None:
        """Measure the lines of one image; return None if it shows no clear edge."""
        try:
            edges = find_lines(image, self.threshold, lines, polarity=self.taken)
        except DataError:
            return None
        return Traces(edges.left_px * self.pixel_nm, edges.right_px * self.pixel_nm)

    # -- discs -------------------------------------------------------------------------------------

    def _discs(self, pictures: Iterable[Picture]) -> SemResults:
        sought = ("bright", "dark") if self.polarity == "auto" else (self.polarity,)
        every: dict[str, list[dict[str, Any]]] = {polarity: [] for polarity in sought}
        for picture in pictures:
            self._fields[picture.name] = picture.field or picture.name
            for polarity, rows in every.items():
                rows += self._disc_rows(picture, polarity == "dark")
            del picture  # before the next one is made
        taken = max(every, key=lambda polarity: len(every[polarity]))
        if not every[taken]:
            raise DataError(
                f"no {'' if self.polarity == 'auto' else f'{taken} '}disc with a radius of at "
                f"least 12 pixels was found in the long exposures. Measure lines (metrology: "
                f"{{shape: lines}}), set metrology.polarity, or use other pictures."
            )
        table = pd.DataFrame(every[taken])
        shown = set(table["name"])
        self._left_out = [name for name in self._fields if name not in shown]
        names = [name for name in METHODS if (table["method"] == name).any()]
        counts = {polarity: len(rows) // len(names) for polarity, rows in every.items()}
        summary: dict[str, Any] = {"polarity": taken, "discs_found": counts}
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

    def _disc_rows(self, picture: Picture, dark: bool) -> list[dict[str, Any]]:
        """Measure the bright or the dark discs of one picture for every method."""
        rows = []
        for number, disc in enumerate(find_discs(picture.high, dark=dark)):
            reference = measure_disc(picture.high, disc, self.threshold)
            if reference is None:
                continue
            for name in (name for name in METHODS if name in picture.images):
                found = measure_disc(picture.images[name], disc, self.threshold)
                rows.append(self._disc_row(picture, number, name, reference, found))
        return rows

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
        names_seen = list(table["name"].unique())
        num_fields = len({self._fields[name] for name in names_seen})
        figures: dict[str, Any] = {"measured": self.shape, "n": len(names_seen)}
        figures |= {"fields": num_fields, "left_out": self._left_out}
        figures |= {key: {} for key in ("cd_bias_nm", "cd_bias_ci95_nm", "cd_slope")}
        figures["cd_slope_ci95"] = {}
        for name in names:
            own = table[table["method"] == name]
            main = own[own["group"] == MAIN_GROUP] if (own["group"] == MAIN_GROUP).any() else own
            # Objects of one picture share its errors, and pictures of one field those of the
            # field: only the noise differs. Therefore fields are counted.
            by_picture = main.groupby("name")["cd_bias_nm"].mean()
            by_field = by_picture.groupby(self._fields.__getitem__).mean()
            bias, ci95 = mean_and_ci95(by_field.to_numpy(float))
            figures["cd_bias_nm"][name], figures["cd_bias_ci95_nm"][name] = bias, ci95
            column = "true_cd_nm" if "true_cd_nm" in own else "reference_cd_nm"
            slope, slope_ci95 = _slope(own, column, num_fields / len(names_seen))
            figures["cd_slope"][name], figures["cd_slope_ci95"][name] = slope, slope_ci95
        figures |= summary
        judgement = Judgement(
            figures, table, spectra, self.tolerance_nm, METHODS, self.unit, self._fields
        )
        figures |= judgement.summary()
        return SemResults(figures, table, spectra, frames)


class _LineFigures(NamedTuple):
    """Figures of one picture of lines; None for unknown ones and methods without edges.

    Attributes
    ----------
    name, group : str
        See `Picture`.
    is_simulated : bool
        Whether its true edges are known.
    rows : dict of str to dict
        Rows of the table, by method.
    edge_errors, correlations : dict of str to float
        Edge error in nm, and correlation of widths with the true ones, by method.
    average_errors : dict of int to float
        Edge error of averages in nm, by the number of frames.
    criterion_offset_nm : float
        CD by the criterion, without noise, minus CD as drawn.
    """

    name: str
    group: str
    is_simulated: bool
    rows: dict[str, dict[str, Any]]
    edge_errors: dict[str, float | None]
    correlations: dict[str, float | None]
    average_errors: dict[int, float | None]
    criterion_offset_nm: float


class _LineMeasurement:
    """The edges in all images of one picture of lines."""

    def __init__(self, evaluator: SemEvaluator, picture: Picture) -> None:
        self.evaluator, self.picture = evaluator, picture
        clean = picture.high if picture.noise_free is None else picture.noise_free
        if picture.truth is not None:
            # Simulations record bright lines.
            evaluator.taken = "dark" if evaluator.taken == "dark" else "bright"
            truth = spaces_of(*picture.truth) if evaluator.taken == "dark" else picture.truth
            left, right = (edges * evaluator.pixel_nm for edges in truth)
            self.reference = Traces(left, right)
            self.lines = [(float(a.mean()), float(b.mean())) for a, b in zip(*truth, strict=True)]
            self.clean = evaluator.traces(clean, self.lines)
        else:
            try:
                edges = find_lines(clean, evaluator.threshold, polarity=evaluator.taken)
            except DataError as error:
                raise NothingToMeasure(
                    f"{picture.name}: {error} Set metrology.lines, metrology.polarity or "
                    f"metrology.shape to what the picture shows."
                ) from None
            # The polarity of the first picture is used for all.
            evaluator.taken = edges.polarity
            left, right = edges.left_px[edges.clear], edges.right_px[edges.clear]
            self.lines = [
                (float(np.nanmean(a)), float(np.nanmean(b)))
                for a, b in zip(left, right, strict=True)
            ]
            scale = evaluator.pixel_nm
            self.reference = self.clean = Traces(left * scale, right * scale)
        if self.clean is None:
            raise NothingToMeasure(
                f"{picture.name}: the reference picture shows no whole line with clear edges. "
                f"Use a larger crop, or set metrology.lines, metrology.polarity or "
                f"metrology.shape to what the picture shows."
            )
        self.traces = {
            name: found
            for name, image in picture.images.items()
            if (found := evaluator.traces(image, self.lines)) is not None
        }

    def figures(self, names: Sequence[str]) -> _LineFigures:
        """Return the figures of some methods; the images are no longer needed afterwards."""
        return _LineFigures(
            self.picture.name,
            self.picture.group,
            self.picture.truth is not None,
            {name: self._row(name) for name in names},
            {name: self._error(self.traces.get(name)) for name in names},
            {name: self._width_correlation(name) for name in names},
            {
                count: self._error(self.evaluator.traces(image, self.lines))
                for count, image in self.picture.averages.items()
            },
            self._criterion_offset_nm(),
        )

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
        # A line that is missing in one of the two would be compared with another line.
        both = np.isfinite(traces.width_nm) & np.isfinite(self.clean.width_nm)
        if not both.any():
            return {**row, "cd_nm": np.nan, "cd_bias_nm": np.nan}
        bias = float(np.mean((traces.width_nm - self.clean.width_nm)[both]))
        pools = _pools(traces.left_nm.shape[1], self.evaluator.pixel_nm)
        for kind, pool in pools.items():
            pool.add(_KINDS[kind](traces))
        figures = {kind: pool.roughness() for kind, pool in pools.items()}
        return {
            **row,
            "cd_nm": reference + bias,
            "cd_bias_nm": bias,
            "biased_lwr_nm": _figure(figures["lwr"], False),
            "unbiased_lwr_nm": _figure(figures["lwr"], True),
            "biased_ler_nm": _figure(figures["ler"], False),
            "unbiased_ler_nm": _figure(figures["ler"], True),
            "edge_error_nm": self._error(traces),
            "width_correlation": self._width_correlation(name),
        }

    def _error(self, traces: Traces | None) -> float | None:
        """Return the root mean square distance of the edges from the true ones, nm."""
        if traces is None:
            return None
        error = traces.edges_nm - self.reference.edges_nm
        known = np.isfinite(error).any(axis=1)
        # The mean of an edge depends on the criterion, not on the precision.
        error = error[known] - np.nanmean(error[known], axis=1, keepdims=True)
        return float(np.sqrt(np.nanmean(np.square(error)))) if known.any() else None

    def _width_correlation(self, name: str) -> float | None:
        """Return the correlation of the widths along a line with the true ones.

        Roughness of the right size at the wrong places, which a network may invent, gives 0.
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

    def _criterion_offset_nm(self) -> float:
        """Return CD by the criterion, without noise, minus CD as drawn."""
        assert self.clean is not None
        return float(np.nanmean(self.clean.width_nm) - np.nanmean(self.reference.width_nm))


#: Traces for LWR and LER.
_KINDS: dict[str, Callable[[Traces], np.ndarray]] = {
    "lwr": lambda traces: traces.width_nm,
    "ler": lambda traces: traces.edges_nm,
}
_PoolsByMethod = dict[str, dict[str, TracePool]]


def _pools(rows: int, step_nm: float) -> dict[str, TracePool]:
    """Return empty pools of widths and edges."""
    return {kind: TracePool(rows, step_nm) for kind in _KINDS}


def _spectra(pools: _PoolsByMethod, names: Sequence[str]) -> pd.DataFrame:
    """Tabulate the spectra of widths for the truth and each method."""
    columns: dict[str, np.ndarray] = {}
    for name in (name for name in ("truth", *names) if name in pools):
        spectrum = pools[name]["lwr"].spectrum()
        if spectrum is not None:
            columns["frequency_per_nm"], columns[name] = spectrum
    return pd.DataFrame(columns)


def _frames(main: Sequence[_LineFigures]) -> pd.DataFrame:
    """Tabulate the edge error of averages by their number of frames."""
    counts = sorted({count for figures in main for count in figures.average_errors})
    rows = []
    for count in counts:
        errors = [m.average_errors[count] for m in main if count in m.average_errors]
        rows.append({"frames": count, "edge_error_nm": _root_mean_square(errors)})
    return pd.DataFrame(rows, columns=["frames", "edge_error_nm"]).dropna()


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
    # The roughness of straight lines is rounding errors and no reference.
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


def _slope(
    table: pd.DataFrame, column: str, independent: float = 1.0
) -> tuple[float | None, float | None]:
    """Regress measured on true CD, a share of which is independent; None unless they differ."""
    known = table.dropna(subset=["cd_nm"])
    true = known[column].to_numpy(float)
    if len(true) < 3 or np.ptp(true) < 0.02 * np.mean(true):
        return None, None
    line = stats.linregress(true, known["cd_nm"].to_numpy(float))
    count = independent * len(true)
    if count <= 2:
        return float(line.slope), None
    error = line.stderr * np.sqrt(len(true) / count)
    return float(line.slope), float(stats.t.ppf(0.975, count - 2) * error)


def _equivalent_frames(
    error: float | None, raw: float | None, frames: pd.DataFrame
) -> float | None:
    """Return how many frames must be averaged for edges as precise as these.

    It is interpolated between measured averages (linear in the logarithms) if there are any,
    otherwise computed by the square-root law.
    """
    if error is None or raw is None or not error > 0:
        return None
    # Worse than the short exposure itself: less than one frame.
    if len(frames) < 2 or error > raw:
        return float((raw / error) ** 2)
    counts = np.log([1.0, *frames["frames"]])
    errors = np.log([raw, *frames["edge_error_nm"]])
    order = np.argsort(errors)
    # Nothing is known beyond the best average: its number is a lower bound.
    return float(np.exp(np.interp(np.log(error), errors[order], counts[order])))


def _without(error: float | None, variance: float) -> float | None:
    """Subtract the variance of the reference's own noise from an error."""
    return None if error is None else float(np.sqrt(max(error**2 - variance, 0.0)))


def smooth_density(density: np.ndarray) -> np.ndarray:
    """Smooth the logarithm of a spectral density over neighbouring frequencies."""
    logs = np.log(np.maximum(density, LEAST_DENSITY))
    return np.asarray(np.exp(ndimage.gaussian_filter1d(logs, _SMOOTHING)))


def _changed_wavelengths(
    spectra: pd.DataFrame, name: str, floor: float = 0.0
) -> dict[str, float | None]:
    """Return the longest wavelengths that a method erased or invented by a factor of two, nm.

    Wavelengths at which the reference has more noise (`floor`) than roughness do not count.
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
