"""Losses that training minimises, one value per image."""

from __future__ import annotations

import tensorflow as tf

from toolbox.metric import Metric


class Loss:
    """Loss functions ``f(y_true, y_pred, max_val)``; their names are in the registry.

    `max_val` is the data range in the unit of the images; MAE and MSE do not need it.
    """

    @staticmethod
    def mae(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Mean absolute error, shape (N,)."""
        return tf.reduce_mean(tf.abs(_difference(y_true, y_pred)), axis=[1, 2, 3])

    @staticmethod
    def mse(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Mean square error, shape (N,)."""
        return tf.reduce_mean(tf.square(_difference(y_true, y_pred)), axis=[1, 2, 3])

    @staticmethod
    def psnr(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Reciprocal of the PSNR, ``1 / PSNR``.

        Below 1 dB, where the reciprocal would jump to the other sign, it goes on along its
        tangent ``2 - PSNR``: an untrained network finds the way down.

        Returns
        -------
        tf.Tensor, shape (N,)
            1 / dB.
        """
        psnr = Metric.psnr(y_true, y_pred, max_val)
        return tf.where(psnr > 1.0, 1.0 / tf.maximum(psnr, 1.0), 2.0 - psnr)

    @staticmethod
    def dssim(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Structural dissimilarity, ``(1 - SSIM) / 2``, shape (N,)."""
        return Metric.dssim(y_true, y_pred, max_val)


def _difference(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    return tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32)
