"""Layers shared by the networks: enlargement, sub-pixel shuffle, multiplication."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from toolbox.resample import phase_taps

PACKAGE = "sr_toolbox"
Shape = tuple[int | None, ...]


def _times(size: int | None, scale: int, margin: int = 0) -> int | None:
    return None if size is None else size * scale + 2 * margin


@keras.saving.register_keras_serializable(package=PACKAGE)
class Resize(keras.layers.Layer):
    """Enlarges images by interpolation, with the same result as ``tf.image.resize``.

    Every sub-pixel phase is one small convolution, so the layer works at any image size, under XLA
    and on a GPU, for which TensorFlow has no bicubic kernel. It computes in float32 whatever the
    precision policy, because eight bits are too few for depths.

    Parameters
    ----------
    scale : int
        Enlargement factor.
    method : {'bicubic', 'bilinear', 'nearest'}
        Interpolation; ``tf.image.ResizeMethod`` is accepted too.
    trainable : bool
        No effect, as there are no weights; kept for the manual's signature.
    margin : int
        Pixels added around the enlarged image by repeating its edge.
    """

    def __init__(
        self,
        scale: int,
        method: str = tf.image.ResizeMethod.BICUBIC,
        trainable: bool = False,
        margin: int = 0,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(trainable=trainable, **kwargs)
        self.scale = int(scale)
        self.method = method
        self.margin = int(margin)
        self._taps = phase_taps(self.scale, method).astype(np.float32)

    def resized_shape(self, input_shape: Shape) -> tuple[int | None, int | None]:
        """Return (H, W) of the output for an input of (N, h, w, C)."""
        return (
            _times(input_shape[1], self.scale, self.margin),
            _times(input_shape[2], self.scale, self.margin),
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Enlarge (N, h, w, C) to (N, H, W, C)."""
        shape = tf.shape(x)
        n, h, w = shape[0], shape[1], shape[2]
        channels = x.shape[3]
        planes = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [n * channels, h, w, 1])
        taps, reach = self._taps, len(self._taps)
        kernel = np.einsum("ip,jq->ijpq", taps, taps).reshape(reach, reach, 1, -1)
        phases = tf.nn.conv2d(planes, kernel, 1, "SAME")
        large = tf.nn.depth_to_space(phases, self.scale) if self.scale > 1 else phases
        large = large / (self._weight(h)[:, None, None] * self._weight(w)[:, None])
        height, width = h * self.scale, w * self.scale
        result = tf.transpose(tf.reshape(large, [n, channels, height, width]), [0, 2, 3, 1])
        if self.margin:
            result = tf.gather(result, self._with_margin(height), axis=1)
            result = tf.gather(result, self._with_margin(width), axis=2)
        return tf.ensure_shape(result, self.compute_output_shape(x.shape))

    def _weight(self, size: tf.Tensor) -> tf.Tensor:
        """Return the sum of the weights inside, with which TensorFlow renormalises the edges."""
        inside = tf.ones(tf.stack([1, size, 1]))
        return tf.reshape(tf.nn.conv1d(inside, self._taps[:, None, :], 1, "SAME"), [-1])

    def _with_margin(self, size: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.range(-self.margin, size + self.margin), 0, size - 1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (N, H, W, C)."""
        return (input_shape[0], *self.resized_shape(input_shape), input_shape[3])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        own = {"scale": self.scale, "method": self.method, "margin": self.margin}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Conv2DSubPixel(keras.layers.Layer):
    """Rearranges r² channels into an image r times as large (sub-pixel shuffle).

    Parameters
    ----------
    scale : int
        Enlargement factor r.
    trainable : bool
        No effect; there are no weights.

    References
    ----------
    Shi et al. 2016, arXiv:1609.05158, eq. 4.
    """

    def __init__(self, scale: int, trainable: bool = False, **kwargs: Any) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.scale = int(scale)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Rearrange (N, h, w, C r²) to (N, h r, w r, C)."""
        return tf.nn.depth_to_space(x, self.scale) if self.scale > 1 else x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (N, h r, w r, C).

        Raises
        ------
        ValueError
            If the channels are not a multiple of r².
        """
        n, h, w, channels = input_shape
        if channels is None or channels % self.scale**2:
            raise ValueError(
                f"Conv2DSubPixel with scale {self.scale} needs a multiple of {self.scale**2} "
                f"channels; received {channels}."
            )
        return n, _times(h, self.scale), _times(w, self.scale), channels // self.scale**2

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Scale(keras.layers.Layer):
    """Multiplies images by a constant, e.g. the weak residual branches of ESRGAN.

    Parameters
    ----------
    factor : float
        The constant.
    trainable : bool
        No effect; there are no weights.
    """

    def __init__(self, factor: float, trainable: bool = False, **kwargs: Any) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.factor = float(factor)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return ``factor * x``."""
        return x * tf.cast(self.factor, x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToMultiple(keras.layers.Layer):
    """Extends images to a multiple of a size, by repeating their last row and column.

    Parameters
    ----------
    multiple : int
        The size, pixels.
    """

    def __init__(self, multiple: int, trainable: bool = False, **kwargs: Any) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.multiple = int(multiple)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Extend (N, h, w, C) to (N, H, W, C)."""
        shape = tf.shape(x)
        for axis in (1, 2):
            size = shape[axis]
            # Positive numbers only: ONNX rounds a negative quotient the other way.
            wanted = (size + self.multiple - 1) // self.multiple * self.multiple
            x = tf.gather(x, tf.minimum(tf.range(wanted), size - 1), axis=axis)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (N, H, W, C)."""
        n, *sides, channels = input_shape
        whole = (None if s is None else -(-s // self.multiple) * self.multiple for s in sides)
        return (n, *whole, channels)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package=PACKAGE)
class CropLike(keras.layers.Layer):
    """Crops images at the right and bottom to the size of others, whatever their precision."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})

    def call(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Crop the first of (N, H, W, C) and (N, h, w, D) to (N, h, w, C)."""
        x, like = parts
        shape = tf.shape(like)
        return x[:, : shape[1], : shape[2]]

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """Return (N, h, w, C)."""
        own, like = input_shape
        return (own[0], *like[1:3], own[3])
