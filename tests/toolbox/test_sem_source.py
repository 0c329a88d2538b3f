"""SEM pictures become pairs of patches: found, read, checked, aligned, drawn by number."""

import json
import shutil
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tifffile

from toolbox.augment import Augmenter
from toolbox.config import Settings, check
from toolbox.errors import ConfigError, DataError
from toolbox.opencv import cv2
from toolbox.registry import SOURCES
from toolbox.tasks.sem.alignment import CACHE_NAME
from toolbox.tasks.sem.frames import SEMFrames, pair_files
from toolbox.tasks.sem.sem_image import (
    SEMStack,
    read_sem_image,
    write_sem_image,
    write_sem_stack,
)
from toolbox.tasks.sem.source import SPLITS, SEMPatchDataset, SEMSource

SPHERES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sem" / "kriss_spheres"
SHAPE = (96, 80)
SHIFT = (2, -3)


def scene(seed, shape=SHAPE):
    """Return a smooth picture of 8 bits, larger by 8 pixels on all sides than `shape`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0] + 16, : shape[1] + 16]
    a, b, c, d = rng.uniform(0.1, 0.4, 4)
    waves = np.sin(a * rows + b * columns + seed) + np.sin(c * rows - d * columns)
    return np.round(120 + 50 * waves).astype(np.uint8)


def cut(img, dy=0, dx=0):
    """Return the middle of a scene as seen by a camera whose picture lies (dy, dx) further."""
    return img[8 - dy : img.shape[0] - 8 - dy, 8 - dx : img.shape[1] - 8 - dx]


@pytest.fixture
def folders(tmp_path):
    """Five pairs of 96 × 80 pixels; the high ones must be moved by `SHIFT` to fit."""
    return write_pairs(tmp_path)


def write_pairs(root, count=5, shift=SHIFT, factor=1, suffix=".tif", first=1, **options):
    """Write numbered pairs into ``root/low`` and ``root/high``; return the two folders."""
    dtype = np.uint8 if factor == 1 else np.uint16
    for number in range(first, first + count):
        low, high = cut(scene(number)), cut(scene(number), -shift[0], -shift[1])
        for name, img in (("low/noisy", low), ("high/clean", high)):
            img = (factor * img.astype(np.uint32)).astype(dtype)
            write_sem_image(root / f"{name}_{number:03}{suffix}", img, **options)
    return root / "low", root / "high"


def dataset(folders, **options):
    return SEMPatchDataset(*folders, **{"patch_size": 24, "batch_size": 4, **options})


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


# -- Reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".png"])
def test_written_pictures_come_back(suffix, dtype, tmp_path):
    """Counts and type are kept, and a TIFF keeps the pixel size."""
    img = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    write_sem_image(tmp_path / f"a{suffix}", img, pixel_nm=0.8)
    found = read_sem_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.pixels, img)
    assert found.pixels.dtype == dtype
    assert found.bits == 8 * np.dtype(dtype).itemsize
    assert found.pixel_nm == (None if suffix == ".png" else 0.8)
    assert not found.was_colour
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp"])
def test_other_pictures_are_read(suffix, tmp_path):
    """JPEG and BMP are read, and their equal channels are one."""
    img = cut(scene(0))
    assert img.ndim == 2
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), np.dstack([img] * 3))
    found = read_sem_image(tmp_path / f"a{suffix}")
    assert found.bits == 8
    assert found.pixel_nm is None
    assert np.abs(found.pixels - img.astype(float)).max() < 12


def test_colour_is_mixed_and_said(tmp_path):
    """Different channels become grey by their luminance; transparency is dropped."""
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 5, 3), (0, 0, 200), np.uint8))
    found = read_sem_image(tmp_path / "red.png")
    assert found.was_colour
    np.testing.assert_array_equal(found.pixels, np.full((4, 5), 60))  # 0.299 × 200
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5, 4), (7, 7, 7, 90), np.uint8))
    found = read_sem_image(tmp_path / "grey.png")
    assert (found.was_colour, found.pixels.max()) == (False, 7)


@pytest.mark.parametrize(
    ("code", "text", "pixel_nm"),
    [
        (34682, "[Scan]\r\nPixelWidth=5.82813e-09\r\nPixelHeight=5.8e-09\r\n", 5.82813),
        (34682, "[Scan]\r\nPixelWidth=zero\r\n", None),
        (34682, "[Scan]\r\nPixelWidth=-1\r\n", None),
        (34118, "0\r\n\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 1.117 nm\r\n", 1.117),
        (34118, "0\r\n\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 0.5 \xb5m\r\n", 500.0),
        (34118, "0\r\n\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 930 pm\r\n", 0.93),
        (34118, "0\r\n\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 1 league\r\n", None),
    ],
)
def test_pixel_size_of_the_makers(code, text, pixel_nm, tmp_path):
    """The tags of FEI and Zeiss give the pixel size; what they do not say is not guessed."""
    extra = [(code, "B", len(text), text.encode("cp1252"), True)]
    tifffile.imwrite(tmp_path / "a.tif", cut(scene(0)), metadata=None, extratags=extra)
    found = read_sem_image(tmp_path / "a.tif").pixel_nm
    assert found == (None if pixel_nm is None else pytest.approx(pixel_nm))


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"pixel_nm": "a"}', '{"pixel_nm": NaN}', "{}"])
def test_foreign_descriptions_are_passed_over(text, tmp_path):
    """A description that is not ours gives no pixel size and no error."""
    tifffile.imwrite(tmp_path / "a.tif", cut(scene(0)), description=text, metadata=None)
    assert read_sem_image(tmp_path / "a.tif").pixel_nm is None


def test_unreadable_pictures_are_named(tmp_path, capfd):
    """Missing, empty, damaged and float files are refused by name, OpenCV says nothing."""
    with pytest.raises(DataError, match=r"gone\.tif: no such file"):
        read_sem_image(tmp_path / "gone.tif")
    (tmp_path / "empty.tif").touch()
    with pytest.raises(DataError, match=r"empty\.tif: is empty"):
        read_sem_image(tmp_path / "empty.tif")
    write_sem_image(tmp_path / "whole.tif", cut(scene(0)))
    (tmp_path / "torn.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    for name in ("torn.tif", "text.png"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as an image"):
            read_sem_image(tmp_path / name)
    tifffile.imwrite(tmp_path / "float.tif", np.ones((8, 8), np.float32))
    with pytest.raises(
        DataError, match=r"float\.tif: pixels must be unsigned with 8 or 16 bits.*float32"
    ):
        read_sem_image(tmp_path / "float.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "img", "pixel_nm", "words"),
    [
        ("a.jpg", np.zeros((4, 4), np.uint8), None, r"ending must be one of .*received '\.jpg'"),
        ("a.tif", np.zeros((4, 4), np.float32), None, r"received \(4, 4\) of float32"),
        ("a.png", np.zeros((4, 4, 3), np.uint8), None, r"received \(4, 4, 3\) of uint8"),
        ("a.tif", np.zeros((4, 4), np.uint8), 0.0, r"pixel_nm must be above 0; received 0\.0"),
    ],
)
def test_unfit_pictures_are_not_written(name, img, pixel_nm, words, tmp_path):
    """What would lose counts is refused before a file appears."""
    with pytest.raises(DataError, match=words):
        write_sem_image(tmp_path / name, img, pixel_nm)
    assert list(tmp_path.iterdir()) == []


# -- Pairing -----------------------------------------------------------------------------------


def test_pairs_share_their_last_characters(folders):
    """Prefixes may differ; other files, hidden ones and other prefixes are passed over."""
    low, high = folders
    (low / "notes.txt").write_text("x", encoding="utf-8")
    (low / "._noisy_001.tif").write_text("x", encoding="utf-8")
    (low / "scratch.tif").write_text("x", encoding="utf-8")
    found = pair_files(low, high, ("noisy", "clean"))
    assert [files.name for files in found] == [f"_{i:03}.tif" for i in range(1, 6)]
    assert found[2].low == low / "noisy_003.tif"
    assert found[2].high == high / "clean_003.tif"
    chosen = pair_files(low, high, ("noisy", "clean"), pairs=["_004.tif", "_002.tif"])
    assert [files.name for files in chosen] == ["_002.tif", "_004.tif"]


def test_colliding_names_are_both_named(folders):
    """Two files of one folder with the same last characters would hide each other."""
    write_sem_image(folders[1] / "other_003.tif", cut(scene(3)))
    with pytest.raises(DataError, match=r"clean_003\.tif and other_003\.tif end in the same 8"):
        pair_files(*folders)
    with pytest.raises(DataError, match=r"noisy_001\.tif and noisy_002\.tif end in the same 4"):
        pair_files(*folders, suffix_len=4)


def test_single_files_are_listed(folders):
    """Files without a partner are named, up to five and the count."""
    (folders[1] / "clean_002.tif").unlink()
    with pytest.raises(DataError, match=r"1 of 5 pictures have no partner in .*high: .*noisy_002"):
        pair_files(*folders)
    write_pairs(folders[0].parent, 8)
    for number in range(2, 9):
        (folders[0] / f"noisy_{number:03}.tif").unlink()
    with pytest.raises(DataError, match=r"7 of 8 .*clean_006\.tif and 2 more\. Partners"):
        pair_files(*folders)


def test_missing_folders_and_pictures(folders, tmp_path):
    """A folder that is not there, or holds nothing that fits, is named."""
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        pair_files(tmp_path / "nowhere", folders[1])
    with pytest.raises(DataError, match=r"low: holds no picture .* begins with 'x'"):
        pair_files(*folders, file_prefix="x")
    with pytest.raises(DataError, match=r"pairs must be some of _001\.tif.*received _9\.tif"):
        pair_files(*folders, pairs=["_9.tif"])


def test_unlike_pictures_name_both_files(folders):
    """Mixed sizes or depths, in a folder or between partners, are refused with both sizes."""
    low, high = folders
    write_sem_image(high / "clean_003.tif", cut(scene(3))[:-2])
    words = r"noisy_003\.tif is 96 × 80 of 8 bits but .*clean_003\.tif is 94 × 80 of 8 bits; at"
    with pytest.raises(DataError, match=words):
        SEMFrames(low, high)
    write_sem_image(low / "noisy_003.tif", cut(scene(3))[:-2])
    with pytest.raises(DataError, match=r"noisy_001\.tif is 96 × 80 .* but .*noisy_003\.tif is 94"):
        SEMFrames(low, high)
    write_sem_image(high / "clean_001.tif", cut(scene(3)).astype(np.uint16))
    with pytest.raises(DataError, match=r"noisy_001\.tif is .*8 bits but .*clean_001.*16 bits"):
        SEMFrames(low, high)
    with pytest.raises(DataError, match=r"at scale 2 the high one must be 192 × 160 of 8 bits"):
        SEMFrames(low, high, scale=2)
    (low / "noisy_001.tif").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"noisy_001\.tif: cannot be read"):
        SEMFrames(low, high)


def test_colour_is_said_once(folders):
    """Of pictures in colour the first is named in the notes."""
    for number in (2, 3):
        img = np.dstack([cut(scene(number)), cut(scene(number)), cut(scene(number)) // 2])
        tifffile.imwrite(folders[0] / f"noisy_{number:03}.tif", img, photometric="rgb")
    notes = SEMFrames(*folders).notes
    assert len(notes) == 1
    assert "noisy_002.tif: is a colour picture" in notes[0]


# -- Frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", ["high", "low"])
def test_frames_lie_on_each_other(folders, align):
    """Whichever is moved, low and high show the same, and the other one keeps its counts."""
    frames = SEMFrames(*folders, central_crop_height=None, central_crop_width=None, align=align)
    sign = 1 if align == "high" else -1
    for number, shift in enumerate(frames.shifts):
        assert (shift.dy, shift.dx) == pytest.approx((sign * SHIFT[0], sign * SHIFT[1]), abs=0.1)
        frame = frames.frame(number)
        assert frame.low.shape == frame.high.shape
        assert frame.low.dtype == frame.high.dtype == np.float32
        assert np.abs(frame.low - frame.high).std() < 5
        # The shift is lost, and 2 pixels of either side where it is no whole number.
        assert SHAPE[0] - 7 <= frame.low.shape[0] <= SHAPE[0] - 2
        assert SHAPE[1] - 8 <= frame.low.shape[1] <= SHAPE[1] - 3
        original = cut(scene(number + 1)) if align == "high" else cut(scene(number + 1), -2, 3)
        rows, columns = frame.valid
        kept = frame.low if align == "high" else frame.high
        np.testing.assert_array_equal(kept, original[rows, columns])


def test_offset_leads_back_to_the_low_file(folders):
    """Pixel (r, c) of a frame shows what the low file has at (r, c) + offset_px."""
    for align in ("high", "low"):
        frames = SEMFrames(*folders, align=align, central_crop_height=40, central_crop_width=30)
        frame = frames.frame(1)
        row, column = (round(part) for part in frame.offset_px)
        original = cut(scene(2)).astype(np.float32)[row : row + 40, column : column + 30]
        assert frame.low.shape == (40, 30)
        assert np.abs(frame.low - original).max() < 10
        offset = np.array(frame.offset_px)
        shift = frames.shifts[1]
        moved = (shift.dy, shift.dx) if align == "low" else (0, 0)
        np.testing.assert_allclose(offset, (28 - moved[0], 25 - moved[1]))


def test_unaligned_pairs_stay_and_are_named(folders):
    """A pair whose partner shows something else is used as it is, and the notes name it."""
    write_sem_image(folders[1] / "clean_004.tif", np.full(SHAPE, 9, np.uint8))
    frames = SEMFrames(*folders)
    assert [shift.aligned for shift in frames.shifts] == [True] * 3 + [False, True]
    assert "1 of 5 pairs are not aligned" in frames.notes[0]
    assert "_004.tif" in frames.notes[0]
    assert [row["aligned"] for row in frames.report()] == [True] * 3 + [False, True]
    np.testing.assert_array_equal(frames.crop(3).high, 9)


def test_align_none_moves_nothing(folders):
    """Without alignment the counts are those of the files, and no cache appears."""
    frames = SEMFrames(*folders, align="none")
    assert frames.crop(0).high.dtype == np.uint8
    np.testing.assert_array_equal(frames.crop(0).high, cut(scene(1), *(-s for s in SHIFT)))
    assert not (folders[1] / CACHE_NAME).exists()
    with pytest.raises(ConfigError, match="align must be one of high, low, none; received 'both'"):
        SEMFrames(*folders, align="both")


def test_shifts_are_estimated_once(folders, tmp_path, monkeypatch):
    """The second opening takes the shifts from the file; another cache_dir is respected."""
    first = SEMFrames(*folders)
    assert (folders[1] / CACHE_NAME).is_file()
    before = (folders[1] / CACHE_NAME).stat().st_mtime_ns
    other = SEMFrames(*folders, cache_dir=tmp_path / "cache")
    assert (tmp_path / "cache" / CACHE_NAME).is_file()
    monkeypatch.setattr("toolbox.tasks.sem.frames.estimate_shift", None)
    second = SEMFrames(*folders)
    assert second.shifts == first.shifts == other.shifts
    assert second.checksum == first.checksum
    assert (folders[1] / CACHE_NAME).stat().st_mtime_ns == before


def test_data_bar_is_cut_off(folders):
    """A given or a found number of rows at the bottom belongs to no frame."""
    for path in (*folders[0].iterdir(), *folders[1].iterdir()):
        img = read_sem_image(path).pixels
        img[-12:] = 0
        write_sem_image(path, img)
    for height in (12, "auto"):
        frames = SEMFrames(*folders, data_bar_height=height)
        assert frames.data_bar_height == 12
        assert all(rows.stop <= SHAPE[0] - 12 for rows, _ in frames.regions)
        assert min(frames.crop(0).low.min(), frames.crop(0).high.min()) > 0
    with pytest.raises(ConfigError, match=r"data_bar_height must be 0 to 95.*received 96"):
        SEMFrames(*folders, data_bar_height=96)


def blacken(paths, rows):
    """Make the lowest rows of pictures look like a data bar."""
    for path in paths:
        img = read_sem_image(path).pixels
        img[-rows:] = 0
        write_sem_image(path, img)


def test_data_bar_is_that_of_most_frames(folders):
    """One dark frame does not decide; low and high that differ are refused."""
    blacken((*folders[0].iterdir(), *folders[1].iterdir()), 12)
    blacken([folders[0] / "noisy_002.tif"], 25)
    assert SEMFrames(*folders, data_bar_height="auto").data_bar_height == 12
    blacken(folders[1].glob("clean_*.tif"), 18)
    with pytest.raises(ConfigError, match=r"two: 12 in .*low, 18 in .*high; received 'auto'"):
        SEMFrames(*folders, data_bar_height="auto")


def test_copies_and_clipped_pictures_are_noted(folders):
    """Counts and names of what should not be in a folder; every file is read once."""
    shutil.copy(folders[0] / "noisy_001.tif", folders[0] / "noisy_004.tif")
    clipped = read_sem_image(folders[1] / "clean_003.tif").pixels
    clipped[:, :2] = 255
    write_sem_image(folders[1] / "clean_003.tif", clipped)
    frames = SEMFrames(*folders, align="none")
    assert len(frames.notes) == 2
    assert "low: 1 of 5 pictures are copies of others, byte by byte: noisy_004" in frames.notes[0]
    assert "high: in 1 of 5 pictures more than 1% of" in frames.notes[1]
    assert "clean_003.tif" in frames.notes[1]
    shutil.rmtree(folders[0])
    assert frames.report()[3]["low_duplicate_of"] == "noisy_001.tif"


def test_larger_high_pictures(tmp_path):
    """At scale 2 shifts are in low pixels, and the high patch is twice as large."""
    rng = np.random.default_rng(0)
    for number in range(3):
        fine = cv2.GaussianBlur(rng.normal(size=(232, 216)), (0, 0), 4)
        fine = np.clip(128 + 300 * fine, 0, 255)
        low = fine.reshape(116, 2, 108, 2).mean((1, 3))[10:106, 14:94]
        high = fine[20 + 4 : 212 + 4, 28 - 6 : 188 - 6]
        write_sem_image(tmp_path / "low" / f"{number:05}.png", low.round().astype(np.uint8))
        write_sem_image(tmp_path / "high" / f"{number:05}.png", high.round().astype(np.uint8))
    frames = SEMFrames(tmp_path / "low", tmp_path / "high", scale=2)
    assert [s[:2] for s in frames.shifts] == [pytest.approx((2, -3), abs=0.05)] * 3
    for number in range(3):
        low, high = frames.crop(number)
        assert high.shape == (2 * low.shape[0], 2 * low.shape[1])
        small = high.reshape(low.shape[0], 2, low.shape[1], 2).mean((1, 3))
        assert np.abs(small - low).mean() < 2
    data = dataset((tmp_path / "low", tmp_path / "high"), scale=2, batch_size=3)
    assert [imgs.shape for imgs in data.batch(0)] == [(3, 24, 24, 1), (3, 48, 48, 1)]


# -- Stacks ------------------------------------------------------------------------------------


def stack_of(path, pages):
    """Replace a picture by a stack of it and others; `pages` are what is added to the first."""
    first = read_sem_image(path).pixels
    frames = [first, *pages]
    write_sem_stack(path, frames, len(frames))


def stacked(folders, kinds=("low",)):
    """Make stacks of the second and the fourth pair: three and two pages, each moved on its own."""
    for kind, folder, sign in (("low", folders[0], 0), ("high", folders[1], -1)):
        if kind in kinds:
            for number, drifts in ((2, (1, 2)), (4, (3,))):
                path = next(folder.glob(f"*_{number:03}.tif"))
                moved = [cut(scene(number), sign * SHIFT[0], sign * SHIFT[1] + d) for d in drifts]
                stack_of(path, moved)
    return folders


def test_every_page_is_a_frame(folders):
    """Pages of a low stack get the high picture, each with its own shift; one note says so."""
    frames = SEMFrames(*stacked(folders))
    names = ["_001.tif", *(f"_002.tif#{n}" for n in (1, 2, 3)), "_003.tif", "_004.tif#1"]
    assert [files.name for files in frames.files] == [*names, "_004.tif#2", "_005.tif"]
    drifts = [0, 0, 1, 2, 0, 0, 3, 0]
    found = [shift[:2] for shift in frames.shifts]
    assert found == [pytest.approx((SHIFT[0], SHIFT[1] + d), abs=0.1) for d in drifts]
    assert [note for note in frames.notes if "stack" in note] == frames.notes
    assert (
        "noisy_002.tif: is a stack; 2 of 10 files are, with 5 pages in total. Each page is a frame"
        in (frames.notes[0])
    )
    rows = frames.report()
    assert rows[3]["low_file"] == "noisy_002.tif#3"
    assert {row["low_duplicate_of"] + row["high_duplicate_of"] for row in rows} == {""}
    frame = frames.frame(3)
    assert (frame.name, frame.label) == ("_002.tif#3", "noisy_002.tif#3")
    assert np.abs(frame.low - frame.high).std() < 5
    again = SEMFrames(*folders, in_memory=False)
    assert (again.shifts, again.checksum) == (frames.shifts, frames.checksum)
    assert all(same(again.crop(n), frames.crop(n)) for n in range(len(frames)))


def test_pages_of_two_stacks_are_paired_by_number(folders):
    """Where both drift alike, page 3 fits page 3 as page 1 fits page 1."""
    frames = SEMFrames(*stacked(folders, ("low", "high")))
    assert len(frames) == 8
    assert [shift[:2] for shift in frames.shifts] == [pytest.approx(SHIFT, abs=0.1)] * 8
    assert frames.report()[3]["high_file"] == "clean_002.tif#3"


@pytest.mark.parametrize(("low", "high"), [(3, 2), (1, 2), (2, 5)])
def test_unequal_stacks_are_refused(folders, low, high):
    """One line with both numbers; the mean of either is accepted."""
    for folder, count in zip(folders, (low, high), strict=True):
        path = next(folder.glob("*_003.tif"))
        stack_of(path, [cut(scene(3))] * (count - 1))
    words = (
        rf"noisy_003\.tif has {low} pages? but .*clean_003\.tif has {high}; the high file must "
        rf"have as many"
    )
    with pytest.raises(DataError, match=words):
        SEMFrames(*folders)
    assert len(SEMFrames(*folders, stacks="mean")) == 5
    with pytest.raises(ConfigError, match="stacks must be one of frames, mean; received 'sum'"):
        SEMFrames(*folders, stacks="sum")


def test_stacks_are_averaged_on_request(folders):
    """The mean of the pages is one picture, and the note says so; shifts are measured anew."""
    first = SEMFrames(*stacked(folders))
    pages = [cut(scene(2), 0, d).astype(float) for d in (0, 1, 2)]
    for in_memory in (True, False):
        frames = SEMFrames(*folders, stacks="mean", in_memory=in_memory)
        assert [files.name for files in frames.files] == [f"_{n:03}.tif" for n in range(1, 6)]
        assert "The pages of each are averaged into one picture" in frames.notes[0]
        rows, columns = frames.regions[1]
        np.testing.assert_array_equal(
            frames.crop(1).low, np.rint(np.mean(pages, axis=0))[rows, columns]
        )
        assert frames.shifts[1].dx == pytest.approx(SHIFT[1] + 1, abs=0.2)
    assert SEMFrames(*folders).shifts == first.shifts


def test_stacks_of_a_source(tmp_path):
    """Shares deal whole files; a section may ask for the mean; copies in other splits are found."""
    stacked(write_pairs(tmp_path / "train"))
    source = SEMSource(str(tmp_path), shares=(3, 1, 1), patch_size=24)
    assert [len(source.open(split)) for split in SPLITS] == [5, 2, 1]
    assert sum("stack" in note for note in source.notes) == 2
    assert [row["name"] for row in source.report()][5:7] == ["_004.tif#1", "_004.tif#2"]
    mean = SEMSource(str(tmp_path), shares=(3, 1, 1), patch_size=24, stacks="mean")
    assert [len(mean.open(split)) for split in SPLITS] == [3, 1, 1]
    copy = shutil.copytree(tmp_path / "train", tmp_path / "validation")
    leaky = SEMSource(str(tmp_path), patch_size=24)
    leaky.open("train")
    assert any("10 pictures of train are also in validation" in note for note in leaky.notes)
    assert copy.is_dir()


@pytest.mark.parametrize("factor", [1, 200])
def test_white_may_be_zero_in_training(tmp_path, factor):
    """Pairs stored with white as 0, one of them or both, are the pairs that they show."""
    plain = write_pairs(tmp_path / "plain", 3, factor=factor)
    white = write_pairs(tmp_path / "white", 3, factor=factor)
    for path in (*white[0].iterdir(), next(white[1].iterdir())):
        write_sem_stack(path, [read_sem_image(path).pixels], white_is_zero=True)
        with tifffile.TiffFile(path) as file:
            assert file.pages.first.photometric == 0
    one, two = SEMFrames(*plain), SEMFrames(*white)
    assert one.checksum == two.checksum
    assert all(same(one.crop(n), two.crop(n)) for n in range(3))


# -- What files say of their pixels ------------------------------------------------------------


def tagged(folder, text, code=34118):
    """Write the pictures of a folder again, with a tag of a maker."""
    for path in folder.iterdir():
        content = text.encode("cp1252")
        extra = [(code, "B", len(content), content, True)]
        tifffile.imwrite(path, read_sem_image(path).pixels, metadata=None, extratags=extra)


def test_doubts_of_sizes_are_told_once(tmp_path):
    """Ten files that contradict themselves give one line, in one split and in the next."""
    width = "AP_WIDTH\r\nWidth = 0.12 \xb5m\r\n"
    for split in ("train", "validation"):
        for folder in write_pairs(tmp_path / split, first=1 if split == "train" else 6):
            tagged(folder, f"0\r\n\r\nAP_PIXEL_SIZE\r\nPixel Size = 3 nm\r\n{width}")
    source = SEMSource(str(tmp_path), patch_size=24)
    for split in ("train", "validation"):
        source.open(split)
    assert source.pixel_nm == 1.5
    assert len(source.notes) == 1
    assert "noisy_001.tif and 9 more: a pixel is taken to be 1.5 nm, by AP_WIDTH" in source.notes[0]
    assert "but it is 3 nm by AP_PIXEL_SIZE. Set pixel_nm" in source.notes[0]
    stated = SEMSource(str(tmp_path), patch_size=24, pixel_nm=1.5)
    stated.open("train")
    assert stated.notes == []


def test_the_source_of_a_size_is_told(folders):
    """A size that only one tag gives is no warning, but who gave it is said."""
    root = folders[0].parent
    for folder in folders:
        tagged(folder, "[Scan]\r\nPixelWidth=2e-09\r\nPixelHeight=4e-09\r\n", 34682)
    source = SEMSource(str(root), train_low_dir="low", train_high_dir="high", patch_size=24)
    source.open("train")
    size, square = source.notes
    assert (
        size == f"{folders[0] / 'noisy_001.tif'} and 9 more: a pixel is 2 nm, by PixelWidth of FEI."
    )
    assert square.startswith("WARNING: ")
    assert "a pixel is 2 nm wide but 4 nm high, by PixelWidth of FEI" in square


# -- Batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"in_memory": False}, {"align": "low"}])
def test_a_batch_depends_on_its_number_only(folders, options):
    """Asked in any order, of any data set with that seed, it holds the same bytes."""
    one, two = (dataset(folders, repeats=4, seed=5, **options) for _ in range(2))
    forwards = {i: one.batch(i) for i in range(12)}
    for i in (8, 0, 4, 4, 11, 7, 1):
        assert same(two.batch(i), forwards[i])
        assert same(one.batch(np.int64(i)), forwards[i])
    other = dataset(folders, repeats=4, seed=6, **options)
    assert not any(same(other.batch(i), forwards[i]) for i in range(3))
    assert len({forwards[i][0].tobytes() for i in forwards}) == 12


def test_memory_and_demand_give_the_same_bytes(folders, monkeypatch):
    """Reading again on demand changes nothing, even if nothing is remembered."""
    monkeypatch.setattr("toolbox.tasks.sem.frames._REMEMBERED", 2)
    kept, read = (dataset(folders, repeats=4, in_memory=m) for m in (True, False))
    assert all(same(kept.batch(i), read.batch(i)) for i in range(8))
    assert len(read.frames._recent) == 2
    assert kept.fingerprint() == read.fingerprint()
    np.testing.assert_array_equal(kept.raw_lr_imgs, read.raw_lr_imgs)


@pytest.mark.parametrize(
    "options", [{}, {"in_memory": False}, {"data_bar_height": "auto"}, {"stacks": "mean"}]
)
def test_one_pair_of_whole_frames_is_in_memory(folders, monkeypatch, options):
    """Whatever is kept of a frame, the frame itself is gone before the next pair is read."""
    read, seen, most = SEMStack.image, [], []

    def counted(stack, *args):
        image = read(stack, *args)
        seen.append(weakref.ref(image.pixels))
        most.append(sum(pixels() is not None for pixels in seen))
        return image

    monkeypatch.setattr(SEMStack, "image", counted)
    frames = SEMFrames(*folders, central_crop_height=50, **options)
    assert most == [1, 2] * (10 if "data_bar_height" in options else 5)
    for number in (3, 4, 0):
        frames.frame(number)
    assert max(most) == 2


def test_crops_beyond_the_limit_are_read_on_demand(folders, monkeypatch):
    """One note says so; the crops, parts of them and batches hold the same bytes."""
    kept = dataset(folders, repeats=4)
    monkeypatch.setattr("toolbox.tasks.sem.frames.MOST_BYTES", 100_000)
    read = dataset(folders, repeats=4)
    assert kept.frames._crops is not None and read.frames._crops is None
    assert kept.notes == []
    assert [note for note in read.notes if "they are read on demand" in note] == read.notes
    assert all(same(kept.batch(i), read.batch(i)) for i in range(5))
    assert all(same(kept.frames.crop(i), read.frames.crop(i)) for i in range(5))
    frames = SEMFrames(*folders, in_memory=False)
    assert frames.notes == []
    part, whole = frames.part(2, slice(7, 40), slice(0, 31)), frames.crop(2)
    assert same(part, (whole.low[7:40, :31], whole.high[7:40, :31]))


@pytest.mark.parametrize("in_memory", [True, False])
def test_validation_of_a_source_is_cut_when_it_is_needed(data_dir, in_memory):
    """Its batches are the fixed patches in their order, of which none are held."""
    opened = source(data_dir, in_memory=in_memory)
    data = opened.batches("validation", lambda low, high: (low, high), 5)
    low, high = opened.validation()
    assert data.raw_lr_imgs.shape == low.shape
    assert (data.num_imgs, data.num_evaluated()) == (len(low), len(low))
    batches = list(data.evaluation_dataset().as_numpy_iterator())
    assert same((low, high), (np.concatenate(side) for side in zip(*batches, strict=True)))
    assert same(data.sample(2, indices=[3, 7]), (low[[3, 7]], high[[3, 7]]))


def test_batches_are_patches_of_aligned_pairs(folders):
    """Low and high of a batch show the same, in [-1, 1], float32."""
    x, y = dataset(folders).batch(3)
    assert x.shape == y.shape == (4, 24, 24, 1)
    assert x.dtype == y.dtype == np.float32
    assert np.abs(x).max() <= 1
    assert np.abs(x - y).max() < 0.2
    assert x.std() > 0.1


def places(data, batches):
    """Return (frame, row, column, mirrored) of every patch of unmoved low pictures."""
    found = []
    for number in range(batches):
        for patch in np.round((data.batch(number)[0][..., 0] + 1) * 127.5):
            for mirrored, img in ((False, patch), (True, patch[:, ::-1])):
                for i in range(len(data.frames)):
                    match = cv2.matchTemplate(
                        data.frames.crop(i).low.astype(np.float32),
                        np.ascontiguousarray(img),
                        cv2.TM_SQDIFF,
                    )
                    low, _, (column, row), _ = cv2.minMaxLoc(match)
                    if low < 100:  # float32 sums of squares; one count everywhere were 576
                        found.append((i, row, column, mirrored))
    return found


def test_patches_are_drawn_everywhere_and_half_are_mirrored(folders):
    """Each frame comes `repeats` times an epoch, at random places, mirrored at half of them."""
    data = dataset(folders, repeats=8, align="none")
    assert (data.num_imgs, data.steps_per_epoch(), len(data)) == (40, 10, 10)
    found = places(data, 20)
    assert len(found) == 80
    for epoch in (found[:40], found[40:]):
        assert sorted(i for i, *_ in epoch) == sorted(8 * list(range(5)))
    assert 24 <= sum(mirrored for *_, mirrored in found) <= 56  # 4.5 standard deviations
    rows, columns = ({place[k] for place in found} for k in (1, 2))
    assert min(rows) < 10 < SHAPE[0] - 24 - 10 < max(rows) <= SHAPE[0] - 24
    assert min(columns) < 10 < SHAPE[1] - 24 - 10 < max(columns) <= SHAPE[1] - 24
    plain = places(dataset(folders, repeats=8, align="none", horizontal_flip=False), 10)
    assert not any(mirrored for *_, mirrored in plain)


def test_validation_is_fixed(folders):
    """Without training the patches are a grid, the same for every seed, epoch and batch size."""
    data = dataset(folders, training=False, align="none")
    assert data.num_imgs == 5 * 4 * 3
    assert len(data) == data.steps_per_epoch() == 15
    first = [data[i] for i in range(15)]
    data.on_epoch_end()
    assert all(same(data[i], first[i]) for i in range(15))
    other = dataset(folders, training=False, align="none", seed=9, batch_size=7)
    assert [len(other[i][0]) for i in range(9)] == [7] * 8 + [4]
    lr = np.concatenate([x for x, _ in first])
    np.testing.assert_array_equal(lr, np.concatenate([x for x, _ in other]))
    np.testing.assert_allclose(lr, data.raw_lr_imgs / 127.5 - 1, atol=1e-6)
    # 4 × 24 rows fill the frame, 3 × 24 of 80 columns leave 4 between the patches.
    expected = cut(scene(1))[24:48, 28:52]
    np.testing.assert_array_equal(data.raw_lr_imgs[4, ..., 0], expected)


def test_tf_data_is_the_batches_in_turn(folders):
    """The pipeline of `fit` gives the batches from any start, with fixed shapes."""
    data = dataset(folders, repeats=3)
    pipeline = data.training_dataset(5)
    assert pipeline.element_spec[0].shape == (4, 24, 24, 1)
    for i, batch in zip(range(5, 11), pipeline.as_numpy_iterator(), strict=False):
        assert same(batch, data.batch(i))
    stream = data.generator(2)
    assert same(next(stream), data.batch(2))
    assert same(next(stream), data.batch(3))
    fixed = dataset(folders, training=False)
    batches = list(fixed.evaluation_dataset().as_numpy_iterator())
    assert sum(len(x) for x, _ in batches) == fixed.num_imgs
    assert all(same(batch, fixed.batch(i)) for i, batch in enumerate(batches))


def test_samples_are_fixed_patches(folders):
    """Pictures of the training's progress show the same patches, normalised and not mirrored."""
    data = dataset(folders)
    chosen = data.sample_indices(3)
    x, y = data.sample(3, indices=list(chosen))
    np.testing.assert_allclose(x, data.raw_lr_imgs[chosen] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(y, data.raw_hr_imgs[chosen] / 127.5 - 1, atol=1e-6)
    assert data.raw_lr_imgs.dtype == np.float32


def test_keras_trains_on_it(folders):
    """`fit` takes it as it is, draws anew every epoch, and validates on the fixed patches."""
    data, fixed = dataset(folders, repeats=4), dataset(folders, training=False)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((24, 24, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    first = data[0]
    history = model.fit(data, validation_data=fixed, epochs=3, verbose=0).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    # Keras ends an epoch also after its first look at the data.
    assert data._epoch >= 3
    assert same(data[1], data.batch(data._epoch * len(data) + 1))
    assert not same(data[0], first)
    with pytest.raises(IndexError, match="batch must be 0 to 4; received 5"):
        data[5]


def test_sixteen_bits(tmp_path):
    """Counts up to 65535 become [-1, 1], to the same picture as 8 bits; a range may be given."""
    fine = dataset(write_pairs(tmp_path / "fine", factor=257))
    coarse = dataset(write_pairs(tmp_path / "coarse"))
    assert (fine.frames.norm_range, coarse.frames.norm_range) == ((0, 65535), (0, 255))
    for one, other in zip(fine.batch(0), coarse.batch(0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    ranged = dataset((tmp_path / "fine" / "low", tmp_path / "fine" / "high"), norm_range=(0, 32767))
    np.testing.assert_allclose(ranged.batch(0)[0], 2 * fine.batch(0)[0] + 1, atol=1e-3)


def test_augmentation_and_normaliser_are_the_callers(folders):
    """Both see counts, the augmenter first and with a generator of its own for every batch."""
    seen = []

    def lower(low, high, rng):
        seen.append(rng.random())
        return low - 10, high - 10

    def halve(low, high):
        return low / 2, high / 4

    plain = dataset(folders, repeats=2)
    data = dataset(folders, repeats=2, norm_func=halve, augmenter=lower)
    (x, y), (plain_x, plain_y) = data.batch(1), plain.batch(1)
    np.testing.assert_allclose(x, ((plain_x + 1) * 127.5 - 10) / 2, atol=1e-4)
    np.testing.assert_allclose(y, ((plain_y + 1) * 127.5 - 10) / 4, atol=1e-4)
    assert same(data.batch(1), (x, y))
    assert seen[0] == seen[1]
    turned = dataset(folders, repeats=2, augmenter=Augmenter([("quarter_turn", {})]))
    assert turned.batch(0)[0].shape == plain.batch(0)[0].shape
    assert not same(turned.batch(0), plain.batch(0))


def test_fingerprint_tells_data_and_shape_apart(folders):
    """Another pixel, patch size, crop or number of repeats gives another checksum; a seed not."""
    first = dataset(folders).fingerprint()
    assert dataset(folders, seed=3, batch_size=2).fingerprint() == first
    for change in (
        {"patch_size": 20},
        {"repeats": 2},
        {"horizontal_flip": False},
        {"central_crop_width": 40},
        {"align": "none"},
        {"training": False},
        {"pairs": ["_001.tif", "_002.tif", "_003.tif", "_004.tif"]},
    ):
        assert dataset(folders, **change).fingerprint() != first
    img = read_sem_image(folders[0] / "noisy_002.tif").pixels
    img[50, 50] += 1
    write_sem_image(folders[0] / "noisy_002.tif", img)
    assert dataset(folders).fingerprint() != first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": 80}, r"patch_size must be at most 7\d .*noisy_00.* × 7\d; received 80"),
        ({"central_crop_width": 20}, r"patch_size must be at most 20 .* × 20; received 24"),
        ({"batch_size": 6}, r"batch_size must not exceed the 5 pairs × 1 repeats; received 6"),
        ({"patch_size": 0}, "patch_size must be 1 or more; received 0"),
        ({"repeats": 0}, "repeats must be 1 or more; received 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more; received 0"),
    ],
)
def test_unfit_settings_name_their_numbers(folders, options, words):
    """Patches larger than the crop and batches larger than the data are refused."""
    with pytest.raises(ConfigError, match=words):
        dataset(folders, **options)


# -- The source --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Training, validation and test pairs; read-only."""
    root = tmp_path_factory.mktemp("sem")
    write_pairs(root / "train", 5, pixel_nm=0.8)
    write_pairs(root / "validation", 2, first=6, pixel_nm=0.8)
    write_pairs(root / "test", 2, first=8, pixel_nm=0.8)
    return root


def source(data_dir, **options):
    return SEMSource(str(data_dir), sr_scale=1, **{"patch_size": 24, **options})


def test_source_gives_fixed_patches(data_dir):
    """All three splits are stacks of counts; the class is found by its name."""
    assert SOURCES.resolve("sem") is SEMSource
    opened = source(data_dir)
    for split, count in (("train", 5), ("validation", 2), ("test", 2)):
        low, high = getattr(opened, split)()
        assert low.shape == high.shape
        assert low.shape[1:] == (24, 24, 1)
        assert len(low) >= count * 3 * 3
        assert low.dtype == high.dtype == np.float32
        assert 20 <= low.min() < low.max() <= 220
        np.testing.assert_array_equal(low, getattr(source(data_dir), split)()[0])
    assert (opened.norm_range, opened.notes) == ((0, 255), [])


def test_source_trains_on_random_patches(data_dir):
    """Its training data are the patches of the training folder, with the caller's settings."""
    opened = source(data_dir, repeats=3, horizontal_flip=False)
    data = opened.batches("train", None, 4, None, 7)
    folder = data_dir / "train"
    alone = dataset((folder / "low", folder / "high"), repeats=3, horizontal_flip=False, seed=7)
    assert isinstance(data, SEMPatchDataset)
    assert data.num_imgs == 15
    assert same(data.batch(2), alone.batch(2))
    assert data.fingerprint() == alone.fingerprint()
    assert data.frames is opened.open("train")


def test_training_patches_for_constants_come_from_a_few_frames(data_dir, monkeypatch):
    """Where there are many frames a seeded choice stands for them."""
    monkeypatch.setattr("toolbox.tasks.sem.source.SAMPLED_FRAMES", 2)
    low, _ = source(data_dir, align="none").train()
    assert len(low) == 2 * 4 * 3
    np.testing.assert_array_equal(low, source(data_dir, align="none").train()[0])


def test_frames_for_measurements_are_not_kept(data_dir):
    """A test keeps no crop, whatever the settings say; a training that came before it may."""
    opened = source(data_dir)
    frames = opened.frames("test")
    assert (len(frames), len(frames[:1]), frames[-1].name) == (2, 1, "_009.tif")
    with pytest.raises(IndexError):
        frames[2]
    assert opened.open("test")._crops is None
    assert not opened.open("test")._recent
    assert opened.open("validation")._crops is not None


def test_frames_are_whole_crops(data_dir):
    """Metrology gets the crops of a split with their names and places."""
    frames = source(data_dir, central_crop_height=60).frames("test")
    assert [frame.name for frame in frames] == ["_008.tif", "_009.tif"]
    assert frames[0].path == data_dir / "test" / "low" / "noisy_008.tif"
    assert all(frame.low.shape[0] == 60 for frame in frames)
    assert all(frame.offset_px[0] == 18 for frame in frames)


def test_patches_for_constants_have_a_limit(data_dir, monkeypatch):
    """Of frames with many patches fewer are taken, spread over each frame."""
    monkeypatch.setattr("toolbox.tasks.sem.source._SAMPLED_BYTES", 5 * 4 * 8 * 24**2)
    low, _ = source(data_dir, align="none").train()
    assert len(low) == 5 * 4


def test_shares_deal_the_training_pairs(data_dir):
    """Sorted by name, the first share trains, the second validates, the third tests."""
    opened = source(data_dir, shares=(3, 1, 1))
    names = [[f.name for f in opened.frames(split)] for split in ("train", "validation", "test")]
    assert names == [["_001.tif", "_002.tif", "_003.tif"], ["_004.tif"], ["_005.tif"]]
    with pytest.raises(ConfigError, match=r"shares must leave a pair for test; received \[4, 1, 0"):
        source(data_dir, shares=(4, 1, 0)).test()
    with pytest.raises(ConfigError, match=r"shares must be three numbers from 0, not all 0"):
        source(data_dir, shares=(0, 0, 0)).train()


def test_pixel_size_is_set_recorded_or_tagged(data_dir, tmp_path):
    """The setting comes first, then dataset.json, then the tags; else it is unknown."""
    assert source(data_dir).pixel_nm == 0.8
    opened = source(data_dir)
    opened.test()
    assert opened.pixel_nm == 0.8
    assert source(data_dir, pixel_nm=1.5).pixel_nm == 1.5
    write_pairs(tmp_path / "train", 2)
    assert source(tmp_path).pixel_nm is None
    record = tmp_path / "dataset.json"
    record.write_text(json.dumps({"pixel_nm": 2}), encoding="utf-8")
    assert source(tmp_path).pixel_nm == 2
    for content in ("{", "[]", '{"pixel_nm": "x"}', '{"pixel_nm": -1}'):
        record.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=r"dataset\.json: .*pixel_nm"):
            _ = source(tmp_path).pixel_nm


def test_disagreeing_pixel_sizes_are_not_used(tmp_path):
    """Two magnifications in one folder give no pixel size but a warning that names files."""
    write_pairs(tmp_path / "train", 2, pixel_nm=0.8)
    write_pairs(tmp_path / "train", 1, first=3, pixel_nm=0.4)
    opened = source(tmp_path)
    opened.train()
    assert opened.pixel_nm is None
    assert "noisy_003.tif is 0.4 nm" in opened.notes[0]


def test_pixel_size_of_a_split(tmp_path):
    """A test has the size of its own pictures; one that is stated counts, with a warning."""
    for split, first, pixel_nm in (("train", 1, 0.8), ("validation", 3, 0.803), ("test", 5, 1.0)):
        write_pairs(tmp_path / split, 2, first=first, pixel_nm=pixel_nm)
    opened = source(tmp_path)
    assert [opened.pixel_nm_of(split) for split in SPLITS] == [0.8, 0.803, 1.0]
    assert opened.pixel_nm == 0.8
    (note,) = opened.notes  # less than 1 % is rounding
    assert "clean_005.tif is 1 nm by its tags but 0.8 nm by" in note
    stated = source(tmp_path, pixel_nm=1.0)
    assert [stated.pixel_nm_of(split) for split in SPLITS] == [1.0] * 3
    stated.train()
    stated.test()
    (note,) = stated.notes
    assert "clean_001.tif is 0.8 nm by its tags but 1 nm by sem.pixel_nm" in note
    (tmp_path / "dataset.json").write_text(json.dumps({"pixel_nm": 2}), encoding="utf-8")
    recorded = source(tmp_path)
    assert recorded.pixel_nm_of("test") == 2
    recorded.test()
    assert "dataset.json" in recorded.notes[0]


def test_splits_of_different_depth_are_refused(tmp_path):
    """Counts of 8 and 16 bits cannot have one range; a file of each is named."""
    write_pairs(tmp_path / "train", 2)
    write_pairs(tmp_path / "validation", 2, first=3, factor=257)
    opened = source(tmp_path)
    opened.train()
    with pytest.raises(DataError, match=r"noisy_003\.tif has 16 bits but .*noisy_001\.tif has 8"):
        opened.validation()


@pytest.mark.parametrize("order", [("train", "validation"), ("validation", "test"), ("test",)])
def test_pictures_in_two_splits_are_noted_once(order, tmp_path):
    """Whichever split is opened first, a file that training and test share is told once."""
    for split, first in (("train", 1), ("validation", 3), ("test", 5)):
        write_pairs(tmp_path / split, 2, first=first)
    for kind, name in (("low", "noisy"), ("high", "clean")):
        shutil.copy(
            tmp_path / "train" / kind / f"{name}_001.tif",
            tmp_path / "test" / kind / f"{name}_006.tif",
        )
    opened = source(tmp_path)
    for split in order:
        opened.open(split)
    (note,) = opened.notes
    assert note.startswith("WARNING: 2 pictures of t")
    assert "byte by byte" in note
    assert "noisy_00" in note


def test_shares_that_hold_copies_are_noted(tmp_path):
    """Copies within the training folder that are dealt to training and test are a leak, too."""
    low, _ = write_pairs(tmp_path / "train", 4)
    shutil.copy(low / "noisy_001.tif", low / "noisy_004.tif")
    opened = source(tmp_path, shares=(2, 1, 1))
    opened.train()
    assert "1 picture of train is also in test" in opened.notes[0]
    none_to_test = source(tmp_path, shares=(3, 1, 0))
    none_to_test.train()
    assert "1 picture of train is also in validation" in none_to_test.notes[0]


def test_section_is_checked_by_the_signature(data_dir):
    """The settings of the YAML section and their types are those of the constructor."""
    parameters = SEMSource.parameters()
    assert not {"self", "data_dir", "sr_scale"} & set(parameters)
    fields = {name: (p.annotation, p.default) for name, p in parameters.items()}

    import pydantic

    section = pydantic.create_model("Section", __base__=Settings, **fields)
    values = {"shares": [7, 1, 4], "file_prefix": ["a", "b"], "data_bar_height": "auto"}
    checked = check(section, values, "run.yml", "sem")
    assert checked.shares == (7, 1, 4)
    assert checked.patch_size == 128
    for wrong in ({"patch_size": 0}, {"align": "both"}, {"max_shift": -1}, {"pixel_nm": 0}):
        with pytest.raises(ConfigError, match=rf"run\.yml: sem\.{next(iter(wrong))} must be"):
            check(section, wrong, "run.yml", "sem")


def test_default_settings_follow_the_patch():
    """The defaults of a run fit the section; they are those of the pipeline's specification."""
    settings = SEMSource.default_settings({"patch_size": 64})
    assert settings["input_shape"] == [64, 64, 1]
    assert SEMSource.default_settings({})["input_shape"] == [128, 128, 1]
    assert settings["loss"] == {"mae": 1, "one_minus_ssim": 0.1, "edgeloss": 0.05, "cdloss": 0.5}
    assert (settings["batch_size"], settings["epochs"], settings["scale"]) == (8, 50, 1)


def test_missing_data_are_named(tmp_path):
    """A folder that is not there is named when it is asked for."""
    with pytest.raises(DataError, match=r"data_dir .*gone: no such folder"):
        SEMSource(str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"validation/low: no such folder"):
        source(tmp_path).validation()


def test_real_pairs():
    """The real pairs are found, aligned and cropped above their data bars."""
    if not SPHERES.is_dir():
        pytest.skip(f"kriss_spheres is not on this machine ({SPHERES})")
    folders = SPHERES / "time" / "low", SPHERES / "time" / "high"
    frames = SEMFrames(
        *folders,
        data_bar_height="auto",
        cache_dir=SPHERES / "time" / "low" / "100ns_001.tif",  # no folder: nothing is written
        pairs=["_001.tif", "_002.tif"],
    )
    # Golden: facts about these files, 471 × 512 pixels of 5.828 nm, a bar with a black line above.
    assert frames.data_bar_height == 30
    assert frames.pixel_nm == pytest.approx(5.828, abs=0.001)
    assert [shift.aligned for shift in frames.shifts] == [True, True]
    low, high = frames.crop(1)
    # Of 441 rows a shift of 5.04 px and the spline take 8.
    assert low.shape == high.shape == (433, 256)
    assert np.std(low - high) < 22  # 37 before the move
    assert len(frames.notes) == 1
    assert "cannot be written" in frames.notes[0]


def test_a_picture_is_not_its_own_partner(tmp_path):
    """One folder for both sides, without prefixes that tell them apart, is a mistake."""
    write_sem_image(tmp_path / "line_0001.tif", np.zeros((32, 32), np.uint8))
    with pytest.raises(DataError, match=r"line_0001\.tif: is its own partner"):
        pair_files(tmp_path, tmp_path)
