"""The log folder of a training run: its files, and whether they may be replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolbox.errors import ConfigError
from toolbox.io.atomic import replacing
from toolbox.normalizer import FILE_NAME, Normalizer, save_normalizer
from toolbox.settings import CONFIG_NAME, UserParams
from toolbox.task import BASELINES, every_task
from toolbox.training.checkpoint import FOLDER

#: Files that every run writes into its log folder; `Task.run_files` names those of a task.
RUN_FILES = (
    FOLDER,  # removed first, so that a partly removed run cannot be resumed
    "history.csv",
    ".weights_*",
    "history_*.png",
    "weights_*.h5",
    ".best_model_on_*",
    "best_model_on_*.h5",
    "test_*.png",
    CONFIG_NAME,
    FILE_NAME,
    "test_result",
    BASELINES,
)


class RunFolder:
    """A log folder.

    Parameters
    ----------
    settings : UserParams
        Settings of the run to be written there.
    """

    def __init__(self, settings: UserParams) -> None:
        self.settings = settings
        self.path = Path(settings.log_dir)

    def _files(self) -> list[Path]:
        patterns = [*RUN_FILES, *(name for task in every_task() for name in task.run_files)]
        # Two tasks may use the same file name.
        return list(dict.fromkeys(p for pattern in patterns for p in self.path.glob(pattern)))

    def refuse_other_run(self, may_hold: Iterable[str] = (), overwrite: bool = False) -> None:
        """Refuse a folder that already holds a run.

        Parameters
        ----------
        may_hold : iterable of str
            Names of files that may exist.
        overwrite : bool
            Whether the run may be replaced.
        """
        found = self._files()
        if overwrite or {path.name for path in found} <= set(may_hold):
            return
        resumable = next((self.path / FOLDER).glob("state_*"), None) is not None
        advice = "Resume it with --resume, replace" if resumable else "Replace"
        raise ConfigError(
            f"{self.settings.fname}: log_dir {self.path} already holds a run ({found[0].name}). "
            f"{advice} it with --overwrite, or name another log_dir."
        )

    def prepare(self, records: Mapping[str, str], normalizer: Normalizer, overwrite: bool) -> None:
        """Create the folder and write what the run depends on.

        Parameters
        ----------
        records : dict of str to str
            Files of the source, text by name (`Source.records`).
        normalizer : toolbox.normalizer.Normalizer
            The fitted normaliser.
        overwrite : bool
            Remove the run that the folder holds.
        """
        if overwrite:
            for path in self._files():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        for torn in self.path.glob(".*.tmp*"):  # left by a run that was killed while writing
            torn.unlink()
        self.settings.save(self.path)
        save_normalizer(normalizer, self.path)
        for name, text in records.items():
            with replacing(self.path / name) as beside:
                beside.write_text(text, encoding="utf-8")

    def kept(self, which: str) -> str:
        """Return a sentence that states where the weights of the best or last epoch are."""
        for name in dict.fromkeys((which, "last")):
            path = self.path / f"weights_{name}.h5"
            if path.is_file():
                return f"the weights of the {name} complete epoch are in {path}"
        return "no epoch is complete, so there are no weights"
