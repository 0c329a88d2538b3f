"""Adam and AdamW with one operation a weight, where Keras takes about fifteen.

The numbers are Keras's up to the last digit. For a small network the operations of the optimizer
take as long as those of its layers, and tracing them takes longer.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from toolbox.model.layer import PACKAGE


class _OneOperation:
    """Updates a weight and its two moments in one operation; comes before an Adam of Keras."""

    amsgrad: bool
    beta_1: float
    beta_2: float
    epsilon: float
    iterations: Any
    _momentums: list[Any]
    _velocities: list[Any]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take the step of one weight; arguments as in ``keras.optimizers.Adam``."""
        number = self._get_variable_index(variable)  # type: ignore[attr-defined]
        parts = variable, self._momentums[number], self._velocities[number]
        weight, mean, square = (p.value if isinstance(p, keras.Variable) else p for p in parts)
        # Weights of several devices have no single handle; embeddings have sparse gradients.
        several = tf.distribute.has_strategy()
        if several or self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
            return
        kind = weight.dtype
        step = tf.cast(self.iterations + 1, kind)
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, kind), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, kind), step),
            lr=tf.cast(learning_rate, kind),
            beta1=tf.cast(self.beta_1, kind),
            beta2=tf.cast(self.beta_2, kind),
            epsilon=tf.cast(self.epsilon, kind),
            grad=tf.cast(gradient, kind),
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class Adam(_OneOperation, keras.optimizers.Adam):
    """Adam; see ``keras.optimizers.Adam``.

    References
    ----------
    Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """


@keras.saving.register_keras_serializable(package=PACKAGE)
class AdamW(_OneOperation, keras.optimizers.AdamW):
    """Adam with decoupled weight decay; see ``keras.optimizers.AdamW``.

    References
    ----------
    Loshchilov and Hutter 2019, arXiv:1711.05101.
    """
