"""Does Adaptive Mixup help where training ground is gentle and the target steep? One command.

``python examples/bathymetry/adaptive_mixup/run.py [--grids cairns arabian_sea fractal]``

The blocks of a grid are split at their median slope. The gentle half is the training data. The
steep half is the target, of which training sees only the LR map. Five ways to make the same number
of training pairs are compared, with the same network, the same number of steps and three seeds
each. Writes ``results.json``, ``table.md`` and ``results.png``; ``--extend results.json`` adds the
rows to those of an earlier run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sr_dataset_builder.adapt import AdaptParams, adapt
from sr_dataset_builder.dataset import Dataset
from sr_dataset_builder.flip import FLIPS
from sr_dataset_builder.pair_files import Copies
from sr_dataset_builder.resize import resize
from sr_dataset_builder.rotate import rotations
from sr_trainer.main import Main
from toolbox.config import write_yaml
from toolbox.data_loader import RECORD_NAME, load_images
from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing
from toolbox.io.raster import read_raster
from toolbox.io.safe_pickle import save_array
from toolbox.plotter import save_figure
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient, write_feature_csv

SCALE, LOW = 4, 16
SHARED = Path("../shared/data/bathymetry")
GRIDS = {
    "cairns": (SHARED / "cairns_gbr_GA2005_271m_utm55s.tif", (9, 12), 4),
    "arabian_sea": (SHARED / "arabian_sea_GEBCO_15arcsec_wgs84.tif", (8, 8), 4),
    "fractal": (None, (8, 8), 4),
}
METHODS = {
    "none": "no augmentation",
    "flips": "flips",
    "flips_rotations": "flips and rotations",
    "mixup": "Adaptive Mixup",
    "stretch": "stretched",
}
NETWORK = {
    "input_shape": [LOW, LOW, 1],
    "scale": SCALE,
    "model": "espcn",
    "bicubic_skip": True,
    "loss": "mae",
    "learning_rate": 1e-3,
    "log_period": 10000,
    "test_pictures": 0,
}


def fractal_sea_floor(size: int = 1024, delta_m: float = 50.0) -> np.ndarray:
    """Return a synthetic sea floor: fractal relief whose strength grows from west to east.

    Parameters
    ----------
    size : int
        Pixels along each side.
    delta_m : float
        Grid spacing, metres.

    Returns
    -------
    numpy.ndarray, shape (size, size), float32
        Elevation in metres, about -2500; power spectrum f^-3.4.
    """
    rng = np.random.default_rng(2025)
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    noise = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    relief = np.fft.irfft2(noise * frequency**-1.7, s=(size, size))
    strength = np.linspace(0.3, 1.7, size)
    return (-2500 + 300 * relief / relief.std() * strength).astype(np.float32)


def part_by_slope(grid: str, folder: Path) -> dict[str, Any]:
    """Write gentle blocks as train and validation, steep ones as test; return the facts."""
    fname, block_shape, stride = GRIDS[grid]
    if fname is None:
        hr, delta_m = fractal_sea_floor(), (50.0, 50.0)
    else:
        if not fname.is_file():
            raise DataError(f"{fname}: no such file. Choose other --grids; fractal needs no file.")
        raster = read_raster(fname)
        hr, delta_m = raster.values, raster.delta_m or (50.0, 50.0)
        hr = Dataset.cleansing(hr)
        hr[hr > 0] = np.nan
    lr = resize(hr, SCALE)
    rows, columns = lr.shape[0] // block_shape[0], lr.shape[1] // block_shape[1]
    h, w = rows * block_shape[0], columns * block_shape[1]
    coarse = Dataset.block_split(lr[:h, :w], block_shape, (LOW, LOW), (stride, stride))
    fine = Dataset.block_split(
        hr[: h * SCALE, : w * SCALE], block_shape, (LOW * SCALE,) * 2, (stride * SCALE,) * 2
    )
    x, y = Dataset.rm_nan(coarse, fine)
    slopes = np.array([float(mean_slope_gradient(block, delta_m).mean()) for block in y])
    order = np.argsort(slopes)
    gentle, steep = order[: len(order) // 2], order[len(order) // 2 :]
    np.random.default_rng(0).shuffle(gentle)
    held = max(1, len(gentle) // 8)
    parts = {"train": gentle[held:], "validation": gentle[:held], "test": steep}
    for split, blocks in parts.items():
        for kind, stack in (("LR", x), ("HR", y)):
            imgs = np.concatenate([stack[b] for b in blocks])[..., None]
            save_array(imgs, folder / split / f"data_{kind}.pkl")
    coarse_m = tuple(SCALE * d for d in delta_m)
    record = {"delta_hr_m": delta_m, "delta_lr_m": coarse_m, "scale": SCALE}
    (folder / RECORD_NAME).write_text(json.dumps(record), encoding="utf-8")
    target = load_images(folder / "test" / "data_LR.pkl")
    write_feature_csv(target, coarse_m, folder / "target.csv", normalized_column=True)
    return {
        "blocks": {split: len(blocks) for split, blocks in parts.items()},
        "pairs": {s: len(load_images(folder / s / "data_LR.pkl")) for s in parts},
        "median_slope": {
            "gentle": float(np.median(slopes[gentle])),
            "steep": float(np.median(slopes[steep])),
        },
    }


def make_training_data(
    method: str, base: Path, folder: Path, seed: int, rule: str, feature: int
) -> None:
    """Write a data set with as many training pairs as `base`, augmented by `method`."""
    lr, hr = (load_images(base / "train" / f"data_{kind}.pkl") for kind in ("LR", "HR"))
    if method in ("mixup", "stretch"):
        adapt(
            AdaptParams(
                data_dir=str(base),
                save_dir=str(folder),
                target=str(base / "target.csv"),
                pick_number=len(lr),
                lambda_rule=rule,  # type: ignore[arg-type]
                target_value=feature,
                fit="stretch" if method == "stretch" else "pick",
                seed=seed,
            )
        )
        return
    shutil.copytree(base, folder, dirs_exist_ok=True)
    families = [Copies(["original"], lambda imgs: [imgs])]
    if method != "none":
        families.append(FLIPS)
    if method == "flips_rotations":
        families.append(rotations(tuple(range(30, 360, 30)), "reflect"))
    kinds = sum(len(family.labels) for family in families)
    numbers = np.random.default_rng(seed).permutation(kinds * len(lr))[: len(lr)]
    for name, imgs in (("LR", lr), ("HR", hr)):
        chosen = np.empty_like(imgs)
        copies = (copy for family in families for copy in family.make(imgs))
        for k, copy in enumerate(copies):
            here = numbers // len(lr) == k
            chosen[here] = copy[numbers[here] % len(lr)]
        save_array(chosen, folder / "train" / f"data_{name}.pkl")


def train_and_test(folder: Path, normalizer: str, epochs: int, seed: int) -> dict[str, Any]:
    """Train on a data set and return the summary of its test."""
    log_dir = folder.with_name(f"{folder.name}_log")
    content = {
        **NETWORK,
        "data_dir": str(folder),
        "normalizer": normalizer,
        "epochs": epochs,
        "seed": seed,
        "log_dir": str(log_dir),
    }
    fname = folder.with_suffix(".yml")
    write_yaml(content, fname, "one run of the comparison")
    Main([str(fname), "train", "--overwrite"]).run()
    Main([str(fname), "test"]).run()
    return json.loads((log_dir / "test_result" / "summary.json").read_text(encoding="utf-8"))


def compare(
    grid: str,
    normalizer: str,
    out: Path,
    epochs: int,
    seeds: int,
    rule: str,
    methods: list[str],
    feature: int,
) -> dict[str, Any]:
    """Run the methods on one grid with one normaliser."""
    base = out / grid / "base"
    facts = part_by_slope(grid, base)
    rmse: dict[str, dict[str, list[float]]] = {}
    baselines: dict[str, dict[str, float]] = {}
    for method in methods:
        for seed in range(seeds):
            start = time.perf_counter()
            folder = out / grid / f"{normalizer}_{method}_{seed}"
            with contextlib.redirect_stdout(io.StringIO()):
                make_training_data(method, base, folder, seed, rule, feature)
                summary = train_and_test(folder, normalizer, epochs, seed)
            groups = {"all": summary["all"], **summary["slope_classes"]}
            for group, row in groups.items():
                if row["n"]:
                    rmse.setdefault(method, {}).setdefault(group, []).append(row["sr"]["rmse_m"])
                    baselines[group] = {
                        "n": row["n"],
                        "bicubic": row["bicubic"]["rmse_m"],
                        "back_projection": row["back_projection"]["rmse_m"],
                    }
            seconds = time.perf_counter() - start
            print(
                f"{grid} {normalizer} {method} seed {seed}: "
                f"{summary['all']['sr']['rmse_m']:.3f} m, {seconds:.0f} s",
                flush=True,
            )
            shutil.rmtree(folder)
    return {
        "grid": grid,
        "normalizer": normalizer,
        "lambda_rule": rule,
        "target_value": feature,
        "epochs": epochs,
        **facts,
        "baselines_rmse_m": baselines,
        "rmse_m": {
            m: {
                g: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=min(1, len(v) - 1)))}
                for g, v in groups.items()
            }
            for m, groups in rmse.items()
        },
    }


def join(results: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Merge the rows of `new` with those of the same grid and normaliser, or append them."""
    keys = ("grid", "normalizer", "epochs", "pairs")
    for number, old in enumerate(results):
        if all(old[key] == new[key] for key in keys):
            rows = {**old["rmse_m"], **new["rmse_m"]}
            both = {**old, **new, "rmse_m": {m: rows[m] for m in METHODS if m in rows}}
            return [*results[:number], judged(both), *results[number + 1 :]]
    return [*results, judged(new)]


def judged(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with its gains over flips and rotations, per cent."""
    result = dict(result)
    # Few overlapping patches say little, so the steepest class with at least twenty is used.
    steepest = [g for g, row in result["baselines_rmse_m"].items() if row["n"] >= 20][-1]
    result["steep_class"] = steepest
    reference = result["rmse_m"].get("flips_rotations")
    for method, prefix in (("mixup", ""), ("stretch", "stretch_")):
        rows = result["rmse_m"].get(method)
        if rows and reference:
            for name, group in (("steep", steepest), ("all", "all")):
                gain = 100 * (1 - rows[group]["mean"] / reference[group]["mean"])
                result[f"{prefix}{name}_gain_percent"] = gain
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        groups = result["baselines_rmse_m"]
        lines.append(f"\n### {result['grid']}, {result['normalizer']}\n")
        heads = (f"slope {g} (n = {row['n']})" for g, row in groups.items())
        lines.append(f"| RMSE (m) | {' | '.join(heads)} |")
        lines.append("|---" * (len(groups) + 1) + "|")
        for name in ("bicubic", "back_projection"):
            cells = " | ".join(f"{row[name]:.3f}" for row in groups.values())
            lines.append(f"| {name.replace('_', ' ')} | {cells} |")
        for method, rows in result["rmse_m"].items():
            label = METHODS[method]
            cells = " | ".join(f"{rows[g]['mean']:.3f} ± {rows[g]['sd']:.3f}" for g in groups)
            lines.append(f"| {label} | {cells} |")
        for label, prefix in (("Adaptive Mixup", ""), ("Stretched", "stretch_")):
            if f"{prefix}steep_gain_percent" in result:
                lines.append(
                    f"\n{label} against flips and rotations: "
                    f"{result[f'{prefix}all_gain_percent']:+.1f} % in all, "
                    f"{result[f'{prefix}steep_gain_percent']:+.1f} % at slope "
                    f"{result['steep_class']} (positive is better)."
                )
    return "\n".join(lines).strip() + "\n"


def draw(results: list[dict[str, Any]], fname: Path) -> None:
    """Draw RMSE relative to bicubic, by slope class and method."""
    across = min(2, len(results))
    down = -(-len(results) // across)
    figure = Figure(figsize=(5 * across, 3 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for ax in axes[len(results) :]:
        ax.remove()
    shares = [
        row["mean"] / result["baselines_rmse_m"][group]["bicubic"]
        for result in results
        for rows in result["rmse_m"].values()
        for group, row in rows.items()
    ]
    for ax, result in zip(axes, results, strict=False):
        groups = result["baselines_rmse_m"]
        for i, (method, rows) in enumerate(result["rmse_m"].items()):
            label = METHODS[method]
            reference = np.array([groups[g]["bicubic"] for g in groups])
            mean = np.array([rows[g]["mean"] for g in groups]) / reference
            spread = np.array([rows[g]["sd"] for g in groups]) / reference
            places = np.arange(len(groups)) + (i - (len(result["rmse_m"]) - 1) / 2) * 0.16
            ax.bar(places, 100 * mean, 0.16, yerr=100 * spread, capsize=2, label=label)
        ax.axhline(100, color="black", linewidth=0.8)
        ax.set_xticks(range(len(groups)), [f"{g}\nn = {row['n']}" for g, row in groups.items()])
        ax.set_title(f"{result['grid']}, {result['normalizer']}", fontsize=10)
        ax.set_ylabel("RMSE, % of bicubic's")
        ax.set_ylim(max(0, 100 * min(shares) - 10), 100 * max(1, *shares) + 5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9)
    figure.supxlabel("mean slope gradient of the test images (m/m)", fontsize=10)
    save_figure(figure, fname)


@program
def main() -> None:
    """Run every grid with every normaliser and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--normalizers", nargs="+", default=["local_mean", "minmax"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--lambda-rule", default="solve", choices=("solve", "beta", "fixed", "none")
    )
    parser.add_argument("--target-value", type=int, default=3, choices=range(4))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--extend", type=Path, help="results.json of an earlier run to add rows to")
    parser.add_argument("--out", default="data/adaptive_mixup", help="output folder")
    args = parser.parse_args()
    out = Path(args.out)
    results = json.loads(args.extend.read_text(encoding="utf-8")) if args.extend else []
    for grid in args.grids:
        for normalizer in args.normalizers:
            result = compare(
                grid,
                normalizer,
                out,
                args.epochs,
                args.seeds,
                args.lambda_rule,
                args.methods,
                args.target_value,
            )
            results = join(results, result)
            with replacing(out / "results.json") as beside:
                beside.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            with replacing(out / "table.md") as beside:
                beside.write_text(table(results), encoding="utf-8")
            draw(results, out / "results.png")
    print(table(results))
    print(f"written to {out}")


if __name__ == "__main__":
    raise SystemExit(main())
