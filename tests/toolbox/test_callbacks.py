"""Files at the end of an epoch: weights, history, test pictures; progress, emergency stop."""

import json

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from toolbox.callbacks import (
    AverageSwapper,
    EarlyStopping,
    HistoryLogger,
    ModelLogger,
    PlateauSchedule,
    ProgressLogger,
    StopOnCollapse,
    StopOnNaN,
    TestLogger,
)
from toolbox.data_generator import DataGenerator
from toolbox.io.weights import load_weights
from toolbox.model.espcn import ESPCN
from toolbox.normalizer import LocalMeanNormalizer, MinMaxNormalizer
from toolbox.resample import block_mean

pytestmark = pytest.mark.usefixtures("drawing")

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


@pytest.mark.parametrize(("mode", "expected"), [("min", [1, 2, 2, 2, 5]), ("max", [1, 1, 3, 3, 3])])
def test_the_best_by_a_metric(mode, expected, model, tmp_path):
    """Both names hold it; an epoch whose metric is no number is the last, never the best."""
    logger = attach(ModelLogger(tmp_path, 100, monitor="val_cdloss", mode=mode), model)
    for epoch, value in enumerate([3.0, 2.0, 4.0, np.nan, 1.0]):
        mark(model, epoch + 1)
        logger.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 1.0, "val_cdloss": value})
        for name in ("weights_best.h5", "best_model_on_val_cdloss.h5"):
            assert marked(model, tmp_path / name) == expected[epoch]
        assert marked(model, tmp_path / "weights_last.h5") == epoch + 1
    again = attach(ModelLogger(tmp_path, 100, monitor="val_cdloss", mode=mode), model)
    again.restore(json.loads(json.dumps(logger.state())))
    mark(model, 6)
    again.on_epoch_end(5, {"loss": 1.0, "val_loss": 1.0, "val_cdloss": 2.0})
    assert marked(model, tmp_path / "weights_best.h5") == expected[-1]


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


def test_lowest_loss_is_part_of_the_state(model, tmp_path):
    """What `state` gives passes through JSON, also before the first epoch, and is taken up."""
    logger = attach(ModelLogger(tmp_path), model)
    for loss, expected in ((None, np.inf), (3.0, 3.0), (4.0, 3.0)):
        if loss is not None:
            logger.on_epoch_end(0, {"val_loss": loss})
        state = json.loads(json.dumps(logger.state()))
        again = attach(ModelLogger(tmp_path), model)
        again.restore(state)
        assert again.lowest == expected
    (tmp_path / "weights_best.h5").unlink()
    again.on_epoch_end(1, {"val_loss": 3.5})
    assert not (tmp_path / "weights_best.h5").exists()


def test_the_best_of_the_pixel_stage_is_kept_apart(model, tmp_path):
    """At its end weights_best.h5 is copied, and the adversarial stage finds its own best."""
    logger = attach(ModelLogger(tmp_path, 100, pixel_epochs=2), model, epochs=4)
    best = []
    for epoch, loss in enumerate([1.0, 2.0, 9.0, 8.0]):
        mark(model, epoch + 1)
        logger.on_epoch_end(epoch, {"val_loss": loss})
        best.append(marked(model, tmp_path / "weights_best.h5"))
        assert (tmp_path / "weights_pixel.h5").is_file() == (epoch > 0)
    assert best == [1, 1, 3, 4]
    assert marked(model, tmp_path / "weights_pixel.h5") == 1


def test_weights_that_are_no_numbers_replace_nothing(model, tmp_path):
    """After a NaN the last weights are those of the last complete epoch."""
    logger = attach(ModelLogger(tmp_path, 1, pixel_epochs=2), model, epochs=2)
    mark(model, 1)
    logger.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})
    mark(model, 2)
    for logs in ({"loss": np.nan, "val_loss": 0.5}, {"loss": 0.5, "val_loss": np.inf}):
        logger.on_epoch_end(1, logs)
    assert marked(model, tmp_path / "weights_last.h5") == 1
    assert files(tmp_path) == ["weights_1.h5", "weights_best.h5", "weights_last.h5"]


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


def test_a_column_that_comes_later(model, tmp_path):
    """A figure that a later stage adds has empty cells before; one that ends has them after."""
    logger = attach(HistoryLogger(tmp_path, 100), model, epochs=9)
    logger.on_epoch_end(0, {"loss": 1.0, "old": 5.0})
    logger.on_epoch_end(1, {"loss": 0.5, "d_loss": 2.0})
    logger.on_epoch_end(2, {"loss": 0.25, "d_loss": 1.0})
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,d_loss,loss,old",
        "1,,1.0,5.0",
        "2,2.0,0.5,",
        "3,1.0,0.25,",
    ]


def test_history_is_part_of_the_state(model, tmp_path):
    """Restored from its state (JSON), the file has its lines, whatever it held, and goes on."""
    logger = attach(HistoryLogger(tmp_path, 100), model, epochs=9)
    logger.on_epoch_end(0, {"loss": 1 / 3})
    logger.on_epoch_end(1, {"loss": 0.1, "d_loss": 2.0})
    state = json.loads(json.dumps(logger.state()))
    text = (tmp_path / "history.csv").read_text()
    logger.on_epoch_end(2, {"loss": 0.5, "d_loss": 1.0})
    whole = (tmp_path / "history.csv").read_text()
    again = attach(HistoryLogger(tmp_path, 100), model, epochs=9)
    again.restore(state)
    assert (tmp_path / "history.csv").read_text() == text
    again.on_epoch_end(2, {"loss": 0.5, "d_loss": 1.0})
    assert (tmp_path / "history.csv").read_text() == whole
    assert state["epochs"] == [1, 2]  # a state is not changed by those who take it up
    assert again.logs == logger.logs


def test_an_empty_history_replaces_what_there_was(model, tmp_path):
    """Resumed from the state before the first epoch, its line of a killed run is not doubled."""
    attach(HistoryLogger(tmp_path, 100), model).on_epoch_end(0, {"loss": 1.0})
    again = attach(HistoryLogger(tmp_path, 100), model)
    again.restore({"epochs": [], "logs": {}})
    again.on_epoch_end(0, {"loss": 1.0})
    assert (tmp_path / "history.csv").read_text().splitlines() == ["epoch,loss", "1,1.0"]


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
        logger.on_train_end()  # of one ``fit``; the training may go on with another
        logger.on_train_begin()
        assert logger._bar is bar
    logger.close()
    assert "8/8" in capsys.readouterr().err
    assert "val_loss=0.1235" in bar.postfix
    assert "epoch=2" in bar.postfix


@pytest.mark.parametrize("skipped", [0, 3])
def test_progress_of_a_resumed_training_starts_where_it_stood(skipped, model):
    """Resumed in the third epoch, the bar starts there, and no step is counted twice."""
    logger = attach(ProgressLogger(steps_per_epoch=4, done=8 + skipped), model, epochs=5)
    logger.on_train_begin()
    assert (logger._bar.n, logger._bar.initial, logger._bar.total) == (8 + skipped,) * 2 + (20,)
    logger.on_epoch_begin(2)
    for batch in range(4 - skipped):  # Keras counts from 0 in what is left of the epoch
        logger.on_train_batch_end(batch)
        assert logger._bar.n == 9 + skipped + batch
    logger.on_epoch_begin(3)
    logger.on_train_batch_end(0)
    assert logger._bar.n == 13
    logger.close()


def test_the_time_to_the_end_is_right_after_a_resume(model, monkeypatch):
    """It comes from the steps since the resume: 10 in 5 s, 80 to go in 40 s, not in a moment."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    logger = attach(ProgressLogger(steps_per_epoch=100, done=910), model, epochs=10)
    logger.on_train_begin()
    logger.on_epoch_begin(9)
    now[0] += 5
    logger.on_train_batch_end(9)
    assert "00:05<00:40" in str(logger._bar)
    logger.close()


def test_progress_that_never_began(model):
    """Closing a bar that was never opened is no error, and opens none."""
    callback = attach(ProgressLogger(steps_per_epoch=4), model)
    assert callback.close() is None


@pytest.mark.parametrize("name", ["loss", "val_loss", "g_loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_stops_when_a_loss_is_not_a_number(name, value, model):
    """The epoch is remembered, counted from 1, and training stops."""
    callback = attach(StopOnNaN(), model)
    callback.on_epoch_end(0, {**LOGS})
    assert (callback.stopped_epoch, model.stop_training) == (None, False)
    callback.on_epoch_end(1, {**LOGS, name: value})
    assert (callback.stopped_epoch, model.stop_training) == (2, True)


@pytest.mark.parametrize("name", ["cdloss", "val_cdloss", "val_psnr"])
def test_a_metric_that_is_no_number_stops_nothing(name, model):
    """A metric may have no value, such as the width of lines where there are none."""
    callback = attach(StopOnNaN(), model)
    callback.on_epoch_end(0, {**LOGS, name: np.nan})
    assert (callback.stopped_epoch, model.stop_training) == (None, False)


def run_through(callback, model, losses, first=0):
    """Give `EarlyStopping` some epochs; return the one that it stopped after, if any."""
    callback.on_train_begin()
    for epoch, loss in enumerate(losses, first):
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": loss})
        if model.stop_training:
            return epoch + 1
    return None


def test_early_stopping(model):
    """After `patience` epochs without a new lowest loss; the same loss again is none."""
    assert run_through(attach(EarlyStopping(2), model), model, [5, 4, 4, 3, 3, 3.5, 1]) == 6
    assert run_through(attach(EarlyStopping(1), model), model, [5, 4, 3, 2, 1]) is None


def test_early_stopping_waits_for_the_second_stage(model):
    """Epochs of the first stage neither count nor set the mark, as their loss is another one."""
    losses = [0.1, 0.2, 0.3, 0.4, 9, 8, 8.5, 8.6]
    assert run_through(attach(EarlyStopping(2, 4), model), model, losses) == 8


def test_early_stopping_by_a_metric(model):
    """A large PSNR is good, NaN is not; an epoch without the column does not count."""
    callback = attach(EarlyStopping(2, monitor="val_psnr", mode="max"), model)
    values = [np.nan, 20.0, None, 21.0, 20.5, None, np.nan, 30.0]
    stop = None
    for epoch, value in enumerate(values):
        logs = {"loss": 1.0} if value is None else {"loss": 1.0, "val_psnr": value}
        callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            stop = epoch
            break
    assert stop == 6
    assert callback.best == 21.0


@pytest.mark.parametrize("cut", range(8))
def test_early_stopping_goes_on(cut, model):
    """Cut anywhere and restored from its state (JSON), it stops after the same epoch."""
    losses = [0.1, 5, 4, 4.5, 3, 3.5, 3.5, 3.5, 3.5]
    first = attach(EarlyStopping(3, 1), model)
    assert run_through(first, model, losses[:cut]) is None
    second = attach(EarlyStopping(3, 1), model)
    second.restore(json.loads(json.dumps(first.state())))
    assert run_through(second, model, losses[cut:], first=cut) == 8


def test_early_stopping_counts_through_several_calls_of_fit(model):
    """A training in two stages begins twice; the epochs of the first count."""
    callback = attach(EarlyStopping(3), model)
    assert run_through(callback, model, [1, 2]) is None
    assert run_through(callback, model, [2, 2], first=2) == 4


def judge(callback, model, d_losses, first=0, share=0.5, name="d_loss"):
    """Give `StopOnCollapse` some epochs whose g_loss is to `share` adversarial."""
    model.loss_weight = [2.0, 3.0]
    for epoch, d_loss in enumerate(d_losses, first):
        callback.on_epoch_end(epoch, {"loss": 0.5, "g_loss": 1 / (1 - share), name: d_loss})
        if model.stop_training:
            return callback.stopped_epoch
    return None


def test_collapse_stops_the_training(model):
    """After `patience` epochs in a row with a d_loss below the threshold; without one, never."""
    losses = [1e-3] * 2 + [0.01] + [9e-3] * 5
    assert judge(attach(StopOnCollapse(3), model), model, losses) == 6
    assert judge(attach(StopOnCollapse(3, threshold=0.02), model), model, losses) == 3
    assert judge(attach(StopOnCollapse(1), model), model, [0.0] * 5, name="val_d_loss") is None


@pytest.mark.parametrize(("share", "stop"), [(0.009, None), (0.011, 2)])
def test_collapse_counts_only_if_it_is_felt(share, stop, model):
    """A discriminator that has no weight in g_loss may win."""
    assert judge(attach(StopOnCollapse(2), model), model, [0.0] * 5, share=share) == stop


@pytest.mark.parametrize("cut", range(6))
def test_collapse_goes_on(cut, model):
    """Cut anywhere and restored from its state (JSON), it stops after the same epoch."""
    losses = [0, 0, 1, 0, 0, 0, 0]
    first = attach(StopOnCollapse(3), model)
    assert judge(first, model, losses[:cut]) is None
    second = attach(StopOnCollapse(3), model)
    second.restore(json.loads(json.dumps(first.state())))
    assert judge(second, model, losses[cut:], first=cut) == 6


def test_a_nan_is_no_collapse(model):
    """A discriminator whose loss is no number has not won."""
    assert judge(attach(StopOnCollapse(1), model), model, [np.nan]) is None


def test_averages_are_in_place_for_validation_and_files(model, tmp_path):
    """Validation and the callbacks before it see the averages, the training and those after not."""
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False, run_eagerly=True)
    model.keep_average(0.5)
    seen = {}

    class Look(keras.callbacks.Callback):
        def __init__(self, place):
            super().__init__()
            self.place = place

        def look(self, name):
            seen.setdefault(f"{self.place} {name}", []).append(model.get_weights()[0].copy())

        def on_train_batch_end(self, batch, logs=None):
            self.look("step")

        def on_test_batch_end(self, batch, logs=None):
            self.look("validation")

        def on_epoch_end(self, epoch, logs=None):
            self.look("end")

    x, y = np.ones((4, 3, 3, 1), np.float32), np.ones((4, 6, 6, 1), np.float32)
    callbacks = [Look("before"), AverageSwapper(), Look("after")]
    options = {"epochs": 2, "batch_size": 2, "verbose": 0, "shuffle": False}
    model.fit(x, y, validation_data=(x, y), callbacks=callbacks, **options)
    for epoch in range(2):
        trained = seen["before step"][2 * epoch + 1]
        np.testing.assert_array_equal(seen["after end"][epoch], trained)
        averaged = seen["before end"][epoch]
        assert not np.array_equal(averaged, trained)
        for place in ("before", "after"):
            for step in (0, 1):
                value = seen[f"{place} validation"][2 * epoch + step]
                np.testing.assert_array_equal(value, averaged)
    np.testing.assert_array_equal(model.get_weights()[0], trained)
    np.testing.assert_array_equal(model.average.state[1].numpy(), averaged)


def test_averages_without_validation(model):
    """Where nothing was exchanged, nothing is exchanged back."""
    model.keep_average(0.5)
    callback = attach(AverageSwapper(), model)
    mark(model, 3)
    callback.on_epoch_end(0)
    assert all((weight == 3).all() for weight in model.get_weights())


# Rates that fall on a plateau ------------------------------------------------------------------

#: Figures and, for two epochs of patience, the rates of the epochs: it falls after 3, 6 and 8.
FIGURES = [5.0, 5.0, 6.0, 4.0, 4.0, np.nan, 4.5, 4.5, 4.5, 4.5]
RATES = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def plateau(model, rate=1.0, **options):
    """Attach a schedule to a model that is compiled with its rate."""
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = rate
    options = {"final": 0.2, "patience": 2, **options}
    return attach(PlateauSchedule({"optimizer": rate}, 0.5, **options), model)


def rates_of(callback, figures, first=0, name="val_loss"):
    """Give it some epochs; return the rates that it writes into the history."""
    rates = []
    callback.on_train_begin()
    for epoch, value in enumerate(figures, first):
        logs = {"loss": 1.0, name: value}
        callback.on_epoch_end(epoch, logs)
        rates.append(logs["learning_rate"])
    return rates


def test_rate_falls_on_a_plateau(model):
    """After `patience` epochs without a new best, NaN among them, never below the floor."""
    callback = plateau(model)
    assert rates_of(callback, FIGURES) == pytest.approx(RATES)
    assert callback.falls == 3
    assert float(model.optimizer.learning_rate) == pytest.approx(0.2)


def test_a_large_figure_may_be_good(model):
    """With mode max the negated figures give the same rates."""
    callback = plateau(model, monitor="val_psnr", mode="max")
    assert rates_of(callback, [-f for f in FIGURES], name="val_psnr") == pytest.approx(RATES)


def test_epochs_without_the_figure_do_not_count(model):
    """They have a rate all the same."""
    callback = plateau(model, monitor="val_d_real")
    assert rates_of(callback, FIGURES) == [1.0] * len(FIGURES)


@pytest.mark.parametrize("cut", range(len(FIGURES)))
def test_plateau_goes_on(cut, model):
    """Cut anywhere and restored from its state (JSON), with another rate the same shares of it."""
    state = plateau(model)
    rates_of(state, FIGURES[:cut])
    second = plateau(model, rate=0.1)
    second.restore(json.loads(json.dumps(state.state())))
    rates = rates_of(second, FIGURES[cut:], first=cut)
    assert rates == pytest.approx([0.1 * rate for rate in RATES[cut:]])


def test_plateau_begins_anew_with_the_second_stage(model):
    """The loss of the stage before is another one; the falls stay."""
    callback = plateau(model, pixel_epochs=4, final=0.0)
    assert rates_of(callback, [1, 1, 1, 1, 9, 9, 8, 8]) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5]
