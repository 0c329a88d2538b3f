"""Small sound files of every kind, and the programs that each of them goes through.

``python -m fuzz.seeds FOLDER`` writes them, trains three tiny networks, and keeps what the
programs make of the sound files.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import TINY_RUN, Result, _write_patches, in_process

from fuzz import oracles

#: Rows and columns of a map: 2 × 5 blocks of 40 × 20 pixels.
SHAPE = (80, 100)
BUILD = {"block_shape": [2, 5], "scale": 4, "lr_img_shape": [4, 4], "lr_stride": [2, 2]}
QUICK = {"epochs": 1, "log_period": 100, "jit_compile": False, "steps_per_execution": 1}
SEM_RUN = {
    "source": "sem",
    "model": "simplesrnet",
    "simplesrnet": {"filters": 4, "num_layers": 2},
    "sem": {"patch_size": 32, "repeats": 2},
    "batch_size": 3,
    "loss": "mae",
    "metrics": "psnr",
    "monitor_metric": "val_psnr",
    **QUICK,
}
PHOTO_RUN = {
    "source": "photo",
    "photo": {"lr_crop": 16, "shares": [4, 1, 1], "validation_crops": 1},
    "model": "edsr_light",
    "edsr_light": {"filters": 4, "num_residual_blocks": 1},
    "optimizer": "sgd",
    "batch_size": 2,
    **QUICK,
}
SIMULATION = {
    "frame_shape": [64, 128],
    "pixel_nm": 0.8,
    "lines": {"pitch_nm": [30, 34], "cd_nm": [13, 18], "sigma_nm": 0.4, "xi_nm": 10, "alpha": 0.5},
    "noise": {"peak_counts": 60, "high_frames": 32, "drift_px": 0.2, "pair_offset_px": 2},
    "train": {"count": 3},
    "validation": {"count": 1},
    "test": {"count": 1},
}

Program = Callable[[list[str]], int]


@dataclasses.dataclass(frozen=True)
class Step:
    """A program that is to take the damaged file.

    Attributes
    ----------
    name : str
        For the report.
    program : callable
        Takes a command line.
    arguments : list
        The command line.
    output : pathlib.Path
        File or folder that it may write; in it lies a former result.
    folder : pathlib.Path
        Where the program is started, and all its files lie.
    """

    name: str
    program: Program
    arguments: Sequence[object]
    output: Path
    folder: Path

    def run(self) -> Result:
        """Run the program in this process."""
        os.chdir(self.folder)
        return in_process(self.program, *self.arguments)


def trainer(arguments: list[str]) -> int:
    """Run ``main.py`` in this process."""
    from sr_trainer.main import main

    return main(arguments)


def builder(arguments: list[str]) -> int:
    """Run ``python -m sr_dataset_builder.dataset`` in this process."""
    from sr_dataset_builder.dataset import main

    return main(arguments)


# -- Sound files -----------------------------------------------------------------------------------


def sea_floor() -> np.ndarray:
    """Make a smooth map in metres, float32, inside the range of the networks."""
    r, c = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = 90 * np.sin(r / 5) + 60 * np.cos(c / 4 + r / 9)
    return (-1200 + waves + 3 * r - 2 * c).astype(np.float32)


def _write_geotiffs(folder: Path) -> None:
    import rasterio

    z = sea_floor()
    place = {"crs": "EPSG:32755", "transform": rasterio.Affine(50, 0, 285e3, 0, -50, 8275e3)}
    size = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 1}
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    for name, values, options in (
        ("plain", z, {"nodata": -99999.0}),
        ("deflated", z, {"compress": "deflate", "predictor": 3, **tiles}),
        ("lzw", np.rint(z).astype(np.int16), {"compress": "lzw", "nodata": -32768}),
        ("big", z.astype(np.float64), {"BIGTIFF": "YES"}),
    ):
        path = folder / f"geotiff_{name}.tif"
        with rasterio.open(path, "w", dtype=values.dtype, **size, **place, **options) as file:
            file.write(values, 1)
            file.update_tags(1, units="m")


def _write_netcdfs(folder: Path) -> None:
    import xarray

    z = sea_floor()
    y, x = (50.0 * np.arange(size) for size in SHAPE)
    attrs = {"units": "m", "standard_name": "height_above_geopotential_datum"}
    data = xarray.Dataset({"z": (("y", "x"), z, attrs)}, {"y": y, "x": x})
    for axis in "yx":
        data[axis].attrs = {"units": "m", "standard_name": f"projection_{axis}_coordinate"}
    packed = {"dtype": "int16", "scale_factor": 0.1, "add_offset": -1200.0, "_FillValue": -32768}
    plain = {"_FillValue": np.float32(-99999)}
    for name, engine, encoding in (
        ("deflated", "h5netcdf", {**plain, "compression": "gzip", "chunksizes": (40, 50)}),
        ("plain", "h5netcdf", plain),
        ("classic", "scipy", plain),
        ("packed", "scipy", packed),
    ):
        data.to_netcdf(folder / f"netcdf_{name}.nc", engine=engine, encoding={"z": encoding})


def _write_arrays(folder: Path) -> None:
    z = sea_floor()
    np.save(folder / "array_plain.npy", z)
    np.savez_compressed(folder / "array_zipped.npz", elevation=z)
    (folder / "array_pickled.pkl").write_bytes(pickle.dumps(z, 4))


def _write_pictures(folder: Path) -> None:
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(1)
    waves = 120 + 60 * np.sin(np.arange(64) / 5) + rng.normal(0, 9, (3, 48, 64))
    grey = np.clip(waves, 0, 255).astype(np.uint8)
    deep = (grey.astype(np.uint16) << 8) + 7
    said = {"description": json.dumps({"pixel_nm": 0.8}), "metadata": None}
    size = {"resolution": (1e7 / 0.8, 1e7 / 0.8), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "tiff_grey.tif", grey[0], **said, **size)
    tifffile.imwrite(folder / "tiff_deep.tif", deep[0], metadata=None, **size)
    tifffile.imwrite(folder / "tiff_pages.tif", grey, photometric="minisblack", metadata=None)
    tifffile.imwrite(folder / "tiff_deflated.tif", grey[0], compression="zlib", predictor=True)
    tifffile.imwrite(folder / "tiff_imagej.tif", deep, imagej=True, metadata={"unit": "nm"})
    colour = np.moveaxis(grey, 0, -1)
    Image.fromarray(colour).save(folder / "tiff_lzw.tif", compression="tiff_lzw", dpi=(300, 300))
    Image.fromarray(grey[0]).save(folder / "png_grey.png", dpi=(300, 300))
    Image.fromarray(colour).save(folder / "png_colour.png")
    Image.fromarray(colour).quantize(16).save(folder / "png_palette.png")
    Image.fromarray(deep[0]).save(folder / "png_deep.png")


def _write_photos(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(2)
    for number in range(6):
        small = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
        small.resize((40, 48), Image.Resampling.BICUBIC).save(folder / f"{number}.png")


def dump(content: dict[str, Any], path: Path) -> Path:
    """Write settings as YAML."""
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in content.items()}
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path


def _train(shop: Path, name: str, content: dict[str, Any]) -> None:
    config = dump({**content, "log_dir": shop / "runs" / name}, shop / f"{name}.yml")
    _succeeded(in_process(trainer, config, "train"))


def _succeeded(result: Result) -> Result:
    if result.code != 0:
        raise RuntimeError(result.out + result.err)
    return result


def prepare(shop: Path) -> None:
    """Write all sound files and what comes of them into an empty folder."""
    from sr_dataset_builder.simulate_sem import main as simulate

    seeds = shop / "seeds"
    seeds.mkdir(parents=True)
    (shop / "runs").mkdir()
    for write in (_write_geotiffs, _write_netcdfs, _write_arrays, _write_pictures):
        write(seeds)
    _write_photos(shop / "photos")
    _write_patches(shop / "patches", (12, 4, 5), 4)
    simulation = dump({**SIMULATION, "save_dir": shop / "frames"}, shop / "simulation.yml")
    _succeeded(in_process(simulate, simulation))
    _train(shop, "map", {**TINY_RUN, "data_dir": shop / "patches"})
    _train(shop, "sem", {**SEM_RUN, "data_dir": shop / "frames"})
    _train(shop, "photo", {**PHOTO_RUN, "data_dir": shop / "photos"})
    for kind in ("LR", "HR"):
        shutil.copy(shop / f"patches/train/data_{kind}.pkl", seeds / f"pickle_{kind}.pkl")
    shutil.copy(shop / "patches/validation/data_HR.pkl", seeds / "pickle_validation.pkl")
    for name in ("weights_best.h5", "normalizer.json"):
        shutil.copy(shop / "runs/map" / name, seeds / f"run_{name}")
    shutil.copy(shop / "runs/map/config.yml", seeds / "yaml_config.yml")
    run = {**TINY_RUN, "epochs": 1, "data_dir": "patches", "log_dir": "run"}
    dump(run | {"online_da": {"valid": True}}, seeds / "yaml_input.yml")
    built = {**BUILD, "hr_fname": "map.tif", "save_dir": "built", "overwrite": True}
    dump(built, seeds / "yaml_dataset.yml")
    pristine = {}
    for seed in sorted(seeds.iterdir()):
        folder = shop / "work" / seed.name
        for step in steps(shop, seed.name, seed.read_bytes(), folder):
            result = _succeeded(step.run())
            said = oracles.lines_of(result, folder)
            pristine[seed.name, step.name] = said, oracles.outcome(step.output)
        shutil.rmtree(folder)
    (shop / "pristine.pkl").write_bytes(pickle.dumps(pristine))


# -- Programs --------------------------------------------------------------------------------------


def steps(shop: Path, seed: str, content: bytes, folder: Path) -> list[Step]:
    """Put the content of one file, sound or not, among sound ones.

    Parameters
    ----------
    shop : pathlib.Path
        What `prepare` made.
    seed : str
        Name of the file that it was.
    content : bytes
        What it holds now.
    folder : pathlib.Path
        New folder for this file.

    Returns
    -------
    list of Step
        The programs that take it, each with a former result that it may replace.
    """
    folder.mkdir(parents=True)
    kind, _, name = seed.partition("_")
    return _PLACES[kind](shop, name, content, folder)


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _former(path: Path) -> Path:
    """Leave what a former run would have, to be kept or replaced as a whole."""
    return _written(path, b"a former result")


def _predict(shop: Path, network: str, source: Path, suffix: str = "") -> Step:
    output = source.parent / "out" / f"{network}{suffix or source.suffix}"
    arguments = [shop / "runs" / network, "predict", source, "-o", _former(output), "--overwrite"]
    return Step(f"predict {network}", trainer, arguments, output, source.parent)


def _train_step(folder: Path, name: str, content: dict[str, Any]) -> Step:
    log = folder / "run"
    for former in ("config.yml", "weights_best.h5", "history.csv"):
        _former(log / former)
    config = dump({**content, "log_dir": log}, folder / "input.yml")
    return Step(f"train {name}", trainer, [config, "train", "--overwrite"], log, folder)


def _build_step(folder: Path, content: dict[str, Any]) -> Step:
    built = folder / "built"
    _former(built / "train" / "data_LR.pkl")
    content = {**BUILD, "save_dir": built, "overwrite": True, **content}
    return Step("build", builder, [dump(content, folder / "build.yml")], built, folder)


def _place_map(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    path = _written(folder / f"map{Path(name).suffix}", content)
    suffix = ".npy" if path.suffix == ".npz" else path.suffix  # archives are not written
    return [_build_step(folder, {"hr_fname": path}), _predict(shop, "map", path, suffix)]


def _place_tiff(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    path = _written(folder / "picture.tif", content)
    return [_predict(shop, "sem", path), _predict(shop, "photo", path)]


def _place_png(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    path = _written(folder / "picture.png", content)
    found = [_predict(shop, "sem", path), _predict(shop, "photo", path)]
    if name == "colour.png":
        photos = shutil.copytree(shop / "photos", folder / "photos")
        _written(photos / "2.png", content)
        found.append(_train_step(folder, "photo", {**PHOTO_RUN, "data_dir": photos}))
    return found


def _place_patches(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    patches = shutil.copytree(shop / "patches", folder / "patches")
    part, kind = ("validation", "HR") if name == "validation.pkl" else ("train", Path(name).stem)
    _written(patches / part / f"data_{kind}.pkl", content)
    return [_train_step(folder, "map", {**TINY_RUN, "epochs": 1, "data_dir": patches})]


def _place_settings(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    if name == "config.yml":
        return _place_run(shop, name, content, folder)
    if name == "dataset.yml":
        shutil.copy(shop / "seeds/geotiff_plain.tif", folder / "map.tif")
        _former(folder / "built/train/data_LR.pkl")
        config = _written(folder / name, content)
        return [Step("build", builder, [config], folder / "built", folder)]
    shutil.copytree(shop / "patches", folder / "patches")
    _former(folder / "run/config.yml")
    config = _written(folder / name, content)
    arguments = [config, "train", "--overwrite"]
    return [Step("train map", trainer, arguments, folder / "run", folder)]


def _place_run(shop: Path, name: str, content: bytes, folder: Path) -> list[Step]:
    log = shutil.copytree(shop / "runs/map", folder / "log")
    _written(log / name, content)
    source = Path(shutil.copy(shop / "seeds/geotiff_plain.tif", folder / "map.tif"))
    plain = _predict(shop, "map", source)
    return [dataclasses.replace(plain, arguments=[log, *plain.arguments[1:]])]


_PLACES: dict[str, Callable[[Path, str, bytes, Path], list[Step]]] = {
    "geotiff": _place_map,
    "netcdf": _place_map,
    "array": _place_map,
    "tiff": _place_tiff,
    "png": _place_png,
    "pickle": _place_patches,
    "yaml": _place_settings,
    "run": _place_run,
}
KINDS = tuple(_PLACES)

if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
