"""Maps read in windows and written in strips keep extent, sign, gaps, data type and geodata."""

import re
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from toolbox import __version__
from toolbox.errors import DataError
from toolbox.io import map_writers
from toolbox.io.map_output import OUTPUT_SUFFIXES
from toolbox.io.map_writers import check_output, default_output_suffix, write_map
from toolbox.io.maps import open_map
from toolbox.io.provenance import Provenance
from toolbox.io.safe_pickle import load_array, save_array
from toolbox.opencv import cv2

GRIDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bathymetry"
ARABIAN = "arabian_sea_GEBCO_15arcsec_wgs84.tif"
CAIRNS = "cairns_gbr_GA2005_271m_utm55s.tif"
PACIFIC = "pacific_multibeam_gappy_0.001deg.nc"
NAVO = "navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag"
HEIGHTS = np.random.default_rng(0).uniform(-3000, -100, (40, 50)).astype(np.float32)
ALL = slice(None)


def grid(name):
    """Path of a real grid; the test is skipped where it is missing."""
    path = GRIDS / name
    if not path.is_file():
        pytest.skip(f"{name} is not on this machine ({GRIDS})")
    pytest.importorskip("xarray" if path.suffix == ".nc" else "rasterio")
    return path


def enlarged(reader, scale, rows=7):
    """Every pixel repeated, in strips of an odd height that fits no block and no scale."""
    whole = (reader.shape[0] * scale, reader.shape[1] * scale)
    for first in range(0, whole[0], rows):
        last = min(first + rows, whole[0])
        coarse = reader.read(slice(first // scale, -(-last // scale)), ALL)
        fine = coarse.repeat(scale, 0).repeat(scale, 1)
        yield fine[first % scale :][: last - first]


def enlarge(source, target, scale=3, rows=7, **options):
    """Open, enlarge by repetition and write; return the notes."""
    keys = ("variable", "nodata", "positive")
    chosen = {key: options.pop(key) for key in keys if key in options}
    with open_map(source, **chosen) as reader:
        write_map(target, reader, scale, enlarged(reader, scale, rows), **options)
        return reader.notes


def values_of(path, **options):
    """Read a whole map, (H, W, C)."""
    with open_map(path, **options) as reader:
        return reader.read(ALL, ALL)


def repeated(values, scale=3):
    """Repeat every pixel of an array (H, W, ...)."""
    return values.repeat(scale, 0).repeat(scale, 1)


def same(first, second):
    """Whether two maps agree in every value and every gap."""
    return np.array_equal(first, second, equal_nan=True)


def write_tiff(rasterio, path, bands, **options):
    """Write bands (count, H, W) with 40 m × 50 m pixels in UTM unless told otherwise."""
    tags, band_tags = options.pop("tags", {}), options.pop("band_tags", {})
    settings = {
        "crs": "EPSG:32655",
        "transform": rasterio.Affine(50, 0, 1000, 0, -40, 9000),
        "driver": "GTiff",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype,
    } | options
    with rasterio.open(path, "w", **settings) as file:
        file.update_tags(**tags)
        file.update_tags(1, **band_tags)
        file.write(bands)
    return path


def write_netcdf(
    xarray, path, plane, y, x, attrs=None, *, encoding=None, dims=("lat", "lon"), **more
):
    """Write a plane named z over coordinates in degrees; `more` goes to the dataset."""
    units = {dims[0]: "degrees_north", dims[1]: "degrees_east"}
    coords = {dim: (dim, v, {"units": units[dim]}) for dim, v in zip(dims, (y, x), strict=True)}
    dataset = xarray.Dataset({"z": (dims, plane, attrs or {}), **more.pop("variables", {})}, coords)
    dataset.attrs.update(more.pop("attributes", {}))
    dataset.to_netcdf(path, encoding={"z": encoding or {}}, **({"engine": "h5netcdf"} | more))
    return path


LATITUDES, LONGITUDES = 10 + 0.01 * np.arange(40), 140 + 0.02 * np.arange(50)


# -- Windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ARABIAN, CAIRNS, PACIFIC, NAVO])
def test_windows_of_real_grids(name):
    """A window is that part of the whole, float32 with one channel, as read_raster reads it."""
    from toolbox.io.raster import read_raster

    path = grid(name)
    whole = read_raster(path)
    with open_map(path) as reader:
        window = reader.read(slice(300, 333), slice(101, 202))
        assert (reader.shape, reader.channels) == (whole.values.shape, 1)
        assert reader.delta_m == pytest.approx(whole.delta_m)
        assert reader.georeferenced
    assert (window.dtype, window.shape) == (np.float32, (33, 101, 1))
    assert same(window[..., 0], whole.values[300:333, 101:202])


def test_windows_have_no_steps(tmp_path):
    """A step would leave out rows silently."""
    np.save(tmp_path / "m.npy", HEIGHTS)
    with open_map(tmp_path / "m.npy") as reader:
        with pytest.raises(ValueError, match="no steps"):
            reader.read(slice(0, 9, 2), ALL)
        assert reader.read(slice(-3, None), slice(0, 99)).shape == (3, 50, 1)


def test_gaps_are_nan_and_the_sign_is_turned_after_them(tmp_path):
    """The user's nodata, infinities and NaN are gaps, found in the sign of the file."""
    plane = -HEIGHTS
    plane[0, :4] = [99999, np.inf, -np.inf, np.nan]
    np.save(tmp_path / "m.npy", plane)
    values = values_of(tmp_path / "m.npy", nodata=99999, positive="down")[..., 0]
    assert np.isnan(values[0, :4]).all()
    assert np.isnan(values).sum() == 4
    assert same(values[1:], HEIGHTS[1:])


def test_sample_inside_matplotlib():
    """The samples of the quick start open as maps with a spacing."""
    with open_map("sample:jacksboro_fault_dem.npz") as reader:
        assert (reader.kind, reader.shape) == ("npz", (344, 403))
        assert reader.delta_m == pytest.approx((92.77, 74.48), abs=0.01)


# -- Real grids there and back -------------------------------------------------------------------


@pytest.mark.parametrize("name", [ARABIAN, CAIRNS])
def test_real_geotiffs(rasterio, name, tmp_path):
    """Extent, CRS, data type, nodata, tags, compression and scale² as many gaps."""
    source, target = grid(name), tmp_path / "new" / "out.tif"
    notes = enlarge(source, target, 2, rows=321)
    assert notes == []
    with rasterio.open(source) as old, rasterio.open(target) as new:
        assert new.bounds == pytest.approx(old.bounds, rel=1e-15)
        assert (new.crs, new.nodata, new.dtypes) == (old.crs, old.nodata, old.dtypes)
        assert (new.height, new.width) == (2 * old.height, 2 * old.width)
        assert new.tags() == old.tags()
        assert new.profile.get("compress") == old.profile.get("compress")
        assert new.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR") == (
            old.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR")
        )
        assert (new.profile["tiled"], new.block_shapes) == (True, [(512, 512)])
        assert same(new.read(1), repeated(old.read(1), 2))
        masked = new.read(1, masked=True)
    assert np.ma.count_masked(masked) == 4 * np.isnan(values_of(source)).sum()
    assert [p.name for p in target.parent.iterdir()] == ["out.tif"]


def test_real_netcdf(xarray, tmp_path):
    """The GMT grid keeps its name, attributes, gaps, chunks, and the ends of its region."""
    source, target = grid(PACIFIC), tmp_path / "out.nc"
    unit, system = enlarge(source, target, 2, rows=101)
    assert "y and x have no unit; they are taken as degrees" in unit
    assert "does not name its coordinate reference system" in system
    with xarray.open_dataset(source) as old, xarray.open_dataset(target) as new:
        assert (new.z.dims, new.z.dtype, new.z.shape) == (("y", "x"), np.float32, (1600, 2000))
        assert np.isnan(new.z.values).sum() == 4 * np.isnan(old.z.values).sum()
        assert same(new.z.values, repeated(old.z.values, 2))
        assert new.z.attrs["long_name"] == "user_z_unit"
        np.testing.assert_allclose(new.z.attrs["actual_range"], old.z.attrs["actual_range"])
        for axis in "xy":
            ends = old[axis].attrs["actual_range"]
            np.testing.assert_allclose(new[axis].attrs["actual_range"], ends, rtol=0, atol=1e-9)
            centres = new[axis].values
            half = (centres[1] - centres[0]) / 2
            np.testing.assert_allclose([centres[0] - half, centres[-1] + half], ends, atol=1e-9)
        assert new.attrs["history"].startswith(old.attrs["history"] + "\n")
        assert new.attrs["node_offset"] == 1
        assert (new.z.encoding["zlib"], new.z.encoding["complevel"]) == (True, 9)
        assert new.z.encoding["chunksizes"] == old.z.encoding["chunksizes"]


def test_real_bag(rasterio, tmp_path):
    """A BAG becomes a BAG: same extent, elevation enlarged, uncertainty repeated."""
    if default_output_suffix("a.bag") != ".bag":
        pytest.skip("this GDAL has no BAG driver")
    source, target = grid(NAVO), tmp_path / "out.bag"
    notes = enlarge(source, target, 2, rows=333)
    assert any("GDAL's own template" in line for line in notes)
    with rasterio.open(source) as old, rasterio.open(target) as new:
        assert new.driver == "BAG"
        assert new.bounds == pytest.approx(old.bounds, rel=1e-15)
        assert (new.nodata, new.descriptions) == (old.nodata, old.descriptions)
        assert new.crs.to_string().count("Transverse_Mercator") == 1
        assert same(new.read(), old.read().repeat(2, 1).repeat(2, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["out.bag"]


def test_bag_as_geotiff_keeps_point_registration(rasterio, tmp_path):
    """Elevation of a BAG in a GeoTIFF has the BAG's outer edges, nodata and band name."""
    source, target = grid(NAVO), tmp_path / "out.tif"
    enlarge(source, target, 2, rows=500)
    with rasterio.open(source) as old, rasterio.open(target) as new:
        assert new.bounds == pytest.approx(old.bounds, rel=1e-15)
        assert (new.count, new.nodata, new.crs) == (1, 1e6, old.crs)
        assert new.descriptions == ("elevation",)
        assert new.tags()["AREA_OR_POINT"] == "Point"


# -- GeoTIFF -------------------------------------------------------------------------------------


@pytest.mark.parametrize("registration", ["Area", "Point"])
def test_registration_of_a_geotiff(rasterio, registration, tmp_path):
    """Outer edges stay exact whether pixels are said to be areas or points; the tag is kept."""
    tags = {"AREA_OR_POINT": registration}
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS[None], tags=tags)
    enlarge(source, tmp_path / "o.tif", 4)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert tuple(new.bounds) == (1000, 9000 - 40 * 40, 1000 + 50 * 50, 9000)
        assert new.res == (12.5, 10)
        assert new.tags()["AREA_OR_POINT"] == registration


def test_rotated_geotiff(rasterio, tmp_path):
    """The four corners of a rotated grid stay where they were."""
    affine = rasterio.Affine.translation(500, 700) @ rasterio.Affine.rotation(30)
    affine = affine @ rasterio.Affine.scale(50, -40)
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS[None], transform=affine)
    enlarge(source, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as new:
        for column, row in [(0, 0), (50, 0), (0, 40), (50, 40)]:
            found = new.transform @ (3 * column, 3 * row)
            assert found == pytest.approx(affine @ (column, row), abs=1e-9)
    with pytest.raises(DataError, match=r"o\.nc: .*is rotated.*Name a \.tif"):
        enlarge(source, tmp_path / "o.nc")
    with pytest.raises(DataError, match=r"o\.bag: a BAG needs.*unrotated grid"):
        enlarge(source, tmp_path / "o.bag")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tif", "o.tif"]


def test_names_units_and_tags_of_a_geotiff(rasterio, tmp_path):
    """Band description, unit, tags and packing are carried over, statistics are not."""
    plane = np.round(HEIGHTS * 10).astype(np.int16)
    band_tags = {"ORIGIN": "survey", "STATISTICS_MEAN": "1"}
    source = write_tiff(
        rasterio, tmp_path / "m.tif", plane[None], tags={"AUTHOR": "me"}, band_tags=band_tags
    )
    with rasterio.open(source, "r+") as file:
        file.descriptions, file.units, file.scales, file.offsets = ["sea floor"], ["m"], [0.1], [5]
    assert values_of(source) == pytest.approx(plane[..., None] * 0.1 + 5, abs=1e-3)
    enlarge(source, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as new:
        assert (new.descriptions, new.units) == (("sea floor",), ("m",))
        assert (new.scales, new.offsets, new.dtypes) == ((0.1,), (5,), ("int16",))
        assert new.tags()["AUTHOR"] == "me"
        assert new.tags(1) == {"ORIGIN": "survey"}
        assert same(new.read(1), repeated(plane))


def test_second_band_with_a_standard_deviation(rasterio, tmp_path):
    """A standard deviation of depths is never negated, and whole metres make way for fractions."""
    depths = np.round(-HEIGHTS).astype(np.int16)
    depths[0, 0] = -32768
    source = write_tiff(rasterio, tmp_path / "m.tif", depths[None], nodata=-32768)
    names = ("depth", "standard_deviation")
    with open_map(source, positive="down") as reader:
        parts = (np.concatenate([s, s * 0 + 0.25], 2) for s in enlarged(reader, 2))
        write_map(tmp_path / "o.tif", reader, 2, parts, bands=names)
        assert "is float32 instead of int16, because of its band standard_dev" in reader.notes[-1]
    with rasterio.open(tmp_path / "o.tif") as new:
        assert (new.descriptions, new.dtypes, new.nodata) == (names, ("float32",) * 2, -32768)
        first, second = new.read(masked=True)
        assert same(first.filled(-32768), repeated(depths, 2).astype(np.float32))
        assert (second.compressed() == 0.25).all()
        assert np.ma.count_masked(first) == np.ma.count_masked(second) == 4


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("int16", -32768), ("int32", -(2**31)), ("uint16", 65535)]
)
def test_nodata_is_chosen_where_there_is_none(rasterio, dtype, nodata, tmp_path):
    """Gaps in whole numbers without nodata take an end of the range, and the file says so."""
    plane = np.abs(HEIGHTS).round().astype(dtype)
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None])
    with open_map(source) as reader:
        strip = reader.read(ALL, ALL)
        strip[3, 4], strip[5, 6] = np.nan, np.inf
        write_map(tmp_path / "o.tif", reader, 1, [strip])
        assert f"2 missing values are written as {nodata:g}, recorded" in reader.notes[-1]
    with rasterio.open(tmp_path / "o.tif") as new:
        assert (new.nodata, new.dtypes) == (nodata, (dtype,))
        assert np.argwhere(new.read(1, masked=True).mask).tolist() == [[3, 4], [5, 6]]


def test_without_gaps_no_nodata_is_made_up(rasterio, tmp_path):
    """A file that had no nodata and needs none gets none."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS.astype(np.int16)[None])
    assert enlarge(source, tmp_path / "o.tif") == []
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.nodata is None


def test_whole_numbers_are_rounded_and_clipped_beside_nodata(rasterio, tmp_path):
    """Values go to the nearest number in range; none becomes the nodata by chance."""
    source = write_tiff(rasterio, tmp_path / "m.tif", np.ones((1, 1, 6), np.int16), nodata=-32768)
    strip = np.array([[1.6, -2.4, 1e6, -1e6, -32768, np.nan]], np.float32)[..., None]
    with open_map(source) as reader:
        write_map(tmp_path / "o.tif", reader, 1, [strip])
        [note] = reader.notes
    assert note.startswith("WARNING: ")
    assert note.endswith(
        "o.tif: 2 pixels are outside the range of int16 and were clipped; use --dtype float32."
    )
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.read(1).tolist() == [[2, -2, 32767, -32767, -32767, -32768]]


def test_cut_pixels_are_counted_over_strips_and_not_in_images(tmp_path):
    """Depths in a picture are cut aloud; the overshoot of an image is not worth a word."""
    np.save(tmp_path / "m.npy", np.full((4, 5), 200.0))
    with open_map(tmp_path / "m.npy") as reader:
        strips = [np.full((2, 5, 1), value, np.float32) for value in (255.4, 255.6)]
        write_map(tmp_path / "o.png", reader, 1, strips, dtype="uint8")
        [note] = reader.notes
    assert "10 pixels are outside the range of uint8" in note
    assert "name a .tif or .npy file and use --dtype float32" in note
    with open_map(tmp_path / "o.png") as reader:
        write_map(tmp_path / "p.png", reader, 1, [np.full((4, 5, 1), 300, np.float32)])
        assert reader.notes == []
    assert (values_of(tmp_path / "p.png") == 255).all()


def test_nodata_of_the_user_is_recorded(rasterio, tmp_path):
    """What the user declares missing is the nodata of the result."""
    plane = HEIGHTS.copy()
    plane[2, 2] = -9999
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None])
    enlarge(source, tmp_path / "o.tif", nodata=-9999)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.nodata == -9999
        assert np.ma.count_masked(new.read(1, masked=True)) == 9


def test_mask_beside_the_bands(rasterio, tmp_path):
    """Pixels hidden by a mask are gaps, which the result marks by a nodata."""
    mask = np.full(HEIGHTS.shape, 255, np.uint8)
    mask[7, 8] = 0
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS.astype(np.int16)[None])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as file:
        file.write_mask(mask)
    enlarge(source, tmp_path / "o.tif", 2)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.nodata == -32768
        assert np.ma.count_masked(new.read(1, masked=True)) == 4


def test_several_bands_need_a_choice(rasterio, tmp_path):
    """Bands that are no RGB image are not guessed at; one is read and written alone."""
    bands = np.stack([HEIGHTS, HEIGHTS + 1])
    source = write_tiff(rasterio, tmp_path / "m.tif", bands)
    for variable, message in [
        (None, r"has 2 bands .*variable: 1 to 2"),
        ("3", "has bands 1 to 2; received 3"),
        ("depth", "must be a band number; received 'depth'"),
    ]:
        with pytest.raises(DataError, match=message):
            open_map(source, variable)
    notes = enlarge(source, tmp_path / "o.tif", variable=2)
    assert "only band 2 of 2" in notes[0]
    with rasterio.open(tmp_path / "o.tif") as new:
        assert same(new.read(), repeated(bands[1])[None])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_geotiff(rasterio, dtype, alpha, tmp_path):
    """Three colours are three channels, a fourth of opacity is dropped aloud and hides nothing."""
    top = np.iinfo(dtype).max
    image = np.random.default_rng(1).integers(0, top + 1, (4 if alpha else 3, 40, 50)).astype(dtype)
    image[:, 0, 0], image[-1, 1, 1] = top, 0
    source = write_tiff(
        rasterio, tmp_path / "m.tif", image, photometric="RGB", **{"ALPHA": "YES"} if alpha else {}
    )
    notes = enlarge(source, tmp_path / "o.tif")
    assert ["alpha channel is dropped" in line for line in notes] == [True] * alpha
    with open_map(source) as reader, rasterio.open(tmp_path / "o.tif") as new:
        assert (reader.channels, reader.positive_reason) == (3, "an image")
        assert [colour.name for colour in new.colorinterp] == ["red", "green", "blue"]
        assert same(new.read(), image[:3].repeat(3, 1).repeat(3, 2))


def test_missing_georeference_is_told(rasterio, tmp_path):
    """A map without a place is warned of, an image is not; the result has none either."""
    nowhere = {"crs": None, "transform": rasterio.Affine.identity()}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS[None], **nowhere)
    [note] = enlarge(tmp_path / "m.tif", tmp_path / "o.tif")
    assert note.startswith("WARNING: ")
    assert "m.tif has no georeference" in note
    assert same(values_of(tmp_path / "o.tif")[..., 0], repeated(HEIGHTS))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_tiff(rasterio, tmp_path / "i.tif", np.ones((1, 9, 9), np.uint8), **nowhere)
    with open_map(tmp_path / "i.tif") as reader:
        assert (reader.kind, reader.georeferenced, reader.delta_m) == ("tiff", False, None)
        assert reader.positive_reason == "an image"
        assert "treated as an image" in reader.notes[0]


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "uint8", "uint32"])
def test_types_and_compression_of_geotiffs(rasterio, dtype, tmp_path):
    """Every type comes back as it was, compressed in the same way."""
    plane = np.abs(HEIGHTS / 20).astype(dtype)
    predictor = 3 if dtype.startswith("float") else 2
    options = {"compress": "zstd", "predictor": predictor}
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None], **options)
    enlarge(source, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.profile["compress"] == "zstd"
        assert new.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == str(predictor)
        assert same(new.read(1), repeated(plane.astype(np.float32)).astype(dtype))


def test_jpeg_inside_a_geotiff_gives_way(rasterio, tmp_path):
    """Compression that loses data is replaced, and said to be."""
    image = np.full((3, 64, 64), 100, np.uint8)
    source = write_tiff(rasterio, tmp_path / "m.tif", image, compress="jpeg", photometric="YCBCR")
    assert "deflate instead of jpeg" in enlarge(source, tmp_path / "o.tif")[-1]
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.profile["compress"] == "deflate"


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_cloud_optimised(rasterio, dtype, tmp_path):
    """A COG is tiled, has overviews and the layout, and all the geodata of the input."""
    plane = repeated(HEIGHTS, 6).astype(dtype)
    plane[0, 0] = -9999
    options = {"nodata": -9999, "compress": "deflate", "tags": {"AREA_OR_POINT": "Point"}}
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None], **options)
    enlarge(source, tmp_path / "o.tif", rows=100, cog=True)
    with rasterio.open(source) as old, rasterio.open(tmp_path / "o.tif") as new:
        assert new.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (new.profile["tiled"], new.overviews(1)) == (True, [2])
        assert tuple(new.bounds) == pytest.approx(tuple(old.bounds), rel=1e-15)
        assert (new.crs, new.nodata) == (old.crs, old.nodata)
        assert (new.tags()["AREA_OR_POINT"], new.profile["compress"]) == ("Point", "deflate")
        assert same(new.read(1), repeated(plane))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tif", "o.tif"]
    with pytest.raises(DataError, match=r"o\.npy: only a GeoTIFF can be cloud-optimised"):
        enlarge(source, tmp_path / "o.npy", cog=True)


# -- NetCDF --------------------------------------------------------------------------------------


def edges(coordinate):
    """Outer edges of evenly spaced centres."""
    half = (coordinate[1] - coordinate[0]) / 2
    return float(coordinate[0] - half), float(coordinate[-1] + half)


@pytest.mark.parametrize("scale", [2, 3])
def test_descending_latitudes_and_packed_values(xarray, scale, tmp_path):
    """Order of latitudes, packing, fill value, type, attributes and cell edges are kept."""
    plane = HEIGHTS.copy()
    plane[1, 2] = np.nan
    encoding = {"dtype": "int16", "scale_factor": 0.1, "add_offset": -1500.0, "_FillValue": -32768}
    encoding |= {"zlib": True, "complevel": 2, "chunksizes": (10, 20)}
    source = write_netcdf(
        xarray,
        tmp_path / "m.nc",
        plane,
        LATITUDES[::-1],
        LONGITUDES,
        {"units": "m", "standard_name": "altitude", "valid_min": -5},
        encoding=encoding,
    )
    enlarge(source, tmp_path / "o.nc", scale)
    options = {"mask_and_scale": False}
    with (
        xarray.open_dataset(source, **options) as old,
        xarray.open_dataset(tmp_path / "o.nc", **options) as new,
    ):
        assert new.z.dtype == np.int16
        assert same(new.z.values, repeated(old.z.values, scale))
        assert "valid_min" not in new.z.attrs
        old.z.attrs.pop("valid_min")
        assert new.z.attrs == old.z.attrs
        assert new.z.encoding["complevel"] == 2
        assert new.z.encoding["chunksizes"] == (10, 20)
        for name in ("lat", "lon"):
            assert edges(new[name].values) == pytest.approx(edges(old[name].values), abs=1e-12)
            assert new[name].attrs["units"] == old[name].attrs["units"]
        assert new.lat[0] > new.lat[-1]
    assert np.isnan(values_of(tmp_path / "o.nc")).sum() == scale**2


def test_refined_coordinates_are_the_formula(xarray, tmp_path):
    """Centres lie at x0 + dx ((i + 1/2) / scale - 1/2)."""
    source = write_netcdf(xarray, tmp_path / "m.nc", HEIGHTS, LATITUDES, LONGITUDES)
    enlarge(source, tmp_path / "o.nc", 4)
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        expected = 140 + 0.02 * ((np.arange(200) + 0.5) / 4 - 0.5)
        np.testing.assert_allclose(new.lon.values, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("by", ["node_offset", "actual_range", "neither"])
def test_gridline_registration_is_told(xarray, by, tmp_path):
    """Nodes on the ends of the region become pixels around them, which is said and recorded."""
    attributes = {"node_offset": np.int32(0)} if by == "node_offset" else {}
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, HEIGHTS, LATITUDES, LONGITUDES, attributes=attributes)
    if by == "actual_range":
        with xarray.open_dataset(path) as dataset:
            dataset.load()
        for name in ("lat", "lon"):
            dataset[name].attrs["actual_range"] = dataset[name].values[[0, -1]]
        dataset.to_netcdf(path, engine="h5netcdf")
    notes = enlarge(path, tmp_path / "o.nc", 2)
    assert any("gridline registration" in line for line in notes) == (by != "neither")
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        assert new.attrs.get("node_offset") == (None if by == "neither" else 1)
        if by == "actual_range":
            ends = LONGITUDES[0] - 0.01, LONGITUDES[-1] + 0.01
            assert new.lon.attrs["actual_range"] == pytest.approx(ends)
        assert edges(new.lat.values) == pytest.approx(edges(LATITUDES), abs=1e-12)


def test_planes_stored_sideways(xarray, tmp_path):
    """(lon, lat) is read with latitudes as rows and written as it was stored."""
    dims = ("lon", "lat")
    source = write_netcdf(xarray, tmp_path / "m.nc", HEIGHTS.T, LONGITUDES, LATITUDES, dims=dims)
    assert same(values_of(source)[..., 0], HEIGHTS)
    enlarge(source, tmp_path / "o.nc")
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        assert new.z.dims == dims
        assert same(new.z.values, repeated(HEIGHTS.T))
        assert same(values_of(tmp_path / "o.nc")[..., 0], repeated(HEIGHTS))


def test_time_and_grid_mapping_are_kept(xarray, tmp_path):
    """An axis of length one, its coordinate, the grid mapping and global attributes come along."""
    rasterio = pytest.importorskip("rasterio")
    wkt = rasterio.crs.CRS.from_epsg(32655).to_wkt()
    mapping = {"crs_wkt": wkt, "grid_mapping_name": "transverse_mercator"}
    mapping |= {"GeoTransform": "975.0 50.0 0.0 9020.0 0.0 -40.0"}
    dataset = xarray.Dataset(
        {
            "z": (("time", "y", "x"), HEIGHTS[None], {"grid_mapping": "utm"}),
            "utm": ((), np.int32(0), mapping),
            "other": ("x", np.arange(50.0)),
        },
        {
            "time": ("time", [7.0], {"units": "days since 2020-01-01"}),
            "y": ("y", 9000 - 40.0 * np.arange(40), {"units": "m"}),
            "x": ("x", 1000 + 50.0 * np.arange(50), {"units": "m"}),
        },
        {"title": "a survey"},
    )
    dataset.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    [note] = enlarge(tmp_path / "m.nc", tmp_path / "o.nc", 2)
    assert note.endswith("not copied to the result: other.")
    with xarray.open_dataset(tmp_path / "o.nc", decode_times=False) as new:
        assert new.z.dims == ("time", "y", "x")
        assert same(new.z.values, repeated(HEIGHTS, 2)[None])
        assert new.z.attrs["grid_mapping"] == "utm"
        assert new.utm.attrs["crs_wkt"] == wkt
        assert new.utm.attrs["GeoTransform"] == "975.0 25.0 0.0 9020.0 0.0 -20.0"
        assert (new.time.values.tolist(), new.time.attrs["units"]) == (
            [7.0],
            "days since 2020-01-01",
        )
        assert new.attrs["title"] == "a survey"
        assert "sr-toolbox: m.nc enlarged 2 times" in new.attrs["history"]
    enlarge(tmp_path / "m.nc", tmp_path / "o.tif", 2)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.crs.to_epsg() == 32655
        assert tuple(new.bounds) == (975, 7420, 3475, 9020)


def test_classic_netcdf(xarray, tmp_path):
    """A NetCDF-3 file is read and comes out as NetCDF-4."""
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, HEIGHTS, LATITUDES, LONGITUDES, engine="scipy")
    assert path.read_bytes()[:3] == b"CDF"
    enlarge(path, tmp_path / "o.nc")
    assert (tmp_path / "o.nc").read_bytes()[1:4] == b"HDF"
    assert same(values_of(tmp_path / "o.nc")[..., 0], repeated(HEIGHTS))


def test_unsigned_bytes_in_the_old_way(xarray, tmp_path):
    """NetCDF-3 has no unsigned bytes but a word for them; the result has the type itself."""
    stored = np.arange(2000, dtype=np.uint8).reshape(40, 50)
    attrs = {"_Unsigned": "true", "_FillValue": np.int8(-1)}
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, stored.view(np.int8), LATITUDES, LONGITUDES, attrs, engine="scipy")
    enlarge(path, tmp_path / "o.nc", 2)
    with xarray.open_dataset(tmp_path / "o.nc", mask_and_scale=False) as new:
        assert (new.z.dtype, new.z.attrs["_FillValue"]) == (np.uint8, 255)
        assert same(new.z.values, repeated(stored, 2))


def test_uneven_coordinates_are_divided_cell_by_cell(xarray, tmp_path):
    """Cells between unevenly spaced centres are halved; no GeoTIFF can say so."""
    stretched = np.cumsum(1 + np.arange(40) / 10) / 100
    source = write_netcdf(xarray, tmp_path / "m.nc", HEIGHTS, stretched, LONGITUDES)
    [note] = enlarge(source, tmp_path / "o.nc", 2)
    assert "not evenly spaced" in note
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        pairs = new.lat.values.reshape(40, 2)
        assert (np.diff(new.lat.values) > 0).all()
        middle = (stretched[1:] + stretched[:-1]) / 2  # edges between cells
        assert ((pairs[:-1, 1] < middle) & (middle < pairs[1:, 0])).all()
    with pytest.raises(DataError, match=r"not evenly spaced.*Name a \.nc file"):
        enlarge(source, tmp_path / "o.tif")


def test_standard_deviation_beside_a_netcdf_variable(xarray, tmp_path):
    """A further band becomes a further variable, float32 and never negated."""
    attrs = {"units": "m", "positive": "down"}
    depths = -HEIGHTS
    encoding = {"dtype": "int16", "_FillValue": -1}
    source = write_netcdf(
        xarray, tmp_path / "m.nc", depths, LATITUDES, LONGITUDES, attrs, encoding=encoding
    )
    with open_map(source) as reader:
        parts = (np.concatenate([s, s * 0 + 0.25], 2) for s in enlarged(reader, 2))
        write_map(tmp_path / "o.nc", reader, 2, parts, bands=("z", "standard_deviation"))
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        assert new.z.encoding["dtype"] == np.int16
        assert same(new.z.values, repeated(depths.round(), 2))
        assert (new.standard_deviation.values == 0.25).all()
        assert new.standard_deviation.dtype == np.float32
        assert new.standard_deviation.attrs["units"] == "m"
        assert new.z.attrs["ancillary_variables"] == "standard_deviation"


def test_bounds_and_helpers_are_no_maps(xarray, tmp_path):
    """Bounds of cells do not count as planes; of several real planes one must be chosen."""
    bounds = {"lat_bnds": (("lat", "two"), np.zeros((40, 2)))}
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, HEIGHTS, LATITUDES, LONGITUDES, variables=bounds)
    with xarray.open_dataset(path) as dataset:
        dataset.load()
    dataset.lat.attrs["bounds"] = "lat_bnds"
    dataset.to_netcdf(path, engine="h5netcdf")
    assert "lat_bnds" in enlarge(path, tmp_path / "o.nc")[-1]
    assert same(values_of(tmp_path / "o.nc")[..., 0], repeated(HEIGHTS))
    dataset["tid"] = dataset.z + 1
    dataset.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataError, match=r"variable must be one of .*tid.*; received none"):
        open_map(path)
    assert same(values_of(path, variable="tid")[..., 0], HEIGHTS + 1)


def test_netcdf_to_geotiff_is_north_up(rasterio, xarray, tmp_path):
    """Rows that run north are turned; degrees are WGS 84; names and units come along."""
    attrs = {"units": "m", "long_name": "bed elevation"}
    source = write_netcdf(xarray, tmp_path / "m.nc", HEIGHTS, LATITUDES, LONGITUDES, attrs)
    enlarge(source, tmp_path / "o.tif", 2)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.crs.to_epsg() == 4326
        assert new.transform.e < 0
        assert tuple(new.bounds) == pytest.approx((139.99, 9.995, 140.99, 10.395))
        assert (new.descriptions, new.units) == (("bed elevation",), ("m",))
        assert same(new.read(1), repeated(HEIGHTS, 2)[::-1])


@pytest.mark.parametrize("epsg", [4326, 32655])
def test_geotiff_to_netcdf(rasterio, xarray, epsg, tmp_path):
    """Centres, CRS, nodata and type are those of the GeoTIFF, and the way back is exact."""
    affine = rasterio.Affine(0.5, 0, 100, 0, -0.25, 20)
    plane = HEIGHTS.astype(np.int16)
    plane[0, 0] = -9999
    options = {"transform": affine, "crs": f"EPSG:{epsg}", "nodata": -9999}
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None], **options)
    enlarge(source, tmp_path / "o.nc", 2)
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        rows, columns = new.z.dims
        assert (rows, columns) == (("lat", "lon") if epsg == 4326 else ("y", "x"))
        assert edges(new[rows].values) == pytest.approx((20, 10))
        assert new.z.encoding["dtype"] == np.int16
        assert np.isnan(new.z.values).sum() == 4
    enlarge(tmp_path / "o.nc", tmp_path / "back.tif", 1)
    with rasterio.open(tmp_path / "back.tif") as back:
        assert back.crs.to_epsg() == epsg
        assert tuple(back.bounds) == pytest.approx((100, 10, 125, 20))
        assert back.nodata == -9999
        assert same(back.read(1), repeated(plane, 2))


# -- Sign ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attrs", "sign", "turned", "reason"),
    [
        ({"positive": "down"}, -1, True, "declared by the attribute positive = 'down'"),
        ({"positive": "up", "long_name": "depth"}, -1, False, "attribute positive = 'up'"),
        ({"standard_name": "sea_floor_depth_below_geoid"}, -1, True, "standard_name 'sea_floor"),
        ({"standard_name": "surface_altitude"}, -1, False, "standard_name 'surface_altitude'"),
        ({"units": "m, positive down"}, -1, True, "declared by units 'm, positive down'"),
        ({"long_name": "Water Depth"}, -1, True, "named so by long_name 'Water Depth'"),
        ({"long_name": "depth"}, 1, False, "most values are not above 0"),
        ({"long_name": "elevation"}, -1, False, "named so by long_name 'elevation'"),
        ({"long_name": "elevation or depth"}, -1, False, "contradict one another"),
        ({}, -1, False, "assumed.*all sampled values are above 0"),
        ({}, 1, False, "assumed, as the file does not say$"),
    ],
)
def test_sign_is_found_and_explained(xarray, attrs, sign, turned, reason, tmp_path):
    """Attributes come before names, names before nothing; values alone never turn the sign."""
    path = tmp_path / "m.nc"
    write_netcdf(xarray, path, sign * HEIGHTS, LATITUDES, LONGITUDES, attrs)
    with open_map(path) as reader:
        assert reader.positive == ("down" if turned else "up")
        assert re.search(reason, reader.positive_reason)
        assert same(reader.read(ALL, ALL)[..., 0], (-sign if turned else sign) * HEIGHTS)
    enlarge(path, tmp_path / "o.nc", 2)
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        assert same(new.z.values, repeated(sign * HEIGHTS, 2))


def test_depth_that_is_negative_is_warned_of(xarray, tmp_path):
    """A standard name is believed, but not without a warning; the user has the last word."""
    attrs = {"standard_name": "depth"}
    source = write_netcdf(xarray, tmp_path / "m.nc", HEIGHTS, LATITUDES, LONGITUDES, attrs)
    with open_map(source) as reader:
        assert reader.positive == "down"
        assert "most of its values are negative" in reader.notes[0]
    with open_map(source, positive="up") as reader:
        assert reader.positive_reason == "declared by the user"
        assert reader.notes == []
    with pytest.raises(DataError, match="positive must be 'up' or 'down'; received 'left'"):
        open_map(source, positive="left")


def test_sign_of_a_geotiff(rasterio, tmp_path):
    """The band's description and the file's tags are heard."""
    source = write_tiff(rasterio, tmp_path / "m.tif", -HEIGHTS[None])
    with rasterio.open(source, "r+") as file:
        file.descriptions = ["Depth"]
    with open_map(source) as reader:
        assert reader.positive == "down"
        assert "the band's description 'Depth'" in reader.positive_reason
    enlarge(source, tmp_path / "o.nc", 2)
    with open_map(tmp_path / "o.nc") as reader:
        assert "attribute positive = 'down'" in reader.positive_reason
        assert same(reader.read(ALL, ALL)[..., 0], repeated(HEIGHTS, 2))
    with open_map(grid(CAIRNS)) as reader:
        assert reader.positive_reason == "declared by the tag units 'm, positive up'"


def test_second_band_of_a_bag_is_its_uncertainty(rasterio, tmp_path):
    """A band of any other name is refused, before the work and while writing."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS[None])
    names = ("depth", "within_range")
    with open_map(source, positive="up") as reader:
        parts = (np.concatenate([s, s * 0 + 1], 2) for s in enlarged(reader, 2))
        message = r"o\.bag: the second band .* must be 'standard_deviation'.*'within_range'"
        with pytest.raises(DataError, match=message):
            check_output(tmp_path / "o.bag", reader, 2, bands=names)
        with pytest.raises(DataError, match=message):
            write_map(tmp_path / "o.bag", reader, 2, parts, bands=names)
        check_output(tmp_path / "o.bag", reader, 2, bands=("depth", "standard_deviation"))
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]


def test_provenance_replaces_that_of_the_input(rasterio, tmp_path):
    """Its tags are the last word in a plain GeoTIFF and a cloud-optimised one; without: none."""
    source = write_tiff(rasterio, tmp_path / "m.tif", HEIGHTS[None])
    with rasterio.open(source, "r+") as file:
        file.update_tags(PROCESSING="older", AUTHOR="somebody")
    made = Provenance("net", {"NOT_FOR_NAVIGATION": "yes"}, "Beware.")
    expected = {
        "PROCESSING": f"super-resolved x2 by net (sr-toolbox {__version__})",
        "SOURCE_FILE": "m.tif",
        "NOT_FOR_NAVIGATION": "yes",
        "AUTHOR": "somebody",
    }
    for cog in (False, True):
        enlarge(source, tmp_path / "o.tif", 2, provenance=made, cog=cog)
        with rasterio.open(tmp_path / "o.tif") as new:
            assert expected.items() <= new.tags().items()
    enlarge(source, tmp_path / "o.tif", 2)
    with rasterio.open(tmp_path / "o.tif") as new:
        assert new.tags()["PROCESSING"] == "older"
        assert "SOURCE_FILE" not in new.tags()
    assert Provenance("net").comment(1, "m.tif").startswith("Restored by net (sr-toolbox ")


def test_abstract_of_a_bag(rasterio, tmp_path):
    """The provenance is in the XML of a BAG; rasterio writes it in capitals."""
    h5py = pytest.importorskip("h5py")
    if default_output_suffix("a.bag") != ".bag":
        pytest.skip("this GDAL has no BAG driver")
    source = write_tiff(rasterio, tmp_path / "a&b.tif", HEIGHTS[None])
    enlarge(source, tmp_path / "o.bag", 2, provenance=Provenance("net", remark="Beware."))
    with h5py.File(tmp_path / "o.bag") as file:
        text = b"".join(file["BAG_root/metadata"][...].ravel()).decode()
    abstract = ElementTree.fromstring(text).find(".//{*}abstract/{*}CharacterString").text
    said = Provenance("net", remark="Beware.").comment(2, "a&b.tif")
    assert abstract.lower() == said.lower()
    with rasterio.open(tmp_path / "o.bag") as new:
        assert same(new.read(1), repeated(HEIGHTS, 2))


def test_bag_is_always_positive_up(rasterio, tmp_path):
    """Depths become the elevations that a BAG holds; its second band can be a given one."""
    if default_output_suffix("a.bag") != ".bag":
        pytest.skip("this GDAL has no BAG driver")
    source = write_tiff(rasterio, tmp_path / "m.tif", -HEIGHTS[None])
    with open_map(source, positive="down") as reader:
        parts = (np.concatenate([s, s * 0 + 0.25], 2) for s in enlarged(reader, 2))
        write_map(tmp_path / "o.bag", reader, 2, parts, bands=("depth", "standard_deviation"))
        assert any("written as the uncertainty" in line for line in reader.notes)
    with rasterio.open(tmp_path / "o.bag") as new:
        assert same(new.read(1), repeated(HEIGHTS, 2))
        assert (new.read(2) == 0.25).all()
    enlarge(source, tmp_path / "p.bag", 2, positive="down")
    with rasterio.open(tmp_path / "p.bag") as new:
        assert same(new.read(1), repeated(HEIGHTS, 2))
        assert new.read(2, masked=True).mask.all()


# -- Arrays and images ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".pkl"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16, ">f4", np.uint8])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (40, 50, 1), (1, 40, 50)])
def test_arrays_there_and_back(suffix, dtype, shape, tmp_path):
    """Type and axes are kept, apart from a first axis of one."""
    count = int(np.prod(shape))
    array = np.resize(np.abs(HEIGHTS.ravel()[:2000]) / 20, count).reshape(shape).astype(dtype)
    path, target = tmp_path / f"m{suffix}", tmp_path / f"o{suffix}"
    save_array(array, path) if suffix == ".pkl" else np.save(path, array)
    enlarge(path, target, 2)
    found = load_array(target) if suffix == ".pkl" else np.load(target)
    plane = array[0] if shape[0] == 1 else array
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert same(found, repeated(plane.astype(np.float32), 2).astype(dtype))


def test_stacks_are_refused(tmp_path):
    """A stack of images is told from an image, in a line that says what to do."""
    for name in ("m.npy", "m.pkl"):
        stack = np.zeros((5, 40, 50))
        save_array(stack, tmp_path / name) if name.endswith("pkl") else np.save(
            tmp_path / name, stack
        )
        with pytest.raises(DataError, match=r"received shape \(5, 40, 50\).*stack \(N, H, W\)"):
            open_map(tmp_path / name)


def test_gaps_in_whole_numbers_of_an_array(rasterio, tmp_path):
    """An array has no place for a nodata: what is written instead is told."""
    plane = HEIGHTS.astype(np.int16)
    plane[4, 4] = -9999
    source = write_tiff(rasterio, tmp_path / "m.tif", plane[None], nodata=-9999)
    [note] = enlarge(source, tmp_path / "o.npy", 2)
    assert "4 missing values are written as -9999, which the file cannot mark" in note
    assert same(np.load(tmp_path / "o.npy"), repeated(plane, 2))
    assert enlarge(tmp_path / "o.npy", tmp_path / "p.npy", nodata=-9999) == []


def test_packed_maps_are_unpacked_in_arrays(xarray, tmp_path):
    """Files that cannot say scale and offset hold the physical values, as float32."""
    encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": 0}
    plane = HEIGHTS.copy()
    plane[0, 0] = np.nan
    source = write_netcdf(
        xarray, tmp_path / "m.nc", plane, LATITUDES, LONGITUDES, encoding=encoding
    )
    enlarge(source, tmp_path / "o.npy", 2)
    found = np.load(tmp_path / "o.npy")
    assert found.dtype == np.float32
    assert same(found, repeated(values_of(source)[..., 0], 2))
    enlarge(source, tmp_path / "o.nc", 2, dtype="float32")
    with xarray.open_dataset(tmp_path / "o.nc") as new:
        assert "scale_factor" not in new.z.encoding
        assert same(new.z.values, found)


def picture(dtype, channels, top):
    """Make a smooth image that JPEG does not spoil."""
    ramp = np.linspace(0, top, 50)[None] * np.linspace(0.2, 1, 40)[:, None]
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]][:channels], -1).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels", "tolerance"),
    [
        (".png", "uint8", 1, 0),
        (".png", "uint8", 3, 0),
        (".png", "uint16", 1, 0),
        (".png", "uint16", 3, 0),
        (".bmp", "uint8", 1, 0),
        (".bmp", "uint8", 3, 0),
        (".jpg", "uint8", 1, 4),
        (".jpeg", "uint8", 3, 12),
        (".JPG", "uint8", 1, 4),
    ],
)
def test_images_there_and_back(suffix, dtype, channels, tolerance, tmp_path):
    """8 and 16 bits, grey or RGB, in the order of colours red, green, blue."""
    image = picture(dtype, channels, np.iinfo(dtype).max)
    path, target = tmp_path / f"m{suffix}", tmp_path / f"o{suffix}"
    assert cv2.imwrite(str(path), image[..., ::-1] if channels == 3 else image)
    with open_map(path) as reader:
        assert (reader.channels, reader.dtype, reader.positive) == (channels, dtype, "up")
        assert reader.positive_reason == "an image"
    assert values_of(path) == pytest.approx(image, abs=tolerance)
    enlarge(path, target, 2)
    found = cv2.imread(str(target), cv2.IMREAD_UNCHANGED).reshape(80, 100, channels)
    assert found.dtype == dtype
    assert found[..., ::-1] == pytest.approx(repeated(image, 2), abs=3 * tolerance)


def test_transparency_of_a_png_is_dropped(tmp_path):
    """Opacity is no brightness; what was hidden is an image all the same."""
    image = np.dstack([picture("uint8", 3, 255), np.zeros((40, 50), np.uint8)])
    cv2.imwrite(str(tmp_path / "m.png"), image[..., [2, 1, 0, 3]])
    assert "alpha channel is dropped" in enlarge(tmp_path / "m.png", tmp_path / "o.png", 2)[0]
    assert same(values_of(tmp_path / "o.png"), repeated(image[..., :3], 2).astype(np.float32))


def test_white_stays_white(tmp_path):
    """The greatest value of an image without gaps is no nodata."""
    np.save(tmp_path / "m.npy", np.full((4, 4), 65535, np.uint16))
    cv2.imwrite(str(tmp_path / "m.png"), np.full((4, 4), 255, np.uint8))
    enlarge(tmp_path / "m.npy", tmp_path / "o.npy")
    enlarge(tmp_path / "m.png", tmp_path / "o.png")
    assert (np.load(tmp_path / "o.npy") == 65535).all()
    assert (values_of(tmp_path / "o.png") == 255).all()


def test_floats_into_pictures(tmp_path):
    """A map of metres is no PNG unless a type is asked for."""
    np.save(tmp_path / "m.npy", HEIGHTS)
    with pytest.raises(
        DataError, match=r"o\.png: \.png can hold uint8 or uint16; received float32"
    ):
        enlarge(tmp_path / "m.npy", tmp_path / "o.png")
    with pytest.raises(DataError, match=r"o\.jpg: \.jpg can hold uint8; received uint16"):
        enlarge(tmp_path / "m.npy", tmp_path / "o.jpg", dtype="uint16")
    assert [p.name for p in tmp_path.iterdir()] == ["m.npy"]
    enlarge(tmp_path / "m.npy", tmp_path / "o.png", 2, positive="down", dtype="uint16")
    assert values_of(tmp_path / "o.png").max() == 0  # negated back to metres below zero
    np.save(tmp_path / "m.npy", -HEIGHTS)
    enlarge(tmp_path / "m.npy", tmp_path / "o.png", 2, dtype="uint16")
    assert same(values_of(tmp_path / "o.png")[..., 0], repeated(np.rint(-HEIGHTS), 2))


# -- Strips and mishaps --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".npy"])
@pytest.mark.parametrize("rows", [1, 255, 700])
def test_any_height_of_strips_gives_the_same_file(rasterio, xarray, suffix, rows, tmp_path):
    """Strips fit no block, chunk or scale, yet all pixels are in their place."""
    tall = np.random.default_rng(2).normal(size=(233, 40)).astype(np.float32)
    source = write_tiff(rasterio, tmp_path / "m.tif", tall[None])
    enlarge(source, tmp_path / f"o{suffix}", rows=rows)
    assert same(values_of(tmp_path / f"o{suffix}")[..., 0], repeated(tall))


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".npy"])
def test_memory_is_bounded_by_strips(rasterio, xarray, suffix, tmp_path):
    """A result of 32 MB is written with a peak far below that."""
    source = write_tiff(rasterio, tmp_path / "m.tif", np.zeros((1, 2000, 64), np.float32))
    with open_map(source) as reader:
        strips = (np.ones((40, 512, 1), np.float32) for _ in range(400))
        tracemalloc.start()
        try:
            write_map(tmp_path / f"o{suffix}", reader, 8, strips)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".bag", ".npy", ".pkl", ".png"])
@pytest.mark.parametrize("old", [False, True])
def test_failure_midway_leaves_what_was_there(rasterio, xarray, suffix, old, tmp_path):
    """No part of a file appears, and an older file of that name survives."""
    source = write_tiff(rasterio, tmp_path / "m.tif", np.ones((1, 40, 50), np.uint8))
    target = tmp_path / "out" / f"o{suffix}"
    target.parent.mkdir()
    if old:
        target.write_bytes(b"precious")

    def broken(reader):
        yield from list(enlarged(reader, 2))[:5]
        raise RuntimeError("power cut")

    with open_map(source) as reader, pytest.raises(RuntimeError, match="power cut"):
        write_map(target, reader, 2, broken(reader))
    assert [p.name for p in target.parent.iterdir()] == [target.name] * old
    if old:
        assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("change", ["short", "long", "narrow", "flat"])
def test_strips_of_another_shape_are_a_bug(change, tmp_path):
    """Too few or many rows, columns or axes are not written."""
    np.save(tmp_path / "m.npy", HEIGHTS)
    with open_map(tmp_path / "m.npy") as reader:
        strip = reader.read(ALL, ALL)
        strips = {
            "short": [strip[:-1]],
            "long": [strip, strip[:1]],
            "narrow": [strip[:, 1:]],
            "flat": [strip[..., 0]],
        }[change]
        with pytest.raises(ValueError, match="strips"):
            write_map(tmp_path / "o.npy", reader, 1, strips)
    assert not (tmp_path / "o.npy").exists()


def test_every_kind_that_is_planned_has_a_writer():
    """The kinds that a plan accepts are those that `write_map` has a writer for."""
    assert sorted(map_writers._WRITERS) == sorted(OUTPUT_SUFFIXES)


def test_unknown_kinds_and_missing_files(tmp_path):
    """One line names the file and the kinds that are known."""
    (tmp_path / "m.xyz").touch()
    np.save(tmp_path / "m.npy", HEIGHTS)
    with pytest.raises(DataError, match=r"m\.xyz: unknown kind of map '\.xyz'.*\.nc.*\.tif"):
        open_map(tmp_path / "m.xyz")
    with pytest.raises(DataError, match=r"none\.tif: no such file"):
        open_map(tmp_path / "none.tif")
    with pytest.raises(DataError, match=r"cannot write '\.xyz'.*\.nc.*\.tif"):
        enlarge(tmp_path / "m.npy", tmp_path / "o.xyz")
    with pytest.raises(DataError, match="has no variables; received 'z'"):
        open_map(tmp_path / "m.npy", "z")


@pytest.mark.parametrize(
    "suffix", [".tif", ".bag", ".nc", ".npy", ".npz", ".pkl", ".png", ".jpg", ".bmp"]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"no raster at all\n" * 20, b"PK\x03\x04" + b"x" * 64],
    ids=["empty", "text", "zip"],
)
def test_garbage_is_refused(rasterio, xarray, suffix, content, tmp_path):
    """A file that is not what its ending says is refused in one line that names it."""
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"map\.") as caught:
        open_map(path)
    if suffix != ".pkl":  # Python's own words about a pickle can be two lines
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tif", ".nc"])
def test_damage_found_while_reading(rasterio, xarray, suffix, tmp_path):
    """A file whose pixels are broken opens, but reading them ends in one line."""
    noise = np.random.default_rng(3).normal(size=(400, 400)).astype(np.float32)
    path = tmp_path / f"m{suffix}"
    if suffix == ".tif":
        write_tiff(rasterio, path, noise[None], compress="deflate", tiled=True)
    else:
        axis, packed = np.arange(400) / 100, {"zlib": True, "chunksizes": (50, 400)}
        write_netcdf(xarray, path, noise, axis, axis, {"positive": "up"}, encoding=packed)
    content = bytearray(path.read_bytes())
    for first in range(40_000, len(content) - 20_000, 5_000):
        content[first : first + 1000] = bytes(1000)
    path.write_bytes(content)
    with (
        open_map(path, positive="up") as reader,
        pytest.raises(DataError, match="pixels cannot be read"),
    ):
        reader.read(ALL, ALL)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".nc"])
@pytest.mark.parametrize("step", [7, 11])
def test_damage_of_every_part_is_one_line(xarray, suffix, step, tmp_path):
    """Bytes overwritten all over a file: it is read or refused, whatever its library raises."""
    values = HEIGHTS[:12, :15]
    path = tmp_path / f"m{suffix}"
    if suffix == ".nc":
        axes = np.arange(12) / 100, np.arange(15) / 100
        write_netcdf(xarray, path, values, *axes, {}, encoding={"zlib": True})
    else:
        {".npy": np.save, ".npz": np.savez_compressed}[suffix](path, values)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, min(len(whole), 900), step):
        content = whole[:place] + b"\xff\x27(\0" + whole[place + 4 :]
        path.write_bytes(content[: len(whole)])
        try:
            with open_map(path) as reader:
                reader.read(ALL, ALL)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10


@pytest.mark.parametrize("place", ["a type", "a number of dimensions"])
def test_a_damaged_classic_netcdf(xarray, place, tmp_path):
    """SciPy raises KeyError and IndexError about the head of a classic file."""
    path = tmp_path / "m.nc"
    data = xarray.Dataset(
        {"z": (("y", "x"), HEIGHTS)}, {"y": np.arange(40.0), "x": np.arange(50.0)}
    )
    data.to_netcdf(path, engine="scipy")
    content = bytearray(path.read_bytes())
    where = content.index(b"z\0\0\0") + (16 if place == "a type" else 4)
    content[where : where + 4] = b"\x7f\0\0\x63"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"m\.nc: cannot be read as NetCDF.*damaged"):
        open_map(path)


@pytest.mark.parametrize(("value", "count"), [(3e38, 3), (-2e18, 2)])
def test_values_beyond_all_computing_are_missing_aloud(value, count, tmp_path):
    """Their squares are infinite in float32; they differ, so no undeclared fill explains them."""
    values = HEIGHTS.copy()
    for number in range(count):
        values[number, 2 * number] = value / (1 + number / 10)
    np.save(tmp_path / "m.npy", values)
    with open_map(tmp_path / "m.npy") as reader:
        read = reader.read(ALL, ALL)[..., 0]
        notes = "\n".join(reader.notes)
    gaps = np.abs(values) > 1e18
    assert gaps.sum() == count
    assert same(read, np.where(gaps, np.nan, values))
    assert re.search(rf"WARNING.*{count} pixels are beyond ±1e\+18.*taken as missing", notes)


def test_default_suffix():
    """The result is of the kind of the input, wherever that kind can be written."""
    assert [default_output_suffix(f"a{s}") for s in (".TIF", ".nc", ".jpg")] == [
        ".tif",
        ".nc",
        ".jpg",
    ]
    assert default_output_suffix("sample:topobathy.npz") == ".npy"
    assert default_output_suffix("a.bag") in (".bag", ".tif")
