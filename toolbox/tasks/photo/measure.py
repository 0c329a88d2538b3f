"""PSNR and SSIM of enlarged photographs, on Y and on RGB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from toolbox.resize import resized

#: Brightness of ``rgb2ycbcr`` (ITU-R BT.601, 16 to 235) for red, green and blue of 0 to 255.
_LUMA = np.array([65.481, 128.553, 24.966]) / 255
#: Largest PSNR reported, dB.
_MOST = 120.0
#: Figures of each photograph and method.
FIGURES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
#: Their headings in tables.
HEADINGS = dict(zip(FIGURES, ("PSNR Y", "SSIM Y", "PSNR RGB", "SSIM RGB"), strict=True))
#: Differences that are only rounding: in dB, and in SSIM.
ROUNDING = {"psnr_y": 0.005, "ssim_y": 5e-5, "psnr_rgb": 0.005, "ssim_rgb": 5e-5}
#: Common enlargement methods, with which a network is compared.
BASELINES = ("bicubic", "lanczos")


def below_bicubic(summary: Mapping[str, Any]) -> list[str]:
    """Return the headings of the figures that are worse than those of bicubic on average."""
    return [
        HEADINGS[name]
        for name in FIGURES
        if summary[name]["sr"] < summary[name]["bicubic"] - ROUNDING[name]
    ]


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Return Y, 16 to 235, of colours (H, W, 3) of 0 to 255; grey (H, W, 1) is unchanged.

    Returns
    -------
    numpy.ndarray, shape (H, W), float64
    """
    if pixels.shape[2] == 1:
        return pixels[..., 0].astype(np.float64)
    return pixels.astype(np.float64) @ _LUMA + 16


def enlarged(low: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Enlarge a photograph (h, w, C) of whole numbers with each of `BASELINES`."""
    shape = low.shape[0] * scale, low.shape[1] * scale
    return {name: resized(low, shape, name) for name in BASELINES}


def psnr(truth: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio for a peak of 255, dB, at most 120."""
    error = np.mean(np.square(truth.astype(np.float64) - image))
    return min(_MOST, float(10 * np.log10(255**2 / error))) if error else _MOST


def ssim(truth: np.ndarray, image: np.ndarray) -> float:
    """Return the structural similarity of images (H, W) or (H, W, C) of 0 to 255.

    Gaussian window of 11 pixels and sigma 1.5, population variances, window entirely inside the
    image (Wang et al. 2004, doi:10.1109/TIP.2003.819861); mean over the channels.
    """
    value = structural_similarity(
        truth.astype(np.float64),
        image.astype(np.float64),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if truth.ndim == 3 else None,
    )
    return float(value)


def measured(truth: np.ndarray, image: np.ndarray, crop: int) -> dict[str, float]:
    """Return the `FIGURES` of one photograph, without `crop` pixels at each side.

    Parameters
    ----------
    truth, image : numpy.ndarray, shape (H, W, C)
        On the scale of 0 to 255; the image is rounded, as in a file.
    crop : int
        Pixels left out at each side: as many as the scale, as in published tables.
    """
    inside = (slice(crop, -crop), slice(crop, -crop)) if crop else (slice(None), slice(None))
    truth, image = truth[inside], image[inside]
    y, y_image = brightness(truth), brightness(image)
    return {
        "psnr_y": psnr(y, y_image),
        "ssim_y": ssim(y, y_image),
        "psnr_rgb": psnr(truth, image),
        "ssim_rgb": ssim(truth, image),
    }
