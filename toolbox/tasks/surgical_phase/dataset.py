"""Segments of videos, one phase each, and the windows that show them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.errors import DataError
from toolbox.picture_set import NAMED, left_out_note
from toolbox.progress import progress
from toolbox.tasks.surgical_phase.annotations import labels_at
from toolbox.tasks.surgical_phase.windows import (
    IMAGE_CHANNELS,
    SlidingWindowExtractor,
    VideoWindows,
    WindowCache,
    find_masks,
    find_videos,
    video_path,
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Parameters that turn videos into examples.

    Attributes
    ----------
    window_size, stride, max_frames : int
        Frames in a window, from one window to the next, and at most from a segment.
    size : int
        Side of the images.
    rate_hz : float or None
        Rate at which frames are taken; None for every frame.
    sequence : int
        Windows in an example.
    """

    window_size: int = 16
    stride: int = 8
    max_frames: int = 64
    size: int = 224
    rate_hz: float | None = None
    sequence: int = 1

    @property
    def extractor(self) -> SlidingWindowExtractor:
        """The extractor that cuts a video into windows."""
        return SlidingWindowExtractor(self.window_size, self.stride)

    def facts(self) -> dict[str, Any]:
        """Return the parameters that must be the same in training and prediction."""
        names = ("window_size", "stride", "size", "rate_hz")
        return {name: getattr(self, name) for name in names}

    @property
    def most_windows(self) -> int:
        """Number of windows in `max_frames` frames."""
        return max(1, (self.max_frames - self.window_size) // self.stride + 1)


class VideoSet:
    """The usable videos of a table of segments.

    Each is opened once, in parallel, to count its frames. A video that cannot be read is left out
    and named.

    Parameters
    ----------
    names : sequence of str
        Videos as named in the table: a path inside the folder, or a file name without suffix.
    folder : pathlib.Path
        Folder of the videos.
    layout : Layout
        How they are cut.
    mask_dir : pathlib.Path, optional
        Folder of their masks.
    what : str
        What they are for; used in messages.

    Attributes
    ----------
    videos : dict of str to VideoWindows
        The usable videos.
    left_out : dict of str to str
        The others, with the reasons.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        layout: Layout,
        mask_dir: Path | None = None,
        what: str = "videos",
    ) -> None:
        self.folder, self.layout, self.mask_dir = folder, layout, mask_dir
        self._found = find_videos(folder, mask_dir)
        self.videos: dict[str, VideoWindows] = {}
        self.left_out: dict[str, str] = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            opened = pool.map(self._try, names)
            bar = progress(opened, f"opening {what}", total=len(names), delay=2)
            for name, found in zip(names, bar, strict=True):
                if isinstance(found, str):
                    self.left_out[name] = found
                else:
                    self.videos[name] = found

    def _try(self, name: str) -> VideoWindows | str:
        try:
            path, layout = video_path(name, self.folder, self._found), self.layout
            masks = None if self.mask_dir is None else find_masks(self.mask_dir, name)
            return VideoWindows(path, layout.extractor, layout.size, layout.rate_hz, masks)
        except DataError as error:
            return str(error)

    def refuse_failures(self, most: float) -> None:
        """Refuse a set if more than the share `most` of it cannot be read.

        Raises
        ------
        DataError
            One line with the counts and the first reasons.
        """
        lost, total = len(self.left_out), len(self.left_out) + len(self.videos)
        if lost and (lost > most * total or not self.videos):
            first = "; ".join(list(self.left_out.values())[:NAMED])
            raise DataError(
                f"{lost} of {total} videos cannot be used; max_failures allows a share of "
                f"{most:g}: {first}{'; ...' if lost > NAMED else ''}"
            )

    def notes(self) -> list[str]:
        """Return lines about videos that were left out, and notes about the others."""
        said = [note for video in self.videos.values() for note in video.video.notes]
        more = [f"and {len(said) - NAMED} more notes about videos"] if len(said) > NAMED else []
        lost = left_out_note(list(self.left_out.values()), len(self.videos), "videos")
        return said[:NAMED] + more + lost


class OphNetSurgicalDataset:
    """Segments of videos as examples: windows, and their phases as one-hot labels.

    Parameters
    ----------
    df : pandas.DataFrame
        One row per segment: ``video``, ``start_s``, ``end_s`` (NaN: the whole video), ``phase``.
    phase2idx : dict of str to int
        Number of each phase.
    window_size, stride : int
        Frames in a window, and from the start of one window to that of the next.
    max_frames : int
        Largest number of frames used from a segment, in windows spread over the segment.
    videos : VideoSet, optional
        The opened videos; their layout takes precedence over the three numbers.
    folder : path-like
        Folder of the videos, if `videos` is not given.
    cache : WindowCache, optional
        Keeps decoded windows.

    Attributes
    ----------
    segments : pandas.DataFrame
        The rows that have a window.
    notes : list of str
        A line with the number of segments without a window, if there are any.
    """

    def __init__(
        self,
        df: pd.DataFrame,
        phase2idx: Mapping[str, int],
        window_size: int = 16,
        stride: int = 8,
        max_frames: int = 64,
        *,
        videos: VideoSet | None = None,
        folder: str | os.PathLike[str] = ".",
        cache: WindowCache | None = None,
    ) -> None:
        if videos is None:
            layout = Layout(window_size, stride, max_frames)
            videos = VideoSet(list(dict.fromkeys(df["video"])), Path(folder), layout)
        self.videos, self.layout, self.phase2idx = videos, videos.layout, dict(phase2idx)
        self.cache = cache or WindowCache(0)
        self._labels = {
            name: self.labels(df[df["video"] == name], windows.times_s)
            for name, windows in videos.videos.items()
        }
        known = df[df["video"].isin(list(videos.videos))]
        anchors = [self._windows_of(row) for row in known.itertuples()]
        kept = np.array([len(found) > 0 for found in anchors], bool)
        self.segments = known[kept]
        self._anchors = [found for found in anchors if len(found)]
        self._names = self.segments["video"].tolist()
        lost = int((~kept).sum())
        self.notes = []
        if lost:
            self.notes.append(
                f"{lost} segment{'s' * (lost > 1)} left out because no window has its middle "
                f"there: too short, or after the end of the video"
            )

    def __len__(self) -> int:
        return len(self._anchors)

    def __getitem__(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle window of a segment: (1, size, size, C), uint8, and labels (1, K)."""
        anchors = self._anchors[idx]
        return self.example(idx, int(anchors[len(anchors) // 2]))

    def labels(self, rows: pd.DataFrame, times_s: np.ndarray) -> np.ndarray:
        """Return the number of the phase at each time of a video; -1 where there is none."""
        found: np.ndarray = labels_at(rows, times_s, list(self.phase2idx))
        return found

    def _windows_of(self, row: Any) -> np.ndarray:
        """Return the windows that may be examples of a segment; preferably entirely inside it."""
        windows = self.videos.videos[row.video]
        # Exclude times for which another phase is annotated too.
        mine = self._labels[row.video] == self.phase2idx[row.phase]
        if np.isfinite(row.start_s):
            times = windows.video.times_s
            mine &= (windows.times_s >= row.start_s) & (windows.times_s < row.end_s)
            whole = (times[windows.starts] >= row.start_s) & (times[windows.ends] < row.end_s)
            mine = mine & whole if (mine & whole).any() else mine
        numbers = np.flatnonzero(mine)
        count = min(len(numbers), self.layout.most_windows)
        return numbers[np.linspace(0, len(numbers) - 1, count).round().astype(int)]

    def draw(self, idx: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a random window of a segment, and its place in a sequence."""
        anchors = self._anchors[idx]
        return int(anchors[rng.integers(len(anchors))]), int(rng.integers(self.layout.sequence))

    def even(self, each: int) -> list[tuple[int, int]]:
        """Return (segment, window) for up to `each` windows per segment, spread over it."""
        found = []
        for idx, anchors in enumerate(self._anchors):
            count = min(each, len(anchors))
            chosen = np.linspace(0, len(anchors) - 1, count + 2)[1:-1].round().astype(int)
            found += [(idx, int(anchors[i])) for i in chosen]
        return found

    def example(
        self, idx: int, anchor: int, place: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequence of windows around a window of a segment.

        Parameters
        ----------
        idx : int
            Number of the segment.
        anchor : int
            Number of the window in its video.
        place : int, optional
            Place of that window in the sequence; default the middle.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            Windows (S, size, size, C), uint8, and one-hot labels (S, phases). The labels are all 0
            for a window without a phase and after the end of the video.
        """
        name, length = self._names[idx], self.layout.sequence
        windows = self.videos.videos[name]
        start = anchor - (length // 2 if place is None else place)
        start = max(0, min(start, len(windows) - length))
        numbers = np.arange(start, start + length)
        inside = np.minimum(numbers, len(windows) - 1)
        images = [self.cache.window(windows, int(number)) for number in inside]
        ids = np.where(numbers == inside, self._labels[name][inside], -1)
        labels = np.zeros((length, len(self.phase2idx)), np.float32)
        labels[np.flatnonzero(ids >= 0), ids[ids >= 0]] = 1
        return np.stack(images), labels

    @property
    def channels(self) -> int:
        """Channels of a window: 3, or 5 with masks."""
        return IMAGE_CHANNELS if self.videos.mask_dir is None else IMAGE_CHANNELS + 2

    def described(self) -> Iterator[tuple[Any, ...]]:
        """Yield what identifies the examples, for a checksum."""
        for name, windows in self.videos.videos.items():
            yield name, windows.path.stat().st_size, len(windows.video), len(windows)
        yield from self.segments[["video", "start_s", "end_s", "phase"]].itertuples(index=False)
