"""Building blocks that several networks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import AfterValidator

from toolbox.model.base import Graph
from toolbox.model.layer import PACKAGE, Conv2DSubPixel, Resize

Upsampling = Literal["subpixel", "resize"]


def _initializer(name: str) -> str:
    """Return the name of an initializer, or raise an error if it cannot draw a kernel."""
    try:
        keras.initializers.get(name)(shape=(3, 3, 1, 2))
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"a Keras initializer that needs no arguments; received {name!r}. Use he_normal."
        ) from None
    return name


Initializer = Annotated[str, AfterValidator(_initializer)]


def prime_factors(scale: int) -> list[int]:
    """Return the prime factors of an enlargement, e.g. [2, 2] for 4; none for 1."""
    factors = []
    divisor = 2
    while scale > 1:
        while scale % divisor == 0:
            factors.append(divisor)
            scale //= divisor
        divisor += 1
    return factors


def upsampling_block(
    filters: int,
    factor: int,
    method: Upsampling = "subpixel",
    kernel_initializer: Any = "he_normal",
    use_bias: bool = True,
) -> Graph:
    """Return a learned enlargement by `factor`, without an activation.

    Parameters
    ----------
    filters : int
        Channels of the result.
    factor : int
        Enlargement.
    method : {'subpixel', 'resize'}
        A convolution and a sub-pixel shuffle, or nearest-neighbour enlargement and a convolution,
        which cannot produce a checkerboard (Odena et al. 2016, doi:10.23915/distill.00003).
    kernel_initializer : str or keras.Initializer
        Initializer of the convolution.
    use_bias : bool
        Whether the convolution adds a constant.
    """

    def graph(x: keras.KerasTensor) -> keras.KerasTensor:
        if method == "resize":
            x = Resize(factor, "nearest")(x)
        x = layers.Conv2D(
            filters * factor**2 if method == "subpixel" else filters,
            3,
            padding="same",
            kernel_initializer=kernel_initializer,
            use_bias=use_bias,
        )(x)
        return Conv2DSubPixel(factor)(x) if method == "subpixel" else x

    return graph


@keras.saving.register_keras_serializable(package=PACKAGE)
class ScaledInitializer(keras.initializers.Initializer):
    """Draws from another initializer and multiplies by a factor.

    Residual networks without normalisation then start near the identity (Wang et al. 2018,
    arXiv:1809.00219, supplement).

    Parameters
    ----------
    base : str or keras.Initializer
        The other initializer.
    factor : float
        Multiplier.
    """

    def __init__(self, base: Any, factor: float) -> None:
        self.base = keras.initializers.get(base)
        self.factor = float(factor)

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        """Return a tensor of `shape`."""
        return self.base(shape, dtype=dtype, **kwargs) * self.factor

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the initializer."""
        base = keras.initializers.serialize(self.base)
        return {"base": base, "factor": self.factor}
