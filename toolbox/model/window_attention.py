"""Self-attention among the pixels of a window, for images of any size."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from toolbox.errors import ConfigError
from toolbox.model.base import Graph
from toolbox.model.layer import PACKAGE, Shape

#: Added to the scores of pixels outside the image, whose weight is then exactly zero.
_NEVER = -1e9
#: A size in pixels: a number if the graph knows it, otherwise a tensor.
Size = Any


@keras.saving.register_keras_serializable(package=PACKAGE)
class WindowAttention(layers.Layer):
    """Weighted means over the pixels of a window, one for every pixel.

    Pixels are the tokens. The windows begin `shift` pixels before the image. In consecutive layers
    the shift alternates between 0 and half a window, so that information passes between windows.
    Windows at the margin extend beyond the image; pixels outside the image have no weight. Softmax
    is computed in float32 whatever the precision policy.

    The channels of the input are queries, then keys, then values; each of the three is divided
    among the heads.

    Parameters
    ----------
    heads : int
        Number of parallel weighted means.
    window : int
        Side of a window, pixels.
    shift : int
        Pixels by which windows begin before the image, 0 to ``window - 1``.

    References
    ----------
    Liu et al. 2021, arXiv:2103.14030, section 3.2, eq. 4 with its table of relative positions.
    There the image is rolled and the scores of pixels that then meet are masked; windows that
    extend beyond the image give the same numbers.
    """

    def __init__(self, heads: int, window: int = 8, shift: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.window, self.shift = int(heads), int(window), int(shift)
        if not 0 <= self.shift < self.window:
            raise ConfigError(
                f"WindowAttention: shift must be 0 to {self.window - 1}, less than a window; "
                f"received {shift!r}. Use {self.window // 2}."
            )

    @property
    def tiles_start_at(self) -> int:
        """Tiles that start at multiples of this number have the windows of the whole image."""
        return self.window

    @property
    def values_per_pixel(self) -> int:
        """Number of scores of one pixel, the largest tensor of the layer."""
        return self.heads * self.window**2

    def build(self, input_shape: Shape) -> None:
        """Create the table of relative positions, (2 window - 1, 2 window - 1, heads)."""
        channels = input_shape[-1] or 0
        if channels % (3 * self.heads):
            raise ConfigError(
                f"WindowAttention: channels must be a multiple of 3 × {self.heads}, for queries, "
                f"keys and values of every head; received {channels}. Change heads or channels."
            )
        side = 2 * self.window - 1
        self.relative_position = self.add_weight(
            name="relative_position",
            shape=(side, side, self.heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            autocast=False,
        )
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the weighted means (N, h, w, C) of queries, keys and values (N, h, w, 3 C)."""
        height, width = _size(x, 1), _size(x, 2)
        rows, columns = self._windows(height), self._windows(width)
        query, key, value = self._by_head(self._cut(x, rows, columns))
        query *= tf.cast(query.shape[-1] ** -0.5, query.dtype)
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), "float32")
        weights = tf.nn.softmax(self._biased(scores, height, width))
        means = tf.matmul(tf.cast(weights, value.dtype), value)
        joined = self._join(tf.transpose(means, [0, 2, 1, 3]), rows, columns, x.shape[3] // 3)
        cropped = joined[:, self.shift :, self.shift :][:, :height, :width]
        return tf.ensure_shape(cropped, self.compute_output_shape(x.shape))

    def _windows(self, size: Size) -> Size:
        """Return the number of windows along a side."""
        return (size + self.shift + self.window - 1) // self.window

    def _cut(self, x: tf.Tensor, rows: Size, columns: Size) -> tf.Tensor:
        """Return (N * rows * columns, pixels of a window, channels)."""
        below = rows * self.window - self.shift - _size(x, 1)
        right = columns * self.window - self.shift - _size(x, 2)
        x = tf.pad(x, [[0, 0], [self.shift, below], [self.shift, right], [0, 0]])
        channels = x.shape[3]
        x = tf.reshape(x, [-1, self.window, columns, self.window * channels])
        return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, self.window**2, channels])

    def _join(self, x: tf.Tensor, rows: Size, columns: Size, channels: int) -> tf.Tensor:
        """Put the windows side by side again."""
        x = tf.reshape(x, [-1, columns, self.window, self.window * channels])
        x = tf.transpose(x, [0, 2, 1, 3])
        return tf.reshape(x, [-1, rows * self.window, columns * self.window, channels])

    def _by_head(self, tokens: tf.Tensor) -> list[tf.Tensor]:
        """Return queries, keys and values, each (windows, heads, pixels, channels of a head)."""
        width = tokens.shape[2] // (3 * self.heads)
        split = tf.reshape(tokens, [-1, self.window**2, 3, self.heads, width])
        return tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))

    def _biased(self, scores: tf.Tensor, height: Size, width: Size) -> tf.Tensor:
        """Add the learned bias of relative positions, and exclude pixels outside the image."""
        pixels = self.window**2
        # The gradient of this reshape makes the gradient of the gather dense.
        table = tf.reshape(self.relative_position, [-1, self.heads])
        bias = tf.gather(table, _relative_index(self.window))
        bias = tf.transpose(tf.reshape(bias, [pixels, pixels, self.heads]), [2, 0, 1])
        if self._all_inside(height) and self._all_inside(width):
            return scores + bias
        missing = tf.logical_or(
            self._missing(height)[:, None, :, None], self._missing(width)[None, :, None, :]
        )
        missing = tf.reshape(missing, [-1, 1, 1, pixels])
        bias = tf.where(missing, tf.constant(_NEVER), bias)
        windows = self._windows(height) * self._windows(width)
        shape = [-1, windows, self.heads, pixels, pixels]
        return tf.reshape(tf.reshape(scores, shape) + bias, [-1, self.heads, pixels, pixels])

    def _all_inside(self, size: Size) -> bool:
        """Whether all windows are known to be inside the image."""
        return isinstance(size, int) and not self.shift and not size % self.window

    def _missing(self, size: Size) -> tf.Tensor:
        """Return, by window and place in it, whether a row or column is outside the image."""
        place = tf.range(self._windows(size) * self.window) - self.shift
        return tf.reshape(tf.logical_or(place < 0, place >= size), [-1, self.window])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (N, h, w, C)."""
        return (*input_shape[:3], (input_shape[3] or 0) // 3)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        own = {"heads": self.heads, "window": self.window, "shift": self.shift}
        return {**super().get_config(), **own}


def window_attention(
    filters: int, heads: int, window: int, shift: int, mlp_ratio: int = 0
) -> Graph:
    """Return normalisation, `WindowAttention` and optionally two dense layers, each residual.

    Parameters
    ----------
    filters : int
        Channels of the features.
    heads, window, shift : int
        See `WindowAttention`.
    mlp_ratio : int
        Width of the two dense layers on every pixel, as a multiple of `filters`; 0 for no dense
        layers, if convolutions follow.

    Raises
    ------
    ConfigError
        If the channels cannot be divided among the heads.

    References
    ----------
    Liu et al. 2021, arXiv:2103.14030, eq. 3.
    """
    if filters % heads:
        raise ConfigError(
            f"heads must divide filters {filters}; received {heads}. "
            f"Use {max(n for n in range(1, heads) if filters % n == 0)}."
        )

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        y = layers.Conv2D(3 * filters, 1)(layers.LayerNormalization(epsilon=1e-5)(x))
        y = WindowAttention(heads, window, shift)(y)
        x = layers.Add()([x, layers.Conv2D(filters, 1)(y)])
        if not mlp_ratio:
            return x
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        # Similar to the paper's GELU, whose error function ONNX lacks.
        y = layers.Conv2D(mlp_ratio * filters, 1, activation="silu")(y)
        return layers.Add()([x, layers.Conv2D(filters, 1)(y)])

    return graph


def _size(x: tf.Tensor, axis: int) -> Size:
    return tf.shape(x)[axis] if x.shape[axis] is None else int(x.shape[axis])


def _relative_index(window: int) -> np.ndarray:
    """Return the index of the offset in the table, for every pair of pixels of a window."""
    row, column = np.divmod(np.arange(window**2), window)
    down = row[:, None] - row + window - 1
    right = column[:, None] - column + window - 1
    return (down * (2 * window - 1) + right).ravel().astype(np.int32)
