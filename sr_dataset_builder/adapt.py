"""Adapt a data set to a region in one run: ``python -m sr_dataset_builder.adapt adapt.yml``.

The stages are: features of the target's LR map, flips and rotations of the training pairs,
mixtures, selection, and a folder ready for training. Arrays stay on disk and are read through
memory maps. To resume interrupted work, run the same file again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sr_dataset_builder.dataset import Dataset, Metres
from sr_dataset_builder.flip import FLIPS
from sr_dataset_builder.mixup import PICKED, MixSettings, MixupParams, write_pairs
from sr_dataset_builder.mixup import run as run_mixup
from sr_dataset_builder.pair_files import PairFiles, append_copies
from sr_dataset_builder.rotate import rotations
from toolbox.command_line import OneLineParser
from toolbox.config import Count, Float, Step, Variable, check, read_yaml
from toolbox.data_loader import RECORD_NAME, image_file, load_images
from toolbox.errors import ConfigError, DataError, not_found, program
from toolbox.io.atomic import replacing
from toolbox.io.raster import read_raster
from toolbox.io.safe_pickle import save_array
from toolbox.tasks.bathymetry.adaptive import FEATURES, Feature, stretch_factors
from toolbox.tasks.bathymetry.source import recorded_spacing
from toolbox.tasks.bathymetry.terrain import Spacing, spacing_text, write_feature_csv

POOL = "pool"


class AdaptParams(MixSettings):
    """Settings of an adaptation file (YAML)."""

    data_dir: Annotated[str, Field(min_length=1)]
    save_dir: Annotated[str, Field(min_length=1)]
    target: str
    variable: Variable = None
    time: Step = None
    group: str | None = None
    nodata: Float | None = None
    positive: Literal["up", "down"] = "up"
    target_stride: tuple[Count, Count] = (8, 8)
    target_delta_m: Metres | tuple[Metres, Metres] | None = None
    flips: bool = True
    angles: tuple[Float, ...] = tuple(range(30, 360, 30))
    fill_mode: Literal["nearest", "reflect", "wrap"] = "reflect"
    keep_pool: bool = False


class _Stages:
    """Runs each stage once: a finished stage leaves a file with the settings it depends on."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(settings, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def done(self, number: int, outputs: list[Path]) -> bool:
        """Whether a stage was finished with these settings and its files still exist."""
        mark = self.folder / f"stage_{number}.json"
        if not mark.is_file() or not all(path.is_file() for path in outputs):
            return False
        try:
            return bool(json.loads(mark.read_text("utf-8"))["settings"] == self.fingerprint)
        except (ValueError, KeyError, TypeError):
            return False

    def run(
        self, number: int, label: str, work: Callable[[], Any], outputs: list[Path], over: bool
    ) -> None:
        """Run a stage unless it, or everything after it (`over`), was done before."""
        mark = self.folder / f"stage_{number}.json"
        if over or self.done(number, outputs):
            print(f"[{number}/5] {label}: done before", flush=True)
            return
        print(f"[{number}/5] {label}", flush=True)
        for later in range(number, 6):  # later stages used what is now replaced
            (self.folder / f"stage_{later}.json").unlink(missing_ok=True)
        work()
        with replacing(mark) as beside:
            beside.write_text(json.dumps({"settings": self.fingerprint}) + "\n", encoding="utf-8")


def adapt(params: AdaptParams) -> None:
    """Adapt a data set to the target's LR map.

    Parameters
    ----------
    params : AdaptParams
        ``data_dir`` holds train, validation and test; ``target`` is the LR map (any raster), or a
        ``.csv`` table of its features. ``save_dir`` receives a data set with an adapted ``train/``,
        unchanged test data, and validation data that are unchanged or, with ``fit: stretch``,
        stretched like the training data.

    Raises
    ------
    DataError
        If the target holds no complete patch, or files are missing.
    """
    source, out = Path(params.data_dir), Path(params.save_dir)
    if source.resolve() == out.resolve():
        raise ConfigError(
            f"save_dir must differ from data_dir; received {params.save_dir} for both. Choose "
            f"another save_dir: the data set is never overwritten."
        )
    for split in ("train", "validation", "test"):
        for kind in ("HR", "LR"):
            _images(source / split, kind)
    pool = out / POOL
    pool.mkdir(parents=True, exist_ok=True)
    lr_file = _images(source / "train", "LR")
    lr = load_images(lr_file)
    inputs = [path for path in source.glob("*/data_*") if path.suffix in (".pkl", ".npy")]
    inputs += [source / RECORD_NAME, Path(params.target)]
    stamps = {str(p): p.stat().st_mtime_ns for p in sorted(inputs) if p.is_file()}
    stages = _Stages(pool, {**params.model_dump(), "files": stamps})
    delta_m = recorded_spacing(lr_file, "LR")
    target_csv, data_csv = out / "target" / "data_LR.csv", pool / "data_LR.csv"
    copies = [pool / f"data_{kind}.npy" for kind in ("HR", "LR")]
    picked = pool / "mixup" / PICKED
    ready = [out / "train" / f"data_{kind}.pkl" for kind in ("HR", "LR")]
    ready += [
        out / split / _images(source / split, kind).name
        for split in ("validation", "test")
        for kind in ("HR", "LR")
    ]
    work: list[tuple[str, Callable[[], Any], list[Path]]] = [
        (
            "features of the target",
            lambda: _target(params, lr.shape[1:3], target_csv),
            [target_csv],
        ),
        ("flips and rotations", lambda: _copies(params, source, pool), copies),
        (
            "features of the training pairs",
            lambda: write_feature_csv(load_images(copies[1]), delta_m, data_csv, True),
            [data_csv],
        ),
        (
            "mixtures and selection",
            lambda: _mix(params, pool, target_csv, len(lr), delta_m),
            [picked / "data_HR.npy", picked / "data_LR.npy"],
        ),
        ("ready for training", lambda: _deliver(params, source, out, delta_m), ready),
    ]
    over = stages.done(len(work), ready)
    for number, (label, stage, outputs) in enumerate(work, 1):
        stages.run(number, label, stage, outputs, over)
    if not params.keep_pool:
        for store in pool.rglob("*.npy"):
            store.unlink()
    print(f"data_dir: {out}")


def _images(folder: Path, kind: str) -> Path:
    path = image_file(folder, kind)
    if not path.is_file():
        raise DataError(
            f"{not_found(path, 'file')}. Name a data set with train, validation and test."
        )
    return path


def _target(params: AdaptParams, img_shape: tuple[int, ...], csv: Path) -> None:
    """Cut the LR map of the target into patches and tabulate their features."""
    csv.parent.mkdir(parents=True, exist_ok=True)
    if params.target.endswith(".csv"):
        if not Path(params.target).is_file():
            raise DataError(f"{params.target}: no such table. Name the map or table of the target.")
        shutil.copyfile(params.target, csv)
        return
    raster = read_raster(
        params.target, params.variable, params.nodata, params.positive, params.time, params.group
    )
    print("".join(f"{note}\n" for note in raster.notes), end="")
    delta_m: Spacing | None = params.target_delta_m or raster.delta_m
    if delta_m is None:
        raise DataError(
            f"{params.target}: does not state its grid spacing. Add 'target_delta_m: ...' in "
            f"metres."
        )
    if min(np.subtract(raster.values.shape, img_shape)) < 0:
        raise DataError(
            f"{params.target}: a map of {raster.values.shape} is smaller than a patch of "
            f"{tuple(img_shape)}. Name a larger map."
        )
    patches = Dataset.block_split(raster.values, (1, 1), img_shape, params.target_stride)[0]
    patches = patches[np.isfinite(patches).all(axis=(1, 2))]
    if not len(patches):
        raise DataError(
            f"{params.target}: has no patch of {img_shape} without missing pixels. Name a map with "
            f"fewer gaps."
        )
    print(f"      {len(patches)} patches at {spacing_text(delta_m)}")
    write_feature_csv(patches, delta_m, csv, normalized_column=True)


def _copies(params: AdaptParams, source: Path, pool: Path) -> None:
    files = PairFiles(
        train_dir=str(source / "train"),
        train_data=(_images(source / "train", "HR").name, _images(source / "train", "LR").name),
        train_savedata=("data_HR.npy", "data_LR.npy"),
        train_savedir=str(pool),
    )
    flips = [FLIPS] if params.flips else []
    append_copies(files, [*flips, rotations(params.angles, params.fill_mode)])


def _mix(params: AdaptParams, pool: Path, csv: Path, originals: int, delta_m: Spacing) -> None:
    shared = params.model_dump(include=set(MixSettings.model_fields))
    mixup = MixupParams(
        **shared,
        train_dir=str(pool),
        train_data=("data_HR.npy", "data_LR.npy"),
        target_data_csv=str(csv),
        save_dir_name="mixup",
        original_image_num=originals,
        delta_lr_m=delta_m,
    )
    print("      " + "\n      ".join(run_mixup(mixup).lines()))


def _deliver(params: AdaptParams, source: Path, out: Path, delta_m: Spacing) -> None:
    """Write the selected pairs as train/ and copy validation and test."""
    picked = out / POOL / "mixup" / PICKED
    for kind in ("HR", "LR"):
        save_array(load_images(picked / f"data_{kind}.npy"), out / "train" / f"data_{kind}.pkl")
    for name in ("data_LR.csv", "report.png", "report.json", "mixtures.png"):
        for folder in (picked, picked.parent):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / "train" / name)
                break
    for split in ("validation", "test"):
        (out / split).mkdir(exist_ok=True)
        if split == "validation" and params.fit == "stretch":
            _stretch_validation(params, source / split, out, delta_m)
            continue
        for file in (source / split).glob("data_*"):
            with replacing(out / split / file.name) as beside:
                shutil.copyfile(file, beside)
    if (source / RECORD_NAME).is_file():
        with replacing(out / RECORD_NAME) as beside:
            shutil.copyfile(source / RECORD_NAME, beside)


def _stretch_validation(params: AdaptParams, source: Path, out: Path, delta_m: Spacing) -> None:
    """Stretch the validation pairs too: they select the weights for the target's terrain."""
    hr_file, lr_file = (_images(source, kind) for kind in ("HR", "LR"))
    hr, lr = load_images(hr_file), load_images(lr_file)
    key = FEATURES[params.target_value]
    target = pd.read_csv(out / "target" / "data_LR.csv")[key].to_numpy(float)
    factors = stretch_factors(Feature(key, delta_m)(lr), target)
    hr_out, lr_out = (out / source.name / file.name for file in (hr_file, lr_file))
    write_pairs(hr_out, lr_out, hr, lr, np.arange(len(lr)), factors)


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.adapt",
        description="Adapt training data to the region whose LR map is to be enhanced.",
    )
    parser.add_argument("yml_fname", help="file with the input parameters (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    adapt(check(AdaptParams, read_yaml(fname), fname))


if __name__ == "__main__":
    raise SystemExit(main())
