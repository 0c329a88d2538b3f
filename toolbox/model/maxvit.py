"""MaxViT, a backbone for pictures, and its weights published by timm.

Every layer has the same name as in timm (``stages.0.blocks.1.attn_grid.attn.qkv``), so a weights
file of timm states where its tensors belong.

References
----------
Tu et al. 2022, arXiv:2204.01697, section 3. The details (padding, epsilons, order of queries, keys
and values) are those of ``maxvit_*_tf_224`` in timm 1.0, which follows the paper's code,
https://github.com/google-research/maxvit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from toolbox.errors import ConfigError, WeightsError, did_you_mean
from toolbox.io.safetensors import read_safetensors
from toolbox.model.layer import PACKAGE, Shape
from toolbox.model.window_attention import WindowAttention

#: Channels inside a block, as a multiple of the channels of its result.
_EXPANSION = 4
#: Channels of squeeze-and-excitation, as a fraction of the channels of the block's result.
_SQUEEZE = 4
_BATCH_EPSILON, _LAYER_EPSILON = 1e-3, 1e-5
#: Number of names that a message lists before it counts the others.
_QUOTED = 5


@dataclass(frozen=True)
class Structure:
    """Depths and widths of a MaxViT.

    Attributes
    ----------
    stem : int
        Channels of the first two convolutions.
    depths, widths : tuple of int
        Blocks and channels of every stage; each stage halves the sides.
    window : int
        Side of the windows and of the grids, in features.
    head_width : int
        Channels of an attention head; divides every width.
    """

    stem: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    window: int = 7
    head_width: int = 32

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.widths):
            raise ConfigError(
                f"MaxViT: depths and widths need one number per stage; received {self.depths} "
                f"and {self.widths}."
            )
        if min(self.stem, *self.depths, *self.widths, self.window, self.head_width) < 1:
            raise ConfigError(f"MaxViT: every number must be 1 or above; received {self}.")
        if any(width % self.head_width for width in self.widths):
            raise ConfigError(
                f"MaxViT: widths must be multiples of head_width {self.head_width}; received "
                f"{self.widths}."
            )

    @property
    def stride(self) -> int:
        """Side of one feature in pixels of the picture."""
        return 2 ** (1 + len(self.depths))


#: Structures of timm's ``maxvit_{tiny,small,base,large}_tf_224``.
VARIANTS = {
    "tiny": Structure(64, (2, 2, 5, 2), (64, 128, 256, 512)),
    "small": Structure(64, (2, 2, 5, 2), (96, 192, 384, 768)),
    "base": Structure(64, (2, 6, 14, 2), (96, 192, 384, 768)),
    "large": Structure(128, (2, 6, 14, 2), (128, 256, 512, 1024)),
}


# Network --------------------------------------------------------------------------------------


def maxvit_backbone(variant: str | Structure, size: int = 224) -> keras.Model:
    """Build a MaxViT without a head and with random weights.

    Parameters
    ----------
    variant : {'tiny', 'small', 'base', 'large'} or Structure
        Depths and widths.
    size : int
        Side of the pictures, pixels; a multiple of 224 for the four variants.

    Returns
    -------
    keras.Model
        From pictures (N, size, size, 3), values of -1 to 1, to features
        (N, size / 32, size / 32, width) of the last stage.

    Raises
    ------
    ConfigError
        If the variant is unknown or does not match the size.
    """
    structure = _structure(variant, size)
    pictures = keras.Input((size, size, 3), name="pictures")
    return keras.Model(pictures, _features(pictures, structure), name=_name(variant, "backbone"))


def maxvit_classifier(variant: str | Structure, num_classes: int, size: int = 224) -> keras.Model:
    """Build a MaxViT with the head of timm and with random weights.

    Parameters
    ----------
    variant, size
        As in `maxvit_backbone`.
    num_classes : int
        Number of logits: 1000, or 21843 for the weights named ``in21k``.

    Returns
    -------
    keras.Model
        From pictures (N, size, size, 3), values of -1 to 1, to logits (N, num_classes), float32.

    Raises
    ------
    ConfigError
        As in `maxvit_backbone`, or if `num_classes` is below 1.
    """
    structure = _structure(variant, size)
    if num_classes < 1:
        raise ConfigError(f"num_classes must be 1 or above; received {num_classes}.")
    pictures = keras.Input((size, size, 3), name="pictures")
    x = layers.GlobalAveragePooling2D(name="head.pool")(_features(pictures, structure))
    x = _layer_norm("head.norm")(x)
    x = layers.Dense(structure.widths[-1], "tanh", name="head.pre_logits.fc")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="head.fc")(x)
    return keras.Model(pictures, logits, name=_name(variant, "classifier"))


def _structure(variant: str | Structure, size: int) -> Structure:
    if isinstance(variant, str):
        if variant not in VARIANTS:
            raise ConfigError(
                f"MaxViT: variant must be one of {', '.join(VARIANTS)}; received {variant!r}. "
                f"{did_you_mean(variant, VARIANTS)}"
            )
        variant = VARIANTS[variant]
    step = variant.stride * variant.window
    if size < 1 or size % step:
        nearest = max(step, round(size / step) * step)
        raise ConfigError(
            f"MaxViT: size must be a multiple of {step}, which windows of {variant.window} × "
            f"{variant.window} features divide in every stage; received {size}. Use {nearest}."
        )
    return variant


def _name(variant: str | Structure, kind: str) -> str:
    return f"maxvit_{variant if isinstance(variant, str) else 'custom'}_{kind}"


def _features(x: keras.KerasTensor, structure: Structure) -> keras.KerasTensor:
    x = _conv(structure.stem, 3, "stem.conv1", strides=2)(x)
    x = _normalised(x, "stem.norm1")
    x = _conv(structure.stem, 3, "stem.conv2")(x)
    for stage, (depth, width) in enumerate(zip(structure.depths, structure.widths, strict=True)):
        for number in range(depth):
            name = f"stages.{stage}.blocks.{number}"
            x = _mbconv(x, width, 1 if number else 2, f"{name}.conv")
            x = _attention(x, structure, f"{name}.attn_block", along_grid=False)
            x = _attention(x, structure, f"{name}.attn_grid", along_grid=True)
    return x


def _mbconv(x: keras.KerasTensor, width: int, strides: int, name: str) -> keras.KerasTensor:
    """Apply the inverted bottleneck with squeeze-and-excitation."""
    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}.shortcut.pool")(x)
        if x.shape[-1] != width:
            shortcut = _conv(width, 1, f"{name}.shortcut.expand")(shortcut)
    inner = _EXPANSION * width
    y = _batch_norm(f"{name}.pre_norm")(x)
    y = _conv(inner, 1, f"{name}.conv1_1x1", use_bias=False)(y)
    y = _normalised(y, f"{name}.norm1")
    y = layers.DepthwiseConv2D(
        3,
        strides,
        "same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}.conv2_kxk",
    )(y)
    y = _normalised(y, f"{name}.norm2")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.se.pool")(y)
    gate = _conv(width // _SQUEEZE, 1, f"{name}.se.fc1", activation="silu")(gate)
    gate = _conv(inner, 1, f"{name}.se.fc2", activation="sigmoid")(gate)
    y = layers.Multiply(name=f"{name}.se")([y, gate])
    y = _conv(width, 1, f"{name}.conv3_1x1")(y)
    return layers.Add(name=name)([y, shortcut])


def _attention(
    x: keras.KerasTensor, structure: Structure, name: str, along_grid: bool
) -> keras.KerasTensor:
    """Apply attention within windows, or over a grid, and two dense layers."""
    width, window = x.shape[-1], structure.window
    y = _layer_norm(f"{name}.norm1")(x)
    if along_grid:
        y = Interleave(window, name=f"{name}.to_windows")(y)
    y = layers.Dense(3 * width, name=f"{name}.attn.qkv")(y)
    heads = width // structure.head_width
    y = WindowAttention(heads, window, name=f"{name}.attn.rel_pos")(y)
    y = layers.Dense(width, name=f"{name}.attn.proj")(y)
    if along_grid:
        y = Interleave(x.shape[1] // window, name=f"{name}.to_grid")(y)
    x = layers.Add(name=f"{name}.attn")([x, y])
    y = _layer_norm(f"{name}.norm2")(x)
    y = layers.Dense(_EXPANSION * width, gelu_tanh, name=f"{name}.mlp.fc1")(y)
    y = layers.Dense(width, name=f"{name}.mlp.fc2")(y)
    return layers.Add(name=name)([x, y])


def _conv(filters: int, size: int, name: str, **options: Any) -> layers.Layer:
    options = {"padding": "same", "kernel_initializer": _initializer(), **options}
    return layers.Conv2D(filters, size, name=name, **options)


def _initializer() -> keras.initializers.Initializer:
    """Return a new initializer on every call; a shared one would repeat its numbers."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.Activation(gelu_tanh, name=f"{name}.act")(_batch_norm(name)(x))


def _batch_norm(name: str) -> layers.Layer:
    return layers.BatchNormalization(epsilon=_BATCH_EPSILON, name=name)


def _layer_norm(name: str) -> layers.Layer:
    return layers.LayerNormalization(epsilon=_LAYER_EPSILON, name=name)


@keras.saving.register_keras_serializable(package=PACKAGE)
def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """Return the GELU, approximated by a hyperbolic tangent."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Interleave(layers.Layer):
    """Splits both sides of images into equal runs and takes one row or column of each in turn.

    ``Interleave(7)`` gathers the pixels of a 7 × 7 grid over the image into windows of 7 × 7.
    Attention within windows is then the paper's grid attention. On (N, H, H, C),
    ``Interleave(H // 7)`` reverses it.

    Parameters
    ----------
    parts : int
        Number of runs along a side; divides the height and the width.
    """

    def __init__(self, parts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = int(parts)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Rearrange (N, H, W, C)."""
        _, height, width, channels = x.shape
        parts = self.parts
        runs = tf.reshape(x, [-1, parts, height // parts, parts, width // parts, channels])
        in_turn = tf.transpose(runs, [0, 2, 1, 4, 3, 5])
        return tf.reshape(in_turn, [-1, height, width, channels])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "parts": self.parts}


# Weights of timm ------------------------------------------------------------------------------

#: Names of the weights of a layer in timm.
_TIMM_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "relative_position": "relative_position_bias_table",
}
#: Order of the axes of timm's tensors; kernels are (out, in, h, w) or (out, in) there.
_AXES: dict[tuple[type, str], tuple[int, ...]] = {
    (layers.Conv2D, "kernel"): (2, 3, 1, 0),
    (layers.DepthwiseConv2D, "kernel"): (2, 3, 0, 1),
    (layers.Dense, "kernel"): (1, 0),
    (WindowAttention, "relative_position"): (1, 2, 0),
}


class _Slot(NamedTuple):
    """A weight of a model, and its conversion from a tensor of timm."""

    variable: keras.Variable
    axes: tuple[int, ...]

    @property
    def timm_shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape[place] for place in np.argsort(self.axes))

    def converted(self, tensor: np.ndarray) -> np.ndarray:
        array = tensor.transpose(self.axes).astype(np.float32)
        if self.variable.name == "relative_position":
            # timm counts offsets from query to key, WindowAttention from key to query.
            array = array[::-1, ::-1]
        return array


def load_timm(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Load the weights that timm publishes for ``maxvit_*_tf_224`` into a model.

    Either all weights of the model are set or none. Counters of batch normalisation are ignored,
    as is the head if the model is a backbone. Files for other sizes have other windows:
    ``maxvit_*_tf_384`` needs a `Structure` with ``window=12``.

    Parameters
    ----------
    model : keras.Model
        Model from `maxvit_backbone` or `maxvit_classifier`.
    path : path-like
        ``.safetensors`` file of timm, float16 or float32.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    WeightsError
        If a tensor is missing, unknown, of another shape or not finite; the message names it.
    """
    slots = dict(_slots(model))
    tensors = {
        name: tensor
        for name, tensor in read_safetensors(path).items()
        if not name.endswith(".num_batches_tracked")
    }
    if not any(name.startswith("head.") for name in slots):
        tensors = {name: t for name, t in tensors.items() if not name.startswith("head.")}
    _check_tensors(slots, tensors, f"{path}: not the weights of {model.name}")
    for name, slot in slots.items():
        slot.variable.assign(slot.converted(tensors[name]))


def _slots(model: keras.Model) -> Iterator[tuple[str, _Slot]]:
    """Yield the weights of a model with their names in timm."""
    for layer in model.layers:
        for variable in layer.weights:
            axes = _AXES.get((type(layer), variable.name), tuple(range(len(variable.shape))))
            yield f"{layer.name}.{_TIMM_NAMES[variable.name]}", _Slot(variable, axes)


def _check_tensors(
    slots: Mapping[str, _Slot], tensors: Mapping[str, np.ndarray], wrong: str
) -> None:
    """Check that a file holds exactly the tensors that the model needs."""
    missing = [name for name in slots if name not in tensors]
    foreign = [name for name in tensors if name not in slots]
    faults = [f"lacks {_quoted(missing)}"] if missing else []
    if foreign:
        faults.append(f"holds {_quoted(foreign)}, which the model does not have")
    if faults:
        raise WeightsError(
            f"{wrong}: it {' and '.join(faults)}. Use the file of the same variant of timm's "
            f"maxvit_*_tf."
        )
    other = [
        f"{name} must be {slot.timm_shape}, received {tensors[name].shape}"
        for name, slot in slots.items()
        if tensors[name].shape != slot.timm_shape
    ]
    if other:
        raise WeightsError(
            f"{wrong}: {_quoted(other, '; ')}. Build the model with the variant, num_classes and "
            f"window of the file."
        )
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise WeightsError(
            f"{wrong}: expected finite numbers, float16 or float32; received others in "
            f"{_quoted(bad)}. Download the file again."
        )


def _is_finite(tensor: np.ndarray) -> bool:
    return tensor.dtype.kind == "f" and bool(np.isfinite(tensor).all())


def _quoted(names: Sequence[str], separator: str = ", ") -> str:
    """List some names and count the others."""
    rest = len(names) - _QUOTED
    return separator.join(names[:_QUOTED]) + (f" and {rest} more" if rest > 0 else "")
