"""From settings to a network: the only place where one is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from toolbox.registry import MODELS
from toolbox.training.distribution import Distribution, open_distribution


def build_network(config: Mapping[str, Any], training: bool = False) -> Any:
    """Build the network of a run, without weights.

    Parameters
    ----------
    config : mapping
        Checked settings, as ``config.yml`` holds them: ``model``, the section of that name,
        ``input_shape``, ``scale``, ``bicubic_skip``, ``precision``, ``distribution``.
    training : bool
        Build all that is trained, for images of ``input_shape``, on all devices; else what a
        weights file holds, for images of any size if it can. Of an adversarial model that is the
        generator alone.

    Returns
    -------
    SRModel
        Not compiled.
    """
    model = MODELS.resolve(config["model"])
    params = dict(config.get(config["model"]) or {})
    shape = tuple(config["input_shape"])
    if not training:
        params = {key: params[key] for key in model.network_parameters() if key in params}
        model, shape = model.network_class(), model.used_shape(shape)
    spread = open_distribution(config.get("distribution", "none")) if training else Distribution()
    with policy(config.get("precision") or "float32"), spread.scope():
        network = model(
            shape,
            int(config.get("scale", 4)),
            params=params,
            bicubic_skip=bool(config.get("bicubic_skip")),
        )
    spread.adopt(network)
    return network


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """Build layers with another precision, then return to the former one."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)
