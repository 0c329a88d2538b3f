"""The files of a release name one version, and the tested versions lie inside the claimed ones."""

import json
import re
from pathlib import Path

import pytest
import yaml

from sr_trainer.installed import NAME, pinned_versions, requirements
from toolbox import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_one_version_and_date():
    """Package, citation, archive note and changelog name the same version, licence and authors."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    archive = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## (\S+) – (\S+)$", changes, re.MULTILINE)[0]
    assert version == __version__ == citation["version"] == archive["version"]
    assert date == str(citation["date-released"]) == archive["publication_date"]
    assert citation["license"] == archive["license"] == "MIT"
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in archive["creators"]
    ]
    assert citation["title"] == archive["title"]


def test_citation_has_what_the_format_demands():
    """CFF 1.2.0: its four required keys, and none that it does not know."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    known = {"type", "version", "date-released", "license", "abstract", "keywords"}
    assert set(citation) <= known | {"cff-version", "message", "title", "authors", "doi"}
    assert all(set(author) == {"name"} for author in citation["authors"])


def test_changes_since_the_release_have_a_place():
    """The changelog begins with what is not released."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_forms_ask_for_the_doctor(form):
    """Both forms for issues are valid, and ask for the output of ``sr-trainer doctor``."""
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(content)
    fields = {field["id"]: field for field in content["body"]}
    assert "sr-trainer doctor" in fields["doctor"]["attributes"]["label"]
    assert all(field["attributes"]["label"] for field in fields.values())


def test_pinned_versions_are_claimed():
    """constraints.txt has a version of every package but those of bench, and each will do."""
    pins = pinned_versions()
    wanted = [r for r in requirements() if r.extra != "bench" and r.name != NAME]
    assert [r.name for r in wanted if r.name not in pins] == []
    assert [r.name for r in wanted if not r.admits(pins[r.name])] == []
    assert not {"torch", "torchvision", "timm", "spandrel"} & set(pins)


def test_the_wheel_holds_the_pinned_versions(tmp_path):
    """Beside the program lie the same tested versions, for installations without the files."""
    assert pinned_versions(tmp_path) == pinned_versions(ROOT)


def test_every_bound_can_be_installed():
    """``make test-lowest`` finds an exact lowest version in every line."""
    pytest.importorskip("tomllib", reason="Python 3.10 does not read TOML")
    from lowest import lowest_versions

    lines = lowest_versions()
    assert "tensorflow==2.18" in lines
    assert "psycopg[binary]==3.1" in lines
    assert [line for line in lines if not re.fullmatch(r"[\w.\[\]-]+==\d[\d.]*", line)] == []
    assert len(lines) > 25


def test_quick_tests_exist():
    """Every file of tests/quick.txt is there."""
    lines = (ROOT / "tests" / "quick.txt").read_text(encoding="utf-8").splitlines()
    files = [line.partition("::")[0] for line in lines if not line.startswith("#")]
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).is_file()] == []
