"""Signals that ask the program to end: each does what Ctrl-C does, but never in the middle of a
step or of a write."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C; the end of a time limit, a container or a spot machine; a terminal that is closed; Slurm's
# usual warning before the end; Ctrl-Break on Windows.
NUMBERS: tuple[int, ...] = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
    if hasattr(signal, name)
)


class Interrupts:
    """While this is entered, signals that ask for the end raise KeyboardInterrupt, but inside
    `deferred()` only when that block has ended.

    One that is ignored (`nohup`) or that the program handles by itself is left alone, and so are
    all of them outside the main thread, where Python hears no signals. They may be nested.
    """

    def __init__(self) -> None:
        self._depth = 0
        # Kept until `heard`: what is raised inside a finaliser or a hook of `os.fork` is lost.
        self._pending = self._ending = False
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if number == signal.SIGINT or _is_free(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker: it inherits this handler, and ends with the process that feeds it
        # A shell and a terminal both tell that they are gone. The second must not fall into what
        # the program still does about the first; Ctrl-C is pressed twice on purpose.
        if (self._pending or self._ending) and number != signal.SIGINT:
            return
        self._pending = True
        if not self._depth:
            raise KeyboardInterrupt

    @property
    def pending(self) -> bool:
        """Whether the program has been asked to end, and nobody has called `heard` since."""
        return self._pending

    def check(self) -> None:
        """Raise KeyboardInterrupt if one is pending."""
        if self._pending and not self._depth:
            raise KeyboardInterrupt

    def heard(self) -> None:
        """Tell that the interrupt was caught, and that the program ends: only Ctrl-C hurries it."""
        self._pending, self._ending = False, True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that runs to its end before an interrupt is heard."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self.check()


def _is_free(handler: Any) -> bool:
    """Whether nobody else handles the signal."""
    owner = getattr(handler, "__self__", None)
    return handler == signal.SIG_DFL or isinstance(owner, Interrupts)
