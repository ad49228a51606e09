"""Progress of a long job: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from videorwkv.utils.files import decimal
from videorwkv.utils.terminal import safe_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Seconds between two lines where no terminal shows a bar, and between two looks at the bar.
LINES_EVERY = 30.0
BAR_EVERY = 0.1


class _Terminal:
    """stderr, which may go away in the middle of a job: a terminal that is closed, a pipe whose
    reader has ended. The job goes on without it."""

    def __init__(self) -> None:
        # Past what `print` goes through: bars have colours.
        self._stream: Any = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            do()
        except (OSError, ValueError):  # the latter: Python has closed it
            self._gone = True


def make_console(*, quiet: bool = False, **options: Any) -> Console:
    """stderr for messages and bars; nobody need be there to read them.

    Args:
        quiet: show nothing.
        options: of rich's `Console`.
    """
    return safe_console(file=cast(TextIO, _Terminal()), quiet=quiet, **options)


def make_bar(console: Console, before: str, after: str, *, transient: bool = False) -> Progress:
    """A progress bar with the time left; shows nothing where `console` is no terminal.

    Args:
        console: where it is drawn.
        before: text to its left, with rich's fields, such as `{task.description}`.
        after: text to its right.
        transient: whether it vanishes at its end.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """The time left, from the first unit on. Rich's own column forgets what is 30 s old, and so
        knows nothing of a job with units that take longer."""

        def render(self, task: Task) -> Text:
            begun = task.fields.get("begun", 0)
            left = seconds_left(task.elapsed or 0.0, task.completed - begun, task.remaining or 0.0)
            return Text("" if left is None else f"{duration(left)} left")

    return Progress(
        TextColumn(before),
        BarColumn(),
        TextColumn(after),
        TimeLeft(),
        console=console,
        transient=transient,
        disable=not console.is_terminal or console.quiet,
    )


def seconds_left(elapsed: float, done: float, left: float) -> float | None:
    """How long `left` more units take if `done` took `elapsed` seconds; None before the first."""
    return elapsed / done * left if done > 0 else None


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 days 4 h`."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


class Meter:
    """How far a job is and how long it will take; a context manager. Writes to stderr.

    Args:
        title: what is done.
        total: units of the whole job.
        unit: `bytes` or `clips`.
    """

    def __init__(self, title: str, total: float, unit: Literal["bytes", "clips"]) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._begun = self._shown = time.monotonic()
        console = make_console()
        self._bar = make_bar(
            console,
            "{task.description}",
            "{task.percentage:>3.0f} % {task.fields[text]}",
            transient=True,
        )
        self._every = BAR_EVERY if console.is_terminal else LINES_EVERY
        self._task = self._bar.add_task(title, total=total, text="")

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """Tell that `done` units are done; cheap enough to be called for every file."""
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        text = f"{self._amount(done)} of {self._amount(self._total)}{', ' if note else ''}{note}"
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, text=text)
            return
        left = seconds_left(now - self._begun, done, self._total - done)
        share = done / self._total if self._total else 1.0
        after = "" if left is None else f", {duration(left)} left"
        console = self._bar.console
        console.print(f"{self._title}: {share:.0%}, {text}{after}", markup=False, soft_wrap=True)

    def _amount(self, value: float) -> str:
        return decimal(int(value)) if self._unit == "bytes" else f"{value:,.0f}"
