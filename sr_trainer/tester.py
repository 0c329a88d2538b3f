"""Testing: errors in metres beside bicubic, as tables, pictures and ``summary.json``."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from sr_trainer.sources import open_source
from sr_trainer.trainer import check_shape
from sr_trainer.user_params import CONFIG_NAME, UserParams
from toolbox.callbacks import PIXEL_WEIGHTS
from toolbox.config import read_yaml
from toolbox.data_generator import DataGenerator, complete_pairs
from toolbox.errors import ConfigError, DataError, WeightsError
from toolbox.evaluator import MEASURES, Evaluator, baselines, summarize
from toolbox.io.atomic import replacing
from toolbox.io.safe_pickle import save_array
from toolbox.io.tables import write_table
from toolbox.io.weights import load_weights
from toolbox.normalizer import FILE_NAME, MinMaxNormalizer, Normalizer, load_normalizer
from toolbox.plotter import METHODS
from toolbox.progress import progress
from toolbox.registry import MODELS
from toolbox.tasks.bathymetry.spectrum import high_frequency_energy, power_spectrum, radial_spectrum
from toolbox.tasks.bathymetry.terrain import (
    SLOPE_CLASSES,
    Spacing,
    class_name,
    feature_table,
    spacing_text,
)

RESULT_DIR = "test_result"
SLOPE = "mean_slope_gradient"


class Tester:
    """Tests a trained network on the test data that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    split : {'test', 'validation', 'train'}
        The data that are meant.

    Attributes
    ----------
    normalizer : toolbox.normalizer.Normalizer
        As saved by the training.
    test_data_generator : toolbox.data_generator.DataGenerator
        The test data.
    evaluator : toolbox.evaluator.Evaluator
        Measures and draws.
    """

    __test__ = False  # not a test, whatever pytest makes of the manual's name

    def __init__(self, u_params: UserParams, split: str = "test") -> None:
        self.u_params = u_params
        self.split = split
        self.weights = find_weights(u_params)
        self.normalizer = normalizer_of(u_params, self.weights)
        self.source = open_source(u_params)
        lr, hr = getattr(self.source, split)()
        check_shape(u_params, lr)
        self._whole = complete_pairs(lr, hr)
        self.test_data_generator = DataGenerator(
            lr, hr, self.normalizer.normalize_pair, u_params.batch_size, seed=u_params.seed
        )
        normalizer = self.normalizer
        self.evaluator = Evaluator(
            hr.shape[1:], normalizer.data_range, data_min=normalizer.data_min
        )

    def test(self, model: keras.Model, num_samples: int = 4) -> dict[str, Any]:
        """Test `model` and write ``test_result/`` into the log folder.

        Parameters
        ----------
        model : keras.Model
            The network; its weights are read from the file that the settings name. If
            ``weights_pixel.h5`` lies beside that file, it is tested too, as ``pixel_stage``;
            afterwards the weights that the settings name are in the model.
        num_samples : int
            Images in one picture.

        Returns
        -------
        dict
            What ``summary.json`` holds.
        """
        self._load(model)
        generator = self.test_data_generator
        lr, hr = generator.raw_lr_imgs, generator.raw_hr_imgs
        sr = self._super_resolve()
        predictions = {"sr": sr, **baselines(lr, self.u_params.scale), **self._pixel_stage(model)}
        tables = {name: self.evaluator.measure(hr, imgs) for name, imgs in predictions.items()}
        slopes = self._slopes(hr)
        folder = Path(self.u_params.log_dir, RESULT_DIR)
        # Results of an earlier test are replaced as a whole, once the new ones are complete.
        beside = folder.with_name(f".{RESULT_DIR}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        per_image = self._write_tables(beside, tables, slopes)
        energy = self._spectra(beside, hr, predictions)
        figures = summarize(hr, predictions, tables, slopes)
        summary = self._write_summary(beside, {**figures, "high_frequency_energy": energy})
        save_array(sr, beside / "data_SR.pkl")
        self.evaluator.plotter.plot_errors(summary, per_image, beside / "summary.png")
        self._draw(beside, predictions, tables, slopes, num_samples)
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
        _print_report(summary, folder)
        return summary

    def _load(self, model: keras.Model) -> None:
        print(f"testing {self.weights}", flush=True)
        load_weights(model, self.weights)
        refuse_other_network(self.u_params, self.weights)
        self.evaluator.model = model

    def measure(self, model: keras.Model) -> dict[str, Any]:
        """Test `model` without writing anything.

        Parameters
        ----------
        model : keras.Model
            The network; its weights are read from the file that the settings name.

        Returns
        -------
        dict
            ``n``, ``all`` and ``slope_classes`` of ``summary.json``, of ``sr`` alone.
        """
        self._load(model)
        hr, sr = self.test_data_generator.raw_hr_imgs, self._super_resolve()
        tables = {"sr": self.evaluator.measure(hr, sr)}
        return summarize(hr, {"sr": sr}, tables, self._slopes(hr))

    def _super_resolve(self) -> np.ndarray:
        lr = self.test_data_generator.raw_lr_imgs
        return self.evaluator.super_resolve(lr, self.normalizer, self.u_params.batch_size)

    def _pixel_stage(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Super-resolve with the weights before the adversarial stage, if they are there."""
        weights = self.weights.with_name(PIXEL_WEIGHTS)
        if not weights.is_file() or weights.samefile(self.weights):
            return {}
        print(f"testing {weights}", flush=True)
        try:
            load_weights(model, weights)
            return {"pixel_stage": self._super_resolve()}
        finally:
            load_weights(model, self.weights)

    def _spacing_m(self) -> Spacing | None:
        """Return the HR grid spacing in metres, None if the source does not know it."""
        if not hasattr(self.source, "spacing_m"):
            return None
        try:
            return self.source.spacing_m("HR")
        except DataError:
            return None

    def _spectra(
        self, folder: Path, hr: np.ndarray, predictions: dict[str, np.ndarray]
    ) -> dict[str, float | None]:
        """Draw the power spectra; return each method's energy above the LR Nyquist frequency."""
        known, scale = self._spacing_m(), self.u_params.scale
        spacing = 1.0 if known is None else known
        stacks = {"truth": hr, **predictions}
        spectra = {name: power_spectrum(imgs, spacing) for name, imgs in stacks.items()}
        radial = {name: radial_spectrum(power, spacing) for name, power in spectra.items()}
        self.evaluator.plotter.plot_spectrum(
            radial["truth"][0],
            {name: power for name, (_, power) in radial.items()},
            folder / "spectrum.png",
            nyquist=(0.5 / (scale * np.unique(spacing))).tolist(),
            unit="pixel" if known is None else "m",
        )
        truth = spectra.pop("truth")
        return {name: high_frequency_energy(truth, p, scale) for name, p in spectra.items()}

    def _slopes(self, hr: np.ndarray) -> np.ndarray:
        """Return the MSG of the test images, from the CSV beside them, else computed."""
        images = self.source.file(self.split, "HR")
        csv = images.with_suffix(".csv")
        if not csv.is_file():
            delta_m = self.source.spacing_m("HR")
            print(f"{csv} is missing; computing slopes at {spacing_text(delta_m)}")
            imgs = getattr(self.source, self.split)()[1]
            table = feature_table(imgs, delta_m, normalized_column=False)
            with contextlib.suppress(PermissionError):  # data on a read-only disk
                write_table(table, csv)
            return table[SLOPE].to_numpy()[self._whole]
        try:
            slopes = pd.read_csv(csv)[SLOPE].to_numpy(float)
        except (KeyError, ValueError, OSError) as error:
            raise DataError(f"{csv}: has no usable column {SLOPE} ({error}). Remove it.") from None
        if len(slopes) != len(self._whole):
            raise DataError(
                f"{csv}: expected a column {SLOPE} with {len(self._whole)} rows; received "
                f"{len(slopes)} rows. Remove the file or "
                f"run 'python -m sr_dataset_builder.bathymetric_map_feature {images}'."
            )
        return slopes[self._whole]

    def _write_tables(
        self, folder: Path, tables: dict[str, pd.DataFrame], slopes: np.ndarray
    ) -> pd.DataFrame:
        columns: dict[str, Any] = {"index": np.flatnonzero(self._whole), SLOPE: slopes}
        for name, table in tables.items():
            columns |= {f"{name}_{measure}": table[measure] for measure in MEASURES}
        per_image = pd.DataFrame(columns)
        write_table(per_image, folder / "test_results.csv")
        write_table(_describe(per_image), folder / "test_results_describe.csv", index=True)
        for low, high in SLOPE_CLASSES:
            chosen = per_image[(slopes >= low) & (slopes < high)]
            name = f"test_resultsslope{class_name(low, high)}_describe.csv"
            write_table(_describe(chosen), folder / name, index=True)
        return per_image

    def _write_summary(self, folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
        summary = {
            "model": self.u_params.model,
            "weights": str(self.weights),
            "data_dir": self.u_params.data_dir,
            "scale": self.u_params.scale,
            "data_range_m": self.normalizer.data_range,
            **figures,
        }
        with replacing(folder / "summary.json") as beside:
            beside.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        return summary

    def _draw(
        self,
        folder: Path,
        predictions: dict[str, np.ndarray],
        tables: dict[str, pd.DataFrame],
        slopes: np.ndarray,
        num_samples: int,
    ) -> None:
        generator = self.test_data_generator
        starts = np.arange(0, generator.num_imgs, num_samples)
        wanted = self.u_params.test_pictures
        if wanted is not None and wanted < len(starts):
            starts = starts[np.linspace(0, len(starts) - 1, wanted).astype(int)]
        for start in progress(starts, "pictures") if len(starts) else ():
            part = slice(start, min(start + num_samples, generator.num_imgs))
            numbers = np.flatnonzero(self._whole)[part]
            self.evaluator.draw(
                generator.raw_lr_imgs[part],
                generator.raw_hr_imgs[part],
                {name: imgs[part] for name, imgs in predictions.items()},
                {name: table[part] for name, table in tables.items()},
                folder / f"test_result_{numbers[0]}-{numbers[-1]}.png",
                [
                    f"{n}: slope {slopes[i]:.3f} m/m"
                    for n, i in zip(numbers, range(start, part.stop), strict=True)
                ],
            )


def find_weights(u_params: UserParams) -> Path:
    """Return the weights file to test: the one that the settings name, else the best of the run."""
    if u_params.fname_model_weights is not None:
        return Path(u_params.fname_model_weights)
    return Path(u_params.log_dir, u_params.read_test_weights)


def normalizer_of(u_params: UserParams, weights: Path) -> Normalizer:
    """Return the normaliser that the weights were trained with.

    It is saved beside them or in the log folder. Weights of the earlier program have none: they
    take the min-max normaliser of the settings.
    """
    if not weights.is_file():
        raise WeightsError(
            f"{weights}: no such weights file. Train first, or mend fname_model_weights or "
            f"read_test_weights."
        )
    for folder in (weights.parent, Path(u_params.log_dir)):
        if (folder / FILE_NAME).is_file():
            return load_normalizer(folder)
    if u_params.normalizer.name == "minmax" and u_params.norm_range is not None:
        low, high = u_params.norm_range
        print(f"{FILE_NAME} is missing beside {weights}; using norm_range {low:g} to {high:g}")
        return MinMaxNormalizer(low, high, low, high)
    raise DataError(
        f"{weights.parent / FILE_NAME}: no such file. Train first, or set norm_range and "
        f"normalizer: minmax for weights of the earlier program."
    )


def refuse_other_network(u_params: UserParams, weights: Path) -> None:
    """Refuse settings under which the weights would load but mean another network."""
    for folder in (weights.parent, Path(u_params.log_dir)):
        if (folder / CONFIG_NAME).is_file():
            break
    else:
        return
    if (folder / CONFIG_NAME).samefile(u_params.fname):
        return
    trained, asked = read_yaml(folder / CONFIG_NAME), u_params.resolved()
    shaping = MODELS.resolve(u_params.model).network_parameters()
    for content in (trained, asked):
        section = content.get(u_params.model) or {}
        content[u_params.model] = {key: section.get(key) for key in shaping}
    for key in ("model", "scale", "bicubic_skip", u_params.model):
        if trained.get(key) != asked.get(key):
            raise ConfigError(
                f"{u_params.fname}: {key} must be as in {folder / CONFIG_NAME}, with which "
                f"{weights.name} was trained: {trained.get(key)}; received {asked.get(key)}."
            )


def _describe(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="index").astype(float).describe()


def _print_report(summary: dict[str, Any], folder: Path) -> None:
    groups = {"all": summary["all"], **summary["slope_classes"]}
    methods = [method for method in METHODS if method in summary["all"]]
    print(f"\n{summary['n']} test images; errors in metres, PSNR for {summary['data_range_m']:g} m")
    head = f"{'slope':>10} {'n':>6}  {'method':<16}{'RMSE':>10}{'MAE':>10}{'bias':>10}{'95 %':>10}"
    print(f"{head}{'PSNR':>9}{'DSSIM':>9}  against bicubic")
    for name, group in groups.items():
        for method in methods if group["n"] else ():
            row = group[method]
            figures = "".join(f" {row[m]:9.3f}" for m in MEASURES[:4])
            reference = group["bicubic"]["rmse_m"]
            gain = f"{100 * (row['rmse_m'] / reference - 1):+.1f} % RMSE" if reference else ""
            print(
                f"{name:>10} {group['n']:6d}  {method:<16}{figures}{row['psnr']:9.2f}"
                f"{row['dssim']:9.5f}  {gain}"
            )
    energy = [(name, summary["high_frequency_energy"][name]) for name in methods]
    shares = [f"{name} {100 * share:.3g} %" for name, share in energy if share is not None]
    if shares:
        print(f"energy above the low-resolution Nyquist, of the truth's: {', '.join(shares)}")
    if summary["all"]["sr"]["rmse_m"] >= summary["all"]["bicubic"]["rmse_m"]:
        print("WARNING: super-resolution is no better than bicubic here; do not use this network.")
    images = " and test_result_*.png" if next(folder.glob("test_result_*.png"), None) else ""
    print(f"pictures: {folder / 'summary.png'}, spectrum.png{images}")
    print(f"tables:   {folder / 'summary.json'} and {folder / 'test_results.csv'}")
