"""Displacement of closed contours between two pictures, for `cdloss` on discs and holes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

#: Distance of the samples along a normal, pixels.
_STEP = 0.5
#: Standard deviation of the Gaussian filter before the gradient that gives normals, pixels.
_CALM_PX = 1.0
#: Smallest gradient of a contour, as a share of the steepest in the picture.
_LEAST_STEEPNESS = 0.4
#: Largest distance of a contour from the steepest place next to it, pixels.
_NEAR_PX = 2.0
#: Smallest cosine between the normals of points that share a level.
_SAME_WAY = 0.7
#: Smallest fall between two samples at a crossing, as a share of the contrast.
_LEAST_FALL = 0.02
#: Smallest contrast of a contour in SR, as a share of that in HR.
_LEAST_LEFT = 0.05
#: Largest number of points per picture.
_MOST_POINTS = 512
#: Points nearer to the sides than this are left out, pixels.
_SIDE = 4


class _Points(NamedTuple):
    """Points on contours; all tensors (N, K).

    Attributes
    ----------
    row, column : tf.Tensor
        Position, pixels.
    down, right : tf.Tensor
        Unit vector across the contour, from bright to dark.
    known : tf.Tensor of bool
        Whether there is a point.
    """

    row: tf.Tensor
    column: tf.Tensor
    down: tf.Tensor
    right: tf.Tensor
    known: tf.Tensor


class ContourShift(NamedTuple):
    """Displacement of contours; all tensors (N, K).

    Attributes
    ----------
    moved_px : tf.Tensor
        Displacement from bright to dark, pixels: positive for a bright disc that grew, negative for
        a hole that grew.
    known, found : tf.Tensor of bool
        Whether HR has a contour there, and whether SR has one within reach.
    """

    moved_px: tf.Tensor
    known: tf.Tensor
    found: tf.Tensor


def contour_shift(
    hr: tf.Tensor,
    sr: tf.Tensor,
    threshold: float,
    window_px: int,
    search_px: int,
    least_contrast: float,
) -> ContourShift:
    """Measure the displacement of the contours of SR against those of HR, across the contour.

    Contours are found in HR, where the gradient is largest along its own direction. Profiles
    across them are sampled in both pictures at the same places. As in a measurement, the level is
    between the minimum outside and the maximum inside of the mean profile of nearby points, and
    each picture has its own. The contour is where the profile of the point crosses that level.
    Brightness and contrast of SR therefore do not count, but a level that moves does.

    No gradient flows through HR. The gradient with respect to SR is exact, including its level.

    Parameters
    ----------
    hr, sr : tf.Tensor, shape (N, H, W)
        The two pictures.
    threshold : float
        Level between minimum (0) and maximum (1).
    window_px : int
        Distance from a point within which minimum, maximum and the points that share them are
        sought, pixels.
    search_px : int
        Largest displacement that is found, pixels.
    least_contrast : float
        Smallest difference between maximum and minimum in HR.

    Returns
    -------
    ContourShift
        Up to one point for every 8 pixels, at most 512.
    """
    hr = tf.stop_gradient(hr)
    points = _points(hr)
    reach = max(window_px, search_px + _NEAR_PX) + 1
    ways = np.arange(-reach, reach + _STEP / 2, _STEP, dtype=np.float32)
    true, seen = (_profiles(picture, points, ways) for picture in (hr, sr))
    share = _shares(points, window_px)
    middle, half = len(ways) // 2, round(window_px / _STEP)

    def levels(profiles: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean = tf.matmul(share, profiles)
        low = tf.reduce_min(mean[:, :, middle : middle + half + 1], axis=2)
        return low, tf.reduce_max(mean[:, :, middle - half : middle + 1], axis=2)

    low, high = levels(true)
    contrast = high - low
    # The inner side of a bright rim falls too, but it is darkest on the other side of the rim.
    darkest = tf.reduce_min(tf.matmul(share, true), axis=2)
    outer = low < darkest + 0.3 * threshold * contrast
    fall = _LEAST_FALL * tf.maximum(contrast, least_contrast)
    places, clear = _crossings(true - (low + threshold * contrast)[..., None], ways, 0.0, fall)
    clear &= tf.abs(places) <= _NEAR_PX
    known = points.known & outer & (contrast > least_contrast) & clear
    low, high = levels(seen)
    level = (low + threshold * (high - low))[..., None]
    now, found = _crossings(seen - level, ways, places[..., None], fall)
    found &= known & (high - low > _LEAST_LEFT * contrast) & (tf.abs(now - places) <= search_px)
    return ContourShift(tf.where(found, now - places, 0.0), known, found)


def _points(hr: tf.Tensor) -> _Points:
    """Find the ridges of the gradient of HR: the steepest ones if there are too many."""
    calm = blurred(hr, _CALM_PX)
    padded = tf.pad(calm, [[0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    right = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    steep = tf.sqrt(tf.square(down) + tf.square(right))
    rows, columns = tf.shape(hr)[1], tf.shape(hr)[2]
    row, column = tf.range(rows)[:, None], tf.range(columns)[None, :]
    seen = (row >= _SIDE) & (row < rows - _SIDE) & (column >= _SIDE) & (column < columns - _SIDE)
    largest = tf.reduce_max(steep, axis=[1, 2], keepdims=True)
    mask = seen & (steep > _LEAST_STEEPNESS * largest) & _is_ridge(steep, down, right)
    flat = tf.reshape(tf.where(mask, steep, 0.0), [-1, rows * columns])
    count = _MOST_POINTS
    if hr.shape[1] is not None and hr.shape[2] is not None:
        count = int(np.clip(hr.shape[1] * hr.shape[2] // 8, 16, _MOST_POINTS))
    # A small picture may have fewer pixels than places for points.
    order, index = tf.math.top_k(tf.pad(flat, [[0, 0], [0, count]]), count)
    known = order > 0
    index = tf.where(known, index, 0)
    length = tf.where(known, order, 1.0)
    down, right = (
        -tf.gather(tf.reshape(part, [-1, rows * columns]), index, batch_dims=1) / length
        for part in (down, right)
    )
    row, column = (tf.cast(part, tf.float32) for part in (index // columns, index % columns))
    return _Points(row, column, down, right, known)


def _is_ridge(steep: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return where the gradient is larger than in the pixels before and behind (Canny 1986)."""
    padded = tf.pad(steep, [[0, 0], [1, 1], [1, 1]])

    def shifted(rows: int, columns: int) -> tf.Tensor:
        height, width = tf.shape(steep)[1], tf.shape(steep)[2]
        return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    def largest(rows: int, columns: int) -> tf.Tensor:
        return (steep > shifted(rows, columns)) & (steep >= shifted(-rows, -columns))

    tangent = float(np.tan(np.pi / 8))
    flat = tf.abs(down) <= tangent * tf.abs(right)
    upright = tf.abs(right) <= tangent * tf.abs(down)
    slanted = tf.where(down * right > 0, largest(1, 1), largest(1, -1))
    return tf.where(flat, largest(0, 1), tf.where(upright, largest(1, 0), slanted))


def _profiles(picture: tf.Tensor, points: _Points, ways: np.ndarray) -> tf.Tensor:
    """Sample a picture (N, H, W) across contours, (N, K, M); border pixels are repeated."""
    height, width = tf.shape(picture)[1], tf.shape(picture)[2]
    flat = tf.reshape(picture, [-1, height * width])
    parts = []
    for start, way, size in (
        (points.row, points.down, height),
        (points.column, points.right, width),
    ):
        place = start[..., None] + way[..., None] * ways
        place = tf.clip_by_value(place, 0.0, tf.cast(size - 1, tf.float32))
        first = tf.minimum(tf.cast(tf.floor(place), tf.int32), tf.maximum(size - 2, 0))
        second = tf.minimum(first + 1, size - 1)
        parts.append((first, second, place - tf.cast(first, tf.float32)))
    (top, bottom, below), (left, right, beside) = parts

    def at(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        return tf.gather(flat, row * width + column, batch_dims=1)

    upper = at(top, left) * (1 - beside) + at(top, right) * beside
    lower = at(bottom, left) * (1 - beside) + at(bottom, right) * beside
    return upper * (1 - below) + lower * below


def _shares(points: _Points, window_px: int) -> tf.Tensor:
    """Return the weights of all points in the mean around each point, (N, K, K)."""
    apart = [tf.square(part[:, :, None] - part[:, None, :]) for part in (points.row, points.column)]
    cosine = sum(part[:, :, None] * part[:, None, :] for part in (points.down, points.right))
    near = (tf.add_n(apart) <= window_px**2) & (cosine > _SAME_WAY)
    near &= points.known[:, :, None] & points.known[:, None, :]
    weight = tf.cast(near, tf.float32)
    return weight / tf.maximum(tf.reduce_sum(weight, axis=2, keepdims=True), 1.0)


def _crossings(
    values: tf.Tensor, ways: np.ndarray, about: tf.Tensor | float, fall: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where profiles fall through 0 near a place, pixels, and whether they do; (N, K)."""
    before, after = values[..., :-1], values[..., 1:]
    falls = (before > 0) & (after <= 0)
    share = before / tf.maximum(before - after, fall[..., None])
    places = ways[:-1] + _STEP * share
    distance = tf.where(falls, tf.abs(places - about), 1e9)
    nearest = tf.argmin(distance, axis=-1)
    chosen = tf.one_hot(nearest, len(ways) - 1, on_value=True, off_value=False, dtype=tf.bool)
    place = tf.reduce_sum(tf.where(chosen & falls, places, 0.0), axis=-1)
    return place, tf.reduce_any(falls, axis=-1)


def blurred(planes: tf.Tensor, sigma_px: float) -> tf.Tensor:
    """Blur pictures (N, H, W) by a Gaussian, mirrored at the sides; 0 leaves them unchanged."""
    if not sigma_px:
        return planes
    half = int(np.ceil(3 * sigma_px))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    images = tf.pad(planes, [[0, 0], [half, half], [half, half]], "SYMMETRIC")[..., None]
    images = tf.nn.conv2d(images, kernel[:, None, None, None], 1, "VALID")
    return tf.nn.conv2d(images, kernel[None, :, None, None], 1, "VALID")[..., 0]
