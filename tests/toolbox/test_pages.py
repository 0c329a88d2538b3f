"""The page kit: nothing gets in unescaped, nothing comes from outside, the slider can be used."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import escape

from toolbox.errors import DataError
from toolbox.io import atomic
from toolbox.pages import (
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
    number,
    round_length,
)
from toolbox.pages.kit import Block, _templates
from toolbox.pages.pictures import encode

EVIL = "<script>alert('1')</script> & \"{{ 7 * 7 }}\" {% raw %} $x"
DATA_URI = re.compile(r'data:image/png;base64,[A-Za-z0-9+/=]*(?=")')


class Tags(HTMLParser):
    """Tags with their attributes, the text of each, and what was left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def picture(word="a picture", **more):
    """Return a picture of 6 × 8 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Picture(pixels, word, **more)


def full_page(word):
    """Return a page with everything that the kit has, and `word` wherever text goes."""
    bar = ScaleBar(word, word, np.linspace(0, 1, 256)[:, None].repeat(3, axis=1))
    page = Page(word, word)
    page.verdict("neutral", word, [word])
    page.warnings(word, [word])
    page.section(
        word,
        Text(word, lead=word),
        Text(word, quiet=True),
        Facts({word: word}),
        Table(
            [Column((word, word), word), Column((word,))],
            [TableRow(word, [Cell(word, word)], own=True, group=word)],
        ),
        bar,
        picture(
            word,
            label=word,
            caption=word,
            box=Box(0.25, 0.5, 0.1, 0.2),
            line=Line(1, 0.5),
            ruler=Ruler(word, 0.2),
            width_rem=20,
            scale=bar,
        ),
        Chart(b"png", word, word, narrow=b"png", dpi=100),
        Row([[Text(word)], [picture(word), Text(word)], [Text(word)]]),
        Slider(picture(word, label=word), picture(word, label=word), word),
    )
    page.caveat(word)
    return page.render()


def test_everything_from_outside_is_escaped():
    """Markup, quotes and the signs of templates stay text, in tags and in attributes."""
    plain, evil = full_page("plain"), full_page(EVIL)
    assert evil == plain.replace("plain", str(escape(EVIL)))
    assert plain.count("plain") > 40
    page = Tags(evil)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert {image["alt"] for image in page.all("img")} == {EVIL}


def test_nothing_comes_from_elsewhere():
    """Pictures lie in the page, and no address of any kind stands in it."""
    text = full_page("word")
    page = Tags(text)
    addresses = [image["src"] for image in page.all("img")]
    addresses += [source["srcset"] for source in page.all("source")]
    assert len(addresses) == 6
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert page.all("link") + page.all("iframe") + page.all("a") + page.all("form") == []
    rest = re.sub(r"'sha256-[^']*'", "", DATA_URI.sub("", text))
    for sign in ("http:", "https:", "//", "url(", "@import", "file:", "javascript"):
        assert sign not in rest
    for attributes in (attributes for _, attributes in page.tags):
        assert not [name for name in attributes if name.startswith("on")]


def policy(page):
    """Return the content security policy of a page by directive."""
    [text] = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    return {part.split()[0]: part.split()[1:] for part in text.split(";")}


def test_only_the_script_of_the_slider_may_run():
    """The policy names the hash of the script that stands in the page, and allows no other."""
    page = Tags(full_page("word"))
    script = page.text["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = {"default-src": ["'none'"], "img-src": ["data:"], "style-src": ["'unsafe-inline'"]}
    assert policy(page) == {**allowed, "script-src": [f"'sha256-{digest}'"]}
    still = Page("still")
    still.section("Picture", picture())
    page = Tags(still.render())
    assert policy(page) == allowed
    assert page.all("script") == []


def test_the_slider_is_found_wherever_it_lies():
    """A slider in a column of a row brings its script too."""
    page = Page("t")
    page.section("s", Row([[Text("x")], [Slider(picture(), picture())]]))
    assert len(Tags(page.render()).all("script")) == 1


def test_the_slider_has_a_range_with_a_name():
    """It goes from 0 to 100, starts in the middle and says what it compares; both are shown."""
    page = Page("t")
    before, after = picture("raw scan", label="Raw"), picture("restored scan", label="Restored")
    page.section("s", Slider(before, after, "Move it."))
    tags = Tags(page.render())
    [slider] = tags.all("input")
    wanted = {"type": "range", "min": "0", "max": "100", "value": "50"}
    assert {name: slider[name] for name in wanted} == wanted
    assert slider["aria-label"].startswith("Compare Raw (left) with Restored (right)")
    assert [image["alt"] for image in tags.all("img")] == ["raw scan", "restored scan"]
    # Only scripts add the class that lays one picture over the other, and only on a screen.
    assert [f["class"] for f in tags.all("figure")] == ["slider"]
    style = tags.text["style"]
    assert style.index("@media screen {\n  .live") < style.index(".live ")


def test_a_slider_needs_equal_sizes():
    """Pictures of two sizes do not lie over each other."""
    with pytest.raises(DataError, match="the same size"):
        Slider(picture(), Picture(np.zeros((6, 9, 3), np.uint8), "wider"))


def test_what_is_empty_is_not_shown():
    """No warnings give no box, empty tables and texts no section and no heading."""
    page = Page("t")
    page.warnings("Beware", [])
    page.section("Nothing", None, Facts({}), Table([Column(("a",))], []), Row([]), Text(""))
    tags = Tags(page.render())
    assert tags.all("section") == []
    assert "Beware" not in page.render() and "Nothing" not in page.render()


@pytest.mark.parametrize("grade", ["good", "neutral", "bad"])
def test_verdicts_have_three_grades(grade):
    """Each has its own colours in the style."""
    page = Page("t")
    page.verdict(grade, "Result", ["Because."])
    tags = Tags(page.render())
    assert [section["class"] for section in tags.all("section")] == [f"verdict {grade}"]
    assert f".{grade} {{" in tags.text["style"]


def test_groups_of_rows_have_one_heading_each():
    """The name of a group stands once above its rows; the own row is marked."""
    rows = [
        TableRow("bicubic", [Cell("2")], group="flat"),
        TableRow("network", [Cell("1", "−50 %")], own=True, group="flat"),
        TableRow("bicubic", [Cell("3")], group="steep"),
    ]
    page = Page("t")
    page.section("s", Table([Column(("method",)), Column(("RMSE",), "m")], rows))
    tags = Tags(page.render())
    assert [row.get("class") for row in tags.all("tr")] == [
        None, "group", None, "own", "group", None,
    ]  # fmt: skip
    assert tags.text["small"] == "m−50 %"


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """If a block or the disk fails, the page of yesterday stays and nothing lies beside it."""
    path = tmp_path / "folder" / "page.html"
    page = Page("first")
    page.write(path)
    assert path.read_bytes() == page.render().encode()

    class Broken(Block):
        template = "text.html"

    page.section("s", Broken())
    with pytest.raises(UndefinedError):
        page.write(path)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        Page("second").write(path)
    assert list(path.parent.iterdir()) == [path]
    assert "first" in path.read_text()


def test_what_a_template_does_not_know_is_an_error():
    """A mistyped name in a template raises instead of printing nothing."""
    with pytest.raises(UndefinedError):
        _templates().from_string("{{ mistyped }}").render()


def test_pictures_suit_a_screen():
    """Small pictures have their pixels repeated to 600, large ones are averaged below 1600."""
    from io import BytesIO

    from matplotlib.image import imread

    small = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    shown = imread(BytesIO(encode(small)))[..., :3]
    assert shown.shape == (300, 600, 3)
    np.testing.assert_allclose(255 * shown[::150, ::150], small)
    assert imread(BytesIO(encode(np.zeros((1700, 40, 3), np.uint8)))).shape[:2] == (850, 20)


def test_charts_are_not_enlarged():
    """At 100 dots an inch, a chart 600 pixels wide is at most 6 inches wide on the page."""
    assert Chart(encode(np.zeros((2, 4, 3), np.uint8)), "a chart", dpi=100).width_rem == 6 * 6.7
    assert Chart(b"", "a chart").width_rem is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (-0.0004, "−0.0004"), (1234.5, "1234"), (-2.346, "−2.35")]
)
def test_numbers_are_short(value, text):
    """Three digits, or all before the point, with a true minus."""
    assert number(value) == text


def test_rulers_are_round():
    """Lengths are 1, 2 or 5 times a power of ten, and not longer than asked for."""
    assert [round_length(limit) for limit in (1, 1.9, 49, 50, 0.3)] == [1, 1, 20, 50, 0.2]
