"""The network in a separate process, and the exchange of images with it.

TensorFlow crashes in one process with the OpenGL drivers of Mesa: both bring an LLVM. For this
reason, the process of napari never imports it.

python -m sr_trainer.napari_plugin.network sem_lines     (images on standard input and output)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from toolbox.errors import ConfigError, DataError, program

_ERROR = "error: "


class Restored(NamedTuple):
    """A restored layer: its data, and the enlargement factor of each axis."""

    data: np.ndarray
    scale: int


def send(stream: IO[bytes], pixels: np.ndarray, doubts: Sequence[str] = ()) -> None:
    """Write an image and its notes: a line of JSON, then the values."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    head = {"shape": pixels.shape, "dtype": pixels.dtype.str, "doubts": list(doubts)}
    stream.write(json.dumps(head).encode() + b"\n")
    stream.write(pixels.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[np.ndarray, list[str]] | None:
    """Read what `send` wrote; None at the end."""
    line = stream.readline()
    if not line:
        return None
    head = json.loads(line)
    dtype = np.dtype(head["dtype"])
    values = stream.read(int(np.prod(head["shape"], dtype=np.int64)) * dtype.itemsize)
    return np.frombuffer(values, dtype).reshape(head["shape"]), head["doubts"]


class Network:
    """A run in a separate process, which ends with the ``with`` block.

    Parameters
    ----------
    source : str
        Log folder, or name of a model that ships.
    pixel_nm : float or None
        Width of a pixel, nm.
    """

    def __init__(self, source: str, pixel_nm: float | None) -> None:
        size = [] if pixel_nm is None else ["--pixel-nm", repr(float(pixel_nm))]
        command = [sys.executable, "-m", "sr_trainer.napari_plugin.network", *size, "--", source]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, it is closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):  # by data not yet sent
                stream.close()  # type: ignore[union-attr]
        self._process.wait()

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return the result of an image, and how the image differs from the training data.

        Raises
        ------
        DataError
            If the process ends; the message gives the reason.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(self._process.stdin, pixels)
            result = receive(self._process.stdout)
        except (BrokenPipeError, ValueError):
            result = None
        if result is None:
            raise DataError(self._reason())
        return result

    def _reason(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else ""
        if code == 2 and last.startswith(_ERROR):
            return last.removeprefix(_ERROR)
        return f"the process of the network ended with code {code}. {last}".strip()


def restored_frames(
    source: str, data: Any, is_rgb: bool, pixel_nm: float | None
) -> Generator[list[str], None, Restored]:
    """Apply a run to all images of a stack, one by one.

    Parameters
    ----------
    source : str
        Log folder, or name of a model that ships.
    data : array, shape (..., H, W) or (..., H, W, C)
        The images; each is read only when it is processed.
    is_rgb : bool
        Whether the last axis holds colours.
    pixel_nm : float or None
        Width of a pixel, nm.

    Yields
    ------
    list of str
        Notes for the user, after each image.

    Returns
    -------
    Restored
        The results of all images.
    """
    leading = data.shape[: -3 if is_rgb else -2]
    result, scale = np.empty(0), 1
    with Network(source, pixel_nm) as network:
        for number, index in enumerate(np.ndindex(*leading)):
            pixels = np.asarray(data[index])
            restored, doubts = network.predict(pixels)
            if number == 0:
                result = np.empty((*leading, *restored.shape), restored.dtype)
                scale = restored.shape[0] // pixels.shape[0]
            result[index] = restored
            yield doubts
    return Restored(result, scale)


def serve(source: str, pixel_nm: float | None, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer each image with its result until there are no more; doubts come with the first."""
    from toolbox.run import Run

    run = Run.open(source)
    predictor = run.task.image_predictor(run)
    predictor.check()
    is_first = True
    while (request := receive(requests)) is not None:
        pixels, _ = request
        doubts = predictor.doubts(pixels, pixel_nm) if is_first else []
        send(replies, predictor.predict_image(pixels), doubts)
        is_first = False


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="log folder, or name of a model that ships")
    parser.add_argument("--pixel-nm", type=float, help="width of a pixel, nm")
    args = parser.parse_args(arguments)
    if sys.stdin.isatty():
        raise ConfigError("expected images on standard input; for files, use main.py predict.")
    from sr_trainer.initializer import Initializer

    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # standard output is for images
    Initializer.tf_init()
    serve(args.source, args.pixel_nm, requests, replies)


if __name__ == "__main__":
    sys.exit(main())
