"""What commands print: tables, JSON, progress."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from videorwkv.utils.terminal import safe_console
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> Console:
    """What writes tables to stdout. A reader that has gone is left to `cli.main`, as by `print`."""
    return safe_console()


def as_json(values: object, *, indent: int | None = None) -> str:
    """JSON that stdout can take: readable in UTF-8, with escapes in any other encoding."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return json.dumps(values, indent=indent, ensure_ascii=encoding != "utf8")


def grouped_notes(notes: Sequence[str]) -> list[str]:
    """One line for each kind of note, `CLIP: what`: the first clip's, and how many more there are.

    Of one kind are notes that differ in their clip and their numbers only.
    """
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kinds.setdefault(re.sub(r"\d+", "#", note.rpartition(": ")[2]), []).append(note)
    return [
        first if not more else f"{first} (and {counted(len(more), 'more clip')} like it)"
        for first, *more in kinds.values()
    ]


@contextmanager
def show_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress on stderr; what it gives is called with the number of clips done."""
    from videorwkv.utils.progress import Meter

    with Meter(title, total, "clips") as meter:
        yield meter.update
