"""Simulated pictures of lines: the files, the truth beside them, and the physics of the noise."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import ndimage

from sr_dataset_builder.simulate_sem import (
    LineParams,
    LinePicture,
    NoiseParams,
    SimulationParams,
    main,
    rough_edges,
)
from toolbox.tasks.sem.metrology import find_lines, roughness_psd
from toolbox.tasks.sem.sem_image import open_sem_stack, read_sem_image

TINY = {
    "frame_shape": [64, 96],
    "train": {"count": 2},
    "validation": {"count": 1},
    "test": {"count": 1, "cd_sweep_nm": [12, 20], "sweep_count": 2, "averages": [2, 8]},
}
#: Every 24th row and 32nd column of a low picture of seed 0, drawn before the wider settings.
GOLDEN = [[56, 66, 31, 63], [60, 40, 53, 63], [68, 67, 42, 56], [28, 38, 66, 23]]
STILL = {"drift_px": 0.0, "pair_offset_px": 0.0}


@pytest.fixture
def simulate(workshop):
    """``simulate(**settings)`` runs the program on a file of `TINY` with some keys changed."""

    def run(save_dir="sem", **changes):
        content = {"save_dir": str(workshop.folder / save_dir), **TINY, **changes}
        path = workshop.folder / "lines.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(path)])
        return workshop.result(code, out.getvalue(), err.getvalue())

    return run


def field(seed=0, shape=(96, 128), lines=None, **profile):
    """Return one field of lines, 16 nm at 32 nm unless `lines` says otherwise."""
    params = SimulationParams(save_dir="nowhere", frame_shape=shape, profile=profile)
    chosen = {"sigma_nm": 0.8, "xi_nm": 10, "alpha": 0.5, **(lines or {})}
    return LinePicture(np.random.default_rng(seed), params, LineParams(**chosen))


def signal_of(grey, noise):
    """Return 16-bit grey values as shares of the brightest rim."""
    return grey / 65535 * (noise.white + noise.black) - noise.black


# -- files -----------------------------------------------------------------------------------------


def test_program_writes_pairs_and_truth(simulate, workshop):
    """One YAML file makes the folders; the test has noise-free pictures and averages besides."""
    result = simulate()
    assert result.code == 0
    assert result.messages == []
    assert "test:     5 pairs" in result.out
    names = set(workshop.snapshot(workshop.folder / "sem"))
    expected = {"dataset.json"}
    for split, count in (("train", 2), ("validation", 1), ("test", 5)):
        kinds = ["low", "high"] + ["noise_free"] * (split == "test")
        expected |= {f"{split}/{k}/line_{n + 1:04d}.tif" for k in kinds for n in range(count)}
        expected |= {f"{split}/truth/line_{n + 1:04d}.npz" for n in range(count)}
        expected.add(f"{split}/truth.csv")
    expected |= {f"test/average_{n:04d}/line_0001.tif" for n in (2, 8)}
    assert names == expected
    picture = read_sem_image(workshop.folder / "sem/train/low/line_0001.tif")
    assert (picture.pixels.shape, picture.bits, picture.pixel_nm) == ((64, 96), 8, 0.8)


def test_stacks_in_place_of_pairs(simulate, workshop):
    """Training and validation may hold stacks of short exposures that drift, without partners."""
    train = {"count": 1, "stack_frames": 5, "noise": {"peak_counts": 1e4, "drift_px": 3}}
    assert simulate(train=train, validation={"count": 1, "stack_frames": 2}).code == 0
    assert not (workshop.folder / "sem" / "train" / "high").exists()
    stack = open_sem_stack(workshop.folder / "sem" / "train" / "low" / "line_0001.tif")
    assert (stack.count, stack.image().pixel_nm) == (5, 0.8)
    frames = [stack.image(page).pixels.astype(float) for page in range(5)]
    shifts = [shift_between(frames[0], frame) for frame in frames[1:]]
    assert 0.3 < np.abs(shifts).max() < 3
    stack = open_sem_stack(workshop.folder / "sem" / "validation" / "low" / "line_0001.tif")
    assert stack.count == 2


def test_record_says_how_it_was_made(simulate, workshop):
    """dataset.json holds the size of a pixel, the counts and all settings."""
    simulate(noise={"bits": 16}, pixel_nm=0.9)
    record = json.loads((workshop.folder / "sem/dataset.json").read_text())
    assert record["pixel_nm"] == 0.9
    assert record["pictures"] == {"train": 2, "validation": 1, "test": 5}
    assert record["simulation"]["noise"]["bits"] == 16
    assert read_sem_image(workshop.folder / "sem/test/high/line_0003.tif").bits == 16


def test_truth_is_that_of_the_stored_edges(simulate, workshop):
    """CD, LWR and LER of the table, computed anew from the edges; the nominal values beside."""
    simulate(lines={"sigma_nm": 1.0})
    folder = workshop.folder / "sem/test"
    table = pd.read_csv(folder / "truth.csv")
    assert table["group"].tolist() == ["lines", *["sweep_12"] * 2, *["sweep_20"] * 2]
    assert table["nominal_cd_nm"].tolist() == [16, 12, 12, 20, 20]
    for _, row in table.iterrows():
        with np.load(folder / "truth" / f"{row['name']}.npz", allow_pickle=False) as file:
            left, right, pixel_nm = (file[k] for k in ("left_px", "right_px", "pixel_nm"))
        assert left.shape == (row["lines"], 64)
        assert row["lines"] >= 1
        width = (right - left) * float(pixel_nm)
        assert row["cd_nm"] == pytest.approx(width.mean())
        assert row["cd_nm"] != row["nominal_cd_nm"]
        assert row["lwr_nm"] == pytest.approx(3 * np.sqrt(width.var(axis=1).mean()))
        ler = 3 * 0.8 * np.sqrt(np.concatenate([left, right]).var(axis=1).mean())
        assert row["ler_nm"] == pytest.approx(ler)
        # Variance of a width: that of both edges, less twice what they have in common.
        common = np.mean([np.cov(a, b, bias=True)[0, 1] for a, b in zip(left, right, strict=True)])
        parts = left.var(axis=1).mean() + right.var(axis=1).mean() - 2 * common
        assert (row["lwr_nm"] / 3) ** 2 == pytest.approx(parts * 0.8**2)


def test_same_seed_same_bytes(simulate, workshop):
    """A second run writes the same bytes; another seed other pictures of every kind."""
    folder = workshop.folder / "sem"
    for name, seed in (("sem", 1), ("again", 1), ("other", 2)):
        assert simulate(name, seed=seed).code == 0
    first, again, other = (
        workshop.snapshot(workshop.folder / name) for name in ("sem", "again", "other")
    )
    del first["dataset.json"], again["dataset.json"], other["dataset.json"]
    assert first == again
    assert folder.is_dir()
    assert all(other[name] != content for name, content in first.items())


def test_no_two_pictures_are_alike(simulate, workshop):
    """Neither within a split nor between them."""
    simulate()
    files = workshop.snapshot(workshop.folder / "sem")
    low = [content for name, content in files.items() if "/low/" in name]
    assert len(set(low)) == len(low) == 8


# -- refusals --------------------------------------------------------------------------------------


def test_older_simulation_is_kept_or_replaced(simulate, workshop):
    """Refused unless allowed; what is replaced leaves nothing behind."""
    simulate()
    before = workshop.snapshot(workshop.folder / "sem")
    simulate().refused("lines.yml: save_dir", "already holds a data set", "overwrite: true")
    assert workshop.snapshot(workshop.folder / "sem") == before
    remembered = workshop.folder / "sem" / "train" / "high" / ".sem_alignment.json"
    remembered.write_text("{}")  # what a training leaves beside the pictures
    assert simulate(overwrite=True, seed=5, test={"count": 0}).code == 0
    assert not remembered.exists()
    after = set(workshop.snapshot(workshop.folder / "sem"))
    assert not [name for name in after if name.startswith("test/")]
    assert "train/low/line_0001.tif" in after


def test_an_impossible_simulation_leaves_the_older_one(simulate, workshop):
    """What cannot be drawn is found before anything is replaced, and leaves no torn folder."""
    simulate()
    before = workshop.snapshot(workshop.folder / "sem")
    simulate(overwrite=True, lines={"sigma_nm": 9.0}).refused("run into each other")
    assert workshop.snapshot(workshop.folder / "sem") == before
    assert not [path for path in workshop.folder.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "name",
    [
        "train/low/line_0001.tif",  # the name of a simulation's picture, but no record of one
        "train/data_LR.pkl",
        "dataset.json",
        "train/low/wafer_17.tif",
        "validation/high/own/line_0001.tif",
        "test/truth/notes.txt",
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_never_removed(simulate, workshop, name, overwrite):
    """Maps, real pictures and notes stay where they are, even if overwriting is allowed."""
    path = workshop.folder / "sem" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"delta_hr_m": 50}')
    words = ["not part of a simulation"] if overwrite else ["already holds a data set"]
    simulate(overwrite=overwrite).refused("lines.yml: save_dir", *words)
    assert path.read_text() == '{"delta_hr_m": 50}'
    assert len(workshop.snapshot(workshop.folder / "sem")) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linse": {}}, ["unknown key linse", "Did you mean 'lines'?"]),
        ({"test": {"noise": {"peek": 3}}}, ["test: unknown key noise.peek"]),
        ({"lines": {"cd_nm": 33}}, ["cd_nm must be below pitch_nm; received 33 and 32"]),
        ({"test": {"count": 1, "cd_sweep_nm": [40]}}, ["test: cd_nm must", "received 40"]),
        ({"lines": {"cd_nm": [18, 12]}}, ["lines.cd_nm", "min <= max", "received [18, 12]"]),
        ({"lines": {"edge_correlation": 2}}, ["lines.edge_correlation", "received 2"]),
        ({"lines": {"sigma_nm": 9.0}}, ["sigma_nm 9", "run into each other"]),
        ({"frame_shape": [64, 64]}, ["pitch_nm", "half the width of the frame, 51.2 nm"]),
        ({"frame_shape": [64, 8]}, ["frame_shape.1", "received 8"]),
        ({"noise": {"bits": 12}}, ["noise.bits", "received 12"]),
        ({"noise": {"correlation": 1}}, ["noise.correlation", "received 1"]),
        ({"noise": {"drift_px": 5}}, ["noise.drift_px", "received 5"]),
        ({"noise": {"peak_counts": 0}}, ["noise.peak_counts", "received 0"]),
        ({"train": {"count": 0}}, ["train.count must be at least 1"]),
        ({"seed": True}, ["seed", "not true or false"]),
        ({"test": {"stack_frames": 3}}, ["test.stack_frames must be left out", "received 3"]),
    ],
)
def test_impossible_settings_are_refused(simulate, changes, words):
    """One line with the file, the key and what was received."""
    simulate(**changes).refused("lines.yml: ", *words)


def test_help_does_not_import_tensorflow():
    """``-h`` answers without TensorFlow."""
    code = (
        "import sys; from sr_dataset_builder.simulate_sem import main\n"
        "try: main(['-h'])\n"
        "except SystemExit: print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m sr_dataset_builder.simulate_sem")
    assert done.stdout.endswith("set()\n")


# -- edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [-1.0, -0.5, 0.0, 0.6, 1.0])
def test_edges_of_a_line_go_together_as_asked(rho):
    """The correlation of left and right edges is the one that was set, within its chance."""
    truth = field(3, (512, 700), {"edge_correlation": rho, "xi_nm": 2, "pitch_nm": 30}).truth
    left, right = (edges - edges.mean(axis=1, keepdims=True) for edges in truth[:2])
    found = (left * right).mean() / np.sqrt((left**2).mean() * (right**2).mean())
    # About 18 lines of 512 rows, of which a fifth are independent.
    assert found == pytest.approx(rho, abs=4 * (1 - rho**2) / np.sqrt(18 * 100) + 1e-6)
    if rho == 1:
        assert np.ptp(truth.right_px - truth.left_px) == pytest.approx(0, abs=1e-9)


def test_edges_have_the_asked_variance():
    """The sum of the density over the frequencies that fit is the variance, means included."""
    drawn = rough_edges(np.random.default_rng(0), (300, 512), 0.8, 1.3, 8.0, 0.7)
    frequency = np.fft.fftfreq(512, 0.8)
    expected = roughness_psd(frequency, 1.3, 8.0, 0.7).sum() / (512 * 0.8)
    assert (drawn**2).mean() == pytest.approx(expected, rel=0.03)
    assert expected == pytest.approx(1.3**2, rel=0.05)


def test_cut_lines_are_no_truth():
    """Edges of the truth lie wholly inside the frame, at their pitch."""
    truth = field(1, lines={"sigma_nm": 0.0}).truth
    assert (truth.left_px > 0).all()
    assert (truth.right_px < 127).all()
    np.testing.assert_allclose((truth.right_px - truth.left_px) * 0.8, 16)
    np.testing.assert_allclose(np.diff(truth.left_px, axis=0) * 0.8, 32)


def test_picture_shows_the_edges_where_the_truth_has_them():
    """Lines without rims and without a beam: their area and centre are those of the truth."""
    flat = {"rim": 0.0, "inside": 0.9, "foot": 0.0, "background": 0.1, "psf_sigma_px": 0.0}
    picture = field(2, lines={"sigma_nm": 0.0}, **flat)
    clean = picture.expose(NoiseParams(bits=16, **STILL), None)[0].astype(float)
    share = (clean - clean.min()) / np.ptp(clean)
    left, right = picture.truth.left_px[1, 0], picture.truth.right_px[1, 0]
    # The area under a line is its width, whatever the pixels that it begins and ends in.
    a, b = int(left) - 5, int(right) + 6
    assert share[a : b + 1].sum() == pytest.approx(right - left, abs=2e-3)
    centre = (share[a : b + 1] * np.arange(a, b + 1)).sum() / share[a : b + 1].sum()
    assert centre == pytest.approx((left + right) / 2, abs=2e-3)


# -- noise -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exposures():
    """300 exposures of one field at 20 counts and correlation 0.5, and the picture without noise.

    In shares of the brightest rim; the grey scale reaches far enough that nothing is cut off.
    """
    picture = field(4, (48, 96))
    noise = NoiseParams(peak_counts=20, bits=16, white=6, black=2, **STILL)
    taken = np.stack([signal_of(picture.expose(noise, 1), noise) for _ in range(300)])
    return taken, signal_of(picture.expose(noise, None), noise)


def test_mean_of_many_exposures_is_the_clean_picture(exposures):
    """Within five standard errors in every pixel, and without any offset."""
    taken, clean = exposures
    error = taken.mean(axis=0) - clean
    assert np.abs(error / (taken.std(axis=0) / np.sqrt(300))).max() < 5
    assert abs(error.mean()) < 4 * taken.std() / np.sqrt(300 * 48 * 96 / 3)


def test_variance_is_that_of_counting(exposures):
    """Variance = signal / dose: 1 / 20 of the signal in shares of the rim, seen over all pixels."""
    taken, clean = exposures
    assert taken.var(axis=0).mean() == pytest.approx(clean.mean() / 20, rel=0.02)
    # The first columns are as noisy as the others.
    ratio = taken.var(axis=0).mean(axis=0)[:4].sum() / clean.mean(axis=0)[:4].sum()
    assert ratio == pytest.approx(1 / 20, rel=0.15)


def test_noise_is_correlated_along_rows_only(exposures):
    """Neighbours along x share half of their noise, those two apart a quarter, along y nothing."""
    taken, clean = exposures
    error = (taken - clean) / taken.std(axis=0)
    assert (error[:, :, 1:] * error[:, :, :-1]).mean() == pytest.approx(0.5, abs=0.02)
    assert (error[:, :, 2:] * error[:, :, :-2]).mean() == pytest.approx(0.25, abs=0.02)
    assert (error[:, 1:] * error[:, :-1]).mean() == pytest.approx(0, abs=0.01)
    assert (error[1:] * error[:-1]).mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("distribution", ["poisson", "gamma"])
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_of_either_kind_falls_with_the_frames(distribution, correlation):
    """The variance of N frames is that of one, over N."""
    noise = NoiseParams(
        peak_counts=20,
        distribution=distribution,
        correlation=correlation,
        bits=16,
        white=9,
        black=3,
        **STILL,
    )
    picture = field(5, (256, 256))
    clean = signal_of(picture.expose(noise, None), noise)
    for frames in (1, 4, 64):
        error = signal_of(picture.expose(noise, frames), noise) - clean
        assert error.var() == pytest.approx(clean.mean() / 20 / frames, rel=0.1)
        assert (error[:, 1:] * error[:, :-1]).mean() / error.var() == pytest.approx(
            correlation, abs=0.05
        )


def test_defaults_cut_nothing_off():
    """At ten counts less than one pixel in a thousand is black or white."""
    taken = field(6, (256, 256)).expose(NoiseParams(**STILL), 1)
    assert taken.dtype == np.uint8
    assert np.isin(taken, (0, 255)).mean() < 1e-3


def test_bits_are_two_views_of_one_picture():
    """8 and 16 bits without noise agree within the rounding of 8."""
    images = [field(7).expose(NoiseParams(bits=bits, **STILL), None) for bits in (8, 16)]
    assert [image.dtype for image in images] == [np.uint8, np.uint16]
    np.testing.assert_allclose(images[0] / 255, images[1] / 65535, atol=0.51 / 255)


def test_noise_free_pictures_do_not_depend_on_chance():
    """Neither dose, nor drift, nor what was exposed before."""
    picture = field(8)
    first = picture.expose(NoiseParams(), None)
    picture.expose(NoiseParams(), 4)
    np.testing.assert_array_equal(picture.expose(NoiseParams(correlation=0), None), first)


# -- movement --------------------------------------------------------------------------------------


def shift_between(first, second):
    """Return (dy, dx) by which the second lies beside the first, to a tenth of a pixel."""
    from skimage.registration import phase_cross_correlation

    window = np.outer(*(np.hanning(n) for n in first.shape))
    images = [(image - image.mean()) * window for image in (first.astype(float), second)]
    shift, _, _ = phase_cross_correlation(*images, upsample_factor=20, normalization=None)
    return -shift


def test_high_pictures_lie_beside_the_low_ones_at_most_as_far_as_asked():
    """Of twenty pairs, by cross-correlation; the offsets spread over the range that is allowed."""
    noise = NoiseParams(peak_counts=1e5, bits=16, drift_px=0.5, pair_offset_px=4)
    rough = {"sigma_nm": 1.8, "xi_nm": 8, "alpha": 0.9}
    shifts = []
    for seed in range(20):
        picture = field(seed, (192, 192), rough)
        low, high = picture.expose(noise, 1), picture.expose(noise, 8, offset=True)
        shifts.append(shift_between(low, high))
    assert np.abs(shifts).max() < 4 + 0.5 + 0.3
    assert np.ptp(shifts, axis=0).min() > 4


def test_drift_blurs_and_does_not_displace():
    """Frames move about their mean: an average lies where its truth does, and is less sharp."""
    noise = NoiseParams(peak_counts=1e5, bits=16, drift_px=4, pair_offset_px=0)
    picture = field(9, (192, 192), {"sigma_nm": 1.8, "xi_nm": 8, "alpha": 0.9})
    clean, average = picture.expose(noise, None), picture.expose(noise, 32)
    assert np.abs(shift_between(clean, average)).max() < 0.3
    sharpness = [np.abs(np.diff(image.astype(float), axis=1)).mean() for image in (clean, average)]
    assert sharpness[1] < 0.95 * sharpness[0]


def test_shifted_pictures_show_no_seam():
    """A picture moved as far as allowed is the same field moved: nothing wraps around."""
    noise = NoiseParams(bits=16, drift_px=0, pair_offset_px=8)
    picture = field(10, (96, 160), psf_sigma_px=2.0)
    clean = picture.expose(noise, None).astype(float)
    moved = picture.expose(noise, None, offset=True).astype(float)
    dy, dx = shift_between(clean, moved)
    assert max(abs(dy), abs(dx)) > 1
    back = ndimage.shift(moved, (-dy, -dx), order=3, mode="nearest")
    inner = np.s_[10:-10, 10:-10]
    assert np.corrcoef(back[inner].ravel(), clean[inner].ravel())[0, 1] > 0.99
    # The border of the moved picture has the same grey values as the rest.
    assert moved[:, :4].mean(axis=1).std() < clean.std()
    assert clean.min() * 0.98 < moved.min()
    assert moved.max() < 1.02 * clean.max()


# -- wider settings --------------------------------------------------------------------------------


def params_of(shape=(96, 128), **content):
    """Return a simulation with some keys changed."""
    return SimulationParams(save_dir="nowhere", frame_shape=shape, **content)


def picture_of(seed=0, lines=None, **content):
    """Return one field of lines of `params_of`."""
    chosen = {"sigma_nm": 0.8, "xi_nm": 10, "alpha": 0.5, **(lines or {})}
    return LinePicture(np.random.default_rng(seed), params_of(**content), LineParams(**chosen))


def clean_of(picture, noise=None):
    """Return a picture without noise, in shares of its full signal."""
    noise = noise or NoiseParams(bits=16, white=4, **STILL)
    return signal_of(picture.expose(noise, None), noise)


def test_older_files_keep_their_pictures():
    """Grey values of seed 0 as they were before any range was added."""
    taken = field().expose(NoiseParams(), 1)
    assert taken[::24, ::32].tolist() == GOLDEN


def test_every_picture_has_its_own_pixel_size(simulate, workshop):
    """A range of sizes: each file and each truth says its own, the record none."""
    assert simulate(pixel_nm=[0.7, 1.0]).code == 0
    folder = workshop.folder / "sem"
    assert json.loads((folder / "dataset.json").read_text())["pixel_nm"] is None
    table = pd.read_csv(folder / "test/truth.csv")
    assert table["nominal_pixel_nm"].between(0.7, 1.0).all()
    assert table["nominal_pixel_nm"].nunique() == 5
    for _, row in table.iterrows():
        size = read_sem_image(folder / f"test/low/{row['name']}.tif").pixel_nm
        assert size == pytest.approx(row["nominal_pixel_nm"], rel=1e-6)
        with np.load(folder / f"test/truth/{row['name']}.npz", allow_pickle=False) as file:
            assert float(file["pixel_nm"]) == row["nominal_pixel_nm"]
            width = (file["right_px"] - file["left_px"]).mean() * float(file["pixel_nm"])
        assert width == pytest.approx(row["cd_nm"])


def test_doses_may_be_drawn_on_a_logarithmic_scale():
    """Half way between 4 and 100 counts lie 20; the noise is that of the dose that was drawn."""
    noise = NoiseParams(peak_counts=(4, 100), log_counts=True, bits=16, white=9, black=3, **STILL)
    doses = []
    for seed in range(40):
        picture = picture_of(seed, shape=(64, 96))
        taken = signal_of(picture.expose(noise, 1), noise)
        clean = signal_of(picture.expose(noise, None), noise)
        doses.append(4 * 25 ** picture.nominal["dose_share"])
        assert (taken - clean).var() == pytest.approx(clean.mean() / doses[-1], rel=0.25)
    assert np.median(doses) == pytest.approx(20, rel=0.4)


def test_correlation_may_be_a_range():
    """The noise has the correlation that was drawn, which is recorded."""
    noise = NoiseParams(correlation=(0.1, 0.8), bits=16, white=9, black=3, **STILL)
    drawn = []
    for seed in range(6):
        picture = picture_of(seed, shape=(256, 256))
        error = signal_of(picture.expose(noise, 1), noise)
        error = error - signal_of(picture.expose(noise, None), noise)
        found = (error[:, 1:] * error[:, :-1]).mean() / error.var()
        drawn.append(picture.nominal["correlation"])
        assert found == pytest.approx(drawn[-1], abs=0.05)
    assert np.ptp(drawn) > 0.2


def test_lines_may_be_a_share_of_the_pitch():
    """cd_share takes the place of cd_nm, and may be large where the pitch is."""
    picture = picture_of(lines={"pitch_nm": 30, "cd_share": 0.6, "cd_nm": 40, "sigma_nm": 0})
    width = (picture.truth.right_px - picture.truth.left_px) * 0.8
    np.testing.assert_allclose(width, 18)


def test_wiggling_lines_keep_their_width():
    """All edges go astray together, by a sine of the asked size and period."""
    wiggle = {"sigma_nm": 0, "wiggle_nm": 1.6, "wiggle_period_nm": 40}
    truth = picture_of(lines=wiggle, shape=(200, 128)).truth
    np.testing.assert_allclose((truth.right_px - truth.left_px) * 0.8, 16)
    away = truth.left_px[0] - truth.left_px[0].mean()
    spectrum = np.abs(np.fft.rfft(away))
    assert spectrum.argmax() == 200 * 0.8 / 40
    assert np.sqrt(2) * away.std() == pytest.approx(1.6 / 0.8, rel=0.02)


def test_charge_shades_a_picture_smoothly():
    """The gradient stays within its share, and its neighbours differ by little."""
    plain, shaded = (
        clean_of(picture_of(3, charging={"gradient": size}, lines={"sigma_nm": 0}))
        for size in (0.0, 0.4)
    )
    ratio = shaded / plain
    assert 0.59 < ratio.min() < 0.95
    assert 1.05 < ratio.max() < 1.41
    assert np.abs(np.diff(ratio, axis=0)).max() < 0.05


def test_charge_throws_shadows_behind_lines():
    """The space behind a line is darker than that before it, and recovers with the distance."""
    flat = {"psf_sigma_px": 0.3, "foot": 0.0}
    lines = {"sigma_nm": 0, "pitch_nm": 48}
    shadow = {"shadow": 0.5, "shadow_px": 8}
    picture = picture_of(4, lines, shape=(32, 200), profile=flat, charging=shadow)
    clean = clean_of(picture).mean(axis=0)
    left, right = picture.truth.left_px[1, 0], picture.truth.right_px[1, 0]
    behind, before = clean[int(right) + 3], clean[int(left) - 3]
    assert behind < 0.93 * before
    assert behind < clean[int(right) + 15] < before * 1.02


def test_rims_may_be_unbalanced():
    """With an asymmetry of 0.5 the left rim has 1.5 of its signal and the right one 0.5."""
    lines, shape = {"sigma_nm": 0, "pitch_nm": 48, "cd_nm": 24}, (32, 200)
    profile = {"psf_sigma_px": 0.0, "rim_decay": 1.0, "inside": 0.3, "rim": 0.5}
    picture = picture_of(5, lines, shape=shape, profile={**profile, "asymmetry": 0.5})
    clean, even = clean_of(picture), clean_of(picture_of(5, lines, shape=shape, profile=profile))
    left, right = picture.truth.left_px[1, 0], picture.truth.right_px[1, 0]
    rims = [image[0, [int(left) + 2, int(right) - 1]] - 0.3 / 0.8 for image in (clean, even)]
    np.testing.assert_allclose(rims[0] / rims[1], [1.5, 0.5], rtol=0.02)


@pytest.mark.parametrize("shape", ["lorentzian", "sigmoid"])
def test_profiles_of_other_shapes(shape):
    """A Lorentzian rim reaches farther than an exponential one; a sigmoid wall rises evenly."""
    lines = {"sigma_nm": 0, "pitch_nm": 48, "cd_nm": 24}
    flat = {"rim": 0.0, "inside": 1.0, "background": 0.0, "foot": 0.0} if shape == "sigmoid" else {}
    profile = {"psf_sigma_px": 0.0, "rim_decay": 0.8, **flat}
    picture = picture_of(6, lines, shape=(32, 200), profile={**profile, "shape": shape})
    clean = clean_of(picture)[0]
    left, right = picture.truth.left_px[1, 0], picture.truth.right_px[1, 0]
    if shape == "sigmoid":
        columns = np.arange(int(left) - 6, int(left) + 7)
        expected = 1 / (1 + np.exp(-0.8 * (columns - left)))
        np.testing.assert_allclose(clean[columns], expected, atol=0.02)
    else:
        middle = int((left + right) / 2)
        usual = clean_of(picture_of(6, lines, shape=(32, 200), profile=profile))[0]
        away = 0.8 * np.array([middle - left, right - middle])
        added = (0.5 * (1 / (1 + away**2) - np.exp(-away))).sum() / 0.8
        assert clean[middle] - usual[middle] == pytest.approx(added, rel=0.1)


def test_scan_lines_differ_in_offset_and_gain():
    """Rows differ by the asked shares, each as a whole; averages by the root of their frames."""
    still = {"peak_counts": 1e6, "bits": 16, "white": 4, **STILL}
    picture = picture_of(7, {"sigma_nm": 0}, shape=(400, 96))
    plain = NoiseParams(**still)
    clean = signal_of(picture.expose(plain, None), plain)
    for key in ("row_offset", "row_gain"):
        noise = NoiseParams(**still, **{key: 0.05})
        for frames in (1, 16):
            error = signal_of(picture.expose(noise, frames), noise) - clean
            rows = (error if key == "row_offset" else error / clean).mean(axis=1)
            assert rows.std() == pytest.approx(0.05 / np.sqrt(frames), rel=0.15)
        # All pixels of a row go together.
        assert np.corrcoef(error[:, 10], error[:, 60])[0, 1] > 0.9
    np.testing.assert_array_equal(picture.expose(noise, None), picture.expose(plain, None))


def test_scan_lines_jump():
    """Both edges of a row lie beside the truth by the same jump, of the asked size."""
    noise = NoiseParams(peak_counts=1e6, bits=16, row_jitter_px=0.5, **STILL)
    flat = {"rim": 0.0, "inside": 0.9, "foot": 0.0}
    picture = picture_of(8, {"sigma_nm": 0}, shape=(300, 128), profile=flat)
    edges = find_lines(picture.expose(noise, 1).astype(float))
    jumps = edges.left_px[0] - edges.left_px[0].mean()
    assert jumps.std() == pytest.approx(0.5, rel=0.15)
    assert np.corrcoef(jumps, edges.right_px[1])[0, 1] > 0.95


def test_contrast_and_brightness_set_the_grey_scale():
    """Grey values are stretched by the one and lifted by the other, of the whole range."""
    picture = picture_of(9)
    plain = NoiseParams(bits=16, white=4, **STILL)
    other = plain.model_copy(update={"contrast": (0.5, 0.5), "brightness": (0.1, 0.1)})
    usual, changed = (picture.expose(noise, None) / 65535 for noise in (plain, other))
    np.testing.assert_allclose(changed, 0.5 * usual + 0.1, atol=2 / 65535)


def test_ranges_of_later_keys_leave_the_others_alone():
    """What a new range draws does not change what is drawn from the common stream."""
    first = picture_of(11)
    second = picture_of(11, charging={"gradient": (0, 0.5)}, profile={"asymmetry": (-1, 1)})
    np.testing.assert_array_equal(first.truth.left_px, second.truth.left_px)
    assert set(second.nominal) - set(first.nominal) == {"gradient", "asymmetry"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_nm": [1.0, 0.5]}, ["pixel_nm", "min <= max"]),
        ({"pixel_nm": 0}, ["pixel_nm", "received 0"]),
        ({"lines": {"cd_share": 1.2}}, ["lines.cd_share", "received 1.2"]),
        ({"noise": {"correlation": [0.2, 1.0]}}, ["noise.correlation", "received 1"]),
        ({"charging": {"gradient": 1}}, ["charging.gradient", "received 1"]),
        ({"profile": {"shape": "gauss"}}, ["profile.shape", "lorentzian"]),
        ({"noise": {"row_jitter": 1}}, ["unknown key noise.row_jitter", "row_jitter_px"]),
    ],
)
def test_impossible_wider_settings_are_refused(simulate, changes, words):
    """One line with the file, the key and what was received."""
    simulate(**changes).refused("lines.yml: ", *words)
