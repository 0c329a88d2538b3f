"""Tiles cover a map once, see enough of it, can be left out, and fade into each other."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from toolbox.errors import ConfigError
from toolbox.inference.tiling import Tiling

#: Map, tile and halo: one tile, many, odd remainders, thin maps, a halo wider than the tile.
CASES = [
    ((1, 1), 1, 0),
    ((1, 40), 7, 3),
    ((40, 1), 40, 3),
    ((5, 6), 64, 9),
    ((13, 17), 4, 2),
    ((23, 31), 5, 0),
    ((37, 29), 3, 8),
    ((64, 48), 16, 4),
]
SCALE = 3


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def reader(lr):
    """Return a function that reads windows of `lr`."""
    return lambda rows, columns: lr[rows, columns]


def repeated(window):
    """Enlarge without looking around."""
    return window.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def averaging(reach):
    """Return an enlargement that looks `reach` pixels around, less at the margins."""

    def enhance(window):
        size = (2 * reach + 1, 2 * reach + 1, 1)
        inside = ndimage.uniform_filter(np.ones_like(window, np.float64), size, mode="constant")
        total = ndimage.uniform_filter(window.astype(np.float64), size, mode="constant")
        return repeated((total / inside).astype(np.float32))

    return enhance


def lumps(window):
    """Enlarge to the mean of the window: what no tile can know of another one."""
    return np.full_like(repeated(window), window.mean(dtype=np.float64))


def whole(tiling, lr, enhance, **options):
    """Return all strips in one piece."""
    return np.concatenate(list(tiling.strips(reader(lr), enhance, **options)))


@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_cores_partition_the_map(shape, tile, halo):
    """Every pixel belongs to one core, in order; none is larger than a tile."""
    tiling = Tiling(shape, SCALE, tile, halo)
    for parts, size in ((tiling.rows(), shape[0]), (tiling.columns(), shape[1])):
        covered = [i for part in parts for i in range(part.core.start, part.core.stop)]
        assert covered == list(range(size))
        assert all(0 < part.core.stop - part.core.start <= tile for part in parts)


@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_windows_have_one_size_and_hold_the_halo(shape, tile, halo):
    """Windows lie inside the map, are equal, and reach the halo or the margin of the map."""
    tiling = Tiling(shape, SCALE, tile, halo)
    for parts, size in ((tiling.rows(), shape[0]), (tiling.columns(), shape[1])):
        lengths = {part.window.stop - part.window.start for part in parts}
        assert lengths == {min(size, tile + 2 * halo)}
        for core, window in parts:
            assert 0 <= window.start <= max(0, core.start - halo)
            assert min(size, core.stop + halo) <= window.stop <= size


@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_inner_is_the_core_in_the_enlarged_window(shape, tile, halo):
    """The place of a core in its enlarged window holds the enlarged core."""
    line = np.arange(shape[0])
    for part in Tiling(shape, SCALE, tile, halo).rows():
        large = line[part.window].repeat(SCALE)
        np.testing.assert_array_equal(large[part.inner(SCALE)], line[part.core].repeat(SCALE))


@pytest.mark.parametrize("reach", [0, 1, 4])
@pytest.mark.parametrize(("shape", "tile"), [(case[0], case[1]) for case in CASES])
def test_tiles_equal_the_whole(shape, tile, reach):
    """With a halo as wide as the reach the tiles give the map of one piece."""
    lr, enhance = noise(*shape, 2), averaging(reach)
    tiled = whole(Tiling(shape, SCALE, tile, reach), lr, enhance)
    np.testing.assert_allclose(tiled, enhance(lr), rtol=0, atol=1e-6)


def test_a_halo_that_is_too_small_shows():
    """One pixel less than the reach gives other numbers, so the test above can fail."""
    lr, enhance = noise(37, 29, 1), averaging(4)
    tiled = whole(Tiling((37, 29), SCALE, 8, 3), lr, enhance)
    assert np.abs(tiled - enhance(lr)).max() > 1e-2


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_interrupted_work_goes_on_with_the_same_bytes(shape, tile, halo, blend):
    """Strips from any row of tiles on are those of the uninterrupted run."""
    tiling, lr = Tiling(shape, SCALE, tile, halo, blend), noise(*shape, 1)
    strips = list(tiling.strips(reader(lr), lumps))
    for first in range(len(strips) + 1):
        rest = list(tiling.strips(reader(lr), lumps, first))
        assert [s.tobytes() for s in rest] == [s.tobytes() for s in strips[first:]]


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_progress_counts_every_pixel_once(shape, tile, halo, blend):
    """Numbers of finished pixels add up to the map, or to what was left of it."""
    tiling, lr = Tiling(shape, SCALE, tile, halo, blend), noise(*shape, 1)
    for first, row in enumerate(tiling.rows()):
        counts = []
        whole(tiling, lr, lumps, first=first, done=counts.append)
        assert sum(counts) == (shape[0] - row.core.start) * shape[1]
        assert len(counts) == (len(tiling.rows()) - first) * len(tiling.columns())


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_strips_are_as_high_as_their_cores(shape, tile, halo, blend):
    """One strip a row of tiles, float32, as wide as the enlarged map, with all bands."""
    tiling, lr = Tiling(shape, SCALE, tile, halo, blend), noise(*shape, 2)
    for row, strip in zip(tiling.rows(), tiling.strips(reader(lr), repeated), strict=True):
        height = (row.core.stop - row.core.start) * SCALE
        assert (strip.shape, strip.dtype) == ((height, shape[1] * SCALE, 2), np.float32)


def test_memory_is_bounded():
    """A strip is handed over before the next row of tiles is read, blended or not."""
    lr = noise(60, 20, 1)
    for blend, ahead in ((False, 0), (True, 1)):
        rows_read = []

        def read(rows, columns, rows_read=rows_read):
            rows_read.append(rows.stop)
            return lr[rows, columns]

        tiling = Tiling((60, 20), SCALE, 10, 2, blend)
        windows = [row.window.stop for row in tiling.rows()]
        for i, _ in enumerate(tiling.strips(read, repeated)):
            assert max(rows_read) == windows[min(i + ahead, len(windows) - 1)]


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_every_window_is_enhanced_once(shape, tile, halo, blend):
    """No tile is computed twice: the network is what takes time."""
    calls = []

    def counted(window):
        calls.append(window)
        return repeated(window)

    tiling = Tiling(shape, SCALE, tile, halo, blend)
    whole(tiling, noise(*shape, 1), counted)
    assert len(calls) == len(tiling.rows()) * len(tiling.columns())


@pytest.mark.parametrize(("shape", "tile", "halo"), CASES)
def test_blending_windows_that_agree_changes_nothing(shape, tile, halo):
    """Where all windows have the same number, a tilted plane say, it is that number."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    plane = (3.0 * row - 2.0 * column - 4000.0).astype(np.float32)[..., None]
    blended = whole(Tiling(shape, SCALE, tile, halo, blend=True), plane, repeated)
    np.testing.assert_array_equal(blended, repeated(plane))


def test_blending_is_continuous():
    """From pixel to pixel a blend of windows that disagree changes by a small part of the gap.

    A fade over twice the halo of 4 LR pixels has 9 steps or more.
    """
    lr = noise(40, 44, 1)
    for axis in (0, 1):
        lr = np.sort(lr, axis=axis)  # windows whose means differ much
    blended = whole(Tiling((40, 44), SCALE, 10, 4, blend=True), lr, lumps).astype(np.float64)
    hard = whole(Tiling((40, 44), SCALE, 10, 4), lr, lumps).astype(np.float64)
    for axis in (0, 1):
        step, seam = (np.abs(np.diff(imgs, axis=axis)).max() for imgs in (blended, hard))
        assert 0 < step < 0.3 * seam


def test_blend_stays_between_its_windows():
    """A weighted mean of windows is nowhere beyond the least and the greatest of them."""
    lr = noise(33, 21, 1)
    tiling = Tiling((33, 21), SCALE, 6, 2, blend=True)
    means = [
        lr[row.window, column.window].mean(dtype=np.float64)
        for row, column in itertools.product(tiling.rows(), tiling.columns())
    ]
    blended = whole(tiling, lr, lumps)
    assert min(means) - 1e-6 <= blended.min() < blended.max() <= max(means) + 1e-6


def test_blending_keeps_gaps():
    """What is missing in every window is missing in the blend, and nothing else."""
    lr = noise(30, 26, 1)
    lr[4:9, 3:21] = np.nan
    lr[25, 25] = np.nan
    blended = whole(Tiling((30, 26), SCALE, 6, 2, blend=True), lr, repeated)
    np.testing.assert_array_equal(blended, repeated(lr))


@pytest.mark.parametrize("spoilt", [1, 3, 6])
@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (9, 41)])
def test_trimmed_margins_count_nothing(shape, spoilt):
    """What is wrong in the outermost pixels of a window is not seen, but those of the map are."""
    lr = noise(*shape, 1)

    def spoil(window):
        large, margin = repeated(window), spoilt * SCALE
        wrong = np.full_like(large, 1e6)
        for axis, size in enumerate(shape):
            if window.shape[axis] == size:
                return large
            inner = [slice(None)] * 3
            inner[axis] = slice(margin, -margin)
            wrong[tuple(inner)] = large[tuple(inner)]
        return wrong

    tiling = Tiling(shape, SCALE, 16, 6, blend=True, trim=spoilt)
    inside = whole(tiling, lr, spoil)[SCALE * 6 : -SCALE * 6, SCALE * 6 : -SCALE * 6]
    expected = repeated(lr)[SCALE * 6 : -SCALE * 6, SCALE * 6 : -SCALE * 6]
    np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [0, -3])
def test_tile_without_pixels_is_refused(tile):
    """The message names the number and one that works."""
    with pytest.raises(ConfigError, match=rf"tile must be 1 pixel or more; received {tile}\. Use"):
        Tiling((8, 8), 4, tile, 2)
