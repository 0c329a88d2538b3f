"""Pictures measured alone: lines, frames and text, against drawings whose edges are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from sr_dataset_builder.simulate_sem import LinePicture, SimulationParams, rough_edges
from toolbox.config import check
from toolbox.errors import DataError
from toolbox.tasks.sem.measure import DiscMeter, FrameCurve, LineMeter, precision_of_one
from toolbox.tasks.sem.settings import MeasureOptions

WIDTHS = [(20.2, 30.2), (60, 80), (110, 150), (180, 190), (220, 240), (270, 310)]


def drawn(lines=WIDTHS, width=330, height=64, slant=0.0125, sigma=0.0, seed=0):
    """Draw bright lines, rough and slanted, whose coverage of a pixel is exact across; blurred.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        The picture and the edges (lines, 2, rows).
    """
    edges = np.repeat(np.array(lines, float)[..., None], height, axis=2)
    edges += slant * np.arange(height)
    if sigma:
        shape = (2 * len(lines), 8 * height)
        rough = rough_edges(np.random.default_rng(seed), shape, 1.0, sigma, 12.0, 0.7)
        edges += rough[:, :height].reshape(edges.shape)
    x = np.arange(width)
    image = np.full((height, width), 40.0)
    for left, right in edges:
        ends = np.minimum(x + 0.5, right[:, None]) - np.maximum(x - 0.5, left[:, None])
        image += 160 * np.clip(ends, 0, 1)
    return ndimage.gaussian_filter1d(image, 1.0, axis=1), edges


def meter(image, size=(0.8, 0.8), unit="nm", **options):
    """Return what measures the lines of a picture."""
    return LineMeter(image, size, unit, MeasureOptions(**options))


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("lines", ["vertical", "horizontal"])
def test_widths_of_several_lines(polarity, lines):
    """10, 20 and 40 pixels in one picture, upright or not: each CD within 0.02 pixel."""
    image, edges = drawn(height=80)
    true = edges[:, 1] - edges[:, 0] if polarity == "bright" else edges[1:, 0] - edges[:-1, 1]
    given = image if lines == "vertical" else image.T
    found = meter(given, polarity=polarity).measured()
    cds = [row["cd_nm"] for row in found.objects]
    np.testing.assert_allclose(cds, 0.8 * true.mean(axis=1), atol=0.8 * 0.02)
    assert found.figures["direction"] == lines
    assert found.figures["polarity"] == polarity
    assert found.figures["cd_nm"] == pytest.approx(0.8 * true.mean(), abs=0.8 * 0.02)
    # What lies between these is of one width.
    assert any("mixture" in note for note in found.notes) == (polarity == "bright")


def test_roughness_of_known_edges():
    """LWR and LER of rough edges within 3 % of what was drawn, left and right apart, no noise."""
    lines = [(20 + 40 * k, 40 + 40 * k) for k in range(12)]
    image, edges = drawn(lines, 500, 512, slant=0.0, sigma=1.0)
    figures = meter(image).measured().figures
    width = edges[:, 1] - edges[:, 0]
    for name, traces in (
        ("lwr", width),
        ("ler", edges.reshape(-1, 512)),
        ("ler_left", edges[:, 0]),
        ("ler_right", edges[:, 1]),
    ):
        true = 0.8 * 3 * np.sqrt(traces.var(axis=1).mean())
        assert figures[f"{name}_biased_nm"] == pytest.approx(true, rel=0.03)
        assert figures[f"{name}_unbiased_nm"] == pytest.approx(true, rel=0.03)
    assert figures["length_nm"] == pytest.approx(512 * 0.8)
    assert figures["sampling_nm"] == 0.8
    assert figures["pitch_nm"] == pytest.approx(32, abs=0.5)
    assert figures["lost_share"] == 0


def test_an_exponent_at_its_bound_is_named():
    """Blur along the lines drives α to 1.5 and ξ below what was drawn; sharp lines get no note."""
    lines = [(20 + 40 * k, 40 + 40 * k) for k in range(12)]
    image, _ = drawn(lines, 500, 512, slant=0.0, sigma=1.0)
    assert not any("α" in note for note in meter(image).measured().notes)
    found = meter(ndimage.gaussian_filter1d(image, 1.0, axis=0)).measured()
    assert found.figures["psd_alpha"] == pytest.approx(1.5, abs=0.005)
    assert found.figures["psd_xi_nm"] < 0.8 * 12
    assert any(
        "α = 1.50 is at the bound of its fit" in note
        and "Blur makes α too large and ξ too small." in note
        for note in found.notes
    )


def test_unbiased_roughness_at_ten_counts():
    """Of four simulated pictures at 10 counts: unbiased LWR within 8 %, biased 25 % too large."""
    params = check(SimulationParams, {"save_dir": "x", "frame_shape": (512, 320)}, "test")
    shape = {"sigma_nm": (0.8, 0.8), "xi_nm": (25.0, 25.0), "alpha": (0.6, 0.6)}
    ratios = []
    for seed in range(4):
        picture = LinePicture(
            np.random.default_rng([seed, 7]), params, params.lines.model_copy(update=shape)
        )
        figures = meter(picture.expose(params.noise, 1)).measured().figures
        true = picture.truth.figures()["lwr_nm"]
        ratios.append([figures[f"lwr_{which}_nm"] / true for which in ("unbiased", "biased")])
    unbiased, biased = np.mean(ratios, axis=0)
    assert unbiased == pytest.approx(1.03, abs=0.05)
    assert biased > 1.25


def test_pixels_that_are_not_square():
    """Widths count by the side across the lines, lengths along them by the other."""
    image, _ = drawn(WIDTHS[:2], 110)
    for given, size in ((image, (0.5, 2.0)), (image.T, (2.0, 0.5))):
        figures = meter(given, size).measured().figures
        assert figures["cd_nm"] == pytest.approx(0.5 * 15, abs=0.02)
        assert figures["sampling_nm"] == 2.0
        assert figures["length_nm"] == pytest.approx(2.0 * 64)


def test_slanted_lines_are_named():
    """A slant that moves edges by pixels is told in degrees; LWR does not hold it."""
    image, _ = drawn(slant=0.03, height=128)
    found = meter(image, unit="px", size=(1, 1)).measured()
    note = next(note for note in found.notes if "slanted" in note)
    assert "slanted by 1.71°, 3.83 px" in note
    assert found.figures["lwr_biased_px"] < 0.1
    assert not any("slanted" in note for note in meter(drawn(slant=0)[0]).measured().notes)


def test_a_line_alone_has_no_interval():
    """Of one line there is a CD, and neither interval nor pitch."""
    found = meter(drawn([(60.2, 80.4)], 150)[0]).measured()
    assert found.figures["n"] == 1
    assert found.figures["cd_ci95_nm"] is None
    assert found.figures["pitch_nm"] is None
    assert not found.notes


def test_a_picture_without_lines_says_what_was_looked_for():
    """The message names direction and options."""
    with pytest.raises(
        DataError, match=r"no whole dark vertical line .*horizontal lines.*with --lines"
    ):
        meter(np.full((64, 64), 7.0), lines="horizontal", polarity="dark")


# -- discs -----------------------------------------------------------------------------------------


def test_discs_and_holes():
    """Diameter, place and roundness of drawn discs; auto takes the kind of which there are more."""
    rows, columns = np.mgrid[:160, :280]
    share = np.where(columns < 200, 0.0, 1.0)
    for row, column, radius in [(40, 50, 20), (45, 130, 25), (110, 60, 30), (80, 240, 22)]:
        disc = np.clip(radius + 0.5 - np.hypot(rows - row, columns - column), 0, 1)
        share = np.where(columns < 200, np.maximum(share, disc), share - disc * (column > 200))
    image = ndimage.gaussian_filter(50 + 120 * share, 1.0)
    found = DiscMeter(image, (2.0, 2.0), "nm", MeasureOptions(shape="discs")).measured()
    assert found.figures["polarity"] == "bright"
    assert [row["cd_nm"] for row in found.objects] == pytest.approx([80, 100, 120], abs=0.3)
    places = [(row["y_nm"], row["x_nm"]) for row in found.objects]
    np.testing.assert_allclose(places, [(80, 100), (90, 260), (220, 120)], atol=0.1)
    assert all(row["roundness_nm"] < 0.5 for row in found.objects)
    assert "1 dark discs are not measured; --polarity dark measures them." in found.notes
    options = MeasureOptions(shape="discs", polarity="dark")
    dark = DiscMeter(image, (2.0, 2.0), "nm", options)
    assert [row["cd_nm"] for row in dark.measured().objects] == pytest.approx([88], abs=0.3)
    assert dark.trace(image).cd == pytest.approx([88], abs=0.3)
    assert dark.trace(np.full_like(image, 7)) is None


def test_what_is_no_disc_is_refused():
    """A flat picture has none, and pixels must be square."""
    with pytest.raises(
        DataError, match="no whole bright or dark disc with a radius of at least 12 pixels"
    ):
        DiscMeter(np.full((64, 64), 7.0), (1.0, 1.0), "px", MeasureOptions(shape="discs"))
    with pytest.raises(DataError, match=r"pixels must be square .*; received 1 × 2 nm"):
        DiscMeter(np.eye(64), (1.0, 2.0), "nm", MeasureOptions(shape="discs"))


# -- frames ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve():
    """The averages of 21 noisy frames of six rough lines."""
    lines = [(20 + 40 * k, 40 + 40 * k) for k in range(6)]
    image, edges = drawn(lines, 260, 192, slant=0.0, sigma=0.8)
    rng = np.random.default_rng(0)
    frames = FrameCurve(meter(image), "nm")
    for _ in range(21):
        frames.add(image + rng.normal(0, 40, image.shape))
    width = edges[:, 1] - edges[:, 0]
    return frames, 0.8 * 3 * np.sqrt(width.var(axis=1).mean())


def test_averages_are_disjoint_and_all_frames_come_last(curve):
    """21 frames make 21, 10, 5, 2 and 1 averages, and one of all."""
    table = curve[0].table()
    assert table["frames"].tolist() == [1, 2, 4, 8, 16, 21]
    assert table["averages"].tolist() == [21, 10, 5, 2, 1, 1]
    assert (table["measured"] == table["averages"]).all()
    assert table["cd_precision_nm"].isna().tolist() == [False] * 4 + [True] * 2


def test_noise_falls_and_unbiased_roughness_stays(curve):
    """Biased LWR falls towards the true one, unbiased is near it; edges follow √N within 10 %."""
    table, true = curve[0].table(), curve[1]
    biased, unbiased = table["lwr_biased_nm"], table["lwr_unbiased_nm"]
    assert biased.is_monotonic_decreasing
    assert biased[0] > 1.2 * true
    np.testing.assert_allclose(unbiased, true, rtol=0.06)
    precision = table["edge_precision_nm"].dropna() * np.sqrt(table["frames"][:4])
    np.testing.assert_allclose(precision, precision[0], rtol=0.1)


def test_precision_of_a_frame_is_fitted_to_all_averages():
    """Of standard deviations that follow the law, that of one frame is found."""
    frames = pd.DataFrame({"frames": [1, 2, 4], "measured": [16, 8, 4]})
    frames["cd_precision_nm"] = 0.3 / np.sqrt(frames["frames"])
    assert precision_of_one(frames, "nm") == pytest.approx(0.3)
    assert precision_of_one(frames[:0], "nm") is None
    assert precision_of_one(pd.DataFrame(), "px") is None


def test_shrinking_lines_are_named(curve):
    """A CD that falls from frame to frame is told with its rate; one that does not is not."""
    assert not curve[0].notes
    image, _ = drawn(slant=0)
    frames = FrameCurve(meter(image), "nm")
    for number in range(10):
        frames.add(drawn([(a, b - 0.05 * number) for a, b in WIDTHS], slant=0)[0])
    assert "the CD changes by -0.04" in frames.notes[0]


def test_frames_without_edges_are_counted():
    """A frame that shows nothing is no measurement, and the others go on."""
    image, _ = drawn(slant=0)
    frames = FrameCurve(meter(image), "nm")
    for frame in (image, np.full_like(image, 90), image):
        frames.add(frame)
    table = frames.table()
    assert table["averages"].tolist() == [3, 1, 1]
    assert table["measured"].tolist() == [2, 1, 1]


# -- what falsifies figures ------------------------------------------------------------------------


def straight(height=128, **options):
    """Draw three straight lines of 20 pixels; return the picture alone."""
    return drawn([(20, 40), (60, 80), (100, 120)], 150, height, slant=0.0, **options)[0]


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_lines_that_end_keep_their_width(share):
    """Rows beyond the end of a line do not lower the level of its edges, and are named."""
    image = straight()
    image[: round(share * len(image))] = 40.0
    found = meter(image).measured()
    assert found.figures["cd_nm"] == pytest.approx(16, abs=0.04)
    assert found.figures["lost_share"] == pytest.approx(share, abs=0.02)
    assert any(f"{share:.0%} of the rows have no clear edge" in note for note in found.notes)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_shade_along_the_lines_is_no_roughness(polarity):
    """Brightness that falls along the lines, by gain or offset, leaves CD and LWR, and is named."""
    image = straight()
    fall = np.linspace(0, 1, len(image))[:, None]
    for shaded in (image * (1 - 0.3 * fall), image + 40 * fall, image * (1 - 0.3 * fall**2)):
        found = meter(shaded, polarity=polarity).measured()
        assert found.figures["cd_nm"] == pytest.approx(16, abs=0.02)
        assert found.figures["lwr_biased_nm"] < 0.15
        assert any("along the lines; this is corrected" in note for note in found.notes)
    assert not meter(image, polarity=polarity).measured().notes


def test_noise_is_no_shade():
    """Of 20 noisy pictures without a shade none is evened out."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        noisy = straight() + rng.normal(scale=40, size=(128, 150))
        assert not any("evened" in note for note in meter(noisy).measured().notes)


def test_lines_that_pass_to_the_next_place_are_refused():
    """Pieces of two lines would be taken for one; the angle is told."""
    image, _ = drawn([(20 + 40 * k, 40 + 40 * k) for k in range(-4, 12)], 330, 512, slant=0.11)
    with pytest.raises(DataError, match=r"slanted by about 6\.\d°.*Turn the picture"):
        meter(image)


def test_an_edge_that_jumps_is_no_slant():
    """A jump in one line is roughness of it."""
    image = straight()
    image[64:, 30:60] = np.roll(image[64:, 30:60], 4, axis=1)
    found = meter(image).measured()
    assert found.figures["lwr_biased_nm"] > 1
    assert not any("slanted" in note for note in found.notes)


def test_short_lines_are_refused():
    """Less than 16 rows have no spectrum of roughness."""
    meter(straight(height=16))
    with pytest.raises(DataError, match=r"at least 16 pixels long.*received 15"):
        meter(straight(height=15))


def test_strong_noise_is_named():
    """Where noise moves edges by most of a pixel, the unbiased LWR is not what it seems."""
    noisy = straight() + np.random.default_rng(0).normal(scale=70, size=(128, 150))
    found = meter(noisy).measured()
    assert any("noise displaces edges by" in note for note in found.notes)
    assert found.figures["lwr_unbiased_nm"] > 0.5  # the lines are straight


def test_discs_that_touch_are_named():
    """Edges that are seen together with those of a neighbour shrink the diameter."""
    rows, columns = np.mgrid[:150, :300]
    for gap, count in ((2.0, 2), (60.0, 0)):
        image = np.full((150, 300), 40.0)
        for centre in (75.0, 75.0 + 50 + gap):
            distance = np.hypot(rows - 75, columns - centre)
            image += 160 * np.clip(25.5 - distance, 0, 1)
        image = ndimage.gaussian_filter(np.minimum(image, 200), 1.0)
        found = DiscMeter(image, (0.8, 0.8), "nm", MeasureOptions(shape="discs")).measured()
        assert found.figures["n"] == 2
        named = [note for note in found.notes if "too small" in note]
        assert [note.split()[0] for note in named] == ([str(count)] if count else [])


@pytest.mark.parametrize("count", [3, 6])
def test_shrinking_shows_in_few_frames(count):
    """The change of single lines tells it where frames are too few to tell; none is no change."""
    rng = np.random.default_rng(0)
    for step, named in ((0.3, True), (0.0, False)):
        lines = [(20 + 40 * k, 40 + 40 * k) for k in range(8)]
        first, _ = drawn(lines, 340, 64, slant=0.0)
        frames = FrameCurve(meter(first), "nm")
        for number in range(count):
            narrower = [(a + step * number / 2, b - step * number / 2) for a, b in lines]
            frame, _ = drawn(narrower, 340, 64, slant=0.0)
            frames.add(frame + rng.normal(scale=10, size=frame.shape))
        assert (frames.trend is not None) == named
        if named:
            assert frames.trend == pytest.approx(-0.8 * step, rel=0.2)
