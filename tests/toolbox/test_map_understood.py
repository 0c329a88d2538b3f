"""Maps that say things in unusual ways, or not at all, are understood or refused, aloud."""

from pathlib import Path

import numpy as np
import pytest

from toolbox.io.data_array import enlarged_array
from toolbox.io.map_writers import write_map
from toolbox.io.maps import open_map
from toolbox.io.plausible import exact
from toolbox.io.raster import read_raster
from toolbox.io.units import metres_per_unit

CAIRNS = (
    Path(__file__).resolve().parents[3]
    / "shared/data/bathymetry/cairns_gbr_GA2005_271m_utm55s.tif"
)
ALL = slice(None)
HEIGHTS = np.random.default_rng(0).uniform(-3000, -100, (40, 52)).astype(np.float32)
SURVEY_FOOT_M = 1200 / 3937


@pytest.fixture(scope="module")
def rasterio():
    """Rasterio, where it is installed."""
    return pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def xarray():
    """Xarray, where it is installed with a NetCDF-4 engine."""
    pytest.importorskip("h5netcdf")
    return pytest.importorskip("xarray")


def write_tiff(rasterio, path, values, units=None, **options):
    """Write one band (H, W) of 50 m × 40 m pixels in UTM unless told otherwise."""
    settings = {
        "crs": "EPSG:32655",
        "transform": rasterio.Affine(50, 0, 1000, 0, -40, 9000),
        "driver": "GTiff",
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "dtype": values.dtype,
    } | options
    with rasterio.open(path, "w", **settings) as file:
        file.write(values, 1)
        if units:
            file.units = [units]
    return path


def enlarge(source, target, scale=2, **options):
    """Open, enlarge by repetition and write; return what the reader noted."""
    bands = options.pop("bands", ())
    with open_map(source, **options) as reader:
        fine = reader.read(ALL, ALL).repeat(scale, 0).repeat(scale, 1)
        if bands:
            fine = np.concatenate([fine, fine / 100, np.ones_like(fine)], axis=2)
        write_map(target, reader, scale, [fine], bands=bands)
        return reader.notes


# -- Units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("m", 1),
        ("Metres (positive up)", 1),
        ("m below MSL", 1),
        ("US survey foot", SURVEY_FOOT_M),
        ("us-ft", SURVEY_FOOT_M),
        ("ft", 0.3048),
        ("Feet", 0.3048),
        ("fathoms", 1.8288),
        ("degC", None),
        ("m/s", None),
        ("9**9**9", None),
        ("", None),
    ],
)
def test_units_of_length(text, metres):
    """The many spellings of metres, feet and fathoms; a formula is nothing to be computed."""
    if metres is None and text == "degC":
        pytest.importorskip("pint")
    assert metres_per_unit(text) == (None if metres is None else pytest.approx(metres, rel=1e-12))


@pytest.mark.parametrize(
    ("text", "metres"), [("km", 1000), ("cm", 0.01), ("decimetres", 0.1), ("yard", 0.9144)]
)
def test_units_that_pint_knows(text, metres):
    """Other units of length are those of pint."""
    pytest.importorskip("pint")
    assert metres_per_unit(text) == pytest.approx(metres, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "metres"), [("US survey foot", SURVEY_FOOT_M), ("ft", 0.3048), ("fathom", 1.8288)]
)
@pytest.mark.parametrize("suffix", [".tif", ".nc"])
def test_units_are_converted_and_come_back(rasterio, xarray, unit, metres, suffix, tmp_path):
    """Metres inside, and said so; the result has the unit of the file, in which it is compared."""
    stored = (HEIGHTS / metres).astype(np.float32)
    source, target = tmp_path / f"m{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".tif":
        write_tiff(rasterio, source, stored, unit)
    else:
        axes = {"y": 9000 - 40.0 * np.arange(40), "x": 50.0 * np.arange(52)}
        plane = xarray.DataArray(stored, axes, ("y", "x"), "z", {"units": unit})
        plane.to_netcdf(source, engine="h5netcdf")
    raster = read_raster(source)
    np.testing.assert_allclose(raster.values, HEIGHTS, rtol=1e-6)
    assert any(f"its unit is '{unit}'; 1 is {metres:.7g} m" in note for note in raster.notes)
    notes = enlarge(source, target)
    assert any(f"its unit is '{unit}'" in note for note in notes)
    if suffix == ".tif":
        with rasterio.open(target) as file:
            large, said = file.read(1), file.units[0]
    else:
        with xarray.open_dataset(target) as file:
            large, said = file.z.values, file.z.attrs["units"]
    assert said == unit
    np.testing.assert_allclose(large, stored.repeat(2, 0).repeat(2, 1), rtol=1e-6)


def test_further_bands_have_the_unit_they_should(rasterio, tmp_path):
    """A standard deviation is in the unit of the map, a mask has none."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS / np.float32(0.3048), "ft")
    bands = ("elevation", "standard_deviation", "outside_training_range")
    enlarge(source, tmp_path / "out.tif", bands=bands)
    with rasterio.open(tmp_path / "out.tif") as file:
        height, deviation, mask = file.read()
        assert (file.units[0], file.units[1], file.units[2] or "") == ("ft", "ft", "")
    np.testing.assert_allclose(deviation, height / 100, rtol=1e-5)
    assert (mask == 1).all()


def test_whole_fathoms_with_a_fill_and_depths_down(rasterio, tmp_path):
    """Integers, packing, nodata and sign of a chart in fathoms come back as they were."""
    depths = np.rint(-HEIGHTS / 1.8288).astype(np.int16)
    depths[3, 4] = -1
    source = write_tiff(rasterio, tmp_path / "m.tif", depths, "fathom", nodata=-1)
    with open_map(source, positive="down") as reader:
        values = reader.read(ALL, ALL)[..., 0]
    assert np.isnan(values[3, 4])
    assert np.nanmax(values) < -50
    enlarge(source, tmp_path / "out.tif", positive="down")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.dtypes[0], file.nodata) == ("int16", -1)
        np.testing.assert_array_equal(file.read(1), depths.repeat(2, 0).repeat(2, 1))


def test_unknown_unit_is_warned_of(rasterio, tmp_path):
    """A unit that is no length leaves the numbers as they are, with a warning, in every program."""
    pytest.importorskip("pint")
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, "dbar")
    raster = read_raster(source)
    np.testing.assert_array_equal(raster.values, HEIGHTS)
    assert any("WARNING" in note and "its unit is 'dbar'" in note for note in raster.notes)


def test_vertical_unit_of_the_reference_system(rasterio, tmp_path):
    """Where no band says its unit, that of the heights of a compound CRS counts."""
    feet = HEIGHTS / np.float32(SURVEY_FOOT_M)
    source = write_tiff(rasterio, tmp_path / "m.tif", feet, crs="EPSG:32655+6360")
    np.testing.assert_allclose(read_raster(source).values, HEIGHTS, rtol=1e-6)


def test_arrays_of_xarray_have_units_too(xarray):
    """`load_model(...).predict` of a DataArray in feet works in metres and gives feet."""
    plane = xarray.DataArray(HEIGHTS / np.float32(0.3048), dims=("y", "x"), attrs={"units": "ft"})
    seen = []

    def double(values):
        seen.append(values)
        return values.repeat(2, 0).repeat(2, 1)

    large = enlarged_array(plane, 2, double)
    np.testing.assert_allclose(seen[0], HEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(large.values, plane.values.repeat(2, 0).repeat(2, 1), rtol=1e-6)


# -- Undeclared fills ----------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [-99999, -32768, 1e20, 9.969209968386869e36, -3.4028235e38, 12345])
@pytest.mark.parametrize("unit", [None, "ft"])
def test_certain_fills_are_missing(rasterio, fill, unit, tmp_path):
    """What no planet has, and is one constant far from the rest, is missing, and said so."""
    values = HEIGHTS.copy() if unit is None else HEIGHTS / np.float32(0.3048)
    values[10:14, 20:30] = fill = fill * (4 if unit and abs(fill) < 1e5 else 1)
    source = write_tiff(rasterio, tmp_path / "m.tif", values, unit)
    raster = read_raster(source)
    assert np.isnan(raster.values).sum() == 40
    assert np.isnan(raster.values[10:14, 20:30]).all()
    told = [note for note in raster.notes if "taken as missing" in note]
    assert len(told) == 1
    assert f"40 pixels are exactly {exact(fill)}," in told[0]
    enlarge(source, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert np.float32(file.nodata) == np.float32(fill)
        assert (file.read(1) == np.float32(fill)).sum() == 160


def test_two_fills_at_once(tmp_path):
    """One fill does not hide another."""
    values = HEIGHTS.copy()
    values[0, :4], values[1, :5] = -99999, 1e30
    np.save(tmp_path / "m.npy", values)
    assert np.isnan(read_raster(tmp_path / "m.npy").values).sum() == 9


@pytest.mark.parametrize("fill", [-9999, 9999, 5000])
def test_doubtful_fills_are_warned_of(fill, tmp_path):
    """What could be a height stays, with one warning: value, count and the option to give."""
    values = HEIGHTS.copy()
    values[10:14, 20:30] = fill
    np.save(tmp_path / "m.npy", values)
    raster = read_raster(tmp_path / "m.npy")
    assert not np.isnan(raster.values).any()
    warned = [note for note in raster.notes if "WARNING" in note]
    assert len(warned) == 1
    assert f"40 pixels are exactly {fill}, far from the others" in warned[0]
    assert f"nodata: {fill}'" in warned[0]
    assert f"--nodata {fill})" in warned[0]


def test_values_that_no_planet_has(tmp_path):
    """Centimetres taken for metres are warned of, not taken for fills."""
    np.save(tmp_path / "m.npy", HEIGHTS * 100)
    raster = read_raster(tmp_path / "m.npy")
    assert not np.isnan(raster.values).any()
    assert any("lie beyond ±12000 m" in note for note in raster.notes)


@pytest.mark.parametrize("low", [-10900.0, -3000.0])
def test_ordinary_maps_are_not_doubted(low, tmp_path):
    """Deep trenches through -9999, flat shelves and land are no fills."""
    values = np.rint(np.linspace(low, 4000, 4000)).reshape(50, 80).astype(np.int16)
    values[0, :30] = 0
    np.save(tmp_path / "m.npy", values)
    assert read_raster(tmp_path / "m.npy").notes == []


def test_real_grids_are_not_doubted():
    """None of the real grids has an undeclared fill or an implausible value."""
    if not CAIRNS.is_file():
        pytest.skip("the real grids are not on this machine")
    pytest.importorskip("rasterio")
    pytest.importorskip("h5netcdf")
    for path in sorted(CAIRNS.parent.glob("*.*")):
        if path.suffix in (".tif", ".nc", ".bag"):
            with open_map(path) as reader:
                assert not reader.fills
                assert not [note for note in reader.checks if "pixel" in note], path


@pytest.mark.parametrize("value", [9.969209968386869e36, -3.4e38, -9999.25, 2147483647, 1e20, -9999])
def test_numbers_can_be_pasted(value, tmp_path):
    """A printed value, given as nodata, means the very value of the file."""
    values = HEIGHTS.copy()
    values[2, 3] = value
    np.save(tmp_path / "m.npy", values)
    raster = read_raster(tmp_path / "m.npy", nodata=float(exact(value)))
    assert np.isnan(raster.values[2, 3])
    assert np.isnan(raster.values).sum() == 1
