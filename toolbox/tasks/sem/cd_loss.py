"""Losses for SEM pictures: edges by Sobel, and the critical dimension in nanometres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from pydantic import Field

from toolbox.config import Count, Float, Weight
from toolbox.data_generator import PairStream
from toolbox.errors import ConfigError
from toolbox.tasks.sem.contour_loss import ContourShift, blurred, contour_shift

if TYPE_CHECKING:
    from toolbox.normalizer import Normalizer

Axis = Literal["vertical", "horizontal"]
#: Lags in rows at which the roughness of SR and HR is compared.
_LAGS = (1, 2, 4, 8, 16, 32)
#: Smallest contrast of an edge, as a share of the data range.
_LEAST_CONTRAST = 0.05
#: Smallest rise between the two pixels of a crossing, as a share of the contrast of the edge.
_LEAST_RISE = 0.05
#: HR edges closer to the sides than this are left out, pixels.
_SIDE = 4
#: Number of validation patches in which edges are sought before a run.
_EDGE_PATCHES = 64


class EdgeLoss:
    """Mean absolute difference of Sobel gradients.

    Called with ``(y_true, y_pred)``, both (N, H, W, C); returns (N,), in units of the images per
    pixel. Both gradients count, so an edge of any direction that moves or fades costs.
    """

    #: Sobel 1968, divided by 8: the gradient of a ramp is its slope.
    _KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 8

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each image."""
        difference = tf.cast(y_pred, tf.float32) - tf.cast(y_true, tf.float32)
        # Sobel is linear: the difference of gradients is the gradient of the difference.
        channels = difference.shape[3]
        kernel = np.stack([self._KERNEL, self._KERNEL.T], axis=-1)[:, :, None, :]
        kernel = np.repeat(kernel, channels, axis=2)
        padded = tf.pad(difference, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        gradients = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
        return tf.reduce_mean(tf.abs(gradients), axis=[1, 2, 3])


class _Edges(NamedTuple):
    """Left edges of lines, at most K per row, in order.

    Attributes
    ----------
    place : tf.Tensor, shape (N, H, K)
        Position, pixels, with the centre of pixel j at j.
    level, rise : tf.Tensor, shape (N, H, K)
        Grey value of the crossing, and smallest rise between the adjacent pixels.
    known : tf.Tensor of bool, shape (N, H, K)
        Whether there is an edge.
    """

    place: tf.Tensor
    level: tf.Tensor
    rise: tf.Tensor
    known: tf.Tensor


class CDLoss:
    """Displacement of the edges of lines, discs or holes, in nanometres.

    Called with ``(y_true, y_pred)``, both (N, H, W, C); returns (N,), the mean over channels.

    Form ``width`` (default): thresholds, edges and the windows around them come from HR, and no
    gradient flows through them. In SR, the nearest crossing of the same threshold is located to a
    fraction of a pixel; its derivative with respect to the two adjacent grey values is exact. With
    the displacements Δ of left and right edges, the loss is ::

        0.5 * (mean |Δ_left| + mean |Δ_right|) + 0.5 * |mean Δ_right - mean Δ_left| + w * R

    A line that is wider by δ costs δ, whether it is rough or straight. R compares roughness: at
    lags of 1 to 32 rows, the root mean square change of the edge between rows in SR with that in
    HR (the structure function, whose transform is the power spectrum). Smoothed edges cost as much
    as jagged ones. An edge without a crossing within `search_px` costs that distance.

    Form ``contour``, for discs and holes: contours of any direction are found in HR, and their
    displacements Δ across the contour, from bright to dark, are those of `contour_shift`. Each
    picture has its own level of the crossing, as in a measurement of diameters. The loss is ::

        mean |Δ| + |mean Δ|

    A disc or hole whose diameter is larger by δ costs δ: half of it by the second term, which is
    half of the bias of the mean diameter. A contour that SR lacks costs `search_px`.

    Form ``gradient``: the mean of ``| |dSR| - |dHR| |`` along the lines, as first specified. It
    cannot see the width of straight lines, because the derivative along a straight line is zero.

    Parameters
    ----------
    pixel_nm : float
        Size of an HR pixel.
    form : {'width', 'contour', 'gradient'}
        What is measured.
    lines : {'vertical', 'horizontal'}
        Direction of the lines; irrelevant for ``contour``.
    max_val : float
        Data range in the unit of the images; edges of less than 5 % of it are ignored.
    threshold : float
        Level of the crossing between the local minimum (0) and maximum (1).
    search_px : int
        Largest displacement that is measured, pixels.
    window_px : int
        Half width of the window for minimum and maximum, pixels.
    smooth_px : float
        Standard deviation of a Gaussian filter on both images, pixels: across the lines, or for
        ``contour`` in both directions.
    roughness_weight : float
        The weight w above; ``width`` only.
    noise_nm : float
        Standard deviation of the noise of HR edges, which is subtracted from their roughness.
    own_level : bool
        For ``width``: use the level between the minimum and maximum of SR itself for the crossing
        in SR, as measurements do, instead of the level of HR.
    """

    def __init__(
        self,
        pixel_nm: float = 1.0,
        form: Literal["width", "contour", "gradient"] = "width",
        lines: Axis = "vertical",
        max_val: float = 1.0,
        threshold: float = 0.5,
        search_px: int = 6,
        window_px: int = 6,
        smooth_px: float = 0.7,
        roughness_weight: float = 1.0,
        noise_nm: float = 0.0,
        own_level: bool = False,
    ) -> None:
        self.pixel_nm = float(pixel_nm)
        self.form = form
        self.lines = lines
        self.max_val = float(max_val)
        self.threshold = float(threshold)
        self.search_px = int(search_px)
        self.window_px = int(window_px)
        self.smooth_px = float(smooth_px)
        self.roughness_weight = float(roughness_weight)
        self.noise_nm = float(noise_nm)
        self.own_level = bool(own_level)

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each image, shape (N,)."""
        hr, sr = (self._planes(tf.cast(y, tf.float32)) for y in (y_true, y_pred))
        forms = {"width": self._width, "contour": self._contour, "gradient": self._gradient}
        loss = forms[self.form](hr, sr)
        return tf.reduce_mean(tf.reshape(loss, [-1, y_true.shape[3]]), axis=1)

    def count_edges(self, images: tf.Tensor) -> int:
        """Return the number of edge places in HR images; if it is 0, so is the loss.

        Parameters
        ----------
        images : tf.Tensor, shape (N, H, W, C)
            HR images in the unit of `max_val`. The edge of a line counts once per row.
        """
        hr = self._planes(tf.cast(images, tf.float32))
        if self.form == "contour":
            return int(tf.math.count_nonzero(self.contour_shift(hr, hr).known))
        hr = self._smoothed(hr)
        sides = (hr, tf.reverse(hr, [2]))
        return sum(int(tf.math.count_nonzero(self._edges(side).known)) for side in sides)

    def _planes(self, images: tf.Tensor) -> tf.Tensor:
        """Return the channels as separate planes with vertical lines: (N * C, H, W)."""
        order = [0, 3, 1, 2] if self.lines == "vertical" else [0, 3, 2, 1]
        planes = tf.transpose(images, order)
        shape = tf.shape(planes)
        return tf.reshape(planes, tf.stack([shape[0] * shape[1], shape[2], shape[3]]))

    def _gradient(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        steps = [tf.abs(y[:, 1:] - y[:, :-1]) for y in (sr, hr)]
        return tf.reduce_mean(tf.abs(steps[0] - steps[1]), axis=[1, 2])

    def _width(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        hr, sr = tf.stop_gradient(self._smoothed(hr)), self._smoothed(sr)
        displaced, shifts, rough = [], [], []
        # In the mirrored image, right edges are left ones and move the other way.
        for true, seen in ((hr, sr), (tf.reverse(hr, [2]), tf.reverse(sr, [2]))):
            edges = self._edges(true)
            if self.own_level:
                edges = edges._replace(level=self._own_level(seen, edges))
            moved, found = self._displacements(seen, edges)
            missed = tf.where(found, tf.abs(moved), float(self.search_px))
            displaced.append(_mean(missed, edges.known))
            shifts.append(_mean(moved, found))
            rough.append(self._roughness(edges, moved, found))
        edge, width = sum(displaced), tf.abs(shifts[0] + shifts[1])
        loss = 0.5 * edge + 0.5 * width + 0.5 * self.roughness_weight * sum(rough)
        return loss * self.pixel_nm

    def _contour(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        shift = self.contour_shift(hr, sr)
        missed = tf.where(shift.found, tf.abs(shift.moved_px), float(self.search_px))
        bias = tf.abs(_mean(shift.moved_px, shift.found))
        return (_mean(missed, shift.known) + bias) * self.pixel_nm

    def contour_shift(self, hr: tf.Tensor, sr: tf.Tensor) -> ContourShift:
        """Return the displacement of the contours of planes (N, H, W) for form ``contour``."""
        hr, sr = (blurred(picture, self.smooth_px) for picture in (hr, sr))
        least = _LEAST_CONTRAST * self.max_val
        return contour_shift(hr, sr, self.threshold, self.window_px, self.search_px, least)

    def _smoothed(self, planes: tf.Tensor) -> tf.Tensor:
        """Apply the Gaussian filter across the lines."""
        if not self.smooth_px:
            return planes
        half = int(np.ceil(3 * self.smooth_px))
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / self.smooth_px) ** 2)
        return _filtered(planes, kernel / kernel.sum())

    def _edges(self, hr: tf.Tensor) -> _Edges:
        """Find the left edges of lines in HR."""
        w = self.window_px
        calm = _calmed(hr)
        low, high = self._extremes(calm)
        contrast = high - low
        level = low + self.threshold * contrast
        rises = (hr[:, :, :-1] < level[:, :, :-1]) & (hr[:, :, 1:] >= level[:, :, :-1])
        # Bright rims also rise on their inner sides; an outer edge follows a dark space.
        before, after = -_maximum(-calm, w, 0), -_maximum(-calm, 0, w)
        dark = before < low + 0.3 * self.threshold * contrast
        # Behind the inner side of a rim it is dark; behind an outer edge is the line.
        dark &= before < after + _LEAST_RISE * contrast
        strong = contrast > _LEAST_CONTRAST * self.max_val
        # An edge that moves out of the image cannot be measured.
        column = tf.range(tf.shape(hr)[2])
        seen = (column >= _SIDE) & (column < tf.shape(hr)[2] - 1 - _SIDE)
        mask = rises & (dark & strong & seen)[:, :, :-1]
        width = hr.shape[2]
        count = 16 if width is None else int(np.clip(np.ceil(width / 8), 4, 64))
        first = tf.where(mask, -tf.range(tf.shape(mask)[2]), tf.int32.min)
        if width is None:
            # A narrow image may have fewer columns than places for edges.
            first = tf.pad(first, [[0, 0], [0, 0], [0, count]], constant_values=tf.int32.min)
        order, index = tf.math.top_k(first, count)
        index = tf.where(order > tf.int32.min, index, 0)
        value, after, at, span = (
            tf.gather(y, index, batch_dims=2) for y in (hr, hr[:, :, 1:], level, contrast)
        )
        # Without an edge, the span may be close to 0 and its reciprocal not finite.
        rise = _LEAST_RISE * tf.maximum(span, _LEAST_CONTRAST * self.max_val)
        share = (at - value) / tf.maximum(after - value, rise)
        return _Edges(tf.cast(index, tf.float32) + share, at, rise, order > tf.int32.min)

    def _extremes(self, calm: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return minimum and maximum in the window around each pixel, (N, H, W) each."""
        w = self.window_px
        return -_maximum(-calm, w, w), _maximum(calm, w, w)

    def _own_level(self, sr: tf.Tensor, edges: _Edges) -> tf.Tensor:
        """Return the grey value of the crossing between SR's own extremes, (N, H, K)."""
        index = tf.clip_by_value(tf.cast(tf.floor(edges.place), tf.int32), 0, tf.shape(sr)[2] - 1)
        low, high = (
            tf.gather(extreme, index, batch_dims=2) for extreme in self._extremes(_calmed(sr))
        )
        return low + self.threshold * (high - low)

    def _displacements(self, sr: tf.Tensor, edges: _Edges) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the displacement of the nearest crossing in SR, and whether there is one.

        Both have shape (N, H, K), one entry for each HR edge; the first is in pixels, 0 without a
        crossing.
        """
        reach = self.search_px + 1
        offsets = tf.range(-reach, reach + 1)
        base = tf.cast(tf.floor(edges.place), tf.int32)[..., None]
        columns = base + offsets
        inside = (columns >= 0) & (columns < tf.shape(sr)[2])
        kept = tf.clip_by_value(columns, 0, tf.shape(sr)[2] - 1)
        values = tf.gather(sr, kept, batch_dims=2) - edges.level[..., None]
        before, after = values[..., :-1], values[..., 1:]
        crossing = (before < 0) & (after >= 0) & inside[..., :-1] & inside[..., 1:]
        share = -before / tf.maximum(after - before, edges.rise[..., None])
        moved = tf.cast(columns[..., :-1], tf.float32) + share - edges.place[..., None]
        distance = tf.where(crossing, tf.abs(moved), 1e9)
        nearest = tf.argmin(distance, axis=-1)
        chosen = tf.one_hot(nearest, 2 * reach, on_value=True, off_value=False, dtype=tf.bool)
        best = tf.reduce_sum(tf.where(chosen, moved, 0.0), axis=-1)
        found = edges.known & (tf.reduce_min(distance, axis=-1) <= self.search_px)
        return tf.where(found, best, 0.0), found

    def _roughness(self, edges: _Edges, moved: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        """Return the difference in roughness between SR and HR, pixels, (N,)."""
        terms = []
        for lag in _LAGS:
            near, far = edges.place[:, :-lag, :, None], edges.place[:, lag:, None, :]
            distance = tf.abs(far - near)
            distance = tf.where(found[:, lag:, None, :], distance, 1e9)
            partner = tf.argmin(distance, axis=-1)
            linked = found[:, :-lag] & (tf.reduce_min(distance, axis=-1) < self.window_px)
            true = tf.gather(edges.place[:, lag:], partner, batch_dims=2) - edges.place[:, :-lag]
            added = tf.gather(moved[:, lag:], partner, batch_dims=2) - moved[:, :-lag]
            squares = [_mean(tf.square(change), linked) for change in (true, true + added)]
            # The noise of HR edges, independent between rows, is not roughness.
            squares[0] = tf.maximum(squares[0] - 2 * (self.noise_nm / self.pixel_nm) ** 2, 0.0)
            sizes = [tf.sqrt(square + 1e-6) for square in squares]
            terms.append(tf.abs(sizes[1] - sizes[0]))
        return tf.add_n(terms) / len(terms)


def _mean(values: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Return the mean over the known values of each image, (N,); 0 if there are none."""
    axes = list(range(1, len(values.shape)))
    total = tf.reduce_sum(tf.where(known, values, 0.0), axis=axes)
    count = tf.reduce_sum(tf.cast(known, tf.float32), axis=axes)
    return total / tf.maximum(count, 1.0)


def _calmed(planes: tf.Tensor) -> tf.Tensor:
    """Smooth planes (N, H, W) a little along the lines, so noise does not produce extremes."""
    return tf.transpose(_filtered(tf.transpose(planes, [0, 2, 1]), np.full(5, 0.2)), [0, 2, 1])


def _filtered(planes: tf.Tensor, kernel: np.ndarray) -> tf.Tensor:
    """Filter the rows of planes (N, H, W) with a short kernel, mirrored at the ends."""
    half = len(kernel) // 2
    padded = tf.pad(planes, [[0, 0], [0, 0], [half, half]], "SYMMETRIC")[..., None]
    weights = tf.constant(kernel.astype(np.float32)[None, :, None, None])
    return tf.nn.conv2d(padded, weights, 1, "VALID")[..., 0]


def _maximum(planes: tf.Tensor, before: int, after: int) -> tf.Tensor:
    """Return the maximum from `before` pixels left to `after` pixels right of each, (N, H, W)."""
    edges = [[0, 0], [0, 0], [before, after]]
    padded = tf.pad(planes, edges, constant_values=planes.dtype.min)[..., None]
    return tf.nn.max_pool2d(padded, (1, before + after + 1), 1, "VALID")[..., 0]


# The losses in the registry; the arguments after the images are the keys of the YAML section.


def edgeloss(y_true: tf.Tensor, y_pred: tf.Tensor, max_val: float = 1.0) -> tf.Tensor:
    """Return the mean absolute difference of Sobel gradients, shape (N,); see `EdgeLoss`."""
    return EdgeLoss()(y_true, y_pred)


def cdloss(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    form: Literal["width", "contour", "gradient"] = "width",
    lines: Axis = "vertical",
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5,
    search_px: Annotated[Count, Field(le=64)] = 6,
    window_px: Annotated[Count, Field(le=64)] = 6,
    smooth_px: Annotated[Float, Field(ge=0, le=5)] = 0.7,
    roughness_weight: Weight = 1.0,
    own_level: bool = False,
    noise_nm: float = 0.0,
    pixel_nm: float = 1.0,
    max_val: float = 1.0,
) -> tf.Tensor:
    """Return displacement of edges and change of roughness in nm, shape (N,); see `CDLoss`.

    Parameters
    ----------
    form : {'width', 'contour', 'gradient'}
        ``width``: displacement of the edges of lines and change of roughness; ``contour``:
        displacement of contours of any direction and change of the mean diameter, for discs and
        holes; ``gradient``: difference of changes along the lines, which does not see the width of
        straight lines.
    threshold : float
        Level of an edge between the local minimum and maximum: those of HR; for ``contour`` and
        with ``own_level``, those of each image itself.
    search_px : int
        Largest displacement that is measured, pixels; a lost edge costs the same.
    window_px : int
        Half width of the window for minimum and maximum, pixels; less than the width of a space or
        line.
    roughness_weight : float
        Weight of the change of roughness; ``width`` only.
    own_level : bool
        Use the level between SR's own minimum and maximum, as a measurement does; ``width`` only.
    """
    loss = CDLoss(
        pixel_nm,
        form,
        lines,
        max_val,
        threshold,
        search_px,
        window_px,
        smooth_px,
        roughness_weight,
        noise_nm,
        own_level,
    )
    return loss(y_true, y_pred)


def refuse_without_edges(settings: Any, validation: PairStream, normalizer: Normalizer) -> None:
    """Refuse a run whose `cdloss` would always be 0, because HR has no edge.

    Parameters
    ----------
    settings : UserParams
        Settings of the run.
    validation : toolbox.data_generator.PairStream
        Validation data.
    normalizer : toolbox.normalizer.Normalizer
        The fitted normaliser.

    Raises
    ------
    ConfigError
        If a sample of the patches, spread over the data, holds no edge.
    """
    section = settings.loss_params["cdloss"]
    if section["form"] == "gradient":
        return
    count = len(validation.raw_hr_imgs)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _EDGE_PATCHES)).astype(int))
    low, high = validation.raw_lr_imgs[chosen], validation.raw_hr_imgs[chosen]
    loss = CDLoss(max_val=normalizer.max_val, **section)
    if loss.count_edges(normalizer.normalize_pair(low, high)[1]):
        return
    contrast = float(np.nanmax(np.ptp(high, axis=(1, 2, 3))))
    what, fix = {
        "width": ("edges of lines", "cdloss.lines to the direction of the lines"),
        "contour": ("contours", "cdloss.window_px to less than the width of the objects"),
    }[section["form"]]
    raise ConfigError(
        f"{settings.fname}: cdloss must find {what} in the HR validation images, but finds none, "
        f"so it would always be 0; received a contrast of at most {contrast:g} in a range of "
        f"{normalizer.data_range:g}. Set norm_range to the range of the files, {fix}, or leave "
        f"cdloss out and set monitor_metric: val_psnr."
    )
