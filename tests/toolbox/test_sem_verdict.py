"""The verdict on restored pictures: every grade provoked, with its reasons in all outputs."""

import json

import numpy as np
import pandas as pd
import pytest

from toolbox.tasks.sem.evaluate import METHODS, SemResults, mean_and_ci95
from toolbox.tasks.sem.figures import verdict_of
from toolbox.tasks.sem.report import print_sem_report, sem_page
from toolbox.tasks.sem.task import Sem
from toolbox.tasks.sem.verdict import Judgement, excess_over_raw

TOLERANCE_NM = 1.5
#: Twelve pictures whose raw biases scatter about -0.08 nm.
RAW = -0.08 + 0.2 * np.linspace(-1, 1, 12)


def judged(restored, raw=RAW, tolerance_nm=TOLERANCE_NM, erased_nm=None, **figures):
    """Judge biases by picture; `figures` replace those that are good enough to help."""
    biases = {"raw": np.asarray(raw, float), "restored": np.asarray(restored, float)}
    names = [f"p{i:02d}.tif" for i in range(len(raw))]
    table = pd.concat(
        pd.DataFrame(
            {
                "name": names,
                "group": "lines",
                "method": method,
                "reference_cd_nm": 16.0,
                "cd_bias_nm": values,
                "lost_share": np.isnan(values).astype(float),
            }
        )
        for method, values in biases.items()
    )
    known = {method: mean_and_ci95(values) for method, values in biases.items()}
    found = {
        "measured": "lines",
        "n": len(raw),
        "pixel_nm": 0.8,
        "cd_bias_nm": {method: mean for method, (mean, _) in known.items()},
        "cd_bias_ci95_nm": {method: ci95 for method, (_, ci95) in known.items()},
        "cd_slope": {"raw": None, "restored": None},
        "cd_slope_ci95": {"raw": None, "restored": None},
        "edge_error_nm": {"raw": 0.8, "gaussian": 0.5, "restored": 0.26},
        "unbiased_lwr_error_percent": {"raw": 9.2, "restored": -2.1},
        "psd_transfer": {"restored": {"erased_below_nm": erased_nm, "invented_below_nm": None}},
        **figures,
    }
    frequency = np.arange(1, 65) / 51.2
    spectra = pd.DataFrame({"frequency_per_nm": frequency, "truth": 1 / (1 + 60 * frequency**2)})
    return {**found, **Judgement(found, table, spectra, tolerance_nm, METHODS).summary()}


def grade_of(summary):
    """Return grade and reasons, which must be plain JSON."""
    verdict = json.loads(json.dumps(summary["verdict"], allow_nan=False))
    return verdict["grade"], "; ".join(verdict["reasons"])


def test_helps():
    """More precise edges without a bias: both are the reasons."""
    summary = judged(0.1 * RAW)
    grade, reasons = grade_of(summary)
    assert grade == "helps"
    assert "3.1 times as precise as in the raw pictures (0.26 against 0.8 nm)" in reasons
    assert "the mean CD is off by −0.008 nm, in the raw pictures by −0.080 nm" in reasons
    assert summary["do_no_harm"]["verdict"] == "pass"


def test_the_case_of_the_spheres_harms():
    """+0.72 nm where raw pictures have -0.08: within the tolerance, and yet no pass."""
    summary = judged(0.72 + RAW + 0.08)
    grade, reasons = grade_of(summary)
    assert grade == "harms"
    assert "off by +0.720 nm, in the raw pictures by −0.080 nm: significantly more" in reasons
    assert summary["do_no_harm"]["largest_likely_cd_change_nm"] < TOLERANCE_NM
    assert summary["do_no_harm"]["verdict"] == "fail"


def test_most_pictures_flagged_harm():
    """Seven of twelve change by more than the tolerance, to both sides: no mean shows it."""
    restored = np.where(np.arange(12) % 2, 1.6, -1.6)
    for good in range(5):
        restored[good] = 0
    grade, reasons = grade_of(summary := judged(restored, tolerance_nm=1.5))
    assert (grade, len(summary["do_no_harm"]["flagged"])) == ("harms", 7)
    assert "7 of 12 pictures are flagged; of the raw ones, 0 would be" in reasons
    # Raw pictures that are flagged as often are not harmed, but nothing is passed either.
    summary = judged(restored, raw=restored[::-1], tolerance_nm=1.5)
    assert grade_of(summary)[0] == "neutral"
    assert summary["do_no_harm"]["verdict"] == "fail"
    restored[5] = 0
    summary = judged(restored, raw=restored, tolerance_nm=1.5)
    assert not any("flagged" in reason for reason in summary["do_no_harm"]["reasons"])


def test_a_bias_beyond_the_tolerance_harms():
    """Whatever the raw pictures have."""
    grade, reasons = grade_of(judged(2 + RAW, raw=3 + RAW, tolerance_nm=1.5))
    assert grade == "harms"
    assert "mean CD: 2" in reasons


def test_a_small_excess_is_neutral():
    """0.02 nm against 0.001 nm, for certain, is no help and no harm; and no pass."""
    wobble = 0.001 * np.linspace(-1, 1, 12)
    summary = judged(0.02 + wobble, raw=0.001 + wobble)
    grade, reasons = grade_of(summary)
    assert grade == "neutral"
    assert "significantly more" in reasons
    assert summary["do_no_harm"]["verdict"] == "fail"


def test_wide_intervals_prove_nothing():
    """Few pictures that scatter: neither harm nor harmlessness."""
    grade, reasons = grade_of(judged([-1.2, 1.6, 0.2], raw=[1.1, -1.9, 0.4]))
    assert grade == "neutral"
    assert "mean CD: " in reasons
    assert grade_of(judged([0.1], raw=[0.2]))[0] == "neutral"


def test_edges_that_a_plain_filter_finds_as_well_are_neutral():
    """A network must beat the best plain filter, which is named."""
    errors = {"raw": 0.8, "gaussian": 0.5, "non_local_means": 0.24, "restored": 0.26}
    grade, reasons = grade_of(judged(0 * RAW, edge_error_nm=errors))
    assert grade == "neutral"
    assert "not more precise than in: non-local means (0.26 against 0.24 nm)" in reasons
    assert grade_of(judged(0 * RAW, edge_error_nm={}))[0] == "neutral"


@pytest.mark.parametrize(
    ("own", "raw", "grade"),
    [(-31, 9, "harms"), (-14, 3, "neutral"), (-31, 40, "helps"), (8, 1, "helps")],
)
def test_roughness_counts(own, raw, grade):
    """LWR that is 10 or 20 % off, and more so than in raw pictures."""
    summary = judged(0 * RAW, unbiased_lwr_error_percent={"raw": raw, "restored": own})
    found, reasons = grade_of(summary)
    assert found == grade
    assert ("the unbiased LWR is off by" in reasons) == (grade != "helps")
    assert (summary["do_no_harm"]["verdict"] == "fail") == (grade == "harms")


def test_erased_roughness_is_neutral():
    """Erased wavelengths that hold more than a tenth of the roughness; the finest hold little."""
    grade, reasons = grade_of(judged(0 * RAW, erased_nm=10.0))
    assert grade == "neutral"
    assert "near and below 10.0 nm are erased, which contain 56 %" in reasons
    assert grade_of(judged(0 * RAW, erased_nm=1.0))[0] == "helps"


def test_lost_edges_harm():
    """Pictures without a width are the greatest harm, all of them or one."""
    lost = 0 * RAW
    lost[3] = np.nan
    assert "8.3 % of the edges are lost" in grade_of(judged(lost))[1]
    grade, reasons = grade_of(judged(np.full(12, np.nan)))
    assert grade == "harms"
    assert "no width could be measured" in reasons


def test_excess_is_paired():
    """Biases that scatter together count by their differences; one picture has no interval."""
    table = pd.DataFrame(
        {"name": [*"abc", *"abc"], "group": "lines", "method": ["raw"] * 3 + ["restored"] * 3}
    ).assign(cd_bias_nm=[1.0, 2.0, 3.0, 1.5, 2.5, 3.5])
    assert excess_over_raw(table) == pytest.approx((0.5, 0.5))
    assert excess_over_raw(table[table["name"] == "a"]) is None
    assert excess_over_raw(table[table["method"] == "raw"]) is None


def test_excess_is_by_field():
    """Frames of one field are one observation, however exactly they agree."""
    names = [*"abcd", *"abcd"]
    table = pd.DataFrame(
        {"name": names, "group": "lines", "method": ["raw"] * 4 + ["restored"] * 4}
    )
    table = table.assign(cd_bias_nm=[1.0, 1.0, 2.0, 2.0, 1.4, 1.4, 2.6, 2.6])
    fields = {"a": "x", "b": "x", "c": "y", "d": "y"}
    pair = table[table["name"].isin(["a", "c"])]
    assert excess_over_raw(table, fields) == pytest.approx(excess_over_raw(pair))
    assert excess_over_raw(table).low_nm > excess_over_raw(table, fields).low_nm
    assert excess_over_raw(table, dict.fromkeys("abcd", "x")) is None


@pytest.mark.parametrize("bias_nm", [0.0, 0.02, 0.72])
def test_the_same_words_everywhere(bias_nm, tmp_path):
    """Page, terminal and model card repeat title and reasons of the summary."""
    raw = 0.001 * np.linspace(-1, 1, 12)
    summary = judged(bias_nm + raw, raw=raw)
    title, reasons = (summary["verdict"][key] for key in ("title", "reasons"))
    results = SemResults(summary, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    table = {"name": ["a"], "method": ["raw"], "cd_bias_nm": [0.1], "reference_cd_nm": [16.0]}
    results.per_picture = pd.DataFrame(table)
    page = sem_page(results, [], tmp_path, {}).render()
    card = Sem().card({"summary": summary})["scores"]
    terminal = " ".join(print_sem_report(summary).split())
    for output in (page, card, terminal):
        assert title in output
        assert all(reason in output for reason in reasons)
    colour = {"helps": "good", "neutral": "neutral", "harms": "bad"}[summary["verdict"]["grade"]]
    assert f'class="verdict {colour}"' in page
    assert verdict_of({}, "nm") is None
