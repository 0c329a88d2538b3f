"""The plugin for QGIS: its command line, its progress, the program; and inside QGIS itself."""

import configparser
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import toolbox
from examples.qgis.pack import main as pack
from examples.qgis.sample import write_sample
from examples.qgis.sr_toolbox_qgis import program
from examples.qgis.sr_toolbox_qgis.program import ProgramError

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "examples" / "qgis" / "sr_toolbox_qgis"
#: Debian's qgis_process hands qgis_process.bin an option that this does not know.
QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")

#: Stands for sr-trainer: copies its input, after half of the work waits or fails if asked to.
STUB = r"""#!{python}
import os, shutil, sys, time
source, target = sys.argv[2], sys.argv[sys.argv.index("-o") + 1]
print(f"{{source}}: 4 × 4 pixels; positive down (assumed)")
print("WARNING: stripes: many. Take care.")
for percent in (0, 50):
    sys.stderr.write(f"\renlarging: {{percent:3}}%|#    | 2/4 [00:01<00:01,  2.0px/s]")
    sys.stderr.flush()
sys.stderr.write("\n")
open("half.tif", "w").close()
if "--wait" in sys.argv:
    time.sleep(60)
if "--fail" in sys.argv:
    sys.exit("usage: sr-trainer\nerror: it is damaged.")
if "--crash" in sys.argv:
    raise ValueError("a bug")
os.remove("half.tif")
shutil.copyfile(source, target)
"""

ENTRY = """#!{python}
import sys
sys.path.insert(0, {root!r})
from sr_trainer.main import main
sys.exit(main())
"""


def write_program(path, text, **words):
    """Write a program that can be started by its name."""
    path.write_text(text.format(python=sys.executable, **words), encoding="utf-8")
    path.chmod(0o755)
    return path


@dataclasses.dataclass
class Feedback:
    """Stands for QgsProcessingFeedback; cancelled once `stop_at` per cent are reached."""

    stop_at: float = 1000
    said: list = dataclasses.field(default_factory=list)
    percent: list = dataclasses.field(default_factory=list)

    def __getattr__(self, name):
        return lambda text: self.said.append((name, text))

    def isCanceled(self):
        return bool(self.percent) and self.percent[-1] >= self.stop_at

    def setProgress(self, percent):
        self.percent.append(percent)


@pytest.fixture
def stub(tmp_path):
    """Return what starts the stub with options, in a folder of its own, and that folder."""
    path = write_program(tmp_path / "stub.py", STUB)
    (tmp_path / "map.tif").write_bytes(b"pixels")
    (tmp_path / "work").mkdir()

    def run(feedback, *options):
        words = "predict", str(tmp_path / "map.tif"), "-o", "out.tif", *options
        return program.run([sys.executable, str(path), *words], tmp_path / "work", feedback)

    return run, tmp_path / "work"


# --- the command line ---------------------------------------------------------------------------


def test_command_with_a_model_that_ships():
    """A model that ships is named by --pretrained, options come last."""
    command = program.build_command(
        "sr", "predict", "/a.tif", "b.tif", "bathymetry_x4", options=["--interval", "0.9"]
    )
    words = "sr predict /a.tif -o b.tif --pretrained bathymetry_x4 --interval 0.9"
    assert command == words.split()


def test_a_log_folder_wins_over_the_model():
    """A log folder comes first, and no model is named with it."""
    command = program.build_command("sr", "predict", "a", "b", "bathymetry_x4", os.sep + "log")
    assert command == ["sr", str(Path(os.sep, "log").absolute()), "predict", "a", "-o", "b"]


def test_inspection_without_a_model():
    """Inspect needs no model."""
    assert program.build_command("sr", "inspect", "a", "b") == ["sr", "inspect", "a", "-o", "b"]


def test_the_program_knows_the_command_line():
    """The command lines that the plugin makes are those of the program."""
    from sr_trainer.arg_parser import ArgParser

    options = program.source_options("a.nc", "z", 3) + program.further_options("--dtype float32")
    more = ["--report", "--interval", "0.9", *options]
    command = program.build_command("sr", "predict", "a.nc", "b.nc", "bathymetry_x4", options=more)
    args = ArgParser(command[1:]).args
    assert (args.mode, args.input, args.output) == ("predict", "a.nc", "b.nc")
    assert (args.pretrained, args.interval, args.report) == ("bathymetry_x4", "0.9", True)
    assert (args.variable, args.time, args.dtype) == ("z", "3", "float32")
    inspect = program.build_command("sr", "inspect", "a.tif", "b.html", folder="log")
    assert ArgParser(inspect[1:]).args.yml_fname == str(Path("log").absolute())


def test_models_of_the_plugin_ship():
    """Every model that the plugin offers is there, and is one for maps."""
    for name in program.MODELS:
        config = (ROOT / "toolbox" / "pretrained" / name / "config.yml").read_text("utf-8")
        assert "task: bathymetry" in config.splitlines()


@pytest.mark.parametrize("text", ["-o x.tif", "--output=x.tif", '"open'])
def test_further_options_that_are_refused(text):
    """The plugin sets the output; an open quotation mark is reported."""
    with pytest.raises(ProgramError, match="further options"):
        program.further_options(text)


@pytest.mark.parametrize(
    "form", ["{}", "{}|option:X=1", 'NETCDF:"{}":depth', "NETCDF:{}:depth", 'BAG:"{}":elevation']
)
def test_sources_of_layers(tmp_path, form):
    """The file of a GDAL layer is found in all notations, and the variable of a NetCDF file."""
    path = tmp_path / "a.nc"
    path.touch()
    found = program.split_source(form.format(path))
    assert found == (str(path), "depth" if form.startswith("NETCDF") else None)


@pytest.mark.parametrize("source", ["/vsimem/a.tif", "", "url=http://127.0.0.1&type=xyz"])
def test_sources_that_are_no_files(source):
    """A layer that is not a file on disk is refused in one line."""
    with pytest.raises(ProgramError, match="is not a file on disk") as caught:
        program.split_source(source)
    assert "\n" not in str(caught.value)


def test_the_input_is_not_replaced(tmp_path):
    """A result in the place of its input is refused; any other file may be replaced."""
    source, other = tmp_path / "a.tif", tmp_path / "b.tif"
    source.touch()
    other.touch()
    program.refuse_the_input(str(source), other)
    with pytest.raises(ProgramError, match="is the input itself"):
        program.refuse_the_input(str(source), tmp_path / "." / "a.tif")


def test_bands_and_steps():
    """A band of a GeoTIFF is a variable, one of a NetCDF variable a step of its further axis."""
    assert program.source_options("a.tif", None, None) == []
    assert program.source_options("a.tif", None, 2) == ["--variable", "2"]
    assert program.source_options("a.nc", "z", None) == ["--variable", "z"]
    assert program.source_options("a.nc", None, 2) == ["--time", "2"]


# --- the program --------------------------------------------------------------------------------


def test_the_program_is_found(tmp_path):
    """The setting wins over the variable, the variable over the PATH."""
    paths = [tmp_path / name / "sr-trainer" for name in ("setting", "variable", "path")]
    for path in paths:
        path.parent.mkdir()
        write_program(path, STUB)
    environment = {"PATH": str(paths[2].parent)}
    if os.name != "nt":
        assert program.find_program("", environment) == str(paths[2])
    environment["SR_TRAINER"] = str(paths[1])
    assert program.find_program("", environment) == str(paths[1])
    assert program.find_program(str(paths[0]), environment) == str(paths[0])


@pytest.mark.parametrize(
    ("setting", "environment", "words"),
    [
        ("", {"PATH": ""}, "is not on the PATH"),
        ("/no/sr-trainer", {}, "/no/sr-trainer: no such program, as given in the settings"),
        ("", {"SR_TRAINER": "/no/sr"}, "/no/sr: no such program, as given in the variable"),
    ],
)
def test_a_missing_program_is_told(setting, environment, words):
    """One line says what is missing and how to set it."""
    with pytest.raises(ProgramError, match=r"Settings > Options > Processing") as caught:
        program.find_program(setting, environment)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variables_of_the_other_python_are_left_out():
    """QGIS's Python, GDAL and PROJ do not reach the program; the rest does."""
    found = program.child_environment({"PYTHONHOME": "/q", "PROJ_LIB": "/q", "PATH": "/bin"})
    assert "PYTHONHOME" not in found
    assert "PROJ_LIB" not in found
    assert found["PATH"] == "/bin"


def test_bars_of_the_toolbox_are_understood():
    """What `toolbox.progress` writes in a pipe is parsed, and comes twice a second if asked."""
    code = (
        "import time; from toolbox.progress import progress\n"
        "for _ in progress(range(8), 'enlarging'): time.sleep(0.02)\n"
        "for _ in progress(iter(range(8)), 'inspecting', unit=' windows'): time.sleep(0.02)"
    )
    counts = []
    for variables in ({}, {"TQDM_MININTERVAL": "0.01"}):
        err = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stderr
        lines = [line.strip() for line in err.replace("\r", "\n").split("\n") if line.strip()]
        found = [program.parse_progress(line) for line in lines]
        assert None not in found
        assert ("enlarging", 100) in found
        assert ("inspecting: 8 windows", None) in found
        counts.append(len(found))
    assert counts[0] <= 5
    assert counts[1] >= 10


@pytest.mark.parametrize(
    "line", ["error: no such file", "map.tif: 5 × 4 pixels in 0.1 s", "  fine    100 % [x]"]
)
def test_other_lines_are_no_progress(line):
    """Messages are not mistaken for progress bars."""
    assert program.parse_progress(line) is None


def test_messages_and_progress_of_a_run(stub):
    """Messages are information, warnings warnings; the bar moves; the lines come back."""
    run, folder = stub
    feedback = Feedback()
    lines = run(feedback)
    assert (folder / "out.tif").read_bytes() == b"pixels"
    assert program.is_positive_down(lines)
    assert feedback.percent == [0, 50]
    assert ("pushWarning", "stripes: many. Take care.") in feedback.said
    assert ("pushInfo", lines[0]) in feedback.said
    assert feedback.said.count(("setProgressText", "enlarging")) == 1


def test_a_failed_run_is_the_programs_line(stub):
    """The error is the program's own line, without what it printed besides."""
    with pytest.raises(ProgramError, match=r"^it is damaged\.$"):
        stub[0](Feedback(), "--fail")


def test_a_crash_is_one_line(stub):
    """The last line of a traceback is reported."""
    with pytest.raises(ProgramError, match=r"^sr-trainer failed with exit code 1: ValueError: a"):
        stub[0](Feedback(), "--crash")


def test_a_program_that_cannot_start(tmp_path):
    """A file that is not a program is reported in one line."""
    (tmp_path / "sr-trainer").write_text("no program")
    with pytest.raises(ProgramError, match="cannot be started"):
        program.run([str(tmp_path / "sr-trainer")], tmp_path, Feedback())


def test_cancelling_ends_the_program(stub):
    """A cancelled run returns nothing, at once, and the program is gone."""
    start = time.monotonic()
    assert stub[0](Feedback(stop_at=50), "--wait") is None
    assert time.monotonic() - start < 20


def test_what_was_made_comes_to_its_place(tmp_path):
    """Result, page and the rest are moved; statistics of a former result go; no folder stays."""
    target, page = tmp_path / "new" / "a.tif", tmp_path / "page.html"
    target.parent.mkdir()
    target.with_name("a.tif.aux.xml").write_text("former statistics")
    target.write_text("former")
    with program.folder_beside(target) as folder:
        (folder / "a.tif").write_text("result")
        (folder / "a.tif.html").write_text("page")
        (folder / "a_hillshade.png").write_text("picture")
        program.put_all(folder, target, page)
    assert target.read_text() == "result"
    assert page.read_text() == "page"
    assert sorted(p.name for p in target.parent.iterdir()) == ["a.tif", "a_hillshade.png"]


def test_no_result_leaves_the_former_one(tmp_path):
    """If the program wrote nothing, this is reported, and the former result is unchanged."""
    target = tmp_path / "a.tif"
    target.write_text("former")
    with (
        pytest.raises(ProgramError, match="ended without writing this file"),
        program.folder_beside(target) as folder,
    ):
        (folder / ".a.tif.partial").touch()
        program.put_all(folder, target, None)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert target.read_text() == "former"


def test_exaggeration():
    """The steepest tenth becomes steeper than 0.5; flat ground stays as it is."""
    assert program.z_factor([0.0, *[0.01] * 95, *[0.1] * 5]) == pytest.approx(50)
    assert program.z_factor([0.0, 0.0]) == 1


# --- the zip ------------------------------------------------------------------------------------


def test_the_zip_is_reproducible(tmp_path):
    """Two zips have the same bytes; one folder in it holds all that QGIS needs, and the licence."""
    contents = []
    for name in ("a.zip", "b.zip"):
        assert pack([str(tmp_path / name)]) == 0
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        assert all(name.startswith("sr_toolbox_qgis/") for name in archive.namelist())
    sources = {path.name for path in PLUGIN.glob("*.py")}
    assert names == {*sources, "metadata.txt", "icon.svg", "LICENSE"}


def test_the_plugin_has_the_version_of_the_toolbox():
    """Both are one release."""
    metadata = configparser.ConfigParser()
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    assert metadata["general"]["version"] == toolbox.__version__
    assert metadata["general"]["hasProcessingProvider"] == "yes"


def test_the_plugin_imports_nothing_of_the_toolbox():
    """QGIS's Python has neither the toolbox nor what it needs."""
    allowed = ("from __future__", "from qgis.", "from processing.", "from .", "import processing")
    standard = sys.stdlib_module_names
    for path in PLUGIN.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                is_own = line.strip().startswith(allowed)
                assert is_own or words[1].split(".")[0] in standard, f"{path.name}: {line}"


# --- inside QGIS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qgis(tmp_path_factory):
    """Return the variables for a QGIS without a window, with a profile and the plugin in it."""
    home = tmp_path_factory.mktemp("qgis")
    (home / "plugins").mkdir()
    shutil.copytree(
        PLUGIN, home / "plugins" / PLUGIN.name, ignore=shutil.ignore_patterns("__pycache__")
    )
    (home / "run").mkdir(mode=0o700)
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in own}
    # QGIS would take the packages of an environment that stands first in the PATH.
    bin_here = str(Path(sys.executable).parent)
    folders = [path for path in os.environ["PATH"].split(os.pathsep) if path != bin_here]
    return {
        **variables,
        "PATH": os.pathsep.join(folders),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(home / "plugins"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def qgis_process(qgis):
    """Return ``qgis_process(*words, **variables)``, with the plugin enabled."""
    if QGIS_PROCESS is None:
        pytest.skip("qgis_process is not installed (Debian: apt-get install qgis)")

    def call(*words, **variables):
        return subprocess.run(
            [QGIS_PROCESS, *words],
            env={**qgis, **variables},
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    enabled = call("plugins", "enable", PLUGIN.name)
    assert enabled.returncode == 0, enabled.stdout + enabled.stderr
    return call


@pytest.fixture
def process(qgis_process, tmp_path):
    """Return ``process(algorithm, NAME=value)``: a run with the true program."""
    entry = write_program(tmp_path / "sr-trainer", ENTRY, root=str(ROOT))

    def run(algorithm, **parameters):
        words = [f"{name}={value}" for name, value in parameters.items()]
        name = f"sr_toolbox:{algorithm}"
        return qgis_process("--json", "run", name, "--", *words, SR_TRAINER=str(entry))

    return run


def test_end_to_end(process, workshop, rasterio):
    """``qgis_process`` gives the pixels of ``predict`` alone, four times finer, gaps kept."""
    folder = workshop.folder
    source, target, page = folder / "a.tif", folder / "out" / "a_x4.tif", folder / "page.html"
    write_sample(str(source))
    given = {"INPUT": source, "MODEL": "bathymetry_x4", "INTERVAL": 0.9}
    result = process("superresolve", **given, OUTPUT=target, REPORT=page)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["results"] == {"OUTPUT": str(target), "REPORT": str(page)}
    assert any("land: 100 %" in line for line in told["log"]["warning"])
    assert "<html" in page.read_text(encoding="utf-8")
    assert [path.name for path in target.parent.iterdir()] == [target.name]

    alone = folder / "alone.tif"
    words = "--pretrained", "bathymetry_x4", "--interval", "0.9"
    assert workshop.run("predict", source, "-o", alone, *words).code == 0
    with rasterio.open(source) as coarse, rasterio.open(target) as fine:
        assert fine.shape == (4 * coarse.height, 4 * coarse.width)
        assert fine.crs == coarse.crs
        np.testing.assert_allclose(fine.bounds, coarse.bounds, rtol=0, atol=1e-9)
        assert fine.nodata == coarse.nodata
        assert fine.descriptions[1:] == ("lower", "upper")
        missing = coarse.read(1) == coarse.nodata
        assert missing.any()
        np.testing.assert_array_equal(
            fine.read(1) == fine.nodata, missing.repeat(4, 0).repeat(4, 1)
        )
        with rasterio.open(alone) as expected:
            assert fine.read().tobytes() == expected.read().tobytes()


def test_end_to_end_failure(process, tmp_path):
    """A damaged file gives the one-line error of the program, and no file is left."""
    (tmp_path / "bad.tif").write_text("no raster")
    result = process(
        "inspect", INPUT=tmp_path / "bad.tif", MODEL="none", PAGE=tmp_path / "out" / "page.html"
    )
    assert result.returncode != 0
    lines = {line.strip() for line in result.stderr.splitlines() if "bad.tif" in line}
    assert len(lines) == 1  # QGIS says it in its log and as the error
    assert "cannot be read as a raster" in lines.pop()
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def qgis_python():
    """Return the Python that QGIS's own modules are installed for."""
    for candidate in ("/usr/bin/python3", "python3", "python-qgis"):
        path = shutil.which(candidate)
        command = [path, "-c", "import qgis.core, osgeo"]
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if path and subprocess.run(command, env=clean, capture_output=True).returncode == 0:
            return path
    pytest.skip("no Python with QGIS's modules was found (Debian: apt-get install python3-qgis)")


def test_in_a_session(qgis, qgis_python, tmp_path, rasterio):
    """Style, log, cancelling, and layers that are no files, with a stub for the program."""
    stub = write_program(tmp_path / "sr-trainer", STUB)
    source, folder = tmp_path / "a.tif", tmp_path / "out"
    write_sample(str(source))
    result = subprocess.run(
        [qgis_python, str(ROOT / "tests" / "qgis_session.py"), stub, source, folder],
        env={**qgis, "PYTHONPATH": qgis["QGIS_PLUGINPATH"]},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert result.stdout, result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["results"] == {"OUTPUT": str(folder / "result.tif")}
    assert "stripes: many. Take care." in seen["log"]
    kind, azimuth, factor = seen["style"]
    assert (kind, azimuth) == ("hillshade", 135)  # depths: lit so that hills are hills
    assert 1e-6 < factor < 1e-4  # degrees
    assert "tiles: is a layer of the provider wms" in seen["tiles"]
    assert "/vsimem/map.tif: is not a file on disk" in seen["memory"]
    assert seen["failed"] == "it is damaged."
    assert seen["cancelled"] == {}
    assert seen["left"] == []
