"""A page as values: what is written as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from videorwkv.errors import ConfigError


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
