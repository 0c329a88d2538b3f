"""Folders of pictures: find them, assign them to splits, read them in parallel, cache them."""

from __future__ import annotations

import hashlib
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from toolbox.data_generator import Pair, even_places
from toolbox.errors import ConfigError, DataError, not_found
from toolbox.io.picture import SUFFIXES
from toolbox.progress import progress

#: Number of a file, row and column.
Place = tuple[int, int, int]
#: Weights of red, green and blue in the brightness of a grey picture (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
#: Number of names in a message; the others are only counted.
NAMED = 5


class Named(Protocol):
    """An element of a set: a file, or several files that belong together, with one name."""

    @property
    def name(self) -> str:
        """The name."""


File = TypeVar("File", bound=Named)
Loaded = TypeVar("Loaded", bound=tuple[np.ndarray, ...])


def find_pictures(folder: Path, what: str, setting: str) -> dict[str, Path]:
    """Return the pictures of a folder and its subfolders, by their path without the ending.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; hidden files and folders are ignored.
    what, setting : str
        For messages: the word for a picture, and the setting to fix.

    Raises
    ------
    DataError
        If the folder is missing, holds no picture, or holds two with the same name.
    """
    if folder.is_file():
        raise DataError(f"{folder}: is a file; expected a folder of {what}s.")
    if not folder.is_dir():
        raise DataError(f"{not_found(folder, 'folder')}. Fix {setting}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"{path}: has the same name as {found[name].name} next to it. Rename or remove one "
                f"of the two."
            )
        found[name] = path
    if not found:
        raise DataError(
            f"{folder}: holds no {what}. Expected files that end in {', '.join(SUFFIXES)}."
        )
    return found


def refuse_lonely(
    one: dict[str, Any], other: dict[str, Any], folders: tuple[Path, Path], what: str
) -> None:
    """Refuse two folders if one lacks a picture that the other has.

    Parameters
    ----------
    one, other : dict
        Pictures by name.
    folders : (pathlib.Path, pathlib.Path)
        The two folders.
    what : str
        The word for a picture in messages.

    Raises
    ------
    DataError
        If a picture has no partner.
    """
    for names, others, folder in ((other, one, folders[0]), (one, other, folders[1])):
        if alone := sorted(names.keys() - others.keys()):
            raise DataError(
                f"{folder}: lacks {len(alone)} {what}s of the other folder: {listed(alone)}. Add "
                f"or remove them: each needs a partner with the same name."
            )


def listed(names: Sequence[str]) -> str:
    """Return the first names, followed by dots if there are more."""
    return f"{', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"


def left_out_note(reasons: Sequence[str], used: int, word: str) -> list[str]:
    """Return a warning with the number of files left out, and why; empty if there are none."""
    if not reasons:
        return []
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return [
        f"WARNING: {len(reasons)} of {len(reasons) + used} {word} are left out: "
        f"{'; '.join(reasons[:NAMED])}{more}"
    ]


def dealt(
    files: Sequence[File], shares: Sequence[float], number: int, seed: int | None = None
) -> list[File]:
    """Return the files that a hash of their names assigns to a split.

    A new file moves hardly any other one to another split.

    Parameters
    ----------
    files : sequence
        All files.
    shares : sequence of float
        Shares of the splits.
    number : int
        Number of the split.
    seed : int, optional
        Another seed gives another assignment.

    Returns
    -------
    list
        The files of the split, sorted by name.
    """
    prefix = "" if seed is None else f"{seed} "
    order = sorted(files, key=lambda file: hashlib.sha256(f"{prefix}{file.name}".encode()).digest())
    ends = np.rint(np.cumsum([0, *shares]) / sum(shares) * len(files)).astype(int)
    return sorted(order[ends[number] : ends[number + 1]], key=lambda file: file.name)


def checked_shares(shares: Sequence[float], setting: str) -> Sequence[float]:
    """Return `shares`, but refuse negative ones and all zeros; `setting` names them."""
    if not (sum(shares) > 0 and min(shares) >= 0):
        raise ConfigError(
            f"{setting} must be three numbers of at least 0, not all 0; received {list(shares)}. "
            f"Write e.g. [8, 1, 1]."
        )
    return shares


def in_channels(pixels: np.ndarray, channels: Literal[1, 3]) -> np.ndarray:
    """Convert whole numbers between grey and colour, if necessary."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=2)
    return np.rint(pixels @ GREY).astype(pixels.dtype)[..., None]


def as_counts(pixels: np.ndarray) -> np.ndarray:
    """Convert whole numbers of 8 or 16 bits to float32 on the scale of 0 to 255."""
    factor = np.float32(255 / np.iinfo(pixels.dtype).max)
    return pixels.astype(np.float32) * factor if factor != 1 else pixels.astype(np.float32)


def to_pixels(counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert images on the scale of 0 to 255 to whole numbers of a type, as stored in files."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint(counts * np.float32(top / 255)), 0, top).astype(dtype)


class PictureSet(ABC, Generic[File, Loaded]):
    """The usable pictures of a split.

    Each is read once, in parallel. As many as fit stay in memory; the others are read again when
    they are needed. Files that cannot be read or used are left out and named. A subclass implements
    `load`, and sets its own attributes before it calls this constructor.

    Parameters
    ----------
    files : sequence
        The files.
    memory : float
        Bytes of pictures that may stay in memory.
    what : str
        Purpose of the pictures, in messages.

    Attributes
    ----------
    files : list
        The usable files.
    sizes : numpy.ndarray, shape (n, 2)
        Rows and columns of the first picture of each file.
    left_out : dict of str to str
        The other files, with the reason.
    checksum : int
        CRC-32 of all pixels.

    Raises
    ------
    DataError
        If no file can be used.
    """

    #: The word for the files in notes.
    word = "pictures"
    #: Enlargement factor from the first to the second picture of each file.
    scale = 1

    def __init__(self, files: Sequence[File], memory: float, what: str) -> None:
        self.files: list[File] = []
        self.left_out: dict[str, str] = {}
        self.checksum = 0
        self._kept: dict[int, Loaded] = {}
        sizes = []
        for file, found in zip(files, _in_parallel(self._try, files, what), strict=True):
            if isinstance(found, str):
                self.left_out[file.name] = found
                continue
            for pixels in found:
                self.checksum = zlib.crc32(np.ascontiguousarray(pixels).data, self.checksum)
            memory -= sum(pixels.nbytes for pixels in found)
            if memory >= 0:
                self._kept[len(self.files)] = found
            self.files.append(file)
            sizes.append(found[0].shape[:2])
        if not sizes:
            raise DataError(
                f"none of the {len(files)} {what} can be used. The first: "
                f"{next(iter(self.left_out.values()), 'there is none')}"
            )
        self.sizes = np.array(sizes)

    @abstractmethod
    def load(self, file: File) -> Loaded:
        """Read the pictures of a file; after a `DataError`, the file is left out."""

    def _try(self, file: File) -> Loaded | str:
        try:
            return self.load(file)
        except DataError as error:
            return str(error)

    def __len__(self) -> int:
        return len(self.files)

    def pair(self, number: int) -> Loaded:
        """Return the pictures of a file, as 8- or 16-bit numbers."""
        kept = self._kept.get(number)
        return self.load(self.files[number]) if kept is None else kept

    def crops(self, places: Sequence[Place], patch: int) -> Pair:
        """Cut squares at (file, row, column) from the first pictures and from the second ones.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            (N, patch, patch, C) and (N, patch * scale, patch * scale, D), 0 to 255, float32.
        """
        first, second = [], []
        fine = patch * self.scale
        for number, row, column in places:
            low, high = self.pair(number)[:2]
            top, left = row * self.scale, column * self.scale
            first.append(as_counts(low[row : row + patch, column : column + patch]))
            second.append(as_counts(high[top : top + fine, left : left + fine]))
        return np.stack(first), np.stack(second)

    def even_crops(self, patch: int, each: int, most: int) -> Pair:
        """Cut squares on a regular grid: `each` per file, and at most `most` in all."""
        count = min(len(self), max(1, most // each))
        numbers = np.linspace(0, len(self) - 1, count).astype(int)
        places = [
            (int(number), *corner)
            for number in numbers
            for corner in even_places(self.sizes[number], patch, each)
        ]
        return self.crops(places, patch)

    def note(self) -> list[str]:
        """Return a line that names the files left out; empty if there are none."""
        return left_out_note(list(self.left_out.values()), len(self), self.word)

    def rows(self, split: str, column: str, size: tuple[str, str]) -> list[dict[str, Any]]:
        """Return the rows of a table of files: name, size, and why a file was left out.

        Parameters
        ----------
        split, column : str
            The split, and the heading of the names.
        size : (str, str)
            Headings of width and height.
        """
        used = [
            {"split": split, column: file.name, size[0]: int(w), size[1]: int(h), "left_out": ""}
            for file, (h, w) in zip(self.files, self.sizes, strict=True)
        ]
        lost = [
            {"split": split, column: name, "left_out": reason}
            for name, reason in self.left_out.items()
        ]
        return used + lost


def _in_parallel(read: Callable[[Any], Any], files: Sequence[Any], what: str) -> Iterator[Any]:
    # Decoders release the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from progress(pool.map(read, files), f"reading {what}", total=len(files), delay=2)
