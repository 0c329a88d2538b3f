"""Augmentation of LR / HR pairs: one implementation, used offline and online.

Each function takes and returns a batch of pairs, ``f(lr, hr, rng, **params) -> (lr, hr)``, and
moves both images about the same physical centre.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from toolbox.opencv import cv2
from toolbox.registry import AUGMENTATIONS

Pair = tuple[np.ndarray, np.ndarray]
FillMode = Literal["nearest", "reflect", "wrap"]

_BORDERS = {
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}


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
                imgs[chosen] = np.flip(imgs[chosen], axis)
    return lr, hr


def rotate(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    degrees: float = 180.0,
    fill_mode: FillMode = "reflect",
) -> Pair:
    """Turn each pair by an angle drawn from [-degrees, degrees], counter-clockwise.

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
    angles = np.radians(rng.uniform(-degrees, degrees, len(lr)))
    cosine, sine = np.cos(angles), np.sin(angles)
    matrices = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
    return _warp(lr, matrices, fill_mode), _warp(hr, matrices, fill_mode)


def zoom(
    lr: np.ndarray,
    hr: np.ndarray,
    rng: np.random.Generator,
    zoom_range: tuple[float, float] = (0.5, 1.0),
    iso: bool = True,
    fill_mode: FillMode = "reflect",
) -> Pair:
    """Magnify each pair horizontally by a factor drawn from `zoom_range`, depths unchanged.

    A factor of 0.5 shrinks the terrain to half its width, so that slopes double; what is missing
    around it is filled.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs.
    rng : numpy.random.Generator
        Source of the factors.
    zoom_range : (float, float)
        Smallest and largest magnification.
    iso : bool
        The same factor for rows and columns.
    fill_mode : {'nearest', 'reflect', 'wrap'}
        What fills the surroundings.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
    """
    factors = rng.uniform(*zoom_range, (len(lr), 2))
    if iso:
        factors[:, 1] = factors[:, 0]
    matrices = np.zeros((len(lr), 2, 2))
    matrices[:, 0, 0], matrices[:, 1, 1] = 1 / factors[:, 0], 1 / factors[:, 1]
    return _warp(lr, matrices, fill_mode), _warp(hr, matrices, fill_mode)


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


def _warp(imgs: np.ndarray, matrices: np.ndarray, fill_mode: FillMode) -> np.ndarray:
    """Sample image i at ``centre + matrices[i] @ (column, row offset)``, bicubically."""
    h, w = imgs.shape[1:3]
    centre = np.array([(w - 1) / 2, (h - 1) / 2])
    maps = np.concatenate([matrices, (centre - matrices @ centre)[..., None]], axis=2)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    border = _BORDERS[fill_mode]
    result = np.empty(imgs.shape, np.float32)
    for i, img in enumerate(np.asarray(imgs, np.float32)):
        warped = cv2.warpAffine(img, maps[i], (w, h), flags=flags, borderMode=border)
        result[i] = warped.reshape(img.shape)
    return result


class Augmenter:
    """Applies a list of augmentations in turn.

    Parameters
    ----------
    steps : list of (str, dict)
        Name in the registry and parameters.
    """

    def __init__(self, steps: list[tuple[str, dict[str, Any]]]) -> None:
        self._steps = [(AUGMENTATIONS.resolve(name), params) for name, params in steps]

    def __call__(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return the augmented batch, float32."""
        for step, params in self._steps:
            lr, hr = step(lr, hr, rng, **params)
        return lr, hr
