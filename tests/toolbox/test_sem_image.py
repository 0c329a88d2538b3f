"""SEM files: frames of a stack, white and black, and the size of a pixel by all who say it."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from toolbox.errors import DataError
from toolbox.tasks.sem.pixel_size import PixelSize, choose_size, pixel_sizes
from toolbox.tasks.sem.sem_image import (
    open_sem_stack,
    read_sem_image,
    write_sem_image,
    write_sem_stack,
)

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "sem" / "microscope_tags"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="files of microscopes are not here")


def frames(count=3, dtype=np.uint16, shape=(20, 32)):
    top = int(np.iinfo(dtype).max) + 1
    return np.random.default_rng(0).integers(0, top, (count, *shape)).astype(dtype)


def all_frames(path):
    stack = open_sem_stack(path)
    return np.stack([stack.image(page).pixels for page in range(stack.count)])


def size_of(path):
    """Return what a file says about its pixels, and of what a user is warned."""
    stack = open_sem_stack(path)
    warnings = [text for kind, text in stack.notes.items() if kind != "size"]
    return (None if stack.size is None else stack.size.x_nm), " ".join(warnings)


def write_tag(path, code, text, columns=2048):
    content = text.encode("cp1252")
    picture = np.zeros((4, columns), np.uint8)
    extra = [(code, "B", len(content), content, True)]
    tifffile.imwrite(path, picture, metadata=None, extratags=extra)


# -- Frames and grey values --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options",
    [
        {"metadata": None},
        {"metadata": None, "compression": "zlib", "predictor": True},
        {"metadata": None, "byteorder": ">"},
        {"metadata": None, "bigtiff": True},
        {"imagej": True},
        {"imagej": True, "truncate": True},
        {"ome": True},
    ],
)
def test_all_frames_are_read(options, dtype, tmp_path):
    """Whoever wrote a stack, each of its pages is a frame, and their mean can be had."""
    stack = frames(dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    found = all_frames(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, stack)
    assert (found.dtype, open_sem_stack(tmp_path / "a.tif").notes) == (dtype, {})
    np.testing.assert_array_equal(read_sem_image(tmp_path / "a.tif", 2).pixels, stack[2])
    some = read_sem_image(tmp_path / "a.tif", 2, slice(5, 11)).pixels
    np.testing.assert_array_equal(some, stack[2, 5:11])
    mean = read_sem_image(tmp_path / "a.tif", None).pixels
    np.testing.assert_array_equal(mean, np.rint(stack.mean(axis=0)).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_frames_are_read(dtype, tmp_path):
    """LZW, which only OpenCV undoes here, gives all frames too."""
    stack = frames(dtype=dtype)
    first, *others = [Image.fromarray(frame) for frame in stack]
    path = tmp_path / "a.tif"
    first.save(path, compression="tiff_lzw", save_all=True, append_images=others)
    np.testing.assert_array_equal(all_frames(path), stack)


def test_a_compressed_picture_with_other_pages(tmp_path):
    """What lies behind a compressed picture, whether it can be decoded or not, is left out."""
    first, path = frames(1, np.uint8)[0], tmp_path / "a.tif"
    others = [Image.fromarray(np.ones((7, 9), kind)) for kind in (np.float32, np.int32)]
    Image.fromarray(first).save(path, compression="tiff_lzw", save_all=True, append_images=others)
    stack = open_sem_stack(path)
    np.testing.assert_array_equal(all_frames(path), first[None])
    assert stack.notes["pages"].startswith("of its 3 pages, pages 2, 3 are left out")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_may_be_zero(compression, dtype, tmp_path):
    """In a TIFF whose 0 is white, bright pixels are the small numbers, in every frame."""
    stack, options = frames(2, dtype), {"compression": compression, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="miniswhite", **options)
    found = all_frames(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, np.iinfo(dtype).max - stack)
    some = read_sem_image(tmp_path / "a.tif", 1, slice(5, 11)).pixels
    np.testing.assert_array_equal(some, np.iinfo(dtype).max - stack[1, 5:11])


def test_compressed_white_may_be_zero(tmp_path):
    """The same where OpenCV undoes the compression, which heeds it for 8 bits only."""
    stack, path = frames(1), tmp_path / "a.tif"
    Image.fromarray(stack[0]).save(path, compression="tiff_lzw", tiffinfo={262: 0})
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.photometric == 0
        assert file.pages.first.compression == 5
    np.testing.assert_array_equal(read_sem_image(path).pixels, 65535 - stack[0])


def test_pages_of_another_kind_are_said(tmp_path):
    """A preview is no frame; a user is told which page is left out."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in (*frames(2), frames(1, shape=(5, 8))[0]):
            file.write(page, photometric="minisblack", metadata=None)
    stack = open_sem_stack(tmp_path / "a.tif")
    assert (stack.count, stack.pages) == (2, 3)
    assert stack.notes["pages"].startswith("of its 3 pages, page 3 is left out")
    assert "5 × 8 of uint16, not 20 × 32 of uint16" in stack.notes["pages"]


def test_pages_of_another_photometric_are_said(tmp_path):
    """Where shape and type are equal, the note says what is not."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for kind, page in zip(("minisblack", "miniswhite"), frames(2), strict=True):
            file.write(page, photometric=kind, metadata=None)
    note = open_sem_stack(tmp_path / "a.tif").notes["pages"]
    assert "(photometric MINISWHITE, not photometric MINISBLACK)" in note


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_used_as_stored(orientation, dtype, compression, tmp_path):
    """Whichever library decodes it, the tag Orientation is said and not obeyed."""
    [picture], path = frames(1, dtype), tmp_path / "a.tif"
    tags = {274: orientation}
    Image.fromarray(picture).save(path, compression=compression, tiffinfo=tags)
    stack = open_sem_stack(path)
    np.testing.assert_array_equal(stack.image().pixels, picture)
    assert ("turned" in stack.notes) == (orientation != 1)
    if orientation != 1:
        assert f"Orientation is {orientation}, " in stack.notes["turned"]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_stacks_are_used_as_stored(orientation, tmp_path):
    """OpenCV decodes several frames by another way."""
    stack, path = frames(3, np.uint8), tmp_path / "a.tif"
    first, *others = map(Image.fromarray, stack)
    options = {"compression": "tiff_lzw", "tiffinfo": {274: orientation}}
    first.save(path, save_all=True, append_images=others, **options)
    np.testing.assert_array_equal(all_frames(path), stack)


def test_a_few_rows_are_read_alone(tmp_path, monkeypatch):
    """Of a TIFF that is not compressed the other rows are not decoded, of other files cut off."""
    picture = frames(1)[0]
    colour = np.dstack([picture, picture[::-1], picture[:, ::-1]])
    options = {"photometric": "rgb", "metadata": None}
    tifffile.imwrite(tmp_path / "rgb.tif", colour, **options)
    planes = np.moveaxis(colour, 2, 0)
    tifffile.imwrite(tmp_path / "planes.tif", planes, planarconfig="separate", **options)
    write_sem_image(tmp_path / "a.png", picture)
    for path in sorted(tmp_path.iterdir()):
        whole = read_sem_image(path).pixels
        np.testing.assert_array_equal(read_sem_image(path, 0, slice(3, 9)).pixels, whole[3:9])
    write_sem_image(tmp_path / "a.tif", picture)
    asked = []
    decode = tifffile.TiffPage.asarray
    monkeypatch.setattr(
        tifffile.TiffPage,
        "asarray",
        lambda page, *args, **options: asked.append(options) or decode(page, *args, **options),
    )
    some = read_sem_image(tmp_path / "a.tif", 0, slice(3, 9)).pixels
    np.testing.assert_array_equal(some, picture[3:9])
    assert asked == [{"out": "memmap"}]


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_web_page_is_no_picture(name, tmp_path):
    """The words are those of maps."""
    (tmp_path / name).write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    with pytest.raises(DataError, match=r"cannot be read as an image: it is a web page \(HTML\)"):
        open_sem_stack(tmp_path / name)


def test_a_stack_that_was_cut_short_is_refused(tmp_path):
    """Wherever a stack ends too early, no frame is lost in silence."""
    write_sem_stack(tmp_path / "whole.tif", frames(dtype=np.uint8), 3)
    content = (tmp_path / "whole.tif").read_bytes()
    for size in range(300, len(content) - 1, 97):
        (tmp_path / "torn.tif").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"torn\.tif: cannot be read as an image"):
            open_sem_stack(tmp_path / "torn.tif")


def test_damaged_compression_is_refused(tmp_path):
    """OpenCV decodes LZW whose middle is damaged in silence; here it is an error."""
    path = tmp_path / "a.tif"
    grey = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(grey).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read_sem_image(path).pixels, grey)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content[start + length // 2 : start + length // 2 + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an image\. Is the file damaged"):
        read_sem_image(path)


def test_tags_that_cannot_be_read_are_said(tmp_path):
    """Without its predictor a picture has other pixels: one note tells that a tag is damaged."""
    path = tmp_path / "a.tif"
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(path, grey, compression="zlib", predictor=True)
    assert "tags" not in open_sem_stack(path).notes
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["Predictor"].offset
    content = bytearray(path.read_bytes())
    content[place + 2 : place + 4] = b"\x63\x00"  # no data type
    path.write_bytes(content)
    assert "the file may be damaged" in open_sem_stack(path).notes["tags"]


@pytest.mark.parametrize("shape", [(1, 7), (7, 1)])
def test_narrow_pictures_stay_pictures(shape, tmp_path):
    """One row or column is a picture too."""
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, np.uint8), photometric="minisblack")
    assert read_sem_image(tmp_path / "a.tif").pixels.shape == shape


def test_stacks_are_written(tmp_path):
    """A TIFF holds a stack with its pixels of two sizes; a PNG is refused one."""
    size = PixelSize("x", 2.0, 3.0)
    write_sem_stack(tmp_path / "a.tif", iter(frames(4)), 4, size)
    np.testing.assert_array_equal(all_frames(tmp_path / "a.tif"), frames(4))
    assert open_sem_stack(tmp_path / "a.tif").size[1:] == (2.0, 3.0)
    with pytest.raises(DataError, match=r"a\.png: holds one picture; received 4 frames"):
        write_sem_stack(tmp_path / "a.png", frames(4), 4)
    with pytest.raises(DataError, match=r"pixels must be \(H, W\) .*received \(4, 20, 32\)"):
        write_sem_image(tmp_path / "b.tif", frames(4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("size", [None, PixelSize("x", 2.0), PixelSize("x", 2.0, 3.0)])
def test_the_network_of_a_restored_picture_is_kept(size, tmp_path):
    """Next to the pixel size, on every page, in plain JSON; the reader notes it."""
    mark = "sem_lines (sr-toolbox 1.0.0)"
    write_sem_stack(tmp_path / "a.tif", frames(2), 2, size, restored_by=mark)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [json.loads(page.description)["restored_by"] for page in file.pages] == [mark] * 2
    stack = open_sem_stack(tmp_path / "a.tif")
    assert stack.notes["restored"] == f"restored by {mark}: edges are the network's estimate."
    assert (stack.size and stack.size[1:]) == (size and size[1:])
    np.testing.assert_array_equal(all_frames(tmp_path / "a.tif"), frames(2))


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[1]", '"text"', '{"restored_by": 3}', '{"restored_by": "a\\nb"}', "[" * 9999],
)
def test_other_descriptions_name_no_network(text, tmp_path):
    """Whatever a description holds, the picture is read and nothing is noted."""
    tifffile.imwrite(tmp_path / "a.tif", frames(1)[0], description=text, metadata=None)
    assert "restored" not in open_sem_stack(tmp_path / "a.tif").notes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_stays_zero(dtype, tmp_path):
    """A stack that is written as it came looks the same in any viewer: no inversion."""
    write_sem_stack(tmp_path / "a.tif", frames(2, dtype), 2, white_is_zero=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [page.photometric for page in file.pages] == [0, 0]
        stored = np.stack([page.asarray() for page in file.pages])
    np.testing.assert_array_equal(stored, np.iinfo(dtype).max - frames(2, dtype))
    np.testing.assert_array_equal(all_frames(tmp_path / "a.tif"), frames(2, dtype))
    assert open_sem_stack(tmp_path / "a.tif").white_is_zero


# -- Size of a pixel ---------------------------------------------------------------------------


ZEISS = "0\r\n\r\nAP_PIXEL_SIZE\r\nPixel Size = 3.0 nm\r\nAP_WIDTH\r\nWidth = 3.072 \xb5m\r\n"
STORED = "DP_IMAGE_STORE\r\nStore resolution = 2048 * 1536\r\n"
IMAGE = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 1.5 nm\r\n"
FEI = "[Scan]\r\nPixelWidth=2e-09\r\nPixelHeight={}e-09\r\nHorFieldsize={}\r\n"


@pytest.mark.parametrize(
    ("code", "text", "columns", "pixel_nm", "said"),
    [
        (34118, ZEISS, 2048, 1.5, "3 nm by AP_PIXEL_SIZE"),
        (34118, ZEISS + IMAGE, 2048, 1.5, ""),
        (34118, ZEISS + STORED, 1024, 1.5, "3 nm by AP_WIDTH ÷ 1024 columns"),
        (34118, ZEISS + IMAGE, 1024, 1.5, "3 nm by AP_WIDTH ÷ 1024 columns"),
        (34682, FEI.format(2, 4.096e-6), 2048, 2.0, ""),
        (34682, FEI.format(2, 4.096e-6), 1024, 2.0, "4 nm by HorFieldsize ÷ 1024 columns"),
        (34682, FEI.format(3, 4.096e-6), 2048, 2.0, "2 nm wide but 3 nm high, by PixelWidth"),
        (50431, "\x01\x02[MAIN]\r\nPixelSizeX=3.9e-009\r\nPixelSizeY=3.9e-009\r\n", 64, 3.9, ""),
    ],
)
def test_sources_are_checked_against_each_other(code, text, columns, pixel_nm, said, tmp_path):
    """The pixel of the screen is not that of the picture; what disagrees is said."""
    write_tag(tmp_path / "a.tif", code, text, columns)
    found, notes = size_of(tmp_path / "a.tif")
    assert found == pytest.approx(pixel_nm)
    assert said in notes
    assert bool(notes) == bool(said)


@pytest.mark.parametrize(
    ("options", "pixel_nm", "said"),
    [
        ({"imagej": True, "metadata": {"unit": "nm"}, "resolution": (1.25, 1.25)}, 0.8, ""),
        ({"imagej": True, "metadata": {"unit": "\\u00B5m"}, "resolution": (2e3, 2e3)}, 0.5, ""),
        ({"imagej": True, "metadata": {"unit": "inch"}, "resolution": (72, 72)}, None, ""),
        ({"imagej": True, "metadata": {"unit": "nm"}, "resolution": (0.5, 0.25)}, 2, "4 nm high"),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.0021}}, 2.1, ""),
        ({"ome": True, "metadata": {"PhysicalSizeX": 7, "PhysicalSizeXUnit": "pm"}}, 0.007, ""),
        ({"resolution": (5e6, 5e6), "resolutionunit": 3, "metadata": None}, 2.0, ""),
        ({"resolution": (25400000, 25400000), "resolutionunit": 2, "metadata": None}, 1.0, ""),
        ({"resolution": (300, 300), "resolutionunit": 2, "metadata": None}, None, ""),
        ({"resolution": (0, 0), "resolutionunit": 2, "metadata": None}, None, ""),
    ],
)
def test_pixel_size_of_programs(options, pixel_nm, said, tmp_path):
    """ImageJ, OME and the resolution say it, that of a screen or of paper excepted."""
    tifffile.imwrite(tmp_path / "a.tif", frames(1)[0], **options)
    found, notes = size_of(tmp_path / "a.tif")
    assert found == (None if pixel_nm is None else pytest.approx(pixel_nm))
    assert said in notes


HITACHI = "[SemImageFile]\r\nInstructName=SU8000\r\nDataSize=32x20\r\nPixelSize=9.921875\r\n"


@pytest.mark.parametrize(
    ("name", "content", "pixel_nm", "said"),
    [
        ("a.txt", HITACHI.encode(), 9.921875, ""),
        ("a.TXT", HITACHI.encode("utf-16"), 9.921875, ""),
        ("a.txt", HITACHI.replace("32x", "64x").encode(), 9.921875, "19.84 nm by its 64 ÷ 32"),
        ("a.txt", b"PixelSize=3\r\n", None, ""),
        ("a.txt", b"[SemImageFile]\r\nPixelSize=0\r\n", None, ""),
        ("a.txt", b"[SemImageFile]\r\nPixelSize=\xff\r\n", None, ""),
        ("a-tif.hdr", b"[MAIN]\r\nPixelSizeX=2.5e-9\r\nPixelSizeY=2.5e-9\r\n", 2.5, ""),
        ("a.hdr", b"[MAIN]\r\nPixelSizeX=2.5e-9\r\nPixelSizeY=5e-9\r\n", 2.5, "5 nm high"),
        ("b.txt", HITACHI.encode(), None, ""),
    ],
)
def test_pixel_size_beside_the_picture(name, content, pixel_nm, said, tmp_path):
    """The texts that Hitachi and Tescan lay beside a picture count, other texts do not."""
    tifffile.imwrite(tmp_path / "a.tif", frames(1)[0], metadata=None)
    (tmp_path / name).write_bytes(content)
    found, notes = size_of(tmp_path / "a.tif")
    assert found == pixel_nm
    assert said in notes


def test_nothing_is_chosen_from_nothing():
    """Without a source there is no size; of several the first counts."""
    assert choose_size([]) == (None, {})
    sizes = [PixelSize("one", 1.0), PixelSize("two", 1.005), PixelSize("three", 2.0)]
    chosen, notes = choose_size(sizes)
    assert chosen == sizes[0]
    assert "1 nm, by one; but it is 2 nm by three. Set pixel_nm" in notes["sizes"]
    assert choose_size(sizes[1:2])[1] == {"size": "a pixel is 1.005 nm, by two."}


@needs_real
@pytest.mark.parametrize(
    ("name", "columns", "pixel_nm", "y_nm"),
    [
        ("test_tiff_Zeiss_SEM_1k.tif", 1024, 2615.0, None),
        ("FEI-Helios-Ebeam-8bits.tif", 512, 3372.4, 3372.4),
        ("FEI-Helios-Ebeam-16bits.tif", 512, 3372.4, 3372.4),
        ("test_loading_image_saved_with_imageJ_stack.tif", 68, 168.674, 168.674),
        ("test_loading_image_saved_with_DM_stack.tif", 68, 168.674, 1686.74),
    ],
)
def test_real_files(name, columns, pixel_nm, y_nm):
    """Files of microscopes; values as hyperspy reads them (its test suite, RosettaSciIO)."""
    size, notes = choose_size(pixel_sizes(REAL / name, columns))
    assert size.x_nm == pytest.approx(pixel_nm, rel=1e-4)
    assert size.y_nm == (None if y_nm is None else pytest.approx(y_nm, rel=1e-4))
    assert ("not square" in notes) == (y_nm is not None and y_nm != pixel_nm)
    assert "sizes" not in notes
    assert notes["size"].endswith(f", by {size.source}.")


@needs_real
def test_real_preview():
    """The 16-bit page behind an Olympus preview is named, as is a stack of real numbers."""
    stack = open_sem_stack(REAL / "olympus_SIS.tif")
    assert "101 × 112 of uint16" in stack.notes["pages"]
    with pytest.raises(
        DataError, match=r"pixels must be unsigned with 8 or 16 bits.*received float32"
    ):
        open_sem_stack(REAL / "test_loading_image_saved_with_imageJ_stack.tif")
