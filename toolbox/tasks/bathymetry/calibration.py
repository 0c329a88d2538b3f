"""Intervals of a run: calibrated once on its validation images, and evaluated by a test."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.data_generator import without_gaps
from toolbox.errors import ConfigError, DataError
from toolbox.run import Run
from toolbox.task import Source
from toolbox.tasks.bathymetry.intervals import (
    FILE_NAME,
    Intervals,
    calibrate,
    calibration_error,
    interval_score_m,
    load_intervals,
    save_intervals,
)

#: Share of the truth that the intervals of a test should contain.
LEVEL = 0.9
_CHUNK = 256


def intervals_of(run: Run, source: Source | None = None) -> Intervals:
    """Return the saved calibration of a run, or make and save a new one.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : toolbox.task.Source, optional
        Data for a new calibration; by default the data that the settings name.

    Raises
    ------
    ConfigError
        If the network is not for maps, or its validation data cannot be read.
    """
    checksum = zlib.crc32(run.weights[0].read_bytes())
    found = load_intervals(run.folder)
    if found is not None and found.weights == checksum:
        return found
    if run.resolver.channels != 1:
        raise ConfigError(
            f"{run.folder}: intervals need a network for maps with 1 channel; received one with "
            f"{run.resolver.channels}. Remove interval."
        )
    try:
        lr, hr = without_gaps(*(source or run.source()).split("validation"), "pairs")
    except (ConfigError, DataError) as error:
        raise ConfigError(
            f"{run.folder}: has no {FILE_NAME} for its weights, and the validation data for a "
            f"calibration cannot be read ({error}) Remove interval, or restore the data."
        ) from None
    sr = run.resolver.super_resolve(lr, run.settings.batch_size)
    planes = [np.asarray(imgs[..., 0], np.float32) for imgs in (lr, hr, sr)]
    found = calibrate(planes[0], planes[1], planes[2], checksum, run.settings.seed)
    save_intervals(found, run.folder)
    print(f"intervals calibrated on {len(lr)} validation images: {Path(run.folder, FILE_NAME)}")
    return found


class IntervalTest:
    """Test of the intervals of a run on test images.

    Parameters
    ----------
    intervals : Intervals
        The calibration.
    lr : numpy.ndarray, shape (N, h, w)
        Inputs, metres.
    hr, sr : numpy.ndarray, shape (N, H, W)
        Truth and results, metres.

    Attributes
    ----------
    error, spread : numpy.ndarray, shape (N, H, W), float32
        Result minus truth, and the spread at each pixel, metres.
    half : float
        Half-width of the interval of `LEVEL`, in spreads.
    """

    def __init__(
        self, intervals: Intervals, lr: np.ndarray, hr: np.ndarray, sr: np.ndarray
    ) -> None:
        self.intervals = intervals
        self.error = sr - hr
        parts = range(0, len(lr), _CHUNK)
        self.spread = np.concatenate(
            [intervals.spread(lr[i : i + _CHUNK], sr[i : i + _CHUNK]) for i in parts]
        )
        self.half = intervals.multiple(LEVEL)

    def figures(self, chosen: np.ndarray) -> dict[str, float | int | None]:
        """Return number of images, coverage, mean width, interval scores and calibration error.

        ``constant_score_m`` is the score of the best constant width, the quantile of the errors of
        these images. It is not known before the test.

        Parameters
        ----------
        chosen : numpy.ndarray, shape (N,), bool
            Images to use.
        """
        count = int(chosen.sum())
        names = (
            *("coverage", "mean_width_m", "interval_score_m", "constant_score_m"),
            "calibration_error",
        )
        if not count:
            return {"n": 0, **dict.fromkeys(names)}
        error, half = np.abs(self.error[chosen]), self.half * self.spread[chosen]
        values = (
            float((error <= half).mean()),
            float(2 * half.mean(dtype=np.float64)),
            interval_score_m(error, half, LEVEL),
            interval_score_m(error, np.quantile(error, LEVEL), LEVEL),
            calibration_error(error / self.spread[chosen], self.intervals),
        )
        return {"n": count, **dict(zip(names, values, strict=True))}

    def summary(
        self, classes: Mapping[str, np.ndarray], regions: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        """Return the figures over all images, by slope class and by region.

        Parameters
        ----------
        classes, regions : dict of str to numpy.ndarray, shape (N,), bool
            Images of each class and region.
        """
        every = np.ones(len(self.error), bool)
        return {
            "level": LEVEL,
            "images_calibrated_on": self.intervals.images,
            "all": self.figures(every),
            "slope_classes": {name: self.figures(chosen) for name, chosen in classes.items()},
            "regions": {name: self.figures(chosen) for name, chosen in regions.items()},
            "reliability": [
                [level, float((np.abs(self.error) <= multiple * self.spread).mean())]
                for level, multiple in zip(
                    self.intervals.levels, self.intervals.quantiles, strict=True
                )
            ],
        }

    def left(self, index: int) -> np.ndarray:
        """Return where the truth is outside an image's interval: -1 below, 1 above, (H, W)."""
        outside = np.abs(self.error[index]) > self.half * self.spread[index]
        return np.where(outside, -np.sign(self.error[index]), 0)
