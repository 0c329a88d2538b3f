"""The two Processing algorithms: what they ask for, and what they hand to the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputString,
    QgsProcessingParameterBand,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProperty,
)
from qgis.PyQt.QtGui import QIcon

from .program import (
    MODELS,
    ProgramError,
    build_command,
    find_program,
    folder_beside,
    further_options,
    is_positive_down,
    put,
    put_all,
    run,
    source_options,
    split_source,
)
from .style import STYLES

PROGRAM_SETTING = "SR_TOOLBOX_PROGRAM"
_PAGE = "HTML files (*.html)"
_NO_MODEL = "none"


class _Algorithm(QgsProcessingAlgorithm):
    """What both have in common."""

    INPUT, BAND, MODEL, LOG_FOLDER, OPTIONS = "INPUT", "BAND", "MODEL", "LOG_FOLDER", "OPTIONS"

    def icon(self) -> QIcon:
        """Return the icon of the plugin."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))

    def createInstance(self) -> QgsProcessingAlgorithm:
        """Return a fresh one; QGIS calls this by name."""
        return type(self)()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Let files pass that QGIS cannot open; QGIS calls this by name.

        The program reads some of them, and of the others it says what is wrong.
        """
        given = parameters.get(self.INPUT)
        if isinstance(given, str) and Path(given).is_file():
            # Nothing is opened for a value that is found later.
            parameters = {**parameters, self.INPUT: QgsProperty.fromExpression("''")}
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the program; QGIS calls this by name."""
        try:
            return self._process(parameters, context, feedback)
        except ProgramError as error:
            raise QgsProcessingException(str(error)) from None

    def _process(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        raise NotImplementedError

    def _add_input(self) -> None:
        self.addParameter(QgsProcessingParameterRasterLayer(self.INPUT, "Input raster"))
        self.addParameter(
            QgsProcessingParameterBand(
                self.BAND,
                "Band, or step of a NetCDF variable, if there are several",
                parentLayerParameterName=self.INPUT,
                optional=True,
            )
        )

    def _add_model(self, names: list[str]) -> None:
        self.addParameter(
            QgsProcessingParameterEnum(
                self.MODEL,
                "Model that ships",
                options=names,
                defaultValue=names[0],
                usesStaticStrings=True,
            )
        )
        self.addParameter(
            QgsProcessingParameterFile(
                self.LOG_FOLDER,
                "Log folder of a training of your own, instead of a model that ships",
                behavior=QgsProcessingParameterFile.Folder,
                optional=True,
            )
        )

    def _add_options(self) -> None:
        further = QgsProcessingParameterString(
            self.OPTIONS, "Further options, as on the command line", optional=True
        )
        further.setFlags(further.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(further)

    def _command(self, mode: str, output: str, more: list[str], given: tuple) -> list[str]:
        """Return the command line of what the user has given (parameters, context)."""
        parameters, context = given
        source, options = self._source(parameters, context)
        model = self.parameterAsEnumString(parameters, self.MODEL, context)
        return build_command(
            find_program(ProcessingConfig.getSetting(PROGRAM_SETTING) or ""),
            mode,
            source,
            output,
            "" if model == _NO_MODEL else model,
            self.parameterAsString(parameters, self.LOG_FOLDER, context),
            [
                *options,
                *more,
                *further_options(self.parameterAsString(parameters, self.OPTIONS, context)),
            ],
        )

    def _source(self, parameters: Any, context: Any) -> tuple[str, list[str]]:
        """Return the file of the layer and the options that choose what of it."""
        layer = self.parameterAsRasterLayer(parameters, self.INPUT, context)
        if layer is None or not layer.isValid():
            path, variable = split_source(str(parameters[self.INPUT]))
        elif layer.dataProvider().name() != "gdal":
            raise ProgramError(
                f"{layer.name()}: is a layer of the provider {layer.dataProvider().name()}; only "
                f"files on the disk can be used. Save the layer first (Export > Save As)."
            )
        else:
            path, variable = split_source(layer.source())
        band = None
        if parameters.get(self.BAND) is not None and (layer is None or layer.bandCount() > 1):
            band = self.parameterAsInt(parameters, self.BAND, context)
        return path, source_options(variable, band)


class SuperResolveRaster(_Algorithm):
    """``sr-trainer predict``: a finer grid of the same extent."""

    INTERVAL, OUTPUT, REPORT = "INTERVAL", "OUTPUT", "REPORT"

    def name(self) -> str:
        """Return the second half of ``sr_toolbox:superresolve``."""
        return "superresolve"

    def displayName(self) -> str:
        """Return the name that the toolbox panel shows."""
        return "Super-resolve raster"

    def shortHelpString(self) -> str:
        """Return the text beside the dialogue."""
        return (
            "Enlarges a sea-floor map with a network: 2 or 4 times as many pixels along each axis "
            "with the models that ship. Place, sign, unit, data type and gaps are kept.\n"
            "Interval: for 0.9, two further bands hold the limits between which 90 % of the truth "
            "should lie.\n"
            "Further options: for example --dtype float32 keeps fractions, --nodata -9999 names a "
            "value that means missing, --positive down says that the file holds depths.\n"
            "Not for navigation: the detail is likely, not measured. Inspect the map first."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters; QGIS calls this by name."""
        self._add_input()
        self._add_model(list(MODELS))
        self.addParameter(
            QgsProcessingParameterNumber(
                self.INTERVAL,
                "Interval: share of the truth between two further bands, e.g. 0.9",
                type=QgsProcessingParameterNumber.Double,
                optional=True,
                minValue=0.01,
                maxValue=0.999,
            )
        )
        self._add_options()
        self.addParameter(
            QgsProcessingParameterRasterDestination(self.OUTPUT, "Super-resolved raster")
        )
        self.addParameter(
            QgsProcessingParameterFileDestination(
                self.REPORT, "Report", _PAGE, optional=True, createByDefault=False
            )
        )

    def _process(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        target = Path(self.parameterAsOutputLayer(parameters, self.OUTPUT, context))
        page = self.parameterAsFileOutput(parameters, self.REPORT, context)
        more = ["--report"] if page else []
        if parameters.get(self.INTERVAL) is not None:
            share = self.parameterAsDouble(parameters, self.INTERVAL, context)
            more += ["--interval", f"{share:g}"]
        command = self._command("predict", target.name, more, (parameters, context))
        feedback.pushCommandInfo(" ".join(command))
        with folder_beside(target) as folder:
            lines = run(command, folder, feedback)
            if lines is None:
                return {}
            put_all(folder, target, Path(page) if page else None)
        if context.willLoadLayerOnCompletion(str(target)):
            details = context.layerToLoadOnCompletionDetails(str(target))
            details.setPostProcessor(STYLES[is_positive_down(lines)])
        return {self.OUTPUT: str(target), **({self.REPORT: page} if page else {})}


class InspectRaster(_Algorithm):
    """``sr-trainer inspect``: how far a map can be trusted before it is enlarged."""

    PAGE, VERDICT = "PAGE", "VERDICT"

    def name(self) -> str:
        """Return the second half of ``sr_toolbox:inspect``."""
        return "inspect"

    def displayName(self) -> str:
        """Return the name that the toolbox panel shows."""
        return "Inspect raster"

    def shortHelpString(self) -> str:
        """Return the text beside the dialogue."""
        return (
            "Says how far a map can be trusted before it is enlarged: interpolated or enlarged "
            "before, contour lines, stripes, noise, rounding; with a model, also whether it is "
            "like the training. The page shows where."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters; QGIS calls this by name."""
        self._add_input()
        self._add_model([_NO_MODEL, *MODELS])
        self._add_options()
        self.addParameter(QgsProcessingParameterFileDestination(self.PAGE, "Page", _PAGE))
        self.addOutput(QgsProcessingOutputString(self.VERDICT, "Verdict"))

    def _process(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        page = Path(self.parameterAsFileOutput(parameters, self.PAGE, context))
        command = self._command("inspect", page.name, [], (parameters, context))
        feedback.pushCommandInfo(" ".join(command))
        with folder_beside(page) as folder:
            lines = run(command, folder, feedback)
            if lines is None:
                return {}
            put(folder / page.name, page)
        marks = [line.partition("verdict: ")[2] for line in lines if line.startswith("verdict: ")]
        return {self.PAGE: str(page), self.VERDICT: marks[-1] if marks else ""}
