"""Sample patches from several maps: one data set for a network that serves many places.

``python -m sr_dataset_builder.regions regions.yml``

Every map is cut into blocks, and each block is assigned to training, validation or test, as in
`sr_dataset_builder.dataset`. Patches that touch blocks of one split only are taken at random
places, also off the grid of the coarse pixels. More patches come from the map averaged over 2 × 2,
3 × 3, ... pixels: the same sea floor in a coarser survey, split by the same blocks. A region may be
held out completely for the test. With many small maps, ``hr_fname: tiles/*.tif``, complete maps
instead of blocks are assigned to training, validation and test.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from sr_dataset_builder.dataset import MapParams, read_map, refuse_data_set, spacing_of
from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.data_loader import RECORD_NAME, SPLITS
from toolbox.errors import ConfigError, DataError, program
from toolbox.io.atomic import replacing
from toolbox.io.safe_pickle import save_array
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.resample import block_mean
from toolbox.spectrum import pair_of
from toolbox.tasks.bathymetry.terrain import SLOPE_CLASSES, class_name, feature_table
from toolbox.tasks.bathymetry.validity import Validity, measure_validity

Corners = np.ndarray


#: A slope needs at least three pixels.
Side = Annotated[Count, Field(ge=3)]


class RegionParams(MapParams):
    """Settings of one map, or of many small ones, and the number of patches from each.

    Attributes
    ----------
    hr_fname
        The map, as in ``build.yml``, or several with ``*``.
    patches
        Number of patches, for training, validation and test together.
    coarsen
        Also take patches from the map averaged over this many pixels, like the same ground in a
        coarser survey; averaged over *n*, it gives ``patches`` ÷ *n*.
    block
        Side of a block in patches.
    held_out
        Keep the complete region for the test. Its patches are then side by side, and ``patches``,
        ``coarsen`` and ``block`` have no effect.
    groups : default none
        Table (CSV) with the columns ``file`` and ``group``. Maps of one group, which may overlap,
        go to the same split; maps that are not in the table are left out.
    keep
        Rows of that table to keep, such as ``{use: [train]}``.
    leave_out
        Groups to leave out, because another region holds them out.
    """

    hr_fname: str
    groups: str | None = None
    keep: dict[str, list[str | int]] = Field(default_factory=dict)
    leave_out: list[str | int] = Field(default_factory=list)
    patches: Count = 2000
    coarsen: tuple[Annotated[Count, Field(le=16)], ...] = Field((1,), min_length=1)
    block: Annotated[Count, Field(ge=2)] = 2
    held_out: bool = False

    @field_validator("coarsen")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a coarsening twice")
        return value

    @model_validator(mode="after")
    def _groups_are_of_many(self) -> RegionParams:
        if self.groups is None and (self.keep or self.leave_out):
            raise ValueError("keep and leave_out select from a table: set groups.")
        if self.groups is not None and not _is_pattern(self.hr_fname):
            raise ValueError("groups is for several maps: use * in hr_fname, as in tiles/*.tif.")
        return self


class RegionsParams(Settings):
    """Settings of a regions file (YAML).

    Attributes
    ----------
    regions : section of names
        The maps, under names of your choice.
    save_dir
        Folder for the patches; one that holds a data set is refused.
    scale
        High resolution ÷ low resolution.
    lr_img_shape
        Size of a low-resolution patch.
    validation_size
        Share of the blocks of a region for validation.
    test_size
        Share for the test; 0 requires a region that is held out.
    seed
        Seed of the split and of the positions.
    overwrite
        Replace the data set in ``save_dir``.
    """

    regions: Annotated[dict[str, RegionParams], Field(min_length=1)]
    save_dir: Annotated[str, Field(min_length=1)]
    scale: Annotated[Count, Field(le=16)] = 4
    lr_img_shape: tuple[Side, Side] = (16, 16)
    validation_size: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    test_size: Annotated[Float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[Int, Field(ge=0)] = 0
    overwrite: bool = False

    @field_validator("regions")
    @classmethod
    def _can_be_told_apart(cls, value: dict[str, RegionParams]) -> dict[str, RegionParams]:
        """Refuse names with another meaning in tables: 'all', slope classes, REGION/MAP."""
        taken = {"all", *(class_name(low, high) for low, high in SLOPE_CLASSES)}
        for name in value:
            if not name.strip() or "/" in name or name in taken:
                raise ValueError(
                    f"names must not be empty, contain '/' or be one of "
                    f"{', '.join(sorted(taken))}; received {name!r}. Rename that region."
                )
        return value

    @model_validator(mode="after")
    def _something_to_train_on(self) -> RegionsParams:
        if self.validation_size + self.test_size >= 1:
            raise ValueError("validation_size + test_size must be below 1, to leave training data.")
        if all(region.held_out for region in self.regions.values()):
            raise ValueError("held_out must leave at least one region to train on.")
        return self


def _is_pattern(fname: str) -> bool:
    return any(sign in fname for sign in "*?[")


def _matching(pattern: str) -> list[Path]:
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if _is_pattern(part))
    return sorted(Path(*parts[:first]).glob(str(Path(*parts[first:]))))


class Region:
    """One map, ready to provide patches.

    Parameters
    ----------
    name : str
        Name of the region, for messages.
    params : RegionParams
        Settings of the region.
    common : RegionsParams
        Settings of the data set.

    Attributes
    ----------
    split : str or None
        The split that receives the complete map; None if its blocks are split.
    values : numpy.ndarray, shape (H, W), float32
        Elevation in metres, gaps filled, NaN where still missing.
    delta_m : (float, float)
        Grid spacing in metres.
    """

    def __init__(
        self, name: str, params: RegionParams, common: RegionsParams, split: str | None = None
    ) -> None:
        self.name, self.params, self.common, self.split = name, params, common, split
        self.notes: list[str] = []
        raster = read_map(params.hr_fname, params, self.notes)
        self.values = raster.values
        self.delta_m = pair_of(spacing_of(params.delta_hr_m, raster, self.notes))

    def coarse(self, factor: int) -> np.ndarray:
        """Return the map averaged over `factor` × `factor` pixels, (H // factor, W // factor)."""
        h, w = (size // factor * factor for size in self.values.shape)
        return block_mean(self.values[None, :h, :w, None], factor)[0, ..., 0]

    def sample(self, rng: np.random.Generator, factor: int) -> dict[str, np.ndarray]:
        """Take patches, by split.

        Parameters
        ----------
        rng : numpy.random.Generator
            Random generator of the positions.
        factor : int
            Coarsening factor.

        Returns
        -------
        dict of str to numpy.ndarray, each (N, H, W, 1)
            High-resolution patches in metres. Those of a held-out region are all for the test,
            side by side instead of at random. A coarsening may have none for validation or test.
        """
        c, values = self.common, self.coarse(factor)
        size = (c.lr_img_shape[0] * c.scale, c.lr_img_shape[1] * c.scale)
        corners = _complete_corners(values, size)
        if self.params.held_out:
            chosen = corners[(corners % size == 0).all(axis=1)]
            return {"test": self._cut(values, chosen, size)}
        if self.split is not None:
            count = min(len(corners), round(self.params.patches / factor))
            picked = rng.choice(len(corners), count, replace=False)
            return {self.split: self._cut(values, corners[np.sort(picked)], size)} if count else {}
        places = {
            split: corners[self._inside(split, corners * factor, np.multiply(size, factor))]
            for split in SPLITS
        }
        total = sum(len(mine) for mine in places.values())
        patches = {}
        for split, mine in places.items():
            if split == "train" and not len(mine):
                raise DataError(
                    f"{self.name}: coarsened {factor} times, it has no patch of {size[0]} × "
                    f"{size[1]} pixels in training blocks only. Remove {factor} from coarsen, or "
                    f"use larger blocks (block) or smaller images (lr_img_shape)."
                )
            if len(mine):
                share = round(self.params.patches / factor * len(mine) / total)
                picked = rng.choice(len(mine), min(len(mine), max(1, share)), replace=False)
                patches[split] = self._cut(values, mine[np.sort(picked)], size)
        return patches

    def _inside(self, split: str, corners: Corners, size: np.ndarray) -> np.ndarray:
        """Return which rectangles of the finest map touch blocks of `split` only."""
        other = np.pad((self._deal != SPLITS.index(split)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        top, left = (corners // self._block).T
        bottom, right = ((corners + size - 1) // self._block + 1).T
        touched = other[bottom, right] - other[top, right] - other[bottom, left] + other[top, left]
        return np.asarray(touched == 0)

    def deal(self, rng: np.random.Generator) -> None:
        """Assign blocks to training, validation and test, once for all coarsenings.

        Raises
        ------
        DataError
            If there are too few blocks.
        """
        c = self.common
        self._block = np.multiply(c.lr_img_shape, c.scale * self.params.block)
        rows, columns = -(-np.array(self.values.shape) // self._block)
        used = np.zeros((rows, columns), bool)
        size = np.multiply(c.lr_img_shape, c.scale)
        corners = _complete_corners(self.values, (int(size[0]), int(size[1])))
        first, last = corners // self._block, (corners + size - 1) // self._block
        row, column = first[(first == last).all(axis=1)].T
        used[row, column] = True  # the others, too narrow or full of gaps, remain training blocks
        n = int(used.sum())
        validation = max(1, round(n * c.validation_size))
        test = max(1, round(n * c.test_size)) if c.test_size else 0
        if n - validation - test < 1:
            raise DataError(
                f"{self.name}: {n} blocks with a patch are too few for training, validation and "
                f"test. Use smaller blocks (block) or images (lr_img_shape)."
            )
        dealt = np.repeat([0, 1, 2], [n - validation - test, validation, test])
        self._deal = np.full((rows, columns), 0)
        self._deal[used] = rng.permutation(dealt)

    def _cut(self, values: np.ndarray, corners: Corners, size: tuple[int, int]) -> np.ndarray:
        if not len(corners):
            raise DataError(
                f"{self.name}: has no patch of {size[0]} × {size[1]} pixels without gaps. Use "
                f"smaller images (lr_img_shape) or a wider valid_range."
            )
        rows = corners[:, :1, None] + np.arange(size[0])[:, None]
        columns = corners[:, 1:, None] + np.arange(size[1])
        return values[rows, columns][..., None]


def _complete_corners(values: np.ndarray, size: tuple[int, int]) -> Corners:
    """Return (row, column) of every position where a patch has no missing pixel."""
    if values.shape[0] < size[0] or values.shape[1] < size[1]:
        return np.empty((0, 2), int)
    total = np.pad(np.isnan(values).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = size
    missing = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return np.argwhere(missing == 0)


class _Collector:
    """Collects patches and their features from all regions."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.hr: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        self.tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
        self.ranges: list[Validity] = []
        self.counts: dict[str, dict[str, int]] = {}

    def add(
        self, name: str, label: str, split: str, hr: np.ndarray, delta_m: tuple[float, float]
    ) -> None:
        """Add patches (N, H, W, 1) of one map, metres, with a spacing of `delta_m`."""
        lr = block_mean(hr, self.scale)
        coarse = (delta_m[0] * self.scale, delta_m[1] * self.scale)
        self.hr[split].append(hr)
        for kind, imgs, delta in (("LR", lr, coarse), ("HR", hr, delta_m)):
            table = feature_table(imgs, delta, normalized_column=False)
            self.tables.setdefault((split, kind), []).append(table.assign(region=label))
        if split == "train":
            self.ranges.append(measure_validity(lr, coarse))
        counts = self.counts.setdefault(name, {})
        counts[split] = counts.get(split, 0) + len(hr)

    def validity(self) -> Validity:
        """Return the range covered by any of the training regions."""
        lows, highs = zip(*(r.depth_m for r in self.ranges), strict=True)
        finest = min(self.ranges, key=lambda r: r.delta_lr_m[0])
        rough = [r.roughness_m for r in self.ranges if r.roughness_m is not None]
        steepest = max(r.slope for r in self.ranges)
        depths = min(lows), max(highs)
        coarsest = max(self.ranges, key=lambda r: r.delta_lr_m[0]).delta_lr_m
        roughest = max(rough, default=None)
        return Validity(depths, steepest, finest.delta_lr_m, roughest, coarsest)

    def save(self, save_dir: str, record: dict[str, Any]) -> None:
        """Write patches, features and ``dataset.json``, which comes last."""
        Path(save_dir, RECORD_NAME).unlink(missing_ok=True)
        for split in progress(SPLITS, "saving"):
            hr = np.concatenate(self.hr.pop(split))
            for kind, imgs in (("LR", block_mean(hr, self.scale)), ("HR", hr)):
                path = Path(save_dir, split, f"data_{kind}.pkl")
                path.with_suffix(".npy").unlink(missing_ok=True)
                save_array(imgs, path)
                table = pd.concat(self.tables[split, kind], ignore_index=True)
                table["index"] = np.arange(len(table))
                # The range of all images, not of those of one region.
                slopes = table["mean_slope_gradient"]
                table["mean_slope_gradient_norm_data"] = slopes / (np.ptp(imgs) or 1.0)
                write_table(table, path.with_suffix(".csv"))
        with replacing(Path(save_dir, RECORD_NAME)) as beside:
            beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def build(params: RegionsParams, where: str) -> None:
    """Sample all regions and write the patch folder.

    Parameters
    ----------
    params : RegionsParams
        What to build.
    where : str
        Name of the file, for messages.

    Raises
    ------
    ConfigError, DataError
        If the folder already holds a data set, or a region has too few patches.
    """
    refuse_data_set(params.save_dir, where, params.overwrite)
    collector = _Collector(params.scale)
    spacings = []
    for job in progress(_jobs(params), "regions"):
        region = Region(job.label, job.params, params, job.split)
        print("".join(f"{note}\n" for note in region.notes), end="")
        whole = region.params.held_out or job.split == "test"
        factors = [1] if whole else region.params.coarsen
        if not whole and job.split is None:
            region.deal(np.random.default_rng(job.seed))
        for factor in factors:
            rng = np.random.default_rng([*job.seed, factor])
            delta = (region.delta_m[0] * factor, region.delta_m[1] * factor)
            for split, hr in region.sample(rng, factor).items():
                collector.add(job.name, job.label, split, hr, delta)
                spacings += [delta] if split == "test" else []
    _refuse_empty(collector, where)
    validity = collector.validity()
    record = {
        "regions": {name: region.hr_fname for name, region in params.regions.items()},
        "scale": params.scale,
        "lr_method": "area",
        "seed": params.seed,
        "pairs": collector.counts,
        "validity": dataclasses.asdict(validity),
    }
    if len(set(spacings)) == 1:  # the spectra of the test need a single spacing
        rows, columns = spacings[0]
        record |= {"delta_hr_m": [rows, columns]}
        record |= {"delta_lr_m": [rows * params.scale, columns * params.scale]}
    collector.save(params.save_dir, record)
    for name, counts in collector.counts.items():
        print(f"{name:>16}: {', '.join(f'{n} {split}' for split, n in counts.items())}")
    print(f"written to {params.save_dir}")


class _Job(NamedTuple):
    """One map of a region: its name in tables, and the split that receives all of it."""

    name: str
    label: str
    params: RegionParams
    split: str | None
    seed: list[int]


def _jobs(params: RegionsParams) -> list[_Job]:
    jobs = []
    for number, (name, region) in enumerate(params.regions.items()):
        if not _is_pattern(region.hr_fname):
            jobs.append(_Job(name, name, region, None, [params.seed, number]))
            continue
        rng = np.random.default_rng([params.seed, number])
        for index, (path, split) in enumerate(_dealt_maps(name, region, params, rng).items()):
            own = region.model_copy(update={"hr_fname": str(path)})
            label = f"{name}/{path.stem}"
            jobs.append(_Job(name, label, own, split, [params.seed, number, index]))
    return jobs


def _dealt_maps(
    name: str, region: RegionParams, params: RegionsParams, rng: np.random.Generator
) -> dict[Path, str]:
    """Assign complete maps to the splits; those of one group stay together."""
    paths = _matching(region.hr_fname)
    if not paths:
        raise DataError(f"{name}: no file matches {region.hr_fname}. Correct hr_fname.")
    groups = dict(zip(paths, range(len(paths)), strict=True))
    if region.groups is not None:
        groups = _grouped(name, region, paths)
    names = sorted(set(groups.values()), key=str)
    if region.held_out:
        return dict.fromkeys(groups, "test")
    validation = max(1, round(len(names) * params.validation_size))
    test = max(1, round(len(names) * params.test_size)) if params.test_size else 0
    if len(names) - validation - test < 1:
        raise DataError(
            f"{name}: {len(names)} groups of maps are too few for training, validation and test. "
            f"Name more maps, or one map for each region."
        )
    splits = np.repeat(SPLITS, [len(names) - validation - test, validation, test])
    dealt = dict(zip(names, rng.permutation(splits).tolist(), strict=True))
    return {path: dealt[group] for path, group in groups.items()}


def _grouped(name: str, region: RegionParams, paths: list[Path]) -> dict[Path, Any]:
    """Return the groups that a table (columns file, group) gives to the maps that are kept."""
    fname = str(region.groups)
    try:
        table = pd.read_csv(fname)
        table = table.drop_duplicates("file").set_index("file")
        for column, wanted in region.keep.items():
            table = table[table[column].isin(wanted)]
        table = table[~table["group"].isin(region.leave_out)]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{name}: {fname} is not a table with the columns file and group ({error}). Correct "
            f"groups or keep."
        ) from None
    found = {path: table.at[path.name, "group"] for path in paths if path.name in table.index}
    if not found:
        raise DataError(f"{name}: {fname} names none of {region.hr_fname}. Correct groups or keep.")
    return found


def _refuse_empty(collector: _Collector, where: str) -> None:
    for split in SPLITS:
        if not collector.hr[split]:
            cure = "Set test_size above 0, or hold a region out" if split == "test" else ""
            raise ConfigError(
                f"{where}: no region has patches for {split}. "
                f"{cure or 'Coarsen less, or use larger blocks (block)'}."
            )


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m sr_dataset_builder.regions")
    parser.add_argument("yml_fname", help="regions, sizes and shares (.yml)")
    args = parser.parse_args(arguments)
    build(check(RegionsParams, read_yaml(args.yml_fname), args.yml_fname), args.yml_fname)


if __name__ == "__main__":
    raise SystemExit(main())
