"""The source ``photo``: random crops of photographs, whose low-resolution forms may be made."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from toolbox.config import Count, Weight
from toolbox.data_generator import Pair
from toolbox.data_loader import SPLITS
from toolbox.errors import ConfigError
from toolbox.picture_set import as_counts, checked_shares, dealt, to_pixels
from toolbox.picture_source import MEASURED_SIDE, MOST_CROPS, Gigabytes, PictureCrops, PictureSource
from toolbox.resize import Reduction
from toolbox.tasks.photo.degrade import Degradation, degrade
from toolbox.tasks.photo.photos import PhotoFile, PhotoPair, Photos, pair_photos

#: Which photographs a run learned from, and which it left out.
PHOTO_REPORT = "photos.csv"


class PhotoCrops(PictureCrops):
    """Training batches of photographs, degraded after they are augmented if that is set."""

    #: Arguments of `toolbox.tasks.photo.degrade.degrade`, or None.
    degradation: dict[str, Any] | None = None

    def augmented(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Augment, then degrade."""
        lr, hr = super().augmented(lr, hr, rng)
        return (lr, hr) if self.degradation is None else degrade(lr, hr, rng, **self.degradation)

    def shaping(self) -> tuple[Any, ...]:
        """Return what shapes the crops, but for the seed."""
        return (*super().shaping(), self.degradation)


class PhotoSource(PictureSource[Photos]):
    """What ``source: photo`` in a YAML file means: folders of photographs.

    If `data_dir` holds the folders ``train``, ``validation`` and ``test``, these are the splits;
    otherwise all photographs are dealt to them by `shares`.

    Parameters
    ----------
    data_dir : str
        Folder of the photographs, sub-folders included.
    sr_scale : int, optional
        Enlargement; default 2.
    lr_dir : str, optional
        Folder of their low-resolution forms, with the same names and sub-folders; relative to
        `data_dir` or absolute. Without it they are made.
    shares : (float, float, float)
        Shares of training, validation and test where there are no folders of them.
    lr_crop : int
        Side of a low-resolution crop: 128 and, at ×2, 256 for the photograph.
    resize : bool
        Bring every photograph to a square before it is cropped: twice as large as a crop, 256 and,
        at ×2, 512 pixels. This distorts what is not square.
    downscale : {'bicubic', 'lanczos', 'area'}
        How low-resolution forms are made.
    channels : {3, 1}
        Colour or grey.
    repeats : int
        Crops of each photograph in an epoch.
    validation_crops : int
        Fixed crops of each photograph of the validation, at most 256 in all.
    memory_gb : float
        How much of the photographs may stay in memory; the others are read for every crop.
    degradation : dict, optional
        Blur, noise and JPEG of the low-resolution crops, in random order and strength: see
        `toolbox.tasks.photo.degrade`.

    Raises
    ------
    ConfigError, DataError
        If a folder is missing or holds no photograph that can be used.
    """

    free_settings: ClassVar[tuple[str, ...]] = ("lr_dir", "memory_gb")
    section = "photo"
    table = (PHOTO_REPORT, "photo", ("lr_width", "lr_height"))

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None = None,
        lr_dir: str | None = None,
        shares: tuple[Weight, Weight, Weight] = (8, 1, 1),
        lr_crop: Annotated[Count, Field(ge=8)] = 128,
        resize: bool = False,
        downscale: Reduction = "bicubic",
        channels: Literal[3, 1] = 3,
        repeats: Annotated[Count, Field(le=100_000)] = 1,
        validation_crops: Count = 4,
        memory_gb: Gigabytes = 4.0,
        degradation: Degradation | None = None,
    ) -> None:
        self.scale = sr_scale or 2
        super().__init__(data_dir, self.scale, lr_crop, repeats, memory_gb)
        if lr_dir is None and all((self.data_dir / name).is_dir() for name in ("HR", "LR")):
            raise ConfigError(
                f"data_dir {data_dir}: holds the folders HR and LR of downscale, and a photograph "
                f"and its copy must not be dealt to two splits. Set data_dir to its HR and "
                f"photo.lr_dir to ../LR."
            )
        self.lr_dir = None if lr_dir is None else self.data_dir / lr_dir
        self.shares = checked_shares(shares, "photo.shares")
        self.validation_crops = validation_crops
        self.degradation: dict[str, Any] | None = None
        if degradation is not None:  # what was checked is a plain mapping again
            self.degradation = Degradation.model_validate(degradation).model_dump()
        self._options: dict[str, Any] = {
            "scale": self.scale,
            "channels": channels,
            "method": downscale,
            "memory": self.memory,
        }
        self._resized = 2 * lr_crop if resize else None

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the geometry of the SRGAN application, and what suits photographs."""
        side = section["lr_crop"]
        return {
            "scale": 2,
            "input_shape": [side, side, section["channels"]],
            "loss": "mae",
            "metrics": ["psnr", "ssim"],
            "monitor_metric": "val_psnr",
            "online_da": {
                "valid": True,
                "horizontal_flip": True,
                "vertical_flip": True,
                "quarter_turn": True,
            },
            "srgan": {
                "filters": 64,
                "num_residual_blocks": 16,
                "d_filters": 16,
                "d_num_downsampling_blocks": 3,
                "loss_weights": [1, 1e-3],
            },
        }

    def open(self, split: str, whole: bool) -> Photos:
        """Read the photographs of a split; whole ones are neither resized, nor too small."""
        return Photos(
            self.files(split),
            **self._options,
            side=None if whole else self._resized,
            smallest=MEASURED_SIDE if whole else self.side,
            what=f"photographs for {split}",
        )

    def photos(self, split: str) -> Photos:
        """Return the photographs of a split: train, validation, or whole ones of the test."""
        return self.pictures(split, split == "test")

    def pair(self, split: str, number: int) -> PhotoPair:
        """Return a whole photograph of a split at both sizes, degraded if that is set."""
        pair = self.photos(split).pair(number)
        if self.degradation is None:
            return pair
        low = self._degraded(as_counts(pair.low)[None], number)[0]
        return PhotoPair(to_pixels(low, pair.low.dtype), pair.high)

    def serve(self, *arguments: Any) -> PhotoCrops:
        """Return what serves training batches, degraded if that is set."""
        batches = PhotoCrops(*arguments)
        batches.degradation = self.degradation
        return batches

    def files(self, split: str) -> list[PhotoFile]:
        """Return the photographs of a split."""
        if (self.data_dir / "train").is_dir():
            low = None if self.lr_dir is None else self.lr_dir / split
            return pair_photos(self.data_dir / split, low, self.scale)
        files = pair_photos(self.data_dir, self.lr_dir, self.scale)
        chosen = dealt(files, self.shares, SPLITS.index(split))
        if not chosen:
            raise ConfigError(
                f"photo.shares must leave a photograph for {split}; received {list(self.shares)} "
                f"for {len(files)} of them. Raise that share, or add photographs."
            )
        return chosen

    def fixed(self, split: str, most: int | None = None) -> Pair:
        """Return crops of a regular grid: (N, h, w, C) and (N, H, W, C), 0 to 255."""
        photos = self.photos(split)
        size = min(self.side, int(photos.sizes.min()))
        each = self.validation_crops if most is None else 1
        low, high = photos.even_crops(size, each, most or MOST_CROPS)
        return self._degraded(low, 0), high

    def _degraded(self, low: np.ndarray, number: int) -> np.ndarray:
        """Degrade images of 0 to 255, always alike, if that is set."""
        if self.degradation is None:
            return low
        return degrade(low, low, np.random.default_rng([number, 3]), **self.degradation)[0]
