"""The program adapt: from a data set and the target's LR map to a folder ready for training."""

import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from sr_dataset_builder import adapt
from toolbox.data_loader import DataLoader, load_images
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry.adaptive import FEATURES
from toolbox.tasks.bathymetry.source import PatchSource
from toolbox.tasks.bathymetry.terrain import feature_table, mean_slope_gradient, write_feature_csv

#: Everything that training reads, and what it was made from.
RESULTS = ("train", "validation", "test", "target", "dataset.json")
ORIGINALS, SIZE = 16, 8


def rough(slopes, seed=0, shape=(SIZE, SIZE)):
    """Return relief with the given mean slopes (at 200 m) and various depths."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(slopes), *shape, 1))
    noise = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    unit = noise / mean_slope_gradient(noise, 200.0)[:, None, None, None]
    depths = rng.uniform(-3000, -500, (len(slopes), 1, 1, 1))
    return (depths + np.reshape(slopes, (-1, 1, 1, 1)) * unit).astype(np.float32)


def write_split(folder, slopes, seed):
    """Write pairs of LR and HR patches as the builder does."""
    folder.mkdir(parents=True, exist_ok=True)
    hr = enlarge(rough(slopes, seed), 4)
    for kind, imgs in (("HR", hr), ("LR", block_mean(hr, 4))):
        imgs.dump(folder / f"data_{kind}.pkl")


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    """A gentle data set ``data`` and the LR map of a steeper target, ``target.npy``; read-only."""
    folder = tmp_path_factory.mktemp("adapt")
    write_split(folder / "data" / "train", 0.02 + 0.2 * np.linspace(0, 1, ORIGINALS) ** 2, 0)
    write_split(folder / "data" / "validation", [0.05, 0.1, 0.15], 1)
    write_split(folder / "data" / "test", [0.1, 0.15, 0.2, 0.25], 2)
    record = {"delta_lr_m": 200.0, "delta_hr_m": 50.0, "seed": 0}
    (folder / "data" / "dataset.json").write_text(json.dumps(record))
    np.save(folder / "target.npy", rough([0.13], 3, (32, 40))[0, ..., 0])
    return folder


class Adaptation:
    """A copy of the region, the settings of an adaptation, and what it left behind."""

    def __init__(self, folder, region, call):
        shutil.copytree(region, folder)
        self.folder, self.data = folder, folder / "data"
        self.target, self.out = folder / "target.npy", folder / "adapted"
        self._call = call

    def settings(self, **changes):
        return {
            "data_dir": str(self.data),
            "save_dir": str(self.out),
            "target": str(self.target),
            "target_delta_m": 200,
            "target_stride": [4, 4],
            "angles": [90, 200],
            "increase_rate": 0.5,
            **changes,
        }

    def start(self, without=(), **changes):
        """Run the program; return its exit code and messages."""
        content = {k: v for k, v in self.settings(**changes).items() if k not in without}
        path = self.folder / "adapt.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return self._call(path)

    def run(self, without=(), **changes):
        """Run the program, which must succeed quietly; return what it printed."""
        result = self.start(without, **changes)
        assert result.code == 0, result.err
        assert result.messages == []
        return result.out

    def results(self, out=None):
        """Return the files that training reads, with their content."""
        out = out or self.out
        files = [p for name in RESULTS for p in [out / name, *(out / name).rglob("*")]]
        return {str(p.relative_to(out)): p.read_bytes() for p in files if p.is_file()}

    def report(self):
        return json.loads((self.out / "train" / "report.json").read_text())

    def features(self):
        return pd.read_csv(self.out / "target" / "data_LR.csv")


@pytest.fixture
def adaptation(workshop, region, capsys, monkeypatch):
    """Open a copy of the region; pictures are empty files, for drawing takes longest."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())

    def call(path):
        capsys.readouterr()
        code = adapt.main([str(path)])
        return workshop.result(code, *capsys.readouterr())

    return Adaptation(workshop.folder / "adaptation", region, call)


@pytest.fixture
def interrupt(monkeypatch):
    """``interrupt(place, nth)`` makes the nth call of a function a Ctrl-C; once."""

    def install(place, nth):
        module, _, name = place.rpartition(".")
        owner = importlib.import_module(module)
        real, calls = getattr(owner, name), []

        def stop(*arguments, **keywords):
            calls.append(place)
            if len(calls) == nth:
                monkeypatch.setattr(owner, name, real)
                raise KeyboardInterrupt
            return real(*arguments, **keywords)

        monkeypatch.setattr(owner, name, stop)

    return install


def done_before(printed):
    """Return the numbers of the stages that were not done again."""
    return [int(line[1]) for line in printed.splitlines() if line.endswith("done before")]


# --- from a map to a folder --------------------------------------------------------------------


def test_ready_folder_opens(adaptation, workshop):
    """The result is a data set whose training pairs follow the target, the rest as it was."""
    before = workshop.snapshot(adaptation.data)
    printed = adaptation.run()
    assert [line[:5] for line in printed.splitlines() if line.startswith("[")] == [
        f"[{k}/5]" for k in range(1, 6)
    ]
    assert f"data_dir: {adaptation.out}" in printed
    loader = PatchSource(str(adaptation.out), sr_scale=4)
    lr, hr = loader.train()
    report = adaptation.report()
    assert len(lr) == len(hr) == report["picked"] == report["wanted"] > 20
    assert lr.shape[1:] == (SIZE, SIZE, 1)
    assert report["wasserstein_after"] < 0.2 * report["wasserstein_before"]
    assert loader.spacing_m("LR") == 200
    # Pairs stay pairs: exactly but for patches turned by other than quarter turns.
    exact = np.abs(block_mean(hr, 4) - lr).max((1, 2, 3)) < 0.01
    assert exact.mean() > 0.4
    files = workshop.snapshot(adaptation.out)
    for name, content in before.items():
        if not name.startswith("train"):
            assert files[name] == content
    assert workshop.snapshot(adaptation.data) == before


def test_train_folder_holds_table_and_report(adaptation):
    """Beside the pairs lie the table of their features and the report, all of them whole."""
    adaptation.run(plot_figure=True)
    train = adaptation.out / "train"
    assert sorted(path.name for path in train.iterdir()) == [
        "data_HR.pkl", "data_LR.csv", "data_LR.pkl", "mixtures.png", "report.json", "report.png"
    ]  # fmt: skip
    table = pd.read_csv(train / "data_LR.csv")
    lr = load_images(train / "data_LR.pkl")
    assert table["mean_slope_gradient"].to_numpy() == pytest.approx(mean_slope_gradient(lr, 200.0))
    assert table["index"].tolist() == list(range(len(lr)))


def test_features_of_the_target_are_those_of_its_patches(adaptation):
    """The map is cut at target_stride, patches as large as the LR patches of the data set."""
    adaptation.run(target_stride=[3, 8])
    values = np.load(adaptation.target)
    patches = np.array(
        [
            values[r : r + SIZE, c : c + SIZE]
            for r in range(0, 32 - SIZE + 1, 3)
            for c in range(0, 40 - SIZE + 1, 8)
        ]
    )
    pd.testing.assert_frame_equal(
        adaptation.features(), feature_table(patches, 200.0, True), check_dtype=False
    )


def test_spacing_of_the_target_counts(adaptation):
    """Half the spacing is twice the slope; rows and columns may differ."""
    adaptation.run()
    first = adaptation.features()["mean_slope_gradient"]
    adaptation.run(target_delta_m=[100, 100])
    np.testing.assert_allclose(adaptation.features()["mean_slope_gradient"], 2 * first)


def test_gaps_of_the_target_are_left_out(adaptation):
    """Patches with a missing pixel have no features; the others remain."""
    adaptation.run()
    everything = adaptation.features()
    values = np.load(adaptation.target)
    values[0, 0] = np.nan
    values[31, 39] = -9999
    np.save(adaptation.target, values)
    adaptation.run(nodata=-9999)
    features = adaptation.features()
    assert len(features) == len(everything) - 2
    np.testing.assert_allclose(
        features["mean_altitude"], everything["mean_altitude"].iloc[1:-1], rtol=1e-6
    )


def test_table_as_target_gives_the_same_bytes(adaptation):
    """`target` may be the table that bathymetric_map_feature_LR makes of the map's patches."""
    adaptation.run()
    expected = adaptation.results()
    table = shutil.copyfile(
        adaptation.out / "target" / "data_LR.csv", adaptation.folder / "target.csv"
    )
    adaptation.run(["target_delta_m"], target=str(table), save_dir=str(adaptation.folder / "b"))
    assert adaptation.results(adaptation.folder / "b") == expected


def test_depths_that_count_downwards_give_the_same_bytes(adaptation):
    """``positive: down`` turns the map at the door."""
    adaptation.run()
    expected = adaptation.results()
    np.save(adaptation.target, -np.load(adaptation.target))
    out = adaptation.folder / "b"
    adaptation.run(positive="down", save_dir=str(out))
    assert adaptation.results(out) == expected


def write_geotiff(path, values):
    """Write a map at 200 m in UTM, with -32768 for missing."""
    rasterio = pytest.importorskip("rasterio")
    filled = np.where(np.isnan(values), -32768, values).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1,
        dtype="float32", crs="EPSG:32655", nodata=-32768,
        transform=rasterio.Affine(200.0, 0, 5e5, 0, -200.0, 8e6),
    ) as file:  # fmt: skip
        file.write(filled, 1)
    return path


def test_geotiff_as_target_gives_the_same_bytes(adaptation):
    """A GeoTIFF says its own spacing and its own nodata value."""
    values = np.load(adaptation.target)
    values[3, 5] = np.nan
    np.save(adaptation.target, values)
    adaptation.run()
    expected = adaptation.results()
    path = write_geotiff(adaptation.folder / "target.tif", values)
    out = adaptation.folder / "b"
    adaptation.run(["target_delta_m"], target=str(path), save_dir=str(out))
    assert adaptation.results(out) == expected


def test_npy_data_set_gives_the_same_choice(adaptation):
    """Training pairs in .npy are read through memory maps; the pairs picked are the same."""
    adaptation.run()
    expected = adaptation.results()
    for kind in ("HR", "LR"):
        path = adaptation.data / "train" / f"data_{kind}.pkl"
        np.save(path.with_suffix(".npy"), load_images(path))
        path.unlink()
    out = adaptation.folder / "b"
    adaptation.run(save_dir=str(out))
    assert adaptation.results(out) == expected


@pytest.mark.parametrize("value", range(4))
def test_target_value_names_the_feature(adaptation, value):
    """Each of the four features can be fitted."""
    adaptation.run(target_value=value)
    report = adaptation.report()
    assert report["target_key"] == FEATURES[value]
    assert report["wasserstein_after"] < report["wasserstein_before"]


@pytest.mark.parametrize(
    "changes",
    [
        {"flips": False},
        {"angles": [90]},
        {"angles": []},
        {"fill_mode": "wrap"},
        {"threshold": 0.08},
        {"random_split": True},
        {"lambda_rule": "beta"},
        {"lambda_rule": "fixed", "lamb": 0.9},
        {"increase_rate": 1},
        {"pick_number": 30},
        {"seed": 1},
    ],
)
def test_setting_changes_the_training_data(adaptation, changes):
    """Each setting has an effect on the training data, and only on them."""
    adaptation.run()
    expected = adaptation.results()
    adaptation.run(**changes)
    results = adaptation.results()
    assert results["train/data_LR.pkl"] != expected["train/data_LR.pkl"]
    for name in results:
        if not name.startswith("train"):
            assert results[name] == expected[name]


def test_without_copies_the_originals_are_chosen(adaptation):
    """No flips and no angles: partners of another kind are missing, and the message says so."""
    printed = adaptation.run(flips=False, angles=[])
    assert "WARNING" in printed
    assert adaptation.report()["mixtures"] == 0
    assert len(DataLoader(str(adaptation.out), sr_scale=4).train()[0]) > 0


def test_target_steeper_than_any_mixture(adaptation):
    """The folder is ready nevertheless, the message counts what could not be mixed."""
    np.save(adaptation.target, rough([1.5], 3, (32, 40))[0, ..., 0])
    printed = adaptation.run()
    assert "mixtures could not be made" in printed
    report = adaptation.report()
    assert report["mixtures_missing"] > 0
    assert len(DataLoader(str(adaptation.out), sr_scale=4).train()[0]) == report["picked"] > 0


@pytest.mark.parametrize("keep", [False, True])
def test_pool_is_removed_unless_kept(adaptation, keep):
    """The arrays of all copies and mixtures stay only on request."""
    adaptation.run(keep_pool=keep)
    arrays = list(adaptation.out.rglob("*.npy"))
    assert bool(arrays) == keep
    if keep:
        pool = load_images(adaptation.out / "pool" / "data_LR.npy")
        assert len(pool) == ORIGINALS * (1 + 3 + 2)


@pytest.mark.parametrize("ending", [".pkl", ".npy"])
def test_stretched_data_set(adaptation, ending):
    """With fit: stretch training and validation pairs follow the target, the test data stay."""
    if ending == ".npy":
        for path in adaptation.data.glob("validation/data_*.pkl"):
            np.save(path.with_suffix(".npy"), load_images(path))
            path.unlink()
    printed = adaptation.run(fit="stretch", angles=[90])
    assert "depths stretched by" in printed
    assert (
        adaptation.report()["wasserstein_after"] < 0.02 * adaptation.report()["wasserstein_before"]
    )
    lr, hr = DataLoader(str(adaptation.out), sr_scale=4).train()
    np.testing.assert_allclose(block_mean(hr, 4), lr, atol=0.01)
    before, after = (
        [load_images(f / "validation" / f"data_{kind}{ending}") for kind in ("HR", "LR")]
        for f in (adaptation.data, adaptation.out)
    )
    target = adaptation.features()["mean_slope_gradient"]
    wanted = np.quantile(target, [1 / 6, 1 / 2, 5 / 6], method="hazen")
    np.testing.assert_allclose(mean_slope_gradient(after[1], 200.0), wanted, rtol=1e-3)
    np.testing.assert_allclose(block_mean(after[0], 4), after[1], atol=0.01)
    assert (mean_slope_gradient(before[1], 200.0) < wanted).all()
    for path in (adaptation.data / "test").iterdir():
        assert (adaptation.out / "test" / path.name).read_bytes() == path.read_bytes()


def test_stretching_goes_on_where_it_was_interrupted(adaptation, interrupt):
    """Ctrl-C while the validation pairs are written: the same command gives the same bytes."""
    out = adaptation.folder / "whole"
    adaptation.run(fit="stretch", save_dir=str(out))
    interrupt("sr_dataset_builder.adapt.write_pairs", 1)
    assert adaptation.start(fit="stretch").code == 130
    assert done_before(adaptation.run(fit="stretch")) == [1, 2, 3, 4]
    assert adaptation.results() == adaptation.results(out)


# --- interrupted and run again -----------------------------------------------------------------

#: Where Ctrl-C comes: function, number of the call, stages finished by then.
STOPS = [
    ("sr_dataset_builder.adapt.write_feature_csv", 1, []),
    ("toolbox.augment.apply_operator", 1, [1]),
    ("toolbox.augment.apply_operator", 2, [1]),
    ("sr_dataset_builder.adapt.write_feature_csv", 2, [1, 2]),
    ("sr_dataset_builder.mixup.plan_mixtures", 1, [1, 2, 3]),
    ("sr_dataset_builder.mixup.pick", 1, [1, 2, 3]),
    ("sr_dataset_builder.adapt.save_array", 1, [1, 2, 3, 4]),
    ("sr_dataset_builder.adapt.save_array", 2, [1, 2, 3, 4]),
    ("shutil.copyfile", 2, [1, 2, 3, 4]),
]


@pytest.fixture(scope="module")
def uninterrupted(region, tmp_path_factory):
    """Results of one run without interruption, by seed; read-only."""
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())
        for seed in (0, 1):
            folder = tmp_path_factory.mktemp("whole") / "adaptation"
            whole = Adaptation(folder, region, lambda path: adapt.main([str(path)]))
            assert whole.start(seed=seed) == 0
            results[seed] = whole.results()
    return results


@pytest.mark.parametrize(("place", "nth", "finished"), STOPS)
def test_interrupted_run_goes_on(adaptation, interrupt, uninterrupted, place, nth, finished):
    """After Ctrl-C the same command gives the same bytes and repeats no finished stage."""
    interrupt(place, nth)
    result = adaptation.start()
    assert result.code == 130
    assert "Traceback" not in result.err
    pool = adaptation.out / "pool" / "data_HR.npy"
    made = pool.stat().st_mtime_ns if 2 in finished else None
    printed = adaptation.run(keep_pool=False)
    assert done_before(printed) == finished
    assert adaptation.results() == uninterrupted[0]
    if made:
        assert not pool.exists()
    assert [path for path in adaptation.out.rglob("*") if ".tmp" in path.name] == []


def test_interrupted_twice(adaptation, interrupt, uninterrupted):
    """Stages finished before a second Ctrl-C are kept, too."""
    interrupt("toolbox.augment.apply_operator", 1)
    assert adaptation.start().code == 130
    interrupt("sr_dataset_builder.mixup.pick", 1)
    assert adaptation.start().code == 130
    assert done_before(adaptation.run()) == [1, 2, 3]
    assert adaptation.results() == uninterrupted[0]


def test_finished_run_does_nothing_again(adaptation, uninterrupted):
    """The same command once more says so and writes no file."""
    adaptation.run()
    before = {path: path.stat().st_mtime_ns for path in adaptation.out.rglob("*")}
    printed = adaptation.run()
    assert done_before(printed) == [1, 2, 3, 4, 5]
    assert f"data_dir: {adaptation.out}" in printed
    assert {path: path.stat().st_mtime_ns for path in adaptation.out.rglob("*")} == before
    assert adaptation.results() == uninterrupted[0]


def test_changed_settings_redo_the_stages(adaptation, uninterrupted):
    """Another seed in the same folder gives what it gives in a new one."""
    adaptation.run()
    printed = adaptation.run(seed=1)
    assert 5 not in done_before(printed)
    assert adaptation.results() == uninterrupted[1]
    assert uninterrupted[1]["train/data_LR.pkl"] != uninterrupted[0]["train/data_LR.pkl"]


def test_changed_settings_after_an_interruption(adaptation, interrupt, uninterrupted):
    """What was half done with other settings is not used."""
    interrupt("sr_dataset_builder.mixup.pick", 1)
    assert adaptation.start(seed=1, angles=[90, 180, 270]).code == 130
    adaptation.run()
    assert adaptation.results() == uninterrupted[0]


@pytest.mark.parametrize(("place", "nth", "finished"), STOPS[1:])
def test_there_and_back(adaptation, interrupt, uninterrupted, place, nth, finished):
    """A finished run, then another seed that is interrupted, then the first again: its bytes.

    Marks of later stages, left from the first run, must not hide what the second has changed.
    """
    adaptation.run()
    interrupt(place, nth)
    assert adaptation.start(seed=1).code == 130
    adaptation.run()
    assert adaptation.results() == uninterrupted[0]


def replace_file(path, edit):
    """Change a file and make sure that its time of change differs."""
    edit(path)
    stamp = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(stamp, stamp))


def test_changed_training_data_redo_the_stages(adaptation):
    """New pairs under the old names are used."""
    adaptation.run()
    old = adaptation.results()
    write_split(adaptation.data / "train", np.linspace(0.05, 0.2, ORIGINALS), 7)
    for kind in ("HR", "LR"):
        replace_file(adaptation.data / "train" / f"data_{kind}.pkl", lambda path: None)
    adaptation.run()
    assert adaptation.results()["train/data_LR.pkl"] != old["train/data_LR.pkl"]


@pytest.mark.parametrize("kind", ["map", "table"])
def test_changed_target_redoes_the_stages(adaptation, kind):
    """A new map, or a new table, under the old name is used: a mended target, for example."""
    changes = {}
    steep = rough([0.17], 5, (32, 40))[0, ..., 0]
    path = adaptation.target
    if kind == "table":
        path = adaptation.folder / "target.csv"
        changes["target"] = str(path)
        write_feature_csv(rough(np.full(20, 0.12), 1), 200.0, path, True)
    adaptation.run(**changes)
    old = adaptation.results()
    if kind == "map":
        replace_file(path, lambda path: np.save(path, steep))
    else:
        table = rough(np.full(20, 0.17), 1)
        replace_file(path, lambda path: write_feature_csv(table, 200.0, path, True))
    printed = adaptation.run(**changes)
    assert done_before(printed) == []
    results = adaptation.results()
    assert results["target/data_LR.csv"] != old["target/data_LR.csv"]
    assert results["train/data_LR.pkl"] != old["train/data_LR.pkl"]


def test_mended_table_is_read_again(adaptation):
    """After the one line about a damaged table, the mended one under its name works."""
    path = adaptation.folder / "target.csv"
    path.write_text("index,mean_slope\n0,0.1\n")
    adaptation.start(target=str(path), increase_rate=2).refused("mean_slope_gradient")
    replace_file(path, lambda path: write_feature_csv(rough([0.12] * 9), 200.0, path, True))
    adaptation.run(target=str(path), increase_rate=2)
    assert len(adaptation.features()) == 9


def test_changed_spacing_redoes_the_stages(adaptation):
    """A mended dataset.json changes the slopes of the training pairs."""
    adaptation.run()
    record = adaptation.data / "dataset.json"
    replace_file(record, lambda path: path.write_text('{"delta_lr_m": 150.0, "delta_hr_m": 37.5}'))
    adaptation.run()
    out = adaptation.out
    assert (out / "dataset.json").read_bytes() == record.read_bytes()
    slopes = mean_slope_gradient(load_images(out / "train" / "data_LR.pkl"), 150.0)
    assert pd.read_csv(out / "train" / "data_LR.csv")[
        "mean_slope_gradient"
    ].to_numpy() == pytest.approx(slopes)


@pytest.mark.parametrize("removed", ["train", "validation/data_HR.pkl"])
def test_removed_results_are_made_again(adaptation, uninterrupted, removed):
    """What the user has deleted is not "done before"."""
    adaptation.run()
    path = adaptation.out / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    adaptation.run()
    assert adaptation.results() == uninterrupted[0]


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_strid": [4, 4]}, ("unknown key target_strid", "'target_stride'")),
        ({"target_stride": [0, 4]}, ("target_stride.0 must be", "received 0")),
        ({"target_delta_m": 0}, ("target_delta_m must be", "received 0")),
        ({"target_delta_m": "wide"}, ("target_delta_m must be", "'wide'")),
        ({"target_value": 4}, ("target_value must be", "received 4")),
        ({"fill_mode": "constant"}, ("fill_mode must be", "'constant'")),
        ({"angles": ["steep"]}, ("angles", "'steep'")),
        ({"lambda_rule": "guess"}, ("lambda_rule must be", "'guess'")),
        ({"fit": "stretch", "target_value": 2}, ("target_value must be 1 or 3", "received 2")),
        ({"increase_rate": 0}, ("increase_rate must be", "received 0")),
        ({"flips": "perhaps"}, ("flips must be", "'perhaps'")),
        ({"data_dir": "nowhere"}, ("nowhere", "no such file", "data set")),
        ({"data_dir": ""}, ("data_dir must",)),
        ({"target": "nowhere.tif"}, ("nowhere.tif: no such file",)),
        ({"target": "nowhere.csv"}, ("nowhere.csv: no such table",)),
        ({"target": "map.xyz"}, ("map.xyz",)),
    ],
)
def test_bad_setting_is_refused(adaptation, changes, words):
    """A mistake ends in one line that names it, and no training data appear."""
    adaptation.start(**changes).refused(*words)
    assert not (adaptation.out / "train").exists()


@pytest.mark.parametrize("save_dir", ["data", "data/../data", "adapted/../data"])
def test_data_set_is_not_overwritten(adaptation, workshop, save_dir):
    """The adapted data set cannot take the place of the one it is made from."""
    before = workshop.snapshot(adaptation.data)
    adaptation.out.mkdir()
    adaptation.start(save_dir=str(adaptation.folder / save_dir)).refused("save_dir", "data_dir")
    assert workshop.snapshot(adaptation.data) == before


def test_missing_keys_are_named(adaptation):
    """Without a target or a folder the line says which to add."""
    for key in ("target", "data_dir", "save_dir"):
        adaptation.start([key]).refused(f"{key} is missing")


def test_target_without_spacing(adaptation):
    """A .npy map does not say its spacing; the line names the key that does."""
    adaptation.start(["target_delta_m"]).refused("target.npy", "spacing", "target_delta_m")


@pytest.mark.parametrize("make", ["scattered gaps", "all missing", "too small"])
def test_target_without_a_complete_patch(adaptation, make):
    """A map in which every patch has a gap, or none fits, is named in one line."""
    values = np.load(adaptation.target)
    if make == "scattered gaps":
        values[::4, ::4] = np.nan
    elif make == "all missing":
        values[:] = np.nan
    else:
        values = values[: SIZE - 1]
    np.save(adaptation.target, values)
    adaptation.start().refused("target.npy")
    assert not (adaptation.out / "train").exists()


def test_target_mended_after_a_refusal(adaptation, uninterrupted):
    """A refused target leaves nothing behind that the next run would take for finished."""
    good = adaptation.target.read_bytes()
    np.save(adaptation.target, np.full((32, 40), np.nan))
    adaptation.start().refused("target.npy")
    adaptation.target.write_bytes(good)
    adaptation.run()
    assert adaptation.results() == uninterrupted[0]


def test_unequal_pairs_are_refused(adaptation):
    """HR and LR files of different lengths are named with both counts."""
    path = adaptation.data / "train" / "data_HR.pkl"
    load_images(path)[:-2].dump(path)
    adaptation.start().refused("data_HR", f"{ORIGINALS - 2}", f"{ORIGINALS}")


def test_missing_splits_are_named(adaptation):
    """A data set without test data cannot become one that is ready; said before hours of work."""
    shutil.rmtree(adaptation.data / "test")
    result = adaptation.start()
    result.refused("test")
    assert "[2/5]" not in result.out
