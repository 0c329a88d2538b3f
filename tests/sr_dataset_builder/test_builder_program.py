"""The program ``python -m sr_dataset_builder.dataset build.yml``: files in, files out, refusals."""

import datetime
import json

import numpy as np
import pytest

SPLITS = ("train", "validation", "test")
FILES = [f"{split}/data_{kind}.pkl" for split in SPLITS for kind in ("LR", "HR")]


@pytest.fixture
def sea_floor():
    """Make a map of 160 × 200 pixels without symmetries, in whole metres."""
    r, c = np.mgrid[:160, :200]
    return np.round(-900 + 60 * np.sin(r / 9) + 45 * np.cos(c / 7) + r - c / 2).astype(np.float32)


@pytest.fixture
def hr_fname(workshop, sea_floor):
    """Write the map as the manual's pickle."""
    return workshop.write_pickle(sea_floor, workshop.folder / "hr.pkl")


def images(workshop, kind="HR"):
    """Return all images that were built, in the order train, validation, test."""
    folder = workshop.folder / "built"
    return np.concatenate([workshop.read_pickle(folder / s / f"data_{kind}.pkl") for s in SPLITS])


def record(workshop):
    """Return what dataset.json says."""
    return json.loads((workshop.folder / "built" / "dataset.json").read_text())


def built_from(workshop, **settings):
    """Build with `settings` and return the images' bytes."""
    result = workshop.build(**settings)
    assert result.code == 0, result.err
    files = workshop.snapshot(workshop.folder / "built")
    return [files[name] for name in FILES]


def test_program_builds_and_reports(workshop, hr_fname):
    """One YAML file makes the folder, and the counts are printed by split."""
    result = workshop.build(hr_fname=hr_fname)
    assert result.code == 0
    assert result.messages == []
    assert "train:    256 pairs from 16 blocks" in result.out
    files = workshop.snapshot(workshop.folder / "built")
    assert sorted(files) == sorted([*FILES, "dataset.json"])
    assert images(workshop, "LR").shape == (320, 4, 4, 1)
    assert images(workshop, "HR").shape == (320, 16, 16, 1)


def test_lr_made_from_hr_is_the_area_mean(workshop, hr_fname):
    """Without an LR map each LR patch is the 4 × 4 mean of its HR patch."""
    workshop.build(hr_fname=hr_fname)
    hr = images(workshop)
    mean = hr.reshape(len(hr), 4, 4, 4, 4, 1).mean((2, 4))
    np.testing.assert_allclose(images(workshop, "LR"), mean, rtol=1e-6)


def test_a_step_of_a_netcdf_is_named_in_the_file(workshop, hr_fname, sea_floor):
    """The advice of the message, a date without quotes, gives the set of that step."""
    xarray = pytest.importorskip("xarray")
    expected = built_from(workshop, hr_fname=hr_fname)
    maps = np.stack([sea_floor - 700, sea_floor])
    days = ("time", [0, 31], {"units": "days since 2020-01-01"})
    steps = xarray.Dataset({"z": (("time", "y", "x"), maps)}, {"time": days})
    path = workshop.folder / "steps.nc"
    steps.to_netcdf(path, engine="h5netcdf")
    again = {"hr_fname": str(path), "overwrite": True}
    workshop.build(**again).refused("2 steps of time", "'time: ...'")
    for time in (2, datetime.date(2020, 2, 1)):
        assert built_from(workshop, **again, time=time) == expected


def test_lr_method_is_named_in_the_file(workshop, hr_fname):
    """Another reduction gives other LR patches and is recorded."""
    area = built_from(workshop, hr_fname=hr_fname)
    cubic = built_from(workshop, hr_fname=hr_fname, lr_method="cubic", overwrite=True)
    assert cubic[0] != area[0]
    assert cubic[1] == area[1]
    assert record(workshop)["lr_method"] == "cubic"


def test_same_seed_same_bytes(workshop, hr_fname):
    """Two builds with one seed write the same bytes, another seed others."""
    first = built_from(workshop, hr_fname=hr_fname, seed=3)
    assert built_from(workshop, hr_fname=hr_fname, seed=3, overwrite=True) == first
    assert built_from(workshop, hr_fname=hr_fname, seed=4, overwrite=True) != first


def test_lr_and_hr_maps_are_paired(workshop, hr_fname, sea_floor):
    """With both maps given, the LR patches come from the LR map."""
    lr = sea_floor.reshape(40, 4, 50, 4).mean((1, 3)) + 5000
    lr_fname = workshop.write_pickle(lr, workshop.folder / "lr.pkl")
    workshop.build(hr_fname=hr_fname, lr_fname=lr_fname)
    hr = images(workshop)
    mean = hr.reshape(len(hr), 4, 4, 4, 4, 1).mean((2, 4))
    np.testing.assert_allclose(images(workshop, "LR"), mean + 5000, rtol=1e-5)
    assert record(workshop)["lr_method"] is None


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_numpy_files_give_the_same_bytes_as_the_pickle(workshop, hr_fname, sea_floor, ending):
    """The kind of file does not change the data."""
    expected = built_from(workshop, hr_fname=hr_fname)
    path = workshop.folder / f"hr.{ending}"
    if ending == "npy":
        np.save(path, sea_floor)
    else:
        np.savez(path, depth=sea_floor)
    assert built_from(workshop, hr_fname=path, overwrite=True) == expected


def write_geotiff(path, bands, crs="EPSG:32655", spacing=(30.0, 20.0), nodata=None):
    """Write a GeoTIFF with oblong pixels, so that rows and columns cannot be swapped unseen."""
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(spacing[1], 0, 145.0, 0, -spacing[0], -16.0)
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=bands.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as target:
        target.write(bands)
    return path


def test_geotiff_gives_data_and_spacing(workshop, hr_fname, sea_floor):
    """A projected GeoTIFF gives the same bytes as the pickle, and its own spacing in metres."""
    expected = built_from(workshop, hr_fname=hr_fname)
    path = write_geotiff(workshop.folder / "hr.tif", sea_floor[None].astype(np.int16))
    assert built_from(workshop, hr_fname=path, overwrite=True) == expected
    assert record(workshop)["delta_hr_m"] == [30, 20]
    assert record(workshop)["delta_lr_m"] == [120, 80]


def test_geotiff_in_degrees_has_spacing_in_metres(workshop, sea_floor):
    """0.01° at 16° to 17.6° south is 1113 m north-south and 1066 m east-west."""
    path = workshop.folder / "hr.tif"
    write_geotiff(path, sea_floor[None], "EPSG:4326", (0.01, 0.01))
    workshop.build(hr_fname=path)
    rows, columns = record(workshop)["delta_hr_m"]
    assert rows == pytest.approx(1113.2, rel=1e-3)
    assert columns == pytest.approx(1113.2 * np.cos(np.radians(16.8)), rel=1e-3)


def test_geotiffs_own_nodata_is_mended(workshop, sea_floor):
    """The file's nodata value counts as missing and takes the mean around it."""
    band = sea_floor.copy()
    band[40:160:40, 50] = -32768
    path = write_geotiff(workshop.folder / "hr.tif", band[None], nodata=-32768)
    workshop.build(hr_fname=path)
    assert len(images(workshop)) == 320
    assert images(workshop).min() >= sea_floor.min()


def test_maps_that_are_no_pair_are_refused(workshop, hr_fname, sea_floor):
    """An LR map with the sign turned is refused with the figures, and nothing is written."""
    lr = -sea_floor.reshape(40, 4, 50, 4).mean((1, 3))
    lr_fname = workshop.write_pickle(lr, workshop.folder / "lr.pkl")
    result = workshop.build(hr_fname=hr_fname, lr_fname=lr_fname)
    result.refused("lr.pkl", "correlation -1.00", "Its sign is opposite")
    assert not (workshop.folder / "built").exists()


def test_spacing_that_is_not_known_is_asked_for(workshop, hr_fname, sea_floor):
    """A world file that may be in degrees is asked about; a file that says nothing is told of."""
    path = write_geotiff(workshop.folder / "hr.tif", sea_floor[None], crs=None, spacing=(0.1, 0.1))
    workshop.build(hr_fname=path).refused("hr.tif", "delta_hr_m", "grid spacing is unknown")
    assert workshop.build(hr_fname=path, delta_hr_m=271).code == 0
    assert record(workshop)["delta_lr_m"] == 1084
    result = workshop.build(hr_fname=hr_fname, overwrite=True)
    assert "does not state its grid spacing; 50 m is used" in result.out


@pytest.mark.parametrize("fill", [-99999, 1e20])
def test_undeclared_fill_is_missing(workshop, sea_floor, fill):
    """What no sea floor is, is missing and said so, in a pickle as in any other file."""
    values = sea_floor.copy()
    values[40:44, 50:56] = fill
    declared = np.where(values == np.float32(fill), np.nan, values)
    expected = built_from(
        workshop, hr_fname=workshop.write_pickle(declared, workshop.folder / "declared.pkl")
    )
    path = workshop.write_pickle(values, workshop.folder / "hr.pkl")
    result = workshop.build(hr_fname=path, overwrite=True)
    assert "24 pixels are exactly" in result.out
    assert "taken as missing" in result.out
    files = workshop.snapshot(workshop.folder / "built")
    assert [files[name] for name in FILES] == expected


def test_map_in_feet_becomes_metres(workshop, sea_floor):
    """A band in US survey feet gives patches in metres, and the program says so."""
    path = write_geotiff(workshop.folder / "hr.tif", sea_floor[None] / np.float32(1200 / 3937))
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path, "r+") as file:
        file.units = ["US survey foot"]
    result = workshop.build(hr_fname=path)
    assert "its unit is 'US survey foot'; 1 is 0.3048006 m" in result.out
    assert images(workshop).min() == pytest.approx(sea_floor.min(), abs=1e-3)
    assert images(workshop).max() == pytest.approx(sea_floor.max(), abs=1e-3)


def test_second_band_by_number(workshop, hr_fname, sea_floor):
    """``variable: 2`` is the second band of a raster."""
    expected = built_from(workshop, hr_fname=hr_fname)
    path = write_geotiff(workshop.folder / "hr.tif", np.stack([sea_floor * 0, sea_floor]))
    assert built_from(workshop, hr_fname=path, variable="2", overwrite=True) == expected
    assert built_from(workshop, hr_fname=path, variable=2, overwrite=True) == expected


def test_tiff_without_georeference_is_read_quietly(workshop, hr_fname, sea_floor):
    """A plain TIFF has no spacing, so the manual's 50 m and 200 m hold, without a warning."""
    pytest.importorskip("rasterio")
    cv2 = pytest.importorskip("cv2")
    expected = built_from(workshop, hr_fname=hr_fname)
    path = workshop.folder / "plain.tif"
    assert cv2.imwrite(str(path), sea_floor)
    assert built_from(workshop, hr_fname=path, overwrite=True) == expected
    assert (record(workshop)["delta_lr_m"], record(workshop)["delta_hr_m"]) == (200, 50)


def write_netcdf(path, values, y, x, **others):
    """Write a NetCDF file with a variable ``elevation`` over y and x."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    data = {"elevation": (("y", "x"), values)} | others
    xarray.Dataset(data, coords={"y": y, "x": x}).to_netcdf(path, engine="h5netcdf")
    return path


def test_netcdf_gives_data_and_spacing(workshop, hr_fname, sea_floor):
    """A NetCDF grid in metres gives the same bytes as the pickle, and its own spacing."""
    expected = built_from(workshop, hr_fname=hr_fname)
    y, x = 5e5 + 30.0 * np.arange(160), 2e5 + 20.0 * np.arange(200)
    path = write_netcdf(workshop.folder / "hr.nc", sea_floor, y, x)
    assert built_from(workshop, hr_fname=path, overwrite=True) == expected
    assert record(workshop)["delta_hr_m"] == pytest.approx([30, 20])


def test_netcdf_in_degrees_has_spacing_in_metres(workshop, sea_floor):
    """At 60° north a degree of longitude is half as long as one of latitude."""
    y, x = 60 + 0.001 * (np.arange(160) - 79.5), 0.001 * np.arange(200)
    path = write_netcdf(workshop.folder / "hr.nc", sea_floor, y, x)
    workshop.build(hr_fname=path)
    assert record(workshop)["delta_hr_m"] == pytest.approx([111.32, 55.66], rel=1e-3)


def test_netcdf_with_two_planes_asks_which(workshop, hr_fname, sea_floor):
    """Two planes in one file need ``variable``, and both are named."""
    path = workshop.folder / "hr.nc"
    y, x = 30.0 * np.arange(160), 20.0 * np.arange(200)
    write_netcdf(path, sea_floor, y, x, sigma=(("y", "x"), sea_floor * 0))
    workshop.build(hr_fname=path).refused("elevation", "sigma", "variable")
    expected = built_from(workshop, hr_fname=hr_fname)
    assert built_from(workshop, hr_fname=path, variable="elevation", overwrite=True) == expected


def test_spacing_in_the_file_wins(workshop, hr_fname):
    """delta_hr_m overrides everything, and LR made from HR follows it."""
    workshop.build(hr_fname=hr_fname, delta_hr_m=30)
    assert (record(workshop)["delta_hr_m"], record(workshop)["delta_lr_m"]) == (30, 120)
    workshop.build(hr_fname=hr_fname, delta_hr_m=[30, 20], delta_lr_m=7, overwrite=True)
    assert (record(workshop)["delta_hr_m"], record(workshop)["delta_lr_m"]) == ([30, 20], 7)


def test_depths_that_count_downwards_are_turned(workshop, hr_fname, sea_floor):
    """``positive: down`` makes depths negative at the door, before valid_range looks at them."""
    expected = built_from(workshop, hr_fname=hr_fname)
    down = workshop.write_pickle(-sea_floor, workshop.folder / "down.pkl")
    settings = {"positive": "down", "valid_range": [-5000, 0], "overwrite": True}
    assert built_from(workshop, hr_fname=down, **settings) == expected


def test_valid_range_leaves_land_out_and_is_not_refilled(workshop, sea_floor):
    """Land stays missing although sea lies within its window, and patches that touch it go."""
    land = sea_floor.copy()
    land[60:64, 80:84] = 120.0
    fname = workshop.write_pickle(land, workshop.folder / "hr.pkl")
    whole = built_from(workshop, hr_fname=fname)
    assert images(workshop).max() == 120
    sea = built_from(workshop, hr_fname=fname, valid_range=[-12000, 0], overwrite=True)
    assert sea != whole
    assert images(workshop).max() < 0
    # The land is the LR pixel (5, 0) of its block; of the images, 4 pixels wide and 2 apart, two
    # hold it.
    assert len(images(workshop)) == 320 - 2


def test_mended_pixels_never_come_from_land(workshop, sea_floor):
    """A gap beside land takes the mean of the sea alone."""
    coast = sea_floor.copy()
    coast[60:64, 80:84] = 5000.0
    coast[58, 86] = np.nan
    fname = workshop.write_pickle(coast, workshop.folder / "hr.pkl")
    workshop.build(hr_fname=fname, valid_range=[-12000, 0])
    assert images(workshop).max() < 0


def test_zero_is_missing_on_request(workshop, sea_floor):
    """Zeros are depths unless the file says that they mean missing."""
    gaps = sea_floor.copy()
    gaps[15::40, 17] = 0
    fname = workshop.write_pickle(gaps, workshop.folder / "hr.pkl")
    workshop.build(hr_fname=fname)
    assert images(workshop).max() == 0
    workshop.build(hr_fname=fname, zero_is_missing=True, overwrite=True)
    assert images(workshop).max() < 0
    assert len(images(workshop)) == 320


def test_nodata_is_settable(workshop, sea_floor):
    """A pickle has no nodata of its own, so the file names it."""
    gaps = sea_floor.copy()
    gaps[15::40, 17] = -9999
    fname = workshop.write_pickle(gaps, workshop.folder / "hr.pkl")
    workshop.build(hr_fname=fname, nodata=-9999)
    assert images(workshop).min() >= sea_floor.min()
    assert len(images(workshop)) == 320


def test_matplotlibs_sample_needs_no_file(workshop):
    """The real elevation model inside Matplotlib is found by name."""
    settings = {"block_shape": [4, 5], "lr_img_shape": [16, 16], "lr_stride": [4, 4]}
    workshop.build(hr_fname="sample:jacksboro_fault_dem.npz", **settings)
    assert images(workshop).shape[1:] == (64, 64, 1)
    assert 200 < images(workshop).min() < images(workshop).max() < 1100
    assert record(workshop)["delta_hr_m"] == pytest.approx([92.8, 74.6], rel=0.01)


def test_existing_data_set_is_not_overwritten(workshop, hr_fname):
    """A folder with a data set is refused and stays; ``overwrite: true`` replaces it."""
    workshop.build(hr_fname=hr_fname)
    before = workshop.snapshot(workshop.folder / "built")
    workshop.build(hr_fname=hr_fname, seed=9).refused("built", "overwrite: true")
    assert workshop.snapshot(workshop.folder / "built") == before
    assert workshop.build(hr_fname=hr_fname, seed=9, overwrite=True).code == 0
    assert workshop.snapshot(workshop.folder / "built") != before


def test_patches_of_another_program_are_not_overwritten(workshop, hr_fname):
    """Patches without dataset.json, as the manual's own program leaves them, are kept too."""
    old = workshop.folder / "built" / "train" / "data_HR.pkl"
    path = workshop.write_pickle(np.zeros((1, 16, 16, 1)), old)
    before = path.read_bytes()
    workshop.build(hr_fname=hr_fname).refused("overwrite: true")
    assert path.read_bytes() == before


def test_overwriting_leaves_no_stale_slopes(workshop, hr_fname, sea_floor):
    """A slope table belongs to the images it was made from and goes when they are replaced."""
    workshop.build(hr_fname=hr_fname)
    stale = workshop.folder / "built" / "test" / "data_HR.csv"
    stale.write_text("index,mean_slope_gradient\n0,0.5\n")
    assert workshop.build(hr_fname=hr_fname, seed=9, overwrite=True).code == 0
    assert not stale.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_shap": [4, 5]}, ("unknown key block_shap", "'block_shape'")),
        ({"scale": 0}, ("scale must be", "received 0")),
        ({"scale": 2.5}, ("scale must be", "received 2.5")),
        ({"seed": -1}, ("seed must be", "received -1")),
        ({"block_shape": 4}, ("block_shape must be", "received 4")),
        ({"block_shape": [0, 5]}, ("block_shape must be", "received (0, 5)")),
        ({"kernel_size": [5, "wide"]}, ("kernel_size", "'wide'")),
        ({"delta_hr_m": "wide"}, ("delta_hr_m must be", "'wide'")),
        ({"lr_method": "median"}, ("lr_method", "'area'", "'median'")),
        ({"positive": "left"}, ("positive", "'up'", "'left'")),
        ({"overwrite": "perhaps"}, ("overwrite must be", "'perhaps'")),
        ({"validation_size": 0}, ("validation_size must be greater than 0",)),
        ({"validation_size": 0.6, "test_size": 0.4}, ("validation_size + test_size",)),
        ({"hr_fname": "nowhere.pkl"}, ("nowhere.pkl: no such file",)),
        ({"hr_fname": "map.xyz"}, ("map.xyz",)),
        ({"hr_fname": "sample:jacksboro.npz"}, ("'jacksboro_fault_dem.npz'",)),
        ({"lr_fname": "nowhere.pkl"}, ("nowhere.pkl: no such file",)),
        ({"hr_fname": None}, ("hr_fname must be",)),
        ({"block_shape": [50, 60]}, ("block_shape (50, 60)", "more blocks than", "(40, 50)")),
        ({"block_shape": [20, 20]}, ("block_shape (20, 20)", "smaller than an image", "(2, 2)")),
        ({"block_shape": [1, 2]}, ("2 complete blocks", "each needs at least one", "block_shape")),
        ({"valid_range": [0, 10]}, ("every pixel is missing", "valid_range")),
        ({"nodata": "none"}, ("nodata must be", "'none'")),
    ],
)
def test_bad_setting_is_refused(workshop, hr_fname, changes, words):
    """A mistake in the build file ends in one line that names it, and writes nothing."""
    before = workshop.snapshot()
    workshop.build(**{"hr_fname": hr_fname, **changes}).refused(*words)
    after = workshop.snapshot()
    assert {k: v for k, v in after.items() if k != "build.yml"} == before


def test_missing_key_is_named(workshop):
    """A build file without a map says which line to add."""
    workshop.build().refused("hr_fname is missing", "'hr_fname: ...'")


def test_sizes_that_do_not_match_the_scale(workshop, hr_fname, sea_floor):
    """Both shapes and the expected one are in the line."""
    lr_fname = workshop.write_pickle(sea_floor[:41, :50], workshop.folder / "lr.pkl")
    result = workshop.build(hr_fname=hr_fname, lr_fname=lr_fname)
    result.refused("hr.pkl", "4 times the size of", "(164, 200)", "(160, 200)", "scale")


def test_map_of_nothing_but_gaps(workshop, sea_floor):
    """A map that is NaN everywhere has nothing to cut."""
    fname = workshop.write_pickle(np.full_like(sea_floor, np.nan), workshop.folder / "hr.pkl")
    workshop.build(hr_fname=fname).refused("hr.pkl", "every pixel is missing")


def test_a_gap_in_every_patch(workshop, sea_floor):
    """If no pair is complete, the line says that there are 0 complete blocks."""
    sea_floor[:, ::14] = np.nan
    sea_floor[:, 1::14] = sea_floor[:, 2::14] = sea_floor[:, 3::14] = np.nan
    sea_floor[:, 4::14] = sea_floor[:, 5::14] = sea_floor[:, 6::14] = np.nan
    fname = workshop.write_pickle(sea_floor, workshop.folder / "hr.pkl")
    workshop.build(hr_fname=fname).refused("0 complete blocks")


def test_evil_pickle_is_not_executed(workshop):
    """A pickle with code in it is refused by name and leaves no trace."""
    trace = workshop.evil_pickle(workshop.folder / "hr.pkl")
    workshop.build(hr_fname=workshop.folder / "hr.pkl").refused("hr.pkl", "never executed")
    assert not trace.exists()
    assert not (workshop.folder / "built").exists()


OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("empty.pkl", lambda path: path.write_bytes(b"")),
        ("text.pkl", lambda path: path.write_text("depth depth depth")),
        ("stack.pkl", lambda path: np.zeros((3, 8, 8)).dump(path)),
        ("empty.npy", lambda path: path.write_bytes(b"")),
        ("text.npy", lambda path: path.write_text("depth depth depth")),
        ("objects.npy", lambda path: np.save(path, OBJECTS, allow_pickle=True)),
        ("words.npy", lambda path: np.save(path, np.array([["deep", "deeper"]] * 2))),
        ("empty.npz", lambda path: path.write_bytes(b"")),
        ("text.npz", lambda path: path.write_text("depth depth depth")),
        ("objects.npz", lambda path: np.savez(path, depth=OBJECTS[None], allow_pickle=True)),
        ("line.npz", lambda path: np.savez(path, depth=np.zeros(5))),
        ("text.tif", lambda path: path.write_text("depth depth depth")),
        ("text.nc", lambda path: path.write_text("depth depth depth")),
        ("folder.pkl", lambda path: path.mkdir()),
    ],
)
def test_damaged_raster_is_refused(workshop, name, write):
    """A file that holds no plane of numbers ends in one line that names it."""
    pytest.importorskip("rasterio")
    pytest.importorskip("xarray")
    write(workshop.folder / name)
    workshop.build(hr_fname=workshop.folder / name).refused(name)
    assert not (workshop.folder / "built").exists()
