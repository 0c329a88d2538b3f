"""What a search found: ``best.yml``, a table, and a page that opens offline."""

from __future__ import annotations

import base64
import html
import io
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
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #1b1b1b; background: #fff; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
img {{ max-width: 100%; height: auto; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; }}
th, td {{ text-align: right; padding: .2rem .7rem; border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


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
        A trial that was repeated has a row for every try.
    """
    rows = []
    for trial in trials:
        values = trial.values or []
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state.name.lower()}
        if trial.state != TrialState.COMPLETE:  # a pruned one has its last report, another figure
            values = [math.nan] * len(search.objectives)
        row |= {o.name: value for o, value in zip(search.objectives, values, strict=True)}
        row |= {name: trial.params.get(name) for name in search.settings.parameters}
        row["seconds"] = trial.duration.total_seconds() if trial.duration else math.nan
        row["folder"] = trial_folder(search, trial).name
        row["reason"] = reason_of(trial)
        rows.append(row)
    return pd.DataFrame(rows)


def best_trial(search: Search, study: optuna.Study) -> FrozenTrial | None:
    """Return the best trial; of several objectives, the best by the first one."""
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
        What was written; without a finished trial there is no ``best.yml``.
    """
    trials = study.get_trials(deepcopy=False)
    search.folder.mkdir(parents=True, exist_ok=True)
    table = table_of(search, trials)
    written = [search.folder / "trials.csv", search.folder / "report.html"]
    write_table(table, written[0])
    best = best_trial(search, study)
    if best is not None:
        path = search.folder / "best.yml"
        values = search.values(search.restored(best.params), search.folder / "best_log")
        names = ", ".join(
            f"{objective.name} {value:.6g}"
            for objective, value in zip(search.objectives, best.values, strict=True)
        )
        folder = trial_folder(search, best)
        write_yaml(values, path, f"Best of {search.fname}: {names}; its run is in {folder}")
        written.insert(0, path)
    with replacing(written[-1]) as beside:
        beside.write_text(_page(search, study, table, best), encoding="utf-8")
    return written


def _page(
    search: Search, study: optuna.Study, table: pd.DataFrame, best: FrozenTrial | None
) -> str:
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    said = ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states))) or "no trial"
    parts = [f"<p>{html.escape(f'Base {search.base_fname}; {said}.')}</p>"]
    if best is not None:
        facts = {o.name: v for o, v in zip(search.objectives, best.values, strict=True)}
        rows = {"trial": best.number, **facts, **best.params}
        parts.append("<h2>Best trial</h2>" + _mapping(rows))
    parts += [_section(title, draw) for title, draw in _pictures(search, study)]
    shown = (
        table.astype(object).where(table.notna(), "").to_html(index=False, border=0, escape=True)
    )
    parts.append(f'<h2>Trials</h2><div class="wide">{shown}</div>')
    return _PAGE.format(title=html.escape(f"Search {search.study}"), body="\n".join(parts))


def _mapping(rows: dict[str, Any]) -> str:
    cells = (f"<tr><td>{html.escape(str(k))}</td><td>{_text(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else html.escape(str(value))


def _pictures(search: Search, study: optuna.Study) -> list[tuple[str, Callable[[], Any]]]:
    """Return heading and drawing of all pictures that the finished trials allow."""
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
        # Optuna wants a target only where there are several.
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


def _section(title: str, draw: Callable[[], Any]) -> str:
    """Draw a picture into the page; say so where the trials do not allow it."""
    heading = f"<h2>{html.escape(title)}</h2>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna's drawings: experimental, and log axes
        try:
            axes = draw()
        except (ValueError, RuntimeError) as error:
            return f"{heading}<p>Not drawn: {html.escape(str(error))}</p>"
        figure = _figure_of(axes)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'{heading}<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def _figure_of(axes: Any) -> Any:
    return axes.figure if hasattr(axes, "figure") else axes.flat[0].figure
