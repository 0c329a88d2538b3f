"""MaxViT of timm compared with ours: ``python -m benchmarks.timm_maxvit [--python FILE]``.

Needs PyTorch, timm and safetensors, in this environment or in that of the interpreter FILE, which
runs the PyTorch part in a separate process without TensorFlow. The network of timm has random
weights, moving averages and bias tables, as if trained; `load_timm` reads its file. The same two
pictures go through both networks, and the results are compared layer by layer.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import ConfigError, program

VARIANTS = ("tiny", "small", "base", "large")
#: Largest allowed difference of a logit.
ALLOWED_LOGIT = 1e-3
#: Largest allowed difference of a feature, as a fraction of the largest one in its layer.
ALLOWED_FEATURE = 1e-4
#: Compared layers of timm. ``attn_grid`` is the result of its block, and in the last block that of
#: the stage.
_COMPARED = r"stem|stages\.\d+\.blocks\.\d+\.(conv|attn_block|attn_grid)"


# PyTorch --------------------------------------------------------------------------------------


def make(variant: str, folder: Path) -> None:
    """Write a network of timm and its results for the pictures in a folder."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model(f"maxvit_{variant}_tf_224", pretrained=False).eval()
    _as_if_learnt(network)
    save_file(network.state_dict(), folder / "model.safetensors")
    results: dict[str, Any] = {}
    _record(network, results)
    pictures = np.load(folder / "pictures.npy", allow_pickle=False)
    with torch.inference_mode():
        results["logits"] = network(torch.from_numpy(pictures.transpose(0, 3, 1, 2))).numpy()
    results["parameters"] = sum(p.numel() for p in network.parameters())
    np.savez(folder / "results.npz", **results)


def _as_if_learnt(network: Any) -> None:
    """Draw random averages, gains, biases and tables, which are constant in a new network."""
    from torch import nn

    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            nn.init.uniform_(buffer, -0.3, 0.3)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    for name, parameter in network.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter, std=1.0)
        elif name.endswith("bias"):
            nn.init.uniform_(parameter, -0.2, 0.2)
        elif parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)


def _record(network: Any, results: dict[str, Any]) -> None:
    """Keep the results (N, h, w, C) of the compared layers."""

    def keep(name: str, channels_last: bool) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            array = output.numpy()
            results[name] = array if channels_last else array.transpose(0, 2, 3, 1)

        return hook

    for name, module in network.named_modules():
        if re.fullmatch(_COMPARED, name):
            module.register_forward_hook(keep(name, name.endswith(("attn_block", "attn_grid"))))


# Keras ----------------------------------------------------------------------------------------


def ours(variant: str, folder: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
    """Return the results of our network, and its number of trainable parameters."""
    import keras

    from toolbox.model.maxvit import load_timm, maxvit_classifier

    model = maxvit_classifier(variant, 1000)
    load_timm(model, folder / "model.safetensors")
    last = {"stem": "stem.conv2"}
    wanted = {name: model.get_layer(last.get(name, name)).output for name in names}
    several = keras.Model(model.input, {**wanted, "logits": model.output})
    pictures = np.load(folder / "pictures.npy", allow_pickle=False)
    results = {name: np.asarray(array) for name, array in several(pictures).items()}
    return results, sum(int(np.prod(w.shape)) for w in model.trainable_variables)


def compared(
    theirs: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> Iterator[tuple[str, float, float, float]]:
    """Yield for each layer: name, largest value, largest difference, allowed difference."""
    for name, array in found.items():
        size = float(np.abs(theirs[name]).max())
        difference = float(np.abs(theirs[name] - array).max())
        yield name, size, difference, ALLOWED_LOGIT if name == "logits" else ALLOWED_FEATURE * size


def run_torch(python: str, variant: str, folder: Path) -> None:
    """Run the PyTorch part in a separate process."""
    command = [python, "-m", "benchmarks.timm_maxvit", "--variant", variant, "--make", str(folder)]
    root = Path(__file__).parents[1]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"{python}: cannot run the PyTorch part ({last}). With --python, name the interpreter "
            f"of an environment with torch, timm and safetensors."
        )


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timm_maxvit")
    parser.add_argument("--variant", choices=VARIANTS, default="tiny", help="default tiny")
    parser.add_argument("--python", default=sys.executable, help="interpreter with PyTorch")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.make:
        make(args.variant, args.make)
        return
    with tempfile.TemporaryDirectory() as name:
        report(args.variant, args.python, Path(name))


def report(variant: str, python: str, folder: Path) -> None:
    """Print the table; raise an error if a difference is too large."""
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 224, 224, 3)).astype(np.float32)
    np.save(folder / "pictures.npy", pictures)
    run_torch(python, variant, folder)
    with np.load(folder / "results.npz", allow_pickle=False) as file:
        theirs = dict(file)
    parameters = int(theirs.pop("parameters"))
    found, ours_count = ours(variant, folder, [name for name in theirs if name != "logits"])
    print(f"parameters: {parameters:,} in timm, {ours_count:,} in ours")
    print(f"{'layer':35} {'largest':>10} {'difference':>11} {'allowed':>9}")
    wrong = [] if parameters == ours_count else ["parameters"]
    for name, size, difference, allowed in compared(theirs, found):
        print(f"{name:35} {size:10.3g} {difference:11.2e} {allowed:9.1e}")
        if not difference <= allowed:
            wrong.append(name)
    if wrong:
        raise ConfigError(f"differs too much from timm: {', '.join(wrong)}.")


if __name__ == "__main__":
    raise SystemExit(main())
