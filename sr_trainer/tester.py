"""Testing: how good a run is on data that it has not seen, as tables, pictures and a page."""

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
#: How many files of a kind are named; the others are only counted.
_NAMED = 3


class Tester:
    """Tests a trained network; the task defines what is measured and shown.

    Parameters
    ----------
    u_params : UserParams
        Settings.
    split : {'test', 'validation', 'train'}
        The data to test on.

    Attributes
    ----------
    run : toolbox.run.Run
        The opened run; the test uses the same network as predictions do.
    normalizer : toolbox.normalizer.Normalizer
        As saved by the training run.
    source : toolbox.task.Source
        The data.
    """

    __test__ = False  # pytest would take the manual's name for a test

    def __init__(self, u_params: UserParams, split: str = "test") -> None:
        self.u_params = u_params
        self.split = split
        self.run = Run(u_params)
        self.weights = self.run.weights[0]
        self.normalizer = self.run.normalizer
        self.source = self.run.source()

    @functools.cached_property
    def test_data_generator(self) -> DataGenerator:
        """The images of the split, made on first use."""
        pairs = self.source.split(self.split)
        p = self.u_params
        return DataGenerator(*pairs, self.normalizer.normalize_pair, p.batch_size, seed=p.seed)

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """The evaluator for images of the split's shape."""
        shape = self.test_data_generator.raw_hr_imgs.shape[1:]
        low, span = self.normalizer.data_min, self.normalizer.data_range
        return Evaluator(shape, span, data_min=low, style=self.run.task.style)

    def test(self, model: keras.Model | None = None, num_samples: int = 4) -> dict[str, Any]:
        """Test the run and write ``test_result/`` into the log folder.

        Parameters
        ----------
        model : SRModel, optional
            Network to test instead of the one that the settings describe; the weights that the
            settings name are loaded into it.
        num_samples : int
            Images per picture.

        Returns
        -------
        dict
            The content of ``summary.json``.
        """
        self._adopt(model)
        self.run.num_samples = num_samples
        folder = Path(self.u_params.log_dir, RESULT_DIR)
        # Results of an earlier test are replaced only when the new ones are complete.
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
        """Test the run without baselines, and write nothing.

        Parameters
        ----------
        model : keras.Model, optional
            See `test`.

        Returns
        -------
        dict
            As in ``summary.json``, for the network alone.
        """
        self._adopt(model)
        return self.run.task.evaluate(self.run, self.source, self.split, compare=False).summary

    def _adopt(self, model: keras.Model | None) -> None:
        print(f"testing {self.weights}", flush=True)
        if model is not None:
            self.run.adopt(model)


def _files(folder: Path, pattern: str) -> str:
    """List the files that match a pattern, the first few by name."""
    names = sorted(path.name for path in folder.glob(pattern))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
