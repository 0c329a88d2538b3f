"""Batches of normalised pairs: every batch is a pure function of (seed, number)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from toolbox.augment import Augmenter
from toolbox.errors import DataError

Pair = tuple[np.ndarray, np.ndarray]


def complete_pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tell which pairs hold neither NaN nor infinity: (N,) of bool, for stacks (N, H, W, C)."""
    # A sum is finite exactly if all that is summed is, and it needs no mask in memory.
    axes = (1, 2, 3)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.isfinite(x.sum(axes, np.float64)) & np.isfinite(y.sum(axes, np.float64))


class PairStream:
    """What every supplier of batches shares: samples, and the way into ``tf.data``.

    A subclass sets the attributes and writes `batch`, a pure function of (seed, number).

    Attributes
    ----------
    raw_lr_imgs, raw_hr_imgs : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Physical images that `sample` and `evaluation_dataset` draw from.
    num_imgs : int
        Number of pairs in an epoch.
    batch_size : int
        Pairs in a batch.
    seed : int
        Seed of everything that is drawn.
    """

    raw_lr_imgs: np.ndarray
    raw_hr_imgs: np.ndarray
    num_imgs: int
    batch_size: int
    seed: int
    _norm_func: Callable[[np.ndarray, np.ndarray], Pair]
    _order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
    #: Whether every batch holds `batch_size` pairs.
    _full_batches: bool = True

    def batch(self, number: int) -> Pair:
        """Return training batch `number`, counted over all epochs from 0."""
        raise NotImplementedError

    def sample_indices(self, num_samples: int, replace: bool = False) -> np.ndarray:
        """Choose pairs at random, always the same ones for one seed."""
        if not replace:
            num_samples = min(num_samples, len(self.raw_lr_imgs))
        rng = np.random.default_rng([self.seed, 0])
        return np.sort(rng.choice(len(self.raw_lr_imgs), num_samples, replace=replace))

    def sample(self, num_samples: int, replace: bool = False, indices: Sequence[int] = ()) -> Pair:
        """Return some normalised pairs, not augmented.

        Parameters
        ----------
        num_samples : int
            Number of pairs.
        replace : bool
            Whether a pair may come twice.
        indices : sequence of int
            The pairs by number, instead of a random choice.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            LR (num_samples, h, w, C) and HR (num_samples, H, W, C).
        """
        chosen = np.asarray(indices, np.int64)
        if chosen.size == 0:
            chosen = self.sample_indices(num_samples, replace)
        return self._norm_func(self.raw_lr_imgs[chosen], self.raw_hr_imgs[chosen])

    def steps_per_epoch(self) -> int:
        """Return the number of full batches, ``num_imgs // batch_size``."""
        return self.num_imgs // self.batch_size

    def _permutation(self, epoch: int) -> np.ndarray:
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.num_imgs)
            self._order = (epoch, order)
        return order

    def generator(self, start: int = 0) -> Iterator[Pair]:
        """Yield training batches for ever, from number `start`.

        Yields
        ------
        (numpy.ndarray, numpy.ndarray)
            LR (batch_size, h, w, C) and HR (batch_size, H, W, C), normalised.
        """
        number = start
        while True:
            yield self.batch(number)
            number += 1

    def training_dataset(self, start: int = 0) -> Any:
        """Return the endless ``tf.data.Dataset`` of `generator`, prepared ahead in parallel."""
        import tensorflow as tf

        numbers = tf.data.Dataset.counter(start)
        size = self.batch_size if self._full_batches else None
        return numbers.map(
            lambda number: self._from_numpy(self.batch, number, size),
            num_parallel_calls=2,
            deterministic=True,
        ).prefetch(tf.data.AUTOTUNE)

    def evaluation_dataset(self) -> Any:
        """Return a ``tf.data.Dataset`` of every pair once; the last batch may be short."""
        import tensorflow as tf

        starts = tf.data.Dataset.range(0, len(self.raw_lr_imgs), self.batch_size)
        return starts.map(
            lambda start: self._from_numpy(self._slice, start, None), num_parallel_calls=2
        ).prefetch(tf.data.AUTOTUNE)

    def _slice(self, start: int) -> Pair:
        part = slice(start, start + self.batch_size)
        return self._norm_func(self.raw_lr_imgs[part], self.raw_hr_imgs[part])

    def _from_numpy(self, function: Callable[[int], Pair], number: Any, batch: int | None) -> Any:
        import tensorflow as tf

        def call(n: np.ndarray) -> Pair:
            x, y = function(int(n))
            return np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)

        x, y = tf.numpy_function(call, [number], [tf.float32, tf.float32])
        x.set_shape((batch, *self.raw_lr_imgs.shape[1:]))
        y.set_shape((batch, *self.raw_hr_imgs.shape[1:]))
        return x, y


class DataGenerator(PairStream):
    """Normalises LR / HR images and serves them in batches.

    Batch number i holds the same bytes whenever and in whatever order it is asked for, so a
    resumed training sees what an uninterrupted one would have seen.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        LR and HR images in physical units; pairs with a NaN or infinity are left out.
    norm_func : callable
        ``norm_func(x, y) -> (x, y)``, e.g. ``normalizer.normalize_pair``.
    batch_size : int
        Pairs in a batch.
    augmenter : toolbox.augment.Augmenter, optional
        Applied to physical images before they are normalised.
    seed : int
        Seed of order and augmentation.

    Attributes
    ----------
    lr_imgs, hr_imgs : numpy.ndarray
        Normalised images (physical ones while an augmenter is at work).
    raw_lr_imgs, raw_hr_imgs : numpy.ndarray
        Physical images.
    num_imgs : int
        Number of pairs.
    batch_size : int
        Pairs in a batch.

    Raises
    ------
    DataError
        If no complete pair is left.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        norm_func: Callable[[np.ndarray, np.ndarray], Pair],
        batch_size: int,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> None:
        whole = complete_pairs(x, y)
        if not whole.any():
            raise DataError(
                f"all {len(x)} pairs hold a missing pixel (NaN or infinity); none is left. Build "
                f"the data set from another region."
            )
        self.raw_lr_imgs = x if whole.all() else x[whole]
        self.raw_hr_imgs = y if whole.all() else y[whole]
        self.num_imgs = len(self.raw_lr_imgs)
        self.batch_size = batch_size
        self.seed = seed
        self._norm_func = norm_func
        self._augmenter = augmenter
        self.lr_imgs, self.hr_imgs = self.raw_lr_imgs, self.raw_hr_imgs
        if augmenter is None:
            self.lr_imgs, self.hr_imgs = norm_func(self.raw_lr_imgs, self.raw_hr_imgs)

    def fingerprint(self) -> int:
        """Return a checksum of all physical images."""
        checksum = 0
        for imgs in (self.raw_lr_imgs, self.raw_hr_imgs):
            checksum = zlib.crc32(np.ascontiguousarray(imgs).view(np.uint8).data, checksum)
        return checksum

    def batch(self, number: int) -> Pair:
        """Return training batch `number`, counted over all epochs from 0.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            LR (batch_size, h, w, C) and HR (batch_size, H, W, C), normalised, float32.
        """
        epoch, step = divmod(int(number), self.steps_per_epoch())
        start = step * self.batch_size
        chosen = self._permutation(epoch)[start : start + self.batch_size]
        lr, hr = self.lr_imgs[chosen], self.hr_imgs[chosen]
        if self._augmenter is None:
            return lr, hr
        rng = np.random.default_rng([self.seed, 2, int(number)])
        return self._norm_func(*self._augmenter(lr, hr, rng))

    def _slice(self, start: int) -> Pair:
        if self._augmenter is not None:
            return super()._slice(start)
        part = slice(start, start + self.batch_size)
        return self.lr_imgs[part], self.hr_imgs[part]
