"""A test on SEM pictures: CD and roughness in nanometres, compared with plain filters."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from toolbox.errors import ConfigError, DataError
from toolbox.metric import SSIM_WINDOW, Metric
from toolbox.pages import Page
from toolbox.progress import progress
from toolbox.resample import enlarge
from toolbox.run import Run
from toolbox.task import TestResult
from toolbox.tasks.sem.denoise import PICTURES, choose_filters
from toolbox.tasks.sem.evaluate import METHODS, Picture, SemEvaluator, SemResults
from toolbox.tasks.sem.frames import SEMFrame, SEMFrames
from toolbox.tasks.sem.metrology import direction_of, find_lines
from toolbox.tasks.sem.predict import restored_by
from toolbox.tasks.sem.report import print_sem_report, sem_page
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image
from toolbox.tasks.sem.settings import MetrologyParams
from toolbox.tasks.sem.source import SEMSource
from toolbox.tasks.sem.verdict import MAIN_GROUP

Filters = Mapping[str, Callable[[np.ndarray], np.ndarray]]
TRUTH_DIR, TRUTH_NAME, NOISE_FREE_DIR = "truth", "truth.csv", "noise_free"
#: Lines nearer to the border of a picture than this are not measured, pixels.
_MARGIN_PX = 3
#: Number of pixels for which SSIM is computed at once.
_SSIM_PIXELS = 2**19


class SemTest:
    """A test of an opened run on whole SEM pictures, with one of them in memory at a time.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : SEMSource
        The pictures.
    split : {'test', 'validation', 'train'}
        Which of them.
    """

    def __init__(self, run: Run, source: SEMSource, split: str) -> None:
        self.run, self.source, self.split = run, source, split
        self.settings: MetrologyParams = run.settings.metrology  # type: ignore[attr-defined]
        self.pixel_nm = source.pixel_nm_of(split)
        self.evaluator = SemEvaluator(
            self.pixel_nm or 1.0,
            self.settings.shape,
            self.settings.threshold,
            self.settings.tolerance_nm,
            "px" if self.pixel_nm is None else "nm",
            self.settings.polarity,
        )
        opened = source.open(split)
        if any(opened.lone):
            raise DataError(
                f"{opened.files[opened.lone.index(True)].low}: has one frame only, which leaves no "
                f"reference for the restored picture. Test stacks of two frames or more, or pairs."
            )
        if self.pixel_nm is None:
            print("WARNING: the pixel size is not known; below, nm means pixels. Set pixel_nm.")

    @property
    def _opened(self) -> SEMFrames:
        return self.source.open(self.split, in_memory=False)

    def evaluate(self, compare: bool) -> TestResult:
        """Restore and measure all pictures; if `compare`, with plain filters and pictures."""
        chosen = self._filters() if compare else {}
        filters = {name: function for name, (function, _) in chosen.items()}
        rows: list[dict[str, Any]] = []
        pictures = self._pictures(filters, rows, self.run.result_dir if compare else None)
        with contextlib.closing(pictures):  # or an error leaves the progress bar open
            results = self.evaluator.evaluate(pictures, self._least_rows())
        left_out = results.summary["left_out"]
        quality = pd.DataFrame([row for row in rows if row["name"] not in left_out])
        results.summary = {
            **(self._facts({n: text for n, (_, text) in chosen.items()}) if compare else {}),
            **_means(quality),
            **results.summary,
        }
        keys = ["name", "method"]
        results.per_picture = results.per_picture.merge(quality, on=keys, how="left")
        tables = {"pictures.csv": results.per_picture}
        if len(results.spectra):
            tables["psd.csv"] = results.spectra
        if len(results.frames):
            tables["frames.csv"] = results.frames
        tables["alignment.csv"] = pd.DataFrame(self._opened.report())
        return TestResult(
            results.summary,
            print_sem_report(results.summary) if compare else "",
            tables,
            lambda folder: self._draw(folder, results, filters),
        )

    def _draw(self, folder: Path, results: SemResults, filters: Filters) -> Page:
        """Draw the charts and some pictures, which are restored again."""
        labels = [files.labels[0] for files in self._opened.files]
        pictures = {
            label: functools.partial(self._picture, number, filters)
            for number, label in enumerate(labels)
            if label not in results.summary["left_out"]
        }
        facts = {key: str(results.summary[key]) for key in ("model", "weights", "data_dir")}
        return sem_page(
            results,
            pictures,
            folder,
            {**facts, **results.summary["filters"]},
            nm=self.pixel_nm is not None,
            num_pictures=self.settings.pictures,
        )

    def _filters(self) -> dict[str, Any]:
        """Choose the plain filters on pictures that are not in the test."""
        split = "validation" if self.split == "test" else "train"
        whole, lone = self.source.frames(split), self.source.open(split).lone
        frames = [whole[n] for n in range(len(lone)) if not lone[n]][:PICTURES]
        if not frames:  # no reference for choosing their strength
            return {}
        scale = self.run.scale
        return choose_filters(
            [_enlarged(frame.low, scale) for frame in frames],
            [frame.high for frame in frames],
            self.settings.gaussian_px,
        )

    def _pictures(
        self, filters: Filters, rows: list[dict[str, Any]], folder: Path | None
    ) -> Generator[Picture, None, None]:
        """Restore pictures one by one; add PSNR and SSIM to `rows`, write results to `folder`."""
        count = len(self._opened)
        for number in progress(range(count), "restoring", unit="picture"):
            picture = self._picture(number, filters)
            rows += self._quality(picture)
            if folder is not None:
                self._save_restored(folder / "restored", picture)
            yield picture
            del picture  # before the next one is made

    def _picture(self, number: int, filters: Filters) -> Picture:
        """Restore one picture and collect its references, turned to vertical lines."""
        frame = self.source.frames(self.split)[number]
        raw = _enlarged(frame.low, self.run.scale)
        images = {"raw": raw, **{name: f(raw) for name, f in filters.items()}}
        images["restored"] = self.run.resolver.predict(frame.low)
        known = self._known(frame)
        turn = self._turned
        return Picture(
            name=frame.label,
            group=self._groups.get(frame.path.stem, MAIN_GROUP),
            high=turn(frame.high),
            images={name: turn(images[name]) for name in METHODS if name in images},
            noise_free=None if known.noise_free is None else turn(known.noise_free),
            truth=known.truth,
            averages={n: turn(image) for n, image in known.averages.items()},
            field=self._opened.fields()[number],
        )

    def _least_rows(self) -> int:
        """Return the height of the lowest picture of the main group, with vertical lines."""
        opened = self._opened
        axis = 1 if self._is_horizontal else 0
        sides = [
            (self._groups.get(files.low.stem, MAIN_GROUP), region[axis].stop - region[axis].start)
            for files, region in zip(opened.files, opened.regions, strict=True)
        ]
        main = [side for group, side in sides if group == MAIN_GROUP]
        return self.run.scale * min(main or [side for _, side in sides])

    @functools.cached_property
    def _is_horizontal(self) -> bool:
        """Whether lines are horizontal; with ``auto``, in the first picture that shows lines."""
        if self.settings.shape == "discs" or self.settings.lines == "vertical":
            return False
        if self.settings.lines == "horizontal":
            return True
        frames, options = self.source.frames(self.split), self.settings
        for frame in frames:
            is_horizontal = direction_of(frame.high) == "horizontal"
            image = frame.high.T if is_horizontal else frame.high
            with contextlib.suppress(DataError):
                find_lines(image, options.threshold, polarity=options.polarity)
                return is_horizontal
        return direction_of(frames[0].high) == "horizontal"

    def _turned(self, image: np.ndarray) -> np.ndarray:
        """Return an image, transposed if its lines are horizontal."""
        return image.T if self._is_horizontal else image

    @functools.cached_property
    def _groups(self) -> dict[str, str]:
        """Groups that a simulation recorded, by the stem of the picture's name."""
        table = self._opened.files[0].low.resolve().parents[1] / TRUTH_NAME
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
        """Return the references of a simulation: true edges, noise-free picture, averages."""
        empty = np.empty((0, 0))
        known = Picture(frame.label, empty, {})
        # Records are in the coordinates of the low picture, neither moved nor turned.
        if self.run.scale != 1 or self._is_horizontal:
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
            if count.isdecimal():  # other folders belong to the user
                known.averages[int(count)] = _part_of(other, part)
        return known

    def _quality(self, picture: Picture) -> list[dict[str, Any]]:
        """Return PSNR and SSIM of each method against the long exposure."""
        low, span = self.run.normalizer.data_min, self.run.normalizer.data_range
        if min(picture.high.shape) < SSIM_WINDOW:
            raise ConfigError(
                f"{picture.name}: pictures must be at least {SSIM_WINDOW} pixels high and wide for "
                f"SSIM; received {picture.high.shape}. Use a larger crop."
            )
        truth = tf.constant(picture.high[None, ..., None] - low, tf.float32)
        rows = []
        for name, image in picture.images.items():
            seen = tf.constant(image[None, ..., None] - low, tf.float32)
            psnr, ssim = float(Metric.psnr(truth, seen, span)[0]), _ssim(truth, seen, span)
            rows.append({"name": picture.name, "method": name, "psnr": psnr, "ssim": ssim})
        return rows

    def _facts(self, filters: dict[str, str]) -> dict[str, Any]:
        return {
            **self.run.facts(),
            "pixel_nm": self.pixel_nm,
            "threshold": self.settings.threshold,
            "reference": _REFERENCES[self.settings.shape],
            "filters": filters,
        }

    def _save_restored(self, folder: Path, picture: Picture) -> None:
        """Write a restored picture as a TIFF with the depth of the files."""
        low, high = self.source.norm_range
        kind = np.uint8 if high <= 255 else np.uint16
        grey = np.clip(np.rint(self._turned(picture.images["restored"])), low, high)
        path = folder / _restored_name(picture.name)
        if path.exists():  # pictures that differ only by their ending
            path = folder / f"{picture.name}.tif"
        write_sem_image(path, grey.astype(kind), self.pixel_nm, restored_by(self.run))


_REFERENCES = {
    "lines": "widths: the picture without noise, otherwise the long exposure, by the same "
    "criterion; roughness and edges: the true edges, otherwise those of the long exposure",
    "discs": "diameters in the long exposure, by the same criterion",
}


def _restored_name(name: str) -> str:
    """Return the file name of a restored picture or page: a#3.tif for a.png#3."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}{''.join(ending.partition('#')[1:])}.tif"


def _ssim(truth: tf.Tensor, seen: tf.Tensor, span: float) -> float:
    """Return SSIM of pictures (1, H, W, 1), in strips: a large picture would take 0.3 GB."""
    windows = truth.shape[1] - SSIM_WINDOW + 1
    step = max(1, _SSIM_PIXELS // truth.shape[2])
    total = 0.0
    for first in range(0, windows, step):
        count = min(step, windows - first)
        part = slice(first, first + count + SSIM_WINDOW - 1)
        total += count * float(Metric.ssim(truth[:, part], seen[:, part], span)[0])
    return total / windows


def _means(quality: pd.DataFrame) -> dict[str, Any]:
    """Return mean PSNR and SSIM by method."""
    grouped = quality.groupby("method", sort=False)
    return {name: grouped[name].mean().to_dict() for name in ("psnr", "ssim")}


def _enlarged(low: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a picture (h, w) to the size of the high picture."""
    if scale == 1:
        return low
    large: np.ndarray = enlarge(low[None, ..., None], scale)[0, ..., 0]
    return large


def _part_of(path: Path, part: tuple[slice, slice]) -> np.ndarray:
    """Read a part of a picture of the same field, float32."""
    pixels = read_sem_image(path, None).pixels
    height, width = (side.stop for side in part)
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise DataError(
            f"{path}: must show the field of the low picture of that name with at least {height} × "
            f"{width} pixels; received {pixels.shape[0]} × {pixels.shape[1]}. Remove the file, or "
            f"simulate again."
        )
    return pixels[part].astype(np.float32)


def _true_edges(path: Path, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Read the true edges of the lines that are completely in a part of a picture."""
    rows, columns = part
    try:
        # If given a path, NumPy leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            left, right = content["left_px"], content["right_px"]
        fits = left.ndim == 2 and left.shape == right.shape and left.shape[1] >= rows.stop
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        fits = False
    if not fits:
        raise DataError(
            f"{path}: must hold left_px and right_px, a row of true edges for each line and at "
            f"least {rows.stop} columns; received other content. Remove the file, or simulate "
            f"again."
        )
    left, right = (edges[:, rows] - columns.start for edges in (left, right))
    last = columns.stop - columns.start - 1 - _MARGIN_PX
    whole = (left.min(axis=1) > _MARGIN_PX) & (right.max(axis=1) < last)
    return left[whole], right[whole]
