"""Batches for training and evaluation; each batch is a pure function of seed and number."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from toolbox.errors import DataError, ToolboxError

if TYPE_CHECKING:
    from toolbox.augment import Augmenter

Pair = tuple[np.ndarray, np.ndarray]
#: The squares of larger values overflow float32.
_LARGEST = 1e18


def complete_pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which pairs hold neither NaN nor infinity: (N,) of bool, for stacks (N, H, W, C)."""
    # A sum is finite only if all its terms are, and needs no mask in memory.
    axes = (1, 2, 3)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.isfinite(x.sum(axes, np.float64)) & np.isfinite(y.sum(axes, np.float64))


def without_gaps(x: np.ndarray, y: np.ndarray, what: str = "training pairs") -> Pair:
    """Return the pairs without missing pixels (NaN or infinity); `what` names them in messages.

    Raises
    ------
    DataError
        If no pair is left, or a value is too large to be squared.
    """
    whole = complete_pairs(x, y)
    if not whole.any():
        raise DataError(
            f"all {len(whole)} {what} hold a missing pixel (NaN or infinity). Build the data set "
            f"from another region."
        )
    kept = (x, y) if whole.all() else (x[whole], y[whole])
    largest = max(max(float(part.max()), -float(part.min())) for part in kept)
    if largest > _LARGEST:
        raise DataError(
            f"the {what} hold a value as large as {largest:.6g}, which no network can learn from. "
            f"If it marks missing data, replace it by NaN; otherwise build the damaged file again."
        )
    return kept


class Spec(NamedTuple):
    """Shape of one example, without the batch axis, and data type."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Batches(Protocol):
    """The batches of a training run: everything that `Trainer` needs from the data.

    Attributes
    ----------
    num_imgs : int
        Examples per epoch.
    batch_size : int
        Examples per batch.
    input_spec, target_spec : Spec, or tuple or dict of Spec
        Content of a batch: images and images, or image and mask windows and labels.
    failure : ToolboxError or None
        Why the last batch could not be made.
    """

    num_imgs: int
    batch_size: int
    failure: ToolboxError | None

    @property
    def input_spec(self) -> Any:
        """Specification of the inputs."""

    @property
    def target_spec(self) -> Any:
        """Specification of the targets."""

    def steps_per_epoch(self) -> int:
        """Return the number of batches per epoch."""

    def fingerprint(self) -> int:
        """Return a checksum of all data, by which a resumed run recognises them."""

    def training_dataset(self, start: int = 0) -> Any:
        """Return an endless ``tf.data.Dataset`` of training batches, starting at number `start`."""

    def evaluation_dataset(self) -> Any:
        """Return a ``tf.data.Dataset`` of every example once."""


def example_of(spec: Any, count: int = 1) -> Any:
    """Return `count` examples of a specification, filled with zeros."""
    if isinstance(spec, Spec):
        return np.zeros((count, *spec.shape), spec.dtype)
    if isinstance(spec, dict):
        return {key: example_of(part, count) for key, part in spec.items()}
    return tuple(example_of(part, count) for part in spec)


class BatchStream(ABC):
    """Base class that turns batches of any content into ``tf.data``.

    A subclass sets the attributes of `Batches` and `seed`. It implements `batch` and
    `evaluation_batch` as pure functions that return (inputs, targets), nested like the
    specifications.
    """

    num_imgs: int
    batch_size: int
    #: Seed of all random choices.
    seed: int
    input_spec: Any
    target_spec: Any
    _order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
    #: Whether every training batch holds `batch_size` examples.
    _full_batches: bool = True
    #: Why a batch could not be made; TensorFlow would hide it in its own error.
    failure: ToolboxError | None = None

    @abstractmethod
    def batch(self, number: int) -> Any:
        """Return training batch `number`, counted over all epochs from 0."""

    @abstractmethod
    def evaluation_batch(self, start: int) -> Any:
        """Return at most `batch_size` examples, starting at number `start`."""

    @abstractmethod
    def fingerprint(self) -> int:
        """Return a checksum of all data."""

    def num_evaluated(self) -> int:
        """Return the number of examples that `evaluation_dataset` serves."""
        return self.num_imgs

    def steps_per_epoch(self) -> int:
        """Return the number of full batches, ``num_imgs // batch_size``."""
        return self.num_imgs // self.batch_size

    def _permutation(self, epoch: int) -> np.ndarray:
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.num_imgs)
            self._order = (epoch, order)
        return order

    def generator(self, start: int = 0) -> Iterator[Any]:
        """Yield training batches without end, starting at number `start`.

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
        """Return an endless ``tf.data.Dataset`` of `generator`, prefetched in parallel."""
        import tensorflow as tf

        numbers = tf.data.Dataset.counter(start)
        size = self.batch_size if self._full_batches else None
        return numbers.map(
            lambda number: self._from_numpy(self.batch, number, size),
            num_parallel_calls=2,
            deterministic=True,
        ).prefetch(tf.data.AUTOTUNE)

    def evaluation_dataset(self) -> Any:
        """Return a ``tf.data.Dataset`` of every example once; the last batch may be short."""
        import tensorflow as tf

        starts = tf.data.Dataset.range(0, self.num_evaluated(), self.batch_size)
        return starts.map(
            lambda start: self._from_numpy(self.evaluation_batch, start, None),
            num_parallel_calls=2,
        ).prefetch(tf.data.AUTOTUNE)

    def _from_numpy(self, function: Callable[[int], Any], number: Any, batch: int | None) -> Any:
        import tensorflow as tf

        specs = _tensor_specs((self.input_spec, self.target_spec), batch)
        flat = tf.nest.flatten(specs)

        def call(n: np.ndarray) -> list[np.ndarray]:
            try:
                arrays = tf.nest.flatten(function(int(n)))
            except ToolboxError as error:
                self.failure = error
                raise
            return [
                np.ascontiguousarray(array, spec.dtype.as_numpy_dtype)
                for array, spec in zip(arrays, flat, strict=True)
            ]

        tensors = tf.numpy_function(call, [number], [spec.dtype for spec in flat])
        for tensor, spec in zip(tensors, flat, strict=True):
            tensor.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(specs, tensors)


def _tensor_specs(spec: Any, batch: int | None) -> Any:
    """Return the specification of a batch as ``tf.TensorSpec``."""
    import tensorflow as tf

    if isinstance(spec, Spec):
        return tf.TensorSpec((batch, *spec.shape), spec.dtype)
    if isinstance(spec, dict):
        return {key: _tensor_specs(part, batch) for key, part in spec.items()}
    return tuple(_tensor_specs(part, batch) for part in spec)


class PairStream(BatchStream):
    """Base class for pairs of images: samples and evaluation batches.

    Attributes
    ----------
    raw_lr_imgs, raw_hr_imgs : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        Physical images that `sample` and `evaluation_dataset` draw from.
    """

    raw_lr_imgs: np.ndarray
    raw_hr_imgs: np.ndarray
    _norm_func: Callable[[np.ndarray, np.ndarray], Pair]

    @property
    def input_spec(self) -> Spec:  # type: ignore[override]
        """Shape of an LR image."""
        return Spec(self.raw_lr_imgs.shape[1:])

    @property
    def target_spec(self) -> Spec:  # type: ignore[override]
        """Shape of an HR image."""
        return Spec(self.raw_hr_imgs.shape[1:])

    def num_evaluated(self) -> int:
        """Return the number of pairs in memory."""
        return len(self.raw_lr_imgs)

    def sample_indices(self, num_samples: int, replace: bool = False) -> np.ndarray:
        """Choose pairs at random; the same seed gives the same pairs."""
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
            Whether a pair may occur twice.
        indices : sequence of int
            Numbers of the pairs, instead of a random choice.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            LR (num_samples, h, w, C) and HR (num_samples, H, W, C).
        """
        chosen = np.asarray(indices, np.int64)
        if chosen.size == 0:
            chosen = self.sample_indices(num_samples, replace)
        return self._norm_func(self.raw_lr_imgs[chosen], self.raw_hr_imgs[chosen])

    def evaluation_batch(self, start: int) -> Pair:
        """Return at most `batch_size` normalised pairs, starting at number `start`."""
        part = slice(start, start + self.batch_size)
        return self._norm_func(self.raw_lr_imgs[part], self.raw_hr_imgs[part])


class CropStream(PairStream):
    """Training patches at random places of larger images, for tasks that keep complete images.

    A subclass sets the attributes and implements `rooms` and `crops`.

    Attributes
    ----------
    patch_size : int
        Side of an LR patch in pixels.
    repeats : int
        Patches per image and epoch.
    """

    patch_size: int
    repeats: int
    _augmenter: Augmenter | None

    @abstractmethod
    def rooms(self) -> np.ndarray:
        """Return the usable size of every LR image, (n, 2): rows and columns."""

    @abstractmethod
    def crops(self, places: Sequence[tuple[int, int, int]]) -> Pair:
        """Return the patches at LR positions (image, row, column), physical units, float32."""

    def augmented(self, lr: np.ndarray, hr: np.ndarray, rng: np.random.Generator) -> Pair:
        """Augment a training batch, in physical units, as the settings request."""
        return (lr, hr) if self._augmenter is None else self._augmenter(lr, hr, rng)

    def batch(self, number: int) -> Pair:
        """Return training batch `number`, counted over all epochs from 0.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            LR (batch_size, p, p, C) and HR (batch_size, p * scale, p * scale, C), normalised,
            float32.
        """
        epoch, step = divmod(int(number), self.steps_per_epoch())
        start = step * self.batch_size
        items = self._permutation(epoch)[start : start + self.batch_size]
        rng = np.random.default_rng([self.seed, 2, int(number)])
        return self._norm_func(*self.augmented(*self.crops(self._places(items, rng)), rng))

    def _places(self, items: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        """Draw the position of each patch of an epoch in its image."""
        rooms = self.rooms()
        numbers = items % len(rooms)
        corners = rng.integers(0, rooms[numbers] - self.patch_size, endpoint=True)
        return [(int(n), int(y), int(x)) for n, (y, x) in zip(numbers, corners, strict=True)]


def even_places(room: Sequence[int], size: int, limit: int | None = None) -> list[tuple[int, int]]:
    """Return the corners of evenly spaced squares that do not overlap.

    Parameters
    ----------
    room : (int, int)
        Rows and columns of the image.
    size : int
        Side of a square.
    limit : int, optional
        Maximum number of squares, spread over the image.

    Returns
    -------
    list of (int, int)
        Row and column of the upper left corner of each square.
    """
    rows, columns = (_even(length, size) for length in room)
    places = [(row, column) for row in rows for column in columns]
    if limit is None or len(places) <= limit:
        return places
    return [places[i] for i in np.linspace(0, len(places) - 1, limit + 2)[1:-1].astype(int)]


def _even(length: int, size: int) -> list[int]:
    starts = np.linspace(0, length - size, length // size)
    return [round(start) for start in starts] if len(starts) > 1 else [(length - size) // 2]


class DataGenerator(PairStream):
    """Normalises LR / HR images and serves them in batches.

    Batch number i holds the same bytes whenever and in whatever order it is requested, so a
    resumed run sees the same batches as an uninterrupted one.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
        LR and HR images in physical units; pairs with a NaN or infinity are left out.
    norm_func : callable
        ``norm_func(x, y) -> (x, y)``, e.g. ``normalizer.normalize_pair``.
    batch_size : int
        Pairs per batch.
    augmenter : toolbox.augment.Augmenter, optional
        Applied to physical images before they are normalised.
    seed : int
        Seed of order and augmentation.

    Attributes
    ----------
    raw_lr_imgs, raw_hr_imgs : numpy.ndarray
        Physical images: `x` and `y` themselves, not a copy, unless pairs were left out. They are
        normalised batch by batch.
    num_imgs : int
        Number of pairs.
    batch_size : int
        Pairs per batch.

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
        self.raw_lr_imgs, self.raw_hr_imgs = without_gaps(x, y, "pairs")
        self.num_imgs = len(self.raw_lr_imgs)
        self.batch_size = batch_size
        self.seed = seed
        self._norm_func = norm_func
        self._augmenter = augmenter

    @property
    def lr_imgs(self) -> np.ndarray:
        """All LR images, normalised on each access."""
        return self._norm_func(self.raw_lr_imgs, self.raw_hr_imgs)[0]

    @property
    def hr_imgs(self) -> np.ndarray:
        """All HR images, normalised on each access."""
        return self._norm_func(self.raw_lr_imgs, self.raw_hr_imgs)[1]

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
        lr, hr = self.raw_lr_imgs[chosen], self.raw_hr_imgs[chosen]
        if self._augmenter is not None:
            lr, hr = self._augmenter(lr, hr, np.random.default_rng([self.seed, 2, int(number)]))
        return self._norm_func(lr, hr)
