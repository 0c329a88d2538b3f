"""Building blocks for super-resolution of scientific images (networks, losses, data, reports).

The names in `__all__` are public; ``docs/support.md`` lists them. Each is imported on first use, so
that ``import toolbox`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolbox.data_generator import Batches
    from toolbox.errors import (
        ConfigError,
        DataError,
        MissingLibraryError,
        ToolboxError,
        WeightsError,
    )
    from toolbox.inference.super_resolver import SuperResolver
    from toolbox.model.base import SRModel
    from toolbox.normalizer import Normalizer
    from toolbox.pretrained import pretrained_names
    from toolbox.run import Run, load_model
    from toolbox.settings import UserParams
    from toolbox.task import Source, Task, TestResult

__version__ = "1.0.0"
__all__ = [
    "Batches",
    "ConfigError",
    "DataError",
    "MissingLibraryError",
    "Normalizer",
    "Run",
    "SRModel",
    "Source",
    "SuperResolver",
    "Task",
    "TestResult",
    "ToolboxError",
    "UserParams",
    "WeightsError",
    "__version__",
    "load_model",
    "pretrained_names",
]
_MODULES = {
    "Batches": "data_generator",
    "ConfigError": "errors",
    "DataError": "errors",
    "MissingLibraryError": "errors",
    "Normalizer": "normalizer",
    "Run": "run",
    "SRModel": "model.base",
    "Source": "task",
    "SuperResolver": "inference.super_resolver",
    "Task": "task",
    "TestResult": "task",
    "ToolboxError": "errors",
    "UserParams": "settings",
    "WeightsError": "errors",
    "load_model": "run",
    "pretrained_names": "pretrained",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, and TensorFlow only with a name that needs it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the names for ``dir(toolbox)``, including those not imported yet."""
    return sorted({*globals(), *__all__})
