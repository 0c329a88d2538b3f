"""The settings of a run: read from YAML, checked once, written beside the weights."""

from __future__ import annotations

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

from toolbox.config import Count, Float, Int, Settings, check, read_yaml, write_yaml
from toolbox.errors import ConfigError
from toolbox.normalizer import FILE_NAME
from toolbox.registry import LOSSES, MODELS, NORMALIZERS, OPTIMIZERS, SOURCES, Registry

CONFIG_NAME = "config.yml"
Limit = Annotated[Float, Field(ge=-1e12, le=1e12)]
Range = tuple[Limit, Limit]
#: Sections that the manual's files have for models which are not built yet.
_FUTURE_SECTIONS = ("srgan", "esrgan")


def _named(registry: Registry) -> Any:
    def check_name(name: str) -> str:
        try:
            registry[name]
        except ConfigError as error:
            raise ValueError(str(error).removeprefix(f"{registry.kind} must be ")) from None
        return name

    return Annotated[str, AfterValidator(check_name)]


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


PositiveRange = Annotated[Range, AfterValidator(_positive_range)]


class OnlineDA(Settings):
    """Augmentation during training."""

    valid: bool = False
    zoom_range: PositiveRange | None = None
    zoom_iso: bool = True
    depth_scale_range: PositiveRange = (0.5, 1.5)
    use_depth_scale: bool = False
    horizontal_flip: bool = False
    vertical_flip: bool = False
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


class _Common(Settings):
    """Every key of a run but the sections of the models."""

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
    loss: _named(LOSSES) = "mse"  # type: ignore[valid-type]
    optimizer: _named(OPTIMIZERS) = "adam"  # type: ignore[valid-type]
    learning_rate: Annotated[Float, Field(gt=0)] = 1e-4
    log_dir: Annotated[str, Field(min_length=1)] | None = None
    log_period: Count = 20
    patience: Count | None = None
    online_da: OnlineDA = OnlineDA()
    seed: Annotated[Int, Field(ge=0, lt=2**32)] | None = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit_compile: Annotated[bool | None, BeforeValidator(_auto)] = None
    steps_per_execution: Annotated[Count | None, BeforeValidator(_auto)] = None
    test_pictures: Annotated[Int, Field(ge=0)] | None = None


def _settings_class() -> type[_Common]:
    sections: Any = dict.fromkeys((*MODELS, *_FUTURE_SECTIONS), (dict[str, Any] | None, None))
    return create_model("RunSettings", __base__=_Common, **sections)


class UserParams:
    """Settings of a run; every key of the file becomes an attribute.

    Parameters
    ----------
    fname : path-like
        YAML file.

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
    loss: str
    optimizer: str
    learning_rate: float
    log_dir: str
    log_period: int
    patience: int | None
    online_da: OnlineDA
    seed: int
    precision: str
    jit_compile: bool | None
    steps_per_execution: int | None
    test_pictures: int | None

    def __init__(self, fname: str | os.PathLike[str]) -> None:
        settings = check(_settings_class(), read_yaml(fname), os.fspath(fname))
        self.__dict__.update({key: getattr(settings, key) for key in type(settings).model_fields})
        self.fname = os.fspath(fname)
        beside = Path(fname).parent
        if Path(fname).name == CONFIG_NAME and (beside / FILE_NAME).is_file():
            self.log_dir = str(beside)  # a run's own file, wherever the folder was moved
        elif settings.log_dir is None:
            self.log_dir = f"{Path(fname).with_suffix('')}_log"
        if settings.seed is None:
            self.seed = secrets.randbelow(2**32)
        for name in MODELS:
            section = getattr(settings, name)
            if name == self.model or section is not None:
                self.__dict__[name] = self._check_section(name, section or {})
        self.model_params: dict[str, Any] = self.__dict__[self.model]

    def _check_section(self, name: str, section: dict[str, Any]) -> dict[str, Any]:
        """Check a model's section against the arguments of its ``__build__``."""
        fields: Any = {
            key: (parameter.annotation, parameter.default)
            for key, parameter in MODELS.resolve(name).parameters().items()
        }
        settings: type[BaseModel] = create_model(name, __base__=Settings, **fields)
        return check(settings, section, self.fname, name).model_dump()

    def resolved(self) -> dict[str, Any]:
        """Return all settings with their defaults filled in, as plain YAML values."""
        # What the run started from is told in the heading: a test of this file tests the result.
        skipped = ("fname", "fname_model_weights", "model_params", *_FUTURE_SECTIONS)
        content = {key: value for key, value in self.__dict__.items() if key not in skipped}
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
