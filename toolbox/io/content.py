"""Detect what a file holds from its first bytes, for messages about files with a wrong ending."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import DataError

_HEAD = 1024
_AGAIN = "Open it to see the server's answer, then download the file again."
_RENAME = "Give it the correct ending."
_UNPACK = "Unpack it first."


class Content(NamedTuple):
    """First bytes of a kind of file, its name, what to do if it was not expected, its endings."""

    sign: bytes
    what: str
    cure: str
    endings: tuple[str, ...] = ()


_KNOWN = (
    Content(rb"CDF[\x01\x02\x05]", "NetCDF", _RENAME, (".nc", ".grd")),
    Content(
        rb"\x89HDF\r\n\x1a\n",
        "HDF5",
        _RENAME,
        (".nc", ".grd", ".bag", ".h5", ".hdf5", ".s102"),
    ),
    Content(rb"(II[*+]\x00|MM\x00[*+])", "a TIFF", _RENAME, (".tif", ".tiff")),
    Content(rb"\x89PNG", "a PNG picture", _RENAME, (".png",)),
    Content(rb"\xff\xd8\xff", "a JPEG picture", _RENAME, (".jpg", ".jpeg")),
    Content(rb"\x93NUMPY", "a NumPy array", _RENAME, (".npy",)),
    Content(rb"PK\x03\x04", "a zip archive", _UNPACK, (".npz",)),
    Content(rb"(\x1f\x8b|BZh|\xfd7zXZ)", "a compressed file", _UNPACK),
    Content(rb"%PDF", "a PDF document", "Name a data file."),
    Content(rb"version https://git-lfs", "a Git LFS pointer, not the file", "Run git lfs pull."),
    Content(rb"\s*(<!doctype html|<html|<\?xml.*<html)", "a web page (HTML)", _AGAIN),
    Content(rb"\s*<(\?xml|\w+[ >])", "an XML file", _AGAIN),
    Content(rb"\s*[{\[]\s*\"", "a JSON file", _AGAIN),
    Content(rb"$", "empty", _AGAIN),
)


def content_of(path: str | os.PathLike[str]) -> Content | None:
    """Return what a file holds; None if its first bytes do not show it."""
    with open(path, "rb") as stream:
        head = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
    found = (known for known in _KNOWN if re.match(known.sign, head, re.IGNORECASE | re.DOTALL))
    return next(found, None)


def is_netcdf(path: str | os.PathLike[str]) -> bool:
    """Whether a file is NetCDF, either classic or HDF5."""
    found = content_of(path)
    return found is not None and found.what in ("NetCDF", "HDF5")


def unreadable(path: str | os.PathLike[str], kind: str, error: object = "") -> DataError:
    """Return the error for a file that cannot be read.

    Parameters
    ----------
    path : path-like
        The file, which exists.
    kind : str
        What was expected: ``NetCDF``, ``a raster``.
    error : object
        Message of the library, quoted if the first bytes give no better reason.
    """
    found = None if Path(path).is_dir() else content_of(path)  # a Zarr is a folder
    if found is not None and Path(path).suffix.lower() not in found.endings:
        return DataError(f"{path}: cannot be read as {kind}: it is {found.what}. {found.cure}")
    first = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".:")
    said = f" ({first})" if first else ""
    return DataError(f"{path}: cannot be read as {kind}{said}. Is the file damaged?")
