"""Test on photographs: dB compared with bicubic and Lanczos, per photograph and on average."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.picture_set import as_counts, to_pixels
from toolbox.plotter import METHODS as KNOWN
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.spectrum import high_frequency_energy
from toolbox.task import TestResult
from toolbox.tasks.photo.measure import (
    BASELINES,
    FIGURES,
    ROUNDING,
    below_bicubic,
    brightness,
    enlarged,
    measured,
)
from toolbox.tasks.photo.report import Example, photo_page
from toolbox.tasks.photo.source import PhotoSource

#: Titles of the methods in the order of tables and charts.
TITLES = {name: KNOWN.get(name, (name.capitalize(), ""))[0] for name in BASELINES} | {
    name: KNOWN[name][0] for name in ("pixel_stage", "sr")
}
ENERGY = "high_frequency_energy"
_LEAST, _MOST = "Least gain", "Most gain"


class PhotoTest:
    """One test of an opened run on whole photographs.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : PhotoSource
        The photographs.
    split : {'test', 'validation', 'train'}
        The split to test.
    """

    def __init__(self, run: Run, source: PhotoSource, split: str) -> None:
        self.run, self.source, self.split = run, source, split
        self.photos = source.photos(split)
        self.rows: list[dict[str, Any]] = []
        self.examples: dict[str, Example] = {}

    def evaluate(self, compare: bool) -> TestResult:
        """Enlarge and measure every photograph; with baselines if `compare`."""
        resolvers = {"sr": self.run.resolver}
        if compare and (stage := self.run.pixel_stage()) is not None:
            resolvers["pixel_stage"] = stage
        for number in progress(range(len(self.photos)), "testing", unit="photo", delay=2):
            pair = self.source.pair(self.split, number)
            images = enlarged(pair.low, self.run.scale) if compare else {}
            for name, resolver in resolvers.items():
                large = resolver.predict(as_counts(pair.low), self.run.predict.tile)
                images[name] = to_pixels(large, pair.high.dtype)
            self._measure(number, pair.low, pair.high, images)
        summary = self._summary()
        text = summary_text(summary) if compare else ""
        return TestResult(summary, text, {"photos.csv": self._table()}, self._draw)

    def _measure(
        self, number: int, low: np.ndarray, high: np.ndarray, images: Mapping[str, np.ndarray]
    ) -> None:
        truth, name = as_counts(high), self.photos.files[number].name
        y = brightness(truth)[None, ..., None]
        for method in [method for method in TITLES if method in images]:
            image = as_counts(images[method])
            figures = measured(truth, image, self.run.scale)
            energy = high_frequency_energy(y, brightness(image)[None, ..., None], self.run.scale)
            self.rows.append({"photo": name, "method": method, **figures, ENERGY: energy})
        if "bicubic" in images:
            gain = self._gain(name)
            example = Example(name, gain, low, high, images["bicubic"], images["sr"])
            worst, best = self.examples.get(_LEAST), self.examples.get(_MOST)
            if worst is None or gain < worst.gain_db:
                self.examples[_LEAST] = example
            if best is None or gain >= best.gain_db:
                self.examples[_MOST] = example

    def _gain(self, name: str) -> float:
        own = {row["method"]: row["psnr_y"] for row in self.rows if row["photo"] == name}
        return float(own["sr"] - own["bicubic"])

    def _table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def _summary(self) -> dict[str, Any]:
        table = self._table()
        means = table.groupby("method")[[*FIGURES, ENERGY]].mean().to_dict()
        methods = [name for name in TITLES if name in means["psnr_y"]]
        summary: dict[str, Any] = {
            **self.run.facts(),
            "n": len(self.photos),
            "crop_px": self.run.scale,
            "left_out": self.photos.left_out,
        }
        for figure in (*FIGURES, ENERGY):
            summary[figure] = {name: _json(means[figure][name]) for name in methods}
        if "bicubic" in methods:
            wide = table.pivot(index="photo", columns="method", values="psnr_y")
            gains = wide["sr"] - wide["bicubic"]
            summary["gain_over_bicubic_db"] = {
                "mean": float(gains.mean()),
                "least": float(gains.min()),
                "most": float(gains.max()),
            }
            summary["worse_than_bicubic"] = sorted(gains.index[gains < -ROUNDING["psnr_y"]])
        return summary

    def _draw(self, folder: Path) -> Any:
        history = Path(self.run.settings.log_dir, "history.csv")
        verdicts = pd.read_csv(history) if history.is_file() else None
        return photo_page(
            self._summary(),
            self._table(),
            TITLES,
            [dataclasses.replace(e, title=kind) for kind, e in self.examples.items()],
            verdicts,
            self.run.described(),
        )


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the figures of a test as a table for the terminal."""
    lines = [
        f"\n{summary['n']} photographs; PSNR in dB for a peak of 255, {summary['crop_px']} pixels "
        f"left out at each side; means over all photographs",
        f"{'method':<18}{'PSNR Y':>9}{'SSIM Y':>9}{'PSNR RGB':>10}{'SSIM RGB':>10}"
        f"{'fine energy':>13}  against bicubic (Y)",
    ]
    reference = summary["psnr_y"]["bicubic"]
    for method, value in summary["psnr_y"].items():
        energy = summary[ENERGY][method]
        share = "-" if energy is None else f"{100 * energy:.0f} %"
        lines.append(
            f"{TITLES[method]:<18}{value:9.2f}{summary['ssim_y'][method]:9.4f}"
            f"{summary['psnr_rgb'][method]:10.2f}{summary['ssim_rgb'][method]:10.4f}{share:>13}"
            f"  {value - reference:+.2f} dB"
        )
    lines.append(
        "fine energy: above the low-resolution Nyquist frequency, as a share of the truth's"
    )
    if below := below_bicubic(summary):
        lines.append(f"WARNING: below bicubic on average: {', '.join(below)}")
    if worse := summary["worse_than_bicubic"]:
        lines.append(
            f"WARNING: {len(worse)} of {summary['n']} photographs are worse than bicubic: "
            f"{', '.join(worse[:5])}{', ...' if len(worse) > 5 else ''}"
        )
    return "\n".join(lines)
