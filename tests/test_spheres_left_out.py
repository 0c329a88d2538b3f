"""The example that leaves every picture of spheres out once: how pairs are dealt and pooled."""

import pandas as pd
import pytest

from examples.cd_sem.spheres_left_out import FOLDS, HERE, deal, lay_out, markdown, pooled
from toolbox.config import read_yaml

NAMES = [f"_{number:03d}.tif" for number in range(1, 13)]


def test_every_picture_is_tested_once():
    """By a network that was trained and chosen on others."""
    folds = [deal(NAMES, number) for number in range(FOLDS)]
    assert sorted(name for fold in folds for name in fold["test"]) == NAMES
    for fold in folds:
        assert sorted(name for part in fold.values() for name in part) == NAMES
        assert [len(fold[part]) for part in ("train", "validation", "test")] == [8, 1, 3]
    assert len({fold["validation"][0] for fold in folds}) == FOLDS


def test_folds_are_folders_of_links(tmp_path):
    """The settings are those of the example but for the folders; done twice it changes nothing."""
    settings = read_yaml(HERE / "spheres.yml")
    for kind, prefix in (("noisy", "Line off"), ("clean", "Line 50x")):
        (tmp_path / "line" / kind).mkdir(parents=True)
        for name in NAMES:
            (tmp_path / "line" / kind / f"{prefix}{name}").touch()
    settings["data_dir"] = str(tmp_path)
    for _ in range(2):
        own = lay_out(settings, 1, tmp_path / "fold")
    found = sorted(path.name for path in (tmp_path / "fold" / "test").rglob("*.tif"))
    expected = [f"{prefix}{name}" for prefix in ("Line 50x", "Line off") for name in NAMES[1::4]]
    assert found == expected
    assert len(list((tmp_path / "fold").rglob("*.tif"))) == 24
    same = set(settings) - {"data_dir", "log_dir", "sem"}
    assert {key: own[key] for key in same} == {key: settings[key] for key in same}
    assert set(settings["sem"]) - set(own["sem"]) == {"shares", "train_low_dir", "train_high_dir"}


def test_pictures_are_pooled():
    """The bias is the mean of the means of pictures, the spread that of all discs."""
    rows = [("a", 1.0, 30), ("a", 3.0, 30), ("b", -1.0, 32), ("b", -1.0, 32), ("b", None, 32)]
    table = pd.DataFrame(
        [
            {"name": n, "method": m, "cd_bias_nm": bias, "psnr": psnr, "ssim": 0.9}
            for m in ("raw", "restored")
            for n, bias, psnr in rows
        ]
    )
    figures = pooled(table)
    assert (figures["pictures"], figures["discs"]) == (2, 5)
    own = figures["restored"]
    assert own["psnr"] == 31
    assert own["diameter_bias_nm"] == pytest.approx(0.5)
    # Student's t for one degree of freedom × the standard error of 2 and -1.
    assert own["diameter_bias_ci95_nm"] == pytest.approx(12.706 * 1.5, rel=1e-3)
    assert own["spread_nm"] == pytest.approx(1.9149, rel=1e-3)
    assert "| restored | 31.00 | 0.900 | +0.500 ± 19.059 | 1.915 |" in markdown(figures)
