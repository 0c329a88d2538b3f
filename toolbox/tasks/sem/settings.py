"""Section ``metrology`` of the settings: how a test on SEM pictures measures them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from toolbox.config import Float, Int, Settings


class MetrologyParams(Settings):
    """What is measured, by which criterion, and how much a restored width may change."""

    shape: Literal["lines", "discs"] = "lines"
    lines: Literal["vertical", "horizontal"] = "vertical"
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    tolerance_nm: Annotated[Float, Field(gt=0)] = 0.5
    gaussian_px: Annotated[Float, Field(gt=0, le=20)] | None = None
    pictures: Annotated[Int, Field(ge=0)] = 3
