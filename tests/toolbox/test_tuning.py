"""The fastest way to train is timed, kept and used, and leaves no trace in the training."""

import json

import numpy as np
import pytest
import yaml

from toolbox.training import tuning
from toolbox.training.checkpoint import load_checkpoint

AUTO = {"jit_compile": "auto", "steps_per_execution": "auto"}
#: A discriminator, noise, two optimizers with moments, an average: all that steps change.
JUDGED = {
    "model": "srgan",
    "srgan": {"filters": 4, "num_residual_blocks": 1, "d_filters": 2, "label_noise": 0.1},
    "ema": 0.9,
    "metrics": ["psnr"],
    "optimizer": "adam",
    "jit_compile": False,
}


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Time every run, however short, and keep what is found in a folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {"FEWEST_STEPS": 1, "SHORTEST_S": 0.0, "SHARE": 1e9}.items():
        monkeypatch.setattr(tuning, name, value)
    monkeypatch.setattr(tuning, "TIMED_S", 0.01)
    return tmp_path / "cache" / "sr-toolbox" / "steps"


def chosen(folder):
    """Return what the settings of a run name."""
    config = yaml.safe_load((folder / "config.yml").read_text(encoding="utf-8"))
    return {key: config[key] for key in ("jit_compile", "steps_per_execution")}


def assert_same_end(one, other):
    """Both ended with the same weights, slots, averages and random states, bit by bit."""
    first, second = (load_checkpoint(folder / "checkpoint") for folder in (one, other))
    assert [a.tobytes() for a in first.arrays] == [a.tobytes() for a in second.arrays]
    assert first.facts["generators"] == second.facts["generators"]
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


@pytest.mark.parametrize("network", [{}, JUDGED], ids=["espcn", "srgan"])
def test_timing_leaves_no_trace(workshop, timed, network):
    """A timed run, one that names its choice and one that finds it end with the same bytes."""
    first = workshop.run(workshop.config("first.yml", **{**AUTO, **network}), "train")
    assert first.code == 0, first.err
    assert "timed in" in first.out
    (record,) = timed.iterdir()
    folder = workshop.folder / "first"
    assert chosen(folder) == {
        "jit_compile": json.loads(record.read_text())["way"]["xla"],
        "steps_per_execution": json.loads(record.read_text())["way"]["steps"],
    }
    named = {**AUTO, **network, **chosen(folder)}
    assert "timed" not in workshop.run(workshop.config("named.yml", **named), "train").out
    assert_same_end(folder, workshop.folder / "named")
    if not network:  # once is enough: what is kept is used
        second = workshop.run(workshop.config("second.yml", **AUTO), "train")
        assert "timed before" in second.out
        assert_same_end(folder, workshop.folder / "second")


def test_resumed_run_keeps_its_way(workshop, timed, monkeypatch):
    """What is kept may have changed; a run that began without XLA goes on without it."""
    config = workshop.config("run.yml", **{**AUTO, "epochs": 1})
    monkeypatch.setattr(tuning, "FEWEST_STEPS", 10_000)
    assert workshop.run(config, "train").code == 0
    folder = workshop.folder / "run"
    assert "jit_compile" not in (folder / "config.yml").read_text()  # as its class says
    monkeypatch.setattr(tuning, "FEWEST_STEPS", 1)
    monkeypatch.setattr(tuning, "read_record", lambda path: 1 / 0)
    result = workshop.run(workshop.config("run.yml", **AUTO), "train", "--resume")
    assert result.code == 0, result.err
    assert "jit_compile" not in (folder / "config.yml").read_text()  # as its class says
    assert not timed.exists()


class FakeTiming:
    """Stands for the clock: counts how often it is asked."""

    asked = 0

    def __init__(self, model, batches, question):
        self.question = question

    def record(self, known):
        """Return that XLA is fast; of a short run, the time of a step alone."""
        type(self).asked += 1
        if self.question.total < 1000:
            return {"step_s": 0.01}
        return {"step_s": 0.01, "way": {"xla": True, "steps": 32}, "times_s": {"XLA": 0.005}}


@pytest.fixture
def ask(monkeypatch, tmp_path, workshop):
    """``ask(total)``: what a run of so many steps would be told."""
    from sr_trainer.modeler import Modeler
    from sr_trainer.user_params import UserParams

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_Timing", FakeTiming)
    monkeypatch.setattr(tuning, "FEWEST_STEPS", 10)
    monkeypatch.setattr(tuning, "SHORTEST_S", 10.0)
    monkeypatch.setattr(FakeTiming, "asked", 0)
    model = Modeler(UserParams(workshop.config())).build(verbose=0)

    def answer(total, free_xla=True, free_steps=True):
        question = tuning.Question(
            tuning.Way(False, 8), free_xla, free_steps, total, lambda n: n, {"model": "espcn"}
        )
        return tuning.choose(model, None, question)[0]

    return answer


def test_choice_is_made_once(ask):
    """A short run times a step and takes the default; a long one chooses, for later ones too."""
    default, fast = tuning.Way(False, 8), tuning.Way(True, 32)
    assert [ask(total) for total in (5, 100, 200, 5000, 5000, 200)] == [
        default,
        default,
        default,
        fast,
        fast,
        default,
    ]
    assert FakeTiming.asked == 2
    assert ask(5000, free_xla=False, free_steps=False) == default
    assert FakeTiming.asked == 2


def test_damaged_or_unwritable_record_is_no_error(ask, tmp_path):
    """A file that cannot be used is written anew; a folder that cannot be made is let be."""
    assert ask(5000).xla
    (record,) = (tmp_path / "cache" / "sr-toolbox" / "steps").iterdir()
    whole = json.loads(record.read_text())
    for text in ("", "{", "[1]", '{"step_s": "x"}', json.dumps({**whole, "way": {"xla": 1}})):
        record.write_text(text)
        assert ask(5000) == tuning.Way(True, 32)
    assert json.loads(record.read_text()) == whole
    record.unlink()
    record.parent.rmdir()
    record.parent.write_text("in the way")
    assert ask(5000) == tuning.Way(True, 32)
    assert FakeTiming.asked == 7


def test_slower_ways_are_not_taken(monkeypatch):
    """Among ways whose calls last known times, the fastest is found, and in turn."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    times = {(False, 1): 3.0, (False, 8): 2.0, (False, 32): 1.99, (True, 8): 1.0, (True, 1): 0.5}
    times[True, 32] = 2.0
    timing = object.__new__(tuning._Timing)
    timing.question = tuning.Question(tuning.Way(False, 8), True, True, 100_000, lambda n: n, {})
    timing.model, timing.times = model, {}
    monkeypatch.setattr(timing, "_made", lambda way: way, raising=False)

    def clock(steps, seconds):
        timing.times |= {str(way): times[way.xla, way.steps] / 1000 for way in steps}

    monkeypatch.setattr(timing, "_time", clock, raising=False)
    record = timing.record(None)
    assert record["way"] == {"xla": True, "steps": 1}
    assert np.isclose(record["step_s"], 0.002)
    times[True, 8] = times[True, 1] = 9.0
    assert timing.record(None)["way"] == {"xla": False, "steps": 8}
