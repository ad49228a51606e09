"""Numbers in sentences."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """The word for so many: `one` or `many`, which is `one` with an s if it is empty."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 clip`, `12 clips`, `2,000 classes`: the number before its word, as in `plural`."""
    return f"{count:,} {plural(count, one, many)}"
