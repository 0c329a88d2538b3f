"""Conversion between class ids and colours, with the distance to the nearest colour."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolbox.errors import ConfigError

#: Id of pixels that belong to no class and are not evaluated.
VOID = 255
#: Classes of Pascal VOC 2012 in the order of their ids (Everingham et al. 2010,
#: doi:10.1007/s11263-009-0275-4).
VOC_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv/monitor",
)
#: Number of pixels decoded at once.
_CHUNK = 2**20


def voc_palette(count: int = 256) -> np.ndarray:
    """Return the colours of the first `count` ids in the palette of VOC.

    Each group of three bits of an id is spread over red, green and blue, highest colour bit
    first.

    Returns
    -------
    numpy.ndarray, shape (count, 3), uint8
    """
    ids = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (ids >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """Names and colours of the classes of a data set.

    Attributes
    ----------
    names : tuple of str
        Names, id 0 first.
    colours : numpy.ndarray, shape (n, 3), uint8
        Red, green and blue of each class.
    void_colour : numpy.ndarray, shape (3,), uint8
        Colour of `VOID`.
    """

    names: tuple[str, ...]
    colours: np.ndarray
    void_colour: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def table(self) -> np.ndarray:
        """Colours of all 256 ids, (256, 3), uint8; ids without a class have that of void."""
        table = np.repeat(self.void_colour[None], 256, axis=0)
        table[: len(self)] = self.colours
        return table

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """Return the colours of class ids.

        Parameters
        ----------
        ids : numpy.ndarray, shape (...), uint8
            Ids, `VOID` included.

        Returns
        -------
        numpy.ndarray, shape (..., 3), uint8
        """
        return self.table[ids]

    def decode(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the id with the colour nearest to each pixel, and the distance to that colour.

        Parameters
        ----------
        pixels : numpy.ndarray, shape (..., 3)
            Red, green and blue of 0 to 255.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray), shape (...), uint8 and float32
            Ids, `VOID` where its colour is the nearest; distances in RGB, grey levels.
        """
        known = np.concatenate([self.colours, self.void_colour[None]]).astype(np.float32)
        ids = np.append(np.arange(len(self)), VOID).astype(np.uint8)
        flat = np.reshape(pixels, (-1, 3))
        nearest = np.empty(len(flat), np.uint8)
        distance = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), _CHUNK):
            part = slice(start, start + _CHUNK)
            colours = flat[part].astype(np.float32)
            # |a - b|² minus |a|², which is the same for all b.
            scores = np.square(known).sum(axis=1) - 2 * colours @ known.T
            best = scores.argmin(axis=1)
            nearest[part] = ids[best]
            distance[part] = np.linalg.norm(colours - known[best], axis=1)
        return nearest.reshape(pixels.shape[:-1]), distance.reshape(pixels.shape[:-1])


def voc_classes() -> Classes:
    """Return the 21 classes of VOC 2012 with its palette."""
    palette = voc_palette()
    return Classes(VOC_NAMES, palette[: len(VOC_NAMES)], palette[VOID])


def named_classes(colours: Mapping[str, Sequence[int]]) -> Classes:
    """Return the classes named in a settings file; void gets a colour that none of them has.

    Parameters
    ----------
    colours : dict of str to (int, int, int)
        Name and colour of each class, id 0 first.

    Raises
    ------
    ConfigError
        If two classes share a colour, or there are too few or too many.
    """
    values = [tuple(colour) for colour in colours.values()]
    if not 2 <= len(values) <= VOID:
        raise ConfigError(
            f"classes must name 2 to {VOID} classes; received {len(values)}. Change the section "
            f"classes."
        )
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ConfigError(
            f"classes must have different colours; received {list(twice)} twice. Change one of "
            f"them."
        )
    palette = voc_palette()
    void = next(colour for colour in palette[::-1] if tuple(colour.tolist()) not in values)
    return Classes(tuple(colours), np.array(values, np.uint8), void)


def classes_of(source: str, section: Mapping[str, Any]) -> Classes | None:
    """Return the classes described in the section of a source, or None for pictures."""
    if source == "voc":
        return voc_classes()
    return named_classes(section["classes"]) if section.get("classes") else None
