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

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from sr_dataset_builder.dataset import MapParams, refuse_data_set, spacing_of
from sr_dataset_builder.map_rows import PIXELS, MapRows
from sr_dataset_builder.patch_files import Kind, PatchFiles
from sr_dataset_builder.places import Advance, GapMap, Places, Select
from toolbox.command_line import OneLineParser
from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.data_loader import SPLITS
from toolbox.errors import ConfigError, DataError, program
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.resample import block_mean
from toolbox.spectrum import pair_of
from toolbox.tasks.bathymetry.terrain import SLOPE_CLASSES, class_name, feature_table
from toolbox.tasks.bathymetry.validity import Validity, measure_validity

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
    files
        Form of the patches: ``pkl`` as in the manual, ``npy`` to be mapped into memory, or
        ``auto``, which writes pickles up to 1 GiB of patches and ``npy`` above.
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
    files: Kind = "auto"
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
    coarsen : tuple of int
        The coarsenings that it is sampled at.
    rows : MapRows
        The map, elevation in metres, gaps filled.
    gaps : GapMap
        What is still missing.
    delta_m : (float, float)
        Grid spacing in metres.
    """

    def __init__(
        self,
        name: str,
        params: RegionParams,
        common: RegionsParams,
        split: str | None = None,
        advance: Advance = lambda share: None,
    ) -> None:
        self.name, self.params, self.common, self.split = name, params, common, split
        self.notes: list[str] = []
        self.rows = MapRows(params.hr_fname, params, self.notes)
        self.delta_m = pair_of(spacing_of(params.delta_hr_m, self.rows, self.notes))
        # The whole map is read once, and once more for each coarsening.
        self.coarsen = (1,) if params.held_out or split == "test" else params.coarsen
        self._advance = lambda share: advance(share / (1 + len(self.coarsen)))
        self.gaps = GapMap(self.rows, self._advance)
        self.rows.refuse_empty()

    def sample(self, rng: np.random.Generator, factor: int) -> Iterator[tuple[str, np.ndarray]]:
        """Take patches.

        Parameters
        ----------
        rng : numpy.random.Generator
            Random generator of the positions.
        factor : int
            Coarsening factor.

        Yields
        ------
        (str, numpy.ndarray), shape (n, H, W, 1)
            Split and some of its high-resolution patches in metres. Those of a held-out region are
            all for the test, side by side instead of at random. A coarsening may have none for
            validation or test.
        """
        c = self.common
        size = (c.lr_img_shape[0] * c.scale, c.lr_img_shape[1] * c.scale)
        places = Places(self.gaps, size, factor, self._select(size, factor))
        corners = places.corners(self._drawn(places, rng, factor, size))
        yield from self._cut(corners, size, factor)

    def _drawn(
        self, places: Places, rng: np.random.Generator, factor: int, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Draw the numbers of the places to use, by split."""
        if self.params.held_out:
            count = places.total("test")
            if not count:
                raise self._nowhere(size)
            return {"test": np.arange(count)}
        if self.split is not None:
            count = min(places.total(self.split), round(self.params.patches / factor))
            if not count:
                return {}
            picked = rng.choice(places.total(self.split), count, replace=False)
            return {self.split: np.sort(picked)}
        total = sum(places.total(split) for split in SPLITS)
        ranks = {}
        for split in SPLITS:
            mine = places.total(split)
            if split == "train" and not mine:
                raise DataError(
                    f"{self.name}: coarsened {factor} times, it has no patch of {size[0]} × "
                    f"{size[1]} pixels in training blocks only. Remove {factor} from coarsen, or "
                    f"use larger blocks (block) or smaller images (lr_img_shape)."
                )
            if mine:
                share = round(self.params.patches / factor * mine / total)
                ranks[split] = np.sort(rng.choice(mine, min(mine, max(1, share)), replace=False))
        return ranks

    def _select(self, size: tuple[int, int], factor: int) -> Select:
        """Return the function that assigns complete places to splits."""

        def side_by_side(first: int, places: np.ndarray) -> dict[str, np.ndarray]:
            rows = np.arange(first, first + len(places))[:, None]
            columns = np.arange(places.shape[1])
            return {"test": places & (rows % size[0] == 0) & (columns % size[1] == 0)}

        def by_blocks(first: int, places: np.ndarray) -> dict[str, np.ndarray]:
            reach = np.multiply(size, factor)
            return {
                split: places & self._inside(split, first, places.shape, factor, reach)
                for split in SPLITS
            }

        if self.params.held_out:
            return side_by_side
        if self.split is not None:
            return lambda _, places: {str(self.split): places}
        return by_blocks

    def _inside(
        self, split: str, first: int, shape: tuple[int, ...], factor: int, reach: np.ndarray
    ) -> np.ndarray:
        """Return at which places patches touch blocks of `split` only."""
        other = np.pad((self._deal != SPLITS.index(split)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        rows = np.arange(first, first + shape[0]) * factor
        columns = np.arange(shape[1]) * factor
        # Many rows meet the same blocks.
        ends = np.stack([rows, rows + reach[0] - 1]) // self._block[0]
        (top, bottom), number = np.unique(ends, axis=1, return_inverse=True)
        top, bottom = top[:, None], bottom[:, None] + 1
        left = columns // self._block[1]
        right = (columns + reach[1] - 1) // self._block[1] + 1
        touched = other[bottom, right] - other[top, right] - other[bottom, left] + other[top, left]
        return np.asarray((touched == 0)[np.ravel(number)])

    def deal(self, rng: np.random.Generator) -> None:
        """Assign blocks to training, validation and test, once for all coarsenings.

        Raises
        ------
        DataError
            If there are too few blocks.
        """
        c = self.common
        self._block = np.multiply(c.lr_img_shape, c.scale * self.params.block)
        rows, columns = -(-np.array(self.rows.shape) // self._block)
        used = np.zeros((rows, columns), bool)
        h, w = np.multiply(c.lr_img_shape, c.scale).tolist()
        for first, places in self.gaps.complete((h, w)):
            i, j = np.arange(first, first + len(places)), np.arange(places.shape[1])
            inside = [
                start // block == (start + side - 1) // block
                for start, side, block in zip((i, j), (h, w), self._block, strict=True)
            ]
            found = np.argwhere(places & inside[0][:, None] & inside[1])
            # The others, too narrow or full of gaps, remain training blocks.
            used[(found[:, 0] + first) // self._block[0], found[:, 1] // self._block[1]] = True
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

    def _nowhere(self, size: tuple[int, int]) -> DataError:
        return DataError(
            f"{self.name}: has no patch of {size[0]} × {size[1]} pixels without gaps. Use "
            f"smaller images (lr_img_shape) or a wider valid_range."
        )

    def _cut(
        self, corners: dict[str, np.ndarray], size: tuple[int, int], factor: int
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the patches at (row, column) of the coarsened map, from top to bottom."""
        if not corners:
            return
        h, w = size[0] * factor, size[1] * factor
        self.rows.behind = h
        of_split = np.repeat(list(corners), [len(mine) for mine in corners.values()])
        places = np.concatenate(list(corners.values())) * factor
        order = np.argsort(places[:, 0], kind="stable")
        at_once = max(1, PIXELS // (h * w))
        for start in range(0, len(order), at_once):
            part = order[start : start + at_once]
            patches = np.stack(
                [
                    self.rows.rows(row, row + h, slice(column, column + w))
                    for row, column in places[part].tolist()
                ]
            )
            coarse = block_mean(patches[..., None], factor)
            for split in corners:
                if len(mine := coarse[of_split[part] == split]):
                    yield split, mine
            self._advance(len(part) / len(order))


class _Collector:
    """Writes patches of all regions and collects their features."""

    def __init__(self, files: PatchFiles, scale: int) -> None:
        self.files, self.scale = files, scale
        self.tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
        self.ranges: list[Validity] = []
        self.counts: dict[str, dict[str, int]] = {}

    def add(
        self, name: str, label: str, split: str, hr: np.ndarray, delta_m: tuple[float, float]
    ) -> np.ndarray:
        """Add patches (N, H, W, 1), metres, with a spacing of `delta_m`; return the LR patches."""
        lr = block_mean(hr, self.scale)
        coarse = (delta_m[0] * self.scale, delta_m[1] * self.scale)
        for kind, imgs, delta in (("LR", lr, coarse), ("HR", hr, delta_m)):
            self.files.write(split, kind, imgs)
            table = feature_table(imgs, delta, normalized_column=False)
            self.tables.setdefault((split, kind), []).append(table.assign(region=label))
        counts = self.counts.setdefault(name, {})
        counts[split] = counts.get(split, 0) + len(hr)
        return lr

    def pairs(self) -> dict[str, dict[str, int]]:
        """Return the number of pairs by region and split."""
        return {
            name: {split: counts[split] for split in SPLITS if split in counts}
            for name, counts in self.counts.items()
        }

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
        """Complete patches, features and ``dataset.json``, which comes last."""
        self.files.finish()
        for (split, kind), tables in self.tables.items():
            table = pd.concat(tables, ignore_index=True)
            table["index"] = np.arange(len(table))
            # The range of all images, not of those of one region.
            slopes = table["mean_slope_gradient"]
            span = np.float32(self.files.high[split, kind]) - self.files.low[split, kind]
            table["mean_slope_gradient_norm_data"] = slopes / (span or 1.0)
            write_table(table, Path(save_dir, split, f"data_{kind}.csv"))
        self.files.record(record)


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
    shape = params.lr_img_shape
    shapes: dict[str, tuple[int, ...]] = {
        "LR": (*shape, 1),
        "HR": (shape[0] * params.scale, shape[1] * params.scale, 1),
    }
    with PatchFiles(params.save_dir, shapes, params.files) as files:
        _collect(params, where, _Collector(files, params.scale))
    print(f"written to {params.save_dir}")


def _collect(params: RegionsParams, where: str, collector: _Collector) -> None:
    """Sample all regions into `collector`."""
    spacings: list[tuple[float, float]] = []
    jobs = _jobs(params)
    with progress(total=len(jobs), label="regions", unit_scale=True) as bar:
        for number, job in enumerate(jobs, 1):
            spacings += _sample(job, params, collector, bar.update)
            bar.update(number - bar.n)
    _refuse_empty(collector, where)
    validity = collector.validity()
    record = {
        "regions": {name: region.hr_fname for name, region in params.regions.items()},
        "scale": params.scale,
        "lr_method": "area",
        "seed": params.seed,
        "pairs": collector.pairs(),
        "validity": dataclasses.asdict(validity),
    }
    if len(set(spacings)) == 1:  # the spectra of the test need a single spacing
        rows, columns = spacings[0]
        record |= {"delta_hr_m": [rows, columns]}
        record |= {"delta_lr_m": [rows * params.scale, columns * params.scale]}
    collector.save(params.save_dir, record)
    for name, counts in collector.pairs().items():
        print(f"{name:>16}: {', '.join(f'{n} {split}' for split, n in counts.items())}")


def _sample(
    job: _Job, params: RegionsParams, collector: _Collector, advance: Advance
) -> list[tuple[float, float]]:
    """Sample one map; return the spacings of its patches for the test."""
    spacings = []
    region = Region(job.label, job.params, params, job.split, advance)
    print("".join(f"{note}\n" for note in region.notes), end="")
    if not job.params.held_out and job.split is None:
        region.deal(np.random.default_rng(job.seed))
    for factor in region.coarsen:
        rng = np.random.default_rng([*job.seed, factor])
        delta = (region.delta_m[0] * factor, region.delta_m[1] * factor)
        learned = []
        for split, hr in region.sample(rng, factor):
            lr = collector.add(job.name, job.label, split, hr, delta)
            learned += [lr] if split == "train" else []
            spacings += [delta] if split == "test" else []
        if learned:
            coarse = (delta[0] * params.scale, delta[1] * params.scale)
            collector.ranges.append(measure_validity(np.concatenate(learned), coarse))
    region.rows.close()
    return spacings


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
        if not collector.files.count(split):
            cure = "Set test_size above 0, or hold a region out" if split == "test" else ""
            raise ConfigError(
                f"{where}: no region has patches for {split}. "
                f"{cure or 'Coarsen less, or use larger blocks (block)'}."
            )


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(prog="python -m sr_dataset_builder.regions")
    parser.add_argument("yml_fname", help="regions, sizes and shares (.yml)")
    args = parser.parse_args(arguments)
    build(check(RegionsParams, read_yaml(args.yml_fname), args.yml_fname), args.yml_fname)


if __name__ == "__main__":
    raise SystemExit(main())
