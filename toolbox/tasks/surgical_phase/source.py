"""The source ``surgical_video``: windows of the videos listed in a table of phases."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from toolbox.augment import Augmenter
from toolbox.config import Count, Float, Int, Share, Weight
from toolbox.data_generator import Batches, BatchStream, Pair, Spec
from toolbox.errors import ConfigError, DataError
from toolbox.picture_set import checked_shares
from toolbox.picture_source import Gigabytes
from toolbox.task import NormFunc, Source
from toolbox.tasks.surgical_phase.annotations import (
    calculate_class_weights,
    check_phases,
    phases_of,
    read_annotations,
    split_by_video,
)
from toolbox.tasks.surgical_phase.dataset import Layout, OphNetSurgicalDataset, VideoSet
from toolbox.tasks.surgical_phase.windows import (
    IMAGE_CHANNELS,
    WindowCache,
    find_videos,
    video_path,
)

NAME = "surgical_video"
#: Files that list the videos and the phases of a run.
VIDEO_REPORT, PHASE_REPORT = "videos.csv", "phases.json"
#: Phases of OphNet, of which the last is Others, for settings without a table.
_OPHNET = [str(number) for number in range(52)]


def phases_in(section: Mapping[str, Any]) -> list[str]:
    """Return the names of the phases in the checked section of a run, in order of number."""
    return [str(phase) for phase in section["phases"] or _OPHNET]


def phase_record(folder: Path) -> dict[str, Any]:
    """Return the record of phases that a training run left in a folder, or an empty dict."""
    path = folder / PHASE_REPORT
    if not path.is_file():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


class WindowBatches(BatchStream):
    """Training and validation batches of windows with labels.

    Parameters
    ----------
    dataset : OphNetSurgicalDataset
        The examples.
    batch_size : int
        Examples in a batch.
    seed : int
        Seed of order, windows and augmentation.
    repeats : int
        Windows per segment in an epoch.
    fixed : sequence of (int, int)
        Segments and windows for validation; empty in training.
    augmenter : toolbox.augment.Augmenter, optional
        Flips and quarter turns, the same for all windows of an example.
    workers : int
        Number of decoding threads.
    """

    def __init__(
        self,
        dataset: OphNetSurgicalDataset,
        batch_size: int,
        seed: int,
        repeats: int = 1,
        fixed: Sequence[tuple[int, int]] = (),
        augmenter: Augmenter | None = None,
        workers: int = 4,
    ) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.repeats, self.fixed, self._augmenter = repeats, list(fixed), augmenter
        self.num_imgs = len(self.fixed) or len(dataset) * repeats
        if batch_size > self.num_imgs and not fixed:
            raise ConfigError(
                f"batch_size must not exceed the {len(dataset)} segments × {repeats} repeats; "
                f"received {batch_size}. Lower it or raise {NAME}.repeats."
            )
        layout = dataset.layout
        shape = layout.sequence, layout.size, layout.size
        self.input_spec = {"image": Spec((*shape, IMAGE_CHANNELS))}
        if dataset.channels > IMAGE_CHANNELS:
            self.input_spec["mask"] = Spec((*shape, dataset.channels - IMAGE_CHANNELS))
        self.target_spec = Spec((layout.sequence, len(dataset.phase2idx)))
        self._pool = ThreadPoolExecutor(workers)

    def batch(self, number: int) -> Any:
        """Return training batch `number`, counted over all epochs from 0."""
        epoch, step = divmod(int(number), self.steps_per_epoch())
        start = step * self.batch_size
        items = self._permutation(epoch)[start : start + self.batch_size] % len(self.dataset)
        rng = np.random.default_rng([self.seed, 2, int(number)])
        drawn = [(int(item), *self.dataset.draw(int(item), rng)) for item in items]
        windows, labels = self._examples(drawn)
        if self._augmenter is not None:
            windows = self._augmented(windows, rng)
        return self._parts(windows), labels

    def evaluation_batch(self, start: int) -> Any:
        """Return at most `batch_size` fixed examples, from number `start` on."""
        windows, labels = self._examples(self.fixed[start : start + self.batch_size])
        return self._parts(windows), labels

    def _examples(self, chosen: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        found = list(self._pool.map(lambda each: self.dataset.example(*each), chosen))
        return np.stack([w for w, _ in found]), np.stack([labels for _, labels in found])

    def _augmented(self, windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment each example as one image that has its windows as channels."""
        assert self._augmenter is not None
        n, s, h, w, c = windows.shape
        flat = np.moveaxis(windows, 1, 3).reshape(n, h, w, s * c).astype(np.float32)
        changed, _ = self._augmenter(flat, flat, rng)
        return np.moveaxis(changed.reshape(n, h, w, s, c), 3, 1)

    def _parts(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        return split_channels(windows)

    def fingerprint(self) -> int:
        """Return a checksum of the table and of the sizes and lengths of the videos."""
        told = [*self.dataset.described(), self.dataset.layout, self.repeats, len(self.fixed)]
        return zlib.crc32(repr(told).encode())


def split_channels(windows: np.ndarray) -> dict[str, np.ndarray]:
    """Split windows (..., 3 or 5) into the inputs of the network: images 0 to 255, masks 0 to 1."""
    parts = {"image": windows[..., :IMAGE_CHANNELS].astype(np.float32)}
    if windows.shape[-1] > IMAGE_CHANNELS:
        parts["mask"] = windows[..., IMAGE_CHANNELS:].astype(np.float32) / np.float32(255)
    return parts


class SurgicalSource(Source):
    """Videos with a table of their phases: ``source: surgical_video`` in a YAML file.

    Parameters
    ----------
    data_dir : str
        Folder of the videos.
    sr_scale : int, optional
        Must be 1.
    csv_path : str, optional
        The table: ``video_path,phase``, or OphNet's ``video_id,start,end,split,...,phase_id``.
    phases : list of str, optional
        Names of the phases in the order of their numbers; default those of the table.
    window_size, stride : int
        Frames in a window, and from the start of one window to that of the next.
    max_frames : int
        Largest number of frames used from a segment, in windows spread over the segment.
    sample_rate_hz : float, optional
        Rate at which frames are taken; default every frame.
    size : int
        Side of the images that the network receives.
    sequence : int
        Windows in an example; more than one for a network with ``temporal_layers``.
    mask_dir : str, optional
        Folder of the masks: a video or a folder of pictures for each video.
    shares : (float, float, float)
        Shares of training, validation and test, if the table has no column ``split``.
    split_seed : int
        Seed of the assignment to splits.
    repeats : int
        Windows per segment in an epoch.
    validation_windows : int
        Fixed windows per segment in validation.
    class_weights : bool
        Weight each phase by its inverse frequency in the loss.
    max_failures : float
        Largest share of videos that may be unreadable.
    num_workers : int
        Number of decoding threads.
    cache_dir : str, optional
        Folder for decoded windows, which later epochs and runs then need not decode again.
    memory_gb : float
        Memory for decoded windows, in GB.

    Raises
    ------
    ConfigError, DataError
        If the table or the videos cannot be used.
    """

    norm_range: ClassVar[tuple[float, float]] = (0.0, 255.0)  # type: ignore[misc]
    free_settings: ClassVar[tuple[str, ...]] = (
        "csv_path",
        "mask_dir",
        "cache_dir",
        "memory_gb",
        "num_workers",
        "max_failures",
    )

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None = None,
        csv_path: str | None = None,
        phases: list[str | int] | None = None,
        window_size: Count = 16,
        stride: Count = 8,
        max_frames: Count = 64,
        sample_rate_hz: Annotated[Float, Field(gt=0)] | None = None,
        size: Annotated[Count, Field(ge=32, le=1024)] = 224,
        sequence: Annotated[Count, Field(le=4096)] = 1,
        mask_dir: str | None = None,
        shares: tuple[Weight, Weight, Weight] = (8, 1, 1),
        split_seed: Annotated[Int, Field(ge=0)] = 0,
        repeats: Annotated[Count, Field(le=100_000)] = 1,
        validation_windows: Count = 2,
        class_weights: bool = True,
        max_failures: Share = 0.1,
        num_workers: Annotated[Count, Field(le=256)] = 4,
        cache_dir: str | None = None,
        memory_gb: Gigabytes = 1.0,
    ) -> None:
        super().__init__(data_dir, sr_scale or 1)
        self.csv_path = csv_path
        self.phases = phases_in({"phases": phases})
        self.layout = Layout(window_size, stride, max_frames, size, sample_rate_hz, sequence)
        self.mask_dir = None if mask_dir is None else Path(mask_dir)
        self.shares, self.split_seed = checked_shares(shares, f"{NAME}.shares"), split_seed
        self.repeats, self.validation_windows = repeats, validation_windows
        self.weighted, self.max_failures, self.workers = class_weights, max_failures, num_workers
        self._cache = WindowCache(memory_gb * 1e9, None if cache_dir is None else Path(cache_dir))
        self._opened: dict[str, OphNetSurgicalDataset] = {}
        self._said: list[str] = []

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the network with its loss and geometry, and the phases of the table."""
        phases = section["phases"]
        if phases is None and section["csv_path"] is not None:
            phases = phases_of(read_annotations(section["csv_path"]).table)
        names = [str(phase) for phase in phases or ()]
        if again := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"{NAME}.phases must have different names; received {again[0]} more than once. "
                f"Remove one."
            )
        side = section["size"]
        return {
            "model": "surgical_phase",
            "scale": 1,
            "input_shape": [side, side, IMAGE_CHANNELS],
            "normalizer": "identity",
            "loss": "phase_cross_entropy",
            "metrics": ["phase_accuracy"],
            "monitor_metric": "val_phase_accuracy",
            "batch_size": 8,
            "surgical_phase": {
                "num_classes": len(phases or _OPHNET),
                "masks": section["mask_dir"] is not None,
            },
            NAME: {"phases": None if phases is None else [str(phase) for phase in phases]},
        }

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All segments; see `toolbox.tasks.surgical_phase.annotations`."""
        if self.csv_path is None:
            raise ConfigError(
                f"{NAME}.csv_path must name the table of videos and phases; received none. Add "
                f"csv_path."
            )
        found = read_annotations(self.csv_path)
        self._said += found.notes
        check_phases(found.table, self.phases, self.csv_path)
        self._refuse_one_video_twice(found.table)
        return found.table

    def _refuse_one_video_twice(self, table: pd.DataFrame) -> None:
        """Refuse two names for one file, because they could be in two splits."""
        known, files = find_videos(self.data_dir, self.mask_dir), dict[Path, str]()
        for name in dict.fromkeys(table["video"]):
            try:
                path = video_path(name, self.data_dir, known).resolve()
            except DataError:
                continue  # reported when the split is opened
            if path in files:
                raise DataError(
                    f"{self.csv_path}: {files[path]} and {name} are the same video, {path.name}. "
                    f"Use one name."
                )
            files[path] = name

    @functools.cached_property
    def splits(self) -> dict[str, list[str]]:
        """Names of the videos of each split."""
        return split_by_video(self.table, self.shares, self.split_seed)

    @property
    def phase2idx(self) -> dict[str, int]:
        """Number of each phase."""
        return {phase: number for number, phase in enumerate(self.phases)}

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """Lines for a program to print about everything opened so far."""
        opened = [note for d in self._opened.values() for note in (*d.videos.notes(), *d.notes)]
        return [*self._said, *opened]

    def dataset(self, split: str) -> OphNetSurgicalDataset:
        """Return the examples of a split, opened at the first call."""
        if split not in self._opened:
            names = self.splits[split]
            if not names:
                raise DataError(
                    f"{self.csv_path}: leaves no video for {split}. Raise that part of "
                    f"{NAME}.shares, or assign videos in the column split."
                )
            what = f"videos for {split}"
            videos = VideoSet(names, self.data_dir, self.layout, self.mask_dir, what)
            videos.refuse_failures(self.max_failures)
            rows = self.table[self.table["video"].isin(names)]
            found = OphNetSurgicalDataset(rows, self.phase2idx, videos=videos, cache=self._cache)
            if not len(found):
                raise DataError(
                    f"{self.csv_path}: no segment for {split} contains the middle of a window. "
                    f"Lower {NAME}.window_size, or correct start and end."
                )
            self._opened[split] = found
        return self._opened[split]

    def class_weights(self) -> dict[str, float]:
        """Return the weight of every phase in the loss, from the training segments."""
        if not self.weighted:
            return dict.fromkeys(self.phases, 1.0)
        rows = self.table[self.table["video"].isin(self.splits["train"])]
        found = calculate_class_weights(rows, "phase")
        return {phase: float(found.get(phase, 0.0)) for phase in self.phases}

    def facts(self) -> dict[str, Any]:
        """Return the class weights in the order of the phases."""
        return {"class_weights": list(self.class_weights().values())}

    def batches(
        self,
        split: str,
        norm_func: NormFunc,
        batch_size: int,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> Batches:
        """Return batches: random windows of each segment for training, fixed for validation."""
        data = self.dataset(split)
        self._cache.check()
        if split == "train":
            return WindowBatches(data, batch_size, seed, self.repeats, (), augmenter, self.workers)
        fixed = data.even(self.validation_windows)
        return WindowBatches(data, batch_size, seed, fixed=fixed, workers=self.workers)

    def records(self) -> dict[str, str]:
        """Return the table of videos, and the names, weights and counts of the phases."""
        rows: list[dict[str, Any]] = []
        for split, data in self._opened.items():
            for name, windows in data.videos.videos.items():
                video = windows.video
                size = {"width": video.width, "height": video.height}
                length = {"frames": len(video), "rate_hz": round(video.rate_hz, 4)}
                rows.append({"split": split, "video": name, **size, **length, "left_out": ""})
            for name, reason in data.videos.left_out.items():
                rows.append({"split": split, "video": name, "left_out": reason})
        counts = self._opened["train"].segments["phase"].value_counts()
        phases = {
            "phases": self.phases,
            "class_weights": list(self.class_weights().values()),
            "segments": [int(counts.get(phase, 0)) for phase in self.phases],
            "windows": self.layout.facts(),
        }
        videos = pd.DataFrame(rows).to_csv(index=False)
        return {VIDEO_REPORT: videos, PHASE_REPORT: json.dumps(phases, indent=2) + "\n"}

    def sample(self) -> Pair:
        """Return a dummy pair: the network scales its input itself and needs no normaliser."""
        return np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)

    def train(self) -> Pair:
        """Refuse: windows with labels are not pairs of images."""
        return self._no_pairs()

    def validation(self) -> Pair:
        """Refuse, as `train`."""
        return self._no_pairs()

    def test(self) -> Pair:
        """Refuse, as `train`."""
        return self._no_pairs()

    def _no_pairs(self) -> Pair:
        raise ConfigError(
            f"source {NAME} has windows and labels, not pairs of images. Use its batches."
        )
