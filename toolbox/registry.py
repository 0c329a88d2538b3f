"""Tables of everything that a YAML file can name; a new entry needs its file and one row here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from toolbox.errors import ConfigError, nearest_name


class UnknownNameError(ConfigError, KeyError):
    """A name that is not in a table; also a `KeyError`, as a mapping must raise."""

    __str__ = ConfigError.__str__


class Registry(Mapping[str, str]):
    """A table of name → ``"module:attribute"``, imported on first use.

    Parameters
    ----------
    kind : str
        Kind of the entries, for messages ("model", "loss", ...).
    rows : dict of str to str
        ``{"espcn": "toolbox.model.espcn:ESPCN"}``.
    """

    def __init__(self, kind: str, rows: dict[str, str]) -> None:
        self.kind = kind
        self._rows = rows

    def _all(self) -> dict[str, str]:
        return self._rows

    def __getitem__(self, name: str) -> str:
        rows = self._all()
        try:
            return rows[name]
        except KeyError:
            raise UnknownNameError(
                f"{self.kind} must be one of {', '.join(sorted(rows))}; received {name!r}."
                f"{nearest_name(str(name), rows)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def resolve(self, name: str) -> Any:
        """Import and return the object behind `name`.

        Raises
        ------
        ConfigError
            If the name is not in the table.
        """
        module, _, attribute = self[name].partition(":")
        target: Any = importlib.import_module(module)
        for part in attribute.split("."):
            target = getattr(target, part)
        return target


MODELS = Registry(
    "model",
    {
        "srcnn": "toolbox.model.srcnn:SRCNN",
        "fsrcnn": "toolbox.model.fsrcnn:FSRCNN",
        "espcn": "toolbox.model.espcn:ESPCN",
        "edsr": "toolbox.model.edsr:EDSR",
        "srgan": "toolbox.model.srgan:SRGAN",
        "esrgan": "toolbox.model.esrgan:ESRGAN",
        "pix2pix": "toolbox.model.pix2pix:Pix2Pix",
        "unet": "toolbox.model.pix2pix:Generator",
        "surgical_phase": "toolbox.model.surgical_phase:SurgicalPhaseClassificationModel",
        "simplesrnet": "toolbox.model.simplesrnet:SimpleSRNet",
        "edsr_light": "toolbox.model.edsr:EDSRLight",
        "rdn": "toolbox.model.rdn:RDN",
        "rdn_edge": "toolbox.model.rdn:RDNEdge",
        "edgeformer": "toolbox.model.edgeformer:EdgeFormer",
        "edgeformer_edsr": "toolbox.model.edgeformer:EdgeFormerEDSR",
        "edgeformer_edsr_light": "toolbox.model.edgeformer:EdgeFormerEDSRLight",
        "edgeformer_rdn": "toolbox.model.edgeformer:EdgeFormerRDN",
    },
)

LOSSES = Registry(
    "loss",
    {
        "mae": "toolbox.loss:Loss.mae",
        "l1": "toolbox.loss:Loss.mae",
        "mse": "toolbox.loss:Loss.mse",
        "masked_mse": "toolbox.loss:Loss.masked_mse",
        "psnr": "toolbox.loss:Loss.psnr",
        "dssim": "toolbox.loss:Loss.dssim",
        "ssim": "toolbox.loss:Loss.dssim",
        "one_minus_ssim": "toolbox.loss:Loss.one_minus_ssim",
        "vgg": "toolbox.loss:Loss.vgg",
        "edgeloss": "toolbox.tasks.sem.cd_loss:edgeloss",
        "cdloss": "toolbox.tasks.sem.cd_loss:cdloss",
        "cross_entropy": "toolbox.tasks.pix2pix.loss:cross_entropy",
        "phase_cross_entropy": "toolbox.tasks.surgical_phase.loss:phase_cross_entropy",
    },
)

METRICS = Registry(
    "metric",
    {
        "psnr": "toolbox.metric:Metric.psnr",
        "dssim": "toolbox.metric:Metric.dssim",
        "ssim": "toolbox.metric:Metric.ssim",
        "cdloss": "toolbox.tasks.sem.cd_loss:cdloss",
        "phase_accuracy": "toolbox.tasks.surgical_phase.loss:phase_accuracy",
    },
)
#: Checks of the validation data for a loss or metric, ``f(settings, batches, normalizer)``, which
#: refuse a run before its first step.
CHECKS = Registry("check", {"cdloss": "toolbox.tasks.sem.cd_loss:refuse_without_edges"})
#: Metrics for which larger values are better.
LARGER_IS_BETTER = frozenset({"phase_accuracy", "psnr", "ssim"})

NORMALIZERS = Registry(
    "normalizer",
    {
        "minmax": "toolbox.normalizer:MinMaxNormalizer",
        "symmetric": "toolbox.normalizer:SymmetricNormalizer",
        "identity": "toolbox.normalizer:IdentityNormalizer",
        "local_mean": "toolbox.normalizer:LocalMeanNormalizer",
        "local_standard": "toolbox.normalizer:LocalStandardNormalizer",
        "patch_mean": "toolbox.normalizer:PatchMeanNormalizer",
        "patch_standard": "toolbox.normalizer:PatchStandardNormalizer",
    },
)

TASKS = Registry(
    "task",
    {
        "bathymetry": "toolbox.tasks.bathymetry.task:Bathymetry",
        "sem": "toolbox.tasks.sem.task:Sem",
        "photo": "toolbox.tasks.photo.task:Photo",
        "pix2pix": "toolbox.tasks.pix2pix.task:PixToPix",
        "surgical_phase": "toolbox.tasks.surgical_phase.task:SurgicalPhase",
    },
)


class _Sources(Registry):
    """The sources of all tasks; each task names its own, so they need no rows here."""

    def _all(self) -> dict[str, str]:
        rows: dict[str, str] = {}
        for name in TASKS:
            rows |= TASKS.resolve(name).sources
        return rows | self._rows


SOURCES = _Sources("source", {})

AUGMENTATIONS = Registry(
    "augmentation",
    {
        "flip": "toolbox.augment:flip",
        "quarter_turn": "toolbox.augment:quarter_turn",
        "rotate": "toolbox.augment:rotate",
        "zoom": "toolbox.augment:zoom",
        "depth_scale": "toolbox.augment:depth_scale",
    },
)

OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": "keras.optimizers:SGD",
        "rmsprop": "keras.optimizers:RMSprop",
        "adagrad": "keras.optimizers:Adagrad",
        "adadelta": "keras.optimizers:Adadelta",
        "adam": "toolbox.training.adam:Adam",
        "adamax": "keras.optimizers:Adamax",
        "nadam": "keras.optimizers:Nadam",
        "adamw": "toolbox.training.adam:AdamW",
    },
)
