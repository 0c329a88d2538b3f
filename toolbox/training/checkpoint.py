"""Exact resume: everything that the remaining training depends on, in one file.

A resumed run ends with the same bytes as an uninterrupted one (on a CPU, with the same settings).
The state therefore holds weights, the slots of every optimizer, moving averages, metric sums, the
states of all random generators and of the callbacks, and the progress of the training. The data
need no state: `toolbox.data_generator.DataGenerator.batch` is a pure function of seed and number.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.training.distribution import Distribution

#: Folder inside the log folder.
FOLDER = "checkpoint"
_KEPT = 2
_FACTS = "facts"


class Stateful(Protocol):
    """A callback that keeps a state from epoch to epoch."""

    def state(self) -> dict[str, Any]:
        """Return the state to save (JSON types)."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""


class Interrupted(KeyboardInterrupt):
    """Raised when a training run stopped by a signal has saved its state.

    Parameters
    ----------
    message : str
        How to resume.
    number : int
        Number of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number


@dataclass(frozen=True)
class Checkpoint:
    """A saved state.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    facts : dict
        ``epoch`` (complete epochs), ``step`` (completed steps of the next epoch), ``callbacks``,
        ``generators`` and entries added by the program.
    arrays : list of numpy.ndarray
        Values of `variables_of`.
    """

    path: Path
    facts: dict[str, Any]
    arrays: list[np.ndarray]

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return int(self.facts["epoch"])

    @property
    def step(self) -> int:
        """Number of completed steps of the following epoch."""
        return int(self.facts["step"])


def losses_are_finite(logs: Mapping[str, Any] | None) -> bool:
    """Return whether every loss among the figures is finite; other metrics may be NaN."""
    names = ("loss", "g_loss", "d_loss")
    losses = [float(v) for name, v in (logs or {}).items() if name.removeprefix("val_") in names]
    return bool(np.isfinite(losses).all())


def variables_of(model: Any) -> list[Any]:
    """Return every variable that training changes, in an order that depends only on the model.

    A constant learning rate is not included: a resumed training run uses that of its settings.
    """
    optimizers = [model.optimizer, getattr(model, "d_optimizer", None)]
    average = getattr(model, "average", None)
    groups = [model.variables, model.metrics_variables]
    groups += [optimizer.variables for optimizer in optimizers if optimizer is not None]
    # Inside a loss-scaling optimizer, Nadam does not list its running product.
    inner = [getattr(optimizer, "inner_optimizer", None) for optimizer in optimizers]
    hidden = [vars(optimizer).values() for optimizer in inner if optimizer is not None]
    groups += [[v for v in values if isinstance(v, keras.Variable)] for values in hidden]
    groups += [average.state] if average is not None else []
    groups += [[global_seed_generator().state]]
    rates = [_rate(optimizer) for optimizer in optimizers]
    unique = {id(v): v for group in groups for v in group}
    return [v for v in unique.values() if all(v is not rate for rate in rates)]


def _rate(optimizer: Any) -> Any:
    """Return the object that holds the learning rate, also inside a loss-scaling optimizer."""
    return getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)


def save_checkpoint(folder: Path, model: Any, facts: Mapping[str, Any]) -> Path | None:
    """Write a state and keep the last two; if writing fails, the earlier states remain.

    A state with NaN or infinity is not written, because it would displace a good one.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the states.
    model : keras.Model
        A compiled model.
    facts : dict
        JSON types, with ``epoch`` and ``step``.

    Returns
    -------
    pathlib.Path or None
        The file; None if no state was written.
    """
    values = [np.asarray(variable.numpy()) for variable in variables_of(model)]
    if not all(np.isfinite(value).all() for value in values):
        return None
    content = dict(zip(_names(len(values)), values, strict=True))
    everything = {**facts, "generators": _generators()}
    content[_FACTS] = np.frombuffer(json.dumps(everything).encode(), np.uint8)
    path = folder / f"state_{facts['epoch']:06d}_{facts['step']:07d}.npz"
    with replacing(path) as beside, open(beside, "wb") as stream:
        np.savez(stream, **content)  # type: ignore[arg-type]
        stream.flush()
        os.fsync(stream.fileno())
    # Later files could not be read: this training run started from an earlier state.
    later = [other for other in _files(folder) if other > path]
    for old in [*_files(folder)[: -_KEPT - len(later)], *later, *folder.glob(".state_*")]:
        old.unlink()
    return path


def _names(count: int) -> list[str]:
    return [f"{i:05d}" for i in range(count)]


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest readable state; None if the folder holds no state.

    Raises
    ------
    DataError
        If there are states but none can be read.
    """
    files = _files(folder)
    for path in reversed(files):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                names = sorted(name for name in stored.files if name != _FACTS)
                if names != _names(len(names)):
                    raise ValueError("some of its arrays are missing")
                facts = json.loads(stored[_FACTS].tobytes())
                return Checkpoint(path, facts, [stored[name] for name in names])
        except Exception as error:  # a damaged archive can raise anything
            print(f"{path}: cannot be read ({error}); trying the previous state", file=sys.stderr)
    if files:
        raise DataError(
            f"{folder}: no saved state can be read. Start the training run again with --overwrite."
        )
    return None


def restore_checkpoint(checkpoint: Checkpoint, model: Any) -> None:
    """Set every variable and random generator to the saved state.

    Raises
    ------
    DataError
        If the state belongs to another model.
    """
    variables = variables_of(model)
    shapes = [tuple(v.shape) for v in variables]
    if shapes != [a.shape for a in checkpoint.arrays]:
        raise DataError(
            f"{checkpoint.path}: belongs to another model ({len(checkpoint.arrays)} variables; "
            f"this one has {len(variables)}). Use the settings that it was trained with."
        )
    for variable, value in zip(variables, checkpoint.arrays, strict=True):
        variable.assign(value)
    _set_generators(checkpoint.facts["generators"])


@contextlib.contextmanager
def kept_state(model: Any) -> Iterator[None]:
    """Let steps be taken that leave no trace: what a saved state holds is as before afterwards.

    Parameters
    ----------
    model : keras.Model
        A compiled model whose optimizers are built.
    """
    variables = variables_of(model)
    values, generators = [variable.numpy() for variable in variables], _generators()
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        model.reset_metrics()
        _set_generators(generators)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("state_*.npz"))


def _generators() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (what Keras seeds)
    return {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}


def _set_generators(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002


class Checkpointer(keras.callbacks.Callback):
    """Saves the state at epoch ends, every few minutes and on a signal to stop; restores it.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the states.
    minutes : float
        Time between states within an epoch.
    memories : dict of str to Stateful
        Callbacks whose state is saved too. They come before this one.
    facts : dict
        Further entries of the state (JSON types).
    how_to_go_on : str
        The command that resumes, for the message of an interruption.
    start : Checkpoint, optional
        State to start from.
    distribution : Distribution, optional
        The workers, which stop together, and of which the chief alone writes; default one.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float,
        memories: Mapping[str, Stateful],
        facts: Mapping[str, Any],
        how_to_go_on: str,
        start: Checkpoint | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        super().__init__()
        self._distribution = distribution or Distribution()
        self.folder = folder
        self.minutes = minutes
        self._memories = memories
        self._facts = facts
        self._how_to_go_on = how_to_go_on
        self._start = start
        self._epoch = 0
        self._skipped = 0
        self._saved_at = time.monotonic()
        self._signal: int | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restore the state once; only here are all variables built and all metrics reset."""
        self._epoch, self._skipped = epoch, 0
        if self._start is None:
            # A run killed in its first epoch can resume too.
            if self._distribution.is_chief and not _files(self.folder):
                self._save(epoch, 0, logs)
            return
        restore_checkpoint(self._start, self.model)
        self._distribution.spread_seeds(self.model)
        for name, state in self._start.facts["callbacks"].items():
            if name in self._memories:
                self._memories[name].restore(state)
        self._skipped = self._start.step
        if not self._skipped:
            self.model.reset_metrics()  # the saved sums belong to the previous epoch
        self._start = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if a state is due or the user wants to stop."""
        step = self._skipped + batch + 1
        due = time.monotonic() - self._saved_at >= 60 * self.minutes or self._must_stop()
        if due and step < self.params["steps"]:  # after the last step, `on_epoch_end` saves
            self._save(self._epoch, step, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after every epoch."""
        self._save(epoch + 1, 0, logs)

    def _save(self, epoch: int, step: int, logs: Any) -> None:
        saved = None
        if losses_are_finite(logs) and self._distribution.is_chief:
            callbacks = {name: memory.state() for name, memory in self._memories.items()}
            facts = {**self._facts, "epoch": epoch, "step": step, "callbacks": callbacks}
            saved = save_checkpoint(self.folder, self.model, facts)
            self._saved_at = time.monotonic()
        if self._must_stop():
            number = self._signal or signal.SIGTERM
            word = "Ctrl-C" if number == signal.SIGINT else "a signal"
            word += "" if self._signal else " to another worker"
            where = f"after epoch {epoch}" + (f" and {step} steps of the next" if step else "")
            state = "the state is saved" if saved else "the loss is not a number, nothing is saved"
            state = state if self._distribution.is_chief else "worker 0 saves the state"
            message = f"by {word} {where}; {state}. Resume with: {self._how_to_go_on}"
            raise Interrupted(message, number)

    def _must_stop(self) -> bool:
        """Tell whether it is time to stop: of several workers all say the same."""
        if self._distribution.workers > 1:
            return self._distribution.stopping
        return self._signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM finish the step and save; a second one stops at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                line = f"at once. Resume from the last saved state with: {self._how_to_go_on}"
                raise Interrupted(line, number)
            self._signal = number
            self._distribution.asked = True
            os.write(2, b"\nfinishing the step, then saving ...\n")  # a print() may be in progress

        former = {}
        with contextlib.suppress(ValueError):  # only the main thread may handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                former[number] = signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
