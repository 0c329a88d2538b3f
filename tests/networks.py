"""Small networks for every row of the registry, those that no test has heard of included."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from toolbox.model.reach import footprint
from toolbox.registry import MODELS

DENSE = {"filters": 4, "growth": 3, "num_layers": 2}
STAGE = {"attention_every": 1, "window": 4}
ADVERSARIAL = {"filters": 4, "num_residual_blocks": 1, "d_filters": 2}
#: Settings that build in a moment and are not the defaults; every kind of layer occurs.
KNOWN: dict[str, dict[str, Any]] = {
    "srcnn": {"filters": [4, 3], "kernels": [9, 1, 5]},
    "fsrcnn": {"d": 4, "s": 3, "m": 2},
    "espcn": {"filters": [4, 3], "kernels": [5, 3, 3]},
    "edsr": {"filters": 4, "num_residual_blocks": 1, "residual_scale": 0.5},
    "srgan": {**ADVERSARIAL, "label_noise": 0.1},
    "esrgan": {**ADVERSARIAL, "growth": 3, "d_num_downsampling_blocks": 1},
    "pix2pix": {"filters": 4, "d_filters": 2, "conditional": True},
    "unet": {"filters": 4, "depth": 1, "normalization": "none"},
    "simplesrnet": {"filters": 4, "num_layers": 3},
    "edsr_light": {"filters": 4, "num_residual_blocks": 1},
    "rdn": {**DENSE, "num_dense_blocks": 2},
    "rdn_edge": {**DENSE, "num_dense_blocks": 1},
    "edgeformer": {"filters": 4, "num_groups": 1, "window": 4},
    "edgeformer_edsr": {"filters": 4, "num_residual_blocks": 1, **STAGE},
    "edgeformer_edsr_light": {"filters": 4, "num_residual_blocks": 1, **STAGE},
    "edgeformer_rdn": {**DENSE, "num_dense_blocks": 1, "num_layers": 1, **STAGE},
    "surgical_phase": {"num_classes": 3, "backbone": "MobileNet", "width": 8, "heads": 2},
}
#: Rows whose networks give images; the others have tests of their own.
IMAGING = sorted(name for name in MODELS if MODELS.resolve(name).results == "images")


def shrunk(value: Any) -> Any:
    """Return a whole number or a list of them, none above 4, odd ones still odd; or None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value <= 4 else 4 - value % 2
    if isinstance(value, list | tuple):
        small = [shrunk(each) for each in value]
        return None if None in small else small
    return None


def small(name: str, **changes: Any) -> dict[str, Any]:
    """Return small settings for a row of the registry, with some changed.

    A network that is not in `KNOWN` gets its own defaults, whole numbers and lists of them made
    small.
    """
    if name in KNOWN:
        return {**KNOWN[name], **changes}
    parameters = MODELS.resolve(name).parameters().values()
    values = {
        p.name: shrunk(p.default) for p in parameters if p.default is not inspect.Parameter.empty
    }
    return {key: value for key, value in values.items() if value is not None} | changes


def network(
    name: str,
    img_shape: tuple[int | None, ...] = (None, None, 1),
    scale: int = 2,
    params: dict[str, Any] | None = None,
    **options: Any,
) -> keras.Model:
    """Build the small network from LR to HR images of a row: of an adversarial model the generator.

    `params` are changes to the settings of `small`.
    """
    model = MODELS.resolve(name)
    own = model.network_parameters()
    settings = {key: value for key, value in small(name, **params or {}).items() if key in own}
    return getattr(model, "generator_class", model)(img_shape, scale, params=settings, **options)


def attends_in_windows(name: str) -> bool:
    """Whether a row has attention among the pixels of a window, wherever a pixel lies in it."""
    return {"heads", "window"} <= set(MODELS.resolve(name).parameters())


def has_reach(name: str) -> bool:
    """Whether it is known how far a row looks; a network unheard of is built to see."""
    if name in KNOWN:
        return not attends_in_windows(name)
    return footprint(network(name)).halo is not None


def narrow_vgg19(
    include_top: bool = False, weights: None = None, input_tensor: Any = None
) -> keras.Model:
    """Return the layers of ``keras.applications.VGG19`` with a sixteenth of their channels.

    It stands in for VGG19 where 20 million weights and their hours would prove nothing more.
    """
    assert not include_top
    assert weights is None
    image = keras.Input((None, None, 3)) if input_tensor is None else input_tensor
    x = image
    for block, (count, filters) in enumerate(((2, 4), (2, 8), (4, 16), (4, 32), (4, 32)), 1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                filters, 3, activation="relu", padding="same", name=f"block{block}_conv{number}"
            )(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(image, x)
