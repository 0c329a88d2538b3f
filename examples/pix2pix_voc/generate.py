"""Draw a small data set of shapes in the layout of Pascal VOC 2012, to train without a download.

``python -m examples.pix2pix_voc.generate data/voc_shapes``

Each picture shows one to four shapes on textured ground, which may overlap, with shadows, shading
and camera noise. Form, colour and stripes depend on the class. The folder holds

``VOCdevkit/VOC2012/JPEGImages/NAME.jpg``
    The pictures.
``VOCdevkit/VOC2012/SegmentationClass/NAME.png``
    Class ids in VOC's palette; an outline of 255 (void) runs along every edge.
``VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val,trainval}.txt``
    Names, one per line. They are written last: without them there is no data set.

A picture depends only on ``--seed``, ``--size`` and its number.
"""

from __future__ import annotations

import argparse
import colorsys
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from toolbox.errors import ConfigError, program
from toolbox.io.atomic import replacing
from toolbox.opencv import cv2
from toolbox.progress import progress
from toolbox.tasks.pix2pix.classes import VOID, voc_palette

DATA_SET = Path("VOCdevkit", "VOC2012")
PICTURES, MASKS, LISTS = "JPEGImages", "SegmentationClass", Path("ImageSets", "Segmentation")
LIST_NAMES = ("train.txt", "val.txt", "trainval.txt")
JPEG_QUALITY = 92
#: Length of the shorter side, in pixels, below which rings and crosses consist only of outline.
MIN_SIDE = 32
#: Half the width of the void outline, pixels.
_HALF_OUTLINE = 1.25
#: Area of a shape as a share of the picture.
_LEAST_AREA, _MOST_AREA = 0.09, 0.28
_NAME = re.compile(r"shapes_\d{6}")

# --- forms -------------------------------------------------------------------------------------
# Each function returns the signed distance to its edge, negative inside, for points (x, y) relative
# to the centre. Lengths are in units of the square root of the area, so that all areas are equal.

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    over_x, over_y = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return outside + np.minimum(np.maximum(over_x, over_y), 0)


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - np.pi**-0.5


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(x, y, 0.5, 0.5)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner_radius = 3**-0.75  # of an equilateral triangle of area 1
    slopes = np.abs(x) * (3**0.5 / 2) - y / 2
    return np.maximum(slopes, y) - inner_radius


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius, half_width = 0.53, 0.15  # 4π · 0.53 · 0.15 = 1
    return np.abs(np.hypot(x, y) - radius) - half_width


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    long, short = 0.67, 0.22  # 8 · 0.67 · 0.22 - 4 · 0.22² = 1
    return np.minimum(_box(x, y, long, short), _box(x, y, short, long))


def _bar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(x, y, 0.9, 0.2778)


class Kind(NamedTuple):
    """Properties of the shapes of one class.

    Attributes
    ----------
    id : int
        Class in VOC 2012.
    distance : callable
        Signed distance to the edge for points relative to the centre, for an area of 1.
    hue : float
        Middle of the range of hues, 0 to 1.
    stripes : float
        Strength of the stripes along x; 0 for none.
    """

    id: int
    distance: Distance
    hue: float
    stripes: float


KINDS = (
    Kind(1, _disc, 0.01, 0.0),
    Kind(2, _square, 0.60, 0.22),
    Kind(3, _triangle, 0.14, 0.0),
    Kind(4, _ring, 0.83, 0.0),
    Kind(5, _cross, 0.38, 0.0),
    Kind(6, _bar, 0.09, 0.22),
)
#: Half the range of hues; the range of bars meets those of discs and of triangles.
_HUE_RANGE = 0.045

# --- pictures ----------------------------------------------------------------------------------


def waves(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return smooth noise (H, W), float32, with mean 0 and a standard deviation of about 0.85.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    shape : (int, int)
        H, W.
    cell : float
        Size of the bumps in pixels.
    """
    grid = [int(np.ceil(side / cell)) + 3 for side in shape]
    coarse = rng.standard_normal(grid).astype(np.float32)
    size = tuple(round(side * cell) for side in grid)
    fine = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    top, left = (round(cell) + int(rng.integers(0, max(1, round(cell)))) for _ in shape)
    return fine[top : top + shape[0], left : left + shape[1]]


def ground(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return ground of two or three muted colours (H, W, 3), float32, 0 to 1."""
    hue, side = rng.uniform(), min(shape)
    hues = hue + np.array([0, rng.uniform(-0.12, 0.12), rng.uniform(0.3, 0.7)])
    values = rng.uniform(0.3, 0.75) + rng.uniform(-0.13, 0.13, 3)
    colours = [
        np.array(colorsys.hsv_to_rgb(h % 1, rng.uniform(0.08, 0.38), v), np.float32)
        for h, v in zip(hues, values, strict=True)
    ]
    picture = np.broadcast_to(colours[0], (*shape, 3))
    for colour, share in zip(colours[1:], (0.5, 0.25), strict=True):
        field = waves(rng, shape, side * share) + 0.4 * waves(rng, shape, side * share / 4)
        weight = 1 / (1 + np.exp(-rng.uniform(1.5, 5) * field[..., None]))
        picture = picture + weight * (colour - picture)
    grain = sum(
        strength * waves(rng, shape, cell)
        for strength, cell in zip(rng.uniform(0.01, 0.05, 3), (2, 5, 12), strict=True)
    )
    return np.asarray(picture * (1 + grain)[..., None], np.float32)


class Light(NamedTuple):
    """Return the direction of the light of a picture: a unit vector (right, down)."""

    x: float
    y: float


class Shape:
    """A shape at its place in a picture.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    shape : (int, int)
        H, W of the picture.
    kind : Kind
        Its class.

    Attributes
    ----------
    distance : numpy.ndarray, shape (H, W)
        Distance to the edge in pixels, negative inside.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], kind: Kind) -> None:
        self._rng, self.kind = rng, kind
        height, width = shape
        unit = np.sqrt(rng.uniform(_LEAST_AREA, _MOST_AREA) * height * width)
        centre_y, centre_x = rng.uniform(0.15, 0.85, 2) * shape
        turn = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = (x - centre_x) / unit, (y - centre_y) / unit
        self._x, self._y = x, y
        self._along = x * np.cos(turn) + y * np.sin(turn)
        across = y * np.cos(turn) - x * np.sin(turn)
        self.distance = kind.distance(self._along, across) * unit

    @property
    def cover(self) -> np.ndarray:
        """Share of each pixel that the shape covers, (H, W, 1), 0 to 1."""
        return np.clip(0.5 - self.distance, 0, 1)[..., None]

    def surface(self, light: Light) -> np.ndarray:
        """Return the colours of the shape (H, W, 3), also outside it."""
        hue = self.kind.hue + self._rng.uniform(-1, 1) * _HUE_RANGE
        saturation, value = self._rng.uniform(0.6, 0.92), self._rng.uniform(0.55, 0.98)
        colour = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))
        shade = 1 + 0.22 * (self._x * light.x + self._y * light.y)
        shade *= 1 - 0.25 * np.exp(np.minimum(self.distance, 0) / 2.5)  # a darker rim
        period = self._rng.uniform(0.14, 0.2)
        stripes = np.sin(self._along * (2 * np.pi / period) + self._rng.uniform(0, 2 * np.pi))
        shade *= 1 + self.kind.stripes * np.clip(3 * stripes, -1, 1)
        shade *= 1 + 0.035 * waves(self._rng, self.distance.shape, 4)
        return shade[..., None] * colour

    def shadow(self, light: Light) -> np.ndarray:
        """Return the share of light that the shape blocks behind it, (H, W, 1), 0 to 1."""
        length = self._rng.uniform(2, 5)
        moved = np.array([[1, 0, -light.x * length], [0, 1, -light.y * length]], np.float32)
        height, width = self.distance.shape
        dark = cv2.warpAffine(
            np.float32(self.cover[..., 0]), moved, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        return 0.45 * cv2.GaussianBlur(dark, (0, 0), length / 2)[..., None]

    def mark(self, ids: np.ndarray) -> None:
        """Write the class and the outline into class ids (H, W)."""
        ids[self.distance < 0] = self.kind.id
        ids[np.abs(self.distance) < _HALF_OUTLINE] = VOID


def draw(seed: int, number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture and its mask.

    Parameters
    ----------
    seed, number : int
        Seed of the data set and number of the picture; they determine everything.
    size : (int, int)
        Width and height; swapped in every third picture.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray), shape (H, W, 3) and (H, W), uint8
        The picture and its class ids, `VOID` along the edges.
    """
    rng = np.random.default_rng([seed, number])
    shape = size if number % 3 == 2 else size[::-1]
    angle = rng.uniform(0, 2 * np.pi)
    light = Light(float(np.cos(angle)), float(np.sin(angle)))
    picture, ids = ground(rng, shape), np.zeros(shape, np.uint8)
    for index in rng.permutation(len(KINDS))[: rng.integers(1, 5)]:
        item = Shape(rng, shape, KINDS[index])
        picture = picture * (1 - item.shadow(light))
        picture = picture + item.cover * (item.surface(light) - picture)
        item.mark(ids)
    return photograph(rng, picture, light), ids


def photograph(rng: np.random.Generator, scene: np.ndarray, light: Light) -> np.ndarray:
    """Return the picture that a camera takes of a scene (H, W, 3) of 0 to 1; uint8.

    It has uneven light, blur and noise. The variance of the noise has a constant part and a part
    that grows with the light.
    """
    height, width = scene.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    lit = 1 + rng.uniform(0, 0.15) * (x * light.x + y * light.y) - 0.07 * (x**2 + y**2)
    seen = cv2.GaussianBlur(scene * lit[..., None], (0, 0), rng.uniform(0.4, 0.7))
    sigma = np.sqrt(0.008**2 + rng.uniform(0.0001, 0.0008) * np.clip(seen, 0, 1))
    noisy = seen + sigma * rng.standard_normal(seen.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 1) * 255), np.uint8)


# --- files -------------------------------------------------------------------------------------


def write_pair(folder: Path, name: str, picture: np.ndarray, ids: np.ndarray) -> None:
    """Write a picture (H, W, 3) as JPEG, and its class ids (H, W) as PNG with VOC's palette."""
    with replacing(folder / PICTURES / f"{name}.jpg") as beside:
        Image.fromarray(picture).save(beside, quality=JPEG_QUALITY)
    mask = Image.fromarray(ids)
    mask.putpalette(voc_palette().tobytes())
    with replacing(folder / MASKS / f"{name}.png") as beside:
        mask.save(beside)


def refuse_data_set(folder: Path, overwrite: bool) -> None:
    """Refuse a folder with a data set, unless it is one of shapes that may be replaced.

    Raises
    ------
    ConfigError
        If `folder` holds a complete data set and `overwrite` is False, or anything but shapes.
    """
    for path in sorted(folder.rglob("*")):
        file = path.is_symlink() or not path.is_dir()
        if file and not _is_own(path, folder):
            raise ConfigError(
                f"{folder} contains {path.relative_to(folder)}, which does not belong to a data "
                f"set of shapes and is not replaced. Choose another folder."
            )
    if not overwrite and any((folder / LISTS / name).exists() for name in LIST_NAMES):
        raise ConfigError(
            f"{folder} already holds a data set. Choose another folder, remove it, or add "
            f"--overwrite."
        )


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether this program writes such a file: by its name and, for a list, its content."""
    place = path.parent.relative_to(folder)
    if path.name.startswith(".") and ".tmp" in path.suffixes:
        return True  # incomplete: the program was killed while writing
    if place == LISTS and path.name in LIST_NAMES:
        names = path.read_text(encoding="utf-8", errors="replace").split()
        return all(_NAME.fullmatch(name) for name in names)
    ending = {PICTURES: ".jpg", MASKS: ".png"}.get(str(place))
    return path.suffix == ending and bool(_NAME.fullmatch(path.stem))


def _remove(folder: Path) -> None:
    """Remove a data set of shapes, its lists first."""
    for part in (LISTS, MASKS, PICTURES):
        if (folder / part).exists():
            shutil.rmtree(folder / part)


def generate(
    folder: Path, counts: tuple[int, int], size: tuple[int, int], seed: int, overwrite: bool
) -> float:
    """Write the data set; the lists of names come last.

    Parameters
    ----------
    folder : pathlib.Path
        Folder in which ``VOCdevkit`` is made.
    counts : (int, int)
        Number of pictures for training, and for validation.
    size : (int, int)
        Width and height in pixels.
    seed : int
        Seed of all random choices.
    overwrite : bool
        Replace an older data set of shapes.

    Returns
    -------
    float
        Share of the background in the pixels that are not void.

    Raises
    ------
    ConfigError
        If the folder holds another data set.
    """
    data_set = folder / DATA_SET
    refuse_data_set(data_set, overwrite)
    _remove(data_set)
    names = [f"shapes_{number:06d}" for number in range(sum(counts))]
    pixels = np.zeros(256, np.int64)
    for number, name in enumerate(progress(names, "pictures")):
        picture, ids = draw(seed, number, size)
        write_pair(data_set, name, picture, ids)
        pixels += np.bincount(ids.ravel(), minlength=256)
    for name, part in zip(LIST_NAMES, (names[: counts[0]], names[counts[0] :], names), strict=True):
        with replacing(data_set / LISTS / name) as beside:
            beside.write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
    return float(pixels[0] / (pixels.sum() - pixels[VOID]))


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.pix2pix_voc.generate",
        description="Draw a data set of shapes in the layout of Pascal VOC 2012.",
    )
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--train", type=int, default=240, help="pictures for training (240)")
    parser.add_argument("--val", type=int, default=80, help="pictures for validation (80)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(160, 128),
        metavar=("WIDTH", "HEIGHT"),
        help="size in pixels, swapped in every third picture (160 128)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures (0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an older set of shapes")
    args = parser.parse_args(arguments)
    _at_least("--train", args.train, 1)
    _at_least("--val", args.val, 1)
    _at_least("--size", min(args.size), MIN_SIDE)
    _at_least("--seed", args.seed, 0)
    if args.folder.exists() and not args.folder.is_dir():
        raise ConfigError(f"{args.folder}: is a file; expected a folder.")
    counts = (args.train, args.val)
    width, height = args.size
    share = generate(args.folder, counts, (width, height), args.seed, args.overwrite)
    print(
        f"{sum(counts)} pictures in {args.folder / DATA_SET}; background: {share:.1%} of the "
        f"pixels that are not void"
    )


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{option} must be at least {least}; received {value}.")


if __name__ == "__main__":
    raise SystemExit(main())
