"""The source ``sem``: patches of low and high SEM pictures, drawn again every epoch."""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, overload

import keras
import numpy as np
import pandas as pd
from pydantic import Field

from toolbox.augment import Augmenter
from toolbox.config import Count, Float, Int, Weight
from toolbox.data_generator import Batches, CropStream, Pair, even_places
from toolbox.data_loader import RECORD_NAME, SPLITS
from toolbox.errors import ConfigError, DataError, not_found
from toolbox.normalizer import SymmetricNormalizer
from toolbox.progress import progress
from toolbox.task import Source
from toolbox.tasks.sem.alignment import file_digest
from toolbox.tasks.sem.frames import (
    Align,
    SEMFrame,
    SEMFrames,
    Stacks,
    pair_files,
    some_names,
)
from toolbox.tasks.sem.pixel_size import PIXEL_TOLERANCE
from toolbox.tasks.sem.sem_image import SUFFIXES, open_sem_stack, read_sem_image
from toolbox.tasks.sem.stacks import StackFrames, blind_spots, find_stacks
from toolbox.tasks.sem.validity import FILE_NAME as VALIDITY_NAME
from toolbox.tasks.sem.validity import (
    MOST_PICTURES,
    Validity,
    measure_conditions,
    validity_of,
    validity_text,
)

#: Shifts and checks of the pairs of pictures that a run learned from.
PAIR_REPORT = "pairs.csv"
#: Number of frames that represent all training data where a sample is enough, and its most bytes.
SAMPLED_FRAMES, _SAMPLED_BYTES = 16, 2**27

Size = Annotated[Float, Field(gt=0)]
Rows = Annotated[Int, Field(ge=0)]
NormFunc = Callable[[np.ndarray, np.ndarray], Pair]
Target = Literal["pictures", "frames"]


def fixed_patches(frames: SEMFrames, patch_size: int, limit: int | None = None) -> Pair:
    """Cut frames into a regular grid of patches that do not overlap.

    Parameters
    ----------
    frames : SEMFrames
        The frames.
    patch_size : int
        Side of a low patch in pixels.
    limit : int, optional
        Use at most this many frames, always the same ones, and fewer patches than fit if they would
        take more than 128 MiB.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Low (N, p, p, 1) and high (N, p * scale, p * scale, 1) counts, float32.
    """
    return _cut(frames, _grid(frames, patch_size, limit), patch_size)


def _grid(frames: SEMFrames, size: int, limit: int | None = None) -> list[tuple[int, int, int]]:
    """Return the frame, row and column of each fixed patch."""
    numbers, most = np.arange(len(frames)), None
    if limit is not None:
        if len(frames) > limit:
            chosen = np.random.default_rng(0).choice(len(frames), limit, replace=False)
            numbers = np.sort(chosen)
        patch_bytes = 4 * size**2 * (1 + frames.scale**2)
        most = max(1, _SAMPLED_BYTES // (patch_bytes * len(numbers)))
    places = []
    for number in numbers:
        room = [s.stop - s.start for s in frames.regions[number]]
        places += [(int(number), *corner) for corner in even_places(room, size, most)]
    return places


def _cut(frames: SEMFrames, places: Sequence[tuple[int, int, int]], size: int) -> Pair:
    """Return the patches at (frame, row, column), counts in float32."""
    fine = size * frames.scale
    low = np.empty((len(places), size, size, 1), np.float32)
    high = np.empty((len(places), fine, fine, 1), np.float32)
    counts = Counter(number for number, _, _ in places)
    for i, (number, row, column) in enumerate(places):
        # The crop of a frame with several patches is cached for a while.
        if counts[number] > 2:
            frames.crop(number)
        part = frames.part(number, slice(row, row + size), slice(column, column + size))
        low[i, ..., 0], high[i, ..., 0] = part
    return low, high


class FixedPatches:
    """The low or the high patches of `fixed_patches` for all frames, cut on access.

    Parameters
    ----------
    frames : SEMFrames
        The frames.
    patch_size : int
        Side of a low patch in pixels.
    kind : {0, 1}
        Low or high.

    Attributes
    ----------
    shape : tuple of int
        Shape (N, p, p, 1), like that of an array.
    """

    def __init__(self, frames: SEMFrames, patch_size: int, kind: int) -> None:
        self._frames, self._size, self._kind = frames, patch_size, kind
        self._places = _grid(frames, patch_size)
        side = patch_size * (frames.scale if kind else 1)
        self.shape = (len(self._places), side, side, 1)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, items: slice | np.ndarray) -> np.ndarray:
        chosen = [self._places[number] for number in np.arange(len(self))[items]]
        return _cut(self._frames, chosen, self._size)[self._kind]


def _check_patch(frames: SEMFrames, patch_size: int) -> None:
    sides = [[s.stop - s.start for s in region] for region in frames.regions]
    number = int(np.argmin([min(side) for side in sides]))
    if patch_size > min(sides[number]):
        height, width = sides[number]
        raise ConfigError(
            f"patch_size must be at most {max(min(sides[number]), 0)} pixels, because the usable "
            f"crop of {frames.files[number].low} is {height} × {width}; received {patch_size}. "
            f"Lower it, or increase central_crop_height or central_crop_width if the frame is "
            f"larger."
        )


class WholeCrops(Sequence[SEMFrame]):
    """The frames of a split for measurements, none of which is cached."""

    def __init__(self, opened: SEMFrames) -> None:
        self._opened = opened

    def __len__(self) -> int:
        return len(self._opened)

    @overload
    def __getitem__(self, item: int) -> SEMFrame: ...
    @overload
    def __getitem__(self, item: slice) -> list[SEMFrame]: ...
    def __getitem__(self, item: int | slice) -> SEMFrame | list[SEMFrame]:
        if isinstance(item, slice):
            return [self[number] for number in range(len(self))[item]]
        return self._opened.frame(range(len(self))[item])


class SEMPatchDataset(CropStream, keras.utils.PyDataset):
    """Batches of aligned low / high patches of two folders of SEM pictures.

    Use it in ``fit`` directly, or through `training_dataset`. Batch number i always holds the same
    bytes. Training patches are at random places of the frames' crops, half of them mirrored
    left-right; with ``training=False`` they form a regular grid, so the monitored values do not
    depend on chance.

    Parameters
    ----------
    low_dir, high_dir : path-like
        Folders of the input pictures and of the target pictures.
    patch_size : int
        Side of a low patch in pixels.
    scale, file_prefix, suffix_len, central_crop_height, central_crop_width, data_bar_height
        See `toolbox.tasks.sem.frames.SEMFrames`.
    align, max_shift, in_memory, cache_dir, pairs, stacks
        See there. Frames that are moved in memory take 4 bytes per pixel.
    horizontal_flip : bool
        Mirror half of the training patches left-right.
    repeats : int
        Patches of each frame in an epoch.
    batch_size : int
        Pairs in a batch.
    training : bool
        True for an endless series of random patches, False for the fixed ones once.
    seed : int
        Seed of order, places, mirroring and augmentation.
    norm_func : callable, optional
        ``norm_func(low, high) -> (low, high)``, from counts; default maps `norm_range` to [-1, 1].
    norm_range : (float, float), optional
        Counts that become -1 and 1; default the range of 8 or 16 bits.
    augmenter : toolbox.augment.Augmenter, optional
        Applied to counts before they are normalised, in training only.
    workers : int
        Threads of ``fit``.
    frames : SEMFrames, optional
        Frames that are already open, instead of the folders and their options. Patches of lone
        frames of `toolbox.tasks.sem.stacks.StackFrames` are their own target: some pixels are
        hidden, and the target is NaN everywhere else.
    patches : (numpy.ndarray, numpy.ndarray) or (FixedPatches, FixedPatches), optional
        `fixed_patches` of these frames, already cut or cut on access.

    Attributes
    ----------
    frames : SEMFrames
        The pairs, their shifts and crops.
    num_imgs : int
        Patches in an epoch: frames × repeats in training, otherwise all patches of the grid.
    raw_lr_imgs, raw_hr_imgs : numpy.ndarray, float32
        Fixed patches in counts: all, or in training those of some frames.
    notes : list of str
        Lines that a program should print.

    Raises
    ------
    ConfigError, DataError
        If pairs are invalid, or patches or batches do not fit them.
    """

    def __init__(
        self,
        low_dir: str | os.PathLike[str],
        high_dir: str | os.PathLike[str],
        *,
        patch_size: int = 128,
        scale: int = 1,
        file_prefix: str | Sequence[str] = "",
        suffix_len: int = 8,
        central_crop_height: int | None = 800,
        central_crop_width: int | None = 256,
        data_bar_height: int | Literal["auto"] = 0,
        align: Align = "high",
        max_shift: float = 8.0,
        horizontal_flip: bool = True,
        repeats: int = 1,
        batch_size: int = 8,
        training: bool = True,
        seed: int = 0,
        in_memory: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        norm_func: NormFunc | None = None,
        norm_range: tuple[float, float] | None = None,
        augmenter: Augmenter | None = None,
        pairs: Collection[str] | None = None,
        stacks: Stacks = "frames",
        workers: int = 2,
        frames: SEMFrames | None = None,
        patches: tuple[Any, Any] | None = None,
    ) -> None:
        super().__init__(workers=workers)
        for name, value in (("patch_size", patch_size), ("repeats", repeats)):
            _check_count(name, value)
        _check_count("batch_size", batch_size)
        self.frames = frames or SEMFrames(
            low_dir,
            high_dir,
            scale=scale,
            file_prefix=file_prefix,
            suffix_len=suffix_len,
            central_crop_height=central_crop_height,
            central_crop_width=central_crop_width,
            data_bar_height=data_bar_height,
            align=align,
            max_shift=max_shift,
            in_memory=in_memory,
            cache_dir=cache_dir,
            pairs=pairs,
            stacks=stacks,
        )
        _check_patch(self.frames, patch_size)
        self.patch_size, self.repeats = patch_size, repeats
        self.horizontal_flip, self.training = horizontal_flip, training
        self.batch_size, self.seed = batch_size, seed
        self._epoch = 0
        self._augmenter = augmenter
        low, high = norm_range or self.frames.norm_range
        self._norm_func = norm_func or SymmetricNormalizer(low, high, low, high).normalize_pair
        limit = SAMPLED_FRAMES if training else None
        patches = patches or fixed_patches(self.frames, patch_size, limit)
        self.raw_lr_imgs, self.raw_hr_imgs = patches
        self.num_imgs = len(self.frames) * repeats if training else len(self.raw_lr_imgs)
        self._full_batches = training
        if training and batch_size > self.num_imgs:
            raise ConfigError(
                f"batch_size must not exceed the {len(self.frames)} pairs × {repeats} repeats; "
                f"received {batch_size}. Lower it or increase repeats."
            )

    @property
    def notes(self) -> list[str]:
        """Lines that a program should print."""
        return self.frames.notes

    def __len__(self) -> int:
        return self.steps_per_epoch()

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"batch must be 0 to {len(self) - 1}; received {index}")
        return self.batch(self._epoch * len(self) + index)

    def on_epoch_end(self) -> None:
        """Switch to the patches of the next epoch."""
        self._epoch += 1

    def steps_per_epoch(self) -> int:
        """Return the number of batches: full ones in training, otherwise also a short last one."""
        if self.training:
            return super().steps_per_epoch()
        return -(-self.num_imgs // self.batch_size)

    def batch(self, number: int) -> Pair:
        """Return batch `number`: random patches, or fixed ones with ``training=False``."""
        if self.training:
            return super().batch(number)
        return self.evaluation_batch(int(number) % self.steps_per_epoch() * self.batch_size)

    def rooms(self) -> np.ndarray:
        """Return the rows and columns of each usable crop, shape (frames, 2)."""
        regions = self.frames.regions
        return np.array([[s.stop - s.start for s in region] for region in regions])

    def crops(self, places: Sequence[tuple[int, int, int]]) -> Pair:
        """Return the patches at (frame, row, column), counts in float32."""
        return _cut(self.frames, places, self.patch_size)

    def augmented(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Mirror half of the patches left-right if requested, then augment and hide pixels."""
        if self.horizontal_flip:
            mirrored = rng.random(len(lr)) < 0.5
            for imgs in (lr, hr):
                imgs[mirrored] = imgs[mirrored, :, ::-1]
        return self._hidden(*super().augmented(lr, hr, rng), rng)

    def evaluation_batch(self, start: int) -> Pair:
        """Return at most `batch_size` fixed patches from number `start` on, normalised."""
        part = slice(start, start + self.batch_size)
        rng = np.random.default_rng([0, start])
        return self._norm_func(*self._hidden(self.raw_lr_imgs[part], self.raw_hr_imgs[part], rng))

    def _hidden(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Hide pixels of the patches that are their own target."""
        frames = self.frames
        if not isinstance(frames, StackFrames) or not any(frames.lone):
            return lr, hr
        own = (lr == hr).all(axis=(1, 2, 3))
        lr, hr = lr.copy(), hr.copy()
        lr[own], hr[own] = blind_spots(lr[own], frames.reach, rng)
        return lr, hr

    def fingerprint(self) -> int:
        """Return a checksum of all pixels and of what shapes the patches, except the seed."""
        shaping = (self.patch_size, self.repeats, self.horizontal_flip, self.training)
        return zlib.crc32(repr(shaping).encode(), self.frames.checksum)


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name} must be 1 or more; received {value}. Increase {name}.")


def _refuse_for_frames(scale: int | None, align: Align, stacks: Stacks) -> None:
    """Refuse settings that cannot be combined with frames that learn from each other."""
    wrong = [
        f"{name}: {value}"
        for name, value, allowed in (
            ("scale", scale, (1,)),
            ("sem.align", align, ("high", "none")),
            ("sem.stacks", stacks, ("frames",)),
        )
        if value not in allowed
    ]
    if wrong:
        raise ConfigError(
            f"sem.target: frames needs scale: 1, sem.align: high or none and sem.stacks: frames; "
            f"received {', '.join(wrong)}. Leave {'it' if len(wrong) == 1 else 'them'} out."
        )


class SEMSource(Source):
    """Source ``sem``: folders of low and high SEM pictures.

    Parameters
    ----------
    data_dir : str
        Folder to which the other folders are relative.
    sr_scale : int, optional
        High pictures are this many times larger; default 1.
    train_low_dir, train_high_dir, val_low_dir, val_high_dir, test_low_dir, test_high_dir : str
        Folders of the pictures.
    shares : (float, float, float), optional
        Split the pairs of the training folders, sorted by name, into training, validation and test
        in these shares, e.g. [7, 1, 4]; the other folders are not read.
    patch_size, file_prefix, suffix_len, central_crop_height, central_crop_width
        See `SEMPatchDataset`.
    align, max_shift, repeats, horizontal_flip, in_memory, cache_dir
        See there.
    data_bar_height : int or 'auto'
        Number of data bar rows at the bottom, low pixels; ``auto`` takes the median of those that
        it finds.
    stacks : {'frames', 'mean'}
        Whether pages of a TIFF are separate pictures, or averaged into one.
    pixel_nm : float, optional
        Size of a high pixel in nm; default that of ``dataset.json`` in `data_dir`, otherwise that
        of the tags of the pictures.
    target : {'pictures', 'frames'}
        Target of a low picture: the high picture, or the other frames of its stack, see
        `toolbox.tasks.sem.stacks.StackFrames`. With ``frames``, the high folders of training and
        validation are not read, and that of the test only if it exists.

    Raises
    ------
    ConfigError, DataError
        If settings contradict each other or the folder is missing. Invalid pairs are reported when
        they are first used.
    """

    #: Where the pictures are and how they are read.
    free_settings: ClassVar[tuple[str, ...]] = (
        "train_low_dir",
        "train_high_dir",
        "val_low_dir",
        "val_high_dir",
        "test_low_dir",
        "test_high_dir",
        "in_memory",
        "cache_dir",
    )

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None = None,
        train_low_dir: str = "train/low",
        train_high_dir: str = "train/high",
        val_low_dir: str = "validation/low",
        val_high_dir: str = "validation/high",
        test_low_dir: str = "test/low",
        test_high_dir: str = "test/high",
        shares: tuple[Weight, Weight, Weight] | None = None,
        file_prefix: str | tuple[str, str] = "",
        suffix_len: Count = 8,
        patch_size: Count = 128,
        central_crop_height: Count | None = 800,
        central_crop_width: Count | None = 256,
        data_bar_height: Rows | Literal["auto"] = 0,
        align: Align = "high",
        max_shift: Size = 8.0,
        repeats: Count = 1,
        horizontal_flip: bool = True,
        in_memory: bool = True,
        cache_dir: str | None = None,
        pixel_nm: Size | None = None,
        stacks: Stacks = "frames",
        target: Target = "pictures",
    ) -> None:
        super().__init__(data_dir, sr_scale or 1)
        self.target = target
        if target == "frames":
            _refuse_for_frames(self.sr_scale, align, stacks)
        if not self.data_dir.is_dir():
            raise DataError(f"data_dir {not_found(data_dir, 'folder')}. Check data_dir.")
        self._folders = {
            "train": (self.data_dir / train_low_dir, self.data_dir / train_high_dir),
            "validation": (self.data_dir / val_low_dir, self.data_dir / val_high_dir),
            "test": (self.data_dir / test_low_dir, self.data_dir / test_high_dir),
        }
        self.shares = shares
        self._pairing = (file_prefix, suffix_len)
        self.patch_size, self.repeats = patch_size, repeats
        self.horizontal_flip = horizontal_flip
        self._pixel_nm = pixel_nm
        self._options: dict[str, Any] = {
            "scale": self.sr_scale,
            "central_crop_height": central_crop_height,
            "central_crop_width": central_crop_width,
            "data_bar_height": data_bar_height,
            "align": align,
            "max_shift": max_shift,
            "in_memory": in_memory,
            "cache_dir": cache_dir,
            "file_prefix": file_prefix,
            "suffix_len": suffix_len,
            "stacks": stacks,
        }
        self._opened: dict[str, SEMFrames] = {}
        self._digests: dict[str, dict[bytes, Path]] = {}

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that have other defaults with this source.

        Parameters
        ----------
        section : dict
            Content of the YAML section ``sem``, not yet checked.
        """
        patch_size = section.get("patch_size", 128)
        if section.get("target") == "frames":
            # With squared errors, noise in the target changes only the value of the loss.
            judged: dict[str, Any] = {
                "metrics": [],
                "monitor_metric": "val_loss",
                "loss": "masked_mse",
            }
        else:
            judged = {
                "metrics": ["psnr", "ssim", "cdloss"],
                "monitor_metric": "val_cdloss",
                "loss": {"mae": 1, "one_minus_ssim": 0.1, "edgeloss": 0.05, "cdloss": 0.5},
            }
        return {
            "scale": 1,
            "input_shape": [patch_size, patch_size, 1],
            "normalizer": "symmetric",
            "batch_size": 8,
            "epochs": 50,
            "optimizer": "adamw",
            "learning_rate": 2e-4,
            "lr_schedule": {"name": "cosine", "final": 0.01},
            "final_evaluation": True,
            **judged,
        }

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """Lines that a program should print about the splits opened so far."""
        opened = self._opened.values()
        sizes = [frames.size_note for frames in opened if frames.size_note is not None]
        return sizes[:1] + [note for frames in opened for note in frames.notes]

    @property
    def norm_range(self) -> tuple[float, float]:  # type: ignore[override]
        """Range of counts that the pictures can hold: (0, 255) or (0, 65535)."""
        if self._opened:
            return next(iter(self._opened.values())).norm_range
        bits = read_sem_image(self._any_pair()[0]).bits
        return (0.0, 2.0**bits - 1)

    @property
    def pixel_nm(self) -> float | None:
        """Size of a high pixel in nm; None if neither settings nor files state it."""
        stated = self._stated_pixel_nm()
        if stated is not None:
            return stated[1]
        if self._opened:
            opened = [frames.pixel_nm for frames in self._opened.values()]
            return next((size for size in opened if size is not None), None)
        low, high = (open_sem_stack(path).size for path in self._any_pair())
        if high is not None or low is None:
            return None if high is None else high.x_nm
        return low.x_nm / (self.sr_scale or 1)

    def pixel_nm_of(self, split: str) -> float | None:
        """Return the size of a high pixel in the pictures of a split, nm; None if unknown.

        Parameters
        ----------
        split : {'train', 'validation', 'test'}
            Which data. Their tags count if neither the settings nor ``dataset.json`` state it.
        """
        stated = self._stated_pixel_nm()
        return self.open(split, False).pixel_nm if stated is None else stated[1]

    def facts(self) -> dict[str, float]:
        """Return ``pixel_nm`` (1 if unknown) and ``noise_nm``, the noise of edges in targets."""
        pixel_nm = float(self.pixel_nm or 1.0)
        return {"pixel_nm": pixel_nm, "noise_nm": pixel_nm * self._edge_noise}

    @functools.cached_property
    def _edge_noise(self) -> float:
        """Standard deviation in pixels; high pictures are assumed to have none."""
        frames = self.open("train")
        return frames.edge_noise() if isinstance(frames, StackFrames) else 0.0

    def train(self) -> Pair:
        """Return fixed patches of some training frames: low and high counts (N, h, w, 1)."""
        return self._sampled

    @functools.cached_property
    def _sampled(self) -> Pair:
        return self._patches("train", SAMPLED_FRAMES)

    def validation(self) -> Pair:
        """Return the fixed patches of all validation frames: low and high counts (N, h, w, 1)."""
        return self._patches("validation")

    def test(self) -> Pair:
        """Return the fixed patches of all test frames: low and high counts (N, h, w, 1)."""
        return self._patches("test")

    def frames(self, split: str) -> WholeCrops:
        """Return whole aligned crops for measurements, each made on access.

        Parameters
        ----------
        split : {'train', 'validation', 'test'}
            Which data.
        """
        return WholeCrops(self.open(split, False))

    def open(self, split: str, in_memory: bool | None = None) -> SEMFrames:
        """Return the frames of a split, read on first use.

        Notes report a pixel size that differs from the stated one or between splits, and pictures
        that are also in another split.

        Parameters
        ----------
        split : {'train', 'validation', 'test'}
            Which data.
        in_memory : bool, optional
            Whether crops are kept, on first use; default from the settings.

        Raises
        ------
        ConfigError, DataError
            See `SEMFrames`; also if the splits differ in depth.
        """
        if split not in self._opened:
            low_dir, high_dir = self._folders[self._folder_of(split)]
            pairs = self._dealt(split)
            untold = {text for other in self._opened.values() for text in other.told}
            if self._stated_pixel_nm() is not None:
                untold |= {"size", "sizes"}
            options = {**self._options, "pairs": pairs, "untold": untold}
            if in_memory is not None:
                options["in_memory"] = in_memory
            if self._is_stacks(split):
                frames: SEMFrames = StackFrames(low_dir, **options)
            else:
                frames = SEMFrames(low_dir, high_dir, **options)
            self._refuse_other_depth(frames)
            self._note_other_pixel_size(frames)
            self._note_leaks(split, frames)
            self._opened[split] = frames
        return self._opened[split]

    def _refuse_other_depth(self, frames: SEMFrames) -> None:
        for other in self._opened.values():
            if other.bits != frames.bits:
                raise DataError(
                    f"{frames.files[0].low} has {frames.bits} bits but {other.files[0].low} has "
                    f"{other.bits} bits; training, validation and test must have the same depth. "
                    f"Convert the pictures of one of them."
                )

    def _note_other_pixel_size(self, frames: SEMFrames) -> None:
        tagged = [
            (str(other.files[0].high), other.pixel_nm)
            for other in self._opened.values()
            if other.pixel_nm is not None
        ]
        known = self._stated_pixel_nm() or next(iter(tagged), None)
        if known is None or frames.pixel_nm is None:
            return
        where, size = known
        if abs(frames.pixel_nm - size) > PIXEL_TOLERANCE * size:
            frames.notes.append(
                f"WARNING: a pixel of {frames.files[0].high} is {frames.pixel_nm:g} nm by its tags "
                f"but {size:g} nm by {where}. Fix pixel_nm, or use one magnification."
            )

    def _note_leaks(self, split: str, frames: SEMFrames) -> None:
        """Add a note about pictures of a split that are also in another one, open or not."""
        own = {
            check.digest: path
            for files, checks in zip(frames.files, frames.checks, strict=True)
            for path, check in zip(files.paths, checks, strict=True)
        }
        self._digests[split] = own
        # Open splits were compared with this one when they were opened.
        for other in [name for name in SPLITS if name != split and name not in self._opened]:
            shared = sorted(str(own[d]) for d in own.keys() & self._digests_of(other).keys())
            if shared:
                count, which = f"{len(shared)} pictures of {split} are", "them"
                if len(shared) == 1:
                    count, which = f"1 picture of {split} is", "it"
                frames.notes.append(
                    f"WARNING: {count} also in {other}, byte by byte, so results on {which} are "
                    f"not a test: {some_names(shared)}. Remove {which} from one of the two."
                )

    def _digests_of(self, split: str) -> dict[bytes, Path]:
        """Return the files of a split, open or not, by their checksums."""
        if split not in self._digests:
            paths = self._paths_of(split)
            self._digests[split] = {file_digest(path): path for path in paths}
        return self._digests[split]

    def _paths_of(self, split: str) -> list[Path]:
        """Return the pictures in the folders of a split, even if the split is invalid."""
        stacked = self._is_stacks(split)
        if self.shares is None and not stacked:
            folders = [folder for folder in self._folders[split] if folder.is_dir()]
            found = [path for folder in folders for path in folder.iterdir() if path.is_file()]
            return [path for path in found if path.suffix.lower() in SUFFIXES]
        try:
            dealt = self._dealt(split)
            if stacked:
                stacks = find_stacks(*self._stacks_of(split), dealt)
                return [path for stack in stacks for path in stack.files]
        except (ConfigError, DataError):  # reported when the split is used
            return []
        pairs = pair_files(*self._folders["train"], *self._pairing, dealt)
        return [path for files in pairs for path in files.paths]

    def report(self) -> list[dict[str, Any]]:
        """Return `toolbox.tasks.sem.alignment.alignment_report` for the splits opened so far."""
        return [
            {"split": split, **row}
            for split, frames in self._opened.items()
            for row in frames.report()
        ]

    def records(self) -> dict[str, str]:
        """Return the content of ``pairs.csv`` and ``validity.json``.

        The first records how training and validation pairs were aligned, the second how the low
        training pictures were taken.
        """
        return {
            PAIR_REPORT: pd.DataFrame(self.report()).to_csv(index=False),
            VALIDITY_NAME: validity_text(self.validity()),
        }

    def validity(self) -> Validity:
        """Measure how the low training pictures were taken, on a sample if there are many."""
        frames, stated = self.open("train"), self._stated_pixel_nm()
        count = min(len(frames), MOST_PICTURES)
        numbers = np.unique(np.linspace(0, len(frames) - 1, count).astype(int))
        measured = []
        for number in progress(numbers, "measuring pictures", delay=2):
            # The files state the true size, also if the settings treat several sizes as one.
            size = open_sem_stack(frames.files[number].low).size
            pixel_nm = None if stated is None else stated[1] * (self.sr_scale or 1)
            pixel_nm = pixel_nm if size is None else size.x_nm
            low = frames.crop(number).low
            measured.append(measure_conditions(low, pixel_nm, frames.norm_range[1]))
        return validity_of(measured)

    def batches(
        self,
        split: str,
        norm_func: NormFunc | None,
        batch_size: int,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> Batches:
        """Return random patches for training, or the fixed patches of all frames for validation.

        Parameters
        ----------
        split : {'train', 'validation'}
            Which data.
        norm_func : callable or None
            ``norm_func(low, high) -> (low, high)``, from counts; None maps them to [-1, 1].
        batch_size : int
            Pairs in a batch.
        augmenter : toolbox.augment.Augmenter, optional
            Applied to counts before they are normalised.
        seed : int
            Seed of all random choices.
        """
        frames = self.open(split)
        _check_patch(frames, self.patch_size)
        patches: tuple[Any, Any] = (
            self._sampled
            if split == "train"
            else (
                FixedPatches(frames, self.patch_size, 0),
                FixedPatches(frames, self.patch_size, 1),
            )
        )
        return SEMPatchDataset(
            *self._folders[self._folder_of(split)],
            patch_size=self.patch_size,
            repeats=self.repeats,
            horizontal_flip=self.horizontal_flip,
            batch_size=batch_size,
            training=split == "train",
            seed=seed,
            norm_func=norm_func,
            augmenter=augmenter,
            frames=frames,
            patches=patches,
        )

    def _patches(self, split: str, limit: int | None = None) -> Pair:
        frames = self.open(split)
        _check_patch(frames, self.patch_size)
        return fixed_patches(frames, self.patch_size, limit)

    def _is_stacks(self, split: str) -> bool:
        """Tell whether the targets of a split are the other frames of stacks."""
        if self.target == "pictures":
            return False
        return split != "test" or self.shares is not None or not self._folders["test"][1].is_dir()

    def _stacks_of(self, split: str) -> tuple[Path, str]:
        """Return the folder of the stacks of a split, and the required beginning of their names."""
        prefix = self._pairing[0]
        folder = self._folders[self._folder_of(split)][0]
        return folder, prefix if isinstance(prefix, str) else prefix[0]

    def _folder_of(self, split: str) -> str:
        return split if self.shares is None else "train"

    def _dealt(self, split: str) -> list[str] | None:
        """Return the names of the pairs that `shares` assigns to a split; None for all."""
        if self.shares is None:
            return None
        total = sum(self.shares)
        if not (total > 0 and min(self.shares) >= 0):
            raise ConfigError(
                f"shares must be three numbers from 0, not all 0; received {list(self.shares)}. "
                f"Use e.g. [7, 1, 4]."
            )
        if self._is_stacks(split):
            names = [stack.name for stack in find_stacks(*self._stacks_of(split))]
        else:
            names = [files.name for files in pair_files(*self._folders["train"], *self._pairing)]
        ends = np.rint(np.cumsum([0, *self.shares]) / total * len(names)).astype(int)
        number = SPLITS.index(split)
        chosen = names[ends[number] : ends[number + 1]]
        if not chosen:
            raise ConfigError(
                f"shares must leave a pair for {split}; received {list(self.shares)} for "
                f"{len(names)} pairs. Increase the {('first', 'second', 'third')[number]} share."
            )
        return chosen

    def _any_pair(self) -> tuple[Path, Path]:
        """Return the first pair of the first split that exists."""
        there = [split for split in SPLITS if self._folders[self._folder_of(split)][0].is_dir()]
        split = (*there, "train")[0]
        if self._is_stacks(split):
            path = find_stacks(*self._stacks_of(split))[0].files[0]
            return path, path
        files = pair_files(*self._folders[self._folder_of(split)], *self._pairing)[0]
        return files.low, files.high

    def _stated_pixel_nm(self) -> tuple[str, float] | None:
        """Return the source and the pixel size that settings or ``dataset.json`` state."""
        if self._pixel_nm is not None:
            return "sem.pixel_nm", self._pixel_nm
        recorded = self._recorded_pixel_nm()
        return None if recorded is None else (str(self.data_dir / RECORD_NAME), recorded)

    def _recorded_pixel_nm(self) -> float | None:
        record = self.data_dir / RECORD_NAME
        try:
            pixel_nm = json.loads(record.read_text(encoding="utf-8")).get("pixel_nm")
            size = None if pixel_nm is None else float(pixel_nm)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{record}: expected nm under pixel_nm; received {type(error).__name__}: {error}. "
                f"Fix or remove the file."
            ) from None
        if size is not None and not (np.isfinite(size) and size > 0):
            raise DataError(f"{record}: pixel_nm must be above 0; received {size}. Fix the file.")
        return size
