"""Every network of the registry: size, shapes, bicubic skip, saving, one training step."""

import keras
import numpy as np
import pytest

from toolbox.errors import ConfigError
from toolbox.loss import Loss
from toolbox.model.adversarial import Adversarial
from toolbox.model.edsr import EDSR
from toolbox.model.espcn import ESPCN
from toolbox.model.esrgan import ESRGAN
from toolbox.model.fsrcnn import FSRCNN
from toolbox.model.srcnn import SRCNN
from toolbox.model.srgan import SRGAN
from toolbox.registry import MODELS
from toolbox.resample import enlarge

#: Settings that build in a moment and are not the defaults.
SMALL = {
    "srcnn": {"filters": [6, 4], "kernels": [5, 1, 3]},
    "fsrcnn": {"d": 6, "s": 4, "m": 2},
    "espcn": {"filters": [6, 4], "kernels": [3, 3, 3]},
    "edsr": {"filters": 4, "num_residual_blocks": 1, "residual_scale": 0.5},
    "srgan": {"filters": 4, "num_residual_blocks": 1, "d_filters": 2, "label_noise": 0.1},
    "esrgan": {
        "filters": 4,
        "num_residual_blocks": 1,
        "growth": 3,
        "d_filters": 2,
        "d_num_downsampling_blocks": 1,
    },
    "simplesrnet": {"filters": 4, "num_layers": 3},
    "edsr_light": {"filters": 4, "num_residual_blocks": 1},
    "rdn": {"filters": 4, "growth": 3, "num_dense_blocks": 2, "num_layers": 2},
    "rdn_edge": {"filters": 4, "growth": 3, "num_dense_blocks": 1, "num_layers": 2},
    "edgeformer": {"filters": 4, "num_groups": 1, "window": 4},
    "edgeformer_edsr": {
        "filters": 4,
        "num_residual_blocks": 1,
        "attention_every": 1,
        "window": 4,
    },
    "edgeformer_edsr_light": {
        "filters": 4,
        "num_residual_blocks": 2,
        "attention_every": 1,
        "window": 4,
    },
    "edgeformer_rdn": {
        "filters": 4,
        "growth": 3,
        "num_dense_blocks": 1,
        "num_layers": 1,
        "attention_every": 1,
        "window": 4,
    },
}
#: For images of one size, which the discriminator of an adversarial model needs.
SHAPE = (6, 5, 1)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def small(name, img_shape=SHAPE, scale=2, **options):
    return MODELS.resolve(name)(img_shape, scale, params=SMALL.get(name), **options)


def any_size(name, channels=1, scale=2, **options):
    """Return the network from LR to HR images alone, for images of any size."""
    network = small(name, (4, 4, channels), scale, **options).network()
    config = {**network.get_config(), "img_shape": (None, None, channels)}
    return type(network).from_config(config)


def silence(network):
    """Zero the last layer of a network."""
    last = [layer for layer in network.layers if layer.weights][-1]
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])


def compiled(name, **options):
    """Return a small model ready for `train_on_batch`.

    XLA is covered by the layers' and metrics' own tests; compiling it here takes seconds. So does
    tracing an adversarial step, which tests/toolbox/test_adversarial.py does.
    """
    model = small(name, **options)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=Loss.mse,
        jit_compile=False,
        run_eagerly=isinstance(model, Adversarial),
    )
    return model


@pytest.fixture(scope="module", params=sorted(MODELS))
def name(request):
    """Name of every network of the registry."""
    return request.param


@pytest.fixture(scope="module")
def skipping(name):
    """Each model with bicubic skip, scale 2; its weights are not changed."""
    return small(name, bicubic_skip=True)


@pytest.mark.parametrize(
    ("model", "scale", "params", "count"),
    [
        # Computed from the structures of the papers: sum of k * k * in * out + out (+ PReLU out).
        (SRCNN, 4, {"filters": [64, 32], "kernels": [9, 1, 5]}, 8_129),
        (SRCNN, 2, {"filters": [64, 32], "kernels": [9, 5, 5]}, 57_281),
        (FSRCNN, 4, {"d": 56, "s": 12, "m": 4}, 12_809),
        (ESPCN, 2, None, 21_284),
        (ESPCN, 3, None, 22_729),
        (ESPCN, 4, None, 24_752),
    ],
)
def test_number_of_parameters(model, scale, params, count):
    """The published structures have the published numbers of parameters."""
    assert model((16, 16, 1), scale, params=params).count_params() == count


@pytest.mark.parametrize(
    ("channels", "scale", "params", "count"),
    [
        # Of the authors' released baselines, which have three channels; table 1 of the paper
        # rounds them to 1.5 M and 43 M. The mean shifts that surround theirs have none to learn.
        (3, 2, {}, 1_369_859),
        (3, 3, {}, 1_554_499),
        (3, 4, {}, 1_517_571),
        (1, 4, {}, 1_515_265),
        (3, 4, {"filters": 256, "num_residual_blocks": 32, "residual_scale": 0.1}, 43_089_923),
    ],
)
def test_number_of_parameters_of_edsr(channels, scale, params, count):
    """EDSR has the numbers of parameters of Lim et al. 2017, arXiv:1707.02921."""
    quick = {**params, "kernel_initializer": "zeros"}
    assert EDSR((None, None, channels), scale, params=quick).count_params() == count


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("upsampling", ["subpixel", "resize", "direct"])
def test_upsampling_of_edsr(upsampling, scale):
    """Each way to enlarge gives images of the right size, with the channels of the input."""
    model = EDSR((None, None, 2), scale, params={**SMALL["edsr"], "upsampling": upsampling})
    assert model(noise(1, 5, 6, 2)).shape == (1, 5 * scale, 6 * scale, 2)


@pytest.mark.parametrize("residual_scale", [0.0, 0.1, 1.0])
def test_residual_scale_of_edsr(residual_scale):
    """What the second convolution of a block gives is multiplied by the residual scale."""
    params = {"filters": 4, "num_residual_blocks": 1, "residual_scale": residual_scale}
    model = EDSR(SHAPE, 2, params=params)
    plain = EDSR(SHAPE, 2, params={**params, "residual_scale": 1.0})
    weights = model.get_weights()
    # Kernel and bias of the first layer and of both convolutions of the block come first.
    plain.set_weights([*weights[:4], *(residual_scale * w for w in weights[4:6]), *weights[6:]])
    x = noise(1, *SHAPE)
    np.testing.assert_allclose(model(x), plain(x), atol=1e-5)


def test_defaults_are_the_manuals():
    """Without settings the manual's networks are built."""

    def defaults(model):
        values = {key: value.default for key, value in model.parameters().items()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    assert defaults(SRCNN) == {"filters": [32, 16], "kernels": [9, 1, 5]}
    assert defaults(FSRCNN) == {"d": 56, "s": 12, "m": 4}
    espcn = {"filters": [64, 32], "kernels": [5, 3, 3], "activation": "tanh"}
    assert defaults(ESPCN) == espcn
    srgan = {
        "filters": 32,
        "num_residual_blocks": 1,
        "d_filters": 4,
        "d_num_downsampling_blocks": 1,
        "loss_weights": [1, 1e-7],
        "label_noise": 1e-6,
        "kernel_initializer": "he_normal",
        "momentum": 0.8,
        "alpha": 0.2,
        "upsampling": "subpixel",
    }
    assert defaults(SRGAN) == srgan
    esrgan = {key: value for key, value in srgan.items() if key != "label_noise"}
    esrgan |= {"num_residual_blocks": 2, "d_num_downsampling_blocks": 2}
    assert defaults(ESRGAN) == {**esrgan, "beta": 0.2, "growth": 32, "dropout_rate": 0.4}
    # SRCNN: 81 * 32 + 32, 32 * 16 + 16, 25 * 16 + 1.
    assert SRCNN((16, 16, 1), 4).count_params() == 2624 + 528 + 401


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_output_shape(name, scale):
    """Images of any size and number of channels become `scale` times as large."""
    model = any_size(name, 2, scale)
    assert model.output_shape == (None, None, None, 2)
    assert model(noise(2, 5, 6, 2)).shape == (2, 5 * scale, 6 * scale, 2)


def test_fixed_size_is_announced(name):
    """A network for one image size says what comes out."""
    model = small(name, (4, 6, 1), 3)
    assert (model.input_shape, model.output_shape) == ((None, 4, 6, 1), (None, 12, 18, 1))
    assert (model.img_shape, model.scale, model.channels) == ((4, 6, 1), 3, 1)


def test_silent_network_with_skip_is_bicubic(name):
    """With its last layer zeroed a network with skip gives the bicubic enlargement."""
    model = small(name, scale=4, bicubic_skip=True)
    silence(model.network())
    x = noise(2, *SHAPE)
    np.testing.assert_allclose(model(x), enlarge(x, 4), atol=1e-5)


def test_skip_adds_bicubic_to_the_plain_network(name):
    """The same weights with skip give the plain output plus bicubic."""
    plain, with_skip = small(name), small(name, bicubic_skip=True)
    with_skip.set_weights(plain.get_weights())
    x = noise(1, *SHAPE)
    np.testing.assert_allclose(with_skip(x), plain(x) + enlarge(x, 2), atol=1e-5)


def test_saved_network_is_the_same(skipping, tmp_path):
    """A .keras file gives back class, settings and outputs, under safe mode."""
    skipping.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(skipping)
    assert (loaded.scale, loaded.bicubic_skip) == (2, True)
    assert loaded.params == skipping.params
    x = noise(2, *SHAPE)
    np.testing.assert_array_equal(loaded(x), skipping(x))
    for one, other in zip(loaded.get_weights(), skipping.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fresh_weights_are_new_ones_that_fit(skipping):
    """Newly drawn weights have the same shapes and other kernels; the model keeps its own."""
    before = skipping.get_weights()
    fresh = skipping.fresh_weights()
    assert [w.shape for w in fresh] == [w.shape for w in before]
    kernels = [i for i, w in enumerate(before) if w.ndim == 4]
    assert kernels
    assert all((fresh[i] != before[i]).any() for i in kernels)
    for now, then in zip(skipping.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("skip", [False, True])
def test_one_training_step(name, skip):
    """A step on tiny data has a finite loss and moves the weights of every layer."""
    model = compiled(name, bicubic_skip=skip)
    before = model.get_weights()
    losses = model.train_on_batch(noise(4, 6, 5, 1), noise(4, 12, 10, 1))
    assert np.isfinite(losses).all()
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert all((a != b).any() for a, b in zip(after, before, strict=True) if b.ndim == 4)


def test_average_follows_the_training(name):
    """The average is the recursion computed in NumPy; exchanged twice, everything is as before."""
    model = compiled(name)
    assert model.average is None
    model.keep_average(0.15)  # at most: the first step takes 1 / 10, the second 2 / 11, then 0.15
    variables = model.network().trainable_variables
    expected = [v.numpy() for v in variables]
    for momentum in (0.1, 0.15, 0.15):
        model.train_on_batch(noise(4, 6, 5, 1), noise(4, 12, 10, 1))
        values = [v.numpy() for v in variables]
        for i, value in enumerate(values):
            expected[i] = momentum * expected[i] + (1 - momentum) * value
    count, *averages = (v.numpy() for v in model.average.state)
    assert count == 3
    for found, wanted in zip(averages, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)

    for now, then in ((averages, values), (values, averages)):
        model.average.swap()
        for variable, average, one, other in zip(
            variables, model.average.state[1:], now, then, strict=True
        ):
            np.testing.assert_array_equal(variable, one)
            np.testing.assert_array_equal(average, other)


@pytest.mark.parametrize("skip", [False, True])
def test_mixed_precision_keeps_the_output_in_float32(name, skip):
    """Under mixed_bfloat16 the weights and the output are float32."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(name, bicubic_skip=skip)
    finally:
        keras.config.set_dtype_policy(policy)
    output = model(noise(1, *SHAPE))
    assert output.dtype == "float32"
    assert {w.dtype for w in model.weights} == {"float32"}
    computing = [layer.compute_dtype for layer in model.network().layers if layer.weights]
    assert "bfloat16" in computing


def test_mixed_precision_skip_keeps_deep_water_exact(name):
    """The bicubic part of the sum is not rounded to eight bits: -4000 m stays -4000 m."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(name, bicubic_skip=True)
    finally:
        keras.config.set_dtype_policy(policy)
    silence(model.network())
    x = noise(1, *SHAPE) - 4000
    np.testing.assert_allclose(model(x), enlarge(x, 2), atol=5e-3)


@pytest.mark.parametrize("model", [SRCNN, ESPCN])
@pytest.mark.parametrize("kernels", [[5, 3], [5, 3, 3, 3]])
def test_wrong_number_of_kernels(model, kernels):
    """The message says what was needed and received, and what the extra kernel is for."""
    with pytest.raises(ConfigError, match=r"one entry more than filters \[8, 4\]; received \[5, 3"):
        model((8, 8, 1), 2, params={"filters": [8, 4], "kernels": kernels})
