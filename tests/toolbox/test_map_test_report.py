"""The report of a test on sea floors: its verdict, its warnings, its figures, its examples."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.image import imsave

from toolbox.errors import DataError
from toolbox.resample import block_mean, enlarge
from toolbox.tasks.bathymetry.evaluation_report import map_test_page

SCALE = 4
DATA_URI = re.compile(r'data:image/png;base64,[A-Za-z0-9+/=]+(?=")')
EVIL = "<script>alert('1')</script> & \"x\" {{ y }}"


def errors_of(rmse):
    """Return the six measures of a method."""
    return {
        "rmse_m": rmse,
        "mae_m": 0.7 * rmse,
        "bias_m": -0.012,
        "p95_abs_m": 2 * rmse,
        "psnr": 40 - rmse,
        "dssim": 0.01 * rmse,
    }


def group_of(n, bicubic=10.0, projected=9.5, sr=8.0):
    """Return the errors of all methods over `n` images; none if there are no images."""
    names = ("bicubic", "back_projection", "sr")
    if not n:
        return {"n": 0, **{name: dict.fromkeys(errors_of(1.0)) for name in names}}
    values = zip(names, (bicubic, projected, sr), strict=True)
    return {"n": n, **{name: errors_of(rmse) for name, rmse in values}}


def summary_of(**changes):
    """Return a summary of 90 images of which the network is better everywhere."""
    summary = {
        "model": "espcn",
        "weights": "log/weights_best.h5",
        "data_dir": "data",
        "scale": SCALE,
        "data_range_m": 4000.0,
        "n": 90,
        "all": group_of(90),
        "slope_classes": {
            "0-0.05": group_of(40, sr=9.0),
            "0.05-0.1": group_of(30),
            "0.1-": group_of(20, sr=7.0),
        },
        "high_frequency_energy": {"bicubic": 0.02, "back_projection": 0.05, "sr": 0.4512},
    }
    return summary | changes


def images_of(better=60):
    """Return the errors of 90 images, of which the first `better` have gained."""
    sr = np.where(np.arange(90) < better, 8.0, 11.0)
    return pd.DataFrame({"bicubic_rmse_m": np.full(90, 10.0), "sr_rmse_m": sr})


def example(title="image 7", channels=1, size=16):
    """Return a test image of waves with its enlargements."""
    y, x = np.mgrid[:size, :size]
    hr = (200 * np.sin(x / 5) * np.cos(y / 4) - 1500)[..., None].repeat(channels, -1)
    lr = block_mean(hr[None], SCALE)
    bicubic = enlarge(lr, SCALE)[0]
    return title, lr[0], bicubic, 0.5 * (bicubic + hr), hr


@pytest.fixture
def written(tmp_path):
    """Write a report and return its text without what its pictures are made of."""

    def write(summary=None, per_image=None, pictures=None, examples=(), facts=None, **more):
        path = tmp_path / "report.html"
        per_image = images_of() if per_image is None else per_image
        page = map_test_page(
            summary or summary_of(), per_image, pictures or {}, examples, facts or {}, **more
        )
        page.write(path)
        return DATA_URI.sub("", path.read_text(encoding="utf-8"))

    return write


def verdict_of(text):
    """Return grade and title of the verdict."""
    return re.search(r'class="verdict (\w+)">\s*<h2>(.*?)</h2>', text).groups()


def warnings_of(text):
    """Return the lines of the box of warnings."""
    return re.findall("<li>(.*?)</li>", text)


@pytest.mark.parametrize(
    ("sr", "better", "grade", "title"),
    [
        (8.0, 60, "good", "Better than bicubic by 20.0 % RMSE"),
        (8.0, 40, "neutral", "Better than bicubic by 20.0 % RMSE"),
        (9.999, 60, "neutral", "Hardly better than bicubic: by less than 0.1 % RMSE"),
        (10.0, 60, "bad", "No better than bicubic: do not use this network"),
        (
            10.5,
            10,
            "bad",
            "No better than bicubic (RMSE 5.0 % larger): do not use this network",
        ),
    ],
)
def test_the_verdict_stands_first(written, sr, better, grade, title):
    """Better than bicubic is good, better in few images or hardly neutral, the rest is bad."""
    text = written(summary_of(all=group_of(90, sr=sr)), images_of(better))
    assert verdict_of(text) == (grade, title)
    assert f"better in {better} of 90 test images" in text
    assert text.index('class="verdict') < text.index("<h2>Errors")


def test_no_warning_without_reason(written):
    """If the network is better in every well-filled class, there is no box."""
    assert 'class="warnings"' not in written()


def test_warnings_name_their_classes(written):
    """Classes in which nothing is gained, and those with few images, are named; empty ones not."""
    classes = {
        "0-0.05": group_of(71, sr=10.0),
        "0.05-0.1": group_of(19, sr=12.0),
        "0.1-": group_of(0),
    }
    assert warnings_of(written(summary_of(slope_classes=classes))) == [
        "Super-resolution is no better than bicubic at slopes of 0–0.05 m/m and 0.05–0.1 m/m.",
        "Slope classes with fewer than 20 images, whose figures may be due to chance: "
        "0.05–0.1 m/m (19).",
    ]


def test_other_warnings(written):
    """Few images in all, and a simpler method that is as good, are told."""
    summary = summary_of(n=12, all=group_of(12, projected=7.9), slope_classes={})
    [projected, few] = warnings_of(written(summary))
    assert "Back-projected bicubic, which needs no network" in projected
    assert few == "Only 12 test images: the figures may be due to chance."


def rows_of(text):
    """Return the cells of every row of the first table, and which rows are marked."""
    table = text[text.index("<table") : text.index("</table>")]
    rows = re.findall(r"<tr(.*?)>(.*?)</tr>", table, re.DOTALL)
    cells = [[c.strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r)] for _, r in rows]
    return cells, [row[0] for (mark, _), row in zip(rows, cells, strict=True) if "own" in mark]


def test_the_table_holds_the_figures(written):
    """Each class has a row for each method with its errors, and the change against bicubic."""
    cells, own = rows_of(written())
    assert cells[0] == [
        "method", "RMSE<small>m</small>", "MAE<small>m</small>", "bias<small>m</small>",
        "95 %<small>m</small>", "PSNR<small>dB</small>", "DSSIM", "RMSE against<br>bicubic",
    ]  # fmt: skip
    assert [row[0] for row in cells[1:] if len(row) == 1] == [
        "all, 90 test images",
        "slope 0–0.05 m/m, 40 test images",
        "slope 0.05–0.1 m/m, 30 test images",
        "slope ≥ 0.1 m/m, 20 test images",
    ]
    assert cells[2] == ["bicubic", "10.000", "7.000", "−0.012", "20.000", "30.00", "0.10000", "–"]
    assert cells[4][1:] == ["8.000", "5.600", "−0.012", "16.000", "32.00", "0.08000", "−20.0 %"]
    assert own == ["super-resolution"] * 4


def test_energy_is_a_share_of_the_truth(written):
    """Known shares are listed in per cent, unknown ones left out with their section."""
    assert "45.1 % of the truth&#39;s" in written()
    unknown = dict.fromkeys(("bicubic", "sr"))
    assert "Nyquist frequency of the input" not in written(
        summary_of(high_frequency_energy=unknown)
    )


def test_figures_may_be_missing(written):
    """Without slope classes, with an empty class or without any figure the page appears."""
    for changes in (
        {"slope_classes": {}},
        {"slope_classes": {"0-0.05": group_of(90), "0.1-": group_of(0)}},
        {"all": group_of(0), "slope_classes": {}},
    ):
        text = written(summary_of(**changes))
        assert not re.search(r"\b(None|nan)\b", text)
    assert verdict_of(text)[0] == "neutral"


def test_pictures_of_the_test_are_embedded(written, tmp_path):
    """What is drawn already lies in the page with a caption; an unknown name is its heading."""
    pictures = {name: tmp_path / name for name in ("summary.png", "spectrum.png", "other.png")}
    for path in pictures.values():
        imsave(path, np.ones((2, 2, 3)))
    text = written(pictures=pictures)
    assert text.count("<img") == 3
    for said in ("<h2>Errors by slope and by image", "<h2>Power by wavelength", "<h2>other.png"):
        assert said in text


@pytest.mark.parametrize(
    ("channels", "unit", "relief"), [(1, "m", True), (1, "nm", False), (3, "m", False)]
)
def test_examples_can_be_compared(written, channels, unit, relief):
    """Each has a slider, truth, input and both errors, as relief only if it is elevation."""
    examples = [example("worst", channels), example("best", channels)]
    text = written(examples=examples, unit=unit)
    assert text.count('type="range"') == 2
    assert text.count("<img") == 12
    assert re.findall("<h2>Example: (.*?)</h2>", text) == ["worst", "best"]
    assert ("Shaded relief" in text) == relief
    assert ("mean of the channels" in text) == (channels == 3)
    assert ("navigation" in text) == (unit == "m")


def test_errors_are_told_in_numbers(written):
    """The RMSE below an error picture is that of the images, over all channels."""
    title, lr, bicubic, sr, hr = example(channels=3)
    sr = hr + np.array([3.0, -3.0, 3.0])
    text = written(examples=[(title, lr, bicubic, sr, hr)], unit="count")
    assert "<b>Super-resolution − truth</b>, RMSE 3 count" in text


def test_gaps_are_drawn(written):
    """Missing pixels, and a test image that has nothing else, raise no warning."""
    title, *images = example()
    images = [img.copy() for img in images]
    for img in images:
        img[: len(img) // 2] = np.nan
    assert "nan" not in written(examples=[(title, *images)])
    nothing = [np.full_like(img, np.nan) for img in images]
    assert "RMSE missing" not in written(examples=[(title, *nothing)])


def test_images_that_do_not_fit_are_refused(written, tmp_path):
    """Sizes that differ are told, and no page is left."""
    title, lr, bicubic, sr, hr = example()
    for wrong in ((title, lr, bicubic[1:], sr, hr), (title, lr[:, 1:], bicubic, sr, hr)):
        with pytest.raises(DataError, match="integer multiple of the input"):
            written(examples=[wrong])
    assert list(tmp_path.iterdir()) == []


def test_what_users_write_is_escaped(written):
    """Names of data, titles, facts and units are text, never tags."""
    summary = summary_of(model=EVIL, data_dir=EVIL)
    text = written(summary, examples=[example(EVIL)], facts={EVIL: EVIL}, unit=EVIL)
    assert text.lower().count("<script") == 1
    assert text.count(str(escape(EVIL))) > 10


def test_tensorflow_is_not_needed():
    """Importing the report does not import TensorFlow."""
    code = (
        "import sys, toolbox.tasks.bathymetry.evaluation_report; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
