"""Append stretched copies of the training pairs: ``python -m sr_dataset_builder.scale scale.yml``.

The output holds the input, then for each of ``dscales`` the pairs with their depths multiplied,
then for each of ``xyscales`` the pairs magnified horizontally, alike in both directions.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from sr_dataset_builder.pair_files import Kind, PairFiles, append_copies, read_params
from toolbox.augment import zoomed
from toolbox.config import Float
from toolbox.errors import ConfigError, program

Factor = Annotated[Float, Field(gt=0)]


class ScaleParams(PairFiles):
    """Input, output, factors of depth and of horizontal size."""

    dscales: tuple[Factor, ...] = (0.5, 0.8, 1.2, 1.5)
    xyscales: tuple[Factor, ...] = (0.5, 0.7, 0.9)
    fill_mode: Literal["nearest", "reflect", "wrap"] = "reflect"


def scalings(params: ScaleParams) -> list[Kind]:
    """Return one kind of copy for each factor."""
    depth: list[Kind] = [
        (f"depth × {factor:g}", partial(np.multiply, np.float32(factor)))
        for factor in params.dscales
    ]
    size: list[Kind] = [
        (
            f"size × {factor:g}",
            partial(zoomed, factors=(factor, factor), fill_mode=params.fill_mode),
        )
        for factor in params.xyscales
    ]
    return depth + size


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    params = read_params(ScaleParams, arguments, "Append stretched copies.")
    kinds = scalings(params)
    if not kinds:
        raise ConfigError("dscales and xyscales are both empty: there is nothing to append.")
    append_copies(params, kinds)


if __name__ == "__main__":
    raise SystemExit(main())
