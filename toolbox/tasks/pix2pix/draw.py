"""One picture through a network: the way that tests and predictions share."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from toolbox.inference.super_resolver import SuperResolver
from toolbox.picture_set import as_counts, in_channels, to_pixels
from toolbox.resize import resized
from toolbox.tasks.pix2pix.classes import Classes

#: Pixels farther than this from every colour of a class, in RGB, are counted: a quarter of the
#: distance between neighbouring colours of VOC's palette, 64.
TOLERANCE = 16.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a network draws from a picture, as large as that.

    Attributes
    ----------
    picture : numpy.ndarray, shape (H, W, D), uint8 or uint16
        The drawing.
    ids : numpy.ndarray, shape (H, W), uint8, or None
        The classes whose colours are nearest, where the targets are class maps.
    far : float or None
        Share of pixels farther than `TOLERANCE` from every colour.
    """

    picture: np.ndarray
    ids: np.ndarray | None = None
    far: float | None = None


class Artist:
    """Draws pictures of any size with a network.

    Where the network learned from pictures that were resized to a square, every picture is, and
    the drawing is brought back: by bicubic, class ids by nearest.

    Parameters
    ----------
    resolver : toolbox.inference.super_resolver.SuperResolver
        The network, 0 to 255 in and out.
    side : int or None
        Side of that square; None for pictures as they are.
    classes : Classes, optional
        What the drawings mean.
    scores : bool
        Whether the network gives a score for each class instead of a drawing.
    tile : int, optional
        Side of a tile.
    """

    def __init__(
        self,
        resolver: SuperResolver,
        side: int | None,
        classes: Classes | None = None,
        scores: bool = False,
        tile: int | None = None,
    ) -> None:
        self.resolver, self.side, self.classes = resolver, side, classes
        self.scores, self.tile = scores, tile

    def draw(self, pixels: np.ndarray, self_ensemble: bool = False) -> Drawn:
        """Draw from a picture (H, W, C) of whole numbers.

        Parameters
        ----------
        pixels : numpy.ndarray, shape (H, W, C), uint8 or uint16
            Grey or colour.
        self_ensemble : bool
            The mean over eight mirrored and turned copies.
        """
        shape = int(pixels.shape[0]), int(pixels.shape[1])
        channels: Literal[1, 3] = 1 if self.resolver.channels == 1 else 3
        seen = in_channels(pixels, channels)
        if self.side is not None and shape != (self.side, self.side):
            seen = resized(seen, (self.side, self.side))
        counts = self.resolver.predict(as_counts(seen), self.tile, self_ensemble)
        if self.scores:
            assert self.classes is not None
            ids = counts.argmax(axis=2).astype(np.uint8)
            ids = _as_large(ids[..., None], shape, "nearest")[..., 0]
            return Drawn(self.classes.encode(ids), ids, 0.0)
        picture = _as_large(to_pixels(counts, pixels.dtype), shape, "bicubic")
        if self.classes is None:
            return Drawn(picture)
        # Between two colours that are enlarged lie others, which would be taken for a third class.
        ids, distance = self.classes.decode(np.clip(counts, 0, 255))
        ids = _as_large(ids[..., None], shape, "nearest")[..., 0]
        return Drawn(picture, ids, float((distance > TOLERANCE).mean()))


def _as_large(pixels: np.ndarray, shape: tuple[int, int], method: str) -> np.ndarray:
    return pixels if pixels.shape[:2] == shape else resized(pixels, shape, method)
