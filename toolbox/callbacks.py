"""Callbacks of a training run: weights, history, test pictures, progress, early stops."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras

from toolbox.data_generator import DataGenerator
from toolbox.evaluator import Denormalize, Evaluator
from toolbox.io.atomic import replacing
from toolbox.io.weights import save_weights
from toolbox.normalizer import Normalizer
from toolbox.plotter import Plotter
from toolbox.progress import progress
from toolbox.style import Style
from toolbox.training.checkpoint import losses_are_finite

Logs = dict[str, float] | None
Mode = Literal["min", "max"]
#: The best weights of the stage before the adversarial one, in the log folder.
PIXEL_WEIGHTS = "weights_pixel.h5"


def is_due(callback: Any, epoch: int) -> bool:
    """Return whether the files of `epoch` (counted from 1) are due: by period, and for the last."""
    last = epoch == callback.params.get("epochs") or callback.model.stop_training
    return last or epoch % callback.log_period == 0


def figure(logs: Logs, name: str) -> float:
    """Return a figure of an epoch; NaN if it is missing or not finite."""
    value = float((logs or {}).get(name, math.nan))
    return value if math.isfinite(value) else math.nan


class ModelLogger(keras.callbacks.ModelCheckpoint):
    """Writes ``weights_best.h5``, ``weights_last.h5`` and periodically ``weights_*.h5``.

    If the monitored figure is not the validation loss, the best weights are also written as
    ``best_model_on_NAME.h5``.

    Parameters
    ----------
    log_dir : path-like
        Folder of the files.
    log_period : int
        Epochs between numbered files.
    pixel_epochs : int
        Epochs before the adversarial stage. Their best weights are kept as ``weights_pixel.h5``;
        after them, the search for the best weights restarts.
    monitor : str
        Column of the history that decides which weights are the best.
    mode : {'min', 'max'}
        Whether a small or a large value is good.

    Attributes
    ----------
    lowest : float
        Best value so far; negated if a large value is good.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        log_period: int = 10,
        pixel_epochs: int = 0,
        monitor: str = "val_loss",
        mode: Mode = "min",
    ) -> None:
        self.log_dir = Path(log_dir)
        self.log_period = log_period
        self.pixel_epochs = pixel_epochs
        self.lowest = math.inf
        super().__init__(
            str(self.log_dir / "weights_best.weights.h5"),
            monitor=monitor,
            mode=mode,
            save_best_only=True,
            save_weights_only=True,
        )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the weights of `epoch` (counted from 0), as ``weights_{epoch + 1}.h5``."""
        if not losses_are_finite(logs):
            return  # never replace good weights by NaN
        value = figure(logs, self.monitor) * (-1 if self.mode == "max" else 1)
        if value < self.lowest:
            self.lowest = value
            self._save_best()
        save_weights(self.model, self.log_dir / "weights_last.h5")
        if is_due(self, epoch + 1):
            save_weights(self.model, self.log_dir / f"weights_{epoch + 1}.h5")
        if epoch + 1 == self.pixel_epochs and (self.log_dir / "weights_best.h5").is_file():
            self._copy_best(PIXEL_WEIGHTS)
            self.lowest = math.inf

    def _save_best(self) -> None:
        save_weights(self.model, self.log_dir / "weights_best.h5")
        if self.monitor != "val_loss":
            self._copy_best(f"best_model_on_{self.monitor}.h5")

    def _copy_best(self, name: str) -> None:
        with replacing(self.log_dir / name) as beside:
            shutil.copyfile(self.log_dir / "weights_best.h5", beside)

    def state(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"lowest": self.lowest}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.lowest = float(state["lowest"])


class HistoryLogger(keras.callbacks.CSVLogger):
    """Appends to ``history.csv`` and draws ``history_*.png``.

    Parameters
    ----------
    log_dir : path-like
        Folder of the files.
    log_period : int
        Epochs between pictures.

    Attributes
    ----------
    epochs : list of int
        Epoch numbers, counted from 1.
    logs : dict of str to list of float
        Losses and metrics of all epochs; None for epochs without the figure.
    """

    def __init__(self, log_dir: str | os.PathLike[str], log_period: int = 10) -> None:
        self.log_dir = Path(log_dir)
        self.log_period = log_period
        self.epochs: list[int] = []
        self.logs: dict[str, list[float | None]] = {}
        self.plotter = Plotter()
        super().__init__(str(self.log_dir / "history.csv"), append=True)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Do nothing: the file is closed after each line, so that a crash loses none."""

    def on_train_end(self, logs: Logs = None) -> None:
        """Do nothing: no file is open."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add a line for `epoch` (counted from 0; the file counts from 1)."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        new = [name for name in values if name not in self.logs]
        for name in new:
            self.logs[name] = [None] * len(self.epochs)
        self.epochs.append(epoch + 1)
        for name, column in self.logs.items():
            column.append(values.get(name))
        if new:
            self._write()
        else:
            with open(self.filename, "a", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerow(self._row(-1))
        if is_due(self, epoch + 1):
            picture = self.log_dir / f"history_{epoch + 1}.png"
            self.plotter.plot_history_graph(self.epochs, self.logs, picture)

    def _row(self, index: int) -> list[Any]:
        return [self.epochs[index], *(self.logs[name][index] for name in sorted(self.logs))]

    def _write(self) -> None:
        with (
            replacing(self.filename) as beside,
            open(beside, "w", newline="", encoding="utf-8") as out,
        ):
            lines = csv.writer(out)
            lines.writerow(["epoch", *sorted(self.logs)])
            lines.writerows(self._row(i) for i in range(len(self.epochs)))

    def state(self) -> dict[str, Any]:
        """Return the whole history."""
        return {"epochs": self.epochs, "logs": self.logs}

    def restore(self, state: dict[str, Any]) -> None:
        """Write the history of `state`, without the lines of epochs that will be repeated."""
        self.epochs = list(state["epochs"])
        self.logs = {name: list(column) for name, column in state["logs"].items()}
        if self.epochs:
            self._write()


class TestLogger(keras.callbacks.Callback):
    """Draws some validation images with the current results of the network, ``test_*.png``.

    Parameters
    ----------
    log_dir : path-like
        Folder of the files.
    log_period : int
        Epochs between pictures.
    data_generator : toolbox.data_generator.DataGenerator
        Validation data.
    denorm_func : callable or toolbox.normalizer.Normalizer
        Inverse transform of normalised inputs and outputs, or a normaliser, which has one for
        each.
    num_samples : int
        Number of images.
    data_range, data_min : float
        Range of the data and its lower end, for PSNR and DSSIM.
    style : Style
        Unit and colours of the pictures.
    """

    __test__ = False  # pytest would take the manual's name for a test

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        log_period: int,
        data_generator: DataGenerator,
        denorm_func: Denormalize | Normalizer,
        num_samples: int = 4,
        data_range: float = 1.0,
        data_min: float = 0.0,
        style: Style = Style(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.log_dir = Path(log_dir)
        self.log_period = log_period
        self.data_generator = data_generator
        self.denorm_func = denorm_func
        self.num_samples = num_samples
        shape = data_generator.raw_hr_imgs.shape[1:]
        self.evaluator = Evaluator(shape, data_range, data_min=data_min, style=style)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Draw the pictures of `epoch` (counted from 0)."""
        if not is_due(self, epoch + 1):
            return
        self.evaluator.model = self.model
        chosen = self.data_generator.sample_indices(self.num_samples)
        x, y = self.data_generator.sample(len(chosen), indices=list(chosen))
        if isinstance(self.denorm_func, Normalizer):
            lr = self.data_generator.raw_lr_imgs[chosen]
            denorm_x, denorm_y = self.denorm_func.denorm_funcs(lr, y.shape[1] // x.shape[1])
        else:
            denorm_x = denorm_y = self.denorm_func
        picture = self.log_dir / f"test_{epoch + 1}.png"
        titles = [f"validation {i}" for i in chosen]
        self.evaluator.evaluate(x, y, len(x), denorm_x, denorm_y, picture, titles)


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Stops when a validation figure has not improved for some epochs; can be resumed.

    Parameters
    ----------
    patience : int
        Epochs without a new best figure; NaN is never one.
    start_from_epoch : int
        Epochs at the start that do not count.
    monitor : str
        Column of the history; epochs without it do not count.
    mode : {'min', 'max'}
        Whether a small or a large value is good.
    """

    def __init__(
        self,
        patience: int,
        start_from_epoch: int = 0,
        monitor: str = "val_loss",
        mode: Mode = "min",
    ) -> None:
        super().__init__(
            monitor=monitor, mode=mode, patience=patience, start_from_epoch=start_from_epoch
        )
        super().on_train_begin()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Keep the state: a training run may consist of several calls of ``fit``."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Count `epoch` (counted from 0), and stop training if patience is exhausted."""
        if self.monitor in (logs or {}):
            super().on_epoch_end(epoch, logs)

    def _is_improvement(self, monitor_value: float, reference_value: float | None) -> bool:
        better = math.isfinite(monitor_value)
        return better and bool(super()._is_improvement(monitor_value, reference_value))

    def state(self) -> dict[str, Any]:
        """Return the best figure and the epochs since then."""
        return {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.best = None if state["best"] is None else float(state["best"])
        self.wait, self.best_epoch = int(state["wait"]), int(state["best_epoch"])


class PlateauSchedule(keras.callbacks.ReduceLROnPlateau):
    """Lowers the learning rates when a validation figure stops improving; can be resumed.

    After every `patience` epochs without a new best figure, the rates are multiplied by `gamma`.
    The history records the rate of each epoch in its column ``learning_rate``, so this callback
    must come before the one that writes the history.

    Parameters
    ----------
    learning_rates : dict of str to float
        Initial rates, by attribute of the model: ``{'optimizer': 1e-4}``.
    gamma : float
        Factor of a reduction, 0 < gamma < 1.
    patience : int
        Epochs before a reduction.
    final : float
        Lower limit of a rate, as a share of its initial value.
    monitor : str
        Column of the history; epochs without it do not count.
    mode : {'min', 'max'}
        Whether a small or a large value is good.
    pixel_epochs : int
        Epochs before the adversarial stage; after them, counting restarts.

    Attributes
    ----------
    falls : int
        Number of reductions so far.
    """

    def __init__(
        self,
        learning_rates: Mapping[str, float],
        gamma: float = 0.5,
        patience: int = 10,
        final: float = 0.0,
        monitor: str = "val_loss",
        mode: Mode = "min",
        pixel_epochs: int = 0,
    ) -> None:
        super().__init__(monitor=monitor, factor=gamma, patience=patience, mode=mode, min_delta=0)
        self.learning_rates = dict(learning_rates)
        self.final = final
        self.pixel_epochs = pixel_epochs
        self.falls = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Keep the state: a training run may consist of several calls of ``fit``."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the rate of `epoch` (counted from 0) into `logs`, then lower it if it is due."""
        logs = {} if logs is None else logs
        if self.monitor in logs:
            super().on_epoch_end(epoch, logs)
        else:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if epoch + 1 == self.pixel_epochs:
            self._reset()

    def _is_improvement(self, monitor_value: float, reference_value: float | None) -> bool:
        better = math.isfinite(monitor_value)
        return better and bool(super()._is_improvement(monitor_value, reference_value))

    def _reduce_optimizer_lr(self, optimizer: Any, epoch: int, name: str = "") -> bool:
        if self._share() <= self.final:
            return False
        self.falls += 1
        self._set_rates()
        return True

    def _share(self) -> float:
        return max(float(self.factor**self.falls), self.final)

    def _set_rates(self) -> None:
        # Computed from the initial rate, not from the previous one: a resumed run, perhaps with
        # another initial rate, then has exactly the rates of an uninterrupted one.
        for name, rate in self.learning_rates.items():
            getattr(self.model, name).learning_rate = rate * self._share()

    def state(self) -> dict[str, Any]:
        """Return the best figure, the epochs since then and the number of reductions."""
        return {"best": self.best, "wait": self.wait, "falls": self.falls}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, and set the rates that belong to it."""
        self.best = None if state["best"] is None else float(state["best"])
        self.wait, self.falls = int(state["wait"]), int(state["falls"])
        self._set_rates()


class AverageSwapper(keras.callbacks.Callback):
    """Swaps in the averaged weights for validation and for the callbacks before this one."""

    def __init__(self) -> None:
        super().__init__()
        self._averaged = False

    def on_test_begin(self, logs: Logs = None) -> None:
        """Swap in the averaged weights."""
        if not self._averaged:
            self.model.average.swap()
            self._averaged = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Swap back the trained weights."""
        if self._averaged:
            self.model.average.swap()
            self._averaged = False


class ProgressLogger(keras.callbacks.Callback):
    """One progress bar for the whole training run, with the remaining time.

    Parameters
    ----------
    steps_per_epoch : int
        Training steps per epoch.
    done : int
        Steps that a resumed run has already done.
    """

    def __init__(self, steps_per_epoch: int, done: int = 0) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self._bar: Any = None
        self._done = done

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open the bar."""
        if self._bar is None:
            total = self.params["epochs"] * self.steps_per_epoch
            self._bar = progress(total=total, initial=self._done, label="training", unit="step")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the first step of the epoch, unless a resumed run is already beyond it."""
        self._done = max(self._done, epoch * self.steps_per_epoch)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Advance to step `batch` of this epoch."""
        self._bar.update(self._done + batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Show the validation figures."""
        shown = {"epoch": epoch + 1}
        for name in ("val_loss", "val_psnr", "d_loss"):
            if name in (logs or {}):
                shown[name] = f"{logs[name]:.4g}"  # type: ignore[index, assignment]
        self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """End the bar's line, even if training was interrupted."""
        if self._bar is not None:
            self._bar.close()


class StopOnNaN(keras.callbacks.Callback):
    """Stops a training run whose loss is no longer finite, and records the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Stop if any loss of the epoch is NaN or infinite."""
        if not losses_are_finite(logs):
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True


class StopOnCollapse(keras.callbacks.Callback):
    """Stops an adversarial training run whose discriminator has won.

    A discriminator that is always certain gives the generator nothing to learn from. This does no
    harm if the adversarial loss has so small a weight that the generator hardly responds to it.

    Parameters
    ----------
    patience : int
        Consecutive epochs whose training ``d_loss`` is below `threshold`.
    threshold : float
        0.01 means that the correct verdict has a mean probability of 99 % (99.5 % for ESRGAN, whose
        loss is a sum).
    least_share : float
        Share of ``g_loss`` above which the adversarial loss counts.
    """

    def __init__(self, patience: int, threshold: float = 0.01, least_share: float = 0.01) -> None:
        super().__init__()
        self.patience = patience
        self.threshold = threshold
        self.least_share = least_share
        self.wait = 0
        self.stopped_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Count the epochs in which the discriminator is certain."""
        if "d_loss" not in (logs or {}):
            return
        figures: dict[str, float] = logs or {}
        pixels = self.model.loss_weight[0] * figures["loss"]
        felt = figures["g_loss"] - pixels > self.least_share * figures["g_loss"]
        self.wait = self.wait + 1 if felt and figures["d_loss"] < self.threshold else 0
        if self.wait >= self.patience:
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True

    def state(self) -> dict[str, Any]:
        """Return the number of consecutive epochs."""
        return {"wait": self.wait}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.wait = int(state["wait"])
