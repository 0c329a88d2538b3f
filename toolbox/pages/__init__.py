"""The page kit, with which all HTML reports of the project are made. It knows no domain."""

from toolbox.pages.charts import chart, confusion_chart, figure_png, verdict_chart
from toolbox.pages.kit import (
    Box,
    Cell,
    Chart,
    Column,
    Facts,
    Line,
    Page,
    Picture,
    Row,
    Ruler,
    ScaleBar,
    Slider,
    Table,
    TableRow,
    Text,
)
from toolbox.pages.pictures import number, repeat, round_length

__all__ = [
    "Box",
    "Cell",
    "Chart",
    "Column",
    "Facts",
    "Line",
    "Page",
    "Picture",
    "Row",
    "Ruler",
    "ScaleBar",
    "Slider",
    "Table",
    "TableRow",
    "Text",
    "chart",
    "confusion_chart",
    "figure_png",
    "number",
    "repeat",
    "round_length",
    "verdict_chart",
]
