"""Augmentation keeps LR and HR aligned, is reproducible, and does to slopes what it says."""

import numpy as np
import pytest

from toolbox.augment import (
    Augmenter,
    depth_scale,
    flip,
    quarter_turn,
    rotate,
    rotated,
    zoom,
)
from toolbox.errors import ConfigError
from toolbox.registry import AUGMENTATIONS
from toolbox.resample import block_mean
from toolbox.tasks.bathymetry.terrain import slope

SCALE = 4
SIZE = 16
#: Draws that leave every image alone.
NOTHING = {
    "rotate": {"degrees": 0.0},
    "zoom": {"zoom_range": (1.0, 1.0)},
    "depth_scale": {"depth_scale_range": (1.0, 1.0)},
}
#: Strong draws of every kind.
MUCH = {
    "flip": {},
    "quarter_turn": {},
    "rotate": {"degrees": 180.0},
    "zoom": {"zoom_range": (0.6, 1.6), "iso": False},
    "depth_scale": {"depth_scale_range": (0.5, 1.5)},
}


class Always:
    """A random generator that draws what it is told."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low, high, size):
        return np.full(size, self.value)

    def random(self, size):
        return np.full(size, self.value)


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(kind, count=6, depth=-2000.0):
    """Return LR and HR images of a tilted plane or of a broad ridge, float32, LR by area mean."""
    row, column = (np.mgrid[: SIZE * SCALE, : SIZE * SCALE] + 0.5) / SCALE - SIZE / 2
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)[:, None, None]
    across = row * np.sin(angle) + column * np.cos(angle) - 0.7
    hr = 10 * across if kind == "plane" else 80 * np.exp(-((across / 6) ** 2))
    hr = (hr + depth)[..., None].astype(np.float32)
    return block_mean(hr, SCALE), hr


@pytest.mark.parametrize("kind", ["plane", "ridge"])
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_lr_and_hr_stay_aligned(name, kind):
    """The block mean of the changed HR image is the changed LR image, away from the filling.

    On a plane of 10 m a pixel half a pixel of misalignment would be 5 m; a tenth is allowed.
    """
    lr, hr = AUGMENTATIONS.resolve(name)(*smooth(kind), rng(), **MUCH[name])
    inside = np.s_[:, 5:-5, 5:-5]
    np.testing.assert_allclose(block_mean(hr, SCALE)[inside], lr[inside], atol=1.0)


@pytest.mark.parametrize("kind", ["plane", "ridge"])
def test_chain_stays_aligned(kind):
    """All four in turn keep the pair aligned, too."""
    augmenter = Augmenter([(name, MUCH[name]) for name in ("flip", "rotate", "depth_scale")])
    lr, hr = augmenter(*smooth(kind), rng(3))
    inside = np.s_[:, 5:-5, 5:-5]
    np.testing.assert_allclose(block_mean(hr, SCALE)[inside], lr[inside], atol=1.0)


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_smallest_draw_changes_nothing(name):
    """No angle, magnification 1 and depth factor 1 give the same images."""
    lr, hr = smooth("ridge")
    hr += rng().normal(size=hr.shape).astype(np.float32)
    same = AUGMENTATIONS.resolve(name)(lr, hr, rng(), **NOTHING[name])
    np.testing.assert_allclose(same[0], lr, rtol=0, atol=1e-3)
    np.testing.assert_allclose(same[1], hr, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_same_seed_gives_the_same_bytes(name):
    """The draw depends on the generator only, another seed draws otherwise."""
    function, pair = AUGMENTATIONS.resolve(name), smooth("ridge")
    first, again, other = (function(*pair, rng(seed), **MUCH[name]) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_inputs_are_left_alone(name):
    """The images handed in are not written to, shapes and float32 are kept."""
    lr, hr = smooth("ridge")
    copies = lr.copy(), hr.copy()
    lr.flags.writeable = hr.flags.writeable = False
    results = AUGMENTATIONS.resolve(name)(lr, hr, rng(), **MUCH[name])
    for result, image, copy in zip(results, (lr, hr), copies, strict=True):
        np.testing.assert_array_equal(image, copy)
        assert (result.shape, result.dtype) == (image.shape, np.float32)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_image_has_its_own_draw(name):
    """Copies of one image in a batch come out different."""
    lr, hr = (np.repeat(imgs[1:2], 12, axis=0) for imgs in smooth("ridge"))
    _, changed = AUGMENTATIONS.resolve(name)(lr, hr, rng(), **MUCH[name])
    fewest = 4 if name in ("flip", "quarter_turn") else 11  # of four and of any number of results
    assert len({img.tobytes() for img in changed}) >= fewest


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_channels_are_treated_alike(name):
    """A second channel moves with the first."""
    lr, hr = (np.concatenate([imgs, imgs + 50], axis=3) for imgs in smooth("ridge"))
    params = NOTHING[name] if name == "depth_scale" else MUCH[name]
    for imgs in AUGMENTATIONS.resolve(name)(lr, hr, rng(), **params):
        np.testing.assert_allclose(imgs[..., 1] - imgs[..., 0], 50, atol=1e-2)


@pytest.mark.parametrize(
    ("horizontal", "vertical", "axes"),
    [(True, False, (2,)), (False, True, (1,)), (True, True, (1, 2)), (False, False, ())],
)
def test_flip_is_the_mirror_image(horizontal, vertical, axes):
    """Chosen images are mirrored exactly, in the allowed directions only."""
    lr, hr = smooth("ridge")
    flipped = flip(lr, hr, Always(0.0), horizontal, vertical)
    np.testing.assert_array_equal(flipped[0], np.flip(lr, axes))
    np.testing.assert_array_equal(flipped[1], np.flip(hr, axes))
    untouched = flip(lr, hr, Always(0.9), horizontal, vertical)
    np.testing.assert_array_equal(untouched[1], hr)


def test_flip_twice_is_the_identity():
    """The same draw twice gives the pair back."""
    lr, hr = smooth("ridge", 8)
    again = flip(*flip(lr, hr, rng(5)), rng(5))
    np.testing.assert_array_equal(again[0], lr)
    np.testing.assert_array_equal(again[1], hr)


def test_flip_takes_each_direction_half_of_the_time():
    """Of many images about a quarter stays as it is."""
    lr = np.arange(4.0).reshape(1, 2, 2, 1).repeat(4000, 0)
    flipped, _ = flip(lr, lr, rng())
    corners = np.bincount(flipped[:, 0, 0, 0].astype(int), minlength=4) / 4000
    np.testing.assert_allclose(corners, 0.25, atol=0.03)


def test_quarter_turn_moves_pixels_without_changing_them():
    """LR and HR of a pair are turned by the same number of quarters, to the bit."""
    lr, hr = smooth("ridge", 16)
    turned = quarter_turn(lr, hr, rng(2))
    found = set()
    for i in range(16):
        [turns] = [n for n in range(4) if np.array_equal(turned[1][i], np.rot90(hr[i], n))]
        np.testing.assert_array_equal(turned[0][i], np.rot90(lr[i], turns))
        found.add(turns)
    assert found == {0, 1, 2, 3}


def test_quarter_turn_takes_each_turn_a_quarter_of_the_time():
    """Of many images as many stay as are turned by one, two or three quarters."""
    lr = np.arange(4.0).reshape(1, 2, 2, 1).repeat(4000, 0)
    turned, _ = quarter_turn(lr, lr, rng())
    corners = np.bincount(turned[:, 0, 0, 0].astype(int), minlength=4) / 4000
    np.testing.assert_allclose(corners, 0.25, atol=0.03)


def test_quarter_turn_refuses_oblong_images():
    """An image that would change its shape is refused, with both sides named."""
    lr, hr = (imgs[:, :, :8] for imgs in smooth("ridge"))
    with pytest.raises(ConfigError, match=r"needs square images; received 16 × 8 pixels"):
        quarter_turn(lr, hr, rng())


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "wrap"])
def test_quarter_turns_are_exact(fill_mode):
    """Turned by 90 degrees, counter-clockwise, no pixel is interpolated or filled."""
    for imgs in smooth("ridge"):
        for turns, degrees in ((0, 0), (1, 90), (2, 180.0), (3, -90), (3, 270.0)):
            turned = rotated(imgs, degrees, fill_mode)
            np.testing.assert_array_equal(turned, np.rot90(imgs, turns, (1, 2)))


def test_half_turn_of_an_oblong_image_is_exact():
    """Half a turn keeps the shape of any image; a quarter turn of an oblong one keeps it, too."""
    imgs = smooth("ridge")[1][:, :40]
    np.testing.assert_array_equal(rotated(imgs, 180), np.rot90(imgs, 2, (1, 2)))
    quarter = rotated(imgs, 90)
    assert quarter.shape == imgs.shape
    middle = np.rot90(imgs, 1, (1, 2))[:, 20:44, 8:32]
    np.testing.assert_allclose(quarter[:, 8:32, 20:44], middle, atol=1e-2)


def test_there_and_back():
    """Turned by 30 degrees and back, the middle of a smooth image is as it was."""
    hr = smooth("ridge")[1]
    again = rotated(rotated(hr, 30.0), -30.0)
    np.testing.assert_allclose(again[:, 20:-20, 20:-20], hr[:, 20:-20, 20:-20], atol=0.05)


def test_rotation_turns_the_fall_line():
    """A plane rising to the right, turned by 30 degrees counter-clockwise, rises to upper right."""
    column = np.arange(64.0) * 2
    hr = np.broadcast_to(column[None, None, :, None], (1, 64, 64, 1)).astype(np.float32)
    inside = rotated(hr, 30.0)[0, 24:40, 24:40, 0]
    np.testing.assert_allclose(np.diff(inside, axis=1), 2 * np.cos(np.pi / 6), atol=1e-3)
    np.testing.assert_allclose(-np.diff(inside, axis=0), 2 * np.sin(np.pi / 6), atol=1e-3)


def test_online_angles_cover_the_range():
    """Angles are drawn from minus to plus the largest, and none lies outside."""
    column = np.arange(16.0)
    lr = np.broadcast_to(column[None, None, :, None], (600, 16, 16, 1)).astype(np.float32)
    turned, _ = rotate(lr, lr, rng(), degrees=40.0)
    rise = np.diff(turned[:, 6:10, 6:10, 0], axis=2).mean((1, 2))
    climb = -np.diff(turned[:, 6:10, 6:10, 0], axis=1).mean((1, 2))
    angles = np.degrees(np.arctan2(climb, rise))
    assert angles.min() == pytest.approx(-40, abs=0.1)
    assert angles.max() == pytest.approx(40, abs=0.1)
    assert abs(angles.mean()) < 4


def test_a_gap_spreads_to_its_neighbours_only():
    """A missing pixel spoils what is interpolated from it, not the whole image."""
    hr = smooth("ridge")[1].copy()
    hr[0, 32, 32] = np.nan
    turned = rotated(hr, 30.0)
    assert 1 <= np.isnan(turned[0]).sum() <= 36
    assert not np.isnan(turned[1:]).any()


@pytest.mark.parametrize("name", ["rotate", "zoom"])
def test_a_plane_stays_a_plane(name):
    """Warping adds no ripple: on a slope of 10 m a pixel less than 0.1 m, in LR as in HR.

    A ripple in LR alone would be a feature that no real input has.
    """
    lr, hr = AUGMENTATIONS.resolve(name)(*smooth("plane"), rng(), **MUCH[name])
    row, column = np.mgrid[:6, :6]
    terms = np.stack([row, column, np.ones((6, 6))], axis=-1).reshape(36, 3)
    for imgs in (lr[:, 5:-5, 5:-5], block_mean(hr, SCALE)[:, 5:-5, 5:-5]):
        values = imgs.reshape(len(imgs), 36).T.astype(np.float64)
        fitted = terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
        np.testing.assert_allclose(values, fitted, rtol=0, atol=0.1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_zoom_changes_slopes_inversely(factor):
    """Half the width doubles the slope in the middle; the depth in the centre stays."""
    lr, hr = smooth("plane")
    small = zoom(lr, hr, Always(factor))
    for before, after, middle in ((lr, small[0], 2), (hr, small[1], 8)):
        crop = slice(before.shape[1] // 2 - middle, before.shape[1] // 2 + middle)
        steep = slope(after[:, crop, crop], 50).mean()
        assert steep == pytest.approx(slope(before, 50).mean() / factor, rel=0.02)
        centre = slice(before.shape[1] // 2 - 1, before.shape[1] // 2 + 1)
        np.testing.assert_allclose(
            after[:, centre, centre].mean((1, 2)), before[:, centre, centre].mean((1, 2)), atol=0.2
        )


def test_zoom_is_the_same_in_both_directions_only_if_asked():
    """With iso a cone stays round, without it rows and columns have their own factors."""
    row, column = np.mgrid[:64, :64] - 31.5
    hr = np.hypot(row, column)[None, ..., None].astype(np.float32)
    for iso in (True, False):
        _, changed = zoom(block_mean(hr, 4), hr, rng(4), (0.5, 1.0), iso)
        asymmetry = np.abs(changed[0, 16:48, 16:48, 0] - changed[0, 16:48, 16:48, 0].T).max()
        assert (asymmetry < 0.05) == iso


def test_depth_scale_multiplies_depths():
    """LR and HR of a pair are multiplied by the same factor within the range."""
    lr, hr = smooth("ridge")
    scaled = depth_scale(lr, hr, rng(), (0.5, 1.5))
    factors = scaled[0] / lr
    assert factors.min() >= 0.5
    assert factors.max() <= 1.5
    np.testing.assert_allclose(factors, factors[:, :1, :1].repeat(SIZE, 1).repeat(SIZE, 2), 1e-6)
    np.testing.assert_allclose(scaled[1] / hr, factors[:, :1, :1] + 0 * hr, rtol=1e-6)


@pytest.mark.parametrize(("fill_mode", "values"), [("nearest", (15, 15)), ("reflect", (10.5, 8.5))])
def test_filling_of_what_is_missing(fill_mode, values):
    """Shrunk to half, columns 14 and 15 look at 20.5 and 22.5: the edge, or 31 less that."""
    column = np.arange(16.0)
    lr = np.broadcast_to(column[None, None, :, None], (1, 16, 16, 1)).astype(np.float32)
    small, _ = zoom(lr, lr, Always(0.5), fill_mode=fill_mode)
    np.testing.assert_allclose(small[0, 8, 14:, 0], values, atol=0.01)


def test_augmenter_applies_its_steps_in_turn():
    """A chain is its steps one after the other with one generator."""
    lr, hr = smooth("ridge")
    chain = Augmenter([("flip", {"vertical": False}), ("rotate", {"degrees": 20.0})])
    stream = rng(7)
    expected = rotate(*flip(lr, hr, stream, vertical=False), stream, degrees=20.0)
    for got, wanted in zip(chain(lr, hr, rng(7)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_augmenter_without_steps_changes_nothing():
    """An empty chain gives the pair back."""
    lr, hr = smooth("ridge")
    same = Augmenter([])(lr, hr, rng())
    np.testing.assert_array_equal(same[0], lr)
    np.testing.assert_array_equal(same[1], hr)


def test_augmenter_returns_float32():
    """Whatever the pickle held, the batch is float32, as the docstring says."""
    lr, hr = (imgs.astype(np.float64) for imgs in smooth("ridge"))
    for steps in ([("flip", {})], [("depth_scale", {})], [("rotate", {})]):
        assert {imgs.dtype.name for imgs in Augmenter(steps)(lr, hr, rng())} == {"float32"}


def test_unknown_augmentation_names_the_nearest():
    """A misspelt name is refused before training starts."""
    with pytest.raises(ConfigError, match=r"augmentation must be one of.*Did you mean 'rotate'"):
        Augmenter([("rotat", {})])
