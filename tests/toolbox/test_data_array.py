"""Labelled arrays: coordinates of finer pixels, and what is carried over."""

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.io.data_array import enlarged_array, refined

xarray = pytest.importorskip("xarray")


def repeated(scale):
    """Return an enlargement that repeats pixels."""
    return lambda plane: plane.repeat(scale, axis=0).repeat(scale, axis=1)


def sample(**changes):
    """Return a small map of two dates with coordinates of every kind."""
    coordinates = {
        "time": ("time", np.array(["2020-01-01", "2021-01-01"], "datetime64[ns]")),
        "lat": ("lat", [10.0, 8.0, 6.0], {"units": "degrees_north"}),
        "lon": ("lon", np.array([0, 1, 2, 3], np.int16)),
        "row": ("lat", ["a", "b", "c"]),
        "easting": ("lon", [100.0, 200.0, 300.0, 400.0]),
        "crs": ((), 4326, {"grid_mapping_name": "latitude_longitude"}),
        "area": (("lat", "lon"), np.ones((3, 4))),
        "tide": ("time", [0.5, 0.7]),
    }
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    options = {"name": "depth", "attrs": {"units": "m", "positive": "up"}, **changes}
    return xarray.DataArray(values, coordinates, ("time", "lat", "lon"), **options)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("step", [0.25, -0.1, 50.0, 2.0**-20])
def test_refined_even_spacing(step, scale):
    """The mean of the fine centres is the coarse centre, and the outer edges stay."""
    centres = 140.0 + step * np.arange(6)
    fine = refined(centres, scale)
    assert (fine.shape, fine.dtype) == ((6 * scale,), np.float64)
    np.testing.assert_allclose(fine.reshape(6, scale).mean(1), centres, rtol=1e-14)
    np.testing.assert_allclose(np.diff(fine), step / scale, rtol=1e-5)
    fine_edge, edge = fine[[0, -1]] - [step / scale / 2, -step / scale / 2], step / 2
    np.testing.assert_allclose(fine_edge, centres[[0, -1]] + [-edge, edge], rtol=1e-14)


def test_refined_golden():
    """Two pixels of 1 degree become four of half a degree, by hand."""
    np.testing.assert_array_equal(refined([10, 11], 2), [9.75, 10.25, 10.75, 11.25])
    np.testing.assert_array_equal(refined([11, 10], 2), [11.25, 10.75, 10.25, 9.75])


def test_refined_uneven_spacing_keeps_the_order():
    """Between uneven centres the fine ones are interpolated, and they never turn back."""
    centres = np.array([0.0, 1.0, 3.0, 3.5, 10.0])
    fine = refined(centres, 4)
    assert (np.diff(fine) > 0).all()
    np.testing.assert_allclose(refined(-centres, 4), -fine)
    assert refined(centres, 1) == pytest.approx(centres)


def test_refined_keeps_float64():
    """A longitude in float32 is refined without losing digits."""
    fine = refined(np.float32([139.9, 140.0]), 2)
    assert fine.dtype == np.float64
    np.testing.assert_allclose(np.diff(fine), 0.05, rtol=1e-4)


def test_refined_float32_is_even():
    """Coordinates that are even but for the rounding of float32 give even finer ones."""
    fine = refined(np.arange(139, 140, 0.01, np.float32), 3)
    np.testing.assert_allclose(np.diff(fine), 0.01 / 3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(1,), (0,), (2, 2)])
def test_refined_needs_two_centres(shape):
    """A single pixel has no known size to divide."""
    with pytest.raises(ValueError, match="two or more centres"):
        refined(np.ones(shape), 3)


def test_coordinate_of_a_single_pixel_is_left_out():
    """Repeated, it would put several pixels in one place."""
    result = enlarged_array(sample()[:, :1], 2, repeated(2))
    assert result.shape == (2, 2, 8)
    assert "lat" not in result.coords
    np.testing.assert_array_equal(result["lon"], np.arange(8) / 2 - 0.25)


def test_at_scale_one_every_coordinate_is_kept():
    """The pixels are the same, so what cannot be divided need not be."""
    data = sample()[:, :1]
    xarray.testing.assert_identical(enlarged_array(data, 1, repeated(1)), data)


def test_everything_that_describes_the_map_is_carried_over():
    """Name, attributes and other coordinates are kept, those of rows and columns refined."""
    data = sample()
    result = enlarged_array(data, 2, repeated(2))
    assert (result.dims, result.shape) == (("time", "lat", "lon"), (2, 6, 8))
    assert (result.name, result.attrs) == ("depth", data.attrs)
    np.testing.assert_array_equal(
        result.values, repeated(2)(data.values[0])[None] + [[[0]], [[12]]]
    )
    np.testing.assert_array_equal(result["lat"], [10.5, 9.5, 8.5, 7.5, 6.5, 5.5])
    assert result["lat"].attrs == {"units": "degrees_north"}
    np.testing.assert_array_equal(result["lon"], np.arange(8) / 2 - 0.25)
    np.testing.assert_array_equal(result["easting"], 75.0 + 50 * np.arange(8))
    for name in ("time", "tide", "crs"):
        xarray.testing.assert_identical(result[name].drop_vars("crs"), data[name].drop_vars("crs"))
    assert result["crs"].attrs == data["crs"].attrs
    assert "area" not in result.coords
    assert "row" not in result.coords


def test_input_is_left_alone():
    """The array handed in keeps its numbers, coordinates and attributes."""
    data, copy = sample(), sample()
    result = enlarged_array(data, 3, repeated(3))
    result.attrs["units"] = "feet"
    result["lat"].attrs["units"] = "inches"
    xarray.testing.assert_identical(data, copy)


@pytest.mark.parametrize("leading", [(), (1,), (2,), (3, 2)])
def test_any_number_of_leading_axes(leading):
    """Every plane is enlarged by itself and lands in its place."""
    values = np.random.default_rng(0).normal(size=(*leading, 3, 4))
    data = xarray.DataArray(values)
    result = enlarged_array(data, 2, repeated(2))
    assert result.dims == data.dims
    single = values.astype(np.float32)
    np.testing.assert_array_equal(result, single.repeat(2, axis=-2).repeat(2, axis=-1))
    assert not result.coords


def test_one_axis_is_refused():
    """A profile is no map; its axes are named."""
    with pytest.raises(DataError, match=r"with rows and columns; received the axes .*'lon'"):
        enlarged_array(sample()[0, 0], 2, repeated(2))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 4)])
def test_empty_array_is_refused(shape):
    """An array without a pixel gets a line of its own, not one of NumPy's."""
    with pytest.raises(DataError, match="received"):
        enlarged_array(xarray.DataArray(np.zeros(shape)), 2, repeated(2))


def test_longitudes_go_on_over_the_seam():
    """Degrees that start anew at 0 or -180 are divided as if they went on."""
    west = refined(np.array([359.0, 359.5, 0.0, 0.5]), 2)
    np.testing.assert_allclose(
        west, [358.875, 359.125, 359.375, 359.625, 359.875, 0.125, 0.375, 0.625]
    )
    date_line = refined(np.array([179.5, -179.5, -178.5]), 2)
    np.testing.assert_allclose(date_line, [179.25, 179.75, -179.75, -179.25, -178.75, -178.25])


@pytest.mark.parametrize("name", ["depth", "sea_floor_depth_below_geoid"])
def test_declared_depths_come_in_and_go_out(name):
    """A standard name that declares depths turns the sign for the network and back."""
    seen = []
    data = xarray.DataArray(np.full((3, 4), 7.0), attrs={"standard_name": name})

    def predict(plane):
        seen.append(float(plane.max()))
        return plane.repeat(2, 0).repeat(2, 1)

    assert float(enlarged_array(data, 2, predict).min()) == 7.0
    assert seen == [-7.0]
