"""Inspection of map files: read in bands, judged, reported on the terminal and on a page."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.io.maps import MAP_SUFFIXES, MapReader, open_map
from toolbox.progress import progress
from toolbox.tasks.bathymetry.inspection import (
    MOST,
    Finding,
    Survey,
    judge_file,
    judge_range,
    judge_relief,
    take_survey,
    verdict,
)
from toolbox.tasks.bathymetry.inspection_report import Overview, write_inspection
from toolbox.tasks.bathymetry.terrain import spacing_text
from toolbox.tasks.bathymetry.validity import FILE_NAME, Validity, load_validity

#: Longest side of the picture, pixels.
_OVERVIEW = 800
#: Windows along each axis for the quick inspection before a prediction.
_QUICK = 8


class MapInspector:
    """Inspects map files: a `toolbox.task.FileInspector`.

    Parameters
    ----------
    settings : PredictParams
        How files are read: ``variable``, ``time``, ``group``, ``nodata``, ``positive``.
    folder : pathlib.Path or None
        Log folder of the run whose training data the maps are compared with; None for no run.
    """

    suffixes = MAP_SUFFIXES
    what = "no map"

    def __init__(self, settings: Any, folder: Path | None = None) -> None:
        self.settings, self.folder = settings, folder
        self.validity = None if folder is None else load_validity(folder)

    def inspect(self, path: Path, page: Path | None = None, brief: bool = False) -> str:
        """Inspect one map; see `toolbox.task.FileInspector`."""
        s = self.settings
        with open_map(path, s.variable, s.nodata, s.positive, s.time, s.group) as reader:
            if reader.is_image or reader.channels != 1:
                counted = f"{reader.channels} channel{'s' * (reader.channels != 1)}"
                several = reader.channels > 1
                choose = "Choose one band with --variable, or " if several else "To inspect it, "
                raise DataError(
                    f"{path}: is an image of {counted} and {reader.dtype}; inspect expects "
                    f"a map in metres. {choose}name the model for this kind of image with "
                    f"--pretrained."
                )
            survey = _survey(reader)
            findings = self._findings(reader, survey)
            grade, line = verdict(findings)
            if not brief:
                self._tell(reader, findings)
            print(f"{path}: {line}" if brief else f"verdict: {line}", flush=True)
            if page is not None:
                overview = _overview(reader)
                facts = self._facts(reader, survey)
                write_inspection(page, reader.path.name, findings, survey, overview, facts)
                print(f"report: {page}")
        return grade

    def _findings(self, reader: MapReader, survey: Survey | None) -> list[Finding]:
        """Return all findings, most serious first."""
        file = judge_file(reader, survey)
        if survey is None:
            return file
        trained = judge_range(survey, reader.delta_m, self.validity) if self.validity else []
        serious = [f for f in file if f.grade == "warning"]
        others = [f for f in file if f.grade != "warning"]
        return [*serious, *judge_relief(survey, reader.delta_m), *trained, *others]

    def _tell(self, reader: MapReader, findings: list[Finding]) -> None:
        h, w = reader.shape
        print(f"{reader.path}: {w} × {h} pixels")
        for finding in findings:
            grade = finding.grade.upper() if finding.grade == "warning" else finding.grade
            print(f"  {grade:8}{finding.name}: {finding.figure}")
            if finding.advice:
                print(f"  {'':8}  {finding.advice}")
        if self.folder is not None and self.validity is None:
            print(
                f"  {'note':8}{self.folder} has no {FILE_NAME}, so depth and slope are not compared"
            )

    def _facts(self, reader: MapReader, survey: Survey | None) -> dict[str, str]:
        h, w = reader.shape
        facts = {"file": str(reader.path), "size": f"{w} × {h} pixels"}
        if reader.delta_m is not None:
            facts["spacing"] = spacing_text(reader.delta_m)
        if survey is not None:
            facts["windows"] = f"{len(survey.places)} of {survey.side} × {survey.side} pixels"
        if self.folder is not None:
            facts["compared with"] = self.folder.name
        return facts | {"date": datetime.date.today().isoformat()}


def quick_warnings(reader: MapReader, validity: Validity | None) -> list[str]:
    """Return the warnings of an inspection, one line each, from at most 64 windows.

    Parameters
    ----------
    reader : toolbox.io.maps.MapReader
        An opened map of one channel.
    validity : Validity or None
        Range of the training data; None skips the comparison.
    """
    survey = take_survey(reader.read, reader.shape, reader.delta_m, _QUICK)
    if survey is None:
        return []
    findings = judge_relief(survey, reader.delta_m)
    findings += judge_range(survey, reader.delta_m, validity) if validity else []
    return [f"{f.name}: {f.figure}. {f.advice}" for f in findings if f.grade == "warning"]


def _survey(reader: MapReader) -> Survey | None:
    with progress(None, "inspecting", unit=" windows", delay=2) as bar:
        return take_survey(reader.read, reader.shape, reader.delta_m, MOST, bar.update)


def _overview(reader: MapReader) -> Overview:
    """Read every n-th row and column, one row at a time."""
    h, w = reader.shape
    step = -(-max(h, w) // _OVERVIEW)
    rows = [reader.read(slice(r, r + 1), slice(0, w))[0, ::step, 0] for r in range(0, h, step)]
    return Overview(np.stack(rows), step, reader.delta_m)
