"""Training step and inference of every network: ``python -m benchmarks.networks [--models ...]``.

Every row of the registry of networks with its default settings, on the device that TensorFlow
takes: a GPU where there is one. Seven of them have a twin in PyTorch with as many parameters
(`MODELS` of `benchmarks.training_step`), measured on the same device in the same run, in turn. Each
side of each network is a process of its own, so its peak memory is its own too.

A step is forward pass, loss, gradient and update, of an adversarial network both updates, on
batches that lie in memory. The best way counts on both sides: with and without XLA here; eager and
with channels last there, and compiled if asked for (``--compiled``). Inference is the generator
alone. A ratio above 1: the toolbox is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks import training_step
from benchmarks.machine import peak_mib
from benchmarks.rows import Row, printed
from benchmarks.training_step import MODELS as TWINS
from benchmarks.training_step import POLICIES, Case

_RESTORATION: dict[str, Any] = {"size": 64, "scale": 1, "batch": 4, "bicubic_skip": False}
_PICTURES: dict[str, Any] = {**_RESTORATION, "size": 128, "channels": 3, "batch": 1, "loss": "mae"}


@dataclass(frozen=True)
class Windows(Case):
    """Windows of frames in, labels out."""

    def images(self) -> tuple[Any, np.ndarray]:
        """Return frames by the name of the input, and a class for each."""
        rng = np.random.default_rng(0)
        frames = rng.random((self.batch, 4, self.size, self.size, 3), dtype=np.float32)
        return {"image": frames}, np.eye(3, dtype=np.float32)[rng.integers(0, 3, (self.batch, 4))]

    def build(self) -> Any:
        """Return the network."""
        from toolbox.registry import MODELS

        shape = (self.size, self.size, 3)
        return MODELS.resolve(self.network)(shape, 1, params=self.params)


#: What a network that is not named here is measured on: default settings, 16² → 64².
KNOWN: dict[str, Case] = {
    **TWINS,
    **{
        name: Case(name, **_RESTORATION)
        for name in (
            "simplesrnet",
            "edsr_light",
            "rdn",
            "rdn_edge",
            "edgeformer",
            "edgeformer_edsr",
            "edgeformer_edsr_light",
            "edgeformer_rdn",
        )
    },
    "unet": Case("unet", **_PICTURES),
    "surgical_phase": Windows(
        "surgical_phase",
        {"num_classes": 3, "backbone": "MobileNet"},
        size=64,
        batch=2,
        loss="phase_cross_entropy",
    ),
}
#: Small enough to be measured in seconds each.
QUICK = ("srcnn", "fsrcnn", "espcn", "edsr", "srgan", "esrgan", "pix2pix")


def names() -> list[str]:
    """Return the networks: every row of the registry, then further sizes that have twins."""
    from toolbox.registry import MODELS

    return [*MODELS, *(name for name in TWINS if name not in MODELS)]


def case_of(name: str) -> Case:
    """Return what a network is measured on."""
    return KNOWN.get(name) or Case(name)


def best_ms(step: Callable[[], Any], seconds: float) -> float:
    """Return the milliseconds of the fastest call; the first one compiles and does not count."""
    step()
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)


def toolbox_loss(case: Case) -> Any:
    """Return the loss of a case, as ``compile`` takes it."""
    if case.loss in ("mse", "mae"):
        return case.loss
    from toolbox.registry import LOSSES

    function = LOSSES.resolve(case.loss)
    return lambda y_true, y_pred: function(y_true, y_pred, max_val=1.0)


def compiled(case: Case, xla: bool) -> Any:
    """Return the network of a case, compiled for training."""
    from toolbox.training.adam import Adam

    model = case.build()
    options: dict[str, Any] = {"optimizer": Adam(1e-4), "jit_compile": xla}
    model.compile(loss=toolbox_loss(case), **options)
    return model


def toolbox_step(model: Any, case: Case) -> Callable[[], dict[str, float]]:
    """Return a function that takes a training step and returns its figures."""
    import tensorflow as tf

    x, y = tf.nest.map_structure(lambda part: part[: case.batch], case.images())
    batches = iter(tf.data.Dataset.from_tensors((x, y)).cache().repeat().prefetch(2))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    return lambda: {key: float(value) for key, value in model.train_function(batches).items()}


def measure_toolbox(
    name: str, precision: str, seconds: float, ways: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of the toolbox for one network."""
    import keras
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.config.set_dtype_policy(POLICIES[precision])
    case, steps = case_of(name), {}
    for way in ways:
        model = compiled(case, way == "XLA")
        steps[way] = best_ms(toolbox_step(model, case), seconds)
    network = model.network()
    x = tf.nest.map_structure(lambda part: tf.constant(part[: case.batch]), case.images()[0])
    run = tf.function(lambda: network(x, training=False))
    pixels = math.prod(run().shape[:3]) / 1e6
    inference = best_ms(lambda: run().numpy(), seconds / 2)
    return {
        "step_ms": steps,
        "mpixel_s": {"graph": 1000 * pixels / inference},
        "peak_mib": peak_mib(),
        "parameters": training_step.parameter_counts(model),
    }


def measure_torch(name: str, precision: str, seconds: float, ways: Sequence[str]) -> dict[str, Any]:
    """Return the figures of PyTorch for one network."""
    import torch

    from benchmarks import torch_networks as networks

    case, steps, speeds = case_of(name), {}, {}
    device, bfloat16 = training_step.torch_device(), precision == "bfloat16"
    for way in ways:
        nets = training_step.torch_networks_of(name, case)
        step = training_step.torch_step(nets, case, way, bfloat16)
        steps[way] = best_ms(lambda step=step: (step(0), training_step.torch_wait()), seconds)
    enlarge = networks.bicubic(case.scale).to(device)
    x = torch.from_numpy(case.images()[0][: case.batch]).permute(0, 3, 1, 2).contiguous()
    for way, layout in (("eager", torch.contiguous_format), ("ch.-last", torch.channels_last)):
        net = training_step.torch_networks_of(name, case)[0].eval().to(device, memory_format=layout)
        placed = x.to(device, memory_format=layout)

        def run(net: Any = net, placed: Any = placed) -> Any:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                made = net(placed).float()
            return (made + enlarge(placed) if case.bicubic_skip else made).cpu().numpy()

        pixels = np.prod(np.delete(run().shape, 1)) / 1e6
        speeds[way] = 1000 * pixels / best_ms(run, seconds / 2)
    counts = [training_step.variable_count(list(net.parameters())) for net in nets]
    return {"step_ms": steps, "mpixel_s": speeds, "peak_mib": peak_mib(), "parameters": counts}


SIDES = {"toolbox": measure_toolbox, "torch": measure_torch}


def own_process(python: str, side: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one side of one network in a process of its own."""
    ways = {"toolbox": ["graph", "XLA"], "torch": ["eager", "ch.-last"]}[side]
    if side == "torch" and options.compiled:
        ways.append("compiled")
    if side == "toolbox" and options.no_xla:
        ways.remove("XLA")
    command = [python, "-m", "benchmarks.networks", "--only", side, "--models", name]
    command += ["--precisions", options.precision, "--seconds", str(options.seconds)]
    done = subprocess.run([*command, "--ways", *ways], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": last[:200]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many times as fast the toolbox takes a step, and makes pixels."""
    step = min(theirs["step_ms"].values()) / min(ours["step_ms"].values())
    return step, max(ours["mpixel_s"].values()) / max(theirs["mpixel_s"].values())


def measure(options: argparse.Namespace, python: str | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each network and precision, medians over the rounds.

    Parameters
    ----------
    options : argparse.Namespace
        ``models``, ``precisions``, ``rounds``, ``seconds``, ``compiled``, ``no_xla``.
    python : str, optional
        Interpreter that has PyTorch; None leaves it out.
    """
    for name in options.models:
        for precision in options.precisions:
            options.precision = precision
            sides = {"toolbox": sys.executable}
            if python is not None and name in TWINS:
                sides["torch"] = python
            print(f"{name} {precision}", file=sys.stderr, flush=True)
            rounds = [
                {side: own_process(path, side, name, options) for side, path in sides.items()}
                for _ in range(options.rounds)
            ]
            yield {"network": name, "precision": precision, **_row(rounds)}


def _row(rounds: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for side in rounds[0]:
        errors = [found[side]["error"] for found in rounds if "error" in found[side]]
        if errors:
            row[f"{side}_error"] = errors[0]
            continue
        parts = [found[side] for found in rounds]
        for key in ("step_ms", "mpixel_s"):
            row[f"{side}_{key}"] = {
                way: round(median(part[key][way] for part in parts), 3) for way in parts[0][key]
            }
        row[f"{side}_peak_mib"] = round(max(part["peak_mib"] for part in parts))
        row["parameters"] = sum(parts[0]["parameters"])
    if "toolbox_step_ms" in row and "torch_step_ms" in row:
        pairs = [ratios(found["toolbox"], found["torch"]) for found in rounds]
        row["step_ratio"], row["inference_ratio"] = (
            round(median(pair[i] for pair in pairs), 2) for i in (0, 1)
        )
    return row


def table_rows(figures: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a network: step and inference."""
    name = f"{figures['network']} {figures['precision']}"
    if "toolbox_error" in figures:
        return [Row(name, math.nan, "", note=figures["toolbox_error"])]
    rows = []
    for what, key, unit, best in (
        ("step", "step_ms", "ms", min),
        ("inference", "mpixel_s", "Mpixel/s", max),
    ):
        own, other = figures[f"toolbox_{key}"], figures.get(f"torch_{key}")
        rival = {} if other is None else {"rival": "PyTorch", "rival_value": best(other.values())}
        note = figures.get("torch_error", "") or " ".join(
            f"{way} {value:.3g}" for way, value in {**own, **(other or {})}.items()
        )
        peak = figures["toolbox_peak_mib"] if what == "step" else None
        rows.append(
            Row(f"{name}, {what}", best(own.values()), unit, peak_mib=peak, note=note, **rival)
        )
    return rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `measure`."""
    parser.add_argument("--models", nargs="+", metavar="NAME", help="networks (all)")
    parser.add_argument("--precisions", nargs="+", choices=list(POLICIES), default=["float32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="for each way")
    parser.add_argument("--compiled", action="store_true", help="PyTorch's compiler as well")
    parser.add_argument("--no-xla", action="store_true", help="leave XLA out")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch")


def main() -> None:
    """Print a row for each network and precision."""
    from benchmarks.machine import described, has_torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks")
    add_options(parser)
    parser.add_argument("--only", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--ways", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if args.only:
        side = SIDES[args.only]
        print(json.dumps(side(args.models[0], args.precisions[0], args.seconds, args.ways)))
        return
    args.models = args.models or names()
    python = args.python if has_torch(args.python) else None
    print(json.dumps(described(python), indent=1))
    found = []
    for row in measure(args, python):
        found.append(row)
        print(json.dumps(row), flush=True)
    if args.json:
        printed(row for figures in found for row in table_rows(figures))


if __name__ == "__main__":
    main()
