"""A task that is one folder and one row goes through every program on its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from toolbox.config import read_yaml
from toolbox.model_card import card_of_run
from toolbox.registry import TASKS
from toolbox.run import Run, load_model
from toolbox.settings import UserParams

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "tests"
SETTINGS = {
    "task": "heat",
    "model": "espcn",
    "espcn": {"filters": [4, 4], "kernels": [3, 3, 3]},
    "bicubic_skip": True,
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
    "alarm": {"above_k": 300},
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder with 20 smooth frames of 16 × 16 pixels, 290 to 330 K."""
    folder = tmp_path_factory.mktemp("frames")
    row, column = np.mgrid[:16, :16] / 16
    phase = np.random.default_rng(0).uniform(0, 6, (20, 1, 1))
    waves = np.sin(7 * row + phase) + np.cos(9 * column - phase)
    np.save(folder / "frames.npy", (310 + 10 * waves).astype(np.float32))
    return folder


def write(folder, frames, **changes):
    """Write the settings of a run; return the file."""
    path = folder / "heat.yml"
    log_dir = str(folder / "log")
    content = {"data_dir": str(frames), "log_dir": log_dir, **SETTINGS, **changes}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, frames, open_workshop):
    """Settings file of a run that is trained and tested; its log folder is beside it."""
    folder = tmp_path_factory.mktemp("heat")
    config = write(folder, frames)
    shop = open_workshop(folder, frames)
    for mode in ("train", "test"):
        result = shop.run(config, mode)
        assert result.code == 0, result.err
    return config


def program(*arguments, module="sr_trainer.main"):
    """Return the command line and the environment of a program that knows the toy task."""
    path = os.pathsep.join(str(p) for p in (HERE / "heat_task" / "row", HERE, ROOT))
    environment = {**os.environ, "PYTHONPATH": path}
    return [sys.executable, "-m", module, *map(str, arguments)], environment


def test_training_leaves_what_the_task_records(trained):
    """Settings of task and source, the normaliser with its range, the record of the data."""
    log = trained.parent / "log"
    config = read_yaml(log / "config.yml")
    assert (config["task"], config["source"], config["scale"]) == ("heat", "heat", 2)
    assert config["heat"]["held_back"] == 4
    assert config["alarm"] == {"above_k": 300.0}
    assert config["input_shape"] == [8, 8, 1]
    assert json.loads((log / "normalizer.json").read_text())["xmin"] == 273
    assert set(json.loads((log / "heat.json").read_text())) == {"low_k", "high_k"}
    assert not (log / "validity.json").exists()


def test_the_test_is_the_task_s(trained):
    """Summary, table and page are in kelvin, with the section of the task."""
    folder = trained.parent / "log" / "test_result"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["error_k"]) == {"network", "repeated"}
    assert summary["hot_pixels"] > 0
    assert (folder / "errors.csv").read_text().startswith("method,error_k\n")
    assert "Thermal frames" in (folder / "report.html").read_text(encoding="utf-8")


def test_what_is_tested_is_what_predicts(trained, frames, tmp_path, open_workshop):
    """A frame through ``predict`` is, bit for bit, the one that the test measured."""
    lr, hr = Run.open(trained).source().test()
    np.save(tmp_path / "frame.npy", lr[0, ..., 0])
    result = open_workshop(tmp_path, frames).run(
        trained.parent / "log", "predict", tmp_path / "frame.npy"
    )
    assert result.code == 0, result.err
    assert " K" in result.out
    large = np.load(tmp_path / "frame_x2.npy")
    model = load_model(trained.parent / "log")
    np.testing.assert_array_equal(
        large[..., 0] if large.ndim == 3 else large, model.predict(lr)[0, ..., 0]
    )
    summary = json.loads((trained.parent / "log/test_result/summary.json").read_text())
    error = np.abs(model.super_resolve(lr, 4) - hr).mean()
    assert summary["error_k"]["network"] == pytest.approx(float(error), rel=1e-6)


def test_options_belong_to_their_task(trained, frames, tmp_path, open_workshop):
    """An option of the task is taken, one of another task refused by name."""
    shop = open_workshop(tmp_path, frames)
    np.save(tmp_path / "frame.npy", np.full((8, 8), 300, np.float32))
    log = trained.parent / "log"
    result = shop.run(log, "predict", tmp_path / "frame.npy", "--ceiling-k", 280)
    assert result.code == 0, result.err
    assert np.load(tmp_path / "frame_x2.npy").max() <= 280
    refused = shop.run(log, "predict", tmp_path / "frame.npy", "--hillshade", "-o", "b.npy")
    refused.refused(
        "--hillshade is for bathymetry; the network was trained for heat. Leave out --hillshade"
    )


def test_export_and_card(trained, frames, tmp_path, open_workshop):
    """The network is written with a card that speaks of kelvin and of the task's limits."""
    shop = open_workshop(tmp_path, frames)
    result = shop.run(trained, "export", "--format", "keras", "-o", tmp_path / "heat.keras")
    assert result.code == 0, result.err
    text = (tmp_path / "heat_MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("| K |", "Not for fever.", "| network |", "low_k"):
        assert words in text
    assert card_of_run(trained.parent / "log")["task"] == "heat"


def test_task_and_source_must_agree(frames, tmp_path):
    """Two tasks in one file are refused."""
    from toolbox.errors import ConfigError

    with pytest.raises(ConfigError, match=r"task must be bathymetry, which source patches belongs"):
        UserParams(write(tmp_path, frames, source="patches"))


def test_killed_and_resumed(trained, frames, tmp_path, open_workshop):
    """SIGKILL in the middle, --resume: the weights of an uninterrupted run, bit for bit."""
    config = write(tmp_path, frames, epochs=400, checkpoint_minutes=0.005)
    command, environment = program(config, "train")
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    states = tmp_path / "log" / "checkpoint"
    deadline = time.monotonic() + 240
    while not list(states.glob("state_*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors.decode()
    shop = open_workshop(tmp_path, frames)
    # A run of fewer epochs resumed would be complete; both end after the same, small number.
    state = max(int(path.stem.split("_")[1]) for path in states.glob("state_*"))
    epochs = state + 2
    for folder, flags in ((tmp_path, ["--resume"]), (tmp_path / "whole", [])):
        folder.mkdir(exist_ok=True)
        result = shop.run(
            write(folder, frames, epochs=epochs, checkpoint_minutes=0.005), "train", *flags
        )
        assert result.code == 0, result.err
    found, expected = (
        load_model(folder / "log", folder / "log" / "weights_last.h5").physical.get_weights()
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert all(map(np.array_equal, found, expected))
    history = [
        (folder / "log" / "history.csv").read_bytes() for folder in (tmp_path, tmp_path / "whole")
    ]
    assert history[0] == history[1]


def test_search_of_two_trials(trained, frames, tmp_path):
    """Workers that know the row search by the task's own figure and report the best."""
    base = write(tmp_path, frames)
    search = {
        "base": str(base),
        "parameters": {"learning_rate": [1e-4, 1e-2]},
        "objective": "validation.error_k.network",
        "trials": 2,
        "search_dir": str(tmp_path / "search"),
        "pruner": "none",
    }
    path = tmp_path / "search.yml"
    path.write_text(yaml.safe_dump(search), encoding="utf-8")
    command, environment = program(path, module="sr_trainer.optuna_search")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "validation.error_k.network" in done.stdout
    assert (tmp_path / "search" / "report.html").is_file()
    trials = (tmp_path / "search" / "trials.csv").read_text()
    assert trials.count("complete") == 2


def test_the_row_is_all_that_is_known(trained):
    """No module of the project names the toy task."""
    named = [
        path
        for package in ("toolbox", "sr_trainer", "sr_dataset_builder")
        for path in (ROOT / package).rglob("*.py")
        if "heat_task" in path.read_text(encoding="utf-8")
    ]
    assert named == []
    assert TASKS["heat"] == "heat_task.task:Heat"
