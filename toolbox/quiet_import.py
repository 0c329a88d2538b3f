"""Import TensorFlow without the notes that its core prints before it reads the log level.

A worker of Dask preloads this module: `dask_setup` is called before it takes any work.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from toolbox.errors import MissingLibraryError


def import_tensorflow() -> None:
    """Import TensorFlow; what it prints is shown only if that fails.

    Raises
    ------
    MissingLibraryError
        If it is not installed.
    """
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


def dask_setup(worker: Any) -> None:
    """Import TensorFlow in a worker of Dask."""
    import_tensorflow()
