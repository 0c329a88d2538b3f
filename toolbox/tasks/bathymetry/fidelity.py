"""Figures of detail and landforms for every method, over all images and by slope class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from toolbox.spectrum import Spacing
from toolbox.tasks.bathymetry.detail import (
    DETAIL,
    detail_figures,
    detail_table,
    noise_limit_m,
)
from toolbox.tasks.bathymetry.landforms import (
    LANDFORMS,
    landform_figures,
    landform_table,
)

#: Keys of each method in the summary.
FIGURES = (*DETAIL, *LANDFORMS)
#: Largest distance between lines, in pixels of the input.
_FAR_PIXELS = 2


class Fidelity:
    """Effect of each method on detail and landforms.

    Parameters
    ----------
    truth : numpy.ndarray, shape (N, H, W, C)
        High-resolution maps, metres.
    plain : numpy.ndarray, shape (N, H, W, C)
        Back-projected bicubic maps.
    predictions : dict of str to numpy.ndarray
        Maps by method.
    delta_m : float or (float, float) or None
        Grid spacing of the truth, metres. Without it, or with several channels, there are no
        figures of landforms.
    scale : int
        Enlargement factor from the input to the truth.

    Attributes
    ----------
    limit_m : float
        Difference, metres, above which a map differs from the truth beyond noise.
    tables : dict of str to pandas.DataFrame
        Counts and sums of each image, by method.
    """

    def __init__(
        self,
        truth: np.ndarray,
        plain: np.ndarray,
        predictions: Mapping[str, np.ndarray],
        delta_m: Spacing | None,
        scale: int,
    ) -> None:
        self.limit_m = noise_limit_m(truth)
        self.delta_m = delta_m if truth.shape[3] == 1 else None
        self.far_m = _FAR_PIXELS * scale * float(np.max(delta_m or 1.0))
        self.tables = {name: self._table(truth, plain, imgs) for name, imgs in predictions.items()}

    def _table(self, truth: np.ndarray, plain: np.ndarray, imgs: np.ndarray) -> pd.DataFrame:
        detail = detail_table(truth, plain, imgs, self.limit_m)
        if self.delta_m is None:
            return detail
        forms = landform_table(truth[..., 0], imgs[..., 0], self.delta_m, self.far_m)
        return pd.concat([detail, forms], axis=1)

    def summary(
        self, classes: Mapping[str, np.ndarray], regions: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, Any]:
        """Return the figures over all images, by slope class and by region.

        Parameters
        ----------
        classes, regions : dict of str to numpy.ndarray, shape (N,), bool
            Images of each slope class and of each region.

        Returns
        -------
        dict
            ``noise_limit_m``, and ``all``, ``slope_classes`` and ``regions`` with `FIGURES` of
            each method; None where there is nothing to measure.
        """
        every = np.ones(len(next(iter(self.tables.values()))), bool)
        return {
            "noise_limit_m": self.limit_m,
            "all": self._pooled(every),
            "slope_classes": {name: self._pooled(chosen) for name, chosen in classes.items()},
            "regions": {name: self._pooled(chosen) for name, chosen in (regions or {}).items()},
        }

    def _pooled(self, chosen: np.ndarray) -> dict[str, Any]:
        found = {}
        for name, table in self.tables.items():
            figures = self._figures(table[chosen].sum().to_frame().T).iloc[0]
            found[name] = {key: None if np.isnan(v) else float(v) for key, v in figures.items()}
        return found

    def _figures(self, table: pd.DataFrame) -> pd.DataFrame:
        forms = pd.DataFrame(np.nan, table.index, list(LANDFORMS))
        if self.delta_m is not None:
            forms = landform_figures(table)
        return pd.concat([detail_figures(table), forms], axis=1)

    def per_image(self) -> pd.DataFrame:
        """Return the figures of every image, in columns ``METHOD_FIGURE``."""
        tables = [self._figures(t).add_prefix(f"{name}_") for name, t in self.tables.items()]
        return pd.concat(tables, axis=1)
