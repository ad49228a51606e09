"""Recognise actions in live sources, frame by frame: `stream(run, source)`.

K classes, B batch (the sources of a step), S sources, H height, W width.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.inference.annotate import AnnotatedVideoWriter
from videorwkv.inference.pacing import AfterDrop, Due, Latest, paced
from videorwkv.inference.predict import Source
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.inference.stream_options import THRESHOLD
from videorwkv.inference.stream_options import StreamOptions as StreamOptions
from videorwkv.inference.stream_sources import open_sources, title
from videorwkv.inference.stream_state import read_state, write_state
from videorwkv.inference.track import StreamEvent as StreamEvent
from videorwkv.inference.track import StreamPrediction as StreamPrediction
from videorwkv.inference.track import Track
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.files import require_no_source
from videorwkv.utils.words import counted
from videorwkv.video import Video
from videorwkv.video.live import LiveOptions

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


def stream(
    model: ModelLike,
    source: Source | int | Video | Sequence[Source | int | Video],
    *,
    labels: Sequence[str] | None = None,
    fps: float | None = None,
    threshold: float | None = None,
    smooth: float = 0.5,
    gap: float = 2.0,
    reset_every: float | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    top: int = 5,
    half: bool = False,
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    frame_rate: float | None = None,
    allow_playlists: bool = False,
    names: Sequence[str] | None = None,
    reconnect: bool = False,
    after_drop: AfterDrop = "auto",
    stall: float = 5.0,
    live: LiveOptions | None = None,
    load_state: str | Path | None = None,
    on_event: Callable[[StreamEvent], None] = lambda event: None,
) -> Stream:
    """Name the action in a camera, a broadcast or a file, frame by frame, without an end.

    The model gets frames as far apart in time as in training. A live source's frames are never late
    by more than one: those that come while the model is busy are dropped, and counted. Files are
    read whole, as fast as it goes. What the model remembers stays of the same size for ever.

    Several sources share the model: a step takes the frames that wait, at most one of each.

    Args:
        model: a run's folder, a file that `videorwkv.export` wrote, or a `Run`: run in their
            fastest way (`LCR.for_inference`); or a model or a `Recogniser`, run as it is.
        source: what `open_video` takes, such as 0 for the first camera; `-` or a FIFO; an open
            `Video`; or a list of them.
        labels: class names; the run's or the file's if None, else class numbers.
        fps, smooth, gap, reset_every, top, stall, after_drop: see `StreamOptions`.
        threshold: see `StreamOptions`; None: what is kept with the run (`Calibration`), else 0.5.
        tube_mask_ratio, motion_mask_ratio: see `StreamOptions`.
        half: run matrix multiplications in bfloat16; only for a run that is not exported.
        device: `auto`, or a device by name.
        save: an .mp4 file to write, when the stream ends: the classified frames with edge map,
            labels and scores drawn in, at the source's speed; pauses end after 10 s. Of several
            sources, each has a file, with its number before the ending.
        frame_rate: frames a second of a folder of frames; the run's if None, else 12.
        allow_playlists: as in `open_video`.
        names: what the sources are called, in order; as they were given if None.
        reconnect: open a camera or network stream again when it is lost or ends, after 1 s, 2 s and
            so on up to 30 s; one that can't be opened at first is tried again, too.
        live: how live sources are read; pipes are read whatever it says.
        load_state: a file of `Stream.save_state`, to go on from; the sources are those that it was
            saved for, in their order.
        on_event: is called with what befalls a source, by whoever iterates.

    Returns:
        A `Stream`, which yields a `StreamPrediction` for each classified frame.

    Raises:
        UsageError: a wrong option, no such run, a mask that the file was not exported with, a
            source whose frames carry no times and no `source_fps`, a state of another model.
        CheckpointError: the run or the state can't be read.
        DecodeError: here or while iterating: the source can't be opened or breaks off. Where there
            are several, the others go on: `Stream.failed`.
        NonFiniteError: while iterating: the model gives NaN or infinity.

    Example:
        >>> for prediction in stream("runs/mine", 0):  # doctest: +SKIP
        ...     if prediction.changed:
        ...         print(prediction.time, prediction.label)
    """
    options = StreamOptions(
        fps=fps,
        threshold=THRESHOLD if threshold is None else threshold,
        smooth=smooth,
        gap=gap,
        reset_every=reset_every,
        tube_mask_ratio=tube_mask_ratio,
        motion_mask_ratio=motion_mask_ratio,
        top=top,
        stall=stall,
        after_drop=after_drop,
    )
    several: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    titles = _titles(several, names)
    films = _films(save, len(several))
    if save is not None:
        require_no_source(
            [film for film in films if film is not None],
            [one.name if isinstance(one, Video) else one for one in several],
        )
    recogniser = Recogniser.open(
        model,
        what="stream",
        labels=labels,
        masks=options.masks,
        device=device,
        fastest=True,
        half=half,
    )
    if threshold is None and recogniser.threshold is not None:
        options = replace(options, threshold=recogniser.threshold)
    with ExitStack() as resources:
        resources.enter_context(recogniser.evaluating())
        if not all(isinstance(one, Video) for one in several):
            # The first step takes long; once a camera is open, its frames do not wait.
            size = recogniser.network.config.image_size
            black = recogniser.network.preprocess(np.zeros((size, size, 3), np.uint8))
            recogniser.step(black, recogniser.init_state(), "a black frame")
        opened = open_sources(
            several,
            titles,
            frame_rate=recogniser.frame_rate if frame_rate is None else frame_rate,
            allow_playlists=allow_playlists,
            reconnect=reconnect,
            live=live or LiveOptions(),
            resources=resources,
        )
        fps = options.rate(recogniser.sampling)
        # Half a frame early: times are rounded, and the nearest frame is meant.
        life = options.life(recogniser.sampling, recogniser.network.config.cell) - 0.5 / fps
        tracks = []
        for one, film in zip(opened, films, strict=True):
            writer = None
            if film is not None:
                writer = AnnotatedVideoWriter(
                    film, recogniser.labels, fps, frame_fit=recogniser.network.config.frame_fit
                )
                resources.enter_context(writer)
            tracks.append(
                Track(
                    one.name,
                    one.video,
                    recogniser.labels,
                    options,
                    life,
                    writer,
                    one.told,
                    owns=one.is_own,
                )
            )
        found = Stream(
            recogniser,
            options,
            tracks,
            resources.pop_all(),
            notes=[one.note for one in opened if one.note],
            on_event=on_event,
        )
        if load_state is not None:
            with ExitStack() as broken:
                broken.callback(found.close)
                found.resume(Path(load_state))
                broken.pop_all()
        return found


def _titles(several: Sequence[Source | int | Video], names: Sequence[str] | None) -> list[str]:
    """What the sources are called, each otherwise."""
    if not several:
        raise UsageError("stream: got no source; wanted: one, or a list of them.")
    if names is not None and len(names) != len(several):
        raise UsageError(
            f"stream: got {len(names)} names (--names) for {counted(len(several), 'source')}; give "
            "one for each, in order."
        )
    given = names or [title(source) for source in several]
    twice = next((name for place, name in enumerate(given) if name in given[:place]), None)
    if twice is not None:
        raise UsageError(
            f"stream: two sources are called {twice!r}, and their lines could not be told apart. "
            "Name each source once, or give them names with --names (names)."
        )
    return list(given)


def _films(save: str | Path | None, count: int) -> list[Path | None]:
    """The annotated video of each source."""
    if save is None:
        return [None] * count
    path = Path(save)
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in range(count)]


def __getattr__(name: str) -> object:
    if name != "Moment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "Moment is now StreamPrediction; the old name goes with version 0.3.",
        DeprecationWarning,
        stacklevel=2,
    )
    return StreamPrediction
