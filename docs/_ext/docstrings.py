"""Docstrings of this project -> reStructuredText, before napoleon reads their sections.

They are plain text with `code` in backticks: `*` and `|` mean themselves, and a drawing is a
drawing.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

ARRAY = re.compile(
    r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?numpy\.(\w+)\]\]"
)


def _to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    result: list[str] = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        if "├──" in paragraph:
            result += [".. code-block:: text", "", re.sub("(?m)^", "    ", paragraph)]
        else:
            parts = re.split(r"(`[^`]*`)", paragraph)
            plain = (p if p[:1] == "`" else re.sub(r"[*|]", r"\\\g<0>", p) for p in parts)
            # `name: T.` is no list whose first item is T.
            result.append(re.sub(r"(?m): ([A-Z]\.)$", r": \\\1", "".join(plain)))
        result.append("")
    lines[:] = "\n".join(result).splitlines()


def _short_arrays(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, back: str | None
) -> tuple[str | None, str | None]:
    """`NDArray[uint8]`, as the code has it, in place of what it stands for."""
    return given and ARRAY.sub(r"NDArray[\1]", given), back and ARRAY.sub(r"NDArray[\1]", back)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _to_rst, priority=400)  # napoleon has 500
    app.connect("autodoc-process-signature", _short_arrays)
    return {"parallel_read_safe": True}
