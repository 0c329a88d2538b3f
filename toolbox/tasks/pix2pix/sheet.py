"""Sheets of pictures: one row per sample, one column per kind of picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from toolbox.picture_set import in_channels, to_pixels

#: Pictures of all samples.
Stack = Sequence[np.ndarray] | np.ndarray
_BYTE = np.dtype(np.uint8)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, C) of 0 to 255, or of 16 bits, as red, green and blue, uint8."""
    if pixels.dtype == np.uint16:
        pixels = pixels / np.float32(257)
    return in_channels(to_pixels(pixels.astype(np.float32), _BYTE), 3)


def sheet(columns: Mapping[str, Stack], names: Sequence[str] = ()) -> Figure:
    """Return a figure with pictures on a sheet.

    Parameters
    ----------
    columns : dict of str to sequence of numpy.ndarray, each (H, W, C)
        Pictures of all samples by heading, 0 to 255.
    names : sequence of str, optional
        Names of the samples.
    """
    count = len(next(iter(columns.values())))
    widest = max(img.shape[1] / img.shape[0] for stack in columns.values() for img in stack)
    height = 1.7 * count / max(1.0, widest) + 0.35
    figure = Figure(figsize=(1.75 * len(columns) + 0.3, height), layout="constrained")
    axes = figure.subplots(count, len(columns), squeeze=False)
    for place, (heading, stack) in enumerate(columns.items()):
        axes[0][place].set_title(heading, fontsize=8)
        for line, img in zip(axes, stack, strict=True):
            line[place].imshow(as_rgb(img), interpolation="nearest")
            line[place].set(xticks=[], yticks=[])
    for line, name in zip(axes, names, strict=False):
        line[0].set_ylabel(name[-24:], fontsize=6)
    return figure
