"""Images in memory are restored, enlarged and measured as files are."""

import json

import numpy as np
import pytest
import tifffile

import toolbox
from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import ConfigError, DataError
from toolbox.io.picture import Picture, read_picture, write_picture
from toolbox.run import Run
from toolbox.task import every_task, image_tasks, measuring_task
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image

PIXEL_NM = 0.8


@pytest.fixture(scope="module")
def picture():
    """A noisy picture of lines, 8 bits."""
    params = SimulationParams(save_dir="nowhere", frame_shape=(96, 128))
    field = LinePicture(np.random.default_rng(5), params, LineParams(sigma_nm=0.8, xi_nm=15))
    return field.expose(NoiseParams(peak_counts=12, drift_px=0, pair_offset_px=0), 1)


@pytest.fixture(scope="module")
def lines():
    """The model that ships for pictures of lines."""
    return Run.open("sem_lines")


@pytest.fixture(scope="module")
def photos():
    """The model that ships for photographs."""
    return Run.open("photo_x2")


def test_a_picture_is_restored_as_its_file_is(lines, picture, tmp_path):
    """The same pixels of the same type; floats are neither rounded nor clipped."""
    write_sem_image(tmp_path / "a.tif", picture, PIXEL_NM)
    lines.task.predictor(lines).predict(tmp_path / "a.tif", tmp_path / "b.tif")
    memory = lines.task.image_predictor(lines)
    made = memory.predict_image(picture)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, read_sem_image(tmp_path / "b.tif").pixels)
    exact = memory.predict_image(picture.astype(np.float64))
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(np.rint(np.clip(exact, 0, 255)), made)


def test_a_restored_picture_names_its_network(lines, picture, tmp_path, capsys):
    """On the terminal and in its tags, with the pixel size; `measure` notes it, on the page too."""
    write_sem_image(tmp_path / "a.tif", picture, PIXEL_NM)
    lines.task.predictor(lines).predict(tmp_path / "a.tif", tmp_path / "b.tif")
    assert f"{PIXEL_NM:.4g} nm per pixel, restored with sem_lines in " in capsys.readouterr().out
    mark = f"sem_lines (sr-toolbox {toolbox.__version__})"
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        said = json.loads(file.pages.first.description)
    assert said == {"pixel_nm": PIXEL_NM, "restored_by": mark}
    task = measuring_task()
    measurer = task.measurer(task.measure_options())
    measurer.measure(tmp_path / "b.tif", "b.tif", True)
    out = capsys.readouterr().out
    assert f"a pixel is {PIXEL_NM:.4g} nm, by its description" in out
    assert f"NOTE: restored by {mark}: edges are the network's estimate." in out
    (tmp_path / "result").mkdir()
    measurer.write(tmp_path / "result")
    assert f"restored by {mark}" in (tmp_path / "result" / "report.html").read_text("utf-8")


def test_doubts_of_a_picture_are_those_of_its_file(lines, picture, tmp_path, capsys):
    """What `predict` prints of an inverted picture, line by line; nothing of a usual one."""
    memory = lines.task.image_predictor(lines)
    assert memory.doubts(picture, PIXEL_NM) == []
    write_sem_image(tmp_path / "a.tif", 255 - picture, PIXEL_NM)
    lines.task.predictor(lines).predict(tmp_path / "a.tif", tmp_path / "b.tif")
    before = f"WARNING: {tmp_path / 'a.tif'}: "
    printed = capsys.readouterr().out.splitlines()
    told = [line.removeprefix(before) for line in printed if line.startswith(before)]
    assert told
    assert memory.doubts(255 - picture, PIXEL_NM) == told


@pytest.mark.parametrize(
    ("factor", "words"), [(1 / 255, "up to 1 of 1"), (200.0, "trained on 0 to 255")]
)
def test_floats_of_another_range_are_doubted(lines, picture, factor, words):
    """Shares of white, and counts beyond those of the training."""
    pixels = picture / picture.max() * 255 * factor
    assert any(words in line for line in lines.task.image_predictor(lines).doubts(pixels))


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_photograph_is_enlarged_as_its_file_is(photos, channels, dtype, tmp_path):
    """Grey, colours and alpha, 8 and 16 bits."""
    shape = (12, 16, channels) if channels else (12, 16)
    top = int(np.iinfo(dtype).max)
    pixels = np.random.default_rng(1).integers(0, top, shape, dtype, endpoint=True)
    colours = np.atleast_3d(pixels)[..., :3]
    alpha = pixels[..., 3] if channels == 4 else None
    given = Picture(colours, alpha, 8 * pixels.itemsize)
    strips = iter([np.dstack([colours] if alpha is None else [colours, alpha])])
    write_picture(tmp_path / "a.png", strips, (12, 16), given)
    photos.task.predictor(photos).predict(tmp_path / "a.png", tmp_path / "b.png")
    expected = read_picture(tmp_path / "b.png")
    made = photos.task.image_predictor(photos).predict_image(pixels)
    assert made.dtype == dtype
    np.testing.assert_array_equal(np.atleast_3d(made)[..., :3], expected.pixels)
    if alpha is not None:
        np.testing.assert_array_equal(made[..., 3], expected.alpha)


def test_what_is_no_picture_is_refused(lines, photos):
    """Colours for one channel, types that pictures do not have, arrays of further axes."""
    memory = lines.task.image_predictor(lines)
    with pytest.raises(DataError, match="one channel"):
        memory.predict_image(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="int32"):
        memory.doubts(np.zeros((8, 8), np.int32))
    enlarging = photos.task.image_predictor(photos)
    with pytest.raises(DataError, match="float32"):
        enlarging.predict_image(np.zeros((8, 8), np.float32))
    with pytest.raises(DataError, match="grey, RGB or RGBA"):
        enlarging.predict_image(np.zeros((2, 8, 8, 3), np.uint8))
    assert enlarging.doubts(np.zeros((8, 8), np.uint8)) == []


@pytest.mark.parametrize("is_upright", [True, False])
def test_a_picture_is_measured_as_its_file_is(picture, is_upright, tmp_path, capsys):
    """The same lines of text; the outlines lie where each line is said to be."""
    pixels = picture if is_upright else np.ascontiguousarray(picture.T)
    task = measuring_task()
    write_sem_image(tmp_path / "a.tif", pixels, PIXEL_NM)
    task.measurer(task.measure_options()).measure(tmp_path / "a.tif", "a", False)
    printed = capsys.readouterr().out
    found = task.image_measurer(task.measure_options()).measure_image(pixels, (PIXEL_NM,) * 2)
    for line in found.text.splitlines()[1:]:
        text = line.split(": ", 1)[1]
        assert any(part.split(None, 1)[-1].endswith(text) for part in printed.splitlines())
    assert all(f"NOTE: {note}" in printed for note in found.notes)
    headings, *rows = found.table
    centres = {row[0]: float(row[headings.index("centre (nm)")]) for row in rows}
    for number, centre in centres.items():
        paths = [path for name, path in found.outlines if name.split()[1] == number]
        across = np.concatenate(paths)[:, 1 if is_upright else 0]
        assert PIXEL_NM * across.mean() == pytest.approx(centre, abs=0.5)


def test_without_a_size_lengths_are_in_pixels(picture):
    """The unit stands in the headings."""
    task = measuring_task()
    found = task.image_measurer(task.measure_options()).measure_image(picture)
    assert "CD (px)" in found.table[0]
    with pytest.raises(DataError, match="missing pixels"):
        task.image_measurer(task.measure_options()).measure_image(np.full((32, 32), np.nan))
    with pytest.raises(DataError, match="one channel"):
        task.image_measurer(task.measure_options()).measure_image(picture[..., None])


def test_other_tasks_say_that_they_are_for_files():
    """They are refused in one line, whether for a run or for measuring."""
    names = {task.name for task in image_tasks()}
    assert names == {"sem", "photo"}
    for task in every_task():
        if task.name not in names:
            with pytest.raises(ConfigError, match=f"{task.name} are not for images in memory"):
                task.image_predictor(None)
            assert task.pixel_nm(None) is None
        if task.name != "sem":
            with pytest.raises(ConfigError, match="cannot measure images"):
                task.image_measurer(None)
