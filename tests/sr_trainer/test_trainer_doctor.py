"""``main.py doctor``: what it says of good, bad and missing packages, and what it does not tell."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sr_trainer import doctor, installed
from sr_trainer.installed import Requirement, look_up, probe_modules, requirements
from toolbox.io.extras import install_command

ROOT = Path(__file__).resolve().parents[2]


def silent(modules):
    """Answer for every module that it can be imported, without importing it."""
    return {module: {"facts": {}} for module in modules}


@pytest.fixture
def versions(monkeypatch):
    """``versions(numpy="1.0", av=None)``: pretend that these are installed, or missing."""
    true = metadata.version

    def pretend(**changed):
        changed = {name.replace("_", "-"): version for name, version in changed.items()}

        def version(name):
            if changed.get(name, "") is None:
                raise metadata.PackageNotFoundError(name)
            return changed.get(name) or true(name)

        monkeypatch.setattr(installed.metadata, "version", version)

    return pretend


def line_of(report, start):
    """Return the one line of a report that begins with `start`."""
    (line,) = [line for line in report.splitlines() if line.strip().startswith(start)]
    return line.strip()


def test_report_of_this_environment():
    """The real program: one screen, every section, exit code 0, nothing on standard error."""
    result = subprocess.run(
        [sys.executable, "main.py", "doctor"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stderr) == (0, "")
    report = result.stdout
    assert len(report.splitlines()) < 60
    assert "TensorFlow sees CPU:0" in line_of(report, "devices")
    for start in ("toolbox", "Python", "system", "machine", "OpenCV", "Matplotlib", "extras"):
        assert line_of(report, start)
    tensorflow = line_of(report, "tensorflow").split()
    assert tensorflow[1] == metadata.version("tensorflow")
    assert line_of(report, "verdict").endswith("works")


def test_nothing_but_python(tmp_path, monkeypatch):
    """Without any package the report is made all the same: exit code 1 and no traceback."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from sr_trainer.main import main\n"
        "main(['doctor'])"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "PROBLEM: tensorflow: missing" in result.stdout
    assert "TensorFlow sees nothing" in result.stdout
    assert line_of(result.stdout, "geo").startswith("geo         missing rasterio, xarray")
    monkeypatch.chdir(tmp_path)
    assert doctor.hidden(install_command("geo")) in line_of(result.stdout, "geo")
    assert line_of(result.stdout, "verdict") == "verdict     PROBLEM: see the lines above"


def test_modules_that_fail(tmp_path, monkeypatch):
    """An error, a crash, an exit, chatter and a module that never ends: one answer for each."""
    for name, code in {
        "bad_error": "raise ImportError('libfoo.so.1: cannot open\\nsecond line')",
        "bad_crash": "import os, sys; print('needs AVX', file=sys.stderr, flush=True); os.abort()",
        "bad_exit": "raise SystemExit(3)",
        "good": "print('{\"a\": 1}')",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    answers = probe_modules(["bad_error", "bad_crash", "bad_exit", "good"])
    assert answers["bad_error"] == {"error": "ImportError: libfoo.so.1: cannot open"}
    assert answers["bad_crash"]["error"].startswith("ended Python with ")
    assert answers["bad_crash"]["error"].endswith(": needs AVX")
    assert answers["bad_exit"] == {"error": "SystemExit: 3"}
    assert answers["good"] == {"facts": {}}


def test_a_module_that_never_ends(tmp_path, monkeypatch):
    """A module that hangs is given up after the limit."""
    (tmp_path / "endless.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    assert probe_modules(["endless"], limit_s=0.2) == {
        "endless": {
            "error": "did not answer within 0.2 s; the machine may be busy. Run doctor again."
        }
    }


def test_a_busy_machine_is_not_a_broken_package():
    """No answer in time: no talk of an import that failed, and no line of TensorFlow's log."""
    silence = "did not answer within 300 s; the machine may be busy. Run doctor again."

    def probe(modules):
        return silent(modules) | {"tensorflow": {"error": silence}}

    report, works = doctor.examine(probe)
    assert not works
    assert f"    PROBLEM: tensorflow: {silence}\n" in report
    assert "TensorFlow sees nothing: it did not answer, see below" in report


def test_the_log_of_a_silent_module_is_left_out(tmp_path, monkeypatch):
    """What a module wrote before it was given up does not explain why it was slow."""
    code = "import sys, time; print('I0000 CUDA', file=sys.stderr, flush=True); time.sleep(60)"
    (tmp_path / "chatty.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert "I0000" not in probe_modules(["chatty"], limit_s=1)["chatty"]["error"]


def test_opencv_without_its_system_library(tmp_path, monkeypatch):
    """OpenCV without libGL: one line with the reason and both remedies."""
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    error = probe_modules(["toolbox.opencv"])["toolbox.opencv"]["error"]
    assert error.startswith(f"OpenCV cannot be imported ({reason})")
    assert "libgl1" in error
    assert "opencv-python-headless" in error


def test_broken_tensorflow():
    """A TensorFlow that cannot be imported is one line with the reason; the verdict is no."""

    def probe(modules):
        return silent(modules) | {"tensorflow": {"error": "ImportError: no AVX"}}

    report, works = doctor.examine(probe)
    assert not works
    assert "PROBLEM: tensorflow: cannot be imported: ImportError: no AVX" in report
    assert "TensorFlow sees nothing: it cannot be used" in report


def test_version_outside_of_the_range(versions):
    """A core package that is too old is a problem; another one than tested is only told."""
    versions(numpy="1.2", scipy="1.99.0")
    report, works = doctor.examine(silent)
    assert not works
    assert "PROBLEM: numpy: outside >=" in report
    assert line_of(report, "scipy").endswith("(another)")
    assert "PROBLEM: scipy" not in report


def test_missing_extra_is_no_failure(versions):
    """A missing extra is named with what brings it; the core works."""
    versions(av=None)
    report, works = doctor.examine(silent)
    assert works
    assert f"missing av: {install_command('video')}" in line_of(report, "video")


def test_other_builds_will_do(versions):
    """OpenCV without windows has another name on the package index, and is as good."""
    versions(opencv_python=None, opencv_python_headless="5.0.0.93")
    (found,) = look_up([Requirement("opencv-python", ">=4.8")], silent)
    assert (found.version, found.build, found.complaint) == (
        "5.0.0.93",
        "opencv-python-headless",
        "",
    )


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (">=2.18", ("2.18", "2.18.0", "2.21.0", "10.0"), ("2.17.1", "1.99")),
        ("==3.1", ("3.1", "3.1.0"), ("3.1.1",)),
        (">=3.10,<3.14", ("3.10.0", "3.13.9"), ("3.14.0", "3.9.18")),
        ("!=1.5,>1", ("1.6",), ("1.5.0", "1.0")),
        ("", ("0.1",), ()),
    ],
)
def test_versions_admitted(wanted, good, bad):
    """Versions are compared number by number, with zeros where one is shorter."""
    requirement = Requirement.parse(f"name[extra] {wanted}  # remark")
    assert (requirement.name, requirement.wanted) == ("name", wanted)
    assert [v for v in good if not requirement.admits(v)] == []
    assert [v for v in bad if requirement.admits(v)] == []


def test_requirements_of_an_installation(tmp_path):
    """Where the project's files are not at hand, the installed package says what it needs."""
    by_files = {(r.name, r.extra) for r in requirements()}
    by_package = {(r.name, r.extra) for r in requirements(tmp_path)}
    assert {("tensorflow", ""), ("av", "video"), ("psycopg", "postgresql")} <= by_files & by_package


def test_no_name_of_a_user(monkeypatch, tmp_path):
    """Home folders become ``~``, and the name of a user in other paths is taken out."""
    home = tmp_path / "alice"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    text = f"{home}/work {home} {home}2 /scratch/alice/x /scratch/aliceblue"
    assert doctor.hidden(text) == f"~/work ~ {home}2 /scratch/USER/x /scratch/aliceblue"
    assert doctor.hidden(f"pip install -e '{home}/sr[geo]'") == "pip install -e ~/'sr[geo]'"


def test_variables(monkeypatch):
    """Variables that matter are shown, those that may be secret are not."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("TF_CONFIG", "an address")
    monkeypatch.setenv("TF_TOKEN_example", "a secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    report, _ = doctor.examine(silent)
    assert "  TF_ENABLE_ONEDNN_OPTS=0\n" in report
    assert "  CUDA_VISIBLE_DEVICES=1\n" in report
    assert "  TF_CONFIG=(set, not shown)\n" in report
    assert "a secret" not in report


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_folder_without_rights(monkeypatch, tmp_path):
    """A folder that cannot be written to is said to be so."""
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.chdir(tmp_path / "closed")
    report, _ = doctor.examine(silent)
    assert "NOT writable (Permission denied)" in line_of(report, "current")


def test_options_that_do_not_matter(workshop, monkeypatch):
    """``main.py doctor --overwrite`` is the doctor, with his exit code."""
    monkeypatch.setattr(doctor, "examine", lambda: ("report", False))
    result = workshop.run("doctor", "--overwrite")
    assert (result.code, result.out, result.err) == (1, "report\n", "")


def test_doctor_takes_no_file(workshop):
    """``main.py doctor file`` is refused in one line of usage."""
    for words in (
        ["doctor", "map.tif"],
        ["doctor", "-o", "a.txt"],
        ["doctor", "--pretrained", "a"],
    ):
        result = workshop.run(*words)
        assert result.code == 2
        assert "doctor" in result.messages[-1]
        assert "Traceback" not in result.err
