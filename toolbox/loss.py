"""Losses that training minimises, one value per image."""

from __future__ import annotations

from typing import Annotated, Literal

import tensorflow as tf
from pydantic import Field

from toolbox.config import Int, Weight
from toolbox.metric import Metric
from toolbox.training.perceptual import LAST_LAYER, VGGLoss

FeatureIndex = Annotated[Int, Field(ge=1, le=LAST_LAYER)]


class Loss:
    """Loss functions ``f(y_true, y_pred, max_val=...)``; their names are in the registry.

    `max_val` is the data range in the unit of the images, `min_val` its lower end; MAE and MSE do
    not need them. Further arguments are the settings of the YAML section with the name of the loss,
    except `min_val` and `pixel_nm` (size of a pixel), which come from the data.
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
    def masked_mse(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Mean square error over the pixels whose truth is not NaN, shape (N,)."""
        known = tf.logical_not(tf.math.is_nan(tf.cast(y_true, tf.float32)))
        squares = tf.square(tf.where(known, _difference(y_true, y_pred), 0.0))
        count = tf.reduce_sum(tf.cast(known, tf.float32), axis=[1, 2, 3])
        return tf.reduce_sum(squares, axis=[1, 2, 3]) / tf.maximum(count, 1.0)

    @staticmethod
    def psnr(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Reciprocal of the PSNR, ``1 / PSNR``.

        Below 1 dB, the loss continues along its tangent ``2 - PSNR``. The reciprocal would change
        its sign at 0 dB, and an untrained network could not descend.

        Returns
        -------
        tf.Tensor, shape (N,)
            1 / dB.
        """
        psnr = Metric.psnr(y_true, y_pred, max_val)
        return tf.where(psnr > 1.0, 1.0 / tf.maximum(psnr, 1.0), 2.0 - psnr)

    @staticmethod
    def dssim(
        y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0, min_val: float = 0.0
    ) -> tf.Tensor:
        """Structural dissimilarity, ``(1 - SSIM) / 2``, shape (N,)."""
        return Metric.dssim(y_true, y_pred, max_val, min_val)

    @staticmethod
    def one_minus_ssim(
        y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0, min_val: float = 0.0
    ) -> tf.Tensor:
        """Structural dissimilarity ``1 - SSIM``, twice that of `dssim`, shape (N,)."""
        return 1.0 - Metric.ssim(y_true, y_pred, max_val, min_val)

    @staticmethod
    def vgg(
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        feature_index: FeatureIndex = 20,
        max_val: float = 1.0,
        min_val: float = 0.0,
        weights: str | None = None,
        download: bool = False,
        before_activation: bool = False,
        distance: Literal["l2", "l1"] = "l2",
        penalty_l1: Weight = 1.0,
        penalty_l2: Weight = 1.0,
        required: bool = True,
    ) -> tf.Tensor:
        """Content error in a layer of VGG19, and a penalty outside the data range, shape (N,).

        See `toolbox.training.perceptual.VGGLoss` for the arguments.
        """
        loss = VGGLoss(
            feature_index,
            max_val,
            min_val,
            weights,
            download,
            before_activation,
            distance,
            penalty_l1,
            penalty_l2,
            required,
        )
        return loss(y_true, y_pred)


def _difference(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    return tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32)
