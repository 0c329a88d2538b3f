"""The tables of settings in docs are what the code says, and know how to say it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from toolbox.config import Count, Float, Settings, Share

FILE = Path(__file__).resolve().parents[1] / "docs" / "settings_tables.py"


@pytest.fixture(scope="module")
def tables():
    """Load the program, which lies outside the packages."""
    pytest.importorskip("numpydoc")
    spec = importlib.util.spec_from_file_location("settings_tables", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["settings_tables"] = module
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date():
    """The page holds what the program would write; in a process that knows no toy task."""
    pytest.importorskip("numpydoc")
    command = [sys.executable, str(FILE), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Count, "whole number ≥ 1"),
        (Annotated[Count, Field(le=16)], "whole number, 1 to 16"),
        (Share, "number, 0 ≤ … < 1"),
        (Annotated[Float, Field(gt=0, lt=1)] | None, "number between 0 and 1"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (tuple[Count, Count], "two whole numbers ≥ 1"),
        (tuple[str, ...], "list of texts"),
        (bool, "true or false"),
    ],
)
def test_types_in_words(tables, kind, expected):
    """A type and its limits are said in words."""
    assert tables.words(kind) == expected


def test_docstring_says_what_a_key_means(tables):
    """Meaning and free default come from the docstring, the rest from the class."""

    class Example(Settings):
        """An example.

        Attributes
        ----------
        side : default by memory
            side of ``it``
        """

        side: Count | None = None

    (key,) = tables.keys_of(Example)
    assert key == (["side"], "whole number ≥ 1", "by memory", "Side of `it`.")


def test_key_without_meaning_is_refused(tables):
    """A key that nothing explains is an error, so none is left out of the page."""

    class Silent(Settings):
        """Says nothing."""

        side: int = 1

    with pytest.raises(ValueError, match="side is not explained"):
        tables.keys_of(Silent)
