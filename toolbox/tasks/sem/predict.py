"""Restoring SEM pictures: grey value type, pixel size and data bar are kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import ConfigError, DataError
from toolbox.run import Run
from toolbox.tasks.sem.alignment import data_bar_rows
from toolbox.tasks.sem.sem_image import SUFFIXES, read_sem_image, write_sem_image

#: Grey values may exceed the range of the training by so much.
_ABOVE = 1.05


class SemPredictor:
    """Restores SEM pictures with an opened run: a `toolbox.task.FilePredictor`.

    The result is a TIFF or PNG of the depth of the input (8 or 16 bit, grey) and keeps the pixel
    size, from the tags of FEI and Zeiss microscopes too. The data bar is copied.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with the settings of ``predict``.
    """

    suffixes = SUFFIXES
    what = "no picture"

    def __init__(self, run: Run) -> None:
        self.run, self.settings, self.resolver = run, run.predict, run.resolver

    def check(self) -> None:
        """Refuse a mistake in the settings, once for all files."""
        if self.resolver.channels != 1:
            raise ConfigError(
                f"input_shape must have one channel, as SEM pictures have; the network was trained "
                f"on {self.resolver.channels}. Use another network."
            )
        if self.settings.lr_consistency == "project" and self.resolver.scale == 1:
            raise ConfigError(
                "lr_consistency must be report at scale 1, where project would give the input "
                "back; received 'project'. Leave it out."
            )

    def suffix(self, path: Path) -> str:
        """Return the ending of the result: TIFF, unless the input is a PNG."""
        return path.suffix if path.suffix.lower() in (".tif", ".tiff", ".png") else ".tif"

    def predict(self, path: Path, target: Path) -> None:
        """Restore one picture."""
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path}: is no picture. Expected one of {', '.join(SUFFIXES)}, as the network was "
                f"trained on SEM pictures."
            )
        start = time.perf_counter()
        image = read_sem_image(path)
        scale, top = self.resolver.scale, 2**image.bits - 1
        rows = image.pixels.shape[0] - self._data_bar(image.pixels)
        self._check_range(path, int(image.pixels[:rows].max()), top)
        restored = self.resolver.predict(
            image.pixels[:rows].astype(np.float32),
            self.settings.tile,
            self.settings.self_ensemble,
            self.settings.lr_consistency,
        )
        result = np.rint(np.clip(restored, 0, top)).astype(image.pixels.dtype)
        bar = image.pixels[rows:].repeat(scale, axis=0).repeat(scale, axis=1)
        size = None if image.pixel_nm is None else image.pixel_nm / scale
        write_sem_image(target, np.concatenate([result, bar]), size)
        known = "pixel size not known" if size is None else f"{size:.4g} nm per pixel"
        if size is not None and target.suffix.lower() == ".png":
            known += " (a PNG cannot keep that)"
        print(
            f"{target}: {result.shape[1]} × {len(result) + len(bar)} pixels of {image.bits} bits, "
            f"{known}, in {time.perf_counter() - start:.1f} s"
        )

    def _data_bar(self, pixels: np.ndarray) -> int:
        """Return the number of rows at the bottom that are no picture, as in the training."""
        section: dict[str, Any] = self.run.settings.source_params
        height = section.get("data_bar_height", 0)
        rows = data_bar_rows(pixels) if height == "auto" else int(height)
        return rows if rows < len(pixels) else 0

    def _check_range(self, path: Path, largest: int, top: int) -> None:
        """Warn of a picture whose grey values mean something else than those of the training.

        `top` is what its type can hold: 12 bits in a file of 16 are as the training had them.
        """
        normalizer = self.resolver.normalizer
        low, high = normalizer.data_min, normalizer.data_min + normalizer.data_range
        if largest > _ABOVE * high or top < 0.5 * high:
            print(
                f"WARNING: {path}: its grey values go up to {largest} of {top}, but the network "
                f"was trained on {low:g} to {high:g}. Convert the picture to that range, or the "
                f"result is wrong."
            )
