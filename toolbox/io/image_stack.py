"""Stacks of images larger than memory: written piece by piece, read part by part.

Nothing here holds more than a part of a stack. Files are written by plain writes, so that a full
disk is an error and not a crash; they are read through memory maps, whose pages are given back.
"""

from __future__ import annotations

import contextlib
import mmap
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Bytes of a part when a whole stack is worked through.
PART_BYTES = 2**26
#: Room for the header of a ``.npy`` file; the number of images is known last.
_HEADER_BYTES = 256


class ImageFile:
    """A ``.npy`` file of images that is being written; see `growing_images`.

    Parameters
    ----------
    path : pathlib.Path
        Where to write.
    img_shape : tuple of int
        Shape of one image, (H, W, C).

    Attributes
    ----------
    count : int
        Number of images up to the last one written.
    """

    def __init__(self, path: Path, img_shape: tuple[int, ...]) -> None:
        self.path, self.img_shape, self.count = path, tuple(img_shape), 0
        self._size = 4 * int(np.prod(self.img_shape))
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by close()

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.count * self._size

    def write(self, start: int, imgs: np.ndarray) -> None:
        """Write images (n, H, W, C) or (n, H, W) from number `start` on."""
        if not len(imgs):
            return
        content = np.ascontiguousarray(imgs, "<f4").data.cast("B")
        self._file.seek(_HEADER_BYTES + start * self._size)
        while content:  # one call writes at most 2 GiB
            content = content[self._file.write(content[:PART_BYTES]) :]
        self.count = max(self.count, start + len(imgs))

    def append(self, imgs: np.ndarray) -> None:
        """Write images behind the last one."""
        self.write(self.count, imgs)

    def close(self) -> None:
        """Write the header, if it is not yet there, and close the file."""
        if self._file.closed:
            return
        content = {"descr": "<f4", "fortran_order": False, "shape": (self.count, *self.img_shape)}
        text = f"{content!r}".ljust(_HEADER_BYTES - 11) + "\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
        self._file.close()

    def abandon(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def pickle_images(source: Path, target: Path) -> None:
    """Write a ``.npy`` file as a pickle of a plain array, as the manual's programs read it.

    Parameters
    ----------
    source, target : pathlib.Path
        The two files; `source` is not held in memory.
    """
    imgs = np.load(source, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    with open(target, "wb") as stream:
        pickle.dump(imgs, stream, pickle.HIGHEST_PROTOCOL)


# -- Reading -------------------------------------------------------------------------------------


def _map_of(imgs: Any) -> mmap.mmap | None:
    """Return the memory map behind an array; None if it lies in memory."""
    found = getattr(imgs, "_mmap", None)
    return found if isinstance(found, mmap.mmap) else None


def release(imgs: Any) -> None:
    """Give the pages of a memory map back; they are read again when they are needed.

    Parameters
    ----------
    imgs : numpy.ndarray or ChosenImages
        What lies in memory stays there.
    """
    mapped = _map_of(getattr(imgs, "imgs", imgs))
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)


def gather(imgs: Any, chosen: slice | np.ndarray) -> np.ndarray:
    """Return some images of a stack; those of a memory map are fetched from the disk together.

    Parameters
    ----------
    imgs : numpy.ndarray or ChosenImages, shape (N, H, W, C)
        The stack.
    chosen : slice or numpy.ndarray of int
        Which images.
    """
    stack = imgs.imgs if isinstance(imgs, ChosenImages) else imgs
    mapped = _map_of(stack)
    if mapped is not None and hasattr(mmap, "MADV_WILLNEED") and not isinstance(chosen, slice):
        numbers = imgs.numbers[chosen] if isinstance(imgs, ChosenImages) else chosen
        start = stack.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        step = stack.strides[0]
        for number in np.ravel(numbers).tolist():
            first = (start + number * step) // mmap.PAGESIZE * mmap.PAGESIZE
            with contextlib.suppress(OSError, ValueError):
                mapped.madvise(mmap.MADV_WILLNEED, first, start + (number + 1) * step - first)
    return np.asarray(imgs[chosen])


def parts(imgs: Any, count: int | None = None) -> Iterator[np.ndarray]:
    """Yield a stack part by part; pages of a memory map are given back behind it.

    Parameters
    ----------
    imgs : numpy.ndarray or ChosenImages, shape (N, H, W, C)
        The stack.
    count : int, optional
        Images in a part; default as many as take 64 MiB.
    """
    size = max(1, imgs.dtype.itemsize * int(np.prod(imgs.shape[1:])))
    step = count or max(1, PART_BYTES // size)
    done = 0
    for start in range(0, len(imgs), step):
        yield imgs[start : start + step]
        done += step * size
        if done >= PART_BYTES:
            release(imgs)
            done = 0
    release(imgs)


def extent(imgs: Any) -> tuple[float, float]:
    """Return the least and the greatest value of a stack; NaN if there is one."""
    ends = [(part.min(), part.max()) for part in parts(imgs)]
    lows, highs = np.array(ends, imgs.dtype).T
    return float(lows.min()), float(highs.max())


class ChosenImages(np.lib.mixins.NDArrayOperatorsMixin):
    """Some images of a stack, read when they are asked for; the stack is not copied.

    Slices and lists of numbers give arrays. In any other expression it stands for the array of all
    chosen images, which is made then.

    Parameters
    ----------
    imgs : numpy.ndarray, shape (N, H, W, C)
        The stack.
    numbers : numpy.ndarray of int, shape (n,)
        Which images, in this order.

    Attributes
    ----------
    shape : tuple of int
        (n, H, W, C).
    """

    def __init__(self, imgs: np.ndarray, numbers: np.ndarray) -> None:
        self.imgs, self.numbers = imgs, numbers
        self.shape = (len(numbers), *imgs.shape[1:])
        self.dtype, self.ndim = imgs.dtype, imgs.ndim

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, items: Any) -> np.ndarray:
        first, rest = (items[0], items[1:]) if isinstance(items, tuple) else (items, ())
        if first is Ellipsis or first is None:
            found = np.asarray(self)[items]
        else:
            chosen = self.imgs[self.numbers[first]]
            found = chosen[(slice(None), *rest)] if np.ndim(self.numbers[first]) else chosen[rest]
        return np.asarray(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.imgs[self.numbers], dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(i) if isinstance(i, ChosenImages) else i for i in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)
