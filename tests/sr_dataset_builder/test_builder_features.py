"""The programs bathymetric_map_feature and bathymetric_map_feature_LR."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from sr_dataset_builder import bathymetric_map_feature, bathymetric_map_feature_LR

COLUMNS = [
    "index",
    "mean_slope_gradient",
    "altitude_difference",
    "mean_altitude",
    "mean_slope_gradient_norm_data",
]


@pytest.fixture
def planes():
    """Three tilted planes of 16² pixels: metres per pixel down the rows, then the columns."""
    row, column = np.mgrid[:16, :16]
    tilts = ((0.0, 10.0), (30.0, 40.0), (5.0, 0.0))
    return np.array([-1000 + a * row + b * column for a, b in tilts], np.float32)


def tabulate(program, images, workshop, *options):
    """Run a program on images; return its table."""
    source = workshop.write_pickle(images, workshop.folder / "data.pkl")
    assert program.main([str(source), *options]) == 0
    return pd.read_csv(source.with_suffix(".csv"))


def test_hr_table_of_planes(workshop, planes):
    """A plane rising 10 m a pixel at 50 m has slope 0.2; (30, 40) makes 1.0; columns as named."""
    table = tabulate(bathymetric_map_feature, planes, workshop)
    assert list(table.columns) == COLUMNS
    assert table["index"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(table["mean_slope_gradient"], [0.2, 1.0, 0.1], rtol=1e-5)
    np.testing.assert_allclose(table["altitude_difference"], [150, 1050, 75], rtol=1e-5)
    np.testing.assert_allclose(table["mean_altitude"], planes.mean(axis=(1, 2)), rtol=1e-5)
    span = planes.max() - planes.min()
    expected = np.array([0.2, 1.0, 0.1]) / span
    np.testing.assert_allclose(table["mean_slope_gradient_norm_data"], expected, rtol=1e-5)


def test_slope_equals_a_plain_loop(workshop):
    """On rough ground the mean slope is that of the manual's 3 × 3 differences, pixel by pixel."""
    h = np.random.default_rng(3).normal(-500, 40, (1, 7, 9)).astype(np.float32)
    slopes = []
    for r in range(1, 6):
        for c in range(1, 8):
            window = h[0, r - 1 : r + 2, c - 1 : c + 2].astype(float)
            sx = (window[2].sum() - window[0].sum()) / (6 * 50)
            sy = (window[:, 2].sum() - window[:, 0].sum()) / (6 * 50)
            slopes.append(np.hypot(sx, sy))
    table = tabulate(bathymetric_map_feature, h, workshop)
    assert table["mean_slope_gradient"][0] == pytest.approx(np.mean(slopes))


@pytest.mark.parametrize(
    ("options", "expected"),
    [(("--delta", "100"), [0.1, 0.5, 0.05]), (("--delta", "25", "100"), [0.1, 1.264911, 0.2])],
)
def test_delta_is_settable(workshop, planes, options, expected):
    """One spacing serves both directions, two are those of rows and of columns."""
    table = tabulate(bathymetric_map_feature, planes, workshop, *options)
    np.testing.assert_allclose(table["mean_slope_gradient"], expected, rtol=1e-5)


def test_lr_program_adds_the_normalised_slope(workshop, planes):
    """The main() of the LR program has 200 m as default and the column that mixup reads."""
    table = tabulate(bathymetric_map_feature_LR, planes, workshop)
    assert list(table.columns) == [*COLUMNS, "normalized_mean_slope_gradient"]
    np.testing.assert_allclose(table["mean_slope_gradient"], [0.05, 0.25, 0.025], rtol=1e-5)
    expected = [0.025 / 0.225, 1, 0]
    np.testing.assert_allclose(table["normalized_mean_slope_gradient"], expected, atol=1e-5)


def test_spacing_comes_from_the_data_sets_record(workshop, planes):
    """In a data set the recorded spacing counts, one for LR and one for HR."""
    record = {"delta_lr_m": 400.0, "delta_hr_m": [100.0, 100.0]}
    (workshop.folder / "dataset.json").write_text(json.dumps(record))
    source = workshop.write_pickle(planes[..., None], workshop.folder / "test" / "data_HR.pkl")
    assert bathymetric_map_feature.main([str(source)]) == 0
    table = pd.read_csv(source.with_suffix(".csv"))
    np.testing.assert_allclose(table["mean_slope_gradient"], [0.1, 0.5, 0.05], rtol=1e-5)


def test_images_with_and_without_a_channel_give_one_table(workshop, planes):
    """(N, H, W) and (N, H, W, 1) are the same images."""
    first = tabulate(bathymetric_map_feature, planes, workshop)
    pd.testing.assert_frame_equal(
        first, tabulate(bathymetric_map_feature, planes[..., None], workshop)
    )


def test_flat_images_have_slope_zero_everywhere(workshop):
    """Flat ground divides nothing by zero."""
    table = tabulate(bathymetric_map_feature_LR, np.full((2, 8, 8), -30.0), workshop)
    slopes = table.filter(like="slope")
    assert slopes.notna().all(axis=None)
    assert (slopes == 0).all(axis=None)


def test_rubbish_is_refused_in_one_line(workshop, capsys):
    """Missing files, evil pickles, all-NaN and other arrays end in one line and write nothing."""
    trace = workshop.evil_pickle(workshop.folder / "evil.pkl")
    workshop.write_pickle(np.zeros((4, 4)), workshop.folder / "plane.pkl")
    workshop.write_pickle({"a": 1}, workshop.folder / "dict.pkl")
    before = workshop.snapshot()
    words = {
        "evil": "never executed",
        "plane": "expected images of shape (N, H, W)",
        "dict": "dict.pkl: expected",
        "missing": "no such file",
    }
    for name, word in words.items():
        assert bathymetric_map_feature.main([str(workshop.folder / f"{name}.pkl")]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert word in lines[0]
    assert not trace.exists()
    assert workshop.snapshot() == before


def test_all_nan_images_are_refused(workshop, capsys):
    """Images that hold nothing but NaN have no features: one line, no table."""
    source = workshop.write_pickle(np.full((2, 8, 8), np.nan), workshop.folder / "nan.pkl")
    assert bathymetric_map_feature.main([str(source)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not source.with_suffix(".csv").exists()


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"delta_hr_m": "wide"}'])
def test_damaged_record_is_refused_in_one_line(workshop, planes, capsys, content):
    """A dataset.json that cannot be used is named in one line."""
    (workshop.folder / "dataset.json").write_text(content)
    source = workshop.write_pickle(planes, workshop.folder / "data_HR.pkl")
    assert bathymetric_map_feature.main([str(source)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "dataset.json" in lines[0]


def test_program_prints_a_summary(workshop, planes, capsys):
    """The reader sees the file, the spacing and the ranges of the features."""
    tabulate(bathymetric_map_feature, planes, workshop)
    lines = capsys.readouterr().out
    assert "data.csv: 3 images at 50 m" in lines
    rows = pd.read_csv(io.StringIO("\n".join(lines.splitlines()[1:])), sep=r"\s+", index_col=0)
    assert rows.loc["max", "mean_slope_gradient"] == pytest.approx(1.0, rel=1e-4)
