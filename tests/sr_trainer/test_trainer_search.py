"""Hyper-parameter search with trainings: what is refused, what trials leave, what is reported."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from sr_trainer import search_queue
from sr_trainer.modeler import Modeler
from sr_trainer.optuna_search import OptunaSearch, main
from sr_trainer.search_queue import Queue, reason_of, work
from sr_trainer.search_settings import Parameter, Search
from sr_trainer.search_trial import check_search, run_trial
from sr_trainer.tester import Tester
from sr_trainer.trainer import Trainer
from sr_trainer.user_params import UserParams
from toolbox.errors import ConfigError
from toolbox.task import open_task

ROOT = Path(__file__).resolve().parents[2]


def write_search(shop, name="search.yml", settings=None, **changes):
    """Write a search with some keys changed and its base; return its path."""
    shop.config("base.yml", **(settings or {}))
    content = {
        "base": "base.yml",
        "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "objective": "val_loss",
        "trials": 2,
        "search_dir": str(shop.folder / Path(name).stem),
        "heartbeat_seconds": 1,
        **changes,
    }
    path = shop.folder / name
    plain = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(plain))
    return path


def search_in_process(path):
    """Run all trials in this process; return the trials."""
    search = Search(path)
    with Queue(search) as queue:
        queue.fill()
        work(search, run_trial)
        return queue.trials()


def command(*arguments):
    """Return ``python -m sr_trainer.optuna_search ARGUMENTS`` and where it runs."""
    line = [sys.executable, "-m", "sr_trainer.optuna_search", *map(str, arguments)]
    return line, {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, ["unknown key trails", "trials"]),
        ({"parameters": {"learning_rate": {"lo": 1, "high": 2}}}, ["unknown key", "lo"]),
        ({"parameters": {"learning_rate": {"low": 2, "high": 1}}}, ["learning_rate", "high above"]),
        ({"parameters": {"learning_rate": {"low": 1, "high": 1}}}, ["learning_rate", "high above"]),
        ({"parameters": {"learning_rate": {"low": 0.1}}}, ["learning_rate", "low and high"]),
        ({"parameters": {"learning_rate": 0.1}}, ["learning_rate"]),
        (
            {"parameters": {"learning_rate": {"low": 0, "high": 1, "log": True}}},
            ["learning_rate", "low above 0 for log"],
        ),
        (
            {"parameters": {"learning_rate": {"low": 1, "high": 9, "log": True, "step": 2}}},
            ["learning_rate", "none with log"],
        ),
        (
            {"parameters": {"batch_size": {"low": 1, "high": 9, "step": 0}}},
            ["batch_size", "step above 0"],
        ),
        (
            {"parameters": {"batch_size": {"low": 1, "high": 9, "type": "int", "step": 0.5}}},
            ["batch_size", "whole numbers"],
        ),
        (
            {"parameters": {"batch_size": {"low": 1, "high": 9.5, "type": "int"}}},
            ["batch_size", "whole numbers"],
        ),
        ({"parameters": {"batch_size": []}}, ["parameters.batch_size"]),
        ({"parameters": {"batch_size": {"choices": []}}}, ["parameters.batch_size"]),
        (
            {"parameters": {"batch_size": {"choices": [2], "low": 1}}},
            ["batch_size", "not both"],
        ),
        ({"parameters": {}}, ["parameters"]),
        ({"parameters": {"learnin_rate": [1.0]}}, ["learnin_rate", "learning_rate"]),
        ({"parameters": {"fsrcnn.d": [8, 16]}}, ["fsrcnn.d", "no trial uses", "espcn"]),
        ({"parameters": {"espcn.filter": [8]}}, ["espcn.filter"]),
        ({"parameters": {"model": ["espcn", "fsrnn"]}}, ["fsrnn"]),
        ({"parameters": {"log_dir": ["a", "b"]}}, ["its own log_dir"]),
        (
            {"parameters": {"learning_rate": {"low": -1.0, "high": 1.0}}},
            ["parameters.learning_rate = -1.0", "learning_rate must be"],
        ),
        ({"parameters": {"batch_size": [4, 0]}}, ["parameters.batch_size = 0"]),
        ({"objective": "val_ssim"}, ["column of the history of espcn", "val_ssim"]),
        ({"objective": "d_loss"}, ["column of the history of espcn", "d_loss"]),
        ({"objective": "validation.all.sr.rmse"}, ["not a figure of the summary"]),
        ({"objective": "all.bicubic.rmse_m"}, ["not a figure of the summary"]),
        ({"objective": []}, ["objective"]),
        ({"objective": {"name": "val_loss", "direction": "down"}}, ["direction"]),
        ({"parameters": {"loss": ["mae", "mse"]}}, ["val_loss", "values of loss", "val_psnr"]),
        (
            {"parameters": {"norm_range": [[-2500, 0], [-5000, 0]]}},
            ["val_loss", "values of norm_range"],
        ),
        ({"sampler": "grid"}, ["sampler"]),
        ({"pruner": "best"}, ["pruner"]),
        ({"trials": 0}, ["trials"]),
        ({"jobs": 0}, ["jobs"]),
        ({"seed": -1}, ["seed"]),
        ({"timeout_minutes": 0}, ["timeout_minutes"]),
        ({"storage": "mysql://me@host/db"}, ["storage must be", "postgresql://USER@HOST/NAME"]),
        ({"storage": "here"}, ["storage must be", "postgresql://USER@HOST/NAME"]),
        ({"base": "nothing.yml"}, ["nothing.yml", "no such file"]),
        ({"base": None}, ["base is missing"]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line_before_any_trial(changes, words, workshop):
    """The line names the place; nothing is written."""
    path = write_search(workshop, **changes)
    before = workshop.snapshot()
    result = workshop.result(*_values(main, path))
    result.refused(*words)
    assert workshop.snapshot() == before
    assert not (workshop.folder / "search").exists()


def _values(program, *arguments):
    """Call a program in this process; return its exit code and what it printed."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def run(workshop, *arguments):
    """Call the program in this process."""
    return workshop.result(*_values(main, *arguments))


def test_a_mistake_in_the_base_is_told_of_the_base(workshop):
    """The message names the file in which the mistake is."""
    path = write_search(workshop, settings={"epochs": 0})
    run(workshop, path).refused("base.yml", "epochs")
    assert not (workshop.folder / "search").exists()


def test_jobs_of_the_command_line_are_checked(workshop):
    """--jobs 0 is refused."""
    run(workshop, write_search(workshop), "--jobs", 0).refused("--jobs must be 1 or more")


def test_a_file_that_is_not_there(workshop):
    """The search file is missing."""
    run(workshop, workshop.folder / "none.yml").refused("none.yml", "no such file")


def test_what_a_search_is_when_it_says_nothing_else(workshop):
    """Base and parameters are enough: val_loss, small; a folder and a study after the file."""
    path = write_search(workshop, "mine.yml", objective=None, search_dir=None, trials=None)
    search = Search(path)
    assert [(o.name, o.direction) for o in search.objectives] == [("val_loss", "minimize")]
    assert (search.settings.trials, search.jobs, search.settings.sampler) == (20, 1, "tpe")
    assert search.folder == workshop.folder / "mine_search"
    assert search.study == "mine"


def test_the_example_is_valid():
    """examples/bathymetry/search.yml passes every check but that of its data."""
    search = Search(ROOT / "examples" / "bathymetry" / "search.yml")
    check_search(search)
    assert search.models() == ["espcn", "fsrcnn"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"low": 1, "high": 4}, int),
        ({"low": 1, "high": 4, "type": "float"}, float),
        ({"low": 1.0, "high": 4.0, "type": "int"}, int),
        ({"low": 1, "high": 4, "step": 0.5}, float),
        ({"low": 1, "high": 4, "log": True}, int),
        ({"low": 0.5, "high": 4}, float),
        ([[1, 2], [3]], list),
        ([None, "a"], (str, type(None))),
    ],
    ids=str,
)
def test_what_a_range_draws(given, kind):
    """Whole ends draw whole numbers, lists and null can be chosen, and all come back."""
    parameter = Parameter.model_validate(given)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(8):
        trial = study.ask()
        drawn.append(parameter.suggest(trial, "x"))
        assert parameter.restore(study.trials[-1].params["x"]) == drawn[-1]
    assert all(isinstance(value, kind) for value in drawn)
    assert len({str(value) for value in drawn}) > 1


def test_the_values_of_a_trial(workshop):
    """Dotted keys go into sections, other models' sections go, the base stays as it is."""
    path = write_search(
        workshop,
        settings={"loss": "mae", "fsrcnn": {"d": 8}},
        objective="val_psnr",
        parameters={"model": ["espcn", "fsrcnn"], "fsrcnn.m": [1, 2], "normalizer.window": [3]},
    )
    search = Search(path)
    chosen = {"model": "fsrcnn", "fsrcnn.m": 2, "normalizer.window": 3}
    values = search.values(chosen, "there")
    assert values["fsrcnn"] == {"d": 8, "m": 2}
    assert values["normalizer"]["window"] == 3
    assert "espcn" not in values
    assert values["log_dir"] == "there"
    assert search.values({"model": "espcn"}, "x")["espcn"] == search.base["espcn"]
    assert search.base["fsrcnn"] == {"d": 8}


# -- a study of the command line -------------------------------------------------------------------

STUDY = {
    "parameters": {
        "model": ["espcn", "fsrcnn"],
        "learning_rate": [1e-3, 1e6],
        "espcn.filters": [[4, 4], [6, 4]],
        "fsrcnn.d": {"low": 4, "high": 8, "step": 2},
    },
    "objective": "validation.all.sr.rmse_m",
    "trials": 8,
    "seed": 3,
}
#: Adam leaves the numbers at a rate of 1e6.
SMALL = {"fsrcnn": {"s": 4, "m": 1}, "optimizer": "adam"}


@pytest.fixture(scope="module")
def study(open_workshop, tmp_path_factory, tiny_patches):
    """Run a study with the real command line: eight trials, of which some diverge."""
    shop = open_workshop(tmp_path_factory.mktemp("search"), tiny_patches)
    path = write_search(shop, settings=SMALL, **STUDY)
    line, options = command(path)
    done = subprocess.run(line, **options, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done


@pytest.fixture
def copied(study, workshop):
    """Copy the study into this test's folder; return a function that writes its search.yml."""
    shutil.copytree(study[0].with_suffix(""), workshop.folder / "search")
    return lambda **changes: write_search(workshop, settings=SMALL, **{**STUDY, **changes})


def trials_of(path):
    """Return the trials of a study."""
    with Queue(Search(path)) as queue:
        return queue.trials()


def test_some_trials_are_complete_and_others_diverge(study):
    """The study is finished; every failed trial has 1e6 for its rate and says why."""
    path, done = study
    trials = trials_of(path)
    assert len(trials) == 8
    states = {trial.state for trial in trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            assert trial.params["learning_rate"] == 1e6
            assert re.match("the loss of epoch 1 is not a number.*1e", reason_of(trial))
    assert any(t.number > min(x.number for x in trials if x.state.name == "FAIL") for t in trials)
    assert "the loss of epoch" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_parameter_of_a_model_is_drawn_where_that_model_is(study):
    """espcn.filters only with espcn, fsrcnn.d only with fsrcnn."""
    trials = trials_of(study[0])
    assert {trial.params["model"] for trial in trials} == {"espcn", "fsrcnn"}
    for trial in trials:
        section = {"espcn": "espcn.filters", "fsrcnn": "fsrcnn.d"}[trial.params["model"]]
        assert set(trial.params) == {"model", "learning_rate", section}


def test_each_trial_is_an_ordinary_run(study):
    """trial.yml, settings, weights and history are there; the chosen values are in them."""
    search = Search(study[0])
    for trial in trials_of(study[0]):
        folder = search.folder / f"trial_{trial.number:05d}"
        written = yaml.safe_load((folder / "trial.yml").read_text())
        chosen = search.restored(trial)
        assert written == search.values(chosen, folder / "log")
        resolved = yaml.safe_load((folder / "log" / "config.yml").read_text())
        assert resolved["learning_rate"] == chosen["learning_rate"]
        assert resolved["model"] == chosen["model"]
        assert (folder / "log.txt").stat().st_size > 0
        if trial.state == TrialState.COMPLETE:
            assert len(pd.read_csv(folder / "log" / "history.csv")) == 2
            assert {p.name for p in (folder / "log").glob("weights_*.h5")} >= {
                "weights_best.h5",
                "weights_last.h5",
            }


def best_of(path):
    """Return the best complete trial."""
    complete = [trial for trial in trials_of(path) if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: trial.values[0])


def test_a_trial_is_tested_as_any_run(copied, workshop):
    """``main.py trial.yml test`` works; validation figures are those of the study."""
    path = copied()
    best = best_of(path)
    trial = workshop.folder / "search" / f"trial_{best.number:05d}" / "trial.yml"
    content = yaml.safe_load(trial.read_text()) | {"log_dir": str(trial.parent / "log")}
    trial.write_text(yaml.safe_dump(content))
    result = workshop.run(trial, "test")
    assert result.code == 0, result.err
    summary = trial.parent / "log" / "test_result" / "summary.json"
    figures = json.loads(summary.read_text())
    assert figures["n"] == 5
    u_params = UserParams(trial)
    tester = Tester(u_params, split="validation")
    normalizer = tester.normalizer
    model = Modeler(u_params, normalizer.max_val, normalizer.min_val).build(verbose=0)
    measured = tester.measure(model)
    assert measured["n"] == 4
    assert measured["all"]["sr"]["rmse_m"] == pytest.approx(best.values[0], rel=1e-6)


def test_best_yml_trains(copied, workshop):
    """best.yml holds the best trial's values and is an ordinary settings file."""
    path = copied()
    assert run(workshop, path, "--report").code == 0
    best = workshop.folder / "search" / "best.yml"
    values = yaml.safe_load(best.read_text())
    chosen = Search(path).restored(best_of(path))
    assert values["learning_rate"] == chosen["learning_rate"] == 1e-3
    assert values["model"] == chosen["model"]
    assert best.read_text().startswith(f"# Best of {path}: validation.all.sr.rmse_m ")
    result = workshop.run(best, "train")
    assert result.code == 0, result.err
    assert (workshop.folder / "search" / "best_log" / "weights_best.h5").is_file()


def without_pictures(page):
    """Return the text of a page without what its pictures are made of."""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)


def test_the_report_is_one_page(study):
    """It loads nothing from anywhere, and has its pictures and all trials."""
    page = (study[0].with_suffix("") / "report.html").read_text()
    text = without_pictures(page)
    assert text.startswith("<!doctype html>")
    assert not re.search(r"https?:|//|<script|<link|@import", text)
    headings = re.findall("<h2>(.*?)</h2>", text)
    name = "validation.all.sr.rmse_m"
    assert headings[:2] == ["Best trial", f"History of {name}"]
    assert headings[-1] == "Trials"
    assert page.count("data:image/png;base64,") == text.count("<img") > 2
    assert text.count("trial_0000") == 8
    assert "the loss of epoch 1 is not a number" in text
    assert "Pareto" not in text


def test_the_table(study):
    """trials.csv has a row for every trial."""
    table = pd.read_csv(study[0].with_suffix("") / "trials.csv")
    trials = trials_of(study[0])
    assert table["trial"].tolist() == list(range(8))
    assert table["state"].tolist() == [trial.state.name.lower() for trial in trials]
    values = [trial.values[0] if trial.values else None for trial in trials]
    for found, value in zip(table["validation.all.sr.rmse_m"], values, strict=True):
        assert pd.isna(found) if value is None else found == pytest.approx(value)
    assert table["folder"].tolist() == [f"trial_{i:05d}" for i in range(8)]
    assert (table["seconds"] > 0).all()
    assert table["reason"].isna().tolist() == [t.state == TrialState.COMPLETE for t in trials]


def test_what_is_printed(study):
    """How many trials ended how, the best one, and where everything is."""
    path, done = study
    best = best_of(path)
    assert re.search(r"\d complete, 0 pruned, \d fail, 0 waiting", done.stdout)
    name = "validation.all.sr.rmse_m"
    assert f"best: trial {best.number}, {name} {best.values[0]:.6g}" in done.stdout
    for written in ("best.yml", "trials.csv", "report.html"):
        assert str(path.with_suffix("") / written) in done.stdout


def test_again_and_on(copied, workshop, monkeypatch):
    """Again, nothing more is done; with more trials it goes on after the last."""
    path = copied()
    before = workshop.snapshot(workshop.folder / "search")
    former = [(t.params, t.values) for t in trials_of(path)]
    with monkeypatch.context() as patch:
        patch.setattr(OptunaSearch, "_start", lambda self: pytest.fail("a worker for nothing"))
        assert run(workshop, path).code == 0
    after = workshop.snapshot(workshop.folder / "search")
    trials = [name for name in before if name.startswith("trial")]
    assert {name: after[name] for name in trials} == {name: before[name] for name in trials}
    assert [(t.params, t.values) for t in trials_of(path)] == former
    search_in_process(copied(trials=9))
    assert run(workshop, path, "--report").code == 0
    assert [(t.params, t.values) for t in trials_of(path)][:8] == former
    assert len(trials_of(path)) == 9
    assert (workshop.folder / "search" / "trial_00008" / "log" / "config.yml").is_file()


def test_a_changed_space_spends_nothing(copied, workshop):
    """A third choice is refused in one line; a report keeps parameters that the file has lost."""
    path = copied()
    former = trials_of(path)
    models = {**STUDY["parameters"], "model": ["espcn", "fsrcnn", "srcnn"]}
    changed = copied(trials=12, parameters=models)
    run(workshop, changed).refused("parameters.model", "[espcn, fsrcnn]", "search_dir")
    run(workshop, changed, "--report").refused("parameters.model", "[espcn, fsrcnn, srcnn]")
    assert len(trials_of(copied())) == len(former) == 8
    rate = {"learning_rate": STUDY["parameters"]["learning_rate"]}
    assert run(workshop, path, "--report").code == 0
    best = (workshop.folder / "search" / "best.yml").read_text()
    assert run(workshop, copied(parameters=rate), "--report").code == 0
    assert (workshop.folder / "search" / "best.yml").read_text() == best


def test_the_time_is_over(copied, workshop):
    """After timeout_minutes the workers end, the report is written, trials wait."""
    path = copied(trials=50, timeout_minutes=0.001)
    (workshop.folder / "search" / "report.html").unlink()
    result = run(workshop, path)
    assert result.code == 0, result.err
    assert "stopped after 0.001 minutes; the same command resumes" in result.out
    assert sum(trial.state == TrialState.WAITING for trial in trials_of(path)) == 42
    assert (workshop.folder / "search" / "report.html").is_file()


def test_a_report_before_any_trial(workshop):
    """It says that no trial has ended, and writes a page and a table all the same."""
    path = write_search(workshop)
    run(workshop, path, "--report").refused("no trial is complete yet")
    assert "no trial" in (workshop.folder / "search" / "report.html").read_text()
    assert (workshop.folder / "search" / "trials.csv").is_file()


# -- stopping --------------------------------------------------------------------------------------


def _children(pid):
    """Return the processes that a process started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_asked_to_end_it_goes_on_where_it_was(workshop):
    """SIGTERM: the workers end, the trial waits with its state; the same command finishes it."""
    path = write_search(workshop, trials=1, settings={"epochs": 60, "patience": None})
    line, options = command(path)
    process = subprocess.Popen(line, **options)
    history = workshop.folder / "search" / "trial_00000" / "log" / "history.csv"
    try:
        _wait_for(lambda: history.is_file() and len(history.read_text().splitlines()) > 3, process)
        [worker] = _children(process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert "the same command resumes" in err
    assert "Traceback" not in out + err
    assert not Path(f"/proc/{worker}").exists()
    [trial] = trials_of(path)
    assert trial.state == TrialState.WAITING
    done = len(history.read_text().splitlines()) - 1
    assert 3 <= done < 60
    assert list((history.parent / "checkpoint").glob("state_*.npz"))

    result = run(workshop, path)
    assert result.code == 0, result.err
    [again] = trials_of(path)
    assert again.state == TrialState.COMPLETE
    assert again.params == trial.params
    table = pd.read_csv(history)
    assert table["epoch"].tolist() == list(range(1, 61))
    assert again.values == [pytest.approx(table["val_loss"].min())]
    assert "resuming after" in (history.parents[1] / "log.txt").read_text()


# -- in this process -------------------------------------------------------------------------------


def test_pruning_at_the_end_of_an_epoch(workshop, monkeypatch):
    """The objective is reported after each epoch; a trial that is given up ends there."""
    pruner = optuna.pruners.ThresholdPruner(upper=0, n_warmup_steps=1)
    monkeypatch.setattr(search_queue, "_pruner", lambda name: pruner)
    path = write_search(workshop, trials=1, settings={"epochs": 5})
    [trial] = search_in_process(path)
    assert trial.state == TrialState.PRUNED
    log = workshop.folder / "search" / "trial_00000" / "log"
    table = pd.read_csv(log / "history.csv")
    assert len(table) == 2
    reported = [trial.intermediate_values[step] for step in (0, 1)]
    assert reported == pytest.approx(table["val_loss"].tolist())
    run(workshop, path, "--report").refused("no trial is complete yet")
    assert "1 pruned" in (log.parents[1] / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", "NopPruner"),
        ("median", "MedianPruner"),
        ("hyperband", "HyperbandPruner"),
        ("halving", "SuccessiveHalvingPruner"),
    ],
)
def test_the_pruners_are_optuna_s(name, kind, workshop):
    """Each name is a pruner of Optuna's; several objectives are never pruned."""
    with Queue(Search(write_search(workshop, pruner=name))) as queue:
        assert type(queue.study.pruner).__name__ == kind
    both = Search(write_search(workshop, pruner=name, objective=["val_loss", "val_psnr"]))
    assert both.settings.pruner == "none"


def test_a_figure_of_the_summary_is_pruned_by_psnr(workshop):
    """Its sign is such that the study makes small what is good."""
    path = write_search(workshop, trials=1, objective="test.all.sr.rmse_m")
    [trial] = search_in_process(path)
    log = workshop.folder / "search" / "trial_00000" / "log"
    psnr = pd.read_csv(log / "history.csv")["val_psnr"].tolist()
    assert [-trial.intermediate_values[step] for step in (0, 1)] == pytest.approx(psnr)
    assert workshop.run(log / "config.yml", "test").code == 0
    summary = json.loads((log / "test_result" / "summary.json").read_text())
    assert trial.values == [pytest.approx(summary["all"]["sr"]["rmse_m"], rel=1e-6)]


def test_several_objectives(workshop):
    """Values of all are kept; the page has the Pareto front; the first one decides what is best."""
    names = ["val_psnr", "validation.all.sr.rmse_m", "val_dssim"]
    path = write_search(workshop, objective=names, trials=3)
    trials = search_in_process(path)
    with Queue(Search(path)) as queue:
        assert [d.name for d in queue.study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    for trial in trials:
        log = workshop.folder / "search" / f"trial_{trial.number:05d}" / "log"
        table = pd.read_csv(log / "history.csv")
        expected = [table["val_psnr"].max(), trial.values[1], table["val_dssim"].min()]
        assert trial.values == pytest.approx(expected)
    result = run(workshop, path, "--report")
    assert result.code == 0, result.err
    best = max(trials, key=lambda trial: trial.values[0])
    for name, value in zip(names, best.values, strict=True):
        assert f"best: trial {best.number}, {name} {value:.6g}" in result.out
    page = without_pictures((workshop.folder / "search" / "report.html").read_text())
    drawn = re.findall(r"<h2>([^<]*)</h2>\s*<figure>\s*<div[^>]*>\s*<img", page)
    assert {"Pareto front", *(f"History of {name}" for name in names)} <= set(drawn)


def test_a_trial_keeps_a_failed_figure_to_itself(workshop, capfd):
    """What a training prints goes into log.txt of its trial, not onto the screen."""
    search_in_process(write_search(workshop, trials=1))
    assert "trained 2 epochs" in (workshop.folder / "search/trial_00000/log.txt").read_text()
    assert "epochs" not in capfd.readouterr().out


def test_every_figure_of_the_summary_can_be_an_objective(finished):
    """The task lists what a summary holds, by the keys that lead there."""
    summary = json.loads((finished / "test_result" / "summary.json").read_text())
    places = open_task("bathymetry").objectives()
    assert len(places) > 10
    for place in places:
        content = summary
        for key in place:
            content = content[key]
            if content is None or not content:
                break
        assert content is None or isinstance(content, (int, float, dict, list))
    assert ("all", "sr", "rmse_m") in places


# -- what the trainer, the tester and the settings got ---------------------------------------------


class Watch(keras.callbacks.Callback):
    """Notes the newest state on the disk at the end of every epoch."""

    def __init__(self, folder, stop_after=None):
        super().__init__()
        self.folder = folder
        self.stop_after = stop_after
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        states = sorted(path.name for path in self.folder.glob("checkpoint/*.npz"))
        rows = len((self.folder / "history.csv").read_text().splitlines()) - 1
        self.seen.append((epoch, states[-1], rows, logs["val_loss"]))
        if self.stop_after == epoch + 1:
            self.model.stop_training = True


def built(u_params):
    """Return a trainer and its model."""
    trainer = Trainer(u_params)
    normalizer, steps = trainer.normalizer, trainer.steps_per_epoch
    return trainer, Modeler(u_params, normalizer.max_val, normalizer.min_val, steps).build(0)


def test_further_callbacks_come_before_the_state_is_saved(workshop):
    """They are called after every epoch, with its figures, when the history has its row."""
    u_params = UserParams(workshop.config(epochs=3))
    trainer, model = built(u_params)
    watch = Watch(Path(u_params.log_dir))
    history = trainer.train(model, [watch])
    newest = [f"state_{epoch:06d}_0000000.npz" for epoch in range(4)]
    assert [row[:3] for row in watch.seen] == [(i, newest[i], i + 1) for i in range(3)]
    assert (Path(u_params.log_dir) / "checkpoint" / newest[3]).is_file()
    assert [row[3] for row in watch.seen] == pytest.approx(history.history["val_loss"])


def test_a_further_callback_may_end_the_training(workshop):
    """stop_training ends it after that epoch; weights and state are those of a whole run."""
    u_params = UserParams(workshop.config(epochs=9))
    trainer, model = built(u_params)
    history = trainer.train(model, (Watch(Path(u_params.log_dir), stop_after=2),))
    assert history.epoch == [0, 1]
    assert (Path(u_params.log_dir) / "weights_last.h5").is_file()
    assert len(pd.read_csv(Path(u_params.log_dir) / "history.csv")) == 2


def test_a_training_without_further_callbacks_is_the_same(workshop):
    """A callback that only looks changes nothing."""
    texts = []
    for name, further in (("one.yml", ()), ("other.yml", None)):
        u_params = UserParams(workshop.config(name))
        keras.utils.set_random_seed(u_params.seed)
        trainer, model = built(u_params)
        trainer.train(model, [Watch(Path(u_params.log_dir))] if further is None else further)
        texts.append((Path(u_params.log_dir) / "history.csv").read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("validation", 4), ("test", 5)])
def test_measuring_a_split_writes_nothing(split, count, workshop, finished):
    """The figures are those of that split; only slopes may be kept beside the data."""
    u_params = UserParams(finished)
    tester = Tester(u_params, split=split)
    normalizer = tester.normalizer
    model = Modeler(u_params, normalizer.max_val, normalizer.min_val).build(verbose=0)
    before = workshop.snapshot(finished)
    found = tester.measure(model)
    assert workshop.snapshot(finished) == before
    assert found["n"] == count
    assert set(found) >= {"n", "all", "slope_classes"}
    if split == "test":
        summary = json.loads((finished / "test_result" / "summary.json").read_text())
        assert found["all"]["sr"] == pytest.approx(summary["all"]["sr"])
        assert {name: c["n"] for name, c in found["slope_classes"].items()} == {
            name: c["n"] for name, c in summary["slope_classes"].items()
        }


def test_settings_from_values(workshop):
    """They are checked as those of a file, which is not read; messages name `where`."""
    path = workshop.config()
    values = yaml.safe_load(path.read_text())
    from_file = UserParams(path)
    given = UserParams(workshop.folder / "none.yml", {**values, "epochs": 7}, "trial 3")
    assert given.epochs == 7
    assert given.fname == "trial 3"
    assert given.resolved() == {**from_file.resolved(), "epochs": 7}
    assert from_file.fname == str(path)
    with pytest.raises(ConfigError, match=r"^trial 3: epochs must be"):
        UserParams(path, {**values, "epochs": 0}, "trial 3")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: epochs must be"):
        UserParams(path, {**values, "epochs": 0})


def test_a_worker_has_its_share_of_the_cores(workshop, monkeypatch):
    """Workers share the cores evenly, one at least for each."""
    from sr_trainer import optuna_search

    seen = []
    monkeypatch.setattr(optuna_search.subprocess, "Popen", lambda *a, **k: seen.append(k["env"]))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for jobs, share in ((2, "4"), (16, "1")):
        search = Search(write_search(workshop, jobs=jobs))
        optuna_search.OptunaSearch(search)._start()
        assert seen[-1]["TF_NUM_INTRAOP_THREADS"] == share
        assert seen[-1]["OMP_NUM_THREADS"] == share
