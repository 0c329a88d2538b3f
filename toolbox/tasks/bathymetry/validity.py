"""Range in which a network may be trusted: the depths and slopes of its training data."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.resample import local_mean
from toolbox.spectrum import pair_of
from toolbox.tasks.bathymetry.terrain import Spacing, slope

FILE_NAME = "validity.json"
#: Share of the training pixels whose slope is steeper than the recorded limit.
_BEYOND = 0.001
_CHUNK = 1024
_PATCHES = 20_000


@dataclasses.dataclass(frozen=True)
class Validity:
    """Range of the low-resolution training images.

    Attributes
    ----------
    depth_m : (float, float)
        Lowest and highest elevation, metres, negative below sea level.
    slope : float
        Slope that 99.9 % of the pixels do not exceed, at the spacing of the low-resolution grid,
        m/m.
    delta_lr_m : (float, float)
        Spacing of the low-resolution grid (between rows, between columns), metres.
    roughness_m : float or None
        Distance from the mean of 3 × 3 pixels that 99.9 % of the pixels do not exceed, metres;
        None in runs of earlier versions.
    coarsest_lr_m : (float, float) or None
        Spacing of the coarsest map if there were several; `delta_lr_m` is that of the finest.
    """

    depth_m: tuple[float, float]
    slope: float
    delta_lr_m: tuple[float, float]
    roughness_m: float | None = None
    coarsest_lr_m: tuple[float, float] | None = None

    def outside(self, lr: np.ndarray, delta_lr_m: Spacing) -> np.ndarray:
        """Return where a map is outside the range.

        Parameters
        ----------
        lr : numpy.ndarray, shape (h, w)
            Low-resolution map, metres; NaN where missing.
        delta_lr_m : float or (float, float)
            Grid spacing of the map, metres.

        Returns
        -------
        numpy.ndarray, shape (h, w), bool
            False where pixels are missing. The margins have the slope of their neighbours.
        """
        low, high = self.depth_m
        beyond = (lr < low) | (lr > high)
        if min(lr.shape) > 2:
            beyond |= np.pad(slope(lr, delta_lr_m), 1, mode="edge") > self.slope
        return beyond & ~np.isnan(lr)


def measure_validity(lr: np.ndarray, delta_lr_m: Spacing) -> Validity:
    """Measure the range of training images.

    Parameters
    ----------
    lr : numpy.ndarray, shape (N, h, w, C)
        Low-resolution images, metres; NaN is ignored.
    delta_lr_m : float or (float, float)
        Grid spacing of the images, metres.

    Returns
    -------
    Validity
    """
    pair = pair_of(delta_lr_m)
    depth_m = float(np.nanmin(lr)), float(np.nanmax(lr))
    # A sample spread over all patches is enough for a quantile.
    lr = lr[:: max(1, len(lr) // _PATCHES)]
    parts = [slope(lr[i : i + _CHUNK, ..., 0], delta_lr_m) for i in range(0, len(lr), _CHUNK)]
    slopes = np.concatenate([part[np.isfinite(part)] for part in parts])
    steep = float(np.quantile(slopes, 1 - _BEYOND)) if len(slopes) else float("inf")
    return Validity(depth_m, steep, (float(pair[0]), float(pair[1])), _roughness_m(lr))


def _roughness_m(lr: np.ndarray) -> float | None:
    rough = [
        np.abs(lr[i : i + _CHUNK] - local_mean(lr[i : i + _CHUNK], 3))
        for i in range(0, len(lr), _CHUNK)
    ]
    values = np.concatenate([part[np.isfinite(part)] for part in rough])
    return float(np.quantile(values, 1 - _BEYOND)) if len(values) else None


def validity_text(validity: Validity) -> str:
    """Return the contents of ``validity.json``."""
    content = dataclasses.asdict(validity)
    if validity.coarsest_lr_m is None:
        del content["coarsest_lr_m"]
    return json.dumps(content, indent=2) + "\n"


def save_validity(validity: Validity, folder: str | os.PathLike[str]) -> None:
    """Write ``validity.json`` into `folder`."""
    with replacing(Path(folder, FILE_NAME)) as beside:
        beside.write_text(validity_text(validity), "utf-8")


def load_validity(folder: str | os.PathLike[str], fname: str = FILE_NAME) -> Validity | None:
    """Read the range from ``validity.json`` of a run or the record of a data set; None if absent.

    Parameters
    ----------
    folder : path-like
        Log folder or data set.
    fname : str
        File name; a file with a key ``validity`` is a record that contains the range.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = Path(folder, fname)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if fname != FILE_NAME:
            if not isinstance(content, dict):
                raise TypeError("no record")
            if "validity" not in content:
                return None
            content = content["validity"]
        (low, high), (rows, columns) = content["depth_m"], content["delta_lr_m"]
        rough, coarsest = content.get("roughness_m"), content.get("coarsest_lr_m")
        return Validity(
            (float(low), float(high)),
            float(content["slope"]),
            (float(rows), float(columns)),
            None if rough is None else float(rough),
            None if coarsest is None else (float(coarsest[0]), float(coarsest[1])),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is not a range of validity ({error}). Remove the file.") from None
