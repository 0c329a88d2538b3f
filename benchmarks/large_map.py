"""A map larger than memory: map -> data set -> one epoch: ``python -m benchmarks.large_map``.

Writes a synthetic sea floor of SIDE x SIDE pixels by windows, builds a data set from it, samples it
with ``regions``, and trains ESPCN for one epoch, each step in a process of its own. Told are the
time, the peak of the resident memory (``VmHWM``, mapped files included) and that of the anonymous
memory (``RssAnon``, what cannot be given back), children included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

_ROWS, _TILE = 512, 1024
_POLL_S = 0.02


def rough_tile() -> np.ndarray:
    """Return rough relief that can be laid side by side, (1024, 1024) float32, metres."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_TILE), np.fft.rfftfreq(_TILE), indexing="ij"))
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(_TILE, _TILE))) / frequency**1.5
    spectrum[0, 0] = 0
    relief = np.fft.irfft2(spectrum, (_TILE, _TILE))
    return (40 * relief / relief.std()).astype(np.float32)


def window(tile: np.ndarray, first: int, last: int, side: int) -> np.ndarray:
    """Return rows of the map, (last - first, side) float32, in sixteenths of a metre, with gaps."""
    rows, columns = np.arange(first, last)[:, None], np.arange(side)
    wide = np.sin(rows / 900) * np.cos(columns / 1100)
    z = -3000 + 800 * wide.astype(np.float32) + tile[rows % _TILE, columns % _TILE]
    z = np.rint(16 * z) / 16
    # Lone gaps that are filled, and holes that stay.
    z[(rows * 7919 + columns * 104729) % 20011 == 0] = np.nan
    z[(rows % 6000 < 40) & (columns % 5000 < 300)] = np.nan
    return z.astype(np.float32)


def write_map(path: Path, side: int) -> None:
    """Write the map as GeoTIFF (tiled, deflate) or ``.npy``, row by row."""
    tile = rough_tile()
    parts = [(first, min(side, first + _ROWS)) for first in range(0, side, _ROWS)]
    if path.suffix == ".npy":
        with open(path, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (side, side)}
            np.lib.format.write_array_header_1_0(file, header)
            for first, last in parts:
                file.write(window(tile, first, last, side).data)
        return
    import rasterio

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=1,
        dtype="float32",
        crs="EPSG:32655",
        transform=rasterio.Affine(50, 0, 2e5, 0, -50, 8e6),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        predictor=3,
        BIGTIFF="YES",
        nodata=float("nan"),
        num_threads="all_cpus",
    ) as target:
        for first, last in parts:
            place = ((first, last), (0, side))
            target.write(window(tile, first, last, side), 1, window=place)


def processes(pid: int) -> list[int]:
    """Return a process and its descendants, whichever of its threads started them."""
    found = [pid]
    for number in found:
        for listed in Path(f"/proc/{number}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has just ended
                found += [int(child) for child in listed.read_text().split()]
    return found


def status(pid: int) -> dict[str, int]:
    """Return the memory of a process in KiB, by the names of Linux; empty if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines if line.endswith("kB"))
    return {key: int(value.split()[0]) for key, value in pairs}


def measured(command: list[str], log: Path) -> dict[str, float]:
    """Run a program; return seconds, processor time, and the peaks of its memory in GiB."""
    start, before, peak, anonymous = time.perf_counter(), os.times(), 0, 0
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    with open(log, "wb") as out:
        program = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        while program.poll() is None:
            found = [status(pid) for pid in processes(program.pid)]
            peak = max(peak, sum(one.get("VmHWM", 0) for one in found))
            anonymous = max(anonymous, sum(one.get("RssAnon", 0) for one in found))
            time.sleep(_POLL_S)
    used = os.times()
    if program.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_s": round(sum(used[2:4]) - sum(before[2:4]), 1),
        "peak_gib": round(peak / 2**20, 2),
        "anonymous_gib": round(anonymous / 2**20, 2),
    }


def settings(folder: Path, args: argparse.Namespace) -> dict[str, list[str]]:
    """Write the settings of each step; return its command line."""
    name = str(folder / f"map.{args.kind}")
    blocks = max(10, args.side // 3000)
    build = {
        "hr_fname": name,
        "save_dir": str(folder / "data"),
        "delta_hr_m": 50,
        "block_shape": [blocks, blocks],
        "lr_stride": [args.stride, args.stride],
        "overwrite": True,
    }
    regions = {
        "save_dir": str(folder / "sampled"),
        "overwrite": True,
        "regions": {"a": {"hr_fname": name, "delta_hr_m": 50, "patches": 4000, "coarsen": [1, 2]}},
    }
    train = {
        "data_dir": str(folder / "data"),
        "log_dir": str(folder / "log"),
        "input_shape": [16, 16, 1],
        "scale": 4,
        "model": "espcn",
        "normalizer": "local_mean",
        "bicubic_skip": True,
        "loss": "mae",
        "batch_size": args.batch_size,
        "epochs": 1,
        "log_period": 100,
    }
    for step, content in (("build", build), ("regions", regions), ("train", train)):
        (folder / f"{step}.yml").write_text(yaml.safe_dump(content))
    python = [sys.executable, "-m"]
    return {
        "build": [*python, "sr_dataset_builder.dataset", str(folder / "build.yml")],
        "regions": [*python, "sr_dataset_builder.regions", str(folder / "regions.yml")],
        "train": [*python, "sr_trainer.main", str(folder / "train.yml"), "train", "--overwrite"],
    }


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=12_000, help="rows and columns of the map")
    parser.add_argument("--kind", choices=("tif", "npy"), default="tif")
    parser.add_argument("--stride", type=int, default=16, help="offset of LR patches, pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", nargs="+", default=["build", "regions", "train"])
    parser.add_argument("--folder", help="where the files go, and stay; default: for the time")
    args = parser.parse_args()
    folder = Path(args.folder or tempfile.mkdtemp(prefix="large_map_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = folder / f"map.{args.kind}"
        if not path.exists():
            start = time.perf_counter()
            write_map(path, args.side)
            print(f"map written in {time.perf_counter() - start:.0f} s", flush=True)
        size = path.stat().st_size / 2**30
        print(f"{args.side}² pixels, {args.side**2 / 2**28:.2f} GiB, as file {size:.2f} GiB")
        for step, command in settings(folder, args).items():
            if step in args.steps:
                found = measured(command, folder / f"{step}.log")
                print(json.dumps({"step": step, **found}), flush=True)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
