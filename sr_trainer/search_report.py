"""Results of a search: ``best.yml``, a table, and a page that works offline."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as drawing

from sr_trainer.search_queue import reason_of, trial_folder
from sr_trainer.search_settings import Search
from toolbox.config import write_yaml
from toolbox.io.tables import write_table
from toolbox.pages import Cell, Chart, Column, Facts, Page, Table, TableRow, Text, figure_png

_DPI = 110


def table_of(search: Search, trials: list[FrozenTrial]) -> pd.DataFrame:
    """Tabulate the trials: number, state, objectives, parameters, seconds, reason.

    Parameters
    ----------
    search : Search
        Settings.
    trials : list of optuna.trial.FrozenTrial
        Trials of the study.

    Returns
    -------
    pandas.DataFrame
        One row per trial; a repeated trial has one for every attempt.
    """
    rows = []
    former = (name for trial in trials for name in trial.params)
    names = list(dict.fromkeys([*search.settings.parameters, *former]))
    for trial in trials:
        values = trial.values or []
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state.name.lower()}
        if trial.state != TrialState.COMPLETE:  # of a pruned trial, Optuna has the last report
            values = [math.nan] * len(search.objectives)
        row |= {o.name: value for o, value in zip(search.objectives, values, strict=True)}
        row |= {name: trial.params.get(name) for name in names}
        row["seconds"] = trial.duration.total_seconds() if trial.duration else math.nan
        row["folder"] = trial_folder(search, trial).name
        row["reason"] = reason_of(trial)
        rows.append(row)
    return pd.DataFrame(rows)


def best_trial(search: Search, study: optuna.Study) -> FrozenTrial | None:
    """Return the best complete trial by the first objective; None if there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return None
    sign = -1 if search.objectives[0].direction == "maximize" else 1
    return min(complete, key=lambda trial: (sign * trial.values[0], trial.number))


def write_report(search: Search, study: optuna.Study) -> list[Path]:
    """Write ``best.yml``, ``trials.csv`` and ``report.html`` into the folder of the search.

    Parameters
    ----------
    search : Search
        Settings.
    study : optuna.Study
        Its study, finished or not.

    Returns
    -------
    list of pathlib.Path
        The files written; without a complete trial, there is no ``best.yml``.
    """
    trials = study.get_trials(deepcopy=False)
    search.folder.mkdir(parents=True, exist_ok=True)
    table = table_of(search, trials)
    written = [search.folder / "trials.csv", search.folder / "report.html"]
    write_table(table, written[0])
    best = best_trial(search, study)
    if best is not None:
        path = search.folder / "best.yml"
        values = search.values(search.restored(best), search.folder / "best_log")
        names = ", ".join(
            f"{objective.name} {value:.6g}"
            for objective, value in zip(search.objectives, best.values, strict=True)
        )
        folder = trial_folder(search, best)
        write_yaml(values, path, f"Best of {search.fname}: {names}; run in {folder}")
        written.insert(0, path)
    _page(search, study, table, best).write(written[-1])
    return written


def _page(
    search: Search, study: optuna.Study, table: pd.DataFrame, best: FrozenTrial | None
) -> Page:
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    said = ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states))) or "no trial"
    page = Page(f"Search {search.study}", f"Base {search.base_fname}; {said}.")
    if best is not None:
        facts = {o.name: v for o, v in zip(search.objectives, best.values, strict=True)}
        rows = {"trial": best.number, **facts, **best.params}
        page.section("Best trial", Facts({name: _text(value) for name, value in rows.items()}))
    for title, draw in _pictures(search, study):
        page.section(title, _drawn(title, draw))
    shown = table.astype(object).where(table.notna(), "")
    rows_shown = [
        TableRow(
            _text(first),
            [Cell(_text(value)) for value in rest],
            own=best is not None and first == best.number,
        )
        for first, *rest in shown.itertuples(index=False, name=None)
    ]
    page.section("Trials", Table([Column((str(name),)) for name in shown], rows_shown))
    return page


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _pictures(search: Search, study: optuna.Study) -> list[tuple[str, Callable[[], Any]]]:
    """Return heading and drawing function of all pictures that the complete trials allow."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    pictures: list[tuple[str, Callable[[], Any]]] = []
    single = len(search.objectives) == 1
    if not single and len(search.objectives) < 4:
        names = [objective.name for objective in search.objectives]
        pictures.append(
            ("Pareto front", lambda: drawing.plot_pareto_front(study, target_names=names))
        )
    for i, objective in enumerate(search.objectives):
        # Optuna accepts a target only with several objectives.
        chosen: dict[str, Any] = {"target_name": objective.name}
        if not single:
            chosen["target"] = lambda trial, i=i: trial.values[i]
        pictures += _of_objective(study, objective.name, chosen, len(complete))
    return pictures


def _of_objective(
    study: optuna.Study, name: str, chosen: dict[str, Any], complete: int
) -> list[tuple[str, Callable[[], Any]]]:
    pictures: list[tuple[str, Callable[[], Any]]] = [
        (f"History of {name}", lambda: drawing.plot_optimization_history(study, **chosen))
    ]
    if complete > 1:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        pictures += [
            (
                f"Importances for {name}",
                lambda: drawing.plot_param_importances(study, evaluator=evaluator, **chosen),
            ),
            (
                f"Parallel coordinates of {name}",
                lambda: drawing.plot_parallel_coordinate(study, **chosen),
            ),
            (f"Slices of {name}", lambda: drawing.plot_slice(study, **chosen)),
        ]
    return pictures


def _drawn(title: str, draw: Callable[[], Any]) -> Chart | Text:
    """Draw a picture, or return the reason why the trials do not allow it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's plots are experimental, and warn about log axes
        try:
            axes = draw()
        except (ValueError, RuntimeError) as error:
            return Text(f"Not drawn: {error}")
        figure = axes.figure if hasattr(axes, "figure") else axes.flat[0].figure
        png = figure_png(figure, dpi=_DPI, tight=True)
        plt.close(figure)
    return Chart(png, title, dpi=_DPI)
