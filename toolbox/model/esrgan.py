"""ESRGAN: residual-in-residual dense blocks and a relativistic discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from toolbox.config import Count, Float, Share, Weight
from toolbox.model import srgan
from toolbox.model.adversarial import Adversarial, check_loss_weight, mean_logistic
from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import (
    Initializer,
    ScaledInitializer,
    Upsampling,
    prime_factors,
    upsampling_block,
)
from toolbox.model.layer import PACKAGE, Scale


@keras.saving.register_keras_serializable(package=PACKAGE, name="ESRGANGenerator")
class Generator(SRModel):
    """RRDBNet: residual-in-residual dense blocks without batch normalisation.

    Parameters
    ----------
    img_shape : (int or None, int or None, int)
        Shape of a low-resolution image.
    scale : int
        Enlargement factor.
    filters : int
        Channels between the blocks.
    num_residual_blocks : int
        Number of RRDBs.
    bicubic_skip : bool
        Add the bicubic enlargement to the output.
    params : dict, optional
        Further arguments of `__build__`.

    References
    ----------
    Wang et al. 2018, arXiv:1809.00219, section 3.1. With ``upsampling: resize``, 64 filters and
    three channels at ×4: 16,697,987 parameters with 23 blocks, 4,467,779 with 6.
    """

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        filters: int = 32,
        num_residual_blocks: int = 2,
        bicubic_skip: bool = False,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        given = {"filters": filters, "num_residual_blocks": num_residual_blocks}
        super().__init__(img_shape, scale, {**given, **(params or {})}, bicubic_skip, **kwargs)

    def __DB(
        self,
        filters: int,
        kernel_initializer: Any,
        alpha: float,
        kernel_size: int = 3,
        strides: int = 1,
        growth: int = 32,
    ) -> Graph:
        """Return a dense block: five convolutions, each applied to all previous features."""

        def conv(count: int) -> layers.Layer:
            return layers.Conv2D(
                count, kernel_size, strides, padding="same", kernel_initializer=kernel_initializer
            )

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            known = [x]
            for _ in range(4):
                y = conv(growth)(known[0] if len(known) == 1 else layers.Concatenate()(known))
                known.append(layers.LeakyReLU(negative_slope=alpha)(y))
            return conv(filters)(layers.Concatenate()(known))

        return graph

    def __RRDB(
        self, filters: int, kernel_initializer: Any, alpha: float, beta: float, growth: int = 32
    ) -> Graph:
        """Return three dense blocks with weak residual connections inside a residual block."""

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            y = x
            for _ in range(3):
                dense = self.__DB(filters, kernel_initializer, alpha, growth=growth)(y)
                y = layers.Add()([y, Scale(beta)(dense)])
            return layers.Add()([x, Scale(beta)(y)])

        return graph

    def __upsampling_block(
        self,
        filters: int,
        kernel_initializer: Any,
        factor: int = 2,
        method: Upsampling = "subpixel",
        alpha: float = 0.2,
    ) -> Graph:
        """Return an enlargement by `factor` and a leaky ReLU."""
        enlarge = upsampling_block(filters, factor, method, kernel_initializer)
        return lambda x: layers.LeakyReLU(negative_slope=alpha)(enlarge(x))

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 2,
        kernel_initializer: Initializer = "he_normal",
        alpha: Share = 0.2,
        beta: Float = 0.2,
        growth: Count = 32,
        upsampling: Upsampling = "subpixel",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels between the blocks; 64 in the paper.
        num_residual_blocks : int
            Number of RRDBs; 23 in the paper.
        kernel_initializer : str
            Name of a Keras initializer; its values are multiplied by 0.1 inside the blocks.
        alpha : float
            Slope of leaky ReLU below zero.
        beta : float
            Factor of the residual branches.
        growth : int
            Channels that every convolution of a dense block adds.
        upsampling : {'subpixel', 'resize'}
            ``subpixel``: convolution and shuffle; ``resize``, as in the paper: nearest neighbour
            and convolution, which produces no chequered pattern.
        """
        weak = ScaledInitializer(kernel_initializer, 0.1)

        def conv(count: int, **options: Any) -> layers.Layer:
            return layers.Conv2D(
                count, 3, padding="same", kernel_initializer=kernel_initializer, **options
            )

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = first = conv(filters)(x)
            for _ in range(num_residual_blocks):
                x = self.__RRDB(filters, weak, alpha, beta, growth)(x)
            x = layers.Add()([first, conv(filters)(x)])
            for factor in prime_factors(self.scale):
                x = self.__upsampling_block(filters, kernel_initializer, factor, upsampling, alpha)(
                    x
                )
            x = layers.LeakyReLU(negative_slope=alpha)(conv(filters)(x))
            return layers.Conv2D(self.channels, 3, padding="same", dtype=self.output_dtype)(x)

        return graph


@keras.saving.register_keras_serializable(package=PACKAGE, name="ESRGANDiscriminator")
class Discriminator(srgan.Discriminator):
    """SRGAN's discriminator with dropout.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of a low-resolution image; the discriminator judges high-resolution ones.
    scale : int
        Enlargement factor.
    d_filters : int
        Channels of the first layer.
    d_num_downsampling_blocks : int
        Blocks of two convolutions after the first pair.
    params : dict, optional
        Further arguments of `__build__`.
    """

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        d_filters: int = 4,
        d_num_downsampling_blocks: int = 2,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        given = {"filters": d_filters, "num_downsampling_blocks": d_num_downsampling_blocks}
        super().__init__(img_shape, scale, {**given, **(params or {})}, **kwargs)

    def __build__(
        self,
        filters: int = 4,
        num_downsampling_blocks: int = 2,
        kernel_initializer: str = "he_normal",
        momentum: float = 0.8,
        alpha: float = 0.2,
        dropout_rate: float = 0.4,
    ) -> Graph:
        """Return the function that applies the layers; arguments as in SRGAN's discriminator."""
        return super().__build__(
            filters, num_downsampling_blocks, kernel_initializer, momentum, alpha, dropout_rate
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class RelativisticDiscriminator(keras.Model):
    """Distinguishes the true one of two images; its loss is in `losses` after every call.

    ``model((real, fake))`` returns C(real) and C(fake), each (N, 1), before the sigmoid.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of a low-resolution image; the discriminator judges high-resolution ones.
    scale : int
        Enlargement factor.
    d_filters : int
        Channels of the first layer.
    d_num_downsampling_blocks : int
        Blocks of two convolutions after the first pair.
    params : dict, optional
        Further arguments of `Discriminator`.

    References
    ----------
    Jolicoeur-Martineau 2018, arXiv:1807.00734; Wang et al. 2018, arXiv:1809.00219, eq. 1 and 2.
    """

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        d_filters: int = 4,
        d_num_downsampling_blocks: int = 2,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._arguments: dict[str, Any] = {
            "img_shape": tuple(img_shape),
            "scale": int(scale),
            "d_filters": d_filters,
            "d_num_downsampling_blocks": d_num_downsampling_blocks,
            "params": dict(params or {}),
        }
        self.discriminator = self.__build__()
        self.built = True

    def __build__(self) -> Discriminator:
        """Return the discriminator that judges single images."""
        return Discriminator(**self._arguments, name="c")

    def build(self, input_shape: Any = None) -> None:
        """Do nothing: the discriminator was built with its image size."""

    def __ra_loss(self, x: Sequence[tf.Tensor], noise: float = 1e-6) -> tf.Tensor:
        """Return the relativistic average loss.

        Parameters
        ----------
        x : sequence of tf.Tensor
            C of the images labelled as true, and of the others, each (N, 1).
        noise : float
            Added inside the logarithms, which bounds them. Where C differs by more than about 14,
            the generator receives no gradient.

        Returns
        -------
        tf.Tensor, shape ()
            ``-E[log D(real, fake)] - E[log(1 - D(fake, real))]``.
        """
        real, fake = relative(*x)
        # 1 - sigmoid(z) = sigmoid(-z), which is more exact.
        right = tf.math.log(tf.sigmoid(real) + noise), tf.math.log(tf.sigmoid(-fake) + noise)
        return -tf.reduce_mean(right[0]) - tf.reduce_mean(right[1])

    def call(
        self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Judge (real, fake), each (N, H, W, C), and add the loss to `losses`."""
        real, fake = (self.discriminator(imgs, training=training) for imgs in inputs)
        self.add_loss(self.__ra_loss((real, fake)))
        return real, fake

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the model."""
        return {**self._arguments, "name": self.name}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ESRGAN(Adversarial):
    """Enhanced super-resolution with a generative adversarial network.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of a low-resolution image.
    scale : int
        Enlargement factor.
    loss_weight : (float, float)
        Weights of the loss on images and of the adversarial loss.
    params : dict, optional
        Arguments of `__build__`.
    bicubic_skip : bool
        Add the bicubic enlargement to the generator's output.

    References
    ----------
    Wang et al. 2018, arXiv:1809.00219. The loss there is 1e-2 mean absolute error, VGG loss before
    the activation, and 5e-3 adversarial loss.
    """

    generator_class = Generator

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        loss_weight: Sequence[float] = (1, 1e-7),
        params: dict[str, Any] | None = None,
        bicubic_skip: bool = False,
        **kwargs: Any,
    ) -> None:
        given = {"loss_weights": list(loss_weight), **(params or {})}
        self.loss_weight = check_loss_weight(given["loss_weights"])
        super().__init__(img_shape, scale, given, bicubic_skip, **kwargs)

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 2,
        d_filters: Count = 4,
        d_num_downsampling_blocks: Count = 2,
        loss_weights: tuple[Weight, Weight] = (1, 1e-7),
        kernel_initializer: Initializer = "he_normal",
        alpha: Share = 0.2,
        beta: Float = 0.2,
        growth: Count = 32,
        upsampling: Upsampling = "subpixel",
        momentum: Share = 0.8,
        dropout_rate: Share = 0.4,
    ) -> Graph:
        """Build generator and discriminator; other arguments as in their classes.

        Parameters
        ----------
        d_filters : int
            Channels of the discriminator's first layer, which each downsampling block doubles; 64
            in the paper.
        d_num_downsampling_blocks : int
            Blocks of two convolutions after the discriminator's first two; 3 in the paper.
        loss_weights : (float, float)
            Weights of the loss on images and of the adversarial loss; the latter is 5e-3 in the
            paper.
        momentum : float
            Share of the previous value in the moving averages of batch normalisation, in the
            discriminator.
        dropout_rate : float
            Share of the discriminator's activations that are dropped in training.
        """
        shared = {"kernel_initializer": kernel_initializer, "alpha": alpha}
        self.generator = Generator(
            self.img_shape,
            self.scale,
            filters,
            num_residual_blocks,
            self.bicubic_skip,
            {"beta": beta, "growth": growth, "upsampling": upsampling, **shared},
            name="generator",
        )
        self.discriminator = RelativisticDiscriminator(
            self.img_shape,
            self.scale,
            d_filters,
            d_num_downsampling_blocks,
            {"momentum": momentum, "dropout_rate": dropout_rate, **shared},
            name="discriminator",
        )
        return self.generator

    def judge(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """Return the relativistic average loss and the mean relative verdicts."""
        verdicts = relative(*self.discriminator((real, fake), training=training))
        d_real, d_fake = (mean_logistic(verdict) for verdict in verdicts)
        return {"d_loss": self._added_loss(), "d_real": d_real, "d_fake": d_fake}

    def adversarial_loss(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Return the relativistic average loss with the two kinds of images exchanged."""
        self.discriminator((fake, real), training=training)
        return self._added_loss()

    def _added_loss(self) -> tf.Tensor:
        return tf.add_n(self.discriminator.losses)


def relative(c_real: tf.Tensor, c_fake: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return C of each kind of images minus the mean C of the other kind."""
    return c_real - tf.reduce_mean(c_fake), c_fake - tf.reduce_mean(c_real)
