"""pix2pix: a U-Net that makes pictures from pictures, and a discriminator that judges patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
from keras import layers
from pydantic import Field

from toolbox.config import Count, Share, Weight
from toolbox.errors import ConfigError
from toolbox.model.adversarial import Adversarial, check_loss_weight, mean_logistic
from toolbox.model.base import Graph, SRModel
from toolbox.model.blocks import Initializer
from toolbox.model.layer import PACKAGE, CropLike, PadToMultiple, Resize

Kind = Literal["max_pool", "strided"]
Judge = Literal["max_pool", "patch"]
Normalization = Literal["batch", "instance", "none"]
Depth = Annotated[Count, Field(le=10)]
#: Default number of halvings of each U-Net.
_DEPTHS = {"max_pool": 2, "strided": 8}
#: Default number of channels in the first layer of each discriminator.
_D_FILTERS = {"max_pool": 16, "patch": 64}
#: Number of decoder levels with dropout, from the lowest.
_DROPPING = 3


@keras.saving.register_keras_serializable(package=PACKAGE, name="Pix2PixGenerator")
class Generator(SRModel):
    """A U-Net: an encoder and a decoder, with connections between equal levels.

    Pictures of any size are extended to a multiple of ``2 ** depth`` by repeating their last row
    and column. At a scale above 1, the input is first enlarged by bicubic interpolation.

    References
    ----------
    Isola et al. 2017, arXiv:1611.07004, section 6.1.1: ``generator: strided``, 64 filters and eight
    halvings, 54,414,979 trainable parameters for three channels. Ronneberger et al. 2015,
    arXiv:1505.04597: ``max_pool``; the default is a small version of it.
    """

    def __build__(  # type: ignore[override]
        self,
        generator: Kind = "max_pool",
        filters: Count = 64,
        depth: Depth | None = None,
        normalization: Normalization = "batch",
        dropout_rate: Share = 0.0,
        activation: Literal["linear", "sigmoid", "tanh"] = "linear",
        out_channels: Count | None = None,
        kernel_initializer: Initializer | None = None,
        momentum: Share = 0.9,
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        generator : {'max_pool', 'strided'}
            One 3 × 3 convolution per level and max pooling, or the paper's 4 × 4 convolutions with
            stride 2.
        filters : int
            Channels of the first level; every halving doubles them, in ``strided`` up to eight
            times.
        depth : int, optional
            Number of halvings: 2 in ``max_pool``, 8 in ``strided``.
        normalization : {'batch', 'instance', 'none'}
            Normalisation of the features.
        dropout_rate : float
            Share of activations dropped in training in the three lowest levels of the decoder; 0.5
            in the paper.
        activation : {'linear', 'sigmoid', 'tanh'}
            Activation of the output.
        out_channels : int, optional
            Channels of the result; by default those of the input.
        kernel_initializer : str, optional
            Name of a Keras initializer: he_normal in ``max_pool``, in ``strided`` the paper's
            normal distribution with standard deviation 0.02.
        momentum : float
            Momentum of the moving averages of batch normalisation.
        """
        count = out_channels or self.channels
        if self.bicubic_skip and (activation != "linear" or count != self.channels):
            raise ConfigError(
                f"bicubic_skip must be false with activation {activation} and {count} channels "
                f"from {self.channels}, because the input cannot be added to such an output. "
                f"Remove bicubic_skip."
            )
        halvings = depth or _DEPTHS[generator]
        parts = _Parts(normalization, kernel_initializer or _usual(generator), momentum)

        def graph(x: keras.KerasTensor) -> keras.KerasTensor:
            x = enlarged = Resize(self.scale)(x) if self.scale > 1 else x
            whole = all(side and side % 2**halvings == 0 for side in x.shape[1:3])
            if not whole:
                x = PadToMultiple(2**halvings)(x)
            features = parts.pooled if generator == "max_pool" else parts.strided
            x = features(x, filters, halvings, dropout_rate)
            if generator == "max_pool":
                x = parts.conv(count, 1, dtype=self.output_dtype, use_bias=True)(x)
            else:
                x = parts.conv_up(count, 4, dtype=self.output_dtype, use_bias=True)(x)
            if activation != "linear":
                x = layers.Activation(activation, dtype="float32")(x)
            return x if whole else CropLike()([x, enlarged])

        return graph

    @property
    def out_channels(self) -> int:
        """Number of channels of the result."""
        return int(self.params.get("out_channels") or self.channels)

    @property
    def multiple(self) -> int:
        """Number of input pixels of which the start of every tile must be a multiple."""
        depth = self.params.get("depth") or _DEPTHS[self.params.get("generator", "max_pool")]
        side = 2 ** int(depth)
        return side // math.gcd(side, self.scale)


class _Parts:
    """Layers of U-Nets and discriminators with one kind of normalisation and initial weights."""

    def __init__(self, normalization: Normalization, initializer: Any, momentum: float) -> None:
        self.normalization, self.initializer, self.momentum = normalization, initializer, momentum

    def conv(self, filters: int, size: int, strides: int = 1, **options: Any) -> layers.Layer:
        """Return a convolution; the following normalisation, if any, provides the bias."""
        options = {"padding": "same", "use_bias": self.normalization == "none", **options}
        return layers.Conv2D(filters, size, strides, kernel_initializer=self.initializer, **options)

    def conv_up(self, filters: int, size: int, **options: Any) -> layers.Layer:
        """Return a transposed convolution that doubles the sides."""
        options = {"use_bias": self.normalization == "none", **options}
        return layers.Conv2DTranspose(
            filters, size, 2, padding="same", kernel_initializer=self.initializer, **options
        )

    def norm(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Normalise features."""
        if self.normalization == "batch":
            return layers.BatchNormalization(momentum=self.momentum, epsilon=1e-5)(x)
        if self.normalization == "instance":
            return layers.GroupNormalization(groups=-1, epsilon=1e-5)(x)
        return x

    def pooled(
        self, x: keras.KerasTensor, filters: int, halvings: int, dropout_rate: float
    ) -> keras.KerasTensor:
        """Return the features of a U-Net with max pooling, as large as the input."""

        def level(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
            return layers.ReLU()(self.norm(self.conv(filters * 2**number, 3)(x)))

        kept = []
        for number in range(halvings):
            kept.append(level(x, number))
            x = layers.MaxPooling2D(2)(kept[-1])
        x = level(x, halvings)
        for number in reversed(range(halvings)):
            x = self.conv_up(filters * 2**number, 2, use_bias=True)(x)
            x = level(layers.Concatenate()([x, kept[number]]), number)
            if dropout_rate and number >= halvings - _DROPPING:
                x = layers.Dropout(dropout_rate)(x)
        return x

    def strided(
        self, x: keras.KerasTensor, filters: int, halvings: int, dropout_rate: float
    ) -> keras.KerasTensor:
        """Return the features of the paper's U-Net, half as large as the input."""
        kept = []
        for number in range(halvings):
            # A single value minus its own mean is zero, so there is no instance normalisation.
            bare = number == 0 or (number == halvings - 1 and self.normalization == "instance")
            x = self.conv(filters * min(2**number, 8), 4, 2)(x)
            x = layers.LeakyReLU(negative_slope=0.2)(x if bare else self.norm(x))
            kept.append(x)
        for number in reversed(range(halvings - 1)):
            x = self.norm(self.conv_up(filters * min(2**number, 8), 4)(x))
            if dropout_rate and number >= halvings - 1 - _DROPPING:
                x = layers.Dropout(dropout_rate)(x)
            x = layers.Concatenate()([layers.ReLU()(x), kept[number]])
        return x


def _usual(kind: str) -> Any:
    """Return the initial weights of a kind of network."""
    if kind == "max_pool":
        return "he_normal"
    return keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable(package=PACKAGE, name="Pix2PixDiscriminator")
class Discriminator(keras.Model):
    """Judges every patch of a picture; returns logits (N, rows, columns, 1).

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of the generator's input.
    scale : int
        Enlargement factor of the judged pictures.
    channels : int, optional
        Channels of the judged pictures; by default those of the input.
    params : dict, optional
        Arguments of `__build__`.

    References
    ----------
    Isola et al. 2017, arXiv:1611.07004, section 6.1.2: ``discriminator: patch`` and
    ``conditional``, whose patches are 70 × 70, 2,768,641 trainable parameters.
    """

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int = 1,
        channels: int | None = None,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if None in img_shape:
            raise ConfigError(
                f"a discriminator needs pictures of a fixed size; received {tuple(img_shape)}. Use "
                f"only the generator for pictures of any size."
            )
        self.img_shape, self.scale = tuple(img_shape), int(scale)
        self.params = dict(params or {})
        height, width, inputs = (int(side or 0) for side in self.img_shape)
        self.judged_channels = int(channels or inputs)
        picture = keras.Input(
            (height * self.scale, width * self.scale, self.judged_channels), name="picture"
        )
        condition = keras.Input(self.img_shape, name="condition")
        self.conditional = bool(self.params.get("conditional", False))
        if self.conditional:
            seen = Resize(self.scale)(condition) if self.scale > 1 else condition
            outputs = self.__build__(**self.params)(layers.Concatenate()([seen, picture]))
            super().__init__([condition, picture], outputs, **kwargs)
        else:
            super().__init__(picture, self.__build__(**self.params)(picture), **kwargs)

    def __build__(
        self,
        discriminator: Judge = "max_pool",
        filters: int | None = None,
        num_layers: int = 3,
        conditional: bool = False,
        normalization: Normalization = "batch",
        dropout_rate: float = 0.0,
        kernel_initializer: Any = None,
        momentum: float = 0.9,
    ) -> Graph:
        """Return the function that applies the layers.

        Parameters
        ----------
        discriminator : {'max_pool', 'patch'}
            Five 3 × 3 convolutions with four poolings, or the paper's 4 × 4 convolutions.
        filters : int, optional
            Channels of the first layer: 16 or 64.
        num_layers : int
            Halvings of ``patch``: 3 for patches of 70 × 70, 1 for 16 × 16.
        conditional : bool
            Whether the discriminator uses the generator's input too.
        normalization : {'batch', 'instance', 'none'}
            Normalisation of the features.
        dropout_rate : float
            Share of features dropped after every halving, in training.
        kernel_initializer : str, optional
            Name of a Keras initializer.
        momentum : float
            Momentum of the moving averages of batch normalisation.
        """
        kind = "max_pool" if discriminator == "max_pool" else "strided"
        parts = _Parts(normalization, kernel_initializer or _usual(kind), momentum)
        first = filters or _D_FILTERS[discriminator]

        def dropped(x: keras.KerasTensor) -> keras.KerasTensor:
            return layers.Dropout(dropout_rate)(x) if dropout_rate else x

        def pooling(x: keras.KerasTensor) -> keras.KerasTensor:
            for number in range(5):
                x = parts.conv(first * 2**number, 3)(x)
                # A single value minus its own mean is zero.
                bare = normalization == "instance" and x.shape[1:3] == (1, 1)
                x = layers.ReLU()(x if bare else parts.norm(x))
                if number < 4:
                    x = dropped(layers.MaxPooling2D(2, padding="same")(x))
            return parts.conv(1, 3, use_bias=True, dtype="float32")(x)

        def patches(x: keras.KerasTensor) -> keras.KerasTensor:
            least = 2 ** (num_layers + 2)
            if min(x.shape[1:3]) < least:
                raise ConfigError(
                    f"pictures must have at least {least} × {least} pixels for discriminator patch "
                    f"with d_num_layers {num_layers}; received {x.shape[1]} × {x.shape[2]}. Lower "
                    f"d_num_layers, or use larger pictures."
                )
            for number in range(num_layers + 1):
                last = number == num_layers
                x = layers.ZeroPadding2D(1)(x) if last else x
                padding = {"strides": 1, "padding": "valid"} if last else {"strides": 2}
                x = parts.conv(first * min(2**number, 8), 4, **padding)(x)
                x = layers.LeakyReLU(negative_slope=0.2)(parts.norm(x) if number else x)
                x = x if last else dropped(x)
            x = layers.ZeroPadding2D(1)(x)
            return parts.conv(1, 4, padding="valid", use_bias=True, dtype="float32")(x)

        return pooling if discriminator == "max_pool" else patches

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the model."""
        return {
            "img_shape": self.img_shape,
            "scale": self.scale,
            "channels": self.judged_channels,
            "params": self.params,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Discriminator:
        """Rebuild the model from `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Pix2Pix(Adversarial):
    """Pictures from pictures: a U-Net and a discriminator of patches.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of an input picture.
    scale : int
        Enlargement factor; 1 if input and result have the same size.
    params : dict, optional
        Arguments of `__build__`.
    bicubic_skip : bool
        Add the (enlarged) input to the generator's output.

    References
    ----------
    Isola et al. 2017, arXiv:1611.07004; the loss there is that of the discriminator plus 100 times
    the mean absolute error. Mao et al. 2017, arXiv:1611.04076, for ``adversarial: lsgan``.
    """

    generator_class = Generator
    calming = "d_dropout_rate"

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        params: dict[str, Any] | None = None,
        bicubic_skip: bool = False,
        **kwargs: Any,
    ) -> None:
        given: dict[str, Any] = {"loss_weights": [100, 1], **(params or {})}
        self.loss_weight = check_loss_weight(given["loss_weights"])
        self.d_loss_weight = float(given.get("d_loss_weight", 1.0))
        self.least_squares = given.get("adversarial") == "lsgan"
        super().__init__(img_shape, scale, given, bicubic_skip, **kwargs)

    def __build__(  # type: ignore[override]
        self,
        generator: Kind = "max_pool",
        filters: Count = 64,
        depth: Depth | None = None,
        normalization: Normalization = "batch",
        dropout_rate: Share = 0.0,
        activation: Literal["linear", "sigmoid", "tanh"] = "linear",
        out_channels: Count | None = None,
        discriminator: Judge = "max_pool",
        conditional: bool = False,
        d_filters: Count | None = None,
        d_num_layers: Annotated[Count, Field(le=6)] = 3,
        d_dropout_rate: Share = 0.0,
        adversarial: Literal["bce", "lsgan"] = "bce",
        loss_weights: tuple[Weight, Weight] = (100, 1),
        d_loss_weight: Weight = 1.0,
        kernel_initializer: Initializer | None = None,
        momentum: Share = 0.9,
    ) -> Graph:
        """Build generator and discriminator; other arguments as in their classes.

        Parameters
        ----------
        generator : {'max_pool', 'strided'}
            3 × 3 convolutions and max pooling, or the paper's 4 × 4 convolutions with stride 2.
        discriminator : {'max_pool', 'patch'}
            Five 3 × 3 convolutions with four poolings, or the paper's patches.
        depth : int, default 2, ``strided``: 8
            Number of halvings.
        out_channels : int, default by the source
            Channels of the result.
        kernel_initializer : str, default by ``generator``
            Keras initializer: ``he_normal``; ``strided``: normal with standard deviation 0.02.
        d_filters : int, default 16, ``patch``: 64
            Channels of the discriminator's first layer.
        d_num_layers : int
            ``patch``: halvings; 3 judges 70 × 70 pixels, 1 judges 16 × 16.
        d_dropout_rate : float
            Share of the discriminator's features dropped in training after each halving.
        adversarial : {'bce', 'lsgan'}
            Cross-entropy of the verdicts, or their squared error.
        loss_weights : (float, float)
            Weights of the loss on pictures and of the adversarial loss.
        d_loss_weight : float
            Factor of the discriminator's loss; 0.5 in the paper.
        """
        shared = {
            "normalization": normalization,
            "kernel_initializer": kernel_initializer,
            "momentum": momentum,
        }
        drawing: dict[str, Any] = {
            "generator": generator,
            "filters": filters,
            "depth": depth,
            "dropout_rate": dropout_rate,
            "activation": activation,
            "out_channels": out_channels,
            **shared,
        }
        judging: dict[str, Any] = {
            "discriminator": discriminator,
            "filters": d_filters,
            "num_layers": d_num_layers,
            "conditional": conditional,
            "dropout_rate": d_dropout_rate,
            **shared,
        }
        shape, scale = self.img_shape, self.scale
        self.generator = Generator(shape, scale, drawing, self.bicubic_skip, name="generator")
        self.discriminator = Discriminator(
            shape, scale, out_channels, judging, name="discriminator"
        )
        return self.generator

    def verdicts(self, lr: tf.Tensor, pictures: tf.Tensor, training: bool) -> tf.Tensor:
        """Return the discriminator's logits of every patch, (N, rows, columns, 1)."""
        seen = pictures
        if self.discriminator.conditional:
            seen = [tf.convert_to_tensor(lr), tf.convert_to_tensor(pictures)]
        return self.discriminator(seen, training=training)

    def judge(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """Return the sum of the losses on true and on generated pictures, and mean verdicts."""
        c_real = self.verdicts(lr, real, training)
        c_fake = self.verdicts(lr, fake, training)
        d_loss = self.d_loss_weight * (self._told(c_real, 1.0) + self._told(c_fake, 0.0))
        d_real, d_fake = self._mean(c_real), self._mean(c_fake)
        return {"d_loss": d_loss, "d_real": d_real, "d_fake": d_fake}

    def adversarial_loss(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Return the loss of the verdicts on generated pictures, labelled as true."""
        return self._told(self.verdicts(lr, fake, training), 1.0)

    def _told(self, logits: tf.Tensor, label: float) -> tf.Tensor:
        """Return the difference of the verdicts from a label, averaged over all patches."""
        logits = tf.cast(logits, tf.float32)
        if self.least_squares:
            return tf.reduce_mean(tf.square(logits - label))
        labels = tf.fill(tf.shape(logits), label)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))

    def _mean(self, logits: tf.Tensor) -> tf.Tensor:
        if self.least_squares:
            return tf.reduce_mean(tf.clip_by_value(tf.cast(logits, tf.float32), 0.0, 1.0))
        return mean_logistic(logits)
