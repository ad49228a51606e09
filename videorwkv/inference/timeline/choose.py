"""How probabilities become segments, chosen on validation films for the weights of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DataError
from videorwkv.inference.kept import Kept
from videorwkv.inference.timeline.segments import Segmenter, TimelineOptions
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.data.timeline import ActionSegment
    from videorwkv.inference.timeline.results import TimelineEvaluation

# Those that are tried.
THRESHOLDS = tuple(round(0.3 + 0.05 * n, 2) for n in range(13))


class FrameScores(NamedTuple):
    """What a model says after one frame.

    Args:
        time: seconds of the frame since the video's first one.
        scores_K: probabilities, not smoothed.
        reset: whether the state was reset before this frame.
    """

    time: float
    scores_K: NDArray[np.float32]
    reset: bool


@dataclass(frozen=True, kw_only=True)
class TimelineChoice(Kept):
    """The options of a timeline with the highest F1@50 on validation films.

    Args:
        labels, weights_sha256, data: as in `Kept`.
        options: how probabilities become segments.
        temperature: of the probabilities.
        f1_50: on the films that chose it.
        false_alarms: likewise.
        minutes: of these films.
    """

    NAME = "timeline"
    COMMAND = "videorwkv evaluate --timeline --choose-thresholds"

    options: TimelineOptions
    temperature: float
    f1_50: float
    false_alarms: int
    minutes: float

    @classmethod
    def choose(
        cls,
        evaluation: TimelineEvaluation,
        frames: Mapping[str, Sequence[FrameScores]],
        *,
        given: Mapping[str, float],
        labels: tuple[str, ...],
        weights_sha256: str,
        temperature: float,
        most_alarms: float | None = None,
    ) -> TimelineChoice:
        """Try thresholds, each with the lag by which its segments are late.

        Args:
            evaluation: of the films, with whatever options.
            frames: what the model says after each frame of each of them that was read.
            given: options that are not to be chosen.
            labels: of the run.
            weights_sha256: of its weights.
            temperature: of the probabilities.
            most_alarms: false alarms in 10 minutes that are allowed; None: any number.

        Raises:
            DataError: no threshold finds a segment where one is, or none with so few alarms.
        """
        tried = []
        for threshold in (given["threshold"],) if "threshold" in given else THRESHOLDS:
            rules = TimelineOptions(**{**given, "threshold": threshold})
            found = _with_options(evaluation, frames, labels, rules)
            if "lag" not in given:
                late = float(np.mean(found.lateness))
                rules = replace(rules, lag=0.0 if math.isnan(late) else max(0.0, round(late, 2)))
                found = _with_options(evaluation, frames, labels, rules)
            tried.append((found.f1(0.5), -found.false_alarms, -abs(threshold - 0.5), rules))
        allowed = tried
        if most_alarms is not None:
            allowed = [one for one in tried if -one[1] <= most_alarms * evaluation.minutes / 10]
        if not allowed:
            fewest = -max(one[1] for one in tried)
            raise DataError(
                f"No threshold that was tried has at most {most_alarms:g} false alarms in 10 "
                f"minutes: the fewest are {fewest} in "
                f"{evaluation.minutes:.1f} minutes. Allow more, or train longer or with films of "
                "what must not be named."
            )
        f1_50, alarms, _, rules = max(allowed, key=lambda one: one[:3])
        if not f1_50 > 0:
            raise DataError(
                "No segment is found rightly at any threshold, so none can be chosen: train "
                "longer, or evaluate on films with segments of the classes that the run knows."
            )
        return cls(
            labels=labels,
            weights_sha256=weights_sha256,
            data=dict(evaluation.data or {}),
            options=rules,
            temperature=temperature,
            f1_50=round(f1_50, 4),
            false_alarms=-alarms,
            minutes=round(evaluation.minutes, 2),
        )

    def summary(self) -> str:
        """What was chosen, and what it gives, in a line."""
        return (
            f"{self.options.described}: F1@50 {self.f1_50:.4f} and "
            f"{counted(self.false_alarms, 'false alarm')} in {self.minutes:.1f} minutes, on the "
            "films that chose it"
        )


def _with_options(
    evaluation: TimelineEvaluation,
    frames: Mapping[str, Sequence[FrameScores]],
    labels: tuple[str, ...],
    rules: TimelineOptions,
) -> TimelineEvaluation:
    """The same films with other options; what is counted in frames stays as it was."""
    segmenter = Segmenter(labels=labels, step=1 / evaluation.fps, options=rules)
    videos = tuple(
        # Of one that breaks off nothing counts, whatever was said before.
        video
        if video.reason
        else video._replace(found=tuple(sorted(_segments(segmenter, frames.get(video.path, ())))))
        for video in evaluation.videos
    )
    return replace(evaluation, videos=videos, options=rules)


def _segments(segmenter: Segmenter, frames: Sequence[FrameScores]) -> Iterator[ActionSegment]:
    state: Any = segmenter.start()
    for time, scores_K, reset in frames:
        state, done = segmenter.advance(state, time, scores_K, reset=reset)
        yield from done
    if frames:
        yield from segmenter.finish(state)
