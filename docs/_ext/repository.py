"""Links of files that pages include from the repository's root, where they are written.

`[the log](LOG.md)` is right in CONTRIBUTING.md; in docs/contributing.md it has to be `log.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LOG.md": "log.md",
}


def _relink(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    def moved(link: re.Match[str]) -> str:
        target = link[1]
        if "://" in target or target.startswith("#"):
            return link[0]
        place = PAGES.get(target) or (
            target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        )
        return f"]({place})"

    content[0] = re.sub(r"\]\(([^)\s]+)\)", moved, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("include-read", _relink)
    return {"parallel_read_safe": True}
