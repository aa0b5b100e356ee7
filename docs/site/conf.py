"""
How Sphinx makes the pages of this repository a site: ``make docs``.

The pages are read where they stand, as the repository shows them. Each version has a folder of its own in the
output, and each page links to the folders that were there when it was built.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import django

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
django.setup()

project = "celery-ledger and Shopwire"
author = "the Shopwire authors"
version = release = os.environ["DOCS_VERSION"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "bench/README.md",
    "bench/results/*/*.md",
    "celery_ledger/README.md",
    "deploy/README.md",
    "examples/*/README.md",
    "frontend/README.md",
]
exclude_patterns = ["var", ".*", "**/node_modules"]

myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # JSON with dots in it is meant for people.

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "show-inheritance": True}

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path: list[str] = []
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "versions.html",
        "sidebar/scroll-end.html",
    ]
}
# The versions that stand alongside this one in the output, by the names of their folders.
html_context = {"versions": sorted({release, *os.environ.get("DOCS_VERSIONS", "").split()}, reverse=True)}

CONTENTS = {
    "celery-ledger": [
        "celery_ledger/README",
        "examples/*/README",
        "docs/reference/celery",
        "docs/reference/api",
    ],
    "First steps": ["docs/README", "docs/quickstart", "docs/howto/*", "docs/guide/*"],
    "Understanding it": ["ARCHITECTURE", "docs/explanation/*", "docs/glossary", "docs/adr/README", "docs/adr/*"],
    "Operating it": [
        "deploy/README",
        "docs/runbook",
        "docs/scaling",
        "docs/reference/commands",
        "docs/reference/settings",
        "docs/reference/metrics",
    ],
    "Reference": ["docs/reference/*", "docs/screenshots/README"],
    "Project": ["CHANGELOG", "CONTRIBUTING", "SECURITY", "bench/README", "bench/results/*/*", "frontend/README"],
}


def add_contents(app: Any, docname: str, source: list[str]) -> None:
    """Give the first page the table of contents, which the repository's own page does without."""
    if docname == root_doc:
        source[0] += "".join(
            "\n```{toctree}\n:hidden:\n:glob:\n:caption: "
            + caption
            + "\n\n"
            + "\n".join(f"/{page}" for page in pages)
            + "\n```\n"
            for caption, pages in CONTENTS.items()
        )


def point_to_shop(app: Any, docname: str, source: list[str]) -> None:
    """Have the runbook's links lead to the operator's own shop, named by SITE_URL."""
    if docname == "docs/runbook" and (site := os.environ.get("SITE_URL")):
        source[0] = source[0].replace("](http://127.0.0.1:8000/", f"]({site.rstrip('/')}/")


def add_index(app: Any, exception: Exception | None) -> None:
    """Have the first page answer for its folder."""
    if exception is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    app.connect("source-read", add_contents)
    app.connect("source-read", point_to_shop)
    app.connect("build-finished", add_index)
