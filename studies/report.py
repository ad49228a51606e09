"""A page: its values, and Markdown of them with the pictures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import markdown_table
from videorwkv.errors import ConfigError
from videorwkv.utils.files import write_atomic


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column is words, the others are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ConfigError(
                    f"Table: row {list(row)} has {len(row)} cells, the header {len(self.header)}: "
                    f"{list(self.header)}."
                )


@dataclass(frozen=True)
class Plot:
    """A picture, PNG or GIF, with a file name without ending, and what it shows."""

    name: str
    image: bytes
    caption: str

    @property
    def kind(self) -> str:
        """`png` or `gif`."""
        return "gif" if self.image.startswith(b"GIF8") else "png"


@dataclass(frozen=True)
class Findings:
    """Sentences that follow from the numbers."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines for a shell."""

    lines: Sequence[str]


Block = Text | Table | Plot | Findings | Code


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A study's page.

    Args:
        name: of its files, without ending.
        title: heading.
        question: what was asked.
        sections: the answer first.
    """

    name: str
    title: str
    question: str
    sections: Sequence[Section]

    @property
    def findings(self) -> list[str]:
        """All of its sentences, for the book's first page."""
        return [
            sentence
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Findings)
            for sentence in block.sentences
        ]

    @property
    def plots(self) -> list[Plot]:
        return [b for section in self.sections for b in section.blocks if isinstance(b, Plot)]


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
        caption = escape(block.caption)
        return f"![{caption}]({folder}/{block.name}.{block.kind})\n\n{caption}"
    header, *rows = ([escape(cell) for cell in row] for row in (block.header, *block.rows))
    text = markdown_table(header, rows)
    return f"{text}\n\n{escape(block.caption)}" if block.caption else text


def escape(text: str) -> str:
    """Plain text as Markdown that shows it as it is."""
    # Names of options are full of underscores, which Markdown leaves alone inside words.
    return re.sub(r"([\\`*])", r"\\\1", text).replace("<", "&lt;")
