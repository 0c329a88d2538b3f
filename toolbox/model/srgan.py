"""SRGAN: a residual generator and a convolutional discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from toolbox.config import Count, Share, Weight
from toolbox.errors import ConfigError
from toolbox.model.adversarial import Adversarial, check_loss_weight, mean_logistic
from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import Initializer, Upsampling, prime_factors, upsampling_block
from toolbox.model.layer import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE, name="SRGANGenerator")
class Generator(SRModel):
    """SRResNet: residual blocks at low resolution, then sub-pixel convolutions.

    References
    ----------
    Ledig et al. 2017, arXiv:1609.04802, figure 4. 64 filters and 16 blocks, three channels:
    1,402,883 trainable parameters at ×2, 1,550,659 at ×4. The output is linear.
    """

    def __residual_block(
        self, filters: int, kernel_initializer: str, momentum: float = 0.8
    ) -> Graph:
        """Return convolution, normalisation, PReLU, convolution, normalisation, plus the input."""

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            y = _conv(filters, 3, kernel_initializer)(x)
            y = layers.BatchNormalization(momentum=momentum)(y)
            y = _prelu()(y)
            y = _conv(filters, 3, kernel_initializer)(y)
            y = layers.BatchNormalization(momentum=momentum)(y)
            return layers.Add()([x, y])

        return graph

    def __upsampling_block(
        self,
        filters: int,
        kernel_initializer: str,
        factor: int = 2,
        method: Upsampling = "subpixel",
    ) -> Graph:
        """Return an enlargement by `factor` and a PReLU."""
        enlarge = upsampling_block(filters, factor, method, kernel_initializer)
        return lambda x: _prelu()(enlarge(x))

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 1,
        kernel_initializer: Initializer = "he_normal",
        momentum: Share = 0.8,
        upsampling: Upsampling = "subpixel",
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels of the generator; 64 in the paper.
        num_residual_blocks : int
            Residual blocks; 16 in the paper.
        kernel_initializer : str
            Name of a Keras initializer.
        momentum : float
            Momentum of the moving averages of batch normalisation.
        upsampling : {'subpixel', 'resize'}
            ``subpixel``: convolution and shuffle; ``resize``: nearest neighbour and
            convolution, which produces no chequered pattern.
        """

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = first = _prelu()(_conv(filters, 9, kernel_initializer)(x))
            for _ in range(num_residual_blocks):
                x = self.__residual_block(filters, kernel_initializer, momentum)(x)
            x = layers.BatchNormalization(momentum=momentum)(
                _conv(filters, 3, kernel_initializer)(x)
            )
            x = layers.Add()([first, x])
            for factor in prime_factors(self.scale):
                x = self.__upsampling_block(filters, kernel_initializer, factor, upsampling)(x)
            return layers.Conv2D(self.channels, 9, padding="same", dtype=self.output_dtype)(x)

        return graph


@keras.saving.register_keras_serializable(package=PACKAGE, name="SRGANDiscriminator")
class Discriminator(keras.Model):
    """Convolutions that halve the image, then two dense layers; returns C(x), before the sigmoid.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of a low-resolution image; the discriminator judges high-resolution ones.
    scale : int
        Enlargement factor.
    params : dict, optional
        Arguments of `__build__`.

    References
    ----------
    Ledig et al. 2017, arXiv:1609.04802, figure 4: 64 filters, 3 downsampling blocks, 23,565,505
    trainable parameters for 96² images of three channels.
    """

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if None in img_shape:
            raise ConfigError(
                f"a discriminator needs images of a fixed size; received {tuple(img_shape)}. Use "
                f"only the generator for images of any size."
            )
        self.img_shape = tuple(img_shape)
        self.scale = int(scale)
        self.params = dict(params or {})
        height, width, channels = (int(size or 0) for size in self.img_shape)
        inputs = keras.Input((height * scale, width * scale, channels), name="high_resolution")
        outputs = self.__build__(**self.params)(inputs)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

    def __conv2d_block(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        use_bn: bool = True,
        kernel_initializer: str = "he_normal",
        momentum: float = 0.8,
        alpha: float = 0.2,
    ) -> Graph:
        """Return convolution, normalisation unless `use_bn` is false, and leaky ReLU."""

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = _conv(filters, kernel_size, kernel_initializer, strides)(x)
            if use_bn:
                x = layers.BatchNormalization(momentum=momentum)(x)
            return layers.LeakyReLU(negative_slope=alpha)(x)

        return graph

    def __build__(
        self,
        filters: int = 4,
        num_downsampling_blocks: int = 1,
        kernel_initializer: str = "he_normal",
        momentum: float = 0.8,
        alpha: float = 0.2,
        dropout_rate: float = 0.0,
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        filters : int
            Channels of the first layer; every downsampling block doubles them.
        num_downsampling_blocks : int
            Blocks of two convolutions after the first pair, the second with stride 2.
        kernel_initializer : str
            Name of a Keras initializer.
        momentum : float
            Momentum of the moving averages of batch normalisation.
        alpha : float
            Slope of leaky ReLU below zero.
        dropout_rate : float
            Share of activations dropped after every block; 0 for no dropout layers.
        """
        block = self.__conv2d_block
        options: dict[str, Any] = {
            "kernel_initializer": kernel_initializer,
            "momentum": momentum,
            "alpha": alpha,
        }

        def dropped(x: keras.KerasTensor) -> keras.KerasTensor:
            return layers.Dropout(dropout_rate)(x) if dropout_rate else x

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = block(filters, use_bn=False, **options)(x)
            x = dropped(block(filters, strides=2, **options)(x))
            for number in range(1, num_downsampling_blocks + 1):
                count = filters * 2**number
                x = block(count, **options)(x)
                x = dropped(block(count, strides=2, **options)(x))
            x = layers.Dense(16 * filters)(layers.Flatten()(x))
            x = dropped(layers.LeakyReLU(negative_slope=alpha)(x))
            return layers.Dense(1, dtype="float32")(x)

        return graph

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the model."""
        own = {"img_shape": self.img_shape, "scale": self.scale, "params": self.params}
        return {**own, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Discriminator:
        """Rebuild the model from `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SRGAN(Adversarial):
    """Super-resolution with a generative adversarial network.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of a low-resolution image.
    scale : int
        Enlargement factor.
    label_noise : float
        Width of the random deviation of the labels from 1 and 0.
    loss_weight : (float, float)
        Weights of the loss on images and of the adversarial loss.
    params : dict, optional
        Arguments of `__build__`.
    bicubic_skip : bool
        Add the bicubic enlargement to the generator's output.

    References
    ----------
    Ledig et al. 2017, arXiv:1609.04802, with an adversarial weight of 1e-3.
    """

    generator_class = Generator
    calming = "label_noise"

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        label_noise: float = 1e-6,
        loss_weight: Sequence[float] = (1, 1e-7),
        params: dict[str, Any] | None = None,
        bicubic_skip: bool = False,
        **kwargs: Any,
    ) -> None:
        given = {"label_noise": label_noise, "loss_weights": list(loss_weight), **(params or {})}
        self.label_noise = float(given["label_noise"])
        self.loss_weight = check_loss_weight(given["loss_weights"])
        super().__init__(img_shape, scale, given, bicubic_skip, **kwargs)
        self._label_seed = keras.random.SeedGenerator()

    def __build__(  # type: ignore[override]
        self,
        filters: Count = 32,
        num_residual_blocks: Count = 1,
        d_filters: Count = 4,
        d_num_downsampling_blocks: Count = 1,
        loss_weights: tuple[Weight, Weight] = (1, 1e-7),
        label_noise: Share = 1e-6,
        kernel_initializer: Initializer = "he_normal",
        momentum: Share = 0.8,
        alpha: Share = 0.2,
        upsampling: Upsampling = "subpixel",
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
            Weights of the loss on images and of the adversarial loss; the latter is 1e-3 in the
            paper.
        label_noise : float
            Labels are drawn from 1 − noise … 1 and 0 … noise.
        """
        shared = {"kernel_initializer": kernel_initializer, "momentum": momentum}
        drawing: dict[str, Any] = {
            "filters": filters,
            "num_residual_blocks": num_residual_blocks,
            "upsampling": upsampling,
            **shared,
        }
        judging: dict[str, Any] = {
            "filters": d_filters,
            "num_downsampling_blocks": d_num_downsampling_blocks,
            "alpha": alpha,
            **shared,
        }
        shape, scale = self.img_shape, self.scale
        self.generator = Generator(shape, scale, drawing, self.bicubic_skip, name="generator")
        self.discriminator = Discriminator(shape, scale, judging, name="discriminator")
        return self.generator

    def sample_labels(self, batch_size: int | tf.Tensor, noise: float) -> list[tf.Tensor]:
        """Draw the labels of true and of generated images.

        Parameters
        ----------
        batch_size : int
            Number of labels of each kind.
        noise : float
            Width of the deviation: uniform in [1 - noise, 1] and in [0, noise].

        Returns
        -------
        list of tf.Tensor, each of shape (batch_size,)
            Labels of true and of generated images.
        """
        draw = keras.random.uniform((2, batch_size), seed=self._label_seed)
        return [1.0 - noise * draw[0], noise * draw[1]]

    def judge(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """Return the binary cross-entropy of the verdicts, and their means."""
        c_real = self.discriminator(real, training=training)
        c_fake = self.discriminator(fake, training=training)
        valid, invalid = self._labels(tf.shape(real)[0], training)
        d_loss = (_cross_entropy(valid, c_real) + _cross_entropy(invalid, c_fake)) / 2
        return {"d_loss": d_loss, "d_real": mean_logistic(c_real), "d_fake": mean_logistic(c_fake)}

    def adversarial_loss(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Return the cross-entropy of the verdicts on generated images, labelled as true."""
        c_fake = self.discriminator(fake, training=training)
        return _cross_entropy(self._labels(tf.shape(fake)[0], training)[0], c_fake)

    def _labels(self, batch_size: tf.Tensor, training: bool) -> list[tf.Tensor]:
        if training and self.label_noise:
            return self.sample_labels(batch_size, self.label_noise)
        return [tf.ones([batch_size]), tf.zeros([batch_size])]


def _conv(filters: int, size: int, kernel_initializer: str, strides: int = 1) -> layers.Layer:
    return layers.Conv2D(
        filters, size, strides, padding="same", kernel_initializer=kernel_initializer
    )


def _prelu() -> layers.Layer:
    """Return a PReLU with one slope per channel, initially 0.25.

    With Keras's initial value 0, all channels of a small network with `bicubic_skip` can be
    switched off. It then returns the bicubic enlargement and has no gradient. He et al. 2015,
    arXiv:1502.01852, start at 0.25.
    """
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(tf.reshape(logits, [-1]), tf.float32)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
