"""``main.py measure picture``: what is printed and written, folders, stacks, refusals."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from toolbox.tasks.sem.pixel_size import PixelSize
from toolbox.tasks.sem.sem_image import write_sem_image, write_sem_stack

ROOT = Path(__file__).resolve().parents[2]
LINES = [(12 + 40 * k, 32 + 40 * k) for k in range(4)]


def picture(lines=LINES, height=96, width=172, noise=12.0, seed=0):
    """Draw bright lines, blurred by one pixel, with noise, 8 bits."""
    x = np.arange(width)
    share = sum(np.clip(np.minimum(x + 0.5, b) - np.maximum(x - 0.5, a), 0, 1) for a, b in lines)
    clean = np.tile(ndimage.gaussian_filter1d(60 + 120 * share, 1.0), (height, 1))
    noisy = clean + np.random.default_rng(seed).normal(0, noise, clean.shape)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


@pytest.fixture
def pictures(workshop):
    """Write a folder with a picture of known pixels, one in a folder of its own, and a stack."""
    folder = workshop.folder / "pictures"
    (folder / "deep").mkdir(parents=True)
    write_sem_image(folder / "a.tif", picture(), 0.5)
    write_sem_image(folder / "deep" / "b.png", picture(seed=1).T)
    frames = [np.roll(picture(noise=30, seed=n), n % 3, axis=1) for n in range(6)]
    write_sem_stack(folder / "stack.tif", frames, 6, PixelSize("test", 0.5))
    return folder


@pytest.fixture
def measure(workshop):
    """Run ``main.py measure ...`` and hold that it succeeded."""

    def run(*arguments):
        result = workshop.run("measure", *arguments)
        assert result.code == 0, result.err
        return result.out

    return run


def test_measuring_needs_no_tensorflow(pictures):
    """``python main.py measure a.tif`` answers without TensorFlow, and draws nothing."""
    command = [sys.executable, "-X", "importtime", "main.py", "measure", pictures / "a.tif"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    assert "a.tif: 4 bright vertical lines; a pixel is 0.5 nm, by its description" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert "numpy" in names
    assert not names & {"tensorflow", "keras", "jax", "torch", "matplotlib"}


def test_what_is_printed_of_a_picture(pictures, measure):
    """CD with interval, pitch, LWR and LER of both kinds, fit, length, sampling, every line."""
    out = measure(pictures / "a.tif")
    assert "(95 % over 4 lines)" in out
    facts = dict(line.strip().split("  ", 1) for line in out.splitlines()[1:-5])
    assert list(facts) == [
        "CD",
        "pitch",
        "LWR (3σ)",
        "LER (3σ)",
        "PSD of widths",
        "evaluated",
        "rows lost",
    ]
    assert float(facts["pitch"].split()[0]) == pytest.approx(20, abs=0.05)
    assert "48 nm along the lines, every 0.5 nm" in facts["evaluated"]
    rows = out.splitlines()[-4:]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row.split()[2]) for row in rows] == pytest.approx([10] * 4, abs=0.15)


def test_the_picture_to_try(workshop, measure):
    """It is small, its recipe gives the same bytes, and its figures are those of the README."""
    from examples.cd_sem.picture import main

    shipped = ROOT / "examples" / "cd_sem" / "picture.tif"
    assert main([str(workshop.folder / "again.tif")]) in (None, 0)
    content = (workshop.folder / "again.tif").read_bytes()
    assert content == shipped.read_bytes()
    assert len(content) < 100_000
    out = measure(shipped)
    assert "6 bright vertical lines; a pixel is 0.8 nm, by its description" in out
    assert "NOTE" not in out
    text = (ROOT / "examples" / "cd_sem" / "README.md").read_text(encoding="utf-8")
    for figure in ("16.40 ± 0.29 nm", "3.33 nm", "2.97"):
        assert figure in out
        assert figure in text


def test_pixels_direction_and_polarity(pictures, measure):
    """An unknown size is said; that of the command line counts; dark lines may be asked for."""
    out = measure(pictures / "deep" / "b.png", "--polarity", "dark")
    assert "3 dark horizontal lines; pixel size not known, so lengths are in pixels" in out
    out = measure("--pixel-nm", "2", pictures / "deep" / "b.png")
    assert "4 bright horizontal lines; a pixel is 2 nm, by pixel_nm" in out
    assert "but it is 0.5 nm by its description" in measure(pictures / "a.tif", "--pixel-nm", "2")


def test_a_data_bar_is_cut_off(workshop, measure):
    """The rows of the bar are told, and are no part of the lines."""
    pixels = np.vstack([picture(), np.zeros((20, 172), np.uint8)])
    write_sem_image(workshop.folder / "bar.tif", pixels, 0.5)
    out = measure(workshop.folder / "bar.tif")
    assert "a data bar of 20 rows is cut off" in out
    assert "48 nm along the lines" in out


def test_tables_and_page_of_a_folder(workshop, pictures, measure):
    """A row for each line and for each picture, lengths by their unit; one page; the stack too."""
    folder = workshop.folder / "result"
    out = measure(pictures, "-o", folder, "--precision-nm", "0.01")
    assert out.splitlines()[-1].startswith("written: frames.csv, measurements.csv, pictures.csv")
    assert out.splitlines()[-1].endswith(f" in {folder}; report: {folder / 'report.html'}")
    table = pd.read_csv(folder / "pictures.csv")
    assert table["picture"].tolist() == ["a.tif", "deep/b.png", "stack.tif"]
    assert table["n"].tolist()[:2] == [4, 4]
    assert table["cd_nm"][0] == pytest.approx(10, abs=0.1)
    assert np.isnan(table["cd_nm"][1])
    assert table["cd_px"][1] == pytest.approx(20, abs=0.2)
    assert table["frames"].tolist() == [1, 1, 6]
    assert {"lwr_biased_nm", "lwr_unbiased_nm", "ler_left_unbiased_nm", "psd_xi_nm"} <= set(table)
    lines = pd.read_csv(folder / "measurements.csv")
    assert (lines["picture"] == "a.tif").sum() == 4
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == 5
    assert "nothing here is certified against them" in page


def test_frames_of_a_stack(workshop, pictures, measure):
    """Frames that were shifted are brought together; averages of 1, 2, 4 and all are compared."""
    folder = workshop.folder / "result"
    out = measure(pictures / "stack.tif", "-o", folder, "--precision-nm", "0.01")
    assert "average of 6 frames" in out
    assert "frames reach 0.01 nm" in out
    table = pd.read_csv(folder / "frames.csv")
    assert table["frames"].tolist() == [1, 2, 4, 6]
    assert table["averages"].tolist() == [6, 3, 1, 1]
    assert table["lwr_biased_nm"].is_monotonic_decreasing
    # The shifts are whole pixels, which come back to a tenth of one.
    assert pd.read_csv(folder / "pictures.csv")["cd_nm"][0] == pytest.approx(10, abs=0.1)


def test_both_sides_of_a_pixel_count(workshop, measure):
    """Horizontal lines take the height of a pixel for their widths, and no note denies it."""
    path = workshop.folder / "flat.tif"
    write_sem_stack(path, [picture().T], 1, PixelSize("test", 0.5, 1.0))
    out = measure(path)
    assert "a pixel is 0.5 × 1 nm" in out
    assert "lengths are measured with the width" not in out
    cd = float(out.split("CD  ")[1].split()[0])
    assert cd == pytest.approx(20, abs=0.2)


def test_copies_of_a_frame_count_once(workshop, measure):
    """A page that is there several times makes no average more precise."""
    frames = [picture(noise=30, seed=n) for n in (0, 1, 1, 0, 2)]
    write_sem_stack(workshop.folder / "stack.tif", frames, 5, PixelSize("test", 0.5))
    out = measure(workshop.folder / "stack.tif")
    assert "average of 3 frames" in out
    assert "NOTE: 2 of 5 frames are copies of others and left out." in out


def test_results_are_not_replaced_unasked(workshop, pictures, measure):
    """A folder that is there is an error without --overwrite, and always if it holds more."""
    folder = workshop.folder / "result"
    measure(pictures / "a.tif", "-o", folder)
    result = workshop.run("measure", pictures / "a.tif", "-o", folder)
    assert result.code == 2
    assert "already exists. Replace it with --overwrite" in result.err
    measure(pictures / "a.tif", "-o", folder, "--overwrite")
    (folder / "notes.txt").touch()
    result = workshop.run("measure", pictures / "a.tif", "-o", folder, "--overwrite")
    assert result.code == 2
    assert "holds notes.txt, which measure did not write and would delete" in result.err
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure"], "measure needs a picture or a folder"),
        (["input.yml", "measure", "FILE"], "measure works without a network"),
        (["measure", "--pretrained", "sem_lines", "FILE"], "measure works without a network"),
        (["measure", "FILE", "--tile", "64"], "--tile is for predict"),
        (["measure", "FILE", "--resume"], "--resume is for train"),
        (
            ["measure", "FILE", "--threshold", "50"],
            "--threshold must be less than 1; received 50. For 50 %, write 0.5.",
        ),
        (["measure", "FILE", "--shape", "line"], "shape must be 'lines' or 'discs'"),
        (["predict", "--pretrained", "sem_lines", "FILE", "--lines", "auto"], "is for measure"),
        (["measure", "nowhere.tif"], "nowhere.tif: no such file"),
        (["measure", "input.txt"], "input.txt: not a picture. Expected one of .tif"),
        (["measure", "FILE", "-o", "FILE"], "a.tif: is a file; the tables and the page need"),
        (["measure", "FILE", "--lines", "horizontal"], "a.tif: no whole bright vertical line"),
    ],
)
def test_mistakes_are_one_line(workshop, pictures, arguments, words):
    """What does not fit together is said in one line, with code 2."""
    given = [str(pictures / "a.tif") if word == "FILE" else word for word in arguments]
    result = workshop.run(*given)
    assert result.code == 2
    assert "Traceback" not in result.out + result.err
    assert words in result.err


def test_a_folder_without_pictures_or_with_a_bad_one(workshop, pictures):
    """An empty folder is refused; a file that cannot be measured is named, the others are done."""
    (workshop.folder / "empty").mkdir()
    result = workshop.run("measure", workshop.folder / "empty")
    assert result.code == 2
    assert "empty: holds no picture. Expected files that end in .tif" in result.err
    (pictures / "bad.tif").write_bytes(b"II*\0 no picture")
    write_sem_image(pictures / "flat.tif", np.full((64, 64), 7, np.uint8))
    folder = workshop.folder / "result"
    result = workshop.run("measure", pictures, "-o", folder)
    assert result.code == 2
    assert "2 of 5 files could not be measured: bad.tif, flat.tif" in result.err
    assert len(pd.read_csv(folder / "pictures.csv")) == 3
