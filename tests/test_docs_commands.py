"""Every command line in the documentation is one that the real parser takes.

Files that a command names need not exist. Programs, modes, options, extras and targets must.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/decisions/*.md",
        "examples/**/*.md",
        "toolbox/**/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
]
#: Files that say in a comment how they are run.
HEADS = sorted([*ROOT.glob("examples/**/*.yml"), *ROOT.glob("examples/gallery/*.py")])
_PYTHON = r"(?:python3?|\.venv/bin/python|\.venv\\Scripts\\python)"
_COMMAND = re.compile(rf"(?:{_PYTHON}|sr-trainer|make|pip) .*")
#: No command lines: a place for several, and those of the earlier program on the manual's page.
_OTHER = ("PROGRAM", "python resize.py", "python bathymetric_map_feature")


class Command(NamedTuple):
    """A command line, and where it stands."""

    page: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.page}: {' '.join(self.words)}"


def lines_in(path):
    """Yield what a reader may type: code, code in sentences, comments of a settings file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yml":
        yield from re.findall(r"^# (.*)", text, re.MULTILINE)
        return
    if path.suffix == ".py":
        yield from re.findall(r"^    (.*)", text.split('"""')[1], re.MULTILINE)
        yield from re.findall(r"``([^`]+)``", text.replace("\n# ", " "))
        return
    blocks = r"^(?P<mark>`{3,})[^\n]*\n(?P<code>.*?)^(?P=mark)"
    for match in re.finditer(blocks, text, re.MULTILINE | re.DOTALL):
        for line in match["code"].replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("# ")
    prose = re.sub(blocks, "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose):
        yield " ".join(code.split())


def commands_in(path):
    """Return the commands of a page, without what is explained beside them."""
    found = []
    for line in lines_in(path):
        for part in re.split(r" && |; (?=python|make)", line):
            if _COMMAND.fullmatch(part.strip()):
                bare = re.split(r"\s{3,}|\s+#\s", part.strip())[0]
                words = tuple(shlex.split(bare.replace("\\", "\\\\")))
                found.append(Command(str(path.relative_to(ROOT)), words))
    return found


COMMANDS = {
    command.words: command
    for path in (*PAGES, *HEADS)
    for command in commands_in(path)
    if not any(other in " ".join(command.words) for other in _OTHER)
}.values()


class Parsed(BaseException):
    """The parser took the command line: nothing more is to happen."""


def parse(main, arguments, monkeypatch):
    """Call the main function of a program until its parser is done; return what went wrong."""
    known = argparse.ArgumentParser.parse_args

    def parse_args(self, *given, **options):
        known(self, *given, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            main()
    except Parsed:
        return None
    except SystemExit as stop:
        return said.getvalue() if stop.code else None
    return f"no parser was called: {said.getvalue()}"


def module_of(words):
    """Return the module that ``python -m NAME`` or ``python FILE`` runs."""
    if words[0] == "-m":
        module = importlib.import_module(words[1])
        package = hasattr(module, "__path__")
        return importlib.import_module(f"{words[1]}.__main__") if package else module
    file = ROOT / words[0]
    assert file.is_file(), f"{words[0]}: no such file"
    spec = importlib.util.spec_from_file_location(f"docs_{file.stem}_{file.parent.name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program_of(module):
    """Return the function that a module runs as a program."""
    return getattr(module, "main", None) or module.train


def check_click(program, arguments):
    """Let a program of click take a command line, whatever files it names; return what is wrong."""
    import click

    try:
        program.make_parser(click.Context(program)).parse_args(list(arguments))
    except click.UsageError as error:
        return str(error)
    return None


def check_main(arguments):
    """Let the parser of ``main.py`` take a command line; return what went wrong."""
    from sr_trainer.arg_parser import ArgParser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            ArgParser(arguments)
    except SystemExit as stop:
        return said.getvalue() if stop.code else None
    return None


def check_make(words):
    """Return the targets that the Makefile lacks."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", text, re.MULTILINE))
    asked = {word for word in words if "=" not in word}
    return ", ".join(asked - targets) or None


def check_pip(words):
    """Return the extras that pyproject.toml lacks."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = re.findall(r"\[([^\]]+)\]", " ".join(words))
    asked = {extra for group in extras for extra in group.split(",")}
    return ", ".join(asked - set(re.findall(r"^(\w+) = ", table, re.MULTILINE))) or None


def check(command, monkeypatch):
    """Return what is wrong with a command, or None."""
    program, *words = command.words
    if program == "make":
        return check_make(words)
    if program == "pip" or words[:2] == ["-m", "pip"]:
        return check_pip(words)
    if program == "sr-trainer" or words[0] == "main.py":
        arguments = words[words[0] == "main.py" :]
        return check_main(arguments) if arguments else None
    if words[0] == "-c" or words[:2] == ["-m", "venv"]:
        return None
    if words[0] == "-m" and words[1].startswith("pytest"):
        return None
    program = program_of(module_of(words))
    arguments = words[2 if words[0] == "-m" else 1 :]
    if hasattr(program, "make_parser"):
        return check_click(program, arguments)
    return parse(program, arguments, monkeypatch) if arguments else None


def test_commands_are_found():
    """The reader of the pages finds the kinds of commands there are."""
    words = {command.words for command in COMMANDS}
    assert ("make", "demo") in words
    assert ("python", "main.py", "input.yml", "train", "--algo", "edsr") in words
    assert ("python", "-m", "sr_trainer.optuna_search", "search.yml") in words
    assert len(words) > 100


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_is_parsed(command, monkeypatch):
    """The program, its mode and its options exist."""
    assert check(command, monkeypatch) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python main.py input.yml train --algoo edsr", "--algoo"),
        ("python main.py input.yml trian", "trian"),
        ("python -m sr_dataset_builder.dataset build.yml --overwrite", "--overwrite"),
        ("python -m examples.surgical_phase.train --csv phases.csv", "--csv"),
        ("make demon", "demon"),
        ("pip install '.[geodata]'", "geodata"),
    ],
)
def test_a_wrong_command_is_found(line, words, monkeypatch):
    """A misspelt option, mode, target or extra does not pass."""
    assert words in check(Command("page", tuple(shlex.split(line))), monkeypatch)


MODULES = sorted({c.words[2] for c in COMMANDS if c.words[1:2] == ("-m",) and "." in c.words[2]})


@pytest.mark.parametrize("name", ["sr_trainer.main", *MODULES])
def test_help_runs(name, monkeypatch, capsys):
    """``--help`` of every program that the pages name says how it is used."""
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        program_of(importlib.import_module(name))()
    assert not stop.value.code
    assert "usage:" in capsys.readouterr().out.lower()
