"""EdgeLoss and CDLoss: in nanometres for lines and discs of known width, finite for the rest."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from sr_dataset_builder.simulate_sem import rough_edges
from toolbox.registry import LOSSES
from toolbox.tasks.sem.cd_loss import CDLoss, EdgeLoss, cdloss, edgeloss
from toolbox.tasks.sem.discs import Disc, measure_disc
from toolbox.tasks.sem.metrology import find_lines

PIXEL_NM = 0.8
PITCH_NM, CD_NM = 32.0, 16.0
CHANGES_NM = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, -0.25, -0.5, -1.0, -2.0, -3.0, -4.0)


@functools.cache
def edges(sigma_nm, seed=0, shape=(96, 128), shift=0.0):
    """Return left and right edges (lines, rows) of 16 nm lines at a pitch of 32 nm, pixels."""
    starts = np.arange(-1, shape[1] * PIXEL_NM / PITCH_NM + 1) * PITCH_NM / PIXEL_NM + 9 + shift
    left, right = np.repeat(starts[:, None], shape[0], 1), starts[:, None] + CD_NM / PIXEL_NM
    right = np.repeat(right, shape[0], 1)
    if sigma_nm:
        drawn = rough_edges(
            np.random.default_rng(seed), (2 * len(starts), shape[0]), PIXEL_NM, sigma_nm, 10.0, 0.5
        )
        left, right = left + drawn[::2] / PIXEL_NM, right + drawn[1::2] / PIXEL_NM
    return left, right


def picture(left, right, width=128, inside=0.3, rim=0.5, ground=0.15):
    """Draw lines with bright rims, eight times as fine, blurred by half a pixel: (1, H, W, 1)."""
    x = (np.arange(8 * width) + 0.5) / 8 - 0.5
    fine = np.full((left.shape[1], len(x)), ground)
    for a, b in zip(left[..., None], right[..., None], strict=True):
        line = inside + rim * (np.exp(-0.4 * np.abs(x - a)) + np.exp(-0.4 * np.abs(b - x)))
        fine = np.where((x >= a) & (x <= b), line, fine)
    fine = ndimage.gaussian_filter(fine, (0.5, 4.0))
    return fine.reshape(len(fine), width, 8).mean(axis=2).astype(np.float32)[None, ..., None]


@functools.cache
def lines(sigma_nm=0.0, wider_left_nm=0.0, wider_right_nm=0.0, seed=0, shift=0.0):
    """Draw the lines of `edges` with both edges moved outwards."""
    left, right = edges(sigma_nm, seed, shift=shift)
    return picture(left - wider_left_nm / PIXEL_NM, right + wider_right_nm / PIXEL_NM)


def cost(true, seen, **settings):
    """Return the CD loss of one picture in nm."""
    return float(CDLoss(PIXEL_NM, **settings)(true, seen)[0])


def noise(seed=0, shape=(2, 24, 32, 1)):
    """Return pure noise between 0 and 1."""
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


# -- width -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["width", "contour", "gradient"])
@pytest.mark.parametrize("sigma_nm", [0.0, 0.8, 1.5])
def test_nothing_for_identical_pictures(form, sigma_nm):
    """What is the same costs nothing, exactly."""
    assert cost(lines(sigma_nm), lines(sigma_nm), form=form) == 0


@pytest.mark.parametrize("change_nm", CHANGES_NM)
@pytest.mark.parametrize("sigma_nm", [0.8, 1.5])
def test_width_of_rough_lines_in_nanometres(sigma_nm, change_nm):
    """Lines that are wider or narrower by δ cost |δ|, within 5 %."""
    for seed in range(3):
        seen = lines(sigma_nm, change_nm / 2, change_nm / 2, seed)
        assert cost(lines(sigma_nm, seed=seed), seen) == pytest.approx(abs(change_nm), rel=0.05)


@pytest.mark.parametrize("change_nm", CHANGES_NM)
def test_width_of_straight_lines_in_nanometres(change_nm):
    """|δ| within 10 % over all places between two pixels, within 10 % and 0.09 nm at the worst."""
    costs = [
        cost(lines(shift=shift), lines(0.0, change_nm / 2, change_nm / 2, shift=shift))
        for shift in (0.0, 0.2, 0.4, 0.6, 0.8)
    ]
    assert np.mean(costs) == pytest.approx(abs(change_nm), rel=0.1)
    np.testing.assert_allclose(costs, abs(change_nm), rtol=0.1, atol=0.09)


@pytest.mark.parametrize("change_nm", [0.5, 2.0, -1.0])
def test_one_edge_that_moves(change_nm):
    """Half for the displacement of one edge in two, half for the width: |δ| in all."""
    seen = lines(0.8, wider_right_nm=change_nm)
    assert cost(lines(0.8), seen) == pytest.approx(abs(change_nm), rel=0.05)


def test_lines_that_move_sidewards():
    """Both edges are displaced, the width is not: δ."""
    for shift_nm in (0.5, 2.0):
        seen = lines(0.8, -shift_nm, shift_nm)
        assert cost(lines(0.8), seen) == pytest.approx(shift_nm, rel=0.05)


def test_lines_of_low_contrast_and_without_rims():
    """Lines without rims, and lines a tenth as bright, are measured as well."""
    left, right = edges(0.8)
    for kind in ({"rim": 0.0}, {"inside": 0.19, "rim": 0.05, "ground": 0.1}):
        true, seen = (picture(left - d, right + d, **kind) for d in (0.0, 0.5 / PIXEL_NM))
        assert cost(true, seen) == pytest.approx(1.0, rel=0.05)


def test_inner_sides_of_rims_are_no_edges():
    """Rims whose valley is next to as dark as the spaces do not count as lines of their own."""
    left, right = edges(1.5)
    true, seen = (picture(left - d, right + d, ground=0.2) for d in (0.0, 0.5 / PIXEL_NM))
    assert cost(true, seen) == pytest.approx(1.0, rel=0.06)


def test_edges_at_the_sides_do_not_count():
    """An edge that moves out of the picture is not taken for one that vanished."""
    left, right = edges(0.0)
    costs = []
    for shift in np.arange(0, 40, 2.5):
        true, seen = (picture(left + shift - d, right + shift + d) for d in (0.0, 1.0))
        costs.append(cost(true, seen))
    np.testing.assert_allclose(costs, 2 * PIXEL_NM, rtol=0.06)


def test_lines_that_vanish_cost_the_search_distance():
    """Half of it per edge where SR shows nothing at all."""
    assert cost(lines(), np.full_like(lines(), 0.2), search_px=5) == pytest.approx(5 * PIXEL_NM)


def test_brightness_counts_as_far_as_it_moves_the_edge():
    """The threshold is HR's: a fainter picture has narrower lines, and that costs."""
    assert 0 < cost(lines(0.8), 0.9 * lines(0.8)) < 1


@pytest.mark.parametrize("change_nm", CHANGES_NM)
def test_width_at_the_level_of_sr(change_nm):
    """With `own_level`, lines that are wider or narrower by δ cost |δ| as well, within 5 %."""
    seen = lines(0.8, change_nm / 2, change_nm / 2)
    assert cost(lines(0.8), seen, own_level=True) == pytest.approx(abs(change_nm), rel=0.05)


def test_brightness_is_nothing_at_the_level_of_sr():
    """With `own_level`, gain and offset move no edge; a picture that shows nothing still costs."""
    assert cost(lines(0.8), 0.6 * lines(0.8) + 0.1, own_level=True) < 1e-3
    flat = np.full_like(lines(), 0.2)
    assert cost(lines(), flat, own_level=True, search_px=5) == pytest.approx(5 * PIXEL_NM)


@pytest.mark.parametrize("blur_px", [1.0, 2.0, 3.0])
def test_a_blur_costs_the_width_that_is_measured(blur_px):
    """Rims that fade lower the level, so lines are measured wider: `own_level` sees by how much."""
    true, seen = lines(), ndimage.gaussian_filter1d(lines(), blur_px, axis=2)
    widths = []
    for image in (true, seen):
        found = find_lines(image[0, ..., 0], 0.5)
        widths.append(float(np.nanmean(found.right_px - found.left_px)) * PIXEL_NM)
    measured = abs(widths[1] - widths[0])
    assert cost(true, seen, own_level=True) == pytest.approx(measured, rel=0.15)
    assert abs(cost(true, seen) - measured) > 0.3 * measured


@pytest.mark.parametrize("sigma_nm", [0.8, 1.5])
def test_smoothed_edges_cost_roughness(sigma_nm):
    """Edges that a network made straighter, of the same mean CD, cost more than their way."""
    left, right = edges(sigma_nm)
    smooth = [ndimage.gaussian_filter1d(edge, 4, axis=1, mode="wrap") for edge in (left, right)]
    true, seen = picture(left, right), picture(*smooth)
    without = cost(true, seen, roughness_weight=0.0)
    assert cost(true, seen) > without + 0.1 * sigma_nm
    twice = cost(true, seen, roughness_weight=2.0)
    once = cost(true, seen, roughness_weight=1.0)
    assert twice - without == pytest.approx(2 * (once - without), rel=1e-4)
    # The other way round, straight edges that became rough, costs as well.
    assert cost(seen, true) > cost(seen, true, roughness_weight=0.0) + 0.1 * sigma_nm


def test_noise_of_the_truth_is_no_roughness():
    """A jitter of HR's edges asks for rougher edges, unless its size is told."""
    left, right = edges(0.8)
    jitter = np.random.default_rng(0).normal(scale=0.4 / PIXEL_NM, size=(2, *left.shape))
    noisy, clean = picture(left + jitter[0], right + jitter[1]), picture(left, right)
    # Drawn half a pixel wide, 0.3 nm are left. What is added to the displacements is the roughness.
    plain, untold, told = (
        cost(noisy, clean, roughness_weight=weight, noise_nm=noise_nm)
        for weight, noise_nm in ((0.0, 0.0), (1.0, 0.0), (1.0, 0.3))
    )
    assert untold - plain > 0.15
    assert told - plain < 0.05


def test_cost_scales_with_the_pixel():
    """Twice the size of a pixel, twice the nanometres."""
    pair = lines(0.8), lines(0.8, 0.5, 0.5)
    ones = [float(CDLoss(size)(*pair)[0]) for size in (1.0, 2.0, 0.5)]
    np.testing.assert_allclose(ones, ones[0] * np.array([1, 2, 0.5]), rtol=1e-6)


def test_data_range_scales_with_the_pictures():
    """16-bit counts with their range cost the same as shares of one."""
    true, seen = lines(0.8), lines(0.8, 0.5, 0.5)
    counts = cost(true * 65535, seen * 65535, max_val=65535.0)
    assert counts == pytest.approx(cost(true, seen), rel=1e-3)


# -- gradient --------------------------------------------------------------------------------------


def test_gradient_form_is_blind_to_width():
    """Straight vertical lines of any width have no change along themselves: the cost is nought."""
    assert cost(lines(), lines(0.0, 1.0, 1.0), form="gradient") == pytest.approx(0, abs=1e-6)
    assert cost(lines(), lines(0.0, 1.0, 1.0)) == pytest.approx(2.0, rel=0.1)


def test_gradient_form_equals_its_formula():
    """Mean of ||dSR| - |dHR|| from row to row, whatever the size of a pixel."""
    true, seen = noise(0), noise(1)
    change = np.abs(np.abs(np.diff(seen, axis=1)) - np.abs(np.diff(true, axis=1)))
    found = CDLoss(PIXEL_NM, form="gradient")(true, seen)
    np.testing.assert_allclose(found, change.mean(axis=(1, 2, 3)), rtol=1e-5)


# -- contours --------------------------------------------------------------------------------------


#: Radius, and whether it is a hole.
DISCS = ((25, False), (33, True))


@functools.cache
def disc(radius, wider_nm=0.0, rim=0.3, blur=0.6, hole=False, centre=(47.3, 48.6), size=96):
    """Draw a disc with a bright rim, or its negative, eight times as fine: (1, H, W, 1)."""
    y, x = ((np.arange(8 * size) + 0.5) / 8 - 0.5 - place for place in centre)
    depth = radius + wider_nm / 2 / PIXEL_NM - np.hypot(y[:, None], x[None])
    inside = 0.55 + rim * np.exp(-np.maximum(depth, 0) / 3)
    image = ndimage.gaussian_filter(np.where(depth >= 0, inside, 0.12), 8 * blur)
    image = image.reshape(size, 8, size, 8).mean((1, 3)).astype(np.float32)[None, ..., None]
    return 1 - image if hole else image


def grainy(image, seed):
    """Add a little noise, so that no two pixels tie for a minimum, a maximum or a ridge."""
    grain = np.random.default_rng(seed).normal(0, 0.01, image.shape)
    return image + grain.astype(np.float32)


def contour_cost(true, seen, **settings):
    """Return the CD loss of contours of one picture in nm, without smoothing."""
    return cost(true, seen, **{"form": "contour", "smooth_px": 0.0, **settings})


@pytest.mark.parametrize("change_nm", [0.0, 0.25, 1.0, 2.0, 4.0, -0.25, -1.0, -2.0, -4.0])
@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("rim", [0.0, 0.3])
def test_diameters_in_nanometres(change_nm, hole, rim):
    """A disc or a hole whose diameter is larger by δ costs |δ|, within 10 % and 0.05 nm."""
    for radius in (16.2, 24.7, 33.1):
        true, seen = (disc(radius, d, rim=rim, hole=hole) for d in (0.0, change_nm))
        expected = pytest.approx(abs(change_nm), rel=0.1, abs=0.05 if change_nm else 0)
        assert contour_cost(true, seen) == expected


def test_a_disc_that_moves_keeps_its_diameter():
    """Displaced by δ: the mean of |δ cos| is 2δ/π, and the diameter is as it was."""
    seen = disc(24.7, centre=(47.3, 48.6 + 1.0 / PIXEL_NM))
    assert contour_cost(disc(24.7), seen) == pytest.approx(2 / np.pi, rel=0.05)


def test_contours_are_those_that_are_measured():
    """A blur moves levels and edges of rims: the cost is the change of the measured diameter."""
    place = Disc(47.3, 48.6, 24.7)
    true = disc(24.7)
    before = measure_disc(true[0, ..., 0], place).radius_px
    for blur in (0.8, 1.0, 1.4):
        after = measure_disc(disc(24.7, blur=blur)[0, ..., 0], place).radius_px
        change_nm = 2 * PIXEL_NM * (after - before)
        assert contour_cost(true, disc(24.7, blur=blur)) == pytest.approx(
            change_nm, rel=0.12, abs=0.02
        )


def test_brightness_does_not_move_contours():
    """The level is SR's own: another brightness and contrast cost nothing."""
    assert contour_cost(disc(24.7), 0.6 * disc(24.7) + 0.2) == pytest.approx(0, abs=1e-3)


def test_contours_in_a_noisy_truth():
    """Noise of HR, 3 % of its range, is no bias: discs of the same size cost what it jitters."""
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(4):
        true = disc(24.7) + rng.normal(0, 0.03, (1, 96, 96, 1)).astype(np.float32)
        loss = CDLoss(PIXEL_NM, form="contour", smooth_px=0.7)
        shift = loss.contour_shift(true[..., 0], disc(24.7)[..., 0])
        shifts.append(2 * PIXEL_NM * float(shift.moved_px.numpy()[shift.found.numpy()].mean()))
    assert abs(np.mean(shifts)) < 0.1


def test_inner_sides_of_rims_are_no_contours():
    """Of a ring there is only the outer edge, as in the measurement of a disc."""
    loss = CDLoss(PIXEL_NM, form="contour")
    ring = disc(30.0, rim=0.6, blur=1.0)
    known = loss.contour_shift(ring[..., 0], ring[..., 0]).known
    circumference = 2 * np.pi * 30
    assert 0.8 * circumference < np.count_nonzero(known) < 1.4 * circumference


def test_discs_that_vanish_cost_the_search_distance():
    """At every point where SR shows nothing at all."""
    flat = np.full_like(disc(24.7), 0.2)
    assert contour_cost(disc(24.7), flat, search_px=5) == pytest.approx(5 * PIXEL_NM)


def test_gradient_of_contours_agrees_with_finite_differences():
    """Along ten random smooth directions, levels included; a disc is not learnt from HR."""
    true = tf.constant(grainy(disc(24.7), 0))
    given = tf.constant(grainy(disc(24.7, 1.1, blur=0.9), 1))
    with tf.GradientTape() as tape:
        tape.watch([true, given])
        value = CDLoss(PIXEL_NM, form="contour", smooth_px=0.0)(true, given)
    of_true, slope = tape.gradient(value, [true, given])
    assert of_true is None
    rng = np.random.default_rng(0)
    for _ in range(10):
        way = ndimage.gaussian_filter(rng.normal(size=(96, 96)), 2)[None, ..., None]
        ends = [contour_cost(true, given + step * way.astype("f4")) for step in (2e-3, -2e-3)]
        found = float((slope * way).numpy().sum())
        assert (ends[0] - ends[1]) / 4e-3 == pytest.approx(found, rel=0.05, abs=0.02)


# -- shapes and types ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["width", "gradient"])
def test_horizontal_lines_are_vertical_ones_turned(form):
    """Transposed pictures cost the same when told so."""
    true, seen = lines(0.8), lines(0.8, 0.5, 0.2)
    turned = [np.swapaxes(y, 1, 2) for y in (true, seen)]
    expected = cost(true, seen, form=form)
    assert cost(*turned, form=form, lines="horizontal") == pytest.approx(expected, rel=1e-4)


def test_channels_and_images_are_apart():
    """A value per image, the mean over its channels."""
    first, second = lines(0.8, 0.5, 0.5), lines(0.8, 1.0, 1.0)
    true = np.concatenate([lines(0.8)] * 2, axis=3)
    true = np.concatenate([true, true])
    seen = np.concatenate(
        [np.concatenate([first, second], axis=3), np.concatenate([first, first], axis=3)]
    )
    single = [cost(lines(0.8), y) for y in (first, second)]
    found = CDLoss(PIXEL_NM)(true, seen).numpy()
    np.testing.assert_allclose(found, [np.mean(single), single[0]], rtol=1e-4)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.float64])
def test_other_precision_is_cast(dtype):
    """Predictions of mixed precision are judged in float32, within their own rounding."""
    true, seen = lines(0.8), lines(0.8, 0.5, 0.5)
    loss = CDLoss(PIXEL_NM)(true, tf.cast(seen, dtype))
    assert loss.dtype == tf.float32
    assert float(loss[0]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("form", "own_level"), [("width", False), ("width", True), ("contour", False)]
)
def test_eager_graph_and_xla_agree(form, own_level):
    """Value and gradient of the three ways to run agree to 1e-5."""
    true = tf.constant(np.concatenate([lines(0.8), lines(1.5)]))
    seen = tf.constant(np.concatenate([lines(0.8, 0.5, 0.2), lines(1.5, -0.5, 0.3)]))
    if form == "contour":
        true, seen = (
            tf.constant(np.concatenate([grainy(disc(r, wider, hole=h), r) for r, h in DISCS]))
            for wider in (0.0, 0.7)
        )

    def both(y_true, y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            loss = CDLoss(PIXEL_NM, form, own_level=own_level)
            value = loss(y_true, y_pred) + EdgeLoss()(y_true, y_pred)
        return value, tape.gradient(value, y_pred)

    eager = both(true, seen)
    for compiled in (tf.function(both), tf.function(both, jit_compile=True)):
        for found, expected in zip(compiled(true, seen), eager, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["width", "contour", "gradient"])
def test_unknown_height_and_width(form):
    """One traced function takes pictures of any size, down to 11 pixels."""
    spec = tf.TensorSpec([None, None, None, 1])
    loss = CDLoss(PIXEL_NM, form=form)
    traced = tf.function(loss.__call__, input_signature=[spec, spec])
    for size in (96, 40, 11):
        true, seen = (y[:, :size, :size] for y in (lines(0.8), lines(0.8, 0.5, 0.5)))
        np.testing.assert_allclose(traced(true, seen), loss(true, seen), rtol=1e-4, atol=1e-6)


# -- gradients -------------------------------------------------------------------------------------


def strange_pairs():
    """Pairs without lines, or without a sensible answer."""
    zero, one = np.zeros((1, 32, 40, 1), np.float32), np.ones((1, 32, 40, 1), np.float32)
    crop = lines(0.8)[:, :32, :40]
    return {
        "zero": (zero, zero),
        "one": (one, one),
        "zero for one": (one, zero),
        "flat": (0.3 * one, 0.4 * one),
        "nothing seen": (crop, zero),
        "all white seen": (crop, one),
        "nothing there": (zero, crop),
        "saturated": (np.clip(crop * 9, 0, 1), np.clip(crop * 9 - 1, 0, 1)),
        "binary": ((crop > 0.4).astype(np.float32), (crop > 0.5).astype(np.float32)),
        "noise": (noise(0), noise(1)),
        "noise seen": (crop, noise(1, crop.shape)),
        "next to nothing": (1e-25 * crop, crop),
        "huge": (crop, 1e6 * crop),
        "tiny": (lines(0.8)[:, :11, :11], lines(0.8, 0.5, 0.5)[:, :11, :11]),
        "tiny noise": (noise(0, (1, 11, 11, 1)), noise(1, (1, 11, 11, 1))),
        "identical": (crop, crop),
    }


@pytest.mark.parametrize("name", list(strange_pairs()))
@pytest.mark.parametrize(
    "function",
    [
        cdloss,
        functools.partial(cdloss, own_level=True),
        functools.partial(cdloss, form="contour"),
        edgeloss,
    ],
)
def test_finite_whatever_comes(function, name):
    """Value and gradient are numbers, with the arguments in either order."""
    for true, seen in (strange_pairs()[name], strange_pairs()[name][::-1]):
        given = tf.constant(seen)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = function(tf.constant(true), given)
        slope = tape.gradient(value, given)
        assert value.shape == (len(seen),)
        assert np.isfinite(value).all()
        assert (value.numpy() >= 0).all()
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(("own_level", "step"), [(False, 1e-3), (True, 1e-4)])
def test_gradient_agrees_with_finite_differences(own_level, step):
    """Along ten random directions, of a picture whose edges do not lie on pixels."""
    true, seen = lines(0.8), lines(0.8, 0.6, 0.4).astype(np.float32)
    if own_level:  # in even spaces, the minimum would be at many places at once
        seen = seen + 0.1 * noise(0, (1, 1, 128, 1))
    given = tf.constant(seen)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = CDLoss(PIXEL_NM, own_level=own_level)(true, given)
    slope = tape.gradient(value, given).numpy()
    rng = np.random.default_rng(0)
    for _ in range(10):
        # One direction for all rows, so that no roughness at a kink is disturbed.
        way = np.broadcast_to(rng.normal(size=(1, 1, 128, 1)), seen.shape).astype(np.float32)
        ends = [cost(true, seen + by * way, own_level=own_level) for by in (step, -step)]
        expected = pytest.approx(float((slope * way).sum()), rel=0.03)
        assert (ends[0] - ends[1]) / (2 * step) == expected


def test_edges_are_counted():
    """Both edges of every whole line count in every row; faint or turned lines have none."""
    # Three lines of 20 pixels at a pitch of 40: left edges at 9, 49 and 89.
    assert CDLoss().count_edges(lines()) == 6 * 96
    assert CDLoss(lines="horizontal").count_edges(lines().swapaxes(1, 2)) == 6 * 96
    assert CDLoss(lines="horizontal").count_edges(lines()) == 0
    assert CDLoss(max_val=16.0).count_edges(lines()) == 0
    flat = np.ones((2, 16, 16, 1), np.float32)
    assert CDLoss().count_edges(flat) == CDLoss(form="contour").count_edges(flat) == 0
    assert CDLoss(form="contour").count_edges(disc(24.7)) > 2 * np.pi * 24.7 * 0.8
    assert CDLoss(form="contour", max_val=16.0).count_edges(disc(24.7)) == 0


def test_no_gradient_flows_through_hr():
    """Windows and thresholds are those of HR, which is not to be learnt."""
    true = tf.constant(lines(0.8))
    with tf.GradientTape() as tape:
        tape.watch(true)
        value = CDLoss(PIXEL_NM)(true, tf.constant(lines(0.8, 0.5, 0.5)))
    assert tape.gradient(value, true) is None


# -- edges by Sobel --------------------------------------------------------------------------------


def test_edge_loss_against_scipy():
    """Equal to the mean absolute value of SciPy's Sobel filters of the difference, over 8."""
    true, seen = noise(0, (2, 17, 23, 3)), noise(1, (2, 17, 23, 3))
    difference = seen.astype(float) - true
    # SciPy smooths along all other axes, so it gets one plane at a time.
    for image in range(2):
        planes = [
            np.abs(ndimage.sobel(difference[image, ..., c], axis=axis, mode="reflect")) / 8
            for c in range(3)
            for axis in (0, 1)
        ]
        assert float(edgeloss(true, seen)[image]) == pytest.approx(np.mean(planes), rel=1e-5)


def test_edge_loss_of_a_ramp_is_its_slope():
    """A ramp along one axis: the slope there, nothing across, so half of it on average."""
    ramp = np.broadcast_to(0.03 * np.arange(66.0)[:, None], (66, 40)).astype(np.float32)
    image = np.zeros((1, 66, 40, 1), np.float32)
    # At the mirrored first and last rows the slope is half as large.
    expected = 0.03 / 2 * 65 / 66
    for y in (ramp, -ramp):
        assert float(EdgeLoss()(image, y[None, ..., None])[0]) == pytest.approx(expected, rel=1e-5)
        turned = np.swapaxes(y[None, ..., None], 1, 2)
        assert float(EdgeLoss()(np.swapaxes(image, 1, 2), turned)[0]) == pytest.approx(
            expected, rel=1e-5
        )


def test_edge_loss_does_not_see_an_offset():
    """Brightness as a whole is not its matter; identical pictures cost nothing."""
    assert float(EdgeLoss()(lines(0.8), lines(0.8))[0]) == 0
    assert float(EdgeLoss()(lines(0.8), lines(0.8) + 0.25)[0]) == pytest.approx(0, abs=1e-6)


def test_edge_loss_sees_a_width():
    """Lines of another width cost, straight as they are."""
    costs = [float(EdgeLoss()(lines(), lines(0.0, d, d))[0]) for d in (0.25, 0.5, 1.0)]
    assert 0 < costs[0] < costs[1] < costs[2]


def test_registry_knows_both():
    """Under the names of the manual, with the settings as arguments."""
    assert LOSSES.resolve("edgeloss") is edgeloss
    pair = lines(0.8), lines(0.8, 0.5, 0.2)
    found = LOSSES.resolve("cdloss")(*pair, pixel_nm=PIXEL_NM, search_px=5, smooth_px=1.0)
    expected = CDLoss(PIXEL_NM, search_px=5, smooth_px=1.0)(*pair)
    np.testing.assert_allclose(found, expected)
