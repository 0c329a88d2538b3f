"""Adaptive Mixup: mixtures of patches whose features fit those of the region to be enhanced.

Murakami et al. 2025, "Adaptive Super-Resolution for Ocean Bathymetric Maps Using a Deep Neural
Network and Data Augmentation", Earth and Space Science. The steps are those of the manual; this
module holds the arithmetic, `sr_dataset_builder.mixup` the files.
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

#: What ``target_value`` 0 to 3 stands for.
FEATURES = (
    "normalized_mean_slope_gradient",
    "altitude_difference",
    "mean_slope_gradient_norm_data",
    "mean_slope_gradient",
)
#: Those that grow in proportion to the depths about the mean, by a factor known without the others.
PROPORTIONAL = ("altitude_difference", "mean_slope_gradient")
BINS = 20
LambdaRule = Literal["solve", "beta", "fixed", "none"]
_BISECTIONS = 16
_CHUNK = 4096
_MORE_BINS = 2000  # on either side of the target
_PATIENCE = 8  # chunks of pairs without one that fits, before a bin is given up


@dataclasses.dataclass(frozen=True)
class Feature:
    """How a feature is computed from LR patches so that it compares with a table's column.

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
        """Take the scaling of the two normalised slopes from the pool's table."""
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
        Feature of the target patches; NaN does not count.
    bins : int
        Number of bins.

    Raises
    ------
    DataError
        If no value is a number.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        raise DataError("the target has no patch without a missing pixel, so it has no features.")
    low, high = float(values.min()), float(values.max())
    if not high > low:  # all alike: one narrow bin in the middle
        reach = 0.01 * abs(low) or 1e-6
        low, high = low - reach, high + reach
    return np.linspace(low, high, bins + 1)


def counts_in(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count values by bin; the last edge belongs to the last bin, NaN to none."""
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
    """The steep and the gentle patches of the pool, for each augmentation kind.

    Attributes
    ----------
    values : numpy.ndarray, shape (N,)
        Feature of every patch of the pool.
    high, low : list of numpy.ndarray of int
        For each kind, pool numbers of its steep patches (descending) and gentle ones (ascending);
        patches without a feature are in neither.
    """

    values: np.ndarray
    high: list[np.ndarray]
    low: list[np.ndarray]

    @classmethod
    def divide(cls, values: np.ndarray, kinds: np.ndarray, limits: np.ndarray) -> Groups:
        """Divide the pool; each patch meets the threshold `limits` (N,) has for it."""
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

    Both lists are walked cyclically side by side; after a full round the second is shifted by one,
    until every combination has come.

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
    """Find the mixing ratio that gives each pair the wanted feature, by bisection.

    Parameters
    ----------
    high, low : numpy.ndarray, shape (N, h, w, C)
        LR patches with features above and below `wanted`.
    wanted : numpy.ndarray, shape (N,)
        Feature that the mixture should have.
    feature : Feature
        How it is computed.

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
    """A plan of mixtures: which pairs, with which ratio, and what the LR feature becomes.

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
        """Mix HR or LR images (N, H, W, C) of the pool as planned, float32; a `part` if asked."""
        steep, gentle = self.pairs[part].T
        return mixture(self.lam[part], imgs[steep], imgs[gentle])


@dataclasses.dataclass(frozen=True)
class MixRule:
    """How the ratio of a mixture is chosen.

    Attributes
    ----------
    rule : {'solve', 'beta', 'fixed', 'none'}
        Solve it for the wanted feature, draw it from Beta(alpha, alpha), use `lamb`, or mix
        nothing and leave the fit to the choice of images.
    alpha, lamb : float
        Parameters of the last two.
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
    """Choose pairs and ratios so that each bin receives the wanted number of mixtures.

    A mixture is never steeper than the steeper of its parents (the slope is a convex function of
    the relief), so bins above the steepest patch stay short; `Mixtures.missing` says by how much.

    Parameters
    ----------
    lr : numpy.ndarray, shape (N, h, w, C)
        LR patches of the pool.
    groups : Groups
        Its steep and its gentle patches, which become partners.
    edges, wanted : numpy.ndarray, shape (bins + 1,) and (bins,)
        Histogram of the target, and mixtures wanted in each bin.
    feature : Feature
        The feature of the histogram.
    rule : MixRule
        How ratios are chosen.
    rng : numpy.random.Generator
        Draws ratios (rule 'beta') and the place of a mixture inside its bin.

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
        # A mixture is no steeper than its steep parent, and is meant to be steeper than the other.
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
            # Bisection ends at its last step where the gentle parent alone is above the aim.
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
    """Move what a bin cannot give to the nearest bins that have more than they must.

    Parameters
    ----------
    quota, available : numpy.ndarray of int, shape (bins,)
        Wanted and present.

    Returns
    -------
    numpy.ndarray of int, shape (bins,)
        What to take; at most `available`, and in sum ``sum(quota)`` if there are enough.
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
    """Choose pool numbers so that their histogram follows the quotas.

    Parameters
    ----------
    values, priorities, depths : numpy.ndarray, shape (N,)
        Feature, priority (0 is taken first) and mean depth of every member of the pool.
    edges, quota : numpy.ndarray, shape (bins + 1,) and (bins,)
        Bins and how many to take from each; members outside the bins fill in where they are the
        nearest.

    Returns
    -------
    numpy.ndarray of int
        Sorted pool numbers.
    """
    # Bins of the same width go on over the pool's range, so that "nearest" has a meaning there.
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
    """Choose pool numbers so that every original comes equally often, each time as another copy.

    Parameters
    ----------
    values : numpy.ndarray, shape (N,)
        Feature of every member of the pool, kind after kind; originals without one are left out.
    originals : int
        Number of originals, which is that of each kind of copies.
    count : int
        Number of images to choose.
    rng : numpy.random.Generator
        Draws the order of the originals and the first copy of each.

    Returns
    -------
    numpy.ndarray of int, shape (count,)
        Sorted pool numbers; a number repeats only once all copies of its original are taken.
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
    """Return the factors of depth that carry a feature to the target's distribution.

    The k-th smallest of N values becomes the quantile (k - 1/2) / N of the target. In one dimension
    this is optimal transport: no other assignment moves the values less.

    Parameters
    ----------
    values : numpy.ndarray, shape (N,)
        One of `PROPORTIONAL` features of the patches.
    target : numpy.ndarray, shape (T,)
        The same feature of the target's patches; NaN does not count.

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
            "the target is flat: its feature is 0 everywhere, and no relief can be stretched to "
            "it. Name another target, or set fit: pick."
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

    Slopes and height differences are multiplied, the mean depth of the LR patch stays.

    Parameters
    ----------
    lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Pairs, metres.
    factors : numpy.ndarray, shape (N,)
        What the depths about the mean are multiplied by.

    Returns
    -------
    lr, hr : numpy.ndarray, float32
        The stretched pairs.
    """
    centre = lr.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32).reshape(-1, 1, 1, 1)
    factor = factors.astype(np.float32).reshape(-1, 1, 1, 1)
    return centre + factor * (lr - centre), centre + factor * (hr - centre)
