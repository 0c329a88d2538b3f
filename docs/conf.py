"""Sphinx settings. Build with ``sphinx-build -W docs docs/_build`` (extra ``docs``)."""

import os
import sys
from pathlib import Path

# The pages of the interface import the packages, and with them TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toolbox import __version__

project = "SR Toolbox"
author = "The SR Toolbox developers"
project_copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say type, shape and unit
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"{project} {release}"
