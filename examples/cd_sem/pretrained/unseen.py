"""Test `sem_lines` on kinds of pictures that it never saw, and whether they are flagged.

Each setting is simulated, restored and measured against its own truth. It is compared with a
Gaussian filter and non-local means, whose strengths are chosen on two pictures of the same
setting. Some settings are within the ranges of the training data; most are outside in one point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import ndimage

from sr_dataset_builder.simulate_sem import SimulationParams, simulate
from toolbox.config import check
from toolbox.run import Run
from toolbox.tasks.sem.judge import SemTest
from toolbox.tasks.sem.sem_image import read_sem_image
from toolbox.tasks.sem.settings import MetrologyParams
from toolbox.tasks.sem.source import SEMSource
from toolbox.tasks.sem.validity import (
    Conditions,
    Validity,
    findings_of,
    measure_conditions,
)

Change = Callable[[np.ndarray], np.ndarray]
METHODS = ("raw", "gaussian", "non_local_means", "restored")
#: 16 nm lines at 32 nm, rims of 2 nm, a beam of 0.8 nm: all settings share these but one point.
_RIM_NM, _BEAM_NM = 2.0, 0.8
#: Pictures of the settings by pixel size and dose, with wider and narrower lines for the slope.
_SWEPT = {"count": 6, "cd_sweep_nm": [13, 19], "sweep_count": 1}


class Setting(NamedTuple):
    """One kind of pictures.

    Attributes
    ----------
    name : str
        Name: the point that differs.
    inside : bool
        Whether it is within the ranges of the training data.
    pixel_nm, counts : float
        Pixel size, and counts of the brightest rim.
    changes : dict
        Keys of the simulation file that differ.
    shown, back : callable
        Transform of the picture before the network, and its inverse for the result.
    """

    name: str
    inside: bool
    pixel_nm: float = 0.8
    counts: float = 10.0
    changes: dict[str, Any] = {}  # noqa: RUF012 - never written to
    shown: Change = np.asarray
    back: Change = np.asarray

    def params(self, folder: Path) -> SimulationParams:
        """Return the parameters of the simulation."""
        content: dict[str, Any] = {
            "save_dir": str(folder),
            "frame_shape": [320, 448] if self.inside else [256, 384],
            "pixel_nm": self.pixel_nm,
            "lines": {"pitch_nm": 32, "cd_nm": 16, "sigma_nm": 0.8, "xi_nm": 15, "alpha": 0.5},
            "profile": {
                "rim_decay": self.pixel_nm / _RIM_NM,
                "foot_decay": self.pixel_nm / _RIM_NM * 4,
                "psf_sigma_px": _BEAM_NM / self.pixel_nm,
                "background": 0.15,
            },
            "noise": {
                "peak_counts": self.counts,
                "high_frames": None,
                "drift_px": 0,
                "pair_offset_px": 0,
            },
            "charging": {},
            "train": {"count": 1},
            "validation": {"count": 2},
            "test": {"count": 6 if self.inside else 4} if self.changes else _SWEPT,
            "seed": 2025,
            "overwrite": True,
        }
        for key, value in copy.deepcopy(self.changes).items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        return check(SimulationParams, content, self.name)


def _inverted(image: np.ndarray) -> np.ndarray:
    return 255 - image


def _smoothed(image: np.ndarray) -> np.ndarray:
    return np.rint(ndimage.gaussian_filter(image.astype(np.float32), 1.5)).astype(np.uint8)


SETTINGS = (
    *(
        Setting(f"{pixel:g} nm, {counts:g} counts", True, pixel, counts)
        for pixel in (0.4, 0.8, 1.5)
        for counts in (3.0, 10.0, 30.0, 100.0)
    ),
    Setting("no rims", True, changes={"profile": {"rim": 0.0, "inside": 0.8, "foot": 0.0}}),
    Setting("noise not correlated", True, changes={"noise": {"correlation": 0.0}}),
    Setting("unbalanced rims", True, changes={"profile": {"asymmetry": 0.45}}),
    # Kinds that are not in the training data, in pictures that look usual.
    Setting(
        "sloping walls (sigmoid)",
        True,
        changes={"profile": {"shape": "sigmoid", "rim": 0.0, "inside": 0.8, "rim_decay": 0.8}},
    ),
    Setting("Lorentzian rims", True, changes={"profile": {"shape": "lorentzian"}}),
    Setting("gamma noise", True, changes={"noise": {"distribution": "gamma"}}),
    Setting(
        "wiggling lines, 60 nm",
        True,
        changes={"lines": {"sigma_nm": 0.4, "wiggle_nm": 1.5, "wiggle_period_nm": 60}},
    ),
    Setting(
        "isolated lines",
        False,
        changes={"lines": {"pitch_nm": 150}},
    ),
    Setting(
        "5 px lines",
        False,
        1.5,
        changes={"lines": {"pitch_nm": 18, "cd_nm": 8, "sigma_nm": 0.5}},
    ),
    Setting("0.2 nm pixels", False, 0.2, changes={"profile": {"psf_sigma_px": 3.5}}),
    Setting(
        "3 nm pixels, lines of 32 nm",
        False,
        3.0,
        changes={
            "lines": {"pitch_nm": 64, "cd_nm": 32, "sigma_nm": 1.5},
            "profile": {"psf_sigma_px": 0.5},
        },
    ),
    Setting("1 count", False, counts=1.0),
    Setting("1000 counts", False, counts=1000.0),
    Setting("noise correlated by 0.9", False, changes={"noise": {"correlation": 0.9}}),
    Setting("blurred by 3.5 px", False, changes={"profile": {"psf_sigma_px": 3.5}}),
    Setting("strong charge", False, changes={"charging": {"gradient": 0.8, "shadow": 0.8}}),
    Setting("rows jump by 1 px", False, changes={"noise": {"row_jitter_px": 1.0}}),
    Setting("low contrast", False, changes={"noise": {"contrast": 0.25, "brightness": 0.3}}),
    Setting("inverted", False, shown=_inverted, back=_inverted),
    Setting("horizontal lines", False, shown=np.transpose, back=np.transpose),
    Setting("smoothed before", False, shown=_smoothed),
)


class _Shown:
    """A network that is given transformed pictures."""

    def __init__(self, resolver: Any, setting: Setting) -> None:
        self._resolver, self._setting = resolver, setting

    def predict(self, image: np.ndarray) -> np.ndarray:
        shown = np.ascontiguousarray(self._setting.shown(image))
        return self._setting.back(self._resolver.predict(shown.astype(np.float32)))


def test_setting(run: Run, setting: Setting, folder: Path) -> dict[str, Any]:
    """Simulate a setting, restore and measure it.

    Parameters
    ----------
    run : toolbox.run.Run
        The network.
    setting : Setting
        The kind of pictures.
    folder : pathlib.Path
        Folder for the pictures.

    Returns
    -------
    dict
        Figures by method, and the verdict.
    """
    simulate(setting.params(folder), setting.name)
    source = SEMSource(
        str(folder), 1, central_crop_height=None, central_crop_width=None, align="none"
    )
    metrology: MetrologyParams = run.settings.metrology  # type: ignore[attr-defined]
    view = seen_through(run, metrology, folder / "result", _Shown(run.resolver, setting))
    summary = SemTest(view, source, "test").evaluate(True).summary
    return {
        "name": setting.name,
        "inside": setting.inside,
        **figures_of(summary),
    }


def seen_through(run: Run, metrology: MetrologyParams, folder: Path, resolver: Any = None) -> Run:
    """Return a view of a run for a test with another metrology or another resolver.

    Parameters
    ----------
    run : toolbox.run.Run
        The network.
    metrology : MetrologyParams
        Settings of the measurement.
    folder : pathlib.Path
        Folder for the restored pictures.
    resolver : object, optional
        Restores the pictures; default that of the run.
    """
    view = SimpleNamespace(
        settings=SimpleNamespace(metrology=metrology),
        resolver=resolver or run.resolver,
        scale=run.scale,
        normalizer=run.normalizer,
        facts=run.facts,
        folder=run.folder,
        predict=run.predict,
        result_dir=folder,
    )
    return cast(Run, view)


def figures_of(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a test summary that the table needs."""
    keys = ("psnr", "ssim", "cd_bias_nm", "cd_bias_ci95_nm", "cd_slope", "edge_error_nm")
    keys += ("unbiased_lwr_error_percent", "equivalent_frames")
    found: dict[str, Any] = {key: summary[key] for key in keys if summary.get(key)}
    if "psd_transfer" in summary:
        found["erased_below_nm"] = {
            name: transfer["erased_below_nm"] for name, transfer in summary["psd_transfer"].items()
        }
    found["do_no_harm"] = summary["do_no_harm"]["verdict"]
    found["verdict"] = summary["verdict"]["grade"]
    found["reasons"] = summary["verdict"]["reasons"]
    return found


def conditions_in(folder: Path, shown: Change = np.asarray) -> list[Conditions]:
    """Measure how the pictures of a folder were taken, as the network sees them."""
    images = [read_sem_image(path) for path in sorted(folder.glob("*.tif"))]
    return [measure_conditions(shown(image.pixels), image.pixel_nm) for image in images]


def flags_of(pictures: Sequence[Conditions], validity: Validity) -> dict[str, Any]:
    """Return how many pictures are flagged, and by which condition.

    Parameters
    ----------
    pictures : sequence of Conditions
        Conditions of the pictures.
    validity : toolbox.tasks.sem.validity.Validity
        Ranges that the network knows.
    """
    reasons: dict[str, int] = {}
    flagged = 0
    for conditions in pictures:
        warned = [f.name for f in findings_of(conditions, validity) if f.grade == "warning"]
        flagged += bool(warned)
        for name in warned:
            reasons[name] = reasons.get(name, 0) + 1
    return {"pictures": len(pictures), "flagged": flagged, "flagged_by": reasons}
