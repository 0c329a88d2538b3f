"""Pictures keep depth, transparency, profile, EXIF and resolution; other programs read them."""

import re
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin

from toolbox.errors import ConfigError, DataError
from toolbox.io import picture_tiff
from toolbox.io.picture import (
    SUFFIXES,
    Picture,
    check_picture,
    picture_suffix,
    read_picture,
    write_picture,
)

Image.init()
#: A Pillow may have been built without WebP or AVIF.
MODERN = [suffix for suffix in (".webp", ".avif") if suffix[1:].upper() in Image.SAVE]
TYPES = {8: np.uint8, 16: np.uint16}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, ARTIST, EXIF_PART, GPS_PART, INTEROP_PART = 274, 315, 34665, 34853, 40965
EXPOSURE, PIXEL_WIDTH, LENS = 33434, 40962, 42034


def noise(bits, samples, size=(50, 37)):
    """Random samples (H, W, samples)."""
    rng = np.random.default_rng(samples)
    return rng.integers(0, 2**bits, (*size, samples), dtype=TYPES[bits])


def exif_block(orientation=1, stale=True):
    """An EXIF block with text, exposure, position, and what becomes stale."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[ARTIST] = "山田 é".encode()
    if stale:
        exif[256] = 99
    exif[EXIF_PART] = {EXPOSURE: 0.008, PIXEL_WIDTH: 99, INTEROP_PART: {1: "R98"}}
    exif[GPS_PART] = {1: "N", 2: (35.0, 41.0, 2.5)}
    return exif.tobytes()


def tags_of(block):
    """EXIF as Pillow reads it."""
    exif = Image.Exif()
    exif.load(block)
    return exif


def assert_exif_kept(block):
    """All that `exif_block` says of the photograph is there, and nothing else."""
    exif = tags_of(block)
    assert exif[ORIENTATION] == 1
    assert exif[ARTIST].encode("latin-1") == "山田 é".encode()
    assert 256 not in exif
    assert dict(exif.get_ifd(EXIF_PART)).keys() == {EXPOSURE, INTEROP_PART}
    assert exif.get_ifd(EXIF_PART)[EXPOSURE] == pytest.approx(0.008)
    assert exif.get_ifd(INTEROP_PART) == {1: "R98"}
    assert exif.get_ifd(GPS_PART) == {1: "N", 2: (35.0, 41.0, 2.5)}


def picture_of(samples, **belongings):
    """A picture of samples, of which 2 and 4 end with alpha."""
    clear = samples.shape[-1] in (2, 4)
    pixels = samples[..., :-1] if clear else samples
    alpha = samples[..., -1] if clear else None
    return Picture(pixels, alpha, 8 * samples.dtype.itemsize, **belongings)


def samples_of(picture):
    """The inverse of `picture_of`."""
    parts = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
    return np.dstack(parts)


def write(path, samples, **belongings):
    """Write samples in uneven strips; return the picture they were written like."""
    like = picture_of(samples, **belongings)
    write_picture(path, np.split(samples, [1, 18, 40]), samples.shape[:2], like)
    return like


def refused(path, message, **options):
    """Assert that a file cannot be read, with its name and `message` in one line."""
    with pytest.raises(DataError, match=message) as caught:
        read_picture(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


# -- There and back ------------------------------------------------------------------------------


def swapped(samples):
    """RGB(A) to BGR(A) and back; grey with alpha as OpenCV reads it."""
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[-1]]
    return samples[..., order]


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_formats_keep_every_bit(tmp_path, suffix, bits, samples):
    """PNG and TIFF of our own hand come back whole, here and in three other programs."""
    path = tmp_path / f"夏 の海{suffix.upper()}"
    truth = noise(bits, samples)
    icc = SRGB if samples > 2 else None
    like = write(path, truth, icc=icc, exif=exif_block(), dpi=(300.0, 150.0))
    found = read_picture(path)
    assert np.array_equal(samples_of(found), truth)
    assert (found.bits, found.pixels.dtype, found.icc) == (bits, truth.dtype, like.icc)
    assert found.dpi == pytest.approx((300, 150), abs=0.02)  # PNG counts pixels per metre
    assert found.notes == like.notes == []
    assert_exif_kept(found.exif)

    if suffix == ".tif":
        assert np.array_equal(tifffile.imread(path).reshape(truth.shape), truth)
    # OpenCV reads no TIFF of grey with alpha, and multiplies colours of 8 bits by alpha.
    if suffix == ".png" or samples in (1, 3) or (samples, bits) == (4, 16):
        seen = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = swapped(truth)
        assert np.array_equal(seen.reshape(expected.shape), expected)
    if bits == 8 or samples == 1:
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image).reshape(truth.shape), truth)
            assert image.info.get("icc_profile") == icc


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", *MODERN])
def test_lossy_formats_keep_what_belongs_to_the_pixels(tmp_path, suffix):
    """Pixels stay near; profile, EXIF and DPI are the very same."""
    path = tmp_path / f"photo{suffix}"
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    truth = np.dstack([np.tile(ramp, (48, 1)), np.tile(ramp[:48, None], 64), np.full((48, 64), 90)])
    truth = truth.astype(np.uint8)
    like = write(path, truth, icc=SRGB, exif=exif_block(), dpi=(300.0, 150.0))
    found = read_picture(path)
    assert np.abs(found.pixels.astype(int) - truth).max() < 12
    assert (found.icc, found.alpha, found.bits) == (SRGB, None, 8)
    assert found.dpi == pytest.approx((300, 150))
    assert found.notes == like.notes == []
    assert_exif_kept(found.exif)


@pytest.mark.parametrize("suffix", MODERN)
def test_lossy_formats_with_transparency(tmp_path, suffix):
    """WebP and AVIF hold alpha; grey with alpha becomes RGB with alpha."""
    for samples in (2, 4):
        path = tmp_path / f"{samples}{suffix}"
        truth = np.full((50, 37, samples), 100, np.uint8)
        truth[:20, ..., -1] = 255
        write(path, truth)
        found = read_picture(path)
        assert found.pixels.shape == (50, 37, 3)
        assert np.abs(found.pixels.astype(int) - 100).max() < 4
        assert np.abs(found.alpha.astype(int) - truth[..., -1]).max() < 4


def test_grey_jpeg_stays_grey(tmp_path):
    """A grey picture is written as one, with a grey profile."""
    icc = grey_profile()
    write(tmp_path / "grey.jpg", np.full((50, 37, 1), 77, np.uint8), icc=icc)
    found = read_picture(tmp_path / "grey.jpg")
    assert found.pixels.shape == (50, 37, 1)
    assert found.icc == icc
    assert np.abs(found.pixels.astype(int) - 77).max() <= 1


def test_bmp_holds_pixels_and_dpi(tmp_path):
    """What BMP cannot hold is said."""
    for samples in (1, 3):
        path = tmp_path / f"{samples}.bmp"
        truth = noise(8, samples)
        like = write(path, truth, exif=exif_block(), dpi=(300.0, 300.0))
        found = read_picture(path)
        assert np.array_equal(found.pixels, truth)
        assert found.dpi == pytest.approx((300, 300), abs=0.02)
        assert like.notes == [f"{path.name}: BMP cannot hold EXIF of this"]


def test_quality_and_full_colour_resolution(tmp_path):
    """JPEG is 4:4:4 and of quality 95 unless told otherwise."""
    truth = noise(8, 3)
    like = picture_of(truth)
    sizes = []
    for quality in (None, 95, 40):
        write_picture(tmp_path / "a.jpg", [truth], truth.shape[:2], like, quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
        with Image.open(tmp_path / "a.jpg") as image:
            assert JpegImagePlugin.get_sampling(image) == 0
    assert sizes[0] == sizes[1] > 2 * sizes[2]


def test_grey_profile_does_not_follow_into_rgb(tmp_path):
    """WebP knows no grey, so the profile of greys stays behind, and that is said."""
    if ".webp" not in MODERN:
        pytest.skip("this Pillow has no WebP")
    like = write(tmp_path / "grey.webp", noise(8, 1), icc=grey_profile())
    assert read_picture(tmp_path / "grey.webp").icc is None
    assert like.notes == ["grey.webp: WebP cannot hold ICC profile of this"]


def test_big_tiff(tmp_path, monkeypatch):
    """Above 4 GB the file is a BigTIFF, with all that belongs to it."""
    monkeypatch.setattr(picture_tiff, "_CLASSIC_BYTES", 1000)
    truth = noise(16, 4)
    write(tmp_path / "big.tif", truth, icc=SRGB, exif=exif_block(), dpi=(300.0, 150.0))
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), truth)
        assert file.pages.first.tags.valueof(EXIF_PART)["ExposureTime"] == 0.008
    found = read_picture(tmp_path / "big.tif")
    assert np.array_equal(samples_of(found), truth)
    assert (found.icc, found.dpi) == (SRGB, (300, 150))
    assert_exif_kept(found.exif)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_memory_is_bounded(tmp_path, suffix):
    """A result of 96 MB is written in a few megabytes of memory."""
    size = 4000
    like = picture_of(np.zeros((1, 1, 3), np.uint16))
    column = np.arange(size, dtype=np.uint16)[:, None] * np.ones(3, np.uint16)

    def strips():
        for row in range(0, size, 100):
            yield np.broadcast_to(column + np.uint16(row), (100, size, 3))

    tracemalloc.start()
    try:
        write_picture(tmp_path / f"large{suffix}", strips(), (size, size), like)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6
    found = cv2.imread(str(tmp_path / f"large{suffix}"), cv2.IMREAD_UNCHANGED)
    for row in (0, 150, 3999):
        assert np.array_equal(found[row], column + np.uint16(row // 100 * 100))


# -- Reading -------------------------------------------------------------------------------------

#: Red corner, white quarter, blue right edge: no turn or flip looks like another.
UPRIGHT = np.zeros((32, 48, 3), np.uint8)
UPRIGHT[:16, :24] = 255
UPRIGHT[:8, :8] = (255, 0, 0)
UPRIGHT[:, 40:] = (0, 0, 255)

#: What a camera stores, in Pillow's terms; EXIF 2.32, tag 274.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_becomes_upright(tmp_path, orientation):
    """JPEG, PNG, TIFF, WebP and 16-bit TIFF come upright, once, and say orientation 1."""
    stored = Image.fromarray(UPRIGHT)
    if orientation > 1:
        stored = stored.transpose(TURNS[orientation])
    block = exif_block(orientation)
    stored.save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=block, dpi=(300, 150))
    stored.save(tmp_path / "a.png", exif=block, dpi=(300, 150))
    stored.save(tmp_path / "a.tif", exif=exif_block(orientation, stale=False), dpi=(300, 150))
    options = {
        "photometric": "rgb",
        "compression": "zlib",
        "resolution": (300, 150),
        "resolutionunit": "inch",
        "extratags": [(ORIENTATION, 3, 1, orientation, True)],
    }
    tifffile.imwrite(tmp_path / "packed.tif", np.asarray(stored), **options)
    deep = np.asarray(stored).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, **options)
    if ".webp" in MODERN:
        stored.save(tmp_path / "a.webp", lossless=True, exif=block)
    dpi = (150, 300) if orientation > 4 else (300, 150)
    for path in sorted(tmp_path.iterdir()):
        found = read_picture(path)
        pixels = found.pixels / (257 if found.bits == 16 else 1)
        assert np.abs(pixels - UPRIGHT).max() <= 2, path.name
        assert tags_of(found.exif)[ORIENTATION] == 1
        assert found.dpi is None or found.dpi == pytest.approx(dpi, abs=0.02)


def test_thumbnail_is_left_behind(tmp_path):
    """EXIF of a camera keeps its tags and loses the small picture inside."""
    block = bytearray(exif_block())
    # The second directory, empty, then bytes as of a thumbnail; TIFF 6.0, section 2.
    order = "<" if block[6:8] == b"II" else ">"
    (count,) = struct.unpack_from(f"{order}H", block, 14)
    struct.pack_into(f"{order}I", block, 16 + 12 * count, len(block) - 6)
    block += bytes(6) + b"THUMBNAIL"
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg", exif=bytes(block))
    found = read_picture(tmp_path / "a.jpg")
    assert b"THUMBNAIL" in (tmp_path / "a.jpg").read_bytes()
    assert b"THUMBNAIL" not in found.exif
    assert_exif_kept(found.exif)


def test_damaged_exif_is_left_out_with_a_note(tmp_path):
    """The picture is read all the same."""
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg", exif=b"Exif\0\0not EXIF at all")
    found = read_picture(tmp_path / "a.jpg")
    assert found.exif is None
    assert found.notes == ["EXIF left out: it is damaged"]


def test_undefined_fractions_in_exif(tmp_path):
    """A lens of 0/0, which cameras do write, spoils nothing."""
    exif = Image.Exif()
    exif[ARTIST] = "Ann"
    exif[EXIF_PART] = {LENS: (24.0, 70.0, 0.0, 0.0)}
    block = exif.tobytes().replace(struct.pack("<2I", 0, 1), struct.pack("<2I", 0, 0))
    block = block.replace(struct.pack(">2I", 0, 1), struct.pack(">2I", 0, 0))
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg", exif=block)
    found = read_picture(tmp_path / "a.jpg")
    assert tags_of(found.exif)[ARTIST] == "Ann"


def test_a_picture_without_belongings(tmp_path):
    """Nothing is made up."""
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert (found.icc, found.exif, found.dpi, found.alpha, found.notes) == (None,) * 4 + ([],)


@pytest.mark.parametrize(
    ("mode", "shape", "clear", "note"),
    [
        ("1", (32, 48, 1), False, "1 bit converted to 8 bits of grey"),
        ("L", (32, 48, 1), False, None),
        ("LA", (32, 48, 1), True, None),
        ("P", (32, 48, 3), False, "palette converted to RGB"),
        ("RGB", (32, 48, 3), False, None),
        ("RGBA", (32, 48, 3), True, None),
    ],
)
def test_modes(tmp_path, mode, shape, clear, note):
    """Each kind of 8-bit PNG and TIFF becomes grey or RGB, with alpha where it had some."""
    image = Image.fromarray(UPRIGHT).convert(mode)
    plain = {"1": "L", "P": "RGB"}.get(mode, mode)
    truth = np.asarray(image.convert(plain)).reshape(*shape[:2], -1)
    for suffix in (".png", ".tif"):
        image.save(tmp_path / f"a{suffix}")
        found = read_picture(tmp_path / f"a{suffix}")
        assert found.pixels.shape == shape
        assert (found.alpha is not None) == clear
        assert np.array_equal(samples_of(found), truth)
        assert found.notes == ([] if note is None else [note])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_transparent_colour_becomes_alpha(tmp_path, mode):
    """PNG's tRNS of every kind of 8 bits."""
    image = Image.fromarray(UPRIGHT).convert(mode)
    key = image.getpixel((47, 0))
    image.save(tmp_path / "a.png", transparency=key)
    found = read_picture(tmp_path / "a.png")
    assert found.alpha.dtype == np.uint8
    assert found.alpha[5, 47] == 0
    assert found.alpha[12, 12] == 255


@pytest.mark.parametrize("samples", [1, 3])
def test_a_transparent_colour_of_16_bits(tmp_path, samples):
    """PNG's tRNS of 16 bits matches whole values, not their upper halves."""
    truth = np.full((50, 37, samples), 1000, np.uint16)
    truth[0, 0] = 1001
    write(tmp_path / "a.png", truth)
    content = (tmp_path / "a.png").read_bytes()
    key = struct.pack(f">{samples}H", *[1001] * samples)
    chunk = struct.pack(">I", len(key)) + b"tRNS" + key
    chunk += struct.pack(">I", zlib.crc32(b"tRNS" + key))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    found = read_picture(tmp_path / "a.png")
    assert np.array_equal(found.pixels, truth)
    assert found.alpha[0, 0] == 0
    assert (found.alpha == 65535).sum() == found.alpha.size - 1


def test_first_of_several(tmp_path):
    """Animations and pages: the first is read, and that is said."""
    frames = [Image.fromarray(UPRIGHT), Image.fromarray(255 - UPRIGHT)]
    for suffix in (".png", ".gif", ".tif", *MODERN):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        found = read_picture(path)
        word = "page" if suffix == ".tif" else "picture"
        assert found.notes[0] == f"the first {word} of 2 is read"
        assert np.abs(found.pixels[20:, 45].astype(int) - [0, 0, 255]).max() < 10


@pytest.mark.parametrize("bits", [8, 16])
def test_layouts_of_tiff(tmp_path, bits):
    """Planes, tiles, byte orders, compressions and several pages hold one and the same picture."""
    truth = noise(bits, 3, (64, 48))
    planes = np.moveaxis(truth, -1, 0)
    rgb = {"photometric": "rgb"}
    tifffile.imwrite(tmp_path / "plain.tif", truth, **rgb)
    tifffile.imwrite(tmp_path / "motorola.tif", truth, byteorder=">", **rgb)
    tifffile.imwrite(tmp_path / "planes.tif", planes, planarconfig="separate", **rgb)
    tifffile.imwrite(tmp_path / "zip.tif", truth, compression="zlib", predictor=True, **rgb)
    tifffile.imwrite(tmp_path / "tiles.tif", truth, tile=(32, 32), compression="zlib", **rgb)
    tifffile.imwrite(tmp_path / "big.tif", truth, bigtiff=True, **rgb)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([truth, truth]), **rgb)
    cv2.imwrite(str(tmp_path / "lzw.tif"), truth[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    for path in sorted(tmp_path.iterdir()):
        found = read_picture(path)
        assert np.array_equal(found.pixels, truth), path.name
        assert found.notes == (["the first page of 2 is read"] if "pages" in path.name else [])


@pytest.mark.parametrize("samples", [2, 4])
def test_extra_samples_of_deep_tiff(tmp_path, samples):
    """Alpha beside the colours, alpha multiplied into them, and samples of no known meaning."""
    truth = noise(16, samples)
    truth[..., -1] |= 32768
    alpha = truth[..., -1:].astype(float) / 65535
    kind = {"photometric": "rgb" if samples == 4 else "minisblack", "planarconfig": "contig"}
    multiplied = truth.copy()
    multiplied[..., :-1] = np.rint(truth[..., :-1] * alpha)
    for name, stored in (("unassalpha", truth), ("assocalpha", multiplied), ("unspecified", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, extrasamples=[name], **kind)
    assert np.array_equal(samples_of(read_picture(tmp_path / "unassalpha.tif")), truth)
    divided = samples_of(read_picture(tmp_path / "assocalpha.tif"))
    assert np.abs(divided.astype(int) - truth).max() <= 1
    other = read_picture(tmp_path / "unspecified.tif")
    assert other.alpha is None
    assert np.array_equal(other.pixels, truth[..., :-1])
    assert other.notes == ["1 sample per pixel beyond colours and alpha left out"]


def test_white_is_zero(tmp_path):
    """Black is 0 in what is read, whatever the TIFF counts from."""
    truth = noise(16, 1)
    tifffile.imwrite(tmp_path / "a.tif", truth[..., 0], photometric="miniswhite")
    assert np.array_equal(read_picture(tmp_path / "a.tif").pixels, 65535 - truth)


def test_centimetres(tmp_path):
    """A TIFF in pixels per centimetre has 2.54 times as many per inch."""
    tifffile.imwrite(
        tmp_path / "a.tif",
        UPRIGHT,
        photometric="rgb",
        resolution=(100, 50),
        resolutionunit="centimeter",
    )
    assert read_picture(tmp_path / "a.tif").dpi == pytest.approx((254, 127))


def test_content_counts_not_the_ending(tmp_path):
    """A PNG that is called .jpg is read."""
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_picture(tmp_path / "a.jpg").pixels, UPRIGHT)


# -- Profiles ------------------------------------------------------------------------------------


def profile(kind, space, connection, tags):
    """A profile of version 2.1 with some tags; ICC.1:2001-04."""
    table, behind, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4s2I", name, start + len(behind), len(content))
        behind += content + bytes(-len(content) % 4)
    head = bytearray(128)
    struct.pack_into(
        ">I4x I4s4s4s", head, 0, start + len(behind), 0x02100000, kind, space, connection
    )
    head[36:40] = b"acsp"
    struct.pack_into(">3i", head, 68, 63190, 65536, 54061)  # D50
    return bytes(head) + table + behind


def grey_profile():
    """Greys with a gamma of 2.2."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563)
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": white, b"kTRC": curve})


def cmyk_profile():
    """Inks by a table of 2⁴ corners: any full ink is black, paper is white."""
    identity = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    corners = bytearray([0, 128, 128] * 16)
    corners[0] = 255
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"wtpt": white})


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_goes_through_its_profile(tmp_path, suffix):
    """CMYK becomes sRGB and says so; the new profile is of RGB."""
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:16, :, 3] = 255
    path = tmp_path / f"a{suffix}"
    Image.fromarray(inks, "CMYK").save(path, icc_profile=cmyk_profile())
    found = read_picture(path)
    assert found.pixels[:14].max() < 6
    assert found.pixels[18:].min() > 249
    assert found.icc[16:20] == b"RGB "
    assert found.notes == ["CMYK converted to RGB (sRGB) through its profile"]


def test_cmyk_without_a_usable_profile(tmp_path):
    """Colours are never guessed."""
    image = Image.fromarray(UPRIGHT).convert("CMYK")
    for suffix in (".jpg", ".tif"):
        image.save(tmp_path / f"bare{suffix}")
        refused(tmp_path / f"bare{suffix}", "CMYK without an ICC profile, so its colours are")
    image.save(tmp_path / "wrong.jpg", icc_profile=SRGB)
    refused(tmp_path / "wrong.jpg", "CMYK with an ICC profile that cannot be used")


def test_a_profile_of_other_colours_is_left_out(tmp_path):
    """A profile of greys in an RGB file would shift colours, or other programs would refuse."""
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg", icc_profile=grey_profile())
    found = read_picture(tmp_path / "a.jpg")
    assert found.icc is None
    assert found.notes == ["an ICC profile for other colours than those of the pixels is left out"]


# -- Refusals ------------------------------------------------------------------------------------


def test_no_picture(tmp_path):
    """Missing, empty, a folder, text."""
    refused(tmp_path / "none.png", "no such file")
    refused(tmp_path, "no such file")
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", r"empty \(0 bytes\)")
    (tmp_path / "text.png").write_text("not a picture at all")
    refused(tmp_path / "text.png", "not a picture, or damaged at its start")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", *MODERN])
def test_cut_short_or_spoilt(tmp_path, suffix):
    """A part of a file is no picture, wherever it ends."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(8, 3, (200, 200))).save(path)
    content = path.read_bytes()
    for end in (20, len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:end])
        refused(path, "damaged")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_and_cut_short(tmp_path, suffix):
    """The same for 16 bits, where Pillow does not decode."""
    path = tmp_path / f"a{suffix}"
    write(path, noise(16, 3, (200, 200)))
    content = path.read_bytes()
    for end in (20, len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:end])
        refused(path, "damaged")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    refused(path, "damaged")


def tiff_with_tag(path, code, kind, **options):
    """Write a TIFF in which the type of one tag is one that there is not; return the pixels."""
    pixels = noise(8, 1, (40, 30))[..., 0]
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **options)
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[code].offset
    content = bytearray(path.read_bytes())
    content[place + 2 : place + 4] = struct.pack("<H", kind)
    path.write_bytes(content)
    return pixels


@pytest.mark.parametrize(
    ("code", "options"), [(317, {"compression": "zlib", "predictor": True}), (305, {})]
)
def test_a_tag_that_cannot_be_read_is_said(tmp_path, code, options):
    """Without its predictor a picture is another one, so what the library logs is a note."""
    path = tmp_path / "a.tif"
    tiff_with_tag(path, code, 77, **options)
    [note] = [note for note in read_picture(path).notes if "reports a problem" in note]
    assert f"TiffTag {code} " in note
    assert "the file may be damaged" in note


@pytest.mark.parametrize("bits", [8, 16])
def test_a_wrong_checksum_is_damage(tmp_path, bits):
    """Pixels compressed by Deflate are held against their checksum, which libtiff does not."""
    path = tmp_path / "a.tif"
    pixels = noise(bits, 1, (40, 30))[..., 0]
    tifffile.imwrite(path, pixels, compression="zlib", photometric="minisblack")
    assert np.array_equal(read_picture(path).pixels[..., 0], pixels)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        end = page.dataoffsets[0] + page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[end - 1] ^= 1
    path.write_bytes(content)
    refused(path, "damaged or truncated")


@pytest.mark.parametrize("code", [256, 257])
@pytest.mark.parametrize("bits", [8, 16])
def test_no_pixels(tmp_path, code, bits):
    """A width or height of 0 is damage, not a picture to be enlarged."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(bits, 1, (40, 30))[..., 0], photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags[code]
        place, size = tag.valueoffset, tag.valuebytecount
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes(size)
    path.write_bytes(content)
    refused(path, "damaged")


def test_a_library_logs_nothing_beside_the_error(tmp_path, capsys):
    """Seventeen samples a pixel: Pillow logs that it cannot decode them, besides raising so."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(8, 1, (40, 30))[..., 0], photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[277].valueoffset
    content[place : place + 2] = struct.pack("<H", 17)
    path.write_bytes(content)
    refused(path, "damaged")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint32])
def test_maps_are_no_pictures(tmp_path, kind):
    """Values without a white and a black are refused."""
    tifffile.imwrite(tmp_path / "map.tif", np.ones((8, 8), kind))
    message = f"a map or a scientific image with values of type {np.dtype(kind)}"
    refused(tmp_path / "map.tif", message)


def test_other_colours_are_refused(tmp_path):
    """CMYK of 16 bits, Lab, 12 bits."""
    cmyk = {"photometric": "separated", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "cmyk.tif", noise(16, 4), **cmyk)
    refused(tmp_path / "cmyk.tif", "16-bit colours of the kind SEPARATED are not supported")
    ImageCms.profileToProfile(
        Image.fromarray(UPRIGHT),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    ).save(tmp_path / "lab.tif")
    refused(tmp_path / "lab.tif", "colours of the kind LAB are not supported")


def test_too_many_pixels(tmp_path):
    """Our limit speaks before anything is decoded; Pillow's is not heard and not changed."""
    truth = noise(8, 3)
    limit = Image.MAX_IMAGE_PIXELS
    for suffix in (*SUFFIXES[:5], *MODERN, ".bmp"):
        path = tmp_path / f"a{suffix}"
        write(path, truth)
        refused(path, r"has 37 x 50 = 1850 pixels; at most 1849 are allowed", largest=1849)
        Image.MAX_IMAGE_PIXELS = 100
        try:
            assert read_picture(path, largest=1850).pixels.shape == truth.shape
            assert Image.MAX_IMAGE_PIXELS == 100
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def test_a_bomb_is_refused_by_its_header(tmp_path):
    """A few bytes that claim 60,000² pixels."""
    head = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    (tmp_path / "bomb.png").write_bytes(content)
    refused(tmp_path / "bomb.png", "3600000000 pixels; at most 200000000")


def test_threads_leave_no_trace(tmp_path):
    """Reading in threads changes neither Pillow's limit nor what Python warns about."""
    for number in range(12):
        write(
            tmp_path / f"{number}.{'png' if number % 2 else 'tif'}", noise(8, 3), dpi=(72.0, 72.0)
        )
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(read_picture, sorted(tmp_path.iterdir())))
    assert len(found) == 12
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


@pytest.mark.parametrize(
    ("target", "samples", "scale", "message"),
    [
        ("a.gif", noise(8, 3), 2, "a picture cannot be written as '.gif'. Use one of .jpg, "),
        ("a", noise(8, 3), 2, "a picture cannot be written as ''"),
        ("a.jpg", noise(16, 3), 2, "JPEG can hold 8 bits; the picture has 16. Use .png or .tif."),
        ("a.webp", noise(16, 3), 2, "WebP can hold 8 bits; the picture has 16. Use .png or .tif."),
        ("a.avif", noise(16, 1), 2, "AVIF can hold 8 bits; the picture has 16. Use .png or .tif."),
        ("a.bmp", noise(16, 1), 2, "BMP can hold 8 bits; the picture has 16. Use .png or .tif."),
        ("a.JPG", noise(8, 4), 2, "JPEG cannot hold transparency. Use .png or .tif."),
        ("a.bmp", noise(8, 2), 2, "BMP cannot hold transparency. Use .png or .tif."),
        (
            "a.jpg",
            noise(8, 3),
            1311,
            "JPEG can hold at most 65500 pixels a side; the result has 48507",
        ),
        (
            "a.webp",
            noise(8, 3),
            328,
            "WebP can hold at most 16383 pixels a side; the result has 12136",
        ),
        ("a.avif", noise(8, 3), 400, "AVIF can hold at most 32768 pixels a side, 268435456 in all"),
    ],
)
def test_results_that_a_format_cannot_hold(target, samples, scale, message):
    """They are refused before the work."""
    if target[1:] in {".webp", ".avif"} - set(MODERN):
        pytest.skip("this Pillow cannot write it")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        check_picture(target, picture_of(samples), scale)
    assert str(caught.value).startswith(f"{target}: ")


@pytest.mark.parametrize(
    "target", ["a.PNG", "a.tif", "a.jpg", *(f"a{suffix}" for suffix in MODERN)]
)
def test_results_that_a_format_can_hold(target):
    """They pass, up to the very limit."""
    side = {"jpg": 65_500, "webp": 16_383, "avif": 8192}.get(target[2:], 65_500)
    check_picture(target, picture_of(noise(8, 3, (1, 5))), side // 5)
    check_picture(target, picture_of(np.zeros((1, 1, 1), np.uint8)), side)
    assert picture_suffix(target) == target[1:].lower()


def test_suffix_of_the_result():
    """That of the input in lower case, PNG for what is read but never written."""
    assert picture_suffix("folder/夏 休み.JPG") == ".jpg"
    assert picture_suffix("scan.tiff") == ".tiff"
    assert picture_suffix("film.gif") == ".png"
    assert picture_suffix("nothing") == ".png"


@pytest.mark.parametrize(
    ("target", "quality", "message"),
    [
        ("a.png", 90, "quality has no meaning for PNG"),
        ("a.tiff", 90, "quality has no meaning for TIFF"),
        ("a.bmp", 90, "quality has no meaning for BMP"),
        ("a.jpg", 0, "quality must be 1 to 100; received 0"),
        ("a.jpg", 101, "quality must be 1 to 100; received 101"),
    ],
)
def test_quality_where_it_means_nothing(tmp_path, target, quality, message):
    """It is refused before the first strip is asked for."""

    def strips():
        pytest.fail("a strip was computed")
        yield

    like = picture_of(noise(8, 3))
    with pytest.raises(ConfigError, match=message):
        write_picture(tmp_path / target, strips(), (50, 37), like, quality)


@pytest.mark.parametrize("target", ["a.png", "a.tif", "a.jpg"])
def test_a_failed_write_leaves_nothing(tmp_path, target):
    """Strips of a wrong shape, type or number leave the former file as it was."""
    truth = noise(8, 3)
    like = picture_of(truth)
    (tmp_path / target).write_bytes(b"former")
    for strips, message in (
        ([truth[:20]], "expected strips of 50 rows in all; received 20"),
        ([truth, truth], "expected strips of 50 rows in all; received 100"),
        ([truth[:, 1:]], r"expected strips \(rows, 37, 3\) of uint8; received \(50, 36, 3\)"),
        ([truth.astype(float)], "received .* of float64"),
    ):
        with pytest.raises(ValueError, match=message):
            write_picture(tmp_path / target, strips, truth.shape[:2], like)
    assert [path.name for path in tmp_path.iterdir()] == [target]
    assert (tmp_path / target).read_bytes() == b"former"
