"""The task ``sem``: CD-SEM pictures of lines and discs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from toolbox.errors import ConfigError
from toolbox.style import Style
from toolbox.task import (
    FileInspector,
    FileMeasurer,
    FilePredictor,
    ImageMeasurer,
    ImagePredictor,
    Source,
    Task,
    TestResult,
)
from toolbox.tasks.sem.settings import MeasureOptions, MetrologyParams, SemOptions

if TYPE_CHECKING:
    from toolbox.data_generator import Batches
    from toolbox.normalizer import Normalizer
    from toolbox.run import Run
    from toolbox.settings import UserParams

LIMITS = (
    "Restored detail is likely, not measured: check it on pictures whose widths are known.",
    "Valid only for the microscope, dose, pixel size and pattern of the training pictures.",
    "Roughness at wavelengths that the test reports as erased can no longer be measured.",
)
#: Noise of edges above which cdloss is of little use, pixels.
_MOST_NOISE_PX = 0.5
_FIGURES = {
    "psnr": "PSNR, dB",
    "cd_bias_nm": "bias of the width, nm",
    "cd_bias_ci95_nm": "± 95 %, nm",
    "cd_slope": "slope",
    "unbiased_lwr_error_percent": "LWR error, %",
}


class Sem(Task):
    """Restores noisy pictures and judges them by widths and roughness in nanometres."""

    name = "sem"
    sources: ClassVar = {"sem": "toolbox.tasks.sem.source:SEMSource"}
    style = Style("grey levels", "gray")
    sections: ClassVar = {"metrology": MetrologyParams}
    predict_options = SemOptions
    instead: ClassVar = {"report": "measure PICTURE -o FOLDER writes a page about a picture"}
    measure_options = MeasureOptions
    free_settings = ("metrology",)
    facts = ("pixel_nm", "noise_nm")
    run_files = ("pairs.csv", "validity.json")
    inspect_options = ("pixel_nm",)

    def check(self, settings: UserParams) -> None:
        """Refuse to train on one shape or direction and measure another."""
        metrology: MetrologyParams = settings.metrology  # type: ignore[attr-defined]
        if "cdloss" not in settings.figure_names():
            return
        section, shape = settings.loss_params["cdloss"], metrology.shape
        form = {"lines": "width", "discs": "contour"}[shape]
        if section["form"] not in (form, "gradient"):
            raise ConfigError(
                f"{settings.fname}: cdloss.form must be {form} for metrology.shape: {shape}; "
                f"received {section['form']}. Set cdloss.form to {form}, or metrology.shape to "
                f"{'discs' if shape == 'lines' else 'lines'} if the pictures show those."
            )
        if shape == "lines" and metrology.lines not in ("auto", section["lines"]):
            raise ConfigError(
                f"{settings.fname}: metrology.lines must be {section['lines']}, like cdloss.lines; "
                f"received {metrology.lines}. Set both to the direction of the lines."
            )

    def check_data(
        self, settings: UserParams, source: Source, validation: Batches, normalizer: Normalizer
    ) -> None:
        """Refuse losses of whole pictures for hidden pixels; warn about losses that learn noise."""
        from toolbox.tasks.sem.source import SEMSource

        opened = SEMSource.like(source, "pictures")
        if opened.target == "pictures":
            return
        used = [settings.loss, *([settings.pretrain_loss] if settings.pretrain_epochs else [])]
        losses = {name for loss in used for name in ([loss] if isinstance(loss, str) else loss)}
        lone = [f for f in map(opened.open, ("train", "validation")) if any(f.lone)]
        others = sorted({*losses, *settings.metrics} - {"masked_mse"})
        if lone and others:
            raise ConfigError(
                f"{settings.fname}: loss and metrics must be masked_mse alone, because "
                f"{lone[0].files[lone[0].lone.index(True)].low} has one frame only; received "
                f"{', '.join(others)}. Leave out {', '.join(others)}, or use stacks of at least "
                f"two frames."
            )
        biased = sorted(losses - {"mse", "masked_mse", "cdloss"})
        if biased:
            print(
                f"WARNING: {settings.fname}: with sem.target: frames, targets are noisy, and "
                f"{', '.join(biased)} would not be smallest for noise-free pictures. Use mse."
            )
        facts = opened.facts()
        if "cdloss" in losses and facts["noise_nm"] > _MOST_NOISE_PX * facts["pixel_nm"]:
            print(
                f"WARNING: {settings.fname}: noise displaces the edges of the targets by "
                f"{facts['noise_nm']:.2g} nm, more than half a pixel, and cdloss learns little "
                f"from such edges. Use stacks of more frames, or leave cdloss out."
            )

    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Judge a run in nanometres; see `toolbox.tasks.sem.judge`."""
        from toolbox.tasks.sem.judge import SemTest
        from toolbox.tasks.sem.source import SEMSource

        return SemTest(run, SEMSource.like(source, "whole pictures"), split).evaluate(compare)

    def objectives(self) -> list[tuple[str, ...]]:
        """Return edge error, likely change of CD, PSNR and SSIM of restored pictures."""
        return [
            ("edge_error_nm", "restored"),
            ("do_no_harm", "largest_likely_cd_change_nm"),
            ("psnr", "restored"),
            ("ssim", "restored"),
        ]

    def predictor(self, run: Run) -> FilePredictor:
        """Return the predictor for picture files; it keeps their type and pixel size."""
        from toolbox.tasks.sem.predict import SemPredictor

        return SemPredictor(run)

    def image_predictor(self, run: Run) -> ImagePredictor:
        """Return the predictor for pictures in memory."""
        from toolbox.tasks.sem.predict import SemPredictor

        return SemPredictor(run)

    def image_measurer(self, settings: MeasureOptions) -> ImageMeasurer:
        """Return the measurer of lines and discs for pictures in memory."""
        from toolbox.tasks.sem.measurer import SemMeasurer

        return SemMeasurer(settings)

    def pixel_nm(self, path: Path) -> tuple[float, float] | None:
        """Return width and height of a pixel, from the picture or the files next to it."""
        from toolbox.tasks.sem.sem_image import SUFFIXES, open_sem_stack

        if path.suffix.lower() not in SUFFIXES:
            return None
        size = open_sem_stack(path).size
        return None if size is None else (size.x_nm, size.y_nm or size.x_nm)

    def measurer(self, settings: MeasureOptions) -> FileMeasurer:
        """Return the measurer of lines and discs for picture files."""
        from toolbox.tasks.sem.measurer import SemMeasurer

        return SemMeasurer(settings)

    def inspector(self, settings: Any, folder: Path | None) -> FileInspector:
        """Return the inspector, which compares pictures with those of a training run."""
        from toolbox.tasks.sem.inspector import SemInspector

        return SemInspector(settings, folder)

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe limits, scores by method, grey values and pixel size."""
        from toolbox.model_card import NOT_RECORDED, cell_text, markdown_table, range_of, span_text
        from toolbox.tasks.sem.validity import ranges_text

        summary, data = card.get("summary") or {}, card.get("data") or {}
        unit = self.style.unit
        size = summary.get("pixel_nm") or data.get("pixel_nm")
        known = ranges_text((card.get("validity") or {}).get("ranges", {}))
        if "size of a pixel" not in known:
            size_text = NOT_RECORDED if size is None else f"{cell_text(size)} nm"
            known = {"size of a pixel": size_text, **known}
        rows = [("values", span_text(range_of(card), unit)), *known.items()]
        return {
            "unit": unit,
            "sign": None,
            "limits": list(LIMITS),
            "scores": _scores(summary) if "cd_bias_nm" in summary else "",
            "validity": markdown_table(("quantity", "range"), rows),
        }


def _scores(summary: Mapping[str, Any]) -> str:
    """Tabulate the test results by method."""
    from toolbox.model_card import cell_text, markdown_table
    from toolbox.tasks.sem.figures import unit_of, verdict_of

    known = {key: title for key, title in _FIGURES.items() if summary.get(key)}
    methods = list(summary["cd_bias_nm"])
    rows = [(name, *(cell_text(summary[key].get(name)) for key in known)) for name in methods]
    text = f"{summary['n']} test pictures of {summary['measured']}.\n\n"
    text += markdown_table(("method", *known.values()), rows)
    if verdict := verdict_of(summary, unit_of(summary)):
        text += f"\n\n**{verdict.title}.** {' '.join(verdict.sentences)}"
    return text
