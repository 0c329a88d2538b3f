"""Building blocks for super-resolution of scientific images (networks, losses, data, reports)."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give `load_model`; TensorFlow is imported when it is asked for, not before."""
    if name == "load_model":
        from toolbox.run import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
