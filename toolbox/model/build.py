"""Build a network from settings; no other module does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from toolbox.registry import MODELS


def build_network(config: Mapping[str, Any], training: bool = False) -> Any:
    """Build the network of a run, without weights.

    Parameters
    ----------
    config : mapping
        Checked settings as in ``config.yml``: ``model``, the section of that name,
        ``input_shape``, ``scale``, ``bicubic_skip``, ``precision``.
    training : bool
        Build everything that is trained, for images of ``input_shape``. Otherwise build only what
        a weights file holds, for images of any size if possible; for an adversarial model, this is
        the generator.

    Returns
    -------
    SRModel
        The network, not compiled.
    """
    model = MODELS.resolve(config["model"])
    params = dict(config.get(config["model"]) or {})
    shape = tuple(config["input_shape"])
    if not training:
        params = {key: params[key] for key in model.network_parameters() if key in params}
        model, shape = model.network_class(), model.used_shape(shape)
    with policy(config.get("precision") or "float32"):
        return model(
            shape,
            int(config.get("scale", 4)),
            params=params,
            bicubic_skip=bool(config.get("bicubic_skip")),
        )


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """Build layers with another precision policy, then restore the previous one."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)
