"""Testing in process: which weights, which slopes, what is written and what is left alone."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from sr_trainer.modeler import Modeler
from sr_trainer.tester import Tester
from sr_trainer.user_params import UserParams
from toolbox.io.safe_pickle import load_array
from toolbox.io.weights import load_weights, save_weights
from toolbox.plotter import Plotter
from toolbox.resample import enlarge
from toolbox.spectrum import high_frequency_energy
from toolbox.tasks.bathymetry.evaluate import COLUMNS

Tester.__test__ = False  # the manual's name, not a test


def summary_of(folder):
    """Return what summary.json in a log folder says."""
    return json.loads((folder / "test_result" / "summary.json").read_text())


def test_config_yml_is_enough_to_test(workshop):
    """``main.py log/config.yml test`` needs nothing else and finds the best weights."""
    folder = workshop.train()
    (workshop.folder / "run.yml").unlink()
    assert workshop.run(folder / "config.yml", "test").code == 0
    assert summary_of(folder)["weights"] == str(folder / "weights_best.h5")
    assert summary_of(folder)["n"] == 5


def test_weights_of_another_folder(workshop, finished):
    """fname_model_weights may lie in another run's folder; its normaliser comes with it."""
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    before = workshop.snapshot(finished)
    assert workshop.run(config, "test").code == 0
    figures = summary_of(workshop.folder / "run")
    assert figures["all"] == summary_of(finished)["all"]
    assert figures["weights"] == str(finished / "weights_best.h5")
    assert workshop.snapshot(finished) == before


def test_the_printed_intervals_are_explained(workshop, finished):
    """What an interval is, and what its columns mean, in the lines above the figures."""
    result = workshop.run(
        workshop.config(fname_model_weights=str(finished / "weights_best.h5")), "test"
    )
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    [first] = [
        i for i, line in enumerate(lines) if line.startswith("intervals, result ± a half-width")
    ]
    assert lines[first].endswith("that should contain 90 % of the truth")
    for column in ("coverage: share of the truth inside", "score: mean width", "best constant: "):
        assert column in lines[first + 1]
    assert all(column in lines[first + 2] for column in ("coverage", "score (m)", "best constant"))


def test_read_test_weights_chooses_the_file(workshop):
    """read_test_weights names another file of the run."""
    folder = workshop.train(log_period=1, read_test_weights="weights_1.h5")
    assert workshop.run(folder.with_suffix(".yml"), "test").code == 0
    assert summary_of(folder)["weights"] == str(folder / "weights_1.h5")


def test_weights_of_the_tensorflow_2_5_program(workshop, finished):
    """Old weights come without normalizer.json; norm_range of the manual's YAML says it all."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model = Modeler(UserParams(workshop.config())).build(verbose=0)
    load_weights(model, finished / "weights_best.h5")
    old = workshop.folder / "old" / "weights_best.h5"
    old.parent.mkdir()
    with h5py.File(old, "w") as target:
        save_weights_to_hdf5_group(target, model)
    result = workshop.run(workshop.config(fname_model_weights=str(old)), "test")
    assert result.code == 0, result.err
    figures = summary_of(workshop.folder / "run")["all"]["sr"]
    assert figures == pytest.approx(summary_of(finished)["all"]["sr"], rel=1e-5)


def test_missing_slopes_are_computed(workshop, finished):
    """Without the CSV the slopes are computed from the HR images and kept beside them."""
    data = workshop.own_patches()
    csv = data / "test" / "data_HR.csv"
    csv.unlink(missing_ok=True)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    result = workshop.run(config, "test")
    assert result.code == 0
    assert "missing" in result.out
    table = pd.read_csv(csv)
    results = pd.read_csv(workshop.folder / "run" / "test_result" / "test_results.csv")
    np.testing.assert_allclose(results["mean_slope_gradient"], table["mean_slope_gradient"])


def test_present_slopes_are_used(workshop, finished):
    """A CSV that is there decides the classes, and is not rewritten."""
    data = workshop.own_patches()
    csv = data / "test" / "data_HR.csv"
    slopes = [0.01, 0.06, 0.05, 0.1, 7.0]
    pd.DataFrame({"index": range(5), "mean_slope_gradient": slopes}).to_csv(csv, index=False)
    before = csv.read_bytes()
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    assert workshop.run(config, "test").code == 0
    classes = summary_of(workshop.folder / "run")["slope_classes"]
    assert [group["n"] for group in classes.values()] == [1, 2, 2]
    assert csv.read_bytes() == before


def test_an_empty_slope_class_is_null(workshop, finished):
    """A class without images has n = 0 and nulls, not NaN, which is no JSON."""
    data = workshop.own_patches()
    csv = data / "test" / "data_HR.csv"
    pd.DataFrame({"mean_slope_gradient": [0.2] * 5}).to_csv(csv, index=False)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    assert workshop.run(config, "test").code == 0
    text = (workshop.folder / "run" / "test_result" / "summary.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["slope_classes"]["0-0.05"]["sr"]["rmse_m"] is None


def test_a_second_test_replaces_the_first(workshop, finished):
    """Results are replaced as a whole: no picture of an earlier test stays."""
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    assert workshop.run(config, "test").code == 0
    stale = workshop.folder / "run" / "test_result" / "test_result_96-99.png"
    stale.write_bytes(b"old")
    first = summary_of(workshop.folder / "run")
    assert workshop.run(config, "test").code == 0
    assert not stale.exists()
    assert summary_of(workshop.folder / "run") == first
    assert [path.name for path in (workshop.folder / "run").iterdir()] == ["test_result"]


def test_testing_needs_the_test_data_alone(workshop, finished):
    """The training and validation folders may be gone."""
    data = workshop.own_patches()
    shutil.rmtree(data / "train")
    shutil.rmtree(data / "validation")
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    assert workshop.run(config, "test").code == 0


def test_test_pictures_limits_the_pictures(workshop, finished):
    """``test_pictures: 1`` draws one picture, the rest of the results is complete."""
    weights = str(finished / "weights_best.h5")
    config = workshop.config(fname_model_weights=weights, test_pictures=1)
    assert workshop.run(config, "test").code == 0
    folder = workshop.folder / "run" / "test_result"
    assert len(list(folder.glob("test_result_*.png"))) == 1
    assert len(pd.read_csv(folder / "test_results.csv")) == 5


def test_num_samples_sets_the_images_of_a_picture(workshop, finished):
    """Tester.test(model, num_samples=2) names its pictures by pairs, and returns the summary."""
    weights = str(finished / "weights_best.h5")
    params = UserParams(workshop.config(fname_model_weights=weights, test_pictures=None))
    returned = Tester(params).test(Modeler(params).build(verbose=0), num_samples=2)
    folder = workshop.folder / "run" / "test_result"
    names = {path.name for path in folder.glob("test_result_*.png")}
    assert names == {"test_result_0-1.png", "test_result_2-3.png", "test_result_4-4.png"}
    assert returned == summary_of(workshop.folder / "run")


def test_a_network_worse_than_bicubic_is_called_so(workshop):
    """The report warns if super-resolution is no better than bicubic."""
    config = workshop.config(epochs=1)
    workshop.run(config, "train")
    result = workshop.run(config, "test")
    assert "WARNING: super-resolution is no better than bicubic" in result.out


def test_columns_of_the_report_do_not_run_together(workshop):
    """Large negative figures are still separated by a space."""
    config = workshop.config(epochs=1)
    workshop.run(config, "train")
    rows = [line for line in workshop.run(config, "test").out.splitlines() if " sr  " in line]
    assert rows
    for row in rows:
        figures = [float(word) for word in row.split()[3:9]]
        assert len(figures) == 6


def test_high_frequency_energy_of_every_method(workshop, finished):
    """summary.json holds the ratios to the truth of the images that were measured."""
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    result = workshop.run(config, "test")
    assert result.code == 0
    folder = workshop.folder / "run"
    assert (folder / "test_result" / "spectrum.png").is_file()
    energy = summary_of(folder)["high_frequency_energy"]
    assert set(energy) == {"sr", "bicubic", "back_projection"}
    lr, hr = (load_array(workshop.data_dir / "test" / f"data_{kind}.pkl") for kind in ("LR", "HR"))
    sr = load_array(folder / "test_result" / "data_SR.pkl")
    assert energy["sr"] == pytest.approx(high_frequency_energy(hr, sr, 4))
    assert energy["bicubic"] == pytest.approx(high_frequency_energy(hr, enlarge(lr, 4), 4))
    lines = [line for line in result.out.splitlines() if line.startswith("energy above")]
    assert len(lines) == 1
    assert f"bicubic {100 * energy['bicubic']:.3g} %, back_projection" in lines[0]


def test_spectra_have_the_spacing_of_the_data(workshop, finished, monkeypatch):
    """The spectra are in metres if the source knows its spacing, else in pixels."""
    drawn = []

    def draw(plotter, frequency, powers, path, **options):
        drawn.append(((plotter, frequency, powers, path), options))
        path.touch()

    monkeypatch.setattr(Plotter, "plot_spectrum", draw)
    data = workshop.own_patches()
    slopes = pd.DataFrame({"mean_slope_gradient": [0.2] * 5})
    slopes.to_csv(data / "test" / "data_HR.csv", index=False)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    for record in ({"delta_hr_m": 50.0}, {"delta_hr_m": [80.0, 50.0]}, {}):
        (data / "dataset.json").write_text(json.dumps(record))
        assert workshop.run(config, "test").code == 0
    assert [options["unit"] for _, options in drawn] == ["m", "m", "pixel"]
    assert [options["nyquist"] for _, options in drawn] == [[0.0025], [0.0025, 0.0015625], [0.125]]
    frequencies = [arguments[1] for arguments, _ in drawn]
    np.testing.assert_allclose(frequencies[0], np.arange(1, 9) / 800)
    np.testing.assert_allclose(frequencies[2], np.arange(1, 9) / 16)
    assert all(set(a[2]) == {"truth", "sr", "bicubic", "back_projection"} for a, _ in drawn)


def test_flat_truth_has_no_ratio(workshop, finished):
    """Where the truth is flat the ratio is null and the report leaves the line out."""
    data = workshop.own_patches()
    for kind in ("LR", "HR"):
        workshop.edit_pickle(data / "test" / f"data_{kind}.pkl", lambda imgs: imgs * 0 - 1000)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    result = workshop.run(config, "test")
    assert result.code == 0, result.err
    assert set(summary_of(workshop.folder / "run")["high_frequency_energy"].values()) == {None}
    assert "energy above" not in result.out


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory, finished):
    """A copy of the finished run with other weights as those of the stage before; read-only."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("adversarial") / "log")
    model = Modeler(UserParams(folder / "config.yml")).build(verbose=0)
    load_weights(model, folder / "weights_best.h5")
    model.set_weights([0.9 * weight for weight in model.get_weights()])
    save_weights(model, folder / "weights_pixel.h5")
    return folder


def test_the_stage_before_is_tested_too(workshop, finished, adversarial, capsys):
    """weights_pixel.h5 beside the tested weights is pixel_stage; the model keeps the tested."""
    tested = adversarial / "weights_best.h5"
    params = UserParams(workshop.config(fname_model_weights=str(tested)))
    model = Modeler(params).build(verbose=0)
    summary = Tester(params).test(model)
    trained = Modeler(params).build(verbose=0)
    load_weights(trained, tested)
    for found, expected in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    alone = summary_of(finished)
    assert {k: v for k, v in summary["all"].items() if k != "pixel_stage"} == alone["all"]
    assert set(summary["high_frequency_energy"]) == {*alone["high_frequency_energy"], "pixel_stage"}
    for group in (summary["all"], *summary["slope_classes"].values()):
        assert set(group["pixel_stage"]) == set(COLUMNS.values())
    assert summary["all"]["pixel_stage"] != summary["all"]["sr"]
    columns = pd.read_csv(workshop.folder / "run" / "test_result" / "test_results.csv").columns
    assert {f"pixel_stage_{measure}" for measure in COLUMNS.values()} <= set(columns)
    out = capsys.readouterr().out
    assert f"testing {adversarial / 'weights_pixel.h5'}" in out
    rows = [line.split()[2] for line in out.splitlines() if line.split()[:1] == ["all"]]
    assert rows == ["bicubic", "back_projection", "pixel_stage", "sr"]


def test_the_stage_before_is_not_compared_with_itself(workshop, adversarial):
    """Tested by its own name weights_pixel.h5 is sr, with the figures it has as pixel_stage."""
    runs = {"a.yml": "weights_best.h5", "b.yml": "weights_pixel.h5"}
    for name, weights in runs.items():
        config = workshop.config(name, fname_model_weights=str(adversarial / weights))
        assert workshop.run(config, "test").code == 0
    both, alone = (summary_of(workshop.folder / name) for name in "ab")
    assert "pixel_stage" not in alone["all"]
    assert alone["all"]["sr"] == both["all"]["pixel_stage"]
    energy = alone["high_frequency_energy"]["sr"]
    assert energy == both["high_frequency_energy"]["pixel_stage"]


def test_foreign_weights_of_the_stage_before_are_refused(workshop, finished):
    """One line names the file if weights_pixel.h5 belongs to another network."""
    folder = shutil.copytree(finished, workshop.folder / "log")
    (folder / "weights_pixel.h5").write_bytes(b"no weights")
    config = workshop.config(fname_model_weights=str(folder / "weights_best.h5"))
    workshop.run(config, "test").refused("weights_pixel.h5", "not a readable HDF5 file")
