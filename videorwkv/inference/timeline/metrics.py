"""How good segments are. Every definition names where it comes from; all values lie in [0, 1].

V videos. `truth` and `found` are lists of the segments of each video, in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.timeline import ActionSegment

Segments: TypeAlias = Sequence[ActionSegment]
Timelines: TypeAlias = Sequence[Segments]

# Temporal IoU at which detections are scored, and offsets in seconds for their starts.
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
OFFSETS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
# Overlaps of the segmental F1.
OVERLAPS = (0.1, 0.25, 0.5)


def temporal_iou(one: ActionSegment, other: ActionSegment) -> float:
    """Length of what two segments share over the length that they cover together."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    together = (one.end - one.start) + (other.end - other.start) - max(0.0, shared)
    return max(0.0, shared) / together if together > 0 else 0.0


def average_precision(truth: Timelines, found: Timelines, label: str, iou: float) -> float:
    """Average precision of the detections of one class, as ActivityNet scores them.

    Detections of all videos are taken by falling score. One is right if a true segment of its video
    and label overlaps it with at least `iou` and no detection before has taken that; of several the
    one with the highest overlap. The precision at each recall is the highest one at that recall or
    a higher one, and is integrated over recall (`compute_average_precision_detection` in
    github.com/activitynet/ActivityNet, Evaluation/eval_detection.py). THUMOS 14 is scored in the
    same way, at 0.3 to 0.7 or 0.1 to 0.7.

    Args:
        truth, found: segments of each video.
        label: the class.
        iou: in (0, 1].

    Returns:
        NaN where there is no true segment of this class.
    """

    def closeness(one: ActionSegment, other: ActionSegment) -> float:
        overlap = temporal_iou(one, other)
        return overlap if overlap >= iou else -1.0

    return _average_precision(truth, found, label, closeness)


def start_average_precision(truth: Timelines, found: Timelines, label: str, offset: float) -> float:
    """Average precision of the starts of one class: point-level AP.

    As `average_precision`, but a detection is right if a true segment of its video and label begins
    at most `offset` seconds before or after it; of several the nearest. (Shou et al., Online
    Detection of Action Start in Untrimmed, Streaming Videos, ECCV 2018, which takes offsets of 1 to
    10 s.)
    """

    def closeness(one: ActionSegment, other: ActionSegment) -> float:
        distance = abs(one.start - other.start)
        return 1 / (1 + distance) if distance <= offset else -1.0

    return _average_precision(truth, found, label, closeness)


def _average_precision(
    truth: Timelines,
    found: Timelines,
    label: str,
    closeness: Callable[[ActionSegment, ActionSegment], float],
) -> float:
    """`closeness` of a detection and a true segment: the higher the better, below 0 is no match."""
    own = [[s for s in segments if s.label == label] for segments in truth]
    total = sum(map(len, own))
    if not total:
        return float("nan")
    detections = [
        (segment, video)
        for video, segments in enumerate(found)
        for segment in segments
        if segment.label == label
    ]
    # Stable: equal scores stay in their order.
    detections.sort(key=lambda one: -one[0].score)
    taken = [[False] * len(segments) for segments in own]
    is_right = []
    for segment, video in detections:
        fits = [closeness(segment, other) for other in own[video]]
        free = [k for k, fit in enumerate(fits) if fit >= 0 and not taken[video][k]]
        if free:
            taken[video][max(free, key=lambda k: fits[k])] = True
        is_right.append(bool(free))
    right_N = np.cumsum(is_right) if is_right else np.zeros(0)
    precision_N = right_N / np.arange(1, len(is_right) + 1)
    recall_N = right_N / total
    highest_N = np.maximum.accumulate(precision_N[::-1])[::-1]
    return float(np.sum(np.diff(recall_N, prepend=0.0) * highest_N))


def mean_average_precision(truth: Timelines, found: Timelines, iou: float) -> float:
    """Mean of `average_precision` over the classes that have a true segment; NaN without one."""
    return _mean([average_precision(truth, found, label, iou) for label in labels_of(truth)])


def point_mean_average_precision(truth: Timelines, found: Timelines, offset: float) -> float:
    """Mean of `start_average_precision` over the classes that have a true segment."""
    return _mean(
        [start_average_precision(truth, found, label, offset) for label in labels_of(truth)]
    )


def edit_score(truth: Segments, found: Segments) -> float:
    """Whether a video's segments have the right order, whatever their lengths.

    1 - D / N, where D is the Levenshtein distance between the two sequences of labels (by start)
    and N the length of the longer one. (`edit_score` of Lea et al., Segmental Spatiotemporal CNNs,
    ECCV 2016, in github.com/colincsl/TemporalConvolutionalNetworks, and of MS-TCN, Abu Farha and
    Gall, CVPR 2019, github.com/yabufarha/ms-tcn eval.py, with the background left out; there in per
    cent.) 1 where both are empty.
    """
    wanted, given = ([s.label for s in sorted(segments)] for segments in (truth, found))
    longest = max(len(wanted), len(given))
    if not longest:
        return 1.0
    distances = list(range(len(given) + 1))
    for row, label in enumerate(wanted, start=1):
        before, distances[0] = distances[0], row
        for column, other in enumerate(given, start=1):
            changed = before + (label != other)
            before = distances[column]
            distances[column] = min(changed, before + 1, distances[column - 1] + 1)
    return 1 - distances[-1] / longest


class Hits(NamedTuple):
    """Counts of segments.

    Args:
        right: found segments that hit a true one.
        wrong: found segments that don't.
        missed: true segments that are not hit.
    """

    right: int
    wrong: int
    missed: int

    @property
    def f1(self) -> float:
        """2 precision recall / (precision + recall); 1 where nothing was to be found, nor was."""
        count = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / count if count else 1.0


def hits(truth: Timelines, found: Timelines, overlap: float, label: str | None = None) -> Hits:
    """Segments that are found, of all labels or of one: the counts of the segmental F1@k.

    Each found segment, in order of its start, is compared with the true one of its label that it
    overlaps most; it is right if their IoU is at least `overlap` and no found segment has hit that
    one before. Counts are added up over the videos. (Lea et al., Temporal Convolutional Networks
    for Action Segmentation and Detection, CVPR 2017; `f_score` in MS-TCN's eval.py.)

    Args:
        truth, found: segments of each video.
        overlap: 0.1, 0.25 and 0.5 are usual: F1@10, F1@25, F1@50.
        label: count those of this label alone.
    """
    right = wrong = total = 0
    for true_ones, found_ones in zip(truth, found, strict=True):
        own = [s for s in sorted(true_ones) if label in (None, s.label)]
        total += len(own)
        is_hit = [False] * len(own)
        for segment in sorted(found_ones):
            if label not in (None, segment.label):
                continue
            overlaps = [temporal_iou(segment, s) * (s.label == segment.label) for s in own]
            best = int(np.argmax(overlaps)) if own else -1
            if own and overlaps[best] >= overlap and not is_hit[best]:
                is_hit[best] = True
                right += 1
            else:
                wrong += 1
    return Hits(right, wrong, total - right)


def false_alarms(truth: Timelines, found: Timelines, label: str | None = None) -> int:
    """Found segments during which nothing of their label happens: no true segment of the same label
    shares a moment with them."""
    return sum(
        not any(s.label == segment.label and temporal_iou(s, segment) > 0 for s in true_ones)
        for true_ones, found_ones in zip(truth, found, strict=True)
        for segment in found_ones
        if label in (None, segment.label)
    )


def lateness(truth: Timelines, found: Timelines) -> tuple[float, float]:
    """By how many seconds found segments begin and end after the true ones of their label that they
    overlap most: two medians, NaN where none overlaps. Both are above 0 for a model that sees no
    future, and a lag of about that much makes good for it."""
    starts, ends = [], []
    for true_ones, found_ones in zip(truth, found, strict=True):
        for segment in found_ones:
            own = [s for s in true_ones if s.label == segment.label]
            nearest = max(own, key=lambda s: temporal_iou(s, segment), default=None)
            if nearest is not None and temporal_iou(nearest, segment) > 0:
                starts.append(segment.start - nearest.start)
                ends.append(segment.end - nearest.end)
    if not starts:
        return float("nan"), float("nan")
    return float(np.median(starts)), float(np.median(ends))


def confusion(
    truth_T: NDArray[np.int64], found_T: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Frames by true class (row) and found class (column), int64 [K, K]; those whose truth is
    negative are left out. Frame accuracy is the share on the diagonal."""
    known_T = truth_T >= 0
    pairs_T = truth_T[known_T] * num_classes + found_T[known_T]
    return np.bincount(pairs_T, minlength=num_classes**2).reshape(num_classes, num_classes)


def labels_of(timelines: Timelines) -> list[str]:
    """The labels that have a segment, sorted."""
    return sorted({segment.label for segments in timelines for segment in segments})


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
