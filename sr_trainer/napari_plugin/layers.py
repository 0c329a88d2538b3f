"""Conversion between napari's layers and arrays: frames, pixel sizes, layers of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sr_trainer.napari_plugin.network import Restored
from toolbox.errors import DataError, ToolboxError
from toolbox.task import MeasuredImage, every_task

#: Data, attributes and kind of a layer, as napari accepts them.
LayerData = tuple[Any, dict[str, Any], str]
#: Key of a layer's metadata: width and height of a pixel.
PIXEL_NM = "pixel_nm"
_COLOURS = {"left": "deepskyblue", "right": "orange"}


def full_data(layer: Any) -> Any:
    """Return the data of an image layer at full resolution, (..., H, W) or (..., H, W, C)."""
    data = layer.data[0] if layer.multiscale else layer.data
    if min(data.shape) < 1:
        raise DataError(f"{layer.name}: holds no pixel.")
    return data


def leading_shape(layer: Any) -> tuple[int, ...]:
    """Return the shape of a stack: its axes before those of an image."""
    shape = full_data(layer).shape
    return tuple(shape[: -3 if layer.rgb else -2])


def pixel_nm_of(layer: Any) -> tuple[float, float] | None:
    """Return width and height of a pixel, nm; None if neither layer nor file gives them.

    The metadata of the layer come first, then its scale if its unit is a length, then the file that
    it was read from.
    """
    given = np.atleast_1d(np.asarray(layer.metadata.get(PIXEL_NM, ()), float))
    if given.size in (1, 2) and (given > 0).all():
        return float(given[0]), float(given[-1])
    units = [unit * 1 for unit in layer.units[-2:]]
    if all(unit.check("[length]") for unit in units):
        height, width = (
            float(unit.to("nm").magnitude * abs(step))
            for unit, step in zip(units, layer.scale[-2:], strict=True)
        )
        return width, height
    path = layer.source.path
    if path is None or not Path(path).is_file():
        return None
    for task in every_task():
        try:
            size = task.pixel_nm(Path(path))
        except (ToolboxError, OSError):
            continue
        if size is not None:
            return size
    return None


def _placement(layer: Any, scale: int = 1) -> dict[str, Any]:
    """Return the placement of a layer with `scale` times as many pixels over the same area."""
    from napari.utils.transforms import Affine

    steps, shift = np.array(layer.scale, float), np.zeros(layer.ndim)
    # The centre of the first pixel is the origin; smaller pixels have theirs nearer to the corner.
    shift[-2:] = 0.5 / scale - 0.5
    turned = Affine(scale=steps, rotate=layer.rotate, shear=layer.shear)
    steps[-2:] /= scale
    return {
        "scale": steps,
        "translate": np.asarray(layer.translate) + turned(shift),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def restored_layer(
    layer: Any, restored: Restored, model: str, pixel_nm: tuple[float, float] | None
) -> LayerData:
    """Return the layer of a result, placed and displayed like the original."""
    metadata: dict[str, Any] = {**layer.metadata, "model": model}
    if pixel_nm is not None:
        metadata[PIXEL_NM] = [size / restored.scale for size in pixel_nm]
    look = {"blending": layer.blending, "gamma": layer.gamma}
    if not layer.rgb:
        look |= {"contrast_limits": layer.contrast_limits, "colormap": layer.colormap}
    place = _placement(layer, restored.scale)
    own = {"name": f"{layer.name} {Path(model).name}", "rgb": layer.rgb, "metadata": metadata}
    return restored.data, {**place, **look, **own}, "image"


def shown_frame(layer: Any, point: Sequence[float]) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the index and the pixels of the displayed image of a stack.

    Parameters
    ----------
    layer : napari.layers.Image
        The stack, or a single image.
    point : sequence of float
        Where the viewer is, world coordinates (``viewer.dims.point``).
    """
    leading = leading_shape(layer)
    inside = layer.world_to_data(np.asarray(point)[-layer.ndim :])
    index = np.clip(np.rint(inside[: len(leading)]), 0, np.array(leading, float) - 1)
    number = tuple(int(step) for step in index)
    return number, np.asarray(full_data(layer)[number])


def edges_layer(layer: Any, number: tuple[int, ...], measured: MeasuredImage) -> LayerData:
    """Return the layer of the measured edges, as paths in the coordinates of the image."""
    names = [name for name, _ in measured.outlines]
    paths = [
        np.column_stack([np.tile(number, (len(path), 1)), path]) if number else path
        for _, path in measured.outlines
    ]
    attributes = {
        "name": f"{layer.name} edges",
        "shape_type": "path",
        "edge_color": [_COLOURS[name.split()[-1]] for name in names],
        "edge_width": 1.0,
        "features": {"edge": names},
        "metadata": {"figures": measured.text, "table": measured.table, "notes": measured.notes},
    }
    return paths, {**_placement(layer), **attributes}, "shapes"
