"""Weights files ``weights_*.h5``: written completely, read in the layout of Keras 3 or Keras 2."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from toolbox.errors import WeightsError
from toolbox.io.atomic import replacing

Shapes = list[tuple[int, ...]]
Rows = list[tuple[str, Shapes]]


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write the weights of `model`; the file appears complete or not at all.

    Parameters
    ----------
    model : keras.Model
        A built model. For an adversarial model, the weights of the generator are written.
    path : path-like
        Any name, e.g. ``weights_best.h5``; the ending ``.weights.h5`` of Keras is not required.
    """
    network = _network(model)
    _check_room(path, sum(int(np.prod(w.shape)) * 4 for w in network.weights))
    with replacing(path, suffix=".weights.h5") as beside, _without_optimizer(network):
        network.save_weights(beside)


def _check_room(path: str | os.PathLike[str], size: int) -> None:
    """Refuse a full disk beforehand: HDF5 would fail and may kill the process."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    # Groups and attributes need space in addition to the numbers.
    if shutil.disk_usage(folder).free < 1.1 * size + 300_000:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def _network(model: Any) -> keras.Model:
    return model.network() if hasattr(model, "network") else model


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Exclude the optimizer's slots, twice the size of the weights, from a weights file."""
    optimizer = getattr(model, "optimizer", None)
    try:
        model.optimizer = None
        yield
    finally:
        model.optimizer = optimizer


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Read weights written by this program, by Keras 3, or by Keras 2 (TensorFlow 2.5).

    Parameters
    ----------
    model : keras.Model
        A built model with the same layers in the same order. For an adversarial model, the
        weights of the generator are read.
    path : path-like
        The weights file.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or belongs to another architecture. The message names the
        first layer that differs, with both shapes.
    """
    model = _network(model)
    if not Path(path).is_file():
        raise WeightsError(
            f"{path}: no such weights file. Train first, or correct fname_model_weights or "
            f"read_test_weights."
        )
    try:
        with h5py.File(path, "r") as stored:
            # A complete model saved by Keras 2 keeps its weights one level deeper.
            root = stored.get("model_weights", stored)
            legacy = "layer_names" in root.attrs
            found = _legacy_rows(root) if legacy else _keras3_rows(model, stored)
    except Exception as error:  # a damaged file may raise anything, such as RuntimeError
        words = " ".join(str(error).split())
        raise WeightsError(f"{path}: not a readable HDF5 file ({words}).") from None
    _compare(_model_rows(model), found, path)
    try:
        _load(model, path, ".h5" if legacy else ".weights.h5")
    except MemoryError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: does not fit {type(model).__name__} ({first}).") from None
    for layer in _layers(model):
        if not all(np.isfinite(values).all() for values in layer.get_weights()):
            raise WeightsError(
                f"{path}: layer {layer.name} holds numbers that are not finite. The file is "
                f"damaged, or its training run diverged; use another, such as weights_best.h5."
            )


def _load(model: keras.Model, path: str | os.PathLike[str], ending: str) -> None:
    """Let Keras read a copy whose name has the ending by which Keras selects the reader."""
    with tempfile.TemporaryDirectory() as folder, _without_optimizer(model):
        model.load_weights(shutil.copyfile(path, Path(folder, "copy" + ending)))


def _layers(model: keras.Model) -> Iterator[Any]:
    """Yield the layers with weights, including those of nested networks."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        elif layer.weights:
            yield layer


def _model_rows(model: keras.Model) -> Rows:
    return [(layer.name, _shapes_of(layer)) for layer in _layers(model)]


def _shapes_of(layer: keras.Layer) -> Shapes:
    shapes = [tuple(w.shape) for w in layer.weights]
    inside = any(inner.weights for inner in layer._flatten_layers(include_self=False))
    return sorted(shapes) if inside else shapes


def _legacy_rows(stored: h5py.Group) -> Rows:
    rows = []
    for raw in stored.attrs["layer_names"]:
        name = raw.decode() if isinstance(raw, bytes) else raw
        group = stored[name]
        shapes = [tuple(group[weight].shape) for weight in group.attrs["weight_names"]]
        if shapes:
            rows.append((name, shapes))
    return rows


def _keras3_rows(model: keras.Model, stored: h5py.Group) -> Rows:
    """List the stored layers in the order of `model`, followed by unknown ones."""
    groups = dict(stored.get("layers", {}))
    used: dict[str, int] = {}
    rows: Rows = []
    for layer in model.layers:
        base = to_snake_case(type(layer).__name__)
        used[base] = used.get(base, -1) + 1
        group = groups.pop(f"{base}_{used[base]}" if used[base] else base, {})
        if isinstance(layer, keras.Model):
            rows += _keras3_rows(layer, group)
        elif shapes := _stored_shapes(group):
            rows.append((layer.name, shapes))
    unknown = ((name, _stored_shapes(group)) for name, group in groups.items())
    return rows + [(name, shapes) for name, shapes in unknown if shapes]


def _stored_shapes(group: Any) -> Shapes:
    """Return the shapes of a layer; sorted if it has inner layers, whose order is lost."""
    variables = group.get("vars", {})
    own = [tuple(variables[key].shape) for key in sorted(variables, key=int)]
    # The state of a dropout layer is not a weight.
    names = [name for name in group if name not in ("vars", "seed_generator")]
    inside = [shape for name in names for shape in _stored_shapes(group[name])]
    return sorted(own + inside) if inside else own


def _compare(wanted: Rows, found: Rows, path: str | os.PathLike[str]) -> None:
    for (layer, expected), (stored_layer, received) in zip(wanted, found, strict=False):
        if expected != received:
            raise WeightsError(
                f"{path}: belongs to another architecture: layer {layer} needs shapes {expected}; "
                f"{stored_layer} in the file has {received}. Use the settings it was trained with."
            )
    if len(wanted) != len(found):
        raise WeightsError(
            f"{path}: belongs to another architecture: the model has {len(wanted)} layers with "
            f"weights, the file has {len(found)}. Use the settings it was trained with."
        )
