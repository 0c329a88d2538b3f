"""A low- and a high-resolution map are compared before they are cut: place, turn, values."""

import numpy as np
import pytest

from sr_dataset_builder.pair_maps import paired
from toolbox.errors import DataError
from toolbox.io.raster import Raster, read_raster

SCALE = 4
R, C = np.mgrid[:160, :208]
HR = (-900 + 60 * np.sin(R / 9) + 45 * np.cos(C / 7) + R - C / 2).astype(np.float32)
LR = HR.reshape(40, 4, 52, 4).mean((1, 3))
HR_PLACE = (0.01, 0.0, 140.0, 0.0, -0.01, 12.0)
LR_PLACE = (0.04, 0.0, 140.0, 0.0, -0.04, 12.0)
SOUTH_UP = (0.04, 0.0, 140.0, 0.0, 0.04, 10.4)
EAST_FIRST = (-0.04, 0.0, 142.08, 0.0, -0.04, 12.0)


def compare(values, place=None, hr_place=None, crs=None, hr_crs=None):
    """Compare an LR map with HR; return it as it is used, and the notes."""
    notes = []
    lr = Raster(values, fname="lr", transform=place, crs=crs)
    hr = Raster(HR, fname="hr", transform=hr_place, crs=hr_crs)
    return paired(lr, hr, SCALE, notes).values, notes


def test_right_pair():
    """Block means are found to be block means, with or without a place."""
    for places in ((None, None), (LR_PLACE, HR_PLACE)):
        values, notes = compare(LR, *places)
        np.testing.assert_array_equal(values, LR)
        assert len(notes) == 1
        assert "correlation 1.00" in notes[0]
        assert "WARNING" not in notes[0]


@pytest.mark.parametrize(
    ("values", "place"),
    [(LR[::-1], SOUTH_UP), (LR[:, ::-1], EAST_FIRST)],
    ids=["ascending latitudes", "descending longitudes"],
)
def test_a_map_that_says_how_it_lies_is_turned(values, place):
    """Rows and columns of the LR map get the directions of those of the HR map, and it is said."""
    turned, notes = compare(values, place, HR_PLACE)
    np.testing.assert_array_equal(turned, LR)
    assert "it is flipped" in notes[0]


def test_another_place_is_refused():
    """The corners of both are told, and how far they lie apart."""
    elsewhere = (0.04, 0.0, 141.0, 0.0, -0.04, 12.0)
    with pytest.raises(
        DataError, match=r"lr: covers another area than hr: corners differ by up to 25"
    ):
        compare(LR, elsewhere, HR_PLACE)


def test_another_spacing_is_refused():
    """The same corner and half the spacing is another area."""
    with pytest.raises(DataError, match="covers another area"):
        compare(LR, (0.02, 0.0, 140.0, 0.0, -0.02, 12.0), HR_PLACE)


def test_half_a_pixel_is_warned_of():
    """A shift by half a pixel, as of nodes taken for cells, is said with its size."""
    _, notes = compare(LR, (0.04, 0.0, 140.02, 0.0, -0.04, 12.0), HR_PLACE)
    assert "WARNING" in notes[0]
    assert "by 0.50 of its pixels" in notes[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (-LR, "Its sign is opposite"),
        (LR[::-1], "It fits if it is turned upside down, but no file states this"),
        (LR[:, ::-1], "It fits if it is mirrored from left to right"),
        (np.random.default_rng(0).normal(-900, 60, LR.shape), "Give two maps of the same area"),
    ],
    ids=["sign", "upside down", "mirrored", "another map"],
)
def test_values_that_do_not_belong_together_are_refused(values, words):
    """The figures are told, and what the LR map may be instead."""
    with pytest.raises(DataError, match=r"differs from the means of 4 × 4 pixels of hr by") as told:
        compare(values)
    assert words in str(told.value)


def test_a_survey_of_its_own_is_a_pair():
    """Noise and gaps of another survey are no reason to refuse; an offset is a warning."""
    other = LR + np.random.default_rng(0).normal(0, 15, LR.shape)
    other[3:9, 4:9] = np.nan
    _, notes = compare(other)
    assert "WARNING" not in notes[0]
    _, notes = compare(other + 5000)
    assert "WARNING" in notes[0]
    assert "5000 m on average" in notes[0]


def test_two_flat_maps_have_nothing_to_compare():
    """Without relief there is no correlation, and nothing is said of it."""
    flat, notes = Raster(np.full_like(LR, -900), fname="lr"), []
    hr = Raster(np.full_like(HR, -900), fname="hr")
    assert (paired(flat, hr, SCALE, notes).values == -900).all()
    assert notes == []


def test_one_flat_map_is_refused():
    """One value everywhere is no map of an area with relief; the figures are told."""
    with pytest.raises(DataError, match=r"differs from the means .* no relief at all\. Give two"):
        compare(np.full_like(LR, -900))
    gappy = np.full_like(LR, -900)
    gappy[:9] = np.nan
    with pytest.raises(DataError, match="no relief at all"):
        compare(gappy)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (LR / 0.3048, "It fits if multiplied by 0.3048: is it in feet?"),
        (LR / 1.8288, "It fits if multiplied by 1.8288: is it in fathoms?"),
        (LR / 1000, "It fits if multiplied by 1000: is it in km?"),
        (LR * 100, "It fits if multiplied by 0.01: is it in cm?"),
        (LR * 0.3048, "It fits if divided by 0.3048: is hr in feet?"),
        (-LR / 0.3048, "It fits if multiplied by 0.3048, with its sign reversed: is it in feet?"),
    ],
)
def test_another_unit_is_named(values, words):
    """A unit that no file names is found by its factor; noise of another survey is no hindrance."""
    noise = np.random.default_rng(0).normal(0, 0.005 * np.abs(values).mean(), LR.shape)
    with pytest.raises(DataError, match="correlation") as told:
        compare(values + noise)
    assert words in str(told.value)


@pytest.mark.parametrize("fill", [-9999, 7777])
def test_an_undeclared_fill_is_named_with_the_refusal(fill, tmp_path):
    """What the reader doubts comes with the refusal, and the option named there cures it."""
    spoiled = LR.copy()
    spoiled[:6, :20] = fill
    np.save(tmp_path / "lr.npy", spoiled)
    hr = Raster(HR, fname="hr")
    with pytest.raises(DataError, match=rf"are exactly {fill}, .*'nodata: {fill}'"):
        paired(read_raster(tmp_path / "lr.npy"), hr, SCALE, [])
    notes = []
    paired(read_raster(tmp_path / "lr.npy", nodata=fill), hr, SCALE, notes)
    assert "correlation 1.00" in notes[0]
