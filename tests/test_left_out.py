"""What the sea-floor models that ship are worth elsewhere: how folds are dealt and judged."""

import numpy as np
import pytest

from examples.bathymetry.pretrained import left_out
from examples.bathymetry.pretrained.left_out import NEAR, TEST_ONLY, LeftOut, Table, fold_content
from examples.bathymetry.pretrained.remake import HERE, SHARES
from toolbox.config import read_yaml
from toolbox.resample import block_mean
from toolbox.tasks.bathymetry.intervals import interval_score_m

GROUPS = {f"gebco_{number}": number // 2 for number in range(200)}


@pytest.fixture(autouse=True)
def tiles(monkeypatch):
    """A hundred groups of two tiles each."""
    monkeypatch.setattr(left_out, "groups", lambda: GROUPS)


@pytest.fixture
def regions():
    """The regions file of the project."""
    return read_yaml(HERE / "regions.yml")


def test_weights_that_ship_see_only_what_may_train(regions):
    """Tiles that may train and two maps; what is for tests alone is in no training."""
    assert set(regions["regions"]) == {"gebco", *NEAR}
    assert regions["regions"]["gebco"]["keep"] == {"use": ["train"]}
    files = {region["hr_fname"] for region in regions["regions"].values()}
    assert not files & {region["hr_fname"] for region in TEST_ONLY.values()}
    for number in range(SHARES):
        parts = fold_content(regions, number, SHARES)["regions"]
        assert all(parts[name]["held_out"] for name in TEST_ONLY if name in parts)


def test_every_group_is_left_out_once(regions):
    """Folds share no tile; a tile beside a larger map is never tested, and goes with the map."""
    beside = {group for near in NEAR.values() for group in near}
    folds = [fold_content(regions, number, SHARES)["regions"] for number in range(SHARES)]
    tested = [set(fold["gebco_left_out"]["keep"]["group"]) for fold in folds]
    assert set.union(*tested) == set(GROUPS.values()) - beside
    assert sum(map(len, tested)) == len(set.union(*tested))
    for fold, groups, name in zip(folds, tested, [*NEAR, None], strict=True):
        held_out = {key for key in NEAR if fold[key].get("held_out")}
        assert held_out == ({name} if name else set())
        assert set(fold["gebco"]["leave_out"]) == groups | set(NEAR.get(name, ()))


def fold(count, seed, error_m, region="gebco"):
    """Images of a made-up fold, two for each tile, whose results are wrong by `error_m`."""
    rng = np.random.default_rng(seed)
    hr = rng.normal(0, 10, (count, 32, 32)).cumsum(1).cumsum(2).astype(np.float32)
    sr = hr + rng.normal(0, error_m, hr.shape).astype(np.float32)
    lr = block_mean(hr[..., None], 4)[..., 0]
    names = [f"{region}/gebco_{seed + number // 2}" for number in range(count)]
    return LeftOut(lr, hr, sr, np.full(count, 0.02), np.array(names))


@pytest.fixture
def table():
    """Two folds of tiles and one of a region for tests alone."""
    pacific = fold(6, 3, 5.0)
    return Table([fold(60, 0, 1.0), fold(60, 100, 1.0), pacific._replace(maps=["pacific"] * 6)])


def test_errors_of_all_folds(table):
    """RMSE is pooled over the images of all folds, of each method on its own."""
    row = table.row(table.regions == "gebco")
    error = (table.found.sr - table.found.hr)[:120]
    assert row["n"] == 120
    assert row["sr_rmse_m"] == pytest.approx(float(np.sqrt(np.square(error).mean())), rel=1e-5)
    assert row["sr_rmse_m"] < row["back_projection_rmse_m"] < row["bicubic_rmse_m"]
    shares = [row[f"{key}_share"] for key in ("improved", "omitted", "hallucinated")]
    assert sum(shares) == pytest.approx(1)


def test_intervals_are_calibrated_on_other_groups(table):
    """Each image is judged once, by intervals that no image of its group has part in."""
    judged = np.sum([mine for mine, _ in table.intervals], axis=0)
    assert (judged == 1).all()
    for mine, test in table.intervals:
        others = table.known & ~mine
        assert test.intervals.images == others.sum()
        assert not set(table.units[mine]) & set(table.units[others])
    row = table.row(table.regions == "gebco")
    assert row["coverage"] == pytest.approx(0.9, abs=0.03)
    for mine, test in table.intervals:
        half = test.half * test.spread
        score = interval_score_m(np.abs(test.error), half, 0.9)
        assert table.coverage(mine)["interval_score_m"] == pytest.approx(score, rel=1e-5)


def test_figures_and_table(table, monkeypatch):
    """A row for each region and class; means over groups of enough images alone."""
    monkeypatch.setattr(left_out, "FEW", 4)
    monkeypatch.setattr(left_out, "flags", lambda name, scale: ("noise",) if "_0" in name else ())
    figures = table.figures()
    assert list(figures["regions"]) == ["gebco", "pacific"]
    assert list(figures["regions"]["gebco"]) == ["all", "0-0.05"]
    maps = figures["maps"]
    assert maps["count"] == len(maps["rows"]) == 30
    assert maps["worse_than_back_projection"] == 0
    assert maps["rows"]["group 0"]["flags"] == ["noise"]
    outside = {n for n, row in maps["rows"].items() if not 0.85 <= row["coverage"] <= 0.96}
    assert maps["outside_85_to_96"] == len(outside)
    assert maps["outside_and_not_flagged"] == len(outside - {"group 0"})
    gains = [row["sr_gain"] for row in maps["rows"].values()]
    assert maps["sr_gain"] == pytest.approx(np.mean(gains))
    lines = left_out.markdown(figures).splitlines()
    assert len(lines) == 2 + 2 * 2
    assert lines[2].startswith("| gebco | all | 120 |")
    assert lines[3].startswith("|  | 0-0.05 | 120 |")
