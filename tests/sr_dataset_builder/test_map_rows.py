"""Maps larger than memory: read by rows, cut as they are read, written as they are cut."""

import errno
import math
import tracemalloc

import numpy as np
import pytest
import yaml

from sr_dataset_builder import map_rows, patch_files, places
from sr_dataset_builder.dataset import BuildParams, Dataset, MapParams, read_map
from sr_dataset_builder.map_rows import MapRows, ReducedRows
from sr_dataset_builder.regions import main as regions
from sr_dataset_builder.resize import METHODS, resize
from toolbox.data_loader import load_images

SPLITS = ("train", "validation", "test")
KINDS = ("LR", "HR")


@pytest.fixture
def sea_floor():
    """Make 240 × 300 pixels of rough ground with lone gaps, a hole and an island."""
    r, c = np.mgrid[:240, :300]
    rng = np.random.default_rng(0)
    z = -900 + 60 * np.sin(r / 9) + 45 * np.cos(c / 7) + r - c / 2 + rng.normal(0, 3, r.shape)
    z[rng.random(z.shape) < 0.01] = np.nan
    z[100:112, 40:60] = np.nan
    z[30:34, 200:206] = 90
    return z.astype(np.float32)


@pytest.fixture
def hr_fname(workshop, sea_floor):
    """Write the map so that it is read by windows."""
    np.save(workshop.folder / "hr.npy", sea_floor)
    return workshop.folder / "hr.npy"


@pytest.fixture
def by(monkeypatch):
    """Set how many pixels are read at once."""

    def set_pixels(pixels):
        for module in (map_rows, places):
            monkeypatch.setattr(module, "PIXELS", pixels)
        monkeypatch.setattr("sr_dataset_builder.regions.PIXELS", pixels)

    return set_pixels


def images(folder):
    """Return all images of a data set, by file without its ending."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.array(load_images(path))
        for path in folder.glob("*/data_*")
        if path.suffix in (".pkl", ".npy")
    }


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("pixels", [300, 2_000, 10**6])
def test_rows_are_those_of_the_whole_map(hr_fname, by, turned, pixels):
    """However many are read at once, gaps are filled from rows above and below them."""
    params = MapParams(valid_range=(-12000, 0), kernel_size=(5, 7))
    whole = read_map(str(hr_fname), params, []).values
    assert 0 < np.isnan(whole).sum() < 300
    by(pixels)
    rows = MapRows(str(hr_fname), params, [])
    rows.turn(*turned)
    expected = whole[:: -1 if turned[0] else 1, :: -1 if turned[1] else 1]
    for first, last in ((0, 7), (3, 40), (40, 41), (39, 140), (230, 240), (0, 240)):
        np.testing.assert_array_equal(rows.rows(first, last), expected[first:last])
    np.testing.assert_array_equal(rows.rows(5, 90, slice(9, 33)), expected[5:90, 9:33])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("method", METHODS)
def test_reduced_rows_are_those_of_the_reduced_map(hr_fname, by, method, scale):
    """Interpolation looks as far beyond the rows as it would in the whole map."""
    params = MapParams()
    expected = resize(read_map(str(hr_fname), params, []).values, scale, method)
    by(1_500)
    low = ReducedRows(MapRows(str(hr_fname), params, []), scale, method)
    assert low.shape == expected.shape
    height = low.shape[0]
    for first, last in ((0, 9), (2, 11), (2, 12), (30, 39), (height - 9, height)):
        np.testing.assert_array_equal(low.rows(first, last), expected[first:last])


@pytest.mark.parametrize("method", ["area", "lanczos"])
def test_the_data_set_does_not_depend_on_how_much_is_read(workshop, hr_fname, by, method):
    """A row of pixels at a time gives the patches of the whole map at once."""
    settings = {"hr_fname": hr_fname, "lr_method": method, "valid_range": [-12000, 0]}
    built = []
    for pixels in (10**6, 300, 5_000):
        by(pixels)
        assert workshop.build(**settings, overwrite=True).code == 0
        built.append(images(workshop.folder / "built"))
    assert len(built[0]) == 6
    assert same(built[0], built[1])
    assert same(built[0], built[2])


def test_a_pair_of_maps_is_read_by_rows(workshop, hr_fname, sea_floor, by, monkeypatch):
    """A flipped LR map is found out and read from its other end; some rows are enough for it."""
    lr = np.nan_to_num(sea_floor, nan=-900).reshape(60, 4, 75, 4).mean((1, 3))
    rasterio = pytest.importorskip("rasterio")
    for name, values, step in (("hr", sea_floor, -50), ("lr", lr[::-1], 200)):
        height, width = values.shape
        top = 8e6 if step < 0 else 8e6 - step * height
        with rasterio.open(
            workshop.folder / f"{name}.tif",
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=1,
            dtype="float32",
            crs="EPSG:32655",
            transform=rasterio.Affine(abs(step), 0, 2e5, 0, step, top),
        ) as target:
            target.write(values, 1)
    names = {f"{kind}_fname": workshop.folder / f"{kind}.tif" for kind in ("hr", "lr")}
    built = []
    for pixels, compared in ((10**6, 2000), (300, 20)):
        by(pixels)
        monkeypatch.setattr("sr_dataset_builder.pair_maps._MOST_COMPARED", compared)
        result = workshop.build(**names, overwrite=True)
        assert "so it is flipped" in result.out
        assert "correlation" in result.out
        built.append(images(workshop.folder / "built"))
    assert same(*built)


@pytest.mark.parametrize("files", ["auto", "npy"])
def test_large_sets_are_written_for_mapping(workshop, hr_fname, monkeypatch, files):
    """As .npy they hold the images of the pickles, are mapped, and replace the pickles."""
    assert workshop.build(hr_fname=hr_fname).code == 0
    pickled = images(workshop.folder / "built")
    assert len(list((workshop.folder / "built").glob("*/*.pkl"))) == 6
    if files == "auto":
        monkeypatch.setattr(patch_files, "MOST_PICKLED", 10_000)
    assert workshop.build(hr_fname=hr_fname, files=files, overwrite=True).code == 0
    assert same(images(workshop.folder / "built"), pickled)
    names = sorted(path.name for path in (workshop.folder / "built" / "train").iterdir())
    assert names == ["data_HR.npy", "data_LR.npy"]
    assert isinstance(load_images(workshop.folder / "built/train/data_HR.npy"), np.memmap)


def test_regions_do_not_depend_on_how_much_is_read(workshop, hr_fname, by):
    """Places, patches and tables are the same, as pickles and as .npy."""
    content = {
        "regions": {
            "a": {
                "hr_fname": str(hr_fname),
                "delta_hr_m": 50.0,
                "patches": 200,
                "coarsen": [1, 2, 3],
                "block": 4,
            },
            "b": {"hr_fname": str(hr_fname), "delta_hr_m": 50.0, "held_out": True},
        },
        "lr_img_shape": [4, 5],
        "scale": 2,
    }
    found = []
    for number, (pixels, files) in enumerate(((10**6, "pkl"), (4_000, "npy"))):
        by(pixels)
        folder = workshop.folder / str(number)
        path = workshop.folder / "regions.yml"
        path.write_text(yaml.safe_dump({**content, "save_dir": str(folder), "files": files}))
        assert regions([str(path)]) == 0
        tables = {path.parent.name: path.read_bytes() for path in folder.glob("*/data_HR.csv")}
        found.append((images(folder), tables, (folder / "dataset.json").read_bytes()))
    for other in found[1:]:
        assert same(found[0][0], other[0])
        assert found[0][1:] == other[1:]


def test_building_holds_a_few_rows(workshop, by, monkeypatch):
    """A map of 23 MB and its patches of 22 MB are built with less than 8 MB."""
    monkeypatch.setattr("toolbox.io.maps._COUNTED_VALUES", 2**16)
    side = 2400
    r, c = np.arange(side)[:, None], np.arange(side)
    np.save(workshop.folder / "hr.npy", (-900 + 60 * np.sin(r / 9) + c / 9).astype(np.float32))
    by(2**16)
    params = BuildParams(
        hr_fname=str(workshop.folder / "hr.npy"),
        save_dir=str(workshop.folder / "built"),
        lr_stride=(16, 16),
        files="npy",
    )
    tracemalloc.start()
    try:
        dataset = Dataset(None, params.hr_fname, (4, 4), params)
        dataset.save(params.save_dir)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(dataset.pairs.values()) == 16 * 9 * 9
    assert peak < 8e6


def test_a_full_disk_is_noticed_before_the_work(workshop, hr_fname, monkeypatch):
    """The size of the patches and the room are in the line, and nothing is written."""
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(patch_files.shutil, "disk_usage", lambda path: usage)
    result = workshop.build(hr_fname=hr_fname)
    result.refused("built", "1e-06 GB", "Raise lr_stride")
    assert not (workshop.folder / "built").exists()


def test_an_interrupted_build_leaves_the_former_set(workshop, hr_fname, monkeypatch):
    """Until all patches are written, the old files stay, and no other remains."""
    assert workshop.build(hr_fname=hr_fname).code == 0
    before = workshop.snapshot(workshop.folder / "built")
    write, calls = patch_files.PatchFiles.write, []

    def stop(self, *arguments):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(patch_files.PatchFiles, "write", stop)
    params = BuildParams(
        hr_fname=str(hr_fname), save_dir="unused", lr_img_shape=(4, 4), block_shape=(4, 5)
    )
    dataset = Dataset(None, str(hr_fname), (4, 5), params)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(str(workshop.folder / "built"))
    assert workshop.snapshot(workshop.folder / "built") == before
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        dataset.save(str(workshop.folder / "new" / "set"))
    assert not (workshop.folder / "new").exists()


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_no_set_is_half_former_half_new(workshop, hr_fname, monkeypatch, ending):
    """Stopped while files are pickled, Ctrl-C or full disk, the former set is still whole."""
    assert workshop.build(hr_fname=hr_fname).code == 0
    before = workshop.snapshot(workshop.folder / "built")
    pickle_images, calls = patch_files.pickle_images, []

    def stop(source, target):
        calls.append(target)
        pickle_images(source, target)
        if len(calls) > 3:
            raise ending

    monkeypatch.setattr(patch_files, "pickle_images", stop)
    params = BuildParams(
        hr_fname=str(hr_fname), save_dir="unused", lr_img_shape=(4, 4), block_shape=(4, 5), seed=5
    )
    dataset = Dataset(None, str(hr_fname), (4, 5), params)
    with pytest.raises(type(ending)):
        dataset.save(str(workshop.folder / "built"))
    assert len(calls) == 4
    assert workshop.snapshot(workshop.folder / "built") == before


@pytest.mark.parametrize("share", [0.002, 0.4])
def test_filled_pixels_are_exact_means(share):
    """Few gaps or many, a filled pixel is the rounded mean of the valid ones in its window."""
    rng = np.random.default_rng(3)
    img = rng.uniform(-4000, -1000, (60, 80)).astype(np.float32)
    img[rng.random(img.shape) < share] = np.nan
    found = map_rows.filled(img, (3, 5))
    for row, column in np.argwhere(np.isnan(img)):
        around = img[max(0, row - 1) : row + 2, max(0, column - 2) : column + 3]
        values = around[~np.isnan(around)].astype(float)
        assert found[row, column] == np.float32(math.fsum(values) / len(values))
