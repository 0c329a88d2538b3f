"""The plugin that QGIS loads; it only registers the provider."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from .provider import SrToolboxProvider


class SrToolboxPlugin:
    """Registers the provider, in QGIS and in ``qgis_process``.

    Parameters
    ----------
    iface : QgisInterface or None
        The interface of QGIS; None in ``qgis_process``.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self._provider: SrToolboxProvider | None = None

    def initProcessing(self) -> None:
        """Register the provider."""
        self._provider = SrToolboxProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Register the provider; QGIS calls this when it has a window."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
