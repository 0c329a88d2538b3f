"""The program resize: a low-resolution map from a high-resolution one."""

import io

import numpy as np
import pytest

from sr_dataset_builder.resize import METHODS, main, resize
from toolbox.errors import DataError

RAMP = np.tile(np.arange(24, dtype=np.float32), (24, 1))


def test_area_is_the_mean_of_each_square():
    """The default method averages 4 × 4 pixels, computed by hand on two of them."""
    img = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_allclose(resize(img), [[13.5, 17.5]])


def test_rows_and_columns_left_over_are_dropped():
    """A 26 × 25 map at scale 4 gives the 6 x 6 pixels of its upper left 24 × 24."""
    img = np.full((26, 25), 1e6, np.float32)
    img[:24, :24] = RAMP
    np.testing.assert_array_equal(resize(img), resize(RAMP))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_method_keeps_the_place(method, scale):
    """On a ramp a new pixel away from the margin has its centre's height, to half an old pixel."""
    centre = np.arange(24 // scale) * scale + (scale - 1) / 2
    for img in (RAMP, RAMP.T):
        small = resize(img, scale, method)
        line = small[1] if img is RAMP else small[:, 1]
        np.testing.assert_allclose(line[2:-2], centre[2:-2], rtol=0, atol=0.501)


def test_a_missing_pixel_spoils_the_pixel_it_touches():
    """A gap stays a gap: no mean over what is left."""
    img = RAMP.copy()
    img[5, 9] = np.nan
    small = resize(img)
    assert np.isnan(small[1, 2])
    assert np.isnan(small).sum() == 1


def test_unknown_method_is_refused():
    """A misspelt method is answered with the nearest one."""
    with pytest.raises(DataError, match="Did you mean 'cubic'"):
        resize(RAMP, 4, "cubik")


def test_map_smaller_than_a_pixel_is_refused():
    """A map of 3 rows has no pixel at scale 4."""
    with pytest.raises(DataError, match="smaller than one pixel at scale 4"):
        resize(RAMP[:3], 4)


@pytest.mark.parametrize("method", METHODS)
def test_program_writes_a_quarter_by_default(workshop, capsys, method):
    """The program reads the original pickle and writes a 1/4 one, the manual's use."""
    source = workshop.write_pickle(RAMP, workshop.folder / "HR.pkl")
    target = workshop.folder / "LR.pkl"
    assert main([str(source), "-o", str(target), "--method", method]) == 0
    small = workshop.read_pickle(target)
    np.testing.assert_array_equal(small, resize(RAMP, 4, method))
    assert small.shape == (6, 6)
    assert small.dtype == np.float32
    assert "6 x 6" in capsys.readouterr().out


def test_program_says_what_it_takes_as_missing(workshop, capsys):
    """An undeclared fill leaves a gap, not a hole of 100 km, and the program says so."""
    values = np.tile(RAMP, (2, 2)) - 3000
    values[:2, :2] = -99999
    source = workshop.write_pickle(values, workshop.folder / "HR.pkl")
    assert main([str(source), "-o", str(workshop.folder / "LR.pkl")]) == 0
    small = workshop.read_pickle(workshop.folder / "LR.pkl")
    assert np.isnan(small[0, 0])
    assert np.isnan(small).sum() == 1
    assert "4 pixels are exactly -99999" in capsys.readouterr().out


def test_program_refuses_an_evil_pickle(workshop, capsys):
    """A pickle with code in it is refused in one line, not executed, and nothing is written."""
    trace = workshop.evil_pickle(workshop.folder / "HR.pkl")
    before = workshop.snapshot()
    assert main([str(workshop.folder / "HR.pkl"), "-o", str(workshop.folder / "LR.pkl")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "never executed" in lines[0]
    assert not trace.exists()
    assert workshop.snapshot() == before


def test_report_fits_a_japanese_windows(workshop, monkeypatch):
    """The report can be redirected to a file where files are cp932, as on a Japanese Windows."""
    source = workshop.write_pickle(RAMP, workshop.folder / "HR.pkl")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="cp932", write_through=True)
    monkeypatch.setattr("sys.stdout", screen)
    assert main([str(source), "-o", str(workshop.folder / "LR.pkl")]) == 0
    assert b"LR.pkl" in screen.buffer.getvalue()


def test_program_refuses_scale_0(workshop):
    """A scale below 1 is refused by name."""
    source = workshop.write_pickle(RAMP, workshop.folder / "HR.pkl")
    with pytest.raises(SystemExit) as stop:
        main([str(source), "--scale", "0"])
    assert stop.value.code == 2
