"""Adaptive Mixup: adapt the training data to the region to be enhanced.

``python -m sr_dataset_builder.mixup mixup.yml``

Reads the training pairs with their flipped and rotated copies, mixes steep and gentle patches until
the histogram of a terrain feature can follow that of the target's LR map, and picks a set that
does. The HR map of the target is not needed.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from sr_dataset_builder.dataset import Metres
from sr_dataset_builder.mixup_report import (
    Report,
    SlopeDifference,
    distance,
    draw_mixtures,
    draw_report,
    write_slope_difference,
)
from sr_dataset_builder.pair_files import existing_images
from toolbox.command_line import OneLineParser
from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.data_loader import load_images
from toolbox.errors import ConfigError, DataError, did_you_mean, program
from toolbox.io.array_files import writing_images
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.tasks.bathymetry.adaptive import (
    FEATURES,
    PROPORTIONAL,
    Feature,
    Groups,
    LambdaRule,
    MixRule,
    Mixtures,
    choose_evenly,
    counts_in,
    group_threshold,
    pick,
    plan_mixtures,
    stretch_factors,
    stretched,
    target_edges,
)
from toolbox.tasks.bathymetry.source import recorded_spacing
from toolbox.tasks.bathymetry.terrain import (
    Spacing,
    feature_table,
    mean_slope_gradient,
    write_feature_csv,
)

Parts = list[np.ndarray]
Fit = Literal["pick", "stretch"]
PICKED = "picked_images"
_CHUNK = 2048


class MixSettings(Settings):
    """Settings common to the files of mixup and adapt: how to divide, mix and pick."""

    target_value: Annotated[Int, Field(ge=0, le=3)] = 3
    threshold: Float | None = None
    std: Annotated[Float, Field(ge=0)] = 0.05
    random_split: bool = False
    lambda_rule: LambdaRule = "solve"
    alpha: Annotated[Float, Field(gt=0)] = 0.5
    lamb: Annotated[Float, Field(gt=0, lt=1)] = 0.8
    increase_rate: Annotated[Float, Field(gt=0)] = 2
    pick_number: Count | None = None
    plot_figure: bool = False
    fit: Fit = "pick"
    seed: Annotated[Int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _stretches_what_can_be(self) -> MixSettings:
        if self.fit == "stretch" and FEATURES[self.target_value] not in PROPORTIONAL:
            raise ValueError(
                f"target_value must be 1 or 3 with fit: stretch, a feature that is proportional to "
                f"the depths; received {self.target_value}. Leave out target_value, or set fit: "
                f"pick."
            )
        return self


class MixupParams(MixSettings):
    """Settings of a mixup file (YAML)."""

    train_dir: str
    train_data: tuple[str, str] = ("data_HR.pkl", "data_LR.pkl")
    target_data_csv: str
    save_dir_name: str = "mixup_data"
    original_image_num: Count
    delta_lr_m: Metres | tuple[Metres, Metres] | None = None
    get_slope_difference: SlopeDifference = SlopeDifference()

    @model_validator(mode="after")
    def _folder_for_slopes(self) -> MixupParams:
        wanted = self.get_slope_difference
        if wanted.valid and not (wanted.input_data_dir and Path(wanted.input_data_dir).is_dir()):
            raise ValueError(
                f"get_slope_difference.input_data_dir must be a folder with data_HR and data_LR; "
                f"received {wanted.input_data_dir!r}. Correct it, or set valid: false."
            )
        if Path(self.train_dir, self.save_dir_name).resolve() == Path(self.train_dir).resolve():
            raise ValueError(
                f"save_dir_name must name a folder inside train_dir; received "
                f"{self.save_dir_name!r}. Choose another name: the training data are never "
                f"overwritten."
            )
        return self


# --- the steps -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AdaptiveMixup:
    """Requirements for the training data, and the steps that meet them, in order.

    Both the program and the manual's functions call these steps. None of them touches a file.

    Attributes
    ----------
    key : str
        One of `FEATURES`.
    target : numpy.ndarray, shape (T,)
        That feature of the target's LR patches, in the unit of the table; NaN is ignored.
    increase_rate : float
        Number of images for each target patch.
    pick_number : int, optional
        Total number of images, instead of `increase_rate` times that of the target.
    threshold : float, optional
        Value that separates the groups. Default: the middle of the target's fullest bin.
    std : float
        Standard deviation with which the threshold of each patch is drawn; 0 for none.
    rule : MixRule
        Rule for the mixing ratios.
    seed : int
        Seed of all draws; every step has its own stream.
    fit : {'pick', 'stretch'}
        Mix and pick images bin by bin, or use all originals equally often and stretch depths.
    """

    key: str
    target: np.ndarray
    increase_rate: float = 2
    pick_number: int | None = None
    threshold: float | None = None
    std: float = 0.0
    rule: MixRule = dataclasses.field(default_factory=MixRule)
    seed: int = 0
    fit: Fit = "pick"

    @cached_property
    def edges(self) -> np.ndarray:
        """Return the edges of the target's histogram, shape (bins + 1,)."""
        return target_edges(self.target)

    @cached_property
    def counts(self) -> np.ndarray:
        """Return the number of target patches in each bin, shape (bins,)."""
        return counts_in(self.target, self.edges)

    @property
    def limit(self) -> float:
        """Return the threshold in use, in the unit of the feature."""
        if self.threshold is not None:
            return self.threshold
        return group_threshold(self.edges, self.counts)

    @cached_property
    def quota(self) -> np.ndarray:
        """Return the number of images required in each bin, shape (bins,)."""
        if self.pick_number is None:
            return np.rint(self.increase_rate * self.counts).astype(np.int64)
        shares = self.pick_number * self.counts / max(1, self.counts.sum())
        quota = np.floor(shares).astype(np.int64)
        # The rest after rounding down goes to the largest remainders.
        left = self.pick_number - quota.sum() if self.counts.any() else 0
        quota[np.argsort(quota - shares, kind="stable")[:left]] += 1
        return quota

    def divide(self, values: np.ndarray, original_image_num: int) -> Groups:
        """Divide a pool with the feature `values` (N,), kind by kind, into its groups."""
        rng = np.random.default_rng([self.seed, 0])
        limits = rng.normal(self.limit, self.std, len(values))
        return Groups.divide(values, np.arange(len(values)) // original_image_num, limits)

    def plan(self, lr: np.ndarray, groups: Groups, feature: Feature) -> Mixtures:
        """Plan mixtures of LR patches (N, h, w, C) for the images missing from each bin."""
        # Copies repeat terrain and are not counted; see docs/decisions/0010.
        originals = np.concatenate([groups.high[0], groups.low[0]])
        held = counts_in(groups.values[originals], self.edges)
        wanted = np.maximum(0, self.quota - held)
        rng = np.random.default_rng([self.seed, 1])
        rule = MixRule("none") if self.fit == "stretch" else self.rule
        return plan_mixtures(lr, groups, self.edges, wanted, feature=feature, rule=rule, rng=rng)

    def choose(
        self, pool: pd.DataFrame, original_image_num: int, first_mixture: int, where: Path
    ) -> np.ndarray:
        """Select images from the pool: those whose features follow the target, or all equally.

        Parameters
        ----------
        pool : pandas.DataFrame
            Features of the originals, their flips, their other copies and the mixtures.
        original_image_num, first_mixture : int
            Number of originals, and pool number of the first mixture.
        where : pathlib.Path
            Path of the pool, for messages.

        Returns
        -------
        numpy.ndarray of int
            Sorted pool numbers.

        Raises
        ------
        DataError
            If no images are required, or no image of the pool has a finite feature.
        """
        values, number = pool[self.key].to_numpy(float), np.arange(len(pool))
        if self.fit == "stretch":
            rng, count = np.random.default_rng([self.seed, 2]), int(self.quota.sum())
            chosen = choose_evenly(values, original_image_num, count, rng)
        else:
            fresh = (number < original_image_num) | (number >= first_mixture)
            chosen = pick(
                values,
                # Rotated copies are interpolated and come last.
                priorities=np.select([fresh, number < 4 * original_image_num], [0, 1], 2),
                depths=pool["mean_altitude"].to_numpy(float),
                edges=self.edges,
                quota=self.quota,
            )
        if not self.quota.any():
            raise DataError(
                f"increase_rate {self.increase_rate:g} of {len(self.target)} target images rounds "
                f"to 0 images. Raise increase_rate, or set pick_number."
            )
        if not len(chosen):
            raise DataError(
                f"{where}: no image of the pool has a finite {self.key}. Check the table."
            )
        return chosen

    def factors(self, values: np.ndarray) -> np.ndarray | None:
        """Return stretching factors for images with the feature `values` (N,); None without."""
        return stretch_factors(values, self.target) if self.fit == "stretch" else None


# --- the manual's functions: the same steps with its names and arguments -----------------------


def Load_csv_norm(
    data_csv: str | os.PathLike[str],
    target_key: str,
    target_data_csv: str | os.PathLike[str],
    save_dir: str | os.PathLike[str],
    original_image_num: int,
    threshold: float | None = None,
    std: float = 0.0,
    seed: int = 0,
) -> tuple[Parts, Parts, Parts, Parts, pd.DataFrame, pd.DataFrame]:
    """Read the feature tables and divide the pool: the manual's form of `AdaptiveMixup.divide`.

    Parameters
    ----------
    data_csv : path-like
        Features of the LR training patches and their copies, kind by kind.
    target_key : str
        One of `FEATURES`.
    target_data_csv : path-like
        Features of the target's LR patches.
    save_dir : path-like
        Folder of the output; created if missing.
    original_image_num : int
        Number of original pairs, and of the copies of each kind.
    threshold : float, optional
        Value that separates the groups. Default: the middle of the fullest bin of the target's
        20-bin histogram.
    std : float
        Standard deviation with which the threshold of each patch is drawn; 0 for none.
    seed : int
        Seed of that draw.

    Returns
    -------
    index_high, index_low : list of numpy.ndarray
        For each kind, indices of its steep patches (descending) and gentle ones (ascending).
    slope_high, slope_low : list of numpy.ndarray
        Their features.
    df, target_df : pandas.DataFrame
        The tables.

    Raises
    ------
    DataError
        If a table is missing, lacks the column, or has fewer rows than there are originals.
    """
    df, target_df = _read_tables(data_csv, target_data_csv, target_key, original_image_num)
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    target = target_df[target_key].to_numpy(float)
    steps = AdaptiveMixup(target_key, target, threshold=threshold, std=std, seed=seed)
    groups = steps.divide(df[target_key].to_numpy(float), original_image_num)
    slope_high, slope_low = (
        [groups.values[part] for part in parts] for parts in (groups.high, groups.low)
    )
    return groups.high, groups.low, slope_high, slope_low, df, target_df


def Load_imgs(imgs_file: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read images.

    Parameters
    ----------
    imgs_file : path-like
        ``.pkl`` or ``.npy`` of shape (N, H, W) or (N, H, W, C).

    Returns
    -------
    imgs : numpy.ndarray, shape (N, H, W, C), float32
        Scaled to 0..1 by their common minimum and maximum.
    imgs_org : numpy.ndarray, shape (N, H, W, C)
        The images as stored, in metres.
    """
    imgs_org = load_images(imgs_file)
    low, high = np.nanmin(imgs_org), np.nanmax(imgs_org)
    span = (high - low) or 1.0
    return ((imgs_org - low) / span).astype(np.float32), imgs_org


def mixup_norm(
    imgs_HR: np.ndarray,
    imgs_HR_org: np.ndarray,
    imgs_LR: np.ndarray,
    imgs_LR_org: np.ndarray,
    index_high: Parts,
    index_low: Parts,
    train_dir: str | os.PathLike[str],
    target_df: pd.DataFrame,
    target_key: str,
    slope_normalized: bool,
    *,
    feature: Feature | None = None,
    increase_rate: float = 2,
    rule: MixRule | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, Mixtures]:
    """Mix steep and gentle patches: the manual's form of `AdaptiveMixup.plan`.

    Parameters
    ----------
    imgs_HR, imgs_LR : numpy.ndarray
        Images scaled to 0..1, whose slopes are used if `slope_normalized`.
    imgs_HR_org, imgs_LR_org : numpy.ndarray, shape (N, H, W, C) and (N, h, w, C)
        Images in metres, originals first, then their copies.
    index_high, index_low : list of numpy.ndarray
        The groups of `Load_csv_norm`.
    train_dir : path-like
        Folder of the training data; ``dataset.json`` in or above it states the grid spacing.
    target_df : pandas.DataFrame
        Features of the target.
    target_key : str
        One of `FEATURES`.
    slope_normalized : bool
        Whether to measure mixtures on the scaled images instead of metres: for a target table
        whose ``mean_slope_gradient`` was computed from images scaled to 0..1.
    feature : Feature, optional
        Function that computes the feature. Default: from `target_key` and the recorded spacing.
    increase_rate : float
        Number of patches for each target patch.
    rule : MixRule, optional
        Rule for the mixing ratios. Default: solved for the required feature.
    seed : int
        Seed of the draws.

    Returns
    -------
    imgs_HR_mixup, imgs_LR_mixup : numpy.ndarray, shape (N + M, ...)
        All images of the pool, followed by the mixtures; metres.
    mixtures : Mixtures
        Pairs, ratios and features, and the number of images still missing in each bin.
    """
    if imgs_LR_org.ndim == 3:  # the manual's images may lack the channel
        imgs_HR_org, imgs_LR_org, imgs_LR = (
            imgs[..., None] for imgs in (imgs_HR_org, imgs_LR_org, imgs_LR)
        )
    measured = imgs_LR if slope_normalized else imgs_LR_org
    if feature is None:
        delta_m = recorded_spacing(Path(train_dir, "data_LR.pkl"), "LR")
        feature = Feature.of_table(target_key, feature_table(measured, delta_m, True), delta_m)
    steps = AdaptiveMixup(
        target_key,
        target_df[target_key].to_numpy(float),
        increase_rate=increase_rate,
        rule=rule or MixRule(),
        seed=seed,
    )
    plan = steps.plan(measured, Groups(feature(measured), index_high, index_low), feature)
    imgs_HR_mixup, imgs_LR_mixup = (
        np.concatenate([np.asarray(imgs, np.float32), plan.mix(imgs)])
        for imgs in (imgs_HR_org, imgs_LR_org)
    )
    return imgs_HR_mixup, imgs_LR_mixup, plan


def get_slope(h: np.ndarray, delta: Spacing = 50) -> float:
    """Return the mean slope gradient of one HR patch (H, W); `delta` in metres."""
    return float(mean_slope_gradient(h, delta))


def get_slope_LR(h: np.ndarray, delta: Spacing = 200) -> float:
    """Return the mean slope gradient of one LR patch (h, w); `delta` in metres."""
    return float(mean_slope_gradient(h, delta))


def pick_images(
    target_df: pd.DataFrame,
    save_dir: str | os.PathLike[str],
    imgs_HR_mixup: np.ndarray,
    imgs_LR_mixup: np.ndarray,
    original_image_num: int,
    target_key: str,
    data_csv: str | os.PathLike[str],
    increase_rate: float,
    pick_number: int | None = None,
    delta_lr_m: Spacing | None = None,
) -> np.ndarray:
    """Select images and write ``picked_images/``: the manual's form of `AdaptiveMixup.choose`.

    Originals and mixtures are used first, then flips, then rotations. Images that a bin lacks are
    taken from the nearest bins. Within a bin, images are evenly spaced by mean depth.

    Parameters
    ----------
    target_df : pandas.DataFrame
        Features of the target.
    save_dir : path-like
        Folder with ``data_LR.csv``, the features of the pool; ``picked_images/`` is created there.
    imgs_HR_mixup, imgs_LR_mixup : numpy.ndarray, shape (N, H, W, C) and (N, h, w, C)
        The pool: originals, copies, mixtures.
    original_image_num : int
        Number of originals.
    target_key : str
        One of `FEATURES`.
    data_csv : path-like
        Features of the training data without mixtures; its length gives the first mixture.
    increase_rate : float
        Number of images for each target patch.
    pick_number : int, optional
        Total number of images, instead of `increase_rate` times that of the target.
    delta_lr_m : float or (float, float), optional
        Grid spacing of the LR images in metres. Default: the recorded one.

    Returns
    -------
    numpy.ndarray of int
        Pool numbers of the selected images.

    Raises
    ------
    DataError
        If no image of the pool has a finite feature.
    """
    pool = _read_table(Path(save_dir, "data_LR.csv"), target_key)
    steps = AdaptiveMixup(
        target_key,
        target_df[target_key].to_numpy(float),
        increase_rate=increase_rate,
        pick_number=pick_number,
    )
    first_mixture = len(_read_table(data_csv, target_key))
    chosen = steps.choose(pool, original_image_num, first_mixture, Path(save_dir))
    _write_picked(Path(save_dir), chosen, imgs_HR_mixup, imgs_LR_mixup, delta_lr_m)
    return chosen


def idx_of_the_nearest(data: Sequence[float] | np.ndarray, value: float) -> int:
    """Return the index of the first element nearest to `value`."""
    return int(np.argmin(np.abs(np.asarray(data) - value)))


def indices_of_the_nearest(data: Sequence[float] | np.ndarray, value: float) -> np.ndarray:
    """Return the indices of all elements nearest to `value`, shape (L,)."""
    distance = np.abs(np.asarray(data) - value)
    return np.flatnonzero(distance == distance.min())


# --- the program -----------------------------------------------------------------------------


def run(params: MixupParams) -> Report:
    """Mix, pick and report as set in the file; return the report."""
    folder, originals = Path(params.train_dir), params.original_image_num
    save_dir, lr_file = folder / params.save_dir_name, folder / params.train_data[1]
    key = FEATURES[params.target_value]
    hr, lr = _load_pairs(params)
    delta_m = params.delta_lr_m or recorded_spacing(lr_file, "LR")
    table, target_table = _features(params, lr, delta_m)
    save_dir.mkdir(parents=True, exist_ok=True)
    steps = AdaptiveMixup(
        key,
        target_table[key].to_numpy(float),
        increase_rate=params.increase_rate,
        pick_number=params.pick_number,
        threshold=params.threshold,
        std=params.std if params.random_split else 0.0,
        rule=MixRule(params.lambda_rule, params.alpha, params.lamb),
        seed=params.seed,
        fit=params.fit,
    )
    groups = steps.divide(table[key].to_numpy(float), originals)
    plan = steps.plan(lr, groups, Feature.of_table(key, table, delta_m))
    hr_pool, lr_pool = (
        _write_pool(save_dir / f"data_{kind}{lr_file.suffix}", imgs, plan)
        for kind, imgs in (("HR", hr), ("LR", lr))
    )
    write_feature_csv(lr_pool, delta_m, save_dir / "data_LR.csv", normalized_column=True)
    # Read back what the manual's pick_images reads: text rounds the last digit.
    pool = _read_table(save_dir / "data_LR.csv", key)
    chosen = steps.choose(pool, originals, first_mixture=len(lr), where=save_dir)
    picked = pool[key].to_numpy(float)[chosen]
    factors = steps.factors(picked)
    _write_picked(save_dir, chosen, hr_pool, lr_pool, delta_m, factors)
    after = picked if factors is None else picked * factors
    report = _report(steps, groups, plan, groups.values[:originals], after)
    if factors is not None:
        report.stretch_median, report.stretch_largest = np.median(factors), factors.max()
    with replacing(save_dir / "report.json") as beside:
        beside.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n", "utf-8")
    if params.get_slope_difference.valid:
        write_slope_difference(params.get_slope_difference, save_dir / "slope_difference.csv")
    draw_report(report, groups.values[:originals], steps.target, after, save_dir / "report.png")
    if params.plot_figure:
        draw_mixtures(lr, plan, save_dir / "mixtures.png")
    return report


def _load_pairs(params: MixupParams) -> tuple[np.ndarray, np.ndarray]:
    """Read HR and LR images, and refuse those that cannot be mixed."""
    folder = Path(params.train_dir)
    hr, lr = (load_images(existing_images(folder / name)) for name in params.train_data)
    if len(hr) != len(lr):
        raise DataError(
            f"{folder}: {params.train_data[0]} has {len(hr)} images but {params.train_data[1]} "
            f"has {len(lr)}; every HR image needs its LR image. Name files that match."
        )
    if not any(np.isfinite(img).all() for img in lr):
        raise DataError(
            f"{folder / params.train_data[1]}: every patch has a missing pixel, so nothing can be "
            f"mixed. Fill the gaps first."
        )
    return hr, lr


def _features(
    params: MixupParams, lr: np.ndarray, delta_m: Spacing
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the features of the target and of the pool, computed from `lr` if not yet tabulated."""
    data_csv = Path(params.train_dir, params.train_data[1]).with_suffix(".csv")
    if not data_csv.is_file():
        write_feature_csv(lr, delta_m, data_csv, normalized_column=True)
    target_csv = Path(params.target_data_csv)
    if not target_csv.is_file():
        target_csv = Path(params.train_dir, params.target_data_csv)
    if target_csv.resolve() == data_csv.resolve():
        raise ConfigError(
            f"target_data_csv is {data_csv}, the table of the training data itself. Name the "
            f"table of the target's LR patches, made with bathymetric_map_feature_LR."
        )
    key, originals = FEATURES[params.target_value], params.original_image_num
    table, target_table = _read_tables(data_csv, target_csv, key, originals)
    if len(table) != len(lr):
        raise DataError(
            f"{data_csv}: expected {len(lr)} rows, one per image; received {len(table)}. Remove "
            f"the table to compute it again."
        )
    return table, target_table


def _read_tables(
    data_csv: str | os.PathLike[str],
    target_csv: str | os.PathLike[str],
    key: str,
    original_image_num: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the features of the pool and of the target."""
    table, target_table = _read_table(data_csv, key), _read_table(target_csv, key)
    if len(table) < original_image_num:
        raise DataError(
            f"{data_csv}: original_image_num must be at most {len(table)}, the number of rows; "
            f"received {original_image_num}."
        )
    return table, target_table


def _read_table(path: str | os.PathLike[str], key: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such table. Make it with 'python -m "
            f"sr_dataset_builder.bathymetric_map_feature_LR data_LR.pkl'."
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV table ({error}).") from None
    if key not in table or not len(table):
        columns = [str(column) for column in table.columns]
        raise DataError(f"{path}: expected rows with a column {key}. {did_you_mean(key, columns)}")
    if not pd.api.types.is_numeric_dtype(table[key]):
        raise DataError(f"{path}: expected numbers in the column {key}; received text.")
    return table


def _write_pool(path: Path, imgs: np.ndarray, plan: Mixtures) -> np.ndarray:
    """Write the images, then the mixtures, in chunks; return what was written."""
    with writing_images(path, (len(imgs) + len(plan.pairs), *imgs.shape[1:])) as out:
        for start in progress(range(0, len(imgs), _CHUNK), f"{path.name} pool"):
            out[start : min(start + _CHUNK, len(imgs))] = imgs[start : start + _CHUNK]
        for start in range(0, len(plan.pairs), _CHUNK):
            mixed = plan.mix(imgs, slice(start, start + _CHUNK))
            out[len(imgs) + start : len(imgs) + start + len(mixed)] = mixed
    return load_images(path)


def write_pairs(
    hr_file: Path,
    lr_file: Path,
    hr: np.ndarray,
    lr: np.ndarray,
    chosen: np.ndarray,
    factors: np.ndarray | None = None,
) -> None:
    """Write selected pairs in chunks, stretched if there are factors.

    Parameters
    ----------
    hr_file, lr_file : pathlib.Path
        ``.pkl`` or ``.npy``; both appear complete or not at all.
    hr, lr : numpy.ndarray, shape (N, H, W, C) and (N, h, w, C)
        Pairs, metres.
    chosen : numpy.ndarray of int, shape (M,)
        Indices of the pairs to write.
    factors : numpy.ndarray, shape (M,), optional
        Factors for the depths relative to the mean of each image.
    """
    with (
        writing_images(hr_file, (len(chosen), *hr.shape[1:])) as hr_out,
        writing_images(lr_file, (len(chosen), *lr.shape[1:])) as lr_out,
    ):
        for start in range(0, len(chosen), _CHUNK):
            part = slice(start, start + _CHUNK)
            coarse, fine = lr[chosen[part]], hr[chosen[part]]
            if factors is not None:
                coarse, fine = stretched(coarse, fine, factors[part])
            lr_out[part], hr_out[part] = coarse, fine


def _write_picked(
    save_dir: Path,
    chosen: np.ndarray,
    hr_pool: np.ndarray,
    lr_pool: np.ndarray,
    delta_lr_m: Spacing | None,
    factors: np.ndarray | None = None,
) -> None:
    """Write the selected pairs and the LR table to picked_images/, in the format of the pool."""
    folder = save_dir / PICKED
    ending = ".npy" if (save_dir / "data_LR.npy").is_file() else ".pkl"
    hr_file, lr_file = (folder / f"data_{kind}{ending}" for kind in ("HR", "LR"))
    write_pairs(hr_file, lr_file, hr_pool, lr_pool, chosen, factors)
    picked = load_images(lr_file)
    delta_m = delta_lr_m or recorded_spacing(save_dir / lr_file.name, "LR")
    table = feature_table(picked, delta_m, normalized_column=True).assign(pool_index=chosen)
    if factors is not None:
        table["stretch"] = factors
    write_table(table, folder / "data_LR.csv")


def _report(
    steps: AdaptiveMixup, groups: Groups, plan: Mixtures, before: np.ndarray, after: np.ndarray
) -> Report:
    """Return the counts required and reached; `before` and `after` are features (N,), (M,)."""
    return Report(
        target_key=steps.key,
        threshold=steps.limit,
        threshold_set=steps.threshold is not None,
        target_images=len(steps.target),
        mixtures=len(plan.pairs),
        mixtures_missing=int(plan.missing.sum()),
        picked=len(after),
        wanted=int(steps.quota.sum()),
        steep=sum(map(len, groups.high)),
        gentle=sum(map(len, groups.low)),
        wasserstein_before=distance(before, steps.target),
        wasserstein_after=distance(after, steps.target),
    )


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.mixup",
        description="Adapt the training data to the region to be enhanced.",
    )
    parser.add_argument("yml_fname", help="file with the input parameters (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    params = check(MixupParams, read_yaml(fname), fname)
    print("\n".join(run(params).lines()))
    print(f"written to {Path(params.train_dir, params.save_dir_name)}")


if __name__ == "__main__":
    raise SystemExit(main())
