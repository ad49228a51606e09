"""Which frames of a video become a clip: times in, frame indices out. No I/O.

Everything goes by time, not by index, so a variable frame rate is sampled evenly in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, UsageError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How `num_frames` frames are chosen from a video.

    Args:
        num_frames: T, frames of a clip.
        fps: None spreads the frames over the whole video (the default: a clip's first second says
            little about the rest). A rate in frames a second takes a dense window instead.
    """

    num_frames: int = 16
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ConfigError(f"Sampling: num_frames ({self.num_frames}) must be at least 1.")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ConfigError(
                f"Sampling: fps ({self.fps}) must be above 0 and finite; None spreads."
            )

    def indices(
        self,
        times: NDArray[np.float64],
        *,
        view: int = 0,
        num_views: int = 1,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.int64]:
        """Indices of the chosen frames, int64 [num_frames], not decreasing.

        A spread clip takes one frame from each of `num_frames` equal segments, at the same place in
        each: the centre, or a random one if `rng` is given, or for view v of V (v + 1/2) / V. A
        dense window starts in the middle, at random, or for view v of V at v / (V - 1) of the free
        room. Where a video is shorter than the window, or has fewer frames than asked for, frames
        repeat.

        Args:
            times: presentation times in seconds, float64 [N], not decreasing, N >= 1.
            view: which temporal view, in [0, num_views).
            num_views: how many temporal views are taken.
            rng: draws a random place (training) instead of the view's fixed one.
        """
        if len(times) == 0:
            raise UsageError("Sampling: the video has no frame.")
        if not 0 <= view < num_views:
            raise UsageError(f"Sampling: view ({view}) must lie in [0, {num_views}).")
        # The last frame is shown for about as long as the ones before it.
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        duration = times[-1] - times[0] + step
        ticks = np.arange(self.num_frames, dtype=np.float64)
        if self.fps is None:
            # One place for all segments: even steps in time, or motion would change its speed.
            place = rng.uniform() if rng is not None else (view + 0.5) / num_views
            wanted = times[0] + (ticks + place) * duration / self.num_frames
            # A wanted time lies inside the frame that is on screen then.
            found = np.searchsorted(times, wanted, side="right") - 1
        else:
            free = max(0.0, times[-1] - times[0] - (self.num_frames - 1) / self.fps)
            if rng is not None:
                place = rng.uniform()
            else:
                place = view / (num_views - 1) if num_views > 1 else 0.5
            wanted = times[0] + free * place + ticks / self.fps
            # Half a frame of slack: 12.5 fps must hit every other frame of a 25 fps video, not
            # slip by one where the two times differ in the last digit.
            found = np.searchsorted(times, wanted + step / 2, side="right") - 1
        return np.clip(found, 0, len(times) - 1).astype(np.int64)
