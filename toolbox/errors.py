"""Errors that state what was received, what was expected and how to fix it."""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class ToolboxError(Exception):
    """A user's mistake or a problem of the environment, described in one line."""


class ConfigError(ToolboxError):
    """A setting is missing, unknown, of the wrong type or out of range."""


class DataError(ToolboxError):
    """A file or an array does not have the expected content."""


class WeightsError(ToolboxError):
    """A weights file is missing, damaged or belongs to another architecture."""


class MissingLibraryError(ToolboxError):
    """An optional library, or one that needs system packages, cannot be imported."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that suggests the nearest known word, or lists all of them.

    Parameters
    ----------
    name : str
        The received word.
    known : iterable of str
        The known words.

    Returns
    -------
    str
        A sentence such as ``Did you mean 'batch_size'?``
    """
    return nearest_name(name, known).strip() or f"Known: {', '.join(sorted(known))}."


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a space and a hint that suggests the nearest known word; empty if none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def not_found(path: str | os.PathLike[str], what: str) -> str:
    """Return the start of a message about a missing file; for a relative path, with its origin.

    Parameters
    ----------
    path : path-like
        The path as the user wrote it.
    what : str
        What it should be, ``file`` or ``folder``.

    Returns
    -------
    str
        For example ``output: no such folder in /home/me, where the program was started``.
    """
    start = "" if Path(path).is_absolute() else f" in {Path.cwd()}, where the program was started"
    return f"{path}: no such {what}{start}"


def program(main: Callable[..., Any]) -> Callable[..., int]:
    """Turn a function into the entry point of a program.

    A user's mistake becomes one line on standard error and a non-zero exit code; a bug keeps its
    traceback.

    Parameters
    ----------
    main : callable
        The program; its return value is ignored.

    Returns
    -------
    callable
        A function returning 0 after success, 2 after a user's mistake, 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            main(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            line = f"stopped: {str(interrupt) or 'by Ctrl-C; finished files are valid'}"
            return _say(line, getattr(interrupt, "code", 130))
        except Exception as error:
            line = mistake(error)
            if not line:
                raise
            return _say(f"error: {line}", 2)
        return 0

    return run


def mistake(error: Exception) -> str:
    """Return the message for a user's mistake; an empty text if the error is a bug."""
    if isinstance(error, ToolboxError):
        return str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    # TensorFlow is not imported here, so its error is recognised by name.
    if type(error).__name__ in ("MemoryError", "ResourceExhaustedError"):
        return "out of memory. Use a smaller network, images or batch_size."
    return ""


def _say(line: str, code: int) -> int:
    sys.stdout.flush()
    print("\n" + line if sys.stderr.isatty() else line, file=sys.stderr)
    return code
