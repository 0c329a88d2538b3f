"""The widgets of the napari plugin. Their work runs in a separate thread."""

from __future__ import annotations

import contextlib
import re
import typing
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Any

from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    PushButton,
    Table,
    TextEdit,
)
from napari.layers import Image, Layer
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_warning
from qtpy.QtWidgets import QStyledItemDelegate

from sr_trainer.napari_plugin.layers import (
    edges_layer,
    full_data,
    leading_shape,
    pixel_nm_of,
    restored_layer,
    shown_frame,
)
from sr_trainer.napari_plugin.network import Restored, restored_frames
from toolbox.config import check, read_yaml
from toolbox.errors import ConfigError, ToolboxError, mistake
from toolbox.pretrained import pretrained_folder, pretrained_names
from toolbox.settings import CONFIG_NAME
from toolbox.task import MeasuredImage, image_tasks, measuring_task

ACTIVE = "the active one"
#: Minimum height of the figures, pixels.
_FIGURES_PX = 180
#: What a thread returns after a user's mistake: one line.
Mistake = str


def model_names() -> list[str]:
    """Return the shipped models that accept images in memory, in the order of the tasks."""
    tasks = [task.name for task in image_tasks()]
    names = pretrained_names()
    task_of = {name: read_yaml(pretrained_folder(name) / CONFIG_NAME).get("task") for name in names}
    return [name for task in tasks for name in names if task_of[name] == task]


class _LayerWidget(Container):
    """The choice of an image layer, its pixel size, and a button that starts the work.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer.
    label : str
        Text of the button.
    """

    def __init__(self, napari_viewer: Any, label: str) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.layer = ComboBox(label="layer", choices=self._layers)
        self.pixel_nm = FloatSpinBox(
            label="pixel size, nm",
            value=0,
            min=0,
            max=1e6,
            step=0.01,
            tooltip="Width of a pixel; with 0, it comes from the layer or its file.",
        )
        self.button = PushButton(text=label)
        self.button.clicked.connect(self.start)

    def start(self) -> Any:
        """Start the work and return the worker, or show one line that says why not."""
        try:
            layer = self._chosen()
            return self._start(layer, self._pixel_nm(layer))
        except ToolboxError as error:
            show_error(_in_words(str(error)))
            return None

    @abstractmethod
    def _start(self, layer: Any, pixel_nm: tuple[float, float] | None) -> Any:
        """Start the work on a layer, and return the worker."""

    def _work(
        self, steps: Generator[list[str], None, Any], count: int, show: Callable[[Any], None]
    ) -> Any:
        """Run `steps` in a thread, then `show` what they return."""

        def shown(result: Any) -> None:
            if isinstance(result, Mistake):
                show_error(_in_words(result))
            else:
                show(result)

        self.button.enabled = False
        return create_worker(
            _told,
            steps,
            _connect={"yielded": _warn, "returned": shown, "finished": self._finished},
            _progress={"total": count, "desc": self.button.text},
            _start_thread=True,
        )

    def _finished(self) -> None:
        with contextlib.suppress(RuntimeError):  # the widget has been closed
            self.button.enabled = True

    def _layers(self, _: Any) -> list[Any]:
        return [ACTIVE, *(layer for layer in self.viewer.layers if isinstance(layer, Image))]

    def _chosen(self) -> Any:
        layer = self.layer.value
        if layer == ACTIVE:
            layer = self.viewer.layers.selection.active
        if not isinstance(layer, Image):
            what = "none" if layer is None else f"{layer.name!r}, which is not one"
            raise ConfigError(f"expected an image layer; received {what}. Select one in the list.")
        return layer

    def _pixel_nm(self, layer: Any) -> tuple[float, float] | None:
        """Return width and height of a pixel, nm; the user's value overrides the layer's."""
        known, width = pixel_nm_of(layer), float(self.pixel_nm.value)
        if not width:
            return known
        return width, width if known is None else width * known[1] / known[0]


class RestoreWidget(_LayerWidget):
    """Restores or enlarges an image layer, frame by frame, with the network of a run."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Restore layer")
        self.model = ComboBox(label="model", choices=model_names())
        self.folder = FileEdit(
            label="or log folder", mode="d", value="", nullable=True, tooltip="Your own run."
        )
        self.extend([self.layer, self.model, self.folder, self.pixel_nm, self.button])

    def _start(self, layer: Any, pixel_nm: tuple[float, float] | None) -> Any:
        folder = self.folder.value
        own = folder is not None and str(folder) not in ("", ".")
        model = str(folder if own else self.model.value)
        data, count = full_data(layer), 1
        for length in leading_shape(layer):
            count *= length
        steps = restored_frames(model, data, layer.rgb, pixel_nm and pixel_nm[0])

        def show(restored: Restored) -> None:
            made = restored_layer(layer, restored, model, pixel_nm)
            self.viewer.add_layer(Layer.create(*made))

        return self._work(steps, count, show)


class MeasureWidget(_LayerWidget):
    """Measures the lines in the displayed image, and draws their edges."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Measure lines")
        self._options = measuring_task().measure_options
        self.lines, self.polarity = (self._choice(name) for name in ("lines", "polarity"))
        self.threshold = FloatSpinBox(
            label="threshold", value=0.5, min=0.01, max=0.99, step=0.05, tooltip="level of an edge"
        )
        self.figures = TextEdit(label="figures", value="")
        self.figures.read_only = True
        self.figures.min_height = _FIGURES_PX
        self.table = Table(label="lines")
        # The default delegate would show all numbers with four decimal places.
        self.table.native.setItemDelegate(QStyledItemDelegate(self.table.native))
        fields = [self.layer, self.pixel_nm, self.lines, self.polarity, self.threshold]
        self.extend([*fields, self.button, self.figures, self.table])

    def _choice(self, name: str) -> Any:
        field = self._options.model_fields[name]
        return ComboBox(
            label=name,
            choices=typing.get_args(field.annotation),
            value=field.default,
            tooltip=field.description or "",
        )

    def _start(self, layer: Any, pixel_nm: tuple[float, float] | None) -> Any:
        if layer.rgb:
            raise ConfigError(
                f"{layer.name}: has colours; SEM pictures have one channel. Split the layer and "
                f"select one channel."
            )
        number, pixels = shown_frame(layer, self.viewer.dims.point)
        names = ("lines", "polarity", "threshold")
        given = {name: getattr(self, name).value for name in names}
        settings = check(self._options, given, "Measure lines")

        def steps() -> Generator[list[str], None, MeasuredImage]:
            measurer = measuring_task().image_measurer(settings)
            measured = measurer.measure_image(pixels, pixel_nm)
            yield measured.notes
            return measured

        def show(measured: MeasuredImage) -> None:
            self.figures.value = measured.text
            headings, *rows = measured.table
            numbers = [row[0] for row in rows]
            self.table.value = [row[1:] for row in rows], numbers, headings[1:]
            self.viewer.add_layer(Layer.create(*edges_layer(layer, number, measured)))

        return self._work(steps(), 1, show)


def _told(steps: Generator[list[str], None, Any]) -> Generator[list[str], None, Any]:
    """Run all steps; return a user's mistake as a line."""
    try:
        return (yield from steps)
    except Exception as error:
        line = mistake(error)
        if not line:
            raise
        return line


def _warn(lines: list[str]) -> None:
    for line in lines:
        show_warning(_in_words(line))


def _in_words(line: str) -> str:
    """Return a program's message with the names of options as those of fields."""
    return re.sub(r"--(?=[a-z])", "", line)
