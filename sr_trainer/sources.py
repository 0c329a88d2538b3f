"""The source of image pairs that the settings name."""

from __future__ import annotations

from typing import Any

from sr_trainer.user_params import UserParams
from toolbox.registry import SOURCES


def open_source(u_params: UserParams) -> Any:
    """Open the data that the settings name.

    Parameters
    ----------
    u_params : UserParams
        Settings; the section of the source becomes its keyword arguments.

    Returns
    -------
    object
        A source: ``train()``, ``validation()`` and ``test()`` give pairs (LR, HR) of stacks
        (N, h, w, C) and (N, H, W, C) in physical units.

    Raises
    ------
    ConfigError, DataError
        If the data are missing or do not fit the settings.
    """
    source = SOURCES.resolve(u_params.source)
    return source(u_params.data_dir, sr_scale=u_params.scale, **u_params.source_params)


def pixel_nm_of(source: Any) -> float:
    """Return the size of an HR pixel in nm; 1, so that lengths are in pixels, if it is unknown."""
    return float(getattr(source, "pixel_nm", None) or 1.0)
