"""The sources ``voc`` and ``picture_pairs``: VOC 2012, and any folder of picture pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from toolbox.config import Count, Int, Weight
from toolbox.data_generator import Pair
from toolbox.data_loader import SPLITS
from toolbox.errors import ConfigError, DataError
from toolbox.picture_set import checked_shares, dealt, find_pictures, listed, refuse_lonely
from toolbox.picture_source import MEASURED_SIDE, MOST_CROPS, Gigabytes, PictureSource
from toolbox.tasks.pix2pix.classes import VOID, Classes, named_classes, voc_classes
from toolbox.tasks.pix2pix.pairs import Content, Half, PairFile, PicturePairs

#: File that lists the pairs of a run, and those left out.
PAIR_REPORT = "pairs.csv"
#: File with the names of the classes and the number of training pixels of each.
CLASS_REPORT = "classes.json"
Size = Annotated[Count, Field(ge=16, le=4096)]
Fit = Literal["resize", "crop"]
Target = Literal["colours", "classes"]
Channels = Literal[3, 1]
Byte = Annotated[Int, Field(ge=0, le=255)]


class PairSource(PictureSource[PicturePairs]):
    """Common base of both sources: geometry, batches and records.

    A subclass sets `content` and implements `files`.

    Parameters
    ----------
    data_dir : str
        Folder of the data.
    sr_scale : int, optional
        Must be 1: targets are as large as their pictures.
    size : int
        Side of the training squares in pixels.
    fit : {'resize', 'crop'}
        Resize every pair to that square, whatever its shape, or cut squares at random places.
    jitter : int
        Resize to this many pixels more than `size`, and cut squares at random places from that.
    repeats : int
        Squares per pair in an epoch.
    target : {'colours', 'classes'}
        Whether class maps are drawn in their colours or learned as ids.
    memory_gb : float
        Memory for pictures, in GB; those that do not fit are read again.
    """

    table = (PAIR_REPORT, "pair", ("width", "height"))
    content: Content

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None,
        size: int,
        fit: Fit,
        jitter: int,
        repeats: int,
        target: Target,
        memory_gb: float,
    ) -> None:
        super().__init__(data_dir, sr_scale or 1, size, repeats, memory_gb)
        self.fit, self.jitter, self.target = fit, jitter, target

    @property
    def classes(self) -> Classes | None:
        """The classes of the targets, or None for targets that are not class maps."""
        return self.content.classes

    def open(self, split: str, whole: bool) -> PicturePairs:
        """Open the pairs of a split; `whole` leaves them at their own size, for a test."""
        resizes, crops = (self.fit == fit and not whole for fit in ("resize", "crop"))
        jitter = self.jitter if split == "train" else 0
        return PicturePairs(
            self.files(split),
            self.content,
            side=self.side + jitter if resizes else None,
            smallest=self.side if crops else MEASURED_SIDE if whole else 1,
            encoded=self.target == "colours",
            memory=self.memory,
            what=f"pairs for {split}",
            advice=", lower size, or set fit: resize" if crops else "",
        )

    def fixed(self, split: str, most: int | None = None) -> Pair:
        """Return one square per pair: (N, H, W, C) and (N, H, W, D), 0 to 255 or ids."""
        return self.pictures(split).even_crops(self.side, 1, most or MOST_CROPS)

    def class_pixels(self) -> np.ndarray:
        """Return the number of training pixels of each class, void last."""
        assert self.classes is not None
        pairs = self.pictures("train")
        counts = np.zeros(256, np.int64)
        for number in range(len(pairs)):
            counts += np.bincount(pairs.pair(number).target.ravel(), minlength=256)
        return np.append(counts[: len(self.classes)], counts[VOID])

    def records(self) -> dict[str, str]:
        """Return the table of pairs, and the names and pixel counts of the classes."""
        found = super().records()
        if self.classes is not None:
            *pixels, void = self.class_pixels().tolist()
            content = {
                "names": self.classes.names,
                "colours": self.classes.colours.tolist(),
                "pixels": pixels,
                "void_pixels": void,
            }
            found[CLASS_REPORT] = json.dumps(content, indent=2) + "\n"
        return found


def _defaults(section: dict[str, Any], channels: int, results: int) -> dict[str, Any]:
    """Return the settings that have other defaults for picture pairs."""
    ids = section["target"] == "classes"
    return {
        "scale": 1,
        "input_shape": [section["size"], section["size"], channels],
        "loss": "cross_entropy" if ids else "mae",
        "metrics": [] if ids else ["psnr", "ssim"],
        "pix2pix": {"out_channels": results},
        "unet": {"out_channels": results},
    }


class VocSource(PairSource):
    """Class maps of Pascal VOC 2012: ``source: voc`` in a YAML file.

    Parameters
    ----------
    data_dir : str
        The folder ``VOC2012``, or one that holds it or ``VOCdevkit``.
    sr_scale : int, optional
        Must be 1.
    lists : {'val', 'official'}
        ``val`` assigns 80 % of the official validation list to training and 10 % each to
        validation and test. ``official`` assigns 90 % of the training list to training and the
        rest to validation; the validation list is the test.
    split_seed : int
        Seed of the assignment to splits.
    target, size, fit, jitter, repeats, memory_gb
        See `PairSource`.

    References
    ----------
    Everingham et al. 2010, doi:10.1007/s11263-009-0275-4.
    """

    section = "voc"

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None = None,
        lists: Literal["val", "official"] = "val",
        split_seed: Annotated[Int, Field(ge=0)] = 0,
        target: Target = "colours",
        size: Size = 224,
        fit: Fit = "resize",
        jitter: Annotated[Int, Field(ge=0, le=1024)] = 0,
        repeats: Annotated[Count, Field(le=100_000)] = 1,
        memory_gb: Gigabytes = 4.0,
    ) -> None:
        super().__init__(data_dir, sr_scale, size, fit, jitter, repeats, target, memory_gb)
        self.lists, self.split_seed = lists, split_seed
        self.folder = find_voc(self.data_dir)
        self.content = Content(classes=voc_classes())

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the geometry of the specification's pix2pix."""
        return _defaults(section, 3, 21 if section["target"] == "classes" else 3)

    def files(self, split: str) -> list[PairFile]:
        """Return the pairs of a split, as listed."""
        if self.lists == "val":
            names, shares = self._listed("val"), (8, 1, 1)
        elif split == "test":
            return self._listed("val")
        else:
            names, shares = self._listed("train"), (9, 1, 0)
        chosen = dealt(names, shares, SPLITS.index(split), self.split_seed)
        if not chosen:
            raise DataError(
                f"{self.folder}: the list has {len(names)} names, too few to leave one for "
                f"{split}. Add pictures, or set lists: official."
            )
        return chosen

    def _listed(self, name: str) -> list[PairFile]:
        path = self.folder / "ImageSets" / "Segmentation" / f"{name}.txt"
        try:
            names = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}). Put the list there.") from None
        if not names:
            raise DataError(f"{path}: the list is empty. Write one name per line, without suffix.")
        if strange := [n for n in names if Path(n).name != n]:
            raise DataError(
                f"{path}: expected file names without folders; received {listed(strange)}. "
                f"Fix the list."
            )
        pictures, masks = self.folder / "JPEGImages", self.folder / "SegmentationClass"
        files = [
            PairFile(n, pictures / f"{n}.jpg", masks / f"{n}.png") for n in dict.fromkeys(names)
        ]
        for part in ("picture", "target"):
            missing = [file.name for file in files if not getattr(file, part).is_file()]
            if missing:
                folder = getattr(files[0], part).parent
                noun = "file" if len(missing) == 1 else "files"
                raise DataError(
                    f"{folder}: lacks {len(missing)} {noun} listed in {path.name}: "
                    f"{listed(missing)}. Add the files, or remove their names from the list."
                )
        return files


def find_voc(folder: Path) -> Path:
    """Return the folder with the layout of VOC 2012: `folder` or one inside it.

    Raises
    ------
    DataError
        If there is none; the message describes the expected layout.
    """
    for inside in (".", "VOC2012", "VOCdevkit/VOC2012"):
        found = folder / inside
        if (found / "ImageSets" / "Segmentation").is_dir():
            return found
    raise DataError(
        f"{folder}: no data set in the layout of VOC 2012. It should contain VOCdevkit/VOC2012 "
        f"with JPEGImages, SegmentationClass and ImageSets/Segmentation. Run python -m "
        f"sr_dataset_builder.voc {folder}, which reports which file to put where."
    )


class FolderSource(PairSource):
    """A folder of picture pairs: ``source: picture_pairs`` in a YAML file.

    If `data_dir` holds the folders ``train``, ``validation`` (or ``val``) and ``test``, these
    are the splits; otherwise pairs are assigned to them by `shares`.

    Parameters
    ----------
    data_dir : str
        Folder of the pairs.
    sr_scale : int, optional
        Must be 1.
    layout : {'folders', 'left_to_right', 'right_to_left'}
        Two folders with pictures of the same names, or files with two pictures side by side, one
        of which is drawn from the other.
    input_dir, target_dir : str
        The two folders, in `data_dir` or in each of its splits.
    input_channels, target_channels : {3, 1}
        Colour or grey.
    classes : dict of str to (int, int, int), optional
        Name and colour of each class, id 0 first; the targets are then class maps.
    shares : (float, float, float)
        Shares of training, validation and test, if they have no folders.
    split_seed : int
        Seed of the assignment to splits.
    target, size, fit, jitter, repeats, memory_gb
        See `PairSource`.
    """

    section = "picture_pairs"

    def __init__(
        self,
        data_dir: str,
        sr_scale: int | None = None,
        layout: Literal["folders", "left_to_right", "right_to_left"] = "folders",
        input_dir: str = "input",
        target_dir: str = "target",
        input_channels: Channels = 3,
        target_channels: Channels = 3,
        classes: dict[str, tuple[Byte, Byte, Byte]] | None = None,
        shares: tuple[Weight, Weight, Weight] = (8, 1, 1),
        split_seed: Annotated[Int, Field(ge=0)] = 0,
        target: Target = "colours",
        size: Size = 224,
        fit: Fit = "resize",
        jitter: Annotated[Int, Field(ge=0, le=1024)] = 0,
        repeats: Annotated[Count, Field(le=100_000)] = 1,
        memory_gb: Gigabytes = 4.0,
    ) -> None:
        super().__init__(data_dir, sr_scale, size, fit, jitter, repeats, target, memory_gb)
        self.layout, self.input_dir, self.target_dir = layout, input_dir, target_dir
        self.shares, self.split_seed = checked_shares(shares, "picture_pairs.shares"), split_seed
        if classes is None and target == "classes":
            raise ConfigError(
                "picture_pairs.classes must name the classes for target: classes; received none. "
                "Add names and colours."
            )
        if classes is not None and layout != "folders":
            raise ConfigError(
                f"picture_pairs.layout must be folders with classes, because class maps need "
                f"separate files; received {layout}. Split the pictures into two folders."
            )
        named = None if classes is None else named_classes(classes)
        self.content = Content(input_channels, target_channels, named)

    @classmethod
    def default_settings(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the geometry of the specification's pix2pix."""
        classes, results = section["classes"], section["target_channels"]
        if classes:
            results = len(classes) if section["target"] == "classes" else 3
        return _defaults(section, section["input_channels"], results)

    def files(self, split: str) -> list[PairFile]:
        """Return the pairs of a split."""
        if (self.data_dir / "train").is_dir():
            name = split
            if split == "validation" and not (self.data_dir / split).is_dir():
                name = "val"
            return self._found(self.data_dir / name)
        files = self._found(self.data_dir)
        chosen = dealt(files, self.shares, SPLITS.index(split), self.split_seed)
        if not chosen:
            raise ConfigError(
                f"picture_pairs.shares must leave a pair for {split}; received "
                f"{list(self.shares)} for {len(files)} pairs. Raise that share, or add pairs."
            )
        return chosen

    def _found(self, folder: Path) -> list[PairFile]:
        if self.layout != "folders":
            half: Half = "left" if self.layout == "left_to_right" else "right"
            found = find_pictures(folder, "picture", "data_dir")
            return [PairFile(name, path, path, half) for name, path in found.items()]
        one, other = folder / self.input_dir, folder / self.target_dir
        pictures = find_pictures(one, "picture", "data_dir or picture_pairs.input_dir")
        targets = find_pictures(other, "picture", "data_dir or picture_pairs.target_dir")
        refuse_lonely(pictures, targets, (one, other), "picture")
        return [PairFile(name, path, targets[name]) for name, path in pictures.items()]
