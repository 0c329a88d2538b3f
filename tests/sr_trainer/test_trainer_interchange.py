"""Networks in and out by the command line: the importer and ``export --format safetensors``."""

import json
import re

import keras
import numpy as np
import pytest
import yaml
from conftest import in_process

from sr_trainer.importer import main as importer
from toolbox.errors import ConfigError, DataError, MissingLibraryError
from toolbox.inference import export
from toolbox.inference.export import export_weights, value_range
from toolbox.io import safetensors as files
from toolbox.io.extras import install_command
from toolbox.io.safetensors import read_metadata, read_safetensors, write_safetensors
from toolbox.io.weights import load_weights
from toolbox.model import esrgan
from toolbox.model.build import build_network
from toolbox.model.interchange import to_state_dict
from toolbox.normalizer import MinMaxNormalizer, normalizer_from
from toolbox.registry import TASKS
from toolbox.run import Run, load_model

pytest.importorskip("safetensors", reason="needs the extra export")

#: Metres that a network for colours takes as 0 to 1.
DEPTHS = (-3000.0, -200.0)


def rrdbnet(channels=3, scale=2, filters=4, **params):
    """Return a small RRDBNet of ours, always the same."""
    keras.utils.set_random_seed(0)
    given = {"upsampling": "resize", "num_residual_blocks": 1, "growth": 32, **params}
    net = esrgan.Generator((None, None, channels), scale, filters, params=given)
    rng = np.random.default_rng(0)
    for weight in net.weights:
        weight.assign(weight + 0.01 * rng.normal(size=weight.shape))
    return net


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of RRDBNet ×2 for colours, as another program wrote it, and its tensors."""
    path = tmp_path_factory.mktemp("published") / "net.safetensors"
    state = to_state_dict(rrdbnet())
    write_safetensors(state, path)
    return path, state


def imported(path, log, *options):
    """Import a file; return the log folder."""
    result = in_process(importer, path, "-o", log, *options)
    assert result.code == 0, result.err
    return log


def test_import_and_export_are_exact(published, workshop):
    """What comes in through one program goes out through the other, bit for bit."""
    path, state = published
    log = imported(path, workshop.folder / "net_log")
    assert sorted(p.name for p in log.iterdir()) == [
        "config.yml",
        "normalizer.json",
        "weights_best.h5",
    ]
    result = workshop.run(log, "export", "--format", "safetensors")
    assert result.code == 0, result.err
    assert "bit for bit" in result.out
    assert "values from 0 to 255 are 0 to 1" in result.out
    target = log / "export" / "net.safetensors"
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    again = read_safetensors(target)
    assert sorted(again) == sorted(state)
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array, strict=True)
    told = read_metadata(target)
    assert told.pop("software").startswith("sr-toolbox ")
    assert told == {
        "format": "pt",
        "architecture": "RRDBNet",
        "scale": "2",
        "channels": "3",
        "value_range": "0 255",
    }


def test_what_is_imported(published, tmp_path):
    """Settings and normaliser are those of published networks; the original is named."""
    log = imported(published[0], tmp_path / "log")
    config = yaml.safe_load((log / "config.yml").read_text(encoding="utf-8"))
    assert config["data_dir"] == "none; imported from net.safetensors"
    assert config["model"] == "esrgan"
    assert (config["scale"], config["input_shape"][2]) == (2, 3)
    assert config["task"] == ("photo" if "photo" in TASKS else "bathymetry")
    assert config["esrgan"]["upsampling"] == "resize"
    state = json.loads((log / "normalizer.json").read_text(encoding="utf-8"))
    assert state == {"name": "minmax", "xmin": 0, "xmax": 255, "ymin": 0, "ymax": 255}


def test_imported_network_computes_as_the_original(published, tmp_path):
    """Values of 0 to 255 in and out; the network between sees 0 to 1."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 6, 5, 3)).astype(np.float32)
    model = load_model(imported(published[0], tmp_path / "log"))
    result = np.asarray(model.physical(image, training=False))
    expected = 255 * np.asarray(rrdbnet()(image / 255, training=False))
    np.testing.assert_allclose(result, expected, atol=0.01)


def test_a_colour_network_serves_maps(published, workshop):
    """--channels 1 and --norm-range make a network for a map of depths, in metres."""
    shop, limits = workshop, [str(limit) for limit in DEPTHS]
    options = ("--channels", "1", "--norm-range", *limits)
    log = imported(published[0], shop.folder / "map_log", *options)
    config = yaml.safe_load((log / "config.yml").read_text(encoding="utf-8"))
    assert config["task"] == "bathymetry"
    assert config["input_shape"][2] == 1
    depths = np.random.default_rng(0).uniform(-2000, -1000, (7, 9)).astype(np.float32)
    np.save(shop.folder / "map.npy", depths)
    result = shop.run(log, "predict", shop.folder / "map.npy", "-o", shop.folder / "fine.npy")
    assert result.code == 0, result.err
    low, span = DEPTHS[0], DEPTHS[1] - DEPTHS[0]
    colours = ((depths - low) / span)[None, ..., None].repeat(3, axis=3)
    expected = low + span * np.asarray(rrdbnet()(colours, training=False)).mean(axis=3)[0]
    fine = np.load(shop.folder / "fine.npy", allow_pickle=False)
    np.testing.assert_allclose(fine.reshape(expected.shape), expected, atol=0.1)


#: Tasks that a network which enlarges is not for.
OTHERS = ("pix2pix", "surgical_phase")


@pytest.mark.parametrize("task", [task for task in sorted(TASKS) if task not in OTHERS])
def test_every_task_takes_a_grey_network(task, published, tmp_path):
    """A network of one channel becomes a run of any task that enlarges, which opens."""
    log = imported(published[0], tmp_path / "log", "--channels", "1", "--task", task)
    run = Run.open(log)
    assert (run.settings.task, run.networks[0].channels) == (task, 1)


def test_a_task_of_one_size_refuses_a_network_that_enlarges(published, tmp_path):
    """pix2pix draws pictures as large as its inputs."""
    arguments = "-o", tmp_path / "log", "--channels", "1", "--task", "pix2pix"
    in_process(importer, published[0], *arguments).refused("scale must be 1 with source voc")
    assert not (tmp_path / "log").exists()


def test_a_task_of_labels_refuses_a_network_of_images(published, tmp_path):
    """Phases of operations are told by other networks."""
    arguments = "-o", tmp_path / "log", "--channels", "1", "--task", "surgical_phase"
    in_process(importer, published[0], *arguments).refused("model must be one of surgical_phase")
    assert not (tmp_path / "log").exists()


def test_imported_run_is_not_overwritten_unasked(published, workshop):
    """A folder that holds a run is left alone without --overwrite."""
    log = imported(published[0], workshop.folder / "log")
    before = workshop.snapshot(log)
    in_process(importer, published[0], "-o", log, "--channels", "1").refused("--overwrite")
    assert workshop.snapshot(log) == before
    imported(published[0], log, "--channels", "1", "--overwrite")
    assert Run.open(log).networks[0].channels == 1


def test_weights_serve_a_further_training(tmp_path):
    """The network that a training builds, with its discriminator, reads the imported weights."""
    state = to_state_dict(rrdbnet(channels=1))
    write_safetensors(state, tmp_path / "grey.safetensors")
    log = imported(tmp_path / "grey.safetensors", tmp_path / "log")
    trained = build_network(Run.open(log).config, training=True)
    load_weights(trained, log / "weights_best.h5")
    for name, array in to_state_dict(trained.network()).items():
        np.testing.assert_array_equal(array, state[name])


# What is refused ------------------------------------------------------------------------------


def test_bad_files_are_refused(published, workshop):
    """Missing, foreign and damaged files, and options that do not fit, are one line each."""
    log = workshop.folder / "log"
    path, state = published
    in_process(importer, "no.pth", "-o", log).refused("no.pth: no such file")
    in_process(importer, "no.safetensors", "-o", log).refused("no.safetensors: no such file")
    trace = workshop.evil_pickle(workshop.folder / "evil.pth")
    in_process(importer, workshop.folder / "evil.pth", "-o", log).refused("never executed")
    assert not trace.exists()
    cut = workshop.folder / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    in_process(importer, cut, "-o", log).refused("not a readable safetensors file")
    write_safetensors({k: v for k, v in state.items() if k != "conv_hr.bias"}, cut)
    in_process(importer, cut, "-o", log).refused("lacks conv_hr.bias")
    in_process(importer, path, "-o", log, "--channels", "2").refused("--channels must be 1 or 3")
    limits = ("--norm-range", "5", "5")
    in_process(importer, path, "-o", log, *limits).refused("norm_range must be (min, max)")
    assert not log.exists()


def test_export_of_another_network_is_refused(finished, workshop):
    """A network without a published twin is refused and nothing is written."""
    target = workshop.folder / "net.safetensors"
    result = workshop.run(finished, "export", "--format", "safetensors", "-o", target)
    result.refused("received ESPCN", "onnx")
    assert not target.exists()


def test_export_of_another_normaliser_is_refused(tmp_path):
    """A normaliser that is not linear cannot be left to the other program."""
    for state in (
        {"name": "local_mean", "unit": 100.0, "window": 5, "data_range": 1.0, "data_min": 0.0},
        {"name": "symmetric", "xmin": 0, "xmax": 255, "ymin": 0, "ymax": 255},
        {"name": "minmax", "xmin": 0, "xmax": 255, "ymin": 0, "ymax": 1},
    ):
        with pytest.raises(ConfigError, match=f"must be minmax.*received {state['name']}"):
            export_weights(
                rrdbnet(), normalizer_from(state), tmp_path / "net.safetensors", "safetensors"
            )
    assert list(tmp_path.iterdir()) == []


def test_ranges_of_normalisers():
    """What is 0 and 1 for the network is told, also where the normaliser changes nothing."""
    assert value_range(MinMaxNormalizer(-6000, 0, -6000, 0)) == (-6000, 0)
    assert value_range(normalizer_from({"name": "identity"})) == (0, 1)


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("net.onnx", "safetensors", r"must end in \.safetensors"),
        ("net.safetensors", "onnx", "format must be one of safetensors; received 'onnx'"),
    ],
)
def test_unsuitable_names_are_refused(name, format, words, tmp_path):
    """The ending must be that of the format."""
    with pytest.raises(ConfigError, match=words):
        export_weights(rrdbnet(), MinMaxNormalizer(0, 255, 0, 255), tmp_path / name, format)


@pytest.mark.parametrize("change", ["value", "sign of zero", "missing"])
def test_a_wrong_file_does_not_appear(change, tmp_path, monkeypatch):
    """A file that is not the same to the last bit is not left."""

    def wrong(path):
        state = read_safetensors(path)
        if change == "missing":
            del state["conv_hr.bias"]
        else:
            state["conv_hr.bias"][0] = -0.0 if change == "sign of zero" else 1e-30
        return state

    net = rrdbnet()
    [*_, bias, _, _] = net.weights
    bias.assign(np.zeros(bias.shape))
    monkeypatch.setattr(export, "read_safetensors", wrong)
    with pytest.raises(DataError, match=r"conv_hr\.bias differs from the original"):
        export_weights(
            net, MinMaxNormalizer(0, 255, 0, 255), tmp_path / "net.safetensors", "safetensors"
        )
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_named(tmp_path, monkeypatch):
    """Without the library the error names it and the line that installs it."""
    monkeypatch.setitem(files.importlib.sys.modules, "safetensors.numpy", None)
    for act in (read_safetensors, lambda path: write_safetensors({}, path)):
        with pytest.raises(MissingLibraryError, match=re.escape(install_command("export"))):
            act(tmp_path / "net.safetensors")


def test_arrays_of_any_layout_are_written(tmp_path):
    """A transposed array is stored by its values, not by its memory."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_safetensors({"w": array}, tmp_path / "net.safetensors", {"by": "test"})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "net.safetensors")["w"], array)
    assert read_metadata(tmp_path / "net.safetensors") == {"by": "test"}
