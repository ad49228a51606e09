"""The metrics of segments: small cases worked by hand, and brute force by another way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from videorwkv.data.timeline import ActionSegment, frame_labels
from videorwkv.inference.timeline.metrics import (
    average_precision,
    confusion,
    edit_score,
    false_alarms,
    hits,
    lateness,
    mean_average_precision,
    point_mean_average_precision,
    start_average_precision,
    temporal_iou,
)


def s(start: float, end: float, label: str = "a", score: float = 1.0) -> ActionSegment:
    return ActionSegment(start, end, label, score)


def test_temporal_iou_by_hand():
    assert temporal_iou(s(0, 4), s(2, 6)) == pytest.approx(2 / 6)
    assert temporal_iou(s(0, 4), s(4, 6)) == 0
    assert temporal_iou(s(0, 4), s(1, 2)) == pytest.approx(1 / 4)
    assert temporal_iou(s(0, 0), s(0, 0)) == 0


def test_average_precision_by_hand():
    # Two true segments. By score: right (0-10 of 0-10), wrong (20-30), right (50-60 of 50-58).
    truth = [[s(0, 10), s(50, 58)]]
    found = [[s(0, 10, score=0.9), s(20, 30, score=0.8), s(50, 60, score=0.7)]]
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert average_precision(truth, found, "a", 0.5) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # At 0.9 the last one, of IoU 0.8, is wrong as well.
    assert average_precision(truth, found, "a", 0.9) == pytest.approx(0.5)
    assert math.isnan(average_precision(truth, found, "b", 0.5))


def test_a_second_detection_of_one_segment_is_wrong():
    truth = [[s(0, 10)]]
    twice = [[s(0, 10, score=0.5), s(0, 9, score=0.6)]]
    assert average_precision(truth, twice, "a", 0.5) == 1.0  # the first is right, the second late
    assert hits(truth, twice, 0.5) == (1, 1, 0)


def test_a_detection_in_another_video_is_wrong():
    truth, found = [[s(0, 10)], []], [[], [s(0, 10)]]
    assert average_precision(truth, found, "a", 0.1) == 0
    assert hits(truth, found, 0.1) == (0, 1, 1)


def test_mean_average_precision_is_over_the_classes_that_are_there():
    truth = [[s(0, 1, "a"), s(2, 3, "b")]]
    found = [[s(0, 1, "a"), s(5, 6, "c")]]
    assert mean_average_precision(truth, found, 0.5) == pytest.approx(0.5)
    assert math.isnan(mean_average_precision([[]], found, 0.5))


def test_starts_by_hand():
    truth = [[s(10, 20), s(30, 40)]]
    found = [[s(11.5, 12, score=0.9), s(33, 60, score=0.8)]]
    assert start_average_precision(truth, found, "a", 1.0) == 0
    assert start_average_precision(truth, found, "a", 2.0) == pytest.approx(0.5)
    assert start_average_precision(truth, found, "a", 3.0) == 1.0
    assert point_mean_average_precision(truth, found, 3.0) == 1.0


def test_edit_score_by_hand():
    truth = [s(0, 1, "a"), s(2, 3, "b"), s(4, 5, "c"), s(6, 7, "a")]
    found = [s(0, 9, "a"), s(9, 10, "c"), s(11, 12, "a")]  # b is missing: one of four
    assert edit_score(truth, found) == pytest.approx(3 / 4)
    assert edit_score([], []) == 1
    assert edit_score(truth, []) == 0
    assert edit_score([], found) == 0


def test_f1_by_hand():
    truth = [[s(0, 10, "a"), s(10, 20, "b"), s(30, 40, "a")]]
    # IoU 0.6; wrong label; IoU 0.2; two in one segment.
    found = [[s(0, 6, "a"), s(10, 20, "c"), s(38, 40, "a"), s(30, 31, "a")]]
    assert hits(truth, found, 0.5) == (1, 3, 2)
    # The one of 30 to 31 comes first and takes the true one at 0.1.
    assert hits(truth, found, 0.1) == (2, 2, 1)
    assert hits(truth, found, 0.1).f1 == pytest.approx(4 / 7)
    assert hits(truth, found, 0.5, "a") == (1, 2, 1)
    assert hits([[]], [[]], 0.5).f1 == 1
    assert hits(truth, [[]], 0.5).f1 == 0


def test_false_alarms_by_hand():
    truth = [[s(0, 10, "a"), s(20, 30, "b")]]
    found = [[s(9, 12, "a"), s(10, 12, "a"), s(20, 30, "a"), s(25, 26, "b")]]
    assert false_alarms(truth, found) == 2
    assert false_alarms(truth, found, "b") == 0


def test_lateness_by_hand():
    truth = [[s(0, 10, "a"), s(20, 30, "b")], [s(5, 6, "a")]]
    found = [[s(1, 12, "a"), s(20.5, 30, "b"), s(40, 50, "b")], [s(5.8, 6.1, "a"), s(0, 4, "a")]]
    assert lateness(truth, found) == (pytest.approx(0.8), pytest.approx(0.1))
    assert all(math.isnan(x) for x in lateness(truth, [[], []]))


def test_confusion_leaves_out_what_is_not_known():
    truth_T, found_T = np.array([0, 1, -1, 1]), np.array([0, 0, 1, 1])
    assert confusion(truth_T, found_T, 2).tolist() == [[1, 0], [1, 1]]


def test_frame_labels():
    labels = ("a", "b", "background")
    times_T = np.arange(8.0)
    segments = [s(1, 3, "a"), s(2, 5, "b"), s(6, 7, "new")]
    assert frame_labels(times_T, segments, labels).tolist() == [2, 0, -1, 1, 1, 2, -1, 2]
    # The order of the segments says nothing, and one label twice is no clash.
    assert frame_labels(times_T, segments[::-1], labels).tolist() == [2, 0, -1, 1, 1, 2, -1, 2]
    assert frame_labels(times_T[:4], [s(0, 2), s(1, 3)], labels).tolist() == [0, 0, 0, 2]
    assert frame_labels(times_T[:2], [s(1, 3)], ("a", "b")).tolist() == [-1, 0]


# -- brute force ---------------------------------------------------------------------------------


def _random_timeline(rng: np.random.Generator, length: int) -> list[str]:
    """Labels of frames, with runs."""
    frames: list[str] = []
    while len(frames) < length:
        frames += [str(rng.choice(["a", "b", "background"]))] * int(rng.integers(1, 6))
    return frames[:length]


def _segments_of_frames(frames: Sequence[str]) -> list[ActionSegment]:
    found, start = [], 0
    for label, run in itertools.groupby(frames):
        end = start + len(list(run))
        if label != "background":
            found.append(ActionSegment(start, end, label))
        start = end
    return found


def _brute_hits(truth: Sequence[str], found: Sequence[str], overlap: float) -> list[int]:
    """By sets of frames instead of bounds."""

    def sets(frames: Sequence[str]) -> list[tuple[str, set[int]]]:
        return [
            (segment.label, set(range(int(segment.start), int(segment.end))))
            for segment in _segments_of_frames(frames)
        ]

    wanted = sets(truth)
    hit: set[int] = set()
    right = wrong = 0
    for label, own in sets(found):
        ious = [len(own & o) / len(own | o) if name == label else 0.0 for name, o in wanted]
        best = ious.index(max(ious)) if ious else None
        if best is not None and ious[best] >= overlap and best not in hit:
            hit.add(best)
            right += 1
        else:
            wrong += 1
    return [right, wrong, len(wanted) - len(hit)]


def _brute_edit(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein distance by its recursion."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return _brute_edit(one[1:], other[1:])
    return 1 + min(
        _brute_edit(one[1:], other), _brute_edit(one, other[1:]), _brute_edit(one[1:], other[1:])
    )


@pytest.mark.parametrize("seed", range(20))
def test_f1_and_edit_against_frames(seed: int):
    rng = np.random.default_rng(seed)
    truth, found = _random_timeline(rng, 24), _random_timeline(rng, 24)
    true_ones, found_ones = _segments_of_frames(truth), _segments_of_frames(found)
    for overlap in (0.1, 0.25, 0.5):
        expected = _brute_hits(truth, found, overlap)
        assert list(hits([true_ones], [found_ones], overlap)) == expected
    wanted, given = [x.label for x in true_ones], [x.label for x in found_ones]
    distance = _brute_edit(wanted, given)
    expected_score = 1 - distance / max(len(wanted), len(given), 1)
    assert edit_score(true_ones, found_ones) == pytest.approx(expected_score)


def _brute_average_precision(
    truth: Sequence[Sequence[ActionSegment]], found: Sequence[Sequence[ActionSegment]], iou: float
) -> float:
    """Area under the interpolated curve, by the highest precision among all cuts that reach each
    recall; distinct scores."""
    total = sum(map(len, truth))
    every = sorted({x.score for part in found for x in part}, reverse=True)
    points = []
    for cut in every:
        right = count = 0
        for true_ones, found_ones in zip(truth, found, strict=True):
            left = list(true_ones)
            for x in sorted(found_ones, key=lambda y: -y.score):
                if x.score < cut:
                    continue
                count += 1
                fitting = [t for t in left if temporal_iou(t, x) >= iou]
                if fitting:
                    left.remove(max(fitting, key=lambda t: temporal_iou(t, x)))
                    right += 1
        points.append((right, right / count))
    return sum(
        max((p for right, p in points if right >= step), default=0.0) / total
        for step in range(1, total + 1)
    )


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_against_every_cut(seed: int):
    rng = np.random.default_rng(seed)

    def some(count: int) -> list[ActionSegment]:
        starts = rng.uniform(0, 20, size=count)
        return [s(x, x + rng.uniform(1, 5), score=rng.uniform()) for x in starts]

    truth, found = [some(4), some(3), []], [some(6), some(4), some(2)]
    for iou in (0.1, 0.3, 0.5):
        expected = _brute_average_precision(truth, found, iou)
        assert average_precision(truth, found, "a", iou) == pytest.approx(expected)
