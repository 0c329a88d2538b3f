"""Prediction of the phase of every frame of a video, in bounded memory."""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from toolbox.errors import ConfigError, DataError
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.tasks.surgical_phase.dataset import Layout
from toolbox.tasks.surgical_phase.source import phase_record, phases_in, split_channels
from toolbox.tasks.surgical_phase.windows import VideoWindows

#: Windows in a batch, and batches decoded ahead.
_BATCH, _AHEAD = 16, 4


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The phases that a network found in a video.

    Attributes
    ----------
    path : pathlib.Path
        The video.
    times_s : numpy.ndarray, shape (frames,)
        Time of each frame.
    rate_hz : float
        Mean number of frames per second.
    ids : numpy.ndarray, shape (frames,)
        Number of the phase of each frame.
    probability : numpy.ndarray, shape (frames,)
        Softmax probability of that phase.
    window_times_s : numpy.ndarray, shape (windows,)
        Time of the middle of each window.
    probabilities : numpy.ndarray, shape (windows, phases)
        Softmax probability of each phase.
    seconds, network_seconds : float
        Time used in total, and by the network alone.
    notes : list of str
        Notes about the file of the video.
    """

    path: Path
    times_s: np.ndarray
    rate_hz: float
    ids: np.ndarray
    probability: np.ndarray
    window_times_s: np.ndarray
    probabilities: np.ndarray
    seconds: float
    network_seconds: float
    notes: list[str]


class Follower:
    """Follows videos with an opened run.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.

    Raises
    ------
    ConfigError, DataError
        If ``online`` is set and the network needs later frames, or if weights belong to other
        phases or windows.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        section = run.settings.source_params
        self.phases = phases_in(section)
        self.layout = Layout(
            section["window_size"],
            section["stride"],
            section["max_frames"],
            section["size"],
            section["sample_rate_hz"],
        )
        for weights in run.weights:
            self._refuse_other_windows(weights)
        params = run.settings.model_params
        self.has_masks = bool(params["masks"])
        self.is_temporal = params["temporal_layers"] > 0
        self.online = bool(run.predict.online)
        if self.online and self.is_temporal and not params["causal"]:
            raise ConfigError(
                "online must be false with surgical_phase.causal: false, because such a network "
                "needs later frames; received true. Remove online."
            )
        self._encode = [tf.function(network.encoder) for network in run.networks]
        self._decide = [
            tf.function(network.head, reduce_retracing=True) for network in run.networks
        ]

    def _refuse_other_windows(self, weights: Path) -> None:
        """Refuse weights that were trained for other phases or with other windows."""
        record = phase_record(weights.parent)
        if record.get("phases", self.phases) != self.phases:
            raise DataError(
                f"{weights}: was trained for other phases than those in the settings, or for the "
                f"same in another order. Use the config.yml of its log folder."
            )
        for key, value in record.get("windows", {}).items():
            if (given := self.layout.facts()[key]) != value:
                raise DataError(
                    f"{weights}: was trained on windows with {key} {value}; received {given}. "
                    f"Use the config.yml of its log folder."
                )

    def open(self, path: Path, masks: Path | None = None) -> VideoWindows:
        """Return the windows of a video, cut as in training."""
        layout = self.layout
        return VideoWindows(path, layout.extractor, layout.size, layout.rate_hz, masks)

    def follow(self, windows: VideoWindows) -> Timeline:
        """Return the phase of every frame."""
        start = time.perf_counter()
        kept: list[list[np.ndarray]] = [[] for _ in self.run.networks]
        spent = 0.0
        bar = progress(
            _batches(windows), windows.path.name, total=-(-len(windows) // _BATCH), delay=2
        )
        for batch in bar:
            begun = time.perf_counter()
            for number, found in enumerate(self._features(batch)):
                kept[number].append(found)
            spent += time.perf_counter() - begun
        begun = time.perf_counter()
        probabilities = self._probabilities(kept)
        spent += time.perf_counter() - begun
        chosen = self._window_of_frames(windows)
        ids = probabilities.argmax(axis=1)
        return Timeline(
            windows.path,
            windows.video.times_s,
            windows.video.rate_hz,
            ids[chosen],
            probabilities.max(axis=1)[chosen],
            windows.times_s,
            probabilities,
            time.perf_counter() - start,
            spent,
            windows.video.notes,
        )

    def _features(self, batch: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the results of each network: scores, or features for a temporal head."""
        count = len(batch)
        full = np.pad(batch, [(0, _BATCH - count), (0, 0), (0, 0), (0, 0)], mode="edge")
        parts = {name: tf.constant(part) for name, part in split_channels(full).items()}
        for encode, decide in zip(self._encode, self._decide, strict=True):
            features = encode(parts, training=False)
            if not self.is_temporal:
                features = decide(features[:, None], training=False)[:, 0]
            yield features.numpy()[:count].astype(np.float32)

    def _probabilities(self, kept: list[list[np.ndarray]]) -> np.ndarray:
        found = []
        for decide, parts in zip(self._decide, kept, strict=True):
            scores = np.concatenate(parts)
            if self.is_temporal:
                scores = decide(tf.constant(scores[None]), training=False)[0]
            found.append(tf.nn.softmax(scores).numpy())
        mean: np.ndarray = np.mean(found, axis=0)
        return mean

    def _window_of_frames(self, windows: VideoWindows) -> np.ndarray:
        """Return the window that decides each frame: the one with the nearest middle.

        Online, it is the last window that has ended; before the first has ended, the first.
        """
        if self.online:
            frames = np.arange(len(windows.video))
            return np.maximum(np.searchsorted(windows.ends, frames, side="right") - 1, 0)
        borders = (windows.times_s[1:] + windows.times_s[:-1]) / 2
        return np.searchsorted(borders, windows.video.times_s, side="right")


def _batches(windows: VideoWindows) -> Iterator[np.ndarray]:
    """Yield the windows of a video in batches, decoded ahead in another thread."""
    ready: queue.Queue[Any] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(item: Any) -> None:
        while not ended.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def decode() -> None:
        try:
            stream = windows.stream()
            while part := list(itertools.islice(stream, _BATCH)):
                put(np.stack(part))
                if ended.is_set():
                    return
            put(None)
        except Exception as error:  # to be raised in the thread that waits for windows
            put(error)

    threading.Thread(target=decode, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        ended.set()
