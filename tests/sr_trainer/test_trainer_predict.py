"""``main.py run predict map``: names, kinds, geodata, extras, settings, refusals, interruption."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import yaml
from s102_cells import write_s102

from toolbox import __version__
from toolbox.inference import work_file
from toolbox.inference.super_resolver import SuperResolver
from toolbox.inference.work_file import WorkFile
from toolbox.io import atomic
from toolbox.io.safe_pickle import load_array, save_array
from toolbox.io.weights import load_weights, save_weights
from toolbox.opencv import cv2
from toolbox.predict_settings import PredictParams
from toolbox.run import load_model
from toolbox.tasks.bathymetry.predict import Figures, MapPredictor

ROOT = Path(__file__).resolve().parents[2]
GRIDS = ROOT.parent / "shared" / "data" / "bathymetry"
#: Real grids, by the suffix that they have here.
REAL = {
    "arabian.tif": "arabian_sea_GEBCO_15arcsec_wgs84.tif",
    "cairns.tif": "cairns_gbr_GA2005_271m_utm55s.tif",
    "pacific.nc": "pacific_multibeam_gappy_0.001deg.nc",
    "navo.bag": "navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag",
}
H, W = 20, 26
#: A tile so small that a map of 40 rows is worked on in five strips.
TILE = ("--tile", 8)
DONE = "difference between the result, averaged back, and the input: "


def sea_floor(rows=H, columns=W):
    """Make a smooth map in metres without symmetries, all of it inside norm_range."""
    r, c = np.mgrid[:rows, :columns]
    waves = 90 * np.sin(r / 5) + 60 * np.cos(c / 4 + r / 9)
    return (-1200 + waves + 3 * r - 2 * c).astype(np.float32)


@pytest.fixture
def predict(workshop, finished):
    """Run ``main.py LOG predict ...`` and hold that it succeeded."""

    def run(*arguments):
        result = workshop.run(finished, "predict", *arguments)
        assert result.code == 0, result.err
        assert "Traceback" not in result.out + result.err
        return result

    return run


@pytest.fixture
def check_refused(workshop, finished):
    """Run ``main.py LOG predict ...`` and hold that it refuses and leaves the folder as it was."""

    def run(words, *arguments):
        before = workshop.snapshot()
        result = workshop.run(finished, "predict", *arguments)
        result.refused(*words)
        assert result.code == 2
        assert workshop.snapshot() == before
        return result

    return run


@pytest.fixture
def npy(workshop):
    """Write the sea floor as ``map.npy``."""
    path = workshop.folder / "map.npy"
    np.save(path, sea_floor())
    return path


@pytest.fixture
def tall(workshop):
    """Write a map of five strips, with a hole across two of them, as ``tall.npy``."""
    values = sea_floor(40, 30)
    values[13:18, 4:9] = np.nan
    path = workshop.folder / "tall.npy"
    np.save(path, values)
    return path


@pytest.fixture
def windows(monkeypatch):
    """List the shapes of all windows that go through the network."""
    seen = []
    original = SuperResolver.enhancer

    def enhancer(self, *arguments, **options):
        enhance = original(self, *arguments, **options)

        def counted(lr):
            seen.append(lr.shape)
            return enhance(lr)

        return counted

    monkeypatch.setattr(SuperResolver, "enhancer", enhancer)
    return seen


@pytest.fixture
def sibling(workshop, finished):
    """Copy the run with other weights, as a second training would give."""

    def make(name, factor):
        from sr_trainer.modeler import Modeler
        from sr_trainer.user_params import UserParams

        folder = shutil.copytree(finished, workshop.folder / name)
        model = Modeler(UserParams(folder / "config.yml")).build(verbose=0)
        load_weights(model, folder / "weights_best.h5")
        model.set_weights([factor * weight for weight in model.get_weights()])
        save_weights(model, folder / "weights_best.h5")
        return folder

    return make


def write_tiff(rasterio, path, values, **profile):
    """Write bands (B, H, W) at 50 m a pixel in UTM zone 55 S."""
    default = {"crs": "EPSG:32755", "transform": rasterio.Affine(50, 0, 285e3, 0, -50, 8275e3)}
    tags = profile.pop("tags", {})
    bands, rows, columns = values.shape
    default |= {"count": bands, "height": rows, "width": columns, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **(default | profile)) as file:
        file.write(values)
        file.update_tags(**tags)
    return path


def array_of(path):
    """Return the array of a .npy or .pkl file."""
    return np.load(path) if path.suffix == ".npy" else load_array(path)


def bands_of(rasterio, path):
    """Return all bands of a GeoTIFF (B, H, W), NaN where missing, and their names."""
    with rasterio.open(path) as file:
        return np.ma.filled(file.read(masked=True).astype(float), np.nan), file.descriptions


def averaged(values, scale=4):
    """Return block means, written out independently of the program."""
    h, w = values.shape[0] // scale, values.shape[1] // scale
    return values.reshape(h, scale, w, scale, *values.shape[2:]).mean((1, 3))


def hidden(folder):
    """Return the names of all hidden and temporary files below a folder."""
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith(".") or ".tmp" in p.name)


def reported(result):
    """Return (RMS, greatest) of the difference that the program reports."""
    [line] = [line for line in result.out.splitlines() if line.startswith(DONE)]
    words = line.removeprefix(DONE).replace(",", "").split()
    return float(words[1]), float(words[words.index("most") + 1])


def test_nothing_is_left_of_a_map_whose_middle_is_damaged(workshop, check_refused, xarray):
    """Work on strips that were sound is not kept: going on with it would end there again."""
    path = workshop.folder / "m.nc"
    noise = np.random.default_rng(0).normal(-1000, 50, (120, 90)).astype(np.float32)
    data = xarray.Dataset({"z": (("y", "x"), noise)})
    options = {"z": {"zlib": True, "chunksizes": (20, 90)}}
    data.to_netcdf(path, engine="h5netcdf", encoding=options)
    content = bytearray(path.read_bytes())
    content[-8000:-7000] = bytes(1000)
    path.write_bytes(content)
    check_refused(("m.nc: pixels cannot be read",), path, *TILE)


# -- Where it is written, from where it is started -------------------------------------------------


def test_the_result_lies_beside_the_input(workshop, finished, predict, npy):
    """``map.npy`` gives ``map_x4.npy``, four times larger; nothing else is touched or left."""
    log = workshop.snapshot(finished)
    before = workshop.snapshot()
    result = predict(npy)
    after = workshop.snapshot()
    assert set(after) - set(before) == {"map_x4.npy"}
    assert {name: after[name] for name in before} == before
    assert workshop.snapshot(finished) == log
    large = np.load(workshop.folder / "map_x4.npy")
    assert large.shape == (4 * H, 4 * W)
    assert large.dtype == np.float32
    assert f"{W} × {H} pixels" in result.out
    assert f"{4 * W} × {4 * H} pixels" in result.out


def test_the_program_is_the_api(workshop, finished, predict, npy):
    """The file holds what ``load_model(log).predict(map)`` returns."""
    predict(npy)
    expected = load_model(finished).predict(sea_floor())
    np.testing.assert_array_equal(np.load(workshop.folder / "map_x4.npy"), expected)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("new/fine.npy", "new/fine.npy"),
        ("there", "there/map_x4.npy"),
        ("fine.pkl", "fine.pkl"),
    ],
)
def test_output_is_a_file_or_a_folder(workshop, predict, npy, output, expected):
    """-o names a file, in a folder that is made if missing, or a folder that is there."""
    (workshop.folder / "there").mkdir()
    predict(npy, "-o", workshop.folder / output)
    assert array_of(workshop.folder / expected).shape == (4 * H, 4 * W)
    assert [path for path in workshop.folder.rglob("map_x4*") if path.parent.name != "there"] == []


def test_a_folder_that_is_not_there_yet_is_made(workshop, predict, npy):
    """``-o results/`` means a folder, as for every other program."""
    predict(npy, "-o", f"{workshop.folder / 'results'}{os.sep}")
    assert (workshop.folder / "results" / "map_x4.npy").is_file()


def test_settings_log_folder_and_moved_folder_agree(workshop, finished, npy):
    """input.yml, the log folder, its config.yml and the folder moved away give the same bytes."""
    moved = shutil.copytree(finished, workshop.folder / "elsewhere" / "renamed")
    sources = [finished.with_suffix(".yml"), finished, finished / "config.yml", moved]
    results = []
    for number, source in enumerate(sources):
        path = workshop.folder / f"{number}.npy"
        result = workshop.run(source, "predict", npy, "-o", path)
        assert result.code == 0, result.err
        results.append(path.read_bytes())
    assert len(set(results)) == 1


def test_a_run_that_is_gone_needs_its_new_folder_alone(workshop, npy):
    """A log folder works when the place of its training, its data and its YAML are gone."""
    workshop.own_patches()
    folder = workshop.train(epochs=1)
    moved = folder.rename(workshop.folder / "moved")
    shutil.rmtree(workshop.data_dir)
    (workshop.folder / "run.yml").unlink()
    assert workshop.run(moved, "predict", npy).code == 0
    assert not folder.exists()


def test_order_of_options_does_not_matter(workshop, finished, predict, npy):
    """Options may stand before, between and after the names."""
    predict(npy, "--overwrite", *TILE)
    expected = (workshop.folder / "map_x4.npy").read_bytes()
    for words in (
        (*TILE, "--overwrite", finished, "predict", npy),
        (finished, *TILE, "predict", "--overwrite", npy),
    ):
        (workshop.folder / "map_x4.npy").unlink()
        assert workshop.run(*words).code == 0
        assert (workshop.folder / "map_x4.npy").read_bytes() == expected


# -- Kinds of files --------------------------------------------------------------------------------


def test_the_working_folder_itself_is_enlarged(workshop, finished, predict, npy, monkeypatch):
    """``predict .`` writes beside the folder, like ``predict folder`` from outside."""
    folder = workshop.folder / "maps"
    folder.mkdir()
    shutil.copy(npy, folder)
    monkeypatch.chdir(folder)
    predict(".")
    assert (workshop.folder / "maps_x4" / "map.npy").is_file()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
@pytest.mark.parametrize("suffix", [".npy", ".pkl"])
def test_arrays_come_back_as_they_were(workshop, predict, suffix, dtype):
    """An array file keeps its kind and its data type; both kinds hold the same."""
    values = np.round(sea_floor()).astype(dtype)
    path = workshop.folder / f"map{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    else:
        save_array(values, path)
    predict(path, "--lr-consistency", "project")
    large = array_of(workshop.folder / f"map_x4{suffix}")
    assert large.dtype == np.dtype(dtype)
    assert large.shape == (4 * H, 4 * W)
    np.testing.assert_allclose(averaged(large.astype(float)), values, atol=0.5)


def test_npz_gives_npy(workshop, predict):
    """A .npz cannot be written strip by strip; its result is a .npy."""
    np.savez(workshop.folder / "map.npz", elevation=sea_floor())
    predict(workshop.folder / "map.npz")
    assert np.load(workshop.folder / "map_x4.npy").shape == (4 * H, 4 * W)


def test_sixteen_bit_image(workshop, finished):
    """A grey PNG of 16 bits gives one of 16 bits, its values neither turned nor shifted."""
    grey = (-sea_floor() * 20).astype(np.uint16)
    path = workshop.folder / "grey.png"
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    result = workshop.run(finished, "predict", path, "--lr-consistency", "project")
    assert result.code == 0, result.err
    assert "WARNING" not in result.out
    large = cv2.imdecode(np.fromfile(workshop.folder / "grey_x4.png", np.uint8), -1)
    assert (large.shape, large.dtype) == ((4 * H, 4 * W), np.uint16)
    np.testing.assert_allclose(averaged(large.astype(float)), grey, atol=0.5)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_grey_picture_is_warned_about(rasterio, workshop, finished, kind):
    """One warning for an 8-bit picture without a georeference; none if it has one."""
    path = workshop.folder / f"line_0001.{kind}"
    grey = np.full((H, W), 90, np.uint8)
    cv2.imwrite(str(path), grey)
    result = workshop.run(finished, "predict", path, "--report")
    assert result.code == 0, result.err
    [line] = [line for line in result.out.splitlines() if "WARNING" in line]
    assert line.startswith(f"WARNING: {path}: is an 8-bit grey picture without a georeference")
    assert "trained on depths in metres" in line and "--pretrained sem_lines" in line
    page = (workshop.folder / f"line_0001_x4.{kind}.html").read_text(encoding="utf-8")
    assert "is an 8-bit grey picture" in page
    assert "grey values, at most" in result.out
    map_of_bytes = write_tiff(rasterio, workshop.folder / "bytes.tif", grey[None])
    assert "grey picture" not in workshop.run(finished, "predict", map_of_bytes).out


def test_sign_of_a_geotiff_is_kept(rasterio, workshop, predict):
    """A file of depths gives depths, of the same magnitude as the file of heights gives."""
    heights = np.round(sea_floor()).astype(np.int16)
    heights[3, 4] = -32768
    write_tiff(rasterio, workshop.folder / "up.tif", heights[None], nodata=-32768)
    predict(workshop.folder / "up.tif")
    depths = np.where(heights == -32768, heights, -heights)
    options = {"nodata": -32768, "tags": {"positive": "down"}}
    write_tiff(rasterio, workshop.folder / "down.tif", depths[None], **options)
    result = predict(workshop.folder / "down.tif")
    assert "positive down (declared by" in result.out
    up, down = (bands_of(rasterio, workshop.folder / f"{n}_x4.tif")[0] for n in ("up", "down"))
    np.testing.assert_array_equal(down, -up)
    assert np.nanmax(up) < 0 < np.nanmin(down)
    assert np.isnan(up).sum() == 16


def test_declared_depths_of_an_array(workshop, predict, npy):
    """--positive down reads and writes depths where the file cannot say it."""
    np.save(workshop.folder / "depths.npy", -sea_floor())
    predict(npy)
    result = predict(workshop.folder / "depths.npy", "--positive", "down")
    assert "positive down (declared by the user)" in result.out
    up, down = (np.load(workshop.folder / f"{n}_x4.npy") for n in ("map", "depths"))
    np.testing.assert_array_equal(down, -up)


def test_depths_of_a_netcdf(xarray, workshop, predict):
    """A NetCDF of depths by CF's attribute gives depths and keeps the attribute."""
    axes = {"lat": np.linspace(-16, -15.9, H), "lon": np.linspace(145, 145.2, W)}
    for name, sign in (("up", 1), ("down", -1)):
        attrs = {"units": "m", "positive": name}
        plane = xarray.DataArray(sign * sea_floor(), axes, ("lat", "lon"), attrs=attrs)
        plane.to_dataset(name="z").to_netcdf(workshop.folder / f"{name}.nc", engine="h5netcdf")
        predict(workshop.folder / f"{name}.nc")
    with (
        xarray.open_dataset(workshop.folder / "up_x4.nc") as up,
        xarray.open_dataset(workshop.folder / "down_x4.nc") as down,
    ):
        np.testing.assert_array_equal(down.z.values, -up.z.values)
        assert (up.z.attrs["positive"], down.z.attrs["positive"]) == ("up", "down")
        assert float(down.z.min()) > 0


def test_variable_and_nodata_of_the_command_line(rasterio, workshop, predict):
    """--variable chooses the band, --nodata what is missing besides."""
    values = np.stack([sea_floor(), sea_floor() - 300])
    values[1, 5, 6] = -9999
    path = write_tiff(rasterio, workshop.folder / "two.tif", values)
    predict(path, "--variable", 2, "--nodata", -9999, "--lr-consistency", "project")
    [large], _ = bands_of(rasterio, workshop.folder / "two_x4.tif")
    assert np.argwhere(np.isnan(averaged(large))).tolist() == [[5, 6]]
    expected = np.where(values[1] == -9999, np.nan, values[1])
    np.testing.assert_allclose(averaged(large), expected, atol=0.01)


@pytest.mark.parametrize("fill", [-99999, -32768, 1e20])
def test_undeclared_fill_is_missing(workshop, predict, fill):
    """What no sea floor is, is missing, said so, and does not reach its neighbours."""
    values = sea_floor()
    values[10:14, 20:24] = np.nan
    np.save(workshop.folder / "gaps.npy", values)
    predict(workshop.folder / "gaps.npy")
    expected = np.load(workshop.folder / "gaps_x4.npy")
    np.save(workshop.folder / "map.npy", np.where(np.isnan(values), np.float32(fill), values))
    result = predict(workshop.folder / "map.npy")
    assert "16 pixels are exactly" in result.out
    assert "taken as missing" in result.out
    large = np.load(workshop.folder / "map_x4.npy")
    np.testing.assert_array_equal(large == np.float32(fill), np.isnan(expected))
    np.testing.assert_array_equal(large[~np.isnan(expected)], expected[~np.isnan(expected)])


def test_map_in_feet_gives_feet(rasterio, workshop, predict):
    """The network works in metres; the result is that of the metres, in the unit of the file."""
    predict(write_tiff(rasterio, workshop.folder / "metres.tif", sea_floor()[None]))
    foot = np.float32(1200 / 3937)
    path = write_tiff(rasterio, workshop.folder / "feet.tif", sea_floor()[None] / foot)
    with rasterio.open(path, "r+") as file:
        file.units = ["US survey foot"]
    assert "its unit is 'US survey foot'; 1 is 0.3048006 m" in predict(path).out
    with (
        rasterio.open(workshop.folder / "metres_x4.tif") as metres,
        rasterio.open(workshop.folder / "feet_x4.tif") as feet,
    ):
        assert feet.units == ("US survey foot",)
        np.testing.assert_allclose(feet.read() * foot, metres.read(), atol=2e-3)


def test_nodata_in_scientific_notation(workshop, predict):
    """``--nodata -3.4e38``, the mark of ESRI grids, is read, and marks the gaps of the result."""
    values = sea_floor()
    values[5, 6] = -3.4e38
    np.save(workshop.folder / "map.npy", values)
    predict(workshop.folder / "map.npy", "--nodata", "-3.4e38")
    assert (np.load(workshop.folder / "map_x4.npy") == np.float32(-3.4e38)).sum() == 16


# -- Real grids ------------------------------------------------------------------------------------


def place(missing, rows=H, columns=W):
    """Find a window some of whose pixels are missing, else the middle of the map."""
    for row in range(0, missing.shape[0] - rows, rows // 2):
        for column in range(0, missing.shape[1] - columns, columns // 2):
            if 0.01 < missing[row : row + rows, column : column + columns].mean() < 0.5:
                return row, column
    return missing.shape[0] // 2, missing.shape[1] // 2


def crop(name, folder):
    """Cut a window with gaps out of a real grid, geodata included."""
    source = GRIDS / REAL[name]
    if not source.is_file():
        pytest.skip(f"{source.name} is not on this machine ({GRIDS})")
    path = folder / name
    if path.suffix == ".nc":
        xarray = pytest.importorskip("xarray")
        with xarray.open_dataset(source) as dataset:
            row, column = place(np.isnan(dataset.z.values))
            part = dataset.isel(y=slice(row, row + H), x=slice(column, column + W)).load()
        for variable in part.variables.values():
            variable.encoding.pop("chunksizes", None)
        part.to_netcdf(path, engine="h5netcdf")
        return path
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(source) as file:
        row, column = place(file.read(1) == file.nodata)
        window = rasterio.windows.Window(column, row, W, H)
        a, b, c, d, e, f = tuple(file.transform)[:6]
        corner = rasterio.Affine(a, b, c + a * column, d, e, f + e * row)
        profile = {"crs": file.crs, "transform": corner}
        profile |= {"nodata": file.nodata, "tags": file.tags() if path.suffix == ".tif" else {}}
        whole = write_tiff(rasterio, folder / "crop.tif", file.read(window=window), **profile)
    if path.suffix == ".bag":
        pytest.importorskip("rasterio.shutil").copy(whole, path, driver="BAG")
        whole.unlink()
        return path
    return whole.rename(path)


@pytest.mark.parametrize("name", [name for name in REAL if not name.endswith(".nc")])
def test_real_rasters_keep_their_geodata(rasterio, workshop, predict, name):
    """Extent, CRS, type, nodata, sign and gaps (each 16 times) of a real grid are kept."""
    path = crop(name, workshop.folder)
    predict(path, "--lr-consistency", "project")
    target = workshop.folder / f"{path.stem}_x4{path.suffix}"
    with rasterio.open(path) as old, rasterio.open(target) as new:
        assert new.driver == old.driver
        assert (new.width, new.height) == (4 * W, 4 * H)
        assert tuple(new.bounds) == pytest.approx(tuple(old.bounds), rel=1e-12)
        assert new.transform.a == pytest.approx(old.transform.a / 4)
        # GDAL gives every BAG a vertical reference of its own template.
        assert {**new.crs.to_dict(), "vunits": 0} == {**old.crs.to_dict(), "vunits": 0}
        assert (new.nodata, new.dtypes[0]) == (old.nodata, old.dtypes[0])
        before, after = old.read(1, masked=True), new.read(1, masked=True)
    gaps = np.ma.getmaskarray(before)
    assert gaps.any()
    np.testing.assert_array_equal(np.ma.getmaskarray(after), gaps.repeat(4, 0).repeat(4, 1))
    coarse = averaged(after.astype(float).filled(np.nan))
    expected = before.astype(float).filled(np.nan)
    np.testing.assert_allclose(coarse, expected, atol=0.51 if after.dtype.kind == "i" else 0.01)


def test_real_bag_keeps_its_uncertainty(rasterio, workshop, predict):
    """The BAG's second band is repeated around every pixel and its result is read as a BAG."""
    path = crop("navo.bag", workshop.folder)
    result = predict(path)
    assert "positive up" in result.out
    with rasterio.open(path) as old, rasterio.open(workshop.folder / "navo_x4.bag") as new:
        before, after = (file.read(2, masked=True) for file in (old, new))
    np.testing.assert_array_equal(after.filled(-1), before.filled(-1).repeat(4, 0).repeat(4, 1))


def test_s102_cells(rasterio, workshop, predict, check_refused):
    """A coverage becomes a GeoTIFF of depths, north up; without a choice nothing is done."""
    depths = -sea_floor()
    depths[3:6, 4:9] = np.nan
    place = (32755, (285_000.0, 8_275_000.0), (50.0, 50.0))
    path = write_s102(workshop.folder / "cell.h5", place=place, coverages=2, depths=depths)
    words = ("has depths in the coverages", f"{W} × {H} pixels of 100 × 100 m", "--group")
    check_refused(words, path)
    result = predict(path, "--group", "BathymetryCoverage.01")
    assert "positive down (declared by verticalCS '6498, positive down')" in result.out
    np.save(workshop.folder / "plain.npy", -depths)
    predict(workshop.folder / "plain.npy")
    with rasterio.open(workshop.folder / "cell_x4.tif") as new:
        assert new.bounds == (284_975, 8_274_975, 284_975 + 50 * W, 8_274_975 + 50 * H)
        assert (new.crs.to_epsg(), new.nodata, new.transform.e) == (32755, 1e6, -12.5)
        assert new.tags(1)["positive"] == "down"
        stored = new.read(1, masked=True).filled(np.nan)
    np.testing.assert_array_equal(stored[::-1], -np.load(workshop.folder / "plain_x4.npy"))


def test_gappy_multibeam_keeps_its_geodata(xarray, workshop, predict):
    """Edges, attributes, fill value, type and gaps of the gappy NetCDF are kept."""
    path = crop("pacific.nc", workshop.folder)
    predict(path, "--lr-consistency", "project")
    with (
        xarray.open_dataset(path) as old,
        xarray.open_dataset(workshop.folder / "pacific_x4.nc") as new,
    ):
        assert new.z.dims == old.z.dims
        assert new.z.dtype == old.z.dtype
        assert np.isnan(new.z.encoding["_FillValue"])
        assert new.attrs["GMT_version"] == old.attrs["GMT_version"]
        for axis in ("x", "y"):
            outer, finer = (edges(dataset[axis].values) for dataset in (old, new))
            assert finer == pytest.approx(outer, abs=1e-9)
        gaps = np.isnan(old.z.values)
        assert 0 < gaps.mean() < 1
        np.testing.assert_array_equal(np.isnan(new.z.values), gaps.repeat(4, 0).repeat(4, 1))
        coarse = averaged(new.z.values.astype(float))
        np.testing.assert_allclose(coarse, old.z.values, atol=0.01)


def edges(centres):
    """Outer edges of evenly spaced centres."""
    half = (centres[1] - centres[0]) / 2
    return float(centres[0] - half), float(centres[-1] + half)


def test_real_depths_have_the_magnitude_of_their_twin(rasterio, workshop, predict):
    """The Arabian Sea as depths gives what it gives as heights, negated."""
    path = crop("arabian.tif", workshop.folder)
    with rasterio.open(path) as file:
        values, profile = file.read(), file.profile
    depths = np.where(values == profile["nodata"], values, -values)
    kept = {key: profile[key] for key in ("crs", "transform", "nodata")}
    tags = {"positive": "down"}
    twin = write_tiff(rasterio, workshop.folder / "twin.tif", depths, tags=tags, **kept)
    predict(path)
    predict(twin)
    up, down = (bands_of(rasterio, workshop.folder / f"{n}_x4.tif")[0] for n in ("arabian", "twin"))
    np.testing.assert_array_equal(down, -up)
    assert np.nanmedian(up) < 0 < np.nanmedian(down)


# -- Extras ----------------------------------------------------------------------------------------


@pytest.fixture
def tif(rasterio, workshop):
    """Write the sea floor, with a gap and a pit deeper than any training patch, as ``map.tif``."""
    values = sea_floor()
    values[2, 3] = -9999
    values[10:13, 10:13] = -8000
    return write_tiff(rasterio, workshop.folder / "map.tif", values[None], nodata=-9999)


def test_self_ensemble_is_the_mean_of_eight(workshop, finished, predict, npy):
    """The mean over mirrored and turned copies does not depend on how the map lies."""
    predict(npy, "--self-ensemble")
    turned = workshop.folder / "turned.npy"
    np.save(turned, np.rot90(sea_floor())[:, ::-1])
    predict(turned, "--self-ensemble")
    whole = np.load(workshop.folder / "map_x4.npy")
    back = np.load(workshop.folder / "turned_x4.npy")[:, ::-1]
    np.testing.assert_allclose(np.rot90(back, -1), whole, atol=0.01)
    plain = load_model(finished).predict(sea_floor())
    assert not np.array_equal(whole, plain)


def test_several_weights_and_their_spread(rasterio, workshop, finished, predict, tif, sibling):
    """Two weights give their mean and, as a second band, their standard deviation."""
    files = [finished / "weights_best.h5", sibling("other", 0.9) / "weights_best.h5"]
    each = []
    for number, weights in enumerate(files):
        path = workshop.folder / f"{number}.tif"
        predict(tif, "-o", path, "--weights", weights)
        each.append(bands_of(rasterio, path)[0][0])
    predict(tif, "--standard-deviation", "--weights", *files)
    (mean, spread), names = bands_of(rasterio, workshop.folder / "map_x4.tif")
    assert names == ("elevation", "standard_deviation")
    assert not np.array_equal(each[0], each[1], equal_nan=True)
    np.testing.assert_allclose(mean, np.mean(each, 0), atol=0.01)
    np.testing.assert_allclose(spread, np.std(each, 0, ddof=1), rtol=1e-3, atol=0.01)
    assert np.isnan(spread).sum() == 16


def test_an_interval_is_two_bands(rasterio, workshop, finished, predict, tif):
    """Both ends lie around the result; the calibration is kept, and tiles leave no seam."""
    (finished / "intervals.json").unlink(missing_ok=True)
    result = predict(tif, "--interval", "0.9")
    assert "intervals calibrated on" in result.out
    assert (finished / "intervals.json").is_file()
    (mean, lower, upper), names = bands_of(rasterio, workshop.folder / "map_x4.tif")
    assert names == ("elevation", "lower", "upper")
    inside = np.isfinite(mean)
    assert (lower[inside] < mean[inside]).all()
    np.testing.assert_allclose(upper - mean, mean - lower, rtol=1e-3, atol=1e-3)
    assert np.isnan([lower, upper]).sum(axis=(1, 2)).tolist() == [16, 16]
    result = predict(tif, "--interval", "0.5", *TILE, "-o", workshop.folder / "half.tif")
    assert "calibrated on" not in result.out
    (_, low, high), _ = bands_of(rasterio, workshop.folder / "half.tif")
    assert np.nanmean(high - low) < np.nanmean(upper - lower)
    predict(tif, "--interval", "0.5", "-o", workshop.folder / "whole.tif")
    (_, whole, _), _ = bands_of(rasterio, workshop.folder / "whole.tif")
    np.testing.assert_allclose(low, whole, rtol=1e-4, atol=0.01)


def test_a_height_of_whole_metres_stays_in_its_interval(rasterio, workshop, finished, tif):
    """An interval makes the result float32 in NetCDF too: rounded, it could lie outside."""
    xarray = pytest.importorskip("xarray")
    whole = workshop.folder / "whole_metres.tif"
    with rasterio.open(tif) as file:
        values, profile = file.read(1), {**file.profile, "dtype": "int16", "nodata": -32768}
    with rasterio.open(whole, "w", **profile) as file:
        file.write(np.where(np.isfinite(values), values, -32768).astype(np.int16), 1)
    target = workshop.folder / "whole_metres.nc"
    result = workshop.run(finished, "predict", whole, "--interval", "0.5", "-o", target)
    assert result.code == 0, result.err
    assert "rounded" not in result.out
    with xarray.open_dataset(target) as found:
        mean, lower, upper = (found[name].values for name in ("elevation", "lower", "upper"))
    inside = np.isfinite(mean)
    assert mean.dtype == np.float32
    assert (lower <= mean)[inside].all()
    assert (mean <= upper)[inside].all()


def test_range_mask_is_a_band(rasterio, workshop, predict, tif):
    """The mask is 1 on what is deeper than the training data and missing in the gap."""
    result = predict(tif, "--range-mask")
    (_, mask), names = bands_of(rasterio, workshop.folder / "map_x4.tif")
    assert names == ("elevation", "outside_training_range")
    assert set(np.unique(mask[np.isfinite(mask)])) <= {0, 1}
    coarse = mask[::4, ::4]
    assert (coarse[10:13, 10:13] == 1).all()
    assert np.argwhere(np.isnan(coarse)).tolist() == [[2, 3]]
    share = 100 * np.nansum(coarse) / np.isfinite(coarse).sum()
    assert f"WARNING: {share:.1f} % of the input is outside" in result.out


@pytest.mark.parametrize(("outside", "said"), [(0, ""), (4, ""), (5, "0.1 %"), (2000, "20.0 %")])
def test_a_tiny_share_outside_is_no_warning(capsys, outside, said):
    """Of 10,000 pixels four are 0.0 %, which is nothing to warn of."""
    predictor = MapPredictor.__new__(MapPredictor)
    predictor.settings, predictor.resolver = PredictParams(), SimpleNamespace(scale=4)
    reader = SimpleNamespace(channels=1, delta_m=None, is_image=False)
    predictor._report(reader, Path("map.tif"), None, Figures(count=10_000, outside=outside))
    warnings = re.findall("WARNING: (.*) of the input is outside", capsys.readouterr().out)
    assert warnings == ([said] if said else [])


def test_project_makes_the_result_consistent(rasterio, workshop, predict, tif):
    """With ``project`` the reported difference is about 0 and the file agrees with the input."""
    plain = reported(predict(tif, "-o", workshop.folder / "plain.tif"))
    assert plain[0] > 1
    projected = reported(predict(tif, "--lr-consistency", "project"))
    assert max(projected) < 0.002
    [large], _ = bands_of(rasterio, workshop.folder / "map_x4.tif")
    [small], _ = bands_of(rasterio, tif)
    np.testing.assert_allclose(averaged(large), small, atol=0.002)


def test_the_reported_difference_is_that_of_the_file(rasterio, workshop, predict, tif):
    """RMS and maximum on the screen are those that the written file gives."""
    rms, most = reported(predict(tif))
    [large], _ = bands_of(rasterio, workshop.folder / "map_x4.tif")
    [small], _ = bands_of(rasterio, tif)
    difference = averaged(large) - small
    assert rms == pytest.approx(np.sqrt(np.nanmean(difference**2)), rel=0.01)
    assert most == pytest.approx(np.nanmax(np.abs(difference)), rel=0.01)


def test_cloud_optimised(rasterio, workshop, predict, tif):
    """--cog writes the same values with the layout of a cloud-optimised GeoTIFF."""
    predict(tif, "-o", workshop.folder / "plain.tif")
    predict(tif, "--cog")
    with (
        rasterio.open(workshop.folder / "plain.tif") as plain,
        rasterio.open(workshop.folder / "map_x4.tif") as cog,
    ):
        assert cog.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (cog.transform, cog.crs, cog.nodata) == (plain.transform, plain.crs, plain.nodata)
        np.testing.assert_array_equal(cog.read(), plain.read())


@pytest.mark.parametrize("dtype", ["float64", "int32", "int16"])
def test_dtype_is_that_of_the_command_line(rasterio, workshop, predict, tif, dtype):
    """--dtype changes the type and nothing else but rounding."""
    predict(tif, "-o", workshop.folder / "plain.tif")
    predict(tif, "--dtype", dtype)
    with rasterio.open(workshop.folder / "map_x4.tif") as file:
        assert file.dtypes == (dtype,)
        assert file.nodata == -9999
    [values], _ = bands_of(rasterio, workshop.folder / "map_x4.tif")
    [plain], _ = bands_of(rasterio, workshop.folder / "plain.tif")
    np.testing.assert_allclose(values, plain, atol=0 if dtype == "float64" else 0.5)


def test_report_and_hillshade(workshop, predict, tif):
    """The page names input, sign and figures and needs no other file; the picture is a PNG."""
    result = predict(tif, "--report", "--hillshade", "--range-mask")
    page = (workshop.folder / "map_x4.tif.html").read_text(encoding="utf-8")
    for word in ("map.tif", "espcn", "positive up", "range_mask", "is outside", "minmax"):
        assert word in page, word
    assert "http://" not in page
    picture = workshop.folder / "map_x4.tif_hillshade.png"
    assert cv2.imdecode(np.fromfile(picture, np.uint8), -1).shape[:2] == (4 * H, 4 * W)
    assert f"report: {workshop.folder / 'map_x4.tif.html'}" in result.out
    assert f"shaded relief: {picture}" in result.out
    assert hidden(workshop.folder) == []


def test_everything_together(rasterio, workshop, finished, predict, tif, sibling):
    """All extras at once give three bands, a report, a picture and a cloud-optimised file."""
    files = [finished / "weights_best.h5", sibling("other", 0.9) / "weights_best.h5"]
    words = "--self-ensemble --standard-deviation --range-mask --report --hillshade --cog"
    options = [*words.split(), "--lr-consistency", "project", "--dtype", "float64", *TILE]
    result = predict(tif, *options, "--weights", *files)
    (large, spread, mask), names = bands_of(rasterio, workshop.folder / "map_x4.tif")
    assert names == ("elevation", "standard_deviation", "outside_training_range")
    [small], _ = bands_of(rasterio, tif)
    np.testing.assert_allclose(averaged(large), small, atol=0.002)
    assert max(reported(result)) < 0.002
    assert np.nanmin(spread) > 0
    assert set(np.unique(mask[np.isfinite(mask)])) == {0, 1}
    assert np.isnan([large, spread, mask]).sum(axis=(1, 2)).tolist() == [16, 16, 16]
    with rasterio.open(workshop.folder / "map_x4.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert {p.name for p in workshop.folder.glob("map_x4*")} == {
        "map_x4.tif",
        "map_x4.tif.html",
        "map_x4.tif_hillshade.png",
    }
    assert hidden(workshop.folder) == []


def test_extra_bands_of_a_netcdf(xarray, workshop, predict):
    """Further bands of a NetCDF are variables beside the first, on the same coordinates."""
    axes = {"y": np.arange(H) * 50.0, "x": np.arange(W) * 50.0}
    plane = xarray.DataArray(sea_floor(), axes, ("y", "x"), attrs={"units": "m"})
    plane.to_dataset(name="elevation").to_netcdf(workshop.folder / "map.nc", engine="h5netcdf")
    predict(workshop.folder / "map.nc", "--self-ensemble", "--standard-deviation", "--range-mask")
    with xarray.open_dataset(workshop.folder / "map_x4.nc") as new:
        names = ("elevation", "standard_deviation", "outside_training_range")
        assert set(new.data_vars) == set(names)
        assert all(new[name].dims == ("y", "x") for name in names)
        assert float(new.standard_deviation.min()) >= 0


def test_a_geotiff_says_that_a_network_made_it(rasterio, workshop, predict, tif):
    """Tags name the network, the version and the input; the same input gives the same bytes."""
    predict(tif)
    made = (workshop.folder / "map_x4.tif").read_bytes()
    with rasterio.open(workshop.folder / "map_x4.tif") as file:
        tags = file.tags()
    assert tags["PROCESSING"] == f"super-resolved x4 by espcn (sr-toolbox {__version__})"
    assert (tags["SOURCE_FILE"], tags["NOT_FOR_NAVIGATION"]) == ("map.tif", "yes")
    predict(tif, "--overwrite")
    assert (workshop.folder / "map_x4.tif").read_bytes() == made


def test_a_netcdf_says_that_a_network_made_it(xarray, workshop, predict):
    """Its comment and history name the network; what stood in them stays before it."""
    plane = xarray.DataArray(sea_floor(), dims=("y", "x"), attrs={"units": "m"})
    dataset = plane.to_dataset(name="elevation")
    dataset.attrs |= {"comment": "a survey", "history": "measured"}
    dataset.to_netcdf(workshop.folder / "map.nc", engine="h5netcdf")
    predict(workshop.folder / "map.nc")
    with xarray.open_dataset(workshop.folder / "map_x4.nc") as new:
        comment, history = (new.attrs[name].splitlines() for name in ("comment", "history"))
    assert comment == [
        "a survey",
        f"Super-resolved x4 by espcn (sr-toolbox {__version__}) from map.nc. The detail is "
        "likely, not measured: not for navigation.",
    ]
    assert history[0] == "measured"
    assert history[1].endswith("sr-toolbox: map.nc enlarged 4 times by espcn")


def test_the_name_of_a_model_that_ships_is_in_the_file(rasterio, workshop, tif):
    """A shipped model is known by its name, not by the kind of its network."""
    assert workshop.run("predict", "--pretrained", "bathymetry_x2", tif).code == 0
    with rasterio.open(workshop.folder / "map_x2.tif") as file:
        assert file.tags()["PROCESSING"].startswith("super-resolved x2 by bathymetry_x2 (")


def test_a_picture_has_nothing_about_navigation(rasterio, workshop, predict):
    """A TIFF of brightness says that a network made it, and no more."""
    path = workshop.folder / "photo.tif"
    tifffile.imwrite(path, np.arange(H * W, dtype=np.uint8).reshape(H, W))
    predict(path)
    with tifffile.TiffFile(workshop.folder / "photo_x4.tif") as file:
        text = file.pages[0].tags["GDAL_METADATA"].value
    assert "super-resolved x4 by espcn (" in text
    assert "NOT_FOR_NAVIGATION" not in text


def test_what_writing_changes_is_told(rasterio, workshop, predict):
    """Whole metres that must become fractions for a further band are announced on the screen."""
    values = np.round(sea_floor()).astype(np.int16)
    path = write_tiff(rasterio, workshop.folder / "map.tif", values[None], nodata=-32768)
    result = predict(path, "--range-mask")
    assert "is float32 instead of int16" in result.out


def test_gaps_that_a_file_cannot_mark_are_told(workshop, predict):
    """Missing pixels written into whole numbers are a warning on the screen."""
    values = sea_floor()
    values[5, 6] = np.nan
    np.save(workshop.folder / "map.npy", values)
    result = predict(workshop.folder / "map.npy", "--dtype", "int16")
    assert "WARNING" in result.out
    assert "16 missing values are written as -32768" in result.out


# -- Settings --------------------------------------------------------------------------------------


def settings_with(workshop, finished, section, name="use.yml"):
    """Write the settings of the finished run with a section ``predict``."""
    content = yaml.safe_load((finished / "config.yml").read_text())
    path = workshop.folder / name
    path.write_text(yaml.safe_dump(content | {"predict": section}))
    return path


def test_settings_come_from_the_section(rasterio, workshop, finished, tif):
    """``predict:`` of the YAML is used as the options of the command line are."""
    section = {"self_ensemble": True, "standard_deviation": True, "tile": 8, "report": True}
    config = settings_with(workshop, finished, section)
    assert workshop.run(config, "predict", tif).code == 0
    assert (workshop.folder / "map_x4.tif.html").is_file()
    assert bands_of(rasterio, workshop.folder / "map_x4.tif")[1][1] == "standard_deviation"


def test_the_command_line_wins(rasterio, workshop, finished, tif):
    """A setting on the command line replaces that of the file, the others stay."""
    section = {"dtype": "int16", "lr_consistency": "project", "range_mask": True}
    config = settings_with(workshop, finished, section)
    result = workshop.run(config, "predict", tif, "--dtype", "float64")
    assert result.code == 0, result.err
    assert max(reported(result)) < 0.002
    with rasterio.open(workshop.folder / "map_x4.tif") as file:
        assert file.dtypes == ("float64", "float64")


def test_a_band_number_needs_no_quotes(rasterio, workshop, finished):
    """``variable: 2`` is read as the builder reads it."""
    values = np.stack([sea_floor(), sea_floor() - 300])
    path = write_tiff(rasterio, workshop.folder / "two.tif", values)
    result = workshop.run(settings_with(workshop, finished, {"variable": 2}), "predict", path)
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"self_ensembel": True}, ("unknown key predict.self_ensembel", "'self_ensemble'")),
        ({"tile": 4}, ("predict.tile must be", "received 4")),
        ({"tile": "large"}, ("predict.tile must be", "'large'")),
        ({"dtype": "float8"}, ("predict.dtype must be", "'float8'")),
        ({"positive": "sideways"}, ("predict.positive must be", "'up'", "'sideways'")),
        ({"lr_consistency": True}, ("predict.lr_consistency must be", "'project'")),
        ({"range_mask": "perhaps"}, ("predict.range_mask must be", "'perhaps'")),
        ({"nodata": float("nan")}, ("predict.nodata must be", "nan")),
        ({"weights": 5}, ("predict.weights must be", "5")),
        (["cog"], ("predict must be", "cog")),
    ],
    ids=str,
)
def test_a_bad_section_is_one_line(workshop, finished, npy, section, words):
    """A mistake in ``predict:`` names the file, the key and what was expected, in any mode."""
    config = settings_with(workshop, finished, section)
    for mode in (("predict", npy), ("test",), ("train",)):
        workshop.run(config, *mode).refused(str(config), *words)
    assert not (workshop.folder / "map_x4.npy").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tile", "large"), ("tile must be", "'large'")),
        (("--tile", "4"), ("tile must be", "8")),
        (("--dtype", "float8"), ("dtype must be", "'float8'")),
        (("--positive", "sideways"), ("positive must be", "'sideways'")),
        (("--lr-consistency", "both"), ("--lr-consistency must be", "'both'")),
        (("--nodata", "none"), ("nodata must be", "'none'")),
        (("--standard-deviation",), ("standard_deviation needs", "self_ensemble")),
        (("--interval", "1.5"), ("interval must be", "1.5")),
        (("--interval", "0.9", "--self-ensemble"), ("interval is calibrated", "self_ensemble")),
        (("--interval", "0.995"), ("interval must be between 0.05 and 0.99", "0.995")),
        (("--variable", "depth"), ("map.npy", "no variables", "'depth'")),
        (("--weights", "missing.h5"), ("missing.h5",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_bad_option_is_one_line(check_refused, npy, options, words):
    """A value that does not fit is refused before anything is written."""
    check_refused(words, npy, *options)


def test_config_of_a_run_with_a_section(workshop, npy):
    """A run trained with ``predict:`` tests, resumes with another section, and is used with it."""
    folder = workshop.train(epochs=1, predict={"self_ensemble": True, "weights": [], "tile": 9})
    recorded = yaml.safe_load((folder / "config.yml").read_text())["predict"]
    assert recorded["self_ensemble"] is True
    assert recorded["tile"] == 9
    assert workshop.run(folder / "config.yml", "test").code == 0
    config = workshop.config(epochs=2, predict={"lr_consistency": "project", "report": True})
    result = workshop.run(config, "train", "--resume")
    assert result.code == 0, result.err
    assert max(reported(workshop.run(config, "predict", npy))) < 0.002
    assert (workshop.folder / "map_x4.npy.html").is_file()


# -- Folders ---------------------------------------------------------------------------------------


@pytest.fixture
def maps(workshop):
    """Make a folder with two maps, a file of another kind and a folder."""
    folder = workshop.folder / "maps"
    folder.mkdir()
    np.save(folder / "a.npy", sea_floor())
    save_array(sea_floor() - 100, folder / "c.pkl")
    (folder / "notes.txt").write_text("not a map")
    (folder / "older").mkdir()
    return folder


@pytest.mark.parametrize("output", [None, "results"])
def test_a_folder_of_maps(workshop, predict, maps, output):
    """Every map of a folder is enlarged into a folder, under its own name."""
    before = workshop.snapshot(maps)
    predict(maps, *(["-o", workshop.folder / output] if output else []))
    results = workshop.folder / (output or "maps_x4")
    assert sorted(path.name for path in results.iterdir()) == ["a.npy", "c.pkl"]
    assert workshop.snapshot(maps) == before


def test_a_folder_of_cells_and_weights(workshop, finished, predict):
    """HDF5 that is no S-102 is named and left alone; a torn cell is no such file."""
    folder = workshop.folder / "maps"
    (folder / "run").mkdir(parents=True)
    write_s102(folder / "cell.h5", depths=-sea_floor())
    for number in range(4):
        shutil.copy(finished / "weights_best.h5", folder / "run" / f"{number}.h5")
    result = predict(folder)
    said = "skipped, because they are HDF5 but not S-102: run/0.h5, run/1.h5, run/2.h5 and 1 more"
    assert said in result.out
    names = sorted(path.name for path in (workshop.folder / "maps_x4").rglob("*.*"))
    assert names == ["cell.tif"]
    (folder / "torn.h5").write_bytes((folder / "cell.h5").read_bytes()[:3000])
    result = workshop.run(finished, "predict", folder, "--overwrite")
    result.refused("1 of 2 files could not be enlarged: torn.h5")
    assert "cannot be read as S-102" in result.out


def test_a_bag_without_a_system_in_a_folder(rasterio, workshop, predict):
    """GDAL writes no BAG without one, so its result is a GeoTIFF; the other stays a BAG."""
    folder = workshop.folder / "maps"
    folder.mkdir()
    both = np.stack([sea_floor(), np.full((H, W), 0.5, np.float32)])
    options = {"nodata": 1e6, "transform": rasterio.Affine(50, 0, 285e3, 0, -50, 8275e3)}
    tiff = write_tiff(rasterio, workshop.folder / "both.tif", both, **options)
    for name in ("bare.bag", "known.bag"):
        pytest.importorskip("rasterio.shutil").copy(tiff, folder / name, driver="BAG")
    told = (folder / "bare.bag").read_bytes()
    named = rb"<gmd:referenceSystemInfo>.*?</gmd:referenceSystemInfo>"
    bare = re.sub(named, lambda found: b" " * len(found[0]), told, flags=re.DOTALL)
    assert bare != told
    (folder / "bare.bag").write_bytes(bare)
    result = predict(folder)
    assert "has a transform but no coordinate reference system" in result.out
    results = workshop.folder / "maps_x4"
    assert sorted(path.name for path in results.iterdir()) == ["bare.tif", "known.bag"]
    with rasterio.open(results / "bare.tif") as new, rasterio.open(results / "known.bag") as known:
        assert new.bounds == known.bounds
        # GDAL calls the plane of a TIFF of points "unnamed".
        assert new.crs is None or not (new.crs.is_projected or new.crs.is_geographic)
        np.testing.assert_array_equal(new.read(1), known.read(1))


def test_one_bad_file_does_not_stop_the_others(workshop, finished, maps):
    """The others are done; at the end the bad one is named and the exit code is 2."""
    (maps / "b.npy").write_text("depth depth depth")
    result = workshop.run(finished, "predict", maps)
    result.refused("1 of 3 files could not be enlarged: b.npy", "maps_x4")
    assert result.code == 2
    assert "b.npy: not a plain .npy array" in result.out
    results = workshop.folder / "maps_x4"
    assert sorted(path.name for path in results.rglob("*")) == ["a.npy", "c.pkl"]


def test_without_others_none_are_spoken_of(workshop, finished):
    """Where every file is bad, nothing is said of a folder of results, and none is made."""
    (workshop.folder / "bad").mkdir()
    for name in ("a.npy", "b.nc"):
        (workshop.folder / "bad" / name).write_text("depth depth depth")
    result = workshop.run(finished, "predict", workshop.folder / "bad")
    result.refused("2 of 2 files could not be enlarged: a.npy, b.nc")
    assert "others" not in result.err
    assert not (workshop.folder / "bad_x4").exists()


READ_ONLY = Path("/sys/kernel")  # not even for root


@pytest.mark.skipif(not READ_ONLY.is_dir(), reason="there is no /sys")
@pytest.mark.parametrize("output", ["fine.npy", "new/folder/fine.npy", ""], ids=str)
def test_a_read_only_folder_is_told_before_the_work(workshop, check_refused, npy, output, windows):
    """The line names the option that helps, for a file, a folder to be made, and a default."""
    words = ("/sys/kernel cannot be written (Permission denied)", "Name another with -o.")
    check_refused(words, npy, "-o", READ_ONLY / output)
    assert windows == []


@pytest.mark.parametrize("program", ["file", "folder", "export"])
def test_a_read_only_disk_is_told_once(program, workshop, finished, npy, maps, monkeypatch):
    """Results beside the input, on a disk that is mounted for reading."""

    def refuse(**options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(atomic.tempfile, "TemporaryFile", refuse)
    use = {
        "file": ("predict", npy),
        "folder": ("predict", maps),
        "export": ("export", "--format", "keras"),
    }
    result = workshop.run(finished, *use[program])
    result.refused("cannot be written (Read-only file system)", "Name another with -o.")
    assert "left out" not in result.out


def test_hidden_files_of_a_folder_are_left_out(workshop, predict, maps):
    """Files that begin with a dot (of macOS, or of a killed program) are no maps of the user's."""
    (maps / "._a.npy").write_bytes(b"resource fork")
    predict(maps)
    assert len(list((workshop.folder / "maps_x4").iterdir())) == 2


@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=str)
def test_two_maps_of_one_name_do_not_replace_each_other(workshop, finished, predict, maps, options):
    """Of a.npy and a.npz, which would both become a.npy, the second keeps its suffix besides."""
    np.savez(maps / "a.npz", z=sea_floor() - 700)
    results, network = workshop.folder / "maps_x4", load_model(finished)
    for _ in range(2):  # the second time results are there already
        predict(maps, *options)
        assert sorted(path.name for path in results.iterdir()) == ["a.npy", "a.npz.npy", "c.pkl"]
        for name, shift in (("a.npy", 0), ("a.npz.npy", 700), ("c.pkl", 100)):
            expected = network.predict(sea_floor() - np.float32(shift))
            np.testing.assert_array_equal(array_of(results / name), expected)


def test_an_empty_folder_is_refused(workshop, check_refused):
    """A folder without a map says which kinds are read."""
    (workshop.folder / "empty").mkdir()
    check_refused(("empty: holds no map or image", ".tif", ".nc"), workshop.folder / "empty")


def test_a_folder_needs_a_folder(workshop, check_refused, maps, npy):
    """A folder of maps cannot go into a file."""
    check_refused(("map.npy: is a file", "needs a folder"), maps, "-o", npy)


# -- Refusals --------------------------------------------------------------------------------------


def test_a_former_result_is_not_replaced_unasked(workshop, predict, check_refused, npy):
    """A result that is there is refused before any work; --overwrite replaces it."""
    target = workshop.folder / "map_x4.npy"
    target.write_bytes(b"precious")
    check_refused(("map_x4.npy: already exists", "--overwrite"), npy)
    predict(npy, "--overwrite")
    assert np.load(target).shape == (4 * H, 4 * W)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_the_input_is_never_the_output(workshop, check_refused, npy, overwrite):
    """-o of the input itself is refused, under another spelling and with --overwrite too."""
    odd = workshop.folder / "." / "sub" / ".." / "map.npy"
    (workshop.folder / "sub").mkdir()
    said = "map.npy: is the input itself" if overwrite else "map.npy: already exists"
    check_refused((said,), npy, "-o", npy, *overwrite)
    check_refused((said,), npy, "-o", odd, *overwrite)


def test_a_folder_is_never_its_own_output(workshop, finished, maps):
    """-o of the folder itself leaves every map as it was."""
    before = workshop.snapshot(maps)
    result = workshop.run(finished, "predict", maps, "-o", maps, "--overwrite")
    result.refused("is the folder of the input files", "-o")
    assert workshop.snapshot(maps) == before


@pytest.mark.parametrize("channels", [2, 3])
def test_another_number_of_channels_is_refused(workshop, check_refused, channels):
    """An image of several channels does not fit a network of one."""
    np.save(workshop.folder / "rgb.npy", np.ones((H, W, channels), np.float32))
    words = (f"rgb.npy: has {channels} channels", "trained on 1", "input_shape", "(H, W)")
    assert "--variable" not in check_refused(words, workshop.folder / "rgb.npy").err


def test_the_advice_for_colours_can_be_followed(rasterio, workshop, check_refused, predict):
    """A picture has no bands to choose, so it is to be made grey; a GeoTIFF has them."""
    colours = np.random.default_rng(0).integers(0, 255, (3, H, W), np.uint8)
    cv2.imwrite(str(workshop.folder / "rgb.png"), np.moveaxis(colours, 0, -1))
    words = ("rgb.png: has 3 channels", "Convert it to grey")
    assert "--variable" not in check_refused(words, workshop.folder / "rgb.png").err
    path = workshop.folder / "rgb.tif"
    write_tiff(rasterio, path, colours, photometric="RGB")
    check_refused(("rgb.tif: has 3 channels", "--variable 1 to 3"), path)
    predict(path, "--variable", 3)
    with rasterio.open(path.with_name("rgb_x4.tif")) as result:
        assert (result.count, result.shape) == (1, (4 * H, 4 * W))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.tif", None, ("missing.tif: no such file",)),
        ("map.xyz", b"1 2 3", ("map.xyz", "unknown kind of map", ".tif")),
        ("text.tif", b"depth", ("text.tif: cannot be read as a raster",)),
        ("text.nc", b"depth", ("text.nc: cannot be read as NetCDF",)),
        ("text.png", b"depth", ("text.png: cannot be read as an image",)),
        ("text.pkl", b"depth", ("text.pkl",)),
    ],
)
def test_files_that_are_no_maps_are_refused(workshop, check_refused, name, content, words):
    """A missing, unknown or damaged file is one line that names it."""
    pytest.importorskip("rasterio")
    pytest.importorskip("xarray")
    if content is not None:
        (workshop.folder / name).write_bytes(content)
    check_refused(words, workshop.folder / name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "fine.xyz"), ("cannot write '.xyz'",)),
        (("-o", "fine.png"), (".png can hold",)),
        (("--cog",), ("only a GeoTIFF can be cloud-optimised",)),
        (("-o", "fine.bag"), ("a BAG needs a coordinate reference system",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_impossible_output_is_refused_before_the_work(
    workshop, check_refused, npy, windows, options, words, monkeypatch
):
    """A kind of file that cannot be written is refused before hours of work, and nothing stays."""
    pytest.importorskip("rasterio")
    monkeypatch.chdir(workshop.folder)
    check_refused(words, npy, *options)
    assert windows == []


def test_the_step_and_the_group_that_a_message_names(
    xarray, workshop, finished, check_refused, predict
):
    """Followed to the letter, the advice of each message leads to a result."""
    maps = np.stack([sea_floor(), sea_floor() - 50])
    days = ("time", [0, 31], {"units": "days since 2020-01-01"})
    steps = xarray.Dataset({"z": (("time", "y", "x"), maps)}, {"time": days})
    path = workshop.folder / "steps.nc"
    steps.to_netcdf(path, engine="h5netcdf")
    check_refused(("2020-01-01, 2020-02-01", "--time 1 to 2"), path)
    assert "step 2 of 2 of time" in predict(path, "--time", "2020-02").out
    path = workshop.folder / "groups.nc"
    for mode, group in (("w", "one"), ("a", "two")):
        steps.isel(time=0).to_netcdf(path, mode=mode, group=group, engine="h5netcdf")
    check_refused(("groups one, two", "--group"), path)
    predict(path, "--group", "two")
    for name, former in (("steps", maps[1]), ("groups", maps[0])):
        with xarray.open_dataset(workshop.folder / f"{name}_x4.nc") as result:
            expected = load_model(finished).predict(former)
            np.testing.assert_allclose(result.z.values.squeeze(), expected, atol=0.01)


def test_a_grid_of_esri(rasterio, workshop, predict):
    """It becomes a GeoTIFF in the same place."""
    rows = "\n".join(" ".join(f"{v:.2f}" for v in row) for row in sea_floor())
    head = f"ncols {W}\nnrows {H}\nxllcorner 500000\nyllcorner 8000000\ncellsize 50\n"
    (workshop.folder / "map.asc").write_text(head + rows + "\n")
    predict(workshop.folder / "map.asc")
    with rasterio.open(workshop.folder / "map_x4.tif") as result:
        assert result.bounds == (500000, 8000000, 500000 + 50 * W, 8000000 + 50 * H)


def test_no_georeference_is_a_warning(rasterio, workshop, predict):
    """A TIFF without a place is warned of and enlarged all the same."""
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        nowhere = {"crs": None, "transform": rasterio.Affine.identity()}
        path = write_tiff(rasterio, workshop.folder / "map.tif", sea_floor()[None], **nowhere)
    result = predict(path)
    assert "WARNING: " in result.out
    assert "has no georeference" in result.out
    assert (workshop.folder / "map_x4.tif").is_file()


def test_a_map_of_gaps_alone(workshop, predict):
    """A map whose every pixel is missing gives one like it and says so; nothing can be drawn."""
    np.save(workshop.folder / "void.npy", np.full((H, W), np.nan, np.float32))
    result = predict(workshop.folder / "void.npy", "--report", "--hillshade", "--range-mask")
    assert "WARNING: every pixel of the input is missing" in result.out
    large = np.load(workshop.folder / "void_x4.npy")
    assert large.shape == (4 * H, 4 * W, 2)
    assert np.isnan(large).all()
    assert hidden(workshop.folder) == []


def test_a_full_disk_is_one_line(workshop, check_refused, npy, monkeypatch):
    """Too little room is told before any work, and nothing is left."""
    usage = shutil.disk_usage(workshop.folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_refused(("No space left on device", "map_x4.npy"), npy)


def test_a_disk_that_fills_up_keeps_the_work(workshop, finished, predict, tall, monkeypatch):
    """A disk that is full half-way is one line; with room the work goes on where it was."""
    usage = shutil.disk_usage(workshop.folder)
    with monkeypatch.context() as patch:
        stop_after(patch, 2, OSError(28, "No space left on device", "tall_x4.npy"))
        workshop.run(finished, "predict", tall, *TILE).refused("No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        workshop.run(finished, "predict", tall, *TILE).refused("No space left on device")
    assert not (workshop.folder / "tall_x4.npy").exists()
    assert "resuming after 40 %" in predict(tall, *TILE).out


def test_mask_without_a_recorded_range(workshop, finished, npy):
    """A run older than validity.json says that the mask needs it."""
    folder = shutil.copytree(finished, workshop.folder / "old")
    (folder / "validity.json").unlink()
    before = workshop.snapshot()
    result = workshop.run(folder, "predict", npy, "--range-mask")
    result.refused("range_mask needs validity.json", "old")
    assert workshop.snapshot() == before


@pytest.mark.parametrize("name", ["weights_best.h5", "config.yml"])
def test_an_incomplete_log_folder_is_refused(workshop, finished, npy, name):
    """A log folder without one of its files is one line that names the file."""
    folder = shutil.copytree(finished, workshop.folder / "part")
    (folder / name).unlink()
    workshop.run(folder, "predict", npy).refused(name, "part")
    assert not (workshop.folder / "map_x4.npy").exists()


def test_a_folder_never_takes_the_weights_of_another(workshop, npy, sibling):
    """Without normalizer.json norm_range serves, and the weights are still those of the folder.

    Its config.yml names the folder where it was trained, which is still there.
    """
    folder = sibling("copy", 0.9)
    assert workshop.run(folder, "predict", npy).code == 0
    expected = (workshop.folder / "map_x4.npy").read_bytes()
    (folder / "normalizer.json").unlink()
    result = workshop.run(folder, "predict", npy, "--overwrite")
    assert result.code == 0, result.err
    assert "normalizer.json is missing" in result.out
    assert (workshop.folder / "map_x4.npy").read_bytes() == expected


def test_weights_of_another_network_are_refused(workshop, npy, finished):
    """--weights of a run whose settings mean another network is refused, though they would load."""
    other = workshop.train("other.yml", epochs=1, bicubic_skip=True)
    result = workshop.run(finished, "predict", npy, "--weights", other / "weights_best.h5")
    result.refused("bicubic_skip", "other")


def test_weights_of_another_normaliser_are_refused(workshop, npy, finished):
    """--weights that were trained on other normalised values is refused, not silently wrong."""
    other = workshop.train("other.yml", epochs=1, norm_range=[-6000, 0])
    result = workshop.run(finished, "predict", npy, "--weights", other / "weights_best.h5")
    result.refused(str(Path("other", "weights_best.h5")), "trained with another normaliser than")
    assert result.code == 2
    assert not (workshop.folder / "map_x4.npy").exists()


# -- The command line ------------------------------------------------------------------------------


def test_an_unknown_model_lists_those_that_ship(workshop, npy, monkeypatch, tmp_path):
    """--pretrained with an unknown name lists the names, and the nearest."""
    from toolbox import pretrained

    for name in ("bathymetry_x4", "photos_x2"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.yml").touch()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "models")
    result = workshop.run("predict", "--pretrained", "bathymetry_x2", npy)
    result.refused("bathymetry_x4, photos_x2", "'bathymetry_x2'", "Did you mean 'bathymetry_x4'?")


def test_a_model_that_ships_is_used_by_its_name(workshop, finished, predict, npy, monkeypatch):
    """``predict --pretrained NAME map`` gives what the folder of that name gives, in any order."""
    from toolbox import pretrained

    shutil.copytree(finished, workshop.folder / "models" / "tiny_x4")
    monkeypatch.setattr(pretrained, "FOLDER", workshop.folder / "models")
    predict(npy)
    expected = (workshop.folder / "map_x4.npy").read_bytes()
    for words in (
        ("predict", "--pretrained", "tiny_x4", npy, "--overwrite"),
        ("predict", npy, "--overwrite", "--pretrained", "tiny_x4"),
        ("predict", npy, "--overwrite", "--pretrained=tiny_x4"),
    ):
        (workshop.folder / "map_x4.npy").unlink()
        result = workshop.run(*words)
        assert result.code == 0, (words, result.err)
        assert (workshop.folder / "map_x4.npy").read_bytes() == expected


@pytest.mark.parametrize(
    "words",
    [
        ("--pretrained", "tiny_x4", "predict", "map.npy"),
        ("-o", "fine.npy", "predict", "--pretrained", "tiny_x4", "map.npy"),
        ("--overwrite", "predict", "map.npy", "--pretrained", "tiny_x4"),
    ],
    ids=" ".join,
)
def test_options_may_stand_before_the_mode(workshop, finished, npy, monkeypatch, words):
    """Also without a settings file options may come first, with their values."""
    from toolbox import pretrained

    shutil.copytree(finished, workshop.folder / "models" / "tiny_x4")
    monkeypatch.setattr(pretrained, "FOLDER", workshop.folder / "models")
    monkeypatch.chdir(npy.parent)
    result = workshop.run(*words)
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run.yml", "predict"), "predict needs a map or image"),
        (("predict", "--pretrained", "x"), "predict needs a map or image"),
        (("run.yml", "predict", "m.tif", "--pretrained", "x"), "without a settings file"),
        (("run.yml", "train", "--pretrained", "x"), "--pretrained is for predict and export"),
        (("run.yml", "train", "-o", "out"), "train accepts no --output; set log_dir"),
        (("run.yml", "test", "-o", "out"), "test accepts no --output"),
        (("run.yml", "predict", "m.tif", "--resume"), "--resume is for train"),
        (("run.yml", "test", "--resume"), "--resume is for train"),
        (("run.yml", "train", "m.tif"), "train accepts no further file; received m.tif"),
        (("run.yml", "train", "--cog"), "--cog is for predict"),
        (("run.yml", "test", "--self-ensemble"), "--self-ensemble is for predict"),
        (("run.yml", "train", "--tile", "16"), "--tile is for predict"),
        (("run.yml", "export", "--format", "onnx", "--dtype", "int16"), "--dtype is for predict"),
        (("run.yml", "export"), "export needs --format, one of saved_model"),
        (("run.yml", "export", "m.tif", "--format", "onnx"), "export accepts no further file"),
        (
            ("run.yml", "export", "--format", "pth"),
            "--format must be one of saved_model, onnx, keras, tflite, safetensors; received 'pth'",
        ),
        (("run.yml", "train", "--overwrite", "--resume"), "not allowed with"),
        (
            ("run.yml", "predict", "m.tif", "--ensemble"),
            "unknown option --ensemble. Did you mean --self-ensemble?",
        ),
        (
            ("run.yml", "predict", "m.tif", "--self"),
            "unknown option --self. Did you mean --self-ensemble?",
        ),
        (("run.yml", "enlarge", "m.tif"), "doctor; received 'enlarge'"),
        (("predict", "m.tif"), "predict needs a settings file, a log folder, or --pretrained"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_that_do_not_belong_together(workshop, words, message, monkeypatch):
    """A mistake in the command line is told in its last line, with exit code 2, at once."""
    monkeypatch.chdir(workshop.folder)
    workshop.config()
    before = workshop.snapshot()
    result = workshop.run(*words)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    assert message in result.err.splitlines()[-1]
    assert workshop.snapshot() == before


def test_every_setting_is_an_option(workshop):
    """The help names every setting of ``predict:`` with its meaning."""
    text = " ".join(workshop.run("--help").out.split())
    for name, field in PredictParams.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description.split(";")[0].split(",")[0] in text


# -- Interrupted work ------------------------------------------------------------------------------


def stop_after(monkeypatch, strips, error=None):
    """Let the work stop when `strips` strips are complete."""
    append = WorkFile.append

    def stopping(self, strip, figures):
        if self.pieces == strips:
            raise error or KeyboardInterrupt
        append(self, strip, figures)

    monkeypatch.setattr(WorkFile, "append", stopping)


@pytest.fixture
def interrupted(workshop, finished, tall, monkeypatch):
    """Enlarge ``tall.npy`` and press Ctrl-C when two of its five strips are complete."""

    def stop(*options):
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            result = workshop.run(finished, "predict", tall, *TILE, *options)
        assert result.code == 130, result.err
        assert result.messages[0].startswith("stopped: ")
        assert not (workshop.folder / "tall_x4.npy").exists()
        names = [".tall_x4.npy.partial", ".tall_x4.npy.partial.json"]
        assert hidden(workshop.folder) == names

    return stop


@pytest.fixture
def uninterrupted(workshop, predict, tall):
    """Return bytes and screen of the same work done at once, elsewhere."""

    def whole(*options):
        target = workshop.folder / "whole" / "tall_x4.npy"
        out = predict(tall, "-o", target, *TILE, *options).out
        content = target.read_bytes()
        target.unlink()
        return content, [line for line in out.splitlines() if line.startswith((DONE, "WARNING"))]

    return whole


@pytest.mark.parametrize("options", [(), ("--range-mask", "--lr-consistency", "project")], ids=str)
def test_interrupted_work_goes_on(
    workshop, predict, tall, interrupted, uninterrupted, windows, options
):
    """What is done is not done again; file and figures are those of work done at once."""
    expected, lines = uninterrupted(*options)
    whole = len(windows)
    windows.clear()
    interrupted(*options)
    windows.clear()
    result = predict(tall, *TILE, *options)
    assert "resuming after 40 % of the rows" in result.out
    assert len(windows) == whole * 3 // 5
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected
    assert [x for x in result.out.splitlines() if x.startswith((DONE, "WARNING"))] == lines
    assert hidden(workshop.folder) == []


def test_interrupted_work_of_blended_tiles_goes_on(workshop, tall, windows, monkeypatch):
    """Also where tiles are faded into each other the bytes are those of work done at once."""
    run = workshop.train(epochs=1, normalizer="patch_mean", norm_range=None)
    target = workshop.folder / "whole.npy"
    assert workshop.run(run, "predict", tall, "-o", target).code == 0
    whole = len(windows)
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert workshop.run(run, "predict", tall).code == 130
    windows.clear()
    result = workshop.run(run, "predict", tall)
    assert result.code == 0, result.err
    assert "resuming after 45 %" in result.out
    assert len(windows) < whole * 2 // 3
    assert (workshop.folder / "tall_x4.npy").read_bytes() == target.read_bytes()


def test_interrupted_while_writing(
    workshop, finished, predict, tall, uninterrupted, windows, monkeypatch
):
    """Stopped when all rows are done, only the file is written again."""
    expected, _ = uninterrupted()

    def never(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("toolbox.io.growing_base.GrowingMap.finish", never)
        assert workshop.run(finished, "predict", tall, *TILE).code == 130
    windows.clear()
    assert "resuming after 100 %" in predict(tall, *TILE).out
    assert windows == []
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected
    assert hidden(workshop.folder) == []


def test_interrupted_inside_a_strip(workshop, finished, predict, tall, uninterrupted, monkeypatch):
    """Ctrl-C inside the network loses the strip at work and nothing else."""
    expected, _ = uninterrupted()
    original, calls = SuperResolver.enhancer, []

    def enhancer(self, *arguments, **options):
        enhance = original(self, *arguments, **options)

        def stopping(lr):
            calls.append(1)
            if len(calls) == 14:  # four windows a strip: the second of the fourth strip
                raise KeyboardInterrupt
            return enhance(lr)

        return stopping

    monkeypatch.setattr(SuperResolver, "enhancer", enhancer)
    assert workshop.run(finished, "predict", tall, *TILE).code == 130
    calls[:] = [1] * 100
    assert "resuming after 60 %" in predict(tall, *TILE).out
    assert len(calls) == 100 + 8
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected
    assert hidden(workshop.folder) == []


def test_a_torn_strip_is_done_again(workshop, predict, tall, interrupted, uninterrupted):
    """Rows that were being written when the power went are not trusted."""
    expected, _ = uninterrupted()
    interrupted()
    with open(workshop.folder / ".tall_x4.npy.partial", "ab") as stream:
        stream.write(b"\x01" * 1001)
    assert "resuming after 40 %" in predict(tall, *TILE).out
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected


@pytest.mark.parametrize("spoil", ["journal", "rows", "gone"])
def test_damaged_work_is_begun_anew(workshop, predict, tall, interrupted, uninterrupted, spoil):
    """A torn journal or missing rows cost time, never a wrong result."""
    expected, _ = uninterrupted()
    interrupted()
    part = workshop.folder / ".tall_x4.npy.partial"
    if spoil == "journal":
        part.with_name(f"{part.name}.json").write_text('{"rows": 64, "pie')
    elif spoil == "rows":
        os.truncate(part, 1000)
    else:
        part.unlink()
    assert "resuming" not in predict(tall, *TILE).out
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected
    assert hidden(workshop.folder) == []


@pytest.mark.parametrize("change", ["input", "settings", "tile", "weights"])
def test_other_work_begins_anew(workshop, finished, tall, interrupted, sibling, windows, change):
    """Another input, setting, tile or network is not mixed with what was done."""
    interrupted()
    source, options = finished, list(TILE)
    if change == "input":
        np.save(tall, sea_floor(40, 30) - 50)
    elif change == "settings":
        options += ["--lr-consistency", "project"]
    elif change == "tile":
        options = ["--tile", 16]
    else:
        source = sibling("other", 0.9)
    windows.clear()
    result = workshop.run(source, "predict", tall, *options)
    assert result.code == 0, result.err
    assert "resuming" not in result.out
    resumed, count = (workshop.folder / "tall_x4.npy").read_bytes(), len(windows)
    windows.clear()
    assert workshop.run(source, "predict", tall, *options, "--overwrite").code == 0
    assert len(windows) == count
    assert (workshop.folder / "tall_x4.npy").read_bytes() == resumed
    assert hidden(workshop.folder) == []


def test_an_option_of_writing_alone_goes_on(workshop, predict, tall, interrupted):
    """--dtype says how the rows are written at the end, so finished rows stay good."""
    interrupted()
    assert "resuming after 40 %" in predict(tall, *TILE, "--dtype", "float64").out
    assert np.load(workshop.folder / "tall_x4.npy").dtype == np.float64


def test_work_of_two_networks_is_never_mixed(
    workshop, finished, predict, tall, interrupted, uninterrupted, sibling, monkeypatch
):
    """A second network stopped between its rows and its journal leaves the first none of them."""
    expected, _ = uninterrupted()
    interrupted()
    other = sibling("other", 0.9)

    def never(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work_file, "replacing", never)
        result = workshop.run(other, "predict", tall, "--tile", 16)
        assert result.code == 130
    predict(tall, *TILE)
    assert (workshop.folder / "tall_x4.npy").read_bytes() == expected


def test_an_interrupted_folder_goes_on(workshop, finished, maps, monkeypatch):
    """The same command again does what is left of a folder, and only that."""
    with monkeypatch.context() as patch:
        original, opened = SuperResolver.enhancer, []

        def enhancer(self, *arguments, **options):
            opened.append(1)
            if len(opened) == 3:  # the settings are tried once before the first file
                raise KeyboardInterrupt
            return original(self, *arguments, **options)

        patch.setattr(SuperResolver, "enhancer", enhancer)
        assert workshop.run(finished, "predict", maps).code == 130
    first = workshop.folder / "maps_x4" / "a.npy"
    before = first.stat()
    result = workshop.run(finished, "predict", maps)
    assert (workshop.folder / "maps_x4" / "c.pkl").is_file()
    assert first.stat() == before
    assert result.code == 0, result.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_work_goes_on(workshop, finished, predict):
    """A process killed in the midst leaves no result, and the next gives that of one never killed.

    The kill comes as soon as the journal knows of a strip, of fifty.
    """
    path = workshop.folder / "long.npy"
    np.save(path, sea_floor(400, 96))
    journal = workshop.folder / ".long_x4.npy.partial.json"
    process = subprocess.Popen(
        [sys.executable, "main.py", str(finished), "predict", str(path), "--tile", "8"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not journal.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -9, out
    done = json.loads(journal.read_text())["rows"]
    assert 0 < done < 1600
    assert not (workshop.folder / "long_x4.npy").exists()
    result = predict(path, *TILE)
    assert f"resuming after {100 * done / 1600:.0f} % of the rows" in result.out
    assert hidden(workshop.folder) == []
    predict(path, *TILE, "-o", workshop.folder / "whole.npy")
    whole = np.load(workshop.folder / "whole.npy")
    np.testing.assert_array_equal(np.load(workshop.folder / "long_x4.npy"), whole)
