"""Test of drawings, class maps or pictures, compared with plain networks and with a guess."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.picture_set import as_counts
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.task import TestResult
from toolbox.tasks.pix2pix.classes import Classes
from toolbox.tasks.pix2pix.draw import TOLERANCE, Artist, Drawn
from toolbox.tasks.pix2pix.measure import (
    CLASS_FIGURES,
    PICTURE_FIGURES,
    bootstrap,
    class_figures,
    confusion,
    picture_figures,
)
from toolbox.tasks.pix2pix.report import Example, drawing_page
from toolbox.tasks.pix2pix.source import CLASS_REPORT, PairSource

#: The run that is tested.
OWN = "network"
#: Titles of the methods it is compared with, in the order of tables.
BASELINES = {
    "l1": "same U-Net, L1 only",
    "softmax": "same U-Net, softmax",
    "majority": "majority class",
    "input": "input itself",
}
#: Pictures shown on the page.
_SHOWN = 6


@dataclasses.dataclass
class _Tally:
    """Results of one method so far."""

    matrices: list[np.ndarray] = dataclasses.field(default_factory=list)
    far: list[float] = dataclasses.field(default_factory=list)


class DrawingTest:
    """One test of an opened run on whole pictures.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : PairSource
        The pairs.
    split : {'test', 'validation', 'train'}
        The split to test.
    """

    def __init__(self, run: Run, source: PairSource, split: str) -> None:
        self.run, self.source, self.split = run, source, split
        self.pairs = source.pictures(split, whole=True)
        self.classes = source.classes
        self.rows: list[dict[str, Any]] = []
        self.examples: list[Example] = []
        self.warnings: list[str] = []
        self._tallies: dict[str, _Tally] = {}

    def evaluate(self, compare: bool) -> TestResult:
        """Draw and measure every picture; with baselines if `compare`."""
        artists = {OWN: artist_of(self.run, self.classes)}
        majority = None
        if compare:
            artists |= self._trained_baselines()
            majority = self._majority()
        shown = set(np.linspace(0, len(self.pairs) - 1, _SHOWN).astype(int))
        for number in progress(range(len(self.pairs)), "testing", unit="picture", delay=2):
            picture, target = self.pairs.pair(number)
            drawings = {name: artist.draw(picture) for name, artist in artists.items()}
            if majority is not None:
                drawings["majority"] = majority(target)
            if compare and self.classes is None and picture.shape == target.shape:
                drawings["input"] = Drawn(picture)
            self._measure(self.pairs.files[number].name, target, drawings)
            if compare and number in shown:
                self._keep(self.pairs.files[number].name, picture, target, drawings)
        summary = self._summary()
        text = summary_text(summary, self.titles, self.classes) if compare else ""
        return TestResult(summary, text, {"pictures.csv": pd.DataFrame(self.rows)}, self._draw)

    @property
    def titles(self) -> dict[str, str]:
        """Titles of all methods."""
        return {OWN: self.run.settings.model, **BASELINES}

    def _trained_baselines(self) -> dict[str, Artist]:
        found, self.warnings = self.run.baselines()
        return {name: artist_of(run, self.classes) for name, run in found.items()}

    def _majority(self) -> Any:
        """Return a function that draws the most frequent training class everywhere."""
        if self.classes is None:
            return None
        record = Path(self.run.settings.log_dir, CLASS_REPORT)
        if record.is_file():
            pixels = json.loads(record.read_text(encoding="utf-8"))["pixels"]
        else:
            pixels = self.source.class_pixels()[:-1].tolist()
        most = np.uint8(np.argmax(pixels))
        classes = self.classes

        def draw(target: np.ndarray) -> Drawn:
            ids = np.full(target.shape[:2], most)
            return Drawn(classes.encode(ids), ids, 0.0)

        return draw

    def _measure(self, name: str, target: np.ndarray, drawings: Mapping[str, Drawn]) -> None:
        for method, drawn in drawings.items():
            row: dict[str, Any] = {"picture": name, "method": method}
            tally = self._tallies.setdefault(method, _Tally())
            if self.classes is not None:
                assert drawn.ids is not None
                matrix = confusion(target[..., 0], drawn.ids, len(self.classes))
                tally.matrices.append(matrix)
                tally.far.append(float(drawn.far or 0.0))
                figures = class_figures(matrix)
                row |= {key: float(figures[key]) for key in CLASS_FIGURES}
                row["far_from_palette"] = drawn.far
            else:
                row |= picture_figures(as_counts(target), as_counts(drawn.picture))
            self.rows.append(row)

    def _keep(
        self, name: str, picture: np.ndarray, target: np.ndarray, drawings: Mapping[str, Drawn]
    ) -> None:
        shown = target if self.classes is None else self.classes.encode(target[..., 0])
        images = {"Input": picture, "Output": drawings[OWN].picture}
        if self.classes is not None:
            for method in (OWN, "l1", "softmax"):
                ids = drawings[method].ids if method in drawings else None
                if ids is not None:
                    heading = "Decoded" if method == OWN else self.titles[method]
                    images[heading] = self.classes.encode(ids)
        elif "l1" in drawings:
            images[self.titles["l1"]] = drawings["l1"].picture
        self.examples.append(Example(name, {**images, "Truth": shown}))

    def _methods(self) -> list[str]:
        return [name for name in self.titles if name in self._tallies]

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            **self.run.facts(),
            "n": len(self.pairs),
            "left_out": self.pairs.left_out,
            "warnings": self.warnings,
        }
        if self.classes is None:
            columns = list(PICTURE_FIGURES)
            means = pd.DataFrame(self.rows).groupby("method")[columns].mean().to_dict()
            for figure in columns:
                summary[figure] = {m: float(means[figure][m]) for m in self._methods()}
            return summary
        return summary | self._class_summary(self.classes)

    def _class_summary(self, classes: Classes) -> dict[str, Any]:
        stacks = {name: np.array(self._tallies[name].matrices) for name in self._methods()}
        pooled = {name: class_figures(stack.sum(axis=0)) for name, stack in stacks.items()}
        present = np.isfinite(pooled[OWN]["iou"])
        found: dict[str, Any] = {
            name: {method: float(pooled[method][name]) for method in pooled}
            for name in CLASS_FIGURES
        }
        for name in ("iou", "accuracy"):
            found[f"class_{name}"] = {
                classes.names[i]: {m: float(pooled[m][name][i]) for m in pooled}
                for i in np.flatnonzero(present)
            }
        total = stacks[OWN].sum(axis=0)
        return found | {
            "far_from_palette": {m: float(np.mean(self._tallies[m].far)) for m in pooled},
            "tolerance": TOLERANCE,
            "classes": len(classes),
            "classes_in_truth": int(present.sum()),
            "drawn_void": float(total[:, -1].sum() / total.sum()),
            "confusion": total.tolist(),
            "difference": {
                name: bootstrap(stacks[OWN], stack) for name, stack in stacks.items() if name != OWN
            },
        }

    def _draw(self, folder: Path) -> Any:
        history = Path(self.run.settings.log_dir, "history.csv")
        verdicts = pd.read_csv(history) if history.is_file() else None
        return drawing_page(
            self._summary(),
            pd.DataFrame(self.rows),
            self.titles,
            self.classes,
            self.examples,
            verdicts,
            self.run.described(),
        )


def artist_of(run: Run, classes: Classes | None) -> Artist:
    """Return the artist that draws with an opened run."""
    section = run.settings.source_params
    return Artist(
        run.resolver,
        section["size"] if section["fit"] == "resize" else None,
        classes,
        section["target"] == "classes",
        run.predict.tile,
    )


def summary_text(
    summary: Mapping[str, Any], titles: Mapping[str, str], classes: Classes | None
) -> str:
    """Return the figures of a test as a table for the terminal."""
    lines = _picture_lines(summary, titles) if classes is None else _class_lines(summary, titles)
    return "\n".join([*lines, *(f"WARNING: {text}" for text in summary["warnings"])])


def _picture_lines(summary: Mapping[str, Any], titles: Mapping[str, str]) -> list[str]:
    lines = [
        f"\n{summary['n']} pictures; means over all pictures, L1 in grey levels of 0 to 255",
        f"{'method':<22}{'L1':>8}{'PSNR, dB':>10}{'SSIM':>9}",
    ]
    for name, value in summary["l1"].items():
        psnr, ssim = summary["psnr"][name], summary["ssim"][name]
        lines.append(f"{titles[name]:<22}{value:8.2f}{psnr:10.2f}{ssim:9.4f}")
    return lines


def _class_lines(summary: Mapping[str, Any], titles: Mapping[str, str]) -> list[str]:
    lines = [
        f"\n{summary['n']} pictures; {summary['classes_in_truth']} of {summary['classes']} classes "
        f"occur in the truth; void is not evaluated",
        f"{'method':<22}{'pixels right':>13}{'mean IoU':>10}{'mean class':>12}{'far off':>10}",
    ]
    for name, value in summary["mean_iou"].items():
        right, mean = summary["pixel_accuracy"][name], summary["mean_accuracy"][name]
        far = summary["far_from_palette"][name]
        lines.append(
            f"{titles[name]:<22}{100 * right:11.2f} %{value:10.4f}{100 * mean:10.2f} %"
            f"{100 * far:8.2f} %"
        )
    lines.append(
        f"far off: pixels more than {summary['tolerance']:g} grey levels from the colour of any "
        f"class"
    )
    return lines
