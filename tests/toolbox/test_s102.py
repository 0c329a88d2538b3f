"""S-102 cells of the editions 2.0 to 3.0: depths, gaps, places, signs, coverages; BAG beside them.

The cells are written here as the standard lays them out: IHO S-102, Bathymetric Surface Product
Specification, editions 2.0.0 (2019), 2.1.0, 2.2.0 and 3.0.0, clause 10 and the annex on the HDF5
encoding, with S-100 part 10c. Names and types of the attributes were compared with what NOAA's
s100py 2.0.1 writes, and places and values of edition 2 with what GDAL 3.10 reads.
"""


import numpy as np
import pytest

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.map_writers import default_output_suffix, write_map
from toolbox.io.maps import MAP_SUFFIXES, open_map
from toolbox.io.raster import read_raster
from toolbox.io.s102 import is_other_hdf5

h5py = pytest.importorskip("h5py")
rasterio = pytest.importorskip("rasterio")

ROWS, COLUMNS, FILL = 5, 7, 1_000_000.0
#: Positive down, row 0 the southernmost, one gap and one drying height.
DEPTHS = 20 + np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) / 4
DEPTHS[1, 2], DEPTHS[4, 6] = np.nan, -1.5
UNCERTAINTIES = 0.5 + np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) / 100
UNCERTAINTIES[1, 2] = np.nan
#: EPSG code, centre of the south-western node, spacing: x first.
UTM = (32618, (580_000.0, 4_500_000.0), (8.0, 4.0))
DEGREES = (4326, (-74.05, 40.6), (0.0001, 0.0002))
EDITIONS = ("2.0", "2.1", "2.2", "3.0")
ONE = "BathymetryCoverage.01"


def write_s102(path, edition="3.0", place=UTM, coverages=1, depths=DEPTHS, fields=2):
    """Write a cell; every further coverage is 10 m deeper and twice as coarse."""
    code, (x, y), (dx, dy) = place
    axes = ["Longitude", "Latitude"] if code == 4326 else ["Easting", "Northing"]
    with h5py.File(path, "w") as file:
        file.attrs["productSpecification"] = f"INT.IHO.S-102.{edition}" + ".0" * (edition == "3.0")
        file.attrs["issueDate"] = "20240301"
        write_root(file, edition, code)
        write_group_f(file, fields)
        container = file.create_group("BathymetryCoverage")
        container["axisNames"] = np.array(axes, h5py.string_dtype())
        container.attrs["dataCodingFormat"] = enum(2 if edition in ("2.0", "3.0") else 9)
        container.attrs["dimension"] = np.uint8(2)
        container.attrs["numInstances"] = np.uint8(coverages)
        container.attrs["sequencingRule.type"] = enum(1)
        container.attrs["sequencingRule.scanDirection"] = ", ".join(axes)
        if edition == "3.0":
            container.attrs["dataOffsetCode"] = enum(5)
        for number in range(coverages):
            coverage = container.create_group(f"BathymetryCoverage.{number + 1:02}")
            coverage.attrs["gridOriginLongitude"] = np.float64(x)
            coverage.attrs["gridOriginLatitude"] = np.float64(y)
            coverage.attrs["gridSpacingLongitudinal"] = np.float64(dx * 2**number)
            coverage.attrs["gridSpacingLatitudinal"] = np.float64(dy * 2**number)
            coverage.attrs["numPointsLongitudinal"] = np.uint32(depths.shape[1])
            coverage.attrs["numPointsLatitudinal"] = np.uint32(depths.shape[0])
            coverage.attrs["startSequence"] = "0,0"
            coverage.attrs["numGRP"] = np.uint8(1)
            records = np.zeros(depths.shape, [("depth", "<f4"), ("uncertainty", "<f4")][:fields])
            records["depth"] = np.nan_to_num(depths + 10 * number, nan=FILL)
            if fields == 2:
                records["uncertainty"] = np.nan_to_num(UNCERTAINTIES, nan=FILL)
            group = coverage.create_group("Group_001")
            group.create_dataset("values", data=records, chunks=(2, 3), compression="gzip")
        if edition in ("2.2", "3.0"):
            named = "QualityOfSurvey" if edition == "2.2" else "QualityOfBathymetryCoverage"
            file.create_group(named).attrs["dataCodingFormat"] = enum(9)
    return path


def enum(number):
    """Return a number of an HDF5 enumeration, as the standard wants it."""
    kind = h5py.enum_dtype({"one": 1, "two": 2, "five": 5, "nine": 9}, basetype="u1")
    return np.array(number, kind)


def write_root(file, edition, code):
    """Write what says the systems: of the plane before edition 2.2 in two attributes."""
    if edition in ("2.0", "2.1"):
        file.attrs["horizontalDatumReference"] = np.bytes_("EPSG")
        file.attrs["horizontalDatumValue"] = np.int16(code) if code < 2**15 else np.int32(code)
        return
    file.attrs["horizontalCRS"] = np.int32(code)
    file.attrs["verticalCS"] = np.int32(6498)
    file.attrs["verticalDatum"] = np.uint16(12)


def write_group_f(file, fields=2, fill="1000000", unit="metres"):
    """Write what every field means."""
    names = ("code", "name", "uom.name", "fillValue", "datatype", "lower", "upper", "closure")
    rows = [
        ("depth", "depth", unit, fill, "H5T_FLOAT", "-12000", "12000", "closedInterval"),
        ("uncertainty", "uncertainty", unit, fill, "H5T_FLOAT", "0", "", "geSemiInterval"),
    ]
    kind = np.dtype([(name, h5py.string_dtype()) for name in names])
    group = file.require_group("Group_F")
    group["BathymetryCoverage"] = np.array(rows[:fields], kind)
    group["featureCode"] = np.array(["BathymetryCoverage"], h5py.string_dtype())


def edited(path, place=f"BathymetryCoverage/{ONE}", **attributes):
    """Change attributes of a cell (``None``: take it away; ``__`` is a dot)."""
    with h5py.File(path, "a") as file:
        for name, value in attributes.items():
            name = name.replace("__", ".")
            if value is None:
                del file[place].attrs[name]
            else:
                file[place].attrs[name] = value
    return path


def whole(reader):
    """Return all heights (H, W) of an open map."""
    return reader.read(slice(None), slice(None))[..., 0]


def enlarged(path, result, scale=2, **options):
    """Write every pixel of a map `scale` times in both directions; return what was read."""
    with open_map(path, **options) as reader:
        values = whole(reader)
        write_map(result, reader, scale, [values.repeat(scale, 0).repeat(scale, 1)[..., None]])
    return values


# -- values and places ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", [UTM, DEGREES], ids=["UTM", "degrees"])
@pytest.mark.parametrize("edition", EDITIONS)
def test_depths_become_heights(tmp_path, edition, place):
    """In all editions: negative below the datum, gaps NaN, the node the centre of its pixel."""
    path = write_s102(tmp_path / "102US004NY1BI01.h5", edition, place)
    code, (x, y), (dx, dy) = place
    with open_map(path) as reader:
        np.testing.assert_array_equal(whole(reader), -DEPTHS)
        assert (reader.kind, reader.shape, reader.name) == ("s102", (ROWS, COLUMNS), "depth")
        assert reader.positive == "down"
        assert reader.transform == pytest.approx((dx, 0, x - dx / 2, 0, dy, y - dy / 2))
        assert (reader.crs, reader.units, reader.nodata) == (f"EPSG:{code}", "metres", FILL)
        metres = (4, 8) if code == 32618 else (22.26, 8.45)
        assert reader.delta_m == pytest.approx(metres, rel=1e-3)
        assert not [note for note in reader.notes if "WARNING" in note]
        assert any("not carried over: uncertainty" in note for note in reader.notes)
    raster = read_raster(path, positive="down")
    np.testing.assert_array_equal(raster.values, -DEPTHS)
    assert raster.delta_m == pytest.approx(metres, rel=1e-3)


@pytest.mark.parametrize("place", [UTM, DEGREES], ids=["UTM", "degrees"])
@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_result_is_a_geotiff_where_the_cell_lies(tmp_path, edition, place, scale):
    """North up, with the outer edges, the system, the fill and the sign of the cell."""
    path = write_s102(tmp_path / "cell.h5", edition, place)
    assert default_output_suffix(path) == ".tif"
    enlarged(path, tmp_path / "fine.tif", scale)
    code, (x, y), (dx, dy) = place
    west, south = x - dx / 2, y - dy / 2
    with rasterio.open(tmp_path / "fine.tif") as new:
        assert new.bounds == pytest.approx((west, south, west + 7 * dx, south + 5 * dy), abs=1e-9)
        assert new.transform.e < 0 < new.transform.a
        assert (new.crs.to_epsg(), new.nodata, new.dtypes) == (code, FILL, ("float32",))
        assert (new.tags(1)["positive"], new.units, new.descriptions) == (
            "down",
            ("metres",),
            ("depth",),
        )
        stored = new.read(1, masked=True).filled(np.nan)
        [at_node] = new.sample([(x + 3 * dx, y + dy)])
    np.testing.assert_array_equal(stored[::-1], DEPTHS.repeat(scale, 0).repeat(scale, 1))
    assert at_node[0] == DEPTHS[1, 3]
    with open_map(tmp_path / "fine.tif") as again:
        np.testing.assert_array_equal(whole(again)[::-scale, ::scale], -DEPTHS)


def test_gdal_finds_the_same_place_and_values(tmp_path):
    """An independent reader; the one in rasterio's wheels knows edition 2 only."""
    with rasterio.Env() as env:
        if "S102" not in env.drivers():
            pytest.skip("this GDAL reads no S-102")
    for edition in EDITIONS[:3]:
        path = write_s102(tmp_path / f"{edition}.h5", edition)
        with open_map(path) as reader, rasterio.open(path, driver="S102") as other:
            a, _, c, _, e, f = reader.transform
            assert tuple(other.transform)[:6] == pytest.approx((a, 0, c, 0, -e, f + ROWS * e))
            assert other.crs.to_epsg() == 32618
            np.testing.assert_array_equal(
                other.read(1, masked=True).filled(np.nan)[::-1], -whole(reader)
            )


def test_a_window_is_read_alone(tmp_path, monkeypatch):
    """Never the whole plane: h5py is asked for the rows and columns of the window."""
    path = write_s102(tmp_path / "cell.h5")
    with open_map(path) as reader:
        asked, fields = [], type(reader.records).fields

        class Spied:
            def __init__(self, view):
                self.view = view

            def __getitem__(self, index):
                asked.append(index)
                return self.view[index]

        monkeypatch.setattr(
            type(reader.records), "fields", lambda records, name: Spied(fields(records, name))
        )
        window = reader.read(slice(1, 4), slice(2, 5))[..., 0]
    assert asked == [(slice(1, 4, 1), slice(2, 5, 1))]
    np.testing.assert_array_equal(window, -DEPTHS[1:4, 2:5])


def test_other_kinds_of_result(tmp_path):
    """NetCDF and BAG lie there too; a BAG is always positive up."""
    xarray = pytest.importorskip("xarray")
    path = write_s102(tmp_path / "cell.h5")
    enlarged(path, tmp_path / "fine.nc")
    with xarray.open_dataset(tmp_path / "fine.nc") as new:
        np.testing.assert_array_equal(new.depth, DEPTHS.repeat(2, 0).repeat(2, 1))
        assert new.depth.attrs["positive"] == "down"
        assert (float(new.x[0]), float(new.y[0])) == (UTM[1][0] - 2, UTM[1][1] - 1)
    if default_output_suffix("a.bag") == ".bag":
        square = write_s102(tmp_path / "square.h5", place=(*UTM[:2], (4.0, 4.0)))
        enlarged(square, tmp_path / "fine.bag")
        with rasterio.open(tmp_path / "fine.bag") as new:
            stored = new.read(1, masked=True).filled(np.nan)
        np.testing.assert_array_equal(stored[::-1], -DEPTHS.repeat(2, 0).repeat(2, 1))


def test_uncertainty_on_request(tmp_path):
    """It is read as it is, and another field is refused by name."""
    path = write_s102(tmp_path / "cell.hdf5")
    with open_map(path, "uncertainty") as reader:
        np.testing.assert_array_equal(whole(reader), UNCERTAINTIES)
        assert (reader.positive, reader.declared_sign) == ("up", None)
    np.testing.assert_array_equal(read_raster(path, "uncertainty").values, UNCERTAINTIES)
    with pytest.raises(DataError, match="one of depth, uncertainty; received 'height'"):
        open_map(path, "height")
    bare = write_s102(tmp_path / "bare.s102", fields=1)  # uncertainty is optional in edition 3
    with open_map(bare) as reader:
        np.testing.assert_array_equal(whole(reader), -DEPTHS)
    with pytest.raises(DataError, match="one of depth; received 'uncertainty'"):
        open_map(bare, "uncertainty")


@pytest.mark.parametrize("fill", ["-9999", "1000000.0", "1e6", "nonsense", ""])
def test_fills_are_those_of_the_file_and_of_the_standard(tmp_path, fill):
    """Group_F may say another one, or nothing that can be understood."""
    depths = DEPTHS.copy()
    depths[0, 0] = -9999
    path = write_s102(tmp_path / "cell.h5", depths=depths)
    with h5py.File(path, "a") as file:
        del file["Group_F"]
        write_group_f(file, fill=fill)
    with open_map(path) as reader:
        values = whole(reader)
        assert reader.nodata == (-9999 if fill == "-9999" else FILL)
    assert np.isnan(values[1, 2])
    assert (values[0, 0] == 9999) == (fill != "-9999")
    with h5py.File(path, "a") as file:
        del file["Group_F"]
    with open_map(path) as reader:
        assert (reader.nodata, reader.units) == (FILL, None)


def test_feet_are_converted_and_said(tmp_path):
    """The unit of Group_F goes through the same door as that of any other map."""
    path = write_s102(tmp_path / "cell.h5")
    with h5py.File(path, "a") as file:
        del file["Group_F"]
        write_group_f(file, unit="feet")
    with open_map(path) as reader:
        np.testing.assert_allclose(whole(reader), -DEPTHS * 0.3048, rtol=1e-6)
        assert any("its unit is 'feet'" in note for note in reader.notes)
    enlarged(path, tmp_path / "fine.tif", 1)
    with rasterio.open(tmp_path / "fine.tif") as new:
        np.testing.assert_allclose(new.read(1)[0, 0], DEPTHS[-1, 0], rtol=1e-6)


# -- sign ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edition", "depths", "positive", "reason"),
    [
        ("3.0", DEPTHS, "down", "verticalCS '6498, positive down'"),
        ("2.1", DEPTHS, "down", "the S-102 standard"),
        ("2.0", DEPTHS, "down", "named so by the variable's name 'depth', and most values"),
        ("2.0", -DEPTHS, "up", "most values are not above 0"),
    ],
)
def test_where_the_sign_comes_from(tmp_path, edition, depths, positive, reason):
    """Edition 2.0 had its axis point up (clause 5.2), so there the values decide."""
    path = write_s102(tmp_path / "cell.h5", edition, depths=depths)
    with open_map(path) as reader:
        assert reader.positive == positive
        assert reason in reader.positive_reason
        np.testing.assert_array_equal(whole(reader), -DEPTHS)
    with open_map(path, positive="up") as reader:
        np.testing.assert_array_equal(whole(reader), depths)


def test_heights_by_their_vertical_system(tmp_path):
    """EPSG 6499 points up; the result says so."""
    path = edited(write_s102(tmp_path / "cell.h5", depths=-DEPTHS), "/", verticalCS=np.int32(6499))
    enlarged(path, tmp_path / "fine.tif", 1)
    with rasterio.open(tmp_path / "fine.tif") as new:
        assert new.tags(1)["positive"] == "up"
        assert new.read(1)[0, 0] == -DEPTHS[-1, 0]


@pytest.mark.parametrize("edition", EDITIONS[1:])
def test_elevations_in_a_cell_of_depths_are_doubted(tmp_path, edition):
    """A producer who turned no sign: every cell declares the same, so the values are looked at."""
    path = write_s102(tmp_path / "cell.h5", edition, depths=-DEPTHS)
    with open_map(path) as reader:
        assert any("most of its values are negative" in note for note in reader.checks)


def test_the_builder_says_what_the_cell_declares(tmp_path):
    """As of NetCDF: ``positive`` of the settings holds, and a line says what contradicts it."""
    raster = read_raster(write_s102(tmp_path / "cell.h5"))
    np.testing.assert_array_equal(raster.values, DEPTHS)
    assert any("say 'positive: down'" in note for note in raster.notes)


# -- coverages -----------------------------------------------------------------------------------


def test_a_coverage_is_chosen(tmp_path):
    """Several are named with their sizes; the words are those of groups in NetCDF."""
    path = write_s102(tmp_path / "cell.h5", coverages=2)
    edited(path, "BathymetryCoverage/BathymetryCoverage.02", verticalDatum=np.uint16(23))
    message = (
        r"coverages BathymetryCoverage\.01 \(7 × 5 pixels of 8 × 4 m\), BathymetryCoverage\.02 "
        r"\(7 × 5 pixels of 16 × 8 m, vertical datum 23\); received none\. Choose one with --group"
    )
    with pytest.raises(DataError, match=message):
        open_map(path)
    two = "BathymetryCoverage.02"
    for number, group in enumerate((ONE, f"/BathymetryCoverage/{two}/")):
        with open_map(path, group=group) as reader:
            np.testing.assert_allclose(whole(reader), -DEPTHS - 10 * number)
            assert reader.delta_m == pytest.approx((4 * 2**number, 8 * 2**number))
    np.testing.assert_allclose(read_raster(path, positive="down", group=two).values, -DEPTHS - 10)
    with pytest.raises(DataError, match=rf"group must be one of {ONE}, {two}; received 'x'"):
        open_map(path, group="x")


def test_the_only_coverage_and_time(tmp_path):
    """One may be named; a time is for NetCDF."""
    path = write_s102(tmp_path / "cell.h5")
    with open_map(path, group=ONE) as reader:
        np.testing.assert_array_equal(whole(reader), -DEPTHS)
    with pytest.raises(DataError, match="time is for NetCDF files; received '1'"):
        open_map(path, time="1")


# -- order and place of nodes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "east", "north"), [(1, 0, 0), (2, 1, 1), (3, 1, 0), (4, 0, 1), (5, 0.5, 0.5)]
)
def test_the_node_lies_where_the_code_says(tmp_path, code, east, north):
    """``dataOffsetCode``: in a corner of its cell, or in its centre."""
    path = write_s102(tmp_path / "cell.h5")
    edited(path, "BathymetryCoverage", dataOffsetCode=np.uint8(code))
    _, (x, y), (dx, dy) = UTM
    with open_map(path) as reader:
        assert reader.transform == pytest.approx((dx, 0, x - east * dx, 0, dy, y - north * dy))
        assert any("dataOffsetCode" in note for note in reader.notes) == (code != 5)


@pytest.mark.parametrize("scan", ["Longitude, -Latitude", "easting,-northing"])
def test_rows_from_the_north(tmp_path, scan):
    """The origin stays the south-western node; the first row is the northernmost."""
    path = write_s102(tmp_path / "cell.h5", depths=DEPTHS[::-1])
    edited(path, "BathymetryCoverage", sequencingRule__scanDirection=scan)
    edited(path, startSequence=f"0,{ROWS - 1}")
    enlarged(path, tmp_path / "fine.tif", 1)
    enlarged(write_s102(tmp_path / "usual.h5"), tmp_path / "usual.tif", 1)
    with (
        rasterio.open(tmp_path / "fine.tif") as new,
        rasterio.open(tmp_path / "usual.tif") as usual,
    ):
        assert new.transform == usual.transform
        np.testing.assert_array_equal(new.read(1), usual.read(1))


CONTAINER = "BathymetryCoverage"


@pytest.mark.parametrize(
    ("place", "attributes", "words"),
    [
        (CONTAINER, {"sequencingRule__scanDirection": "Latitude, Longitude"}, "order of its val"),
        (CONTAINER, {"sequencingRule__scanDirection": "-Longitude, Latitude"}, "order of its val"),
        (CONTAINER, {"sequencingRule__scanDirection": "Longitude, -Latitude"}, r"from '0,0'\)"),
        (CONTAINER, {"sequencingRule__scanDirection": "Longitude"}, "scanDirection 'Longitude'"),
        (CONTAINER, {"sequencingRule__type": np.uint8(2)}, r"sequencingRule\.type 2, scanDir"),
        (None, {"startSequence": "0,4"}, "from '0,4'"),
        (None, {"startSequence": "south"}, "from 'south'"),
        (CONTAINER, {"dataOffsetCode": np.uint8(6)}, "dataOffsetCode must be 5 .* received .*6"),
        (None, {"numPointsLatitudinal": np.uint32(6)}, r"7 × 6 nodes .*but holds 7 × 5\. .*again"),
        (None, {"numPointsLongitudinal": None}, "numPointsLongitudinal; received none"),
        (None, {"gridOriginLatitude": None}, "a number as gridOriginLatitude; received none"),
        (None, {"gridOriginLongitude": np.nan}, "a number as gridOriginLongitude; received"),
        (None, {"gridSpacingLatitudinal": "wide"}, "gridSpacingLatitudinal; received 'wide'"),
        (None, {"gridSpacingLongitudinal": -8.0}, "spacings above 0; received -8, 4"),
        ("/", {"productSpecification": "INT.IHO.S-102.1.0"}, "edition 1.0 of S-102; editions 2"),
        ("/", {"productSpecification": "INT.IHO.S-111.1.2"}, "no S-102.*says 'INT.IHO.S-111.1.2'"),
        ("/", {"productSpecification": None}, "no S-102.*it says none"),
        ("/", {"productSpecification": h5py.Empty("S1")}, "no S-102.*it says none"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, place, attributes, words):
    """One line; nothing is guessed of what is missing or contradicts itself."""
    path = write_s102(tmp_path / "cell.h5")
    edited(path, place or f"{CONTAINER}/{ONE}", **attributes)
    with pytest.raises(DataError, match=words) as caught:
        open_map(path)
    assert "\n" not in str(caught.value)
    path.rename(tmp_path / "moved.h5")  # it was closed


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (CONTAINER, "has no group BathymetryCoverage. It is incomplete"),
        (f"{CONTAINER}/{ONE}", "has no group BathymetryCoverage.01"),
        (f"{CONTAINER}/{ONE}/Group_001", "needs one group of values; it has 0"),
        (f"{CONTAINER}/{ONE}/Group_001/values", "no plane of values with named fields"),
    ],
)
def test_what_is_not_there(tmp_path, gone, words):
    """A group or a dataset that is missing, or is something else."""
    path = write_s102(tmp_path / "cell.h5")
    with h5py.File(path, "a") as file:
        del file[gone]
    with pytest.raises(DataError, match=words):
        open_map(path)
    with h5py.File(path, "a") as file:
        file[gone] = np.zeros((ROWS, COLUMNS))
    with pytest.raises(DataError, match=r"It is incomplete or damaged"):
        open_map(path)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"horizontalCRS": None}, "names no horizontalCRS or horizontalDatumValue"),
        ({"horizontalCRS": np.int32(-1)}, "horizontalCRS -1 is no EPSG code known here"),
        ({"horizontalCRS": np.int32(99_999)}, "horizontalCRS 99999 is no EPSG code known here"),
        (
            {"horizontalCRS": None, "horizontalDatumValue": 7, "horizontalDatumReference": "IHO"},
            "horizontalDatumValue 7 is one of 'IHO'",
        ),
    ],
)
def test_a_cell_without_a_known_system(tmp_path, attributes, why):
    """As of a GeoTIFF: one warning, the place stays, the result has no system either."""
    path = edited(write_s102(tmp_path / "cell.h5"), "/", **attributes)
    with open_map(path) as reader:
        assert [why in note for note in reader.notes if note.startswith("WARNING")] == [True]
    enlarged(path, tmp_path / "fine.tif")
    with rasterio.open(tmp_path / "fine.tif") as new:
        assert (new.crs, new.bounds.left) == (None, UTM[1][0] - 4)


# -- other files ---------------------------------------------------------------------------------


def test_other_hdf5_is_refused(tmp_path):
    """What can be told of it is told: weights, NetCDF, BAG."""
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layers/conv/vars/0"] = np.zeros(3)
    with pytest.raises(DataError, match=r"is HDF5, but no S-102.*Give it its own ending\."):
        open_map(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "map.h5", "w") as file:
        file.attrs["_NCProperties"] = "version=2"
    with pytest.raises(DataError, match=r"It is NetCDF: give it the ending \.nc\."):
        open_map(tmp_path / "map.h5")
    with h5py.File(tmp_path / "bag.h5", "w") as file:
        file.create_group("BAG_root")
    with pytest.raises(DataError, match=r"It is a BAG: give it the ending \.bag\."):
        open_map(tmp_path / "bag.h5")
    assert is_other_hdf5(tmp_path / "weights.h5")


@pytest.mark.parametrize("ending", [".h5", ".hdf5", ".s102", ".H5"])
def test_endings(tmp_path, ending):
    """In capitals too; text of that ending is named, a torn cell is asked for damage."""
    path = write_s102(tmp_path / f"cell{ending}")
    np.testing.assert_array_equal(read_raster(path, positive="down").values, -DEPTHS)
    assert path.suffix.lower() in MAP_SUFFIXES
    assert not is_other_hdf5(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cannot be read as S-102.*Is the file damaged\?$"):
        open_map(path)
    assert not is_other_hdf5(path)
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"cannot be read as S-102: it is a web page"):
        open_map(path)


def test_torn_values_are_said(tmp_path):
    """The head is sound, a chunk is not: nothing is made up for it."""
    path = write_s102(tmp_path / "cell.h5")
    with h5py.File(path) as file:
        chunk = file[f"{CONTAINER}/{ONE}/Group_001/values"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with pytest.raises(DataError, match="pixels cannot be read, perhaps it is damaged"):
        open_map(path)


def test_bytes_turned_one_by_one_end_in_a_line(tmp_path):
    """Damage of any place is a DataError or harmless, never a traceback."""
    sound = write_s102(tmp_path / "cell.h5").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.h5"
    for _ in range(150):
        content = bytearray(sound)
        for place in rng.integers(0, len(sound), 20):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            with open_map(path) as reader:
                whole(reader)
        except DataError as error:
            assert "\n" not in str(error)


def test_without_the_libraries(tmp_path, monkeypatch):
    """One line says what to install."""
    path = write_s102(tmp_path / "cell.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingLibraryError, match=r"needs h5py and rasterio.*sr-toolbox\[geo\]"):
        open_map(path)
