"""The task ``bathymetry``: sea floors and other maps in metres."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from toolbox.style import Style
from toolbox.task import FileInspector, FilePredictor, Source, Task, TestResult
from toolbox.tasks.bathymetry.settings import MapOptions

if TYPE_CHECKING:
    from toolbox.run import Run


class Bathymetry(Task):
    """Depth maps, enlarged and evaluated in metres, by slope class, compared with bicubic."""

    name = "bathymetry"
    sources: ClassVar = {"patches": "toolbox.tasks.bathymetry.source:PatchSource"}
    style = Style("m", "terrain")
    predict_options = MapOptions
    inspect_options = ("variable", "time", "group", "nodata", "positive")
    run_files = ("validity.json", "intervals.json")

    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Evaluate a run in metres; see `toolbox.tasks.bathymetry.evaluate`."""
        from toolbox.tasks.bathymetry.evaluate import MapTest

        return MapTest(run, source, split, self.style).evaluate(compare)

    def objectives(self) -> list[tuple[str, ...]]:
        """Return the figures of super-resolution over all images and in each slope class."""
        from toolbox.tasks.bathymetry.evaluate import COLUMNS
        from toolbox.tasks.bathymetry.fidelity import FIGURES
        from toolbox.tasks.bathymetry.terrain import SLOPE_CLASSES, class_name

        groups = [("all",), *(("slope_classes", class_name(*limits)) for limits in SLOPE_CLASSES)]
        terrain = [("terrain", *group, "sr", figure) for group in groups for figure in FIGURES]
        return [(*g, "sr", column) for g in groups for column in COLUMNS.values()] + terrain

    def predictor(self, run: Run) -> FilePredictor:
        """Return the predictor, which enlarges maps and keeps their geodata."""
        from toolbox.tasks.bathymetry.predict import MapPredictor

        return MapPredictor(run)

    def inspector(self, settings: Any, folder: Path | None) -> FileInspector:
        """Return the inspector, which judges how maps were made and compares them with a run."""
        from toolbox.tasks.bathymetry.inspector import MapInspector

        return MapInspector(settings, folder)

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe unit, sign, limits, scores by slope class and range of validity."""
        from toolbox.tasks.bathymetry.card import card_of_maps

        return card_of_maps(card)
