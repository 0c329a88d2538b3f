"""Append mirrored copies of the training pairs: ``python -m sr_dataset_builder.flip flip.yml``.

The output holds the input, then the pairs mirrored up-down, left-right, and both ways.
"""

from __future__ import annotations

from sr_dataset_builder.pair_files import Copies, PairFiles, append_copies, read_params
from toolbox.augment import flipped
from toolbox.errors import program

FLIPS = Copies(
    ["up-down", "left-right", "both"],
    lambda imgs: (flipped(imgs, axes) for axes in ((1,), (2,), (1, 2))),
)


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    append_copies(read_params(PairFiles, arguments, "Append mirrored copies."), [FLIPS])


if __name__ == "__main__":
    raise SystemExit(main())
