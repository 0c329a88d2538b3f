"""Normalisers: from physical units to the values that the network sees, and back.

A normaliser is one class with constants and two forms of the same arithmetic: NumPy for the batches
of a training run, and a TensorFlow graph as part of the network in use. Tests, predictions and
exports all run that graph, see `toolbox.model.physical`. To add a normaliser, subclass `Normalizer`
and add a row to `toolbox.registry.NORMALIZERS`. The arguments of `fit` after `norm_range`, with
types and defaults, become keys of the YAML section ``normalizer``.
"""

from __future__ import annotations

import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from toolbox.config import Int
from toolbox.errors import ConfigError, DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.image_stack import parts
from toolbox.registry import NORMALIZERS
from toolbox.resample import enlarge, local_mean

if TYPE_CHECKING:
    import tensorflow as tf

FILE_NAME = "normalizer.json"
Denormalize = Callable[[np.ndarray], np.ndarray]
#: Enlarges a tensor (N, h, w, C) inside a graph, ``bicubic`` or ``bilinear``.
Enlarge = Callable[[Any, str], Any]


def _odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"an odd number; received {window}. Use 5.")
    return window


#: Side of a window in LR pixels.
Window = Annotated[Int, Field(ge=3), AfterValidator(_odd)]


class Normalizer(ABC):
    """Maps physical images (metres) to network images and back.

    A normaliser is fitted once, on training data only, and saved next to the weights.
    """

    name: ClassVar[str]
    #: Whether a pixel depends on the whole image. If so, maps are cut into windows of the size of a
    #: training patch, and their seams are blended.
    patchwise: ClassVar[bool] = False
    #: Range of the data in physical units and its lower end, for PSNR and SSIM.
    data_range: float
    data_min: float

    @property
    def max_val(self) -> float:
        """Range of the data in network units."""
        return self.data_range / self.unit

    @property
    def min_val(self) -> float:
        """Lower end of that range, as network images are centred on zero."""
        return -self.max_val / 2

    @classmethod
    @abstractmethod
    def fit(
        cls, lr: np.ndarray, hr: np.ndarray, norm_range: tuple[float, float], **options: Any
    ) -> Normalizer:
        """Choose the constants from the training images.

        Parameters
        ----------
        lr, hr : numpy.ndarray, shape (N, h, w, C) and (N, H, W, C)
            Training images, physical units, no NaN.
        norm_range : (float, float)
            Range of the data in physical units.
        **options
            Settings of the normaliser from the YAML file.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the constants that rebuild this normaliser (JSON types)."""

    @property
    @abstractmethod
    def unit(self) -> float:
        """Physical units per network unit of the output: an error of 1 is this many metres."""

    @abstractmethod
    def normalize_pair(self, lr: np.ndarray, hr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input and target for physical images, float32."""

    @abstractmethod
    def normalize_x(self, lr: np.ndarray) -> np.ndarray:
        """Return the network's input for physical LR images (N, h, w, C), float32."""

    @abstractmethod
    def denorm_funcs(self, lr: np.ndarray, scale: int) -> tuple[Denormalize, Denormalize]:
        """Return the inverse transforms of network inputs and outputs for the LR images `lr`."""

    @abstractmethod
    def graph(self, lr: tf.Tensor, scale: int, enlarge: Enlarge) -> tuple[tf.Tensor, ...]:
        """Return the network's input, and the terms that convert its output to physical units.

        Parameters
        ----------
        lr : tf.Tensor, shape (N, h, w, C), float32
            Physical units, no missing values.
        scale : int
            Enlargement factor.
        enlarge : callable
            ``enlarge(imgs, method)`` by that factor, method ``bicubic`` or ``bilinear``.

        Returns
        -------
        (tf.Tensor, tf.Tensor, tf.Tensor)
            Input (N, h, w, C); factor and summand, both (N, H, W, C): a result is
            ``y * factor + summand``.
        """

    def look(self, halo: int | None) -> int | None:
        """Return the radius of the input that a result depends on, LR pixels.

        Parameters
        ----------
        halo : int or None
            Radius for the network itself; None if unknown.

        Returns
        -------
        int or None
            None if unknown, or if a result depends on the whole image.
        """
        return halo

    def with_unit_of(self, former: Normalizer) -> Normalizer:
        """Return this normaliser with the unit of `former`, if they differ in nothing else.

        Initial weights thus keep the unit that they were trained with.
        """
        return self

    def converts_like(self, other: Normalizer) -> bool:
        """Return whether another normaliser converts alike; the range of PSNR may differ."""
        return self.name == other.name and self.state() == other.state()

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the keys that the YAML section ``normalizer`` accepts besides the name."""
        signature = inspect.signature(cls.fit, eval_str=True)
        own = list(signature.parameters.items())[3:]
        return {name: p for name, p in own if p.kind is not p.VAR_KEYWORD}


def normalizer_from(content: dict[str, Any]) -> Normalizer:
    """Rebuild a normaliser from its name and constants, the content of ``normalizer.json``."""
    constants = dict(content)
    normalizer: Normalizer = NORMALIZERS.resolve(constants.pop("name"))(**constants)
    return normalizer


def save_normalizer(normalizer: Normalizer, folder: str | os.PathLike[str]) -> None:
    """Write ``normalizer.json`` into `folder`."""
    content = {"name": normalizer.name, **normalizer.state()}
    with replacing(Path(folder, FILE_NAME)) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_normalizer(folder: str | os.PathLike[str]) -> Normalizer:
    """Read the normaliser that was saved next to the weights.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    path = Path(folder, FILE_NAME)
    try:
        return normalizer_from(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Train first, or fix log_dir.") from None
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError, DataError) as error:
        raise DataError(f"{path}: not a normaliser ({error}). Train again.") from None


class MinMaxNormalizer(Normalizer):
    """Scales data linearly so that [min, max] becomes [0, 1]; values outside are not clipped.

    This is the manual's normaliser. Relief inside a patch is tiny compared with a global range, and
    small networks then learn little: see `LocalMeanNormalizer`.

    Parameters
    ----------
    xmin, xmax : float
        Range of LR data.
    ymin, ymax : float
        Range of HR data; use the same for both, or the comparison with bicubic is unfair.
    """

    name = "minmax"
    min_val = 0.0

    def __init__(self, xmin: float, xmax: float, ymin: float, ymax: float) -> None:
        for low, high in ((xmin, xmax), (ymin, ymax)):
            if not high > low:
                raise ConfigError(
                    f"norm_range must be (min, max) with max > min; received ({low}, {high}). "
                    f"Change norm_range."
                )
        self.xmin, self.xmax = float(xmin), float(xmax)
        self.ymin, self.ymax = float(ymin), float(ymax)
        self.data_range = self.ymax - self.ymin
        self.data_min = self.ymin

    @classmethod
    def fit(
        cls, lr: np.ndarray, hr: np.ndarray, norm_range: tuple[float, float], **options: Any
    ) -> MinMaxNormalizer:
        """Use `norm_range` for LR and HR alike."""
        low, high = norm_range
        return cls(low, high, low, high, **options)

    def state(self) -> dict[str, Any]:
        """Return the four limits."""
        return {"xmin": self.xmin, "xmax": self.xmax, "ymin": self.ymin, "ymax": self.ymax}

    @property
    def unit(self) -> float:
        """Range of the HR data."""
        return self.ymax - self.ymin

    def normalize(self, imgs: np.ndarray, min: float, max: float) -> np.ndarray:
        """Scale `imgs` so that `min` becomes 0 and `max` becomes 1.

        Parameters
        ----------
        imgs : numpy.ndarray
            Physical units.
        min, max : float
            Limits in the same unit.

        Returns
        -------
        numpy.ndarray, same shape, float32
        """
        return ((np.asarray(imgs, np.float32) - np.float32(min)) / np.float32(max - min)).astype(
            np.float32, copy=False
        )

    def denormalize_x(self, imgs: np.ndarray) -> np.ndarray:
        """Invert `normalize` for LR images."""
        return imgs * np.float32(self.xmax - self.xmin) + np.float32(self.xmin)

    def denormalize_y(self, imgs: np.ndarray) -> np.ndarray:
        """Invert `normalize` for HR images."""
        return imgs * np.float32(self.ymax - self.ymin) + np.float32(self.ymin)

    def normalize_x(self, lr: np.ndarray) -> np.ndarray:
        """Return the network's input."""
        return self.normalize(lr, self.xmin, self.xmax)

    def normalize_pair(self, lr: np.ndarray, hr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input and target."""
        return self.normalize_x(lr), self.normalize(hr, self.ymin, self.ymax)

    def denorm_funcs(self, lr: np.ndarray, scale: int) -> tuple[Denormalize, Denormalize]:
        """Return `denormalize_x` and `denormalize_y`; `lr` is not used."""
        return self.denormalize_x, self.denormalize_y

    def constants(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return (zero, unit) of LR and of HR: a network value is ``(value - zero) / unit``."""
        return (self.xmin, self.xmax - self.xmin), (self.ymin, self.ymax - self.ymin)

    def graph(self, lr: tf.Tensor, scale: int, enlarge: Enlarge) -> tuple[tf.Tensor, ...]:
        """Return the input, and unit and zero of HR for each pixel; see `Normalizer.graph`."""
        import tensorflow as tf

        (x_zero, x_unit), (y_zero, y_unit) = self.constants()
        shape = _large(lr, scale)
        return (lr - x_zero) / x_unit, tf.fill(shape, y_unit), tf.fill(shape, y_zero)


class SymmetricNormalizer(MinMaxNormalizer):
    """Scales data linearly so that [min, max] becomes [-1, 1]; values outside are not clipped.

    For pictures stored as counts, e.g. of a scanning electron microscope: 0..255 or 0..65535.

    Parameters
    ----------
    xmin, xmax : float
        Range of LR data.
    ymin, ymax : float
        Range of HR data.
    """

    name = "symmetric"
    min_val = -1.0

    @property
    def unit(self) -> float:
        """Half the range of the HR data."""
        return (self.ymax - self.ymin) / 2

    def normalize(self, imgs: np.ndarray, min: float, max: float) -> np.ndarray:
        """Scale `imgs` so that `min` becomes -1 and `max` becomes 1."""
        zero, unit = (min + max) / 2, (max - min) / 2
        return ((np.asarray(imgs, np.float32) - np.float32(zero)) / np.float32(unit)).astype(
            np.float32, copy=False
        )

    def denormalize_x(self, imgs: np.ndarray) -> np.ndarray:
        """Invert `normalize` for LR images."""
        zero, unit = self.constants()[0]
        return imgs * np.float32(unit) + np.float32(zero)

    def denormalize_y(self, imgs: np.ndarray) -> np.ndarray:
        """Invert `normalize` for HR images."""
        zero, unit = self.constants()[1]
        return imgs * np.float32(unit) + np.float32(zero)

    def constants(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return (zero, unit) of LR and of HR: a network value is ``(value - zero) / unit``."""
        limits = (self.xmin, self.xmax), (self.ymin, self.ymax)
        x, y = (((low + high) / 2, (high - low) / 2) for low, high in limits)
        return x, y


class IdentityNormalizer(MinMaxNormalizer):
    """Changes nothing, for data that need no scaling, such as labels or images of 0..1."""

    name = "identity"

    def __init__(self) -> None:
        super().__init__(0, 1, 0, 1)

    @classmethod
    def fit(
        cls, lr: np.ndarray, hr: np.ndarray, norm_range: tuple[float, float], **options: Any
    ) -> IdentityNormalizer:
        """Return the normaliser without using the data; see `Normalizer.fit`."""
        return cls(**options)

    def state(self) -> dict[str, Any]:
        """Return an empty mapping: there are no constants."""
        return {}


class RemainderNormalizer(Normalizer):
    """Base class of normalisers that subtract a mean from the image.

    A mean is subtracted from LR and its bicubic enlargement from HR; both are divided by a spread.
    A subclass defines the mean and the spread, once in NumPy and once as a graph.

    Parameters
    ----------
    unit : float
        Standard deviation of the LR remainder over the training set, physical units.
    data_range, data_min : float
        Range of the data and its lower end, for PSNR and SSIM.
    """

    def __init__(self, unit: float, data_range: float = 1.0, data_min: float = 0.0) -> None:
        if not (np.isfinite(unit) and unit > 0):
            raise DataError(
                f"the training images are flat: the spread of their relief is {unit} m, so there "
                f"is nothing to learn. Use another region, or normalizer: minmax."
            )
        self._unit = float(unit)
        self.data_range = float(data_range)
        self.data_min = float(data_min)

    @classmethod
    def _fitted(cls, lr: np.ndarray, norm_range: tuple[float, float], **options: Any) -> Any:
        """Measure the spread of the LR remainder."""
        probe = cls(1.0, **options)
        total, count = 0.0, 0
        for part in map(np.asarray, parts(lr, 4096)):
            remainder = part - probe._centre(part)
            total, count = total + float(np.square(remainder).sum()), count + remainder.size
        spread = float(np.sqrt(total / count))
        low, high = norm_range
        return cls(spread, data_range=high - low, data_min=low, **options)

    def state(self) -> dict[str, Any]:
        """Return the spread and the range."""
        return {"unit": self._unit, "data_range": self.data_range, "data_min": self.data_min}

    def with_unit_of(self, former: Normalizer) -> Normalizer:
        """Return this normaliser with the unit of `former`; see `Normalizer.with_unit_of`."""
        fixed = [
            {key: value for key, value in n.state().items() if key not in _MEASURED}
            for n in (self, former)
        ]
        if former.name != self.name or fixed[0] != fixed[1]:
            return self
        return type(self)(**{**self.state(), "unit": former.unit})

    def converts_like(self, other: Normalizer) -> bool:
        """Compare all but the range, which only PSNR and SSIM refer to."""
        kept = [
            {key: value for key, value in n.state().items() if key not in _MEASURED[1:]}
            for n in (self, other)
        ]
        return self.name == other.name and kept[0] == kept[1]

    @property
    def unit(self) -> float:
        """The constant in physical units."""
        return self._unit

    # The subclass's mean and spread, in NumPy and as a graph.

    @abstractmethod
    def _centre(self, lr: np.ndarray) -> np.ndarray:
        """Return the mean (N, h, w, C) to subtract, float32."""

    def _spread(self, lr: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """Return the divisor, (N, h, w, C) or of a shape that broadcasts to it, float32."""
        return np.full((1, 1, 1, 1), self._unit, np.float32)

    @abstractmethod
    def _centre_graph(self, flat: tf.Tensor) -> tf.Tensor:
        """Return the mean (N, h, w, C) of images from which one of their depths is subtracted."""

    def _spread_graph(
        self, flat: tf.Tensor, centre: tf.Tensor, scale: int, enlarge: Enlarge
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the divisor of LR and the factor of HR, (N, h, w, C) and (N, H, W, C)."""
        import tensorflow as tf

        return tf.ones_like(flat) * self._unit, tf.fill(_large(flat, scale), self._unit)

    # Methods that follow from them.

    def _statistics(self, lr: np.ndarray, scale: int) -> tuple[np.ndarray, ...]:
        centre = self._centre(lr)
        spread = self._spread(lr, centre)
        if spread.shape[1:3] == lr.shape[1:3]:
            large_spread = np.maximum(enlarge(spread, scale, "bilinear"), 0.01 * self._unit)
        else:
            large_spread = spread
        return centre, spread, enlarge(centre, scale), large_spread

    def normalize_x(self, lr: np.ndarray) -> np.ndarray:
        """Return the network's input."""
        centre = self._centre(lr)
        return ((lr - centre) / self._spread(lr, centre)).astype(np.float32)

    def normalize_pair(self, lr: np.ndarray, hr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input and target."""
        scale = hr.shape[1] // lr.shape[1]
        centre, spread, large_centre, large_spread = self._statistics(lr, scale)
        x = (lr - centre) / spread
        y = (hr - large_centre) / large_spread
        return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)

    def denorm_funcs(self, lr: np.ndarray, scale: int) -> tuple[Denormalize, Denormalize]:
        """Return the inverse transforms for the images `lr`, which add back their means."""
        centre, spread, large_centre, large_spread = self._statistics(lr, scale)
        return (
            lambda x: x * spread + centre,
            lambda y: y * large_spread + large_centre,
        )

    def graph(self, lr: tf.Tensor, scale: int, enlarge: Enlarge) -> tuple[tf.Tensor, ...]:
        """Return input, factor and summand; see `Normalizer.graph`."""
        import tensorflow as tf

        # A depth of the image is subtracted first: sums in float32 would lose 1e-7 of 4000 m. Not
        # the mean: its rounding depends on the number of threads, and so would the whole result.
        row, column = tf.shape(lr)[1] // 2, tf.shape(lr)[2] // 2
        offset = lr[:, row : row + 1, column : column + 1]
        flat = lr - offset
        centre = self._centre_graph(flat)
        spread, factor = self._spread_graph(flat, centre, scale, enlarge)
        return (flat - centre) / spread, factor, enlarge(centre, "bicubic") + offset


class LocalMeanNormalizer(RemainderNormalizer):
    """Subtracts the local mean of a map.

    The mean of the valid pixels in a window of the LR image is subtracted from LR, and its bicubic
    enlargement from HR. Both are divided by one constant. This is linear and the same at every
    position, so a map predicted in tiles equals the map predicted in one piece. The network knows
    neither depth nor position, so one set of weights can serve any sea floor.

    Parameters
    ----------
    unit : float
        The constant in metres: standard deviation of the LR remainder over the training set.
    window : int
        Odd window size in LR pixels.
    data_range, data_min : float
        Range of the data in metres and its lower end, for PSNR and SSIM.
    """

    name = "local_mean"

    def __init__(
        self, unit: float, window: int = 5, data_range: float = 1.0, data_min: float = 0.0
    ) -> None:
        super().__init__(unit, data_range, data_min)
        if window < 3 or window % 2 == 0:
            raise ConfigError(
                f"normalizer.window must be an odd number of LR pixels, at least 3; "
                f"received {window}. Use 5."
            )
        self.window = int(window)

    @classmethod
    def fit(  # type: ignore[override]
        cls,
        lr: np.ndarray,
        hr: np.ndarray,
        norm_range: tuple[float, float],
        window: Window = 5,
    ) -> LocalMeanNormalizer:
        """Measure the spread of the LR remainder."""
        fitted: LocalMeanNormalizer = cls._fitted(lr, norm_range, window=window)
        return fitted

    def state(self) -> dict[str, Any]:
        """Return the constant, the window and the range."""
        unit = super().state()
        return {"unit": unit.pop("unit"), "window": self.window, **unit}

    def look(self, halo: int | None) -> int | None:
        """Add half a window; the enlargement of the mean reaches two pixels beyond it."""
        half = self.window // 2
        return None if halo is None else max(halo + half, half + 2)

    def _centre(self, lr: np.ndarray) -> np.ndarray:
        return local_mean(lr, self.window).astype(np.float32)

    def _centre_graph(self, flat: tf.Tensor) -> tf.Tensor:
        return _local_mean_graph(flat, self.window)


class LocalStandardNormalizer(LocalMeanNormalizer):
    """As `LocalMeanNormalizer`, but divides by the local standard deviation.

    The deviation is at least 10 % of the constant, so that flat ground is not amplified.
    """

    name = "local_standard"

    def look(self, halo: int | None) -> int | None:
        """Add a full window: half for the deviation, and half for the means that it uses."""
        far = 2 * (self.window // 2)
        return None if halo is None else max(halo + far, far + 2)

    def _spread(self, lr: np.ndarray, centre: np.ndarray) -> np.ndarray:
        variance = local_mean(np.square(np.asarray(lr, np.float64) - centre), self.window)
        return np.sqrt(np.maximum(variance, (0.1 * self._unit) ** 2)).astype(np.float32)

    def _spread_graph(
        self, flat: tf.Tensor, centre: tf.Tensor, scale: int, enlarge: Enlarge
    ) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        variance = _local_mean_graph(tf.square(flat - centre), self.window)
        spread = tf.sqrt(tf.maximum(variance, (0.1 * self._unit) ** 2))
        return spread, tf.maximum(enlarge(spread, "bilinear"), 0.01 * self._unit)


class PatchMeanNormalizer(RemainderNormalizer):
    """Subtracts the mean of the whole LR patch and divides by one constant.

    This depends on the position: a map predicted in tiles shows their seams.

    Parameters
    ----------
    unit, data_range, data_min : float
        See `RemainderNormalizer`.
    window : int, optional
        Ignored; present in files of older versions.
    """

    name = "patch_mean"
    patchwise = True

    def __init__(
        self,
        unit: float,
        data_range: float = 1.0,
        data_min: float = 0.0,
        window: int | None = None,
    ) -> None:
        super().__init__(unit, data_range, data_min)

    @classmethod
    def fit(
        cls, lr: np.ndarray, hr: np.ndarray, norm_range: tuple[float, float], **options: Any
    ) -> PatchMeanNormalizer:
        """Measure the spread of the LR remainder."""
        fitted: PatchMeanNormalizer = cls._fitted(lr, norm_range, **options)
        return fitted

    def look(self, halo: int | None) -> int | None:
        """Return None: every pixel depends on the whole patch."""
        return None

    def _centre(self, lr: np.ndarray) -> np.ndarray:
        mean = lr.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
        return np.broadcast_to(mean.astype(np.float32), lr.shape)

    def _centre_graph(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        # At great depths, rounding of the mean leaves a remainder.
        return tf.zeros_like(flat) + tf.reduce_mean(flat, [1, 2], keepdims=True)


class PatchStandardNormalizer(PatchMeanNormalizer):
    """Subtracts the mean of the whole LR patch and divides by its standard deviation."""

    name = "patch_standard"

    def _spread(self, lr: np.ndarray, centre: np.ndarray) -> np.ndarray:
        deviation = lr.std(axis=(1, 2), keepdims=True, dtype=np.float64)
        return np.maximum(deviation, 0.1 * self._unit).astype(np.float32)

    def _spread_graph(
        self, flat: tf.Tensor, centre: tf.Tensor, scale: int, enlarge: Enlarge
    ) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        deviation = tf.math.reduce_std(flat, [1, 2], keepdims=True)
        deviation = tf.maximum(deviation, 0.1 * self._unit)
        return deviation, tf.broadcast_to(deviation, _large(flat, scale))


#: The part of a state that `fit` measures; the rest are settings.
_MEASURED = ("unit", "data_range", "data_min")


def _large(lr: tf.Tensor, scale: int) -> tf.Tensor:
    """Return the shape of the enlarged images, inside a graph."""
    import tensorflow as tf

    return tf.shape(lr) * tf.constant([1, scale, scale, 1])


def _local_mean_graph(imgs: tf.Tensor, window: int) -> tf.Tensor:
    """Return the mean over a window, cut at the margins: TensorFlow does not count padding."""
    import tensorflow as tf

    return tf.nn.avg_pool2d(imgs, window, 1, "SAME")
