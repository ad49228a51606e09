"""The timeline of a video: every frame that is due goes through the model once, in order.

The model is causal, so what is found in a file is what a stream of it finds, and memory does not
grow with the video. T frames, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from videorwkv.errors import NonFiniteError, VideoRWKVError
from videorwkv.inference.pacing import paced
from videorwkv.inference.predict import Source, expand
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.inference.stream import StreamOptions
from videorwkv.inference.timeline.choose import FrameScores as FrameScores
from videorwkv.inference.timeline.segments import Segmenter, Timeline, TimelineOptions
from videorwkv.models.masking import Masks
from videorwkv.preprocess.inputs import Inputs
from videorwkv.video import Video, open_video

# Frames that go through the model at a time: what needs no state is then computed for all of them.
PIECE = 16


def frame_scores(
    recogniser: Recogniser, video: Video, options: StreamOptions
) -> Iterator[FrameScores]:
    """The probabilities after each frame that is due, in constant memory.

    Args:
        recogniser: the model, in evaluation mode.
        video: a source that is not live.
        options: `fps`, `gap` and `reset_every` of a stream; how it smooths does not matter here.

    Raises:
        DecodeError: while iterating: the source can't be read.
        NonFiniteError: while iterating: the model gives NaN or infinity.
    """
    rate = options.rate(recogniser.sampling)
    # Half a frame early: times are rounded, and the nearest frame is meant.
    life = options.life(recogniser.sampling, recogniser.network.config.cell) - 0.5 / rate
    state, started = recogniser.init_state(), 0.0
    waiting: list[_Waiting] = []
    for due in paced(video, rate, options.gap):
        now = due.frame.time
        reset = due.number > 0 and (due.gap or now - started >= life)
        if waiting and (reset or len(waiting) == PIECE):
            scores, state = _advance(recogniser, waiting, state, video.name)
            yield from scores
            waiting = []
        if reset:
            state, started = recogniser.init_state(), now
        # Only what the model reads is kept: frames may be large.
        waiting.append(_Waiting(now, reset, recogniser.network.preprocess(due.frame)))
    if waiting:
        yield from _advance(recogniser, waiting, state, video.name)[0]


class _Waiting(NamedTuple):
    time: float
    reset: bool
    inputs: Inputs


def _advance(
    recogniser: Recogniser, waiting: Sequence[_Waiting], state: Any, name: str
) -> tuple[list[FrameScores], Any]:
    inputs = Inputs(
        torch.cat([one.inputs.frames_BTHWC for one in waiting], 1),
        torch.cat([one.inputs.edges_BTHW for one in waiting], 1),
    )
    logits_BTK, state = recogniser.advance(inputs, state, name)
    scores_TK = recogniser.probabilities(logits_BTK[0].float()).cpu().numpy()
    pairs = zip(waiting, scores_TK, strict=True)
    return [FrameScores(one.time, scores_K, one.reset) for one, scores_K in pairs], state


def find_timeline(
    recogniser: Recogniser, video: Video, options: StreamOptions, rules: TimelineOptions
) -> Timeline:
    """What happens when in an open video; errors as of `frame_scores`."""
    step = 1 / options.rate(recogniser.sampling)
    segmenter = Segmenter(
        labels=recogniser.labels,
        step=step,
        options=rules,
        exclusive=not recogniser.network.config.multilabel,
    )
    state, found = segmenter.start(), []
    for time, scores_K, reset in frame_scores(recogniser, video, options):
        state, done = segmenter.advance(state, time, scores_K, reset=reset)
        found += done
    found += segmenter.finish(state)
    warnings = (*options.notes(recogniser.sampling), *video.warnings)
    return Timeline(video.name, tuple(sorted(found)), state.time + step, warnings)


def timeline(
    sources: Source | Sequence[Source],
    *,
    model: ModelLike,
    labels: Sequence[str] | None = None,
    options: TimelineOptions | None = None,
    fps: float | None = None,
    gap: float = 2.0,
    reset_every: float | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    device: str | torch.device = "auto",
    frame_rate: float | None = None,
    allow_playlists: bool = False,
) -> Iterator[Timeline]:
    """When something happens in one or many videos, one after another, in constant memory.

    One that can't be read doesn't stop the others. The same segments come from
    `videorwkv.stream(..., timeline=options)`.

    Args:
        sources: files, globs, folders of videos, folders of one clip's frames, or bytes.
        model: a run's folder, an exported file, a `Run`, a model or a `Recogniser`; trained with
            `timeline=true` it also knows when nothing happens.
        labels: class names; the run's or the file's if None, else class numbers.
        options: how probabilities become segments; those that were chosen for the model
            (`TimelineChoice`) if None, else the usual ones.
        fps, gap, reset_every: see `StreamOptions`.
        tube_mask_ratio, motion_mask_ratio: see `StreamOptions`.
        device: `auto`, or a device by name.
        frame_rate: frames a second of folders of frames; the run's if None, else 12.
        allow_playlists: as in `open_video`.

    Raises:
        UsageError: a glob or folder without a video, no such run, or a wrong option.
        CheckpointError: the run can't be read.
        NonFiniteError: while iterating: the model gives NaN or infinity; the message names the
            module.

    Example:
        >>> for found in timeline("day.mp4", model="runs/mine"):  # doctest: +SKIP
        ...     for segment in found.segments:
        ...         print(segment.start, segment.end, segment.label)
    """
    stream_options = StreamOptions(
        fps=fps,
        gap=gap,
        reset_every=reset_every,
        tube_mask_ratio=tube_mask_ratio,
        motion_mask_ratio=motion_mask_ratio,
    )
    files = list(expand(sources))
    recogniser = Recogniser.open(
        model,
        what="timeline",
        labels=labels,
        masks=Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio),
        device=device,
        fastest=True,
    )
    rate = recogniser.frame_rate if frame_rate is None else frame_rate
    rules = options or recogniser.chosen_timeline() or TimelineOptions()
    return _timelines(recogniser, files, stream_options, rules, rate, allow_playlists)


def _timelines(
    recogniser: Recogniser,
    files: Sequence[Source],
    stream_options: StreamOptions,
    options: TimelineOptions,
    frame_rate: float | None,
    allow_playlists: bool,
) -> Iterator[Timeline]:
    with recogniser.evaluating():
        for file in files:
            name = f"<{len(file)} bytes>" if isinstance(file, bytes) else str(file)
            try:
                with open_video(
                    file, frame_rate=frame_rate, allow_playlists=allow_playlists
                ) as video:
                    yield find_timeline(recogniser, video, stream_options, options)
            except NonFiniteError:
                raise  # the model is broken, not the video
            except (VideoRWKVError, OSError) as error:
                yield Timeline(name, error=str(error))
