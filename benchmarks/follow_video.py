"""Following a long video with a light network: ``python -m benchmarks.follow_video [--frames N]``.

Makes a video of 640 × 480 pixels, decodes it with OpenCV alone, then follows it as ``predict``
does. Prints frames per second, with and without the time of the network, and the memory of the
process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from toolbox.errors import program

_WIDTH, _HEIGHT, _RATE_HZ = 640, 480, 10
#: The network is so light that decoding takes most of the time.
_SETTINGS = {
    "task": "surgical_phase",
    "surgical_video": {"phases": ["0", "1", "2"], "size": 96},
    "surgical_phase": {
        "backbone": "MobileNet",
        "backbone_alpha": 0.25,
        "width": 128,
        "heads": 4,
    },
}


def make_video(path: Path, frames: int) -> None:
    """Write a video of moving noise with a bright square that crosses it."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (600, 800, 3), np.uint8), (0, 0), 3)
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, _RATE_HZ, (_WIDTH, _HEIGHT))
    for number in range(frames):
        top, left = number % 100, (number // 3) % 150
        frame = ground[top : top + _HEIGHT, left : left + _WIDTH].copy()
        x = (7 * number) % (_WIDTH - 60)
        frame[200:260, x : x + 60] = (240, 240, 240)
        writer.write(frame)
    writer.release()


def decode(path: Path) -> float:
    """Decode a video with OpenCV; return frames per second."""
    capture = cv2.VideoCapture(str(path))
    start, count = time.perf_counter(), 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count / (time.perf_counter() - start)


class Memory(threading.Thread):
    """Records the memory of this process once a second, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: list[float] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Record until `ended` is set."""
        page = resource.getpagesize()
        while not self.ended.wait(1):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.found.append(pages * page / 2**20)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--frames", type=int, default=72_000, help="frames of the video (72000)")
    parser.add_argument("--video", type=Path, help="file that keeps the video; default temporary")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or Path(folder, "long.mp4")
        if not video.is_file():
            make_video(video, args.frames)
        _measure(video, Path(folder))


def _measure(video: Path, folder: Path) -> None:
    from toolbox.io.weights import save_weights
    from toolbox.model.build import build_network
    from toolbox.normalizer import IdentityNormalizer, save_normalizer
    from toolbox.run import Run
    from toolbox.settings import UserParams
    from toolbox.tasks.surgical_phase.follow import Follower

    settings = UserParams("bench.yml", {**_SETTINGS, "data_dir": str(folder)})
    settings.log_dir = str(folder / "run")
    (folder / "run").mkdir()
    settings.save(folder / "run")
    save_normalizer(IdentityNormalizer(), folder / "run")
    save_weights(build_network(settings.resolved()), folder / "run" / "weights_best.h5")
    plain = decode(video)
    print(f"OpenCV alone: {plain:.0f} frames per second", flush=True)
    follower = Follower(Run.open(folder / "run"))
    memory = Memory()
    memory.start()
    timeline = follower.follow(follower.open(video))
    memory.ended.set()
    frames = len(timeline.ids)
    whole = frames / timeline.seconds
    less = frames / (timeline.seconds - timeline.network_seconds)
    print(f"followed: {frames} frames, {whole:.0f} per second, {whole / plain:.2f} of OpenCV")
    print(f"without the network's time: {less:.0f} per second, {less / plain:.2f} of OpenCV")
    later = memory.found[len(memory.found) // 10 :] or [0.0]
    print(
        f"memory after a tenth of the time: {later[0]:.0f} MiB, then {min(later):.0f} to "
        f"{max(later):.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
