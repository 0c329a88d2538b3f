"""Degradation as by cameras and the web: blur, noise and JPEG, in random order and strength."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from pydantic import AfterValidator, Field

from toolbox.config import Float, Int, Settings

_Amount = Annotated[Float, Field(ge=0, le=255)]
_Quality = Annotated[Int, Field(ge=1, le=100)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("(least, greatest) with least not above greatest")
    return limits


Amounts = Annotated[tuple[_Amount, _Amount], AfterValidator(_ordered)]
Qualities = Annotated[tuple[_Quality, _Quality], AfterValidator(_ordered)]


class Degradation(Settings):
    """The section ``photo.degradation``: arguments of `degrade`."""

    probability: Annotated[Float, Field(ge=0, le=1)] = 0.8
    blur_px: Amounts = (0.2, 1.5)
    noise: Amounts = (1.0, 10.0)
    jpeg: Qualities = (50, 95)


def degrade(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    probability: float = 0.8,
    blur_px: tuple[float, float] = (0.2, 1.5),
    noise: tuple[float, float] = (1.0, 10.0),
    jpeg: tuple[int, int] = (50, 95),
) -> tuple[np.ndarray, np.ndarray]:
    """Blur the low-resolution image of each pair, add noise and compress it; HR is unchanged.

    Each of the three is applied with `probability`, in random order (Zhang et al. 2021,
    arXiv:2103.14006, section 3, without its other kernels and its resampling).

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs, 0 to 255; C is 1 or 3.
    rng : numpy.random.Generator
        Random numbers for the order and the strength.
    probability : float
        Probability of each step.
    blur_px : (float, float)
        Least and greatest standard deviation of the Gaussian blur, in LR pixels.
    noise : (float, float)
        Least and greatest standard deviation of the white noise, in grey levels of 0 to 255.
    jpeg : (int, int)
        Least and greatest JPEG quality.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        The degraded LR images, float32, 0 to 255, and `hr`; shapes as given.
    """
    result = np.empty(lr.shape, np.float32)
    for number, image in enumerate(lr):  # each image gets its own order
        for kind in rng.permutation(3):
            chosen = rng.random() < probability
            if kind == 0:
                sigma = rng.uniform(*blur_px)
                image = _blurred(image, sigma) if chosen and sigma > 0 else image
            elif kind == 1:
                spread = np.float32(rng.uniform(*noise))
                white = rng.standard_normal(image.shape, np.float32)
                image = image + spread * white if chosen else image
            else:
                quality = int(rng.integers(*jpeg, endpoint=True))
                image = _compressed(image, quality) if chosen else image
        result[number] = image
    return np.clip(result, 0, 255), hr


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return blurred.reshape(image.shape)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    # OpenCV expects blue first; in another order JPEG would treat another channel as green.
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(file, cv2.IMREAD_UNCHANGED).reshape(image.shape)
    return read[..., ::-1].astype(np.float32)
