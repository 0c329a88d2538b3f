"""Train networks without clean pictures, and compare them with one trained on pairs.

``python -m examples.cd_sem.no_clean``  trains and tests four networks as in lines.yml

One learns from pairs of short and long exposures, two from stacks of short exposures, one from
single short exposures. Stacks and single frames show the same fields as the pairs. All are tested
on the pictures of ``simulate.yml``, whose edges are known. The figures go into ``results.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from examples.cd_sem.results import record
from sr_dataset_builder.simulate_sem import main as simulate
from sr_trainer.main import main as run
from toolbox.config import read_yaml
from toolbox.errors import program
from toolbox.io.atomic import replacing

HERE = Path(__file__).parent
#: Folder for pictures, settings and logs.
FOLDER = Path("data/sem_no_clean")
#: Frames per stack in each case; None for pairs.
CASES: dict[str, int | None] = {"pairs": None, "stacks_8": 8, "stacks_2": 2, "single": 1}
#: Drift of the frames of a stack, pixels.
DRIFT_PX = 2.0
#: Losses if the target is the mean of several frames, instead of those of lines.yml.
STACK_LOSSES: dict[str, Any] = {"mse": 30, "cdloss": 0.15}
#: With fewer frames than this, the edges of the targets are too noisy for cdloss.
_FEW = 4
#: Figures of the restored pictures, by their key in ``summary.json``, with their formats.
FIGURES = {
    "psnr": ".2f",
    "cd_bias_nm": "+.3f",
    "cd_bias_ci95_nm": ".3f",
    "cd_bias_to_true_edges_nm": "+.3f",
    "cd_slope": ".3f",
    "unbiased_lwr_error_percent": "+.1f",
    "edge_error_nm": ".3f",
    "width_correlation": ".3f",
}


def simulation_of(frames: int) -> dict[str, Any]:
    """Return simulation settings for stacks of the fields of ``simulate.yml``."""
    settings: dict[str, Any] = read_yaml(HERE / "simulate.yml")
    noise = {"drift_px": DRIFT_PX}
    settings |= {
        "save_dir": str(FOLDER / f"frames_{frames}"),
        # The same number of validation patches for all stacks.
        "train": {**settings["train"], "stack_frames": frames, "noise": noise},
        "validation": {"count": 4, "stack_frames": min(frames, 2), "noise": noise},
        "test": {"count": 0},
    }
    return settings


def training_of(case: str) -> dict[str, Any]:
    """Return the training settings of a case: those of ``lines.yml`` except the data."""
    settings: dict[str, Any] = read_yaml(HERE / "lines.yml")
    settings["log_dir"] = str(FOLDER / f"{case}_log")
    frames = CASES[case]
    if frames is None:
        return settings
    pictures = Path(settings["data_dir"])
    data_dir = FOLDER / f"frames_{frames}"
    section = {
        **settings["sem"],
        "target": "frames",
        # An epoch has the same number of patches in all cases.
        "repeats": settings["sem"]["repeats"] // frames,
        "test_low_dir": str((pictures / "test" / "low").resolve()),
        "test_high_dir": str((pictures / "test" / "high").resolve()),
    }
    settings |= {"data_dir": str(data_dir), "sem": section, "monitor_metric": "val_loss"}
    # With so few validation frames, the targets are too noisy for choosing an epoch.
    settings["read_test_weights"] = "weights_last.h5"
    if frames >= _FEW:
        return {**settings, "loss_weights": STACK_LOSSES}
    return {key: value for key, value in settings.items() if key not in ("loss_weights", "cdloss")}


def figures_of(case: str, resume: bool) -> dict[str, Any]:
    """Simulate, train and test a case; return the test figures of the restored pictures."""
    settings, frames = training_of(case), CASES[case]
    if frames is not None:
        build = _write(f"simulate_{frames}", simulation_of(frames))
        if not (resume and (FOLDER / f"frames_{frames}").is_dir()):
            _do("python -m sr_dataset_builder.simulate_sem", simulate, [build])
    log, fname = Path(settings["log_dir"]), _write(case, settings)
    how = "--resume" if resume and log.is_dir() else "--overwrite"
    _do("python main.py", run, [fname, "train", how])
    _do("python main.py", run, [fname, "test"])
    summary = json.loads((log / "test_result" / "summary.json").read_text(encoding="utf-8"))
    found = {key: summary[key]["restored"] for key in FIGURES}
    return {**found, "erased_below_nm": summary["psd_transfer"]["restored"]["erased_below_nm"]}


def _write(name: str, settings: Mapping[str, Any]) -> str:
    path = FOLDER / f"{name}.yml"
    with replacing(path) as beside:
        beside.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return str(path)


def _do(name: str, step: Any, words: list[str]) -> None:
    print(f"\n$ {name} {' '.join(words)}", flush=True)
    if code := step(words):
        raise SystemExit(code)


def markdown(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Tabulate the figures of `figures_of` by case."""
    rows = ["| | PSNR (dB) | CD bias (nm) | to the true edges (nm) | CD slope | LWR error (%) "]
    rows[0] += "| edge error (nm) | width correlation | erased below (nm) |"
    rows.append("|---" * 9 + "|")
    for case, own in figures.items():
        text = {key: f"{own[key]:{form}}" for key, form in FIGURES.items()}
        bias = f"{text.pop('cd_bias_nm')} ± {text.pop('cd_bias_ci95_nm')}"
        erased = own["erased_below_nm"]
        cells = [case, text.pop("psnr"), bias, *text.values()]
        cells.append("" if erased is None else f"{erased:.1f}")
        rows.append("| " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join(rows)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--resume", action="store_true", help="resume after an interruption")
    resume = parser.parse_args(arguments).resume
    if not (resume and Path("data/sem_lines").is_dir()):
        build = str(HERE / "simulate.yml")
        _do("python -m sr_dataset_builder.simulate_sem", simulate, [build])
    figures = {case: figures_of(case, resume) for case in CASES}
    record("no_clean", figures)
    print(f"\n{markdown(figures)}")


if __name__ == "__main__":
    raise SystemExit(main())
