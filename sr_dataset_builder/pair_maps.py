"""Check that two maps form a pair: position, orientation and values."""

from __future__ import annotations

import dataclasses

import numpy as np

from toolbox.errors import DataError
from toolbox.io.crs import as_rasterio
from toolbox.io.raster import Raster
from toolbox.io.units import metres_per_unit
from toolbox.resample import block_mean

#: Shifts in low-resolution pixels: a warning from the first on, refused from the second on.
_SHIFTS = (0.1, 0.75)
#: Correlation of the low-resolution map with block means below which two maps are not a pair. Real
#: surveys of one area reach 0.9 and more (GEBCO and ETOPO1: 0.98).
_LEAST_CORRELATION = 0.5
_GOOD = 0.9
_TURNS = {
    "turned upside down": (slice(None, None, -1), slice(None)),
    "mirrored from left to right": (slice(None), slice(None, None, -1)),
    "turned by 180 degrees": (slice(None, None, -1), slice(None, None, -1)),
}
#: Units that a map may have although its file does not state one.
_UNITS = ("feet", "fathoms", "km", "cm")


def paired(lr: Raster, hr: Raster, scale: int, notes: list[str]) -> Raster:
    """Compare two maps that should be a pair.

    Parameters
    ----------
    lr, hr : toolbox.io.raster.Raster
        (h, w) and (h * scale, w * scale), metres.
    scale : int
        Enlargement factor from `lr` to `hr`.
    notes : list of str
        Receives what was done and what is doubtful.

    Returns
    -------
    toolbox.io.raster.Raster
        `lr`, with rows and columns in the directions of those of `hr`.

    Raises
    ------
    DataError
        If the maps are in different places, or if their values do not match.
    """
    lr = _oriented(lr, hr, notes)
    _check_place(lr, hr, notes)
    _check_values(lr, hr, scale, notes)
    return lr


def _oriented(lr: Raster, hr: Raster, notes: list[str]) -> Raster:
    """Flip the low-resolution map if its rows or columns run in the opposite direction."""
    if lr.transform is None or hr.transform is None:
        return lr
    if any((*lr.transform[1:4:2], *hr.transform[1:4:2])):
        return lr  # rotated: the comparison of positions decides
    a, b, c, d, e, f = lr.transform
    rows, columns = lr.values.shape
    values = lr.values
    if a * hr.transform[0] < 0:
        values, a, c = values[:, ::-1], -a, c + a * columns
    if e * hr.transform[4] < 0:
        values, e, f = values[::-1], -e, f + e * rows
    if values is lr.values:
        return lr
    notes.append(
        f"{lr.fname}: its rows or columns run opposite to those of {hr.fname}, so it is flipped."
    )
    return dataclasses.replace(
        lr, values=np.ascontiguousarray(values), transform=(a, b, c, d, e, f)
    )


def _check_place(lr: Raster, hr: Raster, notes: list[str]) -> None:
    """Compare the corners if both files state them."""
    if lr.transform is None or hr.transform is None:
        return
    shift = _shift(lr, hr)
    ours, theirs = as_rasterio(lr.crs), as_rasterio(hr.crs)
    if shift > _SHIFTS[1] and (ours is None) == (theirs is None):
        raise DataError(
            f"{lr.fname}: covers another area than {hr.fname}: corners differ by up to "
            f"{shift:.4g} of its pixels ({_extent(lr)} and {_extent(hr)}). Give two maps of the "
            f"same area in one coordinate reference system, or hr_fname alone."
        )
    if shift > _SHIFTS[0]:
        notes.append(
            f"WARNING: {lr.fname}: corners differ from those of {hr.fname} by {shift:.2f} of its "
            f"pixels ({_extent(lr)} and {_extent(hr)})."
        )
    elif ours is not None and theirs is not None and ours != theirs:
        notes.append(
            f"WARNING: {lr.fname}: another coordinate reference system than {hr.fname}, with the "
            f"same corners; the two are taken as the same."
        )


def _corners(raster: Raster) -> np.ndarray:
    """Return x and y of the four outer corners, (4, 2)."""
    a, b, c, d, e, f = raster.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    rows, columns = raster.values.shape
    places = [(0, 0), (columns, 0), (0, rows), (columns, rows)]
    return np.array([(a * i + b * j + c, d * i + e * j + f) for i, j in places])


def _shift(lr: Raster, hr: Raster) -> float:
    """Return the largest distance between two corners, in low-resolution pixels."""
    a, b, _, d, e, _ = lr.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    apart = np.abs(_corners(lr) - _corners(hr)) / [np.hypot(a, b), np.hypot(d, e)]
    return float(apart.max())


def _extent(raster: Raster) -> str:
    (left, bottom), (right, top) = _corners(raster).min(0), _corners(raster).max(0)
    return f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"


def _check_values(lr: Raster, hr: Raster, scale: int, notes: list[str]) -> None:
    """Compare the low-resolution map with block means of the other map."""
    means = block_mean(hr.values[None, ..., None], scale)[0, ..., 0].astype(np.float64)
    count, rms, bias, correlation = _agreement(lr.values, means)
    flat = bool(count) and np.isnan(correlation) and _is_flat(lr.values) and not _is_flat(means)
    if not count or (np.isnan(correlation) and not flat):
        return
    said = "no relief at all" if flat else f"correlation {correlation:.2f}"
    figures = (
        f"it differs from the means of {scale} × {scale} pixels of {hr.fname} by {rms:.4g} m (RMS) "
        f"and {bias:.4g} m on average, {said}"
    )
    better = "" if flat else _better(lr.values, means, rms, hr.fname)
    if better or flat or correlation < _LEAST_CORRELATION:
        doubts = [note for note in (*lr.notes, *hr.notes) if note.startswith("WARNING")]
        cure = better or "Give two maps of the same area, or hr_fname alone."
        if doubts and not better:  # they report fills and units, the likely cause
            cure = f"First correct what was found in the maps: {' '.join(doubts)}"
        raise DataError(f"{lr.fname}: {figures}. {cure}")
    doubtful = abs(bias) > np.nanstd(means) or correlation < _GOOD
    notes.append(f"{'WARNING: ' if doubtful else ''}{lr.fname}: {figures}.")


def _agreement(lr: np.ndarray, means: np.ndarray) -> tuple[int, float, float, float]:
    """Return the number of valid pixels, RMS and mean difference, and correlation; NaN if flat."""
    valid = np.isfinite(lr) & np.isfinite(means)
    first, second = lr[valid].astype(np.float64), means[valid]
    if first.size < 4:
        return 0, np.nan, np.nan, np.nan
    difference = first - second
    spread = first.std() * second.std()
    covariance = ((first - first.mean()) * (second - second.mean())).mean()
    correlation = float(covariance / spread) if spread > 1e-12 else np.nan
    rms = float(np.sqrt(np.square(difference).mean()))
    return first.size, rms, float(difference.mean()), correlation


def _is_flat(values: np.ndarray) -> bool:
    """Whether all valid values are equal."""
    return bool(np.nanstd(values.astype(np.float64)) < 1e-6)


def _better(lr: np.ndarray, means: np.ndarray, rms: float, hr_fname: str) -> str:
    """Return what would make the low-resolution map fit; empty if nothing would."""

    def misfit(values: np.ndarray) -> float:
        _, turned, bias, correlation = _agreement(values, means)
        close = correlation > _GOOD and abs(bias) < np.nanstd(means) and turned < rms / 2
        return turned if close else np.inf

    def fits(values: np.ndarray) -> bool:
        return misfit(values) < np.inf

    if fits(-lr):
        return "Its sign is opposite: give it the sign of the other map."
    for name, index in _TURNS.items():
        if fits(lr[index]):
            return f"It fits if it is {name}, but no file states this: turn it first."
    least, found = np.inf, ""
    for unit in _UNITS:
        metres = metres_per_unit(unit) or 1.0
        for done, by, whose in (("multiplied", metres, "it"), ("divided", 1 / metres, hr_fname)):
            for sign, turned in ((1, ""), (-1, ", with its sign reversed")):
                if (left := misfit(lr * (sign * by))) < least:
                    least = left
                    found = f"It fits if {done} by {metres:g}{turned}: is {whose} in {unit}?"
    return f"{found} Convert to metres, or write the unit into the file." if found else ""
