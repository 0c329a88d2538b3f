"""Resize, Conv2DSubPixel and Scale: numbers, shapes, XLA, configuration."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.model.layer import Conv2DSubPixel, Resize, Scale


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def rebuilt(layer):
    """Return the layer after a trip through its configuration."""
    return keras.layers.deserialize(keras.layers.serialize(layer))


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_resize_equals_tensorflow(scale, method):
    """Several channels of odd-sized images come out as tf.image.resize enlarges them."""
    x = noise(2, 6, 7, 3)
    expected = tf.image.resize(x, (6 * scale, 7 * scale), method).numpy()
    np.testing.assert_allclose(Resize(scale, method)(x), expected, rtol=0, atol=1e-5)


def test_resize_is_bicubic_by_default():
    """The manual's default method is bicubic, also as a tf.image.ResizeMethod."""
    assert Resize(2).method == tf.image.ResizeMethod.BICUBIC
    np.testing.assert_array_equal(
        Resize(2)(noise(1, 5, 5, 1)), Resize(2, "bicubic")(noise(1, 5, 5, 1))
    )


@pytest.mark.parametrize("size", [1, 2])
def test_resize_of_images_smaller_than_the_kernel(size):
    """Images of one or two pixels are enlarged as TensorFlow does it."""
    x = noise(1, size, 3, 1)
    expected = tf.image.resize(x, (size * 4, 12), "bicubic").numpy()
    np.testing.assert_allclose(Resize(4)(x), expected, atol=1e-5)


def test_resize_compiles_under_xla_with_its_gradient():
    """Value and gradient under jit_compile=True equal those of tf.image.resize without it."""
    x, weight = tf.constant(noise(2, 6, 5, 2)), tf.constant(noise(2, 18, 15, 2))
    layer = Resize(3)

    def value_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            large = function(x)
            total = tf.reduce_sum(large * weight)
        return large, tape.gradient(total, x)

    compiled = tf.function(lambda: value_and_gradient(layer), jit_compile=True)()
    expected = value_and_gradient(lambda x: tf.image.resize(x, (18, 15), "bicubic"))
    for got, wanted in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_resize_takes_any_size():
    """One graph of unknown height and width serves images of every size."""
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, Resize(2)(inputs))
    assert model.output_shape == (None, None, None, 2)
    for h, w in ((4, 9), (7, 3)):
        x = noise(1, h, w, 2)
        expected = tf.image.resize(x, (2 * h, 2 * w), "bicubic").numpy()
        np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_resize_margin_repeats_the_edge():
    """A margin adds copies of the outermost pixels on all four sides."""
    x = noise(2, 4, 5, 2)
    plain, wide = Resize(2)(x), Resize(2, margin=3)(x)
    expected = np.pad(plain, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    np.testing.assert_array_equal(wide, expected)


@pytest.mark.parametrize("margin", [0, 3])
def test_resize_announces_its_shape(margin):
    """compute_output_shape, resized_shape and the result agree; None stays None."""
    layer = Resize(3, margin=margin)
    shape = (2, 4, 5, 2)
    assert layer(noise(*shape)).shape == layer.compute_output_shape(shape)
    assert layer.resized_shape(shape) == (12 + 2 * margin, 15 + 2 * margin)
    assert layer.compute_output_shape((None, None, 5, 1)) == (None, None, 15 + 2 * margin, 1)


def test_resize_is_rebuilt_from_its_configuration():
    """Scale, method, margin and name survive."""
    layer = Resize(3, "bilinear", margin=1, name="enlarge")
    again = rebuilt(layer)
    assert (again.scale, again.method, again.margin, again.name) == (3, "bilinear", 1, "enlarge")
    x = noise(1, 4, 4, 1)
    np.testing.assert_array_equal(again(x), layer(x))


def test_resize_stays_in_float32_under_mixed_precision():
    """Depths do not survive bfloat16, so the layer computes in float32 whatever it is told."""
    layer = Resize(2, dtype="mixed_bfloat16")
    assert layer(noise(1, 4, 4, 1)).dtype == tf.float32


@pytest.mark.parametrize("layer", [Resize(2), Conv2DSubPixel(2), Scale(0.2)], ids=lambda x: x.name)
def test_layers_have_no_weights_and_are_not_trained(layer):
    """The manual's default is trainable=False."""
    layer(noise(1, 3, 3, 4))
    assert layer.weights == []
    assert layer.trainable is False


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_subpixel_equals_depth_to_space(scale):
    """The shuffle is TensorFlow's, for several channels, too."""
    x = noise(2, 3, 5, 2 * scale**2)
    result = Conv2DSubPixel(scale)(x)
    assert result.shape == (2, 3 * scale, 5 * scale, 2)
    expected = x if scale == 1 else tf.nn.depth_to_space(x, scale)
    np.testing.assert_array_equal(result, expected)
    assert Conv2DSubPixel(scale).compute_output_shape(x.shape) == result.shape


def test_subpixel_by_hand():
    """Channels 0, 1, 2, 3 become the rows (0, 1) and (2, 3)."""
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(Conv2DSubPixel(2)(x)[0, ..., 0], [[0, 1], [2, 3]])


@pytest.mark.parametrize("channels", [3, 6])
def test_subpixel_refuses_wrong_channels(channels):
    """The message says how many channels were needed and how many came."""
    with pytest.raises(ValueError, match=rf"scale 2 needs a multiple of 4.*received {channels}"):
        Conv2DSubPixel(2)(keras.Input((4, 4, channels)))


def test_subpixel_is_rebuilt_from_its_configuration():
    """The scale survives."""
    assert rebuilt(Conv2DSubPixel(3)).scale == 3


def test_subpixel_takes_unknown_sizes():
    """Unknown height and width stay unknown."""
    assert Conv2DSubPixel(2).compute_output_shape((None, None, 4, 8)) == (None, None, 8, 2)


def test_scale_multiplies():
    """The factor survives the configuration, and the precision is the input's."""
    layer = rebuilt(Scale(0.2))
    x = noise(2, 3, 4, 1)
    np.testing.assert_allclose(layer(x), 0.2 * x, rtol=1e-6)
    assert layer.compute_output_shape(x.shape) == x.shape
    assert Scale(0.2, dtype="bfloat16")(x).dtype == tf.bfloat16
