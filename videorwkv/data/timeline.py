"""What happens when in long files: segments, and the label of every frame.

T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The class of the frames that no segment covers.
BACKGROUND = "background"
# Labels of a frame that says nothing: `torch.nn.functional.cross_entropy` is told to pass it over.
UNKNOWN = -1


class ActionSegment(NamedTuple):
    """Part of a video in which one thing happens.

    Args:
        start, end: seconds since the video's first frame; `end` is the time of the first frame that
            is no part of it.
        label: what happens.
        score: how sure that is, in [0, 1]; 1 where a person says so.
    """

    start: float
    end: float
    label: str
    score: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, to milliseconds."""
        values = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return {**values, "label": self.label, "score": round(self.score, 4)}


def frame_labels(
    times_T: NDArray[np.float64], segments: Iterable[ActionSegment], labels: Sequence[str]
) -> NDArray[np.int64]:
    """The class of each frame, int64 [T]: `BACKGROUND` where no segment covers it, `UNKNOWN` where
    segments of several labels do, or one whose label is not among `labels`.

    Args:
        times_T: seconds of the frames.
        segments: what happens, in any order.
        labels: names of the classes; without `BACKGROUND` frames outside of segments are `UNKNOWN`.
    """
    index = {label: number for number, label in enumerate(labels)}
    free = index.get(BACKGROUND, UNKNOWN)
    labels_T = np.full(len(times_T), free, np.int64)
    covered_T = np.zeros(len(times_T), bool)
    for segment in segments:
        inside_T = (times_T >= segment.start) & (times_T < segment.end)
        own = index.get(segment.label, UNKNOWN)
        clash_T = inside_T & covered_T & (labels_T != own)
        labels_T[inside_T] = own
        labels_T[clash_T] = UNKNOWN
        covered_T |= inside_T
    return labels_T
