"""Models that ship with the project; each is a folder like the log folder of a training run."""

from __future__ import annotations

from pathlib import Path

from toolbox.errors import ConfigError, nearest_name

FOLDER = Path(__file__).parent


def pretrained_names() -> list[str]:
    """Return the names of the models that ship.

    Returns
    -------
    list of str
        Names that `toolbox.load_model` and ``--pretrained`` accept.
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/config.yml"))


def pretrained_folder(name: str) -> Path:
    """Return the folder of a model that ships with the project.

    Raises
    ------
    ConfigError
        If there is no model of that name; the message lists the available names.
    """
    known = pretrained_names()
    if name not in known:
        raise ConfigError(
            f"expected a settings file, a log folder, or a model that ships ({', '.join(known)}); "
            f"received {name!r}.{nearest_name(name, known)}"
        )
    return FOLDER / name
