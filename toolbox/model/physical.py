"""A network in physical units: metres in, metres out, with the normaliser in its graph."""

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
    """Applies a `toolbox.normalizer.Normalizer` as TensorFlow operations.

    It computes in float32 whatever the precision policy.

    Parameters
    ----------
    state : dict
        Name and constants of the normaliser, as in ``normalizer.json``.
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
        """Return the network's input, and the factor and summand that scale its output to metres.

        Parameters
        ----------
        lr : tf.Tensor, shape (N, h, w, C)
            LR images in physical units, without missing values.
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
    """Converts the network's output to metres: ``y * factor + summand``, in float32.

    Parameters
    ----------
    shared : bool
        Use the constants of the input's first channel for all channels of the output. This is for
        networks whose results have other channels than their inputs.
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
    """Return a network together with its normaliser.

    Parameters
    ----------
    network : SRModel
        Network from normalised LR to normalised HR images.
    normalizer : toolbox.normalizer.Normalizer
        Normaliser that the network was trained with.

    Returns
    -------
    keras.Model
        Model from (N, h, w, C) to (N, h * scale, w * scale, C) in physical units, for any size,
        without missing values.
    """
    inputs = keras.Input((None, None, network.channels), name="low_resolution")
    state = {"name": normalizer.name, **normalizer.state()}
    x, factor, summand = Normalize(state, network.scale, name="normalize")(inputs)
    shared = network.out_channels != network.channels
    outputs = Denormalize(shared, name="high_resolution")([network(x), factor, summand])
    return keras.Model(inputs, outputs, name=f"{network.name}_physical")
