"""Surgical phases: what windows of a video show, with masks, and what came before and after."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import keras
from keras import layers, ops
from pydantic import Field

from toolbox.config import Count, Int, Share
from toolbox.errors import ConfigError, WeightsError, nearest_name
from toolbox.model.base import SRModel
from toolbox.model.layer import PACKAGE
from toolbox.model.maxvit import VARIANTS, load_timm, maxvit_backbone

#: What the first word of a backbone's name means.
_MAXVIT = "maxvit_"
#: What stands for weights that Keras downloads.
IMAGENET = "imagenet"
#: Channels of a mask: red and green.
MASK_CHANNELS = 2
#: Channels of the temporal head, as in TeCNO.
_TEMPORAL_WIDTH = 64


@keras.saving.register_keras_serializable(package=PACKAGE)
class FoldWindows(layers.Layer):
    """Puts the windows of all sequences one below the other: (N, S, ...) to (N * S, ...)."""

    def call(self, x: Any) -> Any:
        """Fold."""
        return ops.reshape(x, (-1, *x.shape[2:]))

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of what `call` returns."""
        return (None, *shape[2:])


@keras.saving.register_keras_serializable(package=PACKAGE)
class UnfoldWindows(layers.Layer):
    """Gives features (N * S, F) the sequences (N, S, F) of what they were taken from."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Unfold the first input like the second."""
        features, windows = inputs
        length = windows.shape[1] or ops.shape(windows)[1]
        return ops.reshape(features, (-1, length, features.shape[-1]))

    def compute_output_shape(self, shapes: Sequence[Sequence[int | None]]) -> tuple[Any, ...]:
        """Return the shape of what `call` returns."""
        features, windows = shapes
        return (windows[0], windows[1], features[-1])


@keras.saving.register_keras_serializable(package=PACKAGE)
class ImageScaling(layers.Layer):
    """Scales pixels of 0 to 255 as a backbone was trained with them.

    Parameters
    ----------
    backbone : str
        A MaxViT, which takes -1 to 1, or the name of a network of `keras.applications`, whose
        ``preprocess_input`` it is.
    """

    def __init__(self, backbone: str, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.backbone = backbone

    def call(self, x: Any) -> Any:
        """Scale (N, h, w, 3)."""
        if self.backbone.startswith(_MAXVIT):
            return x / 127.5 - 1.0
        module = sys.modules[_application(self.backbone).__module__]
        return module.preprocess_input(x)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "backbone": self.backbone}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Positions(layers.Layer):
    """Adds to every token (N, tokens, width) what is learned of its place."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make one vector for each place."""
        self.places = self.add_weight(
            name="places",
            shape=shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, x: Any) -> Any:
        """Add."""
        return x + ops.cast(self.places, x.dtype)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SurgicalPhaseClassificationModel(SRModel):
    """Scores of the phases for every window of a sequence, from its image and its masks.

    The last features of a backbone become one token for each of their places, the masks one token
    for each field of a grid. The image tokens ask, image and mask tokens together answer, and what
    they say is added to the image tokens: neither image nor mask can be lost, as the image is
    where the masks are the only key. A dense layer follows, and with `temporal_layers` dilated
    convolutions over the windows of the sequence.

    It takes ``{"image": (N, S, h, w, 3), "mask": (N, S, h, w, 2)}``, pixels of 0 to 255 and masks
    of 0 to 1, and returns logits (N, S, phases); without masks there is no such input.

    References
    ----------
    Tu et al. 2022, arXiv:2204.01697, MaxViT; Vaswani et al. 2017, arXiv:1706.03762, attention;
    Czempiel et al. 2020, arXiv:2003.10751, TeCNO: causal dilated convolutions over features.
    """

    results: ClassVar[str] = "labels"

    def _inputs(self) -> dict[str, keras.KerasTensor]:
        h, w, channels = self.img_shape
        inputs = {"image": keras.Input((None, h, w, channels), name="image")}
        if self.params.get("masks"):
            inputs["mask"] = keras.Input((None, h, w, MASK_CHANNELS), name="mask")
        return inputs

    def _outputs(self, inputs: dict[str, keras.KerasTensor]) -> keras.KerasTensor:
        encoder, head = self.__build__(**self.params)
        folded = {name: FoldWindows(name=f"fold_{name}")(x) for name, x in inputs.items()}
        features = UnfoldWindows(name="unfold")([encoder(folded), inputs["image"]])
        return head(features)

    def __build__(  # type: ignore[override]
        self,
        num_classes: Count = 52,
        masks: bool = False,
        backbone: str = "maxvit_large",
        backbone_alpha: Annotated[float, Field(gt=0, le=2)] | None = None,
        backbone_weights: str | None = None,
        train_backbone: bool = True,
        width: Count = 512,
        heads: Count = 8,
        dropout_rate: Share = 0.1,
        temporal_layers: Annotated[Int, Field(ge=0, le=16)] = 0,
        causal: bool = True,
    ) -> tuple[keras.Model, keras.Model]:
        """Return the network for single windows, and the one for their features in sequence.

        Parameters
        ----------
        num_classes : int, default by the source
            Number of phases.
        masks : bool, default by the source
            Whether there are masks.
        backbone : str
            maxvit_tiny, maxvit_small, maxvit_base, maxvit_large, or the name of a network of
            ``keras.applications``, e.g. MobileNetV2.
        backbone_alpha : float, optional
            Width multiplier of a MobileNet.
        backbone_weights : str, optional
            File to start from: timm's ``.safetensors`` of a MaxViT, Keras's ``.weights.h5`` of
            another; ``imagenet`` lets Keras download those of another.
        train_backbone : bool
            Train the backbone too, or leave it as it starts.
        width : int
            Features of a window.
        heads : int
            Heads of the attention.
        dropout_rate : float
            Share of features left out in training.
        temporal_layers : int
            Dilated convolutions over the windows; 0 for none: every window by itself. n of them
            reach ``2 * (2 ** n - 1)`` windows back.
        causal : bool
            Whether these see only what came before; otherwise half as far back, and as far ahead.
        """
        if width % heads:
            raise ConfigError(
                f"surgical_phase.heads must divide width, {width}; received {heads}. Use 8 and 512."
            )
        base = _backbone(backbone, self.img_shape, backbone_alpha, backbone_weights)
        base.trainable = train_backbone
        shape = self.img_shape
        encoder = _encoder(base, backbone, shape, masks, width, heads, dropout_rate)
        self.encoder = encoder
        self.head = _head(width, num_classes, temporal_layers, causal, dropout_rate)
        return self.encoder, self.head

    @classmethod
    def network_parameters(cls) -> dict[str, Any]:
        """Return those of `parameters` that shape the network: not what it started from."""
        starts = ("backbone_weights",)
        return {name: p for name, p in cls.parameters().items() if name not in starts}

    @classmethod
    def used_shape(cls, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """Return the trained size: places in the image have a meaning."""
        return shape

    def for_any_size(self) -> SRModel:
        """Return this network, which is for images of one size."""
        return self


def _application(name: str) -> Any:
    """Return a function of ``keras.applications`` by its name."""
    known = {
        key: value
        for key, value in vars(keras.applications).items()
        if callable(value) and key[:1].isupper()
    }
    if name not in known:
        maxvits = [f"{_MAXVIT}{size}" for size in VARIANTS]
        raise ConfigError(
            f"surgical_phase.backbone must be {', '.join(maxvits)} or a network of "
            f"keras.applications, e.g. MobileNetV2; received {name}."
            f"{nearest_name(name, [*known, *maxvits])}"
        )
    return known[name]


def _backbone(
    name: str, shape: tuple[int | None, ...], alpha: float | None, weights: str | None
) -> keras.Model:
    """Return a network from scaled images to features (N, rows, columns, channels)."""
    size = name.removeprefix(_MAXVIT)
    if name.startswith(_MAXVIT) and size in VARIANTS:
        if alpha is not None or shape[0] != shape[1]:
            raise ConfigError(
                f"surgical_phase.backbone {name} takes square images and no backbone_alpha; "
                f"received {list(shape[:2])} and {alpha}. Change one of the two."
            )
        if weights == IMAGENET:
            raise ConfigError(
                f"surgical_phase.backbone_weights must be a .safetensors file of timm's {name}_tf_"
                f"224 with that backbone; received {weights}. Download it from timm's page."
            )
        model = maxvit_backbone(size, int(shape[0] or 0))
        if weights is not None:
            load_timm(model, weights)
        return model
    return _from_keras(name, shape, alpha, weights)


def _from_keras(
    name: str, shape: tuple[int | None, ...], alpha: float | None, weights: str | None
) -> keras.Model:
    make = _application(name)
    options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
    try:
        model: keras.Model = make(
            include_top=False,
            weights=IMAGENET if weights == IMAGENET else None,
            input_shape=shape,
            **options,
        )
    except (TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"surgical_phase.backbone {name} cannot be built for images {list(shape)} ({first}). "
            f"Change input size, backbone_alpha or backbone."
        ) from None
    if weights not in (None, IMAGENET):
        if not Path(weights).is_file():
            raise WeightsError(f"{weights}: no such weights file. Fix backbone_weights.")
        try:
            model.load_weights(weights)
        except (ValueError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise WeightsError(f"{weights}: are not weights of {name} ({first}).") from None
    return model


def _encoder(
    base: keras.Model,
    name: str,
    shape: tuple[int | None, ...],
    masks: bool,
    width: int,
    heads: int,
    dropout_rate: float,
) -> keras.Model:
    """Return the network from a window's image and mask to its features."""
    image = keras.Input(shape, name="image")
    inputs = {"image": image}
    grid = base(ImageScaling(name, name="scaling")(image))
    rows, columns = grid.shape[1:3]
    tokens = layers.Dense(width, name="image_projection")(_tokens(grid))
    tokens = Positions(name="image_places")(tokens)
    keys = tokens
    if masks:
        inputs["mask"] = mask = keras.Input((*shape[:2], MASK_CHANNELS), name="mask")
        field = max(1, shape[0] // rows), max(1, shape[1] // columns)  # type: ignore[operator]
        shares = layers.AveragePooling2D(field, field, padding="same", name="mask_shares")(mask)
        answers = layers.Dense(width, name="mask_projection")(_tokens(shares))
        answers = Positions(name="mask_places")(answers)
        keys = layers.Concatenate(axis=1, name="keys")([tokens, answers])
    attended = layers.MultiHeadAttention(heads, width // heads, name="attention")(tokens, keys)
    tokens = layers.Add(name="residual")([tokens, attended])
    tokens = layers.LayerNormalization(epsilon=1e-5, name="attended")(tokens)
    x = layers.GlobalAveragePooling1D(name="mean")(tokens)
    x = layers.Dense(width, activation="relu", name="features")(x)
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name="dropout")(x)
    return keras.Model(inputs, x, name="encoder")


def _tokens(grid: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Reshape((grid.shape[1] * grid.shape[2], grid.shape[3]))(grid)


def _head(
    width: int, num_classes: int, count: int, causal: bool, dropout_rate: float
) -> keras.Model:
    """Return the network from the features of a sequence to the scores of its windows."""
    features = x = keras.Input((None, width), name="sequence")
    if count:
        x = layers.Dense(_TEMPORAL_WIDTH, name="reduction")(x)
    for number in range(count):
        y = layers.Conv1D(
            _TEMPORAL_WIDTH,
            3,
            padding="causal" if causal else "same",
            dilation_rate=2**number,
            activation="relu",
            name=f"dilated_{number}",
        )(x)
        y = layers.Dense(_TEMPORAL_WIDTH, name=f"pointwise_{number}")(y)
        if dropout_rate:
            y = layers.Dropout(dropout_rate, name=f"temporal_dropout_{number}")(y)
        x = layers.Add(name=f"temporal_residual_{number}")([x, y])
    x = layers.Dense(num_classes, dtype="float32", name="scores")(x)
    return keras.Model(features, x, name="head")
