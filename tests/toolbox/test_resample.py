"""Enlargement, block means, local means and back-projection on the pixel grid."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from toolbox.errors import ConfigError
from toolbox.resample import (
    back_project,
    block_mean,
    enlarge,
    fill_gaps,
    local_mean,
    resize_matrix,
)

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


#: What is missing of an image of 24 × 30 pixels: a hole, a coast, a corner, most of it, a lattice.
GAPS = {
    "pixel": np.s_[10, 12],
    "hole": np.s_[7:16, 9:21],
    "coast": np.s_[:, 13:],
    "corner": np.s_[:5, :6],
    "rows": np.s_[3:, :],
    "lattice": np.s_[::2, ::2],
}


def gaps(name):
    """Return where pixels are missing."""
    missing = np.zeros((24, 30), bool)
    missing[GAPS[name]] = True
    return missing


def distance(missing):
    """Return the distance, in pixels along rows or columns, to the nearest valid pixel."""
    return ndimage.distance_transform_cdt(missing, metric="chessboard")


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 8, 21])
@pytest.mark.parametrize("name", sorted(GAPS))
def test_filling_a_constant_is_exact(name, reach):
    """A level surface goes on level, deep or shallow, as near as float32 has it."""
    for depth in (-4000.0, -0.1, 0.0):
        img = np.where(gaps(name), np.nan, depth)[..., None]
        filled = fill_gaps(img, reach)
        assert filled.dtype == np.float32
        np.testing.assert_allclose(filled, depth, rtol=2e-7, atol=0)


@pytest.mark.parametrize("reach", [1, 4, 9])
@pytest.mark.parametrize("name", sorted(GAPS))
def test_filling_changes_no_valid_pixel(name, reach):
    """Valid pixels keep their bytes, gaps become numbers, the image handed in stays as it is."""
    img = np.where(gaps(name)[..., None], np.float32(np.nan), 50 * noise(24, 30, 2) - 4000)
    copy = img.copy()
    img.flags.writeable = False
    filled = fill_gaps(img, reach)
    np.testing.assert_array_equal(img, copy)
    np.testing.assert_array_equal(filled[~gaps(name)], img[~gaps(name)])
    assert np.isfinite(filled).all()


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("pixel", 1),
        ("lattice", 1),
        *((name, d) for name in ("hole", "coast", "corner") for d in (1, 2)),
    ],
)
@pytest.mark.parametrize(("down", "across"), [(10.0, 0.0), (0.0, -10.0), (6.0, 8.0)])
def test_filling_goes_on_with_a_plane(name, depth, down, across):
    """A slope of 10 m a pixel goes on in a gap: off by 5 m at most, one and two pixels deep.

    The nearest pixel would be off by 10 m and 20 m. Interpolation beside the gap looks as far.
    """
    row, column = np.mgrid[:24, :30]
    plane = (down * row + across * column - 4000)[..., None]
    missing = gaps(name)
    filled = fill_gaps(np.where(missing[..., None], np.nan, plane), 6)
    near = distance(missing) == depth
    np.testing.assert_allclose(filled[near], plane[near], rtol=0, atol=5)


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("name", ["hole", "coast", "rows"])
def test_filling_looks_no_farther_than_its_reach(name, reach):
    """A pixel that changes by 100 m changes gaps within the reach alone, and some of those.

    A second one changes by as much the other way: the mean of the image, which gaps beyond the
    reach take, stays.
    """
    missing = gaps(name)
    img = np.where(missing[..., None], np.nan, 50 * noise(24, 30, 1) - 4000)
    row, column = np.indices(missing.shape)
    edge = np.argwhere(~missing & ndimage.binary_dilation(missing))
    other, near = img.copy(), np.zeros(missing.shape, bool)
    for (i, j), change in zip(edge[[0, -1]], (100, -100), strict=True):
        other[i, j] += change
        near |= np.maximum(np.abs(row - i), np.abs(column - j)) <= reach
    changed = np.abs(fill_gaps(other, reach) - fill_gaps(img, reach))[..., 0] > 5e-3
    assert not (changed & ~near).any()
    assert (changed & missing).any()


def test_filling_does_not_take_from_other_mends():
    """A crop that holds the pixels within reach of a gap gives the numbers of the whole image."""
    rng = np.random.default_rng(1)
    missing = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 3) > 0
    img = np.where(missing, np.nan, 50 * noise(60, 60) - 4000)[..., None].astype(np.float32)
    reach = 6
    assert distance(missing).max() > 3
    whole = fill_gaps(img, reach)[20:40, 15:45]
    crop = fill_gaps(img[20 - reach : 40 + reach, 15 - reach : 45 + reach], reach)
    inner = crop[reach:-reach, reach:-reach]
    known = distance(missing)[20:40, 15:45] <= reach
    np.testing.assert_allclose(inner[known], whole[known], rtol=0, atol=2e-3)


def test_filling_treats_channels_apart():
    """Every channel is filled from its own pixels, and by the same rule."""
    img = (50 * noise(24, 30, 3) - 4000).astype(np.float32)
    for channel, name in enumerate(("hole", "coast", "pixel")):
        img[gaps(name), channel] = np.nan
    filled = fill_gaps(img, 20)
    for channel in range(3):
        alone = fill_gaps(img[..., channel : channel + 1], 20)
        np.testing.assert_allclose(filled[..., channel : channel + 1], alone, rtol=0, atol=2e-3)


def test_filling_turns_with_the_image():
    """Turned, mirrored and shifted in depth, a gap is filled with the numbers of before."""
    img = np.where(gaps("hole"), np.nan, 50 * noise(24, 30))[..., None]
    filled = fill_gaps(img, 7)
    for move in (np.rot90, np.fliplr, np.flipud, lambda x: x.transpose(1, 0, 2)):
        np.testing.assert_allclose(fill_gaps(move(img), 7), move(filled), rtol=0, atol=1e-4)
    np.testing.assert_allclose(fill_gaps(img - 4000, 7), filled - 4000, rtol=0, atol=2e-3)
    np.testing.assert_allclose(fill_gaps(-2 * img, 7), -2 * filled, rtol=0, atol=1e-4)


@pytest.mark.parametrize("reach", [1, 2, 5, 40])
def test_filling_from_a_single_pixel(reach):
    """One valid pixel is all there is: everything takes its value, without a warning."""
    img = np.full((17, 9, 1), np.nan, np.float32)
    img[4, 7] = -1234.5
    np.testing.assert_array_equal(fill_gaps(img, reach), np.full_like(img, -1234.5))
    assert fill_gaps(np.full((1, 1, 1), 7.0), reach) == 7


def test_few_pixels_make_no_steep_plane():
    """Two neighbours that differ by 100 m are not continued as a cliff without end."""
    img = np.full((21, 21, 1), np.nan)
    img[10, 10], img[10, 11] = -4000.0, -3900.0
    filled = fill_gaps(img, 8)
    assert filled.min() > -4600
    assert filled.max() < -3300


def test_filling_without_gaps_copies():
    """A complete image comes back as it was, as a float32 array of its own."""
    img = noise(5, 6, 2)
    filled = fill_gaps(img, 3)
    np.testing.assert_array_equal(filled, img)
    assert not np.shares_memory(filled, img)
