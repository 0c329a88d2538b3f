"""Tiny runs of every kind, each on one device and on the two halves of a CPU, in one process.

``python tests/distribution_runs.py FOLDER NAMES`` with ``SR_CPU_DEVICES=2`` writes ``NAME_none``
and ``NAME_mirrored`` into FOLDER, for ``NAME=none`` the first alone. ``phases+`` is the run in two
parts and in one, ``phases_parts`` and ``phases_whole``, mirrored, with dropout. Data that are
missing are made first.
"""

import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import yaml

from sr_dataset_builder.simulate_sem import main as simulate

SMALL = {"filters": 4, "num_residual_blocks": 1, "d_filters": 2, "d_num_downsampling_blocks": 1}
SMALL |= {"loss_weights": [1, 0.01]}
#: Of eight pairs a batch, with a short last batch in validation. SGD does not magnify rounding.
SHARED = {
    "batch_size": 4,
    "epochs": 2,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "log_period": 100,
    "seed": 3,
    "clip_norm": 0.05,
}
PATCHES = {"input_shape": [4, 4, 1], "scale": 4, "norm_range": [-2500, 0], "metrics": ["psnr"]}
FLIPS = {"valid": True, "horizontal_flip": True, "vertical_flip": True}
#: What is compiled in a moment, by name; `data` is a folder in FOLDER.
RUNS = {
    "srcnn": {
        "data": "patches",
        **PATCHES,
        "model": "srcnn",
        "srcnn": {"filters": [4, 4], "kernels": [3, 1, 3]},
        "optimizer": "adam",
        "learning_rate": 0.001,
        "ema": 0.9,
        "online_da": FLIPS,
        "final_evaluation": True,
    },
    "srgan": {
        "data": "patches",
        **PATCHES,
        "model": "srgan",
        "srgan": {**SMALL, "label_noise": 0.0},
        "pretrain_epochs": 1,
    },
    "esrgan": {
        "data": "patches",
        **PATCHES,
        "model": "esrgan",
        "esrgan": {**SMALL, "growth": 4, "dropout_rate": 0.0},
    },
    # The form `gradient` of cdloss is traced in a moment; `width` was compared by hand.
    "sem": {
        "data": "sem",
        "source": "sem",
        "model": "simplesrnet",
        "simplesrnet": {"filters": 4, "num_layers": 2},
        "sem": {"patch_size": 32, "repeats": 2},
        "input_shape": [32, 32, 1],
        "loss": {"cdloss": 0.01, "edgeloss": 1, "mae": 1},
        "metrics": ["psnr", "cdloss"],
        "cdloss": {"form": "gradient"},
    },
    "phases": {
        "data": "clips/videos",
        "task": "surgical_phase",
        "surgical_video": {"size": 32, "window_size": 8, "stride": 4},
        "surgical_phase": {"backbone": "TinyNet", "width": 8, "heads": 2, "dropout_rate": 0.0},
    },
    "pix2pix": {
        "data": "pairs",
        "source": "picture_pairs",
        "input_shape": [16, 16, 3],
        "scale": 1,
        "norm_range": [0, 255],
        "picture_pairs": {"size": 16, "shares": [8, 5, 2]},
        "model": "pix2pix",
        "pix2pix": {"filters": 4, "depth": 1, "d_filters": 2, "conditional": True},
    },
}


def train(folder, name, kind, suffix=None, *options, **changes):
    """Train a run in this process."""
    from sr_trainer.main import main as program

    path = settings(folder, name, kind, suffix, **changes)
    assert program([str(path), "train", *options]) == 0, path


def settings(folder, name, kind, suffix=None, **changes):
    """Write the settings of a run; its log folder has the same name without ``.yml``."""
    content = {**SHARED, **RUNS[name], **changes, "distribution": kind}
    content["data_dir"] = str(folder / content.pop("data"))
    path = folder / f"{name}_{suffix or kind}.yml"
    content["log_dir"] = str(path.with_suffix(""))
    if name == "phases":
        content["surgical_video"] = {
            **content["surgical_video"],
            "csv_path": str(folder / "clips" / "phases.csv"),
            "mask_dir": str(folder / "clips" / "masks"),
        }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def write_sem(folder):
    """Write a few frames of lines."""
    content = {
        "save_dir": str(folder),
        "frame_shape": [64, 128],
        "pixel_nm": 0.8,
        "lines": {"pitch_nm": 32, "cd_nm": 16, "sigma_nm": 0.4, "xi_nm": 10, "alpha": 0.5},
        "noise": {"peak_counts": 60, "high_frames": 32},
        "train": {"count": 6},
        "validation": {"count": 3},
        "test": {"count": 1},
    }
    path = folder.with_suffix(".yml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert simulate([str(path)]) == 0


def write_pairs(folder):
    """Write smooth pictures of 40 × 32 pixels, and others to be made of them."""
    rng = np.random.default_rng(0)
    for part in ("input", "target"):
        (folder / part).mkdir(parents=True)
        for number in range(15):
            pixels = cv2.resize(rng.integers(0, 256, (5, 4, 3), np.uint8), (32, 40))
            cv2.imwrite(str(folder / part / f"{number:02d}.png"), pixels)


def main(folder):
    """Train everything twice, and one run in two parts."""
    from clips import TinyNet, write_clips
    from conftest import _write_patches

    keras.applications.TinyNet = TinyNet
    makers = {
        "patches": lambda path: _write_patches(path, (12, 5, 4), 4),
        "sem": write_sem,
        "clips": write_clips,
        "pairs": write_pairs,
    }
    names = sys.argv[2:] or list(RUNS)
    for name in names:
        data = RUNS[name.partition("=")[0].strip("+")]["data"].partition("/")[0]
        if not (folder / data).exists():
            makers[data](folder / data)
    for name in names:
        if name != "phases+":
            # A CPU is divided before anything is computed, so mirrored comes first.
            for kind in name.partition("=")[2].split() or ("mirrored", "none"):
                train(folder, name.partition("=")[0], kind)
        else:
            dropout = {"surgical_phase": {**RUNS["phases"]["surgical_phase"], "dropout_rate": 0.3}}
            train(folder, "phases", "mirrored", "whole", **dropout)
            train(folder, "phases", "mirrored", "parts", **dropout, epochs=1)
            train(folder, "phases", "mirrored", "parts", "--resume", **dropout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
