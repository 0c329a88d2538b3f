"""Photographs: found, paired, split, reduced, degraded, measured."""

import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from toolbox.errors import ConfigError, DataError
from toolbox.normalizer import MinMaxNormalizer
from toolbox.picture_set import dealt, in_channels, to_pixels
from toolbox.resize import reduced, resized, whole_blocks
from toolbox.tasks.photo.degrade import degrade
from toolbox.tasks.photo.measure import below_bicubic, brightness, enlarged, measured
from toolbox.tasks.photo.photos import PhotoFile, Photos, find_photos, pair_photos
from toolbox.tasks.photo.source import PhotoSource

NORM = MinMaxNormalizer(0, 255, 0, 255).normalize_pair


@pytest.fixture(scope="module")
def astronaut():
    """A photograph of 512 × 512 pixels that scikit-image ships."""
    return skimage.data.astronaut()


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path, astronaut):
    """Twelve photographs of 64 × 48 pixels, some in a sub-folder, with awkward names."""
    names = [f"{i:02d}.png" for i in range(9)] + ["in/写真 1.png", "in/b c.JPG", "in/d.webp"]
    for i, name in enumerate(names):
        write(tmp_path / "photos" / name, astronaut[30 * i : 30 * i + 48, 100:164])
    return tmp_path / "photos"


# Making smaller --------------------------------------------------------------------------------


def test_area_is_the_block_mean():
    """Each pixel is the rounded mean of its block, in 8 and in 16 bits."""
    for dtype in (np.uint8, np.uint16):
        pixels = np.arange(48, dtype=dtype).reshape(4, 4, 3)
        expected = np.rint(pixels.reshape(2, 2, 2, 2, 3).mean((1, 3)))
        np.testing.assert_array_equal(reduced(pixels, 2, "area"), expected)
        assert reduced(pixels, 2, "area").dtype == dtype


@pytest.mark.parametrize("method", ["bicubic", "lanczos"])
def test_sixteen_bits_are_the_eight_bits_and_more(astronaut, method):
    """The two paths through Pillow agree to a grey level and its rounding."""
    fine = resized(astronaut.astype(np.uint16) * 257, (256, 256), method)
    coarse = resized(astronaut, (256, 256), method)
    assert np.abs(fine / 257 - coarse).max() <= 1.01


def test_kernels_are_widened_for_smaller_pictures():
    """A pattern above the new Nyquist frequency becomes grey instead of an alias."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    inside = reduced(stripes, 4)[4:-4, 4:-4]
    assert np.abs(inside.astype(int) - 100).max() <= 1


def test_what_is_left_over_is_cut():
    """Whole blocks begin at the upper left."""
    pixels = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)
    np.testing.assert_array_equal(whole_blocks(pixels, 3), pixels[:6, :3])


# Finding ---------------------------------------------------------------------------------------


def test_folders_inside_belong(folder):
    """Names are paths without the ending; hidden files and others do not count."""
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    found = find_photos(folder)
    assert len(found) == 12
    assert {"00", "in/写真 1", "in/b c", "in/d"} <= found.keys()


def test_two_files_of_one_name(folder, astronaut):
    """Which of the two is meant cannot be known."""
    write(folder / "00.jpg", astronaut[:48, :64])
    with pytest.raises(DataError, match=r"00\.png: has the same name as 00\.jpg next to it"):
        find_photos(folder)


def test_nothing_there(tmp_path):
    """An empty folder and a missing one give different messages."""
    with pytest.raises(DataError, match="holds no photograph"):
        find_photos(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_photos(tmp_path / "none")


def test_pairs_by_name(folder, tmp_path, astronaut):
    """Endings may differ, and names may end in the scale, as in DIV2K."""
    for i, name in enumerate(find_photos(folder)):
        ending = "x2.png" if i % 2 else ".webp"
        write(tmp_path / "low" / f"{name}{ending}", astronaut[:24, :32])
    pairs = pair_photos(folder, tmp_path / "low", 2)
    assert len(pairs) == 12
    assert all(p.low.stem.removesuffix("x2") == p.high.stem for p in pairs)


def test_a_partner_is_missing(folder, tmp_path, astronaut):
    """Both folders must hold the same photographs."""
    write(tmp_path / "low" / "00.png", astronaut[:24, :32])
    with pytest.raises(DataError, match=r"low: lacks 11 photographs of the other folder: 01, 02"):
        pair_photos(folder, tmp_path / "low", 2)


def test_every_photograph_is_dealt_once(folder):
    """Every photograph has a split, and a new one moves few others."""
    files = pair_photos(folder, None, 2)
    parts = [dealt(files, (8, 2, 2), i) for i in range(3)]
    assert [len(part) for part in parts] == [8, 2, 2]
    assert sorted(file for part in parts for file in part) == sorted(files)
    more = dealt([*files, PhotoFile("new", folder / "new.png")], (8, 2, 2), 0)
    assert len({f.name for f in parts[0]} - {f.name for f in more}) <= 2


# Reading ---------------------------------------------------------------------------------------


def test_bad_files_are_left_out_and_named(folder):
    """Empty, damaged and small ones; the others are read."""
    (folder / "00.png").write_bytes(b"")
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (20, 20)).save(folder / "02.png")
    photos = Photos(pair_photos(folder, None, 2), 2, smallest=16)
    assert set(photos.left_out) == {"00", "01", "02"}
    assert "a crop needs at least 16" in photos.left_out["02"]
    assert len(photos) == 9
    [note] = photos.note()
    assert note.startswith("WARNING: 3 of 12 photographs are left out")


def test_none_can_be_used(folder):
    """The first reason is part of the message."""
    said = r"none of the 12 photographs can be used.*needs at least 64"
    with pytest.raises(DataError, match=said):
        Photos(pair_photos(folder, None, 2), 2, smallest=64)


def test_pairs_of_the_wrong_ratio(folder, tmp_path, astronaut):
    """A low-resolution version of the wrong size is refused."""
    for name in find_photos(folder):
        write(tmp_path / "low" / f"{name}.png", astronaut[:20, :32])
    photos = pair_photos(folder, tmp_path / "low", 2)
    with pytest.raises(DataError, match="32 × 20 pixels of uint8 do not match 1/2 of"):
        Photos(photos, 2)


def test_memory_does_not_change_the_pixels(folder):
    """What does not fit is read again and is the same."""
    files = pair_photos(folder, None, 2)
    kept, read = Photos(files, 2), Photos(files, 2, memory=1)
    assert kept.checksum == read.checksum
    for number in (0, 11):
        np.testing.assert_array_equal(kept.pair(number).low, read.pair(number).low)


def test_grey_and_colour(astronaut):
    """Grey is repeated; colour is weighed by what the eye sees."""
    grey = in_channels(astronaut, 1)
    np.testing.assert_array_equal(in_channels(grey, 3)[..., 1], grey[..., 0])
    assert np.abs(grey[..., 0] - np.asarray(Image.fromarray(astronaut).convert("L"))).max() <= 1


# The source ------------------------------------------------------------------------------------


def source(folder, **options):
    return PhotoSource(str(folder), 2, lr_crop=16, **{"shares": (8, 2, 2), **options})


def test_crops_are_pairs(folder):
    """Every low-resolution crop is the reduced form of its photograph's crop, but at its edges."""
    opened = source(folder, downscale="area", repeats=2)
    batches = opened.batches("train", lambda x, y: (x, y), 4, seed=1)
    assert batches.num_imgs == 16
    assert (batches.input_spec.shape, batches.target_spec.shape) == ((16, 16, 3), (32, 32, 3))
    lr, hr = batches.batch(3)
    means = hr.reshape(4, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(means - lr).max() <= 0.5


def test_batches_are_functions_of_their_number(folder):
    """Asked for in any order, by any object of the same seed."""
    first, second = (source(folder).batches("train", NORM, 4, seed=5) for _ in range(2))
    later = first.batch(7)
    np.testing.assert_array_equal(first.batch(0)[0], second.batch(0)[0])
    np.testing.assert_array_equal(later[1], second.batch(7)[1])
    assert first.fingerprint() == second.fingerprint()
    other = source(folder, repeats=2).batches("train", NORM, 4, seed=5)
    assert first.fingerprint() != other.fingerprint()


def test_squares(folder):
    """`resize` makes every photograph twice as large as a crop; the test keeps its own size."""
    opened = source(folder, resize=True)
    assert (opened.photos("train").sizes == 32).all()
    assert opened.photos("train").pair(0).high.shape == (64, 64, 3)
    assert (opened.photos("test").sizes == [24, 32]).all()


def test_folders_of_the_splits(folder, astronaut, tmp_path):
    """Folders named after the splits are the splits."""
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        for i in range(count):
            write(tmp_path / "own" / split / f"{i}.png", astronaut[:64, :64])
    opened = source(tmp_path / "own")
    assert [len(opened.photos(s)) for s in ("train", "validation", "test")] == [3, 1, 2]


def test_shares_that_leave_nothing(folder):
    """A split needs a photograph."""
    with pytest.raises(ConfigError, match=r"must leave a photograph for test.*12 photographs"):
        source(folder, shares=(1, 1, 0)).photos("test")
    with pytest.raises(ConfigError, match="three numbers of at least 0, not all 0"):
        source(folder, shares=(0, 0, 0))


def test_records_name_every_photograph(folder):
    """Used or left out, with the reason."""
    (folder / "00.png").write_bytes(b"")
    opened = source(folder, shares=(1, 0, 0))
    opened.photos("train")
    [(name, text)] = opened.records().items()
    assert name == "photos.csv"
    assert len(text.splitlines()) == 13
    assert "写真 1" in text


# Degradation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_degradation_is_seeded_and_of_the_image(astronaut, channels):
    """The same seed gives the same bytes; HR stays; one image does not depend on the others."""
    lr = np.stack([in_channels(astronaut, channels)[i : i + 32, :32] for i in (0, 90)])
    lr, hr = lr.astype(np.float32), np.zeros((2, 64, 64, channels), np.float32)
    first, kept = degrade(lr, hr, np.random.default_rng(3))
    again, _ = degrade(lr, hr, np.random.default_rng(3))
    alone, _ = degrade(lr[:1], hr[:1], np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:1], alone)
    assert kept is hr
    assert first.dtype == np.float32
    assert 0 < np.abs(first - lr).mean() < 30
    assert first.min() >= 0
    assert first.max() <= 255


def test_each_kind_alone(astronaut):
    """Noise has the spread that was asked for, blur lowers it, JPEG of 100 changes little."""
    lr = np.full((1, 64, 64, 3), 128, np.float32)
    none = {"probability": 1, "blur_px": (0, 0), "noise": (0, 0), "jpeg": (100, 100)}
    still, _ = degrade(lr, lr, np.random.default_rng(0), **none)
    assert np.abs(still - lr).max() <= 1
    noisy, _ = degrade(lr, lr, np.random.default_rng(0), **{**none, "noise": (8, 8)})
    assert noisy.std() == pytest.approx(8, rel=0.1)
    photo = astronaut[None, :64, :64].astype(np.float32)
    soft, _ = degrade(photo, photo, np.random.default_rng(0), **{**none, "blur_px": (2, 2)})
    assert np.diff(soft, axis=2).std() < 0.7 * np.diff(photo, axis=2).std()


def test_colours_survive_jpeg(astronaut):
    """Red stays red: channels are not exchanged on their way through the file."""
    red = np.zeros((1, 32, 32, 3), np.float32)
    red[..., 0] = 200
    result, _ = degrade(red, red, np.random.default_rng(0), 1.0, (0, 0), (0, 0), (90, 90))
    np.testing.assert_allclose(result.mean((0, 1, 2)), [200, 0, 0], atol=3)


def test_a_degraded_source_degrades_its_validation(folder):
    """Training, validation and test are of one kind, and always alike."""
    clean, worse = source(folder), source(folder, degradation={"probability": 1.0})
    assert np.abs(clean.validation()[0] - worse.validation()[0]).mean() > 1
    np.testing.assert_array_equal(worse.validation()[0], worse.validation()[0])
    np.testing.assert_array_equal(clean.validation()[1], worse.validation()[1])
    low = [opened.pair("test", 0).low for opened in (clean, worse, worse)]
    assert (low[0] != low[1]).any()
    np.testing.assert_array_equal(low[1], low[2])


# Measuring -------------------------------------------------------------------------------------


def test_figures_are_those_of_scikit_image(astronaut):
    """PSNR and SSIM of the cropped Y and RGB, computed the other way round, to 1e-4."""
    image = enlarged(reduced(astronaut, 2), 2)["bicubic"]
    found = measured(astronaut.astype(np.float32), image.astype(np.float32), 2)
    inside = (slice(2, -2), slice(2, -2))
    y, y_image = (rgb2ycbcr(img[inside])[..., 0] for img in (astronaut, image))
    options = {"data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    expected = {
        "psnr_y": peak_signal_noise_ratio(y, y_image, data_range=255),
        "ssim_y": structural_similarity(y, y_image, **options),
        "psnr_rgb": peak_signal_noise_ratio(astronaut[inside], image[inside], data_range=255),
        "ssim_rgb": structural_similarity(
            *(img[inside].astype(float) for img in (astronaut, image)), channel_axis=2, **options
        ),
    }
    assert found == pytest.approx(expected, abs=1e-4)


def test_equal_images(astronaut):
    """A perfect result has 120 dB, not infinity, which JSON does not know."""
    same = astronaut.astype(np.float32)
    assert measured(same, same, 2) == {
        "psnr_y": 120.0,
        "ssim_y": 1.0,
        "psnr_rgb": 120.0,
        "ssim_rgb": 1.0,
    }


def test_brightness_of_black_white_and_grey():
    """Y runs from 16 to 235; a grey picture is its own brightness."""
    ends = np.array([[[0, 0, 0], [255, 255, 255]]])
    np.testing.assert_allclose(brightness(ends), [[16, 235]], atol=1e-6)
    np.testing.assert_array_equal(brightness(np.array([[[7]]])), [[7]])


def test_pixels_are_rounded_and_held_in_range():
    """As a file of 8 or 16 bits holds them."""
    counts = np.array([-3, 0.4, 0.6, 254.6, 300], np.float32)
    np.testing.assert_array_equal(to_pixels(counts, np.dtype(np.uint8)), [0, 0, 1, 255, 255])
    assert to_pixels(counts, np.dtype(np.uint16))[3] == round(254.6 * 257)


def test_what_is_below_bicubic_is_named():
    """By its heading; rounding does not count."""
    means = {"psnr_y": (30.0, 31.0), "ssim_y": (0.9, 0.8), "psnr_rgb": (30, 29.999)}
    means["ssim_rgb"] = (0.9, 0.89999)
    summary = {name: {"bicubic": low, "sr": high} for name, (low, high) in means.items()}
    assert below_bicubic(summary) == ["SSIM Y"]
