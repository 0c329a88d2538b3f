"""Append mirrored copies of the training pairs: ``python -m sr_dataset_builder.flip flip.yml``.

The output holds the input, then the pairs turned up-down, left-right, and both.
"""

from __future__ import annotations

from functools import partial

from sr_dataset_builder.pair_files import Kind, PairFiles, append_copies, read_params
from toolbox.augment import flipped
from toolbox.errors import program

FLIPS: list[Kind] = [
    ("up-down", partial(flipped, axes=(1,))),
    ("left-right", partial(flipped, axes=(2,))),
    ("both", partial(flipped, axes=(1, 2))),
]


@program
def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    append_copies(read_params(PairFiles, arguments, "Append mirrored copies."), FLIPS)


if __name__ == "__main__":
    raise SystemExit(main())
