"""RDN: dense blocks inside residual blocks, with all levels fused; also with edge attention."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from toolbox.config import Count
from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import Initializer, Upsampling
from toolbox.model.edge_attention import edge_attention
from toolbox.model.layer import PACKAGE
from toolbox.model.restoration import Restorer, image_of_features


@keras.saving.register_keras_serializable(package=PACKAGE)
class RDN(SRModel):
    """Residual Dense Network (post-upsampling), as published.

    At scale 1 the output layer follows the fused features, as in the paper's network for
    denoising; the input is added with `bicubic_skip`.

    References
    ----------
    Zhang et al. 2018, arXiv:1802.08797, section 3, D = 16, C = 8, G = G0 = 64: 22,123,395
    parameters at ×2 and 22,271,107 at ×4 (three channels).
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 64,
        growth: Count = 64,
        num_dense_blocks: Count = 16,
        num_layers: Count = 8,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels between the blocks, G0.
        growth : int
            Channels that each convolution of a dense block adds, G.
        num_dense_blocks : int
            Dense blocks, D.
        num_layers : int
            Convolutions of a dense block, C, without the 1 × 1 convolution that fuses them.
        upsampling : {'subpixel', 'resize'}
            ``subpixel``, as in the paper: convolution and shuffle; ``resize``: nearest neighbour
            and convolution. No effect at scale 1.
        kernel_initializer : str
            Name of a Keras initializer.
        """
        block = dense_block(filters, growth, num_layers, kernel_initializer)
        trunk = fused_blocks([block] * num_dense_blocks, filters, kernel_initializer)
        image = image_of_features(self, filters, upsampling, kernel_initializer)
        return lambda x: image(trunk(x))


@keras.saving.register_keras_serializable(package=PACKAGE)
class RDNEdge(Restorer):
    """Residual Dense Network with edge attention after every dense block.

    It has a seventy-fifth of the published size, for a laptop. At scale 1 the input is added.

    References
    ----------
    Zhang et al. 2018, arXiv:1802.08797; `toolbox.model.edge_attention`. One channel, scale 1:
    293,313 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        growth: Count = 16,
        num_dense_blocks: Count = 6,
        num_layers: Count = 4,
        edge_kernel: Count = 3,
        upsampling: Upsampling = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters, growth, num_dense_blocks, num_layers, upsampling, kernel_initializer
            As in `RDN`.
        edge_kernel : int
            Side of the convolution that computes the gate of `edge_attention`.
        """
        dense = dense_block(filters, growth, num_layers, kernel_initializer)
        attention = edge_attention(filters, edge_kernel)
        blocks: list[Graph] = [lambda x: attention(dense(x))] * num_dense_blocks
        trunk = fused_blocks(blocks, filters, kernel_initializer)
        image = image_of_features(self, filters, upsampling, kernel_initializer)
        return lambda x: image(trunk(x))


def dense_block(filters: int, growth: int, num_layers: int, kernel_initializer: str) -> Graph:
    """Return densely connected convolutions, fused by a 1 × 1 convolution, plus the input.

    Parameters
    ----------
    filters : int
        Channels of input and result.
    growth : int
        Channels that each convolution adds.
    num_layers : int
        Number of 3 × 3 convolutions.
    kernel_initializer : str
        Name of a Keras initializer.

    References
    ----------
    Zhang et al. 2018, arXiv:1802.08797, eq. 4 to 7.
    """

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        seen = [x]
        for _ in range(num_layers):
            before = layers.Concatenate()(seen) if len(seen) > 1 else x
            conv = _conv(growth, 3, kernel_initializer, "relu")
            seen.append(conv(before))
        return layers.Add()([x, _conv(filters, 1, kernel_initializer)(layers.Concatenate()(seen))])

    return graph


def fused_blocks(
    blocks: list[Graph],
    filters: int,
    kernel_initializer: str,
    between: Callable[[int], Graph] | None = None,
) -> Graph:
    """Return shallow features, consecutive blocks, and the fusion of their results.

    Parameters
    ----------
    blocks : list of Graph
        Blocks with `filters` channels of input and result.
    filters : int
        Channels.
    kernel_initializer : str
        Name of a Keras initializer.
    between : callable, optional
        ``between(i)`` is applied to the result of block i, counted from 0.

    References
    ----------
    Zhang et al. 2018, arXiv:1802.08797, eq. 1 and 8 to 10.
    """

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        first = _conv(filters, 3, kernel_initializer)(x)
        x = _conv(filters, 3, kernel_initializer)(first)
        results = []
        for i, block in enumerate(blocks):
            x = block(x) if between is None else between(i)(block(x))
            results.append(x)
        fused = layers.Concatenate()(results) if len(results) > 1 else x
        fused = _conv(filters, 1, kernel_initializer)(fused)
        return layers.Add()([first, _conv(filters, 3, kernel_initializer)(fused)])

    return graph


def _conv(
    filters: int, size: int, kernel_initializer: str, activation: str | None = None
) -> layers.Layer:
    return layers.Conv2D(
        filters,
        size,
        padding="same",
        activation=activation,
        kernel_initializer=kernel_initializer,
    )
