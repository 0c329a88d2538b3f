"""Tabulate terrain features of low-resolution patches.

``python -m sr_dataset_builder.bathymetric_map_feature_LR data_LR.pkl [--delta 200]`` writes
``data_LR.csv`` next to the input, with the column ``normalized_mean_slope_gradient``.
"""

from __future__ import annotations

from sr_dataset_builder import bathymetric_map_feature


def main(arguments: list[str] | None = None) -> int:
    """Command line of this module."""
    return bathymetric_map_feature.main(arguments, kind="LR")


if __name__ == "__main__":
    raise SystemExit(main())
