"""Zarr folders: what is in them is checked before anything is read, and only data are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolbox.errors import DataError, MissingLibraryError, not_found
from toolbox.io.extras import install_command

SUFFIX = ".zarr"
#: Files that describe arrays and groups, in formats 2 and 3.
_ARRAY, _GROUP, _NODE = ".zarray", ".zgroup", "zarr.json"
#: Codecs that turn bytes into numbers and nothing else.
_CODECS = frozenset(
    (
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
        *("bitround", "delta", "fixedscaleoffset", "packbits", "quantize"),
        *("bytes", "sharding_indexed", "shuffle", "transpose"),
    )
)
#: A larger description is none.
_LARGEST_BYTES = 2**26


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that is used like a file: one whose name ends in ``.zarr``."""
    return Path(path).suffix.lower() == SUFFIX and Path(path).is_dir()


def zarr_library(path: str | os.PathLike[str]) -> Any:
    """Import zarr, or say in one line how it is installed."""
    try:
        import xarray  # noqa: F401
        import zarr
        from zarr.codecs import BloscCodec  # noqa: F401, version 3
    except ImportError:
        raise MissingLibraryError(
            f"{path}: Zarr needs zarr 3, for Python 3.11 or later, and xarray. Run: "
            f"{install_command('dask')}"
        ) from None
    return zarr


def check_zarr(path: Path) -> list[str]:
    """Refuse a folder that is no Zarr, or whose arrays hold Python objects.

    Parameters
    ----------
    path : pathlib.Path
        The folder.

    Returns
    -------
    list of str
        Names of the groups in it, such as ``a`` and ``a/b``.

    Raises
    ------
    DataError
        One line.
    """
    if path.is_file():
        raise DataError(
            f"{path}: is a file, but a Zarr is a folder. Name the folder, or unpack the file first."
        )
    if not path.is_dir():
        raise DataError(f"{not_found(path, 'Zarr folder')}. Name an existing one.")
    groups, found = [], False
    for file in _descriptions(path):
        found = True
        where = file.parent.relative_to(path).as_posix()
        if file.name == _GROUP:
            groups.append(where)
            continue
        try:
            if file.stat().st_size > _LARGEST_BYTES:
                raise ValueError("too large")
            content = json.loads(file.read_bytes())
            is_group = content.get("node_type") == "group" and file.name == _NODE
            fault = None if is_group else _fault(content)
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            raise DataError(
                f"{path}: {file.relative_to(path)} is no JSON of Zarr; it is damaged. Copy the "
                f"folder again."
            ) from None
        if is_group:
            groups.append(where)
        elif fault is not None:
            raise DataError(
                f"{path}: the array {where} has {fault}, which may hold objects of Python; nothing "
                f"of it is read. Write it again as numbers, with blosc, zstd or gzip."
            )
        elif where == ".":
            raise DataError(
                f"{path}: is a single array; expected a group of named ones. Write it again, e.g. "
                f"with xarray: xarray.Dataset({{'z': (('y', 'x'), values)}}).to_zarr('new.zarr')."
            )
    if not found:
        raise DataError(
            f"{path}: holds neither {_NODE} nor {_GROUP}; it is no Zarr. Name another folder."
        )
    return sorted(name for name in groups if name != ".")


def _descriptions(path: Path) -> Iterator[Path]:
    """Yield files that describe arrays and groups; folders of chunks are not looked into."""
    for folder, names, files in os.walk(path):
        known = {_ARRAY, _GROUP, _NODE} & set(files)
        yield from (Path(folder, name) for name in sorted(known))
        if _ARRAY in known:
            names.clear()
        elif _NODE in known:
            names[:] = [name for name in names if Path(folder, name, _NODE).is_file()]


def _fault(array: dict[str, Any]) -> str | None:
    """Return what is wrong with an array's data type or codecs, None if nothing is.

    Raises
    ------
    ValueError, TypeError, AttributeError
        If it describes no array.
    """
    version = array.get("zarr_format")
    if version == 2:
        kind = array.get("dtype")
        names = [kind] if isinstance(kind, str) else [str(part) for part in kind or ["O"]]
        if any("O" in name for name in names):
            return f"the data type {kind!r}"
        codecs = [array.get("compressor"), *(array.get("filters") or [])]
        used = [codec.get("id") for codec in codecs if codec is not None]
    elif version == 3:
        used = list(_names(array.get("codecs", [])))
    elif version is None:
        raise ValueError("zarr_format is missing")
    else:
        return f"the format {version!r}"
    strange = [str(name) for name in used if name not in _CODECS]
    return f"the codec {strange[0]}" if strange else None


def _names(codecs: list[Any]) -> Iterator[str]:
    """Yield the names of codecs of format 3, those inside of shards too."""
    for codec in codecs:
        if isinstance(codec, str):
            yield codec.removeprefix("numcodecs.")
            continue
        yield str(codec.get("name")).removeprefix("numcodecs.")
        inner = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            yield from _names(inner.get(key, []))


def may_be_replaced(folder: Path) -> bool:
    """Whether nothing but a Zarr is lost if a folder is removed: it is one, or empty."""
    names = {path.name for path in folder.iterdir()}
    return not names or bool(names & {_ARRAY, _GROUP, _NODE})


def state_of(path: Path) -> tuple[int, int]:
    """Return total size in bytes and time of the last change of the files of a folder."""
    total = latest = 0
    for folder, _, files in os.walk(path):
        for name in files:
            state = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118, many files
            total, latest = total + state.st_size, max(latest, state.st_mtime_ns)
    return total, latest
