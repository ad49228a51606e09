"""Recognise actions in a live source, frame by frame: `stream(run, source)`.

K classes, B batch (one stream), H height, W width.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.errors import UsageError
from videorwkv.inference.annotate import AnnotatedVideoWriter
from videorwkv.inference.pacing import Due, Latest, paced
from videorwkv.inference.predict import Source
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.models.masking import Masks
from videorwkv.utils.files import require_no_source
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.words import counted
from videorwkv.video import Sampling, Video, open_video

Scores = NDArray[np.float32]

# A run whose clips were spread over whole videos does not say how far apart its frames were:
# clips of gestures and short actions last about as long.
SPREAD_SECONDS = 3.0
# The summary's median is that of the last frames: a stream must not grow.
REMEMBERED = 1000


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
        milliseconds: from the decoded frame to the scores (resizing, edges, model).
        dropped: frames so far that were due but arrived while the model was busy.
        reset: whether the state was reset before this frame.
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclass_to_dict(self)


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is read and named.

    Args:
        fps: frames per second for the model; None: the frame rate of its training.
        threshold: a class becomes the stream's label when its probability reaches this value, and
            stays so until another class reaches it or its own falls below half of it.
        smooth: time constant in seconds of the running mean over probabilities; 0: none.
        gap: seconds; a longer pause of the source resets the state. For a source with such a low
            frame rate, a pause is a step three times as long as usual.
        reset_every: seconds after which the state is reset; 0: never. None: never for the gated
            cell, and after the length of a training clip for the others, which can't forget.
        tube_mask_ratio, motion_mask_ratio: mask ratios, as in `LCR.init_state`.
        top: number of classes in each prediction.
    """

    fps: float | None = None
    threshold: float = 0.5
    smooth: float = 0.5
    gap: float = 2.0
    reset_every: float | None = None
    tube_mask_ratio: float = 0.0
    motion_mask_ratio: float = 0.0
    top: int = 5

    def __post_init__(self) -> None:
        finite = all(math.isfinite(x) for x in (self.fps or 1, self.smooth, self.reset_every or 0))
        if (
            not finite
            or (self.fps is not None and self.fps <= 0)
            or self.smooth < 0
            or not self.gap > 0
            or (self.reset_every or 0) < 0
        ):
            raise UsageError(
                f"stream: fps ({self.fps}) and gap ({self.gap}) must be above 0, smooth "
                f"({self.smooth}) and reset_every ({self.reset_every}) at least 0, in seconds."
            )
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"stream: threshold ({self.threshold}) must lie in [0, 1].")
        if self.top < 1:
            raise UsageError(f"stream: top ({self.top}) must be at least 1.")
        _ = self.masks  # checks itself

    @property
    def masks(self) -> Masks:
        """The patches to mask."""
        return Masks(tube_mask_ratio=self.tube_mask_ratio, motion_mask_ratio=self.motion_mask_ratio)

    def rate(self, sampling: Sampling) -> float:
        """Frames a second that a model trained with `sampling` gets."""
        return self.fps or sampling.fps or sampling.num_frames / SPREAD_SECONDS

    def notes(self, sampling: Sampling) -> tuple[str, ...]:
        """Assumptions that the user should know of."""
        if self.fps is not None or sampling.fps is not None:
            return ()
        return (
            f"the model was trained on {sampling.num_frames} frames spread over whole clips; it "
            f"gets {self.rate(sampling):.3g} frames/s, as from clips of {SPREAD_SECONDS:g} s. If "
            f"yours had another length, set fps to {sampling.num_frames} / their seconds",
        )

    def life(self, sampling: Sampling, cell: str) -> float:
        """Seconds after which the state is reset."""
        if self.reset_every is None and cell != "gated":
            return sampling.num_frames / self.rate(sampling)
        return self.reset_every or math.inf

    def label(self, scores_K: Scores, label: int | None) -> int | None:
        """The label after `label`, by threshold and hysteresis."""
        best = int(scores_K.argmax())
        if scores_K[best] >= self.threshold:
            return best
        stays = label is not None and scores_K[label] >= self.threshold / 2
        return label if stays else None


class Stream:
    """The predictions for a source, one after another: what `stream` returns. Iterate over it once.

    It is closed when the source ends; whoever stops before calls `close()`, or uses it in a `with`
    block.

    Attributes:
        labels: K class names.
        fps: frames a second that the model gets.
        is_live: whether the source is a camera or broadcast, where frames are dropped.
        notes: assumptions that the user should know of.
        frames: frames classified so far.
        dropped: frames dropped so far.
        resets: how often the state was reset after the first frame.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        options: StreamOptions,
        video: Video,
        writer: AnnotatedVideoWriter | None,
        resources: ExitStack,
    ) -> None:
        sampling, cell = recogniser.sampling, recogniser.network.config.cell
        self.labels, self.fps = recogniser.labels, options.rate(sampling)
        self.notes, self.is_live = options.notes(sampling), video.is_live
        self.frames = self.dropped = self.resets = 0
        self.seconds = 0.0
        self._recogniser, self._options = recogniser, options
        self._video, self._writer = video, writer
        # Half a frame early: times are rounded, and the nearest frame is meant.
        self._life = options.life(sampling, cell) - 0.5 / self.fps
        self._resources = resources
        self._milliseconds: deque[float] = deque(maxlen=REMEMBERED)
        self._predictions = self._run()

    def __iter__(self) -> Iterator[StreamPrediction]:
        return self._predictions

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the source's use, finish the annotated video."""
        self._predictions.close()
        self._resources.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong with the frames so far: that a file is damaged or has no clock."""
        return self._video.warnings

    def summary(self) -> str:
        """Frames, those dropped, time of a frame, in one line."""
        if not self.frames:
            return "0 frames"
        rate = self.frames / self.seconds if self.seconds else math.nan
        resets = f", {counted(self.resets, 'reset')}" if self.resets else ""
        text = (
            f"{counted(self.frames, 'frame')}, {self.dropped} dropped, "
            f"{statistics.median(self._milliseconds):.1f} ms a frame (median), "
            f"{rate:.1f} frames/s{resets}"
        )
        if self.dropped > 0.05 * (self.frames + self.dropped):
            text += (
                f"; too slow for {round(self.fps, 3):.9g} frames/s: an exported file is faster "
                "(videorwkv export), so is a mask"
            )
        return text

    def _run(self) -> Generator[StreamPrediction]:
        recogniser, options = self._recogniser, self._options
        due = paced(self._video, self.fps, options.gap)
        with self._resources as resources:
            frames: Iterator[Due] = due
            if self.is_live:
                frames = iter(resources.enter_context(closing(Latest(due))))
            began = time.perf_counter()
            state, scores_K = recogniser.init_state(), None
            label: int | None = None
            last = started = 0.0
            for one in frames:
                before = time.perf_counter()
                now = one.frame.time
                reset = self.frames > 0 and (one.gap or now - started >= self._life)
                if reset:
                    state, scores_K, started = recogniser.init_state(), None, now
                inputs = recogniser.network.preprocess(one.frame)
                logits_BK, state = recogniser.step(inputs, state, self._video.name)
                new_K = logits_BK[0].float().softmax(-1).cpu().numpy()
                scores_K = _smoothed(scores_K, new_K, now - last, options.smooth)
                last, last_label = now, label
                label = options.label(scores_K, None if reset else label)
                milliseconds = (time.perf_counter() - before) * 1e3
                self._milliseconds.append(milliseconds)
                self.frames += 1
                self.resets += reset
                self.dropped = one.dropped
                if self._writer is not None:
                    self._writer.add(one.frame, inputs.edges_BTHW[0, 0].numpy(), scores_K)
                self.seconds = time.perf_counter() - began
                best = np.argsort(-scores_K, kind="stable")[: options.top]
                yield StreamPrediction(
                    time=now,
                    number=one.number,
                    label=None if label is None else self.labels[label],
                    changed=label != last_label,
                    score=float(scores_K.max() if label is None else scores_K[label]),
                    labels=tuple(self.labels[k] for k in best),
                    scores=tuple(float(scores_K[k]) for k in best),
                    milliseconds=milliseconds,
                    dropped=one.dropped,
                    reset=reset,
                )


def stream(
    model: ModelLike,
    source: Source | int | Video,
    *,
    labels: Sequence[str] | None = None,
    fps: float | None = None,
    threshold: float = 0.5,
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
) -> Stream:
    """Name the action in a camera, a broadcast or a file, frame by frame, without an end.

    The model gets frames as far apart in time as in training. A live source's frames are never late
    by more than one: those that come while the model is busy are dropped, and counted. Files are
    read whole, as fast as it goes. What the model remembers stays of the same size for ever.

    Args:
        model: a run's folder, a file that `videorwkv.export` wrote, or a `Run`: run in their
            fastest way (`LCR.for_inference`); or a model or a `Recogniser`, run as it is.
        source: what `open_video` takes, such as 0 for the first camera; or an open `Video`.
        labels: class names; the run's or the file's if None, else class numbers.
        fps, threshold, smooth, gap, reset_every, top: see `StreamOptions`.
        tube_mask_ratio, motion_mask_ratio: see `StreamOptions`.
        half: run matrix multiplications in bfloat16; only for a run that is not exported.
        device: `auto`, or a device by name.
        save: an .mp4 file to write, when the stream ends: the classified frames with edge map,
            labels and scores drawn in, at the source's speed; pauses end after 10 s.
        frame_rate: frames a second of a folder of frames; the run's if None, else 12.
        allow_playlists: as in `open_video`.

    Returns:
        A `Stream`, which yields a `StreamPrediction` for each classified frame.

    Raises:
        UsageError: a wrong option, no such run, or a mask that the file was not exported with.
        CheckpointError: the run can't be read.
        DecodeError: here or while iterating: the source can't be opened or breaks off.
        NonFiniteError: while iterating: the model gives NaN or infinity.

    Example:
        >>> for prediction in stream("runs/mine", 0):  # doctest: +SKIP
        ...     if prediction.changed:
        ...         print(prediction.time, prediction.label)
    """
    options = StreamOptions(
        fps=fps,
        threshold=threshold,
        smooth=smooth,
        gap=gap,
        reset_every=reset_every,
        tube_mask_ratio=tube_mask_ratio,
        motion_mask_ratio=motion_mask_ratio,
        top=top,
    )
    if save is not None:
        require_no_source([Path(save)], [source.name if isinstance(source, Video) else source])
    recogniser = Recogniser.open(
        model,
        what="stream",
        labels=labels,
        masks=options.masks,
        device=device,
        fastest=True,
        half=half,
    )
    with ExitStack() as resources:
        resources.enter_context(recogniser.evaluating())
        video = source
        if not isinstance(video, Video):
            # The first step takes long; once a camera is open, its frames do not wait.
            size = recogniser.network.config.image_size
            black = recogniser.network.preprocess(np.zeros((size, size, 3), np.uint8))
            recogniser.step(black, recogniser.init_state(), "a black frame")
            rate = recogniser.frame_rate if frame_rate is None else frame_rate
            opened = open_video(video, frame_rate=rate, allow_playlists=allow_playlists)
            video = resources.enter_context(opened)
        writer = None
        if save is not None:
            writer = AnnotatedVideoWriter(
                save,
                recogniser.labels,
                options.rate(recogniser.sampling),
                frame_fit=recogniser.network.config.frame_fit,
            )
            resources.enter_context(writer)
        return Stream(recogniser, options, video, writer, resources.pop_all())


def _smoothed(old_K: Scores | None, new_K: Scores, seconds: float, smooth: float) -> Scores:
    if old_K is None or smooth == 0:
        return new_K
    return old_K + np.float32(-math.expm1(-seconds / smooth)) * (new_K - old_K)


def __getattr__(name: str) -> object:
    if name != "Moment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "Moment is now StreamPrediction; the old name goes with version 0.3.",
        DeprecationWarning,
        stacklevel=2,
    )
    return StreamPrediction
