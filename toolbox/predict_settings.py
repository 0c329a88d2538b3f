"""Settings of ``predict``: the section ``predict`` of a settings file, and command-line options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model

from toolbox.config import Count, Settings
from toolbox.errors import ConfigError
from toolbox.task import Task, every_task


class PredictOptions(Settings):
    """Settings of ``predict`` common to all tasks; each is also a command-line option."""

    self_ensemble: bool = Field(
        False, description="mean over eight mirrored and rotated copies (8 times the time)"
    )
    weights: tuple[str, ...] = Field(
        (), description="weights files whose results are averaged, instead of the run's own"
    )
    lr_consistency: Literal["report", "project"] = Field(
        "report",
        description="report how far the result, averaged back, is from the input, or make it equal",
    )
    tile: Annotated[Count, Field(ge=8)] | None = Field(
        None, description="side of a tile in input pixels; default by memory"
    )


if TYPE_CHECKING:

    class PredictParams(PredictOptions):
        """The settings of all tasks, which share one command line."""
else:
    _OF_TASKS = dict.fromkeys(task.predict_options for task in every_task())
    PredictParams = create_model(
        "PredictParams",
        __base__=(PredictOptions, *(kind for kind in _OF_TASKS if kind is not Settings)),
    )


def options_of(task: Task) -> set[str]:
    """Return the names of the ``predict`` settings of a task."""
    return {*PredictOptions.model_fields, *task.predict_options.model_fields}


def refuse_foreign_options(task: Task, settings: PredictOptions) -> None:
    """Refuse ``predict`` settings that belong to other tasks, unless they have their defaults.

    Parameters
    ----------
    task : toolbox.task.Task
        Task of the run.
    settings : PredictParams
        Settings.

    Raises
    ------
    ConfigError
        One line about the first of them.
    """
    known = options_of(task)
    default = PredictParams().model_dump()
    for name, value in settings.model_dump().items():
        if name not in known and value != default[name]:
            owners = [t.name for t in every_task() if name in t.predict_options.model_fields]
            option = f"--{name.replace('_', '-')}"
            instead = f"; {task.instead[name]}" if name in task.instead else ""
            raise ConfigError(
                f"{option} is for {' and '.join(owners)}; the network was trained for {task.name}. "
                f"Leave out {option}, or {name} in the section predict{instead}."
            )
