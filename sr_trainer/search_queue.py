"""The trials of a study in a database that workers share: none is lost, none runs twice."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sr_trainer.search_settings import Search
from toolbox.errors import ConfigError, DataError, MissingLibraryError
from toolbox.io.extras import install_command

#: Key under which a repeated trial names the one whose worker died.
_ORIGINAL = "failed_trial"
_REPEATS = "repeats"
_TRIES = "tries"
REASON = "reason"
#: Seconds between two checks of trials that other workers run.
_PATIENCE = 1.0
_STORAGE_ERRORS = (SQLAlchemyError, optuna.exceptions.StorageInternalError)

#: Runs a trial: ``run(search, trial, chosen, folder)`` returns a value for each objective.
Run = Callable[[Search, Trial, dict[str, Any], Path], Sequence[float]]


class Queue:
    """The trials of one study.

    All requested trials wait in the database from the start, so that any number of workers, on one
    machine or on many, run exactly that number. If a worker dies, its heartbeat stops. Its trial is
    then marked as failed and waits again with the same folder, so that training resumes from the
    last state.

    Parameters
    ----------
    search : Search
        Settings.

    Attributes
    ----------
    study : optuna.Study
        The study; created if it does not exist.

    Raises
    ------
    ConfigError, DataError, MissingLibraryError
        If the database cannot be reached, or holds a different study with this name: other
        objectives, or other kinds of parameters.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        s = search.settings
        if search.embedded:
            search.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        engine = {"connect_args": {"timeout": 60}} if search.embedded else {"pool_pre_ping": True}
        with _storage_errors(search):
            # For the lock alone: PostgreSQL ties it to a connection.
            self._engine = sqlalchemy.create_engine(search.storage_url, poolclass=NullPool)
        # Workers that start at the same time must not create the tables twice.
        with self.alone(), _quiet():
            self._storage = optuna.storages.RDBStorage(
                search.storage_url,
                engine_kwargs=engine,
                heartbeat_interval=s.heartbeat_seconds,
                grace_period=3 * s.heartbeat_seconds,
            )
            self.study = optuna.create_study(
                storage=self._storage,
                study_name=search.study,
                directions=[objective.direction for objective in search.objectives],
                load_if_exists=True,
                pruner=_pruner(s.pruner),
            )
        try:
            self._check_objectives()
            self._check_space()
        except BaseException:
            self.close()
            raise

    def _check_objectives(self) -> None:
        search = self.search
        asked = [objective.direction for objective in search.objectives]
        found = [direction.name.lower() for direction in self.study.directions]
        if asked != found:
            raise ConfigError(
                f"{search.fname}: objective must be as in study {search.study!r}, which has the "
                f"directions {', '.join(found)}; received {', '.join(map(str, asked))}. "
                f"{_cure(search)}"
            )

    def _check_space(self) -> None:
        """Refuse, before the first trial, changes that Optuna would refuse in every trial."""
        search = self.search
        former: dict[str, BaseDistribution] = {}
        for trial in self.trials():
            for name, space in trial.distributions.items():
                former.setdefault(name, space)
        for name, parameter in search.settings.parameters.items():
            if name not in former:
                continue
            try:
                check_distribution_compatibility(former[name], parameter.distribution())
            except ValueError:
                raise ConfigError(
                    f"{search.fname}: parameters.{name} must be as in study {search.study!r}, "
                    f"which has {_words(former[name])}; received "
                    f"{_words(parameter.distribution())}. In an existing study, only low, high and "
                    f"step may change, and parameters may be added or removed. {_cure(search)}"
                ) from None

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study, including repetitions."""
        with _storage_errors(self.search):
            return self.study.get_trials(deepcopy=False)

    def frozen(self, trial: Trial) -> FrozenTrial:
        """Return the record of a trial in the database."""
        return self._storage.get_trial(trial._trial_id)

    def latest(self) -> list[FrozenTrial]:
        """Return all trials without those that were repeated."""
        trials = self.trials()
        repeated = {trial.system_attrs.get(_REPEATS) for trial in trials}
        return [trial for trial in trials if trial.number not in repeated]

    def left(self) -> int:
        """Return the number of trials that have not ended."""
        return sum(not t.state.is_finished() or self._is_lost(t) for t in self.latest())

    def fill(self) -> None:
        """Add waiting trials until there are as many as the settings request."""
        with self.alone():
            originals = sum(_ORIGINAL not in t.system_attrs for t in self.trials())
            for number in range(originals, self.search.settings.trials):
                # The first trial has the values of the base, so the best is never worse than it.
                self.study.enqueue_trial({} if number else self.search.base_values())

    def ask(self) -> Trial | None:
        """Take the next trial; None if none is waiting and none is running.

        While other workers run the last trials, wait for them: one of these trials may have to be
        repeated.
        """
        while True:
            with self.alone():
                self._repeat_lost()
                first = next((t for t in self.trials() if t.state == TrialState.WAITING), None)
                if first is not None:
                    # The heartbeat comes first, so that a worker that dies from here on is noticed.
                    self._storage.record_heartbeat(first._trial_id)
                    # The same number draws the same values, for any worker at any time.
                    self.study.sampler = _sampler(self.search, first.number)
                    with _quiet():
                        return self.study.ask()
                if not any(t.state == TrialState.RUNNING for t in self.trials()):
                    return None
            time.sleep(_PATIENCE)

    def _repeat_lost(self) -> None:
        """Queue trials again whose worker has died."""
        with _quiet():
            optuna.storages.fail_stale_trials(self.study)
        for trial in self.latest():
            if self._is_lost(trial):
                self._repeat(trial)

    def _is_lost(self, trial: FrozenTrial) -> bool:
        if trial.state != TrialState.FAIL or REASON in trial.user_attrs:
            return False
        return _deaths(trial) <= self.search.settings.retries

    def _repeat(self, trial: FrozenTrial) -> None:
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                system_attrs={
                    _ORIGINAL: original_number(trial),
                    _REPEATS: trial.number,
                    _TRIES: _deaths(trial),
                },
            )
        )

    @contextlib.contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Keep up the heartbeat of the trial's worker until the block ends."""
        ended = threading.Event()
        every = self.search.settings.heartbeat_seconds

        def beat() -> None:
            while not ended.wait(every):
                with contextlib.suppress(*_STORAGE_ERRORS):  # the next beat tries again
                    self._storage.record_heartbeat(trial._trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def give_back(self, trial: Trial) -> None:
        """Queue an interrupted trial again; it keeps its parameters."""
        self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def fail(self, trial: Trial, reason: str) -> None:
        """Record a trial that returned no value, with the reason."""
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def lost(self, trial: Trial) -> bool:
        """Return whether the trial was given to another worker because this one seemed dead."""
        return self.frozen(trial).state != TrialState.RUNNING

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Prevent all other workers of the study from taking trials until the block ends."""
        with _storage_errors(self.search):
            lock = self._file_lock() if self.search.embedded else self._database_lock()
            with lock:
                yield

    @contextlib.contextmanager
    def _file_lock(self) -> Iterator[None]:
        # SQLite's own lock works on every system, and ends with its process.
        path = self.search.folder / "study.lock"
        with contextlib.closing(sqlite3.connect(path, 3600, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield

    @contextlib.contextmanager
    def _database_lock(self) -> Iterator[None]:
        key = zlib.crc32(f"sr_trainer {self.search.study}".encode())
        with self._engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def original_number(trial: FrozenTrial) -> int:
    """Return the number of a trial's first run, which is that of its folder."""
    return int(trial.system_attrs.get(_ORIGINAL, trial.number))


def _cure(search: Search) -> str:
    """Return how to fix a changed study; a new study needs its own folder for its trials."""
    another = "another search_dir" if search.embedded else "another study and search_dir"
    return f"Change it back, or start again with {another}."


def _words(space: BaseDistribution) -> str:
    if isinstance(space, CategoricalDistribution):
        return f"the choices [{', '.join(map(str, space.choices))}]"
    kind = "whole numbers" if isinstance(space, IntDistribution) else "numbers"
    return f"{kind} {'with' if getattr(space, 'log', False) else 'without'} log"


def _deaths(trial: FrozenTrial) -> int:
    """Return how many workers have died during a failed trial."""
    return int(trial.system_attrs.get(_TRIES, 0)) + 1


def reason_of(trial: FrozenTrial) -> str:
    """Return why a trial failed; an empty text if it did not."""
    if trial.state != TrialState.FAIL:
        return ""
    deaths = _deaths(trial)
    died = "its worker died" if deaths == 1 else f"its worker died {deaths} times"
    return str(trial.user_attrs.get(REASON, died))


def trial_folder(search: Search, trial: FrozenTrial) -> Path:
    """Return the folder of a trial's run."""
    return search.folder / f"trial_{original_number(trial):05d}"


def work(search: Search, run: Run, stop: Callable[[], bool] = lambda: False) -> None:
    """Run trials until none is left.

    Parameters
    ----------
    search : Search
        Settings.
    run : callable
        ``run(search, trial, chosen, folder)`` returns a value for each objective, raises
        ``optuna.TrialPruned``, or another exception, which becomes the reason of a failed trial.
    stop : callable
        Called before every trial; True ends the work.
    """
    with _storage_errors(search), Queue(search) as queue:
        while not stop():
            trial = queue.ask()
            if trial is None:
                return
            with queue.beating(trial):
                _run_one(queue, trial, run)


def _run_one(queue: Queue, trial: Trial, run: Run) -> None:
    search = queue.search
    folder = trial_folder(search, queue.frozen(trial))
    reason, state, values = "", TrialState.COMPLETE, None
    try:
        values = list(run(search, trial, search.suggest(trial), folder))
        if not all(math.isfinite(value) for value in values):
            raise DataError(f"the objective is not a number: {values}")
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except KeyboardInterrupt:
        if not queue.lost(trial):
            queue.give_back(trial)
        raise
    except _STORAGE_ERRORS:
        raise
    except Exception as error:  # no failed training run may end the study
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        memory = type(error).__name__ in ("MemoryError", "ResourceExhaustedError")
        reason = "out of memory" if memory else first
    if queue.lost(trial):  # this machine was suspended; its result comes too late
        return
    if reason:
        queue.fail(trial, reason)
    else:
        queue.study.tell(trial, values, state)


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    seed = (search.settings.seed + 1_000_003 * number) % 2**31
    if search.settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.settings.sampler == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=seed)
    with _quiet():
        # Running trials count as poor ones, so that workers do not all try the same values.
        return optuna.samplers.TPESampler(
            seed=seed, constant_liar=search.jobs > 1 or not search.embedded
        )


def _pruner(name: str) -> optuna.pruners.BasePruner:
    pruners = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "halving": optuna.pruners.SuccessiveHalvingPruner,
    }
    return pruners[name]()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's warnings that heartbeats are experimental, which do not concern the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)
        yield


@contextlib.contextmanager
def _storage_errors(search: Search) -> Iterator[None]:
    """Turn errors of SQLAlchemy into one line without the password."""
    where = sqlalchemy.make_url(search.storage_url).render_as_string(hide_password=True)
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"{where}: PostgreSQL needs {error.name}. Run: {install_command('postgresql')}"
        ) from None
    except _STORAGE_ERRORS as error:
        cause = error.__cause__ or error
        first = str(cause).strip().splitlines()[0]
        raise DataError(
            f"{where}: the database cannot be used ({first}). Fix storage, or leave it out to use "
            f"a file."
        ) from None
