"""Training in process: seeds, stopping, augmentation, optimizers, weights of other runs."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from sr_trainer.modeler import Modeler
from sr_trainer.trainer import Trainer
from sr_trainer.user_params import UserParams
from toolbox.registry import AUGMENTATIONS, NORMALIZERS, OPTIMIZERS


def weights(path):
    """Return every array of a weights file, in order of name."""
    arrays = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as stored:
        stored.visititems(collect)
    assert arrays
    return [arrays[name] for name in sorted(arrays)]


def same(first, second):
    """Whether two weights files hold the same numbers, bit by bit."""
    pairs = zip(weights(first), weights(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_one_seed_gives_one_result(workshop):
    """Same seed, same weights and history to the last bit; another seed, others."""
    augmented = {"valid": True, "horizontal_flip": True, "rotation_range": 30}
    first = workshop.train("first.yml", seed=5, online_da=augmented)
    second = workshop.train("second.yml", seed=5, online_da=augmented)
    other = workshop.train("other.yml", seed=6, online_da=augmented)
    assert same(first / "weights_last.h5", second / "weights_last.h5")
    assert same(first / "weights_best.h5", second / "weights_best.h5")
    assert (first / "history.csv").read_text() == (second / "history.csv").read_text()
    assert not same(first / "weights_last.h5", other / "weights_last.h5")


def test_a_drawn_seed_is_recorded(workshop):
    """``seed: null`` draws a seed, which config.yml keeps, so that the run can be repeated."""
    first, second = (UserParams(workshop.config(seed=None)).seed for _ in range(2))
    assert first != second
    params = UserParams(workshop.config(seed=None))
    params.save(workshop.folder)
    assert UserParams(workshop.folder / "config.yml").seed == params.seed


def test_null_log_dir_is_beside_the_yaml(workshop):
    """Without log_dir the run goes to NAME_log beside NAME.yml, as the manual says."""
    workshop.train("survey.yml", log_dir=None, epochs=1)
    assert (workshop.folder / "survey_log" / "weights_best.h5").is_file()
    assert not (workshop.folder / "survey").exists()


def test_training_stops_after_patience(workshop):
    """Without improvement (a step of 1e-30) training stops after 1 + patience epochs."""
    settings = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 50, "log_period": 50}
    folder = workshop.train(patience=2, **settings)
    assert len(pd.read_csv(folder / "history.csv")) == 3


def test_an_early_stop_leaves_pictures_too(workshop):
    """The last epoch has its picture and numbered weights, also if it was not foreseen."""
    settings = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 50, "log_period": 50}
    folder = workshop.train(patience=1, **settings)
    assert (folder / "history_2.png").is_file()
    assert (folder / "test_2.png").is_file()
    assert (folder / "weights_2.h5").is_file()


def test_log_period_spaces_the_files(workshop):
    """Files appear every log_period epochs and at the end, and only then."""
    folder = workshop.train(epochs=5, log_period=2)
    numbers = ("2", "4", "5")
    for pattern, ending in (("history", "png"), ("test", "png"), ("weights", "h5")):
        found = {path.name for path in folder.glob(f"{pattern}_[0-9]*")}
        assert found == {f"{pattern}_{number}.{ending}" for number in numbers}


def test_training_learns(workshop):
    """With skip and local mean a few epochs lower the loss of both splits."""
    settings = {"normalizer": "local_mean", "bicubic_skip": True, "learning_rate": 0.003}
    folder = workshop.train(epochs=8, optimizer="adam", **settings)
    history = pd.read_csv(folder / "history.csv")
    for column in ("loss", "val_loss"):
        assert history[column].iloc[-1] < 0.9 * history[column].iloc[0]


EVERY_KEY = {
    "valid": True,
    "zoom_range": [0.5, 1.0],
    "zoom_iso": False,
    "depth_scale_range": [0.5, 1.5],
    "use_depth_scale": True,
    "horizontal_flip": True,
    "vertical_flip": True,
    "quarter_turn": True,
    "rotation_range": 45,
    "fill_mode": "wrap",
    "steps_per_epoch_mag": 2,
}


def test_online_da_with_every_key(workshop):
    """All augmentations at once train to the end and change what the network sees."""
    plain = workshop.train("plain.yml")
    folder = workshop.train("augmented.yml", online_da=EVERY_KEY)
    assert not same(plain / "weights_last.h5", folder / "weights_last.h5")
    kept = UserParams(folder / "config.yml").online_da.model_dump()
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in kept.items()} == EVERY_KEY


def test_steps_per_epoch_mag_multiplies_the_steps(workshop):
    """12 pairs in batches of 4 are 3 steps an epoch, and 6 at a magnification of 2."""
    settings = {"valid": True, "horizontal_flip": True, "steps_per_epoch_mag": 2}
    result = workshop.run(workshop.config(online_da=settings, epochs=1), "train")
    assert "6/6" in result.err


@pytest.mark.parametrize("steps", [2, 8, "auto"])
def test_steps_per_execution_changes_speed_alone(workshop, steps):
    """Two epochs of 3 steps are 6 steps with the same batches, however many run at a time."""
    result = workshop.run(workshop.config("some.yml", steps_per_execution=steps), "train")
    assert result.code == 0
    assert "6/6" in result.err
    some, one = workshop.folder / "some", workshop.train("one.yml")
    arrays = zip(weights(some / "weights_last.h5"), weights(one / "weights_last.h5"), strict=True)
    for found, expected in arrays:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    found, expected = (pd.read_csv(folder / "history.csv") for folder in (some, one))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_augmentation_is_off_unless_valid(workshop):
    """``valid: false`` switches everything off, whatever the other keys say."""
    params = UserParams(workshop.config(online_da={**EVERY_KEY, "valid": False}))
    assert params.online_da.steps() == []
    params = UserParams(workshop.config(online_da=EVERY_KEY))
    names = [name for name, _ in params.online_da.steps()]
    assert sorted(names) == sorted(AUGMENTATIONS)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_trains_an_epoch(workshop, optimizer):
    """Each of the eight changes the weights within one epoch, at the learning rate of the file."""
    params = UserParams(workshop.config(optimizer=optimizer, epochs=1, learning_rate=0.01))
    trainer = Trainer(params)
    model = Modeler(params).build(verbose=0)
    before = model.get_weights()
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    history = model.fit(
        trainer.train_data_generator.training_dataset(),
        steps_per_epoch=3,
        verbose=0,
        shuffle=False,
    )
    assert np.isfinite(history.history["loss"]).all()
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_manuals_optimizers_are_all_there():
    """The names of the issue, one class each."""
    names = {"sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "nadam", "adamw"}
    assert set(OPTIMIZERS) == names
    assert len({OPTIMIZERS.resolve(name) for name in names}) == 8


def test_fine_tuning_starts_from_the_named_weights(workshop, finished):
    """With fname_model_weights a training without steps (1e-30) ends where the other run ended."""
    source = finished / "weights_last.h5"
    settings = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 1, "seed": 99}
    folder = workshop.train(fname_model_weights=str(source), **settings)
    assert same(folder / "weights_last.h5", source)
    fresh = workshop.train("fresh.yml", **settings)
    assert not same(fresh / "weights_last.h5", source)


def test_a_fine_tuned_run_is_tested_with_its_own_weights(workshop, finished):
    """``main.py log/config.yml test`` tests what the run learnt, not what it started from."""
    folder = workshop.train(fname_model_weights=str(finished / "weights_best.h5"), epochs=1)
    assert workshop.run(folder / "config.yml", "test").code == 0
    summary = json.loads((folder / "test_result" / "summary.json").read_text())
    assert summary["weights"] == str(folder / "weights_best.h5")


def test_reset_weights_draws_new_ones(workshop):
    """Trainer.reset_weights gives a model other weights of the same shapes."""
    params = UserParams(workshop.config())
    model = Modeler(params).build(verbose=0)
    before = model.get_weights()
    Trainer(params).reset_weights(model)
    after = model.get_weights()
    assert [w.shape for w in after] == [w.shape for w in before]
    assert not np.array_equal(before[0], after[0])


@pytest.mark.parametrize("name", sorted(NORMALIZERS))
def test_every_normalizer_trains_and_tests(workshop, name):
    """Each normaliser goes to the end and is read back from the run's own file."""
    config = workshop.config(normalizer=name, bicubic_skip=True, epochs=1)
    assert workshop.run(config, "train").code == 0
    assert workshop.run(config, "test").code == 0
    stored = json.loads((workshop.folder / "run" / "normalizer.json").read_text())
    assert stored["name"] == name


def test_an_untrained_skip_is_about_bicubic(workshop):
    """With the local mean and the skip even an unlearnt network is in metres and near bicubic."""
    settings = {"normalizer": "local_mean", "bicubic_skip": True}
    config = workshop.config(**settings, epochs=1, learning_rate=1e-30, optimizer="sgd")
    workshop.run(config, "train")
    workshop.run(config, "test")
    summary = json.loads((workshop.folder / "run" / "test_result" / "summary.json").read_text())
    assert summary["all"]["sr"]["rmse_m"] < 5 * summary["all"]["bicubic"]["rmse_m"]


def spoil(*indices):
    """Return an edit for `edit_pickle` that puts a NaN into some images."""

    def edit(imgs):
        imgs[list(indices), 1, 1] = np.nan
        return imgs

    return edit


@pytest.mark.parametrize("name", ["minmax", "local_mean"])
def test_pairs_with_nan_are_left_out(workshop, name):
    """Incomplete pairs neither train nor count; the others keep their numbers and slopes."""
    data = workshop.own_patches()
    workshop.edit_pickle(data / "train" / "data_HR.pkl", spoil(1, 7))
    workshop.edit_pickle(data / "train" / "data_LR.pkl", spoil(7, 8))
    workshop.edit_pickle(data / "test" / "data_LR.pkl", spoil(2))
    config = workshop.config(normalizer=name, epochs=1, test_pictures=None)
    trained = workshop.run(config, "train")
    assert trained.code == 0, trained.err
    assert "2/2" in trained.err  # 9 complete pairs in batches of 4
    assert "3 of 12 pairs for train hold a missing pixel (NaN or infinity)" in trained.out
    assert "pairs for validation" not in trained.out
    assert workshop.run(config, "test").code == 0
    folder = workshop.folder / "run" / "test_result"
    table = pd.read_csv(folder / "test_results.csv")
    assert table["index"].tolist() == [0, 1, 3, 4]
    assert np.isfinite(table).all(axis=None)
    assert (folder / "test_result_0-4.png").is_file()


def test_overwrite_replaces_the_whole_run(workshop):
    """``--overwrite`` removes the numbered files of a longer run before it writes its own."""
    workshop.train(epochs=3, log_period=1)
    config = workshop.config(epochs=1, log_period=1)
    assert workshop.run(config, "train", "--overwrite").code == 0
    names = {path.name for path in (workshop.folder / "run").iterdir()}
    assert "weights_1.h5" in names
    assert not names & {"weights_2.h5", "weights_3.h5", "history_3.png", "test_3.png"}
    assert len(pd.read_csv(workshop.folder / "run" / "history.csv")) == 1


def test_overwrite_keeps_what_is_not_the_runs(workshop):
    """A user's own notes in the log folder survive ``--overwrite``."""
    folder = workshop.train(epochs=1)
    (folder / "notes.txt").write_text("mine")
    assert workshop.run(folder.with_suffix(".yml"), "train", "--overwrite").code == 0
    assert (folder / "notes.txt").read_text() == "mine"
