"""Runs damaged files through the programs, in one process, and writes down what became of them.

``python -m fuzz.worker SHOP RECORD FIRST LAST SEED`` appends a line of JSON to RECORD before and
after every file, so that whoever started it knows which file a crash of the process belongs to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import gc
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import yaml
from conftest import Result

from fuzz import mutations, oracles, seeds

#: What one program may take for one file.
SECONDS = 60
GIGABYTES = 2.0
VERDICTS = ("refused", "same", "noted", "valid but different", "failed")


@dataclasses.dataclass(frozen=True)
class Case:
    """One damaged file: a pure function of its number and the seed of the fuzz."""

    number: int
    seed: str
    mutation: str
    content: bytes

    @property
    def kind(self) -> str:
        """First part of the seed's name."""
        return self.seed.partition("_")[0]


class HangError(BaseException):
    """A program took too long; no ``except Exception`` of it takes this for its own."""


def make_case(shop: Path, number: int, seed: int, canary: str) -> Case:
    """Damage one file; the kinds take turns, and so do the files of a kind."""
    rng = np.random.default_rng([seed, number])
    kind = seeds.KINDS[number % len(seeds.KINDS)]
    names = sorted(path.name for path in (shop / "seeds").iterdir())
    own = [name for name in names if name.startswith(f"{kind}_")]
    name = own[number // len(seeds.KINDS) % len(own)]
    other = names[int(rng.integers(len(names)))]
    ways: list[mutations.Mutation] = list(mutations.BYTES)
    if name.endswith((".yml", ".json")):
        ways = [*mutations.TEXT, *[mutations.acting(canary)] * 3] if kind == "yaml" else ways
    if name.endswith(".pkl"):
        armed = mutations.armed(canary)
        ways += [mutations.opcode_changed] * 3
        ways += [lambda rng, *_: armed[int(rng.integers(len(armed)))]] * 4
    way = ways[int(rng.integers(len(ways)))]
    contents = [(shop / "seeds" / found).read_bytes() for found in (name, other)]
    content = way(rng, *contents)
    if content == contents[0]:
        content = mutations.truncated(rng, *contents)
    return Case(number, name, way.__name__.strip("<>"), content)


# -- One program -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise in Python code that takes too long; end the process if that is of no use."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame)[-3:]))

    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(SECONDS + 15, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, former)


@contextlib.contextmanager
def _native_output() -> Iterator[list[str]]:
    """Collect what libraries print past Python."""
    lines: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as stream:
        screens = {number: os.dup(number) for number in (1, 2)}
        for number in screens:
            os.dup2(stream.fileno(), number)
        try:
            yield lines
        finally:
            for number, screen in screens.items():
                os.dup2(screen, number)
                os.close(screen)
            stream.seek(0)
            lines += stream.read().decode("utf-8", "replace").splitlines()


@contextlib.contextmanager
def _unraisable() -> Iterator[list[str]]:
    """Collect what is raised where nobody can catch it, as objects are thrown away."""
    found: list[str] = []
    former = sys.unraisablehook
    sys.unraisablehook = lambda args: found.append(f"{args.exc_value!r} in {args.object!r}")
    try:
        yield found
    finally:
        sys.unraisablehook = former


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _run(step: seeds.Step) -> tuple[Result, list[str]]:
    """Run a program; return what it said and what is wrong with the way that it ended.

    What libraries print past Python is no fault, but no message of the program either.
    """
    before, peak = _snapshot(step.folder), _peak_gigabytes()
    try:
        with _native_output() as native, _bounded(), _unraisable() as ignored:
            result = step.run()
            gc.collect()
    except (Exception, HangError) as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        return Result(1, "", ""), [f"traceback {type(error).__name__}: {error} ({where})"]
    result.out += "".join(f"printed past Python: {line}\n" for line in native)
    wrong = [f"Python would print a traceback: {line}" for line in ignored]
    if _peak_gigabytes() - peak > GIGABYTES:
        wrong.append(f"took {_peak_gigabytes() - peak:.1f} GB of memory")
    if "Traceback" in result.out + result.err:
        wrong.append("a traceback was printed")
    if any(word in result.err for word in ("Warning: ", "Exception ignored")):
        wrong.append(f"Python's own words were printed: {result.messages[0]}")
    if result.code != 0 and len(result.messages) != 1:
        wrong.append(f"{len(result.messages)} lines of error: {result.messages[:3]}")
    wrong += _disturbed(step, before, result.code != 0)
    return result, [*wrong, *result.messages[-1:]] if wrong else []


def _disturbed(step: seeds.Step, before: dict[str, bytes], refused: bool) -> list[str]:
    """Tell which files are gone, changed, or left behind that should not be."""
    after, wrong = _snapshot(step.folder), []
    own = str(step.output.relative_to(step.folder))
    for name, content in before.items():
        may_change = not refused and (name == own or name.startswith(f"{own}/"))
        if after.get(name) != content and not may_change:
            wrong.append(f"{name} is {'changed' if name in after else 'gone'}")
    for name in after.keys() - before.keys():
        hidden = any(part.startswith(".") for part in Path(name).parts) or ".tmp" in name
        if refused or hidden:
            wrong.append(f"{name} is left behind")
    return wrong


# -- What it is worth ------------------------------------------------------------------------------


def _judge(case: Case, step: seeds.Step, result: Result, former: Any) -> tuple[str, str]:
    """Tell what a program that took the file made of it: verdict and reason."""
    said, wanted = former
    try:
        found = oracles.outcome(step.output)
    except Exception as error:
        return "failed", f"its result cannot be read: {type(error).__name__}: {error}"
    if not found:
        return _elsewhere(case, step)
    if oracles.equal(found, wanted):
        return "same", ""
    new = sorted(oracles.lines_of(result, step.folder) - said)
    if new:
        return "noted", new[0]
    return _oracle(case, step)


def _elsewhere(case: Case, step: seeds.Step) -> tuple[str, str]:
    """Settings may name another folder for the results."""
    return _oracle(case, step) if case.kind == "yaml" else ("failed", "no result, yet exit 0")


def _oracle(case: Case, step: seeds.Step) -> tuple[str, str]:
    """Ask the reference library, and whether the program read what it reads."""
    path = _damaged_file(case, step)
    with oracles.listening() as complaints:
        try:
            content = oracles.read(path, case.kind)
        except Exception as error:
            return "failed", f"taken in silence, but {type(error).__name__}: {error}"
    if complaints.lines:
        return "failed", f"taken in silence, but {complaints.lines[0]}"
    try:
        differs = _misread(case, step, path, content)
    except Exception as error:
        return "failed", f"cannot be compared: {type(error).__name__}: {error}"
    return ("failed", differs) if differs else ("valid but different", "")


def _damaged_file(case: Case, step: seeds.Step) -> Path:
    name = case.seed.partition("_")[2]
    suffix = Path(name).suffix
    places = {
        "tiff": step.folder / "picture.tif",
        "png": step.folder / "picture.png",
        "pickle": step.folder / "patches/train" / f"data_{Path(name).stem}.pkl",
        "yaml": step.folder / ("log/config.yml" if name == "config.yml" else name),
        "run": step.folder / "log" / name,
    }
    if case.seed == "pickle_validation.pkl":
        return step.folder / "patches/validation/data_HR.pkl"
    return places.get(case.kind, step.folder / f"map{suffix}")


def _misread(case: Case, step: seeds.Step, path: Path, content: oracles.Content) -> str:
    """Return how the program's own reading differs from that of the reference library."""
    if case.kind in ("geotiff", "netcdf", "array"):
        return _misread_map(path, content)
    if case.kind in ("tiff", "png"):
        return _misread_picture(step, path, content)
    if case.kind == "yaml":
        return _misread_settings(step, content["said"])
    values = [v for v in content.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    if any(not np.isfinite(v).all() for v in values):
        return "not all of its numbers are finite, and nobody says so"
    return ""


def _misread_map(path: Path, content: oracles.Content) -> str:
    from toolbox.io.maps import open_map

    with open_map(path) as reader:
        own = reader.read(slice(None), slice(None))[..., 0]
        name, sign = reader.name, -1 if reader.positive == "down" else 1
    wanted = content.get(name or "", content.get("values", content.get("elevation")))
    if wanted is None:
        return f"{name} is not among {', '.join(content)}"
    with np.errstate(over="ignore"):
        wanted = sign * np.squeeze(np.asarray(wanted)).astype(np.float32)
    wanted[~np.isfinite(wanted)] = np.nan
    same = own.shape == wanted.shape and np.allclose(own, wanted, rtol=1e-5, equal_nan=True)
    return "" if same else "its values are not those of the reference library"


def _misread_picture(step: seeds.Step, path: Path, content: oracles.Content) -> str:
    if step.name == "predict sem":
        from toolbox.tasks.sem.sem_image import read_sem_image

        own = read_sem_image(path).pixels
    else:
        from toolbox.io.picture import read_picture

        own = read_picture(path).pixels.squeeze()
    wanted = next(iter(content.values()))
    if wanted.ndim == 3 and own.ndim == 2:
        return ""  # grey mixed of colours is a matter of definition
    same = own.shape == wanted.shape and np.array_equal(own, wanted)
    return "" if same else "its pixels are not those of the reference library"


def _misread_settings(step: seeds.Step, said: Any) -> str:
    """Hold that every key of the file is in what the run wrote down, with that value."""
    if step.name != "train map":
        return ""
    log = step.folder / str(said.get("log_dir", "run"))
    used = yaml.safe_load((log / "config.yml").read_text(encoding="utf-8"))
    ignored = [k for k, v in said.items() if not _follows(used.get(k, used), v)]
    return f"{ignored[0]}: {said[ignored[0]]!r} has no effect" if ignored else ""


def _follows(used: Any, said: Any) -> bool:
    if isinstance(said, dict) and isinstance(used, dict):
        return all(_follows(used.get(key), value) for key, value in said.items())
    return said in (None, "None") or used in (said, {"name": said}) or str(used) == str(said)


# -- All of them -----------------------------------------------------------------------------------


def run_case(shop: Path, case: Case, pristine: Any) -> tuple[str, list[str]]:
    """Take a damaged file through its programs: the worst verdict, and reasons."""
    folder = Path(tempfile.mkdtemp(prefix=f"{case.number:04d}_", dir=shop / "work"))
    verdicts, reasons = [], []
    try:
        for step in seeds.steps(shop, case.seed, case.content, folder / "case"):
            result, wrong = _run(step)
            verdict, reason = "refused", result.messages[0] if result.messages else ""
            if not wrong and result.code == 0:
                verdict, reason = _judge(case, step, result, pristine[case.seed, step.name])
            if wrong:
                verdict, reason = "failed", "; ".join(wrong)
            verdicts.append(verdict)
            reasons.append(f"{step.name}: {verdict} {reason}".replace(str(folder), ""))
    finally:
        os.chdir(shop)
        shutil.rmtree(folder)
    return max(verdicts, key=VERDICTS.index), reasons


def main(shop: Path, record: Path, first: int, last: int, seed: int) -> None:
    """Take the files from `first` to `last` through their programs."""
    from sr_trainer.initializer import Initializer

    Initializer.tf_init()
    pristine = pickle.loads((shop / "pristine.pkl").read_bytes())
    canary = shop / "canary"
    with open(record, "a", encoding="utf-8") as stream:

        def note(**what: Any) -> None:
            stream.write(json.dumps(what) + "\n")
            stream.flush()

        for number in range(first, last):
            case = make_case(shop, number, seed, str(canary))
            told = {"number": number, "seed": case.seed, "mutation": case.mutation}
            note(**told)
            verdict, reasons = run_case(shop, case, pristine)
            if canary.exists():
                canary.unlink()
                verdict, reasons = "failed", ["something in the file was executed", *reasons]
            note(**told, verdict=verdict, reasons=reasons)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(word) for word in sys.argv[3:]))
