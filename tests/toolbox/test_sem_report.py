"""The report of a test on SEM pictures: complete, true to its figures, unimpressed by gaps."""

import copy
import functools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.image import imread

from toolbox.tasks.sem import report as sem_report
from toolbox.tasks.sem.details import curves_of, places_of, window_about
from toolbox.tasks.sem.evaluate import METHODS, Picture, SemResults
from toolbox.tasks.sem.figures import how_measured
from toolbox.tasks.sem.report import print_sem_report, sem_page

DATA_URI = re.compile(r'data:image/png;base64,[A-Za-z0-9+/=]+(?=")')


def write_sem_report(results, pictures, folder, facts, **more):
    """Write pictures and page as a test does; return all files."""
    makers = {picture.name: functools.partial(lambda made: made, picture) for picture in pictures}
    sem_page(results, makers, folder, facts, **more).write(folder / "report.html")
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


BIASES = {"raw": -0.087, "gaussian": 0.77, "non_local_means": 0.789, "restored": 0.044}


class Table(HTMLParser):
    """Rows of cells of every table of a page; a note stands in its cell after a ``|``."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self.inside = True
        elif tag in ("small", "br") and self.inside:
            self.tables[-1][-1][-1] += "|"

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


def by_method(values):
    """Return four values under the names of the methods."""
    return dict(zip(METHODS, values, strict=True))


def summary_of(**changes):
    """Return a summary of lines with known truth, as the evaluator and its caller make it."""
    summary = {
        "measured": "lines",
        "n": 3,
        "pixel_nm": 0.8,
        "threshold": 0.5,
        "reference": "the picture without noise",
        "psnr": by_method([18.2, 24.13, 25.0, 30.21]),
        "ssim": by_method([0.31, 0.6, 0.652, 0.912]),
        "cd_bias_nm": dict(BIASES),
        "cd_bias_ci95_nm": by_method([0.066, 0.067, 0.076, 0.021]),
        "cd_slope": by_method([1.016, 1.017, 1.012, 1.02]),
        "cd_slope_ci95": by_method([0.032, 0.033, 0.023, 0.027]),
        "true_lwr_nm": 3.08,
        "true_ler_nm": 2.2,
        "biased_lwr_nm": by_method([4.17, 3.39, 3.28, 2.94]),
        "unbiased_lwr_nm": by_method([3.19, 3.38, 3.27, 2.93]),
        "biased_lwr_error_percent": by_method([135.2, 9.8, 6.4, -4.6]),
        "unbiased_lwr_error_percent": by_method([3.4, 9.7, 6.3, -4.7]),
        "biased_ler_nm": by_method([2.96, 2.41, 2.34, 2.1]),
        "unbiased_ler_nm": by_method([2.25, 2.42, 2.35, 2.11]),
        "biased_ler_error_percent": by_method([34.2, 9.2, 6.2, -4.5]),
        "unbiased_ler_error_percent": by_method([2.0, 9.3, 6.1, -4.8]),
        "psd_fit": {
            name: {"sigma_nm": 1.1, "xi_nm": 9.4, "alpha": 0.52, "floor_nm3": 0.643}
            for name in METHODS
        },
        "psd_transfer": {
            name: {"erased_below_nm": 7.6, "invented_below_nm": None} for name in METHODS
        },
        "edge_error_nm": by_method([0.669, 0.408, 0.373, 0.161]),
        "equivalent_frames": by_method([1.0, 2.2, 2.5, 11.5]),
        "criterion_offset_nm": 0.482,
        "do_no_harm": {
            "tolerance_nm": 0.5,
            "largest_likely_cd_change_nm": 0.065,
            "verdict": "pass",
            "flagged": [],
        },
    }
    return {**summary, **changes}


def table_of(names=("a.tif", "b.tif", "c.tif"), groups=("lines", "lines", "sweep_20")):
    """Return a row for each picture and method."""
    rows = [
        {
            "name": name,
            "group": group,
            "method": method,
            "true_cd_nm": 16.0 + 2 * i,
            "reference_cd_nm": 16.5 + 2 * i,
            "cd_nm": 16.5 + 2 * i + bias * (1 + i),
            "cd_bias_nm": bias * (1 + i),
        }
        for i, (name, group) in enumerate(zip(names, groups, strict=True))
        for method, bias in BIASES.items()
    ]
    return pd.DataFrame(rows)


def results_of(**changes):
    """Return results of lines; `changes` are of the summary."""
    frequency = np.arange(1, 65) / 102.4
    spectrum = 10 / (1 + (60 * frequency) ** 2)
    spectra = {"frequency_per_nm": frequency, "truth": spectrum}
    spectra |= {name: spectrum + 0.01 * i for i, name in enumerate(METHODS)}
    frames = {"frames": [2, 4, 16], "edge_error_nm": [0.45, 0.3, 0.14]}
    return SemResults(
        summary_of(**changes), table_of(), pd.DataFrame(spectra), pd.DataFrame(frames)
    )


def lines_picture(name="a.tif", truth=True):
    """Return a picture (100, 120) with three lines of known edges."""
    rng = np.random.default_rng(3)
    rows, columns = 100, 120
    left = np.array([[20.0], [55.0], [90.0]]) + rng.normal(0, 0.5, (3, rows))
    right = left + 16
    x = np.arange(columns)
    share = [np.clip(x - a[:, None] + 0.5, 0, 1) - np.clip(x - b[:, None] + 0.5, 0, 1)
             for a, b in zip(left, right, strict=True)]  # fmt: skip
    high = 40 + 120 * sum(share)
    noise = rng.normal(0, 1, high.shape)
    images = {n: high + size * noise for n, size in by_method([30, 12, 8, 4]).items()}
    return Picture(name, high, images, truth=(left, right) if truth else None)


def disc_picture(name="a.tif"):
    """Return a picture (110, 110) with one disc."""
    y, x = np.mgrid[:110, :110]
    high = 40 + 120 * np.clip(25.5 - np.hypot(y - 54, x - 57), 0, 1)
    noise = np.random.default_rng(3).normal(0, 1, high.shape)
    images = {n: high + size * noise for n, size in by_method([20, 8, 5, 3]).items()}
    return Picture(name, high, images)


def discs_results():
    """Return results of discs: no spectra, no averages, no roughness."""
    keys = ("psnr", "ssim", "cd_bias_nm", "cd_bias_ci95_nm", "edge_error_nm", "equivalent_frames")
    keys += ("pixel_nm", "threshold", "reference", "do_no_harm")
    summary = {key: value for key, value in summary_of().items() if key in keys}
    summary |= {"measured": "discs", "n": 3, "cd_slope": dict.fromkeys(METHODS)}
    table = table_of(groups=("lines",) * 3).drop(columns="true_cd_nm")
    return SemResults(summary, table, pd.DataFrame(), pd.DataFrame())


def page_of(folder):
    """Return the text of the page."""
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def no_charts(monkeypatch):
    """Every picture is one white pixel in this test: drawing takes long."""
    from matplotlib.image import imsave

    def stub(figure, path, dpi):
        imsave(path, np.ones((1, 1, 3)))

    monkeypatch.setattr(sem_report, "save_figure", stub)


@pytest.fixture
def written(tmp_path, no_charts):
    """Write a report without charts and return its text."""

    def write(results=None, pictures=(), facts=None, **more):
        write_sem_report(results or results_of(), pictures, tmp_path, facts or {}, **more)
        return page_of(tmp_path)

    return write


def test_all_files_are_written_whole(tmp_path):
    """Every picture can be opened, nothing is left over, and the page needs none of them."""
    pictures = [lines_picture("a.tif"), lines_picture("b.tif", truth=False)]
    folder = tmp_path / "new" / "folder"
    paths = write_sem_report(results_of(), pictures, folder, {"model": "rdn"}, num_pictures=2)
    names = ["cd.png", "psd.png", "frames.png", "comparison_0001.png", "comparison_0002.png"]
    assert [path.name for path in paths] == [*names, "report.html"]
    assert sorted(folder.iterdir()) == sorted(paths)
    for path in paths[:-1]:
        assert min(imread(path).shape[:2]) > 300
    text = page_of(folder)
    assert len(DATA_URI.findall(text)) == 5
    rest = DATA_URI.sub("", text)
    for word in ("http:", "https:", "//", "url(", "@import", "file:", "<script", "javascript"):
        assert word not in rest


def test_discs_have_no_columns_of_lines(tmp_path):
    """Of discs there are diameters, but no spectrum, no averages and no roughness."""
    paths = write_sem_report(discs_results(), [disc_picture()], tmp_path, {})
    assert [path.name for path in paths] == ["cd.png", "comparison_0001.png", "report.html"]
    text = DATA_URI.sub("", page_of(tmp_path))
    assert "Diameter|bias ± 95 %|nm" in Table(text).tables[0][0]
    cells = " ".join(cell for row in Table(text).tables[0] for cell in row)
    for word in ("LWR", "LER", "slope", "None", "Edge|error"):
        assert word not in cells
    for word in ("None", "LWR", "nan "):
        assert word not in text
        assert word not in print_sem_report(discs_results().summary)


def test_holes_are_shown_and_named():
    """The page says which polarity was measured and why, and the edge of a hole is drawn."""
    results, picture = discs_results(), disc_picture()
    results.summary |= {"polarity": "dark", "discs_found": {"bright": 2, "dark": 9}}
    negative = Picture("a.tif", 200 - picture.high, {})
    [place] = places_of(negative, True, 0.5, dark=True)
    [(x, y)] = curves_of(negative.high, [place], 0.5)
    np.testing.assert_allclose(np.hypot(x - 57, y - 54), 25, atol=0.1)
    facts = how_measured(results, "nm")
    assert facts["Polarity"] == (
        "2 bright and 9 dark discs were found in the long exposures; the dark ones were measured"
    )
    assert "a hole" in facts["CD"]


def test_figures_of_the_page_are_those_of_the_summary(written):
    """A row for each method and one for the truth hold the values of the summary, with units."""
    head, *rows = Table(written()).tables[0]
    assert head == ["method", "PSNR|dB", "SSIM", "CD bias|± 95 %|nm", "CD slope",
                    "LWR|biased|nm", "LWR|unbiased|nm", "LER|biased|nm", "LER|unbiased|nm",
                    "Edge|error|nm", "Equivalent|frames"]  # fmt: skip
    assert [row[0] for row in rows] == ["truth", *METHODS.values()]
    assert rows[0][5:9] == ["3.08", "3.08", "2.20", "2.20"]
    assert rows[1][1:6] == ["18.20", "0.310", "−0.087|± 0.066", "1.016|± 0.032", "4.17|+135 %"]
    assert rows[4][1:5] == ["30.21", "0.912", "+0.044|± 0.021", "1.020|± 0.027"]
    assert rows[4][5:9] == ["2.94|−4.6 %", "2.93|−4.7 %", "2.10|−4.5 %", "2.11|−4.8 %"]
    assert rows[4][9:] == ["0.161", "11.5"]


def test_spectrum_of_the_page_is_that_of_the_summary(written):
    """Below the spectra stand what was erased and the fitted correlation length."""
    head, *rows = Table(written()).tables[1]
    assert head[1] == "Erased|below|nm"
    assert rows[-1] == ["restored", "7.6", "9.4", "0.52", "0.643"]


def test_text_shows_the_same_figures():
    """The table for the terminal has a column for each method, and is not too wide."""
    text = print_sem_report(summary_of())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    [bias] = [line for line in lines if line.startswith("CD bias")]
    cells = " ".join(bias.split("(nm)")[1].split())
    assert cells == "- -0.087 ± 0.066 +0.770 ± 0.067 +0.789 ± 0.076 +0.044 ± 0.021"
    [lwr] = [line for line in lines if line.startswith("LWR unbiased (nm)")]
    cells = " ".join(lwr.split("(nm)")[1].split())
    assert cells == "3.08 3.19 (+3.4 %) 3.38 (+9.7 %) 3.27 (+6.3 %) 2.93 (-4.7 %)"
    assert "Do no harm: PASS" in text
    assert "0.065 nm (95 % confidence), within" in " ".join(text.split())


def test_verdict_stands_first_and_names_what_is_flagged(written):
    """A failed gate is red, says by how much, and lists the pictures."""
    gate = {"tolerance_nm": 0.5, "largest_likely_cd_change_nm": 0.93, "verdict": "fail"}
    results = results_of(do_no_harm={**gate, "flagged": ["b.tif", "c.tif"]})
    text = written(results)
    assert text.index('class="verdict bad"') < text.index("<h2>Figures")
    for said in ("Do no harm: FAIL", "0.930 nm", "0.5 nm", "2 of 3 (b.tif, c.tif)"):
        assert said in text
    assert 'class="verdict good"' in written()


def test_many_flagged_pictures_are_counted():
    """Twelve names are enough."""
    gate = {**summary_of()["do_no_harm"], "flagged": [f"{i:03d}.tif" for i in range(30)]}
    text = " ".join(print_sem_report(summary_of(n=40, do_no_harm=gate)).split())
    assert "30 of 40" in text
    assert "011.tif and 18 more)" in text


def test_how_it_was_measured_is_told(written):
    """Criterion, reference, offset of the criterion and the facts stand on the page."""
    text = written(results_of(threshold=0.3), facts={"model": "edgeformer"})
    for said in ("crosses 30 %", "the picture without noise", "+0.482 nm", "edgeformer"):
        assert said in text


def test_what_users_write_is_escaped(written):
    """Names, facts, references and warnings are text, never tags."""
    evil = "<b>&\"x'$a_1$"
    results = results_of(reference=evil, warnings=[evil])
    results.summary["do_no_harm"] |= {"flagged": [evil], "verdict": "fail"}
    results.per_picture["name"] = evil
    text = written(results, [lines_picture(evil)], {evil: evil})
    assert "<b>" not in text
    assert text.count(str(escape(evil))) >= 6


def test_names_with_dollars_are_drawn(tmp_path):
    """Signs that Matplotlib takes for formulas and comments do no harm."""
    results = results_of()
    results.per_picture["group"] = "_$\\frac"
    paths = write_sem_report(results, [lines_picture("$\\frac_%.tif")], tmp_path, {})
    assert len(paths) == 5


@pytest.mark.parametrize("gap", [None, float("nan"), {}], ids=str)
def test_every_value_may_be_missing(tmp_path, gap):
    """Without any figure the report still appears and shows no None."""
    results = results_of()
    results.summary = dict.fromkeys(results.summary)
    for key, value in summary_of().items():
        if isinstance(value, dict) and key not in ("do_no_harm", "psd_fit", "psd_transfer"):
            results.summary[key] = gap if gap == {} else dict.fromkeys(METHODS, gap)
    results.per_picture[["cd_nm", "cd_bias_nm"]] = None
    paths = write_sem_report(results, [lines_picture()], tmp_path, {})
    assert len(paths) == 5
    text = DATA_URI.sub("", page_of(tmp_path)) + print_sem_report(results.summary)
    assert not re.search(r"\b(None|nan)\b", text)
    assert "pixel size not known" in text


@pytest.mark.parametrize("key", [key for key in summary_of() if key != "measured"])
def test_each_value_may_be_missing(written, key):
    """Any single figure of the summary may be None."""
    text = DATA_URI.sub("", written(results_of(**{key: None})))
    assert not re.search(r"\b(None|nan)\b", text + print_sem_report(summary_of(**{key: None})))


def test_parts_may_be_missing(written):
    """None inside the figures is a dash in its cell."""
    summary = summary_of()
    summary["psd_fit"]["raw"] = None
    summary["cd_bias_nm"]["raw"] = None
    summary["do_no_harm"]["largest_likely_cd_change_nm"] = None
    text = written(results_of(**copy.deepcopy(summary)))
    assert Table(text).tables[0][2][3] == "–"
    assert "cannot be judged" in text
    assert "No width could be measured in: raw image." in text


def test_unknown_pixel_counts_in_pixels(written):
    """Without the size of a pixel every length is in px, and a warning says so."""
    for more in ({"results": results_of(pixel_nm=None)}, {"nm": False}):
        text = DATA_URI.sub("", written(**more))
        assert "nm<" not in text and "0.065 px" in text
        assert "lengths are in pixels" in text
    assert "Edge error (px)" in print_sem_report(summary_of(pixel_nm=None))


def test_no_truth_is_called_a_reference(written):
    """Where the long exposure stands for the truth, no column claims to be true."""
    results = results_of(criterion_offset_nm=0.0)
    text = written(results, [lines_picture(truth=False)])
    assert Table(text).tables[0][1][0] == "reference"
    assert "edge in the long exposure" in text
    assert "Offset of the criterion" not in text
    assert "truth" not in print_sem_report(results.summary)


def test_no_averages_leave_no_picture_of_them(written, tmp_path):
    """Equivalent frames then follow the law of the root, and the page says so."""
    results = results_of()
    results.frames = pd.DataFrame(columns=["frames", "edge_error_nm"])
    assert "if the error fell with its square root" in written(results)
    assert not (tmp_path / "frames.png").exists()


def test_warnings_are_drawn_from_the_figures():
    """A network that leans to one width, invents roughness or loses to a filter is told apart."""
    summary = summary_of()
    assert "WARNING: Restoring erased" in print_sem_report(summary)
    summary["cd_slope"]["restored"] = 0.7
    summary["psd_transfer"]["restored"] = {"erased_below_nm": None, "invented_below_nm": 9.0}
    summary["edge_error_nm"]["restored"] = 0.4
    text = " ".join(print_sem_report(summary).split())
    assert "slope of 0.700, not 1" in text
    assert "invented roughness: at wavelengths near or below 9.0 nm" in text
    assert "more precise in: non-local means." in text
    assert "erased" not in text.split("Do no harm")[1]


def test_pictures_go_from_most_to_least_changed(written):
    """Of three pictures the two extremes are shown, the most changed first."""
    pictures = [lines_picture(name) for name in ("a.tif", "b.tif", "c.tif")]
    text = written(pictures=pictures, num_pictures=2)
    most = text.index("c.tif, of 3 pictures, the one that restoring changed most")
    assert most < text.index("a.tif, of 3 pictures, the one that restoring changed least")
    assert "b.tif, of" not in text
    assert "<h2>Pictures</h2>" not in written(pictures=pictures, num_pictures=0)


def test_details_show_what_is_measured():
    """The part in close-up lies inside the picture and holds the middle line or the whole disc."""
    line = lines_picture()
    places = places_of(line, False, 0.5)
    top, left, rows, columns = window_about(line.high.shape, places)
    assert (rows, columns) == (96, 96)
    assert top + rows <= 100 and left < 55 and left + columns > 71
    disc = disc_picture()
    top, left, rows, columns = window_about(disc.high.shape, places_of(disc, True, 0.5))
    assert left < 57 - 26 and left + columns > 57 + 26 and top + rows <= 110


def test_measured_edges_lie_on_the_lines():
    """Curves over a picture without noise are its true edges, to a tenth of a pixel."""
    picture = lines_picture()
    curves = curves_of(picture.high, places_of(picture, False, 0.5), 0.5)
    truth = np.concatenate(picture.truth)
    found = np.stack([x for x, _ in curves])
    assert np.sqrt(np.nanmean((found - truth) ** 2)) < 0.1
    [(x, y)] = curves_of(disc_picture().high, places_of(disc_picture(), True, 0.5), 0.5)
    np.testing.assert_allclose(np.hypot(x - 57, y - 54), 25, atol=0.1)
