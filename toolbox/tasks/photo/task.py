"""The task ``photo``: photographs, judged in dB, with their metadata kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from toolbox.config import Int, Settings
from toolbox.errors import ConfigError
from toolbox.style import Style
from toolbox.task import FilePredictor, ImagePredictor, Source, Task, TestResult

if TYPE_CHECKING:
    from toolbox.run import Run
    from toolbox.settings import UserParams

LIMITS = (
    "Added detail is likely, not recorded by the camera: no evidence, no text, no faces.",
    "Valid for photographs that were reduced in the same way as the training data. Noise and JPEG "
    "blocks of others are enlarged too, unless the run was trained with photo.degradation.",
)


class PhotoOptions(Settings):
    """Settings of ``predict`` for photographs only."""

    quality: Annotated[Int, Field(ge=1, le=100)] | None = Field(
        None, description="photographs: quality of JPEG (default 95), WebP and AVIF (90)"
    )


class Photo(Task):
    """Enlargement of photographs, in colour and with the metadata of their files."""

    name = "photo"
    sources: ClassVar = {"photo": "toolbox.tasks.photo.source:PhotoSource"}
    style = Style("", "gray")
    predict_options = PhotoOptions
    run_files = ("photos.csv",)

    def check(self, settings: UserParams) -> None:
        """Refuse an input shape that differs from that of the crops."""
        section = settings.source_params
        side, channels = section["lr_crop"], section["channels"]
        if tuple(settings.input_shape) != (side, side, channels):
            raise ConfigError(
                f"{settings.fname}: input_shape must be [{side}, {side}, {channels}], as given by "
                f"photo.lr_crop and photo.channels; received {list(settings.input_shape)}. "
                f"Remove input_shape."
            )

    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Judge a run in dB; see `toolbox.tasks.photo.evaluate`."""
        from toolbox.tasks.photo.evaluate import PhotoTest
        from toolbox.tasks.photo.source import PhotoSource

        return PhotoTest(run, PhotoSource.like(source, "whole photographs"), split).evaluate(
            compare
        )

    def objectives(self) -> list[tuple[str, ...]]:
        """Return the places of PSNR and SSIM of the network in the summary."""
        return [(name, "sr") for name in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")]

    def predictor(self, run: Run) -> FilePredictor:
        """Return a predictor that enlarges photographs and keeps the metadata of their files."""
        from toolbox.tasks.photo.predict import PhotoPredictor

        return PhotoPredictor(run)

    def image_predictor(self, run: Run) -> ImagePredictor:
        """Return a predictor that enlarges photographs in memory."""
        from toolbox.tasks.photo.predict import PhotoPredictor

        return PhotoPredictor(run)

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe limits, scores by method, and how low-resolution versions were made."""
        from toolbox.model_card import NOT_RECORDED, markdown_table

        summary, config = card.get("summary") or {}, card.get("config") or {}
        section = config.get("photo") or {}
        scores = ""
        if "psnr_y" in summary:
            rows = [
                (name, f"{value:.2f}", f"{summary['ssim_y'][name]:.4f}")
                for name, value in summary["psnr_y"].items()
            ]
            scores = f"{summary['n']} photographs, {summary['crop_px']} pixels left out at each "
            scores += "side, brightness Y.\n\n"
            scores += markdown_table(("method", "PSNR, dB", "SSIM"), rows)
        made = section.get("downscale", NOT_RECORDED)
        validity = [("values", "0 to 255"), ("low resolution made by", made)]
        if section.get("degradation"):
            validity.append(("degraded by", "blur, noise and JPEG"))
        return {
            "unit": "grey levels of 0 to 255",
            "sign": None,
            "limits": list(LIMITS),
            "scores": scores,
            "validity": markdown_table(("quantity", "range"), validity),
        }
