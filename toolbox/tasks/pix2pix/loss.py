"""The loss of a U-Net that learns class ids instead of colours."""

from __future__ import annotations

import tensorflow as tf


def cross_entropy(
    y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0, min_val: float = 0.0
) -> tf.Tensor:
    """Cross-entropy of a softmax over classes, averaged over the pixels that have a class.

    Parameters
    ----------
    y_true : tf.Tensor, shape (N, H, W, 1)
        Class ids, normalised like grey levels of 0 to 255.
    y_pred : tf.Tensor, shape (N, H, W, classes)
        Scores before the softmax.
    max_val, min_val : float
        Range of the normalised values and its lower end: 0 and 255.

    Returns
    -------
    tf.Tensor, shape (N,)
        Loss in nats; ids that are not below the number of classes, such as void, do not count.
    """
    scores = tf.cast(y_pred, tf.float32)
    levels = (tf.cast(y_true[..., 0], tf.float32) - min_val) / max_val
    ids = tf.cast(tf.round(255.0 * levels), tf.int32)
    judged = (ids >= 0) & (ids < scores.shape[-1])
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(judged, ids, 0), scores)
    weight = tf.cast(judged, tf.float32)
    total = tf.reduce_sum(weight, axis=[1, 2])
    return tf.reduce_sum(entropy * weight, axis=[1, 2]) / tf.maximum(total, 1.0)
