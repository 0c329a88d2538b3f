"""Preparation of TensorFlow: messages, GPU memory, seeds."""

from __future__ import annotations

import os
import sys
import tempfile

from toolbox.errors import MissingLibraryError


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
        _import_quietly()
        import keras
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if seed is not None:
            keras.utils.set_random_seed(seed)


def _import_quietly() -> None:
    """Import TensorFlow without the notes that its core prints before it reads the log level."""
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        screen = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            raise MissingLibraryError(
                f"TensorFlow is not installed in this Python, {sys.executable}. Activate the "
                f"environment of the toolbox (source .venv/bin/activate), or install its "
                f"dependencies: python -m pip install -r requirements.txt"
            ) from None
        except BaseException:
            notes.seek(0)
            os.write(screen, notes.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
