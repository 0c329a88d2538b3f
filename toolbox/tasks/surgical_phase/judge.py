"""Test of phases: every video is processed as in predict, and judged frame by frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolbox.errors import DataError
from toolbox.progress import progress
from toolbox.run import Run
from toolbox.task import TestResult
from toolbox.tasks.surgical_phase.evaluate import report_text
from toolbox.tasks.surgical_phase.follow import Follower
from toolbox.tasks.surgical_phase.measure import Measured, Video, measure
from toolbox.tasks.surgical_phase.report import Shown, phase_page
from toolbox.tasks.surgical_phase.source import SurgicalSource, phase_record

#: Number of timelines on the page.
_SHOWN = 8


class PhaseTest:
    """One test of an opened run on whole videos.

    Parameters
    ----------
    run : toolbox.run.Run
        The run.
    source : SurgicalSource
        The videos and their phases.
    split : {'test', 'validation', 'train'}
        The split to test.
    """

    def __init__(self, run: Run, source: SurgicalSource, split: str) -> None:
        self.run, self.source, self.split = run, source, split
        self.follower = Follower(run)
        self.phases = self.follower.phases
        self.data = source.dataset(split)
        self.record = phase_record(run.folder)

    def evaluate(self, compare: bool) -> TestResult:
        """Process and judge every video; compare with a guess if `compare`."""
        videos, shown = [], []
        opened = self.data.videos.videos
        for name in progress(list(opened), "testing", unit="video", delay=2):
            windows = opened[name]
            rows = self.source.table[self.source.table["video"] == name]
            truth = self.data.labels(rows, windows.video.times_s)
            if not (truth >= 0).any():
                continue
            timeline = self.follower.follow(windows)
            frames = np.arange(len(truth))
            videos.append(Video(name, frames, truth, timeline.ids, windows.video.rate_hz))
            right = (timeline.ids == truth)[truth >= 0]
            shown.append(Shown(name, timeline, truth, float(right.mean())))
        if not videos:
            raise DataError(
                f"{self.source.csv_path}: no frame of the videos for {self.split} has a phase. "
                f"Add their phases."
            )
        measured = measure(videos, len(self.phases))
        summary = self._summary(measured, shown)
        if compare:
            summary["guess"] = self._guess(videos)
        text = self._text(measured, summary) if compare else ""
        tables = self._tables(measured)

        def draw(folder: Path) -> Any:
            return phase_page(summary, measured, self.phases, _spread(shown), self._described())

        return TestResult(summary, text, tables, draw)

    def _summary(self, measured: Measured, shown: list[Shown]) -> dict[str, Any]:
        found = measured.summary
        frames = sum(len(each.timeline.ids) for each in shown)
        seconds = sum(each.timeline.seconds for each in shown)
        return {
            **self.run.facts(),
            "n": found["n"],
            "phases": self.phases,
            "figures": {
                "accuracy": found["accuracy"]["mean"],
                "accuracy_frames": found["accuracy"]["pooled"],
                "macro_f1_frames": found["macro_f1"],
                "jaccard": found["jaccard"]["phases_then_videos"],
            },
            "measured": found,
            "confusion": measured.confusion.tolist(),
            "class_weights": self.record.get("class_weights"),
            "left_out": self.data.videos.left_out,
            "online": self.follower.online,
            "frames_a_second": frames / seconds,
        }

    def _guess(self, videos: list[Video]) -> dict[str, Any]:
        """Return the figures of always guessing the most frequent training phase."""
        segments = self.record.get("segments")
        if not segments:
            return {}
        most = int(np.argmax(segments))
        guessed = [dataclasses.replace(v, found=np.full(len(v.truth), most)) for v in videos]
        found = measure(guessed, len(self.phases)).summary
        return {
            "phase": self.phases[most],
            "accuracy": found["accuracy"]["mean"],
            "macro_f1_frames": found["macro_f1"],
        }

    def _text(self, measured: Measured, summary: dict[str, Any]) -> str:
        lines = [report_text(measured, self.phases)]
        if guess := summary["guess"]:
            lines.append(
                f"always guessing {guess['phase']}: accuracy {100 * guess['accuracy']:.2f} %"
            )
        lines.append(f"{summary['frames_a_second']:.0f} frames per second")
        return "\n".join(lines)

    def _tables(self, measured: Measured) -> dict[str, pd.DataFrame]:
        names = np.array(self.phases, object)
        phases = measured.phases.assign(phase=names[measured.phases["phase"]])
        pairs = measured.pairs.assign(phase=names[measured.pairs["phase"]])
        return {"videos.csv": measured.videos, "phases.csv": phases, "videos_phases.csv": pairs}

    def _described(self) -> dict[str, str]:
        params = self.run.settings.model_params
        section = self.run.settings.source_params
        return {
            **self.run.described(),
            "backbone": params["backbone"],
            "windows": f"{section['window_size']} frames, every {section['stride']}",
            "temporal head": f"{params['temporal_layers']} layers"
            if params["temporal_layers"]
            else "none",
            "frames used": "up to the current one" if self.follower.online else "the whole video",
        }


def _spread(shown: list[Shown]) -> list[Shown]:
    """Return videos from the best to the worst, evenly spread."""
    order = sorted(shown, key=lambda each: -each.accuracy)
    chosen = np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().astype(int)
    return [order[i] for i in chosen]
