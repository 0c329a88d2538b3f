"""Base of SRGAN and ESRGAN: a generator and a discriminator trained in one fused step."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from toolbox.errors import ConfigError
from toolbox.model.base import SRModel

#: Names of the figures that the discriminator adds to the history.
DISCRIMINATOR_FIGURES = ("d_loss", "d_real", "d_fake")


class Adversarial(SRModel):
    """A generator that learns from a loss on images and from a discriminator.

    A training step runs the generator once. The discriminator learns to distinguish its images
    from true ones, then the generator learns from the updated discriminator. While `adversarial`
    is false (see `set_stage`), the generator learns only from the loss on images.

    A subclass provides `__build__`, which sets `generator` and `discriminator`, and two losses.

    Attributes
    ----------
    generator : SRModel
        Network from LR to HR images; a weights file holds its weights.
    discriminator : keras.Model
        Distinguishes true images from generated ones.
    loss_weight : list of float
        Weights of the loss on images and of the adversarial loss in ``g_loss``.
    d_optimizer : keras.Optimizer
        Optimizer of the discriminator; `optimizer` is that of the generator.
    loss, pixel_loss : callable
        Loss on images in the adversarial stage and in the stage before it.
    """

    #: Measured: more steps per call gain nothing, and a single step can be stopped sooner.
    best_steps_per_execution = 1
    is_staged = True
    #: Settings to change if the discriminator wins, for messages.
    calming: ClassVar[str] = "dropout_rate"
    #: Class of `generator`.
    generator_class: ClassVar[type[SRModel]]
    generator: SRModel
    discriminator: keras.Model
    loss_weight: list[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.adversarial = True
        self._keep_metrics = False
        super().__init__(*args, **kwargs)
        self.d_optimizer: Any = None
        self.pixel_loss: Any = None
        names = ("loss", "g_loss", *DISCRIMINATOR_FIGURES)
        self._figures = {name: keras.metrics.Mean(name=name) for name in names}

    def _outputs(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return self.__build__(**self.params)(inputs)

    def network(self) -> keras.Model:
        """Return the generator, whose weights a weights file holds."""
        return self.generator

    @property
    def out_channels(self) -> int:
        """Number of channels of the result."""
        return self.generator.out_channels

    @classmethod
    def network_parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the settings of the generator."""
        own = cls.generator_class.parameters()
        return {name: p for name, p in cls.parameters().items() if name in own}

    @classmethod
    def network_class(cls) -> type[SRModel]:
        """Return the class of the generator."""
        return cls.generator_class

    @classmethod
    def figure_names(cls, judged: bool = True) -> tuple[str, ...]:
        """Return ``g_loss`` and, if a discriminator takes part, its figures."""
        return ("g_loss", *(DISCRIMINATOR_FIGURES if judged else ()))

    @classmethod
    def compile_options(
        cls,
        settings: Any,
        make_optimizer: Callable[[float, int], Any],
        make_loss: Callable[[Any, str], Any],
    ) -> dict[str, Any]:
        """Return the discriminator's optimizer and the loss of the stage before it."""
        rate = cls.learning_rates(settings)["d_optimizer"]
        return {
            "d_optimizer": make_optimizer(rate, settings.pretrain_epochs),
            "pixel_loss": make_loss(settings.pretrain_loss, "pixel_loss"),
        }

    @classmethod
    def learning_rates(cls, settings: Any) -> dict[str, float]:
        """Return the learning rates of generator and discriminator."""
        own = settings.learning_rate
        return {"optimizer": own, "d_optimizer": settings.d_learning_rate or own}

    # The two losses -----------------------------------------------------------------------------

    @abstractmethod
    def judge(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """Return ``d_loss`` and the mean verdicts ``d_real`` and ``d_fake`` (0 to 1, 1 for real).

        Parameters
        ----------
        lr : tf.Tensor, shape (N, h, w, C)
            Input of the generator, which a conditional discriminator uses too.
        real, fake : tf.Tensor, shape (N, H, W, C)
            True and generated images.
        training : bool
            Whether the discriminator learns from the verdicts.
        """

    @abstractmethod
    def adversarial_loss(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Return the generator's loss for images recognised as generated; see `judge`."""

    # Training -----------------------------------------------------------------------------------

    def compile(  # type: ignore[override]
        self,
        loss: str | Callable[..., tf.Tensor],
        optimizer: Any,
        metrics: list[Any] | None = None,
        d_optimizer: Any = None,
        pixel_loss: str | Callable[..., tf.Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Compile generator, discriminator and the training step.

        Parameters
        ----------
        loss : str or callable
            Loss on images, ``f(y_true, y_pred)``, one value per image or pixel.
        optimizer : str or keras.Optimizer
            Optimizer of the generator.
        metrics : list, optional
            PSNR, DSSIM, ...
        d_optimizer : str or keras.Optimizer, optional
            Optimizer of the discriminator; by default a copy of `optimizer`.
        pixel_loss : str or callable, optional
            Loss of the stage before the adversarial one; by default `loss`.
        **options
            ``jit_compile``, ``steps_per_execution`` and other options of ``keras.Model.compile``.
        """
        optimizer = keras.optimizers.get(optimizer)
        if d_optimizer is None:
            d_optimizer = type(optimizer).from_config(optimizer.get_config())
        super().compile(optimizer=optimizer, metrics=metrics, **options)
        self._loss_tracker = None  # "loss" is one of the figures defined here
        self.d_optimizer = keras.optimizers.get(d_optimizer)
        if self.optimizer is not optimizer:  # mixed_float16: Keras scales only this one's loss
            self.d_optimizer = keras.optimizers.LossScaleOptimizer(self.d_optimizer)
        # An optimizer that is not built would be restored without its slots.
        self.optimizer.build(self.generator.trainable_variables)
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.loss = keras.losses.get(loss)
        self.pixel_loss = self.loss if pixel_loss is None else keras.losses.get(pixel_loss)

    def set_stage(self, adversarial: bool) -> None:
        """Choose whether the discriminator takes part in training and evaluation."""
        if adversarial != self.adversarial:
            self.adversarial = adversarial
            self.train_function = self.test_function = None

    @property
    def metrics(self) -> list[keras.Metric]:
        """Figures of the current stage; those of the discriminator only when it takes part."""
        hidden = () if self.adversarial else DISCRIMINATOR_FIGURES
        shown = [metric for name, metric in self._figures.items() if name not in hidden]
        own = {id(metric) for metric in self._figures.values()}
        return shown + [metric for metric in super().metrics if id(metric) not in own]

    @property
    def metrics_variables(self) -> list[Any]:
        """Sums of the figures of both stages, so that a saved state serves both."""
        every = {id(metric): metric for metric in (*self._figures.values(), *super().metrics)}
        return [variable for metric in every.values() for variable in metric.variables]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Update the discriminator, then the generator, with one forward pass of the generator."""
        lr, hr, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            fake = self.generator(lr, training=True)
            image_loss = self._on_images(hr, fake, sample_weight)
            g_loss = image_loss
        figures = {"loss": image_loss}
        if self.adversarial:
            # Neither the verdict nor the update of the discriminator is on the generator's tape.
            figures |= self._train_discriminator(lr, hr, tf.stop_gradient(fake))
            with tape:
                g_loss = self._g_loss(image_loss, lr, hr, fake, training=True)
        with tape:
            scaled = self.optimizer.scale_loss(g_loss)
        variables = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        if self.average is not None:
            self.average.update()
        return self._report({**figures, "g_loss": g_loss}, hr, fake, sample_weight)

    def _train_discriminator(
        self, lr: tf.Tensor, real: tf.Tensor, fake: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            figures = self.judge(lr, real, fake, training=True)
            scaled = self.d_optimizer.scale_loss(figures["d_loss"])
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(scaled, variables), variables)
        return figures

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluate one batch with the same figures as in training."""
        lr, hr, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        fake = self.generator(lr, training=False)
        image_loss = g_loss = self._on_images(hr, fake, sample_weight)
        figures = {"loss": image_loss}
        if self.adversarial:
            figures |= self.judge(lr, hr, fake, training=False)
            g_loss = self._g_loss(image_loss, lr, hr, fake, training=False)
        return self._report({**figures, "g_loss": g_loss}, hr, fake, sample_weight)

    def _g_loss(
        self,
        image_loss: tf.Tensor,
        lr: tf.Tensor,
        real: tf.Tensor,
        fake: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        adversarial = self.adversarial_loss(lr, real, fake, training)
        return self.loss_weight[0] * image_loss + self.loss_weight[1] * adversarial

    def _on_images(self, hr: tf.Tensor, fake: tf.Tensor, sample_weight: Any) -> tf.Tensor:
        function = self.loss if self.adversarial else self.pixel_loss
        values = tf.cast(function(hr, fake), tf.float32)
        if sample_weight is not None:
            if not values.shape.rank:
                raise ValueError("sample_weight needs a loss of one value per image or pixel")
            per_image = tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
            values = per_image * tf.cast(tf.reshape(sample_weight, [-1]), tf.float32)
        return tf.reduce_mean(values)

    def _report(
        self, figures: dict[str, tf.Tensor], hr: tf.Tensor, fake: tf.Tensor, sample_weight: Any
    ) -> dict[str, tf.Tensor]:
        count = tf.cast(tf.shape(hr)[0], tf.float32)  # the last batch may be short
        for name, value in figures.items():
            self._figures[name].update_state(value, count)
        return self.compute_metrics(None, hr, fake, sample_weight)

    # The manual's methods -----------------------------------------------------------------------

    def get_compile_config(self) -> dict[str, Any]:
        """Return an empty dict: the user compiles a loaded model."""
        return {}

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the layers of the generator, of the discriminator and of the complete model."""
        self.generator.summary(*args, **kwargs)
        self.discriminator.summary(*args, **kwargs)
        super().summary(*args, **kwargs)

    def train_on_batch(  # type: ignore[override]
        self,
        lr_imgs: np.ndarray,
        hr_imgs: np.ndarray,
        sample_weight: np.ndarray | None = None,
        class_weight: Any = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """Train discriminator and generator on one batch, as a step of `fit` does.

        Parameters
        ----------
        lr_imgs, hr_imgs : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
            The batch.
        sample_weight : numpy.ndarray, shape (N,), optional
            Weights of the images in the loss on images.
        class_weight : None
            Images have no classes.
        reset_metrics : bool
            Report only this batch instead of the means since the last reset.
        return_dict : bool
            Return names and values instead of values.

        Returns
        -------
        list of float or dict of str to float
            Losses and metrics, in the order of ``metrics_names``.
        """
        if class_weight is not None:
            raise ValueError("images have no classes: class_weight must be None")
        return self._on_batch(
            super().train_on_batch, (lr_imgs, hr_imgs, sample_weight), reset_metrics, return_dict
        )

    def test_on_batch(  # type: ignore[override]
        self,
        lr_imgs: np.ndarray,
        hr_imgs: np.ndarray,
        sample_weight: np.ndarray | None = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """Evaluate one batch; arguments and result as in `train_on_batch`."""
        return self._on_batch(
            super().test_on_batch, (lr_imgs, hr_imgs, sample_weight), reset_metrics, return_dict
        )

    def _on_batch(self, method: Any, batch: tuple[Any, ...], reset: bool, return_dict: bool) -> Any:
        self._keep_metrics = not reset
        try:
            return method(*batch, return_dict=return_dict)
        finally:
            self._keep_metrics = False

    def reset_metrics(self) -> None:
        """Reset the means; Keras calls this before every batch of `train_on_batch`."""
        if not self._keep_metrics:
            super().reset_metrics()

    def predict(  # type: ignore[override]
        self,
        x: np.ndarray,
        batch_size: int | None = None,
        verbose: int = 0,
        steps: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Super-resolve images with the generator.

        Parameters
        ----------
        x : numpy.ndarray, shape (N, h, w, C)
            LR images.
        batch_size : int, optional
            Images per batch.
        verbose : {0, 1}
            Whether to show a progress bar.
        steps : int, optional
            Number of batches of an endless data set.

        Returns
        -------
        numpy.ndarray, shape (N, H, W, C)
            HR images.
        """
        return self.generator.predict(
            x, batch_size=batch_size, verbose=verbose, steps=steps, **options
        )


def mean_logistic(logits: tf.Tensor) -> tf.Tensor:
    """Return the mean of the sigmoid, in float32."""
    return tf.reduce_mean(tf.sigmoid(tf.cast(logits, tf.float32)))


def check_loss_weight(weights: Sequence[float]) -> list[float]:
    """Return the weights of the image loss and the adversarial loss, or raise ConfigError."""
    usable = len(weights) == 2 and all(np.isfinite(w) and w >= 0 for w in weights)
    if not usable or not any(weights):
        raise ConfigError(
            f"loss_weights must be two numbers of at least 0, one of them above 0, for the loss on "
            f"images and the adversarial loss; received {list(weights)}. Use [1, 1e-7]."
        )
    return [float(w) for w in weights]
