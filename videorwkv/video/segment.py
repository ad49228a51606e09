"""A part of a video that is a clip of its own: from a second or a frame on, up to another one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.base import Frame, Images, Transform, Video

# Seconds by which a segment may end behind its video: annotations are rounded, and people count the
# last frame differently. What is more is a segment of another file.
SLACK = 0.5


@dataclass(frozen=True)
class Segment:
    """The frames from `start` on and before `end`.

    Args:
        start, end: seconds since the first frame of the video, or numbers of frames: the first is
            0, and the frame `end` is not in it. 0 <= start < end. An infinite `end` in seconds is
            the end of the video.
        in_frames: whether they are numbers of frames.

    Raises:
        UsageError: they are not finite, negative, not whole numbers of frames, or `end` does not
            lie behind `start`.
    """

    start: float
    end: float
    in_frames: bool = False

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            to_end = value == math.inf and name == "end" and not self.in_frames
            if not (math.isfinite(value) or to_end) or value < 0:
                raise UsageError(f"Segment: {name} ({value}) must be finite and 0 or more.")
            if self.in_frames and value != int(value):
                raise UsageError(f"Segment: {name} ({value}) must be the whole number of a frame.")
        if self.end <= self.start:
            raise UsageError(f"Segment: end ({self.end}) must lie behind start ({self.start}).")
        kind = int if self.in_frames else float
        # As equal segments are one, whatever type the numbers came in.
        object.__setattr__(self, "start", kind(self.start) + 0)  # -0.0 is 0
        object.__setattr__(self, "end", kind(self.end))

    def __str__(self) -> str:
        """`2-4.5`, or `f24-54`: what follows the `#` in a clip's name."""
        if self.in_frames:
            return f"f{self.start}-{self.end}"
        return f"{_seconds(self.start)}-{_seconds(self.end) if self.end < math.inf else 'end'}"

    @property
    def described(self) -> str:
        """For messages: `2 to 4.5 s`, `frames 24 to 53`."""
        if self.in_frames:
            return f"frames {self.start} to {self.end - 1}"
        end = f"{_seconds(self.end)} s" if self.end < math.inf else "the end"
        return f"{_seconds(self.start)} to {end}"

    def in_seconds(self, step: float) -> Segment:
        """The same in seconds, where a frame is shown for `step` seconds."""
        return Segment(self.start * step, self.end * step) if self.in_frames else self

    def find(self, times: NDArray[np.float64], name: str) -> Found:
        """Which frames of a video it has.

        A frame belongs to a segment of seconds if the middle of its time on screen lies in it; so
        segments that follow one another share no frame and leave none out. Where none does, it is
        the frame that is on screen in the middle of the segment.

        Args:
            times: of the video's frames in seconds, float64 [N], increasing, N >= 1.
            name: what messages call the video.

        Raises:
            DecodeError: it begins behind the end of the video, or ends more than `SLACK` seconds
                behind it.
        """
        count = len(times)
        steps = np.diff(times)
        # The last frame is shown for about as long as the ones before it.
        step = _usual(times)
        length = float(times[-1]) + step
        over = (self.end - count) * step if self.in_frames else self.end - length
        over = 0.0 if self.end == math.inf else over
        begins = self.start < count if self.in_frames else self.start < length
        too_far = ""
        if not begins and not (count == 1 and self.start == 0):
            too_far = "begins"
        elif over > SLACK or (self.in_frames and not step and self.end > count):
            too_far = "ends"
        if too_far:
            has = self._length(times)
            raise DecodeError(f"{name}: the segment {too_far} behind the end of the video ({has}).")
        if self.in_frames:
            first, stop = int(self.start), min(int(self.end), count)
        else:
            middles = times + np.append(steps, step) / 2
            first, stop = np.searchsorted(middles, (self.start, self.end)).tolist()
            if first == stop:
                middle = (self.start + min(self.end, length)) / 2
                stop = max(1, int(np.searchsorted(times, middle, side="right")))
                first = stop - 1
        if over > max(step, 1e-3) * 0.999:
            text = f"the segment ends {over:.2f} s behind the video and is read up to its end"
            return Found(first, stop, (text,))
        return Found(first, stop)

    def _length(self, times: NDArray[np.float64]) -> str:
        if self.in_frames:
            return f"{len(times)} frames, 0 to {len(times) - 1}"
        return f"{_seconds(round(float(times[-1]) + _usual(times), 3))} s"


class Found(NamedTuple):
    """Frames of a segment: from number `first` on and before `stop`; and what is odd about it."""

    first: int
    stop: int
    warnings: tuple[str, ...] = ()


class PartVideo(Video):
    """A segment of a video whose frames can be fetched by number and do not become fewer.

    Args:
        video: the whole; closed with this one.
        segment: which part of it.
    """

    def __init__(self, video: Video, segment: Segment) -> None:
        super().__init__(part_name(video.name, segment))
        if video.is_live:
            raise UsageError(f"{video.name}: a live source has no segments; record it first.")
        self._video = video
        self._segment = segment
        self._found: Found | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        own = () if self._found is None else self._found.warnings
        return self._video.warnings + own

    def __iter__(self) -> Iterator[Frame]:
        for index, seconds in enumerate(self.times().tolist()):
            images = self._fetch(np.array([index]), lambda image_HWC: image_HWC)
            if images is None:
                raise DecodeError(f"{self.name}: frame {index} can't be decoded.")
            yield Frame(images[index], seconds)

    def close(self) -> None:
        super().close()
        self._video.close()

    def _scan(self) -> NDArray[np.float64]:
        times = self._video.times()
        self._found = self._segment.find(times, self.name)
        part = times[self._found.first : self._found.stop]
        return part - part[:1]

    def _rescan(self) -> NDArray[np.float64]:
        self._video._keep(self._video._rescan())
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        assert self._found is not None  # `times` comes first
        first = self._found.first
        images = self._video._fetch(indices + first, transform)
        return images and {index - first: image_HWC for index, image_HWC in images.items()}


def part_name(name: str, segment: Segment | None) -> str:
    """What a clip is called: the video's name, and behind a `#` which part of it."""
    return name if segment is None else f"{name}#{segment}"


def _usual(times: NDArray[np.float64]) -> float:
    """Seconds for which most frames are shown; 0 for a single one."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _seconds(value: float) -> str:
    return f"{value:.12g}"
