"""Prediction: apply the network of an opened run to a file, or to every file of a folder."""

from __future__ import annotations

from pathlib import Path

from sr_trainer.folders import files_in
from toolbox.errors import ConfigError, DataError, ToolboxError
from toolbox.io.atomic import check_writable
from toolbox.io.zarr_store import SUFFIX, is_zarr, may_be_replaced
from toolbox.predict_settings import refuse_foreign_options
from toolbox.run import Run

_ELSEWHERE = "Name another with -o."


class Predictor:
    """Applies an opened run to files; the task defines what a file is and what the result is.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with the settings of ``predict``.
    overwrite : bool
        Replace an existing file.
    """

    def __init__(self, run: Run, overwrite: bool = False) -> None:
        refuse_foreign_options(run.task, run.predict)
        self.run = run
        self.overwrite = overwrite
        self.files = run.task.predictor(run)
        self._mark = run.task.mark.format(scale=run.scale)

    def predict(self, source: str, output: str | None = None) -> list[Path]:
        """Enhance a file, or every file in a folder that the task can read.

        Parameters
        ----------
        source : str
            File or folder.
        output : str, optional
            File or folder to write; default ``NAME_x4.tif`` next to the file, ``NAME_x4/`` next
            to the folder.

        Returns
        -------
        list of pathlib.Path
            The files written.

        Raises
        ------
        ConfigError, DataError
            If the input cannot be used or the output already exists. In a folder, all other files
            are processed first.
        """
        path = Path(source)
        self.files.check()
        if not path.is_dir() or is_zarr(path):
            return [self._predict_file(path, self._target(path, output))]
        path = path.resolve()
        folder = Path(output) if output else path.with_name(f"{path.name}_{self._mark}")
        files = files_in(path, self.files.suffixes, folder.resolve())
        if not files:
            raise DataError(
                f"{path}: holds {self.files.what}. Expected files that end in "
                f"{', '.join(self.files.suffixes)}."
            )
        if folder.resolve() == path:
            raise ConfigError(
                f"{folder}: is the folder of the input files, which must not be overwritten. Name "
                f"another output with -o."
            )
        if folder.is_file():
            raise ConfigError(f"{folder}: is a file; a folder of files needs a folder as output.")
        check_writable(folder / "results", _ELSEWHERE)
        return self._predict_folder(path, files, folder)

    def _predict_folder(self, root: Path, files: list[Path], folder: Path) -> list[Path]:
        done, failed = [], []
        targets = self._targets(root, files, folder)
        for number, (target, path) in enumerate(targets.items(), 1):
            name = path.relative_to(root).as_posix()
            print(f"[{number}/{len(files)}] {name}", flush=True)
            if target.exists() and not self.overwrite:
                print(f"  {target} already exists; replace it with --overwrite")
                done.append(target)
                continue
            try:
                done.append(self._predict_file(path, target))
            except (ToolboxError, OSError) as error:
                print(f"  left out: {error}", flush=True)
                failed.append(name)
        if failed:
            raise DataError(
                f"{len(failed)} of {len(files)} files could not be enlarged: {', '.join(failed)}. "
                f"The reasons are above.{f' The others are in {folder}.' if done else ''}"
            )
        return done

    def _target(self, path: Path, output: str | None) -> Path:
        name = f"{path.stem}_{self._mark}{self.files.suffix(path)}"
        if output is None:
            return path.with_name(name)
        is_folder = Path(output).is_dir() or output.endswith(("/", "\\"))
        inside = is_folder and Path(output).suffix.lower() != SUFFIX
        return Path(output, name) if inside else Path(output)

    def _targets(self, root: Path, files: list[Path], folder: Path) -> dict[Path, Path]:
        """Return the source of every result file; a.npy and a.npz have different results."""
        targets: dict[Path, Path] = {}
        for path in files:
            suffix, beside = self.files.suffix(path), folder / path.relative_to(root).parent
            target = beside / f"{path.stem}{suffix}"
            targets[beside / f"{path.name}{suffix}" if target in targets else target] = path
        return targets

    def _predict_file(self, path: Path, target: Path) -> Path:
        """Predict, but never replace the input, and an earlier result only if asked to."""
        if target.exists() and not self.overwrite:
            raise ConfigError(
                f"{target}: already exists. Replace it with --overwrite, or name another with -o."
            )
        if path.exists() and target.exists() and path.samefile(target):
            raise ConfigError(f"{target}: is the input itself. Name another output with -o.")
        _keep_folders(path.resolve(), target)
        check_writable(target, _ELSEWHERE)
        self.files.predict(path, target)
        return target


def _keep_folders(path: Path, target: Path) -> None:
    """Refuse a result that would change the input's folder, or replace a folder of other things."""
    final = target.resolve()
    if is_zarr(path) and final.is_relative_to(path):
        raise ConfigError(f"{target}: is inside the input {path.name}. {_ELSEWHERE}")
    if not target.is_dir():
        return
    if path.is_relative_to(final):
        raise ConfigError(f"{target}: is a folder that contains the input. {_ELSEWHERE}")
    if target.suffix.lower() != SUFFIX or not may_be_replaced(target):
        kind = "no Zarr" if target.suffix.lower() == SUFFIX else "no file"
        raise ConfigError(f"{target}: is a folder and {kind}, so it is not replaced. {_ELSEWHERE}")
