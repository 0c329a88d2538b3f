"""Training with several devices: ``python -m benchmarks.scaling --models espcn edsr``.

Images per second of the training steps alone, with the real data pipeline: on one device, with
``mirrored`` on 1 and 2 devices, and with 1 and 2 workers on this machine. Without a GPU a device of
``mirrored`` is a logical one, and the devices share the cores: then the figures show what the
sums cost, not what more hardware would bring. Each way runs in processes of its own, all of them in
turn in every round; the best epoch counts but the first, and the table has medians over the rounds.
CPU seconds (of all workers) per 1000 images do not depend on what else runs on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from benchmarks.rows import Row, printed
from sr_trainer.launch import Workers, visible_gpus

#: Networks with their sections; 16² → 64² pixels, one channel.
MODELS: dict[str, dict[str, Any]] = {
    "espcn": {},
    "srcnn": {},
    "edsr": {},
    "esrgan": {},
}
IMAGES = 512


def write_data(folder: Path) -> None:
    """Write random patches."""
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("validation", 16)):
        (folder / split).mkdir(parents=True)
        for kind, side in (("LR", 16), ("HR", 64)):
            imgs = rng.uniform(-2000, -500, (count, side, side, 1)).astype(np.float32)
            (folder / split / f"data_{kind}.pkl").write_bytes(pickle.dumps(imgs))


def write_settings(folder: Path, model: str, batch_size: int, epochs: int) -> Path:
    """Write the settings of a run."""
    path = folder / f"{model}.yml"
    content = {
        "data_dir": str(folder / "data"),
        "model": model,
        "batch_size": batch_size,
        "epochs": epochs,
        "metrics": ["psnr"],
        "log_period": 1000,
    }
    if MODELS[model]:
        content[model] = MODELS[model]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def train(fname: str, kind: Any, target: Path) -> None:
    """Train in this process, one of the workers; write what was measured."""
    from sr_trainer.initializer import Initializer
    from toolbox.training.distribution import open_distribution

    spread = open_distribution(kind)
    Initializer.tf_init(seed=0)
    import keras

    from sr_trainer.modeler import Modeler
    from sr_trainer.trainer import Trainer
    from toolbox.settings import UserParams

    class Timer(keras.callbacks.Callback):
        """Measures the training steps of every epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[float, float]] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            """Start."""
            self.start = time.perf_counter(), time.process_time()

        def on_test_begin(self, logs: Any = None) -> None:
            """Stop before the validation."""
            wall, cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
            self.found.append((wall, cpu))

    settings = UserParams(fname, distribution=kind)
    settings.log_dir = str(target.with_suffix(""))
    trainer = Trainer(settings, overwrite=True)
    limits = trainer.normalizer.max_val, trainer.normalizer.min_val
    model = Modeler(settings, *limits, trainer.steps_per_epoch, trainer.facts).build(verbose=0)
    timer = Timer()
    trainer.train(model, [timer])
    images = trainer.steps_per_epoch * settings.batch_size
    wall, cpu = (min(column) for column in zip(*timer.found[1:], strict=True))
    # All workers together have done the images: CPU seconds are added up, those of each in a file.
    result = {"images_per_s": images / wall, "cpu_s_per_1000": 1000 * cpu / images}
    target.with_name(f"{target.stem}_{spread.worker}.json").write_text(json.dumps(result))


def measure(fname: Path, way: str, folder: Path) -> dict[str, float]:
    """Train in one of the ways in processes of its own."""
    kind, count = way.split()[0], int(way.split()[1])
    target = folder / f"{fname.stem}_{kind}_{count}.json"
    line = [sys.executable, "-m", "benchmarks.scaling", "--train", str(fname), kind, str(target)]
    if kind == "multi_worker":
        workers = Workers(count, [str(fname), "train"], folder / "workers")
        workers._line = lambda: line  # type: ignore[method-assign]
        workers.start(quiet=True)
        if workers.wait():
            raise SystemExit(f"{way} has failed")
    else:
        own = {"SR_CPU_DEVICES": str(count)}
        if gpus := visible_gpus():
            own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[:count])
        subprocess.run(line, env={**os.environ, **own}, check=True, stdout=subprocess.DEVNULL)
    found = [json.loads(p.read_text()) for p in target.parent.glob(f"{target.stem}_[0-9]*.json")]
    return {
        "images_per_s": found[0]["images_per_s"],
        "cpu_s_per_1000": sum(each["cpu_s_per_1000"] for each in found),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["espcn", "edsr"])
    parser.add_argument("--batch-size", type=int, default=16, help="of all devices together")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        fname, kind, target = args.train
        train(fname, kind, Path(target))
        return
    ways = ["none 1"]
    ways += [f"{kind} {n}" for kind in ("mirrored", "multi_worker") for n in args.devices]
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data")
        for _ in range(args.rounds):
            for model in args.models:
                fname = write_settings(folder, model, args.batch_size, args.epochs)
                for way in ways:
                    found = figures.setdefault(model, {}).setdefault(way, [])
                    found.append(measure(fname, way, folder))
    print("| network | distribution | devices | images/s | of one device | CPU s / 1000 images |")
    print("|---|---|---|---|---|---|")
    rows = []
    for model, ways_of in figures.items():
        for way, found in ways_of.items():
            row = _row(model, way, found, ways_of["none 1"])
            kind, count = way.split()
            shown = f"{row.value:.0f} | {row.ratio:.2f} | {row.note.split()[0]}"
            print(f"| {model} | {kind} | {count} | {shown} |")
            rows.append(row)
    if args.json:
        printed(rows)


def _row(
    model: str, way: str, found: Sequence[dict[str, float]], alone: Sequence[dict[str, float]]
) -> Row:
    """Return the medians of a way over the rounds; the ratio is the median of each round's."""
    speed = median(each["images_per_s"] for each in found)
    pairs = zip(found, alone, strict=True)
    ratio = median(a["images_per_s"] / b["images_per_s"] for a, b in pairs)
    cpu = median(each["cpu_s_per_1000"] for each in found)
    kind, count = way.split()
    note = f"{cpu:.2f} CPU s / 1000 images"
    what = f"{model}, {kind}, {count} device{'s' * (count != '1')}"
    return Row(what, speed, "images/s", "one device", speed / ratio, note=note)


if __name__ == "__main__":
    main()
