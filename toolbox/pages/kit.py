"""A self-contained HTML page that works offline, built from sections and blocks.

A block is a small record and a template of the same name in ``templates/``. The templates escape
all text, so names, units and messages may come from any source.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.pages.pictures import data_uri, encode

Grade = Literal["good", "neutral", "bad"]


# --- blocks ---------------------------------------------------------------------------------


class Block:
    """A part of a section. A block that is false, such as an empty table, is omitted.

    Attributes
    ----------
    template : str
        File in ``templates/`` that draws the block; there it is called ``block``.
    """

    template: ClassVar[str]

    def parts(self) -> Sequence[Block]:
        """Return the blocks within this one."""
        return ()


@dataclasses.dataclass(frozen=True)
class Text(Block):
    """A paragraph; `lead` precedes it in bold, `quiet` prints it in grey."""

    template = "text.html"
    text: str
    lead: str = ""
    quiet: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.lead)


@dataclasses.dataclass(frozen=True)
class Facts(Block):
    """A table of names and values."""

    template = "facts.html"
    rows: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclasses.dataclass(frozen=True)
class Column:
    """Heading of a column: its name on one or more lines, and the unit in small print."""

    lines: tuple[str, ...]
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value, with small print below it, such as an interval or an error."""

    text: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row; `own` marks the subject of the page, and rows of a `group` share a heading."""

    label: str
    cells: Sequence[Cell]
    own: bool = False
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Table(Block):
    """Rows and columns; it scrolls sideways on a phone.

    Attributes
    ----------
    columns : sequence of Column
        Columns; the first holds the labels of the rows.
    rows : sequence of TableRow
        Rows with a cell for every column except the first.
    """

    template = "table.html"
    columns: Sequence[Column]
    rows: Sequence[TableRow]

    def __bool__(self) -> bool:
        return bool(self.rows) and len(self.columns) > 1


@dataclasses.dataclass(frozen=True)
class ScaleBar(Block):
    """Colours between the values low and high; `colours` has the shape (n, 3), 0 to 1."""

    template = "scale_bar.html"
    low: str
    high: str
    colours: np.ndarray

    @property
    def stops(self) -> list[list[int]]:
        """Red, green and blue along the bar, 0 to 255."""
        return np.rint(255 * self.colours).astype(int)[::5].tolist()


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle over a picture; top, left, height and width as shares of the picture."""

    top: float
    left: float
    height: float
    width: float


@dataclasses.dataclass(frozen=True)
class Line:
    """A dashed line over a picture: a row (axis 0) or column (1), and its place as a share."""

    axis: int
    at: float


@dataclasses.dataclass(frozen=True)
class Ruler:
    """A bar below a picture, `share` of its width long, labelled with the length it represents."""

    text: str
    share: float


@dataclasses.dataclass(frozen=True)
class Picture(Block):
    """An image with a caption.

    Attributes
    ----------
    pixels : numpy.ndarray, shape (h, w, 3), uint8
        Red, green and blue.
    alt : str
        Text alternative.
    label, caption : str
        Text below the picture; `label` in bold.
    ratio : float, optional
        Width ÷ height of the scene; by default that of the pixels.
    box, line, ruler : optional
        Marks over and below the picture.
    width_rem : float, optional
        Largest width in multiples of the font size.
    scale : ScaleBar, optional
        Meaning of the colours, shown above the caption.
    """

    template = "picture.html"
    pixels: np.ndarray
    alt: str
    label: str = ""
    caption: str = ""
    ratio: float | None = None
    box: Box | None = None
    line: Line | None = None
    ruler: Ruler | None = None
    width_rem: float | None = None
    scale: ScaleBar | None = None

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return data_uri(encode(self.pixels))

    @property
    def aspect(self) -> float:
        """Width ÷ height."""
        return self.ratio or self.pixels.shape[1] / self.pixels.shape[0]


@dataclasses.dataclass(frozen=True)
class Chart(Block):
    """A chart that was drawn as a PNG file.

    Attributes
    ----------
    png : bytes
        The file.
    alt, caption : str
        Text alternative, and the line below the chart.
    narrow : bytes, optional
        Narrow form of the chart, for phones.
    dpi : float, optional
        Dots per inch; the chart is not shown larger than it was drawn. By default it uses the
        full width.
    """

    template = "chart.html"
    png: bytes
    alt: str
    caption: str = ""
    narrow: bytes | None = None
    dpi: float | None = None

    @property
    def width_rem(self) -> float | None:
        """Largest width in multiples of the font size, of which 6.7 make an inch."""
        # The width follows the signature and the head of the first chunk.
        pixels = int.from_bytes(self.png[16:20], "big")
        return 6.7 * pixels / self.dpi if self.dpi else None

    @property
    def uri(self) -> str:
        """The chart as a data URI."""
        return data_uri(self.png)

    @property
    def narrow_uri(self) -> str:
        """The narrow form as a data URI, or an empty text."""
        return data_uri(self.narrow) if self.narrow else ""


@dataclasses.dataclass(frozen=True)
class Row(Block):
    """Two or three columns side by side; on a phone, one below the other."""

    template = "row.html"
    columns: Sequence[Sequence[Block]]

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def width(self) -> str:
        """CSS class."""
        return "three" if len(self.columns) > 2 else "two"

    def parts(self) -> Sequence[Block]:
        """Return the blocks of all columns."""
        return [block for column in self.columns for block in column]


@dataclasses.dataclass(frozen=True)
class Slider(Block):
    """Two pictures of equal size on top of each other, with a movable line between them.

    The line moves by mouse, touch and keyboard. In print, and without scripts, the pictures are
    side by side.

    Attributes
    ----------
    before, after : Picture
        Pictures to the left and right of the line; their `label` is written into them.
    caption : str
        Text below the pictures.
    width_rem : float, optional
        Largest width in multiples of the font size.
    """

    template = "slider.html"
    before: Picture
    after: Picture
    caption: str = ""
    width_rem: float | None = None

    def __post_init__(self) -> None:
        if self.before.pixels.shape != self.after.pixels.shape:
            raise DataError(
                "slider: both pictures must have the same size; received "
                f"{self.before.pixels.shape} and {self.after.pixels.shape}."
            )

    def parts(self) -> Sequence[Block]:
        """Return both pictures."""
        return self.before, self.after


@dataclasses.dataclass(frozen=True)
class _Section(Block):
    template = "section.html"
    heading: str
    blocks: Sequence[Block]

    def parts(self) -> Sequence[Block]:
        return self.blocks


@dataclasses.dataclass(frozen=True)
class _Verdict(Block):
    template = "verdict.html"
    grade: Grade
    title: str
    sentences: Sequence[str]


@dataclasses.dataclass(frozen=True)
class _Warnings(Block):
    template = "warnings.html"
    heading: str
    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class _Caveat(Block):
    template = "caveat.html"
    text: str


# --- the page -------------------------------------------------------------------------------


class Page:
    """A report in one file; sections are added from top to bottom.

    Parameters
    ----------
    title, place : str
        Heading, and the grey line below it.
    """

    def __init__(self, title: str, place: str = "") -> None:
        self.title, self.place = title, place
        self._blocks: list[Block] = []

    def verdict(self, grade: Grade, title: str, sentences: Sequence[str] = ()) -> None:
        """Add a box with the result: green if good, grey if neutral, red if bad."""
        self._blocks.append(_Verdict(grade, title, sentences))

    def warnings(self, heading: str, lines: Sequence[str]) -> None:
        """Add a box with a line for each warning; without warnings, add nothing."""
        if lines:
            self._blocks.append(_Warnings(heading, lines))

    def section(self, heading: str, *blocks: Block | None) -> None:
        """Add blocks under a heading; empty blocks are omitted, and the heading if all are."""
        shown = [block for block in blocks if block]
        if shown:
            self._blocks.append(_Section(heading, shown))

    def caveat(self, text: str) -> None:
        """Add a framed line that states the limits of the report."""
        self._blocks.append(_Caveat(text))

    def render(self) -> str:
        """Return the page as HTML."""
        slides = any(isinstance(block, Slider) for block in _walk(self._blocks))
        script = _script() if slides else ""
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return (
            _templates()
            .get_template("page.html")
            .render(
                title=self.title,
                place=self.place,
                blocks=self._blocks,
                # The only text that is not escaped; the browser checks it against the hash.
                script=Markup(script),
                digest=digest,
            )
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page; the file appears complete or not at all."""
        # Bytes, because other line endings inside the script would change its hash.
        content = self.render().encode()
        with replacing(path) as beside:
            beside.write_bytes(content)


def _walk(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        yield from _walk(block.parts())


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("toolbox.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _script() -> str:
    folder = importlib.resources.files("toolbox.pages") / "templates"
    return (folder / "slider.js").read_text(encoding="utf-8")
