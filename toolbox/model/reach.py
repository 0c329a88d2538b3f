"""Receptive field of a network and memory per pixel, determined from its layers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
from keras import layers

from toolbox.model.edge_attention import EdgeStrength
from toolbox.model.layer import Conv2DSubPixel, CropLike, PadToMultiple, Resize, Scale
from toolbox.model.window_attention import WindowAttention
from toolbox.resample import phase_taps

#: Layers that compute every pixel from the same pixel.
_POINTWISE = (
    layers.Activation,
    layers.Add,
    layers.Average,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.Dropout,
    layers.GaussianNoise,
    layers.LeakyReLU,
    layers.Multiply,
    layers.PReLU,
    layers.ReLU,
    layers.Subtract,
    CropLike,
    # If tiles start at multiples of the size, only the last tile is extended.
    PadToMultiple,
    Scale,
)


class Reach(NamedTuple):
    """Dependence of a tensor of a network on the input.

    Attributes
    ----------
    pixels : float
        Distance of the farthest input that has an influence, in low-resolution pixels.
    density : float
        Pixels of the tensor per low-resolution pixel, along a side.
    """

    pixels: float
    density: float


class Footprint(NamedTuple):
    """Surroundings and memory that a network needs for every pixel.

    Attributes
    ----------
    halo : int or None
        Low-resolution pixels around a tile that its result depends on; None if a layer uses the
        whole image or is unknown to this module.
    values : int
        Number of values in the largest layer, per low-resolution pixel.
    """

    halo: int | None
    values: int


def footprint(network: keras.Model) -> Footprint:
    """Determine the receptive field of a convolutional network.

    Parameters
    ----------
    network : keras.Model
        A functional network from (N, h, w, C) to (N, h * scale, w * scale, C).

    Returns
    -------
    Footprint
    """
    return _footprint(network, aligned=False)


def aligned_halo(network: keras.Model) -> int | None:
    """Return the halo of a network for tiles that start at multiples of its attention windows.

    Attention then has the same windows as in the whole image, and a pixel depends at most on its
    window. As with convolutions, the number of layers limits the halo.

    Parameters
    ----------
    network : keras.Model
        As in `footprint`.

    Returns
    -------
    int or None
        As in `Footprint.halo`.
    """
    return _footprint(network, aligned=True).halo


def _footprint(network: keras.Model, aligned: bool) -> Footprint:
    known: dict[int, Reach | None] = {id(x): Reach(0.0, 1) for x in network.inputs}
    sizes: list[int] = [1]
    end = _reach(network.outputs[0], known, sizes, aligned)
    return Footprint(None if end is None else math.ceil(end.pixels), max(sizes))


def _reach(
    tensor: Any, known: dict[int, Reach | None], sizes: list[int], aligned: bool
) -> Reach | None:
    """Trace the layers back from a tensor; each layer is visited once."""
    pending = [tensor]
    while pending:
        current = pending[-1]
        if id(current) in known:
            pending.pop()
            continue
        history = current._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        missing = [x for x in node.input_tensors if id(x) not in known]
        if missing:
            pending.extend(missing)
            continue
        sources = [known[id(x)] for x in node.input_tensors]
        known[id(current)] = end = _after(history.operation, sources, sizes, aligned)
        # After an unknown layer, only the channels are known.
        density = end.density if end else 1
        sizes.append(math.ceil(int(current.shape[-1] or 1) * density**2))
        if isinstance(history.operation, WindowAttention):
            sizes.append(history.operation.values_per_pixel)
        pending.pop()
    return known[id(tensor)]


def _after(
    layer: Any, sources: list[Reach | None], sizes: list[int], aligned: bool
) -> Reach | None:
    """Return what the result of a layer depends on; None if that is unknown."""
    if any(source is None for source in sources):
        return None
    before = Reach(
        max(source.pixels for source in sources if source),
        max(source.density for source in sources if source),
    )
    if isinstance(layer, keras.Model):
        known: dict[int, Reach | None] = {id(x): before for x in layer.inputs}
        return _reach(layer.outputs[0], known, sizes, aligned)
    if isinstance(layer, _POINTWISE):
        return before
    if isinstance(layer, layers.Conv2DTranspose):
        stride, size = layer.strides[0], max(layer.kernel_size)
        margin = math.ceil(size / (2 * stride)) if size > stride else 0
        return Reach(before.pixels + margin / before.density, before.density * stride)
    if isinstance(layer, layers.Conv2D):
        sides = zip(layer.kernel_size, layer.dilation_rate, strict=True)
        margin = max(size // 2 * dilation for size, dilation in sides)
        stride, size = max(layer.strides), max(layer.kernel_size)
        if stride > 1:
            # A result represents as many pixels as the stride, and may be used from either end.
            left = max(0, size - stride) // 2
            margin = max(left + stride - 1, size - 1 - left)
        return Reach(before.pixels + margin / before.density, before.density / stride)
    if isinstance(layer, layers.MaxPooling2D) and set(layer.strides) == set(layer.pool_size):
        stride = layer.strides[0]
        return Reach(before.pixels + (stride - 1) / before.density, before.density / stride)
    if isinstance(layer, EdgeStrength):
        return Reach(before.pixels + layer.reach / before.density, before.density)
    if isinstance(layer, Conv2DSubPixel):
        return Reach(before.pixels, before.density * layer.scale)
    if isinstance(layer, Resize) and not layer.margin:
        margin = len(phase_taps(layer.scale, layer.method)) // 2
        return Reach(before.pixels + margin / before.density, before.density * layer.scale)
    if aligned and isinstance(layer, WindowAttention) and before.density == 1:
        return Reach(before.pixels + layer.window - 1, 1)
    if aligned and isinstance(layer, layers.LayerNormalization):
        over_channels = layer.axis in (-1, [-1], (-1,))
        return before if over_channels else None
    return None
