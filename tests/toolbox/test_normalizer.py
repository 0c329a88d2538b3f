"""What the network sees of a map, and the way back to metres."""

import json

import numpy as np
import pytest

from toolbox.errors import ConfigError, DataError
from toolbox.normalizer import (
    LocalMeanNormalizer,
    MinMaxNormalizer,
    RemainderNormalizer,
    SymmetricNormalizer,
    load_normalizer,
    save_normalizer,
)
from toolbox.registry import NORMALIZERS
from toolbox.resample import block_mean, local_mean

SCALE = 4
RANGE = (-5000.0, 0.0)
LINEAR = ("minmax", "symmetric", "local_mean", "patch_mean")
RELIEF = tuple(
    name for name in NORMALIZERS if issubclass(NORMALIZERS.resolve(name), RemainderNormalizer)
)
POSITION_FREE = ("local_mean", "local_standard")


def pairs(count=5, size=16, seed=0, depth=-3000.0):
    """Return LR and HR images of rough sea floor, metres, LR by area mean."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: size * SCALE, : size * SCALE] / SCALE
    a, b, c, d = rng.uniform(0.2, 0.9, (4, count, 1, 1))
    hr = 40 * np.sin(a * row + b * column) + 15 * np.sin(c * row - d * column)
    hr += rng.normal(size=hr.shape) * 3 + depth + 300 * rng.normal(size=(count, 1, 1))
    hr = hr[..., None].astype(np.float32)
    return block_mean(hr, SCALE), hr


@pytest.fixture(scope="module")
def training():
    """LR and HR training images."""
    return pairs()


@pytest.fixture(params=sorted(NORMALIZERS))
def normalizer(request, training):
    """Every normaliser of the registry, fitted on the training images."""
    return NORMALIZERS.resolve(request.param).fit(*training, RANGE)


def fitted(name, training, **options):
    return NORMALIZERS.resolve(name).fit(*training, RANGE, **options)


def test_round_trip_is_exact_to_a_millimetre(normalizer, training):
    """Normalising and denormalising gives the metres back, for training and for other images."""
    for lr, hr in (training, pairs(3, seed=7, depth=-900.0)):
        x, y = normalizer.normalize_pair(lr, hr)
        back_x, back_y = normalizer.denorm_funcs(lr, SCALE)
        np.testing.assert_allclose(back_x(x), lr, rtol=0, atol=1e-3)
        np.testing.assert_allclose(back_y(y), hr, rtol=0, atol=1e-3)


def test_network_images_are_float32_of_the_same_shape(normalizer, training):
    """Input and target are float32, and the input alone is the input of the pair."""
    lr, hr = (imgs.astype(np.float64) for imgs in training)
    x, y = normalizer.normalize_pair(lr, hr)
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    assert (x.shape, y.shape) == (lr.shape, hr.shape)
    alone = normalizer.normalize_x(lr)
    assert alone.dtype == np.float32
    np.testing.assert_allclose(alone, x, atol=1e-6)


def test_name_is_the_registrys(normalizer):
    """A saved normaliser is found again by the name that it carries."""
    assert NORMALIZERS.resolve(normalizer.name) is type(normalizer)


def test_constants_come_from_the_training_images_only(normalizer, training):
    """Normalising other images leaves the constants alone, and gives each image its own result."""
    before = normalizer.state()
    lr, hr = pairs(3, seed=5, depth=-200.0)
    x, y = normalizer.normalize_pair(lr, hr)
    assert normalizer.state() == before
    one_x, one_y = normalizer.normalize_pair(lr[1:2], hr[1:2])
    np.testing.assert_allclose(one_x, x[1:2], atol=1e-5)
    np.testing.assert_allclose(one_y, y[1:2], atol=1e-5)


def test_saved_normaliser_is_the_same(normalizer, training, tmp_path):
    """What is read beside the weights has the same constants and gives the same bytes."""
    save_normalizer(normalizer, tmp_path)
    loaded = load_normalizer(tmp_path)
    assert type(loaded) is type(normalizer)
    assert loaded.state() == normalizer.state()
    assert (loaded.unit, loaded.max_val) == (normalizer.unit, normalizer.max_val)
    for again, first in zip(
        loaded.normalize_pair(*training), normalizer.normalize_pair(*training), strict=True
    ):
        assert again.tobytes() == first.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["normalizer.json"]


def test_missing_normaliser_names_the_file(tmp_path):
    """The message says which file is missing and what to do."""
    with pytest.raises(DataError, match=r"normalizer\.json: no such file\. Train first"):
        load_normalizer(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '{"name": "minmax"}', '{"name": "minmax", "a": 1}']
)
def test_damaged_normaliser_is_refused(content, tmp_path):
    """Whatever the file holds instead of a normaliser, the user reads one line."""
    (tmp_path / "normalizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="not a normaliser"):
        load_normalizer(tmp_path)


def test_unknown_normaliser_lists_the_known(tmp_path):
    """A file of a newer program names what this one knows."""
    (tmp_path / "normalizer.json").write_text(json.dumps({"name": "wavelet"}), encoding="utf-8")
    words = r"normalizer\.json.*one of identity, local_mean, .*received 'wavelet'"
    with pytest.raises(DataError, match=words):
        load_normalizer(tmp_path)


@pytest.mark.parametrize("name", LINEAR)
def test_unit_is_metres_per_network_unit(name, training):
    """An error of 1 in the output is `unit` metres, and max_val is the range in network units."""
    normalizer = fitted(name, training)
    lr, hr = training
    _, y = normalizer.normalize_pair(lr, hr)
    back = normalizer.denorm_funcs(lr, SCALE)[1]
    np.testing.assert_allclose(back(y + 1) - back(y), normalizer.unit, rtol=1e-3)
    assert normalizer.data_range == 5000
    assert normalizer.max_val == pytest.approx(5000 / normalizer.unit)


def test_minmax_maps_the_range_to_zero_and_one():
    """The limits become 0 and 1 for LR and HR alike, and nothing is clipped."""
    normalizer = MinMaxNormalizer.fit(np.zeros(1), np.zeros(1), (-2500.0, 0.0))
    depths = np.float32([-2500, -1250, 0, 250]).reshape(1, 2, 2, 1)
    x, y = normalizer.normalize_pair(depths, depths)
    np.testing.assert_array_equal(x.ravel(), np.float32([0, 0.5, 1, 1.1]))
    np.testing.assert_array_equal(y, x)
    assert (normalizer.max_val, normalizer.unit) == (1, 2500)


def test_minmax_ignores_what_is_in_the_images(training):
    """The range of the configuration counts, not that of the images: no test range leaks in."""
    assert fitted("minmax", training).state() == {
        "xmin": -5000.0,
        "xmax": 0.0,
        "ymin": -5000.0,
        "ymax": 0.0,
    }


def test_minmax_follows_the_manuals_signature():
    """normalize, denormalize_x and denormalize_y take the limits that the manual lists."""
    normalizer = MinMaxNormalizer(xmin=-100, xmax=0, ymin=-200, ymax=200)
    assert normalizer.normalize(np.float32([50]), min=0, max=100)[0] == 0.5
    assert normalizer.denormalize_x(np.float32([0.25]))[0] == -75
    assert normalizer.denormalize_y(np.float32([0.25]))[0] == -100


def test_symmetric_maps_the_range_to_minus_one_and_one():
    """The limits become -1 and 1, nothing is clipped, and PSNR and SSIM learn where it lies."""
    normalizer = SymmetricNormalizer.fit(np.zeros(1), np.zeros(1), (0.0, 255.0))
    counts = np.float32([0, 127.5, 255, 510]).reshape(1, 2, 2, 1)
    x, y = normalizer.normalize_pair(counts, counts)
    np.testing.assert_array_equal(x.ravel(), np.float32([-1, 0, 1, 3]))
    np.testing.assert_array_equal(y, x)
    assert (normalizer.unit, normalizer.max_val, normalizer.min_val) == (127.5, 2, -1)
    assert normalizer.state() == {"xmin": 0.0, "xmax": 255.0, "ymin": 0.0, "ymax": 255.0}


def test_symmetric_knows_two_ranges():
    """LR and HR each have their own limits, and denormalising inverts both."""
    normalizer = SymmetricNormalizer(xmin=0, xmax=100, ymin=-200, ymax=200)
    assert normalizer.constants() == ((50, 50), (0, 200))
    assert normalizer.denormalize_x(np.float32([-0.5]))[0] == 25
    assert normalizer.denormalize_y(np.float32([-0.5]))[0] == -100


@pytest.mark.parametrize("limits", [(0, 0), (0, -2500)])
def test_minmax_refuses_an_empty_range(limits):
    """A range the wrong way round or without width is a mistake in the settings."""
    with pytest.raises(ConfigError, match=r"norm_range must be \(min, max\) with max > min"):
        MinMaxNormalizer.fit(np.zeros(1), np.zeros(1), limits)


def test_local_mean_constant_is_the_spread_of_the_remainder(training):
    """The constant is the root mean square of LR minus its local mean, HR not asked."""
    lr, hr = training
    remainder = lr - local_mean(lr, 3)
    normalizer = LocalMeanNormalizer.fit(lr, hr * 0, RANGE, window=3)
    assert normalizer.unit == pytest.approx(np.sqrt(np.square(remainder).mean()), rel=1e-4)
    assert normalizer.state()["window"] == 3


@pytest.mark.parametrize("name", ["local_mean", "patch_mean"])
def test_relief_normalisers_are_linear(name, training):
    """Sums and multiples of maps give sums and multiples of inputs and targets."""
    normalizer = fitted(name, training)
    (lr, hr), (lr2, hr2) = pairs(2, depth=0), pairs(2, seed=3, depth=0)
    first, second = normalizer.normalize_pair(lr, hr), normalizer.normalize_pair(lr2, hr2)
    mixed = normalizer.normalize_pair(0.3 * lr - 2 * lr2, 0.3 * hr - 2 * hr2)
    for mixture, one, two in zip(mixed, first, second, strict=True):
        np.testing.assert_allclose(mixture, 0.3 * one - 2 * two, atol=2e-3)


@pytest.mark.parametrize("name", RELIEF)
def test_relief_normalisers_see_no_depth(name, training):
    """Raising the whole map by 1000 m changes neither the input nor the target."""
    normalizer = fitted(name, training)
    lr, hr = training
    x, y = normalizer.normalize_pair(lr, hr)
    raised_x, raised_y = normalizer.normalize_pair(lr + 1000, hr + 1000)
    np.testing.assert_allclose(raised_x, x, atol=2e-3)
    np.testing.assert_allclose(raised_y, y, atol=2e-3)


def tile_difference(normalizer):
    """Return the largest difference between a tile of the whole and a tile by itself, inside."""
    hr = pairs(1, size=32, seed=2)[1] + 5 * np.arange(32 * SCALE, dtype=np.float32)[:, None]
    lr = block_mean(hr, SCALE)
    x, y = normalizer.normalize_pair(lr, hr)
    top, left, size = 9, 11, 16
    tile = np.s_[:, top : top + size, left : left + size]
    large = np.s_[:, top * SCALE : (top + size) * SCALE, left * SCALE : (left + size) * SCALE]
    tile_x, tile_y = normalizer.normalize_pair(lr[tile], hr[large])
    # The window of 5 reaches 2 pixels, local_standard's second one 2 more, the enlargement 1 or 2.
    edge = 6
    inside = np.s_[:, edge:-edge, edge:-edge]
    large_inside = np.s_[:, edge * SCALE : -edge * SCALE, edge * SCALE : -edge * SCALE]
    return (
        np.abs(tile_x[inside] - x[tile][inside]).max(),
        np.abs(tile_y[large_inside] - y[large][large_inside]).max(),
    )


@pytest.mark.parametrize("name", POSITION_FREE)
def test_a_tile_equals_the_whole(name, training):
    """Away from its edges a tile is normalised as the whole map is, so tiles have no seams."""
    in_x, in_y = tile_difference(fitted(name, training))
    assert max(in_x, in_y) < 1e-3


@pytest.mark.parametrize("name", ["patch_mean", "patch_standard"])
def test_patch_statistics_do_differ_between_tiles(name, training):
    """Normalising by the patch depends on where the patch was cut, as its docstring warns."""
    in_x, in_y = tile_difference(fitted(name, training))
    assert min(in_x, in_y) > 0.05


@pytest.mark.parametrize("name", ["local_standard", "patch_standard"])
def test_standardised_input_does_not_depend_on_the_relief(name, training):
    """Steeper copies of one map give the same input, down to a tenth of the usual relief."""
    normalizer = fitted(name, training)
    lr, hr = pairs(2, depth=0)
    x, y = normalizer.normalize_pair(lr, hr)
    steep_x, steep_y = normalizer.normalize_pair(4 * lr, 4 * hr)
    np.testing.assert_allclose(steep_x, x, atol=1e-3)
    np.testing.assert_allclose(steep_y, y, atol=1e-2)


@pytest.mark.parametrize("name", RELIEF)
def test_flat_ground_is_not_blown_up(name, training):
    """A flat map gives an input of zeros, not of amplified rounding."""
    normalizer = fitted(name, training)
    flat = np.full((1, 16, 16, 1), -4321.0, np.float32)
    np.testing.assert_allclose(normalizer.normalize_x(flat), 0, atol=1e-3)


@pytest.mark.parametrize("name", RELIEF)
def test_flat_training_images_are_refused(name):
    """Where there is no relief there is nothing to learn, and the message says so."""
    flat = np.full((2, 8, 8, 1), -100.0, np.float32)
    with pytest.raises(DataError, match="the training images are flat"):
        NORMALIZERS.resolve(name).fit(flat, np.repeat(flat, SCALE, 1).repeat(SCALE, 2), RANGE)


@pytest.mark.parametrize("window", [0, 1, 4])
def test_even_and_tiny_windows_are_refused(window, training):
    """A window without a middle pixel, or of one pixel, has no local mean."""
    with pytest.raises(ConfigError, match=rf"odd number of LR pixels.*received {window}"):
        LocalMeanNormalizer.fit(*training, RANGE, window=window)


def test_wider_window_leaves_more_relief(training):
    """The wider the window, the more of the relief reaches the network."""
    units = [fitted("local_mean", training, window=w).unit for w in (3, 5, 9)]
    assert units == sorted(units)
