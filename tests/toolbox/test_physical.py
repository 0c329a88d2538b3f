"""A network with its normaliser inside: the same metres as the numpy path, at any size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.model.espcn import ESPCN
from toolbox.model.physical import physical_model
from toolbox.registry import NORMALIZERS
from toolbox.resample import block_mean

SCALE = 4
RANGE = (-6000.0, 0.0)
#: float32 keeps seven digits: of the whole range if the network sees depths, else of the relief.
RELATIVE = 1e-5


def depth_maps(count=3, height=12, width=9, depth=-4000.0, channels=1):
    """Return LR and HR images of rough sea floor, metres, LR by area mean."""
    rng = np.random.default_rng(count * height + width)
    row, column = np.mgrid[: height * SCALE, : width * SCALE, :channels][:2] / SCALE
    a, b = rng.uniform(0.2, 0.9, (2, count, 1, 1, 1))
    hr = depth + 60 * np.sin(a * row + b * column) + 200 * rng.normal(size=(count, 1, 1, 1))
    hr = (hr + 3 * rng.normal(size=hr.shape)).astype(np.float32)
    return block_mean(hr, SCALE), hr


def network(channels=1, **options):
    """Return a small ESPCN for images of any size, with biases that are not zero."""
    keras.utils.set_random_seed(1)
    params = {"filters": [5, 4], "kernels": [3, 3, 3]}
    net = ESPCN((None, None, channels), SCALE, params=params, bicubic_skip=True, **options)
    rng = np.random.default_rng(0)
    net.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in net.get_weights()])
    return net


def on_numpy(net, normalizer, lr):
    """Super-resolve as the evaluator does, with the normaliser outside."""
    y = np.asarray(net(normalizer.normalize_x(lr), training=False))
    return normalizer.denorm_funcs(lr, net.scale)[1](y)


def tolerance(normalizer, lr):
    """Return what may differ: of the range that passes through the network."""
    sees_depth = normalizer.name in ("minmax", "symmetric")
    return RELATIVE * (normalizer.data_range if sees_depth else np.ptp(lr))


@pytest.fixture(scope="module", params=sorted(NORMALIZERS))
def parts(request):
    """A network, every normaliser of the registry, and the two in one model."""
    normalizer = NORMALIZERS.resolve(request.param).fit(*depth_maps(), RANGE)
    net = network()
    return net, normalizer, physical_model(net, normalizer)


@pytest.mark.parametrize("depth", [-4000.0, -5.0])
@pytest.mark.parametrize("size", [(12, 9), (5, 17), (1, 2), (3, 3)])
def test_equals_the_normaliser_outside(parts, size, depth):
    """The graph gives the metres of the numpy path, deep and shallow, at any size."""
    net, normalizer, physical = parts
    lr, _ = depth_maps(2, *size, depth=depth)
    result = np.asarray(physical(lr, training=False))
    expected = on_numpy(net, normalizer, lr)
    assert result.shape == (2, size[0] * SCALE, size[1] * SCALE, 1)
    assert result.dtype == np.float32
    # Smoother than the range of one tiny image: that of the maps the normaliser was fitted on.
    allowed = max(tolerance(normalizer, lr), tolerance(normalizer, depth_maps()[0]))
    np.testing.assert_allclose(result, expected, rtol=0, atol=allowed)


def test_a_saved_model_is_the_same(parts, tmp_path):
    """Written as .keras and read in safe mode it gives the same numbers to the bit."""
    _, _, physical = parts
    lr, _ = depth_maps()
    physical.save(tmp_path / "physical.keras")
    loaded = keras.models.load_model(tmp_path / "physical.keras", compile=False)
    assert loaded.input_shape == (None, None, None, 1)
    np.testing.assert_array_equal(loaded(lr, training=False), physical(lr, training=False))


def test_xla_gives_the_same(parts):
    """Compiled by XLA it gives the eager numbers."""
    _, normalizer, physical = parts
    lr, _ = depth_maps()
    fast = tf.function(lambda x: physical(x, training=False), jit_compile=True)
    expected = physical(lr, training=False)
    allowed = tolerance(normalizer, lr)
    np.testing.assert_allclose(fast(tf.constant(lr)), expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("name", ["local_mean", "local_standard", "patch_standard"])
def test_several_channels(name):
    """Every channel has its own statistics."""
    lr, hr = depth_maps(channels=3)
    lr[..., 1] += 1000
    normalizer = NORMALIZERS.resolve(name).fit(lr, hr, RANGE)
    net = network(channels=3)
    expected = on_numpy(net, normalizer, lr)
    result = physical_model(net, normalizer)(lr, training=False)
    np.testing.assert_allclose(result, expected, rtol=0, atol=RELATIVE * np.ptp(lr))


def test_normaliser_keeps_float32_under_mixed_precision():
    """Depths do not pass through eight bits whatever the precision policy."""
    policy = keras.config.dtype_policy()
    normalizer = NORMALIZERS.resolve("local_mean").fit(*depth_maps(), RANGE)
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        physical = physical_model(network(), normalizer)
    finally:
        keras.config.set_dtype_policy(policy)
    lr, _ = depth_maps()
    assert physical.get_layer("normalize").compute_dtype == "float32"
    assert physical(lr, training=False).dtype == tf.float32
