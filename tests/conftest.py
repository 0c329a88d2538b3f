"""Shared by all tests: a quiet TensorFlow on the CPU, tiny patch folders, the programs in process."""

from __future__ import annotations

import os

# Before anything imports TensorFlow or Matplotlib.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["MPLBACKEND"] = "Agg"

import contextlib
import dataclasses
import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "validation", "test")

#: A network and a training that are over in a moment; tests change single keys of it.
TINY_RUN = {
    "input_shape": [4, 4, 1],
    "scale": 4,
    "norm_range": [-2500, 0],
    "model": "espcn",
    "espcn": {"filters": [4, 4], "kernels": [3, 3, 3]},
    "batch_size": 4,
    "epochs": 2,
    "learning_rate": 0.001,
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
    "test_pictures": 0,
}


@dataclasses.dataclass
class Result:
    """What a program left behind: its exit code and everything it printed."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of standard error that are not progress bars."""
        lines = [line.split("\r")[-1].rstrip() for line in self.err.splitlines()]
        return [line for line in lines if line and not re.search(r"\d+%\||\d+(step|it) \[", line)]

    def refused(self, *words: str) -> None:
        """Assert that the program said one clear line, with `words` in it, and failed."""
        assert self.code not in (0, None), self.out
        assert "Traceback" not in self.out + self.err
        assert len(self.messages) == 1, self.err
        assert self.messages[0].startswith("error: ")
        for word in words:
            assert word in self.messages[0]


def in_process(main: Callable[[list[str]], int], *arguments: object) -> Result:
    """Call a program's main() with a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse, for a mistake in the command line itself
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def write_patches(
    folder: Path,
    counts: tuple[int, int, int] = (12, 4, 5),
    lr_size: int = 4,
    scale: int = 4,
    seed: int = 0,
) -> Path:
    """Write a patch folder of smooth sea floor at 50 m, from gentle to steep, LR by area mean."""
    rng = np.random.default_rng(seed)
    size = lr_size * scale
    row, column = np.mgrid[:size, :size] / size
    for split, count in zip(SPLITS, counts, strict=True):
        depth = rng.uniform(-2000, -500, (count, 1, 1))
        relief = np.linspace(0.02, 0.3, count)[:, None, None] * size * 50 / 6
        phase = rng.uniform(0, 2 * np.pi, (4, count, 1, 1))
        waves = np.sin(7 * row + 3 * column + phase[0]) + np.sin(9 * column - 4 * row + phase[1])
        fine = 0.2 * np.sin(40 * row + phase[2]) * np.sin(40 * column + phase[3])
        hr = (depth + relief * (waves + fine)).astype(np.float32)[..., None]
        lr = hr.reshape(count, lr_size, scale, lr_size, scale, 1).mean((2, 4))
        for kind, imgs in (("LR", lr), ("HR", hr)):
            write_pickle(imgs, folder / split / f"data_{kind}.pkl")
    record = {"delta_lr_m": 50.0 * scale, "delta_hr_m": 50.0}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def write_pickle(content: object, path: Path) -> Path:
    """Write a plain pickle, as any user's script does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def read_pickle(path: Path) -> np.ndarray:
    """Read a pickle that a test wrote itself."""
    return pickle.loads(path.read_bytes())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def tiny_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 4² and 16² pixels; read-only."""
    return write_patches(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def manual_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of the manual's sizes, 16² and 64² pixels; read-only."""
    return write_patches(tmp_path_factory.mktemp("manual"), counts=(20, 5, 6), lr_size=16)


@dataclasses.dataclass
class Workshop:
    """A folder in which a test trains and tests tiny networks."""

    folder: Path
    data_dir: Path

    def config(self, name: str = "run.yml", **changes: object) -> Path:
        """Write `TINY_RUN` with some keys changed; log_dir is ``NAME`` beside it."""
        path = self.folder / name
        content = {"data_dir": str(self.data_dir), "log_dir": str(path.with_suffix("")), **TINY_RUN}
        path.write_text(yaml.safe_dump({**content, **changes}), encoding="utf-8")
        return path

    @staticmethod
    def run(*arguments: object) -> Result:
        """``python main.py ARGUMENTS``, in this process."""
        from sr_trainer.main import main

        return in_process(main, *arguments)

    def train(self, name: str = "run.yml", **changes: object) -> Path:
        """Train `TINY_RUN` with some keys changed; return the log folder."""
        config = self.config(name, **changes)
        result = self.run(config, "train")
        assert result.code == 0, result.err
        return config.with_suffix("")


@pytest.fixture
def workshop(tmp_path: Path, tiny_patches: Path) -> Workshop:
    """A folder of its own for each test, with the tiny patches."""
    return Workshop(tmp_path, tiny_patches)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_patches: Path) -> Path:
    """The log folder of one tiny run, trained and tested; read-only. ``../finished.yml`` made it."""
    shop = Workshop(tmp_path_factory.mktemp("runs"), tiny_patches)
    folder = shop.train("finished.yml", log_period=1, test_pictures=None)
    assert shop.run(folder.with_suffix(".yml"), "test").code == 0
    return folder
