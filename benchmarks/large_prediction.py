"""A map on two worker processes, one of which is killed: ``python -m benchmarks.large_prediction``.

Writes a synthetic sea floor of SIDE x SIDE pixels and enlarges it four times with ESPCN (untrained)
or a model that ships, into a Zarr: on one machine in one process, then with ``--dask local:2``,
where one of the workers is killed when some rows of tiles are done. Printed are the time, the peak
of the resident memory (``VmHWM``) of the program and of the largest worker, and whether both
results have the same bytes in every file. Needs Linux and the extras ``geo`` and ``dask``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.large_map import processes, status, write_map
from benchmarks.predict_map import make_network

_POLL_S = 0.1
#: What a worker holds once it has loaded TensorFlow; the processes that watch workers hold less.
_WORKER_KIB = 300_000


class Watched:
    """A program whose processes are watched, and of which a worker may be killed.

    Parameters
    ----------
    command : list of str
        Command line.
    log : Path
        File for its output.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, log
        #: Process number: what it is, and the peak of its resident memory, KiB.
        self.peaks: dict[int, tuple[str, int]] = {}
        self.killed: int | None = None

    def run(self, journal: Path | None = None, rows: int = 0) -> float:
        """Run to the end; kill a worker once `journal` has `rows` rows. Return seconds."""
        start = time.perf_counter()
        with open(self.log, "wb") as out:
            program = subprocess.Popen(self.command, stdout=out, stderr=out)
            while program.poll() is None:
                workers = self._look(program.pid)
                if journal and self.killed is None and workers and _rows_of(journal) >= rows:
                    self.killed = workers[0]
                    os.kill(self.killed, signal.SIGKILL)
                time.sleep(_POLL_S)
        if program.returncode:
            raise SystemExit(f"{self.command} failed:\n{self.log.read_text()[-3000:]}")
        return time.perf_counter() - start

    def _look(self, program: int) -> list[int]:
        """Note the memory of all processes; return those that are workers."""
        workers = []
        for number in processes(program):
            is_worker = "spawn_main" in _command_of(number)
            memory = status(number)
            # The command line of a process that has just ended is empty.
            kind, peak = self.peaks.get(number, ("program", 0))
            kind = "worker" if is_worker else kind
            self.peaks[number] = (kind, max(memory.get("VmHWM", 0), peak))
            if is_worker and memory.get("VmRSS", 0) > _WORKER_KIB:
                workers.append(number)
        return workers

    def largest_gib(self, kind: str) -> float:
        """Return the largest peak of the processes of a kind, GiB."""
        return max((peak for k, peak in self.peaks.values() if k == kind), default=0) / 2**20


def _command_of(number: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_text()
    return ""


def _rows_of(journal: Path) -> int:
    """Return how many rows of tiles are done, as far as the journal can be read just now."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return len(json.loads(journal.read_text())["done"])
    return 0


def digest(folder: Path) -> str:
    """Return one checksum of the names and bytes of all files in a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=10_000, help="rows and columns of the map")
    parser.add_argument("--pretrained", help="a model that ships (an untrained ESPCN)")
    parser.add_argument("--rows", type=int, default=6, help="kill once so many rows are done")
    parser.add_argument("--folder", type=Path, help="where the files go, and stay")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="large_prediction_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = folder / "map.tif"
        if not source.exists():
            write_map(source, args.side)
        network = ["predict", "--pretrained", args.pretrained]
        if args.pretrained is None:
            (folder / "log").mkdir(exist_ok=True)
            make_network(folder / "log")
            network = [str(folder / "log"), "predict"]
        digests = []
        for name, options in (("one", []), ("two", ["--dask", "local:2"])):
            target, journal = folder / f"{name}.zarr", folder / f".{name}.zarr.partial.json"
            line = [sys.executable, "-m", "sr_trainer.main", *network, str(source)]
            line += ["-o", str(target), "--overwrite", *options]
            watched = Watched(line, folder / f"{name}.log")
            seconds = watched.run(journal if options else None, args.rows)
            digests.append(digest(target))
            found = {
                "way": " ".join(options) or "one process",
                "seconds": round(seconds),
                "program_gib": round(watched.largest_gib("program"), 2),
                "worker_gib": round(watched.largest_gib("worker"), 2),
                "workers": sum(kind == "worker" for kind, _ in watched.peaks.values()),
                "killed": watched.killed is not None,
                "sha256": digests[-1],
            }
            print(json.dumps(found), flush=True)
        print("the same bytes" if len(set(digests)) == 1 else "DIFFERENT bytes")
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
