"""One HTML page that opens anywhere without a network, made of sections and blocks.

A block is a small record and a template of the same name in ``templates/``. The templates escape
whatever they are given, so names, units and messages may come from anywhere.
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
    """What can stand in a section; one that is false in itself, like an empty table, is left out.

    Attributes
    ----------
    template : str
        File in ``templates/`` that draws it; there it is called ``block``.
    """

    template: ClassVar[str]

    def parts(self) -> Sequence[Block]:
        """Return the blocks inside this one."""
        return ()


@dataclasses.dataclass(frozen=True)
class Text(Block):
    """A paragraph; `lead` stands before it in bold, `quiet` prints it in grey."""

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
    """A value, and in small print below it what belongs to it: an interval, an error."""

    text: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row; `own` marks the one that the page is about, rows of one `group` stand below it."""

    label: str
    cells: Sequence[Cell]
    own: bool = False
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Table(Block):
    """Rows and columns; on a telephone it is scrolled sideways.

    Attributes
    ----------
    columns : sequence of Column
        The first is that of the rows' labels.
    rows : sequence of TableRow
        Each with a cell for all columns but the first.
    """

    template = "table.html"
    columns: Sequence[Column]
    rows: Sequence[TableRow]

    def __bool__(self) -> bool:
        return bool(self.rows) and len(self.columns) > 1


@dataclasses.dataclass(frozen=True)
class ScaleBar(Block):
    """Colours from low to high between their values; `colours` is (n, 3) of 0..1."""

    template = "scale_bar.html"
    low: str
    high: str
    colours: np.ndarray

    @property
    def stops(self) -> list[list[int]]:
        """Red, green and blue of 0..255 along the bar."""
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
    """A dashed line over a picture: a row (axis 0) or column (1), and where, as a share."""

    axis: int
    at: float


@dataclasses.dataclass(frozen=True)
class Ruler:
    """A bar below a picture, `share` of its width long, and the length that it stands for."""

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
        Words that stand for it.
    label, caption : str
        What is printed below it; `label` in bold.
    ratio : float, optional
        Width ÷ height of what it shows; default that of its pixels.
    box, line, ruler : optional
        What is drawn over and below it.
    width_rem : float, optional
        Largest width in multiples of the font size.
    scale : ScaleBar, optional
        What its colours mean, above the caption.
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
        """The image itself."""
        return data_uri(encode(self.pixels))

    @property
    def aspect(self) -> float:
        """Width ÷ height."""
        return self.ratio or self.pixels.shape[1] / self.pixels.shape[0]


@dataclasses.dataclass(frozen=True)
class Chart(Block):
    """A chart that is a PNG file already.

    Attributes
    ----------
    png : bytes
        The file.
    alt, caption : str
        Words that stand for it, and the line below it.
    narrow : bytes, optional
        Another form of it, for telephones.
    dpi : float, optional
        Its dots per inch: it is not shown larger than it was drawn. By default it takes all the
        width there is.
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
        # The width stands behind the signature and the head of the first chunk.
        pixels = int.from_bytes(self.png[16:20], "big")
        return 6.7 * pixels / self.dpi if self.dpi else None

    @property
    def uri(self) -> str:
        """The chart itself."""
        return data_uri(self.png)

    @property
    def narrow_uri(self) -> str:
        """The form for telephones, or nothing."""
        return data_uri(self.narrow) if self.narrow else ""


@dataclasses.dataclass(frozen=True)
class Row(Block):
    """Two or three columns beside each other, below each other on a telephone."""

    template = "row.html"
    columns: Sequence[Sequence[Block]]

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def width(self) -> str:
        """Class of the style."""
        return "three" if len(self.columns) > 2 else "two"

    def parts(self) -> Sequence[Block]:
        """Return the blocks of all columns."""
        return [block for column in self.columns for block in column]


@dataclasses.dataclass(frozen=True)
class Slider(Block):
    """Two pictures of equal size over each other, with a line between them that can be moved.

    It moves by mouse, touch and keyboard. Printed, and where no scripts run, the pictures stand
    beside each other.

    Attributes
    ----------
    before, after : Picture
        What lies left and right of the line; their `label` is written into them.
    caption : str
        What is printed below.
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
    """A report in one file, to which sections are added from top to bottom.

    Parameters
    ----------
    title, place : str
        Heading, and the quiet line below it.
    """

    def __init__(self, title: str, place: str = "") -> None:
        self.title, self.place = title, place
        self._blocks: list[Block] = []

    def verdict(self, grade: Grade, title: str, sentences: Sequence[str] = ()) -> None:
        """Add a box with the result: green if it is good, grey if neutral, red if bad."""
        self._blocks.append(_Verdict(grade, title, sentences))

    def warnings(self, heading: str, lines: Sequence[str]) -> None:
        """Add a box with a line for each warning; nothing if there is none."""
        if lines:
            self._blocks.append(_Warnings(heading, lines))

    def section(self, heading: str, *blocks: Block | None) -> None:
        """Add blocks under a heading; empty ones are left out, and the heading if all are."""
        shown = [block for block in blocks if block]
        if shown:
            self._blocks.append(_Section(heading, shown))

    def caveat(self, text: str) -> None:
        """Add a framed line that says what the report is not for."""
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
        """Write the page; the file appears whole or not at all."""
        # Bytes, since another line end inside the script would change its hash.
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
