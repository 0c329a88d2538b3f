"""Settings that only SEM pictures have: section ``metrology`` of a test, options of ``predict``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from toolbox.config import Float, Int, Settings


class MetrologyParams(Settings):
    """What is measured, by which criterion, and how much a restored width may change.

    Attributes
    ----------
    shape
        What is measured.
    lines
        How the lines run; pictures with horizontal ones are turned before they are measured. With
        ``auto`` the first long exposure tells.
    polarity
        Whether what is measured is brighter or darker than what is around it; of discs, ``auto``
        takes the kind of which the long exposures show more; of lines, the bright ones if the first
        long exposure shows a whole one, else the dark ones (trenches).
    threshold
        Level of an edge between local minimum (0, dark) and maximum (1, bright), whatever the
        polarity.
    tolerance_nm
        Largest change of the CD that counts as harmless.
    gaussian_px
        Standard deviation of the Gaussian filter that is compared, pixels; null takes the best one
        on validation pictures.
    pictures
        Pictures shown in the report, from the one that restoring changed most to the least.
    """

    shape: Literal["lines", "discs"] = "lines"
    lines: Literal["vertical", "horizontal", "auto"] = "vertical"
    polarity: Literal["auto", "bright", "dark"] = "auto"
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    tolerance_nm: Annotated[Float, Field(gt=0)] = 0.5
    gaussian_px: Annotated[Float, Field(gt=0, le=20)] | None = None
    pictures: Annotated[Int, Field(ge=0)] = 3


class SemOptions(Settings):
    """Settings of ``predict`` that only SEM pictures have."""

    pixel_nm: Annotated[Float, Field(gt=0)] | None = Field(
        None,
        description="SEM pictures: size of a pixel of the input in nm; default what the file says",
    )


class MeasureOptions(SemOptions):
    """Options of ``measure``."""

    shape: Literal["lines", "discs"] = Field("lines", description="lines or discs")
    lines: Literal["auto", "vertical", "horizontal"] = Field(
        "auto", description="how lines run: vertical, horizontal, or auto"
    )
    polarity: Literal["auto", "bright", "dark"] = Field(
        "auto", description="lines or discs that are bright, or dark (trenches, holes), or auto"
    )
    threshold: Annotated[Float, Field(gt=0, lt=1)] = Field(
        0.5, description="edge between dark (0) and bright (1); default 0.5"
    )
    precision_nm: Annotated[Float, Field(gt=0)] | None = Field(
        None,
        description="standard deviation of the CD, in nm, that an average of frames should reach",
    )
