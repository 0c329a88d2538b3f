"""Time of `predict` on a whole map, and of plain networks: ``python -m benchmarks.predict_map``.

3000 × 3000 pixels become 12,000 × 12,000 with ESPCN (×4, one channel, bicubic skip, local mean).
Ours works from file to file: read, tiles with their surroundings, normaliser, network, work file,
result. "By hand" does the same with ``model.predict``: the whole map in memory, patches of 250 ×
250 pixels side by side, with seams. The others receive normalised patches in memory and return
normalised pixels: Keras ``model.predict``, and PyTorch (extra ``bench``), eager and channels-last.
Each runs in a separate process, in turn. Ratios are computed within a round and are above 1 where
ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.rows import Row, printed

SIDE, PATCH, SCALE = 3000, 250, 4
CONFIG = {
    "data_dir": "none",
    "input_shape": [16, 16, 1],
    "scale": SCALE,
    "model": "espcn",
    "normalizer": "local_mean",
    "bicubic_skip": True,
}


def _map() -> np.ndarray:
    """Return rough ground at about -3000 m, float32 of shape (SIDE, SIDE), metres."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 3, (SIDE, SIDE)).astype(np.float32)
    return steps.cumsum(0).cumsum(1) / 30 - 3000


def make_run(folder: Path) -> None:
    """Write the map and a log folder with an untrained network."""
    from toolbox.config import write_yaml
    from toolbox.io.weights import save_weights
    from toolbox.model.build import build_network
    from toolbox.normalizer import LocalMeanNormalizer, save_normalizer

    write_yaml(CONFIG, folder / "config.yml", "benchmark")
    save_normalizer(LocalMeanNormalizer(10.0), folder)
    save_weights(build_network(CONFIG), folder / "weights_best.h5")
    np.save(folder / "map.npy", _map())


def ours(folder: Path, ending: str) -> dict[str, float]:
    """Predict from file to file; seconds exclude the start of Python and TensorFlow."""
    from sr_trainer.initializer import Initializer
    from sr_trainer.main import Main

    Initializer.tf_init()
    arguments = [str(folder), "predict", str(folder / "map.npy"), "--overwrite"]
    start = time.perf_counter()
    Main([*arguments, "-o", str(folder / f"result{ending}")]).run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak}


def _patches() -> np.ndarray:
    count = SIDE // PATCH
    cut = _map().reshape(count, PATCH, count, PATCH).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(-1, PATCH, PATCH, 1)) / 1000


def keras_predict(folder: Path) -> dict[str, float]:
    """Call ``model.predict`` on patches in memory, with the best of three batch sizes."""
    from sr_trainer.initializer import Initializer

    Initializer.tf_init()
    from toolbox.model.build import build_network

    model, patches = build_network(CONFIG), _patches()
    return {
        "seconds": min(
            _timed(lambda size=size: model.predict(patches, batch_size=size, verbose=0))
            for size in (1, 4, 16)
        )
    }


def by_hand(folder: Path) -> dict[str, float]:
    """Process patches without surroundings from file to file, as one would without `predict`."""
    from sr_trainer.initializer import Initializer

    Initializer.tf_init()
    from toolbox.model.build import build_network
    from toolbox.normalizer import load_normalizer

    model, normalizer = build_network(CONFIG), load_normalizer(folder)

    def work() -> None:
        count, whole = SIDE // PATCH, np.load(folder / "map.npy", allow_pickle=False)
        cut = whole.reshape(count, PATCH, count, PATCH).swapaxes(1, 2)
        lr = np.ascontiguousarray(cut.reshape(-1, PATCH, PATCH, 1))
        y = model.predict(normalizer.normalize_x(lr), batch_size=4, verbose=0)
        hr = normalizer.denorm_funcs(lr, SCALE)[1](y)
        large = hr.reshape(count, count, PATCH * SCALE, PATCH * SCALE).swapaxes(1, 2)
        np.save(folder / "by_hand.npy", large.reshape(SIDE * SCALE, SIDE * SCALE))

    seconds = _timed(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak}


def torch_predict(folder: Path) -> dict[str, float]:
    """Run PyTorch on patches in memory, with the best of two layouts and two batch sizes."""
    import torch

    from benchmarks.torch_networks import bicubic, espcn

    network, skip = espcn(SCALE).eval(), bicubic(SCALE)
    patches = torch.from_numpy(_patches()).permute(0, 3, 1, 2).contiguous()

    def run(layout: Any, size: int) -> None:
        network.to(memory_format=layout)
        with torch.inference_mode():
            results = [
                network(part) + skip(part) for part in patches.to(memory_format=layout).split(size)
            ]
        torch.cat(results)

    layouts = torch.contiguous_format, torch.channels_last
    return {
        "seconds": min(
            _timed(lambda layout=layout, size=size: run(layout, size))
            for layout in layouts
            for size in (1, 4)
        )
    }


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


SIDES: dict[str, Callable[[Path], dict[str, float]]] = {
    "predict, .npy": lambda folder: ours(folder, ".npy"),
    "predict, .tif": lambda folder: ours(folder, ".tif"),
    "by hand, .npy": by_hand,
    "model.predict": keras_predict,
    "PyTorch": torch_predict,
}


def _in_own_process(side: str, folder: Path, python: str) -> dict[str, float]:
    command = [
        python if side == "PyTorch" else sys.executable,
        "-m",
        "benchmarks.predict_map",
        "--side",
        side,
        "--folder",
        str(folder),
        "--pixels",
        str(SIDE),
    ]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def _rows(speeds: dict[str, float], peaks: dict[str, float]) -> list[Row]:
    """Return rows for ``python -m benchmarks``: files beside the networks alone."""
    alone = {side: speeds[side] for side in ("PyTorch", "model.predict") if side in speeds}
    rival, speed = next(iter(alone.items()), ("", None))
    made = f"{SIDE * SCALE:,}²"
    return [
        Row(f"{made}, {side}", value, "Mpixel/s", rival, speed, peaks[side] or None)
        for side, value in speeds.items()
        if side not in alone
    ] + [Row(f"{made}, {side} alone", value, "Mpixel/s") for side, value in alone.items()]


def main() -> None:
    """Measure all sides in turn and print a table."""
    global SIDE, PATCH
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--pixels", type=int, default=SIDE, help="along a side of the map")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    SIDE, PATCH = args.pixels, min(PATCH, args.pixels)
    if args.side:
        print(json.dumps(SIDES[args.side](args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        make_run(folder)
        rounds = [
            {side: _in_own_process(side, folder, args.python) for side in args.sides}
            for _ in range(args.rounds)
        ]
    pixels = (SIDE * SCALE) ** 2 / 1e6
    reference = args.sides[0]
    print(f"{'':16}{'Mpixel/s':>10}{'peak MiB':>10}   time / that of {reference}")
    speeds, peaks = {}, {}
    for side in args.sides:
        speeds[side] = speed = median(pixels / figures[side]["seconds"] for figures in rounds)
        peaks[side] = peak = max(figures[side].get("peak_mib", 0) for figures in rounds)
        ratio = median(f[side]["seconds"] / f[reference]["seconds"] for f in rounds)
        print(f"{side:16}{speed:10.2f}{peak or float('nan'):10.0f}{ratio:10.2f}")
    if args.json:
        printed(_rows(speeds, peaks))


if __name__ == "__main__":
    main()
