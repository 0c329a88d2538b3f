"""Plain filters for comparison with restored pictures, at their best strength."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

Filter = Callable[[np.ndarray], np.ndarray]
#: Standard deviations of the Gaussian filter that are tried, pixels.
GAUSSIANS_PX = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
#: Strengths of non-local means, as multiples of the noise, and Gaussians before it, pixels.
_STRENGTHS = (0.6, 0.8, 1.0, 1.3)
_GAUSSIANS_BEFORE_PX = (0.0, 1.0)
#: Side of the part on which filters are chosen, pixels, and largest number of pictures.
_PART_PX = 192
PICTURES = 4
_ROOT3 = np.sqrt(3.0)
#: High-pass taps of the four-tap Daubechies wavelet; white noise keeps its standard deviation.
_DETAIL = np.array([_ROOT3 - 1, 3 - _ROOT3, -3 - _ROOT3, 1 + _ROOT3]) / np.sqrt(32.0)
#: Median of the absolute value of a standard normal variable.
_NORMAL_MEDIAN = 0.6744897501960817


def gaussian(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur an image (H, W) with a Gaussian of `sigma_px` pixels; return float32."""
    blurred: np.ndarray = ndimage.gaussian_filter(image.astype(np.float32), sigma_px)
    return blurred


def noise_of(image: np.ndarray) -> float:
    """Estimate the standard deviation of white noise from the finest diagonal detail.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.

    Returns
    -------
    float
        In grey values; 0 for a picture without such detail. If noise is correlated between pixels,
        this is only the part at the finest scale.

    References
    ----------
    Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425, with the wavelet of Daubechies 1988,
    doi:10.1002/cpa.3160410705, of four taps.
    """
    detail = image.astype(np.float64)
    for _ in range(2):  # along rows, then along columns
        detail = ndimage.correlate1d(detail, _DETAIL, axis=0, mode="reflect")[::2].T
    sizes = np.abs(detail)
    # Flat parts, such as saturated ones, contain no information about the noise.
    sizes = sizes[sizes > 1e-6 * np.abs(image).max()]
    return float(np.median(sizes)) / _NORMAL_MEDIAN if sizes.size else 0.0


def non_local_means(image: np.ndarray, strength: float, sigma_px: float = 0.0) -> np.ndarray:
    """Average over similar patches (Buades et al. 2005, doi:10.1109/CVPR.2005.38).

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
        Grey values.
    strength : float
        Cut-off as a multiple of the noise estimated in the image.
    sigma_px : float
        Standard deviation of a Gaussian filter applied first, pixels.

    Returns
    -------
    numpy.ndarray, shape (H, W), float32
    """
    from skimage.restoration import denoise_nl_means

    calm = gaussian(image, sigma_px) if sigma_px else image.astype(np.float32)
    noise = noise_of(calm)
    if not noise > 0:
        return calm
    result = denoise_nl_means(
        calm, patch_size=5, patch_distance=7, h=strength * noise, sigma=noise, fast_mode=True
    )
    return np.asarray(result, np.float32)


def choose_filters(
    low: Sequence[np.ndarray], high: Sequence[np.ndarray], gaussian_px: float | None = None
) -> dict[str, tuple[Filter, str]]:
    """Choose for each filter the strength that brings `low` nearest to `high`.

    Parameters
    ----------
    low, high : sequence of numpy.ndarray, shape (H, W)
        Pairs that are not in the test.
    gaussian_px : float, optional
        Use this Gaussian filter instead of the best one.

    Returns
    -------
    dict of str to (callable, str)
        By method: the filter and its description.
    """
    pairs = [(_middle(a), _middle(b)) for a, b in list(zip(low, high, strict=True))[:PICTURES]]
    sigmas = GAUSSIANS_PX if gaussian_px is None else (gaussian_px,)
    blurs = [(functools.partial(gaussian, sigma_px=s), f"sigma {s:g} px") for s in sigmas]
    means = [
        (
            functools.partial(non_local_means, strength=h, sigma_px=s),
            f"strength {h:g} of the noise" + (f" after a Gaussian of {s:g} px" if s else ""),
        )
        for s in _GAUSSIANS_BEFORE_PX
        for h in _STRENGTHS
    ]
    return {"gaussian": _best(blurs, pairs), "non_local_means": _best(means, pairs)}


def _best(
    candidates: Sequence[tuple[Filter, str]], pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[Filter, str]:
    if len(candidates) == 1:
        return candidates[0]
    errors = [
        sum(float(np.square(candidate(low) - high).mean()) for low, high in pairs)
        for candidate, _ in candidates
    ]
    return candidates[int(np.argmin(errors))]


def _middle(image: np.ndarray) -> np.ndarray:
    rows, columns = (max(0, (size - _PART_PX) // 2) for size in image.shape)
    return image[rows : rows + _PART_PX, columns : columns + _PART_PX].astype(np.float32)
