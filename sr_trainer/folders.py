"""Which files of a folder a program uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from toolbox.errors import ToolboxError
from toolbox.io.s102 import is_other_hdf5


def files_in(path: Path, suffixes: Sequence[str], output: Path | None = None) -> list[Path]:
    """Return the files of a folder and its subfolders, without hidden files and earlier results.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    suffixes : sequence of str
        Accepted endings; HDF5 only if it is S-102.
    output : pathlib.Path, optional
        Folder of results, which may be inside `path`.
    """
    found = sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in p.relative_to(path).parts)
        and p.is_file()
        and not (output is not None and output != path and p.is_relative_to(output))
    )
    hdf5 = [p for p in found if p.suffix.lower() in (".h5", ".hdf5")]
    others = [p for p in hdf5 if is_other_hdf5(p)]
    if others:
        names = ", ".join(p.relative_to(path).as_posix() for p in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        print(f"skipped, because they are HDF5 but not S-102: {names}{more}")
    return [p for p in found if p not in others]


def apply_to_each(
    root: Path, files: Sequence[Path], apply: Callable[[Path, str], None]
) -> list[str]:
    """Apply a function to files, and continue after one that cannot be used.

    Parameters
    ----------
    root : pathlib.Path
        The folder that contains the files.
    files : sequence of pathlib.Path
        The files.
    apply : callable
        Called with a file and its name within the folder.

    Returns
    -------
    list of str
        Names of the files that could not be used; the reasons are printed.
    """
    failed = []
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            apply(path, name)
        except (ToolboxError, OSError) as error:
            print(f"left out: {error}", flush=True)
            failed.append(name)
    return failed
