"""Rotating a training set: ``python -m benchmarks.augment [--pairs 11053]``.

Eleven rotations of 64² and 16² patches by the program, from file to file, compared with a plain
loop of ``scipy.ndimage.rotate`` over single patches (cubic spline, reflect) in the same run. The
loop is timed on a part of the patches and extrapolated; it writes nothing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from sr_dataset_builder.pair_files import append_copies
from sr_dataset_builder.rotate import RotateParams, rotations
from toolbox.io.safe_pickle import save_array
from toolbox.resample import block_mean

ANGLES = tuple(float(angle) for angle in range(30, 360, 30))


def plain_loop(hr: np.ndarray, lr: np.ndarray) -> float:
    """Return the time for rotating the patches one by one by all angles, seconds."""
    start = time.perf_counter()
    for angle in ANGLES:
        for imgs in (hr, lr):
            for img in imgs[..., 0]:
                ndimage.rotate(img, angle, reshape=False, order=3, mode="reflect")
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11053)
    parser.add_argument("--looped", type=int, default=200, help="patches that the loop rotates")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    hr = rng.normal(-1000, 100, (args.pairs, 64, 64, 1)).astype(np.float32)
    lr = block_mean(hr, 4)
    looped = plain_loop(hr[: args.looped], lr[: args.looped]) * args.pairs / args.looped
    copies = rotations(ANGLES, "reflect")
    start = time.perf_counter()
    for imgs in (hr, lr):
        for first in range(0, args.pairs, 2048):
            for turned in copies.make(imgs[first : first + 2048]):
                np.ascontiguousarray(turned)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as name:
        for kind, imgs in (("HR", hr), ("LR", lr)):
            save_array(imgs, Path(name, f"data_{kind}.pkl"))
        del hr, lr, imgs
        for ending in (".npy", ".pkl"):
            saved = (f"out_HR{ending}", f"out_LR{ending}")
            start = time.perf_counter()
            append_copies(RotateParams(train_dir=name, train_savedata=saved), [copies])
            print(f"program, files in and out as {ending}: {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"rotation only: {seconds:.1f} s; plain loop: {looped:.1f} s; ratio {looped / seconds:.1f}"
    )
    print(f"peak memory {peak:.2f} GB, including mapped file pages")


if __name__ == "__main__":
    main()
