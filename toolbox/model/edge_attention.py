"""Edge attention: features are gated by the strength of the edges nearby."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from toolbox.model.base import Graph
from toolbox.model.blocks import ScaledInitializer
from toolbox.model.layer import PACKAGE, Shape

#: Derivative along x, per pixel; the weights 3, 10, 3 depend least on the direction of an edge.
_DERIVATIVE = np.outer([3, 10, 3], [-1, 0, 1]).astype(np.float32) / 32
#: Side of the window of the mean strength, pixels. On noisy lines of 16 pixels, edges exceed the
#: noise by a factor of 2.1 with 5, 3.7 with 9, and 5.4 with 13; but every block increases the
#: reach by half a window.
_WINDOW = 9
#: Keeps the slope of the root finite where there is no gradient.
_TINY = 1e-12
#: Mean strength, in units of the features, below which a region counts as free of edges.
_FLAT = 1e-3


@keras.saving.register_keras_serializable(package=PACKAGE)
class EdgeStrength(layers.Layer):
    """Gradient magnitude of every channel, divided by its local mean.

    It has no weights. The mean over all channels and 9 × 9 pixels removes contrast and gain.
    Unlike a mean over the image, it keeps tiles equal to the whole image. Images are extended by
    their edge pixels, so their margin is not an edge. The layer computes in float32 whatever the
    precision policy, because eight bits are too few for differences of similar numbers.

    Parameters
    ----------
    trainable : bool
        No effect; there are no weights.

    References
    ----------
    Scharr 2000, Optimal operators in digital image processing, doi:10.11588/heidok.00000962.
    """

    #: Number of pixels on each side of a pixel that its result depends on.
    reach = 1 + _WINDOW // 2

    def __init__(self, trainable: bool = False, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(trainable=trainable, **kwargs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the edge strength of (N, h, w, C), in the same shape, about 1 on average."""
        wide = tf.concat([x[:, :1], x, x[:, -1:]], axis=1)
        wide = tf.concat([wide[:, :, :1], wide, wide[:, :, -1:]], axis=2)
        along_x, along_y = (
            tf.nn.depthwise_conv2d(wide, self._kernel(k, x.shape[3]), [1, 1, 1, 1], "VALID")
            for k in (_DERIVATIVE, _DERIVATIVE.T)
        )
        strength = tf.sqrt(tf.square(along_x) + tf.square(along_y) + _TINY)
        channel_mean = tf.reduce_mean(strength, axis=3, keepdims=True)
        # Pixels beyond the margin are excluded from the mean. avg_pool2d is not used: without
        # oneDNN its gradient is wrong if a side is shorter than the window (TensorFlow 2.21).
        mean = _window_sum(channel_mean) / _window_sum(tf.ones_like(channel_mean[:1]))
        return strength / (mean + _FLAT)

    def _kernel(self, taps: np.ndarray, channels: int) -> np.ndarray:
        return np.tile(taps[:, :, None, None], (1, 1, channels, 1))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape


def _window_sum(x: tf.Tensor) -> tf.Tensor:
    """Sum images (N, h, w, 1) over the window, zero beyond the margin; rows, then columns."""
    for shape in ((_WINDOW, 1, 1, 1), (1, _WINDOW, 1, 1)):
        x = tf.nn.conv2d(x, tf.ones(shape, x.dtype), 1, "SAME")
    return x


def edge_attention(filters: int, kernel_size: int = 3) -> Graph:
    """Return a gate between 0 and 2 on features, computed from their edges.

    With ĝ the `EdgeStrength` of the features x, and ⊙ the elementwise product, the result is
    ``x + x ⊙ tanh(W * ĝ + b)``. As 1 + tanh z = 2 σ(2 z), this is a sigmoid gate that does not
    change the features at z = 0, near which it starts.

    Parameters
    ----------
    filters : int
        Channels of the features.
    kernel_size : int
        Side of the convolution W, pixels.
    """

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        gate = layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation="tanh",
            kernel_initializer=ScaledInitializer("glorot_uniform", 0.1),
        )(EdgeStrength()(x))
        return layers.Add()([x, layers.Multiply()([x, gate])])

    return graph
