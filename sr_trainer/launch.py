"""Training with several workers on one machine: ``python -m sr_trainer.launch --workers 2 ...``.

Each worker is a process of its own, as on a cluster: it gets a free port of the loopback device
and the variable TF_CONFIG. The output of worker 0, which writes all files, is shown; that of the
others is kept in files and shown if one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, ToolboxError, not_found, program

_EPILOG = """\
  python -m sr_trainer.launch --workers 2 input.yml train
  python -m sr_trainer.launch --workers 2 input.yml train --resume
"""
#: Environment variable of a worker: the process that started it, and without which it ends.
_LAUNCHER = "SR_LAUNCHER_PID"
#: Seconds that the others have to say why, after one worker has failed, and to end when asked.
_GRACE_S = 5.0
_LINES = 20


class WorkerFailedError(ToolboxError):
    """A worker has failed or was killed."""


class Workers:
    """The processes of one training run.

    Parameters
    ----------
    count : int
        How many.
    arguments : sequence of str
        Command line of ``main.py``.
    folder : pathlib.Path
        Where the output of all but the first is kept.
    """

    def __init__(self, count: int, arguments: Sequence[str], folder: Path) -> None:
        self.count, self.arguments, self.folder = count, list(arguments), folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self._signals: list[int] = []
        self._quiet = False

    @property
    def command(self) -> str:
        """The command line that starts them, without ``--resume`` and ``--overwrite``."""
        plain = [a for a in self.arguments if a not in ("--resume", "--overwrite")]
        return f"python -m sr_trainer.launch --workers {self.count} {shlex.join(plain)}"

    def log(self, number: int) -> Path:
        """Return the file with the output of a worker."""
        return self.folder / f"worker_{number}.log"

    def start(self, quiet: bool = False) -> None:
        """Start all; the output of the first is shown unless `quiet`."""
        self._quiet = quiet
        self.folder.mkdir(parents=True, exist_ok=True)
        gpus = _gpus_for(self.count)
        with _free_ports(self.count) as ports:
            addresses = [f"127.0.0.1:{port}" for port in ports]
        for number in range(self.count):
            task = {"type": "worker", "index": number}
            own = {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
            own |= {_LAUNCHER: str(os.getpid()), "SR_LAUNCH_COMMAND": self.command}
            if gpus:
                own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[number])
            self.processes.append(self._started(number, {**_threads(self.count), **own}))

    def _started(self, number: int, own: dict[str, str]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C comes once, from `stop`.
        shared: dict[str, Any] = {"env": {**os.environ, **own}, "start_new_session": True}
        shared["stdin"] = subprocess.DEVNULL
        if number == 0 and not self._quiet:
            return subprocess.Popen(self._line(), **shared)
        with open(self.log(number), "wb") as log:
            return subprocess.Popen(self._line(), stdout=log, stderr=subprocess.STDOUT, **shared)

    def _line(self) -> list[str]:
        options = [*self.arguments, "--distribution", "multi_worker"]
        return [sys.executable, "-m", "sr_trainer.main", *options]

    def wait(self) -> int:
        """Wait until all have ended, or one has failed; return the exit code of the chief.

        Raises
        ------
        WorkerFailedError
            If another than the chief failed, or one was killed.
        """
        while True:
            codes = [process.poll() for process in self.processes]
            failed = [number for number, code in enumerate(codes) if code]
            if failed and not self._signals:
                return self._failed(failed[0])
            if None not in codes:
                return next((int(code) for code in codes if code), 0)
            time.sleep(0.1)

    def _failed(self, number: int) -> int:
        """End the others, and say which worker failed unless the chief has said it."""
        code = self.processes[number].poll() or 0
        if code > 0:  # it has said why; so may the others
            self._wait_for_end(_GRACE_S)
            if self.processes[0].poll():
                return int(self.processes[0].returncode)
        self.end()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"failed with code {code}"
        if number:
            text = self.log(number).read_text(encoding="utf-8", errors="replace")
            tail = "\n".join(text.replace("\r", "\n").splitlines()[-_LINES:])
            if code > 0:
                print(f"last lines of {self.log(number)}:\n{tail}", file=sys.stderr)
        print(file=sys.stderr)  # the chief's progress bar stands on an unfinished line
        raise WorkerFailedError(
            f"worker {number} of {self.count} {how}, so the others were stopped. Resume from the "
            f"last saved state, with any number of workers: {self.command} --resume"
        )

    def stop(self, number: int, frame: FrameType | None = None) -> None:
        """Pass a signal on to all: they finish the step together and the chief saves."""
        self._signals.append(number)
        if len(self._signals) > 2:
            self.end()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self) -> None:
        """End all that still run."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()

    def _wait_for_end(self, seconds: float) -> None:
        last = time.monotonic() + seconds
        while time.monotonic() < last and any(p.poll() is None for p in self.processes):
            time.sleep(0.05)


def follow_launcher() -> None:
    """End this worker with the launcher that started it, however that ended."""
    text = os.environ.get(_LAUNCHER, "")
    if not text.isdecimal():
        return

    def follow() -> None:
        while os.getppid() == int(text):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Find ports that nobody uses; they stay taken until the block ends."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]


def _threads(count: int) -> dict[str, str]:
    """Return variables that share the cores among the workers, but for those that are set."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    each = str(max(1, cores // count))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {name: each for name in names if name not in os.environ}


def _gpus_for(count: int) -> list[list[str]]:
    """Return the GPUs of each worker, as many for all; nothing without a GPU."""
    found = visible_gpus()
    if not found:
        return []
    if len(found) < count:
        raise ConfigError(
            f"--workers must not exceed the {len(found)} GPUs of this machine; received {count}. "
            f"Lower it, or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU."
        )
    each = len(found) // count
    return [found[number * each : (number + 1) * each] for number in range(count)]


def visible_gpus() -> list[str]:
    """Return the GPUs that a process may see.

    Returns
    -------
    list of str
        Their numbers or names, as for ``CUDA_VISIBLE_DEVICES``; empty without a GPU.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    line = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    from sr_trainer.arg_parser import ArgParser

    parser = OneLineParser(
        prog="python -m sr_trainer.launch",
        description="Train with several workers on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s [-h] [--workers N] [--logs FOLDER] settings.yml train [options]",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--logs", metavar="FOLDER", help="output of all but worker 0 (default NAME_workers)"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="command line of the training: input.yml train"
    )
    own = parser.parse_args(arguments)
    rest: list[str] = own.command
    if own.workers < 1:
        parser.error(f"--workers must be at least 1; received {own.workers}")
    if not rest:
        parser.error("the command line of the training is missing: input.yml train")
    train = ArgParser(rest)
    if train.get_mode() != "train":
        parser.error(f"only train has workers; received {train.get_mode()}")
    if train.args.distribution not in (None, "multi_worker"):
        parser.error(f"workers need multi_worker; received {train.args.distribution}")
    if not Path(train.get_fname()).is_file():
        parser.error(f"{not_found(train.get_fname(), 'file')}; name an existing .yml file")
    own.logs = Path(own.logs or f"{Path(train.get_fname()).with_suffix('')}_workers")
    return own, rest


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the launcher."""
    own, rest = _parse(arguments)
    workers = Workers(own.workers, rest, own.logs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, workers.stop)
    try:
        workers.start()
        code = workers.wait()
    finally:
        workers.end()
    if code:
        raise SystemExit(code)  # the chief has said why


if __name__ == "__main__":
    sys.exit(main())
