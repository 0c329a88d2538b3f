"""A user's mistake gets one clear line and a non-zero exit, and nothing is lost."""

import json
import shutil

import numpy as np
import pytest

from toolbox.training.run_folder import RUN_FILES

#: A few bytes that would be thousands of millions of values.
BOMB = "b0: &b0 [x, x, x]\n" + "".join(
    f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # unknown and misspelt keys
        ({"batchsize": 4}, ("unknown key batchsize", "'batch_size'")),
        ({"fname_model_weigths": None}, ("unknown key", "'fname_model_weights'")),
        ({"espcn": {"filterz": [4, 4]}}, ("unknown key espcn.filterz", "'filters'")),
        ({"srcnn": {"kernel": [9, 1, 5]}}, ("unknown key srcnn.kernel", "'kernels'")),
        ({"online_da": {"horizontal_flips": True}}, ("online_da.horizontal", "_flip'")),
        ({"normalizer": {"nam": "minmax"}}, ("normalizer.nam", "'name'")),
        # wrong types
        ({"epochs": "many"}, ("epochs must be", "'many'")),
        ({"epochs": 1.5}, ("epochs must be", "1.5")),
        ({"epochs": True}, ("epochs must be", "true or false", "True")),
        ({"epochs": None}, ("epochs must be", "None")),
        ({"learning_rate": "fast"}, ("learning_rate must be", "'fast'")),
        ({"input_shape": 16}, ("input_shape must be", "16")),
        ({"input_shape": [4, 4]}, ("input_shape",)),
        ({"norm_range": [1, 2, 3]}, ("norm_range has too many entries",)),
        ({"data_dir": 5}, ("data_dir must be", "5")),
        ({"model": ["espcn"]}, ("model must be", "['espcn']")),
        ({"online_da": 5}, ("online_da must be", "5")),
        ({"online_da": {"valid": "perhaps"}}, ("online_da.valid must be", "'perhaps'")),
        ({"espcn": 64}, ("espcn must be", "64")),
        ({"espcn": {"filters": 64}}, ("espcn.filters must be", "64")),
        ({"espcn": {"filters": [4, "wide"]}}, ("espcn.filters", "'wide'")),
        ({"jit_compile": "perhaps"}, ("jit_compile must be", "'perhaps'")),
        # wrong ranges
        ({"epochs": 0}, ("epochs must be", "received 0")),
        ({"batch_size": -4}, ("batch_size must be", "received -4")),
        ({"batch_size": 13}, ("batch_size must", "12 training pairs", "received 13")),
        ({"learning_rate": 0}, ("learning_rate must be greater than 0",)),
        ({"learning_rate": -0.1}, ("learning_rate must be", "-0.1")),
        ({"learning_rate": float("nan")}, ("learning_rate must be",)),
        ({"scale": 0}, ("scale must be", "received 0")),
        ({"scale": 99}, ("scale must be", "received 99")),
        ({"patience": 0}, ("patience must be", "received 0")),
        ({"log_period": 0}, ("log_period must be", "received 0")),
        ({"seed": -1}, ("seed must be", "received -1")),
        ({"norm_range": [0, -2500]}, ("norm_range must be", "max > min")),
        ({"norm_range": [5, 5]}, ("norm_range must be", "max > min")),
        ({"online_da": {"zoom_range": [1.0, 0.5]}}, ("online_da.zoom_range must be",)),
        ({"online_da": {"zoom_range": [0, 1]}}, ("online_da.zoom_range must be",)),
        ({"online_da": {"rotation_range": 400}}, ("online_da.rotation_range must be", "400")),
        ({"online_da": {"fill_mode": "mirror"}}, ("online_da.fill_mode", "'reflect'", "'mirror'")),
        ({"steps_per_execution": 0}, ("steps_per_execution must be", "received 0")),
        ({"espcn": {"filters": [4, 0]}}, ("espcn.filters", "received 0")),
        ({"espcn": {"filters": [4], "kernels": [3, 3, 3]}}, ("kernels must have one entry more",)),
        ({"espcn": {"activation": "step"}}, ("espcn.activation", "'tanh'", "'step'")),
        ({"fsrcnn": {"m": -1}}, ("fsrcnn.m must be", "-1")),
        ({"normalizer": {"name": "local_mean", "window": 4}}, ("window", "odd", "received 4")),
        ({"normalizer": {"name": "minmax", "window": 5}}, ("window", "minmax")),
        ({"precision": "float8"}, ("precision must be", "'float32'", "'float8'")),
        # losses: a name, or names and weights
        ({"loss": {"mae": 1, "mze": 1}}, ("loss must be one of", "'mse'")),
        ({"loss": {"mae": "much"}}, ("loss must be names with weights that are numbers", "much")),
        ({"loss": {"mae": True}}, ("loss must be names with weights that are numbers",)),
        ({"loss": {"mae": None}}, ("loss must be names with weights that are numbers",)),
        ({"loss": {"mae": -1, "mse": 2}}, ("loss must be names with weights", "at least 0")),
        ({"loss": {"mae": float("inf")}}, ("loss must be names with weights", "at least 0")),
        ({"loss": {"mae": 0}}, ("loss must be at least one loss with a weight above 0",)),
        ({"loss": {}}, ("loss must be at least one loss with a weight above 0",)),
        ({"loss": ["mae", "mse"]}, ("loss must be the name of a loss", "{mae: 1, vgg: 0.006}")),
        ({"loss": None}, ("loss must be the name of a loss", "None")),
        ({"loss": {5: 1}}, ("loss must be one of", "received 5")),
        ({"pretrain_loss": {"mae": -1}}, ("pretrain_loss must be names with weights",)),
        ({"vgg": {"feature": 5}}, ("unknown key vgg.feature", "'feature_index'")),
        ({"loss": "vgg", "vgg": {"feature_index": 22}}, ("vgg.feature_index must be", "22")),
        ({"loss": {"mae": 1, "vgg": 0.006}}, ("at least 32 × 32 pixels", "16 × 16")),
        (
            {"model": "srgan", "pretrain_epochs": 1, "pretrain_loss": "vgg"},
            ("at least 32 × 32 pixels", "16 × 16"),
        ),
        # stages, schedules, averages, resuming
        ({"pretrain_epochs": 1}, ("pretrain_epochs is for a model with a discrim", "espcn")),
        ({"d_learning_rate": 0.1}, ("d_learning_rate is for a model with a discrim", "espcn")),
        ({"model": "srgan", "pretrain_epochs": 3}, ("pretrain_epochs must not exceed", "(2)")),
        ({"model": "srgan", "pretrain_epochs": -1}, ("pretrain_epochs must be", "-1")),
        ({"model": "srgan", "d_learning_rate": 0}, ("d_learning_rate must be", "received 0")),
        ({"lr_schedule": "cosin"}, ("lr_schedule.name must be", "'cosine'", "'cosin'")),
        ({"lr_schedule": "step"}, ("lr_schedule", "step_epochs", "received none")),
        ({"lr_schedule": {"name": "step", "step_epochs": 0}}, ("lr_schedule.step_epochs must",)),
        ({"lr_schedule": {"step_epochs": 3}}, ("without step_epochs for name: constant",)),
        (
            {"lr_schedule": {"name": "cosine", "gamma": 0.1}},
            ("without gamma for name: cosine", "received 0.1"),
        ),
        ({"lr_schedule": {"gamma": 0}}, ("lr_schedule.gamma must be", "received 0")),
        ({"lr_schedule": {"gamma": 1.5}}, ("lr_schedule.gamma must be", "1.5")),
        ({"lr_schedule": {"final": 2}}, ("lr_schedule.final must be", "received 2")),
        ({"lr_schedule": {"warmup_epochs": -1}}, ("lr_schedule.warmup_epochs must be", "-1")),
        ({"lr_schedule": {"warmup": 1}}, ("lr_schedule.warmup", "'warmup_epochs'")),
        ({"clip_norm": 0}, ("clip_norm must be", "received 0")),
        ({"ema": 1}, ("ema must be", "received 1")),
        ({"ema": 0}, ("ema must be", "received 0")),
        ({"collapse_patience": 0}, ("collapse_patience must be", "received 0")),
        ({"checkpoint_minutes": 0}, ("checkpoint_minutes must be", "received 0")),
        ({"resume": "perhaps"}, ("resume must be", "'perhaps'")),
        # sections of adversarial models
        ({"srgan": {"filterz": 4}}, ("unknown key srgan.filterz", "'filters'")),
        ({"esrgan": {"growht": 4}}, ("unknown key esrgan.growht", "'growth'")),
        ({"esrgan": {"dropout_rate": 1}}, ("esrgan.dropout_rate must be", "received 1")),
        ({"esrgan": {"kernel_initializer": "henormal"}}, ("a Keras initializer", "'henormal'")),
        ({"esrgan": {"kernel_initializer": "constant"}}, ("a Keras initializer", "'constant'")),
        ({"esrgan": {"filters": 0}}, ("esrgan.filters must be", "received 0")),
        ({"srgan": {"label_noise": -0.1}}, ("srgan.label_noise must be", "-0.1")),
        ({"srgan": {"loss_weights": [1]}}, ("srgan.loss_weights",)),
        ({"srgan": {"loss_weights": [1, -1]}}, ("srgan.loss_weights", "-1")),
        ({"srgan": {"upsampling": "bicubic"}}, ("srgan.upsampling must be", "'subpixel'")),
        # unknown names
        ({"model": "srcn"}, ("model must be one of", "'srcnn'")),
        ({"model": "esrgann"}, ("model must be one of", "'esrgan'")),
        ({"loss": "mze"}, ("loss must be one of", "'mse'")),
        ({"pretrain_loss": "maee"}, ("pretrain_loss must be one of", "'mae'")),
        ({"optimizer": "adamm"}, ("optimizer must be one of", "'adam")),
        ({"normalizer": "min_max"}, ("normalizer", "'minmax'")),
        ({"source": "patch"}, ("source must be one of", "'patches'")),
        # files and folders
        ({"data_dir": "nowhere"}, ("data_dir nowhere: no such folder", "sr_dataset_builder")),
        ({"fname_model_weights": "nowhere.h5"}, ("nowhere.h5: no such weights file",)),
        ({"input_shape": [8, 8, 1]}, ("input_shape must be", "[4, 4, 1]", "[8, 8, 1]")),
        ({"input_shape": [4, 4, 3]}, ("input_shape must be", "[4, 4, 1]", "[4, 4, 3]")),
        ({"scale": 2}, ("at scale 2", "(8, 8)", "(16, 16)")),
    ],
    ids=lambda value: str(value).replace(" ", "") if isinstance(value, dict) else "",
)
def test_bad_setting_is_refused(workshop, changes, words):
    """A mistake in the YAML ends in one line that names key, value and remedy; nothing is made."""
    config = workshop.config(**changes)
    before = workshop.snapshot()
    workshop.run(config, "train").refused(*words)
    assert workshop.snapshot() == before
    assert not (workshop.folder / "run").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x93NUMPY\xff\xfe\x00", ("not a text file",)),
        (b"data_dir: a\x07b\n", ("not readable as YAML",)),
        (b"", ("expected lines of the form 'key: value'",)),
        (b"- srcnn\n- espcn\n", ("expected lines of the form 'key: value'", "list")),
        (b"model: [espcn\n", ("line 2",)),
        (b"model: espcn\n\tscale: 4\n", ("line 2",)),
        (b"scale: 4\nmodel: espcn\nscale: 2\n", ("line 3", "scale is set twice")),
        (b"? [a, b]\n: 4\n", ("line 1",)),
        (b"4: 5\ndata_dir: a\nmodel: espcn\n", ("4",)),
        (b"model: *espcn\n", ("line 1", "undefined alias")),
        (b"model: espcn\n", ("data_dir is missing", "'data_dir: ...'")),
        (b"data_dir: .\n", ("model is missing", "'model: ...'")),
        (BOMB.encode(), ("its anchors expand to 1.31e+09 values", "Use the anchors less often")),
        (
            (BOMB + "epochs: *b9\n").encode(),
            ("its anchors expand to", "Use the anchors less often"),
        ),
        (b"epochs: &a [1, *a]\n", ("refers to itself",)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_yaml_is_refused(workshop, content, words):
    """A file that is no list of settings is refused with its name and the line."""
    config = workshop.folder / "bad.yml"
    config.write_bytes(content)
    workshop.run(config, "train").refused("bad.yml", *words)


def test_yaml_is_never_executed(workshop):
    """A YAML file that names Python code is refused, and the code is not run."""
    trace = workshop.folder / "executed"
    config = workshop.folder / "evil.yml"
    config.write_text(f"model: !!python/object/apply:os.mkdir ['{trace}']\n")
    workshop.run(config, "train").refused("evil.yml", "line 1")
    assert not trace.exists()


def test_missing_yaml_is_refused(workshop):
    """No such file, or a folder that is no log folder in its place."""
    workshop.run("nowhere.yml", "train").refused("nowhere.yml: no such file")
    workshop.run(workshop.folder, "test").refused("config.yml: no such file")
    (workshop.folder / "x.yml").mkdir()
    workshop.run(workshop.folder / "x.yml", "test").refused("config.yml: no such file")


def nothing_but_nan(imgs):
    """Return the images without a single number."""
    return np.full_like(imgs, np.nan)


def damaged(path, content):
    """Replace a file by bytes."""
    path.write_bytes(content)


SPOILERS = {
    "no validation folder": (
        lambda shop, data: shutil.rmtree(data / "validation"),
        ("validation", "no such file"),
    ),
    "no HR file": (
        lambda shop, data: (data / "train" / "data_HR.pkl").unlink(),
        ("data_HR.pkl", "no such file"),
    ),
    "counts": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_LR.pkl", lambda x: x[:-1]),
        ("data_LR.pkl holds 11 images", "data_HR.pkl holds 12"),
    ),
    "validation counts": (
        lambda shop, data: shop.edit_pickle(data / "validation/data_HR.pkl", lambda x: x[:-1]),
        ("holds 4 images", "holds 3"),
    ),
    "sizes": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_HR.pkl", lambda x: x[:, :15]),
        ("data_HR.pkl", "(16, 16)", "(15, 16)", "scale"),
    ),
    "channels": (
        lambda shop, data: shop.edit_pickle(
            data / "train" / "data_HR.pkl", lambda x: x.repeat(3, axis=3)
        ),
        ("1 channels", "has 3"),
    ),
    "all-NaN HR": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_HR.pkl", nothing_but_nan),
        ("missing",),
    ),
    "all-NaN LR": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_LR.pkl", nothing_but_nan),
        ("missing",),
    ),
    "all-NaN validation": (
        lambda shop, data: shop.edit_pickle(data / "validation/data_HR.pkl", nothing_but_nan),
        ("missing",),
    ),
    "flat": (
        lambda shop, data: [
            shop.edit_pickle(data / "train" / f"data_{kind}.pkl", lambda x: x * 0)
            for kind in ("LR", "HR")
        ],
        ("flat",),
    ),
    "no images": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_LR.pkl", lambda x: x[:0]),
        ("data_LR.pkl", "holds no image"),
    ),
    "five dimensions": (
        lambda shop, data: shop.edit_pickle(data / "train" / "data_LR.pkl", lambda x: x[None]),
        ("data_LR.pkl", "(N, H, W)"),
    ),
    "ragged list": (
        lambda shop, data: shop.edit_pickle(
            data / "train" / "data_LR.pkl", lambda x: [x[0], x[1, :2]]
        ),
        ("data_LR.pkl", "one size"),
    ),
    "words": (
        lambda shop, data: shop.write_pickle(["a", "b"], data / "train" / "data_LR.pkl"),
        ("data_LR.pkl", "array of numbers"),
    ),
    "text file": (
        lambda shop, data: damaged(data / "train" / "data_LR.pkl", b"depth"),
        ("data_LR.pkl",),
    ),
    "empty file": (
        lambda shop, data: damaged(data / "train" / "data_LR.pkl", b""),
        ("data_LR.pkl",),
    ),
    "truncated": (
        lambda shop, data: damaged(
            data / "train" / "data_LR.pkl", (data / "train" / "data_LR.pkl").read_bytes()[:200]
        ),
        ("data_LR.pkl",),
    ),
    "npy of objects": (
        lambda shop, data: np.save(data / "train" / "data_LR.npy", np.array([{}, None])),
        ("data_LR.npy",),
    ),
}


@pytest.mark.parametrize("normalizer", ["minmax", "local_mean"])
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_bad_data_are_refused(workshop, spoiler, normalizer):
    """Data that cannot be used end in one line that names the file; nothing is made or changed."""
    spoil, words = SPOILERS[spoiler]
    spoil(workshop, workshop.own_patches())
    config = workshop.config(normalizer=normalizer, norm_range=None)
    before = workshop.snapshot()
    workshop.run(config, "train").refused(*words)
    assert workshop.snapshot() == before


def test_all_nan_is_refused_with_a_norm_range_too(workshop):
    """With norm_range given the data are not looked at for their range, but still refused."""
    data = workshop.own_patches()
    for kind in ("LR", "HR"):
        workshop.edit_pickle(data / "train" / f"data_{kind}.pkl", nothing_but_nan)
    for normalizer in ("minmax", "local_mean"):
        config = workshop.config(normalizer=normalizer)
        workshop.run(config, "train").refused("every pixel is missing")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (nothing_but_nan, ("every pixel is missing",)),
        (lambda imgs: imgs[:-1], ("holds 5 images", "holds 4")),
        (lambda imgs: imgs[:, :15], ("(16, 16)", "(15, 16)")),
        (lambda imgs: imgs[:0], ("holds no image",)),
    ],
    ids=["all NaN", "counts", "sizes", "no images"],
)
def test_bad_test_data_are_refused(workshop, finished, edit, words):
    """The same holds for the test data: one line, no results, nothing changed."""
    data = workshop.own_patches()
    workshop.edit_pickle(data / "test" / "data_HR.pkl", edit)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    before = workshop.snapshot()
    workshop.run(config, "test").refused(*words)
    assert workshop.snapshot() == before


@pytest.mark.parametrize("mode", ["train", "test"])
def test_an_evil_pickle_is_not_executed(workshop, finished, mode):
    """Data with code in them are refused by name, in training and in testing, and not run."""
    data = workshop.own_patches()
    trace = workshop.evil_pickle(data / mode / "data_HR.pkl")
    config = workshop.config(
        fname_model_weights=str(finished / "weights_best.h5") if mode == "test" else None
    )
    before = workshop.snapshot()
    workshop.run(config, mode).refused("data_HR.pkl", "never executed")
    assert not trace.exists()
    assert workshop.snapshot() == before


def test_images_too_small_for_dssim_are_refused(workshop):
    """HR images below 11 pixels are refused before the log folder is touched."""
    data = workshop.own_patches()
    for path in data.rglob("data_*.pkl"):
        size = 2 if "LR" in path.name else 8
        workshop.edit_pickle(path, lambda x, size=size: x[:, :size, :size])
    config = workshop.config(input_shape=[2, 2, 1])
    before = workshop.snapshot()
    workshop.run(config, "train").refused("at least 11 pixels", "8")
    assert workshop.snapshot() == before


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_loss_that_is_no_number_stops_the_training(workshop, epochs, optimizer):
    """A learning rate of 1e30 ends in one line that says what to lower, and names no lost file."""
    config = workshop.config(learning_rate=1e30, epochs=epochs, optimizer=optimizer)
    result = workshop.run(config, "train")
    result.refused("not a number", "learning_rate", "1e+30")
    named = "weights_best.h5" in result.messages[0]
    assert not named or (workshop.folder / "run" / "weights_best.h5").is_file()


def test_another_run_is_not_overwritten(workshop, finished):
    """A log folder with a run is refused and stays as it is."""
    folder = workshop.folder / "run"
    shutil.copytree(finished, folder)
    before = workshop.snapshot(folder)
    workshop.run(workshop.config(), "train").refused("already holds a run", "--overwrite")
    assert workshop.snapshot(folder) == before


@pytest.mark.parametrize("pattern", [*RUN_FILES, "validity.json", "pairs.csv"])
def test_any_trace_of_a_run_is_enough(workshop, pattern):
    """One file of a run, whichever it is, protects the folder."""
    trace = workshop.folder / "run" / pattern.replace("*", "7")
    trace.parent.mkdir()
    trace.touch()
    workshop.run(workshop.config(), "train").refused("already holds a run", trace.name)
    assert trace.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"data_dir": "nowhere"},
        {"epochs": 0},
        {"batch_size": 1000},
        {"fname_model_weights": "nowhere.h5"},
        {"espcn": {"filters": [4], "kernels": [3, 3, 3]}},
    ],
    ids=str,
)
def test_overwrite_loses_nothing_to_a_mistake(workshop, finished, changes):
    """Until the new run can start, ``--overwrite`` leaves the old one as it is."""
    folder = workshop.folder / "run"
    shutil.copytree(finished, folder)
    before = workshop.snapshot(folder)
    workshop.run(workshop.config(**changes), "train", "--overwrite").refused()
    assert workshop.snapshot(folder) == before


def test_log_dir_that_is_a_file_is_refused(workshop):
    """A file in the place of the log folder is kept."""
    path = workshop.folder / "run"
    path.write_text("notes")
    workshop.run(workshop.config(), "train").refused("run")
    assert path.read_text() == "notes"


def test_testing_without_weights_is_refused(workshop):
    """``test`` before ``train`` says to train first, and makes no folder."""
    config = workshop.config()
    workshop.run(config, "test").refused("no such", "Train first")
    assert not (workshop.folder / "run").exists()


def test_missing_weights_are_named(workshop):
    """A mistyped fname_model_weights is the file that the line names."""
    config = workshop.config(fname_model_weights=str(workshop.folder / "wieghts.h5"))
    workshop.run(config, "test").refused("wieghts.h5", "no such weights file")


def test_missing_read_test_weights_are_named(workshop, finished):
    """So is a mistyped read_test_weights."""
    config = workshop.config(log_dir=str(finished), read_test_weights="weights_77.h5")
    workshop.run(config, "test").refused("weights_77.h5", "no such weights file")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"espcn": {"filters": [5, 4], "kernels": [3, 3, 3]}},
            ("layer conv2d", "(3, 3, 1, 5)", "(3, 3, 1, 4)"),
        ),
        (
            {"espcn": {"filters": [4, 4], "kernels": [3, 5, 3]}},
            ("layer conv2d", "(5, 5, 4, 4)", "(3, 3, 4, 4)"),
        ),
        ({"espcn": {"filters": [4, 4, 4], "kernels": [3, 3, 3, 3]}}, ("another architecture",)),
        ({"model": "fsrcnn"}, ("another architecture", "layer conv2d")),
        ({"model": "srcnn"}, ("another architecture", "layer conv2d")),
    ],
    ids=["filters", "kernels", "layers", "fsrcnn", "srcnn"],
)
def test_weights_of_another_architecture(workshop, finished, mode, changes, words):
    """The first layer that differs is named with both shapes, and nothing is written."""
    weights = workshop.folder / "other" / "weights_best.h5"  # nothing tells how they were trained
    weights.parent.mkdir()
    for name in ("weights_best.h5", "normalizer.json"):
        shutil.copy(finished / name, weights.parent)
    config = workshop.config(fname_model_weights=str(weights), **changes)
    before = workshop.snapshot()
    workshop.run(config, mode).refused("weights_best.h5", *words)
    assert workshop.snapshot() == before


@pytest.mark.parametrize("content", [b"", b"weights", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_damaged_weights_are_refused(workshop, finished, content):
    """A file that is no HDF5 is named in one line."""
    weights = workshop.folder / "other" / "weights_best.h5"
    weights.parent.mkdir()
    weights.write_bytes(content)
    shutil.copy(finished / "normalizer.json", weights.parent)
    config = workshop.config(fname_model_weights=str(weights))
    workshop.run(config, "test").refused("weights_best.h5", "HDF5")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "5",
        '"minmax"',
        "null",
        "{}",
        '{"name": "minmax"}',
        '{"name": "nonsense"}',
        '{"name": ["minmax"]}',
        '{"name": "minmax", "xmin": 0, "xmax": 1, "ymin": 0, "ymax": 1, "zmin": 0}',
        '{"name": "minmax", "xmin": "low", "xmax": "up", "ymin": 0, "ymax": 1}',
        '{"name": "minmax", "xmin": 1, "xmax": 0, "ymin": 0, "ymax": 1}',
        '{"name": "local_mean", "unit": "wide", "window": 5}',
        '{"name": "local_mean", "unit": -1, "window": 5}',
    ],
)
def test_damaged_normalizer_is_refused(workshop, finished, content):
    """A normalizer.json that cannot be used is named in one line."""
    folder = workshop.folder / "run"
    folder.mkdir()
    shutil.copy(finished / "weights_best.h5", folder)
    (folder / "normalizer.json").write_text(content)
    before = workshop.snapshot(folder)
    workshop.run(workshop.config(), "test").refused("normalizer.json")
    assert workshop.snapshot(folder) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"index,slope\n0,1\n1,1\n2,1\n3,1\n4,1\n",
        b"index,mean_slope_gradient\n0,0.1\n",
        b"index,mean_slope_gradient\n0,steep\n1,0.1\n2,0.1\n3,0.1\n4,0.1\n",
        b"\xff\xfe\x00\x01",
        b'index,mean_slope_gradient\n0,"\n',
    ],
    ids=["empty", "no column", "too few", "a word", "binary", "open quote"],
)
def test_damaged_slopes_are_refused(workshop, finished, content):
    """A slope CSV of other images or with other columns is named in one line, and kept."""
    data = workshop.own_patches()
    csv = data / "test" / "data_HR.csv"
    csv.write_bytes(content)
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    workshop.run(config, "test").refused("data_HR.csv")
    assert csv.read_bytes() == content
    assert not (workshop.folder / "run").exists()


def test_a_failed_test_keeps_the_results_of_the_last(workshop, finished):
    """Results of an earlier test stay until new ones are complete."""
    folder = workshop.folder / "run"
    shutil.copytree(finished, folder)
    before = workshop.snapshot(folder)
    data = workshop.own_patches()
    (data / "test" / "data_HR.csv").write_bytes(b"index\n0\n")
    workshop.run(workshop.config(), "test").refused("data_HR.csv")
    assert workshop.snapshot(folder) == before


def test_dataset_json_that_is_damaged_is_named(workshop, finished):
    """The spacing is read from dataset.json; a damaged one is named."""
    data = workshop.own_patches()
    (data / "test" / "data_HR.csv").unlink(missing_ok=True)
    (data / "dataset.json").write_text(json.dumps({"delta_lr_m": 200}))
    config = workshop.config(fname_model_weights=str(finished / "weights_best.h5"))
    workshop.run(config, "test").refused("dataset.json")


@pytest.mark.parametrize("arguments", [["run.yml"], ["run.yml", "predictt"], ["--overwrit"]])
def test_bad_command_line_is_one_line_that_names_the_help(workshop, arguments):
    """A mistake in the command line itself is one line, which names ``--help``, and exit code 2."""
    result = workshop.run(*arguments)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert ": error: " in line
    assert "Traceback" not in line
    assert "--help lists all options" in line


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("value", [3e36, -1e19])
def test_values_that_cannot_be_squared_keep_the_former_run(workshop, split, value):
    """Damaged patches with such a value are refused before the former run is replaced."""

    def spoil(imgs):
        imgs[1, 2, 3] = value
        return imgs

    workshop.own_patches()
    workshop.edit_pickle(workshop.data_dir / split / "data_HR.pkl", spoil)
    config = workshop.config()
    former = config.with_suffix("")
    former.mkdir()
    (former / "weights_best.h5").write_bytes(b"a former run")
    before = workshop.snapshot()
    workshop.run(config, "train", "--overwrite").refused("a value as large as", "NaN")
    assert workshop.snapshot() == before
