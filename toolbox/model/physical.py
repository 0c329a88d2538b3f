"""A network in physical units: metres in, metres out, the normaliser inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from toolbox.model.layer import PACKAGE, Resize
from toolbox.normalizer import (
    LocalMeanNormalizer,
    LocalStandardNormalizer,
    MinMaxNormalizer,
    Normalizer,
    PatchMeanNormalizer,
    PatchStandardNormalizer,
    SymmetricNormalizer,
    normalizer_from,
)

Tensors = tuple[tf.Tensor, ...]
#: What `Normalize` has a graph for; a subclass of these may do something else.
_KNOWN = (
    MinMaxNormalizer,
    SymmetricNormalizer,
    LocalMeanNormalizer,
    LocalStandardNormalizer,
    PatchMeanNormalizer,
    PatchStandardNormalizer,
)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Normalize(keras.layers.Layer):
    """Does what a `toolbox.normalizer.Normalizer` does, as TensorFlow operations.

    Computes in float32 whatever the precision policy.

    Parameters
    ----------
    state : dict
        Name and constants of the normaliser, what ``normalizer.json`` holds.
    scale : int
        Enlargement factor.
    """

    def __init__(self, state: dict[str, Any], scale: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.state = dict(state)
        self.scale = int(scale)
        self._normalizer = normalizer_from(self.state)
        if type(self._normalizer) not in _KNOWN:
            raise TypeError(f"no graph for the normaliser {self._normalizer.name}")
        self._enlarge = Resize(self.scale)
        self._enlarge_spread = Resize(self.scale, "bilinear")

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Build the two enlargements, which have no weights."""
        for layer in (self._enlarge, self._enlarge_spread):
            layer.build(input_shape)
        super().build(input_shape)

    def call(self, lr: tf.Tensor) -> Tensors:
        """Return the network's input, and factor and summand that turn its output into metres.

        Parameters
        ----------
        lr : tf.Tensor, shape (N, h, w, C)
            Physical units, complete.
        """
        n = self._normalizer
        if isinstance(n, MinMaxNormalizer):
            (x_zero, x_unit), (y_zero, y_unit) = n.constants()
            shape = self._large(tf.shape(lr))
            return (lr - x_zero) / x_unit, tf.fill(shape, y_unit), tf.fill(shape, y_zero)
        # The mean is taken off first: 1e-7 of a depth of 4000 m would be lost in the sums.
        offset = tf.reduce_mean(lr, [1, 2], keepdims=True)
        flat = lr - offset
        centre, spread, factor = self._statistics(n, flat)
        return (flat - centre) / spread, factor, self._enlarge(centre) + offset

    def _statistics(self, n: Any, flat: tf.Tensor) -> Tensors:
        """Return local mean and spread, and the spread at high resolution."""
        large = self._large(tf.shape(flat))
        if isinstance(n, PatchMeanNormalizer):
            # What the rounded mean of great depths has left over.
            centre = tf.zeros_like(flat) + tf.reduce_mean(flat, [1, 2], keepdims=True)
            spread = tf.ones_like(flat) * n.unit
            if isinstance(n, PatchStandardNormalizer):
                deviation = tf.math.reduce_std(flat, [1, 2], keepdims=True)
                deviation = tf.maximum(deviation, 0.1 * n.unit)
                return centre, deviation, tf.broadcast_to(deviation, large)
            return centre, spread, tf.fill(large, n.unit)
        centre = _local_mean(flat, n.window)
        if isinstance(n, LocalStandardNormalizer):
            variance = _local_mean(tf.square(flat - centre), n.window)
            spread = tf.sqrt(tf.maximum(variance, (0.1 * n.unit) ** 2))
            return centre, spread, tf.maximum(self._enlarge_spread(spread), 0.01 * n.unit)
        return centre, tf.ones_like(flat) * n.unit, tf.fill(large, n.unit)

    def _large(self, shape: tf.Tensor) -> tf.Tensor:
        return shape * tf.constant([1, self.scale, self.scale, 1])

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """Return the shapes of the three results."""
        large = self._enlarge.compute_output_shape(tuple(input_shape))
        return tuple(input_shape), large, large

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "state": self.state, "scale": self.scale}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Denormalize(keras.layers.Layer):
    """Turns the network's output into metres: ``y * factor + summand``, in float32."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def call(self, parts: Tensors) -> tf.Tensor:
        """Combine (output, factor, summand), each (N, H, W, C)."""
        y, factor, summand = parts
        return y * factor + summand

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the output."""
        return input_shape[0]


def _local_mean(imgs: tf.Tensor, window: int) -> tf.Tensor:
    """Mean over a window that is cut at the margins: TensorFlow leaves padding out of the count."""
    return tf.nn.avg_pool2d(imgs, window, 1, "SAME")


def physical_model(network: keras.Model, normalizer: Normalizer) -> keras.Model:
    """Wrap a network into its normaliser.

    Parameters
    ----------
    network : SRModel
        From normalised LR to normalised HR images.
    normalizer : toolbox.normalizer.Normalizer
        The one it was trained with.

    Returns
    -------
    keras.Model
        From (N, h, w, C) to (N, h * scale, w * scale, C), physical units, any size, no missing
        values.
    """
    inputs = keras.Input((None, None, network.channels), name="low_resolution")
    state = {"name": normalizer.name, **normalizer.state()}
    x, factor, summand = Normalize(state, network.scale, name="normalize")(inputs)
    outputs = Denormalize(name="high_resolution")([network(x), factor, summand])
    return keras.Model(inputs, outputs, name=f"{network.name}_physical")
