"""Testing on SEM pictures: CD and roughness in nanometres beside plain filters."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from sr_trainer.sources import open_source
from sr_trainer.tester import RESULT_DIR, find_weights, normalizer_of, refuse_other_network
from sr_trainer.user_params import UserParams
from toolbox.errors import ConfigError, DataError
from toolbox.inference.super_resolver import SuperResolver, assemble
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.io.weights import load_weights
from toolbox.metric import SSIM_WINDOW, Metric
from toolbox.progress import progress
from toolbox.resample import enlarge
from toolbox.sem_report import print_sem_report, write_sem_report
from toolbox.tasks.sem.denoise import choose_filters
from toolbox.tasks.sem.evaluate import MAIN_GROUP, METHODS, Picture, SemEvaluator, SemResults
from toolbox.tasks.sem.frames import SEMFrame
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image

TRUTH_DIR, TRUTH_NAME, NOISE_FREE_DIR = "truth", "truth.csv", "noise_free"
#: Lines nearer to the border of a picture are not measured, pixels.
_MARGIN_PX = 3


class SemTester:
    """Tests a trained network on whole SEM pictures.

    Parameters
    ----------
    u_params : UserParams
        Settings, with ``source: sem``.
    split : {'test', 'validation', 'train'}
        The pictures that are meant.

    Attributes
    ----------
    normalizer : toolbox.normalizer.Normalizer
        As saved by the training.
    evaluator : toolbox.tasks.sem.evaluate.SemEvaluator
        Measures.
    """

    __test__ = False  # not a test, whatever pytest makes of the word

    def __init__(self, u_params: UserParams, split: str = "test") -> None:
        self.u_params = u_params
        self.split = split
        self.weights = find_weights(u_params)
        self.normalizer = normalizer_of(u_params, self.weights)
        self.source = open_source(u_params)
        settings = u_params.metrology
        self.pixel_nm = self.source.pixel_nm_of(split)
        self.evaluator = SemEvaluator(
            self.pixel_nm or 1.0, settings.shape, settings.threshold, settings.tolerance_nm
        )

    def test(self, model: keras.Model) -> dict[str, Any]:
        """Test `model` and write ``test_result/`` into the log folder.

        Parameters
        ----------
        model : keras.Model
            The network; its weights are read from the file that the settings name.

        Returns
        -------
        dict
            What ``summary.json`` holds.
        """
        self._load(model)
        filters = self._filters()
        pictures = self._pictures({name: function for name, (function, _) in filters.items()})
        results = self.evaluator.evaluate(pictures)
        quality = self._quality(pictures)
        results.summary = {
            **self._facts({name: text for name, (_, text) in filters.items()}),
            **_means(quality),
            **results.summary,
        }
        for note in self.source.notes:
            print(note)
        keys = ["name", "method"]
        results.per_picture = results.per_picture.merge(quality, on=keys, how="left")
        folder = self._write(results, pictures)
        print(print_sem_report(results.summary))
        print(f"report:   {folder / 'report.html'}")
        print(f"tables:   {folder / 'summary.json'} and {folder / 'pictures.csv'}")
        return results.summary

    def measure(self, model: keras.Model) -> dict[str, Any]:
        """Test `model` without writing anything; return the figures of ``summary.json``."""
        self._load(model)
        pictures = self._pictures({})
        means = _means(self._quality(pictures))
        return {**means, **self.evaluator.evaluate(pictures).summary}

    def _load(self, model: keras.Model) -> None:
        print(f"testing {self.weights}", flush=True)
        load_weights(model, self.weights)
        refuse_other_network(self.u_params, self.weights)
        if self.pixel_nm is None:
            print("WARNING: the pixel size is not known, so nm are pixels below. Set pixel_nm.")

    def _filters(self) -> dict[str, Any]:
        """Choose the plain filters on pictures that are not tested."""
        split = "validation" if self.split == "test" else "train"
        frames = self.source.frames(split)
        scale = self.u_params.scale
        return choose_filters(
            [_enlarged(frame.low, scale) for frame in frames],
            [frame.high for frame in frames],
            self.u_params.metrology.gaussian_px,
        )

    def _pictures(self, filters: dict[str, Callable[[np.ndarray], np.ndarray]]) -> list[Picture]:
        """Restore all pictures and gather what is known of them, lines vertical."""
        resolver = self._resolver()
        groups = self._groups()
        pictures = []
        for frame in progress(self.source.frames(self.split), "restoring", unit="picture"):
            raw = _enlarged(frame.low, self.u_params.scale)
            images = {"raw": raw, **{name: f(raw) for name, f in filters.items()}}
            images["restored"] = resolver.predict(frame.low)
            known = self._known(frame)
            turn = self._turned
            picture = Picture(
                name=frame.path.name,
                group=groups.get(frame.path.stem, MAIN_GROUP),
                high=turn(frame.high),
                images={name: turn(images[name]) for name in METHODS if name in images},
                noise_free=None if known.noise_free is None else turn(known.noise_free),
                truth=known.truth,
                averages={n: turn(image) for n, image in known.averages.items()},
            )
            pictures.append(picture)
        return pictures

    def _resolver(self) -> SuperResolver:
        config = self.u_params.resolved()
        return assemble(config, [self.weights], self.normalizer, Path(self.u_params.log_dir))

    def _turned(self, image: np.ndarray) -> np.ndarray:
        """Return an image whose lines are vertical."""
        return image.T if self.u_params.metrology.lines == "horizontal" else image

    def _groups(self) -> dict[str, str]:
        """Return the group of each picture by the stem of its name, as a simulation records it."""
        table = self.source.open(self.split).files[0].low.resolve().parents[1] / TRUTH_NAME
        if not table.is_file():
            return {}
        try:
            content = pd.read_csv(table, dtype={"name": str, "group": str})
            return dict(zip(content["name"], content["group"], strict=True))
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{table}: expected columns name and group; received {error}. Simulate again."
            ) from None

    def _known(self, frame: SEMFrame) -> Picture:
        """Return what a simulation knows of a picture: true edges, no noise, averages."""
        empty = np.empty((0, 0))
        known = Picture(frame.path.name, empty, {})
        # What is recorded lies in the coordinates of the low picture as it was taken.
        if self.u_params.scale != 1 or self.u_params.metrology.lines == "horizontal":
            return known
        if any(offset != int(offset) for offset in frame.offset_px):
            return known
        folder = frame.path.resolve().parents[1]
        row, column = (int(offset) for offset in frame.offset_px)
        height, width = frame.low.shape
        part = slice(row, row + height), slice(column, column + width)
        edges = folder / TRUTH_DIR / f"{frame.path.stem}.npz"
        if edges.is_file():
            known.truth = _true_edges(edges, part)
        free = folder / NOISE_FREE_DIR / frame.path.name
        if free.is_file():
            known.noise_free = _part_of(free, part)
        for other in sorted(folder.glob(f"average_*/{frame.path.name}")):
            count = other.parent.name.removeprefix("average_")
            if count.isdecimal():  # another folder is the user's own
                known.averages[int(count)] = _part_of(other, part)
        return known

    def _quality(self, pictures: list[Picture]) -> pd.DataFrame:
        """Return PSNR and SSIM of every picture and method against the long exposure."""
        low, span = self.normalizer.data_min, self.normalizer.data_range
        rows = []
        for picture in pictures:
            if min(picture.high.shape) < SSIM_WINDOW:
                raise ConfigError(
                    f"{picture.name}: pictures must be at least {SSIM_WINDOW} pixels wide for "
                    f"SSIM; received {picture.high.shape}. Use a larger crop."
                )
            truth = tf.constant(picture.high[None, ..., None] - low, tf.float32)
            for name, image in picture.images.items():
                seen = tf.constant(image[None, ..., None] - low, tf.float32)
                psnr = float(Metric.psnr(truth, seen, span)[0])
                ssim = float(Metric.ssim(truth, seen, span)[0])
                rows.append({"name": picture.name, "method": name, "psnr": psnr, "ssim": ssim})
        return pd.DataFrame(rows)

    def _facts(self, filters: dict[str, str]) -> dict[str, Any]:
        p = self.u_params
        return {
            "model": p.model,
            "weights": str(self.weights),
            "data_dir": p.data_dir,
            "scale": p.scale,
            "pixel_nm": self.pixel_nm,
            "threshold": p.metrology.threshold,
            "reference": _REFERENCES[p.metrology.shape],
            "filters": filters,
        }

    def _write(self, results: SemResults, pictures: list[Picture]) -> Path:
        """Replace the results of an earlier test as a whole, once the new ones are complete."""
        folder = Path(self.u_params.log_dir, RESULT_DIR)
        beside = folder.with_name(f".{RESULT_DIR}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        with replacing(beside / "summary.json") as path:
            path.write_text(json.dumps(results.summary, indent=2) + "\n", encoding="utf-8")
        write_table(results.per_picture, beside / "pictures.csv")
        if len(results.spectra):
            write_table(results.spectra, beside / "psd.csv")
        if len(results.frames):
            write_table(results.frames, beside / "frames.csv")
        self._save_restored(beside / "restored", pictures)
        pairs = pd.DataFrame(self.source.open(self.split).report())
        write_table(pairs, beside / "alignment.csv")
        facts = {key: str(results.summary[key]) for key in ("model", "weights", "data_dir")}
        write_sem_report(
            results,
            pictures,
            beside,
            {**facts, **results.summary["filters"]},
            nm=self.pixel_nm is not None,
            num_pictures=self.u_params.metrology.pictures,
        )
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
        return folder

    def _save_restored(self, folder: Path, pictures: list[Picture]) -> None:
        """Write the restored pictures as TIFF of the depth of the files."""
        low, high = self.source.norm_range
        kind = np.uint8 if high <= 255 else np.uint16
        for picture in pictures:
            grey = np.clip(np.rint(self._turned(picture.images["restored"])), low, high)
            path = folder / f"{Path(picture.name).stem}.tif"
            if path.exists():  # pictures that differ by their ending alone
                path = folder / f"{picture.name}.tif"
            write_sem_image(path, grey.astype(kind), self.pixel_nm)


_REFERENCES = {
    "lines": "widths: the picture without noise, else the long exposure, by the same criterion; "
    "roughness and edges: the true edges, else those of the long exposure",
    "discs": "diameters in the long exposure, by the same criterion",
}


def _means(quality: pd.DataFrame) -> dict[str, Any]:
    """Return mean PSNR and SSIM by method."""
    grouped = quality.groupby("method", sort=False)
    return {name: grouped[name].mean().to_dict() for name in ("psnr", "ssim")}


def _enlarged(low: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a picture (h, w) to the size of its partner."""
    if scale == 1:
        return low
    large: np.ndarray = enlarge(low[None, ..., None], scale)[0, ..., 0]
    return large


def _part_of(path: Path, part: tuple[slice, slice]) -> np.ndarray:
    """Read a part of a picture of the same field, float32."""
    pixels = read_sem_image(path).pixels
    height, width = (side.stop for side in part)
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise DataError(
            f"{path}: must show the field of the low picture of that name, at least {height} × "
            f"{width} pixels; received {pixels.shape[0]} × {pixels.shape[1]}. Remove it, or "
            f"simulate again."
        )
    return pixels[part].astype(np.float32)


def _true_edges(path: Path, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Read the true edges of the lines that lie wholly in a part of a picture."""
    rows, columns = part
    try:
        # Given a path, NumPy leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            left, right = content["left_px"], content["right_px"]
        fits = left.ndim == 2 and left.shape == right.shape and left.shape[1] >= rows.stop
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        fits = False
    if not fits:
        raise DataError(
            f"{path}: must hold left_px and right_px, a row of true edges for each line and at "
            f"least {rows.stop} columns; received other content. Remove it, or simulate again."
        )
    left, right = (edges[:, rows] - columns.start for edges in (left, right))
    last = columns.stop - columns.start - 1 - _MARGIN_PX
    whole = (left.min(axis=1) > _MARGIN_PX) & (right.max(axis=1) < last)
    return left[whole], right[whole]
