"""Weights files: written whole, read in the layouts of Keras 3 and Keras 2, refused clearly."""

import contextlib
import re
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from toolbox.errors import WeightsError
from toolbox.io.weights import load_weights, save_weights
from toolbox.model.espcn import ESPCN
from toolbox.model.fsrcnn import FSRCNN
from toolbox.model.srcnn import SRCNN

BUILDERS = {
    "srcnn": lambda **options: SRCNN(
        (6, 6, 1), 2, params={"filters": [6, 4], "kernels": [5, 1, 3]}, **options
    ),
    "fsrcnn": lambda **options: FSRCNN((6, 6, 1), 2, params={"d": 6, "s": 4, "m": 2}, **options),
    "espcn": lambda filters=(6, 4), **options: ESPCN(
        (6, 6, 1), 2, params={"filters": filters, "kernels": [5, 3, 3]}, **options
    ),
}
X = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)


@pytest.fixture(params=sorted(BUILDERS))
def build(request):
    """Return a function that builds one of the networks with new weights."""
    return BUILDERS[request.param]


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("file", ["weights_best.h5", "weights_20.h5", "any.weights.h5"])
def test_saved_weights_come_back_unchanged(build, file, tmp_path):
    """The manual's file names hold the same bytes of every weight."""
    first, second = build(), build()
    save_weights(first, tmp_path / file)
    load_weights(second, tmp_path / file)
    assert_same_weights(first, second)
    assert contents(tmp_path) == [file]


def test_skip_and_image_size_do_not_matter(tmp_path):
    """Weights of a network for fixed images serve one for any size, and the other way round."""
    first, second = BUILDERS["espcn"](), ESPCN((None, None, 1), 2, params={"filters": [6, 4]})
    save_weights(first, tmp_path / "weights.h5")
    load_weights(second, tmp_path / "weights.h5")
    assert_same_weights(first, second)
    with_skip = BUILDERS["espcn"](bicubic_skip=True)
    load_weights(with_skip, tmp_path / "weights.h5")
    assert_same_weights(first, with_skip)


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    """When the disk fills up half-way, the last good file is untouched and nothing else is left."""
    path = tmp_path / "weights_best.h5"
    model = BUILDERS["espcn"]()
    save_weights(model, path)
    before = path.read_bytes()

    def half(self, fname, **options):
        Path(fname).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", half)
    with pytest.raises(OSError, match="No space left"):
        save_weights(BUILDERS["espcn"](), path)
    assert path.read_bytes() == before
    assert contents(tmp_path) == ["weights_best.h5"]


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch):
    """HDF5 can die of a full disk with the whole process, so it is not let near one."""
    model = BUILDERS["espcn"]()
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="No space left") as error:
        save_weights(model, tmp_path / "weights.h5")
    assert error.value.filename == str(tmp_path / "weights.h5")
    assert contents(tmp_path) == []


def test_optimizer_is_not_stored_and_not_disturbed(tmp_path):
    """The file holds no slots, and training goes on with the same optimizer and its moments."""
    model = BUILDERS["espcn"]()
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, loss="mse", jit_compile=False)
    y = np.zeros((2, 12, 12, 1), np.float32)
    model.train_on_batch(X, y)
    slots = [v.numpy() for v in optimizer.variables]
    path = tmp_path / "weights.h5"
    save_weights(model, path)
    names = []
    with h5py.File(path) as stored:
        stored.visit(names.append)
    assert not [name for name in names if "optimizer" in name]
    load_weights(model, path)
    assert model.optimizer is optimizer
    for now, then in zip(optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)
    assert np.isfinite(model.train_on_batch(X, y))
    assert int(optimizer.iterations) == 2


def test_weights_of_an_old_file_with_optimizer_are_read(tmp_path):
    """A file that Keras itself wrote with its slots serves a model without optimizer."""
    model = BUILDERS["espcn"]()
    model.compile("adam", loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "x.weights.h5")
    fresh = BUILDERS["espcn"]()
    load_weights(fresh, (tmp_path / "x.weights.h5").rename(tmp_path / "x.h5"))
    assert_same_weights(model, fresh)


def write_keras2_layout(model, path, group=None):
    """Write what Keras 2's ``Model.save_weights("x.h5")`` wrote: attributes at root and groups."""
    with h5py.File(path, "w") as file:
        stored = file.create_group(group) if group else file
        stored.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        stored.attrs["backend"] = b"tensorflow"
        stored.attrs["keras_version"] = b"2.5.0"
        for layer in model.layers:
            rows = stored.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            rows.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                rows[name] = weight.numpy()


def test_keras2_layout_written_by_hand_is_read(build, tmp_path):
    """The layout of TensorFlow 2.5 (layer_names, weight_names) gives the same weights."""
    first, second = build(), build()
    write_keras2_layout(first, tmp_path / "weights_best.h5")
    load_weights(second, tmp_path / "weights_best.h5")
    assert_same_weights(first, second)
    assert contents(tmp_path) == ["weights_best.h5"]


def test_whole_model_of_keras2_is_read(build, tmp_path):
    """A file of Keras 2's ``Model.save`` keeps the same layout below ``model_weights``."""
    first, second = build(), build()
    write_keras2_layout(first, tmp_path / "model.h5", group="model_weights")
    load_weights(second, tmp_path / "model.h5")
    assert_same_weights(first, second)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tf_keras is written for older Python
@pytest.mark.parametrize("name", ["espcn", "srcnn"])
def test_weights_of_keras2_give_the_same_outputs(name, tmp_path):
    """A file that Keras 2 wrote serves the same graph, to 1e-5 of its outputs."""
    old = pytest.importorskip("tf_keras")
    layers = old.layers
    x = inputs = old.Input((6, 6, 1))
    if name == "srcnn":
        x = layers.Lambda(lambda t: tf.image.resize(t, (12, 12), "bicubic"))(x)
        for filters, size, activation in ((6, 5, "relu"), (4, 1, "relu"), (1, 3, None)):
            x = layers.Conv2D(filters, size, padding="same", activation=activation)(x)
    else:
        for filters, size, activation in ((6, 5, "tanh"), (4, 3, "tanh"), (4, 3, None)):
            x = layers.Conv2D(filters, size, padding="same", activation=activation)(x)
        x = layers.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(x)
    trained = old.Model(inputs, x)
    trained.save_weights(str(tmp_path / "weights_best.h5"))
    model = BUILDERS[name]()
    load_weights(model, tmp_path / "weights_best.h5")
    np.testing.assert_allclose(model(X), trained(X), atol=1e-5)


@pytest.mark.parametrize("writer", [save_weights, write_keras2_layout])
def test_other_shapes_are_named(writer, tmp_path):
    """The message names the layer that differs and both shapes; the weights stay as they were."""
    path = tmp_path / "weights.h5"
    writer(BUILDERS["espcn"](filters=(6, 8)), path)
    model = BUILDERS["espcn"]()
    before = model.get_weights()
    second = [layer.name for layer in model.layers if layer.weights][1]
    with pytest.raises(
        WeightsError,
        match=rf"weights\.h5.*layer {second} needs.*\(3, 3, 6, 4\).*has.*\(3, 3, 6, 8\)",
    ):
        load_weights(model, path)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("writer", [save_weights, write_keras2_layout])
def test_other_number_of_layers_is_named(writer, tmp_path):
    """A deeper network of otherwise equal layers is told apart by their number."""
    params = {"filters": [6, 4, 4], "kernels": [5, 3, 3, 3]}
    writer(ESPCN((6, 6, 1), 2, params=params), tmp_path / "weights.h5")
    model = ESPCN((6, 6, 1), 2, params={"filters": [6, 4], "kernels": [5, 3, 3]})
    with pytest.raises(WeightsError, match=r"the model has 3 layers with weights, the file has 4"):
        load_weights(model, tmp_path / "weights.h5")


@pytest.mark.parametrize("writer", [save_weights, write_keras2_layout])
def test_other_network_is_refused(writer, tmp_path):
    """FSRCNN does not take SRCNN's weights."""
    writer(BUILDERS["srcnn"](), tmp_path / "weights.h5")
    with pytest.raises(WeightsError, match="belongs to another architecture"):
        load_weights(BUILDERS["fsrcnn"](), tmp_path / "weights.h5")


def test_missing_file_is_named(tmp_path):
    """The message names the file and the settings that could be wrong."""
    with pytest.raises(WeightsError, match=r"none\.h5: no such weights file.*fname_model_weights"):
        load_weights(BUILDERS["espcn"](), tmp_path / "none.h5")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all" * 100])
def test_garbage_is_refused(content, tmp_path):
    """A file that is not HDF5 is called so."""
    (tmp_path / "weights.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.h5: not a readable HDF5 file"):
        load_weights(BUILDERS["espcn"](), tmp_path / "weights.h5")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("writer", [save_weights, write_keras2_layout])
def test_truncated_file_is_refused(writer, share, tmp_path):
    """A copy that broke off is refused."""
    path = tmp_path / "weights.h5"
    writer(BUILDERS["espcn"](), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match=r"weights\.h5"):
        load_weights(BUILDERS["espcn"](), path)


def test_other_hdf5_file_is_refused(tmp_path):
    """HDF5 of something else holds no layers."""
    with h5py.File(tmp_path / "weights.h5", "w") as stored:
        stored["depth"] = np.zeros(3)
    with pytest.raises(WeightsError, match="the file has 0"):
        load_weights(BUILDERS["espcn"](), tmp_path / "weights.h5")


def test_keras2_layout_with_a_missing_group_is_refused(tmp_path):
    """A damaged file of the old layout is a clear error, too."""
    path = tmp_path / "weights.h5"
    model = BUILDERS["espcn"]()
    write_keras2_layout(model, path)
    with h5py.File(path, "a") as stored:
        del stored[model.layers[1].name]
    with pytest.raises(WeightsError, match=r"weights\.h5"):
        load_weights(BUILDERS["espcn"](), path)


@pytest.mark.parametrize("writer", [save_weights, write_keras2_layout])
def test_damage_anywhere_is_one_line(writer, tmp_path):
    """Bytes of the tree of groups overwritten, whatever h5py raises about it."""
    path = tmp_path / "weights.h5"
    writer(BUILDERS["espcn"](), path)
    whole = path.read_bytes()
    for place in [m.start() for m in re.finditer(b"SNOD|TREE|HEAP", whole)]:
        path.write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])
        with contextlib.suppress(WeightsError):  # not every group is needed
            load_weights(BUILDERS["espcn"](), path)
    place = whole.index(b"TREE")
    path.write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])
    with pytest.raises(WeightsError, match=r"weights\.h5") as caught:
        load_weights(BUILDERS["espcn"](), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    """Their results would be missing pixels everywhere."""
    model = BUILDERS["espcn"]()
    weights = model.get_weights()
    weights[0].flat[3] = value
    model.set_weights(weights)
    save_weights(model, tmp_path / "weights.h5")
    with pytest.raises(WeightsError, match=r"weights\.h5: layer .* not finite"):
        load_weights(BUILDERS["espcn"](), tmp_path / "weights.h5")
