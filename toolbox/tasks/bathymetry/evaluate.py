"""Errors in metres compared with bicubic: per image and slope class, in tables and a page."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.data_generator import complete_pairs, without_gaps
from toolbox.errors import ConfigError, DataError
from toolbox.evaluator import MEASURES, Evaluator, baselines, pooled
from toolbox.io.safe_pickle import save_array
from toolbox.io.tables import write_table
from toolbox.pages import Page
from toolbox.plotter import METHODS
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.spectrum import Spacing, high_frequency_energy, power_spectrum, radial_spectrum
from toolbox.style import Style
from toolbox.task import Source, TestResult, check_shape
from toolbox.tasks.bathymetry.calibration import IntervalTest, intervals_of
from toolbox.tasks.bathymetry.evaluation_report import Example, map_test_page, whole_regions
from toolbox.tasks.bathymetry.fidelity import Fidelity
from toolbox.tasks.bathymetry.source import SLOPE, PatchSource
from toolbox.tasks.bathymetry.terrain import SLOPE_CLASSES, class_name

#: Columns of tables and keys of the summary, by measure.
COLUMNS = {name: name if name in ("psnr", "dssim") else f"{name}_m" for name in MEASURES}


def slope_groups(slopes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return which images belong to each slope class; empty if the slopes are unknown.

    Parameters
    ----------
    slopes : numpy.ndarray or None, shape (N,)
        MSG of the HR images, m/m.
    """
    if slopes is None:
        return {}
    return {class_name(low, high): (slopes >= low) & (slopes < high) for low, high in SLOPE_CLASSES}


def summarize(
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    tables: Mapping[str, pd.DataFrame],
    slopes: np.ndarray | None,
    regions: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Pool the errors over all images, over each slope class and over each region.

    Parameters
    ----------
    truth : numpy.ndarray, shape (N, H, W, C)
        HR images, metres.
    predictions : dict of str to numpy.ndarray
        Enlarged images by method.
    tables : dict of str to pandas.DataFrame
        Results of `Evaluator.measure` by method.
    slopes : numpy.ndarray or None, shape (N,)
        MSG of the HR images, m/m; None if the grid spacing is unknown.
    regions : dict of str to numpy.ndarray, shape (N,), bool, optional
        Images of each region, for a data set of several regions.

    Returns
    -------
    dict
        ``n``, ``all``, ``slope_classes`` and ``regions``. RMSE, MAE, bias and the 95th percentile
        are pooled over pixels; PSNR and DSSIM are means over images. A class without images has
        ``n`` 0 and nulls.
    """
    errors = {name: (imgs - truth).reshape(len(truth), -1) for name, imgs in predictions.items()}

    def group(chosen: np.ndarray) -> dict[str, Any]:
        figures: dict[str, Any] = {"n": int(chosen.sum())}
        for name, error in errors.items():
            found = pooled(error[chosen], tables[name][chosen])
            figures[name] = {COLUMNS[key]: value for key, value in found.items()}
        return figures

    return {
        "n": len(truth),
        "all": group(np.ones(len(truth), bool)),
        "slope_classes": {name: group(mine) for name, mine in slope_groups(slopes).items()},
        "regions": {name: group(mine) for name, mine in (regions or {}).items()},
    }


class MapTest:
    """A test of an opened run on patches of sea floor.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : toolbox.task.Source
        The data; slopes and spectra in metres need a `PatchSource`.
    split : {'test', 'validation', 'train'}
        Part of the data.
    style : Style
        Unit and colours.
    """

    def __init__(self, run: Run, source: Source, split: str, style: Style) -> None:
        self.run, self.source, self.split, self.style = run, source, split, style
        lr, hr = source.split(split)
        check_shape(run.settings, lr.shape[1:])
        self.numbers = np.flatnonzero(complete_pairs(lr, hr))
        self.lr, self.hr = map(np.asarray, without_gaps(lr, hr, "pairs"))
        normalizer = run.normalizer
        self.evaluator = Evaluator(
            hr.shape[1:], normalizer.data_range, data_min=normalizer.data_min, style=style
        )

    def evaluate(self, compare: bool) -> TestResult:
        """Super-resolve and measure; with baselines and pictures if `compare`."""
        self.predictions = {"sr": self._super_resolved(self.run.resolver)}
        plain = baselines(self.lr, self.run.scale)
        if compare:
            self.predictions |= {**plain, **self._pixel_stage()}
        self.tables = {
            name: self.evaluator.measure(self.hr, imgs) for name, imgs in self.predictions.items()
        }
        self.slopes, self.regions = self._slopes(), self._regions()
        self.summary = {
            **self.run.facts(),
            "data_range_m": self.run.normalizer.data_range,
            **summarize(self.hr, self.predictions, self.tables, self.slopes, self.regions),
        }
        self.fidelity = Fidelity(
            self.hr,
            plain["back_projection"],
            self.predictions,
            self._spacing_m(),
            self.run.scale,
        )
        groups = slope_groups(self.slopes), self.regions
        self.summary["terrain"] = self.fidelity.summary(*groups)
        if not compare:
            return TestResult(self.summary, "", {}, self._draw)
        self.summary["high_frequency_energy"] = self._energy()
        self.intervals = self._interval_test()
        if self.intervals is not None:
            self.summary["intervals"] = self.intervals.summary(*groups)
        return TestResult(self.summary, summary_text(self.summary), {}, self._draw)

    def _super_resolved(self, resolver: Any) -> np.ndarray:
        result: np.ndarray = resolver.super_resolve(self.lr, self.run.settings.batch_size)
        return result

    def _pixel_stage(self) -> dict[str, np.ndarray]:
        """Super-resolve with the weights from before the adversarial stage, if they exist."""
        resolver = self.run.pixel_stage()
        return {} if resolver is None else {"pixel_stage": self._super_resolved(resolver)}

    def _spacing_m(self) -> Spacing | None:
        """Return the HR grid spacing in metres; None if the source does not state it."""
        if not isinstance(self.source, PatchSource):
            return None
        try:
            return self.source.spacing_m("HR")
        except DataError:
            return None

    def _slopes(self) -> np.ndarray | None:
        """Return the slopes of the complete test images; None if the spacing is unknown."""
        if not isinstance(self.source, PatchSource):
            return None
        return self.source.slopes(self.split)[self.numbers]

    def _interval_test(self) -> IntervalTest | None:
        """Test the intervals of a network for maps, if they can be calibrated."""
        if self.hr.shape[3] != 1 or not isinstance(self.source, PatchSource):
            return None
        try:
            intervals = intervals_of(self.run, self.source)
        except ConfigError as error:
            print(f"intervals are not tested: {error}")
            return None
        sr = self.predictions["sr"]
        return IntervalTest(intervals, self.lr[..., 0], self.hr[..., 0], sr[..., 0])

    def _regions(self) -> dict[str, np.ndarray]:
        """Return which images belong to each region, and to each map of a region of several."""
        names = self.source.regions(self.split) if isinstance(self.source, PatchSource) else None
        if names is None:
            return {}
        maps = names[self.numbers]
        regions = np.array([name.split("/")[0] for name in maps.tolist()])
        return {
            str(name): chosen == name for chosen in (regions, maps) for name in np.unique(chosen)
        }

    @functools.cached_property
    def _spectra(self) -> dict[str, np.ndarray]:
        """Return the power spectra of the truth and of each method, (H, W)."""
        spacing = self._spacing_m() or 1.0
        stacks = {"truth": self.hr, **self.predictions}
        return {name: power_spectrum(imgs, spacing) for name, imgs in stacks.items()}

    def _energy(self) -> dict[str, float | None]:
        """Return each method's energy above the LR Nyquist frequency, as a share of the truth's."""
        spectra = dict(self._spectra)
        truth = spectra.pop("truth")
        scale = self.run.scale
        return {name: high_frequency_energy(truth, p, scale) for name, p in spectra.items()}

    # -- Files -----------------------------------------------------------------------------------

    def _draw(self, folder: Path) -> Page:
        """Write tables and pictures; return the page."""
        per_image = self._write_tables(folder)
        pictures = {"spectrum.png": folder / "spectrum.png", "summary.png": folder / "summary.png"}
        self._draw_spectra(pictures["spectrum.png"])
        save_array(self.predictions["sr"], folder / "data_SR.pkl")
        self.evaluator.plotter.plot_errors(
            {"all": self.summary["all"], **self.summary["slope_classes"]},
            (per_image["bicubic_rmse_m"].to_numpy(), per_image["sr_rmse_m"].to_numpy()),
            pictures["summary.png"],
            COLUMNS["rmse"],
            self.style.unit,
            "mean slope gradient (m/m)",
        )
        self._draw_images(folder)
        return map_test_page(
            self.summary,
            per_image,
            pictures,
            self._examples(per_image),
            self.run.described(),
            self.style.unit,
            self._left(per_image),
        )

    def _write_tables(self, folder: Path) -> pd.DataFrame:
        columns: dict[str, Any] = {"index": self.numbers}
        if self.slopes is not None:
            columns[SLOPE] = self.slopes
        for name, table in self.tables.items():
            columns |= {f"{name}_{COLUMNS[m]}": table[m] for m in MEASURES}
        per_image = pd.DataFrame(columns)
        write_table(per_image, folder / "test_results.csv")
        _describe(per_image, folder / "test_results_describe.csv")
        terrain = self.fidelity.per_image()
        terrain.insert(0, "index", self.numbers)
        write_table(terrain, folder / "terrain.csv")
        for name, chosen in slope_groups(self.slopes).items():
            _describe(per_image[chosen], folder / f"test_resultsslope{name}_describe.csv")
        return per_image

    def _draw_spectra(self, path: Path) -> None:
        known = self._spacing_m()
        spacing = known or 1.0
        radial = {name: radial_spectrum(power, spacing) for name, power in self._spectra.items()}
        self.evaluator.plotter.plot_spectrum(
            radial["truth"][0],
            {name: power for name, (_, power) in radial.items()},
            path,
            nyquist=(0.5 / (self.run.scale * np.unique(spacing))).tolist(),
            unit="pixel" if known is None else "m",
            of=self.style.unit,
        )

    def _draw_images(self, folder: Path) -> None:
        count = len(self.lr)
        starts = np.arange(0, count, self.run.num_samples)
        wanted = self.run.settings.test_pictures
        if wanted is not None and wanted < len(starts):
            starts = starts[np.linspace(0, len(starts) - 1, wanted).astype(int)]
        for start in progress(starts, "pictures") if len(starts) else ():
            part = slice(start, min(start + self.run.num_samples, count))
            numbers = self.numbers[part]
            titles = [str(n) for n in numbers]
            if self.slopes is not None:
                titles = [
                    f"{n}: slope {slope:.3f} m/m"
                    for n, slope in zip(numbers, self.slopes[part], strict=True)
                ]
            self.evaluator.draw(
                self.lr[part],
                self.hr[part],
                {name: imgs[part] for name, imgs in self.predictions.items()},
                {name: table[part] for name, table in self.tables.items()},
                folder / f"test_result_{numbers[0]}-{numbers[-1]}.png",
                titles,
            )

    def _chosen(self, per_image: pd.DataFrame) -> dict[str, int]:
        """Choose the images with the least, the median and the greatest gain over bicubic."""
        if self.run.settings.test_pictures == 0:
            return {}
        gain = (per_image["sr_rmse_m"] / per_image["bicubic_rmse_m"]).to_numpy()
        order = np.argsort(-gain, kind="stable").tolist()
        places = {"least gain": order[0], "median": order[len(order) // 2], "most": order[-1]}
        return {f"{name}, test image {self.numbers[i]}": i for name, i in places.items()}

    def _left(self, per_image: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return where the truth of the median image left its interval."""
        median = list(self._chosen(per_image).items())[1:2]
        return {} if self.intervals is None else {t: self.intervals.left(i) for t, i in median}

    def _examples(self, per_image: pd.DataFrame) -> list[Example]:
        """Return the chosen images."""
        if self.hr.shape[3] not in (1, 3):
            return []  # images without a colour map are not drawn
        return [
            (
                title,
                self.lr[i],
                self.predictions["bicubic"][i],
                self.predictions["sr"][i],
                self.hr[i],
            )
            for title, i in self._chosen(per_image).items()
        ]


def _describe(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    write_table(table.drop(columns="index").astype(float).describe(), path, index=True)


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the figures of a test as a table for the terminal.

    Parameters
    ----------
    summary : dict
        Contents of ``summary.json``.
    """
    groups = {
        "all": summary["all"],
        **summary["slope_classes"],
        **whole_regions(summary["regions"]),
    }
    methods = [method for method in METHODS if method in summary["all"]]
    head = f"{'slope':>10} {'n':>6}  {'method':<16}{'RMSE':>10}{'MAE':>10}{'bias':>10}{'95 %':>10}"
    lines = [
        f"\n{summary['n']} test images; errors in metres, PSNR for {summary['data_range_m']:g} m",
        f"{head}{'PSNR':>9}{'DSSIM':>9}  against bicubic",
    ]
    for name, group in groups.items():
        for method in methods if group["n"] else ():
            row = group[method]
            figures = "".join(f" {row[COLUMNS[m]]:9.3f}" for m in MEASURES[:4])
            reference = group["bicubic"]["rmse_m"]
            gain = f"{100 * (row['rmse_m'] / reference - 1):+.1f} % RMSE" if reference else ""
            lines.append(
                f"{name:>10} {group['n']:6d}  {method:<16}{figures}{row['psnr']:9.2f}"
                f"{row['dssim']:9.5f}  {gain}"
            )
    energy = [(name, summary["high_frequency_energy"][name]) for name in methods]
    shares = [f"{name} {100 * share:.3g} %" for name, share in energy if share is not None]
    if shares:
        said = "energy above the Nyquist frequency of the input, as a share of the truth's"
        lines.append(f"{said}: {', '.join(shares)}")
    lines += _terrain_lines(summary["terrain"], methods)
    if "intervals" in summary:
        lines += _interval_lines(summary["intervals"])
    poor = [
        name
        for name, group in whole_regions(summary["regions"]).items()
        if group["sr"]["rmse_m"] >= group["bicubic"]["rmse_m"]
    ]
    if poor:
        lines.append(f"WARNING: super-resolution is no better than bicubic in {', '.join(poor)}.")
    if summary["all"]["sr"]["rmse_m"] >= summary["all"]["bicubic"]["rmse_m"]:
        lines.append(
            "WARNING: super-resolution is no better than bicubic here; do not use this network."
        )
    return "\n".join(lines)


def _interval_lines(intervals: Mapping[str, Any]) -> list[str]:
    """Tabulate the figures of the intervals, by slope class and by region."""
    classes = {f"slope {name}": row for name, row in intervals["slope_classes"].items()}
    groups = {"every image": intervals["all"], **classes, **whole_regions(intervals["regions"])}
    width = max(10, *(len(name) for name in groups))
    return [
        f"\nintervals, result ± a half-width, that should contain {100 * intervals['level']:g} % "
        f"of the truth",
        "coverage: share of the truth inside; score: mean width plus a penalty for truth outside, "
        "small is good; best constant: score of one fixed width for all pixels",
        f"{'':>{width}} {'n':>6}{'coverage':>11}{'mean width':>13}{'score (m)':>12}"
        f"{'best constant':>15}{'calibration error':>20}",
        *(
            f"{name:>{width}} {row['n']:6d}{100 * row['coverage']:9.1f} %"
            f"{row['mean_width_m']:11.3f} m{row['interval_score_m']:12.3f}"
            f"{row['constant_score_m']:15.3f}{row['calibration_error']:20.4f}"
            for name, row in groups.items()
            if row["n"]
        ),
    ]


def _terrain_lines(terrain: Mapping[str, Any], methods: Sequence[str]) -> list[str]:
    """Tabulate the detail and the landforms of each method over all images."""
    columns = {
        "improved_share": ("improved", 100),
        "omitted_share": ("omitted", 100),
        "hallucinated_share": ("invented", 100),
        "slope_rmse": ("slope", 1),
        "aspect_error_deg": ("aspect", 1),
        "line_error_m": ("lines", 1),
    }

    def figure(value: float | None, factor: int) -> str:
        return f"{'-':>10}" if value is None else f"{factor * value:>10.4g}"

    return [
        f"\ndetail of more than {terrain['noise_limit_m']:.3g} m (the noise of the truth), in per "
        f"cent of its pixels; errors of slope (m/m), aspect (degrees), ridges and channels (m)",
        f"{'method':<24}" + "".join(f"{name:>10}" for name, _ in columns.values()),
        *(
            f"{METHODS[method][0]:<24}"
            + "".join(figure(terrain["all"][method][k], f) for k, (_, f) in columns.items())
            for method in methods
        ),
    ]
