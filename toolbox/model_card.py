"""A model card: what a network is, what it was trained on, how good it is and where its limits are.

After Mitchell et al. 2019, doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from toolbox import __version__
from toolbox.config import read_yaml
from toolbox.errors import DataError
from toolbox.io.atomic import replacing
from toolbox.normalizer import FILE_NAME as NORMALIZER_NAME
from toolbox.plotter import METHODS
from toolbox.registry import MODELS
from toolbox.tasks.bathymetry.terrain import spacing_text

NOT_TESTED = "Not tested yet."
NOT_RECORDED = "not recorded"
LIMITS = (
    "What is added between the low-resolution pixels is likely, not measured.",
    "Not for navigation.",
    "Outside the range of validity nothing is known about the errors.",
    "Missing values must be filled before and taken out again afterwards.",
)
#: The same for a network that restores SEM pictures.
SEM_LIMITS = (
    "What is restored is likely, not measured: check it on pictures whose widths are known.",
    "Valid for the microscope, dose, pixel size and pattern of the training pictures only.",
    "Roughness at wavelengths that the test reports as erased cannot be measured any more.",
)
_SEM_FIGURES = {
    "psnr": "PSNR, dB",
    "cd_bias_nm": "bias of the width, nm",
    "cd_bias_ci95_nm": "± 95 %, nm",
    "cd_slope": "slope",
    "unbiased_lwr_error_percent": "LWR error, %",
}
_MEASURES = {"rmse_m": "RMSE", "mae_m": "MAE", "bias_m": "bias", "p95_abs_m": "95 %"}
_DATA = {
    "hr_fname": "high-resolution file",
    "lr_fname": "low-resolution file",
    "lr_method": "low resolution made by",
    "scale": "enlargement",
    "delta_lr_m": "low-resolution spacing, m",
    "delta_hr_m": "high-resolution spacing, m",
    "seed": "seed",
    "train_range_m": "range of the training data, m",
    "blocks": "blocks",
    "pairs": "pairs of images",
}
#: How to load each format of `toolbox.inference.export`; ``{path}`` is the file.
LOADING = {
    "saved_model": """import tensorflow as tf

model = tf.saved_model.load("{path}")
hr = model.signatures["serving_default"](low_resolution=tf.constant(lr))["high_resolution"]
""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("{path}", providers=["CPUExecutionProvider"])
[hr] = session.run(["high_resolution"], {{"low_resolution": lr}})
""",
    "keras": """import keras
{imports}
model = keras.models.load_model("{path}")
hr = model(lr, training=False)
""",
    "tflite": """from ai_edge_litert.interpreter import Interpreter

run = Interpreter("{path}").get_signature_runner()
hr = run(low_resolution=lr)["high_resolution"]
""",
}
_DEFAULT_PATHS = {
    "saved_model": "model",
    "onnx": "model.onnx",
    "keras": "model.keras",
    "tflite": "model.tflite",
}


# What is known --------------------------------------------------------------------------------

#: What a run says of itself, e.g. licence and scores of a model that ships.
OWN_NAME = "card.json"


def card_of_run(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Collect what a log folder tells about its network.

    Parameters
    ----------
    folder : path-like
        The log folder; any of ``config.yml``, ``normalizer.json``, ``history.csv``,
        ``test_result/summary.json`` and ``validity.json`` may be missing.

    Returns
    -------
    dict
        For `write_model_card`: ``name``, ``description``, ``unit``, ``sign``, ``config``,
        ``parameters`` (number, or None), ``normalizer``, ``data`` (``dataset.json``),
        ``history``, ``summary``, ``validity``, ``limits``, ``exports`` (mapping of formats of
        `toolbox.inference.export` to file names; empty for all), ``licence``, ``acknowledgement``,
        ``versions``. What is missing is None; the caller may add to and change everything.

    Raises
    ------
    DataError, ConfigError
        If the folder is missing or a file in it is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Name the log_dir of a training.")
    config = read_yaml(root / "config.yml") if (root / "config.yml").is_file() else None
    sem = (config or {}).get("source") == "sem"
    return {
        "name": root.resolve().name.removesuffix("_log"),
        "description": None,
        "unit": "grey levels" if sem else "m",
        "sign": None if sem else "heights positive, depths below sea level negative",
        "config": config,
        "parameters": _count_parameters(config),
        "normalizer": _read_json(root / NORMALIZER_NAME),
        "data": _read_json(Path((config or {}).get("data_dir", root), "dataset.json")),
        "history": _read_history(root / "history.csv", config),
        "summary": _read_json(root / "test_result" / "summary.json"),
        "validity": _read_json(root / "validity.json"),
        "limits": list(SEM_LIMITS if sem else LIMITS),
        "exports": {},
        "licence": None,
        "acknowledgement": None,
        "versions": versions(),
        **(_read_json(root / OWN_NAME) or {}),
    }


def versions() -> dict[str, str]:
    """Return the versions of TensorFlow, Keras and this toolbox that are running."""
    tensorflow = importlib.import_module("tensorflow")
    return {
        "tensorflow": tensorflow.__version__,
        "keras": metadata.version("keras"),
        "sr-toolbox": __version__,
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}). Make it again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected names and values. Make it again.")
    return content


def _read_history(path: Path, config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the number of epochs, and the best one with the figure that the run monitored."""
    if not path.is_file():
        return None
    settings = config or {}
    monitored = settings.get("monitor_metric", "val_loss")
    sign = -1 if settings.get("monitor_mode") == "max" else 1
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            return None
        history: dict[str, Any] = {"epochs": float(rows[-1]["epoch"])}
        # As for the weights, the epochs before the discriminator count only if there are no others.
        judged = rows[settings.get("pretrain_epochs", 0) :] or rows
        figures = [
            (float(row[monitored]), float(row["epoch"])) for row in judged if row.get(monitored)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a training history ({error}). Remove it.") from None
    ranked = [(sign * value, epoch) for value, epoch in figures if math.isfinite(value)]
    if ranked:
        best, history["best_epoch"] = min(ranked)
        history |= {"monitored": monitored, "best_value": sign * best}
    return history


def _count_parameters(config: Mapping[str, Any] | None) -> int | None:
    """Build the network of the settings, of an adversarial model the generator, and count."""
    if not config or config.get("model") not in MODELS:
        return None
    model = MODELS.resolve(config["model"])
    network = getattr(model, "generator_class", model)
    section = config.get(config["model"]) or {}
    params = {key: value for key, value in section.items() if key in network.parameters()}
    shape = (None, None, (config.get("input_shape") or (16, 16, 1))[-1])
    return int(network(shape, config.get("scale", 4), params=params).count_params())


# Markdown -------------------------------------------------------------------------------------


def write_model_card(path_md: str | os.PathLike[str], card: Mapping[str, Any]) -> Path:
    """Write a model card as Markdown; the file appears whole or not at all.

    Parameters
    ----------
    path_md : path-like
        Where to write, e.g. ``MODEL_CARD.md``.
    card : mapping
        As from `card_of_run`; a key that is missing counts as None.

    Returns
    -------
    pathlib.Path
        The file.
    """
    sections = {
        "Input and output": _input_output(card),
        "Architecture": _architecture(card),
        "Training data": _training_data(card),
        "Scores": _scores(card),
        "Range of validity": _validity(card),
        "Limits": _limits(card),
        "Use": _use(card),
        "Settings": _settings(card),
        "Licence": card.get("licence") or "Not stated.",
        "Acknowledgement": card.get("acknowledgement"),
        "Versions": _table(("library", "version"), (card.get("versions") or {}).items()),
    }
    name, description = card.get("name") or "model", card.get("description")
    parts = [f"# {name}", description or _what_it_does(card)]
    parts += [f"## {title}\n\n{text.strip()}" for title, text in sections.items() if text]
    with replacing(path_md) as beside:
        beside.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return Path(path_md)


def _what_it_does(card: Mapping[str, Any]) -> str:
    config = card.get("config") or {}
    network = str(config.get("model", "a network")).upper() if config else "A network"
    if config.get("scale") == 1:
        return f"{network} that restores images of the same size, in physical units."
    times = f" {config['scale']} times" if "scale" in config else ""
    return f"{network} that enlarges images{times} in rows and columns, in physical units."


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [[_cell(value) for value in row] for row in rows]
    head = list(head)
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _cell(value: Any) -> str:
    return _text(value).replace("|", "\\|").replace("\n", " ")


def _text(value: Any) -> str:
    """Write a value for people: numbers to six digits, sequences with commas."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _input_output(card: Mapping[str, Any]) -> str:
    config = card.get("config") or {}
    channels = (config.get("input_shape") or ("C",))[-1]
    scale = config.get("scale", "scale")
    unit, sign = card.get("unit") or "m", card.get("sign")
    rows = [
        ("low_resolution", f"(N, h, w, {channels})", "float32", unit),
        ("high_resolution", f"(N, h × {scale}, w × {scale}, {channels})", "float32", unit),
    ]
    text = _table(("name", "shape", "type", "unit"), rows)
    text += "\n\nAny number and size of images, without missing values. The normalisation is inside"
    return f"{text}.{f' Sign: {sign}.' if sign else ''}"


def _architecture(card: Mapping[str, Any]) -> str:
    config, count = card.get("config") or {}, card.get("parameters")
    normalizer = card.get("normalizer") or {}
    skip = {True: "yes", False: "no", None: NOT_RECORDED}[config.get("bicubic_skip")]
    rows = [
        ("network", config.get("model", NOT_RECORDED)),
        ("parameters", NOT_RECORDED if count is None else f"{count:,}"),
        ("bicubic enlargement added", skip),
        ("normaliser", normalizer.get("name", NOT_RECORDED)),
    ]
    return _table(("property", "value"), rows)


def _training_data(card: Mapping[str, Any]) -> str:
    config, data, history = card.get("config") or {}, card.get("data"), card.get("history")
    rows: list[tuple[str, Any]] = [("data_dir", config.get("data_dir", NOT_RECORDED))]
    rows += [(_DATA.get(key, key), value) for key, value in (data or {}).items()]
    if data is None:
        rows.append(("dataset.json", NOT_RECORDED))
    if history:
        rows.append(("epochs trained", history["epochs"]))
        if "best_epoch" in history:
            figure = f"{history['monitored']} {_text(history['best_value'])}"
            best = f"{_text(history['best_epoch'])}, {figure}"
            rows.append(("best epoch in validation", best))
    return _table(("property", "value"), rows)


def _scores(card: Mapping[str, Any]) -> str:
    summary = card.get("summary")
    if not summary:
        return NOT_TESTED
    if "cd_bias_nm" in summary:
        return _sem_scores(summary)
    unit = card.get("unit") or "m"
    groups = _groups(summary)
    rows = [
        (name, group["n"], label, *(f"{group[method][m]:.3f}" for m in _MEASURES))
        for name, group in groups.items()
        for method, (label, _) in METHODS.items()
        if group["n"] and method in group
    ]
    head = ("slope, m/m", "images", "method", *(f"{name}, {unit}" for name in _MEASURES.values()))
    text = f"{summary['n']} test images; errors are super-resolution minus truth.\n\n"
    text += _table(head, rows)
    empty = [name for name, group in groups.items() if not group["n"]]
    if empty:
        text += f"\n\nNo test images of slope {', '.join(empty)}."
    return text + _warning(groups)


def _sem_scores(summary: Mapping[str, Any]) -> str:
    """Tabulate what the test on SEM pictures found, by method."""
    known = {key: title for key, title in _SEM_FIGURES.items() if summary.get(key)}
    methods = list(summary["cd_bias_nm"])
    rows = [(name, *(_text(summary[key].get(name)) for key in known)) for name in methods]
    verdict = summary.get("do_no_harm") or {}
    text = f"{summary['n']} test pictures of {summary['measured']}.\n\n"
    text += _table(("method", *known.values()), rows)
    if verdict:
        text += (
            f"\n\nDo no harm, tolerance {_text(verdict['tolerance_nm'])} nm: {verdict['verdict']}."
        )
    return text


def _groups(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {"all": summary["all"], **summary.get("slope_classes", {})}


def _warning(groups: Mapping[str, Any]) -> str:
    """Say where the network is no better than bicubic."""
    worse = [
        name
        for name, group in groups.items()
        if group["n"] and group["sr"]["rmse_m"] >= group["bicubic"]["rmse_m"]
    ]
    return f"\n\n**No better than bicubic for slope: {', '.join(worse)}.**" if worse else ""


def _validity(card: Mapping[str, Any]) -> str:
    data, unit = card.get("data") or {}, card.get("unit") or "m"
    validity = card.get("validity") or data.get("validity") or {}
    if (card.get("config") or {}).get("source") == "sem":
        size = (card.get("summary") or {}).get("pixel_nm") or data.get("pixel_nm")
        rows = [("values", _span(_range_of(card), unit))]
        rows += [("size of a pixel", NOT_RECORDED if size is None else f"{_text(size)} nm")]
        return _table(("quantity", "range"), rows)
    depth = validity.get("depth_m") or data.get("train_range_m") or _range_of(card)
    spacing = validity.get("delta_lr_m", data.get("delta_lr_m"))
    classes = (card.get("summary") or {}).get("slope_classes") or {}
    tested = [name for name, group in classes.items() if group["n"]]
    rows = [
        ("values", _span(depth, unit)),
        ("slope of the low-resolution map", _span(validity.get("slope"), "m/m")),
        ("mean slopes tested", f"{', '.join(tested)} m/m" if tested else "none"),
        ("low-resolution spacing", NOT_RECORDED if spacing is None else _spacing(spacing)),
    ]
    return _table(("quantity", "range"), rows)


def _spacing(delta_m: Any) -> str:
    return spacing_text(tuple(delta_m) if isinstance(delta_m, list) else delta_m)


def _span(limits: Any, unit: str) -> str:
    """Write limits as ``-5000 to 0 m``; a single number is the upper one."""
    if limits is None:
        return NOT_RECORDED
    if isinstance(limits, (list, tuple)):
        return f"{_text(float(limits[0]))} to {_text(float(limits[1]))} {unit}"
    return f"up to {_text(float(limits))} {unit}"


def _range_of(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the range of the training data that the normaliser keeps."""
    state = card.get("normalizer") or {}
    if "xmin" in state:
        return state["xmin"], state["xmax"]
    if "data_min" in state:
        return state["data_min"], state["data_min"] + state["data_range"]
    return None


def _limits(card: Mapping[str, Any]) -> str:
    return "\n".join(f"- {line}" for line in card.get("limits") or LIMITS)


def _use(card: Mapping[str, Any]) -> str:
    exports = card.get("exports") or _DEFAULT_PATHS
    config = card.get("config") or {}
    modules = ["toolbox.model.physical"]
    if config.get("model") in MODELS:
        modules.append(MODELS[config["model"]].partition(":")[0])
    imports = "\n".join(f"import {module}  # knows the layers" for module in modules) + "\n"
    text = "`lr` is a float32 array (N, h, w, C)."
    for format, path in exports.items():
        code = LOADING[format].format(path=Path(path).as_posix(), imports=imports)
        text += f"\n\n{format}:\n\n```python\n{code.strip()}\n```"
    return text


def _settings(card: Mapping[str, Any]) -> str:
    if not card.get("config"):
        return f"{NOT_RECORDED.capitalize()}."
    return _table(("key", "value"), _flat(card["config"]))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
