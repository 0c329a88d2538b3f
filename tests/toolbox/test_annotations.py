"""Annotations of surgical phases: both forms of CSV, what is refused, splits, class weights."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolbox.errors import ConfigError, DataError
from toolbox.tasks.surgical_phase.annotations import (
    SPLITS,
    calculate_class_weights,
    check_phases,
    labels_at,
    phases_of,
    read_annotations,
    split_by_video,
)

OPHNET = Path(__file__).resolve().parents[3] / "shared" / "data" / "phase" / "ophnet2024"
HEAD = "video_id,start,end,split,surgery_id,phase_id"


@pytest.fixture
def read(tmp_path):
    """``read(text)`` reads a CSV of that text; bytes as they are."""

    def write_and_read(text):
        path = tmp_path / "phases.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_annotations(path)

    return write_and_read


def table_of(**phases):
    """Return a table without splits: ``name="ab"`` is a video with segments of a and b."""
    rows = [(name, 0.0, 1.0, phase, "") for name, held in phases.items() for phase in held]
    return pd.DataFrame(rows, columns=["video", "start_s", "end_s", "phase", "split"])


# --- reading -----------------------------------------------------------------------------------


def test_the_specified_form(read):
    """One clip, one phase; no times, no splits; lines are those of the file."""
    table, notes = read("video_path,phase\na.mp4,incision\n\nb.mp4,suture\n")
    assert list(table.columns) == ["video", "start_s", "end_s", "phase", "split"]
    assert table["video"].tolist() == ["a.mp4", "b.mp4"]
    assert table["phase"].tolist() == ["incision", "suture"]
    assert table[["start_s", "end_s"]].isna().all(axis=None)
    assert table["split"].tolist() == ["", ""]
    assert table.index.tolist() == [2, 4]
    assert notes == []


def test_the_form_of_ophnet(read):
    """Segments in seconds, phases as text, the words of its splits."""
    table, notes = read(f"{HEAD}\nc1,0,10,train,5,3\nc1,11.33,15.23,train,0,6\nc2,0,1,val,0,3\n")
    assert table["start_s"].tolist() == [0, 11.33, 0]
    assert table["end_s"].tolist() == [10, 15.23, 1]
    assert table["phase"].tolist() == ["3", "6", "3"]
    assert table["split"].tolist() == ["train", "train", "validation"]
    assert notes == []


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffvideo_path,phase\na b.mp4,one\n",
        "video_path;phase\r\na b.mp4;one\r\n",
        "video_path\tphase\na b.mp4\tone\n",
        ' Video_Path , "phase" \n "a b.mp4" , one \n',
        "\nphase,surgeon,video_path\none,x,a b.mp4",
    ],
    ids=["byte-order mark", "semicolons, CRLF", "tabs", "quotes, spaces", "other columns"],
)
def test_dialects(read, text):
    """What spreadsheets make of the same table is read as the same."""
    table, _ = read(text)
    assert table[["video", "phase"]].to_numpy().tolist() == [["a b.mp4", "one"]]


def test_repeated_rows_count_once(read):
    """They are left out and counted."""
    table, notes = read("video_path,phase\na.mp4,x\nb.mp4,y\na.mp4,x\n")
    assert table.index.tolist() == [2, 3]
    assert len(notes) == 1
    assert notes[0].endswith("rows left out, because they repeat others: 1")


def test_rows_without_a_phase_are_left_out(read):
    """-1 stands for none in timelines: it is no phase that could be learned."""
    table, notes = read("video_path,phase\na.mp4,-1\nb.mp4,y\n")
    assert table["phase"].tolist() == ["y"]
    assert notes[0].endswith("rows left out, with phase -1 (none): 1")


def test_operations_of_a_phase_are_joined(read):
    """Rows that touch or overlap and show one phase become one segment; a gap parts them."""
    rows = ["c,0,5,3,1", "c,5,9,3,2", "c,9,12,4,0", "c,11,14,4,1", "c,14.5,15,4,2", "d,14,20,4,0"]
    table, notes = read("\n".join(["video_id,start,end,phase_id,operation_id", *rows]))
    segments = table[["video", "start_s", "end_s", "phase"]].to_numpy().tolist()
    assert segments == [
        ["c", 0, 9, "3"],
        ["c", 9, 14, "4"],
        ["c", 14.5, 15, "4"],
        ["d", 14, 20, "4"],
    ]
    assert table.index.tolist() == [2, 4, 6, 7]
    assert len(notes) == 1
    assert notes[0].endswith("another with the same phase: 2")


def test_phases_that_overlap_are_kept_and_noted(read):
    """OphNet has some; the contested time is unlabelled."""
    table, notes = read(f"{HEAD}\nc,0,5,test,0,1\nc,4.5,9,test,0,2\nc,9,10,test,0,1\n")
    assert len(table) == 3
    assert len(notes) == 1
    assert "different phases: 1, by 0.5 s in total and 0.5 s at most" in notes[0]
    ids = labels_at(table, np.array([0, 4.4, 4.5, 4.9, 5, 9, 10]), ["1", "2"])
    assert ids.tolist() == [0, 0, -1, -1, 1, 0, -1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\x89PNG\r\n\xff", "is not text in UTF-8"),
        (b"video_path,phase\n\0", "is not text"),
        ("video_path,phase\n", "a heading but no rows"),
        ("file,step\na,b\n", "its columns are file, step; expected video_path,phase"),
        ("video_id,start,phase\na,0,b\n", "its columns are video_id, start, phase; expected"),
        ("video_path,phase\na.mp4\n", "line 2: has 1 cells; the heading has 2"),
        ('video_path,phase\na.mp4,"x\n' + "y" * 140_000, "line 3: not valid CSV"),
        ("video_path,phase\na.mp4,x\nb.mp4, \n", "line 3: phase is empty"),
        ("video_path,phase\n,x\n", "line 2: video is empty"),
        ("video_path,phase\na.mp4,-1\n", "all rows have phase -1"),
        ('video_path,phase\na.mp4,"x\ty"\n', "line 2: phase contains a tab"),
        ("video_path,phase\na.mp4,x\na.mp4,y\n", "line 3: gives video 'a.mp4' another phase"),
        (f"{HEAD}\nc,-1,2,train,0,0\n", "line 2: start is negative"),
        (f"{HEAD}\nc,0,2,train,0,0\nc,3,3,train,0,0\n", "line 3: end is 3 s and start 3 s"),
        (f"{HEAD}\nc,0:10,2,train,0,0\n", "line 2: start must be a number.*received '0:10'"),
        (f"{HEAD}\nc,0,inf,train,0,0\n", "line 2: end must be a number.*received 'inf'"),
        (f"{HEAD}\nc,0,,train,0,0\n", "line 2: end must be a number.*received ''"),
        (f"{HEAD}\nc,0,2,dev,0,0\n", "line 2: split must be train.*received 'dev'"),
        (f"{HEAD}\nc,0,2,val,0,0\nc,2,3,test,0,0\n", "line 3: video 'c' is in another split"),
        (f"{HEAD}\nc,0,2,val,0,0\nc,0,2,val,0,1\n", "line 3: gives video 'c' another phase"),
    ],
)
def test_bad_tables(read, text, match):
    """Each is one line that names the file, and the line where there is one."""
    with pytest.raises(DataError, match=match) as error:
        read(text)
    assert "\n" not in str(error.value)
    assert "phases.csv" in str(error.value)


def test_a_missing_file(tmp_path):
    """It is named."""
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_annotations(tmp_path / "none.csv")


@pytest.mark.skipif(not OPHNET.is_dir(), reason="the annotations of OphNet 2024 are not here")
@pytest.mark.parametrize(
    ("name", "rows", "segments", "phases"),
    [
        # Golden: rows of the files less those that touch one of their phase and video, counted
        # by a loop over all pairs of rows (2743 touch and 32 overlap in loca_challenge).
        ("OphNet2024_loca_all.csv", 17508, 14741, 96),
        ("OphNet2024_loca_challenge.csv", 17508, 14733, 52),
        ("OphNet2024_loca_challenge_phase.csv", 14674, 14673, 52),
    ],
)
def test_ophnet(name, rows, segments, phases):
    """The published files are read as they are, and their splits kept."""
    table, notes = read_annotations(OPHNET / name)
    assert len(table) == segments
    assert notes[0].endswith(f"another with the same phase: {rows - segments}")
    assert "40.9 s at most" in notes[1]
    assert phases_of(table) == [str(number) for number in range(phases)]
    splits = split_by_video(table, (1, 1, 1), 5)
    assert [len(splits[split]) for split in SPLITS] == [445, 144, 154]


# --- phases ------------------------------------------------------------------------------------


def test_phases_are_in_order():
    """Numbers are in numerical order, before names."""
    assert phases_of(table_of(a=["10", "9", "suture", "0", "incision", "9"])) == [
        "0",
        "9",
        "10",
        "incision",
        "suture",
    ]


def test_unknown_phases_are_refused():
    """The message gives the line and the nearest name."""
    table = table_of(a=["incision", "sutur"])
    check_phases(table, ["incision", "sutur", "else"])
    with pytest.raises(DataError, match=r"line 1 .*'sutur'.*Did you mean 'suture'"):
        check_phases(table, ["incision", "suture"])


def test_labels_from_start_to_before_end():
    """A start counts and an end does not; nothing is said of the time outside."""
    table = pd.DataFrame({"start_s": [1.0, 2.0], "end_s": [2.0, 3.0], "phase": ["b", "a"]})
    ids = labels_at(table, np.array([0.99, 1, 1.99, 2, 2.99, 3]), ["a", "b"])
    assert ids.tolist() == [-1, 1, 1, 0, 0, -1]
    assert ids.dtype == np.int64


def test_labels_of_a_whole_clip():
    """Without times the phase holds everywhere."""
    table = pd.DataFrame({"start_s": [np.nan], "end_s": [np.nan], "phase": ["b"]})
    assert labels_at(table, np.array([0, 1e6]), ["a", "b"]).tolist() == [1, 1]


def test_class_weights_by_hand():
    """Of 4, 2 and 1: inverse 0.25, 0.5, 1; already divided by the largest."""
    assert calculate_class_weights(pd.DataFrame({"phase": list("aaaabbc")}), "phase") == {
        "a": 0.25,
        "b": 0.5,
        "c": 1.0,
    }
    weights = calculate_class_weights(pd.DataFrame({"id": [10, 9, 9, 9, 10]}), "id")
    assert list(weights) == ["9", "10"]
    assert weights == {"9": pytest.approx(2 / 3), "10": 1.0}


# --- splits ------------------------------------------------------------------------------------


@pytest.fixture
def many():
    """60 videos of two to four of eight phases, of which the last is in three videos only."""
    rng = np.random.default_rng(0)
    held = {f"v{n:02}": list(map(str, rng.choice(7, rng.integers(2, 5), False))) for n in range(60)}
    for name in ("v03", "v30", "v44"):
        held[name].append("7")
    return table_of(**held)


@pytest.mark.parametrize("seed", range(5))
def test_splits_share_no_video(many, seed):
    """Every video is in one split, the sizes are near the shares, every phase is in training."""
    splits = split_by_video(many, (7, 1, 2), seed)
    assert list(splits) == list(SPLITS)
    dealt = [video for videos in splits.values() for video in videos]
    assert sorted(dealt) == sorted(many["video"].unique())
    assert [len(videos) for videos in splits.values()] == pytest.approx([42, 6, 12], abs=3)
    for videos in splits.values():
        assert videos == sorted(videos)
    trained = many[many["video"].isin(splits["train"])]
    assert set(trained["phase"]) == set(many["phase"])


def test_phases_are_spread_by_their_shares(many):
    """Every phase has about its share of videos in every split."""
    splits = split_by_video(many, (2, 1, 1), 0)
    for _, rows in many.groupby("phase"):
        counts = [rows["video"].isin(videos).sum() for videos in splits.values()]
        assert counts == pytest.approx(np.array([0.5, 0.25, 0.25]) * len(rows), abs=3.5)


def test_splits_are_repeatable(many):
    """The order of the rows does not matter; the seed does."""
    first = split_by_video(many, (8, 1, 1), 1)
    assert split_by_video(many.sample(frac=1, random_state=0), (8, 1, 1), 1) == first
    assert split_by_video(many, (8, 1, 1), 2) != first


def test_a_phase_of_one_video_is_in_training(many):
    """Even where training has the smallest share."""
    alone = pd.concat([many, table_of(w=["8"])])
    for seed in range(5):
        assert "w" in split_by_video(alone, (0.1, 0.6, 0.3), seed)["train"]


def test_splits_of_the_file_are_kept(read):
    """Whatever the shares say; a split that it does not name is empty."""
    table, _ = read(f"{HEAD}\nc,0,2,Test,0,0\na,2,3,train,0,0\nb,0,1,test,0,1\n")
    assert split_by_video(table) == {"train": ["a"], "validation": [], "test": ["b", "c"]}


def test_shares_that_make_no_sense(many):
    """They are a mistake in the settings."""
    with pytest.raises(ConfigError, match="must be three numbers of at least 0"):
        split_by_video(many, (1, -1, 1))
