"""Draw the window of napari with a simulated picture, restored and measured by the plugin.

python -m examples.cd_sem.napari_picture picture.png     (needs a display or xvfb-run)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import MissingLibraryError, program

_PIXEL_NM = 0.8
_SIZE = (1240, 860)
#: Number of colours of the written picture.
_COLOURS = 96
_PLUGIN = "sr-toolbox"
_LONGEST_S = 300.0


def simulated() -> np.ndarray:
    """Return a noisy picture of rough lines, 8 bits."""
    params = SimulationParams(save_dir="nowhere", frame_shape=(160, 256))
    field = LinePicture(np.random.default_rng(5), params, LineParams(sigma_nm=0.8, xi_nm=15))
    return field.expose(NoiseParams(peak_counts=12, drift_px=0, pair_offset_px=0), 1)


def finish(viewer: Any, widget: Any) -> None:
    """Press the button of a widget and wait for the new layer."""
    from qtpy.QtWidgets import QApplication

    count, end = len(viewer.layers), time.monotonic() + _LONGEST_S
    widget.start()
    while len(viewer.layers) == count and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="picture to write, .png")
    target = parser.parse_args(arguments).target
    try:
        import napari
    except ImportError:
        raise MissingLibraryError("napari is missing: pip install '.[napari]'") from None
    viewer = napari.Viewer()
    viewer.window.resize(*_SIZE)
    noisy = viewer.add_image(
        simulated(), name="noisy", scale=(_PIXEL_NM, _PIXEL_NM), units="nm", colormap="gray"
    )
    for label in ("Restore layer", "Measure lines"):
        _, widget = viewer.window.add_plugin_dock_widget(_PLUGIN, label)
        finish(viewer, widget)
        viewer.layers.selection.active = viewer.layers[-1]
    restored, edges = viewer.layers[1:]
    for layer in (restored, edges):
        layer.translate = np.array([noisy.data.shape[0] * _PIXEL_NM * 1.03, 0])
    viewer.reset_view(margin=0.01)
    window = viewer.screenshot(canvas_only=False, flash=False)
    viewer.close()
    PIL.Image.fromarray(window[..., :3]).quantize(_COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    raise SystemExit(main())
