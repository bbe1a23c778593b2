"""The site: ``python -m pip install -e '.[docs]' && python -m sphinx -W docs docs/_build``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from im2colnet import __version__

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext")]

with (HERE.parent / "pyproject.toml").open("rb") as file:
    about = tomllib.load(file)["project"]

project = about["name"]
author = "the authors of im2colnet"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "checks",
    "command_line",
    "dashboard",
    "mathml",
    "not_run",
    "notebook",
    "explained",
    "repository",
    "signatures",
]
exclude_patterns = ["_build", "jupyter_execute", "examples/*.ipynb"]
root_doc = "index"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "attrs_block", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True
nb_execution_show_tb = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
default_role = "code"  # of docstrings, in which one backtick stands for code
smartquotes = False  # names, options and texts of programs keep their quotes and dashes
html_math_renderer = "mathml"
repository = about["urls"]["Source"]
pages_site = about["urls"]["Documentation"]

html_theme = "pydata_sphinx_theme"
html_title = f"im2colnet {release}"
html_static_path = ["_static"]
html_css_files = ["im2colnet.css"]
html_js_files = [("im2colnet.js", {"priority": 600})]
html_context = {"default_mode": "auto"}
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
#: pages that stand alone have no pages beside them to list
alone = "benchmarks changelog comparison contributing design how-it-runs how-it-works index not-run performance scaling tour upgrade"
html_sidebars = {page: [] for page in alone.split()}
html_theme_options = {
    "logo": {"text": "im2colnet", "alt_text": "im2colnet: the first page"},
    "header_links_before_dropdown": 5,
    "navbar_persistent": ["search-button"],
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "icon_links": [{"name": "Source", "url": repository, "icon": "fa-brands fa-github"}],
    "footer_start": ["copyright"],
    "footer_end": [],
}
