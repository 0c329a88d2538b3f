"""Base of networks for restoration: the input is added at scale 1, features become an image."""

from __future__ import annotations

import keras
from keras import layers

from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import Upsampling, prime_factors, upsampling_block


class Restorer(SRModel):
    """A network that learns a correction of its input if the size does not change.

    At scale 1 the input is added to the output, with or without `bicubic_skip`. The bicubic
    enlargement by 1 is the input, bit for bit, so both settings give the same network. At higher
    scales the bicubic enlargement is added only with `bicubic_skip`.
    """

    def _outputs(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        outputs = super()._outputs(inputs)
        if self.scale > 1 or self.bicubic_skip:
            return outputs
        return layers.Add(dtype="float32", name="add_input")([outputs, inputs])


def image_of_features(
    model: SRModel, filters: int, upsampling: Upsampling, kernel_initializer: str
) -> Graph:
    """Return the enlargement of features by the scale of a model, and a 3 × 3 output layer.

    Parameters
    ----------
    model : SRModel
        Model with the scale, the channels and the precision of the output.
    filters : int
        Channels of the features.
    upsampling : {'subpixel', 'resize'}
        ``subpixel``: convolution and shuffle; ``resize``: nearest neighbour and convolution. No
        effect at scale 1.
    kernel_initializer : str
        Name of a Keras initializer.
    """

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        for factor in prime_factors(model.scale):
            x = upsampling_block(filters, factor, upsampling, kernel_initializer)(x)
        return layers.Conv2D(
            model.channels,
            3,
            padding="same",
            dtype=model.output_dtype,
            kernel_initializer=kernel_initializer,
        )(x)

    return graph
