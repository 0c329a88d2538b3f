"""Detail that a method added to an interpolated map, omitted, or invented.

Following opensr-test [1]_, an enlarged map is compared with the truth and with a map computed from
the input alone. Definitions with equations: ``docs/results.md``.

References
----------
.. [1] Aybar, Montero, Donike, Kalaitzis and Gómez-Chova (2024), A Comprehensive Benchmark for
   Optical Remote Sensing Image Super-Resolution, IEEE Geoscience and Remote Sensing Letters 21.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Columns of `detail_table`.
COUNTS = ("differing", "improved", "omitted", "hallucinated", "gain_m", "left_m", "harm_m")
#: Columns of `detail_figures`.
DETAIL = (
    *("improved_share", "omitted_share", "hallucinated_share"),
    *("improved_m", "omitted_m", "hallucinated_m"),
)
#: Possible steps of rounding, metres.
_STEPS_M = (100.0, 50.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 0.01)
#: Share of the images, the flattest, that show the noise with the least relief.
_FLAT = 0.1
#: σ of normal noise ÷ its median absolute deviation.
_SIGMA_OF_MAD = 1.4826
_CHUNK = 256


def rounding_step_m(values: np.ndarray) -> float:
    """Return the largest step, metres, of which all depths are multiples; 0 if there is none.

    Parameters
    ----------
    values : numpy.ndarray
        Depths, metres; NaN is missing.
    """
    known = np.unique(values[np.isfinite(values)]).astype(np.float64)
    if known.size < 2:
        return 0.0
    for step in _STEPS_M:
        multiples = known / step
        # float32 holds 7 digits.
        tolerance = 1e-3 + 1.2e-7 * np.abs(multiples)
        if (np.abs(multiples - np.rint(multiples)) <= tolerance).all():
            return step
    return 0.0


def noise_sigma_m(imgs: np.ndarray) -> float:
    """Estimate the standard deviation of the noise of a map, metres.

    The mask ``[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]`` removes planes and most of smooth relief.
    Its response to white noise of standard deviation σ has a standard deviation of 6 σ [1]_. The
    result is the lower tenth, over the images, of the median absolute response of each image:
    ground that is rough everywhere counts as noise.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1)
        Maps, metres, at least 3 × 3 pixels; NaN is missing.

    Returns
    -------
    float
        Standard deviation, metres; 0 if it cannot be estimated.

    References
    ----------
    .. [1] Immerkær (1996), Fast Noise Variance Estimation, Computer Vision and Image Understanding
       64 (2), 300-302.
    """
    z = imgs[..., 0] if imgs.ndim == 4 else imgs
    found = []
    for start in range(0, len(z), _CHUNK):
        part = np.diff(np.diff(z[start : start + _CHUNK].astype(np.float64), 2, axis=1), 2, axis=2)
        size = np.abs(part).reshape(len(part), -1)
        size = size[np.isfinite(size).any(axis=1)]
        found.append(np.nanmedian(size, axis=1))
    medians = np.concatenate(found)
    return float(np.quantile(medians, _FLAT)) * _SIGMA_OF_MAD / 6 if medians.size else 0.0


def noise_limit_m(imgs: np.ndarray) -> float:
    """Return the difference, metres, above which a map differs from the truth beyond noise.

    It is twice the standard deviation of the truth's noise, and at least half its rounding step.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1)
        The truth, metres.
    """
    return max(2 * noise_sigma_m(imgs), rounding_step_m(imgs) / 2)


def detail_table(
    truth: np.ndarray, plain: np.ndarray, result: np.ndarray, limit_m: float
) -> pd.DataFrame:
    """Count the pixels of each image in which detail was added, omitted or invented.

    Where truth and plain map differ by more than `limit_m`, a pixel of the result is

    - *omitted* if it is within `limit_m` of the plain map,
    - otherwise *improved* if it is nearer to the truth than the plain map is,
    - otherwise *hallucinated*.

    Parameters
    ----------
    truth, plain, result : numpy.ndarray, shape (N, H, W, C)
        High-resolution maps, back-projected bicubic ones, and those of a method; metres.
    limit_m : float
        `noise_limit_m` of the truth.

    Returns
    -------
    pandas.DataFrame
        `COUNTS` of each image. ``gain_m`` is the sum of the decrease of the plain map's error in
        improved pixels, ``left_m`` the sum of the remaining error in omitted pixels, ``harm_m``
        the sum of the increase of the error in hallucinated pixels. All are 0 or more.
    """
    parts = []
    for start in range(0, len(truth), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        z, b, sr = (
            imgs[chunk].reshape(len(imgs[chunk]), -1).astype(np.float64)
            for imgs in (truth, plain, result)
        )
        before, after = np.abs(z - b), np.abs(z - sr)
        differs = before > limit_m
        omitted = differs & (np.abs(sr - b) <= limit_m)
        improved = differs & ~omitted & (after < before)
        hallucinated = differs & ~omitted & ~improved
        columns = (
            *(differs, improved, omitted, hallucinated),
            *((before - after) * improved, after * omitted, (after - before) * hallucinated),
        )
        parts.append(np.stack([column.sum(axis=1) for column in columns], axis=1))
    return pd.DataFrame(np.concatenate(parts), columns=list(COUNTS))


def detail_figures(table: pd.DataFrame) -> pd.DataFrame:
    """Convert counts and sums into shares and metres.

    Parameters
    ----------
    table : pandas.DataFrame
        `COUNTS` of one image, or summed over images, in every row.

    Returns
    -------
    pandas.DataFrame
        `DETAIL`: shares of the differing pixels, which add up to 1, and metres per differing
        pixel: the decrease of the error in improved pixels, the remaining error in omitted pixels
        and the increase in hallucinated pixels. NaN where no pixel differs.
    """
    figures = table[list(COUNTS[1:])].div(table["differing"].where(table["differing"] > 0), axis=0)
    return figures.set_axis(list(DETAIL), axis=1)
