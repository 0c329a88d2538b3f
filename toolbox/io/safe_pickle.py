"""Pickles of plain NumPy arrays, read without executing anything in them."""

from __future__ import annotations

import codecs
import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.nesting import expanded_size


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Replace ``_codecs.encode``, which old pickles use to store raw bytes."""
    if encoding != "latin1":
        raise ForbiddenError(f"encoding {encoding!r}")
    return codecs.encode(text, "latin1")


def _no_bytes() -> bytes:
    """Replace ``bytes()``, with which old pickles store an empty array."""
    return b""


def _numpy_reconstructors() -> dict[tuple[str, str], Any]:
    reconstruct = np.zeros(0).__reduce__()[0]
    frombuffer = np.zeros(1).__reduce_ex__(5)[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode_latin1,
        ("__builtin__", "bytes"): _no_bytes,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.numeric", "_frombuffer"] = frombuffer
    return allowed


class ForbiddenError(Exception):
    """The pickle names something that is not a plain array."""


class ArrayUnpickler(pickle._Unpickler):
    """Python's unpickler in pure Python: the one in C reserves memory by numbers in the file.

    Parameters
    ----------
    file : binary file
        The pickle.

    Attributes
    ----------
    allowed : dict of (str, str) to object
        What a pickle may name, by module and name; a subclass may allow others.
    """

    allowed = _numpy_reconstructors()

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle; any other is a `ForbiddenError`."""
        try:
            return self.allowed[module, name]
        except KeyError:
            raise ForbiddenError(f"{module}.{name}") from None


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one NumPy array (or a list of equal arrays) from a pickle.

    Parameters
    ----------
    path : path-like
        A ``.pkl`` file written by any Python 3 and NumPy.

    Returns
    -------
    numpy.ndarray
        The array; a list of arrays is stacked along a new first axis.

    Raises
    ------
    DataError
        If the file is missing or damaged, or names anything other than plain arrays. Nothing in
        it is executed.
    """
    try:
        with open(path, "rb") as stream:
            content = _load(stream)
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Name an existing .pkl file.") from None
    except ForbiddenError as error:
        raise DataError(
            f"{path}: expected a pickle of plain NumPy arrays; received {error}, which is never "
            f"executed. Save the array itself with pickle.dump(array, file)."
        ) from None
    except OSError:
        raise
    except MemoryError:
        raise DataError(
            f"{path}: needs more memory than is available. It is too large for this machine, or "
            f"damaged."
        ) from None
    except Exception as error:  # a damaged pickle may raise anything, such as OverflowError
        words = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a readable pickle; it may be damaged ({type(error).__name__}: {words})."
        ) from None
    return _as_array(content, path)


def _load(stream: BinaryIO) -> Any:
    return ArrayUnpickler(stream).load()


def _as_array(content: Any, path: str | os.PathLike[str]) -> np.ndarray:
    if not isinstance(content, (np.ndarray, list, tuple)):
        raise DataError(f"{path}: expected an array of numbers; received {type(content).__name__}.")
    try:
        # Every item of a genuine pickle takes at least one byte.
        if expanded_size(content) > Path(path).stat().st_size:
            raise ValueError("a list that contains itself, or the same list many times")
        array = np.asarray(content)
        if array.dtype == object:
            array = np.stack([np.asarray(item) for item in array])
    except (ValueError, TypeError, RecursionError):
        raise DataError(
            f"{path}: expected images of one size; received arrays of several sizes."
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: expected an array of numbers; received {type(content).__name__} "
            f"of {array.dtype}."
        )
    return array


def save_array(array: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write `array` as a pickle that appears complete or not at all.

    Parameters
    ----------
    array : numpy.ndarray
        Any numeric array.
    path : path-like
        Final name.
    """
    with replacing(path) as beside, open(beside, "wb") as stream:
        pickle.dump(np.asarray(array, order="C"), stream, protocol=pickle.HIGHEST_PROTOCOL)
