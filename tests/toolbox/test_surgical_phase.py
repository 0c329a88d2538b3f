"""Windows of videos, their labels and batches, and the network that sees image and mask."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from clips import write_clips, write_video
from PIL import Image

from toolbox.augment import Augmenter
from toolbox.errors import ConfigError, DataError, WeightsError
from toolbox.io.weights import load_weights, save_weights
from toolbox.model.surgical_phase import SurgicalPhaseClassificationModel
from toolbox.tasks.surgical_phase.annotations import read_annotations
from toolbox.tasks.surgical_phase.dataset import Layout, OphNetSurgicalDataset, VideoSet
from toolbox.tasks.surgical_phase.loss import phase_accuracy, phase_cross_entropy
from toolbox.tasks.surgical_phase.source import SurgicalSource
from toolbox.tasks.surgical_phase.windows import (
    MaskFolder,
    SlidingWindowExtractor,
    VideoWindows,
    WindowCache,
)

PHASES = {"0": 0, "1": 1, "2": 2}
NETWORK = {
    "num_classes": 3,
    "masks": True,
    "backbone": "MobileNet",
    "backbone_alpha": 0.25,
    "width": 8,
    "heads": 2,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of nine videos with masks and a table."""
    return write_clips(tmp_path_factory.mktemp("clips"))


def source(clips, **options):
    """Open the source on the clips."""
    given = {"csv_path": str(clips / "phases.csv"), "phases": list(PHASES), "size": 32}
    return SurgicalSource(str(clips / "videos"), 1, **{**given, **options})


@pytest.mark.parametrize(
    ("window", "stride", "count", "expected"),
    [
        (16, 8, 40, [0, 8, 16, 24]),
        (16, 8, 39, [0, 8, 16]),
        (16, 8, 16, [0]),
        (16, 8, 5, [0]),
        (4, 3, 12, [0, 3, 6]),
    ],
)
def test_where_windows_start(window, stride, count, expected):
    """Every stride frames, as long as a whole window is left; a short video has one."""
    assert SlidingWindowExtractor(window, stride).starts(count).tolist() == expected


def test_extracted_windows_are_the_frames():
    """Each is a view of its frames, and of its masks if there are."""
    frames = np.random.default_rng(0).integers(0, 255, (21, 4, 5, 3), np.uint8)
    masks = frames[..., :2] // 2
    found, with_masks = SlidingWindowExtractor(6, 4).extract_windows(frames, masks)
    assert found.shape == (4, 6, 4, 5, 3)
    assert with_masks.shape == (4, 6, 4, 5, 2)
    for number, start in enumerate((0, 4, 8, 12)):
        np.testing.assert_array_equal(found[number], frames[start : start + 6])
        np.testing.assert_array_equal(with_masks[number], masks[start : start + 6])
    assert np.shares_memory(found, frames)


def test_extraction_refuses_what_does_not_belong_together():
    """No frames, or another number of masks."""
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    with pytest.raises(DataError, match="received none"):
        SlidingWindowExtractor().extract_windows(frames[:0])
    with pytest.raises(DataError, match="each of the 3 frames; received 2"):
        SlidingWindowExtractor().extract_windows(frames, frames[:2])


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (6, 4), (5, 5), (4, 1), (1, 1)])
@pytest.mark.parametrize("count", [3, 16, 37])
def test_means_are_those_of_the_windows(window, stride, count):
    """Streamed means are the rounded means of the extracted windows, to the last grey level."""
    frames = np.random.default_rng(1).integers(0, 256, (count, 3, 4, 3), np.uint8)
    extractor = SlidingWindowExtractor(window, stride)
    found = list(extractor.means(iter(frames)))
    expected = [np.rint(w.astype(float).mean(axis=0)) for w in extractor.extract_windows(frames)]
    assert len(found) == len(expected) == len(extractor.starts(count))
    for mean, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mean, right)


@pytest.mark.parametrize("rate_hz", [None, 5.0])
def test_a_window_alone_is_that_of_the_stream(clips, rate_hz):
    """Random access and decoding the whole video in order show the same."""
    path, masks = clips / "videos" / "case_01.avi", clips / "masks" / "case_01.avi"
    windows = VideoWindows(path, SlidingWindowExtractor(6, 4), 32, rate_hz, masks)
    streamed = list(windows.stream())
    assert len(streamed) == len(windows) > 3
    assert streamed[0].shape == (32, 32, 5)
    for number in (0, 2, len(windows) - 1):
        np.testing.assert_array_equal(windows.window(number), streamed[number])


def test_frames_at_a_rate(clips):
    """Taken at 5 Hz from 25 Hz and from 12.5 Hz, windows last equally long."""
    spans = []
    for name in ("case_00", "case_01"):
        path = clips / "videos" / f"{name}.avi"
        windows = VideoWindows(path, SlidingWindowExtractor(6, 3), 32, 5.0)
        times = windows.video.times_s
        spans.append(times[windows.ends[0]] - times[windows.starts[0]])
    np.testing.assert_allclose(spans, 1.0, atol=0.08)


def test_labels_of_windows(clips):
    """A window has the phase at the time of its middle frame; the tail has none."""
    data = source(clips, sequence=64).dataset("test")
    windows, labels = data.example(0, 3, 3)
    name = data.segments["video"].iloc[0]
    count = len(data.videos.videos[name])
    assert windows.shape == (64, 32, 32, 3)
    table = read_annotations(clips / "phases.csv").table
    rows = table[table["video"] == name]
    for number, time in enumerate(data.videos.videos[name].times_s):
        inside = rows[(rows["start_s"] <= time) & (time < rows["end_s"])]
        expected = np.zeros(3)
        if len(inside):
            expected[int(inside["phase"].iloc[0])] = 1
        np.testing.assert_array_equal(labels[number], expected)
    assert not labels[count:].any()
    assert not labels[count - 1].any()


def test_windows_of_a_segment_lie_in_it(clips):
    """Not a frame of another phase, and no more windows than max_frames holds."""
    data = source(clips, window_size=4, stride=2, max_frames=8).dataset("train")
    for idx, row in enumerate(data.segments.itertuples()):
        windows = data.videos.videos[row.video]
        anchors = {data.draw(idx, np.random.default_rng(i))[0] for i in range(30)}
        assert 1 < len(anchors) <= 3
        for anchor in anchors:
            times = windows.video.times_s[[windows.starts[anchor], windows.ends[anchor]]]
            assert row.start_s <= times[0] <= times[1] < row.end_s


def test_no_window_where_two_phases_overlap(clips, tmp_path):
    """What two segments claim is unlabelled, and no example of either."""
    table = read_annotations(clips / "phases.csv").table
    row = table[table["video"] == "case_00"].iloc[:2].copy()
    row["start_s"], row["end_s"] = [0.0, 2.0], [4.0, 6.0]
    data = OphNetSurgicalDataset(row, PHASES, 4, 2, 400, folder=clips / "videos")
    times = data.videos.videos["case_00"].times_s
    for idx in (0, 1):
        drawn = {data.draw(idx, np.random.default_rng(i))[0] for i in range(60)}
        assert len(drawn) > 5
        assert not [t for t in times[sorted(drawn)] if 2 <= t < 4]
        assert data[idx][1].tolist() == [np.eye(3)[int(row["phase"].iloc[idx])].tolist()]


def test_the_specification_class_alone(clips):
    """Table and numbers of phases are enough; an item is a window and its one-hot label."""
    table = read_annotations(clips / "phases.csv").table
    data = OphNetSurgicalDataset(table, PHASES, 8, 4, 16, folder=clips / "videos")
    windows, labels = data[1]
    assert len(data) == 27
    assert windows.shape == (1, 224, 224, 3)
    assert labels.tolist() == [[0, 1, 0]]


def test_batches_are_pure(clips):
    """The same number gives the same bytes, whatever came before; the seed decides."""
    one, two = (
        source(clips).batches("train", None, 4, Augmenter([("flip", {})]), seed=5) for _ in "ab"
    )
    other = source(clips).batches("train", None, 4, None, seed=6)
    one.batch(0)
    images, labels = one.batch(7)
    again, same = two.batch(7)
    np.testing.assert_array_equal(images["image"], again["image"])
    np.testing.assert_array_equal(labels, same)
    assert images["image"].shape == (4, 1, 32, 32, 3)
    assert images["image"].dtype == np.float32
    assert not np.array_equal(images["image"], other.batch(7)[0]["image"])
    assert one.fingerprint() == two.fingerprint() == other.fingerprint()
    changed = source(clips, window_size=8).batches("train", None, 4)
    assert changed.fingerprint() != one.fingerprint()


def test_a_flip_turns_image_and_mask_alike(clips):
    """The tool lies where its mask lies, in every window of an example."""
    opened = source(clips, mask_dir=str(clips / "masks"), sequence=2)
    steps = [("flip", {"horizontal": True, "vertical": True}), ("quarter_turn", {})]
    batches = opened.batches("train", None, 15, Augmenter(steps), seed=1)
    inputs, labels = batches.batch(0)
    assert inputs["mask"].shape == (15, 2, 32, 32, 2)
    assert 0 < inputs["mask"].max() <= 1
    bright = labels[..., 1] == 1
    assert bright.any()
    for image, mask in zip(inputs["image"][bright], inputs["mask"][bright], strict=True):
        assert np.corrcoef(image.mean(-1).ravel(), mask[..., 0].ravel())[0, 1] > 0.8


def test_cached_windows_are_the_decoded_ones(clips, tmp_path):
    """From memory, from disk, and from a damaged file, which is made again."""
    path = clips / "videos" / "case_00.avi"
    windows = VideoWindows(path, SlidingWindowExtractor(8, 4), 32)
    expected = windows.window(2)
    cache = WindowCache(1e9, tmp_path)
    np.testing.assert_array_equal(cache.window(windows, 2), expected)
    (file,) = tmp_path.rglob("*.npy")
    windows.window = None  # from now on only what is kept can be had
    np.testing.assert_array_equal(cache.window(windows, 2), expected)
    np.testing.assert_array_equal(WindowCache(0, tmp_path).window(windows, 2), expected)
    again = VideoWindows(path, SlidingWindowExtractor(8, 4), 32)
    for damaged in (file.read_bytes()[:100], b"PK\x03\x04", b""):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(WindowCache(0, tmp_path).window(again, 2), expected)
    other = VideoWindows(path, SlidingWindowExtractor(8, 4), 48)
    assert WindowCache(0, tmp_path).window(other, 2).shape == (48, 48, 3)


def test_a_cache_knows_what_it_keeps(clips, tmp_path):
    """Other frames or other masks are other windows, in another folder."""
    path, extractor = clips / "videos" / "case_01.avi", SlidingWindowExtractor(4, 2)
    masks = shutil.copytree(clips / "masks", tmp_path / "masks") / "case_01.avi"
    first = [VideoWindows(path, extractor, 32, rate, masks) for rate in (None, 7.5, 7.55)]
    keys = {windows.key() for windows in first}
    assert len(keys) == 3
    assert VideoWindows(path, extractor, 32, None, masks).key() in keys
    os.utime(masks, (0, 0))
    assert VideoWindows(path, extractor, 32, None, masks).key() not in keys


def test_a_cache_that_cannot_be_written(clips, tmp_path):
    """It is refused before training."""
    (tmp_path / "file").touch()
    opened = source(clips, cache_dir=str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written there.*cache_dir"):
        opened.batches("train", None, 4)


def test_names_of_videos(clips, tmp_path):
    """By path or by name; a name that two files have is refused, and so are two names of one."""
    for name in ("a/one.avi", "b/one.avi", "op.0.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clips / "videos" / "case_00.avi", tmp_path / name)
        for folder in ("masks", "masks/a"):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(clips / "masks" / "case_00.avi", tmp_path / folder / Path(name).name)
    layout, masks = Layout(size=32), tmp_path / "masks"
    names = ["a/one.avi", "b/one.avi", "op.0", "one"]
    found = VideoSet(names, tmp_path, layout, masks)
    assert list(found.videos) == names[:3]
    assert "the name fits a/one.avi and b/one.avi" in found.left_out["one"]
    used = [windows.masks.video.path for windows in found.videos.values()]
    assert used == [masks / "a" / "one.avi", masks / "one.avi", masks / "op.0.avi"]
    (tmp_path / "table.csv").write_text("video_path,phase\nop.0,0\nop.0.avi,1\n")
    options = {
        "csv_path": str(tmp_path / "table.csv"),
        "phases": ["0", "1"],
        "mask_dir": str(masks),
    }
    opened = SurgicalSource(str(tmp_path), 1, **options)
    with pytest.raises(DataError, match=r"op\.0 and op\.0\.avi are the same video"):
        opened.dataset("train")


def test_masks_of_another_size(clips, tmp_path):
    """A video of masks that is smaller than its video is refused like a picture."""
    frames = np.zeros((81, 16, 48, 3), np.uint8)
    write_video(tmp_path / "case_00.avi", frames, 12.5)
    videos = VideoSet(["case_00"], clips / "videos", Layout(size=32), tmp_path)
    assert "expected 48 × 32 pixels" in videos.left_out["case_00"]


def test_masks_as_pictures(tmp_path):
    """A frame has the mask of the last picture up to it; before the first there is none."""
    for number, value in ((2, 100), (5, 200)):
        Image.new("RGB", (6, 4), (value, 0, 0)).save(tmp_path / f"mask_{number:03d}.png")
    found = [mask[0, 0, 0] for mask in MaskFolder(tmp_path, (4, 6), 5).frames(0, 7)]
    assert found == [0, 0, 100, 100, 100, 200, 200]
    with pytest.raises(DataError, match=r"expected 8 × 4 pixels.*received 6 × 4"):
        MaskFolder(tmp_path, (4, 8), 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no masks"):
        MaskFolder(tmp_path / "empty", (4, 6), 5)


def test_a_short_mask_video_is_left_out(clips, tmp_path):
    """Its video is named with both counts."""
    write_video(tmp_path / "case_00.avi", np.zeros((5, 32, 48, 3), np.uint8), 12.5)
    layout = Layout(size=32)
    videos = VideoSet(["case_00", "case_01"], clips / "videos", layout, tmp_path)
    assert "each of the 81 frames; received 5" in videos.left_out["case_00"]
    assert "contains no masks of case_01" in videos.left_out["case_01"]


def test_failures_are_listed_and_counted(clips, tmp_path):
    """A missing, an empty and a torn file are left out; too many end the run."""
    torn = (clips / "videos" / "case_00.avi").read_bytes()[:200]
    (tmp_path / "torn.avi").write_bytes(torn)
    (tmp_path / "empty.avi").touch()
    (tmp_path / "good.avi").write_bytes((clips / "videos" / "case_00.avi").read_bytes())
    videos = VideoSet(["torn", "empty", "absent", "good"], tmp_path, Layout(size=32))
    assert list(videos.videos) == ["good"]
    assert set(videos.left_out) == {"torn", "empty", "absent"}
    assert any("WARNING: 3 of 4 videos are left out" in note for note in videos.notes())
    videos.refuse_failures(0.75)
    with pytest.raises(
        DataError, match=r"3 of 4 videos cannot be used; max_failures allows a share of 0\.5"
    ):
        videos.refuse_failures(0.5)


def test_phases_come_from_the_table(clips):
    """A settings file need not list them; the network gets as many scores."""
    section = {"phases": None, "csv_path": str(clips / "phases.csv"), "size": 32, "mask_dir": None}
    found = SurgicalSource.default_settings(section)
    assert found["surgical_video"] == {"phases": ["0", "1", "2"]}
    assert found["surgical_phase"] == {"num_classes": 3, "masks": False}


def test_loss_by_hand():
    """−w log softmax, the mean over labelled windows; windows without a label do not count."""
    scores = np.array([[[2.0, 0, 0], [0, 1, 0]], [[0, 0, 3], [5, 5, 5]]], np.float32)
    labels = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]], np.float32)
    weights = [1.0, 0.25, 0.5]
    log = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = -(log[0, 0, 0] + 0.5 * log[0, 1, 2] + 0.25 * log[1, 0, 1]) / 3
    found = phase_cross_entropy(labels, scores, class_weights=weights)
    assert found.shape == (2,)
    assert float(tf.reduce_mean(found)) == pytest.approx(expected, rel=1e-6)
    assert float(tf.reduce_mean(phase_accuracy(labels, scores))) == pytest.approx(1 / 3, rel=1e-6)
    alone = phase_cross_entropy(labels * 0, scores)
    assert alone.numpy().tolist() == [0, 0]


@pytest.fixture(scope="module")
def network():
    """A small network with masks and a causal temporal head."""
    keras.utils.set_random_seed(0)
    return SurgicalPhaseClassificationModel(
        (32, 32, 3), 1, params={**NETWORK, "temporal_layers": 2}
    )


def inputs(rng, count=2, length=6):
    """Return random windows."""
    return {
        "image": rng.uniform(0, 255, (count, length, 32, 32, 3)).astype(np.float32),
        "mask": rng.uniform(0, 1, (count, length, 32, 32, 2)).astype(np.float32),
    }


def test_scores_depend_on_image_and_mask(network):
    """With a single key token the gradient of the image was zero; here neither is."""
    parts = {k: tf.constant(v) for k, v in inputs(np.random.default_rng(0)).items()}
    with tf.GradientTape() as tape:
        tape.watch(parts)
        scores = network(parts, training=False)
        value = tf.reduce_sum(scores[:, -1, 0])
    slopes = tape.gradient(value, parts)
    assert scores.shape == (2, 6, 3)
    for slope in slopes.values():
        assert np.isfinite(slope).all()
        assert (np.abs(slope[:, -1]).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("causal", [True, False])
def test_what_a_temporal_head_knows(causal):
    """A causal one gives the same scores whatever comes later; the other does not."""
    keras.utils.set_random_seed(1)
    params = {**NETWORK, "masks": False, "temporal_layers": 2, "causal": causal}
    net = SurgicalPhaseClassificationModel((32, 32, 3), 1, params=params)
    features = np.random.default_rng(0).normal(size=(1, 9, 8)).astype(np.float32)
    later = features.copy()
    later[:, 5:] += 1
    first, second = (net.head(x, training=False).numpy() for x in (features, later))
    assert np.array_equal(first[:, :5], second[:, :5]) == causal
    assert not np.array_equal(first[:, 5:], second[:, 5:])


def test_the_whole_is_encoder_and_head(network):
    """Prediction window by window gives the result of the trained network."""
    parts = inputs(np.random.default_rng(2), 1, 5)
    features = network.encoder({k: v[0] for k, v in parts.items()}, training=False)
    expected = network.head(features[None], training=False)
    np.testing.assert_allclose(network(parts, training=False), expected, atol=1e-5)


def test_weights_come_back(network, tmp_path):
    """Networks inside the network are compared layer by layer."""
    save_weights(network, tmp_path / "w.h5")
    twin = SurgicalPhaseClassificationModel.from_config(network.get_config())
    load_weights(twin, tmp_path / "w.h5")
    for one, two in zip(network.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    params = {**network.params, "num_classes": 4}
    other = SurgicalPhaseClassificationModel((32, 32, 3), 1, params=params)
    with pytest.raises(WeightsError, match="layer scores needs"):
        load_weights(other, tmp_path / "w.h5")


def test_a_frozen_backbone_is_not_trained():
    """Only the layers after it learn."""
    params = {**NETWORK, "train_backbone": False}
    net = SurgicalPhaseClassificationModel((32, 32, 3), 1, params=params)
    full = SurgicalPhaseClassificationModel((32, 32, 3), 1, params=NETWORK)
    names = {w.path.split("/")[0] for w in net.trainable_weights}
    assert len(net.trainable_weights) < len(full.trainable_weights)
    assert not any("mobilenet" in name for name in names)
    assert len(net.weights) == len(full.weights)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "MobilNet"}, "Did you mean 'MobileNet'"),
        ({"heads": 3}, "heads must divide width, 8; received 3"),
        ({"backbone_alpha": 0.3, "backbone": "ResNet50"}, "cannot be built"),
        ({"backbone": "maxvit_tiny"}, "maxvit_tiny needs square images and no backbone_alpha"),
    ],
)
def test_networks_that_cannot_be(changes, words):
    """One line says why."""
    with pytest.raises(ConfigError, match=words):
        SurgicalPhaseClassificationModel((32, 32, 3), 1, params={**NETWORK, **changes})


def test_weights_of_a_backbone_that_are_missing(tmp_path):
    """One line names the file."""
    params = {**NETWORK, "backbone_weights": str(tmp_path / "none.h5")}
    with pytest.raises(WeightsError, match="no such weights file"):
        SurgicalPhaseClassificationModel((32, 32, 3), 1, params=params)
