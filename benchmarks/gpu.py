"""What must work on a GPU, and how fast: ``python -m benchmarks.gpu [--python FILE]``.

On the device that TensorFlow takes, a GPU where there is one and else the CPU, which is said:

- the part of the test suite that a GPU must pass (``tests/gpu.txt``; `tests/conftest.py` hides GPUs
  unless ``SR_TEST_GPU=1``),
- XLA compilation of a training step of every network, and of value and gradient of every loss,
- one step of every network in float32, mixed_float16 and mixed_bfloat16, whose loss must be
  finite; for both, networks have few blocks,
- training step and inference of every network, beside PyTorch on the same device
  (`benchmarks.networks`), with the memory that they take.

``--parts`` chooses among them. One table in Markdown comes out, and ``gpu.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
PARTS = ("suite", "compile", "losses", "speed")


def suite() -> tuple[bool, str]:
    """Run the tests that a GPU must pass; return whether they do, and pytest's last line."""
    lines = (ROOT / "tests" / "gpu.txt").read_text(encoding="utf-8").splitlines()
    files = [line for line in lines if line and not line.startswith("#")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "SR_TEST_GPU": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode == 0, (done.stdout.strip().splitlines() or ["no output"])[-1]


def _attempt(work: Callable[[], float]) -> dict[str, Any]:
    """Return how long something took and its value, or why it failed."""
    start = time.perf_counter()
    try:
        value = work()
    except Exception as error:  # the table is to show what fails, whatever it raises
        lines = str(error).strip().splitlines() or [""]
        return {"ok": False, "why": f"{type(error).__name__}: {lines[-1].strip()[:150]}"}
    seconds = round(time.perf_counter() - start, 2)
    return {"ok": bool(math.isfinite(value)), "value": round(value, 6), "seconds": seconds}


def reduced(name: str) -> Any:
    """Return a case whose network has every kind of layer of the default one, but few of them."""
    from benchmarks.networks import case_of
    from toolbox.registry import MODELS

    case = case_of(name)
    known = MODELS.resolve(case.network).parameters()
    few = {key: 1 for key in known if key.startswith("num_") and key.endswith(("blocks", "groups"))}
    few |= {key: 8 for key in ("filters", "growth") if key in known and known[key].default == 64}
    return replace(case, params={**case.params, **few}, size=min(case.size, 32), batch=2)


def first_steps(name: str) -> dict[str, Any]:
    """Take one training step of a network with XLA, and one in each precision without."""
    import keras

    from benchmarks.networks import compiled, toolbox_step

    case, found = reduced(name), {}
    for way in ("XLA", *PRECISIONS):
        keras.config.set_dtype_policy("float32" if way == "XLA" else way)

        def step(way: str = way) -> float:
            return toolbox_step(compiled(case, way == "XLA"), case)()["loss"]

        found[way] = _attempt(step)
        print(f"{name} {way}: {_cell(found[way])}", file=sys.stderr, flush=True)
        keras.backend.clear_session()
    keras.config.set_dtype_policy("float32")
    return found


def every_loss() -> Iterator[tuple[str, dict[str, Any]]]:
    """Compile value and gradient of every loss with XLA; yield what came of it by name."""
    import tensorflow as tf

    from toolbox.registry import LOSSES

    rng = np.random.default_rng(0)
    lines = 0.5 + 0.4 * np.sign(np.sin(np.arange(64) / 3))
    truth = np.broadcast_to(lines[None, None, :, None], (2, 64, 64, 1)).astype(np.float32)
    noisy = truth + rng.normal(0, 0.05, truth.shape).astype(np.float32)
    for name in LOSSES:
        function = LOSSES.resolve(name)
        if name.endswith("cross_entropy"):
            ids = rng.integers(0, 3, (2, 8, 8, 1))
            y = tf.constant(np.eye(3)[ids[..., 0]] if name.startswith("phase") else ids, tf.float32)
            x = tf.constant(rng.normal(size=(2, 8, 8, 3)), tf.float32)
        else:
            y, x = tf.constant(truth), tf.constant(noisy)

        def value_and_gradient(function: Any = function, y: Any = y, x: Any = x) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_mean(function(y, x, max_val=1.0))
            return value, tape.gradient(value, x)

        def work(graph: Any = value_and_gradient) -> float:
            value, slope = tf.function(graph, jit_compile=True)()
            return float(value) + 0 * float(tf.reduce_sum(slope))

        yield name, _attempt(work)


def _cell(found: dict[str, Any]) -> str:
    if "why" in found:
        return f"FAILS: {found['why']}"
    return f"{found['value']:.4g} ({found['seconds']:.1f} s)" if found["ok"] else "NOT FINITE"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(parts: list[str], models: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Do the parts one after the other, print their tables, return everything."""
    from benchmarks.machine import described, has_torch

    python = args.python if has_torch(args.python) else None
    content: dict[str, Any] = {"machine": described(python)}
    print(json.dumps(content["machine"], indent=1), flush=True)
    if "suite" in parts:
        passed, line = suite()
        content["suite"] = {"ok": passed, "line": line}
        print(f"\nsuite: {'passed' if passed else 'FAILED'}: {line}", flush=True)
    if "losses" in parts:
        content["losses"] = dict(every_loss())
        rows = [(name, _cell(found)) for name, found in content["losses"].items()]
        print("\n" + _table(("loss", "XLA, value and gradient"), rows), flush=True)
    if "compile" in parts:
        content["compile"] = {name: first_steps(name) for name in models}
        ways = ("XLA", *PRECISIONS)
        rows = [
            (name, *(_cell(found[way]) for way in ways))
            for name, found in content["compile"].items()
        ]
        print("\n" + _table(("network", *ways), rows), flush=True)
    if "speed" in parts:
        from benchmarks.networks import measure, table_rows
        from benchmarks.rows import markdown

        args.models, args.precisions = models, ["float32", "bfloat16"]
        found = list(measure(args, python))
        content["speed"] = found
        print("\n" + markdown({"networks": [r for row in found for r in table_rows(row)]}))
    return content


def main() -> None:
    """Run the parts and write ``gpu.json``."""
    from benchmarks.networks import add_options, names

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("output_bench"), help="folder")
    add_options(parser)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    content = report(args.parts, args.models or names(), args)
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1)
    (args.output / "gpu.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
