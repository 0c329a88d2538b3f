"""Low and high SEM pictures found in two folders, checked, aligned and cropped."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import statistics
import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from toolbox.errors import ConfigError, DataError, not_found
from toolbox.progress import progress
from toolbox.resample import block_mean
from toolbox.tasks.sem.alignment import (
    AlignedPair,
    FileCheck,
    PairFiles,
    Region,
    Shift,
    ShiftCache,
    alignment_report,
    apply_shift,
    check_file,
    estimate_shift,
    file_digest,
    page_label,
    valid_region,
)
from toolbox.tasks.sem.pixel_size import PIXEL_TOLERANCE
from toolbox.tasks.sem.sem_image import (
    SUFFIXES,
    SEMImage,
    SEMStack,
    note_line,
    open_sem_stack,
    read_sem_image,
)

Align = Literal["high", "low", "none"]
Stacks = Literal["frames", "mean"]
#: Pixels around a crop that are moved with it. That far from the cut, the spline does not depend
#: on it (0.27^48), so a part of a crop holds the same bytes as the crop.
_MARGIN = 48
#: Largest number and bytes of crops that are cached when they are read on demand.
_REMEMBERED, _REMEMBERED_BYTES = 32, 2**28
#: Largest bytes of crops that are held in memory; beyond, crops are read on demand.
MOST_BYTES = 3 * 2**28
_NAMED = 5
_KINDS = ("low", "high")
#: What happens to the pages of stacks.
_DONE: dict[str, str] = {
    "frames": "Each page is a frame, paired with the high picture or its page of that number; "
    "sem.stacks: mean would average them.",
    "mean": "The pages of each are averaged into one picture (sem.stacks: mean).",
}
#: Share of clipped pixels above which a high picture is reported.
_SATURATED = 0.01


def pair_files(
    low_dir: str | os.PathLike[str],
    high_dir: str | os.PathLike[str],
    file_prefix: str | Sequence[str] = "",
    suffix_len: int = 8,
    pairs: Collection[str] | None = None,
) -> list[PairFiles]:
    """Find the pairs of two folders by the last characters of the file names.

    Parameters
    ----------
    low_dir, high_dir : path-like
        Folders of the input pictures and of the target pictures. Other files and hidden files are
        ignored.
    file_prefix : str or (str, str)
        Required beginning of the names: in both folders, or in low and high.
    suffix_len : int
        Number of last characters, including the ending, that partners share: 8 for ``_001.tif``.
    pairs : collection of str, optional
        Only these pairs, by those last characters.

    Returns
    -------
    list of PairFiles
        Sorted by name.

    Raises
    ------
    DataError
        If a folder is missing or has no such picture, two files of a folder have the same last
        characters, or a file has no partner.
    """
    prefixes = (file_prefix, file_prefix) if isinstance(file_prefix, str) else tuple(file_prefix)
    folders = Path(low_dir), Path(high_dir)
    low, high = (
        _by_suffix(folder, prefix, suffix_len)
        for folder, prefix in zip(folders, prefixes, strict=True)
    )
    _refuse_single(low, high, folders, suffix_len)
    same = [name for name in sorted(low) if low[name].resolve() == high[name].resolve()]
    if same:
        raise DataError(
            f"{low[same[0]]}: is its own partner, because the low and high pictures are the same "
            f"files. Name two folders, or two prefixes in file_prefix."
        )
    chosen = sorted(low) if pairs is None else sorted(set(pairs))
    unknown = [name for name in chosen if name not in low]
    if unknown or not chosen:
        raise DataError(
            f"{low_dir}: pairs must be some of {some_names(sorted(low))}; received "
            f"{some_names(unknown)}. Name pairs by the last {suffix_len} characters of their files."
        )
    return [PairFiles(name, low[name], high[name]) for name in chosen]


def _by_suffix(folder: Path, prefix: str, suffix_len: int) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{not_found(folder, 'folder')}. Check data_dir and the folder of the source."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.suffix.lower() not in SUFFIXES or name.startswith(".") or not path.is_file():
            continue
        if not name.startswith(prefix):
            continue
        other = found.setdefault(name[-suffix_len:], path)
        if other is not path:
            raise DataError(
                f"{folder}: {other.name} and {name} end in the same {suffix_len} characters, so "
                f"neither can be paired. Increase suffix_len or set file_prefix."
            )
    if not found:
        raise DataError(
            f"{folder}: holds no picture ({', '.join(SUFFIXES)}) whose name begins with "
            f"{prefix!r}. Check the folder and file_prefix."
        )
    return found


def _refuse_single(
    low: dict[str, Path], high: dict[str, Path], folders: tuple[Path, Path], suffix_len: int
) -> None:
    for own, other, folder in ((low, high, folders[1]), (high, low, folders[0])):
        single = [str(own[name]) for name in sorted(own.keys() - other.keys())]
        if single:
            raise DataError(
                f"{len(single)} of {len(own)} pictures have no partner in {folder}: "
                f"{some_names(single)}. Partners share the last {suffix_len} characters of their "
                f"names: fix suffix_len or file_prefix, or move these files away."
            )


def pairs_of_pages(files: PairFiles, low: SEMStack, high: SEMStack) -> list[PairFiles]:
    """Pair each frame of a low file with the high picture, or with its frame of that number.

    Parameters
    ----------
    files : PairFiles
        The two files.
    low, high : SEMStack
        The same files, opened.

    Returns
    -------
    list of PairFiles
        One pair if both have one frame; otherwise one for each frame, with names such as
        ``_001.tif#3``.

    Raises
    ------
    DataError
        If the high file has another number of frames than the low one, and more than one.
    """
    if high.count not in (1, low.count):
        raise DataError(
            f"{files.low} has {low.count} page{'s' * (low.count != 1)} but {files.high} has "
            f"{high.count}; the high file must have as many, or 1. Fix the files, or average their "
            f"pages with sem.stacks: mean."
        )
    if low.count == 1:
        return [files]
    return [
        PairFiles(
            page_label(files.name, page), *files.paths, page, page if high.count > 1 else None
        )
        for page in range(low.count)
    ]


def some_names(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@dataclasses.dataclass(frozen=True, eq=False)
class SEMFrame:
    """One aligned pair, cropped to where both pictures are known.

    Attributes
    ----------
    name : str
        Last characters of the two file names; in a stack with the page, such as ``_001.tif#3``.
    path : pathlib.Path
        File of the low picture.
    label : str
        Its name, also with the page.
    low : numpy.ndarray, shape (h, w), float32
        Low picture, counts.
    high : numpy.ndarray, shape (h * scale, w * scale), float32
        High picture, counts.
    valid : (slice, slice)
        Rows and columns of the crop in the frame of the low picture (after moving, if it was).
    offset_px : (float, float)
        Row and column of the first pixel of `low` in the file of the low picture; whole numbers
        unless the low picture was moved.
    """

    name: str
    path: Path
    label: str
    low: np.ndarray
    high: np.ndarray
    valid: Region
    offset_px: tuple[float, float]


class OpenedFile(NamedTuple):
    """The parts of a `SEMStack` that notes need, without its pixels."""

    path: Path
    frames: int
    notes: Mapping[str, str]


class Crop(NamedTuple):
    """Low and high counts of a frame: as stored, or float32 if moved."""

    low: np.ndarray
    high: np.ndarray


class SEMFrames:
    """The frames of a folder pair.

    Each file is read once in the constructor, twice if `data_bar_height` is auto: sizes are
    checked, shifts are estimated on whole frames and cached, crops are cut. Only one pair of whole
    frames is in memory at a time.

    Parameters
    ----------
    low_dir, high_dir, file_prefix, suffix_len, pairs
        See `pair_files`.
    scale : int
        High pictures are this many times larger than low ones.
    central_crop_height, central_crop_width : int, optional
        Size of the middle part that is used, low pixels, limited to the frame; None for all of it.
    data_bar_height : int or 'auto'
        Number of data bar rows at the bottom, low pixels. Auto takes the median of the bars found,
        which must be the same in low and high.
    align : {'high', 'low', 'none'}
        Which picture is moved onto the other. Moving the noisy one changes its noise.
    max_shift : float
        Largest shift that is considered, low pixels.
    in_memory : bool
        Keep the crops in memory, in the type of the files or, if moved, in float32, instead of
        reading them on demand. Crops of more than 768 MiB are read on demand.
    cache_dir : path-like, optional
        Where the shifts are cached; default `high_dir`.
    stacks : {'frames', 'mean'}
        Whether the pages of a file are pictures, see `pairs_of_pages`, or averaged into one.
    untold : collection of str
        Kinds and texts of `SEMStack.notes` that are left out.

    Attributes
    ----------
    files : list of PairFiles
        The pairs, one for each frame.
    told : list of str
        Texts of `SEMStack.notes` that are in `notes`.
    size_note : str or None
        Note with the source of the pixel size, where it is neither this program nor in doubt.
    shifts : list of Shift
        Shifts of the moved pictures, low pixels.
    regions : list of (slice, slice)
        The known part of each crop, in the frame of the low picture.
    bits : int
        8 or 16.
    pixel_nm : float or None
        Size of a high pixel by the tags; None if the tags are missing or disagree.
    data_bar_height : int
        Number of rows that were cut off.
    checks : list of (FileCheck, FileCheck)
        Checks of the low and the high file of each pair.
    lone : list of bool
        Whether a frame is its own high picture, because there is no other.
    checksum : int
        Checksum of all pixels and of everything that shapes the crops.
    notes : list of str
        Lines that a program should print.

    Raises
    ------
    ConfigError, DataError
        If files cannot be paired or read, or differ in size or depth.
    """

    def __init__(
        self,
        low_dir: str | os.PathLike[str],
        high_dir: str | os.PathLike[str],
        *,
        scale: int = 1,
        file_prefix: str | Sequence[str] = "",
        suffix_len: int = 8,
        central_crop_height: int | None = 800,
        central_crop_width: int | None = 256,
        data_bar_height: int | Literal["auto"] = 0,
        align: Align = "high",
        max_shift: float = 8.0,
        in_memory: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        pairs: Collection[str] | None = None,
        stacks: Stacks = "frames",
        untold: Collection[str] = (),
    ) -> None:
        for name, value, kinds in (("align", align, Align), ("stacks", stacks, Stacks)):
            if value not in get_args(kinds):
                raise ConfigError(
                    f"{name} must be one of {', '.join(get_args(kinds))}; received {value!r}. "
                    f"Use one of these."
                )
        self.stacks = stacks
        self.files = self._find(low_dir, high_dir, file_prefix, suffix_len, pairs)
        self.scale, self.align, self.max_shift = int(scale), align, float(max_shift)
        self.notes: list[str] = []
        self.data_bar_height = 0
        self._cache_dir = Path(cache_dir or high_dir)
        self._central = (central_crop_height, central_crop_width)
        self._sizes: list[tuple[Path, float]] = []
        self.checks: list[tuple[FileCheck, FileCheck]] = []
        self.checksum = 0
        self.shifts: list[Shift] = []
        self.regions: list[Region] = []
        self._crops: list[Crop] | None = [] if in_memory else None
        self._held = 0
        self._recent: OrderedDict[int, Crop] = OrderedDict()
        self._lock = threading.Lock()
        opened = self._read_all(None if data_bar_height == "auto" else int(data_bar_height))
        self._note_pages(opened)
        self.told = self._note_files(opened, untold)
        if data_bar_height == "auto":
            self._set_bar(self._found_bar())
        self.pixel_nm = self._common_pixel_nm(stated="sizes" in untold)
        self._place_rest()
        self._note_unaligned()
        self._note_odd()
        if in_memory and self._crops is None:
            self.notes.append(
                f"{low_dir}: the crops take more than {MOST_BYTES / 2**20:g} MiB of memory, so "
                f"they are read on demand. Use smaller crops, or set in_memory: false."
            )
        self._shape_checksum()

    def __len__(self) -> int:
        return len(self.files)

    def fields(self) -> list[str]:
        """Return the field of each frame: the label of the first frame that shows the field.

        Pages of a file, frames of a stack, and files that are identical show the same field.
        """
        parents: dict[bytes, bytes] = {}

        def root(digest: bytes) -> bytes:
            while parents.setdefault(digest, digest) != digest:
                digest = parents[digest]
            return digest

        for low, high in self.checks:
            parents[root(high.digest)] = root(low.digest)
        first: dict[bytes, str] = {}
        return [
            first.setdefault(root(low.digest), files.labels[0])
            for files, (low, _) in zip(self.files, self.checks, strict=True)
        ]

    @property
    def norm_range(self) -> tuple[float, float]:
        """Range of counts that the pictures can hold: (0, 255) or (0, 65535)."""
        return (0.0, 2.0**self.bits - 1)

    def crop(self, number: int) -> Crop:
        """Return the known part of a frame, low (h, w) and high (h * scale, w * scale)."""
        if self._crops is not None:
            return self._crops[number]
        with self._lock:
            if number in self._recent:
                self._recent.move_to_end(number)
                return self._recent[number]
        cut = self._cut(number)
        with self._lock:
            self._recent[number] = cut
            most = min(_REMEMBERED, max(1, _REMEMBERED_BYTES // _bytes_of(cut)))
            while len(self._recent) > most:
                self._recent.popitem(last=False)
        return cut

    def part(self, number: int, rows: slice, columns: slice) -> Crop:
        """Return a part of a crop; no more than that is read where possible.

        Parameters
        ----------
        number : int
            Number of the frame.
        rows, columns : slice
            Rows and columns of the low crop.
        """
        with self._lock:
            crop = self._recent.get(number) if self._crops is None else self._crops[number]
        if crop is not None:
            return Crop(crop.low[rows, columns], crop.high[self._fine((rows, columns))])
        top, left = (side.start for side in self.regions[number])
        places = (rows, top), (columns, left)
        inside, across = (slice(first + s.start, first + s.stop) for s, first in places)
        return self._cut(number, (inside, across))

    def frame(self, number: int) -> SEMFrame:
        """Return a frame for measurements; it is not cached."""
        crop = self._cut(number) if self._crops is None else self._crops[number]
        rows, columns = self.regions[number]
        files, shift = self.files[number], self.shifts[number]
        dy, dx = (shift.dy, shift.dx) if self.align == "low" else (0.0, 0.0)
        return SEMFrame(
            files.name,
            files.low,
            files.labels[0],
            np.asarray(crop.low, np.float32),
            np.asarray(crop.high, np.float32),
            (rows, columns),
            (rows.start - dy, columns.start - dx),
        )

    def report(self) -> list[dict[str, Any]]:
        """Return `toolbox.tasks.sem.alignment.alignment_report` for all pairs."""
        pairs = zip(self.files, self.shifts, strict=True)
        return alignment_report([AlignedPair(files, shift) for files, shift in pairs], self.checks)

    #: Finds the pairs from folders, prefixes, suffix and names.
    _find = staticmethod(pair_files)

    # -- Reading ---------------------------------------------------------------------------------

    def _read_all(self, bar: int | None) -> list[OpenedFile]:
        """Read every frame; return the files in the order of opening, low and high in turn.

        If the height of the data bar is known, frames are also aligned and cut.
        """
        opened: list[OpenedFile] = []
        found: list[PairFiles] = []
        wanted: list[FileKind] = []
        for files in progress(self.files, "reading pairs", delay=2):
            stacks = [open_sem_stack(path) for path in files.paths]
            digests = [file_digest(path) for path in files.paths]
            # A high picture that several pages share is decoded once.
            readers = [functools.lru_cache(1)(stack.image) for stack in stacks]
            pages = pairs_of_pages(files, *stacks) if self.stacks == "frames" else [files]
            for pair in pages:
                low, high = (read(page) for read, page in zip(readers, pair.pages, strict=True))
                kinds = [FileKind.of(*both) for both in zip(files.paths, (low, high), strict=True)]
                self._check_pair(*kinds)
                if not wanted:
                    wanted, self.bits, self._shape = kinds, low.bits, kinds[0].shape
                    if bar is not None:
                        self._set_bar(bar)
                for kind, other in zip(kinds, wanted, strict=True):
                    check_same(kind, other)
                self._observe(files, (low, high), digests)
                if bar is not None:
                    self._place(pair, Crop(low.pixels, high.pixels))
                del low, high  # before the next ones are read
            opened += [OpenedFile(stack.path, stack.count, stack.notes) for stack in stacks]
            found += pages
        self.files, self.lone = found, [False] * len(found)
        return opened

    def _observe(
        self, files: PairFiles, images: Sequence[SEMImage], digests: Sequence[bytes]
    ) -> None:
        """Record what is needed about a pair besides its pixels."""
        for path, image in zip(files.paths, images, strict=True):
            self.checksum = zlib.crc32(image.pixels.data, self.checksum)
            if image.was_colour and not self.notes:
                self.notes.append(
                    f"{path}: is a colour picture; it and others like it are converted to grey."
                )
            if image.pixel_nm is not None:
                fine = image.pixel_nm / (self.scale if path is files.low else 1)
                self._sizes.append((path, fine))
        low, high = (
            check_file(path, image.pixels, digest)
            for path, image, digest in zip(files.paths, images, digests, strict=True)
        )
        self.checks.append((low, high))

    def _note_pages(self, opened: Sequence[OpenedFile]) -> None:
        """Add a note about the pages of stacks."""
        several = [file for file in opened if file.frames > 1]
        if several:
            total = sum(file.frames for file in several)
            self.notes.append(
                f"{several[0].path}: is a stack; {len(several)} of {len(opened)} files are, with "
                f"{total} pages in total. {_DONE[self.stacks]}"
            )

    def _note_files(self, opened: Sequence[OpenedFile], untold: Collection[str]) -> list[str]:
        """Add one note for each kind that files have in common; return their texts."""
        kinds: dict[str, list[OpenedFile]] = {}
        for file in opened:
            for kind, text in file.notes.items():
                if kind not in untold and text not in untold:
                    kinds.setdefault(kind, []).append(file)
        texts = {kind: files[0].notes[kind] for kind, files in kinds.items()}
        lines = {
            kind: note_line([file.path for file in kinds[kind]], kind, text)
            for kind, text in texts.items()
        }
        self.size_note = lines.pop("size", None)
        self.notes += lines.values()
        return list(texts.values())

    def _check_pair(self, low: FileKind, high: FileKind) -> None:
        wanted = tuple(size * self.scale for size in low.shape)
        if high.shape != wanted or high.bits != low.bits:
            raise DataError(
                f"{low.path} is {low} but {high.path} is {high}; at scale "
                f"{self.scale} the high one must be {wanted[0]} × {wanted[1]} of {low.bits} bits. "
                f"Fix scale or the files."
            )

    def _found_bar(self) -> int:
        """Return the height of the data bar of most frames, low pixels."""
        # A dark or empty frame seems to have a higher bar: no single frame may decide.
        low, fine = (
            statistics.median_high(check.data_bar_px for check in checks)
            for checks in zip(*self.checks, strict=True)
        )
        high = math.ceil(fine / self.scale)
        if abs(low - high) > 1:
            folders = [path.parent for path in self.files[0].paths]
            raise ConfigError(
                f"data_bar_height must be a number of rows, because auto finds two: {low} in "
                f"{folders[0]}, {high} in {folders[1]}; received 'auto'. Set the number."
            )
        return max(low, high)

    def _set_bar(self, height: int) -> None:
        if not 0 <= height < self._shape[0]:
            raise ConfigError(
                f"data_bar_height must be 0 to {self._shape[0] - 1} for frames of "
                f"{self._shape[0]} rows; received {height}. Lower it."
            )
        self.data_bar_height = height

    def _common_pixel_nm(self, stated: bool) -> float | None:
        """Return the common pixel size of all files; warn if it differs and is not `stated`."""
        if not self._sizes:
            return None
        first, pixel_nm = self._sizes[0]
        for path, size in self._sizes:
            if abs(size - pixel_nm) > PIXEL_TOLERANCE * pixel_nm:
                if not stated:
                    self.notes.append(
                        f"WARNING: at the scale of the high pictures, a pixel of {first} is "
                        f"{pixel_nm:g} nm but one of {path} is {size:g} nm, so neither is used. "
                        f"Set pixel_nm."
                    )
                return None
        return pixel_nm

    def _load(self, number: int) -> Crop:
        """Return both pictures of a pair, as stored."""
        files = self.files[number]
        low, high = (
            read_sem_image(path, page).pixels
            for path, page in zip(files.paths, files.pages, strict=True)
        )
        return Crop(low, high)

    # -- Alignment -------------------------------------------------------------------------------

    @functools.cached_property
    def _cache(self) -> ShiftCache:
        settings = {
            "align": self.align,
            "scale": self.scale,
            "max_shift": self.max_shift,
            "data_bar_height": self.data_bar_height,
            # The default is left out, so older caches remain valid.
            **({"stacks": self.stacks} if self.stacks != "frames" else {}),
        }
        return ShiftCache(self._cache_dir, settings)

    def _place(self, files: PairFiles, pair: Crop) -> None:
        """Align the next pair of whole frames and cut its crop."""
        number = len(self.shifts)
        self.shifts.append(self._find_shift(files, pair))
        shape = (self._shape[0] - self.data_bar_height, self._shape[1])
        by_low, by_high = self._moved(self.shifts[number])
        low = valid_region(by_low, shape)
        high = valid_region(by_high, [size * self.scale for size in shape])
        self.regions.append(self._region(low, high))
        if self._crops is not None:
            self._hold(self._cut(number, pair=pair))

    def _hold(self, crop: Crop) -> None:
        """Keep the next crop in memory, unless they take too much."""
        assert self._crops is not None
        self._crops.append(crop)
        self._held += _bytes_of(crop)
        # The memory of all is known long before they take it.
        if self._held * max(1.0, len(self) / len(self._crops)) > MOST_BYTES:
            self._crops = None

    def _find_shift(self, files: PairFiles, pair: Crop) -> Shift:
        if self.align == "none":
            return Shift(0.0, 0.0)
        shift = self._cache.get(files)
        if shift is None:
            shift = self._estimate(pair)
            self._cache.put(files, shift)
        return shift

    def _place_rest(self) -> None:
        """Align and cut the remaining frames."""
        left = range(len(self.shifts), len(self))
        if left:
            for number in progress(left, "aligning pairs", delay=2):
                self._place(self.files[number], self._load(number))
        if self.align != "none":
            self._cache.save()
            self.notes += self._cache.notes

    def _estimate(self, pair: Crop) -> Shift:
        rows = self._shape[0] - self.data_bar_height
        pair = Crop(pair.low[:rows], pair.high[: rows * self.scale])
        high = pair.high
        if self.scale > 1:
            high = block_mean(high[None, ..., None], self.scale)[0, ..., 0]
        moving, fixed = (high, pair.low) if self.align == "high" else (pair.low, high)
        return estimate_shift(moving, fixed, max_shift=self.max_shift)

    def _note_unaligned(self) -> None:
        left = [
            files.name
            for files, shift in zip(self.files, self.shifts, strict=True)
            if not shift.aligned
        ]
        if left:
            self.notes.append(
                f"WARNING: {self.files[0].high.parent}: {len(left)} of {len(self)} pairs are not "
                f"aligned, because no shift below max_shift {self.max_shift:g} px brings them "
                f"together: {some_names(left)}. They are used unshifted."
            )

    def _note_odd(self) -> None:
        """Add notes about copies within a folder and clipped high pictures."""
        # By name, because the pages of a low stack may share a high picture.
        both = {kind: {row[f"{kind}_file"]: row for row in self.report()} for kind in _KINDS}
        for kind, folder in zip(_KINDS, self.files[0].paths, strict=True):
            copies = [name for name, row in both[kind].items() if row[f"{kind}_duplicate_of"]]
            if copies:
                self.notes.append(
                    f"WARNING: {folder.parent}: {len(copies)} of {len(both[kind])} pictures are "
                    f"copies of others, byte by byte: {some_names(copies)}. Remove the copies."
                )
        high = both["high"]
        clipped = [name for name, row in high.items() if row["high_saturated"] > _SATURATED]
        if clipped:
            self.notes.append(
                f"WARNING: {self.files[0].high.parent}: in {len(clipped)} of {len(high)} pictures "
                f"more than {_SATURATED:.0%} of the pixels are at an end of the range, which "
                f"clips edges: {some_names(clipped)}. Lower the contrast of the microscope."
            )

    def _moved(self, shift: Shift) -> tuple[Shift, Shift]:
        """Return the shifts of low and of high, each in its own pixels."""
        rest = Shift(0.0, 0.0)
        if self.align == "low":
            return shift, rest
        return rest, shift.scaled(self.scale)

    # -- Crops -----------------------------------------------------------------------------------

    def _known(self, number: int) -> tuple[Region, Region]:
        """Return the known regions of low and high after moving, each in its own pixels."""
        shape = (self._shape[0] - self.data_bar_height, self._shape[1])
        by_low, by_high = self._moved(self.shifts[number])
        low = valid_region(by_low, shape)
        return low, valid_region(by_high, [size * self.scale for size in shape])

    def _region(self, low: Region, high: Region) -> Region:
        """Return the part of the central crop where both pictures are known, low pixels.

        `low` and `high` are their known regions, each in its own pixels.
        """
        shape = (self._shape[0] - self.data_bar_height, self._shape[1])
        parts = []
        for size, wanted, own, fine in zip(shape, self._central, low, high, strict=True):
            length = size if wanted is None else min(wanted, size)
            start = (size - length) // 2
            first = max(start, own.start, -(-fine.start // self.scale))
            parts.append(slice(first, min(start + length, own.stop, fine.stop // self.scale)))
        return parts[0], parts[1]

    def _fine(self, region: Region) -> Region:
        """Return a region in high pixels."""
        rows, columns = (slice(s.start * self.scale, s.stop * self.scale) for s in region)
        return rows, columns

    def _cut(self, number: int, region: Region | None = None, pair: Crop | None = None) -> Crop:
        """Return the crop of a frame, or a region of the frame in low pixels.

        Without `pair`, only the rows that the region needs are read.
        """
        region = region or self.regions[number]
        height = self._shape[0] - self.data_bar_height
        cut = []
        for kind, by in enumerate(self._moved(self.shifts[number])):
            rows, columns = self._fine(region) if kind else region
            rows_read = needed(rows, by.dy, height * (self.scale if kind else 1))
            if pair is None:
                files = self.files[number]
                img = read_sem_image(files.paths[kind], files.pages[kind], rows_read).pixels
            else:
                img = pair[kind][rows_read]
            inside = slice(rows.start - rows_read.start, rows.stop - rows_read.start)
            cut.append(move(img, by, (inside, columns)))
        return Crop(*cut)

    def _shape_checksum(self) -> None:
        """Add to the checksum what was cut and how it was moved."""
        shapes = [
            (files.name, shift.dy, shift.dx, region)
            for files, shift, region in zip(self.files, self.shifts, self.regions, strict=True)
        ]
        text = repr((self.scale, self.align, shapes))
        self.checksum = zlib.crc32(text.encode(), self.checksum)


def needed(part: slice, by: float, size: int) -> slice:
    """Return the rows or columns that are needed to move a part of them."""
    reach = _MARGIN + math.ceil(abs(by)) if by else 0
    return slice(max(0, part.start - reach), min(size, part.stop + reach))


def move(img: np.ndarray, shift: Shift, region: Region) -> np.ndarray:
    """Move a picture (H, W) and return a region of it; nothing else is computed."""
    outer = [needed(*one) for one in zip(region, (shift.dy, shift.dx), img.shape, strict=True)]
    inner = [
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(region, outer, strict=True)
    ]
    moved = img[outer[0], outer[1]]
    if shift.dy or shift.dx:
        moved = apply_shift(moved, shift)
    # A copy, or the whole picture would stay in memory.
    return moved[inner[0], inner[1]].copy()


def _bytes_of(crop: Crop) -> int:
    return crop.low.nbytes + crop.high.nbytes


class FileKind(NamedTuple):
    """Size and depth of the picture in a file."""

    path: Path
    shape: tuple[int, ...]
    bits: int

    @classmethod
    def of(cls, path: Path, image: SEMImage) -> FileKind:
        """Return size and depth of a picture that was read."""
        return cls(path, image.pixels.shape, image.bits)

    def __str__(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]} of {self.bits} bits"


def check_same(kind: FileKind, other: FileKind) -> None:
    """Raise an error if two pictures differ in size or depth."""
    if kind[1:] != other[1:]:
        raise DataError(
            f"{other.path} is {other} but {kind.path} is {kind}; all pictures of a "
            f"folder must have one size and depth. Sort them into separate folders."
        )
