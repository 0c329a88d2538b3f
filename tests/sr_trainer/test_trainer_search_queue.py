"""The queue of a search, without TensorFlow: a real PostgreSQL and a file, workers that die."""

import contextlib
import dataclasses
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
import sqlalchemy
import yaml
from optuna.trial import TrialState

from sr_trainer.search_queue import Queue, original_number, reason_of, trial_folder, work
from sr_trainer.search_report import best_trial, table_of
from sr_trainer.search_settings import Search
from toolbox.errors import ConfigError, DataError, MissingLibraryError
from toolbox.io.extras import install_command

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "deep-blue"

#: A worker without TensorFlow. The one with a third argument hangs in its fifth trial.
WORKER = """
import os, sys, time
from pathlib import Path
from sr_trainer.search_queue import Queue, work
from sr_trainer.search_settings import Search

done = 0

def toy(search, trial, chosen, folder):
    global done
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "starts", "a") as file:
        file.write(f"{os.getpid()}\\n")
    if victim and done == 4:
        (search.folder / "caught").write_text(folder.name)
        time.sleep(600)
    time.sleep(pause)
    value = (chosen["learning_rate"] - 0.1) ** 2 + chosen["espcn.filters"][0]
    with open(folder / "ends", "a") as file:
        file.write(f"{value!r}\\n")
    done += 1
    return [value]

search, pause, victim = Search(sys.argv[1]), float(sys.argv[2]), len(sys.argv) > 3
(search.folder / f"ready_{os.getpid()}").touch()
while not (search.folder / "go").exists():
    time.sleep(0.01)
with Queue(search) as queue:
    queue.fill()
work(search, toy)
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""


def _binaries():
    """Return the folder of initdb and pg_ctl, None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    on_path = shutil.which("pg_ctl")
    candidates = [*reversed(found), *([Path(on_path).resolve().parent] if on_path else [])]
    names = ("initdb", "pg_ctl")
    return next((p for p in candidates if all((p / name).is_file() for name in names)), None)


def _other_user():
    """Return what lets a child of root be another user, for initdb refuses root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclasses.dataclass
class Server:
    """A PostgreSQL on the loopback."""

    port: int

    def url(self, database, password=PASSWORD):
        return f"postgresql://sr:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, command):
        """Run a statement outside of a transaction."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(command)


@pytest.fixture(scope="session")
def postgresql():
    """Start a cluster of its own on a free port; stop and remove it at the end."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not in pytest's folder: another user may not look into it, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="sr_pg_") as name:
        user, folder = _other_user(), Path(name)
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user["user"], user["group"])

        def run(program, *arguments):
            command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
            done = subprocess.run(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **user
            )
            assert done.returncode == 0, done.stderr.decode()

        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        password = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        run("initdb", "--username=sr", "--no-sync", "--encoding=UTF8", *password)
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield Server(port)
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")


@pytest.fixture
def database(postgresql, request):
    """Make an empty data base; return its URL."""
    name = f"sr_{abs(hash(request.node.nodeid))}"
    postgresql.execute(f"CREATE DATABASE {name}")
    return postgresql.url(name)


@pytest.fixture
def write(tmp_path):
    """Write a base and a search with some keys changed; return the search's path."""

    def write(name="search.yml", **changes):
        (tmp_path / "base.yml").write_text("model: espcn\n")
        content = {
            "base": "base.yml",
            "parameters": {
                "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
                "batch_size": {"low": 2, "high": 16, "step": 2},
                "espcn.filters": [[4, 4], [8, 8]],
            },
            "objective": "val_loss",
            "pruner": "none",
            "seed": 7,
            "search_dir": str(tmp_path / Path(name).stem),
            "heartbeat_seconds": 1,
            **changes,
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def toy(search, trial, chosen, folder):
    """A figure that depends on everything that was chosen."""
    return [chosen["learning_rate"] + chosen["batch_size"] + chosen["espcn.filters"][0]]


def let_die(queue):
    """Make all heartbeats of the study old, as if the workers had died long ago."""
    with queue._storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
        )


def stale(queue):
    """Return the running trials that Optuna takes for dead."""
    return queue._storage._get_stale_trial_ids(queue.study._study_id)


def wait_for(condition, seconds=120):
    """Wait until `condition` gives something true; return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def workers(path, count, pause):
    """Start `count` workers, the first of which will hang; they wait for each other."""
    folder = Search(path).folder
    folder.mkdir(parents=True)
    (folder.parent / "worker.py").write_text(WORKER)
    command = [sys.executable, str(folder.parent / "worker.py"), str(path), str(pause)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    started = []
    try:
        for i in range(count):
            victim = ["victim"] if i == 0 else []
            started.append(subprocess.Popen([*command, *victim], **options))
        wait_for(lambda: len(list(folder.glob("ready_*"))) == count)
        (folder / "go").touch()
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("kind", "count", "trials", "pause"), [("postgresql", 4, 200, 0.01), ("sqlite", 2, 60, 0.01)]
)
def test_workers_share_a_study_and_one_is_killed(kind, count, trials, pause, write, request):
    """Exactly so many trials are complete; the killed one's is retried; none is lost or doubled."""
    storage = {"storage": request.getfixturevalue("database")} if kind == "postgresql" else {}
    path = write(trials=trials, sampler="random", **storage)
    search = Search(path)
    with workers(path, count, pause) as started:
        caught = search.folder / "caught"
        wait_for(lambda: caught.exists() and caught.read_text())
        started[0].send_signal(signal.SIGKILL)
        lost = caught.read_text()
        outputs = [process.communicate(timeout=120)[0].decode() for process in started]
    assert [process.returncode for process in started] == [-9] + [0] * (count - 1), outputs
    assert "".join(outputs) == ""

    with Queue(search) as queue:
        found = queue.trials()
        best = best_trial(search, queue.study)
    states = Counter(trial.state for trial in found)
    assert states == {TrialState.COMPLETE: trials, TrialState.FAIL: 1}
    [failed] = [trial for trial in found if trial.state == TrialState.FAIL]
    assert trial_folder(search, failed).name == lost
    assert failed.number < trials
    assert reason_of(failed) == "its worker died"
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert sorted(original_number(trial) for trial in complete) == list(range(trials))
    [retried] = [trial for trial in complete if original_number(trial) == failed.number]
    assert retried.number == trials
    assert retried.params == failed.params

    pids = set()
    for trial in complete:
        folder = trial_folder(search, trial)
        starts = (folder / "starts").read_text().split()
        ends = (folder / "ends").read_text().split()
        assert len(starts) == (2 if folder.name == lost else 1), folder
        assert ends == [repr(trial.values[0])]
        chosen = search.restored(trial)
        figure = (chosen["learning_rate"] - 0.1) ** 2 + chosen["espcn.filters"][0]
        assert trial.values == [figure]
        pids |= set(starts)
    assert len(pids) == count  # all of them worked
    assert len(list(search.folder.glob("trial_*"))) == trials
    assert best.values[0] == min(trial.values[0] for trial in complete)


class Stops:
    """The toy, interrupted as by Ctrl-C the first time that it comes to some trials."""

    def __init__(self, *numbers):
        self.left = set(numbers)
        self.order = []

    def __call__(self, search, trial, chosen, folder):
        self.order.append(trial.number)
        if trial.number in self.left:
            self.left.discard(trial.number)
            raise KeyboardInterrupt
        return toy(search, trial, chosen, folder)


def figures(queue):
    """Return parameters and values of all trials, in the order of their numbers."""
    return [(t.number, t.state.name, t.params, t.values) for t in queue.trials()]


# TPE draws at random for ten trials, NSGA-II has generations of fifty.
@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 14), ("random", 6), ("nsgaii", 53)])
def test_a_stopped_study_goes_on_as_if_never_stopped(sampler, trials, write):
    """Stopped within trials and between them: the same parameters and values in the end."""
    settings = {"sampler": sampler, "trials": trials}
    whole = Search(write("whole.yml", **settings))
    with Queue(whole) as queue:
        queue.fill()
        work(whole, toy)
        expected = figures(queue)
    assert len({str(params) for _, _, params, _ in expected}) == trials

    search = Search(write("stopped.yml", **settings))
    run = Stops(2, trials - 2)
    with Queue(search) as queue:
        queue.fill()
        for stopped_in in (2, trials - 2):
            with pytest.raises(KeyboardInterrupt):
                work(search, run)
            trial = queue.trials()[stopped_in]
            assert trial.state == TrialState.WAITING
            assert trial.params == expected[stopped_in][2]
            assert all(t.state == TrialState.WAITING for t in queue.trials()[stopped_in:])
        answers = iter([False, True])
        work(search, run, stop=lambda: next(answers))
        assert queue.trials()[trials - 2].state == TrialState.COMPLETE
        assert queue.trials()[trials - 1].state == TrialState.WAITING
        work(search, run)
        assert figures(queue) == expected
    assert run.order == sorted([*range(trials), 2, trials - 2])


def test_another_seed_draws_others(write):
    """The seed decides what is drawn."""
    drawn = []
    for seed in (1, 2):
        search = Search(write(f"seed{seed}.yml", seed=seed, trials=3))
        with Queue(search) as queue:
            queue.fill()
            work(search, toy)
            drawn.append([trial.params for trial in queue.trials()])
    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_a_finished_study_does_nothing_more_until_more_trials_are_asked_for(write):
    """Filling and working again changes nothing; raising trials goes on with the next number."""
    search = Search(write(trials=3))
    run = Stops()
    with Queue(search) as queue:
        for _ in range(2):
            queue.fill()
            work(search, run)
        first = figures(queue)
        assert run.order == [0, 1, 2]
    more = Search(write(trials=5))
    with Queue(more) as queue:
        queue.fill()
        work(more, run)
        assert run.order == [0, 1, 2, 3, 4]
        assert figures(queue)[:3] == first
    fewer = Search(write(trials=2))
    with Queue(fewer) as queue:
        queue.fill()
        assert len(queue.trials()) == 5


def test_a_worker_that_dies_before_its_first_heartbeat_loses_no_trial(write):
    """A trial is never running without a heartbeat, so it is always missed."""
    search = Search(write(trials=1))
    with Queue(search) as queue, Queue(search) as other:
        queue.fill()
        assert queue.ask().number == 0  # and nothing is heard of it again
        let_die(queue)
        assert len(stale(queue)) == 1
        again = other.ask()
        assert again is not None
        assert original_number(other.trials()[again.number]) == 0


def test_a_trial_given_back_long_ago_is_not_taken_for_dead(write):
    """Its heartbeat is that of the worker that takes it up, before it is running."""
    search = Search(write(trials=1))
    with Queue(search) as queue:
        queue.fill()
        trial = queue.ask()
        with queue.beating(trial):
            queue._storage.record_heartbeat(trial._trial_id)
        queue.give_back(trial)
        let_die(queue)
        assert queue.ask().number == 0
        assert stale(queue) == []


def test_a_trial_that_kills_its_workers_is_given_up(write):
    """After `retries` repetitions it has failed, with its reason; the study ends."""
    search = Search(write(trials=2, retries=1))
    with Queue(search) as queue:
        queue.fill()
        assert queue.left() == 2
        first = queue.ask()
        chosen = search.suggest(first)
        work(search, toy, stop=lambda: queue.trials()[1].state == TrialState.COMPLETE)
        let_die(queue)
        second = queue.ask()
        assert search.suggest(second) == chosen
        let_die(queue)
        assert queue.left() == 1
        assert queue.ask() is None
        assert queue.left() == 0
        assert [trial.number for trial in queue.latest()] == [1, 2]
        table = table_of(search, queue.trials())
    assert table["state"].tolist() == ["fail", "complete", "fail"]
    assert table["folder"].tolist() == ["trial_00000", "trial_00001", "trial_00000"]
    assert table["reason"].tolist() == ["its worker died", "", "its worker died 2 times"]


def test_a_worker_that_slept_too_long_gives_way(write):
    """A laptop wakes up and its trial is another's: its result is dropped, it works on."""
    search = Search(write(trials=2))
    seen = []

    def sleepy(search, trial, chosen, folder):
        seen.append(folder.name)
        if len(seen) == 1:
            with Queue(search) as other:
                let_die(other)
                other._repeat_lost()
        return toy(search, trial, chosen, folder)

    with Queue(search) as queue:
        queue.fill()
        work(search, sleepy)
        states = [trial.state.name for trial in queue.trials()]
        numbers = [original_number(trial) for trial in queue.trials()]
    assert seen == ["trial_00000", "trial_00001", "trial_00000"]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]
    assert numbers == [0, 1, 0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("the loss of epoch 1 is not a number.\nmore"), "the loss of epoch 1 is not"),
        (MemoryError(), "out of memory"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (float("nan"), "the objective is not a number"),
    ],
    ids=["error", "memory", "silent", "nan"],
)
def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on(error, reason, write):
    """One line is recorded; the trial is not repeated; the next one runs."""
    search = Search(write(trials=3))

    def run(search, trial, chosen, folder):
        if trial.number != 1:
            return toy(search, trial, chosen, folder)
        if isinstance(error, Exception):
            raise error
        return [error]

    with Queue(search) as queue:
        queue.fill()
        work(search, run)
        states = [trial.state.name for trial in queue.trials()]
        found = reason_of(queue.trials()[1])
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert found.startswith(reason)
    assert "\n" not in found


def test_a_pruned_trial_has_no_value(write):
    """It is pruned in the table, without the figure that it was given up for."""
    search = Search(write(trials=2))

    def run(search, trial, chosen, folder):
        if trial.number:
            return toy(search, trial, chosen, folder)
        trial.report(9e9, 0)
        raise optuna.TrialPruned

    with Queue(search) as queue:
        queue.fill()
        work(search, run)
        table = table_of(search, queue.trials())
        best = best_trial(search, queue.study)
    assert table["state"].tolist() == ["pruned", "complete"]
    assert table["val_loss"].isna().tolist() == [True, False]
    assert best.number == 1


def test_the_heart_beats_through_a_hiccup_of_the_data_base(write, monkeypatch):
    """A heartbeat that cannot be written is tried again; the thread lives on."""
    search = Search(write(trials=1))
    beats = []
    with Queue(search) as queue:
        queue.fill()
        trial = queue.ask()

        def refuse(trial_id):
            beats.append(trial_id)
            raise optuna.exceptions.StorageInternalError("no connection")

        monkeypatch.setattr(queue._storage, "record_heartbeat", refuse)
        with queue.beating(trial):
            wait_for(lambda: len(beats) >= 2, 10)
    assert set(beats) == {trial._trial_id}


def test_a_trial_is_not_blamed_for_the_data_base(write):
    """When the data base is gone the worker says so in one line; the trial has not failed."""
    search = Search(write(trials=1))

    def run(search, trial, chosen, folder):
        raise optuna.exceptions.StorageInternalError("server closed the connection")

    with Queue(search) as queue:
        queue.fill()
        with pytest.raises(DataError, match=r"database cannot be used \(server closed"):
            work(search, run)
        assert queue.trials()[0].state == TrialState.RUNNING


def test_a_study_has_its_objectives(write):
    """Another direction under the same name is refused."""
    with Queue(Search(write())) as queue:
        assert queue.trials() == []
    with pytest.raises(ConfigError, match="directions minimize; received maximize"):
        Queue(Search(write(objective="val_psnr")))


RATE = {"low": 1e-4, "high": 1.0, "log": True}
SIZE = {"low": 2, "high": 16, "step": 2}
FILTERS = [[4, 4], [8, 8]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"espcn.filters": [*FILTERS, [2, 2]]}, r"filters.*\[\[4, 4\], \[8, 8\]\];.*\[2, 2\]"),
        ({"espcn.filters": FILTERS[::-1]}, r"filters.*\[\[4, 4\], \[8, 8\]\];.*\[\[8, 8\],"),
        ({"learning_rate": {**RATE, "log": False}}, "rate.*numbers with log;.*without log"),
        ({"batch_size": {**SIZE, "type": "float"}}, "size.*whole numbers.*; received numbers"),
        ({"batch_size": [2, 4]}, r"size.*whole numbers.*; received the choices \[2, 4\]"),
    ],
    ids=["choice", "order", "log", "float", "kind"],
)
def test_a_study_has_its_space(changed, words, write):
    """What Optuna would refuse in every trial is refused first, in one line; nothing is spent."""
    former = {"learning_rate": RATE, "batch_size": SIZE, "espcn.filters": FILTERS}
    search = Search(write(trials=2, parameters=former))
    with Queue(search) as queue:
        queue.fill()
        work(search, toy)
        before = figures(queue)
    other = Search(write(trials=4, parameters={**former, **changed}))
    with pytest.raises(ConfigError, match=words) as caught:
        Queue(other)
    assert "\n" not in str(caught.value)
    with Queue(search) as queue:
        assert figures(queue) == before
    # The cure that is named works.
    assert "search_dir" in str(caught.value)
    anew = {"trials": 1, "parameters": {**former, **changed}}
    anew = Search(write(**anew, search_dir=str(search.folder.with_name("anew"))))
    with Queue(anew) as queue:
        queue.fill()
        work(anew, toy)
        assert [trial.state for trial in queue.trials()] == [TrialState.COMPLETE]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_a_space_may_change_where_optuna_lets_it(sampler, write):
    """Ranges and steps change, parameters come and go; later trials follow, the best is kept."""
    former = {"learning_rate": RATE, "batch_size": SIZE, "espcn.filters": FILTERS}
    settings = {"sampler": sampler, "seed": 1}
    search = Search(write(trials=12, parameters=former, **settings))
    with Queue(search) as queue:
        queue.fill()
        work(search, toy)
    later = {
        "learning_rate": {"low": 1e-2, "high": 2e-2, "log": True},
        "batch_size": {"low": 17, "high": 33, "step": 1},
        "patience": [3, 5],
    }
    search = Search(write(trials=24, parameters=later, **settings))
    run = lambda search, trial, chosen, folder: [100 + chosen["batch_size"]]  # noqa: E731
    with Queue(search) as queue:
        queue.fill()
        work(search, run)
        trials = queue.trials()
        best = best_trial(search, queue.study)
        table = table_of(search, trials)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials[12:]:
        assert 1e-2 <= trial.params["learning_rate"] <= 2e-2
        assert 17 <= trial.params["batch_size"] <= 33
        assert set(trial.params) == set(later)
    assert any(trial.params["batch_size"] % 2 == 0 for trial in trials[12:])
    assert best.number < 12
    assert search.restored(best)["espcn.filters"] in FILTERS
    assert {"espcn.filters", "patience"} <= set(table)


def test_two_studies_share_a_data_base(write, database):
    """Each has its own trials and its own lock; the name is that of the file or of study."""
    one = Search(write("one.yml", trials=2, storage=database))
    other = Search(write("two.yml", trials=3, storage=database, study="other"))
    with Queue(one) as first, Queue(other) as second:
        first.fill()
        second.fill()
        with first.alone():
            work(other, toy)
        work(one, toy)
        counts = [len(queue.trials()) for queue in (first, second)]
        names = [queue.study.study_name for queue in (first, second)]
    assert counts == [2, 3]
    assert names == ["one", "other"]


def test_the_command_line_s_storage_goes_before_the_file_s(write, database):
    """--storage and --jobs replace what the file says."""
    path = write(trials=1, storage="postgresql://nobody@127.0.0.1:9/none", jobs=3)
    search = Search(path, database, 2)
    with Queue(search) as queue:
        queue.fill()
        assert len(queue.trials()) == 1
    assert search.jobs == 2
    assert not (search.folder / "study.db").exists()


def test_a_wrong_password_is_said_without_it(write, postgresql):
    """One line names the server and what it answered."""
    search = Search(write(storage=postgresql.url("postgres", "open-sesame")))
    with pytest.raises(DataError, match="password authentication failed") as caught:
        Queue(search)
    assert "open-sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(write):
    """One line says where no data base listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    search = Search(write(storage=f"postgresql://sr@127.0.0.1:{port}/sr"))
    with pytest.raises(DataError, match=f"127.0.0.1:{port}.*cannot be used.*Fix storage") as caught:
        Queue(search)
    assert "\n" not in str(caught.value)


def test_the_driver_is_missing(write, monkeypatch):
    """Without psycopg the message names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    search = Search(write(storage="postgresql://sr@127.0.0.1/sr"))
    with pytest.raises(MissingLibraryError, match=re.escape(install_command("postgresql"))):
        Queue(search)


@pytest.mark.parametrize("by_command_line", [False, True])
@pytest.mark.parametrize(
    ("storage", "received"),
    [("mysql://me:secret@host/db", "mysql"), ("sqlite:///here.db", "sqlite"), ("here", "no URL")],
)
def test_only_postgresql_is_shared(storage, received, by_command_line, write):
    """Other data bases are refused, on the command line too, and no password is repeated."""
    arguments = (write(), storage) if by_command_line else (write(storage=storage),)
    with pytest.raises(ConfigError, match=f"storage must be.*received {received}") as caught:
        Search(*arguments)
    assert "secret" not in str(caught.value)
