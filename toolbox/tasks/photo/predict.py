"""Enlargement of photographs; keeps bit depth, alpha, EXIF, colour profile and resolution."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from toolbox.errors import DataError
from toolbox.io.picture import (
    LOSSY,
    SUFFIXES,
    Picture,
    check_picture,
    picture_suffix,
    read_picture,
    write_picture,
)
from toolbox.picture_set import GREY, as_counts, to_pixels
from toolbox.progress import pixel_rate, progress
from toolbox.resample import enlarge
from toolbox.run import Run

#: Input rows above and below a strip that its bicubic enlargement needs.
_REACH = 4


class PhotoPredictor:
    """Enlarges photographs with an opened run.

    It is a `toolbox.task.FilePredictor` and a `toolbox.task.ImagePredictor`.

    A network with three channels receives a grey photograph as three equal channels. A network
    with one channel enlarges the brightness of a colour photograph, and bicubic enlarges its
    colours. Alpha is enlarged by bicubic.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with its settings of ``predict``.
    """

    suffixes = SUFFIXES
    what = "no photograph"

    def __init__(self, run: Run) -> None:
        self.run, self.settings, self.resolver = run, run.predict, run.resolver

    def check(self) -> None:
        """Refuse invalid settings, once for all files."""
        self._enhancer()

    def suffix(self, path: Path) -> str:
        """Return the suffix of the result: that of the input, if it can be written."""
        return picture_suffix(path)

    def predict(self, path: Path, target: Path) -> None:
        """Enlarge one photograph."""
        start = time.perf_counter()
        picture = read_picture(path)
        scale, (height, width) = self.resolver.scale, picture.pixels.shape[:2]
        check_picture(target, picture, scale)
        if self.settings.lr_consistency == "project" and self._is_brightness_only(picture):
            picture.notes.append("lr_consistency applies to the brightness, not to the colours")
        shape = height * scale, width * scale
        bar = progress(None, "enlarging", total=height * width, unit="px", unit_scale=True, delay=2)
        with bar:
            strips = self._strips(picture, bar.update)
            write_picture(target, strips, shape, picture, self._quality(target, picture))
        for note in picture.notes:
            print(f"{path}: {note}")
        seconds = time.perf_counter() - start
        print(
            f"{target}: {shape[1]} × {shape[0]} pixels, {picture.bits} bits, in {seconds:.1f} s "
            f"({pixel_rate(shape[0] * shape[1], seconds)})"
        )

    def predict_image(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge a photograph in memory: grey (H, W), RGB or RGBA, of 8 or 16 bits."""
        if pixels.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"photographs must have 8 or 16 bits; received {pixels.dtype}. Convert the image."
            )
        if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
            raise DataError(
                f"expected a grey, RGB or RGBA image; received shape {pixels.shape}. "
                f"Convert the image."
            )
        colours = pixels[..., None] if pixels.ndim == 2 else pixels
        colours, alpha = colours[..., :3], colours[..., 3] if colours.shape[2] == 4 else None
        picture = Picture(colours, alpha, 8 * pixels.itemsize)
        result = np.concatenate(list(self._strips(picture, lambda _: None)))
        return result[..., 0] if pixels.ndim == 2 else result

    def doubts(self, pixels: np.ndarray, pixel_nm: float | None = None) -> list[str]:
        """Return an empty list: a run does not record what its training photographs looked like."""
        return []

    def _is_brightness_only(self, picture: Picture) -> bool:
        return self.resolver.channels < picture.pixels.shape[2]

    def _quality(self, target: Path, picture: Picture) -> int | None:
        """Return the quality for a lossy format; for a lossless one, add a note."""
        quality = self.settings.quality
        if quality is None or target.suffix.lower() in LOSSY:
            return quality
        picture.notes.append(f"quality is ignored: {target.suffix} is lossless")
        return None

    def _enhancer(self) -> Callable[[np.ndarray], np.ndarray]:
        s = self.settings
        return self.resolver.enhancer(s.self_ensemble, lr_consistency=s.lr_consistency)

    def _strips(self, picture: Picture, done: Callable[[int], None]) -> Iterator[np.ndarray]:
        """Yield the enlarged photograph in strips from the top; alpha is the last channel."""
        s, pixels = self.settings, picture.pixels
        project = s.lr_consistency == "project"
        tiling = self.resolver.tiling(pixels.shape[:2], s.tile, gaps=False, project=project)

        def read(rows: slice, columns: slice) -> np.ndarray:
            return self._seen(as_counts(pixels[rows, columns]))

        first = 0
        for strip in tiling.strips(read, self._enhancer(), 0, done):
            rows = slice(first, first + len(strip) // self.resolver.scale)
            first = rows.stop
            parts = [self._in_colour(strip, pixels, rows)]
            if picture.alpha is not None:
                parts.append(self._bicubic(picture.alpha[..., None], rows))
            yield to_pixels(np.concatenate(parts, axis=2), pixels.dtype)

    def _seen(self, counts: np.ndarray) -> np.ndarray:
        """Convert a window (h, w, C) to the channels of the network."""
        if counts.shape[2] == self.resolver.channels:
            return counts
        if counts.shape[2] == 1:
            return counts.repeat(3, axis=2)
        return (counts @ GREY.astype(np.float32))[..., None]

    def _in_colour(self, strip: np.ndarray, pixels: np.ndarray, rows: slice) -> np.ndarray:
        """Convert a strip from the network to the channels of the photograph."""
        if strip.shape[2] == pixels.shape[2]:
            return strip
        if pixels.shape[2] == 1:
            return strip.mean(axis=2, keepdims=True)
        colours = self._bicubic(pixels, rows)
        return colours + (strip - (colours @ GREY.astype(np.float32))[..., None])

    def _bicubic(self, pixels: np.ndarray, rows: slice) -> np.ndarray:
        """Enlarge the given rows of a picture (h, w, C) by bicubic, 0 to 255."""
        above, below = max(0, rows.start - _REACH), min(len(pixels), rows.stop + _REACH)
        scale = self.resolver.scale
        large = enlarge(as_counts(pixels[above:below])[None], scale)[0]
        top = (rows.start - above) * scale
        return large[top : top + (rows.stop - rows.start) * scale]
