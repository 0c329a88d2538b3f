"""Folders of photographs: found, paired and read, with low-resolution versions read or made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from toolbox.errors import DataError
from toolbox.io.picture import read_picture
from toolbox.picture_set import PictureSet, find_pictures, in_channels, refuse_lonely
from toolbox.resize import Reduction, reduced, resized, whole_blocks


class PhotoFile(NamedTuple):
    """A photograph, and its low-resolution version if that is a file too."""

    name: str
    high: Path
    low: Path | None = None


class PhotoPair(NamedTuple):
    """A photograph at both sizes: (h, w, C) and (h * scale, w * scale, C), whole numbers."""

    low: np.ndarray
    high: np.ndarray


def find_photos(folder: Path) -> dict[str, Path]:
    """Return the photographs of a folder; see `toolbox.picture_set.find_pictures`."""
    return find_pictures(folder, "photograph", "data_dir or lr_dir")


def pair_photos(high_dir: Path, low_dir: Path | None, scale: int) -> list[PhotoFile]:
    """Return the photographs of a folder, paired with their low-resolution versions if given.

    A low-resolution file has the name of its photograph, or that name followed by ``x2`` (the
    number is `scale`), as in the data set DIV2K. Its suffix may differ.

    Raises
    ------
    DataError
        If one of the two folders holds a photograph that the other lacks.
    """
    high = find_photos(high_dir)
    if low_dir is None:
        return [PhotoFile(name, path) for name, path in high.items()]
    low = {_base_name(name, high, scale): path for name, path in find_photos(low_dir).items()}
    refuse_lonely(high, low, (high_dir, low_dir), "photograph")
    return [PhotoFile(name, path, low[name]) for name, path in high.items()]


def _base_name(name: str, high: dict[str, Path], scale: int) -> str:
    base = name.removesuffix(f"x{scale}")
    return base if name not in high and base in high else name


class Photos(PictureSet[PhotoFile, PhotoPair]):
    """The usable photographs of a split; see `toolbox.picture_set.PictureSet`.

    Parameters
    ----------
    files : sequence of PhotoFile
        The files.
    scale : int
        Enlargement factor.
    channels : {1, 3}
        Grey or colour.
    method : {'bicubic', 'lanczos', 'area'}
        How missing low-resolution versions are made.
    side : int, optional
        Resize every photograph to a square whose low-resolution version has this side.
    smallest : int
        Smallest usable side of a low-resolution version.
    memory : float
        Bytes of photographs that may stay in memory.
    what : str
        What they are for; used in messages.
    """

    word = "photographs"

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
        super().__init__(files, memory, what)

    def load(self, file: PhotoFile) -> PhotoPair:
        """Read a photograph, and read or make its low-resolution version."""
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
        """Refuse a pair with another ratio; cut surplus pixels at the right and at the bottom."""
        height, width = (side * self.scale for side in low.shape[:2])
        surplus = high.shape[0] - height, high.shape[1] - width
        if not all(0 <= extra < self.scale for extra in surplus) or low.dtype != high.dtype:
            raise DataError(
                f"{low_path}: {low.shape[1]} × {low.shape[0]} pixels of {low.dtype} do not match "
                f"1/{self.scale} of {high_path.name}, which has {high.shape[1]} × "
                f"{high.shape[0]} of {high.dtype}. Make the file again, or change scale."
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
                f"{path}: {size[1]} × {size[0]} pixels at low resolution; a crop needs at least "
                f"{self.smallest} along each side. Remove it, or lower photo.lr_crop."
            )
