"""The size of nested content, where a few bytes of a file can stand for billions of values."""

from __future__ import annotations

import math
from typing import Any


def expanded_size(content: Any, known: dict[int, float] | None = None) -> float:
    """Count the values in nested content; shared parts count each time they occur.

    Parameters
    ----------
    content : object
        Mappings, lists and tuples are traversed; anything else counts as one.
    known : dict, optional
        Sizes already counted, by identity.

    Returns
    -------
    float
        Infinite if a part contains itself.

    Examples
    --------
    >>> one = [1, 2]
    >>> expanded_size([one, one, {"a": one}])
    6
    """
    known = {} if known is None else known
    if not isinstance(content, (dict, list, tuple)):
        return 1
    if id(content) not in known:
        known[id(content)] = math.inf
        inside = content.values() if isinstance(content, dict) else content
        known[id(content)] = sum(expanded_size(item, known) for item in inside)
    return known[id(content)]
