"""Remake the model that ships: ``python -m examples.photo_srgan.pretrained.remake FOLDER``.

FOLDER holds photographs and ``manifest.csv`` with the author and the licence of each. Eleven are
held back for validation and test; the two views of one motorcycle are both used in training. The
first stage learns from the photographs, the second also from copies of half the size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toolbox import pretrained
from toolbox.config import read_yaml
from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing
from toolbox.io.picture import read_picture, write_picture
from toolbox.model_card import OWN_NAME, card_of_run, write_model_card
from toolbox.resize import reduced, whole_blocks

HERE = Path(os.path.relpath(Path(__file__).parent))  # keeps machine paths out of the settings
NAME = "photo_x2"
PARTS = ("config.yml", "normalizer.json", "weights_best.h5")
#: Chosen for variety before any network was trained.
HELD_BACK = {
    "validation": (
        "budgie_tea-gardens.jpg",
        "elementary_Mr._Lee.jpg",
        "lomiri_greentock_by_Peter_Nerlich.jpg",
    ),
    "test": (
        "budgie_kitten-on-lawn.jpg",
        "budgie_roman-colosseum.jpg",
        "budgie_san-francisco-skyline.jpg",
        "elementary_Jay_Ruzesky.jpg",
        "lomiri_Kleiber_by_Lukas_Baubkus.jpg",
        "lomiri_Wine_by_Jakkub_Mede.jpg",
        "skimage_coffee.jpg",
        "sklearn_china.jpg",
    ),
}
DESCRIPTION = (
    "EDSR with 0.4 million parameters that enlarges photographs twice, trained on pixels alone: it "
    "sharpens what bicubic blurs and invents little. All its layers work at low resolution."
)
LICENCE = "MIT, as the project; the photographs have licences of their own, see below."


def split_of(name: str) -> str:
    """Return the split that a photograph belongs to."""
    return next((split for split, names in HELD_BACK.items() if name in names), "train")


def deal(source: Path, names: Sequence[str], folder: Path, halves: bool) -> None:
    """Copy the photographs into folders by split, with half-size copies for training if asked."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        target = folder / split_of(name) / name
        with replacing(target) as beside:
            shutil.copyfile(source / name, beside)
        if halves and split_of(name) == "train":
            picture = read_picture(source / name)
            small = reduced(whole_blocks(picture.pixels, 2), 2)
            like = dataclasses.replace(picture, pixels=small)
            half = target.with_name(f"{target.stem}_half.png")
            write_picture(half, [small], small.shape[:2], like)


def credits(manifest: pd.DataFrame) -> str:
    """Return a text with the author and the licence of every photograph."""
    rows = [f"{row.file} ({row.author}, {row.licence})" for row in manifest.itertuples()]
    return f"Trained and tested on photographs under open licences: {'; '.join(rows)}."


def run(settings: Path, *arguments: str) -> None:
    """Run ``main.py`` in a separate process."""
    command = [sys.executable, "-m", "sr_trainer.main", str(settings), *arguments]
    if subprocess.run(command).returncode:
        raise DataError(f"{settings}: {arguments[0]} failed; see its message above.")


def install(log: Path, folder: Path, manifest: pd.DataFrame) -> None:
    """Copy the network and its model card to the folder of models that ship."""
    for part in PARTS:
        with replacing(folder / part) as beside:
            shutil.copyfile(log / part, beside)
    own = {
        "description": DESCRIPTION,
        "summary": card_of_run(log)["summary"],
        "licence": LICENCE,
        "acknowledgement": credits(manifest),
    }
    with replacing(folder / OWN_NAME) as beside:
        beside.write_text(json.dumps(own, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_model_card(folder / "MODEL_CARD.md", card_of_run(folder) | {"name": NAME})
    print(f"written to {folder}")


@program
def main() -> None:
    """Assign the photographs to splits, train, test and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs and manifest.csv")
    parser.add_argument("--trained", action="store_true", help="test and install a finished run")
    args = parser.parse_args()
    settings = HERE / f"{NAME}.yml"
    manifest = pd.read_csv(args.folder / "manifest.csv")
    for stage, halves in ((HERE / f"{NAME}_first.yml", False), (settings, True)):
        deal(args.folder, manifest["file"], Path(read_yaml(stage)["data_dir"]), halves)
        if not args.trained:
            run(stage, "train", "--overwrite")
    log = Path(read_yaml(settings)["log_dir"])
    run(log, "test")  # not the settings file, which names the initial weights of the second stage
    install(log, pretrained.FOLDER / NAME, manifest)


if __name__ == "__main__":
    raise SystemExit(main())
