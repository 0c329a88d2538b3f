"""Going on with a run: what ends the same, what may change, what is refused, what is said."""

import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from sr_trainer.modeler import Modeler
from sr_trainer.trainer import Trainer
from sr_trainer.user_params import UserParams
from toolbox.callbacks import StopOnCollapse
from toolbox.training.checkpoint import load_checkpoint

#: 12 pairs in batches of 4, twice an epoch.
TWICE = {"valid": True, "horizontal_flip": True, "rotation_range": 20, "steps_per_epoch_mag": 2}
#: Whatever a run of one network has to remember.
FULL = {
    "epochs": 4,
    "optimizer": "adam",
    "patience": 3,
    "ema": 0.8,
    "clip_norm": 0.5,
    "lr_schedule": {"name": "step", "step_epochs": 1.5, "gamma": 0.3, "warmup_epochs": 0.5},
    "loss": {"mae": 1, "mse": 0.5},
    "online_da": TWICE,
    "learning_rate": 0.01,
}
STILL = {"optimizer": "sgd", "learning_rate": 1e-30}


@pytest.fixture
def run(workshop, finished):
    """A copy of a run of two epochs of three steps; ``run.yml`` means it."""
    return shutil.copytree(finished, workshop.folder / "run")


def resume(shop, **changes):
    """Go on with ``run``; return what the program left behind."""
    return shop.run(shop.config(**changes), "train", "--resume")


def state(folder):
    return load_checkpoint(folder / "checkpoint")


def assert_same_end(one, other):
    """Both runs ended with the same state, history and weights, bit by bit."""
    first, second = state(one), state(other)
    assert (first.epoch, first.step) == (second.epoch, second.step)
    for a, b in zip(first.arrays, second.arrays, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    for key in ("callbacks", "generators", "data"):
        assert first.facts[key] == second.facts[key]
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


# The same end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 8, 12, 18, 19], ids=lambda n: f"step {n}")
def test_stopped_and_resumed_is_uninterrupted(workshop, stop_after, steps, uninterrupted):
    """Ctrl-C inside the first, the second and the last epoch, and at an epoch's end."""
    stop_after(steps)
    config = workshop.config("parts.yml", **FULL)
    assert workshop.run(config, "train").code == 130
    folder = workshop.folder / "parts"
    assert (state(folder).epoch, state(folder).step) == divmod(steps, 6)
    assert workshop.run(config, "train", "--resume").code == 0
    assert_same_end(folder, uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_patches, open_workshop):
    """Log folder of a run with the settings `FULL`; read-only."""
    shop = open_workshop(tmp_path_factory.mktemp("whole"), tiny_patches)
    return shop.train("whole.yml", **FULL)


def test_several_steps_a_call(workshop, stop_after):
    """Ctrl-C among them stops after the whole call, and the resumed run cuts them alike."""
    settings = {"online_da": TWICE, "steps_per_execution": 2}
    stop_after(7)
    config = workshop.config("parts.yml", **settings)
    assert workshop.run(config, "train").code == 130
    assert (state(workshop.folder / "parts").epoch, state(workshop.folder / "parts").step) == (1, 2)
    result = workshop.run(config, "train", "--resume")
    assert "2 training steps a call" in result.out
    assert_same_end(workshop.folder / "parts", workshop.train("whole.yml", **settings))


def test_loss_scaling_goes_on(workshop, stop_after):
    """Under mixed_float16 the scale of the loss and its counter belong to the state."""
    stop_after(4)
    config = workshop.config("parts.yml", precision="mixed_float16")
    assert workshop.run(config, "train").code == 130
    assert workshop.run(config, "train", "--resume").code == 0
    whole = workshop.train("whole.yml", precision="mixed_float16")
    assert_same_end(workshop.folder / "parts", whole)


def test_more_epochs(workshop, run):
    """A finished run goes on when epochs is raised, and ends as if it had been so at once."""
    result = resume(workshop, epochs=4)
    assert result.code == 0, result.err
    assert "resuming after 2 epochs and 0 steps" in result.out
    assert "trained 4 epochs" in result.out
    whole = workshop.train("whole.yml", epochs=4)
    assert_same_end(run, whole)
    assert UserParams(run / "config.yml").epochs == 4
    names = {path.name for path in run.glob("weights_*")}
    assert names == {"weights_2.h5", "weights_4.h5", "weights_best.h5", "weights_last.h5"}


def test_a_drawn_seed_is_kept(workshop):
    """With ``seed: null`` a resumed run takes the seed that it drew when it started."""
    folder = workshop.train(seed=None, epochs=1)
    seed = UserParams(folder / "config.yml").seed
    assert resume(workshop, seed=None, epochs=2).code == 0
    assert UserParams(folder / "config.yml").seed == seed
    assert_same_end(folder, workshop.train("whole.yml", seed=seed))


def test_a_moved_run_goes_on(workshop, run):
    """By its own config.yml, wherever its folder stands."""
    content = yaml.safe_load((run / "config.yml").read_text())
    (run / "config.yml").write_text(yaml.safe_dump({**content, "epochs": 3}))
    assert workshop.run(run / "config.yml", "train", "--resume").code == 0
    assert (state(run).epoch, len(pd.read_csv(run / "history.csv"))) == (3, 3)


# What may change -------------------------------------------------------------------------------


def test_a_new_learning_rate_is_used(workshop, run):
    """Not the one of the saved optimizer: with 1e-30 the weights stay where they were."""
    before = [a.tobytes() for a in weights(run)]
    assert resume(workshop, epochs=3, learning_rate=1e-30).code == 0
    assert [a.tobytes() for a in weights(run)] == before
    assert resume(workshop, epochs=4, learning_rate=0.1).code == 0
    assert [a.tobytes() for a in weights(run)] != before


def weights(folder):
    """Return the weights that the network has after its last epoch."""
    from toolbox.io.weights import load_weights

    model = Modeler(UserParams(folder / "config.yml")).build(verbose=0)
    load_weights(model, folder / "weights_last.h5")
    return model.get_weights()


def test_patience_set_on_the_way(workshop):
    """A run without patience that gets one counts from there."""
    folder = workshop.train(epochs=2, **STILL)
    result = resume(workshop, epochs=50, patience=3, **STILL)
    assert result.code == 0, result.err
    # The first epoch that it sees is its best one.
    assert state(folder).epoch == 2 + 1 + 3


def test_an_early_stop_is_an_end(workshop):
    """Stopped by patience, there is nothing to resume, until patience is raised."""
    folder = workshop.train(epochs=20, patience=1, **STILL)
    before = workshop.snapshot(folder)
    result = resume(workshop, epochs=20, patience=1, **STILL)
    assert result.code == 0
    assert "nothing to resume in" in result.out
    assert "val_loss has not fallen for 1 epochs. Raise patience" in result.out
    assert workshop.snapshot(folder) == before
    assert resume(workshop, epochs=20, patience=3, **STILL).code == 0
    assert state(folder).epoch == 4  # waited one epoch before, two now


def test_the_count_of_patience_goes_on(workshop):
    """Epochs without progress before the stop count after it."""
    folder = workshop.train(epochs=3, patience=4, **STILL)
    assert resume(workshop, epochs=20, patience=4, **STILL).code == 0
    assert state(folder).epoch == 5


def test_a_section_of_another_model_may_come(workshop, run):
    """Settings that the run does not use may change, as those of how to run."""
    changes = {"srcnn": {"filters": [2, 2]}, "checkpoint_minutes": 3, "log_period": 5}
    changes |= {"collapse_patience": 7, "test_pictures": 1, "read_test_weights": "weights_2.h5"}
    assert resume(workshop, epochs=3, **changes).code == 0


def test_data_may_move(workshop, run):
    """The data are known by their content, not by their folder."""
    assert workshop.own_patches().name == "patches"
    assert resume(workshop, epochs=3).code == 0


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3},
        {"bicubic_skip": True},
        {"clip_norm": 1.0},
        {"ema": 0.9},
        {"espcn": {"filters": [5, 4], "kernels": [3, 3, 3]}},
        {"jit_compile": True},
        {"loss": "mae"},
        {"loss": {"mse": 1, "mae": 0.1}},
        {"lr_schedule": "cosine"},
        {"model": "srcnn"},
        {"norm_range": [-2600, 0]},
        {"normalizer": "local_mean"},
        {"online_da": {"valid": True, "horizontal_flip": True}},
        {"optimizer": "adam"},
        {"precision": "mixed_bfloat16"},
        {"seed": 1},
        {"steps_per_execution": 3},
    ],
    ids=str,
)
def test_other_settings_are_refused(workshop, run, changes):
    """Whatever would make it another training is named, with both values; nothing changes."""
    before = workshop.snapshot(run)
    result = resume(workshop, epochs=3, **changes)
    result.refused(f": {next(iter(changes))}", "as in the run to be resumed", "--overwrite")
    assert workshop.snapshot(run) == before


def test_settings_of_a_loss_are_refused_too(workshop, run):
    """A section of a loss counts if the loss does."""
    folder = workshop.folder / "run" / "checkpoint"
    with np.load(state(run).path) as stored:
        content = {name: stored[name] for name in stored.files}
    facts = content["facts"].tobytes().decode()
    section = UserParams(workshop.config("vgg.yml", loss="vgg", vgg={"feature_index": 5})).vgg
    section = json.dumps({key: value for key, value in section.items() if value is not None})
    trained = facts.replace('"loss": "mse"', f'"loss": "vgg", "vgg": {section}')
    assert trained != facts
    content["facts"] = np.frombuffer(trained.encode(), np.uint8)
    for path in folder.iterdir():
        path.unlink()
    np.savez(folder / "state_000002_0000000.npz", **content)
    changes = {"loss": "vgg", "vgg": {"feature_index": 6}}
    resume(workshop, epochs=3, **changes).refused("vgg.feature_index must be 5", "received 6")


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("change", ["value", "order"])
def test_other_data_are_refused(workshop, run, split, change):
    """One pixel or the order of the pairs, in training or validation data."""
    data = workshop.own_patches()

    def edit(imgs):
        if change == "value":
            imgs[0, 0, 0] += 1
        return imgs[::-1] if change == "order" else imgs

    for kind in ("LR", "HR"):
        workshop.edit_pickle(data / split / f"data_{kind}.pkl", edit)
    before = workshop.snapshot(run)
    resume(workshop, epochs=3).refused("training or validation pairs are not those", "data_dir")
    assert workshop.snapshot(run) == before


def test_a_run_without_states_is_refused(workshop, run):
    """A run of an earlier version cannot be resumed, and is not overwritten by the attempt."""
    shutil.rmtree(run / "checkpoint")
    before = workshop.snapshot(run)
    resume(workshop).refused("already holds a run", "Replace it with --overwrite")
    assert workshop.snapshot(run) == before


def test_states_that_cannot_be_read_are_refused(workshop, run):
    """All states damaged: a line each, and one that says what to do; nothing changes."""
    for path in (run / "checkpoint").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    before = workshop.snapshot(run)
    result = resume(workshop, epochs=3)
    assert result.code == 2
    assert [line.startswith("error: ") for line in result.messages] == [False, False, True]
    assert "no saved state can be read" in result.messages[-1]
    assert workshop.snapshot(run) == before


def test_resume_and_overwrite_exclude_each_other(workshop, run):
    """Asking for both is a mistake in the command line."""
    before = workshop.snapshot(run)
    result = workshop.run(workshop.config(), "train", "--resume", "--overwrite")
    assert result.code == 2
    assert "--overwrite is not allowed with --resume" in result.err
    assert workshop.snapshot(run) == before


def test_a_refused_run_is_told_of_resume(workshop, run):
    """Training again without either option names both, as far as they are possible."""
    workshop.run(workshop.config(), "train").refused("--resume", "--overwrite")
    shutil.rmtree(run / "checkpoint")
    result = workshop.run(workshop.config(), "train")
    result.refused("--overwrite")
    assert "--resume" not in result.err


# Starting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["--resume", "resume: true"])
def test_without_a_state_the_training_starts(workshop, way):
    """The same command starts a run and goes on with it, so that a job script needs but one."""
    arguments = ["--resume"] if way == "--resume" else []
    settings = {"resume": True} if way != "--resume" else {}
    config = workshop.config(epochs=1, **settings)
    result = workshop.run(config, "train", *arguments)
    assert result.code == 0, result.err
    assert "no saved state in" in result.out
    assert "starts at epoch 1" in result.out
    result = workshop.run(workshop.config(epochs=2, **settings), "train", *arguments)
    assert "resuming after 1 epoch" in result.out
    assert len(pd.read_csv(workshop.folder / "run" / "history.csv")) == 2


def test_killed_before_the_first_state(workshop, run):
    """Settings and a torn state alone are no run that could be lost: the training starts."""
    for path in run.iterdir():
        if path.name not in ("config.yml", "normalizer.json", "checkpoint"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (run / "checkpoint").iterdir():
        path.unlink()
    (run / "checkpoint" / ".state_000000_0000000.npz.9.tmp.npz").write_bytes(b"PK")
    (run / ".config.yml.9.tmp.yml").touch()
    result = resume(workshop, epochs=1)
    assert result.code == 0, result.err
    assert not list(run.glob("**/.*"))
    assert state(run).epoch == 1


def test_overwrite_beats_the_setting(workshop, run):
    """``resume: true`` in the file and ``--overwrite`` on the command line: a new run."""
    config = workshop.config(resume=True, epochs=1)
    result = workshop.run(config, "train", "--overwrite")
    assert result.code == 0, result.err
    assert "trained 1 epoch," in result.out
    assert state(run).epoch == 1
    assert not (run / "weights_2.h5").exists()
    assert [path.name for path in sorted((run / "checkpoint").iterdir())] == [
        "state_000000_0000000.npz",
        "state_000001_0000000.npz",
    ]


def test_an_untouched_initial_state_goes_on(workshop, stop_after):
    """Stopped in its first step, a run goes on from that step and not from other weights."""
    stop_after(1)
    config = workshop.config("parts.yml", fname_model_weights=None)
    assert workshop.run(config, "train").code == 130
    assert workshop.run(config, "train", "--resume").code == 0
    assert_same_end(workshop.folder / "parts", workshop.train("whole.yml"))


def test_the_first_weights_are_not_read_again(workshop, run, finished, stop_after):
    """A fine-tuned run that goes on keeps what it has learnt, even if its first file is gone."""
    source = shutil.copy(finished / "weights_last.h5", workshop.folder / "source.h5")
    shutil.copy(finished / "normalizer.json", workshop.folder)
    stop_after(4)
    settings = {"fname_model_weights": str(source)}
    config = workshop.config("parts.yml", **settings)
    assert workshop.run(config, "train").code == 130
    whole = workshop.train("whole.yml", **settings)
    (workshop.folder / "source.h5").unlink()
    assert workshop.run(config, "train", "--resume").code == 0
    assert_same_end(workshop.folder / "parts", whole)


# History and messages --------------------------------------------------------------------------


def test_nothing_to_resume(workshop, run):
    """A finished run says so, ends with 0 and keeps every file."""
    before = workshop.snapshot(run)
    result = resume(workshop)
    assert result.code == 0
    assert f"nothing to resume in {run}: all 2 epochs are done. Raise epochs" in result.out
    assert workshop.snapshot(run) == before
    assert "training:" not in result.err


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(path.read_text() + "3,1,1,1,1,1,1\n"),
        lambda path: path.write_text("epoch,loss\nx"),
    ],
    ids=["deleted", "an epoch to be done again", "torn"],
)
def test_the_history_is_that_of_the_state(workshop, run, damage):
    """Whatever became of history.csv: no gap and no double line after a resume."""
    lines = (run / "history.csv").read_text().splitlines()
    damage(run / "history.csv")
    assert resume(workshop, epochs=3).code == 0
    found = (run / "history.csv").read_text().splitlines()
    assert found[:3] == lines
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2, 3]


def test_the_returned_history_is_of_all_epochs(workshop, run):
    """`Trainer.train` returns the losses before the resume as well, also with nothing to do."""
    for epochs in (3, 3):
        params = UserParams(workshop.config(epochs=epochs))
        trainer = Trainer(params, resume=True)
        model = Modeler(params, trainer.normalizer.max_val).build(verbose=0)
        history = trainer.train(model)
        assert history.epoch == [0, 1, 2]
        assert history.history["val_loss"] == pytest.approx(
            pd.read_csv(run / "history.csv")["val_loss"].tolist()
        )
        assert model.history is history


def test_the_bar_starts_where_the_run_stood(workshop, stop_after):
    """Its first figure counts the steps before, and the time to the end is of those to come."""
    stop_after(4)
    config = workshop.config(epochs=3)
    assert workshop.run(config, "train").code == 130
    result = workshop.run(config, "train", "--resume")
    assert "resuming after 1 epoch and 1 step" in result.out
    figures = re.findall(r"\| (\d+)/(\d+) \[00:\d\d<", result.err)
    assert figures[0] == ("4", "9")
    assert figures[-1] == ("9", "9")


def test_ctrl_c_says_how_to_go_on(workshop, stop_after):
    """The line names the place, that the state is saved, and the command."""
    stop_after(4)
    config = workshop.config("my run.yml")
    result = workshop.run(config, "train")
    assert result.code == 130
    assert result.messages == [
        "stopped: by Ctrl-C after epoch 1 and 1 steps of the next; the state is saved. "
        f"Resume with: python main.py '{config}' train --resume"
    ]


def test_a_nan_does_not_push_out_the_good_states(workshop, run):
    """The states before it are the last two still; with a lower rate the run goes on from them."""
    before = workshop.snapshot(run / "checkpoint")
    result = resume(workshop, epochs=5, learning_rate=1e30)
    assert result.code == 2
    assert result.messages[-1].startswith("error: the loss of epoch 3 is not a number")
    assert workshop.snapshot(run / "checkpoint") == before
    assert all(np.isfinite(array).all() for array in weights(run))
    assert resume(workshop, epochs=3).code == 0
    assert_same_end(run, workshop.train("whole.yml", epochs=3))


def test_a_full_disk_is_one_line(workshop, run, monkeypatch):
    """An error while the state is written ends the run, and the former states stay."""
    before = workshop.snapshot(run / "checkpoint")
    monkeypatch.setattr(np, "savez", full_disk)
    resume(workshop, epochs=3).refused(os.strerror(28))
    monkeypatch.undo()
    assert workshop.snapshot(run / "checkpoint") == before
    assert resume(workshop, epochs=3).code == 0
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2, 3]


def full_disk(stream, **arrays):
    """Fail as a full disk does, after a part is written."""
    stream.write(b"PK\x03\x04")
    raise OSError(28, os.strerror(28))


# Two networks ----------------------------------------------------------------------------------

SMALL = {"filters": 2, "num_residual_blocks": 1, "d_filters": 2, "loss_weights": [1, 1]}


def test_a_discriminator_that_has_won_stops_the_training(workshop, monkeypatch):
    """The line says since when, what to change, and where the weights are."""

    def easily_won(patience):
        return StopOnCollapse(patience, threshold=100.0)

    monkeypatch.setattr("sr_trainer.trainer.StopOnCollapse", easily_won)
    settings = {"model": "srgan", "srgan": SMALL, "pretrain_epochs": 1, "collapse_patience": 2}
    result = workshop.run(workshop.config(epochs=9, **settings), "train")
    folder = workshop.folder / "run"
    result.refused(
        "the discriminator has won: d_loss stayed below 100 for 2 epochs up to epoch 3",
        "pretrain_epochs",
        "collapse_patience: null",
        str(folder / "weights_last.h5"),
    )
    assert (folder / "weights_last.h5").is_file()
    assert (folder / "weights_pixel.h5").is_file()
    table = pd.read_csv(folder / "history.csv")
    assert table["d_loss"].isna().tolist() == [True, False, False]
    before = workshop.snapshot(folder)
    result = resume(workshop, epochs=9, **settings)
    result.refused("the discriminator has won for 2 epochs in a row", "collapse_patience")
    assert workshop.snapshot(folder) == before
    # It can go on when it is no longer asked to stop.
    assert resume(workshop, epochs=4, **settings | {"collapse_patience": None}).code == 0
    assert state(folder).epoch == 4


def test_weights_trained_otherwise_are_pointed_out(workshop, run):
    """Fine-tuning under another normaliser or skip may be meant, but not in silence."""
    changes = {"bicubic_skip": True, "fname_model_weights": str(run / "weights_last.h5")}
    result = workshop.run(workshop.config("fine.yml", epochs=1, **changes), "train")
    assert result.code == 0
    assert "was trained with bicubic_skip False, this run has True" in result.out
