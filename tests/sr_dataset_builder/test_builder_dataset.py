"""The class Dataset: cleansing, cutting, splitting, saving."""

import json

import numpy as np
import pytest

from sr_dataset_builder.dataset import BuildParams, Dataset
from toolbox.errors import DataError

SPLITS = ("train", "validation", "test")


def block_numbers(rows, columns, size):
    """Return a map whose pixels hold the number of their block."""
    numbers = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    return numbers.repeat(size, axis=0).repeat(size, axis=1)


def relief(rows, columns):
    """Return a map without symmetries, in metres."""
    r, c = np.mgrid[:rows, :columns]
    return (-900 + 40 * np.sin(r / 9) + 25 * np.cos(c / 7) + 0.3 * r - 0.2 * c).astype(np.float32)


def block_mean(imgs, scale):
    """Average scale × scale pixels of (N, H, W)."""
    n, h, w = imgs.shape
    return imgs.reshape(n, h // scale, scale, w // scale, scale).mean((2, 4))


def parts(dataset, letter):
    """Return the train, validation and test images of x or y."""
    return [getattr(dataset, f"{letter}_{split}") for split in SPLITS]


def plain_loop(base_img, block_shape, img_shape, stride):
    """Cut as the manual describes it, one image at a time."""
    block_h, block_w = base_img.shape[0] // block_shape[0], base_img.shape[1] // block_shape[1]
    blocks = []
    for i in range(block_shape[0]):
        for j in range(block_shape[1]):
            block = base_img[i * block_h : (i + 1) * block_h, j * block_w : (j + 1) * block_w]
            blocks.append(
                [
                    block[r : r + img_shape[0], c : c + img_shape[1]]
                    for r in range(0, block_h - img_shape[0] + 1, stride[0])
                    for c in range(0, block_w - img_shape[1] + 1, stride[1])
                ]
            )
    return np.array(blocks)


@pytest.mark.parametrize(
    ("map_shape", "block_shape", "img_shape", "stride"),
    [
        ((40, 60), (2, 3), (16, 16), (2, 2)),
        ((43, 61), (2, 3), (7, 5), (3, 4)),
        ((30, 30), (3, 3), (10, 10), (1, 1)),
        ((9, 50), (1, 5), (4, 10), (5, 2)),
    ],
)
def test_block_split_equals_plain_loop(map_shape, block_shape, img_shape, stride):
    """The windowed views hold the images of a plain loop, in its order."""
    base = relief(*map_shape)
    expected = plain_loop(base, block_shape, img_shape, stride)
    cut = Dataset.block_split(base, block_shape, img_shape, stride)
    assert cut.shape == expected.shape
    np.testing.assert_array_equal(cut, expected)


def test_block_split_gives_the_manuals_25_images():
    """Blocks of 25² LR and 100² HR pixels give 25 images each, as the manual's 44 × 40 blocks."""
    lr = Dataset.block_split(relief(2 * 25, 3 * 25), (2, 3), (16, 16), (2, 2))
    hr = Dataset.block_split(relief(2 * 100, 3 * 100), (2, 3), (64, 64), (8, 8))
    assert lr.shape == (6, 25, 16, 16)
    assert hr.shape == (6, 25, 64, 64)


def test_block_split_refuses_blocks_smaller_than_an_image():
    """Too many blocks are refused, with both sizes in the message."""
    with pytest.raises(DataError, match=r"blocks of \(4, 5\) pixels, smaller than .*\(16, 16\)"):
        Dataset.block_split(relief(40, 50), (10, 10), (16, 16), (2, 2))


def test_cleansing_golden():
    """Missing pixels become the mean of the valid originals in 5 × 5, at the margins too.

    Computed by hand for 0 ... 41 in rows of seven: the corner from the 8 others of 3 × 3
    (72 / 8); two neighbours each from 23 pixels that leave both out; the last corner from 7.
    """
    img = np.arange(42, dtype=np.float32).reshape(6, 7)
    for hole in ((0, 0), (3, 3), (3, 4), (5, 6)):
        img[hole] = np.nan
    before = img.copy()
    cimg = Dataset.cleansing(img, (5, 5))
    assert cimg[0, 0] == pytest.approx(9.0)
    assert cimg[3, 3] == pytest.approx((25 * 24 - 24 - 25) / 23)
    assert cimg[3, 4] == pytest.approx((25 * 25 - 24 - 25 - 41) / 22)
    assert cimg[5, 6] == pytest.approx((297 - 41 - 25) / 7)
    valid = ~np.isnan(before)
    np.testing.assert_array_equal(cimg[valid], before[valid])
    np.testing.assert_array_equal(img, before)


def test_cleansing_leaves_a_wholly_missing_window():
    """The centre of a 5 × 5 hole stays missing: mended pixels do not mend their neighbours."""
    img = relief(9, 9)
    img[2:7, 2:7] = np.nan
    cimg = Dataset.cleansing(img, (5, 5))
    assert np.isnan(cimg[4, 4])
    assert np.isnan(cimg).sum() == 1


def test_cleansing_uses_the_kernel_size():
    """A 1 × 3 window averages the left and the right neighbour only."""
    img = np.array([[1, 2, 3], [4, np.nan, 10], [7, 8, 9]], np.float32)
    assert Dataset.cleansing(img, (1, 3))[1, 1] == pytest.approx(7.0)
    assert Dataset.cleansing(img, (3, 1))[1, 1] == pytest.approx(5.0)


def test_cleansing_is_exact_at_great_depth():
    """A flat sea floor of -10,000 m is mended with -10,000 m, whatever the size of the map."""
    img = np.full((300, 300), -10_000, np.float32)
    img[::7, ::5] = np.nan
    np.testing.assert_allclose(Dataset.cleansing(img), -10_000, rtol=0, atol=1e-3)


def test_rm_nan_drops_pairs_and_empty_blocks():
    """A pair goes if either image has a gap, a block goes if no pair is left."""
    lr, hr = np.zeros((3, 4, 2, 2), np.float32), np.zeros((3, 4, 4, 4), np.float32)
    lr += np.arange(12).reshape(3, 4, 1, 1)
    hr += np.arange(12).reshape(3, 4, 1, 1)
    lr[0, 1, 0, 0] = np.nan
    hr[0, 3, 3, 3] = np.nan
    hr[1, :, 1, 1] = np.nan
    lr_kept, hr_kept = Dataset.rm_nan(lr, hr)
    for kept in (lr_kept, hr_kept):
        assert [block[:, 0, 0].tolist() for block in kept] == [[0, 2], [8, 9, 10, 11]]


@pytest.fixture
def numbered(workshop):
    """Build a data set from a map whose pixels hold the number of their block."""
    hr = workshop.write_pickle(block_numbers(4, 5, 40), workshop.folder / "hr.pkl")

    def build(seed):
        params = BuildParams(
            hr_fname=str(hr), save_dir="unused", lr_img_shape=(4, 4), validation_size=0.2, seed=seed
        )
        return Dataset(None, str(hr), (4, 5), params)

    return build


def test_no_block_is_in_two_splits(numbered):
    """Overlapping patches never leak: each block is in exactly one split, LR and HR alike."""
    dataset = numbered(0)
    blocks = [set(np.unique(part).tolist()) for part in parts(dataset, "y")]
    assert [len(part) for part in blocks] == [14, 4, 2]
    assert set.union(*blocks) == set(range(20))
    for x, y in zip(parts(dataset, "x"), parts(dataset, "y"), strict=True):
        np.testing.assert_array_equal(x[:, 0, 0], y[:, 0, 0])
        assert len(x) % 16 == 0


def test_split_is_seeded(numbered):
    """One seed gives one split, another seed another."""
    np.testing.assert_array_equal(numbered(7).y_test, numbered(7).y_test)
    tests = {frozenset(np.unique(numbered(seed).y_test).tolist()) for seed in range(5)}
    assert len(tests) > 1


def test_split_order_and_shares_are_the_manuals(workshop):
    """The six lists are x train, validation, test, then y, in shares of the blocks."""
    hr = workshop.write_pickle(relief(360, 144), workshop.folder / "hr.pkl")
    dataset = Dataset(None, str(hr), (5, 2))
    x = np.arange(10.0).reshape(10, 1, 1, 1) * np.ones((10, 3, 2, 2))
    split = dataset.train_validation_test_split(x, 100 + x, 0.2, 0.3)
    assert [len(part) for part in split] == [5, 2, 3, 5, 2, 3]
    for lr, hr_part in zip(split[:3], split[3:], strict=True):
        np.testing.assert_array_equal(np.array(lr) + 100, np.array(hr_part))
    together = np.concatenate([np.array(part)[:, 0, 0, 0] for part in split[:3]])
    assert sorted(together) == list(range(10))


def test_split_refuses_an_empty_part(workshop):
    """Three blocks at 10 % leave nothing to validate on, which is said with the counts."""
    hr = workshop.write_pickle(relief(360, 144), workshop.folder / "hr.pkl")
    dataset = Dataset(None, str(hr), (5, 2))
    x = [np.zeros((1, 2, 2))] * 3
    with pytest.raises(DataError, match="3 complete blocks are split into 3 for training, 0 for"):
        dataset.train_validation_test_split(x, x, 0.1, 0.1)


def test_manuals_positional_arguments_and_shapes(workshop):
    """Dataset(lr_fname, hr_fname, block_shape) cuts 16² and 64² patches, 80 / 10 / 10 by block."""
    hr = relief(5 * 72, 2 * 72)
    lr = block_mean(hr[None], 4)[0]
    hr_fname = workshop.write_pickle(hr, workshop.folder / "hr.pkl")
    lr_fname = workshop.write_pickle(lr, workshop.folder / "lr.pkl")
    dataset = Dataset(str(lr_fname), str(hr_fname), (5, 2))
    assert [part.shape for part in parts(dataset, "x")] == [(n, 16, 16) for n in (32, 4, 4)]
    assert [part.shape for part in parts(dataset, "y")] == [(n, 64, 64) for n in (32, 4, 4)]
    assert dataset.x_train.dtype == dataset.y_train.dtype == np.float32
    assert dataset.blocks == {"train": 8, "validation": 1, "test": 1}


@pytest.mark.parametrize("size", [(172, 244), (175, 246), (168, 240)])
@pytest.mark.parametrize("given", [True, False], ids=["LR given", "LR made"])
def test_odd_map_sizes_keep_lr_and_hr_aligned(workshop, size, given):
    """Every LR patch is the area mean of its HR patch, whatever rows and columns are left over."""
    hr = relief(*size)
    rows, columns = size[0] // 4, size[1] // 4
    lr = block_mean(hr[None, : rows * 4, : columns * 4], 4)[0]
    if given:
        hr = hr[: rows * 4, : columns * 4]
    hr_fname = str(workshop.write_pickle(hr, workshop.folder / "hr.pkl"))
    lr_fname = str(workshop.write_pickle(lr, workshop.folder / "lr.pkl")) if given else None
    params = BuildParams(
        hr_fname=hr_fname,
        save_dir="unused",
        lr_img_shape=(8, 9),
        validation_size=0.2,
        test_size=0.2,
    )
    dataset = Dataset(lr_fname, hr_fname, (2, 3), params)
    for x, y in zip(parts(dataset, "x"), parts(dataset, "y"), strict=True):
        np.testing.assert_allclose(block_mean(y, 4), x, rtol=1e-6)
    block = relief(*size)[: rows // 2 * 4, : columns // 3 * 4]
    corners = np.concatenate(parts(dataset, "y"))
    assert any(np.array_equal(img, block[:32, :36]) for img in corners)


def test_pairs_with_gaps_that_cannot_be_mended_are_left_out(workshop):
    """A hole larger than the window removes the patches that touch it and no others."""
    hr = relief(160, 200)
    hr[10:30, 10:30] = np.nan
    fname = str(workshop.write_pickle(hr, workshop.folder / "hr.pkl"))
    params = BuildParams(hr_fname=fname, save_dir="unused", lr_img_shape=(4, 4))
    dataset = Dataset(None, fname, (4, 5), params)
    everything = np.concatenate(parts(dataset, "y"))
    assert np.isfinite(everything).all()
    assert np.isfinite(np.concatenate(parts(dataset, "x"))).all()
    assert 0.9 * 320 < len(everything) < 320


def test_save_writes_the_manuals_files(workshop):
    """Each split holds data_LR.pkl and data_HR.pkl, (N, H, W, 1), plain arrays in metres."""
    fname = str(workshop.write_pickle(relief(360, 144), workshop.folder / "hr.pkl"))
    dataset = Dataset(None, fname, (5, 2))
    dataset.save(str(workshop.folder / "out"))
    names = {f"{split}/data_{kind}.pkl" for split in SPLITS for kind in ("LR", "HR")}
    assert set(workshop.snapshot(workshop.folder / "out")) == names | {"dataset.json"}
    for split in SPLITS:
        lr, hr = (
            workshop.read_pickle(workshop.folder / "out" / split / f"data_{kind}.pkl")
            for kind in ("LR", "HR")
        )
        assert type(lr) is type(hr) is np.ndarray
        np.testing.assert_array_equal(lr[..., 0], getattr(dataset, f"x_{split}"))
        np.testing.assert_array_equal(hr[..., 0], getattr(dataset, f"y_{split}"))
        assert lr.shape[1:] == (16, 16, 1)
        assert hr.shape[1:] == (64, 64, 1)


def test_save_records_how_the_data_were_made(workshop):
    """dataset.json holds spacing, seed, counts and the training range."""
    fname = str(workshop.write_pickle(relief(360, 144), workshop.folder / "hr.pkl"))
    dataset = Dataset(None, fname, (5, 2))
    dataset.save(str(workshop.folder / "out"))
    record = json.loads((workshop.folder / "out" / "dataset.json").read_text())
    assert record["scale"] == 4
    assert record["seed"] == 0
    assert (record["delta_lr_m"], record["delta_hr_m"]) == (200, 50)
    assert record["pairs"] == {"train": 32, "validation": 4, "test": 4}
    assert record["blocks"] == {"train": 8, "validation": 1, "test": 1}
    low, high = record["train_range_m"]
    assert (low, high) == (dataset.y_train.min(), dataset.y_train.max())


def test_images_with_values_beyond_all_computing_are_left_out():
    """Sums that overflow warn of nothing: such an image is no training image."""
    imgs = np.full((1, 3, 4, 4), -1000, np.float32)
    imgs[0, 1] = 3e38
    [[lr], [hr]] = Dataset.rm_nan(imgs, imgs)
    assert lr.shape == hr.shape == (2, 4, 4)
    assert (lr == -1000).all()
