"""SEM pictures in files: grey values as stored, and the pixel size in nm."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.content import unreadable
from toolbox.io.picture_exif import quiet_pillow
from toolbox.io.picture_tiff import TIFF_HEADS, doubts_noted
from toolbox.tasks.sem.pixel_size import PixelSize, choose_size, is_size, pixel_sizes

#: Endings of the pictures that `read_sem_image` reads, in any case.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_WRITTEN = (".tif", ".tiff", ".png")
_TIFF = (".tif", ".tiff")
#: TIFF 6.0, tags 259 and 262: compressions that tifffile decodes alone; colours.
_PLAIN_COMPRESSIONS = (1, 8, 32773, 32946)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
#: Share of coloured pixels above which a picture is in colour (frame and logo of KRISS: 0.008).
_COLOUR_SHARE = 0.05
#: Larger TIFFs need 64-bit offsets.
_CLASSIC_BYTES = 4_000_000_000
#: By the tag Orientation of TIFF 6.0: how to turn displayed pixels back to the stored order.
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
_ALL = slice(None)
_UNREADABLE = "{path}: cannot be read as an image. Is the file damaged?"


class SEMImage(NamedTuple):
    """A picture as stored.

    Attributes
    ----------
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Grey counts.
    pixel_nm : float or None
        Width of a pixel in nm; None if the file does not state it.
    bits : int
        8 or 16, that of the stored type.
    was_colour : bool
        Whether the grey was mixed from channels that differ in more than a drawn frame or logo.
    """

    pixels: np.ndarray
    pixel_nm: float | None
    bits: int
    was_colour: bool = False


@dataclasses.dataclass(frozen=True)
class SEMStack:
    """The frames of a file, read one at a time; most files have one.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    decode : callable
        Function of the number of a frame, counted from 0, and a slice of rows that returns the
        samples: black 0, channels in the order of OpenCV. Of an uncompressed TIFF, nothing else is
        read.
    count : int
        Number of frames.
    pages : int
        Number of pages of the file, including those that are not frames.
    size : PixelSize or None
        Size of a pixel and its source.
    white_is_zero : bool
        Whether the file stores white as 0; counts are always returned with black 0.
    notes : dict
        By kind, what a user should know about the file, without its name: ``size``, ``sizes``,
        ``not square``, ``pages``, ``missing``, ``tags``, ``turned``, ``restored``.
    """

    path: Path
    decode: Callable[[int, slice], np.ndarray]
    count: int = 1
    pages: int = 1
    size: PixelSize | None = None
    white_is_zero: bool = False
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def image(self, page: int | None = 0, rows: slice = _ALL) -> SEMImage:
        """Return a frame, counted from 0, or for None the mean of all, rounded to counts.

        `rows` limits it to some rows.
        """
        if page is None and self.count > 1:
            first = self.image(0, rows)
            total = first.pixels.astype(np.float64)
            for number in range(1, self.count):
                total += self.image(number, rows).pixels
            mean = np.rint(total / self.count).astype(first.pixels.dtype)
            return first._replace(pixels=mean)
        grey, was_colour = _grey(self.decode(page or 0, rows))
        pixel_nm = None if self.size is None else self.size.x_nm
        pixels = np.ascontiguousarray(grey)
        return SEMImage(pixels, pixel_nm, 8 * pixels.itemsize, was_colour)


def note_line(paths: Sequence[Path], kind: str, text: str) -> str:
    """Return the line that a program prints for a note in `SEMStack.notes` of some files."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{'' if kind == 'size' else 'WARNING: '}{paths[0]}{others}: {text}"


def read_sem_image(
    path: str | os.PathLike[str], page: int | None = 0, rows: slice = _ALL
) -> SEMImage:
    """Read one frame of a file, by default the first; with None, the mean of all frames.

    `rows` limits it to some rows. See `open_sem_stack` for the kinds of files.
    """
    return open_sem_stack(path).image(page, rows)


def open_sem_stack(path: str | os.PathLike[str]) -> SEMStack:
    """Open a TIFF, PNG, JPEG or BMP picture of 8 or 16 bits, or the frames of a TIFF.

    Colour pictures with equal channels, as microscopes save them, count as grey; others are
    converted with the weights of luminance (0.299 red, 0.587 green, 0.114 blue). Transparency is
    dropped. A TIFF in which white is 0 is inverted. Pages of another size or type than the first,
    such as previews, are not frames.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    SEMStack
        The size of a pixel is the first of `toolbox.tasks.sem.pixel_size.pixel_sizes`.

    Raises
    ------
    DataError
        If the file is missing, empty or damaged, or if its pixels do not have 8 or 16 bits.
    """
    path = Path(path)
    # Some microscopes give a TIFF another ending, or another kind of file the ending of a TIFF.
    if _head(path) in TIFF_HEADS:
        return _open_tiff(path)
    image = _decode(path)
    size, notes = choose_size(pixel_sizes(path, image.shape[1]))
    return SEMStack(path, lambda _, rows: image[rows], size=size, notes=notes)


def write_sem_image(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    pixel_nm: float | None = None,
    restored_by: str | None = None,
) -> None:
    """Write a grey picture without loss; the file appears complete or not at all.

    Parameters
    ----------
    path : path-like
        ``.tif``, ``.tiff`` or ``.png``.
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Counts; the type is kept.
    pixel_nm : float, optional
        Size of a pixel in nm. A TIFF keeps it, as JSON in its description and as its resolution;
        a PNG has no place for it.
    restored_by : str, optional
        The network that restored the picture, as in `write_sem_stack`.

    Raises
    ------
    DataError
        If the picture has another shape or type, or the file another ending.
    """
    size = None if pixel_nm is None else PixelSize("pixel_nm", pixel_nm)
    write_sem_stack(path, [pixels], size=size, restored_by=restored_by)


def write_sem_stack(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    count: int = 1,
    size: PixelSize | None = None,
    white_is_zero: bool = False,
    restored_by: str | None = None,
) -> None:
    """Write frames as the pages of one file, each as soon as it is available.

    Parameters
    ----------
    path : path-like
        As in `write_sem_image`; several frames need a TIFF.
    frames : iterable of numpy.ndarray, shape (H, W), uint8 or uint16
        Counts, black 0.
    count : int
        Number of frames.
    size : PixelSize, optional
        Size of a pixel.
    white_is_zero : bool
        Store white as 0 in a TIFF, like the file of origin.
    restored_by : str, optional
        The network that restored the frames. A TIFF keeps it in its description, and
        `open_sem_stack` notes it.

    Raises
    ------
    DataError
        As in `write_sem_image`; also if there are several frames and the file is a PNG.
    """
    final = Path(path)
    check_target(final, count)
    if size is not None and not is_size(size.x_nm):
        raise DataError(
            f"{final}: pixel_nm must be above 0; received {size.x_nm!r}. Give the size in nm."
        )
    checked = (_checked(final, pixels) for pixels in frames)
    with replacing(final) as beside:
        if final.suffix.lower() in _TIFF:
            _write_tiff(beside, checked, count, size, white_is_zero, restored_by)
        else:
            _write_png(beside, next(checked))


def check_target(path: Path, count: int) -> None:
    """Raise an error if a file cannot hold this many frames."""
    suffix = path.suffix.lower()
    if suffix not in _WRITTEN:
        raise DataError(
            f"{path}: ending must be one of {', '.join(_WRITTEN)}; received {path.suffix!r}. "
            f"Change the ending."
        )
    if count > 1 and suffix not in _TIFF:
        raise DataError(
            f"{path}: holds one picture; received {count} frames. Name a file that ends in "
            f"{' or '.join(_TIFF)}."
        )


def _checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim != 2 or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path}: pixels must be (H, W) of uint8 or uint16; received {pixels.shape} of "
            f"{pixels.dtype}. Round and clip them first."
        )
    return pixels


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Check the path.") from None
    if not head:
        raise DataError(f"{path}: is empty. Copy it again from its origin.")
    return head


def _decode(path: Path) -> np.ndarray:
    """Return the only picture of a file, channels in the order of OpenCV."""
    cv2 = _quiet_opencv()
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # too many pixels for OpenCV, a header that contradicts itself
        image = None
    if image is None:
        raise unreadable(path, "an image")
    _check_type(path, image.dtype)
    return np.asarray(image)


def _check_type(path: Path, dtype: np.dtype) -> None:
    if dtype not in (np.uint8, np.uint16, np.bool_):
        raise DataError(
            f"{path}: pixels must be unsigned with 8 or 16 bits; received {dtype}. Save the "
            f"picture as 16-bit grey."
        )


# -- TIFF ----------------------------------------------------------------------------------------


def _open_tiff(path: Path) -> SEMStack:
    """Find the frames of a TIFF and read its tags."""
    tags: list[str] = []
    with doubts_noted(tags), _reading(path) as file:
        # One by one, before anything else: a series would replace the tags of later pages.
        pages = [file.pages[number] for number in range(len(file.pages))]
        main = next((page for page in pages if not page.is_reduced), pages[0])
        _check_type(path, np.dtype(main.dtype or "V"))
        if len(main.shape) < 2 or 0 in main.shape or _is_cut_short(file, pages):
            raise DataError(_UNREADABLE.format(path=path))
        numbers, notes = _frame_numbers(pages, main)
        if restorer := _restorer(file):
            notes["restored"] = f"restored by {restorer}: edges are the network's estimate."
        said = (file.imagej_metadata or {}).get("images", 1)
        decode: Callable[[int, slice], np.ndarray]
        if len(pages) == 1 and file.is_imagej and file.series[0].is_truncated:
            # ImageJ writes more than 4 GB like this: one page for all, pixels one after another.
            numbers = [0] * int(said)
            decode = functools.partial(_decode_row, path, main.dataoffsets[0])
        elif all(_is_plain(pages[number]) for number in numbers):
            decode = functools.partial(_decode_page, path, numbers)
        else:
            inverted = main.photometric == _WHITE_IS_ZERO and main.dtype == np.uint16
            decode = _Decoded(path, numbers, len(pages), inverted, _orientation(main))
        if isinstance(said, int) and said > len(numbers):
            notes["missing"] = (
                f"its description states {said} images, but it holds {len(numbers)}. Save it again "
                f"if some are missing."
            )
        white_is_zero = main.photometric == _WHITE_IS_ZERO
        columns = int(main.imagewidth)
        if (orientation := _orientation(main)) != 1:
            notes["turned"] = (
                f"its tag Orientation is {orientation}, so other programs may show it turned or "
                f"mirrored. It is used as stored."
            )
    if tags:
        notes["tags"] = f"{tags[0]}."
    size, doubts = choose_size(pixel_sizes(path, columns))
    count, total = len(numbers), max(len(pages), len(numbers))
    return SEMStack(path, decode, count, total, size, white_is_zero, {**notes, **doubts})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Open a TIFF; report any error of its reader as a damaged file."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except DataError:
        raise
    except Exception:
        raise DataError(_UNREADABLE.format(path=path)) from None


def _is_cut_short(file: Any, pages: Sequence[Any]) -> bool:
    """Tell whether the file ends before its pixels, or refers to a missing page."""
    layout, handle = file.tiff, file.filehandle
    ends = [
        start + length
        for page in pages
        for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if max(ends, default=0) > handle.size:
        return True
    handle.seek(pages[-1].offset)
    [count] = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(count * layout.tagsize, 1)
    return any(handle.read(layout.offsetsize))


def _restorer(file: Any) -> str:
    """Return the network that restored the frames of a TIFF; nothing if it names none."""
    try:
        name = json.loads(file.pages.first.tags.valueof(270))["restored_by"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return ""
    return name if isinstance(name, str) and name.isprintable() else ""


def _frame_numbers(pages: Sequence[Any], main: Any) -> tuple[list[int], dict[str, str]]:
    """Return the numbers of the pages of the same kind as the main one, and a note on others."""
    kind = (main.shape, main.dtype, main.photometric)
    same = [(page.shape, page.dtype, page.photometric) == kind for page in pages]
    left = [number for number, is_same in enumerate(same) if not is_same]
    notes = {}
    if left:
        which = ", ".join(str(number + 1) for number in left)
        which = f"page {which} is" if len(left) == 1 else f"pages {which} are"
        notes["pages"] = (
            f"of its {len(pages)} pages, {which} left out, of another kind than page "
            f"{same.index(True) + 1} ({_kinds(pages[left[0]], main)}). Save such a page as a "
            f"separate file if it is the picture."
        )
    return [number for number, is_same in enumerate(same) if is_same], notes


def _kinds(page: Any, main: Any) -> str:
    """Return how a page differs from the main one, in words."""
    said = [f"{' × '.join(map(str, one.shape))} of {one.dtype}" for one in (page, main)]
    if said[0] == said[1]:
        names = [getattr(one.photometric, "name", str(one.photometric)) for one in (page, main)]
        said = [f"photometric {name}" for name in names]
    return f"{said[0]}, not {said[1]}"


def _decode_page(path: Path, numbers: Sequence[int], frame: int, rows: slice) -> np.ndarray:
    """Read one page with tifffile."""
    with _reading(path) as file:
        page = file.pages[numbers[frame]]
        if rows != _ALL and page.is_memmappable and len(page.shape) == 2:
            return _as_channels(page, np.array(page.asarray(out="memmap")[rows]))
        return _as_channels(page, page.asarray())[rows]


def _decode_row(path: Path, start: int, frame: int, rows: slice) -> np.ndarray:
    """Read one of several frames that are stored one after another in a single page."""
    with _reading(path) as file:
        page = file.pages.first
        dtype = np.dtype(file.byteorder + page.dtype.char)
        count = math.prod(page.shape)
        offset = start + frame * count * dtype.itemsize
        samples = np.fromfile(path, dtype, count, offset=offset)
        return _as_channels(page, samples.reshape(page.shape))[rows]


class _Decoded:
    """Frames whose compression only OpenCV decodes; all pages are decoded on first access."""

    def __init__(
        self, path: Path, numbers: Sequence[int], pages: int, inverted: bool, orientation: int
    ) -> None:
        self.path, self.numbers, self.pages, self.inverted = path, numbers, pages, inverted
        self.orientation = orientation

    def __call__(self, frame: int, rows: slice) -> np.ndarray:
        # OpenCV turns a TIFF according to its tag; its flags do not prevent that.
        image = _STORED[self.orientation](self._images[self.numbers[frame]])[rows]
        # OpenCV respects white as 0 in 8 bits only.
        return ~image if self.inverted else image

    @functools.cached_property
    def _images(self) -> Sequence[np.ndarray]:
        _check_compressed(self.path, self.numbers)
        if self.numbers == [0]:  # the other pages do not matter
            return [_decode(self.path)]
        cv2 = _quiet_opencv()
        content = np.fromfile(self.path, np.uint8)
        try:
            images: Sequence[np.ndarray] = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)[1]
        except cv2.error:
            images = ()
        if len(images) != self.pages:
            raise DataError(_UNREADABLE.format(path=self.path))
        _check_type(self.path, images[0].dtype)
        return images


def _check_compressed(path: Path, numbers: Sequence[int]) -> None:
    """Refuse damaged compression that OpenCV would decode without an error."""
    from PIL import Image, UnidentifiedImageError

    with quiet_pillow(), contextlib.suppress(UnidentifiedImageError), Image.open(path) as file:
        for number in numbers:
            try:
                file.seek(number)
                file.load()
            except Exception:
                raise DataError(_UNREADABLE.format(path=path)) from None


def _orientation(page: Any) -> int:
    """Return tag 274 of TIFF 6.0, 1 to 8; 1 for any other value."""
    value = page.tags.valueof(274, 1)
    return value if value in _STORED else 1


def _is_plain(page: Any) -> bool:
    """Tell whether tifffile alone can read a page and `_as_channels` knows its colours."""
    if page.compression not in _PLAIN_COMPRESSIONS:
        return False
    bits = set(np.ravel(page.bitspersample).tolist())
    known = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
    return known and bits in ({8}, {16}) and page.imagedepth == 1


def _as_channels(page: Any, samples: np.ndarray) -> np.ndarray:
    """Convert stored samples to black 0, with channels last and blue first."""
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if page.photometric == _WHITE_IS_ZERO:
        return ~samples
    if page.photometric == _PALETTE:
        colours = page.colormap[::-1].T
        return np.asarray((colours >> 8).astype(np.uint8)[samples])
    if page.samplesperpixel > 1 and page.planarconfig == 2:
        samples = np.moveaxis(samples, 0, -1)
    if page.photometric == _RGB:
        return samples[..., 2::-1]
    return samples


@functools.cache
def _quiet_opencv() -> Any:
    """Return OpenCV without its messages about each unknown tag of a microscope."""
    from toolbox.opencv import cv2

    # Only once: the level is that of the process, and threads read pictures.
    # OpenCV 4 and OpenCV 5 set it in different places.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(0)
    return cv2


def _grey(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the grey picture, and whether it was mixed from different channels."""
    from toolbox.opencv import cv2

    if image.ndim == 2 or image.shape[2] < 3:
        return image.reshape(*image.shape[:2], -1)[..., 0], False
    blue, green, red = (image[..., channel] for channel in range(3))
    coloured = float(((blue != green) | (green != red)).mean())
    # Where the channels are equal, the mixture is exactly their count.
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
    return grey, coloured > _COLOUR_SHARE


def _write_tiff(
    path: Path,
    frames: Iterable[np.ndarray],
    count: int,
    size: PixelSize | None,
    white_is_zero: bool,
    restored_by: str | None,
) -> None:
    import tifffile

    options: dict[str, Any] = {"metadata": None, "software": "sr-toolbox"}
    options["photometric"] = "miniswhite" if white_is_zero else "minisblack"
    content: dict[str, Any] = {}
    if size is not None:
        y_nm = size.y_nm or size.x_nm
        content["pixel_nm"] = float(size.x_nm)
        if y_nm != size.x_nm:
            content["pixel_y_nm"] = float(y_nm)
        options["resolution"] = (1e7 / size.x_nm, 1e7 / y_nm)
        options["resolutionunit"] = "CENTIMETER"
    if restored_by is not None:
        content["restored_by"] = restored_by
    if content:
        options["description"] = json.dumps(content)
    writer = None
    try:
        for frame in frames:
            if writer is None:
                writer = tifffile.TiffWriter(path, bigtiff=count * frame.nbytes > _CLASSIC_BYTES)
            writer.write(~frame if white_is_zero else frame, **options)
    finally:
        if writer is not None:
            writer.close()


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from toolbox.opencv import cv2

    written, content = cv2.imencode(".png", pixels)
    if not written:
        raise DataError(f"{path}: OpenCV could not write the picture.")
    path.write_bytes(content.tobytes())
