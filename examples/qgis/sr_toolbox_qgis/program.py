"""The program ``sr-trainer``: its path, its command line and its execution, without QGIS."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

PROGRAM = "sr-trainer"
ENVIRONMENT_VARIABLE = "SR_TRAINER"
#: Models that ship and keep the georeference of a map.
MODELS = ("bathymetry_x4", "bathymetry_x4_large", "bathymetry_x2")
_HOW_TO_SET = (
    "Set its path in Settings > Options > Processing > Providers > SR Toolbox, or in the "
    f"environment variable {ENVIRONMENT_VARIABLE}."
)
#: Variables for QGIS's Python and GDAL, which would break another Python.
_FOREIGN_VARIABLES = (
    "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__",
    "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA",
)  # fmt: skip
_SECONDS_BETWEEN_PROGRESS = "0.5"
#: Matches ``enlarging:  34%|###4      | 6.5k/19.2k [00:03<00:05, 2.1kpx/s]``.
_BAR = re.compile(r"^(?P<label>.*?):?\s*(?P<percent>\d+)%\|")
#: Matches progress without a known end: ``inspecting: 120 windows [00:03, 40 windows/s]``.
_COUNT = re.compile(r"^(?P<text>[^\[]*\d[^\[]*?) \[\d+:\d\d")
_ERROR = re.compile(r"^(?:[\w.-]+: )?(?:error|stopped): (?P<text>.*)$")
_WARNING = re.compile(r"^\s*WARNING:?\s+(?P<text>.*)$")
#: Slope of the steepest tenth of a map after exaggeration, as on the pages of the program.
_STEEP, _MOST_EXAGGERATION = 0.5, 1e9


class ProgramError(Exception):
    """A failure, described in one line."""


def find_program(setting: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of ``sr-trainer``.

    Parameters
    ----------
    setting : str
        Path set by the user; empty to search for the program.
    environment : mapping
        Variables of the process.

    Raises
    ------
    ProgramError
        If the program is not found.
    """
    for path, where in (
        (setting.strip(), "the settings of Processing"),
        (environment.get(ENVIRONMENT_VARIABLE, "").strip(), f"the variable {ENVIRONMENT_VARIABLE}"),
    ):
        if path and not Path(path).expanduser().is_file():
            raise ProgramError(f"{path}: no such program, as given in {where}. {_HOW_TO_SET}")
        if path:
            return str(Path(path).expanduser().absolute())
    found = shutil.which(PROGRAM, path=environment.get("PATH"))
    if found is None:
        raise ProgramError(f"{PROGRAM} is not on the PATH. {_HOW_TO_SET}")
    return str(Path(found).absolute())


def split_source(source: str) -> tuple[str, str | None]:
    """Return the file of a GDAL layer, and the variable for a NetCDF file.

    Parameters
    ----------
    source : str
        For example ``/maps/a.tif`` or ``NETCDF:"/maps/a.nc":elevation``.

    Raises
    ------
    ProgramError
        If it is not a file on disk.
    """
    plain = source.split("|")[0]
    netcdf = re.match(r'^NETCDF:"?(.+?)"?:([^:"]+)$', plain)
    other = re.match(r'^(?:BAG|S102):"?(.+?)"?(?::[^\\/"]*)?$', plain)
    path = netcdf.group(1) if netcdf else other.group(1) if other else plain
    if not Path(path).is_file():
        raise ProgramError(
            f"{source or 'the layer'}: is not a file on disk, which the program needs. Save the "
            f"layer first (Export > Save As)."
        )
    return str(Path(path).absolute()), netcdf.group(2) if netcdf else None


def refuse_the_input(source: str, target: Path) -> None:
    """Refuse a result that would replace its own input.

    Raises
    ------
    ProgramError
        If both are the same file.
    """
    if target.exists() and target.samefile(source):
        raise ProgramError(f"{target}: is the input itself. Choose another output.")


def source_options(path: str, variable: str | None, band: int | None) -> list[str]:
    """Return the options that select a band; the bands of a NetCDF variable are its steps."""
    chosen = [] if variable is None else ["--variable", variable]
    if band is None:
        return chosen
    is_netcdf = variable is not None or path.lower().endswith(".nc")
    return [*chosen, "--time" if is_netcdf else "--variable", str(band)]


def further_options(text: str) -> list[str]:
    """Split options typed by the user.

    Raises
    ------
    ProgramError
        If a quotation mark is not closed, or the options name the output, which the plugin sets.
    """
    try:
        options = shlex.split(text)
    except ValueError as error:
        raise ProgramError(f"further options: {text}: {str(error).lower()}.") from None
    for option in options:
        if option == "-o" or option.startswith("--output"):
            raise ProgramError(
                f"further options: {option} cannot be used in QGIS. Choose the output above."
            )
    return options


def build_command(
    program: str, mode: str, source: str, output: str, model: str = "", folder: str = "",
    options: Iterable[str] = (),
) -> list[str]:  # fmt: skip
    """Return the command line.

    Parameters
    ----------
    program : str
        Path of ``sr-trainer``.
    mode : {'predict', 'inspect'}
        Mode of the program.
    source, output : str
        File to read, and file to write.
    model : str
        A model that ships; empty for none.
    folder : str
        Log folder of a training run; it takes precedence over `model`.
    options : iterable of str
        Further options.
    """
    if folder:
        chosen, named = [str(Path(folder).absolute())], []
    else:
        chosen, named = [], ["--pretrained", model] if model else []
    return [program, *chosen, mode, source, "-o", output, *named, *options]


def parse_progress(line: str) -> tuple[str, int | None] | None:
    """Return label and percentage of a progress line; None for any other line."""
    if found := _BAR.match(line):
        return found["label"], min(100, int(found["percent"]))
    if found := _COUNT.match(line):
        return found["text"], None
    return None


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a Python other than that of QGIS."""
    kept = {k: v for k, v in environment.items() if k.upper() not in _FOREIGN_VARIABLES}
    return {
        **kept,
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "TQDM_MININTERVAL": _SECONDS_BETWEEN_PROGRESS,
    }


@contextlib.contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Provide a hidden folder next to a future file, and remove it with its remaining files.

    Raises
    ------
    ProgramError
        If the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{target.stem}_", dir=target.parent)
    except OSError as error:
        raise ProgramError(
            f"{target}: its folder cannot be written ({error.strerror}). Choose another output."
        ) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(made: Path, target: Path) -> None:
    """Move a finished file to its place, completely or not at all, also to another disk.

    Raises
    ------
    ProgramError
        If a program, such as QGIS on Windows, has the former file open.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(made, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with folder_beside(target) as beside:
                os.replace(shutil.copyfile(made, beside / target.name), target)
    except OSError as error:
        raise ProgramError(
            f"{target}: cannot be replaced ({error.strerror}). Remove its layer from the project, "
            f"or choose another output."
        ) from None


def put_all(folder: Path, target: Path, report: Path | None) -> None:
    """Move a result and its accompanying files: its page to `report`, the others next to it.

    Raises
    ------
    ProgramError
        If there is no result, or a file cannot be replaced.
    """
    if not (folder / target.name).is_file():
        raise ProgramError(f"{target}: {PROGRAM} ended without writing this file.")
    # Statistics and overviews of a former result would not fit the new one.
    for ending in (".aux.xml", ".ovr"):
        with contextlib.suppress(OSError):
            target.with_name(target.name + ending).unlink()
    for made in sorted(folder.iterdir()):
        is_page = report is not None and made.suffix == ".html" and made.name != target.name
        put(made, report if is_page else target.with_name(made.name))


def run(command: list[str], folder: Path, feedback: Any) -> list[str] | None:
    """Run the program in a folder, and show its messages and progress.

    Parameters
    ----------
    command : list of str
        Program and arguments.
    folder : pathlib.Path
        Working folder.
    feedback : qgis.core.QgsProcessingFeedback
        Shows the messages, and can be cancelled.

    Returns
    -------
    list of str or None
        The lines that it printed; None if it was cancelled, once it has ended.

    Raises
    ------
    ProgramError
        If it cannot be started or fails; the message is that of the program.
    """
    own_group: dict[str, Any] = (
        {"creationflags": subprocess.CREATE_NO_WINDOW}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            **own_group,
        )
    except OSError as error:
        raise ProgramError(
            f"{command[0]}: cannot be started ({error.strerror}). {_HOW_TO_SET}"
        ) from None
    try:
        said = _follow(child, feedback)
    finally:
        _end(child)
    if said is None:
        return None
    lines, faults = said
    if child.returncode:
        raise ProgramError(_reason(child.returncode, faults))
    for line in faults:
        feedback.pushDebugInfo(line)
    return lines


def _follow(child: subprocess.Popen[str], feedback: Any) -> tuple[list[str], list[str]] | None:
    """Return the lines of standard output and of standard error; None if cancelled."""
    arriving: queue.Queue[tuple[int, str | None]] = queue.Queue()
    for number, stream in enumerate((child.stdout, child.stderr)):
        threading.Thread(target=_read, args=(number, stream, arriving), daemon=True).start()
    said: tuple[list[str], list[str]] = ([], [])
    is_open, shown = 2, ""
    while is_open:
        if feedback.isCanceled():
            return None
        try:
            number, line = arriving.get(timeout=0.1)
        except queue.Empty:
            continue
        if line is None:
            is_open -= 1
        elif number == 0:
            said[0].append(line)
            _tell(line, feedback)
        elif found := parse_progress(line):
            label, percent = found
            if label != shown:
                shown = label
                feedback.setProgressText(label)
            if percent is not None:
                feedback.setProgress(percent)
        elif line:
            said[1].append(line)
    child.wait()
    return said


def _read(number: int, stream: IO[str], arriving: queue.Queue[tuple[int, str | None]]) -> None:
    """Pass lines to a queue; a carriage return, which redraws a progress bar, ends a line too."""
    with stream:
        for line in stream:
            arriving.put((number, line.rstrip()))
    arriving.put((number, None))


def _tell(line: str, feedback: Any) -> None:
    if found := _WARNING.match(line):
        feedback.pushWarning(found["text"])
    elif line:
        feedback.pushInfo(line)


def _end(child: subprocess.Popen[str]) -> None:
    """End the program and its child processes if it still runs, and wait for it."""
    if child.poll() is None:
        with contextlib.suppress(OSError):
            if os.name == "nt":
                child.kill()
            else:
                os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _reason(code: int, faults: list[str]) -> str:
    """Return the error line of the program, or its last line with the exit code."""
    for line in reversed(faults):
        if found := _ERROR.match(line):
            return found["text"]
    last = f": {faults[-1].strip()}" if faults else ""
    return f"{PROGRAM} failed with exit code {code}{last}"


def is_positive_down(lines: Iterable[str]) -> bool:
    """Return whether the values of a map are depths, according to the output of the program."""
    return any("; positive down (" in line for line in lines)


def z_factor(slopes: Iterable[float]) -> float:
    """Return the vertical exaggeration that makes the steepest tenth of a map steeper than 0.5."""
    steep = sorted(slope for slope in slopes if slope > 0)
    if not steep:
        return 1.0
    return min(_STEEP / steep[int(0.9 * (len(steep) - 1))], _MOST_EXAGGERATION)
