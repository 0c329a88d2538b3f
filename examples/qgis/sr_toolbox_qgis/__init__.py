"""QGIS plugin: super-resolution of rasters with the program ``sr-trainer``."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this by name."""
    from .plugin import SrToolboxPlugin

    return SrToolboxPlugin(iface)
