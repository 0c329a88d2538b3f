"""Write next to the final name, then rename: a file appears complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from toolbox.errors import ConfigError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], suffix: str | None = None) -> Iterator[Path]:
    """Provide a temporary path in the same folder; it becomes `path` if the block succeeds.

    Parameters
    ----------
    path : path-like
        The final name. Its folder is created if missing.
    suffix : str, optional
        Ending of the temporary name, for writers that require one. Default: that of `path`.

    Yields
    ------
    pathlib.Path
        Where to write.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    ending = final.suffix if suffix is None else suffix
    beside = final.with_name(f".{final.name}.{os.getpid()}.tmp{ending}")
    try:
        yield beside
        os.replace(beside, final)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provide an empty folder next to `path` that replaces it if the block succeeds.

    Otherwise nothing is left behind, including parents that were created for it.

    Parameters
    ----------
    path : path-like
        The final name. An existing folder is removed with all its contents.

    Yields
    ------
    pathlib.Path
        Where to write.
    """
    final = Path(path).absolute()
    made = [parent for parent in final.parents if not parent.exists()]
    beside = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)  # left by a program that was killed
    beside.mkdir(parents=True)
    try:
        yield beside
        shutil.rmtree(final, ignore_errors=True)
        beside.replace(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        with contextlib.suppress(OSError):  # a folder that is not empty stays
            for parent in made:
                parent.rmdir()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a file in an error of the system that names none, as one of a full disk does.

    Parameters
    ----------
    path : path-like
        The file that is written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
        raise


def check_writable(path: str | os.PathLike[str], cure: str) -> None:
    """Refuse a file that could not be written, before any work; nothing is left behind.

    Parameters
    ----------
    path : path-like
        The file. Its folder need not exist yet.
    cure : str
        Last sentence of the message.

    Raises
    ------
    ConfigError
        If the folder, or the nearest one above that exists, is read-only.
    """
    folder = Path(path).absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise ConfigError(
            f"{path}: its folder {folder} cannot be written ({error.strerror}). {cure}"
        ) from None
