"""Calibrated intervals: how far the truth may be from an enlarged map, pixel by pixel.

Split conformal prediction [1]_ with a normalised score: the absolute error is divided by a spread
that is known at prediction time. The quantiles of this ratio on validation images scale the spread
to an interval. The spread is a product of powers of three lengths. The exponents add up to 1, so it
serves errors of decimetres and of hundreds of metres alike. The lengths are:

- the distance of the result from bicubic, RMS over the surrounding pixels;
- the roughness of the input, RMS of its difference from the mean of 3 × 3 pixels;
- the distance of the result, averaged back, from the input. A network that contradicts the
  measurement is unlikely to be right.

References
----------
.. [1] Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), Distribution-Free Predictive Inference
   for Regression, Journal of the American Statistical Association 113, 1094-1111.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from scipy import ndimage

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.resample import block_mean, enlarge

FILE_NAME = "intervals.json"
#: Levels at which quantiles are stored.
LEVELS = (*(number / 20 for number in range(1, 20)), 0.98, 0.99)
#: Distance in low-resolution pixels over which a spread depends on its surroundings.
REACH = 4
#: Quantile of the errors to which the spread is fitted.
_FITTED = 0.9
#: Lower limit of the first length, metres.
_LEAST_M = 1e-6
#: Lower limit of the other lengths, as a share of the first; they are 0 on smooth ground.
_LEAST_SHARE = 0.01
_ROUNDS, _PIXELS, _CHUNK = 50, 100_000, 256
#: Version of the lengths; a calibration with another version is repeated.
_VERSION = 3


def spread_lengths(lr: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Measure the three lengths that the spread is computed from.

    Parameters
    ----------
    lr : numpy.ndarray, shape (N, h, w)
        Input of the network, metres, without gaps.
    sr : numpy.ndarray, shape (N, H, W)
        Result of the network, metres.

    Returns
    -------
    numpy.ndarray, shape (3, N, h, w), float32
        For each pixel of the input, metres: distance from bicubic, at least 0.000001; roughness of
        the input and contradiction of the input, at least 1 % of the distance.
    """
    scale = sr.shape[1] // lr.shape[1]
    detail = sr - enlarge(lr[..., None], scale)[..., 0]
    lengths = (
        _root(_mean(_blocks(np.square(detail, out=detail), scale), 3)),
        _root(_mean(np.square(lr - _mean(lr, 3)), 5)),
        _root(_mean(np.square(_blocks(sr, scale) - lr), 3)),
    )
    found = np.maximum(np.stack(lengths), np.float32(_LEAST_M), dtype=np.float32)
    np.maximum(found[1:], _LEAST_SHARE * found[:1], out=found[1:])
    return found


def _blocks(imgs: np.ndarray, scale: int) -> np.ndarray:
    return block_mean(imgs[..., None], scale)[..., 0]


def _mean(imgs: np.ndarray, size: int) -> np.ndarray:
    found: np.ndarray = ndimage.uniform_filter(imgs, (0, size, size), mode="nearest")
    return found


def _root(squares: np.ndarray) -> np.ndarray:
    # Rounding may bring running sums of squares slightly below 0.
    return np.sqrt(np.maximum(squares, 0))


@dataclasses.dataclass(frozen=True)
class Intervals:
    """A calibration of intervals.

    Attributes
    ----------
    powers : tuple of three floats
        Exponents of the lengths.
    factor : float
        Constant factor of the spread.
    levels, quantiles : tuple of float
        Shares of the errors, and the multiples of the spread that these do not exceed.
    images : int
        Number of validation images used.
    weights : int
        CRC-32 of the weights file.
    """

    powers: tuple[float, ...]
    factor: float
    levels: tuple[float, ...]
    quantiles: tuple[float, ...]
    images: int
    weights: int = 0

    def spread(self, lr: np.ndarray, sr: np.ndarray) -> np.ndarray:
        """Return the spread of each pixel, metres, (N, H, W); arguments as in `spread_lengths`."""
        scale = sr.shape[1] // lr.shape[1]
        return self.coarse_spread(lr, sr).repeat(scale, 1).repeat(scale, 2)

    def coarse_spread(self, lr: np.ndarray, sr: np.ndarray) -> np.ndarray:
        """Return the spread of each pixel of the input, metres, (N, h, w)."""
        logs = np.log(spread_lengths(lr, sr))
        powers = np.array(self.powers, logs.dtype)
        found: np.ndarray = np.float32(self.factor) * np.exp(np.tensordot(powers, logs, axes=1))
        return found

    def multiple(self, level: float) -> float:
        """Return the half-width of an interval in spreads.

        Raises
        ------
        DataError
            If the level was not calibrated.
        """
        low, high = self.levels[0], self.levels[-1]
        if not low <= level <= high:
            raise DataError(
                f"interval must be between {low:g} and {high:g}, the calibrated levels; received "
                f"{level:g}."
            )
        return float(np.interp(level, self.levels, self.quantiles))


def calibrate(
    lr: np.ndarray, hr: np.ndarray, sr: np.ndarray, weights: int = 0, seed: int = 0
) -> Intervals:
    """Fit the spread on one half of the images, and the quantiles on the other.

    Parameters
    ----------
    lr : numpy.ndarray, shape (N, h, w)
        Inputs that the network was not trained on, metres, without gaps.
    hr, sr : numpy.ndarray, shape (N, H, W)
        Truth and results, metres.
    weights : int
        CRC-32 of the weights file, to be stored.
    seed : int
        Selects the images of each half and the pixels that are fitted.

    Returns
    -------
    Intervals

    Raises
    ------
    DataError
        If there are fewer than two images.
    """
    if len(lr) < 2:
        raise DataError(f"intervals need at least two validation images; received {len(lr)}.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lr))
    first, second = order[::2], order[1::2]
    powers, factor = _fit(lr[first], hr[first], sr[first], rng)
    found = Intervals(powers, factor, (), (), len(lr), weights)
    ratios = np.concatenate(
        [
            (np.abs(sr[part] - hr[part]) / found.spread(lr[part], sr[part])).ravel()
            for part in np.array_split(second, -(-len(second) // _CHUNK))
        ]
    )
    quantiles = np.quantile(ratios, LEVELS)
    return dataclasses.replace(
        found, levels=LEVELS, quantiles=tuple(float(quantile) for quantile in quantiles)
    )


def _fit(
    lr: np.ndarray, hr: np.ndarray, sr: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, ...], float]:
    """Regress the 90th percentile of the error's logarithm on the logarithms of the lengths.

    References
    ----------
    Koenker and Bassett (1978), Regression Quantiles, Econometrica 46, 33-50.
    """
    share = max(1, _PIXELS // len(lr))
    pixels = rng.integers(0, sr[0].size, (len(lr), min(share, sr[0].size)))
    scale, width = sr.shape[1] // lr.shape[1], lr.shape[2]
    row, column = np.divmod(pixels, width * scale)
    coarse = row // scale * width + column // scale
    logs, errors = [], []
    for start in range(0, len(lr), _CHUNK):
        part = slice(start, start + _CHUNK)
        lengths = spread_lengths(lr[part], sr[part]).reshape(3, len(lr[part]), -1)
        logs.append(np.log(np.take_along_axis(lengths, coarse[part][None], 2)).reshape(3, -1))
        error = np.abs(sr[part] - hr[part]).reshape(len(lr[part]), -1)
        errors.append(np.take_along_axis(error, pixels[part], 1).ravel())
    x = np.concatenate(logs, axis=1).T.astype(np.float64)
    y = np.log(np.maximum(np.concatenate(errors), _LEAST_M).astype(np.float64))
    # As ratios to the first length, the powers add up to 1: ten times the relief gives ten times
    # the width.
    ratios = np.column_stack([x[:, 1:] - x[:, :1], np.ones(len(x))])
    second, third, constant = _quantile_regression(ratios, y - x[:, 0], _FITTED).tolist()
    return (1 - second - third, second, third), float(np.exp(constant))


def _quantile_regression(x: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
    """Return the weights of a quantile regression, by iteratively reweighted least squares."""
    ridge = 1e-6 * len(x) * np.eye(x.shape[1])
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    for _ in range(_ROUNDS):
        rest = y - x @ weights
        pull = np.where(rest > 0, share, 1 - share) / np.maximum(np.abs(rest), 1e-3)
        pulled = (x * pull[:, None]).T
        weights = np.linalg.solve(pulled @ x + ridge, pulled @ y)
    return np.asarray(weights)


# -- Quality of intervals ------------------------------------------------------------------------


def interval_score_m(error: np.ndarray, half: np.ndarray | np.floating, level: float) -> float:
    """Return the mean interval score, metres: width plus a penalty for truth outside [1]_.

    The penalty is 2 / (1 - `level`) times the distance of the truth from the interval.

    Parameters
    ----------
    error : numpy.ndarray
        Errors, metres.
    half : numpy.ndarray or float
        Half-width of the interval, metres.
    level : float
        Share of the truth that the interval should contain.

    References
    ----------
    .. [1] Gneiting and Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation,
       Journal of the American Statistical Association 102, 359-378, equation 43.
    """
    outside = np.maximum(np.abs(error) - half, 0)
    return float(np.mean(2 * half + 2 / (1 - level) * outside))


def calibration_error(ratios: np.ndarray, intervals: Intervals) -> float:
    """Return the mean absolute difference of coverage and level over all levels up to 0.95.

    Parameters
    ----------
    ratios : numpy.ndarray
        Absolute errors divided by the spread.
    intervals : Intervals
        The calibration.
    """
    pairs = [(p, q) for p, q in zip(intervals.levels, intervals.quantiles, strict=True) if p < 0.96]
    return float(np.mean([abs(float((ratios <= q).mean()) - p) for p, q in pairs]))


# -- Files ---------------------------------------------------------------------------------------


def intervals_text(intervals: Intervals) -> str:
    """Return the contents of ``intervals.json``."""
    return json.dumps({"version": _VERSION, **dataclasses.asdict(intervals)}, indent=2) + "\n"


def save_intervals(intervals: Intervals, folder: str | os.PathLike[str]) -> None:
    """Write ``intervals.json`` into `folder`."""
    with replacing(Path(folder, FILE_NAME)) as beside:
        beside.write_text(intervals_text(intervals), "utf-8")


def load_intervals(folder: str | os.PathLike[str]) -> Intervals | None:
    """Read ``intervals.json`` of a run; None if it is absent or from an earlier version.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = Path(folder, FILE_NAME)
    if not path.is_file():
        return None
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        if content.get("version") != _VERSION and "powers" in content:
            return None
        powers, levels, quantiles = (
            tuple(map(float, content[key])) for key in ("powers", "levels", "quantiles")
        )
        images, weights = (int(content[key]) for key in ("images", "weights"))
        found = Intervals(powers, float(content["factor"]), levels, quantiles, images, weights)
        if len(found.powers) != 3 or len(found.levels) != len(found.quantiles) or not found.levels:
            raise ValueError("lists of other lengths")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: is not a calibration of intervals ({error}). Remove it and run test again."
        ) from None
    return found
