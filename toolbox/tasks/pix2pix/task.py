"""The task ``pix2pix``: pictures drawn from pictures, class maps among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from toolbox.config import Settings
from toolbox.errors import ConfigError
from toolbox.registry import MODELS
from toolbox.style import Style
from toolbox.task import FilePredictor, Source, Task, TestResult

if TYPE_CHECKING:
    from toolbox.data_generator import Batches
    from toolbox.normalizer import Normalizer
    from toolbox.run import Run
    from toolbox.settings import UserParams

LIMITS = (
    "A drawing is likely, not measured: it looks equally convincing where it is wrong.",
    "Valid for pictures like the training data; there is no warning for others.",
)
#: Augmentations that would mix the colours or the ids of classes.
_MIXING = ("zoom", "rotate", "depth_scale")
#: Normalisers with the same constants for every pixel and channel, and the activations that fit.
_PLAIN = {"minmax": ("linear", "sigmoid"), "symmetric": ("linear", "tanh")}


class DrawingOptions(Settings):
    """Settings of ``predict`` for this task only."""

    decode: bool = Field(
        False, description="pix2pix: also write the class map, a PNG with the palette"
    )


class PixToPix(Task):
    """Pictures drawn from pictures of the same size: photographs, maps, classes in colours."""

    name = "pix2pix"
    sources: ClassVar = {
        "voc": "toolbox.tasks.pix2pix.source:VocSource",
        "picture_pairs": "toolbox.tasks.pix2pix.source:FolderSource",
    }
    style = Style("", "gray")
    predict_options = DrawingOptions
    run_files = ("pairs.csv", "classes.json")

    def check(self, settings: UserParams) -> None:
        """Refuse settings that do not fit the source and its targets."""
        p, name = settings, settings.source
        own = p._source_defaults
        if p.scale != 1:
            raise ConfigError(
                f"{p.fname}: scale must be 1 with source {name}, whose targets are as large as "
                f"their pictures; received {p.scale}. Remove scale."
            )
        if list(p.input_shape) != own["input_shape"]:
            raise ConfigError(
                f"{p.fname}: input_shape must be {own['input_shape']}, as given by section {name}; "
                f"received {list(p.input_shape)}. Remove input_shape."
            )
        self._check_network(p)
        if p.normalizer.name not in _PLAIN:
            raise ConfigError(
                f"{p.fname}: normalizer must be minmax or symmetric with source {name}; received "
                f"{p.normalizer.name}. Remove normalizer."
            )
        if p.norm_range not in (None, (0, 255)):
            raise ConfigError(
                f"{p.fname}: norm_range must be [0, 255] with source {name}, the range of all "
                f"pictures; received {list(p.norm_range)}. Remove norm_range."
            )
        if p.source_params["jitter"] and p.source_params["fit"] == "crop":
            raise ConfigError(
                f"{p.fname}: {name}.jitter must be 0 with fit: crop, which already cuts squares at "
                f"random places; received {p.source_params['jitter']}. Remove jitter."
            )
        activation = p.model_params.get("activation", "linear")
        if activation not in _PLAIN[p.normalizer.name]:
            fitting = "minmax" if activation == "sigmoid" else "symmetric"
            raise ConfigError(
                f"{p.fname}: normalizer must be {fitting} with activation: {activation}, which has "
                f"the same range; received {p.normalizer.name}. Change one of the two."
            )
        mixing = [step for step, _ in p.online_da.steps() if step in _MIXING]
        if mixing and self._classes(p) is not None:
            raise ConfigError(
                f"{p.fname}: online_da must not {' and '.join(mixing)} class maps, because this "
                f"mixes colours into those of other classes. Use flips and quarter turns."
            )

    def _check_network(self, p: UserParams) -> None:
        """Refuse a network with other channels, or losses for another kind of target."""
        section = p.source_params
        ids = section["target"] == "classes"
        found = p.model_params.get("out_channels") or p.input_shape[-1]
        wanted = self._channels(p)
        if found != wanted:
            where, advice = "model", "Use model: pix2pix or unet."
            if "out_channels" in p.model_params:
                where, advice = f"{p.model}.out_channels", "Remove out_channels."
            raise ConfigError(
                f"{p.fname}: {where} must give results of {wanted} channel{'s' * (wanted > 1)}, as "
                f"section {p.source} requires; received {found}. {advice}"
            )
        if ids and MODELS.resolve(p.model).is_staged:
            raise ConfigError(
                f"{p.fname}: {p.source}.target must be colours with model {p.model}, which draws; "
                f"received classes. Use model: unet for class ids."
            )
        losses = p.loss_names() if MODELS.resolve(p.model).is_staged else _names(p.loss)
        if not (losses == {"cross_entropy"} if ids else "cross_entropy" not in losses):
            raise ConfigError(
                f"{p.fname}: loss must be cross_entropy with target: classes and only there; "
                f"received {', '.join(sorted(losses))} with target: {section['target']}. Remove "
                f"loss."
            )
        if ids and p.model_params.get("activation", "linear") != "linear":
            raise ConfigError(
                f"{p.fname}: {p.model}.activation must be linear with target: classes, whose "
                f"scores have no bounds; received {p.model_params['activation']}. Remove "
                f"activation."
            )
        if ids and p.metrics:
            raise ConfigError(
                f"{p.fname}: metrics must be empty with target: classes; received "
                f"{', '.join(p.metrics)}. Remove metrics."
            )

    def _channels(self, p: UserParams) -> int:
        classes = self._classes(p)
        if classes is None:
            return int(p.source_params["target_channels"])
        return len(classes) if p.source_params["target"] == "classes" else 3

    def _classes(self, p: UserParams) -> Any:
        from toolbox.tasks.pix2pix.classes import classes_of

        return classes_of(p.source, p.source_params)

    def baselines(self, settings: UserParams) -> dict[str, dict[str, Any]]:
        """Return settings of the same U-Net with L1 alone and, for class maps, with softmax."""
        p = settings
        if p.model != "pix2pix":
            return {}
        plain = {"pretrain_epochs": p.epochs, "pretrain_loss": "mae"}
        found: dict[str, dict[str, Any]] = {"l1": plain}
        if self._classes(p) is not None:
            shaping = MODELS.resolve("pix2pix").network_parameters()
            unet = {k: p.model_params[k] for k in shaping if k != "out_channels"}
            found["softmax"] = {
                "model": "unet",
                "unet": {**unet, "activation": "linear"},
                p.source: {**p.source_params, "target": "classes"},
                "loss": "cross_entropy",
                "metrics": [],
                "monitor_metric": "val_loss",
                "monitor_mode": "auto",
                "pretrain_epochs": 0,
                "d_learning_rate": None,
                "bicubic_skip": False,
            }
        return found

    def preview(self, settings: UserParams, validation: Batches, normalizer: Normalizer) -> Any:
        """Return the callback that draws validation pictures during training."""
        from toolbox.tasks.pix2pix.preview import DrawingLogger

        return DrawingLogger(
            settings.log_dir,
            settings.log_period,
            validation,
            normalizer,
            self._classes(settings),
            settings.source_params["target"] == "classes",
        )

    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Judge a run; see `toolbox.tasks.pix2pix.evaluate`."""
        from toolbox.tasks.pix2pix.evaluate import DrawingTest
        from toolbox.tasks.pix2pix.source import PairSource

        return DrawingTest(run, PairSource.like(source, "pairs of pictures"), split).evaluate(
            compare
        )

    def objectives(self) -> list[tuple[str, ...]]:
        """Return the places of the figures of class maps and of pictures in the summary."""
        names = "mean_iou", "pixel_accuracy", "mean_accuracy", "l1", "psnr", "ssim"
        return [(name, "network") for name in names]

    def predictor(self, run: Run) -> FilePredictor:
        """Return a predictor that draws from files."""
        from toolbox.tasks.pix2pix.predict import DrawingPredictor

        return DrawingPredictor(run)

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe limits, scores by method and the classes."""
        from toolbox.model_card import markdown_table

        summary, config = card.get("summary") or {}, card.get("config") or {}
        section = config.get(str(config.get("source"))) or {}
        names = ("pixel_accuracy", "mean_iou") if "mean_iou" in summary else ("l1", "psnr", "ssim")
        scores = ""
        if names[0] in summary:
            rows = [
                (method, *(f"{summary[name][method]:.4g}" for name in names))
                for method in summary[names[0]]
            ]
            scores = f"{summary['n']} pictures.\n\n" + markdown_table(("method", *names), rows)
        validity = [("values", "0 to 255"), ("size learned from", section.get("size", "–"))]
        validity.append(("other sizes", f"fit: {section.get('fit', '–')}"))
        return {
            "unit": "grey levels of 0 to 255",
            "sign": None,
            "limits": list(LIMITS),
            "scores": scores,
            "validity": markdown_table(("quantity", "range"), validity),
        }


def _names(loss: Any) -> set[str]:
    return {loss} if isinstance(loss, str) else set(loss)
