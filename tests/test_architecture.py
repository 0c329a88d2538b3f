"""The rules of the house that can be read from the source: who imports whom, what is never used."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("toolbox", "sr_trainer", "sr_dataset_builder", "examples", "benchmarks")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
OWN_ERRORS = ("ToolboxError", "ConfigError", "DataError", "WeightsError", "MissingLibraryError")
PROGRAMS = ("sr_trainer", "sr_dataset_builder", "examples", "benchmarks")


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


def calls(tree):
    """Return (dotted name, node) of every call, as far as the name is written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_there_is_something_to_read():
    """The lists of files are not empty, or the other tests would prove nothing."""
    names = {name_of(path) for path in SOURCES}
    assert {"toolbox.callbacks", "sr_trainer.main", "sr_dataset_builder.dataset"} <= names
    assert len(TESTS) > 5


def test_imports_are_seen_wherever_they_stand():
    """The reader of imports finds plain, partial, relative and late imports."""
    found = imports_of(ROOT / "sr_trainer" / "main.py")
    assert {"sys", "sr_trainer.arg_parser.ArgParser", "sr_trainer.modeler"} <= found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_dependencies_point_one_way(path):
    """Programs import the toolbox, never the reverse, and never one another."""
    module, imports = name_of(path), imports_of(path)
    forbidden = {
        "toolbox": PROGRAMS,
        "sr_dataset_builder": ("sr_trainer", "examples", "benchmarks", "tensorflow", "keras"),
        "sr_trainer": ("sr_dataset_builder", "examples", "benchmarks"),
    }
    assert below(imports, *forbidden.get(module.split(".")[0], ())) == []
    assert below(imports, "tests", "conftest") == []


@pytest.mark.parametrize(
    ("importer", "forbidden"),
    [
        ("toolbox.model", ("callbacks", "evaluator", "plotter", "data_loader", "data_generator")),
        ("toolbox.loss", ("callbacks", "evaluator", "plotter", "model")),
        ("toolbox.metric", ("callbacks", "evaluator", "plotter", "model", "loss")),
        ("toolbox.sources", ("callbacks", "evaluator", "plotter", "model", "loss")),
        ("toolbox.data_loader", ("callbacks", "evaluator", "plotter", "model", "loss")),
        ("toolbox.data_generator", ("callbacks", "evaluator", "plotter", "model", "loss")),
        ("toolbox.io", ("callbacks", "evaluator", "plotter", "model", "loss")),
        ("toolbox.report", ("callbacks", "evaluator", "model", "loss")),
        ("toolbox.plotter", ("callbacks", "evaluator")),
        ("toolbox.evaluator", ("callbacks",)),
        ("toolbox.errors", ("",)),
        ("toolbox.registry", ("callbacks", "evaluator", "plotter", "model", "loss", "metric")),
    ],
)
def test_arrows_inside_the_toolbox(importer, forbidden):
    """Callbacks → evaluator → plotter, metric; models, losses and sources know none of them."""
    packages = [f"toolbox.{name}" for name in forbidden if name]
    for path in SOURCES:
        if below([name_of(path)], importer):
            inner = below(imports_of(path), "toolbox")
            assert below(inner, *packages) == []
            if forbidden == ("",):
                assert inner == []


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


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_nothing_is_imported_by_star(path):
    """No ``from x import *``."""
    stars = [m for m in imports_of(path) if m.endswith(".*")]
    assert stars == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_text_is_ever_executed(path):
    """No eval, exec or compile, no shell, in any module."""
    forbidden = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    found = [name for name, _ in calls(tree_of(path)) if name in forbidden]
    assert found == []
    shells = [
        ast.unparse(keyword)
        for _, call in calls(tree_of(path))
        for keyword in call.keywords
        if keyword.arg == "shell"
    ]
    assert shells == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_pickles_are_read_in_one_place(path):
    """Only toolbox/io/safe_pickle.py unpickles, and there only with its own Unpickler."""
    unsafe = {"pickle.load", "pickle.loads", "pd.read_pickle", "pandas.read_pickle", "joblib.load"}
    found = [name for name, _ in calls(tree_of(path)) if name in unsafe]
    assert found == []
    if name_of(path) != "toolbox.io.safe_pickle":
        imports = imports_of(path)
        assert "pickle.Unpickler" not in imports
        assert below(imports, "pickle.load", "pickle.loads", "dill", "cloudpickle", "shelve") == []
        assert "pickle.Unpickler" not in ast.unparse(tree_of(path))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_arrays_are_loaded_without_pickle(path):
    """Every np.load says allow_pickle=False, and keras never loads unsafely."""
    for name, call in calls(tree_of(path)):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False"
        assert keywords.get("safe_mode", "True") == "True"
        assert not name.endswith("enable_unsafe_deserialization")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_yaml_is_loaded_safely(path):
    """YAML is read with a loader that builds nothing but plain values, and in one place."""
    unsafe = ("unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "yaml.Loader", "load_all")
    text = ast.unparse(tree_of(path))
    assert [word for word in unsafe if word in text] == []
    loads = [name for name, _ in calls(tree_of(path)) if name in ("yaml.load", "yaml.safe_load")]
    assert loads == (["yaml.load"] if name_of(path) == "toolbox.config" else [])


def test_the_loader_of_yaml_is_a_safe_one():
    """What toolbox.config hands to yaml.load is a SafeLoader with one constructor more."""
    import yaml

    from toolbox import config

    [loader] = [
        call.args[1]
        for name, call in calls(tree_of(ROOT / "toolbox" / "config.py"))
        if name == "yaml.load"
    ]
    cls = getattr(config, ast.unparse(loader))
    assert issubclass(cls, yaml.SafeLoader)
    assert not issubclass(cls, yaml.UnsafeLoader)
    extra = set(cls.yaml_constructors) - set(yaml.SafeLoader.yaml_constructors)
    assert extra == {"tag:yaml.org,2002:python/tuple"}
    assert set(cls.yaml_multi_constructors) == set(yaml.SafeLoader.yaml_multi_constructors)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_programs_read_the_command_line(path):
    """The toolbox reads neither sys.argv nor arguments, and it never ends the process."""
    text = ast.unparse(tree_of(path))
    assert "sys.argv" not in text
    if name_of(path).startswith("toolbox"):
        assert below(imports_of(path), "argparse", "getopt", "click", "sys.argv") == []
        assert not {name for name, _ in calls(tree_of(path))} & {"sys.exit", "exit", "os._exit"}


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


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_asserts_and_says_what(path):
    """Every test file has tests; each has a sentence of docstring and an assertion."""
    functions = functions_of(path)
    assert functions
    for function in functions:
        assert ast.get_docstring(function), f"{function.name} has no docstring"
        assert asserts(function), f"{function.name} asserts nothing"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_expected_errors_are_matched(path):
    """``pytest.raises`` of the project's own errors says which message is meant."""
    for name, call in calls(tree_of(path)):
        expects = ast.unparse(call.args[0]) if call.args else ""
        if name == "pytest.raises" and expects.split(".")[-1] in OWN_ERRORS:
            assert any(keyword.arg == "match" for keyword in call.keywords), expects
