"""What the trainer and tester refuse or correct so that a run means what its settings say."""

import shutil

import numpy as np
import pytest

from sr_trainer.main import main
from sr_trainer.modeler import Modeler
from sr_trainer.trainer import Trainer
from sr_trainer.user_params import UserParams
from toolbox.config import read_yaml, write_yaml


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run: its folder and its settings file."""
    folder = tmp_path_factory.mktemp("guards")
    rng = np.random.default_rng(0)
    from toolbox.io.safe_pickle import save_array
    from toolbox.resample import block_mean

    for split, count in (("train", 24), ("validation", 4), ("test", 4)):
        hr = rng.normal(-100, 10, (count, 16, 16, 1)).astype(np.float32)
        save_array(hr, folder / "data" / split / "data_HR.pkl")
        save_array(block_mean(hr, 2), folder / "data" / split / "data_LR.pkl")
    settings = {
        "data_dir": str(folder / "data"),
        "model": "espcn",
        "input_shape": [8, 8, 1],
        "scale": 2,
        "batch_size": 8,
        "epochs": 2,
        "log_period": 1000,
        "log_dir": str(folder / "log"),
        "espcn": {"filters": [4, 4]},
        "test_pictures": 0,
    }
    write_yaml(settings, folder / "run.yml", "tiny")
    assert main([str(folder / "run.yml"), "train"]) == 0
    return folder


@pytest.mark.parametrize("wanted", ["auto", 2, 3, 1000])
def test_steps_per_execution_never_changes_the_number_of_steps(run, tmp_path, wanted):
    """Three steps an epoch for two epochs are six updates, however many go into one call."""
    content = {**read_yaml(run / "run.yml"), "steps_per_execution": wanted}
    write_yaml({**content, "log_dir": str(tmp_path / "log")}, tmp_path / "run.yml", "steps")
    u_params = UserParams(tmp_path / "run.yml")
    trainer = Trainer(u_params)
    model = Modeler(u_params, trainer.normalizer.max_val).build(verbose=0)
    trainer.train(model)
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("change", [{"bicubic_skip": True}, {"espcn": {"activation": "relu"}}])
def test_settings_that_mean_another_network_are_refused(run, tmp_path, capsys, change):
    """Weights that would load but mean something else are not tested, and results stay."""
    content = read_yaml(run / "run.yml")
    for key, value in change.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    write_yaml(content, tmp_path / "other.yml", "another network")
    assert main([str(tmp_path / "other.yml"), "test"]) == 2
    assert f"{next(iter(change))} must be as in" in capsys.readouterr().err


def test_a_moved_run_can_be_tested(run, tmp_path, capsys):
    """The run's own config.yml finds its weights wherever the folder stands."""
    shutil.copytree(run / "log", tmp_path / "moved")
    assert main([str(tmp_path / "moved" / "config.yml"), "test"]) == 0
    assert (tmp_path / "moved" / "test_result" / "summary.json").is_file()
    assert str(tmp_path / "moved") in capsys.readouterr().out


def test_perfect_bicubic_is_reported(run, tmp_path, capsys):
    """Constant test images, where bicubic has no error, end in a report all the same."""
    shutil.copytree(run / "data", tmp_path / "data")
    from toolbox.io.safe_pickle import save_array

    for kind, size in (("HR", 16), ("LR", 8)):
        flat = np.full((4, size, size, 1), -100, np.float32)
        save_array(flat, tmp_path / "data" / "test" / f"data_{kind}.pkl")
    (tmp_path / "data" / "test" / "data_HR.csv").unlink(missing_ok=True)
    content = {**read_yaml(run / "run.yml"), "data_dir": str(tmp_path / "data")}
    write_yaml(content, tmp_path / "flat.yml", "flat")
    assert main([str(tmp_path / "flat.yml"), "test"]) == 0
    assert "0-0.05" in capsys.readouterr().out
