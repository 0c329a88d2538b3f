"""VGG loss with random weights: hand-computed values, gradients, weights found and refused."""

import hashlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import narrow_vgg19

from toolbox.errors import ConfigError, WeightsError
from toolbox.training import perceptual
from toolbox.training.perceptual import VGG_FILE, VGG_MD5, VGGLoss, find_vgg_weights

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(0, 1, (2, 32, 40, 1)).astype(np.float32)
PREDICTED = np.clip(TRUTH + RNG.normal(0, 0.2, TRUTH.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def real_vgg():
    """Let a narrow network stand in for VGG19; return the function that makes the real one."""
    real = keras.applications.VGG19
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG19", narrow_vgg19)
        yield real


@pytest.fixture(scope="module")
def vgg():
    """A narrow VGG19 with random kernels that keep the size of the signal."""
    keras.utils.set_random_seed(0)
    model = narrow_vgg19()
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([np.sqrt(2) * kernel, bias + 0.1])
    return model


@pytest.fixture(scope="module")
def weights(vgg, tmp_path_factory):
    """Path of the weights in Keras 3's layout; afterwards neither disk nor memory is kept."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.weights.h5"
    vgg.save_weights(path)
    yield path
    path.unlink()
    perceptual._NETWORKS.clear()


@pytest.fixture(scope="module")
def old_weights(vgg, tmp_path_factory):
    """Path of the weights in the layout of Keras 2, that of the published file."""
    path = tmp_path_factory.mktemp("vgg") / VGG_FILE
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in vgg.layers]
        for layer in vgg.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{kind}:0" for kind in ("kernel", "bias")[: len(layer.weights)]]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for text, array in zip(names, layer.get_weights(), strict=True):
                group[text] = array
    yield path
    path.unlink()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Path at which Keras would cache the weights; no such file yet."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models" / VGG_FILE


def features_by_keras(vgg, images, index, before_activation=False):
    """Features of images in 0..255, by Keras's own preprocessing and layers."""
    rgb = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    bgr = keras.applications.vgg19.preprocess_input(np.array(rgb, np.float32))
    layer = vgg.layers[index]
    if not before_activation:
        return keras.Model(vgg.input, layer.output)(bgr).numpy() / 12.75
    below = keras.Model(vgg.input, vgg.layers[index - 1].output)(bgr)
    kernel, bias = layer.get_weights()
    return (tf.nn.conv2d(below, kernel, 1, "SAME").numpy() + bias) / 12.75


def value_and_gradient(loss, truth, predicted):
    predicted = tf.convert_to_tensor(predicted)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = loss(truth, predicted)
    return value, tape.gradient(value, predicted)


@pytest.mark.parametrize(
    ("index", "before_activation", "distance"),
    [(20, False, "l2"), (20, True, "l1"), (5, True, "l2"), (6, False, "l1")],
)
def test_value_by_hand(vgg, weights, index, before_activation, distance):
    """The mean difference of the features that Keras computes, one value per image."""
    one, other = (
        features_by_keras(vgg, 255 * images, index, before_activation)
        for images in (TRUTH, PREDICTED)
    )
    error = np.square(one - other) if distance == "l2" else np.abs(one - other)
    loss = VGGLoss(index, weights=weights, before_activation=before_activation, distance=distance)
    value = loss(TRUTH, PREDICTED)
    assert value.shape == (2,)
    assert value.dtype == tf.float32
    assert (value.numpy() > 1e-4).all()
    np.testing.assert_allclose(value, error.mean((1, 2, 3)), rtol=1e-3)
    assert (one < 0).any() == before_activation


def test_default_layer_is_the_manuals(weights):
    """Layer 20 is the last convolution, block5_conv4, a sixteenth of the image's size."""
    network = VGGLoss(weights=weights).network
    assert network.name == "vgg19_block5_conv4"
    assert network(np.zeros((1, 48, 64, 3), np.float32)).shape == (1, 3, 4, 32)


def test_equal_images_have_no_loss(weights):
    """Zero, with a gradient of zero, for either distance."""
    for distance in ("l2", "l1"):
        loss = VGGLoss(weights=weights, distance=distance)
        value, gradient = value_and_gradient(loss, TRUTH, TRUTH)
        np.testing.assert_array_equal(value, 0)
        np.testing.assert_array_equal(gradient, 0)


def test_gradient_reaches_the_prediction_only(weights):
    """It is finite, not zero, and None for the truth."""
    truth, predicted = tf.constant(TRUTH), tf.constant(PREDICTED)
    with tf.GradientTape() as tape:
        tape.watch([truth, predicted])
        value = VGGLoss(weights=weights)(truth, predicted)
    to_truth, to_predicted = tape.gradient(value, [truth, predicted])
    assert to_truth is None
    assert np.isfinite(to_predicted).all()
    assert (to_predicted.numpy() != 0).mean() > 0.9


def test_gradient_descent_lowers_the_loss(weights):
    """A small step against the gradient is an improvement."""
    loss = VGGLoss(weights=weights)
    value, gradient = value_and_gradient(loss, TRUTH, PREDICTED)
    step = 1e-2 * gradient / tf.reduce_max(tf.abs(gradient))
    assert (loss(TRUTH, PREDICTED - step) < value).numpy().all()


def test_network_is_frozen_and_shared(weights, monkeypatch):
    """Nothing to train, and one network per layer, activation and file."""
    monkeypatch.setattr(perceptual, "_NETWORKS", {})
    network = VGGLoss(weights=weights).network
    assert network.trainable_variables == []
    assert len(network.weights) == 32
    monkeypatch.chdir(weights.parent)
    assert VGGLoss(weights=weights.name, max_val=9, distance="l1").network is network
    before = VGGLoss(weights=str(weights), before_activation=True).network
    assert before is not network
    assert VGGLoss(weights=weights).network is network
    assert len(perceptual._NETWORKS) == 2


def test_penalty_by_hand(weights):
    """Mean and mean square of what lies outside, as a fraction of the range."""
    predicted = np.full((3, 32, 32, 1), -250.0, np.float32)
    predicted[1, :16] = 250.0  # half the image is half a range too high
    predicted[2, :, :8] = -750.0  # a quarter of it is half a range too low
    expected = np.array([0, 2 * 0.5 / 2 + 3 * 0.25 / 2, 2 * 0.5 / 4 + 3 * 0.25 / 4])
    arguments = {"max_val": 500, "min_val": -500, "weights": weights}
    loss = VGGLoss(**arguments, penalty_l1=2, penalty_l2=3)
    np.testing.assert_allclose(loss.penalty(predicted), expected, rtol=1e-6)
    without = VGGLoss(**arguments, penalty_l1=0, penalty_l2=0)
    truth = np.full_like(predicted, -250.0)
    np.testing.assert_array_equal(without.penalty(predicted), 0)
    np.testing.assert_allclose(
        loss(truth, predicted) - without(truth, predicted), expected, rtol=1e-4, atol=1e-6
    )


def test_penalty_is_for_the_prediction_alone(weights):
    """A truth out of range costs nothing by itself; the gradient draws a prediction back."""
    loss = VGGLoss(weights=weights)
    np.testing.assert_array_equal(loss.penalty(PREDICTED), 0)
    far = np.stack([PREDICTED[0] + 3, PREDICTED[1] - 3])
    with tf.GradientTape() as tape:
        tape.watch(variable := tf.constant(far))
        penalty = loss.penalty(variable)
    gradient = tape.gradient(penalty, variable).numpy()
    assert (gradient[0] > 0).all()
    assert (gradient[1] < 0).all()
    np.testing.assert_array_equal(loss.content(far, far), 0)


def test_one_channel_equals_three(weights):
    """Grey images are RGB images whose channels are equal."""
    loss = VGGLoss(weights=weights)
    three = [np.repeat(images, 3, axis=-1) for images in (TRUTH, PREDICTED)]
    np.testing.assert_allclose(loss(*three), loss(TRUTH, PREDICTED), rtol=1e-5)


def test_channels_are_red_green_blue(vgg, weights):
    """Colour images are in the order of Keras's preprocessing."""
    truth, predicted = RNG.uniform(0, 255, (2, 1, 32, 32, 3))
    one, other = (features_by_keras(vgg, images, 4) for images in (truth, predicted))
    loss = VGGLoss(4, max_val=255.0, weights=weights)
    np.testing.assert_allclose(loss(truth, predicted), [np.square(one - other).mean()], rtol=1e-4)


@pytest.mark.parametrize(("min_val", "max_val"), [(-0.5, 1.0), (-1.0, 2.0), (-2500.0, 2500.0)])
def test_the_range_is_taken_out(weights, min_val, max_val):
    """Centred images, [-1, 1] and metres give the value and, scaled, the gradient of 0..1."""
    plain = value_and_gradient(VGGLoss(weights=weights), TRUTH, PREDICTED + 0.2)
    other = value_and_gradient(
        VGGLoss(weights=weights, max_val=max_val, min_val=min_val),
        TRUTH * max_val + min_val,
        (PREDICTED + 0.2) * max_val + min_val,
    )
    np.testing.assert_allclose(other[0], plain[0], rtol=1e-3)
    scale = float(tf.reduce_max(tf.abs(plain[1])))
    np.testing.assert_allclose(max_val * other[1], plain[1], atol=1e-2 * scale)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_value_is_the_same_in_a_graph_and_under_xla(weights, jit_compile, monkeypatch):
    """Also if the network is first needed while the graph is traced, at any batch and size."""
    monkeypatch.setattr(perceptual, "_NETWORKS", {})
    loss = VGGLoss(weights=weights)
    anything = tf.TensorSpec((None, None, None, 1), tf.float32)
    compiled = tf.function(
        lambda truth, predicted: value_and_gradient(loss, truth, predicted),
        input_signature=[anything, anything],
        jit_compile=jit_compile,
    )
    got = compiled(TRUTH, PREDICTED + 0.2)
    eager = value_and_gradient(loss, TRUTH, PREDICTED + 0.2)
    np.testing.assert_allclose(got[0], eager[0], rtol=1e-3)
    scale = float(tf.reduce_max(tf.abs(eager[1])))
    np.testing.assert_allclose(got[1], eager[1], atol=1e-2 * scale)


def test_low_precision_images_are_measured_in_float32(weights, monkeypatch):
    """Under a bfloat16 policy, and with bfloat16 images, VGG computes in float32."""
    monkeypatch.setattr(perceptual, "_NETWORKS", {})
    half = tf.cast(PREDICTED, tf.bfloat16)
    rounded = tf.cast(half, tf.float32)
    expected = VGGLoss(weights=weights)(TRUTH, rounded)
    perceptual._NETWORKS.clear()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        loss = VGGLoss(weights=weights)
        value = loss(TRUTH, half)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)
    assert {layer.compute_dtype for layer in loss.network.layers} == {"float32"}
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_keras_trains_with_it(weights):
    """It is a loss for compile(), and training changes the generator, not VGG."""
    model = keras.Sequential([keras.Input((32, 40, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    loss = VGGLoss(weights=weights)
    before = [w.numpy() for w in loss.network.weights[:4]]
    model.compile(keras.optimizers.Adam(0.01), loss=loss)
    history = model.fit(PREDICTED, TRUTH, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for old, new in zip(before, loss.network.weights, strict=False):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("layout", ["weights", "old_weights"])
@pytest.mark.parametrize("name", ["any.h5", "any.weights.h5", "any"])
def test_weights_of_keras_2_and_3_under_any_name(vgg, layout, name, tmp_path, request, monkeypatch):
    """Either layout is known by its content; every weight arrives."""
    monkeypatch.setattr(perceptual, "_NETWORKS", {})
    (tmp_path / name).symlink_to(request.getfixturevalue(layout))
    network = VGGLoss(weights=tmp_path / name).network
    for one, other in zip(network.weights, vgg.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 31, 64, 1), r"at least 32 × 32 pixels; received 31 × 64\. .* mae, mse, psnr, dssim"),
        ((2, 64, 16, 2), "at least 32 × 32 pixels; received 64 × 16"),
        ((2, 32, 32, 2), "1 or 3 channels; received 2"),
        ((2, 32, 32, 4), "1 or 3 channels; received 4"),
        ((32, 32, 1), r"two batches \(N, H, W, C\) of the same shape; received \(32, 32, 1\)"),
    ],
)
def test_images_that_vgg_cannot_see(empty_cache, shape, message):
    """Size and channels are refused before any weights are looked for."""
    images = np.zeros(shape, np.float32)
    with pytest.raises(ConfigError, match=message) as caught:
        VGGLoss()(images, images)
    assert "\n" not in str(caught.value)


def test_truth_and_prediction_of_different_shapes():
    """Grey is not silently compared with colour."""
    with pytest.raises(ConfigError, match=r"received \(2, 32, 40, 1\) and \(2, 32, 40, 3\)"):
        VGGLoss()(TRUTH, np.repeat(PREDICTED, 3, axis=-1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_index": 0}, "layer of VGG19, 1 to 21; received 0"),
        ({"feature_index": 22}, "1 to 21; received 22"),
        ({"feature_index": "conv"}, "1 to 21; received 'conv'"),
        ({"feature_index": True}, "1 to 21; received True"),
        (
            {"feature_index": 21, "before_activation": True},
            r"layer 21 is a pooling layer\. Use vgg.feature_index: 20",
        ),
        ({"distance": "cos"}, "'l2' or 'l1'; received 'cos'"),
        ({"max_val": 0}, "max_val must be above 0; received 0"),
        ({"max_val": float("nan")}, "max_val must be above 0; received nan"),
        ({"penalty_l1": -1}, "vgg.penalty_l1 must be 0 or above; received -1"),
        ({"penalty_l2": float("inf")}, "vgg.penalty_l2 must be 0 or above; received inf"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    """What was received and what was expected."""
    with pytest.raises(ConfigError, match=message):
        VGGLoss(**arguments)


def test_poolings_are_where_keras_has_them(real_vgg):
    """The layers that have no activation to take away, and the last layer."""
    vgg = real_vgg(include_top=False, weights=None)
    # The network that stands in for it here is its like, but for the channels.
    layers = [[(type(x), x.name) for x in net.layers[1:]] for net in (vgg, narrow_vgg19())]
    assert layers[0] == layers[1]
    kinds = [type(layer).__name__ for layer in vgg.layers]
    assert len(kinds) - 1 == perceptual.LAST_LAYER
    found = tuple(i for i, kind in enumerate(kinds) if kind == "MaxPooling2D")
    assert found == perceptual._POOLINGS


def test_no_weights_anywhere(empty_cache):
    """One line names the file, its MD5, the two settings and the losses that need no VGG."""
    with pytest.raises(ConfigError, match="Loss vgg needs the weights") as caught:
        VGGLoss()(TRUTH, PREDICTED)
    message = str(caught.value)
    assert "\n" not in message
    for word in (VGG_FILE, VGG_MD5, str(empty_cache), "vgg.weights", "vgg.download: true"):
        assert word in message
    assert "mae, mse, psnr, dssim" in message


def test_not_required(empty_cache, capsys):
    """Without weights a line says so, once, and only the penalty is left; size still matters."""
    loss = VGGLoss(required=False)
    beyond = PREDICTED + 1
    np.testing.assert_array_equal(loss(TRUTH, beyond), loss.penalty(beyond))
    VGGLoss(required=False)(TRUTH, PREDICTED)
    assert capsys.readouterr().out.count("no perceptual loss") == 1
    with pytest.raises(ConfigError, match="at least 32 × 32"):
        loss(TRUTH[:, :16], PREDICTED[:, :16])
    with pytest.raises(WeightsError, match="is not a file"):
        VGGLoss(weights=empty_cache, required=False)(TRUTH, PREDICTED)


def test_cache_of_a_user_without_keras_home(tmp_path, monkeypatch):
    """It is ~/.keras/models."""
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(ConfigError, match="does not exist") as caught:
        find_vgg_weights()
    assert str(tmp_path / ".keras" / "models" / VGG_FILE) in str(caught.value)


def test_cached_weights_are_verified(empty_cache, monkeypatch):
    """The file in the cache is taken if its MD5 is right, and refused if it is not."""
    empty_cache.parent.mkdir(parents=True)
    empty_cache.write_bytes(b"weights")
    message = rf"damaged; expected MD5 {VGG_MD5}, received .*\. Delete"
    for download in (False, True):
        with pytest.raises(WeightsError, match=message):
            find_vgg_weights(download=download)
    monkeypatch.setattr(perceptual, "VGG_MD5", hashlib.md5(b"weights").hexdigest())
    assert find_vgg_weights() == empty_cache


def test_explicit_weights_come_first(empty_cache, weights):
    """Neither the cache nor a MD5 is asked; ~ is the user's folder."""
    assert find_vgg_weights(weights) == weights
    assert find_vgg_weights(str(weights), download=True) == weights
    with pytest.raises(WeightsError, match="is not a file") as caught:
        find_vgg_weights("~/nothing.h5")
    assert str(Path.home()) in str(caught.value)


def test_download_only_when_asked(empty_cache, monkeypatch):
    """The download goes beside and is renamed; its MD5 is left to Keras to verify."""
    asked = []

    def get_file(fname, origin, cache_subdir, file_hash):
        asked.append((origin.rsplit("/", 1)[1], file_hash))
        assert not empty_cache.exists()
        Path(cache_subdir, fname).write_bytes(b"weights")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(ConfigError, match="does not exist"):
        find_vgg_weights()
    assert asked == []
    assert find_vgg_weights(download=True) == empty_cache
    assert asked == [(VGG_FILE, VGG_MD5)]
    assert list(empty_cache.parent.iterdir()) == [empty_cache]


def test_failing_download_is_one_line(empty_cache, monkeypatch):
    """Keras's bare exception becomes a line that says what else can be done; no file is left."""

    def fail(fname, origin, cache_subdir, file_hash):
        Path(cache_subdir, fname).write_bytes(b"half")
        raise Exception(f"URL fetch failure on {origin}:\nNone -- no network")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(WeightsError, match=r"failed: URL fetch .* no network\. Copy it") as caught:
        find_vgg_weights(download=True)
    message = str(caught.value)
    assert "\n" not in message
    for word in (VGG_FILE, VGG_MD5, str(empty_cache), "vgg.weights", "mae, mse, psnr, dssim"):
        assert word in message
    assert list(empty_cache.parent.iterdir()) == []


def test_the_real_download_meets_a_dead_address(empty_cache, monkeypatch):
    """keras.utils.get_file itself, with no server there, ends in the same line."""
    monkeypatch.setattr(perceptual, "WEIGHTS_PATH_NO_TOP", "http://127.0.0.1:9/none.h5")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(WeightsError, match=r"URL fetch failure on http://127\.0\.0\.1:9"):
        find_vgg_weights(download=True)
    assert list(empty_cache.parent.iterdir()) == []


def write_other_network(path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    model.save_weights(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"not HDF5"), "not a readable HDF5 file"),
        (write_other_network, r"another architecture: layer block1_conv1 needs .*\(3, 3, 3, 4\)"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: None, "is not a file"),
    ],
    ids=["damaged", "other network", "folder", "missing"],
)
def test_explicit_weights_that_are_not_vgg(tmp_path, write, message):
    """They are refused in one line, and never replaced by random weights."""
    path = tmp_path / "some.weights.h5"
    write(path)
    with pytest.raises(WeightsError, match=message) as caught:
        VGGLoss(weights=path)(TRUTH, PREDICTED)
    text = str(caught.value)
    assert "\n" not in text
    for word in ("vgg.weights", str(path), VGG_FILE):
        assert word in text
    assert not [key for key in perceptual._NETWORKS if key[2] == path]
