"""Edges, roughness and discs: against drawings whose every edge is known to the last digit."""

import itertools

import numpy as np
import pytest
from scipy import integrate, ndimage, special

from sr_dataset_builder.simulate_sem import rough_edges
from toolbox.errors import DataError
from toolbox.tasks.sem.discs import Disc, Hole, find_discs, measure_disc
from toolbox.tasks.sem.metrology import (
    direction_of,
    find_lines,
    fit_psd,
    interpolate_missing,
    periodogram,
    roughness,
    roughness_psd,
)

STEP_NM = 0.8
SHAPES = [(6.0, 0.3), (10.0, 0.5), (20.0, 0.75), (30.0, 0.9)]


def coverage(lines, width=180, height=8, low=40.0, high=200.0):
    """Draw straight bright lines: each pixel is as bright as the share of it that a line covers."""
    x = np.arange(width)
    share = sum(np.clip(np.minimum(x + 0.5, b) - np.maximum(x - 0.5, a), 0, 1) for a, b in lines)
    return np.tile(low + (high - low) * share, (height, 1))


def blurred(image, sigma=1.0):
    """Blur across the lines."""
    return ndimage.gaussian_filter1d(image, sigma, axis=1)


def comb(count, shift=0.0):
    """Return `count` lines of 20.4 pixels at a pitch of 40."""
    return [(20 + shift + 40 * k, 40.4 + shift + 40 * k) for k in range(count)]


def largest_error(found, lines):
    """Return the largest distance of any edge from where it was drawn, pixels."""
    left, right = np.transpose(lines)[..., None]
    return max(np.abs(found.left_px - left).max(), np.abs(found.right_px - right).max())


# -- spectra ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_nm", [0.4, 1.8])
@pytest.mark.parametrize(("xi_nm", "alpha"), SHAPES)
def test_spectrum_integrates_to_the_variance(sigma_nm, xi_nm, alpha):
    """Over all frequencies, negative ones too, the density sums to sigma², whatever the shape."""
    half, _ = integrate.quad(roughness_psd, 0, np.inf, args=(sigma_nm, xi_nm, alpha), limit=500)
    assert 2 * half == pytest.approx(sigma_nm**2, rel=1e-3)


def test_spectrum_equals_the_formula():
    """By hand for alpha = 1/2, where Γ(1)/Γ(1/2) = 1/√π: 2 σ² ξ / (1 + (2πfξ)²)."""
    frequency = np.array([0.0, 0.01, 0.1])
    expected = 2 * 1.5**2 * 8 / (1 + (2 * np.pi * frequency * 8) ** 2)
    np.testing.assert_allclose(roughness_psd(frequency, 1.5, 8.0, 0.5), expected)
    zero = 2 * np.sqrt(np.pi) * special.gamma(1.3) / special.gamma(0.8) * 1.5**2 * 8
    assert roughness_psd(np.zeros(1), 1.5, 8.0, 0.8)[0] == pytest.approx(zero)


@pytest.mark.parametrize("rows", [256, 255])
def test_drawn_edges_have_the_spectrum(rows):
    """Mean of 400 periodograms over the analytic density: within five standard errors."""
    rng, count = np.random.default_rng(0), 400
    edges = rough_edges(rng, (count, rows), STEP_NM, 1.2, 10.0, 0.6)
    frequency, density = periodogram(edges, STEP_NM)
    ratio = density / roughness_psd(frequency, 1.2, 10.0, 0.6)
    # A power is exponential: its mean over n edges varies by 1/√n; twice so the finest of all.
    assert np.abs(ratio[:-1] - 1).max() < 5 / np.sqrt(count)
    assert abs(ratio[-1] - 1) < 5 * np.sqrt(2 / count)
    assert ratio.mean() == pytest.approx(1, abs=4 / np.sqrt(count * len(ratio)))


def test_drawn_edges_are_independent():
    """Neither neighbours nor the two halves of a set of edges go together."""
    edges = rough_edges(np.random.default_rng(1), (200, 2048), STEP_NM, 1.0, 6.0, 0.5)
    normed = edges / edges.std()
    together = (normed[1:] * normed[:-1]).mean()
    # Of 2048 rows about 2048 · 0.8 / (2 · 6) are independent.
    assert abs(together) < 4 / np.sqrt(199 * 136)
    assert edges.std() == pytest.approx(1.0, abs=0.03)
    assert abs(edges.mean()) < 4 / np.sqrt(200 * 136)


def test_periodogram_sums_to_the_variance():
    """The sum over all frequencies is the variance of the traces (Parseval)."""
    traces = np.random.default_rng(0).normal(3, 2, (5, 64))
    frequency, density = periodogram(traces, 0.5)
    total = (2 * density[:-1].sum() + density[-1]) * frequency[0]
    assert total == pytest.approx(traces.var(axis=1).mean())
    assert frequency[[0, -1]] == pytest.approx([1 / 32, 1.0])


@pytest.mark.parametrize(("xi_nm", "alpha"), SHAPES)
@pytest.mark.parametrize("floor_nm3", [0.0, 0.1, 0.4])
def test_fit_of_an_exact_spectrum(xi_nm, alpha, floor_nm3):
    """Without any chance in it, all four figures come back within 2 %."""
    frequency = np.arange(1, 513) / (1024 * STEP_NM)
    fit = fit_psd(frequency, roughness_psd(frequency, 1.1, xi_nm, alpha) + floor_nm3)
    assert fit.sigma_nm == pytest.approx(1.1, rel=0.02)
    assert fit.xi_nm == pytest.approx(xi_nm, rel=0.02)
    assert fit.alpha == pytest.approx(alpha, rel=0.02)
    assert fit.floor_nm3 == pytest.approx(floor_nm3, rel=0.02, abs=1e-3)


def test_fit_of_drawn_edges():
    """Of 64 noisy edges, cut from longer ones: sigma within 5 %, xi and alpha within 15 %."""
    rng = np.random.default_rng(3)
    edges = rough_edges(rng, (64, 8 * 1024), STEP_NM, 1.0, 10.0, 0.6)[:, :1024]
    noise = rng.normal(0, 0.5, edges.shape)
    fit = fit_psd(*periodogram(edges + noise, STEP_NM))
    assert fit.sigma_nm == pytest.approx(1.0, rel=0.05)
    assert fit.xi_nm == pytest.approx(10.0, rel=0.15)
    assert fit.alpha == pytest.approx(0.6, rel=0.15)
    # White noise of standard deviation s has the two-sided density s² times the step.
    assert fit.floor_nm3 == pytest.approx(0.5**2 * STEP_NM, rel=0.05)


@pytest.mark.parametrize(("xi_nm", "alpha"), SHAPES)
@pytest.mark.parametrize("noise_nm", [0.3, 0.6])
def test_unbiased_roughness_is_that_without_noise(xi_nm, alpha, noise_nm):
    """White noise of known size is taken off within 3 %, and the biased figure holds it all."""
    rng = np.random.default_rng(7)
    widths = rough_edges(rng, (48, 8 * 512), STEP_NM, 1.2, xi_nm, alpha)[:, :512]
    clean = 3 * np.sqrt(widths.var(axis=1).mean())
    found = roughness(widths + rng.normal(0, noise_nm, widths.shape), STEP_NM)
    assert found.unbiased_nm == pytest.approx(clean, rel=0.03)
    assert found.biased_nm == pytest.approx(np.hypot(clean, 3 * noise_nm), rel=0.02)


@pytest.mark.parametrize(("xi_nm", "alpha"), SHAPES)
def test_nothing_is_taken_off_clean_edges(xi_nm, alpha):
    """Without noise the floor is next to none: both figures agree within 1 %."""
    rng = np.random.default_rng(11)
    found = roughness(rough_edges(rng, (48, 8 * 512), STEP_NM, 1.0, xi_nm, alpha)[:, :512], STEP_NM)
    assert found.unbiased_nm == pytest.approx(found.biased_nm, rel=0.01)


def test_noise_alone_is_no_roughness():
    """Of white noise of 0.5 nm less than a fifth passes for roughness."""
    found = roughness(np.random.default_rng(5).normal(16, 0.5, (48, 512)), STEP_NM)
    assert found.biased_nm == pytest.approx(1.5, rel=0.02)
    assert found.unbiased_nm < 0.3


def test_straight_edges_have_no_roughness():
    """A trace without any change gives zeros and no warning."""
    found = roughness(np.full((3, 64), 16.0), STEP_NM)
    assert (found.biased_nm, found.unbiased_nm) == (0, 0)
    assert found.fit == (0, 0, 0, 0)


def test_missing_rows_are_interpolated():
    """A gap is bridged by a straight line, an end goes on, and an empty trace becomes zero."""
    nan = np.nan
    traces = np.array([[nan, 1, nan, nan, 4, nan], [nan] * 6])
    filled = interpolate_missing(traces)
    np.testing.assert_allclose(filled, [[1, 1, 2, 3, 4, 4], [0] * 6])
    assert np.isnan(traces).sum() == 10
    holes = np.linspace(0, 5, 64)[None].copy()
    holes[0, 10:20] = nan
    whole = roughness(np.linspace(0, 5, 64)[None], STEP_NM)
    assert roughness(holes, STEP_NM).biased_nm == pytest.approx(whole.biased_nm)


# -- lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.37, 0.5, 0.73])
def test_straight_lines_are_located(shift):
    """To 0.03 pixel if blurred by one, to the 0.09 of a straight line between pixels if sharp."""
    lines = comb(4, shift)
    assert largest_error(find_lines(blurred(coverage(lines))), lines) < 0.03
    assert largest_error(find_lines(blurred(coverage(lines), 1.5)), lines) < 0.02
    assert largest_error(find_lines(coverage(lines)), lines) < 0.09


def test_errors_of_interpolation_cancel():
    """Over all places between two pixels the mean error of an edge is nought."""
    errors = [
        find_lines(coverage(comb(4, shift))).left_px.mean() - np.mean(comb(4, shift), axis=0)[0]
        for shift in np.arange(40) / 40
    ]
    assert abs(np.mean(errors)) < 0.002


@pytest.mark.parametrize(("count", "width"), [(1, 64), (1, 200), (1, 1000), (2, 100), (20, 840)])
def test_all_whole_lines_are_found(count, width):
    """One narrow line in a wide picture as well as twenty, in order."""
    lines = comb(count, 0.3)
    found = find_lines(blurred(coverage(lines, width)))
    assert found.left_px.shape == (count, 8)
    assert found.clear.all()
    assert largest_error(found, lines) < 0.03
    np.testing.assert_allclose(found.width_px, 20.4, atol=0.06)


def test_lines_cut_by_the_frame_are_left_out():
    """Of four lines, the two that the frame cuts are not measured."""
    lines = [(-5, 15.3), (35.2, 55.4), (75.1, 95.2), (115, 140)]
    found = find_lines(blurred(coverage(lines, 130)))
    assert largest_error(found, lines[1:3]) < 0.03


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_threshold_on_a_ramp_is_exact(threshold):
    """On edges that are straight ramps each level lies where the ramp has it."""
    x = np.arange(160.0)
    image = np.tile(np.interp(x, [50.3, 58.3, 100.7, 108.7], [20, 220, 220, 20]), (6, 1))
    found = find_lines(image, threshold)
    np.testing.assert_allclose(found.left_px, 50.3 + 8 * threshold, atol=1e-9)
    np.testing.assert_allclose(found.right_px, 108.7 - 8 * threshold, atol=1e-9)
    assert found.threshold == threshold


@pytest.mark.parametrize("cd", [16, 20, 60, 300])
def test_bright_rims_do_not_split_a_line(cd):
    """The outer edges of a line with bright rims and a dim middle are found, narrow or wide."""
    x = (np.arange(8 * 800) + 0.5) / 8 - 0.5
    a, b = 200.3, 200.3 + cd
    line = 0.3 + 0.5 * (np.exp(-0.4 * np.abs(x - a)) + np.exp(-0.4 * np.abs(b - x)))
    fine = np.where((x >= a) & (x <= b), line, 0.15)
    image = np.tile(ndimage.gaussian_filter1d(fine, 4).reshape(-1, 8).mean(axis=1), (8, 1))
    found = find_lines(image)
    assert found.left_px.shape == (1, 8)
    assert largest_error(found, [(a, b)]) < 0.35
    # The beam moves both edges of all lines alike: outwards, by a quarter of a pixel.
    assert found.width_px.mean() - cd == pytest.approx(0.5, abs=0.1)


def test_rough_edges_are_followed():
    """Edges that wander by several pixels are found in every row, to 0.1 pixel."""
    rng = np.random.default_rng(2)
    drift = rough_edges(rng, (2, 256), 1.0, 2.0, 25.0, 0.9)
    left, right = 60 + drift[0], 90 + drift[1]
    image = np.concatenate([coverage([(a, b)], 150, 1) for a, b in zip(left, right, strict=True)])
    found = find_lines(blurred(image))
    np.testing.assert_allclose(found.left_px[0], left, atol=0.1)
    np.testing.assert_allclose(found.right_px[0], right, atol=0.1)


def test_noise_moves_single_rows_only():
    """At a contrast of three standard deviations the mean width is right within 0.1 pixel."""
    lines = comb(4, 0.3)
    clean = blurred(coverage(lines, height=512))
    noisy = clean + np.random.default_rng(0).normal(0, 50, clean.shape)
    found = find_lines(noisy)
    assert found.left_px.shape == (4, 512)
    assert np.nanmean(found.width_px) == pytest.approx(20.4, abs=0.1)
    assert np.isnan(found.width_px).mean() < 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_type_of_the_pixels_does_not_matter(dtype):
    """8 and 16 bits and floats give the same edges, within their rounding; so does a channel."""
    gain = 200 if dtype == np.uint16 else 1
    image = np.rint(blurred(coverage(comb(4, 0.3))) * gain).astype(dtype)
    expected = find_lines(blurred(coverage(comb(4, 0.3))))
    for given in (image, image[..., None]):
        np.testing.assert_allclose(find_lines(given).left_px, expected.left_px, atol=0.01)


def test_places_can_be_given():
    """Lines that are named are the ones measured, in their order."""
    lines = comb(4, 0.3)
    found = find_lines(blurred(coverage(lines)), lines=[lines[2], lines[0]])
    assert largest_error(found, [lines[2], lines[0]]) < 0.03


def test_a_line_that_fades_is_marked():
    """A line without edges in half of the rows is all NaN and not clear; its neighbour stays."""
    image = blurred(coverage(comb(2), 100, 64))
    image[:32, 50:] = 40
    found = find_lines(image, lines=comb(2))
    assert found.clear.tolist() == [True, False]
    assert np.isnan(found.left_px[1]).all()
    assert np.isfinite(found.left_px[0]).all()


@pytest.mark.parametrize(
    "image",
    [
        np.full((16, 64), 7.0),
        np.zeros((16, 64), np.uint8),
        coverage([(30, 60)], 100, low=200, high=40),
        np.random.default_rng(0).normal(100, 30, (16, 200)),
        np.random.default_rng(1).normal(100, 30, (256, 256)),
        coverage([(-5, 50)], 80),
        coverage([(30, 60)], 100, 64).T,
    ],
    ids=["flat", "black", "dark line", "noise", "more noise", "cut", "horizontal"],
)
def test_pictures_without_a_line_are_refused(image):
    """One line that says what to do; noise is not taken for lines."""
    with pytest.raises(DataError, match=r"no whole bright vertical line .* invert the picture"):
        find_lines(image)


def test_named_lines_that_are_not_there_are_refused():
    """Where no row crosses the threshold there is no edge."""
    with pytest.raises(DataError, match=r"no line has a clear edge.* 30% of the rows"):
        find_lines(np.full((16, 64), 7.0), lines=[(20.0, 40.0)])


@pytest.mark.parametrize("image", [np.full((16, 64), np.nan), np.zeros((4, 16, 64)), np.zeros(64)])
def test_pictures_of_the_wrong_kind_are_refused(image):
    """NaN, stacks and single rows."""
    with pytest.raises(DataError, match=r"must be \(H, W\) of finite grey values; received"):
        find_lines(image)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 50])
def test_threshold_out_of_range_is_refused(threshold):
    """A level beyond the extremes, or in per cent."""
    with pytest.raises(DataError, match="threshold must be between 0 and 1; received"):
        find_lines(coverage(comb(2)), threshold)


# -- several widths, rims, polarity ----------------------------------------------------------------

#: Three widths, twice, that touch no border of 330 pixels.
WIDTHS = [(20.2, 30.2), (60, 80), (110, 150), (180, 190), (220, 240), (270, 310)]


def rimmed(lines, width, inside=0.3, background=0.15, rim=0.5, decay=0.4, sigma=0.5, height=4):
    """Draw lines with bright rims inside, on a grid eight times as fine, blur and average."""
    x = (np.arange(8 * (width + 60)) + 0.5) / 8 - 0.5 - 30
    fine = np.full(len(x), background)
    for a, b in lines:
        line = inside + rim * (np.exp(-decay * np.abs(x - a)) + np.exp(-decay * np.abs(b - x)))
        fine = np.where((x >= a) & (x <= b), line, fine)
    mean = ndimage.gaussian_filter1d(fine, 8 * sigma).reshape(-1, 8).mean(axis=1)
    return np.tile(mean[30:-30], (height, 1))


def counted(image, peak=10, seed=0):
    """Take a picture with `peak` counts where it is brightest."""
    dose = peak / image.max()
    return np.random.default_rng(seed).poisson(dose * image) / dose


def spaces(lines):
    """Return what lies between lines."""
    return [(a[1], b[0]) for a, b in itertools.pairwise(lines)]


def test_widths_without_noise_are_exact():
    """Lines of 10, 20 and 40 pixels in one picture, at all places between two: to 0.02 pixel."""
    rows = [coverage(np.add(WIDTHS, shift), 330, 1) for shift in np.arange(40) / 40]
    image = blurred(np.concatenate(rows))
    for polarity, drawn in (("bright", WIDTHS), ("dark", spaces(WIDTHS))):
        found = find_lines(image, polarity=polarity)
        error = found.width_px.mean(axis=1) - np.ptp(drawn, axis=1)
        assert np.abs(error).max() < 0.02
        assert found.polarity == polarity


@pytest.mark.parametrize(("inside", "background"), [(0.2, 0.05), (0.3, 0.25), (0.6, 0.05)])
@pytest.mark.parametrize(("rim", "decay"), [(0.5, 0.2), (0.5, 1.5), (0.15, 0.4), (0.0, 1.0)])
@pytest.mark.parametrize(
    "lines",
    [
        WIDTHS,
        [(20 + 16 * k, 28 + 16 * k) for k in range(19)],
        [(30 + 100 * k, 90 + 100 * k) for k in range(3)],
        [(20, 80), (100, 108), (130, 190), (210, 218), (240, 300)],
        [(140.3, 200.3)],
    ],
    ids=["10 20 40", "narrow", "wide", "60 8", "isolated"],
)
def test_lines_and_trenches_of_any_width(lines, inside, background, rim, decay):
    """Rims strong or absent, middle bright or dim, slow shading: all, and no rim for a line."""
    image = rimmed(lines, 330, inside, background, rim, decay)
    image *= 1 + 0.05 * np.linspace(-1, 1, 330)
    assert largest_error(find_lines(image), lines) < 0.8
    # The same turned round: its trenches are what lies between the lines.
    if len(lines) > 1:
        assert largest_error(find_lines(image, polarity="dark"), spaces(lines)) < 0.8


@pytest.mark.parametrize("cd", [8, 20, 60])
@pytest.mark.parametrize(("inside", "rim"), [(0.3, 0.5), (0.4, 0.15), (0.4, 0.0)])
def test_isolated_trenches(cd, inside, rim):
    """Dark between two bright tops that the frame cuts, rims outside; auto finds it."""
    image = rimmed([(-500, 150.3), (150.3 + cd, 900)], 330, inside, 0.15, rim)
    for given in (image, counted(np.tile(image[:1], (256, 1)))):
        found = find_lines(given, polarity="auto")
        assert found.polarity == "dark"
        width = np.nanmean(found.width_px)
        assert len(found.left_px) == 1
        assert width == pytest.approx(find_lines(image, polarity="dark").width_px.mean(), abs=0.5)
        assert width == pytest.approx(cd, abs=0.8)


@pytest.mark.parametrize(("inside", "background"), [(0.2, 0.1), (0.3, 0.2), (0.6, 0.05)])
@pytest.mark.parametrize("rim", [0.5, 0.2])
def test_widths_are_told_apart_in_noise(inside, background, rim):
    """At 10 counts the six lines are six, each within half a pixel of its width without noise."""
    clean = rimmed(WIDTHS, 330, inside, background, rim, height=256)
    found = find_lines(counted(clean))
    assert len(found.left_px) == 6
    error = np.nanmean(found.width_px, axis=1) - find_lines(clean).width_px[:, 0]
    assert np.abs(error).max() < 0.5


def test_threshold_counts_from_dark_whatever_the_polarity():
    """At 0.3 bright lines are wider and trenches narrower than at 0.7, by the same ramps."""
    x = np.arange(160.0)
    image = np.tile(np.interp(x, [50.3, 58.3, 100.7, 108.7], [220, 20, 20, 220]), (6, 1))
    for threshold in (0.3, 0.7):
        found = find_lines(image, threshold, polarity="dark")
        np.testing.assert_allclose(found.left_px, 58.3 - 8 * threshold, atol=1e-9)
        np.testing.assert_allclose(found.right_px, 100.7 + 8 * threshold, atol=1e-9)


def test_narrow_trenches_beside_bright_lines_are_named():
    """With auto a whole bright line comes first, and a note says that trenches may be meant."""
    trenches = [(60.0, 70.0), (130.0, 140.0), (200.0, 210.0)]
    tops = [(-50, 60), (70, 130), (140, 200), (210, 400)]
    image = blurred(coverage(tops, 270))
    found = find_lines(image, polarity="auto")
    assert (found.polarity, len(found.left_px)) == ("bright", 2)
    assert "set polarity to dark" in found.note
    dark = find_lines(image, polarity="dark")
    assert largest_error(dark, trenches) < 0.03
    assert not dark.note
    assert not find_lines(blurred(coverage(comb(4))), polarity="auto").note


@pytest.mark.parametrize("lines", [WIDTHS, [(140.3, 150.3)], [(-500, 150.3), (180.2, 900)]])
def test_direction_of_lines(lines):
    """By the axis along which the mean varies more, noise and shading along the lines or not."""
    image = counted(rimmed(lines, 330, height=256)) * np.linspace(0.8, 1.2, 256)[:, None]
    assert direction_of(image) == "vertical"
    assert direction_of(image.T) == "horizontal"


def test_no_line_of_either_polarity():
    """With auto the message names both."""
    with pytest.raises(
        DataError, match="no whole bright vertical line was found in the picture, nor a dark"
    ):
        find_lines(np.full((16, 64), 7.0), polarity="auto")


# -- discs -----------------------------------------------------------------------------------------


def drawn_discs(discs, shape=(160, 200), low=30.0, high=180.0, blur=1.0):
    """Draw discs on a grid six times as fine, average, and blur."""
    r, c = ((np.arange(6 * n) + 0.5) / 6 - 0.5 for n in shape)
    fine = np.zeros((len(r), len(c)))
    for row, column, radius in discs:
        fine[np.hypot(r[:, None] - row, c[None] - column) <= radius] = 1
    share = fine.reshape(shape[0], 6, shape[1], 6).mean((1, 3))
    return ndimage.gaussian_filter(low + (high - low) * share, blur)


DISCS = [Disc(40.3, 45.7, 20.4), Disc(100.6, 130.2, 30.8), Disc(118.9, 50.1, 25.25)]


def test_discs_are_found_and_measured():
    """Diameters to 0.1 pixel (a blur draws round edges in), centres to 0.05, from top down."""
    image = drawn_discs(DISCS)
    found = [measure_disc(image, disc) for disc in find_discs(image)]
    assert len(found) == 3
    np.testing.assert_allclose(found, DISCS, atol=0.05)


def test_sharp_discs_are_measured():
    """Without a blur the diameter is right to 0.05 pixel on average."""
    image = drawn_discs(DISCS, blur=0)
    found = np.array([measure_disc(image, disc) for disc in DISCS])
    np.testing.assert_allclose(2 * found[:, 2], 2 * np.array(DISCS)[:, 2], atol=0.05)


def test_discs_in_noise():
    """At a contrast of five standard deviations the diameter is right to 0.4 pixel."""
    image = drawn_discs(DISCS)
    noisy = image + np.random.default_rng(0).normal(0, 30, image.shape)
    for disc in DISCS:
        found = measure_disc(noisy, disc)
        assert 2 * found.radius_px == pytest.approx(2 * disc.radius_px, abs=0.4)
        assert (found.row, found.column) == pytest.approx((disc.row, disc.column), abs=0.2)


def test_grey_values_may_be_negative():
    """The same discs below zero have the same radius."""
    image = drawn_discs(DISCS)
    for disc in DISCS:
        np.testing.assert_allclose(measure_disc(image - 250, disc), measure_disc(image, disc))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_holes_are_discs_of_the_negative(threshold):
    """Found in the same places with the same radius; the threshold counts from dark to bright."""
    image = drawn_discs(DISCS)
    assert find_discs(image, dark=True) == find_discs(210 - image) == []
    holes = find_discs(210 - image, dark=True)
    assert all(isinstance(hole, Hole) for hole in holes)
    np.testing.assert_allclose(holes, find_discs(image), atol=0.01)
    for hole in holes:
        found = measure_disc(210 - image, hole, threshold)
        assert isinstance(found, Hole)
        np.testing.assert_allclose(found, measure_disc(image, Disc(*hole), 1 - threshold))


def test_what_is_not_round_is_no_disc():
    """Squares, ellipses, flat pictures and discs that the frame cuts."""
    square = np.zeros((120, 120))
    square[30:90, 30:90] = 100
    rows, columns = np.mgrid[:120, :120] - 60
    ellipse = 100.0 * (np.hypot(rows / 40, columns / 25) <= 1)
    for image in (square, ellipse):
        assert measure_disc(image, Disc(59.5, 59.5, 28.0)) is None
        assert find_discs(image) == []
    assert measure_disc(np.full((80, 80), 5.0), Disc(40, 40, 20)) is None
    assert find_discs(np.full((80, 80), 5.0)) == []
    assert find_discs(drawn_discs([(60, 5, 30)])) == []


def test_small_discs_are_left_out():
    """Discs below the least radius are not looked for."""
    assert find_discs(drawn_discs([(60, 60, 8)])) == []
    assert len(find_discs(drawn_discs([(60, 60, 8)]), least_radius_px=5)) == 1
