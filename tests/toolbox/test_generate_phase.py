"""The generator of operations: what happens, what is seen, repeatability, what it refuses."""

import importlib
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolbox.opencv import cv2
from toolbox.tasks.surgical_phase.annotations import read_annotations, split_by_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def generate(monkeypatch):
    """The module with segments of about a second; examples are not installed."""
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("examples.surgical_phase.generate")
    monkeypatch.setattr(module, "_SEGMENT_S", (0.8, 1.2))
    monkeypatch.setattr(module, "_GAP_S", (0.2, 0.4))
    return module


@pytest.fixture
def program(generate, tmp_path, capsys):
    """``program(*options, folder=...)``; returns exit code, output and messages."""

    def run(*options, folder="clips"):
        code = generate.main([str(tmp_path / folder), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def frames_in(path):
    """Return all frames of a video (n, H, W, 3), RGB, and its rate."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][..., ::-1])
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return np.stack(frames), rate_hz


def phases_at(operation):
    """Return the phase of every frame."""
    times_s = np.arange(len(operation)) / operation.rate_hz
    starts = [segment.start_s for segment in operation.segments]
    places = np.searchsorted(starts, times_s, side="right") - 1
    return np.array([segment.phase for segment in operation.segments])[places]


# --- what happens ------------------------------------------------------------------------------


def test_every_video_shows_every_phase(generate):
    """In varying order, one after the other, with gaps here and there."""
    scripts = [generate.script(0, number) for number in range(60)]
    orders = [[s.phase for s in script if s.phase != generate.GAP] for script in scripts]
    for script, order in zip(scripts, orders, strict=True):
        assert set(order) == set(generate.PHASES)
        assert all(a != b for a, b in itertools.pairwise(order))
        assert script[0].start_s == 0
        for segment, after in zip(script, [*script[1:], None], strict=True):
            span_s = (0.2, 0.4) if segment.phase == generate.GAP else (0.8, 1.2)
            length_s = segment.end_s - segment.start_s
            assert span_s[0] - 0.01 <= length_s <= span_s[1] + 0.01
            assert after is None or after.start_s == segment.end_s
    assert len({tuple(order[:3]) for order in orders}) == 6
    gaps = sum(segment.phase == generate.GAP for script in scripts for segment in script)
    assert 60 < gaps < 150


def test_splits_are_by_video(generate):
    """70, 10 and 20 % of the videos, assigned by the seed."""
    splits = generate.splits_of(60, 0)
    assert [splits.count(split) for split in ("train", "val", "test")] == [42, 6, 12]
    assert generate.splits_of(60, 0) == splits
    assert generate.splits_of(60, 1) != splits


def test_shuffled_labels_say_nothing(generate):
    """In every split, every true phase has every label equally often; times stay."""
    true = generate.table_of(60, 0, shuffle_labels=False)
    shuffled = generate.table_of(60, 0, shuffle_labels=True)
    columns = ["video_id", "start", "end", "split", "surgery_id"]
    pd.testing.assert_frame_equal(true[columns], shuffled[columns])
    pairs = pd.DataFrame(
        {
            "video": true["video_id"],
            "split": true["split"],
            "true": true["phase_id"],
            "label": shuffled["phase_id"],
        }
    ).drop_duplicates()
    # One label a phase in each video.
    assert len(pairs) == 3 * 60
    counts = pairs.groupby(["split", "true", "label"]).size().unstack()
    assert (counts.loc["train"] == 14).all(axis=None)
    assert (counts.loc["val"] == 2).all(axis=None)
    assert (counts.loc["test"] == 4).all(axis=None)


# --- what is seen ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
def test_masks_show_what_the_phases_are(generate, number):
    """Tools and fluid where they belong; nothing in two channels; one size and type."""
    operation = generate.Operation(0, number)
    pictures, masks = (np.stack(part) for part in zip(*operation.frames(), strict=True))
    assert operation.rate_hz == (12.5, 15, 25, 30)[number]
    assert pictures.shape == masks.shape == (len(operation), 128, 160, 3)
    assert pictures.dtype == masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 255}
    assert not (masks[..., 0] & masks[..., 1]).any()
    assert not masks[..., 2].any()
    phases = phases_at(operation)
    tool, tissue = masks[..., 0].mean((1, 2)) / 255, masks[..., 1].mean((1, 2)) / 255
    assert not tool[phases == generate.GAP].any()
    assert tool[phases == generate.INSPECTION].max() < 0.03
    assert tool[phases == generate.GRASPING].min() > 0.01
    assert tool[phases == generate.RINSING].min() > 0.01
    rinsed = tissue[phases == generate.RINSING]
    assert rinsed.max() > 1.5 * tissue[phases == generate.INSPECTION].mean()


def test_tools_and_tissue_move(generate):
    """Frames half a second apart differ by more than noise, also without a tool."""
    operation = generate.Operation(0, 2)
    pictures, masks = (np.stack(part) for part in zip(*operation.frames(), strict=True))
    for phase in (generate.GRASPING, generate.RINSING):
        shown = masks[phases_at(operation) == phase][..., 0]
        assert (shown[0] != shown[12]).mean() > 0.01
    still = cv2.blur(pictures[0], (5, 5)).astype(int) - cv2.blur(pictures[12], (5, 5))
    assert np.abs(still).mean() > 1.5


def test_brightness_does_not_tell_the_phase(generate):
    """The nearest mean brightness finds the phase hardly more often than chance, 1/3."""
    light, phases = [], []
    for number in range(12):
        operation = generate.Operation(1, number)
        light += [picture.mean() for picture, _ in operation.frames()]
        phases += phases_at(operation).tolist()
    light, phases = np.array(light), np.array(phases)
    means = np.array([light[phases == phase].mean() for phase in generate.PHASES])
    found = np.abs(light[:, None] - means).argmin(axis=1)
    known = phases != generate.GAP
    assert (found == phases)[known].mean() < 0.55


# --- files -------------------------------------------------------------------------------------


def files_in(folder):
    """Return the names of all files below a folder, hidden ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_data_set(generate, program, tmp_path):
    """Videos hold the frames, masks as good as the masks, the table is one that can be read."""
    code, out, _ = program("--videos", "2", "--seed", "3")
    assert code == 0
    assert out.startswith("2 videos of ")
    folder = tmp_path / "clips"
    names = ["operation_0000", "operation_0001"]
    assert files_in(folder) == [
        "annotations.csv",
        *(f"{part}/{name}.mp4" for part in ("masks", "videos") for name in names),
    ]
    for number, name in enumerate(names):
        operation = generate.Operation(3, number)
        drawn = [np.stack(part) for part in zip(*operation.frames(), strict=True)]
        for part, true in zip(("videos", "masks"), drawn, strict=True):
            frames, rate_hz = frames_in(folder / part / f"{name}.mp4")
            assert rate_hz == operation.rate_hz
            assert frames.shape == true.shape
            if part == "videos":
                assert np.abs(frames.astype(int) - true).mean() < 6
            else:
                assert ((frames > 127) != (true > 127)).mean() < 0.003
    table, notes = read_annotations(folder / "annotations.csv")
    assert notes == []
    assert table["phase"].isin(["0", "1", "2"]).all()
    assert set(table["video"]) == set(names)
    assert sum(map(len, split_by_video(table).values())) == 2


def test_same_seed_same_everything(generate, program, tmp_path, monkeypatch):
    """Frames and table depend on the seed alone, not on the number of threads."""
    assert program("--videos", "2", folder="a")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(generate.os, "cpu_count", lambda: 1)
        assert program("--videos", "2", folder="b")[0] == 0
    assert program("--videos", "2", "--seed", "1", folder="c")[0] == 0
    tables = [(tmp_path / name / "annotations.csv").read_bytes() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]
    for part in ("videos", "masks"):
        frames = [frames_in(tmp_path / name / part / "operation_0001.mp4")[0] for name in "abc"]
        np.testing.assert_array_equal(frames[0], frames[1])
        assert frames[0].shape != frames[2].shape or (frames[0] != frames[2]).any()


def test_an_older_data_set_is_replaced_on_demand(program, tmp_path):
    """Without --overwrite it stays; with it, nothing of it is left."""
    assert program("--videos", "2")[0] == 0
    code, out, err = program("--videos", "1")
    assert code == 2
    assert out == ""
    assert "already holds a data set" in err
    assert "--overwrite" in err
    assert len(files_in(tmp_path / "clips")) == 5
    assert program("--videos", "1", "--overwrite", "--shuffle_labels")[0] == 0
    assert len(files_in(tmp_path / "clips")) == 3


@pytest.mark.parametrize(
    "name",
    [
        "videos/case_0002.mp4",
        "masks/operation_0000.png",
        "operation_0000.mp4",
        "annotations.csv",
        "notes.txt",
    ],
)
def test_other_data_are_never_replaced(program, tmp_path, name):
    """Anything that is not of this program stays, even with --overwrite."""
    path = tmp_path / "clips" / name
    path.parent.mkdir(parents=True)
    path.write_text("video_id,start,end\ncase_0002,0,1\n")
    code, _, err = program("--videos", "1", "--overwrite")
    assert code == 2
    assert f"contains {name}, which does not belong" in err
    assert files_in(tmp_path / "clips") == [name]


def test_a_stopped_run_is_no_data_set(generate, program, monkeypatch, tmp_path):
    """Stopped half-way there is no table, so that the next run may replace what is there."""
    write = generate.write_operation

    def stop(folder, seed, number):
        if number == 1:
            raise KeyboardInterrupt
        return write(folder, seed, number)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_operation", stop)
        assert program("--videos", "2")[0] == 130
    folder = tmp_path / "clips"
    assert not (folder / "annotations.csv").exists()
    (folder / "videos" / ".operation_0001.mp4.7.tmp.mp4").write_bytes(b"torn")
    assert program("--videos", "2")[0] == 0
    assert len(files_in(folder)) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--videos", "0"), "--videos must be at least 1; received 0"),
        (("--seed", "-1"), "--seed must be at least 0; received -1"),
    ],
)
def test_options_out_of_range(program, tmp_path, options, words):
    """A number that makes no sense is one line, and no folder appears."""
    code, _, err = program(*options)
    assert code == 2
    assert err == f"error: {words}.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_instead_of_a_folder(program, tmp_path):
    """It is named in one line."""
    (tmp_path / "clips").write_text("a file")
    code, _, err = program("--videos", "1")
    assert code == 2
    assert "expected a folder" in err
