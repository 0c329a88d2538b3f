"""The programs flip, rotate, scale and test_da: files in, files out, geometry, refusals."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.optimize import curve_fit

from sr_dataset_builder import flip, rotate, scale, test_da
from toolbox.data_loader import load_images
from toolbox.resample import block_mean
from toolbox.tasks.bathymetry.terrain import slope

SCALE, LOW = 4, 16
PROGRAMS = {"flip": flip, "rotate": rotate, "scale": scale}
#: Copies of each image that the settings below make.
SETTINGS = {
    "flip": ({}, 3),
    "rotate": ({"angles": [30, 90, 222.5], "fill_mode": "reflect"}, 3),
    "scale": ({"dscales": [0.5, 1.5], "xyscales": [0.5, 0.7, 0.9]}, 5),
}


def physical_grid():
    """Return (up, right) of the HR pixels' centres in LR pixels from the centre of the image."""
    row, column = (np.mgrid[: SCALE * LOW, : SCALE * LOW] + 0.5) / SCALE - LOW / 2
    return -row, column


def plane(degrees, rise=10.0):
    """Return HR images (1, 64, 64, 1) that rise by `rise` metres an LR pixel in a direction."""
    up, right = physical_grid()
    angle = np.radians(degrees)
    return (-2000 + rise * (right * np.cos(angle) + up * np.sin(angle)))[None, ..., None]


def ridge(degrees, offset, width=2.0, height=300.0):
    """Return HR images of a single Gaussian ridge, `offset` LR pixels from the centre."""
    up, right = physical_grid()
    angle = np.radians(degrees)
    across = right * np.cos(angle) + up * np.sin(angle) - offset
    return (-2000 + height * np.exp(-((across / width) ** 2)))[None, ..., None]


def rough(count=5):
    """Return HR images without symmetries whose relief lasts over several LR pixels."""
    row, column = np.mgrid[: SCALE * LOW, : SCALE * LOW] / (SCALE * LOW)
    phase = np.random.default_rng(0).uniform(0, 6, (4, count, 1, 1))
    waves = np.sin(7 * row + 3 * column + phase[0]) + np.sin(9 * column - 5 * row + phase[1])
    return (-2000 + 100 * waves + 50 * np.sin(6 * row + phase[2]))[..., None]


def store(workshop, hr, ending="pkl", folder="train"):
    """Write an HR stack, and the LR stack that is its block mean, as data_HR and data_LR."""
    hr = np.asarray(hr, np.float32)
    for kind, imgs in (("HR", hr), ("LR", block_mean(hr, SCALE))):
        path = workshop.folder / folder / f"data_{kind}.{ending}"
        if ending == "pkl":
            workshop.write_pickle(imgs, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, imgs)
    return hr, block_mean(hr, SCALE)


def start(workshop, run_program, name, **changes):
    """Run a program with the manual's keys, some of them changed."""
    content = {
        "train_dir": str(workshop.folder / "train"),
        "train_data": ["data_HR.pkl", "data_LR.pkl"],
        "train_savedata": ["out_HR.pkl", "out_LR.pkl"],
        **SETTINGS[name][0],
        **changes,
    }
    path = workshop.folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return run_program(PROGRAMS[name].main, path)


@pytest.fixture
def run_program(workshop, capsys):
    """``run_program(main, *arguments)`` calls a program and returns what it left behind."""

    def run(main, *arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return workshop.result(code, *capsys.readouterr())

    return run


@pytest.fixture
def augment(workshop, run_program):
    """``augment(name, **changes)`` runs a program and returns the HR and LR stacks it wrote."""

    def run(name, **changes):
        result = start(workshop, run_program, name, **changes)
        assert result.code == 0, result.err
        assert result.messages == []
        saved = changes.get("train_savedata", ["out_HR.pkl", "out_LR.pkl"])
        return [np.asarray(load_images(workshop.folder / "train" / file)) for file in saved]

    return run


@pytest.fixture
def refused(workshop, run_program):
    """``refused(name, words, **changes)`` checks the one line and that no file has changed."""

    def run(name, words, **changes):
        before = workshop.snapshot()
        start(workshop, run_program, name, **changes).refused(*words)
        after = workshop.snapshot()
        assert {k: v for k, v in after.items() if not k.endswith(".yml")} == {
            k: v for k, v in before.items() if not k.endswith(".yml")
        }

    return run


# --- what the files hold -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_kinds_keep_their_index_ranges(workshop, augment, name):
    """The output is the input, then a whole copy of the originals for each kind, in order."""
    stacks = store(workshop, rough())
    copies = SETTINGS[name][1]
    for imgs, out in zip(stacks, augment(name), strict=True):
        assert out.shape == (5 * (1 + copies), *imgs.shape[1:])
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out[:5], imgs)
    if name == "flip":
        for k, axes in enumerate((1, 2, (1, 2)), start=1):
            np.testing.assert_array_equal(out[5 * k : 5 * k + 5], np.flip(stacks[1], axes))
    if name == "rotate":
        np.testing.assert_array_equal(out[10:15], np.rot90(stacks[1], 1, (1, 2)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_ranges_are_printed(workshop, run_program, name):
    """The reader sees which numbers hold which kind."""
    store(workshop, rough())
    lines = start(workshop, run_program, name).out.splitlines()
    copies = SETTINGS[name][1]
    assert f"{5 + 5 * copies} pairs = 5 + 5 × {copies}" in lines[0]
    assert [line.split(")")[0].strip() for line in lines[1:]] == [
        f"[{5 * k}, {5 * k + 5}" for k in range(1, copies + 1)
    ]


def test_flips_then_rotations_of_the_originals_alone(workshop, augment):
    """`original_image_num` restricts what is copied: originals, flips, then turned originals."""
    hr, lr = store(workshop, rough())
    augment("flip", train_savedata=["flip_HR.pkl", "flip_LR.pkl"])
    out = augment(
        "rotate",
        train_data=["flip_HR.pkl", "flip_LR.pkl"],
        original_image_num=5,
        angles=[180, 270],
    )
    for imgs, result in zip((hr, lr), out, strict=True):
        assert len(result) == 4 * 5 + 2 * 5
        np.testing.assert_array_equal(result[:5], imgs)
        np.testing.assert_array_equal(result[5:10], imgs[:, ::-1])
        np.testing.assert_array_equal(result[10:15], imgs[:, :, ::-1])
        np.testing.assert_array_equal(result[15:20], imgs[:, ::-1, ::-1])
        np.testing.assert_array_equal(result[20:25], imgs[:, ::-1, ::-1])
        np.testing.assert_array_equal(result[25:30], np.rot90(imgs, 3, (1, 2)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_part_of_the_input_can_be_copied(workshop, augment, name):
    """With `original_image_num` 2 of 5, every kind has two copies, of the first two images."""
    store(workshop, rough())
    everything = augment(name)
    some = augment(name, original_image_num=2)
    for whole, part in zip(everything, some, strict=True):
        assert len(part) == 5 + 2 * SETTINGS[name][1]
        np.testing.assert_array_equal(part[5:7], whole[5:7])
        np.testing.assert_array_equal(part[7:9], whole[10:12])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(("read", "write"), [("npy", "npy"), ("npy", "pkl"), ("pkl", "npy")])
def test_npy_and_pickle_hold_the_same(workshop, augment, name, read, write):
    """The kind of file, in or out, does not change the images."""
    store(workshop, rough())
    expected = augment(name)
    store(workshop, rough(), "npy")
    out = augment(
        name,
        train_data=[f"data_HR.{read}", f"data_LR.{read}"],
        train_savedata=[f"again_HR.{write}", f"again_LR.{write}"],
    )
    for got, wanted in zip(out, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_images_without_a_channel_and_float64_are_taken(workshop, augment):
    """(N, H, W) in float64, as the manual's pickles may be, becomes (N, H, W, 1) in float32."""
    hr, lr = store(workshop, rough())
    for kind, imgs in (("HR", hr), ("LR", lr)):
        path = workshop.folder / "train" / f"data_{kind}.pkl"
        workshop.write_pickle(imgs[..., 0].astype(np.float64), path)
    for imgs, out in zip((hr, lr), augment("flip"), strict=True):
        assert (out.shape, out.dtype) == ((20, *imgs.shape[1:]), np.float32)
        np.testing.assert_array_equal(out[15:], imgs[:, ::-1, ::-1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_bytes_every_time_and_the_input_stays(workshop, augment, name):
    """Two runs write the same bytes, nothing else appears, and the input is as it was."""
    store(workshop, rough())
    before = workshop.snapshot(workshop.folder / "train")
    augment(name)
    first = workshop.snapshot(workshop.folder / "train")
    assert {k: first[k] for k in before} == before
    assert set(first) == {*before, "out_HR.pkl", "out_LR.pkl"}
    augment(name)
    assert workshop.snapshot(workshop.folder / "train") == first


def test_a_stop_half_way_leaves_no_output(workshop, run_program, monkeypatch):
    """Ctrl-C while copies are made leaves the old files and no half-written ones."""
    store(workshop, rough())
    before = workshop.snapshot(workshop.folder / "train")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("toolbox.augment.apply_operator", stop)
    assert start(workshop, run_program, "rotate").code == 130
    assert workshop.snapshot(workshop.folder / "train") == before


# --- geometry ----------------------------------------------------------------------------------


def test_flipping_twice_gives_the_input(workshop, augment):
    """The up-down copy of the up-down copy is the image itself, and so for the others."""
    stacks = store(workshop, rough())
    augment("flip", train_savedata=["a_HR.pkl", "a_LR.pkl"])
    twice = augment("flip", train_data=["a_HR.pkl", "a_LR.pkl"])
    for imgs, out in zip(stacks, twice, strict=True):
        for k in (1, 2, 3):
            np.testing.assert_array_equal(out[20 * k + 5 * k : 20 * k + 5 * k + 5], imgs)


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "wrap"])
def test_four_quarter_turns_give_the_input(workshop, augment, fill_mode):
    """Each turn is np.rot90 and four of them are the image, bit by bit."""
    stacks = store(workshop, rough())
    names = ["data", *"abcd"]
    for source, result in itertools.pairwise(names):
        out = augment(
            "rotate",
            train_data=[f"{source}_HR.pkl", f"{source}_LR.pkl"],
            train_savedata=[f"{result}_HR.pkl", f"{result}_LR.pkl"],
            angles=[90],
            fill_mode=fill_mode,
            original_image_num=5,
        )
        for kind, imgs in zip(("HR", "LR"), out, strict=True):
            np.testing.assert_array_equal(imgs[-5:], np.rot90(imgs[:5], 1, (1, 2)))
            workshop.write_pickle(imgs[-5:], workshop.folder / "train" / f"{result}_{kind}.pkl")
    for imgs, last in zip(stacks, out, strict=True):
        assert last[-5:].tobytes() == imgs.tobytes()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", [lambda: plane(20), lambda: ridge(70, 1.3, 4.0), rough])
def test_lr_of_the_changed_hr_is_the_changed_lr(workshop, augment, name, make):
    """Away from the filling both ways agree to the error of interpolation.

    On the plane of 10 m a pixel, half a pixel of misalignment would be 5 m. Relief shrunk to half
    its width loses more between LR pixels than turned relief.
    """
    stacks = store(workshop, make())
    hr, lr = augment(name)
    difference = np.abs(block_mean(hr, SCALE) - lr)[:, 6:-6, 6:-6]
    assert difference.max() < (0.012 * np.ptp(stacks[0]) if name == "scale" else 0.5)


@pytest.mark.parametrize("degrees", [30, 45, 77, 100, 250, 330, -20])
def test_turned_plane_rises_where_it_should(workshop, augment, degrees):
    """A plane rising at 20° rises at 20° + the angle, as steep as before, in LR and HR."""
    store(workshop, plane(20))
    out = augment("rotate", angles=[degrees])
    expected = plane(20 + degrees)
    for turned, pixel in zip(out, (SCALE, 1), strict=True):
        wanted = block_mean(expected, SCALE // pixel)
        middle = slice(5 * pixel, -5 * pixel)
        np.testing.assert_allclose(
            turned[1:, middle, middle], wanted[:, middle, middle], rtol=0, atol=0.02
        )


def measured_ridge(img, degrees, offset, width, reach=LOW / 2 - 2):
    """Fit a ridge within `reach` of the centre; return its offset in LR pixels and its angle."""
    pixel = len(img) // LOW
    row, column = (np.mgrid[: len(img), : len(img)] + 0.5) / pixel - LOW / 2
    inside = np.hypot(row, column) < reach

    def model(_, offset, angle, width, height, depth):
        across = column * np.cos(angle) - row * np.sin(angle) - offset
        return (depth + height * np.exp(-((across / width) ** 2)))[inside]

    guess = (offset, np.radians(degrees), width, 300, -2000)
    found, _ = curve_fit(model, None, img[inside], guess)
    return found[0], np.degrees(found[1])


@pytest.mark.parametrize("degrees", [30, 45, 77, 120, 205.5, -10])
def test_turned_ridge_is_where_it_should_be(workshop, augment, degrees):
    """A single ridge turns about the centre of the patch: LR and HR to 0.05 LR pixels.

    A centre that were half an HR pixel off, as between pixel centres and corners, shows as 0.125.
    """
    store(workshop, ridge(25, 2.4))
    for turned in augment("rotate", angles=[degrees]):
        offset, angle = measured_ridge(turned[1, ..., 0], 25 + degrees, 2.4, 2.0)
        assert offset == pytest.approx(2.4, abs=0.05)
        assert angle == pytest.approx(25 + degrees, abs=0.5)


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.5])
def test_stretched_ridge_is_where_it_should_be(workshop, augment, factor):
    """Magnified about the same centre, the ridge's distance from it is multiplied."""
    store(workshop, ridge(25, 2.4, 3.0))
    reach = LOW / 2 * min(factor, 1) - 1.5
    for stretched in augment("scale", dscales=[], xyscales=[factor]):
        img = stretched[1, ..., 0]
        offset, angle = measured_ridge(img, 25, 2.4 * factor, 3.0 * factor, reach)
        assert offset == pytest.approx(2.4 * factor, abs=0.05)
        assert angle == pytest.approx(25, abs=0.5)


def test_depth_factors_are_exact(workshop, augment):
    """Depths times 0.5, 0.8, 1.2, 1.5: the manual's factors, to the last bit of float32."""
    stacks = store(workshop, rough())
    factors = [0.5, 0.8, 1.2, 1.5]
    for imgs, out in zip(stacks, augment("scale", dscales=factors, xyscales=[]), strict=True):
        for k, factor in enumerate(factors, start=1):
            np.testing.assert_array_equal(out[5 * k : 5 * k + 5], imgs * np.float32(factor))


@pytest.mark.parametrize("factor", [0.5, 0.7, 0.9, 2.0])
def test_horizontal_factors_change_slopes_inversely(workshop, augment, factor):
    """A plane shrunk to half its width is twice as steep; the depth of the centre stays."""
    store(workshop, plane(20))
    for out, pixel in zip(augment("scale", dscales=[], xyscales=[factor]), (SCALE, 1), strict=True):
        middle = slice(len(out[0]) // 2 - 2 * pixel, len(out[0]) // 2 + 2 * pixel)
        before, after = slope(out[:, middle, middle], 200 / pixel).mean((1, 2))
        assert after == pytest.approx(before / factor, rel=0.02)
        assert out[1, middle, middle].mean() == pytest.approx(-2000, abs=0.2)


def test_angles_fill_mode_and_factors_do_what_they_say(workshop, augment):
    """Each key of the manual's files changes the output; the default of `angles` is its list."""
    store(workshop, rough(1))
    corners = {
        mode: augment("rotate", angles=[30], fill_mode=mode)[0][1, 0, 0, 0]
        for mode in ("nearest", "reflect", "wrap")
    }
    assert len(set(corners.values())) == 3
    files = {"angles": list(range(30, 360, 30))}
    listed = augment("rotate", **files)
    content = yaml.safe_load((workshop.folder / "rotate.yml").read_text())
    del content["angles"]
    (workshop.folder / "rotate.yml").write_text(yaml.safe_dump(content))
    assert rotate.main([str(workshop.folder / "rotate.yml")]) == 0
    np.testing.assert_array_equal(load_images(workshop.folder / "train" / "out_HR.pkl"), listed[0])
    assert len(listed[0]) == 12


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("named", [False, True])
def test_the_output_may_have_a_folder_of_its_own(name, named, workshop, augment, monkeypatch):
    """The earlier program's `train_savedir`, with or without names, from where one stands."""
    store(workshop, rough(3))
    expected = augment(name)
    content = yaml.safe_load((workshop.folder / f"{name}.yml").read_text())
    if not named:
        del content["train_savedata"]
    content |= {"train_dir": "train", "train_savedir": f"output/train/{name}"}
    (workshop.folder / "earlier.yml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(workshop.folder)
    assert PROGRAMS[name].main(["earlier.yml"]) == 0
    for kind, imgs in zip(("HR", "LR"), expected, strict=True):
        path = Path("output", "train", name, f"{'out' if named else 'data'}_{kind}.pkl")
        np.testing.assert_array_equal(load_images(path), imgs)


def test_the_input_s_own_folder_is_no_other(workshop, run_program):
    """`train_savedir` that leads to `train_dir` without new names would overwrite the input."""
    store(workshop, rough(2))
    path = workshop.folder / "flip.yml"
    folder = str(workshop.folder / "train")
    path.write_text(yaml.safe_dump({"train_dir": folder, "train_savedir": folder + "/../train"}))
    before = workshop.snapshot(workshop.folder / "train")
    run_program(flip.main, path).refused("never overwritten")
    assert workshop.snapshot(workshop.folder / "train") == before


def test_gaps_stay_gaps(workshop, augment):
    """A missing pixel is missing in every copy and spreads no further than the kernel."""
    hr = rough(2)
    hr[1, 30, 30] = np.nan
    store(workshop, hr)
    for name, (_, copies) in SETTINGS.items():
        out = augment(name)[0]
        missing = np.isnan(out).sum((1, 2, 3)).reshape(1 + copies, 2)
        assert (missing[:, 0] == 0).all()
        assert (missing[:, 1] >= 1).all()
        if name != "scale":
            assert (missing[:, 1] <= 36).all()


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_dat": ["a", "b"]}, ("unknown key train_dat", "'train_data'")),
        ({"train_dir": "nowhere"}, ("nowhere", "no such file")),
        ({"train_data": ["data_HR.pkl", "gone.pkl"]}, ("gone.pkl: no such file",)),
        ({"train_data": ["data_HR.pkl"]}, ("train_data has too few entries",)),
        ({"train_savedata": ["out_HR.pkl", "out_LR.tif"]}, (".npy or .pkl", "'.tif'")),
        ({"original_image_num": 0}, ("original_image_num must be", "received 0")),
        ({"original_image_num": 6}, ("original_image_num must be", "5", "received 6")),
        ({"original_image_num": True}, ("original_image_num must be", "received True")),
        ({"train_savedata": ["data_HR.pkl", "o.pkl"]}, ("never overwritten",)),
        ({"train_savedata": ["o.pkl", "./data_LR.pkl"]}, ("never overwritten",)),
        ({"train_savedata": ["../train/data_HR.pkl", "o.pkl"]}, ("never overwritten",)),
    ],
)
def test_bad_file_setting_is_refused(workshop, refused, name, changes, words):
    """A mistake ends in one line that names it; nothing is written, the input is never touched."""
    store(workshop, rough())
    refused(name, words, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("flip", {"angles": [30]}, ("unknown key angles",)),
        ("rotate", {"fill_mode": "constant"}, ("fill_mode must be", "'reflect'", "'constant'")),
        ("rotate", {"angles": []}, ("angles must", "at least 1")),
        ("rotate", {"angles": ["steep"]}, ("angles", "'steep'")),
        ("rotate", {"angles": 30}, ("angles must be", "received 30")),
        ("scale", {"fill_mode": "constant"}, ("fill_mode must be", "'constant'")),
        ("scale", {"dscales": [0]}, ("dscales", "greater than 0", "received 0")),
        ("scale", {"xyscales": [-0.5]}, ("xyscales", "greater than 0", "received -0.5")),
        ("scale", {"dscales": [], "xyscales": []}, ("both empty",)),
    ],
)
def test_bad_change_is_refused(workshop, refused, name, changes, words):
    """Angles, filling and factors that make no sense are named in one line."""
    store(workshop, rough(2))
    refused(name, words, **changes)


@pytest.mark.parametrize("second", ["o.npy", "./o.npy"])
def test_one_name_for_both_outputs_is_refused(workshop, second):
    """HR and LR cannot share a file. In a process of its own: two maps of one file may crash."""
    store(workshop, rough())
    before = workshop.snapshot(workshop.folder / "train")
    content = {"train_dir": str(workshop.folder / "train"), "train_savedata": ["o.npy", second]}
    path = workshop.folder / "flip.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sr_dataset_builder.flip", path],
        cwd=Path(flip.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    workshop.result(done.returncode, done.stdout, done.stderr).refused("train_savedata", "o.npy")
    assert workshop.snapshot(workshop.folder / "train") == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_unequal_files_are_refused(workshop, refused, name):
    """An LR file with fewer images than the HR file is no set of pairs; both counts are named."""
    store(workshop, rough())
    workshop.edit_pickle(workshop.folder / "train" / "data_LR.pkl", lambda imgs: imgs[:4])
    refused(name, ("data_HR.pkl has 5", "data_LR.pkl has 4"))


def test_missing_key_and_missing_file_are_named(workshop, run_program):
    """A file without `train_savedata`, and no file at all, end in one line each."""
    path = workshop.folder / "flip.yml"
    path.write_text("train_dir: train\n")
    run_program(flip.main, path).refused("train_savedata is missing")
    run_program(flip.main, workshop.folder / "none.yml").refused("none.yml: no such file")


def test_evil_pickle_is_not_executed(workshop, run_program):
    """A pickle with code in it is refused by name and leaves no trace."""
    store(workshop, rough())
    trace = workshop.evil_pickle(workshop.folder / "train" / "data_LR.pkl")
    start(workshop, run_program, "flip").refused("data_LR.pkl", "never executed")
    assert not trace.exists()


# --- test_da -----------------------------------------------------------------------------------


def test_picture_is_written(workshop, run_program):
    """`data_HR.pkl` makes `data_HR_da.png` beside it, wide enough to be read."""
    store(workshop, rough(3))
    source = workshop.folder / "train" / "data_HR.pkl"
    result = run_program(test_da.main, source)
    assert result.code == 0, result.err
    picture = source.with_name("data_HR_da.png")
    assert str(picture) in result.out
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert min(width, height) >= 800
    run_program(test_da.main, source)
    assert picture.read_bytes() == content


def test_picture_shows_every_kind_with_its_slope():
    """Each copy has its own labelled plot with its true slope."""
    figure = test_da.draw(plane(20).astype(np.float32), 50.0, "a plane")
    plots = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title().splitlines() for ax in plots]
    labels = [title[0] for title in titles]
    assert len(labels) == len(set(labels)) >= 12
    assert labels[0] == "original"
    for word in ("up-down", "left-right", "both", "30°", "nearest", "reflect", "wrap", "depth ×"):
        assert any(word in label for label in labels), word
    # 10 m an LR pixel of 200 m.
    slopes = {
        label: float(title[1].split()[2]) for label, title in zip(labels, titles, strict=True)
    }
    assert slopes["original"] == slopes["both"] == pytest.approx(0.05, abs=5e-4)
    assert slopes["depth × 0.5"] == pytest.approx(0.025, abs=5e-4)
    np.testing.assert_array_equal(plots[0].images[0].get_array(), plane(20)[0, ..., 0].astype("f4"))


@pytest.mark.parametrize("relief", [5.0, 10.0])
def test_relief_of_a_deep_patch_is_seen(relief):
    """At -2000 m a patch with 150 m of relief still spans a third of its colours.

    Multiplied depths lie a thousand metres away; one scale over all would leave flat colours.
    """
    figure = test_da.draw(plane(20, relief).astype(np.float32), 50.0, "a deep plane")
    plots = [ax for ax in figure.axes if ax.images and "depth" not in ax.get_title()]
    assert len({ax.images[0].get_clim() for ax in plots}) == 1
    low, high = plots[0].images[0].get_clim()
    assert np.ptp(plots[0].images[0].get_array()) > (high - low) / 3


@pytest.mark.parametrize(("index", "shown"), [(None, 2), (0, 0), (-1, 3)])
def test_the_image_can_be_chosen(workshop, run_program, monkeypatch, index, shown):
    """The steepest image is drawn unless --index names another, from the end if negative."""
    hr, _ = store(workshop, np.concatenate([plane(10, r) for r in (3.0, 5, 30, 8)]))
    drawn = []
    monkeypatch.setattr(test_da, "draw", lambda img, *_: drawn.append(img))
    monkeypatch.setattr(test_da, "save_figure", lambda *_: None)
    options = [] if index is None else [f"--index={index}"]
    source = workshop.folder / "train" / "data_HR.pkl"
    assert run_program(test_da.main, source, *options).code == 0
    np.testing.assert_array_equal(drawn[0], hr[shown][None])


def test_name_of_the_picture_can_be_chosen(workshop, run_program, monkeypatch):
    """-o names the picture."""
    store(workshop, rough(1))
    written = []
    monkeypatch.setattr(test_da, "save_figure", lambda figure, name: written.append(str(name)))
    source = workshop.folder / "train" / "data_LR.pkl"
    assert run_program(test_da.main, source, "-o", "a.png").code == 0
    assert written == ["a.png"]


@pytest.mark.parametrize("spoil", ["flat", "one gap"])
def test_flat_and_incomplete_images_are_drawn(workshop, run_program, spoil):
    """A constant image and one with a missing pixel make a picture, too, without a warning."""
    hr = np.full((1, 64, 64, 1), -30.0) if spoil == "flat" else np.concatenate([rough(1)] * 2)
    if spoil == "one gap":
        hr[0, 5, 5] = np.nan
    store(workshop, hr)
    source = workshop.folder / "train" / "data_HR.pkl"
    assert run_program(test_da.main, source, "--index", "0").code == 0
    assert source.with_name("data_HR_da.png").stat().st_size > 10_000


def test_a_gap_in_every_image(workshop, run_program):
    """If no image is complete the program still says so in one line, or draws one."""
    hr = rough(2)
    hr[:, 7, 7] = np.nan
    store(workshop, hr)
    result = run_program(test_da.main, workshop.folder / "train" / "data_HR.pkl")
    assert "Traceback" not in result.err
    assert result.code == 0 or result.messages[0].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.pkl"], ("nowhere.pkl: no such file",)),
        (["data_HR.pkl", "--index", "5"], ("--index must be", "received 5")),
        (["data_HR.pkl", "--index=-6"], ("--index must be", "received -6")),
    ],
)
def test_picture_of_nothing_is_refused(workshop, run_program, arguments, words):
    """A missing file and a number beyond the last image end in one line."""
    store(workshop, rough())
    source = workshop.folder / "train" / arguments[0]
    run_program(test_da.main, source, *arguments[1:]).refused(*words)
    assert not source.with_name("data_HR_da.png").exists()
