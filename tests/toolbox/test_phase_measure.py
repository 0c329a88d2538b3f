"""Figures of surgical phases by hand and by property; timelines as text; the program."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import in_process

from toolbox.errors import ConfigError, DataError
from toolbox.tasks.surgical_phase.evaluate import (
    compare_folders,
    main,
    pair_files,
    read_names,
    report_text,
)
from toolbox.tasks.surgical_phase.measure import (
    ABSENT,
    FIGURES,
    RELAXED,
    Video,
    bootstrap,
    confusion,
    definitions,
    forgiven,
    measure,
    phase_figures,
)
from toolbox.tasks.surgical_phase.timeline import read_timeline, write_timeline


def ids(text):
    """Return the ids of a string such as ``0011-2``; ``-`` is no phase."""
    return np.array([-1 if sign == "-" else int(sign) for sign in text])


def video(truth, found, rate_hz=1.0, step=1, name="a"):
    return Video(name, np.arange(len(truth)) * step, ids(truth), ids(found), rate_hz)


def column(measured, name):
    return measured.pairs[name].tolist()


def some_videos(seed, count=4, phases=3):
    """Return videos of random segments; predictions are often right, some frames unlabelled."""
    rng = np.random.default_rng(seed)
    videos = []
    for number in range(count):
        truth = np.repeat(rng.integers(0, phases, 8), rng.integers(1, 7, 8))
        found = np.where(rng.random(len(truth)) < 0.6, truth, rng.integers(-1, phases, len(truth)))
        truth = np.where(rng.random(len(truth)) < 0.05, -1, truth)
        rate = float(rng.choice([0.5, 1, 2]))
        videos.append(Video(f"v{number}", np.arange(len(truth)), truth, found, rate))
    return videos


# Golden numbers, worked out by hand ------------------------------------------------------------

#: frame      0123456789    phase 0: TP 0 1 2, FP 9, FN 3
#: truth      0000111222    phase 1: TP 4 5, FP 3, FN 6
#: found      0001112220    phase 2: TP 7 8, FP 6, FN 9
TEN = ("0000111222", "0001112220")


def test_figures_of_three_phases():
    """Precision, recall, Jaccard and F1 of ten frames, 7 of which are right."""
    measured = measure([video(*TEN)], 3)
    assert column(measured, "precision") == pytest.approx([3 / 4, 2 / 3, 2 / 3])
    assert column(measured, "recall") == pytest.approx([3 / 4, 2 / 3, 2 / 3])
    assert column(measured, "jaccard") == pytest.approx([3 / 5, 2 / 4, 2 / 4])
    assert column(measured, "f1") == pytest.approx([6 / 8, 4 / 6, 4 / 6])
    assert measured.confusion.tolist() == [[3, 1, 0, 0], [0, 2, 1, 0], [1, 0, 2, 0]]
    assert measured.summary["accuracy"]["mean"] == pytest.approx(7 / 10)
    assert measured.summary["jaccard"]["phases_then_videos"] == pytest.approx(1.6 / 3)
    assert column(measured, "in_truth") == [4, 3, 3]
    assert column(measured, "in_found") == [4, 3, 3]


def test_relaxed_figures_of_three_phases():
    """With 1 s at 1 Hz frames 3 and 6 are forgiven, each for both phases; 9 is not."""
    measured = measure([video(*TEN)], 3, boundary_s=1)
    # Phase 0: TP 0 1 2 3, FP 9. Phase 1: TP 4 5 and 3 6. Phase 2: TP 7 8 and 6, FN 9.
    assert column(measured, "relaxed_precision") == pytest.approx([4 / 5, 1, 1])
    assert column(measured, "relaxed_recall") == pytest.approx([1, 1, 3 / 4])
    assert column(measured, "relaxed_jaccard") == pytest.approx([4 / 5, 1, 3 / 4])
    assert column(measured, "relaxed_f1") == pytest.approx([8 / 9, 1, 6 / 7])
    assert measured.summary["relaxed"]["accuracy"]["mean"] == pytest.approx(9 / 10)
    assert measured.summary["accuracy"]["mean"] == pytest.approx(7 / 10)


@pytest.mark.parametrize(("found", "expected"), [("00112211", 1.0), ("11220000", 0.0)])
def test_all_right_and_all_wrong(found, expected):
    """Every strict figure is 1, or 0."""
    summary = measure([video("00112211", found)], 3).summary
    assert summary["accuracy"]["mean"] == summary["accuracy"]["pooled"] == expected
    assert summary["macro_f1"] == expected
    for name in FIGURES:
        assert summary[name]["phases_then_videos"] == expected
        assert summary[name]["videos_then_phases"] == expected


@pytest.mark.parametrize(
    ("change", "right", "accepted"),
    [
        (13, 17, 20),  # three frames late: 10 11 12 lie less than 3 s after the boundary
        (14, 16, 19),  # four: 13 lies 3 s after it
        (7, 17, 20),  # three frames early: 7 8 9 lie at most 3 s before it
        (6, 16, 19),
    ],
)
def test_a_change_that_is_early_or_late(change, right, accepted):
    """Of ten frames of either phase, three on each side of the boundary are forgiven in 3 s."""
    found = "0" * change + "1" * (20 - change)
    summary = measure([video("0" * 10 + "1" * 10, found)], 2, boundary_s=3).summary
    assert summary["accuracy"]["mean"] == pytest.approx(right / 20)
    assert summary["relaxed"]["accuracy"]["mean"] == pytest.approx(accepted / 20)


def test_seconds_follow_the_true_frame_rate():
    """Eight frames late: 3 s are three frames at 1 Hz, also of every 25th of 25; not 75 frames."""
    truth, found = "0" * 10 + "1" * 10, "0" * 18 + "1" * 2
    assert forgiven(video(truth, found), 3).sum() == 3
    assert forgiven(video(truth, found, rate_hz=25, step=25), 3).sum() == 3
    assert forgiven(video(truth, found, rate_hz=25), 3).sum() == 8  # the published scripts
    assert forgiven(video(truth, found, rate_hz=0.5), 3).sum() == 2  # 0 s and 2 s after it


def test_only_phases_that_meet_are_forgiven():
    """Beyond a segment of one frame, the phase before it is not accepted, near as it is."""
    truth = "000012222"
    assert forgiven(video(truth, "000010222"), 3).sum() == 0
    assert forgiven(video(truth, "000011222"), 3).tolist() == [False] * 5 + [True] + [False] * 3
    assert forgiven(video(truth, "000022222"), 3).sum() == 1


def test_nothing_is_forgiven_across_a_hole():
    """Where labels or frames are missing between two phases there is no boundary."""
    assert forgiven(video("000-111", "1110000"), 3).sum() == 0
    wide = Video("a", np.array([0, 1, 2, 9, 10, 11]), ids("000111"), ids("111000"), 1.0)
    assert forgiven(wide, 30).sum() == 0


def test_uneven_seconds_are_no_hole():
    """One frame a second of 29.97 Hz: 30 or 29 numbers apart."""
    frames = np.array([0, 30, 60, 90, 119, 149])
    assert forgiven(Video("a", frames, ids("000111"), ids("000011"), 29.97), 10).sum() == 1


def test_unlabelled_frames_are_not_judged_and_missing_predictions_are_misses():
    """Judged are frames 1 2 3 5: right, wrong, right, none predicted."""
    measured = measure([video("-001-1", "10110-")], 2)
    assert measured.confusion.tolist() == [[1, 1, 0], [0, 1, 1]]
    assert measured.summary["accuracy"]["mean"] == pytest.approx(2 / 4)
    assert column(measured, "precision") == pytest.approx([1, 1 / 2])
    assert column(measured, "recall") == pytest.approx([1 / 2, 1 / 2])
    assert column(measured, "jaccard") == pytest.approx([1 / 2, 1 / 3])
    assert (measured.summary["judged"], measured.summary["frames"]) == (4, 6)


#: Phase 1 is absent from the second video, and predicted there in two frames. By hand, phase 0:
#: first video all 1; second TP 6, FN 2. Phase 1: first all 1; second FP 2, recall 0 / 0.
ABSENT_PAIR = (
    video("00001111", "00001111", name="a"),
    video("00000000", "00000011", name="b"),
)


@pytest.mark.parametrize(
    ("absent", "jaccard", "precision", "recall"),
    [
        # Each: mean over videos of phase 0 and 1; phases then videos; videos then phases.
        ("skip", (7 / 8, 1, 7 / 8, 15 / 16), (1, 1, 1, 1), (7 / 8, 1, 7 / 8, 15 / 16)),
        (
            "defined",
            (7 / 8, 1 / 2, 11 / 16, 11 / 16),
            (1, 1 / 2, 3 / 4, 3 / 4),
            (7 / 8, 1, 7 / 8, 15 / 16),
        ),
        (
            "zero",
            (7 / 8, 1 / 2, 11 / 16, 11 / 16),
            (1, 1 / 2, 3 / 4, 3 / 4),
            (7 / 8, 1 / 2, 11 / 16, 11 / 16),
        ),
    ],
)
def test_a_video_without_a_phase(absent, jaccard, precision, recall):
    """It counts as declared; the two orders of averaging differ where it is left out."""
    measured = measure(ABSENT_PAIR, 2, absent)
    for name, expected in (("jaccard", jaccard), ("precision", precision), ("recall", recall)):
        averages = measured.summary[name]
        found = [*measured.phases[name], averages["phases_then_videos"]]
        assert [*found, averages["videos_then_phases"]] == pytest.approx(list(expected)), name


def test_accuracy_over_videos_and_over_frames():
    """Accuracies of 1 (8 frames) and 3/4 (8), then 0 (2): mean 7/12, pooled 14/18."""
    summary = measure([*ABSENT_PAIR, video("01", "10", name="c")], 2).summary
    assert summary["accuracy"]["mean"] == pytest.approx(7 / 12)
    assert summary["accuracy"]["pooled"] == pytest.approx(14 / 18)
    # Squared distances from 7/12: (25 + 4 + 49) / 144, divided by n - 1 = 2.
    assert summary["accuracy"]["std"] == pytest.approx((78 / 288) ** 0.5)


def test_macro_f1_is_of_all_frames_together():
    """Phase 0: TP 10, FN 2; phase 1: TP 4, FP 2: F1 20/22 and 8/10."""
    measured = measure(ABSENT_PAIR, 2)
    assert measured.summary["macro_f1"] == pytest.approx((20 / 22 + 8 / 10) / 2)
    assert measured.phases["pooled_f1"].tolist() == pytest.approx([20 / 22, 8 / 10])


def test_a_phase_that_is_never_predicted():
    """Its precision is 0 / 0, left out or 0; its recall, Jaccard and F1 are 0."""
    for absent, precision in (("skip", np.nan), ("defined", np.nan), ("zero", 0)):
        measured = measure([video("0011", "0000")], 2, absent)
        assert column(measured, "precision") == pytest.approx([1 / 2, precision], nan_ok=True)
        for name in ("recall", "jaccard", "f1"):
            assert column(measured, name)[1] == 0
    assert measure([video("0011", "0000")], 2).phases["precision_videos"].tolist() == [1, 0]


def test_a_phase_that_is_nowhere():
    """Neither true nor predicted: left out, except if every video counts."""
    figures = {a: phase_figures(np.array(0), np.array(0), np.array(0), a) for a in ABSENT}
    assert all(np.isnan(figures["skip"][name]) for name in FIGURES)
    assert all(np.isnan(figures["defined"][name]) for name in FIGURES)
    assert all(figures["zero"][name] == 0 for name in FIGURES)


def test_one_video_has_no_spread():
    """Undefined numbers are None in the summary, which is plain JSON."""
    summary = measure([video(*TEN)], 3).summary
    assert summary["accuracy"]["std"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


# Properties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("seed", range(4))
def test_figures_lie_between_0_and_1_and_relaxed_ones_above(seed, absent):
    """No relaxed figure exceeds 1 or falls below the strict one."""
    measured = measure(some_videos(seed), 4, absent, boundary_s=2)
    for table in (measured.pairs, measured.videos, measured.phases):
        for name in FIGURES:
            strict, relaxed = table[name], table[RELAXED + name]
            for values in (strict, relaxed):
                assert values.dropna().between(0, 1).all()
            assert (relaxed >= strict - 1e-12)[strict.notna()].all()
    accuracy = measured.videos["accuracy"]
    assert (measured.videos["relaxed_accuracy"] >= accuracy).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_videos_does_not_matter(seed):
    """All averages and intervals stay."""
    videos = some_videos(seed)
    assert_close(measure(videos[::-1], 3).summary, measure(videos, 3).summary)


@pytest.mark.parametrize("absent", ABSENT)
def test_the_numbering_of_phases_does_not_matter(absent):
    """Other ids for the same phases give the same averages, and the same rows elsewhere."""
    order = np.array([2, 0, 1, -1])  # the last: no phase stays no phase
    videos = some_videos(5)
    moved = [Video(v.name, v.frames, order[v.truth], order[v.found], v.rate_hz) for v in videos]
    plain, other = measure(videos, 3, absent), measure(moved, 3, absent)
    assert_close(other.summary, plain.summary)
    inner = np.append(order[:3], 3)
    assert np.array_equal(other.confusion[np.ix_(order[:3], inner)], plain.confusion)


@pytest.mark.parametrize("seed", range(4))
def test_forgiven_frames_one_by_one(seed):
    """The same as looking for a boundary from each frame, step by step."""
    for one in some_videos(seed):
        assert forgiven(one, 2).tolist() == [accepted(one, i, 2) for i in range(len(one.frames))]


def accepted(one, place, seconds):
    """Walk from a frame to the ends of its segment; frames are numbered one by one."""
    truth, start, end = one.truth, place, place + 1
    while start and truth[start - 1] == truth[place]:
        start -= 1
    while end < len(truth) and truth[end] == truth[place]:
        end += 1
    if truth[place] == -1 or one.found[place] == -1:
        return False
    late = start > 0 and (place - start) / one.rate_hz < seconds
    early = end < len(truth) and (end - place) / one.rate_hz <= seconds
    return bool(
        (late and one.found[place] == truth[start - 1])
        or (early and one.found[place] == truth[end])
    )


def assert_close(found, expected):
    """Compare nested dictionaries of numbers."""
    flat = [pd.json_normalize(content).iloc[0].to_dict() for content in (found, expected)]
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[1].items():
        same = value is None or isinstance(value, str)
        assert flat[0][name] == (value if same else pytest.approx(value, nan_ok=True)), name


def test_confusion_of_videos_adds_up():
    """The matrix holds every judged frame once."""
    videos = some_videos(1)
    parts = [confusion(v.truth, v.found, 3) for v in videos]
    assert np.array_equal(measure(videos, 3).confusion, sum(parts))
    assert sum(part.sum() for part in parts) == sum(v.judged.sum() for v in videos)


def test_bootstrap():
    """Equal videos leave no doubt; the interval holds the mean and depends on the seed alone."""
    assert bootstrap([0.5] * 6) == (0.5, 0.5)
    values = np.linspace(0.2, 0.9, 12)
    low, high = bootstrap(values)
    assert 0.2 < low < values.mean() < high < 0.9
    assert bootstrap(values) == (low, high) != bootstrap(values, seed=1)
    assert bootstrap([*values, np.nan]) == (low, high)
    assert np.isnan(bootstrap([np.nan])).all()


def test_definitions_name_what_was_chosen():
    """Every average has a sentence; those of options say which."""
    for absent in ABSENT:
        text = "\n".join(definitions(absent, 7.5))
        for word in (f"absent = {absent}", "7.5 s", "macro F1", "phases, then videos", "(n - 1)"):
            assert word in text
    assert "need the frame rate" in "\n".join(definitions("skip", None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found": ids("00")}, "a: expected as many frame numbers.*received 4, 4 and 2"),
        ({"found": ids("0012")}, "a: predicted phases must be ids of 0 to 1, or -1; received 2"),
        ({"truth": ids("0013")}, "a: true phases must be ids .* received 3"),
        ({"truth": ids("----")}, "a: no frame has a label in the truth"),
        ({"frames": np.array([0, 1, 1, 2])}, "a: frame numbers must increase"),
        ({"rate_hz": 0.0}, "a: the frame rate must be positive; received 0.0"),
    ],
)
def test_videos_that_cannot_be_measured(change, message):
    """The video and what is wrong with it are named."""
    content = {"frames": np.arange(4), "truth": ids("0011"), "found": ids("0011"), "rate_hz": 1.0}
    with pytest.raises(DataError, match=message):
        measure([Video("a", **content | change)], 2)


def test_settings_that_make_no_sense():
    """An unknown option, a negative boundary, no video, no rate."""
    with pytest.raises(ConfigError, match=r"absent must be one of skip, defined.*'skp'.*skip"):
        measure([video("01", "01")], 2, absent="skp")
    with pytest.raises(ConfigError, match="boundary seconds must be 0 or more; received -1"):
        measure([video("01", "01")], 2, boundary_s=-1)
    with pytest.raises(DataError, match="received no video"):
        measure([], 2)
    with pytest.raises(ConfigError, match="a: relaxed figures need rate_hz"):
        forgiven(video("01", "01", rate_hz=None))


# Timelines as text -----------------------------------------------------------------------------


def test_a_timeline_is_read_as_it_was_written(tmp_path):
    """Names, frame numbers and frames without a phase; the header comes first."""
    path = tmp_path / "deep" / "v.txt"
    write_timeline(path, ["Prep", "Clip and cut", -1], frames=[0, 25, 50])
    assert path.read_bytes() == b"Frame\tPhase\n0\tPrep\n25\tClip and cut\n50\t-1\n"
    read = read_timeline(path)
    assert (read.frames.tolist(), read.step) == ([0, 25, 50], 25)
    assert read.ids(["Prep", "Clip and cut"]).tolist() == [0, 1, -1]
    write_timeline(path, [1, 0])
    assert read_timeline(path).ids(["Prep", "Clip and cut"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfFrame\tPhase\r\n0\tA\r\n1\tB\r\n",
        b"0\tA\n1\tB",
        b"frame\tphase\n\n0 \t A \n1\tB\n\n",
    ],
    ids=["mark and CRLF", "no header", "spaces and blank lines"],
)
def test_forms_that_are_read(content, tmp_path):
    """Marks, line ends, missing headers and spaces change nothing."""
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    read = read_timeline(path)
    assert (read.frames.tolist(), read.phases) == ([0, 1], ("A", "B"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "v.txt: no frames"),
        (b"Frame\tPhase\n", "v.txt: no frames"),
        (b"0\tA\n1 B\n", r"line 2: expected a frame number, a tab and a phase; received '1 B'"),
        (b"0\tA\n1\t\n", "line 2: expected a frame number, a tab and a phase"),
        (b"0\tA\t1\n", "line 1: expected a frame number, a tab and a phase"),
        (b"Time\tPhase\n0\tA\n", "line 1: expected a frame number of 0 or more; received 'Time'"),
        (b"0\tA\n-1\tA\n", "line 2: expected a frame number of 0 or more; received '-1'"),
        (b"0\tA\n1\tA\n1\tA\n", "line 3: expected a frame number above 1; received 1"),
        (b"0\tA\n1\tA\n4\tA\n", "line 3: expected frame 2 after 1; received 4.*accept gaps"),
        (b"0\tA\n1\t\xff\n", "v.txt: expected UTF-8 text; byte 6"),
    ],
)
def test_timelines_that_are_refused(content, message, tmp_path):
    """The file, the line, what was received and what was expected are named."""
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_timeline(path)


def test_gaps_can_be_declared(tmp_path):
    """Missing frames are accepted if gaps are declared."""
    write_timeline(tmp_path / "v.txt", ["A", "A", "B"], frames=[0, 1, 9])
    assert read_timeline(tmp_path / "v.txt", gaps=True).frames.tolist() == [0, 1, 9]


def test_phases_that_are_unknown(tmp_path):
    """The line and the nearest name; an id among names that are numbers means nothing."""
    write_timeline(tmp_path / "v.txt", ["Prep", "Clipin"])
    with pytest.raises(DataError, match=r"line 3: expected .*'Clipin'\. Did you mean 'Clip"):
        read_timeline(tmp_path / "v.txt").ids(["Prep", "Clipping"])
    write_timeline(tmp_path / "v.txt", ["0"])
    with pytest.raises(DataError, match="line 2: expected a phase of 3, 7, or -1"):
        read_timeline(tmp_path / "v.txt").ids(["3", "7"])
    with pytest.raises(DataError, match="no such file"):
        read_timeline(tmp_path / "w.txt")


@pytest.mark.parametrize(
    ("phases", "frames", "message"),
    [
        ([], None, "expected at least one phase"),
        (["A"], [0, 1], "received 1 and 2"),
        (["A", "B"], [3, 3], "must be 0 or more and increase"),
        (["A\tB"], None, "must be one line of text without a tab"),
        ([" A"], None, "must be one line of text without a tab"),
        ([""], None, "must be one line of text without a tab"),
    ],
)
def test_timelines_that_are_not_written(phases, frames, message, tmp_path):
    """What could not be read back is refused, and no file appears."""
    with pytest.raises(DataError, match=message):
        write_timeline(tmp_path / "v.txt", phases, frames)
    assert not list(tmp_path.iterdir())


# The program -----------------------------------------------------------------------------------

NAMES = ["Prep", "Clip", "Cut"]


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Return folders of predictions and truth; `TEN` and, in the second video, no Cut."""
    cases = {"video1": TEN, "video2": ("00001111", "00011111")}
    for name, (truth, found) in cases.items():
        write_timeline(tmp_path / "truth" / f"{name}-phase.txt", [NAMES[i] for i in ids(truth)])
        write_timeline(tmp_path / "found" / f"{name}_pred.txt", [NAMES[i] for i in ids(found)])
    return tmp_path / "found", tmp_path / "truth"


def test_the_program(folders, tmp_path):
    """It prints figures with their definitions, and writes what it printed."""
    out = tmp_path / "figures"
    result = in_process(main, *folders, "--fps", 1, "--boundary_seconds", 1, "-o", out)
    assert result.code == 0, result.err
    # Accuracies 7/10 and 7/8; mean 78.75 %, pooled 14/18. Relaxed 9/10 and 1.
    for text in ("78.75 ± 12.37", "77.78", "95.00 ± 7.07", "Definitions", "absent = skip", "Clip"):
        assert text in result.out, text
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["phases"] == ["Clip", "Cut", "Prep"]
    assert summary["accuracy"]["mean"] == pytest.approx(0.7875)
    assert summary["relaxed"]["accuracy"]["mean"] == pytest.approx(0.95)
    assert len(summary["definitions"]) > 8
    assert pd.read_csv(out / "phases.csv")["videos"].tolist() == [2, 1, 2]
    assert pd.read_csv(out / "videos.csv")["video"].tolist() == ["video1", "video2"]
    assert np.sum(summary["confusion"]) == 18


def test_the_order_of_names_can_be_given(folders, tmp_path):
    """With all names, ids stand for them, and a phase may be predicted that no truth holds."""
    found, truth = folders
    listed = tmp_path / "names.txt"
    listed.write_text("\n".join([*NAMES, "Close"]), encoding="utf-8")
    write_timeline(found / "video2_pred.txt", [0, 0, 0, 1, 1, 1, 1, "Close"])
    compared = compare_folders(found, truth, names=read_names(listed))
    assert compared.names == [*NAMES, "Close"]
    assert compared.videos[1].found.tolist() == [0, 0, 0, 1, 1, 1, 1, 3]
    result = in_process(main, *folders, "--phases", listed)
    assert result.code == 0, result.err
    assert "relaxed figures: none" in result.out
    in_process(main, *folders).refused("video2_pred.txt, line 9", "'Close'", "name all phases")


def test_frame_rates_from_a_table(folders, tmp_path):
    """Each video has its own; one that is missing is named."""
    found, truth = folders
    rates = tmp_path / "rates.csv"
    rates.write_text("video,fps\nvideo1.mp4,25\nvideo2,29.97\n", encoding="utf-8")
    assert [v.rate_hz for v in compare_folders(found, truth, rates).videos] == [25, 29.97]
    rates.write_text("video,fps\nvideo1,25\n", encoding="utf-8")
    in_process(main, *folders, "--fps", rates).refused("no frame rate for 1 of 2 videos: video2")
    rates.write_text("video,fps\nvideo1,0\n", encoding="utf-8")
    in_process(main, *folders, "--fps", rates).refused("line 2", "received '0'")
    rates.write_text("name,hz\nvideo1,25\n", encoding="utf-8")
    in_process(main, *folders, "--fps", rates).refused("columns video and fps", "name, hz")
    in_process(main, *folders, "--fps", "fast").refused("--fps", "received fast")
    in_process(main, *folders, "--fps", "-3").refused("--fps", "received -3")


def test_a_truth_once_a_second_is_joined_on_frame_numbers(tmp_path):
    """Predictions of all 75 frames at 25 Hz, labels of frames 0, 25 and 50: said, and right."""
    found, truth = tmp_path / "found", tmp_path / "truth"
    write_timeline(found / "v.txt", ["A"] * 30 + ["B"] * 45)
    write_timeline(truth / "v.txt", ["A", "A", "B"], frames=[0, 25, 50])
    result = in_process(main, found, truth, "--fps", 25)
    assert result.code == 0, result.err
    assert "note: v.txt: joined on frame numbers; 3 frames of the truth" in result.out
    [one] = compare_folders(found, truth).videos
    assert one.found.tolist() == one.truth.tolist() == [0, 0, 1]


def test_nothing_is_cut_off(tmp_path):
    """Predictions that are too few or too many are refused with both counts."""
    found, truth = tmp_path / "found", tmp_path / "truth"
    write_timeline(truth / "v.txt", ["A"] * 8)
    write_timeline(found / "v.txt", ["A"] * 7)
    in_process(main, found, truth).refused("no prediction for 1 of the 8 frames", "received 7")
    write_timeline(found / "v.txt", ["A"] * 9)
    in_process(main, found, truth).refused("9 frames, 0 to 8", "has 8, 0 to 7")
    # All frames at 25 Hz against a truth that numbers its seconds.
    write_timeline(found / "v.txt", ["A"] * 200)
    in_process(main, found, truth).refused("200 frames", "has 8")


def test_gaps_are_declared_on_the_command_line(tmp_path):
    """A truth with missing frames is refused, unless gaps are declared."""
    found, truth = tmp_path / "found", tmp_path / "truth"
    write_timeline(found / "v.txt", ["A"] * 10)
    write_timeline(truth / "v.txt", ["A"] * 4, frames=[0, 1, 8, 9])
    in_process(main, found, truth).refused("v.txt, line 4: expected frame 2 after 1")
    assert in_process(main, found, truth, "--gaps").code == 0


def test_lonely_files_are_named(folders, tmp_path):
    """A video without a prediction or without a truth is reported."""
    found, truth = folders
    write_timeline(truth / "video9.txt", ["Prep"])
    in_process(main, *folders).refused(str(found), "no file for 1 video of", "video9")
    (truth / "video9.txt").rename(found / "video9.txt")
    in_process(main, *folders).refused(str(truth), "video9")
    with pytest.raises(DataError, match="no such folder"):
        pair_files(tmp_path / "none", truth)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt file"):
        pair_files(tmp_path / "empty", truth)
    write_timeline(found / "video1.txt", ["Prep"])
    with pytest.raises(DataError, match=r"video1\.txt and video1_pred\.txt are both for"):
        pair_files(found, truth)


def test_lists_of_names_that_are_refused(tmp_path):
    """A missing, an empty and a doubtful list."""
    path = tmp_path / "names.txt"
    with pytest.raises(DataError, match="no such file"):
        read_names(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no phases"):
        read_names(path)
    path.write_text("A\nB\nA\n", encoding="utf-8")
    with pytest.raises(DataError, match="lists 'A' twice"):
        read_names(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="expected UTF-8"):
        read_names(path)


def test_phases_that_are_numbers_are_in_their_order(tmp_path):
    """Phase 10 comes after 9; names come after numbers."""
    for kind in ("found", "truth"):
        write_timeline(tmp_path / kind / "v.txt", ["10", "9", "x", "-1"])
    assert compare_folders(tmp_path / "found", tmp_path / "truth").names == ["9", "10", "x"]
    write_timeline(tmp_path / "truth" / "v.txt", [-1, -1, -1, -1])
    with pytest.raises(DataError, match="the truth labels no frame"):
        compare_folders(tmp_path / "found", tmp_path / "truth")


def test_many_phases_fit_the_terminal():
    """A large confusion matrix is not printed; long names widen the table."""
    names = [f"a rather long name of phase {number}" for number in range(20)]
    text = report_text(measure([video("01", "01")], 20), names)
    assert "20 phases are too many for a terminal; see summary.json" in text
    assert max(len(line) for line in text.splitlines() if "rather long" in line) < 140
