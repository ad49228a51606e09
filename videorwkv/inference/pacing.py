"""From all frames of a source to those that a model is due: at its rate, and never late."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median

from videorwkv.video import Frame, Video

# How long a live source's thread may take to end: it looks up once a frame.
PATIENCE = 2.0


@dataclass(frozen=True, eq=False)
class Due:
    """A frame whose turn it is.

    Args:
        frame: the frame.
        number: how many frames of the source came before it.
        gap: whether the source paused before it, or before a frame that was dropped for it.
        dropped: how many due frames of the source have been dropped so far.
    """

    frame: Frame
    number: int
    gap: bool
    dropped: int = 0


def paced(video: Video, fps: float, gap: float) -> Iterator[Due]:
    """The frames nearest to even steps in time, as `Sampling` with a rate chooses them.

    None comes twice: where the source is slower than `fps`, every frame is due.

    Args:
        video: any source.
        fps: frames a second.
        gap: a longer time between two frames of the source, in seconds, is a gap, unless those
            before were about as long.
    """
    tick, last = -1, 0.0
    steps: deque[float] = deque(maxlen=5)
    for number, frame in enumerate(video):
        step = frame.time - last
        # Half a frame of slack: the nearest frame is due, not the first one past its time.
        now = math.ceil((frame.time + min(step, 1 / fps) / 2) * fps) - 1 if number else 0
        # A source may be slower than that by nature: time lapse, a camera at night.
        paused, last = step > gap and not (steps and step <= 3 * median(steps)), frame.time
        if number:
            steps.append(step)
        if now > tick or paused:
            tick = max(now, tick)
            yield Due(frame, number, paused)


class Latest:
    """Reads a live source in a thread and keeps its newest due frame only.

    Whoever iterates gets that frame, or waits for one; frames that a newer one has replaced are
    counted as dropped. Errors of the source come after its last frame.
    """

    def __init__(self, frames: Iterator[Due]) -> None:
        self._frames = frames
        self._changed = threading.Condition()
        self._waiting: Due | None = None
        self._dropped = 0
        self._ended = self._stopped = False
        self._error: Exception | None = None
        # A daemon: a device that gives no more frames must not keep the program alive.
        self._thread = threading.Thread(target=self._read, daemon=True, name="videorwkv-live")
        self._thread.start()

    def __iter__(self) -> Iterator[Due]:
        while True:
            with self._changed:
                # Woken now and then, or some systems would not see Ctrl-C while waiting.
                while self._waiting is None and not self._ended:
                    self._changed.wait(0.5)
                due, self._waiting = self._waiting, None
            if due is None:
                if self._error is not None:
                    raise self._error
                return
            yield due

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        self._thread.join(PATIENCE)

    def _read(self) -> None:
        try:
            with closing(self._frames) as frames:  # type: ignore[type-var]
                for due in frames:
                    if self._stopped:
                        return
                    with self._changed:
                        missed = self._waiting
                        self._dropped += missed is not None
                        gap = due.gap or (missed is not None and missed.gap)
                        self._waiting = replace(due, gap=gap, dropped=self._dropped)
                        self._changed.notify()
        except Exception as error:  # noqa: BLE001 - `__iter__` raises it again
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
