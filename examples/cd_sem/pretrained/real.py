"""Apply `sem_lines` to real pictures: pairs of spheres with a reference, lines without one.

It was not trained for any of them: the spheres have pixels of 5.8 nm, and the lines are hundreds
of pixels wide. Its flags should report that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from examples.cd_sem.pretrained.unseen import conditions_in, figures_of, flags_of, seen_through
from toolbox.errors import DataError
from toolbox.run import Run
from toolbox.tasks.sem.alignment import data_bar_rows
from toolbox.tasks.sem.inspector import conditions_of
from toolbox.tasks.sem.judge import SemTest
from toolbox.tasks.sem.metrology import find_lines
from toolbox.tasks.sem.sem_image import open_sem_stack, write_sem_image
from toolbox.tasks.sem.settings import MetrologyParams
from toolbox.tasks.sem.source import SEMSource
from toolbox.tasks.sem.validity import Validity

#: Folders of short and long exposures, and the beginning of their names.
SPHERES = {
    "spheres, one line scan": ("line/noisy", "line/clean", ("Line off_", "Line 50x_")),
    "spheres, 100 ns": ("time/low", "time/high", ("100ns_", "30us_")),
}


def test_spheres(run: Run, validity: Validity, root: Path, folder: Path) -> list[dict[str, Any]]:
    """Restore real pairs and measure the diameters of their discs.

    Parameters
    ----------
    run : toolbox.run.Run
        The network.
    validity : toolbox.tasks.sem.validity.Validity
        Ranges that it knows.
    root : pathlib.Path
        Folder of the KRISS spheres.
    folder : pathlib.Path
        Folder for the restored pictures.

    Returns
    -------
    list of dict
        Figures by method, verdict and flags, for each set. The filters are chosen on a fifth of the
        pairs; the others are measured.
    """
    found = []
    for name, (low, high, prefix) in SPHERES.items():
        source = SEMSource(
            str(root),
            1,
            train_low_dir=low,
            train_high_dir=high,
            file_prefix=prefix,
            shares=(0, 1, 4),
            data_bar_height=29,
            central_crop_height=438,
            central_crop_width=508,
            cache_dir=str(folder / low / "cache"),
        )
        metrology = MetrologyParams(shape="discs", tolerance_nm=1.5)
        view = seen_through(run, metrology, folder / low)
        summary = SemTest(view, source, "test").evaluate(True).summary
        flags = flags_of(conditions_in(root / low), validity)
        found.append({"name": name, "inside": False, **figures_of(summary), **flags})
    return found


def test_lines(run: Run, validity: Validity, root: Path, folder: Path) -> list[dict[str, Any]]:
    """Restore real lines without a reference; measure their widths before and after, pixels.

    Parameters
    ----------
    run : toolbox.run.Run
        The network.
    validity : toolbox.tasks.sem.validity.Validity
        Ranges that it knows.
    root : pathlib.Path
        Folder of the pictures.
    folder : pathlib.Path
        Folder for the restored pictures, for visual inspection.

    Returns
    -------
    list of dict
        Width before and after, mean and root mean square change, and flags, for each picture.
    """
    found = []
    for path in sorted(root.glob("*.png")):
        stack = open_sem_stack(path)
        pixels = stack.image().pixels
        conditions = conditions_of(stack, pixels)
        pixels = pixels[: len(pixels) - data_bar_rows(pixels)]
        restored = run.resolver.predict(pixels.astype(np.float32))
        grey = np.rint(np.clip(restored, 0, 255)).astype(np.uint8)
        write_sem_image(folder / f"{path.stem}.png", grey)
        change = restored - pixels
        found.append(
            {
                "name": path.stem,
                "inside": False,
                "width_px": {"raw": _width(pixels), "restored": _width(restored)},
                "mean_change": float(change.mean()),
                "rms_change": float(np.sqrt(np.square(change).mean())),
                **flags_of([conditions], validity),
            }
        )
    return found


def _width(image: np.ndarray) -> float | None:
    """Return the mean width of the lines of a picture, pixels; None if it has none."""
    try:
        return float(np.nanmean(find_lines(image).width_px))
    except DataError:
        return None
