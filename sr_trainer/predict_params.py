"""How a network is used: section ``predict`` of the settings, and options of the command line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from toolbox.config import Count, Float, Settings, Variable

DTypes = Literal["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


class PredictParams(Settings):
    """Settings of ``predict``; each is an option of the command line too."""

    self_ensemble: bool = Field(
        False, description="mean over eight mirrored and turned copies (8 times the time)"
    )
    weights: tuple[str, ...] = Field(
        (), description="weights files whose results are averaged, instead of the run's own"
    )
    standard_deviation: bool = Field(
        False, description="add a band: standard deviation over copies and weights"
    )
    lr_consistency: Literal["report", "project"] = Field(
        "report",
        description="report how far the result, averaged back, is from the input, or make it equal",
    )
    range_mask: bool = Field(
        False, description="add a band: 1 outside the depths and slopes of the training data"
    )
    report: bool = Field(False, description="write a one-page report RESULT.html beside the result")
    hillshade: bool = Field(False, description="write a shaded relief RESULT_hillshade.png")
    cog: bool = Field(False, description="write a cloud-optimised GeoTIFF: tiles and overviews")
    dtype: DTypes | None = Field(None, description="type of the values; default that of the input")
    variable: Variable = Field(None, description="variable of a NetCDF file, band of a GeoTIFF")
    nodata: Float | None = Field(None, description="a further value that means missing")
    positive: Literal["up", "down"] | None = Field(
        None, description="whether the file counts heights (up) or depths (down); default detected"
    )
    tile: Annotated[Count, Field(ge=8)] | None = Field(
        None, description="side of a tile in pixels of the input; default by memory"
    )
