"""What happens when in long files: segments, and the label of every frame.

T frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import background_of
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError

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
    """The class of each frame, int64 [T]: the background where no segment covers it; `UNKNOWN`
    where segments of several labels do, or one whose label is not among `labels`.

    Args:
        times_T: seconds of the frames.
        segments: what happens, in any order.
        labels: names of the classes; without a background frames outside of segments are `UNKNOWN`.
    """
    index = {label: number for number, label in enumerate(labels)}
    free = index.get(background_of(labels) or "", UNKNOWN)
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


def whole_files(manifest: Manifest) -> tuple[Manifest, Mapping[str, tuple[Row, ...]]]:
    """A row for each file, without label or segment, and the rows of each file by its path.

    Raises:
        ManifestError: the segments of one file are in several splits.
    """
    marks: defaultdict[str, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        first = marks[row.path][0] if marks[row.path] else row
        if row.split != first.split:
            lines = f" (lines {first.line} and {row.line})" if first.line and row.line else ""
            raise ManifestError(
                f"{row.path}: one segment is in split {first.split!r} and another one in "
                f"{row.split!r}{lines}; a timeline is learnt and scored on whole files. Put all "
                "segments of a file into one split, or leave the column out."
            )
        marks[row.path].append(row)
    files = (own[0]._replace(label=None, segment=None) for own in marks.values())
    missing = {row.path: row._replace(label=None, segment=None) for row in manifest.missing}
    whole = replace(manifest, rows=tuple(files), missing=tuple(missing.values()))
    return whole, {path: tuple(own) for path, own in marks.items()}


def segments_of(rows: Iterable[Row], times: NDArray[np.float64]) -> list[ActionSegment]:
    """The rows of one file as segments in seconds; a row without a segment is the whole file.

    Args:
        rows: of the file; one without a label has an empty one.
        times: of the file's frames, for segments that are counted in frames.
    """
    # A single picture has no length; any that holds its time will do.
    step = float(np.diff(times).mean()) if len(times) > 1 else 1.0
    ends = np.append(times, times[-1] + step)
    found = []
    for row in rows:
        label, segment = row.label or "", row.segment
        if segment is None:
            found.append(ActionSegment(0.0, float(ends[-1]), label))
        elif segment.in_frames:
            start, end = (min(int(value), len(times)) for value in (segment.start, segment.end))
            found.append(ActionSegment(float(ends[start]), float(ends[end]), label))
        else:
            found.append(ActionSegment(segment.start, segment.end, label))
    return sorted(found)
