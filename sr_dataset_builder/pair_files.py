"""Pairs of files named in the YAML files of the augmentation programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field, model_validator

from toolbox.command_line import OneLineParser
from toolbox.config import Count, Settings, check, read_yaml
from toolbox.data_loader import load_images
from toolbox.errors import ConfigError, DataError
from toolbox.io.array_files import writing_images
from toolbox.progress import progress

_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class Copies:
    """Kinds of copies made by one function.

    Attributes
    ----------
    labels : list of str
        Name of each kind.
    make : callable
        Accepts images (N, H, W, C) and yields a changed stack for each label.
    """

    labels: list[str]
    make: Callable[[np.ndarray], Iterable[np.ndarray]]


def existing_images(path: Path) -> Path:
    """Return a file of images, or the ``.npy`` file of that name if only this one exists."""
    mapped = path.with_suffix(".npy")
    return mapped if mapped.is_file() and not path.is_file() else path


class PairFiles(Settings):
    """Input and output of an augmentation program.

    ``train_data`` and ``train_savedata`` name the HR file first, then the LR file, both inside
    ``train_dir``; ``.pkl`` or ``.npy``. ``train_savedir`` is another folder for the output; its
    files have the names of the input unless ``train_savedata`` names them. The first
    ``original_image_num`` pairs (default: all) are copied. In the output, the copies follow the
    input, kind by kind.

    Attributes
    ----------
    train_dir
        Folder of the files.
    train_data
        Input files, high resolution first; ``.pkl`` or ``.npy``.
    train_savedata : default required, unless there is ``train_savedir``
        Output files, high resolution first; ``.pkl`` or ``.npy``. The input is never overwritten.
    train_savedir : default ``train_dir``
        Folder of the output. Without ``train_savedata``, its files have the names of the input.
    original_image_num : default all
        Number of pairs to copy, counted from the first.
    """

    train_dir: str
    train_data: tuple[str, str] = ("data_HR.pkl", "data_LR.pkl")
    train_savedata: tuple[str, str] | None = None
    train_savedir: Annotated[str, Field(min_length=1)] | None = None
    original_image_num: Count | None = None

    @model_validator(mode="after")
    def _has_output(self) -> PairFiles:
        if self.train_savedata is None and self.train_savedir is None:
            raise ValueError(
                "train_savedata is missing. Add a line 'train_savedata: [out_HR.pkl, out_LR.pkl]', "
                "or train_savedir with another folder."
            )
        return self

    def sources(self) -> list[Path]:
        """Return the HR and the LR file to read."""
        return [existing_images(Path(self.train_dir, name)) for name in self.train_data]

    def outputs(self) -> list[Path]:
        """Return the HR and the LR file to write."""
        folder, names = self.train_savedir or self.train_dir, self.train_savedata or self.train_data
        return [Path(folder, name) for name in names]

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return HR (N, H, W, C) and LR (N, h, w, C) images."""
        hr, lr = map(load_images, self.sources())
        if len(hr) != len(lr):
            raise DataError(
                f"{self.train_dir}: {self.train_data[0]} has {len(hr)} images but "
                f"{self.train_data[1]} has {len(lr)}; every HR image needs its LR image. Name "
                f"files that match."
            )
        return hr, lr


P = TypeVar("P", bound=PairFiles)


def read_params(settings: type[P], arguments: list[str] | None, description: str) -> P:
    """Parse ``PROGRAM input.yml`` and check the file."""
    parser = OneLineParser(description=description)
    parser.add_argument("yml_fname", help="file with the input parameters (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    params = check(settings, read_yaml(fname), fname)
    places = [path.resolve() for path in params.outputs()]
    if set(places) & {path.resolve() for path in params.sources()}:
        raise ConfigError(
            f"{fname}: train_savedata must differ from train_data; received "
            f"{[str(path) for path in params.outputs()]}. Choose other names: the input is never "
            f"overwritten."
        )
    if places[0] == places[1]:
        raise ConfigError(
            f"{fname}: train_savedata must name two files; received {places[0].name} for both HR "
            f"and LR. Use two names."
        )
    return params


def append_copies(params: PairFiles, families: list[Copies]) -> int:
    """Write the input pairs followed by a copy of the originals for each kind.

    Parameters
    ----------
    params : PairFiles
        The files.
    families : list of Copies
        Copies to append, in order: copy k of pair i is number ``len(input) + k * originals + i``.

    Returns
    -------
    int
        Number of pairs written.

    Raises
    ------
    DataError
        If the files do not match.
    """
    stacks = params.load()
    total = len(stacks[0])
    originals = total if params.original_image_num is None else params.original_image_num
    if not 1 <= originals <= total:
        raise DataError(
            f"{params.train_dir}: original_image_num must be between 1 and {total}, the number of "
            f"images; received {originals}."
        )
    labels = [label for family in families for label in family.labels]
    count = total + originals * len(labels)
    with ExitStack() as files:
        outputs = [
            files.enter_context(writing_images(path, (count, *imgs.shape[1:])))
            for path, imgs in zip(params.outputs(), stacks, strict=True)
        ]
        for output, imgs in zip(outputs, stacks, strict=True):
            output[:total] = imgs
        for start in progress(range(0, originals, _CHUNK), "copies"):
            stop = min(start + _CHUNK, originals)
            for output, imgs in zip(outputs, stacks, strict=True):
                copies = (copy for f in families for copy in f.make(imgs[start:stop]))
                for k, copy in enumerate(copies):
                    place = total + k * originals
                    output[place + start : place + stop] = copy
    names = " and ".join(params.train_savedata or map(str, params.outputs()))
    print(f"{names}: {count} pairs = {total} + {originals} × {len(labels)}", flush=True)
    for k, label in enumerate(labels):
        place = total + k * originals
        print(f"  [{place}, {place + originals}) {label}")
    return count
