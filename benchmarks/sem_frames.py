"""Time and memory of large SEM frames: ``python -m benchmarks.sem_frames [--pairs N]``.

Writes N pairs of 2048 × 2048 pixels of 16 bits, measures the alignment alone on one core, trains a
small network on patches of them for one epoch, and tests it on them. All steps run in one process;
its peak memory is printed after each step.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from sr_trainer.main import main as sr_trainer
from toolbox.progress import progress
from toolbox.tasks.sem.alignment import estimate_shift
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image

_SIDE, _BORDER, _PITCH_PX = 2048, 16, 40
#: Noise of the short and the long exposure, counts; lines are 20,000 counts above spaces.
_NOISE = {"low": 3000.0, "high": 500.0}
_SETTINGS = {
    "source": "sem",
    "model": "simplesrnet",
    "simplesrnet": {"filters": 4, "num_layers": 2},
    "epochs": 1,
    "loss": "mae",
    "metrics": "psnr",
    "monitor_metric": "val_psnr",
    "final_evaluation": False,
    "jit_compile": False,
}


def make_scene(rng: np.random.Generator) -> np.ndarray:
    """Draw rough vertical lines in counts, with a border on all sides for shifted crops."""
    side = _SIDE + 2 * _BORDER
    left = np.arange(10, side - 20, _PITCH_PX)[:, None]
    rough = ndimage.gaussian_filter1d(rng.normal(0, 6, (2 * len(left), side)), 8, axis=1)
    columns = np.arange(side)
    scene = np.full((side, side), 8000.0)
    for place, first, last in zip(left, *np.split(rough, 2), strict=True):
        begin, end = (place + first)[:, None], (place + 18 + last)[:, None]
        inside = np.clip(columns - begin + 0.5, 0, 1) - np.clip(columns - end + 0.5, 0, 1)
        scene += 20000 * inside
    return np.asarray(ndimage.gaussian_filter(scene, 0.7))


def write_pairs(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Write pairs of one scene, each moved by whole pixels, with independent noise."""
    scene, noise = make_scene(rng), rng.normal(size=(_SIDE + 256, _SIDE + 256))
    for number in progress(range(count), "writing", unit="pair"):
        for kind, size in _NOISE.items():
            row, column = rng.integers(_BORDER - 3, _BORDER + 4, 2)
            top, left = rng.integers(0, 257, 2)
            image = scene[row : row + _SIDE, column : column + _SIDE]
            image = image + size * noise[top : top + _SIDE, left : left + _SIDE]
            counts = np.clip(image, 0, 65535).astype(np.uint16)
            write_sem_image(folder / kind / f"{kind}_{number:04}.tif", counts, 0.8)


def seconds_of_alignment(folder: Path) -> float:
    """Return the processor time of aligning a pair, the smallest of several, seconds."""
    seconds = []
    for low in sorted((folder / "low").iterdir())[:5]:
        name = low.name.replace("low", "high")
        moving, fixed = (read_sem_image(p).pixels for p in (folder / "high" / name, low))
        start = time.process_time()
        estimate_shift(moving, fixed)
        seconds.append(time.process_time() - start)
    return min(seconds)


def tell(step: str, start: float) -> None:
    """Print the time of a step and the peak memory of the process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{step}: {time.perf_counter() - start:.0f} s, peak {peak:.2f} GiB", flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--whole", action="store_true", help="no central crop")
    parser.add_argument("--folder", help="temporary folder, 17 MB per pair")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        write_pairs(folder / "train", args.pairs, rng)
        write_pairs(folder / "validation", max(2, args.pairs // 10), rng)
        print(f"alignment: {seconds_of_alignment(folder / 'train'):.2f} s per pair, one core")
        section = {"test_low_dir": "train/low", "test_high_dir": "train/high"}
        if args.whole:
            section |= dict.fromkeys(("central_crop_height", "central_crop_width"))
        content = {"data_dir": name, "log_dir": str(folder / "log"), "sem": section, **_SETTINGS}
        config = folder / "run.yml"
        config.write_text(yaml.safe_dump(content))
        start = time.perf_counter()
        tell("before", start)
        for mode in ("train", "test"):
            start = time.perf_counter()
            sr_trainer([str(config), mode])
            tell(mode, start)


if __name__ == "__main__":
    main()
