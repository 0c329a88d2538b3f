"""Pack the plugin into a zip file for QGIS: ``python -m examples.qgis.pack dist/NAME.zip``.

The same files give the same bytes on every machine and at any time.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import program
from toolbox.io.atomic import replacing

FOLDER = Path(__file__).with_name("sr_toolbox_qgis")
LICENSE = Path(__file__).parents[2] / "LICENSE"
_SUFFIXES = (".py", ".svg", ".txt")
#: The earliest date that a zip file can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o100644 << 16
_UNIX = 3


def pack(target: str) -> None:
    """Write the zip file: sorted, with a fixed date, uncompressed (compression may differ).

    Parameters
    ----------
    target : str
        File to write.
    """
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in _SUFFIXES}
    files["LICENSE"] = LICENSE
    with replacing(target) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{FOLDER.name}/{name}", _DATE)
            entry.external_attr, entry.create_system = _READABLE, _UNIX
            text = files[name].read_text(encoding="utf-8")  # line ends become \n
            archive.writestr(entry, text.encode())
    print(target)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="zip file to write")
    pack(parser.parse_args(arguments).target)


if __name__ == "__main__":
    sys.exit(main())
