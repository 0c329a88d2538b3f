"""Networks for restoration at scale 1 and above: sizes, identities, edges, windows, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import IMAGING, attends_in_windows, network, small

from sr_trainer.user_params import UserParams
from toolbox.errors import ConfigError
from toolbox.model.edge_attention import EdgeStrength, edge_attention
from toolbox.model.edgeformer import EdgeFormer, EdgeFormerEDSR, EdgeFormerEDSRLight, EdgeFormerRDN
from toolbox.model.edsr import EDSR, EDSRLight
from toolbox.model.layer import Resize
from toolbox.model.rdn import RDN, RDNEdge
from toolbox.model.restoration import Restorer
from toolbox.model.simplesrnet import SimpleSRNet
from toolbox.model.window_attention import WindowAttention, window_attention
from toolbox.registry import MODELS

#: Networks of the registry for super-resolution alone; all others are tested here at scale 1.
ENLARGING = {"srcnn", "fsrcnn", "espcn", "edsr", "srgan", "esrgan"}
RESTORING = [name for name in IMAGING if name not in ENLARGING]
#: Networks that add their input at scale 1 by themselves.
ADDING = [name for name in RESTORING if issubclass(MODELS.resolve(name), Restorer)]
NAMES = pytest.mark.parametrize("name", RESTORING)
WINDOWED = [name for name in RESTORING if attends_in_windows(name)]
#: Straight and shifted windows with several heads; dense blocks of one layer.
OWN = {
    "edgeformer_edsr": {"num_residual_blocks": 2, "heads": 2},
    "rdn": {"num_dense_blocks": 1, "num_layers": 1},
    "rdn_edge": {"num_layers": 1},
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_model(name, scale=1, channels=1, size=(None, None), **options):
    return network(name, (*size, channels), scale, OWN.get(name), **options)


def shaken(net, seed=0):
    """Draw all weights anew, so that biases and gates are not what they begin with."""
    rng = np.random.default_rng(seed)
    for weight in net.weights:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    return net


def of_graph(graph, *shape):
    """Return a network of one graph or layer."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, graph(inputs))


# --- Numbers of parameters -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "scale", "count"), [(3, 2, 22_123_395), (3, 4, 22_271_107), (1, 1, 21_973_377)]
)
def test_number_of_parameters_of_rdn(channels, scale, count):
    """RDN with D = 16, C = 8, G = 64 has the published structure's parameters.

    The first two are those of the authors' network (Zhang et al. 2018, arXiv:1802.08797), as
    released for three channels. At scale 1 the enlargement of 147,712 and two channels of first
    and last layer, 2 * 9 * 64 * 2 + 2 = 2,306, are left out.
    """
    model = RDN((None, None, channels), scale, params={"kernel_initializer": "zeros"})
    assert model.count_params() == count
    assert 22_123_395 - 147_712 - 2_306 == 21_973_377


def conv(before, after, size=3):
    """Parameters of a convolution."""
    return size**2 * before * after + after


def attention(filters, heads):
    """Parameters of window attention with windows of 8 pixels: norm, qkv, positions, output."""
    return 2 * filters + conv(filters, 3 * filters, 1) + 15**2 * heads + conv(filters, filters, 1)


def dense(filters, growth, num_layers):
    """Parameters of a dense block."""
    convs = sum(conv(filters + i * growth, growth) for i in range(num_layers))
    return convs + conv(filters + num_layers * growth, filters, 1)


MLP = 2 * 32 + conv(32, 64, 1) + conv(64, 32, 1)
#: First layer, end of the trunk and output layer, with 32 channels.
FRAME = conv(1, 32) + conv(32, 32) + conv(32, 1)
#: Six dense blocks and the second convolution and fusion of RDN.
DENSE_TRUNK = FRAME + conv(32, 32) + conv(6 * 32, 32, 1) + 6 * dense(32, 16, 4)


@pytest.mark.parametrize(
    ("model", "by_hand", "count"),
    [
        (SimpleSRNet, conv(1, 64) + 6 * conv(64, 64) + conv(64, 1), 222_785),
        (EDSRLight, FRAME + 12 * conv(32, 32), 120_833),
        (RDNEdge, DENSE_TRUNK + 6 * conv(32, 32), 293_313),
        (EdgeFormer, FRAME + 3 * (2 * (attention(32, 2) + MLP) + 2 * conv(32, 32)), 119_309),
        (
            EdgeFormerEDSR,
            conv(1, 64) + 37 * conv(64, 64) + conv(64, 1) + 4 * attention(64, 4),
            1_438_225,
        ),
        (
            EdgeFormerEDSRLight,
            FRAME + 12 * conv(32, 32) + 2 * (conv(32, 32, 1) + attention(32, 1)),
            131_971,
        ),
        (EdgeFormerRDN, DENSE_TRUNK + 3 * (conv(32, 32) + attention(32, 2)), 279_783),
    ],
)
def test_number_of_parameters(model, by_hand, count):
    """With the defaults, one channel and scale 1: counted by hand, and the number documented."""
    assert model((None, None, 1), 1).count_params() == by_hand == count
    assert f"{count:,} parameters" in " ".join(model.__doc__.split())


def test_light_is_edsr_with_other_defaults():
    """The same settings give the same network; a wider output adds what the shuffle needs."""
    params = {"filters": 32, "num_residual_blocks": 6}
    light, full = EDSRLight((8, 8, 1), 2), EDSR((8, 8, 1), 2, params=params)
    assert [w.shape for w in light.weights] == [w.shape for w in full.weights]
    assert light.count_params() == 157_825 == 120_833 + conv(32, 4 * 32)


# --- Shapes and identities -------------------------------------------------------------------


@NAMES
def test_shapes(name):
    """Any size, odd ones and single pixels too, is kept at scale 1; test_models.py enlarges."""
    model = small_model(name, 1, 2)
    for height, width in ((13, 9), (4, 8), (1, 1)):
        result = model(noise(2, height, width, 2))
        assert result.shape == (2, height, width, 2)
        assert np.isfinite(result).all()


@NAMES
def test_open_and_fixed_sizes_agree(name):
    """The same weights give the same numbers whether the graph knows the size or not."""
    size = (13, 8)
    fixed, free = small_model(name, size=size), small_model(name)
    free.set_weights(shaken(fixed).get_weights())
    x = noise(2, *size, 1)
    assert fixed.output_shape == (None, *size, 1)
    np.testing.assert_allclose(fixed(x), free(x), rtol=1e-5, atol=1e-5)


def test_enlargement_by_one_is_the_identity():
    """The bicubic enlargement by 1 gives its input back bit for bit, depths and subnormals too."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 7, 3)) * 10.0 ** rng.integers(-30, 30, (2, 9, 7, 3))
    np.testing.assert_array_equal(Resize(1)(x.astype(np.float32)), x.astype(np.float32))


@NAMES
def test_skip_at_scale_1_adds_the_input(name):
    """With skip the plain network is the correction of its input; some add it without, too."""
    plain, skip = shaken(small_model(name)), small_model(name, bicubic_skip=True)
    skip.set_weights(plain.get_weights())
    x = noise(1, 9, 7, 1)
    correction = skip(x) - x
    added = x if name in ADDING else 0
    np.testing.assert_allclose(plain(x), correction + added, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("skip", [False, True])
def test_silent_restoration_is_the_identity(name, skip):
    """With its last layer zeroed a network for restoration gives the input, bit for bit."""
    model = shaken(small_model(name, bicubic_skip=skip))
    for weight in [layer for layer in model.layers if layer.weights][-1].weights:
        weight.assign(np.zeros(weight.shape))
    x = noise(2, 9, 7, 1)
    np.testing.assert_array_equal(model(x), x)


# --- Edge attention --------------------------------------------------------------------------


def test_strength_of_an_edge():
    """A step between columns shows beside it, by its height over the local mean."""
    x = np.zeros((1, 9, 12, 1), np.float32)
    x[:, :, 6:] = 2.0
    strength = EdgeStrength()(x).numpy()[0, :, :, 0]
    # The derivative is half the step in two columns; their mean over nine is two ninths of that.
    np.testing.assert_allclose(strength[:, 5:7], 1 / (2 / 9 + 1e-3), rtol=1e-4)
    np.testing.assert_allclose(np.delete(strength, [5, 6], axis=1), 0, atol=1e-3)


def test_strength_has_no_contrast_offset_or_margin():
    """Gain and offset do not matter; a flat image has no edges, at its margin neither."""
    x = noise(2, 11, 8, 3)
    layer = EdgeStrength()
    np.testing.assert_allclose(layer(50 * x + 7), layer(x), rtol=5e-3)
    assert np.asarray(layer(np.full((1, 6, 5, 2), 3.0, np.float32))).max() < 2e-3
    assert 0.9 < np.mean(layer(x)) < 1.1


def test_strength_turns_with_the_image():
    """The eight symmetries of the square go through the layer."""
    x = noise(1, 9, 9, 2)
    layer = EdgeStrength()
    for turns in range(4):
        turned = np.rot90(x[:, :, ::-1], turns, (1, 2))
        expected = np.rot90(np.asarray(layer(x))[:, :, ::-1], turns, (1, 2))
        np.testing.assert_allclose(layer(turned.copy()), expected, rtol=1e-4, atol=1e-5)


def test_slope_of_the_strength_is_finite():
    """Where there is no gradient at all the layer still has a finite slope."""
    x = tf.zeros((1, 6, 6, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(EdgeStrength()(x))
    assert np.isfinite(tape.gradient(total, x)).all()


def test_silent_gate_is_the_identity():
    """With zero weights the features pass as they are; a saturated gate doubles or stops them."""
    net = of_graph(edge_attention(3), None, None, 3)
    x = noise(1, 7, 8, 3)
    kernel, _ = net.get_weights()
    for bias, factor in ((0.0, 1), (100.0, 2), (-100.0, 0)):
        net.set_weights([np.zeros_like(kernel), np.full(3, bias, np.float32)])
        np.testing.assert_array_equal(net(x), factor * x)


def test_gate_is_the_documented_equation():
    """The result is x + x (2 σ(2 z) - 1), z the convolution of the strength."""
    net = shaken(of_graph(edge_attention(3, 1), None, None, 3))
    x = noise(1, 7, 8, 3)
    kernel, bias = net.get_weights()
    z = np.asarray(EdgeStrength()(x)) @ kernel[0, 0] + bias
    np.testing.assert_allclose(net(x), 2 * x / (1 + np.exp(-2 * z)), rtol=1e-4, atol=1e-5)


def test_gate_is_almost_open_at_first():
    """A new gate changes features by less than a fifth on average."""
    net = of_graph(edge_attention(8), None, None, 8)
    x = noise(1, 16, 16, 8)
    assert np.abs(net(x) - x).mean() < 0.2 * np.abs(x).mean()


# --- Attention within windows ----------------------------------------------------------------


def full_attention(qkv, layer):
    """Compute attention among the pixels of one window (h, w, 3 C), plainly, in float64."""
    height, width, depth = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    each = depth // layer.heads
    pixels = qkv.reshape(-1, 3, layer.heads, each).astype(np.float64)
    table = np.asarray(layer.relative_position, np.float64)
    places = [divmod(i, width) for i in range(height * width)]
    result = np.zeros((height * width, layer.heads, each))
    for head in range(layer.heads):
        for i, (row, column) in enumerate(places):
            scores = []
            for j, (other_row, other_column) in enumerate(places):
                offset = row - other_row, column - other_column
                bias = table[offset[0] + layer.window - 1, offset[1] + layer.window - 1, head]
                scores.append(pixels[i, 0, head] @ pixels[j, 1, head] / np.sqrt(each) + bias)
            weights = np.exp(scores) / np.exp(scores).sum()
            result[i, head] = weights @ pixels[:, 2, head]
    return result.reshape(height, width, depth)


def attending(heads=2, window=8, shift=0, channels=4):
    """Return a layer of window attention whose table of positions counts."""
    layer = WindowAttention(heads, window, shift)
    layer.build((None, None, None, 3 * channels))
    layer.relative_position.assign(noise(*layer.relative_position.shape, seed=7))
    return layer


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_one_window_is_full_attention(heads):
    """On an image of one window the layer gives what the formula gives, computed in NumPy."""
    layer, x = attending(heads), noise(1, 8, 8, 12)
    np.testing.assert_allclose(layer(x)[0], full_attention(x[0], layer), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "shift"), [(8, 0), (8, 4), (4, 2), (4, 3), (5, 2), (1, 0)])
def test_every_window_is_full_attention_of_its_pixels(window, shift):
    """A 13 × 9 image, cut as documented: each part is attended to as if it were alone."""
    layer, x = attending(window=window, shift=shift), noise(2, 13, 9, 12)
    result = layer(x).numpy()
    for top in range(-shift, 13, window):
        for left in range(-shift, 9, window):
            part = np.s_[max(0, top) : top + window, max(0, left) : left + window]
            expected = full_attention(x[1][part], layer)
            np.testing.assert_allclose(result[1][part], expected, rtol=1e-4, atol=1e-5)


def rolled_attention(x, layer):
    """Compute shifted windows as Liu et al. 2021 do: roll, cut, mask what the roll joined."""
    size, window, shift = x.shape[0], layer.window, layer.shift
    # Windows there begin `shift` pixels inside the image, which is `window - shift` before it.
    inside = (window - shift) % window
    rolled = np.roll(x, (-inside, -inside), (0, 1))
    row, column = np.mgrid[:size, :size]
    region = np.roll(((row < inside) * 2 + (column < inside)), (-inside, -inside), (0, 1))
    result = np.zeros((*x.shape[:2], x.shape[2] // 3))
    for top in range(0, size, window):
        for left in range(0, size, window):
            cut = np.s_[top : top + window, left : left + window]
            result[cut] = masked_attention(rolled[cut], region[cut].ravel(), layer)
    return np.roll(result, (inside, inside), (0, 1))


def masked_attention(qkv, region, layer):
    """Attention among the pixels of one window that belong to the same region."""
    window, each = layer.window, qkv.shape[2] // 3 // layer.heads
    pixels = qkv.reshape(-1, 3, layer.heads, each).astype(np.float64)
    row, column = np.divmod(np.arange(window**2), window)
    table = np.asarray(layer.relative_position, np.float64)
    bias = table[row[:, None] - row + window - 1, column[:, None] - column + window - 1]
    scores = np.einsum("ihc,jhc->ijh", pixels[:, 0], pixels[:, 1]) / np.sqrt(each) + bias
    scores[region[:, None] != region] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ijh,jhc->ihc", weights, pixels[:, 2]).reshape(window, window, -1)


@pytest.mark.parametrize("shift", [0, 2, 3])
def test_shifted_windows_are_those_of_swin(shift):
    """Windows that stick out give the numbers of the rolled image with its mask."""
    layer, x = attending(window=4, shift=shift), noise(1, 12, 12, 12)
    np.testing.assert_allclose(layer(x)[0], rolled_attention(x[0], layer), rtol=1e-4, atol=1e-5)


def test_regions_do_not_influence_one_another():
    """A pixel changes its own window and nothing else, not the far side that a roll would join."""
    layer, x = attending(window=8, shift=4), noise(1, 16, 16, 12)
    other = x.copy()
    other[0, 0, 0] += 100
    changed = (layer(x).numpy() != layer(other).numpy())[0].any(-1)
    expected = np.zeros((16, 16), bool)
    expected[:4, :4] = True
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("shift", [0, 4])
def test_nothing_leaks_from_beyond_the_margin(shift):
    """What lies beyond a 13 × 9 image does not count: zeros, were they tokens, would."""
    layer, x = attending(shift=shift), 0.1 * noise(1, 13, 9, 12) + 3
    keys = x.copy()
    # Keys so unlike the queries that a token of zeros would take all the weight.
    keys[..., :4], keys[..., 4:8] = 30.0, -30.0
    values = keys[..., 8:]
    result = layer(keys).numpy()
    assert result.min() >= values.min() - 1e-4
    assert result.max() <= values.max() + 1e-4


def test_open_axes_are_masked_alike():
    """A graph for any size gives the numbers of graphs for one size, multiples of windows too."""
    layer = attending(window=4, shift=2)
    free = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 12))])
    for size in ((8, 12), (13, 9), (1, 3)):
        x = noise(2, *size, 12)
        np.testing.assert_allclose(free(x), layer(x), rtol=1e-5, atol=1e-6)


def test_neighbouring_windows_talk_through_the_shift():
    """Straight and shifted windows together carry a pixel into its neighbours' windows."""
    net = of_graph(lambda x: window_attention(4, 2, 4, 2)(window_attention(4, 2, 4, 0)(x)), 8, 8, 4)
    x = noise(1, 8, 8, 4)
    other = x.copy()
    other[0, 3, 3, 0] += 1
    assert (np.asarray(shaken(net)(x)) != np.asarray(net(other)))[0, 5, 5].any()


@pytest.mark.parametrize(
    ("heads", "window", "shift", "message"),
    [(3, 8, 0, r"multiple of 3 × 3.*received 12\."), (2, 8, 8, "0 to 7.*received 8. Use 4")],
)
def test_wrong_attention_is_refused(heads, window, shift, message):
    """Heads that do not divide the channels and a shift of a whole window say so."""
    with pytest.raises(ConfigError, match=message):
        attending(heads, window, shift)


@pytest.mark.parametrize("name", WINDOWED)
def test_wrong_heads_are_refused(name):
    """The message names the heads, the filters, and a number that fits."""
    with pytest.raises(ConfigError, match=r"divide filters 4; received 3\. Use 2\."):
        MODELS.resolve(name)((8, 8, 1), 1, params=small(name, heads=3))


# --- Precision, compilers, files, training ----------------------------------------------------


@pytest.fixture
def bfloat16():
    """Build networks under mixed_bfloat16 in this test."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@NAMES
def test_mixed_precision(name, bfloat16):
    """Under mixed_bfloat16 the result is float32, finite, and near that of float32."""
    mixed = shaken(small_model(name))
    keras.config.set_dtype_policy("float32")
    exact = small_model(name)
    exact.set_weights(mixed.get_weights())
    x = noise(1, 13, 9, 1)
    result, expected = mixed(x), exact(x).numpy()
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_edges_are_found_in_float32(bfloat16):
    """A step of 0.1 on a level of 1000, which eight bits do not hold, is still an edge."""
    x = np.full((1, 8, 8, 1), 1000, np.float32)
    x[:, :, 4:] += 0.1
    strength = EdgeStrength()(x)
    assert strength.dtype == "float32"
    assert np.asarray(strength).max() > 2


@pytest.mark.parametrize("name", ["rdn_edge", "edgeformer"])
def test_xla_gives_the_numbers_of_the_plain_graph(name):
    """Compiled with XLA, forward and slopes are those of the eager network, at an odd size.

    The two networks have every kind of layer of the others.
    """
    model = shaken(small_model(name))
    x = tf.constant(noise(1, 7, 5, 1))

    def slopes():
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            loss = tf.reduce_mean(tf.square(y))
        return [y, *tape.gradient(loss, model.trainable_variables)]

    for one, other in zip(tf.function(slopes, jit_compile=True)(), slopes(), strict=True):
        scale = max(1e-3, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * scale)


@NAMES
def test_saved_network_is_the_same(name, tmp_path):
    """A .keras file gives back class, settings and outputs at scale 1, for images of any size."""
    model = shaken(small_model(name))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (type(loaded), loaded.scale, loaded.params) == (type(model), 1, model.params)
    x = noise(2, 6, 5, 1)
    np.testing.assert_array_equal(loaded(x), model(x))


@NAMES
def test_training_lowers_the_loss(name):
    """A step of the optimizer on a noisy image against the clean one lowers the loss."""
    keras.utils.set_random_seed(1)
    model = small_model(name, size=(8, 8))
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="mse", run_eagerly=True)
    clean = np.sin(noise(4, 1, 8, 1) + np.zeros((4, 8, 8, 1), np.float32))
    noisy = clean + 0.3 * noise(4, 8, 8, 1, seed=1)
    before = model.test_on_batch(noisy, clean)
    model.train_on_batch(noisy, clean)
    assert model.test_on_batch(noisy, clean) < before


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [("edgeformer_esdr_light", "'edgeformer_edsr_light'"), ("basicsr", ""), ("", "")],
)
def test_unknown_network_is_no_fall_back(name, hint, tmp_path):
    """A name that is not in the table is an error that lists the names, in the YAML too."""
    with pytest.raises(ConfigError, match=rf"edgeformer, .*rdn_edge.*received '{name}'.*{hint}"):
        MODELS.resolve(name)
    path = tmp_path / "input.yml"
    path.write_text(f"data_dir: data\nmodel: '{name}'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"model must be one of .*received '{name}'.*{hint}"):
        UserParams(path)


@NAMES
def test_settings_are_checked_by_the_section(name, tmp_path):
    """The section of each network takes its settings and refuses others."""
    path = tmp_path / "input.yml"
    settings = small(name)
    path.write_text(f"data_dir: data\nmodel: {name}\nscale: 1\n{name}: {settings}\n")
    assert settings.items() <= UserParams(path).model_params.items()
    key = next(iter(settings))
    path.write_text(f"data_dir: data\nmodel: {name}\n{name}: {{{key}_: 3}}\n")
    with pytest.raises(ConfigError, match=rf"unknown key {name}\.{key}_.*'{key}'"):
        UserParams(path)
