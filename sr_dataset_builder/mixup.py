"""Adaptive Mixup: fit the training data to the region to be enhanced.

``python -m sr_dataset_builder.mixup mixup.yml``

Reads the training pairs with their flipped and turned copies, mixes steep and gentle ones until the
histogram of a terrain feature can follow that of the target's LR map, and picks a set that does.
The target's HR map is not needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from sr_dataset_builder.mixup_report import (
    Report,
    SlopeDifference,
    distance,
    draw_mixtures,
    draw_report,
    write_slope_difference,
)
from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.data_loader import load_images
from toolbox.errors import ConfigError, DataError, did_you_mean, program
from toolbox.io.array_files import writing_images
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.progress import progress
from toolbox.tasks.bathymetry.adaptive import (
    FEATURES,
    Feature,
    LambdaRule,
    MixRule,
    Mixtures,
    counts_in,
    group_threshold,
    mixture,
    pick,
    plan_mixtures,
    target_edges,
)
from toolbox.tasks.bathymetry.source import recorded_spacing
from toolbox.tasks.bathymetry.terrain import (
    Spacing,
    feature_table,
    mean_slope_gradient,
    write_feature_csv,
)

Groups = list[np.ndarray]
PICKED = "picked_images"
_CHUNK = 2048


Metres = Annotated[Float, Field(gt=0)]


class MixupParams(Settings):
    """What a mixup file (YAML) may say."""

    train_dir: str
    train_data: tuple[str, str] = ("data_HR.pkl", "data_LR.pkl")
    target_data_csv: str
    target_value: Annotated[Int, Field(ge=0, le=3)] = 3
    threshold: Float | None = None
    std: Annotated[Float, Field(ge=0)] = 0.05
    save_dir_name: str = "mixup_data"
    random_split: bool = False
    alpha: Annotated[Float, Field(gt=0)] = 0.5
    lamb: Annotated[Float, Field(gt=0, lt=1)] = 0.8
    lambda_rule: LambdaRule = "solve"
    plot_figure: bool = False
    original_image_num: Count
    increase_rate: Annotated[Float, Field(gt=0)] = 2
    pick_number: Count | None = None
    delta_lr_m: Metres | tuple[Metres, Metres] | None = None
    seed: Annotated[Int, Field(ge=0)] = 0
    get_slope_difference: SlopeDifference = SlopeDifference()

    @model_validator(mode="after")
    def _folder_for_slopes(self) -> MixupParams:
        wanted = self.get_slope_difference
        if wanted.valid and not (wanted.input_data_dir and Path(wanted.input_data_dir).is_dir()):
            raise ValueError(
                f"get_slope_difference.input_data_dir must be a folder with data_HR and data_LR; "
                f"received {wanted.input_data_dir!r}. Mend it or set valid: false."
            )
        if Path(self.train_dir, self.save_dir_name).resolve() == Path(self.train_dir).resolve():
            raise ValueError(
                f"save_dir_name must name a folder inside train_dir; received "
                f"{self.save_dir_name!r}. The training data are never overwritten."
            )
        return self


# --- the manual's functions ------------------------------------------------------------------


def Load_csv_norm(
    data_csv: str | os.PathLike[str],
    target_key: str,
    target_data_csv: str | os.PathLike[str],
    save_dir: str | os.PathLike[str],
    original_image_num: int,
    threshold: float | None = None,
    std: float = 0.0,
    seed: int = 0,
) -> tuple[Groups, Groups, Groups, Groups, pd.DataFrame, pd.DataFrame]:
    """Read the feature tables and divide the pool into a steep and a gentle group.

    Parameters
    ----------
    data_csv : path-like
        Features of the LR training patches and their copies, kind after kind.
    target_key : str
        One of `FEATURES`.
    target_data_csv : path-like
        Features of the target's LR patches.
    save_dir : path-like
        Folder of the output; made if missing.
    original_image_num : int
        Number of original pairs, which is also that of each kind of copies.
    threshold : float, optional
        Where the groups part; default the middle of the fullest bin of the target's 20-bin
        histogram.
    std : float
        Each patch meets a threshold of its own, drawn with this standard deviation; 0 for none.
    seed : int
        Seed of that draw.

    Returns
    -------
    index_high, index_low : list of numpy.ndarray
        For each kind, numbers of its steep patches (descending) and gentle ones (ascending).
    slope_high, slope_low : list of numpy.ndarray
        Their features.
    df, target_df : pandas.DataFrame
        The tables.

    Raises
    ------
    DataError
        If a table is missing, lacks the column, or has fewer rows than originals.
    """
    df, target_df = _read_table(data_csv, target_key), _read_table(target_data_csv, target_key)
    if len(df) < original_image_num:
        raise DataError(
            f"{data_csv}: original_image_num must be at most its {len(df)} rows; received "
            f"{original_image_num}."
        )
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    values = df[target_key].to_numpy(float)
    if threshold is None:
        edges = target_edges(target_df[target_key].to_numpy(float))
        threshold = group_threshold(edges, counts_in(target_df[target_key].to_numpy(float), edges))
    limits = np.random.default_rng([seed, 0]).normal(threshold, std, len(values))
    kinds = np.arange(len(values)) // original_image_num
    groups: list[Groups] = [[], [], [], []]
    for kind in range(kinds[-1] + 1):
        members = np.flatnonzero((kinds == kind) & np.isfinite(values))
        members = members[np.argsort(values[members], kind="stable")]
        steep = values[members] >= limits[members]
        high, low = members[steep][::-1], members[~steep]
        for group, numbers in zip(groups, (high, low, values[high], values[low]), strict=True):
            group.append(numbers)
    return groups[0], groups[1], groups[2], groups[3], df, target_df


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
        As stored, metres.
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
    index_high: Groups,
    index_low: Groups,
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
    """Mix steep and gentle patches so that the pool can follow the target's histogram.

    Parameters
    ----------
    imgs_HR, imgs_LR : numpy.ndarray
        Images scaled to 0..1; their slopes count if `slope_normalized`.
    imgs_HR_org, imgs_LR_org : numpy.ndarray, shape (N, H, W, C) and (N, h, w, C)
        Images in metres, originals first, then their copies.
    index_high, index_low : list of numpy.ndarray
        The groups of `Load_csv_norm`.
    train_dir : path-like
        Folder of the training data; ``dataset.json`` in or above it tells the grid spacing.
    target_df : pandas.DataFrame
        Features of the target.
    target_key : str
        One of `FEATURES`.
    slope_normalized : bool
        Measure mixtures on the scaled images instead of metres; for a target table whose
        ``mean_slope_gradient`` was made from images scaled to 0..1.
    feature : Feature, optional
        How the feature is computed; default from `target_key` and the recorded spacing.
    increase_rate : float
        Patches wanted for each target patch.
    rule : MixRule, optional
        How mixing ratios are chosen; default solved for the wanted feature.
    seed : int
        Seed of the choice.

    Returns
    -------
    imgs_HR_mixup, imgs_LR_mixup : numpy.ndarray, shape (N + M, ...)
        All images of the pool, then the mixtures; metres.
    mixtures : Mixtures
        Pairs, ratios and features, and what is still missing in each bin.
    """
    if imgs_LR_org.ndim == 3:  # the manual's images may lack the channel
        imgs_HR_org, imgs_LR_org, imgs_LR = (
            imgs[..., None] for imgs in (imgs_HR_org, imgs_LR_org, imgs_LR)
        )
    measured = imgs_LR if slope_normalized else imgs_LR_org
    if feature is None:
        delta_m = recorded_spacing(Path(train_dir, "data_LR.pkl"), "LR")
        feature = Feature.of_table(target_key, feature_table(measured, delta_m, True), delta_m)
    values = feature(measured)
    target = target_df[target_key].to_numpy(float)
    plan = _plan(
        measured,
        values,
        index_high,
        index_low,
        target,
        feature,
        _quotas(counts_in(target, target_edges(target)), increase_rate, None),
        rule or MixRule(),
        seed,
    )
    mixed = [_mixed(imgs, plan) for imgs in (imgs_HR_org, imgs_LR_org)]
    pools = [
        np.concatenate([np.asarray(imgs, np.float32), new])
        for imgs, new in zip((imgs_HR_org, imgs_LR_org), mixed, strict=True)
    ]
    return pools[0], pools[1], plan


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
    """Choose training images whose features follow the target, and write ``picked_images/``.

    Originals and mixtures are taken first, then flips, then rotations; what a bin cannot give is
    taken from the nearest bins; within a bin, images are evenly spaced by mean depth.

    Parameters
    ----------
    target_df : pandas.DataFrame
        Features of the target.
    save_dir : path-like
        Folder with ``data_LR.csv``, the features of the pool; ``picked_images/`` is made in it.
    imgs_HR_mixup, imgs_LR_mixup : numpy.ndarray, shape (N, H, W, C) and (N, h, w, C)
        The pool: originals, copies, mixtures.
    original_image_num : int
        Number of originals.
    target_key : str
        One of `FEATURES`.
    data_csv : path-like
        Features of the training data without mixtures; tells where the mixtures begin.
    increase_rate : float
        Images wanted for each target patch.
    pick_number : int, optional
        Images wanted in all, instead of `increase_rate` times the target's.
    delta_lr_m : float or (float, float), optional
        Grid spacing of the LR images, metres; default the recorded one.

    Returns
    -------
    numpy.ndarray of int
        Numbers of the chosen images in the pool.

    Raises
    ------
    DataError
        If no image of the pool has a finite feature.
    """
    pool = _read_table(Path(save_dir, "data_LR.csv"), target_key)
    first_mixture = len(_read_table(data_csv, target_key))
    target = target_df[target_key].to_numpy(float)
    edges = target_edges(target)
    quota = _quotas(counts_in(target, edges), increase_rate, pick_number)
    number = np.arange(len(pool))
    priorities = np.select(
        [number >= first_mixture, number < original_image_num, number < 4 * original_image_num],
        [0, 0, 1],
        2,
    )
    depths = pool["mean_altitude"].to_numpy(float)
    chosen = pick(pool[target_key].to_numpy(float), priorities, depths, edges, quota)
    if not quota.any():
        raise DataError(
            f"increase_rate {increase_rate:g} of {len(target)} target images rounds to no image. "
            f"Raise it, or set pick_number."
        )
    if not len(chosen):
        raise DataError(f"{save_dir}: no image of the pool has a finite {target_key}.")
    folder = Path(save_dir, PICKED)
    ending = _ending(save_dir)
    for name, imgs in (("HR", imgs_HR_mixup), ("LR", imgs_LR_mixup)):
        with writing_images(folder / f"data_{name}{ending}", (len(chosen), *imgs.shape[1:])) as out:
            for start in range(0, len(chosen), _CHUNK):
                part = chosen[start : start + _CHUNK]
                out[start : start + len(part)] = imgs[part]
    picked = load_images(folder / f"data_LR{ending}")
    delta_m = delta_lr_m or recorded_spacing(Path(save_dir, f"data_LR{ending}"), "LR")
    write_table(
        feature_table(picked, delta_m, True).assign(pool_index=chosen), folder / "data_LR.csv"
    )
    return chosen


def idx_of_the_nearest(data: Sequence[float] | np.ndarray, value: float) -> int:
    """Return the index of the element nearest to `value` (the first of several)."""
    return int(np.argmin(np.abs(np.asarray(data) - value)))


def indices_of_the_nearest(data: Sequence[float] | np.ndarray, value: float) -> np.ndarray:
    """Return the indices of all elements nearest to `value`, shape (L,)."""
    distance = np.abs(np.asarray(data) - value)
    return np.flatnonzero(distance == distance.min())


# --- the program -----------------------------------------------------------------------------


def run(params: MixupParams) -> Report:
    """Mix, pick and report, as the file says; returns what was reached."""
    folder = Path(params.train_dir)
    save_dir = folder / params.save_dir_name
    hr, lr = _load_pairs(params)
    key = FEATURES[params.target_value]
    delta_m = params.delta_lr_m or recorded_spacing(folder / params.train_data[1], "LR")
    data_csv = (folder / params.train_data[1]).with_suffix(".csv")
    if not data_csv.is_file():
        write_feature_csv(lr, delta_m, data_csv, normalized_column=True)
    groups = _groups(params, data_csv, save_dir, key)
    index_high, index_low, _, _, df, target_df = groups
    if len(df) != len(lr):
        raise DataError(f"{data_csv}: expected {len(lr)} rows, one an image; received {len(df)}.")
    target = target_df[key].to_numpy(float)
    quota = _quotas(
        counts_in(target, target_edges(target)), params.increase_rate, params.pick_number
    )
    feature = Feature.of_table(key, df, delta_m)
    rule = MixRule(params.lambda_rule, params.alpha, params.lamb)
    values = df[key].to_numpy(float)
    plan = _plan(lr, values, index_high, index_low, target, feature, quota, rule, params.seed)
    pools = [
        _write_pool(save_dir / f"data_{kind}{_ending(params.train_data[1])}", imgs, plan)
        for kind, imgs in (("HR", hr), ("LR", lr))
    ]
    write_feature_csv(load_images(pools[1]), delta_m, save_dir / "data_LR.csv", True)
    chosen = pick_images(
        target_df,
        save_dir,
        load_images(pools[0]),
        load_images(pools[1]),
        params.original_image_num,
        key,
        data_csv,
        params.increase_rate,
        params.pick_number,
        delta_m,
    )
    pool_values = pd.read_csv(save_dir / "data_LR.csv")[key].to_numpy(float)
    before = values[: params.original_image_num]
    report = Report(
        target_key=key,
        threshold=_threshold(params, target),
        threshold_set=params.threshold is not None,
        target_images=len(target),
        mixtures=len(plan.pairs),
        mixtures_missing=int(plan.missing.sum()),
        picked=len(chosen),
        wanted=int(quota.sum()),
        steep=sum(map(len, index_high)),
        gentle=sum(map(len, index_low)),
        wasserstein_before=distance(before, target),
        wasserstein_after=distance(pool_values[chosen], target),
    )
    _write_report(params, report, save_dir)
    draw_report(report, before, target, pool_values[chosen], save_dir / "report.png")
    if params.plot_figure:
        draw_mixtures(lr, plan, save_dir / "mixtures.png")
    return report


def _load_pairs(params: MixupParams) -> tuple[np.ndarray, np.ndarray]:
    """Read HR and LR images and refuse what cannot be mixed."""
    folder = Path(params.train_dir)
    hr, lr = (load_images(folder / name) for name in params.train_data)
    if len(hr) != len(lr):
        raise DataError(
            f"{folder}: {params.train_data[0]} holds {len(hr)} images but {params.train_data[1]} "
            f"holds {len(lr)}; every HR image needs its LR partner."
        )
    if not any(np.isfinite(img).all() for img in lr):
        raise DataError(
            f"{folder / params.train_data[1]}: every patch has a missing pixel; nothing to mix."
        )
    return hr, lr


def _write_report(params: MixupParams, report: Report, save_dir: Path) -> None:
    with replacing(save_dir / "report.json") as beside:
        beside.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n", "utf-8")
    if params.get_slope_difference.valid:
        write_slope_difference(params.get_slope_difference, save_dir / "slope_difference.csv")


def _groups(params: MixupParams, data_csv: Path, save_dir: Path, key: str) -> Any:
    target_csv = Path(params.target_data_csv)
    if not target_csv.is_file():
        target_csv = Path(params.train_dir, params.target_data_csv)
    if target_csv.resolve() == data_csv.resolve():
        raise ConfigError(
            f"target_data_csv is {data_csv}, the table of the training data itself. Name the "
            f"table of the target's LR patches, made by bathymetric_map_feature_LR."
        )
    return Load_csv_norm(
        data_csv,
        key,
        target_csv,
        save_dir,
        params.original_image_num,
        params.threshold,
        params.std if params.random_split else 0.0,
        params.seed,
    )


def _threshold(params: MixupParams, target: np.ndarray) -> float:
    if params.threshold is not None:
        return params.threshold
    edges = target_edges(target)
    return group_threshold(edges, counts_in(target, edges))


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
        raise DataError(f"{path}: expected numbers in the column {key}; received words.")
    return table


def _plan(
    lr: np.ndarray,
    values: np.ndarray,
    index_high: Groups,
    index_low: Groups,
    target: np.ndarray,
    feature: Feature,
    quota: np.ndarray,
    rule: MixRule,
    seed: int,
) -> Mixtures:
    """Plan mixtures for what the originals lack in each bin of the target."""
    kinds = np.zeros(len(values), np.int64)
    for kind, members in enumerate(zip(index_high, index_low, strict=True)):
        kinds[np.concatenate(members)] = kind
    originals = np.concatenate([index_high[0], index_low[0]])
    edges = target_edges(target)
    wanted = np.maximum(0, quota - counts_in(values[originals], edges))
    high, low = np.concatenate(index_high), np.concatenate(index_low)
    high = high[np.argsort(-values[high], kind="stable")]
    low = low[np.argsort(values[low], kind="stable")]
    rng = np.random.default_rng([seed, 1])
    return plan_mixtures(lr, values, kinds, high, low, edges, wanted, feature, rule, rng)


def _quotas(counts: np.ndarray, increase_rate: float, pick_number: int | None) -> np.ndarray:
    if pick_number is None:
        return np.rint(increase_rate * counts).astype(np.int64)
    shares = pick_number * counts / max(1, counts.sum())
    quota = np.floor(shares).astype(np.int64)
    # What rounding down leaves over goes to the largest remainders.
    left = pick_number - quota.sum() if counts.any() else 0
    quota[np.argsort(quota - shares, kind="stable")[:left]] += 1
    return quota


def _mixed(imgs: np.ndarray, plan: Mixtures) -> np.ndarray:
    return mixture(plan.lam, imgs[plan.pairs[:, 0]], imgs[plan.pairs[:, 1]])


def _ending(path: str | os.PathLike[str]) -> str:
    """Return .npy for a memory-mapped pool, else the manual's .pkl."""
    path = Path(path)
    if path.is_dir():
        return ".npy" if (path / "data_LR.npy").is_file() else ".pkl"
    return path.suffix


def _write_pool(path: Path, imgs: np.ndarray, plan: Mixtures) -> Path:
    """Write the images, then the mixtures, a chunk at a time."""
    with writing_images(path, (len(imgs) + len(plan.pairs), *imgs.shape[1:])) as out:
        for start in progress(range(0, len(imgs), _CHUNK), f"{path.name} pool"):
            out[start : min(start + _CHUNK, len(imgs))] = imgs[start : start + _CHUNK]
        for start in range(0, len(plan.pairs), _CHUNK):
            part = slice(start, start + _CHUNK)
            some = Mixtures(plan.pairs[part], plan.lam[part], plan.values[part], plan.missing)
            mixed = _mixed(imgs, some)
            out[len(imgs) + start : len(imgs) + start + len(mixed)] = mixed
    return path


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m sr_dataset_builder.mixup",
        description="Fit the training data to the region to be enhanced.",
    )
    parser.add_argument("yml_fname", help="filename including input parameters (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    params = check(MixupParams, read_yaml(fname), fname)
    print("\n".join(run(params).lines()))
    print(f"written to {Path(params.train_dir, params.save_dir_name)}")


if __name__ == "__main__":
    raise SystemExit(main())
