"""Make a low-resolution raster from a high-resolution one.

``python -m sr_dataset_builder.resize HR.pkl [-o LR.pkl] [--scale 4] [--method area]``
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolbox.command_line import OneLineParser
from toolbox.errors import DataError, did_you_mean, program
from toolbox.io.atomic import check_writable
from toolbox.io.raster import read_raster
from toolbox.io.safe_pickle import save_array
from toolbox.resample import block_mean

_OPENCV_METHODS = {
    "linear": "INTER_LINEAR",
    "cubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
}
METHODS = ("area", "nearest", *_OPENCV_METHODS)


def resize(img: np.ndarray, scale: int = 4, method: str = "area") -> np.ndarray:
    """Reduce a map by a whole factor.

    Parameters
    ----------
    img : numpy.ndarray, shape (H, W)
        Elevation in metres; NaN where missing. Rows and columns beyond a multiple of `scale` are
        dropped at the bottom and the right.
    scale : int
        Reduction factor.
    method : {'area', 'nearest', 'linear', 'cubic', 'lanczos'}
        ``area`` averages `scale` × `scale` pixels, like a coarser survey. The others sample at
        the centre of the new pixel, so that fine relief aliases.

    Returns
    -------
    numpy.ndarray, shape (H // scale, W // scale), float32
        The reduced map. A pixel that depends on missing ones is missing.

    Raises
    ------
    DataError
        If the map is smaller than one new pixel, or the method is unknown.
    """
    rows, columns = img.shape[0] // scale, img.shape[1] // scale
    if not rows or not columns:
        raise DataError(
            f"map of {img.shape} is smaller than one pixel at scale {scale}. Use a smaller scale."
        )
    cut = np.asarray(img[: rows * scale, : columns * scale], np.float32)
    if method == "area":
        return block_mean(cut[None, ..., None], scale)[0, ..., 0]
    if method == "nearest":  # OpenCV would use the corner instead of the centre
        return np.ascontiguousarray(cut[scale // 2 :: scale, scale // 2 :: scale])
    if method not in _OPENCV_METHODS:
        raise DataError(
            f"method must be one of {', '.join(METHODS)}; received {method!r}. "
            f"{did_you_mean(method, METHODS)}"
        )
    from toolbox.opencv import cv2

    flag = getattr(cv2, _OPENCV_METHODS[method])
    return cv2.resize(cut, (columns, rows), interpolation=flag)


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(prog="python -m sr_dataset_builder.resize")
    parser.add_argument("fname", help="high-resolution raster (.pkl .npy .tif .nc ...)")
    parser.add_argument("-o", "--output", help="default: NAME_LR.pkl next to it")
    parser.add_argument("--scale", type=int, default=4, help="reduction factor (default 4)")
    parser.add_argument("--method", default="area", choices=METHODS)
    parser.add_argument("--variable", help="variable of a NetCDF or npz file, band of a GeoTIFF")
    parser.add_argument("--time", help="step of a further axis of a NetCDF file")
    parser.add_argument("--group", help="group of a NetCDF file, coverage of S-102")
    args = parser.parse_args(arguments)
    if args.scale < 1:
        parser.error(f"--scale must be 1 or more; received {args.scale}")
    source = Path(args.fname.removeprefix("sample:"))
    output = args.output or source.with_name(f"{source.stem}_LR.pkl")
    check_writable(output, "Name another with -o.")
    raster = read_raster(args.fname, args.variable, time=args.time, group=args.group)
    print("".join(f"{note}\n" for note in raster.notes), end="")
    small = resize(raster.values, args.scale, args.method)
    save_array(small, output)
    print(f"{output}: {small.shape[0]} x {small.shape[1]} pixels, {args.method}, 1:{args.scale}")


if __name__ == "__main__":
    raise SystemExit(main())
