"""Model card of networks for maps: scores by slope class, range of validity, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolbox.model_card import NOT_RECORDED, markdown_table, range_of, span_text
from toolbox.plotter import METHODS
from toolbox.tasks.bathymetry.terrain import spacing_text

LIMITS = (
    "Detail added between the low-resolution pixels is likely, not measured.",
    "Not for navigation.",
    "Outside the range of validity, the errors are unknown.",
    "Missing values must be filled before and removed afterwards.",
)
_MEASURES = {"rmse_m": "RMSE", "mae_m": "MAE", "bias_m": "bias", "p95_abs_m": "95 %"}


def card_of_maps(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a card; see `toolbox.task.Task.card`."""
    unit = card.get("unit") or "m"
    summary = card.get("summary")
    return {
        "unit": unit,
        "sign": "heights positive, depths below sea level negative",
        "limits": list(LIMITS),
        "scores": _scores(summary, unit) if summary and "all" in summary else "",
        "validity": _validity(card, unit),
    }


def _scores(summary: Mapping[str, Any], unit: str) -> str:
    groups = {"all": summary["all"], **summary.get("slope_classes", {})}
    rows = [
        (name, group["n"], label, *(f"{group[method][m]:.3f}" for m in _MEASURES))
        for name, group in groups.items()
        for method, (label, _) in METHODS.items()
        if group["n"] and method in group
    ]
    head = ("slope, m/m", "images", "method", *(f"{name}, {unit}" for name in _MEASURES.values()))
    text = f"{summary['n']} test images; errors are super-resolution minus truth.\n\n"
    text += markdown_table(head, rows)
    empty = [name for name, group in groups.items() if not group["n"]]
    if empty:
        text += f"\n\nNo test images of slope {', '.join(empty)}."
    worse = [
        name
        for name, group in groups.items()
        if group["n"] and group["sr"]["rmse_m"] >= group["bicubic"]["rmse_m"]
    ]
    if worse:
        text += f"\n\n**No better than bicubic for slope: {', '.join(worse)}.**"
    return text


def _validity(card: Mapping[str, Any], unit: str) -> str:
    data = card.get("data") or {}
    validity = card.get("validity") or data.get("validity") or {}
    depth = validity.get("depth_m") or data.get("train_range_m") or range_of(card)
    spacing = validity.get("delta_lr_m", data.get("delta_lr_m"))
    if isinstance(spacing, list):
        spacing = tuple(spacing)
    classes = (card.get("summary") or {}).get("slope_classes") or {}
    tested = [name for name, group in classes.items() if group["n"]]
    rows = [
        ("values", span_text(depth, unit)),
        ("slope of the low-resolution map", span_text(validity.get("slope"), "m/m")),
        ("mean slopes tested", f"{', '.join(tested)} m/m" if tested else "none"),
        ("low-resolution spacing", NOT_RECORDED if spacing is None else spacing_text(spacing)),
    ]
    return markdown_table(("quantity", "range"), rows)
