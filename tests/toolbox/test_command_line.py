"""Parsers of command lines: a mistake is one line that says how to fix it."""

from __future__ import annotations

import pytest

from toolbox.command_line import OneLineParser


@pytest.fixture
def parser():
    """Give a parser with a word, a number, a choice, and two options that exclude each other."""
    made = OneLineParser(prog="program", allow_abbrev=False)
    made.add_argument("yml_fname")
    made.add_argument("-n", "--number", type=int)
    made.add_argument("--kind", choices=("lines", "discs"))
    either = made.add_mutually_exclusive_group()
    either.add_argument("--whole", action="store_true")
    either.add_argument("--part", action="store_true")
    return made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "the following arguments are required: yml_fname"),
        (("a", "-n"), "--number needs a value."),
        (("a", "-n", "x"), "--number must be a whole number; received 'x'."),
        (("a", "--kind", "line"), "--kind must be one of lines, discs; received 'line'. Did you"),
        (("a", "--whole", "--part"), "--part is not allowed with --whole. Leave out one of them."),
        (("a", "--whole=1"), "--whole accepts no value; received '1'. Leave out the value."),
        (("a", "--wide"), "unrecognized arguments: --wide"),
    ],
)
def test_a_mistake_is_one_line(parser, capsys, words, told):
    """With code 2, the reason, and where all options are listed; without the usage."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"program: error: {told}")
    assert err.endswith("(program --help lists all options)\n")
    assert err.count("\n") == 1


def test_what_is_right_is_parsed(parser):
    """As by the parser of Python."""
    found = parser.parse_args(["a.yml", "--number", "3", "--kind", "discs", "--part"])
    assert (found.yml_fname, found.number, found.kind) == ("a.yml", 3, "discs")
    assert (found.whole, found.part) == (False, True)
