"""ESPCN: convolutions at low resolution, then a sub-pixel shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras
from keras import layers

from toolbox.config import Count
from toolbox.model.base import Graph, SRModel, check_kernels
from toolbox.model.layer import PACKAGE, Conv2DSubPixel


@keras.saving.register_keras_serializable(package=PACKAGE)
class ESPCN(SRModel):
    """Efficient Sub-Pixel Convolutional Neural Network (post-upsampling).

    References
    ----------
    Shi et al. 2016, arXiv:1609.05158, section 3.1. One channel: 21,284 parameters at ×2, 22,729
    at ×3, 24,752 at ×4.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Sequence[Count] = (64, 32),
        kernels: Sequence[Count] = (5, 3, 3),
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : sequence of int
            Channels of all layers except the last.
        kernels : sequence of int
            Kernel sizes, one more than `filters`.
        activation : {'tanh', 'relu'}
            Activation of all layers except the last; tanh was better in the paper.
        """
        check_kernels(filters, kernels)

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            for count, size in zip(filters, kernels[:-1], strict=True):
                x = layers.Conv2D(count, size, padding="same", activation=activation)(x)
            subpixels = self.channels * self.scale**2
            x = layers.Conv2D(subpixels, kernels[-1], padding="same", dtype=self.output_dtype)(x)
            return Conv2DSubPixel(self.scale, dtype=self.output_dtype)(x)

        return graph
