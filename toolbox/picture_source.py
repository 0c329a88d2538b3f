"""Base classes for sources of pictures: splits opened on first use, random crops, a table."""

from __future__ import annotations

import functools
import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field

from toolbox.augment import Augmenter
from toolbox.config import Float
from toolbox.data_generator import Batches, CropStream, Pair
from toolbox.errors import ConfigError, DataError, not_found
from toolbox.picture_set import PictureSet, Place
from toolbox.task import NormFunc, Source

#: Maximum number of crops in validation and test; number of files that sample the training data.
MOST_CROPS, _SAMPLED = 256, 16
#: Smallest side of a picture that is only measured; SSIM needs 11 pixels.
MEASURED_SIDE = 16

Gigabytes = Annotated[Float, Field(gt=0)]


class PictureCrops(CropStream):
    """Training batches: square crops at random places of the pictures of a set.

    Parameters
    ----------
    pictures : PictureSet
        The pictures.
    patch_size : int
        Side of a crop from the first pictures.
    repeats : int
        Crops per file and epoch.
    batch_size : int
        Pairs per batch.
    norm_func : callable
        ``norm_func(x, y) -> (x, y)``.
    augmenter : toolbox.augment.Augmenter, optional
        Applied before the crops are normalised.
    seed : int
        Seed of order, places and augmentation.
    sample : (numpy.ndarray, numpy.ndarray)
        Fixed crops that represent all pictures.
    setting : str
        Name of the setting for `repeats`, in messages.

    Raises
    ------
    ConfigError
        If an epoch is smaller than a batch.
    """

    def __init__(
        self,
        pictures: PictureSet[Any, Any],
        patch_size: int,
        repeats: int,
        batch_size: int,
        norm_func: Callable[[np.ndarray, np.ndarray], Pair],
        augmenter: Augmenter | None,
        seed: int,
        sample: Pair,
        setting: str,
    ) -> None:
        self.pictures, self.patch_size, self.repeats = pictures, patch_size, repeats
        self.batch_size, self.seed = batch_size, seed
        self.num_imgs = len(pictures) * repeats
        if batch_size > self.num_imgs:
            raise ConfigError(
                f"batch_size must not exceed the {len(pictures)} {pictures.word} × {repeats} "
                f"repeats; received {batch_size}. Lower it or raise {setting}."
            )
        self.raw_lr_imgs, self.raw_hr_imgs = sample
        self._norm_func = norm_func
        self._augmenter = augmenter

    def rooms(self) -> np.ndarray:
        """Return rows and columns of the first pictures."""
        return self.pictures.sizes

    def crops(self, places: Sequence[Place]) -> Pair:
        """Cut the crops at (file, row, column), 0 to 255."""
        return self.pictures.crops(places, self.patch_size)

    def shaping(self) -> tuple[Any, ...]:
        """Return the parameters that shape the crops, except the seed."""
        return (self.patch_size, self.repeats)

    def fingerprint(self) -> int:
        """Return a checksum of all pixels and of `shaping`."""
        return zlib.crc32(repr(self.shaping()).encode(), self.pictures.checksum)


Opened = TypeVar("Opened", bound=PictureSet[Any, Any])


class PictureSource(Source, Generic[Opened]):
    """Squares from the pictures of a folder: random ones for training, fixed ones for validation.

    A subclass implements `files`, `open` and `fixed`.

    Parameters
    ----------
    data_dir : str
        Folder of the pictures.
    sr_scale : int
        Enlargement factor from inputs to targets.
    side : int
        Side of the training squares.
    repeats : int
        Squares per file and epoch.
    memory_gb : float
        Memory for cached pictures, GB.

    Raises
    ------
    DataError
        If the folder does not exist.
    """

    norm_range: ClassVar[tuple[float, float]] = (0.0, 255.0)  # type: ignore[misc]
    free_settings: ClassVar[tuple[str, ...]] = ("memory_gb",)
    #: Name in the registry, for messages.
    section: ClassVar[str]
    #: File name of the table in `records`; headings of names, and of width and height.
    table: ClassVar[tuple[str, str, tuple[str, str]]]

    def __init__(
        self, data_dir: str, sr_scale: int, side: int, repeats: int, memory_gb: float
    ) -> None:
        super().__init__(data_dir, sr_scale)
        if not self.data_dir.is_dir():
            raise DataError(f"data_dir {not_found(data_dir, 'folder')}. Fix data_dir.")
        self.side, self.repeats = side, repeats
        self.memory = memory_gb * 1e9
        self._opened: dict[tuple[str, bool], Opened] = {}
        self._untested: list[str] = []

    @abstractmethod
    def files(self, split: str) -> list[Any]:
        """Return the files of a split: train, validation or test."""

    @abstractmethod
    def open(self, split: str, whole: bool) -> Opened:
        """Read the pictures of a split: unchanged if `whole`, else as prepared for training."""

    @abstractmethod
    def fixed(self, split: str, most: int | None = None) -> Pair:
        """Return squares on a regular grid, from at most `most` files if it is given."""

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """Lines that a program should print, about the pictures opened so far."""
        return [note for opened in self._opened.values() for note in opened.note()] + self._untested

    def pictures(self, split: str, whole: bool = False) -> Opened:
        """Return the pictures of a split, read on first use.

        Parameters
        ----------
        split : {'train', 'validation', 'test'}
            The split.
        whole : bool
            Unchanged, for measurement; else as prepared for training.
        """
        key = split, whole
        if key not in self._opened:
            self._opened[key] = self.open(split, whole)
        return self._opened[key]

    def train(self) -> Pair:
        """Return fixed squares of some files, where a sample suffices."""
        return self._sampled

    @functools.cached_property
    def _sampled(self) -> Pair:
        return self.fixed("train", _SAMPLED)

    def validation(self) -> Pair:
        """Return fixed squares of all files, at most 256."""
        return self.fixed("validation")

    def test(self) -> Pair:
        """Return fixed squares of all files, as `validation`; a test measures full pictures."""
        return self.fixed("test")

    def batches(
        self,
        split: str,
        norm_func: NormFunc,
        batch_size: int,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> Batches:
        """Return random squares for training, the fixed ones for validation."""
        if split != "train":
            return super().batches(split, norm_func, batch_size, augmenter, seed)
        pictures = self.pictures("train")
        self._look_for_test()
        return self.serve(
            pictures,
            self.side,
            self.repeats,
            batch_size,
            norm_func,
            augmenter,
            seed,
            self._sampled,
            f"{self.section}.repeats",
        )

    def serve(self, *arguments: Any) -> PictureCrops:
        """Return the training batches; the arguments are those of `PictureCrops`."""
        return PictureCrops(*arguments)

    def _look_for_test(self) -> None:
        """Warn before a long training run that a test of it will find no files."""
        try:
            self.files("test")
        except (ConfigError, DataError) as error:
            self._untested = [f"WARNING: a test of this run will fail: {error}"]

    def records(self) -> dict[str, str]:
        """Return the table of all files opened so far, used or left out."""
        name, column, size = self.table
        opened = self._opened.items()
        rows = [row for (split, _), files in opened for row in files.rows(split, column, size)]
        return {name: pd.DataFrame(rows).to_csv(index=False)}
