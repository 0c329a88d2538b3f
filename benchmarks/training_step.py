"""Training steps beside PyTorch's: ``python -m benchmarks.training_step`` (extra ``bench``).

Batch 16, 16² → 64², one channel, bicubic skip, MSE, Adam 1e-4; forward, loss, gradient, update.
SRGAN and ESRGAN take the whole adversarial step: one generator forward, update of the
discriminator, update of the generator through it.

Ours is ``fit`` with the data pipeline of `DataGenerator`, with and without XLA; PyTorch's is a loop
over batches in memory, eager, channels-last and compiled; "two calls" is the adversarial step that
one writes with compiled Keras models. Each runs in a process of its own, in turn, and a ratio is
that of each round: the best of their ways over the best of ours, above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

BATCH, BATCHES, LOW, SCALE = 16, 32, 16, 4
ADVERSARIAL = 1e-3
GAN: dict[str, Any] = {"loss_weights": (1, ADVERSARIAL)}
MODELS = {"srcnn": {"filters": (64, 32)}, "fsrcnn": {}, "espcn": {}, "srgan": GAN, "esrgan": GAN}
GANS = [name for name, params in MODELS.items() if params is GAN]
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
Figures = dict[str, dict[str, float]]
Step = Callable[[int], Any]


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lr = rng.random((BATCHES * BATCH, LOW, LOW, 1), dtype=np.float32)
    return lr, rng.random((len(lr), LOW * SCALE, LOW * SCALE, 1), dtype=np.float32)


def _milliseconds(step: Step, steps: int) -> float:
    """Return the time of a step in the best of three epochs; the one before them compiles."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        for i in range(steps):
            step(i % BATCHES)
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:]) / steps


def _build(name: str) -> Any:
    from toolbox.registry import MODELS as NETWORKS

    return NETWORKS.resolve(name)((LOW, LOW, 1), SCALE, params=MODELS[name], bicubic_skip=True)


def measure_toolbox(models: Sequence[str], steps: int) -> Figures:
    """Return milliseconds a step by model and precision, and within them by way."""
    import keras

    from toolbox.data_generator import DataGenerator
    from toolbox.normalizer import MinMaxNormalizer

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds.append(time.perf_counter() - self.start)

    normalize = MinMaxNormalizer(0, 1, 0, 1).normalize_pair
    data = DataGenerator(*_images(), normalize, BATCH)
    figures: Figures = {}
    for name in models:
        for precision, policy in POLICIES.items():
            keras.config.set_dtype_policy(policy)
            ways = figures.setdefault(f"{name} {precision}", {})
            for xla in (False, True):
                model = _build(name)
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


def _two_call_step(name: str, xla: bool) -> Step:
    """Return an adversarial step that is not fused.

    The generator makes images with ``predict_on_batch``, the discriminator learns from them with
    ``train_on_batch``, and so does the generator, run again, inside a model that holds the frozen
    discriminator. Batches lie in memory.
    """
    import keras

    from toolbox.model.esrgan import relative

    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    labels = np.ones((BATCH, 1), np.float32), np.zeros((BATCH, 1), np.float32)

    class Relativistic(keras.Model):
        """Returns the first of two images and adds the loss of taking it for the true one."""

        def __init__(self, critic: Any, weight: float = 1.0) -> None:
            super().__init__()
            self.critic, self.weight = critic, weight

        def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
            first, second = relative(*(self.critic(imgs, training=training) for imgs in inputs))
            self.add_loss(self.weight * (entropy(labels[0], first) + entropy(labels[1], second)))
            return inputs[0]

    model = _build(name)
    generator = model.generator
    lr = keras.Input((LOW, LOW, 1))
    hr, other = (keras.Input((LOW * SCALE, LOW * SCALE, 1)) for _ in range(2))
    if name == "srgan":
        critic = model.discriminator
        judge = keras.Model([hr, other], [critic(hr), critic(other)])
        d_loss: dict[str, Any] = {"loss": [entropy, entropy], "loss_weights": [0.5, 0.5]}
        fake = generator(lr)
        gan = keras.Model(lr, [fake, critic(fake)])
        g_loss: dict[str, Any] = {"loss": ["mse", entropy], "loss_weights": [1, ADVERSARIAL]}
    else:
        critic = model.discriminator.discriminator
        judge, d_loss = Relativistic(critic), {}
        gan = keras.Model([lr, hr], Relativistic(critic, ADVERSARIAL)([generator(lr), hr]))
        g_loss = {"loss": "mse"}
    generator.compile(jit_compile=xla)
    for whole, loss in ((judge, d_loss), (gan, g_loss)):
        whole.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=xla, **loss)

    lr_imgs, hr_imgs = _images()

    def step(i: int) -> None:
        part = slice(i * BATCH, (i + 1) * BATCH)
        small, real = lr_imgs[part], hr_imgs[part]
        made = generator.predict_on_batch(small)
        judge.train_on_batch([real, made], labels if name == "srgan" else None)
        critic.trainable = False  # the first call has fixed what the discriminator learns
        if name == "srgan":
            gan.train_on_batch(small, [real, labels[0]])
        else:
            gan.train_on_batch([small, real], real)

    return step


def measure_two_calls(models: Sequence[str], steps: int) -> Figures:
    """Return milliseconds of an adversarial step that is not fused, by precision and way."""
    import keras

    figures: Figures = {}
    for name in models:
        for precision, policy in POLICIES.items():
            keras.config.set_dtype_policy(policy)
            figures[f"{name} {precision}"] = {
                way: _milliseconds(_two_call_step(name, xla), steps)
                for way, xla in (("2 calls", False), ("2 c. XLA", True))
            }
    return figures


def _torch_step(name: str, way: str, bfloat16: bool) -> Step:
    """Return a training step of PyTorch, over batches that lie in memory."""
    import torch
    from torch import nn

    from benchmarks import torch_networks as networks

    entropy = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    lr, hr = (torch.from_numpy(imgs).permute(0, 3, 1, 2).contiguous() for imgs in _images())
    enlarge = networks.bicubic(SCALE)
    torch.manual_seed(0)
    torch._dynamo.reset()
    layout = torch.contiguous_format if way == "eager" else torch.channels_last
    x, y = (imgs.contiguous(memory_format=layout) for imgs in (lr, hr))

    def ready(net: nn.Module) -> Any:
        net = net.to(memory_format=layout)  # type: ignore[call-overload]
        return torch.compile(net) if way == "compiled" else net

    def run(net: nn.Module, imgs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return net(imgs).float()

    net = ready(networks.GENERATORS[name](SCALE))
    learn = networks.learner(net)

    def images(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(i * BATCH, (i + 1) * BATCH)
        return y[part], run(net, x[part]) + enlarge(x[part])

    def step(i: int) -> None:
        real, made = images(i)
        learn(nn.functional.mse_loss(made, real))

    if name not in GANS:
        return step
    critic = ready(networks.DISCRIMINATORS[name](LOW * SCALE))
    d_learn = networks.learner(critic)

    def adversarial_step(i: int) -> None:
        real, made = images(i)
        c_real, c_made = run(critic, real), run(critic, made.detach())
        if name == "srgan":
            d_learn((entropy(c_real, ones) + entropy(c_made, zeros)) / 2)
        else:
            d_learn(networks.relativistic(c_real, c_made))
        critic.requires_grad_(False)  # or its gradients would be computed and not used
        if name == "srgan":
            loss = entropy(run(critic, made), ones)
        else:
            loss = networks.relativistic(run(critic, made), run(critic, real))
        learn(nn.functional.mse_loss(made, real) + ADVERSARIAL * loss)
        critic.requires_grad_(True)

    return adversarial_step


def measure_torch(models: Sequence[str], steps: int) -> Figures:
    """Return milliseconds a step by model and precision, and within them by way."""
    figures: Figures = {}
    for name in models:
        for precision in POLICIES:
            figures[f"{name} {precision}"] = {
                way: _milliseconds(_torch_step(name, way, precision == "bfloat16"), steps)
                for way in ("eager", "ch.-last", "compiled")
            }
    return figures


MEASURES = {"toolbox": measure_toolbox, "torch": measure_torch, "two-calls": measure_two_calls}


def _in_own_process(side: str, models: Sequence[str], steps: int) -> Figures:
    models = [name for name in models if side != "two-calls" or name in GANS]
    if not models:
        return {}
    command = [sys.executable, "-m", "benchmarks.training_step", "--only", side]
    command += ["--steps", str(steps), "--models", *models]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _line(case: str, rounds: list[dict[str, Figures]]) -> dict[str, str]:
    """Return the columns of a row: medians by way, then the ratios to PyTorch and to two calls."""
    columns = {}
    for side in MEASURES:
        for way in rounds[0][side].get(case, {}):
            columns[way] = f"{median(r[side][case][way] for r in rounds):.2f}"
    for title, side in (("to PyTorch", "torch"), ("to 2 calls", "two-calls")):
        if case in rounds[0][side]:
            ratios = [
                min(r[side][case].values()) / min(r["toolbox"][case].values()) for r in rounds
            ]
            columns[title] = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return columns


def main() -> None:
    """Print one line for each model and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--only", choices=list(MEASURES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if args.only:
        print(json.dumps(MEASURES[args.only](args.models, args.steps)))
        return
    rounds = []
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        rounds.append({side: _in_own_process(side, args.models, args.steps) for side in MEASURES})
    lines = {case: _line(case, rounds) for case in rounds[0]["toolbox"]}
    ways = dict.fromkeys(way for line in lines.values() for way in line)
    columns = sorted(ways, key=lambda way: way.startswith("to "))  # the ratios stand last
    widths = {column: 18 if column.startswith("to ") else 9 for column in columns}
    for case, line in {"ms a step": dict(zip(columns, columns, strict=True)), **lines}.items():
        print(f"{case:17}" + "".join(f"{line.get(c, '-'):>{widths[c]}}" for c in columns))


if __name__ == "__main__":
    main()
