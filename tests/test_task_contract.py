"""What every row of TASKS must keep, tested as soon as the row is there."""

import matplotlib
import pytest
import yaml

from toolbox.model_card import write_model_card
from toolbox.normalizer import IdentityNormalizer
from toolbox.predict_settings import PredictOptions, PredictParams
from toolbox.registry import SOURCES, TASKS
from toolbox.settings import UserParams, from_the_data
from toolbox.task import Source, Task, every_task, open_task, task_of_source
from toolbox.training.run_folder import RUN_FILES, RunFolder

NAMES = sorted(TASKS)


@pytest.fixture(params=NAMES)
def task(request):
    """Every task."""
    return open_task(request.param)


@pytest.fixture
def settings(task, tmp_path):
    """The settings of a file that names little more than the task."""
    path = tmp_path / "run.yml"
    content = {"data_dir": str(tmp_path), "task": task.name}
    if task.results == "images":  # a source of labels names the network
        content["model"] = "edsr_light"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return UserParams(path)


def test_a_row_is_a_task(task):
    """Its class carries the row's name, and a colour map that exists."""
    assert isinstance(task, Task)
    assert TASKS.resolve(task.name) is type(task)
    assert task.style.cmap in matplotlib.colormaps


def test_sources_are_found_from_either_side(task):
    """A source is a `Source`, and leads back to its task alone."""
    assert task.sources
    for name in task.sources:
        assert issubclass(SOURCES.resolve(name), Source)
        assert task_of_source(name) == task.name


def test_no_two_tasks_share_a_name():
    """Sources, sections and options of ``predict`` are told apart by name."""
    for kind in ("sources", "sections"):
        names = [name for task in every_task() for name in getattr(task, kind)]
        assert len(names) == len(set(names))
    options = [name for task in every_task() for name in task.predict_options.model_fields]
    assert len(options) == len(set(options))
    assert not set(options) & set(PredictOptions.model_fields)
    assert set(options) | set(PredictOptions.model_fields) == set(PredictParams.model_fields)


def test_every_option_is_explained(task):
    """Each option of ``predict`` has a line for --help."""
    assert all(field.description for field in task.predict_options.model_fields.values())


def test_little_is_enough(task, settings):
    """Task and network alone are a run: the rest has defaults, written down whole."""
    assert (settings.task, settings.source) == (task.name, next(iter(task.sources)))
    assert set(task.sections) <= set(settings.resolved())
    others = {name for other in every_task() for name in other.sections} - set(task.sections)
    assert not others & set(settings.resolved())


def test_a_written_file_means_the_same(settings, tmp_path):
    """config.yml, read again, gives the same settings."""
    settings.save(tmp_path / "log")
    assert UserParams(tmp_path / "log" / "config.yml").resolved() == settings.resolved()


def test_objectives_are_places(task):
    """A search knows at least one figure of the summary, by the keys that lead there."""
    places = task.objectives()
    assert places
    assert all(isinstance(key, str) for place in places for key in place)


def test_facts_are_no_settings(task):
    """What the data tell a loss is not asked of the settings file."""
    assert set(task.facts) <= set(from_the_data())


def test_records_are_files_of_the_run(task):
    """They are names of their own, so that --overwrite and a new run know them."""
    assert not set(task.run_files) & set(RUN_FILES)
    assert all("/" not in name and "*" not in name for name in task.run_files)


def test_overwriting_removes_the_files_of_all_tasks(task, settings, tmp_path):
    """Files that two tasks call alike are removed once; the run's own are written anew."""
    settings.log_dir = str(tmp_path / "log")
    left = {name for other in every_task() for name in other.run_files}
    for name in left:
        (tmp_path / "log").mkdir(exist_ok=True)
        (tmp_path / "log" / name).touch()
    one = dict.fromkeys(task.run_files[:1], "new")
    RunFolder(settings).prepare(one, IdentityNormalizer(), overwrite=True)
    assert {path.name for path in (tmp_path / "log").iterdir()} & left == set(one)


def test_a_card_of_a_run_that_knows_nothing(task, tmp_path):
    """Of an untested network the card says so, in the unit of the task."""
    path = write_model_card(tmp_path / "card.md", {"task": task.name, "config": None})
    text = path.read_text(encoding="utf-8")
    assert "Not tested yet." in text
    assert f"| {task.card({})['unit']} |" in text
