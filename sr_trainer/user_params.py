"""The settings of a run: read from YAML, checked once, written beside the weights."""

from __future__ import annotations

import functools
import inspect
import math
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    create_model,
    model_validator,
)

from sr_trainer.predict_params import PredictParams
from toolbox.config import Count, Float, Int, Settings, check, read_yaml, write_yaml
from toolbox.errors import ConfigError
from toolbox.model.adversarial import Adversarial
from toolbox.normalizer import FILE_NAME
from toolbox.pretrained import pretrained_folder, pretrained_names
from toolbox.registry import LOSSES, MODELS, NORMALIZERS, OPTIMIZERS, SOURCES, Registry

CONFIG_NAME = "config.yml"
Limit = Annotated[Float, Field(ge=-1e12, le=1e12)]
Range = tuple[Limit, Limit]
#: Keys that say how to run, not what is trained.
_ABOUT_THE_RUN = ("fname", "fname_model_weights", "model_params", "loss_params", "resume")


def _check_name(registry: Registry, name: str) -> str:
    try:
        registry[name]
    except ConfigError as error:
        raise ValueError(str(error).removeprefix(f"{registry.kind} must be ")) from None
    return name


def _named(registry: Registry) -> Any:
    return Annotated[str, AfterValidator(functools.partial(_check_name, registry))]


def _increasing(limits: Range) -> Range:
    if not limits[1] > limits[0]:
        raise ValueError("(min, max) with max > min")
    return limits


def _positive_range(limits: Range) -> Range:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("(min, max) with 0 < min <= max")
    return limits


def _auto(value: Any) -> Any:
    """Let the word auto stand for "as measured for the model"."""
    return None if value == "auto" else value


def _loss(value: Any) -> Any:
    """Check the name of a loss, or a mapping of names to weights."""
    if not isinstance(value, (str, dict)):
        raise ValueError("the name of a loss, or names and weights as {mae: 1, vgg: 0.006}")
    for name in [value] if isinstance(value, str) else value:
        _check_name(LOSSES, name)
    weights = list(value.values()) if isinstance(value, dict) else [1]
    numbers = [w for w in weights if isinstance(w, (int, float)) and not isinstance(w, bool)]
    if len(numbers) != len(weights) or not all(0 <= w < math.inf for w in numbers):
        raise ValueError("names with weights that are numbers of at least 0")
    if not any(numbers):
        raise ValueError("at least one loss with a weight above 0")
    return value


PositiveRange = Annotated[Range, AfterValidator(_positive_range)]
Rate = Annotated[Float, Field(gt=0)]
Loss = Annotated[Any, AfterValidator(_loss)]


class OnlineDA(Settings):
    """Augmentation during training."""

    valid: bool = False
    zoom_range: PositiveRange | None = None
    zoom_iso: bool = True
    depth_scale_range: PositiveRange = (0.5, 1.5)
    use_depth_scale: bool = False
    horizontal_flip: bool = False
    vertical_flip: bool = False
    quarter_turn: bool = False
    rotation_range: Annotated[Float, Field(ge=0, le=180)] = 0
    fill_mode: Literal["nearest", "reflect", "wrap"] = "reflect"
    steps_per_epoch_mag: Annotated[Float, Field(gt=0)] = 1

    def steps(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the augmentations to apply, by name in the registry; empty if not `valid`."""
        if not self.valid:
            return []
        chosen: list[tuple[str, dict[str, Any]]] = []
        if self.zoom_range not in (None, (1, 1)):
            params = {"zoom_range": self.zoom_range, "iso": self.zoom_iso}
            chosen.append(("zoom", {**params, "fill_mode": self.fill_mode}))
        if self.rotation_range:
            params = {"degrees": self.rotation_range, "fill_mode": self.fill_mode}
            chosen.append(("rotate", params))
        if self.horizontal_flip or self.vertical_flip:
            params = {"horizontal": self.horizontal_flip, "vertical": self.vertical_flip}
            chosen.append(("flip", params))
        if self.quarter_turn:
            chosen.append(("quarter_turn", {}))
        if self.use_depth_scale:
            chosen.append(("depth_scale", {"depth_scale_range": self.depth_scale_range}))
        return chosen


class NormalizerParams(Settings):
    """Which normaliser, and its window in LR pixels."""

    name: _named(NORMALIZERS) = "minmax"  # type: ignore[valid-type]
    window: Annotated[Int, Field(ge=3)] | None = None

    @model_validator(mode="after")
    def _window_fits(self) -> NormalizerParams:
        if self.window is not None and not self.name.startswith("local_"):
            raise ValueError(
                f"without window unless it is local_mean or local_standard; received window "
                f"{self.window} for {self.name}. Leave window out."
            )
        if self.window is not None and self.window % 2 == 0:
            raise ValueError(f"given an odd window; received {self.window}. Use 5.")
        return self

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def options(self) -> dict[str, Any]:
        """Return the arguments of the normaliser's constructor."""
        return {} if self.window is None else {"window": self.window}


class LRSchedule(Settings):
    """How the learning rate changes during the training."""

    name: Literal["constant", "step", "cosine"] = "constant"
    warmup_epochs: Annotated[Float, Field(ge=0)] = 0
    step_epochs: Annotated[Float, Field(gt=0)] | None = None
    gamma: Annotated[Float, Field(gt=0, le=1)] = 0.5
    final: Annotated[Float, Field(ge=0, le=1)] = 0

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keys_fit_the_name(self) -> LRSchedule:
        if self.name == "step" and self.step_epochs is None:
            raise ValueError("given step_epochs for name: step; received none. Use 50.")
        needed = {"constant": set(), "step": {"step_epochs", "gamma"}, "cosine": {"final"}}
        for key in ("step_epochs", "gamma", "final"):
            default = LRSchedule.model_fields[key].default
            if key not in needed[self.name] and getattr(self, key) != default:
                raise ValueError(
                    f"without {key} for name: {self.name}; received {getattr(self, key)}. Leave "
                    f"it out or name another schedule."
                )
        return self


class _Common(Settings):
    """Every key of a run but the sections of the models and losses."""

    data_dir: Annotated[str, Field(min_length=1)]
    model: _named(MODELS)  # type: ignore[valid-type]
    input_shape: tuple[Count, Count, Count] = (16, 16, 1)
    scale: Annotated[Count, Field(le=16)] = 4
    source: _named(SOURCES) = "patches"  # type: ignore[valid-type]
    norm_range: Annotated[Range, AfterValidator(_increasing)] | None = None
    normalizer: NormalizerParams = NormalizerParams()
    bicubic_skip: bool = False
    fname_model_weights: str | None = None
    read_test_weights: str = "weights_best.h5"
    batch_size: Count = 16
    epochs: Count = 100
    loss: Loss = "mse"
    pretrain_epochs: Annotated[Int, Field(ge=0)] = 0
    pretrain_loss: Loss = "mae"
    optimizer: _named(OPTIMIZERS) = "adam"  # type: ignore[valid-type]
    learning_rate: Rate = 1e-4
    d_learning_rate: Rate | None = None
    lr_schedule: LRSchedule = LRSchedule()
    clip_norm: Annotated[Float, Field(gt=0)] | None = None
    ema: Annotated[Float, Field(gt=0, lt=1)] | None = None
    collapse_patience: Count | None = 20
    log_dir: Annotated[str, Field(min_length=1)] | None = None
    log_period: Count = 20
    patience: Count | None = None
    online_da: OnlineDA = OnlineDA()
    seed: Annotated[Int, Field(ge=0, lt=2**32)] | None = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit_compile: Annotated[bool | None, BeforeValidator(_auto)] = None
    steps_per_execution: Annotated[Count | None, BeforeValidator(_auto)] = None
    test_pictures: Annotated[Int, Field(ge=0)] | None = None
    resume: bool = False
    checkpoint_minutes: Annotated[Float, Field(gt=0)] = 10
    predict: PredictParams = PredictParams()

    @model_validator(mode="after")
    def _stages_fit(self) -> _Common:
        if not issubclass(MODELS.resolve(self.model), Adversarial):
            for key in ("pretrain_epochs", "d_learning_rate"):
                if getattr(self, key):
                    raise ValueError(
                        f"{key} is for a model with a discriminator, srgan or esrgan; received "
                        f"{getattr(self, key)} with model {self.model}. Leave it out."
                    )
        if self.pretrain_epochs > self.epochs:
            raise ValueError(
                f"pretrain_epochs must not exceed epochs ({self.epochs}), which count them in; "
                f"received {self.pretrain_epochs}. Raise epochs."
            )
        return self


def _settings_class() -> type[_Common]:
    names = [*MODELS, *(name for name in LOSSES if _own_parameters(LOSSES.resolve(name)))]
    sections: Any = dict.fromkeys(names, (dict[str, Any] | None, None))
    return create_model("RunSettings", __base__=_Common, **sections)


def _own_parameters(loss: Any) -> dict[str, inspect.Parameter]:
    """Return the settings of a loss: its arguments after those that every loss has."""
    parameters = list(inspect.signature(loss, eval_str=True).parameters.items())
    return {name: p for name, p in parameters[2:] if name not in ("max_val", "min_val")}


class UserParams:
    """Settings of a run; every key of the file becomes an attribute.

    Parameters
    ----------
    fname : path-like
        YAML file, or the log folder of a run.
    values : dict, optional
        What the file would say; it is not read then.
    where : str, optional
        Name of the file for messages.

    Attributes
    ----------
    fname : str
        The file.
    log_dir : str
        Where the run is written; ``NAME_log`` beside ``NAME.yml`` unless set.
    seed : int
        The seed; drawn at random if the file says null.
    model_params : dict
        The section of the chosen model, with its defaults filled in.
    loss_params : dict
        By name of a loss, the section with its settings.

    Raises
    ------
    ConfigError
        One line about the first thing that is wrong in the file.
    """

    # What the type checker cannot see: assigned from the settings below.
    data_dir: str
    model: str
    input_shape: tuple[int, int, int]
    scale: int
    source: str
    norm_range: tuple[float, float] | None
    normalizer: NormalizerParams
    bicubic_skip: bool
    fname_model_weights: str | None
    read_test_weights: str
    batch_size: int
    epochs: int
    loss: str | dict[str, float]
    pretrain_epochs: int
    pretrain_loss: str | dict[str, float]
    optimizer: str
    learning_rate: float
    d_learning_rate: float | None
    lr_schedule: LRSchedule
    clip_norm: float | None
    ema: float | None
    collapse_patience: int | None
    log_dir: str
    log_period: int
    patience: int | None
    online_da: OnlineDA
    seed: int
    precision: str
    jit_compile: bool | None
    steps_per_execution: int | None
    test_pictures: int | None
    resume: bool
    checkpoint_minutes: float
    predict: PredictParams

    def __init__(
        self,
        fname: str | os.PathLike[str],
        values: dict[str, Any] | None = None,
        where: str | None = None,
    ) -> None:
        if Path(fname).is_dir():
            fname = Path(fname, CONFIG_NAME)
        self.fname = where or os.fspath(fname)
        content = read_yaml(fname) if values is None else values
        settings = check(_settings_class(), content, self.fname)
        self.__dict__.update({key: getattr(settings, key) for key in type(settings).model_fields})
        beside = Path(fname).parent
        if Path(fname).name == CONFIG_NAME and (beside / FILE_NAME).is_file():
            self.log_dir = str(beside)  # a run's own file, wherever the folder was moved
        elif settings.log_dir is None:
            self.log_dir = f"{Path(fname).with_suffix('')}_log"
        start = self.fname_model_weights
        if start is not None and not Path(start).exists() and start in pretrained_names():
            self.fname_model_weights = str(pretrained_folder(start) / self.read_test_weights)
        #: Whether the file leaves the seed to chance; a resumed run keeps the one it had.
        self._free_seed = settings.seed is None
        if settings.seed is None:
            self.seed = secrets.randbelow(2**32)
        for name in MODELS:
            parameters = MODELS.resolve(name).parameters()
            self._add_section(name, getattr(settings, name), parameters, name == self.model)
        self.model_params: dict[str, Any] = self.__dict__[self.model]
        self.loss_params: dict[str, dict[str, Any]] = {}
        for name in LOSSES:
            if parameters := _own_parameters(LOSSES.resolve(name)):
                section = getattr(settings, name)
                self._add_section(name, section, parameters, name in self.loss_names())
                self.loss_params[name] = self.__dict__.get(name) or {}

    def loss_names(self) -> set[str]:
        """Return the names of all losses that the training uses."""
        specs = (self.loss, self.pretrain_loss)
        return {name for spec in specs for name in ([spec] if isinstance(spec, str) else spec)}

    def _add_section(
        self, name: str, section: dict[str, Any] | None, parameters: Any, wanted: bool
    ) -> None:
        if wanted or section is not None:
            self.__dict__[name] = self._check_section(name, section or {}, parameters)

    def _check_section(self, name: str, section: dict[str, Any], parameters: Any) -> dict[str, Any]:
        """Check a section against the arguments of what it sets."""
        fields: Any = {
            key: (parameter.annotation, parameter.default) for key, parameter in parameters.items()
        }
        settings: type[BaseModel] = create_model(name, __base__=Settings, **fields)
        return check(settings, section, self.fname, name).model_dump()

    def resolved(self) -> dict[str, Any]:
        """Return all settings with their defaults filled in, as plain YAML values."""
        # What the run started from is told in the heading: a test of this file tests the result.
        content = {
            key: value
            for key, value in self.__dict__.items()
            if key not in _ABOUT_THE_RUN and not key.startswith("_")
        }
        return {key: _plain(value) for key, value in content.items() if value is not None}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the resolved settings as ``config.yml``; ``main.py`` reads it like any other."""
        start = f"; started from {self.fname_model_weights}" if self.fname_model_weights else ""
        heading = f"The settings of this run, with defaults; from {self.fname}{start}"
        write_yaml(self.resolved(), Path(folder, CONFIG_NAME), heading)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {k: _plain(v) for k, v in value.model_dump().items() if v is not None}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
