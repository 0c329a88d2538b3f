"""Every network of the registry: size, shapes, bicubic skip, saving, one training step."""

import keras
import numpy as np
import pytest
from networks import IMAGING, small

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

#: For images of one size, which the discriminator of an adversarial model needs.
SHAPE = (6, 5, 1)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def small_model(name, img_shape=SHAPE, scale=2, **options):
    return MODELS.resolve(name)(img_shape, scale, params=small(name), **options)


def any_size(name, channels=1, scale=2, **options):
    """Return the network from LR to HR images alone, for images of any size."""
    network = small_model(name, (4, 4, channels), scale, **options).network()
    config = {**network.get_config(), "img_shape": (None, None, channels)}
    return type(network).from_config(config)


def silence(network):
    """Zero the last layer of a network."""
    last = [layer for layer in network.layers if layer.weights][-1]
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])


def compiled(name, **options):
    """Return a small model ready for `train_on_batch`.

    XLA is covered by the layers' and metrics' own tests; compiling it here takes seconds. So does
    tracing an adversarial step, which tests/toolbox/test_adversarial.py does, and tracing Adam,
    which the trainings of tests/sr_trainer do.
    """
    model = small_model(name, **options)
    model.compile(
        optimizer=keras.optimizers.SGD(1e-2),
        loss=Loss.mse,
        jit_compile=False,
        run_eagerly=isinstance(model, Adversarial),
    )
    return model


@pytest.fixture(scope="module", params=IMAGING)
def name(request):
    """Name of every network of the registry."""
    return request.param


@pytest.fixture(scope="module")
def skipping(name):
    """Each model with bicubic skip, scale 2; its weights are not changed."""
    return small_model(name, bicubic_skip=True)


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
    model = EDSR((None, None, 2), scale, params=small("edsr", upsampling=upsampling))
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


@pytest.mark.parametrize("upsampling", ["subpixel", "resize", "direct"])
def test_edsr_without_bias_is_homogeneous(upsampling):
    """Without constants, a hundred times the input gives a hundred times the result."""
    params = small("edsr", upsampling=upsampling)
    model = EDSR((None, None, 1), 2, params={**params, "use_bias": False}, bicubic_skip=True)
    assert all(w.name != "bias" for w in model.weights)
    x = noise(1, 7, 5, 1)
    np.testing.assert_allclose(model(100 * x), 100 * np.asarray(model(x)), rtol=1e-3, atol=1e-4)
    biased = EDSR((None, None, 1), 2, params=params)
    assert len(biased.weights) == 2 * len(model.weights)


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


@pytest.mark.parametrize("scale", [3, 4])  # 2 is that of the tests below
def test_output_shape(name, scale):
    """Images of any size, single pixels too, and of any channels become `scale` times as large."""
    model = any_size(name, 2, scale)
    assert model.output_shape == (None, None, None, 2)
    for height, width in ((5, 6), (1, 1)):
        result = model(noise(2, height, width, 2))
        assert result.shape == (2, height * scale, width * scale, 2)
        assert np.isfinite(result).all()


def test_fixed_size_is_announced(name):
    """A network for one image size says what comes out."""
    model = small_model(name, (4, 6, 1), 3)
    assert (model.input_shape, model.output_shape) == ((None, 4, 6, 1), (None, 12, 18, 1))
    assert (model.img_shape, model.scale, model.channels) == ((4, 6, 1), 3, 1)


def test_silent_network_with_skip_is_bicubic(name):
    """With its last layer zeroed a network with skip gives the bicubic enlargement."""
    model = small_model(name, scale=4, bicubic_skip=True)
    silence(model.network())
    x = noise(2, *SHAPE)
    np.testing.assert_allclose(model(x), enlarge(x, 4), atol=1e-5)


def test_skip_adds_bicubic_to_the_plain_network(name):
    """The same weights with skip give the plain output plus bicubic."""
    plain, with_skip = small_model(name), small_model(name, bicubic_skip=True)
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


def step(model):
    """Train on one batch of noise; return the losses."""
    return model.train_on_batch(noise(4, 6, 5, 1), noise(4, 12, 10, 1))


def moved(before, after):
    """Assert that the kernels of every layer moved and that all weights are finite."""
    assert all(np.isfinite(w).all() for w in after)
    assert all((a != b).any() for a, b in zip(after, before, strict=True) if b.ndim == 4)


@pytest.fixture(scope="module")
def trained(name):
    """Each model with bicubic skip, and what three steps with a moving average left behind.

    Tracing a step takes seconds, so there is one such training for every network.
    """
    model = compiled(name, bicubic_skip=True)
    assert model.average is None
    model.keep_average(0.15)  # at most: the first step takes 1 / 10, the second 2 / 11, then 0.15
    record = {"weights": [model.get_weights()], "losses": [], "variables": []}
    record["variables"].append([v.numpy() for v in model.network().trainable_variables])
    for _ in range(3):
        record["losses"].append(step(model))
        record["weights"].append(model.get_weights())
        record["variables"].append([v.numpy() for v in model.network().trainable_variables])
    return model, record


def test_one_training_step(trained):
    """A step on tiny data has a finite loss and moves the weights of every layer."""
    _, record = trained
    assert np.isfinite(record["losses"][0]).all()
    moved(*record["weights"][:2])


@pytest.mark.parametrize("name", ["espcn", "srgan"])
def test_one_training_step_without_skip(name):
    """The same without the bicubic skip, which adds what has no weights, for both kinds of step."""
    model = compiled(name)
    before = model.get_weights()
    assert np.isfinite(step(model)).all()
    moved(before, model.get_weights())


def test_average_follows_the_training(trained):
    """The average is the recursion computed in NumPy; exchanged twice, everything is as before."""
    model, record = trained
    variables = model.network().trainable_variables
    expected, *steps = record["variables"]
    for momentum, values in zip((0.1, 0.15, 0.15), steps, strict=True):
        expected = [
            momentum * former + (1 - momentum) * value
            for former, value in zip(expected, values, strict=True)
        ]
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


def mixed(name, skip):
    """Return a small model built under mixed_bfloat16."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return small_model(name, bicubic_skip=skip)
    finally:
        keras.config.set_dtype_policy(policy)


def check_precision(model):
    """Assert that weights and output are float32, and that something computes in bfloat16."""
    assert model(noise(1, *SHAPE)).dtype == "float32"
    assert {w.dtype for w in model.weights} == {"float32"}
    computing = [layer.compute_dtype for layer in model.network().layers if layer.weights]
    assert "bfloat16" in computing


def test_mixed_precision_keeps_the_output_in_float32(name):
    """Under mixed_bfloat16 the weights and the output are float32."""
    check_precision(mixed(name, False))


def test_mixed_precision_skip_keeps_deep_water_exact(name):
    """With skip too, and its sum is not rounded to eight bits: -4000 m stays -4000 m."""
    model = mixed(name, True)
    check_precision(model)
    silence(model.network())
    x = noise(1, *SHAPE) - 4000
    np.testing.assert_allclose(model(x), enlarge(x, 2), atol=5e-3)


@pytest.mark.parametrize("model", [SRCNN, ESPCN])
@pytest.mark.parametrize("kernels", [[5, 3], [5, 3, 3, 3]])
def test_wrong_number_of_kernels(model, kernels):
    """The message says what was needed and received, and what the extra kernel is for."""
    with pytest.raises(ConfigError, match=r"one entry more than filters \[8, 4\]; received \[5, 3"):
        model((8, 8, 1), 2, params={"filters": [8, 4], "kernels": kernels})
