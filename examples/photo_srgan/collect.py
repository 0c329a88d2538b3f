"""Copy the photographs that ship with scikit-image into a folder, as data to train on.

``python -m examples.photo_srgan.collect data/photos``
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import skimage.data

from toolbox.errors import DataError, program
from toolbox.io.atomic import replacing

#: File names by split; all are in the package and need no download.
PHOTOS = {
    "train": (
        "astronaut.png",
        "brick.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
    ),
    "validation": ("chelsea.png",),
    "test": ("camera.png", "coffee.png", "rocket.jpg"),
}


def collect(folder: Path) -> int:
    """Copy the photographs into ``train``, ``validation`` and ``test``; return their number."""
    package = Path(skimage.data.__file__).parent
    count = 0
    for split, names in PHOTOS.items():
        for name in names:
            if not (package / name).is_file():
                raise DataError(f"{package / name}: no such file. Reinstall scikit-image.")
            with replacing(folder / split / name) as beside:
                shutil.copyfile(package / name, beside)
            count += 1
    return count


@program
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Copy the photographs of scikit-image.")
    parser.add_argument("folder", type=Path, help="folder to copy to")
    folder = parser.parse_args().folder
    print(f"{collect(folder)} photographs in {folder}")


if __name__ == "__main__":
    main()
