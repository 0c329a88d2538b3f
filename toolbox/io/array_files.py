"""Stacks of images that may exceed memory, written through a memory map."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from toolbox.errors import DataError
from toolbox.io.atomic import replacing


def mapped_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a ``.npy`` file into memory, read-only. Nothing in it is ever executed.

    Raises
    ------
    DataError
        If it is not a plain array, or is damaged.
    """
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header may raise anything, such as TokenError
        raise damaged_archive(path, ".npy array", error) from None
    return array


def damaged_archive(path: str | os.PathLike[str], kind: str, error: Exception) -> DataError:
    """Return the error, in one line, for arrays that NumPy cannot read."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path}: not a plain {kind}, or damaged ({first}).")


@contextlib.contextmanager
def writing_images(path: str | os.PathLike[str], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Provide an array on disk to fill; the file appears when the block ends without an error.

    Parameters
    ----------
    path : path-like
        ``.npy`` (read back through a memory map) or ``.pkl`` (the manual's format).
    shape : tuple of int
        Shape (N, H, W, C).

    Yields
    ------
    numpy.ndarray, float32
        Backed by a file, so it may be larger than memory.

    Raises
    ------
    DataError
        If the file has another ending.
    """
    ending = Path(path).suffix
    if ending not in (".npy", ".pkl"):
        raise DataError(f"{path}: images are written as .npy or .pkl; received {ending!r}.")
    if ending == ".npy":
        with replacing(path) as beside:
            yield from _mapped(beside, shape)
        return
    with replacing(path) as beside:
        store = beside.with_suffix(".npy")
        try:
            for array in _mapped(store, shape):
                yield array
                plain = np.asarray(array)
                with open(beside, "wb") as stream:
                    pickle.dump(plain.view(np.ndarray), stream, pickle.HIGHEST_PROTOCOL)
        finally:
            store.unlink(missing_ok=True)


def _mapped(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    yield array
    array.flush()
