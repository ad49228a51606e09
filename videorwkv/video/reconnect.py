"""A live source that is opened again whenever it drops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.base import Frame, Images, Transform, Video

# Seconds before the first attempt, the second and so on; the last of them repeats.
WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


def _no_one(event: str, about: dict[str, object]) -> None:
    pass


class Reconnecting(Video):
    """A camera or stream that goes on after a drop. Its end is a drop, too.

    Time goes on while it is away: a frame after a drop of 5 s has a time 5 s later.

    Args:
        name: what messages call it.
        reopen: opens the source; a `DecodeError` is another drop.
        tell: is told ("lost", {"reason"}) and ("back", {"seconds", "attempts"}), by whichever
            thread iterates; a stream puts itself in its place.
        clock: seconds that pass.
        wait: waits so many seconds; True ends everything. None: `close` does.
    """

    is_live = True

    def __init__(
        self,
        name: str,
        reopen: Callable[[], Video],
        tell: Callable[[Literal["lost", "back"], dict[str, object]], None] = _no_one,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(name)
        self._reopen, self.tell, self._clock = reopen, tell, clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._video: Video | None = None

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        last = arrived = lost_at = 0.0
        attempts, is_first = 0, True
        while not self._closed:
            reason = "it ended"
            try:
                with self._reopen() as video:
                    self._video = video
                    start: float | None = None
                    for frame in video:
                        now = self._clock()
                        if self.is_away:
                            self.tell("back", {"seconds": now - lost_at, "attempts": attempts})
                            self.is_away, attempts = False, 0
                        if start is None:
                            # The source's own clock from here on, behind the time it was away.
                            start = 0.0 if is_first else last + (now - arrived) - frame.time
                        is_first = False
                        last, arrived = max(last, start + frame.time), now
                        yield Frame(frame.image_HWC, last)
            except DecodeError as error:
                reason = str(error)
            if self._closed:
                return
            if not self.is_away:
                self.is_away, lost_at = True, self._clock()
                self.drops += 1
                self.tell("lost", {"reason": reason})
            attempts += 1
            if self._wait(WAITS[min(attempts, len(WAITS)) - 1]):
                return

    def close(self) -> None:
        super().close()
        self._stopped.set()
        if self._video is not None:
            self._video.close()

    def _scan(self) -> NDArray[np.float64]:
        raise UsageError(f"{self.name}: a live source has no end; iterate over it instead.")

    def _rescan(self) -> NDArray[np.float64]:
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        self._scan()
        return None
