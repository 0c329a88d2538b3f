"""Metrics by name, the figure that is watched, falling rates, sources with settings, --algo."""

import contextlib
import io
import json
import re
import shlex
import sys
import types
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml
from pydantic import Field

from sr_trainer.modeler import Modeler
from sr_trainer.search_settings import Objective, Search
from sr_trainer.search_trial import check_search
from sr_trainer.trainer import Trainer
from sr_trainer.user_params import UserParams
from toolbox.config import Float, read_yaml
from toolbox.data_generator import DataGenerator
from toolbox.data_loader import DataLoader
from toolbox.errors import ConfigError, WeightsError
from toolbox.io.weights import load_weights
from toolbox.registry import LOSSES, METRICS, SOURCES
from toolbox.task import Source, open_source
from toolbox.tasks.bathymetry.source import PatchSource
from toolbox.training.checkpoint import load_checkpoint

#: The worst epoch by PSNR is the first one, the best by the loss is the last one.
WORST_PSNR = {"monitor_metric": "val_psnr", "monitor_mode": "min", "epochs": 3}
PLATEAU = {
    "epochs": 6,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "lr_schedule": {"name": "plateau", "plateau_epochs": 1, "gamma": 0.3, "final": 0.05},
    "monitor_metric": "val_psnr",
    "monitor_mode": "min",
}


def params(shop, name="run.yml", model=None, **changes):
    """Return the checked settings of `TINY_RUN` with some keys changed."""
    return UserParams(shop.config(name, **changes), model=model)


def build(shop, **changes):
    """Return a trainer and its model."""
    trainer = Trainer(params(shop, **changes))
    limits = trainer.normalizer.max_val, trainer.normalizer.min_val
    modeler = Modeler(trainer.u_params, *limits, trainer.steps_per_epoch, trainer.facts)
    return trainer, modeler.build(verbose=0)


def history(folder):
    return pd.read_csv(folder / "history.csv", index_col="epoch")


@pytest.fixture
def rows(monkeypatch):
    """``rows(table, name, attribute)``: another row in a table, for this test."""
    module = types.ModuleType("rows_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(table, name, attribute):
        setattr(module, f"{table.kind}_{name}", attribute)
        monkeypatch.setitem(table._rows, name, f"{module.__name__}:{table.kind}_{name}")

    return add


# Metrics ---------------------------------------------------------------------------------------


def test_metrics_are_the_columns_of_the_history(workshop):
    """`metrics` names them; 1 - SSIM is the SSIM's complement, and l1 is another name of mae."""
    names = {"metrics": ["ssim", "psnr"], "loss": {"one_minus_ssim": 1, "l1": 0}}
    table = history(workshop.train(**names))
    expected = {"loss", "ssim", "psnr", "val_loss", "val_ssim", "val_psnr"}
    assert set(table.columns) == expected
    assert table["val_loss"].to_numpy() == pytest.approx(1 - table["val_ssim"].to_numpy(), abs=1e-6)
    assert LOSSES["l1"] == LOSSES["mae"]


@pytest.mark.parametrize("given", [[], "psnr"])
def test_no_metric_and_one_metric(given, workshop):
    """An empty list is allowed, and a name alone is a list of one."""
    columns = {"loss", "val_loss"} | ({"psnr", "val_psnr"} if given else set())
    assert set(history(workshop.train(metrics=given)).columns) == columns


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["psnr", "snr"]}, "metric.* must be one of .*'snr'"),
        ({"metrics": ["psnr", "psnr"]}, "metrics must be names that differ"),
        ({"metrics": 5}, "metrics must be"),
        ({"monitor_metric": "val_ssim"}, "one of val_loss, val_psnr, val_dssim; received 'val_s"),
        ({"monitor_metric": "loss"}, "monitor_metric must be one of val_loss"),
        ({"model": "srgan", "monitor_metric": "val_x"}, "val_g_loss, val_d_loss, val_d_real"),
        (
            {"model": "srgan", "pretrain_epochs": 2, "monitor_metric": "val_d_real"},
            "one of val_loss, val_psnr, val_dssim, val_g_loss; received",
        ),
        ({"monitor_mode": "largest"}, "monitor_mode must be 'auto', 'min' or 'max'"),
        (
            {"lr_schedule": {"name": "plateau", "warmup_epochs": 1}},
            "without warmup_epochs for name: plateau; received 1",
        ),
        ({"lr_schedule": {"name": "plateau", "gamma": 1}}, "gamma below 1"),
        ({"lr_schedule": {"name": "plateau", "step_epochs": 2}}, "without step_epochs"),
        ({"lr_schedule": {"name": "cosine", "plateau_epochs": 2}}, "without plateau_epochs"),
        ({"loss": {"mae": 1}, "loss_weights": {"mae": 1}}, "left out, or be a list of names"),
        ({"loss": ["mae"], "loss_weights": {"mae": 1, "mse": 2}}, r"for mae\. Fix mse"),
        ({"loss": ["mae", "mse"], "loss_weights": {"mae": 1}}, r"for mae, mse\. Fix mse"),
        ({"loss": ["mae", "mae"], "loss_weights": {"mae": 1}}, "names that differ"),
        ({"loss": ["mae", {}], "loss_weights": {"mae": 1}}, "loss must be the name of a loss"),
        ({"loss_weights": {"mea": 1}}, "loss_weights must be one of .*mae.*'mea'"),
        ({"loss_weights": {"mae": -1}}, "loss_weights must be names with weights"),
        ({"loss_weights": {"mae": 0}}, "at least one loss with a weight above 0"),
        ({"loss_weights": [1, 0.1]}, "loss_weights must be names of losses and weights such as"),
        ({"final_evaluation": "often"}, "final_evaluation must be"),
        ({"patches": {"size": 5}}, "patches must be left out with source: patches"),
    ],
    ids=str,
)
def test_what_is_refused(changes, words, workshop):
    """One line that says what is allowed."""
    with pytest.raises(ConfigError, match=words):
        params(workshop, **changes)


def width(
    y_true,
    y_pred,
    factor: Annotated[Float, Field(gt=0)] = 2.0,
    max_val: float = 1.0,
    pixel_nm: float = 1.0,
):
    """A loss with a setting of its own."""
    error = tf.abs(tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32))
    return factor * pixel_nm * tf.reduce_mean(error, axis=[1, 2, 3])


def measured_width(y_true, y_pred, max_val=1.0, pixel_nm: float = 1.0, power: Float = 1.0):
    """A metric of the same name with another setting."""
    return width(y_true, y_pred, 1.0, max_val, pixel_nm) ** power


def test_a_loss_and_a_metric_share_a_section(workshop, rows):
    """Each takes its own keys of it; the size of a pixel comes from the data."""
    rows(METRICS, "width", measured_width)
    rows(LOSSES, "width", width)
    chosen = {"loss": "width", "metrics": ["width"], "width": {"factor": 3, "power": 2}}
    p = params(workshop, **chosen)
    assert p.loss_params["width"] == {"factor": 3, "power": 2}
    modeler = Modeler(p, facts={"pixel_nm": 0.5})
    zeros, ones = tf.zeros((2, 4, 4, 1)), tf.ones((2, 4, 4, 1))
    assert modeler._loss("width", "loss")(zeros, ones).numpy() == pytest.approx([1.5, 1.5])
    metric = modeler._ranged(METRICS.resolve("width"), "width")
    assert metric(zeros, ones).numpy() == pytest.approx([0.25, 0.25])
    assert read_yaml(_saved(p, workshop))["width"] == {"factor": 3.0, "power": 2.0}
    with pytest.raises(ConfigError, match=r"unknown key width\.pixel_nm"):
        params(workshop, **{**chosen, "width": {"pixel_nm": 2}})
    with pytest.raises(ConfigError, match=r"width\.factor must be greater than 0"):
        params(workshop, **{**chosen, "width": {"factor": 0}})


def _saved(p, shop):
    p.save(shop.folder)
    return shop.folder / "config.yml"


# The figure that is watched --------------------------------------------------------------------


def test_the_best_is_that_of_the_figure_watched(workshop):
    """weights_best.h5 follows it, best_model_on_*.h5 holds the same, and the message agrees."""
    result = workshop.run(workshop.config(**WORST_PSNR, log_period=1), "train")
    folder = workshop.folder / "run"
    table = history(folder)
    worst = int(table["val_psnr"].idxmin())
    assert worst != int(table["val_loss"].idxmin())
    assert f"trained 3 epochs, best epoch {worst};" in result.out
    best = (folder / "weights_best.h5").read_bytes()
    assert (folder / "best_model_on_val_psnr.h5").read_bytes() == best
    _, model = build(workshop, log_dir=workshop.folder / "other")
    for name in ("weights_best.h5", f"weights_{worst}.h5"):
        load_weights(model, folder / name)
        weights = model.get_weights()
        load_weights(model, folder / "weights_best.h5")
        assert all(map(np.array_equal, weights, model.get_weights()))


@pytest.mark.parametrize(
    ("metric", "mode"),
    [("loss", "min"), ("psnr", "max"), ("ssim", "max"), ("dssim", "min")],
)
def test_auto_mode(metric, mode, workshop):
    """PSNR and SSIM are to be large, everything else small; the file written says which."""
    p = params(workshop, metrics=["psnr", "ssim", "dssim"], monitor_metric=f"val_{metric}")
    assert p.monitor_mode == mode
    assert read_yaml(_saved(p, workshop))["monitor_mode"] == mode


def test_patience_follows_the_figure(workshop):
    """It ends the run although the loss still falls, and a resumed run says why."""
    shop, changes = workshop, {**WORST_PSNR, "epochs": 9, "patience": 1}
    table = history(shop.train(**changes))
    assert len(table) < 9
    assert table["val_loss"].idxmin() == len(table)
    result = shop.run(shop.config(**changes), "train", "--resume")
    assert "val_psnr has not fallen for 1 epochs. Raise patience" in result.out


def test_overwrite_removes_the_second_name(workshop):
    """A run that watches another figure leaves no file of the run before it."""
    folder = workshop.train(**WORST_PSNR)
    assert (folder / "best_model_on_val_psnr.h5").is_file()
    assert workshop.run(workshop.config(), "train", "--overwrite").code == 0
    assert not list(folder.glob("best_model_on_*"))


def test_a_state_from_before_these_settings_goes_on(workshop, monkeypatch):
    """Settings that such a state does not know have the defaults it was made with."""
    young = {"metrics", "monitor_metric", "monitor_mode", "final_evaluation"}
    former = UserParams.resolved
    with monkeypatch.context() as patch:
        patch.setattr(
            UserParams,
            "resolved",
            lambda self: {k: v for k, v in former(self).items() if k not in young},
        )
        folder = workshop.train()
    assert not young & load_checkpoint(folder / "checkpoint").facts["settings"].keys()
    assert workshop.run(workshop.config(epochs=3), "train", "--resume").code == 0
    assert len(history(folder)) == 3
    result = workshop.run(workshop.config(epochs=4, metrics="psnr"), "train", "--resume")
    result.refused("metrics must be ['psnr', 'dssim'] as in the run", "received ['psnr']")


# Rates that fall on a plateau ------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_patches, open_workshop):
    """Log folder of a run with the settings `PLATEAU`; read-only."""
    shop = open_workshop(tmp_path_factory.mktemp("whole"), tiny_patches)
    return shop.train("whole.yml", **PLATEAU)


def test_rates_fall_and_are_written(uninterrupted):
    """Every epoch without a new best is followed by a fall, down to the floor."""
    rates = history(uninterrupted)["learning_rate"].to_numpy()
    watched = history(uninterrupted)["val_psnr"].to_numpy()
    falls, best = 0, np.inf
    for rate, value in zip(rates, watched, strict=True):
        assert rate == pytest.approx(0.01 * max(0.3**falls, 0.05), rel=1e-6)
        falls += value >= best
        best = min(best, value)
    assert rates[-1] == pytest.approx(0.0005, rel=1e-6)


@pytest.mark.parametrize("steps", [2, 8, 12], ids=lambda n: f"step {n}")
def test_a_plateau_goes_on(steps, workshop, stop_after, uninterrupted):
    """Stopped anywhere and resumed, the rates and the weights are those of one run."""
    stop_after(steps)
    config = workshop.config("parts.yml", **PLATEAU)
    assert workshop.run(config, "train").code == 130
    assert workshop.run(config, "train", "--resume").code == 0
    folder = workshop.folder / "parts"
    assert (folder / "history.csv").read_bytes() == (uninterrupted / "history.csv").read_bytes()
    one, other = (load_checkpoint(path / "checkpoint") for path in (folder, uninterrupted))
    assert one.facts["callbacks"] == other.facts["callbacks"]
    assert [a.tobytes() for a in one.arrays] == [a.tobytes() for a in other.arrays]


def test_both_networks_follow_a_plateau(workshop):
    """The discriminator's rate falls with the generator's."""
    changes = {**PLATEAU, "model": "srgan", "epochs": 4, "d_learning_rate": 0.002}
    trainer, model = build(workshop, **changes)
    trainer.train(model)
    state = load_checkpoint(workshop.folder / "run" / "checkpoint").facts["callbacks"]["plateau"]
    share = max(0.3 ** state["falls"], 0.05)
    assert state["falls"] > 0
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01 * share, rel=1e-6)
    assert float(model.d_optimizer.learning_rate) == pytest.approx(0.002 * share, rel=1e-6)


# Weights of losses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"loss_weights": {"mae": 1, "dssim": 0.5}},
        {"loss_weights": {"mae": 1, "dssim": 0.5}, "loss": ["mae", "dssim"]},
        {"loss": {"mae": 1, "dssim": 0.5}},
    ],
    ids=["weights", "names and weights", "mapping"],
)
def test_three_ways_to_say_the_same(given, workshop):
    """All become a mapping `loss`, which is what the file written says."""
    p = params(workshop, **given)
    assert p.loss == {"mae": 1, "dssim": 0.5}
    written = read_yaml(_saved(p, workshop))
    assert written["loss"] == p.loss
    assert "loss_weights" not in written


def test_one_name_with_its_weight(workshop):
    """A single name may have a weight, too."""
    assert params(workshop, loss="mae", loss_weights={"mae": 2}).loss == {"mae": 2}


# The best model, once more ---------------------------------------------------------------------


def test_final_evaluation(workshop):
    """The best weights are read and measured again; the model keeps its last ones."""
    changes = {**WORST_PSNR, "metrics": ["psnr", "ssim"], "final_evaluation": True, "ema": 0.5}
    trainer, model = build(workshop, **changes)
    printed = _output(trainer.train, model)
    table = history(workshop.folder / "run")
    best = table.loc[table["val_psnr"].idxmin()]
    assert re.search(
        rf"best model \(epoch {best.name}, monitored val_psnr\): "
        rf"val_psnr {best['val_psnr']:.4g}, val_ssim {best['val_ssim']:.4g}\n",
        printed,
    )
    last = model.get_weights()
    found = trainer.evaluate_final_model(model)
    assert found == pytest.approx({k: best[k] for k in found}, rel=1e-5)
    assert {"val_loss", "val_psnr", "val_ssim"} == found.keys()
    assert all(map(np.array_equal, last, model.get_weights()))


def _output(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        function(*arguments)
    return out.getvalue()


def test_final_evaluation_of_the_loss(workshop):
    """A loss that is watched comes before the metrics; without the setting nothing is printed."""
    result = workshop.run(workshop.config(final_evaluation=True), "train")
    assert re.search(
        r"monitored val_loss\): val_loss \S+, val_psnr \S+, val_dssim \S+\n", result.out
    )
    assert "best model" not in workshop.run(workshop.config("b.yml"), "train").out


def test_final_evaluation_without_a_file(workshop):
    """The method says which file is missing, and the weights stay."""
    trainer, model = build(workshop)
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"weights_best\.h5: no such weights file"):
        trainer.evaluate_final_model(model)
    assert all(map(np.array_equal, before, model.get_weights()))


# Sources with settings -------------------------------------------------------------------------


class Own(DataGenerator):
    """Batches of a source that makes its own."""


class Settled(Source):
    """A source with settings, which reads the patches."""

    opened: ClassVar[list] = []
    norm_range = (-3000.0, 100.0)

    def __init__(
        self,
        data_dir,
        sr_scale=None,
        patch: Annotated[int, Field(ge=1)] = 4,
        shares: tuple[int, int] | None = (3, 1),
        side: str = "high",
    ):
        super().__init__(data_dir, sr_scale)
        self.opened.append({"patch": patch, "shares": shares, "side": side})
        loader = DataLoader(data_dir, sr_scale=sr_scale)
        self.train, self.validation, self.test = loader.train, loader.validation, loader.test

    train = validation = test = None  # set above, as the loader has them

    def facts(self):
        return {"pixel_nm": 0.8}

    @classmethod
    def default_settings(cls, section):
        return {
            "input_shape": [section["patch"], section["patch"], 1],
            "loss": {"mae": 1, "mse": 0.5},
            "metrics": ["psnr", "ssim"],
            "monitor_metric": "val_ssim",
            "patience": 7,
            "lr_schedule": {"name": "cosine", "final": 0.01},
        }

    def batches(self, split, *options):
        return (Own if split == "train" else DataGenerator)(*self.split(split), *options)


#: What the settings of a run say themselves, besides those that a source may change.
BARE = ("data_dir", "model", "espcn", "scale", "batch_size", "epochs", "jit_compile", "log_dir")


@pytest.fixture
def sourced(workshop, rows):
    """``sourced(**changes)``: a settings file with the source above and little else."""
    rows(SOURCES, "own", Settled)
    Settled.opened.clear()

    def write(name="run.yml", **changes):
        path = workshop.config(name)
        content = {key: value for key, value in read_yaml(path).items() if key in BARE}
        path.write_text(yaml.safe_dump({**content, "source": "own", **changes}))
        return path

    return write


def test_a_source_changes_the_defaults(sourced):
    """Below what the file says, a key of which wins as a whole."""
    p = UserParams(sourced(lr_schedule={"name": "cosine"}, own={"shares": [1, 1]}))
    assert p.source_params == {"patch": 4, "shares": (1, 1), "side": "high"}
    assert tuple(p.input_shape) == (4, 4, 1)
    assert (p.loss, p.patience) == ({"mae": 1, "mse": 0.5}, 7)
    assert (p.monitor_metric, p.monitor_mode) == ("val_ssim", "max")
    assert p.lr_schedule.final == 0


@pytest.mark.parametrize(
    ("given", "loss"),
    [({"loss_weights": {"mse": 2}}, {"mse": 2}), ({"loss": "mae"}, "mae")],
    ids=["weights", "name"],
)
def test_the_file_s_losses_replace_the_source_s(given, loss, sourced):
    """Whichever of the two names the file uses."""
    assert UserParams(sourced(**given)).loss == loss


def test_a_written_file_means_the_same(sourced, workshop):
    """Read again, config.yml gives the same settings, also where the file says null."""
    p = UserParams(sourced(patience=None, own={"shares": None, "patch": 4}))
    written = _saved(p, workshop)
    assert read_yaml(written)["own"] == {"patch": 4, "shares": None, "side": "high"}
    assert read_yaml(written)["patience"] is None
    again = UserParams(written)
    assert again.patience is None
    assert again.resolved() == p.resolved()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"own": {"patsh": 5}}, r"unknown key own\.patsh\. Did you mean 'patch'"),
        ({"own": {"patch": 0}}, r"own\.patch must be greater than or equal to 1; received 0"),
        ({"own": [1]}, r"own must be a section of keys and values; received \[1\]"),
        ({"source": "patches", "own": {}}, "own must be left out with source: patches"),
        ({"metrics": "psnr"}, "monitor_metric must be one of val_loss, val_psnr; received 'val_s"),
        ({"source": "owm"}, "source must be one of .*'own'"),
        ({"source": 5}, "source must be"),
    ],
    ids=str,
)
def test_sections_of_sources_are_checked(changes, words, sourced):
    """As those of the networks."""
    with pytest.raises(ConfigError, match=words):
        UserParams(sourced(**changes))


def test_a_source_is_opened_with_its_section(sourced, workshop):
    """Training and test pass it; training batches, data range and pixel are the source's."""
    config = sourced(own={"side": "low"})
    trainer = Trainer(UserParams(config))
    assert isinstance(trainer.train_data_generator, Own)
    assert type(trainer.validation_data_generator) is DataGenerator
    assert trainer.facts == {"pixel_nm": 0.8}
    assert (trainer.normalizer.data_min, trainer.normalizer.data_range) == (-3000, 3100)
    assert workshop.run(config, "train").code == 0
    assert workshop.run(config, "test").code == 0
    assert workshop.run(config, "train", "--resume").code == 0
    expected = {"patch": 4, "shares": (3, 1), "side": "low"}
    assert Settled.opened == [expected] * 4
    assert read_yaml(workshop.folder / "run" / "config.yml")["own"]["side"] == "low"


def test_a_changed_section_is_another_run(sourced, workshop):
    """Going on with other settings of the source is refused."""
    assert workshop.run(sourced(), "train").code == 0
    result = workshop.run(sourced(own={"side": "low"}), "train", "--resume")
    result.refused("own.side must be high as in the run to be resumed; received low")


class Bare:
    """What the documentation asks of a source and nothing more, in a unit of its own."""

    def __init__(self, data_dir, sr_scale=None):
        loader = DataLoader(data_dir, sr_scale=sr_scale)
        self.train, self.validation, self.test = loader.train, loader.validation, loader.test


def test_a_source_of_three_methods_is_enough(workshop, rows):
    """It trains, is tested without slopes, which nobody knows, and restored from its log folder."""
    rows(SOURCES, "bare", Bare)
    config = workshop.config(source="bare")
    assert workshop.run(config, "train").code == 0
    result = workshop.run(config, "test")
    assert result.code == 0, result.err
    summary = json.loads((workshop.folder / "run/test_result/summary.json").read_text())
    assert summary["slope_classes"] == {}
    assert summary["all"]["n"] == 5
    assert (workshop.folder / "run/test_result/report.html").is_file()
    assert not (workshop.folder / "run/validity.json").exists()


def test_a_source_without_settings(workshop):
    """It is opened as ever, and tells losses nothing."""
    source = open_source(params(workshop))
    assert isinstance(source, PatchSource)
    assert source.facts() == {}


# Another network from the command line ---------------------------------------------------------


def bare(shop, **changes):
    """Write settings without log_dir."""
    path = shop.config(**changes)
    content = read_yaml(path)
    del content["log_dir"]
    path.write_text(yaml.safe_dump(content))
    return path


def test_algo_trains_and_tests_another_network(workshop):
    """Each in a folder of its own, beside that of the file's network."""
    config = bare(workshop)
    for mode in ("train", "test"):
        for algo in ([], ["--algo", "fsrcnn"]):
            assert workshop.run(config, mode, *algo).code == 0
    for folder, model in (("run_log", "espcn"), ("run_fsrcnn_log", "fsrcnn")):
        assert read_yaml(workshop.folder / folder / "config.yml")["model"] == model
        assert (workshop.folder / folder / "test_result" / "summary.json").is_file()


def test_algo_in_the_command_that_goes_on(workshop, stop_after):
    """The message of an interrupted run names the network, so that the command fits."""
    config = bare(workshop)
    stop_after(2)
    result = workshop.run(config, "train", "--algo", "fsrcnn")
    assert result.code == 130
    command = result.err.rsplit("main.py ", 1)[1]
    assert shlex.split(command) == [str(config), "train", "--algo", "fsrcnn", "--resume"]
    assert workshop.run(*shlex.split(command)).code == 0


def test_algo_leaves_a_log_dir_that_is_set(workshop):
    """What the file says holds, and a run of another network there is not overwritten."""
    assert params(workshop, model="fsrcnn").log_dir == str(workshop.folder / "run")
    workshop.train()
    workshop.run(workshop.config(), "train", "--algo", "fsrcnn").refused("already holds a run")


def test_algo_is_refused(workshop, finished):
    """An unknown name, a run of another network, and modes that take a log folder."""
    workshop.run(workshop.config(), "train", "--algo", "fsrcn").refused(
        "model must be one of", "espcn", "Did you mean 'fsrcnn'?"
    )
    workshop.run(finished, "test", "--algo", "srcnn").refused("--algo must be espcn", "srcnn")
    for mode, words in (("predict", ["map.tif"]), ("export", ["--format", "onnx"])):
        result = workshop.run(workshop.config(), mode, *words, "--algo", "srcnn")
        assert result.code == 2
        assert f"--algo is for train and test; {mode} needs the log folder" in result.err


# Searching -------------------------------------------------------------------------------------


def test_objectives_follow_the_metrics(workshop):
    """A search may make any column of the history large or small, and no other."""
    workshop.config("base.yml", metrics=["ssim"])
    path = workshop.folder / "search.yml"
    content = {"base": "base.yml", "parameters": {"batch_size": [2, 4]}, "objective": "val_ssim"}
    path.write_text(yaml.safe_dump(content))
    check_search(Search(path))
    path.write_text(yaml.safe_dump({**content, "objective": "val_psnr"}))
    with pytest.raises(ConfigError, match=r"\(loss, ssim, val_loss, val_ssim\).*val_psnr"):
        check_search(Search(path))


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_ssim", "maximize"),
        ("val_psnr", "maximize"),
        ("validation.all.sr.psnr", "maximize"),
        ("val_dssim", "minimize"),
        ("val_loss", "minimize"),
        ("test.all.sr.dssim", "minimize"),
    ],
)
def test_direction_of_an_objective(name, direction):
    """PSNR and SSIM are made large unless told otherwise."""
    assert Objective.model_validate(name).direction == direction
