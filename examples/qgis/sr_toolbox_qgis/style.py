"""Style of results: shaded relief, exaggerated to show fine relief."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qgis.core import (
    Qgis,
    QgsHillshadeRenderer,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterDataProvider,
    QgsRasterLayer,
    QgsRectangle,
)

from .program import z_factor

_AZIMUTH, _ALTITUDE = 315, 45
#: Windows along each axis, and pixels along each side of a window, used for slopes.
_WINDOWS, _SIDE = 3, 32


def set_hillshade(layer: QgsRasterLayer, positive_down: bool = False) -> None:
    """Draw the first band of a layer in shaded relief, lit from the upper left.

    Parameters
    ----------
    layer : qgis.core.QgsRasterLayer
        Elevation or depth.
    positive_down : bool
        Whether the values are depths. They are lit from the opposite side, so that hills look like
        hills.
    """
    azimuth = (_AZIMUTH + 180) % 360 if positive_down else _AZIMUTH
    renderer = QgsHillshadeRenderer(layer.dataProvider(), 1, azimuth, _ALTITUDE)
    renderer.setZFactor(z_factor(_slopes(layer)))
    layer.setRenderer(renderer)
    # Otherwise the steps between enlarged pixels would be shaded.
    layer.setResamplingStage(Qgis.RasterResamplingStage.Provider)
    provider = layer.dataProvider()
    provider.setZoomedInResamplingMethod(QgsRasterDataProvider.ResamplingMethod.Cubic)
    provider.setZoomedOutResamplingMethod(QgsRasterDataProvider.ResamplingMethod.Bilinear)
    layer.triggerRepaint()


def _slopes(layer: QgsRasterLayer) -> Iterator[float]:
    """Yield slopes per map unit in a sample of windows; degrees need no special case.

    Full-resolution pixels are read, because slopes of thinned pixels would be too gentle.
    """
    provider, extent = layer.dataProvider(), layer.extent()
    dx, dy = layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY()
    width, height = min(_SIDE, layer.width()), min(_SIDE, layer.height())
    for row in range(_WINDOWS):
        for column in range(_WINDOWS):
            left = column * (layer.width() - width) // (_WINDOWS - 1)
            top = row * (layer.height() - height) // (_WINDOWS - 1)
            x, y = extent.xMinimum() + left * dx, extent.yMaximum() - top * dy
            window = QgsRectangle(x, y - height * dy, x + width * dx, y)
            block = provider.block(1, window, width, height)
            for i in range(height - 1):
                for j in range(width - 1):
                    if any(block.isNoData(*p) for p in ((i, j), (i + 1, j), (i, j + 1))):
                        continue
                    here = block.value(i, j)
                    across = (block.value(i, j + 1) - here) / dx
                    down = (block.value(i + 1, j) - here) / dy
                    yield (across**2 + down**2) ** 0.5


class HillshadeStyle(QgsProcessingLayerPostProcessorInterface):
    """Sets the style when QGIS loads a result.

    Parameters
    ----------
    positive_down : bool
        Whether the values are depths.
    """

    def __init__(self, positive_down: bool) -> None:
        super().__init__()
        self.positive_down = positive_down

    def postProcessLayer(self, layer: QgsRasterLayer, context: Any, feedback: Any) -> None:
        """Set the style; QGIS calls this by name."""
        set_hillshade(layer, self.positive_down)


#: QGIS keeps no reference to post-processors, so both are kept here.
STYLES = {down: HillshadeStyle(down) for down in (False, True)}
