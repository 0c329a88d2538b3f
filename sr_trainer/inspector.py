"""Inspection: check a file, or every file of a folder, before a network uses it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sr_trainer.folders import apply_to_each, files_in
from toolbox.config import COMMAND_LINE, check
from toolbox.errors import ConfigError, DataError
from toolbox.io.atomic import check_writable
from toolbox.io.zarr_store import is_zarr
from toolbox.predict_settings import PredictParams
from toolbox.task import FileInspector, inspecting_tasks

_ELSEWHERE = "Name another with -o."
_WORDS = {"fine": "fit", "note": "usable with care", "warning": "doubtful"}


def open_inspector(source: str | None, options: dict[str, Any]) -> FileInspector:
    """Return the inspector of files; with a `source`, it also compares them with that run.

    Parameters
    ----------
    source : str or None
        Settings file, log folder or name of a model that ships; needs TensorFlow unless None.
    options : dict
        Settings of ``predict`` from the command line.
    """
    if source is None:
        settings = check(PredictParams, options, COMMAND_LINE)
        return inspecting_tasks()[0].inspector(settings, None)
    from sr_trainer.initializer import Initializer

    Initializer.tf_init()
    from toolbox.run import Run

    run = Run.open(source, options)
    return run.task.inspector(run.predict, run.folder)


class Inspector:
    """Inspects files; the task defines what is checked.

    Parameters
    ----------
    files : toolbox.task.FileInspector
        Inspects one file at a time.
    overwrite : bool
        Replace an existing page.
    """

    def __init__(self, files: FileInspector, overwrite: bool = False) -> None:
        self.files, self.overwrite = files, overwrite

    def inspect(self, source: str, output: str | None = None) -> None:
        """Inspect a file, or every file in a folder that the task can read.

        Parameters
        ----------
        source : str
            File or folder.
        output : str, optional
            Page to write, or folder of pages; without it, findings are only printed.

        Raises
        ------
        ConfigError, DataError
            If a file cannot be read or a page already exists. In a folder, all other files are
            inspected first.
        """
        path = Path(source)
        if path.is_dir() and not is_zarr(path):
            self._inspect_folder(path, None if output is None else Path(output))
            return
        page = None
        if output is not None:
            inside = Path(output).is_dir() or output.endswith(("/", "\\"))
            page = Path(output, f"{path.name}.html") if inside else Path(output)
        self._check(page)
        self.files.inspect(path, page, False)

    def _check(self, page: Path | None) -> None:
        if page is None:
            return
        if page.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"{page}: the page must end in .html. {_ELSEWHERE}")
        if page.exists() and not self.overwrite:
            raise ConfigError(
                f"{page}: already exists. Replace it with --overwrite, or name another with -o."
            )
        check_writable(page, _ELSEWHERE)

    def _inspect_folder(self, root: Path, folder: Path | None) -> None:
        if folder is not None and folder.is_file():
            raise ConfigError(f"{folder}: is a file; with a folder of maps, -o must be a folder.")
        files = files_in(root, self.files.suffixes)
        if not files:
            raise DataError(
                f"{root}: holds {self.files.what}. Expected files that end in "
                f"{', '.join(self.files.suffixes)}."
            )
        grades: Counter[str] = Counter()

        def inspect(path: Path, name: str) -> None:
            page = None if folder is None else folder / f"{name}.html"
            self._check(page)
            grades[self.files.inspect(path, page, True)] += 1

        failed = apply_to_each(root, files, inspect)
        counts = ", ".join(f"{grades[grade]} {words}" for grade, words in _WORDS.items())
        print(f"{len(files) - len(failed)} files: {counts}")
        if failed:
            raise DataError(
                f"{len(failed)} of {len(files)} files could not be inspected: "
                f"{', '.join(failed)}. The reasons are above."
            )
