"""Windows of videos: some frames in a row, averaged, with the masks that belong to them."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.picture import SUFFIXES as PICTURE_SUFFIXES
from toolbox.io.picture import read_picture
from toolbox.io.video import SUFFIXES, VideoFile

#: Channels of the image of a window, and with red and green of its masks.
IMAGE_CHANNELS, ALL_CHANNELS = 3, 5


class SlidingWindowExtractor:
    """Cuts the frames of a video into windows.

    Parameters
    ----------
    window_size : int
        Frames in a window.
    stride : int
        Frames from the start of one window to that of the next.
    """

    def __init__(self, window_size: int = 16, stride: int = 8) -> None:
        self.window_size, self.stride = window_size, stride

    def starts(self, count: int) -> np.ndarray:
        """Return the first frames of all windows of a video with `count` frames.

        A video shorter than a window has one window, of all its frames.
        """
        return np.arange(0, max(count - self.window_size, 0) + 1, self.stride)

    def extract_windows(
        self, video_frames: np.ndarray, masks: np.ndarray | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the windows of frames that are in memory; nothing is copied.

        Parameters
        ----------
        video_frames : numpy.ndarray, shape (frames, H, W, C)
            At least one.
        masks : numpy.ndarray, shape (frames, H, W, D), optional
            One for each frame.

        Returns
        -------
        numpy.ndarray, shape (windows, window_size, H, W, C)
            Or two of them, with masks.

        Raises
        ------
        DataError
            If there is no frame, or another number of masks.
        """
        if not len(video_frames):
            raise DataError("expected the frames of a video; received none.")
        if masks is None:
            return self._windows(np.asarray(video_frames))
        if len(masks) != len(video_frames):
            raise DataError(
                f"expected a mask for each of the {len(video_frames)} frames; received "
                f"{len(masks)}."
            )
        return self._windows(np.asarray(video_frames)), self._windows(np.asarray(masks))

    def _windows(self, frames: np.ndarray) -> np.ndarray:
        length = min(self.window_size, len(frames))
        views = np.lib.stride_tricks.sliding_window_view(frames, length, axis=0)
        return np.moveaxis(views, -1, 1)[:: self.stride]

    def means(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the mean of every window as soon as its last frame is there.

        Parameters
        ----------
        frames : iterable of numpy.ndarray, shape (H, W, 3), uint8
            One after another; only the sums of a window are kept.

        Yields
        ------
        numpy.ndarray, shape (H, W, 3), uint8
            Rounded.
        """
        unit = math.gcd(self.window_size, self.stride)
        sums: deque[np.ndarray] = deque(maxlen=self.window_size // unit)
        count = 0
        for count, frame in enumerate(frames, 1):
            if count % unit == 1 or unit == 1:
                sums.append(np.zeros(frame.shape, np.float32))
            cv2.accumulate(np.ascontiguousarray(frame), sums[-1])
            after = count - self.window_size
            if after >= 0 and after % self.stride == 0:
                yield _mean(sums, self.window_size)
        if 0 < count < self.window_size:
            yield _mean(sums, count)


def _mean(sums: Iterable[np.ndarray], count: int) -> np.ndarray:
    # Sums of whole numbers stay exact, so a window has the same mean wherever it is met.
    mean: np.ndarray = cv2.convertScaleAbs(sum(sums), alpha=1 / count)
    return mean


class MaskFolder:
    """Masks as pictures whose names end in the number of their frame, from 0.

    A frame has the mask of the last picture up to it, and none before the first.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    shape : (int, int)
        Rows and columns of a frame.
    side : int
        Side of the masks that are given.
    """

    def __init__(self, path: Path, shape: tuple[int, int], side: int) -> None:
        self.path, self.shape, self.side = path, shape, side
        found = {}
        for file in sorted(path.iterdir()):
            digits = file.stem[len(file.stem.rstrip("0123456789")) :]
            if file.suffix.lower() in PICTURE_SUFFIXES and digits:
                found[int(digits)] = file
        if not found:
            raise DataError(
                f"{path}: holds no masks. Expected pictures named by the number of their frame, "
                f"e.g. 0000.png."
            )
        self.numbers, self.files = np.array(sorted(found)), [found[n] for n in sorted(found)]
        self._read(self.files[0])  # those of a video are alike

    def frames(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the masks (side, side, 3) of frames, read when they change."""
        known, mask = -1, np.zeros((self.side, self.side, 3), np.uint8)
        for frame in range(start, stop):
            number = int(np.searchsorted(self.numbers, frame, side="right")) - 1
            if number != known:
                known, mask = number, self._read(self.files[number])
            yield mask

    def _read(self, path: Path) -> np.ndarray:
        pixels = read_picture(path).pixels
        if pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise DataError(
                f"{path}: expected a colour picture of 8 bits, red and green of which are masks; "
                f"received {pixels.shape[2]} channels of {8 * pixels.itemsize} bits. Save it so."
            )
        if pixels.shape[:2] != self.shape:
            raise DataError(
                f"{path}: expected {self.shape[1]} × {self.shape[0]} pixels, the size of its "
                f"video; received {pixels.shape[1]} × {pixels.shape[0]}. Resize it."
            )
        side = self.side, self.side
        shrunk: np.ndarray = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA)
        return shrunk


class MaskVideo:
    """Masks as a video with as many frames as the one that they belong to.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    of : VideoFile
        That one.
    side : int
        Side of the masks that are given.
    """

    def __init__(self, path: Path, of: VideoFile, side: int) -> None:
        self.video, self.side = VideoFile(path), side
        if len(self.video) != len(of):
            raise DataError(
                f"{path}: expected a mask for each of the {len(of)} frames; received "
                f"{len(self.video)}. Write it again, or remove it."
            )
        size, wanted = ((v.width, v.height) for v in (self.video, of))
        if size != wanted:
            raise DataError(
                f"{path}: expected {wanted[0]} × {wanted[1]} pixels, the size of its video; "
                f"received {size[0]} × {size[1]}. Resize it."
            )

    def frames(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the masks (side, side, 3) of frames."""
        return (frame.pixels for frame in self.video.frames(start, stop, self.side))


class VideoWindows:
    """The windows of one video: when they are, and what they show.

    Parameters
    ----------
    path : pathlib.Path
        The video.
    extractor : SlidingWindowExtractor
        How it is cut.
    size : int
        Side of the images.
    rate_hz : float, optional
        Frames are taken at this rate; default every frame.
    masks : pathlib.Path, optional
        Video or folder of pictures of its masks.

    Attributes
    ----------
    times_s : numpy.ndarray, shape (windows,)
        Time of the middle frame of each.
    starts, ends : numpy.ndarray, shape (windows,)
        Numbers of first and last frame of each.

    Raises
    ------
    DataError
        If the video cannot be read.
    """

    def __init__(
        self,
        path: Path,
        extractor: SlidingWindowExtractor,
        size: int,
        rate_hz: float | None = None,
        masks: Path | None = None,
    ) -> None:
        self.path, self.extractor, self.size = path, extractor, size
        self.video = VideoFile(path)
        self._picked = _picked(self.video.times_s, rate_hz)
        first = extractor.starts(len(self._picked))
        last = np.minimum(first + extractor.window_size, len(self._picked)) - 1
        self.starts, self.ends = self._picked[first], self._picked[last]
        self.times_s = self.video.times_s[self._picked[(first + last + 1) // 2]]
        self.masks: MaskFolder | MaskVideo | None = None
        if masks is not None:
            shape = self.video.height, self.video.width
            self.masks = (
                MaskFolder(masks, shape, size)
                if masks.is_dir()
                else MaskVideo(masks, self.video, size)
            )
        self._masks_path = masks

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def channels(self) -> int:
        """Channels of a window: 3, or 5 with masks."""
        return IMAGE_CHANNELS if self.masks is None else ALL_CHANNELS

    def window(self, number: int) -> np.ndarray:
        """Return what one window shows: (size, size, 3 or 5), uint8, masks last."""
        return next(self._shown(int(self.starts[number]), int(self.ends[number]) + 1))

    def stream(self) -> Iterator[np.ndarray]:
        """Yield what every window shows, in order; the video is decoded once."""
        return self._shown(0, len(self.video))

    def _shown(self, start: int, stop: int) -> Iterator[np.ndarray]:
        wanted = np.zeros(stop - start, bool)
        inside = self._picked[(self._picked >= start) & (self._picked < stop)]
        wanted[inside - start] = True
        frames = (frame.pixels for frame in self.video.frames(start, stop, self.size))
        images = self._means(frames, wanted)
        if self.masks is None:
            yield from images
            return
        masks = self._means(self.masks.frames(start, stop), wanted)
        for image, mask in zip(images, masks, strict=True):
            yield np.concatenate([image, mask[..., :2]], axis=2)

    def _means(self, frames: Iterable[np.ndarray], wanted: np.ndarray) -> Iterator[np.ndarray]:
        chosen = (frame for frame, take in zip(frames, wanted, strict=True) if take)
        return self.extractor.means(chosen)

    def key(self) -> str:
        """Return what tells these windows from others, as a name for a folder."""
        files = [self.path] if self._masks_path is None else [self.path, self._masks_path]
        if isinstance(self.masks, MaskFolder):
            files += self.masks.files
        stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        picked = zlib.crc32(self._picked.tobytes())
        parts: tuple[Any, ...] = (
            stats,
            self.extractor.window_size,
            self.extractor.stride,
            self.size,
            picked,
            self.channels,
        )
        return f"{self.path.stem}_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def _picked(times_s: np.ndarray, rate_hz: float | None) -> np.ndarray:
    """Return the numbers of the frames that are taken: the first one in every tick."""
    if rate_hz is None:
        return np.arange(len(times_s))
    ticks = np.floor(times_s * rate_hz + 1e-6)
    return np.flatnonzero(np.diff(ticks, prepend=-1) > 0)


class WindowCache:
    """Keeps windows that were decoded: in memory as far as allowed, and on disk if asked to.

    Parameters
    ----------
    memory : float
        Bytes that may stay in memory.
    folder : pathlib.Path, optional
        Where windows are written.
    """

    def __init__(self, memory: float, folder: Path | None = None) -> None:
        self._left, self.folder = memory, folder
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def window(self, windows: VideoWindows, number: int) -> np.ndarray:
        """Return a window, decoded if it is not at hand."""
        key = str(windows.path), number
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        shown = self._stored(windows, number)
        with self._lock:
            if key not in self._kept and shown.nbytes <= self._left:
                self._kept[key] = shown
                self._left -= shown.nbytes
        return shown

    def _stored(self, windows: VideoWindows, number: int) -> np.ndarray:
        if self.folder is None:
            return windows.window(number)
        path = self.folder / windows.key() / f"{number:06d}.npy"
        shape = windows.size, windows.size, windows.channels
        if path.is_file():
            found = _read_array(path)
            if found is not None and found.shape == shape and found.dtype == np.uint8:
                return found
        shown = windows.window(number)
        with self._writing(), replacing(path) as beside, open(beside, "wb") as stream:
            np.save(stream, shown, allow_pickle=False)
        return shown

    def check(self) -> None:
        """Refuse a folder in which nothing can be written, before a training run."""
        if self.folder is not None:
            with self._writing(), replacing(self.folder / "writable") as beside:
                beside.touch()
            (self.folder / "writable").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder}: windows cannot be kept there ({error.strerror}). Fix or leave out "
                f"cache_dir."
            ) from None


def _read_array(path: Path) -> np.ndarray | None:
    """Return an array of the cache; None if the file is damaged, so that it is made again."""
    try:
        with open(path, "rb") as stream:
            found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return found


def find_videos(folder: Path, masks: Path | None = None) -> dict[str, list[Path]]:
    """Return the videos of a folder and of those in it, by their name without the ending.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; what is hidden in it is left out.
    masks : pathlib.Path, optional
        Where masks lie: no videos.

    Raises
    ------
    DataError
        If the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{not_found(folder, 'folder')}. Fix data_dir.")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        hidden = hidden or (masks is not None and path.resolve().is_relative_to(masks.resolve()))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            found.setdefault(path.stem, []).append(path)
    return found


def video_path(name: str, folder: Path, found: Mapping[str, Sequence[Path]]) -> Path:
    """Return the file of a video that a table names.

    Parameters
    ----------
    name : str
        A path, relative to the folder or absolute, or a file's name without its ending.
    folder : pathlib.Path
        Where the videos lie.
    found : dict of str to sequence of pathlib.Path
        What `find_videos` returned for it.

    Raises
    ------
    DataError
        If there is none, or several have that name.
    """
    direct = folder / name
    if direct.is_file():
        return direct
    paths = found.get(name, ())
    if not paths:
        raise DataError(f"{not_found(direct, 'video')}. Put it there, or fix data_dir.")
    if len(paths) > 1:
        inside = " and ".join(path.relative_to(folder).as_posix() for path in paths[:2])
        raise DataError(f"{direct}: the name of {inside}. Write the path of one into the table.")
    return paths[0]


def bare_name(name: str) -> str:
    """Return the name of a video without the ending of a video, which a table may leave out."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def find_masks(folder: Path, name: str) -> Path:
    """Return the folder or video with the masks of a video, under its path or its name alone.

    Raises
    ------
    DataError
        If there is none.
    """
    bare = bare_name(name)
    last = Path(bare).name
    for each in (last,) if Path(bare).is_absolute() else (bare, last):
        for path in (folder / each, *(folder / f"{each}{end}" for end in SUFFIXES)):
            if path.exists():
                return path
    raise DataError(
        f"{folder}: holds no masks of {bare}. Expected a video {bare}.avi, or a folder {bare} of "
        f"pictures."
    )
