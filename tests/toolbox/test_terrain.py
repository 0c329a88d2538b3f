"""Slope, mean slope gradient and the tables of features."""

import numpy as np
import pandas as pd
import pytest

from toolbox.tasks.bathymetry.terrain import (
    SLOPE_CLASSES,
    class_name,
    feature_table,
    mean_slope_gradient,
    slope,
    write_feature_csv,
)

MANUAL_COLUMNS = [
    "index",
    "mean_slope_gradient",
    "altitude_difference",
    "mean_altitude",
    "mean_slope_gradient_norm_data",
]


def plane(rows, columns, row_slope, column_slope, row_m, column_m):
    """Return a plane (H, W) in metres that rises by the given slopes, m/m."""
    row, column = np.mgrid[:rows, :columns]
    return row * row_m * row_slope + column * column_m * column_slope - 4000.0


@pytest.fixture
def hills():
    """Four images (N, 16, 16, 1) of growing relief, metres, float32."""
    relief = np.array([1, 5, 20, 80])[:, None, None]
    imgs = relief * np.random.default_rng(0).normal(size=(4, 16, 16)) - 1500
    return imgs[..., None].astype(np.float32)


@pytest.mark.parametrize("delta", [50.0, (92.77, 74.48)])
@pytest.mark.parametrize(("up", "across"), [(0.3, 0.0), (0.0, -0.4), (0.3, -0.4)])
def test_plane_gives_its_own_slope(delta, up, across):
    """Every pixel with nine neighbours has the plane's slope, whatever the spacing."""
    row_m, column_m = delta if isinstance(delta, tuple) else (delta, delta)
    result = slope(plane(8, 10, up, across, row_m, column_m), delta)
    assert result.shape == (6, 8)
    np.testing.assert_allclose(result, np.hypot(up, across), rtol=1e-9)


def test_spacing_pair_may_be_a_list():
    """A pair read from JSON or YAML works like a tuple."""
    img = plane(6, 6, 0.1, 0.2, 30, 40)
    np.testing.assert_array_equal(slope(img, [30, 40]), slope(img, (30, 40)))


def test_slope_by_hand_beside_a_spike():
    """A spike of 6 m on flat ground at spacing 1 m: (6 / 6, 0) beside it, (1, 1) diagonally."""
    img = np.zeros((5, 5))
    img[2, 2] = 6
    root = np.sqrt(2)
    np.testing.assert_allclose(slope(img, 1.0), [[root, 1, root], [1, 0, 1], [root, 1, root]])


def test_slope_takes_stacks_with_and_without_channel(hills):
    """(N, H, W, 1), (N, H, W) and (H, W) give the same numbers."""
    expected = slope(hills, 50)
    assert expected.shape == (4, 14, 14)
    np.testing.assert_array_equal(slope(hills[..., 0], 50), expected)
    np.testing.assert_array_equal(slope(hills[2, ..., 0], 50), expected[2])


def test_slope_beside_a_gap_is_missing():
    """The nine pixels around a gap have no slope; the others keep theirs."""
    img = plane(9, 9, 0.1, 0, 50, 50)
    img[4, 4] = np.nan
    missing = np.isnan(slope(img, 50))
    expected = np.zeros((7, 7), bool)
    expected[2:5, 2:5] = True
    np.testing.assert_array_equal(missing | expected, expected)
    assert missing[[2, 2, 4, 4], [2, 4, 2, 4]].all()


@pytest.mark.parametrize(("size", "factor"), [(64, 0.938), (16, 0.766)])
def test_counting_the_border_shrinks_the_mean(size, factor):
    """Border pixels counted as 0 shrink the mean by the factors that the docstring states."""
    img = plane(size, size, 0.1, 0.05, 50, 50)
    whole = mean_slope_gradient(img, 50)
    assert whole == pytest.approx(np.hypot(0.1, 0.05))
    shrunk = mean_slope_gradient(img, 50, count_border=True)
    assert shrunk / whole == pytest.approx(factor, abs=5e-4)


def test_msg_ignores_depth_and_scales_with_relief(hills):
    """Adding a depth changes nothing, doubling the relief doubles the gradient."""
    msg = mean_slope_gradient(hills.astype(np.float64), 50)
    assert msg.shape == (4,)
    np.testing.assert_allclose(mean_slope_gradient(hills.astype(np.float64) + 1000, 50), msg)
    np.testing.assert_allclose(mean_slope_gradient(2 * hills.astype(np.float64), 50), 2 * msg)
    np.testing.assert_allclose(mean_slope_gradient(hills, 100), msg / 2, rtol=1e-6)


def test_feature_table_has_the_manuals_columns(hills):
    """The HR table has five columns, the LR table a sixth."""
    assert list(feature_table(hills, 50, False)) == MANUAL_COLUMNS
    lr = feature_table(hills, 200, True)
    assert list(lr) == [*MANUAL_COLUMNS, "normalized_mean_slope_gradient"]


def test_feature_table_by_hand(hills):
    """Index, relief, mean depth and gradient are those of each image."""
    table = feature_table(hills, (50, 40), True)
    np.testing.assert_array_equal(table["index"], [0, 1, 2, 3])
    flat = hills.reshape(4, -1).astype(np.float64)
    np.testing.assert_allclose(table["altitude_difference"], np.ptp(flat, axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["mean_altitude"], flat.mean(axis=1), rtol=1e-9)
    msg = mean_slope_gradient(hills, (50, 40))
    np.testing.assert_allclose(table["mean_slope_gradient"], msg)
    stretched = table["normalized_mean_slope_gradient"]
    assert (stretched.min(), stretched.max()) == (0, 1)
    np.testing.assert_allclose(stretched, (msg - msg.min()) / (msg.max() - msg.min()))


def test_norm_data_column_is_the_gradient_of_normalised_data(hills):
    """Scaling all images by their common minimum and maximum first gives the same column."""
    scaled = (hills.astype(np.float64) - hills.min()) / (float(hills.max()) - float(hills.min()))
    column = feature_table(hills, 50, False)["mean_slope_gradient_norm_data"]
    np.testing.assert_allclose(column, mean_slope_gradient(scaled, 50), rtol=1e-6)


def test_flat_images_have_a_table_of_zeros():
    """Images without relief divide by nothing."""
    table = feature_table(np.full((2, 8, 8), -100.0, np.float32), 50, True)
    assert (table.drop(columns=["index", "mean_altitude"]) == 0).all(axis=None)


def test_written_table_reads_back(hills, tmp_path):
    """The CSV holds the table, and nothing else is left in the folder."""
    path = tmp_path / "data_LR.csv"
    table = write_feature_csv(hills, 200, path, True)
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == ["data_LR.csv"]


def test_slope_classes_have_the_manuals_names():
    """The names are those in the manual's file names."""
    assert [class_name(*limits) for limits in SLOPE_CLASSES] == ["0-0.05", "0.05-0.1", "0.1-"]
