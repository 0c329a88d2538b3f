"""Options of ``predict`` that only maps have."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toolbox.config import Float, Settings, Step, Variable

DTypes = Literal["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


class MapOptions(Settings):
    """Settings of ``predict`` for maps and images with geodata."""

    standard_deviation: bool = Field(
        False, description="add a band: standard deviation over copies and weights"
    )
    range_mask: bool = Field(
        False, description="add a band: 1 outside the depths and slopes of the training data"
    )
    report: bool = Field(
        False, description="write a one-page report next to the result, as map_x4.tif.html"
    )
    hillshade: bool = Field(
        False, description="write a shaded relief next to the result, as map_x4.tif_hillshade.png"
    )
    cog: bool = Field(False, description="write a cloud-optimised GeoTIFF: tiles and overviews")
    dtype: DTypes | None = Field(None, description="type of the values; default: that of the input")
    interval: Float | None = Field(
        None,
        gt=0,
        lt=1,
        description="add the limits of intervals that should contain this share of the truth, "
        "e.g. 0.9",
    )
    variable: Variable = Field(
        None, description="variable of a NetCDF or S-102 file, band of a GeoTIFF"
    )
    time: Step = Field(
        None, description="step of a further axis of a NetCDF file: number from 1, or date"
    )
    group: str | None = Field(None, description="group of a NetCDF file, coverage of S-102")
    nodata: Float | None = Field(None, description="an additional value that means missing")
    positive: Literal["up", "down"] | None = Field(
        None, description="whether the file holds heights (up) or depths (down); default: detected"
    )
    dask: str | None = Field(
        None,
        description="share the rows of tiles among workers: local, local:N, or the address of a "
        "Dask scheduler such as tcp://host:8786",
    )
