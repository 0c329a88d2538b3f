"""pix2pix: structures of the papers, losses computed by hand, pictures of any size, tiles."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.errors import ConfigError
from toolbox.inference.super_resolver import SuperResolver
from toolbox.model.layer import CropLike, PadToMultiple
from toolbox.model.physical import physical_model
from toolbox.model.pix2pix import Discriminator, Generator, Pix2Pix
from toolbox.normalizer import MinMaxNormalizer, SymmetricNormalizer

ANY = (None, None, 3)
NORM = MinMaxNormalizer(0, 255, 0, 255)
SMALL = {"filters": 2, "depth": 1, "d_filters": 2, "d_num_layers": 1}
PAPER = {"generator": "strided", "kernel_initializer": "zeros"}
#: Both kinds of U-Net, of a few hundred weights.
NETWORKS = pytest.mark.parametrize(
    "params",
    [{"filters": 4}, {"filters": 4, "generator": "strided", "depth": 3}],
    ids=["max_pool", "strided"],
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def shaken(net, seed=0):
    """Draw all weights anew, biases and moving averages too; kernels keep the size of features."""
    rng = np.random.default_rng(seed)
    for weight in net.weights:
        values = 0.3 * rng.normal(size=weight.shape)
        if len(weight.shape) == 4:
            values *= 3 / np.sqrt(np.prod(weight.shape[:3]))
        elif weight.name in ("gamma", "moving_variance"):
            values = 1 + np.abs(values)
        weight.assign(values)
    return net


def trainable_count(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


# Structure ---------------------------------------------------------------------------------------


def test_published_generator():
    """54,414,979 trainable parameters.

    Isola et al. 2017, section 6.1.1, as TensorFlow's tutorial "pix2pix" counts it, whose
    ``generator.summary()`` says so for 256 × 256 × 3.
    """
    model = Generator((256, 256, 3), 1, params=PAPER)
    assert trainable_count(model) == 54_414_979
    assert model.output_shape == (None, 256, 256, 3)


def test_published_discriminator():
    """2,768,641 trainable parameters and 30 × 30 verdicts, section 6.1.2, counted likewise."""
    params = {"discriminator": "patch", "conditional": True, "kernel_initializer": "zeros"}
    model = Discriminator((256, 256, 3), params=params)
    assert trainable_count(model) == 2_768_641
    assert model.output_shape == (None, 30, 30, 1)


def test_default_discriminator():
    """Four poolings make 14 × 14 patches of 224 × 224 pixels; five convolutions start with 16."""
    model = Discriminator((224, 224, 3), params={"kernel_initializer": "zeros"})
    assert model.output_shape == (None, 14, 14, 1)
    found = [layer.filters for layer in layers_of(model, keras.layers.Conv2D)]
    assert found == [16, 32, 64, 128, 256, 1]


def test_levels_of_the_default_generator():
    """Two halvings from 64 channels, one convolution a level."""
    model = Generator(ANY, 1, params={"kernel_initializer": "zeros"})
    found = [(type(v).__name__, v.filters) for v in model.layers if hasattr(v, "filters")]
    down = [("Conv2D", 64), ("Conv2D", 128), ("Conv2D", 256)]
    up = [("Conv2DTranspose", 128), ("Conv2D", 128), ("Conv2DTranspose", 64), ("Conv2D", 64)]
    assert found == [*down, *up, ("Conv2D", 3)]


@pytest.mark.parametrize(("num_layers", "side"), [(3, 70), (2, 34), (1, 16)])
def test_receptive_field_of_a_patch(num_layers, side):
    """One verdict depends on 70 × 70 pixels, and 16 × 16 with one layer; Isola et al. 2017."""
    params = {"discriminator": "patch", "filters": 1, "num_layers": num_layers}
    model = Discriminator((160, 160, 1), params={**params, "normalization": "none"})
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.1 if len(weight.shape) == 4 else 0))
    picture = tf.ones((1, 160, 160, 1))
    with tf.GradientTape() as tape:
        tape.watch(picture)
        verdicts = model(picture)
        middle = verdicts.shape[1] // 2
        verdict = verdicts[0, middle, middle, 0]
    seen = np.argwhere(tape.gradient(verdict, picture)[0, ..., 0])
    np.testing.assert_array_equal(np.ptp(seen, axis=0) + 1, [side, side])
    assert len(seen) == side**2
    assert seen.min() > 0
    assert seen.max() < 159


@pytest.mark.parametrize("kind", ["max_pool", "patch"])
@pytest.mark.parametrize("conditional", [False, True])
def test_only_a_conditional_discriminator_sees_the_input(kind, conditional):
    """The same drawing of another picture is judged differently only if conditional."""
    params = {**SMALL, "discriminator": kind, "conditional": conditional}
    model = Pix2Pix((16, 16, 3), 1, params=params)
    shaken(model.discriminator)
    drawing = noise(1, 16, 16, 3)
    one, other = (model.verdicts(noise(1, 16, 16, 3, seed=s), drawing, False) for s in (1, 2))
    assert bool(np.any(one != other)) == conditional
    assert np.any(model.verdicts(drawing, 0.5 * drawing, False) != one)


def test_condition_is_enlarged():
    """At scale 2 the discriminator sees the enlarged input with a larger drawing."""
    model = Pix2Pix((16, 16, 3), 2, params={**SMALL, "conditional": True, "out_channels": 1})
    assert [x.shape[1:] for x in model.discriminator.inputs] == [(16, 16, 3), (32, 32, 1)]
    lr = noise(1, 16, 16, 3)
    assert model.verdicts(lr, model(lr), False).shape == (1, 2, 2, 1)


@NETWORKS
def test_dropout_is_for_training_only(params):
    """Half of the activations fall in training; in use nothing is drawn at random."""
    model = Generator((16, 16, 3), 1, params={**params, "dropout_rate": 0.5})
    shaken(model)
    x = noise(1, 16, 16, 3)
    first, second = (model(x, training=True).numpy() for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(model(x, training=False), model(x, training=False))
    np.testing.assert_array_equal(model.predict(x, verbose=0), model(x, training=False))


def test_dropout_is_in_three_levels():
    """Those next to the bottleneck, as in the paper; without a rate there is none."""
    params = {"filters": 1, "depth": 6}
    for kind in ("strided", "max_pool"):
        model = Generator((64, 64, 1), 1, params={**params, "generator": kind, "dropout_rate": 0.5})
        dropping = layers_of(model, keras.layers.Dropout)
        sides = [layer.output.shape[1] for layer in dropping]
        assert sides == [2, 4, 8]
    assert not layers_of(Generator(ANY, 1, params=params), keras.layers.Dropout)


def test_dropout_of_the_discriminator():
    """Behind every halving, and in training only."""
    params = {**SMALL, "d_dropout_rate": 0.5}
    for kind, count in (("max_pool", 4), ("patch", 1)):
        model = Pix2Pix((16, 16, 3), 1, params={**params, "discriminator": kind})
        assert len(layers_of(model.discriminator, keras.layers.Dropout)) == count
        assert not layers_of(model.generator, keras.layers.Dropout)


# Pictures of any size ----------------------------------------------------------------------------


@NETWORKS
def test_pictures_of_any_size(params):
    """Odd sides and a single pixel: what is drawn is that of the continued picture, cut."""
    model = shaken(Generator(ANY, 1, params=params))
    multiple = model.multiple
    for height, width in ((1, 1), (37, 51), (multiple, 3)):
        x = noise(1, height, width, 3)
        result = model(x).numpy()
        assert result.shape == x.shape
        assert np.isfinite(result).all()
        missing = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
        whole = model(np.pad(x, missing, "edge"))
        np.testing.assert_allclose(result, whole[:, :height, :width], rtol=0, atol=1e-6)


@NETWORKS
def test_a_network_of_one_size_is_the_same(params):
    """Whether the size is known when it is built or not makes no difference."""
    model = shaken(Generator((13, 16, 3), 1, params=params))
    assert model.output_shape == (None, 13, 16, 3)
    x = noise(1, 13, 16, 3)
    np.testing.assert_allclose(model.for_any_size()(x), model(x), rtol=0, atol=1e-6)


def test_nothing_is_continued_where_all_is_whole():
    """A size that is a multiple needs neither of the two layers."""
    model = Generator((16, 32, 3), 1, params={"filters": 2})
    assert not layers_of(model, (PadToMultiple, CropLike))


@pytest.mark.parametrize(
    ("params", "scale", "multiple"),
    [
        ({}, 1, 4),
        ({"depth": 3}, 1, 8),
        ({"generator": "strided"}, 1, 256),
        ({"generator": "strided", "depth": 2}, 1, 4),
        ({}, 2, 2),
        ({}, 3, 4),
        ({}, 8, 1),
    ],
)
def test_where_tiles_may_start(params, scale, multiple):
    """At multiples of the smallest features, in pixels of the input."""
    quick = {"filters": 1, "kernel_initializer": "zeros", **params}
    assert Generator(ANY, scale, params=quick).multiple == multiple


def test_padding_layer():
    """The last row and column are repeated, to the next multiple and not beyond."""
    x = noise(2, 5, 8, 3)
    layer = PadToMultiple(4)
    np.testing.assert_array_equal(layer(x), np.pad(x, [(0, 0), (0, 3), (0, 0), (0, 0)], "edge"))
    assert layer.compute_output_shape((None, 5, None, 3)) == (None, 8, None, 3)
    np.testing.assert_array_equal(CropLike()([x, np.zeros((2, 3, 1, 7))]), x[:, :3, :1])


def test_instance_normalisation_keeps_the_bottleneck():
    """A single value minus its own mean would be 0: the lowest level is unchanged."""
    params = {"generator": "strided", "filters": 4, "depth": 3, "normalization": "instance"}
    model = shaken(Generator((8, 8, 3), 1, params=params))
    lowest = layers_of(model, keras.layers.LeakyReLU)[-1].output
    assert lowest.shape[1:3] == (1, 1)
    probe = keras.Model(model.input, [lowest, model.output])
    one, other = (probe(noise(1, 8, 8, 3, seed=s)) for s in (1, 2))
    assert np.abs(one[0] - other[0]).max() > 0.01
    assert np.abs(one[1] - other[1]).max() > 0.01
    # And the drawing depends on it.
    kernel = layers_of(model, keras.layers.Conv2D)[2].kernel
    kernel.assign(-kernel)
    assert np.abs(probe(noise(1, 8, 8, 3, seed=1))[1] - one[1]).max() > 0.01


def test_activation_and_channels_of_the_result():
    """The output has the range of its activation, and its own number of channels."""
    x = 40 * noise(1, 9, 9, 3) - 20
    for activation, low in (("sigmoid", 0), ("tanh", -1)):
        params = {"filters": 2, "activation": activation, "out_channels": 5}
        result = shaken(Generator(ANY, 1, params=params))(x).numpy()
        assert result.shape == (1, 9, 9, 5)
        assert low <= result.min() < result.max() <= 1
    judge = Pix2Pix((8, 8, 3), 1, params={**SMALL, "out_channels": 1}).discriminator
    assert judge.input_shape == (None, 8, 8, 1)


# The losses --------------------------------------------------------------------------------------


def told(logits, label, adversarial):
    """Return the mean loss of verdicts against a label, in float64."""
    z = np.asarray(logits, np.float64)
    if adversarial == "lsgan":
        return np.mean((z - label) ** 2)
    p = 1 / (1 + np.exp(-z))
    return np.mean(-label * np.log(p) - (1 - label) * np.log(1 - p))


@pytest.mark.parametrize(
    ("adversarial", "kind", "conditional"),
    [("bce", "max_pool", False), ("bce", "patch", True), ("lsgan", "patch", True)],
)
def test_losses_are_those_computed_by_hand(adversarial, kind, conditional):
    """100 times the mean absolute error and once the verdict; half the discriminator's loss."""
    params = {
        **SMALL,
        "adversarial": adversarial,
        "discriminator": kind,
        "conditional": conditional,
        "loss_weights": [100, 1],
        "d_loss_weight": 0.5,
        "dropout_rate": 0.5,
        "d_dropout_rate": 0.5,
    }
    model = shaken(Pix2Pix((16, 16, 3), 1, params=params))
    model.compile("mae", "sgd", run_eagerly=True)
    x, y = noise(2, 16, 16, 3), noise(2, 16, 16, 3, seed=1)
    found = model.test_on_batch(x, y, return_dict=True)

    fake = model.generator(x, training=False).numpy()
    seen = [[x, picture] if conditional else picture for picture in (y, fake)]
    real_c, fake_c = (
        model.discriminator(s, training=False).numpy().astype(np.float64) for s in seen
    )
    assert np.abs(real_c).min() > 1e-3
    d_loss = 0.5 * (told(real_c, 1, adversarial) + told(fake_c, 0, adversarial))
    l1 = np.abs(y.astype(np.float64) - fake).mean()
    shares = [
        np.clip(c, 0, 1) if adversarial == "lsgan" else 1 / (1 + np.exp(-c))
        for c in (real_c, fake_c)
    ]
    expected = {
        "loss": l1,
        "g_loss": 100 * l1 + told(fake_c, 1, adversarial),
        "d_loss": d_loss,
        "d_real": shares[0].mean(),
        "d_fake": shares[1].mean(),
    }
    assert found == pytest.approx(expected, rel=1e-6)


def test_default_weights_of_the_losses():
    """Those of the paper, whether the settings name them or not."""
    for params in (SMALL, {**SMALL, "loss_weights": [100, 1]}):
        model = Pix2Pix((8, 8, 3), 1, params=params)
        assert model.loss_weight == [100, 1]
        assert model.d_loss_weight == 1
        assert model.params["loss_weights"] == [100, 1]
    assert Pix2Pix((8, 8, 3), 1, params={**SMALL, "d_loss_weight": 0.5}).d_loss_weight == 0.5


# Tiles and classes -------------------------------------------------------------------------------


def resolver(params, normalizer=NORM, scale=1):
    """Return a small U-Net ready for use."""
    model = shaken(Generator(ANY, scale, params=params))
    return SuperResolver([model], normalizer, {"model": "unet", "input_shape": [32, 32, 3]})


#: (84, 100) are multiples of 4, (83, 101) are not: there the last tiles are shifted inside.
@pytest.mark.parametrize("size", [(84, 100), (83, 101)], ids=["whole", "odd"])
@pytest.mark.parametrize("kind", ["max_pool", "strided"])
def test_tiles_equal_the_whole(kind, size):
    """A picture in tiles is the picture in one piece, also where halves do not come out even."""
    model = resolver({"filters": 4, "generator": kind, "depth": 2})
    tiling = model.tiling(size, tile=30, gaps=False)
    assert (tiling.tile % 4, tiling.halo % 4, tiling.blend) == (0, 0, False)
    assert len(tiling.columns()) > 2
    picture = 255 * noise(*size, 3)
    tiled, whole = model.predict(picture, tile=32), model.enhancer()(picture)
    assert np.ptp(whole) > 50
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.ptp(whole))


def test_tiles_equal_the_whole_when_turned():
    """The mean over eight copies too: mirrored, a picture begins at its other end."""
    model = resolver({"filters": 2, "depth": 1})
    picture = 255 * noise(37, 45, 3)
    tiled = model.predict(picture, tile=16, self_ensemble=True)
    whole = model.enhancer(self_ensemble=True)(picture)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.ptp(whole))


@pytest.mark.parametrize("normalizer", [NORM, SymmetricNormalizer(0, 255, 0, 255)])
def test_a_channel_for_every_class(normalizer):
    """21 channels from 3, on the scale of 0 to 255, in tiles and in the physical graph."""
    model = shaken(Generator(ANY, 1, params={"filters": 2, "out_channels": 21}))
    physical = physical_model(model, normalizer)
    assert physical.output_shape == (None, None, None, 21)
    picture = 255 * noise(1, 33, 40, 3)
    (_, _), (zero, unit) = normalizer.constants()
    expected = model(normalizer.normalize_x(picture)) * unit + zero
    np.testing.assert_allclose(physical(picture), expected, rtol=1e-5, atol=1e-3)
    whole = SuperResolver([model], normalizer, {"model": "unet", "input_shape": [32, 32, 3]})
    assert (whole.channels, whole.out_channels) == (3, 21)
    np.testing.assert_allclose(whole.predict(picture), expected, rtol=1e-5, atol=1e-3)


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params", [{"activation": "sigmoid"}, {"activation": "tanh"}, {"out_channels": 1}]
)
def test_the_input_is_added_to_its_like_alone(params):
    """A skip around an activation, or to other channels, means nothing."""
    with pytest.raises(ConfigError, match=r"bicubic_skip must be false with activation \w+ and \d"):
        Generator(ANY, 1, params={"filters": 2, **params}, bicubic_skip=True)
    with pytest.raises(ConfigError, match="bicubic_skip must be false"):
        Pix2Pix((8, 8, 3), 1, params={**SMALL, **params}, bicubic_skip=True)


def test_pictures_too_small_for_patches():
    """The message says how small they may be; one pixel more is enough."""
    params = {**SMALL, "discriminator": "patch", "d_num_layers": 2}
    message = r"at least 16 × 16 pixels .* d_num_layers 2; received 15 × 16"
    with pytest.raises(ConfigError, match=message):
        Pix2Pix((15, 16, 3), 1, params=params)
    assert Pix2Pix((16, 16, 3), 1, params=params).discriminator.output_shape == (None, 2, 2, 1)


@pytest.mark.parametrize("shape", [ANY, (16, None, 3)])
def test_a_discriminator_needs_one_size(shape):
    """The generator alone is for pictures of any size."""
    with pytest.raises(ConfigError, match=r"pictures of a fixed size; received \(\w+, None, 3\)"):
        Pix2Pix(shape, 1, params=SMALL)
    with pytest.raises(ConfigError, match="Use only the generator"):
        Discriminator(shape)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [0, 0], [1, -1], [float("nan"), 1]])
def test_wrong_loss_weights(weights):
    """Two weights of at least zero, one above."""
    with pytest.raises(ConfigError, match="loss_weights must be two numbers of at least 0"):
        Pix2Pix((8, 8, 3), 1, params={**SMALL, "loss_weights": weights})
