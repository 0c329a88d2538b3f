"""The task ``surgical_phase``: which phase of an operation a video shows, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from toolbox.config import Settings
from toolbox.errors import ConfigError
from toolbox.style import Style
from toolbox.task import FilePredictor, Source, Task, TestResult

if TYPE_CHECKING:
    from toolbox.data_generator import Batches
    from toolbox.normalizer import Normalizer
    from toolbox.run import Run
    from toolbox.settings import UserParams

LIMITS = (
    "Valid for operations, cameras and teams like those of the training data; there is no warning "
    "for others.",
    "Not a medical device: not for decisions about patients.",
)


class FollowingOptions(Settings):
    """Settings of ``predict`` for this task only."""

    online: bool = Field(
        False,
        description="surgical videos: use only windows that have ended, not later ones",
    )
    masks: str | None = Field(
        None, description="surgical videos: folder of the masks, for a network that needs them"
    )


class SurgicalPhase(Task):
    """Phases of operations: predicted for windows, judged for every frame of every video."""

    name = "surgical_phase"
    sources: ClassVar = {"surgical_video": "toolbox.tasks.surgical_phase.source:SurgicalSource"}
    style = Style("", "viridis")
    predict_options = FollowingOptions
    facts = ("class_weights",)
    run_files = ("videos.csv", "phases.json")
    results = "labels"
    mark = "phases"

    def check(self, settings: UserParams) -> None:
        """Refuse settings that contradict the windows or the network."""
        p, section = settings, settings.source_params
        own = p._source_defaults
        for key in ("scale", "input_shape"):
            given = getattr(p, key)
            given = list(given) if isinstance(given, tuple) else given
            if given != own[key]:
                raise ConfigError(
                    f"{p.fname}: {key} must be {own[key]} with source {p.source}; received "
                    f"{given}. Remove {key}."
                )
        for key, wanted in (("normalizer", "identity"), ("loss", "phase_cross_entropy")):
            given = p.normalizer.name if key == "normalizer" else getattr(p, key)
            if given != wanted:
                raise ConfigError(
                    f"{p.fname}: {key} must be {wanted} with source {p.source}; received {given}. "
                    f"Remove {key}."
                )
        if set(p.metrics) - {"phase_accuracy"}:
            raise ConfigError(
                f"{p.fname}: metrics must be [phase_accuracy] with source {p.source}; received "
                f"{list(p.metrics)}. Remove metrics."
            )
        turning = {"flip", "quarter_turn"}
        foreign = sorted({step for step, _ in p.online_da.steps()} - turning)
        if foreign:
            raise ConfigError(
                f"{p.fname}: online_da must only flip and turn windows; received "
                f"{' and '.join(foreign)}. Remove the other augmentations."
            )
        if section["stride"] > section["window_size"]:
            raise ConfigError(
                f"{p.fname}: {p.source}.stride must not exceed window_size, "
                f"{section['window_size']}; received {section['stride']}. Lower it."
            )
        self._check_network(p)

    def _check_network(self, p: UserParams) -> None:
        params, section = p.model_params, p.source_params
        phases = section["phases"]
        wanted: dict[str, int] = {"masks": section["mask_dir"] is not None}
        if phases is not None:
            wanted["num_classes"] = len(phases)
        for key, value in wanted.items():
            if params[key] != value:
                raise ConfigError(
                    f"{p.fname}: {p.model}.{key} must be {value}, as given by section {p.source}; "
                    f"received {params[key]}. Remove {key}."
                )
        if (params["temporal_layers"] > 0) != (section["sequence"] > 1):
            raise ConfigError(
                f"{p.fname}: {p.source}.sequence must be above 1 with {p.model}.temporal_layers, "
                f"and only then; received {section['sequence']} with {params['temporal_layers']} "
                f"layers. Change one of the two."
            )

    def preview(self, settings: UserParams, validation: Batches, normalizer: Normalizer) -> None:
        """Return None: there are no images to draw."""

    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Judge a run; see `toolbox.tasks.surgical_phase.judge`."""
        from toolbox.tasks.surgical_phase.judge import PhaseTest
        from toolbox.tasks.surgical_phase.source import SurgicalSource

        return PhaseTest(run, SurgicalSource.like(source, "videos with phases"), split).evaluate(
            compare
        )

    def objectives(self) -> list[tuple[str, ...]]:
        """Return the places of the figures in the summary of a test."""
        names = "accuracy", "accuracy_frames", "macro_f1_frames", "jaccard"
        return [("figures", name) for name in names]

    def predictor(self, run: Run) -> FilePredictor:
        """Return a predictor that writes the phases of videos."""
        from toolbox.tasks.surgical_phase.predict import PhasePredictor

        return PhasePredictor(run)

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe limits, figures and the windows."""
        from toolbox.model_card import markdown_table

        summary, config = card.get("summary") or {}, card.get("config") or {}
        section = config.get("surgical_video") or {}
        scores = ""
        if "figures" in summary:
            rows = [(name, f"{value:.4f}") for name, value in summary["figures"].items()]
            scores = f"{summary['n']} videos.\n\n" + markdown_table(("figure", "value"), rows)
        asked = "window_size", "stride", "sample_rate_hz", "size"
        validity = [(name, section.get(name, "–")) for name in asked]
        validity.append(("phases", len(section.get("phases") or ()) or "–"))
        return {
            "unit": "phases",
            "sign": None,
            "limits": list(LIMITS),
            "scores": scores,
            "validity": markdown_table(("quantity", "value"), validity),
        }
