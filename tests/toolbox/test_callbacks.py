"""Files at the end of an epoch: weights, history, test pictures; progress, emergency stop."""

import cv2
import numpy as np
import pandas as pd
import pytest

from toolbox.callbacks import (
    HistoryLogger,
    ModelLogger,
    ProgressLogger,
    StopOnNaN,
    TestLogger,
)
from toolbox.data_generator import DataGenerator
from toolbox.io.weights import load_weights
from toolbox.model.espcn import ESPCN
from toolbox.normalizer import LocalMeanNormalizer, MinMaxNormalizer
from toolbox.resample import block_mean

LOGS = {"loss": 0.5, "psnr": 20.0, "dssim": 0.1}
LOGS |= {f"val_{name}": value * 1.1 for name, value in LOGS.items()}


@pytest.fixture
def model():
    """A network of 45 weights."""
    return ESPCN((None, None, 1), 2, {"filters": [1], "kernels": [3, 3]}, bicubic_skip=True)


def attach(callback, model, epochs=5):
    """Do what fit does before the first epoch."""
    model.stop_training = False
    callback.set_params({"epochs": epochs})
    callback.set_model(model)
    return callback


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def mark(model, value):
    """Fill all weights with one number, to recognise them."""
    model.set_weights([np.full(w.shape, value, np.float32) for w in model.get_weights()])


def marked(model, path):
    """Return the number that the weights of a file are filled with."""
    load_weights(model, path)
    values = np.unique(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert len(values) == 1
    return values[0]


def test_weights_are_written_by_their_rules(model, tmp_path):
    """Last every epoch, numbered by log_period and at the end, best when val_loss is lowest."""
    logger = attach(ModelLogger(tmp_path, log_period=2), model)
    expected_best = [1, 2, 2, 4, 4]
    for epoch, (loss, best) in enumerate(
        zip([5.0, 3.0, 3.0, 2.0, 9.0], expected_best, strict=True)
    ):
        mark(model, epoch + 1)
        logger.on_epoch_end(epoch, {"loss": 1.0, "val_loss": loss})
        assert marked(model, tmp_path / "weights_best.h5") == best
        assert marked(model, tmp_path / "weights_last.h5") == epoch + 1
    numbered = ["weights_2.h5", "weights_4.h5", "weights_5.h5"]
    assert files(tmp_path) == [*numbered, "weights_best.h5", "weights_last.h5"]
    assert [marked(model, tmp_path / name) for name in numbered] == [2, 4, 5]


def test_an_early_end_counts_as_the_last_epoch(model, tmp_path):
    """When training stops before its last epoch, numbered weights and pictures are written."""
    loggers = [attach(cls(tmp_path, log_period=100), model) for cls in (ModelLogger, HistoryLogger)]
    loggers[1].on_train_begin()
    for epoch, stop in ((0, False), (1, True)):
        model.stop_training = stop
        for logger in loggers:
            logger.on_epoch_end(epoch, LOGS)
    loggers[1].on_train_end()
    assert {"weights_2.h5", "history_2.png"} <= set(files(tmp_path))
    assert not {"weights_1.h5", "history_1.png"} & set(files(tmp_path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_failed_epoch_is_not_the_best(value, model, tmp_path):
    """A val_loss that is not a finite number never replaces the best weights."""
    logger = attach(ModelLogger(tmp_path), model)
    mark(model, 1)
    logger.on_epoch_end(0, {"val_loss": 3.0})
    mark(model, 2)
    logger.on_epoch_end(1, {"val_loss": value})
    logger.on_epoch_end(2, {})
    assert marked(model, tmp_path / "weights_best.h5") == 1


def test_resumed_logger_knows_the_lowest_loss(model, tmp_path):
    """With `lowest` set from an earlier run a worse epoch is not called the best."""
    logger = attach(ModelLogger(tmp_path), model)
    logger.lowest = 1.0
    logger.on_epoch_end(3, {"val_loss": 2.0})
    assert files(tmp_path) == ["weights_last.h5"]


def test_loggers_work_inside_fit(model, tmp_path):
    """Keras calls them with what they need, and numbers in the files count from 1."""
    model.compile("sgd", loss="mse", jit_compile=False)
    x, y = np.zeros((4, 3, 3, 1), np.float32), np.ones((4, 6, 6, 1), np.float32)
    model.fit(
        x,
        y,
        epochs=2,
        verbose=0,
        validation_data=(x, y),
        callbacks=[ModelLogger(tmp_path, 10), HistoryLogger(tmp_path, 10), StopOnNaN()],
    )
    assert files(tmp_path) == [
        "history.csv",
        "history_2.png",
        "weights_2.h5",
        "weights_best.h5",
        "weights_last.h5",
    ]
    assert pd.read_csv(tmp_path / "history.csv")["epoch"].tolist() == [1, 2]


def test_history_file_and_pictures(model, tmp_path):
    """history.csv has a line an epoch, counted from 1, with every value; pictures come in time."""
    logger = attach(HistoryLogger(tmp_path, log_period=2), model, epochs=3)
    logger.on_train_begin()
    for epoch in range(3):
        logger.on_epoch_end(epoch, {k: v / (epoch + 1) for k, v in LOGS.items()})
    logger.on_train_end()
    table = pd.read_csv(tmp_path / "history.csv")
    assert table.columns[0] == "epoch"
    assert set(table) == {"epoch", *LOGS}
    assert table["epoch"].tolist() == [1, 2, 3]
    for name, value in LOGS.items():
        np.testing.assert_allclose(table[name], [value, value / 2, value / 3])
    assert files(tmp_path) == ["history.csv", "history_2.png", "history_3.png"]
    assert cv2.imread(str(tmp_path / "history_3.png")).std() > 0
    assert logger.epochs == [1, 2, 3]
    assert logger.logs["val_psnr"] == pytest.approx([22, 11, 22 / 3])


@pytest.fixture
def validation():
    """Physical validation pairs of 8² and 16² pixels, minmax-normalised."""
    rng = np.random.default_rng(0)
    hr = (rng.normal(size=(6, 16, 16, 1)).cumsum(axis=1) * 10 - 1000).astype(np.float32)
    return block_mean(hr, 2), hr


@pytest.mark.parametrize("name", ["minmax", "local_mean", "function"])
def test_test_pictures(name, model, validation, tmp_path):
    """Pictures are written by log_period and at the end, with a normaliser or a plain function."""
    normalizer = MinMaxNormalizer(-2500, 0, -2500, 0)
    if name == "local_mean":
        normalizer = LocalMeanNormalizer(unit=10.0)
    data = DataGenerator(*validation, normalizer.normalize_pair, 2)
    denormalize = normalizer.denormalize_y if name == "function" else normalizer
    logger = TestLogger(tmp_path, 2, data, denormalize, num_samples=2, data_range=2500.0)
    attach(logger, model, epochs=3)
    for epoch in range(3):
        logger.on_epoch_end(epoch, LOGS)
    assert files(tmp_path) == ["test_2.png", "test_3.png"]
    img = cv2.imread(str(tmp_path / "test_3.png"))
    assert img.shape[0] > img.shape[1]
    assert img.std() > 10
    # The same images and the same network every time.
    assert (tmp_path / "test_2.png").read_bytes() == (tmp_path / "test_3.png").read_bytes()


def test_test_pictures_measure_metres(model, validation, tmp_path, monkeypatch):
    """What is drawn are the physical images of the chosen pairs and the network's in metres."""
    normalizer = LocalMeanNormalizer(unit=10.0)
    data = DataGenerator(*validation, normalizer.normalize_pair, 2, seed=3)
    logger = attach(TestLogger(tmp_path, 1, data, normalizer, 3, 2500.0), model)
    drawn = {}
    monkeypatch.setattr(
        logger.evaluator.plotter,
        "plot_test_imgs",
        lambda imgs, labels, fname, **options: drawn.update(zip(labels, imgs, strict=True)),
    )
    logger.on_epoch_end(0)
    chosen = data.sample_indices(3)
    lr, hr = validation[0][chosen], validation[1][chosen]
    np.testing.assert_allclose(drawn["low-res"], lr, atol=1e-3)
    np.testing.assert_allclose(drawn["high-res"], hr, atol=1e-3)
    sr = normalizer.denorm_funcs(lr, 2)[1](model(normalizer.normalize_x(lr)).numpy())
    np.testing.assert_allclose(drawn["super-res"], sr, atol=1e-2)
    np.testing.assert_allclose(drawn["super-res error"], sr - hr, atol=1e-2)


def test_more_test_pictures_than_images(model, validation, tmp_path):
    """Asked for more samples than there are pairs, all are drawn."""
    normalizer = MinMaxNormalizer(-2500, 0, -2500, 0)
    data = DataGenerator(validation[0][:2], validation[1][:2], normalizer.normalize_pair, 2)
    attach(TestLogger(tmp_path, 1, data, normalizer, 4, 2500.0), model).on_epoch_end(0)
    assert files(tmp_path) == ["test_1.png"]


def test_progress_counts_steps_of_all_epochs(model, capsys):
    """One bar runs over the whole training and shows the validation figures."""
    logger = attach(ProgressLogger(steps_per_epoch=4), model, epochs=2)
    logger.on_train_begin()
    bar = logger._bar
    assert bar.total == 8
    for epoch in range(2):
        logger.on_epoch_begin(epoch)
        for step in (1, 3):  # two steps a call
            logger.on_train_batch_end(step)
        assert bar.n == 4 * (epoch + 1)
        logger.on_epoch_end(epoch, {"val_loss": 0.123456, "val_psnr": 30.0})
    logger.on_train_end()
    assert "8/8" in capsys.readouterr().err
    assert "val_loss=0.1235" in bar.postfix
    assert "epoch=2" in bar.postfix


def test_progress_of_a_resumed_training_starts_where_it_stood(model):
    """Resumed at the third epoch, the bar jumps there."""
    logger = attach(ProgressLogger(steps_per_epoch=4), model, epochs=5)
    logger.on_train_begin()
    logger.on_epoch_begin(2)
    logger.on_train_batch_end(0)
    assert logger._bar.n == 9
    logger.on_train_end()


@pytest.mark.parametrize("name", ["loss", "val_loss", "g_loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_stops_when_a_loss_is_not_a_number(name, value, model):
    """The epoch is remembered, counted from 1, and training stops."""
    callback = attach(StopOnNaN(), model)
    callback.on_epoch_end(0, {**LOGS})
    assert (callback.stopped_epoch, model.stop_training) == (None, False)
    callback.on_epoch_end(1, {**LOGS, name: value})
    assert (callback.stopped_epoch, model.stop_training) == (2, True)
