"""The program mixup: the manual's file, every key, degenerate targets; the manual's functions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Workshop, in_process
from matplotlib.figure import Figure

from sr_dataset_builder import bathymetric_map_feature_LR, flip, mixup, rotate
from sr_dataset_builder.mixup import (
    AdaptiveMixup,
    Load_csv_norm,
    Load_imgs,
    get_slope,
    get_slope_LR,
    idx_of_the_nearest,
    indices_of_the_nearest,
    mixup_norm,
    pick_images,
)
from toolbox.data_loader import load_images
from toolbox.errors import DataError
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry.adaptive import (
    FEATURES,
    bin_of,
    counts_in,
    group_threshold,
    mixture,
    target_edges,
)
from toolbox.tasks.bathymetry.terrain import feature_table, mean_slope_gradient, write_feature_csv

ORIGINALS, KINDS = 24, 7
POOL = ORIGINALS * KINDS

#: As it is printed in the manual.
MANUAL_YAML = """\
train_dir: output/train
train_data: ['data_HR.pkl', 'data_LR.pkl']
target_data_csv: data_LR.csv
# 0: normalized_mean_slope_gradient, 1: altitude_difference, 2:
# mean_slope_gradient_norm_data, 3: mean_slope_gradient
target_value: 3
threshold: 0.1
std: 0.05
save_dir_name: mixup_data
random_split: False
alpha: 0.5
lamb: 0.8
plot_figure: False
original_image_num: 11053
increase_rate: 2

get_slope_difference:
  valid: True
  input_data_dir: oki_test_inter/test
  delta: 50
"""
OUTPUTS = [
    "data_HR.pkl",
    "data_LR.csv",
    "data_LR.pkl",
    "picked_images/data_HR.pkl",
    "picked_images/data_LR.csv",
    "picked_images/data_LR.pkl",
    "report.json",
    "report.png",
]


def rough(slopes, seed=0, size=8):
    """Return LR patches with the given mean slopes (at 200 m) and various depths."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(slopes), size, size, 1))
    noise = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    unit = noise / mean_slope_gradient(noise, 200.0)[:, None, None, None]
    depths = rng.uniform(-3000, -500, (len(slopes), 1, 1, 1))
    return (depths + np.reshape(slopes, (-1, 1, 1, 1)) * unit).astype(np.float32)


def write(folder, hr, lr):
    """Write a pair of stacks as the manual's pickles."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, imgs in (("HR", hr), ("LR", lr)):
        np.asarray(imgs, np.float32).dump(folder / f"data_{name}.pkl")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``train``: 24 gentle pairs, flips, three turns; ``target``: LR patches, steep on the whole.

    Read-only. Slopes are 0.02 to 0.2 in training and mostly 0.12 to 0.18 in the target.
    """
    folder = tmp_path_factory.mktemp("mixup")
    hr = enlarge(rough(0.02 + 0.2 * np.linspace(0, 1, ORIGINALS) ** 2), 4)
    train = folder / "train"
    write(train, hr, block_mean(hr, 4))
    for program, source, result in ((flip, "data", "flip"), (rotate, "flip", "all")):
        content = {
            "train_dir": str(train),
            "train_data": [f"{source}_HR.pkl", f"{source}_LR.pkl"],
            "train_savedata": [f"{result}_HR.pkl", f"{result}_LR.pkl"],
            "original_image_num": ORIGINALS,
        }
        if program is rotate:
            content["angles"] = [90, 180, 270]
        (folder / "augment.yml").write_text(yaml.safe_dump(content))
        assert program.main([str(folder / "augment.yml")]) == 0
    for kind in ("HR", "LR"):
        (train / f"all_{kind}.pkl").replace(train / f"data_{kind}.pkl")
        (train / f"flip_{kind}.pkl").unlink()
    target = rough(0.12 + 0.06 * np.random.default_rng(5).beta(2, 3, 30), seed=9)
    write_feature_csv(target, 200.0, folder / "target.csv", True)
    return folder


class Bench:
    """A copy of the training pool, the settings of a run, and what it left behind."""

    def __init__(self, folder, made):
        shutil.copytree(made, folder)
        self.folder, self.train = folder, folder / "train"
        self.target_csv = folder / "target.csv"
        self.out = self.train / "mixup_data"

    def settings(self, **changes):
        return {
            "train_dir": str(self.train),
            "target_data_csv": str(self.target_csv),
            "original_image_num": ORIGINALS,
            **changes,
        }

    def start(self, **changes):
        """Run the program with some settings; return its exit code and messages."""
        path = self.folder / "mixup.yml"
        path.write_text(yaml.safe_dump(self.settings(**changes)), encoding="utf-8")
        return in_process(mixup.main, path)

    def mix(self, **changes):
        """Run the program, which must succeed quietly; return what report.json says."""
        result = self.start(**changes)
        assert result.code == 0, result.err
        assert result.messages == []
        self.printed = result.out
        return json.loads((self.out / "report.json").read_text())

    @property
    def warnings(self):
        """What the last run warned of."""
        lines = self.printed.splitlines()
        return "\n".join(line for line in lines if line.strip().startswith("WARNING"))

    def stacks(self, folder):
        return [np.asarray(load_images(folder / f"data_{kind}.pkl")) for kind in ("HR", "LR")]

    def table(self, place="picked_images"):
        return pd.read_csv(self.out / place / "data_LR.csv")

    def target(self, slopes, seed=1):
        """Replace the target by LR patches of the given slopes."""
        self.target_values(rough(slopes, seed))

    def target_values(self, lr):
        write_feature_csv(lr, 200.0, self.target_csv, True)

    def replace_lr(self, edit):
        """Change the LR patches of the pool in place, HR with them."""
        hr, lr = self.stacks(self.train)
        edit(hr, lr)
        write(self.train, hr, lr)

    def quotas(self, rate=2, key="mean_slope_gradient"):
        """Return the edges of the target's bins and what the program should pick from each."""
        target = pd.read_csv(self.target_csv)[key].to_numpy()
        edges = target_edges(target)
        return edges, np.rint(rate * counts_in(target, edges)).astype(int)


@pytest.fixture
def bench(workshop, made, monkeypatch):
    """Open a copy of the pool; pictures are empty files, for drawing takes longer than mixing."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())
    return Bench(workshop.folder / "bench", made)


@pytest.fixture
def plans(monkeypatch):
    """Collect the plans of mixtures that programs make."""
    collected = []
    real = mixup.plan_mixtures

    def plan(*arguments, **keywords):
        collected.append(real(*arguments, **keywords))
        return collected[-1]

    monkeypatch.setattr(mixup, "plan_mixtures", plan)
    return collected


@pytest.fixture(scope="module")
def finished(made, tmp_path_factory):
    """One run with bare keys, read-only, with its ``plan``, ``report`` and ``files``."""
    plans = []
    real = mixup.plan_mixtures

    def plan(*arguments, **keywords):
        plans.append(real(*arguments, **keywords))
        return plans[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())
        patch.setattr(mixup, "plan_mixtures", plan)
        whole = Bench(tmp_path_factory.mktemp("finished") / "bench", made)
        whole.report = whole.mix()
    [whole.plan] = plans
    whole.files = Workshop(whole.folder, whole.folder).snapshot(whole.out)
    return whole


# --- the manual's file -------------------------------------------------------------------------


def test_the_manuals_file_runs_unchanged(workshop, made):
    """With other paths and another number of images the manual's file makes every output."""
    bench = Bench(workshop.folder / "bench", made)
    reference = shutil.copytree(workshop.data_dir / "test", bench.folder / "oki_test_inter")
    text = MANUAL_YAML
    for old, new in (
        ("output/train", bench.train),
        ("target_data_csv: data_LR.csv", f"target_data_csv: {bench.target_csv}"),
        ("oki_test_inter/test", reference),
        ("11053", ORIGINALS),
    ):
        assert old in text
        text = text.replace(old, str(new))
    path = bench.folder / "input.yml"
    path.write_text(text, encoding="utf-8")
    before = workshop.snapshot(bench.train)
    result = in_process(mixup.main, path)
    assert result.code == 0, result.err
    assert result.messages == []
    files = workshop.snapshot(bench.out)
    assert sorted(files) == sorted([*OUTPUTS, "slope_difference.csv"])
    assert all(files.values())
    after = workshop.snapshot(bench.train)
    assert {k: after[k] for k in before} == before
    report = json.loads(files["report.json"])
    assert report["target_key"] == "mean_slope_gradient"
    assert report["threshold"] == 0.1
    assert report["mixtures"] > 0
    assert report["mixtures_missing"] == 0
    assert report["picked"] == report["wanted"] == 60
    assert report["wasserstein_after"] < 0.1 * report["wasserstein_before"]
    assert f"{report['mixtures']} mixtures" in result.out
    assert files["report.png"].startswith(b"\x89PNG")
    assert int.from_bytes(files["report.png"][16:20], "big") >= 800


def test_bare_keys_are_enough(finished):
    """The folder, the target and the number of originals suffice; the threshold follows."""
    report = finished.report
    values = pd.read_csv(finished.target_csv)["mean_slope_gradient"].to_numpy()
    edges = target_edges(values)
    assert report["threshold"] == pytest.approx(group_threshold(edges, counts_in(values, edges)))
    assert report["wasserstein_after"] < report["wasserstein_before"]
    assert report["target_images"] == 30
    assert sorted(finished.files) == OUTPUTS


# --- what is written ---------------------------------------------------------------------------


def test_pool_is_the_input_and_then_the_mixtures(finished):
    """LR and HR mixtures have the same parents and the same ratio."""
    before, report, plan = finished.stacks(finished.train), finished.report, finished.plan
    assert len(plan.lam) == report["mixtures"] > 10
    assert np.ptp(plan.lam) > 0.1
    for imgs, pool in zip(before, finished.stacks(finished.out), strict=True):
        assert len(pool) == POOL + report["mixtures"]
        np.testing.assert_array_equal(pool[:POOL], imgs)
        expected = mixture(plan.lam, imgs[plan.pairs[:, 0]], imgs[plan.pairs[:, 1]])
        np.testing.assert_array_equal(pool[POOL:], expected)


def test_mixtures_stay_pairs(finished):
    """The block mean of an HR mixture is the LR mixture: rows, columns and order agree."""
    hr, lr = finished.stacks(finished.out)
    np.testing.assert_allclose(block_mean(hr, 4)[POOL:], lr[POOL:], atol=0.01)
    hr, lr = finished.stacks(finished.out / "picked_images")
    np.testing.assert_allclose(block_mean(hr, 4), lr, atol=0.01)


def test_partners_are_of_different_kinds_and_come_once(bench, plans):
    """A steep patch is mixed with a gentle one that was flipped or turned otherwise."""
    bench.mix(increase_rate=6)
    [plan] = plans
    kinds = plan.pairs // ORIGINALS
    assert (kinds[:, 0] != kinds[:, 1]).all()
    assert len(np.unique(plan.pairs, axis=0)) == len(plan.pairs)


@pytest.mark.parametrize("folder", ["", "picked_images"])
def test_table_is_that_of_the_images(finished, folder):
    """Each table says what bathymetric_map_feature_LR says about the images beside it."""
    table = finished.table(folder).drop(columns="pool_index", errors="ignore")
    expected = feature_table(finished.stacks(finished.out / folder)[1], 200.0, True)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-5)


@pytest.mark.parametrize("rate", [1, 3.5])
def test_picked_counts_are_the_quotas(bench, rate):
    """Where enough can be mixed each bin has round(rate × the target's count) images."""
    report = bench.mix(increase_rate=rate)
    edges, quotas = bench.quotas(rate)
    picked = bench.table()["mean_slope_gradient"].to_numpy()
    assert counts_in(picked, edges).tolist() == quotas.tolist()
    assert report["picked"] == report["wanted"] == quotas.sum() == len(picked)


def test_picked_images_are_members_of_the_pool(finished):
    """`pool_index` says which; none is taken twice; originals and mixtures come first."""
    index = finished.table()["pool_index"].to_numpy()
    assert len(set(index)) == len(index)
    for pool, picked in zip(
        finished.stacks(finished.out), finished.stacks(finished.out / "picked_images"), strict=True
    ):
        np.testing.assert_array_equal(picked, pool[index])
    assert ((index < ORIGINALS) | (index >= POOL)).all()


def test_originals_that_fit_are_picked(finished):
    """Mixtures only make up for what the originals lack: where a bin wants them all, all come."""
    edges, quotas = finished.quotas()
    originals = finished.table("")["mean_slope_gradient"].to_numpy()[:ORIGINALS]
    counts = counts_in(originals, edges)
    bins = bin_of(originals, edges)
    inside = (bins >= 0) & (bins < len(quotas))
    wanted = [i for i in np.flatnonzero(inside) if counts[bins[i]] <= quotas[bins[i]]]
    assert len(wanted) >= 3
    assert set(wanted) <= set(finished.table()["pool_index"])


def test_same_seed_same_bytes(bench, finished, workshop):
    """Two runs write the same bytes, another seed others; a second run replaces the first."""
    bench.mix(seed=4)
    assert workshop.snapshot(bench.out)["data_LR.pkl"] != finished.files["data_LR.pkl"]
    bench.mix()
    assert workshop.snapshot(bench.out) == finished.files


def test_npy_in_npy_out(bench, finished):
    """Memory-mapped files give the same images as pickles, and memory-mapped files."""
    expected = finished.stacks(finished.out / "picked_images")
    for kind, imgs in zip(("HR", "LR"), bench.stacks(bench.train), strict=True):
        np.save(bench.train / f"data_{kind}.npy", imgs)
    names = ["data_HR.npy", "data_LR.npy"]
    bench.mix(train_data=names)
    for name, imgs in zip(names, expected, strict=True):
        mapped = load_images(bench.out / "picked_images" / name)
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, imgs)


def test_table_of_the_training_data_is_made_or_used(bench):
    """A missing data_LR.csv is made with the recorded spacing; one that is there is used."""
    (bench.folder / "dataset.json").write_text('{"delta_lr_m": 100.0, "delta_hr_m": 25.0}')
    bench.target(np.linspace(0.24, 0.36, 30))
    bench.mix()
    made = pd.read_csv(bench.train / "data_LR.csv")
    lr = bench.stacks(bench.train)[1]
    np.testing.assert_allclose(made["mean_slope_gradient"], mean_slope_gradient(lr, 100.0))
    np.testing.assert_allclose(
        bench.table("")["mean_slope_gradient"][:POOL], made["mean_slope_gradient"]
    )


def test_report_picture_says_what_was_reached(bench, monkeypatch):
    """Three histograms, before, target and after, with both distances as numbers."""
    figures = []

    def keep(figure, path, **options):
        Path(path).touch()
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    report = bench.mix(plot_figure=True)
    drawn, mixtures = figures
    assert (bench.out / "mixtures.png").is_file()  # on request only: not among OUTPUTS
    titles = [ax.get_title() for ax in drawn.axes]
    expected = ((ORIGINALS, "before"), (30, "target"), (60, "pick"))
    for title, (n, words) in zip(titles, expected, strict=True):
        assert words in title
        assert f"n = {n}" in title
    assert f"{report['wasserstein_before']:.4g}" in titles[0]
    assert f"{report['wasserstein_after']:.4g}" in titles[2]
    shares = [sum(bar.get_height() for bar in ax.patches) for ax in drawn.axes]
    np.testing.assert_allclose(shares, 100)
    mixed = [ax.get_title() for ax in mixtures.axes if ax.images]
    assert len(mixed) == 12
    assert "λ = " in mixed[0]


# --- every key does something ------------------------------------------------------------------


def test_fixed_ratio_is_that_of_every_mixture(bench, plans):
    """With lambda_rule fixed all mixtures have `lamb`, and those made lie in the target's bins."""
    bench.mix(lambda_rule="fixed", lamb=0.9)
    assert set(plans[0].lam) == {0.9}
    edges, _ = bench.quotas()
    assert counts_in(plans[0].values, edges).sum() == len(plans[0].lam)


@pytest.mark.parametrize("value", range(4))
def test_target_values(bench, value):
    """Each of the four features is fitted: its histogram comes nearer to the target's."""
    rng = np.random.default_rng(2)
    bench.target(0.02 + 0.2 * rng.beta(6, 3, 40))
    report = bench.mix(target_value=value)
    key = FEATURES[value]
    assert report["target_key"] == key
    assert report["wasserstein_after"] < 0.5 * report["wasserstein_before"]
    edges, quotas = bench.quotas(2, key)
    picked = bench.table()["pool_index"]
    values = bench.table("")[key].to_numpy()[picked]
    assert np.abs(counts_in(values, edges) - quotas).sum() <= 2 * report["mixtures_missing"] + 2


def test_key_changes_the_mixtures(bench, finished):
    """Each of these settings makes mixtures, and no two of them, nor the defaults, the same."""
    made = {"defaults": finished.files["data_LR.pkl"]}
    for changes in (
        {"lambda_rule": "beta"},
        {"lambda_rule": "beta", "alpha": 5},
        {"lambda_rule": "fixed"},
        {"lambda_rule": "fixed", "lamb": 0.9},
        {"random_split": True},
        {"random_split": True, "std": 0.01},
        {"threshold": 0.16},
        {"threshold": 0.17},
        {"increase_rate": 4},
        {"target_value": 1},
        {"delta_lr_m": [200, 150]},
    ):
        (bench.train / "data_LR.csv").unlink(missing_ok=True)
        assert bench.mix(**changes)["mixtures"] > 0
        made[str(changes)] = (bench.out / "data_LR.pkl").read_bytes()
        same = [name for name, content in made.items() if content == made[str(changes)]]
        assert same == [str(changes)]


def test_std_counts_only_with_random_split(bench, finished, workshop):
    """Without random_split, `std` is of no effect, nor is random_split with a `std` of 0."""
    for changes in ({"std": 0.3}, {"random_split": True, "std": 0}):
        bench.mix(**changes)
        assert workshop.snapshot(bench.out) == finished.files


def test_pick_number_is_met(bench):
    """`pick_number` images are wanted in all, whatever rounding does to single bins."""
    report = bench.mix(pick_number=37)
    assert report["picked"] == report["wanted"] == 37
    assert len(bench.stacks(bench.out / "picked_images")[0]) == 37
    target = pd.read_csv(bench.target_csv)["mean_slope_gradient"].to_numpy()
    for number in (1, 10, 37, 100, 1001):
        quota = AdaptiveMixup("mean_slope_gradient", target, pick_number=number).quota
        assert quota.sum() == number


@pytest.mark.parametrize("value", [1, 3])
def test_stretched_pairs_follow_the_target(bench, value):
    """With fit: stretch every original is there, and the feature's quantiles are the target's."""
    report = bench.mix(fit="stretch", target_value=value, pick_number=2 * ORIGINALS)
    table = bench.table()
    assert (report["mixtures"], report["picked"]) == (0, 2 * ORIGINALS)
    assert np.bincount(table["pool_index"] % ORIGINALS).tolist() == [2] * ORIGINALS
    target = pd.read_csv(bench.target_csv)[FEATURES[value]]
    levels = (np.arange(2 * ORIGINALS) + 0.5) / (2 * ORIGINALS)
    expected = np.quantile(target, levels, method="hazen")
    np.testing.assert_allclose(np.sort(table[FEATURES[value]]), expected, rtol=1e-3)
    assert report["wasserstein_after"] < 0.1 * report["wasserstein_before"]
    assert report["stretch_median"] == pytest.approx(table["stretch"].median(), rel=1e-6)
    assert f"at most {table['stretch'].max():.3g}" in bench.printed
    hr, lr = bench.stacks(bench.out / "picked_images")
    pool = bench.stacks(bench.train)[1][table["pool_index"]]
    centre = pool.mean((1, 2, 3), keepdims=True)
    factors = table["stretch"].to_numpy()[:, None, None, None]
    np.testing.assert_allclose(lr, centre + factors * (pool - centre), atol=0.05)
    assert hr.shape[0] == lr.shape[0]


def test_a_flat_target_is_refused_by_stretching(bench):
    """No factor makes the slopes of a target that has none."""
    target = pd.read_csv(bench.target_csv)
    target[FEATURES[3]] = 0.0
    target.to_csv(bench.target_csv, index=False)
    result = bench.start(fit="stretch")
    result.refused("the target is flat: its feature is 0 everywhere", "fit: pick")


def test_stretching_far_is_warned_of(bench):
    """A target twenty times as steep: the report says what grows with the relief."""
    target = pd.read_csv(bench.target_csv)
    target[FEATURES[3]] *= 20
    target.to_csv(bench.target_csv, index=False)
    bench.mix(fit="stretch")
    assert "WARNING: some pairs are stretched more than 10 times" in bench.printed


def test_stretching_follows_its_seed(bench, workshop):
    """The same seed gives the same bytes, another one other copies."""
    patches = []
    for seed in (0, 0, 1):
        bench.mix(fit="stretch", seed=seed)
        patches.append(workshop.snapshot(bench.out)["picked_images/data_LR.pkl"])
    assert patches[0] == patches[1] != patches[2]


def test_save_dir_name_is_a_folder_below_train_dir(bench):
    """The output goes to train_dir/save_dir_name, and nowhere else."""
    assert bench.start(save_dir_name="other/place").code == 0
    assert (bench.train / "other" / "place" / "picked_images" / "data_HR.pkl").is_file()
    assert not bench.out.exists()


def test_slope_difference_is_tabulated(bench, workshop):
    """HR and LR slopes of the reference pairs, at `delta` and `delta` times the scale."""
    reference = workshop.data_dir / "test"
    hr, lr = bench.stacks(reference)
    bench.mix(get_slope_difference={"valid": True, "input_data_dir": str(reference), "delta": 25})
    table = pd.read_csv(bench.out / "slope_difference.csv")
    fine, coarse = mean_slope_gradient(hr, 25), mean_slope_gradient(lr, 100)
    np.testing.assert_allclose(table["mean_slope_gradient_HR"], fine)
    np.testing.assert_allclose(table["mean_slope_gradient_LR"], coarse)
    np.testing.assert_allclose(table["difference"], fine - coarse)
    np.testing.assert_allclose(table["ratio_LR_HR"], coarse / fine)
    assert f"{np.median(coarse / fine):.2f}" in bench.printed
    assert len(table) == len(hr)


def test_slope_difference_is_optional(bench):
    """With valid: false the folder need not exist and no table is written."""
    bench.mix(get_slope_difference={"valid": False, "input_data_dir": "nowhere", "delta": 50})
    assert not (bench.out / "slope_difference.csv").exists()


# --- degenerate targets and training data ------------------------------------------------------


def assert_filled(bench, report):
    """Assert that there are picked images, as many as the report says, none of them missing."""
    hr, lr = bench.stacks(bench.out / "picked_images")
    assert len(hr) == len(lr) == len(bench.table()) == report["picked"] > 0
    assert np.isfinite(lr).all()
    assert all(path.stat().st_size > 0 for path in bench.out.rglob("*.[cjp][ksn][vlo]*"))


@pytest.mark.parametrize("threshold", [9.0, -1.0])
def test_threshold_that_leaves_a_group_empty(bench, threshold):
    """Above or below all patches the threshold allows no mixture; the message names it."""
    report = bench.mix(threshold=threshold)
    assert report["mixtures"] == 0
    assert report["mixtures_missing"] > 0
    assert_filled(bench, report)
    assert "threshold" in bench.warnings


def test_target_of_one_bin(bench):
    """A target whose patches are all alike is met by mixtures of that slope."""
    bench.target(np.full(20, 0.15))
    table = pd.read_csv(bench.target_csv)
    table["mean_slope_gradient"] = 0.15
    table.to_csv(bench.target_csv, index=False)
    report = bench.mix()
    assert_filled(bench, report)
    assert report["picked"] == 40
    np.testing.assert_allclose(bench.table()["mean_slope_gradient"], 0.15, rtol=0.02)


@pytest.mark.parametrize("value", [0, 1, 3])
def test_target_alike_but_for_rounding(bench, value):
    """Where float32 leaves differences of a millionth the result is as near as that target."""
    bench.target_values(rough([0.15], 3).repeat(20, axis=0) + np.arange(20.0)[:, None, None, None])
    report = bench.mix(target_value=value)
    assert_filled(bench, report)
    assert report["picked"] == 40


def test_target_steeper_than_any_mixture(bench):
    """What cannot be mixed is counted, and the steepest patches stand in for it."""
    bench.target(np.linspace(0.5, 0.9, 30))
    report = bench.mix()
    assert report["mixtures"] == 0
    assert report["mixtures_missing"] == 60
    assert "60 mixtures could not be made" in bench.warnings
    assert_filled(bench, report)
    assert report["wasserstein_after"] < report["wasserstein_before"]
    pool = np.sort(bench.table("")["mean_slope_gradient"])
    assert bench.table()["mean_slope_gradient"].min() >= pool[-80]


def test_target_partly_steeper_than_any_mixture(bench):
    """The bins within reach are filled, the others counted as missing."""
    bench.target(np.concatenate([np.linspace(0.12, 0.2, 20), np.linspace(0.4, 0.6, 10)]))
    report = bench.mix()
    assert report["mixtures"] > 0
    assert 15 <= report["mixtures_missing"] <= 25
    assert report["picked"] == report["wanted"]
    assert report["wasserstein_after"] < report["wasserstein_before"]


def test_fewer_pairs_than_wanted(bench):
    """If the pool is exhausted everything is taken, and the message says so."""
    bench.target([0.13, 0.15])
    report = bench.mix(increase_rate=10_000, lambda_rule="fixed", lamb=0.9)
    assert report["wanted"] == 20_000
    assert report["picked"] < 20_000
    assert f"{report['picked']} of 20000" in bench.printed
    assert "lower increase_rate" in bench.warnings
    assert_filled(bench, report)


@pytest.mark.parametrize("value", [0, 1])
def test_constant_training_patches(bench, value):
    """Flat patches mix to flat patches; the message counts what is missing."""

    def flatten(hr, lr):
        hr[:] = hr.mean((1, 2), keepdims=True)
        lr[:] = lr.mean((1, 2), keepdims=True)

    bench.replace_lr(flatten)
    report = bench.mix(target_value=value)
    assert_filled(bench, report)
    assert report["wasserstein_after"] == pytest.approx(report["wasserstein_before"])


@pytest.mark.parametrize("value", [0, 1])
def test_flat_target(bench, value):
    """A target without any relief gets the gentlest patches."""
    bench.target_values(np.full((9, 8, 8, 1), -1000, np.float32))
    report = bench.mix(target_value=value)
    assert_filled(bench, report)
    assert report["wasserstein_after"] < report["wasserstein_before"]


@pytest.mark.parametrize("value", [0, 1])
def test_gaps_in_some_patches(bench, value):
    """Patches with a missing pixel, in training or in the target, take no part."""

    def spoil(hr, lr):
        for i in (1, ORIGINALS + 2, POOL - 1):
            hr[i, 3, 3] = lr[i, 1, 1] = np.nan

    bench.replace_lr(spoil)
    target = rough(np.linspace(0.1, 0.18, 30), 4)
    target[7, 2, 2] = np.nan
    bench.target_values(target)
    report = bench.mix(target_value=value)
    assert_filled(bench, report)
    assert report["mixtures"] > 0
    assert np.isfinite(bench.stacks(bench.out)[1][POOL:]).all()
    assert not set(bench.table()["pool_index"]) & {1, ORIGINALS + 2, POOL - 1}


def test_a_gap_in_every_training_patch(bench):
    """If no training patch is complete there is nothing to pick: one line, not a traceback."""

    def spoil(hr, lr):
        lr[:, 1, 1] = np.nan

    bench.replace_lr(spoil)
    bench.start().refused("data_LR")


def test_a_gap_in_every_target_patch(bench):
    """A target table of nothing but NaN is refused in one line."""
    table = pd.read_csv(bench.target_csv)
    table.loc[:, table.columns[1:]] = np.nan
    table.to_csv(bench.target_csv, index=False)
    for changes in ({}, {"threshold": 0.1}):
        bench.start(**changes).refused("target", "missing pixel")


def test_pool_without_copies(bench):
    """Partners must be of different kinds: originals alone are picked, and nothing crashes."""
    hr, lr = bench.stacks(bench.train)
    write(bench.train, hr[:ORIGINALS], lr[:ORIGINALS])
    report = bench.mix()
    assert report["mixtures"] == 0
    assert "mixtures could not be made" in bench.warnings
    assert_filled(bench, report)


def test_a_rate_that_rounds_to_nothing_is_named(bench):
    """If every quota rounds to 0 the line says that increase_rate is too small."""
    bench.start(increase_rate=0.01).refused("increase_rate", "0.01")


# --- refusals ----------------------------------------------------------------------------------


#: Settings with one mistake, and words of the line that names it.
MISTAKES = [
    ({"treshold": 0.1}, ("unknown key treshold", "'threshold'")),
    ({"threshold": "steep"}, ("threshold must be", "'steep'")),
    ({"target_value": 4}, ("target_value must be", "received 4")),
    ({"target_value": True}, ("target_value must be", "received True")),
    ({"std": -1}, ("std must be", "received -1")),
    ({"alpha": 0}, ("alpha must be", "received 0")),
    ({"lamb": 1}, ("lamb must be", "received 1")),
    ({"lambda_rule": "guess"}, ("lambda_rule must be", "'guess'")),
    ({"fit": "bend"}, ("fit must be", "'bend'")),
    # The two normalised slopes depend on all patches together: no patch has a factor of its own.
    ({"fit": "stretch", "target_value": 0}, ("must be 1 or 3", "received 0", "fit: pick")),
    ({"fit": "stretch", "target_value": 2}, ("must be 1 or 3", "received 2", "fit: pick")),
    ({"increase_rate": 0}, ("increase_rate must be", "received 0")),
    ({"pick_number": 0}, ("pick_number must be", "received 0")),
    ({"delta_lr_m": 0}, ("delta_lr_m must be", "received 0")),
    ({"delta_lr_m": -200}, ("delta_lr_m must be", "received -200")),
    ({"original_image_num": 0}, ("original_image_num must be", "received 0")),
    ({"original_image_num": POOL + 1}, ("original_image_num must be", f"{POOL}")),
    ({"train_dir": "nowhere"}, ("nowhere", "no such file")),
    ({"train_data": ["gone.pkl", "data_LR.pkl"]}, ("gone.pkl: no such file",)),
    ({"target_data_csv": "gone.csv"}, ("gone.csv: no such table", "feature_LR")),
    ({"get_slope_difference": {"valid": True}}, ("input_data_dir", "valid: false")),
    ({"get_slope_difference": {"vald": True}}, ("unknown key get_slope_difference.vald",)),
    ({"save_dir_name": "."}, ("save_dir_name",)),
    ({"save_dir_name": ""}, ("save_dir_name",)),
    ({"save_dir_name": "a/.."}, ("save_dir_name",)),
]


def test_bad_setting_is_refused(bench, workshop):
    """A mistake ends in one line that names it, and the training data stay as they are."""
    before = workshop.snapshot(bench.train)
    for changes, words in MISTAKES:
        bench.start(**changes).refused(*words)
        after = workshop.snapshot(bench.train)
        assert {k: after.get(k) for k in before} == before, changes


@pytest.mark.parametrize("folder", ["train", "reference"])
def test_unequal_pairs_are_refused(bench, folder):
    """HR and LR files of different lengths are no pairs; the line names file and counts."""
    hr, lr = bench.stacks(bench.train)
    write(bench.folder / folder, hr[:-3], lr)
    changes = {}
    if folder == "reference":
        changes["get_slope_difference"] = {
            "valid": True,
            "input_data_dir": str(bench.folder / "reference"),
        }
    bench.start(**changes).refused(folder, f"{POOL - 3}", f"{POOL}")


def test_reference_folder_without_data_is_refused(bench):
    """A folder for slope differences that holds no pairs is named."""
    (bench.folder / "empty").mkdir()
    changes = {"valid": True, "input_data_dir": str(bench.folder / "empty")}
    bench.start(get_slope_difference=changes).refused("empty", "data_HR.pkl: no such file")


def test_table_of_other_images_is_refused(bench):
    """A data_LR.csv with another number of rows does not belong to data_LR.pkl."""
    write_feature_csv(rough(np.full(30, 0.1)), 200.0, bench.train / "data_LR.csv", True)
    bench.start().refused("data_LR.csv", f"{POOL}", "30")


def test_target_that_is_the_training_data_is_refused(bench):
    """The manual's `target_data_csv: data_LR.csv` beside the training data is a mistake."""
    bench.mix()
    result = bench.start(target_data_csv="data_LR.csv")
    result.refused("target_data_csv", "training data itself", "feature_LR")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("target.csv", "not a CSV table")),
        ("index,mean_slope_gradient\n", ("target.csv", "expected rows")),
        ("index,mean_slope\n0,0.1\n", ("target.csv", "mean_slope_gradient")),
        ("index,mean_slope_gradient\n0,steep\n1,0.2\n", ("target.csv", "mean_slope_gradient")),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", ("target.csv", "not a CSV table")),
    ],
)
def test_damaged_table_is_refused(bench, content, words):
    """A target table that cannot be used is named in one line."""
    bench.target_csv.write_bytes(content if isinstance(content, bytes) else content.encode())
    bench.start().refused(*words)


def test_table_needs_only_the_column_that_is_used(bench):
    """A target table with the wanted feature alone is enough, as another program may write it."""
    table = pd.read_csv(bench.target_csv)[["altitude_difference"]]
    table.to_csv(bench.target_csv, index=False)
    assert_filled(bench, bench.mix(target_value=1))


# --- the manual's functions, called by themselves ----------------------------------------------


@pytest.fixture
def tables(bench):
    """Write both feature tables with the program of the manual; return the arguments that follow.

    data_csv, target_key, target_data_csv, save_dir, original_image_num
    """
    assert bathymetric_map_feature_LR.main([str(bench.train / "data_LR.pkl")]) == 0
    data_csv = bench.train / "data_LR.csv"
    return data_csv, "mean_slope_gradient", bench.target_csv, bench.out, ORIGINALS


def test_load_csv_norm_divides_each_kind(tables):
    """For each kind steep numbers, descending, and gentle ones, ascending, with their slopes."""
    index_high, index_low, slope_high, slope_low, df, target_df = Load_csv_norm(*tables)
    values = df["mean_slope_gradient"].to_numpy()
    target = target_df["mean_slope_gradient"].to_numpy()
    edges = target_edges(target)
    threshold = group_threshold(edges, counts_in(target, edges))
    assert len(df) == POOL
    assert len(target_df) == 30
    assert len(index_high) == len(index_low) == len(slope_high) == len(slope_low) == KINDS
    for kind in range(KINDS):
        members = np.concatenate([index_high[kind], index_low[kind]])
        expected = range(kind * ORIGINALS, (kind + 1) * ORIGINALS)
        assert sorted(members) == list(expected)
        np.testing.assert_array_equal(slope_high[kind], values[index_high[kind]])
        np.testing.assert_array_equal(slope_low[kind], values[index_low[kind]])
        assert (np.diff(slope_high[kind]) <= 0).all()
        assert (np.diff(slope_low[kind]) >= 0).all()
        assert slope_high[kind].min() >= threshold > slope_low[kind].max()


def test_load_csv_norm_with_a_threshold_and_a_spread(tables):
    """A given threshold is used; with `std` patches near it change sides, by the seed."""
    high = [sum(map(len, Load_csv_norm(*tables, threshold=t)[0])) for t in (0.0, 0.1, 9.0)]
    assert high[0] == POOL > high[1] > high[2] == 0
    sharp = np.concatenate(Load_csv_norm(*tables, threshold=0.1)[0])
    spread = np.concatenate(Load_csv_norm(*tables, threshold=0.1, std=0.05, seed=1)[0])
    again = np.concatenate(Load_csv_norm(*tables, threshold=0.1, std=0.05, seed=1)[0])
    other = np.concatenate(Load_csv_norm(*tables, threshold=0.1, std=0.05, seed=2)[0])
    np.testing.assert_array_equal(spread, again)
    assert set(sharp) != set(spread) != set(other)


def test_load_csv_norm_refuses_what_is_missing(tables):
    """A missing table, another column and too many originals are named."""
    data_csv, key, target_csv, save_dir, originals = tables
    with pytest.raises(DataError, match=r"nowhere\.csv: no such table"):
        Load_csv_norm("nowhere.csv", key, target_csv, save_dir, originals)
    with pytest.raises(DataError, match=r"a column mean_slope\. Did you mean 'mean_slope_grad"):
        Load_csv_norm(data_csv, "mean_slope", target_csv, save_dir, originals)
    with pytest.raises(DataError, match=r"at most 168, the number of rows; received 169"):
        Load_csv_norm(data_csv, key, target_csv, save_dir, POOL + 1)


def test_load_imgs_scales_a_copy(bench):
    """Images come as stored and scaled to 0..1 by their common limits; a gap stays a gap."""
    bench.replace_lr(lambda hr, lr: lr.__setitem__((2, 1, 1), np.nan))
    imgs, imgs_org = Load_imgs(bench.train / "data_LR.pkl")
    np.testing.assert_array_equal(imgs_org, bench.stacks(bench.train)[1])
    assert imgs.dtype == np.float32
    assert (np.nanmin(imgs), np.nanmax(imgs)) == (0, 1)
    span = np.nanmax(imgs_org) - np.nanmin(imgs_org)
    np.testing.assert_allclose(imgs * span + np.nanmin(imgs_org), imgs_org, atol=1e-3)
    assert np.isnan(imgs).sum() == 1


def test_load_imgs_of_constant_images(workshop):
    """Images that are all alike divide nothing by zero."""
    path = workshop.write_pickle(np.full((2, 4, 4), -7.0), workshop.folder / "flat.pkl")
    imgs, imgs_org = Load_imgs(path)
    assert imgs.shape == imgs_org.shape == (2, 4, 4, 1)
    assert (imgs == 0).all()


@pytest.mark.parametrize(
    ("key", "slope_normalized"),
    [
        ("mean_slope_gradient", False),
        ("altitude_difference", False),
        ("normalized_mean_slope_gradient", False),
        ("normalized_mean_slope_gradient", True),
        ("mean_slope_gradient_norm_data", False),
        ("mean_slope_gradient_norm_data", True),
    ],
)
def test_mixup_norm_fits_each_feature(bench, tables, key, slope_normalized):
    """Called with the manual's arguments, it makes mixtures of the wanted values of the feature.

    Whatever the flag, a mixture's column in the table of the new pool lies in the target's bins.
    """
    index_high, index_low, _, _, _, target_df = Load_csv_norm(tables[0], key, *tables[2:])
    imgs_hr, hr = Load_imgs(bench.train / "data_HR.pkl")
    imgs_lr, lr = Load_imgs(bench.train / "data_LR.pkl")
    hr_all, lr_all, plan = mixup_norm(
        imgs_hr, hr, imgs_lr, lr, index_high, index_low, bench.train, target_df, key,
        slope_normalized,
    )  # fmt: skip
    assert len(plan.lam) > 5
    assert len(hr_all) == len(lr_all) == POOL + len(plan.lam)
    pairs = plan.pairs.T
    np.testing.assert_array_equal(lr_all[POOL:], mixture(plan.lam, lr[pairs[0]], lr[pairs[1]]))
    np.testing.assert_array_equal(hr_all[POOL:], mixture(plan.lam, hr[pairs[0]], hr[pairs[1]]))
    mixed = feature_table(lr_all, 200.0, True)[key].to_numpy()[POOL:]
    edges = target_edges(target_df[key].to_numpy())
    np.testing.assert_allclose(mixed, plan.values, rtol=1e-3, atol=1e-3 * np.ptp(edges))
    reach = 1e-3 * np.ptp(edges)
    assert mixed.min() >= edges[0] - reach
    assert mixed.max() <= edges[-1] + reach


def test_mixup_norm_measures_scaled_images_if_asked(bench, tables):
    """With `slope_normalized` the target's slopes are those of images scaled to 0..1."""
    index_high, index_low, _, _, _, target_df = Load_csv_norm(*tables)
    imgs_hr, hr = Load_imgs(bench.train / "data_HR.pkl")
    imgs_lr, lr = Load_imgs(bench.train / "data_LR.pkl")
    scaled = target_df.assign(mean_slope_gradient=target_df["mean_slope_gradient"] / np.ptp(lr))
    _, lr_all, plan = mixup_norm(
        imgs_hr, hr, imgs_lr, lr, index_high, index_low, bench.train, scaled,
        "mean_slope_gradient", True,
    )  # fmt: skip
    assert len(plan.lam) > 5
    slopes = mean_slope_gradient(lr_all[POOL:], 200.0)
    edges = target_edges(target_df["mean_slope_gradient"].to_numpy())
    assert slopes.min() >= edges[0] * 0.999
    assert slopes.max() <= edges[-1] * 1.001


def test_mixup_norm_takes_images_without_a_channel(bench, tables):
    """The manual allows (N, 64, 64) beside (N, 64, 64, C): the mixtures are the same."""
    index_high, index_low, _, _, _, target_df = Load_csv_norm(*tables)
    imgs_hr, hr = Load_imgs(bench.train / "data_HR.pkl")
    imgs_lr, lr = Load_imgs(bench.train / "data_LR.pkl")
    stacks = (imgs_hr, hr, imgs_lr, lr)
    rest = (index_high, index_low, bench.train, target_df, "mean_slope_gradient", False)
    expected = mixup_norm(*stacks, *rest)
    got = mixup_norm(*(imgs[..., 0] for imgs in stacks), *rest)
    for a, b in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(a.reshape(b.shape), b)


def test_pick_images_follows_the_target(bench, tables, workshop):
    """The manual's order: mix, save the pool, tabulate it, pick; the choice fits the target."""
    data_csv, key, _, save_dir, originals = tables
    index_high, index_low, _, _, _, target_df = Load_csv_norm(*tables)
    imgs_hr, hr = Load_imgs(bench.train / "data_HR.pkl")
    imgs_lr, lr = Load_imgs(bench.train / "data_LR.pkl")
    hr_all, lr_all, _ = mixup_norm(
        imgs_hr, hr, imgs_lr, lr, index_high, index_low, bench.train, target_df, key, False
    )
    write(save_dir, hr_all, lr_all)
    assert bathymetric_map_feature_LR.main([str(save_dir / "data_LR.pkl")]) == 0
    chosen = pick_images(target_df, save_dir, hr_all, lr_all, originals, key, data_csv, 2)
    picked = bench.stacks(save_dir / "picked_images")
    np.testing.assert_array_equal(picked[0], hr_all[chosen])
    np.testing.assert_array_equal(picked[1], lr_all[chosen])
    edges, quotas = bench.quotas()
    assert counts_in(mean_slope_gradient(picked[1], 200.0), edges).tolist() == quotas.tolist()
    assert bench.table()["mean_slope_gradient"].to_numpy() == pytest.approx(
        mean_slope_gradient(picked[1], 200.0)
    )


def test_pick_images_prefers_mixtures_to_flips_to_rotations(bench, tables):
    """With one depth and one slope for all, priorities alone decide."""
    data_csv, key, _, save_dir, originals = tables
    hr, lr = bench.stacks(bench.train)
    count = POOL + 10  # the last ten stand for mixtures
    table = pd.read_csv(data_csv).reindex(np.arange(count) % POOL)
    table[key], table["mean_altitude"] = 0.15, -1000.0
    save_dir.mkdir()
    table.to_csv(save_dir / "data_LR.csv", index=False)
    pool = [np.concatenate([imgs, imgs[:10]]) for imgs in (hr, lr)]
    target_df = pd.DataFrame({key: np.full(10, 0.15)})
    kinds = {}
    for rate in (2, 6, 12):
        chosen = pick_images(target_df, save_dir, *pool, originals, key, data_csv, rate)
        first = ((chosen < ORIGINALS) | (chosen >= POOL)).sum()
        flips = ((chosen >= ORIGINALS) & (chosen < 4 * ORIGINALS)).sum()
        kinds[rate] = (first, flips, len(chosen) - first - flips)
    assert kinds == {2: (20, 0, 0), 6: (34, 26, 0), 12: (34, 72, 14)}


def test_pick_images_refuses_a_pool_without_features(bench, tables):
    """If every feature is NaN nothing can be chosen, and no folder of nothing is left."""
    data_csv, key, _, save_dir, originals = tables
    table = pd.read_csv(data_csv)
    table[key] = np.nan
    save_dir.mkdir()
    table.to_csv(save_dir / "data_LR.csv", index=False)
    with pytest.raises(DataError, match="no image of the pool has a finite mean_slope_gradient"):
        pick_images(
            pd.read_csv(bench.target_csv), save_dir, *bench.stacks(bench.train), originals, key,
            data_csv, 2,
        )  # fmt: skip
    assert not (save_dir / "picked_images").exists()


def test_slopes_of_single_patches():
    """A plane of 10 m a pixel has slope 0.2 at 50 m and 0.05 at 200 m; both defaults are these."""
    hr = np.broadcast_to(10.0 * np.arange(64), (64, 64))
    lr = np.broadcast_to(10.0 * np.arange(16)[:, None], (16, 16))
    assert get_slope(hr) == get_slope(hr, 50) == pytest.approx(0.2)
    assert get_slope(hr, delta=100) == pytest.approx(0.1)
    assert get_slope_LR(lr, 200) == pytest.approx(0.05)
    assert get_slope_LR(h=lr, delta=100) == pytest.approx(0.1)
    assert isinstance(get_slope(hr), float)


def test_nearest_elements():
    """One index, or all of those equally near; lists and arrays."""
    assert idx_of_the_nearest([0.1, 0.3, 0.4], 0.35) in (1, 2)
    assert idx_of_the_nearest(np.array([5, 1, 9]), 2) == 1
    assert idx_of_the_nearest([3, 1, 3], 3) == 0
    assert isinstance(idx_of_the_nearest([1.0], 2), int)
    assert indices_of_the_nearest([1, 3, 5, 3], 4).tolist() == [1, 2, 3]
    assert indices_of_the_nearest(np.array([2.0, 7.0]), 6.5).tolist() == [1]
