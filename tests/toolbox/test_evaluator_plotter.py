"""Errors in metres against hand computation, pooling by slope class, and the pictures."""

from types import SimpleNamespace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from toolbox.data_generator import DataGenerator
from toolbox.errors import ConfigError
from toolbox.evaluator import MEASURES, Evaluator, baselines, batches
from toolbox.model.espcn import ESPCN
from toolbox.normalizer import MinMaxNormalizer
from toolbox.plotter import METHODS, Plotter
from toolbox.registry import TASKS
from toolbox.resample import block_mean, enlarge
from toolbox.task import Task, open_task
from toolbox.tasks.bathymetry.evaluate import COLUMNS, summarize

pytestmark = pytest.mark.usefixtures("drawing")

RANGE = 2500.0


def sea_floor(count=5, size=16, depth=-1500.0):
    """Return HR images (count, size, size, 1), metres, float32."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:size, :size]
    phase = rng.uniform(0, 6, (count, 1, 1))
    relief = 60 * np.sin(row / 3 + phase) + 40 * np.cos(column / 4 - phase)
    imgs = relief + depth * np.linspace(0.6, 1.4, count)[:, None, None]
    return imgs[..., None].astype(np.float32)


def noisy(truth, sizes, seed=1):
    """Add noise whose size grows from image to image."""
    error = np.random.default_rng(seed).normal(size=truth.shape)
    return (truth + error * np.asarray(sizes).reshape(-1, 1, 1, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    """Five HR images in metres."""
    return sea_floor()


@pytest.fixture(scope="module")
def evaluator():
    """An evaluator of 16² images without a network."""
    return Evaluator((16, 16, 1), RANGE)


@pytest.fixture(scope="module")
def network():
    """A tiny network with weights as drawn."""
    return ESPCN((None, None, 1), 4, {"filters": [4], "kernels": [3, 3]}, bicubic_skip=True)


def check_picture(path):
    """Read a picture and assert that there is something on it."""
    img = cv2.imread(str(path))
    assert img is not None
    assert min(img.shape[:2]) > 100
    assert len(np.unique(img.reshape(-1, 3), axis=0)) > 20
    return img


def test_measures_by_hand(truth, evaluator):
    """RMSE, MAE, bias and the 95th percentile are those of each image's pixels, in metres."""
    predicted = noisy(truth, [0.1, 1, 5, 20, 100]) + np.float32(3)
    table = evaluator.measure(truth, predicted)
    assert list(table) == list(MEASURES)
    assert len(table) == 5
    error = (predicted - truth).astype(np.float64).reshape(5, -1)
    np.testing.assert_allclose(table["rmse"], np.sqrt((error**2).mean(1)), rtol=1e-9)
    np.testing.assert_allclose(table["mae"], np.abs(error).mean(1), rtol=1e-9)
    np.testing.assert_allclose(table["bias"], error.mean(1), rtol=1e-9)
    np.testing.assert_allclose(table["p95_abs"], np.percentile(np.abs(error), 95, axis=1))
    psnr = 20 * np.log10(RANGE / table["rmse"])
    np.testing.assert_allclose(table["psnr"], psnr, atol=1e-3)


def test_bias_is_positive_where_the_prediction_is_too_shallow(truth, evaluator):
    """Bias is predicted minus truth: 2 m too high is +2."""
    table = evaluator.measure(truth, truth + 2)
    for name in ("rmse", "mae", "bias", "p95_abs"):
        np.testing.assert_allclose(table[name], 2, atol=1e-3)


def test_perfect_prediction(truth, evaluator):
    """Truth against truth has no error, the largest PSNR and DSSIM 0."""
    table = evaluator.measure(truth, truth)
    assert (table[["rmse", "mae", "bias", "p95_abs"]] == 0).all(axis=None)
    np.testing.assert_allclose(table["psnr"], 120, atol=1e-3)
    np.testing.assert_allclose(table["dssim"], 0, atol=1e-6)


def test_an_image_is_measured_by_itself(truth, evaluator):
    """An image has the same numbers alone and among others, however deep those are."""
    predicted = noisy(truth, [20] * 5)
    together = evaluator.measure(truth, predicted)
    for i in range(5):
        alone = evaluator.measure(truth[i : i + 1], predicted[i : i + 1])
        np.testing.assert_allclose(alone.iloc[0], together.iloc[i], rtol=1e-4, atol=1e-6)


def test_great_depths_lose_no_precision(evaluator):
    """The same relief and the same errors give the same numbers at 0 and at -8192 m."""
    truth = np.round(sea_floor(3, depth=0) * 16) / 16
    predicted = np.round(noisy(truth, [5, 50, 200]) * 16) / 16
    shallow = evaluator.measure(truth, predicted)
    deep = evaluator.measure(truth - np.float32(8192), predicted - np.float32(8192))
    names = ["rmse", "mae", "bias", "p95_abs", "psnr"]
    np.testing.assert_allclose(deep[names], shallow[names], rtol=1e-5)


def test_many_images_are_measured_in_parts(evaluator):
    """More images than go into one part (64) give one line each."""
    truth = np.zeros((130, 16, 16, 1), np.float32)
    predicted = truth + np.arange(130, dtype=np.float32)[:, None, None, None]
    table = evaluator.measure(truth, predicted)
    np.testing.assert_allclose(table["rmse"], np.arange(130), rtol=1e-6)
    np.testing.assert_allclose(table["psnr"][1:], 20 * np.log10(RANGE / np.arange(1, 130)), 1e-4)


def test_images_too_small_for_ssim_are_refused():
    """The message says how large they must be and are."""
    with pytest.raises(ConfigError, match="at least 11 pixels wide for DSSIM; received 8 × 16"):
        Evaluator((8, 16, 1))


def test_batches_cover_everything_once():
    """Slices end where the images end."""
    assert [(s.start, s.stop) for s in batches(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(batches(0, 3)) == []


def test_prediction_does_not_depend_on_the_batch(truth, network):
    """Any batch size, short last batches included, gives the network's output in order."""
    x = block_mean(truth, 4) / 1000
    evaluator = Evaluator((16, 16, 1), RANGE, network)
    expected = network(x).numpy()
    for batch_size in (1, 2, 5, 8):
        np.testing.assert_allclose(evaluator.predict(x, batch_size), expected, atol=1e-5)


def test_another_network_replaces_the_first(truth, network):
    """After setting another model its output is given, not the compiled first one's."""
    x = block_mean(truth, 4) / 1000
    evaluator = Evaluator((16, 16, 1), RANGE, network)
    evaluator.predict(x, 5)
    other = type(network).from_config(network.get_config())
    evaluator.model = other
    np.testing.assert_allclose(evaluator.predict(x, 5), other(x), atol=1e-5)


def test_baselines_are_bicubic_and_its_back_projection(truth):
    """The two plain enlargements, the second agreeing with the input."""
    lr = block_mean(truth, 4)
    plain = baselines(lr, 4)
    assert list(plain) == ["bicubic", "back_projection"]
    np.testing.assert_array_equal(plain["bicubic"], enlarge(lr, 4))
    residual = {name: np.abs(block_mean(sr, 4) - lr).max() for name, sr in plain.items()}
    assert residual["back_projection"] < 0.1 * residual["bicubic"]


@pytest.fixture(scope="module")
def summary(truth, evaluator):
    """A summary of two methods on five images in two of the three slope classes."""
    predictions = {"bicubic": noisy(truth, [1, 2, 3, 4, 50]), "sr": noisy(truth, [1] * 5) + 1}
    tables = {name: evaluator.measure(truth, imgs) for name, imgs in predictions.items()}
    slopes = np.array([0.0, 0.049, 0.1, 0.2, 3.0])
    return predictions, tables, summarize(truth, predictions, tables, slopes)


def test_summary_pools_over_pixels(truth, summary):
    """RMSE is the root of the mean over all pixels, not the mean of the images' RMSE."""
    predictions, tables, result = summary
    assert result["n"] == result["all"]["n"] == 5
    for name, imgs in predictions.items():
        error = (imgs - truth).astype(np.float64)
        pooled = result["all"][name]
        assert list(pooled) == list(COLUMNS.values())
        assert pooled["rmse_m"] == pytest.approx(np.sqrt((error**2).mean()))
        assert pooled["mae_m"] == pytest.approx(np.abs(error).mean())
        assert pooled["bias_m"] == pytest.approx(error.mean())
        assert pooled["p95_abs_m"] == pytest.approx(np.percentile(np.abs(error), 95))
        assert pooled["psnr"] == pytest.approx(tables[name]["psnr"].mean())
        assert pooled["dssim"] == pytest.approx(tables[name]["dssim"].mean())
    assert result["all"]["bicubic"]["rmse_m"] > 1.5 * tables["bicubic"]["rmse"].mean()


def test_summary_by_slope_class(truth, summary):
    """Lower limits belong to their class; a class without images has nulls."""
    predictions, tables, result = summary
    classes = result["slope_classes"]
    assert {name: group["n"] for name, group in classes.items()} == {
        "0-0.05": 2,
        "0.05-0.1": 0,
        "0.1-": 3,
    }
    assert classes["0.05-0.1"]["sr"] == dict.fromkeys(COLUMNS.values())
    error = (predictions["bicubic"] - truth)[2:].astype(np.float64)
    steep = classes["0.1-"]["bicubic"]
    assert steep["rmse_m"] == pytest.approx(np.sqrt((error**2).mean()))
    assert steep["psnr"] == pytest.approx(tables["bicubic"]["psnr"][2:].mean())


def test_evaluate_writes_the_picture_and_returns_its_numbers(truth, network, tmp_path):
    """The table under the picture is that of bicubic and of the network, in metres."""
    normalizer = MinMaxNormalizer(-2500, 0, -2500, 0)
    x, y = normalizer.normalize_pair(block_mean(truth, 4), truth)
    evaluator = Evaluator((16, 16, 1), RANGE, network)
    tables = evaluator.evaluate(
        x[:2],
        y[:2],
        2,
        normalizer.denormalize_x,
        normalizer.denormalize_y,
        tmp_path / "test.png",
        ["a", "b"],
    )
    img = check_picture(tmp_path / "test.png")
    assert img.shape[0] > img.shape[1]  # six rows of two columns
    assert list(tables) == ["bicubic", "sr"]
    expected = evaluator.measure(truth[:2], enlarge(block_mean(truth[:2], 4), 4))
    np.testing.assert_allclose(tables["bicubic"], expected, rtol=1e-2, atol=1e-3)
    sr = normalizer.denormalize_y(network(x[:2]).numpy())
    np.testing.assert_allclose(
        tables["sr"]["rmse"], evaluator.measure(truth[:2], sr)["rmse"], rtol=1e-3
    )


LOGS = {
    "loss": [0.5, 0.2, 0.1],
    "val_loss": [0.6, 0.3, 0.2],
    "psnr": [20.0, 25.0, 28.0],
    "val_psnr": [19.0, 24.0, 26.0],
    "dssim": [0.1, 0.05, 0.02],
    "val_dssim": [0.2, 0.1, 0.04],
}


def test_history_graph_has_three_panels(tmp_path):
    """Loss, PSNR and DSSIM stand side by side; one epoch is drawn as well as three."""
    Plotter().plot_history_graph([1, 2, 3], LOGS, tmp_path / "history_3.png")
    img = check_picture(tmp_path / "history_3.png")
    assert img.shape[1] > 2.5 * img.shape[0]
    Plotter().plot_history_graph([1], {k: v[:1] for k, v in LOGS.items()}, tmp_path / "one.png")
    check_picture(tmp_path / "one.png")


def test_history_graph_of_adversarial_training(tmp_path):
    """Generator and discriminator losses take the place of the loss: four panels."""
    logs = {**LOGS, "g_loss": [3.0, 2.0, 1.0], "val_g_loss": [3.0, 2.5, 2.0], "d_loss": [1.0] * 3}
    Plotter().plot_history_graph([1, 2, 3], logs, tmp_path / "history_3.png")
    img = check_picture(tmp_path / "history_3.png")
    assert img.shape[1] > 4 * img.shape[0]


@pytest.mark.parametrize("bad", [[0.5, np.nan, np.inf], [np.nan] * 3, [0.0, 0.0, 0.0], [-1, 1, 2]])
def test_history_graph_of_a_failed_training(bad, tmp_path):
    """A loss that is not a number, zero or negative is drawn without a warning."""
    Plotter().plot_history_graph([1, 2, 3], {**LOGS, "loss": bad}, tmp_path / "history_3.png")
    check_picture(tmp_path / "history_3.png")


def test_test_pictures_of_flat_images(tmp_path):
    """Images without relief and errors of zero have no range, and are drawn without a warning."""
    flat = np.full((1, 16, 16, 1), -100.0, np.float32)
    Plotter().plot_test_imgs(
        [flat, flat, flat * 0], ["low-res", "high-res", "bicubic error"], tmp_path / "flat.png"
    )
    check_picture(tmp_path / "flat.png")


def test_pictures_are_shown_if_no_name_is_given(monkeypatch):
    """Without a file name the window holds the drawing."""
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    Plotter().plot_history_graph([1, 2, 3], LOGS, None)
    plt.close("all")
    assert [ax.get_ylabel() for ax in shown[0].axes] == ["loss", "PSNR (dB)", "DSSIM"]


def groups_of(result):
    """Return all images and the slope classes of a summary."""
    return {"all": result["all"], **result["slope_classes"]}


def test_summary_by_region(summary, truth):
    """A region has the figures of its images; two halves pool to the whole."""
    predictions, tables, whole = summary
    reef = np.array([True, True, False, False, False])
    result = summarize(truth, predictions, tables, None, {"reef": reef, "trench": ~reef})
    assert whole["regions"] == {}
    parts = result["regions"]
    assert [part["n"] for part in parts.values()] == [2, 3]
    alone = {name: imgs[reef] for name, imgs in predictions.items()}
    mine = {name: table[reef] for name, table in tables.items()}
    assert parts["reef"] == summarize(truth[reef], alone, mine, None)["all"]
    pooled = sum(part["n"] * part["sr"]["rmse_m"] ** 2 for part in parts.values()) / 5
    assert pooled == pytest.approx(whole["all"]["sr"]["rmse_m"] ** 2)


def test_error_picture(summary, truth, evaluator, tmp_path):
    """RMSE by slope class and method, an empty class left out, beside one dot an image."""
    predictions, tables, _ = summary
    predictions = {**predictions, "back_projection": noisy(truth, [1, 2, 3, 4, 40])}
    tables = {**tables, "back_projection": evaluator.measure(truth, predictions["back_projection"])}
    slopes = np.array([0.0, 0.049, 0.1, 0.2, 3.0])
    result = summarize(truth, predictions, tables, slopes)
    pairs = tuple(tables[name]["rmse"].to_numpy() for name in ("bicubic", "sr"))
    Plotter().plot_errors(groups_of(result), pairs, tmp_path / "errors.png", "rmse_m", "m", "slope")
    check_picture(tmp_path / "errors.png")


def test_error_picture_with_the_pixel_stage(summary, truth, evaluator, monkeypatch):
    """Methods that are there have bars, in the order of the table; the others leave no gap."""
    predictions, tables, result = summary
    drawn = []
    monkeypatch.setattr("toolbox.plotter.save_figure", lambda figure, _: drawn.append(figure))
    pairs = tuple(tables[name]["rmse"].to_numpy() for name in ("bicubic", "sr"))
    Plotter().plot_errors(groups_of(result), pairs, None, "rmse_m")
    names = [*METHODS]
    all_four = dict.fromkeys(reversed(names), predictions["sr"])
    measured = dict.fromkeys(names, tables["sr"])
    slopes = np.array([0.0, 0.049, 0.1, 0.2, 3.0])
    four = groups_of(summarize(truth, all_four, measured, slopes))
    Plotter().plot_errors(four, pairs, None, "rmse_m")
    for figure, methods in zip(drawn, (["bicubic", "sr"], names), strict=True):
        bars = figure.axes[0]
        labels = [text.get_text() for text in bars.get_legend().get_texts()]
        assert labels == [METHODS[name][0] for name in methods]
        edges = np.array([[bar.get_x(), bar.get_x() + bar.get_width()] for bar in bars.patches])
        of_all = edges[:: len(edges) // len(methods)]
        np.testing.assert_allclose(of_all[1:, 0], of_all[:-1, 1])
        assert of_all.mean() == pytest.approx(0)


def test_spectrum_picture(monkeypatch, tmp_path):
    """One curve for the truth and for each method, the limits, wavelengths above frequencies."""
    frequency = np.arange(1, 9) / 800
    powers = {name: i * frequency**-3 for i, name in enumerate(("sr", "bicubic", "truth"), 1)}
    Plotter().plot_spectrum(frequency, powers, tmp_path / "spectrum.png", [0.002, 0.0025])
    check_picture(tmp_path / "spectrum.png")
    drawn = []
    monkeypatch.setattr("toolbox.plotter.save_figure", lambda figure, _: drawn.append(figure))
    Plotter().plot_spectrum(frequency, powers, None, [0.002, 0.0025], unit="pixel")
    ax = drawn[0].axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["truth", "bicubic", "super-resolution", "low-resolution Nyquist"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "frequency (cycles/pixel)"
    assert [line.get_xdata()[0] for line in ax.get_lines()[3:]] == [0.002, 0.0025]
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), powers["truth"])


def test_spectrum_picture_of_flat_images(tmp_path):
    """Power of zero has no logarithm, and is drawn without a warning."""
    frequency = np.arange(1, 9) / 800
    powers = {"truth": frequency * 0, "bicubic": frequency * 0}
    Plotter().plot_spectrum(frequency, powers, tmp_path / "flat.png", [0.002])
    check_picture(tmp_path / "flat.png")


@pytest.fixture
def figures(monkeypatch):
    """Figures that would have been written, in order."""
    drawn = []
    monkeypatch.setattr("toolbox.plotter.save_figure", lambda figure, *_: drawn.append(figure))
    return drawn


@pytest.mark.parametrize(
    "name", [name for name in sorted(TASKS) if type(open_task(name)).preview is Task.preview]
)
def test_previews_have_the_colours_and_the_unit_of_their_task(name, figures, tmp_path):
    """SEM pictures are grey in grey levels, maps coloured in metres, whatever is drawn first."""
    rng = np.random.default_rng(0)
    pair = rng.random((3, 8, 8, 1)), rng.random((3, 16, 16, 1))
    normalizer = MinMaxNormalizer(0, 1, 0, 1)
    batches = DataGenerator(*pair, normalizer.normalize_pair, 2)
    settings = SimpleNamespace(log_dir=tmp_path, log_period=1)
    logger = open_task(name).preview(settings, batches, normalizer)
    logger.evaluator._forward = lambda x: tf.constant(np.asarray(x).repeat(2, 1).repeat(2, 2))
    logger.evaluator._model = logger._model = SimpleNamespace(stop_training=False)
    logger.set_params({"epochs": 1})
    logger.on_epoch_end(0)
    style, axes = open_task(name).style, figures[0].axes
    images = [ax.images[0].get_cmap().name for ax in axes if ax.images]
    assert set(images) == {style.cmap, "RdBu_r"}
    labels = {ax.get_ylabel() for ax in axes if not ax.images}
    assert labels == {style.unit, f"error, {style.unit}" if style.unit else "error"}


def test_colour_images_are_shown_in_colour(figures):
    """All three channels are drawn, scaled by the truth, and of the errors their mean."""
    imgs = np.random.default_rng(0).random((6, 1, 8, 8, 3)) * 255
    labels = ["low-res", "bicubic", "super-res", "high-res", "bicubic error", "super-res error"]
    Plotter().plot_test_imgs(list(imgs), labels, None)
    shown = [ax.images[0].get_array() for ax in figures[0].axes if ax.images]
    assert [img.shape for img in shown] == [(8, 8, 3)] * 4 + [(8, 8)] * 2
    truth = imgs[3, 0]
    expected = (truth - truth.min()) / np.ptp(truth)
    np.testing.assert_allclose(shown[3], expected, atol=1e-6)
    np.testing.assert_allclose(shown[4], imgs[4, 0].mean(-1), rtol=1e-6)


def test_every_metric_has_a_panel(figures):
    """SSIM and CD loss are drawn like PSNR; what is no figure of quality is not."""
    names = ["loss", "psnr", "ssim", "cdloss", "learning_rate"]
    logs = {key: [0.5, 0.4] for name in names for key in (name, f"val_{name}")}
    Plotter().plot_history_graph([1, 2], logs, None)
    labels = [ax.get_ylabel() for ax in figures[0].axes]
    assert labels == ["loss", "PSNR (dB)", "SSIM", "cdloss"]
    assert [ax.get_yscale() for ax in figures[0].axes] == ["log", "linear", "linear", "log"]
