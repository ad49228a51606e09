"""The timeline of a stream: segments as soon as they can not go on, of each source. K classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from videorwkv.data.timeline import ActionSegment
from videorwkv.inference.stream import Stream, StreamPrediction
from videorwkv.inference.timeline.segments import Segmenter, TimelineOptions, TimelineState


class StreamTimeline:
    """Predictions of a stream to segments. It remembers a `TimelineState` of each source.

    Args:
        stream: made with `top` at least its number of classes, and with the threshold and smoothing
            of `options`.
        options: how probabilities become segments.

    Example:
        >>> with stream("runs/when", 0, top=99) as predictions:  # doctest: +SKIP
        ...     found = StreamTimeline(predictions, TimelineOptions())
        ...     for prediction in predictions:
        ...         for source, segment in found.add(prediction):
        ...             print(source, segment.start, segment.end, segment.label)
        ...     print(found.finish())
    """

    def __init__(self, stream: Stream, options: TimelineOptions) -> None:
        self._index = {label: k for k, label in enumerate(stream.labels)}
        # The stream has smoothed already.
        self._segmenter = Segmenter(
            labels=tuple(stream.labels),
            step=1 / stream.fps,
            options=replace(options, smooth=0),
            exclusive=not stream.multilabel,
        )
        self._states: dict[str, TimelineState] = {}

    def add(self, prediction: StreamPrediction) -> list[tuple[str, ActionSegment]]:
        """The segments that are complete after one more frame, each with its source's name."""
        scores_K = np.zeros(len(self._index))
        scores_K[[self._index[label] for label in prediction.labels]] = prediction.scores
        state = self._states.get(prediction.source) or self._segmenter.start()
        state, done = self._segmenter.advance(
            state, prediction.time, scores_K, reset=prediction.reset
        )
        self._states[prediction.source] = state
        return [(prediction.source, segment) for segment in done]

    def finish(self) -> list[tuple[str, ActionSegment]]:
        """The segments that are open when the stream ends."""
        found = [
            (source, segment)
            for source, state in self._states.items()
            for segment in self._segmenter.finish(state)
        ]
        self._states = {}
        return found
