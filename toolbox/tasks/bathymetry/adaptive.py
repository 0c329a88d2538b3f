"""Adaptive Mixup: mixtures of patches whose features match those of the target region.

Murakami et al. 2025, "Adaptive Super-Resolution for Ocean Bathymetric Maps Using a Deep Neural
Network and Data Augmentation", Earth and Space Science. The steps follow the manual. This module
holds the arithmetic; `sr_dataset_builder.mixup` reads and writes the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from toolbox.errors import DataError
from toolbox.tasks.bathymetry.terrain import Spacing, mean_slope_gradient

#: Features that ``target_value`` 0 to 3 selects.
FEATURES = (
    "normalized_mean_slope_gradient",
    "altitude_difference",
    "mean_slope_gradient_norm_data",
    "mean_slope_gradient",
)
#: Features proportional to the depths about the mean, by a factor that needs no other feature.
PROPORTIONAL = ("altitude_difference", "mean_slope_gradient")
BINS = 20
LambdaRule = Literal["solve", "beta", "fixed", "none"]
_BISECTIONS = 16
_CHUNK = 4096
_MORE_BINS = 2000  # on either side of the target
_PATIENCE = 8  # chunks of pairs without a match, before a bin is abandoned


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature computed from LR patches, comparable with a column of the pool's table.

    Attributes
    ----------
    key : str
        One of `FEATURES`.
    delta_m : float or (float, float)
        Grid spacing of the LR patches, metres.
    factor, offset : float
        The two normalised slopes are ``factor * MSG + offset``, as in the table of the pool.
    """

    key: str
    delta_m: Spacing
    factor: float = 1.0
    offset: float = 0.0

    @classmethod
    def of_table(cls, key: str, table: pd.DataFrame, delta_m: Spacing) -> Feature:
        """Return the feature, with the scaling of the normalised slopes from the pool's table."""
        msg = table["mean_slope_gradient"].to_numpy()
        if key == "normalized_mean_slope_gradient":
            low, high = np.nanmin(msg), np.nanmax(msg)
            factor = 1 / ((high - low) or 1.0)
            return cls(key, delta_m, factor, -low * factor)
        if key == "mean_slope_gradient_norm_data":
            steepest = np.nanargmax(msg)
            factor = float(table[key].iloc[steepest] / (msg[steepest] or 1.0))
            return cls(key, delta_m, factor)
        return cls(key, delta_m)

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        """Return the feature of LR patches (N, h, w, C), shape (N,)."""
        if self.key == "altitude_difference":
            return np.ptp(lr, axis=(1, 2, 3))
        return self.factor * mean_slope_gradient(lr, self.delta_m) + self.offset


def target_edges(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the edges of the target's histogram, (bins + 1,).

    Parameters
    ----------
    values : numpy.ndarray
        Feature of the target patches; NaN is ignored.
    bins : int
        Number of bins.

    Raises
    ------
    DataError
        If no value is finite.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        raise DataError("the target has no patch without a missing pixel, so it has no features.")
    low, high = float(values.min()), float(values.max())
    if not high > low:  # all equal: one narrow bin in the middle
        reach = 0.01 * abs(low) or 1e-6
        low, high = low - reach, high + reach
    return np.linspace(low, high, bins + 1)


def counts_in(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count values by bin; the last edge belongs to the last bin, and NaN is ignored."""
    return np.histogram(values[np.isfinite(values)], edges)[0]


def bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return each value's bin, -1 below the first and ``len(edges) - 1`` above the last."""
    number = np.searchsorted(edges, values, side="right") - 1
    number[values == edges[-1]] = len(edges) - 2
    return number


def group_threshold(edges: np.ndarray, counts: np.ndarray) -> float:
    """Return the middle of the fullest bin of the target's histogram."""
    fullest = int(np.argmax(counts))
    return float(edges[fullest] + edges[fullest + 1]) / 2


@dataclasses.dataclass(frozen=True)
class Groups:
    """Steep and gentle patches of the pool, for each augmentation kind.

    Attributes
    ----------
    values : numpy.ndarray, shape (N,)
        Feature of every patch of the pool.
    high, low : list of numpy.ndarray of int
        For each kind, pool numbers of its steep patches (descending) and gentle patches
        (ascending). Patches without a feature are in neither list.
    """

    values: np.ndarray
    high: list[np.ndarray]
    low: list[np.ndarray]

    @classmethod
    def divide(cls, values: np.ndarray, kinds: np.ndarray, limits: np.ndarray) -> Groups:
        """Divide the pool; each patch is compared with its own threshold in `limits` (N,)."""
        groups = cls(values, [], [])
        for kind in range(kinds.max() + 1):
            members = np.flatnonzero((kinds == kind) & np.isfinite(values))
            members = members[np.argsort(values[members], kind="stable")]
            steep = values[members] >= limits[members]
            groups.high.append(members[steep][::-1])
            groups.low.append(members[~steep])
        return groups

    @cached_property
    def kinds(self) -> np.ndarray:
        """Augmentation kind of every pool number, shape (N,)."""
        kinds = np.zeros(len(self.values), np.int64)
        for kind, members in enumerate(zip(self.high, self.low, strict=True)):
            kinds[np.concatenate(members)] = kind
        return kinds


def walk_pairs(high: np.ndarray, low: np.ndarray, kinds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs (high, low) of different kinds, each pair once, in chunks of shape (n, 2).

    Both lists are traversed cyclically in step. After a full round the second list is shifted by
    one, until every combination has occurred.

    Parameters
    ----------
    high, low : numpy.ndarray of int
        Pool numbers of the steep patches, descending, and of the gentle ones, ascending.
    kinds : numpy.ndarray of int
        Augmentation kind of every pool number.
    """
    if not len(high) or not len(low):
        return
    rounds = np.lcm(len(high), len(low))
    total = len(high) * len(low)
    for start in range(0, total, _CHUNK):
        step = np.arange(start, min(start + _CHUNK, total))
        pairs = np.stack([high[step % len(high)], low[(step + step // rounds) % len(low)]], axis=1)
        yield pairs[kinds[pairs[:, 0]] != kinds[pairs[:, 1]]]


def mixture(lam: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return ``lam * high + (1 - lam) * low`` for stacks (N, H, W, C), float32."""
    weight = lam.astype(np.float32).reshape(-1, 1, 1, 1)
    return weight * high + (1 - weight) * low


def solve_lambda(
    high: np.ndarray, low: np.ndarray, wanted: np.ndarray, feature: Feature
) -> np.ndarray:
    """Find by bisection the mixing ratio that gives each pair the wanted feature.

    Parameters
    ----------
    high, low : numpy.ndarray, shape (N, h, w, C)
        LR patches with features above and below `wanted`.
    wanted : numpy.ndarray, shape (N,)
        Wanted feature of the mixture.
    feature : Feature
        The feature to compute.

    Returns
    -------
    numpy.ndarray, shape (N,)
        Ratio in [0, 1].
    """
    left, right = np.zeros(len(wanted)), np.ones(len(wanted))
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        above = feature(mixture(middle, high, low)) >= wanted
        right = np.where(above, middle, right)
        left = np.where(above, left, middle)
    return right


@dataclasses.dataclass
class Mixtures:
    """A plan of mixtures: pairs, mixing ratios and resulting LR features.

    Attributes
    ----------
    pairs : numpy.ndarray of int, shape (M, 2)
        Pool numbers of the steep and the gentle parent.
    lam, values : numpy.ndarray, shape (M,)
        Share of the steep parent, and feature of the LR mixture.
    missing : numpy.ndarray of int, shape (bins,)
        Mixtures that could not be made.
    """

    pairs: np.ndarray
    lam: np.ndarray
    values: np.ndarray
    missing: np.ndarray

    def mix(self, imgs: np.ndarray, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return the planned mixtures, or `part` of them, of HR or LR pool images, float32."""
        steep, gentle = self.pairs[part].T
        return mixture(self.lam[part], imgs[steep], imgs[gentle])


@dataclasses.dataclass(frozen=True)
class MixRule:
    """Rule that chooses the ratio of a mixture.

    Attributes
    ----------
    rule : {'solve', 'beta', 'fixed', 'none'}
        Solve for the wanted feature, draw from Beta(alpha, alpha), use `lamb`, or mix nothing and
        fit by the choice of images alone.
    alpha, lamb : float
        Parameters of ``beta`` and ``fixed``.
    """

    rule: LambdaRule = "solve"
    alpha: float = 0.5
    lamb: float = 0.8


def plan_mixtures(
    lr: np.ndarray,
    groups: Groups,
    edges: np.ndarray,
    wanted: np.ndarray,
    feature: Feature,
    rule: MixRule,
    rng: np.random.Generator,
) -> Mixtures:
    """Choose pairs and ratios that give each bin the wanted number of mixtures.

    A mixture is never steeper than the steeper of its parents, because the slope is a convex
    function of the relief. Bins above the steepest patch therefore stay short;
    `Mixtures.missing` gives the number of missing mixtures.

    Parameters
    ----------
    lr : numpy.ndarray, shape (N, h, w, C)
        LR patches of the pool.
    groups : Groups
        Its steep and gentle patches, which are paired.
    edges, wanted : numpy.ndarray, shape (bins + 1,) and (bins,)
        Bin edges of the target's histogram, and number of mixtures wanted in each bin.
    feature : Feature
        The feature of the histogram.
    rule : MixRule
        Rule for the ratios.
    rng : numpy.random.Generator
        Draws ratios (rule 'beta') and the position of a mixture within its bin.

    Returns
    -------
    Mixtures
    """
    if rule.rule == "none":
        wanted = np.zeros_like(wanted)
    values, high, low = groups.values, np.concatenate(groups.high), np.concatenate(groups.low)
    high = high[np.argsort(-values[high], kind="stable")]
    low = low[np.argsort(values[low], kind="stable")]
    used = np.empty(0, np.int64)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    missing = wanted.copy()
    for number in np.flatnonzero(wanted):
        bottom, top = edges[number], edges[number + 1]
        # A mixture is no steeper than its steep parent, and should be steeper than the other.
        steep, gentle = high[values[high] >= bottom], low[values[low] <= top]
        fruitless = 0
        for pairs in walk_pairs(steep, gentle, groups.kinds):
            if missing[number] <= 0 or fruitless == _PATIENCE:
                break
            keys = pairs @ [len(lr), 1]
            pairs = pairs[~np.isin(keys, used)][: max(64, 4 * missing[number])]
            if not len(pairs):
                fruitless += 1
                continue
            parents = lr[pairs[:, 0]], lr[pairs[:, 1]]
            aim = rng.uniform(bottom, top, len(pairs))
            lam = _ratios(parents, aim, feature, rule, rng)
            reached = feature(mixture(lam, *parents))
            # Where the gentle parent alone exceeds the wanted value, bisection ends at ratio 0.
            proper = (lam > 2.0 ** (1 - _BISECTIONS)) & (lam < 1)
            fits = np.flatnonzero(proper & (bin_of(reached, edges) == number))[: missing[number]]
            used = np.concatenate([used, pairs[fits] @ [len(lr), 1]])
            missing[number] -= len(fits)
            fruitless = 0 if len(fits) else fruitless + 1
            found.append((pairs[fits], lam[fits], reached[fits]))
    if not found:
        return Mixtures(np.empty((0, 2), np.int64), np.empty(0), np.empty(0), missing)
    pairs, lam, reached = (np.concatenate(part) for part in zip(*found, strict=True))
    return Mixtures(pairs, lam, reached, missing)


def _ratios(
    parents: tuple[np.ndarray, np.ndarray],
    aim: np.ndarray,
    feature: Feature,
    rule: MixRule,
    rng: np.random.Generator,
) -> np.ndarray:
    if rule.rule == "solve":
        return solve_lambda(*parents, aim, feature)
    if rule.rule == "beta":
        return rng.beta(rule.alpha, rule.alpha, len(aim))
    return np.full(len(aim), rule.lamb)


def move_deficits(quota: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Move the shortfall of a bin to the nearest bins with a surplus.

    Parameters
    ----------
    quota, available : numpy.ndarray of int, shape (bins,)
        Numbers wanted and available.

    Returns
    -------
    numpy.ndarray of int, shape (bins,)
        Numbers to take: at most `available`, and ``sum(quota)`` in total if enough are available.
    """
    take = np.minimum(quota, available)
    spare = available - take
    for number in np.flatnonzero(quota > take):
        deficit = quota[number] - take[number]
        nearest = np.argsort(np.abs(np.arange(len(quota)) - number), kind="stable")
        for other in nearest:
            moved = min(deficit, spare[other])
            take[other] += moved
            spare[other] -= moved
            deficit -= moved
    return take


def spread_evenly(candidates: np.ndarray, depths: np.ndarray, count: int) -> np.ndarray:
    """Choose `count` candidates evenly spaced by mean depth."""
    if count >= len(candidates):
        return candidates
    ordered = candidates[np.argsort(depths[candidates], kind="stable")]
    return ordered[((np.arange(count) + 0.5) * len(ordered) / count).astype(int)]


def pick(
    values: np.ndarray,
    priorities: np.ndarray,
    depths: np.ndarray,
    edges: np.ndarray,
    quota: np.ndarray,
) -> np.ndarray:
    """Choose pool numbers whose histogram follows the quotas.

    Parameters
    ----------
    values, priorities, depths : numpy.ndarray, shape (N,)
        Feature, priority (0 is taken first) and mean depth of every member of the pool.
    edges, quota : numpy.ndarray, shape (bins + 1,) and (bins,)
        Bin edges and the number to take from each bin. Members outside the bins fill in where
        they are nearest.

    Returns
    -------
    numpy.ndarray of int
        Sorted pool numbers.
    """
    # Bins of the same width extend over the pool's range, so that "nearest" is defined there.
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.empty(0, np.int64)
    width = edges[1] - edges[0]
    below = min(_MORE_BINS, int(np.ceil(max(0.0, edges[0] - finite.min()) / width)) + 1)
    above = min(_MORE_BINS, int(np.ceil(max(0.0, finite.max() - edges[-1]) / width)) + 1)
    wide = np.concatenate(
        [
            edges[0] - width * np.arange(below, 0, -1),
            edges,
            edges[-1] + width * np.arange(1, above + 1),
        ]
    )
    bins = np.clip(bin_of(values, wide), 0, len(wide) - 2)
    bins[values == edges[-1]] = below + len(quota) - 1
    bins[~np.isfinite(values)] = -1
    available = np.bincount(bins[bins >= 0], minlength=len(wide) - 1)
    take = move_deficits(np.pad(quota, (below, above)), available)
    chosen: list[np.ndarray] = []
    for number, count in enumerate(take):
        members = np.flatnonzero(bins == number)
        for priority in np.unique(priorities[members]):
            same = members[priorities[members] == priority]
            some = spread_evenly(same, depths, min(count, len(same)))
            chosen.append(some)
            count -= len(some)
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


# --- stretching ----------------------------------------------------------------------------------


def choose_evenly(
    values: np.ndarray, originals: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Choose pool numbers that use every original equally often, each time as a different copy.

    Parameters
    ----------
    values : numpy.ndarray, shape (N,)
        Feature of every member of the pool, kind after kind; originals without one are excluded.
    originals : int
        Number of originals; each kind has as many copies.
    count : int
        Number of images to choose.
    rng : numpy.random.Generator
        Draws the order of the originals and the first copy of each.

    Returns
    -------
    numpy.ndarray of int, shape (count,)
        Sorted pool numbers. A number repeats only after all copies of its original are used.
        Empty if no original has a finite feature.
    """
    usable = rng.permutation(np.flatnonzero(np.isfinite(values[:originals])))
    if not len(usable):
        return np.empty(0, np.int64)
    kinds = max(1, len(values) // originals)
    first = rng.integers(kinds, size=len(usable))
    turn, place = np.divmod(np.arange(count), len(usable))
    return np.sort(usable[place] + originals * ((first[place] + turn) % kinds))


def stretch_factors(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the depth factors that give a feature the target's distribution.

    The k-th smallest of N values becomes the quantile (k - 1/2) / N of the target. In one dimension
    this is optimal transport: no other assignment moves the values less.

    Parameters
    ----------
    values : numpy.ndarray, shape (N,)
        One of `PROPORTIONAL` features of the patches.
    target : numpy.ndarray, shape (T,)
        The same feature of the target's patches; NaN is ignored.

    Returns
    -------
    numpy.ndarray, shape (N,)
        Positive factors; 1 for patches that are flat or have no feature, and where the quantile
        of the target is 0.

    Raises
    ------
    DataError
        If the target has no finite value, or none above 0.
    """
    finite = target[np.isfinite(target)]
    if not len(finite):
        raise DataError("the target has no patch without a missing pixel, so it has no features.")
    if not (finite > 0).any():
        raise DataError(
            "the target is flat: its feature is 0 everywhere, so relief cannot be stretched to "
            "it. Use another target, or set fit: pick."
        )
    usable = np.flatnonzero(np.isfinite(values))
    ordered = usable[np.argsort(values[usable], kind="stable")]
    levels = (np.arange(len(ordered)) + 0.5) / max(1, len(ordered))
    wanted = np.zeros(len(values))
    wanted[ordered] = np.quantile(finite, levels, method="hazen")
    proper = (values > 0) & (wanted > 0)
    return np.divide(wanted, values, out=np.ones(len(values)), where=proper)


def stretched(lr: np.ndarray, hr: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stretch the depths of pairs about the mean of each LR patch.

    Slopes and height differences are multiplied; the mean depth of the LR patch does not change.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs, metres.
    factors : numpy.ndarray, shape (N,)
        Factors of the depths about the mean.

    Returns
    -------
    lr, hr : numpy.ndarray, float32
        The stretched pairs.
    """
    centre = lr.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32).reshape(-1, 1, 1, 1)
    factor = factors.astype(np.float32).reshape(-1, 1, 1, 1)
    return centre + factor * (lr - centre), centre + factor * (hr - centre)
