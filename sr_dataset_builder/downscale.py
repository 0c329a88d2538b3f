"""Make low-resolution copies of photographs and move the originals: a folder of pairs.

``python -m sr_dataset_builder.downscale photos/``

Afterwards ``photos/HR/`` holds the originals, byte for byte, and ``photos/LR/`` a copy of each at
half the size: upright, lossless (PNG), with the colour profile. The tree of sub-folders is kept.
Hidden files, other kinds of files and linked folders are ignored, and files in ``HR/`` and ``LR/``
are never used as input. If the sides of a photograph are not multiples of the factor, it is first
cropped at the bottom and at the right; a reader of pairs crops the original in the same way.

An original is removed only after its copy in ``HR/`` has been compared with it byte by byte. You
can interrupt or kill the program at any time: run it again and it resumes. No file is ever
replaced by a different one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import re
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
from PIL import Image

from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, DataError, not_found, program
from toolbox.io.picture import SUFFIXES, Picture, read_picture, write_picture
from toolbox.io.picture_exif import quiet_pillow
from toolbox.progress import progress
from toolbox.resize import Reduction, reduced, whole_blocks

FACTORS = (2, 3, 4)
_CHUNK = 1 << 20
#: Names of unfinished files, and of side files of a picture writer.
_UNFINISHED = re.compile(r"\.+downscale-[0-9a-f]{12}\.tmp.*")


@dataclasses.dataclass
class Outcome:
    """Result of a run.

    Attributes
    ----------
    paired : int
        Number of pairs completed by this run.
    before : int
        Number of pairs that were already complete.
    failed : list of str
        A line with the reason for each photograph that was not processed.
    """

    paired: int = 0
    before: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)


def low_resolution(picture: Picture, factor: int, method: Reduction = "bicubic") -> Picture:
    """Make the low-resolution copy of a photograph.

    Parameters
    ----------
    picture : Picture
        The photograph, upright, pixels (H, W, C).
    factor : int
        Reduction factor. Rows and columns beyond a multiple of it are first cropped at the bottom
        and at the right; a reader of pairs crops the photograph in the same way.
    method : {'bicubic', 'lanczos', 'area'}
        See `toolbox.resize.Reduction`.

    Returns
    -------
    Picture
        Pixels (H // factor, W // factor, C) of the same type, with the colour profile and without
        any other metadata. Transparency is reduced like a further colour.

    Raises
    ------
    DataError
        If the photograph is smaller than one pixel of the copy.
    """
    height, width = picture.pixels.shape[:2]
    if min(height, width) < factor:
        raise DataError(
            f"{width} × {height} pixels are too few to be reduced {factor} times. Use a smaller "
            f"--factor."
        )
    alpha = picture.alpha
    if alpha is not None:
        alpha = reduced(whole_blocks(alpha[..., None], factor), factor, method)[..., 0]
    pixels = reduced(whole_blocks(picture.pixels, factor), factor, method)
    return dataclasses.replace(picture, pixels=pixels, alpha=alpha, exif=None, dpi=None, notes=[])


@dataclasses.dataclass(frozen=True)
class Downscaler:
    """Converts a folder of photographs to two folders of pairs.

    Parameters
    ----------
    photos : pathlib.Path
        Folder of the photographs.
    hr_dir, lr_dir : pathlib.Path
        Folders of the originals and of their low-resolution copies, inside or outside `photos`.
        They are never used as input.
    factor : int
        Reduction factor of the copies.
    method : {'bicubic', 'lanczos', 'area'}
        Kernel of the reduction.
    keep : bool
        Whether to copy the originals instead of moving them.

    Raises
    ------
    ConfigError
        If `photos` is not a folder, or the folders overlap.
    """

    photos: Path
    hr_dir: Path
    lr_dir: Path
    factor: int = 2
    method: Reduction = "bicubic"
    keep: bool = False

    def __post_init__(self) -> None:
        folders = {"photos": self.photos, "--hr-dir": self.hr_dir, "--lr-dir": self.lr_dir}
        if not self.photos.exists():
            raise ConfigError(
                f"{not_found(self.photos, 'folder')}. Name the folder of photographs."
            )
        for path in folders.values():
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path}: is a file; expected a folder.")
        for (outer, one), (inner, other) in itertools.permutations(folders.items(), 2):
            inside = other.resolve().is_relative_to(one.resolve())
            if inside and (outer != "photos" or one.resolve() == other.resolve()):
                raise ConfigError(
                    f"{inner} must not be, or be inside, {outer}; received {other} and {one}. "
                    f"Name another folder."
                )

    def run(self) -> Outcome:
        """Pair every photograph; those that cannot be paired are left unchanged.

        Raises
        ------
        DataError
            If there is no photograph.
        """
        for folder in (self.hr_dir, self.lr_dir):
            _remove_unfinished(folder)
        own = [self.hr_dir, self.lr_dir, self.photos / "HR", self.photos / "LR"]
        waiting = _photographs(self.photos, {folder.resolve() for folder in own})
        there = _photographs(self.hr_dir)
        if not waiting and not there:
            raise DataError(
                f"{self.photos}: has no photographs. Expected files ending in "
                f"{', '.join(SUFFIXES)}."
            )
        alone = {name for name in there if not self._low(name).exists()}
        self._refuse_other_factor([name for name in there if name not in alone])
        outcome = Outcome(before=len({*there} - {*waiting} - alone))
        owners: dict[str, Path] = {}
        for name in [*there, *waiting]:
            owners.setdefault(self._place(name), name)
        sources = {name: self.hr_dir / name for name in alone}
        sources |= {name: self.photos / name for name in waiting}
        for name, source in progress(sorted(sources.items()), "photographs"):
            try:
                if owners[self._place(name)] != name:
                    raise DataError(
                        f"{self._low(name)} is the copy of {owners[self._place(name)]}. Rename "
                        f"one of the two."
                    )
                changed = self._pair(source, name)
            except (DataError, OSError, MemoryError) as error:
                outcome.failed.append(_reason(source, error))
            else:
                outcome.paired += changed
                outcome.before += not changed
        return outcome

    def _refuse_other_factor(self, names: Sequence[Path]) -> None:
        """Refuse to add copies to those of another factor, judging by the first pair."""
        for name in names[:1]:
            with quiet_pillow(), Image.open(self._low(name)) as low:
                small = low.size[::-1]
            high = read_picture(self.hr_dir / name).pixels.shape[:2]
            if small != tuple(side // self.factor for side in high):
                raise DataError(
                    f"{self._low(name)}: is {small[1]} × {small[0]} pixels, not 1/{self.factor} of "
                    f"{high[1]} × {high[0]}. Use the earlier --factor, or another --lr-dir."
                )

    def _place(self, name: Path) -> str:
        """Return the name that no two photographs may share: many systems ignore case."""
        return str(self._low(name)).casefold()

    def _low(self, name: Path) -> Path:
        return self.lr_dir / name.with_suffix(".png")

    def _pair(self, source: Path, name: Path) -> bool:
        """Make the pair of a photograph, or its missing part; return whether any was missing."""
        hr, lr = self.hr_dir / name, self._low(name)
        for path in (source, hr, lr):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
                raise DataError(f"{path} is a link or a folder; expected a file.")
        fresh = [path for path in (hr, lr) if not path.exists()]
        if hr not in fresh and not _same_bytes(source, hr):
            raise DataError(f"{hr} is another file with this name. Rename one of the two.")
        small = low_resolution(read_picture(source), self.factor, self.method)
        if lr in fresh:
            with _appearing(lr) as beside:
                _write(beside, small)
        elif not _holds(lr, small):
            raise DataError(
                f"{lr} already exists and differs from the copy that would be made now. Use the "
                f"earlier --factor, --method and version, use another --lr-dir, or remove it."
            )
        if hr in fresh:
            _copy(source, hr)
        for path in (lr, lr.parent, hr, hr.parent):
            _sync(path)
        if self.keep or source == hr:
            return bool(fresh)
        _remove(source, hr)
        return True


def _write(path: Path, picture: Picture) -> None:
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    write_picture(path, [samples], samples.shape[:2], picture)
    _sync(path)


# --- file operations that lose nothing ---------------------------------------------------------


def _photographs(folder: Path, without: Collection[Path] = ()) -> list[Path]:
    """Return the sorted paths of photographs inside a folder, without some resolved folders."""
    found = []
    for place, folders, files in os.walk(folder, onerror=_refuse_to_walk):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and Path(place, name).resolve() not in without
        ]
        found += [
            Path(place, name).relative_to(folder)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _refuse_to_walk(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # the folders of the pairs may not exist yet
        raise error


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed run left behind."""
    for path in folder.rglob(".*"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _appearing(final: Path) -> Iterator[Path]:
    """Provide a temporary path that becomes `final` if the block succeeds, never over a file."""
    _make_folder(final.parent)
    # Two runs use different names, even in containers that share a folder and a process number.
    # The names are short, as that of a photograph may be as long as the file system allows.
    beside = final.with_name(f".downscale-{secrets.token_hex(6)}.tmp{final.suffix}")
    try:
        yield beside
        try:
            os.link(beside, final)  # a rename would replace a file created in the meantime
        except FileExistsError:
            _refuse_to_replace(final)
        except OSError:  # a file system without hard links
            if os.path.lexists(final):
                _refuse_to_replace(final)
            beside.rename(final)
    finally:
        beside.unlink(missing_ok=True)


def _refuse_to_replace(path: Path) -> NoReturn:
    raise DataError(
        f"{path} was created in the meantime. Check whether the program is running twice."
    ) from None


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk before anything relies on it."""
    windows = os.name == "nt"
    if windows and (path.is_dir() or not os.access(path, os.W_OK)):
        return  # on Windows, only files opened for writing can be synced
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its times and permissions; the copy appears after a comparison."""
    with _appearing(target) as beside:
        shutil.copyfile(source, beside)
        _sync(beside)
        shutil.copystat(source, beside)
        if not _same_bytes(source, beside):
            raise DataError(
                "its copy differs: the file has just changed, or the disk is faulty. Run again."
            )


def _remove(source: Path, copy: Path) -> None:
    """Remove a file after checking that `copy` is identical."""
    if source.samefile(copy):
        raise DataError(f"is {copy} under another name. Remove one of the two names.")
    if not _same_bytes(source, copy):
        raise DataError(f"changed while it was copied; {copy} holds the old state. Remove that.")
    source.unlink()
    _sync(source.parent)


def _same_bytes(one: Path, other: Path) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while chunk := first.read(_CHUNK):
            if chunk != second.read(_CHUNK):
                return False
        return not second.read(1)


def _holds(path: Path, expected: Picture) -> bool:
    """Whether a file holds the pixels of a picture."""
    try:
        found = read_picture(path)
    except DataError:
        return False
    same = np.array_equal(found.pixels, expected.pixels)
    if found.alpha is None or expected.alpha is None:
        return same and found.alpha is expected.alpha
    return same and np.array_equal(found.alpha, expected.alpha)


def _reason(path: Path, error: Exception) -> str:
    """Return one line: the photograph, and why it was not processed."""
    text = "does not fit in memory." if isinstance(error, MemoryError) else str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
    return text if text.startswith(str(path)) else f"{path}: {text}"


# --- the program -------------------------------------------------------------------------------


def _say(line: str) -> None:
    """Print a line; characters that the terminal cannot show are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.downscale",
        description="Make low-resolution copies of photographs and move the originals.",
    )
    parser.add_argument("photos", type=Path, help="folder of photographs, with sub-folders")
    parser.add_argument("--hr-dir", type=Path, help="folder of the originals (PHOTOS/HR)")
    parser.add_argument("--lr-dir", type=Path, help="folder of the copies (PHOTOS/LR)")
    parser.add_argument(
        "--factor", type=int, choices=FACTORS, default=2, help="reduction factor (2)"
    )
    parser.add_argument(
        "--method", choices=get_args(Reduction), default="bicubic", help="kernel (bicubic)"
    )
    parser.add_argument("--keep", action="store_true", help="copy the originals, do not move them")
    args = parser.parse_args(arguments)
    hr_dir, lr_dir = args.hr_dir or args.photos / "HR", args.lr_dir or args.photos / "LR"
    job = Downscaler(args.photos, hr_dir, lr_dir, args.factor, args.method, args.keep)
    outcome = job.run()
    _say(
        f"pairs made: {outcome.paired}, complete before: {outcome.before}; originals in {hr_dir}, "
        f"copies in {lr_dir} (1:{args.factor}, {args.method})"
    )
    for line in outcome.failed:
        _say(f"not done: {line}")
    if outcome.failed:
        raise DataError(
            f"{len(outcome.failed)} of {len(outcome.failed) + outcome.paired} photographs were "
            f"not processed; the reasons are above."
        )


if __name__ == "__main__":
    raise SystemExit(main())
