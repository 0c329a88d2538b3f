"""Arrays as PNG files inside a page, and lengths and values as text."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from matplotlib.image import imsave
from scipy import ndimage

#: Written into PNG files instead of Matplotlib's version, so that equal pictures have equal bytes.
METADATA = {"Software": "sr-toolbox"}
_SMALLEST_SIDE, _LARGEST_SIDE = 600, 1600


def data_uri(png: bytes) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def encode(pixels: np.ndarray) -> bytes:
    """Return a picture as a PNG file of a size suitable for screen and print.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (h, w, 3), uint8
        Red, green and blue. Pixels of a small picture are repeated, so that browsers do not blur
        them; a large picture is averaged.

    Returns
    -------
    bytes
        PNG file; equal pixels give equal bytes.
    """
    side = max(pixels.shape[:2])
    if side <= _LARGEST_SIDE:
        pixels = repeat(pixels, math.ceil(_SMALLEST_SIDE / side))
    else:
        step = math.ceil(side / _LARGEST_SIDE)
        pixels = ndimage.uniform_filter(pixels, (step, step, 1))[::step, ::step]
    target = io.BytesIO()
    imsave(target, pixels, format="png", metadata=METADATA)
    return target.getvalue()


def repeat(img: np.ndarray, times: int) -> np.ndarray:
    """Draw every pixel of an image (h, w) or (h, w, C) as a square of `times` pixels."""
    return img.repeat(times, axis=0).repeat(times, axis=1)


def round_length(limit: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that does not exceed `limit`."""
    decade = 10.0 ** math.floor(math.log10(limit))
    return max(step * decade for step in (1, 2, 5) if step * decade <= limit)


def number(value: float) -> str:
    """Format a value with three digits, or with all digits before the point."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "0" if float(text) == 0 else text.replace("-", "−")
