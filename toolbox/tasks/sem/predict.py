"""Restore SEM pictures; frames, grey value type, pixel size and data bar are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolbox import __version__
from toolbox.errors import ConfigError, DataError
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.tasks.sem.alignment import data_bar_rows
from toolbox.tasks.sem.inspector import conditions_of, image_conditions, warnings_of
from toolbox.tasks.sem.pixel_size import PixelSize, stated_size
from toolbox.tasks.sem.sem_image import (
    SUFFIXES,
    SEMStack,
    check_target,
    note_line,
    open_sem_stack,
    write_sem_stack,
)
from toolbox.tasks.sem.validity import load_validity

_OUTSIDE = "outside of what the network knows"
#: Grey values may exceed the range of the training data by this factor.
_ABOVE = 1.05


class SemPredictor:
    """Restores SEM pictures with an opened run.

    It is a `toolbox.task.FilePredictor` and a `toolbox.task.ImagePredictor`.

    The result is a grey TIFF or PNG with the depth (8 or 16 bits) and the number of frames of the
    input. A TIFF keeps the pixel size, also from the tags of microscopes, states the network, and
    stores white as 0 if the input does. The data bar is copied. One frame at a time is in memory,
    except for compressions other than deflate.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with its ``predict`` settings.
    """

    suffixes = SUFFIXES
    what = "no picture"

    def __init__(self, run: Run) -> None:
        self.run, self.settings, self.resolver = run, run.predict, run.resolver
        self.validity = load_validity(run.folder)
        self._told: set[str] = set()

    def check(self) -> None:
        """Check the settings once for all files."""
        if self.resolver.channels != 1:
            raise ConfigError(
                f"input_shape must have one channel for SEM pictures; the network was trained on "
                f"{self.resolver.channels}. Use another network."
            )
        if self.settings.lr_consistency == "project" and self.resolver.scale == 1:
            raise ConfigError(
                "lr_consistency must be report at scale 1, where project would return the input "
                "unchanged; received 'project'. Leave lr_consistency out."
            )

    def suffix(self, path: Path) -> str:
        """Return the file name ending of the result: TIFF, unless the input is a PNG."""
        return path.suffix if path.suffix.lower() in (".tif", ".tiff", ".png") else ".tif"

    def predict(self, path: Path, target: Path) -> None:
        """Restore one picture."""
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path}: not a picture. The network was trained on SEM pictures and needs one of "
                f"{', '.join(SUFFIXES)}."
            )
        start = time.perf_counter()
        stack = open_sem_stack(path)
        check_target(target, stack.count)
        size = self._size(stack)
        last = np.empty((0, 0), np.uint8)

        def restored() -> Iterator[np.ndarray]:
            nonlocal last
            warned = False
            for number in progress(range(stack.count), "restoring", unit="frame", delay=2):
                pixels = stack.image(number).pixels
                rows = len(pixels) - self._data_bar(pixels)
                top = int(np.iinfo(pixels.dtype).max)
                if number == 0:
                    self._warn(stack, pixels)
                warned = warned or self._check_range(path, int(pixels[:rows].max()), top)
                last = self._restored(pixels, rows)
                yield last

        write_sem_stack(
            target, restored(), stack.count, size, stack.white_is_zero, restored_by(self.run)
        )
        known = "pixel size not known" if size is None else f"{size.x_nm:.4g} nm per pixel"
        if size is not None and target.suffix.lower() == ".png":
            known += " (a PNG cannot keep that)"
        of = f" of {stack.pages} pages" if stack.pages > stack.count else ""
        frames = f"{stack.count} frames{of}, " if stack.pages > 1 else ""
        print(
            f"{target}: {frames}{last.shape[1]} × {last.shape[0]} pixels of {8 * last.itemsize} "
            f"bits, {known}, restored with {network_name(self.run)} in "
            f"{time.perf_counter() - start:.1f} s"
        )

    def predict_image(self, pixels: np.ndarray) -> np.ndarray:
        """Restore a picture in memory: grey (H, W), 8 or 16 bits, or floats in grey values."""
        _check_image(pixels)
        return self._restored(pixels, len(pixels) - self._data_bar(pixels))

    def doubts(self, pixels: np.ndarray, pixel_nm: float | None = None) -> list[str]:
        """Return how a picture in memory differs from those of the training run, a line each."""
        _check_image(pixels)
        found = []
        if self.validity is not None and np.isfinite(pixels).all():
            warned = warnings_of(image_conditions(pixels, pixel_nm), self.validity)
            found = [f"{_OUTSIDE}: {text}" for text in warned.values()]
        rows = len(pixels) - self._data_bar(pixels)
        largest = float(np.nanmax(pixels[:rows], initial=0))
        top = float(_top(pixels.dtype) or (1.0 if largest <= 1 else np.inf))
        text = self._range_doubt(largest, top)
        return [*found, text] if text else found

    def _warn(self, stack: SEMStack, pixels: np.ndarray) -> None:
        """Warn about each file that differs from the training pictures; advise once per kind."""
        if self.validity is None:
            return
        warned = warnings_of(conditions_of(stack, pixels, self.settings.pixel_nm), self.validity)
        before = f"WARNING: {stack.path}: {_OUTSIDE}: "
        for kind in [kind for kind in warned if kind not in self._told]:
            print(f"{before}{warned[kind]}")
        known = [kind for kind in warned if kind in self._told]
        if known:
            also = "also " if len(known) < len(warned) else ""
            print(f"{before}{also}{', '.join(known)}; see above")
        self._told |= warned.keys()

    def _restored(self, pixels: np.ndarray, rows: int) -> np.ndarray:
        """Restore the upper rows of a frame and copy its data bar below them."""
        scale, top = self.resolver.scale, _top(pixels.dtype)
        restored = self.resolver.predict(
            pixels[:rows].astype(np.float32),
            self.settings.tile,
            self.settings.self_ensemble,
            self.settings.lr_consistency,
        )
        result = np.rint(np.clip(restored, 0, top)) if top else restored
        result = result.astype(pixels.dtype)
        return np.concatenate([result, pixels[rows:].repeat(scale, axis=0).repeat(scale, axis=1)])

    def _size(self, stack: SEMStack) -> PixelSize | None:
        """Return the pixel size of the result and print the notes about the file.

        Each kind of note is printed once for all files.
        """
        own, notes = stated_size(self.settings.pixel_nm, stack.size, stack.notes)
        for kind in notes.keys() - self._told:
            print(note_line([stack.path], kind, notes[kind]))
        self._told |= notes.keys()
        if own is None:
            return None
        scale = self.resolver.scale
        return PixelSize(own.source, own.x_nm / scale, own.y_nm and own.y_nm / scale)

    def _data_bar(self, pixels: np.ndarray) -> int:
        """Return the number of data bar rows at the bottom, found as in training."""
        section: dict[str, Any] = self.run.settings.source_params
        height = section.get("data_bar_height", 0)
        rows = data_bar_rows(pixels) if height == "auto" else int(height)
        return rows if rows < len(pixels) else 0

    def _check_range(self, path: Path, largest: int, top: int) -> bool:
        """Print a warning if the grey values do not fit those of the training run."""
        text = self._range_doubt(largest, top)
        if text:
            print(f"WARNING: {path}: {text}")
        return bool(text)

    def _range_doubt(self, largest: float, top: float) -> str:
        """Return a warning if grey values do not fit those of the training run, else "".

        `top` is the largest value of their type: 12 bits in a 16-bit file match such training data.
        """
        normalizer = self.resolver.normalizer
        low, high = normalizer.data_min, normalizer.data_min + normalizer.data_range
        if largest <= _ABOVE * high and top >= 0.5 * high:
            return ""
        return (
            f"its grey values go up to {largest:g} of {top:g}, but the network was trained on "
            f"{low:g} to {high:g}. Convert the picture to that range, or the result is wrong."
        )


def network_name(run: Run) -> str:
    """Return the name of a network: of its log folder, with weights that replace the run's own."""
    others = ", ".join(Path(name).name for name in run.predict.weights)
    return f"{run.folder.resolve().name}{f' with {others}' if others else ''}"


def restored_by(run: Run) -> str:
    """Return the mark of a restored picture: the network and this program's version."""
    return f"{network_name(run)} (sr-toolbox {__version__})"


def _check_image(pixels: np.ndarray) -> None:
    """Raise an error unless the pixels are a grey picture."""
    if pixels.ndim != 2:
        raise DataError(
            f"SEM pictures and this network have one channel; received shape {pixels.shape}. "
            f"Select one channel, or use a network for photographs."
        )
    if pixels.dtype.kind != "f" and pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"SEM pictures must have 8 or 16 bits, or be floats; received {pixels.dtype}. Convert "
            f"the image."
        )


def _top(dtype: np.dtype) -> int | None:
    """Return the largest value of an integer type, None for floats."""
    return int(np.iinfo(dtype).max) if dtype.kind in "ui" else None
