"""A page as Markdown, with its plots as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from studies.page import Block, Code, Findings, Page, Plot, Table, Text
from videorwkv.utils.files import write_atomic


def write_markdown(page: Page, folder: Path) -> Path:
    """Write NAME.md and its plots in NAME/; returns the former."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in page.plots:
        (folder / page.name).mkdir(exist_ok=True)
        write_atomic(folder / page.name / f"{plot.name}.{plot.kind}", plot.image)
    path = folder / f"{page.name}.md"
    write_atomic(path, markdown(page).encode())
    return path


def markdown(page: Page) -> str:
    parts = [f"# {escape(page.title)}", f"*{escape(page.question)}*"]
    for section in page.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block, page.name) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, folder: str) -> str:
    if isinstance(block, Text):
        return escape(block.text)
    if isinstance(block, Findings):
        return "\n".join(f"- {escape(sentence)}" for sentence in block.sentences)
    if isinstance(block, Code):
        return "\n".join(["```bash", *block.lines, "```"])
    if isinstance(block, Plot):
        return f"![{escape(block.caption)}]({folder}/{block.name}.{block.kind})"
    text = markdown_table(block)
    return f"{text}\n\n{escape(block.caption)}" if block.caption else text


def markdown_table(table: Table) -> str:
    rule = "|---|" + "---:|" * (len(table.header) - 1)
    return "\n".join([_row(table.header), rule, *(_row(row) for row in table.rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell).replace("|", "\\|") for cell in cells) + " |"


def escape(text: str) -> str:
    """Plain text as Markdown that shows it as it is."""
    # Names of options are full of underscores, which Markdown leaves alone inside words.
    return re.sub(r"([\\`*])", r"\\\1", text).replace("<", "&lt;")
