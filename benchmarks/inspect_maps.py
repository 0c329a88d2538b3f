"""How often `inspect` is right: ``python -m benchmarks.inspect_maps FOLDER [--half chosen]``.

FOLDER holds square GeoTIFFs and a ``manifest.csv`` with the columns ``file``, ``group`` (tiles of
one group overlap) and ``use``. The limits of `toolbox.tasks.bathymetry.inspection` were chosen on
every second group; the table is about the other half. Each tile is inspected untouched and with
artificial faults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.interpolate import LinearNDInterpolator

from toolbox.io.maps import open_map
from toolbox.resample import enlarge
from toolbox.tasks.bathymetry.inspection import judge_relief, take_survey

#: Stripes and noise ÷ standard deviation of the depths, within a window of this many pixels.
_TENTH, _NEAR = 0.1, 64


def enlarged(z: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge the middle of a map (H, W) in metres bicubically to the size of the map."""
    rows, columns = (size // scale for size in z.shape)
    top, left = (z.shape[0] - rows) // 2, (z.shape[1] - columns) // 2
    middle = z[None, top : top + rows, left : left + columns, None]
    return np.asarray(enlarge(middle, scale)[0, ..., 0], np.float64)


def half_enlarged(z: np.ndarray) -> np.ndarray:
    """Enlarge the right half of a map (H, W) in metres four times."""
    half = z.shape[1] // 2
    return np.concatenate([z[:, :half], enlarged(z, 4)[:, half:]], axis=1)


def contoured(z: np.ndarray, step_m: float = 50.0) -> np.ndarray:
    """Draw contour lines every `step_m` metres and triangulate between them."""
    classes = np.floor(z / step_m)
    points, levels = [], []
    for axis in (0, 1):
        row, column = np.nonzero(np.diff(classes, axis=axis))
        before, after = z[row, column], z[row + 1 - axis, column + axis]
        level = step_m * np.maximum(classes[row, column], classes[row + 1 - axis, column + axis])
        share = np.clip((level - before) / (after - before), 0, 1)
        points.append(np.stack([row + share * (1 - axis), column + share * axis], axis=1))
        levels.append(level)
    grid = np.mgrid[: z.shape[0], : z.shape[1]]
    found = LinearNDInterpolator(np.concatenate(points), np.concatenate(levels))(*grid)
    return np.where(np.isnan(found), z, found)


def local_relief(z: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the depths around each pixel, metres."""
    mean = ndimage.uniform_filter(z, _NEAR)
    return np.sqrt(np.maximum(ndimage.uniform_filter(z * z, _NEAR) - mean**2, 0))


def striped(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Raise and lower swaths 3 to 8 pixels wide, in any direction, by a tenth of the relief."""
    angle, width = rng.uniform(0, np.pi), rng.uniform(3, 8)
    rows, columns = np.mgrid[: z.shape[0], : z.shape[1]]
    across = columns * np.cos(angle) + rows * np.sin(angle)
    swath = np.floor((across - across.min()) / width).astype(int)
    return z + _TENTH * local_relief(z) * rng.normal(size=swath.max() + 1)[swath]


def noisy(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add white noise of a tenth of the relief."""
    return z + _TENTH * local_relief(z) * rng.normal(size=z.shape)


Treatment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
TREATMENTS: dict[str, Treatment] = {
    "untouched": lambda z, rng: z,
    "enlarged ×2": lambda z, rng: enlarged(z, 2),
    "enlarged ×2, rounded to 1 m": lambda z, rng: np.rint(enlarged(z, 2)),
    "enlarged ×4": lambda z, rng: enlarged(z, 4),
    "enlarged ×4, rounded to 1 m": lambda z, rng: np.rint(enlarged(z, 4)),
    "one half enlarged ×4": lambda z, rng: half_enlarged(z),
    "contours of 50 m": lambda z, rng: contoured(z),
    "rounded to 10 m": lambda z, rng: 10 * np.rint(z / 10),
    "stripes": striped,
    "stripes, rounded to 1 m": lambda z, rng: np.rint(striped(z, rng)),
    "white noise": noisy,
}


def rates(tiles: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the grades of all findings for each tile and treatment."""
    rows = []
    for tile in tiles.itertuples():
        with open_map(folder / tile.file) as reader:
            z = reader.read(slice(None), slice(None))[..., 0].astype(np.float64)
        for name, treat in TREATMENTS.items():
            part = treat(z, np.random.default_rng(tile.group))[..., None]
            survey = take_survey(lambda r, c, part=part: part[r, c], z.shape)
            found = judge_relief(survey, None) if survey else []
            rows.append({"treatment": name} | {f.name: f.grade for f in found})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the percentages of tiles with a warning, and with a note or a warning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("chosen", "tried"), default="tried")
    args = parser.parse_args()
    tiles = pd.read_csv(args.folder / "manifest.csv").query("use == 'train'")
    chosen = tiles["group"].isin(np.unique(tiles["group"])[::2])
    tiles = tiles[chosen if args.half == "chosen" else ~chosen]
    table = rates(tiles, args.folder)
    grades = table.set_index("treatment")
    warned = 100 * (grades == "warning").groupby(level=0, sort=False).mean()
    noted = 100 * (grades.isin(["note", "warning"])).groupby(level=0, sort=False).mean()
    cells = warned.round(0).astype(int).astype(str) + " / " + noted.round(0).astype(int).astype(str)
    print(f"{len(tiles)} tiles; per cent with a warning / with a note or a warning")
    print("| treatment | " + " | ".join(cells.columns) + " |")
    for name, row in cells.iterrows():
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
