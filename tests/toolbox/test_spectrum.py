"""Power spectra against theory: noise, waves, planes, Parseval's theorem, known filters."""

import numpy as np
import pytest

from toolbox import spectrum
from toolbox.spectrum import high_frequency_energy, power_spectrum, radial_spectrum

SPACINGS = [50.0, (92.77, 74.48)]


def noise(count=200, rows=32, columns=32, channels=1, seed=0):
    """Return white noise of variance 1, (N, H, W, C)."""
    return np.random.default_rng(seed).normal(size=(count, rows, columns, channels))


def wave(up, across, size=64, phase=0.3):
    """Return one image with `up` and `across` periods along its rows and columns."""
    row, column = np.mgrid[:size, :size] / size
    return np.cos(2 * np.pi * (up * row + across * column) + phase)[None, ..., None]


def cell(shape, spacing):
    """Return the area of one pixel of the frequency plane, (cycles per unit)²."""
    dy, dx = np.broadcast_to(spacing, 2)
    return 1 / (shape[0] * dy * shape[1] * dx)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_white_noise_is_flat(spacing):
    """Every annulus holds variance times the area of a pixel; the plane takes from the first."""
    frequency, power = radial_spectrum(3 * noise(), spacing)
    dy, dx = np.broadcast_to(spacing, 2)
    assert len(frequency) == len(power) > 10
    np.testing.assert_allclose(power[2:] / (9 * dy * dx), 1, atol=0.05)


@pytest.mark.parametrize("shape", [(3, 16, 16, 1), (2, 15, 22, 3), (1, 24, 11, 2)])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_parseval(shape, spacing):
    """The integral of the density is the windowed mean square about the plane, to rounding."""
    count, rows, columns, channels = shape
    imgs = noise(*shape) + 1500
    y, x = np.mgrid[:rows, :columns]
    design = np.stack([np.ones(rows * columns), y.ravel(), x.ravel()], axis=1)
    flat = np.moveaxis(imgs, 3, 1).reshape(count * channels, -1).T
    rest = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (rows, columns)))
    energy = np.square(rest * window.reshape(-1, 1)).sum() / np.square(window).sum()
    power = power_spectrum(imgs, spacing)
    assert power.shape == (rows, columns)
    assert power.dtype == np.float64
    total = power.sum() * cell(power.shape, spacing)
    np.testing.assert_allclose(total, energy / (count * channels), rtol=1e-10)


def test_power_is_that_of_the_whole_transform():
    """The half that is computed and its mirror image are the full FFT, for odd and even sizes."""
    for rows, columns in ((12, 14), (13, 15)):
        img = noise(1, rows, columns)
        window = np.outer(spectrum._hann(rows), spectrum._hann(columns))
        flat = spectrum._without_plane(img[0, ..., 0])
        whole = np.abs(np.fft.fft2(flat * window)) ** 2 / np.square(window).sum()
        np.testing.assert_allclose(power_spectrum(img), whole, atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_radial_integral_is_the_variance(spacing):
    """∫ P 2 π f df is the variance of relief that ends before the Nyquist frequency."""
    rows, columns, (dy, dx) = 64, 64, np.broadcast_to(spacing, 2)
    f = np.hypot(np.fft.fftfreq(rows, dy)[:, None], np.fft.fftfreq(columns, dx))
    limit = 0.5 / max(dy, dx)
    band = (f > 0.2 * limit) & (f < 0.8 * limit)
    relief = np.fft.ifft2(np.fft.fft2(noise(100, 64, 64)[..., 0]) * band).real[..., None]
    frequency, power = radial_spectrum(relief, spacing)
    integral = (power * 2 * np.pi * frequency).sum() * (frequency[1] - frequency[0])
    assert integral == pytest.approx(relief.var(), rel=0.03)


@pytest.mark.parametrize(("up", "across"), [(12, 0), (0, 12), (9, 12), (-20, 5), (31, 0)])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_wave_peaks_in_its_annulus(up, across, spacing):
    """The highest annulus is the one that holds the frequency of the wave."""
    dy, dx = np.broadcast_to(spacing, 2)
    expected = np.hypot(up / (64 * dy), across / (64 * dx))
    frequency, power = radial_spectrum(wave(up, across), spacing)
    assert frequency[power.argmax()] == frequency[np.abs(frequency - expected).argmin()]


def test_a_wave_has_half_its_squared_amplitude():
    """Energy correction: the window does not change the energy of a wave."""
    power = power_spectrum(7 * wave(9, 12), 50.0)
    assert power.sum() * cell(power.shape, 50.0) == pytest.approx(49 / 2, rel=1e-3)


def test_depth_and_plane_do_not_count():
    """Relief on a slope at 6000 m has the spectrum of the relief; a plane alone has none."""
    row, column = np.mgrid[:32, :32]
    plane = (-6000 + 12.0 * row - 7.0 * column)[None, ..., None]
    relief = noise(3)
    np.testing.assert_allclose(power_spectrum(relief + plane), power_spectrum(relief), atol=1e-9)
    assert power_spectrum(plane).max() < 1e-15


@pytest.mark.parametrize("shape", [(16, 16), (15, 15), (11, 40), (40, 11), (33, 32), (13, 64)])
@pytest.mark.parametrize("spacing", [1.0, (92.77, 74.48), (10.0, 35.0)])
def test_annuli_of_any_shape(shape, spacing):
    """Frequencies ascend evenly to the Nyquist frequency of the wider spacing, none is empty."""
    frequency, power = radial_spectrum(noise(2, *shape), spacing)
    df, limit = frequency[0], 0.5 / np.max(spacing)
    np.testing.assert_allclose(np.diff(frequency), df)
    assert limit - df < frequency[-1] <= limit * (1 + 1e-9)
    assert np.isfinite(power).all()
    assert (power > 0).all()


def test_many_images_are_transformed_in_chunks(monkeypatch):
    """The mean is the same in chunks of one or of three images, images in float32 or not."""
    imgs = noise(7, 16, 12, 2)
    expected = power_spectrum(imgs, 50.0)
    for images in (0, 3):
        monkeypatch.setattr(spectrum, "_CHUNK_PIXELS", images * 16 * 12 * 2)
        np.testing.assert_allclose(power_spectrum(imgs, 50.0), expected, rtol=1e-12)
    single = power_spectrum(imgs.astype(np.float32), 50.0)
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_images_or_their_spectrum():
    """A spectrum that is already there takes the place of the images."""
    truth, imgs = noise(4), noise(4, seed=1)
    pair = power_spectrum(truth, 50.0), power_spectrum(imgs, 50.0)
    np.testing.assert_array_equal(radial_spectrum(truth, 50.0), radial_spectrum(pair[0], 50.0))
    expected = high_frequency_energy(truth, imgs, 4)
    assert high_frequency_energy(*pair, 4) == pytest.approx(expected, rel=1e-12)


def test_equal_images_have_all_the_energy():
    """The truth itself has ratio 1, at half its height a quarter; a flat truth has no ratio."""
    truth = noise(5)
    assert high_frequency_energy(truth, truth, 4) == 1
    assert high_frequency_energy(truth, truth / 2 - 4000, 4) == pytest.approx(0.25)
    assert high_frequency_energy(np.full_like(truth, -100), truth, 4) is None


def test_waves_above_the_low_resolution_nyquist_count():
    """At scale 4 the limit is 8 periods in 64 pixels: 5 do not count, 20 count by their square."""
    truth = wave(5, 0) + 0.5 * wave(0, 20)
    imgs = 3 * wave(5, 0) + 0.5 * 0.3 * wave(0, 20)
    assert high_frequency_energy(truth, imgs, 4) == pytest.approx(0.09, rel=1e-3)
    assert high_frequency_energy(truth, wave(5, 0), 4) < 1e-4


def test_a_known_low_pass():
    """Smoothing by ¼ ½ ¼ both ways multiplies the power by cos⁴ of each frequency."""
    truth = noise(300)
    smooth = truth
    for axis in (1, 2):
        smooth = smooth / 2 + (np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)) / 4
    response = np.cos(np.pi * np.fft.fftfreq(32)) ** 4
    transfer = np.outer(response, response)
    gain = power_spectrum(smooth) / power_spectrum(truth)
    clear = transfer > 0.05
    clear[:2, :2] = clear[-1:, :2] = clear[:2, -1:] = clear[-1:, -1:] = False  # the plane
    np.testing.assert_allclose(gain[clear], transfer[clear], rtol=0.15, atol=0.02)
    f = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32))
    expected = transfer[f > 0.125].mean()
    assert high_frequency_energy(truth, smooth, 4) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("scale", [2, 3, 4, 5, 7, 8])
def test_the_limit_itself_does_not_count(scale):
    """A frequency of exactly 0.5 / scale lies outside the band, the next one inside."""
    size = 2 * scale * 6
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    for k, counts in ((5, False), (6, False), (7, True)):
        power = np.zeros((size, size))
        power[k, 0] = power[0, -k] = 1
        ratio = high_frequency_energy(np.ones_like(f), power, scale)
        assert ratio == (2 / (f > 0.5 / scale + 1e-6).sum() if counts else 0)
