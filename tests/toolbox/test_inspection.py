"""What `inspect` finds: terrain of a known power law, treated on purpose, and real grids."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.inspect_maps import contoured, enlarged, half_enlarged, noisy, striped
from toolbox.errors import ConfigError, DataError
from toolbox.io.maps import open_map
from toolbox.predict_settings import PredictParams
from toolbox.resample import enlarge
from toolbox.task import every_task, inspecting_tasks
from toolbox.tasks.bathymetry.inspection import (
    CONTOURS_M,
    FACTORS,
    Finding,
    cutoff,
    energy_lost,
    judge_file,
    judge_range,
    judge_relief,
    notch_depth,
    take_survey,
    verdict,
)
from toolbox.tasks.bathymetry.inspector import MapInspector, quick_warnings
from toolbox.tasks.bathymetry.validity import Validity, load_validity, save_validity

GRIDS = Path(__file__).resolve().parents[3] / "shared/data/bathymetry"
NAMES = ("interpolated before", "terraces", "stripes", "noise", "rounding")


def terrain(seed=0, exponent=-3.3, rows=384, columns=None, relief_m=150.0):
    """Make self-affine terrain whose power spectral density falls with `exponent`, metres."""
    columns = columns or rows
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    wave = np.fft.fft2(rng.normal(size=(rows, columns))) * radius ** (exponent / 2)
    z = np.fft.ifft2(wave).real
    return -2000 + relief_m * z / z.std()


def survey_of(z, **options):
    """Survey an array (H, W)."""
    return take_survey(lambda r, c: z[r, c, None], z.shape, **options)


def grades(z, delta_m=None):
    """Return the grade of every finding of an array, by name."""
    return {f.name: f.grade for f in judge_relief(survey_of(z), delta_m)}


def finding(z, name, delta_m=None):
    """Return one finding of an array."""
    return next(f for f in judge_relief(survey_of(z), delta_m) if f.name == name)


RNG = np.random.default_rng
RANGE = Validity((-2600.0, -1400.0), 10.0, (100.0, 100.0), 100.0)
TREATED = {
    "×2": (lambda z: enlarged(z, 2), "interpolated before"),
    "×3": (lambda z: enlarged(z, 3)[:381, :381], "interpolated before"),
    "×4": (lambda z: enlarged(z, 4), "interpolated before"),
    "×4 linear": (
        lambda z: enlarge(z[None, :96, :96, None], 4, "bilinear")[0, ..., 0],
        "interpolated before",
    ),
    "spline ×2.6": (lambda z: ndimage.zoom(z[:148, :148], 2.6, order=3), "interpolated before"),
    "smoothed": (lambda z: ndimage.gaussian_filter(z, 2.5), "interpolated before"),
    "contours": (contoured, "terraces"),
    "contours of 20 m": (lambda z: contoured(z, 20.0), "terraces"),
    "stripes": (lambda z: striped(z, RNG(3)), "stripes"),
    "noise": (lambda z: noisy(z, RNG(4)), "noise"),
    "rounded": (lambda z: 50 * np.rint(z / 50), "rounding"),
}


@pytest.mark.parametrize("exponent", [-2.6, -3.3, -4.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_untouched_terrain_is_fine(seed, exponent):
    """Terrain that keeps its power law to the last pixel gives no finding, rough or smooth."""
    assert set(grades(terrain(seed, exponent)).values()) == {"fine"}


@pytest.mark.parametrize("name", TREATED)
def test_a_finding_fires_on_its_own_treatment_alone(name):
    """Each treatment gives a warning of its own, and none of another kind."""
    treat, expected = TREATED[name]
    found = grades(treat(terrain(7)))
    assert found.pop(expected) == "warning"
    assert "warning" not in found.values(), found


@pytest.mark.parametrize("scale", [2, 3, 4, 6, 8])
def test_the_factor_is_told(scale):
    """A whole-numbered enlargement has its notches at multiples of the old sampling frequency."""
    told = finding(enlarged(terrain(5, rows=768), scale)[:512, :512], "interpolated before")
    assert told.grade == "warning"
    assert f"enlarged {scale} times" in told.figure
    assert f"means of {scale} × {scale} pixels" in told.advice


def test_length_is_that_of_the_ground():
    """The finest relief of a map enlarged four times is about eight pixels, and in metres."""
    told = finding(enlarged(terrain(5), 4), "interpolated before", (100.0, 100.0))
    pixels = float(told.figure.split("finer than ")[1].split(" pixels")[0])
    assert 4 < pixels < 12
    metres = float(told.figure.split("(")[1].split(" m)")[0])
    assert metres == pytest.approx(100 * pixels, rel=0.02)


def test_a_part_is_told_with_share_and_place():
    """Of a map whose right half was enlarged, half is told, and where."""
    told = finding(half_enlarged(terrain(2, rows=512)), "interpolated before")
    assert told.grade == "warning"
    assert told.figure.startswith("50 % of the map has no relief")
    assert told.figure.endswith("within rows 0-511, columns 256-511")
    assert told.windows.reshape(4, 4).tolist() == [[False, False, True, True]] * 4


def test_a_corner_is_a_note():
    """A small interpolated part is worth a note with its place."""
    z = terrain(2, rows=512)
    z[:128, :384] = enlarged(z, 4)[:128, :384]
    told = finding(z, "interpolated before")
    assert told.grade == "note"
    assert "within rows 0-127, columns 0-383" in told.figure


def test_rounding_that_hides_the_fine_relief_is_said():
    """Where rounding has more power than the relief, no enlargement can be told, or denied."""
    told = finding(200 * np.rint(terrain(1, relief_m=120) / 200), "interpolated before")
    assert told.grade == "note"
    assert told.figure.startswith("cannot be determined: rounding to ")


def test_half_a_map_in_whole_metres_has_no_terraces():
    """Whole metres in a part of a map are its rounding, not contour lines of a metre."""
    z = terrain(3, rows=512)
    z[:, :256] = np.rint(z[:, :256])
    assert grades(z)["terraces"] == "fine"


def test_recorded_metres_below_the_roughness_do_no_harm():
    """Multiples of a metre are a note where the ground itself is rougher."""
    z = terrain(3, -2.2, relief_m=60)
    z = np.where(RNG(0).random(z.shape) < 0.6, np.rint(z), z)
    told = finding(z, "terraces")
    assert told.grade == "note"
    assert "multiples of 1 m" in told.figure


@pytest.mark.parametrize(("axis", "degrees"), [(0, 0), (1, 90)])
def test_direction_of_stripes(axis, degrees):
    """Swaths along the rows lie at 0°, along the columns at 90°, and are called a lattice."""
    z = terrain(4)
    offsets = RNG(1).normal(0, 10, z.shape[axis])
    told = finding(z + np.expand_dims(offsets, 1 - axis), "stripes")
    assert told.grade == "warning"
    assert f"lines at {degrees}° to the rows" in told.figure
    assert told.advice.startswith("The likely cause is the lattice of a coarser grid")


def test_noise_has_its_size():
    """The standard deviation told is that of the noise, to a quarter."""
    told = finding(terrain(4, -4.0) + RNG(2).normal(0, 12, (384, 384)), "noise")
    size = float(told.figure.split("deviation at most ")[1].split(" m")[0])
    assert size == pytest.approx(12, rel=0.25)


def test_measures_have_the_sizes_they_are_said_to_have():
    """One figure per window and factor; terrain loses nothing and has no notch."""
    survey = survey_of(terrain(0, rows=256))
    assert (survey.side, len(survey.places)) == (128, 4)
    assert energy_lost(survey).shape == notch_depth(survey).shape == (4, len(FACTORS))
    assert np.abs(energy_lost(survey)).max() < 1
    assert np.abs(notch_depth(survey)).max() < 0.5
    assert survey.concentration.shape == (4, 2, len(CONTOURS_M))
    assert cutoff(survey, np.ones(4, bool)) is None
    np.testing.assert_allclose(survey.directions.mean(axis=1), 1, atol=0.05)


# --- windows --------------------------------------------------------------------------------


def test_a_huge_map_is_read_in_bands():
    """A map of 20,000² pixels is sampled: few rows at a time, most of them never."""
    base = terrain(0, rows=160).astype(np.float32)
    bands = []

    def read(rows, columns):
        bands.append(rows.stop - rows.start)
        return np.tile(base[: rows.stop - rows.start], (1, 126))[:, columns][:, :20000, None]

    told = []
    survey = take_survey(read, (20000, 20000), most=4, tell=told.append)
    assert bands == [128] * 4
    assert told == [4] * 4
    assert survey.places[:, 0].tolist() == [0] * 4 + [6624] * 4 + [13248] * 4 + [19872] * 4


def test_tracks_are_seen_in_smaller_windows():
    """Where gaps leave no window of 128 pixels, smaller ones are taken."""
    z = terrain(0, rows=256)
    z[:, np.arange(256) % 80 >= 72] = np.nan
    survey = survey_of(z)
    assert survey.side < 128
    assert survey.missing == pytest.approx(0.1, abs=0.02)
    assert np.isfinite(survey.radial).all()


def test_filled_pixels_do_not_count_as_fractions():
    """A few gaps in a map of whole metres leave it one of whole metres."""
    z = np.rint(terrain(0, rows=256))
    z[RNG(0).random(z.shape) < 0.01] = np.nan
    assert survey_of(z).step_m == 1


@pytest.mark.parametrize(
    "z",
    [np.full((256, 256), np.nan), np.full((256, 256), -5.0), terrain(0, rows=20, columns=300)],
    ids=["gaps", "flat", "narrow"],
)
def test_nothing_to_look_at(z):
    """A map without a window that is complete and has relief gives no survey."""
    assert survey_of(z) is None


STRANGE = {
    "far too large": RNG(0).normal(0, 5e17, (160, 160)),
    "two values": np.rint(RNG(0).random((140, 140))),
    "one pixel": np.pad([[1.0]], 70),
    "plane": np.add.outer(np.arange(140.0), np.arange(140.0)),
    "wall": np.repeat([-100.0, 0.0], 70)[:, None] + np.zeros(140),
    "narrow": RNG(0).normal(size=(257, 33)).cumsum(0).cumsum(1),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_maps_are_judged_too(name):
    """Whatever the values are, there is a verdict, and no warning of NumPy."""
    survey = survey_of(STRANGE[name].astype(np.float32))
    findings = judge_relief(survey, None) + judge_range(survey, None, RANGE)
    assert [f.name for f in findings[:5]] == list(NAMES)
    assert all(f.figure for f in findings)
    assert all(bool(f.advice) == (f.grade != "fine") for f in findings)


# --- against a training ---------------------------------------------------------------------


def ranged(z, delta_m=(100.0, 100.0), validity=RANGE):
    """Return the findings of an array against a training, by name."""
    survey = survey_of(z, delta_m=delta_m)
    return {f.name.split(" and ")[0]: f for f in judge_range(survey, delta_m, validity)}


def test_ground_like_the_training_is_fine():
    """Depth, slope, roughness and spacing inside the range."""
    found = ranged(terrain(0))
    assert list(found) == ["depth", "slope", "roughness", "spacing"]
    assert {f.grade for f in found.values()} == {"fine"}


def test_ground_outside_the_training():
    """Deeper, steeper, rougher and finer ground is told, each by its own finding."""
    assert ranged(terrain(0) - 3000)["depth"].grade == "warning"
    assert "100 % of the map outside" in ranged(terrain(0) - 3000)["depth"].figure
    narrow = Validity((-9000.0, 0.0), 0.001, (100.0, 100.0), 0.1)
    found = ranged(terrain(0), validity=narrow)
    assert [f.grade for f in found.values()] == ["fine", "warning", "warning", "fine"]
    found = ranged(terrain(0), (10.0, 10.0))
    assert found["spacing"].grade == "note"
    assert "10 times finer" in found["spacing"].figure


def test_spacings_between_finest_and_coarsest_are_known():
    """Of several spacings, both ends count."""
    several = dataclasses.replace(RANGE, coarsest_lr_m=(500.0, 500.0))
    grades = [ranged(terrain(0), (d, d), several)["spacing"].grade for d in (20, 100, 1900, 2100)]
    assert grades == ["note", "fine", "fine", "note"]
    assert "to 500 × 500 m: 4.2 times coarser" in (
        ranged(terrain(0), (2100.0, 2100.0), several)["spacing"].figure
    )
    assert ranged(terrain(0), (1900.0, 1900.0))["spacing"].grade == "note"


def test_a_map_above_the_sea_may_have_the_other_sign():
    """All of it land, to a model of sea floors: a warning that names the sign, and no depth."""
    sea = dataclasses.replace(RANGE, depth_m=(-9000.0, -1.0))
    found = ranged(-terrain(0), validity=sea)
    assert "depth" not in found
    assert found["land"].grade == "warning"
    assert "--positive down" in found["land"].advice
    # A tide above the shallowest pixel of the training is no other ground.
    shallow = terrain(0) - terrain(0).max() - 0.1
    assert ranged(shallow * 0.001, validity=sea)["depth"].grade == "fine"


def test_land_is_told_and_is_no_depth_outside():
    """Of a coast, the land is a note of its own; a model that was trained on land has none."""
    coast = terrain(0)
    coast += 100 - np.quantile(coast, 0.75)  # a quarter lies 100 m above the sea or more
    coast[coast <= 100] -= 400
    sea = dataclasses.replace(RANGE, depth_m=(-9000.0, -1.0))
    found = ranged(coast, validity=sea)
    assert found["land"].grade == "note"
    assert re.match("2[3-7] % is above sea level", found["land"].figure)
    assert found["depth"].grade == "fine"
    both = dataclasses.replace(RANGE, depth_m=(-9000.0, 9000.0))
    assert "land" not in ranged(coast, validity=both)


def test_unknown_spacing_is_that_of_the_training():
    """Slopes of a file without spacing are counted as `predict --range-mask` counts them."""
    known, unknown = ranged(terrain(0)), ranged(terrain(0), None)
    assert unknown["slope"].figure == known["slope"].figure
    assert "spacing" not in unknown


def test_roughness_of_the_training_is_kept(tmp_path):
    """`validity.json` holds the roughness; that of an earlier version does not, and still loads."""
    save_validity(RANGE, tmp_path)
    assert load_validity(tmp_path) == RANGE
    path = tmp_path / "validity.json"
    content = json.loads(path.read_text())
    del content["roughness_m"]
    path.write_text(json.dumps(content))
    old = load_validity(tmp_path)
    assert old.roughness_m is None
    assert "roughness" not in ranged(terrain(0), validity=old)


# --- words ----------------------------------------------------------------------------------


def test_the_verdict_is_the_worst_with_its_reason():
    """A warning goes before a note, the first before the others, and they are counted."""
    fine, note, bad = (
        Finding("a", "fine", "x"),
        Finding("b", "note", "y"),
        Finding("c", "warning", "z"),
    )
    assert verdict([fine]) == ("fine", "fit to be enlarged: no problem found")
    assert verdict([fine, note]) == ("note", "usable with care: b: y")
    assert verdict([note, bad, bad]) == ("warning", "doubtful: c: z (and 1 more)")


def write(path, z):
    """Save an array and return its path."""
    np.save(path, z.astype(np.float32))
    return path


def inspector(folder=None, **options):
    """Return what inspects files, without a program."""
    return MapInspector(PredictParams(**options), folder)


def test_a_file_is_told_line_by_line(tmp_path, capsys):
    """Every finding has a line with its grade; the last one is the verdict."""
    path = write(tmp_path / "map.npy", enlarged(terrain(0), 4))
    assert inspector().inspect(path) == "warning"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 384 × 384 pixels"
    found = "  WARNING interpolated before: 100 % of the map has no relief finer than "
    assert lines[1].startswith(found)
    assert any(line.startswith("  note    spacing: unknown") for line in lines)
    assert lines[-1].startswith("verdict: doubtful: interpolated before: ")


def test_the_page_shows_verdict_findings_and_pictures(tmp_path, capsys):
    """One page without anything outside it: verdict, findings, map, spectrum, histogram."""
    path = write(tmp_path / "a <b>.npy", contoured(terrain(0)))
    page = tmp_path / "page.html"
    inspector().inspect(path, page)
    text = page.read_text(encoding="utf-8")
    assert "a &lt;b&gt;.npy" in text
    assert "Doubtful: terraces: depths cluster at multiples of 50 m" in text
    assert text.count("data:image/png") >= 3
    assert "peaks at multiples of 50 m" in text
    assert "http:" not in text
    assert "https:" not in text


def test_a_page_of_a_map_with_gaps_alone(tmp_path, capsys):
    """Nothing to look at is a warning, and a page all the same."""
    path = write(tmp_path / "map.npy", np.full((64, 64), np.nan))
    assert inspector().inspect(path, tmp_path / "page.html", brief=True) == "warning"
    line = f"{path}: doubtful: gaps: no square of 32 × 32 pixels"
    assert capsys.readouterr().out.startswith(line)


def test_too_small_a_map_is_said(tmp_path, capsys):
    """A map of 20 × 30 pixels says nothing of its making, and that is said."""
    path = write(tmp_path / "map.npy", terrain(0, rows=20, columns=30))
    assert inspector().inspect(path, brief=True) == "note"
    assert "30 × 20 pixels are too few to judge" in capsys.readouterr().out


def test_what_the_reader_says_is_a_finding(tmp_path):
    """A fill value that is not declared is found, with the option to give."""
    z = terrain(0, rows=160)
    z[:10, :10] = -9999
    with open_map(write(tmp_path / "map.npy", z)) as reader:
        found = judge_file(reader, survey_of(z))
    assert found[0].grade == "warning"
    assert found[0].figure.startswith("100 pixels are exactly -9999")
    assert str(tmp_path) not in found[0].figure


def test_depths_that_are_not_declared_are_asked_for(tmp_path):
    """All values above 0 and no sign declared: a note that names the option."""
    with open_map(write(tmp_path / "map.npy", -terrain(0, rows=160))) as reader:
        found = {f.name: f for f in judge_file(reader, survey_of(-terrain(0, rows=160)))}
    assert found["sign"].grade == "note"
    assert "--positive down" in found["sign"].advice


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("none.npy", None, "none.npy: no such file"),
        ("map.png", None, "no such file"),
        ("rgb.npy", np.zeros((40, 40, 3), np.uint8), "is an image of 3 channels"),
        ("map.xyz", np.zeros(3), "unknown kind of map '.xyz'"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, name, values, words):
    """A missing file, a picture and an unknown kind are one line each."""
    path = tmp_path / name
    if values is not None:
        with open(path, "wb") as stream:
            np.save(stream, values)
    with pytest.raises(DataError, match=words):
        inspector().inspect(path)


INSPECTING = {task.name for task in inspecting_tasks()}


@pytest.mark.parametrize("task", [t for t in every_task() if t.name not in INSPECTING])
def test_other_tasks_refuse_in_one_line(task):
    """A task without an inspector says for which tasks there is one."""
    said = f"inspect is not for {task.name}; it is for bathymetry and sem"
    with pytest.raises(ConfigError, match=said):
        task.inspector(PredictParams(), None)


def test_predict_is_warned_in_a_moment(tmp_path):
    """The short form: one line for each warning, nothing for good ground."""
    with open_map(write(tmp_path / "good.npy", terrain(0))) as reader:
        assert quick_warnings(reader, None) == []
        assert quick_warnings(reader, RANGE) == []
    with open_map(write(tmp_path / "bad.npy", enlarged(terrain(0), 2))) as reader:
        (line,) = quick_warnings(reader, None)
    assert line.startswith("interpolated before: 100 % of the map has no relief finer than ")


# --- real grids -----------------------------------------------------------------------------


def real(name):
    """Open a real grid, or skip."""
    path = GRIDS / name
    if not path.is_file():
        pytest.skip(f"needs {name}, which is not here")
    pytest.importorskip("rasterio")
    return open_map(path)


def test_real_survey_has_the_tracks_of_its_ship():
    """The multibeam BAG has swaths along its lines, at about 75° to the rows of the file."""
    pytest.importorskip("h5py")
    with real("navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag") as reader:
        found = quick_warnings(reader, None)
    assert any(line.startswith("stripes: ") and "lines at 75°" in line for line in found)


def test_real_map_without_faults():
    """The map off Cairns gives no warning; enlarged twice it does."""
    with real("cairns_gbr_GA2005_271m_utm55s.tif") as reader:
        assert quick_warnings(reader, None) == []
        z = reader.read(slice(300, 812), slice(900, 1412))[..., 0].astype(np.float64)
    assert grades(enlarged(z, 2))["interpolated before"] == "warning"
