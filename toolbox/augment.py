"""Augmentation of LR / HR pairs: one implementation, used offline and online.

The basic functions (`flipped`, `rotated`, `zoomed`) change every image of a stack in the same way.
The functions in the registry, ``f(lr, hr, rng, **params) -> (lr, hr)``, draw a random change for
each pair and apply it to both images about the same physical centre.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from toolbox.errors import ConfigError
from toolbox.registry import AUGMENTATIONS
from toolbox.warp import (
    FillMode,
    apply_operator,
    magnification_matrices,
    magnify,
    rotation_operator,
)

Pair = tuple[np.ndarray, np.ndarray]

#: Number of angles that online rotation chooses from; the matrix of each is cached.
ONLINE_ANGLES = 65
_CHUNK = 256  # patches at a time, which fit into the cache of a core


def flipped(imgs: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mirror images (N, H, W, C); axis 1 is up-down, axis 2 left-right."""
    return np.flip(imgs, axes)


def rotated(imgs: np.ndarray, degrees: float, fill_mode: FillMode = "reflect") -> np.ndarray:
    """Rotate images counter-clockwise about their centre.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        Images; a NaN spreads to its neighbours.
    degrees : float
        Angle. Quarter turns of square images, and half turns of any image, move pixels without
        changing their values.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the corners.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C), float32
    """
    return next(turned(imgs, (degrees,), fill_mode))


def turned(
    imgs: np.ndarray, angles: Sequence[float], fill_mode: FillMode = "reflect"
) -> Iterator[np.ndarray]:
    """Rotate images by several angles; angles a quarter turn apart share one interpolation.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        Images.
    angles : sequence of float
        Degrees, counter-clockwise.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the corners.

    Yields
    ------
    numpy.ndarray, shape (N, H, W, C), float32
        One stack for each angle, as returned by `rotated`.
    """
    imgs = np.asarray(imgs, np.float32)
    step = 90 if imgs.shape[1] == imgs.shape[2] else 180
    known: dict[float, np.ndarray] = {0.0: imgs}
    for degrees in angles:
        turns, rest = divmod(float(degrees), step)
        if rest not in known:
            known[rest] = _interpolated(imgs, rest, fill_mode)
        yield np.rot90(known[rest], int(turns) * step // 90, axes=(1, 2))


def _interpolated(imgs: np.ndarray, degrees: float, fill_mode: FillMode) -> np.ndarray:
    """Rotate by an angle that moves pixels off the grid, one chunk per core."""
    n, h, w, _ = imgs.shape
    operator = rotation_operator(h, w, degrees, fill_mode)
    if n <= _CHUNK:
        return apply_operator(operator, imgs)
    result = np.empty(imgs.shape, np.float32)

    def turn(start: int) -> None:
        part = slice(start, start + _CHUNK)
        result[part] = apply_operator(operator, imgs[part])

    # SciPy's sparse products release the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(turn, range(0, n, _CHUNK)))
    return result


def zoomed(
    imgs: np.ndarray,
    factors: np.ndarray | tuple[float, float],
    fill_mode: FillMode = "reflect",
) -> np.ndarray:
    """Magnify images horizontally about their centre, values unchanged.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        Images.
    factors : array-like, shape (N, 2) or (2,)
        Magnification of rows and columns; 0.5 shrinks the terrain to half its width, which doubles
        its slopes.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the surroundings.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C), float32
    """
    by_axis = np.atleast_2d(np.asarray(factors, np.float64))
    rows = magnification_matrices(imgs.shape[1], by_axis[:, 0], fill_mode)
    columns = rows
    if imgs.shape[1] != imgs.shape[2] or not np.array_equal(by_axis[:, 0], by_axis[:, 1]):
        columns = magnification_matrices(imgs.shape[2], by_axis[:, 1], fill_mode)
    return magnify(imgs, rows, columns)


def flip(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    horizontal: bool = True,
    vertical: bool = True,
) -> Pair:
    """Mirror each pair with probability one half in each allowed direction.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs.
    rng : numpy.random.Generator
        Source of the choices.
    horizontal, vertical : bool
        Allow left-right, up-down.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
    """
    lr, hr = lr.copy(), hr.copy()
    for allowed, axis in ((horizontal, 2), (vertical, 1)):
        chosen = rng.random(len(lr)) < 0.5
        if allowed:
            for imgs in (lr, hr):
                imgs[chosen] = flipped(imgs[chosen], (axis,))
    return lr, hr


def quarter_turn(lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
    """Rotate each pair by zero to three quarter turns, without changing pixel values.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, h, C) and (N, H, H, C)
        Pairs of square images.
    rng : numpy.random.Generator
        Source of the choices.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)

    Raises
    ------
    ConfigError
        If the images are not square.
    """
    if lr.shape[1] != lr.shape[2]:
        raise ConfigError(
            f"quarter_turn needs square images; received {lr.shape[1]} × {lr.shape[2]} pixels. "
            f"Leave out quarter_turn."
        )
    lr, hr = lr.copy(), hr.copy()
    turns = rng.integers(4, size=len(lr))
    for imgs in (lr, hr):
        for count in (1, 2, 3):
            imgs[turns == count] = np.rot90(imgs[turns == count], count, axes=(1, 2))
    return lr, hr


def rotate(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    degrees: float = 180.0,
    fill_mode: FillMode = "reflect",
) -> Pair:
    """Rotate each pair by one of 65 evenly spaced angles in [-degrees, degrees].

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs.
    rng : numpy.random.Generator
        Source of the angles.
    degrees : float
        Largest angle.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the corners.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
    """
    angles = np.linspace(-degrees, degrees, ONLINE_ANGLES)
    drawn = rng.integers(ONLINE_ANGLES, size=len(lr))
    results = np.empty(lr.shape, np.float32), np.empty(hr.shape, np.float32)
    for number in np.unique(drawn):
        chosen = drawn == number
        for result, imgs in zip(results, (lr, hr), strict=True):
            result[chosen] = rotated(imgs[chosen], float(angles[number]), fill_mode)
    return results


def zoom(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    zoom_range: tuple[float, float] = (0.5, 1.0),
    iso: bool = True,
    fill_mode: FillMode = "reflect",
) -> Pair:
    """Magnify each pair horizontally by a factor drawn from `zoom_range`, depths unchanged.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs.
    rng : numpy.random.Generator
        Source of the factors.
    zoom_range : (float, float)
        Smallest and largest magnification; see `zoomed`.
    iso : bool
        Use the same factor for rows and columns.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the surroundings.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
    """
    factors = rng.uniform(*zoom_range, (len(lr), 2))
    if iso:
        factors[:, 1] = factors[:, 0]
    return zoomed(lr, factors, fill_mode), zoomed(hr, factors, fill_mode)


def depth_scale(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    depth_scale_range: tuple[float, float] = (0.5, 1.5),
) -> Pair:
    """Multiply the depths of each pair by a factor drawn from `depth_scale_range`.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs in metres.
    rng : numpy.random.Generator
        Source of the factors.
    depth_scale_range : (float, float)
        Smallest and largest factor.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
    """
    factors = rng.uniform(*depth_scale_range, (len(lr), 1, 1, 1)).astype(np.float32)
    return lr * factors, hr * factors


class Augmenter:
    """Applies a list of augmentations one after the other.

    Parameters
    ----------
    steps : list of (str, dict)
        Name in the registry and parameters.
    """

    def __init__(self, steps: list[tuple[str, dict[str, Any]]]) -> None:
        self._steps = [(AUGMENTATIONS.resolve(name), params) for name, params in steps]

    def __call__(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return the augmented batch, float32."""
        lr, hr = np.asarray(lr, np.float32), np.asarray(hr, np.float32)
        for step, params in self._steps:
            lr, hr = step(lr, hr, rng, **params)
        return lr, hr
