"""Training: data in, weights and history out."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from sr_trainer.sources import open_source, pixel_nm_of
from sr_trainer.user_params import CONFIG_NAME, UserParams
from toolbox.tasks.bathymetry import validity
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
    TestLogger,
)
from toolbox.config import read_yaml
from toolbox.data_generator import DataGenerator, complete_pairs
from toolbox.errors import ConfigError, DataError
from toolbox.io.tables import write_table
from toolbox.io.weights import load_weights
from toolbox.model.adversarial import Adversarial
from toolbox.normalizer import (
    FILE_NAME,
    Normalizer,
    load_normalizer,
    normalizer_from,
    save_normalizer,
)
from toolbox.registry import LOSSES, METRICS, MODELS, NORMALIZERS, SOURCES
from toolbox.tasks.sem.cd_loss import CDLoss
from toolbox.training.checkpoint import FOLDER, Checkpoint, Checkpointer, load_checkpoint

#: Shifts and oddities of the pairs of pictures that a run learned from.
PAIR_REPORT = "pairs.csv"
#: Everything that a run writes into its log folder.
RUN_FILES = (
    FOLDER,  # first, so that what is left of a run cannot be resumed
    "history.csv",
    ".weights_*",
    "history_*.png",
    "weights_*.h5",
    ".best_model_on_*",
    "best_model_on_*.h5",
    "test_*.png",
    CONFIG_NAME,
    FILE_NAME,
    validity.FILE_NAME,
    PAIR_REPORT,
    "test_result",
)
#: Settings that a resumed run may change; the data are compared by content.
_FREE_SETTINGS = (
    "checkpoint_minutes",
    "collapse_patience",
    "d_learning_rate",
    "data_dir",
    "epochs",
    "final_evaluation",
    "learning_rate",
    "log_dir",
    "log_period",
    "metrology",
    "patience",
    "predict",
    "read_test_weights",
    "test_pictures",
)
#: Validation patches in which edges for `cdloss` are sought.
_EDGE_PATCHES = 64


class Trainer:
    """Trains a network on the data that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    overwrite : bool
        Replace a run that the log folder already holds.
    resume : bool
        Go on with it from its last saved state; without one, start.

    Attributes
    ----------
    steps_per_epoch : int
        Training steps in an epoch.
    normalizer : toolbox.normalizer.Normalizer
        Fitted on the training data only.
    train_data_generator, validation_data_generator : toolbox.data_generator.DataGenerator
        The data. A source that makes its own training batches gives a generator of its own.
    pixel_nm : float
        Size of an HR pixel in nm; 1 if the source does not know it.

    Raises
    ------
    ConfigError, DataError
        If the data do not fit the settings, the log folder holds another run, or the run cannot be
        resumed with these settings.
    """

    def __init__(self, u_params: UserParams, overwrite: bool = False, resume: bool = False) -> None:
        self.u_params = u_params
        self.overwrite = overwrite
        self._start = self._saved_state() if resume else None
        if self._start is None:
            # Without a state, a run that was killed before its first step may be resumed as well.
            self._refuse_other_run(started={CONFIG_NAME, FILE_NAME, FOLDER} if resume else set())
            if resume:
                print(f"no saved state in {u_params.log_dir}; the training starts at epoch 1")
        source = open_source(u_params)
        train, validation = _complete(source.train()), source.validation()
        check_shape(u_params, train[0])
        known_range = u_params.norm_range or getattr(source, "norm_range", None)
        self.normalizer = self._fit_normalizer(train, known_range or _range_of(train[1]))
        self.pixel_nm = pixel_nm_of(source)
        # What the network may be trusted with; a source of other images has no such range.
        self._validity = source.validity() if hasattr(source, "validity") else None
        self.train_data_generator = self._training_data(source, train)
        # Pairs of pictures are aligned and checked; what was found is told, and kept with the run.
        self._pair_report = source.report() if hasattr(source, "report") else []
        for note in getattr(source, "notes", ()):
            print(note, flush=True)
        self.validation_data_generator = DataGenerator(
            validation[0],
            validation[1],
            self.normalizer.normalize_pair,
            u_params.batch_size,
            seed=u_params.seed,
        )
        steps = self.train_data_generator.steps_per_epoch() * u_params.online_da.steps_per_epoch_mag
        self.steps_per_epoch = max(1, round(steps))
        count = self.train_data_generator.num_imgs
        if u_params.batch_size > count:
            raise ConfigError(
                f"{u_params.fname}: batch_size must not exceed the {count} training pairs; "
                f"received {u_params.batch_size}. Lower it or build a larger data set."
            )

    def _training_data(self, source: Any, train: tuple[np.ndarray, np.ndarray]) -> DataGenerator:
        """Return what serves the training batches: the source's own, if it has one."""
        p = self.u_params
        augmentations = p.online_da.steps()
        options: dict[str, Any] = {
            "norm_func": self.normalizer.normalize_pair,
            "batch_size": p.batch_size,
            "augmenter": Augmenter(augmentations) if augmentations else None,
            "seed": p.seed,
        }
        if hasattr(source, "training_data"):
            own: DataGenerator = source.training_data(**options)
            return own
        return DataGenerator(*train, **options)

    def _fit_normalizer(self, train: tuple[np.ndarray, ...], norm_range: Any) -> Normalizer:
        """Measure the constants; weights to start from keep the unit they were trained with."""
        p = self.u_params
        if self._start is not None and Path(p.log_dir, FILE_NAME).is_file():
            return load_normalizer(p.log_dir)
        fit = NORMALIZERS.resolve(p.normalizer.name).fit
        fitted: Normalizer = fit(train[0], train[1], norm_range, **p.normalizer.options())
        beside = Path(p.fname_model_weights or ".").parent
        if p.fname_model_weights is None or not (beside / FILE_NAME).is_file():
            return fitted
        former, state = load_normalizer(beside), fitted.state()
        same = former.name == fitted.name and former.state().get("window") == state.get("window")
        if same and "unit" in state:
            state["unit"] = former.unit
        return normalizer_from({"name": fitted.name, **state})

    def _saved_state(self) -> Checkpoint | None:
        """Return the state to go on from, checked against the settings."""
        p = self.u_params
        start = load_checkpoint(Path(p.log_dir, FOLDER))
        if start is None:
            return None
        p.fname_model_weights = start.facts.get("started_from")
        if p._free_seed:
            p.seed = start.facts["settings"]["seed"]
        # Read again, settings that are younger than the state have the defaults it was made with.
        former = UserParams(p.fname, start.facts["settings"], where=str(start.path))
        asked, trained = p.resolved(), former.resolved()
        named = {p.model, *p.figure_names()}
        for key in sorted((asked.keys() | trained.keys()) - set(_FREE_SETTINGS)):
            if key in named or key not in (*MODELS, *LOSSES, *METRICS):
                free = getattr(SOURCES.resolve(p.source), "FREE_SETTINGS", ())
                ignored = free if key == p.source else ()
                _refuse_change(p.fname, key, trained.get(key), asked.get(key), ignored)
        return start

    def _refuse_other_run(self, started: set[str]) -> None:
        folder = Path(self.u_params.log_dir)
        found = [path for pattern in RUN_FILES for path in folder.glob(pattern)]
        if not found or {path.name for path in found} <= started:
            return
        if not self.overwrite:
            resumable = next((folder / FOLDER).glob("state_*"), None) is not None
            advice = "Go on with it with --resume, replace" if resumable else "Replace"
            raise ConfigError(
                f"{self.u_params.fname}: log_dir {folder} already holds a run ({found[0].name}). "
                f"{advice} it with --overwrite, or name another log_dir."
            )

    def _remove_old_run(self) -> None:
        for pattern in RUN_FILES:
            for path in Path(self.u_params.log_dir).glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def reset_weights(self, model: keras.Model) -> None:
        """Draw new initial weights (kernels and biases) for `model`."""
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
            Further callbacks, called before a state is saved.

        Returns
        -------
        keras.callbacks.History
            Losses and metrics of every epoch.

        Raises
        ------
        DataError
            If the loss is no longer a number, or the discriminator has won.
        """
        p = self.u_params
        generators = self.train_data_generator, self.validation_data_generator
        data = [generator.fingerprint() for generator in generators]
        started_from = p.fname_model_weights
        facts = {"settings": p.resolved(), "data": data, "pixel_nm": self.pixel_nm}
        own = self._callbacks({**facts, "started_from": started_from}, callbacks)
        self._set_up(model, data)
        if self._start is not None and self._is_complete(self._start, own):
            return _history(own, model)
        folder = self._prepare_folder()
        self._fit(model, own)
        self._report_trouble(own, folder)
        history = _history(own, model)
        best = _best(history, p)
        which = f"the best was {best}" if best else f"{p.monitor_metric} was never a number"
        print(f"trained {len(history.epoch)} epochs, {which}; written to {folder}")
        if p.final_evaluation and best:
            self.evaluate_final_model(model)
        return history

    def evaluate_final_model(self, model: keras.Model) -> dict[str, float]:
        """Evaluate the best weights, as read from their file, on the validation data; print it.

        Parameters
        ----------
        model : keras.Model
            A compiled model; afterwards it has the weights that it had before.

        Returns
        -------
        dict of str to float
            Every figure of the validation, by the name of its column (``val_loss``, ...).

        Raises
        ------
        WeightsError
            If there is no ``weights_best.h5`` in the log folder.
        """
        p, network = self.u_params, getattr(model, "network", lambda: model)()
        last = network.get_weights()
        try:
            load_weights(model, Path(p.log_dir, "weights_best.h5"))
            data = self.validation_data_generator.evaluation_dataset()
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

    def _set_up(self, model: Any, data: list[int]) -> None:
        """Make everything that a state holds, and refuse what cannot be trained."""
        p, steps, start = self.u_params, self.steps_per_epoch, self._start
        if start is not None and start.facts["data"] != data:
            raise DataError(
                f"{p.data_dir}: the training or validation pairs are not those of the saved state "
                f"in {p.log_dir}. Mend data_dir, or train anew with --overwrite."
            )
        # States of former versions do not know it.
        former = self.pixel_nm if start is None else start.facts.get("pixel_nm", self.pixel_nm)
        if not math.isclose(former, self.pixel_nm, rel_tol=1e-6):
            raise DataError(
                f"{p.data_dir}: pixel_nm must be {former:g} as in the run to be resumed; received "
                f"{self.pixel_nm:g}. Mend dataset.json or the files, or train anew with "
                f"--overwrite."
            )
        if start is None and p.fname_model_weights is not None:
            load_weights(model, p.fname_model_weights)
            _warn_of_other_settings(p)
        # What a loss or metric refuses, it refuses before the run.
        self._check_edges()
        blank = tf.zeros((1, *self.train_data_generator.raw_hr_imgs.shape[1:]))
        if p.pretrain_epochs:
            model.pixel_loss(blank, blank)
        if p.pretrain_epochs < p.epochs:
            model.loss(blank, blank)
        model.compute_metrics(None, blank, blank)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if p.ema is not None:
            model.keep_average(p.ema)
        # Keras runs whole executions, so an epoch and what is left of it must hold a whole number.
        left = steps - (start.step if start is not None else 0)
        wanted = model.steps_per_execution
        model.steps_per_execution = _largest_divisor(math.gcd(steps, left), wanted)
        print(
            f"{p.precision}, XLA {'on' if model.jit_compile else 'off'}, "
            f"{model.steps_per_execution} training steps a call",
            flush=True,
        )

    def _check_edges(self) -> None:
        """Refuse a run whose `cdloss` is 0 whatever the network does, as HR has no edge."""
        p, data = self.u_params, self.validation_data_generator
        if "cdloss" not in p.figure_names() or p.loss_params["cdloss"]["form"] != "width":
            return
        count = len(data.raw_hr_imgs)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _EDGE_PATCHES)).astype(int))
        low, high = data.raw_lr_imgs[chosen], data.raw_hr_imgs[chosen]
        loss = CDLoss(max_val=self.normalizer.max_val, **p.loss_params["cdloss"])
        if loss.count_edges(self.normalizer.normalize_pair(low, high)[1]):
            return
        contrast = float(np.nanmax(np.ptp(high, axis=(1, 2, 3))))
        raise ConfigError(
            f"{p.fname}: cdloss must find edges of lines in the HR validation images, but finds "
            f"none, so it would always be 0; received a contrast of at most {contrast:g} in a "
            f"range of {self.normalizer.data_range:g}. Set norm_range to what the files hold, "
            f"cdloss.lines to how the lines run, or leave cdloss out and set monitor_metric: "
            f"val_psnr."
        )

    def _fit(self, model: Any, callbacks: dict[str, Any]) -> None:
        """Call ``fit`` for every part of the training that is left."""
        p, steps = self.u_params, self.steps_per_epoch
        shared = keras.callbacks.CallbackList(
            list(callbacks.values()), True, model=model, epochs=p.epochs, steps=steps
        )
        try:
            with callbacks["checkpoints"].listening():
                for first, last, skipped in self._parts():
                    if isinstance(model, Adversarial):
                        model.set_stage(first >= p.pretrain_epochs)
                    model.fit(
                        self.train_data_generator.training_dataset(first * steps + skipped),
                        steps_per_epoch=steps - skipped,
                        initial_epoch=first,
                        epochs=last,
                        validation_data=self.validation_data_generator.evaluation_dataset(),
                        callbacks=shared,
                        verbose=0,
                        shuffle=False,
                    )
                    if model.stop_training:
                        break
        finally:
            callbacks["progress"].close()

    def _parts(self) -> list[tuple[int, int, int]]:
        """Return (first epoch, last epoch, steps already done of the first) of every ``fit``."""
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
        """Tell whether nothing is left to do, and say so."""
        p = self.u_params
        memories = start.facts["callbacks"]
        reason = ""
        if start.epoch >= p.epochs:
            reason = f"all {p.epochs} epochs are done. Raise epochs to go on"
        elif p.patience is not None and memories.get("patience", {}).get("wait", 0) >= p.patience:
            verb = "risen" if p.monitor_mode == "max" else "fallen"
            reason = (
                f"{p.monitor_metric} has not {verb} for {p.patience} epochs. Raise patience to go "
                f"on"
            )
        elif p.collapse_patience is not None:
            wait = memories.get("collapse", {}).get("wait", 0)
            if wait >= p.collapse_patience:
                raise DataError(
                    f"{p.log_dir}: cannot be resumed, the discriminator has won for {wait} epochs "
                    f"in a row. Train anew with --overwrite, raise collapse_patience or set it to "
                    f"null."
                )
        if not reason:
            print(f"going on after {start.epoch} epochs and {start.step} steps")
            return False
        callbacks["history"].restore(memories["history"])
        print(f"nothing to resume in {p.log_dir}: {reason}")
        return True

    def _report_trouble(self, callbacks: dict[str, Any], folder: Path) -> None:
        p = self.u_params
        nan, collapse = callbacks["nan"], callbacks.get("collapse")
        if nan.stopped_epoch is not None:
            raise DataError(
                f"the loss of epoch {nan.stopped_epoch} is not a number. Lower learning_rate "
                f"(now {p.learning_rate:g}); {_kept(folder, 'best')}."
            )
        if collapse is not None and collapse.stopped_epoch is not None:
            raise DataError(
                f"the discriminator has won: d_loss stayed below {collapse.threshold:g} for "
                f"{collapse.patience} epochs up to epoch {collapse.stopped_epoch}, so the "
                f"generator learns nothing from it. Raise pretrain_epochs, "
                f"{'label_noise' if p.model == 'srgan' else 'dropout_rate'}, lower "
                f"d_learning_rate or d_filters, or set collapse_patience: null; "
                f"{_kept(folder, 'last')}."
            )

    def _prepare_folder(self) -> Path:
        """Make the log folder and write down the settings; nothing is touched before."""
        if self.overwrite:
            self._remove_old_run()
        folder = Path(self.u_params.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob(".*.tmp*"):  # a run that was killed while it wrote
            torn.unlink()
        self.u_params.save(folder)
        save_normalizer(self.normalizer, folder)
        if self._validity is not None:
            validity.save_validity(self._validity, folder)
        if self._pair_report:
            write_table(pd.DataFrame(self._pair_report), folder / PAIR_REPORT)
        return folder

    def _callbacks(
        self, facts: dict[str, Any], further: Sequence[keras.callbacks.Callback]
    ) -> dict[str, Any]:
        p, start = self.u_params, self._start
        # Those that stop the training come first, so that the others know the last epoch; the
        # state is saved when all the others are done.
        callbacks: dict[str, Any] = {"nan": StopOnNaN()}
        monitored = p.monitor_metric, p.monitor_mode
        if p.lr_schedule.name == "plateau":
            callbacks["plateau"] = self._plateau()
        if p.patience is not None:
            callbacks["patience"] = EarlyStopping(p.patience, p.pretrain_epochs, *monitored)
        if p.collapse_patience is not None:
            callbacks["collapse"] = StopOnCollapse(p.collapse_patience)
        callbacks["model"] = ModelLogger(p.log_dir, p.log_period, p.pretrain_epochs, *monitored)
        callbacks["history"] = HistoryLogger(p.log_dir, p.log_period)
        memories = {name: c for name, c in callbacks.items() if hasattr(c, "restore")}
        callbacks["pictures"] = TestLogger(
            p.log_dir,
            p.log_period,
            self.validation_data_generator,
            self.normalizer,
            data_range=self.normalizer.data_range,
            data_min=self.normalizer.data_min,
        )
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
            f"python main.py {shlex.quote(p.fname)} train{_algo(p)} --resume",
            start,
        )
        return callbacks

    def _plateau(self) -> PlateauSchedule:
        p, schedule = self.u_params, self.u_params.lr_schedule
        rates = {"optimizer": p.learning_rate}
        if issubclass(MODELS.resolve(p.model), Adversarial):
            rates["d_optimizer"] = p.d_learning_rate or p.learning_rate
        return PlateauSchedule(
            rates,
            schedule.gamma,
            schedule.plateau_epochs,
            schedule.final,
            p.monitor_metric,
            p.monitor_mode,
            p.pretrain_epochs,
        )


def _algo(u_params: UserParams) -> str:
    """Return the option of the command line that names another network than the file."""
    asked = u_params.asked_model
    return "" if asked is None else f" --algo {shlex.quote(asked)}"


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
            f"Change it back, or train anew with --overwrite."
        )


def _warn_of_other_settings(u_params: UserParams) -> None:
    """Say it if the weights to start from were trained to see or to give something else."""
    beside = Path(str(u_params.fname_model_weights)).parent / CONFIG_NAME
    if not beside.is_file():
        return
    trained, asked = read_yaml(beside), u_params.resolved()
    for key in ("scale", "normalizer", "bicubic_skip"):
        if trained.get(key) != asked.get(key):
            print(
                f"WARNING: {u_params.fname_model_weights} was trained with {key} "
                f"{trained.get(key)}, this run has {asked.get(key)}; it starts far from its aim."
            )


def _history(callbacks: dict[str, Any], model: keras.Model) -> keras.callbacks.History:
    """Return all epochs of the run, also those before it was resumed."""
    history, logger = keras.callbacks.History(), callbacks["history"]
    history.epoch = [epoch - 1 for epoch in logger.epochs]
    history.history = dict(logger.logs)
    model.history = history
    return history


def _best(history: keras.callbacks.History, u_params: UserParams) -> int | None:
    """Return the number of the best epoch, after the pixel stage if there was more; None if none.

    That is the first of those with the best figure, as for the weights.
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


def _kept(folder: Path, which: str) -> str:
    """Say where the weights of the best or the last complete epoch are, if there are any."""
    if not (folder / f"weights_{which}.h5").is_file():
        which = "last"
    path = folder / f"weights_{which}.h5"
    if not path.is_file():
        return "no epoch was complete, so there are no weights"
    return f"the weights of the {which} complete epoch are in {path}"


def _complete(pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Leave out pairs with a missing pixel, from which no constant may be taken."""
    whole = complete_pairs(*pairs)
    if not whole.any():
        raise DataError(
            f"all {len(whole)} training pairs hold a missing pixel (NaN or infinity). Build the "
            f"data set from another region."
        )
    return pairs if whole.all() else (pairs[0][whole], pairs[1][whole])


def _range_of(hr: np.ndarray) -> tuple[float, float]:
    low, high = float(hr.min()), float(hr.max())
    if not high > low:
        raise DataError(
            f"the training images are flat ({low} everywhere); there is nothing to "
            f"learn. Build the data set from another region."
        )
    return low, high


def check_shape(u_params: UserParams, lr: np.ndarray) -> None:
    """Refuse images that are not of the shape the settings announce."""
    if lr.shape[1:] != tuple(u_params.input_shape):
        raise ConfigError(
            f"{u_params.fname}: input_shape must be that of the LR images in "
            f"{u_params.data_dir}, {list(lr.shape[1:])}; received {list(u_params.input_shape)}. "
            f"Change that line."
        )
