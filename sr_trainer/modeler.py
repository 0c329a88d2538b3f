"""From settings to a compiled network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from sr_trainer.user_params import UserParams
from toolbox.model.layer import Conv2DSubPixel, Resize, Scale
from toolbox.registry import LOSSES, METRICS, MODELS, OPTIMIZERS


class Modeler:
    """Builds and compiles the network that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    max_val : float
        Data range in the network's units (`Normalizer.max_val`), for PSNR and DSSIM.

    Attributes
    ----------
    models, loss_funcs, optimizers : dict
        What the settings can name.
    custom_layers : dict
        Layers of this project, for ``keras.models.load_model``.
    """

    def __init__(self, u_params: UserParams, max_val: float = 1.0) -> None:
        self.u_params = u_params
        self.max_val = max_val
        self.models = {name: MODELS.resolve(name) for name in MODELS}
        self.custom_layers = {layer.__name__: layer for layer in (Resize, Conv2DSubPixel, Scale)}
        self.loss_funcs = {name: LOSSES.resolve(name) for name in LOSSES}
        self.optimizers = {name: OPTIMIZERS.resolve(name) for name in OPTIMIZERS}

    def build(self, verbose: int = 1) -> keras.Model:
        """Build and compile the model.

        Parameters
        ----------
        verbose : {0, 1}
            Print the layers.

        Returns
        -------
        keras.Model
            Ready for ``fit``.
        """
        p = self.u_params
        keras.config.set_dtype_policy(p.precision)
        model = self.models[p.model](p.input_shape, p.scale, p.model_params, p.bicubic_skip)
        if verbose:
            model.summary()
        model.compile(
            loss=self._ranged(self.loss_funcs[p.loss], "loss"),
            optimizer=self.optimizers[p.optimizer](learning_rate=p.learning_rate),
            metrics=[self._ranged(METRICS.resolve(name), name) for name in METRICS],
            jit_compile=self._jit_compile(model),
            steps_per_execution=self._steps_per_execution(model),
        )
        return model

    def _ranged(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Fix the data range of a loss or metric and give it its column's name."""

        def ranged(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
            return function(y_true, y_pred, self.max_val)

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
