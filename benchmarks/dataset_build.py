"""Time and peak memory of building the manual's data set: ``python -m benchmarks.dataset_build``.

Rasters of 4400 × 4000 and 1100 × 1000 pixels with 1 % missing are cut into 44 × 40 blocks and
44,000 pairs. A plain loop cuts the same patches in the same run, for the ratio.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from sr_dataset_builder.dataset import BuildParams, Dataset
from toolbox.io.safe_pickle import load_array, save_array
from toolbox.resample import block_mean


def make_rasters(folder: Path, missing: float) -> tuple[Path, Path]:
    """Write a smooth synthetic sea floor with gaps, HR and LR, as the manual's pickles."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, 45, 41, 1)).cumsum(axis=1).cumsum(axis=2)
    hr = -1000 + 20 * np.kron(coarse[0, :44, :40, 0], np.ones((100, 100)))
    hr = (hr + rng.normal(size=hr.shape)).astype(np.float32)
    lr = block_mean(hr[None, ..., None], 4)[0, ..., 0].copy()
    for name, raster in (("lr", lr), ("hr", hr)):
        raster[rng.random(raster.shape) < missing] = np.nan
        save_array(raster, folder / f"{name}.pkl")
    return folder / "lr.pkl", folder / "hr.pkl"


def plain_loop(hr: np.ndarray) -> int:
    """Fill and cut the HR raster one pixel and one patch at a time, as in a first draft."""
    filled = hr.copy()
    for row, column in np.argwhere(np.isnan(hr)):
        window = hr[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        filled[row, column] = np.nanmean(window)
    patches = []
    for top in range(0, 4400, 100):
        for left in range(0, 4000, 100):
            for i in range(5):
                for j in range(5):
                    r, c = top + 8 * i, left + 8 * j
                    patch = filled[r : r + 64, c : c + 64]
                    if not np.isnan(patch).any():
                        patches.append(patch.copy())
    return len(np.stack(patches))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", type=float, default=0.01, help="share of missing pixels")
    missing = parser.parse_args().missing
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lr, hr = make_rasters(folder, missing)
        start = time.perf_counter()
        params = BuildParams(lr_fname=str(lr), hr_fname=str(hr), save_dir=str(folder / "out"))
        dataset = Dataset(params.lr_fname, params.hr_fname, params.block_shape, params)
        pairs = sum(len(getattr(dataset, f"x_{s}")) for s in ("train", "validation", "test"))
        dataset.save(params.save_dir)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        del dataset
        print(
            f"builder: {pairs} pairs, {seconds:.1f} s (goal: below 15), "
            f"peak {peak:.2f} GB (below 3)"
        )
        raster = load_array(hr)
        start = time.perf_counter()
        count = plain_loop(raster)
        loop = time.perf_counter() - start
    print(f"plain loop, HR only, nothing saved: {count} patches, {loop:.1f} s")
    print(f"ratio: {loop / seconds:.1f}")


if __name__ == "__main__":
    main()
