"""The report for a bug: versions, devices, folders and environment variables of a machine.

Only the standard library is imported here, so that the report also works where a package is missing
or broken; see `sr_trainer.installed`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import toolbox
from sr_trainer.installed import (
    NAME,
    ROOT,
    Found,
    Requirement,
    look_up,
    pinned_versions,
    requirements,
)
from toolbox.io.cache import keras_home
from toolbox.io.extras import install_command

_VARIABLES = re.compile(
    r"TF_|XLA_|KERAS_|CUDA_|NVIDIA_|OPENCV_|OPENBLAS_|OMP_|MKL_|MPL|GDAL_|PROJ_|PYTHON"
    r"|LD_LIBRARY_PATH$|DISPLAY$"
)
#: Variables of Terraform also start with TF_, and some of them are secret.
_FOREIGN = re.compile(r"TF_(VAR|TOKEN|CLI|WORKSPACE|LOG|DATA_DIR|INPUT)")
_UNSEEN = re.compile(r"^TF_CONFIG$|TOKEN|SECRET|PASSWORD|KEY|PROXY")


def installation(root: Path = ROOT) -> str:
    """Return how the toolbox was installed, and where."""
    own = list(metadata.distributions(name=NAME))
    origins = [json.loads(found.read_text("direct_url.json") or "{}") for found in own]
    if (root / "pyproject.toml").is_file():
        editable = any(
            origin.get("dir_info", {}).get("editable") and origin["url"] == root.as_uri()
            for origin in origins
        )
        return f"{'editable installation of' if editable else 'run from the folder'} {root}"
    kinds = {"archive_info": "a file", "dir_info": "a folder", "vcs_info": "a repository"}
    origin = next((kinds[key] for key in kinds if origins and key in origins[0]), "a package index")
    return f"installed in {root}, from {origin}"


def python_needed(root: Path = ROOT) -> str:
    """Return the supported versions of Python, such as ``>=3.10,<3.14``."""
    project = root / "pyproject.toml"
    if not project.is_file():
        return str(metadata.metadata(NAME)["Requires-Python"] or "")
    line = re.search(r'^requires-python = "(.*)"', project.read_text(encoding="utf-8"), re.M)
    return line[1] if line else ""


def memory_bytes() -> tuple[int | None, int | None]:
    """Return the memory of the machine and the limit of a container, bytes; None if unknown."""
    limit = None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup", name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limit = int(text)
            break
    if not hasattr(os, "sysconf"):
        return _windows_memory(), limit
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), limit
    except (OSError, ValueError):
        return None, limit


def _windows_memory() -> int | None:
    import ctypes

    installed_kb = ctypes.c_ulonglong(0)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  # type checkers on Linux lack it
    if not kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(installed_kb)):
        return None
    return installed_kb.value * 1024


def hidden(text: str) -> str:
    """Return a text without the user's name; home folders become ``~``."""
    homes = {os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~"))}  # noqa: PTH111
    for home in sorted(homes - {"", "~", os.sep}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    text = text.replace(" -e '~/", " -e ~/'")  # a shell reads ~ only outside quotes
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):
        return text
    return re.sub(rf"(?<=[/\\]){re.escape(user)}(?![\w.-])", "USER", text)


def _machine_lines() -> tuple[list[str], bool]:
    """Return lines about Python and the machine, and whether this Python is supported."""
    needed, version = python_needed(), platform.python_version()
    fits = Requirement("python", needed).admits(version)
    remark = "" if fits else f", OUTSIDE {needed}"
    system = platform.system()
    with contextlib.suppress(OSError, AttributeError):  # other systems; before Python 3.10
        system = f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {system}"
    libc = " ".join(platform.libc_ver()).strip()
    cpus = os.cpu_count() or 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    memory, limit = memory_bytes()
    gib = "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"
    if limit is not None and (memory is None or limit < memory):
        gib += f", of which this process may use {limit / 2**30:.1f} GiB"
    return [
        f"toolbox     {NAME} {toolbox.__version__}, {installation()}",
        f"Python      {version} ({platform.python_implementation()}) in {sys.prefix}{remark}",
        f"system      {system} {platform.release()}, {platform.machine()}"
        + (f", {libc}" if libc else ""),
        f"machine     {cpus} processors"
        + (f", {usable} usable" if usable != cpus else "")
        + f"; memory {gib}",
    ], fits


def _core_lines(core: Iterable[Found], tested: Mapping[str, str]) -> list[str]:
    lines = [f"{'core':<18}{'installed':<14}{'required':<14}tested"]
    for found in core:
        name, version = found.requirement.name, found.version or "missing"
        build = f"  as {found.build}" if found.build != name else ""
        wanted, pin = found.requirement.wanted, tested.get(name, "unknown")
        remark = "" if found.version in (pin, None) or pin == "unknown" else " (another)"
        lines.append(f"  {name:<16}{version:<14}{wanted:<14}{pin}{remark}{build}".rstrip())
        if found.complaint:
            lines.append(f"    PROBLEM: {name}: {found.complaint}")
    return lines


def _extra_lines(found: Sequence[Found], tested: Mapping[str, str]) -> list[str]:
    lines = ["extras"]
    for extra in dict.fromkeys(f.requirement.extra for f in found):
        packages = [f for f in found if f.requirement.extra == extra]
        words = []
        for package in packages:
            name, version = package.requirement.name, package.version
            pin = tested.get(name)
            if version is not None:
                words.append(
                    f"{name} {version}" + (f" (tested {pin})" if pin and pin != version else "")
                )
        missing = [p.requirement.name for p in packages if p.version is None]
        if missing:
            words.append(f"missing {', '.join(missing)}: {install_command(extra)}")
        lines.append(f"  {extra:<11} {'; '.join(words)}")
        lines += [
            f"    PROBLEM: {p.requirement.name}: {p.complaint}"
            for p in packages
            if p.version is not None and p.complaint
        ]
    return lines


def _device_lines(core: Iterable[Found]) -> list[str]:
    """Return what TensorFlow, OpenCV and Matplotlib report about themselves."""
    by_name = {f.requirement.name: f for f in core}
    facts = {name: by_name[name].facts for name in by_name}
    seen = facts.get("tensorflow", {}).get("devices")
    cuda = facts.get("tensorflow", {}).get("cuda")
    silent = {name for name in by_name if by_name[name].is_silent}
    nothing = "it did not answer, see below" if "tensorflow" in silent else "it cannot be used"
    lines = [f"devices     TensorFlow sees {seen or f'nothing: {nothing}'}"]
    if seen:
        lines[0] += f"; built for CUDA {cuda}" if cuda else "; built without CUDA"
        if "GPU" not in seen and shutil.which("nvidia-smi"):
            lines.append(
                "            nvidia-smi is installed, but TensorFlow sees no GPU: "
                "pip install 'tensorflow[and-cuda]'"
            )
    opencv = by_name.get("opencv-python")
    if opencv is not None and opencv.version is not None:
        windows = opencv.facts.get("windows")
        failed = "did not answer" if "opencv-python" in silent else "cannot be imported"
        text = f"imports; windows: {windows}" if windows else f"{failed}, see below"
        lines.append(f"OpenCV      {opencv.build} {opencv.version} {text}")
    if backend := facts.get("matplotlib", {}).get("backend"):
        lines.append(f"Matplotlib  backend {backend}")
    return lines


def _folder_lines() -> list[str]:
    folders = {"current": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    lines = []
    for name, path in {**folders, "cache": keras_home()}.items():
        there = next((p for p in (path, *path.parents) if p.is_dir()), path)
        try:
            with tempfile.TemporaryFile(dir=there):
                state = "writable"
        except OSError as error:
            state = f"NOT writable ({error.strerror})"
        free = shutil.disk_usage(there).free / 1e9
        lines.append(f"  {name:<11} {path} {state}, {free:.1f} GB free")
    return ["folders", *lines]


def _variable_lines() -> list[str]:
    lines = [
        f"  {name}={'(set, not shown)' if _UNSEEN.search(name) else value}"
        for name, value in sorted(os.environ.items())
        if _VARIABLES.match(name) and not _FOREIGN.match(name)
    ]
    return ["variables", *(lines or ["  none of interest is set"])]


def examine(probe: Callable[..., Any] | None = None) -> tuple[str, bool]:
    """Make the report.

    Parameters
    ----------
    probe : callable, optional
        Imports modules by name and returns an answer for each; default `probe_modules`.

    Returns
    -------
    (str, bool)
        The report, and whether all required packages are installed and work.
    """
    tested = pinned_versions()
    wanted = [r for r in requirements() if r.name != NAME]
    if not any(r.name == "keras" for r in wanted):  # comes with TensorFlow
        wanted.insert(1, Requirement("keras"))
    found = look_up(wanted, probe)
    core = [f for f in found if not f.requirement.extra]
    extras = [f for f in found if f.requirement.extra]
    machine, works = _machine_lines()
    works = works and not any(f.complaint for f in core)
    verdict = "everything that is required works" if works else "PROBLEM: see the lines above"
    lines = [
        *machine,
        *_device_lines(core),
        *_core_lines(core, tested),
        *_extra_lines(extras, tested),
        *_folder_lines(),
        *_variable_lines(),
        f"verdict     {verdict}",
    ]
    return hidden("\n".join(lines)), works


def main() -> int:
    """Print the report; return 0 if the core works, else 1."""
    report, works = examine()
    print(report, flush=True)
    return 0 if works else 1
