"""Append stretched copies of the training pairs: ``python -m sr_dataset_builder.scale scale.yml``.

The output holds the input, then for each of ``dscales`` the pairs with their depths multiplied,
then for each of ``xyscales`` the pairs magnified horizontally, equally in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from sr_dataset_builder.pair_files import Copies, PairFiles, append_copies, read_params
from toolbox.augment import zoomed
from toolbox.config import Float
from toolbox.errors import ConfigError, program

Factor = Annotated[Float, Field(gt=0)]


class ScaleParams(PairFiles):
    """Settings of `scale`: input, output, factors of depth and of horizontal size.

    Attributes
    ----------
    dscales
        ``scale``: factors of depths.
    xyscales
        ``scale``: horizontal magnifications.
    fill_mode
        ``rotate``, ``scale``: how margins are filled.
    """

    dscales: tuple[Factor, ...] = (0.5, 0.8, 1.2, 1.5)
    xyscales: tuple[Factor, ...] = (0.5, 0.7, 0.9)
    fill_mode: Literal["nearest", "reflect", "wrap"] = "reflect"


def scalings(params: ScaleParams) -> Copies:
    """Return a kind of copy for each factor."""
    labels = [f"depth × {factor:g}" for factor in params.dscales]
    labels += [f"size × {factor:g}" for factor in params.xyscales]

    def make(imgs: np.ndarray) -> Iterator[np.ndarray]:
        for factor in params.dscales:
            yield imgs * np.float32(factor)
        for factor in params.xyscales:
            yield zoomed(imgs, (factor, factor), params.fill_mode)

    return Copies(labels, make)


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    params = read_params(ScaleParams, arguments, "Append stretched copies.")
    copies = scalings(params)
    if not copies.labels:
        raise ConfigError("dscales and xyscales are both empty. Give at least one factor.")
    append_copies(params, [copies])


if __name__ == "__main__":
    raise SystemExit(main())
