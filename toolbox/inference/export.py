"""Export of a network in physical units for other programs, checked before the file appears."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from toolbox import __version__
from toolbox.errors import ConfigError, DataError, MissingLibraryError, ToolboxError, nearest_name
from toolbox.io.atomic import replacing
from toolbox.io.extras import install_command
from toolbox.io.safetensors import read_safetensors, safetensors_library, write_safetensors
from toolbox.model.interchange import published_title, to_state_dict
from toolbox.normalizer import IdentityNormalizer, MinMaxNormalizer, Normalizer

INPUT, OUTPUT = "low_resolution", "high_resolution"
#: Formats and their endings; a SavedModel is a folder.
FORMATS = {"saved_model": "", "onnx": ".onnx", "keras": ".keras", "tflite": ".tflite"}
#: Formats that hold only the weights, for programs that know the published network.
WEIGHTS_FORMATS = {"safetensors": ".safetensors"}
#: Allowed fractions of the sample's range and of the largest value: some 30 float32 roundings.
_OF_RANGE, _OF_VALUE = 1e-4, 4e-6
_ONNX_OPSET = 17
#: What a format needs in addition to TensorFlow. The deprecated interpreter of ``tf.lite`` refuses
#: graphs that its successor LiteRT runs.
_LIBRARIES = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "tflite": ("ai_edge_litert.interpreter",)}

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how much it differs from the original.

    Attributes
    ----------
    path : pathlib.Path
        The file, or the folder of a SavedModel.
    format : str
        One of `FORMATS`.
    size_bytes : int
        Size of the file, or of all files in the folder.
    max_difference, tolerance : float
        Largest absolute difference from the original over both samples, and the largest allowed
        one, in physical units.
    runtime : str
        Library that read the file for the comparison, with its version.
    """

    path: Path
    format: str
    size_bytes: int
    max_difference: float
    tolerance: float
    runtime: str


def export_model(
    physical: keras.Model, path: str | os.PathLike[str], format: str, sample: np.ndarray
) -> ExportResult:
    """Write a network in physical units for another program, and compare the two.

    The file has one input ``low_resolution`` (N, h, w, C) and one output ``high_resolution``
    (N, H, W, C), float32, physical units, any N, h and w. It is read back by its runtime and run on
    two samples of different size before it appears, complete or not at all.

    Parameters
    ----------
    physical : keras.Model
        From `toolbox.model.physical.physical_model`, built under the policy float32.
    path : path-like
        Path of the export, with the ending of the format; an earlier export is replaced.
    format : {'saved_model', 'onnx', 'keras', 'tflite'}
        Format of the export; a SavedModel is a folder.
    sample : numpy.ndarray, shape (N, h, w, C)
        Typical LR images in physical units, without missing values; a few small ones suffice.

    Returns
    -------
    ExportResult

    Raises
    ------
    ConfigError
        If the format is unknown or does not fit `path`.
    DataError
        If the sample does not fit, or if the results of the file differ from the original by more
        than 1e-4 of the sample's range and 4e-6 of the largest value; no file is left then.
    MissingLibraryError
        If the format needs a library that is not installed.
    """
    final = _check_path(Path(path), format)
    runtime = _check_libraries(format)
    _check_precision(physical)
    samples = _samples(physical, sample)
    write, read = _WRITERS[format], _READERS[format]
    with _appearing(final, format) as beside, _quiet():
        with _named(format, final):
            write(physical, beside)
            run = read(beside)
            results = [run(images) for images in samples]
        difference, tolerance = _compare(physical, samples, results, final)
        size = sum(f.stat().st_size for f in [beside, *beside.rglob("*")] if f.is_file())
    return ExportResult(final, format, size, difference, tolerance, runtime)


def export_weights(
    network: keras.Model, normalizer: Normalizer, path: str | os.PathLike[str], format: str
) -> ExportResult:
    """Write the weights of a network under the names of the published PyTorch network.

    The file is for programs that know the network by these names. The normaliser is not included:
    the network expects values of 0 to 1, and the metadata ``value_range`` states which physical
    values these are. The file is read back and compared bit for bit before it appears.

    Parameters
    ----------
    network : SRModel
        Generator of ESRGAN or SRGAN.
    normalizer : toolbox.normalizer.Normalizer
        The normaliser that it was trained with.
    path : path-like
        Path of the export, with the ending of the format; an existing file is replaced.
    format : {'safetensors'}
        Kind of file.

    Returns
    -------
    ExportResult

    Raises
    ------
    ConfigError
        If the network is not the published one, the normaliser is not linear between two limits,
        or `path` does not suit the format.
    DataError
        If the file does not hold the weights; no file is left then.
    MissingLibraryError
        If the library is not installed.
    """
    final = _check_path(Path(path), format, WEIGHTS_FORMATS)
    library = safetensors_library()
    low, high = value_range(normalizer)
    state = to_state_dict(network)
    metadata = {
        "format": "pt",
        "architecture": published_title(network),
        "scale": str(network.scale),
        "channels": str(network.channels),
        "value_range": f"{low:g} {high:g}",
        "software": f"sr-toolbox {__version__}",
    }
    with replacing(final) as beside:
        write_safetensors(state, beside, metadata)
        _compare_weights(state, read_safetensors(beside), final)
        size = beside.stat().st_size
    runtime = f"{library.__name__} {library.__version__}"
    return ExportResult(final, format, size, 0.0, 0.0, runtime)


def value_range(normalizer: Normalizer) -> tuple[float, float]:
    """Return the physical values that a network receives as 0 and 1.

    Raises
    ------
    ConfigError
        If the normaliser is not linear between two limits common to LR and HR.
    """
    linear = type(normalizer) in (MinMaxNormalizer, IdentityNormalizer)
    if isinstance(normalizer, MinMaxNormalizer) and linear:
        limits = (normalizer.xmin, normalizer.xmax), (normalizer.ymin, normalizer.ymax)
        if limits[0] == limits[1]:
            return limits[0]
    raise ConfigError(
        f"normalizer must be minmax with one range for LR and HR, as the published networks "
        f"expect values of 0 to 1; received {normalizer.name}. Use a format that includes the "
        f"normaliser, e.g. onnx."
    )


def _compare_weights(
    written: dict[str, np.ndarray], found: dict[str, np.ndarray], final: Path
) -> None:
    """Refuse a file whose weights are not identical to the bit."""
    bits, other = (
        {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}
        for arrays in (written, found)
    )
    for name in {**bits, **other}:
        if bits.get(name) != other.get(name):
            raise DataError(
                f"{final}: {name} differs from the original. Nothing was written; export again."
            )


# Checks before the export -----------------------------------------------------------------------


def _check_path(path: Path, format: str, formats: Mapping[str, str] = FORMATS) -> Path:
    if format not in formats:
        raise ConfigError(
            f"format must be one of {', '.join(formats)}; received {format!r}."
            f"{nearest_name(str(format), formats)}"
        )
    ending = formats[format]
    if path.suffix != ending and ending:
        raise ConfigError(f"{path}: an export to {format} must end in {ending}. Rename it.")
    if format != "saved_model" and path.is_dir():
        raise ConfigError(f"{path}: is a folder; {format} is a file. Choose another name.")
    if format == "saved_model" and path.exists() and not _replaceable(path):
        raise ConfigError(
            f"{path}: already exists and is not a SavedModel, so it is kept. Choose another name."
        )
    return path


def _replaceable(path: Path) -> bool:
    """Whether a folder is empty or the result of an earlier export."""
    return path.is_dir() and ((path / "saved_model.pb").is_file() or not any(path.iterdir()))


def _check_libraries(format: str) -> str:
    """Import what the format needs; return name and version of its runtime."""
    if format == "keras":
        return f"keras {keras.version()}"
    if format == "saved_model":
        return f"tensorflow {tf.__version__}"
    for name in _LIBRARIES[format]:
        _library(name)
    if format == "tflite":  # the library has no version attribute
        return f"ai_edge_litert {metadata.version('ai-edge-litert')}"
    return f"onnxruntime {_library('onnxruntime').__version__}"


def _library(name: str) -> Any:
    """Import an optional library."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"this export needs {name}, which cannot be imported ({error}). Run: "
            f"{install_command('export')}"
        ) from error


def _check_precision(physical: keras.Model) -> None:
    for layer in _layers(physical):
        if layer.compute_dtype != "float32":
            raise ConfigError(
                f"{layer.name} computes in {layer.compute_dtype}; an export needs float32. Build "
                f"the network with precision: float32 and load the same weights."
            )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]


def _samples(physical: keras.Model, sample: np.ndarray) -> list[np.ndarray]:
    """Return the sample, and one of its images with half the height and more than the width."""
    first = np.asarray(sample, np.float32)
    channels = physical.input_shape[-1]
    if first.ndim != 4 or first.shape[-1] != channels or not first.size:
        raise DataError(
            f"the sample must have the shape (N, h, w, {channels}); received {first.shape}."
        )
    if not np.isfinite(first).all():
        raise DataError("the sample must not have missing values; received some. Crop it.")
    height, width = first.shape[1:3]
    half = first[:1, : (height + 1) // 2]
    wider = np.pad(half, ((0, 0), (0, 0), (0, width // 2 + 3), (0, 0)), mode="symmetric")
    return [first, wider]


# Complete or not at all -------------------------------------------------------------------------


@contextlib.contextmanager
def _appearing(final: Path, format: str) -> Iterator[Path]:
    if format != "saved_model":
        with replacing(final) as beside:
            yield beside
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as folder:
        beside = Path(folder, "new")
        yield beside
        if final.exists():
            os.replace(final, Path(folder, "old"))
        os.replace(beside, final)


@contextlib.contextmanager
def _named(format: str, final: Path) -> Iterator[None]:
    """Turn any error of a converter or a runtime into one line that names the file."""
    try:
        yield
    except (ToolboxError, OSError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # tf2onnx, LiteRT and ONNX Runtime have their own exceptions
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"{final}: the network cannot be exported to {format} ({first}). Use another format."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the converters write to standard error, in Python and in C++."""
    levels = {name: logging.getLogger(name).level for name in ("tf2onnx", "absl", "tensorflow")}
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _compare(
    physical: keras.Model, samples: list[np.ndarray], results: list[np.ndarray], final: Path
) -> tuple[float, float]:
    """Return the largest difference from the original and the allowed one."""
    references = [np.asarray(physical(images, training=False)) for images in samples]
    largest = max(float(np.abs(images).max()) for images in (samples[0], *references))
    tolerance = _OF_RANGE * float(np.ptp(samples[0])) + _OF_VALUE * largest
    difference = 0.0
    for reference, result in zip(references, results, strict=True):
        if result.shape != reference.shape or result.dtype != np.float32:
            raise DataError(
                f"{final}: gave {result.dtype} {result.shape}; expected float32 "
                f"{reference.shape}. Nothing was written; use another format."
            )
        # A NaN must prevail, which the built-in max() does not ensure.
        difference = float(np.maximum(difference, np.abs(result - reference).max()))
    if not difference <= tolerance:
        raise DataError(
            f"{final}: differs from the original by {difference:.3g}, more than "
            f"{tolerance:.3g}. Nothing was written; use another format."
        )
    return difference, tolerance


# Formats ----------------------------------------------------------------------------------------


def _signature(physical: keras.Model) -> tf.TensorSpec:
    return tf.TensorSpec((None, None, None, physical.input_shape[-1]), tf.float32, name=INPUT)


def _write_saved_model(physical: keras.Model, path: Path) -> None:
    def serve(low_resolution: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT: physical(low_resolution, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(physical)
    archive.add_endpoint("serve", serve, input_signature=[_signature(physical)])
    archive.write_out(os.fspath(path), verbose=False)


def _read_saved_model(path: Path) -> Run:
    loaded = tf.saved_model.load(os.fspath(path))
    serve = loaded.signatures["serving_default"]
    # The closure keeps `loaded` alive, and with it the variables.
    return lambda images: (loaded, serve(**{INPUT: tf.constant(images)}))[1][OUTPUT].numpy()


def _write_keras(physical: keras.Model, path: Path) -> None:
    with warnings.catch_warnings():
        # Raised by Keras 3.15 when it saves weights with NumPy 2.
        warnings.filterwarnings(
            "ignore", "__array__ implementation doesn't accept", DeprecationWarning
        )
        physical.save(path)


def _read_keras(path: Path) -> Run:
    loaded = keras.models.load_model(path, compile=False)
    return lambda images: np.asarray(loaded(images, training=False))


def _write_onnx(physical: keras.Model, path: Path) -> None:
    from tf2onnx import convert, optimizer

    # tf2onnx 1.17 swaps axes of one-channel images of unknown size when it optimizes
    # transpositions; ONNX Runtime has its own optimizer.
    chosen = {
        "fold_constants": optimizer.ConstFoldOptimizer,
        "merge_duplication": optimizer.MergeDuplicatedNodesOptimizer,
        "remove_identity": optimizer.IdentityOptimizer,
        "remove_back_to_back": optimizer.BackToBackOptimizer,
    }
    proto, _ = convert.from_keras(
        physical, [_signature(physical)], opset=_ONNX_OPSET, optimizers=chosen
    )
    _name_axes(proto.graph.input[0], INPUT, ("N", "h", "w", physical.input_shape[-1]))
    _name_axes(proto.graph.output[0], OUTPUT, ("N", "H", "W", physical.output_shape[-1]))
    path.write_bytes(proto.SerializeToString())


def _name_axes(value: Any, name: str, axes: tuple[str | int, ...]) -> None:
    """Give the dynamic axes of an ONNX input or output readable names."""
    if value.name != name:
        raise ValueError(f"{value.name} should be called {name}")
    for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
        if isinstance(axis, int):
            dimension.dim_value = axis
        else:
            dimension.dim_param = axis


def _read_onnx(path: Path) -> Run:
    import onnx
    import onnxruntime

    onnx.checker.check_model(os.fspath(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised anyway
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _write_tflite(physical: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(physical, Path(folder, "model"))
        converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(Path(folder, "model")))
        path.write_bytes(converter.convert())


def _read_tflite(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    # Pass the content, not the name: an open file cannot be renamed on Windows.
    interpreter = Interpreter(model_content=path.read_bytes())
    run = interpreter.get_signature_runner()
    return lambda images: run(**{INPUT: images})[OUTPUT]


_WRITERS: dict[str, Callable[[keras.Model, Path], None]] = {
    "saved_model": _write_saved_model,
    "onnx": _write_onnx,
    "keras": _write_keras,
    "tflite": _write_tflite,
}
_READERS: dict[str, Callable[[Path], Run]] = {
    "saved_model": _read_saved_model,
    "onnx": _read_onnx,
    "keras": _read_keras,
    "tflite": _read_tflite,
}
