"""How the values of a task look: unit, colours."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Style:
    """Unit of the values and how a picture of them is drawn.

    Attributes
    ----------
    unit : str
        Unit of the values, for labels; empty for none.
    cmap : str
        Colour map of Matplotlib for images of one channel. Those of three are shown in colour.
    """

    unit: str = ""
    cmap: str = "gray"

    def with_unit(self, text: str) -> str:
        """Return a label with the unit, if there is one: ``error, m``."""
        return f"{text}, {self.unit}" if self.unit else text
