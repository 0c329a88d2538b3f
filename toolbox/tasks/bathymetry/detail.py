"""What a method added to an interpolated map, what it left out, and what it invented.

After the idea of opensr-test [1]_: an enlarged map is compared with the truth and with the map that
the input alone gives. Definitions with equations: ``docs/results.md``.

References
----------
.. [1] Aybar, Montero, Donike, Kalaitzis and Gómez-Chova (2024), A Comprehensive Benchmark for
   Optical Remote Sensing Image Super-Resolution, IEEE Geoscience and Remote Sensing Letters 21.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: What `detail_table` counts and sums, of each image.
COUNTS = ("differing", "improved", "omitted", "hallucinated", "gain_m", "left_m", "harm_m")
#: What `detail_figures` makes of it.
DETAIL = (
    *("improved_share", "omitted_share", "hallucinated_share"),
    *("improved_m", "omitted_m", "hallucinated_m"),
)
#: Steps to which the depths of a map may be rounded, metres.
_STEPS_M = (100.0, 50.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 0.01)
#: The flattest tenth of the images shows the noise with the least relief.
_FLAT = 0.1
#: σ of normal noise ÷ its median absolute deviation.
_SIGMA_OF_MAD = 1.4826
_CHUNK = 256


def rounding_step_m(values: np.ndarray) -> float:
    """Return the largest common step, metres, that all depths are whole multiples of; 0 if none.

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

    The mask ``[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]`` leaves nothing of planes and little of
    smooth relief; its response to white noise of standard deviation σ has 6 σ [1]_. The median of
    its absolute value is taken in every image, and of the images the lower tenth: what is rough
    everywhere counts as noise.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1)
        Maps, metres, at least 3 × 3 pixels; NaN is missing.

    Returns
    -------
    float
        0 if nothing is known.

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
    """Return the difference, metres, from which two maps differ by more than the truth's noise.

    Twice the standard deviation of its noise, and at least half a step of its rounding.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W) or (N, H, W, 1)
        The truth, metres.
    """
    return max(2 * noise_sigma_m(imgs), rounding_step_m(imgs) / 2)


def detail_table(
    truth: np.ndarray, plain: np.ndarray, result: np.ndarray, limit_m: float
) -> pd.DataFrame:
    """Count the pixels of each image in which detail was added, left out or invented.

    Where truth and plain map differ by more than `limit_m`, a pixel of the result is

    - *omitted* if it stayed within `limit_m` of the plain map,
    - else *improved* if it lies nearer to the truth than the plain map does,
    - else *hallucinated*: it went elsewhere.

    Parameters
    ----------
    truth, plain, result : numpy.ndarray, shape (N, H, W, C)
        High-resolution maps, back-projected bicubic ones, and those of a method; metres.
    limit_m : float
        `noise_limit_m` of the truth.

    Returns
    -------
    pandas.DataFrame
        `COUNTS` of each image. ``gain_m`` is the sum of what the error of the plain map lost in
        the improved pixels, ``left_m`` that of the error that remains in omitted ones, ``harm_m``
        that of what the error grew by in hallucinated ones, all of them 0 or more.
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
    """Turn counts and sums into shares and metres.

    Parameters
    ----------
    table : pandas.DataFrame
        `COUNTS`, of an image or summed over images, in every row.

    Returns
    -------
    pandas.DataFrame
        `DETAIL`: shares of the differing pixels, which add up to 1; and metres per differing
        pixel: by how much the error fell in improved pixels, what remains of it in omitted ones,
        by how much it rose in hallucinated ones. NaN where no pixel differs.
    """
    figures = table[list(COUNTS[1:])].div(table["differing"].where(table["differing"] > 0), axis=0)
    return figures.set_axis(list(DETAIL), axis=1)
