"""Settings for SEM pictures only: section ``metrology`` of a test, options of ``predict``."""

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
        Direction of the lines. Pictures with horizontal lines are turned before they are measured.
        ``auto`` finds the direction in the first long exposure.
    polarity
        Whether lines or discs are brighter or darker than their surroundings. With ``auto``, discs
        are of the kind that the long exposures show more often; lines are bright if the first long
        exposure shows a complete bright line, otherwise dark (trenches).
    threshold
        Level of an edge between local minimum (0, dark) and maximum (1, bright), for either
        polarity.
    tolerance_nm
        Largest change of the CD that counts as harmless.
    gaussian_px
        Standard deviation, in pixels, of the Gaussian filter used for comparison; null selects the
        best one on validation pictures.
    pictures
        Number of pictures in the report, beginning with the one that restoring changed most.
    """

    shape: Literal["lines", "discs"] = "lines"
    lines: Literal["vertical", "horizontal", "auto"] = "vertical"
    polarity: Literal["auto", "bright", "dark"] = "auto"
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    tolerance_nm: Annotated[Float, Field(gt=0)] = 0.5
    gaussian_px: Annotated[Float, Field(gt=0, le=20)] | None = None
    pictures: Annotated[Int, Field(ge=0)] = 3


class SemOptions(Settings):
    """Settings of ``predict`` for SEM pictures only."""

    pixel_nm: Annotated[Float, Field(gt=0)] | None = Field(
        None,
        description="SEM pictures: size of an input pixel in nm; default what the file states",
    )


class MeasureOptions(SemOptions):
    """Options of ``measure``."""

    shape: Literal["lines", "discs"] = Field("lines", description="lines or discs")
    lines: Literal["auto", "vertical", "horizontal"] = Field(
        "auto", description="direction of the lines: vertical, horizontal or auto"
    )
    polarity: Literal["auto", "bright", "dark"] = Field(
        "auto", description="bright lines or discs, dark ones (trenches, holes), or auto"
    )
    threshold: Annotated[Float, Field(gt=0, lt=1)] = Field(
        0.5, description="level of an edge between dark (0) and bright (1); default 0.5"
    )
    precision_nm: Annotated[Float, Field(gt=0)] | None = Field(
        None,
        description="standard deviation of the CD in nm that an average of frames should reach",
    )
