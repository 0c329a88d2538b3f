"""YAML read safely and checked once, tables of names, error messages, whole files."""

import os
import re
import runpy
import sys
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import Field

import toolbox.opencv
from toolbox import registry
from toolbox.config import COMMAND_LINE, Count, Float, Int, Settings, check, read_yaml, write_yaml
from toolbox.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    ToolboxError,
    WeightsError,
    did_you_mean,
    nearest_name,
    not_found,
    program,
)
from toolbox.io.atomic import replacing, replacing_folder
from toolbox.io.maps import open_map
from toolbox.picture_set import find_pictures
from toolbox.progress import progress
from toolbox.registry import MODELS, SOURCES, Registry
from toolbox.tasks.bathymetry.settings import MapOptions
from toolbox.tasks.surgical_phase.windows import find_videos

TABLES = {name: table for name, table in vars(registry).items() if isinstance(table, Registry)}


class Inner(Settings):
    """Stands for a model's section."""

    filters: list[Count] = [64, 32]
    loss_weights: list[Float] = [1.0, 1e-7]


class Outer(Settings):
    """Stands for a whole file."""

    batch_size: Count = 16
    learning_rate: Float = Field(1e-4, gt=0)
    offset: Int = 0
    patience: Count | None = None
    input_shape: tuple[Count, Count, Count] = (16, 16, 1)
    name: str
    espcn: Inner | None = None


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a YAML file and returns its path."""

    def write(text, name="input.yml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def checked(file, text):
    """Read and check a file."""
    return check(Outer, read_yaml(file(text)), "input.yml")


# --- reading ------------------------------------------------------------------------------------


def test_python_tuple_is_read(file):
    """The manual's ``!!python/tuple`` becomes a tuple."""
    content = read_yaml(file("input_shape: !!python/tuple [16, 16, 1]\n"))
    assert content == {"input_shape": (16, 16, 1)}
    assert checked(file, "name: x\ninput_shape: !!python/tuple [4, 4, 1]").input_shape == (4, 4, 1)


def test_none_is_null(file):
    """``None``, ``null`` and nothing at all mean null, in nested sections, too."""
    content = read_yaml(file("a: None\nb: null\nc:\nd: {e: None}\nf: none\n"))
    assert content == {"a": None, "b": None, "c": None, "d": {"e": None}, "f": "none"}


def test_small_numbers_without_a_point_are_numbers(file):
    """YAML 1.1 takes 1e-7 for a word; the settings take it for a number."""
    assert read_yaml(file("learning_rate: 1e-7\n")) == {"learning_rate": "1e-7"}
    settings = checked(file, "name: x\nlearning_rate: 1e-7\nespcn:\n  loss_weights: [1, 1e-7]\n")
    assert settings.learning_rate == 1e-7
    assert settings.espcn.loss_weights == [1, 1e-7]


def test_byte_order_mark_and_japanese_are_read(file):
    """Files of Windows editors and Japanese comments are welcome."""
    content = read_yaml(file("\ufeff# 海底地形\ndata_dir: 海底\n".encode()))
    assert content == {"data_dir": "海底"}


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "s:\n  a: 1\n  a: 2\n", "l:\n  - {a: 1, a: 1}\n"]
)
def test_a_key_written_twice_is_refused(text, file):
    """Which of the two counts would be anybody's guess; the line is named."""
    with pytest.raises(ConfigError, match=r"input\.yml: line \d a is set twice"):
        read_yaml(file(text))


def test_merge_keys_still_work(file):
    """Anchors and ``<<`` are plain YAML."""
    content = read_yaml(file("base: &b {x: 1}\nrun:\n  <<: *b\n  y: 2\n"))
    assert content["run"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {trace}']",
        "!!python/object/new:os.system ['touch {trace}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!anything 1",
    ],
)
def test_code_in_yaml_is_refused_and_not_run(tag, file, tmp_path):
    """The line is named, and the file that the command would have made is absent."""
    trace = tmp_path / "trace"
    path = file(f"a: 1\nb: {tag.format(trace=trace)}\n")
    with pytest.raises(ConfigError, match=r"input\.yml: line 2 could not determine a constructor"):
        read_yaml(path)
    assert not trace.exists()


@pytest.mark.parametrize("text", ["", "# nothing\n", "- 1\n- 2\n", "word\n", "3\n"])
def test_what_is_not_a_mapping_is_refused(text, file):
    """The message says what lines must look like."""
    with pytest.raises(ConfigError, match=r"input\.yml: expected lines of the form 'key: value'"):
        read_yaml(file(text))


@pytest.mark.parametrize(
    "text", ["a: [1, 2\n", "a: 1\n b: 2\n", "a: 'x\n", "a: b: c\n", "\ta: 1\n"]
)
def test_broken_yaml_names_the_line(text, file):
    """The user is told where to look."""
    with pytest.raises(ConfigError, match=r"input\.yml: line \d"):
        read_yaml(file(text))


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: \x00\n", b"\x89PNG\r\n\x1a\n"])
def test_other_files_are_refused(text, file):
    """A picture or another encoding is no YAML."""
    with pytest.raises(ConfigError, match=r"input\.yml: not"):
        read_yaml(file(text))


@pytest.mark.parametrize(
    "text",
    [
        r'data_dir: "C:\Users\me"',
        r'data_dir: "C:\data\in"',
        r'data_dir: "C:\new\train"',
        r'data_dir: "data\train"',
        r'data_dir: "\\server\new"',
        r'data_dir: "C:\Lib"',
        r'data_dir: "C:\x86"',
        r'"C:\temp": 1',
        r'a: [1, "C:\temp"]',
        'data_dir: "C:\\"\nmodel: espcn',
        'data_dir: "C:\\"\nmodel: "espcn"',
    ],
)
def test_backslashes_in_double_quotes_get_a_hint(text, file):
    """Also where they are valid YAML: the new line and the tab in a path are not meant."""
    with pytest.raises(ConfigError, match=r"input\.yml: line.*single quotes, or with /") as caught:
        read_yaml(file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"a: 'C:\new\Users'", r"C:\new\Users"),
        (r"a: C:\new\Users", r"C:\new\Users"),
        (r'a: "C:\\new\\data　1"', "C:\\new\\data　1"),
        ('a: "C:/Users/me"', "C:/Users/me"),
        (r'a: "caf\u00e9 \"x\""', 'café "x"'),
        ('a: "one\n  two"', "one two"),
    ],
)
def test_other_quoted_values_stay(text, value, file):
    """Single quotes, none, doubled backslashes, letters by number, folded lines."""
    assert read_yaml(file(text)) == {"a": value}


def test_another_mistake_gets_no_hint_about_paths(file):
    """A list that is not closed has nothing to do with quotes."""
    with pytest.raises(ConfigError, match="line") as caught:
        read_yaml(file('a: "x"\nb: "y\\"z"\nc: [\n'))
    assert "quotes" not in str(caught.value)


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "? {a: 1}\n: 1\n"], ids=["list", "mapping"])
def test_lists_as_keys_are_refused(text, file):
    """A key that is a list or a mapping is a mistake of the file, told in one line."""
    with pytest.raises(ConfigError, match=r"input\.yml"):
        read_yaml(file(text))


def test_missing_file_and_folder(tmp_path):
    """The message names the path and what is wrong with it."""
    with pytest.raises(ConfigError, match=r"none\.yml: no such file"):
        read_yaml(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match=r"is a folder; expected a \.yml file"):
        read_yaml(tmp_path)


def test_a_relative_path_is_told_from_where(tmp_path, monkeypatch):
    """What is missing is named with the folder in which it was looked for, unless it says so."""
    monkeypatch.chdir(tmp_path)
    assert not_found("output", "folder") == (
        f"output: no such folder in {tmp_path}, where the program was started"
    )
    assert not_found(tmp_path / "a.tif", "file") == f"{tmp_path / 'a.tif'}: no such file"
    with pytest.raises(ConfigError, match=re.escape(f"no such file in {tmp_path}, where")):
        read_yaml("none.yml")
    openers = [
        lambda: SOURCES.resolve("patches")("nowhere"),
        lambda: SOURCES.resolve("sem")("nowhere"),
        lambda: find_pictures(Path("nowhere"), "picture", "data_dir"),
        lambda: find_videos(Path("nowhere")),
        lambda: open_map("nowhere"),
    ]
    for opened in openers:
        with pytest.raises(DataError, match="nowhere: no such f") as caught:
            opened()
        assert f" in {tmp_path}, where the program was started" in str(caught.value)


def test_written_yaml_reads_back(tmp_path):
    """What is written can be read, under a heading, in the order given."""
    content = {"z": [16, 16, 1], "a": None, "名": "海底", "s": {"rate": 1e-7}}
    write_yaml(content, tmp_path / "run.yml", "Settings of the run")
    assert (tmp_path / "run.yml").read_text(encoding="utf-8").startswith("# Settings of the run\nz")
    assert read_yaml(tmp_path / "run.yml") == content
    assert list(read_yaml(tmp_path / "run.yml")) == list(content)


def test_example_of_the_manual_is_read():
    """The manual's own input file, tuples, None and 1e-7 included."""
    content = read_yaml(Path(__file__).parents[1] / "conf" / "manual.yml")
    assert content["input_shape"] == (16, 16, 1)
    assert content["fname_model_weights"] is None
    assert content["log_dir"] is None
    assert content["online_da"]["zoom_range"] == (0.5, 1.0)
    assert float(content["esrgan"]["loss_weights"][1]) == 1e-7


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", "3"), ("2020-02-01", "2020-02-01"), ("10.5", "10.5"), ("'a'", "a"), ("null", None)],
)
def test_a_step_may_be_written_without_quotes(text, value, file):
    """YAML reads a date as a date; the step is its text."""
    assert check(MapOptions, read_yaml(file(f"time: {text}")), "input.yml").time == value


def test_a_step_is_no_switch(file):
    """True is neither a number nor a date."""
    with pytest.raises(ConfigError, match="time must be"):
        check(MapOptions, read_yaml(file("time: true")), "input.yml")


# --- checking -----------------------------------------------------------------------------------


def test_defaults_are_filled_in(file):
    """Only what has no default must be written."""
    settings = checked(file, "name: x\n")
    assert (settings.batch_size, settings.learning_rate, settings.patience) == (16, 1e-4, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sise: 4", r"unknown key batch_sise\. Did you mean 'batch_size'\?"),
        ("zzz: 4", r"unknown key zzz\. Known: batch_size, espcn, input_shape"),
        ("espcn: {filter: [1]}", r"unknown key espcn\.filter\. Did you mean 'filters'\?"),
        ("batch_size: 0", r"batch_size must be greater than or equal to 1; received 0\."),
        ("batch_size: many", r"batch_size must be a whole number; received 'many'\. Change"),
        ("batch_size: true", r"batch_size must be a number, not true or false; received True"),
        ("batch_size: 2.5", r"batch_size must be a whole number; received 2\.5"),
        ("learning_rate: -1", r"learning_rate must be greater than 0; received -1"),
        ("learning_rate: .nan", r"learning_rate must be a finite number"),
        ("learning_rate: yes", r"learning_rate must be a number, not true or false"),
        ("offset: off", r"offset must be a number, not true or false"),
        ("input_shape: [16, 16]", r"input_shape has too few entries; received \[16, 16\]"),
        ("espcn: {filters: [4, 0]}", r"espcn\.filters\.1 must be greater than or equal to 1"),
        ("espcn: 3", r"espcn must be a section of keys and values; received 3"),
        ("learning_rate: 0,8", r"learning_rate must be a number; received '0,8'\. Write 0\.8\."),
        ("7: 3", r"input\.yml: .*7"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message, file):
    """File, dotted key, what is expected, what was received."""
    with pytest.raises(ConfigError, match=rf"^input\.yml: .*{message}|^{message}") as caught:
        checked(file, f"name: x\n{text}\n")
    assert "\n" not in str(caught.value)


class Options(Settings):
    """Settings that are also options of a command line."""

    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    pixel_nm: Float | None = None
    tile: int = 8
    cog: bool = False
    weights: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": "2"}, "--threshold must be less than 1; received 2. Change the option."),
        ({"threshold": "90"}, "--threshold must be less than 1; received 90. For 90 %, write 0.9."),
        ({"pixel_nm": "0,8"}, "--pixel-nm must be a number; received '0,8'. Write 0.8."),
        ({"pixel_nm": "x"}, "--pixel-nm must be a number; received 'x'. Change the option."),
        ({"tile": "2.5"}, "--tile must be a whole number; received 2.5. Change the option."),
        ({"cog": "x"}, "--cog must be true or false; received 'x'. Change the option."),
        ({"weights": (3,)}, "--weights must be text; received 3. Change the option."),
    ],
)
def test_mistakes_in_options_name_the_option(values, message):
    """On the command line there is no key and no line: the option is named, as it is written."""
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$"):
        check(Options, values, COMMAND_LINE)


def test_missing_key_is_named(file):
    """The message holds the line to add."""
    with pytest.raises(
        ConfigError, match=r"input\.yml: name is missing\. Add a line 'name: \.\.\.'"
    ):
        checked(file, "batch_size: 4\n")


def test_further_mistakes_are_counted(file):
    """Only the first mistake is told, with the number of the others."""
    with pytest.raises(ConfigError, match=r"\(2 more after this one\.\)$"):
        checked(file, "name: x\nbatch_size: 0\noffset: a\nzzz: 1\n")


def test_section_of_a_file_is_checked_in_its_place():
    """A prefix says where in the file the values stand."""
    with pytest.raises(ConfigError, match=r"input\.yml: espcn\.filters\.0 must be"):
        check(Inner, {"filters": [0]}, "input.yml", prefix="espcn")


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "name"), [(t, name) for t, rows in TABLES.items() for name in rows]
)
def test_every_row_of_every_table_can_be_imported(table, name):
    """Each name stands for something that can be called."""
    assert callable(TABLES[table].resolve(name))


@pytest.mark.parametrize("table", TABLES)
def test_unknown_name_lists_the_known_ones(table):
    """The message has the kind, all names and what was received."""
    rows = TABLES[table]
    names = ", ".join(sorted(rows))
    with pytest.raises(
        ConfigError, match=rf"{rows.kind} must be one of {names}; received 'nothing'"
    ):
        rows.resolve("nothing")


def test_misspelt_name_gets_a_hint():
    """The nearest name is offered."""
    with pytest.raises(ConfigError, match=r"received 'epscn'\. Did you mean 'espcn'\?"):
        MODELS.resolve("epscn")


def test_table_is_a_mapping():
    """Tables behave like dictionaries of name to place, also for names they do not have."""
    table = Registry("thing", {"a": "m:A", "b": "m:B"})
    assert list(table) == ["a", "b"]
    assert (len(table), table["a"], table.kind) == (2, "m:A", "thing")
    assert "a" in table
    assert "c" not in table
    assert table.get("c") is None


def test_attribute_of_a_class_is_found():
    """``module:Class.attribute`` reaches into a class."""
    assert Registry("x", {"join": "os:path.join"}).resolve("join") is os.path.join


# --- errors -------------------------------------------------------------------------------------


def test_did_you_mean():
    """The nearest word if one is near, else all of them in order."""
    assert did_you_mean("batchsize", ["epochs", "batch_size"]) == "Did you mean 'batch_size'?"
    assert did_you_mean("xyz", ["epochs", "batch_size"]) == "Known: batch_size, epochs."


def raising(error):
    @program
    def main():
        raise error

    return main


def test_program_that_succeeds():
    """Arguments are passed on, the return value is not an exit code."""
    seen = []

    @program
    def main(*args, **kwargs):
        """Do it."""
        seen.append((args, kwargs))
        return 7

    assert main(1, key=2) == 0
    assert seen == [((1,), {"key": 2})]
    assert (main.__name__, main.__doc__) == ("main", "Do it.")


def test_nearest_name():
    """The nearest word as a hint to append, else nothing."""
    assert nearest_name("epoch", ["epochs", "batch_size"]) == " Did you mean 'epochs'?"
    assert nearest_name("xyz", ["epochs", "batch_size"]) == ""


@pytest.mark.parametrize("kind", [ToolboxError, ConfigError, DataError, WeightsError])
def test_program_tells_a_mistake_in_one_line(kind, capsys):
    """A user's mistake is exit code 2 and one line on standard error."""
    assert raising(kind("input.yml: scale must be 2."))() == 2
    assert capsys.readouterr() == ("", "error: input.yml: scale must be 2.\n")


def test_program_names_the_file_of_an_oserror(tmp_path, capsys):
    """A file that cannot be opened is named, without a traceback."""

    @program
    def main():
        (tmp_path / "none.csv").read_text()

    assert main() == 2
    assert capsys.readouterr().err == f"error: No such file or directory: {tmp_path}/none.csv\n"
    assert raising(OSError(28, "No space left on device"))() == 2
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_program_stopped_by_the_user(capsys):
    """Ctrl-C is exit code 130, with what the program had to say about it."""
    assert raising(KeyboardInterrupt())() == 130
    assert capsys.readouterr().err == "stopped: by Ctrl-C; finished files are valid\n"
    assert raising(KeyboardInterrupt("resume with: main.py"))() == 130
    assert capsys.readouterr().err == "stopped: resume with: main.py\n"


def test_program_out_of_memory(capsys):
    """What to make smaller is said."""
    assert raising(MemoryError("3 GiB"))() == 2
    assert "out of memory. Use a smaller network, images or batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), OSError("bug")])
def test_program_keeps_the_traceback_of_a_bug(error, capsys):
    """What is not the user's mistake is raised as it is."""
    with pytest.raises(type(error), match="bug") as caught:
        raising(error)()
    assert caught.value is error
    assert capsys.readouterr().err == ""


# --- whole files, progress, OpenCV --------------------------------------------------------------


def test_replacing_puts_the_file_in_place(tmp_path):
    """The file appears at the end of the block, its folder is made, nothing else is left."""
    path = tmp_path / "new" / "table.csv"
    with replacing(path) as beside:
        assert beside.parent == path.parent
        assert beside.suffix == ".csv"
        beside.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_replacing_leaves_the_old_file_on_error(tmp_path):
    """An error in the block leaves the old file and no half one."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="half-way"), replacing(path) as beside:
        beside.write_text("half")
        raise ValueError("half-way")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_replacing_with_nothing_written_keeps_the_old_file(tmp_path):
    """A block that writes nothing is an error, and the old file stays."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="table"), replacing(path):
        pass
    assert path.read_text() == "old"


def test_replacing_with_another_ending(tmp_path):
    """Writers that insist on an ending get it, in the same folder."""
    with replacing(tmp_path / "weights_best.h5", suffix=".weights.h5") as beside:
        assert beside.name.endswith(".weights.h5")
        beside.touch()
    assert [p.name for p in tmp_path.iterdir()] == ["weights_best.h5"]


def test_progress_hands_the_items_on(capsys):
    """The bar changes nothing and writes to standard error only."""
    assert list(progress([1, 2, 3], "reading")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading: 100%" in err
    assert "3/3" in err


def test_missing_opencv_is_explained(monkeypatch):
    """Without OpenCV's system libraries the message holds the commands that help."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        MissingLibraryError, match=r"apt-get install libgl1.*opencv-python-headless"
    ):
        runpy.run_path(toolbox.opencv.__file__)


def test_manual_example_needs_the_safe_loader(file):
    """PyYAML's own safe loader refuses the manual's tuples: the reason for this module."""
    with pytest.raises(yaml.YAMLError, match="python/tuple"):
        yaml.safe_load("input_shape: !!python/tuple [16, 16, 1]")


def test_replacing_folder_replaces_all_files(tmp_path):
    """The new folder takes the place of the old one, files of before included."""
    path = tmp_path / "run" / "result"
    path.mkdir(parents=True)
    (path / "old.txt").write_text("old")
    with replacing_folder(path) as beside:
        assert (path / "old.txt").is_file(), "the old files stay until the new ones are complete"
        (beside / "new.txt").write_text("new")
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert [p.name for p in path.parent.iterdir()] == ["result"]


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "beside a file"])
def test_replacing_folder_leaves_nothing_on_error(kept, tmp_path):
    """After an error neither files nor the folders made for them are left; others stay."""
    if kept:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "kept.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    path = tmp_path / "run" / "result"
    with pytest.raises(ValueError, match="half-way"), replacing_folder(path) as beside:
        (beside / "half.txt").write_text("half")
        raise ValueError("half-way")
    assert sorted(tmp_path.rglob("*")) == before
