"""What all maps written by GDAL share: the library, the side file, and the system read back."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError, MissingLibraryError
from toolbox.io.crs import as_rasterio
from toolbox.io.extras import install_command
from toolbox.io.map_output import MapOutput
from toolbox.io.maps import MapReader

_GDAL = (".tif", ".tiff", ".bag")


def rasterio_library(path: Path) -> Any:
    """Import rasterio, or say in one line how it is installed.

    Parameters
    ----------
    path : pathlib.Path
        The result, for the message.

    Returns
    -------
    module
        rasterio.
    """
    try:
        import rasterio
        import rasterio.shutil
    except ImportError:
        raise MissingLibraryError(
            f"{path}: writing {path.suffix} needs rasterio. Run: {install_command('geo')}"
        ) from None
    return rasterio


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence rasterio's warning about a missing georeference: the reader's notes report it."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def copy_raster(source: Path, path: Path, output: MapOutput, **options: str) -> None:
    """Have GDAL copy a raster to another kind of file.

    Parameters
    ----------
    source : pathlib.Path
        The raster.
    path : pathlib.Path
        The file to write.
    output : MapOutput
        The plan of the result, for the message.
    **options : str
        ``driver``, and the creation options of that driver.

    Raises
    ------
    DataError
        If GDAL cannot write it.
    """
    rasterio = rasterio_library(output.path)
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with quiet():
            rasterio.shutil.copy(source, path, **options)
    except (RasterioError, CPLE_BaseError) as error:
        # PROJ quotes the complete coordinate system as JSON.
        said = re.sub(r"'?\{.*\}'?", "its coordinate reference system", str(error), flags=re.DOTALL)
        raise DataError(
            f"{output.path}: GDAL cannot write it as {options['driver']} ({said[:200]}). Name a "
            f".tif file."
        ) from None


@contextlib.contextmanager
def with_side_file(beside: Path, final: Path) -> Iterator[None]:
    """Rename the side file of GDAL together with the raster, and remove an outdated one.

    Parameters
    ----------
    beside : pathlib.Path
        The raster under its temporary name.
    final : pathlib.Path
        Its final name.
    """
    made, kept = (path.with_name(f"{path.name}.aux.xml") for path in (beside, final))
    try:
        yield
        if made.exists():
            os.replace(made, kept)
        elif final.suffix.lower() in _GDAL:  # it belongs to an earlier result
            kept.unlink(missing_ok=True)
    finally:
        made.unlink(missing_ok=True)


def tell_system(path: Path, output: MapOutput) -> None:
    """Read the reference system back, and note where it is stored or that it is lost.

    Parameters
    ----------
    path : pathlib.Path
        The finished file, under its temporary name.
    output : MapOutput
        The plan of the result.
    """
    like = output.like
    if output.suffix not in _GDAL or as_rasterio(like.crs) is None or like.transform is None:
        return
    with quiet(), rasterio_library(output.path).open(path) as file:
        kept = file.crs is not None and _same_place(like, file.crs)
    side = f"{output.path.name}.aux.xml"
    if not kept:
        like.notes.append(
            f"WARNING: {output.path}: {output.suffix} does not keep the coordinate reference "
            f"system of {like.path} unchanged. Set it again, or name a .nc file."
        )
    elif path.with_name(f"{path.name}.aux.xml").exists():
        like.notes.append(
            f"{output.path}: GDAL stores part of its metadata in {side}; move the two together."
        )


def _same_place(like: MapReader, crs: Any) -> bool:
    """Whether a system gives the same positions as that of the input, to 0.01 pixel."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    a, b, c, d, e, f = like.transform  # type: ignore[misc]
    rows, columns = like.shape
    corners = [(0, 0), (columns, 0), (0, rows), (columns, rows)]
    x, y = ([p * i + q * j + r for i, j in corners] for p, q, r in ((a, b, c), (d, e, f)))
    known = as_rasterio(like.crs)
    if known == crs:
        return True
    try:
        found = transform(known, crs, x, y)[:2]
    except (RasterioError, CPLE_BaseError):  # no transformation is possible
        return bool(known.is_projected == crs.is_projected)
    return bool(np.allclose(found, (x, y), rtol=0, atol=0.01 * min(np.hypot(a, d), np.hypot(b, e))))
