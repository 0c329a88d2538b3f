"""The source ``heat``: one stack of frames, dealt to training, validation and test."""

import numpy as np

from toolbox.config import Count
from toolbox.errors import DataError
from toolbox.resample import block_mean
from toolbox.task import Source

FRAMES = "frames.npy"


class HeatSource(Source):
    """Frames (N, H, W) in kelvin; LR is their area mean.

    Parameters
    ----------
    data_dir : str
        Folder with ``frames.npy``.
    sr_scale : int, optional
        Enlargement.
    held_back : int
        Frames for validation, and as many for the test.
    """

    norm_range = (273.0, 373.0)
    free_settings = ("note",)

    def __init__(self, data_dir, sr_scale=None, held_back: Count = 4, note: str | None = None):
        super().__init__(data_dir, sr_scale)
        path = self.data_dir / FRAMES
        if not path.is_file():
            raise DataError(f"{path}: no such file. Put the frames there.")
        self.frames = np.load(path, allow_pickle=False)[..., None].astype(np.float32)
        self.held_back = held_back
        self.notes = [f"{len(self.frames)} frames"]

    @classmethod
    def default_settings(cls, section):
        """Frames are 16 × 16, and a run of them is short."""
        return {"input_shape": [8, 8, 1], "scale": 2, "epochs": 3, "batch_size": 4}

    def _pair(self, part):
        hr = self.frames[part]
        return block_mean(hr, self.sr_scale), hr

    def train(self):
        """All frames but those held back."""
        return self._pair(slice(None, -2 * self.held_back))

    def validation(self):
        """The first of those held back."""
        return self._pair(slice(-2 * self.held_back, -self.held_back))

    def test(self):
        """The last frames."""
        return self._pair(slice(-self.held_back, None))

    def facts(self):
        """The losses of this task may ask for the noise of the camera."""
        return {"noise_k": 0.05}

    def records(self):
        """Keep the range of the training frames."""
        frames = self.train()[1]
        text = f'{{"low_k": {frames.min():.3f}, "high_k": {frames.max():.3f}}}\n'
        return {"heat.json": text}
