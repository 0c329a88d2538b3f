"""Training: from data to weights and history."""

from __future__ import annotations

import functools
import math
import os
import shlex
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from toolbox.augment import Augmenter
from toolbox.callbacks import (
    AverageSwapper,
    EarlyStopping,
    HistoryLogger,
    ModelLogger,
    PlateauSchedule,
    ProgressLogger,
    StopOnCollapse,
    StopOnNaN,
)
from toolbox.config import read_yaml
from toolbox.data_generator import Batches, Spec, example_of
from toolbox.errors import ConfigError, DataError
from toolbox.io.image_stack import extent
from toolbox.io.weights import load_weights
from toolbox.model.base import SRModel
from toolbox.normalizer import FILE_NAME, Normalizer, load_normalizer
from toolbox.registry import CHECKS, LOSSES, METRICS, MODELS, NORMALIZERS
from toolbox.settings import CONFIG_NAME, UserParams
from toolbox.task import check_shape, open_source, open_task, source_class
from toolbox.training.checkpoint import FOLDER, Checkpoint, Checkpointer, load_checkpoint
from toolbox.training.distribution import COMMAND, open_distribution
from toolbox.training.run_folder import RunFolder
from toolbox.training.tuning import Question, Way, choose, settings_of

#: Settings that a resumed run may change; the data are compared by content.
_FREE_SETTINGS = (
    "checkpoint_minutes",
    "collapse_patience",
    "d_learning_rate",
    "data_dir",
    "distribution",
    "epochs",
    "final_evaluation",
    "learning_rate",
    "log_dir",
    "log_period",
    "patience",
    "predict",
    "read_test_weights",
    "test_pictures",
)


class Trainer:
    """Trains a network on the data that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    overwrite : bool
        Replace an existing run in the log folder.
    resume : bool
        Resume that run from its last saved state; start from scratch if there is none.

    Attributes
    ----------
    steps_per_epoch : int
        Training steps per epoch.
    normalizer : toolbox.normalizer.Normalizer
        Fitted on the training data only.
    task : toolbox.task.Task
        Task of the run.
    source : toolbox.task.Source
        The data.
    train_data_generator, validation_data_generator : toolbox.data_generator.Batches
        Training and validation batches.
    facts : dict
        Properties of the data for losses and metrics.

    Raises
    ------
    ConfigError, DataError
        If the data do not fit the settings, the log folder holds another run, or the run cannot be
        resumed with these settings.
    """

    def __init__(self, u_params: UserParams, overwrite: bool = False, resume: bool = False) -> None:
        self.u_params = u_params
        self.overwrite = overwrite
        self.folder = RunFolder(u_params)
        self.task = open_task(u_params.task)
        self.distribution = open_distribution(u_params.distribution, u_params.fname)
        self.distribution.refuse_batch_size(u_params.fname, u_params.batch_size)
        self._start = self._saved_state() if resume else None
        if self._start is None and self.distribution.is_chief:
            # A run that was killed before its first saved state may be resumed too.
            started = (CONFIG_NAME, FILE_NAME, FOLDER, *self.task.run_files) if resume else ()
            self.folder.refuse_other_run(started, overwrite)
            if resume:
                print(f"no saved state in {u_params.log_dir}; training starts at epoch 1")
        self.source = open_source(u_params)
        self.normalizer = self._fit_normalizer()
        self.train_data_generator = self._batches("train")
        self.validation_data_generator = self._batches("validation")
        # Only now are all data open; properties of the first file need not hold for the others.
        self.facts = self.source.facts()
        self._records = self.source.records()
        for note in self.source.notes:
            print(note, flush=True)
        steps = self.train_data_generator.steps_per_epoch() * u_params.online_da.steps_per_epoch_mag
        self.steps_per_epoch = max(1, round(steps))
        count = self.train_data_generator.num_imgs
        if u_params.batch_size > count:
            raise ConfigError(
                f"{u_params.fname}: batch_size must not exceed the {count} training pairs; "
                f"received {u_params.batch_size}. Lower it or build a larger data set."
            )

    def _batches(self, split: str) -> Batches:
        p = self.u_params
        augmentations = p.online_da.steps() if split == "train" else []
        batches = self.source.batches(
            split,
            self.normalizer.normalize_pair,
            p.batch_size,
            Augmenter(augmentations) if augmentations else None,
            p.seed,
        )
        shape = batches.input_spec.shape if isinstance(batches.input_spec, Spec) else None
        if shape is not None:  # tasks check nested inputs themselves
            check_shape(p, shape)
        return batches

    def _fit_normalizer(self) -> Normalizer:
        """Fit the constants; initial weights keep the unit that they were trained with."""
        p = self.u_params
        if self._start is not None and self.folder.path.joinpath(FILE_NAME).is_file():
            return load_normalizer(p.log_dir)
        sample = self.source.sample()
        norm_range = p.norm_range or self.source.norm_range or _range_of(sample[1])
        fit = NORMALIZERS.resolve(p.normalizer.name).fit
        fitted: Normalizer = fit(*sample, norm_range, **p.normalizer.options())
        beside = Path(p.fname_model_weights or ".").parent
        if p.fname_model_weights is None or not (beside / FILE_NAME).is_file():
            return fitted
        return fitted.with_unit_of(load_normalizer(beside))

    def _saved_state(self) -> Checkpoint | None:
        """Return the state to resume from, checked against the settings."""
        p = self.u_params
        start = load_checkpoint(Path(p.log_dir, FOLDER))
        if start is None:
            return None
        p.fname_model_weights = start.facts.get("started_from")
        if p._free_seed:
            p.seed = start.facts["settings"]["seed"]
        # Parsed again, so that settings newer than the state get their defaults.
        former = UserParams(p.fname, start.facts["settings"], where=str(start.path))
        for key in ("jit_compile", "steps_per_execution"):  # auto is what the run began with
            if getattr(p, key) is None:
                setattr(p, key, getattr(former, key))
        asked, trained = p.resolved(), former.resolved()
        named = {p.model, *p.figure_names()}
        free = {*_FREE_SETTINGS, *self.task.free_settings}
        for key in sorted((asked.keys() | trained.keys()) - free):
            if key in named or key not in (*MODELS, *LOSSES, *METRICS):
                ignored = source_class(p.source).free_settings if key == p.source else ()
                _refuse_change(p.fname, key, trained.get(key), asked.get(key), ignored)
        return start

    def reset_weights(self, model: keras.Model) -> None:
        """Draw new initial weights (kernels and biases) for `model`, in place."""
        model.set_weights(model.fresh_weights())

    def train(
        self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> keras.callbacks.History:
        """Train `model` and write everything into the log folder.

        Parameters
        ----------
        model : keras.Model
            A compiled model.
        callbacks : sequence of keras.callbacks.Callback
            Additional callbacks, called before a state is saved.

        Returns
        -------
        keras.callbacks.History
            Losses and metrics of every epoch.

        Raises
        ------
        DataError
            If the loss is not finite, or the discriminator has won.
        """
        p = self.u_params
        generators = self.train_data_generator, self.validation_data_generator
        data = [generator.fingerprint() for generator in generators]
        facts = {"settings": p.resolved(), "data": data, **self.facts}
        facts["started_from"] = p.fname_model_weights
        own = self._callbacks(facts, callbacks)  # which refuse images that they cannot draw
        with self.distribution.scope():
            self._set_up(model, data)
        facts["settings"] = p.resolved()  # with the way of training that was chosen
        self._agree(data)
        if self._start is not None and self._is_complete(self._start, own):
            return _history(own, model)
        if self.distribution.is_chief:
            self.folder.prepare(self._records, self.normalizer, self.overwrite)
        self._fit(model, own)
        self._report_trouble(own, model)
        if self.distribution.workers > 1:
            checksum = self.distribution.same_weights(getattr(model, "network", lambda: model)())
            print(f"all workers have the same weights, CRC-32 {checksum:08x}", flush=True)
        history = _history(own, model)
        best = _best(history, p)
        which = f"best epoch {best}" if best else f"{p.monitor_metric} was never a number"
        count = _counted(len(history.epoch), "epoch")
        print(f"trained {count}, {which}; written to {self.folder.path}")
        if p.final_evaluation and best:
            self.evaluate_final_model(model)
        return history

    def evaluate_final_model(self, model: keras.Model) -> dict[str, float]:
        """Evaluate the saved best weights on the validation data, and print the figures.

        Parameters
        ----------
        model : keras.Model
            A compiled model; its own weights are restored afterwards.

        Returns
        -------
        dict of str to float
            Validation figures by column name (``val_loss``, ...).

        Raises
        ------
        WeightsError
            If there is no ``weights_best.h5`` in the log folder.
        """
        p, network = self.u_params, getattr(model, "network", lambda: model)()
        last = network.get_weights()
        try:
            if self.distribution.is_chief:
                load_weights(model, Path(p.log_dir, "weights_best.h5"))
            if self.distribution.workers > 1:
                network.set_weights(self.distribution.from_chief(network.get_weights()))
            data = self.distribution.evaluation_dataset(self.validation_data_generator)
            found = model.evaluate(data, verbose=0, return_dict=True)
        finally:
            network.set_weights(last)
        figures = {f"val_{name}": float(value) for name, value in found.items()}
        shown = [f"val_{name}" for name in p.metrics]
        shown = shown if p.monitor_metric in shown else [p.monitor_metric, *shown]
        best = _best(model.history, p) if getattr(model, "history", None) is not None else None
        print(
            f"best model ({f'epoch {best}, ' if best else ''}monitored {p.monitor_metric}): "
            + ", ".join(f"{name} {figures[name]:.4g}" for name in shown if name in figures)
        )
        return figures

    def _agree(self, data: list[int]) -> None:
        """Refuse workers with other settings, data or saved states than the chief's."""
        if self.distribution.workers == 1:
            return
        settings, start = self.u_params.resolved(), self._start
        for key in ("log_dir", "data_dir"):  # a folder may be mounted elsewhere
            settings.pop(key)
        state = None if start is None else [start.facts, [zlib.crc32(a.data) for a in start.arrays]]
        told = {
            f"{self.u_params.fname}: the settings": settings,
            f"{self.u_params.data_dir}: the training and validation data": data,
            f"{self.u_params.log_dir}: the saved state to resume from": state,
        }
        facts = {name: zlib.crc32(repr(value).encode()) for name, value in told.items()}
        self.distribution.refuse_differences(facts)

    def _set_up(self, model: Any, data: list[int]) -> None:
        """Prepare everything that a state holds, and refuse what cannot be trained."""
        p, steps, start = self.u_params, self.steps_per_epoch, self._start
        if start is not None and start.facts["data"] != data:
            raise DataError(
                f"{p.data_dir}: the training or validation pairs are not those of the saved state "
                f"in {p.log_dir}. Fix data_dir, or start again with --overwrite."
            )
        for name, value in self.facts.items():
            # States of earlier versions may lack it.
            former = value if start is None else start.facts.get(name, value)
            if np.shape(former) != np.shape(value) or not np.allclose(former, value, rtol=1e-6):
                raise DataError(
                    f"{p.data_dir}: {name} must be {_told(former)} as in the run to be resumed; "
                    f"received {_told(value)}. Fix dataset.json or the files, or start again with "
                    f"--overwrite."
                )
        if start is None and p.fname_model_weights is not None:
            load_weights(model, p.fname_model_weights)
            _warn_of_other_settings(p)
        self.task.check_data(p, self.source, self.validation_data_generator, self.normalizer)
        for name in sorted(p.figure_names() & set(CHECKS)):
            CHECKS.resolve(name)(p, self.validation_data_generator, self.normalizer)
        # A loss or metric that refuses the data does so here, before the run.
        blank = example_of(self.train_data_generator.target_spec)
        blank = tf.nest.map_structure(tf.constant, blank)
        if p.pretrain_epochs:
            model.pixel_loss(blank, blank)
        if p.pretrain_epochs < p.epochs:
            model.loss(blank, blank)
        model.compute_metrics(None, blank, blank)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if p.ema is not None:
            model.keep_average(p.ema)
        # Keras runs whole executions: their steps must divide the epoch and the rest of it.
        left = steps - (start.step if start is not None else 0)
        whole = math.gcd(steps, left)
        way = self._choose_way(model, functools.partial(_largest_divisor, whole))
        spread, count = self.distribution, model.steps_per_execution
        where = "" if spread.strategy is None else f"{spread.described}, "
        note = "" if way.steps == count else f" ({way.steps} do not divide {whole} steps)"
        print(
            f"{where}{p.precision}, XLA {'on' if model.jit_compile else 'off'}, "
            f"{count} training step{'s' if count > 1 else ''} a call{note}",
            flush=True,
        )

    def _choose_way(self, model: Any, fitting: Callable[[int], int]) -> Way:
        """Set XLA and the steps a call as the settings say, or as is fastest here; return both."""
        p, wanted = self.u_params, model.steps_per_execution
        way = Way(bool(model.jit_compile), wanted)
        if self._start is None:  # a resumed run has what it began with
            free = p.jit_compile is None, p.steps_per_execution is None
            total = p.epochs * self.steps_per_epoch
            if isinstance(model, SRModel):  # the stage that most of the run is in
                model.set_stage(p.pretrain_epochs * 2 <= p.epochs)
            question = Question(way, *free, total, fitting, dict(settings_of(p)))
            way, line = choose(model, self.train_data_generator.training_dataset, question)
            if line:  # a choice that was timed is kept with the run
                print(line, flush=True)
                p.jit_compile, p.steps_per_execution = way.xla, way.steps
        if way.xla != model.jit_compile:
            model.jit_compile = way.xla
        model.steps_per_execution = fitting(way.steps)
        return way

    def _fit(self, model: Any, callbacks: dict[str, Any]) -> None:
        """Call ``fit`` for every remaining part of the training run."""
        p, steps, spread = self.u_params, self.steps_per_epoch, self.distribution
        shared = keras.callbacks.CallbackList(
            list(callbacks.values()), True, model=model, epochs=p.epochs, steps=steps
        )
        try:
            with callbacks["checkpoints"].listening():
                for first, last, skipped in self._parts():
                    if isinstance(model, SRModel):
                        model.set_stage(first >= p.pretrain_epochs)
                    model.fit(
                        spread.training_dataset(self.train_data_generator, first * steps + skipped),
                        steps_per_epoch=steps - skipped,
                        initial_epoch=first,
                        epochs=last,
                        validation_data=spread.evaluation_dataset(self.validation_data_generator),
                        callbacks=shared,
                        verbose=0,
                        shuffle=False,
                    )
                    if model.stop_training:
                        break
        except tf.errors.OpError:
            for batches in (self.train_data_generator, self.validation_data_generator):
                if batches.failure is not None:
                    raise DataError(
                        f"{batches.failure} The run stopped there; continue it with --resume."
                    ) from None
            raise
        finally:
            callbacks["progress"].close()

    def _parts(self) -> list[tuple[int, int, int]]:
        """Return (first epoch, last epoch, completed steps of the first) of every ``fit``."""
        p, start = self.u_params, self._start
        epoch, done = (start.epoch, start.step) if start is not None else (0, 0)
        parts = []
        if done:
            parts.append((epoch, epoch + 1, done))
            epoch += 1
        for last in (p.pretrain_epochs, p.epochs):
            if epoch < last:
                parts.append((epoch, last, 0))
                epoch = last
        return parts

    def _is_complete(self, start: Checkpoint, callbacks: dict[str, Any]) -> bool:
        """Return whether the run is complete, and print what happens."""
        p = self.u_params
        memories = start.facts["callbacks"]
        reason = ""
        if start.epoch >= p.epochs:
            reason = f"all {p.epochs} epochs are done. Raise epochs to continue"
        elif p.patience is not None and memories.get("patience", {}).get("wait", 0) >= p.patience:
            verb = "risen" if p.monitor_mode == "max" else "fallen"
            reason = (
                f"{p.monitor_metric} has not {verb} for {p.patience} epochs. Raise patience to "
                f"continue"
            )
        elif p.collapse_patience is not None:
            wait = memories.get("collapse", {}).get("wait", 0)
            if wait >= p.collapse_patience:
                raise DataError(
                    f"{p.log_dir}: cannot be resumed, the discriminator has won for {wait} epochs "
                    f"in a row. Start again with --overwrite, raise collapse_patience or set it to "
                    f"null."
                )
        if not reason:
            done = f"{_counted(start.epoch, 'epoch')} and {_counted(start.step, 'step')}"
            print(f"resuming after {done}")
            return False
        callbacks["history"].restore(memories["history"])
        print(f"nothing to resume in {p.log_dir}: {reason}")
        return True

    def _report_trouble(self, callbacks: dict[str, Any], model: Any) -> None:
        p = self.u_params
        nan, collapse = callbacks["nan"], callbacks.get("collapse")
        if nan.stopped_epoch is not None:
            raise DataError(
                f"the loss of epoch {nan.stopped_epoch} is not a number. Lower learning_rate "
                f"(now {p.learning_rate:g}); {self.folder.kept('best')}."
            )
        if collapse is not None and collapse.stopped_epoch is not None:
            raise DataError(
                f"the discriminator has won: d_loss stayed below {collapse.threshold:g} for "
                f"{collapse.patience} epochs up to epoch {collapse.stopped_epoch}, so the "
                f"generator learns nothing more from it. Raise pretrain_epochs, "
                f"{model.calming}, lower d_learning_rate or d_filters, or set "
                f"collapse_patience: null; {self.folder.kept('last')}."
            )

    def _callbacks(
        self, facts: dict[str, Any], further: Sequence[keras.callbacks.Callback]
    ) -> dict[str, Any]:
        p, start = self.u_params, self._start
        # Callbacks that stop training come first, so that the others know the last epoch. The
        # state is saved last.
        callbacks: dict[str, Any] = {"nan": StopOnNaN()}
        monitored = p.monitor_metric, p.monitor_mode
        if p.lr_schedule.name == "plateau":
            callbacks["plateau"] = self._plateau()
        if p.patience is not None:
            callbacks["patience"] = EarlyStopping(p.patience, p.pretrain_epochs, *monitored)
        if p.collapse_patience is not None:
            callbacks["collapse"] = StopOnCollapse(p.collapse_patience)
        chief = self.distribution.is_chief
        if chief:
            callbacks["model"] = ModelLogger(p.log_dir, p.log_period, p.pretrain_epochs, *monitored)
        callbacks["history"] = HistoryLogger(p.log_dir, p.log_period, writes=chief)
        memories = {name: c for name, c in callbacks.items() if hasattr(c, "restore")}
        pictures = None
        if chief:
            pictures = self.task.preview(p, self.validation_data_generator, self.normalizer)
        if pictures is not None:
            callbacks["pictures"] = pictures
        if p.ema is not None:
            callbacks["average"] = AverageSwapper()
        callbacks |= {f"further_{i}": callback for i, callback in enumerate(further)}
        done = 0 if start is None else start.epoch * self.steps_per_epoch + start.step
        callbacks["progress"] = ProgressLogger(self.steps_per_epoch, done)
        callbacks["checkpoints"] = Checkpointer(
            Path(p.log_dir, FOLDER),
            p.checkpoint_minutes,
            memories,
            facts,
            command_of(p),
            start,
            self.distribution,
        )
        return callbacks

    def _plateau(self) -> PlateauSchedule:
        p, schedule = self.u_params, self.u_params.lr_schedule
        return PlateauSchedule(
            MODELS.resolve(p.model).learning_rates(p),
            schedule.gamma,
            schedule.plateau_epochs,
            schedule.final,
            p.monitor_metric,
            p.monitor_mode,
            p.pretrain_epochs,
        )


def command_of(u_params: UserParams) -> str:
    """Return the command line that resumes a run."""
    if launched := os.environ.get(COMMAND):
        return f"{launched} --resume"
    options = ""
    for name in ("model", "distribution"):
        asked = getattr(u_params, f"asked_{name}")
        option = "algo" if name == "model" else name
        options += "" if asked is None else f" --{option} {shlex.quote(asked)}"
    options += u_params.further_options
    return f"python main.py {shlex.quote(u_params.fname)} train{options} --resume"


def _refuse_change(
    fname: str, key: str, trained: Any, asked: Any, ignored: Sequence[str] = ()
) -> None:
    if isinstance(trained, dict) and isinstance(asked, dict):
        for part in sorted((trained.keys() | asked.keys()) - set(ignored)):
            _refuse_change(fname, f"{key}.{part}", trained.get(part), asked.get(part))
    elif trained != asked:
        former, now = ("left out" if value is None else value for value in (trained, asked))
        raise ConfigError(
            f"{fname}: {key} must be {former} as in the run to be resumed; received {now}. "
            f"Change it back, or start again with --overwrite."
        )


def _warn_of_other_settings(u_params: UserParams) -> None:
    """Warn if the initial weights were trained for other inputs or outputs."""
    beside = Path(str(u_params.fname_model_weights)).parent / CONFIG_NAME
    if not beside.is_file():
        return
    trained, asked = read_yaml(beside), u_params.resolved()
    for key in ("scale", "normalizer", "bicubic_skip"):
        if trained.get(key) != asked.get(key):
            print(
                f"WARNING: {u_params.fname_model_weights} was trained with {key} "
                f"{trained.get(key)}, this run has {asked.get(key)}; the weights are a poor start."
            )


def _history(callbacks: dict[str, Any], model: keras.Model) -> keras.callbacks.History:
    """Return all epochs of the run, including those before it was resumed."""
    history, logger = keras.callbacks.History(), callbacks["history"]
    history.epoch = [epoch - 1 for epoch in logger.epochs]
    history.history = dict(logger.logs)
    model.history = history
    return history


def _best(history: keras.callbacks.History, u_params: UserParams) -> int | None:
    """Return the number of the best epoch, counted from 1; None if no figure is a number.

    If the run went beyond the pixel stage, its epochs do not count. Of several equal epochs, the
    first is the best, as for the weights.
    """
    first = u_params.pretrain_epochs if len(history.epoch) > u_params.pretrain_epochs else 0
    column = np.asarray(history.history.get(u_params.monitor_metric, [])[first:], float)
    column = np.where(np.isfinite(column), column, np.nan)
    if np.isnan(column).all():
        return None
    best = np.nanargmax if u_params.monitor_mode == "max" else np.nanargmin
    return first + int(best(column)) + 1


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _told(fact: Any) -> str:
    return ", ".join(f"{value:g}" for value in np.ravel(fact))


def _range_of(hr: np.ndarray) -> tuple[float, float]:
    low, high = extent(hr)
    if not high > low:
        raise DataError(
            f"the training images are flat ({low} everywhere), so there is nothing to "
            f"learn. Build the data set from another region."
        )
    return low, high
