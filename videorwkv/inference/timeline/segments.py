"""From the probabilities after each frame to segments, online and in constant memory.

A class's segment opens when its smoothed probability reaches the threshold, and closes when that
falls below half of the threshold or, among exclusive classes, when another class opens. These are
the rules by which `stream` names its label. A segment begins where the probability last rose above
half of the threshold on its way, and ends where it fell below the threshold for good: what has to
be waited for to be sure takes nothing from its length.

K classes, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import BACKGROUNDS
from videorwkv.data.timeline import ActionSegment
from videorwkv.errors import UsageError

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TimelineOptions:
    """How probabilities become segments.

    Args:
        threshold: probability in (0, 1] at which a class's segment opens; it may fall to half.
        smooth: time constant in seconds of the running mean over probabilities; 0: none.
        min_length: seconds; a shorter segment is left out.
        merge: seconds; a class that is recognised again at most so long after the end of its last
            segment goes on with it, unless another class had a segment meanwhile.
        lag: seconds by which segments are dated back: what a model needs to see something before it
            is sure, and the smoothing adds. `TimelineEvaluation.lateness` measures it.
    """

    threshold: float = 0.5
    smooth: float = 0.5
    min_length: float = 0.5
    merge: float = 0.5
    lag: float = 0.0

    @property
    def described(self) -> str:
        """What a person would want to know of them."""
        return f"threshold {self.threshold:g}, lag {self.lag:g} s"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"timeline: threshold ({self.threshold}) must lie in (0, 1].")
        for name in ("smooth", "min_length", "merge", "lag"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"timeline: {name} ({getattr(self, name)}) must be at least 0, in seconds."
                )


@dataclass(frozen=True, eq=False)
class TimelineState:
    """All that is remembered of a stream: a value of fixed size.

    Args:
        time: seconds of the last frame; NaN before the first.
        smoothed_K: running mean of the probabilities.
        risen_K: when each rose above half of the threshold; NaN below it.
        start_K: start of the open segments; NaN where none is open.
        fallen_K: when the probability of an open segment fell below the threshold; NaN above it.
        sums_K, counts_K: of the probabilities of open segments, up to `fallen_K`.
        late_K, late_counts_K: the same since then.
        held_start_K, held_end_K: of the segments that have closed and may go on; NaN: none.
        held_sums_K, held_counts_K: of their probabilities.
        last_end: end of the latest segment that has closed, the background not counted.
    """

    time: float
    smoothed_K: Scores
    risen_K: Scores
    start_K: Scores
    fallen_K: Scores
    sums_K: Scores
    counts_K: Scores
    late_K: Scores
    late_counts_K: Scores
    held_start_K: Scores
    held_end_K: Scores
    held_sums_K: Scores
    held_counts_K: Scores
    last_end: float

    @classmethod
    def empty(cls, num_classes: int) -> TimelineState:
        """Before the first frame."""
        nothing, zero = np.full(num_classes, np.nan), np.zeros(num_classes)
        return cls(
            math.nan, zero, nothing, nothing, nothing, zero, zero, zero, zero,
            nothing, nothing, zero, zero, -math.inf,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Probabilities to segments. It remembers nothing: the state is passed in and returned.

    Args:
        labels: names of the K classes; of `background` and `none` no segment is given out.
        step: seconds for which the last frame is taken to last; the others last until the next.
        options: how.
        exclusive: one class at a time, as with softmax; False: each by itself, as with sigmoid.
    """

    labels: tuple[str, ...]
    step: float
    options: TimelineOptions = TimelineOptions()
    exclusive: bool = True

    def start(self) -> TimelineState:
        """The state before the first frame."""
        return TimelineState.empty(len(self.labels))

    def advance(
        self, state: TimelineState, time: float, scores_K: NDArray[Any], *, reset: bool = False
    ) -> tuple[TimelineState, list[ActionSegment]]:
        """One frame: the next state, and the segments that are complete now.

        Args:
            state: of the frames before.
            time: seconds of this frame, after those before.
            scores_K: its probabilities.
            reset: the source has paused before it, and what was open has ended with the last frame.

        Raises:
            UsageError: another number of classes, or a time that does not increase.
        """
        if np.shape(scores_K) != (len(self.labels),):
            raise UsageError(
                f"timeline: scores of shape {list(np.shape(scores_K))} for {len(self.labels)} "
                "classes; wanted one probability for each."
            )
        if time <= state.time:
            raise UsageError(
                f"timeline: a frame of {time} s after one of {state.time} s; times must increase."
            )
        done: list[ActionSegment] = []
        if reset:
            state, done = self.start(), self.finish(state)
        new = _Working(state)
        new.smooth(time, scores_K, self.options.smooth)
        low, high = self.options.threshold / 2, self.options.threshold
        p_K = new.smoothed_K
        is_low_K = p_K < low
        new.risen_K = np.where(is_low_K, np.nan, np.where(np.isnan(new.risen_K), time, new.risen_K))
        opening_K = (p_K >= high) & np.isnan(new.start_K)
        if self.exclusive and opening_K.any():
            # Of several, the most probable; all others close.
            best = int(np.argmax(np.where(p_K >= high, p_K, -1.0)))
            opening_K &= np.arange(len(p_K)) == best
            is_low_K = is_low_K | (np.arange(len(p_K)) != best)
        new.count(time, p_K, high)
        done += self._close(new, ~np.isnan(new.start_K) & is_low_K, time)
        done += self._release(new, time - new.held_end_K > self.options.merge)
        new.open(opening_K, self.exclusive)
        return new.frozen(), done

    def finish(self, state: TimelineState) -> list[ActionSegment]:
        """The segments that are left when the source ends, `step` after its last frame."""
        new = _Working(state)
        # What lasts until then has not been seen to end: that is not dated back.
        end = state.time + self.step + self.options.lag
        done = self._close(new, ~np.isnan(new.start_K), end)
        return done + self._release(new, ~np.isnan(new.held_end_K))

    def _close(
        self, new: _Working, closing_K: NDArray[np.bool_], time: float
    ) -> list[ActionSegment]:
        """Segments that close are held, as they may go on; a long one ends that of the others."""
        done: list[ActionSegment] = []
        for k in np.flatnonzero(closing_K):
            if self.labels[k] in BACKGROUNDS:
                new.start_K[k] = np.nan
                continue
            start, end = new.close(int(k), time)
            if self.exclusive and self._is_long(start, end):
                done += self._release(new, np.arange(len(self.labels)) != k)
        return done

    def _release(self, new: _Working, which_K: NDArray[np.bool_]) -> list[ActionSegment]:
        """Give out what is held of these classes."""
        found = []
        for k in np.flatnonzero(which_K & ~np.isnan(new.held_end_K)):
            start, end = float(new.held_start_K[k]), float(new.held_end_K[k])
            new.held_start_K[k] = new.held_end_K[k] = np.nan
            if self._is_long(start, end):
                score = float(new.held_sums_K[k] / new.held_counts_K[k])
                start, end = max(0.0, start - self.options.lag), end - self.options.lag
                if end > start:  # else it was over before the video began
                    found.append(ActionSegment(start, end, self.labels[k], score))
        return sorted(found)

    def _is_long(self, start: float, end: float) -> bool:
        # Times of frames are rounded.
        return end > start and end - start >= self.options.min_length - 1e-6


class _Working:
    """A copy of a state that may be written to."""

    def __init__(self, state: TimelineState) -> None:
        self.time, self.last_end = state.time, state.last_end
        self._state = state
        self.smoothed_K = state.smoothed_K
        self.risen_K, self.start_K = state.risen_K, state.start_K.copy()
        self.fallen_K = state.fallen_K.copy()
        self.sums_K, self.counts_K = state.sums_K.copy(), state.counts_K.copy()
        self.late_K, self.late_counts_K = state.late_K.copy(), state.late_counts_K.copy()
        self.held_start_K, self.held_end_K = state.held_start_K.copy(), state.held_end_K.copy()
        self.held_sums_K = state.held_sums_K.copy()
        self.held_counts_K = state.held_counts_K.copy()

    def frozen(self) -> TimelineState:
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return replace(self._state, **own)

    def smooth(self, time: float, scores_K: NDArray[Any], constant: float) -> None:
        new_K = np.asarray(scores_K, np.float64)
        if not math.isnan(self.time) and constant:
            share = -math.expm1(-(time - self.time) / constant)
            new_K = self.smoothed_K + share * (new_K - self.smoothed_K)
        self.smoothed_K, self.time = new_K, time

    def count(self, time: float, p_K: Scores, high: float) -> None:
        """Note the probabilities of open segments; what comes after a fall counts if it ends."""
        open_K = ~np.isnan(self.start_K)
        high_K = open_K & (p_K >= high)
        low_K = open_K & ~high_K
        self.fallen_K[low_K & np.isnan(self.fallen_K)] = time
        self.sums_K[high_K] += self.late_K[high_K] + p_K[high_K]
        self.counts_K[high_K] += self.late_counts_K[high_K] + 1
        self.late_K[high_K] = self.late_counts_K[high_K] = 0
        self.fallen_K[high_K] = np.nan
        self.late_K[low_K] += p_K[low_K]
        self.late_counts_K[low_K] += 1

    def open(self, opening_K: NDArray[np.bool_], exclusive: bool) -> None:
        """Begin segments, or go on with those that are held."""
        for k in np.flatnonzero(opening_K):
            self.start_K[k] = max(float(self.risen_K[k]), self.last_end if exclusive else -math.inf)
            self.sums_K[k], self.counts_K[k] = self.smoothed_K[k], 1
            self.late_K[k] = self.late_counts_K[k] = 0
            self.fallen_K[k] = np.nan
            if not np.isnan(self.held_start_K[k]):
                self.start_K[k] = self.held_start_K[k]
                self.sums_K[k] += self.held_sums_K[k]
                self.counts_K[k] += self.held_counts_K[k]
                if exclusive:
                    # What came between was too short, or this one would have been given out.
                    between_K = self.held_start_K >= self.held_end_K[k]
                    self.held_start_K[between_K] = self.held_end_K[between_K] = np.nan
                self.held_start_K[k] = self.held_end_K[k] = np.nan

    def close(self, k: int, time: float) -> tuple[float, float]:
        """End the segment of class k, which is held then."""
        start = float(self.start_K[k])
        end = time if np.isnan(self.fallen_K[k]) else float(self.fallen_K[k])
        self.held_start_K[k], self.held_end_K[k] = start, end
        self.held_sums_K[k], self.held_counts_K[k] = self.sums_K[k], self.counts_K[k]
        self.start_K[k] = self.fallen_K[k] = np.nan
        self.last_end = max(self.last_end, end)
        return start, end


def find_segments(
    times_T: Iterable[float],
    scores_TK: Iterable[NDArray[Any]],
    segmenter: Segmenter,
) -> list[ActionSegment]:
    """The segments of a whole video, sorted by their start.

    Args:
        times_T: seconds of the frames, increasing.
        scores_TK: probabilities after each frame.
        segmenter: finds them, frame by frame.

    Raises:
        UsageError: times that don't increase, or scores of another number of classes.
    """
    state, found = segmenter.start(), []
    for time, scores_K in zip(times_T, scores_TK, strict=True):
        state, done = segmenter.advance(state, float(time), scores_K)
        found += done
    return sorted(found + segmenter.finish(state))


@dataclass(frozen=True)
class Timeline:
    """What happens when in one video.

    Args:
        path: the video.
        segments: sorted by their start.
        seconds: length of the video as far as it was read.
        warnings: what was wrong with the file without being fatal.
        error: why it could not be read; empty if it could.
    """

    path: str
    segments: tuple[ActionSegment, ...] = ()
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "path": self.path,
            "seconds": round(self.seconds, 3),
            "segments": [segment.to_dict() for segment in self.segments],
            "warnings": list(self.warnings),
            "error": self.error,
        }
