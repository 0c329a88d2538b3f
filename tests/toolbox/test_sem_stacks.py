"""Frames that learn from each other: stacks found, aligned, averaged without the frame itself."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import ConfigError, DataError
from toolbox.loss import Loss
from toolbox.tasks.sem.alignment import apply_shift
from toolbox.tasks.sem.metrology import find_lines
from toolbox.tasks.sem.sem_image import read_sem_image, write_sem_image, write_sem_stack
from toolbox.tasks.sem.source import SEMPatchDataset, SEMSource
from toolbox.tasks.sem.stacks import (
    StackFrames,
    align_frames,
    blind_spots,
    find_stacks,
    noise_reach,
)

SPHERES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sem" / "kriss_spheres"
SHAPE = (96, 112)
DRIFTS = ((0, 0), (1, -2), (-1, 3), (2, 1))
WHOLE = {"central_crop_height": None, "central_crop_width": None}


def scene(seed, dy=0.0, dx=0.0):
    """Return rough lines, counts, as seen by a camera whose picture lies (dy, dx) further."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    rows, columns = rows - dy, columns - dx
    edge = sum(rng.uniform(0.5, 1.5) * np.sin(f * rows + rng.uniform(0, 6)) for f in (0.1, 0.3))
    return 110 + 60 * np.tanh(3 * np.sin((columns - edge) * 2 * np.pi / 28))


def noisy(seed, sigma, drifts=DRIFTS):
    """Return the frames of a stack, uint8, with white noise."""
    rng = np.random.default_rng([seed, 1])
    frames = [scene(seed, *drift) + sigma * rng.normal(size=SHAPE) for drift in drifts]
    return [np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in frames]


def write_stack(path, frames):
    write_sem_stack(path, frames, len(frames))


@pytest.fixture
def folder(tmp_path):
    """Two files of four pages, a folder of three pictures, and a frame that is alone."""
    for number in (1, 2):
        write_stack(tmp_path / f"a{number}.tif", noisy(number, 20))
    (tmp_path / "b").mkdir()
    for number, frame in enumerate(noisy(3, 20)[:3]):
        write_sem_image(tmp_path / "b" / f"f{number}.tif", frame)
    write_sem_image(tmp_path / "c.tif", noisy(4, 20)[0])
    return tmp_path


# -- files -----------------------------------------------------------------------------------------


def test_stacks_are_files_and_folders(folder):
    """Pages are frames, and so are the pictures of a folder; other things are passed over."""
    (folder / ".hidden").mkdir()
    (folder / "empty").mkdir()
    (folder / "notes.txt").touch()
    found = find_stacks(folder)
    assert [stack.name for stack in found] == ["a1.tif", "a2.tif", "b", "c.tif"]
    assert [path.name for path in found[2].files] == ["f0.tif", "f1.tif", "f2.tif"]
    assert [stack.name for stack in find_stacks(folder, "a")] == ["a1.tif", "a2.tif"]
    assert [stack.name for stack in find_stacks(folder, names=["b"])] == ["b"]
    with pytest.raises(DataError, match=r"holds no stack.*whose name begins with 'z'"):
        find_stacks(folder, "z")
    with pytest.raises(DataError, match=r"gone: no such folder\. Check data_dir"):
        find_stacks(folder / "gone")


def test_every_frame_is_paired_with_its_stack(folder):
    """Names tell frame and stack; counts may differ; notes tell of stacks and lone frames."""
    frames = StackFrames(folder, **WHOLE)
    labels = [files.labels for files in frames.files]
    assert labels[3:5] == [("a1.tif#4", "a1.tif"), ("a2.tif#1", "a2.tif")]
    assert labels[8:] == [("b#1", "b"), ("b#2", "b"), ("b#3", "b"), ("c.tif", "c.tif")]
    assert frames.frame(9).label == "b#2"
    assert frames.lone == [False] * 11 + [True]
    assert (
        "3 stacks of 3 to 4 frames; each frame is paired with the mean of the others"
        in (frames.notes[0])
    )
    assert "1 frame is alone, so some pixels are hidden" in frames.notes[1]
    assert len(frames.notes) == 2
    assert {row["high_duplicate_of"] for row in frames.report()} == {""}


def test_frames_of_another_size_are_named(folder):
    """A frame of another shape is refused, whichever stack it is in."""
    write_sem_image(folder / "b" / "f1.tif", np.zeros((50, 60), np.uint8))
    with pytest.raises(DataError, match=r"a1\.tif is 96 × 112 .* but .*f1\.tif is 50 × 60"):
        StackFrames(folder, **WHOLE)


# -- alignment and means ---------------------------------------------------------------------------


def test_drift_is_found():
    """At a noise of 25 counts, to 0.05 px across the lines and 0.3 px along them."""
    drifts = np.array([(0, 0), (0.4, 1.3), (-1.2, 2.6), (2.1, -0.7), (0.9, -2.2), (-0.3, 0.5)])
    shifts = np.array([shift[:2] for shift in align_frames(noisy(0, 25, drifts))])
    error = shifts - drifts
    error -= error.mean(axis=0)
    assert np.abs(error[:, 1]).max() < 0.05
    assert np.abs(error[:, 0]).max() < 0.3


def test_the_target_is_the_mean_of_the_others(tmp_path):
    """It shows what the others show, moved onto the frame; nothing of the frame itself."""
    frames = [np.rint(scene(0, *drift)).astype(np.uint8) for drift in DRIFTS]
    write_stack(tmp_path / "a.tif", frames)
    found = StackFrames(tmp_path, **WHOLE)
    for number, frame in enumerate(frames):
        crop, region = found.crop(number), found.regions[number]
        np.testing.assert_array_equal(crop.low, frame[region])
        assert crop.high.dtype == np.uint8
        assert np.abs(crop.low.astype(float) - crop.high).mean() < 2
    still = noisy(0, 0, [(0, 0)] * 4)
    still[1] = 255 - still[1]
    # Their mean stays, but they are no copies, which would be left out.
    still[2][0, 0] += 1
    still[3][0, 0] -= 1
    write_stack(tmp_path / "a.tif", still)
    found = StackFrames(tmp_path, align="none", **WHOLE)
    np.testing.assert_array_equal(found.crop(1).high, still[0])
    third = np.rint((2 * still[0].astype(float) + still[1]) / 3)
    np.testing.assert_array_equal(found.crop(0).high, third)


def test_the_mean_of_the_others_has_less_noise(tmp_path):
    """Of n frames the target has 1 / (n - 1) of the variance of a frame, independent of it."""
    flat = [(0, 0)] * 8
    write_stack(tmp_path / "a.tif", noisy(0, 20, flat))
    frames = StackFrames(tmp_path, align="none", **WHOLE)
    low, high = (np.asarray(part, float) - scene(0) for part in frames.crop(2))
    assert high.var() == pytest.approx(20**2 / 7, rel=0.05)
    assert abs(np.corrcoef(low.ravel(), high.ravel())[0, 1]) < 0.02


def test_frames_that_cannot_be_aligned_are_left_out(tmp_path):
    """They are named; where nothing is left that is an error."""
    frames = noisy(0, 10)
    frames[2] = noisy(0, 10, [(0, 13)])[0][::-1]
    write_stack(tmp_path / "a.tif", frames)
    found = StackFrames(tmp_path, max_shift=4, **WHOLE)
    assert [files.name for files in found.files] == ["a.tif#1", "a.tif#2", "a.tif#4"]
    assert "1 of 4 frames are left out, because no shift below max_shift 4 px" in found.notes[1]
    assert "a.tif#3" in found.notes[1]
    write_stack(tmp_path / "a.tif", [frames[0], np.full(SHAPE, 100, np.uint8)])
    with pytest.raises(DataError, match="no two frames of a stack could be aligned"):
        StackFrames(tmp_path, **WHOLE)


def test_pages_of_noise_are_left_out(tmp_path):
    """A foreign page is named; of noise alone no two pages lie on each other."""
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 255, SHAPE).astype(np.uint8) for _ in range(4)]
    write_stack(tmp_path / "a.tif", [*noisy(0, 25, [(0, 0)] * 3), pages[0]])
    found = StackFrames(tmp_path, **WHOLE)
    assert [files.name for files in found.files] == ["a.tif#1", "a.tif#2", "a.tif#3"]
    assert "1 of 4 frames are left out" in found.notes[1]
    assert found.notes[1].endswith("a.tif#4.")
    write_stack(tmp_path / "a.tif", pages)
    with pytest.raises(DataError, match="no two frames of a stack could be aligned"):
        StackFrames(tmp_path, **WHOLE)


@pytest.mark.parametrize("align", ["high", "none"])
def test_copies_of_frames_are_left_out(tmp_path, align):
    """A page that was saved twice is named, and no target; in a folder of pictures too."""
    pages = noisy(0, 20, [(0, 0)] * 3)
    write_stack(tmp_path / "a.tif", [pages[0], pages[1], pages[0], pages[2], pages[1]])
    (tmp_path / "b").mkdir()
    for number, page in enumerate([*pages[:2], pages[0]]):
        write_sem_image(tmp_path / "b" / f"f{number}.tif", page)
    found = StackFrames(tmp_path, align=align, **WHOLE)
    assert [files.name for files in found.files] == ["a.tif#1", "a.tif#2", "a.tif#4", "b#1", "b#2"]
    (note,) = (note for note in found.notes if note.startswith("WARNING"))
    assert "3 of 8 frames are copies of others of their stack, pixel by pixel" in note
    assert "a.tif#3, a.tif#5, b#3" in note
    if align == "none":
        mean = np.rint((pages[1].astype(float) + pages[2]) / 2)
        np.testing.assert_array_equal(found.crop(0).high, mean)
        np.testing.assert_array_equal(found.crop(3).high, pages[1])
    # What was read again, or remembered, is the same.
    again = StackFrames(tmp_path, align=align, in_memory=False, **WHOLE)
    assert (again.checksum, again.shifts) == (found.checksum, found.shifts)
    np.testing.assert_array_equal(again.crop(3).high, found.crop(3).high)


def test_a_stack_of_copies_is_refused(tmp_path):
    """One page saved four times would teach a network to change nothing."""
    write_stack(tmp_path / "a.tif", noisy(1, 20))
    write_stack(tmp_path / "b.tif", noisy(0, 20)[:1] * 4)
    with pytest.raises(DataError, match=r"b\.tif: its 4 frames are copies of one, pixel by pixel"):
        StackFrames(tmp_path, **WHOLE)


def test_frames_of_a_stack_show_one_field(folder):
    """So do the pages of a file, the pictures of a folder, and a copy of a stack."""
    (folder / "d.tif").write_bytes((folder / "a2.tif").read_bytes())
    fields = StackFrames(folder, **WHOLE).fields()
    first = ["a1.tif#1"] * 4 + ["a2.tif#1"] * 4 + ["b#1"] * 3 + ["c.tif"] + ["a2.tif#1"] * 4
    assert fields == first


def test_still_frames_are_not_moved_along_lines(tmp_path):
    """Frames of straight lines that did not drift stay as they are along them."""
    rng = np.random.default_rng(0)
    still = 110 + 60 * np.tanh(3 * np.sin(np.arange(SHAPE[1]) * 2 * np.pi / 28))
    frames = [still + 40 * rng.normal(size=SHAPE) for _ in range(8)]
    shifts = align_frames([np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in frames])
    assert sum(shift.dy != 0 for shift in shifts) <= 1
    assert max(abs(shift.dx) for shift in shifts) < 0.2


def test_frames_that_lie_on_each_other_stay(tmp_path):
    """No shift brings two frames without drift nearer to each other; they are aligned."""
    write_stack(tmp_path / "a.tif", noisy(0, 25, [(0, 0)] * 6))
    assert len(StackFrames(tmp_path, **WHOLE)) == 6


def test_stacks_on_demand_are_the_same(folder, monkeypatch):
    """Read again for each crop, bytes and checksum are those of memory; shifts are remembered."""
    first = StackFrames(folder, **WHOLE)
    monkeypatch.setattr("toolbox.tasks.sem.stacks.align_frames", None)
    again = StackFrames(folder, in_memory=False, **WHOLE)
    assert (again.shifts, again.checksum) == (first.shifts, first.checksum)
    place = slice(3, 40), slice(5, 37)
    for number in (10, 0, 5, 11):
        for one, other in zip(again.part(number, *place), first.crop(number), strict=True):
            np.testing.assert_array_equal(one, other[place])
        for one, other in zip(again.crop(number), first.crop(number), strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_noise_of_edges_is_measured(tmp_path):
    """It is how far the edges of the targets lie from those without noise."""
    params = SimulationParams(save_dir="nowhere", frame_shape=(192, 160))
    shape = LineParams(sigma_nm=0.8, xi_nm=20, alpha=0.5)
    picture = LinePicture(np.random.default_rng(0), params, shape)
    noise = NoiseParams(peak_counts=40, drift_px=1)
    write_stack(tmp_path / "a.tif", list(picture.stack(noise, 6)))
    frames = StackFrames(tmp_path, **WHOLE)
    clean, errors = picture.expose(noise, None), []
    for number in range(6):
        crop, region, shift = frames.crop(number), frames.regions[number], frames.shifts[number]
        still = apply_shift(clean, shift)[region]
        left, true = (find_lines(img, 0.5, smooth_px=0.7).left_px for img in (crop.high, still))
        errors.append((left - true).std(axis=1))
    assert frames.edge_noise() == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.2)
    write_stack(tmp_path / "a.tif", [np.full(SHAPE, grey, np.uint8) for grey in (7, 8)])
    assert StackFrames(tmp_path, align="none", **WHOLE).edge_noise() == 0


# -- lone frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "reach"), [(0.0, 0), (0.5, 4)])
def test_the_reach_of_noise_is_measured(rho, reach):
    """The correlation at lag k is rho to the k: below 0.05 from the fifth pixel on for 0.5."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(128, 1024)) * np.sqrt(1 - rho**2)
    edges = 60 * np.tanh(np.sin(np.arange(1024) / 4 + 0.2 * np.arange(128)[:, None]))
    assert noise_reach([120 + edges + 25 * signal.lfilter([1], [1, -rho], white)]) == reach


@pytest.mark.skipif(not SPHERES.is_dir(), reason="needs the KRISS pictures")
@pytest.mark.parametrize("kind", ["line/noisy", "time/low"])
def test_the_reach_of_real_noise(kind):
    """KRISS: the correlation is 0.49, 0.10 and 0.03 at 1, 2 and 3 pixels, whatever is shown."""
    paths = sorted((SPHERES / kind).glob("*.tif"))[:3]
    assert noise_reach([read_sem_image(path).pixels[:438, 4:508] for path in paths]) == 2


def test_a_picture_without_noise_has_no_reach():
    """Where all rows are equal there is nothing to measure."""
    assert noise_reach([np.ones((20, 30), np.uint8)]) == 0


def test_hidden_pixels_are_asked_for():
    """What is asked for is nowhere near in its own row; all else stays as it was."""
    images = np.arange(2 * 48 * 40, dtype=np.float32).reshape(2, 48, 40, 1)
    hidden, asked = blind_spots(images, 3, np.random.default_rng(0))
    known = ~np.isnan(asked)
    np.testing.assert_array_equal(asked[known], images[known])
    assert 0.005 < known.mean() < 0.01
    for n, row, column, _ in np.argwhere(known):
        stretch = hidden[n, row, max(0, column - 3) : column + 4, 0]
        assert not np.isin(stretch, images[n, row]).any()
    changed = hidden != images
    assert 0.04 < changed.mean() < 0.07
    np.testing.assert_array_equal(hidden[changed] % 40, images[changed] % 40)
    again = blind_spots(images, 3, np.random.default_rng(0))
    assert [a.tobytes() for a in again] == [hidden.tobytes(), asked.tobytes()]


def test_the_loss_sees_only_what_is_asked_for():
    """Without gaps it is the mean square; a gap has no gradient; a prediction of NaN is seen."""
    rng = np.random.default_rng(0)
    true, seen = rng.normal(size=(2, 3, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(Loss.masked_mse(true, seen), Loss.mse(true, seen), rtol=1e-6)
    true[0, 2:] = np.nan
    variable = tf.Variable(seen)
    with tf.GradientTape() as tape:
        loss = Loss.masked_mse(true, variable)
    assert loss[0].numpy() == pytest.approx(np.square(true[0, :2] - seen[0, :2]).mean(), rel=1e-6)
    gradient = tape.gradient(loss, variable).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[0, 2:].any()
    seen[0, 0, 0] = np.nan
    assert np.isnan(Loss.masked_mse(true, seen)[0].numpy())


def test_patches_of_lone_frames_hide_pixels(folder):
    """Training draws other pixels each time, validation the same; stacks have whole targets."""
    frames = StackFrames(folder, **WHOLE)
    options = {"patch_size": 32, "batch_size": 4, "frames": frames}
    training = SEMPatchDataset(folder, folder, repeats=4, **options)
    epoch = [training.batch(n) for n in range(len(training))]
    shares = np.concatenate([1 - np.isnan(high).mean(axis=(1, 2, 3)) for _, high in epoch])
    assert (shares < 1).sum() == 4  # one lone frame, four patches of it
    assert shares[shares < 1].max() < 0.07
    assert all(np.isfinite(low).all() for low, _ in epoch)
    fixed = SEMPatchDataset(folder, folder, training=False, **options)
    first, second = ([fixed.batch(n) for n in range(len(fixed))] for _ in range(2))
    assert np.isnan(first[-1][1]).any()
    assert not np.isnan(fixed.raw_hr_imgs).any()
    for one, other in zip(first, second, strict=True):
        assert [a.tobytes() for a in one] == [b.tobytes() for b in other]


# -- source ----------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(tmp_path):
    """Training and validation of stacks, a test of stacks."""
    for split, seeds in (("train", (1, 2, 3)), ("validation", (4,)), ("test", (5,))):
        (tmp_path / split / "low").mkdir(parents=True)
        for seed in seeds:
            write_stack(tmp_path / split / "low" / f"a{seed}.tif", noisy(seed, 20))
    return tmp_path


def test_a_source_of_stacks(data_dir):
    """No high folder is needed; a test takes pairs where it has high pictures."""
    source = SEMSource(str(data_dir), target="frames", patch_size=32, **WHOLE)
    assert source.norm_range == (0, 255)
    assert [len(source.frames(split)) for split in ("train", "validation", "test")] == [12, 4, 4]
    low, high = source.train()
    assert low.shape == high.shape
    assert np.isfinite(high).all()
    assert 0 < source.facts()["noise_nm"] < 1
    (data_dir / "test" / "high").mkdir()
    write_sem_image(data_dir / "test" / "high" / "a5.tif", scene(5).astype(np.uint8))
    source = SEMSource(str(data_dir), target="frames", suffix_len=6, patch_size=32, **WHOLE)
    assert source.open("test").files[0].high.parent.name == "high"
    assert source.open("train").files[0].high.name == "a1.tif"


def test_shares_deal_whole_stacks(data_dir):
    """Frames of one stack are never in two splits, and copies in another split are told."""
    source = SEMSource(str(data_dir), target="frames", shares=(1, 1, 1), patch_size=32, **WHOLE)
    names = {split: source.open(split).files[0].high.name for split in ("train", "test")}
    assert names == {"train": "a1.tif", "test": "a3.tif"}
    (data_dir / "test" / "low" / "a1.tif").write_bytes(
        (data_dir / "train" / "low" / "a1.tif").read_bytes()
    )
    source = SEMSource(str(data_dir), target="frames", patch_size=32, **WHOLE)
    assert "1 picture of train is also in test" in source.open("train").notes[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stacks": "mean"}, r"received sem\.stacks: mean\. Leave it out"),
        ({"align": "low"}, r"received sem\.align: low\. Leave it out"),
        ({"sr_scale": 2, "align": "low"}, r"received scale: 2, sem\.align: low\. Leave them out"),
    ],
)
def test_what_frames_do_not_go_with_is_refused(data_dir, options, words):
    """One line names what contradicts."""
    with pytest.raises(ConfigError, match=words):
        SEMSource(str(data_dir), target="frames", **options)


def test_defaults_follow_the_target():
    """Noise in a target harms no loss of squares."""
    defaults = SEMSource.default_settings({"target": "frames"})
    assert (defaults["loss"], defaults["monitor_metric"]) == ("masked_mse", "val_loss")
    assert defaults["metrics"] == []
