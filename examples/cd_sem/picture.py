"""Simulate the picture to try: six rough lines of 16 nm, 0.8 nm pixels, a short exposure.

python -m examples.cd_sem.picture examples/cd_sem/picture.tif     (one second; same bytes each time)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from sr_dataset_builder.simulate_sem import LineParams, LinePicture, NoiseParams, SimulationParams
from toolbox.errors import program
from toolbox.tasks.sem.sem_image import write_sem_image

_PIXEL_NM = 0.8
_SHAPE = (384, 240)
_SEED = 1


def simulated() -> LinePicture:
    """Return the lines, with their true edges."""
    params = SimulationParams(save_dir="nowhere", frame_shape=_SHAPE, pixel_nm=_PIXEL_NM)
    lines = LineParams(pitch_nm=32, cd_nm=16, sigma_nm=0.8, xi_nm=15, alpha=0.5, edge_correlation=0)
    return LinePicture(np.random.default_rng(_SEED), params, lines)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="picture to write, .tif")
    target = parser.parse_args(arguments).target
    lines = simulated()
    noise = NoiseParams(peak_counts=20, correlation=0.4, drift_px=0, pair_offset_px=0)
    write_sem_image(target, lines.expose(noise, 1), lines.pixel_nm)
    truth = lines.truth.figures()
    print(f"{target}: true CD {truth['cd_nm']:.2f} nm, true LWR {truth['lwr_nm']:.2f} nm")


if __name__ == "__main__":
    raise SystemExit(main())
