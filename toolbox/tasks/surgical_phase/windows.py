"""Windows of videos: averages of successive frames, with their masks."""

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

#: Channels of a window without masks, and with the red and green of its masks.
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
        """Return the number of the first frame of each window in a video of `count` frames.

        A video shorter than a window has one window, with all its frames.
        """
        return np.arange(0, max(count - self.window_size, 0) + 1, self.stride)

    def extract_windows(
        self, video_frames: np.ndarray, masks: np.ndarray | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the windows of frames in memory, as views without a copy.

        Parameters
        ----------
        video_frames : numpy.ndarray, shape (frames, H, W, C)
            At least one frame.
        masks : numpy.ndarray, shape (frames, H, W, D), optional
            One mask per frame.

        Returns
        -------
        numpy.ndarray, shape (windows, window_size, H, W, C)
            With `masks`, a tuple of the windows and those of the masks.

        Raises
        ------
        DataError
            If there is no frame, or the number of masks differs.
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
        """Yield the mean of every window as soon as its last frame has arrived.

        Parameters
        ----------
        frames : iterable of numpy.ndarray, shape (H, W, 3), uint8
            Frames in order; only the sums of a window are kept.

        Yields
        ------
        numpy.ndarray, shape (H, W, 3), uint8
            The rounded mean.
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
    # Sums of whole numbers are exact, so a window has the same mean in training and prediction.
    mean: np.ndarray = cv2.convertScaleAbs(sum(sums), alpha=1 / count)
    return mean


class MaskFolder:
    """Masks as pictures whose names end in the number of their frame, counted from 0.

    Each frame uses the mask of the last picture up to it; frames before the first have none.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    shape : (int, int)
        Rows and columns of a frame.
    side : int
        Side of the masks returned.
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
                f"{path}: contains no masks. Expected pictures named by frame number, "
                f"e.g. 0000.png."
            )
        self.numbers, self.files = np.array(sorted(found)), [found[n] for n in sorted(found)]
        self._read(self.files[0])  # the masks of a video have the same format

    def frames(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the masks (side, side, 3) of frames; each picture is read once."""
        known, mask = -1, np.zeros((self.side, self.side, 3), np.uint8)
        for frame in range(start, stop):
            number = int(np.searchsorted(self.numbers, frame, side="right")) - 1
            if number != known:
                known, mask = number, self._read(self.files[number])
            yield mask

    def _read(self, path: Path) -> np.ndarray:
        pixels = read_picture(path).pixels
        if pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            count = pixels.shape[2]
            raise DataError(
                f"{path}: expected an 8-bit colour picture whose red and green are masks; received "
                f"{count} channel{'s' * (count > 1)} of {8 * pixels.itemsize} bits. Convert it."
            )
        if pixels.shape[:2] != self.shape:
            raise DataError(
                f"{path}: expected {self.shape[1]} × {self.shape[0]} pixels, the size of its "
                f"video; received {pixels.shape[1]} × {pixels.shape[0]}. Resize the mask."
            )
        side = self.side, self.side
        shrunk: np.ndarray = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA)
        return shrunk


class MaskVideo:
    """Masks as a video with as many frames as the video that they belong to.

    Parameters
    ----------
    path : pathlib.Path
        The video of the masks.
    of : VideoFile
        The video that they belong to.
    side : int
        Side of the masks returned.
    """

    def __init__(self, path: Path, of: VideoFile, side: int) -> None:
        self.video, self.side = VideoFile(path), side
        if len(self.video) != len(of):
            raise DataError(
                f"{path}: expected a mask for each of the {len(of)} frames; received "
                f"{len(self.video)}. Write the video again, or remove it."
            )
        size, wanted = ((v.width, v.height) for v in (self.video, of))
        if size != wanted:
            raise DataError(
                f"{path}: expected {wanted[0]} × {wanted[1]} pixels, the size of its video; "
                f"received {size[0]} × {size[1]}. Resize the video."
            )

    def frames(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the masks (side, side, 3) of frames."""
        return (frame.pixels for frame in self.video.frames(start, stop, self.side))


class VideoWindows:
    """The windows of one video: their times and images.

    Parameters
    ----------
    path : pathlib.Path
        The video.
    extractor : SlidingWindowExtractor
        How the video is cut.
    size : int
        Side of the images.
    rate_hz : float, optional
        Rate at which frames are taken; default every frame.
    masks : pathlib.Path, optional
        Its masks: a video or a folder of pictures.

    Attributes
    ----------
    times_s : numpy.ndarray, shape (windows,)
        Time of the middle frame of each window.
    starts, ends : numpy.ndarray, shape (windows,)
        Numbers of the first and last frame of each window.

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
        """Return the image of one window: (size, size, 3 or 5), uint8, masks last."""
        return next(self._shown(int(self.starts[number]), int(self.ends[number]) + 1))

    def stream(self) -> Iterator[np.ndarray]:
        """Yield the images of all windows in order; the video is decoded once."""
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
        """Return a folder name that identifies these windows."""
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
    """Return the numbers of the frames that are taken: the first in each interval."""
    if rate_hz is None:
        return np.arange(len(times_s))
    ticks = np.floor(times_s * rate_hz + 1e-6)
    return np.flatnonzero(np.diff(ticks, prepend=-1) > 0)


class WindowCache:
    """Cache of decoded windows: in memory up to a limit, and optionally on disk.

    Parameters
    ----------
    memory : float
        Bytes that may stay in memory.
    folder : pathlib.Path, optional
        Folder in which windows are written.
    """

    def __init__(self, memory: float, folder: Path | None = None) -> None:
        self._left, self.folder = memory, folder
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def window(self, windows: VideoWindows, number: int) -> np.ndarray:
        """Return a window, decoded if it is not in the cache."""
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
        """Refuse a folder that is not writable, before training starts."""
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
                f"{self.folder}: windows cannot be written there ({error.strerror}). Fix or remove "
                f"cache_dir."
            ) from None


def _read_array(path: Path) -> np.ndarray | None:
    """Return an array of the cache, or None if the file is damaged and must be made again."""
    try:
        with open(path, "rb") as stream:
            found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return found


def find_videos(folder: Path, masks: Path | None = None) -> dict[str, list[Path]]:
    """Return the videos of a folder and its sub-folders, by name without suffix.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; hidden files and folders are ignored.
    masks : pathlib.Path, optional
        Folder of the masks, which is ignored too.

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
    """Return the file of a video named in a table.

    Parameters
    ----------
    name : str
        A path, relative to the folder or absolute, or a file name without suffix.
    folder : pathlib.Path
        Folder of the videos.
    found : dict of str to sequence of pathlib.Path
        The result of `find_videos` for that folder.

    Raises
    ------
    DataError
        If no video or more than one has that name.
    """
    direct = folder / name
    if direct.is_file():
        return direct
    paths = found.get(name, ())
    if not paths:
        raise DataError(f"{not_found(direct, 'video')}. Put the video there, or fix data_dir.")
    if len(paths) > 1:
        inside = " and ".join(path.relative_to(folder).as_posix() for path in paths[:2])
        raise DataError(
            f"{direct}: the name fits {inside}. Write the path of one of them into the table."
        )
    return paths[0]


def bare_name(name: str) -> str:
    """Return the name of a video without its suffix, which a table may omit."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def find_masks(folder: Path, name: str) -> Path:
    """Return the folder or video with the masks of a video, found by its path or by its name.

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
        f"{folder}: contains no masks of {bare}. Expected a video, e.g. {bare}.avi, or a folder "
        f"{bare} of pictures."
    )
