"""Restored pictures judged in nanometres: perfect ones, harmful ones, some that show nothing."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import DataError
from toolbox.tasks.sem.evaluate import METHODS, Picture, SemEvaluator

PIXEL_NM = 0.8
NOISE = NoiseParams(drift_px=0, pair_offset_px=0, bits=16, white=4, black=1)


def picture(seed=0, cd_nm=16.0, group="lines", averages=()):
    """Return a simulated picture with its truth, raw and smoothed; nothing is restored yet."""
    params = SimulationParams(save_dir="nowhere", frame_shape=(192, 256))
    lines = LineParams(sigma_nm=0.8, xi_nm=10, alpha=0.5, cd_nm=cd_nm)
    field = LinePicture(np.random.default_rng(seed), params, lines)
    raw = field.expose(NOISE, 1).astype(np.float64)
    return Picture(
        name=f"line_{seed:04d}",
        high=field.expose(NOISE, 64),
        images={"raw": raw, "gaussian": ndimage.gaussian_filter(raw, 1.5)},
        group=group,
        noise_free=field.expose(NOISE, None),
        truth=(field.truth.left_px, field.truth.right_px),
        averages={count: field.expose(NOISE, count) for count in averages},
    )


@pytest.fixture(scope="module")
def simulated():
    """Three pictures of 16 nm with averages, and two more of a sweep of CD; not to be changed."""
    main = [picture(seed, averages=(2, 4, 8, 16)) for seed in range(3)]
    return [*main, picture(3, 12.0, "sweep_12"), picture(4, 20.0, "sweep_20")]


def restored(pictures, restore):
    """Return the pictures with one more method: ``restore(picture)``."""
    return [
        Picture(**{**vars(p), "images": {**p.images, "restored": restore(p)}}) for p in pictures
    ]


def summary_of(pictures, **settings):
    """Measure and return the summary, which must be plain JSON without NaN."""
    summary = SemEvaluator(PIXEL_NM, **settings).evaluate(pictures).summary
    return json.loads(json.dumps(summary, allow_nan=False))


def widened(image, by_px):
    """Stretch every line of a picture about its middle: a network that draws lines too wide."""
    return ndimage.grey_dilation(image, size=(1, by_px + 1))


# -- lines with known truth ------------------------------------------------------------------------


def test_perfect_restoration(simulated):
    """Without noise: no bias, a slope of one, roughness within 2 %, no harm."""
    summary = summary_of(restored(simulated, lambda p: p.noise_free))
    assert summary["cd_bias_nm"]["restored"] == 0
    assert summary["cd_bias_ci95_nm"]["restored"] == 0
    assert summary["cd_slope"]["restored"] == pytest.approx(1, abs=0.02)
    for kind in ("lwr", "ler"):
        for which in ("biased", "unbiased"):
            assert abs(summary[f"{which}_{kind}_error_percent"]["restored"]) < 2
    assert summary["psd_transfer"]["restored"]["invented_below_nm"] is None
    assert summary["do_no_harm"] == {
        "tolerance_nm": 0.5,
        "largest_likely_cd_change_nm": 0,
        "verdict": "pass",
        "reasons": [],
        "flagged": [],
    }
    assert summary["width_correlation"]["restored"] > 0.99
    assert summary["edge_error_nm"]["restored"] < 0.1
    # Better than the best average that is there: its number, as a lower bound.
    assert summary["equivalent_frames"]["restored"] == pytest.approx(16)


def test_raw_picture(simulated):
    """At ten counts: no bias within its interval, roughness too large until the noise is off."""
    summary = summary_of(simulated)
    assert "restored" not in summary["cd_bias_nm"]
    assert abs(summary["cd_bias_nm"]["raw"]) < 0.2
    assert summary["biased_lwr_error_percent"]["raw"] > 20
    assert abs(summary["unbiased_lwr_error_percent"]["raw"]) < 8
    assert summary["equivalent_frames"]["raw"] == pytest.approx(1)
    assert summary["psd_fit"]["raw"]["floor_nm3"] > 0.3
    assert summary["psd_transfer"]["raw"]["invented_below_nm"] > 5


def test_true_figures_are_those_of_the_truth(simulated):
    """LWR and LER over the main pictures, from the true edges alone; the criterion's own offset."""
    summary = summary_of(simulated)
    widths = [(p.truth[1] - p.truth[0]).var(axis=1) for p in simulated[:3]]
    edges = [np.concatenate(p.truth).var(axis=1) for p in simulated[:3]]
    for key, variances in (("true_lwr_nm", widths), ("true_ler_nm", edges)):
        expected = 3 * PIXEL_NM * np.sqrt(np.concatenate(variances).mean())
        assert summary[key] == pytest.approx(expected)
    # Half of the way up a bright rim lies outside of the edge: by a quarter of a nanometre each.
    assert summary["criterion_offset_nm"] == pytest.approx(0.5, abs=0.1)


def test_dark_lines_are_what_lies_between(simulated):
    """With polarity dark the widths are those of the spaces, true ones and measured ones."""
    perfect = restored(simulated[:3], lambda p: p.noise_free)
    found = SemEvaluator(PIXEL_NM, polarity="dark").evaluate(perfect)
    assert found.summary["polarity"] == "dark"
    assert found.summary["cd_bias_nm"]["restored"] == 0
    assert abs(found.summary["cd_bias_nm"]["raw"]) < 0.2
    spaces = [PIXEL_NM * (p.truth[0][1:] - p.truth[1][:-1]).mean() for p in simulated[:3]]
    table = found.per_picture
    assert table[table["method"] == "raw"]["true_cd_nm"].tolist() == pytest.approx(spaces)
    # What the beam adds to a line it takes from a space.
    assert found.summary["criterion_offset_nm"] == pytest.approx(-0.5, abs=0.1)
    assert summary_of(simulated[:1])["polarity"] == "bright"


def test_a_trench_is_found_and_stays_dark():
    """Without truth, the first picture tells the polarity of all: one dark line, no bright one."""
    x = np.arange(160)
    clean = ndimage.gaussian_filter1d(np.where((x > 60) & (x < 90), 40.0, 160.0), 1.5)
    image = np.tile(clean, (64, 1))
    noisy = image + np.random.default_rng(0).normal(0, 10, image.shape)
    pictures = [Picture(f"trench_{n}", image, {"raw": noisy}) for n in range(2)]
    summary = summary_of(pictures)
    assert summary["polarity"] == "dark"
    assert abs(summary["cd_bias_nm"]["raw"]) < 0.1
    bright = np.where((x > 30) & (x < 50), 160.0, 40.0)
    other = Picture("line", np.tile(ndimage.gaussian_filter1d(bright, 1.5), (64, 1)), {})
    assert summary_of([pictures[0], other])["left_out"] == ["line"]
    with pytest.raises(DataError, match=r"line: no whole dark vertical line .*metrology.polarity"):
        summary_of([other], polarity="dark")


def test_lines_drawn_too_wide(simulated):
    """Both edges half a nanometre out: a bias of 1 nm, harm, and every picture is named."""
    moved = [
        Picture(**{**vars(p), "images": {"raw": p.images["raw"], "restored": stretched(p, 1.0)}})
        for p in simulated[:3]
    ]
    summary = summary_of(moved)
    assert summary["cd_bias_nm"]["restored"] == pytest.approx(1.0, abs=0.05)
    verdict = summary["do_no_harm"]
    assert verdict["verdict"] == "fail"
    assert verdict["flagged"] == ["line_0000", "line_0001", "line_0002"]
    assert verdict["largest_likely_cd_change_nm"] >= 0.95
    # A wide tolerance excuses no bias that raw pictures do not have.
    allowed = summary_of(moved, tolerance_nm=1.2)
    assert allowed["do_no_harm"]["flagged"] == []
    assert "significantly more" in allowed["do_no_harm"]["reasons"][0]
    assert allowed["do_no_harm"]["verdict"] == "fail"
    assert allowed["verdict"]["grade"] == "harms"


def stretched(p, wider_nm):
    """Sample the noise-free picture so that every line is wider, spaces narrower, by the same."""
    rows, width = p.noise_free.shape
    x = np.arange(width, dtype=float)
    half = wider_nm / PIXEL_NM / 2
    image = np.empty((rows, width))
    for row in range(rows):
        edges = np.stack([edge[:, row] for edge in p.truth], axis=1)
        # Around an edge the picture is moved as a whole; in the middles it is pulled.
        places, sources = [], []
        for edge, move in [
            (e, s * half) for pair in edges for e, s in zip(pair, (-1, 1), strict=True)
        ]:
            places += [edge + move - 6, edge + move + 6]
            sources += [edge - 6, edge + 6]
        at = np.interp(x, places, sources, left=np.nan, right=np.nan)
        at = np.where(np.isnan(at), x, at)
        image[row] = ndimage.map_coordinates(
            p.noise_free[row].astype(float), [at], order=3, mode="nearest"
        )
    return image


def test_one_harmful_picture_is_named(simulated):
    """Two good pictures and a bad one: only that one is flagged."""
    main = restored(simulated[:3], lambda p: p.noise_free)
    main[1].images["restored"] = widened(main[1].noise_free, 2)
    summary = summary_of(main)
    assert summary["do_no_harm"]["flagged"] == ["line_0001"]
    assert summary["do_no_harm"]["verdict"] == "fail"


def test_slope_of_a_network_that_draws_all_lines_alike(simulated):
    """Widths that shrink towards 16 nm are right at 16 nm; the sweep and the slope tell."""
    shrunk = restored(simulated, lambda p: p.noise_free)
    for p, by_px in zip(shrunk[3:], (2, -2), strict=True):
        image = p.noise_free
        p.images["restored"] = widened(image, 2) if by_px > 0 else -widened(-image.astype(int), 2)
    summary = summary_of(shrunk)
    assert summary["cd_bias_nm"]["restored"] == 0
    assert summary["cd_slope"]["restored"] < 0.75
    assert summary["do_no_harm"]["flagged"] == ["line_0003", "line_0004"]
    assert summary["do_no_harm"]["verdict"] == "fail"
    assert summary["do_no_harm"]["largest_likely_cd_change_nm"] > 1


def test_lines_that_vanish_are_harm(simulated):
    """A network that paints one line dark: the widths that are left are right, and it fails."""
    main = restored(simulated[:3], lambda p: p.noise_free.copy())
    for p in main:
        left, right = (int(edges[1].mean()) for edges in p.truth)
        p.images["restored"][:, left - 6 : right + 7] = p.noise_free.min()
    summary = summary_of(main)
    assert summary["cd_bias_nm"]["restored"] == pytest.approx(0, abs=1e-6)
    assert summary["do_no_harm"]["verdict"] == "fail"
    assert "of the edges are lost" in summary["do_no_harm"]["reasons"][0]
    assert len(summary["do_no_harm"]["flagged"]) == 3


def test_one_picture_proves_nothing(simulated):
    """Without a confidence interval there is no verdict of harmlessness."""
    verdict = summary_of(restored(simulated[:1], lambda p: p.noise_free))["do_no_harm"]
    assert verdict["verdict"] == "fail"
    assert verdict["reasons"] == ["one picture has no confidence interval"]


def test_pictures_of_one_field_count_once(simulated):
    """Copies of two pictures say as much as the two; of one field alone there is no interval."""
    two = restored(simulated[:2], lambda p: p.images["gaussian"])
    copies = [
        Picture(**{**vars(p), "name": f"{p.name}_{n}", "field": p.name}) for p in two for n in "abc"
    ]
    once, often = summary_of(two), summary_of(copies)
    assert (once["n"], once["fields"]) == (2, 2)
    assert (often["n"], often["fields"]) == (6, 2)
    for key in ("cd_bias_nm", "cd_bias_ci95_nm"):
        assert often[key] == pytest.approx(once[key])
    single = summary_of(copies[:3])
    assert (single["n"], single["fields"]) == (3, 1)
    assert single["cd_bias_ci95_nm"]["restored"] is None
    assert single["do_no_harm"]["verdict"] == "fail"
    reason = "one field has no confidence interval, however many pictures show it"
    assert reason in single["do_no_harm"]["reasons"]
    assert reason in single["verdict"]["reasons"]


def test_invented_roughness_does_not_follow_the_true_one(simulated):
    """Widths of another picture have the right roughness and no correlation with the true ones."""
    main = restored(simulated[:3], lambda p: p.noise_free[::-1])
    summary = summary_of(main)
    assert summary["unbiased_lwr_error_percent"]["restored"] == pytest.approx(0, abs=25)
    assert abs(summary["width_correlation"]["restored"]) < 0.5


@pytest.mark.parametrize("count", [2, 4, 8])
def test_equivalent_frames_of_an_actual_average(simulated, count):
    """Another average of N frames of the same fields is worth N, within 30 %."""
    again = [picture(seed, averages=(count, count + 1)) for seed in range(3)]
    averages = {p.name: q.averages for p, q in zip(simulated, again, strict=False)}
    # The frames of `again` were drawn after other exposures: they are not those of `simulated`.
    main = restored(simulated[:3], lambda p: averages[p.name][count + 1])
    found = summary_of(main)["equivalent_frames"]["restored"]
    assert found == pytest.approx(count + 1, rel=0.3)


def test_worse_than_raw_is_less_than_one_frame(simulated):
    """A method that adds noise is worth less than the short exposure that it began with."""
    rng = np.random.default_rng(0)
    worse = restored(simulated[:3], lambda p: p.images["raw"] + rng.normal(0, 5000, (192, 256)))
    assert summary_of(worse)["equivalent_frames"]["restored"] < 1


def test_smoothing_along_the_lines_is_seen(simulated):
    """A filter that straightens edges: too little roughness, and the wavelengths it erased."""
    summary = summary_of(
        restored(simulated, lambda p: ndimage.gaussian_filter1d(p.noise_free.astype(float), 3, 0))
    )
    assert summary["unbiased_lwr_error_percent"]["restored"] < -10
    assert 3 < summary["psd_transfer"]["restored"]["erased_below_nm"] < 40


def test_tables(simulated):
    """A row per picture and method, spectra from the longest wave on, averages ever better."""
    results = SemEvaluator(PIXEL_NM).evaluate(restored(simulated, lambda p: p.noise_free))
    table, spectra, frames = results.per_picture, results.spectra, results.frames
    assert len(table) == 5 * 3
    assert set(table["method"]) == {"raw", "gaussian", "restored"} < set(METHODS)
    assert list(spectra) == ["frequency_per_nm", "truth", "raw", "gaussian", "restored"]
    assert spectra["frequency_per_nm"].iloc[0] == pytest.approx(1 / (192 * PIXEL_NM))
    assert len(spectra) == 96
    # Twice the sum over positive frequencies is the variance of the true widths.
    total = 2 * spectra["truth"].sum() - spectra["truth"].iloc[-1]
    found = 3 * np.sqrt(total / (192 * PIXEL_NM))
    assert found == pytest.approx(results.summary["true_lwr_nm"], rel=1e-6)
    assert frames["frames"].tolist() == [2, 4, 8, 16]
    assert (np.diff(frames["edge_error_nm"]) < 0).all()


def test_pictures_may_come_one_at_a_time(simulated):
    """A stream gives what a list gives; spectra are of the rows that all main pictures have."""

    def lower(p, rows):
        sides = tuple(edges[:, :rows] for edges in p.truth)
        changes = {"high": p.high[:rows], "noise_free": p.noise_free[:rows], "truth": sides}
        images = {"raw": p.images["raw"][:rows]}
        return Picture(**{**vars(p), **changes, "images": images, "averages": {}})

    rows = (192, 180, 188, 150)
    pictures = [lower(p, number) for p, number in zip(simulated, rows, strict=False)]
    evaluator = SemEvaluator(PIXEL_NM)
    found, streamed = evaluator.evaluate(pictures), evaluator.evaluate(iter(pictures), 180)
    assert found.summary == streamed.summary
    assert found.spectra.equals(streamed.spectra)
    assert found.spectra["frequency_per_nm"].iloc[0] == pytest.approx(1 / (180 * PIXEL_NM))
    widths = [(p.truth[1] - p.truth[0])[:, :180].var(axis=1) for p in pictures[:3]]
    expected = 3 * PIXEL_NM * np.sqrt(np.concatenate(widths).mean())
    assert found.summary["true_lwr_nm"] == pytest.approx(expected)


def test_confidence_interval_holds_the_truth(simulated):
    """Half widths by Student's t over pictures: by hand for the three main ones."""
    results = SemEvaluator(PIXEL_NM).evaluate(simulated)
    rows = results.per_picture.query("method == 'gaussian' and group == 'lines'")
    bias = rows["cd_bias_nm"].to_numpy()
    # 4.303 is the 97.5 % point of Student's t with two degrees of freedom.
    expected = 4.303 * bias.std(ddof=1) / math.sqrt(3)
    assert results.summary["cd_bias_nm"]["gaussian"] == pytest.approx(bias.mean())
    assert results.summary["cd_bias_ci95_nm"]["gaussian"] == pytest.approx(expected, rel=1e-3)


def test_unit_is_that_of_the_pixel(simulated):
    """Twice the size of a pixel, twice the nanometres of every width."""
    main = restored(simulated[:3], lambda p: p.images["gaussian"])
    once, twice = (SemEvaluator(size).evaluate(main).summary for size in (0.8, 1.6))
    for key in ("cd_bias_nm", "cd_bias_ci95_nm", "biased_lwr_nm", "edge_error_nm"):
        assert twice[key]["restored"] == pytest.approx(2 * once[key]["restored"])
    assert twice["equivalent_frames"]["raw"] == pytest.approx(once["equivalent_frames"]["raw"])


# -- lines without truth, or without lines ---------------------------------------------------------


def test_without_truth_the_long_exposure_is_the_reference(simulated):
    """Real pictures: bias against the long exposure, whose own noise is taken off its LWR."""
    known = restored(simulated[:3], lambda p: p.noise_free)
    real = [
        Picture(**{**vars(p), "truth": None, "noise_free": None, "averages": {}}) for p in known
    ]
    summary = summary_of(real)
    assert summary["cd_bias_nm"]["restored"] == pytest.approx(0, abs=0.1)
    assert summary["true_lwr_nm"] == pytest.approx(summary_of(known)["true_lwr_nm"], rel=0.04)
    assert summary["criterion_offset_nm"] == 0
    assert summary["cd_slope"]["raw"] is None  # all pictures have the same CD
    # The noise of the long exposure is no roughness that restoring has erased.
    noisy = 1 / summary["psd_fit"]["raw"]["floor_nm3"]
    assert noisy > 0
    erased = summary["psd_transfer"]["restored"]["erased_below_nm"]
    assert erased is None or erased < 3 * PIXEL_NM
    # Nothing but the law of the square root is left to count frames by.
    errors = summary["edge_error_nm"]
    expected = (errors["raw"] / errors["gaussian"]) ** 2
    assert summary["equivalent_frames"]["gaussian"] == pytest.approx(expected)
    assert SemEvaluator(PIXEL_NM).evaluate(real).frames.empty


@pytest.mark.parametrize("lost", ["all", "one"])
def test_methods_that_lose_the_edges(simulated, lost):
    """Grey pictures have no width: None, not a crash, and never harmless."""
    blank = np.full((192, 256), 9000.0)
    main = restored(
        simulated[:3],
        lambda p: blank if lost == "all" or p.name == "line_0001" else p.noise_free,
    )
    summary = summary_of(main)
    assert summary["do_no_harm"]["verdict"] == "fail"
    assert "line_0001" in summary["do_no_harm"]["flagged"]
    if lost == "all":
        for key in ("cd_bias_nm", "biased_lwr_nm", "edge_error_nm", "equivalent_frames"):
            assert summary[key]["restored"] is None
    else:
        assert summary["cd_bias_nm"]["restored"] == 0


def test_one_picture_has_no_interval(simulated):
    """A single picture is measured; nothing is said about its spread."""
    summary = summary_of(restored(simulated[:1], lambda p: p.noise_free))
    assert summary["n"] == 1
    assert summary["cd_bias_ci95_nm"]["restored"] is None
    assert summary["cd_slope"]["restored"] is None


def test_reference_without_lines_is_refused(simulated):
    """The name of the picture, and what to do."""
    blank = np.full((192, 256), 100, np.uint8)
    real = Picture("wafer_7", blank, {"raw": blank})
    with pytest.raises(DataError, match=r"wafer_7: no whole bright vertical line"):
        SemEvaluator(PIXEL_NM).evaluate([real])
    grey = Picture("wafer_8", blank, {"raw": blank}, noise_free=blank, truth=simulated[0].truth)
    with pytest.raises(DataError, match=r"wafer_8: the reference picture shows no whole line"):
        SemEvaluator(PIXEL_NM).evaluate([grey])


@pytest.mark.parametrize("shape", ["lines", "discs"])
def test_pictures_without_anything_to_measure_are_left_out(simulated, shape):
    """They are named, whatever is measured; more than half of them allow no verdict."""
    if shape == "lines":
        good = [Picture(**{**vars(p), "averages": {}}) for p in simulated[:3]]
        good = restored(good, lambda p: p.noise_free)
    else:
        noise = np.random.default_rng(0).normal(0, 20, (3, 200, 200))
        images = [{"raw": discs() + one, "restored": discs() + 0.01 * one} for one in noise]
        good = [Picture(f"disc_{n}", discs(), both) for n, both in enumerate(images)]
    grey = np.full(good[0].high.shape, 90.0)
    bad = [Picture(f"grey_{n}", grey, {"raw": grey, "restored": grey}) for n in range(4)]
    few, known = summary_of([bad[0], *good], shape=shape), summary_of(good, shape=shape)
    assert few.pop("left_out") == ["grey_0"]
    assert known.pop("left_out") == []
    assert few == known
    assert few["verdict"]["grade"] == "helps"
    most = summary_of([*good, *bad], shape=shape)
    assert most["left_out"] == ["grey_0", "grey_1", "grey_2", "grey_3"]
    assert most["n"] == 3
    assert most["verdict"]["grade"] == "neutral"
    assert most["verdict"]["reasons"] == ["4 of 7 pictures are left out, more than half"]
    assert most["do_no_harm"]["verdict"] == "fail"


# -- discs -----------------------------------------------------------------------------------------


def discs(radius_change=0.0):
    """Draw three discs, 20 to 28 pixels of radius."""
    r, c = np.mgrid[:200, :200].astype(float)
    image = np.full((200, 200), 40.0)
    for row, column, radius in ((50.3, 50.6, 20.2), (60.1, 140.4, 28.7), (145.5, 90.2, 25.1)):
        distance = np.hypot(r - row, c - column)
        image += 120 * np.clip(radius + radius_change - distance + 0.5, 0, 1)
    return ndimage.gaussian_filter(image, 1)


def test_discs():
    """Diameters of discs half a pixel too large in radius: one pixel of bias, in nm."""
    rng = np.random.default_rng(0)
    raw = discs() + rng.normal(0, 20, (200, 200))
    images = {"raw": raw, "restored": discs(0.5)}
    results = SemEvaluator(5.8, "discs").evaluate([Picture("balls", discs(), images)])
    summary = json.loads(json.dumps(results.summary, allow_nan=False))
    assert summary["measured"] == "discs"
    assert len(results.per_picture) == 3 * 2
    assert summary["cd_bias_nm"]["restored"] == pytest.approx(5.8, abs=0.2)
    assert abs(summary["cd_bias_nm"]["raw"]) < 5.8
    assert summary["do_no_harm"]["verdict"] == "fail"
    assert summary["cd_slope"]["restored"] == pytest.approx(1, abs=0.02)
    radii = results.per_picture.query("method == 'restored'")["reference_cd_nm"] / 11.6
    np.testing.assert_allclose(sorted(radii), [20.2, 25.1, 28.7], atol=0.1)


def test_holes():
    """Of the negative the dark discs are taken, as there are more; a polarity may be set, too."""
    negative = 200 - discs()
    hole = Picture("holes", negative, {"raw": negative, "restored": 200 - discs(0.5)})
    results = SemEvaluator(5.8, "discs").evaluate([hole])
    assert results.summary["polarity"] == "dark"
    assert results.summary["discs_found"] == {"bright": 0, "dark": 3}
    assert results.summary["cd_bias_nm"]["restored"] == pytest.approx(5.8, abs=0.2)
    chosen = SemEvaluator(5.8, "discs", polarity="dark").evaluate([hole]).summary
    assert chosen["discs_found"] == {"dark": 3}
    assert chosen["cd_bias_nm"] == results.summary["cd_bias_nm"]
    with pytest.raises(
        DataError, match=r"no bright disc with a radius of at least 12 .* metrology\.polarity"
    ):
        SemEvaluator(5.8, "discs", polarity="bright").evaluate([hole])


def test_discs_that_are_lost():
    """A grey picture loses all discs, and one disc alone has no spread: None, not NaN."""
    blank = np.full((200, 200), 90.0)
    lone = Picture("balls", discs(), {"raw": discs(), "restored": blank})
    summary = SemEvaluator(5.8, "discs").evaluate([lone]).summary
    json.dumps(summary, allow_nan=False)
    assert summary["cd_bias_nm"]["restored"] is None
    assert summary["edge_error_nm"]["restored"] is None
    assert summary["do_no_harm"]["verdict"] == "fail"
    with pytest.raises(DataError, match="no disc with a radius of at least 12 pixels"):
        SemEvaluator(5.8, "discs").evaluate([Picture("none", blank, {"raw": blank})])
