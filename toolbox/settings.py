"""The settings of a run: read from YAML, checked once, written next to the weights."""

from __future__ import annotations

import functools
import inspect
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    create_model,
    model_validator,
)

from toolbox.config import Count, Float, Int, Settings, Share, check, read_yaml, write_yaml
from toolbox.errors import ConfigError
from toolbox.normalizer import FILE_NAME
from toolbox.predict_settings import PredictParams
from toolbox.pretrained import pretrained_folder, pretrained_names
from toolbox.registry import (
    LARGER_IS_BETTER,
    LOSSES,
    METRICS,
    MODELS,
    NORMALIZERS,
    OPTIMIZERS,
    SOURCES,
    TASKS,
    Registry,
)
from toolbox.task import every_task, open_task, source_class, task_of_source

CONFIG_NAME = "config.yml"
Limit = Annotated[Float, Field(ge=-1e12, le=1e12)]
Range = tuple[Limit, Limit]
#: Attributes that ``config.yml`` does not contain.
_ABOUT_THE_RUN = (
    "asked_distribution",
    "asked_model",
    "fname",
    "fname_model_weights",
    "further_options",
    "loss_params",
    "model_params",
    "resume",
    "source_params",
)


def from_the_data() -> tuple[str, ...]:
    """Return the arguments of losses and metrics that come from the data, not from settings."""
    return ("max_val", "min_val", *(fact for task in every_task() for fact in task.facts))


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
    """Return None for the word auto, which means "as measured for the model"."""
    return None if value == "auto" else value


def _null_is_none(value: Any) -> Any:
    """Let null, and so the word None, stand for "none"."""
    return "none" if value is None else value


def _loss(value: Any) -> Any:
    """Check the name of a loss, or a mapping of names to weights."""
    if not isinstance(value, (str, dict)):
        raise ValueError("the name of a loss, or names and weights such as {mae: 1, vgg: 0.006}")
    for name in [value] if isinstance(value, str) else value:
        _check_name(LOSSES, name)
    weights = list(value.values()) if isinstance(value, dict) else [1]
    numbers = [w for w in weights if isinstance(w, (int, float)) and not isinstance(w, bool)]
    if len(numbers) != len(weights) or not all(0 <= w < math.inf for w in numbers):
        raise ValueError("names with weights that are numbers of at least 0")
    if not any(numbers):
        raise ValueError("at least one loss with a weight above 0")
    return value


def _loss_or_names(value: Any) -> Any:
    """Check a loss, or the list of names whose weights are in loss_weights."""
    if not isinstance(value, (list, tuple)):
        return _loss(value)
    if not value or not all(isinstance(name, str) for name in value):
        raise ValueError("the name of a loss, a list of names, or names and weights")
    for name in value:
        _check_name(LOSSES, name)
    return _distinct(list(value))


def _loss_weights(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("names of losses and weights such as {mae: 1, one_minus_ssim: 0.1}")
    return _loss(value)


def _distinct(names: Sequence[str]) -> Sequence[str]:
    if len(set(names)) < len(names):
        raise ValueError("names that differ")
    return names


def _a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Distributions = Literal["none", "mirrored", "multi_worker"]
PositiveRange = Annotated[Range, AfterValidator(_positive_range)]
Rate = Annotated[Float, Field(gt=0)]
Loss = Annotated[Any, AfterValidator(_loss)]
LossOrNames = Annotated[Any, AfterValidator(_loss_or_names)]
LossWeights = Annotated[Any, AfterValidator(_loss_weights)]


class OnlineDA(Settings):
    """Augmentation during training.

    Attributes
    ----------
    valid
        Augment during training.
    zoom_range
        Smallest and largest horizontal magnification; null does not zoom.
    zoom_iso
        Use the same magnification for rows and columns.
    use_depth_scale
        Multiply depths by a random factor.
    depth_scale_range
        Smallest and largest factor of depths.
    horizontal_flip
        Mirror left and right, half of the time.
    vertical_flip
        Mirror up and down, half of the time.
    quarter_turn
        Rotate by zero to three quarter turns, without changing pixel values; square images only.
    rotation_range
        Largest rotation in degrees, in either direction, by one of 65 evenly spaced angles.
    fill_mode
        What fills the margins after a zoom or a rotation.
    steps_per_epoch_mag
        Training steps in an epoch, as a multiple of pairs ÷ ``batch_size``.
    """

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
    """The choice of normaliser; `_normalizer_class` adds the settings that any normaliser has.

    Attributes
    ----------
    name
        What the network sees; ``identity`` leaves the values as they are.
    window : default ``5``
        Side of the window of ``local_mean`` and ``local_standard`` in low-resolution pixels; not
        for the others.
    """

    name: _named(NORMALIZERS) = "minmax"  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _settings_fit(self) -> NormalizerParams:
        for key, value in self.options().items():
            having = [n for n in NORMALIZERS if key in NORMALIZERS.resolve(n).parameters()]
            if self.name not in having:
                raise ValueError(
                    f"without {key} unless it is {' or '.join(having)}; received {key} {value} "
                    f"for {self.name}. Leave {key} out."
                )
        return self

    def options(self) -> dict[str, Any]:
        """Return the settings besides the name: arguments of the normaliser's `fit`."""
        return {k: v for k, v in self.model_dump(exclude={"name"}).items() if v is not None}


def _normalizer_class() -> type[NormalizerParams]:
    """Return `NormalizerParams` with a key for every setting that a normaliser has."""
    fields: Any = {}
    for name in NORMALIZERS:
        for key, parameter in NORMALIZERS.resolve(name).parameters().items():
            fields.setdefault(key, (parameter.annotation | None, None))
    return create_model("NormalizerParams", __base__=NormalizerParams, **fields)


class LRSchedule(Settings):
    """How the learning rate changes during training.

    Attributes
    ----------
    name
        How the learning rates change.
    warmup_epochs
        Epochs in which the rate rises evenly from zero; not for ``plateau``.
    step_epochs
        ``step`` only, required there: epochs between two reductions.
    plateau_epochs
        ``plateau``: epochs without a better ``monitor_metric`` before a reduction.
    gamma
        ``step``, ``plateau``: factor of a reduction; below 1 for ``plateau``.
    final
        Lowest rate as a share of the initial one: ``cosine`` reaches it in the last epoch,
        ``plateau`` never goes below it.
    """

    name: Literal["constant", "step", "cosine", "plateau"] = "constant"
    warmup_epochs: Annotated[Float, Field(ge=0)] = 0
    step_epochs: Annotated[Float, Field(gt=0)] | None = None
    gamma: Annotated[Float, Field(gt=0, le=1)] = 0.5
    plateau_epochs: Count = 10
    final: Annotated[Float, Field(ge=0, le=1)] = 0

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keys_fit_the_name(self) -> LRSchedule:
        if self.name == "step" and self.step_epochs is None:
            raise ValueError("given step_epochs for name: step; received none. Use 50.")
        if self.name == "plateau" and self.gamma == 1:
            raise ValueError("given gamma below 1 for name: plateau; received 1.0. Use 0.5.")
        needed = {
            "constant": {"warmup_epochs"},
            "step": {"warmup_epochs", "step_epochs", "gamma"},
            "cosine": {"warmup_epochs", "final"},
            "plateau": {"gamma", "plateau_epochs", "final"},
        }
        for key in ("warmup_epochs", "step_epochs", "gamma", "plateau_epochs", "final"):
            default = LRSchedule.model_fields[key].default
            if key not in needed[self.name] and getattr(self, key) != default:
                raise ValueError(
                    f"without {key} for name: {self.name}; received {getattr(self, key)}. Leave "
                    f"out {key}, or name another schedule."
                )
        return self


class RunSettings(Settings):
    """Every key of a run except the sections of tasks, sources, models and losses.

    Attributes
    ----------
    data_dir
        Folder with ``train``, ``validation`` and ``test``.
    task : default that of ``source``
        Kind of work: what is measured, shown and predicted. ``task`` alone selects its first
        source; ``source`` alone determines the task.
    source
        Kind of data set: ``patches`` is a folder of pickles, ``sem`` is pairs of SEM pictures,
        ``photo`` is photographs, ``voc`` and ``picture_pairs`` are pairs of pictures,
        ``surgical_video`` is a folder of videos.
    input_shape
        Shape of a low-resolution image: rows, columns, channels.
    scale
        Enlargement factor.
    norm_range : default range of the high-resolution training images
        Range of the data in metres (for pictures in counts; default the full range of 8 or 16
        bits), for ``minmax``, ``symmetric``, PSNR, SSIM and DSSIM.
    normalizer : name, or keys below
        What the network sees; a name alone is short for a section with this ``name``.
    model : default required, unless the source names one
        Network; each has its own section, including those for restoration.
    bicubic_skip
        Add the bicubic enlargement to the network's output.
    fname_model_weights
        Initial weights of a training run, and the weights to test and use; a file, or the name of a
        model that ships.
    batch_size
        Pairs per training step; at most the number of training pairs.
    epochs
        Passes over the training data, including ``pretrain_epochs``.
    loss : LOSSES, names with weights, or list of names
        What training minimises, or a weighted sum of several; ``l1`` is another name for ``mae``,
        and ``ssim`` for ``dssim``. ``masked_mse`` ignores pixels whose target is NaN,
        ``cross_entropy`` is for class ids, ``phase_cross_entropy`` for phases of operations.
    loss_weights : names with weights
        Another way to write ``loss``.
    metrics
        Figures of the history; ``phase_accuracy`` is for phases of operations.
    monitor_metric : name
        Column of the history that decides the best epoch: ``val_loss`` or ``val_`` and a name in
        ``metrics``; for ``srgan``, ``esrgan`` and ``pix2pix`` also ``val_g_loss``, ``val_d_loss``,
        ``val_d_real``, ``val_d_fake``.
    monitor_mode
        Whether a small or a large value is good; ``auto``: large for ``psnr``, ``ssim`` and
        ``phase_accuracy``, small for all others.
    final_evaluation
        Evaluate the best weights again after training, and print the figures.
    pretrain_epochs
        ``srgan``, ``esrgan`` and ``pix2pix`` only: initial epochs without the discriminator.
    pretrain_loss : as ``loss``
        What those epochs minimise.
    optimizer
        Optimizer of Keras.
    learning_rate
        Step size of the optimizer.
    d_learning_rate : default that of ``learning_rate``
        ``srgan``, ``esrgan`` and ``pix2pix`` only: step size of the discriminator.
    beta_1 : default that of the optimizer
        Decay of the first moment of ``adam``, ``adamax``, ``nadam``, ``adamw``, for both networks.
    lr_schedule : name, or keys below
        How the learning rates change; a name alone is short for a section with this ``name``.
    clip_norm
        Largest norm of the gradient, over all weights of a network; null does not clip.
    ema
        Share of the previous value in a moving average of the weights, such as ``0.999``; null
        keeps no average.
    patience
        Stop after this many epochs without a better ``monitor_metric``, not counting
        ``pretrain_epochs``; null never stops early.
    collapse_patience
        Stop after this many consecutive epochs with a ``d_loss`` below 0.01 that affects the
        generator; null never stops; no effect without a discriminator.
    resume
        Resume the run in ``log_dir``, as ``--resume`` does.
    checkpoint_minutes
        Minutes between saved states within an epoch.
    seed
        Seed of weights, order and augmentation; null draws one and records it.
    log_dir : default ``NAME_log`` next to ``NAME.yml``
        Log folder of the run; with ``--algo MODEL`` on the command line, the default is
        ``NAME_MODEL_log``.
    log_period
        Epochs between numbered weights and pictures.
    precision
        Precision of the layers, as a policy of Keras.
    jit_compile : ``auto``, true or false, default ``auto``
        Compile the training step with XLA; ``auto`` times both ways first.
    steps_per_execution : ``auto`` or whole number ≥ 1, default ``auto``
        Training steps per call of the compiled function, lowered to a divisor of the steps of an
        epoch; ``auto`` times 1, 8 and 32.
    distribution
        ``mirrored`` trains on all GPUs of the machine, ``multi_worker`` on all machines that
        TF_CONFIG names, with the figures of one device; ``batch_size`` is shared among them.
    read_test_weights
        File in ``log_dir`` to test if ``fname_model_weights`` is null.
    test_pictures
        Number of ``test_result_*.png``, spread over the test images; null draws all; for SEM
        pictures, see ``metrology.pictures``.
    predict : section
        How the network is used, see below.
    """

    data_dir: Annotated[str, Field(min_length=1)]
    model: _named(MODELS)  # type: ignore[valid-type]
    input_shape: tuple[Count, Count, Count] = (16, 16, 1)
    scale: Annotated[Count, Field(le=16)] = 4
    task: _named(TASKS) = next(iter(TASKS))  # type: ignore[valid-type]
    source: _named(SOURCES) = "patches"  # type: ignore[valid-type]
    norm_range: Annotated[Range, AfterValidator(_increasing)] | None = None
    normalizer: NormalizerParams = NormalizerParams()
    bicubic_skip: bool = False
    fname_model_weights: str | None = None
    read_test_weights: str = "weights_best.h5"
    batch_size: Count = 16
    epochs: Count = 100
    loss: LossOrNames = "mse"
    loss_weights: LossWeights | None = None
    metrics: Annotated[
        tuple[_named(METRICS), ...],  # type: ignore[valid-type]
        BeforeValidator(_a_list),
        AfterValidator(_distinct),
    ] = ("psnr", "dssim")
    monitor_metric: str = "val_loss"
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    final_evaluation: bool = False
    pretrain_epochs: Annotated[Int, Field(ge=0)] = 0
    pretrain_loss: Loss = "mae"
    optimizer: _named(OPTIMIZERS) = "adam"  # type: ignore[valid-type]
    learning_rate: Rate = 1e-4
    d_learning_rate: Rate | None = None
    beta_1: Share | None = None
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
    distribution: Annotated[Distributions, BeforeValidator(_null_is_none)] = "none"
    test_pictures: Annotated[Int, Field(ge=0)] | None = None
    resume: bool = False
    checkpoint_minutes: Annotated[Float, Field(gt=0)] = 10
    predict: PredictParams = PredictParams()

    @model_validator(mode="after")
    def _stages_fit(self) -> RunSettings:
        if not MODELS.resolve(self.model).is_staged:
            staged = " or ".join(name for name in MODELS if MODELS.resolve(name).is_staged)
            for key in ("pretrain_epochs", "d_learning_rate"):
                if getattr(self, key):
                    raise ValueError(
                        f"{key} is for a model with a discriminator, {staged}; received "
                        f"{getattr(self, key)} with model {self.model}. Leave out {key}."
                    )
        if self.pretrain_epochs > self.epochs:
            raise ValueError(
                f"pretrain_epochs must not exceed epochs ({self.epochs}), which include them; "
                f"received {self.pretrain_epochs}. Raise epochs."
            )
        return self

    @model_validator(mode="after")
    def _optimizer_has_moments(self) -> RunSettings:
        known = inspect.signature(OPTIMIZERS.resolve(self.optimizer)).parameters
        if self.beta_1 is not None and "beta_1" not in known:
            raise ValueError(
                f"beta_1 must be left out with optimizer {self.optimizer}, which has none; "
                f"received {self.beta_1}. Leave out beta_1, or use adam."
            )
        return self

    @model_validator(mode="after")
    def _loss_has_weights(self) -> RunSettings:
        """Convert `loss_weights` to the equivalent mapping `loss`."""
        weights, loss = self.loss_weights, self.loss
        if weights is None:
            if isinstance(loss, list):
                raise ValueError(
                    f"loss must be the name of a loss, or names and weights such as {{mae: 1, vgg: "
                    f"0.006}}, unless loss_weights gives the weights; received {loss}. Add weights."
                )
            return self
        if "loss" not in self.model_fields_set:
            loss = list(weights)
        if isinstance(loss, dict):
            raise ValueError(
                f"loss must be left out, or be a list of names, together with loss_weights; "
                f"received {loss}. Write all weights into one of the two."
            )
        names = [loss] if isinstance(loss, str) else loss
        for name in (*weights, *names):
            if name not in weights or name not in names:
                raise ValueError(
                    f"loss_weights must have a weight for each loss that is named, and for no "
                    f"other; received {weights} for {', '.join(names)}. Fix {name}."
                )
        self.loss, self.loss_weights = {name: weights[name] for name in names}, None
        return self


def _settings_class() -> type[RunSettings]:
    """Return `RunSettings` with a key for every section that a table or a task knows."""
    names = [*MODELS, *SOURCES, *(name for name in _figures() if _own_parameters(name))]
    sections: Any = dict.fromkeys(names, (dict[str, Any] | None, None))
    for task in every_task():
        sections |= {name: (kind, kind()) for name, kind in task.sections.items()}
    normalizer = _normalizer_class()
    sections["normalizer"] = (normalizer, normalizer())
    return create_model("RunSettings", __base__=RunSettings, **sections)


def _figures() -> list[str]:
    """Return the names of all losses and metrics; a loss and a metric may share one."""
    return list(dict.fromkeys([*LOSSES, *METRICS]))


def _own_parameters(name: str) -> dict[str, inspect.Parameter]:
    """Return the settings of a loss or metric: its arguments after the first two."""
    found: dict[str, inspect.Parameter] = {}
    for registry in (METRICS, LOSSES):
        if name in registry:
            signature = inspect.signature(registry.resolve(name), eval_str=True)
            found |= dict(list(signature.parameters.items())[2:])
    told = from_the_data()
    return {key: p for key, p in found.items() if key not in told}


if TYPE_CHECKING:

    class _Values(RunSettings):
        """The attributes for the type checker: every setting, with defaults filled in."""

        log_dir: str  # type: ignore[assignment]
        seed: int  # type: ignore[assignment]
        monitor_mode: Literal["min", "max"]  # type: ignore[assignment]
else:
    _Values = object


class UserParams(_Values):
    """Settings of a run; every key of the file becomes an attribute.

    Parameters
    ----------
    fname : path-like
        YAML file, or the log folder of a run.
    values : dict, optional
        Content to use instead of reading the file.
    where : str, optional
        Name of the file for messages.
    model : str, optional
        Network to use instead of the one that the file names.
    distribution : str, optional
        Devices to train on instead of those that the file names.

    Attributes
    ----------
    fname : str
        The file.
    log_dir : str
        Log folder of the run; default ``NAME_log`` next to ``NAME.yml``, or ``NAME_MODEL_log`` with
        another `model`.
    seed : int
        The seed; drawn at random if it is null in the file.
    model_params : dict
        The section of the chosen model, with its defaults filled in.
    loss_params : dict
        Sections of the losses and metrics, by name.
    source_params : dict
        The section of the source, with its defaults filled in.
    monitor_mode : {'min', 'max'}
        Whether a small or a large `monitor_metric` is good; never auto.

    Raises
    ------
    ConfigError
        One line about the first mistake in the file.
    """

    def __init__(
        self,
        fname: str | os.PathLike[str],
        values: dict[str, Any] | None = None,
        where: str | None = None,
        model: str | None = None,
        distribution: str | None = None,
    ) -> None:
        if Path(fname).is_dir():
            fname = Path(fname, CONFIG_NAME)
        self.fname = where or os.fspath(fname)
        content = read_yaml(fname) if values is None else values
        if model is not None:
            _refuse_model_of_run(Path(fname), content.get("model"), model)
            content = {**content, "model": model}
        if distribution is not None:
            content = {**content, "distribution": distribution}
        #: The network and the devices that the caller requested instead of the file's.
        self.asked_model, self.asked_distribution = model, distribution
        #: Further command-line options of this run, for messages.
        self.further_options = ""
        self.source_params: dict[str, Any] = {}
        self._source_defaults: dict[str, Any] = {}
        content = self._with_source(self._with_task(content))
        settings = check(_settings_class(), content, self.fname)
        foreign = {name for task in every_task() for name in task.sections}
        foreign -= set(open_task(settings.task).sections)
        keys = [key for key in type(settings).model_fields if key not in foreign]
        self.__dict__.update({key: getattr(settings, key) for key in keys})
        beside = Path(fname).parent
        if Path(fname).name == CONFIG_NAME and (beside / FILE_NAME).is_file():
            self.log_dir = str(beside)  # a run's own file; its folder may have been moved
        elif settings.log_dir is None:
            suffix = "_log" if model is None else f"_{model}_log"
            self.log_dir = f"{Path(fname).with_suffix('')}{suffix}"
        start = self.fname_model_weights
        if start is not None and not Path(start).exists() and start in pretrained_names():
            self.fname_model_weights = str(pretrained_folder(start) / self.read_test_weights)
        #: Whether the seed is drawn at random; a resumed run keeps its seed.
        self._free_seed = settings.seed is None
        if settings.seed is None:
            self.seed = secrets.randbelow(2**32)
        for name in MODELS:
            parameters = MODELS.resolve(name).parameters()
            self._add_section(name, getattr(settings, name), parameters, name == self.model)
        self.model_params: dict[str, Any] = self.__dict__[self.model]
        self.loss_params: dict[str, dict[str, Any]] = {}
        used = self.figure_names()
        for name in _figures():
            if parameters := _own_parameters(name):
                self._add_section(name, getattr(settings, name), parameters, name in used)
                self.loss_params[name] = self.__dict__.get(name) or {}
        self._check_monitor()
        self._check_results()
        open_task(self.task).check(self)

    def _with_task(self, content: dict[str, Any]) -> dict[str, Any]:
        """Derive ``task`` from ``source`` or vice versa; a file needs only one of the two."""
        task, source = content.get("task"), content.get("source")
        if isinstance(task, str) and task in TASKS and source is None:
            return {**content, "source": next(iter(open_task(task).sources))}
        if not isinstance(source, str | None) or (source is not None and source not in SOURCES):
            return content  # refused when all settings are checked
        own = task_of_source(source or RunSettings.model_fields["source"].default)
        if task is not None and task in TASKS and task != own:
            raise ConfigError(
                f"{self.fname}: task must be {own}, which source {source} belongs to; received "
                f"{task}. Leave one of the two out."
            )
        return content if task is not None else {**content, "task": own}

    def _with_source(self, content: dict[str, Any]) -> dict[str, Any]:
        """Check the source's section, and add the defaults that the source changes."""
        name = content.get("source", RunSettings.model_fields["source"].default)
        if not isinstance(name, str) or name not in SOURCES:
            return content  # refused when all settings are checked
        source = source_class(name)
        known = source.parameters()
        for section in SOURCES:
            given = content.get(section)
            if given is not None and (section != name or not known):
                raise ConfigError(
                    f"{self.fname}: {section} must be left out with source: {name}, which has no "
                    f"such settings; received {given!r}. Leave out {section}, or change source."
                )
        if known:
            given = content.get(name)
            if not isinstance(given, dict | None):
                raise ConfigError(
                    f"{self.fname}: {name} must be a section of keys and values; received "
                    f"{given!r}. Change that line."
                )
            self.source_params = self._check_section(name, given or {}, known)
            content = {**content, name: self.source_params}
        defaults = dict(source.default_settings(self.source_params))
        if name in defaults:  # keys of its own section that come from the data
            self.source_params |= defaults.pop(name)
            content = {**content, name: self.source_params}
        if content.get("loss") is not None or content.get("loss_weights") is not None:
            defaults = {k: v for k, v in defaults.items() if k not in ("loss", "loss_weights")}
        # The section of the model is merged key by key; other sections are replaced.
        model = str(content.get("model", defaults.get("model")))
        own, given = defaults.get(model) if model in MODELS else None, content.get(model) or {}
        defaults = {k: v for k, v in defaults.items() if k not in MODELS}
        if own is not None and isinstance(given, dict):
            content = {**content, model: {**own, **given}}
        self._source_defaults = defaults
        return {**self._source_defaults, **content}

    def _check_results(self) -> None:
        """Refuse a network whose results are not of the kind that the task needs."""
        wanted = open_task(self.task).results
        fitting = [name for name in MODELS if MODELS.resolve(name).results == wanted]
        if self.model not in fitting:
            raise ConfigError(
                f"{self.fname}: model must be one of {', '.join(fitting)} with task {self.task}; "
                f"received {self.model}. Change one of the two."
            )

    def _check_monitor(self) -> None:
        """Refuse a figure that the history will not have, and resolve auto."""
        columns = [name for name in self.history_columns() if name.startswith("val_")]
        if self.monitor_metric not in columns:
            name = self.monitor_metric.removeprefix("val_")
            other = f", or add {name} to metrics" if name in METRICS else ""
            raise ConfigError(
                f"{self.fname}: monitor_metric must be one of {', '.join(columns)}; received "
                f"{self.monitor_metric!r}. Set monitor_metric to one of them{other}."
            )
        if self.__dict__["monitor_mode"] == "auto":
            larger = self.monitor_metric.removeprefix("val_") in LARGER_IS_BETTER
            self.monitor_mode = "max" if larger else "min"

    def history_columns(self) -> list[str]:
        """Return the columns of this run's history, those of validation last."""
        model = MODELS.resolve(self.model)
        judged = self.pretrain_epochs < self.epochs
        names = ["loss", *self.metrics, *model.figure_names(judged)]
        return [*names, *(f"val_{name}" for name in names)]

    def figure_names(self) -> set[str]:
        """Return the names of all losses and metrics of the run."""
        return {*self.loss_names(), *self.metrics}

    def loss_names(self) -> set[str]:
        """Return the names of all losses that training uses."""
        specs = (self.loss, self.pretrain_loss)
        return {name for spec in specs for name in ([spec] if isinstance(spec, str) else spec)}

    def _add_section(
        self, name: str, section: dict[str, Any] | None, parameters: Any, wanted: bool
    ) -> None:
        if wanted or section is not None:
            self.__dict__[name] = self._check_section(name, section or {}, parameters)

    def _check_section(self, name: str, section: dict[str, Any], parameters: Any) -> dict[str, Any]:
        """Check a section against the arguments that it sets."""
        fields: Any = {
            key: (p.annotation, ... if p.default is p.empty else p.default)
            for key, p in parameters.items()
        }
        settings: type[BaseModel] = create_model(name, __base__=Settings, **fields)
        return check(settings, section, self.fname, name).model_dump()

    def resolved(self) -> dict[str, Any]:
        """Return all settings with their defaults filled in, as plain YAML values."""
        # The initial weights are only in the heading: a test of this file is to test the result.
        content = {
            key: value
            for key, value in self.__dict__.items()
            if key not in _ABOUT_THE_RUN and not key.startswith("_")
        }
        # A null must stay, or the default of the source would replace it.
        kept = self._source_defaults
        return {k: _plain(v) for k, v in content.items() if v is not None or k in kept}

    def variant(self, changes: Mapping[str, Any], log_dir: Path, option: str) -> UserParams:
        """Return the settings of a run that differs from this one in some keys.

        Parameters
        ----------
        changes : dict
            Settings by key; sections are replaced completely.
        log_dir : pathlib.Path
            Log folder of that run.
        option : str
            Command-line option that starts it together with this run, for messages.
        """
        content = {**self.resolved(), **changes, "log_dir": os.fspath(log_dir)}
        other = UserParams(log_dir.with_name(f"{log_dir.name}.yml"), content, where=self.fname)
        other.further_options = option
        other.asked_distribution = self.asked_distribution
        return other

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the resolved settings as ``config.yml``, which is itself a settings file."""
        start = f"; started from {self.fname_model_weights}" if self.fname_model_weights else ""
        heading = f"The settings of this run, with defaults; from {self.fname}{start}"
        write_yaml(self.resolved(), Path(folder, CONFIG_NAME), heading)


def distribution_of(fname: str | os.PathLike[str]) -> Any:
    """Return what a settings file or log folder says of devices, not checked.

    Several devices must be known before the settings are checked, which makes TensorFlow compute.
    """
    path = Path(fname, CONFIG_NAME) if Path(fname).is_dir() else Path(fname)
    value = read_yaml(path).get("distribution")
    return value if value in get_args(Distributions) else "none"


def _refuse_model_of_run(fname: Path, trained: Any, asked: str) -> None:
    """Refuse another network for the settings of an existing run."""
    own = fname.name == CONFIG_NAME and (fname.parent / FILE_NAME).is_file()
    if own and trained != asked:
        raise ConfigError(
            f"{fname}: --algo must be {trained}, the network of that run; received {asked}. Use "
            f"the settings file that the run was made from."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {k: _plain(v) for k, v in value.model_dump().items() if v is not None}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
