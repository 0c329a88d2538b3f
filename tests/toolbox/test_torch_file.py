"""Files of ``torch.save`` are read as arrays; everything else is refused and never run.

The files are made by hand, as PyTorch writes them, so that it is not needed; that files of PyTorch
itself are read is measured by ``benchmarks/interchange.py``.
"""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.io.torch_file import read_torch_file

VALUES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


class Global:
    """Pickled as the global name ``module.name``, whether there is one or not."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a `Global`."""

    def __init__(self, module, name, *arguments):
        self.function, self.arguments = Global(module, name), arguments


class Storage:
    """A one-dimensional array that the tensors refer to."""

    def __init__(self, array, kind="Float", key="0"):
        self.array, self.kind, self.key = np.ravel(array), kind, key


class TorchPickler(pickle._Pickler):
    """Writes what the pickler of PyTorch writes, of the stand-ins above."""

    def __init__(self, stream, legacy):
        super().__init__(stream, 2)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        self.storages[obj.key] = obj
        kind = Global("torch", f"{obj.kind}Storage")
        view = (None,) if self.legacy else ()
        return ("storage", kind, obj.key, "cpu", obj.array.size, *view)

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def tensor(array, kind="Float", key="0", offset=0, size=None, stride=None, storage=None):
    """Return the call by which PyTorch rebuilds a tensor."""
    item = array.itemsize
    size = array.shape if size is None else size
    stride = tuple(s // item for s in array.strides) if stride is None else stride
    held = storage or Storage(array, kind, key)
    rest = (False, OrderedDict())
    return Call("torch._utils", "_rebuild_tensor_v2", held, offset, size, stride, *rest)


def write_zip(content, path, order=None, compression=zipfile.ZIP_STORED):
    """Write the format of PyTorch 1.6 and later."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        with archive.open("archive/data.pkl", "w") as stream:
            pickler = TorchPickler(stream, legacy=False)
            pickler.dump(content)
        if order:
            archive.writestr("archive/byteorder", order)
        for key, storage in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def write_bare_zip(content, path, pickler):
    """Write a zip with a pickle alone, by a pickler of the test's own."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("archive/data.pkl", "w") as stream:
        pickler(stream, legacy=False).dump(content)


def write_legacy(content, path, little=True):
    """Write the format before PyTorch 1.6."""
    with open(path, "wb") as stream:
        info = {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}
        for item in (0x1950A86A20F9469CFC6C, 1001, info):
            pickle.dump(item, stream, 2)
        pickler = TorchPickler(stream, legacy=True)
        pickler.dump(content)
        pickle.dump(sorted(pickler.storages), stream, 2)
        for key in sorted(pickler.storages):
            array = pickler.storages[key].array
            stream.write(array.size.to_bytes(8, "little" if little else "big"))
            stream.write(array.tobytes())
    return path


FORMATS = pytest.mark.parametrize("write", [write_zip, write_legacy])


@FORMATS
def test_tensors_come_back(write, tmp_path):
    """Names, shapes and numbers are those that were saved; a parameter is its tensor."""
    parameter = Call("torch._utils", "_rebuild_parameter", tensor(VALUES), True, OrderedDict())
    bias = tensor(np.arange(5.0, dtype=np.float32), key="1")
    state = read_torch_file(write({"weight": parameter, "bias": bias}, tmp_path / "net.pth"))
    assert list(state) == ["weight", "bias"]
    np.testing.assert_array_equal(state["weight"], VALUES)
    np.testing.assert_array_equal(state["bias"], np.arange(5))
    assert state["weight"].dtype == np.float32


@FORMATS
@pytest.mark.parametrize(
    ("kind", "dtype"), [("Double", "f8"), ("Half", "f2"), ("Long", "i8"), ("Bool", "?")]
)
def test_number_types(kind, dtype, write, tmp_path):
    """Every storage class has its number type."""
    array = (3 * VALUES).astype(dtype)
    state = read_torch_file(write({"w": tensor(array, kind)}, tmp_path / "net.pth"))
    assert state["w"].dtype == dtype
    np.testing.assert_array_equal(state["w"], array)


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    """1.0 is 0x3F80, -2.5 is 0xC020 (IEEE 754, cut after sixteen bits)."""
    array = np.array([0x3F80, 0xC020], np.uint16)
    state = read_torch_file(write_zip({"w": tensor(array, "BFloat16")}, tmp_path / "net.pth"))
    assert state["w"].dtype == np.float32
    assert state["w"].tolist() == [1.0, -2.5]


def test_other_byte_order(tmp_path):
    """Files of a big-endian machine give the same numbers."""
    content = {"w": tensor(VALUES.astype(">f4"))}
    for path in (
        write_zip(content, tmp_path / "zip.pth", order="big"),
        write_legacy(content, tmp_path / "legacy.pth", little=False),
    ):
        np.testing.assert_array_equal(read_torch_file(path)["w"], VALUES)


@FORMATS
def test_views_of_a_storage(write, tmp_path):
    """Offset and strides choose numbers of a storage that two tensors share."""
    whole = Storage(np.arange(12, dtype=np.float32))
    turned = tensor(VALUES, storage=whole, size=(4, 3), stride=(1, 4))
    tail = tensor(VALUES, storage=whole, offset=10, size=(2,), stride=(1,))
    state = read_torch_file(write({"turned": turned, "tail": tail}, tmp_path / "net.pth"))
    np.testing.assert_array_equal(state["turned"], np.arange(12).reshape(3, 4).T)
    assert state["tail"].tolist() == [10, 11]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: {"params": b, "params_ema": a},
        lambda a, b: {"epoch": 3, "state_dict": b, "params": a},
        lambda a, b: {"epoch": 3, "state_dict": {"params_ema": a, "params": b}},
        lambda a, b: a,
    ],
)
def test_nested_dictionaries(wrap, tmp_path):
    """The moving average goes before the last weights, and both before the rest."""
    content = wrap(*(OrderedDict(w=tensor(np.full(2, n, np.float32), key=str(n))) for n in (1, 2)))
    state = read_torch_file(write_zip(content, tmp_path / "net.pth"))
    assert {name: array.tolist() for name, array in state.items()} == {"w": [1, 1]}


# What is refused ------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("place", ["alone", "beside", "state"])
@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("posix", "system"), ("nt", "system")]
)
def test_command_is_not_run(module, name, place, write, tmp_path):
    """The name of the function is in the message, and what it would have made is absent."""
    trace = tmp_path / "trace"
    evil = Call(module, name, f"touch '{trace}'")
    content = {"alone": evil, "beside": {"w": tensor(VALUES), "x": evil}, "state": {"params": evil}}
    write(content[place], tmp_path / "net.pth")
    with pytest.raises(DataError, match=rf"received {module}\.{name}, which is never executed"):
        read_torch_file(tmp_path / "net.pth")
    assert not trace.exists()


@FORMATS
@pytest.mark.parametrize(
    "name",
    [
        ("builtins", "eval"),
        ("torch.serialization", "load"),
        ("torch.jit._pickle", "build_intlist"),
        ("torch", "QInt8Storage"),
        ("numpy.core.multiarray", "scalar"),
        ("collections", "OrderedDict.fromkeys"),
    ],
)
def test_other_names_are_refused(name, write, tmp_path):
    """A class is named in one line."""
    path = write({"w": Call(*name)}, tmp_path / "net.pth")
    with pytest.raises(DataError, match="received " + ".".join(name)) as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value)


def test_attributes_of_the_stand_ins_do_not_stay(tmp_path):
    """A file that gives a function other defaults spoils no file after it."""

    class Spoilt(TorchPickler):
        def dump(self, obj):
            self.write(pickle.PROTO + b"\x02")
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save((None, {"__defaults__": (1, 2, 3, 4), "__name__": "spoilt"}))
            self.write(pickle.BUILD + pickle.STOP)

    write_bare_zip(None, tmp_path / "spoilt.pth", Spoilt)
    for _ in range(2):
        with pytest.raises(DataError, match=r"received function"):
            read_torch_file(tmp_path / "spoilt.pth")
        good = write_zip({"w": tensor(VALUES)}, tmp_path / "good.pth")
        np.testing.assert_array_equal(read_torch_file(good)["w"], VALUES)


BOUNDS = {
    "one too many": {"size": (25,), "stride": (1,)},
    "stride beyond": {"size": (2, 2), "stride": (23, 1)},
    "offset beyond": {"offset": 1},
    "offset before": {"offset": -1},
    "huge offset": {"offset": 2**70},
    "backwards": {"size": (2,), "stride": (-1,), "offset": 3},
    "negative": {"size": (-1,), "stride": (1,)},
    "repeated": {"size": (10**12,), "stride": (0,)},
    "fewer strides": {"size": (2, 2), "stride": (1,)},
    "no number": {"size": ("2",), "stride": (1,)},
    "a boolean": {"size": (True,), "stride": (1,)},
    "no tuple": {"size": 3, "stride": 1},
}


@FORMATS
@pytest.mark.parametrize("change", BOUNDS.values(), ids=BOUNDS)
def test_nothing_outside_a_storage_is_read(change, write, tmp_path):
    """Shapes, strides and offsets that leave the storage are refused."""
    path = write({"w": tensor(VALUES, **change)}, tmp_path / "net.pth")
    with pytest.raises(DataError, match=r"net.pth: not a readable file of torch.save"):
        read_torch_file(path)


def test_references_to_no_storage(tmp_path):
    """A reference of another kind, and one to a storage that is absent, are refused."""

    class Other(TorchPickler):
        def persistent_id(self, obj):
            return ("module", "os", "0") if isinstance(obj, Storage) else None

    for pickler, words in ((Other, "received the reference"), (TorchPickler, "KeyError")):
        write_bare_zip({"w": tensor(VALUES)}, tmp_path / "net.pth", pickler)
        with pytest.raises(DataError, match=words):
            read_torch_file(tmp_path / "net.pth")


@FORMATS
def test_every_cut_file_is_one_line(write, tmp_path):
    """A file that ends early is refused wherever it ends."""
    path = write({"w": tensor(VALUES)}, tmp_path / "net.pth")
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"net\.pth"):
            read_torch_file(path)


def test_length_of_a_legacy_storage_is_checked(tmp_path):
    """A count of 2⁶² numbers is refused before memory for them is asked for."""
    path = write_legacy({"w": tensor(VALUES)}, tmp_path / "net.pth")
    content = path.read_bytes()
    data = VALUES.size.to_bytes(8, "little") + VALUES.tobytes()
    assert content.endswith(data)
    path.write_bytes(content.removesuffix(data) + (2**62).to_bytes(8, "little") + VALUES.tobytes())
    with pytest.raises(DataError, match="extends beyond the end"):
        read_torch_file(path)


def test_compressed_archives_are_refused(tmp_path):
    """torch.save stores as it is; what is compressed may be a bomb."""
    write_zip({"w": tensor(VALUES)}, tmp_path / "net.pth", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"is compressed, which torch\.save never does"):
        read_torch_file(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "dict without tensors"),
        ([1, 2], "list without tensors"),
        ({"w": 3}, "int under the name 'w'"),
        ({"w": {"deeper": 3}}, "dict under the name 'w'"),
        ({3: tensor(VALUES)}, "_Tensor under the name '3'"),
    ],
)
def test_other_content_is_named(content, words, tmp_path):
    """What is no dictionary of tensors is told from one."""
    with pytest.raises(DataError, match=words):
        read_torch_file(write_zip(content, tmp_path / "net.pth"))


def test_a_dictionary_inside_itself_ends(tmp_path):
    """Nesting without an end is refused."""
    content = {}
    content["params"] = content
    with pytest.raises(DataError, match="dict under the name 'params'"):
        read_torch_file(write_zip(content, tmp_path / "net.pth"))


def test_other_files(tmp_path):
    """A missing file, a file of another kind and a plain pickle are refused."""
    with pytest.raises(DataError, match="no such file"):
        read_torch_file(tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes(os.urandom(100))
    with pytest.raises(DataError, match=r"not a readable file of torch\.save"):
        read_torch_file(tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(DataError, match=r"does not begin like a file of torch\.save"):
        read_torch_file(tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("photo.txt", "x")
    with pytest.raises(DataError, match=r"expected one data\.pkl inside; found 0"):
        read_torch_file(tmp_path / "net.pth")
