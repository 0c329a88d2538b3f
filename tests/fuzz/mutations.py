"""Ways to damage a file: every one takes a generator and bytes, and gives bytes."""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[np.random.Generator, bytes, bytes], bytes]

#: Where most formats keep what the rest of the file means.
_HEAD = 320
_HUGE = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\xff" * 8)
_NUMBERS = (np.nan, np.inf, -np.inf, 3.4e38, -1e-40, 9.969209968386869e36)
_PAGE = "<!DOCTYPE html>\n<html><body>404 深さ Tiefe not found \t\n</body></html>\n".encode()


def _place(rng: np.random.Generator, data: bytes, head: bool) -> int:
    return int(rng.integers(0, max(1, min(_HEAD, len(data)) if head else len(data))))


def truncated(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Cut the end off at a random place."""
    return data[: int(rng.integers(1, max(2, len(data))))]


def bits_flipped(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Turn over one to eight bits, half of the time in the head."""
    found, head = bytearray(data), rng.random() < 0.5
    for _ in range(int(rng.integers(1, 9))):
        found[_place(rng, data, head)] ^= 1 << int(rng.integers(8))
    return bytes(found)


def head_byte_changed(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Replace one byte of the head."""
    found = bytearray(data)
    found[_place(rng, data, True)] = int(rng.integers(256))
    return bytes(found)


def run_zeroed(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Set a run of bytes to zero, as a hole in a copied file has them."""
    start, count = _place(rng, data, rng.random() < 0.3), int(2 ** rng.uniform(1, 11))
    return data[:start] + bytes(len(data[start : start + count])) + data[start + count :]


def run_random(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Replace a run of bytes by noise."""
    start, count = _place(rng, data, rng.random() < 0.3), int(2 ** rng.uniform(1, 10))
    return data[:start] + rng.bytes(len(data[start : start + count])) + data[start + count :]


def run_deleted(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Leave a run of bytes out."""
    start, count = _place(rng, data, rng.random() < 0.3), int(2 ** rng.uniform(0, 10))
    return data[:start] + data[start + count :]


def run_inserted(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Put noise in between."""
    start = _place(rng, data, rng.random() < 0.3)
    return data[:start] + rng.bytes(int(2 ** rng.uniform(0, 10))) + data[start:]


def spliced(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Go on with the bytes of another file."""
    start = int(rng.integers(1, len(data)))
    return data[:start] + other[start:]


def number_huge(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Write the largest whole numbers over a field of the head."""
    start, huge = _place(rng, data, True) & ~1, _HUGE[int(rng.integers(len(_HUGE)))]
    return data[:start] + huge + data[start + len(huge) :]


def values_odd(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Write NaN, infinity or a fill value over a run of the body."""
    value = np.float32(_NUMBERS[int(rng.integers(len(_NUMBERS)))]).tobytes()
    start = _place(rng, data, False) & ~3
    run = value * int(2 ** rng.uniform(0, 9))
    return (data[:start] + run + data[start + len(run) :])[: max(len(data), start)]


def emptied(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Leave nothing."""
    return b""


def wrong_kind(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Give another kind of file, or the page of a web server, the name of this one."""
    return other if rng.random() < 0.6 else _PAGE


def doubled(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Repeat the file behind itself."""
    return data + data


BYTES: tuple[Mutation, ...] = (
    *(truncated, truncated, bits_flipped, bits_flipped, head_byte_changed, head_byte_changed),
    *(run_zeroed, run_random, run_deleted, run_inserted, spliced, number_huge, number_huge),
    *(values_odd, emptied, wrong_kind, doubled),
)


# -- Pickles that would act ------------------------------------------------------------------------


class _Call:
    """Pickles as a call of `name` in `module`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def armed(canary: str) -> list[bytes]:
    """Return pickles that make the file `canary` if anything in them is run."""
    import os
    import subprocess

    command = f"touch {canary}"
    array = np.zeros((3, 4, 4, 1), np.float32)
    calls = [
        _Call(os.system, command),
        _Call(eval, f"open({canary!r}, 'w')"),
        [array, _Call(subprocess.call, ["touch", canary])],
        {"data": _Call(exec, f"open({canary!r}, 'w')")},
    ]
    made = [pickle.dumps(call, n) for n, call in zip((0, 2, 4, 5), calls, strict=True)]
    # By the opcodes INST and OBJ, by an extension, and behind a sound array.
    made.append(f"(S'{command}'\niposix\nsystem\n.".encode())
    made.append(b"(cposix\nsystem\nV" + command.encode() + b"\no.")
    made.append(pickle.dumps(array)[:-1] + b"0" + made[0].lstrip())
    made.append(b"cnumpy.f2py.capi_maps\ngetinit\n(V" + command.encode() + b"\ntR.")
    made.append(b"cnumpy\nload\n(V" + canary.encode() + b"\ntR.")
    made.append(b"cnumpy\nndarray.__class__\n(tR.")
    return made + _bombs()


def _bombs() -> list[bytes]:
    """Return pickles of a few bytes that ask for all memory, or for ever."""
    laughs = [0.0] * 10
    for _ in range(12):
        laughs = [laughs] * 10
    itself: list[object] = []
    itself.append(itself)
    deep = b"\x80\x04" + b"(" * 9000 + b"K\x01" + b"l" * 9000 + b"."
    memo = b"\x80\x04Nr\xff\xff\xff\xff."
    large = b"\x80\x05\x8e" + (2**40).to_bytes(8, "little") + b"x."
    return [pickle.dumps(laughs), pickle.dumps(itself), deep, memo, large]


def opcode_changed(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Replace an opcode of a pickle by another one."""
    try:
        places = [place for *_, place in pickletools.genops(data) if place is not None]
    except ValueError:
        return bits_flipped(rng, data, other)
    codes = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    place = places[int(rng.integers(len(places)))]
    return data[:place] + codes[int(rng.integers(len(codes)))] + data[place + 1 :]


# -- Settings --------------------------------------------------------------------------------------

#: What a person, an editor or a foe may write instead of a value.
_VALUES = tuple(
    r"""
| ~ | [] | {} | true | no | None | 0 | -1 | 1e400 | -.inf | .nan | 0x7fffffff | 1e18 | 1.5 | '4'
| 99999999999999999999 | 12:30:45 | 2021-13-45 | [1, [2, [3]]] | {a: {b: {c: 1}}} | *missing | - 1
| &a [*a] | !!binary aGVsbG8= | !!set {a, b} | !!float x | 深さ | "\ud800" | "C:\Users\me" | 'open
| [1, 2 | !unknown 3 | !!python/tuple [1, 2] | !!timestamp 2001-01-01 | !!int 1_000 | @ | "\a"
""".replace("\n", " ").split(" | ")
)
_ARMED = (
    "!!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/new:subprocess.Popen [['touch', '{canary}']]",
    "!!python/name:os.system",
    "!!python/object/apply:builtins.eval [\"open('{canary}', 'w')\"]",
    "!!python/module:antigravity",
)
_BOMB = "".join(
    f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9) if n else 'x, x, x'}]\n" for n in range(9)
)
_MERGED = "m0: &m0 {a: 1, b: 2, c: 3}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "replace").splitlines()


def _joined(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def value_changed(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Give a key a value of another type or size."""
    lines = _lines(data)
    # A training may last as long as its epochs say.
    keyed = [n for n, line in enumerate(lines) if re.match(r"\s*(?!epochs)[\w.]+:", line)]
    number = keyed[int(rng.integers(len(keyed)))]
    lines[number] = lines[number].split(":")[0] + ": " + _VALUES[int(rng.integers(len(_VALUES)))]
    return _joined(lines)


def lines_moved(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Repeat, leave out, indent, or put a tab before a line."""
    lines = _lines(data)
    number, way = int(rng.integers(len(lines))), int(rng.integers(5))
    line = lines[number]
    whole = [[line, line], [], ["  " + line], ["\t" + line], [line + "\u2028\ufeff", "x" * 300]]
    lines[number : number + 1] = whole[way]
    return _joined(lines)


def nested(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Add a bomb of anchors, or thousands of brackets."""
    deep = int(10 ** rng.uniform(2, 4.5))
    ways = [
        _BOMB,
        _MERGED,
        f"deep: {'[' * deep}{']' * deep}\n",
        f"deep: {'{a: ' * deep}1{'}' * deep}\n",
    ]
    ways += ["<<: {epochs: 3}\n", "self: &s {s: *s}\n", "? {a: 1}\n: 2\n", "1: 2\n"]
    return data + b"\n" + ways[int(rng.integers(len(ways)))].encode()


def acting(canary: str) -> Mutation:
    """Return what gives a key a tag that would make the file `canary`."""

    def tagged(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
        lines = _lines(data)
        key = lines[int(rng.integers(len(lines)))].split(":")[0].strip() or "extra"
        tag = _ARMED[int(rng.integers(len(_ARMED)))].format(canary=canary)
        kept = [line for line in lines if not line.startswith(key)]
        return _joined([*kept, f"{key}: {tag}"])

    return tagged


TEXT: tuple[Mutation, ...] = (
    *(value_changed,) * 5,
    *(lines_moved, lines_moved, nested, nested),
    *(truncated, bits_flipped, run_random, run_deleted, spliced, emptied, wrong_kind),
)
