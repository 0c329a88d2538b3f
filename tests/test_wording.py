"""Words that must not come back in what users read: messages, help and docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("toolbox", "sr_trainer", "sr_dataset_builder", "examples", "benchmarks")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
SOURCES += sorted((ROOT / "docs").glob("*.py"))
_NOUNS = "run|set|data|step|batch|patch|pair|image|picture|map|example|history|curve|loop|program"
#: Patterns that are refused, in any case of letters, with what to write instead.
REFUSED = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bgo(es)? on with\b": "resume, continue",
    r"\b(is|are) told\b(?! apart)": "reports, states, warns",
    rf"\ba training\b(?! ({_NOUNS})(e?s)?\b)": "a training run",
    r"\bg(ives?|ave|iven) up (the|a|its) work\b": "cancels",
    r"\b(is|are) there already\b": "already exists",
}


def strings_of(code):
    """Return (line, text) of every string in some code; of f-strings the parts that are fixed."""
    tree, inside = ast.parse(code), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            inside |= {id(part) for part in node.values}
            yield node.lineno, " ".join("".join(parts).split())
        elif isinstance(getattr(node, "value", None), str) and id(node) not in inside:
            yield node.lineno, " ".join(node.value.split())


def refused_in(code):
    """Return what is refused in some code: line, words and replacement."""
    return [
        f"line {line}: {found.group()!r}; write {better}"
        for line, text in strings_of(code)
        for pattern, better in REFUSED.items()
        for found in re.finditer(pattern, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('"""Mend the\n    path."""', 1),
        ("raise E(f'{path}: is ' 'there already; go on ' f'with {name}')", 2),
        ("print('A training.', 'the user is told')", 2),
        ("log('a training run and the training', 'recommend', 'a training batch')", 0),
        ("x = 1  # a comment may mend", 0),
    ],
)
def test_words_are_found(code, count):
    """Across lines and parts of an f-string, in any case; not in longer words or comments."""
    assert len(refused_in(code)) == count


def test_words_do_not_come_back():
    """No message, help text or docstring has a refused word."""
    assert len(SOURCES) > 100
    found = {
        str(path.relative_to(ROOT)): refused_in(path.read_text(encoding="utf-8"))
        for path in SOURCES
    }
    assert {name: words for name, words in found.items() if words} == {}
