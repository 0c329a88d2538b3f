"""Saved states: whole or absent, the last two kept, and what a signal does to a training."""

import contextlib
import errno
import json
import os
import random
import signal
import sys
import threading

import keras
import numpy as np
import pytest

from toolbox.errors import DataError, program
from toolbox.model.espcn import ESPCN
from toolbox.model.srgan import SRGAN
from toolbox.registry import OPTIMIZERS
from toolbox.training.checkpoint import (
    Checkpointer,
    Interrupted,
    load_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    variables_of,
)

RESUME = "python main.py run.yml train --resume"


def build(filters=2, optimizer="adam", ema=None):
    """Return a compiled network of a few weights, its optimizer with slots."""
    model = ESPCN((4, 4, 1), 2, {"filters": [filters], "kernels": [3, 3]})
    model.compile(optimizer, loss="mse", jit_compile=False, run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    if ema is not None:
        model.keep_average(ema)
    return model


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return build()


def facts(epoch, step=0, **others):
    return {"epoch": epoch, "step": step, "callbacks": {}, **others}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mark(model, value):
    """Fill every variable with one number, to recognise a state."""
    for variable in variables_of(model):
        variable.assign(np.full(variable.shape, value, variable.dtype))


def marked(arrays):
    """Return the number that all arrays are filled with."""
    values = np.unique(np.concatenate([np.ravel(a).astype(float) for a in arrays]))
    assert len(values) == 1
    return values[0]


def save_marked(folder, model, *epochs):
    """Save a state an epoch, marked with its number; return the files."""
    paths = []
    for epoch in epochs:
        mark(model, epoch)
        paths.append(save_checkpoint(folder, model, facts(epoch)))
    return paths


# One file --------------------------------------------------------------------------------------


def test_what_is_saved_is_restored(model, tmp_path):
    """Every variable with its bits and type, epoch, step, and what the program added."""
    rng = np.random.default_rng(0)
    for variable in variables_of(model):
        random_value = rng.normal(size=variable.shape) * 100
        variable.assign(random_value.astype(variable.dtype))
    expected = [v.numpy() for v in variables_of(model)]
    others = {"settings": {"lowest": float("inf"), "name": "深さ"}}
    path = save_checkpoint(tmp_path / "new" / "folder", model, facts(3, 17, **others))
    assert names(path.parent) == ["state_000003_0000017.npz"]
    found = load_checkpoint(path.parent)
    assert (found.path, found.epoch, found.step) == (path, 3, 17)
    assert found.facts["settings"] == others["settings"]
    mark(model, 0)
    restore_checkpoint(found, model)
    for variable, value in zip(variables_of(model), expected, strict=True):
        assert variable.numpy().dtype == value.dtype
        assert variable.numpy().tobytes() == value.tobytes()


def test_without_a_state(tmp_path):
    """No folder, an empty one, or one with a torn temporary file: nothing to load, no error."""
    assert load_checkpoint(tmp_path / "none") is None
    (tmp_path / ".state_000001_0000000.npz.1.tmp.npz").write_bytes(b"PK")
    assert load_checkpoint(tmp_path) is None


def test_the_variables_of_an_ordinary_training(tmp_path):
    """Weights, metric sums, slots, averages and Keras's global generator; not a constant rate."""
    model = build(ema=0.9)
    chosen = {id(v) for v in variables_of(model)}
    assert len(chosen) == len(variables_of(model))
    slots = model.optimizer.variables
    rate = model.optimizer._learning_rate
    expected = [*model.variables, *slots, *model.average.state]
    assert {id(v) for v in expected if v is not rate} < chosen
    assert id(rate) not in chosen
    assert any(tuple(v.shape) == (2,) and "seed" in v.path for v in variables_of(model))


def test_the_variables_of_an_adversarial_training():
    """Those of both networks and both optimizers, the label generator, and all figures."""
    model = SRGAN((4, 4, 1), 2, params={"filters": 2, "label_noise": 0.1})
    model.compile("mse", "adam")
    chosen = {id(v) for v in variables_of(model)}
    everything = [model.discriminator.variables, model.generator.variables]
    everything += [[model._label_seed.state], model.metrics_variables]
    everything += [o.variables[2:] for o in (model.optimizer, model.d_optimizer)]
    assert {id(v) for group in everything for v in group} < chosen
    rates = {id(o._learning_rate) for o in (model.optimizer, model.d_optimizer)}
    assert not rates & chosen
    count = len(chosen)
    model.set_stage(False)
    assert len(variables_of(model)) == count  # a state serves both stages


def test_the_rate_inside_a_loss_scaling_optimizer():
    """Under mixed_float16 the scale belongs to the state, the rate does not."""
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1))
    model = build(optimizer=optimizer)
    chosen = {id(v) for v in variables_of(model)}
    assert id(optimizer.dynamic_scale) in chosen
    assert id(optimizer.inner_optimizer._learning_rate) not in chosen


def test_another_model_is_refused(model, tmp_path):
    """A state with other shapes changes nothing and names both counts."""
    save_checkpoint(tmp_path, model, facts(1))
    other = build(filters=3)
    before = [v.numpy() for v in variables_of(other)]
    with pytest.raises(DataError, match=r"belongs to another model \(\d+ variables; this one"):
        restore_checkpoint(load_checkpoint(tmp_path), other)
    after = [v.numpy() for v in variables_of(other)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_generators_go_on_where_they_stood(model, tmp_path):
    """Python's, NumPy's and Keras's generators give the numbers that would have come next."""

    def draw():
        numbers = [random.random(), random.gauss(0, 1), *np.random.rand(2)]  # noqa: NPY002
        numbers += [np.random.randn(), *keras.random.uniform((2,)).numpy()]  # noqa: NPY002
        return numbers

    keras.utils.set_random_seed(7)
    draw()  # an odd number of gaussians: each generator keeps one back
    path = save_checkpoint(tmp_path, model, facts(1))
    expected = draw()
    keras.utils.set_random_seed(8)
    assert draw() != expected
    restore_checkpoint(load_checkpoint(path.parent), model)
    assert draw() == expected


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_goes_on(name, tmp_path):
    """Restored in another model, each takes the steps that it would have taken, bit by bit."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2, 4, 4, 1)).astype(np.float32)
    y = rng.normal(size=(5, 2, 8, 8, 1)).astype(np.float32)

    def train(model, *steps):
        for step in steps:
            model.train_on_batch(x[step], y[step])
        return [v.numpy().tobytes() for v in [*model.variables, *model.optimizer.variables]]

    keras.utils.set_random_seed(0)
    model = build(optimizer=OPTIMIZERS.resolve(name)(learning_rate=0.01))
    model.compute_metrics(x[0], y[0], model(x[0]))
    train(model, 0, 1, 2)
    save_checkpoint(tmp_path, model, facts(1))
    expected = train(model, 3, 4)
    keras.utils.set_random_seed(1)
    other = build(optimizer=OPTIMIZERS.resolve(name)(learning_rate=0.01))
    other.compute_metrics(x[0], y[0], other(x[0]))
    restore_checkpoint(load_checkpoint(tmp_path), other)
    assert train(other, 3, 4) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_written(model, tmp_path, value):
    """Neither in a weight nor in a slot: the good states stay the last two."""
    save_marked(tmp_path, model, 1, 2)
    before = names(tmp_path)
    for variable in (model.trainable_variables[0], model.optimizer.variables[-1]):
        mark(model, 3)
        variable.assign(np.full(variable.shape, value, variable.dtype))
        assert save_checkpoint(tmp_path, model, facts(3)) is None
    assert names(tmp_path) == before


# The folder ------------------------------------------------------------------------------------


def test_the_last_two_are_kept(model, tmp_path):
    """By epoch and step, also beyond nine, and beside whatever else lies there."""
    (tmp_path / "notes.txt").touch()
    for epoch, step in [(8, 0), (9, 0), (9, 5), (9, 12), (10, 0), (10, 3)]:
        save_checkpoint(tmp_path, model, facts(epoch, step))
    assert names(tmp_path) == [
        "notes.txt",
        "state_000010_0000000.npz",
        "state_000010_0000003.npz",
    ]


def torn(content):
    return content[: len(content) // 2]


def flipped(content):
    """One byte of the arrays."""
    position = content.index(b"NUMPY") + 200
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


DAMAGES = {
    "torn": torn,
    "flipped": flipped,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "pickle": lambda content: b"\x80\x04N.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state(damage, model, tmp_path, capsys):
    """The one before is taken, with a note; the damaged file goes with the next save."""
    _, newest = save_marked(tmp_path, model, 1, 2)
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    found = load_checkpoint(tmp_path)
    assert found.epoch == 1
    assert marked(found.arrays) == 1
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith(f"{newest}: cannot be read (")
    assert notes[0].endswith("trying the previous state")
    assert newest.is_file()  # reading removes nothing
    mark(model, 5)
    save_checkpoint(tmp_path, model, facts(1, 2))
    assert names(tmp_path) == ["state_000001_0000000.npz", "state_000001_0000002.npz"]
    found = load_checkpoint(tmp_path)
    assert (found.epoch, found.step, marked(found.arrays)) == (1, 2, 5)
    assert capsys.readouterr().err == ""


def test_no_flipped_bit_passes_unnoticed(model, tmp_path, capsys):
    """Whichever byte is damaged: the state is read exactly, or the one before is taken."""
    good = save_marked(tmp_path, model, 1)[0]
    rng = np.random.default_rng(0)
    for variable in variables_of(model):
        variable.assign((rng.normal(size=variable.shape) * 100).astype(variable.dtype))
    newest = save_checkpoint(tmp_path, model, facts(2))
    content = newest.read_bytes()
    expected = load_checkpoint(tmp_path)
    assert expected.epoch == 2
    directory = content.index(b"PK\x01\x02")
    positions = [*range(directory, len(content), 7), *rng.integers(0, directory, 200)]
    taken = set()
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        newest.write_bytes(bytes(damaged))
        found = load_checkpoint(tmp_path)
        taken.add(found.epoch)
        if found.path == good:
            assert marked(found.arrays) == 1
            continue
        assert found.facts == expected.facts
        for one, other in zip(found.arrays, expected.arrays, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.tobytes() == other.tobytes()
    assert taken == {1, 2}


@pytest.mark.parametrize("missing", ["00001", "facts"])
def test_an_incomplete_archive_is_a_damaged_one(missing, model, tmp_path, capsys):
    """A readable archive without one of its parts is not taken either."""
    _, newest = save_marked(tmp_path, model, 1, 2)
    with np.load(newest) as stored:
        content = {name: stored[name] for name in stored.files if name != missing}
    np.savez(newest, **content)
    assert load_checkpoint(tmp_path).epoch == 1
    assert "cannot be read" in capsys.readouterr().err


def test_all_states_damaged(model, tmp_path, capsys):
    """Then nothing can be resumed: an error that says what to do, and every file stays."""
    for path in save_marked(tmp_path, model, 1, 2):
        path.write_bytes(torn(path.read_bytes()))
    with pytest.raises(DataError, match=r"no saved state can be read.*--overwrite"):
        load_checkpoint(tmp_path)
    assert capsys.readouterr().err.count("cannot be read") == 2
    assert len(names(tmp_path)) == 2


def full_disk(stream, **arrays):
    """Write a part of an archive, then fail as a full disk does."""
    stream.write(b"PK\x03\x04" + bytes(1000))
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing(model, tmp_path, monkeypatch):
    """An error in the middle of a write leaves the former states, byte for byte, and no temp."""
    save_marked(tmp_path, model, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        save_checkpoint(tmp_path, model, facts(3))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_checkpoint(tmp_path).epoch == 2


def test_a_state_appears_by_renaming(model, tmp_path, monkeypatch):
    """Until the file is whole and on the disk it has another name, and no older one is removed."""
    save_marked(tmp_path, model, 1, 2)
    seen = []
    synchronize, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: (seen.append(names(tmp_path)), synchronize(number))
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("renamed"), replace(*paths)))
    save_marked(tmp_path, model, 3)
    assert len(seen) == 2
    assert [name for name in seen[0] if name.startswith("state_")] == [
        "state_000001_0000000.npz",
        "state_000002_0000000.npz",
    ]
    assert seen[1] == "renamed"
    assert names(tmp_path) == ["state_000002_0000000.npz", "state_000003_0000000.npz"]


def test_remains_of_a_killed_write_go_with_the_next(model, tmp_path):
    """SIGKILL in the middle of a write leaves a temporary file, which no one reads."""
    save_marked(tmp_path, model, 1)
    (tmp_path / ".state_000002_0000000.npz.77.tmp.npz").write_bytes(b"PK\x03\x04")
    assert load_checkpoint(tmp_path).epoch == 1
    save_marked(tmp_path, model, 2)
    assert names(tmp_path) == ["state_000001_0000000.npz", "state_000002_0000000.npz"]


# The callback ----------------------------------------------------------------------------------


class Memory:
    """A callback's memory that can be looked at."""

    def __init__(self, value):
        self.value = value

    def state(self):
        return {"value": self.value}

    def restore(self, state):
        self.value = state["value"]


class At(keras.callbacks.Callback):
    """Calls a function at the end of a step of an epoch, both counted from 0."""

    def __init__(self, epoch, batch, action):
        super().__init__()
        self._at, self._epoch, self._action = (epoch, batch), 0, action

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._at:
            self._action()


def checkpointer(folder, minutes=60.0, memories=None, start=None):
    return Checkpointer(folder, minutes, memories or {}, {"settings": {}}, RESUME, start)


def fit(model, *callbacks, epochs=3, **options):
    """Three steps an epoch."""
    x, y = np.zeros((6, 4, 4, 1), np.float32), np.ones((6, 8, 8, 1), np.float32)
    model.fit(
        x, y, batch_size=2, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **options
    )


def test_states_at_the_start_and_at_epoch_ends(model, tmp_path):
    """With an hour between states: one before the first step, then one an epoch."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(names(tmp_path)[-1][6:-4])

    fit(model, checkpointer(tmp_path), Look(), epochs=2)
    assert seen == ["000000_0000000"] * 3 + ["000001_0000000"] * 3
    assert load_checkpoint(tmp_path).epoch == 2


def test_states_inside_an_epoch(model, tmp_path):
    """With no time between states there is one a step; an epoch's last step counts as its end."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(names(tmp_path)[-1][6:-4])

    fit(model, checkpointer(tmp_path, minutes=1e-9), Look(), epochs=2)
    first = ["000000_0000001", "000000_0000002", "000000_0000002"]
    second = ["000001_0000001", "000001_0000002", "000001_0000002"]
    assert seen == first + second
    assert names(tmp_path) == ["state_000001_0000002.npz", "state_000002_0000000.npz"]


def test_time_between_states(model, tmp_path, monkeypatch):
    """A state inside an epoch is due `checkpoint_minutes` after the last one of any kind."""
    now = [0.0]
    monkeypatch.setattr("toolbox.training.checkpoint.time.monotonic", lambda: now[0])
    callback = checkpointer(tmp_path, minutes=2)
    callback.set_model(model)
    callback.set_params({"steps": 10})
    callback.on_epoch_begin(0)
    for batch, seconds in enumerate([60, 119, 121, 200, 240, 242]):
        now[0] = seconds
        callback.on_train_batch_end(batch, {"loss": 1.0})
    assert names(tmp_path) == ["state_000000_0000003.npz", "state_000000_0000006.npz"]


def test_memories_are_saved_and_restored(model, tmp_path):
    """What callbacks remember goes into the state, and back at the first epoch's beginning."""
    one, two = Memory(1), Memory("x")
    fit(model, checkpointer(tmp_path, memories={"one": one, "two": two}), epochs=1)
    start = load_checkpoint(tmp_path)
    assert start.facts["callbacks"] == {"one": {"value": 1}, "two": {"value": "x"}}
    new = Memory(5)
    one.value = 2
    again = checkpointer(tmp_path, memories={"one": one, "new": new}, start=start)
    fit(model, again, initial_epoch=1, epochs=2)
    assert one.value == 1  # and "two", which is no longer there, is no error
    assert new.value == 5  # it was not there when the state was saved


def test_a_nan_is_not_saved(model, tmp_path):
    """A loss that is no number: the state before it stays the newest."""
    fit(model, checkpointer(tmp_path), epochs=1)
    callback = checkpointer(tmp_path, minutes=1e-9)
    callback.set_model(model)
    callback.set_params({"steps": 3})
    before = names(tmp_path)
    callback.on_epoch_begin(1)
    for name in ("loss", "val_loss", "g_loss", "d_loss"):
        callback.on_train_batch_end(0, {name: np.nan})
        callback.on_epoch_end(1, {"loss": 1.0, name: np.inf})
    assert names(tmp_path) == before
    callback.on_epoch_end(1, {"loss": 1.0, "val_psnr": np.nan})
    assert load_checkpoint(tmp_path).epoch == 2


# Signals ---------------------------------------------------------------------------------------

SIGNALS = pytest.mark.parametrize(
    ("number", "word", "code"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "a signal", 143)],
    ids=["SIGINT", "SIGTERM"],
)


def kill_self(number):
    os.kill(os.getpid(), number)


@SIGNALS
def test_a_signal_finishes_the_step_and_saves(number, word, code, model, tmp_path, capfd):
    """The state is that of the step's end; the line says how to go on; the exit code is 128 + n."""
    callback = checkpointer(tmp_path)

    @program
    def main():
        with callback.listening():
            fit(model, At(1, 1, lambda: kill_self(number)), callback)

    before = signal.getsignal(number)
    assert main() == code
    assert signal.getsignal(number) is before
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert lines == [
        "finishing the step, then saving ...",
        f"stopped: by {word} after epoch 1 and 2 steps of the next; the state is saved. "
        f"Resume with: {RESUME}",
    ]
    found = load_checkpoint(tmp_path)
    assert (found.epoch, found.step) == (1, 2)
    for variable, value in zip(variables_of(model), found.arrays, strict=True):
        assert np.array_equal(variable.numpy(), value)


@SIGNALS
def test_a_signal_in_the_last_step_of_an_epoch(number, word, code, model, tmp_path, capfd):
    """The epoch is finished, with its validation, and the state is the one of its end."""
    callback = checkpointer(tmp_path)
    saved = pytest.raises(Interrupted, match=f"by {word} after epoch 2; the state is saved")
    with saved as stop, callback.listening():
        fit(model, At(1, 2, lambda: kill_self(number)), callback)
    assert stop.value.code == code
    assert load_checkpoint(tmp_path).epoch == 2


@SIGNALS
def test_a_second_signal_stops_at_once(number, word, code, model, tmp_path, capfd):
    """Who cannot wait is told that there is an older state."""
    callback = checkpointer(tmp_path)

    @program
    def main():
        with callback.listening():
            kill_self(signal.SIGINT)
            kill_self(number)
            pytest.fail("the second signal was not heeded")

    assert main() == code
    assert f"stopped: at once. Resume from the last saved state with: {RESUME}" in (
        capfd.readouterr().err
    )


def test_a_signal_after_a_nan(model, tmp_path, capfd):
    """Nothing is saved, and the line says so instead of promising a state."""
    callback = checkpointer(tmp_path)
    callback.set_model(model)
    callback.set_params({"steps": 3})
    with callback.listening():
        kill_self(signal.SIGINT)
        with pytest.raises(Interrupted, match="not a number, nothing is saved"):
            callback.on_train_batch_end(0, {"loss": np.nan})
    assert not list(tmp_path.iterdir())


def test_listening_ends_also_after_an_error(tmp_path):
    """Whatever ends the training, the signals do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError), checkpointer(tmp_path).listening():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_listening_outside_the_main_thread(tmp_path):
    """There are no signals there, and no error either."""
    errors = []

    def listen():
        try:
            with checkpointer(tmp_path).listening():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert errors == []


def test_resumed_training_ends_with_the_same_state(tmp_path):
    """Stopped inside an epoch and gone on in another model: the same bytes as without a stop."""

    def trained(folder, start=None, stop=False):
        keras.utils.set_random_seed(0)
        model = build(ema=0.5)
        callback = checkpointer(folder, start=start)
        interruption = pytest.raises(Interrupted) if stop else contextlib.nullcontext()
        with interruption, callback.listening():
            first = start.epoch if start else 0
            skipped = start.step if start else 0
            actions = [At(1, 0, lambda: kill_self(signal.SIGINT))] if stop else []
            if skipped:
                part_of_an_epoch(model, callback, first, skipped)
                first += 1
            fit(model, *actions, callback, initial_epoch=first)
        return load_checkpoint(folder)

    whole = trained(tmp_path / "whole")
    stopped = trained(tmp_path / "parts", stop=True)
    assert (stopped.epoch, stopped.step) == (1, 1)
    parts = trained(tmp_path / "parts", start=stopped)
    assert parts.epoch == whole.epoch == 3
    assert parts.facts == whole.facts
    for one, other in zip(parts.arrays, whole.arrays, strict=True):
        assert one.tobytes() == other.tobytes()


def part_of_an_epoch(model, callback, epoch, skipped):
    """Do what the trainer does with the rest of an epoch (all batches are equal here)."""
    x, y = np.zeros((6, 4, 4, 1), np.float32), np.ones((6, 8, 8, 1), np.float32)
    shared = keras.callbacks.CallbackList([callback], True, model=model, epochs=epoch + 1, steps=3)
    model.fit(
        x[2 * skipped :],
        y[2 * skipped :],
        batch_size=2,
        initial_epoch=epoch,
        epochs=epoch + 1,
        verbose=0,
        shuffle=False,
        callbacks=shared,
    )


def test_facts_are_plain_json(model, tmp_path):
    """Another program can read them."""
    path = save_checkpoint(tmp_path, model, facts(2, 1, settings={"model": "espcn"}))
    with np.load(path, allow_pickle=False) as stored:
        read = json.loads(stored["facts"].tobytes())
    assert (read["epoch"], read["step"]) == (2, 1)
    assert set(read["generators"]) == {"python", "numpy"}
    assert sys.getsizeof(path.read_bytes()) < 100_000


def test_what_an_inner_optimizer_keeps_to_itself():
    """Nadam's running product is no variable of the loss-scaling optimizer around it."""
    inner = keras.optimizers.Nadam()
    model = build(optimizer=keras.optimizers.LossScaleOptimizer(inner))
    assert any(variable is inner._u_product for variable in variables_of(model))
