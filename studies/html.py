"""A page as one HTML file that needs nothing beside it: plots are inlined."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from studies.page import Block, Code, Findings, Page, Plot, Table, Text
from videorwkv.errors import UsageError
from videorwkv.utils.files import write_atomic

# Bytes. A page is read in a browser and kept in a repository.
LIMIT = 5_000_000

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.question { font-size: 1.2rem; font-style: italic; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right;
         font-variant-numeric: tabular-nums; vertical-align: top; }
th:first-child, td:first-child { text-align: left; min-width: 8rem; }
th { background: #f2f5f9; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption, .caption { color: #555;
  font-size: 0.9rem; }
pre { background: #f6f6f6; padding: 0.7rem; overflow-x: auto; font-size: 0.85rem; }
.open { color: #555; }
"""


def write_html(page: Page, folder: Path) -> Path:
    """Write NAME.html.

    Raises:
        UsageError: it would be larger than `LIMIT`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = html(page).encode()
    if len(content) > LIMIT:
        raise UsageError(
            f"Study page {page.name}: {len(content) / 1e6:.1f} MB; allowed: {LIMIT / 1e6:.0f} MB. "
            "Fewer or smaller pictures."
        )
    path = folder / f"{page.name}.html"
    write_atomic(path, content)
    return path


def html(page: Page) -> str:
    body = [f"<h1>{escape(page.title)}</h1>", f'<p class="question">{escape(page.question)}</p>']
    for section in page.sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        body += [_block(block) for block in section.blocks]
    return document(page.title, "\n".join(body))


def document(title: str, body: str) -> str:
    """A whole HTML document around `body`."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def findings_list(sentences: Sequence[str]) -> str:
    """Sentences as a list; those that decide nothing are paler."""
    from studies.sentences import NO_DIFFERENCE

    items = (
        f'<li class="open">{escape(s)}</li>' if NO_DIFFERENCE in s else f"<li>{escape(s)}</li>"
        for s in sentences
    )
    return f"<ul>\n{chr(10).join(items)}\n</ul>"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Findings):
        return findings_list(block.sentences)
    if isinstance(block, Code):
        return f"<pre>{escape(chr(10).join(block.lines))}</pre>"
    if isinstance(block, Plot):
        data = base64.b64encode(block.image).decode()
        caption = escape(block.caption)
        return (
            f'<figure><img alt="{caption}" src="data:image/{block.kind};base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return _table(block)


def _whole(cell: str) -> str:
    """A narrow column breaks lines between figures, not inside "87.6 ± 0.4 %" or "[-1.0, +2.0]"."""
    return re.sub(r" (?=[±%])|(?<=±) |(?<=,) (?=[-+\d.∞]+\])", "\u00a0", cell)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = (
        "<tr>" + "".join(f"<td>{escape(_whole(cell))}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    inner = "\n".join(rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{inner}\n</table></div>{caption}'
