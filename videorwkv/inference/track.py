"""One source of a stream: what it has been named so far, and what befell it. K classes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import numpy as np

from videorwkv.data.background import background_places
from videorwkv.inference.annotate import AnnotatedVideoWriter
from videorwkv.inference.pacing import Due, Latest
from videorwkv.inference.stream_options import Scores, StreamOptions
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.words import counted
from videorwkv.video import Video

EventKind = Literal["stalled", "resumed", "lost", "back", "size", "ended"]
# What was told of a source, by any thread, and not yet passed on.
Told: TypeAlias = "SimpleQueue[tuple[EventKind, dict[str, object]]]"


@dataclass(frozen=True)
class StreamPrediction:
    """The prediction after one frame of a stream.

    Args:
        time: seconds of the frame since the source's first one.
        number: how many frames of the source came before it.
        label: the recognised action; None if no class is certain enough.
        changed: whether `label` differs from the one at the last frame.
        score: the smoothed probability of `label`, or of the best class where it is None.
        labels: the best classes now, best first.
        scores: their probabilities, smoothed over time.
        milliseconds: from the decoded frame to the scores (resizing, edges, model); of several
            sources, for all frames of one step.
        dropped: frames so far that were due but arrived while the model was busy.
        reset: whether the state was reset before this frame.
        source: what the source is called.
        clock: when a live source's frame came, by this machine's clock, in UTC, as
            `2026-05-01T12:30:00.250Z`; None for a file.
        above: of a model for several labels: those whose smoothed probability reaches their
            threshold, the most probable first; None of other models.
    """

    time: float
    number: int
    label: str | None
    changed: bool
    score: float
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    milliseconds: float
    dropped: int
    reset: bool
    source: str = ""
    clock: str | None = None
    above: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclass_to_dict(self)


@dataclass(frozen=True)
class StreamEvent:
    """What befell a source of a stream.

    Args:
        event: `stalled` (no frame for a while) and `resumed`; `lost` and `back` (a connection);
            `size` (pictures of another size); `ended` (one of several sources).
        source: what the source is called.
        text: the same in words.
        clock: when, in UTC.
        time: seconds of the source's last frame since its first one; None before that.
        about: more about it: `seconds`, `attempts`, `reason`, `width`, `height`.
    """

    event: EventKind
    source: str
    text: str
    clock: str
    time: float | None
    about: dict[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        own = dataclass_to_dict(self)
        return {**{name: own[name] for name in own if name != "about"}, **self.about}


class Track:
    """A source of a stream, frame by frame.

    Args:
        name: what it is called.
        video: its frames.
        labels: K class names.
        options: how it is named.
        life: seconds after which the state is reset.
        writer: of its annotated video.
        told: gets what befalls it; may have got something already.
        owns: close the video with it.

    Attributes:
        reader: the thread that reads it, if one does.
        frames: frames classified so far.
        dropped: frames dropped so far.
        resets: how often the state was reset after the first frame.
        stalls: how often no frame came for a while.
        sizes: how often the pictures came in another size than before.
        failed: why it ended, if it was an error.
        scores_K: smoothed probabilities; None before a frame and after a reset.
        label: number of the class that is named.
        age: seconds of video in the state.
    """

    reader: Latest | None = None

    def __init__(
        self,
        name: str,
        video: Video,
        labels: Sequence[str],
        options: StreamOptions,
        life: float,
        writer: AnnotatedVideoWriter | None = None,
        told: Told | None = None,
        *,
        owns: bool = False,
    ) -> None:
        self.name, self.video, self.labels = name, video, labels
        self.writer = writer
        self.frames = self.dropped = self.resets = self.stalls = self.sizes = 0
        self.failed = ""
        self.has_ended = False
        self.scores_K: Scores | None = None
        self.label: int | None = None
        self._options, self._life, self._owns = options, life, owns
        self._background = background_places(labels)
        self._size: tuple[int, int] | None = None
        self._last = self._started = 0.0
        self._stalled_since: float | None = None
        self._told: Told = SimpleQueue() if told is None else told

    @property
    def age(self) -> float:
        return self._last - self._started

    @property
    def drops(self) -> int:
        """How often the connection was lost."""
        return self.video.drops

    def go_on(self, scores_K: Scores | None, label: int | None, age: float, step: float) -> None:
        """Begin where another stream has stopped: its scores, label and age, `step` seconds ago."""
        self.scores_K, self.label = scores_K, label
        self._last, self._started = -step, -step - age

    def tell(self, event: EventKind, about: dict[str, object]) -> None:
        """Note what befell it, from any thread."""
        self._told.put((event, about))

    @property
    def has_told(self) -> bool:
        """Whether `events` gives something."""
        return not self._told.empty()

    def events(self) -> list[StreamEvent]:
        """What was told since the last call."""
        found = []
        while not self._told.empty():
            event, about = self._told.get()
            text = f"{self.name}: {_WORDS[event](about)}"
            seconds = self._last if self.frames else None
            found.append(StreamEvent(event, self.name, text, utc(time.time()), seconds, about))
        return found

    def watch(self, now: float, slack: float) -> None:
        """Note a stall of the reader, and its end; now is `time.monotonic()`, `slack` the least
        number of seconds that are one."""
        reader = self.reader
        if reader is None or not self.video.is_live or self.video.is_away or self.has_ended:
            self._stalled_since = None
            return
        if self._stalled_since is None:
            limit = max(self._options.stall, slack, 3 * reader.step)
            if self._options.stall and now - reader.last >= limit:
                self._stalled_since = reader.last
                self.stalls += 1
                self.tell("stalled", {"seconds": round(now - reader.last, 3)})
        elif reader.last > self._stalled_since:
            self.tell("resumed", {"seconds": round(reader.last - self._stalled_since, 3)})
            self._stalled_since = None

    def needs_reset(self, one: Due) -> bool:
        """Whether the state is reset before this frame."""
        has_begun = self.frames > 0 or self.scores_K is not None
        return has_begun and (one.gap or one.frame.time - self._started >= self._life)

    def classified(
        self, one: Due, new_K: Scores, *, reset: bool, milliseconds: float
    ) -> StreamPrediction:
        """What its probabilities after one more frame make of the source.

        Args:
            one: the frame.
            new_K: probabilities after it.
            reset: whether the state was reset before it.
            milliseconds: that it took.
        """
        options, now = self._options, one.frame.time
        if reset:
            self.scores_K, self._started = None, now
        self._look_at(one.frame.image_HWC.shape[:2])
        scores_K = _smoothed(self.scores_K, new_K, now - self._last, options.smooth)
        before = self.label
        self.label = options.label(scores_K, None if reset else before, self._background)
        self.scores_K, self._last = scores_K, now
        self.frames += 1
        self.resets += reset
        self.dropped = one.dropped
        best = np.argsort(-scores_K, kind="stable")[: options.top]
        return StreamPrediction(
            time=now,
            number=one.number,
            label=None if self.label is None else self.labels[self.label],
            changed=self.label != before,
            score=float(scores_K.max() if self.label is None else scores_K[self.label]),
            labels=tuple(self.labels[k] for k in best),
            scores=tuple(float(scores_K[k]) for k in best),
            milliseconds=milliseconds,
            dropped=one.dropped,
            reset=reset,
            source=self.name,
            clock=utc(one.arrived) if self.video.is_live else None,
        )

    def close(self) -> None:
        """End the thread that reads it."""
        if self._owns:
            self.video.close()  # before, or the thread may wait for a frame
        if self.reader is not None:
            self.reader.close()

    def counts(self) -> str:
        """`12 frames, 0 dropped` and what befell it."""
        parts = [counted(self.frames, "frame"), f"{self.dropped} dropped"]
        for count, words in (
            (self.resets, ("reset",)),
            (self.drops, ("connection lost", "connections lost")),
            (self.stalls, ("stall",)),
            (self.sizes, ("change of size", "changes of size")),
        ):
            if count:
                parts.append(counted(count, *words))
        return ", ".join(parts) + (f"; ended: {self.failed}" if self.failed else "")

    def _look_at(self, size: tuple[int, ...]) -> None:
        height, width = size
        if self._size is not None and self._size != (height, width):
            self.sizes += 1
            self.tell("size", {"width": width, "height": height})
        self._size = height, width


_WORDS: dict[EventKind, Callable[[dict[str, Any]], str]] = {
    "stalled": lambda about: f"no frame for {about['seconds']:.1f} s",
    "resumed": lambda about: f"a frame again, after {about['seconds']:.1f} s",
    "lost": lambda about: f"lost ({about['reason']}); trying again",
    "back": lambda about: (
        f"back after {about['seconds']:.1f} s ({counted(about['attempts'], 'attempt')})"
    ),
    "size": lambda about: f"pictures are {about['width']}x{about['height']} from here on",
    "ended": lambda about: f"ended{': ' if about['reason'] else ''}{about['reason']}",
}


def utc(seconds: float) -> str:
    """Seconds since 1970 as `2026-05-01T12:30:00.250Z`."""
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _smoothed(old_K: Scores | None, new_K: Scores, seconds: float, smooth: float) -> Scores:
    if old_K is None or smooth == 0:
        return new_K
    return old_K + np.float32(-math.expm1(-seconds / smooth)) * (new_K - old_K)
