"""A trained network and how it is used, from settings, a log folder or a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sr_trainer.predict_params import PredictParams
from sr_trainer.tester import find_weights, normalizer_of, refuse_other_network
from sr_trainer.user_params import CONFIG_NAME, UserParams
from toolbox.config import check
from toolbox.errors import ConfigError
from toolbox.inference.super_resolver import SuperResolver, assemble
from toolbox.pretrained import pretrained_folder


def open_trained(
    source: str, options: dict[str, Any] | None = None, precision: str | None = None
) -> tuple[SuperResolver, PredictParams]:
    """Load what the command line names.

    Parameters
    ----------
    source : str
        Settings file, log folder, or name of a model that ships with the project.
    options : dict, optional
        Settings of `PredictParams` that the command line gives; they win over the file's.
    precision : str, optional
        Policy to build the network with, instead of the one it was trained with.

    Returns
    -------
    (SuperResolver, PredictParams)

    Raises
    ------
    ConfigError, DataError, WeightsError
        If a part is missing or the parts do not fit each other.
    """
    path = Path(source)
    if path.suffix not in (".yml", ".yaml") and not path.exists():
        path = pretrained_folder(source)
    u_params = UserParams(path)
    if path.is_dir():  # without normalizer.json the file would speak of the folder it came from
        u_params.log_dir = os.fspath(path)
    given = u_params.predict.model_dump(exclude_unset=True)
    check(PredictParams, options or {}, "command line")
    settings = check(PredictParams, {**given, **(options or {})}, os.fspath(path), "predict")
    # Once it is trained, a run is used with its own weights, not with those it started from.
    own = Path(u_params.log_dir, u_params.read_test_weights)
    weights = own if own.is_file() else find_weights(u_params)
    normalizer = normalizer_of(u_params, weights)
    files = [Path(name) for name in settings.weights] or [weights]
    for file in files:
        refuse_other_network(u_params, file)
        if normalizer_of(u_params, file).state() != normalizer.state():
            raise ConfigError(
                f"{file}: was trained with another normaliser than {weights}; its results cannot "
                f"be converted back. Leave it out."
            )
    folder = weights.parent if (weights.parent / CONFIG_NAME).is_file() else Path(u_params.log_dir)
    config = u_params.resolved() | ({"precision": precision} if precision else {})
    return assemble(config, files, normalizer, folder), settings
