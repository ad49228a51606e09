"""The standard input and FIFOs: bytes that come when somebody writes them."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

from videorwkv.errors import DecodeError, UsageError

STDIN = "-"
# Milliseconds between two looks at whether the reader still wants anything.
LOOK = 200
# Bytes of the beginning that are kept, to say what a pipe that can't be read holds.
HEAD = 4096


def is_pipe(source: object) -> bool:
    """Whether a source is the standard input (`-`) or a FIFO."""
    if source == STDIN:
        return not Path(STDIN).exists()
    try:
        return isinstance(source, str | Path) and stat.S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


class Pipe:
    """A pipe open for reading, as PyAV takes it; `close` may be called by another thread.

    Args:
        source: `-`, or the path of a FIFO. Nobody needs to write to it yet.
        name: what messages call it.

    Attributes:
        head: the first bytes that were read.

    Raises:
        DecodeError: it can't be opened.
        UsageError: the standard input is a terminal.
    """

    def __init__(self, source: str | Path, name: str) -> None:
        self.head = b""
        self._closed = False
        if source == STDIN and sys.stdin is not None and sys.stdin.isatty():
            raise UsageError(
                f"{name}: the standard input is a terminal. Write a video into it: "
                "ffmpeg -i FILE -f matroska - | videorwkv stream RUN -"
            )
        try:
            # Without O_NONBLOCK, opening would wait for a writer, deaf to `close`.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
            self._file = os.dup(0) if source == STDIN else os.open(source, flags)
        except OSError as error:
            raise DecodeError(f"{name}: it can't be opened: {error.strerror}.") from error

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are some; none at the end."""
        while not self._closed:
            if not self._has_news():
                continue
            try:
                content = os.read(self._file, size)
            except BlockingIOError:  # somebody else has read it
                continue
            if not content:
                # At once, not when this object goes: what the next writer of a FIFO writes while
                # this end is open would be lost with it.
                self._closed = True
                os.close(self._file)
                del self._file
            elif len(self.head) < HEAD:
                self.head += content[: HEAD - len(self.head)]
            return content
        return b""

    def close(self) -> None:
        """End `read`. The file itself is closed at its end or with this object, as `read` may be at
        work."""
        self._closed = True

    def _has_news(self) -> bool:
        """Whether there are bytes to read, or whoever wrote has gone; waits `LOOK`."""
        if not hasattr(select, "poll"):  # Windows, where pipes can't be asked
            return True
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return bool(poll.poll(LOOK))

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)
