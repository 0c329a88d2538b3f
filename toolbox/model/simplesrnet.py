"""SimpleSRNet: a plain stack of convolutions, the smallest network for restoration."""

from __future__ import annotations

import keras
from keras import layers

from toolbox.config import Count
from toolbox.model.base import Graph
from toolbox.model.blocks import Initializer
from toolbox.model.layer import PACKAGE, Conv2DSubPixel
from toolbox.model.restoration import Restorer


@keras.saving.register_keras_serializable(package=PACKAGE)
class SimpleSRNet(Restorer):
    """Convolutions with ReLU on the input, which is added to the result at scale 1.

    It is the first network to try, as a reference for deeper ones.

    References
    ----------
    Structure and residual of Kim et al. 2016, arXiv:1511.04587, and Zhang et al. 2017,
    doi:10.1109/TIP.2017.2662206, without batch normalisation and with fewer layers; at higher
    scales the last layer is that of Shi et al. 2016, arXiv:1609.05158. One channel, scale 1:
    222,785 parameters.
    """

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 64,
        num_layers: Count = 8,
        kernel_initializer: Initializer = "he_normal",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels of all layers except the last.
        num_layers : int
            Number of convolutions, including the last.
        kernel_initializer : str
            Name of a Keras initializer, for all layers except the last.
        """

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            for _ in range(num_layers - 1):
                x = layers.Conv2D(
                    filters,
                    3,
                    padding="same",
                    activation="relu",
                    kernel_initializer=kernel_initializer,
                )(x)
            subpixels = self.channels * self.scale**2
            x = layers.Conv2D(subpixels, 3, padding="same", dtype=self.output_dtype)(x)
            return Conv2DSubPixel(self.scale, dtype=self.output_dtype)(x)

        return graph
