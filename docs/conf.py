"""How Sphinx makes the book: sphinx-build -W docs FOLDER (pip install -e ".[docs]")."""

import re

from sphinx.application import Sphinx

import vitpose_jax

REPOSITORY = "https://github.com/vitpose-jax/vitpose_jax"

project = "vitpose_jax"
author = copyright = "the vitpose_jax authors"
release = vitpose_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "vitpose_jax"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature is in the docstring's Args, with shapes and units
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "exclude-members": "__new__"}
napoleon_use_ivar = True
napoleon_include_init_with_doc = True
default_role = "code"


def link_to_repository(app: Sphinx, page: str, text: list[str]) -> None:
    """Pages are read in the repository too, where links to its files are relative."""
    text[0] = re.sub(r"\]\(\.\./", f"]({REPOSITORY}/blob/main/", text[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_repository)
