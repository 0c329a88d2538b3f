"""The tables of settings in the documentation, generated from the classes that check settings.

``python docs/settings_tables.py`` rewrites the tables. With ``--check`` it only reports whether
they are up to date. A table lies between two comments::

    <!-- table: toolbox.settings:OnlineDA
    best epoch: training.md#which-epoch-is-the-best
    -->
    | key | type | default | meaning |
    ...
    <!-- end of table -->

Keys, types and defaults come from the class, or from the arguments of the function. The meaning of
a key comes from the description of its field, or from the docstring, whose types may express what
annotations cannot (``loss : LOSSES, or a section, default mse``). Lines in the first comment turn
words of the table into links. ``CLASS!own`` leaves out inherited keys.
"""

from __future__ import annotations

import argparse
import enum
import functools
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
from numpydoc.docscrape import NumpyDocString
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from toolbox.registry import LOSSES
from toolbox.settings import from_the_data
from toolbox.task import every_task

PAGES = [Path(__file__).with_name(name) for name in ("settings.md", "hyperparameters.md")]
_TABLE = re.compile(
    r"<!-- table: (?P<what>\S+)(?P<links>.*?)-->\n(?P<rows>.*?)<!-- end of table -->", re.DOTALL
)
_NUMBERS = {2: "two", 3: "three", 4: "four"}


class Key(typing.NamedTuple):
    """A row of a table: a key, or several keys that are explained together."""

    names: list[str]
    kind: str
    default: str
    meaning: str


class Stated(typing.NamedTuple):
    """The type of a key, if stated, and its meaning, from a docstring."""

    names: tuple[str, ...]
    kind: str
    meaning: str


# -- Docstrings ----------------------------------------------------------------------------------


def stated_in(target: Any) -> dict[str, Stated]:
    """Return the explanations of parameters or attributes in the docstring of `target`."""
    parsed = NumpyDocString(inspect.cleandoc(target.__doc__ or ""))
    found = {}
    settings = isinstance(target, type) and issubclass(target, BaseModel)
    for entry in parsed["Attributes" if settings else "Parameters"]:
        names = tuple(name.strip() for name in entry.name.split(","))
        stated = Stated(names, entry.type, " ".join(" ".join(entry.desc).split()))
        found |= dict.fromkeys(names, stated)
    return found


def all_stated(target: Any) -> dict[str, Stated]:
    """Return the explanations of the keys by `target` and its origins; the nearest one counts."""
    found: dict[str, Stated] = {}
    for each in _speakers(target):
        for name, stated in stated_in(each).items():
            if stated.meaning and not _ELSEWHERE.match(stated.meaning):
                found.setdefault(name, stated)
    return found


#: Largest number of docstrings searched for one table.
_MOST_SPEAKERS = 60
#: Matches explanations that are given elsewhere.
_ELSEWHERE = re.compile(r"(As of|As in|See) (`|there|theirs)")


def _speakers(target: Any) -> list[Any]:
    """Return the objects that may explain the arguments of `target`.

    These are the function or class itself, the bases of a class, the objects named in their
    docstrings, and the networks of the same file: a pair has the arguments of its generator.
    """
    found = _parts(target)
    for each in found:  # grows, at most two steps from the target
        if len(found) < _MOST_SPEAKERS:
            found += [p for n in _named_in(each) for p in _parts(n) if p not in found]
    beside = vars(sys.modules[target.__module__]).values()
    networks = [each for each in beside if "__build__" in getattr(each, "__dict__", {})]
    return [*found, *(vars(network)["__build__"] for network in networks)]


def _parts(target: Any) -> list[Any]:
    """Return a function, or the methods and bases of a class that have docstrings."""
    if not isinstance(target, type):
        return [target]
    found = []
    for base in target.__mro__:
        if base.__module__.partition(".")[0] not in ("builtins", "abc", "keras", "pydantic"):
            methods = [vars(base).get(name) for name in ("__build__", "__init__")]
            found += [*filter(inspect.isfunction, methods), base]
    return found


def _named_in(target: Any) -> list[Any]:
    """Return the classes and functions of the project named in backticks in a docstring."""
    found = []
    for name in re.findall(r"(?<!`)`([\w.]+)`(?!`)", target.__doc__ or ""):
        module, _, last = name.rpartition(".")
        try:
            place = vars(importlib.import_module(module or target.__module__))
        except ModuleNotFoundError:
            continue
        other = place.get(last)
        if isinstance(other, type) or inspect.isfunction(other):
            found.append(other)
    return found


# -- Schemas -------------------------------------------------------------------------------------


def fields_of(target: Any) -> dict[str, FieldInfo]:
    """Return the keys of a section as pydantic fields, in the order of their explanations."""
    if isinstance(target, type) and issubclass(target, BaseModel):
        order = list(all_stated(target))
        fields = dict(target.model_fields)
        return dict(sorted(fields.items(), key=lambda f: (f[0] not in order, _place(f[0], order))))
    if hasattr(target, "parameters"):
        parameters = target.parameters()
    else:  # a loss or metric: skip the arguments that all share, and facts that come from the data
        signature = inspect.signature(target, eval_str=True).parameters
        told = from_the_data()
        parameters = {k: p for k, p in list(signature.items())[2:] if k not in told}
    return {
        key: FieldInfo.from_annotation(p.annotation)
        if p.default is p.empty
        else FieldInfo.from_annotated_attribute(p.annotation, p.default)
        for key, p in parameters.items()
    }


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else 0


def keys_of(target: Any, prefix: str = "") -> list[Key]:
    """Return the rows of a table.

    Raises
    ------
    ValueError
        If a key is explained nowhere.
    """
    stated, fields, rows = all_stated(target), fields_of(target), []
    done: set[str] = set()
    for name, field in fields.items():
        said, inner = stated.get(name), _section(field.annotation)
        if name in done:
            continue
        if said is not None or field.description:
            names = [n for n in (said.names if said else (name,)) if n in fields]
            done |= set(names)
            free = isinstance(target, type) and issubclass(target, BaseModel)
            cells = [_row(fields[n], said, free) for n in names]
            defaults = list(dict.fromkeys(default for _, default in cells))
            meaning = _sentence(field.description or (said.meaning if said else ""))
            keys = [prefix + n for n in names]
            rows.append(Key(keys, cells[0][0], ", ".join(defaults), meaning))
        elif _has_own_table(name, field):
            continue
        elif inner is None:
            raise ValueError(f"{target.__qualname__}: {name} is not explained")
        if inner is not None and not (said and said.kind.startswith("section")):
            rows += keys_of(inner, f"{prefix}{name}.")
    return rows


def _has_own_table(name: str, field: FieldInfo) -> bool:
    """Return whether a key is the section of a network, a source, a loss or a task."""
    if any(name in task.sections for task in every_task()):
        return True
    return field.default is None and "dict" in str(field.annotation)


#: Python types, which say less than the annotation.
_PYTHON = re.compile(r"(int|float|str|bool|tuple|list|dict)\b|[({]")


def _row(field: FieldInfo, said: Stated | None, free: bool) -> tuple[str, str]:
    """Return type and default; settings docstrings (`free`) may express more than annotations."""
    kind, default = words(field.annotation, field.metadata), _default(field)
    if said:
        own, _, given = said.kind.partition("default ")
        own = own.strip(", ")
        if own and free and not _PYTHON.match(own):
            kind = own.replace("``", "`").replace("LOSSES", _either([f"`{n}`" for n in LOSSES]))
        default = given.replace("``", "`") or default
    return kind, default


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the class of a section within a section."""
    origin = typing.get_origin(annotation)
    choices = typing.get_args(annotation) if origin in (typing.Union, types.UnionType) else ()
    for kind in (annotation, *choices):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _sentence(text: str) -> str:
    """Return a meaning as it appears in a table."""
    text = re.sub(r"`+", "`", text).replace("|", "\\|").strip()
    text = re.sub(r"\bNone\b", "null", text)
    text = text if text.endswith((".", "?")) else f"{text}."
    return text[:1].upper() + text[1:]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if words(field.annotation, field.metadata).startswith("range") and isinstance(value, tuple):
        value = value[0] if value[0] == value[1] else value
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """Return a value in YAML notation."""
    if value is None or value is PydanticUndefined:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_plain(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e")
    return str(value) or '""'


# -- Types in words ------------------------------------------------------------------------------


def words(annotation: Any, metadata: Any = ()) -> str:
    """Return a type and its limits in words, such as ``whole number, 1 to 16``."""
    marks = [*_flat(metadata)]
    while typing.get_origin(annotation) is typing.Annotated:
        annotation, *more = typing.get_args(annotation)
        marks = [*_flat(more), *marks]
    names = [name for mark in marks for name in _registered(mark)]
    if names:
        return _either([f"`{name}`" for name in names])
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [words(each, marks) for each in inner if each is not type(None)]
        return _either(list(dict.fromkeys(parts)))
    if origin is typing.Literal:
        return _either([f"`{_plain(each)}`" for each in inner])
    if origin is tuple:
        return _tuple(inner, marks)
    if origin is list or str(origin).endswith("Sequence'>"):
        return f"list of {_plural(words(inner[0]))}"
    if origin is dict or annotation is dict or str(origin).endswith("Mapping'>"):
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel | enum.Enum):
        return "section"
    plain = {bool: "true or false", str: "text", int: "whole number", float: "number"}
    odd = "odd " if any(_name_of(mark) == "_odd" for mark in marks) else ""
    return f"{odd}{plain.get(annotation, 'value')}{_limits(marks)}"


def _tuple(inner: tuple[Any, ...], marks: list[Any]) -> str:
    called = {getattr(getattr(mark, "func", None), "__name__", "") for mark in marks}
    if inner[-1] is Ellipsis:
        return f"list of {_plural(words(inner[0]))}"
    if "_range" in called:
        return f"range{_limits(_flat_annotated(inner[0]))}"
    order = {"_positive_range": ", 0 < min ≤ max", "_increasing": ", min < max"}
    told = next((order[name] for name in called if name in order), "")
    parts = list(dict.fromkeys(words(each) for each in inner))
    if len(parts) > 1:
        return " and ".join(parts)
    one = parts[0]
    if told:
        one = one.partition(",")[0]
    return f"{_NUMBERS[len(inner)]} {_plural(one)}{told}"


def _plural(kind: str) -> str:
    noun, rest = re.match(r"(whole number|number|text|value)?(.*)", kind, re.DOTALL).groups()  # type: ignore[union-attr]
    if noun == "number" and rest.startswith("s"):
        return kind
    return f"{noun}s{rest}" if noun else {"section": "sections"}.get(kind, kind)


def _flat(marks: Any) -> Iterator[Any]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark


def _flat_annotated(annotation: Any) -> list[Any]:
    return [*_flat(typing.get_args(annotation)[1:])]


def _registered(mark: Any) -> list[str]:
    """Return the names of a registry table, if the mark checks that a name is in it."""
    check = getattr(mark, "func", None)
    if isinstance(check, functools.partial) and check.func.__name__ == "_check_name":
        return list(check.args[0])
    return []


def _limits(marks: Any) -> str:
    """Return the limits of a number, such as ``, 1 to 16``."""
    low = high = None
    low_open = high_open = False
    for mark in marks:
        for kind, name in ((annotated_types.Ge, "ge"), (annotated_types.Gt, "gt")):
            if isinstance(mark, kind):
                low, low_open = getattr(mark, name), name == "gt"
        for kind, name in ((annotated_types.Le, "le"), (annotated_types.Lt, "lt")):
            if isinstance(mark, kind):
                high, high_open = getattr(mark, name), name == "lt"
    if low is None and high is None:
        return ""
    if high is None:
        return f" {'>' if low_open else '≥'} {_number(low)}"
    if low is None:
        return f" {'<' if high_open else '≤'} {_number(high)}"
    if low_open and high_open:
        return f" between {_number(low)} and {_number(high)}"
    if not low_open and not high_open:
        return f", {_number(low)} to {_number(high)}"
    return (
        f", {_number(low)} {'<' if low_open else '≤'} … {'<' if high_open else '≤'} {_number(high)}"
    )


def _name_of(mark: Any) -> str:
    validator = isinstance(mark, AfterValidator | BeforeValidator)
    return getattr(mark.func, "__name__", "") if validator else ""


def _number(value: Any) -> str:
    if value == 2**32:
        return "2³²"
    text = f"{int(value):,}" if value >= 10_000 else f"{value:g}"
    return text.replace("-", "−")


def _either(parts: list[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# -- The page ------------------------------------------------------------------------------------


def resolve(what: str) -> Any:
    """Return the object named in a comment: ``module:name``, or ``module:name.key`` (section)."""
    module, _, path = what.partition(":")
    target: Any = importlib.import_module(module)
    for part in path.split("."):
        if isinstance(target, type) and part in getattr(target, "model_fields", {}):
            target = _section(target.model_fields[part].annotation)
        else:
            target = getattr(target, part)
    if what == "toolbox.settings:RunSettings":
        target = importlib.import_module(module)._settings_class()
    return target


def table_text(what: str, links: dict[str, str]) -> str:
    """Return the rows of a table in Markdown.

    Raises
    ------
    ValueError
        If words that should become a link are not in the table.
    """
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    target, _, own = what.partition("!")
    rows = keys_of(resolve(target))
    if own:  # from a class that extends another
        rows = [key for key in rows if key.names[0] in resolve(target).__annotations__]
    for key in rows:
        names = ", ".join(f"`{name}`" for name in key.names)
        meaning, kind = key.meaning, key.kind
        for words_, link in links.items():
            if words_ in meaning:
                meaning = meaning.replace(words_, f"[{words_}]({link})", 1)
                links = {w: a for w, a in links.items() if w != words_}
        lines.append(f"| {names} | {kind} | {key.default} | {meaning} |")
    if links:
        raise ValueError(f"{what} has no words {', '.join(map(repr, links))} to be a link")
    return "\n".join(lines) + "\n"


def written_anew(text: str) -> str:
    """Return the page with all its tables up to date."""

    def replaced(match: re.Match[str]) -> str:
        said = [line.strip() for line in match["links"].splitlines() if line.strip()]
        links = dict(line.rsplit(": ", 1) for line in said)
        what, head = match["what"], match[0][: match.start("rows") - match.start()]
        return f"{head}{table_text(what, links)}<!-- end of table -->"

    return _TABLE.sub(replaced, text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description="Rewrite the tables of settings in docs.")
    parser.add_argument(
        "--check", action="store_true", help="only report whether they are up to date"
    )
    args = parser.parse_args(arguments)
    old = 0
    for page in PAGES:
        former = page.read_text(encoding="utf-8")
        text = written_anew(former)
        if text != former and args.check:
            print(f"{page.name} is older than the code. Run python docs/settings_tables.py.")
            old = 1
        elif text != former:
            page.write_text(text, encoding="utf-8")
    return old


if __name__ == "__main__":
    sys.exit(main())
