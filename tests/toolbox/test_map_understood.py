"""Maps that say things in unusual ways, or not at all, are understood or refused, aloud."""

from pathlib import Path

import numpy as np
import pytest

from sr_dataset_builder.dataset import spacing_of
from toolbox.errors import DataError
from toolbox.io import map_tiff
from toolbox.io.crs import spacing_on_earth_m
from toolbox.io.data_array import enlarged_array
from toolbox.io.map_writers import check_output, write_map
from toolbox.io.maps import open_map
from toolbox.io.plausible import exact
from toolbox.io.raster import read_raster
from toolbox.io.units import metres_per_unit

CAIRNS = (
    Path(__file__).resolve().parents[3] / "shared/data/bathymetry/cairns_gbr_GA2005_271m_utm55s.tif"
)
ALL = slice(None)
HEIGHTS = np.random.default_rng(0).uniform(-3000, -100, (40, 52)).astype(np.float32)
SURVEY_FOOT_M = 1200 / 3937


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
        ("km", 1000),
        ("1000 m", 1000),
        ("0.001 km", 1),
        ("1e2 m (positive up)", 100),
        ("10*ft", 3.048),
        ("0 m", None),
        ("2 3 m", None),
        ("10 rad", None),
        ("2**9 m", None),
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


@pytest.mark.parametrize(("text", "metres"), [("cm", 0.01), ("decimetres", 0.1), ("yard", 0.9144)])
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


@pytest.mark.parametrize("suffix", [".tif", ".nc"])
def test_ends_of_an_interval_have_unit_and_sign_of_the_file(rasterio, xarray, suffix, tmp_path):
    """Of a chart of depths in feet, the lower number is that of the shallower end."""
    source = write_tiff(rasterio, tmp_path / "m.tif", -HEIGHTS / np.float32(0.3048), "ft")
    bands = ("elevation", "lower", "upper")
    with open_map(source, positive="down") as reader:
        fine = reader.read(ALL, ALL).repeat(2, 0).repeat(2, 1)
        strip = np.concatenate([fine, fine - 3.048, fine + 6.096], axis=2)
        write_map(tmp_path / f"out{suffix}", reader, 2, [strip], bands=bands)
    if suffix == ".tif":
        with rasterio.open(tmp_path / "out.tif") as file:
            depth, lower, upper = file.read()
            assert file.units == ("ft", "ft", "ft")
    else:
        with xarray.open_dataset(tmp_path / "out.nc") as file:
            names = [name for name in file.data_vars if file[name].ndim == 2]
            depth, lower, upper = (file[name].values for name in names)
    assert depth.min() > 0
    np.testing.assert_allclose(depth - lower, 20, rtol=1e-3)
    np.testing.assert_allclose(upper - depth, 10, rtol=1e-3)


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
    assert any("WARNING" in note and "its unit 'dbar'" in note for note in raster.notes)


def test_vertical_unit_of_the_reference_system(rasterio, tmp_path):
    """Where no band says its unit, that of the heights of a compound CRS counts."""
    feet = HEIGHTS / np.float32(SURVEY_FOOT_M)
    source = write_tiff(rasterio, tmp_path / "m.tif", feet, crs="EPSG:32655+6360")
    np.testing.assert_allclose(read_raster(source).values, HEIGHTS, rtol=1e-6)


@pytest.mark.parametrize(
    ("crs", "unit_m"),
    [("EPSG:32755+5715", 1), ("EPSG:4326+5866", 1), ("EPSG:32755+8051", 0.3048)],
)
@pytest.mark.parametrize("suffix", [".tif", ".nc"])
def test_a_vertical_axis_that_points_down(rasterio, xarray, crs, unit_m, suffix, tmp_path):
    """Depths by the reference system are depths, in its unit; the builder warns if told else."""
    pytest.importorskip("pyproj")
    depths, source, target = -HEIGHTS / unit_m, tmp_path / "m.tif", tmp_path / f"out{suffix}"
    place = rasterio.Affine(0.01, 0, 140, 0, -0.01, 10) if "4326" in crs else None
    write_tiff(rasterio, source, depths, crs=crs, **({"transform": place} if place else {}))
    with open_map(source) as reader:
        assert reader.positive == "down"
        assert "the vertical reference system" in reader.positive_reason
        np.testing.assert_allclose(reader.read(ALL, ALL)[..., 0], HEIGHTS, rtol=1e-6)
    told = [note for note in read_raster(source).notes if "positive down is declared" in note]
    assert len(told) == 1
    enlarge(source, target)
    np.testing.assert_allclose(values_of(target)[::2, ::2], HEIGHTS, rtol=1e-6)


def test_heights_in_a_system_of_depths_are_doubted(rasterio, tmp_path):
    """As grids made of BAG files have them."""
    pytest.importorskip("pyproj")
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs="EPSG:32755+5715")
    with open_map(source) as reader:
        assert any("most of its values are negative" in note for note in reader.checks)
    upward = write_tiff(rasterio, tmp_path / "up.tif", HEIGHTS, crs="EPSG:32755+8050")
    with open_map(upward) as reader:
        assert (reader.positive, reader.unit_m) == ("up", pytest.approx(0.3048))


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
    assert any("are beyond ±12000 m" in note for note in raster.notes)


@pytest.mark.parametrize(
    ("fill", "low", "high"),
    [
        (-999, -1353, -1120),
        (0, -300, -67),
        (-999, 20, 3000),
        (999, -2000, -1100),
        (-9999, -10900, -10200),
        (9999, 0.5, 11000),
    ],
)
def test_a_lone_block_is_warned_of(fill, low, high, tmp_path):
    """A common fill among or beside possible values stays, with one warning; a few do not count."""
    values = np.random.default_rng(0).uniform(low, high, (40, 52)).astype(np.float32)
    values[np.abs(values - fill) < 0.02 * (high - low)] = high
    values[0, :5] = fill
    np.save(tmp_path / "m.npy", values)
    few = read_raster(tmp_path / "m.npy")
    values[10:14, 20:30] = fill
    np.save(tmp_path / "m.npy", values)
    raster = read_raster(tmp_path / "m.npy")
    assert not np.isnan(raster.values).any()
    [warned] = [note for note in raster.notes if "pixel" in note]
    assert f"WARNING: {tmp_path / 'm.npy'}: 45 pixels are exactly {fill}, far" in warned
    assert f"nodata: {fill}'" in warned
    assert not [note for note in few.notes if "pixel" in note] or not low <= fill <= high
    cured = read_raster(tmp_path / "m.npy", nodata=fill)
    assert np.isnan(cured.values).sum() == 45
    assert not [note for note in cured.notes if "pixel" in note]


@pytest.mark.parametrize("share", [1, 10])
def test_whole_metres_are_no_fills(share, tmp_path):
    """Where heights are rounded, -999 and 0 have neighbours, even far ones of their own kind."""
    values = np.rint(np.random.default_rng(0).uniform(-1500, 300, (80, 80)) / share) * share
    values[:9, :9], values[20:30, 20:30] = -999, 0
    np.save(tmp_path / "m.npy", values.astype(np.float32))
    assert read_raster(tmp_path / "m.npy").notes == []


@pytest.mark.parametrize(("fill", "kept"), [(-99, 0), (55, 0), (-99, 3)])
def test_what_is_too_far_is_counted_in_the_unit_of_the_file(rasterio, fill, kept, tmp_path):
    """Few km are many metres: a fill of two digits is one, and what is left over is counted."""
    values = HEIGHTS / np.float32(1000)
    values[10:14, 20:30] = fill
    values[0, :kept] = [-20, -21, -22][:kept]
    raster = read_raster(write_tiff(rasterio, tmp_path / "m.tif", values, "km"))
    told = [note for note in raster.notes if "pixel" in note]
    assert f"40 pixels are exactly {fill}," in told[0]
    assert len(told) == 1 + bool(kept)
    assert np.isnan(raster.values).sum() == (0 if kept else 40)
    if kept:
        assert "3 pixels are beyond ±12000 m" in told[1]


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
    tiles = sorted(CAIRNS.parent.glob("gebco_tiles/*.tif"))[:20]
    for path in [*sorted(CAIRNS.parent.glob("*.*")), *tiles]:
        if path.suffix in (".tif", ".nc", ".bag"):
            with open_map(path) as reader:
                assert not reader.fills
                assert not [note for note in reader.checks if "pixel" in note], path


@pytest.mark.parametrize(
    "value", [9.969209968386869e36, -3.4e38, -9999.25, 2147483647, 1e20, -9999]
)
def test_numbers_can_be_pasted(value, tmp_path):
    """A printed value, given as nodata, means the very value of the file."""
    values = HEIGHTS.copy()
    values[2, 3] = value
    np.save(tmp_path / "m.npy", values)
    raster = read_raster(tmp_path / "m.npy", nodata=float(exact(value)))
    assert np.isnan(raster.values[2, 3])
    assert np.isnan(raster.values).sum() == 1


# -- Place and spacing ---------------------------------------------------------------------------

LOCAL = {
    "metre": ('LOCAL_CS["Survey grid",UNIT["metre",1]]', 1.0),
    "foot": ('LOCAL_CS["Plant",UNIT["US survey foot",0.304800609601219]]', SURVEY_FOOT_M),
    "engineering": (
        'ENGCRS["Site",EDATUM["peg"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
        'LENGTHUNIT["metre",1]]',
        1.0,
    ),
}


@pytest.mark.parametrize("kind", LOCAL)
def test_local_grids(rasterio, xarray, kind, tmp_path):
    """A system without a place on earth has a unit all the same, in GeoTIFF and NetCDF."""
    crs, unit = LOCAL[kind]
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs=crs)
    with open_map(source) as reader:
        assert reader.delta_m == pytest.approx((40 * unit, 50 * unit))
    for name in ("out.tif", "out.nc"):
        enlarge(source, tmp_path / name)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform[:6] == (25, 0, 1000, 0, -20, 9000)
    with open_map(tmp_path / "out.nc") as reader:
        assert reader.delta_m == pytest.approx((20 * unit, 25 * unit))
        assert reader.transform == pytest.approx((25, 0, 1000, 0, -20, 9000))


@pytest.mark.parametrize("crs", ["EPSG:4978", "EPSG:5703", "EPSG:4979", "EPSG:32655+6360"])
def test_no_kind_of_system_ends_in_a_traceback(rasterio, crs, tmp_path):
    """Geocentric, vertical, three-dimensional and compound systems are read and written."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs=crs)
    enlarge(source, tmp_path / "out.tif")
    enlarge(source, tmp_path / "out.nc")
    assert values_of(tmp_path / "out.nc").shape == (80, 104)


@pytest.mark.parametrize("crs", ['LOCAL_CS["Survey grid",UNIT["metre",1]]', "EPSG:5703"])
def test_a_system_that_no_bag_can_hold_is_refused_before_the_work(rasterio, crs, tmp_path):
    """In one short line, and nothing is left."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs=crs)
    with open_map(source) as reader, pytest.raises(DataError, match="cannot write it as BAG") as e:
        check_output(tmp_path / "out.bag", reader, 2)
    assert "Name a .tif file" in str(e.value)
    assert len(str(e.value)) < 300 + len(str(tmp_path))
    assert "{" not in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]
    with open_map(write_tiff(rasterio, source, HEIGHTS)) as reader:
        check_output(tmp_path / "out.bag", reader, 2)


@pytest.mark.parametrize("degrees", [30, 90])
def test_a_rotated_grid_for_netcdf_is_refused_before_the_work(rasterio, degrees, tmp_path):
    """Coordinates of rows and columns cannot say it; a GeoTIFF can."""
    cos, sin = 50 * np.cos(np.radians(degrees)), 50 * np.sin(np.radians(degrees))
    turned = rasterio.Affine(cos, sin, 1000, sin, -cos, 9000)
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, transform=turned)
    with open_map(source) as reader:
        with pytest.raises(DataError, match=r"is rotated, .*Name a \.tif file"):
            check_output(tmp_path / "out.nc", reader, 2)
        check_output(tmp_path / "out.tif", reader, 2)


def values_of(path):
    """Read a whole map, (H, W)."""
    with open_map(path) as reader:
        return reader.read(ALL, ALL)[..., 0]


@pytest.mark.parametrize("step", [271.0, 0.5])
def test_world_file_without_a_system(rasterio, step, tmp_path):
    """The transform of a world file counts; where it can be degrees, the spacing is not known."""
    from rasterio.errors import NotGeoreferencedWarning

    with pytest.warns(NotGeoreferencedWarning):
        path = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs=None, transform=None)
    lines = [step, 0, 0, -step, step / 2, 40 * step]
    (tmp_path / "m.tfw").write_text("".join(f"{value}\n" for value in lines))
    raster = read_raster(path)
    assert raster.transform == pytest.approx((step, 0, 0, 0, -step, 40.5 * step))
    if step == 271:
        assert raster.delta_m == (271, 271)
        assert any("taken as metres" in note for note in raster.notes)
    else:
        assert raster.delta_m is None
        assert any("may be in degrees or in metres" in note for note in raster.notes)


def test_web_mercator_has_the_spacing_of_the_ground(rasterio, tmp_path):
    """At 60° north a metre of Web Mercator is half a metre of ground; UTM stays as it is."""
    north = 8399737.89 + 20 * 100  # the middle row lies at 60°
    transform = rasterio.Affine(100, 0, 0, 0, -100, north)
    options = {"crs": "EPSG:3857", "transform": transform}
    pytest.importorskip("pyproj")
    raster = read_raster(write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, **options))
    assert raster.delta_m == pytest.approx((50.04, 50.13), abs=0.02)
    assert any("its projection stretches" in note for note in raster.notes)
    plain = read_raster(write_tiff(rasterio, tmp_path / "utm.tif", HEIGHTS))
    assert (plain.delta_m, plain.notes) == ((40, 50), [])


def write_netcdf(xarray, path, dims, coords, variables=None, attrs=None, z_attrs=None):
    """Write HEIGHTS as z over `dims`; coords: name to (dims, values, attributes)."""
    dataset = xarray.Dataset({"z": (dims, HEIGHTS, z_attrs or {}), **(variables or {})}, coords)
    dataset.attrs.update(attrs or {})
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


LAT, LON = 10 + 0.01 * np.arange(40), 140 + 0.02 * np.arange(52)
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}
SYSTEMS = {
    "epsg_code": ({"epsg_code": "EPSG:4326", "grid_mapping_name": "latitude_longitude"}, 4326),
    "number": ({"epsg_code": 4269}, 4269),
    "proj4": ({"proj4": "+proj=longlat +datum=WGS84 +no_defs"}, 4326),
    "name alone": ({"grid_mapping_name": "latitude_longitude"}, 4326),
    "ellipsoid": (
        {
            "grid_mapping_name": "latitude_longitude",
            "semi_major_axis": 6378137.0,
            "inverse_flattening": 298.257223563,
        },
        4326,
    ),
}


@pytest.mark.parametrize("named", [True, False], ids=["grid_mapping", "not named"])
@pytest.mark.parametrize("way", SYSTEMS)
def test_ways_of_saying_the_system(rasterio, xarray, way, named, tmp_path):
    """EPSG code, PROJ string and CF's own words become the system of a GeoTIFF."""
    attrs, code = SYSTEMS[way]
    if way == "ellipsoid":
        pytest.importorskip("pyproj")
    source = write_netcdf(
        xarray,
        tmp_path / "m.nc",
        ("lat", "lon"),
        {"lat": ("lat", LAT, NORTH), "lon": ("lon", LON, EAST)},
        {"crs": ((), np.int32(0), attrs)},
        z_attrs={"grid_mapping": "crs"} if named else None,
    )
    notes = enlarge(source, tmp_path / "out.tif")
    assert not [note for note in notes if "coordinate reference system" in note]
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs.to_epsg() == code


def test_projection_by_cf_parameters(rasterio, xarray, tmp_path):
    """UTM said with CF's parameters is UTM: the transverse Mercator of that meridian."""
    pyproj = pytest.importorskip("pyproj")
    attrs = {
        key: value for key, value in pyproj.CRS.from_epsg(32755).to_cf().items() if key != "crs_wkt"
    }
    x, y = 5e5 + 50.0 * np.arange(52), 8e6 - 40.0 * np.arange(40)
    source = write_netcdf(
        xarray,
        tmp_path / "m.nc",
        ("y", "x"),
        {"y": ("y", y, {"units": "m"}), "x": ("x", x, {"units": "m"})},
        {"utm": ((), np.int32(0), attrs)},
        z_attrs={"grid_mapping": "utm"},
    )
    enlarge(source, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        found = pyproj.CRS.from_wkt(file.crs.to_wkt())
        assert file.transform[:6] == pytest.approx((25, 0, 5e5 - 25, 0, -20, 8e6 + 20))
    turn = pyproj.Transformer.from_crs(found, 32755, always_xy=True)
    assert turn.transform(6e5, 8.1e6) == pytest.approx((6e5, 8.1e6), abs=0.01)


def test_a_system_that_is_not_understood_is_said_to_be_so(xarray, tmp_path):
    """The file names a system, so it is untrue that it does not; what it names is quoted."""
    pytest.importorskip("rasterio")
    source = write_netcdf(
        xarray,
        tmp_path / "m.nc",
        ("y", "x"),
        {"y": ("y", 40.0 * np.arange(40)), "x": ("x", 50.0 * np.arange(52))},
        {"crs": ((), np.int32(0), {"crs_wkt": "the harbour's own"})},
        z_attrs={"grid_mapping": "crs"},
    )
    with open_map(source) as reader:
        told = [note for note in reader.notes if "coordinate reference system" in note]
    assert len(told) == 1
    assert 'its grid mapping crs ("the harbour\'s own")' in told[0]


@pytest.mark.parametrize(("unit", "metres"), [("km", 1000.0), ("ft", 0.3048), ("m", 1.0)])
def test_units_of_axes(rasterio, xarray, unit, metres, tmp_path):
    """Pixels of a GeoTIFF are in the unit of its system, whatever unit the coordinates have."""
    wkt = rasterio.crs.CRS.from_epsg(32755).to_wkt()
    x, y = 5e5 + 125.0 * np.arange(52), 8e6 - 250.0 * np.arange(40)
    source = write_netcdf(
        xarray,
        tmp_path / "m.nc",
        ("y", "x"),
        {"y": ("y", y / metres, {"units": unit}), "x": ("x", x / metres, {"units": unit})},
        {"crs": ((), np.int32(0), {"crs_wkt": wkt})},
        z_attrs={"grid_mapping": "crs"},
    )
    assert read_raster(source).delta_m == pytest.approx((250, 125))
    enlarge(source, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        expected = (62.5, 0, 5e5 - 62.5, 0, -125, 8e6 + 125)
        assert file.transform[:6] == pytest.approx(expected, rel=1e-9)
    enlarge(source, tmp_path / "out.nc")
    with xarray.open_dataset(tmp_path / "out.nc") as file:
        assert file.x.attrs["units"] == unit
        assert float(file.x[0]) * metres == pytest.approx(5e5 - 31.25)


@pytest.mark.parametrize("said", ["coordinates", "standard_name"])
@pytest.mark.parametrize("turned", [False, True])
def test_coordinates_of_other_names(rasterio, xarray, said, turned, tmp_path):
    """elevation(LINES, COLUMNS) with lat(LINES) and lon(COLUMNS) keeps its place and its names."""
    if said == "standard_name":
        pytest.importorskip("cf_xarray")
    names = ("lat", "lon") if said == "coordinates" else ("breite", "laenge")
    attrs = [dict(NORTH, standard_name="latitude"), dict(EAST, standard_name="longitude")]
    dims = ("COLUMNS", "LINES") if turned else ("LINES", "COLUMNS")
    axes = {
        names[0]: ("LINES", LAT, attrs[0]),
        names[1]: ("COLUMNS", LON, attrs[1]),
    }
    path = tmp_path / "m.nc"
    plane = HEIGHTS.T if turned else HEIGHTS
    dataset = xarray.Dataset({"elevation": (dims, plane)}, axes)
    if said == "standard_name":
        dataset = dataset.reset_coords()
    dataset.to_netcdf(path, engine="h5netcdf")
    with open_map(path) as reader:
        assert reader.delta_m == pytest.approx((1113.19, 2191.2), rel=1e-3)
        np.testing.assert_array_equal(reader.read(ALL, ALL)[..., 0], HEIGHTS)
    enlarge(path, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs.to_epsg() == 4326
        expected = (0.01, 0, 139.99, 0, -0.005, 10.395)
        assert file.transform[:6] == pytest.approx(expected, abs=1e-9)
    enlarge(path, tmp_path / "out.nc")
    with xarray.open_dataset(tmp_path / "out.nc") as file:
        assert file.elevation.dims == dims
        np.testing.assert_allclose(file[names[0]].values[:2], [9.9975, 10.0025])
        assert file[names[0]].dims == ("LINES",)


def test_curvilinear_grid(xarray, tmp_path):
    """Positions of every pixel are kept in NetCDF; a GeoTIFF is refused with the reason."""
    lat, lon = np.meshgrid(LAT, LON, indexing="ij")
    lat, lon = lat + 0.05 * (lon - 140), lon - 0.05 * (lat - 10)
    path = tmp_path / "m.nc"
    xarray.Dataset(
        {"z": (("j", "i"), HEIGHTS)},
        {"lat": (("j", "i"), lat, NORTH), "lon": (("j", "i"), lon, EAST)},
    ).to_netcdf(path, engine="h5netcdf")
    with open_map(path) as reader:
        assert reader.georeferenced
        assert reader.delta_m == pytest.approx((1114.5, 2193.8), rel=1e-3)
        with pytest.raises(
            DataError, match=r"has a curvilinear grid \(lat and lon of every pixel\)"
        ):
            write_map(tmp_path / "out.tif", reader, 2, [])
    enlarge(path, tmp_path / "out.nc")
    with xarray.open_dataset(tmp_path / "out.nc") as file:
        assert file.z.shape == file.lat.shape == (80, 104)
        means = file.lat.values.reshape(40, 2, 52, 2).mean((1, 3))
        np.testing.assert_allclose(means, lat, atol=1e-9)
        assert file.z.encoding["coordinates"].split() == ["lat", "lon"]


@pytest.mark.parametrize("step", [0.5, 0.01])
@pytest.mark.parametrize("start", [0.0, -0.2])
def test_a_flume_is_not_the_globe(xarray, step, start, tmp_path):
    """Coordinates y and x without a unit are metres, and the program says so."""
    axes = {
        "y": ("y", start + step * np.arange(40)),
        "x": ("x", start + step * np.arange(52)),
    }
    source = write_netcdf(xarray, tmp_path / "m.nc", ("y", "x"), axes)
    raster = read_raster(source)
    assert raster.delta_m == pytest.approx((step, step))
    assert any("y and x have no unit; they are taken as metres" in n for n in raster.notes)


@pytest.mark.parametrize("names", [("lat", "lon"), ("latitude", "longitude")])
def test_degrees_by_name_alone(xarray, names, tmp_path):
    """Latitude and longitude are degrees even if they say no unit."""
    axes = {names[0]: (names[0], LAT), names[1]: (names[1], LON)}
    source = write_netcdf(xarray, tmp_path / "m.nc", names, axes)
    raster = read_raster(source)
    assert raster.delta_m == pytest.approx((1113.19, 2191.2), rel=1e-3)
    assert raster.crs == "EPSG:4326"


# -- Sign ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h", "bathymetry", "depth"])
@pytest.mark.parametrize("suffix", [".nc", ".npz"])
def test_positive_depths_get_the_hint(xarray, name, suffix, tmp_path):
    """Names that may mean depths, over values above 0, are told of where heights are taken."""
    path = tmp_path / f"m{suffix}"
    if suffix == ".nc":
        xarray.Dataset({name: (("a", "b"), -HEIGHTS)}).to_netcdf(path, engine="h5netcdf")
    else:
        np.savez(path, **{name: -HEIGHTS})
    assert any("may mean depths" in note for note in read_raster(path).notes)
    with open_map(path) as reader:
        hinted = any("may mean depths" in note for note in reader.notes)
        assert reader.positive == "down" if name == "depth" else hinted
    assert not [n for n in read_raster(path, positive="down").notes if "may mean" in n]


# -- Reference systems that no GeoTIFF can say ---------------------------------------------------

ROTATED = (
    "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 "
    "+to_meter=0.0174532925199433"
)


def write_rotated(rasterio, xarray, folder, kind):
    """Write a map on a rotated pole, as GDAL or as CF says it."""
    if kind == "tif":
        place = rasterio.Affine(0.1, 0, 5, 0, -0.1, 2)
        return write_tiff(rasterio, folder / "in.tif", HEIGHTS, crs=ROTATED, transform=place)
    mapping = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    }
    coords = {
        name: (name, start + step * np.arange(size), {"units": "degrees", "standard_name": said})
        for name, start, step, size, said in (
            ("rlat", 1.95, -0.1, 40, "grid_latitude"),
            ("rlon", 5.05, 0.1, 52, "grid_longitude"),
        )
    }
    path = folder / "in.nc"
    z = (("rlat", "rlon"), HEIGHTS, {"units": "m", "grid_mapping": "rotated_pole"})
    planes = {"z": z, "rotated_pole": ((), 0, mapping)}
    xarray.Dataset(planes, coords).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("kind", ["tif", "nc"])
def test_side_file_of_a_system_goes_with_the_result(rasterio, xarray, kind, cog, tmp_path):
    """The side file in which GDAL keeps a system is named after the result, and none is stale."""
    if kind == "nc":
        pytest.importorskip("pyproj")
    source = write_rotated(rasterio, xarray, tmp_path, kind)
    target = tmp_path / "results" / "fine.tif"
    with open_map(source) as reader:
        write_map(target, reader, 1, [reader.read(ALL, ALL)], cog=cog)
        said, crs = reader.notes, rasterio.crs.CRS.from_user_input(reader.crs)
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "fine.tif",
        "fine.tif.aux.xml",
    ]
    assert any("fine.tif.aux.xml; move the two together" in note for note in said)
    assert not any("WARNING" in note for note in said)
    with rasterio.open(target) as file:
        assert file.crs == crs
        assert tuple(file.transform)[:6] == pytest.approx((0.1, 0, 5, 0, -0.1, 2))
    # A result that needs no side file does not inherit it.
    enlarge(write_tiff(rasterio, tmp_path / "utm.tif", HEIGHTS), target)
    assert [path.name for path in target.parent.iterdir()] == ["fine.tif"]


@pytest.mark.parametrize("back", [None, "EPSG:32656"])
def test_a_system_that_is_not_kept_is_warned_of(rasterio, back, tmp_path, monkeypatch):
    """The system is read back; one that is lost or another is one warning."""
    source = write_tiff(rasterio, tmp_path / "in.tif", HEIGHTS)
    real = map_tiff.tiff_profile
    monkeypatch.setattr(map_tiff, "tiff_profile", lambda *a: real(*a) | {"crs": back})
    notes = enlarge(source, tmp_path / "out.tif")
    assert sum("does not keep the coordinate reference system" in note for note in notes) == 1


def test_grads_become_degrees_in_netcdf_and_come_back(rasterio, xarray, tmp_path):
    """NTF (Paris) counts grads from Paris; latitudes and longitudes of CF are degrees."""
    pyproj = pytest.importorskip("pyproj")
    place = rasterio.Affine(0.01, 0, 2, 0, -0.02, 54)
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs="EPSG:4807", transform=place)
    enlarge(source, tmp_path / "m.nc", 1)
    with xarray.open_dataset(tmp_path / "m.nc") as file:
        assert (file.lat.units, file.lon.units) == ("degrees_north", "degrees_east")
        assert file.lat.values[[0, -1]] == pytest.approx([0.9 * 53.99, 0.9 * (54 - 39.5 * 0.02)])
        assert file.lon.values[0] == pytest.approx(0.9 * 2.005)
        said = pyproj.CRS.from_wkt(file.spatial_ref.attrs["crs_wkt"])
        assert said.prime_meridian.longitude == pytest.approx(2.5969213 * 0.9)
        assert {axis.unit_name for axis in said.axis_info} == {"degree"}
    with open_map(source) as old, open_map(tmp_path / "m.nc") as new:
        assert new.delta_m == pytest.approx(old.delta_m, rel=1e-5)
    enlarge(tmp_path / "m.nc", tmp_path / "back.tif", 1)
    with rasterio.open(tmp_path / "back.tif") as back, rasterio.open(source) as first:
        there = rasterio.warp.transform(back.crs, "EPSG:4326", *zip(back.xy(9, 7)))
        here = rasterio.warp.transform(first.crs, "EPSG:4326", *zip(first.xy(9, 7)))
        assert np.allclose(there, here, rtol=0, atol=1e-6)


def test_degrees_of_a_file_whose_system_counts_grads(rasterio, xarray, tmp_path):
    """Coordinates in degrees become grads in a GeoTIFF of that system."""
    lat, lon = 48 - 0.01 * np.arange(40), 2 + 0.01 * np.arange(52)
    coords = {
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    said = {"crs": ((), 0, {"crs_wkt": rasterio.crs.CRS.from_epsg(4807).to_wkt()})}
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, ("lat", "lon"), coords, said, z_attrs={"grid_mapping": "crs"})
    enlarge(path, tmp_path / "m.tif", 1)
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.crs.to_epsg() == 4807
        assert file.transform.a * 0.9 == pytest.approx(0.01)
        assert file.transform.c * 0.9 == pytest.approx(1.995)


# -- Spacing where coordinates or projections are strained ---------------------------------------


@pytest.mark.parametrize(
    ("crs", "x", "y", "step"),
    [
        ("EPSG:4326", 4e5, 8e6, 271),
        ("EPSG:4326", 10, 97, 0.01),
        ("EPSG:4326", 2000, 10, 0.01),
        ("EPSG:4807", 10, 105, 0.01),
        ("EPSG:4326", 10, 90.2, 0.01),
    ],
)
@pytest.mark.parametrize("suffix", [".tif", ".nc"])
def test_positions_that_are_no_degrees(rasterio, xarray, suffix, crs, x, y, step, tmp_path):
    """No spacing is made up, and the builder asks for one."""
    path = tmp_path / f"m{suffix}"
    if suffix == ".tif":
        place = rasterio.Affine(step, 0, x, 0, -step, y)
        write_tiff(rasterio, path, HEIGHTS, crs=crs, transform=place)
    else:
        lat, lon = y - step * (np.arange(40) + 0.5), x + step * (np.arange(52) + 0.5)
        mapping = {"crs": ((), 0, {"crs_wkt": rasterio.crs.CRS.from_user_input(crs).to_wkt()})}
        coords = {"y": ("y", lat), "x": ("x", lon)}
        write_netcdf(xarray, path, ("y", "x"), coords, mapping, z_attrs={"grid_mapping": "crs"})
    raster = read_raster(path)
    assert raster.delta_m is None
    assert sum("WARNING" in note and "declared as degrees" in note for note in raster.notes) == 1
    with pytest.raises(DataError, match="Add 'delta_hr_m"):
        spacing_of(None, raster, [])


def test_nodes_on_a_pole_are_degrees(rasterio, tmp_path):
    """A global grid of nodes has edges half a pixel beyond the poles."""
    place = rasterio.Affine(2.5, 0, -1.25, 0, -2.5, 91.25)
    source = write_tiff(
        rasterio, tmp_path / "m.tif", np.zeros((73, 144), "f4"), crs="EPSG:4326", transform=place
    )
    assert read_raster(source).delta_m == pytest.approx((278298.7, 278298.7), rel=1e-6)


@pytest.mark.parametrize(
    ("epsg", "x", "y", "true"),
    [
        (3995, 6e6, 0, "stereographic"),
        (3995, -3e6, 8e6, "stereographic"),
        (3031, 6e6, 1e6, "stereographic"),
        (32631, 3e6, 5e6, None),
    ],
)
def test_projections_far_from_their_centre(rasterio, epsg, x, y, true, tmp_path):
    """The ellipsoid counts wherever the formulas of the projection hold."""
    pyproj = pytest.importorskip("pyproj")
    place = rasterio.Affine(271, 0, x - 26 * 271, 0, -271, y + 20 * 271)
    raster = read_raster(
        write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS, crs=f"EPSG:{epsg}", transform=place)
    )
    projection = pyproj.Proj(epsg)
    factors = projection.get_factors(*projection(x, y, inverse=True))
    if true:  # conformal: one scale in all directions
        assert raster.delta_m == pytest.approx([271 / factors.meridional_scale] * 2, rel=1e-3)
    else:
        assert raster.delta_m[0] < 260
    assert any("its projection stretches" in note for note in raster.notes)


@pytest.mark.parametrize(
    ("epsg", "place"), [(32631, (5e7, 5e6)), (3035, (3e7, 3e7)), (6933, (0, 9e6))]
)
def test_a_projection_that_does_not_come_back_is_not_trusted(rasterio, epsg, place):
    """Where the way back misses the point, the nominal spacing counts."""
    pytest.importorskip("pyproj")
    steps = ((0.0, -271.0), (271.0, 0.0))
    assert spacing_on_earth_m(f"EPSG:{epsg}", place, steps) is None


@pytest.mark.parametrize("x", [1.9e7, 20037508.0, 2.1e7])
def test_a_map_across_the_antimeridian_stretches_all_the_same(rasterio, x):
    """A whole turn of longitude is no miss."""
    pytest.importorskip("pyproj")
    steps = ((0.0, -271.0), (271.0, 0.0))
    found = spacing_on_earth_m("EPSG:3857", (x, 8e6), steps)
    assert found == pytest.approx((143.063, 143.332), abs=0.001)


# -- GDAL's own attribute ------------------------------------------------------------------------


def write_gdal(xarray, path, said, epsg=32655, **z_attrs):
    """Write HEIGHTS without coordinates, placed by the grid mapping alone."""
    from rasterio.crs import CRS

    mapping = {"spatial_ref": CRS.from_epsg(epsg).to_wkt(), "GeoTransform": said}
    named = {"grid_mapping": "spatial_ref"} | z_attrs
    planes = {"spatial_ref": ((), 0, mapping)}
    return write_netcdf(xarray, path, ("y", "x"), {}, planes, z_attrs=named)


@pytest.mark.parametrize("numbers", ["text", "array"])
def test_geotransform_without_coordinates(rasterio, xarray, numbers, tmp_path):
    """GDAL's six numbers, as text or array, place a NetCDF that has no coordinates."""
    said = "500000 50 0 9000 0 -40 " if numbers == "text" else np.array([5e5, 50, 0, 9000, 0, -40])
    path = write_gdal(xarray, tmp_path / "m.nc", said)
    with open_map(path) as reader:
        assert reader.georeferenced
        assert reader.transform == (50, 0, 500000, 0, -40, 9000)
        assert reader.delta_m == (40, 50)
        assert not any("georeference" in note for note in reader.notes)
    enlarge(path, tmp_path / "m.tif")
    enlarge(path, tmp_path / "fine.nc")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.crs.to_epsg() == 32655
        assert file.transform[:6] == (25, 0, 500000, 0, -20, 9000)
        assert np.array_equal(file.read(1)[::2, ::2], HEIGHTS)
    with open_map(tmp_path / "fine.nc") as reader:
        assert reader.transform == (25, 0, 500000, 0, -20, 9000)


def test_a_rotated_geotransform_and_one_of_degrees(rasterio, xarray, tmp_path):
    """Turned grids keep their rotation; a geographic system counts in degrees."""
    path = write_gdal(xarray, tmp_path / "turned.nc", "500000 40 30 9000 30 -40")
    with open_map(path) as reader:
        assert reader.delta_m == (50, 50)
    enlarge(path, tmp_path / "m.tif", 1)
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.transform[:6] == (40, 30, 500000, 30, -40, 9000)
    path = write_gdal(xarray, tmp_path / "degrees.nc", "10 0.1 0 62 0 -0.1", epsg=4326)
    with open_map(path) as reader:
        assert reader.delta_m == pytest.approx((11131.9, 5565.97), rel=1e-5)


@pytest.mark.parametrize("said", ["", "1 2 3", "a b c d e f", "0 0 0 0 0 0", "nan 1 0 0 0 1"])
def test_a_geotransform_that_is_none(xarray, rasterio, said, tmp_path):
    """What is no six numbers is left alone."""
    with open_map(write_gdal(xarray, tmp_path / "m.nc", said)) as reader:
        assert not reader.georeferenced
        assert any("no georeference" in note for note in reader.notes)


@pytest.mark.parametrize("start", [179.5, 359.5, -0.5, 178.0], ids=str)
@pytest.mark.parametrize("units", [EAST, {}], ids=["units", "name"])
def test_longitudes_that_start_anew_are_even(rasterio, xarray, start, units, tmp_path):
    """Across the antimeridian, or Greenwich counted from 0 to 360, a GeoTIFF goes on."""
    on = start + 0.05 * np.arange(52)
    lon = on % 360 if start in (359.5, -0.5) else (on + 180) % 360 - 180
    assert np.abs(np.diff(lon)).max() > 300
    coords = {"lat": ("lat", LAT, NORTH), "lon": ("lon", lon, units)}
    path = write_netcdf(xarray, tmp_path / "m.nc", ("lat", "lon"), coords)
    with open_map(path) as reader:
        width = 0.05 * 111319.49 * np.cos(np.radians(LAT.mean()))
        assert reader.delta_m == pytest.approx((1113.195, width), rel=1e-5)
        assert not any("evenly" in note for note in reader.notes)
    enlarge(path, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.bounds.left % 360 == pytest.approx((start - 0.025) % 360)
        assert file.bounds.right - file.bounds.left == pytest.approx(52 * 0.05)
    enlarge(path, tmp_path / "fine.nc")
    with xarray.open_dataset(tmp_path / "fine.nc") as file:
        assert file.lon.values[[0, -1]] % 360 == pytest.approx(on[[0, -1]] % 360, abs=0.013)
        assert np.abs(file.lon.values).max() <= 360
    with open_map(tmp_path / "fine.nc") as reader:
        assert reader.transform is not None


# -- Units of coordinates ------------------------------------------------------------------------

GEOSTATIONARY = {
    "grid_mapping_name": "geostationary",
    "perspective_point_height": 35786023.0,
    "semi_major_axis": 6378137.0,
    "semi_minor_axis": 6356752.31414,
    "latitude_of_projection_origin": 0.0,
    "longitude_of_projection_origin": -75.0,
    "sweep_angle_axis": "x",
}


def write_plane(xarray, path, unit, factor=1.0, mapping=None, x0=5e5, y0=8e6, steps=(250, 125)):
    """Write HEIGHTS with coordinates in a unit, `factor` of it being one metre or degree."""
    y, x = y0 - steps[0] * np.arange(40), x0 + steps[1] * np.arange(52)
    coords = {
        "y": ("y", y * factor, {"units": unit, "standard_name": "projection_y_coordinate"}),
        "x": ("x", x * factor, {"units": unit, "standard_name": "projection_x_coordinate"}),
    }
    planes = {"crs": ((), np.int32(0), mapping)}
    return write_netcdf(xarray, path, ("y", "x"), coords, planes, z_attrs={"grid_mapping": "crs"})


@pytest.mark.parametrize(
    ("unit", "factor"), [("rad", 1.0), ("radians", 1.0), ("microradian", 1e6), ("1e-6 rad", 1e6)]
)
def test_scanning_angles_of_a_satellite(rasterio, xarray, unit, factor, tmp_path):
    """CF, appendix F: angle times perspective_point_height is the distance of the projection."""
    pyproj = pytest.importorskip("pyproj")
    height = GEOSTATIONARY["perspective_point_height"]
    place = {"x0": 0.02, "y0": 0.06, "steps": (56e-6, 56e-6)}
    path = write_plane(xarray, tmp_path / "m.nc", unit, factor, GEOSTATIONARY, **place)
    with open_map(path) as reader:
        step, edge = 56e-6 * height, (0.02 - 28e-6) * height
        top = (0.06 + 28e-6) * height
        assert reader.transform == pytest.approx((step, 0, edge, 0, -step, top), rel=1e-9)
        # The sub-satellite pixel is 2004 m; here, to the north, its rows are longer.
        assert 2004 < reader.delta_m[1] < reader.delta_m[0] < 3000
    enlarge(path, tmp_path / "m.tif", 1)
    with rasterio.open(tmp_path / "m.tif") as file:
        turn = pyproj.Transformer.from_crs(file.crs.to_wkt(), 4326, always_xy=True)
        found = turn.transform(*file.xy(0, 0))
    own = pyproj.Proj(proj="geos", h=height, lon_0=-75, sweep="x", ellps="GRS80")
    assert found == pytest.approx(own(0.02 * height, 0.06 * height, inverse=True), abs=1e-6)


UTM = {"crs_wkt": "EPSG:32755"}


@pytest.mark.parametrize(("step", "said"), [(0.0, "0"), (1e-200, "1e-200")])
def test_coordinates_that_stand_still_have_no_spacing(xarray, step, said, tmp_path):
    """Damaged coordinates may hardly differ: the spacing is not known then; it is said."""
    x = np.repeat(np.arange(13.0), 4) if step == 0 else step * np.arange(52)
    axes = {
        "y": ("y", np.arange(40.0), {"units": "m"}),
        "x": ("x", x, {"units": "m"}),
    }
    raster = read_raster(write_netcdf(xarray, tmp_path / "m.nc", ("y", "x"), axes))
    assert raster.delta_m is None
    assert any(
        "WARNING" in n and f"would be 1 × {said} m, which is impossible" in n for n in raster.notes
    )


@pytest.mark.parametrize("unit", ["1000 m", "0.5 km"])
def test_multiples_as_units_of_axes(rasterio, xarray, unit, tmp_path):
    """A number before a unit multiplies it."""
    factor = {"1000 m": 1e-3, "0.5 km": 2e-3}[unit]
    path = write_plane(xarray, tmp_path / "m.nc", unit, factor, UTM)
    assert read_raster(path).delta_m == pytest.approx((250, 125))
    enlarge(path, tmp_path / "out.tif", 1)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform[:6] == pytest.approx((125, 0, 5e5 - 62.5, 0, -250, 8e6 + 125))


@pytest.mark.parametrize(
    ("unit", "mapping"),
    [
        ("pixel", UTM),
        ("rad", UTM),
        ("furlongs per week", UTM),
        ("2**9 m", UTM),
        ("m", {"crs_wkt": "EPSG:4326"}),
    ],
)
def test_units_that_do_not_fit_the_system(rasterio, xarray, unit, mapping, tmp_path):
    """No pixel is put in a wrong place: the result has no system, and that is said."""
    path = write_plane(xarray, tmp_path / "m.nc", unit, 1.0, mapping)
    notes = enlarge(path, tmp_path / "out.tif", 1)
    said = [note for note in notes if "does not fit the file's coordinate reference" in note]
    assert len(said) == 1
    assert said[0].startswith("WARNING")
    assert repr(unit) in said[0]
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs is None


def test_degrees_beside_a_projected_system(rasterio, xarray, tmp_path):
    """Latitudes and longitudes are no metres of the system that the file names."""
    coords = {"lat": ("lat", LAT, NORTH), "lon": ("lon", LON, EAST)}
    path = tmp_path / "m.nc"
    planes = {"crs": ((), np.int32(0), UTM)}
    write_netcdf(xarray, path, ("lat", "lon"), coords, planes, z_attrs={"grid_mapping": "crs"})
    notes = enlarge(path, tmp_path / "out.tif", 1)
    assert sum("taken as latitudes and longitudes" in note for note in notes) == 1
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs.to_epsg() == 4326
        assert file.bounds.left == pytest.approx(139.99)


@pytest.mark.parametrize(("unit", "factor"), [("rad", np.pi / 180), ("gon", 1 / 0.9)])
def test_other_angles_of_latitudes(rasterio, xarray, unit, factor, tmp_path):
    """Radians and gons are turned into degrees."""
    place = {"x0": 10.0, "y0": 60.0, "steps": (0.01, 0.02)}
    path = write_plane(xarray, tmp_path / "m.nc", unit, factor, {"crs_wkt": "EPSG:4326"}, **place)
    with open_map(path) as reader:
        assert reader.transform == pytest.approx((0.02, 0, 9.99, 0, -0.01, 60.005))
        assert reader.delta_m[0] == pytest.approx(1113.195)


# -- Limits of NetCDF --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:saving variable")
@pytest.mark.parametrize(
    ("limits", "encoding"),
    [
        ({"valid_range": np.array([-3000, 0], np.float32)}, {}),
        ({"valid_min": np.float32(-3000)}, {}),
        ({"valid_max": 0}, {}),
        ({"valid_range": np.array([-30000, 0], np.int16)}, {"dtype": "int16", "scale_factor": 0.1}),
        ({"valid_min": np.float32(-3000)}, {"dtype": "int32", "scale_factor": 0.1}),
        (
            {"valid_range": np.array([0, 30000], np.int16)},
            {"dtype": "int16", "scale_factor": -0.1, "_FillValue": 32767},
        ),
    ],
    ids=["range", "least", "largest", "packed", "packed, limits not", "negative scale"],
)
def test_values_outside_of_the_valid_range_are_missing(xarray, limits, encoding, tmp_path):
    """CF's limits, in packed numbers if these are packed; how many is said."""
    values = np.clip(np.round(HEIGHTS, 1), -3000, 0)
    values[10:14, 20:30] = 20 if "valid_max" in limits else -3200
    axes = {"y": 9000 - 40.0 * np.arange(40), "x": 50.0 * np.arange(52)}
    plane = xarray.DataArray(values, axes, ("y", "x"), "z", {"units": "m", **limits})
    plane.to_netcdf(tmp_path / "m.nc", engine="h5netcdf", encoding={"z": encoding})
    raster = read_raster(tmp_path / "m.nc")
    assert np.isnan(raster.values).sum() == 40
    assert np.isnan(raster.values[10:14, 20:30]).all()
    assert any("40 pixels are outside the range" in note for note in raster.notes)
    enlarge(tmp_path / "m.nc", tmp_path / "out.nc")
    assert np.isnan(values_of(tmp_path / "out.nc")).sum() == 160


@pytest.mark.filterwarnings("ignore:saving variable")
def test_limits_of_an_unclear_unit_are_warned_of(xarray, tmp_path):
    """Limits that are neither packed nor fractions mean nothing for certain."""
    axes = {"y": 9000 - 40.0 * np.arange(40), "x": 50.0 * np.arange(52)}
    plane = xarray.DataArray(HEIGHTS, axes, ("y", "x"), "z", {"valid_min": np.int64(-5)})
    coded = {"z": {"dtype": "int16", "scale_factor": 0.1}}
    plane.to_netcdf(tmp_path / "m.nc", engine="h5netcdf", encoding=coded)
    raster = read_raster(tmp_path / "m.nc")
    assert not np.isnan(raster.values).any()
    assert any("its unit is unclear and it is ignored" in note for note in raster.notes)
