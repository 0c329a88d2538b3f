"""Pages of the interface, one per module, generated from the packages when the site is built."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("toolbox", "sr_trainer", "sr_dataset_builder")
#: Not in the sidebar, which would list two hundred modules on every page.
_PAGE = """\
:orphan:

{name}
{line}

.. automodule:: {name}
   :members:
   :show-inheritance:
"""
#: The names in the first package come from its modules, and are documented there.
_MEMBERS = "   :members:\n"


def module_files() -> Iterator[tuple[str, Path]]:
    """Yield name and file of every public module, packages before their modules."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__init__":
                if _defines_something(file):
                    yield ".".join(parts[:-1]), file
            elif not any(part.startswith("_") for part in parts):
                yield ".".join(parts), file


def _defines_something(file: Path) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def first_line(file: Path) -> str:
    """Return the first line of a module's docstring, without importing the module."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def package_of(name: str, file: Path) -> str:
    """Return the package under which a module is listed."""
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def index_text() -> str:
    """Return the index in Markdown, with a heading and a table for each package."""
    groups: dict[str, list[tuple[str, Path]]] = {}
    for name, file in module_files():
        groups.setdefault(package_of(name, file), []).append((name, file))
    parts = []
    for package, modules in groups.items():
        parts += [f"## {package}", ""]
        if about := first_line(ROOT / package.replace(".", "/") / "__init__.py"):
            parts += [about, ""]
        parts += ["| module | content |", "|---|---|"]
        parts += [f"| [{name}](/api/{name}.rst) | {first_line(file)} |" for name, file in modules]
        parts.append("")
    return "\n".join(parts)


def write_api_pages(folder: Path) -> int:
    """Write the pages and the index of the interface.

    Parameters
    ----------
    folder : pathlib.Path
        Output folder; pages of removed modules are deleted.

    Returns
    -------
    int
        Number of modules.
    """
    folder.mkdir(exist_ok=True)
    wanted = {f"{name}.rst": name for name, _ in module_files()}
    for page in folder.glob("*.rst"):
        if page.name not in wanted:
            page.unlink()
    for page_name, name in wanted.items():
        page = _PAGE.format(name=name, line="=" * len(name))
        _write(folder / page_name, page.replace(_MEMBERS, "") if name == PACKAGES[0] else page)
    _write(folder / "_index.md", index_text())
    return len(wanted)


def _write(file: Path, text: str) -> None:
    """Write a page if its text has changed: Sphinx reads newer files again."""
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
