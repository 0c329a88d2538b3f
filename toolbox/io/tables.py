"""Tables written as CSV, complete or not at all."""

from __future__ import annotations

import os

import pandas as pd

from toolbox.io.atomic import replacing


def write_table(table: pd.DataFrame, path: str | os.PathLike[str], index: bool = False) -> None:
    """Write a table as CSV; the file appears complete or not at all.

    Parameters
    ----------
    table : pandas.DataFrame
        The table.
    path : path-like
        The file.
    index : bool
        Whether to write the row names too.
    """
    with replacing(path) as beside:
        table.to_csv(beside, index=index)
