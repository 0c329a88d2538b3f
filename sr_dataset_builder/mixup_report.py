"""Results of a mixup run: as text, as ``report.json`` and as pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field
from scipy.stats import wasserstein_distance

from toolbox.config import Float, Settings
from toolbox.data_loader import image_file, load_images
from toolbox.errors import DataError
from toolbox.io.tables import write_table
from toolbox.plotter import save_figure
from toolbox.tasks.bathymetry.adaptive import Mixtures
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient


class SlopeDifference(Settings):
    """A table of HR against LR slopes of some reference pairs."""

    valid: bool = False
    input_data_dir: str = ""
    delta: Annotated[Float, Field(gt=0)] = 50


#: Factor of depth beyond which a pair hardly resembles the original ground.
_FAR = 10.0


@dataclasses.dataclass
class Report:
    """Counts and distances required and reached; ``report.json`` holds the same."""

    target_key: str
    threshold: float
    threshold_set: bool
    target_images: int
    mixtures: int
    mixtures_missing: int
    picked: int
    wanted: int
    steep: int
    gentle: int
    wasserstein_before: float
    wasserstein_after: float
    stretch_median: float | None = None
    stretch_largest: float | None = None

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        text = [
            f"{self.mixtures} mixtures, {self.picked} of {self.wanted} required images picked",
            f"distance of the histograms of {self.target_key} (Wasserstein): "
            f"{self.wasserstein_before:.4g} before, {self.wasserstein_after:.4g} after",
        ]
        if self.stretch_median is not None:
            text.append(
                f"depths stretched by {self.stretch_median:.3g} (median), "
                f"at most {self.stretch_largest:.3g}"
            )
            if self.stretch_largest is not None and self.stretch_largest > _FAR:
                text.append(
                    f"WARNING: some pairs are stretched more than {_FAR:g} times: nearly flat "
                    f"ground, whose rounding and noise are stretched too. Train on ground more "
                    f"like the target, or set fit: pick."
                )
            return text
        if self.threshold_set and not (self.steep and self.gentle):
            text.append(
                f"WARNING: threshold {self.threshold:g} leaves {self.steep} steep and "
                f"{self.gentle} gentle patches, so nothing can be mixed. Leave out threshold to "
                f"take it from the target."
            )
        elif self.mixtures_missing:
            text.append(
                f"WARNING: {self.mixtures_missing} mixtures could not be made: no mixture of two "
                f"training patches is in the target's steepest (or gentlest) bins; the nearest "
                f"images were used instead."
            )
        if self.picked < self.wanted:
            text.append(f"WARNING: the pool has only {self.picked} images; lower increase_rate.")
        return text


def distance(values: np.ndarray, target: np.ndarray) -> float:
    """Return the Wasserstein distance between two sets of values, in their unit."""
    return float(wasserstein_distance(values[np.isfinite(values)], target[np.isfinite(target)]))


def draw_report(
    report: Report, before: np.ndarray, target: np.ndarray, after: np.ndarray, path: Path
) -> None:
    """Draw histograms of the feature before, in the target and after, with their distances."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    sets = [("training before", before), ("target (LR)", target), ("picked", after)]
    low = min(np.nanmin(v) for _, v in sets)
    high = max(np.nanmax(v) for _, v in sets)
    edges = np.linspace(low, high if high > low else low + 1e-6, 41)
    distances = (report.wasserstein_before, 0.0, report.wasserstein_after)
    axes = figure.subplots(1, 3, sharex=True)
    for ax, (label, values), far in zip(axes, sets, distances, strict=True):
        finite = values[np.isfinite(values)]
        ax.hist(finite, edges, color="tab:blue", weights=np.full(len(finite), 100 / len(finite)))
        ax.axvline(report.threshold, color="tab:red", linestyle="--", linewidth=1)
        shown = "" if label.startswith("target") else f"\ndistance to target {far:.4g}"
        ax.set_title(f"{label}, n = {len(values)}{shown}", fontsize=9)
        ax.set_xlabel(report.target_key.replace("_", " "), fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("share of patches (%)", fontsize=9)
    axes[2].text(
        0.98, 0.97, "red: threshold of the groups", transform=axes[2].transAxes,
        ha="right", va="top", fontsize=7, color="tab:red",
    )  # fmt: skip
    save_figure(figure, path)


def draw_mixtures(lr: np.ndarray, plan: Mixtures, path: Path, count: int = 4) -> None:
    """Draw some LR mixtures next to their parents."""
    if not len(plan.pairs):
        return
    figure = Figure(figsize=(7, 2.2 * count), layout="constrained")
    chosen = np.linspace(0, len(plan.pairs) - 1, min(count, len(plan.pairs))).astype(int)
    axes = figure.subplots(len(chosen), 3, squeeze=False)
    for row, i, mixed in zip(axes, chosen, plan.mix(lr, chosen)[..., 0], strict=True):
        steep, gentle = lr[plan.pairs[i]][..., 0]
        titles = (
            f"steep, λ = {plan.lam[i]:.2f}",
            f"gentle, 1 - λ = {1 - plan.lam[i]:.2f}",
            f"mixture, feature {plan.values[i]:.3g}",
        )
        for ax, img, title in zip(row, (steep, gentle, mixed), titles, strict=True):
            drawn = ax.imshow(img, cmap="terrain")
            figure.colorbar(drawn, ax=ax, label="m")
            ax.set_title(title, fontsize=9)
            ax.set(xticks=[], yticks=[])
    save_figure(figure, path)


def write_slope_difference(params: SlopeDifference, path: Path) -> None:
    """Tabulate HR and LR slopes of reference pairs: the two are not interchangeable."""
    hr, lr = (load_images(image_file(params.input_data_dir, kind)) for kind in ("HR", "LR"))
    if len(hr) != len(lr):
        raise DataError(
            f"{params.input_data_dir}: {len(hr)} HR images but {len(lr)} LR images; every HR image "
            f"needs its LR image. Name a folder whose files match."
        )
    scale = hr.shape[1] // lr.shape[1]
    fine = mean_slope_gradient(hr, params.delta)
    coarse = mean_slope_gradient(lr, params.delta * scale)
    table = pd.DataFrame(
        {
            "index": np.arange(len(fine)),
            "mean_slope_gradient_HR": fine,
            "mean_slope_gradient_LR": coarse,
            "difference": fine - coarse,
            "ratio_LR_HR": coarse / np.where(fine > 0, fine, np.nan),
        }
    )
    write_table(table, path)
    print(f"{path}: LR slopes are {table['ratio_LR_HR'].median():.2f} of HR slopes (median)")
