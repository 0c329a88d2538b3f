"""Write a coarse GeoTIFF to try the plugin: the elevation model of Matplotlib, 4 times coarser.

python -m examples.qgis.sample coarse.tif
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.cbook import get_sample_data

from toolbox.errors import MissingLibraryError, program
from toolbox.io.atomic import replacing

_COARSER = 4
_NODATA = -9999
#: Missing rows and columns (from, to), as an example of a gap.
_GAP = ((40, 52), (8, 20))


def write_sample(path: str) -> None:
    """Write means of 4 × 4 pixels as a GeoTIFF in degrees, with one gap.

    Parameters
    ----------
    path : str
        File to write.
    """
    try:
        import rasterio
    except ImportError:
        raise MissingLibraryError("rasterio is missing. Run: pip install '.[geo]'") from None
    sample = get_sample_data("jacksboro_fault_dem.npz")
    fine = sample["elevation"].astype(np.float32)
    height, width = (side // _COARSER for side in fine.shape)
    fine = fine[: height * _COARSER, : width * _COARSER]
    coarse = fine.reshape(height, _COARSER, width, _COARSER).mean((1, 3))
    coarse[slice(*_GAP[0]), slice(*_GAP[1])] = _NODATA
    dx, dy = (float(sample[name]) * _COARSER for name in ("dx", "dy"))
    # In the file, the upper edge is called ymin.
    place = rasterio.Affine(dx, 0, float(sample["xmin"]), 0, -dy, float(sample["ymin"]))
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "float32",
        "crs": "EPSG:4326", "transform": place, "nodata": _NODATA,
    }  # fmt: skip
    with replacing(path) as beside, rasterio.open(beside, "w", **profile) as dataset:
        dataset.write(coarse, 1)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="GeoTIFF to write")
    write_sample(parser.parse_args(arguments).target)


if __name__ == "__main__":
    sys.exit(main())
