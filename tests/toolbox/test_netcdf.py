"""NetCDF files of several steps, of groups, and of GMT 3; files that are something else."""

import gzip

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.io.map_writers import default_output_suffix, write_map
from toolbox.io.maps import open_map
from toolbox.io.raster import read_raster

xarray = pytest.importorskip("xarray")
h5netcdf = pytest.importorskip("h5netcdf")

ROWS, COLUMNS, STEPS = 4, 5, 3
HEIGHTS = -np.arange(1.0, STEPS * ROWS * COLUMNS + 1).reshape(STEPS, ROWS, COLUMNS)
LATITUDES = np.linspace(10, 10.3, ROWS)
LONGITUDES = np.linspace(20, 20.4, COLUMNS)
DAYS = ("time", [0, 31, 59.5], {"units": "days since 2020-01-01"})
DEGREES = {
    "lat": ("lat", LATITUDES, {"units": "degrees_north"}),
    "lon": ("lon", LONGITUDES, {"units": "degrees_east"}),
}


def values_of(path, **options):
    """Return the heights of a map (H, W)."""
    with open_map(path, **options) as reader:
        return reader.read(slice(None), slice(None))[..., 0]


def write_steps(path, dims=("time", "lat", "lon"), further=DAYS, name="z", **more):
    """Write heights with a further axis, whose dimensions lie in the order of `dims`."""
    axis = further[0] if further else dims[0]
    coords = DEGREES | ({axis: further} if further else {})
    array = xarray.Dataset({name: ((axis, "lat", "lon"), HEIGHTS)}, coords)[name]
    dataset = xarray.Dataset({name: array.transpose(*dims), **more})
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("dims", [("time", "lat", "lon"), ("lat", "lon", "time")], ids="-".join)
@pytest.mark.parametrize(
    ("time", "number"),
    [("1", 0), ("3", 2), ("2020-02-01", 1), ("2020-02-29T12:00:00", 2)],
)
def test_a_step_is_chosen_by_number_or_date(tmp_path, dims, time, number):
    """Wherever the axis lies; the note says which step it is."""
    path = write_steps(tmp_path / "m.nc", dims)
    np.testing.assert_array_equal(values_of(path, time=time), HEIGHTS[number])
    np.testing.assert_array_equal(read_raster(path, time=time).values, HEIGHTS[number])
    with open_map(path, time=time) as reader:
        assert any(f"step {number + 1} of 3 of time" in note for note in reader.notes)
        assert reader.delta_m[0] == pytest.approx(11131.9, rel=1e-3)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (None, r"3 steps of time \(2020-01-01, 2020-02-01, .*received none.*--time 1 to 3"),
        ("4", "received '4', which fits 0"),
        ("0", "received '0', which fits 0"),
        ("2020-02", "received '2020-02', which fits 2"),
        ("now", "received 'now', which fits 0"),
    ],
)
def test_a_step_that_is_not_there(tmp_path, time, words):
    """The message names the steps and the option; what it names works."""
    path = write_steps(tmp_path / "m.nc")
    with pytest.raises(DataError, match=words) as caught:
        open_map(path, time=time)
    assert "\n" not in str(caught.value)


def test_a_further_axis_need_not_be_time(tmp_path):
    """Levels with values, and an axis without coordinates, are chosen in the same way."""
    levels = ("level", [0.0, 10.5, 200.0], {"units": "m"})
    path = write_steps(tmp_path / "l.nc", ("level", "lat", "lon"), levels)
    np.testing.assert_array_equal(values_of(path, time="10.5"), HEIGHTS[1])
    bare = xarray.Dataset({"z": (("run", "row", "column"), HEIGHTS)})
    bare.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="3 steps of run; received none"):
        open_map(tmp_path / "b.nc")
    np.testing.assert_array_equal(values_of(tmp_path / "b.nc", time="2"), HEIGHTS[1])


def test_two_further_axes_are_refused_with_a_way_out(tmp_path):
    """One option cannot choose from two axes."""
    array = np.broadcast_to(HEIGHTS, (2, *HEIGHTS.shape))
    dataset = xarray.Dataset({"z": (("level", "time", "lat", "lon"), array)}, DEGREES)
    dataset.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"level \(2\), time \(3\).*ds\.isel\(time=0\)"):
        open_map(tmp_path / "m.nc", time="1")
    dataset.isel(time=0).to_netcdf(tmp_path / "less.nc", engine="h5netcdf")
    np.testing.assert_array_equal(values_of(tmp_path / "less.nc", time="2"), HEIGHTS[0])


def test_a_plane_goes_before_a_stack(tmp_path):
    """Beside tides of many hours the depth is what is meant, unless a step is named."""
    more = {"depth": (("lat", "lon"), -HEIGHTS[0])}
    path = write_steps(tmp_path / "m.nc", name="tide", **more)
    np.testing.assert_array_equal(values_of(path, positive="up"), -HEIGHTS[0])
    np.testing.assert_array_equal(values_of(path, time="2", positive="up"), HEIGHTS[1])
    np.testing.assert_array_equal(values_of(path, variable="tide", time="3"), HEIGHTS[2])
    with pytest.raises(DataError, match=r"depth has no axis other than.*Leave out time"):
        open_map(path, variable="depth", time="3")


@pytest.mark.parametrize("ending", [".nc", ".tif"])
def test_the_result_of_a_step_lies_where_it_did(tmp_path, ending):
    """Written at twice the size: one step, with its time, on finer coordinates."""
    if ending == ".tif":
        rasterio = pytest.importorskip("rasterio")
    path, result = write_steps(tmp_path / "m.nc"), tmp_path / f"fine{ending}"
    with open_map(path, time="2") as reader:
        fine = reader.read(slice(None), slice(None)).repeat(2, 0).repeat(2, 1)
        write_map(result, reader, 2, [fine])
    if ending == ".tif":
        with rasterio.open(result) as new:
            assert new.bounds.left == pytest.approx(19.95)
            assert new.bounds.top == pytest.approx(10.35)
        return
    with xarray.open_dataset(result) as new:
        assert new.z.dims == ("time", "lat", "lon")
        assert str(new.time.values[0]).startswith("2020-02-01")
        np.testing.assert_array_equal(new.z[0, ::2, ::2], HEIGHTS[1])
        np.testing.assert_allclose(new.lat[:2], [9.975, 10.025])


# -- groups --------------------------------------------------------------------------------------


def write_groups(path, groups, around=None):
    """Write heights into groups; the coordinates into the file itself, unless `around` differs."""
    outer = xarray.Dataset(coords=DEGREES) if around is None else around
    outer.to_netcdf(path, engine="h5netcdf")
    for number, group in enumerate(groups):
        plane = xarray.Dataset({"z": (("lat", "lon"), HEIGHTS[number])})
        if around is not None:
            plane = plane.assign_coords(DEGREES)
        plane.to_netcdf(path, mode="a", group=group, engine="h5netcdf")
    return path


@pytest.mark.parametrize("inherit", [True, False])
def test_a_group_is_chosen(tmp_path, inherit):
    """With its own coordinates, or those of the file around it."""
    around = None if inherit else xarray.Dataset()
    path = write_groups(tmp_path / "g.nc", ["coarse", "survey/fine"], around)
    with pytest.raises(DataError, match=r"groups coarse, survey/fine; received no group.*--group"):
        open_map(path)
    for number, group in enumerate(("coarse", "/survey/fine/")):
        np.testing.assert_array_equal(values_of(path, group=group), HEIGHTS[number])
        with open_map(path, group=group) as reader:
            assert reader.transform == pytest.approx((0.1, 0, 19.95, 0, 0.1, 9.95))
            assert reader.crs == "EPSG:4326"
    np.testing.assert_array_equal(read_raster(path, group="coarse").values, HEIGHTS[0])
    with pytest.raises(DataError, match="one of coarse, survey, survey/fine; received 'survay'"):
        open_map(path, group="survay")


def test_the_only_group_is_read_and_said(tmp_path):
    """There is nothing to choose."""
    path = write_groups(tmp_path / "g.nc", ["a/b"])
    np.testing.assert_array_equal(values_of(path), HEIGHTS[0])
    with open_map(path) as reader:
        assert f"{path}: the group a/b is read." in reader.notes


def test_group_and_time_are_for_netcdf(tmp_path):
    """Elsewhere they are refused, and so is a group of a file without any."""
    np.save(tmp_path / "m.npy", HEIGHTS[0])
    for option in ("time", "group"):
        with pytest.raises(DataError, match=f"{option} is for NetCDF files; received '1'"):
            open_map(tmp_path / "m.npy", **{option: "1"})
    path = write_steps(tmp_path / "m.nc")
    with pytest.raises(DataError, match="group must be left out, as the file has no groups"):
        open_map(path, time="1", group="a")


# -- GMT 3 ---------------------------------------------------------------------------------------


def write_gmt3(path, cells=0, rows=ROWS, units="user_x_unit"):
    """Write a grid as GMT 3 did: classic NetCDF, one row of heights from the north-west on."""
    plane = HEIGHTS[0][::-1].astype(np.float32)  # HEIGHTS[0][0] is the southern row
    half = 0.05 * cells
    dataset = xarray.Dataset(
        {
            "x_range": ("side", [20 - half, 20.4 + half], {"units": units}),
            "y_range": ("side", [10 - half, 10.3 + half], {"units": units.replace("x", "y")}),
            "z_range": ("side", [plane.min(), plane.max()], {"units": "m"}),
            "spacing": ("side", [0.1, 0.1]),
            "dimension": ("side", np.array([COLUMNS, rows], np.int32)),
            "z": (
                "xysize",
                plane.ravel(),
                {"scale_factor": 1.0, "add_offset": 0.0, "node_offset": np.int32(cells)},
            ),
        },
        attrs={"title": "old", "source": "surface"},
    )
    dataset.to_netcdf(path, engine="scipy", format="NETCDF3_CLASSIC")
    return path


@pytest.mark.parametrize("ending", [".grd", ".nc"])
@pytest.mark.parametrize("cells", [0, 1])
def test_a_grid_of_gmt_3(tmp_path, ending, cells):
    """The row of heights is a plane again, north up, in either registration."""
    path = write_gmt3(tmp_path / f"m{ending}", cells, units="degrees_x")
    np.testing.assert_array_equal(values_of(path), HEIGHTS[0][::-1])
    with open_map(path) as reader:
        assert reader.transform == pytest.approx((0.1, 0, 19.95, 0, -0.1, 10.35))
        assert reader.gridline == (cells == 0)
        assert reader.units == "m"
        write_map(tmp_path / "fine.nc", reader, 2, [np.zeros((2 * ROWS, 2 * COLUMNS, 1))])
    with xarray.open_dataset(tmp_path / "fine.nc") as new:
        assert (new.z.dims, new.z.shape) == (("y", "x"), (2 * ROWS, 2 * COLUMNS))
        assert float(new.y[0]) == pytest.approx(10.325)
        assert new.attrs["node_offset"] == 1
    assert default_output_suffix(path) == ".nc"


def test_a_damaged_grid_of_gmt_3(tmp_path):
    """Its own size contradicts the number of heights."""
    path = write_gmt3(tmp_path / "m.grd", rows=ROWS + 1)
    with pytest.raises(DataError, match="5 × 5 nodes, but holds 20"):
        open_map(path)


# -- something else ------------------------------------------------------------------------------

PAGE = b"\n<!DOCTYPE html>\n<html><body>404: please log in</body></html>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PAGE, r"it is a web page \(HTML\)\. Open it .* download the file again\."),
        (b'<?xml version="1.0"?>\n<html xmlns="">', r"it is a web page \(HTML\)"),
        (b'<?xml version="1.0"?><ServiceException>', "it is an XML file"),
        (b'{"error": "token"}', "it is a JSON file"),
        (b"", "it is empty"),
        (gzip.compress(b"CDF", mtime=0), r"it is a compressed file\. Unpack it first\."),
        (b"%PDF-1.7", "it is a PDF document"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "Git LFS pointer, not the file. Run git lfs pull",
        ),
    ],
)
@pytest.mark.parametrize("name", ["m.nc", "m.grd", "m.tif", "m.asc", "m.png"])
def test_what_was_downloaded_instead(tmp_path, name, content, words):
    """One whole sentence says what the file is, whatever kind it claims to be."""
    if name.endswith((".tif", ".asc", ".grd")):
        pytest.importorskip("rasterio")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"cannot be read as .*{words}") as caught:
        open_map(tmp_path / name)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_one_kind_under_the_ending_of_another(tmp_path):
    """A TIFF that is called .nc keeps its data: it is to be renamed."""
    (tmp_path / "m.nc").write_bytes(b"II*\0rest")
    with pytest.raises(DataError, match=r"it is a TIFF\. Give it the correct ending\."):
        open_map(tmp_path / "m.nc")


@pytest.mark.parametrize("keep", [30, 900])
def test_a_torn_netcdf_is_no_other_kind(tmp_path, keep):
    """The beginning is right, so the message asks for damage, in a whole sentence."""
    path = write_steps(tmp_path / "m.nc")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be read as NetCDF.*Is the file damaged\?$"):
        open_map(path)


def test_text_with_nul_characters_can_be_written_again(tmp_path):
    """A damaged classic file may hold them in attributes; HDF5, of which results are, may not."""
    xarray = pytest.importorskip("xarray")
    data = xarray.Dataset({"z": (("y", "x"), np.ones((4, 5), np.float32), {"comment": "a_b_c"})})
    data.attrs["title"] = "t_u"
    path = tmp_path / "m.nc"
    data.to_netcdf(path, engine="scipy")
    path.write_bytes(path.read_bytes().replace(b"a_b_c", b"a\0b\0c").replace(b"t_u", b"t\0u"))
    with open_map(path) as reader:
        write_map(tmp_path / "o.nc", reader, 1, [reader.read(slice(None), slice(None))])
    with xarray.open_dataset(tmp_path / "o.nc") as written:
        assert written["z"].attrs["comment"] == "abc"
        assert written.attrs["title"] == "tu"
