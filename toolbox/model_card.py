"""Model cards: what a network is, its training data, its scores and its limits.

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
from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.model.build import build_network
from toolbox.normalizer import FILE_NAME as NORMALIZER_NAME
from toolbox.registry import MODELS, TASKS
from toolbox.task import open_task, task_of_source

NOT_TESTED = "Not tested yet."
NOT_RECORDED = "not recorded"
_DATA = {
    "hr_fname": "high-resolution file",
    "lr_fname": "low-resolution file",
    "lr_method": "method for low resolution",
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


# Facts ----------------------------------------------------------------------------------------

#: File with a run's own statements, e.g. licence and scores of a model that ships.
OWN_NAME = "card.json"


def card_of_run(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Collect the facts about a network from its log folder.

    Parameters
    ----------
    folder : path-like
        The log folder; any of ``config.yml``, ``normalizer.json``, ``history.csv``,
        ``test_result/summary.json`` and ``validity.json`` may be missing.

    Returns
    -------
    dict
        For `write_model_card`: ``name``, ``task``, ``description``, ``unit``, ``sign``,
        ``config``, ``parameters`` (number, or None), ``normalizer``, ``data``
        (``dataset.json``), ``history``, ``summary``, ``limits``, each JSON file of
        `Task.run_files` under its stem (``validity``), ``exports`` (mapping of formats of
        `toolbox.inference.export` to file names; empty for all), ``licence``,
        ``acknowledgement``, ``versions``. Missing facts are None; the caller may add and change
        any of them.

    Raises
    ------
    DataError, ConfigError
        If the folder is missing or a file in it is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{not_found(root, 'folder')}. Name the log folder of a training run.")
    config = read_yaml(root / "config.yml") if (root / "config.yml").is_file() else None
    task = open_task(_task_of(config))
    recorded = [Path(name) for name in task.run_files if name.endswith(".json")]
    return {
        "name": root.resolve().name.removesuffix("_log"),
        "description": None,
        "task": task.name,
        "unit": None,
        "sign": None,
        "limits": None,
        "config": config,
        "parameters": _count_parameters(config),
        "normalizer": _read_json(root / NORMALIZER_NAME),
        "data": _read_json(Path((config or {}).get("data_dir", root), "dataset.json")),
        "history": _read_history(root / "history.csv", config),
        "summary": _read_json(root / "test_result" / "summary.json"),
        **{path.stem: _read_json(root / path) for path in recorded},
        "exports": {},
        "licence": None,
        "acknowledgement": None,
        "versions": versions(),
        **(_read_json(root / OWN_NAME) or {}),
    }


def _task_of(config: Mapping[str, Any] | None) -> str:
    """Return the task of a run; settings of older versions name only the source."""
    settings = config or {}
    task = settings.get("task")
    return str(task) if task in TASKS else task_of_source(str(settings.get("source")))


def versions() -> dict[str, str]:
    """Return the running versions of TensorFlow, Keras and this toolbox."""
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
        raise DataError(f"{path}: not readable as JSON ({error}). Create it again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected names and values. Create it again.")
    return content


def _read_history(path: Path, config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the number of epochs, and the best epoch with its monitored figure."""
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
        # As for the weights, epochs without the discriminator count only if there are no others.
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
    """Count the parameters of the network, for an adversarial model those of the generator."""
    if not config or config.get("model") not in MODELS:
        return None
    known = {"input_shape": (16, 16, 1), **config, "precision": None}
    return int(build_network(known).count_params())


# Markdown -------------------------------------------------------------------------------------


def write_model_card(path_md: str | os.PathLike[str], card: Mapping[str, Any]) -> Path:
    """Write a model card as Markdown; the file appears complete or not at all.

    Parameters
    ----------
    path_md : path-like
        File to write, e.g. ``MODEL_CARD.md``.
    card : mapping
        As from `card_of_run`; missing keys count as None.

    Returns
    -------
    pathlib.Path
        The file.
    """
    own = open_task(card.get("task") or _task_of(card.get("config"))).card(card)
    card = {**card, **{key: card.get(key) or own[key] for key in ("unit", "sign", "limits")}}
    sections = {
        "Input and output": _input_output(card),
        "Architecture": _architecture(card),
        "Training data": _training_data(card),
        "Scores": own["scores"] or NOT_TESTED,
        "Range of validity": own["validity"],
        "Limits": "\n".join(f"- {line}" for line in card["limits"]),
        "Use": _use(card),
        "Settings": _settings(card),
        "Licence": card.get("licence") or "Not stated.",
        "Acknowledgement": card.get("acknowledgement"),
        "Versions": markdown_table(("library", "version"), (card.get("versions") or {}).items()),
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


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown; an empty text if there are no rows."""
    lines = [[_cell(value) for value in row] for row in rows]
    head = list(head)
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _cell(value: Any) -> str:
    return cell_text(value).replace("|", "\\|").replace("\n", " ")


def cell_text(value: Any) -> str:
    """Return a value as readable text: six significant digits, sequences with commas."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell_text(item) for item in value)
    return str(value)


def _input_output(card: Mapping[str, Any]) -> str:
    config = card.get("config") or {}
    channels = (config.get("input_shape") or ("C",))[-1]
    results = (config.get(str(config.get("model"))) or {}).get("out_channels") or channels
    scale = config.get("scale", "scale")
    unit, sign = card["unit"], card["sign"]
    rows = [
        ("low_resolution", f"(N, h, w, {channels})", "float32", unit),
        ("high_resolution", f"(N, h × {scale}, w × {scale}, {results})", "float32", unit),
    ]
    text = markdown_table(("name", "shape", "type", "unit"), rows)
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
    return markdown_table(("property", "value"), rows)


def _training_data(card: Mapping[str, Any]) -> str:
    config, data, history = card.get("config") or {}, card.get("data"), card.get("history")
    rows: list[tuple[str, Any]] = [("data_dir", config.get("data_dir", NOT_RECORDED))]
    rows += [(_DATA.get(key, key), value) for key, value in (data or {}).items()]
    if data is None:
        rows.append(("dataset.json", NOT_RECORDED))
    if history:
        rows.append(("epochs trained", history["epochs"]))
        if "best_epoch" in history:
            figure = f"{history['monitored']} {cell_text(history['best_value'])}"
            best = f"{cell_text(history['best_epoch'])}, {figure}"
            rows.append(("best epoch in validation", best))
    return markdown_table(("property", "value"), rows)


def span_text(limits: Any, unit: str) -> str:
    """Return limits as ``-5000 to 0 m``; a single number is the upper limit."""
    if limits is None:
        return NOT_RECORDED
    if isinstance(limits, (list, tuple)):
        return f"{cell_text(float(limits[0]))} to {cell_text(float(limits[1]))} {unit}"
    return f"up to {cell_text(float(limits))} {unit}"


def range_of(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the range of the training data, as stored in the normaliser."""
    state = card.get("normalizer") or {}
    if "xmin" in state:
        return state["xmin"], state["xmax"]
    if "data_min" in state:
        return state["data_min"], state["data_min"] + state["data_range"]
    return None


def _use(card: Mapping[str, Any]) -> str:
    exports = card.get("exports") or _DEFAULT_PATHS
    config = card.get("config") or {}
    modules = ["toolbox.model.physical"]
    if config.get("model") in MODELS:
        modules.append(MODELS[config["model"]].partition(":")[0])
    imports = "\n".join(f"import {module}  # registers the layers" for module in modules) + "\n"
    text = "`lr` is a float32 array (N, h, w, C)."
    for format, path in exports.items():
        code = LOADING[format].format(path=Path(path).as_posix(), imports=imports)
        text += f"\n\n{format}:\n\n```python\n{code.strip()}\n```"
    return text


def _settings(card: Mapping[str, Any]) -> str:
    if not card.get("config"):
        return f"{NOT_RECORDED.capitalize()}."
    return markdown_table(("key", "value"), _flat(card["config"]))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
