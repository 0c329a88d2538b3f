"""One row of figures for every benchmark, and the table that they make.

A benchmark that takes ``--json`` prints its rows in its last line, after whatever else it says;
``python -m benchmarks`` collects them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Units of which less is better; of all others more is.
_TIMES = ("s", "ms")


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes
    ----------
    what : str
        In words.
    value : float
        The toolbox's figure.
    unit : str
        Its unit: ``s``, ``ms``, ``Mpixel/s``, ``x`` for a factor.
    rival : str
        What it is compared with, measured in the same run.
    rival_value : float, optional
        The rival's figure.
    peak_mib : float, optional
        Peak memory of the toolbox's process.
    note : str
        Whatever else must be known.
    """

    what: str
    value: float
    unit: str
    rival: str = ""
    rival_value: float | None = None
    peak_mib: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the rival it is."""
        if not self.rival_value or not self.value:
            return None
        faster = self.rival_value / self.value
        return faster if self.unit in _TIMES else 1 / faster


def printed(rows: Iterable[Row]) -> None:
    """Print rows as the last line of a benchmark."""
    print(json.dumps([asdict(row) for row in rows]))


def collected(output: str) -> list[Row]:
    """Return the rows that a benchmark printed."""
    lines = output.strip().splitlines()
    return [Row(**row) for row in json.loads(lines[-1])]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def markdown(parts: Mapping[str, Iterable[Row]]) -> str:
    """Return a table in Markdown, the rows of each part below its name.

    Parameters
    ----------
    parts : dict of str to rows
        By part of the suite.
    """
    head = ("", "figure", "unit", "rival", "its figure", "ratio", "peak MiB", "")
    lines: list[tuple[Any, ...]] = [head, ("---",) * len(head)]
    for name, rows in parts.items():
        lines.append((f"**{name}**", *[""] * (len(head) - 1)))
        lines += [
            (
                row.what,
                _number(row.value),
                row.unit,
                row.rival,
                _number(row.rival_value),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                _number(row.peak_mib),
                row.note,
            )
            for row in rows
        ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
