"""Remake the model that ships: ``python examples/bathymetry/pretrained/remake.py``.

1. Every region in turn is left out of the training and tested (20 minutes):
   ``results.json`` and ``table.md``.
2. The network is trained on all regions and laid into ``toolbox/pretrained/bathymetry_x4`` with its
   model card. The same seed gives the same bytes on the same kind of CPU; ``--check`` compares
   instead of replacing.
3. Its intervals are calibrated on tiles of the GEBCO grid that it was not trained on
   (``--intervals`` does this alone).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from sr_dataset_builder.dataset import MapParams
from sr_dataset_builder.regions import RegionsParams, build
from toolbox import pretrained
from toolbox.config import check, read_yaml, write_yaml
from toolbox.data_loader import DataLoader
from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing
from toolbox.model_card import OWN_NAME, card_of_run, write_model_card
from toolbox.run import Run
from toolbox.tasks.bathymetry.intervals import calibrate, save_intervals

HERE = Path(os.path.relpath(Path(__file__).parent))  # settings name no machine
NAME = "bathymetry_x4"
ONE_THREAD = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"
)
OUT = Path("data/pretrained")
PARTS = ("config.yml", "normalizer.json", "validity.json", "weights_best.h5")
LICENCE = "MIT, as the project."
ACKNOWLEDGEMENT = (
    "Trained on the GEBCO grid (GEBCO Compilation Group; public domain), on the bathymetry of the "
    "Great Barrier Reef off Cairns by Geoscience Australia (2005), and on multibeam tracks in the "
    "test grid of the Generic Mapping Tools."
)
DESCRIPTION = (
    "EDSR with 125 thousand parameters that makes a sea-floor map four times finer. It sees the "
    "map less its local mean, so it knows neither depth nor place, and adds what bicubic "
    "interpolation misses. Trained on three sea floors at spacings from 111 m to 1.4 km; each was "
    "left out once to see what the network is worth elsewhere."
)


def run(settings: Path, *arguments: str) -> None:
    """Run ``main.py`` in a process of its own, on one thread: several may round differently."""
    command = [sys.executable, "-m", "sr_trainer.main", str(settings), *arguments]
    if subprocess.run(command, env=os.environ | ONE_THREAD).returncode:
        raise DataError(f"{settings}: {arguments[0]} failed; its message is above.")


def run_fold(name: str, regions: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Train without one region, test on it alone; return the summary of the test."""
    held_out = {key: dict(region) for key, region in regions["regions"].items()}
    own = {key: value for key, value in held_out[name].items() if key in MapParams.model_fields}
    held_out[name] = {"hr_fname": held_out[name]["hr_fname"], **own, "held_out": True}
    data = OUT / f"without_{name}"
    content = {**regions, "regions": held_out, "save_dir": str(data), "test_size": 0}
    build(check(RegionsParams, content, name), name)
    fname = OUT / f"without_{name}.yml"
    log = OUT / f"without_{name}_log"
    write_yaml({**settings, "data_dir": str(data), "log_dir": str(log)}, fname, f"without {name}")
    run(fname, "train", "--overwrite")
    run(fname, "test")
    summary: dict[str, Any] = json.loads((log / "test_result" / "summary.json").read_text("utf-8"))
    return summary


def table(folds: dict[str, dict[str, Any]]) -> str:
    """Lay the tests on regions left out as a Markdown table."""
    head = "left out", "slope", "images", "bicubic (m)", "back-projected", "network (m)", "network"
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, summary in folds.items():
        for group, row in {"all": summary["all"], **summary["slope_classes"]}.items():
            if row["n"]:
                bicubic, projected, sr = (
                    row[method]["rmse_m"] for method in ("bicubic", "back_projection", "sr")
                )
                lines.append(
                    f"| {name} | {group} | {row['n']} | {bicubic:.3f} | "
                    f"{100 * (1 - projected / bicubic):.1f} % | {sr:.3f} | "
                    f"{100 * (1 - sr / bicubic):.1f} % |"
                )
    return "\n".join(lines) + "\n"


def train_final(regions: Path, settings: Path) -> Path:
    """Train on all regions; return the log folder."""
    build(check(RegionsParams, read_yaml(regions), str(regions)), str(regions))
    run(settings, "train", "--overwrite")
    run(settings, "test")
    return Path(read_yaml(settings)["log_dir"])


def compare(log: Path, folder: Path) -> None:
    """Refuse files that are not those that ship."""
    for part in PARTS:
        if (log / part).read_bytes() != (folder / part).read_bytes():
            raise DataError(f"{log / part} differs from {folder / part}.")
    print(f"{', '.join(PARTS)}: the same bytes as in {folder}")


def calibrate_on_tiles(folder: Path) -> None:
    """Calibrate the intervals of the network that ships on sea floors that it has never seen."""
    content = read_yaml(HERE / "calibration.yml")
    build(check(RegionsParams, content, "calibration.yml"), "calibration.yml")
    lr, hr = (imgs[..., 0] for imgs in DataLoader(content["save_dir"]).test())
    run = Run.open(folder)
    sr = run.resolver.super_resolve(lr[..., None], run.settings.batch_size)[..., 0]
    checksum = zlib.crc32(run.weights[0].read_bytes())
    save_intervals(calibrate(lr, hr, sr, checksum), folder)
    print(f"intervals calibrated on {len(lr)} patches: {folder}")


def install(log: Path, folder: Path, folds: dict[str, dict[str, Any]]) -> None:
    """Copy the network to where it ships from, with a model card that holds all tests."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        with replacing(folder / part) as beside:
            shutil.copyfile(log / part, beside)
    found = card_of_run(log)
    own = {
        "description": f"{DESCRIPTION}\n\n{table(folds)}",
        "data": found["data"],
        "summary": found["summary"],
        "licence": LICENCE,
        "acknowledgement": ACKNOWLEDGEMENT,
    }
    with replacing(folder / OWN_NAME) as beside:
        beside.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    write_model_card(folder / "MODEL_CARD.md", card_of_run(folder) | {"name": NAME})
    print(f"written to {folder}")


@program
def main() -> None:
    """Run the folds, then the training on all regions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--intervals", action="store_true", help="calibrate the intervals alone")
    parser.add_argument("--check", action="store_true", help="compare with what ships, no folds")
    args = parser.parse_args()
    regions, settings = HERE / "regions.yml", HERE / f"{NAME}.yml"
    folder = pretrained.FOLDER / NAME
    if args.intervals:
        calibrate_on_tiles(folder)
        return
    if args.check:
        compare(train_final(regions, settings), folder)
        return
    names = read_yaml(regions)["regions"]
    folds = {name: run_fold(name, read_yaml(regions), read_yaml(settings)) for name in names}
    with replacing(HERE / "results.json") as beside:
        beside.write_text(json.dumps(folds, indent=2) + "\n", encoding="utf-8")
    print(table(folds))
    install(train_final(regions, settings), folder, folds)
    calibrate_on_tiles(folder)


if __name__ == "__main__":
    raise SystemExit(main())
