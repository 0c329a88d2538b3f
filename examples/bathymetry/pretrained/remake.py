"""Remake the sea-floor models that ship: ``python -m examples.bathymetry.pretrained.remake``.

For each of them:

1. Regions are excluded from the training in turn and tested (`left_out`): ``results.json``.
2. The network is trained on all regions. It is installed in ``toolbox/pretrained`` with its model
   card and with intervals calibrated on the regions that the folds excluded. The same seed gives
   the same bytes on the same kind of CPU; ``--check`` compares instead of replacing.

``--resume`` reuses existing folds and training runs. ``--jobs 2`` runs two at a time, each on one
thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from examples.bathymetry.pretrained.left_out import (
    LeftOut,
    Table,
    fold_content,
    markdown,
    test_fold,
)
from sr_dataset_builder.regions import RegionsParams, build
from toolbox import pretrained
from toolbox.config import check, read_yaml, write_yaml
from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing
from toolbox.model_card import OWN_NAME, card_of_run, write_model_card
from toolbox.run import Run
from toolbox.tasks.bathymetry.intervals import save_intervals

HERE = Path(os.path.relpath(Path(__file__).parent))  # settings name no machine
#: Folds of each model. A third of the tiles and a larger map are enough to show the gain from size.
FOLDS = {"bathymetry_x4": 3, "bathymetry_x4_large": 1, "bathymetry_x2": 1}
#: Number of parts into which the tiles are split.
SHARES = 3
ONE_THREAD = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"
)
OUT = Path("data/pretrained")
PARTS = ("config.yml", "normalizer.json", "validity.json", "weights_best.h5")
LICENCE = "MIT, as the project."
ACKNOWLEDGEMENT = (
    "Trained on the GEBCO grid (GEBCO Compilation Group; public domain, please acknowledge GEBCO) "
    "and on the bathymetry of the Great Barrier Reef off Cairns by Geoscience Australia (2005; "
    "publishable, please acknowledge Geoscience Australia)."
)
DESCRIPTION = (
    "EDSR with {weights} weights that makes a sea-floor map {scale} times finer. It receives the "
    "map with its local mean subtracted, so it knows neither depth nor place, and has no "
    "constants, so it treats relief of decimetres as relief of kilometres. Trained on 152 maps: "
    "150 tiles of the GEBCO grid in 141 groups, the Arabian Sea (GEBCO) and the sea off Cairns, at "
    "spacings from 0.3 to 1.4 km. Tiles and maps were left out in turn to see what it is worth "
    "elsewhere."
)


def run(settings: Path, *arguments: str) -> None:
    """Run ``main.py`` in its own process on one thread, as several may round differently."""
    command = [sys.executable, "-m", "sr_trainer.main", str(settings), *arguments]
    if subprocess.run(command, env=os.environ | ONE_THREAD).returncode:
        raise DataError(f"{settings}: {arguments[0]} failed; its message is above.")


def regions_for(settings: dict[str, Any], save_dir: str) -> dict[str, Any]:
    """Return ``regions.yml`` for the scale of a model."""
    own = {"scale": settings["scale"], "save_dir": save_dir}
    return {**read_yaml(HERE / "regions.yml"), **own}


def train_fold(name: str, number: int, resume: bool) -> LeftOut:
    """Train without the regions of a fold; return the test of the excluded regions."""
    saved = OUT / f"{name}_fold_{number}.npz"
    if not (resume and saved.is_file()):
        settings = read_yaml(HERE / f"{name}.yml")
        data = str(OUT / f"{name}_fold_{number}")
        content = fold_content(regions_for(settings, data), number, SHARES)
        build(check(RegionsParams, content, data), data)
        fname, log = OUT / f"{name}_fold_{number}.yml", OUT / f"{name}_fold_{number}_log"
        write_yaml({**settings, "data_dir": data, "log_dir": str(log)}, fname, "one fold")
        run(fname, "train", "--overwrite")
        found = test_fold(Run.open(log), data)
        with replacing(saved) as beside, beside.open("wb") as file:
            np.savez(file, **found._asdict())
    with np.load(saved, allow_pickle=False) as arrays:
        return LeftOut(**arrays)


def train_final(name: str, resume: bool) -> Path:
    """Train on all regions; return the log folder."""
    fname = HERE / f"{name}.yml"
    settings = read_yaml(fname)
    log = Path(settings["log_dir"])
    if not (resume and (log / "test_result" / "summary.json").is_file()):
        content = regions_for(settings, settings["data_dir"])
        build(check(RegionsParams, content, str(HERE / "regions.yml")), name)
        run(fname, "train", "--overwrite")
        run(fname, "test")
    return log


def compare(log: Path, folder: Path) -> None:
    """Raise an error if the files differ from those that ship."""
    for part in PARTS:
        if (log / part).read_bytes() != (folder / part).read_bytes():
            raise DataError(f"{log / part} differs from {folder / part}.")
    print(f"{', '.join(PARTS)}: the same bytes as in {folder}")


def install(log: Path, folder: Path, table: Table, figures: dict[str, Any]) -> None:
    """Install the network in `folder`, with intervals and a card that holds all tests."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        with replacing(folder / part) as beside:
            shutil.copyfile(log / part, beside)
    weights = zlib.crc32((folder / "weights_best.h5").read_bytes())
    save_intervals(table.calibrated(table.known, weights), folder)
    found = card_of_run(log)
    facts = {"weights": f"{found['parameters']:,}", "scale": found["config"]["scale"]}
    own = {
        "description": f"{DESCRIPTION.format(**facts)}\n\n{markdown(figures)}",
        "data": {**found["data"], "regions": _files(found["data"]["regions"])},
        "summary": _without_tiles(found["summary"]),
        "licence": LICENCE,
        "acknowledgement": ACKNOWLEDGEMENT,
    }
    with replacing(folder / OWN_NAME) as beside:
        beside.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    write_model_card(folder / "MODEL_CARD.md", card_of_run(folder) | {"name": folder.name})
    print(f"written to {folder}")


def _files(regions: dict[str, str]) -> dict[str, str]:
    """Return the file of each region, without the folders of this machine."""
    paths = {name: Path(fname) for name, fname in regions.items()}
    return {
        name: f"{path.parent.name}/{path.name}" if "*" in path.name else path.name
        for name, path in paths.items()
    }


def _without_tiles(summary: dict[str, Any]) -> dict[str, Any]:
    """Remove the test results of single tiles."""

    def kept(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: kept(part) for key, part in value.items() if "gebco/" not in key}

    found: dict[str, Any] = kept(summary)
    return found


def remake(name: str, jobs: int, resume: bool) -> None:
    """Run the folds of a model, train it on all regions, and install it."""
    with ThreadPoolExecutor(jobs) as pool:
        tasks: list[Callable[[], Any]] = [
            *(lambda n=number: train_fold(name, n, resume) for number in range(FOLDS[name])),
            lambda: train_final(name, resume),
        ]
        *parts, log = (job.result() for job in [pool.submit(task) for task in tasks])
    table = Table(parts)
    figures = table.figures()
    fname = HERE / "results.json"
    former = json.loads(fname.read_text("utf-8")) if fname.is_file() else {}
    results = {key: former[key] for key in FOLDS if key in former} | {name: figures}
    with replacing(fname) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(markdown(figures))
    print({key: value for key, value in figures["maps"].items() if key != "rows"})
    install(log, pretrained.FOLDER / name, table, figures)


@program
def main() -> None:
    """Remake the models named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(FOLDS)}")
    parser.add_argument("--jobs", type=int, choices=(1, 2, 4, 8), default=1, help="runs at a time")
    parser.add_argument("--resume", action="store_true", help="reuse existing training runs")
    parser.add_argument("--check", action="store_true", help="compare with the shipped files")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in FOLDS]
    if unknown:
        raise DataError(f"received {unknown[0]!r}; expected names of {', '.join(FOLDS)}.")
    for name in args.names or FOLDS:
        if args.check:
            compare(train_final(name, args.resume), pretrained.FOLDER / name)
        else:
            remake(name, args.jobs, args.resume)


if __name__ == "__main__":
    raise SystemExit(main())
