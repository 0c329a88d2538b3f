"""Maps in Zarr: read by xarray and GDAL, read back here, and nothing in them is executed."""

import json
import shutil
import sys

import numpy as np
import pytest

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.map_writers import check_output, write_map
from toolbox.io.maps import open_map
from toolbox.io.raster import read_raster
from toolbox.io.zarr_maps import _divisor

zarr = pytest.importorskip("zarr")
xarray = pytest.importorskip("xarray")
rasterio = pytest.importorskip("rasterio")

ALL = slice(None)
VALUES = (-1000 + np.arange(12 * 9.0).reshape(12, 9)).astype(np.float32)


def dataset(crs="EPSG:4326", **attrs):
    """Return a map with coordinates, in a reference system."""
    mapping = {"crs_wkt": rasterio.crs.CRS.from_string(crs).to_wkt()}
    degrees = crs == "EPSG:4326"
    names, units = (("lat", "lon"), ("degrees_north", "degrees_east")) if degrees else (
        ("y", "x"), ("m", "m")
    )  # fmt: skip
    step = 0.01 if degrees else 100.0
    axes = {
        name: (name, start + step * np.arange(size), {"units": unit})
        for name, size, start, unit in zip(names, VALUES.shape, (10.0, 20.0), units, strict=True)
    }
    z = (names, VALUES, {"units": "m", "grid_mapping": "spatial_ref", **attrs})
    return xarray.Dataset({"z": z, "spatial_ref": ((), 0, mapping)}, axes)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32654"])
@pytest.mark.parametrize("version", [2, 3])
def test_there_and_back(tmp_path, crs, version):
    """A Zarr of either format is read with its place, and written as xarray and GDAL read it."""
    consolidated = {} if version == 2 else {"consolidated": False}
    dataset(crs, positive="up").to_zarr(tmp_path / "m.zarr", zarr_format=version, **consolidated)
    with open_map(tmp_path / "m.zarr") as reader:
        assert (reader.kind, reader.positive) == ("zarr", "up")
        assert reader.complete
        np.testing.assert_array_equal(reader.read(ALL, ALL)[..., 0], VALUES)
        fine = VALUES.repeat(2, 0).repeat(2, 1)[..., None]
        write_map(tmp_path / "o.zarr", reader, 2, [fine])
        transform = reader.transform
    with xarray.open_zarr(tmp_path / "o.zarr") as found:  # a warning would be an error
        np.testing.assert_array_equal(found["z"], fine[..., 0])
        assert found["z"].attrs["positive"] == "up"
        assert "spatial_ref" in found["z"].coords
    with rasterio.open(f'ZARR:"{tmp_path / "o.zarr"}":/z') as file:
        np.testing.assert_array_equal(file.read(1), fine[..., 0])
        assert file.crs == rasterio.crs.CRS.from_string(crs)
    with open_map(tmp_path / "o.zarr") as reader:
        halved = [transform[0] / 2, transform[2], transform[4] / 2, transform[5]]
        np.testing.assert_allclose([reader.transform[i] for i in (0, 2, 4, 5)], halved, rtol=1e-9)
    np.testing.assert_array_equal(read_raster(tmp_path / "o.zarr").values, fine[..., 0])


def test_whole_numbers_and_gaps(tmp_path):
    """Depths in whole numbers keep their sign, type and mark of what is missing."""
    depths = dataset(positive="down")
    depths["z"] = depths["z"].copy(data=-VALUES)
    depths["z"][2, 3] = np.nan
    coded = {"z": {"dtype": "int16", "_FillValue": -1}}
    depths.to_zarr(tmp_path / "m.zarr", zarr_format=2, encoding=coded)
    with open_map(tmp_path / "m.zarr") as reader:
        assert (reader.positive, reader.nodata, reader.dtype) == ("down", -1, np.int16)
        assert not reader.complete
        strip = reader.read(ALL, ALL)
        assert np.isnan(strip[2, 3, 0])
        write_map(tmp_path / "o.zarr", reader, 1, [strip])
    array = zarr.open_group(tmp_path / "o.zarr", mode="r")["z"]
    assert (array.dtype, array.fill_value, array[2, 3]) == (np.int16, -1, -1)
    np.testing.assert_array_equal(array[0], -VALUES[0])


def test_groups(tmp_path):
    """A map in a group is found; of several one must be chosen."""
    dataset().to_zarr(tmp_path / "m.zarr", group="survey/fine", zarr_format=2)
    with open_map(tmp_path / "m.zarr") as reader:
        assert any("the group survey/fine is read" in note for note in reader.notes)
    dataset().to_zarr(tmp_path / "m.zarr", group="other", zarr_format=2, mode="a")
    with pytest.raises(DataError, match="has planes in the groups other, survey/fine"):
        open_map(tmp_path / "m.zarr")
    with open_map(tmp_path / "m.zarr", group="other") as reader:
        assert reader.shape == VALUES.shape


def spoiled(folder, name, change):
    """Change a description of an array of a copy."""
    target = folder / name
    shutil.copytree(folder / "m.zarr", target)
    for path in (target / "z").glob("*z*r*"):
        if path.name in (".zarray", "zarr.json"):
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return target


@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        (2, lambda a: {**a, "dtype": "|O"}, "data type '.O'"),
        (2, lambda a: {**a, "dtype": [["x", "<f4"], ["y", "|O"]]}, "the data type"),
        (2, lambda a: {**a, "filters": [{"id": "pickle"}]}, "the codec pickle"),
        (2, lambda a: {**a, "filters": [{"id": "json2"}]}, "the codec json2"),
        (2, lambda a: {**a, "compressor": {"id": "evil"}}, "the codec evil"),
        (3, lambda a: {**a, "codecs": [{"name": "numcodecs.pickle"}]}, "the codec pickle"),
        (
            3,
            lambda a: {
                **a,
                "codecs": [
                    {
                        "name": "sharding_indexed",
                        "configuration": {"codecs": [{"name": "vlen-utf8"}]},
                    }
                ],
            },
            "the codec vlen-utf8",
        ),
        (3, lambda a: {**a, "zarr_format": 9}, "the format 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_objects_of_python_are_refused(tmp_path, version, change, words):
    """Before an array is opened, its type and codecs must be known to hold numbers."""
    consolidated = {} if version == 2 else {"consolidated": False}
    dataset().to_zarr(tmp_path / "m.zarr", zarr_format=version, **consolidated)
    with pytest.raises(DataError, match=f"the array z has .*{words}"):
        open_map(spoiled(tmp_path, "bad.zarr", change))


def test_no_zarr(tmp_path):
    """A folder that is none, a broken description and a missing folder are told apart."""
    (tmp_path / "m.zarr").mkdir()
    with pytest.raises(DataError, match="it is no Zarr"):
        open_map(tmp_path / "m.zarr")
    (tmp_path / "m.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "m.zarr" / "z").mkdir()
    (tmp_path / "m.zarr" / "z" / ".zarray").write_text("{")
    with pytest.raises(DataError, match="no JSON of Zarr"):
        open_map(tmp_path / "m.zarr")
    with pytest.raises(DataError, match=r"other\.zarr: no such file"):
        open_map(tmp_path / "other.zarr")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (".zattrs", "", "cannot be read as Zarr"),
        (".zgroup", "[]", "cannot be read as Zarr"),
        ("z/.zattrs", "{}", "_ARRAY_DIMENSIONS"),
        ("z/.zarray", "{}", "z/.zarray is no JSON of Zarr"),
        ("z/.zarray", '{"zarr_format": 2, "dtype": 5}', "z/.zarray is no JSON of Zarr"),
        ("z/.zarray", '{"zarr_format": 2, "dtype": "<f4", "filters": 5}', "no JSON of Zarr"),
        ("z/zarr.json", '{"zarr_format": 3, "codecs": [{"configuration": 5}]}', "no JSON of Zarr"),
    ],
)
def test_broken_description(tmp_path, name, text, said):
    """Whatever is wrong with a description is one line that names the Zarr and the reason."""
    dataset().to_zarr(tmp_path / "m.zarr", zarr_format=2, consolidated=False)
    (tmp_path / "m.zarr" / name).write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        open_map(tmp_path / "m.zarr")
    assert "m.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_map(tmp_path):
    """A single array, a group of nothing, a file and a factor that is a word are told apart."""
    zarr.create_array(str(tmp_path / "array.zarr"), data=VALUES, zarr_format=3)
    with pytest.raises(DataError, match=r"is a single array; expected a group"):
        open_map(tmp_path / "array.zarr")
    zarr.open_group(str(tmp_path / "none.zarr"), mode="w", zarr_format=3)
    with pytest.raises(DataError, match="holds no variable with rows and columns"):
        open_map(tmp_path / "none.zarr")
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(DataError, match="is a file, but a Zarr is a folder"):
        open_map(tmp_path / "file.zarr")
    dataset().to_zarr(tmp_path / "word.zarr", zarr_format=2, consolidated=False)
    attrs = tmp_path / "word.zarr" / "z" / ".zattrs"
    attrs.write_text(json.dumps({**json.loads(attrs.read_text()), "scale_factor": "x"}))
    with pytest.raises(DataError, match="scale_factor must be a number; received 'x'"):
        open_map(tmp_path / "word.zarr")


def test_damaged_chunk(tmp_path):
    """A chunk that cannot be unpacked is one line."""
    dataset().to_zarr(tmp_path / "m.zarr", zarr_format=2)
    for path in (tmp_path / "m.zarr" / "z").glob("[0-9]*"):
        path.write_bytes(b"\x02\x01\x91" + b"\xff" * 20)
    with pytest.raises(DataError, match=r"m\.zarr"), open_map(tmp_path / "m.zarr") as reader:
        reader.read(ALL, ALL)


def test_without_the_library(tmp_path, monkeypatch):
    """Without zarr one line says how it is installed."""
    np.save(tmp_path / "m.npy", VALUES)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with (
        open_map(tmp_path / "m.npy") as reader,
        pytest.raises(MissingLibraryError, match=r"Run: pip install -e .*\[dask\]"),
    ):
        check_output(tmp_path / "o.zarr", reader, 2)


def test_images_are_refused(tmp_path):
    """Three channels have no place in a Zarr of maps."""
    np.save(tmp_path / "m.npy", np.zeros((4, 5, 3), np.uint8))
    with open_map(tmp_path / "m.npy") as reader, pytest.raises(DataError, match="not RGB images"):
        check_output(tmp_path / "o.zarr", reader, 2)


@pytest.mark.parametrize(
    ("strip", "chunk"),
    [
        (64, 64),
        (1024, 1024),
        (1600, 800),
        (1868, 934),
        (2048, 1024),
        (1009, 1009),
        (4036, 1009),
        (4124, 4124),
    ],
)
def test_chunks_fit_strips(strip, chunk):
    """A strip is a whole number of rows of chunks of a fair size."""
    assert _divisor(strip) == chunk
