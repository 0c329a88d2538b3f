"""Rotation and magnification as matrices: filling, sums, planes, aliasing, depth."""

import numpy as np
import pytest

from toolbox.errors import ConfigError
from toolbox.warp import (
    FILL_MODES,
    apply_operator,
    fold,
    magnification_matrices,
    magnify,
    rotation_operator,
)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("fill_mode", "expected"),
    [
        ("nearest", "aaaaaaabcdddddd"),
        ("reflect", "cddcbaabcddcbaa"),
        ("wrap", "cdabcdabcdabcda"),
    ],
)
def test_filling_by_hand(fill_mode, expected):
    """Pixels -6 to 8 of an image a b c d: its edge, its mirror image, or itself again."""
    index = fold(np.arange(-6, 9), 4, fill_mode)
    assert "".join("abcd"[i] for i in index) == expected


def test_unknown_filling_is_refused():
    """The message names the three modes and what was received."""
    with pytest.raises(ConfigError, match=r"nearest, reflect, wrap; received 'constant'"):
        fold(np.arange(3), 3, "constant")


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_constant_images_stay_constant(fill_mode):
    """The weights of every output pixel sum to 1, filled corners included."""
    operator = rotation_operator(7, 9, 33.0, fill_mode)
    np.testing.assert_allclose(operator.sum(axis=1), 1, atol=1e-5)
    matrices = magnification_matrices(9, np.array([0.3, 0.7, 1.0, 1.9]), fill_mode)
    np.testing.assert_allclose(matrices.sum(axis=2), 1, atol=1e-5)


def test_quarter_turn_moves_pixels():
    """A matrix of 90 degrees has a single 1 in each row, and is np.rot90."""
    operator = rotation_operator(6, 6, 90.0)
    assert operator.nnz == 36
    imgs = noise(2, 6, 6, 1)
    np.testing.assert_allclose(
        apply_operator(operator, imgs), np.rot90(imgs, axes=(1, 2)), atol=1e-6
    )


def test_magnification_by_one_changes_nothing():
    """The matrix of factor 1 is the unit matrix."""
    np.testing.assert_allclose(magnification_matrices(8, np.ones(1))[0], np.eye(8), atol=1e-7)


@pytest.mark.parametrize("factor", [0.4, 0.5, 0.75, 1.3, 2.0])
def test_a_ramp_stays_a_ramp(factor):
    """About the centre a ramp is as steep as 1 / factor, exactly, whether shrunk or enlarged."""
    position = np.arange(24) - 11.5
    ramp = magnification_matrices(24, np.array([factor]))[0].astype(np.float64) @ position
    inside = np.abs(position) < 11.5 * min(factor, 1) - 2
    assert inside.sum() >= 4
    np.testing.assert_allclose(ramp[inside], position[inside] / factor, atol=2e-2)


def test_shrinking_does_not_alias():
    """Relief too fine for the smaller image is averaged away, not folded into false relief."""
    stripes = np.float32([1, -1] * 16)
    small = magnification_matrices(32, np.array([0.5]), "wrap")[0] @ stripes
    assert np.abs(small).max() < 0.1


def test_each_image_has_its_own_factors_in_rows_and_columns():
    """Image by image, rows and columns: the same as one image at a time."""
    imgs = noise(3, 10, 12, 2)
    rows = magnification_matrices(10, np.array([0.6, 1.0, 1.4]))
    columns = magnification_matrices(12, np.array([1.0, 0.8, 0.5]))
    together = magnify(imgs, rows, columns)
    for i in range(3):
        expected = np.einsum("ai,bj,ijc->abc", rows[i], columns[i], imgs[i])
        np.testing.assert_allclose(together[i], expected, atol=1e-5)
    shared = magnify(imgs, rows[:1], columns[2:])
    np.testing.assert_allclose(
        shared[1], np.einsum("ai,bj,ijc->abc", rows[0], columns[2], imgs[1]), atol=1e-5
    )


def test_great_depths_lose_no_precision():
    """Relief at -4000 m is turned and magnified to within the rounding of float32."""
    relief = np.round(noise(2, 16, 16, 1) * 64) / 64
    operator = rotation_operator(16, 16, 25.0)
    matrices = magnification_matrices(16, np.array([0.7]))
    for function in (
        lambda imgs: apply_operator(operator, imgs),
        lambda imgs: magnify(imgs, matrices, matrices),
    ):
        deep = function(relief - np.float32(4000))
        exact = function(relief).astype(np.float64) - 4000
        np.testing.assert_allclose(deep, exact, rtol=0, atol=2 * np.spacing(np.float32(4000)))
