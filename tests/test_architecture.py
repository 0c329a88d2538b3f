"""The rules of the house that ruff does not know: who imports whom, what is never used.

Ruff holds the rest: star imports, eval and exec, shells, plain pickles, YAML loaders that build
objects, expected errors without a message; see pyproject.toml.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("toolbox", "sr_trainer", "sr_dataset_builder", "examples", "benchmarks")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PROGRAMS = ("sr_trainer", "sr_dataset_builder", "examples", "benchmarks")
#: The only module of the toolbox that is a program besides.
PHASE_EVALUATOR = "toolbox.tasks.surgical_phase.evaluate"
#: The parser that all programs share; it parses only what a program gives it.
COMMAND_LINE = "toolbox.command_line"


def name_of(path):
    """Return the dotted name of a module of this project."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@functools.cache
def tree_of(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports_of(path):
    """Return every module that a file imports, anywhere in it, ``from a import b`` as a.b too."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def below(modules, *packages):
    """Return those of `modules` that are, or lie inside, one of `packages`."""
    return sorted(m for m in modules if any(m == p or m.startswith(f"{p}.") for p in packages))


@functools.cache
def calls_of(path):
    """Return (dotted name, node) of every call, as far as the name is written out."""
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in calls]


@functools.cache
def text_of(path):
    """Return the code of a file without its comments."""
    return ast.unparse(tree_of(path))


def test_there_is_something_to_read():
    """The lists of files are not empty, or the other tests would prove nothing."""
    names = {name_of(path) for path in SOURCES}
    assert {"toolbox.callbacks", "sr_trainer.main", "sr_dataset_builder.dataset"} <= names
    assert len(TESTS) > 5


def test_imports_are_seen_wherever_they_stand():
    """The reader of imports finds plain, partial, relative and late imports."""
    found = imports_of(ROOT / "sr_trainer" / "main.py")
    assert {"sys", "sr_trainer.arg_parser.ArgParser", "sr_trainer.modeler"} <= found


def offences(rule, paths=SOURCES):
    """Return {module: what `rule` finds in its file}, for the files in which it finds anything."""
    found = {name_of(path): rule(path) for path in paths}
    return {module: bad for module, bad in found.items() if bad}


#: What a package must not import.
FORBIDDEN = {
    "toolbox": PROGRAMS,
    "sr_dataset_builder": ("sr_trainer", "examples", "benchmarks", "tensorflow", "keras"),
    "sr_trainer": ("sr_dataset_builder", "examples", "benchmarks"),
}


def test_dependencies_point_one_way():
    """Programs import the toolbox, never the reverse, and never one another."""

    def rule(path):
        package = name_of(path).split(".")[0]
        return below(imports_of(path), "tests", "conftest", *FORBIDDEN.get(package, ()))

    assert offences(rule) == {}


def test_only_its_plugin_imports_napari():
    """Whoever has no napari needs none: neither it nor what it brings is imported elsewhere."""

    def rule(path):
        own = below([name_of(path)], "sr_trainer.napari_plugin", "examples.cd_sem.napari_picture")
        return [] if own else below(imports_of(path), "napari", "npe2", "qtpy", "magicgui")

    assert offences(rule) == {}


#: What a part of the toolbox must not import of it.
FORBIDDEN_INSIDE = {
    "model": ("callbacks", "evaluator", "plotter", "data_loader", "data_generator", "task"),
    "loss": ("callbacks", "evaluator", "plotter", "model"),
    "metric": ("callbacks", "evaluator", "plotter", "model", "loss"),
    "data_loader": ("callbacks", "evaluator", "plotter", "model", "loss"),
    "data_generator": ("callbacks", "evaluator", "plotter", "model", "loss"),
    "io": ("callbacks", "evaluator", "plotter", "model", "loss"),
    "pages": ("callbacks", "evaluator", "model", "loss", "normalizer", "task", "run"),
    "plotter": ("callbacks", "evaluator"),
    "evaluator": ("callbacks", "task", "run"),
    "task": ("model", "training", "inference"),
    "settings": ("run", "model", "training", "inference", "callbacks"),
    "inference": ("run", "task", "settings", "training"),
    "errors": ("",),  # anything
    "registry": ("callbacks", "evaluator", "plotter", "model", "loss", "metric"),
}


def test_arrows_inside_the_toolbox():
    """Callbacks → evaluator → plotter, metric; models, losses and sources know none of them."""

    def rule(path):
        parts = [part for part in FORBIDDEN_INSIDE if below([name_of(path)], f"toolbox.{part}")]
        names = {name for part in parts for name in FORBIDDEN_INSIDE[part]}
        return below(imports_of(path), *(f"toolbox.{name}".rstrip(".") for name in names))

    assert offences(rule) == {}


def test_only_tasks_know_their_domain():
    """What is outside ``toolbox/tasks`` imports no task, and a task imports no other one."""

    def rule(path):
        module = name_of(path).split(".")
        if module[0] not in ("toolbox", "sr_trainer"):
            return []  # programs that make data sets belong to a task each
        own = ".".join(module[:3]) if module[:2] == ["toolbox", "tasks"] else "none"
        return [name for name in below(imports_of(path), "toolbox.tasks") if not below([name], own)]

    assert offences(rule) == {}


def test_the_page_kit_knows_no_domain():
    """It imports nothing of the toolbox but errors and whole files."""
    allowed = ("toolbox.errors", "toolbox.io.atomic", "toolbox.pages")
    kit = [path for path in SOURCES if below([name_of(path)], "toolbox.pages")]
    assert len(kit) >= 4
    for path in kit:
        inner = below(imports_of(path), "toolbox")
        assert set(inner) == set(below(inner, *allowed))


def test_no_import_goes_in_a_circle():
    """By what they import at the top, the modules of the project can be put in an order."""
    names = {name_of(path): path for path in SOURCES if path.name != "__init__.py"}
    needed = {}
    for name, path in names.items():
        top = [n for n in tree_of(path).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        found = {alias.name for n in top if isinstance(n, ast.Import) for alias in n.names}
        for node in top:
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        needed[name] = {m for m in names if below(found, m)} - {name}
    while needed:
        free = [name for name, others in needed.items() if not others & set(needed)]
        assert free, f"a circle among {sorted(needed)}"
        for name in free:
            del needed[name]


def private_names_of(path):
    """Return the names with a leading underscore that a file takes from modules of the project.

    Both ``from module import _name`` and ``module._name`` count; ``__version__`` is public.
    """

    def private(name):
        return name.startswith("_") and not name.endswith("__")

    own = name_of(path).split(".")
    own = own if path.name == "__init__.py" else own[:-1]
    found, modules = set(), {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{module}.{alias.name}"
                modules[alias.asname or alias.name] = full
                found |= {full} if any(map(private, full.split("."))) else set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and private(node.attr):
            holder = ast.unparse(node.value)
            found |= {f"{modules[holder]}.{node.attr}"} if holder in modules else set()
    return below(found, *PACKAGES)


def test_private_names_are_seen(tmp_path, monkeypatch):
    """The reader of private names sees imports and attributes, and nothing that is public."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "toolbox" / "io" / "some.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import toolbox.run as run, toolbox.task\n"
        "from toolbox import __version__\n"
        "from toolbox.errors import _plain as plain, DataError\n"
        "from rasterio._err import CPLE_BaseError\n"
        "def late(self):\n"
        "    from . import maps\n"
        "    from .cf import _axis\n"
        "    return maps._open, run._first, toolbox.task._last, self._own, maps.open_map\n"
    )
    assert private_names_of(file) == [
        "toolbox.errors._plain",
        "toolbox.io.cf._axis",
        "toolbox.io.maps._open",
        "toolbox.run._first",
        "toolbox.task._last",
    ]


def test_private_names_stay_in_their_module():
    """No module takes a name with a leading underscore from another one; tests may."""
    assert offences(private_names_of) == {}


def test_no_text_is_ever_executed():
    """No compile or __import__, no argument named shell; eval, exec and the rest are ruff's S."""

    def rule(path):
        for name, call in calls_of(path):
            if name in ("compile", "__import__"):
                yield name
            yield from (ast.unparse(k) for k in call.keywords if k.arg == "shell")

    assert offences(lambda path: list(rule(path))) == {}


def test_pickles_are_read_in_one_place():
    """Only toolbox/io/safe_pickle.py has an Unpickler; that others use none is ruff's S301."""
    readers = ("pickle.load", "pickle.loads", "dill", "cloudpickle", "shelve")

    def rule(path):
        named = [name for name, _ in calls_of(path) if name == "joblib.load"]
        if name_of(path) == "toolbox.io.safe_pickle":
            return named
        if "pickle.Unpickler" in text_of(path):
            named.append("pickle.Unpickler")
        return named + below(imports_of(path), "pickle.Unpickler", *readers)

    assert offences(rule) == {}


def test_arrays_are_loaded_without_pickle():
    """Every np.load says allow_pickle=False, and keras never loads unsafely."""

    def rule(path):
        for name, call in calls_of(path):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            pickles = name in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False"
            unsafe = keywords.get("safe_mode", "True") != "True"
            if pickles or unsafe or name.endswith("enable_unsafe_deserialization"):
                yield ast.unparse(call)

    assert offences(lambda path: list(rule(path))) == {}


def test_yaml_is_loaded_safely():
    """YAML is read with a loader that builds nothing but plain values, and in one place."""
    unsafe = ("unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "yaml.Loader", "load_all")

    def rule(path):
        text = text_of(path)
        loads = [n for n, _ in calls_of(path) if n in ("yaml.load", "yaml.safe_load")]
        return [word for word in unsafe if word in text] + loads

    assert offences(rule) == {"toolbox.config": ["yaml.load"]}


def test_the_loader_of_yaml_is_a_safe_one():
    """What toolbox.config hands to yaml.load is a SafeLoader with one constructor more."""
    import yaml

    from toolbox import config

    [loader] = [
        call.args[1]
        for name, call in calls_of(ROOT / "toolbox" / "config.py")
        if name == "yaml.load"
    ]
    cls = getattr(config, ast.unparse(loader))
    assert issubclass(cls, yaml.SafeLoader)
    assert not issubclass(cls, yaml.UnsafeLoader)
    extra = set(cls.yaml_constructors) - set(yaml.SafeLoader.yaml_constructors)
    assert extra == {"tag:yaml.org,2002:python/tuple"}
    assert set(cls.yaml_multi_constructors) == set(yaml.SafeLoader.yaml_multi_constructors)


def test_only_programs_read_the_command_line():
    """The toolbox reads neither sys.argv nor arguments, and it never ends the process."""

    def rule(path):
        found = ["sys.argv"] if "sys.argv" in text_of(path) else []
        # The evaluator of phases is a program too: others compare with it by its figures.
        if name_of(path).startswith("toolbox") and name_of(path) != PHASE_EVALUATOR:
            parsers = {"argparse", "getopt", "click", "sys.argv"}
            parsers -= {"argparse"} if name_of(path) == COMMAND_LINE else set()
            found += below(imports_of(path), *parsers)
            ends = {"sys.exit", "exit", "os._exit"}
            found += sorted({name for name, _ in calls_of(path)} & ends)
        return found

    assert offences(rule) == {}


def functions_of(path):
    """Return the test functions of a file."""
    return [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]


def asserts(function):
    """Whether a test function asserts something, itself or through a helper that says so."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name.startswith(("assert", "check", "raises", "refused", "warns", "fail")):
                return True
    return False


def test_every_test_asserts_and_says_what():
    """Every test file has tests; each has a sentence of docstring and an assertion."""

    def rule(path):
        functions = functions_of(path)
        mute = [f"{f.name} has no docstring" for f in functions if not ast.get_docstring(f)]
        idle = [f"{f.name} asserts nothing" for f in functions if not asserts(f)]
        return mute + idle if functions else ["no tests"]

    assert offences(rule, TESTS) == {}


def test_mistakes_on_a_command_line_are_one_line():
    """Programs parse with OneLineParser; the raw parser of Python would print its usage first."""
    raw = {
        name_of(path)
        for path in SOURCES
        if name_of(path).startswith(("toolbox.", "sr_trainer.", "sr_dataset_builder."))
        for name, _ in calls_of(path)
        if name == "argparse.ArgumentParser"
    }
    # The first looks for --version where a package may be missing; the second is no one's program.
    assert raw == {"sr_trainer.main", "sr_trainer.napari_plugin.network"}
