"""Figures of phase recognition: strict and relaxed, with a definition of every average.

In the literature, the same words stand for different numbers. They differ in which videos enter
the mean of a phase, in which order means are taken, and in the tolerance at boundaries. Funke,
Rivoir and Speidel 2023, "Metrics matter in surgical phase recognition" (arXiv:2305.13961), compare
the variants; `definitions` describes those used here.

Notation: the frames of a video that have a label in the truth are judged. For a phase, hits (TP)
are frames of that phase that were found as such; false alarms (FP) are frames of another phase that
were found as this one; misses (FN) are frames of this phase that were found as another or as none.

=========  =======================  ====================================
figure     definition               undefined (0 ÷ 0) when the phase is
=========  =======================  ====================================
precision  TP ÷ (TP + FP)           never found
recall     TP ÷ (TP + FN)           not in the truth
Jaccard    TP ÷ (TP + FP + FN)      neither in the truth nor found
F1         2 TP ÷ (2 TP + FP + FN)  neither in the truth nor found
=========  =======================  ====================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from toolbox.errors import ConfigError, DataError, did_you_mean
from toolbox.tasks.surgical_phase.annotations import UNLABELLED

#: Figures of one phase in one video; larger is better.
FIGURES = ("precision", "recall", "jaccard", "f1")
#: How a video counts in the mean of a phase that it lacks.
ABSENT = {
    "skip": "a video whose truth lacks the phase is left out, whatever was predicted in it; an "
    "undefined precision (phase never predicted) is left out too",
    "defined": "only undefined values (0 ÷ 0) are left out; if a phase was predicted in a video "
    "without it, its precision, Jaccard and F1 are 0 there",
    "zero": "every video counts; undefined values (0 ÷ 0) count as 0",
}
#: Prefix of the relaxed figures.
RELAXED = "relaxed_"
#: Samples of the bootstrap.
_DRAWS = 1000
#: A rounding error of distances, in frames.
_TINY = 1e-6
#: More frames than there are in any video.
_FAR = 2**60


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """Truth and prediction of one video.

    Attributes
    ----------
    name : str
        Name in tables and messages.
    frames : numpy.ndarray, shape (n,), int
        Frame numbers, increasing; 0, 25, 50, ... if every 25th frame has a label.
    truth, found : numpy.ndarray, shape (n,), int
        Ids of phases. `UNLABELLED` means not judged in the truth, and a miss in the prediction.
    rate_hz : float, optional
        Frame numbers per second; without it there are no relaxed figures.
    """

    name: str
    frames: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    rate_hz: float | None = None

    @property
    def judged(self) -> np.ndarray:
        """Mask of the frames that have a label in the truth, (n,), bool."""
        return np.asarray(self.truth) != UNLABELLED


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Figures of a set of videos; see `definitions`.

    Attributes
    ----------
    videos : pandas.DataFrame
        One row per video: ``video``, ``frames``, ``judged``, ``rate_hz``, ``accuracy``, the means
        of `FIGURES` over its phases, and the same with the prefix ``relaxed_``.
    pairs : pandas.DataFrame
        One row per video and phase: ``video``, ``phase`` (id), ``in_truth``, ``in_found``
        (frames), `FIGURES`, and the same with the prefix ``relaxed_``; NaN for values left out.
    phases : pandas.DataFrame
        One row per phase: ``phase`` (id), the number of ``videos`` and ``frames`` with it in the
        truth, then for each figure its mean over videos, ``_std``, the number ``_videos`` of
        videos averaged, and ``pooled_``, the value of all frames together.
    confusion : numpy.ndarray, shape (phases, phases + 1), int64
        See `confusion`; all videos together.
    summary : dict
        Numbers under the names of `definitions`; None where undefined.
    """

    videos: pd.DataFrame
    pairs: pd.DataFrame
    phases: pd.DataFrame
    confusion: np.ndarray
    summary: dict[str, Any]


def confusion(truth: np.ndarray, found: np.ndarray, num_phases: int) -> np.ndarray:
    """Count the judged frames of each true phase by the phase that was found.

    Parameters
    ----------
    truth, found : numpy.ndarray, shape (n,), int
        Ids; see `Video`.
    num_phases : int
        Number of phases.

    Returns
    -------
    numpy.ndarray, shape (num_phases, num_phases + 1), int64
        Row: the truth. Column: the phase found, no prediction last.
    """
    truth, found = np.asarray(truth, np.int64), np.asarray(found, np.int64)
    judged = truth != UNLABELLED
    columns = np.where(found == UNLABELLED, num_phases, found)[judged]
    cells = truth[judged] * (num_phases + 1) + columns
    counts = np.bincount(cells, minlength=num_phases * (num_phases + 1))
    return counts.reshape(num_phases, num_phases + 1)


def forgiven(video: Video, boundary_s: float = 10.0) -> np.ndarray:
    """Return a mask of the wrong frames that the relaxed measure accepts.

    A boundary lies between two successive frames of the truth with different phases. In the
    `boundary_s` seconds after it, the phase before it is accepted too (a late transition). In the
    `boundary_s` seconds before it, the phase after it is accepted too (an early transition). Only
    the two phases that meet at a boundary are accepted there, even if a segment is shorter than
    `boundary_s`. If frames between two segments are missing or unlabelled, the boundary is
    unknown, and nothing is accepted there.

    Parameters
    ----------
    video : Video
        A video with ``rate_hz``.
    boundary_s : float
        Seconds on either side.

    Returns
    -------
    numpy.ndarray, shape (n,), bool

    Notes
    -----
    This is the measure of the M2CAI 2016 workflow challenge. Its script differs in four ways. It
    uses `boundary_s` × 25 frames even for data with one frame per second, where 10 s become 250 s;
    here the frame rate of the video is used. It accepts ids one lower or higher, and two for some
    phases of Cholec80; here the phases that meet are accepted, in whatever order they occur. For
    early transitions it tests the last frames of a segment but changes the first ones. It limits
    precision and recall to 100 %; see `measure`.
    """
    if video.rate_hz is None:
        raise ConfigError(f"{video.name}: relaxed figures need rate_hz; received None.")
    width = boundary_s * video.rate_hz + _TINY
    frames, truth, found = _arrays(video)
    accepted = np.zeros(len(frames), bool)
    for edge in _boundaries(frames, truth):
        start, end = _segment(truth, edge - 1)[0], _segment(truth, edge)[1]
        early = frames[edge] - frames[start:edge] <= width
        accepted[start:edge] |= early & (found[start:edge] == truth[edge])
        # The frame at the boundary itself is the first, so both sides have as many frames.
        late = frames[edge:end] - frames[edge] < width - 2 * _TINY
        accepted[edge:end] |= late & (found[edge:end] == truth[edge - 1])
    return accepted


def _arrays(video: Video) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames, truth, found = (
        np.asarray(part, np.int64) for part in (video.frames, video.truth, video.found)
    )
    return frames, truth, found


def _boundaries(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the positions of the frames that directly follow a frame of another phase."""
    distance = np.diff(frames)
    # A second at 29.97 Hz has 29 or 30 frames; at twice the distance a frame is missing.
    next_to = distance < 2 * distance.min(initial=_FAR)
    labelled = (truth[1:] != UNLABELLED) & (truth[:-1] != UNLABELLED)
    return np.flatnonzero((truth[1:] != truth[:-1]) & labelled & next_to) + 1


def _segment(truth: np.ndarray, position: int) -> tuple[int, int]:
    """Return start and end of the run of equal ids around a position."""
    others = np.flatnonzero(truth != truth[position])
    place = np.searchsorted(others, position)
    start = others[place - 1] + 1 if place else 0
    end = others[place] if place < len(others) else len(truth)
    return int(start), int(end)


def phase_figures(
    hits: np.ndarray, false_alarms: np.ndarray, misses: np.ndarray, absent: str = "skip"
) -> dict[str, np.ndarray]:
    """Return the figures of phases from counts of frames.

    Parameters
    ----------
    hits, false_alarms, misses : numpy.ndarray, shape (...)
        TP, FP and FN of each phase.
    absent : {'skip', 'defined', 'zero'}
        See `ABSENT`.

    Returns
    -------
    dict of str to numpy.ndarray, shape (...), float64
        Values under the names of `FIGURES`; NaN for values that a mean must leave out.
    """
    hits, false_alarms, misses = (np.asarray(a, np.float64) for a in (hits, false_alarms, misses))
    # Undefined values are NaN, without a warning.
    with np.errstate(invalid="ignore"):
        found = {
            "precision": hits / (hits + false_alarms),
            "recall": hits / (hits + misses),
            "jaccard": hits / (hits + false_alarms + misses),
            "f1": 2 * hits / (2 * hits + false_alarms + misses),
        }
    if absent == "zero":
        return {name: np.nan_to_num(values, nan=0.0) for name, values in found.items()}
    if absent == "skip":
        present = hits + misses > 0
        return {name: np.where(present, values, np.nan) for name, values in found.items()}
    return found


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the mean, over the choice of videos.

    Parameters
    ----------
    values : sequence of float
        One value per video; NaN is left out.
    seed : int
        Seed of the 1000 bootstrap samples.

    Returns
    -------
    (float, float)
        Percentiles 2.5 and 97.5 of the means of samples drawn with replacement.
    """
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return np.nan, np.nan
    # Sorted, so that the order of the videos does not matter.
    sampled = np.random.default_rng(seed).choice(np.sort(kept), (_DRAWS, len(kept)))
    low, high = np.percentile(sampled.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def measure(
    videos: Sequence[Video],
    num_phases: int,
    absent: str = "skip",
    boundary_s: float = 10.0,
    seed: int = 0,
) -> Measured:
    """Measure predicted phases against the truth.

    Parameters
    ----------
    videos : sequence of Video
        The videos. Relaxed figures need the ``rate_hz`` of all of them.
    num_phases : int
        Number of phases; ids are 0 to ``num_phases - 1``.
    absent : {'skip', 'defined', 'zero'}
        How a video counts in the mean of a phase that it lacks; see `ABSENT`.
    boundary_s : float
        Tolerance of the relaxed figures on either side of a boundary, in s; see `forgiven`.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Measured

    Raises
    ------
    DataError
        If there is no video, or if a video has arrays of different lengths, frame numbers that do
        not increase, unknown ids, no judged frame or a rate that is not positive.
    ConfigError
        If `absent` is unknown or `boundary_s` is negative.

    Notes
    -----
    Strict per-video accuracy and per-phase precision and recall: Twinanda et al. 2017, EndoNet
    (doi:10.1109/TMI.2016.2593957). Jaccard: the M2CAI 2016 challenge, followed by TeCNO
    (doi:10.1007/978-3-030-59716-0_33) and Trans-SVNet (doi:10.1007/978-3-030-87202-1_57).

    Relaxed: an accepted frame of phase A found as B is a hit for both phases, and neither a miss of
    A nor a false alarm of B. It counts in numerator and denominator, so no figure exceeds 1 and
    none is below the strict one. Jaccard is then what the script of the challenge is meant to
    compute. In that script, precision and recall divide the same hits by only the frames found as,
    or labelled with, the phase; they can exceed 100 %, and are limited to it.
    """
    _check(videos, num_phases, absent, boundary_s)
    matrices = np.array([confusion(v.truth, v.found, num_phases) for v in videos])
    relaxed = all(video.rate_hz is not None for video in videos)
    tables = _Tables(_video_rows(videos), _pair_rows(videos, matrices), _phase_rows(matrices))
    counts = _counts(matrices)
    tables.add("", counts, _accuracies(matrices), absent)
    summary: dict[str, Any] = {
        "n": len(videos),
        "frames": int(tables.videos["frames"].sum()),
        "judged": int(matrices.sum()),
        "absent": absent,
        "boundary_s": float(boundary_s) if relaxed else None,
        **tables.averages("", seed),
        "relaxed": None,
    }
    if relaxed:
        accepted = np.array([_forgiven_frames(v, num_phases, boundary_s) for v in videos])
        relaxed_counts = _relaxed_counts(counts, accepted)
        tables.add(RELAXED, relaxed_counts, _accuracies(matrices, accepted), absent)
        summary["relaxed"] = tables.averages(RELAXED, seed)
    return Measured(tables.videos, tables.pairs, tables.phases, matrices.sum(axis=0), summary)


#: TP, FP and FN, each (videos, phases).
_Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _check(videos: Sequence[Video], num_phases: int, absent: str, boundary_s: float) -> None:
    if absent not in ABSENT:
        raise ConfigError(
            f"absent must be one of {', '.join(ABSENT)}; received {absent!r}. "
            f"{did_you_mean(absent, ABSENT)}"
        )
    if not 0 <= boundary_s < np.inf:
        raise ConfigError(
            f"boundary seconds must be 0 or more; received {boundary_s}. Use 10 as in M2CAI."
        )
    if not videos:
        raise DataError("received no video; expected at least one. Name videos to measure.")
    for video in videos:
        _check_video(video, num_phases)


def _check_video(video: Video, num_phases: int) -> None:
    frames, truth, found = _arrays(video)
    if not len(frames) == len(truth) == len(found):
        raise DataError(
            f"{video.name}: expected as many frame numbers, true and predicted phases; received "
            f"{len(frames)}, {len(truth)} and {len(found)}. Label the same frames."
        )
    if np.any(np.diff(frames) <= 0):
        raise DataError(f"{video.name}: frame numbers must increase. Sort them, each number once.")
    for label, ids in (("true", truth), ("predicted", found)):
        wrong = ids[(ids < UNLABELLED) | (ids >= num_phases)]
        if len(wrong):
            raise DataError(
                f"{video.name}: {label} phases must be ids of 0 to {num_phases - 1}, or "
                f"{UNLABELLED}; received {wrong[0]}. Correct the id, or num_phases."
            )
    if not np.any(video.judged):
        raise DataError(f"{video.name}: no frame has a label in the truth. Remove this video.")
    if video.rate_hz is not None and not 0 < video.rate_hz < np.inf:
        raise DataError(
            f"{video.name}: the frame rate must be positive; received {video.rate_hz}. "
            f"Give the true rate in Hz."
        )


def _counts(matrices: np.ndarray) -> _Counts:
    """Return TP, FP and FN (videos, phases) of confusion matrices."""
    hits = np.diagonal(matrices[..., :-1], axis1=-2, axis2=-1)
    return hits, matrices[..., :-1].sum(axis=-2) - hits, matrices.sum(axis=-1) - hits


def _forgiven_frames(video: Video, num_phases: int, boundary_s: float) -> np.ndarray:
    accepted = forgiven(video, boundary_s)
    return confusion(
        np.asarray(video.truth)[accepted], np.asarray(video.found)[accepted], num_phases
    )


def _relaxed_counts(counts: _Counts, accepted: np.ndarray) -> _Counts:
    """Return TP, FP and FN with accepted frames (videos, phases, phases + 1) as hits of both."""
    hits, false_alarms, misses = counts
    as_found, as_truth = accepted[..., :-1].sum(axis=-2), accepted.sum(axis=-1)
    return hits + as_found + as_truth, false_alarms - as_found, misses - as_truth


def _accuracies(matrices: np.ndarray, accepted: np.ndarray | None = None) -> np.ndarray:
    """Return the share of right frames in each video; accepted frames count as right."""
    right = np.trace(matrices[..., :-1], axis1=-2, axis2=-1)
    if accepted is not None:
        right = right + accepted.sum(axis=(-2, -1))
    return right / matrices.sum(axis=(-2, -1))


def _video_rows(videos: Sequence[Video]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "video": [video.name for video in videos],
            "frames": [len(video.frames) for video in videos],
            "judged": [int(video.judged.sum()) for video in videos],
            "rate_hz": [np.nan if v.rate_hz is None else float(v.rate_hz) for v in videos],
        }
    )


def _pair_rows(videos: Sequence[Video], matrices: np.ndarray) -> pd.DataFrame:
    count = matrices.shape[1]
    return pd.DataFrame(
        {
            "video": np.repeat([video.name for video in videos], count),
            "phase": np.tile(np.arange(count), len(videos)),
            "in_truth": matrices.sum(axis=2).ravel(),
            "in_found": matrices[..., :-1].sum(axis=1).ravel(),
        }
    )


def _phase_rows(matrices: np.ndarray) -> pd.DataFrame:
    in_truth = matrices.sum(axis=2)
    return pd.DataFrame(
        {
            "phase": np.arange(matrices.shape[1]),
            "videos": (in_truth > 0).sum(axis=0),
            "frames": in_truth.sum(axis=0),
        }
    )


@dataclasses.dataclass
class _Tables:
    """The tables of `Measured` while columns are added."""

    videos: pd.DataFrame
    pairs: pd.DataFrame
    phases: pd.DataFrame

    def add(self, prefix: str, counts: _Counts, accuracy: np.ndarray, absent: str) -> None:
        """Add the strict columns, or the relaxed ones with a prefix."""
        hits, false_alarms, misses = (part.sum(axis=0) for part in counts)
        pooled = phase_figures(hits, false_alarms, misses, absent)
        self.videos[f"{prefix}accuracy"] = accuracy
        for name, values in phase_figures(*counts, absent).items():
            column = prefix + name
            self.videos[column] = _mean(values, axis=1)
            self.pairs[column] = values.ravel()
            self.phases[column] = _mean(values, axis=0)
            self.phases[f"{column}_std"] = _std(values, axis=0)
            self.phases[f"{column}_videos"] = np.isfinite(values).sum(axis=0)
            self.phases[f"{prefix}pooled_{name}"] = pooled[name]

    def averages(self, prefix: str, seed: int) -> dict[str, Any]:
        """Return the strict averages, or the relaxed ones with a prefix."""
        accuracy = self.videos[f"{prefix}accuracy"].to_numpy()
        found = {
            "accuracy": {
                **_spread("mean", accuracy),
                **_interval(accuracy, seed),
                "pooled": float(np.average(accuracy, weights=self.videos["judged"])),
            }
        }
        for name in FIGURES:
            found[name] = {
                **_spread("phases_then_videos", self.videos[prefix + name].to_numpy()),
                **_spread("videos_then_phases", self.phases[prefix + name].to_numpy(), "phase_"),
            }
        found["jaccard"] |= _interval(self.videos[f"{prefix}jaccard"].to_numpy(), seed)
        pooled_f1 = self.phases[f"{prefix}pooled_f1"].to_numpy()
        return {**found, "macro_f1": _number(_mean(pooled_f1))}


def _spread(name: str, values: np.ndarray, prefix: str = "") -> dict[str, float | None]:
    return {name: _number(_mean(values)), f"{prefix}std": _number(_std(values))}


def _interval(values: np.ndarray, seed: int) -> dict[str, float | None]:
    low, high = bootstrap(values, seed)
    return {"low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray, axis: int | None = None) -> Any:
    """Return the mean of the values that are not NaN; NaN for none, without a warning."""
    kept = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(kept, values, 0).sum(axis=axis) / kept.sum(axis=axis)


def _std(values: np.ndarray, axis: int | None = None) -> Any:
    """Return the sample standard deviation (n - 1) without NaN; NaN for fewer than two values."""
    kept = np.isfinite(values)
    centre = _mean(values, axis)
    middle = centre if axis is None else np.expand_dims(centre, axis)
    squares = np.where(kept, np.square(values - middle), 0).sum(axis=axis)
    with np.errstate(invalid="ignore"):
        return np.sqrt(squares / np.maximum(kept.sum(axis=axis) - 1, 0))


def definitions(absent: str = "skip", boundary_s: float | None = 10.0) -> list[str]:
    """Return a definition of every average, to be printed with the figures.

    Parameters
    ----------
    absent : {'skip', 'defined', 'zero'}
        See `ABSENT`.
    boundary_s : float, optional
        Seconds on either side of a boundary; None if there are no relaxed figures.

    Returns
    -------
    list of str
    """
    lines = [
        "judged frames: those with a label in the truth; a frame without a prediction is wrong",
        "accuracy, mean ± std: right frames ÷ judged frames in each video, then mean and sample "
        "standard deviation (n - 1) over videos; every video has the same weight",
        "accuracy, all frames: right frames ÷ judged frames of all videos together",
        "precision TP ÷ (TP + FP), recall TP ÷ (TP + FN), Jaccard TP ÷ (TP + FP + FN), F1 "
        "2 TP ÷ (2 TP + FP + FN): of every phase in every video, by frames",
        "phases, then videos: mean over the phases of a video, then mean ± std over videos",
        "videos, then phases: mean over the videos of a phase, then mean ± std over phases; F1 is "
        "the mean of F1, not that of mean precision and mean recall",
        f"absent = {absent}: {ABSENT[absent]}",
        "macro F1, all frames: F1 of each phase from all judged frames of all videos together, "
        "then mean over phases",
        "95 % interval: percentiles of 1000 bootstrap samples of the videos, for the mean accuracy "
        "and for Jaccard (phases, then videos)",
    ]
    if boundary_s is None:
        return [*lines, "relaxed figures: none, because they need the frame rate of every video"]
    return [
        *lines,
        f"relaxed: within {boundary_s:g} s after a boundary of the truth, the phase before it "
        f"counts as right too; within {boundary_s:g} s before it, the phase after it does; such a "
        f"frame is a hit for both phases; seconds by the frame rate of each video",
    ]
