"""Cross-validation on pictures of spheres: each is tested by a network that never saw it.

``python -m examples.cd_sem.spheres_left_out``  trains and tests four networks as in spheres.yml

The twelve pairs are split into folds. Each fold tests the network that was trained on the other
pairs, one of which chooses the best epoch. Thus every picture is tested once. The pictures of all
tests are pooled, and the figures go into ``results.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from examples.cd_sem.results import record
from sr_trainer.main import main as run
from toolbox.config import read_yaml
from toolbox.errors import program
from toolbox.io.atomic import replacing
from toolbox.tasks.sem.evaluate import METHODS, mean_and_ci95
from toolbox.tasks.sem.frames import pair_files

HERE = Path(__file__).parent
FOLDS = 4
#: Folder for the pairs of the folds, their settings and logs.
FOLDER = Path("data/sem_spheres_left_out")
_PARTS = ("train", "validation", "test")


def deal(names: Sequence[str], number: int, folds: int = FOLDS) -> dict[str, list[str]]:
    """Split pairs into training, validation and test.

    Parameters
    ----------
    names : sequence of str
        All pairs, in order.
    number, folds : int
        Number of the fold, and number of folds.

    Returns
    -------
    dict of str to list of str
        Every `folds`-th pair is tested; one of those that the next fold tests is for validation.
    """
    test = list(names[number::folds])
    following = (number + 1) % folds
    others = names[following::folds]
    validation = [others[(number + 1) % len(others)]]
    train = [name for name in names if name not in test + validation]
    return dict(zip(_PARTS, (train, validation, test), strict=True))


def lay_out(settings: dict[str, Any], number: int, folder: Path) -> dict[str, Any]:
    """Link the pairs of a fold into separate folders; return the settings of the fold.

    Parameters
    ----------
    settings : dict
        Settings of ``spheres.yml``.
    number : int
        Number of the fold.
    folder : pathlib.Path
        Folder for the links.
    """
    section = dict(settings["sem"])
    whole = Path(settings["data_dir"])
    low_dir, high_dir = (whole / section.pop(f"train_{kind}_dir") for kind in ("low", "high"))
    section.pop("shares")
    pairing = (section["file_prefix"], section["suffix_len"])
    pairs = {files.name: files for files in pair_files(low_dir, high_dir, *pairing)}
    for part, names in deal(sorted(pairs), number).items():
        for kind in ("low", "high"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for files in (pairs[name] for name in names):
            for kind, path in zip(("low", "high"), files.paths, strict=True):
                link = folder / part / kind / path.name
                if not link.exists():
                    link.symlink_to(path.resolve())
    return {**settings, "data_dir": str(folder), "sem": section, "log_dir": f"{folder}_log"}


def test_of_fold(number: int, resume: bool) -> pd.DataFrame:
    """Train and test one fold; return ``pictures.csv`` of its test."""
    name = FOLDER / f"fold_{number}"
    settings = lay_out(read_yaml(HERE / "spheres.yml"), number, name)
    fname = name.with_suffix(".yml")
    with replacing(fname) as beside:
        beside.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    log = Path(settings["log_dir"])
    how = "--resume" if resume and log.is_dir() else "--overwrite"
    for words in ([str(fname), "train", how], [str(fname), "test"]):
        print(f"\n$ python main.py {' '.join(words)}", flush=True)
        if code := run(words):
            raise SystemExit(code)
    return pd.read_csv(log / "test_result" / "pictures.csv")


def pooled(table: pd.DataFrame) -> dict[str, Any]:
    """Pool the discs of all pictures.

    Parameters
    ----------
    table : pandas.DataFrame
        ``pictures.csv`` of all folds, concatenated.

    Returns
    -------
    dict
        ``pictures``, ``discs`` and by method ``psnr`` and ``ssim``, means over the pictures;
        ``diameter_bias_nm``, mean over the means of the pictures, and ``diameter_bias_ci95_nm``,
        half its 95 % confidence interval; ``spread_nm``, standard deviation over all discs.
    """
    figures: dict[str, Any] = {"pictures": int(table["name"].nunique())}
    figures["discs"] = int((table["method"] == "raw").sum())
    for method in (method for method in METHODS if (table["method"] == method).any()):
        own = table[table["method"] == method]
        by_picture = own.groupby("name")[["psnr", "ssim", "cd_bias_nm"]].mean()
        bias, ci95 = mean_and_ci95(by_picture["cd_bias_nm"].to_numpy(float))
        figures[method] = {
            "psnr": float(by_picture["psnr"].mean()),
            "ssim": float(by_picture["ssim"].mean()),
            "diameter_bias_nm": bias,
            "diameter_bias_ci95_nm": ci95,
            "spread_nm": float(own["cd_bias_nm"].std()),
        }
    return figures


def markdown(figures: dict[str, Any]) -> str:
    """Tabulate the figures of `pooled`."""
    return "\n".join(_rows(figures))


def _rows(figures: dict[str, Any]) -> Iterator[str]:
    yield "| | PSNR (dB) | SSIM | diameter bias (nm) | spread of the bias (nm) |"
    yield "|---|---|---|---|---|"
    for method in (method for method in METHODS if method in figures):
        own = figures[method]
        bias = f"{own['diameter_bias_nm']:+.3f} ± {own['diameter_bias_ci95_nm']:.3f}"
        yield (
            f"| {METHODS[method]} | {own['psnr']:.2f} | {own['ssim']:.3f} "
            f"| {bias.replace('-', '−')} | {own['spread_nm']:.3f} |"
        )


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--resume", action="store_true", help="use existing training runs")
    resume = parser.parse_args(arguments).resume
    table = pd.concat([test_of_fold(number, resume) for number in range(FOLDS)])
    figures = pooled(table)
    record("spheres_left_out", figures)
    print(f"\n{figures['pictures']} pictures, {figures['discs']} discs\n\n{markdown(figures)}")


if __name__ == "__main__":
    raise SystemExit(main())
