"""The patch folder: train / validation / test, each with ``data_LR.pkl`` and ``data_HR.pkl``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.array_files import mapped_array, writing_images
from toolbox.io.safe_pickle import load_array
from toolbox.normalizer import MinMaxNormalizer

SPLITS = ("train", "validation", "test")
RECORD_NAME = "dataset.json"

Pair = tuple[np.ndarray, np.ndarray]


def image_file(folder: str | os.PathLike[str], kind: str) -> Path:
    """Return the file of the LR or HR images in a folder: ``.npy`` if it exists, else ``.pkl``."""
    mapped = Path(folder, f"data_{kind}.npy")
    return mapped if mapped.is_file() else mapped.with_suffix(".pkl")


def load_images(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a stack of images.

    Parameters
    ----------
    path : path-like
        ``.pkl`` or ``.npy`` with shape (N, H, W) or (N, H, W, C); a ``.npy`` is memory-mapped.

    Returns
    -------
    numpy.ndarray, shape (N, H, W, C)
        Metres for depth maps.

    Raises
    ------
    DataError
        If the file is missing, is not a stack of images, is empty, or holds only NaN.
    """
    if Path(path).suffix == ".npy" and Path(path).is_file():
        imgs = mapped_array(path)
    else:
        imgs = load_array(path)
    if imgs.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected images of numbers; received {imgs.dtype}.")
    if imgs.ndim == 3:
        imgs = imgs[..., None]
    if imgs.ndim != 4:
        raise DataError(
            f"{path}: expected images of shape (N, H, W) or (N, H, W, C); received {imgs.shape}."
        )
    if len(imgs) and np.isnan(imgs[0]).all() and np.isnan(imgs).all():
        raise DataError(f"{path}: every pixel is missing (NaN); there is nothing to use.")
    if len(imgs) == 0:
        raise DataError(f"{path}: holds no images. Build the data set again with more blocks.")
    return imgs


def map_images(data_dir: str | os.PathLike[str]) -> None:
    """Copy pickled images to ``.npy`` files, so that several processes share one copy in memory.

    Parameters
    ----------
    data_dir : path-like
        Patch folder; existing ``.npy`` files are kept.
    """
    for path in sorted(Path(data_dir).glob("*/data_[LH]R.pkl")):
        if not path.with_suffix(".npy").exists():
            imgs = load_images(path)
            with writing_images(path.with_suffix(".npy"), imgs.shape) as target:
                target[:] = imgs


class _LazySplits(dict[str, Pair]):
    """Reads a split on first access: testing does not read the training data."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__()
        self._loader = loader

    def __missing__(self, split: str) -> Pair:
        self[split] = self._loader._read(split)
        return self[split]


class DataLoader:
    """Training, validation and test data from a patch folder.

    Parameters
    ----------
    data_dir : str
        Folder with the sub-folders.
    sub_dirs : sequence of three str
        Folders of the training, validation and test data.
    sr_scale : int, optional
        Required enlargement factor between LR and HR images.
    normalize : bool
        Scale both to 0..1 by the range of the HR training images, never by that of the test data.

    Attributes
    ----------
    dataset : dict of str to (numpy.ndarray, numpy.ndarray)
        ``dataset['train']`` is (LR images, HR images), each (N, H, W, C).

    Raises
    ------
    DataError
        If the folder or a file is missing, or counts and sizes do not match.
    """

    def __init__(
        self,
        data_dir: str,
        sub_dirs: Sequence[str] = SPLITS,
        sr_scale: int | None = None,
        normalize: bool = False,
    ) -> None:
        if not Path(data_dir).is_dir():
            raise DataError(
                f"data_dir {not_found(data_dir, 'folder')}. Build it with "
                f"'python -m sr_dataset_builder.dataset build.yml', or fix data_dir."
            )
        self.data_dir = Path(data_dir)
        self.sub_dirs = dict(zip(SPLITS, sub_dirs, strict=True))
        self.sr_scale = sr_scale
        self.normalize = normalize
        self.dataset: dict[str, Pair] = _LazySplits(self)

    def train(self) -> Pair:
        """Return the training data: LR (N, h, w, C) and HR (N, H, W, C)."""
        return self.dataset["train"]

    def validation(self) -> Pair:
        """Return the validation data: LR (N, h, w, C) and HR (N, H, W, C)."""
        return self.dataset["validation"]

    def test(self) -> Pair:
        """Return the test data: LR (N, h, w, C) and HR (N, H, W, C)."""
        return self.dataset["test"]

    def file(self, split: str, kind: str) -> Path:
        """Return the path of the LR or HR images of a split (``.npy`` if it exists)."""
        return image_file(self.data_dir / self.sub_dirs[split], kind)

    def _read(self, split: str) -> Pair:
        lr_file, hr_file = self.file(split, "LR"), self.file(split, "HR")
        lr, hr = load_images(lr_file), load_images(hr_file)
        self._check(lr, hr, lr_file, hr_file)
        if self.normalize:
            train_hr = hr if split == "train" else load_images(self.file("train", "HR"))
            low, high = float(np.nanmin(train_hr)), float(np.nanmax(train_hr))
            return MinMaxNormalizer(low, high, low, high).normalize_pair(lr, hr)
        return lr, hr

    def _check(self, lr: np.ndarray, hr: np.ndarray, lr_file: Path, hr_file: Path) -> None:
        if len(lr) != len(hr):
            raise DataError(
                f"{lr_file} holds {len(lr)} images but {hr_file} holds {len(hr)}; every LR image "
                f"needs its HR partner. Build the data set again."
            )
        if lr.shape[3] != hr.shape[3]:
            raise DataError(
                f"{lr_file} has {lr.shape[3]} channels but {hr_file} has {hr.shape[3]}. Build the "
                f"data set again."
            )
        if self.sr_scale is None:
            return
        wanted = (lr.shape[1] * self.sr_scale, lr.shape[2] * self.sr_scale)
        if hr.shape[1:3] != wanted:
            raise DataError(
                f"{hr_file}: at scale {self.sr_scale}, LR images of {lr.shape[1:3]} need HR images "
                f"of {wanted}; received {hr.shape[1:3]}. Fix scale, or build the data set again."
            )
