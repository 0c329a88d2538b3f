"""Inspection of SEM pictures: how they were taken, compared with a run's training pictures."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.pages import Facts, Page, Picture
from toolbox.tasks.sem.alignment import data_bar_rows
from toolbox.tasks.sem.sem_image import SUFFIXES, SEMStack, note_line, open_sem_stack
from toolbox.tasks.sem.validity import (
    FILE_NAME,
    Conditions,
    Finding,
    Validity,
    conditions_text,
    findings_of,
    load_validity,
    measure_conditions,
    verdict,
)

_PAGE_GRADES = {"fine": "good", "note": "neutral", "warning": "bad"}
_CAVEAT = (
    "A picture may be like the training pictures and still get wrong widths: test the network on "
    "pictures whose widths are known."
)


class SemInspector:
    """Inspects SEM pictures: a `toolbox.task.FileInspector`.

    Parameters
    ----------
    settings : PredictParams
        ``pixel_nm``: size of a pixel in nm, for files that do not state it.
    folder : pathlib.Path or None
        Log folder of the run whose training pictures are the standard; None for no comparison.
    """

    suffixes = SUFFIXES
    what = "no picture"

    def __init__(self, settings: Any, folder: Path | None = None) -> None:
        self.pixel_nm, self.folder = settings.pixel_nm, folder
        self.validity = None if folder is None else load_validity(folder)

    def inspect(self, path: Path, page: Path | None = None, brief: bool = False) -> str:
        """Inspect a picture, or the first frame of a stack; see `toolbox.task.FileInspector`."""
        stack = open_sem_stack(path)
        pixels = stack.image().pixels
        conditions = conditions_of(stack, pixels, self.pixel_nm)
        findings = findings_of(conditions, self.validity) if self.validity else []
        grade, line = verdict(findings)
        if self.validity is None:
            line = f"not compared, because {self.folder} has no {FILE_NAME}"
        restored = [stack.notes["restored"]] if "restored" in stack.notes else []
        if brief:
            print("; ".join([f"{path}: {line}", *restored]), flush=True)
        else:
            self._tell(stack, pixels, conditions, findings)
            print(f"verdict: {line}", flush=True)
        if page is not None:
            self._write(page, path, pixels, (grade, line), findings or conditions, restored)
            print(f"report: {page}")
        return grade

    def _tell(
        self,
        stack: SEMStack,
        pixels: np.ndarray,
        conditions: Conditions,
        findings: list[Finding],
    ) -> None:
        for kind, text in stack.notes.items():
            print(note_line([stack.path], kind, text))
        of = f", the first of {stack.count} frames" if stack.count > 1 else ""
        print(f"{stack.path}: {pixels.shape[1]} × {pixels.shape[0]} pixels{of}")
        for finding in findings:
            grade = finding.grade.upper() if finding.grade == "warning" else finding.grade
            print(f"  {grade:8}{finding.name}: {finding.figure}")
            if finding.advice:
                print(f"  {'':8}  {finding.advice}")
        if not findings:
            for name, value in conditions_text(conditions).items():
                print(f"  {name}: {value}")

    def _write(
        self,
        page: Path,
        path: Path,
        pixels: np.ndarray,
        told: tuple[str, str],
        found: list[Finding] | Conditions,
        notes: list[str],
    ) -> None:
        """Write the page about an inspected picture."""
        grade, line = told
        made = Page(path.name)
        warned = [f for f in found if isinstance(f, Finding) and f.grade == "warning"]
        title = f"{line[:1].upper()}{line[1:]}"
        advice = [*(f.advice for f in warned[:1]), *notes]
        made.verdict(_PAGE_GRADES[grade], title, advice)  # type: ignore[arg-type]
        if isinstance(found, Conditions):
            made.section("Measured", Facts(conditions_text(found)))
        else:
            rows = {f.name: f"{f.grade}: {f.figure}. {f.advice}".strip() for f in found}
            made.section("Findings", Facts(rows))
        grey = np.rint(pixels * (255.0 / np.iinfo(pixels.dtype).max)).astype(np.uint8)
        shown = np.repeat(grey[..., None], 3, axis=2)
        made.section("The picture", Picture(shown, "The inspected picture", width_rem=44))
        facts = {"file": str(path), "date": datetime.date.today().isoformat()}
        if self.folder is not None:
            facts["compared with"] = self.folder.name
        made.section("How it was inspected", Facts(facts))
        made.caveat(_CAVEAT)
        made.write(page)


def conditions_of(stack: SEMStack, pixels: np.ndarray, pixel_nm: float | None = None) -> Conditions:
    """Measure the conditions of a frame, without its data bar.

    Parameters
    ----------
    stack : SEMStack
        The file.
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        The frame.
    pixel_nm : float, optional
        Size of a pixel; default what the file states.

    Returns
    -------
    Conditions
    """
    size = pixel_nm or (None if stack.size is None else stack.size.x_nm)
    return image_conditions(pixels, size)


def image_conditions(pixels: np.ndarray, pixel_nm: float | None) -> Conditions:
    """Measure the conditions of a picture, without its data bar."""
    return measure_conditions(pixels[: len(pixels) - data_bar_rows(pixels)], pixel_nm)


def warnings_of(conditions: Conditions, validity: Validity) -> dict[str, str]:
    """Return what is well outside the training range: a line for each, by name."""
    findings = findings_of(conditions, validity)
    return {f.name: f"{f.name} {f.figure}. {f.advice}" for f in findings if f.grade == "warning"}
