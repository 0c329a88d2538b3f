"""Draw a small set of videos of an invented operation, to train without a download.

``python -m examples.surgical_phase.generate data/phase_clips``

Warm tissue with vessels and glints moves slowly under the light of an endoscope. Three phases occur
in any order. Between some of them, the lens is out of focus in unlabelled gaps:

0
    Inspection: no tool, or the tip of a tool at the edge.
1
    Grasping: a steel grasper with a blue ring moves about the target, a pale spot.
2
    Rinsing: a dark cannula with a yellow band moves about the target while a fluid spreads from
    it; sometimes a grasper lies still next to it.

Light, speed and the colours of tissue and fluid differ from video to video. The light also differs
from segment to segment. The folder holds

``videos/NAME.mp4``, ``masks/NAME.mp4``
    The videos, and a mask for every frame: red above 127 is tool, green is target and fluid.
``annotations.csv``
    Segments in the form of OphNet 2024, with splits by video. It is written last: without it there
    is no data set.

With ``--shuffle_labels`` the labels of each video are permuted in rotation, so that within a split
every phase has every label equally often. Nothing can be learnt, and accuracy must fall to 1/3.

The same seed gives the same frames and the same table, whatever the number of threads. The bytes
of the videos may depend on the version of OpenCV, which encodes them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from toolbox.errors import ConfigError, program
from toolbox.io.atomic import replacing
from toolbox.io.tables import write_table
from toolbox.opencv import cv2
from toolbox.progress import progress

VIDEOS, MASKS, TABLE = "videos", "masks", "annotations.csv"
COLUMNS = ("video_id", "start", "end", "split", "surgery_id", "phase_id")
#: Width and height.
SIZE = WIDTH, HEIGHT = 160, 128
RATES_HZ = (12.5, 15.0, 25.0, 30.0)
INSPECTION, GRASPING, RINSING = PHASES = (0, 1, 2)
#: Phase of a gap.
GAP = -1
#: Colours of the fluids: blood, and a cloudy rinse.
FLUIDS = (115, 12, 22), (170, 190, 205)
#: Shares of the videos, by OphNet's names of splits.
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
#: Shortest and longest duration in seconds.
_SEGMENT_S, _GAP_S = (8.0, 14.0), (1.5, 4.0)
#: Radius of the target in pixels.
TARGET_RADIUS = 13.0
#: Pixels of tissue beyond the frame on every side, needed for its motion.
_MARGIN = 24
_NAME = re.compile(r"operation_\d{4}")

# --- what happens ------------------------------------------------------------------------------


class Segment(NamedTuple):
    """A part of a video with one phase: start and end in seconds, and the phase or `GAP`."""

    start_s: float
    end_s: float
    phase: int


def script(seed: int, number: int) -> list[Segment]:
    """Return the segments of a video: every phase at least once, never twice in a row.

    Parameters
    ----------
    seed, number : int
        Both decide everything.
    """
    rng = np.random.default_rng([seed, number, 0])
    phases = rng.permutation(PHASES).tolist()
    if rng.uniform() < 0.5:
        phases.append(int(rng.choice([phase for phase in PHASES if phase != phases[-1]])))
    segments: list[Segment] = []
    now_s = 0.0
    for phase in phases:
        for kind, span_s in ((GAP, _GAP_S), (phase, _SEGMENT_S)):
            if kind == GAP and rng.uniform() < 0.5:
                continue
            end_s = round(now_s + rng.uniform(*span_s), 2)
            segments.append(Segment(now_s, end_s, kind))
            now_s = end_s
    return segments


def splits_of(count: int, seed: int) -> list[str]:
    """Return the split of each video."""
    ends = np.rint(np.cumsum(list(SHARES.values())) * count).astype(int)
    order = np.random.default_rng([seed, 1]).permutation(count)
    return [list(SHARES)[int(np.searchsorted(ends, place, side="right"))] for place in order]


def table_of(count: int, seed: int, shuffle_labels: bool) -> pd.DataFrame:
    """Return the annotations of all videos, in the columns `COLUMNS`.

    Parameters
    ----------
    count, seed : int
        Number of videos, and seed of all random choices.
    shuffle_labels : bool
        Permute the labels: of three videos in a split, one keeps its labels; in the others they
        are shifted by one and by two (a Latin square).
    """
    rows, turns = [], dict.fromkeys(SHARES, 0)
    for number, split in enumerate(splits_of(count, seed)):
        shift = turns[split] % len(PHASES) if shuffle_labels else 0
        turns[split] += 1
        for start_s, end_s, phase in script(seed, number):
            if phase != GAP:
                label = (phase + shift) % len(PHASES)
                rows.append((name_of(number), start_s, end_s, split, 0, label))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def name_of(number: int) -> str:
    """Return the name of a video."""
    return f"operation_{number:04d}"


# --- what it looks like ------------------------------------------------------------------------

Colour = tuple[int, int, int]


class Part(NamedTuple):
    """A convex part of a tool: points (x along the shaft from the tip, y across) and colour."""

    points: np.ndarray
    colour: Colour


def _bar(start: float, end: float, half_start: float, half_end: float) -> np.ndarray:
    return np.array(
        [[start, -half_start], [end, -half_end], [end, half_end], [start, half_start]], float
    )


def grasper(opening: float) -> list[Part]:
    """Return a steel grasper with a blue ring, its jaws open by an angle in radians."""
    jaw = _bar(-15, 1, 1, 2.2)
    turns = [
        np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (opening, -opening)
    ]
    jaws = [Part(jaw @ turn.T, (205, 210, 215)) for turn in turns]
    shaft, shine = Part(_bar(0, 260, 3.5, 5), (150, 156, 165)), Part(_bar(0, 260, 1, 1), (215,) * 3)
    return [*jaws, shaft, shine, Part(_bar(8, 15, 4.2, 4.5), (60, 90, 190))]


def cannula() -> list[Part]:
    """Return a dark cannula with a pale tip and a yellow band."""
    return [
        Part(_bar(-3, 260, 5, 7), (52, 50, 58)),
        Part(_bar(-3, 260, 1, 1.5), (120, 118, 125)),
        Part(_bar(-12, -2, 2.5, 5), (215, 205, 190)),
        Part(_bar(14, 22, 5.6, 5.8), (215, 180, 50)),
    ]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return noise (H, W), float32, with mean 0 and bumps of `cell` pixels."""
    grid = [int(np.ceil(side / cell)) + 3 for side in shape]
    coarse = rng.standard_normal(grid).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    return fine[: shape[0], : shape[1]]


class Tissue:
    """The tissue of a video, larger than a frame, and its motion.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        shape = HEIGHT + 2 * _MARGIN, WIDTH + 2 * _MARGIN
        #: Position of the target at rest, x and y in the frame.
        self.target = np.array(SIZE) * rng.uniform(0.38, 0.62, 2)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) - np.float32(_MARGIN)
        away = np.hypot(x - self.target[0], y - self.target[1])
        #: Distance to the target in pixels, made uneven like tissue.
        self.reach = (away + 6 * smooth_noise(rng, shape, 18)).astype(np.float32)
        self.picture = self._painted(rng, shape)
        self._grid = np.stack([x, y], axis=2)[:HEIGHT, :WIDTH] + np.float32(2 * _MARGIN)
        self._fields = rng.normal(0, 1, (3, 5, 6, 2)).astype(np.float32)
        self._rates = rng.uniform(0.5, 1.8, (3, 2))
        self._drift = rng.uniform(3, 8, 2)

    def _painted(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        light = np.array([rng.uniform(185, 215), rng.uniform(95, 130), rng.uniform(80, 115)])
        dark = light * (0.72, 0.5, 0.55)
        mix = 1 / (1 + np.exp(-2 * smooth_noise(rng, shape, 40) - smooth_noise(rng, shape, 12)))
        picture = dark + mix[..., None] * (light - dark)
        picture = picture * (1 + 0.05 * smooth_noise(rng, shape, 3))[..., None]
        vessels = np.zeros(shape, np.uint8)
        for _ in range(int(rng.integers(5, 9))):
            steps = np.cumsum(rng.normal(0, 0.35, 24)) + rng.uniform(0, 2 * np.pi)
            path = np.cumsum(np.stack([np.cos(steps), np.sin(steps)], 1) * 9, axis=0)
            path += rng.uniform(0, shape[::-1])
            cv2.polylines(
                vessels, [np.int32(path * 16)], False, 255, int(rng.integers(1, 4)), 16, 4
            )
        weight = cv2.GaussianBlur(vessels, (0, 0), 1)[..., None] / 255 * 0.6
        picture += weight * (np.array([125, 25, 35]) - picture)
        spot = np.clip((TARGET_RADIUS - self.reach) / 4 + 0.5, 0, 1)[..., None] * 0.75
        picture += spot * (np.array([225, 200, 160]) - picture)
        glints = np.clip((smooth_noise(rng, shape, 5) - 1.75) * 3, 0, 1)[..., None]
        return np.clip(picture + glints * 150, 0, 255).astype(np.uint8)

    def at(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture (H, W, 3), uint8, and the distance to the target (H, W), at a time."""
        beats = np.sin(self._rates[:, 0] * time_s + self._rates[:, 1] * 5)
        coarse = np.tensordot(beats.astype(np.float32), self._fields, 1) * np.float32(2.2)
        coarse += np.float32(self._drift * np.sin([0.31 * time_s, 0.23 * time_s + 1]))
        moved = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
        places = cv2.convertMaps(cv2.add(moved, self._grid), None, cv2.CV_16SC2)
        picture = cv2.remap(self.picture, *places, cv2.INTER_LINEAR)
        return picture, cv2.remap(self.reach, *places, cv2.INTER_LINEAR)


class Action(NamedTuple):
    """The motion of a tool.

    Attributes
    ----------
    angle : float
        Direction of the shaft away from the tip, in radians.
    rest : numpy.ndarray, shape (2,)
        Centre of the motion of the tip, x and y in pixels.
    swing : numpy.ndarray, shape (2,)
        Amplitude of the motion in pixels.
    rate : float
        Radians per second.
    """

    angle: float
    rest: np.ndarray
    swing: np.ndarray
    rate: float

    def tip(self, time_s: float) -> np.ndarray:
        """Return the position of the tip, x and y in pixels."""
        turn = self.rate * time_s
        return self.rest + self.swing * (np.sin(turn), np.sin(1.37 * turn + 1))


def draw_tool(
    picture: np.ndarray, mask: np.ndarray, parts: Sequence[Part], tip: np.ndarray, angle: float
) -> None:
    """Draw a tool into a picture (H, W, 3) and, as 255, into a mask (H, W), both uint8."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for part in parts:
        points = np.int32(np.rint((part.points @ turn + tip) * 16))
        cv2.fillConvexPoly(picture, points, part.colour, cv2.LINE_AA, 4)
        cv2.fillConvexPoly(mask, points, 255, cv2.LINE_8, 4)


class Plan(NamedTuple):
    """The content of a segment.

    Attributes
    ----------
    tools : list of (str, Action)
        ``grasper`` or ``cannula``, and its motion.
    fluid : bool
        Whether a fluid spreads from the target.
    sharp : bool
        Whether the lens is in focus.
    """

    tools: list[tuple[str, Action]]
    fluid: bool = False
    sharp: bool = True


class Operation:
    """A video, drawn frame by frame.

    Parameters
    ----------
    seed, number : int
        Both decide everything.

    Attributes
    ----------
    rate_hz : float
        Frame rate.
    segments : list of Segment
        The segments in order.
    """

    def __init__(self, seed: int, number: int) -> None:
        self.rate_hz = RATES_HZ[number % len(RATES_HZ)]
        self.segments = script(seed, number)
        self._rng = rng = np.random.default_rng([seed, number, 2])
        self.tissue = Tissue(rng)
        self._fluid = np.full((HEIGHT, WIDTH, 3), FLUIDS[int(rng.integers(len(FLUIDS)))], np.uint8)
        self._noise = rng.normal(0, 4, (8, HEIGHT, WIDTH, 3)).astype(np.int16)
        y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
        shade = 1.08 - rng.uniform(0.25, 0.5) * (x**2 + y**2)
        self._shade = np.uint8(np.repeat(np.clip(shade * 200, 0, 255)[..., None], 3, axis=2))

    def __len__(self) -> int:
        return int(self.segments[-1].end_s * self.rate_hz)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each frame and its mask (H, W, 3), RGB, uint8."""
        number = 0
        for segment in self.segments:
            plan, light = self._plan(segment.phase), self._rng.uniform(0.75, 1.15) / 200
            while number < len(self) and number / self.rate_hz < segment.end_s:
                time_s = number / self.rate_hz
                picture, mask = self._scene(plan, time_s, time_s - segment.start_s)
                lit = cv2.multiply(picture, self._shade, scale=light)
                yield cv2.add(lit, self._noise[number * 5 % 8], dtype=cv2.CV_8U), mask
                number += 1

    def _plan(self, phase: int) -> Plan:
        if phase == GRASPING:
            return Plan([("grasper", self._moving())])
        if phase == RINSING:
            still = [("grasper", self._still(25))] if self._rng.uniform() < 0.4 else []
            return Plan([*still, ("cannula", self._moving())], fluid=True)
        if phase == INSPECTION and self._rng.uniform() < 0.5:
            return Plan([(str(self._rng.choice(["grasper", "cannula"])), self._still(9))])
        return Plan([], sharp=phase != GAP)

    def _moving(self) -> Action:
        """Return a motion of a tool about the target."""
        rest = self.tissue.target + self._rng.normal(0, 5, 2)
        return Action(
            self._rng.uniform(0, 2 * np.pi),
            rest,
            self._rng.uniform(8, 20, 2),
            self._rng.uniform(0.8, 1.8),
        )

    def _still(self, depth: float) -> Action:
        """Return a small motion of a tool that reaches `depth` pixels into the frame."""
        angle = self._rng.uniform(0, 2 * np.pi)
        away = np.array([np.cos(angle), np.sin(angle)])
        middle = np.array(SIZE) / 2
        edge = middle + away * (middle / np.maximum(np.abs(away), 1e-6)).min()
        return Action(angle, edge - depth * away, np.array([1.5, 1.5]), 0.7)

    def _scene(self, plan: Plan, time_s: float, since_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return picture and mask at a time, `since_s` after the start of the segment."""
        picture, reach = self.tissue.at(time_s)
        radius = 10 + 30 * (1 - np.exp(-since_s / 1.5)) if plan.fluid else TARGET_RADIUS
        marked = cv2.compare(reach, radius, cv2.CMP_LT)
        if plan.fluid:
            cv2.copyTo(cv2.addWeighted(picture, 0.35, self._fluid, 0.65, 0), marked, picture)
        tool = np.zeros((HEIGHT, WIDTH), np.uint8)
        for kind, action in plan.tools:
            parts = cannula() if kind == "cannula" else grasper(0.22 + 0.2 * np.sin(2.3 * time_s))
            draw_tool(picture, tool, parts, action.tip(time_s), action.angle)
        if not plan.sharp:
            picture = cv2.blur(picture, (15, 15))
        return picture, cv2.merge([tool, cv2.subtract(marked, tool), np.zeros_like(tool)])


# --- files -------------------------------------------------------------------------------------


def write_operation(folder: Path, seed: int, number: int) -> int:
    """Write a video and its masks; return the number of frames."""
    operation, name = Operation(seed, number), name_of(number)
    with (
        replacing(folder / VIDEOS / f"{name}.mp4") as video,
        replacing(folder / MASKS / f"{name}.mp4") as masks,
    ):
        writers = [_writer(path, operation.rate_hz) for path in (video, masks)]
        for pair in operation.frames():
            for writer, pixels in zip(writers, pair, strict=True):
                writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        for writer in writers:
            writer.release()
    return len(operation)


def _writer(path: Path, rate_hz: float) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate_hz, SIZE)
    if not writer.isOpened():
        raise ConfigError(
            f"{path.parent}: OpenCV cannot write MPEG-4 there. Install opencv-python from the "
            f"package index, and check the free space."
        )
    return writer


def refuse_data_set(folder: Path, overwrite: bool) -> None:
    """Refuse a folder with a data set, unless it is one of operations that may be replaced.

    Raises
    ------
    ConfigError
        If `folder` holds a complete data set and `overwrite` is False, or anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; expected a folder.")
    for path in sorted(folder.rglob("*")):
        file = path.is_symlink() or not path.is_dir()
        if file and not _is_own(path, folder):
            raise ConfigError(
                f"{folder} contains {path.relative_to(folder)}, which does not belong to a data "
                f"set of operations and is not replaced. Choose another folder."
            )
    if not overwrite and (folder / TABLE).exists():
        raise ConfigError(
            f"{folder} already holds a data set. Choose another folder, remove it, or add "
            f"--overwrite."
        )


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether this program writes such a file: by its name and, for a table, its content."""
    if path.name.startswith(".") and ".tmp" in path.suffixes:
        return True  # incomplete: the program was killed while writing
    if path == folder / TABLE:
        head, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        own = all(_NAME.fullmatch(row.split(",")[0]) for row in rows)
        return own and head == ",".join(COLUMNS)
    place = path.parent.relative_to(folder).as_posix()
    return place in (VIDEOS, MASKS) and path.suffix == ".mp4" and bool(_NAME.fullmatch(path.stem))


def generate(
    folder: Path, count: int, seed: int, shuffle_labels: bool, overwrite: bool
) -> tuple[int, pd.DataFrame]:
    """Write the data set; the table comes last.

    Parameters
    ----------
    folder : pathlib.Path
        Output folder.
    count : int
        Number of videos.
    seed : int
        Seed of all random choices.
    shuffle_labels : bool
        Permute the labels; see `table_of`.
    overwrite : bool
        Replace an older data set of operations.

    Returns
    -------
    (int, pandas.DataFrame)
        Number of frames, and the annotations.

    Raises
    ------
    ConfigError
        If the folder holds another data set.
    """
    refuse_data_set(folder, overwrite)
    (folder / TABLE).unlink(missing_ok=True)
    for part in (VIDEOS, MASKS):
        if (folder / part).exists():
            shutil.rmtree(folder / part)
    # OpenCV lets other threads run while it draws and encodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        written = pool.map(lambda number: write_operation(folder, seed, number), range(count))
        frames = sum(progress(written, "videos", total=count))
    table = table_of(count, seed, shuffle_labels)
    write_table(table, folder / TABLE)
    return frames, table


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.surgical_phase.generate",
        description="Draw a data set of videos of an invented operation with three phases.",
    )
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--videos", type=int, default=60, help="number of videos (60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos (0)")
    parser.add_argument(
        "--shuffle_labels",
        action="store_true",
        help="meaningless labels as a control: accuracy must fall to 1/3",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an older data set")
    args = parser.parse_args(arguments)
    for option, value, least in (("--videos", args.videos, 1), ("--seed", args.seed, 0)):
        if value < least:
            raise ConfigError(f"{option} must be at least {least}; received {value}.")
    frames, table = generate(
        args.folder, args.videos, args.seed, args.shuffle_labels, args.overwrite
    )
    seconds = (table["end"] - table["start"]).groupby(table["phase_id"]).sum()
    told = ", ".join(f"{phase}: {length:.0f} s" for phase, length in seconds.items())
    print(f"{args.videos} videos of {frames} frames in {args.folder}; phases {told}")


if __name__ == "__main__":
    raise SystemExit(main())
