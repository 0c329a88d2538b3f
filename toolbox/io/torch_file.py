"""Weights files of PyTorch (``.pth``, ``.pt``), read without PyTorch and without executing them."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.safe_pickle import ArrayUnpickler, ForbiddenError

#: Number types by the first half of the name of their storage class, e.g. ``FloatStorage``.
_DTYPES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "u2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
#: Keys under which checkpoints keep the weights; the first existing one is used.
_NESTED = ("params_ema", "params", "state_dict")
_LEVELS = 4
#: First bytes of a file written before PyTorch 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C


class _OtherContentError(Exception):
    """The file is readable but holds no state dict."""


class _Storage(NamedTuple):
    kind: str
    key: str


class _Tensor(NamedTuple):
    """The arguments of a tensor as stored in the file, not yet checked."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Content(NamedTuple):
    """The objects of a file, and the bytes of its storages."""

    root: Any
    data: dict[str, bytes]
    order: Literal["<", ">"]


def _constructors() -> dict[tuple[str, str], Any]:
    """Return replacements for everything that a weights file may name.

    A pickle can set attributes of a function, so every file gets its own functions.
    """

    def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, size, stride)

    def rebuild_parameter(data: Any, *_: Any) -> Any:
        return data

    return {
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("collections", "OrderedDict"): OrderedDict,
        **{("torch", f"{kind}Storage"): kind for kind in _DTYPES},
    }


class _TorchUnpickler(ArrayUnpickler):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.allowed = _constructors()
        #: Kinds of the storages that the pickle refers to.
        self.kinds: dict[str, str] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the replacement for the storage ('storage', kind, key, device, count)."""
        match pid:
            # Files before PyTorch 1.6 have a last entry for storages that share memory.
            case ("storage", str(kind), str(key), _, int(), *rest) if rest in ([], [None]):
                if kind not in _DTYPES:
                    raise ForbiddenError(f"a storage of {kind!r}")
                self.kinds[key] = kind
                return _Storage(kind, key)
        raise ForbiddenError(f"the reference {str(pid)[:80]}")


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read weights written by ``torch.save`` of PyTorch 0.4 or later.

    Parameters
    ----------
    path : path-like
        A state dict, or a checkpoint that holds one as ``params_ema``, ``params`` or
        ``state_dict``, in this order of preference.

    Returns
    -------
    dict of str to numpy.ndarray
        The tensors by name; bfloat16 becomes float32.

    Raises
    ------
    DataError
        If the file is missing, damaged or compressed, if a tensor reaches beyond its storage, or
        if the file names anything other than tensors and dictionaries. Nothing in it is executed.
    """
    try:
        with open(path, "rb") as stream:
            content = _from_zip(stream) if zipfile.is_zipfile(stream) else _from_legacy(stream)
        tensors = _tensors_of(content.root)
        return {name: _array(name, tensor, content) for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Name an existing .pth file.") from None
    except ForbiddenError as error:
        raise DataError(
            f"{path}: expected tensors and dictionaries of them; received {error}, which is never "
            f"executed. Save only the weights: torch.save(network.state_dict(), file)."
        ) from None
    except _OtherContentError as error:
        raise DataError(
            f"{path}: expected tensors by name, alone or as {', '.join(_NESTED)}; received "
            f"{error}. Save only the weights: torch.save(network.state_dict(), file)."
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything, such as struct.error
        raise DataError(
            f"{path}: not a readable file of torch.save; it may be damaged "
            f"({type(error).__name__}: {error})."
        ) from None


def _from_zip(stream: BinaryIO) -> _Content:
    """Read the format of PyTorch 1.6 and later: a pickle and a file for every storage."""
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"expected one data.pkl inside; found {len(pickles)}")
        # Without compression, the contents cannot be larger than the file.
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("is compressed, which torch.save never does")
        folder = pickles[0].removesuffix("data.pkl")
        big = f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") == b"big"
        unpickler = _TorchUnpickler(io.BytesIO(archive.read(pickles[0])))
        root = unpickler.load()
        data = {key: archive.read(f"{folder}data/{key}") for key in unpickler.kinds}
    return _Content(root, data, ">" if big else "<")


def _from_legacy(stream: BinaryIO) -> _Content:
    """Read the format before PyTorch 1.6: five pickles followed by the storages."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    if _TorchUnpickler(stream).load() != _MAGIC:
        raise ValueError("does not begin like a file of torch.save")
    _protocol, system = (_TorchUnpickler(stream).load() for _ in range(2))
    little = system["little_endian"]
    unpickler = _TorchUnpickler(stream)
    root = unpickler.load()
    data = {}
    for key in _TorchUnpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little" if little else "big")
        length = count * np.dtype(_DTYPES[unpickler.kinds[key]]).itemsize
        if length > size - stream.tell():
            raise EOFError(f"storage {key} of {length} bytes extends beyond the end")
        data[key] = stream.read(length)
    return _Content(root, data, "<" if little else ">")


def _tensors_of(root: Any) -> dict[str, _Tensor]:
    """Return the tensors by name, from wherever the checkpoint keeps them."""
    for _ in range(_LEVELS):
        inner = [root[key] for key in _NESTED if isinstance(root, dict) and key in root]
        if not inner:
            break
        root = inner[0]
    if not isinstance(root, dict) or not root:
        raise _OtherContentError(f"{type(root).__name__} without tensors")
    for name, tensor in root.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise _OtherContentError(f"{type(tensor).__name__} under the name {str(name)[:80]!r}")
    return root


def _array(name: str, tensor: _Tensor, content: _Content) -> np.ndarray:
    """Return the numbers of a tensor, after checking that all are inside its storage."""
    kind, key = tensor.storage
    dtype = np.dtype(_DTYPES[kind]).newbyteorder(content.order)
    raw = content.data[key]
    _check_bounds(name, tensor, len(raw) // dtype.itemsize)
    strides = [step * dtype.itemsize for step in tensor.stride]
    view = np.ndarray(tensor.size, dtype, raw, tensor.offset * dtype.itemsize, strides)
    array = np.array(view, dtype.newbyteorder("="), order="C")
    if kind != "BFloat16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _check_bounds(name: str, tensor: _Tensor, available: int) -> None:
    """Refuse a tensor that reaches beyond its storage or uses a number twice."""
    size, stride = tuple(tensor.size), tuple(tensor.stride)
    numbers = (tensor.offset, *size, *stride)
    valid = all(type(n) is int and n >= 0 for n in numbers) and len(size) == len(stride)
    if valid and 0 not in size:
        last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        valid = last < available and math.prod(size) <= available
    if not valid:
        raise ValueError(
            f"{name!r} of shape {size}, strides {stride} and offset {tensor.offset} does not fit "
            f"its storage of {available} numbers"
        )
