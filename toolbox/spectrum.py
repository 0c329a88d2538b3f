"""Power spectra of stacks of images: the amount of relief at each wavelength (NumPy)."""

from __future__ import annotations

import numpy as np

#: Between pixels: the same along rows and columns, or (between rows, between columns).
Spacing = float | tuple[float, float]
#: Pixels per chunk: 16 MiB as float64, and several times that during the transform.
_CHUNK_PIXELS = 2**21


def power_spectrum(imgs: np.ndarray, spacing: Spacing = 1.0) -> np.ndarray:
    """Return the mean two-dimensional power spectral density of a stack of images.

    From every image and channel, the best-fitting plane is subtracted, and a Hann window w is
    applied; then ``P = |FFT|² dy dx / Σ w²``, averaged over images and channels. The sum of P over
    all frequencies times ``df_y df_x = 1 / (H dy W dx)`` is ``Σ (w x)² / Σ w²`` (Parseval): the
    mean square about the plane, if the terrain is statistically uniform across the image.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        Metres for depth maps; no missing values. Read in chunks, so it may be memory-mapped.
    spacing : float or (float, float)
        Grid spacing (between rows, between columns), metres for maps; 1 for units of pixels.

    Returns
    -------
    numpy.ndarray, shape (H, W), float64
        Unit of `imgs` squared times unit of `spacing` squared (m² · m² for maps, that is m² per
        (cycle/m)²), in the order of ``numpy.fft.fftfreq``.
    """
    count, rows, columns, channels = imgs.shape
    window = np.outer(_hann(rows), _hann(columns))
    half = np.zeros((rows, columns // 2 + 1))
    step = max(1, _CHUNK_PIXELS // (rows * columns * channels))
    for start in range(0, count, step):
        part = np.moveaxis(np.asarray(imgs[start : start + step], np.float64), 3, 1)
        transformed = np.fft.rfft2(_without_plane(part) * window)
        half += (np.square(transformed.real) + np.square(transformed.imag)).sum(axis=(0, 1))
    dy, dx = pair_of(spacing)
    half *= dy * dx / (np.square(window).sum() * count * channels)
    # Real images have P(-f) = P(f).
    mirrored = half[-np.arange(rows)][:, (columns - 1) // 2 : 0 : -1]
    return np.concatenate([half, mirrored], axis=1)


def radial_spectrum(imgs: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the power spectral density averaged over all directions.

    Annulus k holds the frequencies whose distance from zero is nearest to k df, with ``df = 1 /
    the shorter side of the image``. The last one reaches the Nyquist frequency of the wider of the
    two spacings; higher frequencies, in the corners, are left out.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C) or (H, W)
        Images, metres for depth maps, or their `power_spectrum` for the same `spacing`.
    spacing : float or (float, float)
        Grid spacing (between rows, between columns), metres for maps; 1 for units of pixels.

    Returns
    -------
    frequency : numpy.ndarray, shape (K,), float64
        Centres of the annuli, cycles per unit of `spacing` (cycles/m for maps), ascending.
    power : numpy.ndarray, shape (K,), float64
        Mean of `power_spectrum` in each annulus (m² · m² for maps). White noise of variance v
        has ``v dy dx`` everywhere; ``∫ power 2 π f df`` is the variance of the terrain.
    """
    power = _power(imgs, spacing)
    dy, dx = pair_of(spacing)
    radius = _radius(power.shape, spacing)
    df = 1 / min(power.shape[0] * dy, power.shape[1] * dx)
    last = int(0.5 / max(dy, dx) / df + 1e-9)
    annulus = np.floor(radius / df + 0.5).astype(int).ravel()
    total = np.bincount(annulus, power.ravel())[1 : last + 1]
    return df * np.arange(1, last + 1), total / np.bincount(annulus)[1 : last + 1]


def high_frequency_energy(truth: np.ndarray, imgs: np.ndarray, scale: int) -> float | None:
    """Return the energy beyond the low-resolution grid, relative to that of the truth.

    The band is ``f > 0.5 / scale`` cycles per high-resolution pixel, including the corners: above
    the Nyquist frequency of the low-resolution grid. Energies are sums of `power_spectrum`.

    Parameters
    ----------
    truth, imgs : numpy.ndarray, shape (N, H, W, C) or (H, W)
        High-resolution images, or their `power_spectrum`; both for the same spacing.
    scale : int
        High resolution ÷ low resolution.

    Returns
    -------
    float or None
        1 if `imgs` have as much energy as the truth (in the right place or not), below 1 if they
        are too smooth, above 1 if they are too rough. None if the truth has none in the band.
    """
    truth, imgs = _power(truth), _power(imgs)
    # The factor excludes a frequency that exceeds the limit only by rounding.
    band = _radius(truth.shape, 1.0) > 0.5 / scale * (1 + 1e-9)
    reference = float(truth[band].sum())
    return float(imgs[band].sum()) / reference if reference else None


def _power(imgs: np.ndarray, spacing: Spacing = 1.0) -> np.ndarray:
    return imgs if imgs.ndim == 2 else power_spectrum(imgs, spacing)


def pair_of(spacing: Spacing) -> tuple[float, float]:
    """Return a spacing as two numbers: between rows, between columns."""
    return (spacing[0], spacing[1]) if isinstance(spacing, (tuple, list)) else (spacing, spacing)


def _radius(shape: tuple[int, ...], spacing: Spacing) -> np.ndarray:
    """Return the distance of every frequency from zero, (H, W), cycles per unit of `spacing`."""
    dy, dx = pair_of(spacing)
    return np.hypot(np.fft.fftfreq(shape[0], dy)[:, None], np.fft.fftfreq(shape[1], dx))


def _hann(size: int) -> np.ndarray:
    """Return a symmetric Hann window; a wave leaks only into frequencies ±1."""
    return np.square(np.sin(np.pi * (np.arange(size) + 0.5) / size))


def _without_plane(imgs: np.ndarray) -> np.ndarray:
    """Subtract the least-squares plane from each image (..., H, W)."""
    rows, columns = imgs.shape[-2:]
    y, x = np.arange(rows)[:, None] - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
    flat = imgs - imgs.mean(axis=(-2, -1), keepdims=True)
    # The centred coordinates are orthogonal to each other and to the mean.
    up = (flat * y).sum(axis=(-2, -1), keepdims=True) / (columns * np.square(y).sum())
    across = (flat * x).sum(axis=(-2, -1), keepdims=True) / (rows * np.square(x).sum())
    return flat - up * y - across * x
