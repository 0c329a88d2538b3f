"""Perceptual loss: difference of two images in the features of VGG19, trained on photographs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from keras.src.applications.vgg19 import WEIGHTS_PATH_NO_TOP

from toolbox.errors import ConfigError, WeightsError
from toolbox.io.atomic import replacing
from toolbox.io.cache import keras_home
from toolbox.io.weights import load_weights

PathLike = str | os.PathLike[str]

#: The weights that Keras publishes, without the classifier, and their MD5.
VGG_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG_MD5 = "253f8cb515780f3b799900260a226db6"
#: Smallest side of an image, pixels: five poolings halve it to one.
VGG_MIN_SIZE = 32

#: Number of the last layer of VGG19 without its classifier.
LAST_LAYER = 21
_POOLINGS = (3, 6, 11, 16, 21)
#: Blue, green, red of the mean photograph, in the order and unit of VGG's input.
_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
#: Scales the feature error to the size of an MSE of images (Ledig et al. 2017, section 2.2.1).
_FEATURE_SCALE = 12.75
_WITHOUT_VGG = "a loss that needs no VGG: mae, mse, psnr, dssim"

#: Frozen networks by (feature_index, before_activation, weights).
_NETWORKS: dict[tuple[int, bool, Path | None], keras.Model] = {}
#: Missing files that a line has already reported.
_MISSED: set[Path] = set()


class VGGLoss:
    """Content error in the features of VGG19, plus a penalty on predictions out of range.

    The weights are loaded at the first call. Losses with the same layer and weights share one
    frozen network, which computes in float32 whatever the precision policy.

    Parameters
    ----------
    feature_index : int
        Layer of ``VGG19(include_top=False)``, 1 to 21; 20 is block5_conv4.
    max_val, min_val : float
        The images' range is `min_val` to ``min_val + max_val``.
    weights : path-like, optional
        Weights file; by default the one in Keras's cache.
    download : bool
        Whether a file that is missing in the cache may be downloaded (80 MB).
    before_activation : bool
        Compare the convolution before its ReLU (ESRGAN), instead of after it (SRGAN).
    distance : {'l2', 'l1'}
        Mean square or mean absolute difference of the features.
    penalty_l1, penalty_l2 : float
        Weights of the mean and the mean square of the amount by which a prediction exceeds its
        range, as a fraction of that range. They keep a network with a linear output in the range.
    required : bool
        Whether a missing weights file is an error. Otherwise one line reports it, and the loss
        consists of the penalty only.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    References
    ----------
    Ledig et al. 2017, arXiv:1609.04802, eq. 5; Wang et al. 2018, arXiv:1809.00219, section 3.3.
    """

    def __init__(
        self,
        feature_index: int = 20,
        max_val: float = 1.0,
        min_val: float = 0.0,
        weights: PathLike | None = None,
        download: bool = False,
        before_activation: bool = False,
        distance: Literal["l2", "l1"] = "l2",
        penalty_l1: float = 1.0,
        penalty_l2: float = 1.0,
        required: bool = True,
    ) -> None:
        _check_layer(feature_index, before_activation)
        if distance not in ("l2", "l1"):
            raise ConfigError(f"vgg.distance must be 'l2' or 'l1'; received {distance!r}.")
        if not 0 < max_val < float("inf"):
            raise ConfigError(f"The data range max_val must be above 0; received {max_val}.")
        for name, value in (("penalty_l1", penalty_l1), ("penalty_l2", penalty_l2)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"vgg.{name} must be 0 or above; received {value}.")
        self.feature_index = int(feature_index)
        self.max_val = float(max_val)
        self.min_val = float(min_val)
        self.weights = None if weights is None else Path(weights).expanduser().absolute()
        self.download = download
        self.before_activation = bool(before_activation)
        self.distance = distance
        self.penalty_l1 = float(penalty_l1)
        self.penalty_l2 = float(penalty_l2)
        self.required = required

    def is_available(self) -> bool:
        """Return whether weights exist; if not, and they are optional, print one line once."""
        if self.required or self.weights is not None or self.download or _cached().is_file():
            return True
        if _cached() not in _MISSED:
            _MISSED.add(_cached())
            print(f"no perceptual loss: {_cached()} does not exist; training without it")
        return False

    @property
    def network(self) -> keras.Model:
        """The frozen VGG19 up to the compared layer; loaded on first use.

        Raises
        ------
        ConfigError, WeightsError
            If there are no weights, or if they do not belong to VGG19.
        """
        key = (self.feature_index, self.before_activation, self.weights)
        if key not in _NETWORKS:
            path = find_vgg_weights(self.weights, self.download)
            _NETWORKS[key] = _frozen_network(path, self.feature_index, self.before_activation)
        return _NETWORKS[key]

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return content error plus penalty.

        Parameters
        ----------
        y_true, y_pred : tf.Tensor, shape (N, H, W, C)
            Truth and prediction, at least 32 × 32 pixels, of 1 (grey) or 3 (RGB) channels.

        Returns
        -------
        tf.Tensor, shape (N,)
            Loss of each image, float32; 0 for equal images within the range.

        Raises
        ------
        ConfigError
            If the images are too small or do not have 1 or 3 channels.
        """
        return self.content(y_true, y_pred) + self.penalty(y_pred)

    def content(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the mean difference of the features, shape (N,)."""
        truth, predicted = self._normalised(y_true), self._normalised(y_pred)
        _check_images(truth.shape, predicted.shape)
        if not self.is_available():
            return tf.zeros([tf.shape(predicted)[0]])
        # Two calls: with one, gradients would also be computed for the truth.
        difference = self._features(predicted) - tf.stop_gradient(self._features(truth))
        error = tf.square(difference) if self.distance == "l2" else tf.abs(difference)
        return tf.reduce_mean(error, axis=[1, 2, 3])

    def _features(self, unit: tf.Tensor) -> tf.Tensor:
        # Minus the mean, one grey channel becomes three.
        bgr = 255.0 * tf.reverse(unit, axis=[-1]) - _MEAN_BGR
        return self.network(bgr, training=False) / _FEATURE_SCALE

    def penalty(self, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the weighted L1 and L2 penalties for values outside the range, shape (N,)."""
        unit = self._normalised(y_pred)
        excess = tf.nn.relu(unit - 1.0) + tf.nn.relu(-unit)
        penalty = self.penalty_l1 * excess + self.penalty_l2 * tf.square(excess)
        return tf.reduce_mean(penalty, axis=[1, 2, 3])

    def _normalised(self, images: tf.Tensor) -> tf.Tensor:
        return (tf.cast(images, tf.float32) - self.min_val) / self.max_val


def find_vgg_weights(weights: PathLike | None = None, download: bool = False) -> Path:
    """Return the weights file of VGG19 without its classifier.

    Parameters
    ----------
    weights : path-like, optional
        The file itself. Default: the one in Keras's cache, whose MD5 is verified.
    download : bool
        Whether a missing file may be downloaded into the cache.

    Returns
    -------
    pathlib.Path
        An existing file.

    Raises
    ------
    ConfigError
        If there is no file and none may be downloaded.
    WeightsError
        If `weights` is missing, the cached file is damaged, or the download fails.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"vgg.weights: {path} is not a file. Expected {VGG_FILE}.")
        return path
    path = _cached()
    if path.is_file():
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != VGG_MD5:
            raise WeightsError(
                f"{path}: damaged; expected MD5 {VGG_MD5}, received {found}. Delete the file, then "
                f"copy it again or set vgg.download: true."
            )
        return path
    if not download:
        raise ConfigError(
            f"Loss vgg needs the weights {VGG_FILE} (MD5 {VGG_MD5}); {path} does not exist. Set "
            f"vgg.weights to its path, set vgg.download: true, or use {_WITHOUT_VGG}."
        )
    try:
        with replacing(path) as beside:
            keras.utils.get_file(
                beside.name, WEIGHTS_PATH_NO_TOP, cache_subdir=str(beside.parent), file_hash=VGG_MD5
            )
    except Exception as error:  # Keras raises nothing narrower
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"Downloading {VGG_FILE} (MD5 {VGG_MD5}) failed: {reason}. Copy it to {path}, set "
            f"vgg.weights to its path, or use {_WITHOUT_VGG}."
        ) from None
    return path


def _cached() -> Path:
    """Return the path at which Keras keeps the weights; the file may be missing."""
    return keras_home() / "models" / VGG_FILE


def _frozen_network(path: Path, index: int, before_activation: bool) -> keras.Model:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with tf.init_scope():  # it may first be needed while a training step is traced
            image = keras.Input((None, None, 3), dtype="float32")
            vgg = keras.applications.VGG19(include_top=False, weights=None, input_tensor=image)
            try:
                load_weights(vgg, path)
            except WeightsError as error:
                raise WeightsError(f"vgg.weights: {error} Expected {VGG_FILE}.") from None
            layer = vgg.layers[index]
            if before_activation:
                layer.activation = keras.activations.linear
            network = keras.Model(image, layer.output, name=f"vgg19_{layer.name}")
    finally:
        keras.config.set_dtype_policy(policy)
    network.trainable = False
    return network


def _check_layer(index: int, before_activation: bool) -> None:
    if isinstance(index, bool) or index not in range(1, LAST_LAYER + 1):
        raise ConfigError(
            f"vgg.feature_index must be a layer of VGG19, 1 to {LAST_LAYER}; received {index!r}."
        )
    if before_activation and index in _POOLINGS:
        raise ConfigError(
            f"vgg.before_activation needs a convolution, but layer {index} is a pooling layer. "
            f"Use vgg.feature_index: {index - 1}."
        )


def _check_images(truth: tf.TensorShape, predicted: tf.TensorShape) -> None:
    if truth.rank != 4 or not truth.is_compatible_with(predicted):
        raise ConfigError(
            f"Loss vgg compares two batches (N, H, W, C) of the same shape; received {truth} and "
            f"{predicted}."
        )
    _, height, width, channels = truth.as_list()
    if min(height or VGG_MIN_SIZE, width or VGG_MIN_SIZE) < VGG_MIN_SIZE:
        raise ConfigError(
            f"Loss vgg needs images of at least {VGG_MIN_SIZE} × {VGG_MIN_SIZE} pixels; received "
            f"{height} × {width}. Use larger patches, or {_WITHOUT_VGG}."
        )
    if channels not in (1, 3):
        raise ConfigError(
            f"Loss vgg needs images with 1 or 3 channels; received {channels}. Use {_WITHOUT_VGG}."
        )
