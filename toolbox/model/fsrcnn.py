"""FSRCNN: shrink, map, expand, then one transposed convolution."""

from __future__ import annotations

import keras
from keras import layers

from toolbox.config import Count
from toolbox.model.base import Graph, SRModel
from toolbox.model.layer import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class FSRCNN(SRModel):
    """Fast Super-Resolution Convolutional Neural Network (post-upsampling).

    References
    ----------
    Dong et al. 2016, arXiv:1608.00367, section 3. FSRCNN(56, 12, 4) at ×4 has 12,809 parameters.
    """

    xla_pays_on_cpu = True

    def __build__(self, d: Count = 56, s: Count = 12, m: Count = 4) -> Graph:  # type: ignore[override]
        """Return the function that applies the layers.

        Parameters
        ----------
        d : int
            Channels of the first layer and of the second to last.
        s : int
            Channels of the mapping layers.
        m : int
            Number of mapping layers.
        """

        def conv(x: keras.KerasTensor, filters: int, size: int) -> keras.KerasTensor:
            x = layers.Conv2D(filters, size, padding="same", kernel_initializer="he_normal")(x)
            return layers.PReLU(shared_axes=[1, 2])(x)

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = conv(x, d, 5)
            x = conv(x, s, 1)
            for _ in range(m):
                x = conv(x, s, 3)
            x = conv(x, d, 1)
            return layers.Conv2DTranspose(
                self.channels, 9, strides=self.scale, padding="same", dtype=self.output_dtype
            )(x)

        return graph
