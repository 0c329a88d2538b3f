"""Show what each augmentation does: ``python -m sr_dataset_builder.test_da data_HR.pkl``.

Writes ``data_HR_da.png`` next to the input; ``--show`` also opens a window.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sr_dataset_builder.flip import FLIPS
from sr_dataset_builder.rotate import rotations
from sr_dataset_builder.scale import ScaleParams, scalings
from toolbox.command_line import OneLineParser
from toolbox.data_loader import load_images
from toolbox.errors import DataError, program
from toolbox.plotter import save_figure
from toolbox.tasks.bathymetry.source import recorded_spacing
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient

__test__ = False  # a program named in the manual, not a test

COLUMNS = 4


def gallery(img: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the image and its copies, each with its name."""
    stretched = ScaleParams(
        train_dir=".", train_savedata=("a", "b"), dscales=(0.5, 1.5), xyscales=(0.5, 0.7, 0.9)
    )
    families = [
        FLIPS,
        rotations((30.0, 90.0, 135.0), "reflect"),
        rotations((30.0,), "nearest"),
        rotations((30.0,), "wrap"),
        scalings(stretched),
    ]
    copies = [pair for f in families for pair in zip(f.labels, f.make(img), strict=True)]
    return [("original", img), *copies]


def draw(img: np.ndarray, delta_m: float | tuple[float, float], name: str) -> Figure:
    """Draw one image and its copies.

    Parameters
    ----------
    img : numpy.ndarray, shape (1, H, W, 1)
        Elevation in metres.
    delta_m : float or (float, float)
        Grid spacing in metres, for the slopes in the titles.
    name : str
        Name of the image, for the heading.

    Returns
    -------
    matplotlib.figure.Figure
        The figure. All images share one colour scale, so that changes of depth are visible.
    """
    copies = gallery(img)
    rows = -(-len(copies) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.75 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS).ravel()
    low, high = np.nanpercentile(img, [0.5, 99.5])
    for ax, (label, copy) in zip(axes, copies, strict=False):
        # Scaling depths moves the level of a patch: keep the span and follow the level.
        shift = np.nanmedian(copy) - np.nanmedian(img) if label.startswith("depth") else 0.0
        shown = copy[0, ..., 0] - shift
        drawn = ax.imshow(shown, cmap="terrain", vmin=low, vmax=high)
        if shift:
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none"}
            ax.text(1, 2, f"drawn {-shift:+.0f} m", fontsize=8, va="top", bbox=box)
        msg = float(mean_slope_gradient(copy, delta_m)[0])
        ax.set_title(f"{label}\nmean slope {msg:.3f} m/m", fontsize=9)
        ax.set(xticks=[], yticks=[])
    for ax in axes[len(copies) :]:
        ax.remove()
    figure.colorbar(
        drawn, ax=axes[: len(copies)].tolist(), label="elevation, m", shrink=0.6, extend="both"
    )
    figure.suptitle(name, fontsize=10)
    return figure


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.test_da",
        description="Show what each augmentation does to one image.",
    )
    parser.add_argument("fname", help="patches, e.g. data_HR.pkl")
    parser.add_argument("--index", type=int, help="number of the image (default: the steepest)")
    parser.add_argument("-o", "--output", help="picture to write (default: NAME_da.png)")
    parser.add_argument("--show", action="store_true", help="also open a window")
    args = parser.parse_args(arguments)
    imgs = load_images(args.fname)
    kind = "LR" if "LR" in Path(args.fname).stem else "HR"
    delta_m = recorded_spacing(args.fname, kind)
    index = args.index
    if index is None:
        index = int(np.argmax(np.nan_to_num(mean_slope_gradient(imgs, delta_m), nan=-1)))
    if not -len(imgs) <= index < len(imgs):
        raise DataError(f"{args.fname}: --index must be below {len(imgs)}; received {index}.")
    output = args.output or Path(args.fname).with_name(f"{Path(args.fname).stem}_da.png")
    figure = draw(imgs[index : index + 1 or None], delta_m, f"{args.fname}, image {index}")
    save_figure(figure, output)
    print(f"written to {output}")
    if args.show:
        save_figure(figure, None)


if __name__ == "__main__":
    raise SystemExit(main())
