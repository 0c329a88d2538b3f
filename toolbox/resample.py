"""Resampling on the pixel grid: enlargement, block means, local means, back-projection (NumPy)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from toolbox.errors import ConfigError

Method = Literal["bicubic", "bilinear", "nearest"]

# tf.image.resize reads the cubic kernel from a table of 1024 steps per pixel. The same rounding
# here keeps both equal at scales that are not powers of two.
_CUBIC_TABLE_STEPS = 1024


def cubic_kernel(t: np.ndarray) -> np.ndarray:
    """Evaluate the cubic convolution kernel at a distance in pixels.

    With a = -0.5, it reproduces planes exactly: Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15.
    """
    t = np.abs(t)
    inner = (1.5 * t - 2.5) * t * t + 1.0
    outer = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0.0))


def phase_taps(scale: int, method: str = "bicubic") -> np.ndarray:
    """Return the interpolation weights of each sub-pixel phase.

    Parameters
    ----------
    scale : int
        Enlargement factor r.
    method : {'bicubic', 'bilinear', 'nearest'}
        Interpolation kernel.

    Returns
    -------
    numpy.ndarray, shape (2 * reach + 1, scale), float64
        Column p holds the weights of input pixels ``i - reach ... i + reach`` in output pixel
        ``i * scale + p`` (pixel-centre convention, as in ``tf.image.resize``).

    Raises
    ------
    ConfigError
        If `method` is unknown.
    """
    phase = (np.arange(scale) + 0.5) / scale - 0.5
    if method == "nearest":
        return np.ones((1, scale))
    if method == "bilinear":
        distance = np.arange(-1, 2)[:, None] - phase
        return np.maximum(0.0, 1.0 - np.abs(distance))
    if method != "bicubic":
        raise ConfigError(
            f"method must be bicubic, bilinear or nearest; received {method!r}. "
            f"Use one of the three."
        )
    base = np.floor(phase)
    fraction = np.rint((phase - base) * _CUBIC_TABLE_STEPS) / _CUBIC_TABLE_STEPS
    return cubic_kernel(np.arange(-2, 3)[:, None] - base - fraction)


def resize_matrix(size: int, scale: int, method: str = "bicubic") -> np.ndarray:
    """Return the matrix that enlarges `size` samples by `scale`.

    Weights outside the image are dropped and the others renormalised, as in ``tf.image.resize``.

    Returns
    -------
    numpy.ndarray, shape (size * scale, size), float32
    """
    taps = phase_taps(scale, method)
    reach = len(taps) // 2
    padded = np.zeros((size, scale, size + 2 * reach))
    rows = np.arange(size)
    for offset in range(len(taps)):
        padded[rows, :, rows + offset] = taps[offset]
    matrix = padded.reshape(size * scale, -1)[:, reach : reach + size]
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def enlarge(imgs: np.ndarray, scale: int, method: str = "bicubic") -> np.ndarray:
    """Enlarge a stack of images by interpolation, as ``tf.image.resize`` does.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, h, w, C)
        Any unit; no missing values.
    scale : int
        Enlargement factor.
    method : {'bicubic', 'bilinear', 'nearest'}
        Interpolation kernel.

    Returns
    -------
    numpy.ndarray, shape (N, h * scale, w * scale, C), float32
        Values are not clipped.
    """
    if scale == 1:
        return np.asarray(imgs, np.float32)
    n, h, w, channels = imgs.shape
    # The mean is subtracted first: sums in float32 would lose 1e-7 of a depth of 4000 m.
    offset = imgs.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    centred = np.moveaxis(np.asarray(imgs, np.float32) - offset, 3, 1).reshape(-1, h, w)
    rows, columns = resize_matrix(h, scale, method), resize_matrix(w, scale, method)
    large = rows @ (centred @ columns.T)
    return np.moveaxis(large.reshape(n, channels, h * scale, w * scale), 1, 3) + offset


def block_mean(imgs: np.ndarray, scale: int) -> np.ndarray:
    """Average blocks of `scale` × `scale` pixels (area mean); a block with a NaN becomes NaN.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        H and W must be multiples of `scale`.
    scale : int
        Reduction factor.

    Returns
    -------
    numpy.ndarray, shape (N, H / scale, W / scale, C), dtype of `imgs`
    """
    n, h, w, channels = imgs.shape
    blocks = imgs.reshape(n, h // scale, scale, w // scale, scale, channels)
    return blocks.mean(axis=(2, 4))


def back_project(sr: np.ndarray, lr: np.ndarray, rounds: int = 10) -> np.ndarray:
    """Make an enlarged image agree with its input.

    Each round adds the bicubic enlargement of ``lr - block_mean(sr)``: iterative back-projection
    (Irani & Peleg 1991, doi:10.1016/1049-9652(91)90045-L, eq. 4). Applied to bicubic, it is a
    stronger baseline than bicubic itself.

    Parameters
    ----------
    sr : numpy.ndarray, shape (N, H, W, C)
        Enlarged images, same unit as `lr`.
    lr : numpy.ndarray, shape (N, h, w, C)
        The low-resolution images.
    rounds : int
        Number of corrections.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C), float32
    """
    scale = sr.shape[1] // lr.shape[1]
    result = np.asarray(sr, np.float32)
    for _ in range(rounds):
        result = result + enlarge(lr - block_mean(result, scale), scale)
    return result


def local_mean(imgs: np.ndarray, window: int | tuple[int, int] = 5) -> np.ndarray:
    """Return the mean of the valid pixels in a window around each pixel.

    The window is cut at the margins, and missing pixels do not count.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, h, w, C) or (h, w)
        NaN marks a missing pixel.
    window : int or (int, int)
        Odd window size in pixels (rows, columns).

    Returns
    -------
    numpy.ndarray, same shape, float64
        NaN if the window holds no valid pixel.
    """
    rows, columns = (window, window) if isinstance(window, int) else window
    size = (rows, columns) if imgs.ndim == 2 else (1, rows, columns, 1)
    valid = ~np.isnan(imgs)
    values = np.where(valid, imgs, 0).astype(np.float64)
    total = ndimage.uniform_filter(values, size, mode="constant")
    # The share of valid pixels is a multiple of 1 / (rows * columns). Rounding removes the drift of
    # the running sums, so that "no valid pixel" is exactly zero.
    share = ndimage.uniform_filter(valid.astype(np.float64), size, mode="constant")
    count = np.rint(share * rows * columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total * (rows * columns) / count, np.nan)


#: Radii, in pixels, of the windows whose plane fills missing pixels.
_PLANE_REACHES = (2, 4, 8)
#: Regularises the slope of a plane, in squared pixels, so that a few pixels give no steep plane.
_RIDGE = 0.05


def fill_gaps(img: np.ndarray, reach: int) -> np.ndarray:
    """Continue the valid pixels of an image into its gaps, as far as `reach`.

    Near valid pixels, a missing pixel gets the value of a plane through them (weighted least
    squares), so that slopes continue and interpolation next to the gap does not ring. Farther away,
    it gets the mean of the smallest window with a valid pixel. The result depends only on the valid
    pixels within `reach`, never on other filled pixels.

    Parameters
    ----------
    img : numpy.ndarray, shape (h, w, C)
        NaN marks a missing pixel.
    reach : int
        Distance in pixels.

    Returns
    -------
    numpy.ndarray, same shape, float32
        Without NaN; pixels farther than `reach` from all valid ones have the mean of the image.
    """
    result = np.array(img, np.float32)
    offset = np.float32(np.nanmean(img, dtype=np.float64))
    for channel in np.moveaxis(result, 2, 0):
        source = channel - offset
        missing = np.isnan(source)
        if not missing.any():
            continue
        radius = 0
        radii = sorted({min(r, reach) for r in _PLANE_REACHES})
        for radius in radii:
            # At the rim of a window there would be only one line of pixels, hence no slope.
            within = radius if radius == radii[-1] else radius // 2
            _continue_planes(source, channel, missing, radius, within, offset)
        while radius < reach and np.isnan(channel).any():
            radius = min(2 * radius, reach)
            means = local_mean(source, 2 * radius + 1) + offset
            np.copyto(channel, means, where=np.isnan(channel), casting="same_kind")
        channel[np.isnan(channel)] = offset
    return result


def _continue_planes(
    source: np.ndarray,
    target: np.ndarray,
    missing: np.ndarray,
    radius: int,
    within: int,
    offset: np.float32,
) -> None:
    """Fill the pixels of `target` that have a valid pixel of `source` within `within` pixels."""
    place = np.arange(-radius, radius + 1, dtype=np.float64)
    weight = np.exp(-0.5 * np.square(place / (radius / 2)))
    valid = (~missing).astype(np.float64)
    values = np.where(missing, 0.0, source)

    def moment(imgs: np.ndarray, rows: int, columns: int) -> np.ndarray:
        down = ndimage.correlate1d(imgs, weight * place**rows, axis=0, mode="constant")
        return ndimage.correlate1d(down, weight * place**columns, axis=1, mode="constant")

    count = moment(valid, 0, 0)
    near = ndimage.maximum_filter(valid, 2 * within + 1, mode="constant") > 0
    wanted = np.isnan(target) & near
    if not wanted.any():
        return
    count = count[wanted]
    powers = ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1))
    y, x, yy, xx, xy = (moment(valid, *power)[wanted] / count for power in powers)
    z, zy, zx = (moment(values, *power)[wanted] / count for power in ((0, 0), (1, 0), (0, 1)))
    yy, xx, xy = yy - y * y + _RIDGE, xx - x * x + _RIDGE, xy - x * y
    zy, zx = zy - y * z, zx - x * z
    determinant = yy * xx - xy * xy
    slope_y, slope_x = (xx * zy - xy * zx) / determinant, (yy * zx - xy * zy) / determinant
    target[wanted] = (z - slope_y * y - slope_x * x + offset).astype(np.float32)
