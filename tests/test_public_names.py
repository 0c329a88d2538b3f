"""What is public: one list in the package and in the documentation, documented, light to import."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toolbox

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in toolbox.__all__ if name != "__version__"]


def test_documentation_lists_the_public_names():
    """The table of docs/support.md and ``toolbox.__all__`` hold the same names."""
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    section = page.partition("## What is public")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(toolbox.__all__)
    assert sorted(toolbox.__all__) == list(toolbox.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_documented(name):
    """Each is there, is seen by dir(), and has a numpydoc docstring with its arguments."""
    thing = getattr(toolbox, name)
    assert name in dir(toolbox)
    text = inspect.getdoc(thing)
    assert text.splitlines()[0].endswith(".")
    assert thing.__doc__ is not None
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    try:
        arguments = list(inspect.signature(thing).parameters.values())
    except ValueError:  # Keras's metaclass
        arguments = []
    plain = [a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    documented = text.partition("----------\n")[2]  # of parameters, or of attributes
    assert [a for a in plain if not re.search(rf"\b{a}\b.* :", documented)] == []
    if inspect.isfunction(thing):
        assert "\nReturns\n-------\n" in text


def test_import_is_light():
    """``import toolbox`` imports none of the packages; the errors come without TensorFlow."""
    code = (
        "import sys, toolbox\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "toolbox.ConfigError, toolbox.pretrained_names, toolbox.Task, toolbox.Source\n"
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["[]", "False"], result.stderr


def test_a_name_that_is_not_there():
    """Another name is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'load_modell'"):
        toolbox.load_modell  # noqa: B018
