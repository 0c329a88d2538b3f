"""Image quality: PSNR and DSSIM, in float32, one value per image."""

from __future__ import annotations

import tensorflow as tf

#: Largest PSNR reported, dB: the mean square error is not taken below 1e-12 of the range squared.
MAX_PSNR = 120.0
#: Side of the Gaussian window of SSIM; smaller images have no SSIM.
SSIM_WINDOW = 11


class Metric:
    """Quality measures of a batch against the truth.

    A PSNR without its data range says nothing: `max_val` is the range of the data in the unit of
    the images, 1 for data scaled to 0..1. All channels count and no border is cropped.
    """

    @staticmethod
    def psnr(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Peak signal-to-noise ratio.

        Parameters
        ----------
        y_true, y_pred : tf.Tensor, shape (N, H, W, C)
            Truth and prediction.
        max_val : float
            Data range in the unit of the images.

        Returns
        -------
        tf.Tensor, shape (N,)
            dB, at most 120.
        """
        error = tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32)
        mse = tf.reduce_mean(tf.square(error / max_val), axis=[1, 2, 3])
        floor = 10.0 ** (-MAX_PSNR / 10)
        return tf.math.log(tf.maximum(mse, floor)) * (-10.0 / tf.math.log(10.0))

    @staticmethod
    def dssim(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
        """Structural dissimilarity, ``(1 - SSIM) / 2``.

        SSIM with the 11 × 11 Gaussian window (sigma 1.5) of Wang et al. 2004,
        doi:10.1109/TIP.2003.819861.

        Parameters
        ----------
        y_true, y_pred : tf.Tensor, shape (N, H, W, C)
            Truth and prediction, at least 11 × 11 pixels.
        max_val : float
            Data range in the unit of the images.

        Returns
        -------
        tf.Tensor, shape (N,)
            0 for equal images, at most 1.
        """
        true, pred = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        return (1.0 - tf.image.ssim(true, pred, max_val)) / 2.0
