"""Training: data in, weights and history out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sr_trainer.user_params import CONFIG_NAME, UserParams
from toolbox.augment import Augmenter
from toolbox.callbacks import HistoryLogger, ModelLogger, ProgressLogger, StopOnNaN, TestLogger
from toolbox.data_generator import DataGenerator, complete_pairs
from toolbox.errors import ConfigError, DataError
from toolbox.io.weights import load_weights
from toolbox.normalizer import FILE_NAME, save_normalizer
from toolbox.registry import NORMALIZERS, SOURCES

#: Everything that a run writes into its log folder.
RUN_FILES = (
    "history.csv",
    ".weights_*",
    "history_*.png",
    "weights_*.h5",
    "test_*.png",
    CONFIG_NAME,
    FILE_NAME,
    "test_result",
)


class Trainer:
    """Trains a network on the data that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    overwrite : bool
        Replace a run that the log folder already holds.

    Attributes
    ----------
    normalizer : toolbox.normalizer.Normalizer
        Fitted on the training data only.
    train_data_generator, validation_data_generator : toolbox.data_generator.DataGenerator
        The data.

    Raises
    ------
    ConfigError, DataError
        If the data do not fit the settings, or the log folder holds another run.
    """

    def __init__(self, u_params: UserParams, overwrite: bool = False) -> None:
        self.u_params = u_params
        self.overwrite = overwrite
        self._refuse_other_run()
        source = SOURCES.resolve(u_params.source)(u_params.data_dir, sr_scale=u_params.scale)
        train, validation = _complete(source.train()), source.validation()
        check_shape(u_params, train[0])
        norm_range = u_params.norm_range or _range_of(train[1])
        self.normalizer = self._fit_normalizer(train, norm_range)
        steps = u_params.online_da.steps()
        self.train_data_generator = DataGenerator(
            train[0],
            train[1],
            self.normalizer.normalize_pair,
            u_params.batch_size,
            augmenter=Augmenter(steps) if steps else None,
            seed=u_params.seed,
        )
        self.validation_data_generator = DataGenerator(
            validation[0],
            validation[1],
            self.normalizer.normalize_pair,
            u_params.batch_size,
            seed=u_params.seed,
        )
        count = self.train_data_generator.num_imgs
        if u_params.batch_size > count:
            raise ConfigError(
                f"{u_params.fname}: batch_size must not exceed the {count} training pairs; "
                f"received {u_params.batch_size}. Lower it or build a larger data set."
            )

    def _fit_normalizer(self, train: tuple[np.ndarray, ...], norm_range: Any) -> Any:
        settings = self.u_params.normalizer
        fit = NORMALIZERS.resolve(settings.name).fit
        return fit(train[0], train[1], norm_range, **settings.options())

    def _refuse_other_run(self) -> None:
        folder = Path(self.u_params.log_dir)
        found = [path for pattern in RUN_FILES for path in folder.glob(pattern)]
        if not found:
            return
        if not self.overwrite:
            raise ConfigError(
                f"{self.u_params.fname}: log_dir {folder} already holds a run ({found[0].name}). "
                f"Name another log_dir, or replace it with --overwrite."
            )

    def _remove_old_run(self) -> None:
        for pattern in RUN_FILES:
            for path in Path(self.u_params.log_dir).glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def reset_weights(self, model: keras.Model) -> None:
        """Draw new initial weights (kernels and biases) for `model`."""
        model.set_weights(model.fresh_weights())

    def train(self, model: keras.Model) -> keras.callbacks.History:
        """Train `model` and write everything into the log folder.

        Parameters
        ----------
        model : keras.Model
            A compiled model.

        Returns
        -------
        keras.callbacks.History
            Losses and metrics of every epoch.

        Raises
        ------
        DataError
            If the loss is no longer a number.
        """
        p = self.u_params
        if p.fname_model_weights is not None:
            load_weights(model, p.fname_model_weights)
        generator = self.train_data_generator
        steps = max(1, round(generator.steps_per_epoch() * p.online_da.steps_per_epoch_mag))
        # Keras runs whole executions, so an epoch must hold a whole number of them.
        model.steps_per_execution = _largest_divisor(steps, model.steps_per_execution)
        guard, bar = StopOnNaN(), ProgressLogger(steps)
        callbacks = [guard, *self._callbacks(), bar]
        folder = self._prepare_folder()
        try:
            history = model.fit(
                generator.training_dataset(),
                steps_per_epoch=steps,
                epochs=p.epochs,
                validation_data=self.validation_data_generator.evaluation_dataset(),
                callbacks=callbacks,
                verbose=0,
                shuffle=False,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"by Ctrl-C; {_kept(folder, 'last')}") from None
        finally:
            bar.close()
        if guard.stopped_epoch is not None:
            raise DataError(
                f"the loss of epoch {guard.stopped_epoch} is not a number. Lower learning_rate "
                f"(now {p.learning_rate:g}); {_kept(folder, 'best')}."
            )
        best = int(np.argmin(history.history["val_loss"])) + 1
        print(f"trained {len(history.epoch)} epochs, the best was {best}; written to {folder}")
        return history

    def _prepare_folder(self) -> Path:
        """Make the log folder and write down the settings; nothing is touched before."""
        if self.overwrite:
            self._remove_old_run()
        folder = Path(self.u_params.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.u_params.save(folder)
        save_normalizer(self.normalizer, folder)
        return folder

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        p = self.u_params
        # Those that stop the training come first, so that the others know the last epoch.
        callbacks: list[keras.callbacks.Callback] = []
        if p.patience is not None:
            callbacks.append(keras.callbacks.EarlyStopping(patience=p.patience))
        callbacks += [
            ModelLogger(p.log_dir, p.log_period),
            HistoryLogger(p.log_dir, p.log_period),
            TestLogger(
                p.log_dir,
                p.log_period,
                self.validation_data_generator,
                self.normalizer,
                data_range=self.normalizer.data_range,
                data_min=self.normalizer.data_min,
            ),
        ]
        return callbacks


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _kept(folder: Path, which: str) -> str:
    """Say where the weights of the best or the last complete epoch are, if there are any."""
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
