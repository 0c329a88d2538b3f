"""EdgeFormer: window attention and edge attention, alone or inside EDSR and RDN."""

from __future__ import annotations

import keras
from keras import layers

from toolbox.config import Count, Weight
from toolbox.model.base import Graph
from toolbox.model.blocks import Initializer, Upsampling
from toolbox.model.edge_attention import edge_attention
from toolbox.model.layer import PACKAGE, Scale
from toolbox.model.rdn import dense_block, fused_blocks
from toolbox.model.restoration import Restorer, image_of_features
from toolbox.model.window_attention import window_attention


@keras.saving.register_keras_serializable(package=PACKAGE)
class EdgeFormer(Restorer):
    """Transformer for restoration: groups of window attention, each followed by edge attention.

    A group consists of two blocks of window attention with dense layers, the second with shifted
    windows, then edge attention and a convolution; its input is added.

    References
    ----------
    Groups and residuals of Liang et al. 2021, arXiv:2108.10257; windows of Liu et al. 2021,
    arXiv:2103.14030; `toolbox.model.edge_attention`. One channel, scale 1: 119,309 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_groups: Count = 3,
        heads: Count = 2,
        window: Count = 8,
        mlp_ratio: Count = 2,
        edge_kernel: Count = 3,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels of the features.
        num_groups : int
            Groups of two attention blocks.
        heads : int
            Heads of the attention; must divide `filters`.
        window : int
            Side of a window in low-resolution pixels.
        mlp_ratio : int
            Width of the dense layers after an attention, as a multiple of `filters`.
        edge_kernel : int
            Side of the convolution that computes the gate of the edge attention.
        upsampling : {'subpixel', 'resize'}
            ``subpixel``: convolution and shuffle; ``resize``: nearest neighbour and
            convolution. No effect at scale 1.
        kernel_initializer : str
            Name of a Keras initializer, for the 3 × 3 convolutions.
        """
        conv = _conv(filters, kernel_initializer)
        edges = edge_attention(filters, edge_kernel)
        straight = window_attention(filters, heads, window, 0, mlp_ratio)
        shifted = window_attention(filters, heads, window, window // 2, mlp_ratio)
        image = image_of_features(self, filters, upsampling, kernel_initializer)

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = first = conv(x)
            for _ in range(num_groups):
                x = layers.Add()([x, conv(edges(shifted(straight(x))))])
            return image(layers.Add()([first, conv(x)]))

        return graph


@keras.saving.register_keras_serializable(package=PACKAGE)
class EdgeFormerEDSR(Restorer):
    """EDSR with edge attention and window attention between its residual blocks.

    References
    ----------
    Lim et al. 2017, arXiv:1707.02921; `toolbox.model.edge_attention`;
    `toolbox.model.window_attention`. One channel, scale 1: 1,438,225 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 64,
        num_residual_blocks: Count = 16,
        residual_scale: Weight = 1.0,
        attention_every: Count = 4,
        heads: Count = 4,
        window: Count = 8,
        edge_kernel: Count = 3,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters, num_residual_blocks, residual_scale
            As in `toolbox.model.edsr.EDSR`.
        attention_every : int
            Number of residual blocks between two pairs of edge and window attention.
        heads, window, edge_kernel, upsampling, kernel_initializer
            As in `EdgeFormer`; there are no dense layers after the attention.
        """
        conv = _conv(filters, kernel_initializer)
        between = _Between(filters, attention_every, heads, window, edge_kernel)
        image = image_of_features(self, filters, upsampling, kernel_initializer)

        def block(x: keras.KerasTensor) -> keras.KerasTensor:
            y = conv(layers.ReLU()(conv(x)))
            return layers.Add()([x, y if residual_scale == 1 else Scale(residual_scale)(y)])

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = first = conv(x)
            for i in range(num_residual_blocks):
                x = between(i)(block(x))
            return image(layers.Add()([first, conv(x)]))

        return graph


@keras.saving.register_keras_serializable(package=PACKAGE)
class EdgeFormerEDSRLight(EdgeFormerEDSR):
    """`EdgeFormerEDSR` in a size that trains in minutes on a laptop.

    References
    ----------
    As for `EdgeFormerEDSR`, in the size of `toolbox.model.edsr.EDSRLight`. One channel, scale 1:
    131,971 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 6,
        residual_scale: Weight = 1.0,
        attention_every: Count = 3,
        heads: Count = 1,
        window: Count = 8,
        edge_kernel: Count = 1,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers; arguments as in `EdgeFormerEDSR`."""
        return super().__build__(
            filters,
            num_residual_blocks,
            residual_scale,
            attention_every,
            heads,
            window,
            edge_kernel,
            upsampling,
            kernel_initializer,
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class EdgeFormerRDN(Restorer):
    """RDN with edge attention and window attention between its dense blocks.

    References
    ----------
    Zhang et al. 2018, arXiv:1802.08797, in the size of `toolbox.model.rdn.RDNEdge`;
    `toolbox.model.edge_attention`; `toolbox.model.window_attention`. One channel, scale 1:
    279,783 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        growth: Count = 16,
        num_dense_blocks: Count = 6,
        num_layers: Count = 4,
        attention_every: Count = 2,
        heads: Count = 2,
        window: Count = 8,
        edge_kernel: Count = 3,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters, growth, num_dense_blocks, num_layers
            As in `toolbox.model.rdn.RDN`.
        attention_every : int
            Number of dense blocks between two pairs of edge and window attention.
        heads, window, edge_kernel, upsampling, kernel_initializer
            As in `EdgeFormer`; there are no dense layers after the attention.
        """
        block = dense_block(filters, growth, num_layers, kernel_initializer)
        between = _Between(filters, attention_every, heads, window, edge_kernel)
        trunk = fused_blocks([block] * num_dense_blocks, filters, kernel_initializer, between)
        image = image_of_features(self, filters, upsampling, kernel_initializer)
        return lambda x: image(trunk(x))


class _Between:
    """Layers after block i: edge and window attention where due, with alternating shifts."""

    def __init__(self, filters: int, every: int, heads: int, window: int, edge_kernel: int) -> None:
        self.every = every
        self.edges = edge_attention(filters, edge_kernel)
        self.attention = [
            window_attention(filters, heads, window, shift) for shift in (0, window // 2)
        ]

    def __call__(self, i: int) -> Graph:
        stage, left = divmod(i + 1, self.every)
        if left:
            return lambda x: x
        return lambda x: self.attention[(stage - 1) % 2](self.edges(x))


def _conv(filters: int, kernel_initializer: str) -> Graph:
    """Return a new 3 × 3 convolution on every call."""
    return lambda x: layers.Conv2D(
        filters, 3, padding="same", kernel_initializer=kernel_initializer
    )(x)
