"""Photographs through the command line: train, test, enlarge; what is refused and how."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import skimage.data
import tifffile
import yaml
from PIL import Image, ImageCms
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from toolbox.resize import reduced
from toolbox.tasks.photo.source import PhotoCrops

#: Without a word about shape, normaliser, loss, metrics or augmentation.
RUN = {
    "source": "photo",
    "photo": {"lr_crop": 16, "shares": [6, 1, 2], "validation_crops": 1},
    "model": "edsr_light",
    "edsr_light": {"filters": 4, "num_residual_blocks": 1},
    "bicubic_skip": True,
    "optimizer": "sgd",
    "batch_size": 3,
    "epochs": 1,
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
}
SRGAN = {
    "model": "srgan",
    "srgan": {"filters": 4, "num_residual_blocks": 1, "d_filters": 2},
    "pretrain_epochs": 1,
    "epochs": 2,
    "loss": {"mae": 1, "vgg": 0.006},
    "vgg": {"required": False},
}
#: A profile holds the second in which it was made.
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def write_photos(folder):
    """Write nine photographs of 72 × 64 pixels; one lies deeper and has an awkward name."""
    astronaut = skimage.data.astronaut()
    for i in range(9):
        path = folder / ("in/写真 1.JPG" if i == 8 else f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(astronaut[40 * i : 40 * i + 64, 150:222]).save(path)
    return folder


def configure(shop, name="run.yml", **changes):
    """Write `RUN` with some keys changed; log_dir is the name without .yml."""
    path = shop.folder / name
    content = {"data_dir": shop.data_dir, "log_dir": path.with_suffix(""), **RUN, **changes}
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in content.items() if v is not None}
    path.write_text(yaml.safe_dump(plain))
    return path


def done(shop, *arguments):
    """Run the program, which must succeed; return what was printed."""
    result = shop.run(*arguments)
    assert result.code == 0, result.err
    return result.out


def summary_of(log):
    return json.loads((log / "test_result" / "summary.json").read_text())


@pytest.fixture(scope="module")
def shop(tmp_path_factory, open_workshop):
    """A folder with photographs, for all tests of this module."""
    folder = tmp_path_factory.mktemp("photo")
    return open_workshop(folder, write_photos(folder / "photos"))


@pytest.fixture(scope="module")
def trained(shop):
    """Log folder of a run that was trained and tested."""
    config = configure(shop)
    done(shop, config, "train")
    (shop.folder / "tested.txt").write_text(done(shop, config, "test"))
    return config.with_suffix("")


def test_defaults_are_those_of_the_application(shop):
    """Crops of 128 and 256, ×2, flips and turns, 64 channels, 16 blocks."""
    from toolbox.settings import UserParams

    settings = UserParams(configure(shop, "app.yml", model="srgan", photo=None, edsr_light=None))
    assert settings.input_shape == (128, 128, 3)
    assert (settings.scale, settings.task, settings.monitor_metric) == (2, "photo", "val_psnr")
    assert settings.online_da.valid
    assert settings.online_da.quarter_turn
    assert (settings.srgan["filters"], settings.srgan["num_residual_blocks"]) == (64, 16)
    given = UserParams(configure(shop, "app.yml", model="srgan", srgan={"filters": 8}))
    assert (given.srgan["filters"], given.srgan["num_residual_blocks"]) == (8, 16)


def test_what_a_test_says(trained, shop):
    """Figures of every method, a page, a table with a row for each photograph and method."""
    summary = summary_of(trained)
    assert summary["n"] == 2
    assert set(summary["psnr_y"]) == {"bicubic", "lanczos", "sr"}
    assert summary["psnr_y"]["lanczos"] > summary["psnr_y"]["bicubic"]
    out = (shop.folder / "tested.txt").read_text()
    assert "2 pixels left out at each side" in out
    page = (trained / "test_result" / "report.html").read_text()
    assert "Least gain" in page
    assert "Most gain" in page
    rows = (trained / "test_result" / "photos.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3
    assert len((trained / "photos.csv").read_text().splitlines()) == 1 + 7


def test_a_test_measures_what_predict_writes(trained, shop):
    """The reduced photograph, enlarged as a file, has the PSNR of the table to 1e-4 dB."""
    rows = (trained / "test_result" / "photos.csv").read_text().splitlines()
    name = rows[1].split(",")[0]
    high = np.asarray(Image.open(next(shop.data_dir.glob(f"{name}.*"))))
    Image.fromarray(reduced(high, 2)).save(shop.folder / "low.png")
    done(shop, trained, "predict", shop.folder / "low.png", "-o", shop.folder / "high.png")
    y = [rgb2ycbcr(img[2:-2, 2:-2])[..., 0] for img in (high, read(shop.folder / "high.png"))]
    own = [row.split(",") for row in rows if row.startswith(f"{name},sr")]
    expected = peak_signal_noise_ratio(*y, data_range=255)
    assert float(own[0][2]) == pytest.approx(expected, abs=1e-4)


def read(path):
    return np.asarray(Image.open(path))


def test_files_keep_what_they_have(trained, shop):
    """Turned upright, with alpha, profile, EXIF, resolution and 16 bits; the tree is kept."""
    folder = shop.folder / "mixed"
    (folder / "deep").mkdir(parents=True)
    photo = Image.fromarray(skimage.data.astronaut()[:40, :60])
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "Ada"
    photo.save(folder / "deep" / "turned.jpg", exif=exif, icc_profile=PROFILE, dpi=(300, 300))
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.save(folder / "clear.png")
    photo.convert("L").save(folder / "grey.png")
    sixteen = np.asarray(photo)[..., :3].astype(np.uint16) * 257
    tifffile.imwrite(folder / "sixteen.tif", sixteen)
    (folder / "bad.png").write_bytes(b"")
    result = shop.run(trained, "predict", folder, "-o", shop.folder / "large")
    assert result.code != 0
    assert "1 of 5 files could not be enlarged: bad.png" in result.err
    large = shop.folder / "large"
    with Image.open(large / "deep" / "turned.jpg") as turned:
        assert turned.size == (80, 120)
        assert turned.getexif().get(0x0112, 1) == 1
        assert turned.getexif()[0x013B] == "Ada"
        assert turned.info["icc_profile"] == PROFILE
        assert turned.info["dpi"] == (300, 300)
    assert read(large / "clear.png").shape == (80, 120, 4)
    assert (
        np.abs(read(large / "clear.png")[:, 0, 3].astype(int) - np.linspace(0, 255, 80)).max() < 8
    )
    assert tifffile.imread(large / "sixteen.tif").dtype == np.uint16
    eight = read(large / "clear.png")[..., :3].astype(int)
    assert np.abs(tifffile.imread(large / "sixteen.tif") / 257 - eight).max() <= 0.51
    assert read(large / "grey.png").shape == (80, 120)


def test_tiles_have_no_seams(trained, shop):
    """A photograph in tiles is the photograph as a whole."""
    path = shop.folder / "wide.png"
    Image.fromarray(skimage.data.astronaut()[:90, :70]).save(path)
    for name, more in (("whole", ["--tile", 200]), ("tiled", ["--tile", 16])):
        done(shop, trained, "predict", path, "-o", shop.folder / f"{name}.png", *more)
    np.testing.assert_array_equal(read(shop.folder / "whole.png"), read(shop.folder / "tiled.png"))


def test_a_grey_network_enlarges_colours(shop):
    """Its brightness comes from the network, its colours from bicubic."""
    grey = {**RUN["photo"], "channels": 1}
    config = configure(shop, "grey.yml", photo=grey)
    done(shop, config, "train")
    path = shop.folder / "colour.png"
    Image.fromarray(skimage.data.astronaut()[:40, :40]).save(path)
    done(shop, config, "predict", path, "-o", shop.folder / "colour_x2.png")
    large = read(shop.folder / "colour_x2.png").astype(float)
    rough = np.asarray(Image.open(path).resize((80, 80), Image.Resampling.BICUBIC)).astype(float)
    colour = [img - img.mean(axis=2, keepdims=True) for img in (large, rough)]
    assert np.abs(colour[0] - colour[1])[4:-4, 4:-4].mean() < 2


def test_without_the_weights_of_vgg(shop, monkeypatch, tmp_path):
    """A line says so, once; the adversarial stage trains on, and its page shows the verdicts."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    config = configure(shop, "gan.yml", **SRGAN)
    out = done(shop, config, "train")
    assert out.count("no perceptual loss") == 1
    out = done(shop, config, "test")
    assert "pixel stage" in out
    page = (config.with_suffix("") / "test_result" / "report.html").read_text()
    assert "Discriminator" in page
    assert "The adversarial stage changes PSNR by" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_shape": [8, 8, 3]}, ("input_shape", "[16, 16, 3]", "photo.lr_crop")),
        ({"photo": {"lr_crop": 4}}, ("photo.lr_crop", "4")),
        ({"photo": {"lr_crop": 64}}, ("none of the", "can be used", "photo.lr_crop")),
        ({"photo": {"lr_crop": 16, "downscale": "nearest"}}, ("photo.downscale", "nearest")),
        ({"photo": {"degradation": {"jpeg": [90, 20]}}}, ("photo.degradation.jpeg", "20")),
        ({"batch_size": 100}, ("batch_size", "7 photographs", "photo.repeats")),
        ({"data_dir": "none"}, ("data_dir", "none", "no such folder")),
        ({"photo": {"lr_crop": 16, "lr_dir": "none"}}, ("none", "no such folder")),
    ],
)
def test_mistakes_end_with_a_line(shop, changes, words):
    """Before anything is trained, with the way to fix it."""
    photo = {**RUN["photo"], "shares": [8, 1, 1]}
    shop.run(configure(shop, "wrong.yml", **{"photo": photo, **changes}), "train").refused(*words)
    assert not (shop.folder / "wrong").exists()


def test_quality_is_for_photographs(finished, shop):
    """A map has none."""
    path = shop.folder / "map.npy"
    np.save(path, np.zeros((8, 8), np.float32))
    result = shop.run(finished, "predict", path, "--quality", 50)
    result.refused("quality is for photo", "bathymetry")


def test_a_photograph_that_vanishes(shop):
    """One line and no traceback, although TensorFlow asked for it; the run can be resumed."""
    folder = write_photos(shop.folder / "vanishing")
    photo = {**RUN["photo"], "memory_gb": 1e-9}
    config = configure(shop, "lost.yml", data_dir=folder, photo=photo, epochs=3)
    crops = PhotoCrops.crops

    def vanishing(self, places):
        for path in folder.glob("*.png"):
            path.unlink()
        return crops(self, places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhotoCrops, "crops", vanishing)
        result = shop.run(config, "train")
    assert result.code == 2
    assert "Traceback" not in result.out + result.err
    assert "no such file" in result.err
    assert "--resume" in result.err


def test_folders_of_downscale_are_no_data_set(shop):
    """A photograph and its copy could be in two splits."""
    for name in ("HR", "LR"):
        write_photos(shop.folder / "paired" / name)
    config = configure(shop, "paired.yml", data_dir=shop.folder / "paired")
    shop.run(config, "train").refused("HR and LR of downscale", "photo.lr_dir to ../LR")


def test_a_test_that_will_fail_is_told_before(shop):
    """Training needs no test photographs, but reports a missing split before hours of work."""
    photo = {**RUN["photo"], "shares": [7, 2, 0]}
    out = done(shop, configure(shop, "untested.yml", photo=photo), "train")
    assert "WARNING: a test of this run will fail: photo.shares must leave a photograph" in out


def test_inputs_are_not_replaced(trained, shop):
    """Results of one file may have the name of another."""
    result = shop.run(trained, "predict", shop.data_dir, "-o", shop.data_dir, "--overwrite")
    result.refused("is the folder of the input files", "-o")


def test_equal_is_not_worse(shop):
    """A network that returns bicubic is no warning."""
    config = configure(shop, "equal.yml", learning_rate=1e-12)
    done(shop, config, "train")
    log = config.with_suffix("")
    with h5py.File(log / "weights_best.h5", "a") as file:
        file.visititems(
            lambda _, item: (
                item.write_direct(np.zeros(item.shape, item.dtype))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    out = done(shop, config, "test")
    assert "worse than bicubic" not in out
    assert abs(summary_of(log)["gain_over_bicubic_db"]["mean"]) < 0.01
