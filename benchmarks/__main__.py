"""All benchmarks in one table: ``make bench`` or ``python -m benchmarks [--python FILE]``.

Training step and inference of every network, the builder, augmentation, mixup, prediction of maps
of several sizes, and training with several devices and workers. Each part is a program of its own,
run one after the other, each with its rival in the same run. ``bench.json`` and ``bench.md`` hold
the machine, with its load before and after, and the table.

PyTorch is measured where the interpreter has it: ``pip install -e '.[bench]'``, or ``--python``
names the interpreter of another environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import described, has_torch
from benchmarks.networks import QUICK
from benchmarks.rows import Row, collected, markdown

#: How large the parts are: the arguments of each of a part's runs.
SIZES: dict[str, dict[str, list[list[str]]]] = {
    "full": {
        "networks": [["--precisions", "float32", "bfloat16", "--rounds", "3", "--seconds", "3"]],
        "dataset_build": [["--rows", "11"], ["--rows", "44"], ["--rows", "176"]],
        "augment": [[]],
        "mixup": [["--pairs", "500"], ["--pairs", "2000"]],
        "predict_map": [["--pixels", str(pixels)] for pixels in (500, 1500, 3000)],
        "scaling": [[]],
    },
    "quick": {
        "networks": [["--models", *QUICK, "--rounds", "1", "--seconds", "1", "--no-xla"]],
        "dataset_build": [["--rows", "11"]],
        "augment": [["--pairs", "1000"]],
        "mixup": [["--pairs", "200"]],
        "predict_map": [["--pixels", "500", "--rounds", "1"]],
        "scaling": [["--models", "espcn", "--rounds", "1", "--epochs", "3"]],
    },
    "smallest": {
        "networks": [["--models", "espcn", "--rounds", "1", "--seconds", "0.01", "--no-xla"]],
        "dataset_build": [["--rows", "2"]],
        "augment": [["--pairs", "8", "--looped", "2"]],
        "mixup": [["--pairs", "16"]],
        "predict_map": [["--pixels", "50", "--rounds", "1", "--sides", "predict, .npy"]],
        "scaling": [],
    },
}
#: Parts that have a rival in PyTorch.
_WITH_TORCH = ("networks", "predict_map")


def run(part: str, arguments: Sequence[str], python: str | None) -> list[Row]:
    """Run one benchmark and return its rows; where it fails, one row that says why."""
    command = [sys.executable, "-m", f"benchmarks.{part}", *arguments, "--json"]
    if part in _WITH_TORCH and python is not None:
        command += ["--python", python]
    if part == "predict_map" and python is None and "--sides" not in arguments:
        command += ["--sides", "predict, .npy", "predict, .tif", "by hand, .npy", "model.predict"]
    print(" ".join([*command[1:3], *arguments]), file=sys.stderr, flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [Row(f"{' '.join(arguments) or part}: failed", 0, "", note=last[:200])]
    return collected(done.stdout)


def measured(size: str, only: Sequence[str], python: str | None) -> Iterator[tuple[str, list[Row]]]:
    """Run the parts of a size; yield the name and the rows of each."""
    for part, runs in SIZES[size].items():
        if not only or part in only:
            yield part, [row for arguments in runs for row in run(part, arguments, python)]


def write(folder: Path, machine: Mapping[str, Any], parts: Mapping[str, list[Row]]) -> str:
    """Write ``bench.json`` and ``bench.md``; return the latter's text."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {part: [{**asdict(row), "ratio": row.ratio} for row in parts[part]] for part in parts}
    content = json.dumps({"machine": machine, "parts": rows}, indent=1)
    (folder / "bench.json").write_text(content + "\n", encoding="utf-8")
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    text = f"# Benchmarks\n\n{facts}\n\nA ratio above 1: the toolbox is faster.\n\n"
    text += markdown(parts)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    """Run the suite and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of an hour")
    parser.add_argument("--smallest", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=list(SIZES["full"]), default=[])
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch")
    parser.add_argument("--output", type=Path, default=Path("output_bench"), help="folder")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    python = args.python if has_torch(args.python) else None
    if python is None:
        print(
            f"{args.python} has no PyTorch, so its figures are left out. Install it with: "
            f"python -m pip install -e '.[bench]', or name another interpreter with --python",
            file=sys.stderr,
        )
    machine = described(python)
    size = "smallest" if args.smallest else "quick" if args.quick else "full"
    machine["size"], parts, text = size, {}, ""
    for part, rows in measured(size, args.only, python):
        parts[part] = rows
        machine["load average afterwards"] = [round(value, 1) for value in os.getloadavg()]
        text = write(args.output, machine, parts)  # after every part: a run may be cut short
    print(text)


if __name__ == "__main__":
    main()
