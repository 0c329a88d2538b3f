"""Export of a trained network for other programs, with its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import ConfigError
from toolbox.inference.export import (
    FORMATS,
    WEIGHTS_FORMATS,
    export_model,
    export_weights,
    value_range,
)
from toolbox.io.atomic import check_writable
from toolbox.model_card import card_of_run, write_model_card
from toolbox.run import Run

CARD_NAME = "MODEL_CARD.md"


class Exporter:
    """Writes a trained network in a format that other programs read.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, opened with precision float32.
    overwrite : bool
        Replace an existing file or folder.
    """

    def __init__(self, run: Run, overwrite: bool = False) -> None:
        self.resolver = run.resolver
        self.network = run.networks[0]
        self.overwrite = overwrite

    def export(self, format: str, output: str | None = None) -> Path:
        """Write the network, verify it against the original, and write a model card next to it.

        Parameters
        ----------
        format : {'saved_model', 'onnx', 'keras', 'tflite', 'safetensors'}
            File format; safetensors holds the weights alone and has no model card.
        output : str, optional
            File, or folder for SavedModel; default ``export/NAME.onnx`` in the log folder, or in
            the working folder for a model that ships with the project.

        Returns
        -------
        pathlib.Path
            The file or folder written.

        Raises
        ------
        ConfigError, DataError, MissingLibraryError
            If the output already exists or does not suit the format, the exported network differs
            from the original, or a library is missing.
        """
        name = self.resolver.folder.resolve().name.removesuffix("_log")
        home = Path() if self.resolver.is_pretrained else self.resolver.folder
        ending = (FORMATS | WEIGHTS_FORMATS)[format]
        path = Path(output) if output else home / "export" / f"{name}{ending}"
        if path.exists() and not self.overwrite:
            raise ConfigError(
                f"{path}: already exists. Replace it with --overwrite, or name another with -o."
            )
        check_writable(path, "Name another with -o.")
        if format in WEIGHTS_FORMATS:
            return self._export_weights(format, path)
        result = export_model(self.resolver.physical, path, format, self._sample())
        print(
            f"{result.path}: {result.size_bytes / 1e6:.2f} MB; read back by {result.runtime}, it "
            f"differs from the original by at most {result.max_difference:.2g} (allowed "
            f"{result.tolerance:.2g})"
        )
        card = self._card(name, format, result.path)
        beside = result.path.with_name(f"{result.path.stem}_{CARD_NAME}")
        print(f"model card: {write_model_card(beside, card)}")
        return result.path

    def _export_weights(self, format: str, path: Path) -> Path:
        """Write the weights alone, and print the range of values that the network expects."""
        normalizer = self.resolver.normalizer
        result = export_weights(self.network, normalizer, path, format)
        low, high = value_range(normalizer)
        print(
            f"{result.path}: {result.size_bytes / 1e6:.2f} MB; read back by {result.runtime}, its "
            f"weights equal the original's bit for bit"
        )
        print(f"for the network, values from {low:g} to {high:g} are 0 to 1, in and out")
        return result.path

    def _card(self, name: str, format: str, path: Path) -> dict[str, Any]:
        """Return the model card of the run, with all exports next to `path`."""
        card = card_of_run(self.resolver.folder) | {"name": name}
        near = {
            kind: path.with_name(f"{path.stem}{ending}") for kind, ending in FORMATS.items()
        } | {format: path}
        card["exports"] = {kind: file.name for kind, file in near.items() if file.exists()}
        return card

    def _sample(self) -> np.ndarray:
        """Return rough ground like the training data: about ten units of relief."""
        normalizer = self.resolver.normalizer
        rng = np.random.default_rng(0)
        steps = rng.normal(0, 1, (2, 24, 20, self.resolver.channels)).cumsum(1).cumsum(2)
        relief = (steps - steps.min()) / np.ptp(steps)
        height = min(normalizer.data_range, 10 * normalizer.unit)
        low = normalizer.data_min + (normalizer.data_range - height) / 2
        return (low + height * relief).astype(np.float32)
