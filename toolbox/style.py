"""The appearance of the values of a task: unit and colours."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Style:
    """Unit and colours of the values of a task.

    Attributes
    ----------
    unit : str
        Unit of the values, for labels; empty for none.
    cmap : str
        Matplotlib colour map for images of one channel; those of three are shown in colour.
    """

    unit: str = ""
    cmap: str = "gray"

    def with_unit(self, text: str) -> str:
        """Return a label with the unit, if there is one: ``error, m``."""
        return f"{text}, {self.unit}" if self.unit else text
