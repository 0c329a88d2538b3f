"""One picture of a scanning electron microscope: grey pixels as stored, and their size in nm."""

from __future__ import annotations

import functools
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolbox.errors import DataError, not_found
from toolbox.io.atomic import replacing
from toolbox.io.picture_tiff import TIFF_HEADS
from toolbox.tasks.sem.pixel_size import PixelSize, choose_size, is_size, pixel_sizes

#: Endings of the pictures that `read_sem_image` reads, in any case.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_WRITTEN = (".tif", ".tiff", ".png")
_TIFF = (".tif", ".tiff")
#: TIFF 6.0, tags 259 and 262: what tifffile undoes alone, and colours that are made grey here.
_PLAIN_COMPRESSIONS = (1, 8, 32773, 32946)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
#: Share of coloured pixels from which a picture is one in colour (frame and logo of KRISS: 0.008).
_COLOUR_SHARE = 0.05
_UNREADABLE = "{path}: cannot be read as an image. Is the file damaged?"


class SEMImage(NamedTuple):
    """A picture as it is stored.

    Attributes
    ----------
    pixels : numpy.ndarray, shape (H, W), uint8 or uint16
        Grey counts.
    pixel_nm : float or None
        Width of a pixel in nm; None if the file does not say.
    bits : int
        8 or 16, those of the stored type.
    was_colour : bool
        Whether the grey was mixed from channels that differ, in more than a drawn frame or logo.
    size : PixelSize or None
        The same width with the height and who says so.
    """

    pixels: np.ndarray
    pixel_nm: float | None
    bits: int
    was_colour: bool = False
    size: PixelSize | None = None


class SEMStack(NamedTuple):
    """The frames of a file; most have one.

    Attributes
    ----------
    frames : numpy.ndarray, shape (N, H, W), uint8 or uint16
        Grey counts.
    size : PixelSize or None
        Size of a pixel and who says so.
    was_colour : bool
        As of `SEMImage`.
    notes : tuple of str
        What a user should know of the file, without its name.
    """

    frames: np.ndarray
    size: PixelSize | None = None
    was_colour: bool = False
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> int:
        """8 or 16, those of the stored type."""
        return 8 * int(self.frames.itemsize)

    def image(self, page: int | None = 0) -> SEMImage:
        """Return one frame, or for None the mean of all, rounded to counts."""
        if page is None and len(self.frames) > 1:
            mean = self.frames.mean(axis=0, dtype=np.float64)
            pixels = np.rint(mean).astype(self.frames.dtype)
        else:
            pixels = self.frames[page or 0]
        pixel_nm = None if self.size is None else self.size.x_nm
        return SEMImage(pixels, pixel_nm, self.bits, self.was_colour, self.size)


def read_sem_image(path: str | os.PathLike[str], page: int | None = 0) -> SEMImage:
    """Read one frame of a file, the first unless told otherwise, or with None the mean of all.

    The rest as of `read_sem_stack`.
    """
    return read_sem_stack(path).image(page)


def read_sem_stack(path: str | os.PathLike[str]) -> SEMStack:
    """Read a TIFF, PNG, JPEG or BMP picture of 8 or 16 bits, and all frames of a TIFF.

    Colour pictures with equal channels, as microscopes save them, are taken as grey; others are
    mixed by the weights of luminance (0.299 red, 0.587 green, 0.114 blue). Transparency is
    dropped. A TIFF in which white is 0 is turned over. Pages of another size or type than the
    first, such as previews, are no frames.

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
        If the file is missing, empty, damaged, or holds numbers other than 8 or 16 bits.
    """
    path = Path(path)
    content = _content(path)
    notes: list[str] = []
    # Some microscopes give a TIFF another ending, or another kind of file that of a TIFF.
    is_tiff = content[:4].tobytes() in TIFF_HEADS
    images = _tiff_frames(path, content, notes) if is_tiff else [_decode(path, content)]
    greys = [_grey(image) for image in images]
    size, doubts = choose_size(pixel_sizes(path, images[0].shape[1]))
    return SEMStack(
        np.stack([np.ascontiguousarray(grey) for grey, _ in greys]),
        size,
        any(was_colour for _, was_colour in greys),
        (*notes, *doubts),
    )


def write_sem_image(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    pixel_nm: float | None = None,
    pixel_y_nm: float | None = None,
) -> None:
    """Write a grey picture, or a stack, without loss; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        ``.tif``, ``.tiff`` or ``.png``.
    pixels : numpy.ndarray, shape (H, W), or for a TIFF (N, H, W), uint8 or uint16
        Counts; the type is kept.
    pixel_nm : float, optional
        Size of a pixel in nm. A TIFF keeps it, as JSON in its description and as its resolution;
        a PNG has no place for it.
    pixel_y_nm : float, optional
        Its height, if that is another one.

    Raises
    ------
    DataError
        If the picture is of another shape or type, or the ending is none of these.
    """
    final = Path(path)
    if final.suffix.lower() not in _WRITTEN:
        raise DataError(
            f"{final}: ending must be one of {', '.join(_WRITTEN)}; received {final.suffix!r}. "
            f"Name such a file."
        )
    is_tiff = final.suffix.lower() in _TIFF
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and is_tiff)
    if not fits or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{final}: pixels must be (H, W) of uint8 or uint16, in a TIFF (N, H, W) too; "
            f"received {pixels.shape} of {pixels.dtype}. Round and clip them first."
        )
    if pixel_nm is not None and not is_size(pixel_nm):
        raise DataError(f"{final}: pixel_nm must be above 0; received {pixel_nm!r}. Mend it.")
    with replacing(final) as beside:
        if is_tiff:
            _write_tiff(beside, pixels, pixel_nm, pixel_y_nm)
        else:
            _write_png(beside, pixels)


def _content(path: Path) -> np.ndarray:
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise DataError(f"{not_found(path, 'file')}. Mend the path.") from None
    if not content.size:
        raise DataError(f"{path}: is empty. Copy it again from where it comes.")
    return content


def _decode(path: Path, content: np.ndarray) -> np.ndarray:
    """Return the only picture of a file, channels as OpenCV has them."""
    cv2 = _quiet_opencv()
    try:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # more pixels than OpenCV takes, a header that contradicts itself
        image = None
    if image is None:
        raise DataError(_UNREADABLE.format(path=path))
    _check_type(path, image.dtype)
    return np.asarray(image)


def _check_type(path: Path, dtype: np.dtype) -> None:
    if dtype not in (np.uint8, np.uint16, np.bool_):
        raise DataError(
            f"{path}: expected pixels of 8 or 16 bits without sign; received {dtype}. Save "
            f"the picture as 16-bit grey."
        )


# -- TIFF ----------------------------------------------------------------------------------------


def _tiff_frames(path: Path, content: np.ndarray, notes: list[str]) -> list[np.ndarray]:
    """Return the frames of a TIFF, black 0, channels as OpenCV has them."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            first = file.pages.first
            _check_type(path, np.dtype(first.dtype or "V"))
            if _is_cut_short(file):
                raise DataError(_UNREADABLE.format(path=path))
            if file.series and file.series[0].is_truncated:  # ImageJ: one page stands for all
                frames = _as_channels(first, file.series[0].asarray())
                return list(frames.reshape(-1, *first.shape))
            numbers = _frame_numbers(file.pages, notes)
            _note_missing(file, len(numbers), notes)
            if first.compression in _PLAIN_COMPRESSIONS and _is_plain(first):
                return [_as_channels(first, file.pages[n].asarray()) for n in numbers]
            decoded = _decode_pages(path, content, len(file.pages))
            inverted = first.photometric == _WHITE_IS_ZERO and first.dtype == np.uint16
            # OpenCV heeds the colours of 8 bits only.
            return [~decoded[n] if inverted else decoded[n] for n in numbers]
    except DataError:
        raise
    except Exception:  # a damaged file raises whatever its reader meets
        raise DataError(_UNREADABLE.format(path=path)) from None


def _is_cut_short(file: Any) -> bool:
    """Tell whether the last page that was found names another one, which is not there."""
    layout, handle = file.tiff, file.filehandle
    handle.seek(file.pages[len(file.pages) - 1].offset)
    [count] = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(count * layout.tagsize, 1)
    return any(handle.read(layout.offsetsize))


def _frame_numbers(pages: Any, notes: list[str]) -> list[int]:
    """Return the places of the pages that are like the first one."""
    first = pages.first
    kind = (first.shape, first.dtype, first.photometric)
    pages.useframes = False  # OME: a frame borrows its tags of the first page
    all_pages = [pages[number] for number in range(len(pages))]
    same = [(page.shape, page.dtype, page.photometric) == kind for page in all_pages]
    left = [number + 1 for number, is_same in enumerate(same) if not is_same]
    if left:
        other = all_pages[left[0] - 1]
        notes.append(
            f"of its {len(same)} pages, page {', '.join(map(str, left))} is left out, as it is of "
            f"another kind than page 1 ({_kind(other)}, not {_kind(first)}). Save it as a file of "
            f"its own if it is the picture."
        )
    return [number for number, is_same in enumerate(same) if is_same]


def _kind(page: Any) -> str:
    return f"{' × '.join(map(str, page.shape))} of {page.dtype}"


def _note_missing(file: Any, count: int, notes: list[str]) -> None:
    said = (file.imagej_metadata or {}).get("images", 1)
    if isinstance(said, int) and said > count:
        notes.append(
            f"its description tells of {said} images, but it holds {count}. Save it again if some "
            f"are missing."
        )


def _is_plain(page: Any) -> bool:
    """Tell whether the colours of a page are made those of OpenCV by `_as_channels`."""
    bits = set(np.ravel(page.bitspersample).tolist())
    known = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
    return known and bits in ({8}, {16}) and page.imagedepth == 1


def _as_channels(page: Any, samples: np.ndarray) -> np.ndarray:
    """Turn samples as stored into black 0, colours last and blue first."""
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


def _decode_pages(path: Path, content: np.ndarray, count: int) -> list[np.ndarray]:
    """Undo a compression that tifffile cannot undo alone, page by page."""
    cv2 = _quiet_opencv()
    try:
        _, images = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        images = ()
    if len(images) != count:
        raise DataError(_UNREADABLE.format(path=path))
    _check_type(path, images[0].dtype)
    return list(images)


@functools.cache
def _quiet_opencv() -> Any:
    """Return OpenCV without its two lines about every tag that only a microscope knows."""
    from toolbox.opencv import cv2

    # Once and for all: the level belongs to the process, and pictures are read by threads.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def _grey(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the grey picture, and whether it was mixed from different channels."""
    from toolbox.opencv import cv2

    if image.ndim == 2 or image.shape[2] < 3:
        return image.reshape(*image.shape[:2], -1)[..., 0], False
    blue, green, red = (image[..., channel] for channel in range(3))
    coloured = float(((blue != green) | (green != red)).mean())
    # Where the channels are equal the mixture is exactly their count.
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
    return grey, coloured > _COLOUR_SHARE


def _write_tiff(
    path: Path, pixels: np.ndarray, pixel_nm: float | None, pixel_y_nm: float | None
) -> None:
    import tifffile

    options: dict[str, Any] = {}
    if pixel_nm is not None:
        size = {"pixel_nm": float(pixel_nm)}
        if pixel_y_nm is not None and pixel_y_nm != pixel_nm:
            size["pixel_y_nm"] = float(pixel_y_nm)
        options["description"] = json.dumps(size)
        per_cm = (1e7 / pixel_nm, 1e7 / (pixel_y_nm or pixel_nm))
        options |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path, pixels, photometric="minisblack", metadata=None, software="sr-toolbox", **options
    )


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from toolbox.opencv import cv2

    written, content = cv2.imencode(".png", pixels)
    if not written:
        raise DataError(f"{path}: OpenCV could not write the picture.")
    path.write_bytes(content.tobytes())
