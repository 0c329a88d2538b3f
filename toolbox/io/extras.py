"""The command that installs an optional part of the toolbox in this environment.

Only the standard library is imported here: ``doctor`` runs without any package.
"""

from __future__ import annotations

import os
import re
import shlex
from importlib import metadata
from pathlib import Path

import toolbox

_NAME = "sr-toolbox"
_PACKAGE = re.compile(r"\s*([\w.-]+(?:\[[^]]*\])?)")


def install_command(extra: str) -> str:
    """Return the command that installs what an extra needs.

    The toolbox is not on a package index, so ``pip install 'sr-toolbox[geo]'`` would fail.

    Parameters
    ----------
    extra : str
        An extra of pyproject.toml, such as ``geo``.

    Returns
    -------
    str
        In a source checkout, ``pip install -e '.[geo]'``, with the path of the checkout if that is
        not the current folder. Otherwise ``pip install`` and the packages of the extra.
    """
    root = Path(toolbox.__file__).resolve().parents[1]
    checkout = (root / "pyproject.toml").is_file()
    if not checkout and (packages := _packages_of(extra)):
        return f"pip install {' '.join(map(shlex.quote, packages))}"
    place = _short(root) if checkout else "."
    return f"pip install -e {shlex.quote(f'{place}[{extra}]')}"


def _packages_of(extra: str) -> list[str]:
    """Return the packages of an extra without their versions, from the installed metadata."""
    try:
        lines = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    chosen = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    parts = [line.partition(";") for line in lines]
    return [_PACKAGE.match(text)[1] for text, _, marker in parts if chosen.search(marker)]  # type: ignore[index]


def _short(folder: Path) -> str:
    """Return the path of a folder, relative to the current one if that is shorter."""
    try:
        return min(os.path.relpath(folder), str(folder), key=len)
    except (OSError, ValueError):  # the current folder was removed, or is on another drive
        return str(folder)
