"""How Sphinx builds these pages: ``make docs``. Those of the reference are written from the code first."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from docs import reference  # noqa: E402 - the repository has to be on the path first

project = "Pushforward"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "Pushforward"
html_show_sphinx = html_show_copyright = html_copy_source = False

myst_heading_anchors = 4

# Pages elsewhere in the repository, and the page here that includes each.
INCLUDED = {
    ROOT / "README.md": "readme.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "clients/python/README.md": "client.md",
    ROOT / "deploy/README.md": "deploy.md",
}
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)")


def _relinked(text: str, folder: Path) -> str:
    """A page of ``folder``, with links that lead from here to its files, or to pages that include them."""

    def here(link: re.Match[str]) -> str:
        path = (folder / link[1]).resolve()
        if not path.is_file():
            return link[0]
        return f"]({INCLUDED.get(path, os.path.relpath(path, DOCS))}"

    return LINK.sub(here, text)


def _read(app: Any, page: str, content: list[str]) -> None:
    content[0] = _relinked(content[0], (DOCS / page).parent)


def _include(app: Any, path: Path, page: str, content: list[str]) -> None:
    content[0] = _relinked(content[0], (DOCS / path).resolve().parent)


def setup(app: Any) -> None:
    """What Sphinx calls before it reads the first page."""
    app.connect("builder-inited", lambda app: reference.write(DOCS / "reference"))
    app.connect("source-read", _read)
    app.connect("include-read", _include)
