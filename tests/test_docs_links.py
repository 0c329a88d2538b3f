"""Every relative link in the Markdown files leads to a file of the repository, and to a heading."""

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Folders that the build of the site fills.
MADE = ("_build", "api", "gallery")


def _is_made(path):
    """Tell whether the build of the site wrote a file."""
    docs = ROOT / "docs"
    return path.is_relative_to(docs) and path.relative_to(docs).parts[0] in MADE


PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
    if not _is_made(path)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """A link without a scheme names an existing file or folder beside the page."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@functools.cache
def prose_of(page):
    """Return the text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


@functools.cache
def anchors_of(page):
    """Return the anchors of the headings of a page, as GitHub and MyST make them."""
    found = {}
    for heading in re.findall(r"^#+ +(.+?)\s*$", prose_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found.get(slug, -1) + 1
        found[slug] = count
        if count:
            found[f"{slug}-{count}"] = 0
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_anchors_are_headings(page):
    """What stands behind # is a heading of the page that the link names, or of the same page."""
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", prose_of(page))
    missing = []
    for target, anchor in links:
        other = (page.parent / target).resolve() if target else page
        if "://" not in target and other.suffix == ".md" and anchor not in anchors_of(other):
            missing.append(f"{target}#{anchor}")
    assert not missing


def test_pages_of_the_site_link_to_no_page_outside():
    """Sphinx knows no Markdown outside docs; a path there stands as code."""
    for page in (ROOT / "docs").rglob("*.md"):
        if "api" not in page.relative_to(ROOT / "docs").parts:
            targets = re.findall(r"\]\(([^)#:\s]+\.md)", prose_of(page))
            outside = [
                t for t in targets if ROOT / "docs" not in (page.parent / t).resolve().parents
            ]
            assert not outside, page.name


def test_anchors_are_made_as_github_makes_them():
    """Headings with code, dots, capitals and a second one of the same name have known anchors."""
    page = ROOT / "docs" / "settings.md"
    assert {"buildyml", "section-sem", "sections-voc-and-picture_pairs"} <= anchors_of(page)
    assert "data" in anchors_of(page)


def test_every_page_of_the_site_is_listed():
    """Every Markdown file of docs is in a table of contents, so that a reader can find it."""
    docs = ROOT / "docs"
    for index in (docs / "index.md", docs / "decisions" / "index.md"):
        listed = set(index.read_text(encoding="utf-8").split())
        here = {path.stem for path in index.parent.glob("*.md")} - {"index"}
        if "*" not in listed:
            assert here <= listed, index
