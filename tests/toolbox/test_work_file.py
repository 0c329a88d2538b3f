"""Unfinished work on disk: gone on with if it is whole and the same, else begun anew."""

import errno
import json
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest

from toolbox.errors import DataError
from toolbox.inference import work_file
from toolbox.inference.work_file import WorkFile

SHAPE = (9, 5, 2)
JOB = {"input": "map.tif", "tile": [64, 64], "weights": None, "scale": 4}
Usage = namedtuple("Usage", "total used free")


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE[1:])).astype(np.float32)


def begun(folder, *strips, job=JOB, shape=SHAPE):
    """Return a work file to which strips were appended, each with its number as figure."""
    work = WorkFile(folder / "out.tif", shape, job)
    for strip in strips:
        work.append(strip, {"strips": work.pieces + 1})
    return work


def files(folder):
    """Return the data and the journal of the work below `folder`."""
    return folder / ".out.tif.partial", folder / ".out.tif.partial.json"


def state(work):
    """Return what a work file says of itself."""
    return work.pieces, work.rows, work.figures


def test_grows_from_the_top(tmp_path):
    """What was appended is read back, with its count and figures, beside the final file."""
    strips = rows(4), rows(3, 1), rows(2, 2)
    work = begun(tmp_path / "new" / "folder", *strips)
    assert state(work) == (3, 9, {"strips": 3})
    np.testing.assert_array_equal(work.read(slice(None)), np.concatenate(strips))
    work.release()
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        path.name for path in files(tmp_path)
    )


def test_a_second_process_is_refused(tmp_path):
    """While a living process writes a result no other may; the lock of a dead one is taken over."""
    folder = tmp_path / "new" / "folder"
    begun(folder, rows(4)).release()
    lock = next(folder.glob(".*.json")).with_suffix(".lock")
    lock.write_text("1")  # the first process of the system is alive
    with pytest.raises(DataError, match="process 1 is writing this file"):
        begun(folder)
    lock.write_text("999999999")
    begun(folder)
    assert lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_writes_float32_whatever_comes(tmp_path, dtype):
    """Strips of other number types, or turned ones, are written as float32 rows."""
    strip = rows(4).astype(dtype)
    work = begun(tmp_path, strip, strip[::-1])
    expected = np.concatenate([strip, strip[::-1]]).astype(np.float32)
    np.testing.assert_array_equal(work.read(slice(None)), expected)
    assert work.read(slice(None)).dtype == np.float32


def test_goes_on_where_it_was(tmp_path):
    """The same job opened again has its rows, pieces and figures, and takes more."""
    begun(tmp_path, rows(4), rows(3, 1))
    work = WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert state(work) == (2, 7, {"strips": 2})
    work.append(rows(2, 2), {"strips": 3, "sum": 1.5})
    again = WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert state(again) == (3, 9, {"strips": 3, "sum": 1.5})
    expected = np.concatenate([rows(4), rows(3, 1), rows(2, 2)])
    np.testing.assert_array_equal(again.read(slice(None)), expected)


@pytest.mark.parametrize("extra", [1, 40, 7 * 40])
def test_torn_strip_is_cut_off(tmp_path, extra):
    """Bytes that the journal does not know, of a strip half written, are overwritten."""
    begun(tmp_path, rows(4))
    data, _ = files(tmp_path)
    data.write_bytes(data.read_bytes() + b"\xff" * extra)
    work = WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert state(work) == (1, 4, {"strips": 1})
    assert data.stat().st_size == 4 * 5 * 2 * 4
    work.append(rows(5, 1), {})
    np.testing.assert_array_equal(work.read(slice(None)), np.concatenate([rows(4), rows(5, 1)]))


@pytest.mark.parametrize("keep", [0, 1, 159])
def test_lost_data_begins_anew(tmp_path, keep):
    """Data shorter than the journal says cannot be trusted."""
    begun(tmp_path, rows(4))
    data, _ = files(tmp_path)
    data.write_bytes(data.read_bytes()[:keep])
    assert state(WorkFile(tmp_path / "out.tif", SHAPE, JOB)) == (0, 0, {})
    assert data.stat().st_size == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"job": 1}', '{"job": %s}', '{"job": %s, "rows": "x", "pieces": 1}'],
)
def test_torn_journal_begins_anew(tmp_path, text):
    """A journal that is no journal is as good as none."""
    begun(tmp_path, rows(4))
    files(tmp_path)[1].write_text(text.replace("%s", json.dumps(JOB)), encoding="utf-8")
    work = WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert state(work) == (0, 0, {})
    work.append(rows(2, 1), {})
    np.testing.assert_array_equal(work.read(slice(None)), rows(2, 1))


def test_binary_journal_begins_anew(tmp_path):
    """A journal of zeros, as a crash of the machine leaves behind, is as good as none."""
    begun(tmp_path, rows(4))
    files(tmp_path)[1].write_bytes(b"\xff\x00" * 50)
    assert WorkFile(tmp_path / "out.tif", SHAPE, JOB).rows == 0


@pytest.mark.parametrize("lost", [0, 1])
def test_one_file_alone_is_not_enough(tmp_path, lost):
    """Without its journal the data is worth nothing, and the other way round."""
    begun(tmp_path, rows(4))
    files(tmp_path)[lost].unlink()
    assert WorkFile(tmp_path / "out.tif", SHAPE, JOB).rows == 0


@pytest.mark.parametrize(
    "change", [{"scale": 2}, {"tile": [64, 65]}, {"weights": "a.h5"}, {"x": 1}]
)
def test_another_job_begins_anew(tmp_path, change):
    """A single setting that differs makes another work of it."""
    begun(tmp_path, rows(4))
    assert WorkFile(tmp_path / "out.tif", SHAPE, {**JOB, **change}).rows == 0
    assert files(tmp_path)[0].stat().st_size == 0


def test_job_is_compared_as_json(tmp_path):
    """Tuples and lists are the same job, as is another order of the keys."""
    begun(tmp_path, rows(4))
    same = {key: tuple(v) if isinstance(v, list) else v for key, v in reversed(JOB.items())}
    assert WorkFile(tmp_path / "out.tif", SHAPE, same).rows == 4


@pytest.mark.parametrize(
    "part",
    [
        slice(None),
        slice(2, 6),
        slice(0, 0),
        slice(8, 20),
        slice(None, None, 2),
        slice(1, 8, 3),
        slice(0, 9, 100),
        slice(4, 4, 2),
    ],
)
def test_reading_is_slicing(tmp_path, part):
    """Any slice of the finished rows, with a step or empty, is that of the array."""
    strips = rows(4), rows(5, 1)
    found = begun(tmp_path, *strips).read(part)
    np.testing.assert_array_equal(found, np.concatenate(strips)[part])
    assert found.dtype == np.float32


def test_reads_finished_rows_only(tmp_path):
    """Rows below the finished ones are not there."""
    work = begun(tmp_path, rows(4))
    assert work.read(slice(2, 9)).shape == (2, 5, 2)
    assert work.read(slice(0, 9, 2)).shape == (2, 5, 2)
    assert work.read(slice(5, 9)).shape == (0, 5, 2)


@pytest.mark.parametrize("size", [1, 40, 100, 2**25])
def test_strips_are_all_rows_in_bounded_pieces(tmp_path, size, monkeypatch):
    """Together the strips are the image; none has more bytes than allowed, but one row at least."""
    monkeypatch.setattr(work_file, "_STRIP_BYTES", size)
    work = begun(tmp_path, rows(4), rows(5, 1))
    strips = list(work.strips())
    np.testing.assert_array_equal(np.concatenate(strips), work.read(slice(None)))
    assert all(strip.nbytes <= max(size, 40) for strip in strips)


def test_strips_of_nothing(tmp_path):
    """Work that has not begun has no strips."""
    assert list(begun(tmp_path).strips()) == []


def test_remove_leaves_nothing(tmp_path):
    """Data and journal are deleted; twice does no harm."""
    work = begun(tmp_path, rows(4))
    work.remove()
    assert list(tmp_path.iterdir()) == []
    work.remove()
    assert WorkFile(tmp_path / "out.tif", SHAPE, JOB).rows == 0


def test_no_room_is_told_beforehand(tmp_path, monkeypatch):
    """A disk that cannot hold the rest is refused with the name of the final file."""
    whole = 9 * 5 * 2 * 4
    free = [whole - 1]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(whole, 0, free[0]))
    with pytest.raises(OSError) as caught:
        WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "out.tif")
    assert list(tmp_path.iterdir()) == []
    free[0] = whole
    begun(tmp_path, rows(4))
    free[0] = 5 * 5 * 2 * 4
    assert WorkFile(tmp_path / "out.tif", SHAPE, JOB).rows == 4


def test_no_room_keeps_what_is_done(tmp_path, monkeypatch):
    """Work that cannot go on for lack of room is there when there is room again."""
    begun(tmp_path, rows(4))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0))
        with pytest.raises(OSError, match=r"out\.tif"):
            WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    np.testing.assert_array_equal(begun(tmp_path).read(slice(None)), rows(4))


def test_killed_before_the_journal(tmp_path, monkeypatch):
    """A run that dies between data and journal repeats that strip and ends the same."""
    work = begun(tmp_path, rows(4))

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work_file, "replacing", killed)
        with pytest.raises(KeyboardInterrupt):
            work.append(rows(5, 1), {})
    again = WorkFile(tmp_path / "out.tif", SHAPE, JOB)
    assert state(again) == (1, 4, {"strips": 1})
    again.append(rows(5, 1), {})
    np.testing.assert_array_equal(again.read(slice(None)), np.concatenate([rows(4), rows(5, 1)]))
