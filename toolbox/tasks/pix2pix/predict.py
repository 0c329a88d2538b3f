"""Prediction for pix2pix: a picture in; a drawing and, if asked for, its class map out."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
from PIL import Image

from toolbox.errors import ConfigError
from toolbox.io.atomic import replacing
from toolbox.io.picture import (
    SUFFIXES,
    Picture,
    check_picture,
    picture_suffix,
    read_picture,
    write_picture,
)
from toolbox.run import Run
from toolbox.tasks.pix2pix.classes import Classes, classes_of
from toolbox.tasks.pix2pix.draw import TOLERANCE, Drawn
from toolbox.tasks.pix2pix.evaluate import artist_of


class DrawingPredictor:
    """Draws from pictures with an opened run: a `toolbox.task.FilePredictor`.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with the settings of ``predict``.
    """

    suffixes = SUFFIXES
    what = "no picture"

    def __init__(self, run: Run) -> None:
        self.run, self.settings = run, run.predict
        self.classes = classes_of(run.settings.source, run.settings.source_params)
        self.artist = artist_of(run, self.classes)

    def check(self) -> None:
        """Refuse invalid settings, once for all files."""
        if self.settings.decode and self.classes is None:
            raise ConfigError(
                "decode must be false for a network that draws pictures, because there are no "
                "classes to decode; received true. Remove decode."
            )
        if self.settings.lr_consistency == "project":
            raise ConfigError(
                "lr_consistency must be report, because a drawing need not have the brightness of "
                "its input; received project. Remove lr_consistency."
            )

    def suffix(self, path: Path) -> str:
        """Return the suffix of the result: .png for classes, whose colours JPEG would mix."""
        return ".png" if self.classes is not None else picture_suffix(path)

    def predict(self, path: Path, target: Path) -> None:
        """Draw from one picture."""
        start = time.perf_counter()
        picture = read_picture(path)
        result = self._belongings(picture)
        check_picture(target, result, 1)
        maps = _map_of(target)
        if self.settings.decode and maps.exists() and not target.exists():
            raise ConfigError(f"{maps}: already exists. Remove it, or name another output.")
        drawn = self.artist.draw(picture.pixels, self.settings.self_ensemble)
        result.pixels = drawn.picture
        height, width = drawn.picture.shape[:2]
        samples = drawn.picture
        if result.alpha is not None:
            samples = np.concatenate([samples, result.alpha[..., None]], axis=2)
        write_picture(target, iter([samples]), (height, width), result, None)
        for note in result.notes:
            print(f"{path}: {note}")
        seconds = time.perf_counter() - start
        print(f"{target}: {width} × {height} pixels in {seconds:.1f} s")
        if self.settings.decode:
            assert self.classes is not None
            self._write_map(maps, drawn, self.classes)

    def _belongings(self, picture: Picture) -> Picture:
        """Return what the result keeps of its input: everything except what concerns colours."""
        channels = self.artist.resolver.out_channels
        channels = 3 if self.classes is not None or channels != 1 else 1
        pixels = np.broadcast_to(picture.pixels[..., :1], (*picture.pixels.shape[:2], channels))
        kept = dataclasses.replace(picture, pixels=pixels, notes=list(picture.notes))
        if self.classes is not None or channels != picture.pixels.shape[2]:
            kept.icc = None
        if self.classes is not None and picture.alpha is not None:
            kept.alpha = None
            kept.notes.append("transparency is not kept, because every pixel has a class")
        return kept

    def _write_map(self, path: Path, drawn: Drawn, classes: Classes) -> None:
        assert drawn.ids is not None
        image = Image.fromarray(drawn.ids)
        image.putpalette(classes.table.tobytes())
        with replacing(path) as beside:
            image.save(beside, format="PNG")
        ids, pixels = np.unique(drawn.ids, return_counts=True)
        most = sorted(zip(pixels.tolist(), ids.tolist(), strict=True), reverse=True)
        names = [*classes.names, *["void"] * (256 - len(classes))]
        shares = [f"{names[i]} {100 * n / drawn.ids.size:.1f} %" for n, i in most[:5]]
        print(f"{path}: {', '.join(shares)}{', ...' if len(most) > 5 else ''}")
        if drawn.far:
            print(
                f"{path}: {100 * drawn.far:.1f} % of pixels were more than {TOLERANCE:g} grey "
                f"levels from the colour of any class"
            )


def _map_of(target: Path) -> Path:
    """Return the file of the class map next to a drawing."""
    return target.with_name(f"{target.stem}_classes.png")
