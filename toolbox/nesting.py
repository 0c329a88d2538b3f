"""How much lists inside lists hold, where a few bytes of a file can mean billions of values."""

from __future__ import annotations

import math
from typing import Any


def expanded_size(content: Any, known: dict[int, float] | None = None) -> float:
    """Count the values in a content, everything inside it as often as it is named.

    Parameters
    ----------
    content : object
        Mappings, lists and tuples are followed; anything else counts as one.
    known : dict, optional
        What was counted, by identity.

    Returns
    -------
    float
        Infinite if a part holds itself.

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
