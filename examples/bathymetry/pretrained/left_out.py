"""Tests of a network on regions that it was not trained on: folds, and tables of their results.

The tiles are split into folds; overlapping tiles stay together. Each of the first folds also
excludes one of the larger maps, with the tiles on it. Excluded regions choose neither weights nor
epoch nor intervals: the intervals for a group of tiles are calibrated on the other groups.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sr_dataset_builder.dataset import MapParams, read_map, spacing_of
from toolbox.config import read_yaml
from toolbox.data_loader import DataLoader
from toolbox.errors import DataError, not_found
from toolbox.io.maps import open_map
from toolbox.resample import back_project, block_mean, enlarge
from toolbox.run import Run
from toolbox.tasks.bathymetry.calibration import LEVEL, IntervalTest
from toolbox.tasks.bathymetry.evaluate import slope_groups
from toolbox.tasks.bathymetry.fidelity import Fidelity
from toolbox.tasks.bathymetry.inspection import judge_relief, take_survey
from toolbox.tasks.bathymetry.intervals import Intervals, calibrate
from toolbox.tasks.bathymetry.source import PatchSource
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient

HERE = Path(__file__).parent
BATHYMETRY = Path("../shared/data/bathymetry")
TILES, OTHER_TILES = BATHYMETRY / "gebco_tiles", BATHYMETRY / "etopo1_tiles"
#: Groups of tiles on or next to a larger map: excluded with it, and not tested.
NEAR = {"cairns": [12], "arabian_sea": [89]}
#: Licence terms that allow only tests.
TEST_ONLY = {
    "pacific": {"hr_fname": str(BATHYMETRY / "pacific_multibeam_gappy_0.001deg.nc")},
    "navo": {"hr_fname": str(BATHYMETRY / "navo_JD211_multibeam_2m_utm2n_with_uncertainty.bag")},
}
#: Input grid of another origin than its truth, and its largest shift in fine pixels.
OTHER, _MOVES = "etopo1", 4
#: Least number of images with which a group of tiles, or a slope class, is reported on its own.
FEW, MANY = 20, 50
_PARTS = 5


class LeftOut(NamedTuple):
    """Patches of regions that a network was not trained on.

    Attributes
    ----------
    lr, hr, sr : numpy.ndarray, shape (N, h, w) and (N, H, W), float32
        Input, truth and result, metres.
    slope : numpy.ndarray, shape (N,)
        Mean slope gradient of the truth, m/m.
    maps : numpy.ndarray of str, shape (N,)
        ``REGION`` or ``REGION/TILE``.
    """

    lr: np.ndarray
    hr: np.ndarray
    sr: np.ndarray
    slope: np.ndarray
    maps: np.ndarray


@functools.cache
def groups() -> dict[str, int]:
    """Return the groups of overlapping tiles that may train, by the stem of the file."""
    fname = TILES / "manifest.csv"
    if not fname.is_file():
        raise DataError(f"{not_found(fname, 'table')}. Put the maps that README names there.")
    table = pd.read_csv(fname).query("use == 'train'")
    stems = table["file"].str.removesuffix(".tif")
    return dict(zip(stems.tolist(), table["group"].tolist(), strict=True))


def fold_content(regions: Mapping[str, Any], number: int, count: int) -> dict[str, Any]:
    """Return a regions file that excludes a share of the tiles and perhaps a larger map.

    Parameters
    ----------
    regions : dict
        Contents of ``regions.yml``.
    number, count : int
        Number of the fold, and number of folds.
    """
    beside = {group for near in NEAR.values() for group in near}
    order = np.random.default_rng(17).permutation(sorted({*groups().values()} - beside))
    gone = sorted(order[number::count].tolist())
    parts = {name: dict(region) for name, region in regions["regions"].items()}
    gebco = parts["gebco"]
    held_out = {key: gebco[key] for key in ("hr_fname", "groups", "keep", "valid_range")}
    keep = {**gebco["keep"], "group": gone}
    parts["gebco_left_out"] = {**held_out, "keep": keep, "held_out": True}
    gebco["leave_out"] = gone
    names = list(NEAR)
    if number < len(names):
        name = names[number]
        own = {key: value for key, value in parts[name].items() if key in MapParams.model_fields}
        parts[name] = {"hr_fname": parts[name]["hr_fname"], **own, "held_out": True}
        gebco["leave_out"] = sorted({*gone, *NEAR[name]})
    if number == 0:
        parts |= {name: {**region, "held_out": True} for name, region in TEST_ONLY.items()}
    return {**regions, "regions": parts, "test_size": 0}


def test_fold(run: Run, data_dir: str) -> LeftOut:
    """Super-resolve the excluded regions, and the same tiles from a grid of another origin."""
    source = PatchSource(data_dir)
    maps = source.regions("test")
    assert maps is not None, "regions writes the names"
    lr, hr = (np.asarray(imgs[..., 0], np.float32) for imgs in DataLoader(data_dir).test())
    maps = np.char.replace(maps, "gebco_left_out", "gebco")
    parts = [(lr, hr, source.slopes("test"), maps)]
    if run.scale == 4:
        stems = {name.split("/")[1] for name in maps.tolist() if name.startswith("gebco/")}
        parts += [pair for stem in sorted(stems) for pair in other_origin(stem)]
    lr, hr, slope, maps = (np.concatenate(each) for each in zip(*parts, strict=True))
    sr = run.resolver.super_resolve(lr[..., None], run.settings.batch_size)[..., 0]
    return LeftOut(lr, hr, sr, slope, maps)


def other_origin(stem: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the sea patches of a tile whose input is ETOPO1 and whose truth is GEBCO.

    Their positions differ by up to a coarse pixel. The truth is therefore shifted by whole fine
    pixels to the place where its block means agree best.
    """
    values = []
    for path in (OTHER_TILES / f"{stem.replace('gebco', OTHER)}.tif", TILES / f"{stem}.tif"):
        with open_map(path) as reader:
            h, w = reader.shape
            values.append(reader.read(slice(0, h), slice(0, w))[..., 0].astype(np.float32))
            delta_m = reader.delta_m
    coarse, fine = values
    moves = [(y, x) for y in range(-_MOVES, _MOVES + 1) for x in range(-_MOVES, _MOVES + 1)]
    moved = np.stack([np.roll(fine, move, (0, 1)) for move in moves])
    inner = (slice(None), slice(2, -2), slice(2, -2))
    errors = np.square(block_mean(moved[..., None], 4)[..., 0] - coarse)[inner].mean((1, 2))
    fine = moved[int(errors.argmin())][64:-64, 64:-64]
    coarse = coarse[16:-16, 16:-16]
    lr, hr = (
        img.reshape(img.shape[0] // size, size, -1, size).swapaxes(1, 2).reshape(-1, size, size)
        for img, size in ((coarse, 16), (fine, 64))
    )
    sea = (hr < 0).all((1, 2)) & (lr < 0).all((1, 2))
    if sea.any():
        slope = mean_slope_gradient(hr[sea][..., None], delta_m or (463.0, 463.0)).ravel()
        yield lr[sea], hr[sea], slope, np.full(len(slope), f"{OTHER}/{stem}")


@functools.cache
def flags(name: str, scale: int) -> tuple[str, ...]:
    """Return the warnings and notes of ``inspect`` on the input of a region or tile, sea only.

    Parameters
    ----------
    name : str
        ``REGION`` or ``REGION/TILE``.
    scale : int
        Fine pixels per pixel of the input, along each axis.
    """
    region = read_yaml(HERE / "regions.yml")["regions"][name.split("/")[0]]
    own = {key: value for key, value in region.items() if key in MapParams.model_fields}
    fname = f"{TILES / name.split('/')[1]}.tif" if "/" in name else region["hr_fname"]
    raster = read_map(fname, MapParams(**own), [])
    rows, columns = spacing_of(None, raster, [])
    delta_m = rows * scale, columns * scale
    h, w = (size // scale * scale for size in raster.values.shape)
    lr = block_mean(raster.values[None, :h, :w, None], scale)[0]
    survey = take_survey(lambda rows, columns: lr[rows, columns], lr.shape[:2], delta_m)
    found = [] if survey is None else judge_relief(survey, delta_m)
    return tuple(finding.name for finding in found if finding.grade != "fine")


# -- Tables --------------------------------------------------------------------------------------


class Table:
    """Tests of all folds of a network in one table.

    Parameters
    ----------
    parts : list of LeftOut
        Test of each fold.
    """

    def __init__(self, parts: list[LeftOut]) -> None:
        self.found = LeftOut(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        self.scale = self.found.hr.shape[1] // self.found.lr.shape[1]
        self.regions = np.array([name.split("/")[0] for name in self.found.maps.tolist()])
        lr = self.found.lr[..., None]
        bicubic = enlarge(lr, self.scale)
        self.methods = {
            "bicubic": bicubic[..., 0],
            "back_projection": back_project(bicubic, lr)[..., 0],
            "sr": self.found.sr,
        }
        self.squares = {
            name: np.square(imgs - self.found.hr).mean((1, 2), dtype=np.float64)
            for name, imgs in self.methods.items()
        }

    def calibrated(self, chosen: np.ndarray, weights: int = 0) -> Intervals:
        """Calibrate intervals on some of the images, (N,) bool."""
        found = self.found
        return calibrate(found.lr[chosen], found.hr[chosen], found.sr[chosen], weights)

    @property
    def known(self) -> np.ndarray:
        """Images that may calibrate the shipped model, by licence and origin, (N,) bool."""
        return ~np.isin(self.regions, [*TEST_ONLY, OTHER])

    @functools.cached_property
    def units(self) -> np.ndarray:
        """Groups of overlapping tiles, and other regions, as names, (N,)."""
        return np.array(
            [
                f"group {groups()[name.split('/')[1]]}" if name.startswith("gebco/") else name
                for name in self.found.maps.tolist()
            ]
        )

    @functools.cached_property
    def intervals(self) -> list[tuple[np.ndarray, IntervalTest]]:
        """Images, (N,) bool, and their test with intervals calibrated on other groups."""
        names = np.unique(self.units[self.known])
        order = np.random.default_rng(0).permutation(names)
        tests = []
        for part in range(_PARTS):
            mine = np.isin(self.units, order[part::_PARTS])
            tests.append((mine, self._test(self.calibrated(self.known & ~mine), mine)))
        rest = ~self.known
        if rest.any():
            tests.append((rest, self._test(self.calibrated(self.known), rest)))
        return tests

    def _test(self, intervals: Intervals, chosen: np.ndarray) -> IntervalTest:
        found = self.found
        return IntervalTest(intervals, found.lr[chosen], found.hr[chosen], found.sr[chosen])

    def coverage(self, chosen: np.ndarray) -> dict[str, float]:
        """Return the figures of the intervals of some images, weighted by their number."""
        rows = [
            test.figures(chosen[mine]) for mine, test in self.intervals if (chosen & mine).any()
        ]
        count = np.array([row.pop("n") for row in rows], float)
        return {
            key: float(np.average([row[key] for row in rows], weights=count)) for key in rows[0]
        }

    def row(self, chosen: np.ndarray) -> dict[str, Any]:
        """Return number of images, RMSE (m) of each method, figures of intervals, shares."""
        squares = {name: e[chosen].mean() for name, e in self.squares.items()}
        rmse = {f"{name}_rmse_m": float(np.sqrt(square)) for name, square in squares.items()}
        hr, plain, sr = (
            imgs[chosen][..., None]
            for imgs in (self.found.hr, self.methods["back_projection"], self.found.sr)
        )
        detail = Fidelity(hr, plain, {"sr": sr}, None, self.scale).summary({})["all"]["sr"]
        shares = {k: detail[k] for k in ("improved_share", "omitted_share", "hallucinated_share")}
        return {"n": int(chosen.sum()), **rmse, **self.coverage(chosen), **shares}

    def figures(self) -> dict[str, Any]:
        """Return a row for every region and its slope classes, and a summary of the groups."""
        classes = slope_groups(self.found.slope)
        regions: dict[str, Any] = {}
        for name in dict.fromkeys(self.regions.tolist()):
            mine = self.regions == name
            parts = {"all": mine, **{key: mine & chosen for key, chosen in classes.items()}}
            regions[name] = {key: self.row(part) for key, part in parts.items() if part.any()}
        return {"level": LEVEL, "regions": regions, "maps": self._maps()}

    def _maps(self) -> dict[str, Any]:
        """Return a row for every group of tiles and every map, and means over them."""
        names = [n for n in np.unique(self.units[self.known]) if (self.units == n).sum() >= FEW]
        rows = {}
        for name in names:
            mine = self.units == name
            row = self.row(mine)
            reference = row["bicubic_rmse_m"]
            for method in ("back_projection", "sr"):
                row[f"{method}_gain"] = 1 - row[f"{method}_rmse_m"] / reference
            row["score_gain"] = 1 - row["interval_score_m"] / row["constant_score_m"]
            maps = np.unique(self.found.maps[mine]).tolist()
            row["flags"] = sorted({flag for each in maps for flag in flags(each, self.scale)})
            rows[name] = row
        means = {
            key: float(np.mean([row[key] for row in rows.values()]))
            for key in ("back_projection_gain", "sr_gain", "coverage", "score_gain")
        }
        wide = [row for row in rows.values() if row["n"] >= MANY]
        outside = [row for row in rows.values() if not 0.85 <= row["coverage"] <= 0.96]
        return {
            "count": len(rows),
            **means,
            "median_sr_gain": float(np.median([row["sr_gain"] for row in rows.values()])),
            "worse_than_back_projection": sum(
                row["sr_gain"] < row["back_projection_gain"] for row in rows.values()
            ),
            "outside_85_to_96": len(outside),
            "outside_and_not_flagged": sum(not row["flags"] for row in outside),
            "flagged": sum(bool(row["flags"]) for row in rows.values()),
            "of_many_images": len(wide),
            "of_many_images_within_85_to_96": sum(0.85 <= r["coverage"] <= 0.96 for r in wide),
            "rows": rows,
        }


def markdown(figures: Mapping[str, Any]) -> str:
    """Return the rows of the regions as a Markdown table."""
    heads = (
        *("left out", "slope (m/m)", "images", "bicubic (m)", "back-projected", "network (m)"),
        *("network", "coverage", "mean width (m)", "improved", "omitted", "invented"),
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, classes in figures["regions"].items():
        for number, (group, row) in enumerate(classes.items()):
            bicubic = row["bicubic_rmse_m"]
            projected, own = (
                f"{100 * (row[f'{method}_rmse_m'] / bicubic - 1):+.1f} %".replace("-", "−")
                for method in ("back_projection", "sr")
            )
            shares = [row[f"{key}_share"] for key in ("improved", "omitted", "hallucinated")]
            told = " | ".join(f"{100 * share:.1f} %" for share in shares)
            lines.append(
                f"| {'' if number else name} | {group} | {row['n']} | {bicubic:.3f} | "
                f"{projected} | {row['sr_rmse_m']:.3f} | **{own}** | "
                f"{100 * row['coverage']:.1f} % | {row['mean_width_m']:.3f} | {told} |"
            )
    return "\n".join(lines) + "\n"
