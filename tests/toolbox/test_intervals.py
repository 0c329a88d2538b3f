"""Calibrated intervals: the lengths they are made of, their coverage, scores by hand, files."""

import dataclasses
import json

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry.calibration import LEVEL, IntervalTest
from toolbox.tasks.bathymetry.intervals import (
    LEVELS,
    Intervals,
    calibrate,
    calibration_error,
    interval_score_m,
    load_intervals,
    save_intervals,
    spread_lengths,
)

SCALE = 4


def maps(count, size=1.0, seed=0):
    """Draw maps whose error grows with their relief: input, truth and result, metres.

    The relief of an image is up to ten times that of another; the result lacks half of the detail
    of the truth, and contradicts the input a little.
    """
    rng = np.random.default_rng(seed)
    relief = size * 10 ** rng.uniform(0, 1, (count, 1, 1))
    lr = (relief * rng.normal(0, 1, (count, 8, 8))).astype(np.float32)
    smooth = enlarge(lr[..., None], SCALE)[..., 0]
    detail = relief * rng.normal(0, 0.3, smooth.shape)
    hr = smooth + detail
    sr = smooth + 0.5 * detail + relief * 0.1 * rng.normal(0, 1, smooth.shape)
    lr = block_mean(hr[..., None], SCALE)[..., 0]
    return lr.astype(np.float32), hr.astype(np.float32), sr.astype(np.float32)


def test_lengths_by_hand():
    """Input 2 m, result 5 m: 3 m from bicubic, no roughness (1 % of that), 3 m of contradiction."""
    lr, sr = np.full((1, 6, 6), 2, np.float32), np.full((1, 24, 24), 5, np.float32)
    lengths = spread_lengths(lr, sr)
    assert lengths.shape == (3, 1, 6, 6)
    for found, expected in zip(lengths, (3, 0.03, 3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_single_peak_is_rough():
    """RMS over 5 × 5 pixels of a peak of 9 m less its mean of 3 × 3: (8² + 8 · 1²) / 25."""
    lr = np.zeros((1, 15, 15), np.float32)
    lr[0, 7, 7] = 9
    rough = spread_lengths(lr, enlarge(lr[..., None], SCALE)[..., 0])[1, 0]
    assert rough[7, 7] == pytest.approx(np.sqrt((64 + 8) / 25), rel=1e-5)
    assert rough[0, 0] == pytest.approx(1e-6)


@pytest.mark.parametrize("factor", [0.01, 100])
def test_the_width_grows_with_the_relief(factor):
    """Ten times the relief, ten times the width: no length is taken for the least one."""
    intervals = calibrate(*maps(20))
    lr, _, sr = maps(20, seed=1)
    lr[0], sr[0] = lr[0].mean(), lr[0].mean()  # a flat map has an interval too
    plain = intervals.spread(lr, sr)
    scaled = intervals.spread(factor * lr, factor * sr)
    np.testing.assert_allclose(scaled[1:], factor * plain[1:], rtol=1e-2)
    assert (scaled > 0).all()


def test_the_share_that_was_asked_for_is_held():
    """Maps of the same kind that were not calibrated on: every level within 2 points."""
    intervals = calibrate(*maps(200))
    lr, hr, sr = maps(200, seed=1)
    ratios = np.abs(sr - hr) / intervals.spread(lr, sr)
    for level in (0.5, 0.9, 0.95):
        assert (ratios <= intervals.multiple(level)).mean() == pytest.approx(level, abs=0.02)
    assert calibration_error(ratios, intervals) < 0.014
    assert intervals.levels == LEVELS
    assert intervals.images == 200


def test_rough_and_gentle_maps_are_held_alike():
    """The width follows the relief; with one width, rough images would be far from the share."""
    intervals = calibrate(*maps(200))
    lr, hr, sr = maps(200, seed=1)
    error, half = np.abs(sr - hr), intervals.multiple(0.9) * intervals.spread(lr, sr)
    own = (error <= half).mean(axis=(1, 2))
    constant = (error <= np.quantile(error, 0.9)).mean(axis=(1, 2))
    assert own.min() > 0.8
    assert constant.min() < 0.7
    score = interval_score_m(error, half, 0.9)
    assert score < 0.85 * interval_score_m(error, np.full_like(half, np.quantile(error, 0.9)), 0.9)


@pytest.mark.parametrize("factor", [0.1, 100.0])
def test_one_calibration_serves_other_sizes(factor):
    """Ten times flatter or a hundred times higher relief: the powers of the lengths add up to 1."""
    intervals = calibrate(*maps(200))
    lr, hr, sr = maps(100, factor, seed=2)
    share = np.abs(sr - hr) <= intervals.multiple(0.9) * intervals.spread(lr, sr)
    assert share.mean() == pytest.approx(0.9, abs=0.03)


def test_the_same_seed_gives_the_same_calibration():
    """Halves and pixels are drawn from it."""
    assert calibrate(*maps(20), seed=3) == calibrate(*maps(20), seed=3)
    assert calibrate(*maps(20), seed=3) != calibrate(*maps(20), seed=4)


def test_score_by_hand():
    """Half-widths of 1 and 3, errors of 2 and 1: (2 + 20 · 1 + 6) / 2 at 90 %."""
    assert interval_score_m(np.array([2.0, -1]), np.array([1.0, 3]), 0.9) == pytest.approx(14)


def test_calibration_error_by_hand():
    """All errors are 1.5 spreads: coverage 0 at a half and 1 at 0.9."""
    intervals = Intervals((0, 0, 0), 1.0, (0.5, 0.9, 0.99), (1.0, 2.0, 3.0), 10)
    assert calibration_error(np.full(7, 1.5), intervals) == pytest.approx((0.5 + 0.1) / 2)


def test_levels_between_and_beyond():
    """Between levels quantiles are interpolated; beyond them nothing is known."""
    intervals = Intervals((0, 0, 0), 1.0, (0.5, 0.9), (1.0, 2.0), 10)
    assert intervals.multiple(0.7) == pytest.approx(1.5)
    with pytest.raises(DataError, match=r"between 0\.5 and 0\.9.*received 0\.95"):
        intervals.multiple(0.95)


def test_files(tmp_path):
    """What is saved is read; nothing there is None; damage is one line."""
    assert load_intervals(tmp_path) is None
    intervals = dataclasses.replace(calibrate(*maps(10)), weights=77)
    save_intervals(intervals, tmp_path)
    assert load_intervals(tmp_path) == intervals
    saved = json.loads((tmp_path / "intervals.json").read_text())
    (tmp_path / "intervals.json").write_text(json.dumps(saved | {"version": 1}))
    assert load_intervals(tmp_path) is None  # other lengths
    for content in ("", "[]", json.dumps(saved | {"powers": [1]})):
        (tmp_path / "intervals.json").write_text(content)
        with pytest.raises(DataError, match="is not a calibration of intervals"):
            load_intervals(tmp_path)


def test_one_image_is_too_few():
    """One half would be empty."""
    with pytest.raises(DataError, match="at least two validation images; received 1"):
        calibrate(*maps(1))


def test_figures_of_a_test():
    """By class and region; a class without images has none; the truth leaves the interval."""
    lr, hr, sr = maps(40)
    test = IntervalTest(calibrate(*maps(200, seed=5)), lr, hr, sr)
    first = np.arange(40) < 10
    summary = test.summary({"0-0.05": first, "0.1-": np.zeros(40, bool)}, {"reef": ~first})
    assert summary["level"] == LEVEL
    assert summary["all"]["coverage"] == pytest.approx(0.9, abs=0.04)
    parts = summary["slope_classes"]["0-0.05"], summary["regions"]["reef"]
    assert [part["n"] for part in parts] == [10, 30]
    whole = (10 * parts[0]["coverage"] + 30 * parts[1]["coverage"]) / 40
    assert summary["all"]["coverage"] == pytest.approx(whole)
    assert summary["slope_classes"]["0.1-"]["coverage"] is None
    left = np.stack([test.left(i) for i in range(40)])
    assert (left != 0).mean() == pytest.approx(1 - summary["all"]["coverage"])
    assert (np.sign(hr - sr)[left != 0] == left[left != 0]).all()
    assert [level for level, _ in summary["reliability"]] == list(LEVELS)
