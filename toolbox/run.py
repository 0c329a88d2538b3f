"""An opened run: the only way from a file, a folder or a name to a network in use."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolbox.config import COMMAND_LINE, check, read_yaml
from toolbox.errors import ConfigError, DataError, WeightsError, not_found
from toolbox.io.weights import load_weights
from toolbox.model.build import build_network, policy
from toolbox.normalizer import (
    FILE_NAME,
    MinMaxNormalizer,
    Normalizer,
    load_normalizer,
    normalizer_from,
)
from toolbox.predict_settings import PredictParams
from toolbox.pretrained import pretrained_folder
from toolbox.registry import MODELS
from toolbox.settings import CONFIG_NAME, UserParams
from toolbox.task import BASELINES, Source, Task, open_source, open_task

if TYPE_CHECKING:
    from toolbox.inference.super_resolver import SuperResolver


#: Settings that affect how a run is written and used, not what is trained.
_ABOUT_USE = ("checkpoint_minutes", "log_dir", "log_period", "predict", "test_pictures")


class Run:
    """Checked settings, weights, normaliser and network of a training run.

    Parameters
    ----------
    settings : UserParams
        The settings.
    weights : sequence of pathlib.Path, optional
        Weights files, whose results are averaged; default the one that the settings name.
    predict : PredictParams, optional
        How the network is used; default as in the settings.
    precision : str, optional
        Precision policy of the network, instead of the one it was trained with.
    own : pathlib.Path, optional
        The run's own weights; all others must have the same normaliser. Default the first.

    Attributes
    ----------
    settings, weights, predict
        As given, or as in the settings.
    normalizer : toolbox.normalizer.Normalizer
        Normaliser that the weights were trained with.
    task : toolbox.task.Task
        Task of the run.
    folder : pathlib.Path
        Log folder of the run.
    num_samples : int
        Images per picture of a test.
    result_dir : pathlib.Path or None
        Folder that will be passed to `TestResult.draw`, for files too large to be kept until then;
        None if the test writes nothing.

    Raises
    ------
    ConfigError, DataError, WeightsError
        If a part is missing, or the parts do not fit together.
    """

    num_samples = 4
    result_dir: Path | None = None

    def __init__(
        self,
        settings: UserParams,
        weights: Sequence[Path] = (),
        predict: PredictParams | None = None,
        precision: str | None = None,
        own: Path | None = None,
    ) -> None:
        self.settings = settings
        self.predict: Any = settings.predict if predict is None else predict
        self.task: Task = open_task(settings.task)
        self.weights = list(weights) or [find_weights(settings)]
        self.normalizer = _normalizer_of(settings, own or self.weights[0])
        for file in self.weights:
            _refuse_other_network(settings, file)
            if file == (own or self.weights[0]):
                continue
            if not self.normalizer.converts_like(_normalizer_of(settings, file)):
                raise ConfigError(
                    f"{file}: was trained with another normaliser than {own or self.weights[0]}; "
                    f"its results cannot be converted back. Leave out this file."
                )
        beside = (own or self.weights[0]).parent
        self.folder = beside if (beside / CONFIG_NAME).is_file() else Path(settings.log_dir)
        self._config = settings.resolved() | ({"precision": precision} if precision else {})

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        options: Mapping[str, Any] | None = None,
        weights: Sequence[Path] = (),
        precision: str | None = None,
    ) -> Run:
        """Open a run for use.

        Parameters
        ----------
        source : path-like
            Settings file, log folder, or name of a model that ships with the project.
        options : dict, optional
            Settings of ``predict`` that override those of the file.
        weights : sequence of pathlib.Path, optional
            Weights files instead of the run's own and of those named in `options`.
        precision : str, optional
            Precision policy of the network, instead of the one it was trained with.
        """
        path = Path(source)
        if path.suffix not in (".yml", ".yaml") and not path.exists():
            if len(path.parts) != 1 or os.fspath(source).endswith(("/", os.sep)):
                raise ConfigError(
                    f"{not_found(path, 'folder')}. Name the log folder of a training run."
                )
            path = pretrained_folder(os.fspath(source))
        settings = UserParams(path)
        if path.is_dir():  # without normalizer.json, the file names the folder of its origin
            settings.log_dir = os.fspath(path)
        given = settings.predict.model_dump(exclude_unset=True)
        check(PredictParams, dict(options or {}), COMMAND_LINE)
        predict = check(PredictParams, {**given, **(options or {})}, os.fspath(path), "predict")
        # A trained run is used with its own weights, not with its initial ones.
        own = Path(settings.log_dir, settings.read_test_weights)
        if not own.is_file():
            own = find_weights(settings)
        files = list(weights) or [Path(name) for name in predict.weights] or [own]
        return cls(settings, files, predict, precision, own if own.is_file() else None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the networks out: who is sent a run reads them from the files of its weights."""
        state = {"name": self.normalizer.name, **self.normalizer.state()}
        values, predict = self.settings.resolved(), self.predict.model_dump()
        kept = {"weights": self.weights, "folder": self.folder, "_config": self._config}
        if "resolver" in self.__dict__:  # it knows the checksum of the weights
            kept["resolver"] = self.resolver
        return _received, (self.settings.fname, values, predict, state, kept)

    @property
    def scale(self) -> int:
        """Enlargement factor."""
        return self.settings.scale

    @property
    def config(self) -> dict[str, Any]:
        """All settings as plain values, as in ``config.yml``."""
        return dict(self._config)

    @functools.cached_property
    def networks(self) -> list[Any]:
        """The networks with their weights, for images of any size."""
        return [self._loaded(path) for path in self.weights]

    @functools.cached_property
    def resolver(self) -> SuperResolver:
        """The networks with their normaliser, physical units in and out."""
        return self._resolver(self.networks, self.weights)

    def resolver_of(self, weights: Sequence[Path]) -> SuperResolver:
        """Return a resolver with other weights of the same run."""
        return self._resolver([self._loaded(path) for path in weights], weights)

    def pixel_stage(self) -> SuperResolver | None:
        """Return a resolver with the weights from before the adversarial stage; None if none."""
        from toolbox.callbacks import PIXEL_WEIGHTS

        weights = self.weights[0].with_name(PIXEL_WEIGHTS)
        if not weights.is_file() or weights.samefile(self.weights[0]):
            return None
        print(f"testing {weights}", flush=True)
        return self.resolver_of([weights])

    def baselines(self) -> tuple[dict[str, Run], list[str]]:
        """Open the plain networks that were trained alongside this run.

        Returns
        -------
        (dict of str to Run, list of str)
            The runs by their names in `Task.baselines`, and warnings about those left out because
            their settings differ.
        """
        found: dict[str, Run] = {}
        warnings: list[str] = []
        for name, changes in self.task.baselines(self.settings).items():
            folder = Path(self.settings.log_dir, BASELINES, name)
            if not (folder / self.settings.read_test_weights).is_file():
                continue
            run = Run.open(folder)
            wanted = self.settings.variant(changes, folder, "").resolved()
            trained = run.settings.resolved()
            free = {"data_dir", *_ABOUT_USE, *self.task.free_settings}
            other = [k for k in wanted if k not in free and trained.get(k) != wanted[k]]
            if other:
                warnings.append(
                    f"baseline {name} is left out: it was trained with another {other[0]}. Train "
                    f"it again with --baselines."
                )
                continue
            print(f"testing {run.weights[0]}", flush=True)
            found[name] = run
        return found, warnings

    def adopt(self, network: Any) -> None:
        """Use a network that the caller built, instead of building one from the settings.

        The weights are loaded into it. If it was built for images of one size, a copy for any size
        with the same weights is used.

        Parameters
        ----------
        network : SRModel
            For an adversarial model, the complete model or the generator.
        """
        load_weights(network, self.weights[0])
        with policy(self._config["precision"]):
            self.__dict__["networks"] = [network.network().for_any_size()]
        self.__dict__.pop("resolver", None)

    def _loaded(self, path: Path) -> Any:
        network = build_network(self._config)
        load_weights(network, path)
        return network

    def _resolver(self, networks: Sequence[Any], weights: Sequence[Path]) -> SuperResolver:
        from toolbox.inference.super_resolver import SuperResolver

        if self.task.results != "images":
            raise ConfigError(
                f"{self.folder}: its network gives {self.task.results}, not images. Use it with "
                f"predict and test of {self.task.name}."
            )
        return SuperResolver(networks, self.normalizer, self._config, self.folder, weights)

    def source(self) -> Source:
        """Open the data that the settings name."""
        return open_source(self.settings)

    def facts(self) -> dict[str, Any]:
        """Return the first entries of every summary: model, weights, data, scale."""
        return {
            "model": self.settings.model,
            "weights": str(self.weights[0]),
            "data_dir": self.settings.data_dir,
            "scale": self.settings.scale,
        }

    def described(self) -> dict[str, str]:
        """Return how the results of this run were made, for the page of a test."""
        return {
            **{name.replace("_", " "): str(value) for name, value in self.facts().items()},
            "normaliser": self.normalizer.name,
            "settings": self.settings.fname,
            "date": datetime.date.today().isoformat(),
        }


def _received(
    fname: str,
    values: dict[str, Any],
    predict: dict[str, Any],
    normalizer: dict[str, Any],
    kept: dict[str, Any],
) -> Run:
    """Return a run that came from another process."""
    run = Run.__new__(Run)
    run.settings = UserParams(fname, values=values)
    run.predict = check(PredictParams, predict, fname, "predict")
    run.task = open_task(run.settings.task)
    run.normalizer = normalizer_from(normalizer)
    run.__dict__.update(kept)
    return run


def load_model(
    source: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> SuperResolver:
    """Load a trained network.

    Parameters
    ----------
    source : path-like
        Log folder of a training run (``config.yml``, ``normalizer.json``, weights), or the name of
        a model that ships with the project, e.g. ``bathymetry_x4``.
    weights : path-like, optional
        Weights file; default the run's ``read_test_weights``.

    Returns
    -------
    toolbox.inference.super_resolver.SuperResolver

    Raises
    ------
    ConfigError, DataError, WeightsError
        If a part is missing, or the parts do not fit together.

    Examples
    --------
    >>> model = load_model("bathymetry_x4")           # doctest: +SKIP
    >>> fine = model.predict(coarse)                  # doctest: +SKIP
    """
    return Run.open(source, weights=[] if weights is None else [Path(weights)]).resolver


def find_weights(settings: UserParams) -> Path:
    """Return the weights file to test: the one named in the settings, else the best of the run."""
    if settings.fname_model_weights is not None:
        return Path(settings.fname_model_weights)
    return Path(settings.log_dir, settings.read_test_weights)


def _normalizer_of(settings: UserParams, weights: Path) -> Normalizer:
    """Return the normaliser that the weights were trained with.

    It is next to the weights or in the log folder. Weights of the earlier program have none; for
    them, it is the min-max normaliser of the settings.
    """
    if not weights.is_file():
        raise WeightsError(
            f"{weights}: no such weights file. Train first, or fix fname_model_weights or "
            f"read_test_weights."
        )
    for folder in (weights.parent, Path(settings.log_dir)):
        if (folder / FILE_NAME).is_file():
            return load_normalizer(folder)
    if settings.normalizer.name == MinMaxNormalizer.name and settings.norm_range is not None:
        low, high = settings.norm_range
        print(f"{FILE_NAME} is missing next to {weights}; using norm_range {low:g} to {high:g}")
        return MinMaxNormalizer(low, high, low, high)
    raise DataError(
        f"{not_found(weights.parent / FILE_NAME, 'file')}. Train first, or set norm_range and "
        f"normalizer: minmax for weights of the earlier program."
    )


def _refuse_other_network(settings: UserParams, weights: Path) -> None:
    """Refuse settings with which the weights would load, but into a different network."""
    for folder in (weights.parent, Path(settings.log_dir)):
        if (folder / CONFIG_NAME).is_file():
            break
    else:
        return
    if (folder / CONFIG_NAME).samefile(settings.fname):
        return
    trained, asked = read_yaml(folder / CONFIG_NAME), settings.resolved()
    shaping = MODELS.resolve(settings.model).network_parameters()
    for content in (trained, asked):
        section = content.get(settings.model) or {}
        content[settings.model] = {key: section.get(key) for key in shaping}
    for key in ("model", "scale", "bicubic_skip", settings.model):
        if trained.get(key) != asked.get(key):
            raise ConfigError(
                f"{settings.fname}: {key} must be as in {folder / CONFIG_NAME}, with which "
                f"{weights.name} was trained: {trained.get(key)}; received {asked.get(key)}. "
                f"Change {key}."
            )
