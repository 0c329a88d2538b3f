"""Moving average of weights, which is steadier than the weights of a single step."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


class WeightAverage:
    """Exponential moving average of variables, updated inside the training step.

    The momentum starts at 0.1 and grows as (1 + t) / (10 + t), so that the random initial weights
    soon have no influence.

    Parameters
    ----------
    variables : sequence of keras.Variable
        Variables to average.
    momentum : float
        Largest share of the previous average.

    Attributes
    ----------
    state : list of keras.Variable
        The averages and the number of updates, for a checkpoint.
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float) -> None:
        self.momentum = float(momentum)
        self._variables = list(variables)
        self._averages = [
            keras.Variable(v, dtype=v.dtype, trainable=False, name=f"average_{i}")
            for i, v in enumerate(variables)
        ]
        self._count = keras.Variable(0, dtype="int64", trainable=False, name="average_count")
        self.state = [self._count, *self._averages]

    def update(self) -> None:
        """Update the averages with the current values."""
        count = tf.cast(self._count.value, tf.float32)
        momentum = tf.minimum(self.momentum, (1.0 + count) / (10.0 + count))
        for average, variable in zip(self._averages, self._variables, strict=True):
            share = tf.cast(1.0 - momentum, average.dtype)
            average.assign_add((variable.value - average.value) * share)
        self._count.assign_add(1)

    def swap(self) -> None:
        """Exchange the averages with the values of the variables."""
        for average, variable in zip(self._averages, self._variables, strict=True):
            value = variable.numpy()
            variable.assign(average.value)
            average.assign(value)
