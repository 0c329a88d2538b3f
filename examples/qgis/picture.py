"""Draw rasters side by side in the style of the plugin, without a window, with QGIS's Python.

QT_QPA_PLATFORM=offscreen python3 examples/qgis/picture.py coarse.tif coarse_x4.tif picture.png
"""

from __future__ import annotations

import argparse
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QColor, QFont, QImage, QPainter
from sr_toolbox_qgis.style import set_hillshade

_SIDE, _MARGIN, _CAPTION = 500, 8, 24


def draw(path: str) -> tuple[QImage, str]:
    """Return a raster as a shaded-relief map of QGIS, and a text with its size."""
    layer = QgsRasterLayer(path, path)
    if not layer.isValid():
        sys.exit(f"error: {path}: QGIS cannot read this file.")
    set_hillshade(layer)
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setBackgroundColor(QColor("#b8b8b8"))
    height = round(_SIDE * layer.extent().height() / layer.extent().width())
    settings.setOutputSize(QSize(_SIDE, height))
    settings.setExtent(layer.extent())
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage(), f"{layer.width()} × {layer.height()} pixels"


def compose(paths: list[str]) -> QImage:
    """Return all rasters side by side, with their sizes above them."""
    maps = [draw(path) for path in paths]
    height = max(image.height() for image, _ in maps) + _CAPTION
    picture = QImage((_SIDE + _MARGIN) * len(maps) - _MARGIN, height, QImage.Format_RGB32)
    picture.fill(Qt.white)
    painter = QPainter(picture)
    painter.setFont(QFont("DejaVu Sans", 11))
    for number, (image, size) in enumerate(maps):
        left = number * (_SIDE + _MARGIN)
        painter.drawText(left, 17, f"{'result' if number else 'input'}: {size}")
        painter.drawImage(left, _CAPTION, image)
    painter.end()
    return picture.convertToFormat(QImage.Format_Grayscale8)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raster", nargs="+", help="rasters, the input first")
    parser.add_argument("target", help="picture to write")
    arguments = parser.parse_args()
    application = QgsApplication([], False)
    application.initQgis()
    is_saved = compose(arguments.raster).save(arguments.target)
    application.exitQgis()
    if not is_saved:
        sys.exit(f"error: {arguments.target}: cannot be written.")


if __name__ == "__main__":
    main()
