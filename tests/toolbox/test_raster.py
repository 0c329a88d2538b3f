"""Maps in every format become metres with NaN gaps and a spacing in metres."""

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.raster import METRES_PER_DEGREE, read_raster, spacing_m

GRIDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bathymetry"
needs_grids = pytest.mark.skipif(
    not GRIDS.is_dir(), reason=f"the real grids are not on this machine ({GRIDS})"
)
DEPTHS = np.random.default_rng(0).uniform(-3000, -100, (6, 9))


def write_tiff(rasterio, path, bands, crs, pixel, nodata=None, north=0.0):
    """Write bands (count, H, W) with square or oblong pixels (width, height)."""
    count, height, width = bands.shape
    transform = rasterio.Affine(pixel[0], 0, 100.0, 0, -pixel[1], north)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=bands.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as file:
        file.write(bands)
    return path


def write_netcdf(xarray, path, variables, y, x, units=None):
    """Write planes over coordinates y and x."""
    attributes = {"units": units} if units else {}
    dataset = xarray.Dataset(
        {name: (("y", "x"), values) for name, values in variables.items()},
        {"y": ("y", y, attributes), "x": ("x", x, attributes)},
    )
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("suffix", [".npy", ".pkl", ".npz"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, ">f4"])
def test_numpy_files(suffix, dtype, tmp_path):
    """A plane of any number type becomes float32; such files say nothing of the spacing."""
    path, plane = tmp_path / f"map{suffix}", DEPTHS.astype(dtype)
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(plane))
    else:
        with open(path, "wb") as stream:
            (np.save if suffix == ".npy" else np.savez)(stream, plane)
    raster = read_raster(path)
    assert raster.values.dtype == np.float32
    assert raster.delta_m is None
    np.testing.assert_array_equal(raster.values, plane.astype(np.float32))


def test_axes_of_length_one_are_dropped(tmp_path):
    """(1, H, W) and (H, W, 1) hold one plane."""
    for i, shape in enumerate([(1, 6, 9), (6, 9, 1), (1, 18, 3)]):
        np.save(tmp_path / f"{i}.npy", DEPTHS.reshape(shape))
        plane = np.squeeze(DEPTHS.reshape(shape)).astype(np.float32)
        np.testing.assert_array_equal(read_raster(tmp_path / f"{i}.npy").values, plane)


@pytest.mark.parametrize("shape", [(54,), (2, 3, 9)])
def test_lines_and_stacks_are_refused(shape, tmp_path):
    """The message says what shape was found, and of a stack what to do."""
    np.save(tmp_path / "map.npy", DEPTHS.reshape(shape))
    with pytest.raises(
        DataError, match=rf"expected one map \(H, W\).*received shape {re.escape(str(shape))}"
    ):
        read_raster(tmp_path / "map.npy")


def test_colours_are_refused(tmp_path):
    """An image of three channels, and a picture file, are no maps."""
    np.save(tmp_path / "map.npy", DEPTHS.reshape(6, 3, 3))
    with pytest.raises(DataError, match=r"expected one plane \(H, W\); received shape \(6, 3, 3\)"):
        read_raster(tmp_path / "map.npy")
    (tmp_path / "map.png").touch()
    with pytest.raises(DataError, match=r"unknown kind of raster '\.png'; expected one of \.bag"):
        read_raster(tmp_path / "map.png")


def test_nodata_and_infinity_are_missing(tmp_path):
    """The value given as nodata, infinities and NaN are gaps; other values are kept."""
    plane = DEPTHS.copy()
    plane[0, :4] = [-9999, np.inf, -np.inf, np.nan]
    np.save(tmp_path / "map.npy", plane)
    values = read_raster(tmp_path / "map.npy", nodata=-9999).values
    assert np.isnan(values[0, :4]).all()
    assert np.isnan(values).sum() == 4
    assert read_raster(tmp_path / "map.npy").values[0, 0] == -9999


def test_float32_nodata_that_yaml_cannot_write_exactly(tmp_path):
    """A nodata such as 1e20 is compared in the precision of the file."""
    plane = DEPTHS.astype(np.float32)
    plane[2, 2] = np.float32(1e20)
    np.save(tmp_path / "map.npy", plane)
    assert np.isnan(read_raster(tmp_path / "map.npy", nodata=1e20).values[2, 2])


def test_positive_down_turns_the_sign(tmp_path):
    """Depths counted downwards become elevations, gaps found before the sign is turned."""
    plane = -DEPTHS
    plane[1, 1] = 99999
    np.save(tmp_path / "map.npy", plane)
    values = read_raster(tmp_path / "map.npy", nodata=99999, positive="down").values
    assert np.isnan(values[1, 1])
    assert np.nanmax(values) < 0
    np.testing.assert_array_equal(values[0], DEPTHS[0].astype(np.float32))


def test_reading_does_not_change_the_file(tmp_path):
    """Marking gaps works on a copy."""
    np.save(tmp_path / "map.npy", DEPTHS.astype(np.float32))
    before = (tmp_path / "map.npy").read_bytes()
    read_raster(tmp_path / "map.npy", nodata=float(DEPTHS.astype(np.float32)[0, 0]))
    assert (tmp_path / "map.npy").read_bytes() == before


def test_all_missing_is_refused(tmp_path):
    """A map of gaps only is of no use."""
    np.save(tmp_path / "map.npy", np.full((4, 4), -9999.0))
    with pytest.raises(DataError, match=r"map\.npy: every pixel is missing"):
        read_raster(tmp_path / "map.npy", nodata=-9999)


def test_unknown_suffix_lists_the_known(tmp_path):
    """The message names the kinds that can be read."""
    (tmp_path / "map.xyz").touch()
    with pytest.raises(DataError, match=r"unknown kind of raster '\.xyz'.*\.nc.*\.tif"):
        read_raster(tmp_path / "map.xyz")


def test_missing_file_is_named(tmp_path):
    """The message names the file."""
    with pytest.raises(DataError, match=r"none\.tif: no such file"):
        read_raster(tmp_path / "none.tif")


@pytest.mark.parametrize("suffix", [".tif", ".bag", ".nc", ".npy", ".npz", ".pkl"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no raster at all\n" * 20, b"PK\x03\x04" + b"x" * 64],
    ids=["empty", "text", "zip"],
)
def test_garbage_is_refused(suffix, content, tmp_path):
    """A file that is not what its ending says is refused in one line that names it."""
    if suffix in (".tif", ".bag"):
        pytest.importorskip("rasterio")
    if suffix == ".nc":
        pytest.importorskip("xarray")
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"map\."):
        read_raster(path)


def test_objects_in_numpy_files_are_refused(tmp_path):
    """Pickled objects inside .npy and .npz are never run, and the file is named."""
    evil = np.array([[{}, None]], object)
    np.save(tmp_path / "map.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "map.npz", evil)
    for name in ("map.npy", "map.npz"):
        with pytest.raises(DataError, match=name):
            read_raster(tmp_path / name)


def test_text_array_is_refused(tmp_path):
    """A plane of words is no map."""
    np.save(tmp_path / "map.npy", np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(DataError, match=r"map\.npy"):
        read_raster(tmp_path / "map.npy")


def test_npz_with_several_planes_needs_a_choice(tmp_path):
    """The message lists the planes; a choice reads one of them, a wrong one is refused."""
    np.savez(tmp_path / "map.npz", depth=DEPTHS, error=DEPTHS * 0 + 1, x=np.arange(9))
    with pytest.raises(DataError, match=r"variable must be one of depth, error; received none"):
        read_raster(tmp_path / "map.npz")
    with pytest.raises(DataError, match=r"one of depth, error; received 'x'"):
        read_raster(tmp_path / "map.npz", variable="x")
    assert (read_raster(tmp_path / "map.npz", variable="error").values == 1).all()


def test_sample_of_land_inside_matplotlib():
    """The quick start's real elevation model, with oblong pixels of 3 seconds.

    Golden: ``np.load(matplotlib.cbook.get_sample_data("jacksboro_fault_dem.npz"))``, Matplotlib
    3.11.2, 2026-11-20: 236 to 1076 m, 3/3600 degree at 36.58 N on a sphere.
    """
    raster = read_raster("sample:jacksboro_fault_dem.npz")
    assert raster.values.shape == (344, 403)
    assert (raster.values.min(), raster.values.max()) == (236, 1076)
    assert raster.delta_m == pytest.approx((92.77, 74.48), abs=0.01)


def test_sample_of_sea_floor_inside_matplotlib():
    """The small sea-floor model is found, too, with its spacing from its coordinates."""
    raster = read_raster("sample:topobathy.npz", variable="topo")
    assert raster.values.shape == (91, 120)
    assert (round(float(raster.values.min())), round(float(raster.values.max()))) == (-1437, 2205)
    rows, columns = raster.delta_m
    assert 0 < columns < rows * 1.01


def test_unknown_sample_names_the_nearest():
    """A misspelt sample, or one outside the folder, is refused."""
    with pytest.raises(DataError, match=r"no such sample.*Did you mean 'topobathy\.npz'"):
        read_raster("sample:topobaty.npz")
    with pytest.raises(DataError, match="no such sample"):
        read_raster("sample:../matplotlibrc")


def test_spacing_shrinks_towards_the_pole():
    """A degree of longitude is half as long at 60 degrees; signs do not matter."""
    rows, columns = spacing_m(-0.001, 0.001, -60.0)
    assert rows == pytest.approx(METRES_PER_DEGREE / 1000)
    assert columns == pytest.approx(rows / 2)


def test_projected_geotiff(rasterio, tmp_path):
    """Metres come from the transform, rows and columns apart; the file's nodata is a gap."""
    plane = DEPTHS.astype(np.float32)
    plane[3, 4] = -32768
    path = write_tiff(rasterio, tmp_path / "map.tif", plane[None], "EPSG:32655", (50, 40), -32768)
    raster = read_raster(path)
    assert raster.delta_m == (40, 50)
    assert np.argwhere(np.isnan(raster.values)).tolist() == [[3, 4]]
    kept = ~np.isnan(raster.values)
    np.testing.assert_array_equal(raster.values[kept], plane[kept])


def test_geotiff_in_feet_is_in_metres(rasterio, tmp_path):
    """A coordinate system in US survey feet gives a spacing in metres."""
    path = write_tiff(rasterio, tmp_path / "m.tif", DEPTHS[None], "EPSG:2263", (100, 100))
    assert read_raster(path).delta_m == pytest.approx((30.48006, 30.48006), abs=1e-4)


def test_geographic_geotiff(rasterio, tmp_path):
    """Degrees become metres at the middle latitude of the map."""
    ints = DEPTHS.astype(np.int16)[None]
    path = write_tiff(rasterio, tmp_path / "m.tif", ints, "EPSG:4326", (0.01, 0.02), north=60.06)
    raster = read_raster(path)
    assert raster.delta_m == pytest.approx((2226.39, 556.597), rel=1e-5)
    np.testing.assert_array_equal(raster.values, ints[0])


def test_geotiff_with_the_lowest_double_as_nodata(rasterio, tmp_path):
    """The nodata of many ArcGIS files does not fit into float32 and is a gap all the same."""
    plane, lowest = DEPTHS.copy(), float(np.finfo(np.float64).min)
    plane[0, 0] = lowest
    path = write_tiff(rasterio, tmp_path / "m.tif", plane[None], "EPSG:32655", (50, 50), lowest)
    values = read_raster(path).values
    assert np.isnan(values[0, 0])
    assert np.isnan(values).sum() == 1


def test_bands_of_a_geotiff(rasterio, tmp_path):
    """The first band is read unless another is asked for; wrong numbers and words are refused."""
    bands = np.stack([DEPTHS, DEPTHS + 1]).astype(np.float32)
    path = write_tiff(rasterio, tmp_path / "m.tif", bands, "EPSG:32655", (50, 50))
    first, second = read_raster(path), read_raster(path, variable="2")
    np.testing.assert_array_equal(first.values, bands[0])
    np.testing.assert_array_equal(second.values, bands[1])
    assert "only band 1 of 2 is read" in first.notes[0]
    assert read_raster(path, variable=1).notes == second.notes == []
    with pytest.raises(DataError, match="has bands 1 to 2; received 3"):
        read_raster(path, variable="3")
    with pytest.raises(DataError, match="must be a band number; received 'depth'"):
        read_raster(path, variable="depth")


@pytest.mark.parametrize("descending", [False, True])
def test_netcdf_in_degrees(xarray, descending, tmp_path):
    """Latitudes up or down, degrees become metres at the mean latitude."""
    y = 30 + np.arange(6) * 0.004
    y = y[::-1] if descending else y
    x = 140 + np.arange(9) * 0.004
    path = write_netcdf(xarray, tmp_path / "m.nc", {"z": DEPTHS}, y, x, "degrees_north")
    raster = read_raster(path)
    assert raster.delta_m == pytest.approx((445.278, 385.58), rel=1e-4)
    np.testing.assert_array_equal(raster.values, DEPTHS.astype(np.float32))


def test_netcdf_in_metres_with_fill_value(xarray, tmp_path):
    """Projected coordinates are metres already; the file's fill value is a gap."""
    plane = DEPTHS.copy()
    plane[5, 8] = np.nan  # written as the fill value
    path = write_netcdf(
        xarray, tmp_path / "m.nc", {"z": plane}, np.arange(6) * 50.0, np.arange(9) * 40.0, "m"
    )
    raster = read_raster(path)
    assert raster.delta_m == (50, 40)
    assert np.argwhere(np.isnan(raster.values)).tolist() == [[5, 8]]


@pytest.mark.parametrize("units", ["km", "kilometre"])
def test_netcdf_in_kilometres(xarray, units, tmp_path):
    """Kilometres become metres."""
    path = write_netcdf(
        xarray, tmp_path / "m.nc", {"z": DEPTHS}, np.arange(6) * 0.05, np.arange(9) * 0.04, units
    )
    assert read_raster(path).delta_m == pytest.approx((50, 40))


def test_netcdf_without_coordinates_has_no_spacing(xarray, tmp_path):
    """What the file does not say is not made up."""
    xarray.Dataset({"z": (("a", "b"), DEPTHS)}).to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    assert read_raster(tmp_path / "m.nc").delta_m is None


def test_netcdf_with_a_time_axis_of_one(xarray, tmp_path):
    """A plane at a single time is a plane."""
    dataset = xarray.Dataset({"z": (("time", "y", "x"), DEPTHS[None])})
    dataset.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    assert read_raster(tmp_path / "m.nc").values.shape == (6, 9)


def test_netcdf_with_several_planes_needs_a_choice(xarray, tmp_path):
    """The message lists the planes; a choice reads one of them."""
    planes = {"elevation": DEPTHS, "tid": DEPTHS * 0 + 11}
    path = write_netcdf(xarray, tmp_path / "m.nc", planes, np.arange(6.0), np.arange(9.0))
    with pytest.raises(DataError, match=r"one of elevation, tid; received none.*variable: \.\.\."):
        read_raster(path)
    with pytest.raises(DataError, match=r"one of elevation, tid; received 'depth'"):
        read_raster(path, variable="depth")
    assert (read_raster(path, variable="tid").values == 11).all()


def test_bounds_of_cells_are_no_planes(xarray, tmp_path):
    """A NetCDF's helper variables need no choice, here as when a map is enlarged."""
    y, x = np.arange(6) * 50.0, np.arange(9) * 40.0
    edges = np.stack([y - 25, y + 25], 1)
    dataset = xarray.Dataset(
        {"z": (("y", "x"), DEPTHS), "y_bnds": (("y", "two"), edges)},
        {"y": ("y", y, {"units": "m", "bounds": "y_bnds"}), "x": ("x", x, {"units": "m"})},
    )
    dataset.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    raster = read_raster(tmp_path / "m.nc")
    assert raster.delta_m == (50, 40)
    np.testing.assert_array_equal(raster.values, DEPTHS.astype(np.float32))


def test_variable_is_for_files_that_have_some(tmp_path):
    """One 'variable' serves a NetCDF and an array in the same settings."""
    np.save(tmp_path / "m.npy", DEPTHS)
    assert read_raster(tmp_path / "m.npy", variable="elevation").values.shape == (6, 9)


@pytest.mark.parametrize(
    ("declared", "positive", "told"),
    [
        ({"positive": "down"}, "up", "positive down is declared by the attribute positive"),
        ({"standard_name": "altitude"}, "down", "positive up is declared by standard_name"),
        ({"positive": "down"}, "down", None),
        ({"positive": "up"}, "up", None),
        ({"long_name": "depth"}, "up", None),
        ({}, "down", None),
    ],
)
def test_declared_sign_is_told_but_not_obeyed(xarray, declared, positive, told, tmp_path):
    """The user's sign holds; a file that declares the other one is noted."""
    dataset = xarray.Dataset({"z": (("y", "x"), DEPTHS, declared)})
    dataset.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    raster = read_raster(tmp_path / "m.nc", positive=positive)
    sign = -1 if positive == "down" else 1
    np.testing.assert_array_equal(raster.values, sign * DEPTHS.astype(np.float32))
    if told is None:
        assert raster.notes == []
    else:
        [note] = raster.notes
        assert note.startswith("WARNING: ")
        assert told in note
        assert f"read as positive {positive}" in note


@pytest.mark.parametrize(("suffix", "library"), [(".tif", "rasterio"), (".nc", "xarray")])
def test_missing_library_says_what_to_install(suffix, library, tmp_path, monkeypatch):
    """Without the optional library the message holds the command that installs it."""
    (tmp_path / f"map{suffix}").touch()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"needs {library}|{library}.*pip install"):
        read_raster(tmp_path / f"map{suffix}")


@needs_grids
@pytest.mark.parametrize(
    ("file", "shape", "limits", "missing", "delta"),
    [
        # Golden: shared/facts/3_bathymetry.md; seen again with gdalinfo's library (rasterio
        # 1.4.4: dataset.shape, read(1, masked=True).min(), .max()) and xarray, 2026-11-20.
        ("arabian_sea_GEBCO_15arcsec_wgs84.tif", (1080, 1128), (-3701, 92), 0, None),
        ("cairns_gbr_GA2005_271m_utm55s.tif", (1188, 1584), (-2153, 1599), 0.01, (270.9, 270.9)),
        ("pacific_multibeam_gappy_0.001deg.nc", (800, 1000), (-4719, -4100), 0.51, None),
        ("navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag", (1478, 1707), (-53, -51), 0.54, 2),
    ],
)
def test_real_grids(file, shape, limits, missing, delta):
    """Shape, range and share of gaps of the real grids are those that are recorded of them."""
    path = GRIDS / file
    if not path.is_file():
        pytest.skip(f"{file} is not on this machine")
    pytest.importorskip("xarray" if path.suffix == ".nc" else "rasterio")
    raster = read_raster(path)
    assert raster.values.shape == shape
    low, high = float(np.nanmin(raster.values)), float(np.nanmax(raster.values))
    assert (low, high) == pytest.approx(limits, abs=1)
    assert np.isnan(raster.values).mean() == pytest.approx(missing, abs=0.006)
    if delta:
        expected = (delta, delta) if isinstance(delta, int) else delta
        assert raster.delta_m == pytest.approx(expected, abs=0.1)
    else:
        # Square in degrees, so columns are narrower by the cosine of the latitude.
        assert 0.5 < raster.delta_m[1] / raster.delta_m[0] < 1


@needs_grids
def test_second_band_of_a_real_bag(rasterio):
    """A BAG's second band is the uncertainty, small and positive."""
    values = read_raster(GRIDS / "navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag", "2").values
    assert np.nanmin(values) >= 0
    assert np.nanmax(values) < 10
