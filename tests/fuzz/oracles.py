"""What a file holds, as the reference library of its kind reads it, and whether that complained."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import Result

Content = dict[str, Any]

#: Lines that differ between two sound runs, or tell no more than the values do.
_CHATTER = re.compile(
    r"in \d+\.\d+ s|^difference between|pairs from|^epoch |^ *\d+/\d+|^reading |^written |loss|"
    r"^Model: |params: |^[│┃┏┡├└]"
)


def lines_of(result: Result, folder: Path) -> set[str]:
    """Return what a program in `folder` said of its input, without the folder's name."""
    lines = [*result.out.splitlines(), *result.messages]
    found = {line.replace(str(folder), "").strip() for line in lines if not _CHATTER.search(line)}
    return found - {""}


class Complaints(logging.Handler):
    """Collects what libraries log and warn about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def listening() -> Iterator[Complaints]:
    """Collect complaints within this block."""
    handler, root = Complaints(), logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield handler
        handler.lines += [f"{w.category.__name__}: {w.message}" for w in caught]
    finally:
        root.removeHandler(handler)


def raster(path: Path) -> Content:
    """Read bands, place and system with rasterio."""
    import rasterio

    with rasterio.open(path) as file:
        values = file.read(masked=True).astype(np.float64)
        unpacked = values * np.reshape(file.scales, (-1, 1, 1))
        unpacked = unpacked + np.reshape(file.offsets, (-1, 1, 1))
        crs = None if file.crs is None else file.crs.to_wkt()
        return {"values": np.ma.filled(unpacked, np.nan), "at": tuple(file.transform), "crs": crs}


def netcdf(path: Path) -> Content:
    """Read all variables with xarray, fills as NaN."""
    import xarray

    with open(path, "rb") as stream:
        engine = "scipy" if stream.read(3) == b"CDF" else "h5netcdf"
    with xarray.open_dataset(path, engine=engine, decode_times=False) as data:
        return {str(name): np.asarray(data[name].values) for name in data.variables}


class _Plain(pickle.Unpickler):
    """Knows what pickles of arrays name, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
        if module in known and name in ("ndarray", "dtype", "_reconstruct", "_frombuffer"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def array(path: Path) -> Content:
    """Read arrays with NumPy."""
    if path.suffix == ".pkl":
        return {"values": np.asarray(_Plain(io.BytesIO(path.read_bytes())).load())}
    found = np.load(path, allow_pickle=False)
    if path.suffix == ".npy":
        return {"values": found}
    with found:
        return {name: found[name] for name in found.files}


def tiff(path: Path) -> Content:
    """Read all pages with tifffile, or the first with Pillow if tifffile cannot decompress."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        try:
            return {str(n): page.asarray() for n, page in enumerate(file.pages)}
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
    return png(path)


def png(path: Path) -> Content:
    """Read pixels with Pillow."""
    from PIL import Image

    with Image.open(path) as image:
        return {"pixels": np.asarray(image.convert("RGB") if image.mode == "P" else image)}


def hdf5(path: Path) -> Content:
    """Read every array of a weights file with h5py."""
    import h5py

    found: Content = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def text(path: Path) -> Content:
    """Read settings with PyYAML or json."""
    words = path.read_text(encoding="utf-8-sig")
    return {"said": json.loads(words) if path.suffix == ".json" else yaml.safe_load(words)}


_READERS = {
    ".tif": raster,
    ".nc": netcdf,
    ".npy": array,
    ".npz": array,
    ".pkl": array,
    ".png": png,
    ".h5": hdf5,
    ".yml": text,
    ".json": text,
}


def read(path: Path, kind: str = "") -> Content:
    """Read a file by the library of its kind; raises whatever that raises."""
    return tiff(path) if kind == "tiff" else _READERS[path.suffix](path)


def outcome(output: Path) -> dict[str, Content]:
    """Return the content of a result: a file, or the arrays and tables of a folder."""
    if output.is_file():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {output.name: read(output)}
    names = ("*/data_*.pkl", "*.json", "weights_best.h5", "normalizer.json")
    files = sorted({path for name in names for path in output.glob(name)})
    found = {str(path.relative_to(output)): read(path) for path in files}
    for name in ("hr_fname", "lr_fname"):  # the same file, at another place
        found.get("dataset.json", {}).get("said", {}).pop(name, None)
    return found


def equal(one: Any, other: Any) -> bool:
    """Compare contents, NaN being equal to NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        if one.dtype.kind not in "fc" or other.dtype.kind not in "fc":
            return one.shape == other.shape and bool(np.array_equal(one, other))
        return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=True))
    return bool(one == other) or (one != one and other != other)
