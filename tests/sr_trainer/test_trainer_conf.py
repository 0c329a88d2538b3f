"""Every file of tests/conf through the real command line: train, then test, all files written."""

import contextlib
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from sr_trainer.user_params import UserParams

CONF = Path(__file__).resolve().parents[1] / "conf"
METHODS = ("sr", "bicubic", "back_projection")
MEASURES = ("rmse_m", "mae_m", "bias_m", "p95_abs_m", "psnr", "dssim")
CLASSES = {"0-0.05": (0, 0.05), "0.05-0.1": (0.05, 0.1), "0.1-": (0.1, np.inf)}
EPOCHS = 2


def substituted(conf, folder, **values):
    """Copy a configuration with some lines of its text replaced, as a user edits it."""
    text = conf.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"^{key}:.*$", f"{key}: {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{conf.name} has no line {key}"
    copy = folder / conf.name
    copy.write_text(text, encoding="utf-8")
    return copy


@pytest.fixture(scope="module", params=sorted(CONF.glob("*.yml")), ids=lambda path: path.stem)
def run(request, tmp_path_factory, manual_patches, open_workshop, drawn):
    """Train and test one configuration; return its YAML file and what the programs printed.

    The pictures of the manual's are drawn; those of the others would be by the same lines.
    """
    folder = tmp_path_factory.mktemp(request.param.stem)
    config = substituted(
        request.param, folder, data_dir=manual_patches, epochs=EPOCHS, log_dir=folder / "log"
    )
    with drawn() if request.param.stem == "manual" else contextlib.nullcontext():
        trained = open_workshop.run(config, "train")
        tested = open_workshop.run(config, "test")
    return config, trained, tested


def result_dir(run):
    """Return the folder of the test results."""
    return run[0].parent / "log" / "test_result"


def test_both_commands_succeed_quietly(run):
    """Training and testing end with 0 and print nothing on standard error but progress."""
    for result in run[1:]:
        assert result.code == 0, result.err
        assert result.messages == []
        assert "Traceback" not in result.err


def test_training_shows_the_layers_and_the_end(run):
    """The manual's table of layers comes first, the folder last."""
    assert "Total params" in run[1].out
    assert f"trained {EPOCHS} epochs" in run[1].out


def test_training_shows_progress_with_a_time_to_the_end(run):
    """One bar counts all steps; its last state is complete."""
    assert "training: " in run[1].err
    assert "100%|" in run[1].err


def test_training_writes_the_manuals_files(run):
    """§2.4.3: history, best and numbered weights, pictures; config.yml for later commands."""
    folder = run[0].parent / "log"
    period = UserParams(run[0]).log_period
    due = [epoch for epoch in range(1, EPOCHS + 1) if epoch % period == 0 or epoch == EPOCHS]
    expected = {"history.csv", "weights_best.h5", "weights_last.h5", "config.yml"}
    expected |= {"normalizer.json", "validity.json", "test_result", "checkpoint"}
    expected |= {"intervals.json"}  # of the test
    for epoch in due:
        expected |= {f"history_{epoch}.png", f"weights_{epoch}.h5", f"test_{epoch}.png"}
    assert {path.name for path in folder.iterdir()} == expected
    if run[0].stem == "manual":
        for picture in folder.glob("*.png"):
            assert picture.read_bytes().startswith(b"\x89PNG")


def test_history_has_the_manuals_columns(run):
    """One line an epoch, counted from 1, with loss, PSNR and DSSIM of both splits."""
    history = pd.read_csv(run[0].parent / "log" / "history.csv")
    names = {"loss", "psnr", "dssim", "val_loss", "val_psnr", "val_dssim"}
    assert set(history.columns) == names | {"epoch"}
    assert history["epoch"].tolist() == [1, 2]
    assert np.isfinite(history).all(axis=None)
    assert history["dssim"].between(0, 1).all()


def test_testing_writes_the_manuals_files(run):
    """§2.4.4: tables, describe by slope class, data_SR.pkl, a picture for every four images."""
    expected = {"test_results.csv", "test_results_describe.csv", "data_SR.pkl"}
    expected |= {f"test_resultsslope{name}_describe.csv" for name in CLASSES}
    expected |= {"test_result_0-3.png", "test_result_4-5.png", "summary.json"}
    expected |= {"summary.png", "spectrum.png", "report.html", "terrain.csv"}
    assert {path.name for path in result_dir(run).iterdir()} == expected


def test_summary_has_every_figure(run):
    """summary.json: n, and for three methods six measures, over all and by slope class."""
    summary = json.loads((result_dir(run) / "summary.json").read_text())
    assert summary["n"] == 6
    assert set(summary["slope_classes"]) == set(CLASSES)
    assert sum(group["n"] for group in summary["slope_classes"].values()) == 6
    for group in (summary["all"], *summary["slope_classes"].values()):
        for method in METHODS:
            assert set(group[method]) == set(MEASURES)
            if group["n"]:
                assert all(math.isfinite(group[method][measure]) for measure in MEASURES)


def test_summary_tells_what_was_added_left_out_and_invented(run):
    """The three shares of every method add up to 1; back-projection omits everything."""
    terrain = json.loads((result_dir(run) / "summary.json").read_text())["terrain"]
    assert set(terrain["slope_classes"]) == set(CLASSES)
    for method, figures in terrain["all"].items():
        shares = [figures[f"{kind}_share"] for kind in ("improved", "omitted", "hallucinated")]
        assert sum(shares) == pytest.approx(1), method
        assert figures["slope_rmse"] > 0
    assert terrain["all"]["back_projection"]["omitted_share"] == 1


def patches_of(folder, split):
    """Return the LR and HR images of a split."""
    return [pickle.loads((folder / split / f"data_{k}.pkl").read_bytes()) for k in ("LR", "HR")]


def test_bicubic_figures_are_those_of_tensorflow(run, manual_patches):
    """The baseline is tf.image.resize of the same LR input, in metres, unclipped."""
    lr, hr = patches_of(manual_patches, "test")
    bicubic = tf.image.resize(lr, hr.shape[1:3], "bicubic").numpy()
    error = bicubic.astype(float) - hr
    trained_on = patches_of(manual_patches, "train")[1]
    span = 2500.0 if UserParams(run[0]).norm_range else float(np.ptp(trained_on))
    offset = np.float32(-2500.0 if UserParams(run[0]).norm_range else trained_on.min())
    psnr = tf.image.psnr(hr - offset, bicubic - offset, span).numpy()
    ssim = tf.image.ssim(
        tf.constant(hr - offset), tf.constant(bicubic - offset), span, filter_size=11
    ).numpy()
    slopes = slopes_at_50_m(hr)
    summary = json.loads((result_dir(run) / "summary.json").read_text())
    groups = {"all": (0, np.inf), **CLASSES}
    for name, (low, high) in groups.items():
        chosen = (slopes >= low) & (slopes < high)
        group = summary["all"] if name == "all" else summary["slope_classes"][name]
        assert group["n"] == chosen.sum()
        if not chosen.any():
            continue
        part, figures = error[chosen], group["bicubic"]
        assert figures["rmse_m"] == pytest.approx(np.sqrt((part**2).mean()), rel=1e-4)
        assert figures["mae_m"] == pytest.approx(np.abs(part).mean(), rel=1e-4)
        assert figures["bias_m"] == pytest.approx(part.mean(), abs=1e-3)
        assert figures["p95_abs_m"] == pytest.approx(np.percentile(np.abs(part), 95), rel=1e-3)
        assert figures["psnr"] == pytest.approx(psnr[chosen].mean(), abs=1e-3)
        assert figures["dssim"] == pytest.approx((1 - ssim[chosen].mean()) / 2, abs=1e-5)


def slopes_at_50_m(hr):
    """Return the mean slope gradient of (N, H, W, 1) by the manual's 3 × 3 differences."""
    h = hr[..., 0].astype(float)
    rows = h[:, :, :-2] + h[:, :, 1:-1] + h[:, :, 2:]
    columns = h[:, :-2] + h[:, 1:-1] + h[:, 2:]
    sx = (rows[:, 2:] - rows[:, :-2]) / 300
    sy = (columns[:, :, 2:] - columns[:, :, :-2]) / 300
    return np.sqrt(sx**2 + sy**2).mean(axis=(1, 2))


def test_tables_agree_with_the_summary(run):
    """test_results.csv holds one row an image; its describe and its classes are pandas' own."""
    folder = result_dir(run)
    table = pd.read_csv(folder / "test_results.csv")
    summary = json.loads((folder / "summary.json").read_text())
    assert table["index"].tolist() == list(range(6))
    for method in METHODS:
        pooled = np.sqrt((table[f"{method}_rmse_m"] ** 2).mean())
        assert pooled == pytest.approx(summary["all"][method]["rmse_m"], rel=1e-5)
    columns = table.drop(columns="index").columns
    described = pd.read_csv(folder / "test_results_describe.csv", index_col=0)
    pd.testing.assert_frame_equal(described[columns], table[columns].describe())
    for name, (low, high) in CLASSES.items():
        slopes = table["mean_slope_gradient"]
        chosen = table[(slopes >= low) & (slopes < high)]
        part = pd.read_csv(folder / f"test_resultsslope{name}_describe.csv", index_col=0)
        assert part.loc["count"].eq(len(chosen)).all()
        if len(chosen):
            assert part.loc["max", "sr_rmse_m"] == pytest.approx(chosen["sr_rmse_m"].max())


def test_predictions_are_those_that_were_measured(run, manual_patches):
    """data_SR.pkl holds the images, in metres, whose errors the table lists."""
    sr = pickle.loads((result_dir(run) / "data_SR.pkl").read_bytes())
    hr = patches_of(manual_patches, "test")[1]
    assert sr.shape == hr.shape
    assert sr.dtype == np.float32
    table = pd.read_csv(result_dir(run) / "test_results.csv")
    rmse = np.sqrt(((sr.astype(float) - hr) ** 2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(table["sr_rmse_m"], rmse, rtol=1e-5)


def test_report_names_tables_and_pictures(run):
    """The test ends with the comparison against bicubic and the paths of what was written."""
    for word in ("bicubic", "back_projection", "RMSE", "PSNR", "DSSIM", "summary.json", ".png"):
        assert word in run[2].out


def test_config_is_as_good_as_the_original(run):
    """config.yml holds every setting, resolved, and reads back as the same settings."""
    original, resolved = UserParams(run[0]), UserParams(run[0].parent / "log" / "config.yml")
    assert resolved.resolved() == original.resolved()
    assert resolved.log_dir == original.log_dir


def test_the_manuals_yaml_passes_with_data_dir_alone(tmp_path, manual_patches):
    """Tuples, the word None, null and 1e-7 of the manual's own file are read safely."""
    config = substituted(CONF / "manual.yml", tmp_path, data_dir=manual_patches)
    params = UserParams(config)
    assert params.data_dir == str(manual_patches)
    assert params.log_dir == str(tmp_path / "manual_log")
    assert tuple(params.input_shape) == (16, 16, 1)
    assert tuple(params.norm_range) == (-2500, 0)
    assert params.fname_model_weights is None
    assert (params.scale, params.batch_size, params.epochs) == (4, 16, 5000)
    assert (params.log_period, params.patience) == (20, 500)
    assert params.learning_rate == 1e-4
    assert not params.online_da.valid
    assert list(params.model_params["filters"]) == [64, 32]
    assert list(params.model_params["kernels"]) == [9, 1, 5]
    assert list(params.espcn["kernels"]) == [5, 3, 3]
