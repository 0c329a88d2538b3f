"""Pickles of plain arrays are read; everything else is refused and never run."""

import os
import pickle
import types

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.io.safe_pickle import load_array, save_array

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
IMGS = np.random.default_rng(0).normal(size=(3, 4, 5, 1))
ARRAYS = {
    "float32": IMGS.astype(np.float32),
    "float64": IMGS,
    "int16": (IMGS * 100).astype(np.int16),
    "big-endian": IMGS.astype(">f4"),
    "bool": IMGS > 0,
    "Fortran order": np.asfortranarray(IMGS),
    "every second": IMGS[:, ::2],
    "no image": np.zeros((0, 4, 4, 1), np.float32),
    "no dimension": np.array(3.5),
}


class OldNames(pickle._Pickler):
    """Writes the module names of NumPy 1.x, ``numpy.core`` for ``numpy._core``."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_global(self, obj, name=None):
        module = (pickle.whichmodule(obj, name or obj.__qualname__)).replace("._core", ".core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[types.FunctionType] = save_global


class Runs:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write(content, path, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same(loaded, array):
    """Compare all but the byte order, which NumPy makes the machine's own."""
    assert loaded.shape == array.shape
    assert loaded.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, array)


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_saved_array_comes_back(array, tmp_path):
    """Values, shape and number type survive, and the file appears alone."""
    save_array(array, tmp_path / "data.pkl")
    assert_same(load_array(tmp_path / "data.pkl"), array)
    assert [p.name for p in tmp_path.iterdir()] == ["data.pkl"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_every_protocol_is_read(array, protocol, tmp_path):
    """Whatever protocol a script used, the array is the same."""
    assert_same(load_array(write(array, tmp_path / "data.pkl", protocol)), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_names_are_read(protocol, tmp_path):
    """Files of NumPy 1.x, such as those of the manual's program, name numpy.core."""
    path = tmp_path / "data.pkl"
    with open(path, "wb") as stream:
        OldNames(stream, protocol).dump(ARRAYS["float32"])
    assert b"numpy.core." in path.read_bytes()
    assert b"numpy._core" not in path.read_bytes()
    np.testing.assert_array_equal(load_array(path), ARRAYS["float32"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("container", [list, tuple])
def test_list_of_arrays_is_stacked(container, protocol, tmp_path):
    """Equal arrays in a list become one array with a new first axis."""
    loaded = load_array(write(container(IMGS), tmp_path / "data.pkl", protocol))
    np.testing.assert_array_equal(loaded, IMGS)


def test_object_array_of_equal_images_is_stacked(tmp_path):
    """An object array of images is what older scripts made of a list."""
    ragged = np.empty(3, object)
    ragged[:] = list(IMGS)
    np.testing.assert_array_equal(load_array(write(ragged, tmp_path / "data.pkl")), IMGS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["alone", "list", "object array"])
def test_command_in_a_pickle_is_not_run(place, protocol, tmp_path):
    """os.system is named in the message, and the file that it would have made is absent."""
    trace = tmp_path / "trace"
    evil = Runs(os.system, f"touch '{trace}'")
    if place == "list":
        evil = [IMGS, evil]
    if place == "object array":
        evil = np.array([evil, None], object)
    path = write(evil, tmp_path / "data.pkl", protocol)
    with pytest.raises(DataError, match=r"data\.pkl.*system, which is never executed"):
        load_array(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the trap is a real one
    assert trace.exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1 + 1",)),
        (getattr, ("text", "upper")),
        (np.load, ("data.npy",)),
        (np.zeros, ((3,),)),
        (bytearray, (4,)),
    ],
)
def test_other_functions_are_not_called_either(function, arguments, tmp_path):
    """Only what rebuilds an array is allowed, harmless or not."""
    path = write(Runs(function, *arguments), tmp_path / "data.pkl", 2)
    with pytest.raises(DataError, match="never executed"):
        load_array(path)


def test_attribute_path_does_not_slip_through(tmp_path):
    """Protocol 4 may ask for 'ndarray.tofile'; only whole names of the list are found."""
    path = tmp_path / "data.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.")
    with pytest.raises(DataError, match=r"numpy\.ndarray\.tofile, which is never executed"):
        load_array(path)


def test_every_truncation_is_refused(tmp_path):
    """Wherever a copy broke off, the user reads one line."""
    path = tmp_path / "data.pkl"
    for protocol in PROTOCOLS:
        whole = pickle.dumps(np.arange(3.0), protocol)
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match=r"data\.pkl"):
                load_array(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"\x93NUMPY", b"hello\n", b"\x80\x09K."])
def test_garbage_is_refused(content, tmp_path):
    """Another kind of file is refused."""
    (tmp_path / "data.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.pkl"):
        load_array(tmp_path / "data.pkl")


@pytest.mark.parametrize("content", [{"a": 1}, None, "text", b"bytes", {1, 2}], ids=repr)
def test_what_is_not_an_array_is_refused(content, tmp_path):
    """The message says what was found instead."""
    with pytest.raises(DataError, match=rf"data\.pkl.*{type(content).__name__}"):
        load_array(write(content, tmp_path / "data.pkl"))


@pytest.mark.parametrize(
    "array",
    [np.array([None, None]), np.array([{}, {}]), np.array(["a"]), np.array([1j])],
    ids=["None", "dict", "text", "complex"],
)
def test_arrays_of_no_numbers_are_refused(array, tmp_path):
    """Object, text and complex arrays are no images."""
    with pytest.raises(DataError, match=r"data\.pkl: expected"):
        load_array(write(array, tmp_path / "data.pkl"))


def test_images_of_several_sizes_are_refused(tmp_path):
    """A list of unequal images cannot be stacked."""
    path = write([np.zeros((4, 4)), np.zeros((5, 4))], tmp_path / "data.pkl")
    with pytest.raises(DataError, match="images of one size"):
        load_array(path)


def test_missing_file_is_named(tmp_path):
    """The message names the file."""
    with pytest.raises(DataError, match=r"none\.pkl: no such file"):
        load_array(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95" + b"\xff" * 8 + b"N.",  # a frame longer than any file: OverflowError
        b"\x80\x04Nr\xff\xff\xff\xff.",  # a memo that C's unpickler makes 64 GB large
        b"\x80\x05\x8e" + (2**60).to_bytes(8, "little") + b"x.",
        b"\x80\x02(K\x01",
        b"\x80\x02K\x01K\x02s.",
        b"cnumpy\ndtype\n(V|\xff\ntR.",
        b"\x80\x02K\x01Q.",
    ],
)
def test_whatever_a_damaged_pickle_raises_is_one_line(content, tmp_path):
    """The kinds of errors that Python raises about damaged pickles are not counted on."""
    path = tmp_path / "data.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.pkl: ") as caught:
        load_array(path)
    assert "\n" not in str(caught.value)


def bomb():
    """Return a list of a few hundred bytes that holds 10**12 numbers."""
    content = [1.0] * 10
    for _ in range(11):
        content = [content] * 10
    return content


def endless():
    """Return a list that holds itself."""
    content = [1.0]
    content.append(content)
    return content


@pytest.mark.parametrize("make", [bomb, endless])
def test_lists_that_expand_without_end_are_refused(make, tmp_path):
    """They are counted before NumPy makes them an array."""
    with pytest.raises(DataError, match="images of one size"):
        load_array(write(make(), tmp_path / "data.pkl"))


def test_a_list_nested_deeply_is_refused(tmp_path):
    """Neither Python nor NumPy follows it to its end."""
    path = tmp_path / "data.pkl"
    path.write_bytes(b"\x80\x04" + b"(" * 9000 + b"K\x01" + b"l" * 9000 + b".")
    with pytest.raises(DataError, match="images of one size"):
        load_array(path)


def test_a_list_of_equal_lists_is_still_an_array(tmp_path):
    """Sharing that an honest list has, as of one row, is no bomb."""
    row = [1.0, 2.0, 3.0]
    loaded = load_array(write([row, row, IMGS[0, 0, :3, 0].tolist()], tmp_path / "data.pkl"))
    assert loaded.shape == (3, 3)
