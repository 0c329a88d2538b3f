"""Prediction of phases: a video in; its timeline as a table, a text and a picture out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from toolbox.errors import ConfigError, DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.io.video import SUFFIXES
from toolbox.pages import figure_png
from toolbox.run import Run
from toolbox.tasks.surgical_phase.annotations import labels_at, read_annotations
from toolbox.tasks.surgical_phase.follow import Follower, Timeline
from toolbox.tasks.surgical_phase.ribbon import ribbon_figure
from toolbox.tasks.surgical_phase.timeline import write_timeline
from toolbox.tasks.surgical_phase.windows import bare_name, find_masks


class PhasePredictor:
    """Predicts the phases of videos with an opened run: a `toolbox.task.FilePredictor`.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with the settings of ``predict``.
    """

    suffixes = SUFFIXES
    what = "no video"

    def __init__(self, run: Run) -> None:
        self.run, self.settings = run, run.predict
        self.follower = Follower(run)

    def check(self) -> None:
        """Refuse invalid settings, once for all files."""
        images = (("self_ensemble", False), ("lr_consistency", "report"), ("tile", None))
        for name, wanted in images:
            if (given := getattr(self.settings, name)) != wanted:
                raise ConfigError(
                    f"{name} is only for images, but the network was trained for "
                    f"{self.run.task.name}; received {given}. Remove {name}."
                )
        if self.settings.masks is not None and not self.follower.has_masks:
            raise ConfigError(
                f"masks must not be given for a network that was trained without masks; received "
                f"{self.settings.masks}. Remove masks."
            )

    def suffix(self, path: Path) -> str:
        """Return the suffix of the table."""
        return ".csv"

    def predict(self, path: Path, target: Path) -> None:
        """Write the timeline of one video."""
        if target.suffix != ".csv":
            raise ConfigError(
                f"{target}: expected the name of a table, .csv; a text and a picture are written "
                f"next to it. Change -o."
            )
        for beside in (target.with_suffix(end) for end in (".txt", ".png")):
            if beside.exists() and not target.exists():
                raise ConfigError(f"{beside}: already exists. Remove it, or name another output.")
        windows = self.follower.open(path, self._masks(path))
        for note in windows.video.notes:
            print(note)
        timeline = self.follower.follow(windows)
        self._write(timeline, target, self._truth(path, timeline))
        self._tell(timeline, target)

    def _masks(self, path: Path) -> Path | None:
        if not self.follower.has_masks:
            return None
        folder = self.settings.masks or self.run.settings.source_params["mask_dir"]
        if not Path(folder).is_dir():
            raise DataError(
                f"{not_found(folder, 'folder')}. The network was trained with masks: name the "
                f"folder that contains those of {path.name} with --masks."
            )
        return find_masks(Path(folder), path.name)

    def _truth(self, path: Path, timeline: Timeline) -> np.ndarray | None:
        """Return the phase of every frame from the table of the run, if it lists this video."""
        table = self.run.settings.source_params["csv_path"]
        if table is None or not Path(table).is_file():
            return None
        rows = read_annotations(table).table
        names = [Path(bare_name(name)).name for name in rows["video"]]
        rows = rows[[name == path.stem for name in names]]
        rows = rows[rows["phase"].isin(self.follower.phases)]
        if not len(rows):
            return None
        found: np.ndarray = labels_at(rows, timeline.times_s, self.follower.phases)
        return found

    def _write(self, timeline: Timeline, target: Path, truth: np.ndarray | None) -> None:
        phases = self.follower.phases
        names = np.array(phases, object)[timeline.ids]
        table = pd.DataFrame(
            {
                "frame": np.arange(len(names)),
                "time_s": timeline.times_s.round(4),
                "phase": names,
                "probability": timeline.probability.round(4),
            }
        )
        ribbons = {} if truth is None else {"truth": truth}
        ribbons["found"] = timeline.ids
        figure = ribbon_figure(timeline.times_s, ribbons, phases, timeline.path.name)
        with replacing(target.with_suffix(".png")) as beside:
            beside.write_bytes(figure_png(figure))
        write_timeline(target.with_suffix(".txt"), names.tolist())
        write_table(table, target)

    def _tell(self, timeline: Timeline, target: Path) -> None:
        ids, frames = np.unique(timeline.ids, return_counts=True)
        shares = frames / frames.sum()
        most = np.argsort(-shares)[:5]
        told = [f"{self.follower.phases[ids[i]]} {100 * shares[i]:.1f} %" for i in most]
        count, seconds = len(timeline.ids), timeline.seconds
        print(f"{target}: {count} frames, {', '.join(told)}{', ...' if len(ids) > 5 else ''}")
        print(
            f"{target}: {count / seconds:.0f} frames per second, {timeline.network_seconds:.1f} of "
            f"{seconds:.1f} s in the network; also {target.stem}.txt and {target.stem}.png"
        )
