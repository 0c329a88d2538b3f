"""Training steps compared with PyTorch: ``python -m benchmarks.training_step`` (extra ``bench``).

Batch 16, 16² → 64², one channel, bicubic skip, MSE, Adam 1e-4; forward, loss, gradient, update.
SRGAN, ESRGAN and pix2pix take the whole adversarial step: one generator forward, update of the
discriminator, update of the generator through it. pix2pix makes pictures of three channels from
pictures of the same size, 128², one per batch, with 100 times the MAE; ``pix2pix_paper`` is the
paper's pair of networks at 256².

Ours is ``fit`` with the data pipeline of `DataGenerator`, with and without XLA. PyTorch's is a
loop over batches in memory: eager, channels-last and compiled. "Two calls" is the adversarial step
as usually written with compiled Keras models. Each runs in a separate process, in turn. A ratio is
computed within each round: their best time over ours, above 1 where ours is faster. The number of
trainable parameters, ours and PyTorch's, is printed above the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

BATCHES = 32
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
#: By case (a model and a precision), then by measured quantity.
Figures = dict[str, dict[str, Any]]
Step = Callable[[int], Any]


@dataclass(frozen=True)
class Case:
    """A network with its data and losses.

    Attributes
    ----------
    network : str
        Name in the toolbox.
    params : dict
        Its settings, without loss weights.
    size : int
        Pixels along a side of an input image.
    scale, channels, batch, bicubic_skip, loss
        As in the settings of a training run.
    loss_weights : (float, float), optional
        Weights of the loss on images and of the adversarial loss; None without a discriminator.
    d_loss_weight : float
        Factor of the sum of the discriminator's losses on true and on generated images.
    """

    network: str
    params: dict[str, Any] = field(default_factory=dict)
    size: int = 16
    scale: int = 4
    channels: int = 1
    batch: int = 16
    bicubic_skip: bool = True
    loss: str = "mse"
    loss_weights: tuple[float, float] | None = None
    d_loss_weight: float = 0.5

    @property
    def conditional(self) -> bool:
        """Whether the discriminator also sees the generator's input."""
        return bool(self.params.get("conditional"))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return random inputs and targets for `BATCHES` batches."""
        rng = np.random.default_rng(0)
        low, high = self.size, self.size * self.scale
        lr = rng.random((BATCHES * self.batch, low, low, self.channels), dtype=np.float32)
        return lr, rng.random((len(lr), high, high, self.channels), dtype=np.float32)

    def build(self) -> Any:
        """Return the toolbox's network."""
        from toolbox.registry import MODELS as NETWORKS

        params = dict(self.params)
        if self.loss_weights:
            params["loss_weights"] = self.loss_weights
        shape = (self.size, self.size, self.channels)
        network = NETWORKS.resolve(self.network)
        return network(shape, self.scale, params=params, bicubic_skip=self.bicubic_skip)


_GAN: dict[str, Any] = {"loss_weights": (1, 1e-3)}
_PICTURES: dict[str, Any] = {
    "size": 128,
    "scale": 1,
    "channels": 3,
    "batch": 1,
    "bicubic_skip": False,
    "loss": "mae",
    "loss_weights": (100, 1),
    "d_loss_weight": 1.0,
}
_PAPER = {
    "generator": "strided",
    "dropout_rate": 0.5,
    "discriminator": "patch",
    "conditional": True,
    "d_loss_weight": 0.5,
}
MODELS = {
    "srcnn": Case("srcnn", {"filters": (64, 32)}),
    "fsrcnn": Case("fsrcnn"),
    "espcn": Case("espcn"),
    "srgan": Case("srgan", **_GAN),
    "esrgan": Case("esrgan", **_GAN),
    "pix2pix": Case("pix2pix", **_PICTURES),
    "pix2pix_paper": Case("pix2pix", _PAPER, **{**_PICTURES, "size": 256, "d_loss_weight": 0.5}),
}


def _cases(args: argparse.Namespace) -> Iterator[tuple[str, str, Case, str]]:
    """Yield title, name, case and precision of each row."""
    given = {key: getattr(args, key) for key in ("size", "batch") if getattr(args, key)}
    for name in args.models:
        for precision in args.precisions:
            yield f"{name} {precision}", name, replace(MODELS[name], **given), precision


def _milliseconds(step: Step, steps: int) -> float:
    """Return the time of a step in the best of three epochs, after one that compiles."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        for i in range(steps):
            step(i % BATCHES)
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:]) / steps


def variable_count(variables: Sequence[Any]) -> int:
    """Return how many numbers variables of Keras or parameters of PyTorch hold."""
    return sum(int(np.prod(v.shape)) for v in variables)


def parameter_counts(model: Any) -> list[int]:
    """Return the trainable parameters of the generator and of the discriminator, if any."""
    parts = [model.network()]
    if hasattr(model, "discriminator"):
        parts.append(model.discriminator)
    return [variable_count(part.trainable_variables) for part in parts]


def measure_toolbox(args: argparse.Namespace) -> Figures:
    """Return milliseconds per step by case and variant, and the numbers of parameters."""
    import keras

    from toolbox.data_generator import DataGenerator
    from toolbox.normalizer import MinMaxNormalizer
    from toolbox.training.adam import Adam

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds.append(time.perf_counter() - self.start)

    normalize = MinMaxNormalizer(0, 1, 0, 1).normalize_pair
    figures: Figures = {}
    for title, _, case, precision in _cases(args):
        keras.config.set_dtype_policy(POLICIES[precision])
        data = DataGenerator(*case.images(), normalize, case.batch)
        ways: dict[str, float] = {}
        for xla in (False, True):
            model = case.build()
            model.compile(
                loss=case.loss,
                optimizer=Adam(1e-4),
                jit_compile=xla,
                steps_per_execution=min(model.best_steps_per_execution, args.steps),
            )
            seconds: list[float] = []
            model.fit(
                data.training_dataset(),
                steps_per_epoch=args.steps,
                epochs=4,
                verbose=0,
                shuffle=False,
                callbacks=[Clock()],
            )
            ways["XLA" if xla else "graph"] = 1000 * min(seconds[1:]) / args.steps
        figures[title] = {"ms": ways, "parameters": parameter_counts(model)}
    return figures


def _relativistic(labels: tuple[np.ndarray, np.ndarray]) -> Any:
    """Return the class of a model with the relativistic loss of two images."""
    import keras

    from toolbox.model.esrgan import relative

    entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    class Relativistic(keras.Model):
        """Returns the first of two images and adds the loss of labelling it as true."""

        def __init__(self, critic: Any, weight: float = 1.0) -> None:
            super().__init__()
            self.critic, self.weight = critic, weight

        def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
            first, second = relative(*(self.critic(imgs, training=training) for imgs in inputs))
            self.add_loss(self.weight * (entropy(labels[0], first) + entropy(labels[1], second)))
            return inputs[0]

    return Relativistic


def _two_call_step(case: Case, xla: bool) -> Step:
    """Return an adversarial step that is not fused.

    The generator makes images with ``predict_on_batch``, and the discriminator learns from them
    with ``train_on_batch``. Then the generator, run again, learns in the same way within a model
    that contains the frozen discriminator. Batches are in memory.
    """
    import keras

    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    assert case.loss_weights is not None
    relativistic = case.network == "esrgan"
    model = case.build()
    generator = model.generator
    critic = model.discriminator.discriminator if relativistic else model.discriminator
    verdicts = (case.batch, *critic.output_shape[1:])
    labels = np.ones(verdicts, np.float32), np.zeros(verdicts, np.float32)

    def seen(lr: Any, imgs: Any) -> Any:
        return [lr, imgs] if case.conditional else imgs

    low, high = case.size, case.size * case.scale
    lr = keras.Input((low, low, case.channels))
    hr, other = (keras.Input((high, high, case.channels)) for _ in range(2))
    if relativistic:
        judging = _relativistic(labels)
        judge, d_loss = judging(critic), {}
        weight = case.loss_weights[1] / case.loss_weights[0]
        gan = keras.Model([lr, hr], judging(critic, weight)([generator(lr), hr]))
        g_loss: dict[str, Any] = {"loss": case.loss}
    else:
        known = [lr] if case.conditional else []
        judge = keras.Model([*known, hr, other], [critic(seen(lr, x)) for x in (hr, other)])
        d_loss = {"loss": [entropy, entropy], "loss_weights": [case.d_loss_weight] * 2}
        fake = generator(lr)
        gan = keras.Model(lr, [fake, critic(seen(lr, fake))])
        g_loss = {"loss": [case.loss, entropy], "loss_weights": list(case.loss_weights)}
    generator.compile(jit_compile=xla)
    for whole, loss in ((judge, d_loss), (gan, g_loss)):
        whole.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=xla, **loss)

    lr_imgs, hr_imgs = case.images()

    def step(i: int) -> None:
        part = slice(i * case.batch, (i + 1) * case.batch)
        small, real = lr_imgs[part], hr_imgs[part]
        made = generator.predict_on_batch(small)
        judged = [small, real, made] if case.conditional else [real, made]
        judge.train_on_batch(judged, None if relativistic else labels)
        critic.trainable = False  # the first call fixed the trainable weights of the discriminator
        if relativistic:
            gan.train_on_batch([small, real], real)
        else:
            gan.train_on_batch(small, [real, labels[0]])

    return step


def measure_two_calls(args: argparse.Namespace) -> Figures:
    """Return milliseconds of an adversarial step that is not fused, by case and variant."""
    import keras

    figures: Figures = {}
    for title, _, case, precision in _cases(args):
        keras.config.set_dtype_policy(POLICIES[precision])
        figures[title] = {
            "ms": {
                way: _milliseconds(_two_call_step(case, xla), args.steps)
                for way, xla in (("2 calls", False), ("2 c. XLA", True))
            }
        }
    return figures


def torch_device() -> str:
    """Return the device that PyTorch is measured on: a GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_wait() -> None:
    """Wait until the device has done what it was asked for."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_networks_of(name: str, case: Case) -> list[Any]:
    """Return PyTorch's generator and, if there is one, its discriminator."""
    import torch

    from benchmarks import torch_networks as networks

    torch.manual_seed(0)
    parts = [networks.GENERATORS[name](case.scale)]
    if case.loss_weights:
        parts.append(networks.DISCRIMINATORS[name](case.size * case.scale))
    return parts


def torch_step(nets: Sequence[Any], case: Case, way: str, bfloat16: bool) -> Step:
    """Return a training step of PyTorch over batches in memory."""
    import torch
    from torch import nn

    from benchmarks import torch_networks as networks

    device = torch_device()
    lr, hr = (torch.from_numpy(imgs).permute(0, 3, 1, 2).contiguous() for imgs in case.images())
    enlarge = networks.bicubic(case.scale).to(device)
    on_images = nn.functional.mse_loss if case.loss == "mse" else nn.functional.l1_loss
    torch._dynamo.reset()
    layout = torch.contiguous_format if way == "eager" else torch.channels_last
    x, y = (imgs.contiguous(memory_format=layout).to(device) for imgs in (lr, hr))

    def ready(net: nn.Module) -> Any:
        net = net.to(device, memory_format=layout)  # type: ignore[call-overload]
        return torch.compile(net) if way == "compiled" else net

    def run(net: nn.Module, imgs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            return net(imgs).float()

    net = ready(nets[0])
    learn = networks.learner(net)

    def images(i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        part = slice(i * case.batch, (i + 1) * case.batch)
        small, made = x[part], run(net, x[part])
        return small, y[part], made + enlarge(small) if case.bicubic_skip else made

    def step(i: int) -> None:
        _, real, made = images(i)
        learn(on_images(made, real))

    if not case.loss_weights:
        return step
    image_weight, weight = case.loss_weights
    critic = ready(nets[1])
    d_learn = networks.learner(critic)

    def verdict(small: torch.Tensor, imgs: torch.Tensor) -> torch.Tensor:
        return run(critic, torch.cat([small, imgs], 1) if case.conditional else imgs)

    def adversarial_step(i: int) -> None:
        small, real, made = images(i)
        c_real, c_made = verdict(small, real), verdict(small, made.detach())
        if case.network == "esrgan":
            d_learn(networks.relativistic(c_real, c_made))
        else:
            d_learn(case.d_loss_weight * (networks.told(c_real, 1) + networks.told(c_made, 0)))
        critic.requires_grad_(False)  # otherwise unused gradients would be computed
        if case.network == "esrgan":
            loss = networks.relativistic(verdict(small, made), verdict(small, real))
        else:
            loss = networks.told(verdict(small, made), 1)
        learn(image_weight * on_images(made, real) + weight * loss)
        critic.requires_grad_(True)

    return adversarial_step


def measure_torch(args: argparse.Namespace) -> Figures:
    """Return milliseconds per step by case and variant, and the numbers of parameters."""
    figures: Figures = {}
    for title, name, case, precision in _cases(args):
        ways: dict[str, float] = {}
        for way in ("eager", "ch.-last", "compiled"):
            nets = torch_networks_of(name, case)
            step = torch_step(nets, case, way, precision == "bfloat16")
            ways[way] = _milliseconds(step, args.steps)
        counts = [variable_count(list(net.parameters())) for net in nets]
        figures[title] = {"ms": ways, "parameters": counts}
    return figures


MEASURES = {"toolbox": measure_toolbox, "torch": measure_torch, "two-calls": measure_two_calls}


def _in_own_process(side: str, args: argparse.Namespace) -> Figures:
    judged = [name for name in args.models if MODELS[name].loss_weights]
    models = judged if side == "two-calls" else args.models
    if not models:
        return {}
    command = [sys.executable, "-m", "benchmarks.training_step", "--only", side]
    command += ["--steps", str(args.steps), "--models", *models, "--precisions", *args.precisions]
    for option in ("size", "batch"):
        value = getattr(args, option)
        command += [f"--{option}", str(value)] if value else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _same_size(name: str, figures: dict[str, Figures], title: str) -> str:
    """Return a line with the numbers of parameters, which must be equal on both sides."""
    own, other = (figures[side][title]["parameters"] for side in ("toolbox", "torch"))
    if own != other:
        raise SystemExit(f"{name}: {own} parameters in the toolbox, {other} in PyTorch")
    return f"{name}: " + " + ".join(f"{count:,}" for count in own) + " parameters, as in PyTorch"


def _line(case: str, rounds: list[dict[str, Figures]]) -> dict[str, str]:
    """Return the columns of a row: medians by variant, then ratios to PyTorch and two calls."""
    columns = {}
    for side in rounds[0]:
        for way in rounds[0][side].get(case, {"ms": {}})["ms"]:
            columns[way] = f"{median(r[side][case]['ms'][way] for r in rounds):.2f}"
    for title, side in (("to PyTorch", "torch"), ("to 2 calls", "two-calls")):
        if case in rounds[0].get(side, {}):
            best = [{s: min(r[s][case]["ms"].values()) for s in ("toolbox", side)} for r in rounds]
            ratios = [times[side] / times["toolbox"] for times in best]
            columns[title] = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return columns


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--precisions", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--size", type=int, help="pixels along a side of an input image")
    parser.add_argument("--batch", type=int, help="images per batch")
    parser.add_argument("--no-two-calls", action="store_true", help="leave out two calls")
    parser.add_argument("--only", choices=list(MEASURES), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print one line for each model and precision."""
    args = _arguments()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if args.only:
        print(json.dumps(MEASURES[args.only](args)))
        return
    sides = [side for side in MEASURES if side != "two-calls" or not args.no_two_calls]
    rounds = []
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        rounds.append({side: _in_own_process(side, args) for side in sides})
    for name in args.models:
        print(_same_size(name, rounds[0], f"{name} {args.precisions[0]}"))
    lines = {case: _line(case, rounds) for case in rounds[0]["toolbox"]}
    ways = dict.fromkeys(way for line in lines.values() for way in line)
    columns = sorted(ways, key=lambda way: way.startswith("to "))  # ratios come last
    widths = {column: 18 if column.startswith("to ") else 9 for column in columns}
    for case, line in {"ms per step": dict(zip(columns, columns, strict=True)), **lines}.items():
        print(f"{case:23}" + "".join(f"{line.get(c, '-'):>{widths[c]}}" for c in columns))


if __name__ == "__main__":
    main()
