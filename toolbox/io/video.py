"""Read videos frame by frame, with exact random access and the time of every frame."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolbox.errors import DataError, MissingLibraryError, not_found
from toolbox.io.extras import install_command

__all__ = ["SUFFIXES", "Frame", "VideoFile"]

#: Endings of video files.
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".mxf")
#: Only local files are opened: no playlists, no formats that name other files, no network.
_OPTIONS = {
    "format_whitelist": "mov,avi,matroska,mpeg,mpegts,asf,mxf",
    "protocol_whitelist": "file",
}

#: Bit of a stream that is the cover of a sound file (FFmpeg's AV_DISPOSITION_ATTACHED_PIC).
_COVER = 0x400
#: Unit of the length of a file (FFmpeg's AV_TIME_BASE).
_TICKS_PER_SECOND = 1_000_000
#: A file shorter than declared by more than this, in seconds, is noted.
_CUT_S = 0.5


class Frame(NamedTuple):
    """A frame of a video.

    Attributes
    ----------
    time_s : float
        Presentation time in seconds after the first frame.
    pixels : numpy.ndarray, shape (H, W, 3), uint8
        Red, green and blue, upright.
    """

    time_s: float
    pixels: np.ndarray


class _Packet(NamedTuple):
    """Presentation and decoding times of a packet, in ticks, and its flags."""

    pts: int | None
    dts: int | None
    key: bool
    cut: bool
    hidden: bool

    @classmethod
    def of(cls, packet: Any) -> _Packet:
        marks = packet.is_keyframe, packet.is_corrupt, packet.is_discard
        return cls(packet.pts, packet.dts, *marks)


class VideoFile:
    """A video whose frames can be read by number.

    The constructor lists the times of the frames without decoding them. No file stays open
    between calls, so several threads may use one object.

    Parameters
    ----------
    path : path-like
        MP4, MOV, AVI, Matroska, WebM, MPEG, ASF or MXF, recognised by content.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    width, height : int
        Pixels of an upright frame: the rotation recorded by the camera is applied.
    times_s : numpy.ndarray, shape (n,), float64
        Presentation times in seconds after the first frame, strictly increasing. The steps
        differ if the frame rate varies.
    rate_hz : float
        Mean frame rate; for a single frame the declared one, or NaN.
    duration_s : float
        Time from the first frame to the end of the last one, at the mean rate; NaN without a rate.
    notes : list of str
        What a user should know, e.g. that the last frame is truncated.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, not a video, or has no readable frame.
    MissingLibraryError
        If PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        _check_file(self.path)
        #: Times of all frames and of the key frames, where decoding may start, in stream ticks.
        self._stamps, self._keys = self._listed()
        with self._opened() as (container, stream):
            first = next(_decode(container, stream))
            self._turns = round(first.rotation / 90) % 4
            self._stored = (first.width, first.height)
            announced = float(stream.average_rate or np.nan)
            tick_s = float(stream.time_base)
            length_s = float(container.duration or 0) / _TICKS_PER_SECOND
        self.width, self.height = self._stored[:: -1 if self._turns % 2 else 1]
        self.times_s = (np.array(self._stamps) - self._stamps[0]) * tick_s
        steps = len(self) - 1
        self.rate_hz = float(steps / self.times_s[-1]) if steps else announced
        self.duration_s = len(self) / self.rate_hz
        if length_s > self.duration_s + _CUT_S:
            self.notes.append(
                f"{self.path}: should last {length_s:.1f} s, but only {self.duration_s:.1f} s can "
                f"be read; the file may be truncated"
            )

    def __len__(self) -> int:
        return len(self._stamps)

    def frames(
        self, start: int = 0, stop: int | None = None, side: int | None = None
    ) -> Iterator[Frame]:
        """Read frames in order, with only a few in memory.

        Parameters
        ----------
        start, stop : int
            Number of the first frame, and of the frame after the last. Default: all frames.
        side : int, optional
            Side in pixels of a square to which frames are reduced by area. Default: unchanged.
            FFmpeg reduces a frame before converting its colours, which is several times faster.

        Yields
        ------
        Frame

        Raises
        ------
        DataError
            If a frame cannot be decoded, or there are fewer frames.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise DataError(
                f"{self.path}: has frames 0 to {len(self) - 1}; received a request for "
                f"{start} to {stop - 1}. Ask for fewer."
            )
        number, scaler = start, _Scaler(side)
        for frame in self._decoded(start):
            if frame.pts is None or frame.pts < self._stamps[number]:
                continue
            if frame.pts > self._stamps[number]:
                break
            yield Frame(float(self.times_s[number]), self._pixels(frame, number, scaler))
            number += 1
            if number == stop:
                return
        raise DataError(
            f"{self.path}: frame {number} of {len(self)} cannot be decoded: the file is damaged. "
            f"Copy it again or leave out this video."
        )

    def read(self, start: int, count: int) -> np.ndarray:
        """Read consecutive frames.

        Parameters
        ----------
        start, count : int
            Number of the first frame, and number of frames, at least 1.

        Returns
        -------
        numpy.ndarray, shape (count, H, W, 3), uint8

        Raises
        ------
        DataError
            If a frame cannot be decoded, or there are fewer frames.
        """
        return np.stack([frame.pixels for frame in self.frames(start, start + count)])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Provide the container and its first video stream; errors become one line."""
        av = _library(self.path)
        try:
            with av.open(f"file:{self.path}", options=_OPTIONS) as container:
                yield container, self._stream(container)
        except (av.error.FFmpegError, StopIteration) as error:
            reason = getattr(error, "strerror", None) or "it has no frame"
            raise DataError(
                f"{self.path}: not a video, or a damaged one ({reason}). Expected a playable file "
                f"of {', '.join(SUFFIXES)}."
            ) from None

    def _stream(self, container: Any) -> Any:
        for stream in container.streams.video:
            if not stream.disposition & _COVER:
                return stream
        raise DataError(f"{self.path}: has no video stream. Name a video.")

    def _listed(self) -> tuple[list[int], list[int]]:
        """Return the times of all frames and of the key frames, in order."""
        with self._opened() as (container, stream):
            packets = [_Packet.of(packet) for packet in container.demux(stream) if packet.size]
            # AVI numbers packets in decoding order and gives that as the presentation time.
            reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        whole = [packet for packet in packets if not packet.cut]
        if lost := len(packets) - len(whole):
            self.notes.append(f"{self.path}: packets of truncated frames: {lost}, left out")
        shown = [packet for packet in whole if not packet.hidden]
        stamps = _in_order(packet.pts for packet in shown)
        #: Without presentation times, as in AVI with B-frames, frames in decoding order are shown
        #: at the decoding times of the packets.
        self._counted = not stamps or reordered
        if stamps and not reordered:
            return stamps, _in_order({packet.pts for packet in whole if packet.key})
        stamps = stamps or _in_order(packet.dts for packet in shown)
        if not stamps:
            raise DataError(
                f"{self.path}: has no frames, or they have no times. Convert it, e.g. with "
                f"ffmpeg -i {self.path.name} out.mp4"
            )
        return stamps, stamps[:1]

    def _decoded(self, start: int) -> Iterator[Any]:
        """Decode from the last key frame at or before a frame, or from the start of the file."""
        key = bisect.bisect_right(self._keys, self._stamps[start]) - 1
        if key > 0:
            with self._opened() as (container, stream):
                frames = _sought(container, stream, self._keys[key])
                first = next(frames, None)
                if first is not None and (first.pts or 0) <= self._stamps[start]:
                    yield first
                    yield from frames
                    return
        with self._opened() as (container, stream):
            for number, frame in enumerate(_decode(container, stream)):
                if self._counted and number < len(self):
                    frame.pts = self._stamps[number]
                yield frame

    def _pixels(self, frame: Any, number: int, scaler: _Scaler) -> np.ndarray:
        if (frame.width, frame.height) != self._stored:
            raise DataError(
                f"{self.path}: frame {number} has {frame.width} x {frame.height} pixels, the first "
                f"one {self._stored[0]} x {self._stored[1]}. Convert the video to one size."
            )
        pixels = scaler.pixels(frame)
        return np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns else pixels


class _Scaler:
    """Converts frames to arrays, unchanged or reduced to squares."""

    def __init__(self, side: int | None) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        # For the same bytes on every processor.
        exact = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        self._options: dict[str, Any] = {"format": "rgb24", "interpolation": exact}
        if side is not None:
            shrunk = {"width": side, "height": side, "interpolation": Interpolation.AREA | exact}
            self._options |= shrunk

    def pixels(self, frame: Any) -> np.ndarray:
        """Return the pixels of a frame (H, W, 3), uint8."""
        # The work is too small for several threads.
        small = self._reformatter.reformat(frame, threads=1, **self._options)
        pixels: np.ndarray = small.to_ndarray()
        return pixels


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{not_found(path, 'file')}. Name an existing video.")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy or export it again.")


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Decode frames up to the first undecodable one."""
    import av

    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.is_corrupt:  # truncated, and not in the list of frames
            continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return
        yield from frames


def _sought(container: Any, stream: Any, key: int) -> Iterator[Any]:
    """Decode from a key frame; yield nothing if the container cannot find it."""
    import av

    frames = _decode(container, stream)
    try:
        container.seek(key, stream=stream)
        first = next(frames)
    except (av.error.FFmpegError, StopIteration):
        return
    yield first
    yield from frames


def _in_order(ticks: Iterable[int | None]) -> list[int]:
    """Sort times; return nothing if one is missing or occurs twice."""
    found = list(ticks)
    known = {tick for tick in found if tick is not None}
    return sorted(known) if len(known) == len(found) else []


def _library(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingLibraryError(
            f"{path}: reading videos needs PyAV ({error}). Run: {install_command('video')}"
        ) from None
    return av
