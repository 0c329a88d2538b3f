"""Measurement of a file, or of every file of a folder, without a network."""

from __future__ import annotations

from pathlib import Path

from sr_trainer.folders import apply_to_each, files_in
from toolbox.errors import ConfigError, DataError
from toolbox.io.atomic import check_writable, replacing_folder
from toolbox.task import FileMeasurer

_ELSEWHERE = "Name another with -o."


class Measurer:
    """Measures files; the task defines what is measured.

    Parameters
    ----------
    files : toolbox.task.FileMeasurer
        Measures one file at a time.
    overwrite : bool
        Replace an existing result.
    """

    def __init__(self, files: FileMeasurer, overwrite: bool = False) -> None:
        self.files, self.overwrite = files, overwrite

    def measure(self, source: str, output: str | None = None) -> None:
        """Measure a file, or every file in a folder that the task can read.

        Parameters
        ----------
        source : str
            File or folder.
        output : str, optional
            Folder for tables and a page; without it, results are only printed.

        Raises
        ------
        ConfigError, DataError
            If a file cannot be measured or the result already exists. In a folder, all other
            files are measured first.
        """
        path, folder = Path(source), None if output is None else Path(output)
        if folder is not None:
            self._check(folder)
        if path.is_dir():
            self._measure_folder(path, folder)
            return
        self.files.measure(path, path.name, folder is not None)
        self._write(folder)

    def _check(self, folder: Path) -> None:
        if folder.is_file():
            raise ConfigError(f"{folder}: is a file; the tables and the page need a folder.")
        if folder.exists():
            others = sorted({path.name for path in folder.iterdir()} - set(self.files.written))
            if others:
                raise ConfigError(
                    f"{folder}: holds {others[0]}, which measure did not write and would delete. "
                    f"{_ELSEWHERE}"
                )
            if not self.overwrite and any(folder.iterdir()):
                raise ConfigError(
                    f"{folder}: already exists. Replace it with --overwrite, or name another "
                    f"with -o."
                )
        check_writable(folder, _ELSEWHERE)

    def _measure_folder(self, root: Path, folder: Path | None) -> None:
        files = files_in(root, self.files.suffixes)
        if not files:
            raise DataError(
                f"{root}: holds {self.files.what}. Expected files that end in "
                f"{', '.join(self.files.suffixes)}."
            )
        failed = apply_to_each(
            root, files, lambda path, name: self.files.measure(path, name, folder is not None)
        )
        if len(failed) < len(files):
            self._write(folder)
        if failed:
            raise DataError(
                f"{len(failed)} of {len(files)} files could not be measured: {', '.join(failed)}. "
                f"The reasons are above."
            )

    def _write(self, folder: Path | None) -> None:
        if folder is None:
            return
        with replacing_folder(folder) as beside:
            self.files.write(beside)
            names = sorted(path.name for path in beside.iterdir())
        tables = [name for name in names if not name.endswith(".html")]
        pages = "".join(f"; report: {folder / name}" for name in names if name not in tables)
        print(f"written: {', '.join(tables)} in {folder}{pages}")
