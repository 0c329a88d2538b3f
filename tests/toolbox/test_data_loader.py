"""Patch folders: read when asked for, checked, normalised by the training range."""

import json
import pickle

import numpy as np
import pytest

from toolbox.data_loader import DataLoader, load_images
from toolbox.errors import DataError
from toolbox.tasks.bathymetry.source import PatchSource, recorded_spacing

COUNTS = {"train": 6, "validation": 3, "test": 2}


def save(imgs, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, imgs)
    else:
        path.write_bytes(pickle.dumps(imgs))
    return path


def stack(count, size, seed):
    return np.random.default_rng(seed).uniform(-900, -100, (count, size, size, 1)).astype("f4")


@pytest.fixture
def folder(tmp_path):
    """A folder of 4² and 8² images in the manual's layout."""
    for i, (split, count) in enumerate(COUNTS.items()):
        save(stack(count, 4, i), tmp_path / split / "data_LR.pkl")
        save(stack(count, 8, 9 + i), tmp_path / split / "data_HR.pkl")
    return tmp_path


def test_splits_are_read(folder):
    """train(), validation(), test() and dataset[...] give LR and HR of each split."""
    loader = DataLoader(str(folder), sr_scale=2)
    for i, (split, count) in enumerate(COUNTS.items()):
        lr, hr = getattr(loader, split)()
        assert (lr.shape, hr.shape) == ((count, 4, 4, 1), (count, 8, 8, 1))
        np.testing.assert_array_equal(lr, stack(count, 4, i))
        np.testing.assert_array_equal(hr, stack(count, 8, 9 + i))
        assert loader.dataset[split][0] is lr


def test_splits_are_read_only_when_asked_for(folder):
    """Testing does not touch the training data, and nothing is read twice."""
    (folder / "train" / "data_LR.pkl").write_bytes(b"damaged")
    loader = DataLoader(str(folder), sr_scale=2)
    assert dict(loader.dataset) == {}
    first = loader.test()
    assert list(loader.dataset) == ["test"]
    assert loader.test()[0] is first[0]
    with pytest.raises(DataError, match=r"train.data_LR\.pkl"):
        loader.train()


def test_folders_may_have_other_names(folder):
    """sub_dirs names the folders of training, validation and test data, in that order."""
    (folder / "train").rename(folder / "learn")
    loader = DataLoader(str(folder), sub_dirs=("learn", "validation", "test"))
    assert len(loader.train()[0]) == 6


def test_channel_axis_is_added(folder):
    """Images without a channel axis get one."""
    save(stack(2, 4, 0)[..., 0], folder / "test" / "data_LR.pkl")
    lr, _ = DataLoader(str(folder)).test()
    assert lr.shape == (2, 4, 4, 1)


def test_npy_is_preferred_and_memory_mapped(folder):
    """A .npy file is not read into memory."""
    imgs = stack(2, 4, 77)
    save(imgs, folder / "test" / "data_LR.npy")
    lr, hr = DataLoader(str(folder), sr_scale=2).test()
    assert isinstance(lr, np.memmap)
    assert not isinstance(hr, np.memmap)
    np.testing.assert_array_equal(lr, imgs)


def test_missing_folder_says_how_to_build_it(tmp_path):
    """The message names the folder and the command that builds a data set."""
    with pytest.raises(DataError, match=r"nowhere: no such folder.*sr_dataset_builder"):
        DataLoader(str(tmp_path / "nowhere"))


def test_missing_split_is_named(folder):
    """Without validation data the missing file is named."""
    (folder / "validation" / "data_HR.pkl").unlink()
    with pytest.raises(DataError, match=r"validation.data_HR\.pkl: no such file"):
        DataLoader(str(folder)).validation()


def test_unequal_counts_are_refused(folder):
    """Every LR image needs its HR partner."""
    save(stack(5, 4, 0), folder / "test" / "data_LR.pkl")
    with pytest.raises(DataError, match=r"data_LR\.pkl holds 5 images but .*data_HR\.pkl holds 2"):
        DataLoader(str(folder)).test()


def test_wrong_scale_is_refused(folder):
    """The message says which HR size the scale asks for, and what is there."""
    with pytest.raises(
        DataError,
        match=r"at scale 4, LR images of \(4, 4\) need HR images of \(16, 16\); received \(8, 8\)",
    ):
        DataLoader(str(folder), sr_scale=4).test()


def test_unequal_channels_are_refused(folder):
    """LR and HR have the same channels."""
    save(stack(2, 4, 0).repeat(3, 3), folder / "test" / "data_LR.pkl")
    with pytest.raises(DataError, match=r"has 3 channels but .* has 1"):
        DataLoader(str(folder)).test()


@pytest.mark.parametrize("shape", [(16,), (4, 4), (1, 2, 4, 4, 1)])
@pytest.mark.parametrize("suffix", [".pkl", ".npy"])
def test_wrong_number_of_axes_is_refused(shape, suffix, tmp_path):
    """A single image, a line and a stack of stacks are no stack of images."""
    path = save(np.zeros(shape, np.float32), tmp_path / f"data{suffix}")
    with pytest.raises(DataError, match=r"\(N, H, W\) or \(N, H, W, C\); received \("):
        load_images(path)


@pytest.mark.parametrize("suffix", [".pkl", ".npy"])
def test_empty_stack_is_refused(suffix, tmp_path):
    """A data set of no image is refused."""
    path = save(np.zeros((0, 4, 4, 1), np.float32), tmp_path / f"data{suffix}")
    with pytest.raises(DataError, match="holds no image"):
        load_images(path)


@pytest.mark.parametrize(
    "content", [b"", b"no array\n" * 30, b"PK\x03\x04" + b"x" * 64], ids=["empty", "text", "zip"]
)
@pytest.mark.parametrize("suffix", [".pkl", ".npy"])
def test_garbage_is_refused(suffix, content, tmp_path):
    """A file that is no array is refused in one line that names it."""
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\."):
        load_images(path)


def test_objects_in_npy_are_refused(tmp_path):
    """Pickled objects in a .npy file are never run."""
    np.save(tmp_path / "data.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"data\.npy"):
        load_images(tmp_path / "data.npy")


def test_normalize_uses_the_training_range(folder):
    """All splits are scaled by the range of the HR training images, not by their own."""
    hr = np.full((2, 8, 8, 1), -2000, np.float32)
    save(hr, folder / "test" / "data_HR.pkl")
    loader = DataLoader(str(folder), normalize=True)
    truth = stack(6, 8, 9)
    low, span = truth.min(), truth.max() - truth.min()
    _, train = loader.train()
    assert (train.min(), train.max()) == (0, 1)
    lr, test = loader.test()
    np.testing.assert_allclose(test, (-2000 - low) / span, rtol=1e-5)
    np.testing.assert_allclose(lr, (stack(2, 4, 2) - low) / span, rtol=1e-4, atol=1e-6)


def test_normalize_overlooks_gaps(folder):
    """A gap in a training image does not spoil the range."""
    hr = stack(6, 8, 9)
    hr[0, 0, 0] = np.nan
    save(hr, folder / "train" / "data_HR.pkl")
    _, scaled = DataLoader(str(folder), normalize=True).train()
    assert (np.nanmin(scaled), np.nanmax(scaled)) == (0, 1)


def test_spacing_comes_from_the_record(folder):
    """dataset.json beside the splits gives metres, one number or a pair."""
    loader = PatchSource(str(folder))
    assert (loader.spacing_m("LR"), loader.spacing_m("HR")) == (200, 50)
    record = {"delta_lr_m": 371.1, "delta_hr_m": [92.77, 74.48]}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    assert loader.spacing_m("LR") == 371.1
    assert loader.spacing_m("HR") == (92.77, 74.48)
    assert recorded_spacing(folder / "data_HR.pkl", "HR") == (92.77, 74.48)


def test_spacing_ignores_records_further_up(folder):
    """Only the file's folder and the one above are looked at."""
    (folder / "dataset.json").write_text('{"delta_lr_m": 1, "delta_hr_m": 1}', encoding="utf-8")
    assert recorded_spacing(folder / "test" / "deeper" / "data_LR.pkl", "LR") == 200


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"delta_lr_m": null}'])
def test_damaged_record_is_refused(content, folder):
    """A record that cannot be read is named, rather than a wrong spacing assumed."""
    (folder / "dataset.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"dataset\.json"):
        PatchSource(str(folder)).spacing_m("LR")
