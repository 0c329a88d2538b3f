"""How an SEM picture was taken: measured in it, compared with a training, told by the programs."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import DataError
from toolbox.tasks.sem.inspector import SemInspector
from toolbox.tasks.sem.sem_image import write_sem_image, write_sem_stack
from toolbox.tasks.sem.source import SEMSource
from toolbox.tasks.sem.validity import (
    FILE_NAME,
    Conditions,
    Validity,
    findings_of,
    load_validity,
    measure_conditions,
    validity_of,
    validity_text,
    verdict,
)

#: Lines without rims: the bright level is that of ``peak_counts``.
FLAT = {"rim": 0.0, "inside": 0.8, "foot": 0.0}


def picture(seed=0, shape=(256, 320), profile=None, **noise):
    """Take a picture of 16 nm lines, 8 bits unless told otherwise."""
    params = SimulationParams(save_dir="nowhere", frame_shape=shape, profile=profile or FLAT)
    lines = LineParams(sigma_nm=0.8, xi_nm=15, alpha=0.5)
    field = LinePicture(np.random.default_rng(seed), params, lines)
    return field.expose(NoiseParams(drift_px=0, pair_offset_px=0, white=3, **noise), 1)


def conditions(**changes):
    """Return a usual picture's conditions with some changed."""
    usual = Conditions(0.8, 10.0, 0.6, 0.4, 0.0, 0.97, 0.2, 0.3, 0.1, 20.0, 20.0, 2.5, 0.2)
    return usual._replace(**changes)


@pytest.fixture(scope="module")
def known():
    """What a training knew of pictures such as `conditions`, each figure up to 1.5 times off."""
    factors = np.linspace(1 / 1.5, 1.5, 41)
    rows = [
        Conditions(*(min(v * f, 1.0) if i == 5 else v * f for i, v in enumerate(conditions())))
        for f in factors
    ]
    return validity_of(rows)


# -- measured --------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [2, 5, 20, 100])
@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_dose_and_correlation_are_those_that_were_drawn(counts, correlation):
    """The dose within 30 % over two decades, the correlations along x and y within 0.05."""
    found = measure_conditions(picture(1, peak_counts=counts, correlation=correlation))
    assert found.counts == pytest.approx(counts, rel=0.3)
    assert found.correlation_x == pytest.approx(correlation, abs=0.05)
    assert found.correlation_y == pytest.approx(0, abs=0.05)
    assert found.noise_rise > 0.5


def test_dose_does_not_depend_on_the_grey_scale():
    """Contrast and brightness of the microscope change neither dose nor correlation."""
    dull = measure_conditions(picture(2, peak_counts=20, contrast=0.6, brightness=0.2))
    usual = measure_conditions(picture(2, peak_counts=20))
    assert dull.counts == pytest.approx(usual.counts, rel=0.15)
    assert dull.contrast == pytest.approx(0.6 * usual.contrast, rel=0.05)
    assert dull.correlation_x == pytest.approx(usual.correlation_x, abs=0.02)


def test_depth_makes_no_difference():
    """16 bits show what 8 bits show."""
    fine, coarse = (measure_conditions(picture(3, bits=bits)) for bits in (16, 8))
    assert fine.counts == pytest.approx(coarse.counts, rel=0.05)
    assert fine.contrast == pytest.approx(coarse.contrast, rel=0.02)


def test_widths_of_lines_spaces_and_edges():
    """16 nm lines at 32 nm are 20 px wide, as are the spaces; a wider beam makes wider edges."""
    narrow, wide = (
        measure_conditions(picture(4, profile={**FLAT, "psf_sigma_px": sigma}, peak_counts=50))
        for sigma in (0.5, 2.5)
    )
    assert (narrow.line_px, narrow.space_px) == (pytest.approx(20, abs=1), pytest.approx(20, abs=1))
    assert wide.edge_px > 1.7 * narrow.edge_px


def test_scan_lines_that_differ_are_no_noise_of_counting():
    """Offsets of whole rows change neither dose nor correlation by much."""
    found = measure_conditions(picture(5, peak_counts=20, row_offset=0.1))
    assert found.counts == pytest.approx(20, rel=0.3)
    assert found.correlation_x == pytest.approx(0.5, abs=0.05)


def test_a_shade_of_charge_shows():
    """A strong gradient dims one quarter by much, none by a few per cent."""
    params = SimulationParams(
        save_dir="nowhere", frame_shape=(256, 320), profile=FLAT, charging={"gradient": 0.8}
    )
    field = LinePicture(np.random.default_rng(2), params, LineParams(sigma_nm=0.8, xi_nm=15))
    shaded = field.expose(NoiseParams(drift_px=0, pair_offset_px=0, white=3), 1)
    assert measure_conditions(shaded).shade > 0.3
    assert measure_conditions(picture(2)).shade < 0.1


@pytest.mark.parametrize(("jitter_px", "counts"), [(0.0, 10), (0.5, 30), (1.0, 5)])
def test_rows_that_jump(jitter_px, counts):
    """How far they jump, whatever noise and roughness do to each edge."""
    images = [picture(seed, row_jitter_px=jitter_px, peak_counts=counts) for seed in (13, 14)]
    found = np.mean([measure_conditions(image).jumps_px for image in images])
    assert found == pytest.approx(jitter_px, abs=0.25 if jitter_px == 0 else 0.2 * jitter_px)


def test_inverted_turned_and_filtered_pictures_show():
    """Dark lines are noisier, turned lines horizontal, filtered noise correlated both ways."""
    usual = picture(6)
    assert measure_conditions(255 - usual).noise_rise < -0.3
    turned = measure_conditions(np.ascontiguousarray(usual.T))
    assert turned.direction < 0.3
    assert turned.correlation_y > 0.3
    assert turned.line_px == pytest.approx(20, abs=1)
    smooth = measure_conditions(np.rint(ndimage.gaussian_filter(usual.astype(float), 1.5)))
    assert min(smooth.correlation_x, smooth.correlation_y) > 0.7


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), np.uint8),
        np.full((300, 300), 7, np.uint16),
        np.zeros((3, 3), np.uint8),
        np.zeros((1, 1), np.uint8),
        np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8),
        np.tile(np.arange(64, dtype=np.uint8), (64, 1)),
    ],
)
def test_pictures_that_show_nothing(image):
    """Empty, tiny and noise-free pictures have finite figures or none."""
    found = measure_conditions(image)
    assert all(value is None or np.isfinite(value) for value in found)
    assert found.pixel_nm is None


# -- compared --------------------------------------------------------------------------------------


def test_the_usual_is_fine(known):
    """In the middle of the training nothing is said against a picture."""
    findings = findings_of(conditions(), known)
    assert [f.grade for f in findings] == ["fine"] * len(Conditions._fields)
    assert verdict(findings)[0] == "fine"


@pytest.mark.parametrize(
    ("change", "name", "word"),
    [
        ({"pixel_nm": 3.0}, "size of a pixel", "magnification"),
        ({"counts": 2.0}, "dose", "Average more frames"),
        ({"counts": 200.0}, "dose", "better as it is"),
        ({"noise_rise": -0.5}, "polarity", "inverted"),
        ({"correlation_x": 0.9}, "noise along rows", "not filtered"),
        ({"correlation_y": 0.5}, "noise along columns", "nor turned"),
        ({"direction": 0.1}, "direction of lines", "Turn the scan"),
        ({"contrast": 0.02}, "contrast", "contrast and brightness"),
        ({"brightness": 0.9}, "brightness", "contrast and brightness"),
        ({"shade": 0.6}, "shade", "Charging"),
        ({"line_px": 3.0}, "width of lines", "lengths in pixels"),
        ({"space_px": 300.0}, "width of spaces", "lengths in pixels"),
        ({"edge_px": 9.0}, "width of edges", "lengths in pixels"),
        ({"jumps_px": 1.0}, "jumps of rows", "look like roughness"),
        ({"counts": None}, "dose", "No counting noise"),
        ({"line_px": None}, "width of lines", "No bright lines"),
    ],
)
def test_each_condition_is_flagged_alone(known, change, name, word):
    """One warning, which says what was measured, what was trained on, and what to do."""
    findings = [f for f in findings_of(conditions(**change), known) if f.grade == "warning"]
    assert [f.name for f in findings] == [name]
    assert "; accepted " in findings[0].figure
    assert word in findings[0].advice
    assert verdict(findings)[1].startswith(f"outside what the network knows: {name}")


def test_what_lies_a_little_outside_is_a_note(known):
    """Also a size that is not known."""
    for change in ({"counts": 17.5}, {"pixel_nm": None}):
        grades = {f.grade for f in findings_of(conditions(**change), known)}
        assert grades == {"fine", "note"}


@pytest.mark.parametrize("name", Conditions._fields)
def test_grade_and_printed_range_agree(known, name):
    """A figure is fine if, and only if, it lies in the range that is printed next to it."""
    usual = getattr(conditions(), name)
    values = np.concatenate([np.linspace(0.4, 2, 801) * usual, np.linspace(-0.2, 0.5, 201)])
    grades, one = set(), Validity(1, {name: known.ranges[name]})
    for value in values[values >= (-1 if name.startswith("correlation") else 0)]:
        [finding] = findings_of(conditions(**{name: value}), one)
        text, low, high = re.findall(r"−?[\d.]+(?:e[-−+]?\d+)?", finding.figure)[:3]
        number, low, high = (float(each.replace("−", "-")) for each in (text, low, high))
        assert (finding.grade == "fine") == (low <= number <= high), finding
        grades.add(finding.grade)
    assert "fine" in grades
    assert len(grades) > 1 or name == "direction"


def test_ranges_leave_out_what_few_pictures_show():
    """Of pictures without lines no width is known, nor compared."""
    found = validity_of([conditions(line_px=None), conditions(line_px=None), conditions()])
    assert "line_px" not in found.ranges
    assert not [f for f in findings_of(conditions(line_px=1.0), found) if f.grade != "fine"]


def test_ranges_are_kept_in_a_file(known, tmp_path):
    """What is written is read; a damaged file is refused in one line."""
    path = tmp_path / FILE_NAME
    assert load_validity(tmp_path) is None
    path.write_text(validity_text(known))
    assert load_validity(tmp_path) == known
    for content in ("{", "[]", '{"ranges": {"counts": [1]}, "pictures": 3}', '{"pictures": 3}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"validity.json: not a range of validity"):
            load_validity(tmp_path)


# -- told ------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    """A log folder whose training had four pictures of 5 to 20 counts, 0.8 nm."""
    for number, counts in enumerate((5, 9, 14, 20)):
        for kind in ("low", "high"):
            path = tmp_path / "data" / "train" / kind / f"line_{number:04}.tif"
            write_sem_image(path, picture(number, (128, 160), peak_counts=counts), 0.8)
    source = SEMSource(str(tmp_path / "data"), central_crop_width=None, align="none", pixel_nm=1)
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / FILE_NAME).write_text(source.records()[FILE_NAME])
    return folder


def test_a_training_records_its_pictures(trained):
    """The doses that were drawn; the sizes that the files say, whatever the settings say."""
    found = load_validity(trained)
    assert isinstance(found, Validity)
    assert found.pictures == 4
    assert found.ranges["pixel_nm"] == (pytest.approx(0.8), pytest.approx(0.8))
    low, high = found.ranges["counts"]
    assert low == pytest.approx(5, rel=0.35)
    assert high == pytest.approx(20, rel=0.35)


def inspect(folder, path, pixel_nm=None, page=None, brief=False):
    return SemInspector(SimpleNamespace(pixel_nm=pixel_nm), folder).inspect(path, page, brief)


def test_inspect_tells_of_a_picture(trained, tmp_path, capsys):
    """A usual picture is like those of the training; one of another dose is not."""
    path = tmp_path / "usual.tif"
    write_sem_image(path, picture(7, (128, 160), peak_counts=10), 0.8)
    assert inspect(trained, path) == "fine"
    out = capsys.readouterr().out
    assert "usual.tif: 160 × 128 pixels" in out
    assert "fine    dose: " in out
    assert "verdict: like the pictures that the network was trained on" in out
    write_sem_image(tmp_path / "long.tif", picture(7, (128, 160), peak_counts=500), 0.8)
    assert inspect(trained, tmp_path / "long.tif", brief=True) == "warning"
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'long.tif'}: outside what the network knows: dose ")


def test_inspect_takes_the_size_of_a_pixel_that_is_stated(trained, tmp_path, capsys):
    """Of a PNG, which has no place for it; of a stack the first frame is looked at."""
    path = tmp_path / "usual.png"
    write_sem_image(path, picture(8, (128, 160), peak_counts=10))
    assert inspect(trained, path) == "note"
    assert "--pixel-nm" in capsys.readouterr().out
    assert inspect(trained, path, 0.8) == "fine"
    assert inspect(trained, path, 5.8) == "warning"
    frames = [picture(seed, (128, 160), peak_counts=10) for seed in (9, 10)]
    write_sem_stack(tmp_path / "stack.tif", frames, 2)
    capsys.readouterr()
    inspect(trained, tmp_path / "stack.tif", 0.8)
    assert "160 × 128 pixels, the first of 2 frames" in capsys.readouterr().out


def test_inspect_writes_a_page(trained, tmp_path):
    """With the verdict, every finding, the picture and what it was compared with."""
    path, page = tmp_path / "dark.tif", tmp_path / "page.html"
    write_sem_image(path, 255 - picture(11, (128, 160)), 0.8)
    assert inspect(trained, path, page=page) == "warning"
    text = page.read_text()
    assert text.rstrip().endswith("</html>")
    for words in ("polarity", "Outside what the network knows", "compared with", "data:image"):
        assert words in text


@pytest.mark.parametrize("brief", [True, False])
def test_inspect_notes_a_restored_picture(trained, tmp_path, capsys, brief):
    """What a network restored is named, on the terminal and on the page."""
    path, page = tmp_path / "usual.tif", tmp_path / "page.html"
    write_sem_image(path, picture(7, (128, 160), peak_counts=10), 0.8, "mine (sr-toolbox 1.0.0)")
    inspect(trained, path, page=page, brief=brief)
    note = "restored by mine (sr-toolbox 1.0.0): edges are the network's estimate."
    assert capsys.readouterr().out.count(note) == 1
    assert "restored by mine (sr-toolbox 1.0.0)" in page.read_text()


def test_inspect_without_ranges_compares_nothing(tmp_path, capsys):
    """A run of an earlier version: what was measured is told, and that nothing is compared."""
    path = tmp_path / "usual.tif"
    write_sem_image(path, picture(12, (128, 160)), 0.8)
    assert inspect(tmp_path, path, page=tmp_path / "page.html") == "fine"
    out = capsys.readouterr().out
    assert "  dose: " in out
    assert f"not compared, because {tmp_path} has no validity.json" in out
    assert json.dumps("Measured")[1:-1] in (tmp_path / "page.html").read_text()
