"""Find the shift between two pictures of one place, and check folders of pairs."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage

from toolbox.errors import ConfigError
from toolbox.io.atomic import replacing
from toolbox.progress import progress
from toolbox.tasks.sem.sem_image import read_sem_image

CACHE_NAME = ".sem_alignment.json"
#: Version of the method; raise it whenever `estimate_shift` gives other numbers, to void caches.
_METHOD = 3
_UPSAMPLE = 100
#: Side of the middle part in which larger pictures are compared, pixels.
_COMPARED_PX = 1024
#: Number of periods beyond which a Hann window passes less than a millionth.
_PERIODS = 64
_SPLINE_ORDER, _SPLINE_BORDER = 3, 2
#: Smoothing of both pictures in pixels. If both have a noise of 25 counts, it lowers the error
#: from 0.11 to 0.03 px; more smoothing removes the information along rough lines.
_SIGMA_PX = 0.7
#: Standard deviations of chance above which a match counts. Over the about 150 independent places
#: of a search, chance reaches 4.5 in one of a thousand pairs of pure noise.
_LEAST_MATCH = 5.0
#: Standard errors by which a shift along an axis must improve the match: near zero, and at two
#: pixels or more. Near zero, a shift by two of its own standard errors gains one; farther away,
#: chance can choose from several places.
_LEAST_GAIN = (1.0, 2.0)
#: Rows of a band, within which noise may be correlated, and the least number of bands.
_BAND_ROWS, _LEAST_BANDS = 4, 16
#: If a best shift below this brings no gain, the pictures are aligned already, pixels.
_NEAR_PX = 0.5
#: Share of one value in a row of a data bar; a row of a noisy picture has far less (KRISS: 0.06).
_FLAT_SHARE = 0.4
_MAX_TEXT_ROWS = 3
#: New shifts after which the cache is written, so a killed run loses few.
_SAVE_EVERY = 20

Region = tuple[slice, slice]


class Shift(NamedTuple):
    """A translation that aligns the moving picture with the fixed one.

    Attributes
    ----------
    dy, dx : float
        Pixels, positive down and to the right. Content at row r moves to row r + dy.
    rms_before, rms_after : float
        Root mean square of the difference of the two, without their means and away from the
        borders; for large pictures, in the middle 1024 × 1024 pixels.
    aligned : bool
        False if no shift could be trusted; dy and dx are then 0.
    """

    dy: float
    dx: float
    rms_before: float = math.nan
    rms_after: float = math.nan
    aligned: bool = True

    def scaled(self, scale: int) -> Shift:
        """Return the same translation in pixels that are `scale` times smaller."""
        return self._replace(dy=self.dy * scale, dx=self.dx * scale)


class PairFiles(NamedTuple):
    """A low and a high picture of one place.

    Attributes
    ----------
    name : str
        The last characters of the two file names, which they have in common.
    low, high : pathlib.Path
        The files.
    low_page, high_page : int or None
        Their frames, counted from 0; None for the only one or the mean of all.
    """

    name: str
    low: Path
    high: Path
    low_page: int | None = None
    high_page: int | None = None

    @property
    def paths(self) -> tuple[Path, Path]:
        """The two files."""
        return self.low, self.high

    @property
    def pages(self) -> tuple[int | None, int | None]:
        """The frames of the two files."""
        return self.low_page, self.high_page

    @property
    def labels(self) -> tuple[str, str]:
        """Names of the two pictures, see `page_label`."""
        return page_label(self.low.name, self.low_page), page_label(self.high.name, self.high_page)


def page_label(name: str, page: int | None) -> str:
    """Return the name of a file; for a page, with its number counted from 1: ``a.tif#3``."""
    return name if page is None else f"{name}#{page + 1}"


class AlignedPair(NamedTuple):
    """A pair and its translation, for `alignment_report`."""

    files: PairFiles
    shift: Shift


def estimate_shift(
    moving: np.ndarray,
    fixed: np.ndarray,
    upsample_factor: int = _UPSAMPLE,
    max_shift: float = 8.0,
    every_axis: bool = False,
) -> Shift:
    """Find the translation that aligns one picture with the other.

    It maximises the correlation coefficient of the two under a Hann window that stays with the
    fixed picture, so neither brightness, contrast nor the window bias the result. It works at
    whole pixels by FFT first, then between them by the matrix-multiply DFT [1]_. Only shifts up to
    `max_shift` are considered. Of peaks that differ by no more than noise, the one nearer to zero
    is chosen, because lines are ambiguous by their pitch. The shift is 0 along an axis on which
    the match does not depend beyond chance, such as along straight lines.

    Parameters
    ----------
    moving, fixed : numpy.ndarray, shape (H, W)
        Grey values in any unit; the whole frame gives the best result.
    upsample_factor : int
        The result is a multiple of 1 / `upsample_factor` pixels.
    max_shift : float
        Largest shift along an axis in pixels.
    every_axis : bool
        Keep shifts that may be chance, for a first guess.

    Returns
    -------
    Shift
        Not aligned, with shift 0, if the two match no better than noise could by chance, or if the
        best shift is at the limit. Shift 0 also if the best one does not reduce the difference of
        the two pictures; then not aligned if it is more than half a pixel and the pictures do not
        match unshifted.

    Raises
    ------
    ConfigError
        If the pictures differ in shape or are too small for `max_shift`.

    References
    ----------
    .. [1] M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, Opt. Lett. 33, 156 (2008),
       doi:10.1364/OL.33.000156
    """
    _check_frames(moving.shape, fixed.shape, max_shift)
    margin = math.ceil(max_shift) + 1
    cut = [max(0, (size - _COMPARED_PX) // 2) for size in fixed.shape]
    middle = tuple(slice(by, size - by) for by, size in zip(cut, fixed.shape, strict=True))
    before = _rms(moving[middle], fixed[middle], margin)
    if not (np.ptp(moving) > 0 and np.ptp(fixed) > 0):
        return Shift(0.0, 0.0, before, before, aligned=False)
    correlate = _correlation(_smooth(moving), _smooth(fixed))
    best = functools.partial(_best_shift, correlate, moving.size, max_shift, upsample_factor)
    match = _Match(moving[middle], fixed[middle], margin)
    dy, dx = best() if every_axis else match.needed_shift(best)
    if not match.is_sure(dy, dx):
        return Shift(0.0, 0.0, before, before, aligned=False)
    found = Shift(dy, dx, before)
    after = _rms(apply_shift(moving[middle], found), fixed[middle], margin)
    farthest = max(abs(dy), abs(dx))
    if farthest >= max_shift or after > before:
        # A tiny shift, or one along straight lines, brings no gain to aligned noisy pictures.
        still = farthest < _NEAR_PX or (farthest < max_shift and match.is_sure(0.0, 0.0))
        return Shift(0.0, 0.0, before, before, aligned=still)
    return found._replace(rms_after=after)


def _check_frames(moving: Sequence[int], fixed: Sequence[int], max_shift: float) -> None:
    if tuple(moving) != tuple(fixed) or len(moving) != 2:
        raise ConfigError(
            f"alignment: both pictures must have the same shape (H, W); received {tuple(moving)} "
            f"and {tuple(fixed)}. Bring them to the same size."
        )
    smallest = 4 * math.ceil(max_shift) + 4
    if min(moving) < smallest:
        raise ConfigError(
            f"alignment: pictures must be at least {smallest} pixels high and wide to look for "
            f"shifts up to max_shift {max_shift:g}; received {tuple(moving)}. Lower max_shift or "
            f"set align: none."
        )


def _smooth(img: np.ndarray) -> np.ndarray:
    """Blur a picture by a Gaussian; return float64."""
    from toolbox.opencv import cv2

    kernel = cv2.getGaussianKernel(2 * round(4 * _SIGMA_PX) + 1, _SIGMA_PX)
    options = {"borderType": cv2.BORDER_REFLECT}
    blurred = cv2.sepFilter2D(np.asarray(img, np.float64), cv2.CV_64F, kernel, kernel, **options)
    return np.asarray(blurred)


def _correlation(
    moving: np.ndarray, fixed: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that computes the correlation coefficient at shifts (dy) × (dx).

    The pictures (float64) are overwritten.
    """
    window = [np.hanning(size + 2)[1:-1] for size in fixed.shape]
    window = [part / part.sum() for part in window]
    moving -= window[0] @ moving @ window[1]
    fixed -= window[0] @ fixed @ window[1]
    weighted = window[0][:, None] * fixed
    weighted *= window[1]
    variance = float(np.vdot(weighted, fixed))
    fy, fx = (scipy.fft.fftfreq(size) for size in fixed.shape)
    fx = fx[: fixed.shape[1] // 2 + 1]
    # The frequencies left out are the mirror image of these, except for the two ends.
    share = np.where((fx == 0) | (fx == -0.5), 1.0, 2.0) / moving.size
    spectrum = scipy.fft.rfft2(moving).conj()
    product = scipy.fft.rfft2(weighted)
    product *= spectrum
    product *= share
    parts = [(product, fy, fx)]
    # What the window passes of the others has few periods in a picture.
    rows, columns = (
        np.flatnonzero(np.abs(f) * n <= _PERIODS) for f, n in ((fy, len(fy)), (fx, fixed.shape[1]))
    )
    passed = np.outer(
        scipy.fft.fft(window[0])[rows], scipy.fft.rfft(window[1])[columns] * share[columns]
    )
    for other in (spectrum, scipy.fft.rfft2(np.square(moving, out=moving)).conj()):
        parts.append((passed * other[np.ix_(rows, columns)], fy[rows], fx[columns]))

    def correlate(dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        covariance, mean, power = (_at_shifts(*part, dy, dx) for part in parts)
        spread = np.sqrt(np.maximum(variance * (power - mean**2), np.finfo(float).tiny))
        return np.asarray(covariance / spread)

    return correlate


def _at_shifts(
    spectrum: np.ndarray, fy: np.ndarray, fx: np.ndarray, dy: np.ndarray, dx: np.ndarray
) -> np.ndarray:
    """Return the real part of the inverse DFT of a spectrum (fy) × (fx) at places (dy) × (dx)."""
    rows, columns = np.exp(2j * np.pi * np.outer(dy, fy)), np.exp(2j * np.pi * np.outer(fx, dx))
    if len(dx) < len(dy):
        return np.asarray((rows @ (spectrum @ columns)).real)
    return np.asarray((rows @ spectrum @ columns).real)


def _best_shift(
    correlate: Callable[[np.ndarray, np.ndarray], np.ndarray],
    num_pixels: int,
    max_shift: float,
    upsample_factor: int,
    free: tuple[bool, bool] = (True, True),
) -> tuple[float, float]:
    """Return (dy, dx) of the highest correlation: whole pixels first, then fractions.

    It is 0 along an axis that is not `free`.
    """
    reach = math.ceil(max_shift)
    lags = [np.arange(-reach, reach + 1.0) if moves else np.zeros(1) for moves in free]
    surface = correlate(*lags)
    # What noise alone can add: 4 / 9 of the pixels count under the window, 4πσ² are correlated.
    independent = num_pixels * 4 / 9 / (4 * math.pi * _SIGMA_PX**2)
    noise = 2 * math.sqrt(max(1 - surface.max() ** 2, 0) / independent)
    distance = np.hypot(*np.meshgrid(*lags, indexing="ij")) / max_shift
    row, column = np.unravel_index(np.argmax(surface - noise * distance), surface.shape)
    dy, dx = float(lags[0][row]), float(lags[1][column])
    for half_width, step in ((1.5, 0.25), (0.25, 1 / upsample_factor)):
        steps = np.arange(-round(half_width / step), round(half_width / step) + 1) * step
        rows, columns = (steps if moves else np.zeros(1) for moves in free)
        surface = correlate(dy + rows, dx + columns)
        row, column = np.unravel_index(np.argmax(surface), surface.shape)
        dy, dx = dy + float(rows[row]), dx + float(columns[column])
    return round(dy, 6), round(dx, 6)


class _Match:
    """How well a moved picture matches a fixed one, compared with chance.

    Rows are combined into bands, within which the noise may be correlated in any way.
    """

    def __init__(self, moving: np.ndarray, fixed: np.ndarray, margin: int) -> None:
        self._inside, self._shape = slice(margin, -margin), fixed.shape
        frequencies = scipy.fft.fftfreq(fixed.shape[0])[:, None], scipy.fft.rfftfreq(fixed.shape[1])
        self._steps = [-2j * np.pi * f for f in frequencies]
        blur = [np.exp(-2 * (np.pi * _SIGMA_PX * f) ** 2).astype(np.float32) for f in frequencies]
        self._moving, of_fixed = (
            scipy.fft.rfft2(img.astype(np.float32)) * blur[0] * blur[1] for img in (moving, fixed)
        )
        self._fixed = self._part(of_fixed)
        self._known: dict[tuple[float, float], np.ndarray] = {}
        rows = len(self._fixed)
        bands = max(rows // _BAND_ROWS, min(rows, _LEAST_BANDS))
        self._starts = np.linspace(0, rows, bands, endpoint=False).astype(int)

    def needed_shift(self, best: Callable[..., tuple[float, float]]) -> tuple[float, float]:
        """Return the best shift, 0 along axes where it does not improve the match beyond chance."""
        shift = best()
        for axis in (0, 1):
            if shift[axis]:
                free = (axis != 0 and shift[0] != 0, axis != 1 and shift[1] != 0)
                without = best(free=free)
                if not self._gains(shift, without, abs(shift[axis])):
                    shift = without
        return shift

    def is_sure(self, dy: float, dx: float) -> bool:
        """Tell whether the pictures match better than noise could by chance.

        By chance, a band would match as well at any place along its rows: the mean square of the
        product over all such places is the variance of that band.
        """
        seen = self._seen(dy, dx)
        match = float(np.vdot(self._fixed, seen))
        cross = scipy.fft.rfft(self._fixed, axis=1)
        cross *= scipy.fft.rfft(seen, axis=1).conj()
        power = np.square(np.abs(np.add.reduceat(cross, self._starts, axis=0))).sum(axis=0)
        # The frequencies left out are the mirror image of these, except for the first.
        variance = (2 * power.sum() - power[0]) / self._fixed.shape[1] ** 2
        return match > _LEAST_MATCH * math.sqrt(variance * max(1 - match**2, 0.0))

    def _gains(self, shift: tuple[float, float], without: tuple[float, float], by: float) -> bool:
        """Tell whether a shift that is larger by `by` pixels improves the match beyond chance.

        The gain of each band is compared with its gain if the shift were right, so differences in
        the content of the bands do not count as chance.
        """
        seen, other = self._seen(*shift), self._seen(*without)
        step = seen - other
        gain = self._banded(self._fixed, step)
        shown = [self._banded(step, step), self._banded(seen + other, step)]
        known = np.stack([np.ones(len(gain)), *shown], axis=1)
        known /= np.linalg.norm(known, axis=0) + np.finfo(float).tiny
        rest = gain - known @ np.linalg.lstsq(known, gain, rcond=None)[0]
        error = float(np.linalg.norm(rest)) * math.sqrt(len(gain) / max(1, len(gain) - 3))
        near, far = _LEAST_GAIN
        return float(gain.sum()) > (near + (far - near) * min(1.0, by / 2)) * error

    def _banded(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the product of two pictures, summed over each band."""
        return np.add.reduceat(np.einsum("ij,ij->i", one, other), self._starts)

    def _seen(self, dy: float, dx: float) -> np.ndarray:
        """Return the inner part of the moved picture."""
        if (dy, dx) not in self._known:
            # Not by splines: between pixels they reduce noise, which would look like a gain.
            phases = [
                np.exp(step * by).astype(np.complex64)
                for step, by in zip(self._steps, (dy, dx), strict=True)
            ]
            self._known[dy, dx] = self._part(self._moving * phases[0] * phases[1])
        return self._known[dy, dx]

    def _part(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the inner part minus its mean, of norm 1; 0 for a flat picture."""
        part = scipy.fft.irfft2(spectrum, self._shape)[self._inside, self._inside]
        part = part - part.mean(dtype=np.float64)
        return np.asarray(part / max(float(np.linalg.norm(part)), 1e-30), np.float32)


def _rms(moving: np.ndarray, fixed: np.ndarray, margin: int) -> float:
    inside = slice(margin, -margin)
    difference = (np.asarray(moving, np.float64) - fixed)[inside, inside]
    return float(difference.std())


def apply_shift(img: np.ndarray, shift: Shift) -> np.ndarray:
    """Move a picture by cubic splines.

    Parameters
    ----------
    img : numpy.ndarray, shape (H, W)
        Grey values in any unit.
    shift : Shift
        Translation in pixels of `img`.

    Returns
    -------
    numpy.ndarray, shape (H, W), float32
        The moved picture. Outside `valid_region` it is a mirror image and useless. A shift of 0
        changes nothing.
    """
    moved = np.asarray(img, np.float32)
    for axis, by in enumerate((shift.dy, shift.dx)):
        moved = _moved_along(moved, by, axis)
    return moved.astype(np.float32, copy=False)


def _moved_along(img: np.ndarray, by: float, axis: int) -> np.ndarray:
    """Move a picture along an axis; return float64, or the picture itself if the shift is 0.

    Each pixel is summed in the same order, whatever part of the picture is given.
    """
    if by == 0:
        return img
    size, whole = img.shape[axis], math.ceil(by)
    share = whole - by
    # The cubic B-spline at the four surrounding grid points.
    weights = [
        (1 - share) ** 3 / 6,
        (4 - 6 * share**2 + 3 * share**3) / 6,
        (1 + 3 * share + 3 * share**2 - 3 * share**3) / 6,
        share**3 / 6,
    ]
    spline = scipy.ndimage.spline_filter1d(img, _SPLINE_ORDER, axis, np.float64, mode="mirror")
    before, after = max(0, 1 + whole), max(0, 2 - whole)
    width = [(before, after) if number == axis else (0, 0) for number in range(2)]
    spline = np.pad(spline, width, mode="reflect")
    moved = np.zeros(img.shape)
    for number, weight in enumerate(weights):
        first = before - whole - 1 + number
        part = slice(first, first + size)
        moved += weight * (spline[part] if axis == 0 else spline[:, part])
    return moved


def valid_region(shift: Shift, shape: Sequence[int]) -> Region:
    """Return the rows and columns of a moved picture that do not depend on anything outside it.

    Along an axis with a fractional shift, 2 more pixels at either end are left out: there the
    spline is wrong by up to 4 % of the contrast.

    Parameters
    ----------
    shift : Shift
        The shift that was applied, in pixels of the picture.
    shape : (int, int)
        Shape of the picture.
    """
    parts = []
    for by, size in zip((shift.dy, shift.dx), shape, strict=True):
        border = 0 if by == round(by) else _SPLINE_BORDER
        first, lost = max(0, math.ceil(by + border)), min(0, math.floor(by - border))
        parts.append(slice(first, size + lost))
    return parts[0], parts[1]


class ShiftCache:
    """Shifts of a folder pair, kept in a JSON file.

    An entry counts only while size and modification time of both files and the settings are
    unchanged. Unreadable entries are ignored; a failure to write becomes a note.

    Parameters
    ----------
    folder : path-like
        Folder of ``.sem_alignment.json``.
    settings : dict
        Everything else that the shifts depend on (JSON types).

    Attributes
    ----------
    notes : list of str
        Lines a program should print.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.path = Path(folder, CACHE_NAME)
        self.notes: list[str] = []
        self._settings = json.dumps({"method": _METHOD, **settings}, sort_keys=True)
        self._entries = self._read()
        self._new: dict[str, Any] = {}
        self._unsaved = 0

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def get(self, files: PairFiles) -> Shift | None:
        """Return the stored shift of a pair; None if there is none or its files have changed."""
        entry = self._entries.get(self._key(files))
        if not isinstance(entry, dict) or entry.get("stamp") != _stamp(files):
            return None
        try:
            dy, dx, before, after, aligned = entry["shift"]
            shift = Shift(float(dy), float(dx), float(before), float(after), aligned is True)
        except (TypeError, ValueError, KeyError):
            return None
        return shift if np.isfinite(shift).all() else None

    def put(self, files: PairFiles, shift: Shift) -> None:
        """Store the shift of a pair; the file is written after every 20."""
        key = self._key(files)
        self._new[key] = self._entries[key] = {"stamp": _stamp(files), "shift": list(shift)}
        self._unsaved += 1
        if self._unsaved >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Add new shifts to the file, which appears complete or not at all."""
        if not self._unsaved or self.notes:  # a failure to write is not tried again
            return
        self._unsaved = 0
        try:
            with replacing(self.path) as beside:
                # Another run may have written shifts since this one read the file.
                text = json.dumps(self._read() | self._new, indent=1, sort_keys=True)
                beside.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            self.notes.append(
                f"{self.path}: cannot be written ({error.strerror}), so the shifts are measured "
                f"again next time. Set cache_dir to a writable folder."
            )

    def _key(self, files: PairFiles) -> str:
        # With two parent folders, because names in train/low and validation/low may be the same.
        low, high = (
            page_label("/".join(path.parts[-3:]), page)
            for path, page in zip(files.paths, files.pages, strict=True)
        )
        return f"{low} | {high} | {self._settings}"


def _stamp(files: PairFiles) -> list[int]:
    found = [path.stat() for path in files.paths]
    return [number for stat in found for number in (stat.st_size, stat.st_mtime_ns)]


def data_bar_rows(pixels: np.ndarray) -> int:
    """Return the number of data bar rows at the bottom of a picture (0 if there is none).

    Parameters
    ----------
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Counts as stored. A row belongs to a bar if one value, dark or bright, fills much of it; a
        few rows of dense text may be in between.
    """
    # A bar fills no more than a third of a frame; a uniform picture has no bar either.
    lowest = pixels[-(len(pixels) // 3) :][::-1] if len(pixels) >= 3 else pixels[:0]
    flat = [_commonest_share(row) >= _FLAT_SHARE for row in lowest]
    height = 0
    for number, is_flat in enumerate(flat, start=1):
        if is_flat:
            height = number
        elif number - height > _MAX_TEXT_ROWS:
            break
    return 0 if height == len(flat) else height


def _commonest_share(row: np.ndarray) -> float:
    return float(np.unique(row, return_counts=True)[1].max() / row.size)


class FileCheck(NamedTuple):
    """Result of checking the file of a picture.

    Attributes
    ----------
    digest : bytes
        Checksum of the file.
    saturated : float
        Share of pixels at either end of the range, without the data bar.
    data_bar_px : int
        Number of rows at the bottom that look like a data bar.
    """

    digest: bytes
    saturated: float
    data_bar_px: int


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return a checksum of a file's bytes (SHA-256)."""
    return hashlib.sha256(Path(path).read_bytes()).digest()


def check_file(
    path: str | os.PathLike[str], pixels: np.ndarray, digest: bytes | None = None
) -> FileCheck:
    """Check the file of a picture.

    Parameters
    ----------
    path : path-like
        The file.
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Its counts as read.
    digest : bytes, optional
        `file_digest` of the file, if known.
    """
    bar = data_bar_rows(pixels)
    picture = pixels[: len(pixels) - bar]
    ends = (picture == 0) | (picture == np.iinfo(picture.dtype).max)
    return FileCheck(digest or file_digest(path), float(ends.mean()), bar)


def alignment_report(
    pairs: Sequence[AlignedPair], checks: Sequence[tuple[FileCheck, FileCheck]] | None = None
) -> list[dict[str, Any]]:
    """Report shift, copies, saturation and data bar of each pair.

    Parameters
    ----------
    pairs : sequence of AlignedPair
        Files and shifts.
    checks : sequence of (FileCheck, FileCheck), optional
        Checks of the low and the high file of each pair; without them, the files are read again.

    Returns
    -------
    list of dict
        For each pair ``name``, ``low_file``, ``high_file`` (see `page_label`), ``dy_px``,
        ``dx_px``, ``rms_before``, ``rms_after``, ``aligned``; for low and high also
        ``*_duplicate_of`` (another file of that folder with the same bytes, or ''),
        ``*_saturated`` (share of pixels at either end of the range, without the data bar) and
        ``*_data_bar_px``.
    """
    seen: dict[tuple[str, bytes, int | None], str] = {}
    rows = []
    for number, (files, shift) in enumerate(progress(pairs, "checking pairs", delay=2)):
        low, high = files.labels
        row = {"name": files.name, "low_file": low, "high_file": high}
        row |= {"dy_px": shift.dy, "dx_px": shift.dx, "rms_before": shift.rms_before}
        row |= {"rms_after": shift.rms_after, "aligned": shift.aligned}
        found = checks[number] if checks is not None else _checks(files)
        both = zip(("low", "high"), files.labels, files.pages, found, strict=True)
        for kind, label, page, check in both:
            first = seen.setdefault((kind, check.digest, page), label)
            row[f"{kind}_duplicate_of"] = "" if first == label else first
            row[f"{kind}_saturated"] = check.saturated
            row[f"{kind}_data_bar_px"] = check.data_bar_px
        rows.append(row)
    return rows


def _checks(files: PairFiles) -> tuple[FileCheck, FileCheck]:
    low, high = (
        check_file(path, read_sem_image(path, page).pixels)
        for path, page in zip(files.paths, files.pages, strict=True)
    )
    return low, high
