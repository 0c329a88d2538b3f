"""The source ``patches``: a patch folder of sea floor, with its grid spacing and slopes."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from toolbox.data_generator import Pair
from toolbox.data_loader import RECORD_NAME, DataLoader, map_images
from toolbox.errors import DataError
from toolbox.io.tables import write_table
from toolbox.task import Source
from toolbox.tasks.bathymetry.terrain import Spacing, feature_table, spacing_text
from toolbox.tasks.bathymetry.validity import (
    FILE_NAME,
    Validity,
    load_validity,
    measure_validity,
    validity_text,
)

DEFAULT_DELTA_M = {"LR": 200.0, "HR": 50.0}
SLOPE = "mean_slope_gradient"


def recorded_spacing(path: str | os.PathLike[str], kind: str) -> Spacing:
    """Return the grid spacing of the images in a file.

    Parameters
    ----------
    path : path-like
        An image file of a data set.
    kind : {'LR', 'HR'}
        Which of the two resolutions it holds.

    Returns
    -------
    float or (float, float)
        Metres (between rows, between columns), from ``dataset.json`` in the folder or its parent;
        without that file the manual's 200 (LR) or 50 (HR).
    """
    for folder in list(Path(path).resolve().parents)[:2]:
        record = folder / RECORD_NAME
        if record.is_file():
            key = f"delta_{kind.lower()}_m"
            try:
                delta = json.loads(record.read_text(encoding="utf-8"))[key]
                return (delta[0], delta[1]) if isinstance(delta, list) else float(delta)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(
                    f"{record}: expected metres under {key}; received {type(error).__name__}: "
                    f"{error}. Fix or remove the file."
                ) from None
    return DEFAULT_DELTA_M[kind]


class PatchSource(Source):
    """Patches of depth maps, written by `sr_dataset_builder.dataset`.

    Parameters
    ----------
    data_dir : str
        Folder with ``train``, ``validation`` and ``test``.
    sr_scale : int, optional
        Required enlargement factor from LR to HR images.
    """

    def __init__(self, data_dir: str, sr_scale: int | None = None) -> None:
        super().__init__(data_dir, sr_scale)
        self.loader = DataLoader(data_dir, sr_scale=sr_scale)

    def train(self) -> Pair:
        """Return the training data: LR (N, h, w, C) and HR (N, H, W, C), metres."""
        return self.loader.train()

    def validation(self) -> Pair:
        """Return the validation data: LR (N, h, w, C) and HR (N, H, W, C), metres."""
        return self.loader.validation()

    def test(self) -> Pair:
        """Return the test data: LR (N, h, w, C) and HR (N, H, W, C), metres."""
        return self.loader.test()

    def spacing_m(self, kind: str) -> Spacing:
        """Return the grid spacing of the LR or HR images in metres."""
        return recorded_spacing(self.loader.file("test", kind), kind)

    def validity(self) -> Validity | None:
        """Return the depths and slopes of the LR training images; None if they are not maps."""
        recorded = load_validity(self.data_dir, RECORD_NAME)
        lr = self.train()[0]
        if recorded is not None or lr.shape[3] > 1:
            return recorded
        return measure_validity(lr, recorded_spacing(self.loader.file("train", "LR"), "LR"))

    def records(self) -> dict[str, str]:
        """Return ``validity.json``: the range in which the network may be trusted."""
        validity = self.validity()
        return {} if validity is None else {FILE_NAME: validity_text(validity)}

    def share(self) -> None:
        """Write pickled images as ``.npy``; several processes then share one copy in memory."""
        map_images(self.data_dir)

    def regions(self, split: str) -> np.ndarray | None:
        """Return the map that each HR image of a split was cut from; None if there is only one."""
        csv = self.loader.file(split, "HR").with_suffix(".csv")
        if not csv.is_file():
            return None
        table = pd.read_csv(csv, dtype={"region": str}, na_values=[], keep_default_na=False)
        known = "region" in table and len(table) == len(self.split(split)[1])
        return table["region"].to_numpy(str) if known else None

    def slopes(self, split: str) -> np.ndarray:
        """Return the mean slope gradient of every HR image of a split, (N,), m/m.

        They are read from the CSV file next to the images, or computed and written there.

        Raises
        ------
        DataError
            If the CSV file cannot be used.
        """
        images = self.loader.file(split, "HR")
        csv = images.with_suffix(".csv")
        hr = self.split(split)[1]
        if not csv.is_file():
            delta_m = self.spacing_m("HR")
            print(f"{csv} is missing; computing slopes for a spacing of {spacing_text(delta_m)}")
            table = feature_table(hr, delta_m, normalized_column=False)
            with contextlib.suppress(PermissionError):  # the data may be on a read-only disk
                write_table(table, csv)
            return table[SLOPE].to_numpy()
        try:
            slopes = pd.read_csv(csv)[SLOPE].to_numpy(float)
        except (KeyError, ValueError, OSError) as error:
            raise DataError(
                f"{csv}: has no usable column {SLOPE} ({error}). Remove the file."
            ) from None
        if len(slopes) != len(hr):
            raise DataError(
                f"{csv}: expected a column {SLOPE} with {len(hr)} rows; received "
                f"{len(slopes)} rows. Remove the file or "
                f"run 'python -m sr_dataset_builder.bathymetric_map_feature {images}'."
            )
        return slopes
