"""Frames that learn from each other: stacks of one field, without clean pictures."""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
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
from toolbox.tasks.sem.frames import (
    MOST_BYTES,
    Crop,
    FileKind,
    OpenedFile,
    SEMFrames,
    check_same,
    move,
    needed,
    some_names,
)
from toolbox.tasks.sem.metrology import find_lines
from toolbox.tasks.sem.sem_image import SUFFIXES, open_sem_stack, read_sem_image

#: Number of frames that are tried as the reference until most of the others fit.
_TRIED = 3
#: Smoothing in pixels and threshold with which `cdloss` finds edges by default.
_SMOOTH_PX, _THRESHOLD = 0.7, 0.5
#: Distance of rows between which the edges of two halves of a stack are compared; moved rows share
#: some noise with their neighbours.
_LAG = 4
#: Correlation of the noise along a row below which pixels count as independent.
_INDEPENDENT = 0.05
#: Largest reach of the noise along a row, pixels.
_MOST_REACH = 16
#: Number of frames in which the reach of the noise is measured.
_SAMPLED = 16
#: Share of the pixels of a patch that are hidden.
_HIDDEN = 0.06
#: Distance of the rows whose values replace hidden ones.
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
    """A frame, with the stack whose other frames it learns from as its partner."""

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
        Folder of the stacks. Hidden files, and whatever is neither a picture nor a folder with one,
        are ignored.
    file_prefix : str
        Required beginning of the names of files and folders.
    names : collection of str, optional
        Only these stacks.

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
            f"{not_found(folder, 'folder')}. Check data_dir and the folder of the source."
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
            f"{folder}: holds no stack, i.e. no picture ({', '.join(SUFFIXES)}) or folder of "
            f"pictures, whose name begins with {file_prefix!r}. Check the folder and file_prefix."
        )
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def align_frames(frames: Sequence[np.ndarray], max_shift: float = 8.0) -> list[Shift]:
    """Find the shifts between the frames of a stack.

    All frames are compared with the middle one first. The mean of the others, aligned in this way,
    has much less noise, and each frame is compared with it once more.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts.
    max_shift : float
        Largest shift between a frame and the middle one, pixels.

    Returns
    -------
    list of Shift
        For each frame, the shift that moves the aligned mean of the others onto it, on the grid of
        the middle frame. Not aligned, with shift 0, where no shift could be trusted, and for all
        frames if fewer than two could be aligned.
    """
    first: list[Shift] = []
    several = len(frames) > 2
    # Another reference than the middle frame is used only if most frames do not fit it.
    for reference in sorted(range(len(frames)), key=lambda n: abs(n - len(frames) // 2))[:_TRIED]:
        found = [
            Shift(0.0, 0.0)
            if number == reference
            else estimate_shift(frames[reference], frame, max_shift=max_shift, every_axis=several)
            for number, frame in enumerate(frames)
        ]
        first = max(first, found, key=_count)
        if _count(first) > len(frames) / 2:
            break
    if _count(first) < 2:
        return [Shift(0.0, 0.0, aligned=False)] * len(frames)
    if not several:  # the mean of the others is a single frame: no gain
        return first
    stack = AlignedStack(frames, first)
    found = [
        estimate_shift(stack.others(number), frame, max_shift=max_shift)
        for number, frame in enumerate(frames)
    ]
    return found if _count(found) > 1 else first


def _count(shifts: Sequence[Shift]) -> int:
    return sum(shift.aligned for shift in shifts)


class AlignedStack:
    """The aligned sum of the frames of a stack, from which each frame can be subtracted.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts; they may be read on access.
    shifts : sequence of Shift
        Shifts from `align_frames`. Frames that are not aligned are not in the sum.
    """

    def __init__(self, frames: Sequence[np.ndarray], shifts: Sequence[Shift]) -> None:
        self._frames, self._shifts = frames, shifts
        self._members = [number for number, shift in enumerate(shifts) if shift.aligned]
        self._sum = functools.reduce(np.add, map(self._on_grid, self._members))
        self._whole: Region = (slice(0, self._sum.shape[0]), slice(0, self._sum.shape[1]))

    def others(self, number: int, region: Region | None = None) -> np.ndarray:
        """Return the mean of all frames except one on the common grid, or a region of it.

        The result is float32 of shape (H, W).
        """
        region = region or self._whole
        if number not in self._members:
            return np.asarray(self._sum[region] / len(self._members))
        own = move(self._frames[number], _back(self._shifts[number]), region)
        return np.asarray((self._sum[region] - own) / (len(self._members) - 1))

    def target(self, number: int, region: Region) -> np.ndarray:
        """Return a region of a frame as the others show it, float32 of shape (h, w)."""
        shift = self._shifts[number]
        steps = zip(region, (shift.dy, shift.dx), self._sum.shape, strict=True)
        rows, columns = (needed(*step) for step in steps)
        inside = tuple(
            slice(part.start - outer.start, part.stop - outer.start)
            for part, outer in zip(region, (rows, columns), strict=True)
        )
        return move(self.others(number, (rows, columns)), shift, (inside[0], inside[1]))

    def edge_noise(self) -> float:
        """Return the variance of edges by noise in a mean of the others, pixels².

        It is computed from the differences between the edges in two halves of the frames.

        Raises
        ------
        DataError
            If there is no line.
        """
        margin = 2 * math.ceil(max(max(abs(s.dy), abs(s.dx)) for s in self._shifts)) + 4
        rows, columns = (slice(margin, size - margin) for size in self._sum.shape)
        # Moved once more, as targets are, which reduces the noise a little.
        shift = self._shifts[self._members[0]]
        halves = [self._members[::2], self._members[1::2]]
        means = [
            functools.reduce(np.add, map(self._on_grid, half)) / len(half)
            for half in (self._members, *halves)
        ]
        moved = [apply_shift(mean, shift)[rows, columns] for mean in means]
        try:
            difference = _edges_apart(*moved)
        except DataError:
            difference = _edges_apart(*(image.T for image in moved))
        # Between rows, so the offset of a whole edge does not count.
        steps = difference[:, _LAG:] - difference[:, :-_LAG]
        of_one = float(np.nanmean(np.square(steps))) / 2 / sum(1 / len(half) for half in halves)
        return of_one / (len(self._members) - 1)

    def _on_grid(self, number: int) -> np.ndarray:
        return apply_shift(self._frames[number], _back(self._shifts[number]))


def _edges_apart(whole: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the distances of the edges of `whole` in two pictures, (edges, rows) in pixels."""
    sides = find_lines(whole, _THRESHOLD, smooth_px=_SMOOTH_PX)
    left, right = (np.nanmean(side[sides.clear], axis=1) for side in sides[:2])
    lines = list(zip(left.tolist(), right.tolist(), strict=True))
    found = [find_lines(image, _THRESHOLD, lines, _SMOOTH_PX) for image in (one, other)]
    edges = [np.concatenate([seen.left_px, seen.right_px]) for seen in found]
    return np.asarray(edges[1] - edges[0])


def _back(shift: Shift) -> Shift:
    return Shift(-shift.dy, -shift.dx)


def known_region(shifts: Sequence[Shift], number: int, shape: Sequence[int]) -> Region:
    """Return the rows and columns of a frame where the moved mean of the others is known.

    Parameters
    ----------
    shifts : sequence of Shift
        Shifts from `align_frames`.
    number : int
        Number of the frame.
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

    The content of neighbouring rows changes evenly, so their second difference is noise; the
    offset of a whole row is subtracted. The reach is the largest lag before the autocorrelation
    falls below 0.05, at most 16.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (H, W)
        Counts.
    """
    lags = min(_MOST_REACH + 1, frames[0].shape[1] - 1)
    covariance = np.zeros(lags + 1)
    for frame in frames:
        noise = np.diff(frame.astype(np.float32), 2, axis=0)
        noise -= noise.mean(axis=1, keepdims=True)
        for lag in range(lags + 1):
            covariance[lag] += float((noise[:, lag:] * noise[:, : noise.shape[1] - lag]).mean())
    if not covariance[0] > 0:
        return 0
    below = covariance[1:] < _INDEPENDENT * covariance[0]
    return int(np.argmax(below)) if below.any() else _MOST_REACH


def blind_spots(images: np.ndarray, reach: int, rng: np.random.Generator) -> Pair:
    """Hide some pixels of noisy images, which then become the target.

    Around each of them, the row is replaced by one nearby, as far as its noise reaches, so none of
    the noise of the target remains [1]_ [2]_.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W, C)
        Noisy images.
    reach : int
        How far the noise of a pixel reaches along its row, pixels.
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        The images with hidden pixels, and the targets: the original pixels in the middle of each
        hidden stretch, NaN elsewhere. Both have shape (N, H, W, C).

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
    # Beyond the border, use the row on the other side.
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
    """The frames of a stack, read on access."""

    def __init__(self, numbers: Sequence[int], read: Callable[[int], np.ndarray]) -> None:
        self._numbers, self._read = numbers, read

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._read(self._numbers[index])


class StackFrames(SEMFrames):
    """Frames whose high picture is the mean of the other frames of their stack.

    The noise of the others is independent of a frame's own, so with squared errors a network that
    learns to predict their mean learns the same as from noise-free pictures [1]_. Frames that
    cannot be aligned are left out, and so are copies within a stack, whose noise is not
    independent. A lone frame is its own high picture: some of its pixels must be hidden, see
    `blind_spots`.

    Parameters
    ----------
    folder : path-like
        See `find_stacks`.
    options
        Those of `SEMFrames` except `high_dir`; `scale` is 1, `stacks` is frames, and `align` is
        high or none. `pairs` are names of stacks, and `suffix_len` has no effect. If frames are
        read on demand, the sums of stacks are kept: 4 bytes per pixel, up to 768 MiB.

    Attributes
    ----------
    reach : int
        Reach of the noise of lone frames along a row, pixels; 0 without such frames.

    Raises
    ------
    ConfigError, DataError
        See `SEMFrames`; also if no two frames of any stack can be aligned, or all frames of a stack
        are copies.

    References
    ----------
    .. [1] J. Lehtinen et al., ICML 2018, arXiv:1803.04189
    """

    def __init__(self, folder: str | os.PathLike[str], **options: Any) -> None:
        self.lone: list[bool] = []
        self.reach = 0
        self._stack_of: list[int] = []
        self._copied: list[bool] = []
        super().__init__(folder, folder, **options)

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

    # -- Reading ---------------------------------------------------------------------------------

    def _read_all(self, bar: int | None) -> list[OpenedFile]:
        """Read every stack; if the height of the data bar is known, also align and cut it."""
        opened: list[OpenedFile] = []
        wanted: FileKind | None = None
        for number, stack in enumerate(progress(self._stacks, "reading stacks", delay=2)):
            images = []
            for path in stack.files:
                source, digest = open_sem_stack(path), file_digest(path)
                for page in range(source.count):
                    image = source.image(page)
                    kind = FileKind.of(path, image)
                    if wanted is None:
                        wanted, self.bits, self._shape = kind, image.bits, kind.shape
                        if bar is not None:
                            self._set_bar(bar)
                    check_same(kind, wanted)
                    shown = page if source.count > 1 else None
                    files = FrameFiles(stack.name, path, stack.path, shown)
                    self._observe(files, (image, image), (digest, os.fsencode(stack.path)))
                    self.files.append(files)
                    images.append(image.pixels)
                opened.append(OpenedFile(path, source.count, source.notes))
            self._name(number, len(images))
            if bar is not None:
                self._place_stack(number, images)
        return opened

    def _name(self, stack: int, count: int) -> None:
        """Give the last `count` frames numbers within their stack; a lone frame gets none."""
        self._stack_of += [stack] * count
        self.lone += [count == 1] * count
        if count > 1:
            for position, number in enumerate(range(len(self) - count, len(self))):
                files = self.files[number]
                self.files[number] = files._replace(name=page_label(files.name, position))

    def _note_pages(self, opened: Sequence[OpenedFile]) -> None:
        sizes = Counter(self._stack_of)
        several = [size for number, size in sizes.items() if size > 1]
        folder = self._stacks[0].path.parent
        if several:
            self.notes.append(
                f"{folder}: {len(several)} stacks of {_span(several)} frames; each frame is paired "
                f"with the mean of the others in its stack (sem.target: frames)."
            )
        alone = len(sizes) - len(several)
        if alone:
            lone = "1 frame is" if alone == 1 else f"{alone} frames are"
            self.notes.append(
                f"{folder}: {lone} alone, so some pixels are hidden and predicted from their "
                f"surroundings (blind spots). Stacks of at least two frames give better results."
            )

    def _frame(self, number: int) -> np.ndarray:
        """Read a frame, without its data bar, as stored."""
        files = self.files[number]
        pixels = read_sem_image(files.low, files.low_page or 0).pixels
        return pixels[: self._shape[0] - self.data_bar_height]

    # -- Alignment -------------------------------------------------------------------------------

    @functools.cached_property
    def _cache(self) -> ShiftCache:
        settings = {
            "target": "frames",
            "max_shift": self.max_shift,
            "data_bar_height": self.data_bar_height,
        }
        return ShiftCache(self._cache_dir, settings)

    def _members(self, stack: int) -> list[int]:
        """Return the numbers of the frames of a stack."""
        ends = bisect.bisect_left, bisect.bisect_right
        first, last = (end(self._stack_of, stack) for end in ends)
        return list(range(first, last))

    def _place_rest(self) -> None:
        placed = len(self.shifts)
        left = [n for n in range(len(self._stacks)) if self._members(n)[0] >= placed]
        if left:
            for number in progress(left, "aligning stacks", delay=2):
                self._place_stack(number, [self._frame(n) for n in self._members(number)])
        if self.align != "none":
            self._cache.save()
            self.notes += self._cache.notes

    def _place_stack(self, number: int, frames: Sequence[np.ndarray]) -> None:
        """Align the frames of the next stack and cut their crops."""
        rows = self._shape[0] - self.data_bar_height
        frames = [frame[:rows] for frame in frames]
        copied = copies_in(frames)
        if sum(copied) == len(frames) - 1 > 0:
            raise DataError(
                f"{self._stacks[number].path}: its {len(frames)} frames are copies of one, pixel "
                f"by pixel, so none can learn from the others. Save frames that were recorded one "
                f"after another, or keep only one."
            )
        self._copied += copied
        shifts = self._shifts_of(self._members(number), frames, copied)
        several = len(frames) > 1 and any(shift.aligned for shift in shifts)
        stack = AlignedStack(frames, shifts) if several else None
        self.shifts += shifts
        for position in range(len(frames)):
            known = known_region(shifts, position, frames[0].shape)
            self.regions.append(self._region(known, known))
            if self._crops is not None:
                self._hold(self._crop_of(frames[position], stack, position, self.regions[-1]))

    def _shifts_of(
        self, members: Sequence[int], frames: Sequence[np.ndarray], copied: Sequence[bool]
    ) -> list[Shift]:
        if self.align == "none" or len(frames) == 1:
            return [Shift(0.0, 0.0, aligned=not copy) for copy in copied]
        files = [self.files[member] for member in members]
        known = [shift for shift in map(self._cache.get, files) if shift is not None]
        if len(known) < len(frames):
            own = [frame for frame, copy in zip(frames, copied, strict=True) if not copy]
            found = iter(align_frames(own, self.max_shift))
            known = [Shift(0.0, 0.0, aligned=False) if copy else next(found) for copy in copied]
            for one, shift in zip(files, known, strict=True):
                self._cache.put(one, shift)
        return known

    def _note_unaligned(self) -> None:
        """Leave out copies and frames that could not be aligned, with notes."""
        kept = [shift.aligned for shift in self.shifts]
        which = list(zip(self.files, kept, self._copied, strict=True))
        left = [files.name for files, keep, copy in which if not keep and not copy]
        copies = [files.name for files, _, copy in which if copy]
        folder, most = self._stacks[0].path.parent, f"max_shift {self.max_shift:g} px"
        if not any(kept):
            raise DataError(
                f"{folder}: no two frames of a stack could be aligned within {most}. Increase "
                f"max_shift, or use them unshifted with align: none."
            )
        if left:
            self.notes.append(
                f"WARNING: {folder}: {len(left)} of {len(self)} frames are left out, because no "
                f"shift below {most} aligns them with the others of their stack: "
                f"{some_names(left)}."
            )
        if copies:
            self.notes.append(
                f"WARNING: {folder}: {len(copies)} of {len(self)} frames are copies of others of "
                f"their stack, pixel by pixel, and are left out: {some_names(copies)}. Remove them."
            )
        if not all(kept):
            for name in ("files", "checks", "shifts", "regions", "lone", "_stack_of", "_crops"):
                if getattr(self, name) is not None:
                    setattr(self, name, list(itertools.compress(getattr(self, name), kept)))

    # -- Crops -----------------------------------------------------------------------------------

    def _cut(self, number: int, region: Region | None = None, pair: Crop | None = None) -> Crop:
        members = self._members(self._stack_of[number])
        stack = self._aligned(self._stack_of[number]) if len(members) > 1 else None
        region = region or self.regions[number]
        return self._crop_of(self._frame(number), stack, number - members[0], region)

    @functools.cached_property
    def _aligned(self) -> Callable[[int], AlignedStack]:
        """Function that returns the aligned sum of a stack, for crops on demand, cached."""
        size = 4 * self._shape[0] * self._shape[1]

        def aligned(stack: int) -> AlignedStack:
            members = self._members(stack)
            return AlignedStack(_Frames(members, self._frame), [self.shifts[m] for m in members])

        return functools.lru_cache(max(1, MOST_BYTES // size))(aligned)

    def edge_noise(self) -> float:
        """Return how far noise displaces the edges of lines in the high pictures.

        Returns
        -------
        float
            Standard deviation in pixels, from a sample of the stacks; 0 without lines or without a
            stack of several frames.
        """
        stacks = sorted(set(itertools.compress(self._stack_of, (not one for one in self.lone))))
        found = []
        for stack in stacks[:: max(1, len(stacks) // _SAMPLED)]:
            with contextlib.suppress(DataError):
                found.append(self._aligned(stack).edge_noise())
        return math.sqrt(np.nanmean(found)) if np.isfinite(found).any() else 0.0

    def _crop_of(
        self, frame: np.ndarray, stack: AlignedStack | None, position: int, region: Region
    ) -> Crop:
        low = frame[region].copy()
        if stack is None:
            return Crop(low, low)
        high = np.clip(np.rint(stack.target(position, region)), 0, self.norm_range[1])
        return Crop(low, high.astype(frame.dtype))

    def _shape_checksum(self) -> None:
        alone = [number for number in range(len(self)) if self.lone[number]]
        if alone:
            sampled = alone[:: math.ceil(len(alone) / _SAMPLED)]
            self.reach = noise_reach([self._frame(n)[self.regions[n]] for n in sampled])
        super()._shape_checksum()
        self.checksum = zlib.crc32(repr(("frames", self.reach)).encode(), self.checksum)


def copies_in(frames: Sequence[np.ndarray]) -> list[bool]:
    """Return for each frame whether it equals an earlier one in every pixel."""
    digests = [hashlib.sha256(frame.tobytes()).digest() for frame in frames]
    return [digest in digests[:number] for number, digest in enumerate(digests)]


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"
