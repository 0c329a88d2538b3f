"""Reduction and enlargement of pictures of whole numbers, as in image programs (Pillow)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from toolbox.resample import block_mean

#: ``bicubic`` and ``lanczos`` widen their kernel for reduction, as does MATLAB's ``imresize``, on
#: which published tables are based; ``area`` takes the mean of each block.
Reduction = Literal["bicubic", "lanczos", "area"]
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def resized(pixels: np.ndarray, shape: tuple[int, int], method: str = "bicubic") -> np.ndarray:
    """Resize a picture.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (H, W, C), uint8 or uint16
        The picture.
    shape : (int, int)
        Rows and columns of the result.
    method : {'bicubic', 'lanczos', 'nearest'}
        Kernel: Keys' cubic with a = -0.5, or a sinc of three lobes; ``nearest`` for numbers that
        must not be mixed, such as classes.

    Returns
    -------
    numpy.ndarray, shape ``(*shape, C)``, same type
        Rounded and clipped to the range of the type.
    """
    size, kernel = (shape[1], shape[0]), _FILTERS[method]
    top = np.iinfo(pixels.dtype).max
    result = np.empty((*shape, pixels.shape[2]), pixels.dtype)
    for channel in range(pixels.shape[2]):
        # In float32: with 8 bits, Pillow clips overshoots between its passes over rows and columns.
        plane = Image.fromarray(pixels[..., channel].astype(np.float32)).resize(size, kernel)
        result[..., channel] = np.clip(np.rint(np.asarray(plane)), 0, top)
    return result


def reduced(pixels: np.ndarray, scale: int, method: Reduction = "bicubic") -> np.ndarray:
    """Reduce a picture by the factor `scale`.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (H, W, C), uint8 or uint16
        The picture; its sides must be multiples of `scale`.
    scale : int
        Reduction factor.
    method : {'bicubic', 'lanczos', 'area'}
        See `Reduction`.

    Returns
    -------
    numpy.ndarray, shape (H / scale, W / scale, C), same type
    """
    if method == "area":
        return np.rint(block_mean(pixels[None].astype(np.float32), scale)[0]).astype(pixels.dtype)
    return resized(pixels, (pixels.shape[0] // scale, pixels.shape[1] // scale), method)


def whole_blocks(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Crop a picture at the right and at the bottom to multiples of `scale`."""
    height, width = (side // scale * scale for side in pixels.shape[:2])
    return pixels[:height, :width]
