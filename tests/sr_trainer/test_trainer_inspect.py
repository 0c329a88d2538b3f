"""``main.py inspect map``: with a model and without, folders, pages, refusals, short form."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.inspect_maps import enlarged

ROOT = Path(__file__).resolve().parents[2]


def ground(seed=0, side=160):
    """Make self-affine terrain in metres."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    radius[0, 0] = np.inf
    wave = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side))) * radius**-1.65
    z = np.fft.ifft2(wave).real
    return (-1200 + 100 * z / z.std()).astype(np.float32)


@pytest.fixture
def maps(workshop):
    """Write a folder of a good map, an enlarged one and one in a folder of its own."""
    folder = workshop.folder / "maps"
    (folder / "deep").mkdir(parents=True)
    np.save(folder / "good.npy", ground())
    np.save(folder / "large.npy", enlarged(ground(1).astype(np.float64), 4))
    np.save(folder / "deep" / "more.npy", ground(2))
    return folder


@pytest.fixture
def inspect(workshop):
    """Run ``main.py inspect ...`` and hold that it succeeded."""

    def run(*arguments):
        result = workshop.run("inspect", *arguments)
        assert result.code == 0, result.err
        return result

    return run


def test_no_model_needs_no_tensorflow(maps):
    """``python main.py inspect map.npy`` answers without TensorFlow, in a process of its own."""
    command = [sys.executable, "-X", "importtime", "main.py", "inspect", maps / "large.npy"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    assert "verdict: doubtful: interpolated before: 100 %" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert "numpy" in names
    assert not names & {"tensorflow", "keras", "jax", "torch"}


def test_options_say_how_a_file_is_read(maps, inspect):
    """``--positive down`` turns the map round, as in predict; options may come first."""
    out = inspect(maps / "good.npy", "--positive", "down").out
    assert "positive down (declared by the user); 100 % above sea level" in out
    assert inspect("--positive", "down", maps / "good.npy").out == out


def test_a_folder_has_a_line_for_each_map(maps, inspect):
    """Verdicts in the order of names, then their count."""
    lines = inspect(maps).out.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        str(maps / name) for name in ("deep/more.npy", "good.npy", "large.npy")
    ]
    assert lines[2].split(": ")[1] == "doubtful"
    assert lines[-1] == "3 files: 0 fit, 2 usable with care, 1 doubtful"


def test_pages_of_a_folder(workshop, maps, inspect):
    """``-o folder`` holds a page for each, in the folders of the maps; none is replaced unasked."""
    inspect(maps, "-o", workshop.folder / "pages")
    pages = sorted(p.name for p in (workshop.folder / "pages").rglob("*.html"))
    assert pages == ["good.npy.html", "large.npy.html", "more.npy.html"]
    result = workshop.run("inspect", maps, "-o", workshop.folder / "pages")
    assert result.code == 2
    assert "already exists. Replace it with --overwrite" in result.out
    inspect(maps, "-o", workshop.folder / "pages", "--overwrite")


def test_a_page_of_one_map(workshop, maps, inspect):
    """``-o page.html`` writes it; a folder gets the name of the map."""
    inspect(maps / "good.npy", "-o", workshop.folder / "page.html")
    assert (workshop.folder / "page.html").is_file()
    inspect(maps / "good.npy", "-o", f"{workshop.folder}/")
    assert (workshop.folder / "good.npy.html").is_file()


def test_a_model_adds_its_training(workshop, finished, maps):
    """With a log folder, depth, slope and roughness are compared with its training."""
    result = workshop.run(finished, "inspect", maps / "good.npy")
    assert result.code == 0, result.err
    for name in ("depth", "slope", "roughness", "spacing"):
        assert f" {name} and training: " in result.out or name == "spacing"
    result = workshop.run("inspect", "--pretrained", "bathymetry_x4", maps / "good.npy")
    assert "depth and training: " in result.out
    assert "trained on -7424.6 to -1 m" in result.out


def test_predict_warns_of_what_inspect_finds(workshop, finished, maps):
    """The short form: a warning before a map is enlarged, none for a good one."""
    result = workshop.run(finished, "predict", maps / "large.npy")
    assert result.code == 0, result.err
    assert "WARNING: interpolated before: 100 % of the map has no relief finer than" in result.out
    result = workshop.run(finished, "predict", maps / "good.npy", "--range-mask", "--report")
    assert "interpolated" not in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect"], "inspect needs a map or a folder of maps"),
        (["inspect", "MAP", "--self-ensemble"], "--self-ensemble is for predict"),
        (["inspect", "MAP", "--resume"], "--resume is for train"),
        (["inspect", "MAP", "-o", "page.tif"], "page.tif: the page must end in .html"),
        (["inspect", "nowhere.tif"], "nowhere.tif: no such file"),
        (["inspect", "MAP", "--variable", "z"], "a .npy file has no variables; received 'z'"),
        (["inspect", "--pretrained", "photo_x2", "MAP"], "inspect is not for photo; it is for"),
        (["inspect", "--pretrained", "bathymetry", "MAP"], "bathymetry"),
    ],
)
def test_mistakes_are_one_line(workshop, maps, arguments, words):
    """What does not fit together is said in one line, with code 2."""
    given = [str(maps / "good.npy") if word == "MAP" else word for word in arguments]
    result = workshop.run(*given)
    assert result.code == 2
    assert "Traceback" not in result.out + result.err
    assert words in result.err


def test_a_folder_without_maps_or_with_a_bad_one(workshop, maps):
    """An empty folder is refused; a file that cannot be read is named, the others are done."""
    (workshop.folder / "empty").mkdir()
    result = workshop.run("inspect", workshop.folder / "empty")
    assert result.code == 2
    assert "empty: holds no map. Expected files that end in .tif" in result.err
    (maps / "bad.npy").write_bytes(b"no array")
    result = workshop.run("inspect", maps)
    assert result.code == 2
    assert "1 of 4 files could not be inspected: bad.npy" in result.err
    assert "3 files: 0 fit" in result.out
