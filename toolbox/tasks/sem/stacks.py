"""Frames that learn from each other: stacks of one field, where no picture is clean."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolbox.data_generator import Pair
from toolbox.errors import DataError, not_found
from toolbox.progress import progress
from toolbox.tasks.sem.alignment import (
    PairFiles,
    Region,
    Shift,
    ShiftCache,
    apply_shift,
    estimate_shift,
    file_digest,
    page_label,
    valid_region,
)
from toolbox.tasks.sem.frames import Crop, OpenedFile, SEMFrames, check_same, move, some_names
from toolbox.tasks.sem.sem_image import SUFFIXES, SEMImage, open_sem_stack, read_sem_image

#: Frames of a stack that the others are compared with until most of them fit.
_TRIED = 3
#: Correlation of the noise along a row below which pixels count as independent.
_INDEPENDENT = 0.05
#: Farthest reach of the noise along a row, pixels.
_MOST_REACH = 16
#: Frames from which the reach of the noise is taken.
_SAMPLED = 16
#: Share of the pixels of a patch that are hidden.
_HIDDEN = 0.06
#: How many rows away the values lie that hide others.
_ROWS_AWAY = (1, 3)


class StackFiles(NamedTuple):
    """A stack of frames of one field.

    Attributes
    ----------
    name : str
        Name of the file, or of the folder.
    path : pathlib.Path
        The file, or the folder.
    files : list of pathlib.Path
        The file itself, or those in the folder in the order of their names, one frame each.
    """

    name: str
    path: Path
    files: list[Path]


class FrameFiles(PairFiles):
    """A frame, and as its partner the stack whose other frames it learns from."""

    @property
    def labels(self) -> tuple[str, str]:
        """Names of the frame, such as ``a.tif#3``, and of the stack."""
        return self.name, self.high.name


def find_stacks(
    folder: str | os.PathLike[str], file_prefix: str = "", names: Collection[str] | None = None
) -> list[StackFiles]:
    """Find the stacks of a folder: files, whose pages are frames, and folders of single pictures.

    Parameters
    ----------
    folder : path-like
        Where they lie. What is no picture and no folder with one, or is hidden by a dot, is passed
        over.
    file_prefix : str
        What the names of files and folders must begin with.
    names : collection of str, optional
        Only these.

    Returns
    -------
    list of StackFiles
        Sorted by name.

    Raises
    ------
    DataError
        If the folder is missing or holds no stack.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{not_found(folder, 'folder')}. Mend data_dir or the folder of the source."
        )
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.startswith(file_prefix):
            continue
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        pictures = [file for file in files if _is_picture(file)]
        if pictures and (names is None or path.name in names):
            found.append(StackFiles(path.name, path, pictures))
    if not found:
        raise DataError(
            f"{folder}: holds no stack, a picture ({', '.join(SUFFIXES)}) or a folder of pictures, "
            f"whose name begins with {file_prefix!r}. Mend the folder or file_prefix."
        )
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def align_frames(frames: Sequence[np.ndarray], max_shift: float = 8.0) -> list[Shift]:
    """Find where the frames of a stack lie.

    All are compared with the one in the middle first. The mean of the others, so aligned, has
    much less noise, and each frame is compared with it once more.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts.
    max_shift : float
        Farthest that a frame may lie from the one in the middle, pixels.

    Returns
    -------
    list of Shift
        For each frame what brings the aligned mean of the others onto it, in the grid of the one
        in the middle. Not aligned, with shift 0, where no shift could be trusted.
    """
    first: list[Shift] = []
    # Another one than that in the middle only if most frames do not fit it.
    for reference in sorted(range(len(frames)), key=lambda n: abs(n - len(frames) // 2))[:_TRIED]:
        found = [
            Shift(0.0, 0.0)
            if number == reference
            else estimate_shift(frames[reference], frame, max_shift=max_shift)
            for number, frame in enumerate(frames)
        ]
        first = max(first, found, key=_count)
        if _count(first) > len(frames) / 2:
            break
    # Where the others are one frame there is nothing to gain.
    if len(frames) < 3 or _count(first) < 2:
        return first
    stack = AlignedStack(frames, first)
    return [
        estimate_shift(stack.others(number), frame, max_shift=max_shift)
        for number, frame in enumerate(frames)
    ]


def _count(shifts: Sequence[Shift]) -> int:
    return sum(shift.aligned for shift in shifts)


class AlignedStack:
    """The aligned sum of the frames of a stack, from which each can be taken off.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts; they may be read when they are asked for.
    shifts : sequence of Shift
        As of `align_frames`. A frame that is not aligned does not belong to the sum.
    """

    def __init__(self, frames: Sequence[np.ndarray], shifts: Sequence[Shift]) -> None:
        self._frames, self._shifts = frames, shifts
        self._members = [number for number, shift in enumerate(shifts) if shift.aligned]
        self._sum = functools.reduce(np.add, (self._on_grid(n) for n in self._members))

    def others(self, number: int) -> np.ndarray:
        """Return the mean of all frames but one on the common grid, (H, W) of float32."""
        if number not in self._members:
            return np.asarray(self._sum / len(self._members))
        return np.asarray((self._sum - self._on_grid(number)) / (len(self._members) - 1))

    def _on_grid(self, number: int) -> np.ndarray:
        return apply_shift(self._frames[number], _back(self._shifts[number]))


def _back(shift: Shift) -> Shift:
    return Shift(-shift.dy, -shift.dx)


def known_region(shifts: Sequence[Shift], number: int, shape: Sequence[int]) -> Region:
    """Return the rows and columns of a frame where the moved mean of the others is known.

    Parameters
    ----------
    shifts : sequence of Shift
        As of `align_frames`.
    number : int
        Which frame.
    shape : (int, int)
        Shape of a frame.
    """
    grid = [valid_region(_back(shift), shape) for shift in shifts]
    own = valid_region(shifts[number], shape)
    parts = []
    for axis, by in enumerate((shifts[number].dy, shifts[number].dx)):
        first = max(region[axis].start for region in grid) + by
        last = min(region[axis].stop for region in grid) + by
        parts.append(
            slice(max(own[axis].start, math.ceil(first)), min(own[axis].stop, math.floor(last)))
        )
    return parts[0], parts[1]


def noise_reach(frames: Sequence[np.ndarray]) -> int:
    """Return how far the noise of a pixel reaches along its row, pixels.

    Neighbouring rows show nearly the same, so their difference is noise. The reach is the largest
    lag before its autocorrelation falls below 0.05, at most 16.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts.
    """
    lags = min(_MOST_REACH + 1, frames[0].shape[1] - 1)
    covariance = np.zeros(lags + 1)
    for frame in frames:
        noise = np.diff(frame.astype(np.float32), axis=0)
        noise -= noise.mean()
        for lag in range(lags + 1):
            covariance[lag] += float((noise[:, lag:] * noise[:, : noise.shape[1] - lag]).mean())
    if not covariance[0] > 0:
        return 0
    below = covariance[1:] < _INDEPENDENT * covariance[0]
    return int(np.argmax(below)) if below.any() else _MOST_REACH


def blind_spots(images: np.ndarray, reach: int, rng: np.random.Generator) -> Pair:
    """Hide some pixels of noisy images, which are then what is asked for.

    Around each of them the row is replaced by another one nearby, as far as its noise reaches, so
    that nothing of the noise to be guessed is left [1]_ [2]_.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W, C)
        Noisy images.
    reach : int
        How far the noise of a pixel reaches along its row, pixels.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        The images with hidden pixels, and the hidden pixels in the middle of each stretch; NaN
        elsewhere. Both (N, H, W, C).

    References
    ----------
    .. [1] A. Krull, T.-O. Buchholz, F. Jug, CVPR 2019, arXiv:1811.10980
    .. [2] C. Broaddus et al., ISBI Workshops 2020, doi:10.1109/ISBIWorkshops50223.2020.9153336
    """
    count, height, width = images.shape[:3]
    spots = max(1, round(_HIDDEN * height * width / (2 * reach + 1)))
    rows = rng.integers(0, height, (count, spots))
    columns = rng.integers(0, width, (count, spots))
    away = rng.integers(*_ROWS_AWAY, (count, spots), endpoint=True)
    away *= rng.choice((-1, 1), (count, spots))
    # Beyond the border, the row on the other side.
    away = np.where((rows + away < 0) | (rows + away >= height), -away, away)
    stretch = np.clip(columns[..., None] + np.arange(-reach, reach + 1), 0, width - 1)
    which = np.arange(count)[:, None]
    hidden, asked = images.copy(), np.full_like(images, np.nan)
    hidden[which[..., None], rows[..., None], stretch] = images[
        which[..., None], (rows + away)[..., None], stretch
    ]
    asked[which, rows, columns] = images[which, rows, columns]
    return hidden, asked


class _Frames(Sequence[np.ndarray]):
    """The frames of a stack, each read when it is asked for."""

    def __init__(self, numbers: Sequence[int], read: Callable[[int], np.ndarray]) -> None:
        self._numbers, self._read = numbers, read

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._read(self._numbers[index])


class StackFrames(SEMFrames):
    """Frames whose high picture is the mean of the other frames of their stack.

    The noise of the others is independent of a frame's own, so a network that brings a frame near
    to their mean learns the same, by squares, as from a picture without noise [1]_. Frames that
    cannot be aligned are left out. A frame that is alone is its own high picture: pixels of it
    must be hidden, see `blind_spots`.

    Parameters
    ----------
    folder : path-like
        See `find_stacks`.
    options
        Those of `SEMFrames` except for `high_dir`; `scale` is 1, `stacks` is frames, and `align`
        is high or none. `pairs` are names of stacks, and `suffix_len` has no effect. A sum of
        each stack, 4 bytes a pixel, is held where the frames are read on demand.

    Attributes
    ----------
    reach : int
        How far the noise of lone frames reaches along a row, pixels; 0 without such frames.

    Raises
    ------
    ConfigError, DataError
        As `SEMFrames`; and if no two frames of any stack can be aligned.

    References
    ----------
    .. [1] J. Lehtinen et al., ICML 2018, arXiv:1803.04189
    """

    def __init__(self, folder: str | os.PathLike[str], **options: Any) -> None:
        self.lone: list[bool] = []
        self.reach = 0
        self._stack_of: list[int] = []
        in_memory = options.get("in_memory", True)
        # In memory all frames of a stack are cut one after the other, and its sum is done with.
        self._aligned = functools.lru_cache(1 if in_memory else None)(self._align)
        super().__init__(folder, folder, **options)

    # -- Reading ---------------------------------------------------------------------------------

    def _find(  # type: ignore[override]
        self,
        low_dir: str | os.PathLike[str],
        high_dir: str | os.PathLike[str],
        file_prefix: str | Sequence[str] = "",
        suffix_len: int = 8,
        pairs: Collection[str] | None = None,
    ) -> list[PairFiles]:
        prefix = file_prefix if isinstance(file_prefix, str) else file_prefix[0]
        self._stacks = find_stacks(low_dir, prefix, pairs)
        return []  # the frames are counted when the files are read

    def _read_all(self, keep: bool) -> list[Any]:
        first: tuple[Path, SEMImage] | None = None
        opened = []
        for number, stack in enumerate(progress(self._stacks, "reading stacks", delay=2)):
            sources = [open_sem_stack(path) for path in stack.files]
            digests = [file_digest(path) for path in stack.files]
            pages = [
                (source, digest, page)
                for source, digest in zip(sources, digests, strict=True)
                for page in range(source.count)
            ]
            for position, (source, digest, page) in enumerate(pages):
                image = source.image(page)
                first = first or (source.path, image)
                check_same(source.path, image, *first)
                name = stack.name if len(pages) == 1 else page_label(stack.name, position)
                shown = page if source.count > 1 else None
                files = FrameFiles(name, source.path, stack.path, shown)
                self._observe(files, (image, image), (digest, os.fsencode(stack.path)))
                self.files.append(files)
                self._pixels.append(Crop(image.pixels, image.pixels) if keep else None)
                self._stack_of.append(number)
                self.lone.append(len(pages) == 1)
            opened += [OpenedFile(source.path, source.count, source.notes) for source in sources]
        assert first is not None
        self.bits, self._shape = first[1].bits, first[1].pixels.shape
        return opened

    def _note_pages(self, opened: Sequence[OpenedFile]) -> None:
        sizes = Counter(self._stack_of)
        several = [size for number, size in sizes.items() if size > 1]
        folder = self._stacks[0].path.parent
        if several:
            self.notes.append(
                f"{folder}: {len(several)} stacks of {_span(several)} frames; each frame is paired "
                f"with the mean of the others of its stack (sem.target: frames)."
            )
        alone = len(sizes) - len(several)
        if alone:
            self.notes.append(
                f"{folder}: {alone} frames are alone, so pixels of them are hidden and guessed "
                f"from those around (blind spots). Stacks of two frames or more restore better."
            )

    def _frame(self, number: int) -> np.ndarray:
        """Return a frame without its data bar, as stored."""
        files, kept = self.files[number], self._pixels[number] if self._pixels else None
        pixels = read_sem_image(files.low, files.low_page or 0).pixels if kept is None else kept.low
        return pixels[: self._shape[0] - self.data_bar_height]

    # -- Alignment -------------------------------------------------------------------------------

    def _members(self, number: int) -> list[int]:
        """Return the frames of the stack that a frame belongs to."""
        first = bisect.bisect_left(self._stack_of, self._stack_of[number])
        return list(range(first, bisect.bisect_right(self._stack_of, self._stack_of[number])))

    def _find_shifts(self, cache_dir: Path) -> list[Shift]:
        if self.align == "none":
            return [Shift(0.0, 0.0)] * len(self)
        settings = {
            "target": "frames",
            "max_shift": self.max_shift,
            "data_bar_height": self.data_bar_height,
        }
        cache = ShiftCache(cache_dir, settings)
        shifts: list[Shift] = []
        for number in progress(sorted(set(self._stack_of)), "aligning stacks", delay=2):
            members = self._members(self._stack_of.index(number))
            known = [cache.get(self.files[member]) for member in members]
            if len(members) == 1:
                known = [Shift(0.0, 0.0)]
            found = [shift for shift in known if shift is not None]
            if len(found) < len(members):
                found = align_frames([self._frame(m) for m in members], self.max_shift)
                for member, shift in zip(members, found, strict=True):
                    cache.put(self.files[member], shift)
            shifts += found
        cache.save()
        self.notes += cache.notes
        return shifts

    def _note_unaligned(self) -> None:
        """Leave out the frames that lie on no other."""
        aligned = Counter(
            stack for stack, shift in zip(self._stack_of, self.shifts, strict=True) if shift.aligned
        )
        kept = [
            self.lone[n] or (self.shifts[n].aligned and aligned[self._stack_of[n]] > 1)
            for n in range(len(self))
        ]
        left = [self.files[n].name for n in range(len(self)) if not kept[n]]
        if not any(kept):
            raise DataError(
                f"{self._stacks[0].path.parent}: no two frames of a stack lie on each other within "
                f"max_shift {self.max_shift:g} px. Raise max_shift, or take them as they lie with "
                f"align: none."
            )
        if left:
            self.notes.append(
                f"WARNING: {self._stacks[0].path.parent}: {len(left)} of {len(self)} frames are "
                f"left out, as no shift below max_shift {self.max_shift:g} px brings them onto "
                f"the others of their stack: {some_names(left)}."
            )
            for name in ("files", "checks", "shifts", "lone", "_stack_of", "_pixels"):
                setattr(self, name, list(itertools.compress(getattr(self, name), kept)))

    def _align(self, stack: int) -> AlignedStack:
        members = self._members(self._stack_of.index(stack))
        return AlignedStack(_Frames(members, self._frame), [self.shifts[m] for m in members])

    # -- Crops -----------------------------------------------------------------------------------

    def _known(self, number: int) -> tuple[Region, Region]:
        shape = (self._shape[0] - self.data_bar_height, self._shape[1])
        members = self._members(number)
        shifts = [self.shifts[member] for member in members]
        known = known_region(shifts, members.index(number), shape)
        return known, known

    def _cut(self, number: int) -> Crop:
        frame, region = self._frame(number), self.regions[number]
        low = np.ascontiguousarray(frame[region])
        if self.lone[number]:
            return Crop(low, low)
        others = self._aligned(self._stack_of[number]).others(self._members(number).index(number))
        high = np.rint(move(others, self.shifts[number], region))
        return Crop(low, np.clip(high, 0, self.norm_range[1]).astype(frame.dtype))

    def _shape_checksum(self) -> None:
        alone = list(itertools.compress(range(len(self)), self.lone))
        if alone:
            sampled = alone[:: math.ceil(len(alone) / _SAMPLED)]
            self.reach = noise_reach([self.crop(number).low for number in sampled])
        super()._shape_checksum()
        self.checksum = zlib.crc32(repr(("frames", self.reach)).encode(), self.checksum)


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"
