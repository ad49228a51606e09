"""How Sphinx builds this site: `sphinx-build -W docs docs/_build`. It needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import videorwkv  # noqa: E402

project = "videorwkv"
project_copyright = "the videorwkv authors, Apache-2.0"
release = version = videorwkv.__version__

extensions = [
    "myst_parser",  # pages in Markdown
    "sphinx.ext.autodoc",  # the API from docstrings
    "sphinx.ext.napoleon",  # which are in Google's style
    "docstrings",  # docs/_ext: what docstrings write otherwise than reStructuredText
    "commands",  # docs/_ext: the command line from its parsers
    "repository",  # docs/_ext: links to files of the repository
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True  # a name in a signature that leads nowhere is a warning

html_theme = "furo"
html_title = f"videorwkv {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
suppress_warnings = ["myst.header"]  # the log and the changelog go from level 2 to 3 and back

highlight_language = "text"  # of blocks that name none
default_role = "literal"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
maximum_signature_line_length = 88
# Names of other libraries lead nowhere: their inventories are on the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!videorwkv\.|studies\.).*"),
    ("py:class", r"videorwkv\.utils\.processes\.T"),  # any type
]
