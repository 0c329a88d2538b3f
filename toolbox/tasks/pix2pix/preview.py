"""Drawings of validation pictures during training, ``test_*.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from toolbox.callbacks import is_due
from toolbox.normalizer import Normalizer
from toolbox.plotter import save_figure
from toolbox.tasks.pix2pix.classes import Classes
from toolbox.tasks.pix2pix.sheet import sheet


class DrawingLogger(keras.callbacks.Callback):
    """Callback that draws validation pictures with the current network, ``test_*.png``.

    Parameters
    ----------
    log_dir : path-like
        Folder of the files.
    log_period : int
        Epochs between pictures.
    data : toolbox.data_generator.DataGenerator
        Validation pairs.
    normalizer : toolbox.normalizer.Normalizer
        The normaliser of the run.
    classes : Classes, optional
        The classes, if the targets are class maps.
    scores : bool
        Whether the network returns a score for each class instead of a drawing.
    num_samples : int
        Number of pictures.
    """

    def __init__(
        self,
        log_dir: str,
        log_period: int,
        data: Any,
        normalizer: Normalizer,
        classes: Classes | None = None,
        scores: bool = False,
        num_samples: int = 6,
    ) -> None:
        super().__init__()
        self.log_dir, self.log_period = Path(log_dir), log_period
        self.data, self.normalizer = data, normalizer
        self.classes, self.scores, self.num_samples = classes, scores, num_samples

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw the pictures of `epoch`, counted from 0."""
        if is_due(self, epoch + 1):
            save_figure(sheet(self._columns()), self.log_dir / f"test_{epoch + 1}.png")

    def _columns(self) -> dict[str, np.ndarray]:
        """Return stacks of pictures (N, H, W, C) of 0 to 255 by their heading."""
        chosen = self.data.sample_indices(self.num_samples)
        x, _ = self.data.sample(len(chosen), indices=list(chosen))
        pictures, truth = self.data.raw_lr_imgs[chosen], self.data.raw_hr_imgs[chosen]
        drawn = self.normalizer.denorm_funcs(pictures, 1)[1](
            self.model.predict(x, batch_size=len(x), verbose=0)
        )
        columns = {"input": pictures}
        if self.scores:
            assert self.classes is not None
            ids = truth[..., 0].astype(np.uint8)
            return columns | {
                "classes": self.classes.encode(drawn.argmax(axis=3)),
                "truth": self.classes.encode(ids),
            }
        columns["output"] = drawn
        if self.classes is not None:
            columns["decoded"] = self.classes.encode(self.classes.decode(np.clip(drawn, 0, 255))[0])
        return columns | {"truth": truth}
