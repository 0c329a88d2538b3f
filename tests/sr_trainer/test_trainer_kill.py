"""Runs killed at random moments and resumed end with the bytes of a run that was left alone.

``KILLS=20 pytest tests/sr_trainer/test_trainer_kill.py`` (or ``make test-kill``) kills more often.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from toolbox.training.checkpoint import Checkpoint, load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", "3"))
#: Of 12 pairs in batches of 4, so often an epoch that there are eight steps a kill.
REPEATS = max(4, -(-KILLS // 3))
EPOCHS, STEPS = 4, 3 * REPEATS
#: Whatever has a state: augmentation, dropout or label noise, stages, schedule, averages.
SETTINGS = {
    "epochs": EPOCHS,
    "pretrain_epochs": 1,
    "optimizer": "adam",
    "learning_rate": 0.003,
    "d_learning_rate": 0.002,
    "lr_schedule": {"name": "cosine", "warmup_epochs": 0.5},
    "clip_norm": 1.0,
    "ema": 0.9,
    "loss": {"mae": 1, "mse": 0.5},
    "patience": 50,
    "seed": 3,
    "online_da": {
        "valid": True,
        "horizontal_flip": True,
        "vertical_flip": True,
        "rotation_range": 30,
        "steps_per_epoch_mag": REPEATS,
    },
}
SMALL = {"filters": 4, "num_residual_blocks": 1, "d_filters": 2, "d_num_downsampling_blocks": 1}
SMALL |= {"loss_weights": [1, 0.01]}
MODELS = {
    "srgan": {**SMALL, "label_noise": 0.1},
    "esrgan": {**SMALL, "growth": 4, "dropout_rate": 0.4},
    "pix2pix": {"filters": 4, "dropout_rate": 0.3, "d_filters": 2, "conditional": True},
}
#: SRGAN learns from photographs, ESRGAN from patches of sea floor, pix2pix from pairs of pictures.
PHOTO = {
    "source": "photo",
    "input_shape": [8, 8, 3],
    "scale": 2,
    "norm_range": [0, 255],
    "photo": {"lr_crop": 8, "shares": [12, 2, 2], "degradation": {"jpeg": [80, 95]}},
}
PAIRS = {
    "source": "picture_pairs",
    "input_shape": [16, 16, 3],
    "scale": 1,
    "norm_range": [0, 255],
    "picture_pairs": {"size": 16, "jitter": 4, "shares": [12, 2, 2]},
}
#: Settings that differ between the two runs: where and how often they write.
OWN = ("log_dir", "checkpoint_minutes")


@dataclasses.dataclass
class Chain:
    """A run left alone and one killed and resumed, both complete."""

    whole: Path
    killed: Path
    moments: list[tuple[int, int]]
    starts: list[tuple[int, int]]


def start_training(config):
    """Run ``python main.py CONFIG train --resume``."""
    return subprocess.Popen(
        [sys.executable, "main.py", str(config), "train", "--resume"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def newest_state(folder):
    """Return (epoch, step) of the newest state file, (-1, 0) without one."""
    found = [re.findall(r"\d+", path.stem) for path in folder.glob("checkpoint/state_*.npz")]
    return max(((int(epoch), int(step)) for epoch, step in found), default=(-1, 0))


def kill_at(process, folder, moment, delay):
    """Kill a training `delay` seconds after it saved a state of its own, at or past `moment`."""
    deadline, start = time.monotonic() + 200, newest_state(folder)
    while newest_state(folder) < moment or newest_state(folder) == start:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the training never came to {moment}:\n{process.communicate()[0][-2000:]}")
        time.sleep(0.003)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "the training was over before it was killed"


def complete(process):
    """Wait for the end of a training; return what it printed."""
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out[-2000:]
    return out


def random_moments(kind, count):
    """Return `count` moments (epoch, step) spread over the run, and delays in seconds.

    The second, and then every third, is put to the end of an epoch, where validation is and most
    files are written.
    """
    rng = np.random.default_rng([KILLS, list(MODELS).index(kind)])
    last = EPOCHS * STEPS - 4  # what comes after is over before a kill could come
    first = 1 if count > 1 else STEPS + 1  # a single kill comes when both networks learn
    bounds = itertools.pairwise(np.linspace(first, last, count + 1))
    numbers = [int(rng.uniform(low, high)) for low, high in bounds]
    for i in range(1, count, 3):
        end = STEPS * max(1, round(numbers[i] / STEPS)) - 1
        if end < last and end not in numbers:
            numbers[i] = end
    return [divmod(n, STEPS) for n in sorted(numbers)], rng.uniform(0, 0.1, count).tolist()


def write_photos(folder, count):
    """Write photographs of 40 × 32 pixels; return their folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (5, 4, 3), np.uint8), (32, 40))
        cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
    return folder


def run_chain(shop, kind, count):
    """Train without a break; then another time with kills."""
    settings = {**SETTINGS, "model": kind, kind: MODELS[kind]}
    if kind == "srgan":
        settings |= {**PHOTO, "data_dir": write_photos(shop.folder / "photos", 16)}
    if kind == "pix2pix":
        pairs = shop.folder / "pairs"
        settings |= {**PAIRS, "data_dir": pairs}
        for part in ("input", "target"):
            write_photos(pairs / part, 16)
    complete(start_training(shop.config(f"{kind}_whole.yml", **settings)))
    config = shop.config(f"{kind}_killed.yml", checkpoint_minutes=1e-9, **settings)
    folder = config.with_suffix("")
    moments, delays = random_moments(kind, count)
    starts = []
    for moment, delay in zip(moments, delays, strict=True):
        kill_at(start_training(config), folder, moment, delay)
        starts.append(newest_state(folder))
    out = complete(start_training(config))
    if starts:
        epochs, steps = starts[-1]
        words = f"{epochs} epoch{'s' * (epochs != 1)} and {steps} step{'s' * (steps != 1)}"
        assert f"resuming after {words}\n" in out
    return Chain(shop.folder / f"{kind}_whole", folder, moments, starts)


@pytest.fixture(scope="module")
def chains(open_workshop, tmp_path_factory, tiny_patches):
    """Two kinds at the same time, on a core each."""
    shop = open_workshop(tmp_path_factory.mktemp("kill"), tiny_patches)
    third = KILLS // 3
    counts = {"srgan": KILLS - 2 * third, "esrgan": third, "pix2pix": third}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = {kind: pool.submit(run_chain, shop, kind, counts[kind]) for kind in MODELS}
        return {kind: future.result() for kind, future in futures.items()}


@pytest.fixture(params=MODELS)
def chain(request, chains):
    return chains[request.param]


def state(folder):
    """Return the newest state; its settings without those that may differ."""
    found = load_checkpoint(folder / "checkpoint")
    assert isinstance(found, Checkpoint)
    found.facts["settings"] = {
        key: value for key, value in found.facts["settings"].items() if key not in OWN
    }
    return found


def test_the_state_is_bit_identical(chain):
    """Weights of both networks, all slots, averages, generators, best values, loss sums."""
    whole, killed = state(chain.whole), state(chain.killed)
    assert (whole.epoch, whole.step) == (killed.epoch, killed.step) == (EPOCHS, 0)
    assert len(whole.arrays) == len(killed.arrays) > 100
    different = [
        i
        for i, (one, other) in enumerate(zip(whole.arrays, killed.arrays, strict=True))
        if one.dtype != other.dtype or one.tobytes() != other.tobytes()
    ]
    assert different == []
    assert killed.facts == whole.facts


def test_the_history_has_no_gap_and_no_double_line(chain):
    """history.csv is the same text: a line an epoch, in the stage's columns."""
    text = (chain.killed / "history.csv").read_text()
    assert text == (chain.whole / "history.csv").read_text()
    table = pd.read_csv(chain.killed / "history.csv")
    assert table["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert table["d_loss"].isna().tolist() == [True] + [False] * (EPOCHS - 1)
    assert table["loss"].nunique() == EPOCHS


def arrays_of(path):
    """Return every array of an HDF5 file by its path."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item}) if _is_array(item) else None)
        return {name: item[()] for name, item in found.items()}


def _is_array(item):
    return isinstance(item, h5py.Dataset)


def test_the_files_are_the_same(chain):
    """The same files, none of them temporary; weights with the same numbers, equal settings."""

    def names(folder):
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    states = [name for name in names(chain.killed) if name.startswith("checkpoint/")]
    assert states == [
        f"checkpoint/state_{EPOCHS - 1:06d}_{STEPS - 1:07d}.npz",
        f"checkpoint/state_{EPOCHS:06d}_0000000.npz",
    ]
    files = [name for name in names(chain.killed) if name not in states]
    assert files == [name for name in names(chain.whole) if "checkpoint/" not in name]
    assert {"weights_pixel.h5", "weights_best.h5", "weights_last.h5"} < set(files)
    for name in files:
        if name.endswith(".h5"):
            one, other = arrays_of(chain.whole / name), arrays_of(chain.killed / name)
            assert one.keys() == other.keys()
            assert all(one[key].tobytes() == other[key].tobytes() for key in one), name
    assert (chain.killed / "normalizer.json").read_text() == (
        chain.whole / "normalizer.json"
    ).read_text()


def test_the_kills_came_when_they_should(chain):
    """Every process was killed after its moment and went on from there, never from the start."""
    assert len(chain.starts) == len(chain.moments)
    for moment, start in zip(chain.moments, chain.starts, strict=True):
        assert start >= moment
    assert all(one < other for one, other in itertools.pairwise([(0, 0), *chain.starts]))
