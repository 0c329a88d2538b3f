"""Trained networks on maps of any size: tiles, gaps, stacks, members, and runs read from disk."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import yaml
from networks import IMAGING, attends_in_windows, has_reach, small
from networks import network as small_network

from toolbox import pretrained
from toolbox.errors import ConfigError, DataError, WeightsError
from toolbox.inference.super_resolver import SuperResolver
from toolbox.model.base import SRModel
from toolbox.model.build import build_network
from toolbox.normalizer import (
    LocalMeanNormalizer,
    LocalStandardNormalizer,
    MinMaxNormalizer,
    PatchMeanNormalizer,
    PatchStandardNormalizer,
)
from toolbox.predict_settings import PredictParams
from toolbox.registry import MODELS
from toolbox.resample import block_mean, enlarge
from toolbox.run import load_model
from toolbox.tasks.bathymetry.predict import MapPredictor
from toolbox.tasks.bathymetry.validity import Validity, load_validity, save_validity

DEPTH = (-6000.0, 0.0)
RELIEF_M = 60.0
NORMALIZERS = {
    "minmax": MinMaxNormalizer(*DEPTH, *DEPTH),
    "local_mean_3": LocalMeanNormalizer(30.0, window=3),
    "local_mean_5": LocalMeanNormalizer(30.0, window=5),
    "local_standard_5": LocalStandardNormalizer(30.0, window=5),
}
#: 40 sizes: none square, a single row and column, primes, multiples of tiles, up to 90 pixels.
SIZES = [
    (1, 1), (1, 9), (7, 1), (2, 3), (3, 5), (4, 2), (5, 7), (6, 13), (8, 11), (9, 17),
    (10, 23), (12, 5), (13, 31), (14, 3), (15, 40), (16, 48), (17, 29), (19, 6), (21, 22), (23, 37),
    (24, 33), (27, 64), (29, 12), (31, 47), (32, 16), (34, 41), (37, 9), (40, 39), (41, 26),
    (43, 50), (45, 18), (47, 53), (48, 64), (53, 8), (56, 1), (59, 30), (61, 43), (67, 71),
    (79, 34), (90, 83),
]  # fmt: skip


def sea_floor(height, width, channels=1, seed=0):
    """Return a rough LR map about 4000 m deep, metres, float32."""
    rng = np.random.default_rng([seed, height, width])
    row, column = np.mgrid[:height, :width]
    slow = RELIEF_M * np.sin(0.4 * row + rng.uniform(0, 6)) * np.cos(0.3 * column)
    relief = slow[..., None] + 10 * rng.normal(size=(height, width, channels))
    return (relief - 4000).astype(np.float32)


def with_gaps(lr, seed=0):
    """Cut land out of a map: everything beyond a crooked coast, and single pixels."""
    rng = np.random.default_rng([seed, *lr.shape])
    height, width = lr.shape[:2]
    row, column = np.mgrid[:height, :width]
    coast = 0.4 * width + 3 * np.sin(0.7 * row) + 0.2 * row
    missing = (column > coast) | (rng.random((height, width)) < 0.03)
    missing[height // 2, width // 2] = False
    return np.where(missing[..., None], np.float32(np.nan), lr)


def network(name, scale=2, channels=1, seed=0, **options):
    """Build a network as `load_model` does, with weights as random as learnt ones.

    Biases, slopes of PReLU and moving averages that are still what they began with hide mistakes.
    """
    return shaken(small_network(name, (None, None, channels), scale, **options), seed)


def shaken(net, seed=0):
    """Draw all weights of a network anew; kernels keep the size of what passes through."""
    rng = np.random.default_rng(seed)
    for weight in net.weights:
        values = 0.3 * rng.normal(size=weight.shape)
        if len(weight.shape) == 4:
            values *= 3 / np.sqrt(np.prod(weight.shape[:3]))
        elif weight.name in ("gamma", "moving_variance"):
            values = 1 + np.abs(values)
        weight.assign(values)
    return net


def resolver(name="espcn", normalizer="minmax", folder="some/run", members=1, **options):
    """Return a small network, or several, ready for use."""
    networks = [network(name, seed=seed, **options) for seed in range(members)]
    chosen = NORMALIZERS.get(normalizer, normalizer)
    config = {"model": name, "input_shape": [8, 8, networks[0].channels]}
    return SuperResolver(networks, chosen, config, folder)


def allowed(model, result):
    """Return the tolerated difference: 1e-5 of the range that passes through the network."""
    data_range = 6000 if isinstance(model.normalizer, MinMaxNormalizer) else 0
    return 1e-5 * max(data_range, np.nanmax(result) - np.nanmin(result), RELIEF_M)


def check_tiles(model, lr, tile, **options):
    """Compare a map in tiles with the map in one piece."""
    tiled = model.predict(lr, tile=tile, **options)
    one_piece = model.enhancer(**options)(lr)
    np.testing.assert_array_equal(np.isnan(tiled), np.isnan(one_piece))
    if not np.isnan(one_piece).all():
        atol = allowed(model, one_piece)
        np.testing.assert_allclose(tiled, one_piece, rtol=0, atol=atol, err_msg=f"{lr.shape}")


def tiles_for(model, count):
    """Return sides of tiles, from twice the reach on."""
    reach = model.reach
    return [2 * reach + extra for extra in (0, 1, 5, 0, 2, 0, 11, 3)[:count]]


# --- Tile = whole ----------------------------------------------------------------------------


#: Every network with every normaliser and with and without skip; each takes a quarter of the sizes.
VARIANTS = [
    ("minmax", False, 2),
    ("local_mean_3", True, 2),
    ("local_mean_5", False, 4),
    ("minmax", True, 3),
]


@pytest.fixture(scope="module", params=[n for n in IMAGING if has_reach(n)])
def variants(request):
    """One network of known reach with the normalisers, skips and scales of `VARIANTS`."""
    return [
        resolver(request.param, normalizer, bicubic_skip=skip, scale=scale)
        for normalizer, skip, scale in VARIANTS
    ]


def test_tiles_equal_the_whole(variants):
    """Forty sizes give the numbers of one piece, margins and corners included.

    Which tiles a size needs is the same for every network: the others have every fourth.
    """
    sizes = SIZES if variants[0].config["model"] == "espcn" else SIZES[3::4]
    for number, size in enumerate(sizes):
        model = variants[number % len(variants)]
        [tile] = tiles_for(model, number % 8 + 1)[-1:]
        check_tiles(model, sea_floor(*size), tile)


def test_tiles_equal_the_whole_with_gaps(variants):
    """A coast and single missing pixels make no difference between tiles and one piece."""
    for number, size in enumerate(SIZES[9::4]):
        model = variants[number % len(variants)]
        check_tiles(model, with_gaps(sea_floor(*size)), 2 * model.reach)


def test_tiles_equal_the_whole_when_projected(variants):
    """The correction towards the input looks farther, and the tiles know it."""
    for number, size in enumerate(SIZES[11::4]):
        model = variants[number % len(variants)]
        check_tiles(model, sea_floor(*size), 2 * model.reach, lr_consistency="project")


def test_tiles_equal_the_whole_when_turned(variants):
    """The mean over eight copies is the same in tiles."""
    model = variants[1]
    check_tiles(model, sea_floor(31, 44), 2 * model.reach, self_ensemble=True)


@pytest.mark.parametrize("normalizer", ["minmax", "local_mean_3"])
def test_gaps_and_projection_together(normalizer):
    """Beside land wider than the network looks, the correction is the same in tiles."""
    model = resolver("espcn", normalizer, bicubic_skip=True)
    for size in ((34, 79), (61, 43)):
        lr = with_gaps(sea_floor(*size))
        check_tiles(model, lr, 2 * model.reach, lr_consistency="project")
    lone = np.full((60, 60, 1), np.nan, np.float32)
    lone[30, 31] = -4100.0
    lone[5:9, 3:50] = sea_floor(4, 47) + 900
    check_tiles(model, lone, 2 * model.reach, lr_consistency="project")


@pytest.mark.parametrize("skip", [False, True])
def test_local_deviation_looks_twice_as_far(skip):
    """The local standard deviation is taken about local means: half a window and half a window."""
    model = resolver("espcn", "local_standard_5", bicubic_skip=skip)
    for size in ((41, 26), (47, 53)):
        check_tiles(model, sea_floor(*size), 2 * model.reach)


def test_smallest_kernels_fill_gaps_too():
    """A network that looks at one pixel alone, projected beside gaps, is the same in tiles."""
    net = MODELS.resolve("espcn")(
        (None, None, 1), 2, params={"filters": [3, 2], "kernels": [1, 1, 1]}
    )
    model = SuperResolver([shaken(net)], NORMALIZERS["minmax"], {"model": "espcn"})
    assert model.reach == 0
    lr = with_gaps(sea_floor(40, 39))
    check_tiles(model, lr, 4)
    check_tiles(model, lr, 4, lr_consistency="project")


def test_a_smaller_halo_shows(monkeypatch):
    """With a halo short of the reach the seams are seen, so the tests above can fail."""
    model = resolver("edsr", "local_mean_5", scale=2)
    lr = sea_floor(47, 53)
    whole = model.predict(lr)
    tiling = model.tiling(lr.shape[:2], 2 * model.reach, gaps=False)
    short = type(tiling)(tiling.shape, tiling.scale, tiling.tile, tiling.halo - 2)
    seamed = np.concatenate(list(short.strips(lambda r, c: lr[r, c], model.enhancer())))
    assert np.abs(seamed - whole).max() > 10 * allowed(model, whole)


# --- Networks whose reach is not known -------------------------------------------------------


class Pooling(SRModel):
    """A network with a layer that `toolbox.model.reach` does not know."""

    def __build__(self, weight=0.1):
        """Return the function that applies the layers."""

        def graph(x):
            x = keras.layers.AveragePooling2D(3, 1, padding="same")(x)
            return keras.layers.UpSampling2D(self.scale)(x)

        return graph


@pytest.mark.parametrize(
    "normalizer", [PatchMeanNormalizer(30.0), PatchStandardNormalizer(30.0), NORMALIZERS["minmax"]]
)
def test_unknown_reach_is_blended(normalizer):
    """Without a known reach tiles are faded into each other; a level stays that level."""
    networks = [Pooling((None, None, 1), 2)]
    model = SuperResolver(networks, normalizer, {"input_shape": [16, 16, 1]})
    assert model.reach is None
    tiling = model.tiling((70, 75), 20)
    assert tiling.blend
    level = np.full((70, 75), -4000.0, np.float32)
    np.testing.assert_allclose(model.predict(level, tile=20), -4000.0, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", [n for n in IMAGING if not has_reach(n)])
def test_windowed_networks_are_blended(name):
    """Attention is faded from tile to tile; the result stays near the one in a single piece."""
    model = resolver(name, "local_mean_5", bicubic_skip=True, params={"window": 8})
    assert model.reach is None
    assert model.tiling((70, 75), 40).blend
    lr = sea_floor(70, 75)
    whole, tiled = model.enhancer()(lr), model.predict(lr, tile=40)
    bicubic = enlarge(lr[None], 2)[0]
    assert np.sqrt(np.mean((tiled - whole) ** 2)) < 0.2 * np.sqrt(np.mean((whole - bicubic) ** 2))


@pytest.mark.parametrize("name", [n for n in IMAGING if attends_in_windows(n)])
def test_windows_in_tiles_equal_the_whole(name):
    """With gaps, projected and enlarged, attention gives the numbers of one piece."""
    model = resolver(name, "local_mean_3", bicubic_skip=True)
    for lr, options in (
        (sea_floor(78, 71), {"lr_consistency": "project"}),
        (with_gaps(sea_floor(105, 98)), {}),
    ):
        parts = model.tiling(lr.shape[:2], 8, gaps=not options).rows()
        assert len({part.window.start for part in parts}) > 1
        check_tiles(model, lr, 8, **options)


def test_windows_that_take_too_much_memory_are_blended(monkeypatch):
    """Where tiles would be too large to be exact, they are faded inside their outermost pixels."""
    monkeypatch.setattr("toolbox.inference.super_resolver._LAYER_BYTES", 2**16)
    tiling = resolver("edgeformer", params={"window": 8}).tiling((500, 400), gaps=False)
    assert tiling.blend
    assert 0 < tiling.trim <= tiling.halo // 2
    assert {part.window.start % 8 for part in tiling.rows()} == {0}


@pytest.mark.parametrize(
    ("window", "size", "self_ensemble"), [(8, (150, 171), False), (6, (101, 133), True)]
)
def test_tiles_keep_the_windows_of_attention(window, size, self_ensemble):
    """Tiles start at multiples of a window, from both ends, and give the numbers of one piece.

    With tiles that start anywhere the seams are higher than what the network adds.
    """
    keras.utils.set_random_seed(0)
    params = {**small("edgeformer"), "filters": 8, "num_groups": 2, "window": window}
    net = MODELS.resolve("edgeformer")((None, None, 1), 1, params=params)
    for number, weight in enumerate(net.weights):
        if weight.name == "relative_position":
            weight.assign(np.random.default_rng(number).normal(size=weight.shape))
    model = SuperResolver([net], NORMALIZERS["minmax"], {"input_shape": [8, 8, 1]})
    tiling = model.tiling(size, 41, gaps=False)
    for parts, side in ((tiling.rows(), size[0]), (tiling.columns(), size[1])):
        ends = [(part.window.start, side - part.window.stop) for part in parts]
        assert len(parts) > 1
        assert not np.any(np.array(ends) % window)
    lr = sea_floor(*size)
    whole = model.enhancer(self_ensemble)(lr)
    assert (whole - lr).std() > 1000 * allowed(model, whole)
    check_tiles(model, lr, 41, self_ensemble=self_ensemble)


def test_patch_normalisers_keep_the_windows_of_attention():
    """A tile as large as a training patch starts at multiples of a window too."""
    networks = [network("edgeformer", 1, params={"window": 4})]
    model = SuperResolver(networks, PatchMeanNormalizer(30.0), {"input_shape": [18, 18, 1]})
    tiling = model.tiling((61, 70))
    assert {part.window.start % 4 for part in tiling.rows() + tiling.columns()} == {0}
    assert {(61 - part.window.stop) % 4 for part in tiling.rows()} == {0}


def test_patch_normaliser_sees_windows_as_large_as_a_patch():
    """A normaliser of whole patches gets windows of the size that it was fitted on."""
    model = SuperResolver([network("espcn")], PatchMeanNormalizer(30.0), {"input_shape": [16, 12]})
    tiling = model.tiling((100, 90), tile=50, project=True)
    assert {part.window.stop - part.window.start for part in tiling.rows()} == {12}
    assert {part.window.stop - part.window.start for part in tiling.columns()} == {12}


def test_blended_result_is_projected_exactly():
    """Fading between windows keeps the block means that each of them has."""
    model = resolver("espcn", PatchMeanNormalizer(30.0), bicubic_skip=True)
    lr = sea_floor(30, 35)
    result = model.predict(lr, lr_consistency="project")
    means = block_mean(result[None].astype(np.float64), 2)[0]
    np.testing.assert_allclose(means, lr, rtol=0, atol=1e-3)


def test_tile_is_chosen_by_memory():
    """A wide network gets smaller tiles than a narrow one, never below the halo."""
    narrow, wide = (
        SuperResolver(
            [MODELS.resolve("espcn")((None, None, 1), 4, params={"filters": [count, 2]})],
            NORMALIZERS["minmax"],
            {},
        )
        for count in (16, 512)
    )
    sides = [model.tiling((5000, 5000)).tile for model in (narrow, wide)]
    assert 32 <= sides[1] < sides[0] <= 4096
    assert narrow.tiling((5000, 5000), tile=77).tile == 77


# --- Arrays of all kinds ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def espcn():
    """A small ESPCN at scale 2; read-only."""
    return resolver("espcn", "local_mean_5", bicubic_skip=True)


@pytest.fixture(scope="module")
def photo():
    """A small EDSR for three channels at scale 2; read-only."""
    return resolver("edsr", "local_mean_5", channels=3)


def test_shapes_go_in_and_out(espcn):
    """A map, an image and a stack of them give the same numbers in their own shape."""
    lr = sea_floor(9, 12)
    result = espcn.predict(lr)
    assert (result.shape, result.dtype) == ((18, 24, 1), np.float32)
    np.testing.assert_array_equal(espcn.predict(lr[..., 0]), result[..., 0])
    other = sea_floor(9, 12, seed=1)
    stack = espcn.predict(np.stack([lr, other, lr]))
    assert stack.shape == (3, 18, 24, 1)
    for found, wanted in zip(stack, (result, espcn.predict(other), result), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_three_channels(photo):
    """Images and stacks of colour keep their channels."""
    lr = sea_floor(7, 8, 3)
    result = photo.predict(lr)
    assert result.shape == (14, 16, 3)
    np.testing.assert_array_equal(photo.predict(lr[None])[0], result)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.int64, np.float16, ">f4"])
def test_number_types(espcn, dtype):
    """Whatever numbers a file holds, the result is that of float32, in float32."""
    lr = np.round(sea_floor(8, 9))
    result = espcn.predict(lr.astype(dtype))
    assert result.dtype == np.float32
    expected = espcn.predict(lr.astype(dtype).astype(np.float32))
    np.testing.assert_array_equal(result, expected)


def test_input_is_left_alone(espcn):
    """The map handed in is not written to, gaps and infinities included."""
    lr = sea_floor(8, 9)
    lr[2, 3], lr[5, 5] = np.nan, np.inf
    copy = lr.copy()
    lr.flags.writeable = False
    espcn.predict(lr, self_ensemble=True, lr_consistency="project")
    np.testing.assert_array_equal(lr, copy)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6,), r"expected an array \(h, w, 1\) or .* or \(h, w\); received shape \(6,\)"),
        ((), r"received shape \(\)"),
        ((6, 5, 3), r"expected an array \(h, w, 1\).*received shape \(6, 5, 3\)"),
        ((2, 6, 5, 2), r"received shape \(2, 6, 5, 2\)"),
        ((1, 2, 6, 5, 1), r"received shape \(1, 2, 6, 5, 1\)"),
        ((0, 5), r"received shape \(0, 5\)"),
        ((0, 6, 5, 1), r"received shape \(0, 6, 5, 1\)"),
    ],
)
def test_wrong_shapes_are_refused(espcn, shape, message):
    """The message says what was received and what is expected."""
    with pytest.raises(DataError, match=message):
        espcn.predict(np.zeros(shape, np.float32))


def test_wrong_number_of_channels_for_colour(photo):
    """A network for three channels does not offer to take a plain map."""
    with pytest.raises(DataError, match=r"\(N, h, w, 3\); received shape \(6, 5\)"):
        photo.predict(np.zeros((6, 5), np.float32))


@pytest.mark.parametrize("content", [["a", "b"], [None, {}], [1 + 2j]])
def test_what_is_not_a_number_is_refused(espcn, content):
    """Text, objects and complex numbers are no elevations."""
    with pytest.raises(DataError, match=r"expected an array of numbers; received (<U1|obj|compl)"):
        espcn.predict(np.array([content]))


# --- Gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}, {"lr_consistency": "project"}])
@pytest.mark.parametrize("tile", [None, 6])
def test_gaps_stay_gaps(espcn, tile, options):
    """A missing pixel is missing as scale² pixels, and nothing else is."""
    lr = with_gaps(sea_floor(30, 25))
    lr[0, 0] = np.nan
    missing = np.isnan(lr).repeat(2, axis=0).repeat(2, axis=1)
    result = espcn.predict(lr, tile, **options)
    np.testing.assert_array_equal(np.isnan(result), missing)


@pytest.mark.parametrize("value", [np.inf, -np.inf, -1.7976931348623157e308])
def test_infinity_counts_as_missing(espcn, value):
    """An infinite depth, or GDAL's float64 mark of a gap, is treated as no depth."""
    lr, same = sea_floor(12, 10).astype(np.float64), sea_floor(12, 10)
    lr[3:5, 4], same[3:5, 4] = value, np.nan
    np.testing.assert_array_equal(espcn.predict(lr), espcn.predict(same))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_masked_pixels_are_missing(espcn, dtype):
    """What a masked array hides, as of rasterio or netCDF4, is a gap, not a depth of -9999."""
    lr = np.round(sea_floor(12, 10)[..., 0])
    masked = np.ma.masked_equal(lr.astype(dtype), -9999)
    masked[3:5, 4] = -9999
    masked[3:5, 4] = np.ma.masked
    lr[3:5, 4] = np.nan
    np.testing.assert_array_equal(espcn.predict(masked), espcn.predict(lr))


def test_a_gap_in_one_channel_is_a_gap(photo):
    """A pixel without one of its colours is missing in all of them."""
    lr = sea_floor(9, 8, 3)
    lr[4, 5, 1] = np.nan
    result = photo.predict(lr)
    np.testing.assert_array_equal(np.argwhere(np.isnan(result[..., 0])).min(0), (8, 10))
    assert np.isnan(result).sum() == 2 * 2 * 3


def test_nothing_but_gaps(espcn):
    """A map, or a part of one, without a valid pixel is not worth a warning."""
    lr = np.full((40, 11), np.nan, np.float32)
    assert np.isnan(espcn.predict(lr)).all()
    lr[0, 0] = -4000.0
    result = espcn.predict(lr, tile=4)
    assert np.isfinite(result[:2, :2]).all()
    assert np.isnan(result).sum() == result.size - 4


# --- Members ---------------------------------------------------------------------------------


def copies_by_hand(function, lr):
    """Return the eight results of turned and mirrored copies, turned and mirrored back."""
    results = []
    for turns in range(4):
        for mirror in (lambda x: x, np.flipud):
            results.append(mirror(np.rot90(function(np.rot90(mirror(lr), turns)), -turns)))
    return np.array(results, np.float64)


@pytest.mark.parametrize("size", [(11, 11), (8, 13)])
def test_self_ensemble_is_the_mean_of_eight_copies(espcn, size):
    """Mean and deviation are those of eight copies computed one by one."""
    lr = sea_floor(*size)
    copies = copies_by_hand(espcn.enhancer(), lr)
    result = espcn.enhancer(self_ensemble=True, standard_deviation=True)(lr)
    atol = allowed(espcn, copies)
    np.testing.assert_allclose(result[..., :1], copies.mean(0), rtol=0, atol=atol)
    np.testing.assert_allclose(result[..., 1:], copies.std(0, ddof=1), rtol=0, atol=atol)
    assert np.ptp(copies, axis=0).max() > 100 * atol
    np.testing.assert_array_equal(espcn.predict(lr, self_ensemble=True), result[..., :1])


@pytest.mark.parametrize("move", [np.rot90, np.fliplr, np.flipud, lambda x: x.transpose(1, 0, 2)])
def test_self_ensemble_does_not_know_north(espcn, move):
    """Turned or mirrored input gives the turned or mirrored result; one pass does not."""
    lr = sea_floor(9, 14)
    atol = allowed(espcn, lr)
    for ensemble in (True, False):
        moved = espcn.predict(move(lr), self_ensemble=ensemble)
        difference = np.abs(moved - move(espcn.predict(lr, self_ensemble=ensemble))).max()
        assert (difference <= atol) == ensemble


def test_several_weights_give_their_mean():
    """Of several networks the result is the mean, with the deviation of the members."""
    together = resolver("espcn", "minmax", members=3)
    alone = [
        SuperResolver([network("espcn", seed=seed)], NORMALIZERS["minmax"], {}) for seed in range(3)
    ]
    lr = sea_floor(9, 10)
    members = np.array([model.predict(lr) for model in alone], np.float64)
    result = together.enhancer(standard_deviation=True)(lr)
    np.testing.assert_allclose(result[..., :1], members.mean(0), rtol=0, atol=0.05)
    np.testing.assert_allclose(result[..., 1:], members.std(0, ddof=1), rtol=0, atol=0.05)
    np.testing.assert_array_equal(together.predict(lr), result[..., :1])


def test_deviation_of_one_is_refused(espcn):
    """One network without copies has no spread; the message says what to add."""
    with pytest.raises(ConfigError, match="standard_deviation needs self_ensemble"):
        espcn.enhancer(standard_deviation=True)


def test_deviation_keeps_gaps():
    """Bands of deviation are missing where the map is, in colour and in a map of gaps, too."""
    model = resolver("edsr", "local_mean_5", channels=3, members=2)
    lr = sea_floor(7, 9, 3)
    lr[3, 4, 0] = np.nan
    enhance = model.enhancer(standard_deviation=True)
    result = enhance(lr)
    assert result.shape == (14, 18, 6)
    assert np.isnan(result).sum() == 4 * 6
    assert (result[..., 3:][np.isfinite(result[..., 3:])] >= 0).all()
    assert enhance(np.full_like(lr, np.nan)).shape == (14, 18, 6)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tile", [None, 10])
def test_projected_block_means_are_the_input(scale, tile):
    """Averaged back, the projected result is the input to the rounding of float32, gaps aside."""
    model = resolver("edsr", "minmax", scale=scale)
    lr = with_gaps(sea_floor(31, 28))
    projected = model.predict(lr, tile, lr_consistency="project")
    residual = block_mean(projected[None].astype(np.float64), scale)[0] - lr
    # A unit in the last place of 4000 m is 2.4e-4 m.
    assert np.nanmax(np.abs(residual)) < 5e-4
    np.testing.assert_array_equal(np.isnan(residual), np.isnan(lr))
    report = block_mean(model.predict(lr, tile)[None].astype(np.float64), scale)[0]
    assert np.nanmax(np.abs(report - lr)) > 1


def masking(model):
    """Return what predicts maps with a band for the range of the training data."""
    return MapPredictor(SimpleNamespace(resolver=model, predict=PredictParams(range_mask=True)))


def test_range_mask_marks_what_training_never_saw(tmp_path):
    """The last band is 1 on too deep and too steep input, 0 elsewhere, missing in gaps."""
    save_validity(Validity((-5000.0, -10.0), 0.5, (100.0, 100.0)), tmp_path)
    model = resolver(folder=tmp_path)
    row, column = np.mgrid[:20, :24].astype(np.float32)
    lr = np.where(column < 12, -4000 + 10 * row, -4000 + 10 * row - 90 * (column - 12))[..., None]
    lr[2, 3], lr[15, 4] = np.nan, -5001.0
    for tile in (4, 50):
        tiling = model.tiling((20, 24), tile)
        enhance = masking(model)._enhancer((100.0, 100.0))
        strips = list(tiling.strips(lambda r, c: lr[r, c], enhance))
        mask = np.concatenate(strips)[..., 1]
        assert mask[30, 8] == 1  # too deep
        assert (mask[:, 28:46] == 1).all()  # too steep
        assert (mask[8:24, :20] == 0).all()
        assert np.isnan(mask[4:6, 6:8]).all()
        assert np.isnan(mask).sum() == 4
        finite = mask[np.isfinite(mask)]
        assert set(finite) == {0, 1}


def test_range_mask_needs_a_recorded_range(espcn):
    """Without validity.json the message names the folder."""
    with pytest.raises(ConfigError, match=r"range_mask needs validity\.json in some/run; receiv"):
        masking(espcn).check()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_gives_no_numbers_is_refused(value):
    """Weights that overflowed are named, not written to a map as gaps."""
    net = network("espcn")
    weights = net.get_weights()
    weights[-1][:] = value
    net.set_weights(weights)
    model = SuperResolver([net], NORMALIZERS["minmax"], {}, "some/run")
    with pytest.raises(DataError, match=r"some/run: the network gave numbers that are not finite"):
        model.predict(sea_floor(6, 6))


def test_the_hint_can_be_pasted():
    """The value named beside --nodata is that of the map, digit for digit in float32."""
    net = network("espcn")
    weights = net.get_weights()
    weights[-1][:] = np.nan
    net.set_weights(weights)
    model = SuperResolver([net], NORMALIZERS["minmax"], {}, "some/run")
    values = sea_floor(6, 6)
    values[2, 3] = 9.969209968386869e36
    with pytest.raises(DataError, match="input from") as refused:
        model.predict(values)
    said = re.search(r"to (\S+)\. If one of these means missing", str(refused.value))[1]
    assert np.float32(float(said)) == values[2, 3]


# --- DataArray -------------------------------------------------------------------------------


def test_data_array_keeps_what_describes_it(espcn):
    """Numbers as of the plain array, refined coordinates, name, attributes and other axes kept."""
    xarray = pytest.importorskip("xarray")
    maps = np.stack([sea_floor(6, 5, seed=seed)[..., 0] for seed in range(2)])
    data = xarray.DataArray(
        maps,
        {"time": [10, 20], "lat": [40.5, 40.4, 40.3, 40.2, 40.1, 40.0], "lon": np.arange(5.0)},
        ("time", "lat", "lon"),
        name="elevation",
        attrs={"units": "m"},
    )
    result = espcn.predict(data)
    np.testing.assert_array_equal(result.values, espcn.predict(maps[..., None])[..., 0])
    assert (result.dims, result.name) == (data.dims, "elevation")
    assert result.attrs == {"units": "m"}
    np.testing.assert_array_equal(result["time"], [10, 20])
    np.testing.assert_allclose(result["lat"], 40.525 - 0.05 * np.arange(12))
    np.testing.assert_allclose(result["lon"], -0.25 + 0.5 * np.arange(10))
    np.testing.assert_array_equal(espcn.predict(data[1]), result[1])


# --- Runs on disk ----------------------------------------------------------------------------


@pytest.fixture
def moved(finished, tmp_path):
    """A copy of a finished run, away from its data, to be spoilt."""
    return shutil.copytree(finished, tmp_path / "moved here")


def edit_config(folder, **changes):
    """Change keys of config.yml; None removes them."""
    path = folder / "config.yml"
    content = {**yaml.safe_load(path.read_text(encoding="utf-8")), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def lr_patches(data_dir, split="test"):
    """Return the LR images of a split."""
    return pickle.loads((data_dir / split / "data_LR.pkl").read_bytes())


def test_a_finished_run_predicts_what_was_tested(finished, tiny_patches):
    """The metres are those that the tester computed its figures from, bit for bit."""
    model = load_model(finished)
    lr = lr_patches(tiny_patches)
    tested = pickle.loads((finished / "test_result" / "data_SR.pkl").read_bytes())
    assert tested.shape == (5, 16, 16, 1)
    np.testing.assert_array_equal(model.super_resolve(lr, 4), tested)
    np.testing.assert_array_equal(model.predict(lr), tested)


def test_a_finished_run_has_the_errors_of_its_summary(finished, tiny_patches):
    """RMSE of the predicted test patches is what ``summary.json`` says."""
    found = sorted(finished.rglob("summary.json"))
    summary = json.loads(found[0].read_text(encoding="utf-8"))
    hr = pickle.loads((tiny_patches / "test" / "data_HR.pkl").read_bytes())
    error = load_model(finished).predict(lr_patches(tiny_patches)) - hr
    rmse = np.sqrt(np.square(error, dtype=np.float64).mean())
    assert rmse == pytest.approx(summary["all"]["sr"]["rmse_m"], rel=1e-5)


def test_a_moved_run_is_the_same(finished, moved):
    """All that is needed lies in the folder, wherever it stands."""
    lr = sea_floor(9, 11)
    model = load_model(moved)
    np.testing.assert_array_equal(model.predict(lr), load_model(str(finished)).predict(lr))
    assert (model.folder, model.scale, model.channels) == (moved, 4, 1)
    assert [path.parent for path in model.weights] == [moved]
    assert load_validity(model.folder) is not None


def test_other_weights_can_be_named(finished, moved):
    """A weights file given by hand is the one that is used."""
    other = moved / "other.h5"
    net = build_network(load_model(moved).config)
    shaken(net).save_weights(moved / "other.weights.h5")
    (moved / "other.weights.h5").rename(other)
    lr = sea_floor(6, 7)
    model = load_model(moved, other)
    assert model.weights == [other]
    expected = SuperResolver([net], model.normalizer, model.config).predict(lr)
    np.testing.assert_array_equal(model.predict(lr), expected)


@pytest.mark.parametrize("name", IMAGING)
def test_every_network_of_a_run_is_built(name):
    """Settings as a run records them give the network with its parameters, skip and scale."""
    config = {"model": name, name: small(name), "scale": 3, "input_shape": [8, 8, 2]}
    net = build_network({**config, "bicubic_skip": True})
    wanted = network(name, 3, 2, bicubic_skip=True)
    assert [w.shape for w in net.weights] == [w.shape for w in wanted.weights]
    assert (net.scale, net.channels, net.bicubic_skip) == (3, 2, True)
    assert net(np.zeros((1, 5, 4, 2), np.float32)).shape == (1, 15, 12, 2)


def test_unknown_name_lists_what_there_is(tmp_path, monkeypatch):
    """A word that is neither folder nor shipped model is answered with the names of those."""
    for name in ("bathymetry_x4", "photo_x2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yml").touch()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(
        ConfigError, match=r"ships \(bathymetry_x4, photo_x2\); received 'bathymetr"
    ):
        load_model("bathymetry")


def test_shipped_models_are_found_by_name(moved, monkeypatch):
    """The name of a model that ships with the project is enough."""
    monkeypatch.setattr(pretrained, "FOLDER", moved.parent)
    assert load_model("moved here").folder == moved


def test_missing_folder(tmp_path):
    """A path that leads nowhere is not taken for a name."""
    with pytest.raises(ConfigError, match=r"no such folder\. Name the log folder of a training"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no such folder .* Name the log folder of a training"):
        load_model("nowhere/")


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("config.yml", ConfigError, r"config\.yml: no such file"),
        ("normalizer.json", DataError, r"normalizer\.json: no such file"),
        ("weights_best.h5", WeightsError, r"weights_best\.h5: no such weights file"),
    ],
)
def test_missing_part_of_a_run(moved, file, error, message):
    """A folder without one of its parts is refused with the name of that part."""
    edit_config(moved, normalizer="local_mean")  # norm_range alone does not stand for it
    (moved / file).unlink()
    with pytest.raises(error, match=message):
        load_model(moved)


def test_run_without_validity_is_usable(moved):
    """A run of an older version, without validity.json, is read without its range."""
    (moved / "validity.json").unlink()
    assert load_validity(load_model(moved).folder) is None


def test_foreign_weights(moved):
    """Weights of another network are refused with the layer that differs."""
    edit_config(moved, espcn={"filters": [4, 5], "kernels": [3, 3, 3]})
    with pytest.raises(WeightsError, match=r"belongs to another architecture.*needs shapes"):
        load_model(moved)


def test_weights_that_are_no_weights(moved):
    """A damaged weights file is named."""
    (moved / "weights_best.h5").write_bytes(b"torn")
    with pytest.raises(WeightsError, match=r"weights_best\.h5: not a readable HDF5 file"):
        load_model(moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, r"config\.yml: model is missing"),
        ({"model": "espnc"}, r"model must be one of.*received 'espnc'"),
        ({"scale": "four"}, r"config\.yml: scale must be .*; received 'four'"),
        ({"scale": 0}, r"config\.yml: scale must be .*; received 0"),
        ({"input_shape": [4, 4]}, r"config\.yml: input_shape has too few entries"),
        ({"input_shape": 4}, r"config\.yml: input_shape must be .*; received 4"),
        ({"espcn": {"filters": [4, 4], "kernels": [3]}}, r"kernels must have one entry more"),
        ({"espcn": {"filters": 4}}, r"config\.yml: espcn\.filters must be .*; received 4"),
        ({"espcn": [4, 4]}, r"config\.yml: espcn must be .*; received \[4, 4\]"),
        ({"espcn": "wide"}, r"config\.yml: espcn must be .*; received 'wide'"),
        ({"precision": "half"}, r"config\.yml: precision must be .*; received 'half'"),
    ],
)
def test_damaged_settings(moved, changes, message):
    """A config.yml that is not what the training wrote is refused with one line."""
    edit_config(moved, **changes)
    with pytest.raises(ConfigError, match=message):
        load_model(moved)


@pytest.mark.parametrize("text", ["", "model: [espcn", "- 4\n", "\0"])
def test_torn_settings(moved, text):
    """A config.yml that is no mapping is refused by name."""
    (moved / "config.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yml"):
        load_model(moved)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "float32"])
def test_precision_of_the_run_is_used_and_given_back(moved, precision):
    """Layers have the precision of the run; what is built afterwards has the former one."""
    edit_config(moved, precision=precision)
    policy = keras.config.dtype_policy()
    model = load_model(moved)
    assert keras.config.dtype_policy() == policy
    assert model.predict(sea_floor(6, 5)).dtype == np.float32
    net = build_network(model.config)
    assert {layer.dtype_policy.name for layer in net.layers[1:2]} == {precision}
    assert keras.layers.Dense(1).dtype_policy == policy


def test_precision_is_given_back_after_an_error(moved):
    """A network that cannot be built leaves the precision as it was, too."""
    edit_config(moved, precision="mixed_bfloat16", espcn={"filters": [4, 4], "kernels": [3]})
    policy = keras.config.dtype_policy()
    with pytest.raises(ConfigError, match="kernels must have one entry more"):
        load_model(moved)
    assert keras.config.dtype_policy() == policy


def test_silent_network_with_skip_is_bicubic():
    """With its last layer at zero and a skip, a network of any normaliser is bicubic in metres."""
    net = network("edsr", bicubic_skip=True)
    last = [layer for layer in net.layers if layer.weights][-1]
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])
    lr = sea_floor(14, 11)
    for normalizer in (NORMALIZERS["minmax"], NORMALIZERS["local_mean_5"]):
        result = SuperResolver([net], normalizer, {}).predict(lr)
        np.testing.assert_allclose(result, enlarge(lr[None], 2)[0], rtol=0, atol=0.01)


#: Takes large windows of rough ground through normalisers; prints a checksum for each.
THREADS = """
import zlib, numpy as np
from toolbox.normalizer import normalizer_from
import tensorflow as tf
rng = np.random.default_rng(0)
for name in ("local_mean", "local_standard"):
    normalizer = normalizer_from({"name": name, "unit": 10.0, "window": 5})
    graph = tf.function(lambda x: normalizer.graph(x, 1, lambda y, method: y))
    for _ in range(8):
        lr = rng.normal(0, 3, (1, 443, 443, 1)).cumsum(1).cumsum(2) / 30 - 3000
        parts = graph(tf.constant(lr, tf.float32))
        print(name, zlib.crc32(b"".join(part.numpy().tobytes() for part in parts)))
"""


def test_result_does_not_depend_on_the_number_of_threads():
    """Workers that share a machine have fewer threads each, and write the bytes of one process."""
    found = []
    for count in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": count},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(done.stdout)
    assert found[0].count("local_") == 16
    assert found[0] == found[1]
