"""Networks under the key names of published PyTorch networks, in both directions.

Two networks have a published counterpart with the same layers:

- The generator of ESRGAN, RRDBNet (Wang et al. 2018, arXiv:1809.00219). It is written with the
  names of BasicSR and Real-ESRGAN (``conv_first``, ``body.0.rdb1.conv1``, ..., ``conv_last``),
  which spandrel and the programs built on it read; BasicSR itself supports only ×4. It is read
  with these names, with those of the ESRGAN repository (``RRDB_trunk.0.RDB1.conv1``) and with the
  oldest (``model.1.sub.0.RDB1.conv1.0``). The ×1 and ×2 networks of Real-ESRGAN are refused: they
  begin with a pixel-unshuffle, which does not exist here.
- The generator of SRGAN, SRResNet with batch normalisation (Ledig et al. 2017, arXiv:1609.04802).
  spandrel has no such network, and there are no common names. The names are those of
  https://github.com/Lornatang/SRGAN-PyTorch, whose network also has a linear output
  (``conv1.0``, ``trunk.0.rcb.0``, ``upsampling.0.upsample_block.0``, ``conv3``).

Kernels (h, w, in, out) become (out, in, h, w). ``PixelShuffle`` expects the sub-pixels of a channel
side by side; `Conv2DSubPixel` expects the channels of a sub-pixel side by side.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from toolbox.errors import ConfigError, DataError
from toolbox.model import esrgan, srgan
from toolbox.model.blocks import prime_factors

State = dict[str, np.ndarray]
Shape = tuple[int, ...]
#: Added to a variance before taking its root, in batch normalisation of Keras and of PyTorch.
_KERAS_EPSILON, _TORCH_EPSILON = 1e-3, 1e-5


class Published(NamedTuple):
    """A network that was read from a state dict.

    Attributes
    ----------
    model : {'esrgan', 'srgan'}
        Row of `toolbox.registry.MODELS`.
    params : dict
        Settings of the generator.
    scale, channels : int
        Enlargement factor and number of image channels.
    weights : list of numpy.ndarray
        Arguments of ``set_weights`` of the generator, float32.
    """

    model: str
    params: dict[str, Any]
    scale: int
    channels: int
    weights: list[np.ndarray]


# Layers ---------------------------------------------------------------------------------------


class _Taker:
    """Returns the tensors of a state dict, each once, after checking their shape."""

    def __init__(self, state: Mapping[str, np.ndarray], where: str) -> None:
        self.left = dict(state)
        self.where = where

    def take(self, key: str, *shapes: Shape) -> np.ndarray:
        array = self.left.pop(key, None)
        if array is None:
            raise DataError(f"{self.where}: lacks {key}. The file is incomplete.")
        if array.shape not in shapes:
            raise DataError(
                f"{self.where}: {key} must have the shape {shapes[0]}; received {array.shape}. It "
                f"belongs to another network."
            )
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise DataError(
                f"{self.where}: {key} must be float16, bfloat16, float32 or float64; received "
                f"{array.dtype}. Convert the tensor to one of these types."
            )
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"{self.where}: {key} must be finite; received NaN or infinity.")
        return array

    def refuse_rest(self) -> None:
        if self.left:
            raise DataError(
                f"{self.where}: holds tensors that the network does not have ({len(self.left)}, "
                f"e.g. {next(iter(self.left))}). The file belongs to another network."
            )


@dataclass(frozen=True)
class _Layer(ABC):
    """A layer with weights: its number of arrays in Keras, and both conversions."""

    name: str

    count = 2

    @abstractmethod
    def pack(self, arrays: Sequence[np.ndarray]) -> State:
        """Convert the arrays of Keras to tensors of PyTorch."""

    @abstractmethod
    def unpack(self, state: _Taker) -> list[np.ndarray]:
        """Convert the tensors of PyTorch to arrays of Keras."""


@dataclass(frozen=True)
class _Conv(_Layer):
    """A convolution with a bias; `shape` is that of PyTorch, (out, in, h, w)."""

    shape: Shape

    def pack(self, arrays: Sequence[np.ndarray]) -> State:
        kernel, bias = arrays
        return {f"{self.name}.weight": kernel.transpose(3, 2, 0, 1), f"{self.name}.bias": bias}

    def unpack(self, state: _Taker) -> list[np.ndarray]:
        kernel = state.take(f"{self.name}.weight", self.shape)
        return [kernel.transpose(2, 3, 1, 0), state.take(f"{self.name}.bias", self.shape[:1])]


@dataclass(frozen=True)
class _SubPixelConv(_Conv):
    """A convolution before a sub-pixel shuffle by `factor`."""

    factor: int

    def pack(self, arrays: Sequence[np.ndarray]) -> State:
        places = self.factor**2
        return {
            key: np.swapaxes(array.reshape(places, -1, *array.shape[1:]), 0, 1).reshape(array.shape)
            for key, array in super().pack(arrays).items()
        }

    def unpack(self, state: _Taker) -> list[np.ndarray]:
        places = self.factor**2
        # The channels are the last axis, in the kernel and in the bias.
        return [
            np.swapaxes(array.reshape(*array.shape[:-1], -1, places), -1, -2).reshape(array.shape)
            for array in super().unpack(state)
        ]


@dataclass(frozen=True)
class _Slopes(_Layer):
    """A PReLU: by default it has one slope in PyTorch, and here one per channel.

    One slope is written if all channels have the same.
    """

    filters: int

    count = 1

    def pack(self, arrays: Sequence[np.ndarray]) -> State:
        slopes = arrays[0].reshape(-1)
        return {f"{self.name}.weight": slopes[:1] if (slopes == slopes[0]).all() else slopes}

    def unpack(self, state: _Taker) -> list[np.ndarray]:
        slopes = state.take(f"{self.name}.weight", (1,), (self.filters,))
        return [np.broadcast_to(slopes, (1, 1, self.filters))]


@dataclass(frozen=True)
class _NormalizedConv(_Layer):
    """A convolution, without a bias in PyTorch, and batch normalisation.

    The bias is included in the mean, and the other epsilon in the variance, both to rounding.
    """

    norm: str
    filters: int

    count = 6

    def pack(self, arrays: Sequence[np.ndarray]) -> State:
        kernel, bias, gamma, beta, mean, variance = arrays
        more = variance.astype(np.float64) + (_KERAS_EPSILON - _TORCH_EPSILON)
        return {
            f"{self.name}.weight": kernel.transpose(3, 2, 0, 1),
            f"{self.norm}.weight": gamma,
            f"{self.norm}.bias": beta,
            f"{self.norm}.running_mean": mean - bias,
            f"{self.norm}.running_var": more.astype(np.float32),
        }

    def unpack(self, state: _Taker) -> list[np.ndarray]:
        shape = (self.filters,)
        kernel = state.take(f"{self.name}.weight", (self.filters, self.filters, 3, 3))
        gamma, beta, mean, variance = (
            state.take(f"{self.norm}.{key}", shape)
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        less = variance.astype(np.float64) - (_KERAS_EPSILON - _TORCH_EPSILON)
        bias = np.zeros(shape, np.float32)
        return [kernel.transpose(2, 3, 1, 0), bias, gamma, beta, mean, less.astype(np.float32)]


# Networks -------------------------------------------------------------------------------------


def _rrdbnet(params: Mapping[str, Any], scale: int, channels: int) -> list[_Layer]:
    """Return the layers of ESRGAN's generator, in the order of its weights in Keras."""
    filters, growth = params["filters"], params["growth"]

    def conv(name: str, count_in: int = filters, count_out: int = filters) -> _Layer:
        return _Conv(name, (count_out, count_in, 3, 3))

    dense = [
        conv(
            f"body.{block}.rdb{number}.conv{place + 1}",
            filters + place * growth,
            growth if place < 4 else filters,
        )
        for block in range(params["num_residual_blocks"])
        for number in (1, 2, 3)
        for place in range(5)
    ]
    ups = [conv(f"conv_up{number + 1}") for number in range(len(prime_factors(scale)))]
    ends = [conv("conv_hr"), conv("conv_last", count_out=channels)]
    return [conv("conv_first", count_in=channels), *dense, conv("conv_body"), *ups, *ends]


def _srresnet(params: Mapping[str, Any], scale: int, channels: int) -> list[_Layer]:
    """Return the layers of SRGAN's generator, in the order of its weights in Keras."""
    filters = params["filters"]
    first = _Conv("conv1.0", (filters, channels, 9, 9))
    layers: list[_Layer] = [first, _Slopes("conv1.1", filters)]
    for block in range(params["num_residual_blocks"]):
        name = f"trunk.{block}.rcb"
        layers += [
            _NormalizedConv(f"{name}.0", f"{name}.1", filters),
            _Slopes(f"{name}.2", filters),
            _NormalizedConv(f"{name}.3", f"{name}.4", filters),
        ]
    layers.append(_NormalizedConv("conv2.0", "conv2.1", filters))
    for number, factor in enumerate(prime_factors(scale)):
        name, shape = f"upsampling.{number}.upsample_block", (filters * factor**2, filters, 3, 3)
        layers += [_SubPixelConv(f"{name}.0", shape, factor), _Slopes(f"{name}.2", filters)]
    return [*layers, _Conv("conv3", (channels, filters, 9, 9))]


def _read_rrdbnet(state: State, where: str) -> tuple[dict[str, Any], int, int]:
    """Return settings, scale and channels of ESRGAN's generator."""
    filters, channels = _kernel_shape(state, "conv_first.weight", where)
    last = _kernel_shape(state, "conv_last.weight", where)[0]
    if channels in (4 * last, 16 * last):
        raise DataError(
            f"{where}: begins with a pixel-unshuffle, like the ×2 and ×1 networks of Real-ESRGAN; "
            f"esrgan has none. Use a ×4 network."
        )
    _check_channels(channels, last, where)
    params = {
        **_RRDBNET.required,
        "filters": filters,
        "num_residual_blocks": _count(state, r"body\.(\d+)\."),
        "growth": _kernel_shape(state, "body.0.rdb1.conv1.weight", where)[0],
    }
    return params, 2 ** _count(state, r"conv_up(\d+)\."), channels


def _read_srresnet(state: State, where: str) -> tuple[dict[str, Any], int, int]:
    """Return settings, scale and channels of SRGAN's generator."""
    filters, channels = _kernel_shape(state, "conv1.0.weight", where)
    _check_channels(channels, _kernel_shape(state, "conv3.weight", where)[0], where)
    params = {
        **_SRRESNET.required,
        "filters": filters,
        "num_residual_blocks": _count(state, r"trunk\.(\d+)\."),
    }
    scale = 1
    for number in range(_count(state, r"upsampling\.(\d+)\.")):
        key = f"upsampling.{number}.upsample_block.0.weight"
        scale *= math.isqrt(_kernel_shape(state, key, where)[0] // filters)
    return params, scale, channels


def _kernel_shape(state: State, key: str, where: str) -> tuple[int, int]:
    """Return the channels of a kernel, out and in."""
    shape = state[key].shape if key in state else ()
    if len(shape) != 4 or 0 in shape:
        raise DataError(f"{where}: {key} must be a kernel with four dimensions; received {shape}.")
    return shape[0], shape[1]


def _check_channels(first: int, last: int, where: str) -> None:
    if first != last:
        raise DataError(
            f"{where}: the result must have as many channels as the image; received {last} and "
            f"{first}."
        )


def _count(state: State, pattern: str) -> int:
    """Count the different numbers that names have at a place."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


@dataclass(frozen=True)
class _Family:
    """A published network and its counterpart in this package."""

    model: str
    title: str
    twin: type[keras.Model]
    #: Required settings of the counterpart.
    required: dict[str, Any]
    scales: tuple[int, ...]
    layers: Callable[[Mapping[str, Any], int, int], list[_Layer]]
    #: Returns settings, scale and channels of a state dict.
    read: Callable[[State, str], tuple[dict[str, Any], int, int]]
    #: Names that identify a state dict.
    marks: tuple[str, ...]


_RRDBNET = _Family(
    "esrgan",
    "RRDBNet",
    esrgan.Generator,
    # spandrel assumes this growth.
    {"upsampling": "resize", "alpha": 0.2, "beta": 0.2, "growth": 32},
    (1, 2, 4, 8, 16),
    _rrdbnet,
    _read_rrdbnet,
    ("conv_first.weight", "body.0.rdb1.conv1.weight"),
)
_SRRESNET = _Family(
    "srgan",
    "SRResNet",
    srgan.Generator,
    {"upsampling": "subpixel"},
    (2, 3, 4, 8),
    _srresnet,
    _read_srresnet,
    ("conv1.0.weight", "trunk.0.rcb.0.weight"),
)
_FAMILIES = (_RRDBNET, _SRRESNET)


# Both directions ------------------------------------------------------------------------------


def published_title(network: keras.Model) -> str:
    """Return the name of the published network whose layers a network has.

    Parameters
    ----------
    network : SRModel
        Generator of ESRGAN or SRGAN.

    Raises
    ------
    ConfigError
        If there is no such network, or a setting differs; the message names the setting.
    """
    return _family_of(network).title


def to_state_dict(network: keras.Model) -> State:
    """Return the weights of a network under the names of its published counterpart.

    Parameters
    ----------
    network : SRModel
        Generator of ESRGAN or SRGAN.

    Returns
    -------
    dict of str to numpy.ndarray
        Tensors by name; kernels are (out, in, h, w).

    Raises
    ------
    ConfigError
        As `published_title`.
    """
    family = _family_of(network)
    arrays, state = network.get_weights(), State()
    for layer in family.layers(_params_of(network), network.scale, network.channels):
        state |= layer.pack(arrays[: layer.count])
        del arrays[: layer.count]
    return state


def _family_of(network: Any) -> _Family:
    for family in _FAMILIES:
        if type(network) is family.twin:
            _check_structure(family, network)
            return family
    known = " and ".join(family.model for family in _FAMILIES)
    raise ConfigError(
        f"model must have the layers of a published network, {known}; received "
        f"{type(network).__name__}. Use another format, e.g. onnx."
    )


def _params_of(network: Any) -> dict[str, Any]:
    """Return the settings of a network, including defaults."""
    defaults = {name: p.default for name, p in network.parameters().items()}
    return {**defaults, **network.params}


def _check_structure(family: _Family, network: Any) -> None:
    """Check that a network has the structure of the published one."""
    params = _params_of(network)
    pairs = [
        (f"{family.model}.{key}", value, params[key]) for key, value in family.required.items()
    ]
    for name, expected, received in [*pairs, ("bicubic_skip", False, network.bicubic_skip)]:
        if received != expected:
            raise ConfigError(
                f"{name} must be {expected} as in the published {family.title}; received "
                f"{received}. Train with {expected}, or use another format, e.g. onnx."
            )
    if network.scale not in family.scales:
        raise ConfigError(
            f"scale must be one of {', '.join(map(str, family.scales))} as in the published "
            f"{family.title}; received {network.scale}. Use another format, e.g. onnx."
        )


def from_state_dict(state: Mapping[str, np.ndarray], where: str = "state dict") -> Published:
    """Return the network of a state dict, with its weights.

    Parameters
    ----------
    state : mapping of str to numpy.ndarray
        Tensors by name, e.g. from `toolbox.io.torch_file.read_torch_file`. A prefix ``module.`` and
        counters of batch normalisation are ignored.
    where : str
        File name for messages.

    Returns
    -------
    Published

    Raises
    ------
    DataError
        If it is not one of the known networks, or if a tensor is missing, unknown, of another
        shape or not finite.
    """
    named = _canonical(state, where)
    family = next((f for f in _FAMILIES if all(mark in named for mark in f.marks)), None)
    if family is None:
        raise DataError(
            f"{where}: expected RRDBNet (ESRGAN) or SRResNet (SRGAN); received tensors named "
            f"{', '.join(list(state)[:3])}, ... Only these two can be imported."
        )
    params, scale, channels = family.read(named, where)
    if scale not in family.scales:
        raise DataError(
            f"{where}: the scale must be one of {', '.join(map(str, family.scales))}; received "
            f"{scale}."
        )
    taker = _Taker(named, where)
    layers = family.layers(params, scale, channels)
    weights = [array for layer in layers for array in layer.unpack(taker)]
    taker.refuse_rest()
    return Published(family.model, params, scale, channels, weights)


def as_grey(network: Published) -> Published:
    """Convert a network for several channels to one for a single channel.

    To rounding, its result is the mean over the channels of the original result for an image with
    equal channels: the first kernel is summed over its inputs, and the last kernel and bias are
    averaged over their outputs.

    Parameters
    ----------
    network : Published
        Network from `from_state_dict`.

    Returns
    -------
    Published
        Network with ``channels`` 1.
    """
    first, *middle, kernel, bias = (array.astype(np.float64) for array in network.weights)
    ends = (
        first.sum(axis=2, keepdims=True),
        kernel.mean(axis=3, keepdims=True),
        bias.mean(keepdims=True),
    )
    weights = [ends[0], *middle, *ends[1:]]
    return network._replace(channels=1, weights=[array.astype(np.float32) for array in weights])


# Names ----------------------------------------------------------------------------------------

#: Older names of RRDBNet, and the names of BasicSR that replace them.
_RENAMED = (
    (r"module\.", ""),
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d+)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
    (r"model\.0\.", "conv_first."),
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"model\.1\.sub\.\d+\.(?=weight$|bias$)", "conv_body."),
)


def _canonical(state: Mapping[str, np.ndarray], where: str) -> State:
    """Return a state dict under the names that `to_state_dict` writes."""
    named: State = {}
    for key, array in state.items():
        for old, new in _RENAMED:
            key = re.sub(f"^{old}", new, key)
        if not key.endswith(".num_batches_tracked"):
            named[key] = array
    ends = _ends({int(m[1]) for key in named if (m := re.match(r"model\.(\d{1,4})\.", key))})
    renamed = {
        re.sub(r"^model\.(\d{1,4})\.", lambda m: f"{ends[int(m[1])]}.", key): array
        for key, array in named.items()
    }
    counters = sum(key.endswith(".num_batches_tracked") for key in state)
    if len(renamed) + counters != len(state):
        raise DataError(f"{where}: has two names for the same tensor. It is not a state dict.")
    return renamed


def _ends(numbers: set[int]) -> dict[int, str]:
    """Return the names of the last convolutions of the oldest RRDBNet, numbered with gaps."""
    ups = [f"conv_up{number}" for number in range(1, len(numbers) - 1)]
    return dict(zip(sorted(numbers), [*ups, "conv_hr", "conv_last"], strict=False))
