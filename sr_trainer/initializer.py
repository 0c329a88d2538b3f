"""Preparation of TensorFlow: messages, GPU memory, seeds."""

from __future__ import annotations

import os

from toolbox.quiet_import import import_tensorflow


class Initializer:
    """Prepares the process for TensorFlow."""

    @staticmethod
    def tf_init(log_level: str = "3", seed: int | None = None) -> None:
        """Silence TensorFlow's messages, let GPU memory grow, fix the seeds.

        Parameters
        ----------
        log_level : {'0', '1', '2', '3'}
            What TensorFlow's C++ core prints: everything, warnings and errors, errors, nothing.
        seed : int, optional
            Seed of Python, NumPy and Keras; None leaves them random.
        """
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = log_level
        import_tensorflow()
        import keras
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if seed is not None:
            keras.utils.set_random_seed(seed)
