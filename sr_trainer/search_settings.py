"""The settings of a search, ``search.yml``: base file, parameters, objectives, storage."""

from __future__ import annotations

import ast
import copy
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial
from pydantic import BeforeValidator, Field, model_validator
from sqlalchemy.exc import ArgumentError

from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.errors import ConfigError
from toolbox.registry import LARGER_IS_BETTER, MODELS

#: Splits whose summary can supply an objective that is not a column of the history.
_SPLITS = ("validation", "test")
Scalar = bool | int | float | str | None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Parameter(Settings):
    """The range or the choices of one setting."""

    low: Any = None
    high: Any = None
    log: bool = False
    step: Int | Float | None = None
    type: Literal["int", "float"] | None = None
    choices: Annotated[list[Any], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _choices_alone(cls, value: Any) -> Any:
        return {"choices": list(value)} if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError(
                    f"given choices, or low and high, not both; received {self._given()}. Leave "
                    f"one of them out."
                )
            return self
        if not all(_is_number(value) for value in (self.low, self.high)):
            raise ValueError(f"given numbers low and high, or choices; received {self._given()}.")
        if not self.high > self.low:
            raise ValueError(f"given high above low; received {self._given()}.")
        if self.log and self.low <= 0:
            raise ValueError(f"given low above 0 for log; received {self._given()}.")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"given a step above 0, and none with log; received {self._given()}.")
        whole = (self.low, self.high, self.step or 1)
        if self.is_int and not all(float(value).is_integer() for value in whole):
            raise ValueError(f"given whole numbers for type: int; received {self._given()}.")
        return self

    def _given(self) -> str:
        return str(self.model_dump(exclude_defaults=True))

    @property
    def is_int(self) -> bool:
        """Whether values are whole numbers: as declared, else if low, high and step are whole."""
        if self.type is not None:
            return self.type == "int"
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))

    def extremes(self) -> list[Any]:
        """Return the values that must be valid settings: both ends of the range, or all choices."""
        return [self.low, self.high] if self.choices is None else list(self.choices)

    def distribution(self) -> BaseDistribution:
        """Return the distribution that the database records for the parameter."""
        if self.choices is not None:
            return CategoricalDistribution(self._options())
        if self.is_int:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def suggest(self, trial: Any, name: str) -> Any:
        """Let `trial` choose a value."""
        space: Any = self.distribution()
        if isinstance(space, CategoricalDistribution):
            return self.restore(trial.suggest_categorical(name, space.choices))
        suggest = trial.suggest_int if self.is_int else trial.suggest_float
        return suggest(name, space.low, space.high, step=space.step, log=space.log)

    def _options(self) -> list[Any]:
        """Return the choices as a database can hold them: a list as text."""
        plain = all(isinstance(choice, Scalar) for choice in self.choices or ())
        return [choice if plain else repr(choice) for choice in self.choices or ()]

    def stored(self, value: Any) -> Any:
        """Return a value as a database holds it; None if the parameter does not allow it."""
        if self.choices is not None:
            return self._options()[self.choices.index(value)] if value in self.choices else None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if not self.low <= number <= self.high:
            return None
        return int(number) if self.is_int else number

    def restore(self, stored: Any) -> Any:
        """Return the value that a stored one stands for."""
        if self.choices is None:
            return stored
        return self.choices[self._options().index(stored)]


class Objective(Settings):
    """A figure to minimise or maximise."""

    name: Annotated[str, Field(min_length=1)]
    direction: Literal["minimize", "maximize"] = "minimize"

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        given = {"name": value} if isinstance(value, str) else value
        if isinstance(given, dict) and "direction" not in given:
            upwards = not LARGER_IS_BETTER.isdisjoint(re.split(r"[._]", str(given.get("name"))))
            given = {**given, "direction": "maximize" if upwards else "minimize"}
        return given

    @property
    def split(self) -> str | None:
        """'validation' or 'test' for a figure of a summary, None for one of the history."""
        first = self.name.split(".", 1)[0]
        if first in _SPLITS:
            return first
        return "test" if "." in self.name else None

    def place(self, known: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
        """Return the place in a summary that the name refers to, None if there is none.

        Parameters
        ----------
        known : iterable of tuple of str
            `toolbox.task.Task.objectives`.
        """
        name = self.name
        for split in _SPLITS:
            name = name.removeprefix(f"{split}.")
        return next((place for place in known if ".".join(place) == name), None)


def _former_value(value: Any, space: BaseDistribution) -> Any:
    """Return the meaning of a stored value whose parameter is no longer in the file."""
    try:
        choices = [ast.literal_eval(choice) for choice in getattr(space, "choices", ())]
    except (ValueError, SyntaxError):
        return value  # plain words, or numbers
    lists = any(not isinstance(choice, Scalar) for choice in choices)
    return ast.literal_eval(value) if lists else value


def _a_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


class SearchSettings(Settings):
    """Every key of ``search.yml``.

    Attributes
    ----------
    base
        Settings file of a training run; relative to this file, or to the current folder.
    parameters : names with ranges or choices
        The settings to search, see below.
    objective : name, or list of names, default ``val_loss``
        What to minimise or maximise, see below.
    trials
        Number of trials in all; for more, raise it and run the command again.
    timeout_minutes
        Stop after that time; the same command resumes.
    sampler
        How the next trial is chosen; ``nsgaii`` for several objectives.
    pruner
        How hopeless trials are ended early; with several objectives, none is.
    seed
        With one worker, the same seed gives the same trials.
    jobs
        Worker processes on this machine, which share its cores; also ``--jobs``. With several,
        pickled patches are copied once to ``.npy`` files, which all workers map.
    search_dir : default ``NAME_search``
        Folder of trials, database and report.
    study : default name of the file
        Name of the study in the database.
    storage : default a file in ``search_dir``
        URL of a database that machines share; also ``--storage``.
    heartbeat_seconds
        A worker that is silent for three times as long counts as dead.
    retries
        How often the trial of a dead worker is repeated.
    """

    base: Annotated[str, Field(min_length=1)]
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    objective: Annotated[tuple[Objective, ...], BeforeValidator(_a_list), Field(min_length=1)] = (
        Objective(name="val_loss"),
    )
    trials: Count = 20
    timeout_minutes: Annotated[Float, Field(gt=0)] | None = None
    sampler: Literal["tpe", "random", "nsgaii"] = "tpe"
    pruner: Literal["none", "median", "hyperband", "halving"] = "median"
    seed: Annotated[Int, Field(ge=0, lt=2**31)] = 0
    jobs: Count = 1
    search_dir: Annotated[str, Field(min_length=1)] | None = None
    study: Annotated[str, Field(min_length=1)] | None = None
    storage: Annotated[str, Field(min_length=1)] | None = None
    heartbeat_seconds: Count = 30
    retries: Annotated[Int, Field(ge=0)] = 2

    @model_validator(mode="after")
    def _parts_fit(self) -> SearchSettings:
        if len(self.objective) > 1 and self.pruner != "none":
            self.pruner = "none"  # Optuna prunes by one value only
        return self


class Search:
    """A checked ``search.yml``.

    Parameters
    ----------
    fname : path-like
        The file.
    storage, jobs
        From the command line; they override the file.

    Attributes
    ----------
    fname : str
        The file.
    settings : SearchSettings
        Its content.
    base : dict
        Content of the base file.
    folder : pathlib.Path
        Folder of trials, database and report.
    storage_url : str
        URL of the database, in the form of SQLAlchemy.
    embedded : bool
        Whether the database is a file of this search alone.

    Raises
    ------
    ConfigError
        One line about the first mistake in one of the two files.
    """

    def __init__(
        self,
        fname: str | os.PathLike[str],
        storage: str | None = None,
        jobs: int | None = None,
    ) -> None:
        self.fname = os.fspath(fname)
        self.settings = check(SearchSettings, read_yaml(fname), self.fname)
        beside = Path(fname).parent / self.settings.base
        self.base_fname = os.fspath(beside if beside.is_file() else Path(self.settings.base))
        self.base = read_yaml(self.base_fname)
        if "model" not in self.base and "model" not in self.settings.parameters:
            from toolbox.settings import UserParams  # not at the top, as it loads every network

            self.base["model"] = UserParams(self.base_fname, dict(self.base)).model
        self.folder = Path(self.settings.search_dir or f"{Path(fname).with_suffix('')}_search")
        self.study = self.settings.study or Path(fname).stem
        self.jobs = jobs or self.settings.jobs
        given = storage or self.settings.storage
        self.embedded = given is None
        path = (self.folder / "study.db").resolve()
        self.storage_url = self._with_driver(given) if given else f"sqlite:///{path}"
        self._check_names()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What to minimise or maximise."""
        return self.settings.objective

    def models(self) -> list[str]:
        """Return the models that trials may use."""
        choice = self.settings.parameters.get("model")
        return list(choice.choices or []) if choice is not None else [self.base.get("model", "")]

    def _with_driver(self, url: str) -> str:
        """Select the driver that the extra installs for a plain ``postgresql://``."""
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            name = sqlalchemy.make_url(url).drivername
        except (ArgumentError, ValueError):
            name = "no URL"
        if not name.startswith("postgresql"):
            raise ConfigError(
                f"{self.fname}: storage must be postgresql://USER@HOST/NAME, or left out for a "
                f"file in search_dir; received {name}. Change that line."
            )
        return url

    def _check_names(self) -> None:
        """Refuse a parameter of a model that no trial uses; `UserParams` checks the rest."""
        for name in self.settings.parameters:
            section, _, key = name.partition(".")
            if section in MODELS and key and section not in self.models():
                raise ConfigError(
                    f"{self.fname}: parameters.{name} belongs to a model that no trial uses; the "
                    f"models are {', '.join(self.models())}. Leave out parameters.{name}, or add "
                    f"{section} to the choices of model."
                )
        if "log_dir" in self.settings.parameters:
            raise ConfigError(
                f"{self.fname}: every trial has its own log_dir. Leave out parameters.log_dir."
            )

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Let `trial` choose the parameters that apply to its model."""
        chosen: dict[str, Any] = {}
        for name in sorted(self.settings.parameters, key=lambda name: name != "model"):
            if self._applies(name, chosen.get("model", self.base.get("model"))):
                chosen[name] = self.settings.parameters[name].suggest(trial, name)
        return chosen

    @staticmethod
    def _applies(name: str, model: Any) -> bool:
        section, _, key = name.partition(".")
        return not (section in MODELS and key) or section == model

    def base_values(self) -> dict[str, Any]:
        """Return the values of the parameters in the base, as a database holds them.

        Values that the base does not set, or that are outside their range, are left out.
        """
        found = {}
        for name, parameter in self.settings.parameters.items():
            value: Any = self.base
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            stored = parameter.stored(value)
            if stored is not None and self._applies(name, self.base.get("model")):
                found[name] = stored
        return found

    def restored(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the values of a trial's parameters, including parameters no longer in the file."""
        return {
            name: self.settings.parameters[name].restore(value)
            if name in self.settings.parameters
            else _former_value(value, trial.distributions[name])
            for name, value in trial.params.items()
        }

    def extremes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield, for every end of every range, the parameter's name and settings with that end."""
        for model in self.models():
            chosen = {"model": model}
            yield "model", chosen
            for name, parameter in self.settings.parameters.items():
                if name != "model" and self._applies(name, model):
                    yield from ((name, {**chosen, name: value}) for value in parameter.extremes())

    def values(self, chosen: dict[str, Any], log_dir: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the base with the chosen values, in the form of a settings file."""
        content = copy.deepcopy(self.base)
        for name, value in chosen.items():
            place = content
            *parents, last = name.split(".")
            for parent in parents:
                inner = place.get(parent) or {}
                place[parent] = dict(inner) if isinstance(inner, dict) else {"name": inner}
                place = place[parent]
            place[last] = value
        # Sections of models that this trial does not use would only confuse.
        unused = set(MODELS) - {content.get("model")}
        content = {key: value for key, value in content.items() if key not in unused}
        return {**content, "log_dir": os.fspath(log_dir)}
