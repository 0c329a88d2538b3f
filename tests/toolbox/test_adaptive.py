"""Adaptive Mixup's arithmetic: histograms, pairs, mixing ratios, deficits, the choice."""

import time

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry.adaptive import (
    BINS,
    FEATURES,
    Feature,
    Groups,
    MixRule,
    bin_of,
    choose_evenly,
    counts_in,
    group_threshold,
    mixture,
    move_deficits,
    pick,
    plan_mixtures,
    solve_lambda,
    spread_evenly,
    stretch_factors,
    stretched,
    target_edges,
    walk_pairs,
)
from toolbox.tasks.bathymetry.terrain import feature_table, mean_slope_gradient

SLOPE = Feature("mean_slope_gradient", 200.0)
RELIEF = Feature("altitude_difference", 200.0)
SOLVE = MixRule("solve")


def rng(seed=0):
    return np.random.default_rng(seed)


def rough(count, size=8, steepest=0.4, seed=0):
    """Return LR patches (N, size, size, 1) without symmetries, gentle to steep, at 200 m."""
    noise = rng(seed).normal(size=(count, size, size, 1))
    noise = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    unit = noise / mean_slope_gradient(noise, 200.0)[:, None, None, None]
    slopes = np.linspace(0.02, steepest, count)[:, None, None, None]
    depths = rng(seed + 1).uniform(-3000, -500, (count, 1, 1, 1))
    return (depths + slopes * unit).astype(np.float32)


def planes(slopes, size=8):
    """Return patches that rise to the right with the given slopes, so that mixtures are exact."""
    column = 200.0 * np.arange(size)
    rise = np.asarray(slopes, float)[:, None, None, None] * column[None, None, :, None]
    return np.broadcast_to(rise, (len(slopes), size, size, 1)).astype(np.float32)


def plan(lr, edges, wanted, threshold, feature=SLOPE, rule=SOLVE, kinds=None, seed=0):
    """Plan mixtures of `lr`; unless told otherwise every patch is a kind of its own."""
    kinds = np.arange(len(lr)) if kinds is None else np.asarray(kinds)
    groups = Groups.divide(feature(lr), kinds, np.full(len(lr), threshold))
    wanted = np.asarray(wanted, np.int64)
    return plan_mixtures(lr, groups, edges, wanted, feature, rule, rng(seed))


# --- histograms --------------------------------------------------------------------------------


def test_edges_span_the_target():
    """Twenty equal bins from the least to the greatest value; NaN and infinity do not count."""
    edges = target_edges(np.array([0.3, np.nan, 0.1, 0.2, np.inf]))
    assert BINS == 20
    np.testing.assert_allclose(edges, np.linspace(0.1, 0.3, 21))
    assert (edges[0], edges[-1]) == (0.1, 0.3)


@pytest.mark.parametrize("value", [0.0, 0.07, -5.0, 3000.0])
def test_constant_target_has_one_full_bin(value):
    """A target whose patches are all alike has bins around that value, and all are in one."""
    values = np.full(7, value)
    edges = target_edges(values)
    assert (np.diff(edges) > 0).all()
    assert edges[0] < value < edges[-1]
    counts = counts_in(values, edges)
    assert counts.sum() == counts.max() == 7
    assert edges[0] <= group_threshold(edges, counts) <= edges[-1]


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf]])
def test_target_without_a_number_is_refused(values):
    """Nothing can be fitted to a target of missing patches."""
    with pytest.raises(DataError, match="no patch without a missing pixel"):
        target_edges(np.array(values, float))


def test_counts_and_bins_agree_at_every_edge():
    """A value on an edge belongs to the bin above it, the last edge to the last bin."""
    edges = target_edges(np.array([0.013, 0.777]))
    inside = np.concatenate([edges, (edges[1:] + edges[:-1]) / 2, np.nextafter(edges[1:], 0)])
    numbers = bin_of(inside.copy(), edges)
    assert (numbers.min(), numbers.max()) == (0, BINS - 1)
    assert numbers[: BINS + 1].tolist() == [*range(BINS), BINS - 1]
    np.testing.assert_array_equal(np.bincount(numbers, minlength=BINS), counts_in(inside, edges))


def test_outside_and_missing_values_are_in_no_bin():
    """Below is -1, above is the number of bins, and NaN is counted nowhere."""
    edges = np.array([0.0, 1.0, 2.0])
    assert bin_of(np.array([-0.1, 2.1]), edges).tolist() == [-1, 2]
    assert not 0 <= bin_of(np.array([np.nan]), edges)[0] < 2
    assert counts_in(np.array([-0.1, 0.5, np.nan, 2.0, 2.1]), edges).tolist() == [1, 1]


def test_threshold_is_the_middle_of_the_fullest_bin():
    """Counts 1, 5, 5 on bins of width 2: the first of the fullest, from 2 to 4."""
    assert group_threshold(np.array([0.0, 2, 4, 6]), np.array([1, 5, 5])) == 3
    values = np.concatenate([np.linspace(0, 1, 21), np.full(30, 0.62)])
    edges = target_edges(values)
    assert group_threshold(edges, counts_in(values, edges)) == pytest.approx(0.625)


# --- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delta_m", [200.0, (120.0, 80.0)])
@pytest.mark.parametrize("key", FEATURES)
def test_feature_agrees_with_the_table(key, delta_m):
    """Computed from patches, each of the four features is the column of the table."""
    lr = rough(12)
    table = feature_table(lr, delta_m, True)
    feature = Feature.of_table(key, table, delta_m)
    np.testing.assert_allclose(feature(lr), table[key], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(feature(lr[4:6]), table[key][4:6], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("key", FEATURES)
def test_feature_of_flat_ground_is_zero(key):
    """Flat patches divide nothing by zero."""
    lr = np.full((3, 6, 6, 1), -700, np.float32)
    feature = Feature.of_table(key, feature_table(lr, 200.0, True), 200.0)
    assert feature(lr).tolist() == [0, 0, 0]


@pytest.mark.parametrize("key", FEATURES)
def test_feature_passes_over_a_patch_with_a_gap(key):
    """A missing pixel makes its own patch NaN and leaves the scaling of the others alone."""
    lr = rough(6)
    lr[5, 2, 3] = np.nan
    table = feature_table(lr, 200.0, True)
    values = Feature.of_table(key, table, 200.0)(lr)
    assert np.isnan(values).tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(values, table[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("key", FEATURES)
def test_feature_of_no_patch_is_no_value(key):
    """An empty stack has an empty feature: pairs may run out inside a chunk."""
    feature = Feature.of_table(key, feature_table(rough(5), 200.0, True), 200.0)
    assert feature(np.empty((0, 8, 8, 1), np.float32)).shape == (0,)


# --- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "low"), [(1, 1), (3, 5), (4, 6), (6, 4), (7, 7), (90, 60)])
def test_walk_covers_every_combination_once(high, low):
    """Cyclic walks side by side reach all pairs of different kinds, and none twice."""
    steep, gentle = np.arange(high) + 100, np.arange(low)
    kinds = rng().integers(0, 3, 100 + high)
    pairs = np.concatenate(list(walk_pairs(steep, gentle, kinds)))
    walked = [tuple(pair) for pair in pairs.tolist()]
    expected = {(a, b) for a in steep.tolist() for b in gentle.tolist() if kinds[a] != kinds[b]}
    assert len(walked) == len(set(walked))
    assert set(walked) == expected


def test_walk_begins_with_the_steepest_and_the_gentlest():
    """Both lists are walked side by side, so the first pairs are the most different ones."""
    steep, gentle = np.array([9, 8, 7]), np.array([1, 2])
    first = next(iter(walk_pairs(steep, gentle, np.arange(10))))
    assert first.tolist() == [[9, 1], [8, 2], [7, 1], [9, 2], [8, 1], [7, 2]]


@pytest.mark.parametrize(("high", "low"), [(0, 3), (3, 0), (0, 0)])
def test_walk_of_an_empty_group_is_empty(high, low):
    """Without steep or without gentle patches there is no pair."""
    pairs = walk_pairs(np.arange(high) + 5, np.arange(low), np.arange(10))
    assert list(pairs) == []


def test_walk_of_one_kind_yields_no_pair():
    """Where all patches are originals no partner is of another kind."""
    pairs = walk_pairs(np.array([4, 3]), np.array([0, 1]), np.zeros(5, int))
    assert sum(len(chunk) for chunk in pairs) == 0


# --- mixtures ----------------------------------------------------------------------------------


def test_mixture_by_hand():
    """0.25 of -100 m and 0.75 of -200 m is -175 m, each pair with its own ratio."""
    high, low = np.full((2, 2, 2, 1), -100, np.float32), np.full((2, 2, 2, 1), -200, np.float32)
    mixed = mixture(np.array([0.25, 1.0]), high, low)
    assert mixed.dtype == np.float32
    assert mixed[:, 0, 0, 0].tolist() == [-175, -100]


@pytest.mark.parametrize("feature", [SLOPE, RELIEF], ids=lambda feature: feature.key)
def test_no_mixture_exceeds_its_parents(feature):
    """Slope and relief are convex: a mixture has at most the weighted mean of its parents'."""
    high, low = rough(200, seed=1), rough(200, seed=2)[::-1]
    lam = rng(3).uniform(0, 1, 200)
    value = feature(mixture(lam, high, low).astype(np.float64))
    parents = feature(high), feature(low)
    assert (value <= lam * parents[0] + (1 - lam) * parents[1] + 1e-3 * parents[0]).all()
    assert (value <= np.maximum(*parents) * (1 + 1e-5)).all()


@pytest.mark.parametrize("key", FEATURES)
def test_solved_ratio_gives_the_wanted_feature(key):
    """Bisection meets the wanted value to a thousandth of the parents' distance."""
    lr = rough(120)
    feature = Feature.of_table(key, feature_table(lr, 200.0, True), 200.0)
    low, high = lr[:60], lr[60:]
    wanted = feature(low) + rng().uniform(0.05, 0.95, 60) * (feature(high) - feature(low))
    lam = solve_lambda(high, low, wanted, feature)
    assert ((lam > 0) & (lam < 1)).all()
    reached = feature(mixture(lam, high, low))
    np.testing.assert_allclose(reached, wanted, atol=2e-3 * np.ptp(feature(lr)))


def test_solved_ratio_of_planes_is_the_lever_rule():
    """Planes of slope 0.1 and 0.3 need equal parts for 0.2 and a quarter for 0.15."""
    high, low = planes([0.3, 0.3]), planes([0.1, 0.1])
    lam = solve_lambda(high, low, np.array([0.2, 0.15]), SLOPE)
    np.testing.assert_allclose(lam, [0.5, 0.25], atol=1e-4)


@pytest.mark.parametrize("key", FEATURES)
def test_every_mixture_lies_in_a_wanted_bin(key):
    """The values planned are those of the mixtures, and each bin has what was wanted."""
    lr = rough(60)
    feature = Feature.of_table(key, feature_table(lr, 200.0, True), 200.0)
    values = feature(lr)
    edges = np.linspace(np.quantile(values, 0.2), np.quantile(values, 0.8), 7)
    wanted = [3, 0, 8, 20, 1, 5]
    made = plan(lr, edges, wanted, np.median(values), feature)
    recomputed = feature(mixture(made.lam, lr[made.pairs[:, 0]], lr[made.pairs[:, 1]]))
    np.testing.assert_allclose(made.values, recomputed, rtol=1e-12)
    np.testing.assert_array_equal(counts_in(recomputed, edges), wanted)
    np.testing.assert_array_equal(made.missing, np.zeros(6))


def test_no_pair_is_mixed_twice():
    """Over all bins together a pair comes once, steep partner first, of two kinds."""
    lr = rough(40)
    kinds = np.arange(40) % 3
    edges = np.linspace(0.1, 0.3, 6)
    made = plan(lr, edges, [60] * 5, 0.2, kinds=kinds)
    assert len(made.pairs) > 100
    assert len(np.unique(made.pairs, axis=0)) == len(made.pairs)
    assert (kinds[made.pairs[:, 0]] != kinds[made.pairs[:, 1]]).all()
    values = SLOPE(lr)
    assert (values[made.pairs[:, 0]] >= 0.2).all()
    assert (values[made.pairs[:, 1]] < 0.2).all()


def test_a_mixture_is_not_a_copy_of_its_parent():
    """Where the gentle patch is already steeper than wanted no ratio solves, and none is used.

    A ratio of one in a hundred thousand would add a patch that is in the pool already.
    """
    lr = rough(80)
    edges = np.linspace(0.02, 0.4, 6)
    made = plan(lr, edges, [0, 40, 40, 40, 0], 0.25)
    assert len(made.lam) == 120
    assert made.lam.min() > 1e-4
    assert made.lam.max() < 1 - 1e-6


def test_target_steeper_than_any_mixture():
    """Bins above the steepest patch stay short by all that was wanted; those below are filled."""
    lr = rough(40, steepest=0.3)
    edges = np.array([0.1, 0.2, 0.31, 0.5, 0.9])
    made = plan(lr, edges, [4, 6, 9, 2], 0.2)
    assert made.missing.tolist() == [0, 0, 9, 2]
    assert len(made.pairs) == len(made.lam) == len(made.values) == 10


def test_nothing_wanted_and_nothing_possible():
    """Without a wish or without a group the plan is empty, and `missing` is what was wanted."""
    lr = rough(10)
    edges = np.linspace(0.1, 0.3, 3)
    for wanted, threshold in (([0, 0], 0.2), ([4, 5], 9.0), ([4, 5], -9.0)):
        made = plan(lr, edges, wanted, threshold)
        assert made.pairs.shape == (0, 2)
        assert len(made.lam) == len(made.values) == 0
        assert made.missing.tolist() == wanted


@pytest.mark.parametrize("feature", [SLOPE, RELIEF], ids=lambda feature: feature.key)
def test_a_pool_of_originals_alone_has_no_mixture(feature):
    """Partners must be of different kinds; without copies all that was wanted is missing."""
    lr = rough(10)
    values = feature(lr)
    edges = np.linspace(values[3], values[8], 3)
    made = plan(lr, edges, [4, 5], values[6], feature, kinds=np.zeros(10, int))
    assert len(made.pairs) == 0
    assert made.missing.tolist() == [4, 5]


def test_fewer_pairs_than_wanted():
    """Six pairs make at most six mixtures; the rest is missing."""
    lr = planes([0.05, 0.06, 0.4, 0.41, 0.42])
    made = plan(lr, np.array([0.1, 0.3]), [50], 0.2)
    assert len(made.pairs) == 6
    assert made.missing.tolist() == [44]


def test_few_wanted_does_not_mean_few_tried():
    """The one fitting pair of twenty is found although a single mixture is wanted.

    With the ratio fixed at one half, slope 0.5 and 0.1 … 0.195 give 0.3 … 0.3475.
    """
    gentle = 0.1 + 0.005 * np.arange(20)
    lr = planes([*gentle, 0.5])
    made = plan(lr, np.array([0.3365, 0.3385]), [1], 0.4, rule=MixRule("fixed", lamb=0.5))
    assert made.pairs.tolist() == [[20, 15]]
    assert made.missing.tolist() == [0]


def test_fixed_ratio_is_used_and_its_misses_are_thrown_away():
    """With `lamb` 0.8 each mixture has that ratio and lies in its bin."""
    lr = planes(np.linspace(0.02, 0.4, 30))
    edges = np.linspace(0.2, 0.35, 4)
    made = plan(lr, edges, [5, 5, 5], 0.2, rule=MixRule("fixed", lamb=0.8))
    assert set(made.lam) == {0.8}
    np.testing.assert_array_equal(counts_in(made.values, edges), 5 - made.missing)
    assert made.missing.sum() == 0


def test_beta_ratios_follow_alpha():
    """Beta(0.2, 0.2) keeps near 0 and 1, Beta(50, 50) near one half."""
    lr = rough(60)
    edges = np.array([0.0, 1.0])
    spread = {
        alpha: np.abs(plan(lr, edges, [300], 0.2, rule=MixRule("beta", alpha)).lam - 0.5).mean()
        for alpha in (0.2, 50.0)
    }
    assert spread[0.2] > 0.3
    assert spread[50.0] < 0.06


def test_rule_none_mixes_nothing_and_misses_nothing():
    """With lambda_rule none the fit is left to the choice of images."""
    made = plan(rough(20), np.linspace(0.1, 0.3, 3), [4, 5], 0.2, rule=MixRule("none"))
    assert made.pairs.shape == (0, 2)
    assert made.missing.tolist() == [0, 0]


@pytest.mark.parametrize("rule", ["solve", "beta", "fixed"])
def test_same_seed_gives_the_same_plan(rule):
    """The plan depends on the seed alone; where something is drawn another seed draws otherwise."""
    lr = rough(40)
    edges = np.linspace(0.1, 0.3, 4)
    first, again, other = (
        plan(lr, edges, [9, 9, 9], 0.2, rule=MixRule(rule), seed=seed) for seed in (1, 1, 2)
    )
    for name in ("pairs", "lam", "values", "missing"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    same = first.lam.tobytes() == other.lam.tobytes()
    assert same == (rule == "fixed")


@pytest.mark.parametrize("rule", ["solve", "beta", "fixed"])
def test_a_bin_that_nothing_fits_is_given_up_soon(rule):
    """160,000 pairs, none of which reaches a bin a nanometre a metre wide, end in moments."""
    lr = rough(800, size=6)
    steep = np.count_nonzero(SLOPE(lr) >= 0.21)
    assert steep * (len(lr) - steep) > 150_000
    start = time.perf_counter()
    made = plan(lr, np.array([0.21, 0.21 + 1e-9]), [600], 0.21, rule=MixRule(rule))
    assert time.perf_counter() - start < 10
    assert len(made.pairs) + made.missing[0] == 600
    assert made.missing[0] > 550


def test_missing_patches_take_no_part():
    """A NaN in one parent gives no mixture, since its feature is in no bin."""
    lr = planes([0.05, 0.4, 0.4])
    lr[2, 3, 3] = np.nan
    none = np.empty(0, int)
    groups = Groups(SLOPE(lr), high=[none, np.array([2, 1])], low=[np.array([0]), none])
    edges, wanted = np.array([0.1, 0.3]), np.array([2])
    made = plan_mixtures(lr, groups, edges, wanted, SLOPE, SOLVE, rng())
    assert made.pairs.tolist() == [[1, 0]]
    assert np.isfinite(made.values).all()


# --- the choice --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "available", "take"),
    [
        ([2, 3], [5, 5], [2, 3]),
        ([4, 0, 0], [1, 0, 9], [1, 0, 3]),
        ([0, 4, 0], [9, 0, 9], [4, 0, 0]),
        ([0, 4, 0], [3, 1, 1], [3, 1, 0]),
        ([3, 3, 3], [1, 1, 1], [1, 1, 1]),
        ([5, 0, 5], [0, 4, 20], [0, 4, 6]),
        ([0, 0], [3, 3], [0, 0]),
    ],
)
def test_deficits_by_hand(quota, available, take):
    """What a bin lacks comes from the nearest bin with a surplus, the lower one of two."""
    assert move_deficits(np.array(quota), np.array(available)).tolist() == take


@pytest.mark.parametrize("seed", range(20))
def test_deficits_keep_sums_and_limits(seed):
    """Never more than there is, never less than a bin can give, in sum what was wanted."""
    draw = rng(seed)
    quota, available = draw.integers(0, 30, 22), draw.integers(0, 30, 22)
    before = quota.copy(), available.copy()
    take = move_deficits(quota, available)
    assert (take <= available).all()
    assert (take >= np.minimum(quota, available)).all()
    assert take.sum() == min(quota.sum(), available.sum())
    np.testing.assert_array_equal((quota, available), before)


def test_spread_is_even_in_depth():
    """Three of nine depths: the middles of the three thirds, whatever the order of the members."""
    depths = np.array([-50.0, -10, -90, -30, -70, -20, -80, -40, -60])
    chosen = spread_evenly(np.arange(9), depths, 3)
    assert sorted(depths[chosen]) == [-80, -50, -20]
    assert spread_evenly(np.arange(9), depths, 0).tolist() == []
    assert spread_evenly(np.array([7, 2]), depths, 5).tolist() == [7, 2]


def choose(values, quota, priorities=None, depths=None, edges=None):
    """Pick with bins of width 1 from 0, one priority and one depth unless told otherwise."""
    values = np.asarray(values, float)
    return pick(
        values,
        np.zeros(len(values), int) if priorities is None else np.asarray(priorities),
        np.zeros(len(values)) if depths is None else np.asarray(depths, float),
        np.arange(len(quota) + 1.0) if edges is None else edges,
        np.asarray(quota),
    )


def test_picked_counts_are_the_quotas():
    """Where every bin has enough the histogram of the choice is the quotas, sorted, no repeats."""
    values = rng().uniform(-1, 6, 700)
    quota = [5, 40, 0, 17, 1]
    chosen = choose(values, quota)
    assert counts_in(values[chosen], np.arange(6.0)).tolist() == quota
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == sum(quota)


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [3, 0, 0]), (5, [5, 0, 0]), (7, [5, 2, 0]), (12, [5, 4, 3])]
)
def test_priorities_are_respected(count, expected):
    """Originals and mixtures before flips, flips before rotations, whatever their order."""
    priorities = np.array([2, 0, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0, 2])
    chosen = choose(np.full(14, 0.5), [count], priorities)
    assert np.bincount(priorities[chosen], minlength=3).tolist() == expected


def test_within_a_bin_depths_are_spaced_evenly():
    """Of a hundred depths five are taken, twenty apart."""
    depths = rng().permutation(100)
    chosen = choose(np.full(100, 0.5), [5], depths=depths)
    assert sorted(depths[chosen]) == [10, 30, 50, 70, 90]


def test_members_outside_the_bins_fill_in():
    """Bins that lack members take them from beyond the nearest end of the histogram."""
    values = [-1.5, -1.2, 0.5, 1.5, 2.5, 3.5]
    assert choose(values, [1, 3]).tolist() == [2, 3, 4, 5]
    assert choose(values, [3, 1]).tolist() == [0, 1, 2, 3]
    assert choose(values, [50, 50]).tolist() == list(range(6))


def test_what_fills_in_is_the_nearest():
    """A target steeper than the whole pool gets its steepest patches, not some of all.

    Without this the gentlest patches would stand in for the steep ones that cannot be made.
    """
    values = np.linspace(0.0, 0.9, 91)
    quota = np.zeros(20, int)
    quota[[3, 9, 17]] = 2, 5, 3
    chosen = choose(values, quota, depths=rng().permutation(91), edges=np.linspace(1, 1.2, 21))
    assert len(chosen) == 10
    assert values[chosen].min() >= 0.8


def test_missing_members_are_never_picked():
    """A patch without a feature is not taken even if others run out."""
    assert choose([np.nan, 0.5, np.nan, 1.5], [4, 4]).tolist() == [1, 3]
    assert len(choose([np.nan, np.nan], [4, 4])) == 0
    assert len(choose([0.5, 1.5], [0, 0])) == 0


def test_picking_does_not_change_its_input():
    """Values on the last edge are in the last bin, and the arrays handed in stay as they are."""
    values = np.array([0.0, 1.0, 2.0])
    values.flags.writeable = False
    assert choose(values, [1, 2]).tolist() == [0, 1, 2]


# --- stretching --------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "times"), [(4, (0, 1)), (9, (1, 1)), (14, (1, 2)), (27, (3, 3))])
def test_originals_come_equally_often(count, times):
    """Nobody's turn comes twice before everybody's has come once, each time with another copy."""
    chosen = choose_evenly(np.ones(27), 9, count, rng())
    assert len(chosen) == len(set(chosen.tolist())) == count
    often = np.bincount(chosen % 9, minlength=9)
    assert (often.min(), often.max()) == times


def test_copies_repeat_once_all_are_taken():
    """Two originals with one copy each, ten images: every pool number two or three times."""
    often = np.bincount(choose_evenly(np.ones(4), 2, 10, rng()), minlength=4)
    assert often.tolist() in ([3, 3, 2, 2], [2, 2, 3, 3], [3, 2, 2, 3], [2, 3, 3, 2])


def test_originals_without_a_feature_are_left_out():
    """A patch with a gap has no feature, and neither have its copies."""
    values = np.array([1.0, np.nan, 2.0] * 4)
    assert set(choose_evenly(values, 3, 8, rng()) % 3) == {0, 2}
    assert len(choose_evenly(np.full(6, np.nan), 3, 8, rng())) == 0


def test_even_choice_follows_its_seed():
    """The same seed chooses the same copies, another seed others."""
    values = np.ones(150)
    first, again, other = (choose_evenly(values, 10, 20, rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_target_like_the_training_data_stretches_nothing():
    """Where training ground and target are alike, in whatever order, all factors are 1."""
    values = rng().gamma(2.0, 0.01, 50)
    np.testing.assert_allclose(stretch_factors(values, rng(1).permutation(values)), 1)


def test_factors_carry_quantiles_to_quantiles():
    """The k-th gentlest patch becomes the k-th gentlest of the target; missing ones do not count.

    Three values and a target of six: the middles of its thirds, 1.5, 3.5 and 5.5.
    """
    target = np.array([4.0, np.nan, 1, 6, 2, 5, 3])
    factors = stretch_factors(np.array([3.0, 1.0, np.nan, 2.0]), target)
    np.testing.assert_allclose(factors, [5.5 / 3, 1.5, 1, 3.5 / 2])


def test_flat_patches_are_not_stretched():
    """No factor makes relief of none, and a flat part of the target flattens nothing."""
    np.testing.assert_allclose(
        stretch_factors(np.array([0.0, 2.0]), np.array([1.0, 3.0])), [1, 1.5]
    )
    np.testing.assert_allclose(
        stretch_factors(np.array([1.0, 2.0]), np.array([0.0, 3.0])), [1, 1.5]
    )
    with pytest.raises(DataError, match="the target is flat: its feature is 0 everywhere"):
        stretch_factors(np.array([1.0, 2.0]), np.zeros(3))
    assert stretch_factors(np.empty(0), np.ones(3)).shape == (0,)


def test_nothing_stretches_to_a_target_without_a_number():
    """A target of missing patches has no quantiles."""
    with pytest.raises(DataError, match="no patch without a missing pixel"):
        stretch_factors(np.ones(3), np.full(4, np.nan))


@pytest.mark.parametrize("feature", [SLOPE, RELIEF])
def test_stretched_pairs_have_the_wanted_feature(feature):
    """Features grow by the factor, mean depths stay, and LR remains the block mean of HR."""
    hr = enlarge(rough(6), 4)
    lr = block_mean(hr, 4)
    factors = np.array([0.5, 1, 1.5, 2, 4, 9])
    lr_out, hr_out = stretched(lr, hr, factors)
    assert lr_out.dtype == hr_out.dtype == np.float32
    np.testing.assert_allclose(feature(lr_out), factors * feature(lr), rtol=1e-3)
    np.testing.assert_allclose(lr_out.mean((1, 2, 3)), lr.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(block_mean(hr_out, 4), lr_out, atol=0.01)
    np.testing.assert_allclose(lr_out[1], lr[1], atol=1e-3)
