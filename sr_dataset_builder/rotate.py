"""Append rotated copies of the training pairs: ``python -m sr_dataset_builder.rotate rotate.yml``.

The output holds the input, then for each angle the pairs rotated counter-clockwise.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from sr_dataset_builder.pair_files import Copies, PairFiles, append_copies, read_params
from toolbox.augment import turned
from toolbox.config import Float
from toolbox.errors import program
from toolbox.warp import FillMode


class RotateParams(PairFiles):
    """Settings of `rotate`: input, output, angles, and how corners are filled.

    Attributes
    ----------
    angles
        ``rotate``: angles in degrees, counter-clockwise.
    fill_mode
        ``rotate``, ``scale``: how margins are filled.
    """

    fill_mode: Literal["nearest", "reflect", "wrap"] = "reflect"
    angles: tuple[Float, ...] = Field(default=tuple(range(30, 360, 30)), min_length=1)


def rotations(angles: tuple[float, ...], fill_mode: FillMode) -> Copies:
    """Return a kind of copy for each angle."""
    labels = [f"{angle:g}°, {fill_mode}" for angle in angles]
    return Copies(labels, partial(turned, angles=angles, fill_mode=fill_mode))


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    params = read_params(RotateParams, arguments, "Append rotated copies.")
    append_copies(params, [rotations(params.angles, params.fill_mode)])


if __name__ == "__main__":
    raise SystemExit(main())
