"""MaxViT: numbers of parameters, the numbers of timm, its weights files, what trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.errors import ConfigError, DataError, WeightsError
from toolbox.io.safetensors import write_safetensors
from toolbox.model.build import policy
from toolbox.model.maxvit import (
    VARIANTS,
    Interleave,
    Structure,
    load_timm,
    maxvit_backbone,
    maxvit_classifier,
)

SMALL = Structure(16, (1, 2), (32, 64), window=2)
SIZE, CLASSES = 32, 5

#: Trained parameters with the head of 1000 classes (large: 21,843), moving averages, and trained
#: parameters without the head. timm 1.0.31, ``create_model("maxvit_*_tf_224")`` on the device meta.
COUNTS = {
    "tiny": (30_916_528, 47_616, 30_139_848),
    "small": (68_927_956, 71_296, 67_566_828),
    "base": (119_467_708, 147_328, 118_106_580),
    "large": (233_149_635, 196_608, 209_708_912),
}

#: Logits of timm 1.0.31 with torch 2.13.0 (CPU, float32) for `pictures` and the weights `state`:
#: ``MaxxVit(MaxxVitCfg(embed_dim=(32, 64), depths=(1, 2), block_type=("M", "M"), stem_width=16,
#: stem_bias=True, head_hidden_size=64, **_tf_cfg()), img_size=32, num_classes=5,
#: transformer_window_size=(2, 2))``.
LOGITS = [
    [0.481786, -0.948193, -0.443115, -0.313188, 0.463996],
    [0.209311, -1.096598, -0.487069, -0.376169, 0.511168],
]


def pictures():
    wave = np.sin(1e-4 * np.arange(2 * SIZE * SIZE * 3) ** 2.0)
    return wave.reshape(2, SIZE, SIZE, 3).astype("float32")


def shapes_of_timm():
    """Names and shapes of timm's tensors for `SMALL`, written down from its state dict."""
    shapes = {}

    def weighted(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def batch_norm(name, channels):
        weighted(name, channels)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    weighted("stem.conv1", 16, 3, 3, 3)
    batch_norm("stem.norm1", 16)
    weighted("stem.conv2", 16, 16, 3, 3)
    for stage, block, before, width in ((0, 0, 16, 32), (1, 0, 32, 64), (1, 1, 64, 64)):
        conv = f"stages.{stage}.blocks.{block}.conv"
        if block == 0:
            weighted(f"{conv}.shortcut.expand", width, before, 1, 1)
        batch_norm(f"{conv}.pre_norm", before)
        weighted(f"{conv}.conv1_1x1", 4 * width, before, 1, 1, bias=False)
        batch_norm(f"{conv}.norm1", 4 * width)
        weighted(f"{conv}.conv2_kxk", 4 * width, 1, 3, 3, bias=False)
        batch_norm(f"{conv}.norm2", 4 * width)
        weighted(f"{conv}.se.fc1", width // 4, 4 * width, 1, 1)
        weighted(f"{conv}.se.fc2", 4 * width, width // 4, 1, 1)
        weighted(f"{conv}.conv3_1x1", width, 4 * width, 1, 1)
        for kind in ("attn_block", "attn_grid"):
            part = f"stages.{stage}.blocks.{block}.{kind}"
            weighted(f"{part}.norm1", width)
            weighted(f"{part}.attn.qkv", 3 * width, width)
            shapes[f"{part}.attn.rel_pos.relative_position_bias_table"] = (width // 32, 3, 3)
            weighted(f"{part}.attn.proj", width, width)
            weighted(f"{part}.norm2", width)
            weighted(f"{part}.mlp.fc1", 4 * width, width)
            weighted(f"{part}.mlp.fc2", width, 4 * width)
    weighted("head.norm", 64)
    weighted("head.pre_logits.fc", 64, 64)
    weighted("head.fc", CLASSES, 64)
    return shapes


def state():
    """Weights as if they had learnt, from a formula that any program can repeat."""
    tensors = {}
    for number, (name, shape) in enumerate(sorted(shapes_of_timm().items())):
        places = np.arange(np.prod(shape, dtype=int))
        wave = np.sin(0.13 * places**2 + 3 * number).reshape(shape)
        if len(shape) > 1 and "table" not in name:
            wave *= 2 / np.sqrt(np.prod(shape[1:]))
        elif name.endswith(("bias", "running_mean")):
            wave *= 0.2
        elif "table" not in name:
            wave = 1 + 0.5 * wave
        tensors[name] = np.asarray(wave, "int64" if name.endswith("tracked") else "float32")
    return tensors


@pytest.fixture
def file(tmp_path):
    """Write a weights file, changed by keyword: a tensor, or None to leave it out."""

    def write(changed=(), dtype="float32"):
        tensors = {**state(), **dict(changed)}
        kept = {name: t.astype(dtype) for name, t in tensors.items() if t is not None}
        path = tmp_path / "model.safetensors"
        write_safetensors(kept, path)
        return path

    return write


@pytest.fixture(scope="module")
def classifier():
    return maxvit_classifier(SMALL, CLASSES, SIZE)


@pytest.fixture(scope="module")
def backbone():
    return maxvit_backbone(SMALL, SIZE)


def total(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


# --- Structure -------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_those_of_timm(variant):
    """The count of every variant, without memory for the numbers."""
    trained, averages, bare = COUNTS[variant]
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = maxvit_classifier(variant, 21_843 if variant == "large" else 1000)
    finally:
        keras.backend.clear_session()  # forgets the weights that await their first numbers
    head = [w for layer in model.layers if layer.name.startswith("head.") for w in layer.weights]
    assert total(model.trainable_variables) == trained
    assert total(model.non_trainable_variables) == averages
    assert trained - total(head) == bare
    features = model.get_layer("head.pool").input
    assert features.shape == (None, 7, 7, VARIANTS[variant].widths[-1])


def test_shapes_of_results(backbone, classifier):
    """One feature for 8 × 8 pixels in two stages; logits a picture."""
    assert backbone(pictures()).shape == (2, 4, 4, 64)
    assert classifier(pictures()).shape == (2, CLASSES)
    assert maxvit_backbone(SMALL, 2 * SIZE).output_shape == (None, 8, 8, 64)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: maxvit_backbone("tiny", 256), "multiple of 224, .* received 256. Use 224."),
        (lambda: maxvit_backbone("tiny", 400), "received 400. Use 448."),
        (lambda: maxvit_backbone("tiny", 0), "received 0. Use 224."),
        (
            lambda: maxvit_backbone("lagre"),
            "one of tiny, .* received 'lagre'. Did you mean 'large'",
        ),
        (lambda: maxvit_classifier("tiny", 0), "num_classes must be 1 or above; received 0"),
        (lambda: Structure(16, (1,), (32, 64)), "one number per stage; received"),
        (lambda: Structure(16, (0,), (32,)), "1 or above; received"),
        (lambda: Structure(16, (1,), (48,)), "multiples of head_width 32; received"),
    ],
)
def test_impossible_structures_are_refused(build, message):
    """One line says what is possible."""
    with pytest.raises(ConfigError, match=message):
        build()


def test_interleave_makes_windows_of_a_grid():
    """On 6 × 6 with a grid of 2 × 2, a window holds every third row and column."""
    image = np.arange(36).reshape(1, 6, 6, 1)
    mixed = Interleave(2)(image)
    assert np.array_equal(mixed[0, :2, :2, 0], [[0, 3], [18, 21]])
    assert np.array_equal(mixed[0, 2:4, 4:, 0], [[8, 11], [26, 29]])
    assert np.array_equal(Interleave(3)(mixed), image)


# --- Weights of timm -------------------------------------------------------------------------


def test_logits_are_those_of_timm(classifier, file):
    """Golden numbers through the importer; see `LOGITS`."""
    load_timm(classifier, file())
    np.testing.assert_allclose(classifier(pictures()), LOGITS, rtol=0, atol=2e-5)


def test_backbone_leaves_the_head_out(backbone, classifier, file):
    """The same file fills both, and their features are equal."""
    path = file()
    load_timm(backbone, path)
    load_timm(classifier, path)
    features = keras.Model(classifier.input, classifier.get_layer("head.pool").input)
    assert np.array_equal(backbone(pictures()), features(pictures()))


def test_half_precision_file(classifier, file):
    """A float16 file gives the logits to its rounding."""
    load_timm(classifier, file(dtype="float16"))
    assert np.abs(classifier(pictures()) - np.array(LOGITS)).max() < 0.02


QKV = "stages.1.blocks.1.attn_grid.attn.qkv.weight"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({QKV: None}, rf"lacks {QKV}. Use"),
        ({"stages.2.x.weight": np.zeros(1)}, r"holds stages.2.x.weight, which the model does not"),
        ({QKV: None, "x": np.zeros(1)}, rf"lacks {QKV} and holds x, which the model does not"),
        ({QKV: np.zeros((64, 192))}, rf"{QKV} must be \(192, 64\), received \(64, 192\)"),
        ({"head.fc.bias": np.zeros(7)}, r"head.fc.bias must be \(5,\), received \(7,\)"),
        ({QKV: np.full((192, 64), np.nan)}, rf"finite numbers, .* others in {QKV}"),
        (dict.fromkeys(list(shapes_of_timm())[:9]), "lacks stem.* and 3 more"),
    ],
)
def test_files_that_do_not_fit_are_refused(changed, message, classifier, file):
    """The tensors are named, and no weight is changed."""
    before = classifier.get_weights()
    with pytest.raises(WeightsError, match=message):
        load_timm(classifier, file(changed))
    assert all(np.array_equal(*pair) for pair in zip(before, classifier.get_weights(), strict=True))


def test_numbers_that_are_whole_are_refused(classifier, file):
    """Weights are no integers."""
    with pytest.raises(WeightsError, match="float16 or float32; received others in"):
        load_timm(classifier, file(dtype="int32"))


def test_a_missing_file_is_named(classifier, tmp_path):
    """One line, before anything else."""
    with pytest.raises(DataError, match=r"none\.safetensors: no such file"):
        load_timm(classifier, tmp_path / "none.safetensors")


# --- Use -------------------------------------------------------------------------------------


def test_saved_and_loaded(classifier, tmp_path):
    """A whole model in a file of Keras, without custom_objects."""
    classifier.save(tmp_path / "maxvit.keras")
    again = keras.saving.load_model(tmp_path / "maxvit.keras")
    assert np.array_equal(again(pictures()), classifier(pictures()))


def test_everything_trains_under_xla():
    """Every weight has a gradient, the bias tables too; compiled by XLA."""
    model = maxvit_classifier(Structure(8, (1,), (32,), window=2), CLASSES, 16)

    @tf.function(jit_compile=True)
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(images, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    found = gradients(pictures()[:, ::2, ::2])
    largest = {
        weight.path: float(tf.reduce_max(tf.abs(gradient)))
        for weight, gradient in zip(model.trainable_variables, found, strict=True)
    }
    tables = [path for path in largest if path.endswith("rel_pos/relative_position")]
    assert len(tables) == 2
    assert all(largest[path] > 0 for path in tables)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(name, classifier, file):
    """Weights and logits are float32, the features of half precision."""
    with policy(name):
        mixed = maxvit_classifier(SMALL, CLASSES, SIZE)
    load_timm(mixed, file())
    load_timm(classifier, file())
    logits = mixed(pictures())
    assert logits.dtype == "float32"
    assert mixed.get_layer("stages.0.blocks.0.attn_grid").output.dtype == name[6:]
    assert {w.dtype for w in mixed.weights} == {"float32"}
    assert np.abs(logits - classifier(pictures())).max() < 0.2
