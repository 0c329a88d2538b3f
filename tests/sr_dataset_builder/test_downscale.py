"""The program downscale: pairs of photographs with exact values, and originals that are never lost.

``KILLS=20 pytest tests/sr_dataset_builder/test_downscale.py`` kills more often.
"""

import errno
import io
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from sr_dataset_builder import downscale
from sr_dataset_builder.downscale import main
from toolbox.errors import DataError
from toolbox.io.picture import read_picture

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", "3"))
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
ORIENTATION = 0x0112


def noise(*shape, seed=0, dtype=np.uint8):
    """Return whole numbers over the full range of their type."""
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, shape, dtype, endpoint=True)


def put(path, pixels, **options):
    """Write a picture with Pillow; return its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path.read_bytes()


def content(folder):
    """Return every file below a folder with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def stored(path):
    """Return what a PNG holds, as Pillow sees it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def shrunk(pixels, factor=2, method="bicubic"):
    """Return what Pillow makes of a picture (H, W, C), in fractions, rounded once."""
    rows, columns = (side // factor for side in pixels.shape[:2])
    cut = pixels[: rows * factor, : columns * factor].astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(plane).resize((columns, rows), FILTERS[method]))
        for plane in np.moveaxis(cut, 2, 0)
    ]
    top = np.iinfo(pixels.dtype).max
    return np.clip(np.rint(np.stack(planes, 2)), 0, top).astype(pixels.dtype)


def block_mean(pixels, factor):
    """Return the mean of each block of a picture (H, W, C)."""
    rows, columns = (side // factor for side in pixels.shape[:2])
    cut = pixels[: rows * factor, : columns * factor].astype(float)
    return cut.reshape(rows, factor, columns, factor, -1).mean((1, 3))


@pytest.fixture
def photos(tmp_path):
    """An empty folder for photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def program(photos, capsys):
    """``program(*options)`` on the folder; returns exit code, output and messages."""

    def run(*options):
        code = main([str(photos), *map(str, options)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


# --- pairs -------------------------------------------------------------------------------------


def test_originals_move_and_half_size_copies_appear(photos, program):
    """Two folders of pairs with the tree, the bytes and times of the originals, exact halves."""
    names = ["海 辺.png", "Trip 1/b.c.PNG", "Trip 1/deep/x.TIF"]
    originals = {name: put(photos / name, noise(12, 16, 3, seed=i)) for i, name in enumerate(names)}
    jpeg = put(photos / "IMG_1.JPG", noise(12, 16, 3))
    put(photos / ".hidden" / "thumbnail.png", noise(4, 4))
    (photos / "notes.txt").write_text("not a photograph")
    for path in photos.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18 + 123_000_000))
    code, out, _ = program()
    assert code == 0
    assert "pairs made: 4" in out
    found = content(photos)
    for name, data in {**originals, "IMG_1.JPG": jpeg}.items():
        assert found[f"HR/{name}"] == data
        assert (photos / "HR" / name).stat().st_mtime_ns == 10**18 + 123_000_000
    decoded = {name: noise(12, 16, 3, seed=i) for i, name in enumerate(names)}
    for name, pixels in {**decoded, "IMG_1.JPG": np.asarray(Image.open(io.BytesIO(jpeg)))}.items():
        small = stored((photos / "LR" / name).with_suffix(".png"))
        np.testing.assert_array_equal(small, shrunk(pixels))
    assert {name for name in found if not name.startswith(("HR/", "LR/"))} == {
        ".hidden/thumbnail.png",
        "notes.txt",
    }
    assert len(found) == 10


def test_another_factor_is_refused(photos, program):
    """Copies of two sizes in one folder would be no data set."""
    put(photos / "a.png", noise(12, 18, 3))
    assert program("--factor", 3)[0] == 0
    data = put(photos / "b.png", noise(12, 18, 3))
    code, _, err = program("--factor", 2)
    assert code == 2
    assert "a.png: is 6 × 4 pixels, not 1/2 of 18 × 12. Use the earlier --factor" in err
    assert (photos / "b.png").read_bytes() == data
    assert program("--factor", 3)[0] == 0


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "area"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_values_of_every_method(photos, program, factor, method):
    """The copy is Pillow's of the photograph cut at the right and below; area is a block mean."""
    pixels = noise(13, 19, 3)
    put(photos / "a.png", pixels)
    assert program("--factor", factor, "--method", method)[0] == 0
    small = stored(photos / "LR" / "a.png")
    assert small.shape == (13 // factor, 19 // factor, 3)
    if method == "area":
        assert np.abs(small - block_mean(pixels, factor)).max() <= 0.5
    else:
        np.testing.assert_array_equal(small, shrunk(pixels, factor, method))


def test_smooth_pictures_come_out_as_from_any_image_program(photos, program):
    """Where nothing overshoots, the copy is Pillow's own 8-bit one to a count."""
    row, column = np.mgrid[:40, :60]
    pixels = np.stack([2 * row + 40, 2 * column + 40, row + column + 40], 2).astype(np.uint8)
    put(photos / "a.png", pixels)
    assert program()[0] == 0
    whole = np.asarray(Image.fromarray(pixels).resize((30, 20), FILTERS["bicubic"]), int)
    assert np.abs(stored(photos / "LR" / "a.png") - whole).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_copy_is_upright(photos, program, orientation):
    """The copy is cut and made after the photograph was turned, and carries no turn of its own."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = put(photos / "a.png", noise(9, 14, 3), exif=exif)
    assert program()[0] == 0
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert upright.shape[:2] == ((9, 14) if orientation < 5 else (14, 9))
    with Image.open(photos / "LR" / "a.png") as copy:
        assert copy.getexif().get(ORIENTATION, 1) == 1
        np.testing.assert_array_equal(np.asarray(copy), shrunk(upright))
    assert (photos / "HR" / "a.png").read_bytes() == data


@pytest.mark.parametrize("kind", ["grey.png", "grey.tif", "rgb.png", "rgb.tif"])
def test_16_bits_stay_16_bits(photos, program, kind):
    """Values of 16 bits are averaged as such."""
    pixels = noise(8, 12, 3 if "rgb" in kind else 1, dtype=np.uint16)
    squeezed = pixels.squeeze()
    if kind.endswith("tif"):
        colours = "rgb" if "rgb" in kind else "minisblack"
        tifffile.imwrite(photos / kind, squeezed, photometric=colours)
    else:
        assert cv2.imwrite(str(photos / kind), squeezed[..., ::-1] if "rgb" in kind else squeezed)
    assert program("--method", "area")[0] == 0
    small = cv2.imread(str((photos / "LR" / kind).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
    assert small.dtype == np.uint16
    small = small[..., ::-1] if "rgb" in kind else small[..., None]
    assert np.abs(small - block_mean(pixels, 2)).max() <= 0.5


def palette(transparent):
    """Return a picture of four colours, and its colours and transparency."""
    image = Image.fromarray(noise(8, 8) % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 90, 90])
    return image, {"transparency": bytes([0, 255, 100, 255])} if transparent else {}


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (lambda: (Image.fromarray(noise(8, 8)), {}), "L"),
        (lambda: (Image.fromarray(noise(8, 8, 2)), {}), "LA"),
        (lambda: (Image.fromarray(noise(8, 8, 4)), {}), "RGBA"),
        (lambda: palette(transparent=False), "RGB"),
        (lambda: palette(transparent=True), "RGBA"),
        (lambda: (Image.fromarray(noise(8, 8) > 99), {}), "L"),
    ],
    ids=["grey", "grey and alpha", "colour and alpha", "palette", "clear palette", "1 bit"],
)
def test_kinds_of_pixels(photos, program, make, mode):
    """Grey stays grey, palettes become colours, transparency is reduced like a colour."""
    image, options = make()
    image.save(photos / "a.png", **options)
    assert program("--method", "area")[0] == 0
    with Image.open(photos / "HR" / "a.png") as hr:
        expected = np.asarray(hr.convert(mode), float)
    small = stored(photos / "LR" / "a.png")
    with Image.open(photos / "LR" / "a.png") as copy:
        assert copy.mode == mode
    expected = block_mean(expected if expected.ndim == 3 else expected[..., None], 2)
    assert np.abs(small.reshape(expected.shape) - expected).max() <= 0.5


def test_colour_profile_is_kept(photos, program):
    """The ICC profile of the photograph is that of the copy."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    put(photos / "a.jpg", noise(8, 8, 3), icc_profile=profile)
    assert program()[0] == 0
    with Image.open(photos / "LR" / "a.png") as copy:
        assert copy.info["icc_profile"] == profile


def test_reader_of_pairs_sees_equal_shapes(photos, program):
    """Read by the project, the photograph has exactly `factor` times the pixels once it is cut."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    put(photos / "a.jpg", noise(31, 50, 3), exif=exif)
    assert program("--factor", 3)[0] == 0
    high = read_picture(photos / "HR" / "a.jpg").pixels
    assert high.shape == (50, 31, 3)
    assert read_picture(photos / "LR" / "a.png").pixels.shape == (16, 10, 3)


# --- further runs ------------------------------------------------------------------------------


def test_second_run_does_nothing(photos, program):
    """What is done stays as it is, and the pairs are never taken as input."""
    put(photos / "a.png", noise(8, 8))
    put(photos / "sub" / "b.png", noise(8, 8))
    program()
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    code, out, _ = program()
    assert code == 0
    assert "pairs made: 0, complete before: 2" in out
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before


def test_new_photographs_join_the_pairs(photos, program):
    """A run after new photographs have come pairs just these."""
    put(photos / "a.png", noise(8, 8))
    program()
    put(photos / "b.png", noise(8, 8))
    assert "pairs made: 1, complete before: 1" in program()[1]
    assert sorted(content(photos)) == ["HR/a.png", "HR/b.png", "LR/a.png", "LR/b.png"]


def test_keep_copies_the_originals(photos, program):
    """With --keep the originals stay, also the second time."""
    data = put(photos / "a.png", noise(8, 8))
    for line in ("pairs made: 1, complete before: 0", "pairs made: 0, complete before: 1"):
        code, out, _ = program("--keep")
        assert code == 0
        assert line in out
        assert (photos / "a.png").read_bytes() == (photos / "HR" / "a.png").read_bytes() == data
    assert program()[0] == 0
    assert sorted(content(photos)) == ["HR/a.png", "LR/a.png"]


def test_other_folders(photos, program, tmp_path):
    """The two folders may lie elsewhere; what lies in the usual ones is not taken as input."""
    put(photos / "a.png", noise(8, 8))
    assert program()[0] == 0
    put(photos / "b.png", noise(8, 8))
    assert program("--hr-dir", tmp_path / "high", "--lr-dir", tmp_path / "low")[0] == 0
    assert sorted(content(tmp_path)) == [
        "high/b.png",
        "low/b.png",
        "photos/HR/a.png",
        "photos/LR/a.png",
    ]


def test_copies_by_another_factor(photos, program):
    """A further folder of copies is made from the originals that were moved before."""
    put(photos / "a.png", noise(8, 8))
    program()
    assert program("--factor", 4, "--lr-dir", photos / "LR4")[0] == 0
    assert stored(photos / "LR4" / "a.png").shape == (2, 2)
    (photos / "LR" / "a.png").unlink()
    assert program()[0] == 0
    assert stored(photos / "LR" / "a.png").shape == (4, 4)


@pytest.mark.parametrize("state", ["unfinished files", "LR", "LR and HR"])
def test_interrupted_work_is_resumed(photos, program, state):
    """Wherever a run was stopped, the next one completes the pair and tidies up."""
    data = put(photos / "a.png", noise(8, 8))
    program()
    done = content(photos)
    shutil.copyfile(photos / "HR" / "a.png", photos / "a.png")
    if state != "LR and HR":
        (photos / "HR" / "a.png").unlink()
    if state == "unfinished files":
        (photos / "LR" / "a.png").unlink()
        for kind in ("HR", "LR"):
            (photos / kind / ".downscale-0123456789ab.tmp.png").write_bytes(data[:50])
    code, out, _ = program()
    assert code == 0
    assert "pairs made: 1" in out
    assert content(photos) == done


# --- what is refused ---------------------------------------------------------------------------


def huge_png():
    """Return a small file that claims 60000 × 60000 pixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_bad_files_are_left_and_named(photos, program):
    """Each bad file is named with a reason and stays; the good one is paired; the code is 2."""
    good = put(photos / "good.jpg", noise(40, 40, 3))
    png = put(photos / "whole.png", noise(40, 40, 3))
    (photos / "whole.png").unlink()
    put(photos / "tiny.png", noise(1, 40))
    bad = {
        "empty.jpg": b"",
        "text.jpg": b"no picture at all",
        "torn.jpg": good[: len(good) // 2],
        "torn.png": png[: len(png) // 2],
        "huge.png": huge_png(),
        "tiny.png": (photos / "tiny.png").read_bytes(),
    }
    bad["broken.png"] = bad.pop("torn.png")  # its stem is that of the JPEG
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    code, out, err = program()
    assert code == 2
    assert f"{len(bad)} of {len(bad) + 1} photographs were not processed" in err
    lines = [line for line in out.splitlines() if line.startswith("not done: ")]
    assert len(lines) == len(bad)
    for name in bad:
        [line] = [line for line in lines if name in line]
        assert len(line) > len(f"not done: {photos / name}: ") + 5
    found = content(photos)
    assert found.keys() == {*bad, "HR/good.jpg", "LR/good.png"}
    assert {name: found[name] for name in bad} == bad


@pytest.mark.parametrize("other", ["a.png", "A.png"])
def test_two_photographs_of_one_stem(photos, program, other):
    """The second of two that would share a copy is refused, in later runs too, until renamed."""
    put(photos / "a.jpg", noise(8, 8))
    data = put(photos / other, noise(10, 10))
    kept, waiting = sorted(["a.jpg", other])
    for _ in range(2):
        code, out, _ = program()
        assert code == 2
        assert waiting in out
        assert "Rename" in out
        names = content(photos).keys()
        assert names == {waiting, f"HR/{kept}", f"LR/{Path(kept).stem}.png"}
    (photos / waiting).rename(photos / f"b{Path(waiting).suffix}")
    assert program()[0] == 0
    assert len(content(photos)) == 4
    assert data in content(photos / "HR").values()


def test_another_original_is_never_replaced(photos, program):
    """A different file of the same name among the originals: both stay."""
    mine, other = put(photos / "a.png", noise(8, 8)), put(photos / "HR" / "a.png", noise(6, 6))
    code, out, _ = program()
    assert code == 2
    assert "is another file with this name" in out
    assert content(photos) == {"a.png": mine, "HR/a.png": other}


@pytest.mark.parametrize("damage", [b"no picture", None])
def test_another_copy_is_never_replaced(photos, program, damage):
    """A foreign, damaged or differently made copy is refused; nothing moves."""
    put(photos / "a.png", noise(8, 8))
    put(photos / "LR" / "a.png", noise(4, 4, seed=1))
    if damage:
        (photos / "LR" / "a.png").write_bytes(damage)
    before = content(photos)
    code, out, _ = program()
    assert code == 2
    assert "differs from the copy that would be made now" in out
    assert content(photos) == before


def test_links_and_folders_are_not_moved(photos, program, tmp_path):
    """A link is named and left; a folder called like a photograph is a folder."""
    data = put(tmp_path / "elsewhere.png", noise(8, 8))
    (photos / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (photos / "linked").symlink_to(tmp_path, target_is_directory=True)
    put(photos / "folder.png" / "a.png", noise(8, 8))
    code, out, _ = program()
    assert code == 2
    assert "link.png is a link" in out
    assert (tmp_path / "elsewhere.png").read_bytes() == data
    assert (photos / "HR" / "folder.png" / "a.png").is_file()
    assert (photos / "link.png").is_symlink()


def test_the_copy_is_never_the_file_itself(photos, program):
    """Where the folder of originals leads back to the photographs, nothing is removed."""
    data = put(photos / "sub" / "a.png", noise(8, 8))
    (photos / "HR").mkdir()
    (photos / "HR" / "sub").symlink_to(photos / "sub", target_is_directory=True)
    code, out, _ = program()
    assert code == 2
    assert "a.png under another name" in out
    assert (photos / "sub" / "a.png").read_bytes() == data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hr-dir", "."), "--hr-dir must not be, or be inside, photos"),
        (("--lr-dir", ".."), "photos must not be, or be inside, --lr-dir"),
        (("--hr-dir", "X", "--lr-dir", "X"), "must not be, or be inside"),
        (("--hr-dir", "X", "--lr-dir", "X/LR"), "--lr-dir must not be, or be inside, --hr-dir"),
        (("--hr-dir", "a.png"), "is a file; expected a folder"),
    ],
)
def test_folders_that_contradict(photos, program, options, words):
    """Folders that would hold each other's files are refused before anything is written."""
    put(photos / "a.png", noise(8, 8))
    before = content(photos)
    paths = [photos / option if i % 2 else option for i, option in enumerate(options)]
    code, _, err = program(*paths)
    assert code == 2
    assert err.startswith("error: ")
    assert words in err
    assert content(photos) == before


def test_nothing_to_do_is_an_error(photos, program):
    """A folder without photographs, or none at all, is told in one line."""
    (photos / "notes.txt").write_text("none")
    code, _, err = program()
    assert code == 2
    assert "has no photographs" in err
    photos.rename(photos.with_name("away"))
    code, _, err = program()
    assert code == 2
    assert "no such folder" in err


def test_any_name_can_be_printed(photos, monkeypatch):
    """Names that are no text, or that a Japanese Windows cannot show, do not stop the program."""
    for name in (os.fsdecode(b"bad-\xff.jpg"), "bad-😀.jpg"):
        (photos / name).write_bytes(b"")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="cp932", write_through=True)
    monkeypatch.setattr("sys.stdout", screen)
    assert main([str(photos)]) == 2
    assert screen.buffer.getvalue().count(b"not done: ") == 2


# --- no file is ever lost ----------------------------------------------------------------------


def test_a_faulty_copy_costs_nothing(photos, program, monkeypatch):
    """If the copy does not equal the original, it vanishes and the original stays."""
    data = put(photos / "a.png", noise(8, 8))
    monkeypatch.setattr(shutil, "copyfile", lambda one, other: other.write_bytes(data[:-1] + b"?"))
    code, out, _ = program()
    assert code == 2
    assert "its copy differs" in out
    assert content(photos).keys() == {"a.png", "LR/a.png"}
    assert (photos / "a.png").read_bytes() == data


def test_a_photograph_that_changes_is_not_removed(photos, program, monkeypatch):
    """What is written to the photograph after it was copied keeps it from being removed."""
    put(photos / "a.png", noise(8, 8))
    copy = downscale._copy

    def copy_then_change(source, target):
        copy(source, target)
        source.write_bytes(b"a better version")

    monkeypatch.setattr(downscale, "_copy", copy_then_change)
    code, out, _ = program()
    assert code == 2
    assert "changed while it was copied" in out
    assert (photos / "a.png").read_bytes() == b"a better version"


def test_a_full_disk_costs_nothing(photos, program, monkeypatch):
    """An error of the file system is named with the photograph, and no half file stays."""
    data = put(photos / "a.png", noise(8, 8))

    def fail(one, other):
        other.write_bytes(data[:9])
        raise OSError(errno.ENOSPC, "No space left on device", str(other))

    monkeypatch.setattr(shutil, "copyfile", fail)
    code, out, _ = program()
    assert code == 2
    assert f"{photos / 'a.png'}: No space left on device" in out
    assert content(photos).keys() == {"a.png", "LR/a.png"}


def refuse_links(one, other):
    """Stand for os.link on a file system that has no hard links, such as exFAT."""
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_hard_links(photos, program, monkeypatch):
    """On a file system that has none, files are renamed instead."""
    monkeypatch.setattr(os, "link", refuse_links)
    put(photos / "a.png", noise(8, 8))
    assert program()[0] == 0
    assert sorted(content(photos)) == ["HR/a.png", "LR/a.png"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    """Another program's file under the final name stays; the temporary one goes."""
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    final = tmp_path / "new" / "a.png"
    with (
        pytest.raises(DataError, match="was created in the meantime"),
        downscale._appearing(final) as beside,
    ):
        beside.write_text("mine")
        final.write_text("theirs")
    assert content(tmp_path) == {"new/a.png": b"theirs"}


def make_photos(folder, count):
    """Write small photographs of several kinds; return their bytes by name."""
    names = [f"{('', 'sub/')[i % 3 > 0]}IMG {i:02d}.{('png', 'JPG')[i % 2]}" for i in range(count)]
    return {name: put(folder / name, noise(60, 81, 3, seed=i)) for i, name in enumerate(names)}


def check_nothing_lost(folder, originals):
    """Assert that each original is complete at one place or both; return how many moved."""
    found = content(folder)
    for name, data in originals.items():
        places = [found[place] for place in (name, f"HR/{name}") if place in found]
        assert places, f"{name} is lost"
        assert set(places) == {data}, f"{name} is not whole"
    return sum(name not in found for name in originals)


def check_complete(folder, originals):
    """Assert that each original exists exactly once, with a whole copy, and nothing else does."""
    found = content(folder)
    lows = {Path("LR", name).with_suffix(".png").as_posix(): name for name in originals}
    assert found.keys() == {f"HR/{name}" for name in originals} | lows.keys()
    for low, name in lows.items():
        assert found[f"HR/{name}"] == originals[name]
        with Image.open(folder / "HR" / name) as whole:
            np.testing.assert_array_equal(stored(folder / low), shrunk(np.asarray(whole)))


def start(folder):
    """Start ``python -m sr_dataset_builder.downscale FOLDER``."""
    return subprocess.Popen(
        [sys.executable, "-m", "sr_dataset_builder.downscale", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_at(process, folder, originals, moment, delay):
    """Kill the program `delay` s after it has changed something and `moment` originals are gone."""

    def gone():
        return sum(not (folder / name).exists() for name in originals)

    def files():
        return sorted(folder.rglob("*"))

    before, deadline = files(), time.monotonic() + 60
    while (gone() < moment or files() == before) and process.poll() is None:
        assert time.monotonic() < deadline, f"the program never came to photograph {moment}"
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    out, _ = process.communicate()
    assert process.returncode == -9, f"the work was over before the program was killed: {out}"


def test_killed_at_random_moments(photos):
    """Killed at random moments of its work, the program never loses a photograph, and finishes."""
    originals = make_photos(photos, max(20, 5 * (KILLS + 1)))
    rng = np.random.default_rng(KILLS)
    moved = [0]
    for i in range(KILLS):
        moment, delay = len(originals) * i // (KILLS + 1), rng.uniform(0, 0.04)
        kill_at(start(photos), photos, originals, moment, delay)
        moved.append(check_nothing_lost(photos, originals))
        assert moved[-1] >= max(moment, moved[-2])
    process = start(photos)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert f"pairs made: {len(originals) - moved[-1]}, complete before: {moved[-1]}" in out
    check_complete(photos, originals)


#: Kills a child of its own before the n-th operation on files, for every n (by default every
#: third). The parent has everything imported, so that children take milliseconds.
KILL_EVERYWHERE = """
import os, shutil, signal, sys
from sr_dataset_builder.downscale import main

slow = {"tensorflow", "pandas", "matplotlib", "skimage"} & set(sys.modules)
assert not slow, f"the program imports {slow}"
CALLS = "open write sendfile fsync link mkdir unlink rename replace utime chmod".split()
model, folders, step = sys.argv[1:]

def run(folder, limit):
    child = os.fork()
    if not child:
        left = [limit]

        def count(frame, event, called):
            if event == "c_call" and called.__name__ in CALLS:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        os._exit(main([folder]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

run(shutil.copytree(model, f"{folders}/first"), 10**6)  # what is imported late is imported now
code, n = -9, 0
while code == -9:
    folder = shutil.copytree(model, f"{folders}/{n:03d}")
    code = run(folder, n)
    n += int(step)
assert code == 0, code
"""


def test_killed_before_every_operation(tmp_path):
    """Killed before each of its operations on files, the program loses nothing and resumes."""
    originals = make_photos(tmp_path / "model", 1)
    folders = tmp_path / "killed"
    folders.mkdir()
    step = 1 if KILLS > 3 else 3
    result = subprocess.run(
        [sys.executable, "-c", KILL_EVERYWHERE, tmp_path / "model", folders, str(step)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    *killed, complete = sorted(folders.glob("[0-9]*"))
    check_complete(complete, originals)
    assert len(killed) > 40 / step
    moved = []
    for folder in killed:
        moved.append(check_nothing_lost(folder, originals))
        assert main([str(folder)]) == 0
        check_complete(folder, originals)
    assert moved == sorted(moved)
    assert set(moved) == {0, 1}
