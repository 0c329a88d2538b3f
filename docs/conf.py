"""Sphinx settings; build with ``make docs``, or ``sphinx-build -W docs docs/_build/html``."""

import os
import sys
import types
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# Interface pages and gallery import the packages, and with them TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["TQDM_DISABLE"] = "1"  # progress bars are of no use on a page
sys.path[:0] = [str(ROOT), str(HERE)]
# Programs started by an example must find the packages too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

from api_pages import write_api_pages

from toolbox import __version__

project = "SR Toolbox"
author = "The SR Toolbox developers"
project_copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "api/_*", "gallery/*.py", "gallery/*.ipynb", "gallery/*.json"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_mock_imports = ["magicgui", "napari", "qtpy"]  # an extra that brings a window system
autodoc_typehints = "none"  # the docstrings give type, shape and unit
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_\d+_",
    "abort_on_example_error": False,
    "download_all_examples": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "write_computation_times": False,
    "capture_repr": (),
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib",),
}

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

write_api_pages(HERE / "api")


def _skip_alias(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool:
    """Skip aliases such as ``tuple[int, int]``: Sphinx treats them as classes and fails."""
    return skip or isinstance(obj, types.GenericAlias)


def _link_code(app: Any, doctree: nodes.document, docname: str) -> None:
    """Link full names of the interface in code markup to their pages."""
    known = app.env.get_domain("py").objects
    for code in doctree.findall(nodes.literal):
        entry = known.get(code.astext().removesuffix("()"))
        inside = isinstance(code.parent, nodes.reference)
        if entry is not None and not inside and entry.docname != docname:
            page = app.builder.get_relative_uri(docname, entry.docname)
            link = nodes.reference(refuri=f"{page}#{entry.node_id}", internal=True)
            code.replace_self(link)
            link += code


def setup(app: Any) -> None:
    """Register what no setting can express."""
    app.connect("autodoc-skip-member", _skip_alias)
    app.connect("doctree-resolved", _link_code)
