"""Figures of drawings: confusion and IoU for class maps; L1, PSNR and SSIM for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from toolbox.tasks.pix2pix.classes import VOID

#: Largest PSNR reported, dB.
_MOST = 120.0
#: Figures of pictures.
PICTURE_FIGURES = ("l1", "psnr", "ssim")
#: Figures of class maps; larger is better.
CLASS_FIGURES = ("pixel_accuracy", "mean_iou", "mean_accuracy")
#: Samples of the bootstrap.
_DRAWS = 1000


def confusion(truth: np.ndarray, found: np.ndarray, count: int) -> np.ndarray:
    """Count the pixels of each true class by the class that was found.

    Parameters
    ----------
    truth, found : numpy.ndarray, same shape, uint8
        Ids; pixels whose truth is `VOID` do not count.
    count : int
        Number of classes.

    Returns
    -------
    numpy.ndarray, shape (count, count + 1), int64
        Row: the truth. Column: the class found, void last.
    """
    judged = truth != VOID
    columns = np.minimum(found[judged], count).astype(np.int64)
    cells = truth[judged].astype(np.int64) * (count + 1) + columns
    return np.bincount(cells, minlength=count * (count + 1)).reshape(count, count + 1)


def class_figures(matrix: np.ndarray) -> dict[str, Any]:
    """Return the figures of one or more confusion matrices.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (..., n, n + 1)
        See `confusion`.

    Returns
    -------
    dict
        ``pixel_accuracy``, ``mean_iou`` and ``mean_accuracy`` of shape (...); ``iou`` and
        ``accuracy`` of every class, (..., n). A class without a pixel in the truth has NaN and is
        excluded from the means. IoU is that of Pascal VOC: hits ÷ (truth + found - hits), where
        pixels found void count as missed.
    """
    matrix = np.asarray(matrix, np.float64)
    truth = matrix.sum(axis=-1)
    hits = np.diagonal(matrix[..., :-1], axis1=-2, axis2=-1)
    found = matrix[..., :-1].sum(axis=-2)
    present = truth > 0
    # Means over no class are NaN, without a warning.
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(present, hits / (truth + found - hits), np.nan)
        accuracy = np.where(present, hits / truth, np.nan)
        number = present.sum(axis=-1)
        return {
            "pixel_accuracy": hits.sum(axis=-1) / truth.sum(axis=-1),
            "mean_iou": np.nansum(iou, axis=-1) / number,
            "mean_accuracy": np.nansum(accuracy, axis=-1) / number,
            "iou": iou,
            "accuracy": accuracy,
        }


def bootstrap(
    matrices: np.ndarray, others: np.ndarray, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the difference of two methods, over the choice of pictures.

    Parameters
    ----------
    matrices, others : numpy.ndarray, shape (pictures, n, n + 1)
        Confusion of the two methods, one matrix per picture.
    seed : int
        Seed of the bootstrap samples.

    Returns
    -------
    dict of str to (float, float)
        For each of `CLASS_FIGURES`: first minus second, percentiles 2.5 and 97.5.
    """
    count = len(matrices)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(np.float64)
    shape = (_DRAWS, *matrices.shape[1:])
    sampled = [
        class_figures((weights @ part.reshape(count, -1)).reshape(shape))
        for part in (matrices, others)
    ]
    return {
        name: tuple(np.nanpercentile(sampled[0][name] - sampled[1][name], [2.5, 97.5]).tolist())
        for name in CLASS_FIGURES
    }


def picture_figures(truth: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """Return L1, PSNR and SSIM of a drawing.

    Parameters
    ----------
    truth, image : numpy.ndarray, shape (H, W, C)
        On the scale of 0 to 255; the image is rounded, as in a file.

    Returns
    -------
    dict of str to float
        ``l1`` in grey levels; ``psnr`` in dB for a peak of 255, at most 120; ``ssim`` with the
        Gaussian window of 11 pixels of Wang et al. 2004, averaged over the channels.
    """
    truth, image = truth.astype(np.float64), image.astype(np.float64)
    equal = not np.any(truth != image)
    psnr = _MOST if equal else peak_signal_noise_ratio(truth, image, data_range=255)
    ssim = structural_similarity(
        truth,
        image,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2,
    )
    return {
        "l1": float(np.abs(truth - image).mean()),
        "psnr": min(_MOST, float(psnr)),
        "ssim": float(ssim),
    }
