"""Probabilities to segments: by hand, against the stream's own labels, and in any two parts."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest

from videorwkv.data.background import BACKGROUND
from videorwkv.data.timeline import ActionSegment
from videorwkv.errors import UsageError
from videorwkv.inference.stream import StreamOptions
from videorwkv.inference.timeline.segments import Segmenter, TimelineOptions, find_segments

LABELS = ("a", BACKGROUND, "c")
RAW = TimelineOptions(smooth=0, min_length=0, merge=0)


def segmenter(options: TimelineOptions, step: float = 1.0) -> Segmenter:
    return Segmenter(labels=LABELS, step=step, options=options)


def scores(text: str, sure: float = 0.9) -> np.ndarray:
    """`aa.c`: a letter for each frame; a dot is the background, a question mark nothing clear."""
    rest = (1 - sure) / 2
    rows = {"a": (sure, rest, rest), ".": (rest, sure, rest), "c": (rest, rest, sure)}
    return np.array([rows.get(letter, (0.3, 0.4, 0.3)) for letter in text])


def found(text: str, options: TimelineOptions = RAW) -> list[tuple[float, float, str]]:
    times = np.arange(len(text), dtype=float)
    segments = find_segments(times, scores(text), segmenter(options))
    return [(x.start, x.end, x.label) for x in segments]


def test_runs_of_frames_become_segments():
    assert found("..aaa.cc") == [(2, 5, "a"), (6, 8, "c")]
    assert found("aaacc") == [(0, 3, "a"), (3, 5, "c")]
    assert found("....") == []
    assert found("") == []
    assert found("a") == [(0, 1, "a")]


def test_between_half_and_the_whole_threshold_a_segment_goes_on():
    assert found("aa??aa") == [(0, 6, "a")]
    # It began where it rose above half, and ended where it fell below the threshold for good.
    assert found("..??aa??..") == [(2, 6, "a")]
    # Never sure: nothing.
    assert found("??????") == []


def test_short_segments_are_left_out_and_near_ones_become_one():
    options = TimelineOptions(smooth=0, min_length=2, merge=0)
    assert found("..a..aa.", options) == [(5, 7, "a")]
    options = TimelineOptions(smooth=0, min_length=2, merge=2)
    assert found("..aa..aa...", options) == [(2, 8, "a")]
    assert found("..aa...aa...", options) == [(2, 4, "a"), (7, 9, "a")]
    # Two that are too short each are long enough together.
    assert found("..a.a..", options) == [(2, 5, "a")]
    # A short one of another class between them is passed over, a long one is not.
    assert found("aaacaaa", options) == [(0, 7, "a")]
    assert found("aaaccaaa", options) == [(0, 3, "a"), (3, 5, "c"), (5, 8, "a")]
    # The short one does not come back and overlap.
    options = TimelineOptions(smooth=0, min_length=2, merge=3)
    assert found("aacaacc", options) == [(0, 5, "a"), (5, 7, "c")]


def test_a_segment_is_given_out_as_soon_as_it_can_not_go_on():
    rules = segmenter(TimelineOptions(smooth=0, min_length=1, merge=1))
    state, given = rules.start(), []
    for time, row in enumerate(scores("aa....")):
        state, done = rules.advance(state, time, row)
        given += [(time, x.label) for x in done]
    assert given == [(4, "a")]
    assert rules.finish(state) == []


def test_the_score_is_the_mean_probability_while_it_lasted():
    rows = np.array([[0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    (segment,) = find_segments([0, 1, 2], rows, segmenter(RAW))
    assert segment == ActionSegment(0, 2, "a", pytest.approx(0.7))


def test_smoothing_bridges_a_frame_and_costs_little_of_the_length():
    options = TimelineOptions(smooth=0.5, min_length=0, merge=0)
    times = np.arange(80) / 8
    text = "." * 24 + "a" * 12 + "c" + "a" * 12 + "." * 31
    (segment,) = find_segments(times, scores(text), segmenter(options, 1 / 8))
    assert segment.label == "a"
    assert segment.start == pytest.approx(3.0, abs=0.26)
    assert segment.end == pytest.approx(49 / 8, abs=0.51)


def test_after_a_pause_of_the_source_everything_begins_anew():
    rules = segmenter(TimelineOptions(smooth=10, min_length=0, merge=100))
    state, rows = rules.start(), scores("aaa")
    for time in range(3):
        state, done = rules.advance(state, time, rows[time])
        assert done == []
    state, done = rules.advance(state, 50.0, rows[0], reset=True)
    assert [x[:3] for x in done] == [(0, 3, "a")]
    assert [x[:3] for x in rules.finish(state)] == [(50, 51, "a")]


def test_segments_are_dated_back():
    options = TimelineOptions(smooth=0, min_length=0, merge=0, lag=1.5)
    assert found("..aaa..cc", options) == [(0.5, 3.5, "a"), (5.5, 9, "c")]
    assert found("aaacc..", options) == [(0, 1.5, "a"), (1.5, 3.5, "c")]
    assert found("a......", options) == []


def test_classes_of_their_own_may_overlap():
    rows = np.array([[0.9, 0, 0], [0.9, 0, 0.9], [0.9, 0, 0.9], [0, 0, 0.9], [0, 0, 0]])
    segments = find_segments(
        range(5), rows, Segmenter(labels=LABELS, step=1.0, options=RAW, exclusive=False)
    )
    assert [x[:3] for x in segments] == [(0, 3, "a"), (1, 4, "c")]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_the_open_class_is_the_label_of_a_stream(seed: int, threshold: float):
    """By the rule of `stream`, frame by frame; segments are the runs of its labels."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet([0.5, 0.5, 0.5], size=300)
    rule, label, names = StreamOptions(threshold=threshold), None, []
    options = TimelineOptions(threshold=threshold, smooth=0, min_length=0, merge=0)
    rules = segmenter(options)
    state = rules.start()
    for time, row in enumerate(rows):
        label = rule.label(row.astype(np.float32), label)
        names.append(label)
        state, _ = rules.advance(state, time, row)
        is_open = np.flatnonzero(~np.isnan(state.start_K)).tolist()
        assert is_open == ([] if label is None else [label])
    runs = sum(
        label is not None and LABELS[label] != BACKGROUND for label, _ in itertools.groupby(names)
    )
    segments = find_segments(range(300), rows, segmenter(options))
    # Runs of one class with nothing between them that closed it are one.
    assert 0 < len(segments) <= runs
    for one, other in itertools.pairwise(segments):
        assert one.end <= other.start


@pytest.mark.parametrize("seed", range(5))
def test_long_runs_come_out_as_they_are_whatever_the_options(seed: int):
    rng = np.random.default_rng(seed)
    text = "".join(letter * int(rng.integers(8, 16)) for letter in rng.permutation(list("a.c.a.c")))
    expected = found(text)
    assert found(text, TimelineOptions(smooth=0, min_length=6, merge=0)) == expected


def test_the_state_is_a_value_of_fixed_size():
    rules = segmenter(TimelineOptions())
    rng = np.random.default_rng(0)
    rows = rng.dirichlet([0.3, 0.3, 0.3], size=2000)
    state, sizes, first = rules.start(), set(), None
    for time, row in enumerate(rows):
        before = pickle.dumps(state)
        following, done = rules.advance(state, time / 8, row)
        assert pickle.dumps(state) == before, "the state that was passed in has changed"
        again, twice = rules.advance(state, time / 8, row)
        assert done == twice
        assert pickle.dumps(again) == pickle.dumps(following)
        state = following
        sizes.add(len(pickle.dumps(state)))
        first = first or len(pickle.dumps(state))
    assert max(sizes) <= first + 16


def test_segments_never_overlap_whatever_comes():
    rng = np.random.default_rng(1)
    options = TimelineOptions(threshold=0.4, smooth=0.3, min_length=0.6, merge=0.9)
    for _ in range(20):
        rows = rng.dirichlet([0.2, 0.2, 0.2], size=400)
        segments = find_segments(np.arange(400) / 8, rows, segmenter(options, 1 / 8))
        assert segments
        for one, other in itertools.pairwise(segments):
            assert one.end <= other.start
        assert all(x.end - x.start >= 0.6 - 1e-6 and x.end <= 50 for x in segments)
        assert all(0 < x.score <= 1 for x in segments)


def test_wrong_input_is_named():
    rules = segmenter(TimelineOptions())
    with pytest.raises(UsageError, match="3 classes"):
        rules.advance(rules.start(), 0.0, np.zeros(2))
    state, _ = rules.advance(rules.start(), 1.0, np.zeros(3))
    with pytest.raises(UsageError, match="must increase"):
        rules.advance(state, 1.0, np.zeros(3))
    for name, value in (
        ("threshold", 0.0),
        ("threshold", 1.1),
        ("smooth", -1),
        ("merge", math.inf),
    ):
        with pytest.raises(UsageError, match=name):
            TimelineOptions(**{name: value})
