"""Remake the CD-SEM model that ships: ``python -m examples.cd_sem.pretrained.remake``.

1. Lines of many kinds are simulated (``simulate.yml``), and the network is trained on them.
2. It is tested on settings that were never simulated (`unseen`) and on real pictures (`real`).
3. It is copied to ``toolbox/pretrained`` with its model card and the ranges that it knows.

``--resume`` uses existing pictures, training and tests; ``--check`` trains again and compares the
result with the model that ships, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from examples.cd_sem.pretrained.real import test_lines, test_spheres
from examples.cd_sem.pretrained.unseen import (
    METHODS,
    SETTINGS,
    conditions_in,
    flags_of,
    test_setting,
)
from examples.cd_sem.results import record
from sr_dataset_builder.simulate_sem import SimulationParams, simulate
from toolbox import pretrained
from toolbox.config import check, read_yaml
from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing
from toolbox.model_card import OWN_NAME, card_of_run, write_model_card
from toolbox.run import Run
from toolbox.tasks.sem.validity import FILE_NAME, Conditions, Validity, load_validity, validity_text

HERE = Path(os.path.relpath(Path(__file__).parent))  # no absolute paths in the settings
NAME = "sem_lines"
OUT = Path("data/pretrained")
REAL = Path("../shared/data/sem")
#: The setting whose figures represent the model.
USUAL = "0.8 nm, 10 counts"
#: Number of pictures drawn like the training pictures, to count flags.
FRESH = 60
PARTS = ("config.yml", "normalizer.json", "weights_best.h5")
ONE_THREAD = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"
)
LICENCE = "MIT, as the project."
ACKNOWLEDGEMENT = (
    "Trained on simulated pictures alone. Also tested on pictures of KRISS (S. Shin 2023, MIT "
    "licence) and of the SiEPIC project (MIT licence)."
)
DESCRIPTION = (
    "EDSR with {weights} weights that removes the noise from CD-SEM pictures of vertical, bright "
    "lines. Trained on {pictures} simulated pictures of 0.4 to 1.5 nm per pixel, 3 to 100 counts, "
    "rims from none to strong, beams of 0.4 to 2 pixels, charging, differences between scan lines, "
    "and roughness of many kinds; the target is the picture without noise."
)
_FIGURES = (
    ("PSNR, dB", "psnr", "{:.1f}"),
    ("CD bias, nm", "cd_bias_nm", "{:+.2f}"),
    ("slope", "cd_slope", "{:.2f}"),
    ("LWR error, %", "unbiased_lwr_error_percent", "{:+.0f}"),
    ("edge error, nm", "edge_error_nm", "{:.2f}"),
)


def train(resume: bool) -> Path:
    """Simulate and train; return the log folder."""
    settings, lines = HERE / f"{NAME}.yml", HERE / "simulate.yml"
    log = Path(read_yaml(settings)["log_dir"])
    if resume and (log / "history.csv").is_file() and (log / PARTS[-1]).is_file():
        return log
    params = check(SimulationParams, read_yaml(lines), str(lines))
    if not (resume and Path(params.save_dir, "dataset.json").is_file()):
        simulate(params, str(lines))
    # In a separate process on one thread, because several threads may round differently.
    command = [sys.executable, "-m", "sr_trainer.main", str(settings), "train", "--overwrite"]
    if subprocess.run(command, env=os.environ | ONE_THREAD).returncode:
        raise DataError(f"{settings}: the training run failed; its message is above.")
    return log


def test(log: Path, resume: bool) -> tuple[dict[str, Any], Validity]:
    """Test on settings that were never simulated and on real pictures; save each result.

    Returns
    -------
    (dict, Validity)
        The results, and what the network knows: the ranges of its training data without those at
        which it does harm.
    """
    run, validity = Run.open(log), load_validity(log)
    if validity is None:
        raise DataError(f"{log}: holds no validity.json. Train again.")
    folder = OUT / "sem_unseen"
    tests, pictures = [], []
    for number, setting in enumerate(SETTINGS):
        fname, at = folder / f"{number:02d}.json", folder / f"{number:02d}"
        if not (resume and fname.is_file()):
            found = test_setting(run, setting, at)
            with replacing(fname) as beside:
                beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        tests.append(json.loads(fname.read_text(encoding="utf-8")))
        pictures.append(conditions_in(at / "test" / "low", setting.shown))
    validity = narrowed(validity, tests, pictures)
    tests = [t | flags_of(p, validity) for t, p in zip(tests, pictures, strict=True)]
    fresh = flags_of(fresh_pictures(folder / "fresh"), validity)
    real: dict[str, Any] = {}
    if REAL.is_dir():
        real["spheres"] = test_spheres(run, validity, REAL / "kriss_spheres", folder / "spheres")
        real["lines"] = test_lines(run, validity, REAL / "siepic_lines", folder / "siepic_lines")
    return {"unseen": tests, **real, "flags": {**flag_rates(tests), "fresh": fresh}}, validity


def narrowed(
    validity: Validity, tests: list[dict[str, Any]], pictures: list[list[Conditions]]
) -> Validity:
    """Leave out large pixels and low doses of the training data at which restoring does harm.

    A pixel size is left out if restoring does harm at more than half of its doses, and a dose if
    it does harm at any remaining size. On a logarithmic scale, the limits are half-way between
    what is left out and what remains.
    """
    table = pd.DataFrame(
        {
            "pixel": setting.pixel_nm,
            "nominal": setting.counts,
            "counts": np.median([p.counts for p in part if p.counts is not None]),
            "harms": test["verdict"] == "harms",
        }
        for setting, test, part in zip(SETTINGS, tests, pictures, strict=True)
        if setting.inside and not setting.changes
    )
    by_size = table.groupby("pixel")["harms"].mean() > 0.5
    kept = table[~table["pixel"].map(by_size)]
    by_dose = kept.groupby("nominal").agg({"counts": "median", "harms": "any"})
    ranges = dict(validity.ranges)
    if by_size.any():
        sizes = [kept["pixel"].max(), by_size.index[by_size].min()]
        ranges["pixel_nm"] = (ranges["pixel_nm"][0], float(np.sqrt(np.prod(sizes))))
    if by_dose["harms"].any():
        worst = by_dose["counts"][by_dose["harms"]].max()
        following = by_dose["counts"][by_dose["counts"] > worst].min()
        ranges["counts"] = (float(np.sqrt(worst * following)), ranges["counts"][1])
    return validity._replace(ranges=ranges)


def fresh_pictures(folder: Path) -> list[Conditions]:
    """Draw pictures like the training pictures, with another seed, and measure them."""
    content = read_yaml(HERE / "simulate.yml") | {
        "save_dir": str(folder),
        "seed": 1,
        "train": {"count": 1},
        "validation": {"count": 0},
        "test": {"count": FRESH},
    }
    if not (folder / "dataset.json").is_file():
        simulate(check(SimulationParams, content, "simulate.yml"), "simulate.yml")
    return conditions_in(folder / "test" / "low")


def flag_rates(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how well flags distinguish settings outside from inside, and harm from no harm."""

    def rate(chosen: list[dict[str, Any]]) -> dict[str, int]:
        return {
            "settings": len(chosen),
            "settings_flagged": sum(2 * t["flagged"] > t["pictures"] for t in chosen),
            "pictures": sum(t["pictures"] for t in chosen),
            "pictures_flagged": sum(t["flagged"] for t in chosen),
        }

    harms = [t for t in tests if t["verdict"] == "harms"]
    return {
        "inside": rate([t for t in tests if t["inside"]]),
        "outside": rate([t for t in tests if not t["inside"]]),
        "harms": rate(harms),
        "no_harm": rate([t for t in tests if t not in harms]),
    }


def markdown(tests: list[dict[str, Any]]) -> str:
    """Return a table with a row for each test: raw / Gaussian / non-local means / restored."""
    heads = ("pictures", *(title for title, _, _ in _FIGURES), "verdict", "flagged")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for found in tests:
        cells = [found["name"]]
        for _, key, form in _FIGURES:
            values = [found.get(key, {}).get(method) for method in METHODS]
            texts = ["–" if v is None else form.format(v).replace("-", "−") for v in values]
            cells.append(f"{' / '.join(texts[:-1])} / **{texts[-1]}**" if any(values) else "")
        flagged = f"{found['flagged']} of {found['pictures']}"
        lines.append("| " + " | ".join([*cells, found["verdict"], flagged]) + " |")
    return "\n".join(lines)


def install(log: Path, folder: Path, found: dict[str, Any], validity: Validity) -> None:
    """Copy the network and its model card to the folder from which it ships."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        with replacing(folder / part) as beside:
            shutil.copyfile(log / part, beside)
    with replacing(folder / FILE_NAME) as beside:
        beside.write_text(validity_text(validity), encoding="utf-8")
    card = card_of_run(log)
    facts = {
        "weights": f"{card['parameters']:,}",
        "pictures": card["data"]["pictures"]["train"],
    }
    text = f"{DESCRIPTION.format(**facts)}\n\n{summary_text(found)}"
    own = {
        "description": text,
        "data": card["data"],
        "summary": _usual(found),
        "licence": LICENCE,
        "acknowledgement": ACKNOWLEDGEMENT,
    }
    with replacing(folder / OWN_NAME) as beside:
        beside.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    write_model_card(folder / "MODEL_CARD.md", card_of_run(folder) | {"name": NAME})
    print(f"written to {folder}")


def _usual(found: dict[str, Any]) -> dict[str, Any]:
    """Return the test of the most usual setting as the summary of the card."""
    usual = next(t for t in found["unseen"] if t["name"] == USUAL)
    figures = {key: value for key, value in usual.items() if isinstance(value, dict)}
    return {**figures, "n": usual["pictures"], "measured": f"lines, {USUAL}"}


def summary_text(found: dict[str, Any]) -> str:
    """Return the tests as text and tables for the model card."""
    flags = found["flags"]
    outside, inside, harms, fresh = (flags[k] for k in ("outside", "inside", "harms", "fresh"))
    told = (
        "Pixel sizes and doses that are in the training data, but at which restoring harms in "
        "this table, are excluded from the known ranges, so the flags of the first twelve rows "
        "were chosen on them. Flagged as outside: "
        f"{outside['settings_flagged']} of {outside['settings']} settings outside the ranges of "
        f"the training data, {inside['settings_flagged']} of {inside['settings']} within; "
        f"{harms['settings_flagged']} of the {harms['settings']} settings in which restoring "
        f"harms; and {fresh['flagged']} of {fresh['pictures']} pictures drawn like those of the "
        f"training data, {fresh['flagged_by'].get('size of a pixel', 0)} of them by the pixel size."
    )
    head = (
        "Settings that were never simulated, four or six pictures each; raw / Gaussian filter / "
        "non-local means / **restored**. Bias against the picture without noise, LWR and edges "
        "against the edges as drawn."
    )
    parts = [head, markdown(found["unseen"]), told]
    if "spheres" in found:
        parts += ["Real pairs of spheres, 5.8 nm pixels (diameters):", markdown(found["spheres"])]
    return "\n\n".join(parts)


def compare(log: Path, folder: Path) -> None:
    """Raise an error if the files differ from those that ship."""
    for part in PARTS:
        if (log / part).read_bytes() != (folder / part).read_bytes():
            raise DataError(f"{log / part} differs from {folder / part}.")
    print(f"{', '.join(PARTS)}: the same bytes as in {folder}")


@program
def main() -> None:
    """Remake the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--resume", action="store_true", help="use existing results")
    parser.add_argument(
        "--check", action="store_true", help="compare with the model that ships; no tests"
    )
    args = parser.parse_args()
    log, folder = train(args.resume), pretrained.FOLDER / NAME
    if args.check:
        compare(log, folder)
        return
    found, validity = test(log, args.resume)
    record(NAME, found)
    print(summary_text(found))
    install(log, folder, found, validity)


if __name__ == "__main__":
    raise SystemExit(main())
