"""Shared by all tests: a quiet TensorFlow on the CPU, tiny patches, the programs in process."""

from __future__ import annotations

import os

# Before anything imports TensorFlow or Matplotlib.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if os.environ.get("SR_TEST_GPU") != "1":  # benchmarks/gpu.py runs tests/gpu.txt on a GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["MPLBACKEND"] = "Agg"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes of the suite that share the cores do not share them among threads as well.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import contextlib
import dataclasses
import functools
import io
import json
import pickle
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from toolbox.registry import TASKS

#: The toy task is a row like any other, so every contract test meets it.
TASKS._rows["heat"] = "heat_task.task:Heat"

SPLITS = ("train", "validation", "test")
_PROGRESS_BAR = re.compile(r"\d+%\||\d+(it|step)s? \[")

#: A network and a training that are over in a moment; tests change single keys of it.
TINY_RUN = {
    "input_shape": [4, 4, 1],
    "scale": 4,
    "norm_range": [-2500, 0],
    "model": "espcn",
    "espcn": {"filters": [4, 4], "kernels": [3, 3, 3]},
    "batch_size": 4,
    "epochs": 2,
    "optimizer": "sgd",  # traced several times as fast as Adam
    "learning_rate": 0.001,
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
    "test_pictures": 0,
}

#: A build that cuts a map of 160 × 200 pixels into 20 blocks of 16 small patches each.
TINY_BUILD = {"block_shape": [4, 5], "scale": 4, "lr_img_shape": [4, 4], "lr_stride": [2, 2]}


def pytest_configure(config: pytest.Config) -> None:
    """Let pass the one warning that is not ours: Keras 3.15 saving weights under NumPy 2."""
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept:DeprecationWarning"
    )


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
        return [line for line in lines if line and not _PROGRESS_BAR.search(line)]

    def refused(self, *words: str) -> None:
        """Assert that the program said one clear line, with `words` in it, and failed."""
        assert self.code != 0, self.out
        assert "Traceback" not in self.out + self.err
        assert len(self.messages) == 1, self.err
        assert self.messages[0].startswith("error: ")
        for word in words:
            assert word in self.messages[0]


def in_process(main: Callable[[list[str]], int], *arguments: object) -> Result:
    """Call the main() of a program with a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse, for a mistake in the command line itself
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


@dataclasses.dataclass
class Workshop:
    """A folder in which a test builds data sets and trains tiny networks."""

    folder: Path
    data_dir: Path
    result = Result

    @staticmethod
    def write_pickle(content: object, path: Path) -> Path:
        """Write a plain pickle, as any user's script does."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return path

    @staticmethod
    def read_pickle(path: Path) -> Any:
        """Read a pickle that the project or a test wrote."""
        return pickle.loads(path.read_bytes())

    def edit_pickle(self, path: Path, edit: Callable[[np.ndarray], object]) -> None:
        """Replace the content of a pickle by ``edit(content)``."""
        self.write_pickle(edit(self.read_pickle(path)), path)

    def snapshot(self, folder: Path | None = None) -> dict[str, bytes]:
        """Return every file below `folder` (default: everything) with its content."""
        root = folder or self.folder
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def own_patches(self) -> Path:
        """Copy the patches here, to be spoilt; further runs use the copy."""
        self.data_dir = Path(shutil.copytree(self.data_dir, self.folder / "patches"))
        return self.data_dir

    def evil_pickle(self, path: Path) -> Path:
        """Write a pickle that would make a file when executed; return that file's path."""
        trace = self.folder / "executed"

        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return exec, (f"open({str(trace)!r}, 'w')",)

        self.write_pickle(Payload(), path)
        return trace

    def build(self, **changes: object) -> Result:
        """Run the builder in this process: `TINY_BUILD` with some keys changed, into ``built``."""
        from sr_dataset_builder.dataset import main

        content = {**TINY_BUILD, "save_dir": self.folder / "built", **changes}
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in content.items()}
        path = self.folder / "build.yml"
        path.write_text(yaml.safe_dump(plain), encoding="utf-8")
        return in_process(main, path)

    def config(self, name: str = "run.yml", **changes: object) -> Path:
        """Write `TINY_RUN` with some keys changed; log_dir is the same name without ``.yml``."""
        path = self.folder / name
        content = {"data_dir": self.data_dir, "log_dir": path.with_suffix(""), **TINY_RUN}
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in (content | changes).items()}
        path.write_text(yaml.safe_dump(plain), encoding="utf-8")
        return path

    @staticmethod
    def run(*arguments: object) -> Result:
        """Run ``python main.py ARGUMENTS`` in this process."""
        from sr_trainer.main import main

        return in_process(main, *arguments)

    def train(self, name: str = "run.yml", **changes: object) -> Path:
        """Train `TINY_RUN` with some keys changed; return the log folder."""
        result = self.run(self.config(name, **changes), "train")
        assert result.code == 0, result.err
        return (self.folder / name).with_suffix("")


def _write_patches(folder: Path, counts: tuple[int, int, int], lr_size: int) -> Path:
    """Write a patch folder of smooth sea floor at 50 m, gentle to steep, LR by area mean of 4²."""
    rng = np.random.default_rng(0)
    size = lr_size * 4
    row, column = np.mgrid[:size, :size] / size
    for split, count in zip(SPLITS, counts, strict=True):
        depth = rng.uniform(-2000, -500, (count, 1, 1))
        relief = np.linspace(0.02, 0.3, count)[:, None, None] * size * 50 / 6
        phase = rng.uniform(0, 2 * np.pi, (4, count, 1, 1))
        waves = np.sin(7 * row + 3 * column + phase[0]) + np.sin(9 * column - 4 * row + phase[1])
        fine = 0.2 * np.sin(40 * row + phase[2]) * np.sin(40 * column + phase[3])
        hr = (depth + relief * (waves + fine)).astype(np.float32)[..., None]
        lr = hr.reshape(count, lr_size, 4, lr_size, 4, 1).mean((2, 4))
        for kind, imgs in (("LR", lr), ("HR", hr)):
            Workshop.write_pickle(imgs, folder / split / f"data_{kind}.pkl")
    record = {"delta_lr_m": 200.0, "delta_hr_m": 50.0}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def rasterio() -> Any:
    """Rasterio, where it is installed."""
    return pytest.importorskip("rasterio")


@pytest.fixture(scope="session")
def xarray() -> Any:
    """Xarray, where it is installed with a NetCDF-4 engine."""
    pytest.importorskip("h5netcdf")
    return pytest.importorskip("xarray")


@pytest.fixture(scope="session")
def tiny_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12, 4 and 5 pairs of 4² and 16² pixels; read-only."""
    return _write_patches(tmp_path_factory.mktemp("tiny"), (12, 4, 5), 4)


@pytest.fixture(scope="session")
def manual_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20, 5 and 6 pairs of the manual's sizes, 16² and 64² pixels; read-only."""
    return _write_patches(tmp_path_factory.mktemp("manual"), (20, 5, 6), 16)


@pytest.fixture(scope="session")
def open_workshop() -> type[Workshop]:
    """``open_workshop(folder, data_dir)``, for fixtures that outlive a test."""
    return Workshop


@pytest.fixture
def workshop(tmp_path: Path, tiny_patches: Path) -> Workshop:
    """Open a folder for this test alone, with the tiny patches."""
    return Workshop(tmp_path, tiny_patches)


Drawn = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="session", autouse=True)
def drawn() -> Iterator[Drawn]:
    """Let the plotter write empty files, except inside ``with drawn():``.

    Drawing takes longer than a tiny training.
    """
    from toolbox.plotter import Plotter

    def stub(method: Any) -> Any:
        """Return what takes the arguments of a method and leaves an empty file."""

        @functools.wraps(method)
        def touch(*arguments: Any, **options: Any) -> None:
            Path(arguments[3]).touch()

        return touch

    names = ("plot_history_graph", "plot_test_imgs", "plot_errors", "plot_spectrum")
    true = {name: vars(Plotter)[name] for name in names}

    @contextlib.contextmanager
    def patched(methods: dict[str, Any]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, method in methods.items():
                patch.setattr(Plotter, name, method)
            yield

    with patched({name: stub(method) for name, method in true.items()}):
        yield lambda: patched(true)


@pytest.fixture(scope="module")
def drawing(drawn: Drawn) -> Iterator[None]:
    """Pictures are drawn in this module."""
    with drawn():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_patches: Path) -> Path:
    """Log folder of a tiny run, trained and tested; read-only; made by ``../finished.yml``."""
    shop = Workshop(tmp_path_factory.mktemp("runs"), tiny_patches)
    folder = shop.train("finished.yml")
    assert shop.run(folder.with_suffix(".yml"), "test").code == 0
    return folder


@pytest.fixture
def stop_after(monkeypatch):
    """``stop_after(n)``: Ctrl-C in the n-th step of the training; once."""
    from toolbox.callbacks import ProgressLogger

    former = ProgressLogger.on_train_batch_end
    remaining: list[int] = []

    def on_train_batch_end(self, batch, logs=None):
        former(self, batch, logs)
        if remaining and self._bar.n >= remaining[0]:
            remaining.clear()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressLogger, "on_train_batch_end", on_train_batch_end)
    return remaining.append
