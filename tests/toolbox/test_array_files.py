"""Stacks of images written through a memory map: whole files or none."""

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
