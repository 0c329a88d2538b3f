"""The source ``photo``: random crops of photographs, with low-resolution versions read or made."""

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

#: File that lists the photographs of a run, and those left out.
PHOTO_REPORT = "photos.csv"


class PhotoCrops(PictureCrops):
    """Training batches of photographs; degraded after augmentation if `degradation` is set."""

    #: Arguments of `toolbox.tasks.photo.degrade.degrade`, or None.
    degradation: dict[str, Any] | None = None

    def augmented(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Augment, then degrade."""
        lr, hr = super().augmented(lr, hr, rng)
        return (lr, hr) if self.degradation is None else degrade(lr, hr, rng, **self.degradation)

    def shaping(self) -> tuple[Any, ...]:
        """Return everything that determines the crops, except the seed."""
        return (*super().shaping(), self.degradation)


class PhotoSource(PictureSource[Photos]):
    """Folders of photographs: ``source: photo`` in a YAML file.

    If `data_dir` holds the folders ``train``, ``validation`` and ``test``, these are the splits;
    otherwise photographs are assigned to them by `shares`.

    Parameters
    ----------
    data_dir : str
        Folder of the photographs, sub-folders included.
    sr_scale : int, optional
        Enlargement factor; default 2.
    lr_dir : str, optional
        Folder of their low-resolution versions, with the same names and sub-folders; relative to
        `data_dir` or absolute. Without it they are made.
    shares : (float, float, float)
        Shares of training, validation and test, if they have no folders.
    lr_crop : int
        Side of a low-resolution crop in pixels: with 128 and ×2, crops of the photograph have 256.
    resize : bool
        Resize every photograph to a square before it is cropped. The square is twice as large as a
        crop: 256 pixels at low resolution and, at ×2, 512. This distorts what is not square.
    downscale : {'bicubic', 'lanczos', 'area'}
        How low-resolution versions are made.
    channels : {3, 1}
        Colour or grey.
    repeats : int
        Crops per photograph in an epoch.
    validation_crops : int
        Fixed crops per validation photograph, at most 256 in total.
    memory_gb : float
        Memory for photographs, in GB; those that do not fit are read again for every crop.
    degradation : dict, optional
        Blur, noise and JPEG compression of the low-resolution crops, in random order and
        strength: see `toolbox.tasks.photo.degrade`.

    Raises
    ------
    ConfigError, DataError
        If a folder is missing or holds no usable photograph.
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
                f"and its copy must not be in two splits. Set data_dir to its folder HR and "
                f"photo.lr_dir to ../LR."
            )
        self.lr_dir = None if lr_dir is None else self.data_dir / lr_dir
        self.shares = checked_shares(shares, "photo.shares")
        self.validation_crops = validation_crops
        self.degradation: dict[str, Any] | None = None
        if degradation is not None:  # a plain mapping here, although it was checked before
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
        """Return the geometry of the SRGAN application, and defaults that suit photographs."""
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
        """Open the photographs of a split; if `whole`, not resized and smaller ones allowed."""
        return Photos(
            self.files(split),
            **self._options,
            side=None if whole else self._resized,
            smallest=MEASURED_SIDE if whole else self.side,
            what=f"photographs for {split}",
        )

    def photos(self, split: str) -> Photos:
        """Return the photographs of a split; those of the test are whole."""
        return self.pictures(split, split == "test")

    def pair(self, split: str, number: int) -> PhotoPair:
        """Return a photograph of a split at both sizes, degraded if `degradation` is set."""
        pair = self.photos(split).pair(number)
        if self.degradation is None:
            return pair
        low = self._degraded(as_counts(pair.low)[None], number)[0]
        return PhotoPair(to_pixels(low, pair.low.dtype), pair.high)

    def serve(self, *arguments: Any) -> PhotoCrops:
        """Return the training batches, degraded if `degradation` is set."""
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
                f"for {len(files)} photographs. Raise that share, or add photographs."
            )
        return chosen

    def fixed(self, split: str, most: int | None = None) -> Pair:
        """Return crops on a regular grid: (N, h, w, C) and (N, H, W, C), 0 to 255."""
        photos = self.photos(split)
        size = min(self.side, int(photos.sizes.min()))
        each = self.validation_crops if most is None else 1
        low, high = photos.even_crops(size, each, most or MOST_CROPS)
        return self._degraded(low, 0), high

    def _degraded(self, low: np.ndarray, number: int) -> np.ndarray:
        """Degrade images of 0 to 255, the same way every time, if `degradation` is set."""
        if self.degradation is None:
            return low
        return degrade(low, low, np.random.default_rng([number, 3]), **self.degradation)[0]
