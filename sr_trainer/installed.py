"""The packages that the project needs: required and installed versions, and whether they work.

Only the standard library is imported here, so that this also works where a package is missing or
broken. Packages are imported in a separate process: one that kills Python (with an instruction that
the processor lacks) is reported too.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import toolbox
from toolbox.errors import MissingLibraryError

NAME = "sr-toolbox"
#: Folder that holds the packages: the root of the repository, or that of an installation.
ROOT = Path(toolbox.__file__).resolve().parents[1]
#: Modules whose name differs from that of their package.
_MODULES = {
    "opencv-python": "toolbox.opencv",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "pillow": "PIL",
}
#: Other builds of the same modules.
_OTHER_BUILDS = {
    "tensorflow": ("tensorflow-cpu", "tensorflow-macos", "tf-nightly"),
    "opencv-python": (
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}
#: Extras that the programs do not import; only their versions are reported.
_TOOLS = ("dev", "docs", "bench")
_LIMIT_S = 300
_SILENT = "did not answer within"
_CHILD = (
    "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path'];"
    "from sr_trainer.installed import answer; answer(given['modules'])"
)


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A package with the accepted versions.

    Parameters
    ----------
    name : str
        Name on the package index, in lower case with hyphens.
    wanted : str
        Accepted versions, such as ``>=2.18,<3``; empty for any.
    extra : str
        Extra that requires the package; empty if it is always required.
    """

    name: str
    wanted: str = ""
    extra: str = ""

    @classmethod
    def parse(cls, text: str, extra: str = "") -> Requirement:
        """Parse a line of requirements.txt, pyproject.toml or of an installed package."""
        text, _, marker = text.partition("#")[0].partition(";")
        found = re.match(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?([^)]*)\)?", text)
        if found is None:
            raise ValueError(f"{text!r} does not name a package")
        in_marker = re.search(r"extra\s*==\s*['\"]([\w.-]+)", marker)
        name = re.sub(r"[-_.]+", "-", found[1]).lower()
        wanted = re.sub(r"\s", "", found[2])
        return cls(name, wanted, in_marker[1] if in_marker else extra)

    def admits(self, version: str) -> bool:
        """Return whether a version is accepted."""
        compare: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
            ">=": lambda a, b: a >= b,
            "<=": lambda a, b: a <= b,
            "==": lambda a, b: a == b,
            "!=": lambda a, b: a != b,
            "~=": lambda a, b: a >= b,
            ">": lambda a, b: a > b,
            "<": lambda a, b: a < b,
        }
        for part in filter(None, self.wanted.split(",")):
            sign, bound = re.match(r"([<>=!~]*)(.*)", part).groups()  # type: ignore[union-attr]
            if sign in compare and not compare[sign](*_aligned(version, bound)):
                return False
        return True


def _aligned(*versions: str) -> list[tuple[int, ...]]:
    """Return the numbers of versions, shorter ones filled up with zeros: 3.1 is 3.1.0."""
    parts = [[int(n) for n in re.findall(r"\d+", v.partition("+")[0])] for v in versions]
    length = max(map(len, parts))
    return [tuple(p + [0] * (length - len(p))) for p in parts]


def requirements(root: Path = ROOT) -> list[Requirement]:
    """Return the requirements of the project, from its files or from the installed package.

    Parameters
    ----------
    root : pathlib.Path
        Root of the repository.
    """
    core, project = root / "requirements.txt", root / "pyproject.toml"
    if not project.is_file():
        return _installed_requirements()
    lines = core.read_text(encoding="utf-8").splitlines()
    found = [Requirement.parse(line) for line in lines if line.partition("#")[0].strip()]
    try:
        import tomllib
    except ImportError:  # Python 3.10
        return found + [r for r in _installed_requirements() if r.extra]
    content = tomllib.loads(project.read_text(encoding="utf-8"))
    extras = content["project"]["optional-dependencies"]
    return found + [Requirement.parse(line, name) for name in extras for line in extras[name]]


def _installed_requirements() -> list[Requirement]:
    try:
        return [Requirement.parse(line) for line in metadata.requires(NAME) or ()]
    except metadata.PackageNotFoundError:
        return []


def pinned_versions(root: Path = ROOT) -> dict[str, str]:
    """Return the versions of constraints.txt by package; empty if the file is missing."""
    for path in (root / "constraints.txt", Path(__file__).with_name("constraints.txt")):
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            pins = [Requirement.parse(line) for line in lines if "==" in line]
            return {pin.name: pin.wanted.removeprefix("==") for pin in pins}
    return {}


@dataclasses.dataclass(frozen=True)
class Found:
    """What is installed for a requirement.

    Parameters
    ----------
    requirement : Requirement
        The requirement.
    version : str or None
        Installed version; None if missing.
    build : str
        Name of the installed package: that of the requirement, or of another build.
    error : str
        Why it cannot be imported, in one line; empty if it can.
    facts : dict of str to str
        What it reported about itself when it was imported.
    """

    requirement: Requirement
    version: str | None
    build: str
    error: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer in time, so that it may work."""
        return self.error.startswith(_SILENT)

    @property
    def complaint(self) -> str:
        """What is wrong, in a few words; empty if it works."""
        if self.version is None:
            return "missing"
        if self.error:
            return self.error if self.is_silent else f"cannot be imported: {self.error}"
        if not self.requirement.admits(self.version):
            return f"outside {self.requirement.wanted}"
        return ""


def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def look_up(wanted: Iterable[Requirement], probe: Callable[..., Any] | None = None) -> list[Found]:
    """Find out what is installed, and whether it can be imported.

    Parameters
    ----------
    wanted : iterable of Requirement
        The requirements.
    probe : callable, optional
        Imports modules by name and returns an answer for each; default `probe_modules`.
    """
    builds: dict[str, list[str]] = {}
    modules: dict[str, str] = {}
    wanted = list(wanted)
    for requirement in wanted:
        name = requirement.name
        installed = [n for n in (name, *_OTHER_BUILDS.get(name, ())) if _version_of(n)]
        builds[name] = installed or [name]
        if installed and requirement.extra not in _TOOLS:
            modules[name] = _MODULES.get(name, name.replace("-", "_"))
    answers = (probe or probe_modules)(list(dict.fromkeys(modules.values())))
    found = []
    for requirement in wanted:
        build = " and ".join(builds[requirement.name])
        answer = answers.get(modules.get(requirement.name, ""), {})
        version = _version_of(builds[requirement.name][0])
        found.append(
            Found(requirement, version, build, answer.get("error", ""), answer.get("facts", {}))
        )
    return found


def probe_modules(modules: Sequence[str], limit_s: float = _LIMIT_S) -> dict[str, dict[str, Any]]:
    """Import modules in another process, and return what they report about themselves.

    Parameters
    ----------
    modules : sequence of str
        Names of modules.
    limit_s : float
        Seconds after which an import that has not finished counts as broken.

    Returns
    -------
    dict of str to dict
        By module, ``error`` (one line) or ``facts``.
    """
    answers: dict[str, dict[str, Any]] = {}
    left = list(modules)
    while left:
        lines, ending = _ask(left, limit_s)
        answers.update(zip(left, map(json.loads, lines), strict=False))
        left = left[len(lines) :]
        if left:  # the process ended while it imported this one
            answers[left.pop(0)] = {"error": ending}
    return answers


def _ask(modules: list[str], limit_s: float) -> tuple[list[str], str]:
    """Return the answers of a process, and how it ended."""
    given = json.dumps({"path": sys.path, "modules": modules})
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as notes:
        command = [sys.executable, "-c", _CHILD]
        try:
            code = subprocess.run(
                command, input=given, stdout=out, stderr=notes, text=True, timeout=limit_s
            ).returncode
            ending = f"ended Python with {_signal(code)}"
        except subprocess.TimeoutExpired:
            out.seek(0)
            remedy = "the machine may be busy. Run doctor again."
            return out.read().splitlines(), f"{_SILENT} {limit_s:g} s; {remedy}"
        out.seek(0)
        notes.seek(0)
        last = [line.strip() for line in notes if line.strip()][-1:]
        return out.read().splitlines(), ": ".join([ending, *last])


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def answer(modules: Iterable[str]) -> None:
    """Import modules and print an answer for each, one line of JSON; see `probe_modules`."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # keeps what packages print out of the answers
        for module in modules:
            print(json.dumps(_examined(module)), file=out, flush=True)


def _examined(module: str) -> dict[str, Any]:
    try:
        loaded = importlib.import_module(module)
        return {"facts": _FACTS.get(module, lambda _: {})(loaded)}
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The toolbox's own messages give the reason and the fix.
        name = "" if isinstance(error, MissingLibraryError) else type(error).__name__
        return {"error": ": ".join(filter(None, [name, *lines[:1]]))}


def _tensorflow_facts(tf: Any) -> dict[str, str]:
    devices = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", "")
        devices.append(f"{device.name.partition('device:')[2]} {name}".strip())
    built = tf.sysconfig.get_build_info()
    cuda = built.get("cuda_version") if built.get("is_cuda_build") else None
    return {"devices": ", ".join(devices), "cuda": str(cuda or "")}


def _opencv_facts(module: Any) -> dict[str, str]:
    windows = re.search(r"^\s*GUI:\s*(\S+)", module.cv2.getBuildInformation(), re.MULTILINE)
    return {"windows": windows[1] if windows else "unknown"}


def _matplotlib_facts(matplotlib: Any) -> dict[str, str]:
    return {"backend": str(matplotlib.get_backend())}


_FACTS: Mapping[str, Callable[[Any], dict[str, str]]] = {
    "tensorflow": _tensorflow_facts,
    "toolbox.opencv": _opencv_facts,
    "matplotlib": _matplotlib_facts,
}
