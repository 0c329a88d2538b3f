"""Damaged files end in one line, a note, or the values that they hold; nothing is lost or run.

``make test-fuzz`` takes FUZZ_FILES=300 files, damaged as FUZZ_SEED=16 says, through the builder,
``train`` and ``predict``; ``FUZZ_FIRST`` begins with another one. The processes of FUZZ_JOBS=2
take turns; where one dies, the file that was under way counts as failed and another goes on.
"""

from __future__ import annotations

import collections
import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz import seeds, worker

ROOT = Path(__file__).resolve().parents[2]
FILES = int(os.environ.get("FUZZ_FILES", "300"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "16"))
JOBS = int(os.environ.get("FUZZ_JOBS", "2"))
#: Files that one process takes: what libraries leave behind in it must not pile up.
SHARE = 50

pytestmark = pytest.mark.fuzz


def start(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of the fuzz in a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", f"fuzz.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def rows_of(record: Path) -> list[dict[str, Any]]:
    """Return the lines of a record: a file each, the last perhaps without a verdict."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    found: dict[int, dict[str, Any]] = {}
    for row in map(json.loads, lines):
        found[row["number"]] = row
    return list(found.values())


def take(shop: Path, first: int, last: int) -> list[dict[str, Any]]:
    """Take a share of the files; a file at which the process dies has failed."""
    record = shop / f"record_{first}"
    while True:
        done = rows_of(record)
        begin = done[-1]["number"] + 1 if done else first
        if begin >= last:
            return done
        process = start("worker", shop, record, begin, last, SEED)
        done = rows_of(record)
        if not done or done[-1]["number"] < begin:
            raise RuntimeError(process.stderr[-3000:])
        if "verdict" not in done[-1]:
            ends = process.stderr.strip().splitlines()[-8:]
            reason = f"the process ended with {process.returncode}: {' | '.join(ends)}"
            row = {**done[-1], "verdict": "failed", "reasons": [reason]}
            with open(record, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Count the verdicts of every kind of file."""
    counts = collections.Counter((row["seed"].partition("_")[0], row["verdict"]) for row in rows)
    lines = [f"{'':10}" + "".join(f"{verdict:>22}" for verdict in worker.VERDICTS)]
    for kind in (*seeds.KINDS, "all"):
        sums = [
            sum(n for (k, v), n in counts.items() if kind in (k, "all") and v == verdict)
            for verdict in worker.VERDICTS
        ]
        lines.append(f"{kind:10}" + "".join(f"{number:>22}" for number in sums))
    return "\n".join(lines)


def test_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, no hang, no silence, no file lost, nothing run: 300 files of eight kinds."""
    shop = tmp_path / "shop"
    prepared = start("seeds", shop)
    assert prepared.returncode == 0, prepared.stderr[-3000:]
    ends = range(FIRST, FIRST + FILES, SHARE)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        shares = [pool.submit(take, shop, n, min(n + SHARE, FIRST + FILES)) for n in ends]
        rows = [row for share in shares for row in share.result()]
    failed = [row for row in rows if row["verdict"] == "failed"]
    with capsys.disabled():
        print(f"\n{len(rows)} damaged files, FUZZ_SEED={SEED}\n{table(rows)}")
        for row in failed:
            reasons = " / ".join(row["reasons"])
            print(f"FUZZ_FIRST={row['number']}: {row['seed']}, {row['mutation']}: {reasons}")
    assert [row["number"] for row in rows] == list(range(FIRST, FIRST + FILES))
    assert not failed
