"""Errors of enlarged images compared with bicubic: per image and pooled, tables and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from toolbox.errors import ConfigError
from toolbox.metric import SSIM_WINDOW, Metric
from toolbox.plotter import Plotter
from toolbox.resample import back_project, enlarge
from toolbox.style import Style

Denormalize = Callable[[np.ndarray], np.ndarray]
#: The measures: the first four in the unit of the images, PSNR in dB.
MEASURES = ("rmse", "mae", "bias", "p95_abs", "psnr", "dssim")


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Yield slices that cover ``range(count)``."""
    for start in range(0, count, batch_size):
        yield slice(start, min(start + batch_size, count))


class Evaluator:
    """Compares LR, bicubic and super-resolved images with the HR truth.

    Parameters
    ----------
    img_shape : (int, int, int)
        Shape of an HR image (H, W, C).
    data_range : float
        Range of the data, for PSNR and SSIM.
    model : keras.Model, optional
        The network; can be set later.
    data_min : float
        Lower end of that range; SSIM compares brightness above it.
    style : Style
        Unit and colours of the pictures.

    Raises
    ------
    ConfigError
        If the images are too small for SSIM.
    """

    def __init__(
        self,
        img_shape: tuple[int, ...],
        data_range: float = 1.0,
        model: Any = None,
        data_min: float = 0.0,
        style: Style = Style(),  # noqa: B008 - frozen
    ) -> None:
        if min(img_shape[:2]) < SSIM_WINDOW:
            raise ConfigError(
                f"HR images must be at least {SSIM_WINDOW} pixels wide for DSSIM; received "
                f"{img_shape[0]} × {img_shape[1]}. Use a larger input_shape or scale."
            )
        self.img_shape = tuple(img_shape)
        self.data_range = float(data_range)
        self.data_min = float(data_min)
        self.plotter = Plotter()
        self.style = style
        self._model: Any = None
        self._forward: Any = None
        self.model = model

    @property
    def model(self) -> Any:
        """The network that is evaluated."""
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        if model is not self._model:
            self._model = model
            self._forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def predict(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the network's output for normalised images x, (N, H, W, C), float32."""
        parts = [self._forward(tf.constant(x[s])).numpy() for s in batches(len(x), batch_size)]
        return np.concatenate(parts)

    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
        """Tabulate the errors of each image.

        Parameters
        ----------
        truth, predicted : numpy.ndarray, shape (N, H, W, C)
            Physical units.

        Returns
        -------
        pandas.DataFrame
            Columns `MEASURES`: RMSE, MAE, bias (predicted - truth), 95th percentile of the
            absolute error, all in the unit of the images; PSNR in dB and DSSIM for `data_range`.
        """
        error = (predicted - truth).reshape(len(truth), -1).astype(np.float64)
        offset = np.float32(self.data_min)
        psnr, dssim = [], []
        for part in batches(len(truth), 64):
            pair = tf.constant(truth[part] - offset), tf.constant(predicted[part] - offset)
            psnr.append(Metric.psnr(*pair, self.data_range).numpy())
            dssim.append(Metric.dssim(*pair, self.data_range).numpy())
        return pd.DataFrame(
            {
                "rmse": np.sqrt(np.square(error).mean(axis=1)),
                "mae": np.abs(error).mean(axis=1),
                "bias": error.mean(axis=1),
                "p95_abs": np.percentile(np.abs(error), 95, axis=1),
                "psnr": np.concatenate(psnr),
                "dssim": np.concatenate(dssim),
            }
        )

    def evaluate(
        self,
        x_test: np.ndarray,
        y_test: np.ndarray,
        batch_size: int,
        denorm_func_x: Denormalize,
        denorm_func_y: Denormalize,
        save_fname: str | os.PathLike[str] | None,
        titles: list[str] | None = None,
    ) -> dict[str, pd.DataFrame]:
        """Draw LR, bicubic, super-resolved and HR images with their PSNR, DSSIM and RMSE.

        Parameters
        ----------
        x_test, y_test : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
            Normalised images.
        batch_size : int
            Images at a time.
        denorm_func_x, denorm_func_y : callable
            Inverse transforms to physical units of network inputs and of network outputs.
        save_fname : path-like or None
            Picture to write; None shows a window.
        titles : list of str, optional
            Heading of each image.

        Returns
        -------
        dict of str to pandas.DataFrame
            `measure` of ``bicubic`` and ``sr``.
        """
        lr, hr = denorm_func_x(x_test), denorm_func_y(y_test)
        predictions = {
            "bicubic": enlarge(lr, hr.shape[1] // lr.shape[1]),
            "sr": denorm_func_y(self.predict(x_test, batch_size)),
        }
        tables = {name: self.measure(hr, imgs) for name, imgs in predictions.items()}
        self.draw(lr, hr, predictions, tables, save_fname, titles)
        return tables

    def draw(
        self,
        lr: np.ndarray,
        hr: np.ndarray,
        predictions: Mapping[str, np.ndarray],
        tables: Mapping[str, pd.DataFrame],
        save_fname: str | os.PathLike[str] | None,
        titles: list[str] | None = None,
    ) -> None:
        """Draw images that are already predicted; arguments as in `evaluate`, physical units."""
        bicubic, sr = predictions["bicubic"], predictions["sr"]
        unit = f" {self.style.unit}" if self.style.unit else ""
        texts = {
            label: [
                f"RMSE {row.rmse:.2f}{unit}\nPSNR {row.psnr:.2f} dB  DSSIM {row.dssim:.5f}"
                for row in tables[name].itertuples()
            ]
            for label, name in (("bicubic", "bicubic"), ("super-res", "sr"))
        }
        self.plotter.plot_test_imgs(
            [lr, bicubic, sr, hr, bicubic - hr, sr - hr],
            ["low-res", "bicubic", "super-res", "high-res", "bicubic error", "super-res error"],
            save_fname,
            figsize=(2.6 * len(lr) + 0.6, 13),
            texts=texts,
            titles=titles,
            style=self.style,
        )


def baselines(lr: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Enlarge LR images (N, h, w, C), physical units, by bicubic and back-projected bicubic."""
    bicubic = enlarge(lr, scale)
    return {"bicubic": bicubic, "back_projection": back_project(bicubic, lr)}


def pooled(error: np.ndarray, table: pd.DataFrame) -> dict[str, float | None]:
    """Pool the errors of one method over several images.

    Parameters
    ----------
    error : numpy.ndarray, shape (N, ...)
        Predicted minus truth.
    table : pandas.DataFrame
        `Evaluator.measure` of the same images.

    Returns
    -------
    dict
        `MEASURES`: RMSE, MAE, bias and the 95th percentile over pixels, PSNR and DSSIM as means
        over images; None without images.
    """
    if not len(error):
        return dict.fromkeys(MEASURES)
    error = error.astype(np.float64)
    return {
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "p95_abs": float(np.percentile(np.abs(error), 95)),
        "psnr": float(table["psnr"].mean()),
        "dssim": float(table["dssim"].mean()),
    }
