"""Pictures from pictures through the command line: train with baselines, test, draw, export."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from toolbox.tasks.pix2pix.classes import VOID, voc_classes

VOC = voc_classes()
RUN = {
    "source": "voc",
    "voc": {"size": 16, "lists": "official"},
    "model": "pix2pix",
    "pix2pix": {"filters": 4, "depth": 1, "d_filters": 2, "conditional": True},
    "pretrain_epochs": 1,
    "epochs": 2,
    "batch_size": 4,
    "log_period": 1,
    "jit_compile": False,
    "steps_per_execution": 1,
}


def write_voc(folder):
    """Write twelve pictures of 28 × 20 pixels in the layout of VOC 2012, two classes and void."""
    data = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (data / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i:02d}" for i in range(12)]
    for i, name in enumerate(names):
        ids = np.zeros((20, 28), np.uint8)
        ids[4:16, 3 + i : 13 + i] = VOID
        ids[5:15, 4 + i : 12 + i] = 7 if i % 2 else 15
        pixels = 60 + 2 * VOC.encode(ids % VOID).astype(int) // 3
        pixels = np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(data / "JPEGImages" / f"{name}.jpg", quality=95)
        mask = Image.fromarray(ids)
        mask.putpalette(VOC.table.tobytes())
        mask.save(data / "SegmentationClass" / f"{name}.png")
    for file, part in (("train", names[:9]), ("val", names[9:]), ("trainval", names)):
        (data / "ImageSets" / "Segmentation" / f"{file}.txt").write_text("\n".join(part) + "\n")
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


def refused(shop, *arguments):
    """Run the program, which must fail in one line; return the line."""
    result = shop.run(*arguments)
    assert result.code != 0
    assert "Traceback" not in result.err
    return result.err


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def shop(tmp_path_factory, open_workshop):
    """A folder with a data set, for all tests of this module."""
    folder = tmp_path_factory.mktemp("pix2pix")
    return open_workshop(folder, write_voc(folder / "voc"))


@pytest.fixture(scope="module")
def trained(shop):
    """Log folder of a run that was trained with its baselines and tested."""
    config = configure(shop)
    (shop.folder / "trained.txt").write_text(done(shop, config, "train", "--baselines"))
    (shop.folder / "tested.txt").write_text(done(shop, config, "test"))
    return config.with_suffix("")


@pytest.fixture(scope="module")
def summary(trained):
    return json.loads((trained / "test_result" / "summary.json").read_text())


def test_baselines_have_the_same_budget(trained):
    """As many epochs on the same data; L1 never meets the discriminator, softmax learns ids."""
    logs = [trained, trained / "baselines" / "l1", trained / "baselines" / "softmax"]
    histories = [pd.read_csv(log / "history.csv") for log in logs]
    assert [list(history["epoch"]) for history in histories] == [[1, 2]] * 3
    assert histories[0]["d_loss"].notna().any()
    assert "d_loss" not in histories[1]
    # Before the discriminator takes part, both are the same run.
    assert histories[0]["loss"][0] == histories[1]["loss"][0]
    softmax = yaml.safe_load((logs[2] / "config.yml").read_text())
    assert (softmax["model"], softmax["loss"]) == ("unet", "cross_entropy")
    assert softmax["unet"]["out_channels"] == 21
    assert softmax["unet"]["filters"] == RUN["pix2pix"]["filters"]


def test_what_a_test_says(trained, summary, shop):
    """Every method in one table, in the terminal and in the file; the page shows samples."""
    methods = {"network", "l1", "softmax", "majority"}
    assert set(summary["mean_iou"]) == set(summary["pixel_accuracy"]) == methods
    assert summary["n"] == 3
    assert (summary["classes"], summary["classes_in_truth"]) == (21, 3)
    assert set(summary["class_iou"]) == {"background", "car", "person"}
    assert set(summary["difference"]) == methods - {"network"}
    out = (shop.folder / "tested.txt").read_text()
    assert "same U-Net, softmax" in out
    page = (trained / "test_result" / "report.html").read_text()
    assert all(word in page for word in ("Confusion matrix", "IoU of every class", "Samples"))
    table = pd.read_csv(trained / "test_result" / "pictures.csv", dtype={"picture": str})
    assert len(table) == 3 * len(methods)
    assert (trained / "test_2.png").is_file()
    classes = json.loads((trained / "classes.json").read_text())
    assert classes["pixels"][0] > classes["pixels"][7] > 0
    assert classes["void_pixels"] > 0


def test_majority_is_by_hand(summary, shop):
    """Everything is background: as many pixels right as there is of it, IoU 0 for all others."""
    masks = sorted((shop.data_dir / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))[9:]
    ids = np.concatenate([read(mask).ravel() for mask in masks])
    share = (ids == 0).sum() / (ids != VOID).sum()
    assert summary["pixel_accuracy"]["majority"] == pytest.approx(share)
    assert summary["mean_iou"]["majority"] == pytest.approx(share / 3)


def test_a_test_measures_what_predict_writes(trained, shop):
    """The map that --decode writes has the pixels right of the table."""
    data = shop.data_dir / "VOCdevkit" / "VOC2012"
    target = shop.folder / "drawn.png"
    out = done(shop, trained, "predict", data / "JPEGImages" / "10.jpg", "-o", target, "--decode")
    assert "drawn_classes.png" in out
    found, truth = (
        read(path)
        for path in (shop.folder / "drawn_classes.png", data / "SegmentationClass" / "10.png")
    )
    assert read(target).shape == (*truth.shape, 3)
    judged = truth != VOID
    table = pd.read_csv(trained / "test_result" / "pictures.csv", dtype={"picture": str})
    own = table[(table["picture"] == "10") & (table["method"] == "network")]
    right = (found[judged] == truth[judged]).mean()
    assert own["pixel_accuracy"].item() == pytest.approx(right)


def test_a_folder_of_any_pictures(trained, shop):
    """Sizes, grey, 16 bits and transparency; a baseline is used like any run."""
    folder = shop.folder / "any"
    folder.mkdir()
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (33, 47), np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 256, (16, 9, 4), np.uint8)).save(folder / "clear.png")
    drawn = shop.folder / "any_drawn"
    softmax = trained / "baselines" / "softmax"
    done(shop, softmax, "predict", folder, "-o", drawn, "--decode")
    assert read(drawn / "grey.png").shape == (33, 47, 3)
    ids = read(drawn / "clear_classes.png")
    np.testing.assert_array_equal(VOC.encode(ids), read(drawn / "clear.png"))


def test_a_baseline_of_other_settings_is_left_out(trained, shop):
    """A test does not compare runs with another budget, and reports it."""
    config = configure(shop, "longer.yml", epochs=3)
    log = config.with_suffix("")
    done(shop, config, "train")
    (log / "baselines").mkdir()
    for name in ("l1", "softmax"):
        (trained / "baselines" / name).rename(log / "baselines" / name)
    try:
        out = done(shop, config, "test")
    finally:
        for name in ("l1", "softmax"):
            (log / "baselines" / name).rename(trained / "baselines" / name)
    assert "baseline l1 is left out: it was trained with another epochs" in out
    assert "same U-Net" not in out


def test_resuming_adds_baselines(shop):
    """What is complete stays; what is missing is trained."""
    config = configure(shop, "late.yml", epochs=1, pretrain_epochs=0)
    done(shop, config, "train")
    out = done(shop, config, "train", "--resume", "--baselines")
    assert "nothing to resume" in out
    assert "baseline softmax" in out
    assert (config.with_suffix("") / "baselines" / "softmax" / "weights_best.h5").is_file()


def test_pictures_from_pictures(shop):
    """Two folders: the table has the input itself; a plain U-Net has no baselines to train."""
    folder = shop.folder / "pairs"
    rng = np.random.default_rng(2)
    for i in range(10):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((32, 24), Image.Resampling.BICUBIC)
        for part, changed in (("input", image), ("target", Image.eval(image, lambda v: 255 - v))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            changed.save(folder / part / f"{i}.png")
    pairs = {"size": 16, "fit": "crop"}
    config = configure(
        shop,
        "pairs.yml",
        data_dir=folder,
        source="picture_pairs",
        voc=None,
        picture_pairs=pairs,
        model="unet",
        pix2pix=None,
        unet={"filters": 4},
        pretrain_epochs=None,
        ema=0.9,
    )
    done(shop, config, "train")
    out = done(shop, config, "test")
    assert "input itself" in out
    found = json.loads((config.with_suffix("") / "test_result" / "summary.json").read_text())
    truth = 255 - read(folder / "input" / "0.png").astype(float)
    assert set(found["l1"]) == {"network", "input"}
    assert 0 < found["ssim"]["network"] <= 1
    assert truth.shape == (24, 32, 3)
    line = refused(shop, config, "train", "--overwrite", "--baselines")
    assert "--baselines needs a task that compares its network" in line
    line = refused(shop, config.with_suffix(""), "predict", folder / "input", "--decode")
    assert "decode must be false" in line


def test_bad_data(shop):
    """One line each, before a step is done."""
    lonely = shop.folder / "lonely"
    for part, names in (("input", "ab"), ("target", "a")):
        (lonely / part).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (20, 20)).save(lonely / part / f"{name}.png")
    changes = {"source": "picture_pairs", "voc": None, "picture_pairs": {"size": 16}}
    config = configure(shop, "lonely.yml", data_dir=lonely, **changes)
    line = refused(shop, config, "train")
    assert "target: lacks 1 pictures of the other folder: b" in line
    config = configure(shop, "none.yml", data_dir=shop.folder)
    assert "python -m sr_dataset_builder.voc" in refused(shop, config, "train")
    config = configure(shop, "zoom.yml", online_da={"valid": True, "zoom_range": [0.8, 1.2]})
    assert "online_da must not zoom class maps" in refused(shop, config, "train")
