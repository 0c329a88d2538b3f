"""Picture pairs: a picture, and the target to be drawn from it (a picture or a class map)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from toolbox.data_generator import Pair
from toolbox.errors import DataError
from toolbox.io.picture import read_indices, read_picture
from toolbox.picture_set import PictureSet, Place, in_channels
from toolbox.resize import resized
from toolbox.tasks.pix2pix.classes import VOID, Classes

Half = Literal["left", "right"]


class PairFile(NamedTuple):
    """A picture and its target: two files, or two halves of one file."""

    name: str
    picture: Path
    target: Path
    half: Half | None = None


class PixelPair(NamedTuple):
    """A picture (H, W, C), and its target (H, W, D): whole numbers, or class ids with D = 1."""

    picture: np.ndarray
    target: np.ndarray


@dataclasses.dataclass(frozen=True)
class Content:
    """Kinds of pictures and targets.

    Attributes
    ----------
    channels, target_channels : {1, 3}
        Grey or colour.
    classes : Classes, optional
        The classes, if the targets are class maps.
    """

    channels: Literal[1, 3] = 3
    target_channels: Literal[1, 3] = 3
    classes: Classes | None = None


def read_classes(path: Path, classes: Classes) -> np.ndarray:
    """Read a class map.

    Parameters
    ----------
    path : pathlib.Path
        A picture in the colours of the classes, a picture with a palette whose numbers are ids,
        or a grey picture of ids.
    classes : Classes
        The classes.

    Returns
    -------
    numpy.ndarray, shape (H, W), uint8
        Ids, `VOID` for pixels that are not evaluated.

    Raises
    ------
    DataError
        If an id or a colour belongs to no class.
    """
    found = read_indices(path)
    if found is not None:
        ids, palette = found
        used = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
        known, distance = classes.decode(palette[used[used < len(palette)]])
        if not distance.any() and len(known) == len(used):
            # An image program may have reordered the palette.
            table = np.zeros(256, np.uint8)
            table[used] = known
            return table[ids]
        return _checked_ids(path, ids, classes)
    pixels = read_picture(path).pixels
    if pixels.shape[2] == 1:
        if pixels.dtype != np.uint8:
            raise DataError(f"{path}: class ids must have 8 bits; received 16. Convert the file.")
        known, distance = classes.decode(pixels.repeat(3, axis=2))
        if not distance.any():  # a black and white mask, and classes with these colours
            return known
        return _checked_ids(path, pixels[..., 0], classes)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: colours of classes must have 8 bits; received 16. Convert the file."
        )
    ids, distance = classes.decode(pixels)
    if distance.any():
        share, first = 100 * float((distance > 0).mean()), pixels[distance > 0][0].tolist()
        told = f"{share:.2g}" if share < 10 else f"{share:.0f}"
        raise DataError(
            f"{path}: {told} % of its pixels have the colour of no class, e.g. "
            f"{first}. Use a PNG with a palette, or one in the exact colours of the classes."
        )
    return ids


def _checked_ids(path: Path, ids: np.ndarray, classes: Classes) -> np.ndarray:
    wrong = np.setdiff1d(ids, [*range(len(classes)), VOID])
    if len(wrong):
        raise DataError(
            f"{path}: class ids must be 0 to {len(classes) - 1}, or {VOID} for void; received "
            f"{', '.join(map(str, wrong[:5]))}{', ...' if len(wrong) > 5 else ''}. Fix the mask, "
            f"or name all classes."
        )
    return ids


class PicturePairs(PictureSet[PairFile, PixelPair]):
    """The usable pairs of a split; see `toolbox.picture_set.PictureSet`.

    Parameters
    ----------
    files : sequence of PairFile
        The files.
    content : Content
        Their kind.
    side : int, optional
        Resize every pair to a square of this side: pictures by bicubic, class ids by nearest.
    smallest : int
        Smallest usable side.
    encoded : bool
        Whether crops show classes in their colours; otherwise as ids.
    memory : float
        Bytes of pictures that may stay in memory.
    what, advice : str
        For messages: what the pairs are for, and what else to do about pairs that are too small.
    """

    word = "pairs"

    def __init__(
        self,
        files: Sequence[PairFile],
        content: Content,
        side: int | None = None,
        smallest: int = 1,
        encoded: bool = True,
        memory: float = 4e9,
        what: str = "pairs",
        advice: str = "",
    ) -> None:
        self.content, self.side, self.smallest = content, side, smallest
        self._advice = advice
        self._encoded = encoded and content.classes is not None
        super().__init__(files, memory, what)

    def load(self, file: PairFile) -> PixelPair:
        """Read a pair, and resize it if `side` is set."""
        picture, target = self._read(file)
        if picture.shape[:2] != target.shape[:2]:
            raise DataError(
                f"{file.target}: {target.shape[1]} × {target.shape[0]} pixels; its picture "
                f"{file.picture.name} has {picture.shape[1]} × {picture.shape[0]}. Make both "
                f"the same size."
            )
        if min(picture.shape[:2]) < self.smallest:
            raise DataError(
                f"{file.picture}: {picture.shape[1]} × {picture.shape[0]} pixels; both sides need "
                f"at least {self.smallest}. Remove it{self._advice}."
            )
        if self.side is not None:
            shape = self.side, self.side
            picture = resized(picture, shape)
            target = resized(
                target, shape, "bicubic" if self.content.classes is None else "nearest"
            )
        return PixelPair(picture, target)

    def _read(self, file: PairFile) -> PixelPair:
        content = self.content
        if file.half is not None:
            both = read_picture(file.picture).pixels
            picture, target = self._halves(file, both)
            target = in_channels(target, content.target_channels)
        else:
            picture = read_picture(file.picture).pixels
            if content.classes is not None:
                target = read_classes(file.target, content.classes)[..., None]
            else:
                target = in_channels(read_picture(file.target).pixels, content.target_channels)
        return PixelPair(in_channels(picture, content.channels), target)

    def _halves(self, file: PairFile, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle, odd = divmod(both.shape[1], 2)
        if odd or not middle:
            raise DataError(
                f"{file.picture}: two pictures side by side must have an even width in total; "
                f"received {both.shape[1]} pixels. Cut it again, or use two folders."
            )
        left, right = both[:, :middle], both[:, middle:]
        return (left, right) if file.half == "left" else (right, left)

    def crops(self, places: Sequence[Place], patch: int) -> Pair:
        """Return crops of pictures and targets, classes in their colours or as ids."""
        pictures, targets = super().crops(places, patch)
        if not self._encoded or self.content.classes is None:
            return pictures, targets
        return pictures, self.content.classes.encode(targets[..., 0].astype(np.uint8)).astype(
            np.float32
        )
