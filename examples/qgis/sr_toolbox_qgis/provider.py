"""The Processing provider: two algorithms and one setting."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import PROGRAM_SETTING, InspectRaster, SuperResolveRaster
from .program import ENVIRONMENT_VARIABLE

_ICON = Path(__file__).with_name("icon.svg")


class SrToolboxProvider(QgsProcessingProvider):
    """Provides ``sr_toolbox:superresolve`` and ``sr_toolbox:inspect``."""

    def id(self) -> str:
        """Return the first half of the names of the algorithms."""
        return "sr_toolbox"

    def name(self) -> str:
        """Return the name that the toolbox panel shows."""
        return "SR Toolbox"

    def icon(self) -> QIcon:
        """Return the icon shown next to the name."""
        return QIcon(str(_ICON))

    def svgIconPath(self) -> str:
        """Return the same icon as a file."""
        return str(_ICON)

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Return the suffixes of files that the program writes and QGIS opens."""
        return ["tif", "tiff", "nc", "bag"]

    def supportsNonFileBasedOutput(self) -> bool:
        """Return False: results are files."""
        return False

    def load(self) -> bool:
        """Add the setting, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(
                self.name(),
                PROGRAM_SETTING,
                f"Path of sr-trainer (empty: the variable {ENVIRONMENT_VARIABLE}, then the PATH)",
                "",
                valuetype=Setting.FILE,
            )
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the setting."""
        ProcessingConfig.removeSetting(PROGRAM_SETTING)

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for algorithm in (SuperResolveRaster, InspectRaster):
            self.addAlgorithm(algorithm())
