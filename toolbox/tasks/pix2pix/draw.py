"""Drawing of one picture with a network: the path that tests and predictions share."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from toolbox.inference.super_resolver import SuperResolver
from toolbox.picture_set import as_counts, in_channels, to_pixels
from toolbox.resize import resized
from toolbox.tasks.pix2pix.classes import Classes

#: Pixels farther than this from the colour of any class, in RGB, are counted: a quarter of the
#: distance between neighbouring colours of VOC's palette, 64.
TOLERANCE = 16.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The drawing of a picture, as large as the picture.

    Attributes
    ----------
    picture : numpy.ndarray, shape (H, W, D), uint8 or uint16
        The drawing.
    ids : numpy.ndarray, shape (H, W), uint8, or None
        The classes with the nearest colours, if the targets are class maps.
    far : float or None
        Share of pixels farther than `TOLERANCE` from every colour.
    """

    picture: np.ndarray
    ids: np.ndarray | None = None
    far: float | None = None


class Artist:
    """Draws pictures of any size with a network.

    If the network was trained on pictures resized to a square, every picture is resized too, and
    its drawing is resized back: by bicubic, class ids by nearest neighbour.

    Parameters
    ----------
    resolver : toolbox.inference.super_resolver.SuperResolver
        The network, 0 to 255 in and out.
    side : int or None
        Side of that square; None for pictures as they are.
    classes : Classes, optional
        The classes, if the drawings are class maps.
    scores : bool
        Whether the network returns a score for each class instead of a drawing.
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
            Average over eight mirrored and turned copies.
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
        # Decode before resizing: interpolated colours would be taken for those of a third class.
        ids, distance = self.classes.decode(np.clip(counts, 0, 255))
        ids = _as_large(ids[..., None], shape, "nearest")[..., 0]
        return Drawn(picture, ids, float((distance > TOLERANCE).mean()))


def _as_large(pixels: np.ndarray, shape: tuple[int, int], method: str) -> np.ndarray:
    return pixels if pixels.shape[:2] == shape else resized(pixels, shape, method)
