"""CD-SEM through the command line: simulate, train, test, resume, use; what is refused and how."""

import contextlib
import json
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from sr_dataset_builder.simulate_sem import main as simulate
from sr_trainer.search_settings import Search
from sr_trainer.search_trial import check_search
from toolbox.errors import ConfigError
from toolbox.plotter import Plotter
from toolbox.tasks.sem import report as sem_report
from toolbox.tasks.sem.denoise import gaussian, noise_of
from toolbox.tasks.sem.evaluate import METHODS
from toolbox.tasks.sem.judge import SemTest
from toolbox.tasks.sem.metrology import find_lines
from toolbox.tasks.sem.pixel_size import PixelSize
from toolbox.tasks.sem.sem_image import (
    open_sem_stack,
    read_sem_image,
    write_sem_image,
    write_sem_stack,
)
from toolbox.tasks.sem.source import SEMSource
from toolbox.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_figures")

SPHERES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sem" / "kriss_spheres"
PIXEL_NM = 0.8
#: Small frames with so little noise that every line is found; two pictures of a sweep of CDs.
SIMULATION = {
    "frame_shape": [64, 128],
    "pixel_nm": PIXEL_NM,
    "lines": {"pitch_nm": [30, 34], "cd_nm": [13, 18], "sigma_nm": 0.4, "xi_nm": 10, "alpha": 0.5},
    "noise": {"peak_counts": 60, "high_frames": 32, "drift_px": 0.2, "pair_offset_px": 2},
    "train": {"count": 6},
    "validation": {"count": 2},
    "test": {
        "count": 2,
        "lines": {"pitch_nm": 32, "cd_nm": 16},
        "cd_sweep_nm": [12, 20],
        "sweep_count": 1,
        "averages": [2, 8],
    },
}
#: Without a word about optimizer, schedule, normaliser, loss or metrics.
RUN = {
    "source": "sem",
    "model": "simplesrnet",
    "simplesrnet": {"filters": 4, "num_layers": 2},
    "sem": {"patch_size": 32, "repeats": 2},
    "batch_size": 3,
    "epochs": 2,
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
    "metrology": {"pictures": 1},
}
#: What compiles in a moment, for runs whose loss does not matter.
QUICK = {"loss": "mae", "metrics": "psnr", "monitor_metric": "val_psnr"}
TABLES = ("cd_bias_nm", "cd_bias_ci95_nm", "unbiased_lwr_error_percent", "cd_slope")


def configure(shop, name="run.yml", **changes):
    """Write `RUN` with some keys changed; null leaves one out. log_dir is the name less .yml."""
    path = shop.folder / name
    content = {"data_dir": shop.data_dir, "log_dir": path.with_suffix(""), **RUN, **changes}
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in content.items() if v is not None}
    path.write_text(yaml.safe_dump(plain))
    return path


def done(shop, mode, name="run.yml", **changes):
    """Train or test, which must succeed; return what was printed."""
    result = shop.run(configure(shop, name, **changes), mode)
    assert result.code == 0, result.err
    return result.out


def refused(name):
    raise AssertionError(f"{name} is no number that JSON knows")


def summary_of(log):
    """Read a summary as strictly as a program in another language would."""
    text = (log / "test_result" / "summary.json").read_text()
    return json.loads(text, parse_constant=refused)


def report_of(log):
    """Return the page of a test, which must be whole."""
    page = (log / "test_result" / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    return page


def end_of(log):
    """Return all that a run ended with, bit by bit: state of the training and history."""
    state = load_checkpoint(log / "checkpoint")
    arrays = [(array.dtype, array.tobytes()) for array in state.arrays]
    return state.epoch, state.step, arrays, (log / "history.csv").read_bytes()


def weights_of(path):
    """Return every array of a weights file as bytes; the names in it count the layers made."""
    arrays = []

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            arrays.append(item[()].tobytes())

    with h5py.File(path) as stored:
        stored.visititems(collect)
    assert len(arrays) >= 4
    return arrays


def edit_pictures(data, edit, kinds="*", suffix=".tif"):
    """Replace every picture of a data set by ``edit(pixels)``."""
    for path in sorted(data.glob(f"*/{kinds}/*.tif")):
        image = read_sem_image(path)
        path.unlink()
        pixels = np.ascontiguousarray(edit(image.pixels))
        factor = image.pixels.shape[1] / pixels.shape[1] if kinds == "low" else 1
        size = None if suffix == ".png" else factor * image.pixel_nm
        write_sem_image(path.with_suffix(suffix), pixels, size)


def keep_pictures(data, count):
    """Leave only the first pairs of the test."""
    for path in data.glob("test/*/line_*"):
        if int(path.stem.removeprefix("line_")) > count:
            path.unlink()


def make_data(shop, name, **changes):
    """Simulate a data set; return its folder."""
    path = shop.folder / f"{name}.yml"
    path.write_text(yaml.safe_dump({**SIMULATION, "save_dir": str(shop.folder / name), **changes}))
    simulate([str(path)])
    return shop.folder / name


@pytest.fixture(scope="module")
def data(tmp_path_factory, open_workshop):
    """Six, two and four simulated pairs; read-only."""
    return make_data(open_workshop(tmp_path_factory.mktemp("sem"), Path()), "data")


@contextlib.contextmanager
def undrawn():
    """Leave out the pictures of a training within this block."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("plot_history_graph", "plot_test_imgs"):
            patch.setattr(Plotter, method, lambda *arguments, **options: None)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Pictures of the report are empty files in this test."""
    monkeypatch.setattr(sem_report, "save_figure", lambda figure, path, dpi: path.write_bytes(b""))


@pytest.fixture
def shop(tmp_path, data, open_workshop):
    """A folder for one test, with the simulated data."""
    return open_workshop(tmp_path, data)


@pytest.fixture
def own(shop):
    """The same with a copy of the data, to be changed."""
    shop.data_dir = Path(shutil.copytree(shop.data_dir, shop.folder / "data"))
    return shop


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, open_workshop):
    """Log folder of a run with the defaults of the source, trained and tested; read-only."""
    shop = open_workshop(tmp_path_factory.mktemp("runs"), data)
    log = shop.folder / "finished"
    with undrawn():
        (shop.folder / "trained.txt").write_text(done(shop, "train", "finished.yml"))
    (shop.folder / "tested.txt").write_text(done(shop, "test", "finished.yml"))
    return log


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, open_workshop):
    """Log folder of a quick run, never interrupted; read-only."""
    shop = open_workshop(tmp_path_factory.mktemp("whole"), data)
    with undrawn():
        done(shop, "train", **QUICK)
    return shop.folder / "run"


def judged_again(shop, finished, name="run.yml", **changes):
    """Test the finished network with other data or settings; return summary and text."""
    changes = {"fname_model_weights": str(finished / "weights_best.h5"), **changes}
    out = done(shop, "test", name, **changes)
    return summary_of((shop.folder / name).with_suffix("")), out


# -- One run ---------------------------------------------------------------------------------------


def test_the_source_brings_its_defaults(finished):
    """config.yml shows what a file without these keys means with ``source: sem``."""
    config = yaml.safe_load((finished / "config.yml").read_text())
    assert config["optimizer"] == "adamw"
    assert config["learning_rate"] == 2e-4
    assert (config["lr_schedule"]["name"], config["lr_schedule"]["final"]) == ("cosine", 0.01)
    assert config["normalizer"]["name"] == "symmetric"
    assert config["metrics"] == ["psnr", "ssim", "cdloss"]
    assert (config["monitor_metric"], config["monitor_mode"]) == ("val_cdloss", "min")
    assert config["loss"] == {"mae": 1, "one_minus_ssim": 0.1, "edgeloss": 0.05, "cdloss": 0.5}
    assert (config["scale"], config["input_shape"]) == (1, [32, 32, 1])


def test_training_leaves_history_weights_and_pairs(finished):
    """A row for each epoch, the best weights under both names, what was found out about pairs."""
    history = pd.read_csv(finished / "history.csv")
    assert len(history) == 2
    assert {"val_psnr", "val_ssim", "val_cdloss"} <= set(history.columns)
    assert np.isfinite(history[["val_psnr", "val_ssim", "val_cdloss"]].to_numpy()).all()
    best = (finished / "weights_best.h5").read_bytes()
    assert (finished / "best_model_on_val_cdloss.h5").read_bytes() == best
    pairs = pd.read_csv(finished / "pairs.csv")
    assert pairs["split"].to_list() == ["train"] * 6 + ["validation"] * 2
    assert pairs["aligned"].all()
    known = json.loads((finished / "validity.json").read_text())
    assert known["pictures"] == 6
    assert known["ranges"]["pixel_nm"] == [PIXEL_NM, PIXEL_NM]


def test_the_final_evaluation_is_the_best_epoch(finished):
    """The line at the end of the training has the figures of the best row of the history."""
    lines = (finished.parent / "trained.txt").read_text().splitlines()
    history = pd.read_csv(finished / "history.csv")
    best = history.iloc[history["val_cdloss"].argmin()]
    figures = [f"val_{name} {best[f'val_{name}']:.4g}" for name in ("psnr", "ssim", "cdloss")]
    assert lines[-1].startswith("best model (epoch ")
    assert lines[-1].endswith("monitored val_cdloss): " + ", ".join(figures))


def test_the_summary_judges_every_method(finished):
    """Bias, interval, roughness and slope of all four methods, in numbers that JSON knows."""
    summary = summary_of(finished)
    for table in TABLES:
        assert list(summary[table]) == list(METHODS)
        assert all(isinstance(value, float) for value in summary[table].values())
    assert (summary["measured"], summary["n"], summary["pixel_nm"]) == ("lines", 4, PIXEL_NM)
    assert summary["cd_slope"]["raw"] == pytest.approx(1, abs=0.05)
    assert set(summary["filters"]) == {"gaussian", "non_local_means"}


def test_all_files_of_a_test_are_there(finished):
    """Report, tables, drawings and the restored pictures of the type of the files."""
    folder = finished / "test_result"
    names = {path.name for path in folder.iterdir() if path.is_file()}
    tables = {"summary.json", "pictures.csv", "psd.csv", "frames.csv", "alignment.csv"}
    assert tables | {"report.html", "cd.png", "psd.png", "frames.png"} <= names
    assert sum(name.startswith("comparison_") for name in names) == 1
    assert report_of(finished).count("data:image/png;base64,") >= 4
    assert len(pd.read_csv(folder / "pictures.csv")) == 4 * len(METHODS)
    assert len(pd.read_csv(folder / "alignment.csv")) == 4
    restored = sorted((folder / "restored").iterdir())
    assert [path.name for path in restored] == [f"line_000{n}.tif" for n in (1, 2, 3, 4)]
    for path in restored:
        image = read_sem_image(path)
        assert (image.bits, image.pixel_nm) == (8, PIXEL_NM)
    assert "CD bias ± 95 % (nm)" in (finished.parent / "tested.txt").read_text()


def test_bias_is_what_the_files_say(finished, data):
    """The bias of the raw pictures, measured anew from the TIFF files and the true edges."""
    biases = []
    for frame in SEMSource(str(data)).frames("test")[:2]:  # the others are the sweep
        row, column = (int(offset) for offset in frame.offset_px)
        part = np.s_[row : row + frame.low.shape[0], column : column + frame.low.shape[1]]
        with np.load(data / "test" / "truth" / f"{frame.path.stem}.npz") as content:
            left, right = (content[name][:, part[0]] - column for name in ("left_px", "right_px"))
        inside = (left.min(axis=1) > 3) & (right.max(axis=1) < frame.low.shape[1] - 4)
        lines = list(zip(left.mean(axis=1)[inside], right.mean(axis=1)[inside], strict=True))
        assert len(lines) >= 2
        low, clean = (
            find_lines(read_sem_image(data / "test" / kind / frame.path.name).pixels[part], 0.5, n)
            for kind, n in (("low", lines), ("noise_free", lines))
        )
        biases.append(PIXEL_NM * np.nanmean(low.width_px - clean.width_px))
    assert summary_of(finished)["cd_bias_nm"]["raw"] == pytest.approx(np.mean(biases), abs=1e-6)


@pytest.mark.parametrize("tolerance_nm", [1e-9, 100])
def test_do_no_harm_follows_the_tolerance(own, finished, tolerance_nm):
    """The same pictures are harmed or not by what the settings allow; the figures stay."""
    keep_pictures(own.data_dir, 2)
    metrology = {"pictures": 0, "tolerance_nm": tolerance_nm}
    summary, out = judged_again(own, finished, metrology=metrology)
    gate = summary["do_no_harm"]
    # A network of two epochs may lose edges, too, which no tolerance excuses.
    too_much = [reason for reason in gate["reasons"] if reason.endswith(" nm")]
    assert len(too_much) == (1 if tolerance_nm < 1 else 0)
    assert (gate["largest_likely_cd_change_nm"] > tolerance_nm) == bool(too_much)
    assert gate["verdict"] == ("fail" if gate["reasons"] else "pass")
    assert f"Do no harm: {gate['verdict'].upper()}" in out
    table = pd.read_csv(finished / "test_result" / "pictures.csv")
    names = ["line_0001.tif", "line_0002.tif"]
    rows = table[table["name"].isin(names) & (table["method"] == "restored")]
    expected = rows["cd_bias_nm"].mean()
    assert summary["cd_bias_nm"]["restored"] == pytest.approx(expected, abs=1e-9)


def test_the_noise_of_the_filters_is_measured():
    """White noise is found to 2 %, beside flat parts and a slope too; a flat picture has none."""
    noise = np.random.default_rng(0).normal(0, 7, (200, 260))
    slope = np.linspace(0, 100, 260)
    for image in (noise, noise + slope, np.hstack([noise + 100, np.full((200, 300), 255.0)])):
        assert noise_of(image) == pytest.approx(7, rel=0.02)
    assert noise_of(np.full((20, 20), 9.0)) == noise_of(np.zeros((20, 20))) == 0


# -- The same bytes --------------------------------------------------------------------------------


def test_one_seed_gives_one_result(shop, finished):
    """With all losses of the source, twice the same seed is twice the same run."""
    done(shop, "train")
    log = shop.folder / "run"
    assert end_of(log) == end_of(finished)
    for name in ("weights_best.h5", "weights_last.h5"):
        assert weights_of(log / name) == weights_of(finished / name)


def test_frames_on_demand_give_the_same_run(shop, whole):
    """``in_memory: false`` reads every frame when it is needed; nothing else changes."""
    done(shop, "train", **QUICK, sem={**RUN["sem"], "in_memory": False})
    assert end_of(shop.folder / "run") == end_of(whole)


@pytest.mark.parametrize("steps", [3, 6], ids=lambda n: f"step {n}")
def test_stopped_and_resumed_is_uninterrupted(shop, whole, stop_after, steps):
    """Ctrl-C in either epoch of four steps: the resumed run draws the patches it still has to."""
    stop_after(steps)
    config = configure(shop, **QUICK)
    assert shop.run(config, "train").code == 130
    state = load_checkpoint(shop.folder / "run" / "checkpoint")
    assert (state.epoch, state.step) == divmod(steps, 4)
    assert shop.run(config, "train", "--resume").code == 0
    assert end_of(shop.folder / "run") == end_of(whole)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_changed_pixels_do_not_resume(own, whole, split):
    """One grey value in one picture makes it another training."""
    shutil.copytree(whole, own.folder / "run")
    path = own.data_dir / split / "low" / "line_0002.tif"
    image = read_sem_image(path)
    image.pixels[20, 30] ^= 1
    write_sem_image(path, image.pixels, image.pixel_nm)
    before = own.snapshot(own.folder / "run")
    result = own.run(configure(own, **{**QUICK, "epochs": 3}), "train", "--resume")
    result.refused("training or validation pairs are not those", "data_dir")
    assert own.snapshot(own.folder / "run") == before


def test_resume_where_the_pictures_have_moved(own, whole):
    """Folders, cache and memory are no part of a training: with them changed it goes on."""
    shutil.copytree(whole, own.folder / "run")
    (own.data_dir / "train").rename(own.data_dir / "first")
    folders = {"train_low_dir": "first/low", "train_high_dir": "first/high"}
    sem = {**RUN["sem"], **folders, "in_memory": False, "cache_dir": str(own.folder)}
    config = configure(own, **{**QUICK, "epochs": 3}, sem=sem)
    result = own.run(config, "train", "--resume")
    assert result.code == 0, result.err
    assert len(pd.read_csv(own.folder / "run" / "history.csv")) == 3
    config = configure(own, **{**QUICK, "epochs": 4}, sem={**sem, "repeats": 3})
    own.run(config, "train", "--resume").refused("sem.repeats must be 2", "received 3")


def test_another_pixel_size_does_not_resume(own, whole):
    """A cdloss in other nanometres is another loss; states that do not know their size go on."""
    shutil.copytree(whole, own.folder / "run")
    (own.data_dir / "dataset.json").write_text(json.dumps({"pixel_nm": 1.6}))
    config = configure(own, **{**QUICK, "epochs": 3})
    own.run(config, "train", "--resume").refused("pixel_nm must be 0.8", "received 1.6")
    for path in (own.folder / "run" / "checkpoint").glob("state_*"):
        with np.load(path) as stored:
            content = dict(stored)
        key = next(name for name in content if content[name].tobytes().startswith(b"{"))
        facts = json.loads(content[key].tobytes())
        del facts["pixel_nm"]
        content[key] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(path, **content)
    result = own.run(config, "train", "--resume")
    assert result.code == 0, result.err


# -- Other networks, pictures and settings ---------------------------------------------------------


def test_algo_trains_another_network_beside_the_first(shop):
    """--algo takes its own folder and network, and leaves the file's alone."""
    tiny = {"filters": 4, "num_residual_blocks": 1}
    config = configure(shop, **QUICK, log_dir=None, epochs=1, edsr_light=tiny)
    assert shop.run(config, "train", "--algo", "edsr_light").code == 0
    folders = [path.name for path in shop.folder.iterdir() if path.is_dir()]
    assert folders == ["run_edsr_light_log"]
    trained = yaml.safe_load((shop.folder / folders[0] / "config.yml").read_text())
    assert (trained["model"], trained["edsr_light"]["filters"]) == ("edsr_light", 4)


def test_an_unknown_algo_is_refused(shop):
    """There is no network to fall back on: one line names those that are there."""
    result = shop.run(configure(shop), "train", "--algo", "simplesrnett")
    assert result.code == 2
    result.refused("edgeformer_edsr_light", "rdn", "simplesrnet", "Did you mean 'simplesrnet'?")
    assert [path.name for path in shop.folder.iterdir()] == ["run.yml"]


def test_sixteen_bits(shop):
    """Pictures of 16 bits set the range, and are restored to 16 bits."""
    noise = {**SIMULATION["noise"], "bits": 16}
    shop.data_dir = make_data(shop, "deep", noise=noise, test={"count": 2})
    done(shop, "train", **QUICK)
    done(shop, "test", **QUICK)
    log = shop.folder / "run"
    normalizer = json.loads((log / "normalizer.json").read_text())
    assert (normalizer["ymin"], normalizer["ymax"]) == (0, 65535)
    image = read_sem_image(log / "test_result" / "restored" / "line_0001.tif")
    assert (image.bits, image.pixel_nm) == (16, PIXEL_NM)
    assert image.pixels.max() > 255


def test_horizontal_lines(own):
    """Pictures turned by a quarter are trained on, measured and written as they lie."""
    keep_pictures(own.data_dir, 2)
    edit_pictures(own.data_dir, np.transpose)
    settings = {
        "epochs": 1,
        "loss": "mae",
        "metrics": "cdloss",
        "cdloss": {"lines": "horizontal"},
        "metrology": {"lines": "horizontal", "pictures": 0},
    }
    done(own, "train", **settings)
    done(own, "test", **settings)
    log = own.folder / "run"
    summary = summary_of(log)
    assert abs(summary["cd_bias_nm"]["raw"]) < 0.3
    history = pd.read_csv(log / "history.csv")
    assert (history["val_cdloss"] > 0.01).all()
    height, width = read_sem_image(log / "test_result" / "restored" / "line_0001.tif").pixels.shape
    assert height > width


def test_without_truth_the_long_exposure_is_the_reference(own, finished):
    """Real pictures have no true edges, no noise-free twin, no averages; the report is whole."""
    for folder in own.data_dir.glob("test/*"):
        if folder.name not in ("low", "high"):
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    summary, out = judged_again(own, finished)
    assert abs(summary["cd_bias_nm"]["raw"]) < 0.3
    assert summary["true_lwr_nm"] > 0
    assert summary["cd_bias_nm"]["raw"] != summary_of(finished)["cd_bias_nm"]["raw"]
    assert "reference" in out
    assert "long exposure" in report_of(own.folder / "run")
    result = own.folder / "run" / "test_result"
    assert (result / "psd.csv").is_file()
    assert not (result / "frames.csv").exists()


def test_pixels_of_unknown_size(own, finished):
    """PNG files without dataset.json: a warning, and the same figures in pixels."""
    edit_pictures(own.data_dir, np.array, suffix=".png")
    (own.data_dir / "dataset.json").unlink()
    summary, out = judged_again(own, finished)
    assert "WARNING: the pixel size is not known" in out
    assert "CD bias ± 95 % (px)" in out
    assert "(nm)" not in out
    assert summary["pixel_nm"] is None
    nm = summary_of(finished)["cd_bias_nm"]["raw"]
    assert summary["cd_bias_nm"]["raw"] * PIXEL_NM == pytest.approx(nm, abs=1e-6)
    restored = own.folder / "run" / "test_result" / "restored" / "line_0001.tif"
    assert read_sem_image(restored).pixel_nm is None


def test_pictures_of_half_the_size(shop):
    """At scale 2 the low pictures are enlarged before they are compared."""
    shop.data_dir = make_data(shop, "large", frame_shape=[96, 128], test={"count": 2})
    edit_pictures(shop.data_dir, lambda p: np.rint(block_means(p)).astype(np.uint8), kinds="low")
    settings = {
        **QUICK,
        "model": "edsr_light",
        "edsr_light": {"filters": 4, "num_residual_blocks": 1},
        "simplesrnet": None,
        "scale": 2,
        "sem": {"patch_size": 16},
    }
    done(shop, "train", **settings)
    done(shop, "test", **settings)
    summary = summary_of(shop.folder / "run")
    assert (summary["scale"], summary["pixel_nm"], summary["n"]) == (2, PIXEL_NM, 2)
    assert summary["psnr"]["raw"] > 20
    restored = read_sem_image(shop.folder / "run" / "test_result" / "restored" / "line_0001.tif")
    assert restored.pixel_nm == PIXEL_NM
    assert 80 < restored.pixels.shape[0] <= 96


def block_means(pixels):
    """Return the means of blocks of 2 × 2 pixels."""
    height, width = pixels.shape
    return pixels.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


@pytest.mark.skipif(not SPHERES.is_dir(), reason="the real pictures of spheres are not here")
def test_real_discs(shop):
    """Three real pairs of spheres, one to train, choose and test each: diameters in nm."""
    shop.data_dir = SPHERES
    settings = {
        "loss": {"mse": 1, "cdloss": 0.0002},
        "metrics": "cdloss",
        "cdloss": {"form": "contour"},
        "epochs": 1,
        "batch_size": 2,
        "sem": {
            "train_low_dir": "line/noisy",
            "train_high_dir": "line/clean",
            "shares": [1, 1, 1],
            "file_prefix": ["Line off_01", "Line 50x_01"],
            "patch_size": 32,
            "repeats": 2,
            "data_bar_height": 29,
            "central_crop_height": 438,
            "central_crop_width": 508,
            "cache_dir": str(shop.folder),
        },
        "metrology": {"shape": "discs", "pictures": 0, "gaussian_px": 1.5},
    }
    before = {path: path.stat().st_mtime_ns for path in SPHERES.rglob("*")}
    done(shop, "train", **settings)
    history = pd.read_csv(shop.folder / "run" / "history.csv")
    # An untrained network gives noise back, whose contours lie pixels away.
    assert history["val_cdloss"].between(0.1, 2 * 6 * 5.828).all()
    out = done(shop, "test", **settings)
    summary = summary_of(shop.folder / "run")
    assert (summary["measured"], summary["n"]) == ("discs", 1)
    assert summary["polarity"] == "bright"
    assert summary["discs_found"]["bright"] > 10 > summary["discs_found"]["dark"]
    assert summary["pixel_nm"] == pytest.approx(5.828, abs=1e-3)
    assert abs(summary["cd_bias_nm"]["raw"]) < 2
    assert "Diameter bias" in out
    assert "<html" in report_of(shop.folder / "run")
    assert {path: path.stat().st_mtime_ns for path in SPHERES.rglob("*")} == before


def test_stacks_are_trained_on_and_judged(own):
    """Every page of a stack takes part, by its name, and unequal stacks are refused."""
    for split, name in (("train", 1), ("validation", 1), ("test", 2)):
        low = own.data_dir / split / "low" / f"line_000{name}.tif"
        image = read_sem_image(low)
        pages = [image.pixels, np.minimum(image.pixels, 250), np.maximum(image.pixels, 2)]
        write_sem_stack(low, pages, 3, PixelSize("", image.pixel_nm))
    keep_pictures(own.data_dir, 2)
    settings = {**QUICK, "epochs": 1, "metrology": {"pictures": 0}}
    out = done(own, "train", **settings)
    assert "train/low/line_0001.tif: is a stack; 1 of 12 files are, of 3 pages in all. Every" in out
    log = own.folder / "run"
    names = ["line_0001.tif#1", "line_0001.tif#2", "line_0001.tif#3", "line_0002.tif"]
    pairs = pd.read_csv(log / "pairs.csv")
    assert pairs["low_file"].to_list()[:4] == names
    assert pairs["split"].to_list() == ["train"] * 8 + ["validation"] * 4
    assert "line_0002.tif: is a stack" in done(own, "test", **settings)
    judged = pd.read_csv(log / "test_result" / "pictures.csv")["name"].unique().tolist()
    assert judged == ["line_0001.tif", *(f"line_0002.tif#{n}" for n in (1, 2, 3))]
    restored = {path.name for path in (log / "test_result" / "restored").iterdir()}
    assert restored == {"line_0001.tif", *(f"line_0002#{n}.tif" for n in (1, 2, 3))}
    high = own.data_dir / "train" / "high" / "line_0001.tif"
    write_sem_stack(high, [read_sem_image(high).pixels] * 2, 2)
    own.run(configure(own, "other.yml", **settings), "train").refused(
        "line_0001.tif has 3 pages but", "line_0001.tif has 2", "sem.stacks: mean"
    )


@pytest.mark.parametrize("frames", [4, 1])
def test_frames_without_clean_pictures(shop, frames):
    """Stacks learn from the other frames, lone ones by blind spots; the test has its pairs."""
    splits = {
        name: {"count": count, "stack_frames": frames, "noise": {"drift_px": 1}}
        for name, count in (("train", 4), ("validation", 1))
    }
    shop.data_dir = make_data(shop, "stacks", **splits)
    keep_pictures(shop.data_dir, 2)
    settings = {"sem": {**RUN["sem"], "target": "frames"}, "metrology": {"pictures": 0}}
    out = done(shop, "train", **settings)
    assert ("4 stacks of 4 frames" if frames > 1 else "4 frames are alone") in out
    log = shop.folder / "run"
    history = pd.read_csv(log / "history.csv")
    assert {"loss", "val_loss"} <= set(history) <= {"epoch", "loss", "val_loss", "lr", "time"}
    assert np.isfinite(history[["loss", "val_loss"]].to_numpy()).all()
    pairs = pd.read_csv(log / "pairs.csv")
    assert pairs["high_file"].nunique() == 4
    assert len(pairs) == 5 * frames
    done(shop, "test", **settings)
    summary = summary_of(log)
    # Lone frames cannot tell the strength of plain filters.
    methods = {"raw", "restored"} | ({"gaussian", "non_local_means"} if frames > 1 else set())
    assert set(summary["psnr"]) == methods
    report_of(log)
    if frames == 4:
        # At 60 counts the edges of three frames have little noise; SSIM sees what there is.
        loss = {"mse": 30, "cdloss": 0.1, "one_minus_ssim": 0.1}
        out = done(shop, "train", "other.yml", **settings, epochs=1, loss=loss)
        assert "one_minus_ssim would not be smallest for noise-free pictures. Use mse." in out
        assert "cdloss learns little" not in out
    if frames == 1:
        shop.run(configure(shop, "other.yml", **settings, loss="mae"), "train").refused(
            "loss and metrics must be masked_mse alone", "has one frame only", "received mae"
        )
        (shop.data_dir / "test" / "high").rename(shop.data_dir / "test" / "other")
        shop.run(configure(shop, **settings), "test").refused("has one frame only", "or pairs")


def test_the_loss_of_lines_on_maps(workshop):
    """On maps cdloss finds no line and is refused; its simple form needs none."""
    changes = {"loss": {"mae": 1, "cdloss": 0.1}, "metrics": "psnr", "epochs": 1}
    result = workshop.run(workshop.config(**changes), "train")
    result.refused("cdloss must find edges", "in a range of 2500", "leave cdloss out")
    folder = workshop.train(**changes, cdloss={"form": "gradient"})
    history = pd.read_csv(folder / "history.csv")
    assert np.isfinite(history[["loss", "val_loss"]].to_numpy()).all()


# -- Use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".tif", ".png", "colour"])
def test_predict_restores_pictures(shop, finished, data, kind):
    """A picture comes back with size, depth and pixel size, with the values of the test."""
    frame = SEMSource(str(data)).frames("test")[0]
    image = read_sem_image(frame.path)
    source = shop.folder / f"picture{'.png' if kind == '.png' else '.tif'}"
    if kind == "colour":  # as microscopes write grey pictures
        colour = np.repeat(image.pixels[..., None], 3, axis=2)
        text = json.dumps({"pixel_nm": PIXEL_NM})
        tifffile.imwrite(source, colour, photometric="rgb", description=text, metadata=None)
    else:
        write_sem_image(source, image.pixels, image.pixel_nm)
    result = shop.run(finished, "predict", source)
    assert result.code == 0, result.err
    restored = read_sem_image(source.with_stem("picture_x1"))
    assert (restored.pixels.shape, restored.bits) == (image.pixels.shape, 8)
    assert restored.pixel_nm == (None if kind == ".png" else PIXEL_NM)
    tested = read_sem_image(finished / "test_result" / "restored" / frame.path.name).pixels
    row, column = (int(offset) for offset in frame.offset_px)
    part = restored.pixels[row : row + tested.shape[0], column : column + tested.shape[1]]
    # Two convolutions of 3 × 3 see two pixels beyond the crop of the test.
    difference = (part.astype(int) - tested)[2:-2, 2:-2]
    assert np.abs(difference).max() <= 1


def test_predict_restores_stacks(shop, finished, data):
    """All pages come back, as single pictures would, with the colours and sizes of the file."""
    pages = [read_sem_image(data / "test" / "low" / f"line_000{n}.tif").pixels for n in (1, 2, 3)]
    folder = shop.folder / "pictures"
    write_sem_stack(folder / "a.tif", pages, 3, PixelSize("", 2.0, 3.0), white_is_zero=True)
    tag = "0\r\n\r\nAP_PIXEL_SIZE\r\nPixel Size = 3 nm\r\nAP_WIDTH\r\nWidth = 0.192 \xb5m\r\n"
    extra = [(34118, "B", len(tag), tag.encode("cp1252"), True)]
    for name in "bc":
        tifffile.imwrite(folder / f"{name}.tif", pages[1], metadata=None, extratags=extra)
    deep = np.stack(pages[:2]).astype(np.uint16) * 257
    options = {"imagej": True, "resolution": (0.5, 0.5), "metadata": {"unit": "nm"}}
    tifffile.imwrite(folder / "d.tif", deep, photometric="minisblack", **options)
    write_sem_stack(folder / "e.tif", deep[:1], white_is_zero=True)
    result = shop.run(finished, "predict", folder)
    assert result.code == 0, result.err
    found = shop.folder / "pictures_x1"
    stack = open_sem_stack(found / "a.tif")
    assert (stack.count, stack.size.x_nm, stack.size.y_nm) == (3, 2.0, 3.0)
    assert stack.white_is_zero
    single = read_sem_image(found / "b.tif")
    np.testing.assert_array_equal(stack.image(1).pixels, single.pixels)
    assert not np.array_equal(stack.image(2).pixels, single.pixels)
    assert single.pixel_nm == 1.5
    both = open_sem_stack(found / "d.tif")
    assert (both.count, both.size.x_nm, both.image().bits) == (2, 2.0, 16)
    # Whatever white is stored as, the same picture is seen.
    np.testing.assert_array_equal(read_sem_image(found / "e.tif").pixels, both.image().pixels)
    with tifffile.TiffFile(found / "e.tif") as file:
        assert file.pages.first.photometric == 0
    lines = result.out.splitlines()
    assert any(
        line.startswith(f"{found / 'a.tif'}: 3 frames, 128 × 64 pixels of") for line in lines
    )
    doubts = [line for line in lines if "but it is 3 nm by AP_PIXEL_SIZE" in line]
    assert [line.partition(":")[2].partition(":")[0] for line in doubts] == [f" {folder / 'b.tif'}"]
    assert sum("2 nm wide but 3 nm high" in line for line in lines) == 1
    assert sum("a pixel is 2 nm, by ImageJ." in line for line in lines) == 1

    target = shop.folder / "stated.tif"
    result = shop.run(finished, "predict", folder / "b.tif", "--pixel-nm", "0.8", "-o", target)
    assert "a pixel is taken to be 0.8 nm, by pixel_nm; but it is 1.5 nm by AP_WIDTH" in result.out
    assert read_sem_image(target).pixel_nm == 0.8
    shop.run(finished, "predict", folder / "a.tif", "-o", shop.folder / "a.png").refused(
        "a.png: holds one picture; received 3 frames", "ends in .tif or .tiff"
    )


@pytest.mark.parametrize(
    ("dtype", "largest", "trained", "warned"),
    [
        (np.uint8, 255, (0, 255), False),
        (np.uint16, 4095, (0, 4095), False),
        (np.uint16, 4400, (0, 4095), True),
        (np.uint8, 200, (0, 4095), True),
        (np.uint16, 65535, (0, 255), True),
        (np.uint8, 255, (0, 200), True),
    ],
)
def test_predict_warns_of_other_grey_values(capsys, dtype, largest, trained, warned):
    """What counts is how far the values go, and whether the type could hold the training's."""
    from toolbox.tasks.sem.predict import SemPredictor

    predictor = object.__new__(SemPredictor)
    normalizer = SimpleNamespace(data_min=trained[0], data_range=trained[1])
    predictor.resolver = SimpleNamespace(normalizer=normalizer)
    predictor._check_range(Path("a.tif"), largest, int(np.iinfo(dtype).max))
    assert ("WARNING: a.tif: its grey values" in capsys.readouterr().out) == warned


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Pictures of 12 counts, of 1000 counts and of an inverted one, and the first without noise."""
    folder = tmp_path_factory.mktemp("shown")
    params = SimulationParams(save_dir="nowhere", frame_shape=(128, 160))
    field = LinePicture(np.random.default_rng(5), params, LineParams(sigma_nm=0.8, xi_nm=15))
    still = {"drift_px": 0, "pair_offset_px": 0}
    usual, bright = (
        field.expose(NoiseParams(peak_counts=counts, **still), 1) for counts in (12, 1000)
    )
    for name, pixels in (("a", usual), ("b", bright), ("c", 255 - usual), ("d", bright)):
        write_sem_image(folder / f"{name}.tif", pixels, PIXEL_NM)
    return folder, field.expose(NoiseParams(**still), None)


def test_the_model_that_ships_restores_lines(shop, shown):
    """One command: half the error of a Gaussian filter; what lies outside is told once a kind."""
    folder, clean = shown
    found = shop.folder / "restored"
    result = shop.run("predict", "--pretrained", "sem_lines", folder, "-o", found)
    assert result.code == 0, result.err
    usual, restored = (read_sem_image(at / "a.tif").pixels.astype(float) for at in (folder, found))
    errors = [np.square(image - clean).mean() for image in (restored, gaussian(usual, 1.5))]
    assert errors[0] < 0.5 * errors[1]
    warned = [line for line in result.out.splitlines() if "outside of what the network" in line]
    assert not [line for line in warned if "a.tif" in line]
    doses = [line for line in warned if " dose " in line]
    assert len(doses) == 1  # of b.tif, not again of d.tif
    assert [line for line in warned if "d.tif" in line and "dose" in line and "see above" in line]
    assert f"{folder / 'b.tif'}: " in doses[0]
    assert [line for line in warned if "c.tif" in line and "polarity" in line]


def test_the_model_that_ships_knows_its_range(shop, shown):
    """``inspect --pretrained sem_lines``: a usual picture, one of another dose, another size."""
    folder, _ = shown
    command = ("inspect", "--pretrained", "sem_lines")
    usual = shop.run(*command, folder / "a.tif").out
    assert "verdict: like the pictures that the network was trained on" in usual
    result = shop.run(*command, folder)
    assert "4 files: 1 fit, 0 usable with care, 3 doubtful" in result.out
    coarse = shop.run(*command, folder / "a.tif", "--pixel-nm", "5.8").out
    assert "WARNING size of a pixel: 5.8 nm" in coarse


def test_a_report_of_a_picture_is_refused_with_what_to_use(shop, shown):
    """The option of maps is named, with what to leave out and what reports on a picture."""
    result = shop.run("predict", "--pretrained", "sem_lines", shown[0] / "a.tif", "--report")
    result.refused(
        "--report is for bathymetry; the network was trained for sem. Leave out --report",
        "measure PICTURE -o FOLDER writes a page",
    )


def test_export_of_a_tested_network(shop, finished):
    """A network of pictures becomes ONNX, its test in nm notwithstanding."""
    pytest.importorskip("tf2onnx")
    target = shop.folder / "net.onnx"
    result = shop.run(finished, "export", "--format", "onnx", "-o", target)
    assert result.code == 0, result.err
    assert target.stat().st_size > 0


def write_search(shop, objective):
    """Write a search of one trial over a quick run; return its path."""
    quick = {"loss": "mae", "metrics": "cdloss", "epochs": 1, "metrology": {"pictures": 0}}
    configure(shop, "base.yml", **quick)
    content = {
        "base": "base.yml",
        "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "objective": objective,
        "trials": 1,
        "search_dir": str(shop.folder / "search"),
    }
    path = shop.folder / "search.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_search_by_the_loss_of_lines(shop):
    """A search makes val_cdloss small."""
    from sr_trainer.search_queue import Queue, work
    from sr_trainer.search_trial import run_trial

    search = Search(write_search(shop, "val_cdloss"))
    check_search(search)
    with Queue(search) as queue:
        queue.fill()
        work(search, run_trial)
        (trial,) = queue.trials()
    history = pd.read_csv(next(shop.folder.glob("search/trial_*/log/history.csv")))
    assert trial.values == [pytest.approx(history["val_cdloss"].min(), rel=1e-4)]


def test_search_by_a_figure_in_nanometres(shop):
    """A figure of summary.json can be the objective; one of maps is refused before a trial."""
    check_search(Search(write_search(shop, "validation.edge_error_nm.restored")))
    with pytest.raises(ConfigError, match=r"validation\.all\.sr\.rmse_m.*not a figure"):
        check_search(Search(write_search(shop, "validation.all.sr.rmse_m")))


# -- What is refused -------------------------------------------------------------------------------


def copy_under_another_name(data):
    shutil.copy(data / "train/low/line_0001.tif", data / "train/low/old_line_0001.tif")


def remove_a_partner(data):
    (data / "train/high/line_0002.tif").unlink()


def spoil_a_picture(data):
    (data / "train/high/line_0002.tif").write_bytes(b"II*\0no picture")


def cut_a_pair(data):
    for kind in ("low", "high"):
        path = data / "train" / kind / "line_0002.tif"
        write_sem_image(path, read_sem_image(path).pixels[:60], PIXEL_NM)


def remove_validation(data):
    shutil.rmtree(data / "validation")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (copy_under_another_name, ["line_0001.tif and old_line_0001.tif", "suffix_len"]),
        (remove_a_partner, ["train/low/line_0002.tif", "no partner", "train/high"]),
        (spoil_a_picture, ["train/high/line_0002.tif", "cannot be read"]),
        (cut_a_pair, ["line_0001.tif is 64 × 128", "line_0002.tif is 60 × 128"]),
        (remove_validation, ["validation/low", "no such folder"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_pictures_are_named(own, spoil, words):
    """One line with the files that are meant, and nothing is written."""
    spoil(own.data_dir)
    own.run(configure(own), "train").refused(*words)
    assert not (own.folder / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sem": {"patch_size": 100}}, ["at most 59", "train/low/line_000", "received 100"]),
        ({"sem": {"patch_size": 32, "central_crop_width": 16}}, ["at most 16", "received 32"]),
        ({"sem": {"patch_siz": 32}}, ["unknown key sem.patch_siz", "'patch_size'"]),
        ({"sem": [32]}, ["sem must be a section", "received [32]"]),
        ({"sem": {"patch_size": 32, "shares": [1, 0, 1]}}, ["shares", "validation"]),
        ({"cdloss": {"treshold": 0.4}}, ["unknown key cdloss.treshold", "'threshold'"]),
        ({"cdloss": {"threshold": 4}}, ["cdloss.threshold", "received 4"]),
        ({"cdloss": {"lines": "horizontal"}}, ["metrology.lines must be horizontal", "vertical"]),
        ({"cdloss": {"form": "contour"}}, ["cdloss.form must be width", "received contour"]),
        (
            {"metrology": {"shape": "discs"}},
            ["cdloss.form must be contour for metrology.shape: discs", "received width"],
        ),
        ({"metrology": {"polarity": "grey"}}, ["metrology.polarity", "'auto', 'bright' or 'dark'"]),
        (
            {
                "cdloss": {"form": "contour"},
                "metrology": {"shape": "discs"},
                "norm_range": [0, 65535],
            },
            ["cdloss must find contours", "in a range of 65535", "cdloss.window_px"],
        ),
        ({"norm_range": [0, 65535]}, ["cdloss", "in a range of 65535", "Set norm_range"]),
        ({"metrology": {"shape": "squares"}}, ["metrology.shape", "'lines' or 'discs'"]),
        ({"metrology": {"tolerance": 1}}, ["unknown key metrology.tolerance"]),
        ({"patches": {"a": 1}}, ["patches must be left out", "source: sem"]),
        ({"source": "patches"}, ["sem must be left out", "source: patches"]),
        ({"source": "sam"}, ["source must be one of", "'sam'"]),
        ({"metrics": "psnr", "monitor_metric": "val_ssim"}, ["monitor_metric", "val_psnr"]),
        ({"batch_size": 30}, ["batch_size", "6 pairs × 2 repeats"]),
        ({"scale": 2}, ["line_0001.tif", "at scale 2", "128 × 256"]),
        ({"input_shape": [16, 16, 1]}, ["input_shape", "[32, 32, 1]", "[16, 16, 1]"]),
        ({"data_dir": "nowhere"}, ["data_dir nowhere", "no such folder"]),
    ],
    ids=str,
)
def test_bad_settings_are_named(shop, changes, words):
    """One line with key, value and what is wanted, before anything is written."""
    shop.run(configure(shop, **changes), "train").refused(*words)
    assert not (shop.folder / "run").exists()


def spoil_truth(data):
    (data / "test/truth/line_0001.npz").write_bytes(b"PK\x03\x04 torn")


def shorten_truth(data):
    edges = np.full((2, 5), 20.0)
    np.savez(data / "test/truth/line_0001.npz", left_px=edges, right_px=edges + 9)


def spoil_table(data):
    (data / "test/truth.csv").write_text("picture,kind\nline_0001,lines\n")


def shrink_noise_free(data):
    write_sem_image(data / "test/noise_free/line_0001.tif", np.zeros((20, 20), np.uint8))


def flatten_references(data, numbers=(1, 2, 3, 4)):
    for kind in ("high", "noise_free"):
        for number in numbers:
            path = data / "test" / kind / f"line_000{number}.tif"
            write_sem_image(path, np.full((64, 128), 9, np.uint8))
    shutil.rmtree(data / "test/truth")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_truth, ["truth/line_0001.npz", "left_px and right_px", "simulate again"]),
        (shorten_truth, ["truth/line_0001.npz", "columns"]),
        (spoil_table, ["truth.csv", "name and group"]),
        (shrink_noise_free, ["noise_free/line_0001.tif", "received 20 × 20"]),
        (flatten_references, ["line_0001.tif", "no whole bright vertical line"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_test_pictures_are_named(own, finished, spoil, words):
    """What is wrong beside the pairs of a test is told in one line; no result is left."""
    spoil(own.data_dir)
    config = configure(own, fname_model_weights=str(finished / "weights_best.h5"))
    own.run(config, "test").refused(*words)
    assert not (own.folder / "run" / "test_result").exists()
    assert not (own.folder / "run" / ".test_result.tmp").exists()


def test_pictures_without_lines_are_left_out(own, finished, no_figures):
    """The first of four shows nothing: it is named, and no figure is of it."""
    flatten_references(own.data_dir, [1])
    summary, out = judged_again(own, finished, metrology={"pictures": 4})
    assert (summary["n"], summary["left_out"]) == (3, ["line_0001.tif"])
    note = "1 of 4 pictures are left out of all figures, because their references show no "
    note += "measurable line"
    assert note in " ".join(out.split())
    assert note in report_of(own.folder / "run")
    result = own.folder / "run" / "test_result"
    table = pd.read_csv(result / "pictures.csv")
    assert "line_0001.tif" not in set(table["name"])
    mean = table[table["method"] == "restored"]["psnr"].mean()
    assert summary["psnr"]["restored"] == pytest.approx(mean)
    assert len(list(result.glob("comparison_*.png"))) == 3
    assert (result / "restored" / "line_0001.tif").is_file()


def test_copies_are_one_field(own, finished, no_figures):
    """Four pairs that are copies of one prove no more than one, and the page says so."""
    for kind in ("low", "high"):
        first = own.data_dir / "test" / kind / "line_0001.tif"
        for number in (2, 3, 4):
            shutil.copy(first, first.with_name(f"line_000{number}.tif"))
    for kind in ("truth", "noise_free"):
        shutil.rmtree(own.data_dir / "test" / kind)
    summary, out = judged_again(own, finished, metrology={"pictures": 0})
    assert (summary["n"], summary["fields"]) == (4, 1)
    assert summary["cd_bias_ci95_nm"]["restored"] is None
    assert summary["do_no_harm"]["verdict"] == "fail"
    text = " ".join(out.split())
    assert "4 pictures of lines in 1 field" in text
    assert "one field has no confidence interval" in text
    assert "one field has no confidence interval" in report_of(own.folder / "run")


def test_one_picture_is_in_memory(own, finished, monkeypatch):
    """Of each picture the figures are kept: it is gone, with all its images, before the next."""
    made, seen, most = SemTest._picture, [], []

    def counted(test, *args):
        most.append(sum(image() is not None for image in seen))
        picture = made(test, *args)
        seen.extend(weakref.ref(image) for image in (picture, *picture.images.values()))
        return picture

    monkeypatch.setattr(SemTest, "_picture", counted)
    judged_again(own, finished)
    # Four are measured, and one of them is made again to be shown.
    assert most == [0] * 5
    assert len(list((own.folder / "run" / "test_result" / "restored").iterdir())) == 4
    assert not (own.folder / "run" / ".test_result.tmp").exists()


def test_other_folders_beside_the_pairs_are_passed_over(own, finished):
    """A folder that only looks like averages of N frames is the user's own."""
    keep_pictures(own.data_dir, 1)
    shutil.copytree(own.data_dir / "test/low", own.data_dir / "test/average_old")
    judged_again(own, finished)
    frames = pd.read_csv(own.folder / "run" / "test_result" / "frames.csv")
    assert frames["frames"].to_list() == [2, 8]
