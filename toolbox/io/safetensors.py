"""Files of tensors by name (``.safetensors``), which hold numbers and text but no code.

See https://github.com/huggingface/safetensors; the library is in the extra ``export``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.extras import install_command


def safetensors_library() -> Any:
    """Import the library.

    Raises
    ------
    MissingLibraryError
        If it is not installed.
    """
    try:
        importlib.import_module("safetensors.numpy")
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise MissingLibraryError(
            f".safetensors files need the library safetensors, which cannot be imported ({error}). "
            f"Run: {install_command('export')}"
        ) from error


def write_safetensors(
    tensors: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name; the file appears complete or not at all.

    Parameters
    ----------
    tensors : mapping of str to numpy.ndarray
        Numeric arrays.
    path : path-like
        Final name.
    metadata : mapping of str to str, optional
        Text to store with the arrays.
    """
    library = safetensors_library()
    # The library writes the memory of an array and ignores its strides.
    whole = {name: np.array(array, order="C") for name, array in tensors.items()}
    with replacing(path) as beside:
        library.numpy.save_file(whole, beside, dict(metadata or {}))


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of a file.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds a number type that NumPy does not know.
    MissingLibraryError
        If the library is not installed.
    """
    library = safetensors_library()
    if not Path(path).is_file():
        raise DataError(f"{not_found(path, 'file')}. Name an existing .safetensors file.")
    try:
        tensors = library.numpy.load_file(path)
        return {name: np.array(array) for name, array in tensors.items()}
    except (library.SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not a readable safetensors file ({str(error).splitlines()[0]}). Save its "
            f"tensors as float32 or float16."
        ) from None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the text metadata of a file, whichever program wrote it."""
    with safetensors_library().safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})
