"""``predict --dask``: the bytes of one machine, whatever dies; lazy enlargement from Python."""

import asyncio
import concurrent.futures
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import toolbox
from toolbox.errors import ConfigError, DataError, MissingLibraryError
from toolbox.inference.dask_cluster import WorkersError, check_address, dask_client, hand_out
from toolbox.tasks.bathymetry import predict as predict_module
from toolbox.tasks.bathymetry import predict_scattered

distributed = pytest.importorskip("distributed")
xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
psutil = pytest.importorskip("psutil")

ROOT = Path(__file__).resolve().parents[2]
TILE = ("--tile", 8)
TOLD = ("difference between the result", "WARNING")


def sea_floor(rows, columns=30):
    """Return metres below sea level with a hole."""
    r, c = np.mgrid[:rows, :columns]
    values = -1200 + 90 * np.sin(r / 5) + 60 * np.cos(c / 4 + r / 9) + 3 * r % 50
    values[13:18, 4:9] = np.nan
    return values.astype(np.float32)


def content(path):
    """Return the bytes of a file, or of every file of a folder."""
    if path.is_file():
        return path.read_bytes()
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def told(out):
    """Return the lines about the result that do not name it."""
    return [line for line in out.splitlines() if line.startswith(TOLD)]


@pytest.fixture
def in_process(monkeypatch):
    """Do the work of the workers here, in another order; list the strips that are done."""
    done = []

    def hand_out(client, work, order, numbers, take):
        for number in reversed(numbers):
            if len(done) == hand_out.most:
                raise KeyboardInterrupt
            take(number, work(order, number))
            done.append(number)

    hand_out.most = -1
    monkeypatch.setattr(predict_module, "hand_out", hand_out)
    monkeypatch.setattr(predict_module.MapPredictor, "_client", lambda self: None)
    monkeypatch.setattr(predict_scattered, "_BENCHES", {})
    return done, hand_out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_worker_is_killed(workshop, finished):
    """Of two worker processes one is killed in the middle; bytes and figures do not change."""
    folder = workshop.folder
    np.save(folder / "map.npy", sea_floor(400))
    one = workshop.run(finished, "predict", folder / "map.npy", *TILE, "-o", folder / "one.zarr")
    assert one.code == 0, one.err
    journal = folder / ".two.zarr.partial.json"
    words = ("predict", str(folder / "map.npy"), *map(str, TILE), "--dask", "local:2")
    # In a process of its own, where the warnings of Dask are no errors.
    command = [sys.executable, "main.py", str(finished), *words, "-o", str(folder / "two.zarr")]
    with open(folder / "two.log", "w") as log:
        process = psutil.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        killed = None
        while process.poll() is None and killed is None:
            time.sleep(0.01)
            done = len(json.loads(journal.read_text())["done"]) if journal.is_file() else 0
            for child in process.children(recursive=True) if done >= 3 else []:
                if "spawn_main" in " ".join(child.cmdline()) and child.memory_info().rss > 3e8:
                    os.kill(child.pid, signal.SIGKILL)
                    killed = done
                    break
        process.wait(300)
    out = (folder / "two.log").read_text()
    assert process.returncode == 0, out
    assert killed is not None
    assert killed < 50
    assert content(folder / "two.zarr") == content(folder / "one.zarr")
    figures = [line for line in told(one.out) if line.startswith("difference")]
    assert figures
    assert set(figures) <= set(told(out))
    assert "oneDNN" not in out
    assert [path.name for path in folder.iterdir() if path.name.startswith(".two")] == []


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".zarr", ".nc"])
def test_every_kind_of_result(workshop, finished, in_process, suffix):
    """From a Zarr, results of all kinds hold what one machine writes."""
    folder, values = workshop.folder, sea_floor(40)
    axes = {"y": np.arange(40) * 100.0, "x": np.arange(30) * 100.0}
    z = (("y", "x"), -values, {"positive": "down", "units": "m"})
    xarray.Dataset({"z": z}, axes).to_zarr(folder / "map.zarr", zarr_format=2)
    words = ("predict", folder / "map.zarr", *TILE, "--lr-consistency", "project")
    one = workshop.run(finished, *words, "-o", folder / f"one{suffix}")
    two = workshop.run(finished, *words, "-o", folder / f"two{suffix}", "--dask", "local")
    assert (one.code, two.code) == (0, 0), two.err
    assert told(one.out) == told(two.out)
    if suffix == ".nc":
        with (
            xarray.open_dataset(folder / "one.nc") as a,
            xarray.open_dataset(folder / "two.nc") as b,
        ):
            assert a.drop_attrs(deep=False).identical(b.drop_attrs(deep=False))
    else:
        assert content(folder / f"one{suffix}") == content(folder / f"two{suffix}")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_what_is_done_is_not_done_again(workshop, finished, in_process, suffix):
    """Stopped after two strips, the same command does the other three."""
    done, hand_out = in_process
    folder = workshop.folder
    np.save(folder / "map.npy", sea_floor(40))
    target = folder / f"two{suffix}"
    words = (finished, "predict", folder / "map.npy", *TILE)
    assert workshop.run(*words, "-o", folder / f"one{suffix}").code == 0
    hand_out.most = 2
    assert workshop.run(*words, "-o", target, "--dask", "local").code == 130
    assert not target.exists()
    assert done == [4, 3]
    hand_out.most = -1
    result = workshop.run(*words, "-o", target, "--dask", "local")
    assert "resuming after 40 % of the strips" in result.out
    assert done == [4, 3, 2, 1, 0]
    assert content(target) == content(folder / f"one{suffix}")
    hand_out.most = 7
    assert workshop.run(*words, "-o", target, "--dask", "local", "--overwrite").code == 130
    hand_out.most = -1
    other = workshop.run(*words, "-o", target, "--dask", "local", "--overwrite", "--self-ensemble")
    assert "resuming" not in other.out


def test_folder_with_a_zarr(workshop, finished, in_process):
    """In a folder a Zarr is one map, not a folder of files."""
    folder = workshop.folder / "maps"
    z = xarray.Dataset({"z": (("y", "x"), sea_floor(20))})
    z.to_zarr(folder / "sub" / "map.zarr", zarr_format=2)
    np.save(folder / "other.npy", sea_floor(20))
    result = workshop.run(finished, "predict", folder, "--dask", "local")
    assert result.code == 0, result.err
    results = workshop.folder / "maps_x4"
    assert (results / "sub" / "map.zarr" / ".zgroup").is_file()
    assert np.load(results / "other.npy").shape == (80, 120)
    report = workshop.run("inspect", folder / "sub" / "map.zarr")
    assert report.code == 0, report.err


def test_folders_are_kept(workshop, finished):
    """--overwrite replaces a Zarr, but no folder of other things nor one that holds the input."""
    folder = workshop.folder
    xarray.Dataset({"z": (("y", "x"), sea_floor(20))}).to_zarr(folder / "a.zarr", zarr_format=2)
    (folder / "mine.zarr").mkdir()
    (folder / "mine.zarr" / "thesis.txt").write_text("years of work")
    np.save(folder / "mine.zarr" / "b.npy", sea_floor(20))
    (folder / "b_x4.npy").mkdir()
    np.save(folder / "b.npy", sea_floor(20))
    before = content(folder)
    words = (finished, "predict", folder / "a.zarr", "--overwrite", "-o")
    workshop.run(*words, folder / "a.zarr" / "fine.zarr").refused("is inside the input a.zarr")
    workshop.run(*words, folder / "mine.zarr").refused("is a folder and no Zarr")
    inner = workshop.run(
        finished, "predict", folder / "mine.zarr" / "b.npy", "-o", folder / "mine.zarr",
        "--overwrite",
    )  # fmt: skip
    inner.refused("is a folder that contains the input")
    result = workshop.run(finished, "predict", folder / "b.npy", "--overwrite")
    result.refused("is a folder and no file")
    assert content(folder) == before
    (folder / "mine.zarr" / "thesis.txt").unlink()
    (folder / "mine.zarr" / "b.npy").unlink()
    assert workshop.run(*words, folder / "mine.zarr").code == 0
    assert workshop.run(*words, folder / "mine.zarr").code == 0


@pytest.mark.parametrize("error", [WorkersError("no worker is left"), ConfigError("no answer")])
def test_failing_workers_lose_nothing(workshop, finished, in_process, monkeypatch, error):
    """What is done stays for the same command; work that never began leaves nothing behind."""
    done, hand_out = in_process
    folder = workshop.folder
    np.save(folder / "map.npy", sea_floor(40))
    target = folder / "two.npy"
    words = (finished, "predict", folder / "map.npy", *TILE, "-o", target, "--dask", "local")

    def failing(client, work, order, numbers, take):
        for number in numbers[: failing.most]:
            take(number, work(order, number))
        raise error

    failing.most = 0
    monkeypatch.setattr(predict_module, "hand_out", failing)
    workshop.run(*words).refused(str(error))
    assert [path.name for path in folder.iterdir() if path.name.startswith(".two")] == []
    failing.most = 2
    workshop.run(*words).refused(str(error))
    monkeypatch.setattr(predict_module, "hand_out", hand_out)
    result = workshop.run(*words)
    assert "resuming after 40 % of the strips" in result.out
    assert done == [4, 3, 2]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".two")] == []


@pytest.mark.parametrize("where", ["locale", "local:0", "host:8786", "tcp://"])
def test_no_address(workshop, finished, where):
    """What is no address is refused before anything is opened."""
    np.save(workshop.folder / "map.npy", sea_floor(20))
    result = workshop.run(finished, "predict", workshop.folder / "map.npy", "--dask", where)
    result.refused("dask must be local, local:N", where)


def test_nobody_answers(monkeypatch):
    """A scheduler that is not there is one line."""
    monkeypatch.setattr("toolbox.inference.dask_cluster._TIMEOUT_S", 0.5)
    with (
        pytest.raises(ConfigError, match="no scheduler with a worker answers"),
        dask_client("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize("gone", [asyncio.CancelledError, concurrent.futures.CancelledError])
def test_the_scheduler_is_gone(monkeypatch, gone):
    """A lost connection is one line, wherever it is noticed."""

    def lost(*args, **options):
        raise gone("3 Futures cancelled")

    class Client:
        def map(self, work, orders, numbers, **options):
            return [str(number) for number in numbers]

        def cancel(self, futures, force):
            assert futures == ["0", "1"]

    monkeypatch.setattr(distributed, "wait", lost)
    with pytest.raises(WorkersError, match="the same command resumes the work"):
        hand_out(Client(), max, None, [0, 1], print)


def test_without_dask(monkeypatch):
    """Without Dask one line says how it is installed."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingLibraryError, match=r"Run: pip install -e .*\[dask\]"):
        check_address("local")


# -- From Python -----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalizer", ["local_mean", "patch_mean"])
def test_lazy(workshop, normalizer):
    """Nothing is computed until asked; then numbers, coordinates and sign are those of predict."""
    run = workshop.train(epochs=1, normalizer=normalizer, norm_range=None)
    model = toolbox.load_model(run)
    axes = {"y": np.arange(40) * 10.0, "x": np.arange(30) * 10.0}
    depths = xarray.DataArray(
        -sea_floor(40), axes, ("y", "x"), "z", {"positive": "down", "units": "m"}
    )
    counted = []

    def read(block):
        counted.append(block.shape)
        return block

    lazy = depths.chunk({"y": 10, "x": 15})
    lazy = lazy.copy(data=lazy.data.map_blocks(read, dtype=np.float32, meta=np.empty((0, 0), "f4")))
    fine = toolbox.predict_dask(lazy, model, tile=8)
    assert counted == []
    assert fine.shape == (160, 120)
    whole = model.predict(depths, tile=8)
    found = fine.compute(scheduler="synchronous")
    assert found.identical(whole)
    rows = fine[:4].compute(scheduler="synchronous")
    np.testing.assert_array_equal(rows, whole[:4])


def test_sent_networks_are_read_once(finished):
    """A network that is sent arrives as one, built from its files; other weights are refused."""
    import pickle

    model = toolbox.load_model(finished)
    sent = pickle.dumps(model)
    assert len(sent) < 20_000
    arrived = pickle.loads(sent)
    assert arrived is pickle.loads(sent)
    lr = sea_floor(20)
    np.testing.assert_array_equal(arrived.predict(lr), model.predict(lr))
    model.__dict__["checksum"] = 1
    with pytest.raises(DataError, match="does not hold the weights"):
        pickle.loads(pickle.dumps(model))


def test_other_arrays_are_refused(finished):
    """Only a DataArray can be lazy."""
    with pytest.raises(DataError, match=r"takes an xarray\.DataArray; received ndarray"):
        toolbox.predict_dask(sea_floor(20), finished)
