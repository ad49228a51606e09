"""A video whose frames lie in an array already. T frames, H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from videorwkv.video.base import Frame, Images, Transform, Video


class ArrayVideo(Video):
    """Frames in memory, or mapped from a file, behind the interface of every other video.

    Args:
        name: what messages call it.
        frames_THWC: RGB, uint8, [T, H, W, 3].
        times: seconds since the first frame, float64, [T].
        warnings: what was found wrong when the frames were made.
    """

    def __init__(
        self,
        name: str,
        frames_THWC: NDArray[np.uint8],
        times: NDArray[np.float64],
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name)
        self._frames_THWC = frames_THWC
        self._known = times
        self._warnings = warnings

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        for image_HWC, time in zip(self._frames_THWC, self._known, strict=True):
            yield Frame(np.asarray(image_HWC), float(time))

    def _scan(self) -> NDArray[np.float64]:
        return self._known

    def _rescan(self) -> NDArray[np.float64]:
        return self._known

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images:
        places = indices.tolist()
        return {place: transform(np.asarray(self._frames_THWC[place])) for place in places}
