"""The real command line in processes of its own: help, mistakes, Ctrl-C, what is imported."""

import builtins
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sr_trainer import arg_parser
from sr_trainer.arg_parser import ArgParser
from sr_trainer.initializer import Initializer
from toolbox import __version__
from toolbox.errors import MissingLibraryError
from toolbox.training.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("TF_CPP_MIN_LOG_LEVEL", "MPLBACKEND")
HEAVY = ("tensorflow", "keras", "jax", "torch")


@pytest.fixture
def environment():
    """Give the user's environment: nothing that the tests set to keep TensorFlow quiet."""
    return {key: value for key, value in os.environ.items() if key not in QUIET}


def python(environment, *arguments, **options):
    """Run Python in the project's folder; return code, output and error text."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, **options
    )


def imported(importtime):
    """Return the top-level names in the listing of ``-X importtime``."""
    lines = [line for line in importtime.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("program", "usage"),
    [
        (("main.py",), "usage: main.py [-h]"),
        (("-m", "sr_dataset_builder.dataset"), "usage: python -m sr_dataset_builder.dataset"),
        (("-m", "sr_dataset_builder.resize"), "usage: python -m sr_dataset_builder.resize"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_help_does_not_import_tensorflow(environment, program, usage):
    """``-h`` answers at once, without TensorFlow."""
    result = python(environment, "-X", "importtime", *program, "-h")
    assert result.returncode == 0
    assert result.stdout.startswith(usage)
    names = imported(result.stderr)
    assert "argparse" in names
    assert not names & set(HEAVY)


def test_version_imports_nothing(environment):
    """``--version`` says name and version at once: no package is imported, none can fail."""
    result = python(environment, "-X", "importtime", "main.py", "--version")
    assert (result.returncode, result.stdout) == (0, f"sr-toolbox {__version__}\n")
    assert not imported(result.stderr) & {*HEAVY, "numpy", "pydantic", "yaml"}


def test_help_names_the_manuals_arguments(environment):
    """``main.py -h`` lists yml_fname and the modes, train and test as the manual shows them."""
    text = python(environment, "main.py", "-h").stdout
    assert "yml_fname" in text
    assert "{train,test,predict,export}" in text
    assert "-h, --help" in text


def test_help_shows_the_file_as_optional(environment):
    """Three modes need no settings file, so it is in brackets wherever the usage shows it."""
    text = " ".join(python(environment, "main.py", "-h").stdout.split())
    usage, _, rest = text.partition("positional arguments:")
    assert "[yml_fname] {train,test,predict,export}|inspect|measure|doctor [input]" in usage
    assert "train and test require it" in rest
    assert text.count("yml_fname") == text.count("[yml_fname]") == 2


def test_no_arguments_print_examples(environment):
    """``main.py`` alone: usage, a line for each of six modes and exit code 2, at once."""
    result = python(environment, "-X", "importtime", "main.py")
    said = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert (result.returncode, result.stdout) == (2, "")
    usage, blank, *examples, blank_too, last = said
    assert usage.startswith("usage: main.py [yml_fname] {train,test,predict,export}|inspect|")
    assert blank == blank_too == ""
    assert [line.split("   ")[0].strip() for line in examples] == [
        "main.py input.yml train",
        "main.py input.yml test",
        "main.py input.yml predict map.tif",
        "main.py inspect map.tif",
        "main.py measure picture.tif",
        "main.py doctor",
    ]
    assert last == "main.py: error: no mode given; main.py --help lists all options"
    assert not imported(result.stderr) & set(HEAVY)


@pytest.mark.parametrize("arguments", [[], ["--overwrite"]])
def test_examples_name_the_program_that_was_called(monkeypatch, capsys, arguments):
    """``sr-trainer`` shows its own name; options without a mode give the same list."""
    monkeypatch.setattr(sys, "argv", ["/opt/bin/sr-trainer", *arguments])
    with pytest.raises(SystemExit) as stop:
        ArgParser()
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert "\n  sr-trainer measure picture.tif         widths and roughness" in said.err
    assert "main.py" not in said.err


@pytest.mark.parametrize("words", [words for _, words, _ in arg_parser._EXAMPLES])
def test_the_parser_accepts_its_own_examples(words):
    """Every command that the help shows is a valid one."""
    assert ArgParser(words.split()).get_mode() in words.split()


#: Command lines with one mistake, and what is said about it.
MISTAKES = [
    ("measur picture.tif", "unknown mode 'measur'. Did you mean 'measure'?"),
    ("doctro", "unknown mode 'doctro'. Did you mean 'doctor'?"),
    ("enlarge map.tif", "unknown mode 'enlarge'. Known: doctor, export, inspect, "),
    ("input.yml trian", "received 'trian'. Did you mean 'train'?"),
    ("input.yml", "mode must be one of train, test, predict, export, inspect, measure, doctor"),
    ("train", "train needs a settings file: PROG input.yml train"),
    ("train run.yml", "the settings file comes first: PROG run.yml train"),
    ("predict run.yml map.tif", "the settings file comes first: PROG run.yml predict map.tif"),
    ("run.yml predict a.tif b.tif", "expected one input; received also b.tif."),
    ("measure p.tif --pixelnm 0.8", "unknown option --pixelnm. Did you mean --pixel-nm?"),
    ("measure p.tif --pixelnm=0.8", "unknown option --pixelnm. Did you mean --pixel-nm?"),
    (
        "inspect --pretraind bathymetry_x4 cairns.tif",
        "unknown option --pretraind. Did you mean --pretrained?",
    ),
    ("input.yml train -x", "unknown option -x. ("),
    (
        "inspect map.tif --report",
        "--report is for predict; inspect writes a page with -o report.html",
    ),
    ("measure p.tif --report", "--report is for predict; measure writes one with -o FOLDER"),
    (
        "x.yml train --pixel-nm 3",
        "--pixel-nm is for predict, inspect and measure; received with train. Leave it out.",
    ),
    (
        "predict --pretrained bathymetry_x4",
        "predict needs a map or image: PROG predict --pretrained bathymetry_x4 map.tif",
    ),
    ("predict map.tif", "or --pretrained with one of bathymetry_x2, bathymetry_x4, "),
    ("predict map.tif", ": PROG predict --pretrained bathymetry_x4 map.tif"),
    ("x.yml train --resume --overwrite", "--overwrite is not allowed with --resume. Leave out"),
    ("x.yml export --format onxx", "safetensors; received 'onxx'. Did you mean 'onnx'?"),
    ("x.yml predict map.tif --tile", "--tile needs a value."),
    ("x.yml predict map.tif --cog=3", "accepts no value; received '3'. Leave out the value."),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
@pytest.mark.parametrize("prog", ["main.py", "sr-trainer"])
def test_a_mistake_in_the_words_is_one_line(monkeypatch, capsys, tmp_path, prog, words, message):
    """Every mistake is one line without the usage; it and its examples name the program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"/opt/bin/{prog}", *words.split()])
    with pytest.raises(SystemExit) as stop:
        ArgParser()
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert line.startswith(f"{prog}: error: ")
    assert message.replace("PROG", prog) in line
    assert line.endswith(f" ({prog} --help lists all options)")


def test_a_folder_may_have_the_name_of_a_mistyped_mode(monkeypatch, capsys, tmp_path):
    """A file or folder that exists is not taken for a mode; the word after it is at fault."""
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        ArgParser(["tests", "trian"])
    assert "received 'trian'. Did you mean 'train'?" in capsys.readouterr().err


def test_help_comes_before_mistakes(capsys):
    """``--help`` shows the help, whatever else is on the line."""
    with pytest.raises(SystemExit) as stop:
        ArgParser(["measur", "picture.tif", "--pixelnm", "3", "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_help_tells_every_use_and_the_choices(capsys):
    """The help mentions the modes without a network, and shows fixed choices."""
    with pytest.raises(SystemExit):
        ArgParser(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    described = text.partition("positional arguments:")[0]
    for word in ("Train, test, use or export", "inspect", "measure", "doctor"):
        assert word in described
    options = text.partition("positional arguments:")[2]
    for shown in (
        "--lr-consistency {report,project}",
        "--shape {lines,discs}",
        "--lines {auto,vertical,horizontal}",
        "--polarity {auto,bright,dark}",
        "--positive {up,down}",
        "--dtype {uint8,int16,uint16,int32,uint32,float32,float64}",
    ):
        assert shown in options


def test_builder_modules_never_import_tensorflow(environment):
    """Importing every module of sr_dataset_builder, with all it needs, stays light."""
    code = (
        "import importlib, pkgutil, sys, sr_dataset_builder as package\n"
        "names = [m.name for m in pkgutil.iter_modules(package.__path__)]\n"
        "for name in names: importlib.import_module(f'sr_dataset_builder.{name}')\n"
        f"print(sorted(names), sorted(set({HEAVY}) & set(sys.modules)))"
    )
    result = python(environment, "-c", code)
    assert result.returncode == 0, result.stderr
    assert "'dataset'" in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_a_mistake_is_one_line_on_the_real_command_line(environment, workshop):
    """``python main.py`` with a misspelt key: exit code 2 and one line, nothing of TensorFlow's."""
    config = workshop.config(batchsize=4)
    result = python(environment, "main.py", config, "train")
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {config}: unknown key batchsize")
    assert "Did you mean 'batch_size'?" in lines[0]


@contextlib.contextmanager
def interruptible():
    """Let children heed Ctrl-C even if the tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_epochs(process, history, count):
    """Wait until history.csv holds `count` epochs below its heading."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if history.is_file() and history.read_text().count("\n") > count:
            return
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"no {count} epochs: {process.communicate()}")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for a single process")
@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "a signal", 143)]
)
def test_ctrl_c_saves_the_state(environment, workshop, number, word, code):
    """Ctrl-C or SIGTERM: two lines and 128 + the signal; state, weights and history are valid."""
    config = workshop.config(epochs=100_000, log_period=100_000)
    folder = workshop.folder / "run"
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, "main.py", str(config), "train"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    wait_for_epochs(process, folder / "history.csv", 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    result = workshop.result(process.returncode, out, err)
    assert result.code == code
    assert "Traceback" not in err
    assert len(result.messages) == 2, err
    assert result.messages[0] == "finishing the step, then saving ..."
    assert result.messages[1].startswith(f"stopped: by {word} after epoch ")
    ending = f"the state is saved. Resume with: python main.py {config} train --resume"
    assert result.messages[1].endswith(ending)
    assert [path for path in folder.rglob("*") if ".tmp" in path.name] == []
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    state = load_checkpoint(folder / "checkpoint")
    assert state.epoch == len(history)
    assert f"after epoch {state.epoch}" in result.messages[1]
    assert not state.step or f"and {state.step} steps of the next" in result.messages[1]
    for name in ("weights_last.h5", "weights_best.h5"):
        assert np.isfinite(np.concatenate([w.ravel() for w in loaded(config, folder / name)])).all()


def loaded(config, weights):
    """Return the weights of the configured model after reading a file."""
    from sr_trainer.modeler import Modeler
    from sr_trainer.user_params import UserParams
    from toolbox.io.weights import load_weights

    model = Modeler(UserParams(config)).build(verbose=0)
    load_weights(model, weights)
    return model.get_weights()


def test_without_tensorflow_one_line_says_what_to_do(monkeypatch):
    """A Python that lacks it is named, with the two ways out; another missing module is a bug."""
    usual = builtins.__import__

    def lacks(name):
        def imported(module, *args, **options):
            if module == "tensorflow":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return usual(module, *args, **options)

        return imported

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(builtins, "__import__", lacks("tensorflow"))
    with pytest.raises(MissingLibraryError, match="TensorFlow is not installed in this Python"):
        Initializer.tf_init()
    monkeypatch.setattr(builtins, "__import__", lacks("absl"))
    with pytest.raises(ModuleNotFoundError, match="absl"):
        Initializer.tf_init()
