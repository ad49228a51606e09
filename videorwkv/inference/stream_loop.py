"""The loop of a stream: the model's steps over the frames of its sources. `stream` makes one.

K classes, B batch (the sources of a step), S sources, H height, W width.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.inference.pacing import Due, Latest, paced
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream_options import StreamOptions
from videorwkv.inference.stream_state import read_state, write_state
from videorwkv.inference.track import StreamEvent, StreamPrediction, Track
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.words import counted

# The summary's median is that of the last frames: a stream must not grow.
REMEMBERED = 1000
# Seconds between two looks at sources that give no frame.
LOOK = 0.25


class Stream:
    """The predictions for one or several sources, one after another: what `stream` returns. Iterate
    over it once.

    It is closed when all sources have ended; whoever stops before calls `close()`, or uses it in a
    `with` block.

    Attributes:
        labels: K class names.
        multilabel: whether several classes may hold at once.
        names: what the sources are called, in order.
        fps: frames a second that the model gets of each source.
        is_live: whether a source is a camera or broadcast, where frames are dropped.
        notes: assumptions that the user should know of.
        steps: how often the model has run; a step takes the frames that wait, of all sources.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        options: StreamOptions,
        tracks: Sequence[Track],
        resources: ExitStack,
        *,
        notes: Sequence[str] = (),
        on_event: Callable[[StreamEvent], None] = lambda event: None,
    ) -> None:
        self.labels, self.fps = recogniser.labels, options.rate(recogniser.sampling)
        self.multilabel = recogniser.network.config.multilabel
        self.names = tuple(track.name for track in tracks)
        chosen: tuple[str, ...] = ()
        if recogniser.threshold is not None:
            kept = f"temperature {recogniser.temperature:g}"
            if options.threshold == recogniser.threshold:
                kept = f"threshold {options.threshold:g}, {kept}"
            chosen = (f"{kept}: chosen for this model",)
        self.notes = (*options.notes(recogniser.sampling), *chosen, *notes)
        self.is_live = any(track.video.is_live for track in tracks)
        self.steps = 0
        self.seconds = 0.0
        self._tracks, self._on_event = tuple(tracks), on_event
        self._recogniser, self._options = recogniser, options
        self._start = self._state = recogniser.init_state(len(tracks))
        self._resources = resources
        self._changed = threading.Condition()
        self._milliseconds: deque[float] = deque(maxlen=REMEMBERED)
        self._predictions = self._run()

    def __iter__(self) -> Iterator[StreamPrediction]:
        return self._predictions

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sources' use, finish the annotated videos."""
        self._predictions.close()
        self._resources.close()

    @property
    def frames(self) -> int:
        """Frames classified so far, of all sources, as those that follow."""
        return sum(track.frames for track in self._tracks)

    @property
    def dropped(self) -> int:
        """Frames dropped so far."""
        return sum(track.dropped for track in self._tracks)

    @property
    def resets(self) -> int:
        """How often a state was reset after the first frame."""
        return sum(track.resets for track in self._tracks)

    @property
    def drops(self) -> int:
        """How often a connection was lost."""
        return sum(track.drops for track in self._tracks)

    @property
    def stalls(self) -> int:
        """How often no frame came for a while."""
        return sum(track.stalls for track in self._tracks)

    @property
    def sizes(self) -> int:
        """How often pictures came in another size than before."""
        return sum(track.sizes for track in self._tracks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Which of several sources have ended with an error; the only one's error is raised."""
        return tuple(track.name for track in self._tracks if track.failed)

    @property
    def films(self) -> tuple[Path, ...]:
        """The annotated videos of the sources that have given a frame."""
        writers = [track.writer for track in self._tracks if track.frames]
        return tuple(writer.path for writer in writers if writer is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong with the frames so far: that a file is damaged or has no clock."""
        if len(self._tracks) == 1:
            return self._tracks[0].video.warnings
        return tuple(f"{one.name}: {text}" for one in self._tracks for text in one.video.warnings)

    def save_state(self, path: str | Path) -> None:
        """Write what the model remembers of the sources, and what it has named, as a safetensors
        file: `stream(..., load_state=path)` goes on from there.

        Raises:
            CheckpointError: it can't be written.
        """
        write_state(Path(path), self._recogniser, self._state, self._tracks, self.fps)

    def resume(self, path: Path) -> None:
        """Begin where a stream stopped that has called `save_state`."""
        saved = read_state(path, self._recogniser, self._start, self.names)
        self._state = saved.state
        if saved.note:
            self.notes = (*self.notes, saved.note)
        for track, row in zip(self._tracks, saved.rows, strict=True):
            track.go_on(row.scores_K, row.label, row.age, 1 / self.fps)

    def summary(self) -> str:
        """Frames, those dropped and time of a step in a line; of several sources, a line each."""
        if not self.frames:
            told = [f"{track.name}: {track.counts()}" for track in self._tracks]
            return "0 frames" if len(told) == 1 else "\n".join(["0 frames", *told])
        rate = self.frames / self.seconds if self.seconds else math.nan
        times = f"{statistics.median(self._milliseconds):.1f} ms a"
        if len(self._tracks) == 1:
            text = f"{self._tracks[0].counts()}, {times} frame (median), {rate:.1f} frames/s"
        else:
            text = (
                f"{len(self._tracks)} sources: {counted(self.frames, 'frame')}, {self.dropped} "
                f"dropped, {times} step (median) of {self.frames / self.steps:.1f} frames (mean), "
                f"{rate:.1f} frames/s"
            )
        if self.dropped > 0.05 * (self.frames + self.dropped):
            each = "" if len(self._tracks) == 1 else " of each source"
            text += (
                f"; too slow for {round(self.fps, 3):.9g} frames/s{each}: an exported file is "
                "faster (videorwkv export), so is a mask"
            )
        if len(self._tracks) > 1:
            text += "".join(f"\n  {track.name}: {track.counts()}" for track in self._tracks)
        return text

    def _run(self) -> Generator[StreamPrediction]:
        with self._resources, ExitStack() as readers:
            only = self._tracks[0] if len(self._tracks) == 1 else None
            frames = {t: paced(t.video, self.fps, self._options.gap, self._options.after_drop)
                      for t in self._tracks}  # fmt: skip
            began = time.perf_counter()
            batches: Iterator[list[tuple[Track, Due]]]
            if only is not None and not only.video.is_live:
                batches = ([(only, due)] for due in frames[only])
            else:
                for track in self._tracks:
                    track.reader = Latest(
                        frames[track], changed=self._changed, waits=not track.video.is_live
                    )
                    readers.callback(track.close)
                batches = self._arrivals()
            for batch in batches:
                predictions = self._classify(batch)
                self.seconds = time.perf_counter() - began
                self._tell()
                yield from predictions

    def _arrivals(self) -> Iterator[list[tuple[Track, Due]]]:
        """The frames that wait, at most one of each source; waits for the next ones."""
        while True:
            with self._changed:
                while not (batch := self._taken()):
                    if all(track.has_ended for track in self._tracks):
                        break
                    self._changed.wait(LOOK)
                    now = time.monotonic()
                    for track in self._tracks:
                        track.watch(now, 3 / self.fps)
                    if any(track.has_told for track in self._tracks):
                        break
            for track in self._tracks:
                track.watch(time.monotonic(), 3 / self.fps)
            self._tell()
            if batch:
                yield batch
            elif all(track.has_ended for track in self._tracks):
                return

    def _taken(self) -> list[tuple[Track, Due]]:
        """A frame of each source that has one; none while a file's next one is still to be read."""
        batch: list[tuple[Track, Due]] = []
        for track in self._tracks:
            reader = track.reader
            assert reader is not None
            if reader.is_ended and not reader.has_one and not track.has_ended:
                self._end(track, reader)
            if not track.video.is_live and not reader.has_one and not reader.is_ended:
                return []
        for track in self._tracks:
            if track.reader is not None and (due := track.reader.take()) is not None:
                batch.append((track, due))
        return batch

    def _end(self, track: Track, reader: Latest) -> None:
        track.has_ended = True
        if reader.error is not None:
            is_ours = isinstance(reader.error, VideoRWKVError)
            if len(self._tracks) == 1 or not is_ours or isinstance(reader.error, UsageError):
                raise reader.error
            track.failed = str(reader.error)
        if len(self._tracks) > 1:
            track.tell("ended", {"reason": track.failed})

    def _classify(self, batch: list[tuple[Track, Due]]) -> list[StreamPrediction]:
        """One step of the model over a frame of each of some sources."""
        recogniser = self._recogniser
        before = time.perf_counter()
        resets = [track.needs_reset(due) for track, due in batch]
        frames = [recogniser.network.preprocess(due.frame) for _, due in batch]
        inputs = (
            frames[0] if len(frames) == 1 else Inputs(*map(torch.cat, zip(*frames, strict=True)))
        )
        rows = [self._tracks.index(track) for track, _ in batch]
        is_all = len(rows) == len(self._tracks)
        state = self._state if is_all else self._state.select(rows)
        if all(resets):
            state = self._start if is_all else self._start.select(rows)
        elif any(resets):
            for place in np.flatnonzero(resets).tolist():
                state = state.reset(place)
        names = ", ".join(track.video.name for track, _ in batch)
        logits_BK, state = recogniser.step(inputs, state, names)
        self._state = state if is_all else self._state.put(rows, state)
        scores_BK = recogniser.probabilities(logits_BK.float()).cpu().numpy()
        milliseconds = (time.perf_counter() - before) * 1e3
        self._milliseconds.append(milliseconds)
        self.steps += 1
        predictions = []
        for place, (track, due) in enumerate(batch):
            prediction = track.classified(
                due, scores_BK[place], reset=resets[place], milliseconds=milliseconds
            )
            if recogniser.network.config.multilabel:
                assert track.scores_K is not None
                prediction = replace(prediction, above=recogniser.above(track.scores_K))
            if track.writer is not None:
                assert track.scores_K is not None
                edges_HW = inputs.edges_BTHW[place, 0].numpy()
                track.writer.add(due.frame, edges_HW, track.scores_K)
            predictions.append(prediction)
        return predictions

    def _tell(self) -> None:
        for track in self._tracks:
            for event in track.events():
                self._on_event(event)
