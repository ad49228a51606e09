"""Text for a terminal: names of files and labels are anybody's, and may hold commands to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Control characters but line end and tab, and those that turn the direction of what follows. In the
# form of JSON, whose strings stay valid so.
_HIDDEN = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: f"\\u{code:04x}" for code in _HIDDEN if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """The text with what a terminal would obey written out: ESC as `\\u001b`."""
    return text.translate(_SHOWN)


class Plain:
    """A stream for text in which nothing is obeyed by a terminal; what `print` writes to.

    Consoles of rich colour what they write: they go past it, to `rich_proxied_file`.
    """

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def safe_console(**options: Any) -> Console:
    """rich's `Console` with `options`, whose own colours are the only thing that is obeyed."""
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        def render(self, *arguments: Any, **named: Any) -> Iterable[Segment]:
            for segment in super().render(*arguments, **named):
                text, style, control = segment
                yield segment if control else Segment(printable(text), style)

        def on_broken_pipe(self) -> None:
            # Left to whoever called, as by `print`.
            raise BrokenPipeError

    return Safe(**options)
