"""Cut rasters into blocks and blocks into patches, for training, validation and test.

``python -m sr_dataset_builder.dataset build.yml``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator

from sr_dataset_builder.block_rows import BlockRows, refuse_small_blocks
from sr_dataset_builder.map_rows import MapRows, ReducedRows, Rows, filled
from sr_dataset_builder.pair_maps import pair_rows
from sr_dataset_builder.patch_files import Kind, PatchFiles, refuse_full_disk
from sr_dataset_builder.resize import METHODS
from toolbox.command_line import OneLineParser
from toolbox.config import Float, Int, Settings, Step, Variable, check, read_yaml
from toolbox.data_loader import RECORD_NAME, SPLITS
from toolbox.errors import ConfigError, DataError, program
from toolbox.io.raster import Raster
from toolbox.tasks.bathymetry import terrain
from toolbox.tasks.bathymetry.source import DEFAULT_DELTA_M

Pair = tuple[int, int]
Blocks = list[np.ndarray]


Metres = Annotated[Float, Field(gt=0)]


class MapParams(Settings):
    """Settings that state how a map is read.

    Attributes
    ----------
    variable : default the only candidate
        Variable of a NetCDF or ``.npz`` file, ``uncertainty`` of S-102, or band number such as
        ``2`` (band 1 if not set).
    time : default the only step
        Step of the axis that a NetCDF variable has in addition to rows and columns: its number,
        counted from 1, or its date or value.
    group : default the file itself, or the only group with planes
        Group of a NetCDF file, such as ``survey/fine``, or coverage of S-102, such as
        ``BathymetryCoverage.02``.
    nodata
        A value that means "missing", in addition to NaN and the nodata value of the file.
    zero_is_missing
        Zero also means "missing".
    positive
        Whether the file holds elevations or depths.
    valid_range
        Elevations outside this range are excluded and not filled; metres, negative below sea level.
    kernel_size
        Window whose mean fills a missing pixel.
    delta_hr_m : default that of the file, else ``50``
        Grid spacing of the high-resolution map in metres.
    """

    kernel_size: tuple[Int, Int] = (5, 5)
    variable: Variable = None
    time: Step = None
    group: str | None = None
    nodata: Float | None = None
    zero_is_missing: bool = False
    positive: Literal["up", "down"] = "up"
    valid_range: tuple[Float, Float] | None = None
    delta_hr_m: Metres | tuple[Metres, Metres] | None = None

    @model_validator(mode="after")
    def _odd_kernel(self) -> MapParams:
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size must be 1 or more; received {self.kernel_size}.")
        if not all(size % 2 for size in self.kernel_size):
            raise ValueError(f"kernel_size must be odd; received {self.kernel_size}. Use [5, 5].")
        return self


class BuildParams(MapParams):
    """Settings of a build file (YAML).

    Attributes
    ----------
    hr_fname
        High-resolution map: ``.tif``, ``.tiff``, ``.bag``, ``.h5`` (S-102), ``.nc``, ``.asc``,
        ``.grd``, ``.npy``, ``.npz``, ``.pkl``, or ``sample:NAME.npz`` from Matplotlib.
    lr_fname
        Low-resolution map of the same area; null derives it from the high-resolution one.
    save_dir
        Folder for the patches; one that already holds patches is refused.
    scale
        High resolution ÷ low resolution.
    lr_method
        How the low-resolution map is made: ``area``, ``nearest``, ``linear``, ``cubic``,
        ``lanczos``.
    block_shape
        Number of blocks.
    lr_img_shape
        Size of a low-resolution patch.
    lr_stride
        Offset between low-resolution patches of a block.
    validation_size
        Share of the blocks for validation.
    test_size
        Share of the blocks for the test.
    seed
        Seed of the split.
    delta_lr_m : default see below
        Grid spacing of the low-resolution map in metres.
    files
        Form of the patches: ``pkl`` as in the manual, ``npy`` to be mapped into memory, or
        ``auto``, which writes pickles up to 1 GiB of patches and ``npy`` above.
    overwrite
        Replace the patches in ``save_dir``, and remove the feature tables (``.csv``) of the old
        patches.
    """

    hr_fname: str
    lr_fname: str | None = None
    save_dir: Annotated[str, Field(min_length=1)]
    block_shape: tuple[Int, Int] = (44, 40)
    scale: Annotated[Int, Field(ge=1, le=16)] = 4
    lr_img_shape: tuple[Int, Int] = (16, 16)
    lr_stride: tuple[Int, Int] = (2, 2)
    validation_size: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    test_size: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[Int, Field(ge=0)] = 0
    lr_method: Literal[METHODS] = "area"  # type: ignore[valid-type]
    delta_lr_m: Metres | tuple[Metres, Metres] | None = None
    files: Kind = "auto"
    overwrite: bool = False

    @model_validator(mode="after")
    def _positive(self) -> BuildParams:
        for name in ("block_shape", "lr_img_shape", "lr_stride"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be 1 or more; received {getattr(self, name)}.")
        if self.validation_size + self.test_size >= 1:
            raise ValueError("validation_size + test_size must be below 1, to leave training data.")
        return self


def read_map(fname: str, params: MapParams, notes: list[str]) -> Raster:
    """Read a map and fill its gaps; pixels that valid_range excludes stay missing.

    Parameters
    ----------
    fname : str
        Raster file.
    params : MapParams
        How the map is read.
    notes : list of str
        Receives a line for every suspicious value.

    Returns
    -------
    toolbox.io.raster.Raster

    Raises
    ------
    DataError
        If the map cannot be read, or every pixel is missing.
    """
    rows = MapRows(fname, params, notes)
    raster = rows.raster()
    rows.close()
    return raster


class Dataset:
    """A randomly split set of patches, cut block by block.

    Patches of one block overlap, so each block is assigned to train, validation or test.

    Parameters
    ----------
    lr_fname : str or None
        Low-resolution raster, shape (h, w); None derives it from the high-resolution one.
    hr_fname : str
        High-resolution raster, shape (h * scale, w * scale).
    block_shape : (int, int)
        Number of blocks (rows, columns), e.g. (44, 40).
    params : BuildParams, optional
        All other settings; the defaults are those of the manual (16² and 64² patches, offsets 2
        and 8).

    Attributes
    ----------
    x_train, x_validation, x_test : numpy.ndarray, shape (N, h, w), float32
        Low-resolution patches in metres, negative below sea level.
    y_train, y_validation, y_test : numpy.ndarray, shape (N, H, W), float32
        High-resolution patches.

    Raises
    ------
    DataError
        If the rasters do not match each other or hold too few complete blocks.
    """

    def __init__(
        self,
        lr_fname: str | None,
        hr_fname: str,
        block_shape: Sequence[int] = (44, 40),
        params: BuildParams | None = None,
    ) -> None:
        self.notes: list[str] = []
        self.params = params or BuildParams(hr_fname=hr_fname, lr_fname=lr_fname, save_dir=".")
        p = self.params
        lr, hr = self._open(lr_fname, hr_fname)
        self._cut = BlockRows(lr, hr, block_shape, p.lr_img_shape, p.lr_stride, p.scale)
        counts = self._cut.counts("reading").ravel()
        for rows in self._maps:
            rows.refuse_empty()
        kept: Blocks = list(np.flatnonzero(counts))
        parts = self.train_validation_test_split(kept, kept, p.validation_size, p.test_size)[:3]
        self.blocks = {split: len(part) for split, part in zip(SPLITS, parts, strict=True)}
        self.pairs = {
            split: int(counts[part].sum()) for split, part in zip(SPLITS, parts, strict=True)
        }
        # Where the first pair of each block goes.
        self._places: dict[int, tuple[str, int]] = {}
        for split, part in zip(SPLITS, parts, strict=True):
            starts = np.cumsum([0, *counts[part]])
            self._places |= {
                int(block): (split, int(start)) for block, start in zip(part, starts, strict=False)
            }
        self._train_range_m: list[float] | None = None

    def _open(self, lr_fname: str | None, hr_fname: str) -> tuple[Rows, Rows]:
        p = self.params
        hr = MapRows(hr_fname, p, self.notes)
        self._maps = [hr]
        lr: Rows = ReducedRows(hr, p.scale, p.lr_method)
        own = None
        if lr_fname is not None:
            lr = given = MapRows(lr_fname, p, self.notes)
            self._maps.append(given)
            wanted = _scaled(given.shape, p.scale)
            if hr.shape != wanted:
                raise DataError(
                    f"{hr_fname}: must be {p.scale} times the size of {lr_fname}, {wanted}; "
                    f"received {hr.shape}. Set scale, or give hr_fname alone."
                )
            pair_rows(given, hr, p.scale, self.notes)
            own = given.delta_m
        self.delta_hr_m = spacing_of(p.delta_hr_m, hr, self.notes)
        coarse = _times(self.delta_hr_m, p.scale)
        self.delta_lr_m = p.delta_lr_m or (own if p.delta_hr_m is None else None) or coarse
        return lr, hr

    def close(self) -> None:
        """Close the maps; what was not asked for until then can no longer be had."""
        for rows in self._maps:
            rows.close()

    def images(self, label: str) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
        """Yield all complete pairs while the maps are read once more.

        Parameters
        ----------
        label : str
            For the bar of progress.

        Yields
        ------
        (str, int, numpy.ndarray, numpy.ndarray)
            Split, number of the first pair in it, low- and high-resolution images (n, h, w).
        """
        filled: Counter[int] = Counter()
        low, high = np.inf, -np.inf
        for strip in self._cut.strips(label):
            for column in np.flatnonzero(strip.whole.any(axis=1)).tolist():
                block = strip.row * len(strip.whole) + column
                whole = strip.whole[column]
                lr, hr = strip.lr[column][whole], strip.hr[column][whole]
                split, start = self._places[block]
                yield split, start + filled[block], lr, hr
                filled[block] += len(lr)
                if split == "train":
                    low, high = min(low, float(hr.min())), max(high, float(hr.max()))
        self._train_range_m = [low, high]

    @cached_property
    def _arrays(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """All images in memory, for those who ask for them as attributes."""
        p, shape = self.params, self.params.lr_img_shape
        found = {
            split: (
                np.empty((count, *shape), np.float32),
                np.empty((count, *_scaled(shape, p.scale)), np.float32),
            )
            for split, count in self.pairs.items()
        }
        for split, start, lr, hr in self.images("cutting"):
            for target, imgs in zip(found[split], (lr, hr), strict=True):
                target[start : start + len(imgs)] = imgs
        return found

    @property
    def x_train(self) -> np.ndarray:
        """Low-resolution images for training."""
        return self._arrays["train"][0]

    @property
    def x_validation(self) -> np.ndarray:
        """Low-resolution images for validation."""
        return self._arrays["validation"][0]

    @property
    def x_test(self) -> np.ndarray:
        """Low-resolution images for the test."""
        return self._arrays["test"][0]

    @property
    def y_train(self) -> np.ndarray:
        """High-resolution images for training."""
        return self._arrays["train"][1]

    @property
    def y_validation(self) -> np.ndarray:
        """High-resolution images for validation."""
        return self._arrays["validation"][1]

    @property
    def y_test(self) -> np.ndarray:
        """High-resolution images for the test."""
        return self._arrays["test"][1]

    @staticmethod
    def cleansing(img: np.ndarray, kernel_size: Sequence[int] = (5, 5)) -> np.ndarray:
        """Fill missing pixels with the mean of the valid ones around them.

        Parameters
        ----------
        img : numpy.ndarray, shape (H, W)
            NaN where missing.
        kernel_size : (int, int)
            Window (rows, columns). Only original pixels are used, at the margins too.

        Returns
        -------
        cimg : numpy.ndarray, shape (H, W), float32
            The filled map. Pixels without a valid pixel in their window stay NaN.
        """
        return filled(img, kernel_size)

    @staticmethod
    def block_split(
        base_img: np.ndarray,
        block_shape: Sequence[int],
        img_shape: Sequence[int],
        stride: Sequence[int],
    ) -> np.ndarray:
        """Cut a map into blocks and every block into overlapping images.

        Parameters
        ----------
        base_img : numpy.ndarray, shape (H, W)
            The map. Rows and columns beyond a whole number of blocks are dropped at the bottom
            and the right.
        block_shape : (int, int)
            Number of blocks (rows, columns), e.g. (44, 40).
        img_shape : (int, int)
            Size of an image in pixels, e.g. (16, 16) or (64, 64).
        stride : (int, int)
            Offset between images in pixels, e.g. (2, 2) or (8, 8).

        Returns
        -------
        numpy.ndarray, shape (blocks, images, h, w)

        Raises
        ------
        DataError
            If a block is smaller than an image.
        """
        (down, right), (h, w) = block_shape, img_shape
        block_h, block_w = base_img.shape[0] // down, base_img.shape[1] // right
        refuse_small_blocks(base_img.shape, block_shape, (block_h, block_w), img_shape)
        cut = base_img[: down * block_h, : right * block_w]
        blocks = cut.reshape(down, block_h, right, block_w).swapaxes(1, 2)
        windows = sliding_window_view(blocks, (h, w), axis=(2, 3))  # type: ignore[call-overload]
        chosen = windows[:, :, :: stride[0], :: stride[1]]
        return chosen.reshape(down * right, -1, h, w)

    @staticmethod
    def rm_nan(lr_blocks: np.ndarray | Blocks, hr_blocks: np.ndarray | Blocks) -> list[Blocks]:
        """Drop the pairs in which either image has a missing pixel.

        Parameters
        ----------
        lr_blocks, hr_blocks : numpy.ndarray or list of arrays, shape (blocks, images, h, w)
            Matching low- and high-resolution images.

        Returns
        -------
        list of two lists
            For each block that keeps at least one pair, its images (images, h, w).
        """
        lr_kept: Blocks = []
        hr_kept: Blocks = []
        for lr, hr in zip(lr_blocks, hr_blocks, strict=True):
            # A sum is NaN or infinite if any term is, and needs no mask in memory.
            with np.errstate(over="ignore", invalid="ignore"):
                whole = np.isfinite(lr.sum(axis=(1, 2)) + hr.sum(axis=(1, 2)))
            if whole.any():
                lr_kept.append(lr if whole.all() else lr[whole])
                hr_kept.append(hr if whole.all() else hr[whole])
        return [lr_kept, hr_kept]

    def train_validation_test_split(
        self, x: Blocks, y: Blocks, validation_size: float = 0.1, test_size: float = 0.1
    ) -> list[Blocks]:
        """Split the blocks at random, with the recorded seed.

        Parameters
        ----------
        x, y : list of numpy.ndarray, each (images, h, w)
            Low- and high-resolution images by block.
        validation_size, test_size : float
            Shares of the blocks, 0 to 1.

        Returns
        -------
        list of six lists
            x for train, validation and test, then y for train, validation and test.

        Raises
        ------
        DataError
            If one of the three would be empty.
        """
        n = len(x)
        validation, test = round(n * validation_size), round(n * test_size)
        train = n - validation - test
        if min(train, validation, test) < 1:
            raise DataError(
                f"{n} complete blocks are split into {train} for training, {validation} for "
                f"validation and {test} for test; each needs at least one. Use more blocks "
                f"(block_shape), a wider valid_range, or larger validation_size and test_size."
            )
        order = np.random.default_rng(self.params.seed).permutation(n)
        parts = np.split(order, [train, train + validation])
        return [[imgs[i] for i in sorted(part)] for imgs in (x, y) for part in parts]

    def save(self, save_dir: str) -> None:
        """Write ``train/ validation/ test/`` with ``data_LR.pkl`` and ``data_HR.pkl``.

        Images have shape (N, H, W, 1), float32, metres. ``dataset.json`` records spacing, seed,
        counts and the training range.

        Parameters
        ----------
        save_dir : str
            Folder; created if missing.
        """
        p = self.params
        shapes = {"LR": p.lr_img_shape, "HR": _scaled(p.lr_img_shape, p.scale)}
        pair_bytes = 4 * sum(h * w for h, w in shapes.values())
        refuse_full_disk(
            save_dir,
            pair_bytes * sum(self.pairs.values()),
            "Raise lr_stride, or choose another folder.",
        )
        with PatchFiles(save_dir, {k: (*s, 1) for k, s in shapes.items()}, p.files) as files:
            for split, start, lr, hr in self.images("cutting"):
                files.write(split, "LR", lr, start)
                files.write(split, "HR", hr, start)
            files.finish()
            files.record(self.summary())

    def _range_m(self) -> list[float]:
        if self._train_range_m is None:
            self._arrays  # noqa: B018 - cutting measures it
        return self._train_range_m or []

    def summary(self) -> dict[str, Any]:
        """Return the description of the data set for ``dataset.json``."""
        return {
            "hr_fname": self.params.hr_fname,
            "lr_fname": self.params.lr_fname,
            "lr_method": None if self.params.lr_fname else self.params.lr_method,
            "scale": self.params.scale,
            "delta_lr_m": self.delta_lr_m,
            "delta_hr_m": self.delta_hr_m,
            "seed": self.params.seed,
            "train_range_m": self._range_m(),
            "blocks": self.blocks,
            "pairs": self.pairs,
        }


def _scaled(pair: Sequence[int], scale: int) -> Pair:
    return pair[0] * scale, pair[1] * scale


def _times(delta_m: terrain.Spacing, scale: int) -> terrain.Spacing:
    if isinstance(delta_m, tuple):
        return delta_m[0] * scale, delta_m[1] * scale
    return delta_m * scale


def spacing_of(
    setting: terrain.Spacing | None, raster: Raster | MapRows, notes: list[str]
) -> terrain.Spacing:
    """Choose the grid spacing of a high-resolution map.

    Parameters
    ----------
    setting : float or (float, float), optional
        Spacing in the build file, metres.
    raster : toolbox.io.raster.Raster or MapRows
        The map.
    notes : list of str
        Receives a line if neither states a spacing and that of the manual is used.

    Returns
    -------
    float or (float, float)
        Grid spacing in metres.

    Raises
    ------
    DataError
        If the map has coordinates in an unknown unit.
    """
    if setting is not None or raster.delta_m is not None:
        return setting if setting is not None else raster.delta_m  # type: ignore[return-value]
    if raster.georeferenced:
        raise DataError(
            f"{raster.fname}: states the position of its pixels, but not the unit, so its grid "
            f"spacing is unknown. Add 'delta_hr_m: ...' in metres."
        )
    default = DEFAULT_DELTA_M["HR"]
    notes.append(
        f"{raster.fname}: does not state its grid spacing; {default:g} m is used, as in the "
        f"manual. If it is another, add 'delta_hr_m: ...' in metres."
    )
    return default


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.dataset",
        description="Cut rasters into train, validation and test patches.",
    )
    parser.add_argument("yml_fname", help="build file (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    build(check(BuildParams, read_yaml(fname), fname), fname)


def refuse_data_set(save_dir: str, where: str, overwrite: bool) -> None:
    """Refuse a folder that holds a data set, unless it may be replaced."""
    folder = Path(save_dir)
    if not overwrite and any(
        next(folder.glob(pattern), None) for pattern in (RECORD_NAME, "*/data_[HL]R.*")
    ):
        raise ConfigError(
            f"{where}: save_dir {save_dir} already holds a data set. "
            f"Choose another folder, remove it, or add 'overwrite: true'."
        )


def build(params: BuildParams, where: str = "build.yml") -> Dataset:
    """Build and save the data set that `params` describes."""
    refuse_data_set(params.save_dir, where, params.overwrite)
    print(f"reading {params.hr_fname}", flush=True)
    dataset = Dataset(params.lr_fname, params.hr_fname, params.block_shape, params)
    dataset.save(params.save_dir)
    dataset.close()
    print("\n".join(dataset.notes), end="\n" if dataset.notes else "")
    for split in SPLITS:
        print(f"{split:>10}: {dataset.pairs[split]:6d} pairs from {dataset.blocks[split]} blocks")
    print(f"written to {params.save_dir}")
    return dataset


if __name__ == "__main__":
    raise SystemExit(main())
