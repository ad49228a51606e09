"""Ctrl-C that never falls into the middle of a step or of a write."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """While this is entered, Ctrl-C raises KeyboardInterrupt as ever, but inside `deferred()` only
    when that block has ended. Outside the main thread it changes nothing: signals go elsewhere."""

    def __init__(self) -> None:
        self._depth = 0
        self._pending = False
        self._before: Any = None
        self._process = os.getpid()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker: it inherits this handler, and ends with the process that feeds it
        if not self._depth:
            raise KeyboardInterrupt
        self._pending = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that runs to its end before an interrupt is heard."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._pending and not self._depth:
            self._pending = False
            raise KeyboardInterrupt
