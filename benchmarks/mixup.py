"""Adaptive Mixup of a training set: ``python -m benchmarks.mixup [--pairs 2000]``.

The whole program on seven kinds of patches of 64² and 16², mixed towards a steeper target: files
in, pool, features, choice and picked images out. In the same run a plain loop mixes and measures
as many patches, one at a time, in memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import peak_mib
from benchmarks.rows import Row, printed
from sr_dataset_builder.mixup import MixupParams, run
from toolbox.io.safe_pickle import save_array
from toolbox.resample import block_mean
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient, write_feature_csv

KINDS = 7


def patches(count: int, steepness: float, seed: int) -> np.ndarray:
    """Return rough ground of gentle to steep patches, (count, 64, 64, 1), metres."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, 64, 64, 1)).cumsum(1).cumsum(2) / 64
    slopes = steepness * rng.uniform(0.2, 5, (count, 1, 1, 1))
    return (slopes * noise - 2000).astype(np.float32)


def plain_loop(lr: np.ndarray, hr: np.ndarray) -> int:
    """Mix every patch with the next and measure its slope, one at a time."""
    made = []
    for i in range(len(lr) - 1):
        mixed = 0.8 * lr[i] + 0.2 * lr[i + 1], 0.8 * hr[i] + 0.2 * hr[i + 1]
        made.append((*mixed, mean_slope_gradient(mixed[0][None], 200.0)))
    return len(made)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixup")
    parser.add_argument("--pairs", type=int, default=2000, help="originals; there are seven kinds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    hr = np.concatenate([patches(args.pairs, 5, kind) for kind in range(KINDS)])
    lr = block_mean(hr, 4)
    target = block_mean(patches(max(8, args.pairs // 20), 10, 99), 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, imgs in (("HR", hr), ("LR", lr)):
            save_array(imgs, folder / f"data_{kind}.pkl")
        write_feature_csv(target, 200.0, folder / "target.csv", True)
        start = time.perf_counter()
        report = run(
            MixupParams(
                train_dir=name,
                target_data_csv=str(folder / "target.csv"),
                original_image_num=args.pairs,
                delta_lr_m=200.0,
            )
        )
        seconds = time.perf_counter() - start
        peak = peak_mib()
    start = time.perf_counter()
    plain_loop(lr, hr)
    loop = time.perf_counter() - start
    print(f"mixup: {len(hr)} patches in, {seconds:.2f} s, peak {peak:.0f} MiB; {report}")
    print(f"plain loop in memory, nothing read, picked or written: {loop:.2f} s")
    if args.json:
        what = f"{len(hr):,} patches mixed, measured and picked"
        printed([Row(what, seconds, "s", "plain loop, mixing alone", loop, peak)])


if __name__ == "__main__":
    main()
