"""The only inference path: a test measures exactly what predictions and exports compute.

``load_model("log/").predict(map)``
"""

from __future__ import annotations

import functools
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from toolbox.errors import ConfigError, DataError
from toolbox.inference.tiling import Tiling
from toolbox.io.plausible import exact
from toolbox.io.weights import load_weights
from toolbox.model.build import build_network
from toolbox.model.physical import physical_model
from toolbox.model.reach import aligned_halo, footprint
from toolbox.normalizer import Normalizer, normalizer_from
from toolbox.pretrained import FOLDER
from toolbox.progress import progress
from toolbox.resample import back_project, block_mean, fill_gaps

Consistency = Literal["report", "project"]

#: Bytes that the largest layer of a tile may take; a few such layers are in memory at a time.
_LAYER_BYTES = 2**26
#: Factor by which a network with a wide reach may exceed this before its tiles are blended.
_LIMIT = 6
#: Bytes of a row of tiles, one band.
_STRIP_BYTES = 2**28
#: Overlap of tiles, in low-resolution pixels, for a network of unknown reach.
_BLEND_HALO = 16
#: Corrections of `lr_consistency` = ``project``. Each extends the reach by two pixels.
_ROUNDS = 3


class SuperResolver:
    """Enlarges maps and images of any size with one trained network, or with several.

    Parameters
    ----------
    networks : sequence of SRModel
        Networks with loaded weights, all of the same architecture; the result is their mean.
    normalizer : toolbox.normalizer.Normalizer
        The normaliser that they were trained with.
    config : dict
        The settings of the run, as in ``config.yml``.
    folder : path-like
        Folder of the run, for messages and model cards.
    weights : sequence of pathlib.Path
        The weights files of the networks.

    Attributes
    ----------
    scale, channels, out_channels : int
        Enlargement factor, and number of channels of images and of results.
    physical : keras.Model
        The first network with its normaliser: physical units in and out.
    """

    def __init__(
        self,
        networks: Sequence[Any],
        normalizer: Normalizer,
        config: dict[str, Any],
        folder: str | os.PathLike[str] = ".",
        weights: Sequence[Path] = (),
    ) -> None:
        self.normalizer = normalizer
        self.config = dict(config)
        self.folder = Path(folder)
        self.weights = list(weights)
        self.scale = int(networks[0].scale)
        self.channels = int(networks[0].channels)
        self.out_channels = int(networks[0].out_channels)
        members = [physical_model(network, normalizer) for network in networks]
        self.physical = members[0]
        alone = threading.Lock()
        self._forward = [_compiled(member, alone) for member in members]
        self._footprint = footprint(networks[0])
        self._multiple = int(networks[0].multiple)
        self._aligned_halo = aligned_halo(networks[0]) if self._footprint.halo is None else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the networks out: another process loads them once, from the weights files."""
        if not self.weights:
            raise TypeError("a network without a weights file cannot be sent to another process")
        state = {"name": self.normalizer.name, **self.normalizer.state()}
        weights = tuple(path.resolve() for path in self.weights)
        return _received, (self.config, state, self.folder.resolve(), weights, self.checksum)

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self.checksum, repr(self.config)

    @functools.cached_property
    def checksum(self) -> int:
        """CRC-32 of the files of the weights."""
        return zlib.crc32(b"".join(path.read_bytes() for path in self.weights))

    @property
    def is_pretrained(self) -> bool:
        """Whether the network ships with the project."""
        return self.folder.resolve().parent == FOLDER.resolve()

    @property
    def reach(self) -> int | None:
        """Low-resolution pixels around a pixel on which its result depends; None if unknown."""
        return self.normalizer.look(self._footprint.halo)

    def _look(self, project: bool) -> int:
        """Return the reach of a pixel, including the corrections towards the input."""
        reach = _BLEND_HALO if self.reach is None else self.reach
        return reach + (2 * _ROUNDS if project else 0)

    def tiling(
        self,
        shape: tuple[int, int],
        tile: int | None = None,
        gaps: bool = True,
        project: bool = False,
        around: int = 0,
    ) -> Tiling:
        """Choose how a map is cut into tiles.

        Parameters
        ----------
        shape : (int, int)
            Size of the low-resolution map.
        tile : int, optional
            Side of a tile in low-resolution pixels. Default: chosen by memory.
        gaps : bool
            Whether the map may have missing pixels. They are filled from pixels within the reach
            of the network.
        project : bool
            Whether the result is made consistent with the input.
        around : int
            Low-resolution pixels around each pixel that later processing of the result needs.

        Returns
        -------
        toolbox.inference.tiling.Tiling
        """
        look, values = self._look(project) + around, 4 * self._footprint.values
        blend = self.reach is None
        halo, trim = look * (2 if gaps and not blend else 1), 0
        aligned = self.normalizer.look(self._aligned_halo)
        if aligned is not None:
            # With this margin, attention gives the same numbers as on the undivided map.
            halo = trim = aligned + around + (2 * _ROUNDS if project else 0) + (look if gaps else 0)
        if self.normalizer.patchwise:
            # The mean was that of a training patch, so a window is as large as one.
            side = min(self.config.get("input_shape", (16, 16))[:2])
            if max(shape) <= side:
                return Tiling(shape, self.scale, side, 0)
            step = self._multiple if side >= 4 * self._multiple else 1
            tile, halo = (part // step * step for part in (side // 2, side // 4))
            return Tiling(shape, self.scale, tile, halo, True, step)
        if tile is None:
            side = int(np.sqrt(_LAYER_BYTES / values))
            tile = max(side - 2 * halo, halo + trim, 32)
            if (tile + 2 * halo) ** 2 * values > _LIMIT * _LAYER_BYTES:
                # A very deep network: distant pixels matter little, memory matters more.
                halo, blend = min(halo, max(_BLEND_HALO, side // 3)), True
                trim = min(trim, halo // 2)
                tile = max(side - 2 * halo, halo)
            # A full row of tiles is kept in memory.
            tile = min(tile, max(32, _STRIP_BYTES // (4 * shape[1] * self.scale**2)))
            if not blend:
                tile = _evened(tile, shape, self._multiple)
        tile, halo = (-(-side // self._multiple) * self._multiple for side in (tile, halo))
        return Tiling(shape, self.scale, tile, halo, blend, self._multiple, trim)

    def enhancer(
        self,
        self_ensemble: bool = False,
        standard_deviation: bool = False,
        lr_consistency: Consistency = "report",
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that enlarges one window of a map.

        Parameters
        ----------
        self_ensemble : bool
            Whether to average over the eight mirrored and rotated copies of the input.
        standard_deviation : bool
            Whether to append a band with the standard deviation over copies and networks, in
            physical units.
        lr_consistency : {'report', 'project'}
            ``project`` corrects the result so that its block means equal the input.

        Returns
        -------
        callable
            From (h, w, C), physical units, NaN where missing, to (h * scale, w * scale, B), which
            may be read-only.

        Raises
        ------
        ConfigError
            If there is no spread to report.
        """
        copies = _COPIES if self_ensemble else _COPIES[:1]
        if standard_deviation and len(copies) * len(self._forward) < 2:
            raise ConfigError(
                "standard_deviation needs self_ensemble: true or several weights; received "
                "neither, so there is no spread to report. Add one of them."
            )
        if lr_consistency not in ("report", "project"):
            raise ConfigError(
                f"lr_consistency must be report or project; received {lr_consistency!r}."
            )

        def enhance(lr: np.ndarray) -> np.ndarray:
            missing = np.isnan(lr).any(axis=2)
            if missing.all():
                count = self.out_channels * (2 if standard_deviation else 1)
                return np.full((*self._large(lr), count), np.nan, np.float32)
            look = max(1, self._look(lr_consistency == "project"))
            filled = fill_gaps(lr, look) if missing.any() else lr
            mean, deviation = self._members(filled, copies)
            if lr_consistency == "project":
                mean = _consistent(mean, filled, self.scale)
            result = mean
            if standard_deviation:
                result = np.concatenate([mean, deviation], axis=2, dtype=np.float32)
            elif missing.any() and not mean.flags.writeable:
                result = mean.copy()
            if missing.any():
                result[repeated(missing, self.scale)] = np.nan
            return result

        return enhance

    def _large(self, lr: np.ndarray) -> tuple[int, int]:
        return lr.shape[0] * self.scale, lr.shape[1] * self.scale

    def _members(
        self, lr: np.ndarray, copies: Sequence[tuple[int, bool]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation over networks and mirrored copies."""
        mean = squares = np.zeros(1)
        count = 0
        for forward in self._forward:
            for turns, mirrored in copies:
                turned = np.rot90(lr[:, ::-1] if mirrored else lr, turns)
                large = np.rot90(forward(turned[None])[0], -turns)
                large = large[:, ::-1] if mirrored else large
                count += 1
                if count == 1:
                    mean = large
                else:  # Welford's algorithm avoids differences of large squares
                    step = large - mean
                    mean = mean + step / count
                    squares = squares + step * (large - mean)
        if not np.isfinite(mean).all():
            raise DataError(
                f"{self.folder}: the network gave numbers that are not finite for input from "
                f"{exact(lr.min())} to {exact(lr.max())}. If one of these means missing, name it "
                f"with --nodata; otherwise set precision: float32 in its config.yml, or train "
                f"again."
            )
        return mean, np.sqrt(squares / max(1, count - 1)) if count > 1 else squares

    def predict(
        self,
        data: Any,
        tile: int | None = None,
        self_ensemble: bool = False,
        lr_consistency: Consistency = "report",
    ) -> Any:
        """Enlarge a map, an image, a stack of them, or an ``xarray.DataArray``.

        Parameters
        ----------
        data : numpy.ndarray, shape (h, w), (h, w, C) or (N, h, w, C), or xarray.DataArray
            Physical units (metres, negative below sea level), NaN where missing. A DataArray may
            have further axes; its last two must be rows and columns.
        tile, self_ensemble, lr_consistency
            See `tiling` and `enhancer`.

        Returns
        -------
        same kind as `data`
            `scale` times as many rows and columns, float32; a DataArray has refined coordinates.

        Raises
        ------
        DataError
            If the shape does not fit the network.
        """
        if hasattr(data, "data_vars"):
            raise DataError("expected a DataArray; received a Dataset. Choose one variable of it.")
        if hasattr(data, "dims") and hasattr(data, "coords"):
            from toolbox.io.data_array import enlarged_array

            return enlarged_array(
                data, self.scale, lambda x: self.predict(x, tile, self_ensemble, lr_consistency)
            )
        if np.ma.isMaskedArray(data):
            data = np.ma.filled(data.astype(np.float32), np.nan)
        stack = self._as_stack(np.asarray(data))
        project = lr_consistency == "project"
        enhance = self.enhancer(self_ensemble, lr_consistency=lr_consistency)
        results = []
        for lr in stack:
            tiling = self.tiling(lr.shape[:2], tile, bool(np.isnan(lr).any()), project)
            read = lambda rows, columns, lr=lr: lr[rows, columns]  # noqa: E731
            results.append(np.concatenate(list(tiling.strips(read, enhance))))
        result = np.stack(results)
        if np.ndim(data) == 2:
            return result[0, ..., 0]
        return result[0] if np.ndim(data) == 3 else result

    def super_resolve(self, lr: np.ndarray, batch_size: int, label: str = "") -> np.ndarray:
        """Enlarge a stack of images of one size, several at a time.

        The graph is that of `predict`, applied to complete images.

        Parameters
        ----------
        lr : numpy.ndarray, shape (N, h, w, C)
            Physical units, without missing pixels.
        batch_size : int
            Number of images per call of the network.
        label : str
            Name of the progress bar; empty for none.

        Returns
        -------
        numpy.ndarray, shape (N, H, W, C), float32
            Physical units, the mean over the networks.
        """
        starts: Any = range(0, len(lr), batch_size)
        parts = []
        for start in progress(starts, label, delay=2) if label else starts:
            part = np.asarray(lr[start : start + batch_size], np.float32)
            large = [forward(part) for forward in self._forward]
            parts.append(large[0] if len(large) == 1 else np.mean(large, axis=0))
        return np.concatenate(parts)

    def _as_stack(self, data: np.ndarray) -> np.ndarray:
        if data.dtype.kind not in "biuf":
            raise DataError(f"expected an array of numbers; received {data.dtype}.")
        shape = data.shape
        stack = data[None, ..., None] if data.ndim == 2 else data[None] if data.ndim == 3 else data
        if stack.ndim != 4 or stack.shape[3] != self.channels or 0 in shape:
            raise DataError(
                f"expected an array (h, w, {self.channels}) or (N, h, w, {self.channels})"
                f"{' or (h, w)' if self.channels == 1 else ''}; received shape {shape}."
            )
        with np.errstate(over="ignore"):
            stack = stack.astype(np.float32, copy=False)
        return np.where(np.isinf(stack), np.float32(np.nan), stack)


def _evened(tile: int, shape: tuple[int, int], multiple: int) -> int:
    """Return the smallest tile that needs no more tiles along the longer side.

    All windows have the same size, so a narrow last tile costs as much as a full one.
    """
    step = max(8, multiple)
    even = -(-max(shape) // -(-max(shape) // tile))
    return min(tile, -(-even // step) * step)


#: Quarter turns, with or without mirroring first: the eight symmetries of the square.
_COPIES = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


def _compiled(model: keras.Model, alone: threading.Lock) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of stacks (N, h, w, C) that runs a network as one graph.

    Threads that call it take turns at `alone`: one window's layers are in memory at a time.

    All sizes share one graph. Graphs for a fixed size round differently, so the bytes of a map
    would depend on which sizes came before it.
    """
    spec = tf.TensorSpec((None, None, None, model.inputs[0].shape[-1]), tf.float32)
    function = tf.function(lambda x: model(x, training=False), input_signature=[spec])

    def forward(lr: np.ndarray) -> np.ndarray:
        with alone:
            result = function(tf.constant(lr, tf.float32))
        try:  # the tensor's own memory, read-only
            return np.asarray(memoryview(result))
        except (TypeError, ValueError, BufferError):  # on a GPU
            copied: np.ndarray = result.numpy()
            return copied

    return forward


#: Networks received from other processes, by checksum and settings.
_RECEIVED: dict[tuple[Any, ...], SuperResolver] = {}
_RECEIVED_LOCK = threading.Lock()


def _received(
    config: dict[str, Any],
    normalizer: dict[str, Any],
    folder: Path,
    weights: tuple[Path, ...],
    checksum: int,
) -> SuperResolver:
    """Return a network received from another process; each process builds it once."""
    key = (checksum, repr(config), repr(normalizer), folder)
    with _RECEIVED_LOCK:
        if key not in _RECEIVED:
            networks = [build_network(config) for _ in weights]
            for network, path in zip(networks, weights, strict=True):
                load_weights(network, path)
            made = SuperResolver(networks, normalizer_from(normalizer), config, folder, weights)
            if made.checksum != checksum:
                raise DataError(
                    f"{weights[0]}: does not hold the weights that the work was started with. "
                    f"Give every worker the same files."
                )
            _RECEIVED[key] = made
        return _RECEIVED[key]


def _consistent(sr: np.ndarray, lr: np.ndarray, scale: int) -> np.ndarray:
    """Correct `sr` smoothly, then correct the remaining difference block by block."""
    smooth = back_project(sr[None], lr[None], _ROUNDS)
    rest = lr - block_mean(smooth.astype(np.float64), scale)[0]
    return (smooth[0] + repeated(rest, scale)).astype(np.float32)


def repeated(imgs: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel `scale` times along rows and columns."""
    return imgs.repeat(scale, axis=0).repeat(scale, axis=1)
