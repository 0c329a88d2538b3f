"""The way in which training steps are fastest here: XLA or not, and how many steps a call.

What pays differs between networks and between machines of the same kind, so a training run times
the ways before its first step (``jit_compile: auto``, ``steps_per_execution: auto``). The timed
steps are real ones; afterwards everything is restored that a saved state would hold, so a run with
the choice has the bytes of one whose settings name it. XLA changes the last digits of a result, so
the choice must not change from run to run with the noise of a clock: it is kept in a file for each
kind of run, and used from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from toolbox.io.atomic import replacing
from toolbox.io.cache import user_cache
from toolbox.training.checkpoint import kept_state

#: A run of fewer steps takes what its network's class says; nothing is timed.
FEWEST_STEPS = 500
#: So does a run that would take less than so many seconds.
SHORTEST_S = 60.0
#: What the timing may take, as a share of the run, and at most on a machine that is free.
SHARE, LONGEST_S = 0.02, 30.0
#: XLA compiles so many times as long as TensorFlow makes its graph; 4.4 to 4.8 were measured.
XLA_COMPILES = 5.0
#: Another way must save this share of a step to be taken instead of the class's.
GAIN = 0.05
#: Steps a call that are tried, and how long a call may last: between calls a run can be stopped.
CALLS, LONGEST_CALL_S = (1, 8, 32), 1.0
#: Two ways are timed in turn for about so long.
TIMED_S = 1.0


@dataclass(frozen=True)
class Way:
    """How the training function is made.

    Attributes
    ----------
    xla : bool
        Compiled with XLA.
    steps : int
        Training steps in a call, before it is lowered to a divisor of the steps of an epoch.
    """

    xla: bool
    steps: int

    def __str__(self) -> str:
        """Say it in words."""
        plural = "s" if self.steps > 1 else ""
        return f"{'XLA' if self.xla else 'no XLA'}, {self.steps} step{plural} a call"


@dataclass(frozen=True)
class Question:
    """What is to be chosen for which run.

    Attributes
    ----------
    default : Way
        What the class of the network says, or the settings.
    free_xla, free_steps : bool
        Which of the two may be chosen.
    total : int
        Training steps of the whole run.
    lower : callable
        From the wanted steps a call to those that fit an epoch.
    run : mapping
        All that the time of a step depends on but the machine, JSON types.
    """

    default: Way
    free_xla: bool
    free_steps: bool
    total: int
    lower: Callable[[int], int]
    run: Mapping[str, Any]

    def others(self, best: Way) -> list[Way]:
        """Return the ways that differ from `best` in the steps a call."""
        sizes: dict[int, int] = {self.lower(best.steps): best.steps}
        for steps in CALLS if self.free_steps else ():
            sizes.setdefault(self.lower(steps), steps)
        return [Way(best.xla, steps) for steps in sizes.values() if steps != best.steps]


def choose(model: Any, batches: Callable[[], Any], question: Question) -> tuple[Way, str]:
    """Find the fastest way to train `model`, by what is known or by timing.

    The model is as before, except that its training function may be made already.

    Parameters
    ----------
    model : SRModel
        Compiled, with all that a saved state holds.
    batches : callable
        Returns a ``tf.data.Dataset`` of training batches.
    question : Question
        What is free, and for which run.

    Returns
    -------
    (Way, str)
        The way, and a line about how it was found; empty if nothing was timed.
    """
    if not (question.free_xla or question.free_steps) or question.total < FEWEST_STEPS:
        return question.default, ""
    if model.run_eagerly or _is_distributed(model):
        return question.default, ""
    about = {"machine": machine(), **question.run, "free": [question.free_xla, question.free_steps]}
    about["default"] = asdict(question.default)
    path = record_path(about)
    record = read_record(path)
    # The time of a step is taken from the file as well, or the same run could be too short today
    # and long enough tomorrow.
    if record is None or ("way" not in record and _pays(record["step_s"], question.total)):
        start = time.perf_counter()
        try:
            with kept_state(model):
                record = _Timing(model, batches, question).record(record)
        except tf.errors.OpError:
            return question.default, ""  # the run itself meets it and says what it is
        seconds = time.perf_counter() - start
        # Another run may have been faster: the first one to write has chosen.
        former = read_record(path)
        if former is not None and "way" in former:
            record, model.train_function = former, None
        else:
            write_record(path, {**record, "about": about})
            if "way" in record:
                return Way(**record["way"]), f"timed in {seconds:.1f} s: {_told(record)}"
    if "way" not in record or not _pays(record["step_s"], question.total):
        return question.default, ""
    return Way(**record["way"]), f"timed before: {_told(record)} ({path})"


def _pays(step_s: float, total: int) -> bool:
    return step_s * total >= SHORTEST_S


def _told(record: Mapping[str, Any]) -> str:
    times = (f"{way} {1000 * seconds:.3g} ms" for way, seconds in record["times_s"].items())
    return f"{'; '.join(times)}; taken: {Way(**record['way'])}"


def _is_distributed(model: Any) -> bool:
    """Tell whether several devices train it; then each would time another choice."""
    alone = model.distribute_strategy is tf.distribute.get_strategy()
    return tf.distribute.has_strategy() or not alone


class _Timing:
    """Times ways to train a model, whose state somebody else keeps."""

    def __init__(self, model: Any, batches: Callable[[], Any], question: Question) -> None:
        self.model, self.question = model, question
        # One batch, as it is served: the time of a step, not that of reading.
        self.batches = batches().take(1).cache().repeat()
        self.times: dict[str, float] = {}

    def record(self, known: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what is worth keeping: the time of a step and, if the run is long, the way."""
        best, start, own = self.question.default, time.perf_counter(), time.process_time()
        step = self._made(best)
        made_s, own_s = time.perf_counter() - start, time.process_time() - own
        self._time({best: step}, TIMED_S / 4)
        step_s = known["step_s"] if known else self.times[str(best)]
        if not _pays(step_s, self.question.total):
            self.model.train_function = step
            return {"step_s": step_s}
        graph_s = made_s / XLA_COMPILES if best.xla else made_s
        # On a busy machine all takes longer, the run as well.
        busy = max(1.0, made_s / max(own_s, 1e-3))
        budget = min(busy * LONGEST_S, SHARE * step_s * self.question.total)
        self.end = start + budget
        if self.question.free_xla:
            other = Way(not best.xla, best.steps)
            best, step = self._better(best, step, other, graph_s)
        for other in self.question.others(best):
            best, step = self._better(best, step, other, graph_s)
        self.model.train_function = step
        return {"step_s": step_s, "way": asdict(best), "times_s": self.times}

    def _better(
        self, best: Way, step: Callable[..., Any], other: Way, graph_s: float
    ) -> tuple[Way, Callable[..., Any]]:
        """Return the better of two ways, `best` if there is no time to try the other."""
        count = self.question.lower(other.steps)
        if count * self.times[str(best)] > LONGEST_CALL_S and other.steps > best.steps:
            return best, step
        needed = graph_s * (XLA_COMPILES if other.xla else 1) + TIMED_S
        if time.perf_counter() + needed > self.end:
            return best, step
        try:
            tried = self._made(other)
        except (tf.errors.OpError, ValueError, TypeError):  # not all that trains compiles
            return best, step
        self._time({best: step, other: tried}, TIMED_S)
        gained = self.times[str(other)] < (1 - GAIN) * self.times[str(best)]
        return (other, tried) if gained else (best, step)

    def _made(self, way: Way) -> Callable[..., Any]:
        """Return a function for training that has run once, so that it is compiled."""
        model, count = self.model, self.question.lower(way.steps)
        former = model.jit_compile, model.steps_per_execution
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras takes XLA back where a layer lacks it
                model.jit_compile, model.steps_per_execution = way.xla, count
            if model.jit_compile != way.xla:
                raise ValueError(f"{model.name} cannot be compiled with XLA")
            model.make_train_function(force=True)
            step: Callable[..., Any] = model.train_function
            _wait(step(iter(self.batches)))
            return step
        finally:
            model.jit_compile, model.steps_per_execution = former
            model.train_function = None

    def _time(self, steps: Mapping[Way, Callable[..., Any]], seconds: float) -> None:
        """Time ways in turn; the least time of a step counts, which other work disturbs least."""
        batches = {way: iter(self.batches) for way in steps}
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < 3 or time.perf_counter() < end:
            for way, step in steps.items():
                start = time.perf_counter()
                _wait(step(batches[way]))  # as the callbacks of `fit` wait for its figures
                taken = (time.perf_counter() - start) / self.question.lower(way.steps)
                self.times[str(way)] = min(self.times.get(str(way), taken), taken)
            rounds += 1


def _wait(figures: Mapping[str, Any]) -> None:
    for value in figures.values():
        float(value)


# What is kept -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what the time of a step depends on besides the run itself."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = ("TF_NUM_", "TF_ENABLE_ONEDNN", "OMP_NUM_", "XLA_FLAGS", "TF_XLA_FLAGS")
    switches = sorted(name for name in os.environ if name.startswith(threads))
    return {
        "processor": processor(),
        "cores": usable,
        "gpus": [str(found.get("device_name", "GPU")) for found in details],
        "switches": {name: os.environ[name] for name in switches},
        "versions": [tf.__version__, keras.__version__],
    }


def processor() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def record_path(about: Mapping[str, Any]) -> Path:
    """Return the file that holds the choice for a kind of run on a kind of machine."""
    text = json.dumps(about, sort_keys=True, default=str)
    return user_cache() / "steps" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what is known of a kind of run; None if nothing is, or the file is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = {"step_s": float(record["step_s"])}
        if "way" in record:
            xla, steps = record["way"]["xla"], record["way"]["steps"]
            if not isinstance(xla, bool) or not isinstance(steps, int) or steps < 1:
                return None
            times = {str(way): float(value) for way, value in record["times_s"].items()}
            found |= {"way": {"xla": xla, "steps": steps}, "times_s": times}
        return found
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep what is known; where the folder cannot be written, the next run times again."""
    with contextlib.suppress(OSError), replacing(path) as beside:
        beside.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def settings_of(run: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings that the time of a step depends on.

    Parameters
    ----------
    run : UserParams
        Settings of the run.
    """
    names = ["task", "model", run.model, "input_shape", "scale", "bicubic_skip", "batch_size"]
    names += ["precision", "loss", "pretrain_loss", "metrics", "optimizer", "clip_norm", "ema"]
    known = run.resolved()
    for name in names:
        yield name, known.get(name)
    yield "loss settings", run.loss_params
    yield "judged", run.pretrain_epochs * 2 <= run.epochs
