"""The files of a data set in the making: images go to disk piece by piece, files appear whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from toolbox.data_loader import RECORD_NAME
from toolbox.errors import ConfigError
from toolbox.io.atomic import replacing
from toolbox.io.image_stack import ImageFile, pickle_images
from toolbox.progress import progress

Kind = Literal["auto", "pkl", "npy"]
#: Bytes of a data set above which ``files: auto`` writes ``.npy``, which need not fit into memory.
MOST_PICKLED = 2**30


class PatchFiles:
    """Images of a data set, written in any order and kept out of memory.

    Parameters
    ----------
    save_dir : str
        Folder of the data set.
    shapes : dict of str to tuple of int
        Shape (H, W, 1) of the LR and of the HR images.
    kind : {'auto', 'pkl', 'npy'}
        Form of the files: pickles as the manual has them, memory-mapped arrays, or pickles up to
        1 GiB of images.

    Attributes
    ----------
    files : dict of (str, str) to ImageFile
        By split and kind, LR or HR.
    low, high : dict of (str, str) to float
        Least and greatest value that was written.
    """

    def __init__(self, save_dir: str, shapes: dict[str, tuple[int, ...]], kind: Kind) -> None:
        self.folder, self.kind = Path(save_dir), kind
        self.low: dict[tuple[str, str], float] = {}
        self.high: dict[tuple[str, str], float] = {}
        self.files: dict[tuple[str, str], ImageFile] = {}
        self._shapes = shapes
        self._made: list[Path] = []
        self._pickles: list[Path] = []

    def __enter__(self) -> PatchFiles:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files.values():
            file.abandon()
        for path in self._pickles:
            path.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # a folder that holds something stays
                folder.rmdir()

    def _opened(self, split: str, name: str) -> ImageFile:
        """Return the file of some images, begun when it is first needed."""
        if (split, name) not in self.files:
            folder = (self.folder / split).absolute()
            self._made += [f for f in (*folder.parents[::-1], folder) if not f.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(f".data_{name}.*.tmp"):  # of a build that was killed
                stale.unlink()
            path = folder / f".data_{name}.npy.{os.getpid()}.tmp"
            self.files[split, name] = ImageFile(path, self._shapes[name])
        return self.files[split, name]

    def count(self, split: str) -> int:
        """Return how many pairs of a split were written."""
        return self.files[split, "HR"].count if (split, "HR") in self.files else 0

    def write(self, split: str, name: str, imgs: np.ndarray, start: int | None = None) -> None:
        """Write images from number `start` on, or behind the last one."""
        key, file = (split, name), self._opened(split, name)
        file.write(file.count if start is None else start, imgs)
        if len(imgs):
            self.low[key] = min(self.low.get(key, np.inf), float(imgs.min()))
            self.high[key] = max(self.high.get(key, -np.inf), float(imgs.max()))

    def finish(self, label: str = "saving") -> None:
        """Let the files appear; what described or replaced the old ones is removed."""
        for file in self.files.values():
            file.close()
        total = sum(file.nbytes for file in self.files.values())
        pickled = self.kind == "pkl" or (self.kind == "auto" and total <= MOST_PICKLED)
        ready = {key: file.path for key, file in self.files.items()}
        for (split, name), file in progress(self.files.items(), label):
            if pickled:  # all of them, before the first replaces a former one
                beside = file.path.with_name(f".data_{name}.pkl.{os.getpid()}.tmp")
                self._pickles.append(beside)
                pickle_images(file.path, beside)
                file.path.unlink()
                ready[split, name] = beside
        # The record comes last: a folder without it is not a whole data set.
        (self.folder / RECORD_NAME).unlink(missing_ok=True)
        fresh, former = (".pkl", ".npy") if pickled else (".npy", ".pkl")
        for (split, name), beside in ready.items():
            path = self.folder / split / f"data_{name}"
            os.replace(beside, path.with_suffix(fresh))
            for stale in (".csv", former):
                path.with_suffix(stale).unlink(missing_ok=True)

    def record(self, content: dict[str, Any]) -> None:
        """Write ``dataset.json``, the last file."""
        with replacing(self.folder / RECORD_NAME) as beside:
            beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def refuse_full_disk(save_dir: str, nbytes: int, cure: str) -> None:
    """Refuse, before the work, a data set for which there is no room.

    Parameters
    ----------
    save_dir : str
        Folder of the data set; it need not be there yet.
    nbytes : int
        Bytes of all images.
    cure : str
        Last sentence of the message.
    """
    folder = Path(save_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise ConfigError(
            f"save_dir {save_dir}: the patches take {nbytes / 1e9:.3g} GB, but its disk has only "
            f"{free / 1e9:.3g} GB left. {cure}"
        )
