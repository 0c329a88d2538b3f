"""The command that installs an extra: in a checkout, elsewhere, and from an installation."""

import os
import shlex
from importlib import metadata
from pathlib import Path

import pytest

import toolbox
from toolbox.io import extras
from toolbox.io.extras import install_command

ROOT = Path(__file__).resolve().parents[2]
REQUIRES = [
    "numpy>=1.26",
    'rasterio>=1.4.4; extra == "geo"',
    "h5netcdf (>=1.3) ; extra == 'geo'",
    'psycopg[binary]>=3.1; extra == "postgresql"',
    'geodesy; python_version < "3.12" and extra == "geodesy"',
]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretend that the toolbox lies in site-packages, with `REQUIRES` as its metadata."""
    monkeypatch.setattr(toolbox, "__file__", str(tmp_path / "toolbox" / "__init__.py"))
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIRES)


def test_in_the_checkout(monkeypatch):
    """In the folder with pyproject.toml the path is a dot."""
    monkeypatch.chdir(ROOT)
    assert install_command("geo") == "pip install -e '.[geo]'"


def test_elsewhere(tmp_path, monkeypatch):
    """In another folder the path leads to the checkout, and a shell reads it as one word."""
    checkout = tmp_path / "my checkout"
    (checkout / "examples").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(toolbox, "__file__", str(checkout / "toolbox" / "__init__.py"))
    monkeypatch.chdir(checkout / "examples")
    assert install_command("video") == "pip install -e '..[video]'"
    monkeypatch.chdir(os.sep)
    *command, place = shlex.split(install_command("video"))
    assert command == ["pip", "install", "-e"]
    assert Path(place.removesuffix("[video]")).samefile(checkout)


def test_where_the_current_folder_is_gone(tmp_path, monkeypatch):
    """A folder that was removed gives no relative path; the command holds the full one."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert install_command("geo") == f"pip install -e {shlex.quote(f'{ROOT}[geo]')}"


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("geo", "pip install rasterio h5netcdf"),
        ("postgresql", "pip install 'psycopg[binary]'"),
    ],
)
def test_from_an_installation(extra, command, installed):
    """Without the sources, the packages of the extra are named, and those of no other."""
    assert install_command(extra) == command


def test_without_metadata(installed, monkeypatch):
    """A copy of the packages alone: the command of the folder of the sources."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert install_command("geo") == "pip install -e '.[geo]'"


@pytest.mark.parametrize("extra", ["geo", "export", "postgresql", "video"])
def test_the_real_metadata(extra):
    """Every extra that messages name has packages in the metadata of this environment."""
    try:
        metadata.requires("sr-toolbox")
    except metadata.PackageNotFoundError:
        pytest.skip("the toolbox is not installed")
    assert extras._packages_of(extra)
