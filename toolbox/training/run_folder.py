"""The log folder of a training run: what belongs to it, and whether it may be written."""

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

#: Everything that every run writes into its log folder; what a task adds is in `Task.run_files`.
RUN_FILES = (
    FOLDER,  # first, so that what is left of a run cannot be resumed
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
        Settings of the run that is to be written there.
    """

    def __init__(self, settings: UserParams) -> None:
        self.settings = settings
        self.path = Path(settings.log_dir)

    def _files(self) -> list[Path]:
        patterns = [*RUN_FILES, *(name for task in every_task() for name in task.run_files)]
        # Two tasks may call a file alike.
        return list(dict.fromkeys(p for pattern in patterns for p in self.path.glob(pattern)))

    def refuse_other_run(self, may_hold: Iterable[str] = (), overwrite: bool = False) -> None:
        """Refuse a folder that holds a run already.

        Parameters
        ----------
        may_hold : iterable of str
            Files that are no obstacle.
        overwrite : bool
            Whether the run may be replaced.
        """
        found = self._files()
        if overwrite or {path.name for path in found} <= set(may_hold):
            return
        resumable = next((self.path / FOLDER).glob("state_*"), None) is not None
        advice = "Go on with it with --resume, replace" if resumable else "Replace"
        raise ConfigError(
            f"{self.settings.fname}: log_dir {self.path} already holds a run ({found[0].name}). "
            f"{advice} it with --overwrite, or name another log_dir."
        )

    def prepare(self, records: Mapping[str, str], normalizer: Normalizer, overwrite: bool) -> None:
        """Make the folder and write down what the run depends on; nothing is touched before.

        Parameters
        ----------
        records : dict of str to str
            What the data leave there (`Source.records`).
        normalizer : toolbox.normalizer.Normalizer
            As fitted.
        overwrite : bool
            Remove the run that the folder holds.
        """
        if overwrite:
            for path in self._files():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        for torn in self.path.glob(".*.tmp*"):  # a run that was killed while it wrote
            torn.unlink()
        self.settings.save(self.path)
        save_normalizer(normalizer, self.path)
        for name, text in records.items():
            with replacing(self.path / name) as beside:
                beside.write_text(text, encoding="utf-8")

    def kept(self, which: str) -> str:
        """Say where the weights of the best or the last complete epoch are, if there are any."""
        for name in dict.fromkeys((which, "last")):
            path = self.path / f"weights_{name}.h5"
            if path.is_file():
                return f"the weights of the {name} complete epoch are in {path}"
        return "no epoch was complete, so there are no weights"
