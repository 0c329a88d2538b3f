"""Run an example from start to report with one command.

``python examples/cd_sem/run.py lines``    simulates lines, trains, tests
``python examples/cd_sem/run.py spheres``  trains on real pairs, tests on others

Each step is an ordinary program of the project, and is printed before it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sr_dataset_builder.simulate_sem import main as simulate
from sr_trainer.main import main as run
from toolbox.errors import program

HERE = Path(__file__).parent


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("example", choices=("lines", "spheres"))
    example = parser.parse_args(arguments).example
    settings = str(HERE / f"{example}.yml")
    steps = [("python main.py", run, [settings, "train", "--overwrite"])]
    steps += [("python main.py", run, [settings, "test"])]
    if example == "lines":
        build = str(HERE / "simulate.yml")
        steps.insert(0, ("python -m sr_dataset_builder.simulate_sem", simulate, [build]))
    for name, step, words in steps:
        print(f"\n$ {name} {' '.join(words)}", flush=True)
        if code := step(words):
            raise SystemExit(code)


if __name__ == "__main__":
    raise SystemExit(main())
