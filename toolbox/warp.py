"""Rotation and magnification of image stacks as matrices; one matrix serves every patch.

A rotation is a sparse matrix over the pixels of an image; a magnification is two small dense
matrices over its rows and columns. Both interpolate with the cubic kernel, which reproduces planes
exactly (to a few hundredths of a pixel if terrain is shrunk). Both sample about the centre of the
image, and treat LR and HR images of one place alike.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from scipy import sparse

from toolbox.errors import ConfigError
from toolbox.resample import cubic_kernel

FillMode = Literal["nearest", "reflect", "wrap"]
FILL_MODES = ("nearest", "reflect", "wrap")


def fold(index: np.ndarray, size: int, fill_mode: str) -> np.ndarray:
    """Return the pixels that replace those outside the image.

    Parameters
    ----------
    index : numpy.ndarray of int
        Pixel numbers, any value.
    size : int
        Pixels along this axis.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        Repeat the edge, mirror at the edge (d c b a | a b c d), or repeat the image.

    Returns
    -------
    numpy.ndarray of int
        In [0, size).

    Raises
    ------
    ConfigError
        If `fill_mode` is unknown.
    """
    if fill_mode == "nearest":
        return np.clip(index, 0, size - 1)
    if fill_mode == "wrap":
        return index % size
    if fill_mode == "reflect":
        return np.minimum(index % (2 * size), 2 * size - 1 - index % (2 * size))
    raise ConfigError(
        f"fill_mode must be one of {', '.join(FILL_MODES)}; received {fill_mode!r}. Use reflect."
    )


@functools.lru_cache(maxsize=160)  # 65 online angles for LR and HR
def rotation_operator(
    height: int, width: int, degrees: float, fill_mode: str = "reflect"
) -> sparse.csr_matrix:
    """Return the matrix that rotates an image counter-clockwise about its centre.

    Parameters
    ----------
    height, width : int
        Size of the image in pixels.
    degrees : float
        Angle; quarter turns of square images are exact.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the corners.

    Returns
    -------
    scipy.sparse.csr_matrix, shape (height * width, height * width), float32
    """
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = np.arange(height)[:, None] - (height - 1) / 2
    columns = np.arange(width)[None, :] - (width - 1) / 2
    # The source of each output pixel; rounding makes quarter turns land on pixels.
    from_row = np.round(cosine * rows + sine * columns + (height - 1) / 2, 9).ravel()
    from_column = np.round(cosine * columns - sine * rows + (width - 1) / 2, 9).ravel()
    row_index, row_weight = _taps(from_row, height, fill_mode)
    column_index, column_weight = _taps(from_column, width, fill_mode)
    weights = row_weight[:, :, None] * column_weight[:, None, :]
    sources = row_index[:, :, None] * width + column_index[:, None, :]
    pixels = height * width
    operator = sparse.csr_matrix(
        (
            weights.reshape(-1).astype(np.float32),
            sources.reshape(-1),
            np.arange(0, 16 * pixels + 1, 16),
        ),
        shape=(pixels, pixels),
    )
    operator.eliminate_zeros()
    return operator


def _taps(position: np.ndarray, size: int, fill_mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the four pixels around each position and their weights, each (n, 4)."""
    base = np.floor(position).astype(np.int64)
    index = base[:, None] + np.arange(-1, 3)
    return fold(index, size, fill_mode), cubic_kernel(index - position[:, None])


def apply_operator(operator: sparse.csr_matrix, imgs: np.ndarray) -> np.ndarray:
    """Apply a matrix over pixels to every image of a stack.

    Parameters
    ----------
    operator : scipy.sparse.csr_matrix, shape (H * W, H * W)
        From `rotation_operator`.
    imgs : numpy.ndarray, shape (N, H, W, C)
        Images.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C), float32
    """
    n, h, w, channels = imgs.shape
    # Means are subtracted: float32 sums of depths would lose centimetres.
    means = _means(imgs)
    pixels = np.moveaxis(imgs - means, 0, 3).reshape(h * w, channels * n)
    turned = operator @ np.ascontiguousarray(pixels, np.float32)
    return np.moveaxis(turned.reshape(h, w, channels, n), 3, 0) + means


def _means(imgs: np.ndarray) -> np.ndarray:
    """Return the mean of the valid pixels of each image, (N, 1, 1, C); 0 if there is none."""
    valid = np.isfinite(imgs)
    total = np.where(valid, imgs, 0).sum(axis=(1, 2), keepdims=True, dtype=np.float64)
    count = valid.sum(axis=(1, 2), keepdims=True)
    return (total / np.maximum(count, 1)).astype(np.float32)


def magnification_matrices(
    size: int, factors: np.ndarray, fill_mode: str = "reflect"
) -> np.ndarray:
    """Return the matrices that magnify one axis of images about its centre.

    If an image is shrunk, the kernel widens accordingly, so that fine relief is averaged and not
    aliased.

    Parameters
    ----------
    size : int
        Pixels along the axis.
    factors : numpy.ndarray, shape (N,)
        Magnification of each image; 0.5 shrinks the terrain to half its width.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the surroundings.

    Returns
    -------
    numpy.ndarray, shape (N, size, size), float32
        To be multiplied with the images' axis from the left.
    """
    factors = np.asarray(factors, np.float64)[:, None, None]
    width = np.minimum(factors, 1)
    centre = (size - 1) / 2
    position = (np.arange(size)[None, :, None] - centre) / factors + centre
    reach = int(np.ceil(2 / width.min()))
    index = np.floor(position).astype(np.int64) + np.arange(1 - reach, reach + 1)
    weights = cubic_kernel((index - position) * width)
    weights /= weights.sum(axis=2, keepdims=True)
    matrices = np.zeros((len(factors), size, size))
    image, row = np.ogrid[: len(factors), :size]
    np.add.at(matrices, (image[..., None], row[..., None], fold(index, size, fill_mode)), weights)
    return matrices.astype(np.float32)


def magnify(imgs: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Magnify each image of a stack with its own two matrices.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        Images; a NaN spreads along its row and column.
    rows, columns : numpy.ndarray, shape (N, H, H) and (N, W, W), or N = 1
        From `magnification_matrices`.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C), float32
    """
    means = _means(imgs)
    planes = np.moveaxis(np.asarray(imgs, np.float32) - means, 3, 1)
    large = rows[:, None] @ planes @ np.swapaxes(columns, 1, 2)[:, None]
    return np.moveaxis(large, 1, 3) + means
