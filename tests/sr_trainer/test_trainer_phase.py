"""Surgical phases through the command line: train, resume, test, follow a video, bad input."""

import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from clips import TinyNet, frames_of, write_clips, write_video

from examples.surgical_phase.train import train
from sr_trainer.search_settings import Search
from toolbox.tasks.surgical_phase.evaluate import main as evaluate

RUN = {
    "task": "surgical_phase",
    "surgical_video": {"size": 32, "window_size": 8, "stride": 4},
    "surgical_phase": {
        "backbone": "TinyNet",
        "width": 8,
        "heads": 2,
    },
    "epochs": 2,
    "batch_size": 5,
    "learning_rate": 1e-2,
    "optimizer": "sgd",  # traced several times as fast as Adam
    "log_period": 100,
    "jit_compile": False,
    "steps_per_execution": 1,
}


def configure(shop, name="run.yml", video=(), network=(), **changes):
    """Write `RUN` with some keys changed; log_dir is the name without .yml."""
    path = shop.folder / name
    table = {"csv_path": str(shop.data_dir / "phases.csv")}
    content = {
        "data_dir": str(shop.data_dir / "videos"),
        "log_dir": str(path.with_suffix("")),
        **RUN,
        "surgical_video": {**RUN["surgical_video"], **table, **dict(video)},
        "surgical_phase": {**RUN["surgical_phase"], **dict(network)},
        **changes,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def tiny_net():
    """A backbone that is traced in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "TinyNet", TinyNet, raising=False)
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory, open_workshop):
    """A folder with clips."""
    folder = tmp_path_factory.mktemp("phases")
    return open_workshop(folder, write_clips(folder / "clips"))


@pytest.fixture(scope="module")
def trained(shop):
    """A run with masks, trained and tested: its settings and what was printed."""
    config = configure(shop, video={"mask_dir": str(shop.data_dir / "masks")})
    assert shop.run(config, "train").code == 0
    tested = shop.run(config, "test")
    assert tested.code == 0, tested.err
    return config.with_suffix(""), tested.out


def test_what_a_run_leaves(trained):
    """The phases, their weights, every video, and settings that need no table any more."""
    log, _ = trained
    phases = json.loads((log / "phases.json").read_text())
    windows = {"window_size": 8, "stride": 4, "size": 32, "rate_hz": None}
    assert phases == {
        "phases": ["0", "1", "2"],
        "class_weights": [1, 1, 1],
        "segments": [5, 5, 5],
        "windows": windows,
    }
    videos = pd.read_csv(log / "videos.csv")
    assert videos["split"].value_counts().to_dict() == {"train": 5, "validation": 2}
    assert videos.loc[0, ["width", "height", "frames", "rate_hz"]].tolist() == [48, 32, 81, 12.5]
    settings = yaml.safe_load((log / "config.yml").read_text())
    assert settings["surgical_video"]["phases"] == ["0", "1", "2"]
    assert settings["surgical_phase"]["num_classes"] == 3
    columns = pd.read_csv(log / "history.csv").columns
    assert {"phase_accuracy", "val_phase_accuracy"} <= set(columns)


def test_what_a_test_says(trained):
    """Figures by video and phase, definitions of the averages, and a page with timelines."""
    log, printed = trained
    summary = json.loads((log / "test_result" / "summary.json").read_text())
    assert summary["n"] == 2
    assert 0 <= summary["figures"]["accuracy"] <= 1
    assert summary["guess"]["phase"] == "0"
    # Two seconds of each of three phases have a label, half a second has none.
    assert np.sum(summary["confusion"]) == 3 * 25 + 3 * 50
    assert summary["measured"]["judged"] == 225
    for word in ("Definitions", "always guessing 0", "frames per second", "Jaccard"):
        assert word in printed
    page = (log / "test_result" / "report.html").read_text(encoding="utf-8")
    assert page.count("Timelines of case_") == 2
    assert len(pd.read_csv(log / "test_result" / "videos_phases.csv")) == 6


def test_a_test_measures_what_predict_writes(trained, shop, tmp_path):
    """The text of predict, judged by the evaluator alone, has the accuracy of the test."""
    log, _ = trained
    accuracies = []
    for folder in ("found", "truth"):
        (tmp_path / folder).mkdir()
    truth = pd.read_csv(shop.data_dir / "phases.csv")
    for name in ("case_07", "case_08"):
        video, target = shop.data_dir / "videos" / f"{name}.avi", tmp_path / f"{name}.csv"
        done = shop.run(log, "predict", video, "-o", target)
        assert done.code == 0, done.err
        table = pd.read_csv(target, dtype={"phase": str})
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        shutil.copy(tmp_path / f"{name}.txt", tmp_path / "found" / f"{name}.txt")
        lines = ["Frame\tPhase"]
        for frame, time in zip(table["frame"], table["time_s"], strict=True):
            row = truth[(truth.video_id == name) & (truth.start <= time) & (time < truth.end)]
            lines.append(f"{frame}\t{row.phase_id.iloc[0] if len(row) else -1}")
        (tmp_path / "truth" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        found = (tmp_path / "found" / f"{name}.txt").read_text().splitlines()
        assert found[1:] == [
            f"{f}\t{p}" for f, p in zip(table["frame"], table["phase"], strict=True)
        ]
        accuracies.append(table)
    words = [str(tmp_path / "found"), str(tmp_path / "truth"), "-o", str(tmp_path / "out")]
    (tmp_path / "names.txt").write_text("0\n1\n2\n")
    assert evaluate([*words, "--phases", str(tmp_path / "names.txt")]) == 0
    alone = json.loads((tmp_path / "out" / "summary.json").read_text())
    summary = json.loads((log / "test_result" / "summary.json").read_text())
    assert alone["accuracy"]["mean"] == pytest.approx(summary["figures"]["accuracy"], abs=1e-12)
    assert alone["macro_f1"] == pytest.approx(summary["figures"]["macro_f1_frames"], abs=1e-12)


def test_a_folder_of_videos_without_a_table(trained, shop, tmp_path):
    """The run knows its phases by itself; each video gets a timeline, a bad one is left out."""
    log, _ = trained
    moved = Path(shutil.copytree(log, tmp_path / "run"))
    settings = yaml.safe_load((moved / "config.yml").read_text())
    settings["surgical_video"]["csv_path"] = "gone.csv"
    (moved / "config.yml").write_text(yaml.safe_dump(settings))
    rng = np.random.default_rng(0)
    images, masks = frames_of(1, 20, rng)
    write_video(tmp_path / "new" / "a.avi", images, 10)
    write_video(tmp_path / "masks" / "a.avi", masks, 10)
    (tmp_path / "new" / "torn.avi").write_bytes(b"RIFF")
    result = shop.run(moved, "predict", tmp_path / "new", "--masks", tmp_path / "masks", "--online")
    assert result.code != 0
    assert "torn.avi" in result.err
    table = pd.read_csv(tmp_path / "new_phases" / "a.csv")
    assert len(table) == 20
    assert table["probability"].between(1 / 3, 1).all()


def test_stopped_and_resumed_it_is_the_same(shop, stop_after):
    """With a temporal head, flips and EMA: weights and history of an uninterrupted run."""
    options = {
        "video": {"sequence": 2},
        "network": {"temporal_layers": 1},
        "online_da": {"valid": True, "horizontal_flip": True},
        "ema": 0.9,
        "epochs": 3,
    }
    whole, broken = (configure(shop, f"{name}.yml", **options) for name in ("whole", "broken"))
    assert shop.run(whole, "train").code == 0
    stop_after(4)
    assert shop.run(broken, "train").code == 130
    resumed = shop.run(broken, "train", "--resume")
    assert resumed.code == 0, resumed.err
    one, two = (path.with_suffix("") for path in (whole, broken))
    assert (one / "history.csv").read_bytes() == (two / "history.csv").read_bytes()
    assert arrays(one / "weights_last.h5") == arrays(two / "weights_last.h5")
    tested = shop.run(broken, "test")
    assert tested.code == 0, tested.err


def arrays(path):
    """Return the bytes of all arrays of a weights file, by name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert found
    return found


@pytest.mark.parametrize(
    ("video", "network", "changes", "words"),
    [
        ({"stride": 9}, {}, {}, ("stride must not exceed window_size, 8", "received 9")),
        ({"sequence": 3}, {}, {}, ("sequence must be above 1", "temporal_layers", "received 3")),
        ({}, {"num_classes": 4}, {}, ("surgical_phase.num_classes must be 3", "received 4")),
        ({}, {}, {"model": "espcn"}, ("model must be one of surgical_phase", "received espcn")),
        ({}, {}, {"loss": "mae"}, ("loss must be phase_cross_entropy", "received mae")),
        (
            {},
            {},
            {"metrics": ["psnr"], "monitor_metric": "val_loss"},
            ("metrics must be [phase_accuracy]", "psnr"),
        ),
        ({}, {}, {"normalizer": "minmax"}, ("normalizer must be identity", "received minmax")),
        ({}, {}, {"input_shape": [64, 64, 3]}, ("input_shape must be [32, 32, 3]",)),
        ({}, {}, {"batch_size": 99}, ("the 15 segments × 1 repeats", "surgical_video.repeats")),
        (
            {},
            {},
            {"online_da": {"valid": True, "rotation_range": 5}},
            ("must only flip and turn", "rotate"),
        ),
        ({"phases": ["0", "1"]}, {}, {}, ("phases.csv", "2")),
        ({"phases": ["0", "1", "2", "2"]}, {}, {}, ("phases must have different names", "2")),
        ({"csv_path": "none.csv"}, {}, {}, ("none.csv",)),
        ({"window_size": 60, "stride": 60, "shares": [0, 0, 0]}, {}, {}, ("shares",)),
        ({}, {}, {"data_dir": "none"}, ("none", "no such folder")),
        ({"mask_dir": "none"}, {}, {}, ("contains no masks of",)),
    ],
)
def test_mistakes_end_with_a_line(shop, video, network, changes, words):
    """Before anything is trained, with the way to fix it."""
    config = configure(shop, "wrong.yml", video, network, **changes)
    shop.run(config, "train").refused(*words)


def test_another_task_refuses_the_network(workshop):
    """A network of labels does not enlarge images."""
    config = workshop.config(model="surgical_phase")
    workshop.run(config, "train").refused("model must be one of", "received surgical_phase")


def test_what_only_images_have(trained, shop):
    """Export, eight turned copies and projection are refused in a line."""
    log, _ = trained
    shop.run(log, "export", "--format", "onnx").refused("gives labels, not images")
    video = shop.data_dir / "videos" / "case_00.avi"
    shop.run(log, "predict", video, "--self-ensemble").refused("self_ensemble is only for images")
    shop.run(log, "predict", video, "-o", "x.png").refused("expected the name of a table")
    shop.run(log, "predict", video, "--masks", "none").refused("none: no such folder")


def test_weights_of_other_windows_or_phases(trained, shop, tmp_path):
    """A test and a prediction refuse weights that were trained differently."""
    log, _ = trained
    masks = {"mask_dir": str(shop.data_dir / "masks")}
    weights = str(log / "weights_best.h5")
    other = configure(
        shop, "other.yml", {**masks, "stride": 2}, fname_model_weights=weights, log_dir=str(log)
    )
    shop.run(other, "test").refused("trained on windows with stride 4", "received 2")
    phases = {**masks, "phases": ["1", "0", "2"]}
    other = configure(shop, "order.yml", phases, fname_model_weights=weights, log_dir=str(log))
    shop.run(other, "test").refused("trained for other phases")


def test_nothing_is_overwritten_in_silence(trained, shop, tmp_path):
    """A text or picture next to the table is not lost."""
    log, _ = trained
    video = shop.data_dir / "videos" / "case_00.avi"
    (tmp_path / "notes.txt").write_text("mine")
    shop.run(log, "predict", video, "-o", tmp_path / "notes.csv").refused("already exists")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    shop.run(log, "predict", video, "--tile", 64).refused("tile is only for images")


def test_a_search_needs_no_model(shop):
    """The source names it in the base of a search too."""
    config = configure(shop, "base.yml")
    content = {
        "base": config.name,
        "parameters": {"surgical_phase.width": {"choices": [8, 16]}},
        "objective": "val_phase_accuracy",
    }
    path = shop.folder / "search.yml"
    path.write_text(yaml.safe_dump(content))
    assert Search(path).models() == ["surgical_phase"]


def test_settings_of_a_refused_run_are_taken_back(shop, tmp_path):
    """The specification's command leaves nothing, or what was there."""
    table = Path(shutil.copy(shop.data_dir / "phases.csv", tmp_path / "phases.csv"))
    words = ["--csv_path", str(table), "--data_dir", str(shop.data_dir / "videos")]
    assert CliRunner().invoke(train, [*words, "--backbone", "TinyNt"]).exit_code == 2
    assert not (tmp_path / "phases.yml").exists()
    (tmp_path / "phases.yml").write_text("mine: 1\n")
    assert CliRunner().invoke(train, [*words, "--batch_size", "0", "--overwrite"]).exit_code == 2
    assert (tmp_path / "phases.yml").read_text() == "mine: 1\n"


def test_the_program_of_the_specification(shop, tmp_path):
    """Its four options and more write a settings file, train, and copy the best weights."""
    table = Path(shutil.copy(shop.data_dir / "phases.csv", tmp_path / "phases.csv"))
    words = ["--csv_path", table, "--data_dir", shop.data_dir / "videos", "--epochs", 1]
    words += ["--size", 32, "--backbone", "TinyNet", "--batch_size", 5, "--num_workers", 2]
    words = [str(word) for word in [*words, "--output_pth", tmp_path / "out" / "model.ckpt"]]
    (tmp_path / "out").mkdir()
    done = CliRunner().invoke(train, words)
    assert done.exit_code == 0, done.output
    log = tmp_path / "phases_log"
    best = (log / "weights_best.h5").read_bytes()
    assert (tmp_path / "out" / "model.ckpt").read_bytes() == best
    settings = yaml.safe_load((tmp_path / "phases.yml").read_text())
    assert settings["batch_size"] == 5
    assert settings["surgical_video"]["num_workers"] == 2
    assert settings["surgical_video"]["window_size"] == 16
    again = CliRunner().invoke(train, words)
    assert again.exit_code == 2
    assert "already exists" in again.output
    resumed = CliRunner().invoke(train, [*words, "--resume"])
    assert resumed.exit_code == 0
    assert (log / "weights_best.h5").read_bytes() == best
    assert CliRunner().invoke(train, []).exit_code == 2
