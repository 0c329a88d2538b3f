"""Maps that grow strip by strip: what `write_map` writes, whatever interrupted them."""

import errno
import io
import itertools

import numpy as np
import pytest

from toolbox.inference.work_file import WorkFile
from toolbox.io.atomic import naming
from toolbox.io.growing import growing_map
from toolbox.io.map_writers import write_map
from toolbox.io.maps import open_map
from toolbox.io.tiff_tiles import TileTable

rasterio = pytest.importorskip("rasterio")
xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"  # some of the maps have none
)
SCALE, EDGES = 8, (0, 160, 320, 480, 640, 720)
BANDS = ("elevation", "lower", "upper", "outside")
ALL = slice(None)


def heights():
    """Return 90 × 70 metres with a gap, below sea level."""
    r, c = np.mgrid[:90, :70]
    values = (-3000 + 40 * np.sin(r / 7) + 30 * np.cos(c / 5) + r).astype(np.float32)
    values[3:9, 20:33] = np.nan
    return values


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Write the same map as .npy, as depths that run north and south, and as whole metres."""
    folder = tmp_path_factory.mktemp("maps")
    values = heights()
    np.save(folder / "m.npy", values)
    mapping = {"crs_wkt": rasterio.crs.CRS.from_epsg(32654).to_wkt()}
    depth = (("y", "x"), -values, {"units": "m", "positive": "down", "grid_mapping": "crs"})
    y, x = np.arange(90) * 100.0 + 50, np.arange(70) * 100.0 + 50
    for name, axis in (("north.nc", y), ("south.nc", y[::-1])):
        dataset = xarray.Dataset({"depth": depth, "crs": ((), 0, mapping)}, {"y": axis, "x": x})
        dataset.to_netcdf(folder / name, engine="h5netcdf")
    profile = {"driver": "GTiff", "height": 90, "width": 70, "count": 1, "dtype": "int16"}
    place = {"crs": "EPSG:32654", "transform": rasterio.Affine(100, 0, 0, 0, -100, 9000)}
    with rasterio.open(
        folder / "i.tif", "w", **profile, **place, nodata=-9999, compress="deflate"
    ) as file:
        file.write(np.where(np.isnan(values), -9999, values).astype(np.int16), 1)
    return folder


def enlarged(reader, bands):
    """Return the strips of a result: every pixel repeated, further bands a metre apart."""
    plane = reader.read(ALL, ALL)[..., 0].repeat(SCALE, 0).repeat(SCALE, 1)
    whole = np.stack([plane + i for i in range(bands)], 2).astype(np.float32)
    return [whole[a:b].copy() for a, b in itertools.pairwise(EDGES)], plane


def content(path):
    """Return the bytes of a file, or of every file of a folder."""
    if path.is_file():
        return path.read_bytes()
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def put_all(source, target, interrupted, **options):
    """Let a map grow; after each strip it is thrown away and resumed, if wanted."""
    with open_map(source) as reader:
        strips, plane = enlarged(reader, len(options["bands"]) or 1)
        growing = growing_map(target, reader, SCALE, strip_rows=160, **options)
        growing.begin()
        for number, strip in enumerate(strips):
            state = growing.put(EDGES[number], strip.copy())
            if interrupted and number < len(strips) - 1:
                growing.put(EDGES[number + 1], strips[number + 1] + 9)  # no journal knows of it
                growing = growing_map(target, reader, SCALE, strip_rows=160, **options)
                assert growing.resume(EDGES[number + 1], state)
        growing.finish()
        return growing, plane, list(reader.notes)


@pytest.mark.parametrize("name", ["m.npy", "north.nc", "south.nc", "i.tif"])
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".zarr", " cog.tif"])
@pytest.mark.parametrize("bands", [(), BANDS], ids=len)
def test_grown_is_written(inputs, tmp_path, name, suffix, bands):
    """Values, geodata and notes are those of `write_map`; interruptions change no byte."""
    options = {"bands": bands, "cog": "cog" in suffix}
    first, again, written = (tmp_path / f"{n}{suffix}" for n in ("a", "b", "c"))
    growing, plane, notes = put_all(inputs / name, first, False, **options)
    put_all(inputs / name, again, True, **options)
    assert content(first) == content(again)
    with open_map(inputs / name) as reader:
        write_map(written, reader, SCALE, enlarged(reader, len(bands) or 1)[0], **options)
        assert [n.replace(str(written), "X") for n in reader.notes] == [
            n.replace(str(first), "X") for n in notes
        ]
    if suffix == ".npy":
        assert content(written) == content(first)
    elif suffix == ".zarr":
        assert xarray.open_zarr(written).identical(xarray.open_zarr(first))
    else:
        with rasterio.open(written) as old, rasterio.open(first) as new:
            np.testing.assert_array_equal(old.read(), new.read())
            for what in ("tags", "descriptions", "crs", "transform", "units", "count"):
                both = (getattr(file, what) for file in (old, new))
                one, other = (value() if callable(value) else value for value in both)
                assert one == other, what
            np.testing.assert_equal(old.nodata, new.nodata)
    whole = name == "i.tif" and not bands
    np.testing.assert_allclose(growing.read(ALL)[..., 0], plane, rtol=0, atol=0.5 * whole)
    thinned = growing.read(slice(5, None, 7), slice(None, None, 3))
    np.testing.assert_array_equal(thinned, growing.read(ALL)[5::7, ::3])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (first, again, written)
    )


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".zarr"])
@pytest.mark.parametrize("spoil", ["gone", "short"])
def test_lost_bytes_begin_anew(inputs, tmp_path, suffix, spoil):
    """A map that is not there as its state says cannot be resumed."""
    with open_map(inputs / "m.npy") as reader:
        growing = growing_map(tmp_path / f"a{suffix}", reader, SCALE, strip_rows=160)
        growing.begin()
        state = growing.put(0, enlarged(reader, 1)[0][0])
        if spoil == "gone":
            growing.remove()
        elif suffix == ".zarr":
            next(growing.path.glob("*/.zarray")).unlink()
        else:
            growing.path.write_bytes(growing.path.read_bytes()[:-1])
        again = growing_map(tmp_path / f"a{suffix}", reader, SCALE, strip_rows=160)
        if spoil == "short" and suffix == ".tif":
            for rows in tmp_path.glob(".*.npy"):
                rows.unlink()
        assert not again.resume(160, state)
        again.remove()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_turned_into_another_form(inputs, tmp_path):
    """Work on float32 rows is continued when only the type of the result changes, not back."""
    with open_map(inputs / "m.npy") as reader:
        strips, plane = enlarged(reader, 1)

        def opened(dtype):
            return WorkFile(
                tmp_path / "o.npy", (720, 560, 1), {"map": 1}, {"dtype": dtype},
                lambda dtype: growing_map(tmp_path / "o.npy", reader, SCALE, dtype=dtype),
            )  # fmt: skip

        for strip in strips[:2]:
            work = opened(None)
            work.append(strip, {})
        work.release()
        work = opened("float64")
        assert (work.pieces, work.rows) == (2, 320)
        for strip in strips[2:]:
            work.append(strip, {})
        work.finish()
        work.remove()
        found = np.load(tmp_path / "o.npy")
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, plane)
        opened("int32").append(strips[0], {})
        assert opened(None).rows == 0


@pytest.mark.parametrize("big", ["NO", "YES"])
def test_tile_tables(tmp_path, big):
    """Tiles moved from one file to another, in any order of bytes, are those that GDAL reads."""
    profile = {"driver": "GTiff", "height": 300, "width": 520, "count": 2, "dtype": "int16"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    profile |= {"interleave": "band"}
    values = np.arange(2 * 300 * 520).reshape(2, 300, 520).astype(np.int16)
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, ENDIANNESS="BIG") as file:
            file.write(values)
        full = bytes(memory.getbuffer())
    path = tmp_path / "t.tif"
    with rasterio.open(path, "w", **profile, BIGTIFF=big, SPARSE_OK=True, ENDIANNESS="BIG"):
        pass
    offsets, sizes = TileTable(io.BytesIO(full)).read()
    with open(path, "r+b") as stream:
        table = TileTable(stream)
        assert table.count == len(sizes) == 12
        for number in reversed(range(table.count)):
            at = stream.seek(0, io.SEEK_END)
            stream.write(full[int(offsets[number]) :][: int(sizes[number])])
            table.enter(number, np.array([at]), sizes[number : number + 1])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)


@pytest.mark.parametrize(
    "raw", [b"", b"II*\0", b"\x89PNG" + bytes(40), b"II*\0\x08\0\0\0" + bytes(9)]
)
def test_no_table(raw):
    """What is no tiled TIFF file is refused."""
    with pytest.raises(ValueError, match="TIFF"):
        TileTable(io.BytesIO(raw))


def test_a_full_disk_names_the_file(tmp_path):
    """An error of the system without a name gets that of the result; others keep theirs."""
    with pytest.raises(OSError, match="No space left on device") as caught, naming(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "a"):
        (tmp_path / "b").read_bytes()
    assert caught.value.filename == str(tmp_path / "b")
