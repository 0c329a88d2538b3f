"""Training steps beside PyTorch's: ``python -m benchmarks.training_step`` (extra ``bench``).

Batch 16, 16² → 64², one channel, bicubic skip, MSE, Adam 1e-4; forward, loss, gradient, update.
Ours is ``fit`` with the data pipeline of `DataGenerator`, with and without XLA; PyTorch's is a loop
over batches in memory, eager, channels-last and compiled. Each framework runs in a process of its
own, in turn, and the ratio is that of each pair of rounds: the best of PyTorch's ways over the best
of ours, above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

BATCH, LOW, SCALE = 16, 16, 4
MODELS = {"srcnn": {"filters": (64, 32)}, "fsrcnn": {}, "espcn": {}}
PRECISIONS = ("float32", "bfloat16")
Figures = dict[str, dict[str, float]]


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lr = rng.random((count, LOW, LOW, 1), dtype=np.float32)
    return lr, rng.random((count, LOW * SCALE, LOW * SCALE, 1), dtype=np.float32)


def measure_toolbox(steps: int) -> Figures:
    """Return milliseconds a step by model and precision, and within them by way."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from toolbox.data_generator import DataGenerator
    from toolbox.normalizer import MinMaxNormalizer
    from toolbox.registry import MODELS as NETWORKS

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds.append(time.perf_counter() - self.start)

    normalize = MinMaxNormalizer(0, 1, 0, 1).normalize_pair
    data = DataGenerator(*_images(32 * BATCH), normalize, BATCH)
    figures: Figures = {}
    for name, params in MODELS.items():
        for precision in PRECISIONS:
            keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
            ways = figures.setdefault(f"{name} {precision}", {})
            for xla in (False, True):
                model = NETWORKS.resolve(name)((LOW, LOW, 1), SCALE, params, bicubic_skip=True)
                model.compile(
                    loss="mse",
                    optimizer=keras.optimizers.Adam(1e-4),
                    jit_compile=xla,
                    steps_per_execution=model.best_steps_per_execution,
                )
                seconds: list[float] = []
                model.fit(
                    data.training_dataset(),
                    steps_per_epoch=steps,
                    epochs=4,
                    verbose=0,
                    shuffle=False,
                    callbacks=[Clock()],
                )
                ways["XLA" if xla else "graph"] = 1000 * min(seconds[1:]) / steps
    return figures


def measure_torch(steps: int) -> Figures:
    """Return milliseconds a step by model and precision, and within them by way."""
    import torch
    from torch import nn

    conv = nn.Conv2d

    enlarge = nn.Upsample(scale_factor=SCALE, mode="bicubic", align_corners=False)

    def srcnn() -> nn.Module:
        first = [conv(1, 64, 9, padding=4), nn.ReLU(), conv(64, 32, 1), nn.ReLU()]
        return nn.Sequential(enlarge, *first, conv(32, 1, 5, padding=2))

    def fsrcnn() -> nn.Module:
        layers = [conv(1, 56, 5, padding=2), nn.PReLU(56), conv(56, 12, 1), nn.PReLU(12)]
        for _ in range(4):
            layers += [conv(12, 12, 3, padding=1), nn.PReLU(12)]
        layers += [conv(12, 56, 1), nn.PReLU(56)]
        up = nn.ConvTranspose2d(56, 1, 9, stride=SCALE, padding=4, output_padding=SCALE - 1)
        return nn.Sequential(*layers, up)

    def espcn() -> nn.Module:
        body = [conv(1, 64, 5, padding=2), nn.Tanh(), conv(64, 32, 3, padding=1), nn.Tanh()]
        return nn.Sequential(*body, conv(32, SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))

    lr, hr = (torch.from_numpy(imgs).permute(0, 3, 1, 2).contiguous() for imgs in _images(512))
    builders = {"srcnn": srcnn, "fsrcnn": fsrcnn, "espcn": espcn}
    figures: Figures = {}

    def one(builder: Callable[[], nn.Module], way: str, bfloat16: bool) -> float:
        torch.manual_seed(0)
        torch._dynamo.reset()
        x, y, net = lr, hr, builder()
        if way != "eager":
            x, y = (imgs.contiguous(memory_format=torch.channels_last) for imgs in (x, y))
            net = net.to(memory_format=torch.channels_last)
        if way == "compiled":
            net = torch.compile(net)
        optimizer = torch.optim.Adam(net.parameters(), 1e-4)

        def step(i: int) -> None:
            part = slice(i % 32 * BATCH, (i % 32 + 1) * BATCH)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                learned = net(x[part])
            predicted = learned.float() + enlarge(x[part])
            loss = nn.functional.mse_loss(predicted, y[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        times = []
        for _ in range(4):
            start = time.perf_counter()
            for i in range(steps):
                step(i)
            times.append(time.perf_counter() - start)
        return 1000 * min(times[1:]) / steps

    for name, builder in builders.items():
        for precision in PRECISIONS:
            ways = figures.setdefault(f"{name} {precision}", {})
            for way in ("eager", "channels-last", "compiled"):
                ways[way] = one(builder, way, precision == "bfloat16")
    return figures


def _in_own_process(framework: str, steps: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.training_step", "--only", framework]
    done = subprocess.run([*command, "--steps", str(steps)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print one line for each model and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--only", choices=("toolbox", "torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure = measure_toolbox if args.only == "toolbox" else measure_torch
        print(json.dumps(measure(args.steps)))
        return
    rounds = []
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        rounds.append(
            [_in_own_process(framework, args.steps) for framework in ("toolbox", "torch")]
        )
    head = f"{'ms a step':18}{'graph':>8}{'XLA':>8}{'eager':>9}{'ch.-last':>9}{'compiled':>9}"
    print(f"{head}   ratio (min-max)")
    for case in rounds[0][0]:
        ours = [r[0][case] for r in rounds]
        theirs = [r[1][case] for r in rounds]
        ratios = [min(t.values()) / min(o.values()) for o, t in zip(ours, theirs, strict=True)]
        line = "".join(f"{median(r[way] for r in ours):8.2f}" for way in ours[0])
        line += "".join(f"{median(r[way] for r in theirs):9.2f}" for way in theirs[0])
        print(f"{case:18}{line}   {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()
