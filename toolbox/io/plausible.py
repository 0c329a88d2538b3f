"""Search of a complete map for values that mean "missing" although the file does not say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

#: No height or depth on Earth is larger: Challenger Deep is at -10,935 m, Everest at 8849 m.
FARTHEST_M = 12_000.0
#: Fill values of GDAL, NetCDF, ESRI, GMT, Surfer and common practice, of either sign.
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
#: Common fills that may also be heights, and the share of the map's range on either side of them
#: that contains no other value if they are fills. 0 is often the shore.
_LONE = {-999.0: 0.01, 999.0: 0.01, -9999.0: 0.01, 9999.0: 0.01, -99999.0: 0.01, 0.0: 0.1}
#: This many equal pixels, or more, are suspicious.
_LONE_PIXELS = 10


def exact(value: float) -> str:
    """Format a number so that it can be pasted and compares equal in float32."""
    number = np.float32(value)
    whole = number == np.rint(number) and abs(number) < 1e15
    return str(int(number)) if whole else str(number)


@dataclasses.dataclass
class _Least:
    """The least value of a map, its number of pixels, and the next larger value."""

    value: float = np.inf
    count: int = 0
    following: float = np.inf

    def add(self, values: np.ndarray) -> None:
        """Include values (N,), N at least 1."""
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
    """The number of pixels with a value, and the distance to the nearest other value."""

    value: float
    count: int = 0
    apart: float = np.inf

    def add(self, values: np.ndarray, low: np.float32, high: np.float32) -> None:
        """Add values (N,), N at least 1, between `low` and `high`."""
        value = np.float32(self.value)
        if not low <= value <= high:
            self.apart = min(self.apart, float(min(abs(low - value), abs(high - value))))
            return
        apart = np.abs(values - value)
        self.count += values.size - int(np.count_nonzero(apart))
        self.apart = min(self.apart, float(apart.min(where=apart > 0, initial=np.inf)))


@dataclasses.dataclass
class Census:
    """Counts of suspicious values in a map, collected window by window.

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
        """Include float32 values in the unit and sign of the file; NaN where missing."""
        values = values[np.isfinite(values)]
        limit = min(_SMALLEST_FILL, FARTHEST_M / self.unit_m)
        if values.size and max(-values.min(), values.max()) >= limit:
            large = np.abs(values) >= limit
            suspects = large & np.isin(values, FILLS)
            found, counts = np.unique(values[suspects], return_counts=True)
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                self.fills[value] = self.fills.get(value, 0) + count
            values = values[~suspects]
            self._far += int(np.count_nonzero(self.far(values)))
        if values.size:
            self._low.add(values)
            self._minus_high.add(-values)
            ends = values.min(), values.max()
            for lone in self._lone:
                lone.add(values, *ends)
            # The range only grows and the distance only shrinks, so the others can be dropped.
            self._lone = [lone for lone in self._lone if self._is_apart(lone)]

    def _is_apart(self, lone: _Lone) -> bool:
        width = -self._minus_high.value - self._low.value
        return lone.apart > _LONE[lone.value] * width

    def lone(self) -> dict[float, int]:
        """Return the common fills that occur often while no other values are near them."""
        counts = {lone.value: lone.count + self.fills.get(lone.value, 0) for lone in self._lone}
        return {
            lone.value: counts[lone.value]
            for lone in self._lone
            if counts[lone.value] >= _LONE_PIXELS and np.isfinite(lone.apart)
        }

    def far(self, value: Any) -> Any:
        """Whether values in the unit of the file are beyond any height or depth on Earth."""
        return np.abs(value) * self.unit_m > FARTHEST_M

    def outliers(self) -> tuple[dict[float, int], float, float]:
        """Return constants farther from the rest than its width, and the ends of the rest."""
        low, minus_high = self._low, self._minus_high
        found: dict[float, int] = {}
        ends = [low.value, -minus_high.value]
        for _ in range(2):  # an outlier at one end may hide one at the other
            for which, (end, sign) in enumerate(((low, 1), (minus_high, -1))):
                width = abs(ends[1 - which] - sign * end.following)
                value = sign * end.value
                apart = end.following - end.value > width and (width > 0 or bool(self.far(value)))
                if end.count > 1 and np.isfinite(end.following) and apart:
                    found[value], ends[which] = end.count, sign * end.following
        return found, ends[0], ends[1]

    def far_count(self, left_out: Iterable[float]) -> int:
        """Count impossible values that are neither known fills nor in `left_out`."""
        known = {self._low.value: self._low.count, -self._minus_high.value: self._minus_high.count}
        return self._far - sum(known.get(v, 0) for v in left_out if self.far(v))


def judge(census: Census, where: str) -> tuple[tuple[float, ...], list[str]]:
    """Distinguish fill values from heights.

    Parameters
    ----------
    census : Census
        Counts of the complete map.
    where : str
        The file, for the messages.

    Returns
    -------
    fills : tuple of float
        Values that certainly mean "missing": impossible on Earth while all others are possible,
        and either a known fill or a constant far from the others.
    notes : list of str
        A line for each of them, for each doubtful value, and for other impossible values.
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
                f"{where}: {pixels}, which no sea floor reaches; taken as missing. "
                f"The others lie between {exact(low)} and {exact(high)}."
            )
        elif value in lone or not low <= value <= high:
            notes.append(
                f"WARNING: {where}: {pixels}, far from the others. If that means missing, use "
                f"'nodata: {exact(value)}' (predict: --nodata {exact(value)})."
            )
    if count := census.far_count(isolated):
        notes.append(
            f"WARNING: {where}: {count} pixel{'s are' if count > 1 else ' is'} beyond "
            f"±{FARTHEST_M:g} m, which is impossible on Earth; the map ranges from {exact(low)} to "
            f"{exact(high)}. Check its unit and its missing value (nodata; predict: --nodata)."
        )
    return tuple(fills), notes
