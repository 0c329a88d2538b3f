"""Stacks of images written through a memory map: whole files or none."""

import pickle
import tracemalloc

import numpy as np
import pytest

from toolbox.data_loader import load_images
from toolbox.errors import DataError
from toolbox.io.array_files import writing_images

IMGS = np.random.default_rng(0).normal(size=(5, 4, 6, 1)).astype(np.float32)


@pytest.mark.parametrize("file", ["data_LR.npy", "data_LR.pkl"])
def test_written_images_come_back(file, tmp_path):
    """Filled in parts, the array is read back as it is, and nothing else is left."""
    with writing_images(tmp_path / file, IMGS.shape) as images:
        assert images.dtype == np.float32
        assert isinstance(images, np.memmap)
        images[:2] = IMGS[:2]
        images[2:] = IMGS[2:]
        assert not (tmp_path / file).exists()
    np.testing.assert_array_equal(load_images(tmp_path / file), IMGS)
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("file", ["data_LR.npy", "data_LR.pkl"])
def test_error_leaves_the_old_file(file, tmp_path):
    """When filling fails the old file is untouched and no store is left beside it."""
    (tmp_path / file).write_bytes(b"old")
    with (
        pytest.raises(RuntimeError, match="half-way"),
        writing_images(tmp_path / file, IMGS.shape) as images,
    ):
        images[:2] = IMGS[:2]
        raise RuntimeError("half-way")
    assert (tmp_path / file).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_other_endings_are_refused(tmp_path):
    """The message names the two that can be written, and no file appears."""
    refused = pytest.raises(DataError, match=r"written as \.npy or \.pkl; received '\.tif'")
    with refused, writing_images(tmp_path / "data.tif", IMGS.shape):
        pass
    assert list(tmp_path.iterdir()) == []


def test_npy_is_read_back_through_a_memory_map(tmp_path):
    """What is written as .npy need not fit into memory when it is read, either."""
    with writing_images(tmp_path / "data_LR.npy", IMGS.shape) as images:
        images[:] = IMGS
    assert isinstance(load_images(tmp_path / "data_LR.npy"), np.memmap)


def test_pickle_holds_a_plain_array(tmp_path):
    """The manual's form is an array that any program unpickles, without a trace of the map."""
    with writing_images(tmp_path / "data_LR.pkl", IMGS.shape) as images:
        images[:] = IMGS
    content = pickle.loads((tmp_path / "data_LR.pkl").read_bytes())
    assert type(content) is np.ndarray
    assert (content.dtype, content.shape) == (np.float32, IMGS.shape)
    np.testing.assert_array_equal(content, IMGS)


@pytest.mark.parametrize("file", ["data_LR.npy", "data_LR.pkl"])
def test_writing_holds_little_in_memory(file, tmp_path):
    """Of 16 MB filled in parts less than 2 MB are held at any time."""
    part = np.ones((100, 32, 32, 1), np.float32)
    tracemalloc.start()
    try:
        with writing_images(tmp_path / file, (4000, 32, 32, 1)) as images:
            for start in range(0, 4000, 100):
                images[start : start + 100] = part
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6
    assert load_images(tmp_path / file)[-1].min() == 1


@pytest.mark.parametrize("file", ["data_LR.npy", "data_LR.pkl"])
def test_folder_is_made_and_same_content_gives_the_same_bytes(file, tmp_path):
    """A new folder is made for the file; writing twice makes equal files."""
    contents = []
    for folder in ("a", "b/c"):
        with writing_images(tmp_path / folder / file, IMGS.shape) as images:
            images[:] = IMGS
        contents.append((tmp_path / folder / file).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("file", ["data_LR.npy", "data_LR.pkl"])
def test_a_file_can_be_replaced_while_it_is_read(file, tmp_path):
    """The new file may be computed from the old one under the same name."""
    for factor in (1, 2):
        old = load_images(tmp_path / file) if factor == 2 else IMGS
        with writing_images(tmp_path / file, IMGS.shape) as images:
            images[:] = factor * old
    np.testing.assert_array_equal(load_images(tmp_path / file), 2 * IMGS)
