"""Run by QGIS's own Python: what the plugin does where ``qgis_process`` does not reach.

    python3 tests/qgis_session.py STUB MAP FOLDER

STUB stands for ``sr-trainer``; prints what was seen as JSON.
"""

import json
import sys
import threading
import time
from pathlib import Path

from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
)


def run(name, parameters, feedback=None):
    """Run an algorithm; return its results, or what it raised, and its context."""
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    output = parameters.get("OUTPUT")
    if output:
        details = QgsProcessingContext.LayerDetails("result", QgsProject.instance(), "OUTPUT")
        context.addLayerToLoadOnCompletion(output, details)
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(f"sr_toolbox:{name}")
    feedback = feedback or QgsProcessingFeedback()
    try:
        results, _ = algorithm.run(parameters, context, feedback, {}, catchExceptions=False)
    except QgsProcessingException as error:
        return str(error), context
    return results, context


def styled(context, output):
    """Load a result as QGIS does and return how it is drawn."""
    layer = QgsRasterLayer(output, "result")
    style = context.layerToLoadOnCompletionDetails(output).postProcessor()
    style.postProcessLayer(layer, context, QgsProcessingFeedback())
    renderer = layer.renderer()
    return [renderer.type(), renderer.azimuth(), renderer.zFactor()]


def cancelled(parameters):
    """Cancel a run that waits after half of its work."""
    feedback = QgsProcessingFeedback()

    def cancel():
        while feedback.progress() < 50:
            time.sleep(0.05)
        feedback.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    return run("superresolve", {**parameters, "OPTIONS": "--wait"}, feedback)[0]


def main():
    """Collect what is seen."""
    stub, map_path, folder = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    sys.path.append(str(Path(QgsApplication.pkgDataPath(), "python", "plugins")))
    from processing.core.Processing import Processing
    from processing.core.ProcessingConfig import ProcessingConfig

    Processing.initialize()
    from sr_toolbox_qgis import classFactory

    plugin = classFactory(None)
    plugin.initProcessing()
    seen = {}
    output = str(Path(folder, "result.tif"))
    given = {"INPUT": map_path, "MODEL": "bathymetry_x4", "OUTPUT": output}
    ProcessingConfig.setSettingValue("SR_TOOLBOX_PROGRAM", stub)
    feedback = QgsProcessingFeedback()
    seen["results"], context = run("superresolve", given, feedback)
    seen["log"] = feedback.textLog()
    seen["style"] = styled(context, output)
    for path in Path(folder).iterdir():
        path.unlink()

    tiles = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png", "tiles", "wms")
    seen["tiles"] = run("superresolve", {**given, "INPUT": tiles})[0]
    gdal.Translate("/vsimem/map.tif", map_path)
    memory = QgsRasterLayer("/vsimem/map.tif", "memory")
    assert memory.isValid()
    seen["memory"] = run("superresolve", {**given, "INPUT": memory})[0]
    seen["failed"] = run("superresolve", {**given, "OPTIONS": "--fail"})[0]
    seen["cancelled"] = cancelled(given)
    seen["left"] = sorted(path.name for path in Path(folder).iterdir())
    ProcessingConfig.setSettingValue("SR_TOOLBOX_PROGRAM", "")
    plugin.unload()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
