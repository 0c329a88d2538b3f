"""From settings to a compiled network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from toolbox.model.build import build_network
from toolbox.model.layer import Conv2DSubPixel, Resize, Scale
from toolbox.registry import LOSSES, METRICS, MODELS, OPTIMIZERS
from toolbox.settings import UserParams
from toolbox.training.schedule import Schedule


class Modeler:
    """Builds and compiles the network that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    max_val, min_val : float
        Data range in the network's units (`Normalizer.max_val`) and its lower end, for PSNR, DSSIM
        and VGG.
    steps_per_epoch : int
        Training steps in an epoch, for the learning-rate schedule.
    facts : dict of str to float
        Properties of the data for losses and metrics, by argument name, e.g. ``pixel_nm``.

    Attributes
    ----------
    models, loss_funcs, optimizers : dict
        Everything that the settings can name.
    custom_layers : dict
        Layers of this project, for ``keras.models.load_model``.
    """

    def __init__(
        self,
        u_params: UserParams,
        max_val: float = 1.0,
        min_val: float = 0.0,
        steps_per_epoch: int = 1,
        facts: Mapping[str, float] | None = None,
    ) -> None:
        self.u_params = u_params
        self.max_val = max_val
        self.min_val = min_val
        self.steps_per_epoch = steps_per_epoch
        self.facts = dict(facts or {})
        self.models = {name: MODELS.resolve(name) for name in MODELS}
        self.custom_layers = {layer.__name__: layer for layer in (Resize, Conv2DSubPixel, Scale)}
        self.loss_funcs = {name: LOSSES.resolve(name) for name in LOSSES}
        self.optimizers = {name: OPTIMIZERS.resolve(name) for name in OPTIMIZERS}

    def build(self, verbose: int = 1) -> keras.Model:
        """Build and compile the model.

        Parameters
        ----------
        verbose : {0, 1}
            1 prints the layers.

        Returns
        -------
        keras.Model
            Compiled, ready for ``fit``.
        """
        p = self.u_params
        model = build_network(p.resolved(), training=True)
        if verbose:
            model.summary()
        options: dict[str, Any] = {
            "loss": self._loss(p.loss, "loss"),
            "optimizer": self._optimizer(p.learning_rate),
            "metrics": [self._ranged(METRICS.resolve(name), name) for name in p.metrics],
            "jit_compile": self._jit_compile(model),
            "steps_per_execution": self._steps_per_execution(model),
            **model.compile_options(p, self._optimizer, self._loss),
        }
        model.compile(**options)
        return model

    def _optimizer(self, learning_rate: float, first_epoch: int = 0) -> keras.Optimizer:
        """Return an optimizer whose first step is in `first_epoch`."""
        p, schedule = self.u_params, self.u_params.lr_schedule
        rate: Any = learning_rate
        if schedule.name not in ("constant", "plateau") or schedule.warmup_epochs:
            rate = Schedule(
                learning_rate,
                schedule.name,
                total=p.epochs * self.steps_per_epoch,
                warmup=round(schedule.warmup_epochs * self.steps_per_epoch),
                step_size=max(1, round((schedule.step_epochs or 1) * self.steps_per_epoch)),
                gamma=schedule.gamma,
                final=schedule.final,
                offset=first_epoch * self.steps_per_epoch,
            )
        moments = {} if p.beta_1 is None else {"beta_1": p.beta_1}
        optimizer: keras.Optimizer = self.optimizers[p.optimizer](
            learning_rate=rate, global_clipnorm=p.clip_norm, **moments
        )
        return optimizer

    def _loss(self, spec: str | dict[str, float], label: str) -> Callable[..., Any]:
        """Return one loss, or the weighted sum of several."""
        weights = {spec: 1.0} if isinstance(spec, str) else spec
        terms = [
            (self._ranged(self.loss_funcs[name], name), weight)
            for name, weight in weights.items()
            if weight
        ]

        def weighted(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
            return tf.add_n([weight * term(y_true, y_pred) for term, weight in terms])

        weighted.__name__ = label
        return weighted

    def _ranged(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Bind the arguments that come from the data and from the section; name the column."""
        values = {"min_val": self.min_val, **self.facts}
        values |= self.u_params.loss_params.get(name, {})
        known = inspect.signature(function).parameters
        # A loss and a metric with the same name share a section, but may have different settings.
        fixed = {"max_val": self.max_val, **{k: v for k, v in values.items() if k in known}}

        def ranged(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
            return function(y_true, y_pred, **fixed)

        ranged.__name__ = name
        return ranged

    def _jit_compile(self, model: Any) -> bool | str:
        setting = self.u_params.jit_compile
        if setting is not None:
            return setting
        if tf.config.list_physical_devices("GPU"):
            return "auto"
        return bool(model.xla_pays_on_cpu)

    def _steps_per_execution(self, model: Any) -> int:
        setting = self.u_params.steps_per_execution
        return int(model.best_steps_per_execution if setting is None else setting)
