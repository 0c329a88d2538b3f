"""Loss and accuracy of phases; windows without a label do not count."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def phase_cross_entropy(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    max_val: float = 1.0,
    class_weights: Sequence[float] | None = None,
) -> tf.Tensor:
    """Cross-entropy of a softmax, weighted by the phase.

    Parameters
    ----------
    y_true : tf.Tensor, shape (N, ..., phases)
        One-hot labels; all 0 for a window without a label.
    y_pred : tf.Tensor, shape (N, ..., phases)
        Scores before the softmax.
    max_val : float
        Without effect; part of the signature of every loss.
    class_weights : sequence of float, optional
        Weight of each phase; default 1.

    Returns
    -------
    tf.Tensor, shape (N,)
        Loss in nats, scaled so that the mean over all windows is that over the labelled ones.
    """
    labels, scores = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
    weights = tf.ones(scores.shape[-1]) if class_weights is None else tf.constant(class_weights)
    entropy = -tf.reduce_sum(weights * labels * tf.nn.log_softmax(scores), axis=-1)
    return _mean(entropy) * _share(labels)


def phase_accuracy(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
    """Share of windows whose highest score is that of the label, per example (N,).

    Arguments and scaling are those of `phase_cross_entropy`.
    """
    labels = tf.cast(y_true, tf.float32)
    right = tf.equal(tf.argmax(labels, -1), tf.argmax(y_pred, -1))
    return _mean(tf.cast(right, tf.float32) * tf.reduce_sum(labels, axis=-1)) * _share(labels)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """Return the mean of each example."""
    return tf.reduce_mean(values, axis=tf.range(1, tf.rank(values)))


def _share(labels: tf.Tensor) -> tf.Tensor:
    """Return the ratio of all windows to labelled windows."""
    labelled = tf.reduce_sum(labels)
    count = tf.cast(tf.size(labels) // labels.shape[-1], tf.float32)
    return count / tf.maximum(labelled, 1.0)
