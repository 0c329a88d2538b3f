"""The generator of shapes in the layout of VOC 2012: masks, repeatability, what it refuses."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from toolbox.tasks.pix2pix.classes import VOC_NAMES, VOID, voc_palette

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--train", "3", "--val", "2", "--size", "48", "40")


@pytest.fixture
def generate(monkeypatch):
    """The module; examples are not installed."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("examples.pix2pix_voc.generate")


@pytest.fixture
def program(generate, tmp_path, capsys):
    """``program(*options, folder=...)``; returns exit code, output and messages."""

    def run(*options, folder="shapes"):
        code = generate.main([str(tmp_path / folder), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def files_in(folder):
    """Return every file below a folder with its bytes, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- pictures ----------------------------------------------------------------------------------


def test_forms_are_equally_large(generate):
    """Every form has area 1 about its centre, and its distance changes by 1 per unit of length."""
    step = 1 / 200
    y, x = np.mgrid[-1.5:1.5:step, -1.5:1.5:step]
    for kind in generate.KINDS:
        distance = kind.distance(x, y)
        assert (distance < 0).sum() * step**2 == pytest.approx(1, abs=0.01)
        for axis in (0, 1):
            assert np.abs(np.diff(distance, axis=axis)).max() < 1.001 * step
        slope = np.hypot(*np.gradient(distance, step))
        assert np.median(slope[np.abs(distance) < 0.05]) == pytest.approx(1, abs=0.01)


def test_classes_are_those_of_voc(generate):
    """Six different classes, all known to VOC, none the background."""
    ids = [kind.id for kind in generate.KINDS]
    assert len(set(ids)) == len(ids) == 6
    assert set(ids) <= set(range(1, len(VOC_NAMES)))


def test_pictures_depend_on_seed_and_number_alone(generate):
    """Drawn again, in any order, a picture is the same; another seed or number is another one."""
    first = [generate.draw(7, number, (48, 40)) for number in range(3)]
    again = [generate.draw(7, number, (48, 40)) for number in (2, 1, 0)][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(first[0][0], generate.draw(8, 0, (48, 40))[0])
    assert [ids.shape for _, ids in first] == [(40, 48), (40, 48), (48, 40)]


def test_background_is_most_of_it(generate):
    """Of 60 pictures 60 to 70 % is background, every class occurs, outlines are a few per cent."""
    masks = [generate.draw(0, number, (160, 128))[1] for number in range(60)]
    pixels = np.bincount(np.concatenate([ids.ravel() for ids in masks]), minlength=256)
    assert 0.6 < pixels[0] / (pixels.sum() - pixels[VOID]) < 0.72
    assert 0.03 < pixels[VOID] / pixels.sum() < 0.09
    assert set(np.flatnonzero(pixels)) == {0, *(kind.id for kind in generate.KINDS), VOID}
    shares = pixels[1:7] / pixels[1:7].sum()
    assert shares.min() > 0.08


def test_outlines_part_all_classes(generate):
    """No two classes touch, and an outline that runs alone is two to three pixels wide."""
    for number in range(12):
        _, ids = generate.draw(0, number, (96, 80))
        for axis in (0, 1):
            one, other = np.moveaxis(ids, axis, 0)[:-1], np.moveaxis(ids, axis, 0)[1:]
            assert ((one == other) | (one == VOID) | (other == VOID)).all()
        depth = ndimage.distance_transform_cdt(np.pad(ids, 1) == VOID, "chessboard")
        assert np.median(depth[depth > 0]) <= 2
        assert (depth[1:-1, 1:-1] == 1).any()


def test_colours_stand_out(generate):
    """Inside the shapes colours are stronger than on the ground: there is something to learn."""
    inside, outside = [], []
    for number in range(8):
        picture, ids = generate.draw(0, number, (96, 80))
        saturation = np.ptp(picture.astype(float), axis=2) / picture.max(axis=2).clip(1)
        inside.append(np.median(saturation[(ids > 0) & (ids < VOID)]))
        outside.append(np.median(saturation[ids == 0]))
    assert min(inside) > 0.45
    assert np.mean(inside) > np.mean(outside) + 0.3


# --- files -------------------------------------------------------------------------------------


def test_the_command_line_writes_the_layout_of_voc(tmp_path):
    """Pictures, palette masks and lists lie where VOC has them, and a line says so."""
    run = subprocess.run(
        [sys.executable, "-m", "examples.pix2pix_voc.generate", str(tmp_path / "shapes"), *TINY],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    [line] = run.stdout.splitlines()
    data_set = tmp_path / "shapes" / "VOCdevkit" / "VOC2012"
    assert line.startswith(f"5 pictures in {data_set}; background: ")
    names = [f"shapes_{number:06d}" for number in range(5)]
    lists = {"train": names[:3], "val": names[3:], "trainval": names}
    for name, expected in lists.items():
        path = data_set / "ImageSets" / "Segmentation" / f"{name}.txt"
        assert path.read_bytes() == "".join(f"{line}\n" for line in expected).encode()
    assert len(files_in(data_set)) == 2 * 5 + 3
    for number, name in enumerate(names):
        with (
            Image.open(data_set / "JPEGImages" / f"{name}.jpg") as picture,
            Image.open(data_set / "SegmentationClass" / f"{name}.png") as mask,
        ):
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert (mask.format, mask.mode) == ("PNG", "P")
            assert picture.size == mask.size == ((40, 48) if number == 2 else (48, 40))
            assert mask.getpalette() == voc_palette().ravel().tolist()
            assert set(np.unique(np.asarray(mask))) <= {*range(21), VOID}
            assert set(np.unique(np.asarray(mask))) > {0, VOID}


def test_masks_and_pictures_are_the_drawn_ones(generate, program, tmp_path):
    """Ids are stored without loss, pictures within what JPEG loses."""
    assert program(*TINY)[0] == 0
    data_set = tmp_path / "shapes" / generate.DATA_SET
    picture, ids = generate.draw(0, 4, (48, 40))
    with Image.open(data_set / "SegmentationClass" / "shapes_000004.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), ids)
    with Image.open(data_set / "JPEGImages" / "shapes_000004.jpg") as stored:
        error = np.asarray(stored).astype(float) - picture
    assert np.abs(error).mean() < 8


def test_same_seed_same_bytes(program, tmp_path):
    """Two runs write the same bytes; more pictures leave the first ones as they are."""
    assert program(*TINY, folder="one")[0] == 0
    assert program(*TINY, folder="other")[0] == 0
    assert program(*TINY, "--val", "3", folder="more")[0] == 0
    assert program(*TINY, "--seed", "1", folder="seed")[0] == 0
    one, other, more, seed = (
        files_in(tmp_path / name) for name in ("one", "other", "more", "seed")
    )
    assert one == other
    pictures = [name for name in one if not name.endswith(".txt")]
    assert all(more[name] == one[name] for name in pictures)
    assert all(seed[name] != one[name] for name in pictures)


def test_an_older_data_set_is_replaced_on_demand(program, tmp_path):
    """Without --overwrite it stays; with it, nothing of it is left."""
    assert program(*TINY)[0] == 0
    before = files_in(tmp_path / "shapes")
    code, out, err = program("--train", "1", "--val", "1", "--size", "40", "40")
    assert code == 2
    assert out == ""
    assert "already holds a data set" in err
    assert "--overwrite" in err
    assert files_in(tmp_path / "shapes") == before
    code, out, _ = program("--train", "1", "--val", "1", "--size", "40", "40", "--overwrite")
    assert code == 0
    assert out.startswith("2 pictures")
    assert len(files_in(tmp_path / "shapes")) == 2 * 2 + 3


@pytest.mark.parametrize(
    "name",
    [
        "JPEGImages/2007_000027.jpg",
        "SegmentationClass/2007_000032.png",
        "Annotations/2007_000027.xml",
        "ImageSets/Segmentation/train.txt",
        "ImageSets/Segmentation/test.txt",
    ],
)
def test_the_real_data_set_is_never_replaced(generate, program, tmp_path, name):
    """Anything that is not of shapes stays, even with --overwrite."""
    path = tmp_path / "shapes" / generate.DATA_SET / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"2007_000032\n")
    code, _, err = program(*TINY, "--overwrite")
    assert code == 2
    assert f"contains {name}, which does not belong" in err
    assert files_in(tmp_path / "shapes" / generate.DATA_SET) == {name: b"2007_000032\n"}


def test_a_stopped_run_is_no_data_set(generate, program, monkeypatch, tmp_path):
    """Stopped half-way there are no lists, so that the next run may replace what is there."""
    draw = generate.draw

    def stop(seed, number, size):
        if number == 3:
            raise KeyboardInterrupt
        return draw(seed, number, size)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "draw", stop)
        assert program(*TINY)[0] == 130
    data_set = tmp_path / "shapes" / generate.DATA_SET
    assert not list(data_set.rglob("*.txt"))
    (data_set / "JPEGImages" / ".shapes_000003.jpg.7.tmp.jpg").write_bytes(b"torn")
    assert program(*TINY)[0] == 0
    assert len(files_in(data_set)) == 2 * 5 + 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--train", "0"), "--train must be at least 1; received 0"),
        (("--val", "-1"), "--val must be at least 1; received -1"),
        (("--size", "160", "8"), "--size must be at least 32; received 8"),
        (("--seed", "-1"), "--seed must be at least 0; received -1"),
    ],
)
def test_options_out_of_range(program, tmp_path, options, words):
    """A number that makes no sense is one line, and no folder appears."""
    code, _, err = program(*options)
    assert code == 2
    assert err == f"error: {words}.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_instead_of_a_folder(program, tmp_path):
    """It is named in one line."""
    (tmp_path / "shapes").write_text("a file")
    code, _, err = program(*TINY)
    assert code == 2
    assert "expected a folder" in err
