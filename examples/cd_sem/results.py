"""The figures of the examples, kept in ``results.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolbox.io.atomic import replacing

#: The figures by example, as written by `record`.
RESULTS = Path(__file__).with_name("results.json")


def record(example: str, figures: Any) -> None:
    """Replace the figures of one example in ``results.json``.

    Parameters
    ----------
    example : str
        Name of the command that made them.
    figures : JSON types
        Figures.
    """
    former = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    with replacing(RESULTS) as beside:
        content = dict(sorted({**former, example: figures}.items()))
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
