"""Grids of ESRI, Surfer and GMT: heights, gaps and places, before and after enlarging."""

import struct

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.io.map_writers import default_output_suffix, write_map
from toolbox.io.maps import open_map
from toolbox.io.raster import read_raster

rasterio = pytest.importorskip("rasterio")

ROWS, COLUMNS, STEP = 4, 5, 50.0
#: North up, a gap in the second row.
HEIGHTS = -100.5 - np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
HEIGHTS[1, 2] = np.nan
#: Centres of the south-western and the north-eastern pixel.
WEST, SOUTH = 500_000.0, 8_000_000.0
EAST, NORTH = WEST + STEP * (COLUMNS - 1), SOUTH + STEP * (ROWS - 1)
BLANK = 1.70141e38


def esri(path, origin="corner", heights=HEIGHTS, nodata=-9999):
    """Write an ASCII grid of ESRI, with its coordinate system beside it."""
    half = STEP / 2 if origin == "corner" else 0
    rows, columns = heights.shape
    head = (
        f"ncols {columns}\nNROWS {rows}\nxll{origin} {WEST - half}\nyll{origin} {SOUTH - half}\n"
        f"cellsize {STEP}\nNODATA_value {nodata}\n"
    )
    body = "\n".join(" ".join("-9999" if np.isnan(v) else f"{v:g}" for v in row) for row in heights)
    path.write_text(f"{head}{body}\n")
    wkt = rasterio.crs.CRS.from_epsg(32655).to_wkt(version="WKT1_ESRI")
    path.with_suffix(".prj").write_text(wkt)
    return path


def surfer_text(path):
    """Write an ASCII grid of Surfer 6: rows from the south."""
    rows = np.nan_to_num(HEIGHTS, nan=BLANK)[::-1]
    body = "\n".join(" ".join(f"{v:.7g}" for v in row) for row in rows)
    path.write_text(f"DSAA\n{COLUMNS} {ROWS}\n{WEST} {EAST}\n{SOUTH} {NORTH}\n-120 -100\n{body}\n")
    return path


def surfer_6(path):
    """Write a binary grid of Surfer 6."""
    head = struct.pack("<4shh6d", b"DSBB", COLUMNS, ROWS, WEST, EAST, SOUTH, NORTH, -120, -100)
    path.write_bytes(head + np.nan_to_num(HEIGHTS, nan=BLANK)[::-1].astype("<f4").tobytes())
    return path


def surfer_7(path):
    """Write a binary grid of Surfer 7."""
    values = np.nan_to_num(HEIGHTS.astype(np.float64), nan=BLANK)[::-1].astype("<f8").tobytes()
    grid = struct.pack("<ii8d", ROWS, COLUMNS, WEST, SOUTH, STEP, STEP, -120.0, -100.0, 0.0, BLANK)
    parts = (b"DSRB", struct.pack("<i", 1)), (b"GRID", grid), (b"DATA", values)
    path.write_bytes(b"".join(name + struct.pack("<i", len(part)) + part for name, part in parts))
    return path


KINDS = {
    "ESRI": (esri, "map.asc"),
    "ESRI, centres": (lambda path: esri(path, "center"), "map.asc"),
    "ESRI as .grd": (esri, "map.GRD"),
    "Surfer, text": (surfer_text, "map.grd"),
    "Surfer 6": (surfer_6, "map.grd"),
    "Surfer 7": (surfer_7, "map.grd"),
}


@pytest.fixture(params=KINDS)
def grid(request, tmp_path):
    """Write a grid of each kind; return its path."""
    write, name = KINDS[request.param]
    return write(tmp_path / name)


def test_values_and_place(grid):
    """North up, gaps NaN, and the node is the centre of its pixel."""
    with open_map(grid) as reader:
        values = reader.read(slice(None), slice(None))[..., 0]
        assert reader.kind == "grid"
        assert reader.transform == pytest.approx((STEP, 0, WEST - 25, 0, -STEP, NORTH + 25))
        known = (grid.suffix.lower() == ".asc") or grid.with_suffix(".prj").exists()
        assert (reader.crs is not None) == known
        assert reader.delta_m == pytest.approx((STEP, STEP))
    np.testing.assert_allclose(values, HEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(read_raster(grid).values, HEIGHTS, rtol=1e-6)


@pytest.mark.parametrize("ending", [".tif", ".nc"])
def test_the_result_lies_where_the_grid_did(grid, tmp_path, ending):
    """Twice as fine, with the same outer edges, gaps and coordinate system."""
    if ending == ".nc":
        xarray = pytest.importorskip("xarray")
    result = tmp_path / f"fine{ending}"
    with open_map(grid) as reader:
        fine = reader.read(slice(None), slice(None)).repeat(2, 0).repeat(2, 1)
        write_map(result, reader, 2, [fine])
        epsg = None if reader.crs is None else reader.crs.to_epsg()
    expected = HEIGHTS.repeat(2, 0).repeat(2, 1)
    assert default_output_suffix(grid) == ".tif"
    if ending == ".nc":
        with xarray.open_dataset(result) as new:
            [name] = [name for name in new.data_vars if new[name].ndim == 2]
            np.testing.assert_allclose(new[name], expected, rtol=1e-6)
            assert float(new.x[0]) == WEST - STEP / 4
            assert float(new.y[0]) == NORTH + STEP / 4
        return
    with rasterio.open(result) as new:
        assert new.bounds == (WEST - 25, SOUTH - 25, EAST + 25, NORTH + 25)
        assert (None if new.crs is None else new.crs.to_epsg()) == epsg
        np.testing.assert_allclose(new.read(1, masked=True).filled(np.nan), expected, rtol=1e-6)
        assert new.profile["compress"] == "deflate"


def test_fractions_that_come_late_are_kept(tmp_path):
    """GDAL takes a grid for whole numbers if the first 100 kB hold no point."""
    heights = np.full((200, 200), -120.0)
    heights[-1] = -120.75
    path = esri(tmp_path / "map.asc", heights=heights)
    assert b"." not in path.read_bytes().split(b"\n", 6)[-1][:100_000]
    np.testing.assert_array_equal(read_raster(path).values, heights)


@pytest.mark.parametrize("name", ["map.asc", "map.grd"])
def test_text_that_is_no_grid(tmp_path, name):
    """One sentence, whichever of the libraries refuses it."""
    (tmp_path / name).write_text("depth depth depth\n")
    with pytest.raises(DataError, match="cannot be read as a raster"):
        open_map(tmp_path / name)


def test_a_torn_grid(tmp_path):
    """A row that is missing is said when it is read; nothing is made up for it."""
    path = esri(tmp_path / "map.asc")
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(DataError, match="the file may be damaged"):
        open_map(path)


@pytest.mark.parametrize("name", ["map.asc", "map.grd"])
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("-104.5", "oops", "row 1, column 5 holds 'oops', which is not a number"),
        ("-105.5", "-1O5.5", "row 2, column 1 holds '-1O5.5'"),
        (" -119.5", "", "5 × 4 values are 20, but it has 19"),
        (" -119.5", " -119.5 -120.5", "but it has 21"),
        ("-100.5", "oops", "oops|it has 18"),
    ],
    ids=["a word", "a letter", "the last is missing", "one too many", "the first"],
)
def test_a_damaged_grid_is_refused(name, before, after, said, tmp_path):
    """GDAL reads 0 for what is no number; here it is said where that is."""
    path = esri(tmp_path / name)
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(DataError, match=f"the file may be damaged.*({said})"):
        open_map(path)


def test_long_grids_and_unusual_numbers_are_read(tmp_path):
    """Words across chunks, decimal commas, exponents, NaN and an end by Ctrl-Z are no damage."""
    heights = -1000 - np.random.default_rng(0).random((500, 400)).round(2)
    path = esri(tmp_path / "map.asc", heights=heights)
    text = path.read_text()
    assert len(text) > 2**20
    np.testing.assert_allclose(read_raster(path).values, heights, rtol=1e-6)
    path = esri(tmp_path / "odd.asc")
    text = path.read_text().replace("-100.5", "nan").replace("-101.5", "-1,015e2")
    path.write_text(text.replace("\n", "\r\n") + "\x1a")
    values = read_raster(path).values
    assert np.isnan(values[0, 0])
    np.testing.assert_array_equal(values.ravel()[1:], HEIGHTS.ravel()[1:])


def test_steps_are_for_netcdf(tmp_path):
    """A grid of ESRI has none."""
    path = esri(tmp_path / "map.grd")
    with pytest.raises(DataError, match="time is for NetCDF files"):
        open_map(path, time="1")
