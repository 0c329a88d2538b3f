"""Hyper-parameter search: ``python -m sr_trainer.optuna_search search.yml``.

Every trial is an ordinary run in its own folder. The study is a file next to these folders, or with
``--storage postgresql://USER@HOST/NAME`` a database that any number of machines share. The same
command resumes an interrupted study.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.trial import TrialState

from sr_trainer.search_queue import Queue, original_number, reason_of, work
from sr_trainer.search_report import best_trial, write_report
from sr_trainer.search_settings import Search
from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, DataError, program
from toolbox.progress import progress

_POLL_SECONDS = 1.0
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class OptunaSearch:
    """Runs a study with worker processes, and reports the results.

    Parameters
    ----------
    search : Search
        Settings.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self._arguments: list[str] = []
        self._workers: list[subprocess.Popen[bytes]] = []

    def run(self, arguments: Sequence[str]) -> None:
        """Check all settings, run the remaining trials, write the report.

        Parameters
        ----------
        arguments : sequence of str
            Command-line arguments of a worker.

        Raises
        ------
        ConfigError
            If a trial would be refused; raised before the first one starts.
        DataError
            If workers keep failing, or no trial is complete.
        """
        from sr_trainer.initializer import Initializer

        Initializer.tf_init()
        from sr_trainer.search_trial import check_search
        from toolbox.settings import UserParams
        from toolbox.task import open_source

        search = self.search
        check_search(search)
        if search.jobs > 1:
            with contextlib.suppress(PermissionError):  # every worker then reads its own copy
                open_source(UserParams(search.base_fname)).share()
        self._arguments = list(arguments)
        with Queue(search) as queue:
            queue.fill()
            started = time.monotonic()
            try:
                with _terminated_as_interrupted():
                    self._supervise(queue, started)
            finally:
                self._stop()
            self.report(queue)

    def _supervise(self, queue: Queue, started: float) -> None:
        """Keep the workers running until no trial is left or the time is up."""
        limit = self.search.settings.timeout_minutes
        deaths = 0
        self._workers = [self._start() for _ in range(min(self.search.jobs, queue.left()))]
        with progress(None, "trials", total=self.search.settings.trials, unit="trial") as bar:
            while self._workers:
                time.sleep(_POLL_SECONDS)
                _show(queue, self.search, bar)
                for worker in [w for w in self._workers if w.poll() is not None]:
                    self._workers.remove(worker)
                    if worker.returncode == 0:
                        continue
                    deaths += 1
                    # The trial of a killed worker is repeated by another one.
                    if worker.returncode > 0 or deaths > 3 * self.search.settings.trials:
                        raise DataError(
                            f"a worker ended with code {worker.returncode}; see its message above "
                            f"and log.txt of the last trial in {self.search.folder}."
                        )
                    self._workers.append(self._start())
                if limit is not None and time.monotonic() - started > 60 * limit:
                    print(f"\nstopped after {limit:g} minutes; the same command resumes")
                    return
            _show(queue, self.search, bar)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a worker with its share of the cores."""
        share = str(max(1, (os.cpu_count() or 1) // self.search.jobs))
        names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, share), "TF_NUM_INTEROP_THREADS": "1"}
        command = [sys.executable, "-m", "sr_trainer.optuna_search", *self._arguments, "--worker"]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def _stop(self) -> None:
        """Ask the workers to end; their trials wait for the next start."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.wait()

    def report(self, queue: Queue) -> None:
        """Write the report and print the best trial.

        Raises
        ------
        DataError
            If no trial is complete.
        """
        search = self.search
        written = write_report(search, queue.study)
        best = best_trial(search, queue.study)
        trials = queue.latest()
        counts = {
            state: sum(t.state == state for t in trials) for state in (*_ENDED, TrialState.WAITING)
        }
        print(", ".join(f"{n} {state.name.lower()}" for state, n in counts.items()))
        for reason in sorted({reason_of(trial) for trial in trials} - {""}):
            print(f"failed: {reason}")
        if best is None:
            raise DataError(f"no trial is complete yet; the table is in {written[0]}.")
        for objective, value in zip(search.objectives, best.values or [], strict=True):
            print(f"best: trial {original_number(best)}, {objective.name} {value:.6g}")
        for name, value in search.restored(best).items():
            print(f"  {name}: {value}")
        print(f"written: {', '.join(str(path) for path in written)}")


def _show(queue: Queue, search: Search, bar: Any) -> None:
    """Update the progress bar: number of ended trials, best value so far."""
    ended = sum(trial.state in _ENDED for trial in queue.latest())
    best = best_trial(search, queue.study)
    if best is not None and best.values:
        first = search.objectives[0].name
        bar.set_postfix({"best": best.number, first: f"{best.values[0]:.5g}"}, refresh=False)
    bar.update(ended - bar.n)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that the same clean-up runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt("by SIGTERM; the same command resumes")

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _worker(search: Search) -> None:
    """Run trials until none is left; Ctrl-C and SIGTERM return the current one to the queue."""
    from sr_trainer.initializer import Initializer

    Initializer.tf_init()
    from sr_trainer.search_trial import run_trial

    # Ctrl-C reaches the whole process group, but the parent is to stop the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _terminated_as_interrupted():
        work(search, run_trial)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    parser = OneLineParser(
        prog="python -m sr_trainer.optuna_search", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("yml_fname", help="settings of the search (.yml)")
    parser.add_argument("--storage", help="postgresql://USER@HOST/NAME, shared by many machines")
    parser.add_argument("--jobs", type=int, help="worker processes on this machine")
    parser.add_argument("--report", action="store_true", help="write the report and exit")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.jobs is not None and args.jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more; received {args.jobs}.")
    search = Search(args.yml_fname, args.storage, args.jobs)
    if args.worker:
        _worker(search)
        return
    optuna_search = OptunaSearch(search)
    if args.report:
        with Queue(search) as queue:
            optuna_search.report(queue)
        return
    given = [args.yml_fname, *(["--storage", args.storage] if args.storage else [])]
    optuna_search.run([*given, "--jobs", str(search.jobs)])


if __name__ == "__main__":
    raise SystemExit(main())
