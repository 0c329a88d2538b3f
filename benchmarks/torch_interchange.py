"""The PyTorch side of `benchmarks.interchange`: ``python torch_interchange.py TASKS.json``.

This script imports nothing from the project, so it runs in an environment with PyTorch and
spandrel and without TensorFlow. Each task makes and saves a network, or loads one of our files,
and runs an image through it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def spandrel_loader() -> Any:
    """Import spandrel; two networks that are not used here need torchvision for that."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = types.ModuleType(name)
        missing: Any = sys.modules["torchvision.transforms.functional"]
        missing.InterpolationMode = types.SimpleNamespace(NEAREST=0)
        missing.rotate = missing.normalize = None
    from spandrel import ModelLoader

    return ModelLoader()


class _Block(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.PReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.rcb(x)


class _Enlarge(nn.Module):
    def __init__(self, filters: int, factor: int, slopes: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(filters, filters * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
            nn.PReLU(slopes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.upsample_block(x)
        return result


class SRResNet(nn.Module):
    """SRResNet with batch normalisation, linear output.

    Parameters
    ----------
    channels, filters, blocks : int
        Image channels, channels between the blocks, number of blocks.
    factors : list of int
        Consecutive enlargement factors.
    """

    def __init__(self, channels: int, filters: int, blocks: int, factors: list[int]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(channels, filters, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(_Block(filters) for _ in range(blocks)))
        self.conv2 = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters)
        )
        self.upsampling = nn.Sequential(*(_Enlarge(filters, factor, 1) for factor in factors))
        self.conv3 = nn.Conv2d(filters, channels, 9, padding=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, C, h, w)."""
        first = self.conv1(x)
        result: torch.Tensor = self.conv3(self.upsampling(first + self.conv2(self.trunk(first))))
        return result


def srresnet(channels: int, filters: int, blocks: int, factors: list[int]) -> nn.Module:
    """Return an SRResNet as if trained: all moving averages differ from their initial values."""
    network = SRResNet(channels, filters, blocks, factors)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.05, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.05, 0.4)
    return network


def rrdbnet(channels: int, filters: int, blocks: int, scale: int) -> nn.Module:
    """Return spandrel's RRDBNet, whose names are the oldest."""
    spandrel_loader()
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(
        in_nc=channels, out_nc=channels, num_filters=filters, num_blocks=blocks, scale=scale
    )


def renamed(state: dict[str, torch.Tensor], pairs: list[list[str]]) -> dict[str, torch.Tensor]:
    """Return a state dict with other names; `pairs` are patterns and their replacements."""
    result = {}
    for key, tensor in state.items():
        for old, new in pairs:
            key = re.sub(f"^{old}", new, key)
        result[key] = tensor
    return result


def applied(network: nn.Module, image: str, result: str) -> None:
    """Run an image (h, w, C) through a network and save the result."""
    pixels = torch.from_numpy(np.load(image, allow_pickle=False).transpose(2, 0, 1)[None])
    with torch.inference_mode():
        np.save(result, network.eval()(pixels)[0].numpy().transpose(1, 2, 0))


def span_one(network: nn.Module, image: str) -> None:
    """Scale the last convolution so that results span 1, as with trained networks."""
    pixels = torch.from_numpy(np.load(image, allow_pickle=False).transpose(2, 0, 1)[None])
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    with torch.inference_mode():
        result = network.eval()(pixels)
    with torch.no_grad():
        last.weight /= float(result.max() - result.min())
        if last.bias is not None:
            last.bias /= float(result.max() - result.min())


def make(task: dict[str, Any]) -> dict[str, Any]:
    """Make a network in PyTorch, save it and run an image through it."""
    torch.manual_seed(0)
    network = {"rrdbnet": rrdbnet, "srresnet": srresnet}[task["network"]](**task["arguments"])
    span_one(network, task["image"])
    state = renamed(network.state_dict(), task.get("names", []))
    content = {task["nested"]: state} if task.get("nested") else state
    torch.save(content, task["file"], _use_new_zipfile_serialization=not task.get("legacy"))
    applied(network, task["image"], task["result"])
    return {"parameters": sum(p.numel() for p in network.parameters())}


def detect(task: dict[str, Any]) -> dict[str, Any]:
    """Load one of our files with spandrel and run an image through it."""
    found = spandrel_loader().load_from_file(task["file"])
    applied(found.model, task["image"], task["result"])
    tags = ", ".join(found.tags)
    return {"architecture": found.architecture.id, "scale": found.scale, "tags": tags}


def load(task: dict[str, Any]) -> dict[str, Any]:
    """Load one of our files strictly into this SRResNet and run an image through it."""
    from safetensors.torch import load_file

    state = load_file(task["file"])
    network = srresnet(**task["arguments"])
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.PReLU):  # one slope, or one for every channel
            module.weight = nn.Parameter(torch.zeros(state[f"{name}.weight"].shape))
    network.load_state_dict(state)
    applied(network, task["image"], task["result"])
    return {"architecture": "SRResNet"}


def main() -> None:
    """Run the tasks of a file; write their results next to it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", type=Path, help="tasks (.json)")
    path = parser.parse_args().tasks
    kinds = {"make": make, "detect": detect, "load": load}
    told = [kinds[task["do"]](task) for task in json.loads(path.read_text(encoding="utf-8"))]
    path.with_suffix(".told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
