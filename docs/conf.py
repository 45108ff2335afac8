"""Sphinx configuration: ``sphinx-build -W -b html docs build/docs``."""

from stn3d import __version__

project = "stn3d"
author = "the stn3d authors"
copyright = "2026, the stn3d authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["build", "README.md"]  # README.md is that of the MONAI bundle
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# links to files outside docs, such as ../configs; type names that several modules import
suppress_warnings = ["myst.xref_missing", "ref.python"]

default_role = "py:obj"  # docstrings name objects in single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"stn3d {release}"
