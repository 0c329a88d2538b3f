"""Learning rates that change during training."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from toolbox.model.layer import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a constant, stepwise falling or cosine learning rate.

    It depends only on the optimizer's step, so a resumed training run needs no state for it.

    Parameters
    ----------
    learning_rate : float
        Rate after the warm-up.
    name : {'constant', 'step', 'cosine'}
        Constant; multiplied by `gamma` every `step_size` steps; or falling like a cosine
        (Loshchilov and Hutter 2017, arXiv:1608.03983) to `final` of the rate at step `total`.
    total : int
        Steps of the training run.
    warmup : int
        Steps from zero to the rate.
    step_size : int
        Steps between two reductions.
    gamma : float
        Factor of a reduction.
    final : float
        Share of the rate at the end of a cosine.
    offset : int
        Steps of the training run before this optimizer's first step.
    """

    def __init__(
        self,
        learning_rate: float,
        name: str = "constant",
        total: int = 1,
        warmup: int = 0,
        step_size: int = 1,
        gamma: float = 0.5,
        final: float = 0.0,
        offset: int = 0,
    ) -> None:
        self.config: dict[str, Any] = {
            "learning_rate": float(learning_rate),
            "name": name,
            "total": int(total),
            "warmup": int(warmup),
            "step_size": int(step_size),
            "gamma": float(gamma),
            "final": float(final),
            "offset": int(offset),
        }

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate of `step`, counted from 0."""
        c = self.config
        at = tf.cast(step, tf.float32) + c["offset"]
        if c["name"] == "step":
            factor = tf.pow(c["gamma"], tf.floor(at / c["step_size"]))
        elif c["name"] == "cosine":
            share = tf.minimum(at / c["total"], 1.0)
            factor = c["final"] + (1 - c["final"]) * (1 + tf.cos(math.pi * share)) / 2
        else:
            factor = tf.ones_like(at)
        rising = tf.minimum((at + 1) / max(c["warmup"], 1), 1.0)
        return c["learning_rate"] * factor * rising

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the schedule."""
        return dict(self.config)
