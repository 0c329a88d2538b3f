"""What a file holds, told by its first bytes, for messages about files with a wrong ending."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import DataError

_HEAD = 1024
_AGAIN = "Open it to see what the server answered, then download the file again."
_RENAME = "Give it its own ending."
_UNPACK = "Unpack it first."


class Content(NamedTuple):
    """What begins in a certain way, what to do if something else was expected, and its endings."""

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
    Content(rb"%PDF", "a PDF document", "Name a file of data."),
    Content(rb"version https://git-lfs", "a pointer of Git LFS, not the file", "Run git lfs pull."),
    Content(rb"\s*(<!doctype html|<html|<\?xml.*<html)", "a web page (HTML)", _AGAIN),
    Content(rb"\s*<(\?xml|\w+[ >])", "an XML text", _AGAIN),
    Content(rb"\s*[{\[]\s*\"", "a JSON text", _AGAIN),
    Content(rb"$", "empty", _AGAIN),
)


def content_of(path: str | os.PathLike[str]) -> Content | None:
    """Return what a file holds; None if its first bytes do not tell."""
    with open(path, "rb") as stream:
        head = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
    found = (known for known in _KNOWN if re.match(known.sign, head, re.IGNORECASE | re.DOTALL))
    return next(found, None)


def is_netcdf(path: str | os.PathLike[str]) -> bool:
    """Whether a file is NetCDF: classic, or within HDF5."""
    found = content_of(path)
    return found is not None and found.what in ("NetCDF", "HDF5")


def unreadable(path: str | os.PathLike[str], kind: str, error: object = "") -> DataError:
    """Return the error for a file that cannot be read, in whole sentences.

    Parameters
    ----------
    path : path-like
        The file, which exists.
    kind : str
        What was expected: ``NetCDF``, ``a raster``.
    error : object
        What the library said; told where the first bytes tell nothing better.
    """
    found = content_of(path)
    if found is not None and Path(path).suffix.lower() not in found.endings:
        return DataError(f"{path}: cannot be read as {kind}: it is {found.what}. {found.cure}")
    first = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".:")
    said = f" ({first})" if first else ""
    return DataError(f"{path}: cannot be read as {kind}{said}. Is the file damaged?")
