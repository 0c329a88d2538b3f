"""Stacks of images on disk: written in any order, read part by part, chosen without a copy."""

import tracemalloc

import numpy as np
import pytest

from toolbox.data_generator import DataGenerator, complete_pairs, without_gaps
from toolbox.errors import DataError
from toolbox.io import image_stack
from toolbox.io.image_stack import ChosenImages, ImageFile, extent, gather, parts, pickle_images

IMGS = np.random.default_rng(0).normal(size=(9, 4, 6, 1)).astype(np.float32)


@pytest.fixture
def mapped(tmp_path):
    """Map `IMGS` from a file, read-only."""
    np.save(tmp_path / "data.npy", IMGS)
    return np.load(tmp_path / "data.npy", mmap_mode="r", allow_pickle=False)


def test_images_may_be_written_in_any_order(tmp_path, workshop):
    """Each batch has its place; the count is known last; a pickle of it is a plain array."""
    file = ImageFile(tmp_path / "data.npy", IMGS.shape[1:])
    file.write(6, IMGS[6:])
    file.write(0, IMGS[:2, ..., 0])
    file.write(2, IMGS[2:6].astype(np.float64))
    assert (file.count, file.nbytes) == (9, IMGS.nbytes)
    file.close()
    found = np.load(tmp_path / "data.npy", allow_pickle=False)
    np.testing.assert_array_equal(found, IMGS)
    pickle_images(tmp_path / "data.npy", tmp_path / "data.pkl")
    plain = workshop.read_pickle(tmp_path / "data.pkl")
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain, IMGS)


def test_appended_images_follow_each_other_and_an_abandoned_file_goes(tmp_path):
    """Images are appended without knowing how many there will be."""
    file = ImageFile(tmp_path / "data.npy", IMGS.shape[1:])
    for part in (IMGS[:4], IMGS[4:4], IMGS[4:]):
        file.append(part)
    assert file.count == 9
    file.abandon()
    assert list(tmp_path.iterdir()) == []


def test_images_are_written_and_read_with_little_memory(tmp_path):
    """Of 64 MB in parts of 1 MB less than 4 MB are held at any time."""
    part = np.ones((64, 64, 64, 1), np.float32)
    tracemalloc.start()
    try:
        file = ImageFile(tmp_path / "data.npy", part.shape[1:])
        for _ in range(64):
            file.append(part)
        file.close()
        imgs = np.load(tmp_path / "data.npy", mmap_mode="r", allow_pickle=False)
        assert extent(imgs) == (1, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_parts_are_the_stack(mapped, monkeypatch):
    """Whatever their size, parts of an array, a map and a choice join to the whole."""
    chosen = ChosenImages(mapped, np.array([7, 1, 1, 3]))
    for size in (1, IMGS[0].nbytes, 3 * IMGS[0].nbytes, 2**26):
        monkeypatch.setattr(image_stack, "PART_BYTES", size)
        for imgs in (IMGS, mapped, chosen):
            np.testing.assert_array_equal(np.concatenate(list(parts(imgs))), np.asarray(imgs))
    assert [len(part) for part in parts(mapped, 4)] == [4, 4, 1]
    assert extent(chosen) == (IMGS[[7, 1, 3]].min(), IMGS[[7, 1, 3]].max())


def test_a_choice_behaves_as_the_array_it_stands_for(mapped):
    """Slices, numbers, further axes, arithmetic and NumPy's functions give the array's results."""
    numbers = np.array([8, 0, 5, 2])
    chosen, plain = ChosenImages(mapped, numbers), IMGS[numbers]
    assert (chosen.shape, chosen.dtype, chosen.ndim, len(chosen)) == (plain.shape, "f4", 4, 4)
    for item in (
        *(2, -1, slice(1, 3), np.array([3, 0]), np.array([True, False, True, False])),
        *((slice(None), 2), (1, ..., 0), (..., 0), (slice(0, 2), slice(1, 3), 4)),
    ):
        np.testing.assert_array_equal(chosen[item], plain[item])
    np.testing.assert_array_equal(chosen - 1, plain - 1)
    np.testing.assert_array_equal(1 / (chosen * chosen), 1 / (plain * plain))
    assert chosen.mean() == plain.mean()
    assert np.nanmin(chosen) == plain.min()
    np.testing.assert_array_equal(np.stack(list(chosen)), plain)


def test_gathered_images_are_those_asked_for(mapped):
    """A memory map, an array and a choice give the same images, in the order asked for."""
    wanted = np.array([5, 5, 0, 8])
    everything = ChosenImages(mapped, np.arange(9))
    for imgs in (IMGS, mapped, everything):
        np.testing.assert_array_equal(gather(imgs, wanted), IMGS[wanted])
        np.testing.assert_array_equal(gather(imgs, slice(2, 5)), IMGS[2:5])


def halve(x, y):
    """Stand in for a normaliser."""
    return x / 2, y / 2


@pytest.fixture
def gappy(tmp_path):
    """Map 600 pairs, 10 MB, of which every seventh lacks a pixel in LR or HR."""
    rng = np.random.default_rng(1)
    lr, hr = (rng.normal(size=(600, side, side, 1)).astype(np.float32) for side in (16, 64))
    lr[::14, 2, 2], hr[7::14, 3, 3] = np.nan, np.inf
    for name, imgs in (("lr", lr), ("hr", hr)):
        np.save(tmp_path / f"{name}.npy", imgs)
    return [
        np.load(tmp_path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("lr", "hr")
    ]


def test_incomplete_pairs_are_left_out_without_a_copy(gappy, monkeypatch):
    """Batches, samples and the fingerprint are those of a copy, but no copy is made."""
    monkeypatch.setattr(image_stack, "PART_BYTES", 2**20)
    whole = complete_pairs(*gappy)
    assert whole.sum() == 600 - 86
    copied = DataGenerator(*(np.array(imgs[whole]) for imgs in gappy), halve, 16, seed=3)
    tracemalloc.start()
    try:
        data = DataGenerator(*gappy, halve, 16, seed=3)
        fingerprint = data.fingerprint()
        batches = [data.batch(number) for number in (0, 40, 7)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6  # 10.5 MB would be a copy
    assert (data.num_imgs, fingerprint) == (copied.num_imgs, copied.fingerprint())
    for number, batch in zip((0, 40, 7), batches, strict=True):
        for one, other in zip(batch, copied.batch(number), strict=True):
            assert one.tobytes() == other.tobytes()
    for one, other in zip(data.evaluation_batch(496), copied.evaluation_batch(496), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(data.sample(9), copied.sample(9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mapped_files_are_looked_through_once(gappy, monkeypatch):
    """Fitting a normaliser and serving batches share what was found; arrays are looked at anew."""
    from toolbox import data_generator

    looks, found = [], data_generator.complete_pairs
    monkeypatch.setattr(
        data_generator, "complete_pairs", lambda x, y: looks.append(1) or found(x, y)
    )
    for _ in range(3):
        without_gaps(*gappy)
    assert len(looks) == 1
    arrays = [np.array(imgs) for imgs in gappy]
    without_gaps(*arrays)
    arrays[1][1] = 1e30
    with pytest.raises(DataError, match=r"a value as large as 1e\+30"):
        without_gaps(*arrays)
