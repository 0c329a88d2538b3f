"""Tabulate terrain features of high-resolution patches.

``python -m sr_dataset_builder.bathymetric_map_feature data_HR.pkl [--delta 50]`` writes
``data_HR.csv`` next to the input.
"""

from __future__ import annotations

from pathlib import Path

from toolbox.command_line import OneLineParser
from toolbox.data_loader import load_images
from toolbox.errors import program
from toolbox.tasks.bathymetry.source import DEFAULT_DELTA_M, recorded_spacing
from toolbox.tasks.bathymetry.terrain import Spacing, spacing_text, write_feature_csv


@program
def main(arguments: list[str] | None = None, kind: str = "HR") -> None:
    """Run the command line; `kind` is the resolution of the patches, 'LR' or 'HR'."""
    suffix = "" if kind == "HR" else "_LR"
    parser = OneLineParser(
        prog=f"python -m sr_dataset_builder.bathymetric_map_feature{suffix}",
        description=f"Tabulate terrain features of {kind} patches as CSV.",
    )
    parser.add_argument("fname", help=f"patches, e.g. data_{kind}.pkl, (N, H, W) in metres")
    parser.add_argument(
        "--delta",
        type=float,
        nargs="+",
        metavar="M",
        help=f"grid spacing in metres, one number, or two for rows and columns "
        f"(default: dataset.json, else {DEFAULT_DELTA_M[kind]:g})",
    )
    args = parser.parse_args(arguments)
    if args.delta and (len(args.delta) > 2 or min(args.delta) <= 0):
        parser.error(f"--delta takes one or two positive numbers; received {args.delta}")
    delta_m: Spacing = recorded_spacing(args.fname, kind)
    if args.delta:
        delta_m = args.delta[0] if len(args.delta) == 1 else (args.delta[0], args.delta[1])
    csv = Path(args.fname).with_suffix(".csv")
    table = write_feature_csv(load_images(args.fname), delta_m, csv, normalized_column=kind == "LR")
    print(f"{csv}: {len(table)} images at {spacing_text(delta_m)}")
    print(table.drop(columns="index").describe().loc[["mean", "min", "max"]].to_string())


if __name__ == "__main__":
    raise SystemExit(main())
