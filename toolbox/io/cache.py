"""The folder in which downloads are kept, found without importing Keras."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def keras_home() -> Path:
    """Return the cache folder of Keras, which may not exist."""
    if named := os.environ.get("KERAS_HOME"):
        return Path(named).expanduser().absolute()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


def user_cache() -> Path:
    """Return the folder that this project keeps small files of its user in, there or not."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():  # the convention has relative paths ignored
        return Path(named, "sr-toolbox")
    try:
        return Path.home() / ".cache" / "sr-toolbox"
    except RuntimeError:  # a user whom the system does not know
        return Path(tempfile.gettempdir(), "sr-toolbox")
