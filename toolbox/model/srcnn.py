"""SRCNN: three convolutions on the bicubically enlarged image."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from toolbox.config import Count
from toolbox.model.base import Graph, SRModel, check_kernels
from toolbox.model.layer import PACKAGE, Resize


@keras.saving.register_keras_serializable(package=PACKAGE)
class SRCNN(SRModel):
    """Super-Resolution Convolutional Neural Network (pre-upsampling).

    References
    ----------
    Dong et al. 2014, arXiv:1501.00092, section 3.1. The paper's 9-1-5 network with 64 and 32
    filters has 8,129 parameters, its 9-5-5 network 57,281.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Sequence[Count] = (32, 16),
        kernels: Sequence[Count] = (9, 1, 5),
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : sequence of int
            Channels of all layers except the last; (64, 32) in the paper.
        kernels : sequence of int
            Kernel sizes, one more than `filters`.
        """
        check_kernels(filters, kernels)

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = Resize(self.scale)(x)
            for count, size in zip(filters, kernels[:-1], strict=True):
                x = layers.Conv2D(count, size, padding="same", activation="relu")(x)
            return layers.Conv2D(
                self.channels, kernels[-1], padding="same", dtype=self.output_dtype
            )(x)

        return graph
