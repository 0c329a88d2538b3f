"""The one-page report of a map: complete, self-contained, and unimpressed by odd maps."""

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.image import imread

from toolbox.errors import DataError
from toolbox.io import atomic
from toolbox.pages import charts
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry import relief
from toolbox.tasks.bathymetry.relief import write_hillshade
from toolbox.tasks.bathymetry.report import MapView, choose_detail, write_map_report

GREY = 184 / 255
SCALE = 4
DATA_URI = re.compile(r'data:image/png;base64,[A-Za-z0-9+/=]+(?=")')


class Page(HTMLParser):
    """What a browser would find: tags with attributes in order, headings, unclosed tags."""

    VOID = ("meta", "img", "source", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def hills(rows, columns):
    """Return sea floor (rows, columns) about -1500 m, float32."""
    y, x = np.mgrid[:rows, :columns]
    return (200 * np.sin(x / 9) * np.cos(y / 7) + 3 * x - 1500).astype(np.float32)


def view_of(before, after, delta_m=(30.0, 40.0), **more):
    """Return a view whose bicubic is made from `before`, with the same gaps."""
    stack = np.nan_to_num(before, nan=-1500.0)
    stack = stack[None] if before.ndim == 3 else stack[None, ..., None]
    bicubic = enlarge(stack, SCALE)[0].reshape(after.shape)
    gap = np.isnan(before).repeat(SCALE, 0).repeat(SCALE, 1)
    bicubic = np.where(gap, np.nan, bicubic)
    return MapView(before, bicubic, after, delta_m, "rows 0-7 of the input", **more)


def relief_view(rows=12, columns=16, **more):
    """Return a view of hills, low-resolution size (rows, columns)."""
    after = hills(rows * SCALE, columns * SCALE)
    return view_of(block_mean(after[None, ..., None], SCALE)[0, ..., 0], after, **more)


@pytest.fixture
def written(tmp_path):
    """Write a report and return its text."""

    def write(overview=None, detail=None, **more):
        overview = overview or relief_view(24, 32)
        detail = detail or relief_view(window=(6, 8, 12, 16))
        told = {"title": "A map", "facts": {"model": "espcn"}, "figures": {"RMSE": "1 m"}} | more
        write_map_report(tmp_path / "report.html", overview, detail, **told)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


@pytest.fixture
def no_charts(monkeypatch):
    """Charts are no pictures in this test: drawing them takes long."""
    monkeypatch.setattr(charts, "_drawn", lambda draw, inches: b"")


def test_needs_nothing_but_itself(written):
    """Every picture lies in the page; its one script is its own, nothing comes from elsewhere."""
    text = written()
    page = Page(text)
    assert page.open == []
    pictures = [image["src"] for image in page.all("img")]
    pictures += [source["srcset"] for source in page.all("source")]
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)
    assert {tag for tag, _ in page.tags} & {"link", "iframe", "object", "base"} == set()
    assert page.all("script") == [{}]
    rest = DATA_URI.sub("", text)
    for word in ("http:", "https:", "//", "url(", "@import", "file:", "javascript"):
        assert word not in rest


@pytest.mark.usefixtures("no_charts")
def test_sections_stand_in_order(written):
    """Warnings come first, then figures, pictures, facts and what the map is not for."""
    text = written(warnings=["12 % lies outside the training set."])
    assert Page(text).headings == [
        "Before you use this map",
        "Key figures",
        "The whole map after super-resolution",
        "Detail",
        "Difference",
        "Profile",
        "Slopes",
        "How this map was made",
    ]
    assert "not interchangeable" in text
    caveat = text.index("likely, not measured; do not use for navigation")
    assert text.index("12 % lies outside") < text.index("RMSE") < text.index("espcn") < caveat


@pytest.mark.usefixtures("no_charts")
def test_no_warnings_leave_no_box(written):
    """Without warnings there is no empty box, without facts no empty table."""
    page = Page(written(facts={}, figures={}))
    assert page.all("section")
    assert "warnings" not in {section.get("class") for section in page.all("section")}
    assert page.all("table") == []


def test_pictures_have_words_and_sizes(written):
    """There are the map, six of the detail, two to slide, difference and two charts."""
    images = Page(written()).all("img")
    assert len(images) == 12
    assert all(len(image["alt"]) > 10 for image in images)


def test_what_users_write_is_escaped(written):
    """Markup, quotes and dollar signs in titles, names, places and units stay text."""
    evil = "<script>alert('1')</script> & \"$title\" ${x}"
    detail = dataclasses.replace(relief_view(), place=evil, window=(0, 0, 12, 16))
    overview = dataclasses.replace(relief_view(24, 32), place=evil)
    told = {"title": evil, "facts": {evil: evil}, "figures": {evil: evil}, "warnings": [evil]}
    text = written(overview, detail, **told)
    assert text.lower().count("<script") == 1
    assert text.count(str(escape(evil))) == 10
    text = written(overview, detail, unit='"><script>$', **told)
    assert text.lower().count("<script") == 1
    assert Page(text).open == []


@pytest.mark.usefixtures("no_charts")
def test_box_frames_the_detail(written):
    """The box is drawn at the detail's share of the overview, which may be a part itself."""
    overview = relief_view(24, 32, window=(100, 200, 240, 320))
    text = written(overview, relief_view(window=(160, 280, 12, 16)))
    [box] = [span for span in Page(text).all("span") if span.get("class") == "box"]
    assert box["style"] == "top: 25.000%; left: 25.000%; height: 5.000%; width: 5.000%"
    text = written(overview, relief_view())
    assert 'class="box"' not in text


@pytest.mark.usefixtures("no_charts")
def test_ruler_is_a_round_length(written):
    """32 · 4 pixels of 40 m are 5120 m, so a bar of 1 km is 19.5 % of the picture."""
    text = written()
    assert 'style="width: 19.531%">1 km<' in text
    unknown = written(relief_view(24, 32, delta_m=None), relief_view(delta_m=None))
    assert 'class="ruler"' not in unknown


@pytest.mark.usefixtures("no_charts")
def test_pixels_that_are_not_square_keep_their_shape(written):
    """Frames are as wide and high as the ground: 16 · 40 m against 12 · 30 m."""
    frames = [tag for tag in Page(written()).all("div") if tag.get("class") == "frame"]
    assert {frame["style"] for frame in frames} == {f"aspect-ratio: {16 * 40 / (12 * 30):.5f}"}


def gaps(view):
    """Return the view with a third of it missing."""
    before, bicubic, after = (img.copy() for img in (view.before, view.bicubic, view.after))
    for img in (before, bicubic, after):
        img[: len(img) // 3] = np.nan
    return dataclasses.replace(view, before=before, bicubic=bicubic, after=after)


def constant(view, value):
    """Return the view with one value everywhere."""
    images = (np.full_like(img, value) for img in (view.before, view.bicubic, view.after))
    return dataclasses.replace(
        view, **dict(zip(("before", "bicubic", "after"), images, strict=True))
    )


@pytest.mark.parametrize("delta_m", [(30.0, 40.0), None])
@pytest.mark.parametrize(
    "change",
    [
        gaps,
        lambda view: constant(view, -4000.0),
        lambda view: constant(view, 0.0),
        lambda view: constant(view, np.nan),
        lambda view: constant(view, np.inf),
    ],
    ids=["gaps", "flat", "zero", "all missing", "infinite"],
)
def test_odd_maps_are_drawn(written, change, delta_m):
    """Gaps, plains and nothing at all give a page without a warning and without nan in it."""
    overview, detail = (change(relief_view(delta_m=delta_m)) for _ in range(2))
    text = DATA_URI.sub("", written(overview, detail))
    assert len(Page(text).all("img")) == 12
    assert not re.search(r"\b(nan|inf)\b", text)
    missing = bool(~np.isfinite(overview.after).all())
    assert ("Grey: missing" in text) == missing


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_tiny_details_are_drawn(written, size):
    """Details of a few pixels have a page too, even if no pixel has a slope."""
    detail = relief_view(size, size)
    text = written(detail, detail)
    assert len(Page(text).all("img")) == 12


@pytest.mark.parametrize("top", [1, 255])
def test_colour_images_are_shown_as_they_are(written, top):
    """Images of three channels have neither relief nor slopes, but difference and profile."""
    after = np.random.default_rng(0).uniform(0, top, (32, 48, 3)).astype(np.float32)
    view = view_of(block_mean(after[None], SCALE)[0], after, delta_m=None)
    text = written(view, view, unit="grey value")
    page = Page(text)
    assert page.headings == [
        "Key figures",
        "The whole map after super-resolution",
        "Detail",
        "Difference",
        "Profile",
        "How this map was made",
    ]
    assert len(page.all("img")) == 8
    assert "mean of the channels" in text


@pytest.mark.usefixtures("no_charts")
def test_grey_values_are_no_relief(written):
    """One channel in another unit is shown in grey, not as hills and slopes."""
    text = written(unit="nm")
    assert "Slopes" not in Page(text).headings
    assert "haded" not in DATA_URI.sub("", text)


def test_channel_axis_may_be_there(written):
    """Images (h, w, 1) give the same page as planes (h, w)."""
    plane = relief_view()
    images = {part: getattr(plane, part)[..., None] for part in ("before", "bicubic", "after")}
    cube = dataclasses.replace(plane, **images)
    assert written(cube, cube) == written(plane, plane)


@pytest.mark.usefixtures("no_charts")
def test_views_are_not_changed(written):
    """The caller's arrays are as they were."""
    view = gaps(relief_view())
    copies = [img.copy() for img in (view.before, view.bicubic, view.after)]
    written(view, view)
    for img, copy in zip((view.before, view.bicubic, view.after), copies, strict=True):
        np.testing.assert_array_equal(img, copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": hills(48, 60)}, "integer multiple"),
        ({"bicubic": hills(24, 32)}, "integer multiple"),
        ({"before": hills(96, 96)}, "integer multiple"),
        ({"after": np.zeros((48, 64, 4))}, r"detail.after must be an image"),
        ({"before": np.zeros((0, 4))}, r"detail.before must be an image"),
        ({"after": np.zeros((48, 64, 3))}, "all grey or all coloured"),
    ],
)
def test_views_that_do_not_fit_are_refused(tmp_path, change, message):
    """A detail of the wrong sizes is told, and no page is left behind."""
    detail = dataclasses.replace(relief_view(), **change)
    with pytest.raises(DataError, match=message):
        write_map_report(tmp_path / "report.html", relief_view(), detail, "t", {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_charts")
def test_bicubic_slides_over_super_resolution(written):
    """In the detail both can be compared, as shaded relief or, of an image, as they are."""
    for unit in ("m", "nm"):
        text = written(unit=unit)
        [slider] = Page(text).all("input")
        assert "Bicubic (left) with Super-resolution (right)" in slider["aria-label"]
        detail = text[text.index("<h2>Detail") : text.index("<h2>Difference")]
        assert detail.index('type="range"') < detail.index("Left: bicubic. Right: super-resolution")


@pytest.mark.usefixtures("no_charts")
def test_overview_may_be_reduced(written):
    """The sizes of an overview need not fit one another."""
    overview = relief_view(24, 32)
    overview = dataclasses.replace(overview, bicubic=hills(7, 9), after=hills(29, 37))
    assert len(Page(written(overview)).all("img")) == 12


def test_failure_leaves_the_old_page(tmp_path, monkeypatch):
    """If writing breaks off, the page of yesterday stays and nothing lies beside it."""
    path = tmp_path / "report.html"
    path.write_text("yesterday")

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_map_report(path, relief_view(), relief_view(), "t", {}, {})
    with pytest.raises(OSError, match="disk full"):
        write_hillshade(tmp_path / "hill.png", hills(8, 8), None)
    assert path.read_text() == "yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_same_map_same_page(written):
    """Two reports of one map are equal to the byte."""
    assert written() == written()


def test_tensorflow_is_not_needed():
    """Importing the report does not import TensorFlow."""
    code = "import sys, toolbox.tasks.bathymetry.report; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_detail_lies_on_planted_relief():
    """Of a steep plane with one rough patch, the window that holds the patch is chosen."""
    y, x = np.mgrid[:80, :100]
    before = -3000.0 + 40 * y + 25 * x
    before[50:66, 22:38] += 30 * (-1.0) ** (x + y)[50:66, 22:38]
    row, column = choose_detail(before, 16)
    assert abs(row - 50) <= 2
    assert abs(column - 22) <= 2


def test_detail_avoids_gaps():
    """A rough patch with a gap in it loses against a gentler one without."""
    before = np.full((60, 90), -2000.0)
    y, x = np.mgrid[:60, :90]
    rough = (-1.0) ** (x + y)
    before[10:26, 10:26] += 100 * rough[10:26, 10:26]
    before[30:46, 60:76] += 5 * rough[30:46, 60:76]
    row, column = choose_detail(before, 16)
    assert abs(row - 10) <= 2
    assert abs(column - 10) <= 2
    before[8:28:4, 8:28:4] = np.nan
    row, column = choose_detail(before, 16)
    assert not np.isnan(before[row : row + 16, column : column + 16]).any()
    assert abs(row - 30) <= 2
    assert abs(column - 60) <= 2


def test_edge_of_a_gap_is_no_relief():
    """On a plane with a gap nothing stands out, and the first whole window is taken."""
    y, x = np.mgrid[:40, :50]
    before = 100.0 * y + 70 * x
    before[:12, :9] = np.nan
    assert choose_detail(before, 8) == (0, 9)


def test_detail_of_a_map_with_gaps_everywhere():
    """If no window is whole, the fewest missing pixels decide."""
    before = hills(20, 20)
    before[::3, ::3] = np.nan
    before[:10, :] = np.nan
    row, column = choose_detail(before, 6)
    assert row >= 10
    assert np.isnan(before[row : row + 6, column : column + 6]).sum() == 4


@pytest.mark.parametrize(
    ("before", "size"),
    [
        (np.full((9, 9), -5.0), 4),
        (np.full((9, 9), np.nan), 4),
        (hills(5, 3), 8),
        (np.zeros((1, 1)), 64),
    ],
    ids=["flat", "all missing", "smaller than the window", "one pixel"],
)
def test_detail_of_poor_maps_is_the_corner(before, size):
    """Where nothing is better than anything else, the window begins at the first pixel."""
    assert choose_detail(before, size) == (0, 0)


def test_detail_of_colour_images():
    """Three channels are judged by their mean, and the answer is two plain integers."""
    before = np.zeros((40, 40, 3), np.uint8)
    before[20:28, 8:16] = 255 * (np.indices((8, 8)).sum(0) % 2)[..., None]
    row, column = choose_detail(before, 8)
    assert type(row) is int
    assert abs(row - 20) <= 2
    assert abs(column - 8) <= 2


def test_hillshade_has_the_size_of_the_map(tmp_path):
    """One pixel of the map is one of the PNG; gaps are transparent, everything else opaque."""
    elevation = hills(31, 47)
    elevation[3:6, 40:] = np.nan
    write_hillshade(tmp_path / "hill.png", elevation, (30.0, 40.0))
    picture = imread(tmp_path / "hill.png")
    assert picture.shape == (31, 47, 4)
    np.testing.assert_array_equal(picture[..., 3] == 0, np.isnan(elevation))
    np.testing.assert_allclose(picture[4, 45, :3], GREY)


def test_large_hillshade_is_thinned(tmp_path):
    """Above the limit every second row and column is drawn, with the same light."""
    elevation = hills(40, 60)
    options = {"limits": (-1800.0, -1100.0), "exaggeration": 1.0}
    write_hillshade(tmp_path / "a.png", elevation, (9.0, 8.0), max_pixels=600, **options)
    write_hillshade(tmp_path / "b.png", elevation[::2, ::2], (18.0, 16.0), **options)
    assert imread(tmp_path / "a.png").shape == (20, 30, 4)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_hillshade_strips_leave_no_seam(tmp_path, monkeypatch):
    """A map drawn in strips is the map drawn at once."""
    elevation = hills(37, 20)
    options = {"limits": (-1800.0, -1100.0), "exaggeration": 2.0}
    write_hillshade(tmp_path / "whole.png", elevation, (9.0, 8.0), **options)
    monkeypatch.setattr(relief, "_SAMPLE", 100)
    write_hillshade(tmp_path / "strips.png", elevation, (9.0, 8.0), **options)
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "strips.png").read_bytes()


def test_light_comes_from_the_upper_left(tmp_path):
    """A slope that falls to the upper left is brighter than flat ground, its reverse darker."""
    y, x = np.mgrid[:9, :9].astype(float)
    light = {}
    for name, sign in (("to light", 1), ("flat", 0), ("away", -1)):
        heights = sign * (x + y) - 500
        options = {"limits": (-1000.0, -1.0), "exaggeration": 0.3}
        write_hillshade(tmp_path / "hill.png", heights, (1.0, 1.0), **options)
        light[name] = imread(tmp_path / "hill.png")[4, 4, :3].sum()
    assert light["to light"] > light["flat"] > light["away"]


def test_shore_divides_blue_from_brown(tmp_path):
    """Ground a little above sea level is brown, a little below blue, at any range of colours."""
    elevation = np.array([[-0.01, 0.0, 0.01]])
    for limits in ((-4000.0, 900.0), (-3.0, 8000.0)):
        write_hillshade(tmp_path / "hill.png", elevation, None, limits=limits, exaggeration=1e-6)
        red, _, blue, _ = np.moveaxis(imread(tmp_path / "hill.png")[0], -1, 0)
        assert blue[0] > red[0]
        assert (red[1:] > blue[1:]).all()


def test_one_spike_does_not_take_the_colours(tmp_path):
    """A spike of 9 km changes the colour of the ground far from it little."""
    elevation = hills(60, 80)
    pictures = []
    for spike in (elevation[30, 40], 9000.0):
        elevation[30, 40] = spike
        write_hillshade(tmp_path / "hill.png", elevation, (30.0, 40.0))
        pictures.append(imread(tmp_path / "hill.png")[:20])
    assert np.abs(pictures[0] - pictures[1]).max() < 0.05


@pytest.mark.parametrize("value", [0.0, -4000.0, np.nan])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 7)])
def test_plain_hillshades(tmp_path, shape, value):
    """Maps of one value, down to one pixel, have one colour."""
    write_hillshade(tmp_path / "hill.png", np.full(shape, value), (30.0, 40.0))
    picture = imread(tmp_path / "hill.png")
    assert picture.shape == (*shape, 4)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) == 1


def test_hillshade_of_no_plane_is_refused(tmp_path):
    """A stack or an empty plane is told, and no file is left."""
    for shape in ((4, 4, 3), (0, 4)):
        with pytest.raises(DataError, match=r"must be an array \(H, W\)"):
            write_hillshade(tmp_path / "hill.png", np.zeros(shape), None)
    assert list(tmp_path.iterdir()) == []
