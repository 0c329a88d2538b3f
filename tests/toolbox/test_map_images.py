"""Patches that several processes map instead of reading a copy each."""

from __future__ import annotations

import numpy as np

from toolbox.data_loader import DataLoader, map_images


def test_mapped_images_are_the_pickled_ones(workshop):
    """Every pickle gets a .npy beside it, with the same values, and the loader maps that."""
    folder = workshop.own_patches()
    before = [np.array(imgs) for imgs in DataLoader(str(folder)).train()]
    map_images(folder)
    assert len(list(folder.glob("*/data_[LH]R.npy"))) == 6
    for mapped, plain in zip(DataLoader(str(folder)).train(), before, strict=True):
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, plain)


def test_a_mapped_file_that_is_there_stays(workshop):
    """What is already mapped is not written again."""
    folder = workshop.own_patches()
    map_images(folder)
    stamp = (folder / "train" / "data_LR.npy").stat().st_mtime_ns
    map_images(folder)
    assert (folder / "train" / "data_LR.npy").stat().st_mtime_ns == stamp
