"""Progress with a time to the end, for everything that takes more than two seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, label: str = "", **options: Any) -> tqdm:
    """Return a progress bar over `items`, or one that is advanced by hand.

    On a terminal it is redrawn ten times a second, in a log file a line every ten seconds, or
    every ``TQDM_MININTERVAL`` seconds if a program that shows the progress sets this variable.

    Parameters
    ----------
    items : iterable, optional
        What is worked through.
    label : str
        Written before the bar.
    **options
        Passed to ``tqdm`` (``total``, ``unit``, ...).

    Returns
    -------
    tqdm.tqdm
    """
    terminal = sys.stderr.isatty()
    if "TQDM_MININTERVAL" not in os.environ:  # else tqdm reads it, unless it is given a value
        options.setdefault("mininterval", 0.1 if terminal else 10)
    options.setdefault("dynamic_ncols", terminal)
    return tqdm(items, desc=label, **options)
