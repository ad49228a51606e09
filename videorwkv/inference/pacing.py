"""From all frames of a source to those that a model is due: at its rate, and never late."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, get_args

from videorwkv.video import Frame, Video

# How long a live source's thread may take to end: it looks up once a frame.
PATIENCE = 2.0


@dataclass(frozen=True, eq=False)
class Due:
    """A frame whose turn it is.

    Args:
        frame: the frame.
        number: how many frames of the source came before it.
        gap: whether the state is to be reset before it: the source paused, or was lost, before it
            or before a frame that was dropped for it.
        dropped: how many due frames of the source have been dropped so far.
        arrived: when it was read, in seconds since 1970.
    """

    frame: Frame
    number: int
    gap: bool
    dropped: int = 0
    arrived: float = 0.0


AfterDrop = Literal["auto", "reset", "keep"]
AFTER_DROP: tuple[AfterDrop, ...] = get_args(AfterDrop)


def paced(video: Video, fps: float, gap: float, after_drop: AfterDrop = "auto") -> Iterator[Due]:
    """The frames nearest to even steps in time, as `Sampling` with a rate chooses them.

    None comes twice: where the source is slower than `fps`, every frame is due.

    Args:
        video: any source.
        fps: frames a second.
        gap: a longer time between two frames of the source, in seconds, is a gap, unless those
            before were about as long.
        after_drop: whether a source that was lost and opened again has a gap there: `auto` as after
            any pause, `reset` always, `keep` never.
    """
    tick, last, drops = -1, 0.0, video.drops
    steps: deque[float] = deque(maxlen=5)
    for number, frame in enumerate(video):
        arrived = time.time()
        step = frame.time - last
        # Half a frame of slack: the nearest frame is due, not the first one past its time.
        now = math.ceil((frame.time + min(step, 1 / fps) / 2) * fps) - 1 if number else 0
        # A source may be slower than that by nature: time lapse, a camera at night.
        paused, last = step > gap and not (steps and step <= 3 * median(steps)), frame.time
        was_lost, drops = number > 0 and video.drops > drops, video.drops
        if number and not was_lost:
            steps.append(step)
        if was_lost and after_drop != "auto":
            paused = after_drop == "reset"
        if now > tick or paused:
            tick = max(now, tick)
            yield Due(frame, number, paused, arrived=arrived)


class Latest:
    """Reads a source in a thread and keeps its newest due frame only.

    Whoever iterates gets that frame, or waits for one; frames that a newer one has replaced are
    counted as dropped. Errors of the source come after its last frame. Who reads several sources
    gives them one condition to wait for, and calls `take`.

    Args:
        frames: of the source.
        changed: is notified of every frame and of the end.
        waits: read on only when a frame has been taken, and drop none.

    Attributes:
        last: `time.monotonic()` of the last frame, or of the beginning.
        step: about the seconds between two due frames; 0 before there are some.
        is_ended: whether no more frames come; the last one may still have to be taken.
        error: why they ended, if it was an error.
    """

    def __init__(
        self,
        frames: Iterator[Due],
        *,
        changed: threading.Condition | None = None,
        waits: bool = False,
    ) -> None:
        self._frames, self._waits = frames, waits
        self._changed = changed or threading.Condition()
        self._waiting: Due | None = None
        self._dropped = 0
        self._stopped = False
        self._steps: deque[float] = deque(maxlen=5)
        self.last = time.monotonic()
        self.is_ended = False
        self.error: Exception | None = None
        # A daemon: a device that gives no more frames must not keep the program alive.
        self._thread = threading.Thread(target=self._read, daemon=True, name="videorwkv-live")
        self._thread.start()

    def __iter__(self) -> Iterator[Due]:
        while True:
            with self._changed:
                # Woken now and then, or some systems would not see Ctrl-C while waiting.
                while self._waiting is None and not self.is_ended:
                    self._changed.wait(0.5)
                due = self.take()
            if due is None:
                if self.error is not None:
                    raise self.error
                return
            yield due

    @property
    def has_one(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._waiting is not None

    @property
    def step(self) -> float:
        return median(self._steps) if self._steps else 0.0

    def take(self) -> Due | None:
        """The frame that waits, if there is one; whoever calls this holds the condition."""
        due, self._waiting = self._waiting, None
        if due is not None and self._waits:
            self._changed.notify_all()
        return due

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(PATIENCE)

    def _read(self) -> None:
        try:
            with closing(self._frames) as frames:  # type: ignore[type-var]
                for due in frames:
                    with self._changed:
                        while self._waits and self._waiting is not None and not self._stopped:
                            self._changed.wait(0.5)
                        if self._stopped:
                            return
                        missed = self._waiting
                        self._dropped += missed is not None
                        gap = due.gap or (missed is not None and missed.gap)
                        self._waiting = replace(due, gap=gap, dropped=self._dropped)
                        now = time.monotonic()
                        self._steps.append(now - self.last)
                        self.last = now
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - whoever takes frames raises it again
            self.error = error
        finally:
            with self._changed:
                self.is_ended = True
                self._changed.notify_all()
