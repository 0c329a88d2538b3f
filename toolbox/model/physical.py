"""A network in physical units: metres in, metres out, the normaliser inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from toolbox.model.layer import PACKAGE, Resize
from toolbox.normalizer import Normalizer, normalizer_from

Tensors = tuple[tf.Tensor, ...]


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

        def enlarge(imgs: tf.Tensor, method: str) -> tf.Tensor:
            return (self._enlarge if method == "bicubic" else self._enlarge_spread)(imgs)

        return self._normalizer.graph(lr, self.scale, enlarge)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """Return the shapes of the three results."""
        large = self._enlarge.compute_output_shape(tuple(input_shape))
        return tuple(input_shape), large, large

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "state": self.state, "scale": self.scale}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Denormalize(keras.layers.Layer):
    """Turns the network's output into metres: ``y * factor + summand``, in float32.

    Parameters
    ----------
    shared : bool
        All channels of the output have the constants of the input's first one; for a network whose
        results have other channels than its inputs.
    """

    def __init__(self, shared: bool = False, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.shared = bool(shared)

    def call(self, parts: Tensors) -> tf.Tensor:
        """Combine (output, factor, summand), each (N, H, W, C)."""
        y, factor, summand = parts
        if self.shared:
            factor, summand = factor[..., :1], summand[..., :1]
        return y * factor + summand

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the output."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "shared": self.shared}


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
    shared = network.out_channels != network.channels
    outputs = Denormalize(shared, name="high_resolution")([network(x), factor, summand])
    return keras.Model(inputs, outputs, name=f"{network.name}_physical")
