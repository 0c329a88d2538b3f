"""Folders of photographs: found, paired, read, and given a low-resolution form."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from toolbox.errors import ConfigError, DataError
from toolbox.io.picture import SUFFIXES, read_picture
from toolbox.progress import progress
from toolbox.resize import Reduction, reduced, resized, whole_blocks

#: Weights of red, green and blue in the brightness of a grey picture (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
_NAMED = 5


class PhotoFile(NamedTuple):
    """A photograph, and its low-resolution form where that is a file too."""

    name: str
    high: Path
    low: Path | None = None


class PhotoPair(NamedTuple):
    """A photograph at both sizes, (h, w, C) and (h * scale, w * scale, C), whole numbers."""

    low: np.ndarray
    high: np.ndarray


def find_photos(folder: Path) -> dict[str, Path]:
    """Return the photographs of a folder and of those in it, by their path without the ending.

    Raises
    ------
    DataError
        If the folder is missing, holds none, or holds two of one name.
    """
    if folder.is_file():
        raise DataError(f"{folder}: is a file; expected a folder of photographs.")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Fix data_dir or lr_dir.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"{path}: has the name of {found[name].name} beside it. Rename or remove one of "
                f"the two."
            )
        found[name] = path
    if not found:
        raise DataError(
            f"{folder}: holds no photograph. Expected files of the kinds {', '.join(SUFFIXES)}."
        )
    return found


def pair_photos(high_dir: Path, low_dir: Path | None, scale: int) -> list[PhotoFile]:
    """Return the photographs of a folder, with their low-resolution forms if there is a folder.

    A low-resolution file has the name of its photograph, or that and ``x2`` (by `scale`), as in
    the data set DIV2K; its ending may be another.

    Raises
    ------
    DataError
        If one of two folders holds a photograph that the other one lacks.
    """
    high = find_photos(high_dir)
    if low_dir is None:
        return [PhotoFile(name, path) for name, path in high.items()]
    low = {_base_name(name, high, scale): path for name, path in find_photos(low_dir).items()}
    for names, others, folder in ((low, high, high_dir), (high, low, low_dir)):
        if alone := sorted(names.keys() - others.keys()):
            raise DataError(
                f"{folder}: lacks {len(alone)} photographs of the other folder: "
                f"{', '.join(alone[:_NAMED])}{', ...' if len(alone) > _NAMED else ''}. Add or "
                f"remove them: each needs a pair of one name."
            )
    return [PhotoFile(name, path, low[name]) for name, path in high.items()]


def _base_name(name: str, high: dict[str, Path], scale: int) -> str:
    base = name.removesuffix(f"x{scale}")
    return base if name not in high and base in high else name


def dealt(files: Sequence[PhotoFile], shares: Sequence[float], number: int) -> list[PhotoFile]:
    """Return the photographs that belong to a split, by a hash of their names.

    A new photograph moves hardly any other one to another split.

    Parameters
    ----------
    files : sequence of PhotoFile
        All of them.
    shares : sequence of float
        Shares of the splits.
    number : int
        Which split.
    """
    order = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
    ends = np.rint(np.cumsum([0, *shares]) / sum(shares) * len(files)).astype(int)
    return sorted(order[ends[number] : ends[number + 1]])


def in_channels(pixels: np.ndarray, channels: Literal[1, 3]) -> np.ndarray:
    """Turn grey into colour or colour into grey, whole numbers, if need be."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=2)
    return np.rint(pixels @ GREY).astype(pixels.dtype)[..., None]


def as_counts(pixels: np.ndarray) -> np.ndarray:
    """Return whole numbers of 8 or 16 bits as float32 on the scale of 0 to 255."""
    factor = np.float32(255 / np.iinfo(pixels.dtype).max)
    return pixels.astype(np.float32) * factor if factor != 1 else pixels.astype(np.float32)


def to_pixels(counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return images on the scale of 0 to 255 as whole numbers of a type, as a file holds them."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint(counts * np.float32(top / 255)), 0, top).astype(dtype)


class Photos:
    """The photographs of a split that can be used.

    Each is read once, in parallel; as many as fit stay in memory, the others are read again when
    they are needed. A file that cannot be read, or is too small, is left out and named.

    Parameters
    ----------
    files : sequence of PhotoFile
        The files.
    scale : int
        Enlargement.
    channels : {1, 3}
        Grey or colour.
    method : {'bicubic', 'lanczos', 'area'}
        How low-resolution forms are made where there are none.
    side : int, optional
        Bring every photograph to a square whose low-resolution form has this side.
    smallest : int
        Smallest side of a low-resolution form that can be used.
    memory : float
        Bytes of photographs that may stay in memory.
    what : str
        What they are for, in messages.

    Attributes
    ----------
    files : list of PhotoFile
        Those that can be used.
    sizes : numpy.ndarray, shape (n, 2)
        Rows and columns of their low-resolution forms.
    left_out : dict of str to str
        The others, with the reason.
    checksum : int
        CRC-32 of all pixels.

    Raises
    ------
    DataError
        If none can be used.
    """

    def __init__(
        self,
        files: Sequence[PhotoFile],
        scale: int,
        channels: Literal[1, 3] = 3,
        method: Reduction = "bicubic",
        side: int | None = None,
        smallest: int = 1,
        memory: float = 4e9,
        what: str = "photographs",
    ) -> None:
        self.scale, self.channels, self.method = scale, channels, method
        self.side, self.smallest = side, smallest
        self.files: list[PhotoFile] = []
        self.left_out: dict[str, str] = {}
        self.checksum = 0
        self._kept: dict[int, PhotoPair] = {}
        sizes = []
        for file, found in zip(files, self._read(files, what), strict=True):
            if isinstance(found, str):
                self.left_out[file.name] = found
                continue
            for pixels in found:
                self.checksum = zlib.crc32(np.ascontiguousarray(pixels).data, self.checksum)
            memory -= found.low.nbytes + found.high.nbytes
            if memory >= 0:
                self._kept[len(self.files)] = found
            self.files.append(file)
            sizes.append(found.low.shape[:2])
        if not sizes:
            raise DataError(
                f"none of the {len(files)} {what} can be used. The first: "
                f"{next(iter(self.left_out.values()), 'there is none')}"
            )
        self.sizes = np.array(sizes)

    def _read(self, files: Sequence[PhotoFile], what: str) -> Any:
        # Decoders let other threads run.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = pool.map(self._try, files)
            yield from progress(results, f"reading {what}", total=len(files), delay=2)

    def _try(self, file: PhotoFile) -> PhotoPair | str:
        try:
            return self._load(file)
        except DataError as error:
            return str(error)

    def __len__(self) -> int:
        return len(self.files)

    def pair(self, number: int) -> PhotoPair:
        """Return a photograph at both sizes, 8 or 16 bits."""
        kept = self._kept.get(number)
        return self._load(self.files[number]) if kept is None else kept

    def _load(self, file: PhotoFile) -> PhotoPair:
        high = in_channels(read_picture(file.high).pixels, self.channels)
        if file.low is not None:
            low = in_channels(read_picture(file.low).pixels, self.channels)
            return self._matched(file.low, file.high, low, high)
        if self.side is not None:
            high = resized(high, (self.side * self.scale,) * 2)
        high = whole_blocks(high, self.scale)
        self._check_size(file.high, np.array(high.shape[:2]) // self.scale)
        return PhotoPair(reduced(high, self.scale, self.method), high)

    def _matched(
        self, low_path: Path, high_path: Path, low: np.ndarray, high: np.ndarray
    ) -> PhotoPair:
        """Refuse a pair of another ratio; what is left over at the right and below is cut."""
        height, width = (side * self.scale for side in low.shape[:2])
        surplus = high.shape[0] - height, high.shape[1] - width
        if not all(0 <= extra < self.scale for extra in surplus) or low.dtype != high.dtype:
            raise DataError(
                f"{low_path}: {low.shape[1]} × {low.shape[0]} pixels of {low.dtype} are not the "
                f"form at 1/{self.scale} of {high_path.name} with {high.shape[1]} × "
                f"{high.shape[0]} of {high.dtype}. Make it again, or change scale."
            )
        self._check_size(low_path, np.array(low.shape[:2]))
        high = high[:height, :width]
        if self.side is not None:
            low = resized(low, (self.side,) * 2)
            high = resized(high, (self.side * self.scale,) * 2)
        return PhotoPair(low, high)

    def _check_size(self, path: Path, size: np.ndarray) -> None:
        if size.min() < self.smallest:
            raise DataError(
                f"{path}: gives {size[1]} × {size[0]} pixels at low resolution; a crop takes "
                f"{self.smallest}. Remove it, or lower photo.lr_crop."
            )

    def crops(
        self, places: Sequence[tuple[int, int, int]], patch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return squares at (photograph, row, column) of the low-resolution forms.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            (N, patch, patch, C) and (N, patch * scale, patch * scale, C), 0 to 255, float32.
        """
        fine = patch * self.scale
        low = np.empty((len(places), patch, patch, self.channels), np.float32)
        high = np.empty((len(places), fine, fine, self.channels), np.float32)
        for i, (number, row, column) in enumerate(places):
            pair = self.pair(number)
            top, left = row * self.scale, column * self.scale
            low[i] = as_counts(pair.low[row : row + patch, column : column + patch])
            high[i] = as_counts(pair.high[top : top + fine, left : left + fine])
        return low, high

    def note(self) -> list[str]:
        """Return a line that names what was left out; none if nothing was."""
        if not self.left_out:
            return []
        reasons = list(self.left_out.values())
        more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        return [
            f"WARNING: {len(reasons)} of {len(reasons) + len(self)} photographs are left out: "
            f"{'; '.join(reasons[:_NAMED])}{more}"
        ]


def checked_shares(shares: Sequence[float]) -> Sequence[float]:
    """Refuse shares that are below 0 or all 0."""
    if not (sum(shares) > 0 and min(shares) >= 0):
        raise ConfigError(
            f"photo.shares must be three numbers from 0, not all 0; received {list(shares)}. Write "
            f"e.g. [8, 1, 1]."
        )
    return shares
