"""The task ``heat``: judged in kelvin beside plain repetition of pixels."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from toolbox.config import Float, Settings
from toolbox.io.array_files import writing_images
from toolbox.model_card import markdown_table
from toolbox.pages import Facts, Page
from toolbox.style import Style
from toolbox.task import Task, TestResult


class HeatOptions(Settings):
    """What only thermal frames need in ``predict``."""

    ceiling_k: Float | None = Field(None, description="clip the result at so many kelvin")


class Thresholds(Settings):
    """The section ``alarm``: what counts as hot in a test."""

    above_k: Float = 320.0


class HeatPredictor:
    """Enlarges ``.npy`` files of one frame."""

    suffixes = (".npy",)
    what = "no frame"

    def __init__(self, run):
        self.run = run

    def check(self):
        """Nothing can be wrong."""

    def suffix(self, path):
        """Frames stay what they are."""
        return ".npy"

    def predict(self, path, target):
        """Enlarge one frame."""
        large = self.run.resolver.predict(np.load(path, allow_pickle=False))
        large = np.minimum(large, self.run.predict.ceiling_k or np.inf)
        with writing_images(target, large.shape) as file:
            file[:] = large
        print(f"{target}: {large.min():.1f} to {large.max():.1f} K")


class Heat(Task):
    """Thermal frames."""

    name = "heat"
    sources: ClassVar = {"heat": "heat_task.source:HeatSource"}
    style = Style("K", "inferno")
    sections: ClassVar = {"alarm": Thresholds}
    free_settings = ("alarm",)
    predict_options = HeatOptions
    facts = ("noise_k",)
    run_files = ("heat.json",)

    def evaluate(self, run, source, split, compare=True):
        """Mean absolute error in kelvin, of the network and of repeated pixels."""
        lr, hr = source.split(split)
        images = {"network": run.resolver.super_resolve(lr, run.settings.batch_size)}
        if compare:
            images["repeated"] = lr.repeat(run.scale, axis=1).repeat(run.scale, axis=2)
        errors = {name: float(np.abs(img - hr).mean()) for name, img in images.items()}
        summary = {**run.facts(), "n": len(hr), "error_k": errors}
        summary["hot_pixels"] = int((hr > run.settings.alarm.above_k).sum())

        def draw(folder):
            page = Page("Thermal frames", f"{len(hr)} frames")
            page.section("Errors", Facts({name: f"{e:.3f} K" for name, e in errors.items()}))
            return page

        table = pd.DataFrame({"method": list(errors), "error_k": list(errors.values())})
        return TestResult(summary, f"errors in K: {errors}", {"errors.csv": table}, draw)

    def objectives(self):
        """The error of the network."""
        return [("error_k", "network")]

    def predictor(self, run):
        """Frames as ``.npy``."""
        return HeatPredictor(run)

    def card(self, card):
        """Errors by method, and the range of the training frames."""
        errors = (card.get("summary") or {}).get("error_k", {})
        known = card.get("heat") or {}
        return {
            "unit": "K",
            "sign": None,
            "limits": ["Not for fever."],
            "scores": markdown_table(("method", "error, K"), errors.items()),
            "validity": markdown_table(("limit", "K"), known.items()),
        }
