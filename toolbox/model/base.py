"""Base of every super-resolution network: signature, bicubic skip, configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras

from toolbox.errors import ConfigError
from toolbox.model.average import WeightAverage
from toolbox.model.layer import Resize

Graph = Callable[[keras.KerasTensor], keras.KerasTensor]


class SRModel(keras.Model):
    """A functional network from (N, h, w, C) to (N, h * scale, w * scale, C).

    A subclass implements `__build__`, whose arguments are the settings of its YAML section.

    Parameters
    ----------
    img_shape : (int or None, int or None, int)
        Shape of a low-resolution image (h, w, C); None for any size.
    scale : int
        Enlargement factor.
    params : dict, optional
        Arguments of `__build__`; all others keep their defaults.
    bicubic_skip : bool
        Add the bicubic enlargement of the input to the output, so that the network learns only
        what bicubic misses.
    """

    #: Whether XLA is faster, measured on two CPU cores by ``benchmarks/training_step.py``.
    xla_pays_on_cpu: ClassVar[bool] = False
    #: Training steps per call of the compiled function, measured in the same way.
    best_steps_per_execution: ClassVar[int] = 8
    #: Kind of output: ``images``, or ``labels`` of the images; see `Task.results`.
    results: ClassVar[str] = "images"
    #: Whether a stage without a discriminator (``pretrain_epochs``) may come first.
    is_staged: ClassVar[bool] = False

    def __init__(
        self,
        img_shape: Sequence[int | None],
        scale: int,
        params: dict[str, Any] | None = None,
        bicubic_skip: bool = False,
        **kwargs: Any,
    ) -> None:
        self.img_shape = tuple(img_shape)
        self.scale = int(scale)
        self.params = dict(params or {})
        self.bicubic_skip = bool(bicubic_skip)
        #: Moving average of the weights, updated by every training step; see `keep_average`.
        self.average: WeightAverage | None = None
        inputs = self._inputs()
        # This precedes super(): a network inside makes Keras change the bases of this class.
        outputs = self._outputs(inputs)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

    def _inputs(self) -> Any:
        """Return the inputs; several inputs have the structure of the data."""
        return keras.Input(self.img_shape, name="low_resolution")

    def _outputs(self, inputs: Any) -> keras.KerasTensor:
        outputs = self.__build__(**self.params)(inputs)
        if self.bicubic_skip:
            enlarged = Resize(self.scale, name="bicubic_skip")(inputs)
            outputs = keras.layers.Add(dtype="float32", name="add_skip")([outputs, enlarged])
        return outputs

    def __build__(self, **params: Any) -> Graph:
        """Return the function that applies the layers."""
        raise TypeError(f"{type(self).__name__} must define __build__")

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return int(self.img_shape[-1] or 1)

    @property
    def out_channels(self) -> int:
        """Number of channels of the result."""
        return self.channels

    @property
    def multiple(self) -> int:
        """Number of pixels of which the start of every tile must be a multiple.

        The windows of attention then have the same positions in a tile as in the whole image.
        """
        # Attention works on features of the input's size, before they are enlarged.
        layers = self._flatten_layers(include_self=False)
        return math.lcm(*(getattr(layer, "tiles_start_at", 1) for layer in layers))

    def network(self) -> keras.Model:
        """Return the network from LR to HR images, whose weights a weights file holds."""
        return self

    def keep_average(self, momentum: float) -> None:
        """Let every training step keep a moving average of the weights of `network`.

        Parameters
        ----------
        momentum : float
            Share of the previous average, e.g. 0.999.
        """
        self.average = WeightAverage(self.network().trainable_variables, momentum)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on one batch; see ``keras.Model.train_step``."""
        logs = super().train_step(data)
        if self.average is not None:
            self.average.update()
        return logs

    @property
    def output_dtype(self) -> str | None:
        """Precision of the output layer, for its ``dtype``.

        Under mixed precision, eight bits are too few for a full depth, so the output layer computes
        in float32. The addition to the bicubic skip is small and may follow the policy.
        """
        return None if self.bicubic_skip else "float32"

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the settings that a YAML section of this model may hold."""
        signature = inspect.signature(cls.__build__, eval_str=True)
        return {name: p for name, p in signature.parameters.items() if name != "self"}

    @classmethod
    def network_parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the entries of `parameters` that determine the shape of `network`."""
        return cls.parameters()

    @classmethod
    def network_class(cls) -> type[SRModel]:
        """Return the class of `network`."""
        return cls

    @classmethod
    def figure_names(cls, judged: bool = True) -> tuple[str, ...]:
        """Return the columns of the history that this kind of network adds.

        Parameters
        ----------
        judged : bool
            Whether a discriminator takes part in any stage.
        """
        return ()

    def set_stage(self, adversarial: bool) -> None:
        """Choose whether a discriminator takes part; networks without one have a single stage."""

    @classmethod
    def compile_options(
        cls,
        settings: Any,
        make_optimizer: Callable[[float, int], Any],
        make_loss: Callable[[Any, str], Any],
    ) -> dict[str, Any]:
        """Return arguments of `compile` in addition to loss, optimizer and metrics.

        Parameters
        ----------
        settings : object
            Settings of the run, as attributes.
        make_optimizer : callable
            ``make_optimizer(learning_rate, first_epoch)``.
        make_loss : callable
            ``make_loss(spec, label)``.
        """
        return {}

    @classmethod
    def learning_rates(cls, settings: Any) -> dict[str, float]:
        """Return the initial learning rates by the attribute that holds the optimizer."""
        return {"optimizer": settings.learning_rate}

    @classmethod
    def used_shape(cls, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """Return the shape of images that a trained network accepts: any size, same channels."""
        return (None, None, shape[-1])

    def for_any_size(self) -> SRModel:
        """Return this network, or a copy with the same weights, for images of any size."""
        if self.img_shape[:2] == (None, None):
            return self
        config = {**self.get_config(), "img_shape": (None, None, self.channels)}
        twin = type(self).from_config(config)
        twin.set_weights(self.get_weights())
        return twin

    def fresh_weights(self) -> list[Any]:
        """Return newly drawn initial weights, in the order of `get_weights`."""
        return type(self).from_config(self.get_config()).get_weights()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the model."""
        return {
            "img_shape": self.img_shape,
            "scale": self.scale,
            "params": self.params,
            "bicubic_skip": self.bicubic_skip,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SRModel:
        """Rebuild the model from `get_config`."""
        return cls(**config)


def check_kernels(filters: Sequence[int], kernels: Sequence[int]) -> None:
    """Check that the list of kernel sizes matches the list of filters."""
    if len(kernels) != len(filters) + 1:
        raise ConfigError(
            f"kernels must have one entry more than filters {list(filters)}; received "
            f"{list(kernels)}. The last kernel belongs to the output layer."
        )
