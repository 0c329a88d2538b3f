"""Pairs of patches cut block by block while two maps are read from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sr_dataset_builder.map_rows import Rows
from toolbox.errors import DataError
from toolbox.progress import progress


class Strip(NamedTuple):
    """The patches of one row of patches.

    Attributes
    ----------
    row : int
        Row of blocks.
    lr, hr : numpy.ndarray, shape (blocks, n, h, w)
        Patches side by side of each block.
    whole : numpy.ndarray, shape (blocks, n), bool
        Whether neither has a missing pixel.
    """

    row: int
    lr: np.ndarray
    hr: np.ndarray
    whole: np.ndarray


class BlockRows:
    """Patches of a low- and a high-resolution map, cut within blocks as `Dataset.block_split` does.

    A few rows of the maps are held at a time.

    Parameters
    ----------
    lr, hr : Rows
        The maps, (h, w) and (h * scale, w * scale) or a little more.
    block_shape : (int, int)
        Number of blocks (rows, columns).
    img_shape, stride : (int, int)
        Size of LR patches and offset between them, pixels.
    scale : int
        High resolution ÷ low resolution.

    Raises
    ------
    DataError
        If there are more blocks than pixels, or a block is smaller than a patch.
    """

    def __init__(
        self,
        lr: Rows,
        hr: Rows,
        block_shape: Sequence[int],
        img_shape: Sequence[int],
        stride: Sequence[int],
        scale: int,
    ) -> None:
        self.lr, self.hr, self.scale = lr, hr, scale
        self.blocks = block_shape[0], block_shape[1]
        self.img_shape, self.stride = img_shape, stride
        self.size = lr.shape[0] // block_shape[0], lr.shape[1] // block_shape[1]
        if not all(self.size):
            raise DataError(
                f"block_shape {tuple(block_shape)} has more blocks than the low-resolution map of "
                f"{tuple(lr.shape)} has pixels. Use fewer blocks."
            )
        refuse_small_blocks(lr.shape, self.blocks, self.size, img_shape)
        # Strips overlap, and the low-resolution map may be made from rows further down.
        hr.behind = max(hr.behind, 2 * img_shape[0] * scale)

    def strips(self, label: str) -> Iterator[Strip]:
        """Yield row after row of patches, with a bar of progress."""
        offsets = range(0, self.size[0] - self.img_shape[0] + 1, self.stride[0])
        tops = [(row, row * self.size[0] + i) for row in range(self.blocks[0]) for i in offsets]
        for row, top in progress(tops, label):
            bottom = top + self.img_shape[0]
            lr = self._patches(self.lr.rows(top, bottom), 1)
            hr = self._patches(self.hr.rows(top * self.scale, bottom * self.scale), self.scale)
            yield Strip(row, lr[0], hr[0], lr[1] & hr[1])

    def counts(self, label: str) -> np.ndarray:
        """Return the number of complete pairs in each block, (rows, columns)."""
        found = np.zeros(self.blocks, int)
        for strip in self.strips(label):
            found[strip.row] += strip.whole.sum(axis=1)
        return found

    def _patches(self, rows: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the patches of some rows by block, and which of them have no missing pixel."""
        # Cut in low-resolution pixels first, so that both maps keep the same block corners.
        across, width = self.blocks[1], self.size[1] * scale
        side, step = self.img_shape[1] * scale, self.stride[1] * scale
        cut = rows[:, : across * width].reshape(len(rows), across, width)
        windows = sliding_window_view(cut, side, axis=2)[:, :, ::step]  # type: ignore[call-overload]
        gappy = np.isnan(cut).any(axis=0)
        touched = sliding_window_view(gappy, side, axis=1)[:, ::step]  # type: ignore[call-overload]
        return windows.transpose(1, 2, 0, 3), np.asarray(~touched.any(axis=2))


def refuse_small_blocks(
    shape: Sequence[int], blocks: Sequence[int], size: Sequence[int], img_shape: Sequence[int]
) -> None:
    """Refuse blocks of `size` pixels that are smaller than an image."""
    if size[0] < img_shape[0] or size[1] < img_shape[1]:
        raise DataError(
            f"block_shape {tuple(blocks)} cuts a map of {tuple(shape)} into blocks of "
            f"{tuple(size)} pixels, smaller than an image of {tuple(img_shape)}. "
            f"Use fewer blocks or smaller images."
        )
