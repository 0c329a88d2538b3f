"""Detail that a method added, left out or invented, and errors of landforms."""

import numpy as np
import pytest

from toolbox.tasks.bathymetry.detail import (
    COUNTS,
    DETAIL,
    detail_figures,
    detail_table,
    noise_limit_m,
    noise_sigma_m,
    rounding_step_m,
)
from toolbox.tasks.bathymetry.fidelity import FIGURES, Fidelity
from toolbox.tasks.bathymetry.landforms import (
    LANDFORMS,
    landform_figures,
    landform_table,
    line_strength_per_m,
    lines,
    surface,
)

SPACING = (20.0, 50.0)
Y, X = np.meshgrid(20.0 * np.arange(24), 50.0 * np.arange(30), indexing="ij")


def relief(count, seed=0):
    """Draw smooth maps with noise, (count, 24, 30, 1), metres."""
    rng = np.random.default_rng(seed)
    waves = np.sin(X / 170 + rng.uniform(0, 6, (count, 1, 1))) * 8 + np.cos(Y / 90) * 5
    return (waves + rng.normal(0, 0.3, (count, 24, 30)))[..., None].astype(np.float32)


# -- Detail --------------------------------------------------------------------------------------


def test_detail_by_hand():
    """Six pixels, limit 1 m; every one is of another kind.

    truth 0 0.5 4 4 4 4, plain map 0 everywhere, result 9 0 0.8 3 -2 9: the first two pixels do not
    differ from the plain map by more than 1 m; 0.8 stayed; 3 is nearer by 3 m; -2 is farther by
    2 m and 9 by 1 m.
    """
    truth, result = (
        [[[[v]] for v in row]] for row in ([0, 0.5, 4, 4, 4, 4], [9, 0, 0.8, 3, -2, 9])
    )
    truth, result = np.array(truth, np.float32), np.array(result, np.float32)
    table = detail_table(truth, np.zeros_like(truth), result, 1.0)
    expected = dict(zip(COUNTS, (4, 1, 1, 2, 3.0, 3.2, 3.0), strict=True))
    assert table.iloc[0].to_dict() == pytest.approx(expected, rel=1e-6)
    figures = detail_figures(table).iloc[0].to_dict()
    expected = dict(zip(DETAIL, (0.25, 0.25, 0.5, 0.75, 0.8, 0.75), strict=True))
    assert figures == pytest.approx(expected, rel=1e-6)


def test_the_shares_add_up_and_the_metres_are_the_change_of_the_error():
    """Improved + omitted + hallucinated = 1; gain and harm account for the change of the MAE."""
    truth, plain, result = relief(5), relief(5, 1), relief(5, 2)
    figures = detail_figures(detail_table(truth, plain, result, 0.7).sum().to_frame().T).iloc[0]
    assert figures[list(DETAIL[:3])].sum() == pytest.approx(1)
    assert (figures > 0).all()
    before, after = np.abs(truth - plain), np.abs(truth - result)
    moved = (before > 0.7) & (np.abs(result - plain) > 0.7)
    change = float((after - before)[moved].sum() / (before > 0.7).sum())
    assert figures["hallucinated_m"] - figures["improved_m"] == pytest.approx(change, rel=1e-4)


def test_the_plain_map_omits_everything_and_the_truth_improves_everything():
    """The two ends of the scale."""
    truth, plain = relief(3), relief(3, 1)
    ends = {"sr": truth, "back_projection": plain}
    figures = Fidelity(truth, plain, ends, SPACING, 4).summary({})["all"]
    assert figures["sr"]["improved_share"] == 1
    assert figures["sr"]["improved_m"] == pytest.approx(figures["back_projection"]["omitted_m"])
    assert figures["back_projection"]["omitted_share"] == 1
    errors = {key: figures["sr"][key] for key in LANDFORMS}
    assert errors == pytest.approx(dict.fromkeys(LANDFORMS, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([-4719.0, -4100.0, -4101.0], 1.0),
        ([-10.0, 0.0, 30.0], 10.0),
        ([-10.1, -10.2, 3.3], 0.1),
        ([-4719.125, -4100.31], 0.0),
        ([-7.0, -7.0, np.nan], 0.0),
    ],
)
def test_step_of_rounding(values, step):
    """The largest common step; a flat map has none."""
    assert rounding_step_m(np.array(values, np.float32)) == step


@pytest.mark.parametrize("tilt", [0.0, 3.0])
def test_noise_is_told_from_planes(tilt):
    """White noise of 0.5 m, on a plane too; the flattest tenth of images lies a little below."""
    noise = np.random.default_rng(0).normal(0, 0.5, (60, 32, 32))
    maps = noise + tilt * np.arange(32)
    assert noise_sigma_m(maps) == pytest.approx(0.5, rel=0.08)
    assert noise_limit_m(maps) == pytest.approx(1.0, rel=0.08)
    rough = np.random.default_rng(1).normal(0, 50, (30, 32, 32))
    assert noise_sigma_m(np.concatenate([maps, rough])) == pytest.approx(0.5, rel=0.1)


def test_half_a_step_of_rounding_is_no_difference():
    """A smooth map of whole metres: 0.5 m are its own rounding."""
    maps = np.rint(np.tile(X * 0.001, (4, 1, 1)))
    assert noise_limit_m(maps[..., None]) == 0.5


def test_noise_with_gaps():
    """Missing pixels are left out, and images without any pixel too."""
    maps = np.random.default_rng(0).normal(0, 0.5, (40, 32, 32))
    maps[:, 3:6, 4:9] = np.nan
    maps[7] = np.nan
    assert noise_sigma_m(maps) == pytest.approx(0.5, rel=0.1)


# -- Landforms -----------------------------------------------------------------------------------


def test_a_quadratic_surface_is_found_exactly():
    """The derivatives of a quadratic surface are those of its formula everywhere."""
    z = 2e-4 * Y**2 - 3e-4 * X**2 + 1e-4 * X * Y + 0.5 * Y - 0.2 * X
    s = surface(z[None], SPACING)
    y, x = Y[1:-1, 1:-1], X[1:-1, 1:-1]
    np.testing.assert_allclose(s.y[0], 4e-4 * y + 1e-4 * x + 0.5, rtol=1e-9)
    np.testing.assert_allclose(s.x[0], -6e-4 * x + 1e-4 * y - 0.2, rtol=1e-9)
    for found, expected in ((s.yy, 4e-4), (s.xx, -6e-4), (s.xy, 1e-4)):
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("result", "slope", "aspect"),
    [
        (0.1 * X, 0.0, 90.0),
        (0.2 * Y, 0.1, 0.0),
        (-0.1 * Y, 0.0, 180.0),
        (0.1 * (X + Y), 0.0414, 45.0),
    ],
)
def test_planes_turned_and_steepened(result, slope, aspect):
    """The truth falls to the north by 0.1: turned by 90, steeper by 0.1, upside down, halfway."""
    table = landform_table((0.1 * Y)[None], result[None], SPACING, 400.0)
    figures = landform_figures(table).iloc[0]
    assert figures["slope_rmse"] == pytest.approx(slope, abs=1e-4)
    assert figures["aspect_error_deg"] == pytest.approx(aspect, abs=1e-6)
    assert figures["curvature_rmse_per_m"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(figures["line_error_m"])


@pytest.mark.parametrize("sign", [-1, 1])
def test_ridges_and_channels_lie_on_their_crest(sign):
    """A parabola about column 14: a line there, ridge or channel, and nowhere else."""
    z = sign * 1e-3 * (X - X[0, 14]) ** 2
    s = surface(z[None], SPACING)
    ridges, channels = lines(s, SPACING, 1e-3)
    line, other = (ridges, channels) if sign < 0 else (channels, ridges)
    assert np.flatnonzero(line[0].any(axis=0)).tolist() == [13]  # less the margin
    assert line[0, :, 13].all()
    assert not other.any()


def crest(column):
    """A smooth ridge along a column, (1, 24, 30)."""
    return (40 * np.exp(-(((X - X[0, column]) / 120) ** 2)))[None]


def test_a_shifted_ridge_is_off_by_its_shift():
    """Two columns of 50 m; a map without the ridge is off by as much as counts."""
    truth = crest(14)
    assert line_strength_per_m(truth, SPACING) > 0
    for shift in (0, 2, -3):
        figures = landform_figures(landform_table(truth, crest(14 + shift), SPACING, 400.0)).iloc[0]
        assert figures["line_error_m"] == pytest.approx(50 * abs(shift), abs=1e-6)
    figures = landform_figures(landform_table(truth, 0 * truth, SPACING, 400.0)).iloc[0]
    assert figures["line_error_m"] == 400


def test_lines_of_other_images_do_not_count():
    """The nearest line is that of the same image, however many there are."""
    both = np.concatenate([crest(14), 0 * crest(14)])
    found = landform_table(both, both[::-1], SPACING, 400.0)
    single = landform_table(both[:1], both[1:], SPACING, 400.0)
    assert found["line"].to_list() == pytest.approx([single["line"].sum()] * 2)


# -- Together ------------------------------------------------------------------------------------


def test_summary_and_table():
    """Every method has every figure, pooled by class and for each image."""
    truth, plain = relief(6), relief(6, 1)
    fidelity = Fidelity(truth, plain, {"sr": relief(6, 2), "bicubic": plain}, SPACING, 4)
    first = np.arange(6) < 2
    found = fidelity.summary({"0-0.05": first, "0.1-": np.zeros(6, bool)})
    assert found["noise_limit_m"] > 0
    assert set(found["all"]["sr"]) == set(FIGURES)
    assert all(v is None for v in found["slope_classes"]["0.1-"]["sr"].values())
    alone = Fidelity(truth[:2], plain[:2], {"sr": relief(6, 2)[:2]}, SPACING, 4)
    alone.limit_m = fidelity.limit_m
    share = found["slope_classes"]["0-0.05"]["sr"]["improved_share"]
    per_image = fidelity.per_image()
    assert list(per_image) == [f"{m}_{f}" for m in ("sr", "bicubic") for f in FIGURES]
    assert (
        per_image["sr_improved_share"][:2].min()
        <= share
        <= per_image["sr_improved_share"][:2].max()
    )


@pytest.mark.parametrize(("channels", "spacing"), [(1, None), (3, SPACING)])
def test_without_a_spacing_there_are_no_landforms(channels, spacing):
    """Shares and metres need none; slopes do, and a map."""
    truth, plain = np.repeat(relief(3), channels, 3), np.repeat(relief(3, 1), channels, 3)
    figures = Fidelity(truth, plain, {"sr": truth}, spacing, 4).summary({})["all"]["sr"]
    assert figures["improved_share"] == 1
    assert [figures[key] for key in LANDFORMS] == [None] * len(LANDFORMS)


def test_nothing_differs():
    """A flat sea floor has no detail to add."""
    flat = np.zeros((2, 24, 30, 1), np.float32)
    table = detail_table(flat, flat, flat, 0.0)
    assert detail_figures(table).isna().all(axis=None)
