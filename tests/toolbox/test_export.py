"""Networks written for other programs, and the card that goes with them."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import IMAGING, KNOWN, network, small

from toolbox.errors import ConfigError, DataError, MissingLibraryError
from toolbox.inference import export
from toolbox.inference.export import FORMATS, export_model
from toolbox.io.extras import install_command
from toolbox.model.physical import physical_model
from toolbox.model_card import LOADING, card_of_run, write_model_card
from toolbox.normalizer import MinMaxNormalizer
from toolbox.registry import MODELS, NORMALIZERS

#: What an export needs beside TensorFlow.
NEEDED = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "tflite": ("ai_edge_litert",)}
ROOT = Path(__file__).resolve().parents[2]


def sample(channels=1, height=7, width=6):
    """Return two LR maps at 4000 m depth with tens of metres of relief."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:height, :width, :channels][:2]
    relief = 40 * np.sin(0.6 * row - 0.4 * column)
    return (relief - 4000 + rng.normal(size=(2, height, width, channels))).astype(np.float32)


def learnt(name="espcn", channels=1, scale=2, **options):
    """Return a small network (of an adversarial model the generator), as if it had learnt."""
    keras.utils.set_random_seed(0)
    net = network(name, (None, None, channels), scale, **options)
    rng = np.random.default_rng(0)
    for weight in net.weights:
        # Biases, slopes and moving averages that are still what they began with hide mistakes.
        weight.assign(weight + 0.05 * np.abs(rng.normal(size=weight.shape)))
    return net


def physical(name="espcn", normalizer="local_mean", **options):
    """Return a small network in metres."""
    images = sample(options.get("channels", 1))
    fitted = NORMALIZERS.resolve(normalizer).fit(images, images, (-6000.0, 0.0))
    return physical_model(learnt(name, **options), fitted)


@pytest.fixture(scope="module")
def espcn():
    """A small ESPCN in metres; read-only."""
    return physical(bicubic_skip=True)


def need(format):
    """Skip the test if the libraries of a format are not installed."""
    for library in NEEDED.get(format, ()):
        pytest.importorskip(library)


def exported(model, folder, format, images=None):
    """Export as ``model`` with the format's ending."""
    need(format)
    path = folder / f"model{FORMATS[format]}"
    return export_model(model, path, format, sample() if images is None else images)


#: Networks all of whose layers occur in the others.
COMBINED = {"simplesrnet", "edsr_light", "rdn", "edgeformer_edsr", "edgeformer_rdn"}
#: These formats hold the graph as it is: three networks, and those no test has heard of.
PLAIN = {name for name in IMAGING if name not in KNOWN} | {"espcn", "srgan", "edgeformer"}
# Every kind of layer and every normaliser once, not every pair; scale 3; three channels.
NETWORKS = [
    ((name, "local_mean", {"bicubic_skip": True}), format)
    for name in sorted(set(IMAGING) - COMBINED)
    for format in FORMATS
    if format in ("onnx", "tflite") or name in PLAIN
]
OTHERS = [
    *(
        ("espcn", name, {"bicubic_skip": True})
        for name in sorted(NORMALIZERS)
        if "mean" not in name
    ),
    ("espcn", "patch_mean", {"scale": 3, "channels": 3}),
    ("srcnn", "minmax", {"scale": 3}),
]


@pytest.mark.parametrize(
    ("name", "normalizer", "options", "format"),
    [
        *((*case, format) for case, format in NETWORKS),
        *((*case, format) for case in OTHERS for format in ("onnx", "tflite")),
    ],
)
def test_every_network_and_normaliser(name, normalizer, options, format, tmp_path):
    """The exported file gives the metres of the original on two samples of different size."""
    model = physical(name, normalizer, **options)
    result = exported(model, tmp_path, format, sample(options.get("channels", 1)))
    assert result.max_difference <= result.tolerance < 0.03
    assert [result.path] == list(tmp_path.iterdir())
    assert result.size_bytes > 1000


def kinds_of_layers(net):
    """Return the classes of all layers of a network, of networks inside it too."""
    inner = (kinds_of_layers(layer) for layer in net.layers if isinstance(layer, keras.Model))
    return {type(layer) for layer in net.layers}.union(*inner)


def test_no_kind_of_layer_is_left_out():
    """The networks that are not exported above have no layer that the exported ones lack."""
    kinds = {name: kinds_of_layers(network(name, bicubic_skip=True)) for name in IMAGING}
    exported_kinds = set().union(*(kinds[name] for name in set(IMAGING) - COMBINED))
    assert set(IMAGING) > COMBINED
    assert set().union(*kinds.values()) == exported_kinds


@pytest.mark.parametrize("format", FORMATS)
def test_card_tells_how_to_load(format, espcn, tmp_path, monkeypatch):
    """The lines of the model card read each format as they stand, at a size of their own."""
    exported(espcn, tmp_path, format)
    card = {"exports": {format: f"model{FORMATS[format]}"}, "config": {"model": "espcn"}}
    text = write_model_card(tmp_path / "card.md", card).read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names = {"lr": sample(height=5, width=9)[:1]}
    exec(code, names)
    assert np.asarray(names["hr"]).shape == (1, 10, 18, 1)
    np.testing.assert_allclose(names["hr"], espcn(names["lr"], training=False), atol=0.01)


def test_keras_file_loads_in_a_fresh_process(espcn, tmp_path):
    """The card's lines read the .keras file in safe mode where nothing has built a network."""
    exported(espcn, tmp_path, "keras")
    card = write_model_card(tmp_path / "card.md", {"config": {"model": "espcn"}})
    lines = card.read_text(encoding="utf-8").split("\nkeras:\n\n```python\n")[1].split("```")[0]
    script = f"import numpy as np\nlr = np.zeros((1, 3, 4, 1), 'float32')\n{lines}\nprint(hr.shape)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "(1, 6, 8, 1)", run.stderr


def test_onnx_axes_have_names(espcn, tmp_path):
    """One input, one output, float32, with N, height and width left open."""
    need("onnx")
    import onnx

    graph = onnx.load(exported(espcn, tmp_path, "onnx").path).graph
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert found == {"low_resolution": ["N", "h", "w", 1], "high_resolution": ["N", "H", "W", 1]}


def test_saved_model_has_named_ends(espcn, tmp_path):
    """The default signature has the two names and open axes."""
    path = exported(espcn, tmp_path, "saved_model").path
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    [given] = signature.structured_input_signature[1].items()
    assert given[0] == "low_resolution"
    assert given[1].shape.as_list() == [None, None, None, 1]
    assert list(signature.structured_outputs) == ["high_resolution"]


def test_exports_say_nothing(espcn, tmp_path, capfd):
    """Converters that chatter on standard error are quiet, and it works again afterwards."""
    for format in FORMATS:
        with contextlib.suppress(pytest.skip.Exception):
            exported(espcn, tmp_path, format)
    os.write(2, b"heard")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "heard")


def test_flat_sample_is_no_trouble(espcn, tmp_path):
    """A sample without relief, which has no range, still leaves room for rounding."""
    result = exported(espcn, tmp_path, "saved_model", np.full((1, 1, 1, 1), -10.0, np.float32))
    assert result.max_difference <= result.tolerance


# What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_wrong_file_does_not_appear(format, espcn, tmp_path, monkeypatch):
    """A file that gives other metres is refused; what was there before is untouched."""
    before = exported(espcn, tmp_path, format).path
    files = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    read = export._READERS[format]

    def wrong(path):
        run = read(path)
        return lambda images: run(images) + np.float32(0.1)

    monkeypatch.setitem(export._READERS, format, wrong)
    with pytest.raises(DataError, match=r"differs from the original by 0\.1"):
        exported(espcn, tmp_path, format)
    assert list(tmp_path.iterdir()) == [before]
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == files


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_is_a_difference(bad, espcn, tmp_path, monkeypatch):
    """NaN and infinity do not slip through the comparison."""
    wrong = lambda path: lambda images: np.full((len(images), 14, 12, 1), bad, np.float32)  # noqa: E731
    monkeypatch.setitem(export._READERS, "keras", wrong)
    monkeypatch.setattr(export, "_samples", lambda model, images: [images])
    with pytest.raises(DataError, match=r"differs from the original by (nan|inf)"):
        exported(espcn, tmp_path, "keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("result", [np.zeros((2, 14, 12)), np.zeros((2, 14, 12, 1))])
def test_another_shape_or_type_is_refused(result, espcn, tmp_path, monkeypatch):
    """A result that merely broadcasts, or in float64, is no match."""
    monkeypatch.setitem(export._READERS, "keras", lambda path: lambda images: result)
    with pytest.raises(DataError, match="gave float64"):
        exported(espcn, tmp_path, "keras")


@pytest.mark.parametrize("format", FORMATS)
def test_a_failing_converter_is_one_line(format, espcn, tmp_path, monkeypatch):
    """What a converter raises becomes one line that names the file, and nothing is left."""
    need(format)

    def fail(model, path):
        path.mkdir() if format == "saved_model" else path.write_bytes(b"half")
        raise ValueError("no kernel for Einstein\nand much more")

    monkeypatch.setitem(export._WRITERS, format, fail)
    with pytest.raises(DataError, match=rf"model.*{format} \(no kernel for Einstein\)"):
        exported(espcn, tmp_path, format)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stays_what_it_is(espcn, tmp_path, monkeypatch):
    """Errors of the file system are not taken for errors of the network."""

    def fail(model, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export._WRITERS, "keras", fail)
    with pytest.raises(OSError, match="No space left"):
        exported(espcn, tmp_path, "keras")


@pytest.mark.parametrize(("format", "library"), [("onnx", "tf2onnx"), ("onnx", "onnxruntime")])
def test_missing_library_is_named(format, library, espcn, tmp_path, monkeypatch):
    """Without an optional library the error names it and the line that installs it."""
    need(format)
    monkeypatch.setitem(sys.modules, library, None)
    command = re.escape(install_command("export"))
    with pytest.raises(MissingLibraryError, match=rf"{library}.*{command}"):
        export_model(espcn, tmp_path / "model.onnx", format, sample())
    assert list(tmp_path.iterdir()) == []


def test_missing_litert_is_named(espcn, tmp_path, monkeypatch):
    """Without LiteRT the error names it and the line that installs it."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    command = re.escape(install_command("export"))
    with pytest.raises(MissingLibraryError, match=rf"ai_edge_litert.*{command}"):
        export_model(espcn, tmp_path / "model.tflite", "tflite", sample())


def test_an_earlier_saved_model_is_replaced(espcn, tmp_path):
    """A SavedModel may be written again; a stale file in it does not survive."""
    path = exported(espcn, tmp_path, "saved_model").path
    (path / "stale").touch()
    assert exported(espcn, tmp_path, "saved_model").path == path
    assert not (path / "stale").exists()


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("model.onx", "onxx", "one of saved_model, onnx, keras, tflite; received 'onxx'.*'onnx'"),
        ("model.h5", "keras", "must end in .keras"),
        ("full", "saved_model", "is not a SavedModel, so it is kept"),
        ("note", "saved_model", "is not a SavedModel, so it is kept"),
        ("folder.onnx", "onnx", "is a folder"),
    ],
)
def test_unsuitable_names_are_refused(name, format, words, espcn, tmp_path):
    """A wrong ending, or a name that holds something else, is refused and nothing is touched."""
    (tmp_path / "full").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    for path in (tmp_path / "full" / "thesis.txt", tmp_path / "note"):
        path.write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=words):
        export_model(espcn, tmp_path / name, format, sample())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (sample()[0], r"shape \(N, h, w, 1\); received \(7, 6, 1\)"),
        (sample(channels=2), r"received \(2, 7, 6, 2\)"),
        (sample()[:0], r"received \(0, 7, 6, 1\)"),
        (np.full((1, 3, 3, 1), np.nan), "not have missing values"),
    ],
)
def test_unsuitable_samples_are_refused(images, words, espcn, tmp_path):
    """The sample must be complete images of the network's channels."""
    with pytest.raises(DataError, match=words):
        exported(espcn, tmp_path, "keras", images)


def test_mixed_precision_is_refused(tmp_path):
    """A network that computes in bfloat16 is not exported as if it were float32."""
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = physical_model(learnt(), MinMaxNormalizer(-6000, 0, -6000, 0))
    finally:
        keras.config.set_dtype_policy(policy)
    with pytest.raises(ConfigError, match=r"computes in bfloat16.*precision: float32"):
        exported(model, tmp_path, "keras")


# The model card -------------------------------------------------------------------------------


def written(folder, card):
    """Return the text of a card."""
    return write_model_card(folder / "card.md", card).read_text(encoding="utf-8")


def section(text, title):
    """Return what stands below a heading."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_format_has_lines_to_load_it():
    """Formats of the export and of the card are the same."""
    assert list(LOADING) == list(FORMATS)


def test_card_of_a_finished_run(finished, tmp_path):
    """The card holds what the run's files say."""
    card = card_of_run(finished)
    text = written(tmp_path, {**card, "licence": "CC BY 4.0", "acknowledgement": "We thank."})
    summary = json.loads((finished / "test_result" / "summary.json").read_text())
    assert text.startswith("# finished\n")
    assert "ESPCN that enlarges images 4 times" in text
    assert "| low_resolution | (N, h, w, 1) | float32 | m |" in section(text, "Input and output")
    built = MODELS.resolve("espcn")((4, 4, 1), 4, params=card["config"]["espcn"])
    assert f"| parameters | {built.count_params()} |" in section(text, "Architecture")
    assert "| low-resolution spacing, m | 200 |" in section(text, "Training data")
    assert "| epochs trained | 2 |" in section(text, "Training data")
    scores = section(text, "Scores")
    for method in ("bicubic", "sr", "back_projection"):
        for measure in ("rmse_m", "mae_m", "bias_m", "p95_abs_m"):
            assert f"{summary['all'][method][measure]:.3f}" in scores
    assert "| espcn.filters | 4, 4 |" in section(text, "Settings")
    assert section(text, "Licence").strip() == "CC BY 4.0"
    assert section(text, "Acknowledgement").strip() == "We thank."
    assert f"| tensorflow | {tf.__version__} |" in section(text, "Versions")


def test_card_of_an_empty_folder(tmp_path):
    """A run of which nothing is known still has a card that says so."""
    text = written(tmp_path, card_of_run(tmp_path))
    assert "Not tested yet." in section(text, "Scores")
    assert "not recorded" in section(text, "Architecture")
    assert "| mean slopes tested | none |" in section(text, "Range of validity")
    assert "not measured" in section(text, "Limits")
    assert "Not for navigation" in section(text, "Limits")
    assert "None" not in text


def test_nothing_at_all_makes_a_card(tmp_path):
    """Every key of a card may be missing."""
    text = written(tmp_path, {})
    assert text.startswith("# model\n")
    assert "None" not in text


@pytest.mark.parametrize(
    ("config", "best"),
    [
        (None, "2, val_loss 0.1"),
        ("monitor_metric: val_psnr\nmonitor_mode: max\n", "3, val_psnr 31"),
        ("monitor_metric: val_cdloss\nmonitor_mode: min\n", "3, val_cdloss 0.4"),
        ("pretrain_epochs: 2\n", "3, val_loss 0.2"),
    ],
)
def test_best_epoch_is_the_one_that_was_monitored(config, best, tmp_path):
    """The card names the epoch of the best weights, by the figure that chose them."""
    rows = ["1,0.3,30,nan", "2,0.1,29,0.5", "3,0.2,31,0.4", "4,0.3,31,0.4"]
    columns = "epoch,val_loss,val_psnr,val_cdloss"
    (tmp_path / "history.csv").write_text("\n".join([columns, *rows, ""]))
    if config is not None:
        (tmp_path / "config.yml").write_text(config)
    text = section(written(tmp_path, card_of_run(tmp_path)), "Training data")
    assert f"| best epoch in validation | {best} |" in text


def test_range_of_validity(tmp_path):
    """validity.json wins; without it the data set and the normaliser tell what they know."""
    (tmp_path / "normalizer.json").write_text('{"name": "minmax", "xmin": -50.0, "xmax": 0.0}')
    values = section(written(tmp_path, card_of_run(tmp_path)), "Range of validity")
    assert "| values | -50 to 0 m |" in values
    validity = {"depth_m": [-4000.0, -10.5], "slope": 0.25, "delta_lr_m": [200.0, 180.0]}
    (tmp_path / "validity.json").write_text(json.dumps(validity))
    values = section(written(tmp_path, card_of_run(tmp_path)), "Range of validity")
    assert "| values | -4000 to -10.5 m |" in values
    assert "| slope of the low-resolution map | up to 0.25 m/m |" in values
    assert "| low-resolution spacing | 200 × 180 m |" in values
    spans = {**card_of_run(tmp_path), "validity": {"slope": [0.01, 0.3]}}
    assert "| 0.01 to 0.3 m/m |" in section(written(tmp_path, spans), "Range of validity")


def test_card_warns_where_bicubic_is_as_good(tmp_path):
    """A class of slopes where the network does not help is named; an empty one has no figures."""
    row = dict.fromkeys(("rmse_m", "mae_m", "bias_m", "p95_abs_m"), 2.0)
    better, none = dict.fromkeys(row, 1.0), dict.fromkeys(row)
    summary = {
        "n": 3,
        "all": {"n": 3, "bicubic": row, "sr": better},
        "slope_classes": {
            "0-0.05": {"n": 3, "bicubic": row, "sr": row},
            "0.1-": {"n": 0, "bicubic": none, "sr": none},
        },
    }
    scores = section(written(tmp_path, {"summary": summary}), "Scores")
    assert "**No better than bicubic for slope: 0-0.05.**" in scores
    assert "No test images of slope 0.1-." in scores
    assert scores.count("| bicubic |") == 2


def test_cells_do_not_break_the_table(tmp_path):
    """A vertical bar or a line break in a value stays inside its cell."""
    text = written(tmp_path, {"config": {"data_dir": "a|b\nc", "norm_range": None}})
    assert "| data_dir | a\\|b c |" in section(text, "Settings")


def test_only_exported_formats_are_explained(tmp_path):
    """With a list of exports, the card shows these and no others."""
    use = section(written(tmp_path, {"exports": {"onnx": "espcn_x4.onnx"}}), "Use")
    assert 'InferenceSession("espcn_x4.onnx"' in use
    assert "tensorflow" not in use


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("normalizer.json", "{"),
        ("validity.json", "[1]"),
        ("history.csv", "epoch,val_loss\none,two\n"),
    ],
)
def test_damaged_files_are_named(name, content, tmp_path):
    """A damaged file of the run is named rather than passed over."""
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        card_of_run(tmp_path)


def test_missing_folder_is_named(tmp_path):
    """A folder that is not there is a mistake, not an empty run."""
    with pytest.raises(DataError, match="no such folder"):
        card_of_run(tmp_path / "nowhere")


def test_generator_is_counted(tmp_path):
    """Of an adversarial model the card counts the network that is used, without the judge."""
    params = small("esrgan")
    config = {"data_dir": "x", "model": "esrgan", "input_shape": [4, 4, 1], "scale": 2}
    (tmp_path / "config.yml").write_text(json.dumps({**config, "esrgan": params}))
    with contextlib.redirect_stdout(io.StringIO()):
        count = card_of_run(tmp_path)["parameters"]
    assert count == learnt("esrgan").count_params()
