"""Exchange of networks with PyTorch: ``python -m benchmarks.interchange [--python FILE]``.

Needs PyTorch, spandrel and safetensors, in this environment or in that of the interpreter FILE.
Weights are random. The same image of 24 × 20 pixels goes through the network in PyTorch and
through ours, and the largest difference of the two results is printed. From PyTorch to us: files
of ``torch.save`` (both formats, all three generations of names) through `sr_trainer.importer`.
From us to PyTorch: files of ``main.py log/ export --format safetensors``, in which spandrel must
detect architecture and scale.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import ConfigError, program

ALLOWED = 1e-4
_SHAPE = (24, 20)
#: Patterns from the oldest names of a network of two blocks at ×4 to those of ESRGAN's repository.
_TRUNK = [
    [r"model\.0", "conv_first"],
    [r"model\.1\.sub\.(\d)\.(RDB\d\.conv\d)\.0", r"RRDB_trunk.\1.\2"],
    [r"model\.1\.sub\.2", "trunk_conv"],
    [r"model\.3", "upconv1"],
    [r"model\.6", "upconv2"],
    [r"model\.8", "HRconv"],
    [r"model\.10", "conv_last"],
]
_RRDB = {"channels": 3, "filters": 64, "blocks": 2, "scale": 4}
_SRRES = {"channels": 3, "filters": 64, "blocks": 3}
#: Files written by PyTorch.
FROM_TORCH: dict[str, dict[str, Any]] = {
    "RRDBNet ×4, oldest names": {"network": "rrdbnet", "arguments": _RRDB},
    "RRDBNet ×4, 23 blocks, oldest names, legacy format": {
        "network": "rrdbnet",
        "arguments": {**_RRDB, "blocks": 23},
        "legacy": True,
    },
    "RRDBNet ×2, oldest names, params_ema": {
        "network": "rrdbnet",
        "arguments": {**_RRDB, "scale": 2},
        "nested": "params_ema",
    },
    "SRResNet ×4": {"network": "srresnet", "arguments": {**_SRRES, "factors": [2, 2]}},
    "SRResNet ×3, legacy format": {
        "network": "srresnet",
        "arguments": {**_SRRES, "factors": [3]},
        "legacy": True,
    },
}
#: Our networks that PyTorch reads.
FROM_US: dict[str, dict[str, Any]] = {
    "esrgan ×4": {"model": "esrgan", "scale": 4, "blocks": 2},
    "esrgan ×4, 23 blocks": {"model": "esrgan", "scale": 4, "blocks": 23},
    "esrgan ×2": {"model": "esrgan", "scale": 2, "blocks": 2},
    "esrgan ×8, one channel": {"model": "esrgan", "scale": 8, "blocks": 2, "channels": 1},
    "srgan ×4": {"model": "srgan", "scale": 4, "blocks": 3},
    "srgan ×3": {"model": "srgan", "scale": 3, "blocks": 3},
}


def _image(folder: Path, channels: int) -> Path:
    path = folder / f"image_{channels}.npy"
    np.save(path, np.random.default_rng(0).random((*_SHAPE, channels), dtype=np.float32))
    return path


def _torch(python: str, folder: Path, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run tasks with PyTorch in a separate process; return their results."""
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks, default=str), encoding="utf-8")
    script = Path(__file__).with_name("torch_interchange.py")
    run = subprocess.run([python, script, path], capture_output=True, text=True, check=False)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1]
        raise ConfigError(
            f"{python}: cannot run the PyTorch part ({last}). With --python, name the interpreter "
            f"of an environment with torch, spandrel and safetensors."
        )
    told: list[dict[str, Any]] = json.loads(path.with_suffix(".told.json").read_text("utf-8"))
    return told


def _run(main: Any, *arguments: object) -> None:
    """Run one of our programs without its output."""
    with contextlib.redirect_stdout(io.StringIO()):
        if main([str(argument) for argument in arguments]):
            raise ConfigError("the program failed; its message is above.")


def _ours(log: Path, image: Path) -> np.ndarray:
    """Return the result of the network in a log folder for an image in the range 0 to 1."""
    from toolbox.run import load_model

    network = load_model(log)
    [result] = (
        np.asarray(network.physical(255 * np.load(image, allow_pickle=False)[None], training=False))
        / 255
    )
    return np.asarray(result)


def from_torch(python: str, folder: Path) -> dict[str, float]:
    """Return the largest difference for each file written by PyTorch."""
    from sr_trainer.importer import main

    image = _image(folder, 3)
    tasks = [
        {
            **task,
            "do": "make",
            "image": image,
            "file": folder / f"torch_{number}.pth",
            "result": folder / f"torch_{number}.npy",
        }
        for number, task in enumerate(FROM_TORCH.values())
    ]
    tasks.append({**tasks[0], "names": _TRUNK, "file": folder / "trunk.pth"})
    _torch(python, folder, tasks)
    differences = {}
    for name, task in zip([*FROM_TORCH, "RRDBNet ×4, RRDB_trunk names"], tasks, strict=True):
        log = task["file"].with_suffix("")
        _run(main, task["file"], "-o", log)
        differences[name] = float(
            np.abs(_ours(log, image) - np.load(task["result"], allow_pickle=False)).max()
        )
    return differences


def from_us(python: str, folder: Path) -> dict[str, tuple[float, dict[str, Any]]]:
    """Return the largest difference for each of our networks, and what spandrel detected."""
    from sr_trainer.main import main

    tasks = []
    for number, network in enumerate(FROM_US.values()):
        log = folder / f"ours_{number}"
        _write_log(log, **network)
        file = folder / f"ours_{number}.safetensors"
        _run(main, log, "export", "--format", "safetensors", "-o", file)
        arguments = {**_SRRES, "factors": [2, 2] if network["scale"] == 4 else [3]}
        tasks.append(
            {
                "do": "detect" if network["model"] == "esrgan" else "load",
                "arguments": arguments,
                "image": _image(folder, network.get("channels", 3)),
                "file": file,
                "result": file.with_suffix(".npy"),
            }
        )
    results = {}
    for name, task, facts in zip(FROM_US, tasks, _torch(python, folder, tasks), strict=True):
        ours = _ours(task["file"].with_suffix(""), task["image"])
        results[name] = (
            float(np.abs(ours - np.load(task["result"], allow_pickle=False)).max()),
            facts,
        )
    return results


def _write_log(log: Path, model: str, scale: int, blocks: int, channels: int = 3) -> None:
    """Write the log folder of a network with weights as if trained."""
    import keras

    from toolbox.io.weights import save_weights
    from toolbox.model.build import build_network
    from toolbox.normalizer import MinMaxNormalizer
    from toolbox.settings import UserParams
    from toolbox.training.run_folder import RunFolder

    keras.utils.set_random_seed(scale)
    upsampling = {"esrgan": "resize", "srgan": "subpixel"}[model]
    params = {"filters": 64, "num_residual_blocks": blocks, "upsampling": upsampling}
    values = {
        "data_dir": "none",
        "model": model,
        model: params,
        "scale": scale,
        "input_shape": [16, 16, channels],
        "norm_range": [0, 255],
        "log_dir": str(log),
    }
    settings = UserParams(log / "run.yml", values)
    network = build_network(settings.resolved())
    rng = np.random.default_rng(scale)
    for weight in network.weights:
        if len(weight.shape) < 4:  # biases, slopes and moving averages
            weight.assign(weight + 0.05 * np.abs(rng.normal(size=weight.shape)))
    image = rng.random((1, *_SHAPE, channels), dtype=np.float32)
    span = np.ptp(network(image, training=False))
    for weight in network.weights[-2:]:  # results span 1, as with trained networks
        weight.assign(weight / span)
    RunFolder(settings).prepare({}, MinMaxNormalizer(0, 255, 0, 255), overwrite=False)
    save_weights(network, log / settings.read_test_weights)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interchange")
    parser.add_argument("--python", default=sys.executable, help="interpreter with PyTorch")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        rows = [
            (f"PyTorch → us: {name}", difference, "")
            for name, difference in from_torch(args.python, Path(name)).items()
        ]
        rows += [
            (f"us → PyTorch: {name}", difference, json.dumps(facts))
            for name, (difference, facts) in from_us(args.python, Path(name)).items()
        ]
    for label, difference, facts in rows:
        print(f"{label:70} {difference:.2e} {facts}")
    worst = max(difference for _, difference, _ in rows)
    if not worst <= ALLOWED:
        raise ConfigError(f"the largest difference is {worst:.2e}, more than {ALLOWED:g}.")


if __name__ == "__main__":
    raise SystemExit(main())
