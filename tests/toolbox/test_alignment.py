"""Shifts between two pictures of one place: their sign, their precision, what is not trusted."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, signal

from toolbox.errors import ConfigError
from toolbox.tasks.sem.alignment import (
    CACHE_NAME,
    AlignedPair,
    PairFiles,
    Shift,
    ShiftCache,
    alignment_report,
    apply_shift,
    data_bar_rows,
    estimate_shift,
    valid_region,
)
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image

SPHERES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sem" / "kriss_spheres"
SHAPE = (442, 512)
BORDER = 32
INSIDE = np.s_[BORDER:-BORDER, BORDER:-BORDER]


def fourier_shifted(img, dy, dx):
    """Move a picture by (dy, dx), down and right positive, exactly for what is periodic."""
    rows, columns = (np.fft.fftfreq(size) for size in img.shape)
    phase = np.exp(-2j * np.pi * (rows[:, None] * dy + columns * dx))
    return np.fft.ifft2(np.fft.fft2(img) * phase).real


def discs(rng, shape=SHAPE):
    """Return bright discs on a dark ground, counts, with a border to be cut off."""
    rows, columns = np.mgrid[: shape[0] + 2 * BORDER, : shape[1] + 2 * BORDER]
    scene = np.full(rows.shape, 60.0)
    for _ in range(25):
        y, x = rng.uniform(0, rows.shape[0]), rng.uniform(0, rows.shape[1])
        distance = np.hypot(rows - y, columns - x) - rng.uniform(12, 45)
        scene = np.maximum(scene, 160 / (1 + np.exp(np.minimum(distance / 1.2, 50))))
    return scene


def lines(rng, shape=SHAPE, pitch=40.0, sigma=1.0):
    """Return vertical lines with rough edges (correlation length 10 px), counts."""
    height, width = (size + 2 * BORDER for size in shape)
    frequencies = np.fft.rfftfreq(height)
    amplitude = (1 + (20 * np.pi * frequencies) ** 2) ** -0.75
    scene = np.full((height, width), 50.0)
    for place in np.arange(pitch / 4, width, pitch / 2):
        phases = rng.normal(size=(2, frequencies.size))
        edge = np.fft.irfft(amplitude * (phases[0] + 1j * phases[1]), height)
        edge = place + sigma * edge / edge.std()
        scene += 120 * np.exp(-np.abs(np.arange(width) - edge[:, None]) / 2)
    return scene


def pair(rng, scene, shift, low_noise=25.0, high_noise=0.0):
    """Return the moving and the fixed picture, 8 bits; moving must be moved by `shift`."""
    size = tuple(side - 2 * BORDER for side in scene.shape)
    moving = fourier_shifted(scene, -shift[0], -shift[1])[INSIDE]
    fixed = scene[INSIDE] + low_noise * rng.normal(size=size)
    moving = moving + high_noise * rng.normal(size=size)
    return tuple(np.clip(img, 0, 255).round().astype(np.uint8) for img in (moving, fixed))


@pytest.mark.parametrize("scene", [discs, lines])
@pytest.mark.parametrize("seed", range(3))
def test_known_shift_is_found_to_a_twentieth_pixel(scene, seed):
    """At a noise of 25 counts the error is below 0.05 px along both axes."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-5, 5, 2)
    found = estimate_shift(*pair(rng, scene(rng), truth))
    assert found.aligned
    np.testing.assert_allclose((found.dy, found.dx), truth, rtol=0, atol=0.05)
    assert found.rms_after < found.rms_before


def test_two_noisy_pictures():
    """With a noise of 25 counts in both the error stays below a tenth of a pixel."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(-5, 5, 2)
        found = estimate_shift(*pair(rng, discs(rng), truth, high_noise=25))
        np.testing.assert_allclose((found.dy, found.dx), truth, rtol=0, atol=0.1)


def test_sign_is_that_of_the_shift_to_apply():
    """Applied as it is the shift brings the pictures together, turned round it parts them."""
    rng = np.random.default_rng(1)
    moving, fixed = pair(rng, discs(rng), (2.4, -3.3), low_noise=0)
    found = estimate_shift(moving, fixed)
    assert (found.dy, found.dx) == pytest.approx((2.4, -3.3), abs=0.03)

    def rms(shift):
        return (apply_shift(moving, shift) - fixed.astype(float))[12:-12, 12:-12].std()

    turned = found._replace(dy=-found.dy, dx=-found.dx)
    assert rms(found) == pytest.approx(found.rms_after, rel=0.1)
    assert rms(found) < 0.1 * rms(Shift(0, 0)) < 0.1 * rms(turned)


def test_brightness_and_contrast_do_not_pull():
    """A darker picture of half the contrast gives the same shift."""
    rng = np.random.default_rng(2)
    moving, fixed = pair(rng, discs(rng), (-1.7, 4.2))
    first, second = estimate_shift(moving, fixed), estimate_shift(20 + 0.5 * moving, fixed)
    assert (second.dy, second.dx) == (first.dy, first.dx)


def test_agrees_with_scikit_image():
    """The estimate is that of phase_cross_correlation under a Hann window, to a tenth pixel."""
    from skimage.registration import phase_cross_correlation

    rng = np.random.default_rng(3)
    moving, fixed = pair(rng, discs(rng), (1.3, -2.6))
    window = np.outer(*(np.hanning(size) for size in SHAPE))
    windowed = [window * (img - img.mean()) for img in (fixed, moving)]
    other = phase_cross_correlation(*windowed, normalization=None, upsample_factor=100)[0]
    found = estimate_shift(moving, fixed)
    np.testing.assert_allclose((found.dy, found.dx), other, rtol=0, atol=0.1)


def test_lines_are_not_moved_by_a_pitch():
    """Of shifts that fit lines of a small pitch alike, the one near zero is taken."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = lines(rng, pitch=8, sigma=0)
        found = estimate_shift(*pair(rng, scene, (0, 1.4), high_noise=25))
        # Both edges of a line look alike, so half a pitch, 4 px, is what the pictures leave open.
        assert found.dx == pytest.approx(1.4, abs=0.1)


def test_straight_lines_know_their_shift_across():
    """That nothing is known along the lines does not spoil what is known across."""
    rng = np.random.default_rng(4)
    found = estimate_shift(*pair(rng, lines(rng, sigma=0), (0, -3.6)))
    assert found.aligned
    assert found.dx == pytest.approx(-3.6, abs=0.05)


@pytest.mark.parametrize("truth", [(12.0, 0.0), (1.0, -8.5)])
def test_shift_beyond_the_limit_is_not_trusted(truth):
    """If the best shift lies at the limit none is applied, and the result says so."""
    rng = np.random.default_rng(5)
    moving, fixed = pair(rng, discs(rng), truth)
    found = estimate_shift(moving, fixed)
    assert found[:2] == (0, 0)
    assert not found.aligned
    assert found.rms_after == found.rms_before
    wide = estimate_shift(moving, fixed, max_shift=16)
    assert wide.aligned
    assert wide[:2] == pytest.approx(truth, abs=0.1)


def test_flat_picture_is_not_aligned():
    """Where there is nothing to see there is no shift and no division by zero."""
    rng = np.random.default_rng(0)
    flat, noisy = np.full((64, 64), 7, np.uint8), rng.normal(size=(64, 64))
    for moving, fixed in ((flat, noisy), (noisy, flat), (flat, flat)):
        assert estimate_shift(moving, fixed)[:2] == (0, 0)
        assert not estimate_shift(moving, fixed).aligned


def noise_alone(kind, rng):
    """Return a picture of noise alone, 8 bits: white, along rows, of whole rows, or blurred."""
    noise = rng.normal(size=(256, 256))
    if kind == "rows":
        noise = signal.lfilter([1], [1, -0.8], noise, axis=1)
    elif kind == "offsets":
        noise += rng.normal(size=(256, 1))
    elif kind == "blurred":
        noise = ndimage.gaussian_filter(noise, 2)
    return np.clip(128 + 30 * noise / noise.std(), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["white", "rows", "offsets", "blurred"])
def test_noise_lies_on_nothing(kind):
    """Two pictures of noise, or noise and lines, are not aligned, however the noise is coloured."""
    rng = np.random.default_rng(0)
    scene = lines(rng, (256, 256))[INSIDE]
    for _ in range(5):
        one, other = noise_alone(kind, rng), noise_alone(kind, rng)
        for moving, fixed in ((one, other), (one, scene), (scene, one)):
            found = estimate_shift(moving, fixed)
            assert (found.aligned, found.dy, found.dx) == (False, 0, 0)
            assert found.rms_after == found.rms_before


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_very_noisy_pictures_are_aligned(sigma):
    """A noise of six times what the lines vary by hides them from the eye, not from a match."""
    rng = np.random.default_rng(0)
    scene = lines(rng, (256, 256), sigma=sigma)
    noise = 6 * scene.std()
    for _ in range(5):
        moving, fixed = (img[INSIDE] for img in (fourier_shifted(scene, 0, -2), scene))
        moving, fixed = (img + noise * rng.normal(size=img.shape) for img in (moving, fixed))
        found = estimate_shift(moving, fixed)
        assert found.aligned
        assert found.dx == pytest.approx(2, abs=0.5)


def test_no_shift_along_lines_by_chance():
    """Along straight lines, still ones too, a shift is known to be nothing in nearly all pairs."""
    rng = np.random.default_rng(0)
    scene = lines(rng, (160, 192), sigma=0)
    for across, most in ((0.0, 0.1), (1.5, 0.1)):
        found = [estimate_shift(*pair(rng, scene, (0, across), 40, 40)) for _ in range(20)]
        assert all(shift.aligned for shift in found)
        moved = np.array([shift[:2] for shift in found])
        assert (moved[:, 0] != 0).sum() <= 3
        assert np.abs(moved[:, 1] - across).max() < most


def test_steps_are_those_of_the_upsampling():
    """The result is a multiple of 1 / upsample_factor."""
    rng = np.random.default_rng(6)
    found = estimate_shift(*pair(rng, discs(rng), (1.237, 0.661)), upsample_factor=8)
    assert (8 * found.dy, 8 * found.dx) == pytest.approx((10, 5))


def test_unfit_pictures_are_refused():
    """Other shapes and frames too small for max_shift are named with their sizes."""
    with pytest.raises(
        ConfigError, match=r"the same shape \(H, W\); received \(64, 64\) and .*60\)"
    ):
        estimate_shift(np.zeros((64, 64)), np.zeros((64, 60)))
    with pytest.raises(ConfigError, match=r"at least 36 pixels.*max_shift 8; received \(20, 64\)"):
        estimate_shift(np.zeros((20, 64)), np.zeros((20, 64)))


@pytest.mark.parametrize(
    ("by", "lost"),
    [((2.3, -4.6), (5, 7)), ((-0.2, 0.7), (5, 5)), ((3.0, 0.0), (3, 0)), ((0.0, -5.0), (0, 5))],
)
def test_moved_picture_is_right_where_it_is_valid(by, lost):
    """Inside the valid region it equals the same part of a larger picture that was moved."""
    rows, columns = np.mgrid[:120, :120]
    scene = np.sin(rows / 5) * np.cos(columns / 7) + 0.3 * np.sin((rows + columns) / 4)
    shift = Shift(*by)
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    moved = apply_shift(scene[inside], shift)
    assert moved.dtype == np.float32
    rows, columns = valid_region(shift, moved.shape)
    assert moved[rows, columns].shape == (56 - lost[0], 56 - lost[1])
    truth = apply_shift(scene, shift)[inside]
    np.testing.assert_allclose(moved[rows, columns], truth[rows, columns], atol=0.01)


@pytest.mark.parametrize("by", [(2.3, -4.6), (-0.25, 0.0), (3.0, -7.5), (0.0, 1e-3)])
def test_moving_is_that_of_scipy_and_of_any_part_the_same(by):
    """Cubic splines as those of SciPy; a part with 48 pixels around it gives the same bytes."""
    img = np.random.default_rng(0).integers(0, 65535, (140, 150)).astype(np.uint16)
    moved = apply_shift(img, Shift(*by))
    other = ndimage.shift(img.astype(np.float64), by, order=3, mode="mirror")
    np.testing.assert_allclose(moved, other, rtol=0, atol=0.01)
    part = apply_shift(img[5:133, 13:], Shift(*by))
    assert part[56:72, 56:80].tobytes() == moved[61:77, 69:93].tobytes()


@pytest.mark.parametrize("shape", [(1300, 90), (1100, 1101)])
def test_large_pictures(shape):
    """Where only the middle is compared, the whole picture still tells the shift."""
    rng = np.random.default_rng(0)
    scene = np.tile(discs(rng, (442, 512)), (3, 3))
    scene = scene[: shape[0] + 2 * BORDER, : shape[1] + 2 * BORDER]
    found = estimate_shift(*pair(rng, scene, (2.4, -3.3)))
    assert found[:2] == pytest.approx((2.4, -3.3), abs=0.05)
    assert found.rms_after == pytest.approx(25, rel=0.1)


def test_no_shift_changes_nothing():
    """Shift 0 keeps every count, and the whole picture is valid."""
    img = np.random.default_rng(0).integers(0, 65535, (20, 30)).astype(np.uint16)
    np.testing.assert_array_equal(apply_shift(img, Shift(0, 0)), img.astype(np.float32))
    assert valid_region(Shift(0, 0), img.shape) == (slice(0, 20), slice(0, 30))
    assert Shift(0.5, -1.25).scaled(4)[:2] == (2, -5)


@pytest.fixture
def files(tmp_path):
    """A pair of files that are there."""
    paths = tmp_path / "low_001.tif", tmp_path / "high_001.tif"
    for path in paths:
        path.write_bytes(b"1")
    return PairFiles("_001.tif", *paths)


def test_cache_remembers_and_forgets(files, tmp_path):
    """A shift comes back to the bit until a file or a setting changes."""
    shift = Shift(1.23, -0.1, 28.661680655602524, 1 / 3)
    cache = ShiftCache(tmp_path, {"max_shift": 8.0})
    assert cache.get(files) is None
    cache.put(files, shift)
    cache.save()
    assert [p.name for p in tmp_path.glob(".*")] == [CACHE_NAME]
    assert ShiftCache(tmp_path, {"max_shift": 8.0}).get(files) == shift
    assert ShiftCache(tmp_path, {"max_shift": 9.0}).get(files) is None
    os.utime(files.high, ns=(1, 1))
    assert ShiftCache(tmp_path, {"max_shift": 8.0}).get(files) is None


def test_cache_is_saved_on_the_way_and_shared(files, tmp_path):
    """Twenty new shifts are saved without being asked; those of another run are kept."""
    one, other = ShiftCache(tmp_path, {}), ShiftCache(tmp_path, {})
    names = [f"_{number:03}.tif" for number in range(21)]
    pairs = [PairFiles(name, tmp_path / f"low{name}", tmp_path / f"high{name}") for name in names]
    for pair in pairs:
        pair.low.write_bytes(b"1")
        pair.high.write_bytes(b"1")
        one.put(pair, Shift(1.0, 2.0, 3.0, 2.0))
    other.put(files, Shift(0.5, 0.5, 3.0, 2.0))
    other.save()
    found = ShiftCache(tmp_path, {})
    assert [found.get(pair) is not None for pair in pairs] == [True] * 20 + [False]
    one.save()
    found = ShiftCache(tmp_path, {})
    assert found.get(pairs[20]) == Shift(1.0, 2.0, 3.0, 2.0)
    assert found.get(PairFiles("_001.tif", files.low, files.high)) is not None


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "entries"])
def test_damaged_cache_is_forgotten(content, files, tmp_path):
    """Whatever the file holds instead of shifts, they are measured again."""
    cache = ShiftCache(tmp_path, {})
    cache.put(files, Shift(1.0, 2.0, 3.0, 2.0))
    cache.save()
    path = tmp_path / CACHE_NAME
    if content == "entries":
        for damaged in (["x", 0, 0, 0, True], [1.0], None, [float("nan"), 0, 0, 0, True]):
            entries = json.loads(path.read_text(encoding="utf-8"))
            entries = {key: entry | {"shift": damaged} for key, entry in entries.items()}
            path.write_text(json.dumps(entries), encoding="utf-8")
            assert ShiftCache(tmp_path, {}).get(files) is None
    else:
        path.write_text(content, encoding="utf-8")
        assert ShiftCache(tmp_path, {}).get(files) is None


def test_unwritable_cache_is_a_note(files, tmp_path):
    """A folder that cannot be written costs time, not the run."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be", encoding="utf-8")
    cache = ShiftCache(blocked, {})
    cache.put(files, Shift(1.0, 2.0, 3.0, 2.0))
    cache.save()
    assert "cannot be written" in cache.notes[0]
    assert "cache_dir" in cache.notes[0]


def test_data_bar_is_found():
    """Rows of one value with text in them, at the bottom, are a bar; a picture has none."""
    rng = np.random.default_rng(0)
    picture = rng.integers(20, 200, (120, 100)).astype(np.uint8)
    assert data_bar_rows(picture) == 0
    assert data_bar_rows(np.zeros((30, 30), np.uint8)) == 0
    assert data_bar_rows(picture[:2]) == 0
    for ground in (0, 255):
        barred = picture.copy()
        barred[-24:] = ground
        barred[-15:-12] = rng.integers(0, 255, (3, 100))
        assert data_bar_rows(barred) == 24
        assert data_bar_rows(257 * barred.astype(np.uint16)) == 24


def test_report_tells_what_is_odd(tmp_path):
    """Copies, clipped pixels and data bars are found in the folder they are in."""
    rng = np.random.default_rng(0)
    low = rng.integers(1, 255, (60, 50)).astype(np.uint8)
    clipped = low.copy()
    clipped[:6] = 255
    clipped[6:9] = 0
    barred = low.copy()
    barred[-10:] = 0
    for number, (one, other) in enumerate([(low, clipped), (low, low), (barred, low + 1)]):
        write_sem_image(tmp_path / f"low_{number}.png", one)
        write_sem_image(tmp_path / f"high_{number}.png", other)
    pairs = [
        AlignedPair(
            PairFiles(f"_{i}.png", tmp_path / f"low_{i}.png", tmp_path / f"high_{i}.png"),
            Shift(0.5 * i, -i, 3.0, 2.0, aligned=i != 2),
        )
        for i in range(3)
    ]
    rows = alignment_report(pairs)
    assert [row["name"] for row in rows] == ["_0.png", "_1.png", "_2.png"]
    assert [row["dy_px"] for row in rows] == [0, 0.5, 1]
    assert [row["aligned"] for row in rows] == [True, True, False]
    assert [row["low_duplicate_of"] for row in rows] == ["", "low_0.png", ""]
    assert [row["high_duplicate_of"] for row in rows] == ["", "", ""]
    assert [row["low_data_bar_px"] for row in rows] == [0, 0, 10]
    assert rows[0]["high_saturated"] == pytest.approx(9 / 60)
    assert [row["low_saturated"] for row in rows] == [0, 0, 0]


def real(kind, sides, number):
    """Pixels of a real pair without the data bar; the test is skipped where it is missing."""
    paths = [next(iter((SPHERES / kind / s).glob(f"*_{number:03}.tif")), None) for s in sides]
    if None in paths:
        pytest.skip(f"kriss_spheres is not on this machine ({SPHERES})")
    return [read_sem_image(path).pixels for path in paths]


@pytest.mark.parametrize(
    ("kind", "sides", "number", "shift"),
    [
        # Golden: skimage 0.26.0, phase_cross_correlation(fixed, moving, normalization=None,
        # upsample_factor=100) of rows 0-441 without mean under a Hann window; 2026-11-21.
        ("line", ("noisy", "clean"), 1, (1.53, 1.98)),
        ("line", ("noisy", "clean"), 12, (-2.65, -1.09)),
        ("time", ("low", "high"), 2, (-5.04, 2.70)),
    ],
)
def test_real_pairs(kind, sides, number, shift):
    """Real pairs are moved as another program says, which leaves mostly noise between them."""
    low, high = real(kind, sides, number)
    # The bar's upper edge, a black line, is row 441.
    assert (data_bar_rows(low), data_bar_rows(high)) == (30, 30)
    found = estimate_shift(high[:441], low[:441])
    assert (found.dy, found.dx) == pytest.approx(shift, abs=0.1)
    assert found.rms_after < 0.7 * found.rms_before
