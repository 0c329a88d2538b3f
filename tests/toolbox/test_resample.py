"""Enlargement, block means, local means and back-projection on the pixel grid."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from toolbox.errors import ConfigError
from toolbox.resample import back_project, block_mean, enlarge, local_mean, resize_matrix

METHODS = ("bicubic", "bilinear", "nearest")
SCALES = (1, 2, 3, 4, 5)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def brute_force_mean(img, rows, columns):
    """Average the valid pixels of a (h, w) image window by window."""
    result = np.full(img.shape, np.nan)
    for i in range(img.shape[0]):
        for j in range(img.shape[1]):
            top, left = max(i - rows // 2, 0), max(j - columns // 2, 0)
            window = img[top : i + rows // 2 + 1, left : j + columns // 2 + 1]
            if not np.isnan(window).all():
                result[i, j] = np.nanmean(window)
    return result


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
def test_enlarge_equals_tensorflow(method, scale):
    """The numbers are those of tf.image.resize, edges and odd scales included."""
    imgs = noise(2, 7, 9, 2)
    expected = tf.image.resize(imgs, (7 * scale, 9 * scale), method).numpy()
    result = enlarge(imgs, scale, method)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_enlarge_golden_step():
    """A bicubically enlarged step overshoots by Keys's weights, -9, 111, 29, -3 in 128ths.

    Golden: ``128 * tf.image.resize(step, (2, 12), "bicubic")`` of ``[0, 0, 0, 1, 1, 1]``,
    TensorFlow 2.21.0 on a CPU, 2026-11-20.
    """
    step = np.float32([0, 0, 0, 1, 1, 1])[None, None, :, None]
    golden = [0, 0, 0, -3, -9, 26, 102, 137, 131, 128, 128, 128]
    np.testing.assert_allclose(128 * enlarge(step, 2)[0, 0, :, 0], golden, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", SCALES)
def test_great_depths_lose_no_precision(scale, method):
    """Relief at -4000 m is enlarged to within the rounding of float32 itself."""
    relief = np.round(noise(2, 8, 8, 1) * 64) / 64  # exact in float32 at 4000 m, too
    exact = enlarge(relief, scale, method).astype(np.float64) - 4000
    result = enlarge(relief - np.float32(4000), scale, method)
    np.testing.assert_allclose(result, exact, rtol=0, atol=np.spacing(np.float32(4000)))


def test_float64_and_integer_images_are_taken():
    """Whatever number type a file holds, the result is float32 and the same."""
    imgs = np.round(noise(1, 6, 6, 1) * 100)
    expected = enlarge(imgs, 2)
    for dtype in (np.float64, np.int16):
        result = enlarge(imgs.astype(dtype), 2)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 16])
@pytest.mark.parametrize("method", METHODS)
def test_resize_matrix_rows_sum_to_one(method, size):
    """A constant stays the same constant, even for images smaller than the kernel."""
    for scale in SCALES:
        matrix = resize_matrix(size, scale, method)
        assert matrix.shape == (size * scale, size)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_bicubic_keeps_a_tilted_plane():
    """Inside, a plane is enlarged to the same plane, half a pixel further out at either end."""
    plane = (3.0 * np.arange(12)[:, None] - 2.0 * np.arange(10) - 4000.0)[None, ..., None]
    row, column = ((np.arange(n * 4) + 0.5) / 4 - 0.5 for n in (12, 10))
    expected = (3.0 * row[:, None] - 2.0 * column - 4000.0)[None, ..., None]
    inside = np.s_[:, 8:-8, 8:-8]
    np.testing.assert_allclose(enlarge(plane, 4)[inside], expected[inside], atol=1e-3)


def test_unknown_method_is_refused():
    """The message names the three methods and what was received."""
    with pytest.raises(ConfigError, match=r"bicubic, bilinear or nearest; received 'lanczos'"):
        enlarge(noise(1, 4, 4, 1), 2, "lanczos")


@pytest.mark.parametrize("scale", SCALES)
def test_block_mean_undoes_nearest(scale):
    """Averaging repeated pixels gives the pixels back."""
    imgs = noise(2, 5, 6, 3)
    np.testing.assert_allclose(block_mean(enlarge(imgs, scale, "nearest"), scale), imgs, atol=1e-6)


def test_block_mean_of_enlarged_plane_is_the_plane():
    """Bicubic enlargement and area mean share one pixel grid: no half-pixel shift between them."""
    plane = (np.arange(12)[:, None] * 5.0 + np.arange(12) * 2.0)[None, ..., None]
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_allclose(block_mean(enlarge(plane, 4), 4)[inside], plane[inside], atol=1e-4)


def test_block_mean_by_hand_and_with_gaps():
    """Each block is averaged by itself; a gap makes only its own block missing."""
    img = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(block_mean(img, 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    img[0, 0, 3] = np.nan
    np.testing.assert_array_equal(block_mean(img, 2)[0, ..., 0], [[2.5, np.nan], [10.5, 12.5]])


def test_back_projection_shrinks_the_residual_every_round():
    """Each round brings the block mean of the output nearer to the input."""
    lr = noise(2, 12, 12, 1) * 20 - 3000
    sr = enlarge(lr, 4)
    residuals = [np.abs(lr - block_mean(back_project(sr, lr, n), 4)).max() for n in range(6)]
    assert all(after < 0.7 * before for before, after in itertools.pairwise(residuals))
    assert np.abs(lr - block_mean(back_project(sr, lr), 4)).max() < 0.02 * residuals[0]
    np.testing.assert_array_equal(back_project(sr, lr, 0), sr)


def test_back_projection_leaves_a_consistent_image_alone():
    """An image whose block mean is the input already is not changed."""
    hr = noise(1, 24, 24, 1)
    np.testing.assert_allclose(back_project(hr, block_mean(hr, 4)), hr, atol=1e-5)


@pytest.mark.parametrize("window", [3, 5, (5, 3)])
def test_local_mean_equals_a_window_loop(window):
    """Gaps do not count and the window is cut at the margins, as in a plain loop."""
    img = noise(9, 11).astype(np.float64) * 50 - 4000
    img[2:4, 3:6] = np.nan
    img[0, 0] = img[8, 10] = img[5, 0] = np.nan
    rows, columns = (window, window) if isinstance(window, int) else window
    result = local_mean(img, window)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, brute_force_mean(img, rows, columns), rtol=1e-12)


def test_local_mean_of_a_stack_keeps_images_and_channels_apart():
    """Every image and channel is averaged by itself."""
    stack = noise(3, 6, 7, 2).astype(np.float64)
    stack[1, 2, 2, 0] = np.nan
    result = local_mean(stack, 5)
    for n, channel in np.ndindex(3, 2):
        expected = brute_force_mean(stack[n, ..., channel], 5, 5)
        np.testing.assert_allclose(result[n, ..., channel], expected, rtol=1e-9, atol=1e-12)


def test_local_mean_without_a_valid_pixel_is_nan():
    """Where a window holds nothing, and only there, the mean is missing."""
    img = noise(12, 12)
    img[:7, :7] = np.nan
    result = local_mean(img, 5)
    missing = np.zeros((12, 12), bool)
    missing[:5, :5] = True
    np.testing.assert_array_equal(np.isnan(result), missing)
    assert np.isnan(local_mean(np.full((4, 4), np.nan), 3)).all()


def test_local_mean_is_linear_and_the_same_everywhere():
    """Sums and multiples pass through, and away from the edges a crop gives the crop of it."""
    a, b = (noise(1, 20, 20, 1, seed=seed).astype(np.float64) for seed in (0, 1))
    combined = local_mean(2 * a - 3 * b, 5)
    np.testing.assert_allclose(combined, 2 * local_mean(a, 5) - 3 * local_mean(b, 5), atol=1e-12)
    crop = local_mean(a[:, 3:15, 5:18], 5)
    whole = local_mean(a, 5)[:, 3:15, 5:18]
    np.testing.assert_allclose(crop[:, 2:-2, 2:-2], whole[:, 2:-2, 2:-2], atol=1e-12)
