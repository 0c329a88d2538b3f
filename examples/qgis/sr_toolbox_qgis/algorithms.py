"""The two Processing algorithms: their parameters, and the command lines they build."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    NULL,
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
    refuse_the_input,
    run,
    source_options,
    split_source,
)
from .style import STYLES

PROGRAM_SETTING = "SR_TOOLBOX_PROGRAM"
_PAGE = "HTML files (*.html)"
_NO_MODEL = "none"


def _is_given(value: Any) -> bool:
    """Return whether an optional parameter has a value; dialogues and models leave it empty."""
    return value is not None and value != NULL and value != ""


class _Algorithm(QgsProcessingAlgorithm):
    """Common base of both algorithms."""

    INPUT, BAND, MODEL, LOG_FOLDER, OPTIONS = "INPUT", "BAND", "MODEL", "LOG_FOLDER", "OPTIONS"
    #: Name, provider, source and number of bands of the input.
    _layer: tuple[str, str, str, int]

    def icon(self) -> QIcon:
        """Return the icon of the plugin."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))

    def createInstance(self) -> QgsProcessingAlgorithm:
        """Return a new instance; QGIS calls this by name."""
        return type(self)()

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:
        """Accept files that QGIS cannot open; QGIS calls this by name.

        The program can read some of them, and reports what is wrong with the others.
        """
        given = parameters.get(self.INPUT)
        if isinstance(given, str) and Path(given).is_file():
            # QGIS opens nothing for a value that is only known later.
            parameters = {**parameters, self.INPUT: QgsProperty.fromExpression("''")}
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:
        """Read the layer, which belongs to the main thread; QGIS calls this there, by name."""
        layer = self.parameterAsRasterLayer(parameters, self.INPUT, context)
        if layer is None or not layer.isValid():
            # The program reads formats that GDAL does not, and reports damage more clearly.
            self._layer = "", "gdal", str(parameters[self.INPUT]), 0
        else:
            provider = layer.dataProvider().name()
            self._layer = layer.name(), provider, layer.source(), layer.bandCount()
        return True

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the program; QGIS calls this by name."""
        try:
            return self._process(parameters, context, feedback)
        except ProgramError as error:
            raise QgsProcessingException(str(error)) from None

    @abstractmethod
    def _process(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the algorithm and return its outputs; each algorithm implements this."""

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
                "Log folder of your own training run, instead of a model that ships",
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

    def _command(self, mode: str, target: Path, more: list[str], given: tuple) -> list[str]:
        """Return the command line for what the user has given (parameters, context)."""
        parameters, context = given
        source, options = self._source(parameters, context)
        refuse_the_input(source, target)
        model = self.parameterAsEnumString(parameters, self.MODEL, context)
        return build_command(
            find_program(ProcessingConfig.getSetting(PROGRAM_SETTING) or ""),
            mode,
            source,
            target.name,
            "" if model == _NO_MODEL else model,
            self.parameterAsString(parameters, self.LOG_FOLDER, context),
            [
                *options,
                *more,
                *further_options(self.parameterAsString(parameters, self.OPTIONS, context)),
            ],
        )

    def _source(self, parameters: Any, context: Any) -> tuple[str, list[str]]:
        """Return the file of the layer, and the options that select a variable or band of it."""
        name, provider, source, bands = self._layer
        if provider != "gdal":
            raise ProgramError(
                f"{name}: is a layer of the provider {provider}; only files on disk can be used. "
                f"Save the layer first (Export > Save As)."
            )
        path, variable = split_source(source)
        band = None
        if _is_given(parameters.get(self.BAND)) and bands != 1:
            band = self.parameterAsInt(parameters, self.BAND, context)
        return path, source_options(path, variable, band)


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
        """Return the help text of the dialogue."""
        return (
            "Enlarges a sea-floor map with a network: 2 or 4 times as many pixels along each axis "
            "with the models that ship. Position, sign, unit, data type and gaps are kept.\n"
            "Interval: with 0.9, two extra bands contain the limits between which 90 % of the "
            "truth should lie.\n"
            "Further options: for example, --dtype float32 keeps fractions, --nodata -9999 gives "
            "the value for missing pixels, --positive down declares that the values are depths.\n"
            "Not for navigation: the detail is likely, not measured. Inspect the map first."
        )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters; QGIS calls this by name."""
        self._add_input()
        self._add_model(list(MODELS))
        self.addParameter(
            QgsProcessingParameterNumber(
                self.INTERVAL,
                "Interval: share of the truth between two extra bands, e.g. 0.9",
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
        if _is_given(parameters.get(self.INTERVAL)):
            share = self.parameterAsDouble(parameters, self.INTERVAL, context)
            more += ["--interval", f"{share:g}"]
        command = self._command("predict", target, more, (parameters, context))
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
        """Return the help text of the dialogue."""
        return (
            "Reports how far a map can be trusted, before it is enlarged: whether it was "
            "interpolated or enlarged before, and contour lines, stripes, noise and rounding; with "
            "a model, also whether it resembles the training data. The page shows where."
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
        command = self._command("inspect", page, [], (parameters, context))
        feedback.pushCommandInfo(" ".join(command))
        with folder_beside(page) as folder:
            lines = run(command, folder, feedback)
            if lines is None:
                return {}
            put(folder / page.name, page)
        marks = [line.partition("verdict: ")[2] for line in lines if line.startswith("verdict: ")]
        return {self.PAGE: str(page), self.VERDICT: marks[-1] if marks else ""}
