"""The folder in which downloads are kept, found without importing Keras."""

from __future__ import annotations

import os
from pathlib import Path


def keras_home() -> Path:
    """Return the cache folder of Keras, which may not exist."""
    if named := os.environ.get("KERAS_HOME"):
        return Path(named).expanduser().absolute()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"
