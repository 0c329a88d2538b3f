"""Several devices and workers give the figures of one device; what a worker's death leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import distribution_runs
import h5py
import numpy as np
import pandas as pd
import pytest

from sr_trainer.launch import Workers, _gpus_for
from sr_trainer.launch import main as launch
from toolbox.errors import ConfigError
from toolbox.training.checkpoint import load_checkpoint
from toolbox.training.distribution import Distribution, read_cluster

ROOT = Path(__file__).resolve().parents[2]
#: SEM, SRGAN and pix2pix take longer to trace; `distribution_runs` has them, too.
RUNS = ("srcnn", "phases")
CHECKSUM = re.compile(r"all workers have the same weights, CRC-32 (\w{8})")


def environment(**further):
    """Return the variables of a process that tests start."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg", **further}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on one device and on two halves of a CPU, made in one process."""
    folder = tmp_path_factory.mktemp("runs")
    script = ROOT / "tests" / "distribution_runs.py"
    subprocess.run(
        [sys.executable, script, folder, *RUNS, "phases+", "esrgan=none"],
        env=environment(SR_CPU_DEVICES="2"),
        check=True,
        capture_output=True,
        timeout=1800,
    )
    return folder


def launched(path, *options):
    """Start two workers."""
    return subprocess.Popen(
        [sys.executable, "-m", "sr_trainer.launch", "--workers", "2", path, "train", *options],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights_of(log):
    """Return every array of the last weights, by its name in the file."""
    arrays = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(log / "weights_last.h5") as stored:
        stored.visititems(collect)
    assert arrays
    return arrays


def assert_equal_runs(log, other):
    """Assert that history and weights are equal to four digits."""
    one, two = (pd.read_csv(path / "history.csv") for path in (log, other))
    pd.testing.assert_frame_equal(one, two, rtol=1e-4, atol=1e-7)
    for name, array in weights_of(log).items():
        np.testing.assert_allclose(weights_of(other)[name], array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RUNS)
def test_mirrored_equals_one_device(folder, name):
    """Losses, metrics and weights, of training and validation with a short last batch."""
    assert_equal_runs(folder / f"{name}_none", folder / f"{name}_mirrored")


def test_mirrored_resumes_bit_by_bit(folder):
    """With dropout, whose random numbers differ between the replicas."""
    states = [load_checkpoint(folder / f"phases_{n}" / "checkpoint") for n in ("whole", "parts")]
    assert states[0].epoch == states[1].epoch == 2
    for one, two in zip(*(state.arrays for state in states), strict=True):
        assert one.tobytes() == two.tobytes()
    histories = [(folder / f"phases_{n}" / "history.csv").read_bytes() for n in ("whole", "parts")]
    assert histories[0] == histories[1]


def test_two_workers_equal_one_device(folder):
    """ESRGAN, whose discriminator compares with the mean of the whole batch."""
    path = distribution_runs.settings(folder, "esrgan", "multi_worker")
    process = launched(path)
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert_equal_runs(folder / "esrgan_none", folder / "esrgan_multi_worker")
    other = (folder / "esrgan_multi_worker_workers" / "worker_1.log").read_text()
    assert CHECKSUM.findall(out) == CHECKSUM.findall(other) != []
    # The other worker has written nothing but its output.
    names = {path.name for path in (folder / "esrgan_multi_worker").iterdir()}
    assert names == {path.name for path in (folder / "esrgan_none").iterdir()}


def test_killed_worker_and_resume(folder):
    """One line and an exit code at once; resumed with two workers it ends as one device does."""
    often = {"checkpoint_minutes": 1e-9, "steps_per_execution": 1}  # a state after every step
    path = distribution_runs.settings(folder, "srcnn", "multi_worker", **often)
    log = path.with_suffix("")
    process = launched(path)
    while not list(log.glob("checkpoint/state_00000?_000000[1-9].npz")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[int(time.time()) % 2]), signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode == 2
    last = err.replace("\r", "\n").splitlines()[-1]
    assert re.match(r"error: worker [01] of 2 was killed by SIGKILL, .* Resume .* --resume$", last)
    assert "Traceback" not in err
    process = launched(path, "--resume")
    _, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert_equal_runs(folder / "srcnn_none", log)


def test_own_part_of_a_batch():
    """Replicas of a worker cut consecutive parts; a whole batch is theirs together."""
    batch = np.arange(8)
    parts = []
    for worker in range(2):
        spread = Distribution()
        spread.replicas, spread.local, spread.first = 4, 2, 2 * worker
        parts.append(spread._cut(2)(batch))
    np.testing.assert_array_equal(np.concatenate(parts), batch.reshape(4, 2))


@pytest.mark.parametrize(
    ("text", "addresses", "worker"),
    [
        ('{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}', 2, 1),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"index": 0}}', 2, 1),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "chief"}}', 2, 0),
    ],
)
def test_cluster_is_read(text, addresses, worker):
    """A chief counts before the workers."""
    cluster = read_cluster({"TF_CONFIG": text})
    assert (len(cluster.addresses), cluster.worker) == (addresses, worker)
    assert read_cluster({}) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "must be JSON such as"),
        ('["a"]', "must be JSON such as"),
        ('{"cluster": {"worker": "a:1,b:2"}}', "must be JSON such as"),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"index": 0}}', "ps among them"),
        ('{"cluster": {"worker": ["b:1"]}, "task": {"index": 3}}', "index 3"),
    ],
)
def test_bad_cluster_is_refused(text, words):
    """A TF_CONFIG that names no workers, or not this one."""
    with pytest.raises(ConfigError, match=words):
        read_cluster({"TF_CONFIG": text})


def test_workers_need_to_be_named(workshop):
    """Without TF_CONFIG there is one line on how to start them."""
    result = workshop.run(workshop.config(distribution="multi_worker"), "train")
    result.refused("TF_CONFIG", "sr_trainer.launch")


def test_batch_must_be_divisible():
    """A batch is cut into equal parts."""
    spread = Distribution()
    spread.replicas = spread.workers = 3
    with pytest.raises(ConfigError, match=r"divisible by the number of replicas, 3 .* Use 18"):
        spread.refuse_batch_size("input.yml", 16)


def test_unknown_distribution_is_refused(workshop):
    """A word that is none of the three."""
    result = workshop.run(workshop.config(distribution="many"), "train")
    result.refused("distribution must be", "many")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0", "run.yml", "train"], "at least 1"),
        (["--workers", "x", "run.yml", "train"], "--workers must be a whole number; received 'x'"),
        (["nowhere/run.yml", "train"], "nowhere/run.yml: no such file"),
        (["run.yml", "test"], "only train has workers"),
        ([], "command line of the training is missing"),
        (["run.yml", "train", "--distribution", "none"], "multi_worker"),
    ],
)
def test_bad_launch_is_refused(arguments, words, capsys):
    """The launcher trains, with at least one worker."""
    with pytest.raises(SystemExit):
        launch(arguments)
    assert words in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_gpus_are_dealt(monkeypatch):
    """Each worker has as many GPUs of its own; more workers than GPUs are refused."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5")
    assert _gpus_for(1) == [["0", "2", "5"]]
    assert _gpus_for(3) == [["0"], ["2"], ["5"]]
    assert _gpus_for(2) == [["0"], ["2"]]
    with pytest.raises(ConfigError, match="must not exceed the 3 GPUs"):
        _gpus_for(4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert _gpus_for(4) == []


def test_failing_worker_shows_its_output(tmp_path, capfd, monkeypatch):
    """Where another than worker 0 fails, the end of its output and one line are shown."""
    program = (
        "import json, os, sys, time\n"
        "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        "print('worker', index, flush=True)\n"
        "sys.exit('error: no data') if index else time.sleep(60)\n"
    )
    monkeypatch.setattr("sr_trainer.launch._GRACE_S", 0.5)
    workers = Workers(2, ["input.yml", "train"], tmp_path)
    monkeypatch.setattr(workers, "_line", lambda: [sys.executable, "-c", program])
    workers.start()
    with pytest.raises(Exception, match=r"worker 1 of 2 failed with code 1, .*--workers 2 input"):
        workers.wait()
    assert all(process.returncode for process in workers.processes)
    assert "error: no data" in capfd.readouterr().err
