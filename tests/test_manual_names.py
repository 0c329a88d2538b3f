"""Every name of the manual's chapters 1 and 2: classes, methods, arguments in order, defaults.

Left out, for a later issue: Loss.vgg of chapter 2. Also left out: Evaluator.X, Y and metric_ops,
which are placeholders of TensorFlow 1.
"""

from __future__ import annotations

import importlib
import inspect
import runpy

import numpy as np
import pytest

REQUIRED = inspect.Parameter.empty
KEYWORDS = object()  # **kwargs

#: 2.2.9 and 2.2.12. Of an argument after others with defaults the manual tells an example only.
CONV2D_BLOCK = [
    "filters",
    ("kernel_size", 3),
    ("strides", 1),
    ("use_bn", True),
    ("kernel_initializer", "he_normal"),
    ("momentum", 0.8),
    ("alpha", 0.2),
]
#: 2.2.10 and 2.2.14: what SRGAN and ESRGAN share.
GAN = {
    "__build__": [],
    "summary": [],
    "compile": ["loss", "optimizer", ("metrics", None)],
    "train_on_batch": [
        "lr_imgs",
        "hr_imgs",
        ("sample_weight", None),
        ("class_weight", None),
        ("reset_metrics", True),
    ],
    "test_on_batch": ["lr_imgs", "hr_imgs", ("sample_weight", None), ("reset_metrics", True)],
    "predict": ["x", "batch_size", ("verbose", 0), ("steps", None)],
}
#: place (module, or module:class) → {function or method: [argument or (argument, default), ...]}.
MANUAL = {
    # 1.2.1
    "sr_dataset_builder.dataset:Dataset": {
        "__init__": ["lr_fname", "hr_fname", "block_shape"],
        "cleansing": ["img", "kernel_size"],
        "block_split": ["base_img", "block_shape", "img_shape", "stride"],
        "rm_nan": ["lr_blocks", "hr_blocks"],
        "train_validation_test_split": ["x", "y", "validation_size", "test_size"],
        "save": ["save_dir"],
    },
    # 1.3
    "sr_dataset_builder.mixup": {
        "Load_csv_norm": [
            "data_csv",
            "target_key",
            "target_data_csv",
            "save_dir",
            "original_image_num",
        ],
        "Load_imgs": ["imgs_file"],
        "mixup_norm": [
            "imgs_HR",
            "imgs_HR_org",
            "imgs_LR",
            "imgs_LR_org",
            "index_high",
            "index_low",
            "train_dir",
            "target_df",
            "target_key",
            "slope_normalized",
        ],
        "get_slope": ["h", ("delta", 50)],
        "get_slope_LR": ["h", "delta"],
        "pick_images": [
            "target_df",
            "save_dir",
            "imgs_HR_mixup",
            "imgs_LR_mixup",
            "original_image_num",
            "target_key",
            "data_csv",
            "increase_rate",
        ],
        "idx_of_the_nearest": ["data", "value"],
        "indices_of_the_nearest": ["data", "value"],
    },
    # 2.2.2 - 2.2.7
    "toolbox.model.layer:Resize": {
        "__init__": ["scale", ("method", "bicubic"), ("trainable", False), ("margin", 0), KEYWORDS],
        "resized_shape": ["input_shape"],
        "call": ["x"],
        "compute_output_shape": ["input_shape"],
        "get_config": [],
    },
    "toolbox.model.layer:Conv2DSubPixel": {
        "__init__": ["scale", ("trainable", False), KEYWORDS],
        "call": ["x"],
        "compute_output_shape": ["input_shape"],
        "get_config": [],
    },
    "toolbox.model.layer:Scale": {
        "__init__": ["factor", ("trainable", False), KEYWORDS],
        "call": ["x"],
        "compute_output_shape": ["input_shape"],
        "get_config": [],
    },
    "toolbox.model.srcnn:SRCNN": {
        "__init__": ["img_shape", "scale"],
        "__build__": [("filters", [32, 16]), ("kernels", [9, 1, 5])],
    },
    "toolbox.model.fsrcnn:FSRCNN": {
        "__init__": ["img_shape", "scale"],
        "__build__": [("d", 56), ("s", 12), ("m", 4)],
    },
    "toolbox.model.espcn:ESPCN": {
        "__init__": ["img_shape", "scale"],
        "__build__": [("filters", [64, 32]), ("kernels", [5, 3, 3])],
    },
    # 2.2.8 - 2.2.10
    "toolbox.model.srgan:Generator": {
        "__init__": ["img_shape", "scale"],
        "_Generator__residual_block": ["filters", "kernel_initializer", ("momentum", 0.8)],
        "_Generator__upsampling_block": ["filters", "kernel_initializer"],
        "__build__": [
            ("filters", 32),
            ("num_residual_blocks", 1),
            ("kernel_initializer", "he_normal"),
            ("momentum", 0.8),
        ],
    },
    "toolbox.model.srgan:Discriminator": {
        "__init__": ["img_shape", "scale"],
        "_Discriminator__conv2d_block": CONV2D_BLOCK,
        "__build__": [
            ("filters", 4),
            ("num_downsampling_blocks", 1),
            ("kernel_initializer", "he_normal"),
            ("momentum", 0.8),
            ("alpha", 0.2),
        ],
    },
    "toolbox.model.srgan:SRGAN": {
        "__init__": ["img_shape", "scale", ("label_noise", 1e-6), ("loss_weight", [1, 1e-7])],
        **GAN,
        "sample_labels": ["batch_size", "noise"],
    },
    # 2.2.11 - 2.2.14
    "toolbox.model.esrgan:Generator": {
        "__init__": ["img_shape", "scale", "filters", "num_residual_blocks"],
        "_Generator__DB": [
            "filters",
            "kernel_initializer",
            "alpha",
            ("kernel_size", 3),
            ("strides", 1),
        ],
        "_Generator__RRDB": ["filters", "kernel_initializer", "alpha", "beta"],
        "_Generator__upsampling_block": ["filters", "kernel_initializer"],
        "__build__": [
            ("filters", 32),
            ("num_residual_blocks", 2),
            ("kernel_initializer", "he_normal"),
            ("alpha", 0.2),
            ("beta", 0.2),
        ],
    },
    "toolbox.model.esrgan:Discriminator": {
        "__init__": ["img_shape", "scale", "d_filters", "d_num_downsampling_blocks"],
        "_Discriminator__conv2d_block": CONV2D_BLOCK,
        "__build__": [
            ("filters", 4),
            ("num_downsampling_blocks", 2),
            ("kernel_initializer", "he_normal"),
            "momentum",
            "alpha",
            ("dropout_rate", 0.4),
        ],
    },
    "toolbox.model.esrgan:RelativisticDiscriminator": {
        "__init__": ["img_shape", "scale", "d_filters", "d_num_downsampling_blocks"],
        "_RelativisticDiscriminator__ra_loss": ["x", ("noise", 1e-6)],
        "__build__": [],
    },
    "toolbox.model.esrgan:ESRGAN": {
        "__init__": ["img_shape", "scale", ("loss_weight", [1, 1e-7]), ("params", None)],
        **GAN,
    },
    # 2.2.15, 2.2.16
    "toolbox.metric:Metric": {"psnr": ["y_true", "y_pred"], "dssim": ["y_true", "y_pred"]},
    "toolbox.loss:Loss": {"psnr": ["y_true", "y_pred"], "dssim": ["y_true", "y_pred"]},
    # 2.2.17 - 2.2.19
    "toolbox.callbacks:ModelLogger": {
        "__init__": ["log_dir", "log_period"],
        "on_epoch_end": ["epoch", "logs"],
    },
    "toolbox.callbacks:HistoryLogger": {
        "__init__": ["log_dir", "log_period"],
        "on_epoch_end": ["epoch", "logs"],
    },
    "toolbox.callbacks:TestLogger": {
        "__init__": ["log_dir", "log_period", "data_generator", "denorm_func", "num_samples"],
        "on_epoch_end": ["epoch", "logs"],
    },
    # 2.2.20 - 2.2.22
    "toolbox.data_loader:DataLoader": {
        "__init__": ["data_dir", "sub_dirs", ("sr_scale", None), ("normalize", False)],
        "train": [],
        "validation": [],
        "test": [],
    },
    "toolbox.data_generator:DataGenerator": {
        "__init__": ["x", "y", "norm_func", "batch_size"],
        "sample": ["num_samples", ("replace", False), ("indices", [])],
        "generator": [],
        "steps_per_epoch": [],
    },
    "toolbox.normalizer:MinMaxNormalizer": {
        "__init__": ["xmin", "xmax", "ymin", "ymax"],
        "normalize": ["imgs", "min", "max"],
        "denormalize_x": ["imgs"],
        "denormalize_y": ["imgs"],
    },
    # 2.2.23, 2.2.24
    "toolbox.evaluator:Evaluator": {
        "__init__": ["img_shape"],
        "evaluate": [
            "x_test",
            "y_test",
            "batch_size",
            "denorm_func_x",
            "denorm_func_y",
            "save_fname",
        ],
    },
    "toolbox.plotter:Plotter": {
        "_Plotter__setup_ax": [
            "ax",
            "xlabel",
            "ylabel",
            ("xscale_log", False),
            ("yscale_log", False),
            ("fontsize", 9),
            ("labelsize", 8),
        ],
        "_Plotter__pair_plot": ["ax", "x", "y", "labels", "color"],
        "plot_history_graph": ["epochs", "logs", "save_fname"],
        "plot_test_imgs": [
            "imgs",
            "labels",
            "save_fname",
            ("figsize", (8, 8)),
            ("fontsize", 9),
            ("labelsize", 8),
            ("textsize", 7),
        ],
    },
    # 2.2.25 - 2.2.31
    "sr_trainer.arg_parser:ArgParser": {"__init__": [], "get_fname": [], "get_mode": []},
    "sr_trainer.initializer:Initializer": {"tf_init": [("log_level", "3"), "seed"]},
    "sr_trainer.user_params:UserParams": {"__init__": ["fname"]},
    "sr_trainer.modeler:Modeler": {"__init__": ["u_params"], "build": [("verbose", 1)]},
    "sr_trainer.trainer:Trainer": {
        "__init__": ["u_params"],
        "reset_weights": ["model"],
        "train": ["model"],
    },
    "sr_trainer.tester:Tester": {
        "__init__": ["u_params"],
        "test": ["model", ("num_samples", 4)],
    },
    "sr_trainer.main:Main": {"__init__": [], "run": []},
}
ROWS = [
    pytest.param(place, method, arguments, id=f"{place.split('.')[-1]}.{method}")
    for place, methods in MANUAL.items()
    for method, arguments in methods.items()
]
BASES = {
    "toolbox.model.layer:Resize": "keras:layers.Layer",
    "toolbox.model.layer:Conv2DSubPixel": "keras:layers.Layer",
    "toolbox.model.layer:Scale": "keras:layers.Layer",
    "toolbox.model.srcnn:SRCNN": "keras:Model",
    "toolbox.model.fsrcnn:FSRCNN": "keras:Model",
    "toolbox.model.espcn:ESPCN": "keras:Model",
    "toolbox.model.srgan:Generator": "keras:Model",
    "toolbox.model.srgan:Discriminator": "keras:Model",
    "toolbox.model.srgan:SRGAN": "keras:Model",
    "toolbox.model.esrgan:Generator": "keras:Model",
    "toolbox.model.esrgan:Discriminator": "keras:Model",
    "toolbox.model.esrgan:RelativisticDiscriminator": "keras:Model",
    "toolbox.model.esrgan:ESRGAN": "keras:Model",
    "toolbox.callbacks:ModelLogger": "keras:callbacks.ModelCheckpoint",
    "toolbox.callbacks:HistoryLogger": "keras:callbacks.CSVLogger",
    "toolbox.callbacks:TestLogger": "keras:callbacks.Callback",
}


def find(place):
    """Import ``module`` or ``module:attribute``."""
    module, _, attribute = place.partition(":")
    target = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        target = getattr(target, part)
    return target


@pytest.mark.parametrize(("place", "method", "arguments"), ROWS)
def test_name_and_arguments(place, method, arguments):
    """The method exists; its first arguments are the manual's, with the manual's defaults."""
    function = inspect.getattr_static(find(place), method)
    signature = inspect.signature(getattr(function, "__func__", function))
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    keywords = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    if KEYWORDS in arguments:
        assert keywords
    wanted = [a if isinstance(a, tuple) else (a, REQUIRED) for a in arguments if a is not KEYWORDS]
    assert [p.name for p in parameters[: len(wanted)]] == [name for name, _ in wanted]
    for parameter, (_, default) in zip(parameters, wanted, strict=False):
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if default is not REQUIRED:
            assert plain(parameter.default) == plain(default)
    # What the manual does not know must not be demanded.
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    further = [p for p in parameters[len(wanted) :] if p.kind not in optional]
    assert [p.name for p in further if p.default is REQUIRED] == []


def plain(value):
    """Compare lists with tuples, and enumerations by their value."""
    return list(value) if isinstance(value, (list, tuple)) else getattr(value, "value", value)


@pytest.mark.parametrize(("place", "base"), BASES.items(), ids=lambda value: value.split(".")[-1])
def test_base_class(place, base):
    """Layers, models and callbacks inherit from the class of Keras that the manual names."""
    assert issubclass(find(place), find(base))


@pytest.mark.parametrize(
    "name",
    [
        "resize",
        "flip",
        "rotate",
        "scale",
        "bathymetric_map_feature",
        "test_da",
        "bathymetric_map_feature_LR",
        "mixup",
    ],
)
def test_utility_programs_run_by_file_name(name, monkeypatch, capsys):
    """§1.3: each is a file of sr_dataset_builder that runs as ``python NAME.py``."""
    module = importlib.import_module(f"sr_dataset_builder.{name}")
    monkeypatch.setattr("sys.argv", [f"{name}.py", "-h"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(module.__file__, run_name="__main__")
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_arg_parser_attributes():
    """§2.2.25: args holds yml_fname and mode, and the getters return them."""
    parser = find("sr_trainer.arg_parser:ArgParser")(["input.yml", "test"])
    assert (parser.args.yml_fname, parser.args.mode) == ("input.yml", "test")
    assert (parser.get_fname(), parser.get_mode()) == ("input.yml", "test")


def test_user_params_attributes(workshop):
    """§2.2.27: every key of the file is an attribute, by its own name."""
    params = find("sr_trainer.user_params:UserParams")(workshop.config())
    names = (
        "input_shape scale data_dir norm_range fname_model_weights batch_size epochs model loss "
        "optimizer learning_rate log_period log_dir patience srcnn espcn online_da "
        "read_test_weights"
    )
    assert [name for name in names.split() if name not in vars(params)] == []
    assert tuple(params.input_shape) == (4, 4, 1)
    assert list(params.espcn["filters"]) == [4, 4]


def test_modeler_attributes(workshop):
    """§2.2.28: the dictionaries of models, layers, losses and optimizers hold the things named."""
    params = find("sr_trainer.user_params:UserParams")(workshop.config())
    modeler = find("sr_trainer.modeler:Modeler")(params)
    assert modeler.u_params is params
    assert modeler.models["srcnn"] is find("toolbox.model.srcnn:SRCNN")
    assert modeler.models["fsrcnn"] is find("toolbox.model.fsrcnn:FSRCNN")
    assert modeler.models["espcn"] is find("toolbox.model.espcn:ESPCN")
    assert modeler.models["srgan"] is find("toolbox.model.srgan:SRGAN")
    assert modeler.models["esrgan"] is find("toolbox.model.esrgan:ESRGAN")
    assert modeler.custom_layers["Resize"] is find("toolbox.model.layer:Resize")
    assert set(modeler.custom_layers) == {"Resize", "Conv2DSubPixel", "Scale"}
    assert modeler.loss_funcs["psnr"] is find("toolbox.loss:Loss.psnr")
    assert {"mae", "mse", "psnr", "dssim", "ssim"} <= set(modeler.loss_funcs)
    assert modeler.optimizers["sgd"] is find("keras:optimizers.SGD")


def test_trainer_attributes(workshop):
    """§2.2.29: settings, normaliser and the two generators, with their own attributes (§2.2.21)."""
    params = find("sr_trainer.user_params:UserParams")(workshop.config())
    trainer = find("sr_trainer.trainer:Trainer")(params)
    assert trainer.u_params is params
    normalizer = trainer.normalizer
    limits = (normalizer.xmin, normalizer.xmax, normalizer.ymin, normalizer.ymax)
    assert limits == (-2500, 0, -2500, 0)
    training, validation = trainer.train_data_generator, trainer.validation_data_generator
    assert isinstance(training, find("toolbox.data_generator:DataGenerator"))
    assert (training.num_imgs, validation.num_imgs) == (12, 4)
    assert training.batch_size == 4
    assert training.lr_imgs.shape == (12, 4, 4, 1)
    assert training.hr_imgs.shape == (12, 16, 16, 1)
    assert training.steps_per_epoch() == 3


def test_tester_attributes(workshop, finished):
    """§2.2.30: settings, normaliser, generator of the test data, evaluator."""
    weights = str(finished / "weights_best.h5")
    config = workshop.config(fname_model_weights=weights)
    params = find("sr_trainer.user_params:UserParams")(config)
    tester = find("sr_trainer.tester:Tester")(params)
    assert tester.u_params is params
    assert isinstance(tester.normalizer, find("toolbox.normalizer:MinMaxNormalizer"))
    assert tester.test_data_generator.num_imgs == 5
    assert isinstance(tester.evaluator, find("toolbox.evaluator:Evaluator"))


def test_callback_attributes(workshop):
    """§2.2.17 to 2.2.19: log_dir and log_period as given, histories empty."""
    folder = str(workshop.folder)
    for name in ("ModelLogger", "HistoryLogger"):
        logger = find(f"toolbox.callbacks:{name}")(folder, 10)
        assert (str(logger.log_dir), logger.log_period) == (folder, 10)
    assert list(logger.epochs) == []
    assert dict(logger.logs) == {}
    trainer = find("sr_trainer.trainer:Trainer")(
        find("sr_trainer.user_params:UserParams")(workshop.config())
    )
    generator = trainer.validation_data_generator
    tester = find("toolbox.callbacks:TestLogger")(folder, 10, generator, abs, 3)
    assert (str(tester.log_dir), tester.log_period, tester.num_samples) == (folder, 10, 3)
    assert tester.data_generator is generator
    assert tester.denorm_func is abs
    assert isinstance(tester.evaluator, find("toolbox.evaluator:Evaluator"))


def test_data_loader_attributes(workshop):
    """§2.2.20: dataset['train'] is the pair that train() returns."""
    sub_dirs = ["train", "validation", "test"]
    loader = find("toolbox.data_loader:DataLoader")(str(workshop.data_dir), sub_dirs)
    for split, count in zip(sub_dirs, (12, 4, 5), strict=True):
        lr, hr = getattr(loader, split)()
        assert lr.shape == (count, 4, 4, 1)
        assert hr.shape == (count, 16, 16, 1)
        np.testing.assert_array_equal(loader.dataset[split][0], lr)


def test_layer_and_model_attributes():
    """§2.2.2 to 2.2.7: scale, method, factor, img_shape and params are kept."""
    resize = find("toolbox.model.layer:Resize")(2)
    assert (resize.scale, plain(resize.method)) == (2, "bicubic")
    assert resize.resized_shape((None, 32, 32, 1)) == (64, 64)
    assert find("toolbox.model.layer:Conv2DSubPixel")(4).scale == 4
    assert find("toolbox.model.layer:Scale")(0.2).factor == pytest.approx(0.2)
    for place in ("srcnn:SRCNN", "fsrcnn:FSRCNN", "espcn:ESPCN"):
        model = find(f"toolbox.model.{place}")((4, 4, 1), 2)
        assert (tuple(model.img_shape), model.scale) == ((4, 4, 1), 2)
        assert tuple(model.output_shape) == (None, 8, 8, 1)
    assert hasattr(find("toolbox.model.srcnn:SRCNN")((4, 4, 1), 2), "params")


def test_adversarial_attributes():
    """§2.2.8 to 2.2.14: the two networks of a GAN are of the classes named; weights as given."""
    parts = {"generator": "Generator", "discriminator": "Discriminator"}
    srgan = find("toolbox.model.srgan:SRGAN")((4, 4, 1), 2)
    assert srgan.label_noise == 1e-6
    esrgan = find("toolbox.model.esrgan:ESRGAN")((4, 4, 1), 2, params={"growth": 4})
    assert isinstance(esrgan.discriminator, find("toolbox.model.esrgan:RelativisticDiscriminator"))
    assert isinstance(
        esrgan.discriminator.discriminator, find("toolbox.model.esrgan:Discriminator")
    )
    assert isinstance(esrgan.generator, find("toolbox.model.esrgan:Generator"))
    for attribute, name in parts.items():
        assert isinstance(getattr(srgan, attribute), find(f"toolbox.model.srgan:{name}"))
    for model in (srgan, esrgan):
        assert list(model.loss_weight) == [1, 1e-7]
        for part in (model, model.generator, srgan.discriminator):
            assert (tuple(part.img_shape), part.scale) == ((4, 4, 1), 2)


def test_adversarial_positional_arguments():
    """§2.2.10 to 2.2.14: calls with the manual's arguments by position do what it says."""
    srgan = find("toolbox.model.srgan:SRGAN")((4, 4, 1), 2, 0.3, [2, 0.5])
    assert (srgan.label_noise, list(srgan.loss_weight)) == (pytest.approx(0.3), [2, 0.5])
    esrgan = find("toolbox.model.esrgan:ESRGAN")((4, 4, 1), 2, [2, 0.5], {"filters": 4})
    assert list(esrgan.loss_weight) == [2, 0.5]
    assert esrgan.generator.layers[1].filters == 4
    lr, hr = np.zeros((2, 4, 4, 1), np.float32), np.zeros((2, 8, 8, 1), np.float32)
    for model in (srgan, esrgan):
        model.compile("mse", "adam", None, run_eagerly=True)
        assert len(model.train_on_batch(lr, hr, None, None, True)) == 5
        assert len(model.test_on_batch(lr, hr, None, True)) == 5
        assert model.predict(lr, 2, 0, None).shape == (2, 8, 8, 1)
    labels = srgan.sample_labels(3, 1e-6)
    assert [tuple(label.shape) for label in labels] == [(3,), (3,)]
    ra_loss = esrgan.discriminator._RelativisticDiscriminator__ra_loss
    assert float(ra_loss((np.zeros((2, 1)), np.zeros((2, 1))))) == pytest.approx(
        2 * np.log(2), 1e-5
    )
