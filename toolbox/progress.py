"""What long work shows: progress bars with the remaining time, and its speed in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, label: str = "", **options: Any) -> tqdm:
    """Return a progress bar over `items`, or one that the caller advances.

    On a terminal, the bar is redrawn ten times a second. Elsewhere, e.g. in a log file, a line is
    written every ten seconds. A program that displays the progress can change either interval with
    the environment variable ``TQDM_MININTERVAL``, in seconds.

    Parameters
    ----------
    items : iterable, optional
        The items to process.
    label : str
        Text before the bar.
    **options
        Passed to ``tqdm`` (``total``, ``unit``, ...).

    Returns
    -------
    tqdm.tqdm
    """
    terminal = sys.stderr.isatty()
    if "TQDM_MININTERVAL" not in os.environ:  # tqdm reads it itself if no value is passed
        options.setdefault("mininterval", 0.1 if terminal else 10)
    options.setdefault("dynamic_ncols", terminal)
    return tqdm(items, desc=label, **options)


def pixel_rate(pixels: int, seconds: float) -> str:
    """Return a speed in millions of pixels a second, to three digits, as ``1.35 Mpixel/s``."""
    return f"{pixels / 1e6 / seconds:.3g} Mpixel/s"
