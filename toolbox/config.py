"""YAML files, read safely and checked for unknown keys, types and ranges."""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from toolbox.errors import ConfigError, did_you_mean, not_found
from toolbox.io.atomic import replacing
from toolbox.nesting import expanded_size

_MOST_VALUES = 100_000
#: The `where` of `check` for options: messages then name the option instead of file and key.
COMMAND_LINE = "command line"
#: pydantic's types of errors, and what is expected then.
_EXPECTED = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "a section of keys and values"),
    "string_type": "text",
}
_PLAIN_PATH = "In double quotes a backslash begins a code; write a path in single quotes, or with /"


class _Loader(yaml.SafeLoader):
    """A safe loader that also knows ``!!python/tuple`` and refuses a key written twice."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        if node.style == '"' and (codes := _codes_in(node)):
            # "C:\new" is valid YAML, but no path.
            raise yaml.MarkedYAMLError(
                problem=f"holds the code {codes[0]}. {_PLAIN_PATH}",
                problem_mark=node.start_mark,
            )
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            # PyYAML raises these for plain values such as 2021-13-45 or !!bool maybe.
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r} cannot be read ({error})", problem_mark=node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a word, not a list or mapping",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key} is set twice. Keep one of the two",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_tuple(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


def _codes_in(node: yaml.ScalarNode) -> list[str]:
    """Return the codes of control characters in a value, such as a tab; no setting needs any."""
    source = str(node.start_mark.buffer)[node.start_mark.pointer : node.end_mark.pointer]
    codes = re.findall(r"\\x[0189]|\\.", source, re.DOTALL)
    return [code for code in codes if code[1] in "0abtnvferNLP_" or len(code) == 3]


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)


def read_yaml(fname: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML mapping without executing anything in it.

    Parameters
    ----------
    fname : path-like
        File name.

    Returns
    -------
    dict
        The content; the word ``None``, which older files use, counts as null.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or is not a mapping.
    """
    text = ""
    try:
        text = Path(fname).read_text(encoding="utf-8-sig")
        content = yaml.load(text, _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{not_found(fname, 'file')}. Name an existing .yml file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{fname}: is a folder; expected a .yml file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{fname}: not a text file; expected YAML in UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = f" {_PLAIN_PATH}." if _has_backslash(error, text) else ""
        raise ConfigError(f"{fname}:{line} {error.problem}.{hint} Fix that line.") from None
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{fname}: not readable as YAML ({line}).") from None
    except RecursionError:
        raise ConfigError(
            f"{fname}: is nested too deeply, or contains itself. Remove the nesting."
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{fname}: expected lines of the form 'key: value'; received {type(content).__name__}."
        )
    try:
        size = expanded_size(content)
    except RecursionError:
        size = math.inf
    if size == math.inf:
        raise ConfigError(f"{fname}: an anchor refers to itself. Remove that reference.")
    if size > _MOST_VALUES:
        raise ConfigError(
            f"{fname}: its anchors expand to {size:.3g} values; expected at most {_MOST_VALUES}. "
            f"Use the anchors less often."
        )
    return {key: _none(value) for key, value in content.items()}


def _has_backslash(error: yaml.MarkedYAMLError, text: str) -> bool:
    """Return whether the cause of an error is a path with backslashes in double quotes."""
    first, last = (mark.line if mark else 0 for mark in (error.context_mark, error.problem_mark))
    lines = "\n".join(text.splitlines()[first : last + 1])
    if "scanning a double-quoted" in str(error.context):
        return True
    return re.search(r'"[^"\n]*\\"[^"\n]*(\n|$)', lines) is not None


def _none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_none(item) for item in value)
    return None if value == "None" else value


def write_yaml(content: dict[str, Any], fname: str | os.PathLike[str], heading: str) -> None:
    """Write a mapping as YAML below a one-line comment."""
    with replacing(fname) as beside:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        beside.write_text(f"# {heading}\n{text}", encoding="utf-8")


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    return value


def number_as_text(value: Any) -> Any:
    """Return the text of a band number, a step or a date written without quotes."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    known = isinstance(value, (int, float, datetime.date)) and not isinstance(value, bool)
    return str(value) if known else value


#: Variable of a file, or number of its band.
Variable = Annotated[str | None, BeforeValidator(number_as_text)]
#: Step of a further axis of a file: number, date or value.
Step = Annotated[str | None, BeforeValidator(number_as_text)]
Int = Annotated[int, BeforeValidator(_refuse_bool)]
Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]
Float = Annotated[float, BeforeValidator(_refuse_bool)]
Weight = Annotated[Float, Field(ge=0)]
Share = Annotated[Float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base class of all settings: unknown keys are refused, and defaults are checked too."""

    model_config = ConfigDict(
        extra="forbid", validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


S = TypeVar("S", bound=BaseModel)


def check(settings: type[S], values: dict[str, Any], where: str, prefix: str = "") -> S:
    """Check `values` against `settings`.

    Parameters
    ----------
    settings : type
        A `Settings` class.
    values : dict
        Content of the file.
    where : str
        File name, for messages; `COMMAND_LINE` for options.
    prefix : str
        Dotted path of `values` in the file.

    Returns
    -------
    Settings
        The checked settings, with defaults filled in.

    Raises
    ------
    ConfigError
        One line about the first mistake, with the number of further ones.
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        line = _one_line(settings, errors[0], where, prefix)
        more = f" ({len(errors) - 1} more after this one.)" if len(errors) > 1 else ""
        raise ConfigError(line + more) from None


def _one_line(settings: type[BaseModel], error: Any, where: str, prefix: str) -> str:
    place = [prefix] if prefix else []
    # A part with a bracket names a branch of a union, which means nothing to the user.
    path = [str(part) for part in error["loc"] if "[" not in str(part)]
    key = ".".join(place + path)
    if error["type"] == "extra_forbidden":
        known = _fields_at(settings, error["loc"][:-1])
        hint = did_you_mean(str(error["loc"][-1]), known)
        return f"{where}: unknown key {key}. {hint}"
    if error["type"] == "too_long":
        return f"{where}: {key} has too many entries; received {error['input']!r}."
    if error["type"] == "invalid_key" or error["loc"][-1:] == ("[key]",):
        key_given = next(part for part in reversed(error["loc"]) if part != "[key]")
        return f"{where}: keys must be words; received {key_given!r}. Fix that line."
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        key = ".".join(place + path[:-1])
        return f"{where}: {key} has too few entries; received {error['input']!r}."
    if error["type"] == "missing":
        return f"{where}: {key} is missing. Add a line '{key}: ...'."
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = _EXPECTED.get(error["type"], expected)
    if error["type"] == "value_error" and not error["loc"]:
        return f"{where}: {expected}"
    is_option = where == COMMAND_LINE
    start = f"--{path[0].replace('_', '-')}" if is_option else f"{where}: {key}"
    if "; received" in expected:
        return f"{start} must be {expected}"
    received = _shown(error["input"], is_option)
    return f"{start} must be {expected}; received {received}. {_remedy(error, is_option)}"


def _shown(value: Any, is_option: bool) -> str:
    """Return a value as the user wrote it; options are text, also if they are numbers."""
    is_number = is_option and isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+", value)
    return value if is_number else repr(value)


def _remedy(error: Any, is_option: bool) -> str:
    """Return what the user can do about a mistake."""
    text = str(error["input"])
    if error["type"] == "float_parsing" and re.fullmatch(r"[-+]?\d*,\d+", text):
        return f"Write {text.replace(',', '.')}."
    is_share = error["type"] == "less_than" and error["ctx"]["lt"] == 1
    if is_share and re.fullmatch(r"\d\d(\.\d+)?", text):
        return f"For {text} %, write {float(text) / 100:g}."
    return "Change the option." if is_option else "Change that line."


def _fields_at(settings: type[BaseModel], path: Iterable[Any]) -> list[str]:
    current: Any = settings
    for part in path:
        if isinstance(part, str) and part in current.model_fields:
            annotation = current.model_fields[part].annotation
            choices = [annotation, *getattr(annotation, "__args__", ())]
            current = next((c for c in choices if hasattr(c, "model_fields")), current)
    return list(current.model_fields)
