"""Provide the pictures and class maps of Pascal VOC 2012 in a folder.

``python -m sr_dataset_builder.voc data/voc``             checks, or unpacks the archive found there
``python -m sr_dataset_builder.voc data/voc --download``  fetches the archive first, 2 GB

Nothing is sent or fetched without ``--download``. Afterwards ``data/voc/VOCdevkit/VOC2012`` holds
``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation``; the rest of the archive
(boxes, instances, actions) is left out. The folder appears when it is complete. The next run
resumes an interrupted download.

References
----------
Everingham et al. 2010, doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from toolbox.command_line import OneLineParser
from toolbox.errors import ConfigError, DataError, program
from toolbox.progress import progress

ADDRESS = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
ARCHIVE_NAME = "VOCtrainval_11-May-2012.tar"
ARCHIVE_BYTES = 1_999_639_040
ARCHIVE_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
DATA_SET = Path("VOCdevkit", "VOC2012")
#: Lists of names that the data set must have; "trainval" is the union of the other two.
LISTS = ("train", "val")
_CHUNK = 1 << 20
#: Seconds without data after which the connection counts as lost.
_PATIENCE_S = 60
_WANTED = re.compile(
    r"VOCdevkit/VOC2012/"
    r"(JPEGImages/[\w-]+\.jpg|SegmentationClass/[\w-]+\.png|ImageSets/Segmentation/\w+\.txt)"
)


def provide(folder: Path, download: bool = False) -> dict[str, int]:
    """Ensure that a folder holds VOC 2012.

    Parameters
    ----------
    folder : pathlib.Path
        Folder that holds ``VOCdevkit``, or will.
    download : bool
        Whether to fetch the archive if neither it nor the data set exists.

    Returns
    -------
    dict of str to int
        Number of pictures in each of `LISTS`; each picture has a mask.

    Raises
    ------
    ConfigError
        If nothing exists and downloads are not allowed.
    DataError
        If the existing files are damaged or incomplete, or the download fails.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; expected a folder.")
    if not (folder / DATA_SET).exists():
        archive = folder / ARCHIVE_NAME
        if archive.exists():
            verify(archive)
        elif download:
            fetch(archive)
        else:
            raise ConfigError(
                f"{folder}: has no {DATA_SET.as_posix()}. Put {ARCHIVE_NAME} into it "
                f"({ARCHIVE_BYTES:,} bytes, MD5 {ARCHIVE_MD5}, from {ADDRESS}) and run this again, "
                f"or add --download."
            )
        unpack(archive, folder)
    return count(folder / DATA_SET)


def count(data_set: Path) -> dict[str, int]:
    """Return how many pictures each of `LISTS` names.

    Parameters
    ----------
    data_set : pathlib.Path
        A folder ``VOC2012``.

    Raises
    ------
    DataError
        If a list, or a picture or a mask that it names, is missing.
    """
    counts = {}
    for part in LISTS:
        path = data_set / "ImageSets" / "Segmentation" / f"{part}.txt"
        names = path.read_text(encoding="utf-8").split() if path.is_file() else []
        if not names:
            raise _incomplete(data_set, path)
        for name in names:
            for file in (f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"):
                if not (data_set / file).is_file():
                    raise _incomplete(data_set, data_set / file)
        counts[part] = len(names)
    return counts


def _incomplete(data_set: Path, missing: Path) -> DataError:
    return DataError(
        f"{data_set}: is incomplete: {missing.relative_to(data_set).as_posix()} is missing or "
        f"empty. Remove or rename the folder and run this again."
    )


# --- the archive -------------------------------------------------------------------------------


def verify(archive: Path) -> None:
    """Compare size and MD5 of the archive with the published ones.

    Raises
    ------
    DataError
        If they differ.
    """
    if difference := _difference(archive):
        raise DataError(f"{archive}: {difference}. It is incomplete: remove it and get it again.")


def _difference(archive: Path) -> str:
    """Return how a file differs from the published archive; empty if it does not."""
    size = archive.stat().st_size
    if size != ARCHIVE_BYTES:
        return f"has {size:,} bytes; expected {ARCHIVE_BYTES:,}"
    checksum = hashlib.md5(usedforsecurity=False)  # to find damage, not tampering
    with open(archive, "rb") as file, _byte_bar("verifying") as bar:
        while data := file.read(_CHUNK):
            checksum.update(data)
            bar.update(len(data))
    if checksum.hexdigest() != ARCHIVE_MD5:
        return f"has the MD5 {checksum.hexdigest()}; expected {ARCHIVE_MD5}"
    return ""


def unpack(archive: Path, folder: Path) -> None:
    """Extract pictures, class maps and lists from the archive; the folder appears when complete.

    Raises
    ------
    DataError
        If the archive cannot be read, lacks files, or has names that lead outside the folder.
    """
    beside = folder / ".voc-unpacking.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            # Early releases of Python 3.10 and 3.11 lack the filter; `_wanted` is even stricter.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in _wanted(tar, archive):
                tar.extract(member, beside)
        count(beside / DATA_SET)
        (folder / DATA_SET).parent.mkdir(parents=True, exist_ok=True)
        os.replace(beside / DATA_SET, folder / DATA_SET)
    except tarfile.TarError as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}). Get it again.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _wanted(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the files to extract; refuse links, and names that lead outside the folder."""
    with _byte_bar("unpacking") as bar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise DataError(
                    f"{archive}: has {member.name!r}, which leads out of the folder. Get it again."
                )
            if _WANTED.fullmatch(member.name):
                if not member.isreg():
                    raise DataError(
                        f"{archive}: {member.name!r} is a link; expected a file. Get it again."
                    )
                yield member
            bar.update(tar.offset - bar.n)


def _byte_bar(label: str, done: int = 0) -> tqdm:
    return progress(label=label, total=ARCHIVE_BYTES, initial=done, unit="B", unit_scale=True)


# --- the network -------------------------------------------------------------------------------


def fetch(archive: Path) -> None:
    """Download the archive or the rest of it; it gets its name after verification.

    Parameters
    ----------
    archive : pathlib.Path
        The final name. Until then, the file has this name with ``.part`` appended.

    Raises
    ------
    DataError
        If the network fails, or delivers another file.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.part")
    done = part.stat().st_size if part.exists() else 0
    if done != ARCHIVE_BYTES:
        _receive(part, done if done < ARCHIVE_BYTES else 0)
    if difference := _difference(part):
        part.unlink()  # resuming it would not help
        raise DataError(
            f"{ADDRESS}: what was downloaded {difference}. It was removed; run this again, or put "
            f"{ARCHIVE_NAME} into the folder yourself."
        )
    part.replace(archive)


def _receive(part: Path, done: int) -> None:
    """Append the rest of the archive to the first `done` bytes, or start again."""
    with _open(done) as response:
        if response.status != 206:  # the server ignores the range and sends the complete file
            done = 0
        _refuse_other_file(response, done)
        with open(part, "ab" if done else "wb") as file, _byte_bar("downloading", done) as bar:
            for data in _chunks(response):
                file.write(data)
                bar.update(len(data))
                if file.tell() > ARCHIVE_BYTES:
                    break
    if part.stat().st_size < ARCHIVE_BYTES:
        raise _failed("the connection was closed early")


def _open(done: int) -> http.client.HTTPResponse:
    """Request the archive from byte `done` on."""
    request = urllib.request.Request(ADDRESS, headers={"Range": f"bytes={done}-"} if done else {})
    # build_opener() would follow redirections to local files and FTP.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    try:
        return opener.open(request, timeout=_PATIENCE_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(f"the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _failed(error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _failed(error) from None


def _refuse_other_file(response: http.client.HTTPResponse, done: int) -> None:
    """Refuse an answer of the wrong length before any of it is kept."""
    announced = response.headers.get("Content-Length", "")
    start = response.headers.get("Content-Range", "")
    if announced.isdigit() and done + int(announced) != ARCHIVE_BYTES:
        raise DataError(
            f"{ADDRESS}: the server has {done + int(announced):,} bytes; expected "
            f"{ARCHIVE_BYTES:,}. Get the file elsewhere, put it there and run this again."
        )
    if done and not start.startswith(f"bytes {done}-"):
        raise _failed(f"requested bytes from {done} on, the server sent {start!r}")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            data = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _failed(error) from None
        if not data:
            return
        yield data


def _failed(reason: object) -> DataError:
    return DataError(
        f"{ADDRESS}: cannot be downloaded ({reason}). Check the network and run this again to "
        f"resume. Or get {ARCHIVE_NAME} in another way, put it into the folder and leave out "
        f"--download."
    )


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.voc",
        description="Provide the pictures and class maps of Pascal VOC 2012 in a folder.",
    )
    parser.add_argument("folder", type=Path, help="where VOCdevkit is, or will be")
    parser.add_argument(
        "--download", action="store_true", help="fetch what is missing, 2 GB, from Oxford"
    )
    args = parser.parse_args(arguments)
    counts = provide(args.folder, args.download)
    words = ", ".join(f"{number} in {part}" for part, number in counts.items())
    print(f"{args.folder / DATA_SET}: pictures with masks: {words}")
    if (archive := args.folder / ARCHIVE_NAME).exists():
        print(f"{archive} is no longer needed")


if __name__ == "__main__":
    raise SystemExit(main())
