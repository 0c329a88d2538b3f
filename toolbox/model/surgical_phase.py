"""Surgical phases of video windows, from images, masks and the windows before and after."""

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

#: First part of the names of MaxViT backbones.
_MAXVIT = "maxvit_"
#: Value that selects the weights that Keras downloads.
IMAGENET = "imagenet"
#: Channels of a mask: red and green.
MASK_CHANNELS = 2
#: Channels of the temporal head, as in TeCNO.
_TEMPORAL_WIDTH = 64


@keras.saving.register_keras_serializable(package=PACKAGE)
class FoldWindows(layers.Layer):
    """Joins the windows of all sequences along the first axis: (N, S, ...) to (N * S, ...)."""

    def call(self, x: Any) -> Any:
        """Fold."""
        return ops.reshape(x, (-1, *x.shape[2:]))

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of what `call` returns."""
        return (None, *shape[2:])


@keras.saving.register_keras_serializable(package=PACKAGE)
class UnfoldWindows(layers.Layer):
    """Splits features (N * S, F) into the sequences (N, S, F) that they come from."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Unfold the first input to the sequences of the second."""
        features, windows = inputs
        length = windows.shape[1] or ops.shape(windows)[1]
        return ops.reshape(features, (-1, length, features.shape[-1]))

    def compute_output_shape(self, shapes: Sequence[Sequence[int | None]]) -> tuple[Any, ...]:
        """Return the shape of what `call` returns."""
        features, windows = shapes
        return (windows[0], windows[1], features[-1])


@keras.saving.register_keras_serializable(package=PACKAGE)
class ImageScaling(layers.Layer):
    """Scales pixels of 0 to 255 to the range that a backbone was trained with.

    Parameters
    ----------
    backbone : str
        A MaxViT, which expects -1 to 1, or the name of a network of `keras.applications`, whose
        ``preprocess_input`` is used.
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
    """Adds a learned vector for its position to every token (N, tokens, width)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create one vector for each position."""
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

    The last features of a backbone give one token per position, and the masks one token per cell
    of a grid. The image tokens are the queries of an attention; image and mask tokens are its keys
    and values. The result is added to the image tokens, so neither image nor masks are lost; with
    the masks as the only keys, the image would be lost. A dense layer follows, and with
    `temporal_layers` dilated convolutions over the windows of the sequence.

    The input is ``{"image": (N, S, h, w, 3), "mask": (N, S, h, w, 2)}``, with pixels of 0 to 255
    and masks of 0 to 1; without masks there is no input ``mask``. The result is logits
    (N, S, phases).

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
        """Return the network for single windows, and the network for sequences of features.

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
            File with initial weights: timm's ``.safetensors`` for a MaxViT, Keras's
            ``.weights.h5`` for other networks. With ``imagenet`` Keras downloads those of other
            networks.
        train_backbone : bool
            Whether the backbone is trained too; otherwise it keeps its initial weights.
        width : int
            Features of a window.
        heads : int
            Heads of the attention.
        dropout_rate : float
            Share of features dropped in training.
        temporal_layers : int
            Dilated convolutions over the windows; with 0 every window is classified on its own.
            n of them reach ``2 * (2 ** n - 1)`` windows back.
        causal : bool
            Whether these use only earlier windows; otherwise they reach half as far back, and as
            far ahead.
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
        """Return the entries of `parameters` that shape the network, without initial weights."""
        starts = ("backbone_weights",)
        return {name: p for name, p in cls.parameters().items() if name not in starts}

    @classmethod
    def used_shape(cls, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """Return the trained size, because positions in the image have a meaning."""
        return shape

    def for_any_size(self) -> SRModel:
        """Return this network, which accepts only images of one size."""
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
                f"surgical_phase.backbone {name} needs square images and no backbone_alpha; "
                f"received {list(shape[:2])} and {alpha}. Change the input size or remove "
                f"backbone_alpha."
            )
        if weights == IMAGENET:
            raise ConfigError(
                f"surgical_phase.backbone_weights must be a .safetensors file of timm's {name}_tf_"
                f"224 for this backbone; received {weights}. Download it from timm's page."
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
            f"surgical_phase.backbone {name} cannot be built for images of shape {list(shape)} "
            f"({first}). Change the input size, backbone_alpha or backbone."
        ) from None
    if weights not in (None, IMAGENET):
        if not Path(weights).is_file():
            raise WeightsError(f"{weights}: no such weights file. Fix backbone_weights.")
        try:
            model.load_weights(weights)
        except (ValueError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise WeightsError(
                f"{weights}: is not a weights file of {name} ({first}). Fix backbone_weights."
            ) from None
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
    """Return the network from the image and the masks of a window to its features."""
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
