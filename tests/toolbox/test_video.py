"""Videos read frame by frame: exact numbers, true times, what is damaged or no video."""

import re
import struct
import sys
import threading
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.extras import install_command
from toolbox.io.video import VideoFile
from toolbox.opencv import cv2

av = pytest.importorskip("av", reason="PyAV is not installed: pip install '.[video]'")

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "phase" / "clips"
SIZE = WIDTH, HEIGHT = 64, 48
COUNT = 60


def picture(number):
    """Return a frame whose number stands in six blocks, black or white, over noisy red ground."""
    pixels = np.full((HEIGHT, WIDTH, 3), (190, 30, 30), np.uint8)
    pixels += np.random.default_rng(number).integers(0, 20, (HEIGHT, WIDTH, 1), np.uint8)
    for bit in range(6):
        pixels[:16, 8 + 8 * bit : 16 + 8 * bit] = 255 * (number >> bit & 1)
    return pixels


def number_in(pixels):
    """Return the number that stands in a frame."""
    levels = [pixels[2:14, 10 + 8 * bit : 14 + 8 * bit].mean() for bit in range(6)]
    return sum(int(level > 127) << bit for bit, level in enumerate(levels))


def numbers_in(frames):
    """Return the numbers that stand in frames."""
    return [number_in(pixels) for pixels in frames]


def write_constant(path, code, rate_hz=25.0):
    """Write the frames with OpenCV."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate_hz, SIZE)
    assert writer.isOpened()
    for number in range(COUNT):
        writer.write(picture(number)[..., ::-1])
    writer.release()
    return path


def write_at(path, codec, times_ms, container_options=None, **options):
    """Write the frames with PyAV, each at a time of its own."""
    milliseconds = Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = milliseconds
        for number, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(number))
            frame.pts, frame.time_base = int(time_ms), milliseconds
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


#: Steps of 20 to 149 ms.
UNEVEN_MS = np.cumsum(np.random.default_rng(0).integers(20, 150, COUNT)) - 20
EVEN_MS = np.arange(COUNT) * 40
REAL_TIME = {"deadline": "realtime", "cpu-used": "8", "g": "25"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """The same 60 frames in several containers and codecs, by name."""
    folder = tmp_path_factory.mktemp("videos")
    front = {"movflags": "faststart"}
    return {
        "mp4v.mp4": write_constant(folder / "mp4v.mp4", "mp4v"),
        "mjpg.avi": write_constant(folder / "mjpg.avi", "MJPG", 12.5),
        "h264.mp4": write_at(folder / "h264.mp4", "libx264", EVEN_MS, front, bf="3", g="20"),
        "vp9.webm": write_at(folder / "vp9.webm", "libvpx-vp9", EVEN_MS, **REAL_TIME),
        "uneven.mp4": write_at(folder / "uneven.mp4", "libx264", UNEVEN_MS, bf="3", g="20"),
        "uneven.webm": write_at(folder / "uneven.webm", "libvpx-vp9", UNEVEN_MS, **REAL_TIME),
        "b_frames.avi": write_at(folder / "b_frames.avi", "mpeg4", EVEN_MS, bf="2"),
        "h264.avi": write_at(folder / "h264.avi", "libx264", EVEN_MS, bf="3", g="20"),
    }


NAMES = (
    "mp4v.mp4",
    "mjpg.avi",
    "h264.mp4",
    "vp9.webm",
    "uneven.mp4",
    "uneven.webm",
    "b_frames.avi",
    "h264.avi",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_at_its_time(videos, name):
    """Frames come in order, each with the time at which it was written."""
    video = VideoFile(videos[name])
    times_ms = {"mjpg.avi": EVEN_MS * 2, "uneven": UNEVEN_MS - UNEVEN_MS[0]}
    expected = times_ms.get(name, times_ms.get(name.split(".")[0], EVEN_MS)) / 1000
    frames = list(video.frames())
    assert numbers_in(frame.pixels for frame in frames) == list(range(COUNT))
    np.testing.assert_allclose(video.times_s, expected, atol=1e-9)
    assert [frame.time_s for frame in frames] == video.times_s.tolist()
    assert len(video) == COUNT
    assert (video.width, video.height) == SIZE
    assert video.rate_hz == pytest.approx((COUNT - 1) / expected[-1])
    assert video.duration_s == pytest.approx(COUNT / video.rate_hz)
    assert video.notes == []


@pytest.mark.parametrize("name", ["mp4v.mp4", "mjpg.avi"])
def test_frames_shrunk_as_they_are_decoded(videos, name):
    """Squares by area: nearly what shrinking the frames afterwards gives, and never a byte else."""
    video = VideoFile(videos[name])
    small = [frame.pixels for frame in video.frames(3, 9, side=16)]
    again = [frame.pixels for frame in video.frames(3, 9, side=16)]
    np.testing.assert_array_equal(small, again)
    large = [cv2.resize(f, (16, 16), interpolation=cv2.INTER_AREA) for f in video.read(3, 6)]
    assert np.shape(small) == (6, 16, 16, 3)
    assert np.abs(np.subtract(small, large, dtype=float)).mean() < 6
    assert np.corrcoef(np.ravel(small), np.ravel(large))[0, 1] > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_random_access_is_exact(videos, name):
    """Frames asked for by number are those frames, bit by bit as in sequence."""
    video = VideoFile(videos[name])
    whole = video.read(0, COUNT)
    assert whole.shape == (COUNT, HEIGHT, WIDTH, 3)
    assert whole.dtype == np.uint8
    for start, count in ((59, 1), (0, 1), (19, 3), (20, 2), (41, 16), (1, 59)):
        np.testing.assert_array_equal(video.read(start, count), whole[start : start + count])


def test_colours_are_red_green_blue(videos):
    """The ground is red."""
    colour = VideoFile(videos["h264.mp4"]).read(3, 1)[0, 30:].mean((0, 1))
    assert colour == pytest.approx([200, 40, 40], abs=12)


def test_files_serve_threads(videos):
    """Several threads read one object at once, each what it asked for."""
    video, found = VideoFile(videos["h264.mp4"]), {}

    def read(start):
        found[start] = numbers_in(video.read(start, 8))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 48, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {start: list(range(start, start + 8)) for start in range(0, 48, 8)}


def test_a_stream_may_be_left(videos):
    """Frames are decoded as they are asked for, and two readers do not disturb each other."""
    video = VideoFile(videos["mp4v.mp4"])
    first, second = video.frames(), video.frames(30)
    pairs = [(number_in(next(first).pixels), number_in(next(second).pixels)) for _ in range(3)]
    assert pairs == [(0, 30), (1, 31), (2, 32)]
    first.close()
    assert number_in(next(second).pixels) == 33


@pytest.mark.parametrize("span", [(-1, 3), (58, 61), (5, 5), (60, 61)])
def test_frames_that_are_not_there(videos, span):
    """The message says which there are."""
    with pytest.raises(DataError, match=r"mp4v\.mp4: has frames 0 to 59; received a request"):
        list(VideoFile(videos["mp4v.mp4"]).frames(*span))


# --- turned, cut, damaged ----------------------------------------------------------------------


@pytest.mark.parametrize(("cosine", "sine", "turns"), [(0, 1, -1), (-1, 0, 2), (0, -1, 1)])
def test_rotation_is_applied(videos, tmp_path, cosine, sine, turns):
    """A camera held upright notes a quarter turn in the track header (ISO 14496-12, tkhd)."""
    data = bytearray(videos["mp4v.mp4"].read_bytes())
    # Behind the type: version, flags, times, track, duration, layer, group and volume.
    place = data.index(b"tkhd") + 44
    one = 1 << 16
    matrix = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    turned, plain = VideoFile(path), VideoFile(videos["mp4v.mp4"])
    assert (turned.width, turned.height) == (SIZE if turns == 2 else SIZE[::-1])
    expected = np.rot90(plain.read(40, 2), turns, axes=(1, 2))
    np.testing.assert_array_equal(turned.read(40, 2), expected)


@pytest.mark.parametrize("name", ["mjpg.avi", "h264.mp4", "vp9.webm"])
@pytest.mark.parametrize("share", [0.5, 0.83])
def test_cut_files_are_read_as_far_as_they_go(videos, tmp_path, capfd, name, share):
    """What is listed can be read, also at the end; FFmpeg prints nothing."""
    data = videos[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    video = VideoFile(path)
    assert 5 < len(video) < COUNT
    numbers = numbers_in(frame.pixels for frame in video.frames())
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(video)
    assert numbers_in(video.read(len(video) - 2, 2)) == numbers[-2:]
    assert capfd.readouterr() == ("", "")


def test_a_last_frame_that_is_cut_is_noted(videos, tmp_path):
    """It is left out, and said once; so is a length that is not reached."""
    data = videos["h264.mp4"].read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[:-5])
    video = VideoFile(path)
    assert len(video) == COUNT - 1
    assert video.notes == [f"{path}: packets of truncated frames: 1, left out"]
    path.write_bytes(data[: len(data) // 2])
    assert "should last 2.4 s, but only" in VideoFile(path).notes[-1]


def test_a_damaged_frame_is_named(videos, tmp_path):
    """Frames before it can be read; asking for it is an error with its number."""
    data = bytearray(videos["mjpg.avi"].read_bytes())
    places = [place for place in range(len(data)) if data.startswith(b"\xff\xd8", place)]
    data[places[30] : places[31] - 16] = bytes(places[31] - 16 - places[30])
    path = tmp_path / "damaged.avi"
    path.write_bytes(data)
    video = VideoFile(path)
    assert numbers_in(video.read(28, 2)) == [28, 29]
    with pytest.raises(DataError, match=r"damaged\.avi: frame 30 of 60 cannot be decoded"):
        video.read(28, 4)
    assert numbers_in(video.read(31, 2)) == [31, 32]


def write_sound(path):
    """Write a second of silence."""
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))


def write_song(path):
    """Write sound without pictures into a container of videos."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.touch(), r"is empty \(0 bytes\)"),
        (lambda path: path.write_text("frame,phase\n0,1\n"), "not a video, or a damaged one"),
        (lambda path: path.write_bytes(bytes(5000)), "not a video, or a damaged one"),
        (lambda path: Image.new("RGB", SIZE).save(path, "PNG"), "not a video, or a damaged one"),
        (lambda path: path.write_text("#EXTM3U\nother.ts\n"), "not a video, or a damaged one"),
        (write_sound, "not a video, or a damaged one"),
        (write_song, "has no video stream"),
    ],
    ids=["missing", "folder", "empty", "text", "zeros", "picture", "playlist", "sound", "song"],
)
def test_what_is_no_video(tmp_path, capfd, write, match):
    """One line that names the file, and FFmpeg prints nothing."""
    path = tmp_path / "operation.mp4"
    write(path)
    with pytest.raises(DataError, match=match) as error:
        VideoFile(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_video_without_frames(tmp_path):
    """A writer that was closed at once leaves one."""
    path = tmp_path / "none.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, SIZE).release()
    with pytest.raises(DataError, match=r"none\.avi: "):
        VideoFile(path)


def test_mp4_cut_before_its_index(videos, tmp_path):
    """Nothing can be read of it."""
    path = tmp_path / "cut.mp4"
    path.write_bytes(videos["mp4v.mp4"].read_bytes()[:2000])
    with pytest.raises(DataError, match="not a video, or a damaged one"):
        VideoFile(path)


def test_one_frame(tmp_path):
    """Its rate is the announced one."""
    video = VideoFile(write_at(tmp_path / "one.mp4", "libx264", [0]))
    assert len(video) == 1
    assert video.times_s.tolist() == [0]
    assert video.duration_s == pytest.approx(1 / video.rate_hz)


def test_without_pyav(videos, monkeypatch):
    """The message holds the command that installs it."""
    monkeypatch.setitem(sys.modules, "av", None)
    command = re.escape(install_command("video"))
    with pytest.raises(MissingLibraryError, match=rf"needs PyAV.*{command}"):
        VideoFile(videos["mp4v.mp4"])


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips of an operation are not here")
@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".webm"])
def test_real_clips(suffix):
    """A clip of a minute in three containers; frames in its middle are those of the sequence."""
    # Golden: frames that PyAV 18.1 decodes; the AVI holds three empty packets ("repeat") more.
    video = VideoFile(CLIPS / f"iscc_demo{suffix}")
    assert len(video) == 1441
    assert (video.width, video.height) == (176, 144)
    assert video.duration_s == pytest.approx(60, abs=0.2)
    assert video.notes == []
    middle = [frame.pixels for frame in video.frames(0, 716)][700:]
    np.testing.assert_array_equal(video.read(700, 16), middle)
