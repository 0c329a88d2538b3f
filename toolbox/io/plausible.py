"""Values that mean "missing" although the file does not say so, found by reading the whole map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

#: No height or depth of this planet is larger: Challenger Deep is at -10,935 m, Everest at 8849 m.
FARTHEST_M = 12_000.0
#: Fill values of GDAL, NetCDF, ESRI, GMT, Surfer and common habit, of either sign.
FILLS = np.unique(
    np.array(
        [
            sign * value
            for sign in (-1, 1)
            for value in (
                *(9999.0, 32767.0, 32768.0, 65535.0, 99999.0, 999999.0, 1e6, 9999999.0),
                *(2147483647.0, 2147483648.0, 1e10, 1e20, 1e30, 1e32, 1e34, 1.70141e38),
                *(9.969209968386869e36, 3.4e38, 3.4028234663852886e38),
            )
        ],
        np.float32,
    )
)
_SMALLEST_FILL = 9999
#: Common fills that heights may equal too, and the share of the map's range on either side of them
#: in which no other value lies if they are none. 0 is often the shore.
_LONE = {-999.0: 0.01, 999.0: 0.01, -9999.0: 0.01, 9999.0: 0.01, -99999.0: 0.01, 0.0: 0.1}
#: So many equal pixels and more are suspicious.
_LONE_PIXELS = 10


def exact(value: float) -> str:
    """Write a number so that it can be pasted: it is compared in float32, digit for digit."""
    number = np.float32(value)
    whole = number == np.rint(number) and abs(number) < 1e15
    return str(int(number)) if whole else str(number)


@dataclasses.dataclass
class _Least:
    """The least value of a map, how often it is there, and the next larger one."""

    value: float = np.inf
    count: int = 0
    following: float = np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in values (N,), N at least 1."""
        least = float(values.min())
        larger = values[values > least]
        count = values.size - larger.size
        following = float(larger.min()) if larger.size else np.inf
        if least < self.value:
            self.following = min(self.value, following)
            self.value, self.count = least, count
        elif least == self.value:
            self.following = min(self.following, following)
            self.count += count
        else:
            self.following = min(self.following, least)


@dataclasses.dataclass
class _Lone:
    """How often a value is there, and how far the nearest other ones are."""

    value: float
    count: int = 0
    apart: float = np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in values (N,), N at least 1."""
        apart = np.abs(values - np.float32(self.value))
        self.count += values.size - int(np.count_nonzero(apart))
        self.apart = min(self.apart, float(apart.min(where=apart > 0, initial=np.inf)))


@dataclasses.dataclass
class Census:
    """What was counted in a whole map, window by window.

    Parameters
    ----------
    unit_m : float
        Unit of the values in metres.
    """

    unit_m: float = 1.0
    fills: dict[float, int] = dataclasses.field(default_factory=dict)
    _low: _Least = dataclasses.field(default_factory=_Least)
    _minus_high: _Least = dataclasses.field(default_factory=_Least)
    _far: int = 0
    _lone: list[_Lone] = dataclasses.field(default_factory=lambda: [_Lone(v) for v in _LONE])

    def add(self, values: np.ndarray) -> None:
        """Take in float32 values of the file's own unit and sign; NaN where missing."""
        values = values[np.isfinite(values)]
        large = np.abs(values) >= min(_SMALLEST_FILL, FARTHEST_M / self.unit_m)
        if large.any():
            suspects = large & np.isin(values, FILLS)
            found, counts = np.unique(values[suspects], return_counts=True)
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                self.fills[value] = self.fills.get(value, 0) + count
            values = values[~suspects]
            self._far += int(np.count_nonzero(self.far(values)))
        if values.size:
            self._low.add(values)
            self._minus_high.add(-values)
            for lone in self._lone:
                lone.add(values)
            # The range only grows and the distance only shrinks: the others stay in the crowd.
            self._lone = [lone for lone in self._lone if self._is_apart(lone)]

    def _is_apart(self, lone: _Lone) -> bool:
        width = -self._minus_high.value - self._low.value
        return lone.apart > _LONE[lone.value] * width

    def lone(self) -> dict[float, int]:
        """Return the common fills that are there often, while values near them are not."""
        counts = {lone.value: lone.count + self.fills.get(lone.value, 0) for lone in self._lone}
        return {
            lone.value: counts[lone.value]
            for lone in self._lone
            if counts[lone.value] >= _LONE_PIXELS and np.isfinite(lone.apart)
        }

    def far(self, value: Any) -> Any:
        """Whether values of the file's unit lie beyond this planet."""
        return np.abs(value) * self.unit_m > FARTHEST_M

    def outliers(self) -> tuple[dict[float, int], float, float]:
        """Return the constants that lie farther from the rest than it is wide, and its ends."""
        low, minus_high = self._low, self._minus_high
        found: dict[float, int] = {}
        ends = [low.value, -minus_high.value]
        for _ in range(2):  # one end may hide the other
            for which, (end, sign) in enumerate(((low, 1), (minus_high, -1))):
                width = abs(ends[1 - which] - sign * end.following)
                value = sign * end.value
                apart = end.following - end.value > width and (width > 0 or bool(self.far(value)))
                if end.count > 1 and np.isfinite(end.following) and apart:
                    found[value], ends[which] = end.count, sign * end.following
        return found, ends[0], ends[1]

    def far_count(self, left_out: Iterable[float]) -> int:
        """Count values beyond this planet that are no known fill and not left out."""
        known = {self._low.value: self._low.count, -self._minus_high.value: self._minus_high.count}
        return self._far - sum(known.get(v, 0) for v in left_out if self.far(v))


def judge(census: Census, where: str) -> tuple[tuple[float, ...], list[str]]:
    """Tell fills from values.

    Parameters
    ----------
    census : Census
        Of the whole map.
    where : str
        The file, for the lines.

    Returns
    -------
    fills : tuple of float
        Values that certainly mean "missing": far beyond this planet, while all others are not,
        and either a known fill or a constant far from them.
    notes : list of str
        A line for each of them, for each doubtful value, and for values that no planet has.
    """
    isolated, low, high = census.outliers()
    plausible = low <= high and not (census.far(low) or census.far(high))
    lone = census.lone()
    fills, notes = [], []
    for value, count in {**census.fills, **isolated, **lone}.items():
        pixels = f"{count} pixel{'s are' if count > 1 else ' is'} exactly {exact(value)}"
        if plausible and census.far(value):
            fills.append(value)
            notes.append(
                f"{where}: {pixels}, which no sea floor is, and are taken as missing. All others "
                f"lie between {exact(low)} and {exact(high)}."
            )
        elif value in lone or not low <= value <= high:
            notes.append(
                f"WARNING: {where}: {pixels}, far from the others. If that means missing, say "
                f"'nodata: {exact(value)}' (predict: --nodata {exact(value)})."
            )
    if count := census.far_count(isolated):
        notes.append(
            f"WARNING: {where}: {count} pixels lie beyond ±{FARTHEST_M:g} m, as nothing on this "
            f"planet does; the map reaches from {exact(low)} to {exact(high)}. Check its unit and "
            f"what means missing (nodata; predict: --nodata)."
        )
    return tuple(fills), notes
