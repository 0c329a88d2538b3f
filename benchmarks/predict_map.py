"""A whole map through `predict`, beside plain networks: ``python -m benchmarks.predict_map``.

2000 × 2000 pixels become 8000 × 8000 with ESPCN, FSRCNN (×4, one channel, bicubic skip, local
mean) or ``bathymetry_x4``: small networks, where everything else counts most. Ours is the whole
way from file to file with a loaded network: read, tiles with their surroundings, normaliser,
network, compression, result. "By hand" is the same way as one writes it with ``model.predict``:
the whole map in memory, patches of 250 × 250 pixels side by side, with seams. "Same tiles" is
``model.predict`` on the windows that `predict` uses, with the normaliser. The others get patches
normalised, in memory, and give normalised pixels back: Keras ``model.predict``, and PyTorch
(extra ``bench``) eager, channels-last or not. Each runs in a process of its own, in turn, and the
quicker of two times counts. A ratio is that of each round, above 1 where ours is faster; that of
CPU time is fair on a busy machine too. ``--other FOLDER`` runs another checkout as well.
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

SIDE, PATCH, SCALE = 2000, 250, 4
CONFIG = {
    "data_dir": "none",
    "input_shape": [16, 16, 1],
    "scale": SCALE,
    "model": os.environ.get("BENCH_MODEL", "espcn"),
    "normalizer": "local_mean",
    "bicubic_skip": True,
}


def _map() -> np.ndarray:
    """Return rough ground about -3000 m, (SIDE, SIDE) float32, metres."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 3, (SIDE, SIDE)).astype(np.float32)
    return steps.cumsum(0).cumsum(1) / 30 - 3000


def _ships() -> bool:
    return str(CONFIG["model"]).startswith("bathymetry")


def _resolver(folder: Path) -> Any:
    from toolbox.run import load_model

    return load_model(str(CONFIG["model"]) if _ships() else folder)


def make_network(folder: Path) -> None:
    """Write a log folder with an untrained network."""
    from toolbox.config import write_yaml
    from toolbox.io.weights import save_weights
    from toolbox.model.build import build_network
    from toolbox.normalizer import LocalMeanNormalizer, save_normalizer

    write_yaml(CONFIG, folder / "config.yml", "benchmark")
    save_normalizer(LocalMeanNormalizer(10.0), folder)
    save_weights(build_network(CONFIG), folder / "weights_best.h5")


def make_run(folder: Path) -> None:
    """Write a log folder with an untrained network unless one ships, and the map."""
    if not _ships():
        make_network(folder)
    np.save(folder / "map.npy", _map())


def ours(folder: Path, ending: str) -> dict[str, float]:
    """Predict from file to file with a loaded network."""
    from toolbox.run import Run

    run = Run.open(str(CONFIG["model"]) if _ships() else folder)
    files = run.task.predictor(run)
    return _timed(lambda: files.predict(folder / "map.npy", folder / f"result{ending}"))


def _patches() -> np.ndarray:
    count = SIDE // PATCH
    cut = _map().reshape(count, PATCH, count, PATCH).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(-1, PATCH, PATCH, 1)) / 1000


def keras_predict(folder: Path) -> dict[str, float]:
    """Call ``model.predict`` on patches in memory, with the best of three batch sizes."""
    model, patches = _resolver(folder), _patches()
    network = next(x for x in model.physical.layers if hasattr(x, "scale") and hasattr(x, "fit"))
    return min(
        (_timed(lambda size=size: network.predict(patches, batch_size=size, verbose=0))
         for size in (1, 4, 16)),
        key=lambda figures: figures["seconds"],
    )  # fmt: skip


def same_tiles(folder: Path) -> dict[str, float]:
    """Call ``model.predict`` with its normaliser on the windows that `predict` enlarges."""
    model, lr = _resolver(folder), _map()[..., None]
    tiling = model.tiling(lr.shape[:2], None, False)
    windows = np.stack([lr[r.window, c.window] for r in tiling.rows() for c in tiling.columns()])
    return _timed(lambda: model.physical.predict(windows, batch_size=1, verbose=0))


def by_hand(folder: Path) -> dict[str, float]:
    """Do what one writes without `predict`: patches without surroundings, from file to file."""
    resolver = _resolver(folder)
    network = next(x for x in resolver.physical.layers if hasattr(x, "scale") and hasattr(x, "fit"))
    normalizer = resolver.normalizer

    def work() -> None:
        count, whole = SIDE // PATCH, np.load(folder / "map.npy", allow_pickle=False)
        cut = whole.reshape(count, PATCH, count, PATCH).swapaxes(1, 2)
        lr = np.ascontiguousarray(cut.reshape(-1, PATCH, PATCH, 1))
        y = network.predict(normalizer.normalize_x(lr), batch_size=4, verbose=0)
        hr = normalizer.denorm_funcs(lr, SCALE)[1](y)
        large = hr.reshape(count, count, PATCH * SCALE, PATCH * SCALE).swapaxes(1, 2)
        np.save(folder / "by_hand.npy", large.reshape(SIDE * SCALE, SIDE * SCALE))

    return _timed(work, 1)


def torch_predict(folder: Path) -> dict[str, float]:
    """Run PyTorch on patches in memory, with the best of two layouts and two batch sizes."""
    import torch

    from benchmarks.torch_networks import GENERATORS, bicubic

    network, skip = GENERATORS[str(CONFIG["model"])](SCALE).eval(), bicubic(SCALE)
    patches = torch.from_numpy(_patches()).permute(0, 3, 1, 2).contiguous()

    def run(layout: Any, size: int) -> None:
        network.to(memory_format=layout)
        with torch.inference_mode():
            results = [
                network(part) + skip(part) for part in patches.to(memory_format=layout).split(size)
            ]
        torch.cat(results)

    layouts = torch.contiguous_format, torch.channels_last
    return min(
        (_timed(lambda layout=layout, size=size: run(layout, size))
         for layout in layouts for size in (1, 4)),
        key=lambda figures: figures["seconds"],
    )  # fmt: skip


def _timed(work: Callable[[], object], times: int = 2) -> dict[str, float]:
    """Return seconds of the clock and of all cores, of the quicker of some times."""
    found = []
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - used))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": min(f[0] for f in found), "cpu": min(f[1] for f in found), "peak_mib": peak}


SIDES: dict[str, Callable[[Path], dict[str, float]]] = {
    "predict, .npy": lambda folder: ours(folder, ".npy"),
    "predict, .zarr": lambda folder: ours(folder, ".zarr"),
    "predict, .tif": lambda folder: ours(folder, ".tif"),
    "by hand, .npy": by_hand,
    "same tiles": same_tiles,
    "model.predict": keras_predict,
    "PyTorch": torch_predict,
}


def _in_own_process(
    side: str, folder: Path, model: str, root: str = "", python: str = sys.executable
) -> dict[str, float]:
    python = python if side == "PyTorch" else sys.executable
    command = [python, "-m", "benchmarks.predict_map", "--side", side, "--folder", str(folder)]
    command += ["--pixels", str(SIDE)]
    environment = {**os.environ, "BENCH_MODEL": model}
    if root:  # the benchmark of here with the package from there
        environment["PYTHONPATH"] = root
        command[1:3] = [__file__]
    out = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def _rows(speeds: dict[str, float], peaks: dict[str, float]) -> list[Any]:
    """Return rows for ``python -m benchmarks``: files and the networks alone."""
    from benchmarks.rows import Row

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
    parser.add_argument("--model", default="espcn")
    parser.add_argument("--other", default="", help="folder of another checkout")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--pixels", type=int, default=SIDE, help="along a side of the map")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    SIDE, PATCH = args.pixels, min(PATCH, args.pixels)
    if args.side:
        from sr_trainer.initializer import Initializer

        if args.side != "PyTorch":
            Initializer.tf_init()
        print(json.dumps(SIDES[args.side](args.folder)))
        return
    CONFIG["model"] = args.model
    jobs = [(side, side, "") for side in args.sides]
    ours_of_other = [
        side for side in args.sides if side.startswith("predict") and "zarr" not in side
    ]
    jobs += [(f"other: {side[9:]}", side, args.other) for side in ours_of_other if args.other]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        make_run(folder)
        rounds = [
            {
                label: _in_own_process(side, folder, args.model, root, args.python)
                for label, side, root in jobs
            }
            for _ in range(args.rounds)
        ]
    pixels, reference = (SIDE * SCALE) ** 2 / 1e6, args.sides[0]
    print(f"{args.model:16}{'Mpixel/s':>10}{'core-ms/Mpixel':>16}{'peak MiB':>10}"
          f"   time, CPU time / those of {reference}")  # fmt: skip
    speeds, peaks = {}, {}
    for label, _, _ in jobs:
        speeds[label] = speed = median(pixels / found[label]["seconds"] for found in rounds)
        used = median(1000 * found[label]["cpu"] / pixels for found in rounds)
        peaks[label] = peak = max(found[label]["peak_mib"] for found in rounds)
        ratios = [
            median(found[label][key] / found[reference][key] for found in rounds)
            for key in ("seconds", "cpu")
        ]
        print(f"{label:16}{speed:10.2f}{used:16.1f}{peak:10.0f}{ratios[0]:10.2f}{ratios[1]:10.2f}")
    if args.json:
        from benchmarks.rows import printed

        printed(_rows(speeds, peaks))


if __name__ == "__main__":
    main()
