"""The range of the training data: measured, written beside the weights, compared with a map."""

import dataclasses
import json

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.tasks.bathymetry.source import PatchSource
from toolbox.tasks.bathymetry.validity import (
    Validity,
    load_validity,
    measure_validity,
    save_validity,
)

RANGE = Validity((-500.0, -100.0), 0.2, (100.0, 100.0))


def plane(rise, across=0.0, size=(8, 9), depth=-300.0):
    """Return a plane that rises by so many metres a row and a column; its middle is at `depth`."""
    row, column = np.mgrid[: size[0], : size[1]]
    return depth + rise * (row - (size[0] - 1) / 2) + across * (column - (size[1] - 1) / 2)


def patches(count=2000):
    """Return planes of 6² pixels, 100 m apart, whose slopes are evenly spread from 0 to 1."""
    rises = 100 * np.linspace(0, 1, count)
    return np.stack([plane(rise, size=(6, 6), depth=-2000) for rise in rises])[..., None]


def test_measures_depths_and_slopes():
    """Depths are the extremes; of slopes 0.1 % are steeper than the recorded one."""
    lr = patches()
    found = measure_validity(lr, 100.0)
    assert found.depth_m == (-2250.0, -1750.0)
    assert found.slope == pytest.approx(0.999, abs=1e-6)
    assert found.delta_lr_m == (100.0, 100.0)


def test_more_images_than_are_read_at_a_time():
    """Images beyond the first thousand count, in order or not."""
    lr = patches()
    assert measure_validity(lr[::-1], 100.0) == measure_validity(lr, 100.0)
    assert measure_validity(lr[:1024], 100.0).slope < 0.52


def test_slope_is_that_of_the_grid():
    """Metres between rows and between columns are taken apart; twice as wide is half as steep."""
    lr = plane(30.0, 40.0)[None, ..., None]
    assert measure_validity(lr, 100.0).slope == pytest.approx(0.5)
    assert measure_validity(lr, (100.0, 100.0)) == measure_validity(lr, 100.0)
    assert measure_validity(lr, (200.0, 50.0)).slope == pytest.approx(np.hypot(0.15, 0.8))
    assert measure_validity(lr, [200.0, 50.0]).delta_lr_m == (200.0, 50.0)


def test_gaps_do_not_count():
    """Missing pixels change neither the depths nor the slopes of the others."""
    lr = patches(50)
    lr[3, 2, 2] = lr[7, 0, 5] = np.nan
    found, whole = measure_validity(lr, 100.0), measure_validity(patches(50), 100.0)
    assert found.depth_m == whole.depth_m
    assert found.slope == pytest.approx(whole.slope, rel=1e-2)


@pytest.mark.parametrize("size", [1, 2])
def test_images_too_small_for_a_slope(size):
    """Patches below 3 pixels have depths but no slope: none is steep, and nothing is warned of."""
    lr = np.linspace(-300, -100, 4).reshape(4, 1, 1, 1) * np.ones((1, size, size, 1))
    found = measure_validity(lr, 100.0)
    assert found.depth_m == (-300.0, -100.0)
    assert not found.outside(plane(50.0, depth=-200.0, size=(3, 3)), 100.0).any()


def test_round_trip(tmp_path):
    """What is written is read back to the bit, as plain JSON."""
    exact = measure_validity(patches(77) / 3, (92.77, 74.48))
    save_validity(exact, tmp_path / "new")
    assert load_validity(tmp_path / "new") == exact
    content = json.loads((tmp_path / "new" / "validity.json").read_text(encoding="utf-8"))
    assert set(content) == {"depth_m", "slope", "delta_lr_m", "roughness_m"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["validity.json"]


def test_nothing_recorded(tmp_path):
    """A folder without the file, and a record without the key, have no range."""
    assert load_validity(tmp_path) is None
    (tmp_path / "dataset.json").write_text('{"delta_lr_m": 200}', encoding="utf-8")
    assert load_validity(tmp_path, "dataset.json") is None


def test_range_in_the_record_of_a_data_set(tmp_path):
    """A record of more has the range under its key."""
    record = {"delta_lr_m": 200, "validity": dataclasses.asdict(RANGE)}
    (tmp_path / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    assert load_validity(tmp_path, "dataset.json") == RANGE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"slope": 0.1}',
        '{"depth_m": [1], "slope": 0.1, "delta_lr_m": [1, 1]}',
        '{"depth_m": [1, 2], "slope": "steep", "delta_lr_m": [1, 1]}',
        '{"depth_m": [1, 2], "slope": 0.1, "delta_lr_m": 100}',
        '{"depth_m": [1, null], "slope": 0.1, "delta_lr_m": [1, 1]}',
    ],
)
@pytest.mark.parametrize("name", ["validity.json", "dataset.json"])
def test_damaged_file(tmp_path, text, name):
    """A range that cannot be read is refused with the name of the file."""
    broken = text if name == "validity.json" else f'{{"validity": {text}}}'
    (tmp_path / name).write_text(broken, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}: is not a range of validity .* Remove the file"):
        load_validity(tmp_path, name)


@pytest.mark.parametrize("text", ["3", "null", "[1, 2]", '"text"'])
def test_record_that_is_no_record(tmp_path, text):
    """A dataset.json that is JSON but no mapping is refused by name, too."""
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"dataset\.json"):
        load_validity(tmp_path, "dataset.json")


def test_depths_outside():
    """Too deep and too shallow pixels are marked, the limits themselves are inside."""
    lr = np.full((5, 6), -300.0)
    lr[0, 0], lr[1, 2], lr[4, 5], lr[3, 3] = -500.0, -500.1, -100.0, -99.9
    wide = dataclasses.replace(RANGE, slope=np.inf)
    np.testing.assert_array_equal(np.argwhere(wide.outside(lr, 100.0)), [[1, 2], [3, 3]])


@pytest.mark.parametrize(("rise", "steep"), [(19.0, False), (21.0, True), (-21.0, True)])
@pytest.mark.parametrize("move", [np.asarray, np.transpose, np.fliplr])
def test_slopes_outside(rise, steep, move):
    """A plane steeper than the recorded slope is outside up to the margins, a gentle one not."""
    outside = RANGE.outside(move(plane(rise)), 100.0)
    assert outside.dtype == bool
    assert (outside == steep).all()


def test_slope_is_that_of_the_map():
    """The spacing of the map counts, not that of the training: twice as wide is half as steep."""
    lr = plane(30.0)
    assert RANGE.outside(lr, 100.0).all()
    assert not RANGE.outside(lr, 200.0).any()
    assert not RANGE.outside(lr, (200.0, 10.0)).any()
    assert RANGE.outside(lr, (100.0, 1000.0)).all()


def test_a_step_is_outside_beside_itself():
    """A cliff marks the pixels whose nine neighbours it crosses, and no others."""
    lr = np.full((6, 8), -300.0)
    lr[:, 4:] = -200.0  # 100 m within 200 m
    np.testing.assert_array_equal(RANGE.outside(lr, 100.0).all(0), [0, 0, 0, 1, 1, 0, 0, 0])


def test_missing_pixels_are_not_outside():
    """A gap is neither deep nor steep, in whatever ground it lies."""
    lr = plane(50.0, size=(9, 9), depth=-1000.0)
    gaps = np.zeros((9, 9), bool)
    gaps[4, 4] = gaps[0, 0] = gaps[7, 2] = gaps[2, 6:] = True
    lr[gaps] = np.nan
    outside = RANGE.outside(lr, 100.0)
    np.testing.assert_array_equal(outside, ~gaps)
    gentle = plane(50.0, size=(9, 9))
    gentle[4, 4] = np.nan  # deep enough, but in the middle of a steep plane
    assert not RANGE.outside(gentle, 100.0)[4, 4]


def test_gap_hides_the_slope_beside_it():
    """Beside a gap the slope is not known, so depth alone decides."""
    lr = plane(30.0)
    lr[3, 4] = np.nan
    outside = RANGE.outside(lr, 100.0)
    assert not outside[2:5, 3:6].any()
    assert outside[6, 7]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (2, 50), (50, 2), (3, 3)])
def test_tiny_maps(size):
    """Maps too small for a slope are judged by depth alone; 3 × 3 pixels have one slope."""
    lr = np.full(size, -300.0)
    assert not RANGE.outside(lr, 100.0).any()
    lr[0, 0] = -501.0
    assert RANGE.outside(lr, 1e9).sum() == 1
    assert not RANGE.outside(np.full(size, np.nan), 100.0).any()


def test_range_of_a_data_set(tiny_patches):
    """The loader measures the LR training images at the spacing of their record."""
    loader = PatchSource(str(tiny_patches))
    lr = loader.train()[0]
    found = loader.validity()
    assert found == measure_validity(lr, 200.0)
    assert found.depth_m == (lr.min(), lr.max())
    assert not any(found.outside(img[..., 0], 1e9).any() for img in lr)


def test_recorded_range_of_a_data_set_wins(workshop):
    """A range that the builder recorded, of the map before it was cut, is used as it is."""
    folder = workshop.own_patches()
    record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    record["validity"] = dataclasses.asdict(RANGE)
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    assert PatchSource(str(folder)).validity() == RANGE


def test_images_of_several_channels_have_no_range(workshop):
    """Colour is no depth."""
    folder = workshop.own_patches()
    for kind in ("LR", "HR"):
        path = folder / "train" / f"data_{kind}.pkl"
        workshop.edit_pickle(path, lambda imgs: imgs.repeat(3, axis=3))
    assert PatchSource(str(folder)).validity() is None


def test_a_run_keeps_the_range_of_its_training(finished, tiny_patches):
    """Beside the weights lies the range of the images that they were trained on."""
    assert load_validity(finished) == PatchSource(str(tiny_patches)).validity()
