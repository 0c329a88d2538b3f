"""Testing: what a run is worth on data it has not seen, as tables, pictures and a page."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import keras

from toolbox.data_generator import DataGenerator
from toolbox.evaluator import Evaluator
from toolbox.io.atomic import replacing, replacing_folder
from toolbox.io.tables import write_table
from toolbox.run import Run
from toolbox.settings import UserParams
from toolbox.task import TestResult

RESULT_DIR, SUMMARY_NAME, REPORT_NAME = "test_result", "summary.json", "report.html"
#: Files of a kind that are named before the rest is only counted.
_NAMED = 3


class Tester:
    """Tests a trained network; what is measured and shown is the task's.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    split : {'test', 'validation', 'train'}
        The data that are meant.

    Attributes
    ----------
    run : toolbox.run.Run
        The opened run; the network that is tested is the one that predictions use.
    normalizer : toolbox.normalizer.Normalizer
        As saved by the training.
    source : toolbox.task.Source
        The data.
    """

    __test__ = False  # not a test, whatever pytest makes of the manual's name

    def __init__(self, u_params: UserParams, split: str = "test") -> None:
        self.u_params = u_params
        self.split = split
        self.run = Run(u_params)
        self.weights = self.run.weights[0]
        self.normalizer = self.run.normalizer
        self.source = self.run.source()

    @functools.cached_property
    def test_data_generator(self) -> DataGenerator:
        """The images of the split, made when asked for."""
        pairs = self.source.split(self.split)
        p = self.u_params
        return DataGenerator(*pairs, self.normalizer.normalize_pair, p.batch_size, seed=p.seed)

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Measures and draws images of that shape."""
        shape = self.test_data_generator.raw_hr_imgs.shape[1:]
        low, span = self.normalizer.data_min, self.normalizer.data_range
        return Evaluator(shape, span, data_min=low, style=self.run.task.style)

    def test(self, model: keras.Model | None = None, num_samples: int = 4) -> dict[str, Any]:
        """Test the run and write ``test_result/`` into the log folder.

        Parameters
        ----------
        model : SRModel, optional
            A network to test instead of the one that the settings describe; the weights that the
            settings name are read into it.
        num_samples : int
            Images in one picture.

        Returns
        -------
        dict
            What ``summary.json`` holds.
        """
        self._adopt(model)
        self.run.num_samples = num_samples
        folder = Path(self.u_params.log_dir, RESULT_DIR)
        # Results of an earlier test are replaced as a whole, once the new ones are complete.
        with replacing_folder(folder) as beside:
            result = self._write(beside)
        for note in self.source.notes:
            print(note)
        print(result.text)
        print(f"report:   {folder / REPORT_NAME}")
        print(f"tables:   {folder / SUMMARY_NAME} and {_files(folder, '*.csv')}")
        if pictures := _files(folder, "*.png"):
            print(f"pictures: {pictures} in {folder}")
        return result.summary

    def _write(self, folder: Path) -> TestResult:
        """Test the run and write all files."""
        self.run.result_dir = folder
        result = self.run.task.evaluate(self.run, self.source, self.split)
        with replacing(folder / SUMMARY_NAME) as path:
            path.write_text(json.dumps(result.summary, indent=2) + "\n", encoding="utf-8")
        for name, table in result.tables.items():
            write_table(table, folder / name)
        result.draw(folder).write(folder / REPORT_NAME)
        return result

    def measure(self, model: keras.Model | None = None) -> dict[str, Any]:
        """Test the run without writing anything, and without baselines.

        Parameters
        ----------
        model : keras.Model, optional
            See `test`.

        Returns
        -------
        dict
            ``summary.json``, of the network alone.
        """
        self._adopt(model)
        return self.run.task.evaluate(self.run, self.source, self.split, compare=False).summary

    def _adopt(self, model: keras.Model | None) -> None:
        print(f"testing {self.weights}", flush=True)
        if model is not None:
            self.run.adopt(model)


def _files(folder: Path, pattern: str) -> str:
    """List the files of a kind, the first few by name."""
    names = sorted(path.name for path in folder.glob(pattern))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
