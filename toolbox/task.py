"""The contract of a task: everything that distinguishes one kind of work from another.

`Trainer`, `Tester`, `Predictor`, the search, the exporter and the model card know that tasks exist,
but not which ones. To add a task:

1. Create a folder ``toolbox/tasks/NAME/`` with a subclass of `Task`, and a subclass of `Source`
   that supplies its data. Import TensorFlow inside the methods, so that the settings can be checked
   without it.
2. Add one row to `toolbox.registry.TASKS`.

Everything else follows: ``source: NAME`` in a settings file, the section of that name with the
arguments of the source, training with exact resume, ``test`` with a page, ``predict``, ``export``,
the search over the figures in `Task.objectives`, and the model card. Contract tests run for every
row. `docs/architecture.md` walks through an example.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from toolbox.config import Settings
from toolbox.data_generator import Batches, DataGenerator, Pair, without_gaps
from toolbox.errors import ConfigError
from toolbox.style import Style

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

    from toolbox.augment import Augmenter
    from toolbox.normalizer import Normalizer
    from toolbox.pages import Page
    from toolbox.run import Run
    from toolbox.settings import UserParams

NormFunc = Callable[[np.ndarray, np.ndarray], Pair]
#: Folder in a log folder with the plain networks that a test compares with.
BASELINES = "baselines"
#: A title and Markdown, in the order of a model card.
CardSections = dict[str, str]


class Source(ABC):
    """Training, validation and test data of a task, in physical units.

    A subclass implements `train`, `validation` and `test`. The other arguments of its constructor,
    with types and defaults, form the YAML section of its name.

    Parameters
    ----------
    data_dir : str
        Folder of the data.
    sr_scale : int, optional
        Enlargement factor from inputs to targets.
    """

    #: Settings of its section that a resumed run may change, e.g. the location of files.
    free_settings: ClassVar[tuple[str, ...]] = ()
    #: Lines that a program should print.
    notes: Sequence[str] = ()
    #: Range of the values, if the kind of data fixes it; None for that of the training data.
    norm_range: tuple[float, float] | None = None

    def __init__(self, data_dir: str, sr_scale: int | None = None) -> None:
        self.data_dir = Path(data_dir)
        self.sr_scale = sr_scale

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the keys that the YAML section of this source accepts."""
        signature = inspect.signature(cls.__init__, eval_str=True)
        own = ("self", "data_dir", "sr_scale")
        return {name: p for name, p in signature.parameters.items() if name not in own}

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a run whose defaults this source changes.

        Parameters
        ----------
        section : dict
            The checked YAML section of this source.

        Returns
        -------
        dict
            Defaults by key. The section of a model is merged key by key, and so is the source's
            own, e.g. with the names of classes from its files.
        """
        return {}

    @abstractmethod
    def train(self) -> Pair:
        """Return the training data: inputs (N, h, w, C) and targets (N, H, W, C)."""

    @abstractmethod
    def validation(self) -> Pair:
        """Return the validation data, as `train`."""

    @abstractmethod
    def test(self) -> Pair:
        """Return the test data, as `train`."""

    def split(self, name: str) -> Pair:
        """Return the data of a split: train, validation or test."""
        pair: Pair = {"train": self.train, "validation": self.validation, "test": self.test}[name]()
        return pair

    def sample(self) -> Pair:
        """Return training data without gaps, enough to fit a normaliser."""
        return without_gaps(*self.train())

    def batches(
        self,
        split: str,
        norm_func: NormFunc,
        batch_size: int,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> Batches:
        """Return the batches of a split.

        Parameters
        ----------
        split : {'train', 'validation'}
            The split.
        norm_func : callable
            ``norm_func(x, y) -> (x, y)``, from physical units to those of the network.
        batch_size : int
            Examples per batch.
        augmenter : toolbox.augment.Augmenter, optional
            Applied in training, before the data are normalised.
        seed : int
            Seed of all random choices.
        """
        x, y = self.split(split)
        batches = DataGenerator(x, y, norm_func, batch_size, augmenter, seed)
        if left_out := len(x) - batches.num_imgs:
            note = (
                f"{left_out} of {len(x)} pairs for {split} hold a missing pixel (NaN or infinity) "
                f"and are left out."
            )
            self.notes = [*self.notes, note]
        return batches

    @classmethod
    def like(cls, source: Source, gives: str) -> Self:
        """Return `source` if it is of this class; otherwise refuse it, naming what it must give."""
        if isinstance(source, cls):
            return source
        raise ConfigError(
            f"source must give {gives}, as {cls.__name__} does; received "
            f"{type(source).__name__}. Make it a subclass."
        )

    def facts(self) -> dict[str, Any]:
        """Return properties of the data for losses and metrics: numbers by argument name.

        Each name must be in `Task.facts`; otherwise it would count as a setting.
        """
        return {}

    def records(self) -> dict[str, str]:
        """Return what a run should record about its data: text by name in `Task.run_files`."""
        return {}

    def share(self) -> None:
        """Prepare the data for several processes that read them."""


class _Plain(Source):
    """Adapter for a third-party class that has only the three methods."""

    def __init__(self, inner: Any, data_dir: str, sr_scale: int | None) -> None:
        super().__init__(data_dir, sr_scale)
        self.inner = inner

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Return no keys: the other arguments of its constructor are unknown."""
        return {}

    def train(self) -> Pair:
        pair: Pair = self.inner.train()
        return pair

    def validation(self) -> Pair:
        pair: Pair = self.inner.validation()
        return pair

    def test(self) -> Pair:
        pair: Pair = self.inner.test()
        return pair


def source_class(name: str) -> type[Source]:
    """Return the class of a source; without `Source` as base, it has no settings or defaults."""
    from toolbox.registry import SOURCES

    found = SOURCES.resolve(name)
    return found if isinstance(found, type) and issubclass(found, Source) else _Plain


def open_source(settings: UserParams) -> Source:
    """Open the data that the settings name.

    Parameters
    ----------
    settings : UserParams
        Settings; the section of the source becomes its keyword arguments.

    Raises
    ------
    ConfigError, DataError
        If the data are missing or do not fit the settings.
    """
    from toolbox.registry import SOURCES

    cls = SOURCES.resolve(settings.source)
    opened = cls(settings.data_dir, sr_scale=settings.scale, **settings.source_params)
    if isinstance(opened, Source):
        return opened
    return _Plain(opened, settings.data_dir, settings.scale)


def check_shape(settings: UserParams, shape: Sequence[int]) -> None:
    """Refuse images (h, w, C) whose shape differs from that in the settings."""
    if tuple(shape) != tuple(settings.input_shape):
        raise ConfigError(
            f"{settings.fname}: input_shape must be that of the LR images in "
            f"{settings.data_dir}, {list(shape)}; received {list(settings.input_shape)}. "
            f"Change that line."
        )


@dataclasses.dataclass
class TestResult:
    """The results of a test.

    Attributes
    ----------
    summary : dict
        Content of ``summary.json`` (JSON types).
    text : str
        Text to print: the figures as a table, and warnings.
    tables : dict of str to pandas.DataFrame
        Tables to write, by file name (``pictures.csv``).
    draw : callable
        Writes pictures and other files into a folder, and returns the page ``report.html``.
    """

    __test__: ClassVar[bool] = False

    summary: dict[str, Any]
    text: str
    tables: dict[str, pd.DataFrame]
    draw: Callable[[Path], Page]


class FilePredictor(Protocol):
    """Applies an opened run to files, one at a time."""

    @property
    def suffixes(self) -> Sequence[str]:
        """Endings of the files to use from a folder."""

    @property
    def what(self) -> str:
        """Words for "none of them" in a message about a folder, e.g. ``no picture``."""

    def check(self) -> None:
        """Refuse mistakes in the settings, once for all files."""

    def suffix(self, path: Path) -> str:
        """Return the ending of the result of a file."""

    def predict(self, path: Path, target: Path) -> None:
        """Write the result of one file, completely or not at all, and print what was done."""


class FileInspector(Protocol):
    """Checks whether files suit a network, one at a time."""

    @property
    def suffixes(self) -> Sequence[str]:
        """Endings of the files to use from a folder."""

    @property
    def what(self) -> str:
        """Words for "none of them" in a message about a folder, e.g. ``no map``."""

    def inspect(self, path: Path, page: Path | None, brief: bool) -> str:
        """Print the findings about a file, or if `brief` only the verdict; write `page` if given.

        Returns
        -------
        str
            The grade: ``fine``, ``note`` or ``warning``.
        """


class FileMeasurer(Protocol):
    """Measures files, one at a time, without a network."""

    @property
    def suffixes(self) -> Sequence[str]:
        """Endings of the files to use from a folder."""

    @property
    def what(self) -> str:
        """Words for "none of them" in a message about a folder, e.g. ``no picture``."""

    @property
    def written(self) -> Sequence[str]:
        """Names of the files that `write` may leave in a folder."""

    def measure(self, path: Path, name: str, draw: bool) -> None:
        """Measure one file and print the results.

        Parameters
        ----------
        path : pathlib.Path
            The file.
        name : str
            Its name in the tables.
        draw : bool
            Whether a page will be written.
        """

    def write(self, folder: Path) -> None:
        """Write tables and a page of all measured files into an empty folder."""


class ImagePredictor(Protocol):
    """Applies an opened run to images in memory, such as those of a viewer, one at a time."""

    def check(self) -> None:
        """Refuse mistakes in the settings, once for all images."""

    def predict_image(self, pixels: np.ndarray) -> np.ndarray:
        """Return the result of an image (H, W) or (H, W, C) in the same type.

        Raises
        ------
        DataError
            If shape or type do not fit the network.
        """

    def doubts(self, pixels: np.ndarray, pixel_nm: float | None = None) -> list[str]:
        """Return how an image differs from the training data, one line per difference.

        Parameters
        ----------
        pixels : numpy.ndarray
            The image.
        pixel_nm : float, optional
            Width of a pixel, nm.
        """


class MeasuredImage(NamedTuple):
    """The measurements of an image.

    Attributes
    ----------
    text : str
        The figures with their units, one per line.
    table : list of list of str
        Headings, then the cells of each object found.
    notes : list of str
        Notes for the user.
    outlines : list of (str, numpy.ndarray)
        Name and (n, 2) rows and columns of each edge, in pixels whose centres are whole numbers.
    """

    text: str
    table: list[list[str]]
    notes: list[str]
    outlines: list[tuple[str, np.ndarray]]


class ImageMeasurer(Protocol):
    """Measures images in memory, one at a time, without a network."""

    def measure_image(
        self, pixels: np.ndarray, pixel_nm: tuple[float, float] | None = None
    ) -> MeasuredImage:
        """Measure an image (H, W).

        Parameters
        ----------
        pixels : numpy.ndarray
            The image.
        pixel_nm : (float, float), optional
            Width and height of a pixel, nm; without them, lengths are in pixels.

        Raises
        ------
        DataError
            If there is nothing to measure.
        """


class Task(ABC):
    """One kind of work; see the docstring of this module.

    Attributes
    ----------
    name : str
        Its row in `toolbox.registry.TASKS`.
    sources : dict of str to str
        Its sources as ``"module:class"``, by their names in settings files; ``task: NAME`` alone
        selects the first.
    style : Style
        Unit and colours of the values.
    sections : dict of str to type
        Its own YAML sections, each with the `Settings` class that checks it.
    predict_options : type
        Settings of ``predict`` that only this task has; also command-line options.
    instead : dict of str to str
        What to use instead of settings of ``predict`` that only other tasks have, for the message
        that refuses them.
    inspect_options : tuple of str
        Those of `predict_options` that ``inspect`` accepts too.
    measure_options : type
        Settings of ``measure``, which are command-line options; see `measurer`.
    free_settings : tuple of str
        Keys and sections that a resumed run may change, as they do not affect what is trained.
    facts : tuple of str
        Arguments of losses and metrics that come from the data (`Source.facts`).
    run_files : tuple of str
        Files in a log folder that `Source.records` supplies.
    results : {'images', 'labels'}
        Kind of result of its networks, `SRModel.results`.
    mark : str
        Suffix of a result's file name when it is written next to its input.
    """

    name: ClassVar[str]
    sources: ClassVar[Mapping[str, str]]
    style: ClassVar[Style] = Style()
    sections: ClassVar[Mapping[str, type[Settings]]] = {}
    predict_options: ClassVar[type[Settings]] = Settings
    instead: ClassVar[Mapping[str, str]] = {}
    inspect_options: ClassVar[tuple[str, ...]] = ()
    measure_options: ClassVar[type[Settings]] = Settings
    free_settings: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[tuple[str, ...]] = ()
    run_files: ClassVar[tuple[str, ...]] = ()
    results: ClassVar[str] = "images"
    mark: ClassVar[str] = "x{scale}"

    def check(self, settings: UserParams) -> None:
        """Refuse settings that contradict each other, without reading data."""

    def check_data(
        self, settings: UserParams, source: Source, validation: Batches, normalizer: Normalizer
    ) -> None:
        """Refuse data that do not fit the settings, before the first step of a training run."""

    def baselines(self, settings: UserParams) -> Mapping[str, Mapping[str, Any]]:
        """Return the plain networks that a test compares with if they were trained.

        Returns
        -------
        dict of str to dict
            By name, the settings that differ from those of the run. ``train --baselines`` trains
            them in the folder ``baselines`` of the log folder; see `Run.baselines`.
        """
        return {}

    def preview(
        self, settings: UserParams, validation: Batches, normalizer: Normalizer
    ) -> Any | None:
        """Return the callback that draws validation data during training; None for none."""
        from toolbox.callbacks import TestLogger

        return TestLogger(
            settings.log_dir,
            settings.log_period,
            validation,  # type: ignore[arg-type]
            normalizer,
            data_range=normalizer.data_range,
            data_min=normalizer.data_min,
            style=self.style,
        )

    @abstractmethod
    def evaluate(self, run: Run, source: Source, split: str, compare: bool = True) -> TestResult:
        """Evaluate an opened run.

        Parameters
        ----------
        run : toolbox.run.Run
            Settings, normaliser and network, ready for use.
        source : Source
            The data.
        split : {'test', 'validation', 'train'}
            The split to evaluate.
        compare : bool
            Also evaluate baselines; a search needs only the figures of the network.
        """

    @abstractmethod
    def objectives(self) -> list[tuple[str, ...]]:
        """Return the paths of figures in the summary that a search may optimise."""

    def predictor(self, run: Run) -> FilePredictor:
        """Return the object that applies a run to files."""
        raise ConfigError(
            f"predict is not for {self.name}: its networks are used from Python only."
        )

    def image_predictor(self, run: Run) -> ImagePredictor:
        """Return the object that applies a run to images in memory."""
        raise ConfigError(f"networks of {self.name} are not for images in memory; use predict.")

    def image_measurer(self, settings: Any) -> ImageMeasurer:
        """Return the object that measures images in memory without a network.

        Parameters
        ----------
        settings : Settings
            Of the class `measure_options`.
        """
        raise ConfigError(f"{self.name} cannot measure images in memory.")

    def pixel_nm(self, path: Path) -> tuple[float, float] | None:
        """Return width and height of a pixel, nm, as stated in a file; None if they are not."""
        return None

    def inspector(self, settings: Any, folder: Path | None) -> FileInspector:
        """Return the object that inspects files before a network uses them.

        Parameters
        ----------
        settings : PredictParams
            How files are read, see `inspect_options`.
        folder : pathlib.Path or None
            Log folder of the run to compare the files with; None for no comparison.
        """
        names = " and ".join(task.name for task in inspecting_tasks())
        raise ConfigError(
            f"inspect is not for {self.name}; it is for {names}. Leave out the model to inspect a "
            f"file alone."
        )

    def measurer(self, settings: Any) -> FileMeasurer:
        """Return the object that measures files without a network.

        Parameters
        ----------
        settings : Settings
            Of the class `measure_options`.
        """
        raise ConfigError(f"measure is not for {self.name}.")

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of the model card that are specific to the task.

        Parameters
        ----------
        card : mapping
            From `toolbox.model_card.card_of_run`: ``config``, ``summary``, ``data``, ...

        Returns
        -------
        dict
            ``unit``, ``sign`` (or None), ``limits`` (list of str), and Markdown under ``scores``
            and ``validity``.
        """
        return {
            "unit": self.style.unit or "the data's own",
            "sign": None,
            "limits": [],
            "scores": "",
            "validity": "",
        }


def open_task(name: str) -> Task:
    """Return a task by its row in `toolbox.registry.TASKS`."""
    from toolbox.registry import TASKS

    task: Task = TASKS.resolve(name)()
    return task


def every_task() -> list[Task]:
    """Return all tasks."""
    from toolbox.registry import TASKS

    return [open_task(name) for name in TASKS]


def inspecting_tasks() -> list[Task]:
    """Return the tasks whose files can be inspected; without a model, the first one is used."""
    return [task for task in every_task() if type(task).inspector is not Task.inspector]


def measuring_task() -> Task:
    """Return the first task that measures files."""
    return next(t for t in every_task() if type(t).measurer is not Task.measurer)


def image_tasks() -> list[Task]:
    """Return the tasks whose networks accept images in memory."""
    return [t for t in every_task() if type(t).image_predictor is not Task.image_predictor]


def task_of_source(source: str) -> str:
    """Return the task that owns a source; the first task if none does."""
    from toolbox.registry import TASKS

    return next((t.name for t in every_task() if source in t.sources), next(iter(TASKS)))
