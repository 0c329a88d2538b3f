"""One trial of a search: an ordinary run in its own folder, and the figures that judge it."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import optuna

from sr_trainer.initializer import Initializer
from sr_trainer.modeler import Modeler
from sr_trainer.search_settings import Objective, Search
from sr_trainer.tester import Tester
from sr_trainer.trainer import Trainer
from toolbox.config import write_yaml
from toolbox.errors import ConfigError, DataError
from toolbox.settings import UserParams
from toolbox.task import open_task

TRIAL_FILE = "trial.yml"


class Pruner(keras.callbacks.Callback):
    """Reports the objective after every epoch, and ends a trial that Optuna prunes.

    Parameters
    ----------
    trial : optuna.Trial
        The trial.
    column : str
        Column of the history.
    sign : {1, -1}
        Factor of the value; -1 if the study optimises in the opposite direction.

    Attributes
    ----------
    pruned : bool
        Whether the trial was pruned.
    """

    def __init__(self, trial: optuna.Trial, column: str, sign: int = 1) -> None:
        super().__init__()
        self.trial = trial
        self.column = column
        self.sign = sign
        self.pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the value; epochs without one do not count."""
        value = (logs or {}).get(self.column)
        if value is None or not math.isfinite(value):
            return
        self.trial.report(self.sign * float(value), epoch)
        if self.trial.should_prune():
            self.pruned = True
            self.model.stop_training = True


def run_trial(
    search: Search, trial: optuna.Trial, chosen: dict[str, Any], folder: Path
) -> Sequence[float]:
    """Train with the chosen values, or resume that training run; return the objectives.

    Writes ``trial.yml``, ``log/`` (an ordinary log folder) and ``log.txt`` (the printed output)
    into `folder`.

    Raises
    ------
    optuna.TrialPruned
        If the trial was pruned.
    ToolboxError
        If training failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(
        search.values(chosen, folder / "log"),
        folder / TRIAL_FILE,
        f"Trial {folder.name.removeprefix('trial_')} of {search.fname}",
    )
    with _output_to(folder / "log.txt"):
        try:
            return _train(search, trial, UserParams(folder / TRIAL_FILE))
        finally:
            keras.backend.clear_session()
            gc.collect()


def _train(search: Search, trial: optuna.Trial, u_params: UserParams) -> list[float]:
    Initializer.tf_init(seed=u_params.seed)
    trainer = Trainer(u_params, resume=True)
    limits = trainer.normalizer.max_val, trainer.normalizer.min_val
    modeler = Modeler(u_params, *limits, trainer.steps_per_epoch, trainer.facts)
    model = modeler.build(verbose=0)
    pruner = _pruner(search.objectives[0], trial, u_params)
    single = len(search.objectives) == 1
    history = trainer.train(model, [pruner] if single else []).history
    if pruner.pruned:
        raise optuna.TrialPruned
    return [_value(objective, history, u_params) for objective in search.objectives]


def _pruner(objective: Objective, trial: optuna.Trial, u_params: UserParams) -> Pruner:
    """Prune by the objective, or by PSNR, which is comparable between trials with any loss."""
    if objective.split is None:
        return Pruner(trial, objective.name)
    column, upwards = "val_psnr", True
    if "psnr" not in u_params.metrics:
        column, upwards = u_params.monitor_metric, u_params.monitor_mode == "max"
    return Pruner(trial, column, 1 if upwards == (objective.direction == "maximize") else -1)


def _value(objective: Objective, history: dict[str, list[Any]], u_params: UserParams) -> float:
    """Return the best value of a column, or the figure of a summary."""
    if objective.split is None:
        column = [v for v in history[objective.name] if v is not None and math.isfinite(v)]
        best = max if objective.direction == "maximize" else min
        return float(best(column)) if column else math.nan
    place = objective.place(open_task(u_params.task).objectives())
    if place is None:
        raise DataError(f"{objective.name} is not a figure of the summary.")
    value = _at(Tester(u_params, objective.split).measure(), place)
    return math.nan if value is None else float(value)


def _at(content: Any, place: Sequence[str]) -> Any:
    for key in place:
        content = content[key]
    if not isinstance(content, (int, float)):
        raise DataError(f"{'.'.join(place)} of the summary is not a number; received {content!r}.")
    return content


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Append what is printed to a file of the trial."""
    with (
        open(path, "a", encoding="utf-8", buffering=1) as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield


def check_search(search: Search) -> None:
    """Refuse, before the first trial, what a trial would refuse.

    Parameters
    ----------
    search : Search
        Settings; the base file and both ends of every range are checked.

    Raises
    ------
    ConfigError
        One line about the first mistake.
    """
    UserParams(search.base_fname)
    for name, chosen in search.extremes():
        values = search.values(chosen, search.folder / "log")
        where = f"{search.fname}: parameters.{name} = {chosen.get(name)!r}"
        UserParams(search.base_fname, values, where)
    for objective in search.objectives:
        for model in search.models():
            _check_objective(search, objective, model)
        _refuse_other_units(search, objective)


def _check_objective(search: Search, objective: Objective, model: str) -> None:
    values = search.values({"model": model}, search.folder / "log")
    u_params = UserParams(search.base_fname, values, search.fname)
    columns = u_params.history_columns()
    known = open_task(u_params.task).objectives()
    if objective.split is None:
        if objective.name not in columns:
            raise ConfigError(
                f"{search.fname}: objective must be a column of the history of {model} "
                f"({', '.join(columns)}) or a figure of the test such as "
                f"validation.{'.'.join(known[0])}; received {objective.name}."
            )
        return
    if objective.place(known) is None:
        raise ConfigError(
            f"{search.fname}: objective {objective.name} is not a figure of the summary. Use for "
            f"instance validation.{'.'.join(known[0])} or test.{'.'.join(known[0])}."
        )


def _refuse_other_units(search: Search, objective: Objective) -> None:
    """Refuse to compare losses that differ in kind or unit."""
    if objective.name.removeprefix("val_") not in ("loss", "g_loss", "d_loss"):
        return
    differing = ("loss", "loss_weights", "pretrain_loss", "normalizer", "norm_range")
    for name in search.settings.parameters:
        if name.split(".")[0] in differing:
            raise ConfigError(
                f"{search.fname}: objective {objective.name} is not comparable between values of "
                f"{name}. Use val_psnr or a figure of the test."
            )
