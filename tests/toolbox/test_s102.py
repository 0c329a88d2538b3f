"""S-102 cells of the editions 2.0 to 3.0: depths, gaps, places, signs, coverages, damage."""

import re
import sys

import h5py
import numpy as np
import pytest
import yaml
from s102_cells import (
    COLUMNS,
    DEGREES,
    DEPTHS,
    EDITIONS,
    FILL,
    ONE,
    ROWS,
    UTM,
    uncertainties,
    write_group_f,
    write_s102,
)

from sr_dataset_builder import regions, resize
from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.extras import install_command
from toolbox.io.map_writers import default_output_suffix, write_map
from toolbox.io.maps import MAP_SUFFIXES, open_map
from toolbox.io.raster import read_raster
from toolbox.io.s102 import is_other_hdf5

rasterio = pytest.importorskip("rasterio")


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
        assert any("not copied to the result: uncertainty" in note for note in reader.notes)
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
    expected = np.where(np.isnan(DEPTHS), np.nan, uncertainties(DEPTHS))
    with open_map(path, "uncertainty") as reader:
        np.testing.assert_array_equal(whole(reader), expected)
        assert (reader.positive, reader.declared_sign) == ("up", None)
    np.testing.assert_array_equal(read_raster(path, "uncertainty").values, expected)
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
    assert any("use 'positive: down'" in note for note in raster.notes)


# -- programs ------------------------------------------------------------------------------------


@pytest.fixture
def sea_floor():
    """Make heights of 160 × 200 nodes, row 0 the southernmost."""
    r, c = np.mgrid[:160, :200]
    return np.round(-900 + 60 * np.sin(r / 9) + 45 * np.cos(c / 7) + r - c / 2).astype(np.float32)


def test_the_builders_take_a_coverage(workshop, sea_floor, capsys):
    """Data set, regions and resize give what they give for the plain array, spacing included."""
    place = (32618, UTM[1], (30.0, 20.0))
    cell = write_s102(workshop.folder / "cell.h5", place=place, coverages=2, depths=-sea_floor)
    np.save(workshop.folder / "plain.npy", sea_floor)
    chosen = {"positive": "down", "group": ONE}
    built = []
    for fname, options in (("plain.npy", {"delta_hr_m": [20.0, 30.0]}), ("cell.h5", chosen)):
        given = {"hr_fname": str(workshop.folder / fname), **options}
        result = workshop.build(overwrite=True, **given)
        assert result.code == 0, result.err
        files = workshop.snapshot(workshop.folder / "built")
        built.append({name: files[name] for name in files if name.endswith(".pkl")})
        folder = workshop.folder / f"sampled_{fname}"
        content = {
            "scale": 4,
            "lr_img_shape": [4, 4],
            "save_dir": str(folder),
            "regions": {"a": {**given, "patches": 40}},
        }
        (workshop.folder / "regions.yml").write_text(yaml.safe_dump(content))
        assert regions.main([str(workshop.folder / "regions.yml")]) == 0
        files = workshop.snapshot(folder)
        built[-1] |= {f"regions {n}": files[n] for n in files if n.endswith((".pkl", ".csv"))}
    assert built[0] == built[1]
    refused = workshop.build(hr_fname=str(cell), overwrite=True)
    refused.refused("has depths in the coverages", f"{ONE} (200 × 160", "'group: ...'")
    assert resize.main([str(cell), "--group", ONE, "--scale", "2"]) == 0
    assert "use 'positive: down'" in capsys.readouterr().out
    small = workshop.read_pickle(workshop.folder / "cell_LR.pkl")
    np.testing.assert_allclose(small, -sea_floor.reshape(80, 2, 100, 2).mean((1, 3)), rtol=1e-6)


# -- coverages -----------------------------------------------------------------------------------


def test_a_coverage_is_chosen(tmp_path):
    """Several are named with their sizes; the words are those of groups in NetCDF."""
    path = write_s102(tmp_path / "cell.h5", coverages=2)
    edited(path, "BathymetryCoverage/BathymetryCoverage.02", verticalDatum=np.uint16(23))
    message = (
        r"coverages BathymetryCoverage\.01 \(7 × 5 pixels of 8 × 4 m\), BathymetryCoverage\.02 "
        r"\(7 × 5 pixels of 16 × 8 m, vertical datum 23\); received no group\. "
        r"Choose one with --group"
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
        (CONTAINER, {"dataOffsetCode": np.uint8(6)}, "dataOffsetCode must be 5 .* received 6\\."),
        (None, {"numPointsLatitudinal": np.uint32(6)}, r"7 × 6 nodes .*but holds 7 × 5\. .*again"),
        (None, {"numPointsLongitudinal": None}, "numPointsLongitudinal; received none"),
        (None, {"gridOriginLatitude": None}, "a number as gridOriginLatitude; received none"),
        (None, {"gridOriginLongitude": np.nan}, "a number as gridOriginLongitude; received"),
        (None, {"gridSpacingLatitudinal": "wide"}, "gridSpacingLatitudinal; received 'wide'"),
        (None, {"gridSpacingLongitudinal": -8.0}, "spacings above 0; received -8, 4"),
        (
            "/",
            {"productSpecification": "INT.IHO.S-102.1.0"},
            "edition 1.0 of S-102; expected edition 2",
        ),
        (
            "/",
            {"productSpecification": "INT.IHO.S-111.1.2"},
            "not S-102.*received 'INT.IHO.S-111.1.2'",
        ),
        ("/", {"productSpecification": None}, "not S-102.*received none"),
        ("/", {"productSpecification": h5py.Empty("S1")}, "not S-102.*received none"),
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
        ({"horizontalCRS": np.int32(-1)}, "horizontalCRS -1 is not a known EPSG code"),
        ({"horizontalCRS": np.int32(99_999)}, "horizontalCRS 99999 is not a known EPSG code"),
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
    with pytest.raises(DataError, match=r"is HDF5, but not S-102.*Give it the correct ending\."):
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
    with pytest.raises(DataError, match="pixels cannot be read; the file may be damaged"):
        open_map(path)


def test_a_cell_that_ends_early(tmp_path):
    """Wherever the download broke off, one line says so."""
    sound = write_s102(tmp_path / "cell.h5").read_bytes()
    path = tmp_path / "torn.h5"
    for size in range(0, len(sound), 997):
        path.write_bytes(sound[:size])
        with pytest.raises(DataError, match="cannot be read as S-102") as caught:
            open_map(path)
        assert "\n" not in str(caught.value)


def test_without_the_libraries(tmp_path, monkeypatch):
    """One line says what to install."""
    path = write_s102(tmp_path / "cell.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    command = re.escape(install_command("geo"))
    with pytest.raises(MissingLibraryError, match=rf"needs h5py and rasterio.*{command}"):
        open_map(path)
