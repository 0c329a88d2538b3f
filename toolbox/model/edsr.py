"""EDSR: residual blocks without normalisation at low resolution, then enlargement."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers

from toolbox.config import Count, Weight
from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import Initializer, prime_factors, upsampling_block
from toolbox.model.layer import PACKAGE, Conv2DSubPixel, Scale


@keras.saving.register_keras_serializable(package=PACKAGE)
class EDSR(SRModel):
    """Enhanced Deep Super-Resolution network (post-upsampling).

    References
    ----------
    Lim et al. 2017, arXiv:1707.02921, figures 2 and 3. The baseline, 64 filters and 16 blocks, has
    1,369,859 parameters at ×2 and 1,517,571 at ×4 (three channels); 256 filters, 32 blocks and a
    residual scale of 0.1 have 43,089,923 at ×4.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 64,
        num_residual_blocks: Count = 16,
        residual_scale: Weight = 1.0,
        upsampling: Literal["subpixel", "resize", "direct"] = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
        use_bias: bool = True,
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels of every layer; 256 in the paper, 64 in its baseline.
        num_residual_blocks : int
            Residual blocks: convolution, ReLU, convolution, plus the input of the block; 32 in the
            paper, 16 in its baseline.
        residual_scale : float
            Factor of the sum that a block adds; 0.1 keeps wide networks stable.
        upsampling : {'subpixel', 'resize', 'direct'}
            ``subpixel``: convolution and shuffle; ``resize``: nearest neighbour and
            convolution, which produces no chequered pattern; ``direct``: one convolution computes
            all pixels of a block, without layers at high resolution, as in ESPCN, which is faster.
        kernel_initializer : str
            Name of a Keras initializer.
        use_bias : bool
            Whether convolutions add a constant. Without one, the network is homogeneous (Mohan et
            al. 2020, arXiv:1906.05478, section 4): ten times the input gives ten times the result.
            A network trained on relief of metres then suits decimetres and hundreds of metres.
        """

        def conv(count: int, activation: str | None = None) -> layers.Layer:
            return layers.Conv2D(
                count,
                3,
                padding="same",
                activation=activation,
                kernel_initializer=kernel_initializer,
                use_bias=use_bias,
            )

        def block(x: keras.KerasTensor) -> keras.KerasTensor:
            y = conv(filters)(conv(filters, "relu")(x))
            return layers.Add()([x, y if residual_scale == 1 else Scale(residual_scale)(y)])

        def last(count: int) -> layers.Layer:
            return layers.Conv2D(
                count, 3, padding="same", use_bias=use_bias, dtype=self.output_dtype
            )

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = first = conv(filters)(x)
            for _ in range(num_residual_blocks):
                x = block(x)
            x = layers.Add()([first, conv(filters)(x)])
            if upsampling == "direct":
                x = last(self.channels * self.scale**2)(x)
                return Conv2DSubPixel(self.scale, dtype=self.output_dtype)(x)
            for factor in prime_factors(self.scale):
                x = upsampling_block(filters, factor, upsampling, kernel_initializer, use_bias)(x)
            return last(self.channels)(x)

        return graph


@keras.saving.register_keras_serializable(package=PACKAGE)
class EDSRLight(EDSR):
    """EDSR in a size that trains in minutes on a laptop.

    References
    ----------
    Lim et al. 2017, arXiv:1707.02921, with half the filters of the baseline and 6 blocks. One
    channel: 120,833 parameters at scale 1, 157,825 at ×2.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 6,
        residual_scale: Weight = 1.0,
        upsampling: Literal["subpixel", "resize", "direct"] = "subpixel",
        kernel_initializer: Initializer = "glorot_uniform",
        use_bias: bool = True,
    ) -> Graph:
        """Return the function that applies the layers; arguments as in `EDSR`."""
        return super().__build__(
            filters, num_residual_blocks, residual_scale, upsampling, kernel_initializer, use_bias
        )
