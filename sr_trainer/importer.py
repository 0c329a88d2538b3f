"""Import a network that was trained elsewhere: ``python -m sr_trainer.importer NET.pth -o log/``.

Reads the weights of ESRGAN (RRDBNet, also of Real-ESRGAN at ×4) and of SRGAN (SRResNet) that
PyTorch programs save as ``.pth`` or ``.safetensors``, and writes a log folder. PyTorch is not
needed, and nothing in the file is executed. ``python main.py log/ predict image.png`` then enlarges
images. To continue training, give ``log/weights_best.h5`` as ``fname_model_weights``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_trainer.initializer import Initializer
from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, program
from toolbox.io.atomic import check_writable
from toolbox.io.safetensors import read_safetensors
from toolbox.io.torch_file import read_torch_file
from toolbox.registry import TASKS

if TYPE_CHECKING:
    from toolbox.model.interchange import Published
    from toolbox.settings import UserParams

#: Range of pixel values in published networks.
NORM_RANGE = (0.0, 255.0)


class Importer:
    """Writes the log folder of a network that was trained elsewhere.

    Parameters
    ----------
    path : path-like
        ``.pth``, ``.pt`` or ``.safetensors``.
    channels : {1, 3}, optional
        Channels of the images; 1 turns a colour network into a grey one, see
        `toolbox.model.interchange.as_grey`. Default: as in the file.
    task : str, optional
        Row of `toolbox.registry.TASKS`; default: the first task that supports colours, or for one
        channel the first task.
    norm_range : (float, float)
        Physical values that are 0 and 1 for the network.

    Raises
    ------
    ConfigError, DataError
        If the file is not a known network, or does not fit the options.
    """

    def __init__(
        self,
        path: Path,
        channels: int | None = None,
        task: str | None = None,
        norm_range: Sequence[float] = NORM_RANGE,
    ) -> None:
        from toolbox.model.interchange import from_state_dict

        self.path = path
        self.network = _with_channels(from_state_dict(_read(path), str(path)), channels, path)
        self.task = task or _default_task(self.network.channels)
        self.norm_range = tuple(norm_range)

    def write(self, folder: Path, overwrite: bool = False) -> None:
        """Write ``config.yml``, ``normalizer.json`` and ``weights_best.h5``.

        Parameters
        ----------
        folder : pathlib.Path
            Log folder.
        overwrite : bool
            Replace an existing run in it.
        """
        from toolbox.io.weights import save_weights
        from toolbox.model.build import build_network
        from toolbox.normalizer import MinMaxNormalizer
        from toolbox.training.run_folder import RunFolder

        if folder.is_file():
            raise ConfigError(f"{folder}: is a file; -o must name a log folder to write.")
        check_writable(folder / "config.yml", "Name another with -o.")
        settings = self._settings(folder)
        run_folder = RunFolder(settings)
        run_folder.refuse_other_run(overwrite=overwrite)
        model = build_network(settings.resolved())
        model.set_weights(self.network.weights)
        low, high = self.norm_range
        run_folder.prepare({}, MinMaxNormalizer(low, high, low, high), overwrite)
        save_weights(model, folder / settings.read_test_weights)
        print(
            f"{folder}: {self.network.model} ×{self.network.scale}, channels: "
            f"{self.network.channels}, parameters: {model.count_params():,}, task: {self.task}; "
            f"values of {low:g} to {high:g} are 0 to 1 for the network"
        )

    def _settings(self, folder: Path) -> UserParams:
        from toolbox.settings import UserParams
        from toolbox.task import open_task, source_class

        network = self.network
        source = next(iter(open_task(self.task).sources))
        values: dict[str, Any] = {
            "data_dir": f"none; imported from {self.path.name}",
            "model": network.model,
            network.model: network.params,
            "scale": network.scale,
            "task": self.task,
            "source": source,
            "norm_range": self.norm_range,
            "normalizer": "minmax",
            "bicubic_skip": False,
            "precision": "float32",
            "log_dir": str(folder),
        }
        if "channels" in source_class(source).parameters():
            values[source] = {"channels": network.channels}
        settings = UserParams(self.path, values, where=str(self.path))
        height, width, channels = settings.input_shape
        if channels == network.channels:
            return settings
        shape = (height, width, network.channels)
        return UserParams(self.path, {**values, "input_shape": shape}, where=str(self.path))


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; expected a file .pth, .pt or .safetensors.")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def _with_channels(network: Published, channels: int | None, path: Path) -> Published:
    from toolbox.model.interchange import as_grey

    if channels in (None, network.channels):
        return network
    if channels == 1:
        return as_grey(network)
    raise ConfigError(
        f"{path}: --channels must be 1 or {network.channels}, as the network has; received "
        f"{channels}. Leave out --channels."
    )


def _default_task(channels: int) -> str:
    """Return the first task that supports colours for three channels, else the first task."""
    from toolbox.task import open_task, source_class

    known = {name: source_class(next(iter(open_task(name).sources))).parameters() for name in TASKS}
    coloured = [name for name, parameters in known.items() if "channels" in parameters]
    return coloured[0] if channels == 3 and coloured else next(iter(TASKS))


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_trainer.importer",
        description="Make a log folder of an ESRGAN or SRGAN network that PyTorch programs saved.",
    )
    parser.add_argument("file", type=Path, help="weights: .pth, .pt or .safetensors")
    parser.add_argument("-o", "--output", type=Path, required=True, help="log folder to write")
    parser.add_argument(
        "--task",
        choices=list(TASKS),
        help="task of the network; default photo, for a grey network bathymetry",
    )
    parser.add_argument(
        "--channels", type=int, help="1 turns a colour network into a grey one; default: unchanged"
    )
    parser.add_argument(
        "--norm-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=NORM_RANGE,
        help="physical values that are 0 and 1 for the network; default 0 255",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    args = parser.parse_args(arguments)
    Initializer.tf_init()
    importer = Importer(args.file, args.channels, args.task, args.norm_range)
    importer.write(args.output, args.overwrite)


if __name__ == "__main__":
    sys.exit(main())
