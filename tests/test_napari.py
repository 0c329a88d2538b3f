"""The plugin for napari: layers restored and measured without a window, refusals, its manifest."""

import io
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydantic.warnings import PydanticDeprecatedSince20
from scipy import ndimage

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.run import Run
from toolbox.tasks.sem.sem_image import write_sem_image

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
with warnings.catch_warnings():
    # napari and npe2 define their models in the manner of pydantic 1.
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    pytest.importorskip("napari", reason="needs napari: pip install '.[napari]'")
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager
    from npe2 import PluginManager, PluginManifest
    from qtpy.QtWidgets import QApplication

    from sr_trainer.napari_plugin import layers, network
    from sr_trainer.napari_plugin.widgets import MeasureWidget, RestoreWidget, model_names

ROOT = Path(__file__).resolve().parents[1]
PIXEL_NM = 0.8
STILL = {"drift_px": 0, "pair_offset_px": 0}


@pytest.fixture(scope="module")
def application():
    """What turns the results of threads into calls."""
    return QApplication.instance() or QApplication([])


@pytest.fixture
def viewer(application):
    """A viewer without a window; its notifications begin anew."""
    notification_manager.records.clear()
    return ViewerModel()


@pytest.fixture(scope="module")
def field():
    """Lines of 16 nm whose true edges are known."""
    params = SimulationParams(save_dir="nowhere", frame_shape=(128, 160))
    return LinePicture(np.random.default_rng(5), params, LineParams(sigma_nm=0.8, xi_nm=15))


@pytest.fixture(scope="module")
def picture(field):
    """One noisy frame of them, 8 bits."""
    return field.expose(NoiseParams(peak_counts=12, **STILL), 1)


class Local(network.Network):
    """A network in this process, for tests of what is around it."""

    def __init__(self, source, pixel_nm):
        self.arguments = source, pixel_nm

    def __exit__(self, *_):
        pass

    def predict(self, pixels):
        requests, replies = io.BytesIO(), io.BytesIO()
        network.send(requests, pixels)
        requests.seek(0)
        network.serve(*self.arguments, requests, replies)
        replies.seek(0)
        return network.receive(replies)


@pytest.fixture
def in_process(monkeypatch):
    """Networks are used in this process, which is faster."""
    monkeypatch.setattr(network, "Network", Local)


def drawn():
    """Draw bright lines of 20 pixels with a little noise; return them and their edges (4, 2, H)."""
    edges = np.array([[20.2, 40.2], [60, 80], [100, 120], [140, 160]])[..., None]
    edges = edges + 2 * np.sin(np.arange(128) / 9)
    x, image = np.arange(180), np.full((128, 180), 40.0)
    for left, right in edges:
        ends = np.minimum(x + 0.5, right[:, None]) - np.maximum(x - 0.5, left[:, None])
        image += 160 * np.clip(ends, 0, 1)
    image = ndimage.gaussian_filter1d(image, 1.0, axis=1)
    image += np.random.default_rng(1).normal(0, 3, image.shape)
    return np.rint(image).clip(0, 255).astype(np.uint8), edges


def said(kind):
    """Return the notifications of a kind: error, warning."""
    return [n.message for n in notification_manager.records if str(n.severity) == kind]


def finish(widget):
    """Press the button of a widget and wait until its work is done."""
    worker = widget.start()
    deadline = time.monotonic() + 300
    while worker is not None and not widget.button.enabled:
        assert time.monotonic() < deadline, "it does not end"
        QApplication.processEvents()
        time.sleep(0.01)


def restored(viewer, model, **fields):
    """Restore the active layer; return the new one, None if there is none."""
    widget, count = RestoreWidget(viewer), len(viewer.layers)
    widget.model.value = model
    for name, value in fields.items():
        getattr(widget, name).value = value
    finish(widget)
    return viewer.layers[-1] if len(viewer.layers) > count else None


def refused(viewer, widget, *words):
    """Press the button; assert that one line is said, with `words` in it, and nothing is added."""
    count = len(viewer.layers)
    finish(widget)
    (line,) = said("error")
    assert "\n" not in line
    assert all(word in line for word in words), line
    assert len(viewer.layers) == count


def corners(layer):
    """Return where the outer corners of an image lie, world coordinates."""
    height, width = layer.data.shape[-3 if layer.rgb else -2 :][:2]
    lead = (0,) * (layer.ndim - 2)
    ends = [(-0.5, -0.5), (height - 0.5, -0.5), (height - 0.5, width - 0.5)]
    return np.array([layer.data_to_world((*lead, *end)) for end in ends])


# -- restoring ------------------------------------------------------------------------------------


def test_a_restored_picture_is_what_the_network_gives(viewer, picture):
    """Rounded to the type of the layer; it lies on the layer and is shown as that is."""
    layer = viewer.add_image(picture, name="a", scale=(PIXEL_NM, PIXEL_NM), units="nm")
    layer.contrast_limits = (10, 180)
    made = restored(viewer, "sem_lines")
    expected = Run.open("sem_lines").resolver.predict(picture.astype(np.float32))
    assert made.data.dtype == np.uint8
    np.testing.assert_array_equal(made.data, np.rint(np.clip(expected, 0, 255)))
    assert (made.name, made.contrast_limits) == ("a sem_lines", [10, 180])
    np.testing.assert_allclose(made.scale, layer.scale)
    assert made.units == layer.units
    assert made.metadata["pixel_nm"] == [PIXEL_NM, PIXEL_NM]
    assert said("error") == said("warning") == []


def test_a_stack_is_restored_frame_by_frame(viewer, in_process, picture):
    """Each frame as if it were alone; floats stay floats; what is known of a pixel stays."""
    stack = np.stack([picture, picture[::-1]]).astype(np.float32)
    viewer.add_image(stack, metadata={"pixel_nm": PIXEL_NM})
    made = restored(viewer, "sem_lines")
    resolver = Run.open("sem_lines").resolver
    assert made.data.dtype == np.float32
    for frame, result in zip(stack, made.data, strict=True):
        np.testing.assert_array_equal(result, resolver.predict(frame))
    assert layers.pixel_nm_of(made) == (PIXEL_NM, PIXEL_NM)


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 4), (20, 30), (2, 20, 30, 3)])
def test_an_enlarged_photograph_covers_the_same_area(viewer, in_process, shape):
    """Twice the pixels of half the size; grey, colours and alpha, shifted and turned."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    given = {"scale": (3.0, 2.0), "translate": (5.0, -7.0), "rotate": 30}
    is_stack = len(shape) == 4
    layer = viewer.add_image(pixels, rgb=len(shape) > 2, **({} if is_stack else given))
    made = restored(viewer, "photo_x2")
    channels = shape[-1:] if layer.rgb else ()
    lead = shape[:1] if is_stack else ()
    assert made.data.shape == (*lead, 40, 60, *channels)
    assert made.data.dtype == np.uint8
    np.testing.assert_allclose(corners(made), corners(layer), atol=1e-9)
    np.testing.assert_allclose(made.scale[-2:], np.array(layer.scale[-2:]) / 2)


def test_what_the_network_does_not_know_is_a_warning(viewer, in_process, field):
    """An inverted picture is restored, and what is wrong with it is told."""
    viewer.add_image(255 - field.expose(NoiseParams(peak_counts=12, **STILL), 1))
    assert restored(viewer, "sem_lines", pixel_nm=5.0) is not None
    warnings = said("warning")
    assert all(line.startswith("outside what the network knows: ") for line in warnings)
    for name in ("polarity", "size of a pixel"):
        assert any(name in line for line in warnings)


def test_models_that_fit_are_offered(viewer):
    """Those for pictures, not those for maps."""
    assert model_names() == ["sem_lines", "photo_x2"]
    assert RestoreWidget(viewer).model.choices == ("sem_lines", "photo_x2")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((20, 30, 3), np.uint8), ("one channel", "(20, 30, 3)")),
        (np.zeros((20, 30), np.int32), ("8 or 16 bits", "int32")),
        (np.zeros((2, 20, 30), bool), ("8 or 16 bits", "bool")),
    ],
)
def test_images_that_do_not_fit_are_refused(viewer, in_process, pixels, words):
    """Colours for a network of one channel, and types that no picture has."""
    viewer.add_image(pixels, rgb=pixels.shape[-1] == 3)
    widget = RestoreWidget(viewer)
    widget.model.value = "sem_lines"
    refused(viewer, widget, *words)


def test_a_run_of_maps_is_refused(viewer, in_process, picture, finished):
    """A log folder of another task: its networks are for files."""
    viewer.add_image(picture)
    widget = RestoreWidget(viewer)
    widget.folder.value = finished
    refused(viewer, widget, "bathymetry", "predict")


def test_a_mistake_is_told_from_process_to_process(viewer, picture, tmp_path):
    """A folder without a run: the line of the other process, which then has ended."""
    viewer.add_image(picture)
    widget = RestoreWidget(viewer)
    widget.folder.value = tmp_path
    refused(viewer, widget, str(tmp_path))
    assert "error: " not in said("error")[0]


def test_a_process_that_dies_is_told(viewer, picture, monkeypatch, tmp_path):
    """Whatever ended it, one line; nothing hangs."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 7\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    viewer.add_image(picture)
    refused(viewer, RestoreWidget(viewer), "ended with code 7", "out of luck")


def test_the_process_ends_with_the_work(picture):
    """Whoever no longer listens, as a worker that is asked to quit, leaves nothing behind."""
    with network.Network("sem_lines", None) as opened:
        assert opened._process.poll() is None
    assert opened._process.poll() is not None


def test_the_process_of_napari_has_no_tensorflow():
    """Widgets are opened and lines measured without it: it may crash beside graphics drivers."""
    code = (
        "import os, sys, warnings; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "import numpy as np; from qtpy.QtWidgets import QApplication; a = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from sr_trainer.napari_plugin.widgets import MeasureWidget, RestoreWidget\n"
        "v = ViewerModel(); v.add_image(np.tile([[0] * 9 + [200] * 9] * 64, 4).astype(np.uint8))\n"
        "RestoreWidget(v); w = MeasureWidget(v); w.start()\n"
        "while not w.button.enabled: a.processEvents()\n"
        "print(w.figures.value, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "bright vertical lines" in result.stdout
    assert result.stdout.strip().endswith("[]")


@pytest.mark.parametrize("kind", [RestoreWidget, MeasureWidget])
def test_only_images_are_taken(viewer, picture, kind):
    """Without a layer, or with points active, one line; another image can be chosen by name."""
    refused(viewer, kind(viewer), "image layer", "none")
    viewer.add_image(picture)
    viewer.add_points(name="marks")
    notification_manager.records.clear()
    widget = kind(viewer)
    refused(viewer, widget, "image layer", "'marks'")
    assert [str(choice) for choice in widget.layer.choices] == ["the active one", "picture"]


# -- measuring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["vertical", "horizontal"])
def test_measuring_gives_the_cd_of_the_drawn_picture(viewer, direction):
    """CD within 0.05 nm of the true one, figures with units, edges where they were drawn."""
    image, edges = drawn()
    image = image if direction == "vertical" else image.T
    layer = viewer.add_image(image, scale=(8e-4, 8e-4), translate=(1, 2), units="um")
    widget = MeasureWidget(viewer)
    finish(widget)
    assert said("error") == []
    headline, *lines = widget.figures.value.splitlines()
    assert f"4 bright {direction} lines; a pixel is {PIXEL_NM} nm" in headline
    figures = dict(line.split(": ", 1) for line in lines)
    assert float(figures["CD"].split()[0]) == pytest.approx(20 * PIXEL_NM, abs=0.05)
    for name in ("LWR (3σ)", "LER (3σ)"):
        assert "nm biased" in figures[name]
        assert "unbiased" in figures[name]
    assert "CD (nm)" in widget.table.column_headers
    made = viewer.layers[-1]
    for name in ("scale", "translate"):
        np.testing.assert_allclose(getattr(made, name), getattr(layer, name))
    assert set(made.shape_type) == {"path"}
    assert list(made.features["edge"]) == [
        f"line {number} {side}" for side in ("left", "right") for number in range(1, 5)
    ]
    for path, true in zip(made.data, np.swapaxes(edges, 0, 1).reshape(8, -1), strict=True):
        along, across = path.T if direction == "vertical" else path.T[::-1]
        np.testing.assert_allclose(across, true[along.astype(int)], atol=0.25)


def test_the_frame_that_is_shown_is_measured(viewer):
    """Of a stack the edges lie in that frame; a size that is typed goes first."""
    image, _ = drawn()
    viewer.add_image(np.stack([np.zeros_like(image), image]))
    viewer.dims.set_current_step(0, 1)
    widget = MeasureWidget(viewer)
    widget.pixel_nm.value = 2.0
    finish(widget)
    assert "a pixel is 2 nm" in widget.figures.value
    assert {float(path[0, 0]) for path in viewer.layers[-1].data} == {1.0}


def test_without_a_size_lengths_are_in_pixels(viewer):
    """And that is said; a second picture replaces figures and table."""
    image, _ = drawn()
    viewer.add_image(image)
    widget = MeasureWidget(viewer)
    finish(widget)
    assert "pixel size not known" in widget.figures.value
    assert "CD (px)" in widget.table.column_headers
    assert widget.table.shape[0] == 4
    viewer.add_image(image[:, :90], metadata={"pixel_nm": [1, 1]})
    finish(widget)
    assert "CD (nm)" in widget.table.column_headers
    assert widget.table.shape[0] == 2


def test_notes_are_warnings_and_nothing_to_measure_is_refused(viewer):
    """A line that ends is named; an even picture has none, and options are called as here."""
    image, _ = drawn()
    image[:30] = image[:30, :5].mean()
    viewer.add_image(image)
    finish(MeasureWidget(viewer))
    assert said("error") == []
    assert any("no clear edge" in line for line in said("warning"))
    # The outlines do not reach into the rows without an edge.
    assert min(path[0, 0] for path in viewer.layers[-1].data) >= 29
    viewer.add_image(np.full((64, 64), 7, np.uint8))
    widget = MeasureWidget(viewer)
    widget.lines.value = "vertical"
    refused(viewer, widget, "polarity")
    assert "--" not in said("error")[0]
    notification_manager.records.clear()
    viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True)
    refused(viewer, MeasureWidget(viewer), "has colours")


# -- sizes and the manifest -----------------------------------------------------------------------


def test_sizes_of_pixels(viewer, picture, tmp_path):
    """Metadata go before the unit of the scale, this before the file; pixels have no size."""
    assert layers.pixel_nm_of(viewer.add_image(picture, scale=(2, 3))) is None
    scaled = viewer.add_image(picture, scale=(2e-3, 3e-3), units="um")
    assert layers.pixel_nm_of(scaled) == pytest.approx((3, 2))
    scaled.metadata["pixel_nm"] = [1.5, 1.25]
    assert layers.pixel_nm_of(scaled) == (1.5, 1.25)
    write_sem_image(tmp_path / "a.tif", picture, PIXEL_NM)
    PluginManager.instance().discover()
    (read,) = viewer.open(tmp_path / "a.tif", plugin="napari")
    assert layers.pixel_nm_of(read) == pytest.approx((PIXEL_NM, PIXEL_NM))
    np.testing.assert_array_equal(read.data, picture)


def test_the_manifest_leads_to_the_widgets():
    """It is valid, and its commands are classes of the plugin."""
    folder = ROOT / "sr_trainer" / "napari_plugin"
    manifest = PluginManifest.from_file(folder / "napari.yaml")
    manifest.validate_imports()
    names = {command.python_name.split(":")[1] for command in manifest.contributions.commands}
    assert names == {RestoreWidget.__name__, MeasureWidget.__name__}
    shown = {widget.display_name for widget in manifest.contributions.widgets}
    assert shown == {"Restore layer", "Measure lines"}
