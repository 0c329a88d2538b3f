"""The program ``python -m sr_dataset_builder.regions``: places, splits, features, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from sr_dataset_builder.regions import main
from toolbox.tasks.bathymetry.source import PatchSource
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient

SPLITS = ("train", "validation", "test")
FILES = {
    f"{split}/data_{kind}.{end}"
    for split in SPLITS
    for kind in ("LR", "HR")
    for end in ("pkl", "csv")
} | {"dataset.json"}
SIZE, SIDE = 16, 32  # of an HR patch, and of a block of two by two
ROWS, COLUMNS = 160, 200
#: Every pixel has a value of its own, exact in float32, so a patch tells where it was cut.
NUMBERED = -1 - np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
COMMON = {"scale": 4, "lr_img_shape": [4, 4]}


@pytest.fixture
def sample(workshop, capsys):
    """Run the program on regions given by name: a map, or (map, settings); into ``sampled``."""

    def run(regions, **settings):
        content = {
            **COMMON,
            "save_dir": str(workshop.folder / "sampled"),
            "regions": {},
            **settings,
        }
        for name, given in regions.items():
            values, options = given if isinstance(given, tuple) else (given, {})
            path = workshop.folder / f"{name}.npy"
            if values is not None:
                np.save(path, values)
            content["regions"][name] = {"hr_fname": str(path), "delta_hr_m": 50.0, **options}
        path = workshop.folder / "regions.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        capsys.readouterr()
        code = main([str(path)])
        return workshop.result(code, *capsys.readouterr())

    return run


@pytest.fixture
def images(workshop):
    """Return the images of a split, (N, H, W)."""

    def read(split, kind="HR"):
        return workshop.read_pickle(workshop.folder / "sampled" / split / f"data_{kind}.pkl")[
            ..., 0
        ]

    return read


def record_of(workshop):
    """Return what dataset.json says."""
    return json.loads((workshop.folder / "sampled" / "dataset.json").read_text())


def table_of(workshop, split, kind="HR"):
    """Return the features of a split."""
    return pd.read_csv(workshop.folder / "sampled" / split / f"data_{kind}.csv")


def corners(imgs, values=NUMBERED):
    """Find (row, column) of every patch by its first pixel; hold that the rest follows."""
    places = {value: divmod(i, values.shape[1]) for i, value in enumerate(values.ravel().tolist())}
    assert len(places) == values.size
    found = np.array([places[float(img[0, 0])] for img in imgs])
    for img, (row, column) in zip(imgs, found, strict=True):
        np.testing.assert_array_equal(img, values[row : row + SIZE, column : column + SIZE])
    return found


def halved(values):
    """Average two by two pixels, written out independently of the program."""
    h, w = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    v = values[:h, :w]
    return (v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4


def locate(imgs, columns=COLUMNS):
    """Find where patches of a map numbered row by row lie: (N, 3), coarsening, row and column.

    To the right a map averaged over n × n pixels falls by n a pixel, and its first pixel is the
    mean of the n × n numbers there: row and column are those of the first of them, in the map
    itself. Holds that all other pixels of the patch follow.
    """
    imgs = imgs.astype(np.float64)
    factor = np.rint(imgs[:, 0, 0] - imgs[:, 0, 1]).astype(int)
    first = -1 - imgs[:, 0, 0] - (columns + 1) * (factor - 1) / 2
    row, column = np.divmod(np.rint(first).astype(int), columns)
    down, right = np.mgrid[: imgs.shape[1], : imgs.shape[2]]
    steps = factor[:, None, None] * (columns * down + right)
    np.testing.assert_allclose(imgs, imgs[:, :1, :1] - steps, rtol=0, atol=0.1)
    assert (row % factor == 0).all()
    assert (column % factor == 0).all()
    return np.stack([factor, row, column], axis=1)


def ground(found, size, shape):
    """Mark the pixels of the finest map, of `shape`, that patches of `size` were made of."""
    covered = np.zeros(shape, bool)
    for factor, row, column in found:
        assert row + factor * size[0] <= shape[0]
        assert column + factor * size[1] <= shape[1]
        covered[row : row + factor * size[0], column : column + factor * size[1]] = True
    return covered


def blocks_of(covered, side):
    """Return (row, column) of all blocks of `side` pixels in which a pixel is marked."""
    return set(map(tuple, np.argwhere(covered) // side))


# -- Places and splits -----------------------------------------------------------------------------


def test_files_shapes_and_counts(workshop, sample, images):
    """Pairs, features and record are written, as many pairs as asked for, and nothing else."""
    result = sample({"a": (NUMBERED, {"patches": 300})})
    assert result.code == 0, result.err
    assert set(workshop.snapshot(workshop.folder / "sampled")) == FILES
    counts = {split: len(images(split)) for split in SPLITS}
    # A tenth of the blocks each; each of the three counts is rounded.
    assert sum(counts.values()) == pytest.approx(300, abs=1)
    assert counts["train"] > 200
    assert min(counts["validation"], counts["test"]) >= 10
    record = record_of(workshop)
    assert record["pairs"] == {"a": counts}
    assert record["scale"] == 4
    assert record["regions"] == {"a": str(workshop.folder / "a.npy")}
    for split in SPLITS:
        for kind, size in (("LR", 4), ("HR", 16)):
            stack = workshop.read_pickle(workshop.folder / "sampled" / split / f"data_{kind}.pkl")
            assert stack.shape == (counts[split], size, size, 1)
            assert stack.dtype == np.float32
            table = table_of(workshop, split, kind)
            assert table["index"].tolist() == list(range(counts[split]))
            assert set(table["region"]) == {"a"}
    for split in SPLITS:
        assert f"{counts[split]} {split}" in result.out
    assert "sampled" in result.out


@pytest.mark.parametrize(
    ("coarsen", "block", "scale", "lr_shape"),
    [
        ([1], 2, 4, [4, 4]),
        ([2], 2, 4, [4, 4]),
        ([1, 2], 2, 4, [4, 4]),
        ([3, 1], 2, 4, [4, 4]),
        ([1, 2, 3, 4], 4, 2, [4, 4]),
        ([1, 2, 3], 3, 3, [3, 4]),
        ([5, 2], 6, 2, [4, 3]),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_share_no_ground(sample, images, seed, coarsen, block, scale, lr_shape):
    """Over all coarsenings no pixel of the finest map, and no block of it, is in two splits."""
    options = {"patches": 1500, "coarsen": coarsen, "block": block}
    result = sample({"a": (NUMBERED, options)}, scale=scale, lr_img_shape=lr_shape, seed=seed)
    assert result.code == 0, result.err
    size = np.multiply(lr_shape, scale)
    found = {split: locate(images(split)) for split in SPLITS}
    covered = {split: ground(found[split], size, NUMBERED.shape) for split in SPLITS}
    blocks = {split: blocks_of(covered[split], size * block) for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not (covered[one] & covered[other]).any()
        assert not blocks[one] & blocks[other]
    assert set(found["train"][:, 0].tolist()) == set(coarsen)
    assert len(blocks["train"]) > len(blocks["validation"]) >= 1
    assert len(blocks["test"]) >= 1


def test_validation_and_test_see_coarser_surveys_too(sample, images):
    """Where blocks are large enough every split has patches of every coarsening."""
    options = {"patches": 600, "coarsen": [1, 2, 3], "block": 4}
    assert sample({"a": (NUMBERED, options)}, scale=2).code == 0
    for split in SPLITS:
        assert set(locate(images(split))[:, 0].tolist()) == {1, 2, 3}


def test_patches_may_reach_over_blocks_of_one_split(sample, images):
    """Patches for training begin at every place within a block, also across its rim."""
    assert sample({"a": (NUMBERED, {"patches": 8000})}).code == 0
    _, row, column = locate(images("train")).T
    assert set((row % SIDE).tolist()) == set(range(SIDE))
    assert set((column % SIDE).tolist()) == set(range(SIDE))


def possible_places(blocks, factor, shape):
    """List (coarsening, row, column) of all patches that touch blocks of the set `blocks` alone."""
    reach = factor * SIZE
    return {
        (factor, row, column)
        for row in range(0, shape[0] - reach + 1, factor)
        for column in range(0, shape[1] - reach + 1, factor)
        if all(
            (i, j) in blocks
            for i in range(row // SIDE, (row + reach - 1) // SIDE + 1)
            for j in range(column // SIDE, (column + reach - 1) // SIDE + 1)
        )
    }


def test_more_patches_than_places_gives_every_place_once(workshop, sample, images):
    """Counts are capped at the number of places, all of which occur, none of them twice."""
    small = -1 - np.arange(96 * 128, dtype=np.float32).reshape(96, 128)
    assert sample({"a": (small, {"patches": 1_000_000, "coarsen": [1, 2, 3]})}).code == 0
    for split in SPLITS:
        found = locate(images(split), 128)
        taken = set(map(tuple, found.tolist()))
        assert len(taken) == len(found)
        blocks = blocks_of(ground(found, (SIZE, SIZE), small.shape), SIDE)
        factors = (1, 2, 3)
        assert taken == set.union(*(possible_places(blocks, f, small.shape) for f in factors))
        assert record_of(workshop)["pairs"]["a"][split] == len(found)


def test_no_patch_occurs_twice(sample, images):
    """Places are drawn without replacement at every coarsening, also when most are drawn."""
    options = {"patches": 5000, "coarsen": [1, 2, 3, 4], "block": 4}
    assert sample({"a": (NUMBERED[:100, :100], options)}, scale=2).code == 0
    for split in SPLITS:
        imgs = images(split)
        assert len(np.unique(imgs.reshape(len(imgs), -1), axis=0)) == len(imgs)


def test_shares_follow_the_places(workshop, sample):
    """Each split has the share of the patches that it has of the places, rounded, at least one."""
    pairs = {}
    for patches in (1_000_000, 500, 1):
        assert sample({"a": (NUMBERED, {"patches": patches})}, overwrite=True).code == 0
        pairs[patches] = record_of(workshop)["pairs"]["a"]
    places = pairs[1_000_000]
    total = sum(places.values())
    assert pairs[500] == {split: round(500 * n / total) for split, n in places.items()}
    assert pairs[1] == dict.fromkeys(SPLITS, 1)


def test_a_coarsening_may_have_no_validation_and_no_test(workshop, sample, images):
    """Patches wider than a block are for training alone; the finer ones serve all splits."""
    regions = {"a": (NUMBERED, {"patches": 300, "coarsen": [1, 3]})}
    result = sample(regions)
    assert result.code == 0, result.err
    assert set(locate(images("train"))[:, 0].tolist()) == {1, 3}
    for split in ("validation", "test"):
        assert set(locate(images(split))[:, 0].tolist()) == {1}
    assert record_of(workshop)["pairs"]["a"] == {split: len(images(split)) for split in SPLITS}
    # The test has one spacing, though the training has two.
    assert record_of(workshop)["delta_hr_m"] == [50, 50]


def test_a_coarsening_leaves_the_others_alone(sample, images):
    """What one coarsening gives does not depend on which others there are, nor on their order."""
    runs = []
    for coarsen in ([1], [1, 2], [3, 1]):
        regions = {"a": (NUMBERED, {"patches": 200, "coarsen": coarsen})}
        assert sample(regions, overwrite=True).code == 0
        found = {split: locate(images(split)) for split in SPLITS}
        runs.append({split: places[places[:, 0] == 1].tolist() for split, places in found.items()})
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("seed", range(8))
def test_narrow_blocks_at_the_rim_starve_no_split(workshop, sample, seed):
    """A block too narrow for a patch is not all that validation or test are dealt."""
    # Four blocks hold patches, two more on the right are of 8 pixels.
    result = sample({"a": (NUMBERED[: 2 * SIDE, : 2 * SIDE + 8], {"patches": 60})}, seed=seed)
    assert result.code == 0, result.err
    assert set(record_of(workshop)["pairs"]["a"]) == set(SPLITS)


def test_all_phases_of_the_coarse_grid_occur(sample, images):
    """Patches begin at every one of the 4 × 4 places between coarse pixels."""
    assert sample({"a": (NUMBERED, {"patches": 800})}).code == 0
    phases = set(map(tuple, corners(images("train")) % 4))
    assert phases == {(row, column) for row in range(4) for column in range(4)}


def test_lr_is_the_block_mean_of_hr(sample, images):
    """Every LR pixel is the mean of its 4 × 4 HR pixels."""
    assert sample({"a": (NUMBERED, {"patches": 100, "coarsen": [1, 2]})}).code == 0
    for split in SPLITS:
        hr, lr = images(split).astype(np.float64), images(split, "LR")
        expected = sum(hr[:, i::4, j::4] for i in range(4) for j in range(4)) / 16
        np.testing.assert_allclose(lr, expected, rtol=1e-6)


def test_coarser_surveys_give_fewer_patches(sample, images):
    """Patches of the map averaged two by two follow those of the map itself, half as many."""
    assert sample({"a": (NUMBERED, {"patches": 300, "coarsen": [1, 2]})}).code == 0
    counts = {1: 0, 2: 0}
    for split in SPLITS:
        imgs = images(split)
        # A step to the right is 1 in the map and 2 in the map averaged.
        rise = (imgs[:, 0, 0] - imgs[:, 0, 1]).tolist()
        fine = rise.count(1)
        assert rise == [1] * fine + [2] * (len(imgs) - fine)
        corners(imgs[:fine])
        corners(imgs[fine:], halved(NUMBERED))
        counts[1] += fine
        counts[2] += len(imgs) - fine
    # The counts of three splits are rounded each, and none is rounded to nothing.
    assert counts[1] == pytest.approx(300, abs=1)
    assert counts[2] == pytest.approx(150, abs=2)


def test_the_seed_decides_all(workshop, sample):
    """The same seed gives the same bytes, another seed other patches."""
    regions = {"a": (NUMBERED, {"patches": 50, "coarsen": [1, 2]}), "b": (NUMBERED, {"patches": 9})}
    runs = []
    for seed in (0, 0, 1):
        assert sample(regions, seed=seed, overwrite=True).code == 0
        runs.append(workshop.snapshot(workshop.folder / "sampled"))
    assert runs[0] == runs[1]
    assert all(runs[0][name] != runs[2][name] for name in FILES)


def test_a_further_region_leaves_the_first_alone(sample, images):
    """What a region gives does not depend on those that come after it."""
    first = {"a": (NUMBERED, {"patches": 60})}
    assert sample(first).code == 0
    alone = {split: images(split) for split in SPLITS}
    assert sample({**first, "b": (NUMBERED, {"patches": 60})}, overwrite=True).code == 0
    for split in SPLITS:
        both, count = images(split), len(alone[split])
        np.testing.assert_array_equal(both[:count], alone[split])
        # The same map under another name is cut at other places.
        assert not np.array_equal(both[count : 2 * count], alone[split])


def test_a_held_out_region_is_for_the_test_alone(workshop, sample, images):
    """All of a held-out region is tested, side by side; none of it is learnt."""
    away = NUMBERED[:70, :90] - 100_000
    regions = {"home": (NUMBERED, {"patches": 100}), "away": (away, {"held_out": True})}
    assert sample(regions).code == 0
    for split in ("train", "validation"):
        assert images(split).min() > -50_000
        assert set(table_of(workshop, split)["region"]) == {"home"}
    test = images("test")
    found = corners(test[test[:, 0, 0] < -50_000], away)
    expected = [(r, c) for r in range(0, 64, SIZE) for c in range(0, 80, SIZE)]
    assert list(map(tuple, found)) == expected
    assert record_of(workshop)["pairs"]["away"] == {"test": len(expected)}


def test_a_held_out_region_may_be_a_single_patch(workshop, sample, images):
    """A held-out map is not dealt out, so it need not hold blocks for three splits."""
    regions = {"home": (NUMBERED, {}), "away": (NUMBERED[:SIZE, :SIZE], {"held_out": True})}
    result = sample(regions)
    assert result.code == 0, result.err
    assert record_of(workshop)["pairs"]["away"] == {"test": 1}
    np.testing.assert_array_equal(images("test")[-1], NUMBERED[:SIZE, :SIZE])


def test_the_test_may_be_held_out_regions_alone(workshop, sample, images):
    """With test_size 0 every block of the other regions is learnt from or validated on."""
    regions = {"home": (NUMBERED, {"patches": 90}), "away": (NUMBERED, {"held_out": True})}
    assert sample(regions, test_size=0).code == 0
    assert set(table_of(workshop, "test")["region"]) == {"away"}
    assert set(record_of(workshop)["pairs"]["home"]) == {"train", "validation"}
    assert len(images("test")) == (ROWS // SIZE) * (COLUMNS // SIZE)


# -- Values ----------------------------------------------------------------------------------------


def test_patches_hold_no_gaps(sample, images):
    """No patch touches a hole that is too large to be mended; one of a pixel is mended."""
    values = NUMBERED.copy()
    values[40:60, 50:75] = np.nan
    values[100, 100] = np.nan
    assert sample({"a": (values, {"patches": 2000})}).code == 0
    stacks = np.concatenate([images(split) for split in SPLITS])
    assert np.isfinite(stacks).all()
    # The window of 5 × 5 mends two pixels along the rim of the hole.
    hole = set(NUMBERED[42:58, 52:73].ravel().tolist())
    assert not hole & set(np.unique(stacks).tolist())
    around = NUMBERED[100, 99]
    assert around in stacks


def test_valid_range_keeps_land_out(sample, images):
    """What valid_range excludes is in no patch of any coarsening."""
    assert sample({"a": (NUMBERED, {"valid_range": [-50_000, -5000], "coarsen": [1, 2]})}).code == 0
    assert max(images(split).max() for split in SPLITS) < -5000


def test_depths_become_heights(sample, images):
    """``positive: down`` turns a map of depths; the patches are those of the map of heights."""
    assert sample({"a": (NUMBERED, {"patches": 60})}).code == 0
    heights = images("train")
    depths = {"a": (-NUMBERED, {"patches": 60, "positive": "down"})}
    assert sample(depths, overwrite=True).code == 0
    np.testing.assert_array_equal(images("train"), heights)


# -- Features and record ---------------------------------------------------------------------------


def tilted(rise):
    """A plane that falls `rise` metres a pixel to the right."""
    return (-1000 - rise * np.mgrid[:ROWS, :COLUMNS][1]).astype(np.float32)


def test_slopes_use_the_spacing_of_each_region(workshop, sample):
    """A plane has one slope in LR, HR and coarsened: rise over the spacing of its own region."""
    regions = {
        "steep": (tilted(10), {"delta_hr_m": 50, "coarsen": [1, 2]}),
        "gentle": (tilted(10), {"delta_hr_m": 500}),
        "oblong": (tilted(10), {"delta_hr_m": [50, 100]}),
        "away": (tilted(10), {"delta_hr_m": 20, "held_out": True}),
    }
    expected = {"steep": 0.2, "gentle": 0.02, "oblong": 0.1, "away": 0.5}
    assert sample(regions).code == 0
    for split in SPLITS:
        for kind in ("LR", "HR"):
            table = table_of(workshop, split, kind)
            slopes = table["region"].map(expected)
            np.testing.assert_allclose(table["mean_slope_gradient"], slopes, rtol=1e-3)
    assert set(table_of(workshop, "test")["region"]) == set(expected)


def test_features_belong_to_their_images(workshop, sample, images):
    """Row by row the table is that of the image of the same number."""
    rough = NUMBERED + 30 * np.random.default_rng(0).normal(size=NUMBERED.shape).astype(np.float32)
    regions = {"a": (rough, {"coarsen": [1, 2], "patches": 60}), "b": (rough, {"patches": 30})}
    assert sample(regions).code == 0
    for split in SPLITS:
        table, imgs = table_of(workshop, split), images(split)
        np.testing.assert_allclose(table["mean_altitude"], imgs.mean((1, 2)), rtol=1e-5)
        reach = imgs.max((1, 2)) - imgs.min((1, 2))
        np.testing.assert_allclose(table["altitude_difference"], reach, rtol=1e-5)
        of_b = (table["region"] == "b").to_numpy()
        slopes = mean_slope_gradient(imgs[of_b], 50.0)
        np.testing.assert_allclose(table["mean_slope_gradient"][of_b], slopes, rtol=1e-5)


def test_record_of_validity(workshop, sample, images):
    """The range covers the LR training patches of all regions, at the finest spacing."""
    regions = {
        "coarse": (tilted(10), {"delta_hr_m": 500}),
        "fine": (tilted(4) - 2000, {"delta_hr_m": [20, 10]}),
        "away": (tilted(90), {"held_out": True, "delta_hr_m": 1}),
    }
    assert sample(regions).code == 0
    validity = record_of(workshop)["validity"]
    lr = images("train", "LR")
    assert validity["depth_m"] == pytest.approx([float(lr.min()), float(lr.max())])
    assert validity["slope"] == pytest.approx(0.4, rel=1e-3)
    assert validity["delta_lr_m"] == [80, 40]


def test_record_of_the_spacing(workshop, sample):
    """dataset.json has a spacing if the test has one, else none, which spectra would believe."""
    one = {"a": (NUMBERED, {}), "b": (NUMBERED, {"delta_hr_m": [50, 50]})}
    assert sample(one).code == 0
    record = record_of(workshop)
    assert (record["delta_hr_m"], record["delta_lr_m"]) == ([50, 50], [200, 200])
    for other in ({"coarsen": [1, 2]}, {"delta_hr_m": 60}):
        assert sample({**one, "c": (NUMBERED, other)}, overwrite=True).code == 0
        assert not {"delta_hr_m", "delta_lr_m"} & set(record_of(workshop))


def test_the_spacing_of_a_file_is_used(workshop, sample):
    """Without delta_hr_m the spacing is that of the file: degrees become metres."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    axes = {"lat": np.arange(ROWS) * 0.001 - 0.08, "lon": np.arange(COLUMNS) * 0.001 + 140}
    plane = xarray.DataArray(tilted(10), axes, ("lat", "lon"), attrs={"units": "m"})
    path = workshop.folder / "map.nc"
    plane.to_dataset(name="z").to_netcdf(path, engine="h5netcdf")
    assert sample({"a": (None, {"hr_fname": str(path), "delta_hr_m": None})}).code == 0
    # A thousandth of a degree at the equator is 111.32 m.
    assert record_of(workshop)["delta_hr_m"] == pytest.approx([111.32, 111.32], rel=1e-3)
    slopes = table_of(workshop, "train")["mean_slope_gradient"]
    np.testing.assert_allclose(slopes, 10 / 111.32, rtol=2e-3)


# -- Overwriting and refusals ----------------------------------------------------------------------


def test_overwrite_replaces_the_whole(workshop, sample, images):
    """A folder that holds a data set is refused; overwrite replaces patches, features, record."""
    assert sample({"a": (NUMBERED, {"patches": 40})}).code == 0
    before = workshop.snapshot(workshop.folder / "sampled")
    sample({"a": (NUMBERED, {"patches": 80})}).refused(
        "already holds a data set", "overwrite: true"
    )
    assert workshop.snapshot(workshop.folder / "sampled") == before
    # A .npy beside a .pkl would be read in its place.
    np.save(workshop.folder / "sampled" / "train" / "data_HR.npy", np.zeros((3, 16, 16, 1)))
    assert sample({"a": (NUMBERED, {"patches": 80})}, overwrite=True).code == 0
    assert set(workshop.snapshot(workshop.folder / "sampled")) == FILES
    counts = {split: len(images(split)) for split in SPLITS}
    assert sum(counts.values()) == pytest.approx(80, abs=1)
    assert record_of(workshop)["pairs"] == {"a": counts}


def test_patches_without_a_record_are_not_replaced(workshop, sample):
    """A folder of the earlier program, without dataset.json, is a data set too."""
    old = workshop.write_pickle(
        np.ones((3, 16, 16, 1)), workshop.folder / "sampled/train/data_HR.pkl"
    )
    before = old.read_bytes()
    sample({"a": NUMBERED}).refused("already holds a data set")
    assert old.read_bytes() == before


HOLEY = np.where(np.indices(NUMBERED.shape)[1] % 12 < 8, np.nan, NUMBERED).astype(np.float32)


@pytest.mark.parametrize(
    ("regions", "settings", "words"),
    [
        # what the maps hold
        ({"a": NUMBERED[:40, :40]}, {}, ("a: ", "too few", "smaller blocks (block)")),
        ({"a": (NUMBERED, {"coarsen": [1, 8]})}, {}, ("a: coarsened 8", "Remove 8 from coarsen")),
        ({"a": (NUMBERED, {"coarsen": [16]})}, {}, ("a: coarsened 16 times", "no patch")),
        ({"a": (NUMBERED, {"block": 10})}, {}, ("a: ", "too few", "smaller blocks (block)")),
        ({"a": (HOLEY, {"kernel_size": [1, 1]})}, {}, ("a: ", "images (lr_img_shape)")),
        ({"a": (NUMBERED, {"coarsen": [2, 2]})}, {}, ("a", "coarsen", "twice")),
        (
            {"a": NUMBERED, "b": (NUMBERED[:10], {"held_out": True})},
            {},
            ("b: has no patch of 16 × 16 pixels",),
        ),
        ({"a": NUMBERED, "b": (NUMBERED[:20, :40], {})}, {}, ("b: ", "blocks", "too few")),
        ({"a": (NUMBERED * np.nan, {})}, {}, ("a.npy", "every pixel is missing")),
        ({"a": (NUMBERED, {"valid_range": [0, 10]})}, {}, ("valid_range", "Widen")),
        ({"a": (None, {})}, {}, ("a.npy: no such file",)),
        ({"a": NUMBERED}, {"test_size": 0}, ("no region has patches for test", "test_size")),
        # what the file says
        ({"a": (NUMBERED, {"patchs": 5})}, {}, ("unknown key regions.a.patchs", "'patches'")),
        ({"a": NUMBERED}, {"vaildation_size": 0.1}, ("unknown key", "'validation_size'")),
        ({"a": (NUMBERED, {"patches": 0})}, {}, ("regions.a.patches must be", "received 0")),
        ({"a": (NUMBERED, {"coarsen": []})}, {}, ("regions.a.coarsen",)),
        ({"a": (NUMBERED, {"coarsen": [0]})}, {}, ("regions.a.coarsen", "received 0")),
        ({"a": (NUMBERED, {"coarsen": [17]})}, {}, ("regions.a.coarsen", "received 17")),
        ({"a": (NUMBERED, {"block": 1})}, {}, ("regions.a.block must be", "received 1")),
        ({"a": (NUMBERED, {"kernel_size": [4, 4]})}, {}, ("kernel_size must be odd",)),
        ({"a": (NUMBERED, {"delta_hr_m": -5})}, {}, ("regions.a.delta_hr_m", "received -5")),
        ({"a": (NUMBERED, {"positive": "north"})}, {}, ("regions.a.positive", "'north'")),
        ({"a": (NUMBERED, {"held_out": True})}, {}, ("held_out must leave at least one region",)),
        (
            {"a": NUMBERED},
            {"validation_size": 0.5, "test_size": 0.5},
            ("must be below 1, to leave",),
        ),
        ({"a": NUMBERED}, {"validation_size": 0}, ("validation_size must be", "received 0")),
        ({"a": NUMBERED}, {"scale": 0}, ("scale must be", "received 0")),
        ({"a": NUMBERED}, {"lr_img_shape": [4]}, ("lr_img_shape has too few entries",)),
        ({"a": NUMBERED}, {"seed": True}, ("seed must be", "True")),
        ({"a": NUMBERED}, {"save_dir": ""}, ("save_dir must",)),
        # names that tables could not tell from a map, a class or all images
        (
            {"a/b": (None, {"hr_fname": "a.npy"})},
            {},
            ("names must not be empty, contain '/'", "received 'a/b'"),
        ),
        ({" ": NUMBERED}, {}, ("names must not be empty", "received ' '")),
        ({"all": NUMBERED}, {}, ("or be one of", "received 'all'. Rename")),
        ({"0-0.05": NUMBERED}, {}, ("received '0-0.05'",)),
        ({}, {}, ("regions",)),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_nothing_is_written(workshop, sample, regions, settings, words):
    """Whatever is wrong with maps or settings is told in a line; no folder is begun."""
    result = sample(regions, **settings)
    result.refused(*words)
    assert result.code == 2
    assert not (workshop.folder / "sampled").exists()


def test_a_region_may_be_called_null(workshop, sample):
    """Tables of text are read as text: no name counts as missing."""
    assert sample({"null": NUMBERED, "b": NUMBERED}).code == 0
    source = PatchSource(str(workshop.folder / "sampled"))
    assert set(source.regions("train").tolist()) == {"null", "b"}


def test_an_error_leaves_the_former_data_set(workshop, sample):
    """With overwrite the old data set stays until the new one is complete."""
    assert sample({"a": (NUMBERED, {"patches": 40})}).code == 0
    before = workshop.snapshot(workshop.folder / "sampled")
    result = sample({"a": NUMBERED, "b": (NUMBERED[:20, :40], {})}, overwrite=True)
    result.refused("b: ", "too few")
    assert workshop.snapshot(workshop.folder / "sampled") == before


# -- Many small maps -------------------------------------------------------------------------------


@pytest.fixture
def tiles(workshop):
    """Write twelve small maps, 0 to 11, that differ by 1000 m, two of each group; a table too."""
    folder = workshop.folder / "tiles"
    folder.mkdir()
    names = [f"t{i:02d}.npy" for i in range(12)]
    rows = [f"{name},{i // 2},{'weak' if i == 11 else 'train'}" for i, name in enumerate(names)]
    (folder / "groups.csv").write_text("\n".join(["file,group,use", *rows]))
    for i, name in enumerate(names):
        np.save(folder / name, -1000.0 * i - np.arange(40 * 48.0).reshape(40, 48) / 4)
    return folder


def of_tiles(folder, **options):
    """Return the region of these maps."""
    return {"small": (None, {"hr_fname": str(folder / "*.npy"), "patches": 8, **options})}


def test_whole_maps_go_to_the_splits(workshop, sample, tiles, images):
    """Every map is in one split; the table names each, and the record counts them together."""
    assert sample(of_tiles(tiles)).code == 0
    seen = {split: set(table_of(workshop, split)["region"]) for split in SPLITS}
    assert [len(seen[split]) for split in SPLITS] == [10, 1, 1]
    assert set.union(*seen.values()) == {f"small/t{i:02d}" for i in range(12)}
    assert record_of(workshop)["pairs"] == {"small": {"train": 80, "validation": 8, "test": 8}}
    assert images("train").shape == (80, SIZE, SIZE)


def test_maps_of_a_group_go_together(workshop, sample, tiles):
    """The table's groups are dealt; maps that it does not keep are left out."""
    options = {"groups": str(tiles / "groups.csv"), "keep": {"use": ["train"]}, "leave_out": [0]}
    assert sample(of_tiles(tiles, **options)).code == 0
    groups = {}
    for split in SPLITS:
        names = set(table_of(workshop, split)["region"])
        groups[split] = {int(name.removeprefix("small/t")) // 2 for name in names}
        assert "small/t11" not in names
    assert sorted(group for found in groups.values() for group in found) == [1, 2, 3, 4, 5]


def test_coarser_surveys_of_small_maps(workshop, sample, tiles):
    """A map that is too small for a coarsening gives what it can."""
    assert sample(of_tiles(tiles, coarsen=[1, 2, 3])).code == 0
    assert record_of(workshop)["pairs"]["small"] == {"train": 120, "validation": 12, "test": 8}


def test_small_maps_may_be_held_out(workshop, sample, tiles):
    """Side by side, each of them, for the test alone."""
    assert sample({"a": NUMBERED, **of_tiles(tiles, held_out=True)}, test_size=0).code == 0
    assert record_of(workshop)["pairs"]["small"] == {"test": 12 * 2 * 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hr_fname": "nowhere/*.npy"}, ("small: no file matches nowhere/*.npy",)),
        ({"groups": "nowhere.csv"}, ("small: nowhere.csv is not a table",)),
        ({"keep": {"use": ["train"]}}, ("set groups",)),
        ({"hr_fname": "a.npy", "groups": "g.csv"}, ("use * in hr_fname",)),
    ],
)
def test_mistakes_about_many_maps(workshop, sample, tiles, options, words):
    """One line each."""
    sample(of_tiles(tiles, **options)).refused(*words)


def test_a_table_that_fits_nothing(sample, tiles):
    """Columns and values are those of the table."""
    groups = {"groups": str(tiles / "groups.csv")}
    sample(of_tiles(tiles, **groups, keep={"class": [1]})).refused("is not a table", "'class'")
    sample(of_tiles(tiles, **groups, keep={"use": ["none"]})).refused("names none of")
    sample(of_tiles(tiles, **groups, leave_out=[0, 1, 2, 3])).refused("2 groups", "too few")


# -- Use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coarsen", [[1], [1, 2]])
def test_the_folder_trains_and_tests(workshop, sample, coarsen):
    """A network learns from the folder; the test takes its slope classes from the tables.

    Also if regions differ in their spacing, so that dataset.json has none.
    """
    regions = {
        "steep": (tilted(10), {"delta_hr_m": 50, "patches": 60, "coarsen": coarsen}),
        "flat": (tilted(2), {"delta_hr_m": 50 if coarsen == [1] else 20, "patches": 60}),
    }
    assert sample(regions).code == 0
    folder = workshop.folder / "sampled"
    tables = {name: text for name, text in workshop.snapshot(folder).items() if ".csv" in name}
    settings = {"data_dir": folder, "norm_range": [-4000, 0], "epochs": 1}
    log = workshop.train(**settings)
    record = record_of(workshop)
    assert json.loads((log / "validity.json").read_text()) == record["validity"]
    result = workshop.run(workshop.folder / "run.yml", "test")
    assert result.code == 0, result.err
    assert "computing slopes" not in result.out
    results = pd.read_csv(log / "test_result" / "test_results.csv")
    expected = table_of(workshop, "test")["mean_slope_gradient"]
    np.testing.assert_allclose(results["mean_slope_gradient"], expected)
    summary = json.loads((log / "test_result" / "summary.json").read_text())
    flat = (expected < 0.05).sum() if coarsen == [1] else 0
    assert summary["slope_classes"]["0-0.05"]["n"] == flat
    assert summary["n"] == len(expected)
    after = workshop.snapshot(folder)
    assert {name: after[name] for name in tables} == tables
    mask = workshop.run(log, "predict", workshop.folder / "flat.npy", "--range-mask")
    assert mask.code == 0, mask.err
